//! The line to the state machine: heartbeats while the engine makes progress, and an answer that arrives once.
//!
//! It has a thread and a runtime of its own, so that neither a busy engine delays a heartbeat nor a stuck one sends any.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use errand_model::failure::{Failure, FailureKind};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Mutex, mpsc};

use super::answer::Answer;
use super::lease::{Lease, Leases};
use crate::aws::step_functions::{Caller, Sent};
use crate::clock::Clock;
use crate::pulse::{Patience, Pulse};
use crate::secret::Secret;

/// A heartbeat that did not arrive is tried again after so long.
const AGAIN: Duration = Duration::from_secs(10);

/// An engine that is stuck for so long is given up: its state machine has done so before (`HeartbeatSeconds`, 300).
const GIVE_UP: Duration = Duration::from_secs(600);

/// Most time for the first heartbeat; after that, work begins without its answer.
const FIRST: Duration = Duration::from_secs(30);

/// First pause between two attempts to answer; each next one is twice as long, up to [`LONGEST_PAUSE`].
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(20);

/// Why a run must end that nobody told to.
#[derive(Clone, Debug)]
pub(crate) struct Lost {
    pub(crate) failure: Failure,
    /// Its steps cannot be waited for.
    pub(crate) at_once: bool,
}

/// What became of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// The state machine has it.
    Arrived,
    /// Nobody waits for it any more.
    Unwanted(String),
    /// It could not be delivered in time, or was refused.
    Failed(String),
}

/// The leases that a run holds, renewed at each heartbeat.
pub(crate) type Held = Arc<Mutex<Vec<(Leases, Lease)>>>;

/// The line of one task. Without a token it is silent, and leases are still renewed.
pub(crate) struct Lifeline {
    runtime: Runtime,
    caller: Option<Arc<Caller>>,
}

impl Lifeline {
    /// Nothing is sent yet.
    ///
    /// Fails as `Transient` with `run::no_runtime`.
    pub(crate) fn start(token: Option<&Secret>) -> Result<Self, Failure> {
        let runtime = Builder::new_multi_thread().worker_threads(1).thread_name("lifeline").enable_all().build();
        let runtime = runtime
            .map_err(|error| Failure::new(FailureKind::Transient, "run::no_runtime", format!("cannot start the runtime: {error}")))?;
        let caller = token.map(|token| runtime.block_on(Caller::new(token.expose())).map(Arc::new)).transpose()?;
        Ok(Self { runtime, caller })
    }

