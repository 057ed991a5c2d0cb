//! DuckDB, embedded: one database file, one process, many connections to it.
//!
//! Every call runs on a blocking thread; cancellation interrupts the running statement.

mod feed;
mod file;
mod open;

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use duckdb::Connection;
use errand_model::failure::{Failure, FailureKind};
use errand_model::job::TableName;
use errand_model::template::scanner::Dialect;
use errand_model::value::ColumnType;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::capabilities::is_not_distinct;
use super::{
    AppendTarget, Budget, Capabilities, Case, Extraction, Fence, NextChunk, Purpose, PutRows, Session, TableColumn, Warehouse, quote_exact,
    quote_text,
};
use crate::store::Full;

pub(super) static CAPABILITIES: Capabilities = Capabilities {
    name: "duckdb",
    case: Case::Keep,
    dialect: Dialect::Standard,
    type_name,
    staging: "TABLE",
    transactional_ddl: true,
    // One process writes a file, and in it one step a table.
    commits: &[],
    lock_table: None,
    moment_in_utc: |moment| format!("CAST({moment} AS TIMESTAMP)"),
    renames: true,
    keeps_table: None,
    row_id: Some("rowid"),
    null_safe_equal: is_not_distinct,
    try_cast: true,
    merge: true,
    fence: Fence::PrimaryKey,
    scan_parquet: Some(file::scan_parquet),
    write_file: Some(file::write),
    begin_reading: Some("BEGIN TRANSACTION READ ONLY"),
};

/// One open database.
pub(super) struct Duckdb {
    connection: Mutex<Connection>,
    /// Its name and that of its schema, in quotes: where sessions begin.
    home: String,
}

impl Duckdb {
    /// Opens the file, which is made when it is not there.
    pub(super) async fn open(path: PathBuf, budget: Budget) -> Result<Self, Failure> {
        let opened = tokio::task::spawn_blocking(move || {
            let connection = open::open(&path, budget)?;
            let place = text_rows(&connection, "SELECT current_database(), current_schema()")?;
            let place: Vec<String> = place.iter().flatten().flatten().map(|name| quote_exact(name)).collect();
            Ok::<_, Failure>((connection, place.join(".")))
        });
        let (connection, home) = joined(opened.await)??;
        Ok(Self { connection: Mutex::new(connection), home })
    }
}

#[async_trait]
impl Warehouse for Duckdb {
    fn capabilities(&self) -> &'static Capabilities {
        &CAPABILITIES
    }

    fn default_schema(&self) -> &'static str {
        "main"
    }

    async fn session(&self, purpose: &Purpose) -> Result<Box<dyn Session>, Failure> {
        let connection = lock(&self.connection).try_clone().map_err(|error| failure(&error))?;
        let interrupt = connection.interrupt_handle();
        let (connection, cancelled) = (Arc::new(Mutex::new(connection)), purpose.cancelled.clone());
        let (home, statement_timeout) = (self.home.clone(), purpose.statement_timeout);
        Ok(Box::new(DuckdbSession { connection, interrupt, cancelled, statement_timeout, home }))
    }
}

struct DuckdbSession {
    connection: Arc<Mutex<Connection>>,
    interrupt: Arc<duckdb::InterruptHandle>,
    cancelled: CancellationToken,
    statement_timeout: Option<Duration>,
    home: String,
}

impl DuckdbSession {
    /// Runs `work` on a blocking thread; interrupts it, again and again until it ends, once this session is cancelled.
    async fn run<T: Send + 'static>(&self, work: impl FnOnce(&Connection) -> Result<T, Failure> + Send + 'static) -> Result<T, Failure> {
        if self.cancelled.is_cancelled() {
            return Err(cancelled());
        }
        let connection = Arc::clone(&self.connection);
        let mut task = tokio::task::spawn_blocking(move || work(&lock(&connection)));
        tokio::select! {
            result = &mut task => joined(result)?,
            // What ended well before the interrupt reached it, a commit above all, is not undone by calling it cancelled.
            () = self.cancelled.cancelled() => joined(self.interrupt_until_done(&mut task).await)?.map_err(|_| cancelled()),
            limit = self.past_timeout() => joined(self.interrupt_until_done(&mut task).await)?.map_err(|_| timed_out(limit)),
        }
    }

    /// Waits for as long as a statement may take, which is for ever where nothing bounds it.
    async fn past_timeout(&self) -> Duration {
        match self.statement_timeout {
            Some(limit) => tokio::time::sleep(limit).await,
            None => std::future::pending().await,
        }
        self.statement_timeout.unwrap_or_default()
    }

    /// An interrupt that comes between two statements is lost, hence the repetition.
    async fn interrupt_until_done<T>(&self, task: &mut JoinHandle<T>) -> Result<T, tokio::task::JoinError> {
        loop {
            self.interrupt.interrupt();
            if let Ok(ended) = tokio::time::timeout(Duration::from_millis(20), &mut *task).await {
                return ended;
            }
        }
    }
}

