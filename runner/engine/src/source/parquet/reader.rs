//! Files as batches, in their order, on a thread of their own.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use ::parquet::arrow::ProjectionMask;
use ::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use ::parquet::file::metadata::RowGroupMetaData;
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, RecordBatchOptions, new_null_array};
use arrow::compute::filter;
use arrow::datatypes::{DataType, SchemaRef};
use arrow::error::ArrowError;
use errand_model::failure::{Failure, FailureKind};
use tokio_util::sync::CancellationToken;

use super::convert::{Conversion, Faults, complaint};
use super::input::{Opened, damaged};
use super::old::Nanos;
use super::value::value;
use crate::output::form;
use crate::source::scalar::Reason;
use crate::source::{Batch, Rejected, Resolved, column};
use crate::store::FileEntry;

/// Bytes of a batch, by what the footer says of the columns that are read.
const BATCH_BYTES: u64 = 2 << 20;
/// Most rows of a batch.
const BATCH_ROWS: u64 = 8192;
/// Bytes of text of one batch: columns of few distinct long texts are small in a file and large here.
const TEXT_BYTES: usize = 8 << 20;
/// Batches that may wait for the consumer.
const WAITING: usize = 2;
/// How often a waiting consumer looks whether it should stop.
const TICK: Duration = Duration::from_millis(50);
/// Longest text of a record that is kept.
const LONGEST: usize = 8 * 1024;

/// What the reading thread tells the consumer.
enum Answer {
    Batch(Batch),
    /// Everything was handed out. Without this word an end is a defect, never the end of the rows.
    End,
}

/// Reads Parquet files into batches of the resolved columns, in the order of the files. Blocks: belongs on a thread of its own.
///
/// Dropping it, or cancelling its token, ends its thread.
pub struct Reader {
    files: Arc<Vec<FileEntry>>,
    cancel: CancellationToken,
    stopped: Arc<AtomicBool>,
    progress: Arc<AtomicU64>,
    answers: Option<Receiver<Result<Answer, Failure>>>,
    thread: Option<JoinHandle<()>>,
}

