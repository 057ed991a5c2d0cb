//! The stack of `infra/`: checked by the tools that check such things, and deployed whole to the local cloud.
#![allow(clippy::tests_outside_test_module, reason = "a test binary is tests")]
#![allow(clippy::panic, reason = "a harness that cannot do its work fails the test that asked for it")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use e2e::cloud::{ACCOUNT, Cloud, REGION, Service, stored_zip};
use e2e::condition::wait_for;
use e2e::program::search_path;
use e2e::services::unique_name;
use serde_json::{Value, json};
use tempfile::TempDir;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package lies in the repository").to_owned()
}

/// A program of one of the Python environments that `tests/setup test` makes.
#[track_caller]
fn tool(environment: &str, program: &str) -> Command {
    let setup = Command::new(repository().join("tests/setup")).args(["python", environment]).output().expect("tests/setup is there");
    let python = PathBuf::from(String::from_utf8_lossy(&setup.stdout).trim());
    let program = python.with_file_name(program);
    assert!(program.is_file(), "`{}` is not there; run `tests/setup test`", program.display());
    let mut command = Command::new(program);
    command.current_dir(repository()).env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

#[track_caller]
fn assert_silent(command: &mut Command) {
    let Output { status, stdout, stderr } = command.output().expect("the tool starts");
    let said = format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success(), "{said}");
}

fn templates() -> Vec<String> {
    let files = repository().join("infra").read_dir().expect("infra is there").flatten();
    let names = files.map(|file| format!("infra/{}", file.file_name().to_string_lossy()));
    let mut names: Vec<String> = names.filter(|name| name.ends_with(".yaml")).collect();
    names.sort();
    assert!(names.len() >= 9, "{names:?}");
    names
}

