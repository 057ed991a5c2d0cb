//! Where SQL runs: one small contract, a module for each warehouse, and what differs between them as data.
//!
//! Nothing above this module names a driver; nothing here knows of steps or jobs.

#[cfg(feature = "duckdb")]
mod duckdb;
pub mod ledger;
pub mod publish;
pub mod statement;

use std::path::{Path, PathBuf};

use arrow::array::RecordBatch;
use async_trait::async_trait;
use errand_model::failure::{Failure, FailureKind};
use errand_model::job::{Connection, TableName};
use errand_model::value::ColumnType;
use tokio_util::sync::CancellationToken;

/// What differs between warehouses and can be said as data.
#[derive(Clone, Copy, Debug)]
pub struct Capabilities {
    /// The word of the project file.
    pub name: &'static str,
    /// The schema of a table that names none.
    pub default_schema: &'static str,
    /// The SQL name of a column type.
    pub type_name: fn(ColumnType) -> String,
    /// A table expression over Parquet files on this machine, with the columns `filename` and `file_row_number` beside the data.
    pub scan_parquet: Option<fn(&[PathBuf]) -> String>,
    /// A statement that writes the rows of a query to a file on this machine.
    pub write_file: Option<fn(query: &str, path: &Path, format: errand_model::document::step::ExportFormat) -> String>,
}

impl Capabilities {
    /// One spelling for every way to name a table: `t`, `T` and `main.t` are one.
    #[must_use]
    pub fn table_key(&self, table: &TableName) -> String {
        format!("{}.{}", table.schema.as_deref().unwrap_or(self.default_schema), table.name).to_lowercase()
    }
}

/// A column of a table that is there.
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

/// A target of [`Session::append`].
#[derive(Clone, Debug)]
pub struct AppendTarget {
    /// The table.
    pub table: TableName,
    /// The columns that chunks hold, in order; others take their defaults.
    pub columns: Vec<String>,
}

/// One session: statements one after the other, at most one transaction.
///
/// Every method ends soon after its token is cancelled, with a failure of kind `Cancelled`.
#[async_trait]
pub trait Session: Send {
    /// Runs one statement that may write; says how many rows it changed or returned.
    async fn execute(&mut self, sql: &str) -> Result<u64, Failure>;

    /// The first `limit` rows of a query, every value as text.
    async fn query(&mut self, sql: &str, limit: usize) -> Result<Vec<Vec<Option<String>>>, Failure>;

    /// The columns of a table, or `None` when there is no such table.
    async fn columns(&mut self, table: &TableName) -> Result<Option<Vec<TableColumn>>, Failure>;

    /// Appends rows inside the open transaction; says how many went to each table.
    async fn append(&mut self, targets: Vec<AppendTarget>, next: NextChunk) -> Result<Vec<u64>, Failure>;

    /// Undoes the open transaction, if there is one. Works after cancellation.
    async fn rollback(&mut self) -> Result<(), Failure>;
}

/// A warehouse that a connection of the project file names.
#[async_trait]
pub trait Warehouse: Send + Sync {
    /// What it can do.
    fn capabilities(&self) -> &'static Capabilities;

    /// A new session whose statements end when `cancelled` is.
    async fn session(&self, cancelled: CancellationToken) -> Result<Box<dyn Session>, Failure>;
}

/// What a run grants its warehouses on this machine.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// Bytes of memory that an embedded warehouse may use before it spills to disk.
    pub memory_bytes: u64,
}

/// Opens the warehouse of a connection; relative paths start at `state_dir`.
///
/// # Errors
///
/// `Transient` when the warehouse is busy or away, `Permanent` when it refuses, `Definition` when the connection is no warehouse or
/// this build has no driver for it.
pub async fn open(connection: &Connection, state_dir: &Path, budget: Budget) -> Result<Box<dyn Warehouse>, Failure> {
    match connection {
        #[cfg(feature = "duckdb")]
        Connection::Duckdb { path } => Ok(Box::new(duckdb::Duckdb::open(state_dir.join(path), budget).await?)),
        #[cfg(not(feature = "duckdb"))]
        Connection::Duckdb { path } => {
            let message = format!("this build of errand has no embedded warehouse, and `{path}` needs it");
            let failure = Failure::new(FailureKind::Definition, "warehouse::no_driver", message);
            let _ = (state_dir, budget);
            Err(failure.help("choose an environment whose connections are servers, or build with the feature `duckdb`"))
        }
        Connection::Directory { path } => {
            let message = format!("connection to directory `{path}` holds files; SQL cannot run there");
            Err(Failure::new(FailureKind::Definition, "warehouse::not_a_warehouse", message))
        }
    }
}

/// An identifier in double quotes.
#[must_use]
pub fn quote_identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text literal in single quotes.
#[must_use]
pub fn quote_text(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// A table name, each part quoted.
#[must_use]
pub fn quote_table(table: &TableName) -> String {
    match &table.schema {
        Some(schema) => format!("{}.{}", quote_identifier(schema), quote_identifier(&table.name)),
        None => quote_identifier(&table.name),
    }
}

/// Column names, quoted and separated by commas.
#[must_use]
pub fn quote_list<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    names.into_iter().map(quote_identifier).collect::<Vec<_>>().join(", ")
}

/// A JSON scalar as a literal.
#[must_use]
pub fn literal(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::Null => "NULL".to_owned(),
        serde_json::Value::Bool(true) => "TRUE".to_owned(),
        serde_json::Value::Bool(false) => "FALSE".to_owned(),
        serde_json::Value::Number(number) => number.to_string(),
        serde_json::Value::String(text) => quote_text(text),
        other @ (serde_json::Value::Array(_) | serde_json::Value::Object(_)) => quote_text(&other.to_string()),
    }
}
