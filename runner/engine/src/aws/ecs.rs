//! ECS: what became of a task that the state machine lost sight of, and its end by hand.

use aws_sdk_ecs::Client;
use errand_model::failure::Failure;

use super::service::{self, PATIENT};

/// Tasks of the clusters of one region.
pub(crate) struct Tasks {
    client: Client,
}

/// One task, as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Task {
    /// `PROVISIONING`, `PENDING`, `RUNNING`, `STOPPING`, `STOPPED` ...
    pub(crate) status: String,
    /// Which sort of stop, such as `TaskFailedToStart`.
    pub(crate) stop_code: Option<String>,
    /// Why it stopped.
    pub(crate) stopped_reason: Option<String>,
    /// Of each container: name, exit code, reason.
    pub(crate) containers: Vec<(String, Option<i32>, Option<String>)>,
}

impl Task {
    /// `stopped (EssentialContainerExited: Essential container in task exited); container errand exited with 137 (OutOfMemoryError)`.
    pub(crate) fn told(&self) -> String {
        let mut text = self.status.to_lowercase();
        let why: Vec<&str> = [self.stop_code.as_deref(), self.stopped_reason.as_deref()].into_iter().flatten().collect();
        if !why.is_empty() {
            text = format!("{text} ({})", why.join(": "));
        }
        for (name, exit, reason) in &self.containers {
            let reason = reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
            match exit {
                Some(exit) => text = format!("{text}; container {name} exited with {exit}{reason}"),
                None if !reason.is_empty() => text = format!("{text}; container {name}{reason}"),
                None => {}
            }
        }
        text
    }
}

impl Tasks {
    /// For one region.
    ///
    /// Fails as `Definition` with `aws::ca_file`.
    pub(crate) async fn new(region: &str) -> Result<Self, Failure> {
        Ok(Self { client: Client::new(&service::config(Some(region), PATIENT).await?) })
    }

    /// One task; none when ECS has forgotten it, which it does an hour after its end.
    ///
    /// Fails with `aws::*`.
    pub(crate) async fn describe(&self, task: &str) -> Result<Option<Task>, Failure> {
        let request = self.client.describe_tasks().set_cluster(cluster(task)).tasks(task);
        let answer = request.send().await.map_err(|error| service::failure("look at the task", task, "ecs:DescribeTasks", &error))?;
        let container = |container: &aws_sdk_ecs::types::Container| {
            let name = container.name().unwrap_or("?").to_owned();
            (name, container.exit_code(), container.reason().map(str::to_owned))
        };
        Ok(answer.tasks().first().map(|task| Task {
            status: task.last_status().unwrap_or("UNKNOWN").to_owned(),
            stop_code: task.stop_code().map(|code| code.as_str().to_owned()),
            stopped_reason: task.stopped_reason().map(str::to_owned),
            containers: task.containers().iter().map(container).collect(),
        }))
    }

    /// Asks a task to stop: SIGTERM, then SIGKILL after its stop timeout.
    ///
    /// Fails with `aws::*`.
    pub(crate) async fn stop(&self, task: &str, reason: &str) -> Result<(), Failure> {
        let request = self.client.stop_task().set_cluster(cluster(task)).task(task).reason(reason);
        request.send().await.map(|_| ()).map_err(|error| service::failure("stop the task", task, "ecs:StopTask", &error))
    }
}

/// The cluster that a task's ARN names: `arn:aws:ecs:<region>:<account>:task/<cluster>/<id>`.
fn cluster(task: &str) -> Option<String> {
    let mut parts = task.split('/').skip(1);
    let (cluster, id) = (parts.next()?, parts.next());
    id.map(|_| cluster.to_owned())
}

#[cfg(test)]
mod tests {
    use super::{Task, cluster};

    #[test]
    fn a_task_says_where_it_runs_and_how_it_ended() {
        assert_eq!(cluster("arn:aws:ecs:eu-west-1:1:task/errand-prod/0f1").as_deref(), Some("errand-prod"));
        assert_eq!(cluster("arn:aws:ecs:eu-west-1:1:task/0f1"), None);
        let task = Task {
            status: "STOPPED".to_owned(),
            stop_code: Some("EssentialContainerExited".to_owned()),
            stopped_reason: Some("Essential container in task exited".to_owned()),
            containers: vec![("errand".to_owned(), Some(137), Some("OutOfMemoryError".to_owned()))],
        };
        let told =
            "stopped (EssentialContainerExited: Essential container in task exited); container errand exited with 137 (OutOfMemoryError)";
        assert_eq!(task.told(), told);
    }
}
