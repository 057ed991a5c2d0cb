//! Executions that are followed to their end: what the state machine says, what the task does meanwhile, and the report.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use errand_model::failure::{Failure, FailureKind};
use errand_model::job::Aws;
use errand_model::report::RunReport;
use serde_json::Value;

use super::run::{Format, Signals};
use super::{Surroundings, print, style};
use crate::aws::ecs::Tasks;
use crate::aws::step_functions::{Execution, Executions};
use crate::report::store::{self, ReportStore};
use crate::report::text;

/// Between two looks at an execution.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Most characters of a cause that are shown.
const SHOWN: usize = 600;

/// What following takes.
pub(super) struct Follower<'a> {
    pub(super) surroundings: &'a Surroundings,
    pub(super) executions: &'a Executions,
    pub(super) tasks: Tasks,
    pub(super) format: Format,
}

impl<'a> Follower<'a> {
    /// For the stack of an environment.
    ///
    /// Fails as `Definition` with `aws::ca_file`.
    pub(super) async fn new(
        surroundings: &'a Surroundings,
        executions: &'a Executions,
        aws: &Aws,
        format: Format,
    ) -> Result<Self, Failure> {
        Ok(Self { surroundings, executions, tasks: Tasks::new(aws.region()).await?, format })
    }

    /// Waits until an execution has ended, and tells meanwhile what its task does.
    ///
    /// Fails as `Cancelled` with `start::not_followed` at a signal: the execution goes on.
    pub(super) async fn to_its_end(&self, execution: &str) -> Result<Execution, Failure> {
        let mut signals = Signals::listen()?;
        let mut told = String::new();
        loop {
            let found = self.executions.describe(execution).await?.ok_or_else(|| gone(execution))?;
            if !found.is_running() {
                return Ok(found);
            }
            match self.task_of(execution).await {
                Ok(Some(task)) if task != told => {
                    self.say(&format!("task {task}"));
                    told = task;
                }
                Ok(_) => {}
                Err(failure) => tracing::debug!(why = %failure, "the task cannot be looked at"),
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => {}
                signal = signals.next() => {
                    let message = format!("no longer followed after {signal}; the run goes on");
                    let help = "`errand runs show` tells how it ended; `errand stop` ends it";
                    return Err(Failure::new(FailureKind::Cancelled, "start::not_followed", message).help(help));
                }
            }
        }
    }

    /// What the last task of an execution does or did.
    ///
    /// Fails with `aws::*`.
    pub(super) async fn task_of(&self, execution: &str) -> Result<Option<String>, Failure> {
        let tasks = self.executions.tasks(execution).await?;
        let Some(task) = tasks.last() else { return Ok(None) };
        let id = task.rsplit('/').next().unwrap_or(task);
        Ok(self.tasks.describe(task).await?.map(|task| format!("{id}: {}", task.told())))
    }

    /// Tells how a run ended, in the words of `errand run`. The exit code.
    ///
    /// Fails as the run did when it left no report.
    pub(super) async fn tell_end(
        &self,
        run: &str,
        execution: &str,
        ended: &Execution,
        reports: &ReportStore,
        out: &mut dyn Write,
    ) -> Result<u8, Failure> {
        let said: Value =
            ended.output.as_deref().or(ended.cause.as_deref()).and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
        let url = said["report"].as_str().unwrap_or_default();
        let report = reports.at_url(url).await?;
        if let (Some(outcome @ ("duplicate" | "skipped")), Some(note)) = (said["outcome"].as_str(), said["note"].as_str()) {
            self.say(&format!("{outcome}: {note}"));
        }
        if let Some((report, url)) = report {
            self.print_report(&report, &url, out)?;
            return Ok(report.failure.map_or(0, |failure| failure.kind.exit_code()));
        }
        if ended.status == "SUCCEEDED" {
            print(out, &format!("{run} succeeded, and left no report\n"))?;
            return Ok(0);
        }
        let task = self.task_of(execution).await.ok().flatten();
        Err(without_report(run, ended, &said, task.as_deref()))
    }

