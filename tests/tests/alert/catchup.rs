//! Missed intervals are started: each once, oldest first, a bounded number at a time. Step Functions is a scripted server.

use std::collections::BTreeSet;

use e2e::aws_server::Reply;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use serde_json::{Value, json};

use crate::site::{EMAIL, MACHINE, SLACK, Site, caught, cause, minutes_ago, tick};

/// What the schedule of the job starts it with.
fn order() -> Value {
    json!({
        "version": 1, "job": "orders", "environment": "prod", "repository": "https://github.com/acme/jobs.git", "ref": "b".repeat(40),
        "scheduled_at": "<aws.scheduler.scheduled-time>", "interval": "", "inputs": "", "trigger": "schedule",
        "task_definition": "errand-prod-256-512", "capacity_provider": "FARGATE_SPOT", "timeout_seconds": 3600, "max_attempts": 2,
    })
}

/// A job that was due so many times, once an hour, the last time at `due`, and of which no run is known.
fn missed(site: &Site, due: Timestamp, count: i64, catchup: &str, change: impl FnOnce(&mut Value)) -> Vec<Timestamp> {
    let dues: Vec<Timestamp> = (0..count).rev().map(|back| due - back.hours()).collect();
    let hours: Vec<String> = dues.iter().map(|due| due.to_zoned(TimeZone::UTC).hour().to_string()).collect();
    let cron = format!("{} {} * * *", due.to_zoned(TimeZone::UTC).minute(), hours.join(","));
    site.deploy(&[("data-platform", &["slack"]), ("finance", &["email"])], |job| {
        job["schedule"] = json!({ "cron": cron, "timezone": "UTC" });
        job["since"] = (dues[0] - 30.minutes()).to_string().into();
        job["catchup"] = catchup.into();
        job["order"] = order();
        change(job);
    });
    dues
}

/// So many of the job's runs may be at work at once.
fn at_once(limit: u32) -> impl FnOnce(&mut Value) {
    move |job| job["concurrency"] = json!({ "group": "orders", "limit": limit })
}

/// What was started: names, and the times at which the runs were due.
fn started(site: &Site) -> (Vec<String>, Vec<String>) {
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let calls = site.states.calls_of("StartExecution");
    assert!(calls.iter().all(|call| call["stateMachineArn"] == MACHINE), "{calls:?}");
    let input = |call: &Value| serde_json::from_str::<Value>(&text(&call["input"])).expect("JSON");
    calls.iter().map(|call| (text(&call["name"]), text(&input(call)["scheduled_at"]))).unzip()
}

fn texts(dues: &[Timestamp]) -> Vec<String> {
    dues.iter().map(ToString::to_string).collect()
}

#[test]
fn every_missed_interval_is_started_once_oldest_first_and_ten_at_a_time() {
    let site = Site::new();
    let dues = missed(&site, minutes_ago(45), 12, "all", at_once(40));
    let lambda = site.lambda();
    let answer = lambda.invoke(&tick()).expect("a tick");
    assert_eq!((answer["started"].as_array().map(Vec::len), started(&site).1), (Some(10), texts(&dues[..10])), "{answer}");
    for _ in 0..3 {
        lambda.invoke(&tick()).expect("a tick");
    }
    let (names, times) = started(&site);
    assert_eq!(times, texts(&dues));
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), 12, "{names:?}");
    assert!(names.iter().all(|name| name.starts_with("orders-") && name.contains("-catchup-") && name.len() <= 80), "{names:?}");
    let mut expected = order();
    (expected["scheduled_at"], expected["trigger"]) = (dues[0].to_string().into(), "catchup".into());
    let input = site.states.calls_of("StartExecution")[0]["input"].as_str().map(serde_json::from_str::<Value>).expect("a text");
    assert_eq!(input.expect("JSON"), expected);
    site.assert_no_secret(&lambda);
}

