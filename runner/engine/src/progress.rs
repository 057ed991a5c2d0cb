//! Progress of long work: a line per running step on a terminal, a log line now and then elsewhere.
//!
//! Counting is an atomic addition and may be done for every batch; drawing happens elsewhere, a few times a second.

use std::fmt;
use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use errand_model::report::Outcome;
use indicatif::{MultiProgress, ProgressBar, ProgressState, ProgressStyle};

use crate::clock::{Clock, Stopwatch};
use crate::report::figure;

/// How often a line on a terminal is drawn.
const DRAW_EVERY: Duration = Duration::from_millis(100);

/// How often a long step is told of where there is no terminal.
const LOG_EVERY: Duration = Duration::from_secs(30);

/// Longest line that is drawn: it must not wrap in 80 columns.
const WIDTH: usize = 78;

/// Where progress is shown. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Progress(Arc<Mode>);

enum Mode {
    Terminal(MultiProgress),
    Quiet { running: Arc<Mutex<Vec<Arc<Work>>>>, ticker: Mutex<Option<Sender<()>>> },
}

/// Progress of one step. Cheap to clone; ends with [`StepProgress::finish`] or with the last clone.
#[derive(Clone)]
pub struct StepProgress(Arc<Shown>);

struct Shown {
    work: Arc<Work>,
    bar: Option<ProgressBar>,
    progress: Progress,
}

/// What is counted.
struct Work {
    step: String,
    kind: String,
    span: tracing::Span,
    since: Stopwatch,
    rows: AtomicU64,
    bytes: AtomicU64,
    total_bytes: AtomicU64,
    message: Mutex<String>,
}

impl Progress {
    /// Lines on stderr when that is a `terminal`, log lines otherwise.
    #[must_use]
    pub fn new(terminal: bool) -> Self {
        Self(Arc::new(if terminal {
            Mode::Terminal(MultiProgress::new())
        } else {
            Mode::Quiet { running: Arc::default(), ticker: Mutex::default() }
        }))
    }

    /// A step that runs from now on; `kind` is the word of the definition.
    #[must_use]
    pub fn step(&self, id: &str, kind: &str) -> StepProgress {
        let work = Arc::new(Work {
            step: id.to_owned(),
            kind: kind.to_owned(),
            span: tracing::Span::current(),
            since: Clock::system().stopwatch(),
            rows: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            total_bytes: AtomicU64::new(0),
            message: Mutex::default(),
        });
        let bar = match self.0.as_ref() {
            Mode::Terminal(lines) => Some(draw(lines, &work)),
            Mode::Quiet { running, ticker } => {
                locked(running).push(Arc::clone(&work));
                locked(ticker).get_or_insert_with(|| tick(Arc::clone(running)));
                None
            }
        };
        StepProgress(Arc::new(Shown { work, bar, progress: self.clone() }))
    }

    /// Writes whole lines to stderr, above the lines of running steps. An stderr that is gone is no failure.
    pub fn print(&self, bytes: &[u8]) {
        let write = || drop(std::io::stderr().lock().write_all(bytes));
        match self.0.as_ref() {
            Mode::Terminal(lines) => lines.suspend(write),
            Mode::Quiet { .. } => write(),
        }
    }
}

impl StepProgress {
    /// So many rows more.
    pub fn add_rows(&self, rows: u64) {
        self.0.work.rows.fetch_add(rows, Ordering::Relaxed);
    }

    /// So many bytes more, as they lie in the source.
    pub fn add_bytes(&self, bytes: u64) {
        self.0.work.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// How many bytes there are in all.
    pub fn set_total_bytes(&self, bytes: u64) {
        self.0.work.total_bytes.store(bytes, Ordering::Relaxed);
    }

    /// What is being done now: `checks`, `publishing`.
    pub fn message(&self, text: &str) {
        text.clone_into(&mut locked(&self.0.work.message));
    }

    /// The step has ended: its line goes. What became of it is for the engine to tell.
    pub fn finish(self, outcome: Outcome) {
        if let Some(bar) = &self.0.bar {
            bar.finish_and_clear();
        }
        let work = &self.0.work;
        let (rows, bytes) = (work.rows.load(Ordering::Relaxed), work.bytes.load(Ordering::Relaxed));
        let (step, kind, outcome) = (work.step.as_str(), work.kind.as_str(), figure::outcome(outcome));
        work.span.in_scope(|| tracing::debug!(step, kind, outcome, rows, bytes, "progress ended"));
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        if let Mode::Quiet { running, .. } = self.progress.0.as_ref() {
            locked(running).retain(|work| !Arc::ptr_eq(work, &self.work));
        }
    }
}

impl Work {
    /// `load_orders  1,234,567 rows  120.4 of 512.0 MB  41.2 MB/s  0:12  checks`.
    fn line(&self) -> String {
        let mut parts = vec![format!("{:<20}", self.step)];
        let (rows, bytes) = (self.rows.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed));
        let total = self.total_bytes.load(Ordering::Relaxed);
        if rows > 0 {
            parts.push(format!("{} rows", figure::number(rows)));
        }
        match (bytes, total) {
            (0, 0) => {}
            (_, 0) => parts.push(figure::size(bytes)),
            (_, _) => parts.push(format!("{} of {}", figure::size(bytes), figure::size(total))),
        }
        if bytes > 0 {
            parts.push(format!("{}/s", figure::size(self.per_second(bytes))));
        }
        let message = locked(&self.message);
        if !message.is_empty() {
            parts.push(message.clone());
        }
        drop(message);
        let seconds = self.since.elapsed().as_secs();
        parts.push(format!("{}:{:02}", seconds / 60, seconds % 60));
        figure::cut(&parts.join("  "), WIDTH)
    }

