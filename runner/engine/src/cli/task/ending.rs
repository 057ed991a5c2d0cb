//! Why a task ends before its time, and how long it may take for that.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use errand_model::failure::{Failure, FailureKind};
use errand_model::report::RunReport;
use tokio::sync::mpsc::Receiver;
use tokio_util::sync::CancellationToken;

use crate::cli::run::Signals;
use crate::clock::{Clock, Stopwatch};
use crate::task::lifeline::Lost;

/// Most time for report, claims and answer at the end of a run that nobody stops.
const TELL: Duration = Duration::from_secs(300);
/// Least time for them.
const LEAST: Duration = Duration::from_secs(2);
/// The part of the time after SIGTERM that is kept for them.
const TELL_SHARE: u32 = 3;

/// What is known of the end.
pub(super) struct Ending {
    stop: Duration,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    why: Option<Failure>,
    stopped: Option<Stopwatch>,
}

impl Ending {
    /// `stop` is the time from SIGTERM to the end of the process.
    pub(super) fn new(stop: Duration) -> Self {
        Self { stop, known: Mutex::default() }
    }

    /// Cancels the run at the first signal or loss. Returns when its end is no longer waited for: with the failure of the run.
    pub(super) async fn watch(&self, signals: &mut Signals, mut lost: Receiver<Lost>, cancelled: &CancellationToken) -> Failure {
        let why = tokio::select! {
            signal = signals.next() => {
                tracing::warn!(signal, "cancelling the run");
                self.note_signal();
                // The state machine knows the end of spot capacity by this code.
                Failure::new(FailureKind::Cancelled, "run::cancelled", format!("the run was stopped by {signal}"))
                    .help("an operator, its execution or the end of spot capacity stopped the task; nothing half-written stays")
            }
            Some(lost) = lost.recv() => {
                tracing::error!(code = lost.failure.code, "cancelling the run: {}", lost.failure);
                if lost.at_once {
                    return lost.failure;
                }
                lost.failure
            }
        };
        self.known().why = Some(why.clone());
        cancelled.cancel();
        self.steps_end(signals).await;
        why
    }

    /// Returns when the end of the steps is no longer waited for: their time is over, or the process was signalled twice. The first signal
    /// after a loss is what such a loss leads to: Step Functions stops the task of an execution that has ended.
    async fn steps_end(&self, signals: &mut Signals) {
        let time = tokio::time::sleep(self.stop - self.stop / TELL_SHARE);
        tokio::pin!(time);
        loop {
            tokio::select! {
                () = &mut time => return tracing::error!("steps did not end in time and are left behind"),
                signal = signals.next() => {
                    if !self.note_signal() {
                        return tracing::error!(signal, "ending the run at once");
                    }
                    tracing::warn!(signal, "the run is ending already, a second signal ends it at once");
                }
            }
        }
    }

    /// Takes note of a signal; whether it is the first. The process is killed when its time after that is over.
    fn note_signal(&self) -> bool {
        let mut known = self.known();
        let is_first = known.stopped.is_none();
        known.stopped.get_or_insert_with(|| Clock::system().stopwatch());
        is_first
    }

    /// What ended because it was cancelled says by whom. What failed or came to its end before stays as it is.
    pub(super) fn explain(&self, report: &mut RunReport) {
        if let (Some(failure), Some(why)) = (&mut report.failure, &self.known().why)
            && failure.kind == FailureKind::Cancelled
        {
            failure.clone_from(why);
        }
    }

    /// The time that is left for report, claims and answer.
    pub(super) fn rest(&self) -> Duration {
        let stopped = self.known().stopped;
        stopped.map_or(TELL, |stopped| self.stop.saturating_sub(stopped.elapsed()).max(LEAST))
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
