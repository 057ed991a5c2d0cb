//! What is watched while libgit2 works: time, cancellation, bytes received, what the server asked for and what was answered.
//!
//! libgit2 turns a refusal by a callback into a general error. The notes kept here say what it was.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use errand_model::failure::{Failure, FailureKind};
use tokio_util::sync::CancellationToken;

use super::Limits;

/// Shared by the callbacks, the thread that works and the one that waits for it. Cheap to clone.
#[derive(Clone)]
pub(super) struct Watch(Arc<Shared>);

struct Shared {
    limits: Limits,
    deadline: Instant,
    cancelled: CancellationToken,
    abandoned: AtomicBool,
    /// Bytes of finished transfers, and of the one that runs.
    received: (AtomicU64, AtomicU64),
    failure: Mutex<Option<Failure>>,
}

impl Watch {
    /// Starts the clock.
    pub(super) fn start(limits: Limits, cancelled: CancellationToken) -> Self {
        let deadline = Instant::now() + limits.timeout;
        let received = (AtomicU64::new(0), AtomicU64::new(0));
        Self(Arc::new(Shared { limits, deadline, cancelled, abandoned: AtomicBool::new(false), received, failure: Mutex::new(None) }))
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.0.limits
    }

    /// Time left, none when the deadline has passed.
    pub(super) fn time_left(&self) -> Duration {
        self.0.deadline.saturating_duration_since(Instant::now())
    }

    /// Whether work may go on; else why not.
    pub(super) fn check(&self) -> Result<(), Failure> {
        if self.0.cancelled.is_cancelled() {
            return Err(Failure::new(FailureKind::Cancelled, "checkout::cancelled", "the checkout was cancelled"));
        }
        if self.time_left().is_zero() || self.0.abandoned.load(Ordering::Relaxed) {
            return Err(timeout(self.0.limits.timeout));
        }
        Ok(())
    }

    /// Tells work that nobody waits for it any more.
    pub(super) fn abandon(&self) {
        self.0.abandoned.store(true, Ordering::Relaxed);
    }

    /// For callbacks: whether work may go on. When not, the reason is kept.
    pub(super) fn goes_on(&self) -> bool {
        self.check().map_err(|failure| self.note(failure)).is_ok()
    }

    /// Notes what the transfer that runs has received so far, and says whether it may go on.
    pub(super) fn received(&self, bytes: u64) -> bool {
        let (finished, running) = &self.0.received;
        running.store(bytes, Ordering::Relaxed);
        let limit = self.0.limits.max_bytes;
        if finished.load(Ordering::Relaxed).saturating_add(bytes) > limit {
            self.note(too_large(format!("the job repository sends more than {limit} bytes")));
            return false;
        }
        self.goes_on()
    }

    /// Counts what the transfer before has received, and forgets why it failed.
    pub(super) fn next_transfer(&self) {
        let (finished, running) = &self.0.received;
        finished.fetch_add(running.swap(0, Ordering::Relaxed), Ordering::Relaxed);
        *self.failure() = None;
    }

    /// Keeps the first reason why a callback refused.
    pub(super) fn note(&self, failure: Failure) {
        self.failure().get_or_insert(failure);
    }

    /// The reason a callback noted.
    pub(super) fn noted(&self) -> Option<Failure> {
        self.failure().clone()
    }

    fn failure(&self) -> std::sync::MutexGuard<'_, Option<Failure>> {
        self.0.failure.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The failure of a checkout that took too long.
pub(super) fn timeout(limit: Duration) -> Failure {
    let message = format!("the checkout took longer than {} s", limit.as_secs_f64());
    Failure::new(FailureKind::Transient, "checkout::timeout", message)
        .help("try again; if it stays slow, look at the git server and the network")
}

/// The failure of a repository that is larger than allowed.
pub(super) fn too_large(message: String) -> Failure {
    Failure::new(FailureKind::Checkout, "checkout::too_large", message)
        .help("a job repository holds definitions and SQL: keep data out of it, or in a repository of its own")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watch(limits: Limits) -> Watch {
        Watch::start(limits, CancellationToken::new())
    }

    #[test]
    fn bytes_of_all_transfers_count_together() {
        let watch = watch(Limits { max_bytes: 100, ..Limits::default() });
        assert!(watch.received(60));
        watch.next_transfer();
        assert!(watch.received(40));
        assert!(!watch.received(41));
        assert_eq!(watch.noted().expect("noted").code, "checkout::too_large");
    }

    #[test]
    fn the_first_reason_is_kept() {
        let watch = watch(Limits { timeout: Duration::ZERO, max_bytes: 1, ..Limits::default() });
        assert!(!watch.goes_on());
        assert!(!watch.received(2));
        let failure = watch.noted().expect("noted");
        assert_eq!((failure.code.as_str(), failure.kind), ("checkout::timeout", FailureKind::Transient));
    }

    #[test]
    fn cancellation_is_told_from_time() {
        let cancelled = CancellationToken::new();
        let watch = Watch::start(Limits::default(), cancelled.clone());
        assert!(watch.check().is_ok());
        cancelled.cancel();
        assert_eq!(watch.check().expect_err("cancelled").kind, FailureKind::Cancelled);
    }
}
