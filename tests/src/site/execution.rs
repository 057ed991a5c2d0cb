//! Executions of a site's state machine: started, looked at, and followed to their end; and the containers of their tasks.

use std::time::Duration;

use jiff::SignedDuration;
use serde_json::{Value, json};

use super::{DAY, Site, seen};
use crate::clock::now;
use crate::cloud::{ACCOUNT, REGION, Service};
use crate::container::docker;
use crate::services::unique_name;

/// The longest that an execution may take.
const PATIENCE: Duration = Duration::from_secs(150);

/// Times around the minute of the schedules when the definition of the state machine must be the usual one.
const BEFORE_DUE: SignedDuration = SignedDuration::from_secs(5);
const AFTER_DUE: SignedDuration = SignedDuration::from_secs(15);

/// How an execution ended.
#[derive(Debug)]
pub struct Ended {
    /// Its name, which is the id of the run.
    pub id: String,
    /// Its input.
    pub input: Value,
    /// `SUCCEEDED`, `FAILED`, `ABORTED`, `TIMED_OUT`.
    pub status: String,
    /// The error's name; empty without one.
    pub error: String,
    /// The cause; empty without one.
    pub cause: String,
    /// The output; null without one.
    pub output: Value,
    /// Its history.
    pub events: Vec<Value>,
}

impl Ended {
    /// The states that it went through.
    #[must_use]
    pub fn states(&self) -> Vec<&str> {
        self.events.iter().filter_map(|event| event["stateEnteredEventDetails"]["name"].as_str()).collect()
    }

    /// The ARNs of its tasks.
    #[must_use]
    pub fn tasks(&self) -> Vec<String> {
        tasks_in(&self.events)
    }

    /// How often it ended.
    #[must_use]
    pub fn ends(&self) -> usize {
        let ends = ["ExecutionSucceeded", "ExecutionFailed", "ExecutionAborted", "ExecutionTimedOut"];
        self.events.iter().filter(|event| ends.iter().any(|end| event["type"] == *end)).count()
    }
}

fn tasks_in(events: &[Value]) -> Vec<String> {
    let submitted = events.iter().filter_map(|event| event["taskSubmittedEventDetails"]["output"].as_str());
    let outputs = submitted.filter_map(|text| serde_json::from_str::<Value>(text).ok());
    outputs.filter_map(|output| output["Tasks"][0]["TaskArn"].as_str().map(ToOwned::to_owned)).collect()
}

impl Site {
    /// What starts a run of a job: the input of an execution, as `errand start` and schedules give it.
    #[must_use]
    pub fn order(&self, job: &str) -> Value {
        json!({
            "version": 1, "job": self.job(job).name(), "environment": self.stack.environment(), "repository": self.url, "ref": self.commit,
            "scheduled_at": "", "interval": DAY, "inputs": "", "trigger": "manual",
            "task_definition": format!("{}-256-512", self.stack.prefix()), "capacity_provider": "FARGATE", "timeout_seconds": 600,
            "max_attempts": 1,
        })
    }

    /// Starts an execution with this input. Its name.
    #[must_use]
    pub fn begin(&self, order: &Value) -> String {
        let id = format!("{}-{}", order["job"].as_str().unwrap_or("run"), unique_name().replace("errand_", ""));
        let _usual = self.definition.read();
        let machine = self.stack.output("StateMachineArn");
        self.stack.ask(Service::States, "StartExecution", &json!({ "stateMachineArn": machine, "name": id, "input": order.to_string() }));
        id
    }

    /// Starts an execution that times out as a whole after so many seconds.
    #[must_use]
    pub fn begin_limited(&self, order: &Value, seconds: u64) -> String {
        let id = format!("{}-{}", order["job"].as_str().unwrap_or("run"), unique_name().replace("errand_", ""));
        seen("the schedules to have fired", Duration::from_secs(120), || {
            let past = now().duration_since(self.due());
            (past < -BEFORE_DUE || past > AFTER_DUE).then_some(())
        });
        let _alone = self.definition.write();
        let machine = self.stack.output("StateMachineArn");
        let found = self.stack.ask(Service::States, "DescribeStateMachine", &json!({ "stateMachineArn": machine }));
        let usual = found["definition"].as_str().unwrap_or_default();
        let mut limited: Value = serde_json::from_str(usual).unwrap_or_else(|error| panic!("the definition is no JSON: {error}"));
        limited["TimeoutSeconds"] = json!(seconds);
        let change =
            |text: &str| self.stack.ask(Service::States, "UpdateStateMachine", &json!({ "stateMachineArn": machine, "definition": text }));
        change(&limited.to_string());
        self.stack.ask(Service::States, "StartExecution", &json!({ "stateMachineArn": machine, "name": id, "input": order.to_string() }));
        change(usual);
        id
    }

