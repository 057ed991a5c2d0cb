//! Where SQL runs: one small contract, a module for each warehouse, and what differs between them as data.
//!
//! Nothing above this module names a driver; nothing here knows of steps or jobs.

mod capabilities;
#[cfg(feature = "duckdb")]
mod duckdb;
mod files;
pub mod ledger;
mod parts;
mod postgres;
pub mod publish;
mod queue;
mod redshift;
mod snowflake;
pub mod statement;
mod unloaded;

use std::path::Path;
use std::pin::Pin;
use std::time::Duration;

use arrow::array::RecordBatch;
use async_trait::async_trait;
use errand_model::failure::{Failure, FailureKind};
use errand_model::job::{Connection, Environment, TableName};
use errand_model::report::UsageReport;
use errand_model::value::ColumnType;
use tokio_util::sync::CancellationToken;

pub use capabilities::{
    Capabilities, Case, Fence, FileWrite, WriteFile, equal_or_both_null, is_not_distinct, quote_exact, quote_exact_list, quote_text,
};

pub use files::{FileColumn, FileForm, FileGroup, FileLoads, GroupFile, MakeParts, PutPart, TextForm, TextPart};

pub(crate) use snowflake::setup as snowflake_setup;

use crate::secret::Secrets;

/// A column of a table that is there, or of a query's result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableColumn {
    /// Its name as the warehouse keeps it.
    pub name: String,
    /// The warehouse's own word for its type.
    pub type_name: String,
    /// Errand's word for it, if there is one.
    pub kind: Option<ColumnType>,
}

/// Rows on their way into one of the tables named to [`Session::append`].
pub struct Chunk {
    /// Index of the table.
    pub table: usize,
    /// Its rows, in the order of the columns named.
    pub rows: RecordBatch,
}

/// The next rows, or `None` at the end. Called on a thread that may block.
pub type NextChunk = Box<dyn FnMut() -> Result<Option<Chunk>, Failure> + Send>;

/// Takes rows of a result, in order. Called on a thread that may block.
pub type PutRows = Box<dyn FnMut(RecordBatch) -> Result<(), Failure> + Send>;

/// Rows that every attempt of their load would extract alike, because their source is still there.
pub trait Extraction: Send + Sync {
    /// All that decides the rows beside the load id: versions of the source's files, columns, what reads them.
    fn inputs(&self) -> serde_json::Value;

    /// What a later attempt must know beside the rows; asked for after the last one. None when some were left out.
    fn account(&self) -> Option<serde_json::Value>;

    /// Takes what the account of an earlier attempt says, in place of its rows.
    ///
    /// # Errors
    ///
    /// `Internal` when it is no account.
    fn restore(&self, account: serde_json::Value) -> Result<(), Failure>;
}

/// What statements cost, none where the role may not ask: awaited beside other work, ends within seconds, and never fails.
pub type UsageQuestion = Pin<Box<dyn Future<Output = Option<UsageReport>> + Send>>;

/// A target of [`Session::append`].
#[derive(Clone, Debug)]
pub struct AppendTarget {
    /// The table.
    pub table: TableName,
    /// The columns that chunks hold, in order, by their names in the definition; others take their defaults.
    pub columns: Vec<(String, ColumnType)>,
}

/// One session: statements one after the other, at most one transaction.
///
/// Every method ends soon after its token is cancelled, with a failure of kind `Cancelled`. Failures carry one of these codes:
/// `warehouse::syntax`, `missing_object`, `exists_already` (what was to be made is there), `permission`, `constraint`, `duplicate_key`, `value`,
/// `conflict` (another transaction was faster), `lock_timeout`, `statement_timeout`, `connection_lost` (whether the statement took effect is not
/// known), `session_too_short` (a transaction outlived its login), `unreachable`, `authentication`, `in_transaction` (one cannot begin inside
/// another), `suspended`, `disk_full` (`Permanent`: it stays full until somebody makes room), `read_only` (nothing can be written here),
/// `out_of_memory`, `cancelled`, `refused`, `internal`.
/// The message of a failure in SQL ends in `\n\nLINE n: <text>\n<blanks>^` where the warehouse says the place.
#[async_trait]
pub trait Session: Send {
    /// What this warehouse can do.
    fn capabilities(&self) -> &'static Capabilities;

