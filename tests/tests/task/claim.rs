//! One run for an interval, so many for a group: also when starts come twice, processes vanish and answers are lost.

use std::time::Duration;

use e2e::condition::wait_for;

use crate::stage::{Stage, TABLE};

#[test]
fn a_second_start_of_a_done_interval_ends_quietly_and_writes_nothing() {
    let stage = Stage::new("", TABLE);
    let _ = stage.run("first").expect_code(0);
    let _ = stage.run("second").expect_code(0);
    let told = stage.success();
    assert_eq!((&told["outcome"], &told["run_id"]), (&"duplicate".into(), &"second".into()));
    assert_eq!(told["report"], format!("s3://{}/errand/runs/first.json", stage.bucket.name()));
    assert_eq!(stage.bucket.keys("errand/runs/").len(), 1);
}

#[test]
fn a_second_start_of_an_interval_at_work_ends_quietly() {
    let stage = Stage::waiting("");
    let first = stage.begun(stage.task("first"));
    let _ = stage.run("second").expect_code(0);
    assert_eq!(stage.success()["outcome"], "duplicate");
    stage.go();
    let _ = first.wait().expect_code(0);
    assert_eq!((stage.success()["run_id"].as_str(), stage.success()["outcome"].as_str()), (Some("first"), Some("succeeded")));
}

#[test]
fn of_many_starts_at_once_one_works() {
    let stage = Stage::new("", TABLE);
    let tasks: Vec<_> = (0..6).map(|number| stage.task(&format!("run-{number}"))).collect();
    let running: Vec<_> = tasks.iter().map(|task| task.spawn(["task"])).collect();
    running.into_iter().for_each(|running| drop(running.wait().expect_code(0)));
    assert_eq!(stage.bucket.keys("errand/runs/").len(), 1);
    assert_eq!(stage.aws.calls_of("SendTaskSuccess").len(), 6);
}

#[test]
fn a_retry_of_a_killed_task_takes_its_own_claim_again() {
    let stage = Stage::waiting("");
    let mut first = stage.begun(stage.task("run"));
    first.kill();
    let _ = first.wait();
    stage.go();
    let _ = stage.task("run").env("ERRAND_ATTEMPT", "2").run(["task"]).expect_code(0);
    assert_eq!(stage.success()["outcome"], "succeeded");
    assert_eq!(stage.claim()["attempt"], 2);
}

#[test]
fn a_claim_of_a_task_that_vanished_is_free_after_five_heartbeats() {
    let stage = Stage::waiting("");
    let mut first = stage.begun(stage.task("first").env("ERRAND_HEARTBEAT_SECONDS", "3"));
    first.kill();
    let _ = first.wait();
    stage.go();
    let _ = stage.run("second").expect_code(0);
    assert_eq!(stage.success()["outcome"], "duplicate");
    wait_for("the claim of the vanished task to be free", Duration::from_secs(60), || {
        let _ = stage.run("third").expect_code(0);
        (stage.success()["outcome"] == "succeeded").then_some(())
    });
}

#[test]
fn a_failed_interval_can_be_started_again_and_a_done_one_by_hand_at_another_commit() {
    let mut stage = Stage::new("", "  - id: table\n    sql: { text: SELECT * FROM missing, materialize: { table: t } }\n");
    let _ = stage.run("first").expect_code(17);
    stage.commit("", TABLE);
    let _ = stage.run("second").expect_code(0);
    assert_eq!(stage.success()["outcome"], "succeeded");
    let _ = stage.task("by-hand").env("ERRAND_TRIGGER", "manual").run(["task"]).expect_code(0);
    assert_eq!(stage.success()["outcome"], "duplicate");
    stage.commit("", "  - id: table\n    sql: { text: SELECT 2 AS n, materialize: { table: t } }\n");
    let _ = stage.run("scheduled").expect_code(0);
    assert_eq!(stage.success()["outcome"], "duplicate");
    let _ = stage.task("repair").env("ERRAND_TRIGGER", "manual").run(["task"]).expect_code(0);
    assert_eq!(stage.success()["outcome"], "succeeded");
}

#[test]
fn attempts_of_one_execution_share_the_interval_that_the_first_decided() {
    let stage = Stage::new("", "  - id: table\n    sql: { text: SELECT * FROM missing, materialize: { table: t } }\n");
    for attempt in ["1", "2"] {
        let _ = stage.task("console").env("ERRAND_INTERVAL", "").env("ERRAND_ATTEMPT", attempt).run(["task"]).expect_code(17);
    }
    assert_eq!(stage.report("console")["interval"], stage.report("console.2")["interval"]);
}

fn in_group(on_overlap: &str) -> (Stage, e2e::errand::Errand, e2e::errand::Errand) {
    let stage = Stage::waiting(&format!("concurrency: {{ on_overlap: {on_overlap} }}"));
    let (one, other) = (stage.task("one"), stage.task("other").env("ERRAND_INTERVAL", "2026-11-20/2026-11-21"));
    (stage, one, other)
}

#[test]
fn a_start_past_the_limit_of_its_group_is_skipped_and_may_come_again() {
    let (stage, one, other) = in_group("skip");
    let again = stage.task("again").env("ERRAND_INTERVAL", "2026-11-20/2026-11-21");
    let first = stage.begun(one);
    let _ = other.run(["task"]).expect_code(0);
    let told = stage.success();
    assert_eq!(told["outcome"], "skipped");
    assert!(told["note"].as_str().unwrap_or_default().contains("run `one`"), "{told}");
    assert_eq!(stage.report("other")["outcome"], "skipped");
    stage.go();
    let _ = first.wait().expect_code(0);
    let _ = again.run(["task"]).expect_code(0);
    assert_eq!(stage.success()["outcome"], "succeeded");
}

#[test]
fn a_start_past_the_limit_of_its_group_waits_in_a_queue() {
    let (stage, one, other) = in_group("queue");
    let first = stage.begun(one);
    let second = other.spawn(["task"]);
    wait_for("the second to wait", Duration::from_secs(60), || second.stderr().contains("waiting for a slot").then_some(()));
    assert!(stage.aws.calls_of("SendTaskSuccess").is_empty());
    stage.go();
    let _ = first.wait().expect_code(0);
    let _ = second.wait().expect_code(0);
    assert_eq!(stage.success()["run_id"], "other");
}

#[test]
fn a_newer_start_ends_the_older_where_the_job_says_so() {
    let (stage, one, other) = in_group("cancel");
    let first = stage.begun(one);
    let second = other.spawn(["task"]);
    let _ = first.wait().expect_code(16);
    let (error, cause) = stage.failure();
    assert_eq!((error.as_str(), &cause["code"]), ("Errand.Cancelled", &"task::asked_to_end".into()));
    stage.go();
    let _ = second.wait().expect_code(0);
    assert_eq!(stage.success()["run_id"], "other");
}
