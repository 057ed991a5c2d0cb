//! What run reports tell of the cost of a job: how long its tasks take, how many a run has, how often it was run.

use std::collections::{BTreeMap, BTreeSet};

use errand_model::report::RunReport;
use jiff::{SignedDuration, Timestamp};

/// Days back from which reports count: in so many, a job that runs once a month has run.
pub(crate) const DAYS: i64 = 32;

/// What one report tells: a run, or one attempt of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sample {
    pub(crate) environment: String,
    pub(crate) job: String,
    pub(crate) run_id: String,
    pub(crate) attempt: u32,
    pub(crate) started_at: Timestamp,
    pub(crate) duration_ms: u64,
}

impl Sample {
    /// Of a report.
    pub(crate) fn of(report: &RunReport) -> Self {
        Self {
            environment: report.environment.clone(),
            job: report.job.clone(),
            run_id: report.run_id.clone(),
            attempt: report.attempt,
            started_at: report.started_at,
            duration_ms: report.duration_ms,
        }
    }
}

/// What the reports of one job tell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct History {
    /// How many there are: one for each attempt that lived to write it.
    pub(crate) reports: usize,
    /// The middle one of their times; the mean of the two in the middle.
    pub(crate) median_ms: Option<u64>,
    /// Runs that started in the last 30 days.
    pub(crate) recent_runs: usize,
    /// All runs.
    runs: usize,
    /// Tasks of all runs. A task that was killed left no report: the number of a later attempt tells of it.
    tasks: u64,
}

impl History {
    /// Tasks of a run, on average: 1 where none was tried again, or nothing is known.
    pub(crate) fn tasks_a_run(&self) -> f64 {
        if self.runs == 0 { 1.0 } else { self.tasks as f64 / self.runs as f64 }
    }

    fn of(samples: &[&Sample], now: Timestamp) -> Self {
        let mut attempts: BTreeMap<&str, u32> = BTreeMap::new();
        for sample in samples {
            let most = attempts.entry(&sample.run_id).or_insert(1);
            *most = (*most).max(sample.attempt);
        }
        let since = days_before(now, super::DAYS.into());
        let recent: BTreeSet<&str> =
            samples.iter().filter(|sample| sample.started_at >= since).map(|sample| sample.run_id.as_str()).collect();
        Self {
            reports: samples.len(),
            median_ms: median(samples.iter().map(|sample| sample.duration_ms).collect()),
            recent_runs: recent.len(),
            runs: attempts.len(),
            tasks: attempts.values().copied().map(u64::from).sum(),
        }
    }
}

/// What the reports of an environment tell, job by job. Those of longer ago than [`DAYS`] do not count.
pub(crate) fn by_job<'a>(samples: &'a [Sample], environment: &str, now: Timestamp) -> BTreeMap<&'a str, History> {
    let since = days_before(now, DAYS);
    let mut of_jobs: BTreeMap<&str, Vec<&Sample>> = BTreeMap::new();
    for sample in samples.iter().filter(|sample| sample.environment == environment && sample.started_at >= since) {
        of_jobs.entry(&sample.job).or_default().push(sample);
    }
    of_jobs.into_iter().map(|(job, samples)| (job, History::of(&samples, now))).collect()
}

/// A moment so many days of 24 hours before another.
pub(crate) fn days_before(now: Timestamp, days: i64) -> Timestamp {
    now.checked_sub(SignedDuration::from_hours(24 * days)).unwrap_or(Timestamp::MIN)
}

fn median(mut values: Vec<u64>) -> Option<u64> {
    values.sort_unstable();
    let (lower, upper) = (values.get(values.len().checked_sub(1)? / 2)?, values.get(values.len() / 2)?);
    Some(lower.midpoint(*upper))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_or_between_two() {
        assert_eq!(median(Vec::new()), None);
        assert_eq!(median(vec![7]), Some(7));
        assert_eq!(median(vec![1_000, 1, 5]), Some(5));
        assert_eq!(median(vec![10, 1, 4, 1_000]), Some(7));
    }
}