    /// Runs one statement that may write; says how many rows it changed or returned.
    async fn execute(&mut self, sql: &str) -> Result<u64, Failure>;

    /// The first `limit` rows of a query, every value as text.
    async fn query(&mut self, sql: &str, limit: usize) -> Result<Vec<Vec<Option<String>>>, Failure>;

    /// The columns that a query returns, without running it.
    async fn describe(&mut self, query: &str) -> Result<Vec<TableColumn>, Failure>;

    /// The columns of a table from a definition, or `None` when there is no such table.
    async fn columns(&mut self, table: &TableName) -> Result<Option<Vec<TableColumn>>, Failure>;

    /// Appends rows; says how many went to each table. Where DDL is transactional, part of the open transaction.
    ///
    /// With an extraction, a later attempt of the load could bring the same rows again. Where rows lie in a store on their way, that attempt finds
    /// them there, whole or not at all, and asks `next` for none.
    async fn append(
        &mut self,
        targets: Vec<AppendTarget>,
        next: NextChunk,
        extraction: Option<&dyn Extraction>,
    ) -> Result<Vec<u64>, Failure>;

    /// Removes what lies in a store for the load of this session, which is committed. That it cannot is only logged.
    async fn sweep(&mut self) {}

    /// Hands over every row of a query; says how many there were.
    async fn read(&mut self, query: &str, put: PutRows) -> Result<u64, Failure>;

    /// Undoes the open transaction, if there is one. Works after cancellation.
    async fn rollback(&mut self) -> Result<(), Failure>;

    /// Goes back to where the session began. A statement may have led it to another database, where Errand's own tables, which are named by
    /// their schema alone, are others or none. A session that cannot leave its database has nothing to do.
    async fn go_home(&mut self) -> Result<(), Failure> {
        Ok(())
    }

    /// The pipes of this warehouse, where it has any.
    fn pipes(&mut self) -> Option<&mut dyn Pipes> {
        None
    }

    /// Loading files without their rows, where this warehouse reads them as exactly as Errand does.
    fn file_loads(&mut self) -> Option<&mut dyn FileLoads> {
        None
    }

    /// The warehouse's id of the last statement, where it gives one.
    fn statement_id(&self) -> Option<String> {
        None
    }

    /// Asks what the statements of this session cost, where the warehouse tells.
    fn usage(&self) -> Option<UsageQuestion> {
        None
    }
}

/// What loads files into one table by itself, where they lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pipe {
    /// Its name for people.
    pub name: String,
    /// Its name as SQL takes it.
    pub sql_name: String,
    /// Its table as SQL takes it.
    pub table: String,
    /// Whether the place of the files tells it of new ones; else somebody must.
    pub is_notified: bool,
}

/// What a pipe's records say of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piped {
    /// Nothing, or that it is under way.
    Unknown,
    /// It is in the table.
    Loaded {
        /// Its rows.
        rows: u64,
        /// Its size at that time, where the records tell.
        bytes: Option<u64>,
        /// When, in seconds since 1970.
        at: Option<i64>,
    },
    /// None of its rows, or not all, are in the table.
    Failed(String),
}

/// Pipes, as a session sees them. Failures are those of [`Session`].
#[async_trait]
pub trait Pipes: Send {
    /// The pipe `<table>_pipe` beside a table; `warehouse::missing_object` when there is none.
    async fn pipe(&mut self, table: &TableName) -> Result<Pipe, Failure>;

    /// Tells a pipe of files by their URLs. That it knows of them says nothing about their rows.
    async fn tell(&mut self, pipe: &Pipe, files: &[String]) -> Result<(), Failure>;

    /// What became of files, by their URLs, in their order; also of those that something else than the pipe loaded into its table.
    async fn fates(&mut self, pipe: &Pipe, files: &[String]) -> Result<Vec<Piped>, Failure>;

    /// Fails when the pipe stands still.
    async fn check(&mut self, pipe: &Pipe) -> Result<(), Failure>;
}