impl Reader {
    /// Starts to read.
    #[must_use]
    pub fn start(files: Vec<FileEntry>, resolved: &Resolved, cancel: CancellationToken) -> Self {
        let files: Vec<FileEntry> = files.into_iter().map(|file| file.cancelled_by(cancel.clone())).collect();
        let (files, stopped, progress) = (Arc::new(files), Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (sender, answers) = sync_channel(WAITING);
        let work = Work {
            files: Arc::clone(&files),
            schema: Arc::new(column::schema(resolved)),
            resolved: resolved.clone(),
            cancel: cancel.clone(),
            stopped: Arc::clone(&stopped),
            progress: Arc::clone(&progress),
        };
        // Without the thread its channel closes, which the consumer is told as a defect.
        let thread = std::thread::Builder::new().name("source-parquet".to_owned()).spawn(move || work.run(&sender)).ok();
        Self { files, cancel, stopped, progress, answers: Some(answers), thread }
    }

    /// The files, in the order of their batches.
    #[must_use]
    pub fn files(&self) -> &[FileEntry] {
        &self.files
    }

    /// Bytes read so far, as they lie there; columns that are not loaded count once their file is done.
    #[must_use]
    pub fn bytes_read(&self) -> u64 {
        self.progress.load(Ordering::Relaxed)
    }

    /// The next rows; none at the end and after a failure. A file without rows has no batch.
    #[expect(clippy::should_implement_trait, reason = "a method that blocks should look like one, not like a cheap iterator")]
    pub fn next(&mut self) -> Option<Result<Batch, Failure>> {
        let answer = self.receive()?;
        match answer {
            Ok(Answer::Batch(batch)) => Some(Ok(batch)),
            Ok(Answer::End) => {
                self.stop();
                None
            }
            Err(failure) => {
                self.stop();
                Some(Err(failure))
            }
        }
    }

    fn receive(&self) -> Option<Result<Answer, Failure>> {
        let answers = self.answers.as_ref()?;
        loop {
            if self.cancel.is_cancelled() {
                return Some(Err(cancelled()));
            }
            match answers.recv_timeout(TICK) {
                Ok(answer) => return Some(answer),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Some(Err(defect("a thread that reads files ended without an answer"))),
            }
        }
    }

    fn stop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        self.answers = None;
        if let Some(thread) = self.thread.take() {
            // Its panic was already told to the consumer.
            let _ = thread.join();
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.stop();
    }
}

fn cancelled() -> Failure {
    Failure::new(FailureKind::Cancelled, "source::cancelled", "reading the files was cancelled")
}

fn defect(message: &str) -> Failure {
    Failure::new(FailureKind::Internal, "source::panic", message).help("this is a defect of errand: report it")
}

/// What the thread needs.
struct Work {
    files: Arc<Vec<FileEntry>>,
    resolved: Resolved,
    schema: SchemaRef,
    cancel: CancellationToken,
    stopped: Arc<AtomicBool>,
    progress: Arc<AtomicU64>,
}

type Answers = SyncSender<Result<Answer, Failure>>;

impl Work {
    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed) || self.cancel.is_cancelled()
    }

    fn run(&self, answers: &Answers) {
        let mut done = 0;
        for (index, entry) in self.files.iter().enumerate() {
            // Content that is damaged in a way that the crate does not expect ends in a panic of it.
            let read = catch_unwind(AssertUnwindSafe(|| self.read(index, entry, answers)));
            if let Err(failure) = read.unwrap_or_else(|_| Err(damaged(&entry.path, "its content is damaged"))) {
                // Nobody listens any more when this fails.
                let _ = answers.send(Err(failure));
                return;
            }
            if self.is_stopped() {
                return;
            }
            done += entry.bytes;
            self.progress.store(done, Ordering::Relaxed);
        }
        let _ = answers.send(Ok(Answer::End));
    }

    fn read(&self, index: usize, entry: &FileEntry, answers: &Answers) -> Result<(), Failure> {
        let opened = Opened::open(entry, &self.progress)?;
        let fields = opened.schema().fields();
        let places: Vec<Option<usize>> = self
            .resolved
            .columns
            .iter()
            .map(|column| fields.iter().position(|field| field.name().eq_ignore_ascii_case(&column.from)))
            .collect();
        let mut roots: Vec<usize> = places.iter().flatten().copied().collect();
        roots.sort_unstable();
        roots.dedup();
        let sources: Vec<Option<usize>> = places.iter().map(|place| place.and_then(|place| roots.binary_search(&place).ok())).collect();
        let uuids: Vec<bool> = places.iter().map(|place| place.is_some_and(|place| opened.is_uuid(place))).collect();
        let metadata = opened.metadata.metadata();
        let expected: i64 = metadata.row_groups().iter().map(RowGroupMetaData::num_rows).sum();
        let mask = ProjectionMask::roots(metadata.file_metadata().schema_descr(), roots.iter().copied());
        let rows = batch_rows(&opened, &mask);
        let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(opened.input.clone(), opened.metadata.clone());
        let reader = builder.with_projection(mask).with_batch_size(rows).build().map_err(|error| opened.input.failure(&error))?;
        let mut nanos = Nanos::open(&opened, &roots, rows)?;
        let flag = |source: &Option<usize>| nanos.as_ref().zip(*source).and_then(|(nanos, source)| nanos.flag(source, roots.len()));
        let flags = sources.iter().map(flag).collect();
        let mut file = FileWork { work: self, index, entry, sources, uuids, flags, next_row: 1 };
        for batch in reader {
            let mut batch = batch.map_err(|error| opened.input.failure(&error))?;
            if let Some(nanos) = &mut nanos {
                batch = nanos.beside(&batch, &opened)?;
            }
            if !file.pass_on(&batch, answers)? {
                return Ok(());
            }
        }
        if file.next_row - 1 == expected { Ok(()) } else { Err(damaged(&entry.path, "its rows are not as many as it says")) }
    }
}

/// Rows of a batch, by the bytes that the footer gives for the columns that are read.
fn batch_rows(opened: &Opened, mask: &ProjectionMask) -> usize {
    let groups = opened.metadata.metadata().row_groups();
    let widest = groups.iter().map(|group| {
        let columns = group.columns().iter().enumerate().filter(|(leaf, _)| mask.leaf_included(*leaf));
        let bytes: i64 =
            columns.map(|(_, column)| column.unencoded_byte_array_data_bytes().unwrap_or(0).max(column.uncompressed_size())).sum();
        bytes.unsigned_abs() / group.num_rows().unsigned_abs().max(1)
    });
    let bytes = widest.max().unwrap_or(0).max(1);
    usize::try_from((BATCH_BYTES / bytes).clamp(16, BATCH_ROWS)).unwrap_or(16)
}

/// One file under way.
struct FileWork<'a> {
    work: &'a Work,
    index: usize,
    entry: &'a FileEntry,
    /// Where each resolved column stands in the batches of the file.
    sources: Vec<Option<usize>>,
    uuids: Vec<bool>,
    /// Where the batches say which values of a column are finer than they can be.
    flags: Vec<Option<usize>>,
    next_row: i64,
}