#[test]
fn no_more_are_at_work_at_once_than_the_job_says_and_people_read_what_becomes_of_them() {
    let site = Site::new();
    let dues = missed(&site, minutes_ago(45), 3, "all", |_| {});
    let lambda = site.lambda();
    lambda.invoke(&tick()).expect("a tick");
    let (names, _) = started(&site);
    let (slack, mail) = (site.received(SLACK)[0].text.clone(), site.received(EMAIL)[0].text.clone());
    for part in ["started by itself as run", &names[0], "the others follow when their group has room, oldest first", "catchup: all"] {
        assert!(slack.contains(part), "{part}: {slack}");
    }
    assert!(mail.contains("The missed runs are started by themselves, one after the other."), "{mail}");
    // As long as it is at work, the next one waits.
    let running = json!({ "executionArn": "x", "stateMachineArn": MACHINE, "status": "RUNNING", "startDate": 1.0 });
    site.states.next("DescribeExecution", [Reply::Json(running)]);
    lambda.invoke(&tick()).expect("a tick");
    assert_eq!(started(&site).1, texts(&dues[..1]));
    assert!(site.states.calls_of("DescribeExecution")[0]["executionArn"].as_str().is_some_and(|arn| arn.ends_with(&names[0])));
    site.report(&names[0], dues[0], "succeeded");
    for (number, due) in dues.iter().enumerate().skip(1) {
        lambda.invoke(&tick()).expect("a tick");
        let (names, times) = started(&site);
        assert_eq!(times, texts(&dues[..=number]));
        site.report(&names[number], *due, "succeeded");
    }
    lambda.invoke(&tick()).expect("well again");
    assert_eq!((started(&site).1.len(), site.counts([SLACK])), (3, [2]));
    assert!(site.received(SLACK)[1].text.contains("is well again"));
}

#[test]
fn of_several_only_the_last_is_started() {
    let site = Site::new();
    let dues = missed(&site, minutes_ago(45), 4, "last", at_once(40));
    let lambda = site.lambda();
    lambda.invoke(&tick()).expect("a tick");
    let (names, times) = started(&site);
    assert_eq!(times, texts(&dues[3..]));
    lambda.invoke(&tick()).expect("a tick");
    site.report(&names[0], dues[3], "succeeded");
    lambda.invoke(&tick()).expect("a tick");
    assert_eq!(started(&site).1.len(), 1);
}

#[test]
fn the_last_is_not_started_when_a_later_run_is_at_work() {
    let site = Site::new();
    // The last one was due a moment ago, and its run has claimed its interval.
    let dues = missed(&site, minutes_ago(5), 3, "last", at_once(40));
    claim(&site, dues[1], dues[2]);
    let lambda = site.lambda();
    for _ in 0..2 {
        lambda.invoke(&tick()).expect("a tick");
    }
    assert!(started(&site).1.is_empty());
}

#[test]
fn without_catchup_nothing_is_started() {
    let site = Site::new();
    missed(&site, minutes_ago(45), 2, "none", at_once(40));
    site.lambda().invoke(&tick()).expect("a tick");
    assert!(started(&site).1.is_empty());
    assert!(site.received(SLACK)[0].text.contains("stay missed unless somebody runs them"));
}

fn claim(site: &Site, start: Timestamp, end: Timestamp) {
    let time = |moment: Timestamp| moment.strftime("%Y%m%dT%H%M%SZ").to_string();
    let claim = json!({ "version": 1, "run_id": "by-itself", "taken_at": (end + 1.minutes()).to_string() });
    site.put(&format!("claims/orders/{}-{}", time(start), time(end)), &claim);
}

#[test]
fn an_interval_that_was_claimed_or_reported_is_not_started() {
    let site = Site::new();
    let dues = missed(&site, minutes_ago(45), 5, "all", at_once(40));
    claim(&site, dues[0], dues[1]);
    site.report("orders-failed", dues[2], "failed");
    site.report("orders-skipped", dues[3], "skipped");
    let lambda = site.lambda();
    for _ in 0..2 {
        lambda.invoke(&tick()).expect("a tick");
    }
    assert_eq!(started(&site).1, texts(&[dues[0], dues[4]]));
}

