//! Claims: that one run works on an interval of a job, and that no more runs of a group work at once than its limit says.
//!
//! Claims keep starts apart that would do the same work; that nothing is written twice is the ledger's business, in the warehouse itself.

use std::collections::BTreeMap;
use std::time::Duration;

use errand_model::document::job::OnOverlap;
use errand_model::failure::{Failure, FailureKind};
use errand_model::interval::Interval;
use errand_model::job::Concurrency;
use errand_model::report::{IntervalReport, Outcome, RunReport};
use jiff::Timestamp;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

use super::answer::Quiet;
use super::lease::{Found, Lease, Leases, Record, State, Taker};
use crate::clock::Clock;
use crate::report::store::ReportStore;
use crate::store::Put;

/// Most tries against other runs that take the same lease.
const RACES: usize = 20;

/// What a run that wants a claim does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Takes it.
    Take,
    /// Leaves it to the run that works on the interval; how that ends is not known.
    AtWork(String),
    /// Leaves it: the interval is done.
    Done(String),
}

/// Whether a claim that is there is taken. `reported` is how the run that holds it ended, by its report.
pub(crate) fn decide(found: &Record, taker: &Taker, reported: Option<Outcome>, now: Timestamp) -> Decision {
    let is_own = found.run_id == taker.run_id;
    let done = match found.state {
        State::Succeeded => true,
        State::Ended => return Decision::Take,
        State::Running => match reported.map(State::of) {
            Some(State::Succeeded) => true,
            Some(State::Ended) => return Decision::Take,
            Some(State::Running) | None => false,
        },
    };
    if done {
        // By hand, the same interval at another commit is meant: the ledger knows which of its steps have changed.
        let is_repair = taker.by_hand && !is_own && found.commit != taker.commit;
        return if is_repair { Decision::Take } else { Decision::Done(format!("run `{}` did this interval", found.run_id)) };
    }
    if is_own || !found.is_alive(now) {
        return Decision::Take;
    }
    Decision::AtWork(format!("run `{}` works on this interval since {}", found.run_id, found.taken_at))
}

/// The key of the claim on an interval of a job; inputs that the job declares are part of it.
pub(crate) fn key(job: &str, interval: &Interval, inputs: &BTreeMap<String, Value>) -> String {
    let time = |moment: Timestamp| moment.strftime("%Y%m%dT%H%M%S%.fZ").to_string();
    let mut key = format!("claims/{job}/{}-{}", time(interval.start), time(interval.end));
    if !inputs.is_empty() {
        let text = serde_json::to_string(inputs).unwrap_or_default();
        key.push('-');
        key.extend(Sha256::digest(text).iter().take(8).map(|byte| format!("{byte:02x}")));
    }
    key
}

/// The span of time of a run that was told none: of all attempts of one execution the first decides it, and the others find it.
///
/// Fails with what the store says.
pub(crate) async fn pinned(leases: &Leases, job: &str, run_id: &str, decided: &Interval) -> Result<Interval, Failure> {
    let (key, report) = (format!("claims/{job}/by-run/{run_id}"), decided.report());
    let content = serde_json::to_vec(&report).expect("an interval is plain data");
    if leases.0.put_new(&key, content.into()).await? == Put::Created {
        return Ok(decided.clone());
    }
    let found = leases.0.get_small(&key, 4096).await?.unwrap_or_default();
    let IntervalReport { start, end, timezone } = serde_json::from_slice(&found).unwrap_or(report);
    Ok(Interval { start, end, timezone })
}

/// Claims and slots of one environment.
pub(crate) struct Claims {
    pub(crate) leases: Leases,
    pub(crate) reports: ReportStore,
    pub(crate) clock: Clock,
    /// How often one that waits looks again.
    pub(crate) look_every: Duration,
}

impl Claims {
    /// Claims an interval. A run by hand waits for the one that works on it, and takes over what that one does not finish: so its duplicates
    /// are of runs that ended well.
    ///
    /// Fails as `Cancelled` when the run is cancelled meanwhile, else with what the store says.
    pub(crate) async fn claim(&self, key: &str, taker: &Taker, cancelled: &CancellationToken) -> Result<Result<Lease, Quiet>, Failure> {
        let mut told = false;
        loop {
            let quiet = match self.claim_now(key, taker).await? {
                Err(quiet) if taker.by_hand && !quiet.done => quiet,
                claimed => return Ok(claimed),
            };
            if !told {
                tracing::info!(lease = key, why = quiet.why, "waiting for the run that works on the interval");
                told = true;
            }
            self.look_later(cancelled, "task::waited_for_claim", &quiet.why).await?;
        }
    }

    async fn claim_now(&self, key: &str, taker: &Taker) -> Result<Result<Lease, Quiet>, Failure> {
        for _ in 0..RACES {
            let found = self.leases.find(key).await?;
            if let Some(found) = &found {
                let report = self.report_of(&found.record).await;
                let outcome = report.as_ref().map(|(report, _)| report.outcome);
                let (why, done) = match decide(&found.record, taker, outcome, self.clock.now()) {
                    Decision::Take => (None, false),
                    Decision::AtWork(why) => (Some(why), false),
                    Decision::Done(why) => (Some(why), true),
                };
                if let Some(why) = why {
                    let report = report.map(|(_, url)| url).or_else(|| found.record.report.clone());
                    return Ok(Err(Quiet { outcome: "duplicate", done, why, report }));
                }
                tracing::info!(lease = key, held_by = found.record.run_id, "claim taken over");
            }
            if let Some(lease) = self.leases.take(key, taker.record(self.clock.now()), found.as_ref()).await? {
                return Ok(Ok(lease));
            }
        }
        Err(contended(key))
    }

