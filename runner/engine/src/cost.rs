//! What an environment costs a month: jobs and run reports → the formula of `infra/README.md`, with its prices.
//!
//! Pure: reads no file, asks no service and prints nothing. Money is in US dollars, a month has 30 days.

pub(crate) mod history;
pub(crate) mod price;
mod rate;
pub(crate) mod stack;
pub(crate) mod text;

use errand_model::failure::{Failure, FailureKind};
use errand_model::job::{Job, Project};
use errand_model::order;
use jiff::Timestamp;
use serde::Serialize;

use history::{History, Sample};
use stack::StackCost;

/// Days of a month.
pub(crate) const DAYS: u32 = 30;
/// Seconds of a task before the runner starts and after it ends: Fargate bills from the pull of the image on.
const AROUND_SECONDS: f64 = 30.0;
/// Seconds that Fargate bills at least. A job without a report is taken to need no more.
const LEAST_SECONDS: f64 = 60.0;

/// What is known of an environment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts<'a> {
    pub(crate) project: &'a Project,
    pub(crate) environment: &'a str,
    /// All jobs of the repository.
    pub(crate) jobs: &'a [Job],
    /// What reports tell, those of the last [`history::DAYS`] days at least.
    pub(crate) samples: &'a [Sample],
    /// Bytes of all reports that are kept.
    pub(crate) report_bytes: u64,
    pub(crate) now: Timestamp,
}

/// What an environment costs a month.
#[derive(Clone, Debug)]
pub(crate) struct Estimate {
    pub(crate) environment: String,
    /// Region of its stack; none when it has no stack.
    pub(crate) region: Option<String>,
    /// The dearest first.
    pub(crate) jobs: Vec<JobCost>,
    /// What is paid beside runs; empty when only some jobs were asked for.
    pub(crate) stack: Vec<StackCost>,
}

/// What the runs of one job cost a month.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct JobCost {
    pub(crate) job: String,
    /// Whether its runs are those of its schedule; else they are those of the last 30 days.
    pub(crate) scheduled: bool,
    /// Runs a month.
    pub(crate) runs: f64,
    /// Tasks a month: each attempt of a run is one.
    pub(crate) tasks: f64,
    /// Reports that the median stands on.
    pub(crate) reports: usize,
    /// Median of the time that a report tells; none without a report, then the least that Fargate bills is assumed.
    pub(crate) median_ms: Option<u64>,
    /// Seconds that are billed for one task.
    pub(crate) billed_seconds: f64,
    pub(crate) vcpu: f64,
    /// Memory in GB of 1024 MB, as Fargate bills it.
    pub(crate) gb: f64,
    /// Whether Fargate offers just what the job asks for; else the next size is counted, and `errand deploy` refuses the job.
    pub(crate) offered: bool,
    pub(crate) spot: bool,
    pub(crate) usd: f64,
}

impl Estimate {
    /// What these facts come to, for all jobs and the stack, or for the named jobs alone. Each name is that of a job.
    ///
    /// Fails as `Definition` with `deploy::size` when Fargate has nothing so large as a job asks for.
    pub(crate) fn of(facts: &Facts<'_>, named: &[String]) -> Result<Self, Failure> {
        let histories = history::by_job(facts.samples, facts.environment, facts.now);
        let unknown = History::default();
        let is_wanted = |job: &&Job| named.is_empty() || named.iter().any(|name| job.name.as_str() == name);
        let cost = |job: &Job| JobCost::of(job, histories.get(job.name.as_str()).unwrap_or(&unknown), facts.now);
        let mut jobs = facts.jobs.iter().filter(is_wanted).map(cost).collect::<Result<Vec<_>, _>>()?;
        jobs.sort_by(|one, other| other.usd.total_cmp(&one.usd).then_with(|| one.job.cmp(&other.job)));
        let stack = if named.is_empty() { stack::costs(facts, &jobs) } else { Vec::new() };
        let found = facts.project.environments.get(facts.environment);
        let region = found.and_then(|environment| environment.aws.as_ref()).map(|aws| aws.region().to_owned());
        Ok(Self { environment: facts.environment.to_owned(), region, jobs, stack })
    }

    /// What its runs cost a month.
    pub(crate) fn runs_usd(&self) -> f64 {
        self.jobs.iter().map(|job| job.usd).sum()
    }

    /// What it costs a month.
    pub(crate) fn usd(&self) -> f64 {
        self.runs_usd() + self.stack.iter().map(|part| part.usd).sum::<f64>()
    }

    /// What it costs a day.
    pub(crate) fn usd_a_day(&self) -> f64 {
        self.usd() / f64::from(DAYS)
    }
}

impl JobCost {
    fn of(job: &Job, history: &History, now: Timestamp) -> Result<Self, Failure> {
        let (units, megabytes) = order::size(&job.resources).ok_or_else(|| too_large(job))?;
        let (vcpu, gb) = (f64::from(units) / 1024.0, megabytes as f64 / 1024.0);
        let runs = job.schedule.as_ref().map_or(history.recent_runs as f64, |schedule| rate::runs_a_month(schedule, now));
        let tasks = runs * history.tasks_a_run();
        let billed_seconds = history.median_ms.map_or(LEAST_SECONDS, |ms| billed_seconds(ms as f64 / 1000.0));
        let spot = job.resources.spot;
        Ok(Self {
            job: job.name.to_string(),
            scheduled: job.schedule.is_some(),
            runs,
            tasks,
            reports: history.reports,
            median_ms: history.median_ms,
            billed_seconds,
            vcpu,
            gb,
            offered: megabytes == job.resources.memory_bytes.div_ceil(1 << 20) && units == job.resources.cpu_millis * 1024 / 1000,
            spot,
            usd: tasks * billed_seconds / 3600.0 * price::task_hour(vcpu, gb, spot),
        })
    }

    /// Whether its cost stands on an assumption instead of reports.
    pub(crate) fn is_assumed(&self) -> bool {
        self.median_ms.is_none() && self.runs > 0.0
    }
}

/// Seconds that Fargate bills for a task whose run takes so many.
fn billed_seconds(seconds: f64) -> f64 {
    (seconds + AROUND_SECONDS).max(LEAST_SECONDS)
}

fn too_large(job: &Job) -> Failure {
    let message = format!("job `{}`: Fargate offers no task with {} MB", job.name, job.resources.memory_bytes.div_ceil(1 << 20));
    Failure::new(FailureKind::Definition, "deploy::size", message).help("ask for less `memory` in `resources`")
}

#[cfg(test)]
pub(crate) mod tests;