#[test]
fn two_patrols_at_once_start_it_once() {
    let site = Site::new();
    missed(&site, minutes_ago(45), 2, "all", at_once(40));
    let (one, other) = (site.lambda(), site.lambda());
    std::thread::scope(|scope| {
        scope.spawn(|| one.invoke(&tick()).expect("a tick"));
        scope.spawn(|| other.invoke(&tick()).expect("a tick"));
    });
    // Both may ask for it: under one name, which Step Functions takes once.
    let names: BTreeSet<String> = started(&site).0.into_iter().collect();
    assert_eq!(names.len(), 2, "{names:?}");
}

#[test]
fn an_execution_that_is_there_already_is_a_start() {
    let site = Site::new();
    missed(&site, minutes_ago(45), 1, "all", at_once(40));
    site.states.next("StartExecution", [Reply::Error(400, "ExecutionAlreadyExists")]);
    let lambda = site.lambda();
    for _ in 0..3 {
        lambda.invoke(&tick()).expect("a tick");
    }
    assert_eq!(started(&site).1.len(), 1);
}

#[test]
fn one_that_failed_is_not_started_again_also_at_another_commit() {
    let site = Site::new();
    let due = minutes_ago(45);
    missed(&site, due, 1, "all", at_once(40));
    let lambda = site.lambda();
    lambda.invoke(&tick()).expect("a tick");
    let name = started(&site).0.remove(0);
    let mut failed = caught(&name, due, "Errand.Rejected", &cause());
    failed["input"]["trigger"] = "catchup".into();
    lambda.invoke(&failed).expect("told");
    assert!(site.received(SLACK)[1].text.contains("it is not started by itself again"), "{}", site.received(SLACK)[1].text);
    for report in [None, Some("failed")] {
        if let Some(outcome) = report {
            site.report(&name, due, outcome);
        }
        missed(&site, due, 1, "all", |job| job["order"]["ref"] = "c".repeat(40).into());
        lambda.invoke(&tick()).expect("a tick");
    }
    assert_eq!((started(&site).1.len(), site.counts([SLACK])), (1, [2]));
}

#[test]
fn a_start_that_is_refused_is_told_and_tried_again() {
    let site = Site::new();
    missed(&site, minutes_ago(45), 1, "all", at_once(40));
    site.states.next("StartExecution", [Reply::Error(400, "AccessDeniedException")]);
    let lambda = site.lambda();
    let error = lambda.invoke(&tick()).expect_err("somebody must act");
    assert!(error["errorMessage"].as_str().is_some_and(|text| text.contains("cannot start `orders-")), "{error}");
    assert!(site.received(SLACK)[0].text.contains("not started: cannot start"), "{}", site.received(SLACK)[0].text);
    let answer = lambda.invoke(&tick()).expect("a tick");
    assert_eq!((answer["started"].as_array().map(Vec::len), started(&site).1.len()), (Some(1), 2), "{answer}");
}

#[test]
fn where_nothing_can_be_started_the_alert_says_why() {
    for (unset, expected) in
        [("order", "the deployment does not say what to start them with: run `errand deploy`"), ("machine", "ERRAND_STATE_MACHINE")]
    {
        let site = Site::new();
        missed(&site, minutes_ago(45), 1, "all", |job| {
            if unset == "order" {
                job["order"] = Value::Null;
            }
        });
        let more = if unset == "machine" { vec![("ERRAND_STATE_MACHINE", String::new())] } else { Vec::new() };
        site.lambda_with(&more).invoke(&tick()).expect("a tick");
        let text = &site.received(SLACK)[0].text;
        assert!(started(&site).1.is_empty() && text.contains("not started:") && text.contains(expected), "{text}");
    }
}
