//! The services that `tests/services` starts, or the accounts that stand in for them: found by environment variables.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

#[expect(clippy::disallowed_methods, reason = "where the services are is told to the test process by its environment alone")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

#[track_caller]
fn needed(name: &str) -> String {
    variable(name).unwrap_or_else(|| {
        panic!(
            "`{name}` is not set; start the services with `tests/services start`, then `eval \"$(tests/services env)\"`; or use `make test`"
        )
    })
}

/// The same, for what only an account has.
#[track_caller]
fn needed_of_account(name: &str, account: &str) -> String {
    variable(name).unwrap_or_else(|| {
        panic!("`{name}` is not set; {account} is needed and nothing here stands in for it: tests/README.md, \"A real account\", lists the variables")
    })
}

/// `ERRAND_TEST_POSTGRES_URL`: a user who may make databases.
///
/// # Panics
/// When it is not set.
#[must_use]
#[track_caller]
pub fn postgres_url() -> String {
    needed("ERRAND_TEST_POSTGRES_URL")
}

/// `ERRAND_TEST_POSTGRES_CA`: the certificate of the authority behind the server's own, in PEM.
///
/// # Panics
/// When it is not set.
#[must_use]
#[track_caller]
pub fn postgres_authority() -> PathBuf {
    needed("ERRAND_TEST_POSTGRES_CA").into()
}

/// `ERRAND_TEST_CLOUD_ENDPOINT`: the URL of the local cloud.
///
/// # Panics
/// When it is not set.
#[must_use]
#[track_caller]
pub fn cloud_endpoint() -> String {
    needed("ERRAND_TEST_CLOUD_ENDPOINT")
}

/// A Redshift cluster or workgroup: the variables `ERRAND_TEST_REDSHIFT_*`.
pub struct Redshift {
    /// The URL of a user who may make databases.
    pub url: String,
    /// The role with which the cluster reads and writes the bucket.
    pub iam_role: String,
}

/// Redshift, which only an account has.
///
/// # Panics
/// When a variable is not set.
#[must_use]
#[track_caller]
pub fn redshift() -> Redshift {
    let needed = |name| needed_of_account(name, "a Redshift cluster with a bucket beside it");
    Redshift { url: needed("ERRAND_TEST_REDSHIFT_URL"), iam_role: needed("ERRAND_TEST_REDSHIFT_IAM_ROLE") }
}

/// Where Snowflake is, and how to log in: the variables `ERRAND_TEST_SNOWFLAKE_*`.
#[derive(Clone)]
pub struct Snowflake {
    /// The base URL; none for the account's own.
    pub host: Option<String>,
    /// The account.
    pub account: String,
    /// The user.
    pub user: String,
    /// The password or programmatic access token.
    pub password: Option<String>,
    /// The file with the private key.
    pub private_key: Option<PathBuf>,
    /// The OAuth token.
    pub token: Option<String>,
    /// The role.
    pub role: String,
    /// The warehouse.
    pub warehouse: String,
    /// A database that exists.
    pub database: String,
    /// A schema of it.
    pub schema: String,
    /// A database that tests take turns with, for a role that may make none.
    pub scratch_database: Option<String>,
    /// The storage integration through which an account reaches the bucket; what stands in for it needs none.
    pub integration: Option<String>,
}

/// Snowflake, or what stands in for it.
///
/// # Panics
/// When a variable that is always needed is not set.
#[must_use]
#[track_caller]
pub fn snowflake() -> Snowflake {
    let host = variable("ERRAND_TEST_SNOWFLAKE_HOST");
    let integration = match &host {
        Some(_) => variable("ERRAND_TEST_SNOWFLAKE_INTEGRATION"),
        None => Some(needed_of_account("ERRAND_TEST_SNOWFLAKE_INTEGRATION", "a storage integration of the account")),
    };
    Snowflake {
        host,
        account: needed("ERRAND_TEST_SNOWFLAKE_ACCOUNT"),
        user: needed("ERRAND_TEST_SNOWFLAKE_USER"),
        password: variable("ERRAND_TEST_SNOWFLAKE_PASSWORD"),
        private_key: variable("ERRAND_TEST_SNOWFLAKE_PRIVATE_KEY").map(PathBuf::from),
        token: variable("ERRAND_TEST_SNOWFLAKE_TOKEN"),
        role: needed("ERRAND_TEST_SNOWFLAKE_ROLE"),
        warehouse: needed("ERRAND_TEST_SNOWFLAKE_WAREHOUSE"),
        database: needed("ERRAND_TEST_SNOWFLAKE_DATABASE"),
        schema: variable("ERRAND_TEST_SNOWFLAKE_SCHEMA").unwrap_or_else(|| "PUBLIC".to_owned()),
        scratch_database: variable("ERRAND_TEST_SNOWFLAKE_SCRATCH_DATABASE"),
        integration,
    }
}

/// `ERRAND_TEST_S3_ENDPOINT`; the keys are in `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`.
///
/// # Panics
/// When it is not set.
#[must_use]
#[track_caller]
pub fn s3_endpoint() -> String {
    needed("ERRAND_TEST_S3_ENDPOINT")
}

/// `ERRAND_TEST_S3_REGION`, or `us-east-1`.
#[must_use]
pub fn s3_region() -> String {
    variable("ERRAND_TEST_S3_REGION").unwrap_or_else(|| "us-east-1".to_owned())
}

/// A bucket that is there already and stays: the variables `ERRAND_TEST_S3_*`.
pub struct Bucket {
    /// Its name.
    pub name: String,
    /// What every key of the tests begins with.
    pub prefix: String,
    /// Its region.
    pub region: String,
    /// The URL of its server; none for Amazon's own.
    pub endpoint: Option<String>,
}

/// The bucket that `ERRAND_TEST_S3_BUCKET` names, if it does.
#[must_use]
pub fn s3_bucket() -> Option<Bucket> {
    let name = variable("ERRAND_TEST_S3_BUCKET")?;
    let prefix = variable("ERRAND_TEST_S3_PREFIX").unwrap_or_else(|| "errand-tests/".to_owned());
    let prefix = if prefix.ends_with('/') { prefix } else { format!("{prefix}/") };
    Some(Bucket { name, prefix, region: s3_region(), endpoint: variable("ERRAND_TEST_S3_ENDPOINT") })
}

/// The same, where an account can reach no other.
///
/// # Panics
/// When it is not set.
#[must_use]
#[track_caller]
pub fn s3_bucket_of_account() -> Bucket {
    let _ = needed_of_account("ERRAND_TEST_S3_BUCKET", "a bucket that the account reaches");
    s3_bucket().expect("it was just found")
}

/// The credentials of the S3 client, as `errand` is given them.
///
/// # Panics
/// When the two that are always needed are not set.
#[must_use]
#[track_caller]
pub fn s3_credentials() -> Vec<(&'static str, String)> {
    let mut known = vec![("AWS_REGION", s3_region())];
    known.extend(["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"].map(|name| (name, needed(name))));
    known.extend(variable("AWS_SESSION_TOKEN").map(|token| ("AWS_SESSION_TOKEN", token)));
    known
}

/// A name that no other test has: for a database, a schema, a bucket (with `-` for `_`).
///
/// # Panics
/// When the machine has no source of randomness.
#[must_use]
pub fn unique_name() -> String {
    let mut bytes = [0_u8; 8];
    File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes)).expect("every Unix has /dev/urandom");
    format!("errand_{:016x}", u64::from_le_bytes(bytes))
}
