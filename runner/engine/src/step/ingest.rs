//! `ingest`: files into a table, each row once, every row accounted for.
//!
//! Delimited text and JSON are parsed by [`crate::source`]; Parquet is read in place by the warehouse.

mod extraction;
mod parquet;
mod pipe;
mod reject;
mod whole;

use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use errand_model::document::step::{Format, Mode, OnEmpty, Through};
use errand_model::failure::{Failure, FailureKind};
use errand_model::job::{IngestStep, TableName};
use errand_model::report::{FileReport, Rows};
use errand_model::value::ColumnType;

use self::extraction::FileExtraction;
pub(super) use self::reject::Rejects;
use self::reject::Tally;
use super::stage::{self, Stage, staging_table};
use super::{Attempt, Effect};
use crate::report::figure;
use crate::source::{self, Batch, Origin, Resolved};
use crate::store::FileEntry;
use crate::warehouse::ledger::{self, Load, LoadedFile};
use crate::warehouse::publish::{VALID_FROM, VALID_TO, Way};
use crate::warehouse::{AppendTarget, Capabilities, Chunk, Extraction, NextChunk, Session};

/// Columns that say where a row came from.
pub(super) const METADATA: [&str; 4] = ["_errand_run_id", "_errand_source", "_errand_row", "_errand_loaded_at"];

pub(super) async fn run(attempt: &mut Attempt, step: &IngestStep) -> Result<Effect, Failure> {
    let load = attempt.table_load(&step.connection, &step.table).await?;
    let mut session = attempt.session(&step.connection, Some(&load)).await?;
    let session = session.as_mut();
    let _alone = attempt.run.hold(&step.connection, &step.table, &attempt.cancelled).await?;
    if let Some(effect) = attempt.already(ledger::find(session, &load).await?) {
        if attempt.number > 1 {
            session.sweep().await;
        }
        return Ok(effect);
    }
    if step.publish.mode == Mode::Append {
        ledger::refuse_second_append(session, &load, &attempt.other_steps()).await?;
    }
    let capabilities = session.capabilities();
    let tally = Arc::new(Mutex::new(Tally::new(step)));
    let mut ingest = Ingest { step, load, capabilities, tally, digests: Vec::new(), files: Vec::new(), carried: 0 };
    let result = ingest.run(attempt, session).await;
    let result = attempt.leave(session, result).await;
    let result = stage::unless_taken(attempt, session, &ingest.load, result).await;
    if result.is_err() {
        ingest.record_files(attempt);
        let kept = ingest.tally().take_first();
        if !kept.is_empty()
            && let Err(unkept) = reject::keep(attempt, session, step, &ingest.load.id(), &kept).await
        {
            let undone = session.rollback().await.err().map_or(String::new(), |failure| format!("; {failure}"));
            attempt.record.warnings.push(format!("the refused rows could not be kept: {unkept}{undone}"));
        }
    }
    stage::clear(attempt, session, &step.table, &ingest.load).await;
    result
}

/// One ingest under way.
struct Ingest<'a> {
    step: &'a IngestStep,
    load: Load,
    capabilities: &'static Capabilities,
    tally: Arc<Mutex<Tally>>,
    digests: Vec<String>,
    files: Vec<FileEntry>,
    /// Bytes of the files that go through this process.
    carried: u64,
}

