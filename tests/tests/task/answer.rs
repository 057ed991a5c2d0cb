//! What a task tells its state machine, and that it arrives.

use e2e::aws_server::Reply;
use e2e::s3::Bucket;
use e2e::s3_fault::{Fault, FaultyS3};
use serde_json::Value;

use crate::stage::{DAY, Stage, TABLE, TOKEN};

#[test]
fn a_run_beats_before_it_works_reports_and_answers() {
    let stage = Stage::new("", TABLE);
    let outcome = stage.run("4b3c2d1e-aaaa-bbbb-cccc-0123456789ab").expect_code(0);
    let calls = stage.aws.calls();
    assert_eq!(calls[0].operation, "SendTaskHeartbeat");
    assert!(calls.iter().all(|call| call.body["taskToken"] == TOKEN), "{calls:#?}");
    let told = stage.success();
    assert_eq!((&told["version"], &told["outcome"], &told["job"]), (&1.into(), &"succeeded".into(), &"load".into()));
    assert_eq!((&told["rows_written"], &told["warnings"]), (&1.into(), &0.into()));
    let url = format!("s3://{}/errand/runs/4b3c2d1e-aaaa-bbbb-cccc-0123456789ab.json", stage.bucket.name());
    assert_eq!(told["report"], url.as_str());
    assert_eq!(stage.report("4b3c2d1e-aaaa-bbbb-cccc-0123456789ab")["outcome"], "succeeded");
    let claim = stage.claim();
    assert_eq!((&claim["state"], &claim["report"]), (&"succeeded".into(), &url.as_str().into()));
    assert!(!outcome.stdout.contains(TOKEN) && !outcome.stderr.contains(TOKEN), "{}", outcome.stderr);
}

#[test]
fn a_failed_check_is_told_with_its_place() {
    let check = "  - id: rows\n    check: { query: SELECT 1 AS n WHERE false, expect: [{ row_count: { min: 1 } }] }\n";
    let stage = Stage::new("", &format!("{TABLE}{check}"));
    let _ = stage.run("orders 2026.11.19").expect_code(12);
    let (error, cause) = stage.failure();
    assert_eq!(error, "Errand.CheckFailed");
    assert_eq!((&cause["job"], &cause["environment"], &cause["step"]), (&"load".into(), &"prod".into(), &"rows".into()));
    assert_eq!(cause["interval"], "2026-11-19T00:00:00Z/2026-11-20T00:00:00Z");
    let run_id = cause["run_id"].as_str().expect("a text");
    assert!(run_id.starts_with("orders-2026-11-19-"), "{run_id}");
    assert_eq!(stage.report(run_id)["outcome"], "failed");
    assert_eq!(stage.claim()["state"], "ended");
}

#[test]
fn what_fails_before_the_job_is_known_is_told_the_same_way() {
    let stage = Stage::new("", TABLE);
    for (name, value, code, error) in [
        ("ERRAND_REF", "0123456789012345678901234567890123456789", 11, "Errand.Checkout"),
        ("ERRAND_JOB", "lod", 10, "Errand.Definition"),
        ("ERRAND_INPUTS", "[1]", 10, "Errand.Definition"),
        ("ERRAND_INTERVAL", "yesterday", 10, "Errand.Definition"),
        ("ERRAND_ENVIRONMENT", "dev", 10, "Errand.Definition"),
    ] {
        let task = stage.task("early").env("ERRAND_STATE_BUCKET", stage.bucket.name()).env("ERRAND_STATE_PREFIX", "errand/");
        let outcome = task.env(name, value).run(["task"]).expect_code(code);
        let (told, cause) = stage.failure();
        assert_eq!(told, error, "{name}: {}", outcome.stderr);
        assert!(!cause["message"].as_str().unwrap_or_default().is_empty() && !cause["code"].as_str().unwrap_or_default().is_empty());
        assert_eq!(stage.report("early")["failure"]["code"], cause["code"], "{name}");
    }
    let outcome = stage.task("early").env("ERRAND_REPOSITORY", "").run(["task"]).expect_code(10);
    assert!(outcome.stderr.contains("ERRAND_REPOSITORY"), "{}", outcome.stderr);
    assert_eq!(stage.failure().1["code"], "task::missing_variable");
}

#[test]
fn a_definition_with_errors_is_a_failure_with_file_and_line() {
    let stage = Stage::new("", "  - id: table\n    sql: { txt: SELECT 1 }\n");
    let _ = stage.run("wrong").expect_code(10);
    let (error, cause) = stage.failure();
    assert_eq!(error, "Errand.Definition");
    assert!(cause["place"].as_str().unwrap_or_default().starts_with("jobs/load/job.yaml:"), "{cause}");
}

