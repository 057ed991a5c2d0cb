//! Redshift: Postgres's protocol for statements, S3 for rows.
//!
//! Rows go in as Parquet files under the `staging` connection, a manifest of them, `COPY` into a temporary table, and one `INSERT` that
//! makes of text what Parquet cannot carry there: JSON, times of day, moments. They come out by `UNLOAD` the same way. Every file name
//! follows from load id and content, so that a second attempt finds its files.
//!
//! No cluster runs in this repository's tests: the SQL texts are snapshots. What only a real one can prove:
//! - that log-in, `SET` of the session's settings and prepared statements work over this client, and its cancel request ends a `COPY`;
//! - that its errors carry the SQLSTATEs that Postgres's do, a serialisation failure (1023) above all;
//! - that `COPY` takes these Parquet files (zstd, moments of microseconds in UTC as `TIMESTAMP`, decimals of 38 digits) with this manifest;
//! - that `pg_last_copy_count()` and `pg_last_unload_count()` count as the driver expects, also inside of a transaction;
//! - that `LOCK` of one table before the first read of a transaction makes that read see what the other writer committed to any;
//! - that `UNLOAD` keeps the order of a query that had to be wrapped for casts or a `LIMIT`;
//! - that a query whose result has a `SUPER` column fails clearly in [`Session::query`], which needs `JSON_SERIALIZE` there.

mod load;
mod session;
mod sql;
#[cfg(test)]
mod tests;
mod unload;

use async_trait::async_trait;
use errand_model::failure::{Failure, FailureKind};
use errand_model::job::Connection;

use super::postgres::{Dialect, LinkSession, Pool};
use super::{Capabilities, Case, Fence, Purpose, Session, Surroundings, Warehouse, equal_or_both_null};
use crate::store::Store;

/// What it can do.
pub(super) static CAPABILITIES: Capabilities = Capabilities {
    name: "redshift",
    case: Case::Lower,
    dialect: errand_model::template::scanner::Dialect::Redshift,
    type_name: sql::type_name,
    staging: "TABLE",
    transactional_ddl: true,
    // https://docs.aws.amazon.com/redshift/latest/dg/r_TRUNCATE.html
    commits: &["TRUNCATE"],
    // The fence of a load is one for all loads.
    lock_table: None,
    moment_in_utc: |moment| format!("CAST({moment} AS TIMESTAMP)"),
    renames: false,
    keeps_table: None,
    row_id: None,
    null_safe_equal: equal_or_both_null,
    try_cast: false,
    merge: false,
    fence: Fence::Turn,
    scan_parquet: None,
    write_file: None,
    begin_reading: None,
};

/// One database.
pub(super) struct Redshift {
    pool: Pool,
    staging: Staging,
}

/// Where rows pass through on their way in and out.
#[derive(Clone)]
struct Staging {
    store: Store,
    iam_role: String,
}

impl Redshift {
    /// Prepares connections to a cluster and to the bucket; the first one is made with the first session.
    pub(super) async fn open(redshift: &errand_model::job::Redshift, surroundings: Surroundings<'_>) -> Result<Self, Failure> {
        let label = redshift.staging.as_str();
        let store = match surroundings.environment.connections.get(label) {
            Some(connection @ Connection::S3(_)) => Store::open(connection, surroundings.state_dir)?,
            found => return Err(no_staging(label, found)),
        };
        let pool = Pool::open(&redshift.server, surroundings, Dialect::Redshift).await?;
        Ok(Self { pool, staging: Staging { store, iam_role: redshift.iam_role.clone() } })
    }
}

fn no_staging(label: &str, found: Option<&Connection>) -> Failure {
    let message = match found {
        Some(connection) => {
            format!("`staging` names `{label}`, a connection of kind `{}`, where the cluster can read nothing", connection.word())
        }
        None => format!("`staging` names `{label}`, which this environment does not have"),
    };
    Failure::new(FailureKind::Definition, "warehouse::no_staging", message).help("name a connection of kind `s3` in the cluster's region")
}

#[async_trait]
impl Warehouse for Redshift {
    fn capabilities(&self) -> &'static Capabilities {
        &CAPABILITIES
    }

    fn default_schema(&self) -> &str {
        self.pool.schema()
    }

    async fn session(&self, purpose: &Purpose) -> Result<Box<dyn Session>, Failure> {
        let staged = session::Staged::new(self.staging.clone(), purpose.clone());
        Ok(Box::new(LinkSession::new(self.pool.link(purpose).await?, staged)))
    }
}
