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

/// `ERRAND_TEST_REDSHIFT_URL`, which only an account has.
#[must_use]
pub fn redshift_url() -> Option<String> {
    variable("ERRAND_TEST_REDSHIFT_URL")
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
}

/// Snowflake, or what stands in for it.
///
/// # Panics
/// When a variable that is always needed is not set.
#[must_use]
#[track_caller]
pub fn snowflake() -> Snowflake {
    Snowflake {
        host: variable("ERRAND_TEST_SNOWFLAKE_HOST"),
        account: needed("ERRAND_TEST_SNOWFLAKE_ACCOUNT"),
        user: needed("ERRAND_TEST_SNOWFLAKE_USER"),
        password: variable("ERRAND_TEST_SNOWFLAKE_PASSWORD"),
        private_key: variable("ERRAND_TEST_SNOWFLAKE_PRIVATE_KEY").map(PathBuf::from),
        token: variable("ERRAND_TEST_SNOWFLAKE_TOKEN"),
        role: needed("ERRAND_TEST_SNOWFLAKE_ROLE"),
        warehouse: needed("ERRAND_TEST_SNOWFLAKE_WAREHOUSE"),
        database: needed("ERRAND_TEST_SNOWFLAKE_DATABASE"),
        schema: variable("ERRAND_TEST_SNOWFLAKE_SCHEMA").unwrap_or_else(|| "PUBLIC".to_owned()),
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
