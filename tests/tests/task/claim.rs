//! One run for an interval, so many for a group: also when starts come twice, processes vanish and answers are lost.

use std::time::Duration;

use e2e::condition::wait_for;
use e2e::errand::{Errand, Running};
use e2e::s3::Bucket;
use e2e::s3_fault::{Fault, FaultyS3};

use crate::stage::{Stage, TABLE};

#[test]
fn a_second_start_of_a_done_interval_ends_quietly_and_writes_nothing() {
    let stage = Stage::new("", TABLE);
    let _ = stage.run("first").expect_code(0);
    let _ = stage.run("second").expect_code(0);
    let told = stage.success();
    assert_eq!((&told["outcome"], &told["run_id"], &told["done"]), (&"duplicate".into(), &"second".into(), &true.into()));
    assert_eq!(told["report"], format!("s3://{}/errand/runs/first.json", stage.bucket.name()));
    assert_eq!(stage.bucket.keys("errand/runs/").len(), 1);
    let marks = stage.bucket.keys("errand/ended/");
    assert!(matches!(marks.as_slice(), [mark] if mark.ends_with("/first.json")), "what the watchdog finds the report by: {marks:?}");
}

#[test]
fn a_second_start_of_an_interval_at_work_ends_quietly() {
    let stage = Stage::waiting("");
    let first = stage.begun(stage.task("first"));
    let _ = stage.run("second").expect_code(0);
    assert_eq!((&stage.success()["outcome"], &stage.success()["done"]), (&"duplicate".into(), &false.into()));
    stage.go();
    let _ = first.wait().expect_code(0);
    assert_eq!((stage.success()["run_id"].as_str(), stage.success()["outcome"].as_str()), (Some("first"), Some("succeeded")));
}

/// A task of the same interval that somebody starts by hand, once it waits for the one that works on it.
fn waiting_by_hand(stage: &Stage, task: &Errand) -> Running {
    let running = task.spawn(["task"]);
    wait_for("the task to wait", Duration::from_secs(60), || running.stderr().contains("waiting for the run that works").then_some(()));
    assert!(stage.aws.calls_of("SendTaskSuccess").is_empty());
    running
}

#[test]
fn a_start_by_hand_waits_for_the_run_at_work_and_is_its_duplicate_when_that_succeeds() {
    let stage = Stage::waiting("");
    let first = stage.begun(stage.task("first"));
    let task = stage.task("second").env("ERRAND_TRIGGER", "backfill");
    let second = waiting_by_hand(&stage, &task);
    stage.go();
    let _ = first.wait().expect_code(0);
    let _ = second.wait().expect_code(0);
    let told = stage.success();
    assert_eq!((&told["outcome"], &told["run_id"], &told["done"]), (&"duplicate".into(), &"second".into(), &true.into()));
    assert_eq!(told["report"], format!("s3://{}/errand/runs/first.json", stage.bucket.name()));
}

#[test]
fn a_start_by_hand_does_what_the_run_at_work_left_undone() {
    let stage = Stage::waiting("");
    let first = stage.begun(stage.task("first"));
    let task = stage.task("second").env("ERRAND_TRIGGER", "manual");
    let second = waiting_by_hand(&stage, &task);
    first.terminate();
    let _ = first.wait().expect_code(16);
    stage.go();
    let _ = second.wait().expect_code(0);
    let told = stage.success();
    assert_eq!((&told["outcome"], &told["run_id"], &told["done"]), (&"succeeded".into(), &"second".into(), &true.into()));
    assert_eq!(stage.claim()["run_id"], "second");
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

#[test]
fn a_renewal_whose_answer_is_lost_ends_no_run() {
    let bucket = Bucket::create();
    let faulty = FaultyS3::before(bucket.endpoint());
    let renewal = format!("PUT /{}/errand/claims/load/", bucket.name());
    let mut stage = Stage::before(Some((bucket, faulty.endpoint())));
    stage.commit_waiting("");
    let running = stage.begun(stage.task("run"));
    // As many as one renewal tries: the server takes the first, and says of the others that the claim has changed.
    faulty.inject(&renewal, Fault::Lose, 4);
    wait_for("the renewal to fail", Duration::from_secs(60), || running.stderr().contains("a claim could not be renewed").then_some(()));
    let so_far = faulty.requests(&renewal);
    wait_for("two further renewals", Duration::from_secs(60), || (faulty.requests(&renewal) >= so_far + 2).then_some(()));
    stage.go();
    let _ = running.wait().expect_code(0);
    assert_eq!((&stage.success()["outcome"], &stage.claim()["state"]), (&"succeeded".into(), &"succeeded".into()));
}

#[test]
fn a_signal_after_a_lost_claim_leaves_the_steps_their_time() {
    let mut stage = Stage::before(None);
    let (told, ended) = (stage.path("told"), stage.path("ended"));
    let at_term = format!("touch {}; sleep 3; touch {}; exit 1", told.display(), ended.display());
    let script = format!("trap '{at_term}' TERM; touch {}; while true; do sleep 0.05; done", stage.path("started").display());
    stage.commit("", &format!("  - id: wait\n    command: {{ run: [/bin/sh, -c, \"{script}\"] }}\n"));
    let running = stage.begun(stage.task("run"));
    let claim = stage.bucket.keys("errand/claims/load/").remove(0);
    let mut taken = stage.claim();
    (taken["run_id"], taken["holder"]) = ("other".into(), "another-process".into());
    stage.bucket.put(&claim, taken.to_string());
    wait_for("the step to be told", Duration::from_secs(60), || told.exists().then_some(()));
    running.terminate();
    let outcome = running.wait().expect_code(16);
    assert!(ended.exists() && !outcome.stderr.contains("ending the run at once"), "{}", outcome.stderr);
    let (error, cause) = stage.failure();
    assert_eq!((error.as_str(), &cause["code"], &cause["step"]), ("Errand.Cancelled", &"task::lost_claim".into(), &"wait".into()));
    assert_eq!(stage.claim()["run_id"], "other");
}

fn in_group(on_overlap: &str) -> (Stage, Errand, Errand) {
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
    assert_eq!((&told["outcome"], &told["done"]), (&"skipped".into(), &false.into()));
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
fn starts_by_hand_of_a_job_that_says_nothing_of_concurrency_wait_and_are_not_skipped() {
    for trigger in ["manual", "backfill"] {
        let stage = Stage::waiting("");
        let first = stage.begun(stage.task("one"));
        let other = stage.task("other").env("ERRAND_INTERVAL", "2026-11-20/2026-11-21").env("ERRAND_TRIGGER", trigger);
        let second = other.spawn(["task"]);
        wait_for("the second to wait", Duration::from_secs(60), || second.stderr().contains("waiting for a slot").then_some(()));
        stage.go();
        let _ = first.wait().expect_code(0);
        let _ = second.wait().expect_code(0);
        assert_eq!((&stage.success()["run_id"], &stage.success()["outcome"]), (&"other".into(), &"succeeded".into()), "{trigger}");
    }
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