#[async_trait]
impl Session for DuckdbSession {
    fn capabilities(&self) -> &'static Capabilities {
        &CAPABILITIES
    }

    async fn execute(&mut self, sql: &str) -> Result<u64, Failure> {
        let sql = sql.to_owned();
        self.run(move |connection| {
            let mut statement = connection.prepare(&sql).map_err(|error| failure(&error))?;
            let changed = statement.execute([]).map_err(|error| failure(&error))?;
            Ok(changed as u64)
        })
        .await
    }

    async fn query(&mut self, sql: &str, limit: usize) -> Result<Vec<Vec<Option<String>>>, Failure> {
        let sql = format!("SELECT CAST(COLUMNS(*) AS VARCHAR) FROM ({sql}\n) LIMIT {limit}");
        self.run(move |connection| text_rows(connection, &sql)).await
    }

    async fn columns(&mut self, table: &TableName) -> Result<Option<Vec<TableColumn>>, Failure> {
        let schema = table.schema.as_deref().map_or("current_schema()".to_owned(), quote_text);
        let sql = format!(
            "SELECT column_name, data_type FROM duckdb_columns() WHERE database_name = current_database() \
             AND lower(schema_name) = lower({schema}) AND lower(table_name) = lower({}) ORDER BY column_index",
            quote_text(&table.name)
        );
        let rows = self.run(move |connection| text_rows(connection, &sql)).await?;
        Ok((!rows.is_empty()).then(|| rows.into_iter().map(column).collect()))
    }

    /// Rows wait nowhere on their way: a later attempt extracts them again.
    async fn append(&mut self, targets: Vec<AppendTarget>, next: NextChunk, _: Option<&dyn Extraction>) -> Result<Vec<u64>, Failure> {
        self.run(move |connection| feed::append(connection, &targets, next)).await
    }

    async fn describe(&mut self, query: &str) -> Result<Vec<TableColumn>, Failure> {
        let sql = format!("SELECT column_name, column_type FROM (DESCRIBE {query}\n)");
        Ok(self.run(move |connection| text_rows(connection, &sql)).await?.into_iter().map(column).collect())
    }

    async fn read(&mut self, query: &str, mut put: PutRows) -> Result<u64, Failure> {
        let sql = query.to_owned();
        self.run(move |connection| {
            let mut statement = connection.prepare(&sql).map_err(|error| failure(&error))?;
            let mut rows = 0;
            // Streamed: the rows of a whole result would wait in memory.
            for batch in statement.stream_arrow([]).map_err(|error| failure(&error))? {
                let batch = batch.map_err(|error| failure(&error))?;
                rows += batch.num_rows() as u64;
                put(batch)?;
            }
            Ok(rows)
        })
        .await
    }

    async fn rollback(&mut self) -> Result<(), Failure> {
        let connection = Arc::clone(&self.connection);
        let task = tokio::task::spawn_blocking(move || {
            // The driver does not know whether a transaction is open; DuckDB refuses to undo none, which is as good.
            match lock(&connection).execute_batch("ROLLBACK") {
                Err(error) if !error.to_string().contains("no transaction is active") => Err(failure(&error)),
                _ => Ok(()),
            }
        });
        joined(task.await)?
    }

    async fn go_home(&mut self) -> Result<(), Failure> {
        let sql = format!("USE {}", self.home);
        self.execute(&sql).await.map(|_| ())
    }
}

/// A column from its name and type.
fn column(row: Vec<Option<String>>) -> TableColumn {
    let mut values = row.into_iter().flatten();
    let name = values.next().unwrap_or_default();
    let type_name = values.next().unwrap_or_default();
    TableColumn { name, kind: column_type(&type_name), type_name }
}

fn text_rows(connection: &Connection, sql: &str) -> Result<Vec<Vec<Option<String>>>, Failure> {
    let mut statement = connection.prepare(sql).map_err(|error| failure(&error))?;
    let mut rows = statement.query([]).map_err(|error| failure(&error))?;
    let mut out = Vec::new();
    while let Some(row) = rows.next().map_err(|error| failure(&error))? {
        let width = row.as_ref().column_count();
        let values: Result<Vec<Option<String>>, duckdb::Error> = (0..width).map(|column| row.get(column)).collect();
        out.push(values.map_err(|error| failure(&error))?);
    }
    Ok(out)
}

