//! Why an execution failed, in words: from the runner's own cause, from the JSON of an ECS task, or from what Step Functions says.
//!
//! Pure. A cause is text from elsewhere: whatever it holds, something readable comes out, and no more of it than people read.

mod task;

use errand_model::failure::FailureKind;
use serde::Deserialize;

use crate::text::{cut, one_line};

/// Most characters of a cause that is shown.
const MOST: usize = 1_500;
/// Most characters of a help.
const MOST_HELP: usize = 600;

/// Why it failed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cause {
    /// A few words, for a title: `rows were refused`.
    pub(crate) headline: String,
    /// What happened.
    pub(crate) message: String,
    /// `file:line:column`.
    pub(crate) place: Option<String>,
    pub(crate) step: Option<String>,
    /// What to do.
    pub(crate) help: Option<String>,
    /// The failure's stable word.
    pub(crate) code: Option<String>,
    /// URL of the run report.
    pub(crate) report: Option<String>,
    /// `<start>/<end>`.
    pub(crate) interval: Option<String>,
    /// The job, where the event did not say.
    pub(crate) job: Option<String>,
    /// Id of the ECS task.
    pub(crate) task: Option<String>,
}

/// What the runner sends with SendTaskFailure.
#[derive(Deserialize)]
struct Told {
    message: String,
    #[serde(default)]
    job: String,
    #[serde(default)]
    interval: String,
    #[serde(default)]
    place: String,
    #[serde(default)]
    help: String,
    #[serde(default)]
    code: String,
    #[serde(default)]
    step: String,
    #[serde(default)]
    report: String,
}

/// Reads the error name and the cause of an execution. `status` is that of the execution, where it is known.
pub(crate) fn read(error: &str, cause: &str, status: Option<&str>) -> Cause {
    if let Some(found) = of_runner(error, cause).or_else(|| task::read(cause)) {
        return found;
    }
    let (headline, message, help) = of_step_functions(error, status);
    let said = readable(cause);
    let message = match (message.is_empty(), said.is_empty()) {
        (true, true) => "nothing more is known".to_owned(),
        (true, false) => said,
        (false, true) => message,
        (false, false) => format!("{message}: {said}"),
    };
    Cause { headline, message: cut(&message, MOST), help: help.map(str::to_owned), ..Cause::default() }
}

/// The JSON of the runner, itself or inside of another's `cause`.
fn of_runner(error: &str, cause: &str) -> Option<Cause> {
    let told: Told = serde_json::from_str(cause).ok()?;
    let some = |text: String, most: usize| Some(cut(text.trim(), most)).filter(|text| !text.is_empty());
    Some(Cause {
        headline: kind_of(error).map_or_else(|| "the run failed".to_owned(), |kind| words(kind).to_owned()),
        message: some(told.message, MOST).unwrap_or_else(|| "no message".to_owned()),
        place: some(told.place, 300),
        step: some(told.step, 100),
        help: some(told.help, MOST_HELP),
        code: some(told.code, 100),
        report: some(told.report, 1_000),
        interval: some(told.interval, 200),
        job: some(told.job, 100),
        task: None,
    })
}

fn kind_of(error: &str) -> Option<FailureKind> {
    FailureKind::ALL.into_iter().find(|kind| kind.error_name() == error)
}

/// What a kind of failure is called in a title.
pub(crate) const fn words(kind: FailureKind) -> &'static str {
    match kind {
        FailureKind::Definition => "its definition or an input is wrong",
        FailureKind::Checkout => "the job repository could not be checked out",
        FailureKind::CheckFailed => "a check did not hold",
        FailureKind::Rejected => "rows were refused",
        FailureKind::Transient => "a connection or a service failed",
        FailureKind::Timeout => "it ran out of time",
        FailureKind::Cancelled => "it was cancelled",
        FailureKind::Permanent => "the warehouse or a program refused the work",
        FailureKind::Internal => "a defect in Errand",
    }
}

