//! The state machines of `state-machines/` in the local cloud, with their times shortened, and runs of them.

use std::path::PathBuf;
use std::time::Duration;

use e2e::asl::{self, Times};
use e2e::cloud::{ACCOUNT, Cloud, REGION, Service};
use e2e::condition::wait_for;
use e2e::services::unique_name;
use serde_json::{Value, json};
use tempfile::TempDir;

/// The image of `services.d/task.rs`, which `tests/services` builds.
const STAND_IN: &str = "errand-test-task:latest";

/// The longest that a test waits for an execution.
const PATIENCE: Duration = Duration::from_secs(90);

/// The state machines, a cluster, and a function that writes down the alerts.
pub(crate) struct Machine {
    cloud: Cloud,
    name: String,
    alerts: TempDir,
    run: String,
    backfill: String,
}

/// What to run: the script of the stand-in, and where it differs from the ordinary.
#[derive(Clone)]
pub(crate) struct Start {
    pub(crate) script: String,
    pub(crate) task: Task,
    pub(crate) input: Vec<(&'static str, Value)>,
}

/// A task definition.
#[derive(Clone)]
pub(crate) struct Task {
    pub(crate) image: &'static str,
    pub(crate) memory: &'static str,
    /// Faults of `services.d/cloud_tasks.py`, with the number of tasks that each strikes.
    pub(crate) faults: Vec<(&'static str, u32)>,
}

impl Start {
    pub(crate) fn script(script: &str) -> Self {
        Self { script: script.to_owned(), task: Task { image: STAND_IN, memory: "512", faults: Vec::new() }, input: Vec::new() }
    }

    pub(crate) fn fault(mut self, fault: &'static str, times: u32) -> Self {
        self.task.faults.push((fault, times));
        self
    }

    pub(crate) fn with(mut self, key: &'static str, value: impl Into<Value>) -> Self {
        self.input.push((key, value.into()));
        self
    }
}

/// How an execution ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: String,
    pub(crate) error: String,
    pub(crate) cause: String,
    pub(crate) output: Value,
    /// The states that it went through.
    pub(crate) states: Vec<String>,
    /// Tasks that were started.
    pub(crate) tasks: usize,
    /// What the alerting function was called with.
    pub(crate) alerts: Vec<Value>,
}

impl Machine {
    /// Machines of their own for one test.
    pub(crate) fn deploy() -> Self {
        Self::limited(Duration::from_secs(80))
    }

    /// The same, with so much time for a whole execution.
    pub(crate) fn limited(most: Duration) -> Self {
        let (cloud, name, alerts) = (Cloud::here(), unique_name().replace('_', "-"), TempDir::new().expect("a directory for alerts"));
        cloud.ask(Service::Ecs, "CreateCluster", &json!({ "clusterName": name })).expect("a cluster");
        let function = cloud.recording_function(&name, alerts.path());
        let run = format!("{name}-run");
        let values = [
            ("Partition", "aws"),
            ("ClusterArn", &format!("arn:aws:ecs:{REGION}:{ACCOUNT}:cluster/{name}")),
            ("SubnetIds", "subnet-1,subnet-2"),
            ("SecurityGroupId", "sg-1"),
            ("AssignPublicIp", "ENABLED"),
            ("AlertFunctionArn", &function),
            ("RunStateMachineArn", &format!("arn:aws:states:{REGION}:{ACCOUNT}:stateMachine:{run}")),
            ("RunExecutionArnPrefix", &format!("arn:aws:states:{REGION}:{ACCOUNT}:execution:{run}")),
        ];
        let machine = Self { run: create(&cloud, &run, &definition("run", &values, most)), backfill: String::new(), cloud, name, alerts };
        let backfill = create(&machine.cloud, &format!("{}-backfill", machine.name), &definition("backfill", &values, most));
        Self { backfill, ..machine }
    }

    /// Starts a run. The execution's ARN.
    pub(crate) fn start(&self, start: &Start) -> String {
        let input = self.input(start);
        self.execute(&self.run, &unique_name(), &input)
    }

    /// Runs to the end.
    pub(crate) fn ran(&self, start: &Start) -> Ended {
        self.ended(&self.start(start))
    }

    /// Starts a backfill and waits for its end.
    pub(crate) fn backfilled(&self, input: &Value) -> Ended {
        let execution = self.execute(&self.backfill, &unique_name(), input);
        self.ended(&execution)
    }

    /// The input of a run.
    pub(crate) fn input(&self, start: &Start) -> Value {
        let mut input = json!({
            "version": 1, "job": "orders", "environment": "prod", "repository": "https://git.example.com/acme/jobs.git",
            "ref": "57f8c1926f575d9d75204db944ca0c4497ba75d2", "scheduled_at": "", "interval": "", "inputs": start.script, "trigger": "manual",
            "task_definition": self.define(&start.task), "capacity_provider": "FARGATE", "timeout_seconds": 60, "max_attempts": 1,
        });
        for (key, value) in &start.input {
            input[*key] = value.clone();
        }
        input
    }