fn read(path: &str) -> String {
    std::fs::read_to_string(repository().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// W3002 says that a template needs `aws cloudformation package`, which `infra/deploy` calls.
#[test]
fn templates_are_valid() {
    assert_silent(tool("lint", "cfn-lint").args(["--ignore-checks", "W3002", "--"]).args(templates()));
}

#[test]
fn state_machines_are_valid_and_every_substitution_is_used() {
    let directory = TempDir::new().expect("a directory");
    let mut check = tool("lint", "python");
    assert_silent(check.args(["tests/services.d/check_stack.py", "machines", "infra/state-machines.yaml"]).arg(directory.path()));
    assert_silent(tool("lint", "cfn-lint").arg("--").arg(directory.path().join("state-machines.json")));
}

/// What is suppressed says why beside the resource.
#[test]
fn the_stack_follows_the_recommendations_of_its_platform() {
    assert_silent(tool("lint", "checkov").args([
        "--directory",
        "infra",
        "--framework",
        "cloudformation",
        "--compact",
        "--quiet",
        "--skip-download",
    ]));
}

#[test]
fn policies_are_well_formed_and_every_action_fits_its_resource() {
    assert_silent(tool("lint", "python").args(["tests/services.d/check_stack.py", "policies", "infra/permissions.yaml"]));
}

#[test]
fn the_parameters_of_run_task_are_those_of_ecs() {
    assert_silent(tool("lint", "python").args(["tests/services.d/check_stack.py", "run-task", "state-machines/run.asl.json"]));
}

#[test]
fn every_role_and_state_is_explained() {
    let (infra, machines) = (read("infra/README.md"), read("state-machines/README.md"));
    for line in read("infra/permissions.yaml").lines() {
        if let Some(role) = line.strip_prefix("      RoleName: !Sub \"${Prefix}-").and_then(|rest| rest.strip_suffix('"')) {
            assert!(infra.contains(&format!("`…-{role}`")), "infra/README.md does not explain the role `…-{role}`");
        }
    }
    for name in ["run", "backfill"] {
        let machine: Value = serde_json::from_str(&read(&format!("state-machines/{name}.asl.json"))).expect("JSON");
        let inner = &machine["States"]["Intervals"]["ItemProcessor"]["States"];
        for states in [&machine["States"], inner] {
            for state in states.as_object().into_iter().flat_map(serde_json::Map::keys) {
                assert!(machines.contains(&format!("`{state}`")), "state-machines/README.md does not explain `{state}`");
            }
        }
    }
}

/// A stack of its own, deployed by the script that a platform engineer uses.
struct Stack {
    cloud: Cloud,
    environment: String,
    outputs: Vec<(String, String)>,
}

impl Stack {
    fn deploy(directory: &Path) -> Self {
        let (cloud, environment) =
            (Cloud::here(), unique_name().replace('_', "-").replace("errand-", "t").chars().take(12).collect::<String>());
        let zip = directory.join("alert.zip");
        let script = format!("#!/bin/sh\n# stands in for the alerting function: takes one event, writes it down, ends\n{RUNTIME}")
            .replace("DIRECTORY", &directory.display().to_string());
        std::fs::write(&zip, stored_zip("bootstrap", script.as_bytes(), 0o755)).expect("a file");
        let mut deploy = Command::new(repository().join("infra/deploy"));
        deploy.args(["--alert", &zip.display().to_string(), "--image-tag", "test", "--environment", &environment]);
        let mail = ["MailFrom=errand@example.com", "MailIdentityArn=arn:aws:ses:us-east-1:123456789012:identity/example.com"];
        let output = in_cloud(&mut deploy, &cloud).args(["--", "Architecture=X86_64"]).args(mail).output().expect("infra/deploy is there");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
        let outputs =
            said.lines().filter_map(|line| line.split_once('\t')).map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        Self { cloud, environment, outputs }
    }

    fn output(&self, name: &str) -> &str {
        let found = self.outputs.iter().find(|(key, _)| key == name);
        found.map_or_else(|| panic!("the stack has no output `{name}`: {:?}", self.outputs), |(_, value)| value)
    }

    fn aws<const N: usize>(&self, arguments: [&str; N]) -> Value {
        let output =
            in_cloud(&mut tool("cloud", "aws"), &self.cloud).args(arguments).args(["--output", "json"]).output().expect("aws starts");
        assert!(output.status.success(), "aws {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap_or_default()
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        let name = format!("errand-{}", self.environment);
        let _ = in_cloud(&mut tool("cloud", "aws"), &self.cloud).args(["cloudformation", "delete-stack", "--stack-name", &name]).output();
    }
}

/// The AWS CLI of the tests first on the search path, and the local cloud as its only cloud.
fn in_cloud<'c>(command: &'c mut Command, cloud: &Cloud) -> &'c mut Command {
    let aws = PathBuf::from(tool("cloud", "aws").get_program());
    let mut path = aws.parent().expect("a program lies in a directory").as_os_str().to_owned();
    path.push(":");
    path.push(search_path());
    command.env("PATH", path).env("AWS_ENDPOINT_URL", cloud.endpoint()).env("AWS_REGION", REGION).env("AWS_DEFAULT_REGION", REGION);
    command.env("AWS_ACCESS_KEY_ID", ACCOUNT).env("AWS_SECRET_ACCESS_KEY", "local")
}

/// The runtime interface of Lambda in a few lines of shell. It ends with the local cloud: curl's 7 is a connection refused.
const RUNTIME: &str = r#"
while true; do
    headers=$(curl -s -D - -o "DIRECTORY/event.$$" "http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime/invocation/next")
    [ $? -ne 7 ] || exit 0
    id=$(echo "$headers" | tr -d '\r' | sed -n 's/^[Ll]ambda-[Rr]untime-[Aa]ws-[Rr]equest-[Ii]d: //p')
    mv "DIRECTORY/event.$$" "DIRECTORY/$id.json"
    curl -s -X POST -d '{}' "http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime/invocation/$id/response" >/dev/null
done
"#;

fn events(directory: &Path) -> Vec<Value> {
    let files = directory.read_dir().expect("a directory").flatten().map(|entry| entry.path());
    let events = files.filter(|file| file.extension().is_some_and(|extension| extension == "json"));
    events.filter_map(|file| serde_json::from_slice(&std::fs::read(file).ok()?).ok()).collect()
}

#[test]
fn the_stack_comes_up_whole_and_a_schedule_in_it_starts_a_run_whose_failure_is_told() {
    let directory = TempDir::new().expect("a directory");
    let stack = Stack::deploy(directory.path());
    let name = format!("errand-{}", stack.environment);
    let stacks = stack.aws(["cloudformation", "list-stacks", "--stack-status-filter", "CREATE_COMPLETE"]);
    let mine = stacks["StackSummaries"]
        .as_array()
        .map_or(0, |all| all.iter().filter(|one| one["StackName"].as_str().is_some_and(|stack| stack.starts_with(&name))).count());
    assert_eq!(mine, 10, "the stack and the nine beside it: {stacks:#}");
    let sizes = stack.aws(["ecs", "list-task-definition-families", "--family-prefix", &format!("{name}-")]);
    assert_eq!(sizes["families"].as_array().map(Vec::len), Some(124), "each size of Fargate for each image: {sizes:#}");

    assert_function_knows_its_surroundings(&stack);

    // No image was pushed: the run must end as a start that failed, and people must hear of it.
    let input = json!({
        "version": 1, "job": "orders", "environment": stack.environment, "repository": "https://git.example.com/acme/jobs.git", "ref": "main",
        "scheduled_at": "<aws.scheduler.scheduled-time>", "interval": "", "inputs": "", "trigger": "schedule",
        "task_definition": format!("{name}-256-512"), "capacity_provider": "FARGATE", "timeout_seconds": 60, "max_attempts": 1,
    });
    let target = json!({
        "Arn": stack.output("StateMachineArn"), "RoleArn": stack.output("SchedulerRoleArn"), "Input": input.to_string(),
        "DeadLetterConfig": { "Arn": stack.output("ScheduleQueueArn") },
    });
    let group = stack.output("ScheduleGroup");
    let _ = stack.aws([
        "scheduler",
        "create-schedule",
        "--group-name",
        group,
        "--name",
        "orders",
        "--schedule-expression",
        "at(2026-01-01T06:00:00)",
        "--flexible-time-window",
        "Mode=OFF",
        "--target",
        &target.to_string(),
    ]);
    let started = wait_for("the schedule's run", Duration::from_secs(30), || {
        let list =
            stack.cloud.ask(Service::States, "ListExecutions", &json!({ "stateMachineArn": stack.output("StateMachineArn") })).ok()?;
        list["executions"][0]["executionArn"].as_str().map(ToOwned::to_owned)
    });
    let described = stack.cloud.ask(Service::States, "DescribeExecution", &json!({ "executionArn": started })).expect("an execution");
    let input: Value = serde_json::from_str(described["input"].as_str().expect("an input")).expect("JSON");
    assert!(input["scheduled_at"].as_str().is_some_and(|time| time.ends_with('Z')), "{input}");
    let told = wait_for("the alert", Duration::from_secs(80), || {
        events(directory.path()).into_iter().find(|event| event["source"] == "errand.run")
    });
    assert_eq!((&told["execution"], &told["error"]), (&json!(started), &json!("Errand.StartFailed")), "{told:#}");
    let status = wait_for("the event of the failed execution", Duration::from_secs(30), || {
        events(directory.path()).into_iter().find(|event| event["detail-type"] == "Step Functions Execution Status Change")
    });
    assert_eq!((&status["detail"]["executionArn"], &status["detail"]["status"]), (&json!(started), &json!("FAILED")), "{status:#}");
    runs_when_the_image_is_there(&stack, input);
}

/// It is told the state machine by a name, for that is made after it.
fn assert_function_knows_its_surroundings(stack: &Stack) {
    let function = stack.aws(["lambda", "get-function-configuration", "--function-name", stack.output("AlertFunction")]);
    let variables = &function["Environment"]["Variables"];
    let expected = (json!(stack.output("StateMachineArn")), json!("errand@example.com"));
    assert_eq!((&variables["ERRAND_STATE_MACHINE"], &variables["ERRAND_EMAIL_FROM"]), (&expected.0, &expected.1));
}

/// The same run by hand, now with an image: it is not root, writes nowhere but to its volume, and reports.
fn runs_when_the_image_is_there(stack: &Stack, mut input: Value) {
    let image = format!("{}:test", stack.output("SlimRepositoryUri"));
    let docker = |arguments: &[&str]| Command::new("docker").args(arguments).output().expect("docker is installed (`tests/setup test`)");
    assert!(docker(&["tag", "errand-test-task:latest", &image]).status.success(), "`tests/services start` builds `errand-test-task`");
    input["inputs"] = json!("beat 1 100;succeed");
    let start = json!({ "stateMachineArn": stack.output("StateMachineArn"), "name": "by-hand", "input": input.to_string() });
    let started = stack.cloud.ask(Service::States, "StartExecution", &start).expect("an execution");
    let ended = wait_for("the end of the run", Duration::from_secs(60), || {
        let described = stack.cloud.ask(Service::States, "DescribeExecution", &json!({ "executionArn": started["executionArn"] })).ok()?;
        Some(described).filter(|described| described["status"] != "RUNNING")
    });
    let _ = docker(&["rmi", &image]);
    assert_eq!(ended["status"], "SUCCEEDED", "{ended:#}");
}