fn lock(connection: &Mutex<Connection>) -> std::sync::MutexGuard<'_, Connection> {
    connection.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn joined<T>(result: Result<T, tokio::task::JoinError>) -> Result<T, Failure> {
    result.map_err(|error| Failure::new(FailureKind::Internal, "warehouse::panic", format!("the warehouse's thread ended: {error}")))
}

fn cancelled() -> Failure {
    Failure::new(FailureKind::Cancelled, "warehouse::cancelled", "the running statement was cancelled")
}

fn timed_out(limit: Duration) -> Failure {
    Failure::new(FailureKind::Timeout, "warehouse::statement_timeout", format!("the statement ran longer than {} s", limit.as_secs()))
        .help("make it cheaper, or raise `timeout` of the step")
}

/// The kind of a DuckDB error: its text begins with the class.
fn failure(error: &duckdb::Error) -> Failure {
    of_text(&plain(error.to_string()))
}

/// Of an error on another of DuckDB's threads, which comes as JSON inside of one that says where it was met, what it says.
fn plain(text: String) -> String {
    let inner = text.find("{\"exception_type\"").and_then(|at| serde_json::from_str::<serde_json::Value>(&text[at..]).ok());
    let class = text.split(" Error: ").next().unwrap_or_default();
    match inner.as_ref().and_then(|inner| inner["exception_message"].as_str()) {
        Some(message) => format!("{class} Error: {message}"),
        None => text,
    }
}

fn of_text(text: &str) -> Failure {
    let class = text.split(" Error: ").next().unwrap_or_default();
    // A commit or a checkpoint that does not fit is not told as an error of the disk. The words are those of the operating system.
    let is_of_disk = matches!(class, "IO" | "TransactionContext" | "Transaction" | "FATAL");
    let full = if is_of_disk { Full::in_text(text) } else { None };
    let (kind, code) = match class {
        _ if full.is_some() => (FailureKind::Permanent, "warehouse::disk_full"),
        _ if is_of_disk && is_forbidden(text) => (FailureKind::Permanent, "warehouse::permission"),
        "INTERRUPT" | "Interrupt" => (FailureKind::Cancelled, "warehouse::cancelled"),
        "Missing Extension" => (FailureKind::Permanent, "warehouse::extension"),
        "Constraint" | "TransactionContext" if text.contains("Duplicate key") || text.contains("duplicate key") => {
            (FailureKind::Permanent, "warehouse::duplicate_key")
        }
        "TransactionContext" | "Transaction" if text.contains("read-only mode") => (FailureKind::Permanent, "warehouse::read_only"),
        "TransactionContext" if text.contains("within a transaction") => (FailureKind::Permanent, "warehouse::in_transaction"),
        "TransactionContext" | "Transaction" if text.contains("single attached database") => (FailureKind::Permanent, "warehouse::refused"),
        "TransactionContext" | "Transaction" => (FailureKind::Transient, "warehouse::conflict"),
        "Parser" => (FailureKind::Definition, "warehouse::syntax"),
        "Catalog" if text.contains("already exists") => (FailureKind::Permanent, "warehouse::exists_already"),
        "Catalog" => (FailureKind::Permanent, "warehouse::missing_object"),
        "Binder" => (FailureKind::Permanent, "warehouse::binding"),
        "Constraint" => (FailureKind::Permanent, "warehouse::constraint"),
        "Conversion" | "Out of Range" | "Invalid Input" => (FailureKind::Permanent, "warehouse::value"),
        "Out of Memory" => (FailureKind::Permanent, "warehouse::out_of_memory"),
        "IO" if text.contains("No files found") => (FailureKind::Permanent, "warehouse::missing_file"),
        "IO" => (FailureKind::Transient, "warehouse::io"),
        "INTERNAL" => (FailureKind::Internal, "warehouse::internal"),
        _ => (FailureKind::Permanent, "warehouse::refused"),
    };
    let failure = Failure::new(kind, code, text.trim().to_owned());
    match code {
        "warehouse::extension" => {
            let message = failure.message.lines().next().unwrap_or_default().to_owned();
            Failure { message, ..failure }
                .help("errand installs no extension: core functions, JSON and Parquet are built in, nothing else is")
        }
        "warehouse::out_of_memory" => failure.help("give the job more memory with `resources: { memory: 2GB }`"),
        "warehouse::disk_full" => failure.help(full.map(Full::help).unwrap_or_default()),
        "warehouse::permission" => {
            failure.help("give the user that runs errand the right to it; beside its database DuckDB also makes a file `.wal`")
        }
        "warehouse::io" => failure.help("check the disk and the permissions beside the database file"),
        _ => failure,
    }
}

