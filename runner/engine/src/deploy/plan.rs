//! What has to change in Scheduler, and what does not: from the schedules that are wanted and those that are there.

use std::collections::BTreeMap;

use errand_model::failure::{Failure, FailureKind};
use errand_model::job::Job;
use errand_model::order::{Order, Origin};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use super::cron;
use crate::aws::scheduler::Schedule;

/// What the description of a schedule begins with that a deployment made. What lies beside such schedules in their group is left alone.
const MARK: &str = "errand deploy:";
/// For how long Scheduler tries to start an execution: after that, the next interval is due or people have been told.
const MAX_AGE_SECONDS: i32 = 3_600;
/// How often it does at most.
const MAX_TRIES: i32 = 20;

/// What is done with one schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Action {
    Add,
    Change,
    Remove,
    Keep,
}

/// One difference between a schedule that is there and the one that is wanted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Difference {
    pub(crate) what: String,
    pub(crate) from: String,
    pub(crate) to: String,
}

/// What becomes of one schedule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Step {
    pub(crate) job: String,
    pub(crate) action: Action,
    pub(crate) expression: String,
    pub(crate) timezone: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) differences: Vec<Difference>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) note: Option<String>,
}

impl Step {
    /// Whether nothing but the commit differs.
    pub(crate) fn is_commit_only(&self) -> bool {
        self.action == Action::Change && self.differences.iter().all(|difference| difference.what == "ref")
    }
}

/// The schedules of all jobs that have one.
///
/// Fails as `Definition` with `deploy::cron` or `deploy::size`.
pub(crate) fn wanted(origin: Origin<'_>, jobs: &[Job]) -> Result<Vec<Schedule>, Failure> {
    let aws = origin.aws;
    let of_job = |job: &Job| {
        let schedule = job.schedule.as_ref()?;
        let made = || {
            let in_job = |failure: Failure| Failure { message: format!("job `{}`: {}", job.name, failure.message), ..failure };
            Ok(Schedule {
                name: job.name.to_string(),
                expression: cron::expression(schedule).map_err(in_job)?,
                timezone: schedule.timezone().to_owned(),
                enabled: true,
                description: format!("{MARK} job {} of {}", job.name, aws.repository).chars().take(512).collect(),
                target: aws.state_machine.clone(),
                role: aws.scheduler_role.clone(),
                dead_letter_queue: aws.dead_letter_queue.clone(),
                max_age_seconds: MAX_AGE_SECONDS,
                max_tries: MAX_TRIES,
                exact: true,
                input: Order::scheduled(origin, job)?.json(),
            })
        };
        Some(made())
    };
    // Jobs without a schedule are started by hand: their size is checked here too, not at the first start.
    jobs.iter().filter(|job| job.schedule.is_none()).try_for_each(|job| Order::scheduled(origin, job).map(|_| ()))?;
    jobs.iter().filter_map(of_job).collect()
}

/// What to do, by name. What others made in the group is left out.
///
/// Fails as `Definition` with `deploy::not_ours` when a schedule of a job's name is somebody else's.
pub(crate) fn plan(wanted: &[Schedule], found: &[Schedule]) -> Result<Vec<Step>, Failure> {
    let by_name = |schedules: &[Schedule]| -> BTreeMap<String, Schedule> {
        schedules.iter().map(|schedule| (schedule.name.clone(), schedule.clone())).collect()
    };
    let (wanted, found) = (by_name(wanted), by_name(found));
    let mut steps = Vec::new();
    for (name, new) in &wanted {
        let (action, differences) = match found.get(name) {
            None => (Action::Add, Vec::new()),
            Some(old) if !is_ours(old) => return Err(not_ours(name)),
            Some(old) => {
                let differences = differences(old, new);
                (if differences.is_empty() { Action::Keep } else { Action::Change }, differences)
            }
        };
        steps.push(step(new, action, differences));
    }
    let gone = found.values().filter(|old| is_ours(old) && !wanted.contains_key(&old.name));
    steps.extend(gone.map(|old| step(old, Action::Remove, Vec::new())));
    steps.sort_by(|a, b| a.job.cmp(&b.job));
    Ok(steps)
}

/// Notes of schedules that Scheduler and the intervals of their job see differently when clocks change.
pub(crate) fn add_notes(steps: &mut [Step], jobs: &[Job], now: Timestamp) {
    for step in steps.iter_mut().filter(|step| matches!(step.action, Action::Add | Action::Change)) {
        let job = jobs.iter().find(|job| job.name.as_str() == step.job);
        step.note = job.and_then(|job| cron::note(job.schedule.as_ref()?, now));
    }
}

fn step(schedule: &Schedule, action: Action, differences: Vec<Difference>) -> Step {
    let Schedule { name, expression, timezone, .. } = schedule.clone();
    Step { job: name, action, expression, timezone, differences, note: None }
}

fn is_ours(schedule: &Schedule) -> bool {
    schedule.description.starts_with(MARK)
}

fn not_ours(name: &str) -> Failure {
    let message = format!("there is a schedule `{name}` that no deployment made");
    Failure::new(FailureKind::Definition, "deploy::not_ours", message)
        .help(format!("remove or rename it, or let its description begin with `{MARK}` to hand it over"))
}

fn differences(old: &Schedule, new: &Schedule) -> Vec<Difference> {
    let facts = |schedule: &Schedule| -> [(&'static str, String); 10] {
        let word = |is: bool, yes: &str, no: &str| if is { yes.to_owned() } else { no.to_owned() };
        [
            ("expression", schedule.expression.clone()),
            ("timezone", schedule.timezone.clone()),
            ("state", word(schedule.enabled, "enabled", "disabled")),
            ("start", word(schedule.exact, "at its time", "within a window")),
            ("description", schedule.description.clone()),
            ("target", schedule.target.clone()),
            ("role", schedule.role.clone()),
            ("dead-letter queue", schedule.dead_letter_queue.clone()),
            ("maximum age", schedule.max_age_seconds.to_string()),
            ("retries", schedule.max_tries.to_string()),
        ]
    };
    let mut all: Vec<Difference> = facts(old)
        .into_iter()
        .zip(facts(new))
        .filter(|((_, old), (_, new))| old != new)
        .map(|((what, from), (_, to))| Difference { what: what.to_owned(), from, to })
        .collect();
    if old.input != new.input {
        all.extend(of_input(&old.input, &new.input));
    }
    all
}

/// Key by key, where both are objects.
fn of_input(old: &str, new: &str) -> Vec<Difference> {
    let keys = |text: &str| serde_json::from_str::<BTreeMap<String, Value>>(text).ok();
    let whole = || vec![Difference { what: "input".to_owned(), from: old.to_owned(), to: new.to_owned() }];
    let (Some(before), Some(after)) = (keys(old), keys(new)) else { return whole() };
    let told =
        |value: Option<&Value>| value.map_or_else(String::new, |value| value.as_str().map_or_else(|| value.to_string(), str::to_owned));
    let names: std::collections::BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let differing = names.into_iter().filter(|name| before.get(*name) != after.get(*name));
    let all: Vec<Difference> =
        differing.map(|name| Difference { what: name.clone(), from: told(before.get(name)), to: told(after.get(name)) }).collect();
    // The same values in another order or spelling are the same input.
    all
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