impl FileWork<'_> {
    /// Hands rows on, in parts when their texts are long; false when nobody wants them.
    fn pass_on(&mut self, batch: &RecordBatch, answers: &Answers) -> Result<bool, Failure> {
        if batch.num_rows() > 1 && text_bytes(batch) > TEXT_BYTES {
            let half = batch.num_rows() / 2;
            return Ok(self.pass_on(&batch.slice(0, half), answers)? && self.pass_on(&batch.slice(half, batch.num_rows() - half), answers)?);
        }
        let converted = self.convert(batch).map_err(|error| {
            let message = format!("cannot make a batch of `{}`: {error}", self.entry.path);
            Failure::new(FailureKind::Internal, "source::arrow", message).help("this is a defect of errand: report it")
        })?;
        Ok(!self.work.is_stopped() && answers.send(Ok(Answer::Batch(converted))).is_ok())
    }

    fn convert(&mut self, batch: &RecordBatch) -> Result<Batch, ArrowError> {
        let (resolved, count) = (&self.work.resolved, batch.num_rows());
        let mut faults = Faults::new(count);
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(resolved.columns.len());
        for (index, (column, source)) in resolved.columns.iter().zip(&self.sources).enumerate() {
            let nothing;
            let array = match source {
                Some(source) => batch.column(*source),
                None => {
                    nothing = new_null_array(&DataType::Null, count);
                    &nothing
                }
            };
            if let Some(flag) = self.flags[index] {
                faults.add_finer(batch.column(flag).as_boolean(), array, index);
            }
            columns.push(Conversion { index, column, array, is_uuid: self.uuids[index] }.convert(&mut faults));
        }
        let first = self.next_row;
        self.next_row += count as i64;
        let mut row_numbers = Int64Array::from_iter_values(first..self.next_row);
        let mut rows = count;
        let mut rejected = Vec::new();
        if !faults.list.is_empty() {
            let kept = BooleanArray::from(faults.bad.iter().map(|bad| !bad).collect::<Vec<bool>>());
            rows = kept.true_count();
            for column in &mut columns {
                *column = filter(column, &kept)?;
            }
            row_numbers = Int64Array::from(filter(&row_numbers, &kept)?.to_data());
            faults.list.sort_unstable_by_key(|(row, ..)| *row);
            rejected = faults.list.iter().map(|(row, column, reason)| self.rejected(batch, first, *row, *column, *reason)).collect();
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let rows = RecordBatch::try_new_with_options(Arc::clone(&self.work.schema), columns, &options)?;
        Ok(Batch { file: self.index, rows, row_numbers, read: count as u64, rejected })
    }

    fn rejected(&self, batch: &RecordBatch, first: i64, row: usize, column: usize, reason: Reason) -> Rejected {
        let resolved = &self.work.resolved.columns[column];
        let found = self.sources[column].map_or(super::value::Value::Null, |source| value(batch.column(source).as_ref(), row));
        Rejected {
            file: self.entry.path.clone(),
            row: (first + row as i64).unsigned_abs(),
            line: 0,
            position: 0,
            byte_offset: 0,
            column: Some(resolved.name.clone()),
            error: complaint(resolved, &found, reason),
            raw: self.record(batch, row),
            by_contract: false,
        }
    }

    /// The record as JSON, with the names of its file.
    fn record(&self, batch: &RecordBatch, row: usize) -> String {
        let mut out = vec![b'{'];
        for (column, source) in self.work.resolved.columns.iter().zip(&self.sources) {
            let Some(source) = source else { continue };
            if out.len() > 1 {
                out.push(b',');
            }
            form::string_json(&mut out, column.from.as_bytes());
            out.push(b':');
            value(batch.column(*source).as_ref(), row).json(&mut out);
        }
        out.push(b'}');
        cut(&out)
    }
}

/// A text that is not kept whole when it is long.
fn cut(text: &[u8]) -> String {
    let mut shown = String::from_utf8_lossy(text).into_owned();
    if shown.len() > LONGEST {
        let end = (0..=LONGEST).rev().find(|end| shown.is_char_boundary(*end)).unwrap_or(0);
        shown.truncate(end);
        shown.push('…');
    }
    shown
}

/// Bytes of the texts of a batch, each counted where it stands.
fn text_bytes(batch: &RecordBatch) -> usize {
    let lengths = batch.columns().iter().map(|column| match column.data_type() {
        DataType::Utf8View => column.as_string_view().lengths().map(|length| length as usize).sum(),
        DataType::BinaryView => column.as_binary_view().lengths().map(|length| length as usize).sum(),
        _ => 0,
    });
    lengths.sum()
}
