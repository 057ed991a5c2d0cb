//! What should have happened and did not: due times of the deployed jobs against the runs that are known.
//!
//! Pure: the same deployment, runs and moment always give the same findings. Who remembers what was told already is not decided here.

use std::collections::BTreeSet;
use std::time::Duration;

use errand_model::deployment::{DeployedJob, Deployment};
use errand_model::document::job::Catchup;
use errand_model::interval::{Interval, Schedule};
use errand_model::report::IntervalReport;
use jiff::Timestamp;

use crate::catchup;
use crate::history::{History, Run};
use crate::time::{after, before, since, stamp};

/// A run that has not started so long after it was due has not come, where the job says nothing itself. The state machine tries a start that
/// ECS refuses for up to a quarter of an hour.
const GRACE: Duration = Duration::from_secs(30 * 60);
/// How far back due times are looked at, beside the limits of the job.
const BACK: Duration = Duration::from_secs(86_400);
/// Most due times of one job that are looked at, the last ones.
const MOST: usize = 2_000;

/// What is known.
pub(crate) struct View<'a> {
    pub(crate) deployment: &'a Deployment,
    pub(crate) history: &'a History,
    /// Runs that have claimed an interval.
    pub(crate) starts: &'a [Start],
    /// Failures that people were told of: job and end of the interval.
    pub(crate) failed: &'a BTreeSet<(String, Timestamp)>,
    pub(crate) now: Timestamp,
}

/// A run that has claimed an interval, and may run still.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Start {
    pub(crate) job: String,
    pub(crate) due: Timestamp,
    pub(crate) at: Timestamp,
    pub(crate) trace: Trace,
}

/// Where to look for what a run did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Trace {
    /// Its id; empty when it is not known.
    pub(crate) run_id: String,
    /// ARN of its execution.
    pub(crate) execution: Option<String>,
    /// Name of its report.
    pub(crate) file: Option<String>,
}

/// How a run is late.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lateness {
    /// It has not started, and may never.
    NotStarted,
    /// It started, too late.
    StartedLate,
    /// It has not finished.
    NotFinished,
    /// It finished, too late.
    FinishedLate,
    /// Too long since the last success.
    TooOld,
}

/// One thing that did not happen in time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) job: String,
    pub(crate) lateness: Lateness,
    /// When it was due; none for [`Lateness::TooOld`].
    pub(crate) due: Option<Timestamp>,
    pub(crate) interval: Option<IntervalReport>,
    /// The limit that was passed.
    pub(crate) limit: Duration,
    pub(crate) started_at: Option<Timestamp>,
    /// The run that is late, where there is one.
    pub(crate) trace: Option<Trace>,
    /// Names it: the same at every look.
    pub(crate) key: String,
    /// A failure tells of it already, to those who hear of failures.
    pub(crate) is_failure: bool,
}

impl Finding {
    /// Whether it is over, and only told.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.lateness, Lateness::StartedLate | Lateness::FinishedLate)
    }
}

/// All that is late at `view.now`, by job, oldest first.
pub(crate) fn findings(view: &View<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    for (name, job) in &view.deployment.jobs {
        if let Some(schedule) = job.schedule() {
            let dues = dues(job, &schedule, BACK + limits(job), view.now);
            found.extend(dues.iter().filter_map(|interval| late(view, name, job, interval)));
        }
        found.extend(too_old(view, name, job));
    }
    found
}

/// How far back somebody may ask for a run of a job.
pub(crate) fn reach(deployment: &Deployment, job: &str) -> Duration {
    let Some(job) = deployment.jobs.get(job) else { return BACK };
    let late = BACK + limits(job);
    if job.catchup == Catchup::None { late } else { late.max(catchup::BACK) }
}

/// How long after it was due a run that has not started has not come.
pub(crate) fn grace(job: &DeployedJob) -> Duration {
    job.sla.start_within_seconds.map_or(GRACE, Duration::from_secs)
}

fn limits(job: &DeployedJob) -> Duration {
    let seconds = job.sla.start_within_seconds.into_iter().chain(job.sla.finish_within_seconds).max().unwrap_or_default();
    Duration::from_secs(seconds).max(GRACE)
}

