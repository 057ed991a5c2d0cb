//! Missed intervals, and which of them are started: due times of jobs that catch up, against the runs that are known and what was started
//! before.
//!
//! Pure. Whether a run has claimed an interval meanwhile is asked by whoever starts it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use errand_model::deployment::DeployedJob;
use errand_model::document::job::Catchup;
use errand_model::interval::Interval;
use jiff::Timestamp;

use crate::history::Run;
use crate::time::after;
use crate::watchdog::{self, View};

/// How far back a missed interval is started.
pub(crate) const BACK: Duration = Duration::from_secs(7 * 86_400);
/// Most starts of one patrol, of all jobs together.
pub(crate) const MOST_STARTS: usize = 10;

/// What one look made of the missed intervals of one job.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Catching {
    /// Names of the runs that were started.
    pub(crate) started: Vec<String>,
    /// Intervals that are started later.
    pub(crate) waiting: usize,
    /// Why no more were started.
    pub(crate) problem: Option<String>,
}

/// Intervals that were due, whose time to start is over, and of which no run is known: oldest first.
pub(crate) fn missed(view: &View<'_>, name: &str, job: &DeployedJob) -> Vec<Interval> {
    let Some(schedule) = job.schedule().filter(|_| job.catchup != Catchup::None) else { return Vec::new() };
    let is_over = |interval: &Interval| view.now > after(interval.end, watchdog::grace(job));
    let came: BTreeSet<Timestamp> = view.history.of(name).filter(|run| run.is_usual()).filter_map(Run::due).collect();
    let is_known = |due: Timestamp| came.contains(&due) || view.failed.contains(&(name.to_owned(), due));
    let dues = watchdog::dues(job, &schedule, BACK, view.now);
    dues.into_iter().filter(|interval| is_over(interval) && !is_known(interval.end)).collect()
}

/// Those of the missed intervals that are to be started, oldest first. `begun` are the due times whose runs were started before.
///
/// With `last` only the newest: and none when a later one came by itself, or was started.
pub(crate) fn wanted(view: &View<'_>, name: &str, job: &DeployedJob, missed: Vec<Interval>, begun: &BTreeSet<Timestamp>) -> Vec<Interval> {
    match job.catchup {
        Catchup::None => Vec::new(),
        Catchup::All => missed.into_iter().filter(|interval| !begun.contains(&interval.end)).collect(),
        Catchup::Last => {
            let came = view.history.of(name).filter(|run| run.is_usual()).filter_map(Run::due).max();
            let last = came.into_iter().chain(begun.last().copied()).max();
            missed.into_iter().next_back().filter(|interval| last.is_none_or(|last| last < interval.end)).into_iter().collect()
        }
    }
}

/// The intervals that are due after this one: with `last`, one of them that has begun does what is wanted.
pub(crate) fn later(job: &DeployedJob, than: &Interval, now: Timestamp) -> Vec<Interval> {
    let Some(schedule) = job.schedule() else { return Vec::new() };
    schedule.intervals(than.end, now).collect()
}

/// The order of starts: of each job the oldest, then of each job the next, so that none waits for all of another.
pub(crate) fn in_turn(wanted: BTreeMap<String, Vec<Interval>>) -> Vec<(String, Interval)> {
    let ranked = wanted.into_iter().flat_map(|(job, intervals)| {
        intervals.into_iter().enumerate().map(move |(rank, interval)| (rank, interval.end, job.clone(), interval))
    });
    let mut ranked: Vec<_> = ranked.collect();
    ranked.sort_by(|a, b| (a.0, a.1, &a.2).cmp(&(b.0, b.1, &b.2)));
    ranked.into_iter().map(|(_, _, job, interval)| (job, interval)).collect()
}

/// The group that runs of a job count in, and how many of it may be at work at once.
pub(crate) fn room<'a>(name: &'a str, job: &'a DeployedJob) -> (&'a str, usize) {
    let written = job.concurrency.as_ref();
    written.map_or((name, 1), |concurrency| (concurrency.group.as_str(), usize::try_from(concurrency.limit).unwrap_or(1)))
}

#[cfg(test)]
mod tests;
