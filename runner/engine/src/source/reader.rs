//! The threads: one reads and splits, others parse, batches leave in order.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use errand_model::document::step::SchemaContract;
use errand_model::failure::{Failure, FailureKind, Place};
use errand_model::job::Files;
use tokio_util::sync::CancellationToken;

use super::dialect::Dialect;
use super::header::{self, Mapping};
use super::parse::{Plan, parse};
use super::slab::Slab;
use super::stream::{Run, Stream};
use super::{Batch, Resolved};
use crate::store::FileEntry;

/// Bytes of all records on their way, and of the batches made of them. One run of records is admitted even when it needs more.
const BUDGET: usize = 24 << 20;
/// Most records of a slab.
const RECORDS: usize = 8 * 1024;
/// Most cells of a slab, unless one record has more.
const CELLS: usize = 128 * 1024;
/// Most parsing threads: more than this wait for the one that reads.
const WORKERS: usize = 6;
/// How often waiting threads look whether they should stop.
const TICK: Duration = Duration::from_millis(50);

type Parsed = Result<Batch, Failure>;

/// What the reading thread tells the consumer.
enum Answer {
    /// A slab was handed out: what it costs, and where its batch will come from.
    Slab(usize, Receiver<Parsed>),
    /// Everything was handed out. Without this word an end is a defect, never the end of the rows.
    End,
}

type Task = (Slab, Sender<Parsed>);

/// Reads files into batches, in the order of the files. Blocks: belongs on a thread of its own.
///
/// Dropping it, or cancelling its token, ends its threads.
pub struct Reader {
    shared: Arc<Shared>,
    answers: Option<Receiver<Result<Answer, Failure>>>,
    threads: Vec<JoinHandle<()>>,
    done: bool,
}

struct Shared {
    files: Vec<FileEntry>,
    plan: Plan,
    cancel: CancellationToken,
    stopped: AtomicBool,
    progress: Arc<AtomicU64>,
    /// Bytes and slabs admitted and not yet handed over.
    used: Mutex<(usize, usize)>,
    most_slabs: usize,
    freed: Condvar,
}

impl Reader {
    /// Starts to read.
    #[must_use]
    pub fn start(files: Vec<FileEntry>, dialect: &Files, resolved: &Resolved, contract: SchemaContract, cancel: CancellationToken) -> Self {
        Self::begin(files, Plan::new(Dialect::of(dialect), resolved.clone(), contract), cancel)
    }

    pub(super) fn begin(files: Vec<FileEntry>, plan: Plan, cancel: CancellationToken) -> Self {
        let workers = std::thread::available_parallelism().map_or(1, usize::from).min(WORKERS);
        let shared = Arc::new(Shared {
            files,
            plan,
            cancel,
            stopped: AtomicBool::new(false),
            progress: Arc::new(AtomicU64::new(0)),
            used: Mutex::new((0, 0)),
            most_slabs: workers * 2 + 2,
            freed: Condvar::new(),
        });
        let (answer, answers) = channel();
        let (task, tasks) = channel();
        let tasks = Arc::new(Mutex::new(tasks));
        let mut threads = vec![spawn("source-read", &shared, move |shared| read(shared, &answer, &task))];
        for _ in 0..workers {
            let tasks = Arc::clone(&tasks);
            threads.push(spawn("source-parse", &shared, move |shared| work(shared, &tasks)));
        }
        Self { shared, answers: Some(answers), threads: threads.into_iter().flatten().collect(), done: false }
    }

    /// The files, in the order of their batches.
    #[must_use]
    pub fn files(&self) -> &[FileEntry] {
        &self.shared.files
    }

    /// Bytes read so far, as they lie there.
    #[must_use]
    pub fn bytes_read(&self) -> u64 {
        self.shared.progress.load(Ordering::Relaxed)
    }

    /// The next rows; none at the end and after a failure. A file without records has no batch.
    #[expect(clippy::should_implement_trait, reason = "a method that blocks should look like one, not like a cheap iterator")]
    pub fn next(&mut self) -> Option<Result<Batch, Failure>> {
        if self.done {
            return None;
        }
        let result = self.receive();
        if !matches!(result, Some(Ok(_))) {
            self.stop();
        }
        result
    }

    fn receive(&self) -> Option<Result<Batch, Failure>> {
        let answer = self.answers.as_ref()?.recv();
        if self.shared.cancel.is_cancelled() {
            return Some(Err(cancelled()));
        }
        let ended = || {
            if self.shared.is_stopped() { cancelled() } else { defect("a thread that reads files ended without an answer") }
        };
        let (cost, batch) = match answer {
            Ok(Ok(Answer::Slab(cost, batch))) => (cost, batch),
            Ok(Ok(Answer::End)) => return None,
            Ok(Err(failure)) => return Some(Err(failure)),
            Err(_) => return Some(Err(ended())),
        };
        let batch = batch.recv().unwrap_or_else(|_| Err(ended()));
        self.shared.release(cost);
        Some(batch)
    }

