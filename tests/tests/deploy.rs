//! Schedules are brought in step with a job repository; runs are started, followed and stopped in a stack.
//!
//! Scheduler and S3 are moto's, which `tests/services start` starts; Step Functions and ECS are a scripted server.

use e2e::aws_server::{AwsServer, Reply};
use e2e::errand::{Errand, Outcome};
use e2e::moto;
use e2e::repository::Repository;
use e2e::s3::Bucket;
use e2e::services;
use serde_json::{Value, json};

const MACHINE: &str = "arn:aws:states:us-east-1:123456789012:stateMachine:errand-run";
const EXECUTIONS: &str = "arn:aws:states:us-east-1:123456789012:execution:errand-run";
const TASK: &str = "arn:aws:ecs:us-east-1:123456789012:task/errand-prod/0f1e2d";

/// A job repository, and a stack of its own for its environment `prod`.
struct Stage {
    aws: AwsServer,
    bucket: Bucket,
    repository: Repository,
    group: String,
    _scratch: tempfile::TempDir,
}

impl Stage {
    fn new() -> Self {
        let (bucket, name) = (Bucket::create(), services::unique_name().replace('_', "-"));
        let scratch = tempfile::tempdir().expect("a temporary directory can be made");
        let repository = Repository::create(scratch.path().join("repository"));
        let connection = json!({ "s3": { "bucket": bucket.name(), "endpoint": bucket.endpoint(), "region": "us-east-1" } });
        let aws = json!({
            "name": name, "repository": "https://git.example.com/acme/jobs.git", "state_machine": MACHINE,
            "backfill_state_machine": "arn:aws:states:us-east-1:123456789012:stateMachine:errand-backfill",
            "scheduler_role": "arn:aws:iam::123456789012:role/errand-scheduler",
            "dead_letter_queue": "arn:aws:sqs:us-east-1:123456789012:errand-schedules",
        });
        let environment = json!({
            "connections": { "warehouse": { "duckdb": { "path": "w.duckdb" } }, "state": connection },
            "reports": { "connection": "state", "path": "runs" }, "aws": aws,
        });
        let project = json!({
            "version": 1, "default_environment": "prod", "environments": { "prod": environment },
            "contacts": { "team": { "email": { "to": ["team@example.com"] } } },
        });
        repository.write("errand.yaml", &project.to_string());
        let group = format!("{name}-prod");
        let _ = moto::ask("scheduler", "POST", &format!("/schedule-groups/{group}"), "", &json!({ "Name": group, "ClientToken": "t" }));
        Self { aws: AwsServer::start(), bucket, repository, group, _scratch: scratch }
    }

    fn job(&self, name: &str, keys: &str) -> &Self {
        let step = "{ id: table, sql: { text: SELECT 1 AS n, materialize: { table: t } } }";
        self.repository
            .write(&format!("jobs/{name}/job.yaml"), &format!("version: 1\nname: {name}\nowner: team\n{keys}\nsteps: [{step}]\n"));
        self
    }

    fn errand(&self, arguments: &[&str]) -> Outcome {
        let set = [
            ("AWS_ENDPOINT_URL_SCHEDULER", services::s3_endpoint()),
            ("AWS_ENDPOINT_URL_SFN", self.aws.endpoint()),
            ("AWS_ENDPOINT_URL_ECS", self.aws.endpoint()),
            ("ERRAND_LOG_FORMAT", "text".to_owned()),
        ];
        let errand = services::s3_credentials().into_iter().fold(Errand::new(), |errand, (name, value)| errand.env(name, value));
        let errand = set.into_iter().fold(errand, |errand, (name, value)| errand.env(name, value));
        let repository = self.repository.path().display().to_string();
        errand.run(arguments.iter().copied().chain(["--repo", &repository]))
    }

    /// Deploys, and says how many schedules were added, changed, removed and kept.
    #[track_caller]
    fn deploy(&self) -> [usize; 4] {
        let plan = self.errand(&["deploy", "--format", "json"]).expect_code(0).json();
        let steps = plan["schedules"].as_array().cloned().unwrap_or_default();
        ["add", "change", "remove", "keep"].map(|action| steps.iter().filter(|step| step["action"] == action).count())
    }

    fn schedule(&self, name: &str) -> Value {
        moto::ask("scheduler", "GET", &format!("/schedules/{name}?groupName={}", self.group), "", &Value::Null)
    }

