//! `export`: rows into one file, written beside its place and moved there whole.

use std::fs::File;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use errand_model::document::step::ExportFormat;
use errand_model::failure::{Failure, FailureKind, Place};
use errand_model::job::{ExportStep, Subject};
use errand_model::report::{FileReport, Rows};
use errand_model::value::ColumnType;
use rustix::fs::{FlockOperation, flock};

use super::{Attempt, Effect, single_query};
use crate::output::Writer;
use crate::store::{Store, write_help};
use crate::warehouse::{FileWrite, Session, ledger};

/// How the name of a file ends that is not whole yet.
const PARTIAL: &str = ".partial";

/// Rows on their way to a file.
const ROWS: &str = "_errand_export";

/// First words of statements that write, in capitals. Of queries that write all the same, those warehouses tell that can.
const WRITING: [&str; 11] = ["INSERT", "UPDATE", "DELETE", "MERGE", "TRUNCATE", "CREATE", "ALTER", "DROP", "GRANT", "REVOKE", "COPY"];
const WRITING_HELP: &str = "write a step of kind `sql` for it, and export what it leaves";

pub(super) async fn run(attempt: &mut Attempt, step: &ExportStep) -> Result<Effect, Failure> {
    let relative = attempt.render(&step.path)?;
    let load = attempt.load(&format!("{}:{relative}", step.to));
    let mut session = attempt.session(&step.connection, Some(&load)).await?;
    let result = export(attempt, session.as_mut(), step, relative, &load).await;
    attempt.leave(session.as_mut(), result).await
}

async fn export(
    attempt: &mut Attempt,
    session: &mut dyn Session,
    step: &ExportStep,
    relative: String,
    load: &ledger::Load,
) -> Result<Effect, Failure> {
    checked(&relative)?;
    let store = attempt.run.store(&step.to)?.cancelled_by(attempt.cancelled.clone());
    if store.head(&relative).await?.is_some()
        && let Some(mut effect) = attempt.already(ledger::find(session, load).await?)
    {
        effect.outputs.insert("path".to_owned(), relative.into());
        return Ok(effect);
    }
    let (query, place) = match &step.subject {
        Subject::Table(table) => (format!("SELECT * FROM {}", session.capabilities().quote_table(table)), None),
        Subject::Query(query) => {
            let rendered = attempt.render_sql(query, session.capabilities())?;
            let (text, place) = single_query(query, &rendered, session.capabilities().dialect)?;
            refuse_writing(text, &place)?;
            (text.to_owned(), Some(place))
        }
    };
    let file = Partial::of(&store, &relative)?;
    let written = write(attempt, session, (&query, place), &file.path, step.format).await;
    let written = written.map_err(|failure| file.explained(writing(failure)))?;
    let bytes = file.publish(&store, &relative).await?;
    finish(attempt, session, step, load, (relative, written, bytes)).await
}

/// A query whose first word says that it is none.
fn refuse_writing(query: &str, place: &Place) -> Result<(), Failure> {
    let word: String = query.chars().take_while(char::is_ascii_alphabetic).collect();
    if !WRITING.contains(&word.to_ascii_uppercase().as_str()) {
        return Ok(());
    }
    let message = format!("an export reads, and `{word}` writes: one SELECT is expected");
    Err(Failure::new(FailureKind::Definition, "export::writes", message).at(place.clone()).help(WRITING_HELP))
}

/// A query that wrote where it could only read.
fn writing(failure: Failure) -> Failure {
    if failure.code != "warehouse::read_only" {
        return failure;
    }
    let message = format!("an export reads, and this query writes: {}", failure.message);
    Failure { kind: FailureKind::Definition, code: "export::writes".to_owned(), message, ..failure }.help(WRITING_HELP)
}

/// Begins a transaction that can only read, where the warehouse has such: else a query with `RETURNING` would delete what it exports.
async fn begin_reading(session: &mut dyn Session) -> Result<(), Failure> {
    match session.capabilities().begin_reading {
        Some(begin) => session.execute(begin).await.map(|_| ()),
        None => Ok(()),
    }
}

async fn end_reading(session: &mut dyn Session) -> Result<(), Failure> {
    match session.capabilities().begin_reading {
        Some(_) => session.execute("COMMIT").await.map(|_| ()),
        None => Ok(()),
    }
}

