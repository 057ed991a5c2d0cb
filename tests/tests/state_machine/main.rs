//! Every class of failure drives the state machines as they lie in `state-machines/`, in an interpreter that has Step Functions' rules.
//!
//! The container is a stand-in that does what its input says. What stands in for what is told in `tests/README.md`.
#![allow(clippy::tests_outside_test_module, reason = "a test binary is tests")]
#![allow(clippy::panic, reason = "a harness that cannot do its work fails the test that asked for it")]

mod backfill;
mod machine;

use std::time::Duration;

use e2e::condition::wait_for;
use machine::{Ended, Machine, Start, Task};

/// What a test expects: the end, the tasks that were started, and the calls of the alerting function.
#[track_caller]
fn assert_failed(ended: &Ended, error: &str, tasks: usize) {
    assert_eq!((ended.status.as_str(), ended.error.as_str(), ended.tasks), ("FAILED", error, tasks), "{ended:#?}");
    assert_eq!(ended.alerts.len(), 1, "{ended:#?}");
    assert_eq!(ended.alerts[0]["source"], "errand.run");
    assert_eq!(ended.alerts[0]["error"], error);
    assert_eq!(ended.alerts[0]["cause"], ended.cause.as_str());
    assert_eq!(ended.alerts[0]["input"]["job"], "orders");
}

#[track_caller]
fn assert_succeeded(ended: &Ended, tasks: usize) {
    assert_eq!((ended.status.as_str(), ended.tasks, ended.alerts.len()), ("SUCCEEDED", tasks, 0), "{ended:#?}");
    assert_eq!(ended.output["outcome"], "succeeded", "{ended:#?}");
}

#[test]
fn a_report_of_success_is_success_and_nobody_is_told() {
    assert_succeeded(&Machine::deploy().ran(&Start::script("beat 2 100;succeed")), 1);
}