#[test]
fn a_lost_answer_is_sent_again_and_a_closed_token_then_means_that_it_had_arrived() {
    let stage = Stage::new("", TABLE);
    stage.aws.next("SendTaskSuccess", [Reply::Lost]);
    let outcome = stage.run("lost").expect_code(0);
    assert_eq!(stage.aws.calls_of("SendTaskSuccess").len(), 2);
    assert!(outcome.stderr.contains("result told") && !outcome.stderr.contains("waits for the result no longer"), "{}", outcome.stderr);
}

#[test]
fn errors_of_the_service_are_waited_out() {
    let stage = Stage::new("", TABLE);
    let trouble = [Reply::Error(500, "InternalFailure"), Reply::Error(400, "ThrottlingException"), Reply::Error(503, "ServiceUnavailable")];
    stage.aws.next("SendTaskSuccess", trouble);
    stage.aws.next("SendTaskHeartbeat", [Reply::Error(500, "InternalFailure"), Reply::Lost]);
    let _ = stage.run("trouble").expect_code(0);
    assert_eq!((stage.aws.calls_of("SendTaskSuccess").len(), stage.aws.calls_of("SendTaskFailure").len()), (4, 0));
    assert_eq!(stage.success()["outcome"], "succeeded");
}

#[test]
fn a_report_that_cannot_be_kept_is_told_and_the_outcome_is_not_lost() {
    let bucket = Bucket::create();
    let faulty = FaultyS3::before(bucket.endpoint());
    let mut stage = Stage::before(Some((bucket, faulty.endpoint())));
    stage.commit("", TABLE);
    faulty.inject("/errand/runs/", Fault::Refuse { status: 403, code: "AccessDenied" }, 100);
    let outcome = stage.run("unkept").expect_code(17);
    let told = stage.success();
    assert_eq!((&told["outcome"], &told["report"]), (&"succeeded".into(), &"".into()));
    assert!(told["note"].as_str().unwrap_or_default().contains("could not be kept"), "{told}");
    assert!(outcome.stderr.contains("cannot write the run report"), "{}", outcome.stderr);
    assert_eq!(stage.claim()["state"], "succeeded");
}

/// The disk of a container is gone with it, and its log is kept.
#[test]
fn a_report_that_cannot_be_kept_is_one_line_of_the_log() {
    let bucket = Bucket::create();
    let faulty = FaultyS3::before(bucket.endpoint());
    let mut stage = Stage::before(Some((bucket, faulty.endpoint())));
    stage.commit("", TABLE);
    faulty.inject("/errand/runs/", Fault::Refuse { status: 403, code: "AccessDenied" }, 100);
    // Nor does the state machine learn anything.
    stage.aws.next("SendTaskSuccess", std::iter::repeat_n(Reply::Error(400, "InvalidOutput"), 100));
    let outcome = stage.task("unkept").env("ERRAND_LOG_FORMAT", "json").run(["task"]).expect_code(17);
    assert!(stage.bucket.keys("errand/runs/").is_empty());
    let lines = outcome.stderr.lines().filter(|line| line.contains("run report cannot be kept"));
    let lines: Vec<Value> = lines.map(|line| serde_json::from_str(line).expect("a line is JSON")).collect();
    assert_eq!(lines.len(), 1, "{}", outcome.stderr);
    assert_eq!((&lines[0]["level"], &lines[0]["run_id"]), (&"error".into(), &"unkept".into()));
    let report: Value = serde_json::from_str(lines[0]["report"].as_str().unwrap_or_default()).expect("the whole report");
    assert_eq!((&report["version"], &report["run_id"], &report["outcome"]), (&1.into(), &"unkept".into(), &"succeeded".into()));
    assert_eq!((&report["steps"][0]["id"], &report["steps"][0]["rows"]["written"]), (&"table".into(), &1.into()));
    assert!(report["peak_memory_bytes"].as_u64().is_some(), "to its last field");
}

#[test]
fn inputs_and_times_reach_the_job() {
    let keys = "inputs: { region: { type: string, enum: [br, mx] }, days: { type: integer, default: 1 } }";
    let stage = Stage::new(keys, "  - id: table\n    sql: { text: \"SELECT {{ inputs.region }} AS region\", materialize: { table: t } }\n");
    let task = stage.task("inputs").env("ERRAND_INPUTS", r#"{"region": "mx", "days": 3}"#).env("ERRAND_ATTEMPT", "2");
    let _ = task.env("ERRAND_SCHEDULED_AT", "2026-11-20T06:00:00Z").run(["task"]).expect_code(0);
    let report = stage.report("inputs.2");
    assert_eq!(report["inputs"], serde_json::json!({ "region": "mx", "days": 3 }));
    assert_eq!((&report["attempt"], &report["scheduled_at"]), (&2.into(), &"2026-11-20T06:00:00Z".into()));
    assert!(DAY.starts_with("2026-11-19") && report["interval"]["start"] == "2026-11-19T00:00:00Z", "{report}");
}