    /// Takes one of the slots of a group; waits, or asks the oldest holder to end, as the job says.
    ///
    /// Fails as `Cancelled` when the run is cancelled meanwhile, else with what the store says.
    pub(crate) async fn slot(
        &self,
        concurrency: &Concurrency,
        taker: &Taker,
        cancelled: &CancellationToken,
    ) -> Result<Result<Lease, Quiet>, Failure> {
        let group = concurrency.group.as_str();
        let mut told = false;
        loop {
            let busy = match self.free_slot(group, concurrency.limit, taker).await? {
                Ok(lease) => return Ok(Ok(lease)),
                Err(busy) => busy,
            };
            let Some((key, oldest)) = busy.iter().min_by_key(|(_, found)| found.record.taken_at) else { continue };
            let by = format!("run `{}` of job `{}`", oldest.record.run_id, oldest.record.job);
            match on_overlap(concurrency, taker, &busy) {
                OnOverlap::Skip => {
                    let why = format!("group `{group}` is at its limit of {}: {by} is at work (`on_overlap: skip`)", concurrency.limit);
                    return Ok(Err(Quiet { outcome: "skipped", done: false, why, report: None }));
                }
                OnOverlap::Queue => {}
                OnOverlap::Cancel if oldest.record.end_wanted_by.is_none() => {
                    self.leases.ask_to_end(key, oldest, &taker.run_id).await?;
                }
                OnOverlap::Cancel => {}
            }
            if !told {
                tracing::info!(group, limit = concurrency.limit, held_by = oldest.record.run_id, "waiting for a slot of the group");
                told = true;
            }
            self.look_later(cancelled, "task::waited_for_group", &format!("{by} is at work in group `{group}`")).await?;
        }
    }

    /// Waits until it is time for the next look. Fails as `Cancelled` with this code when the run is cancelled meanwhile.
    async fn look_later(&self, cancelled: &CancellationToken, code: &'static str, why: &str) -> Result<(), Failure> {
        tokio::select! {
            () = tokio::time::sleep(self.look_every) => Ok(()),
            () = cancelled.cancelled() => Err(Failure::new(FailureKind::Cancelled, code, format!("cancelled while it waited: {why}"))),
        }
    }

    /// A slot that is free, was left behind, or is this run's own; else all that are busy.
    async fn free_slot(&self, group: &str, limit: u32, taker: &Taker) -> Result<Result<Lease, Vec<(String, Found)>>, Failure> {
        for _ in 0..RACES {
            let (mut busy, mut raced) = (Vec::new(), false);
            let mut free = None;
            for number in 0..limit {
                let key = format!("slots/{group}/{number}");
                let found = self.leases.find(&key).await?;
                match found {
                    Some(found) if found.record.run_id != taker.run_id && found.record.is_alive(self.clock.now()) => {
                        busy.push((key, found));
                    }
                    // A slot of an earlier attempt is this run's own; one is enough.
                    Some(found) if found.record.run_id == taker.run_id && found.record.state == State::Running => {
                        free = Some((key, Some(found)));
                        break;
                    }
                    other => free = free.or(Some((key, other))),
                }
            }
            if let Some((key, found)) = free {
                match self.leases.take(&key, taker.record(self.clock.now()), found.as_ref()).await? {
                    Some(lease) => return Ok(Ok(lease)),
                    None => raced = true,
                }
            }
            if !raced {
                return Ok(Err(busy));
            }
        }
        Err(contended(&format!("slots/{group}")))
    }

    /// The report of the run that holds a claim, where there is one. One that cannot be read decides nothing.
    async fn report_of(&self, record: &Record) -> Option<(RunReport, String)> {
        match self.reports.of_run(&record.run_id, record.attempt).await {
            // One of an earlier start of the same attempt says nothing of this one.
            Ok(found) => found.filter(|(report, _)| report.finished_at >= record.taken_at),
            Err(failure) => {
                tracing::warn!(run = record.run_id, why = %failure, "the report of the run that holds a claim cannot be read");
                None
            }
        }
    }
}

/// What a start does that finds its group busy. Only one of a schedule is skipped: what a person asked for, and what makes up for a past
/// interval, is done when its turn comes. One that makes up ends nobody, and nobody is skipped because of it.
fn on_overlap(concurrency: &Concurrency, taker: &Taker, busy: &[(String, Found)]) -> OnOverlap {
    match concurrency.on_overlap {
        OnOverlap::Skip if taker.by_hand || taker.makes_up || busy.iter().any(|(_, found)| found.record.makes_up) => OnOverlap::Queue,
        OnOverlap::Cancel if taker.makes_up => OnOverlap::Queue,
        written @ (OnOverlap::Queue | OnOverlap::Skip | OnOverlap::Cancel) => written,
    }
}

fn contended(key: &str) -> Failure {
    Failure::new(FailureKind::Transient, "task::contended", format!("other runs changed `{key}` again and again"))
        .help("run it again; it should pass by itself")
}

#[cfg(test)]
#[path = "claim_tests.rs"]
mod tests;