/// Writes the rows of a query to a file of this machine: the warehouse itself where it can, else its rows as they come.
async fn write(
    attempt: &mut Attempt,
    session: &mut dyn Session,
    (query, place): (&str, Option<Place>),
    path: &Path,
    format: ExportFormat,
) -> Result<u64, Failure> {
    begin_reading(session).await?;
    let Some(write_file) = session.capabilities().write_file else {
        let written = write_recorded(attempt, session, (query, place), path, format).await?;
        end_reading(session).await?;
        return Ok(written);
    };
    // The rows are made first: DuckDB 2.0.0 may wait for ever when a query fails while its rows are written to a file.
    let rows = format!("CREATE OR REPLACE TEMP TABLE {ROWS} AS\n{query}");
    let above = place.clone().map(|place| Place { line: place.line.saturating_sub(1), ..place });
    attempt.send_at(session, &rows, above).await?;
    end_reading(session).await?;
    let columns = session.describe(&format!("SELECT * FROM {ROWS}")).await?;
    let written = match write_file(ROWS, &columns, path, format) {
        FileWrite::Statement(sql) => attempt.send_at(session, &sql, place).await?,
        FileWrite::Rows(query) => write_recorded(attempt, session, (&query, place), path, format).await?,
    };
    attempt.send(session, &format!("DROP TABLE {ROWS}")).await?;
    Ok(written)
}

async fn write_recorded(
    attempt: &mut Attempt,
    session: &mut dyn Session,
    (query, place): (&str, Option<Place>),
    path: &Path,
    format: ExportFormat,
) -> Result<u64, Failure> {
    let stopwatch = attempt.run.request.clock.stopwatch();
    let result = write_rows(session, query, path, format).await;
    attempt.record_statement(query, place.as_ref(), &stopwatch, result.as_ref().ok().copied());
    result.map_err(|failure| super::located(failure, place))
}

async fn write_rows(session: &mut dyn Session, query: &str, path: &Path, format: ExportFormat) -> Result<u64, Failure> {
    let (columns, capabilities) = (session.describe(query).await?, session.capabilities());
    if columns.is_empty() {
        let failure =
            Failure::new(FailureKind::Definition, "export::no_columns", "one SELECT is expected, and this statement has no columns");
        return Err(failure.help(WRITING_HELP));
    }
    let columns: Vec<(String, ColumnType)> =
        columns.iter().map(|column| (capabilities.unfold(&column.name), column.kind.unwrap_or(ColumnType::Text))).collect();
    let writer = Arc::new(Mutex::new(Some(Writer::create(path, format, &columns)?)));
    let shared = Arc::clone(&writer);
    let put = Box::new(move |batch| match shared.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
        Some(writer) => writer.write(&batch),
        None => Ok(()),
    });
    let read = session.read(query, put).await?;
    let writer = writer.lock().unwrap_or_else(PoisonError::into_inner).take();
    let finished = tokio::task::spawn_blocking(move || writer.map(Writer::finish).transpose()).await;
    let written = finished.map_err(|error| Failure::new(FailureKind::Internal, "export::panic", error.to_string()))??;
    let written = written.map_or(0, |written| written.rows);
    if written == read {
        return Ok(written);
    }
    let message = format!("the warehouse sent {read} rows, and {written} were written");
    Err(Failure::new(FailureKind::Internal, "export::accounting", message)
        .help("nothing was published; please report it with the run report"))
}

async fn finish(
    attempt: &mut Attempt,
    session: &mut dyn Session,
    step: &ExportStep,
    load: &ledger::Load,
    (relative, written, bytes): (String, u64, u64),
) -> Result<Effect, Failure> {
    let rows = Rows { read: written, written, ..Rows::default() };
    attempt.record.rows = rows;
    attempt.record.files.push(FileReport { path: relative.clone(), bytes, rows, already_loaded: false });
    let writer = attempt.writer();
    session.execute("BEGIN TRANSACTION").await?;
    session.execute(&format!("DELETE FROM _errand.ledger WHERE load_id = '{}'", load.id())).await?;
    ledger::record(session, load, &writer, rows).await?;
    attempt.commit(session, &step.connection, load).await?;
    let mut effect = Effect::of_rows(rows);
    effect.bytes_written = bytes;
    effect.outputs.insert("path".to_owned(), relative.into());
    Ok(effect)
}

/// A path that stays under its connection.
fn checked(relative: &str) -> Result<(), Failure> {
    let path = Path::new(relative);
    let plain = path.components().all(|part| matches!(part, Component::Normal(_)));
    if plain && !relative.is_empty() && !relative.ends_with('/') {
        return Ok(());
    }
    let message = format!("`{relative}` is not a path under the connection");
    Err(Failure::new(FailureKind::Definition, "export::bad_path", message)
        .help("write a relative path without `..`, ending in a file name"))
}