    fn stop(&mut self) {
        self.done = true;
        self.shared.stopped.store(true, Ordering::Relaxed);
        self.answers = None;
        self.shared.freed.notify_all();
        for thread in self.threads.drain(..) {
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

impl Shared {
    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed) || self.cancel.is_cancelled()
    }

    /// Waits until there is room; false when it is time to stop.
    fn admit(&self, cost: usize) -> bool {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        while used.1 > 0 && (used.0 + cost > BUDGET || used.1 >= self.most_slabs) {
            if self.is_stopped() {
                return false;
            }
            used = self.freed.wait_timeout(used, TICK).unwrap_or_else(PoisonError::into_inner).0;
        }
        *used = (used.0 + cost, used.1 + 1);
        !self.is_stopped()
    }

    /// Waits until nothing is on its way, then says whether it is time to stop.
    fn is_stopped_when_idle(&self) -> bool {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        while used.1 > 0 && !self.is_stopped() {
            used = self.freed.wait_timeout(used, TICK).unwrap_or_else(PoisonError::into_inner).0;
        }
        self.is_stopped()
    }

    fn release(&self, cost: usize) {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        *used = (used.0 - cost, used.1 - 1);
        self.freed.notify_one();
    }
}

fn cancelled() -> Failure {
    Failure::new(FailureKind::Cancelled, "source::cancelled", "reading the files was cancelled")
}

fn defect(message: &str) -> Failure {
    Failure::new(FailureKind::Internal, "source::panic", message).help("this is a defect of errand: report it")
}

fn spawn(name: &str, shared: &Arc<Shared>, body: impl FnOnce(&Shared) + Send + 'static) -> Option<JoinHandle<()>> {
    let shared = Arc::clone(shared);
    // Without the thread its channels close, which the consumer is told as a defect.
    std::thread::Builder::new().name(name.to_owned()).spawn(move || body(&shared)).ok()
}

fn panicked<T>(body: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned()).or_else(|| panic.downcast_ref::<String>().cloned());
        Err(defect(&format!("a thread that reads files panicked: {}", text.unwrap_or_default())))
    })
}

fn read(shared: &Shared, answers: &Sender<Result<Answer, Failure>>, tasks: &Sender<Task>) {
    for index in 0..shared.files.len() {
        if let Err(failure) = panicked(|| read_file(shared, index, answers, tasks)) {
            // Nobody listens any more when this fails.
            let _ = answers.send(Err(failure));
            return;
        }
        if shared.is_stopped() {
            return;
        }
    }
    let _ = answers.send(Ok(Answer::End));
}

fn read_file(shared: &Shared, index: usize, answers: &Sender<Result<Answer, Failure>>, tasks: &Sender<Task>) -> Result<(), Failure> {
    let (entry, plan) = (&shared.files[index], &shared.plan);
    if entry.bytes == 0 && plan.dialect().is_plain(&entry.path) {
        return Ok(());
    }
    let mut stream = Stream::open(entry, plan.dialect(), &shared.progress)?;
    let Some(mapping) = mapping(&mut stream, plan, entry)? else { return Ok(()) };
    let mapping = Arc::new(mapping);
    let width = mapping.fields.max(plan.resolved().columns.len()).max(1);
    let most = (CELLS / width).clamp(1, RECORDS);
    let mut first_row = 1;
    while let Some(Run { bytes, records, offset, mark }) =
        stream.next(most, &|alone| if alone { shared.is_stopped_when_idle() } else { shared.is_stopped() })?
    {
        let span = records.last().map_or(0, |record| record.end) - records.first().map_or(0, |record| record.start);
        let cost = span as usize * 2 + records.len() * width * size_of::<i128>();
        let count = records.len() as u64;
        let slab = Slab { file: index, bytes, records, first_row, offset, mark, mapping: Arc::clone(&mapping) };
        first_row += count;
        let (answer, receiver) = channel();
        if !shared.admit(cost) || answers.send(Ok(Answer::Slab(cost, receiver))).is_err() {
            return Ok(());
        }
        if tasks.send((slab, answer)).is_err() {
            return Err(defect("no thread is left to parse records"));
        }
    }
    Ok(())
}

/// How the fields of a file become columns; none for a file without records.
fn mapping(stream: &mut Stream, plan: &Plan, entry: &FileEntry) -> Result<Option<Mapping>, Failure> {
    if !plan.dialect().is_csv() {
        return Ok(Some(header::by_position(plan.resolved())));
    }
    let mapping = if plan.dialect().header {
        let Some(header) = header::read(stream, plan.dialect(), &entry.path)? else { return Ok(None) };
        if plan.resolved().columns.is_empty() {
            // Nothing but headers was found when columns were looked for.
            return Ok(None);
        }
        header::map(&header, plan.resolved(), plan.contract(), &entry.path)?
    } else {
        header::by_position(plan.resolved())
    };
    if mapping.fields == 1 {
        stream.keep_blank();
    }
    Ok(Some(mapping))
}

fn work(shared: &Shared, tasks: &Mutex<Receiver<Task>>) {
    loop {
        let task = tasks.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok((slab, answer)) = task else { return };
        if shared.is_stopped() {
            return;
        }
        let path = &shared.files[slab.file].path;
        let parsed = panicked(|| parse(&shared.plan, &slab, path)).map_err(|failure| match failure.kind {
            FailureKind::Internal if failure.place.is_none() => failure.at(Place { file: path.clone(), line: slab.mark.line, column: 0 }),
            _ => failure,
        });
        drop(slab);
        // Nobody listens any more when this fails.
        let _ = answer.send(parsed);
    }
}