    fn schedules(&self) -> Vec<String> {
        let listed = moto::ask("scheduler", "GET", &format!("/schedules?ScheduleGroup={}", self.group), "", &Value::Null);
        let mut names: Vec<String> = listed["Schedules"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|schedule| schedule["Name"].as_str().map(str::to_owned))
            .collect();
        names.sort();
        names
    }

    fn deployment(&self) -> Value {
        serde_json::from_slice(&self.bucket.get("deployment.json")).expect("a deployment is JSON")
    }
}

const DAILY: &str = "schedule: { cron: \"0 6 * * 1-5\", timezone: Europe/Lisbon }";
const HOURLY: &str = "schedule: { cron: \"0 * * * *\" }";

#[test]
fn schedules_come_change_and_go_with_their_jobs() {
    let stage = Stage::new();
    stage.job("orders", DAILY).job("clicks", HOURLY).job("by_hand", "");
    let first = stage.repository.commit("two schedules");
    assert_eq!(stage.deploy(), [2, 0, 0, 0]);
    let schedule = stage.schedule("orders");
    assert_eq!(
        (&schedule["ScheduleExpression"], &schedule["ScheduleExpressionTimezone"]),
        (&"cron(0 6 ? * MON,TUE,WED,THU,FRI *)".into(), &"Europe/Lisbon".into())
    );
    let target = &schedule["Target"];
    assert_eq!(
        (&target["Arn"], &target["DeadLetterConfig"]["Arn"]),
        (&MACHINE.into(), &"arn:aws:sqs:us-east-1:123456789012:errand-schedules".into())
    );
    assert_eq!(target["RetryPolicy"], json!({ "MaximumEventAgeInSeconds": 3600, "MaximumRetryAttempts": 20 }));
    let input: Value = serde_json::from_str(target["Input"].as_str().expect("a text")).expect("JSON");
    assert_eq!((&input["ref"], &input["scheduled_at"]), (&first.as_str().into(), &"<aws.scheduler.scheduled-time>".into()));
    assert_eq!(stage.deployment()["commit"], first.as_str());
    // The watchdog starts missed intervals with what the schedule sends.
    let jobs = &stage.deployment()["jobs"];
    assert_eq!((&jobs["orders"]["order"], &jobs["by_hand"]["order"]), (&input, &Value::Null));
    assert_eq!(jobs["orders"]["concurrency"], json!({ "group": "orders", "limit": 1 }));
    assert_eq!(stage.deploy(), [0, 0, 0, 2]);
    let before = stage.deployment();

    std::fs::remove_dir_all(stage.repository.path().join("jobs/clicks")).expect("removed");
    stage.job("orders", "schedule: { cron: \"30 6 * * *\" }").job("fresh", HOURLY);
    stage.repository.commit("others");
    let plan = stage.errand(&["deploy", "--plan"]).expect_code(0).stdout;
    assert!(plan.contains("+ fresh") && plan.contains("- clicks") && plan.contains("~ orders"), "{plan}");
    assert!(plan.contains("expression: cron(0 6 ? * MON,TUE,WED,THU,FRI *) -> cron(30 6 * * ? *)"), "{plan}");
    assert_eq!((stage.schedules(), stage.deployment()), (vec!["clicks".to_owned(), "orders".to_owned()], before));
    assert_eq!(stage.deploy(), [1, 1, 1, 0]);
    assert_eq!((stage.schedules(), stage.deploy()), (vec!["fresh".to_owned(), "orders".to_owned()], [0, 0, 0, 2]));
}

#[test]
fn a_definition_with_an_error_changes_nothing() {
    let stage = Stage::new();
    stage.job("orders", DAILY);
    stage.repository.commit("right");
    stage.deploy();
    stage.job("orders", HOURLY).job("wrong", "schedule: { cron: \"61 * * * *\" }");
    stage.repository.commit("wrong");
    let _ = stage.errand(&["deploy"]).expect_code(10);
    stage.job("wrong", "schedule: { cron: \"0 6 1 * 1\" }");
    stage.repository.commit("not expressible");
    let outcome = stage.errand(&["deploy"]).expect_code(10);
    assert!(outcome.stderr.contains("EventBridge Scheduler cannot express"), "{}", outcome.stderr);
    assert!(stage.schedule("orders")["ScheduleExpression"].as_str().is_some_and(|expression| expression.contains("MON")));
    stage.job("wrong", HOURLY);
    let outcome = stage.errand(&["deploy"]).expect_code(10);
    assert!(outcome.stderr.contains("no commit holds"), "{}", outcome.stderr);
}