impl Ingest<'_> {
    fn tally(&self) -> std::sync::MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How far each file came, for the report of a success and of a failure.
    fn record_files(&self, attempt: &mut Attempt) {
        attempt.record.files.retain(|file| file.already_loaded);
        for (file, rows) in self.files.iter().zip(self.tally().files()) {
            attempt.record.files.push(FileReport { path: file.path.clone(), bytes: file.bytes, rows: *rows, already_loaded: false });
        }
    }

    async fn run(&mut self, attempt: &mut Attempt, session: &mut dyn Session) -> Result<Effect, Failure> {
        let pattern = attempt.render(&self.step.files.path)?;
        let store = attempt.run.store(&self.step.files.connection)?.cancelled_by(attempt.cancelled.clone());
        let found = store.list(&pattern).await?;
        if self.step.through == Through::Pipe && session.pipes().is_some() {
            return pipe::run(self, attempt, session, found, &pattern).await;
        }
        self.files = self.unseen(attempt, session, found).await?;
        let files = self.files.clone();
        let bytes: u64 = files.iter().map(|file| file.bytes).sum();
        attempt.progress.set_total_bytes(bytes);
        self.carried = bytes;
        if files.is_empty() {
            // Another runner may have loaded them between the two questions.
            if let Some(effect) = attempt.already(ledger::find(session, &self.load).await?) {
                return Ok(effect);
            }
            self.empty(attempt, &unfound(attempt, &pattern))?;
            if self.step.on_empty != OnEmpty::Ok || self.step.publish.mode != Mode::Replace {
                return self.nothing(attempt, session).await;
            }
        }
        attempt.ensure_schema(session, &self.step.table).await?;
        attempt.ensure_failures_schema(session, &self.step.checks).await?;
        let done = stage::begin(attempt, session, &self.load, (&self.step.table, self.step.publish.mode)).await?;
        if let Some(effect) = attempt.already(done) {
            session.rollback().await?;
            return Ok(effect);
        }
        let way = Way::choose(session, &self.step.table, self.step.publish.mode).await?;
        let staging = staging_table(session, &self.step.table, &self.load, &attempt.writer());
        let Some(rejects) = self.fill(attempt, session, &staging, way).await? else { return self.nothing(attempt, session).await };
        blocking({
            let files = files.clone();
            move || files.iter().try_for_each(FileEntry::check_unchanged)
        })
        .await?;
        self.publish(attempt, session, (staging, way), rejects).await
    }

    /// Fills the staging table, and another with refused rows; none when there is nothing to publish.
    async fn fill(
        &mut self,
        attempt: &mut Attempt,
        session: &mut dyn Session,
        staging: &TableName,
        way: Way,
    ) -> Result<Option<Rejects>, Failure> {
        let files = self.files.clone();
        if files.is_empty() {
            if session.columns(&self.step.table).await?.is_none() {
                return Ok(None);
            }
            let (kind, table) = (way.kind(session), self.capabilities.quote_table(&self.step.table));
            let empty = format!("CREATE {kind} {} AS SELECT * FROM {table} LIMIT 0", self.capabilities.quote_table(staging));
            attempt.send(session, &empty).await?;
            return Rejects::open(attempt, session, staging, &self.step.table, self.load.id()).await.map(Some);
        }
        let is_parquet = self.step.files.format == Format::Parquet;
        if is_parquet && self.capabilities.scan_parquet.is_some() && files.iter().all(|file| file.local().is_some()) {
            return parquet::stage(self, attempt, session, staging, &files).await.map(Some);
        }
        self.stage(attempt, session, staging, way).await
    }

    /// Columns that Errand writes itself cannot come from the files too.
    fn refuse_own_columns<'n>(&self, mut names: impl Iterator<Item = &'n str>) -> Result<(), Failure> {
        let own = names.find(|name| self.step.metadata && METADATA.contains(&name.to_lowercase().as_str()));
        let Some(name) = own else { return Ok(()) };
        let message = format!("the files have a column `{name}`, which Errand writes itself");
        Err(Failure::new(FailureKind::Rejected, "ingest::reserved_column", message)
            .help("give it another name with `from`, or set `metadata: false`"))
    }

    /// One path under two connections is two files.
    fn ledger_path(&self, file: &FileEntry) -> String {
        format!("{}:{}", self.step.files.connection, file.path)
    }

    /// In `append` mode a file is loaded once for good: same path, same content. Other modes read what is there.
    async fn unseen(&mut self, attempt: &mut Attempt, session: &mut dyn Session, found: Vec<FileEntry>) -> Result<Vec<FileEntry>, Failure> {
        let reach = whole::reach(self.step, session, &found).await?;
        let mut files = Vec::with_capacity(found.len());
        for file in found {
            let (digest, is_known) = match self.step.publish.mode {
                Mode::Append => {
                    let known = ledger::known_digests(session, &self.load.target, &self.ledger_path(&file), file.bytes).await?;
                    let is_whole = reach.as_ref().is_some_and(|reach| file.key_in(reach).is_some());
                    content(&file, &known, is_whole).await?
                }
                // Hashing what is loaded anyway would cost a second reading.
                Mode::Replace => (file.version(), false),
                Mode::Merge | Mode::DeleteInsert | Mode::Scd2 => (String::new(), false),
            };
            if is_known {
                attempt.record.files.push(FileReport { path: file.path, bytes: file.bytes, rows: Rows::default(), already_loaded: true });
            } else {
                self.digests.push(digest);
                files.push(file);
            }
        }
        Ok(files)
    }

    /// What no rows mean, by `on_empty`.
    fn empty(&self, attempt: &mut Attempt, what: &str) -> Result<(), Failure> {
        match self.step.on_empty {
            OnEmpty::Ok => Ok(()),
            OnEmpty::Warn => {
                attempt.record.warnings.push(what.to_owned());
                Ok(())
            }
            OnEmpty::Fail => {
                let failure = Failure::new(FailureKind::Rejected, "ingest::empty", what.to_owned());
                Err(failure.help("if that is right at times, say so with `on_empty: warn` or `on_empty: ok`"))
            }
        }
    }

    /// Nothing to load, and that is fine. It is not recorded as done: files may still come.
    async fn nothing(&self, attempt: &mut Attempt, session: &mut dyn Session) -> Result<Effect, Failure> {
        session.rollback().await?;
        attempt.record.rows = Rows::default();
        Ok(Effect::of_rows(Rows::default()))
    }

    async fn stage(
        &mut self,
        attempt: &mut Attempt,
        session: &mut dyn Session,
        staging: &TableName,
        way: Way,
    ) -> Result<Option<Rejects>, Failure> {
        let existing = existing_columns(session, &self.step.table).await?;
        let (step, list) = (self.step.clone(), self.files.clone());
        let resolved = blocking(move || {
            source::Rows::resolve(&list, &step.files, &step.columns, existing.as_deref(), step.schema_contract, &step.table.to_string())
        })
        .await?;
        attempt.record.warnings.extend(resolved.warnings.iter().cloned());
        let added = resolved.columns.iter().filter(|column| column.origin == Origin::Added);
        attempt.record.warnings.extend(added.map(|column| format!("column `{}` ({}) is new", column.name, column.kind)));
        if resolved.columns.is_empty() {
            self.without_columns(attempt, &resolved).await?;
            return Ok(None);
        }
        self.refuse_own_columns(resolved.columns.iter().map(|column| column.name.as_str()))?;
        self.create(attempt, session, staging, way, &resolved).await?;
        let mut rejects = Rejects::open(attempt, session, staging, &self.step.table, self.load.id()).await?;
        if whole::load(self, attempt, session, staging, &resolved).await?.is_none() {
            rejects.rows = self.append(attempt, session, staging, &rejects, &resolved).await?;
        }
        if self.step.metadata && way != Way::Rows {
            self.drop_defaults(attempt, session, staging).await?;
        }
        Ok(Some(rejects))
    }

    /// Parses every row; says how many were refused and staged.
    async fn append(
        &self,
        attempt: &mut Attempt,
        session: &mut dyn Session,
        staging: &TableName,
        rejects: &Rejects,
        resolved: &Resolved,
    ) -> Result<u64, Failure> {
        let targets = vec![AppendTarget { table: staging.clone(), columns: self.appended_columns(resolved) }, rejects.append_target()];
        self.tally().open(self.files.len());
        let stopwatch = attempt.run.request.clock.stopwatch();
        let chunks = self.chunks(attempt, resolved.clone());
        let extraction = FileExtraction::new("rows", &self.files, resolved, &self.tally, &attempt.progress);
        let result = session.append(targets, chunks, extraction.as_ref().map(|extraction| extraction as &dyn Extraction)).await;
        attempt.record.rows = self.tally().rows();
        let counts = result?;
        attempt.record_statement(&format!("append to {staging}"), None, &stopwatch, counts.first().copied());
        let refused = self.tally().refusal(&self.step.table);
        refused.map_or(Ok(()), Err)?;
        Ok(counts.get(1).copied().unwrap_or(0))
    }

    fn reader(&self, attempt: &Attempt, resolved: &Resolved) -> source::Rows {
        source::Rows::start(self.files.clone(), &self.step.files, resolved, self.step.schema_contract, attempt.cancelled.clone())
    }

    /// No record, no declaration and no table says what the columns are: records that are there can only be refused ones.
    async fn without_columns(&self, attempt: &mut Attempt, resolved: &Resolved) -> Result<(), Failure> {
        let count = self.files.len();
        self.tally().open(count);
        let mut reader = self.reader(attempt, resolved);
        let tally = Arc::clone(&self.tally);
        blocking(move || {
            while let Some(batch) = reader.next() {
                tally.lock().unwrap_or_else(PoisonError::into_inner).add(&mut batch?);
            }
            Ok(())
        })
        .await?;
        let refused = self.tally().refusal(&self.step.table);
        refused.map_or(Ok(()), Err)?;
        self.empty(attempt, &format!("no rows for `{}` in {}", self.step.table, figure::plural(count, "file")))
    }

    async fn create(
        &self,
        attempt: &mut Attempt,
        session: &mut dyn Session,
        staging: &TableName,
        way: Way,
        resolved: &Resolved,
    ) -> Result<(), Failure> {
        let (capabilities, type_name) = (self.capabilities, self.capabilities.type_name);
        let mut columns: Vec<String> = resolved
            .columns
            .iter()
            .map(|column| {
                let not_null = if column.nullable { "" } else { " NOT NULL" };
                format!("{} {}{not_null}", capabilities.quote(&column.name), type_name(column.kind))
            })
            .collect();
        if self.step.metadata {
            let run_id = capabilities.text(&attempt.run.request.run_id);
            let now = attempt.run.request.clock.now().strftime("%Y-%m-%d %H:%M:%S%.6f").to_string();
            columns.push(format!("_errand_run_id {} DEFAULT {run_id}", type_name(ColumnType::Text)));
            columns.push(format!("_errand_source {}", type_name(ColumnType::Text)));
            columns.push(format!("_errand_row {}", type_name(ColumnType::Bigint)));
            columns.push(format!("_errand_loaded_at {} DEFAULT '{now}'", type_name(ColumnType::Timestamp)));
        }
        let sql = format!("CREATE {} {} ({})", way.kind(session), capabilities.quote_table(staging), columns.join(", "));
        attempt.send(session, &sql).await.map(|_| ())
    }

    /// The staging table becomes the target in some modes, where this run's values must not be anybody's default.
    async fn drop_defaults(&self, attempt: &mut Attempt, session: &mut dyn Session, staging: &TableName) -> Result<(), Failure> {
        for column in ["_errand_run_id", "_errand_loaded_at"] {
            attempt.send(session, &format!("ALTER TABLE {} ALTER {column} DROP DEFAULT", self.capabilities.quote_table(staging))).await?;
        }
        Ok(())
    }

    /// The columns that chunks carry; run and time are defaults of the staging table.
    fn appended_columns(&self, resolved: &Resolved) -> Vec<(String, ColumnType)> {
        let mut columns: Vec<(String, ColumnType)> = resolved.columns.iter().map(|column| (column.name.clone(), column.kind)).collect();
        if self.step.metadata {
            columns.extend([("_errand_source".to_owned(), ColumnType::Text), ("_errand_row".to_owned(), ColumnType::Bigint)]);
        }
        columns
    }

    /// Feeds the warehouse: batches from the reader with their metadata, refused rows into their own table. Reads nothing before it is asked.
    fn chunks(&self, attempt: &Attempt, resolved: Resolved) -> NextChunk {
        let (tally, metadata, load_id) = (Arc::clone(&self.tally), self.step.metadata, self.load.id());
        let (files, dialect, contract) = (self.files.clone(), self.step.files.clone(), self.step.schema_contract);
        let cancelled = attempt.cancelled.clone();
        let mut reader = None;
        let progress = attempt.progress.clone();
        let mut rejected: Option<RecordBatch> = None;
        let mut bytes_seen = 0;
        Box::new(move || {
            if let Some(rows) = rejected.take() {
                return Ok(Some(Chunk { table: 1, rows }));
            }
            let reader = reader.get_or_insert_with(|| source::Rows::start(files.clone(), &dialect, &resolved, contract, cancelled.clone()));
            let Some(mut batch) = reader.next().transpose()? else { return Ok(None) };
            progress.add_rows(batch.read);
            let bytes = reader.bytes_read();
            progress.add_bytes(bytes.saturating_sub(bytes_seen));
            bytes_seen = bytes;
            let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
            tally.add(&mut batch);
            if tally.is_past_limit_for_good() {
                return Ok(None);
            }
            if !batch.rejected.is_empty() {
                rejected = Some(reject::batch(&load_id, &batch.rejected)?);
            }
            let path = reader.files()[batch.file].path.clone();
            with_metadata(batch, &path, metadata).map(|rows| Some(Chunk { table: 0, rows }))
        })
    }

    async fn publish(
        &mut self,
        attempt: &mut Attempt,
        session: &mut dyn Session,
        (staging, way): (TableName, Way),
        rejects: Rejects,
    ) -> Result<Effect, Failure> {
        let files = self.files.clone();
        let (rows, per_file) = {
            let tally = self.tally();
            (tally.rows(), tally.files().to_vec())
        };
        if rows.read == rows.rejected {
            self.empty(attempt, &format!("no rows for `{}` in {}", self.step.table, figure::plural(files.len(), "file")))?;
            let takes_all = match self.step.publish.mode {
                Mode::Replace => true,
                Mode::Scd2 => self.step.publish.cursor.is_none(),
                Mode::Append | Mode::Merge | Mode::DeleteInsert => false,
            };
            if self.step.on_empty == OnEmpty::Warn && takes_all {
                return self.nothing(attempt, session).await;
            }
        }
        self.record_files(attempt);
        let loaded: Vec<LoadedFile> = files
            .iter()
            .zip(&per_file)
            .zip(&self.digests)
            .filter(|(_, digest)| !digest.is_empty())
            .map(|((file, rows), digest)| LoadedFile {
                path: self.ledger_path(file),
                bytes: file.bytes,
                digest: digest.clone(),
                rows_read: rows.read,
            })
            .collect();
        let stage = Stage {
            connection: &self.step.connection,
            load: &self.load,
            staging,
            way,
            target: &self.step.table,
            publish: &self.step.publish,
            checks: &self.step.checks,
            metadata: &METADATA,
            files: &loaded,
            rejects: Some(rejects),
            // Without a file the table is emptied, but the interval stays open: files may still come.
            is_done: !files.is_empty(),
            rejected: rows.rejected,
            read: rows.read,
        };
        let effect = stage::publish(attempt, session, &stage).await?;
        session.sweep().await;
        Ok(Effect { bytes_read: self.carried, ..effect })
    }
}

