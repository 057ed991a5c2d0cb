//! Heartbeats, and every way in which a task is ended from outside.

use std::time::{Duration, Instant};

use e2e::aws_server::Reply;

use crate::stage::{Stage, TABLE, TOKEN};

#[test]
fn a_run_beats_while_its_step_works() {
    let stage = Stage::waiting("");
    let running = stage.begun(stage.task("run"));
    stage.aws.wait_for("SendTaskHeartbeat", 4);
    stage.go();
    let _ = running.wait().expect_code(0);
}

#[test]
fn a_process_that_stands_still_beats_no_more_and_ends_when_it_goes_on() {
    let stage = Stage::waiting("");
    let running = stage.begun(stage.task("run"));
    stage.aws.wait_for("SendTaskHeartbeat", 2);
    running.signal("STOP");
    stage.aws.close(TOKEN);
    running.signal("CONT");
    let _ = running.wait().expect_code(16);
    assert_eq!(stage.report("run")["failure"]["code"], "task::abandoned");
}

#[test]
fn a_dead_token_ends_the_run_and_nothing_is_answered() {
    let stage = Stage::waiting("");
    let running = stage.begun(stage.task("run"));
    stage.aws.next("SendTaskHeartbeat", [Reply::Error(400, "TaskTimedOut")]);
    let outcome = running.wait().expect_code(16);
    let report = stage.report("run");
    assert_eq!((&report["outcome"], &report["failure"]["code"]), (&"cancelled".into(), &"task::abandoned".into()));
    assert_eq!(stage.claim()["state"], "ended");
    assert!(outcome.stderr.contains("no longer waits for this task"), "{}", outcome.stderr);
}

#[test]
fn a_task_that_nobody_waits_for_does_no_work() {
    let stage = Stage::new("", TABLE);
    stage.aws.close(TOKEN);
    let _ = stage.run("late").expect_code(16);
    assert!(stage.bucket.keys("errand/").is_empty() && !stage.path("warehouse.duckdb").exists());
}

#[test]
fn sigterm_ends_the_run_in_time_with_report_and_answer() {
    let stage = Stage::waiting("");
    let running = stage.begun(stage.task("run"));
    let since = Instant::now();
    running.terminate();
    let _ = running.wait().expect_code(16);
    assert!(since.elapsed() < Duration::from_secs(15), "{:?}", since.elapsed());
    let (error, cause) = stage.failure();
    assert_eq!((error.as_str(), &cause["code"], &cause["step"]), ("Errand.Cancelled", &"run::cancelled".into(), &"wait".into()));
    assert_eq!(stage.report("run")["outcome"], "cancelled");
    assert_eq!(stage.claim()["state"], "ended");
}

#[test]
fn sigterm_ends_in_time_also_when_a_step_and_the_services_do_not_help() {
    let mut stage = Stage::before(None);
    let script = format!("trap '' TERM; touch {}; while true; do sleep 0.05; done", stage.path("started").display());
    stage.commit("", &format!("  - id: wait\n    command: {{ run: [/bin/sh, -c, \"{script}\"] }}\n"));
    let running = stage.begun(stage.task("run"));
    stage.aws.next("SendTaskFailure", (0..50).map(|_| Reply::Error(503, "ServiceUnavailable")));
    let since = Instant::now();
    running.terminate();
    let _ = running.wait().expect_code(16);
    assert!(since.elapsed() < Duration::from_secs(18), "{:?}", since.elapsed());
    assert_eq!(stage.report("run")["outcome"], "cancelled");
}

#[test]
fn a_run_ends_at_its_deadline() {
    let stage = Stage::waiting("timeout: 2s");
    let _ = stage.run("run").expect_code(15);
    let (error, cause) = stage.failure();
    assert_eq!((error.as_str(), &cause["code"]), ("Errand.Timeout", &"run::timeout".into()));
}

#[test]
fn waiting_for_a_group_counts_to_the_deadline() {
    let stage = Stage::waiting("timeout: 6s\nconcurrency: { on_overlap: queue }");
    let first = stage.begun(stage.task("one"));
    let _ = stage.task("other").env("ERRAND_INTERVAL", "2026-11-20/2026-11-21").run(["task"]).expect_code(15);
    drop(first);
    assert_eq!(stage.failure().0, "Errand.Timeout");
}