#[test]
fn what_others_made_in_the_group_is_left_alone() {
    let stage = Stage::new();
    let theirs = json!({
        "Description": "made by hand", "FlexibleTimeWindow": { "Mode": "OFF" }, "GroupName": stage.group, "ScheduleExpression": "rate(1 day)",
        "Target": { "Arn": MACHINE, "RoleArn": "arn:aws:iam::123456789012:role/x" },
    });
    let _ = moto::ask("scheduler", "POST", "/schedules/theirs", "", &theirs);
    stage.job("orders", DAILY);
    stage.repository.commit("a schedule");
    assert_eq!(stage.deploy(), [1, 0, 0, 0]);
    assert_eq!(stage.schedules(), ["orders", "theirs"]);
    stage.job("theirs", DAILY);
    stage.repository.commit("its name");
    let outcome = stage.errand(&["deploy"]).expect_code(10);
    assert!(outcome.stderr.contains("no deployment made"), "{}", outcome.stderr);
}

fn report(stage: &Stage, run: &str, outcome: &str) -> String {
    let mut report = json!({
        "version": 1, "run_id": run, "job": "orders", "environment": "prod", "errand_version": "0.1.0", "attempt": 1,
        "started_at": "2026-11-20T06:00:01Z", "finished_at": "2026-11-20T06:00:03Z", "duration_ms": 2000, "outcome": outcome, "steps": [],
        "peak_memory_bytes": 0,
    });
    if outcome == "failed" {
        report["failure"] = json!({ "kind": "check_failed", "code": "check::failed", "message": "`row_count` does not hold" });
    }
    stage.bucket.put(&format!("runs/{run}.json"), report.to_string());
    format!("s3://{}/runs/{run}.json", stage.bucket.name())
}

fn execution(status: &str, more: &Value) -> Reply {
    let mut found = json!({ "executionArn": EXECUTIONS, "stateMachineArn": MACHINE, "status": status, "startDate": 1_790_000_000.0 });
    for (key, value) in more.as_object().into_iter().flatten() {
        found[key.as_str()] = value.clone();
    }
    Reply::Json(found)
}

const NONE: Reply = Reply::Error(400, "ExecutionDoesNotExist");

#[test]
fn a_start_has_a_name_of_its_work_and_is_followed_to_its_report() {
    let stage = Stage::new();
    stage.job("orders", DAILY);
    let commit = stage.repository.commit("a job");
    stage.aws.next("StartExecution", [Reply::Json(json!({ "executionArn": format!("{EXECUTIONS}:x"), "startDate": 1.0 }))]);
    stage.aws.next("DescribeExecution", [NONE]);
    let interval = "2026-11-18T06:00:00Z/2026-11-19T06:00:00Z";
    let started = stage.errand(&["start", "orders", "--interval", interval, "--format", "json"]).expect_code(0).json();
    let run = started["run_id"].as_str().expect("a text").to_owned();
    assert!(run.starts_with("orders-20261118T060000Z-") && run.ends_with("-1"), "{run}");
    let call = &stage.aws.calls_of("StartExecution")[0];
    assert_eq!((&call["stateMachineArn"], &call["name"]), (&MACHINE.into(), &run.as_str().into()));
    let input: Value = serde_json::from_str(call["input"].as_str().expect("a text")).expect("JSON");
    assert_eq!((&input["ref"], &input["interval"], &input["trigger"]), (&commit.as_str().into(), &interval.into(), &"manual".into()));
    assert_eq!((&input["task_definition"], &input["scheduled_at"]), (&format!("{}-256-512", stage.group).as_str().into(), &"".into()));

    // The second start finds the first at work, follows it, and sees what its task does.
    let url = report(&stage, &run, "succeeded");
    let submitted = json!({ "Tasks": [{ "TaskArn": TASK }] }).to_string();
    let history = json!({ "events": [{ "timestamp": 1.0, "type": "TaskSubmitted", "id": 1, "taskSubmittedEventDetails": { "resourceType": "ecs", "resource": "runTask.sync", "output": submitted } }] });
    let done = json!({ "output": json!({ "outcome": "succeeded", "report": url }).to_string() });
    stage
        .aws
        .next("DescribeExecution", [execution("RUNNING", &json!({})), execution("RUNNING", &json!({})), execution("SUCCEEDED", &done)]);
    stage.aws.next("GetExecutionHistory", [Reply::Json(history)]);
    let running = json!({ "tasks": [{ "taskArn": TASK, "lastStatus": "RUNNING", "containers": [] }], "failures": [] });
    stage.aws.next("DescribeTasks", [Reply::Json(running)]);
    let outcome = stage.errand(&["start", "orders", "--interval", interval, "--follow"]).expect_code(0);
    assert!(outcome.stderr.contains("is at work on it already") && outcome.stderr.contains("task 0f1e2d: running"), "{}", outcome.stderr);
    assert!(outcome.stdout.contains("orders") && outcome.stdout.contains(&run), "{}", outcome.stdout);
    assert_eq!(stage.aws.calls_of("StartExecution").len(), 1);
}

