//! Step Functions: what a task says to the state machine that started it, and executions as people start, follow and end them.

use std::time::Duration;

use aws_sdk_sfn::Client;
use aws_sdk_sfn::config::http::HttpResponse;
use aws_sdk_sfn::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_sfn::types::HistoryEventType;
use errand_model::failure::{Failure, chain};

use super::failure::status;
use super::service::{self, Limits, PATIENT};

/// A task counts its attempts itself: of a repeated request it must know whether the first one may have arrived.
const ONCE: Limits = Limits { attempt: Duration::from_secs(10), attempts: 1 };

/// The state machine's end of a task token.
pub(crate) struct Caller {
    client: Client,
    token: String,
}

/// What became of one message to the state machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    /// It was taken.
    Taken,
    /// Nobody waits for the token any more: the word of Step Functions.
    Dead(String),
    /// It may have arrived and may not: no answer, or an error of the server.
    Unknown(String),
    /// It did not arrive; later it may.
    Later(String),
    /// It will never be taken.
    Refused(String),
}

impl Caller {
    /// Finds region and credentials; nothing is sent yet.
    ///
    /// Fails as `Definition` with `aws::ca_file`.
    pub(crate) async fn new(token: &str) -> Result<Self, Failure> {
        Ok(Self { client: Client::new(&service::config(None, ONCE).await?), token: token.to_owned() })
    }

    /// Says that the task is alive.
    pub(crate) async fn heartbeat(&self) -> Sent {
        sent(self.client.send_task_heartbeat().task_token(&self.token).send().await)
    }

    /// Ends the state well.
    pub(crate) async fn success(&self, output: &str) -> Sent {
        sent(self.client.send_task_success().task_token(&self.token).output(output).send().await)
    }

    /// Ends the state as failed.
    pub(crate) async fn failure(&self, error: &str, cause: &str) -> Sent {
        sent(self.client.send_task_failure().task_token(&self.token).error(error).cause(cause).send().await)
    }
}

fn sent<T, E>(answer: Result<T, SdkError<E, HttpResponse>>) -> Sent
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    let Err(error) = answer else { return Sent::Taken };
    let (code, why) = (service::code(&error), chain(&error));
    match error {
        SdkError::ServiceError(_) => match code {
            "TaskTimedOut" | "TaskDoesNotExist" | "InvalidToken" => Sent::Dead(code.to_owned()),
            _ if service::is_throttled(&error) => Sent::Later(code.to_owned()),
            _ if status(&error).is_some_and(|status| status >= 500) => Sent::Unknown(format!("{why} {code}")),
            _ => Sent::Refused(match error.message() {
                Some(message) => format!("{message} ({code})"),
                None => format!("{why} ({code})"),
            }),
        },
        SdkError::ConstructionFailure(_) => Sent::Refused(why),
        _ => Sent::Unknown(why),
    }
}

/// Executions of the state machines of one region.
pub(crate) struct Executions {
    client: Client,
}

/// What a start came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Started {
    /// There is a new execution, or one of the same name and input that still runs: its ARN.
    Runs(String),
    /// There was an execution of this name, with other input or ended.
    Exists,
}

/// One execution, as it is now.
#[derive(Clone, Debug)]
pub(crate) struct Execution {
    /// `RUNNING`, `SUCCEEDED`, `FAILED`, `TIMED_OUT`, `ABORTED`, `PENDING_REDRIVE`.
    pub(crate) status: String,
    /// The error name of one that failed.
    pub(crate) error: Option<String>,
    /// Why it failed.
    pub(crate) cause: Option<String>,
    /// What it put out.
    pub(crate) output: Option<String>,
}

impl Execution {
    /// Whether it goes on.
    pub(crate) fn is_running(&self) -> bool {
        matches!(self.status.as_str(), "RUNNING" | "PENDING_REDRIVE")
    }
}

