//! The ledger: what was written, committed in the same transaction as the data it speaks of.
//!
//! A row for a load id means that the load is done; nobody writes it again. The primary key on it fences a second runner: of two
//! transactions that insert the same load id, one fails to commit.

use errand_model::failure::{Failure, FailureKind};
use errand_model::interval::Interval;
use errand_model::report::Rows;
use sha2::{Digest, Sha256};

use super::{Session, quote_identifier, quote_text};

/// The schema that holds Errand's own tables.
pub const SCHEMA: &str = "_errand";

const DDL: [&str; 4] = [
    "CREATE SCHEMA IF NOT EXISTS _errand",
    "CREATE TABLE IF NOT EXISTS _errand.ledger (load_id VARCHAR PRIMARY KEY, job VARCHAR NOT NULL, step VARCHAR NOT NULL, \
     interval_start VARCHAR NOT NULL, interval_end VARCHAR NOT NULL, target VARCHAR NOT NULL, inputs VARCHAR NOT NULL, \
     run_id VARCHAR NOT NULL, attempt INTEGER NOT NULL, commit_id VARCHAR, rows_read BIGINT NOT NULL, rows_written BIGINT NOT NULL, \
     rows_deduplicated BIGINT NOT NULL, rows_rejected BIGINT NOT NULL, recorded_at VARCHAR NOT NULL)",
    "CREATE TABLE IF NOT EXISTS _errand.files (target VARCHAR NOT NULL, path VARCHAR NOT NULL, bytes BIGINT NOT NULL, \
     digest VARCHAR NOT NULL, load_id VARCHAR NOT NULL, rows_read BIGINT NOT NULL, recorded_at VARCHAR NOT NULL, \
     PRIMARY KEY (target, path, digest))",
    "CREATE TABLE IF NOT EXISTS _errand.checks (job VARCHAR NOT NULL, step VARCHAR NOT NULL, name VARCHAR NOT NULL, \
     interval_start VARCHAR NOT NULL, row_count BIGINT NOT NULL, recorded_at VARCHAR NOT NULL, PRIMARY KEY (job, step, name, interval_start))",
];

/// Makes Errand's own tables where they are missing.
///
/// # Errors
///
/// What the warehouse says.
pub async fn prepare(session: &mut dyn Session) -> Result<(), Failure> {
    for statement in DDL {
        session.execute(statement).await?;
    }
    Ok(())
}

/// What a load is: the same job, step, interval, target, configuration and inputs give the same id. The attempt is not part of it.
#[derive(Clone, Debug)]
pub struct Load {
    /// Name of the job.
    pub job: String,
    /// Id of the step.
    pub step: String,
    /// The span of time that the run is for.
    pub interval: Interval,
    /// Table or file that is written.
    pub target: String,
    /// Digest of the definitions of the step and of all that it needs.
    pub digest: String,
    /// Input values, as JSON text with sorted keys.
    pub inputs: String,
}

