//! What an ECS task says of its end: the JSON that Step Functions passes on as the cause of a failed `ecs:runTask.sync`.
//!
//! A missing exit code or an empty list of containers is a failure with a name, never a success.

use errand_model::failure::FailureKind;
use serde::Deserialize;

use super::{Cause, MOST, words};
use crate::text::cut;

/// The task, as far as it tells why it ended.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Task {
    #[serde(default)]
    task_arn: Option<String>,
    #[serde(default)]
    stop_code: Option<String>,
    #[serde(default)]
    stopped_reason: Option<String>,
    #[serde(default)]
    containers: Vec<Container>,
    #[serde(default)]
    memory: Option<String>,
    #[serde(default)]
    failures: Vec<Refusal>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Container {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    exit_code: Option<i64>,
    #[serde(default)]
    reason: Option<String>,
}

/// Why RunTask started nothing.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Refusal {
    #[serde(default)]
    reason: Option<String>,
    #[serde(default)]
    detail: Option<String>,
}

/// The container of the runner in `infra/compute.yaml`.
const RUNNER: &str = "errand";

/// Headline, message, help.
type Words = (String, String, Option<String>);

/// Reads a task; nothing when the text is none.
pub(super) fn read(cause: &str) -> Option<Cause> {
    let mut task: Task = serde_json::from_str(cause).ok()?;
    if task.task_arn.is_none() && task.stop_code.is_none() && task.containers.is_empty() && task.failures.is_empty() {
        return None;
    }
    // What an account puts into every task, such as a sensor of GuardDuty, is not why it failed.
    let is_runner = |container: &Container| container.name.as_deref() == Some(RUNNER);
    if task.containers.iter().any(is_runner) {
        task.containers.retain(is_runner);
    }
    let id = task.task_arn.as_deref().and_then(|arn| arn.rsplit('/').next()).map(str::to_owned);
    let (headline, message, help) = told(&task);
    Some(Cause { headline, message: cut(&message, MOST), help, task: id, ..Cause::default() })
}

fn told(task: &Task) -> Words {
    if let Some(refusal) = task.failures.first() {
        let reason = [&refusal.reason, &refusal.detail].into_iter().flatten().cloned().collect::<Vec<_>>().join(": ");
        return words_of(
            "the task could not be started",
            format!("ECS refused to start the task: {reason}"),
            "run it again when there is capacity",
        );
    }
    let stopped = task.stopped_reason.as_deref().unwrap_or_default().trim();
    let reasons = || task.containers.iter().filter_map(|container| container.reason.as_deref()).chain([stopped]);
    let reason = |part: &str| reasons().find(|reason| reason.contains(part)).map(|reason| cut(reason, 1_000));
    let code = task.containers.iter().find_map(|container| container.exit_code.filter(|code| *code != 0));
    if reason("OutOfMemory").is_some() {
        let limit = task.memory.as_deref().map(|memory| format!(" ({memory} MB)")).unwrap_or_default();
        let message = format!("the container was killed because it used more memory than it has{limit}");
        return words_of("it ran out of memory", message, "raise `resources.memory` in `job.yaml`, or make the step's work smaller");
    }
    if let Some(why) = reason("CannotPull").or_else(|| reason("pull image")) {
        let help = "see that the image is in the registry under this tag, and that the task may reach the registry and read from it";
        return words_of("its image could not be pulled", why, help);
    }
    if let Some(why) = reason("ResourceInitializationError") {
        let help = "see that the secrets of the task exist, and that its execution role and its network reach them";
        return words_of("the task could not start", why, help);
    }
    by_stop_code(task, stopped, code)
}

fn by_stop_code(task: &Task, stopped: &str, code: Option<i64>) -> Words {
    let or = |text: &str| if stopped.is_empty() { text.to_owned() } else { stopped.to_owned() };
    match task.stop_code.as_deref() {
        Some("SpotInterruption" | "TerminationNotice") => words_of(
            "its machine was taken away",
            format!("{}: the capacity that the task ran on was needed elsewhere", or("interruption").trim_end_matches('.')),
            "run it again; set `resources.spot: false` if this happens often",
        ),
        Some("UserInitiated") => {
            words_of("somebody stopped the task", or("the task was stopped by hand"), "run it again when that is meant")
        }
        Some("TaskFailedToStart") => words_of("the task could not start", or("ECS gave no reason"), "see the reason, then run it again"),
        _ => by_exit_code(stopped, code, task.containers.is_empty()),
    }
}

fn by_exit_code(stopped: &str, code: Option<i64>, no_container: bool) -> Words {
    let logs = "read the log of the task; a second run is safe: the ledger knows what was written";
    let kind = code.and_then(|code| FailureKind::ALL.into_iter().find(|kind| i64::from(kind.exit_code()) == code));
    match (code, kind) {
        (Some(code), Some(kind)) => {
            words_of(words(kind), format!("the runner ended with exit code {code} and could not tell the state machine why"), logs)
        }
        (Some(137), None) => {
            let message = "the container was killed (SIGKILL, exit code 137): often because it used more memory than it has".to_owned();
            words_of(
                "it was killed",
                message,
                "see the memory in the run report and the log; raise `resources.memory` if it is at its limit",
            )
        }
        (Some(143), None) => words_of("it was stopped", "the container was asked to end (SIGTERM, exit code 143)".to_owned(), logs),
        (Some(139), None) => words_of("the runner crashed", "the container ended by a bad memory access (exit code 139)".to_owned(), logs),
        (Some(code), None) => words_of("the task failed", format!("the container ended with exit code {code}{}", told_too(stopped)), logs),
        (None, _) if no_container => words_of(
            "the task could not start",
            format!("the task had no container{}", told_too(stopped)),
            "see the execution and the task",
        ),
        (None, _) => {
            words_of("the task ended without a result", format!("no exit code is known of the container{}", told_too(stopped)), logs)
        }
    }
}

fn told_too(stopped: &str) -> String {
    if stopped.is_empty() { String::new() } else { format!(": {stopped}") }
}

fn words_of(headline: &str, message: String, help: &str) -> Words {
    (headline.to_owned(), message, Some(help.to_owned()))
}