    /// The first heartbeat: it is sent before any other work.
    ///
    /// Fails as `Cancelled` with `task::abandoned` when nobody waits for this task any more.
    pub(crate) async fn first(&self) -> Result<(), Failure> {
        let Some(caller) = self.caller.clone() else { return Ok(()) };
        let beat = async move {
            let mut pause = PAUSE;
            loop {
                match caller.heartbeat().await {
                    Sent::Taken => return Ok(()),
                    Sent::Dead(why) => return Err(abandoned(&why)),
                    Sent::Refused(why) => {
                        tracing::error!(why, "the first heartbeat was refused");
                        return Ok(());
                    }
                    Sent::Unknown(why) | Sent::Later(why) => tracing::warn!(why, "the first heartbeat did not arrive, it is sent again"),
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        };
        self.there(async move { tokio::time::timeout(FIRST, beat).await.unwrap_or(Ok(())) }).await
    }

    /// Beats from now on, and renews what is held, as long as the engine makes progress. `lost` hears when the run must end.
    pub(crate) fn beat(&self, every: Duration, pulse: &Pulse, held: &Held, clock: &Clock, lost: &mpsc::Sender<Lost>) {
        let (patience, lost) = (Patience::default(), lost.clone());
        let renewals = Renewals { every, pulse: pulse.clone(), patience, held: Arc::clone(held), clock: clock.clone(), lost: lost.clone() };
        self.runtime.spawn(renewals.run());
        let beats = Beats { caller: self.caller.clone(), every, pulse: pulse.clone(), patience, clock: clock.clone(), lost };
        self.runtime.spawn(beats.run());
    }

    /// Delivers the answer, within `limit`.
    ///
    /// Of a request whose answer was lost nobody knows whether it arrived: it is sent again, and when the token is closed then, it had.
    pub(crate) async fn answer(&self, answer: Answer, limit: Duration) -> Delivery {
        let Some(caller) = self.caller.clone() else { return Delivery::Arrived };
        let deliver = async move {
            let mut doubt = None;
            let mut pause = PAUSE;
            loop {
                let sent = match &answer {
                    Answer::Success(output) => caller.success(output).await,
                    Answer::Failure { error, cause } => caller.failure(error, cause).await,
                };
                match judge(sent, &mut doubt) {
                    Some(delivery) => return delivery,
                    None => tracing::warn!(why = doubt, "the result was not acknowledged, it is sent again"),
                }
                tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        };
        let late = move || Delivery::Failed(format!("not acknowledged within {} s", limit.as_secs()));
        self.there(async move { tokio::time::timeout(limit, deliver).await.unwrap_or_else(|_| late()) }).await
    }

    /// Ends the line; what is on its way is dropped.
    pub(crate) fn end(self) {
        self.runtime.shutdown_background();
    }

    async fn there<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> T {
        self.runtime.spawn(work).await.expect("the work of the lifeline does not panic and is not aborted")
    }
}

/// What one attempt means, with the doubt of those before it; none to try again.
fn judge(sent: Sent, doubt: &mut Option<String>) -> Option<Delivery> {
    match sent {
        Sent::Taken => Some(Delivery::Arrived),
        Sent::Dead(_) if doubt.is_some() => Some(Delivery::Arrived),
        Sent::Dead(why) => Some(Delivery::Unwanted(why)),
        Sent::Refused(why) => Some(Delivery::Failed(why)),
        Sent::Unknown(why) => {
            *doubt = Some(why);
            None
        }
        Sent::Later(why) => {
            tracing::debug!(why, "asked to send the result later");
            None
        }
    }
}

struct Beats {
    caller: Option<Arc<Caller>>,
    every: Duration,
    pulse: Pulse,
    patience: Patience,
    clock: Clock,
    lost: mpsc::Sender<Lost>,
}

impl Beats {
    /// Until nobody listens, or the token is dead.
    async fn run(self) {
        let mut stuck_since = None;
        let mut next = self.every;
        while pause(next, &self.lost).await {
            next = self.every;
            if let Some(why) = self.pulse.stuck(self.patience) {
                let since = *stuck_since.get_or_insert_with(|| self.clock.stopwatch());
                tracing::error!(why, "no heartbeat: the engine makes no progress");
                if since.elapsed() >= GIVE_UP {
                    let failure = Failure::new(FailureKind::Internal, "task::stuck", format!("the engine is stuck: {why}"));
                    let failure = failure.help("please report it with the log of this run; open transactions roll back by themselves");
                    tell(&self.lost, Lost { failure, at_once: true });
                }
                continue;
            }
            stuck_since = None;
            let Some(caller) = &self.caller else { continue };
            match caller.heartbeat().await {
                Sent::Taken => tracing::debug!("heartbeat sent"),
                Sent::Dead(why) => return tell(&self.lost, Lost { failure: abandoned(&why), at_once: false }),
                Sent::Unknown(why) | Sent::Later(why) | Sent::Refused(why) => {
                    tracing::warn!(why, "heartbeat did not arrive, it is sent again");
                    next = AGAIN.min(self.every);
                }
            }
        }
    }
}

/// Apart from heartbeats: a slow store must not delay those.
struct Renewals {
    every: Duration,
    pulse: Pulse,
    patience: Patience,
    held: Held,
    clock: Clock,
    lost: mpsc::Sender<Lost>,
}

impl Renewals {
    async fn run(self) {
        while pause(self.every, &self.lost).await {
            if self.pulse.stuck(self.patience).is_some() {
                continue;
            }
            for (leases, lease) in self.held.lock().await.iter_mut() {
                match leases.renew(lease, self.clock.now()).await {
                    Ok(()) => {}
                    Err(failure) if failure.kind == FailureKind::Cancelled => tell(&self.lost, Lost { failure, at_once: false }),
                    Err(failure) => tracing::warn!(lease = lease.key, why = %failure, "a claim could not be renewed, it is tried again"),
                }
            }
        }
    }
}

/// Waits, and says whether anybody listens still.
async fn pause(time: Duration, lost: &mpsc::Sender<Lost>) -> bool {
    tokio::select! {
        () = tokio::time::sleep(time) => true,
        () = lost.closed() => false,
    }
}

fn tell(lost: &mpsc::Sender<Lost>, why: Lost) {
    // When this fails, nobody listens any more, or enough was said.
    let _ = lost.try_send(why);
}

fn abandoned(why: &str) -> Failure {
    let message = format!("the state machine no longer waits for this task ({why})");
    Failure::new(FailureKind::Cancelled, "task::abandoned", message)
        .help("its execution was stopped, timed out, or started another attempt: see the execution")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a row of attempts comes to.
    fn deliver(attempts: Vec<Sent>) -> Option<Delivery> {
        let mut doubt = None;
        attempts.into_iter().find_map(|sent| judge(sent, &mut doubt))
    }

    #[test]
    fn a_closed_token_after_a_lost_answer_means_that_it_had_arrived() {
        let word = |text: &str| text.to_owned();
        assert_eq!(deliver(vec![Sent::Taken]), Some(Delivery::Arrived));
        assert_eq!(deliver(vec![Sent::Unknown(word("reset")), Sent::Dead(word("TaskTimedOut"))]), Some(Delivery::Arrived));
        assert_eq!(deliver(vec![Sent::Unknown(word("500")), Sent::Later(word("slow")), Sent::Taken]), Some(Delivery::Arrived));
        assert_eq!(deliver(vec![Sent::Dead(word("TaskTimedOut"))]), Some(Delivery::Unwanted(word("TaskTimedOut"))));
        assert_eq!(
            deliver(vec![Sent::Later(word("slow")), Sent::Dead(word("InvalidToken"))]),
            Some(Delivery::Unwanted(word("InvalidToken")))
        );
        assert_eq!(deliver(vec![Sent::Refused(word("AccessDenied"))]), Some(Delivery::Failed(word("AccessDenied"))));
        assert_eq!(deliver(vec![Sent::Unknown(word("reset"))]), None);
    }
}