    /// Waits for the end of an execution.
    pub(crate) fn ended(&self, execution: &str) -> Ended {
        let described = self.until_ended(execution);
        let text = |key: &str| described[key].as_str().unwrap_or_default().to_owned();
        let history = self.states("GetExecutionHistory", &json!({ "executionArn": execution }));
        let events = history["events"].as_array().cloned().unwrap_or_default();
        Ended {
            status: text("status"),
            error: text("error"),
            cause: text("cause"),
            output: serde_json::from_str(&text("output")).unwrap_or_default(),
            states: events.iter().filter_map(|event| event["stateEnteredEventDetails"]["name"].as_str()).map(ToOwned::to_owned).collect(),
            tasks: events.iter().filter(|event| event["type"] == "TaskSubmitted").count(),
            alerts: self.alerts().into_iter().filter(|alert| alert["execution"] == execution).collect(),
        }
    }

    fn until_ended(&self, execution: &str) -> Value {
        let mut looks = 0_u32;
        wait_for("the end of the execution", PATIENCE, || {
            looks += 1;
            // A look is a request to a busy server: one in fifty is enough.
            let look = looks % 50 == 1;
            look.then(|| self.states("DescribeExecution", &json!({ "executionArn": execution }))).filter(|seen| seen["status"] != "RUNNING")
        })
    }

    /// The containers of tasks that are at work, by their names.
    pub(crate) fn tasks_at_work(&self) -> usize {
        let listed =
            self.cloud.ask(Service::Ecs, "ListTasks", &json!({ "cluster": self.name, "desiredStatus": "RUNNING" })).expect("a list");
        listed["taskArns"].as_array().map_or(0, Vec::len)
    }

    /// Stops an execution.
    pub(crate) fn abort(&self, execution: &str) {
        self.states("StopExecution", &json!({ "executionArn": execution }));
    }

    /// Asks Step Functions.
    pub(crate) fn states(&self, action: &str, body: &Value) -> Value {
        self.cloud.ask(Service::States, action, body).unwrap_or_else(|refusal| panic!("{action}: {refusal}"))
    }

    fn execute(&self, machine: &str, name: &str, input: &Value) -> String {
        let started = self.states("StartExecution", &json!({ "stateMachineArn": machine, "name": name, "input": input.to_string() }));
        started["executionArn"].as_str().expect("an execution has an ARN").to_owned()
    }

    fn alerts(&self) -> Vec<Value> {
        let files: Vec<PathBuf> = self.alerts.path().read_dir().expect("a directory").flatten().map(|entry| entry.path()).collect();
        files
            .iter()
            .filter(|file| file.extension().is_some_and(|extension| extension == "json"))
            .map(|file| serde_json::from_slice(&std::fs::read(file).expect("an alert")).expect("an alert is JSON"))
            .collect()
    }

    fn define(&self, task: &Task) -> String {
        let family = unique_name().replace('_', "-");
        let labels: serde_json::Map<String, Value> =
            task.faults.iter().map(|(fault, times)| (format!("errand.test.{fault}"), json!(times.to_string()))).collect();
        let definition = json!({
            "family": family, "requiresCompatibilities": ["FARGATE"], "networkMode": "awsvpc", "cpu": "256", "memory": task.memory,
            "containerDefinitions": [{
                "name": "errand", "image": task.image, "essential": true, "readonlyRootFilesystem": true, "user": "10001:10001",
                "stopTimeout": 2, "dockerLabels": labels,
            }],
        });
        self.cloud.ask(Service::Ecs, "RegisterTaskDefinition", &definition).expect("a task definition");
        family
    }
}

fn create(cloud: &Cloud, name: &str, definition: &Value) -> String {
    let role = format!("arn:aws:iam::{ACCOUNT}:role/{name}");
    let body = json!({ "name": name, "definition": definition.to_string(), "roleArn": role });
    let machine = cloud.ask(Service::States, "CreateStateMachine", &body).unwrap_or_else(|refusal| panic!("{name}: {refusal}"));
    machine["stateMachineArn"].as_str().expect("a state machine has an ARN").to_owned()
}

/// A definition as it lies in the repository, with its substitutions, and with minutes shortened to seconds. Nothing else differs.
fn definition(name: &str, values: &[(&str, &str)], most: Duration) -> Value {
    let path = asl::folder().join(format!("{name}.asl.json"));
    let mut text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    for (name, value) in values {
        text = text.replace(&format!("${{{name}}}"), value);
    }
    let mut definition = asl::shortened(&text, Times { heartbeat: 12, margin: 1 });
    definition["TimeoutSeconds"] = json!(most.as_secs());
    definition
}