#[test]
fn a_failed_run_is_started_again_under_the_next_number_and_its_failure_is_told() {
    let stage = Stage::new();
    stage.job("orders", DAILY);
    stage.repository.commit("a job");
    let url = report(&stage, "some-run", "failed");
    let failed = json!({ "error": "Errand.CheckFailed", "cause": json!({ "report": url }).to_string() });
    stage.aws.next("DescribeExecution", [execution("FAILED", &json!({})), NONE, execution("FAILED", &failed)]);
    stage.aws.next("StartExecution", [Reply::Json(json!({ "executionArn": format!("{EXECUTIONS}:x"), "startDate": 1.0 }))]);
    let outcome = stage.errand(&["start", "orders", "--interval", "2026-11-19", "--follow"]).expect_code(12);
    assert!(stage.aws.calls_of("StartExecution")[0]["name"].as_str().is_some_and(|name| name.ends_with("-2")));
    assert!(outcome.stdout.contains("`row_count` does not hold"), "{}", outcome.stdout);
}

#[test]
fn a_run_that_left_its_work_undone_is_no_reason_not_to_start_it() {
    let stage = Stage::new();
    stage.job("orders", DAILY);
    stage.repository.commit("a job");
    let ended = |outcome: &str, done: bool| {
        let output = json!({ "version": 1, "outcome": outcome, "done": done, "report": "", "note": "run `x` works on it" });
        execution("SUCCEEDED", &json!({ "output": output.to_string() }))
    };
    stage.aws.next("DescribeExecution", [ended("skipped", false), ended("duplicate", false), NONE]);
    stage.aws.next("StartExecution", [Reply::Json(json!({ "executionArn": format!("{EXECUTIONS}:x"), "startDate": 1.0 }))]);
    let start = ["start", "orders", "--interval", "2026-11-19"];
    let started = stage.errand(&start).expect_code(0).stdout;
    assert!(started.trim().ends_with("-3"), "{started}");
    for done in ["succeeded", "duplicate"] {
        stage.aws.next("DescribeExecution", [ended(done, true), ended(done, true)]);
        let outcome = stage.errand(&start).expect_code(0);
        assert!(outcome.stderr.contains("did it; nothing was started"), "{done}: {}", outcome.stderr);
    }
    assert_eq!(stage.aws.calls_of("StartExecution").len(), 1);
}

#[test]
fn a_run_without_report_is_told_by_its_task() {
    let stage = Stage::new();
    stage.job("orders", DAILY);
    stage.repository.commit("a job");
    let submitted = json!({ "Tasks": [{ "TaskArn": TASK }] }).to_string();
    let history = json!({ "events": [{ "timestamp": 1.0, "type": "TaskSubmitted", "id": 1, "taskSubmittedEventDetails": { "resourceType": "ecs", "resource": "runTask.sync", "output": submitted } }] });
    let cause = json!({ "StoppedReason": "OutOfMemoryError: container killed due to memory usage" }).to_string();
    stage.aws.next("DescribeExecution", [NONE, execution("FAILED", &json!({ "error": "Errand.OutOfMemory", "cause": cause }))]);
    stage.aws.next("StartExecution", [Reply::Json(json!({ "executionArn": format!("{EXECUTIONS}:x"), "startDate": 1.0 }))]);
    stage.aws.next("GetExecutionHistory", [Reply::Json(history)]);
    let container = json!({ "name": "errand", "exitCode": 137, "reason": "OutOfMemoryError" });
    let stopped = json!({ "tasks": [{ "taskArn": TASK, "lastStatus": "STOPPED", "stopCode": "EssentialContainerExited", "containers": [container] }], "failures": [] });
    stage.aws.next("DescribeTasks", [Reply::Json(stopped)]);
    let outcome = stage.errand(&["start", "orders", "--interval", "2026-11-19", "--follow"]).expect_code(17);
    for part in ["Errand.OutOfMemory", "OutOfMemoryError: container killed", "container errand exited with 137"] {
        assert!(outcome.stderr.contains(part), "{part}: {}", outcome.stderr);
    }
}

