use proptest::prelude::{any, prop_assert, proptest};

use super::read;

fn told(error: &str, cause: &str) -> String {
    let cause = read(error, cause, None);
    format!("{} | {} | {}", cause.headline, cause.message, cause.help.unwrap_or_default())
}

fn task(rest: &str) -> String {
    format!(r#"{{"TaskArn":"arn:aws:ecs:eu-west-1:123456789012:task/errand/0123456789abcdef","Cpu":"256","Memory":"512",{rest}}}"#)
}

#[test]
fn the_ends_of_tasks_are_told_in_words() {
    let ends = [
        r#""StopCode":"EssentialContainerExited","StoppedReason":"Essential container in task exited","Containers":[{"Name":"errand","ExitCode":137,"Reason":"OutOfMemoryError: Container killed due to memory usage"}]"#,
        r#""StopCode":"EssentialContainerExited","StoppedReason":"Essential container in task exited","Containers":[{"Name":"errand","ExitCode":137}]"#,
        r#""StopCode":"TaskFailedToStart","StoppedReason":"CannotPullContainerError: pull image manifest has been retried 1 time(s): failed to resolve ref 123456789012.dkr.ecr.eu-west-1.amazonaws.com/errand:1: not found","Containers":[{"Name":"errand"}]"#,
        r#""StopCode":"TaskFailedToStart","StoppedReason":"ResourceInitializationError: unable to pull secrets or registry auth","Containers":[{"Name":"errand"}]"#,
        r#""StopCode":"SpotInterruption","StoppedReason":"Your Spot Task was interrupted.","Containers":[{"Name":"errand","ExitCode":143}]"#,
        r#""StopCode":"UserInitiated","StoppedReason":"Task stopped by user","Containers":[{"Name":"errand","ExitCode":16}]"#,
        r#""StopCode":"EssentialContainerExited","Containers":[{"Name":"errand","ExitCode":13}]"#,
        r#""StopCode":"EssentialContainerExited","StoppedReason":"Essential container in task exited","Containers":[{"Name":"errand","ExitCode":1}]"#,
        r#""StopCode":"EssentialContainerExited","Containers":[{"Name":"errand"}]"#,
        r#""StopCode":"EssentialContainerExited","Containers":[{"Name":"aws-guardduty-agent","Reason":"CannotPullContainerError: denied"},{"Name":"errand","ExitCode":139}]"#,
        r#""StopCode":"TaskFailedToStart","Containers":[]"#,
        r#""Containers":[]"#,
    ];
    let mut lines: Vec<String> = ends.iter().map(|end| told("States.TaskFailed", &task(end))).collect();
    lines.push(told("AmazonECS.Unknown", r#"{"Failures":[{"Reason":"RESOURCE:MEMORY"}],"Tasks":[]}"#));
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn the_errors_of_state_machines_are_told_in_words() {
    let errors = [
        ("States.HeartbeatTimeout", ""),
        ("States.Timeout", ""),
        ("Errand.NoReport", "no marker"),
        ("Errand.Hung", "no heartbeat came from the task in time"),
        ("Errand.OutOfMemory", ""),
        ("Errand.StartRefused", "AmazonECS.Unknown: no capacity"),
        ("Errand.StartFailed", ""),
        ("Errand.Interrupted", ""),
        ("Errand.Orchestration", "States.Runtime: odd"),
        ("Errand.BackfillIncomplete", "2 of 30"),
        ("ECS.ServerException", "Service Unavailable. Please try again later."),
        ("ECS.AmazonECSException", "Capacity is unavailable at this time"),
        ("States.Runtime", "An error occurred while executing the state 'Run'"),
        ("Errand.Rejected", ""),
        ("Odd.Error", r#"{"errorMessage":"said so","errorType":"x"}"#),
        ("", ""),
    ];
    let lines: Vec<String> = errors.iter().map(|(error, cause)| told(error, cause)).collect();
    insta::assert_snapshot!(lines.join("\n"));
    assert_eq!(read("", "", Some("ABORTED")).headline, "somebody stopped it");
    assert_eq!(read("", "", Some("TIMED_OUT")).headline, "it ran out of time");
}

#[test]
fn the_cause_of_the_runner_is_read_whole() {
    let cause = read(
        "Errand.Rejected",
        r#"{"version":1,"run_id":"r","job":"orders","environment":"prod","interval":"a/b","message":"row 2: no number","place":"orders-1.csv:3:15","help":"look","code":"ingest::rejected","step":"load","report":"s3://b/runs/r.json"}"#,
        None,
    );
    assert_eq!((cause.headline.as_str(), cause.message.as_str()), ("rows were refused", "row 2: no number"));
    assert_eq!(
        (cause.place.as_deref(), cause.step.as_deref(), cause.help.as_deref()),
        (Some("orders-1.csv:3:15"), Some("load"), Some("look"))
    );
    assert_eq!((cause.report.as_deref(), cause.interval.as_deref()), (Some("s3://b/runs/r.json"), Some("a/b")));
}

#[test]
fn a_huge_cause_is_cut() {
    let huge = "x".repeat(1 << 20);
    assert!(told("Errand.Permanent", &huge).len() < 5_000);
    let json = serde_json::json!({ "message": huge, "help": huge, "place": huge, "step": huge, "code": huge, "report": huge }).to_string();
    let cause = read("Errand.Permanent", &json, None);
    assert!(format!("{cause:?}").len() < 8_000);
}

proptest! {
    #[test]
    fn whatever_a_cause_holds_something_is_told(error in any::<String>(), cause in any::<String>()) {
        let told = read(&error, &cause, None);
        prop_assert!(!told.headline.is_empty() && !told.message.is_empty());
        prop_assert!(told.message.chars().count() <= super::MOST);
    }
}