impl Load {
    /// The id: 32 hexadecimal digits of SHA-256 over every field.
    #[must_use]
    pub fn id(&self) -> String {
        let (start, end) = (self.interval.start.to_string(), self.interval.end.to_string());
        let mut hash = Sha256::new();
        for part in [&self.job, &self.step, &start, &end, &self.target, &self.digest, &self.inputs] {
            hash.update(part.len().to_le_bytes());
            hash.update(part.as_bytes());
        }
        hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Who writes a ledger row, and when.
#[derive(Clone, Debug)]
pub struct Writer {
    /// Id of the run.
    pub run_id: String,
    /// Attempt of the step.
    pub attempt: u32,
    /// Commit of the job repository.
    pub commit: Option<String>,
    /// Now, RFC 3339.
    pub now: String,
}

/// A load that is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    /// The run that did it.
    pub run_id: String,
    /// When.
    pub recorded_at: String,
    /// What it moved.
    pub rows: Rows,
}

/// Looks a load up.
///
/// # Errors
///
/// What the warehouse says.
pub async fn find(session: &mut dyn Session, load: &Load) -> Result<Option<Done>, Failure> {
    let sql = format!(
        "SELECT run_id, recorded_at, rows_read, rows_written, rows_deduplicated, rows_rejected FROM _errand.ledger WHERE load_id = {}",
        quote_text(&load.id())
    );
    Ok(session.query(&sql, 1).await?.into_iter().next().map(|row| {
        let text = |at: usize| row.get(at).cloned().flatten().unwrap_or_default();
        let count = |at: usize| text(at).parse().unwrap_or(0);
        let rows = Rows { read: count(2), written: count(3), deduplicated: count(4), rejected: count(5) };
        Done { run_id: text(0), recorded_at: text(1), rows }
    }))
}

/// Refuses to append a second time for one interval under another configuration: those rows would be doubled.
///
/// # Errors
///
/// `Definition` when an earlier load of the same step, interval, target and inputs is there.
pub async fn refuse_second_append(session: &mut dyn Session, load: &Load) -> Result<(), Failure> {
    let sql = format!(
        "SELECT run_id FROM _errand.ledger WHERE job = {} AND step = {} AND interval_start = {} AND interval_end = {} AND target = {} AND inputs = {}",
        quote_text(&load.job),
        quote_text(&load.step),
        quote_text(&load.interval.start.to_string()),
        quote_text(&load.interval.end.to_string()),
        quote_text(&load.target),
        quote_text(&load.inputs)
    );
    let Some(run) = session.query(&sql, 1).await?.into_iter().flatten().flatten().next() else { return Ok(()) };
    let message = format!("run `{run}` already appended this interval to `{}`, with another configuration of the step", load.target);
    Err(Failure::new(FailureKind::Definition, "ledger::second_append", message).help(format!(
        "use `mode: merge` or `delete_insert`; or delete the rows of run `{run}` from `{}` and its row from `_errand.ledger`, then run again",
        load.target
    )))
}

/// Records a load; part of the transaction that wrote the data.
///
/// # Errors
///
/// What the warehouse says; a duplicate load id becomes `Transient`, for the next attempt finds it done.
pub async fn record(session: &mut dyn Session, load: &Load, writer: &Writer, rows: Rows) -> Result<(), Failure> {
    let commit = writer.commit.as_deref().map_or("NULL".to_owned(), quote_text);
    let sql = format!(
        "INSERT INTO _errand.ledger VALUES ({}, {}, {}, {}, {}, {}, {}, {}, {}, {commit}, {}, {}, {}, {}, {})",
        quote_text(&load.id()),
        quote_text(&load.job),
        quote_text(&load.step),
        quote_text(&load.interval.start.to_string()),
        quote_text(&load.interval.end.to_string()),
        quote_text(&load.target),
        quote_text(&load.inputs),
        quote_text(&writer.run_id),
        writer.attempt,
        rows.read,
        rows.written,
        rows.deduplicated,
        rows.rejected,
        quote_text(&writer.now)
    );
    session.execute(&sql).await.map(|_| ()).map_err(fenced)
}

/// A duplicate load id means that another runner was faster.
#[must_use]
pub fn fenced(failure: Failure) -> Failure {
    let duplicate = failure.message.contains("Duplicate key") || failure.message.contains("duplicate key");
    if duplicate && matches!(failure.code.as_str(), "warehouse::constraint" | "warehouse::conflict") {
        let message = "another run wrote this interval at the same time and was faster; this one was rolled back";
        return Failure::new(FailureKind::Transient, "ledger::fenced", message)
            .help("nothing is lost or doubled: the next attempt finds the work done");
    }
    failure
}

/// One file that was loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadedFile {
    /// Its connection, `:`, and its path under it.
    pub path: String,
    /// Size.
    pub bytes: u64,
    /// SHA-256 of its content; of a file that `replace` loaded, its time of change.
    pub digest: String,
    /// Records in it.
    pub rows_read: u64,
}

/// The digests under which files of this path and size were loaded into a table.
///
/// # Errors
///
/// What the warehouse says.
pub async fn known_digests(session: &mut dyn Session, target: &str, path: &str, bytes: u64) -> Result<Vec<String>, Failure> {
    let sql = format!(
        "SELECT digest FROM _errand.files WHERE target = {} AND path = {} AND bytes = {bytes}",
        quote_text(target),
        quote_text(path)
    );
    Ok(session.query(&sql, 1000).await?.into_iter().flatten().flatten().collect())
}

/// Forgets the files of a table whose rows were replaced: they are not in it any more.
///
/// # Errors
///
/// What the warehouse says.
pub async fn forget_files(session: &mut dyn Session, target: &str) -> Result<(), Failure> {
    session.execute(&format!("DELETE FROM _errand.files WHERE target = {}", quote_text(target))).await.map(|_| ())
}

/// Records files; part of the transaction that wrote their rows.
///
/// # Errors
///
/// What the warehouse says.
pub async fn record_files(session: &mut dyn Session, load: &Load, writer: &Writer, files: &[LoadedFile]) -> Result<(), Failure> {
    for batch in files.chunks(500) {
        let rows: Vec<String> = batch
            .iter()
            .map(|file| {
                format!(
                    "({}, {}, {}, {}, {}, {}, {})",
                    quote_text(&load.target),
                    quote_text(&file.path),
                    file.bytes,
                    quote_text(&file.digest),
                    quote_text(&load.id()),
                    file.rows_read,
                    quote_text(&writer.now)
                )
            })
            .collect();
        let table = format!("{}.files", quote_identifier(SCHEMA));
        session.execute(&format!("INSERT INTO {table} VALUES {} ON CONFLICT DO NOTHING", rows.join(", "))).await?;
    }
    Ok(())
}