/// A file that is not whole yet; gone unless it is published. No other runner has its name, and while its lock is held none removes it.
struct Partial {
    path: PathBuf,
    _lock: Option<File>,
    /// Removes the name when it is dropped, in a directory.
    _name: Option<tempfile::TempPath>,
    /// The place of a file that goes to a bucket.
    scratch: Option<tempfile::TempDir>,
}

impl Partial {
    /// In a directory beside its place, so that it can be moved there whole; else on scratch space of this machine.
    fn of(store: &Store, relative: &str) -> Result<Self, Failure> {
        let Some(target) = store.local(relative) else {
            let scratch = tempfile::tempdir().map_err(|error| file_failure("make a scratch directory for", Path::new(relative), &error))?;
            let name = Path::new(relative).file_name().unwrap_or_default();
            return Ok(Self { path: scratch.path().join(name), _lock: None, _name: None, scratch: Some(scratch) });
        };
        // Failures name it, as a whole path without `.` in it.
        let target = std::path::absolute(&target).unwrap_or(target);
        let parent = target.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(parent).map_err(|error| file_failure("make directory", parent, &error))?;
        let prefix = format!(".{}.", target.file_name().map(|name| name.to_string_lossy()).unwrap_or_default());
        remove_abandoned(parent, &prefix);
        // A place that cannot be written is known before the query runs.
        let (file, name) = locked(parent, &prefix).map_err(|error| file_failure("make a file in", parent, &error))?;
        Ok(Self { path: name.to_path_buf(), _lock: Some(file), _name: Some(name), scratch: None })
    }

    /// Whoever reads that a disk of this machine is full may not know that the file goes to a bucket by way of it.
    fn explained(&self, failure: Failure) -> Failure {
        if self.scratch.is_none() || !matches!(failure.code.as_str(), "output::file" | "warehouse::disk_full") {
            return failure;
        }
        let help = failure.help.as_deref().map(|help| format!("{help}; ")).unwrap_or_default();
        failure.help(format!("{help}files for a bucket are made in the temporary directory first, and `TMPDIR` names another"))
    }

    /// Moves the whole file to its place; says how large it is.
    async fn publish(self, store: &Store, relative: &str) -> Result<u64, Failure> {
        match store.local(relative) {
            Some(target) => publish(&self.path, &target),
            None => store.put_file(&self.path, relative).await,
        }
    }
}

/// A new file that is locked. One that another runner took for an abandoned one, before it was, is gone: then the next.
fn locked(parent: &Path, prefix: &str) -> std::io::Result<(File, tempfile::TempPath)> {
    loop {
        // Scratch files are private otherwise: the umask decides, as for any file.
        let permissions = std::fs::Permissions::from_mode(0o666);
        let scratch = tempfile::Builder::new().prefix(prefix).suffix(PARTIAL).permissions(permissions).tempfile_in(parent)?;
        let (file, name) = scratch.into_parts();
        // File systems without locks lose nothing but the tidying up.
        let _ = flock(&file, FlockOperation::NonBlockingLockExclusive);
        if file.metadata()?.nlink() > 0 {
            return Ok((file, name));
        }
    }
}

/// Removes what killed runners left beside a target: their locks are gone.
fn remove_abandoned(parent: &Path, prefix: &str) {
    for entry in std::fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with(prefix)
            && name.ends_with(PARTIAL)
            && let Ok(file) = File::open(entry.path())
            && flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok()
            && let Err(error) = std::fs::remove_file(entry.path())
        {
            tracing::warn!(file = %entry.path().display(), %error, "an abandoned file cannot be removed");
        }
    }
}

/// Durable before it is visible: contents, then name, then directory.
fn publish(partial: &Path, path: &Path) -> Result<u64, Failure> {
    let file = std::fs::File::open(partial).map_err(|error| file_failure("open", partial, &error))?;
    file.sync_all().map_err(|error| file_failure("write", partial, &error))?;
    let bytes = file.metadata().map_err(|error| file_failure("read", partial, &error))?.len();
    std::fs::rename(partial, path).map_err(|error| file_failure("move a file to", path, &error))?;
    if let Some(parent) = path.parent() {
        let directory = std::fs::File::open(parent).map_err(|error| file_failure("open", parent, &error))?;
        directory.sync_all().map_err(|error| file_failure("write", parent, &error))?;
    }
    Ok(bytes)
}

fn file_failure(verb: &str, path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(FailureKind::Permanent, "export::file", format!("cannot {verb} `{}`: {error}", path.display())).help(write_help(error))
}