#[test]
fn a_stop_ends_the_execution_and_its_task() {
    let stage = Stage::new();
    stage.job("orders", DAILY);
    stage.repository.commit("a job");
    let submitted = json!({ "Tasks": [{ "TaskArn": TASK }] }).to_string();
    let history = json!({ "events": [{ "timestamp": 1.0, "type": "TaskSubmitted", "id": 1, "taskSubmittedEventDetails": { "resourceType": "ecs", "resource": "runTask.sync", "output": submitted } }] });
    let task =
        |status: &str| Reply::Json(json!({ "tasks": [{ "taskArn": TASK, "lastStatus": status, "containers": [] }], "failures": [] }));
    stage.aws.next("DescribeExecution", [execution("RUNNING", &json!({}))]);
    stage.aws.next("StopExecution", [Reply::Json(json!({ "stopDate": 1.0 }))]);
    stage.aws.next("GetExecutionHistory", [Reply::Json(history.clone()), Reply::Json(history)]);
    stage.aws.next("DescribeTasks", [task("RUNNING"), task("DEPROVISIONING"), task("STOPPED"), task("STOPPED")]);
    let outcome = stage.errand(&["stop", "orders-x-1"]).expect_code(0);
    assert_eq!(stage.aws.calls_of("StopExecution")[0]["executionArn"], format!("{EXECUTIONS}:orders-x-1"));
    let stop = &stage.aws.calls_of("StopTask")[0];
    assert_eq!((&stop["cluster"], &stop["task"]), (&"errand-prod".into(), &TASK.into()));
    assert!(outcome.stdout.contains("orders-x-1 is stopped; task 0f1e2d: stopped"), "{}", outcome.stdout);
    stage.aws.next("DescribeExecution", [NONE, NONE]);
    assert!(stage.errand(&["stop", "nothing"]).expect_code(10).stderr.contains("no execution `nothing`"));
}

#[test]
fn a_backfill_names_every_interval_of_the_schedule() {
    let stage = Stage::new();
    stage.job("orders", "schedule: { cron: \"0 6 * * *\" }\nconcurrency: { limit: 2 }");
    stage.repository.commit("a job");
    stage.aws.next("DescribeExecution", [NONE]);
    stage.aws.next(
        "StartExecution",
        [Reply::Json(json!({ "executionArn": "arn:aws:states:us-east-1:123456789012:execution:errand-backfill:x", "startDate": 1.0 }))],
    );
    let outcome = stage.errand(&["backfill", "orders", "--from", "2026-11-01", "--to", "2026-11-05", "--parallel", "3"]).expect_code(0);
    for part in ["3 intervals of `orders`, 2 at once", "`concurrency.limit` of `orders` is 2"] {
        assert!(outcome.stderr.contains(part), "{part}: {}", outcome.stderr);
    }
    let input: Value = serde_json::from_str(stage.aws.calls_of("StartExecution")[0]["input"].as_str().expect("a text")).expect("JSON");
    assert_eq!((&input["concurrency"], &input["run"]["trigger"]), (&2.into(), &"backfill".into()));
    let item = &input["intervals"][0];
    assert_eq!(
        (&item["interval"], &item["scheduled_at"]),
        (&"2026-11-01T06:00:00Z/2026-11-02T06:00:00Z".into(), &"2026-11-02T06:00:00Z".into())
    );
    assert!(item["name"].as_str().is_some_and(|name| name.starts_with("orders-20261101T060000Z-") && name.len() <= 77), "{item}");
    let _ = stage.errand(&["backfill", "orders", "--from", "2026-11-05", "--to", "2026-11-05T01:00:00"]).expect_code(10);
}