    fn print_report(&self, report: &RunReport, url: &str, out: &mut dyn Write) -> Result<(), Failure> {
        let settings = &self.surroundings.settings;
        let redactor = settings.secrets.redactor();
        let told = match self.format {
            Format::Text => redactor.redact(&text::summary(report, Some(Path::new(url)), style(settings.stdout))).into_owned(),
            Format::Json => store::json(report, redactor),
        };
        print(out, &told)
    }

    /// Talk, on stderr.
    pub(super) fn say(&self, line: &str) {
        self.surroundings.progress.print(format!("{line}\n").as_bytes());
    }
}

fn gone(execution: &str) -> Failure {
    Failure::new(FailureKind::Definition, "start::no_execution", format!("there is no execution `{execution}`"))
        .help("Step Functions keeps executions for 90 days; `errand runs` knows older runs")
}

/// The failure of a run that left no report, from what the state machine and the task say.
fn without_report(run: &str, ended: &Execution, said: &Value, task: Option<&str>) -> Failure {
    let error = ended.error.as_deref().unwrap_or(&ended.status);
    let message = said["message"].as_str().or_else(|| said["StoppedReason"].as_str());
    let why: String = message.or(ended.cause.as_deref()).unwrap_or_default().chars().take(SHOWN).collect();
    let message = if why.is_empty() { format!("run `{run}` ended as {error}") } else { format!("run `{run}` ended as {error}: {why}") };
    let help = [said["help"].as_str().map(str::to_owned), task.map(|task| format!("its last task is {task}"))];
    let help: Vec<String> = help.into_iter().flatten().filter(|text| !text.is_empty()).collect();
    let failure = Failure::new(kind(&ended.status, error), "start::no_report", message);
    if help.is_empty() { failure.help("its log says more") } else { failure.help(help.join("; ")) }
}

fn kind(status: &str, error: &str) -> FailureKind {
    if let Some(kind) = FailureKind::ALL.into_iter().find(|kind| kind.error_name() == error) {
        return kind;
    }
    match (status, error) {
        ("ABORTED", _) => FailureKind::Cancelled,
        ("TIMED_OUT", _) | (_, "Errand.Hung") => FailureKind::Timeout,
        (_, "Errand.StartRefused" | "Errand.StartFailed" | "Errand.Interrupted") => FailureKind::Transient,
        _ => FailureKind::Permanent,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_without_report_is_told_from_the_state_machine_and_the_task() {
        let ended = Execution {
            status: "FAILED".to_owned(),
            error: Some("Errand.OutOfMemory".to_owned()),
            cause: Some(r#"{"StoppedReason":"OutOfMemoryError: container killed"}"#.to_owned()),
            output: None,
        };
        let said = serde_json::from_str(ended.cause.as_deref().expect("set")).expect("JSON");
        let failure = without_report("orders-1", &ended, &said, Some("0f1: stopped"));
        assert_eq!(failure.message, "run `orders-1` ended as Errand.OutOfMemory: OutOfMemoryError: container killed");
        assert_eq!((failure.kind, failure.help.as_deref()), (FailureKind::Permanent, Some("its last task is 0f1: stopped")));
        for (status, error, expected) in [
            ("FAILED", "Errand.CheckFailed", FailureKind::CheckFailed),
            ("ABORTED", "ABORTED", FailureKind::Cancelled),
            ("TIMED_OUT", "States.Timeout", FailureKind::Timeout),
            ("FAILED", "Errand.Hung", FailureKind::Timeout),
            ("FAILED", "Errand.StartRefused", FailureKind::Transient),
            ("FAILED", "Errand.NoReport", FailureKind::Permanent),
        ] {
            assert_eq!(kind(status, error), expected, "{error}");
        }
    }
}