/// Whether the operating system refuses it, in whose words it says so.
fn is_forbidden(text: &str) -> bool {
    ["Permission denied", "Operation not permitted", "Read-only file system"].iter().any(|words| text.contains(words))
}

fn type_name(kind: ColumnType) -> String {
    match kind {
        ColumnType::Boolean => "BOOLEAN".to_owned(),
        ColumnType::Integer => "INTEGER".to_owned(),
        ColumnType::Bigint => "BIGINT".to_owned(),
        ColumnType::Decimal(precision, scale) => format!("DECIMAL({precision},{scale})"),
        ColumnType::Double => "DOUBLE".to_owned(),
        ColumnType::Text => "VARCHAR".to_owned(),
        ColumnType::Date => "DATE".to_owned(),
        ColumnType::Time => "TIME".to_owned(),
        ColumnType::Timestamp => "TIMESTAMP".to_owned(),
        ColumnType::Timestamptz => "TIMESTAMPTZ".to_owned(),
        ColumnType::Json => "JSON".to_owned(),
    }
}

fn column_type(type_name: &str) -> Option<ColumnType> {
    Some(match type_name {
        "BOOLEAN" => ColumnType::Boolean,
        "INTEGER" => ColumnType::Integer,
        "BIGINT" => ColumnType::Bigint,
        "DOUBLE" => ColumnType::Double,
        "VARCHAR" => ColumnType::Text,
        "DATE" => ColumnType::Date,
        "TIME" => ColumnType::Time,
        "TIMESTAMP" => ColumnType::Timestamp,
        "TIMESTAMP WITH TIME ZONE" => ColumnType::Timestamptz,
        "JSON" => ColumnType::Json,
        other => return ColumnType::parse(&other.to_ascii_lowercase()).ok(),
    })
}

#[cfg(test)]
mod tests {
    use errand_model::failure::FailureKind;

    use super::{of_text, plain};

    #[test]
    fn a_disk_that_is_full_is_permanent_however_it_is_met() {
        for text in [
            "IO Error: Could not write file \"/d/w.duckdb\": No space left on device",
            "IO Error: Could not write file \"/d/w.duckdb.wal\": Disk quota exceeded",
            "TransactionContext Error: Failed to commit: Could not write file \"/d/w.duckdb.wal\": File too large",
            "FATAL Error: Failed to create checkpoint because of error: Could not write file \"/d/w.duckdb\": No space left on device",
        ] {
            let failure = of_text(text);
            assert_eq!((failure.kind, failure.code.as_str()), (FailureKind::Permanent, "warehouse::disk_full"), "{text}");
            assert!(failure.help.is_some_and(|help| !help.is_empty()), "{text}");
        }
        for text in [
            "Conversion Error: could not cast 'No space left on device'",
            "IO Error: Could not read file \"/d/w.duckdb\": Input/output error",
        ] {
            assert_ne!(of_text(text).code, "warehouse::disk_full", "{text}");
        }
    }

    #[test]
    fn a_file_that_may_not_be_written_is_permanent() {
        for text in [
            "TransactionContext Error: Failed to commit: Cannot open file \"/d/w.duckdb.wal\": Permission denied",
            "IO Error: Cannot open file \"/d/w.duckdb.wal\": Read-only file system",
        ] {
            let failure = of_text(text);
            assert_eq!((failure.kind, failure.code.as_str()), (FailureKind::Permanent, "warehouse::permission"), "{text}");
            assert!(failure.help.is_some_and(|help| help.contains(".wal")), "{text}");
        }
        assert_eq!(of_text("Conversion Error: could not cast 'Permission denied'").code, "warehouse::value");
        assert_eq!(of_text("TransactionContext Error: Conflict on update!").kind, FailureKind::Transient);
    }

    #[test]
    fn an_error_of_another_thread_says_what_happened() {
        let text = r#"IO Error: Async write failed for range [offset=8, size=19]: {"exception_type":"IO","exception_message":"Could not write file \"/d/t.csv\": File too large","errno":"27"}"#;
        assert_eq!(plain(text.to_owned()), "IO Error: Could not write file \"/d/t.csv\": File too large");
        for text in ["Parser Error: syntax error at or near \"{\"", "IO Error: {\"exception_type\""] {
            assert_eq!(plain(text.to_owned()), text);
        }
    }

    #[test]
    fn what_is_there_already_is_told_from_what_is_missing() {
        assert_eq!(of_text("Catalog Error: Table with name \"t\" already exists!").code, "warehouse::exists_already");
        assert_eq!(of_text("Catalog Error: Table with name t does not exist!").code, "warehouse::missing_object");
    }
}