impl Executions {
    /// For the region of a state machine.
    ///
    /// Fails as `Definition` with `aws::ca_file`.
    pub(crate) async fn new(region: &str) -> Result<Self, Failure> {
        Ok(Self { client: Client::new(&service::config(Some(region), PATIENT).await?) })
    }

    /// Starts an execution. The same name and input again is the same execution while that runs.
    ///
    /// Fails with `aws::*`.
    pub(crate) async fn start(&self, state_machine: &str, name: &str, input: &str) -> Result<Started, Failure> {
        match self.client.start_execution().state_machine_arn(state_machine).name(name).input(input).send().await {
            Ok(started) => Ok(Started::Runs(started.execution_arn)),
            Err(error) if service::code(&error) == "ExecutionAlreadyExists" => Ok(Started::Exists),
            Err(error) => Err(service::failure("start an execution of", state_machine, "states:StartExecution", &error)),
        }
    }

    /// One execution; none when there is no such one.
    ///
    /// Fails with `aws::*`.
    pub(crate) async fn describe(&self, execution: &str) -> Result<Option<Execution>, Failure> {
        match self.client.describe_execution().execution_arn(execution).send().await {
            Ok(found) => Ok(Some(Execution {
                status: found.status.as_str().to_owned(),
                error: found.error,
                cause: found.cause,
                output: found.output,
            })),
            Err(error) if service::code(&error) == "ExecutionDoesNotExist" => Ok(None),
            Err(error) => Err(service::failure("look at the execution", execution, "states:DescribeExecution", &error)),
        }
    }

    /// The tasks that an execution started so far, oldest first: their ARNs.
    ///
    /// Fails with `aws::*`.
    pub(crate) async fn tasks(&self, execution: &str) -> Result<Vec<String>, Failure> {
        let mut tasks = Vec::new();
        let mut next = None;
        loop {
            let request = self.client.get_execution_history().execution_arn(execution).max_results(1000);
            let page = request.set_next_token(next).send().await;
            let page = page.map_err(|error| service::failure("read the history of", execution, "states:GetExecutionHistory", &error))?;
            for event in page.events().iter().filter(|event| event.r#type == HistoryEventType::TaskSubmitted) {
                let output = event.task_submitted_event_details().and_then(|details| details.output()).unwrap_or_default();
                tasks.extend(task_arns(output).into_iter().filter(|task| !tasks.contains(task)).collect::<Vec<_>>());
            }
            next = page.next_token;
            if next.is_none() {
                return Ok(tasks);
            }
        }
    }

    /// Ends an execution.
    ///
    /// Fails with `aws::*`.
    pub(crate) async fn stop(&self, execution: &str, error: &str, cause: &str) -> Result<(), Failure> {
        let request = self.client.stop_execution().execution_arn(execution).error(error).cause(cause);
        let answer = request.send().await;
        answer.map(|_| ()).map_err(|error| service::failure("stop the execution", execution, "states:StopExecution", &error))
    }
}

/// The ARNs of tasks in what `RunTask` answered.
fn task_arns(output: &str) -> Vec<String> {
    let value: serde_json::Value = serde_json::from_str(output).unwrap_or_default();
    let tasks = value["Tasks"].as_array().cloned().unwrap_or_else(|| vec![value]);
    tasks.iter().filter_map(|task| task["TaskArn"].as_str().map(str::to_owned)).collect()
}

#[cfg(test)]
mod tests {
    use super::task_arns;

    #[test]
    fn tasks_are_found_in_what_run_task_answered() {
        assert_eq!(task_arns(r#"{"Failures":[],"Tasks":[{"TaskArn":"arn:a"},{"TaskArn":"arn:b"}]}"#), ["arn:a", "arn:b"]);
        assert_eq!(task_arns(r#"{"TaskArn":"arn:a"}"#), ["arn:a"]);
        assert!(task_arns("").is_empty() && task_arns("[]").is_empty());
    }
}