/// Why there is no file to load.
fn unfound(attempt: &Attempt, pattern: &str) -> String {
    match attempt.record.files.len() {
        0 => format!("no file to load matches `{pattern}`"),
        1 => format!("1 file matches `{pattern}`, and it was loaded before"),
        count => format!("{count} files match `{pattern}`, and all were loaded before"),
    }
}

/// The data columns of the target, if it is there.
async fn existing_columns(session: &mut dyn Session, table: &TableName) -> Result<Option<Vec<(String, ColumnType)>>, Failure> {
    let columns = session.columns(table).await?;
    let own = |name: &str| METADATA.iter().chain(&[VALID_FROM, VALID_TO]).any(|own| own.eq_ignore_ascii_case(name));
    let data = |columns: Vec<crate::warehouse::TableColumn>| -> Vec<(String, ColumnType)> {
        columns.into_iter().filter(|column| !own(&column.name)).filter_map(|column| Some((column.name, column.kind?))).collect()
    };
    Ok(columns.map(data).filter(|columns| !columns.is_empty()))
}

/// What names the content of a file, and whether the table has it, by what is `known` of its path and size. A file that goes in whole is not
/// read for that: its version is its name.
async fn content(file: &FileEntry, known: &[String], is_whole: bool) -> Result<(String, bool), Failure> {
    let version = file.version();
    if !version.is_empty() && known.contains(&version) {
        return Ok((version, true));
    }
    if is_whole && !version.is_empty() && known.is_empty() {
        return Ok((version, false));
    }
    let hashed = file.clone();
    let digest = blocking(move || hashed.digest()).await?;
    if known.contains(&digest) {
        return Ok((digest, true));
    }
    // Of one that went in whole before, nothing but its version was written down; a copy of it may have another.
    if known.iter().any(|known| known.starts_with("etag ")) {
        let message = format!(
            "`{}` was loaded before, and the bucket says that it was written again since: whether its content is new is not known",
            file.path
        );
        return Err(Failure::new(FailureKind::Rejected, "ingest::unknown_content", message)
            .help("bring new content under a name of its own, and remove this file if it was only copied"));
    }
    Ok((digest, false))
}

fn with_metadata(batch: Batch, path: &str, metadata: bool) -> Result<RecordBatch, Failure> {
    if !metadata {
        return Ok(batch.rows);
    }
    let source: ArrayRef = Arc::new(StringArray::from_iter_values(std::iter::repeat_n(path, batch.rows.num_rows())));
    let mut fields: Vec<Arc<Field>> = batch.rows.schema().fields().iter().cloned().collect();
    fields.push(Arc::new(Field::new("_errand_source", DataType::Utf8, true)));
    fields.push(Arc::new(Field::new("_errand_row", DataType::Int64, true)));
    let mut columns = batch.rows.columns().to_vec();
    columns.push(source);
    columns.push(Arc::new(batch.row_numbers));
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
        .map_err(|error| Failure::new(FailureKind::Internal, "ingest::batch", format!("a batch does not fit its columns: {error}")))
}

/// Runs file work on a thread that may block.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Failure> + Send + 'static) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Failure::new(FailureKind::Internal, "ingest::panic", format!("reading ended by a defect in errand: {error}")))?
}