/// Where to look when a task says nothing itself.
const LOGS: &str = "read the log of the task; a second run is safe: the ledger knows what was written";

/// Headline, message and help of an error that is not the runner's.
fn of_step_functions(error: &str, status: Option<&str>) -> (String, String, Option<&'static str>) {
    let told = |headline: &str, message: &str, help| (headline.to_owned(), message.to_owned(), help);
    if let Some(kind) = kind_of(error) {
        return told(words(kind), "", None);
    }
    if let Some((headline, message, help)) = of_state_machine(error) {
        return told(headline, message, help);
    }
    match (error, status) {
        (error, _) if error.starts_with("Errand.") => told(&format!("it failed ({error})"), "", None),
        (_, Some("ABORTED")) => told("somebody stopped it", "the execution was stopped by hand", Some("run it again when that is meant")),
        (_, Some("TIMED_OUT")) => told("it ran out of time", "the execution was still going when its time was over", Some(LOGS)),
        ("", _) => told("the execution failed", "", None),
        (error, _) => told(&format!("the execution failed ({})", cut(&one_line(error), 60)), "", None),
    }
}

/// The same for the names that Step Functions and our state machines give.
fn of_state_machine(error: &str) -> Option<(&'static str, &'static str, Option<&'static str>)> {
    Some(match error {
        "Errand.Hung" | "States.HeartbeatTimeout" => (
            "the task stopped answering",
            "the task gave no sign of life for several minutes: it hung, its network was gone, or its machine died",
            Some(LOGS),
        ),
        "States.Timeout" => (
            "it ran out of time",
            "the run was still going when its time was over",
            Some("see which step took long, or raise `timeout` in `job.yaml`"),
        ),
        "Errand.NoReport" => ("the task ended without a result", "the task ended, but it told no result", Some(LOGS)),
        "Errand.OutOfMemory" => (
            "it ran out of memory",
            "the container was killed because it used more memory than it has",
            Some("raise `resources.memory` in `job.yaml`, or make the step's work smaller"),
        ),
        "Errand.BackfillIncomplete" => (
            "a backfill is not complete",
            "some intervals of the backfill are not done; those that failed have alerts of their own",
            Some("repair the cause, then start the same backfill again: it goes on with what is missing"),
        ),
        "Errand.StartFailed" => ("the task could not start", "the task could not start, although it was tried several times", None),
        "Errand.Interrupted" => (
            "its machine was taken away",
            "the task was interrupted several times",
            Some("set `resources.spot: false` if this happens often"),
        ),
        "Errand.Orchestration" | "States.Runtime" | "States.DataLimitExceeded" => (
            "the state machine could not go on",
            "the state machine itself failed",
            Some("see the execution; this is a defect of the stack, not of the job"),
        ),
        "States.Permissions" => {
            ("the state machine lacks a permission", "the state machine may not do something", Some("see the role of the state machine"))
        }
        _ if error == "Errand.StartRefused" || error.starts_with("ECS.") || error.starts_with("AmazonECS") => (
            "the task could not be started",
            "ECS refused to start the task",
            Some("see capacity, limits of the account, and the role of the state machine; then run it again"),
        ),
        _ => return None,
    })
}

/// A text that is not for machines stays; of JSON, the message in it.
fn readable(cause: &str) -> String {
    match serde_json::from_str::<serde_json::Value>(cause) {
        Ok(serde_json::Value::Object(fields)) => {
            let message = ["message", "Message", "errorMessage", "cause", "Cause"].iter().find_map(|key| fields.get(*key)?.as_str());
            message.map_or_else(|| one_line(cause), |text| text.trim().to_owned())
        }
        Ok(serde_json::Value::String(text)) => text.trim().to_owned(),
        Ok(_) | Err(_) => cause.trim().to_owned(),
    }
}

#[cfg(test)]
mod tests;
