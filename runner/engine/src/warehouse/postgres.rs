//! Postgres, over its own protocol: one pool of sessions, `COPY` in its binary form both ways, cancellation by its cancel request.
//!
//! JSON is `jsonb`: its values can be compared, grouped and indexed, which publishing and authors need. It keeps values, not their
//! spelling: blanks and the order of keys are the server's, of keys that repeat the last one stays, and `\u0000` is refused.
//! A table that names no schema lies in the connection's schema and nowhere else: `search_path` has that schema alone.

mod append;
mod catalog;
mod connect;
mod decode;
mod encode;
mod error;
mod feed;
mod link;
mod read;
mod session;
mod statement;

use async_trait::async_trait;
use errand_model::failure::Failure;
use errand_model::job::Server;

use super::{Capabilities, Case, Fence, Purpose, Session, Surroundings, Warehouse, is_not_distinct, quote_text};
pub(super) use catalog::kind;
pub(super) use connect::{Dialect, Pool};

pub(super) use link::Link;
pub(super) use session::{LinkSession, Transport};

/// What it can do.
pub(super) static CAPABILITIES: Capabilities = Capabilities {
    name: "postgres",
    case: Case::Lower,
    dialect: errand_model::template::scanner::Dialect::Standard,
    type_name: catalog::type_name,
    staging: "UNLOGGED TABLE",
    transactional_ddl: true,
    commits: &[],
    lock_table: Some(lock_table),
    moment_in_utc: |moment| format!("CAST({moment} AS TIMESTAMP)"),
    renames: true,
    keeps_table: Some(catalog::keeps_table),
    row_id: Some("ctid"),
    null_safe_equal: is_not_distinct,
    try_cast: false,
    merge: true,
    fence: Fence::Lock(fence),
    scan_parquet: None,
    write_file: None,
    begin_reading: Some("BEGIN TRANSACTION READ ONLY"),
};

/// The schema of tables that name none, where the connection says nothing.
pub(super) const DEFAULT_SCHEMA: &str = "public";

/// One database.
pub(super) struct Postgres {
    pool: Pool,
}

impl Postgres {
    /// Prepares connections to a server; the first one is made with the first session.
    pub(super) async fn open(server: &Server, surroundings: Surroundings<'_>) -> Result<Self, Failure> {
        Ok(Self { pool: Pool::open(server, surroundings, Dialect::Postgres).await? })
    }
}

#[async_trait]
impl Warehouse for Postgres {
    fn capabilities(&self) -> &'static Capabilities {
        &CAPABILITIES
    }

    fn default_schema(&self) -> &str {
        self.pool.schema()
    }

    async fn session(&self, purpose: &Purpose) -> Result<Box<dyn Session>, Failure> {
        Ok(Box::new(LinkSession::new(self.pool.link(purpose).await?, session::Copy)))
    }
}

/// Statements of a transaction do not see the rows that another one is about to commit, so two could both insert a key. Readers go on.
fn lock_table(table: &str) -> String {
    format!("LOCK TABLE {table} IN SHARE ROW EXCLUSIVE MODE")
}

/// Held until the transaction ends, by whoever came first.
fn fence(load_id: &str) -> String {
    format!("SELECT pg_advisory_xact_lock(hashtextextended({}, 0))", quote_text(load_id))
}