/// What a session is for: whom the warehouse's own records will name, and when it ends.
#[derive(Clone, Debug, Default)]
pub struct Purpose {
    /// Id of the run.
    pub run_id: String,
    /// Name of the job.
    pub job: String,
    /// Id of the step; empty for Errand's own work.
    pub step: String,
    /// Attempt of the step, from 1.
    pub attempt: u32,
    /// Load id, where the session writes one.
    pub load_id: Option<String>,
    /// Longest time for one statement.
    pub statement_timeout: Option<Duration>,
    /// Ends the running statement and the session.
    pub cancelled: CancellationToken,
}

/// A warehouse that a connection of the project file names.
#[async_trait]
pub trait Warehouse: Send + Sync {
    /// What it can do.
    fn capabilities(&self) -> &'static Capabilities;

    /// The schema of a table that names none.
    fn default_schema(&self) -> &str;

    /// A new session.
    async fn session(&self, purpose: &Purpose) -> Result<Box<dyn Session>, Failure>;
}

/// What a run grants its warehouses on this machine.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// Bytes of memory that an embedded warehouse may use before it spills to disk.
    pub memory_bytes: u64,
}

/// What opening a warehouse may need beside its connection.
#[derive(Clone, Copy)]
pub struct Surroundings<'a> {
    /// The connections beside it.
    pub environment: &'a Environment,
    /// Where relative paths of data start.
    pub state_dir: &'a Path,
    /// Where relative paths of the definition start: the checkout.
    pub repository: &'a Path,
    /// Secrets by name.
    pub secrets: &'a Secrets,
    /// What the warehouse may use of this machine.
    pub budget: Budget,
}

/// What the warehouse of a connection can do, without opening it; none when it is no warehouse that this build has a driver for.
#[must_use]
pub fn capabilities(connection: &Connection) -> Option<&'static Capabilities> {
    match connection {
        #[cfg(feature = "duckdb")]
        Connection::Duckdb { .. } => Some(&duckdb::CAPABILITIES),
        #[cfg(not(feature = "duckdb"))]
        Connection::Duckdb { .. } => None,
        Connection::Postgres(_) => Some(&postgres::CAPABILITIES),
        Connection::Redshift(_) => Some(&redshift::CAPABILITIES),
        Connection::Snowflake(_) => Some(&snowflake::kind::CAPABILITIES),
        Connection::Directory { .. } | Connection::S3(_) => None,
    }
}

/// Opens the warehouse of a connection.
///
/// # Errors
///
/// `Transient` when the warehouse is busy or away, `Permanent` when it refuses, `Definition` when the connection is no warehouse or
/// this build has no driver for it.
pub async fn open(connection: &Connection, surroundings: Surroundings<'_>) -> Result<Box<dyn Warehouse>, Failure> {
    match connection {
        Connection::Duckdb { path } => open_embedded(path, surroundings).await,
        Connection::Postgres(server) => Ok(Box::new(postgres::Postgres::open(server, surroundings).await?)),
        Connection::Redshift(redshift) => Ok(Box::new(redshift::Redshift::open(redshift, surroundings).await?)),
        Connection::Snowflake(account) => Ok(Box::new(snowflake::Snowflake::open(account, surroundings).await?)),
        Connection::Directory { .. } | Connection::S3(_) => {
            let message = format!("a connection of kind `{}` holds files; SQL cannot run there", connection.word());
            Err(Failure::new(FailureKind::Definition, "warehouse::not_a_warehouse", message))
        }
    }
}

#[cfg(feature = "duckdb")]
async fn open_embedded(path: &str, surroundings: Surroundings<'_>) -> Result<Box<dyn Warehouse>, Failure> {
    Ok(Box::new(duckdb::Duckdb::open(surroundings.state_dir.join(path), surroundings.budget).await?))
}

#[cfg(not(feature = "duckdb"))]
async fn open_embedded(path: &str, _: Surroundings<'_>) -> Result<Box<dyn Warehouse>, Failure> {
    let message = format!("this build of errand has no embedded warehouse, and `{path}` needs it");
    let failure = Failure::new(FailureKind::Definition, "warehouse::no_driver", message);
    Err(failure.help("choose an environment whose connections are servers, or build with the feature `duckdb`"))
}