#[test]
fn a_failure_by_token_keeps_its_name_and_cause_though_the_exit_code_follows_at_once() {
    let ended = Machine::deploy().ran(&Start::script("fail Errand.CheckFailed;exit 12"));
    assert_failed(&ended, "Errand.CheckFailed", 1);
    assert_eq!(ended.cause, r#"{"version":1,"message":"as the test says"}"#);
}

#[test]
fn a_transient_failure_is_tried_again_as_often_as_the_job_says() {
    let machine = Machine::deploy();
    assert_succeeded(&machine.ran(&Start::script("fail Errand.Transient;exit 14|succeed").with("max_attempts", 2)), 2);
    assert_failed(&machine.ran(&Start::script("fail Errand.Transient;exit 14").with("max_attempts", 3)), "Errand.Transient", 3);
    assert_failed(&machine.ran(&Start::script("fail Errand.Transient;exit 14|succeed")), "Errand.Transient", 1);
}

#[test]
fn the_end_of_a_container_without_a_report_is_a_failure_whatever_its_exit_code() {
    let machine = Machine::deploy();
    for script in ["exit 0", "exit 3", "odd"] {
        assert_failed(&machine.ran(&Start::script(script)), "Errand.NoReport", 1);
    }
}

#[test]
fn a_missing_exit_code_and_a_missing_container_are_failures() {
    let machine = Machine::deploy();
    for fault in ["lose-code", "lose-container"] {
        assert_failed(&machine.ran(&Start::script("exit 0").fault(fault, 1)), "Errand.NoReport", 1);
    }
}

#[test]
fn an_exit_code_of_the_runner_gives_the_kind_when_its_report_was_lost() {
    let machine = Machine::deploy();
    assert_failed(&machine.ran(&Start::script("exit 12")), "Errand.CheckFailed", 1);
    assert_succeeded(&machine.ran(&Start::script("exit 14|succeed").with("max_attempts", 2)), 2);
}

#[test]
fn out_of_memory_is_named() {
    let machine = Machine::deploy();
    let ended = machine.ran(&Start { task: Task { memory: "16", ..Start::script("").task }, ..Start::script("memory") });
    assert_failed(&ended, "Errand.OutOfMemory", 1);
    assert!(ended.cause.contains("\"ExitCode\":137"), "{}", ended.cause);
    assert_failed(&machine.ran(&Start::script("exit 137")), "Errand.OutOfMemory", 1);
}

#[test]
fn a_start_that_is_refused_is_tried_again_and_is_no_attempt_of_the_job() {
    let machine = Machine::deploy();
    assert_succeeded(&machine.ran(&Start::script("succeed|exit 1").fault("refuse", 1).fault("throttle", 1)), 1);
    assert_failed(&machine.ran(&Start::script("succeed").fault("refuse", 100)), "Errand.StartRefused", 0);
}

#[test]
fn an_image_that_cannot_be_pulled_is_a_failed_start_and_is_tried_twice_again() {
    let start = Start::script("succeed");
    let ended = Machine::deploy().ran(&Start { task: Task { image: "errand-test-none:latest", ..start.task.clone() }, ..start });
    assert_failed(&ended, "Errand.StartFailed", 3);
    assert!(ended.cause.contains("TaskFailedToStart"), "{}", ended.cause);
}

#[test]
fn an_interruption_is_followed_by_another_task_and_is_no_attempt_of_the_job() {
    let machine = Machine::deploy();
    assert_succeeded(&machine.ran(&Start::script("sleep 60000|succeed").fault("interrupt", 1)), 2);
    assert_succeeded(&machine.ran(&Start::script("sleep 60000|succeed").fault("terminate", 1)), 2);
}

#[test]
fn interruptions_without_end_are_a_failure() {
    assert_failed(&Machine::deploy().ran(&Start::script("sleep 60000").fault("interrupt", 100)), "Errand.Interrupted", 6);
}

#[test]
fn a_runner_that_says_cancelled_was_interrupted_under_spot_and_stopped_elsewhere() {
    let machine = Machine::deploy();
    let script = "fail Errand.Cancelled run::cancelled;exit 16|succeed";
    assert_succeeded(&machine.ran(&Start::script(script).with("capacity_provider", "FARGATE_SPOT")), 2);
    assert_failed(&machine.ran(&Start::script(script)), "Errand.Cancelled", 1);
}

#[test]
fn a_run_that_another_asked_to_end_stays_ended_under_spot() {
    let machine = Machine::deploy();
    let under_spot = |script: &str| machine.ran(&Start::script(script).with("capacity_provider", "FARGATE_SPOT"));
    for code in ["task::asked_to_end", "task::lost_claim"] {
        assert_failed(&under_spot(&format!("fail Errand.Cancelled {code};exit 16|succeed")), "Errand.Cancelled", 1);
    }
    assert_failed(&under_spot("exit 16|succeed"), "Errand.Cancelled", 1);
}

#[test]
fn missing_heartbeats_are_a_hang_and_the_task_is_stopped() {
    let machine = Machine::deploy();
    assert_failed(&machine.ran(&Start::script("beat 1 200;sleep 600000")), "Errand.Hung", 1);
    wait_for("the end of the task", Duration::from_secs(20), || (machine.tasks_at_work() == 0).then_some(()));
}

#[test]
fn heartbeats_do_not_keep_a_task_alive_past_its_time() {
    let machine = Machine::deploy();
    assert_failed(&machine.ran(&Start::script("beat 100 500").with("timeout_seconds", 8)), "Errand.Timeout", 1);
    wait_for("the end of the task", Duration::from_secs(20), || (machine.tasks_at_work() == 0).then_some(()));
}

#[test]
fn an_aborted_execution_stops_its_task_and_runs_no_catch() {
    let machine = Machine::deploy();
    let execution = machine.start(&Start::script("beat 1000 500"));
    wait_for("the task", Duration::from_secs(30), || (machine.tasks_at_work() == 1).then_some(()));
    machine.abort(&execution);
    let ended = machine.ended(&execution);
    assert_eq!((ended.status.as_str(), ended.alerts.len()), ("ABORTED", 0), "{ended:#?}");
    wait_for("the end of the task", Duration::from_secs(20), || (machine.tasks_at_work() == 0).then_some(()));
}

#[test]
fn an_execution_past_its_whole_time_is_timed_out_and_stops_its_task() {
    let machine = Machine::limited(Duration::from_secs(8));
    let ended = machine.ran(&Start::script("beat 1000 500"));
    assert_eq!((ended.status.as_str(), ended.alerts.len()), ("TIMED_OUT", 0), "{ended:#?}");
    wait_for("the end of the task", Duration::from_secs(20), || (machine.tasks_at_work() == 0).then_some(()));
}

#[test]
fn an_input_of_another_version_starts_nothing() {
    let ended = Machine::deploy().ran(&Start::script("succeed").with("version", 2));
    assert_failed(&ended, "Errand.Definition", 0);
}

#[test]
fn an_input_that_looks_like_a_stop_code_changes_nothing() {
    let start = Start::script("exit 3").with("interval", r#""StopCode":"SpotInterruption" "ExitCode":137,"#);
    assert_failed(&Machine::deploy().ran(&start), "Errand.NoReport", 1);
}