/// The intervals that ended when the job was due, so far back, and not before the job was deployed.
pub(crate) fn dues(job: &DeployedJob, schedule: &Schedule, back: Duration, now: Timestamp) -> Vec<Interval> {
    let oldest = before(now, back).max(job.since);
    // The interval of the first due time begins at the tick before it.
    let Some(from) = schedule.last_at(oldest) else { return Vec::new() };
    let mut all: Vec<Interval> = schedule.intervals(from, now).filter(|interval| interval.end > job.since).collect();
    all.drain(..all.len().saturating_sub(MOST));
    all
}

/// How a job is late for one due time.
fn late(view: &View<'_>, name: &str, job: &DeployedJob, interval: &Interval) -> Option<Finding> {
    let due = interval.end;
    let runs: Vec<&Run> = view.history.of(name).filter(|run| run.is_for(due)).collect();
    let claims = || view.starts.iter().filter(|start| start.job == name && start.due == due);
    let started_at = runs.iter().map(|run| run.started_at).chain(claims().map(|start| start.at)).min();
    let of_report = |run: &&Run| Trace { run_id: run.run_id.clone(), execution: None, file: Some(run.file.clone()) };
    let trace = runs.first().map(of_report).or_else(|| claims().next().map(|start| start.trace.clone()));
    let finished_at = runs.iter().filter(|run| run.is_success()).map(|run| run.finished_at).min();
    let has_failed = runs.iter().any(|run| run.is_failure()) || view.failed.contains(&(name.to_owned(), due));
    // Another run of its group was at work, and its job says that this one is left out then: it came, and nothing more is to come.
    if finished_at.is_none() && !has_failed && !runs.is_empty() {
        return None;
    }
    let is_failure = finished_at.is_none() && has_failed;
    let start_within = job.sla.start_within_seconds.map(Duration::from_secs);
    let finish_within = job.sla.finish_within_seconds.map(Duration::from_secs);
    let (lateness, limit) = lateness(view.now, due, started_at, finished_at, (start_within, finish_within))?;
    // A run that failed before it could leave a trace came all the same.
    if is_failure && lateness == Lateness::NotStarted && finish_within.is_none() && start_within.is_none() {
        return None;
    }
    Some(Finding {
        job: name.to_owned(),
        lateness,
        due: Some(due),
        interval: Some(interval.report()),
        limit,
        started_at,
        trace,
        key: format!("late-{name}-{}", stamp(due)),
        is_failure,
    })
}

/// The first limit that is passed: of the start, else of the end.
fn lateness(
    now: Timestamp,
    due: Timestamp,
    started_at: Option<Timestamp>,
    finished_at: Option<Timestamp>,
    (start_within, finish_within): (Option<Duration>, Option<Duration>),
) -> Option<(Lateness, Duration)> {
    let grace = start_within.unwrap_or(GRACE);
    match (started_at, start_within) {
        (None, _) if now > after(due, grace) => return Some((Lateness::NotStarted, grace)),
        (Some(at), Some(limit)) if at > after(due, limit) => return Some((Lateness::StartedLate, limit)),
        (None | Some(_), _) => {}
    }
    let limit = finish_within?;
    let end = after(due, limit);
    match finished_at {
        Some(at) if at > end => Some((Lateness::FinishedLate, limit)),
        None if now > end => Some((Lateness::NotFinished, limit)),
        Some(_) | None => None,
    }
}

fn too_old(view: &View<'_>, name: &str, job: &DeployedJob) -> Option<Finding> {
    let limit = Duration::from_secs(job.sla.max_seconds_since_success?);
    let success = view.history.last_success(name).map(|run| run.finished_at);
    let last = success.map_or(job.since, |at| at.max(job.since));
    (since(last, view.now) > limit).then(|| Finding {
        job: name.to_owned(),
        lateness: Lateness::TooOld,
        due: None,
        interval: None,
        limit,
        started_at: None,
        trace: None,
        key: format!("old-{name}-{}", stamp(last)),
        is_failure: view.history.last(name).is_some_and(Run::is_failure),
    })
}

#[cfg(test)]
mod tests;