    fn per_second(&self, count: u64) -> u64 {
        count.saturating_mul(1000) / self.since.elapsed_ms().max(1)
    }

    fn log(&self) {
        let (rows, bytes) = (self.rows.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed));
        let (step, time, doing) = (self.step.as_str(), figure::duration(self.since.elapsed_ms()), locked(&self.message).clone());
        self.span.in_scope(|| match (rows, bytes) {
            (0, 0) => tracing::info!(step, time, doing, "step is running"),
            (_, _) => {
                let total_bytes = self.total_bytes.load(Ordering::Relaxed);
                tracing::info!(step, time, rows, bytes, total_bytes, bytes_per_second = self.per_second(bytes), doing, "step is running");
            }
        });
    }
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mode = match self.0.as_ref() {
            Mode::Terminal(_) => "terminal",
            Mode::Quiet { .. } => "quiet",
        };
        f.debug_tuple("Progress").field(&mode).finish()
    }
}

impl fmt::Debug for StepProgress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("StepProgress").field(&self.0.work.step).finish()
    }
}

fn draw(lines: &MultiProgress, work: &Arc<Work>) -> ProgressBar {
    let shown = Arc::clone(work);
    let line = move |_: &ProgressState, writer: &mut dyn fmt::Write| {
        let _ = writer.write_str(&shown.line());
    };
    let style = ProgressStyle::with_template("{spinner} {line}").expect("the template is valid").with_key("line", line);
    let bar = lines.add(ProgressBar::new_spinner().with_style(style));
    bar.enable_steady_tick(DRAW_EVERY);
    bar
}

/// A thread that tells of the running steps until the returned sender is dropped.
fn tick(running: Arc<Mutex<Vec<Arc<Work>>>>) -> Sender<()> {
    let (sender, receiver): (Sender<()>, Receiver<()>) = channel();
    let tell = move || {
        while receiver.recv_timeout(LOG_EVERY) == Err(RecvTimeoutError::Timeout) {
            let long: Vec<Arc<Work>> = locked(&running).iter().filter(|work| work.since.elapsed() >= LOG_EVERY).map(Arc::clone).collect();
            long.iter().for_each(|work| work.log());
        }
    };
    if std::thread::Builder::new().name("progress".to_owned()).spawn(tell).is_err() {
        tracing::warn!("cannot start the thread that tells of long steps, they stay quiet");
    }
    sender
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_rows_bytes_and_what_is_done_and_fits_80_columns() {
        let progress = Progress::new(false);
        let step = progress.step("load_orders", "ingest");
        assert!(step.0.work.line().starts_with("load_orders           0:00"), "{}", step.0.work.line());
        step.add_rows(1_234_567);
        step.add_bytes(120 << 20);
        step.set_total_bytes(512 << 20);
        let line = step.0.work.line();
        assert!(line.starts_with("load_orders           1,234,567 rows  120.0 MB of 512.0 MB  "), "{line}");
        step.message(&"x".repeat(100));
        assert_eq!(step.0.work.line().chars().count(), WIDTH);
    }

    #[test]
    fn a_step_is_forgotten_when_it_ends_or_is_dropped() {
        let progress = Progress::new(false);
        let (first, second) = (progress.step("a", "sql"), progress.step("b", "sql"));
        let clone = first.clone();
        first.finish(Outcome::Succeeded);
        drop((clone, second));
        let Mode::Quiet { running, .. } = progress.0.as_ref() else { panic!("quiet") };
        assert!(locked(running).is_empty());
    }
}
