//! Signs of life of a run, so that a heartbeat can stop when its engine does.
//!
//! Progress is this: each thing that runs (the run, an attempt of a step) is asked for its next piece of work at least every few seconds.
//! A statement that the warehouse still computes is progress, for the task that waits for it wakes up in between; its time is bounded by
//! the timeouts of step and job. A thread that is blocked, or a runtime all of whose threads are, is none. Nor is work that was told to
//! end and does not.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::clock::{Clock, Stopwatch};

/// How often what runs gives a sign.
const EVERY: Duration = Duration::from_secs(5);

/// What a run may do without being called stuck.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Time without a sign: many times [`EVERY`], for a quarter of a CPU that is busy is slow.
    pub silence: Duration,
    /// Time from a cancellation to the end: a large transaction is not undone at once.
    pub end: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { silence: Duration::from_secs(60), end: Duration::from_secs(300) }
    }
}

/// The signs of one run. Cheap to clone; all clones are one.
#[derive(Clone, Debug)]
pub struct Pulse {
    every: Duration,
    signs: Arc<Mutex<Signs>>,
}

impl Default for Pulse {
    fn default() -> Self {
        Self { every: EVERY, signs: Arc::default() }
    }
}

#[derive(Debug, Default)]
struct Signs {
    next: u64,
    running: BTreeMap<u64, Sign>,
}

#[derive(Debug)]
struct Sign {
    what: String,
    cancelled: CancellationToken,
    seen: Stopwatch,
    ends_since: Option<Stopwatch>,
}

impl Pulse {
    /// Does work, and gives signs meanwhile: from the work's own task, so that they stop when it blocks. `cancelled` tells it to end.
    pub async fn follow<T>(&self, what: &str, cancelled: &CancellationToken, work: impl Future<Output = T>) -> T {
        let running = self.start(what, cancelled);
        let mut work = pin!(work);
        let mut tick = tokio::time::interval(self.every);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                result = &mut work => return result,
                _ = tick.tick() => running.give(),
            }
        }
    }

    /// What is stuck, if something is, and why.
    #[must_use]
    pub fn stuck(&self, patience: Patience) -> Option<String> {
        self.locked().running.values().find_map(|sign| {
            let silence = sign.seen.elapsed();
            if silence > patience.silence {
                return Some(format!("{} gave no sign of life for {} s", sign.what, silence.as_secs()));
            }
            let ends = sign.ends_since?.elapsed();
            (ends > patience.end).then(|| format!("{} was told to end {} s ago and has not", sign.what, ends.as_secs()))
        })
    }

    fn start(&self, what: &str, cancelled: &CancellationToken) -> Running<'_> {
        let mut signs = self.locked();
        let id = signs.next;
        signs.next += 1;
        let sign = Sign { what: what.to_owned(), cancelled: cancelled.clone(), seen: Clock::system().stopwatch(), ends_since: None };
        signs.running.insert(id, sign);
        Running { pulse: self, id }
    }

    fn locked(&self) -> MutexGuard<'_, Signs> {
        self.signs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One thing that runs; forgotten when it is dropped.
struct Running<'p> {
    pulse: &'p Pulse,
    id: u64,
}

impl Running<'_> {
    fn give(&self) {
        if let Some(sign) = self.pulse.locked().running.get_mut(&self.id) {
            sign.seen = Clock::system().stopwatch();
            if sign.cancelled.is_cancelled() && sign.ends_since.is_none() {
                sign.ends_since = Some(Clock::system().stopwatch());
            }
        }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.pulse.locked().running.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    const SHORT: Patience = Patience { silence: Duration::from_millis(20), end: Duration::from_millis(20) };
    const LONG: Patience = Patience { silence: Duration::from_mins(1), end: Duration::from_mins(1) };

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_task_that_blocks_is_stuck_and_one_that_waits_is_not() {
        let pulse = Pulse::default();
        let (free, blocked) = channel::<()>();
        let (begun, starts) = tokio::sync::oneshot::channel();
        let followed = pulse.clone();
        let task = tokio::spawn(async move {
            let work = async move {
                let _ = begun.send(());
                let _ = blocked.recv();
            };
            followed.follow("step `load`", &CancellationToken::new(), work).await;
        });
        starts.await.expect("it starts");
        let told = loop {
            if let Some(told) = pulse.stuck(SHORT) {
                break told;
            }
            tokio::task::yield_now().await;
        };
        assert!(told.starts_with("step `load` gave no sign of life"), "{told}");
        drop(free);
        task.await.expect("it ends");
        assert_eq!(pulse.stuck(Patience { silence: Duration::ZERO, end: Duration::ZERO }), None);
    }

    #[tokio::test]
    async fn waiting_is_progress_until_it_was_told_to_end() {
        let pulse = Pulse { every: Duration::from_millis(1), ..Pulse::default() };
        let token = CancellationToken::new();
        let work = pulse.follow("step `load`", &token, std::future::pending::<()>());
        tokio::pin!(work);
        let patience = Patience { silence: Duration::from_mins(1), end: Duration::ZERO };
        assert!(tokio::time::timeout(Duration::from_millis(50), &mut work).await.is_err());
        assert_eq!(pulse.stuck(patience), None);
        token.cancel();
        assert!(tokio::time::timeout(Duration::from_millis(50), &mut work).await.is_err());
        assert_eq!(pulse.stuck(LONG), None);
        let told = pulse.stuck(patience).expect("stuck");
        assert!(told.contains("was told to end"), "{told}");
    }
}
