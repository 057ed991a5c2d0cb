//! Executions of the state machine that runs jobs: starts those of missed intervals, each once, and sees whether they are at work.

use aws_sdk_sfn::error::SdkError;
use aws_sdk_sfn::types::ExecutionStatus;
use errand_model::job::Aws;

use crate::aws::answer;

/// The state machine.
#[derive(Clone, Debug)]
pub(crate) struct Executions {
    client: aws_sdk_sfn::Client,
    /// Its ARN, where the environment names it.
    state_machine: Option<String>,
}

impl Executions {
    pub(crate) fn new(client: aws_sdk_sfn::Client, state_machine: Option<String>) -> Self {
        Self { client, state_machine }
    }

    /// Its ARN.
    ///
    /// Fails naming the variable that is missing.
    pub(crate) fn state_machine(&self) -> Result<&str, String> {
        self.state_machine
            .as_deref()
            .ok_or_else(|| "the alerting function is not told the state machine (`ERRAND_STATE_MACHINE`)".to_owned())
    }

    /// Starts an execution, unless there is or was one of this name. Its ARN.
    pub(crate) async fn start(&self, name: &str, input: &str) -> Result<String, String> {
        let machine = self.state_machine()?;
        match self.client.start_execution().state_machine_arn(machine).name(name).input(input).send().await {
            Ok(started) => Ok(started.execution_arn),
            Err(SdkError::ServiceError(error)) if error.err().is_execution_already_exists() => Ok(Aws::execution(machine, name)),
            Err(error) => Err(format!("cannot start `{name}`: {}", answer(&error))),
        }
    }

    /// Whether an execution is at work.
    pub(crate) async fn is_running(&self, name: &str) -> Result<bool, String> {
        let execution = Aws::execution(self.state_machine()?, name);
        match self.client.describe_execution().execution_arn(&execution).send().await {
            Ok(found) => Ok(matches!(found.status, ExecutionStatus::Running | ExecutionStatus::PendingRedrive)),
            Err(SdkError::ServiceError(error)) if error.err().is_execution_does_not_exist() => Ok(false),
            Err(error) => Err(format!("cannot look at `{execution}`: {}", answer(&error))),
        }
    }
}