    /// Runs to the end.
    #[must_use]
    #[track_caller]
    pub fn ran(&self, order: &Value) -> Ended {
        self.ended(&self.begin(order))
    }

    /// Waits for the end of an execution.
    #[must_use]
    #[track_caller]
    pub fn ended(&self, id: &str) -> Ended {
        let described = seen(&format!("the end of {id}"), PATIENCE, || {
            let described = self.described(id)?;
            (described["status"] != "RUNNING").then_some(described)
        });
        let text = |key: &str| described[key].as_str().unwrap_or_default().to_owned();
        Ended {
            id: id.to_owned(),
            input: serde_json::from_str(&text("input")).unwrap_or_default(),
            status: text("status"),
            error: text("error"),
            cause: text("cause"),
            output: serde_json::from_str(&text("output")).unwrap_or_default(),
            events: self.history(id),
        }
    }

    /// Waits for the execution that a schedule starts for a job. Its name.
    #[must_use]
    pub fn scheduled(&self, job: &str) -> String {
        self.started_by("schedule", job)
    }

    /// Waits for the execution that somebody else starts for a job: a schedule, or the watchdog (`catchup`). Its name.
    #[must_use]
    pub fn started_by(&self, trigger: &str, job: &str) -> String {
        let machine = self.stack.output("StateMachineArn");
        let limit = Duration::from_secs(150);
        seen(&format!("the {trigger} of {job}"), limit, || {
            let listed = self.stack.ask(Service::States, "ListExecutions", &json!({ "stateMachineArn": machine, "maxResults": 1000 }));
            let names = listed["executions"].as_array().into_iter().flatten().filter_map(|execution| execution["name"].as_str());
            names.map(str::to_owned).find(|name| {
                let input: Value = self
                    .described(name)
                    .and_then(|found| serde_json::from_str(found["input"].as_str().unwrap_or_default()).ok())
                    .unwrap_or_default();
                input["job"] == job && input["trigger"] == trigger
            })
        })
    }

    /// The ARN of an execution.
    #[must_use]
    pub fn execution(&self, id: &str) -> String {
        format!("arn:aws:states:{REGION}:{ACCOUNT}:execution:{}-run:{id}", self.stack.prefix())
    }

    /// The history of an execution so far.
    #[must_use]
    pub fn history(&self, id: &str) -> Vec<Value> {
        let body = json!({ "executionArn": self.execution(id), "maxResults": 1000 });
        let found = self.stack.ask(Service::States, "GetExecutionHistory", &body);
        found["events"].as_array().cloned().unwrap_or_default()
    }

    /// Waits for the container of the newest task of an execution, which must be at work. Its id.
    #[must_use]
    #[track_caller]
    pub fn container(&self, id: &str) -> String {
        seen(&format!("the container of {id}"), Duration::from_secs(60), || {
            let task = tasks_in(&self.history(id)).pop()?;
            self.containers(&[task], "running").into_iter().next()
        })
    }

    /// Containers of tasks, those that have ended too.
    #[must_use]
    pub fn containers_of(&self, tasks: &[String]) -> Vec<String> {
        ["created", "running", "paused", "exited", "dead"].iter().flat_map(|status| self.containers(tasks, status)).collect()
    }

    fn containers(&self, tasks: &[String], status: &str) -> Vec<String> {
        let of = |task: &String| {
            let label = format!("label=com.amazonaws.ecs.task-arn={task}");
            let listed = docker(["ps", "--all", "--quiet", "--filter", &label, "--filter", &format!("status={status}")]);
            String::from_utf8_lossy(&listed.stdout).split_whitespace().map(str::to_owned).collect::<Vec<_>>()
        };
        tasks.iter().flat_map(of).collect()
    }

    fn described(&self, id: &str) -> Option<Value> {
        self.stack.cloud().ask(Service::States, "DescribeExecution", &json!({ "executionArn": self.execution(id) })).ok()
    }
}
