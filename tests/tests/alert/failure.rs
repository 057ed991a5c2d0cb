//! A run fails: who is told what, and once.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use e2e::condition::wait_for;
use e2e::program;
use serde_json::Value;

use crate::site::{EMAIL, PAGERDUTY, SECRETS, SLACK, Site, TEAMS, TOPIC, WEBHOOK, caught, cause, minutes_ago, status};

const EVERY: [&str; 6] = [SLACK, PAGERDUTY, TEAMS, EMAIL, WEBHOOK, TOPIC];

/// What a topic has got that was no greeting.
fn notifications(site: &Site) -> Vec<Value> {
    site.received(TOPIC).iter().map(e2e::receiver::Received::json).filter(|body| body["Type"] == "Notification").collect()
}

#[test]
fn a_failure_is_told_once_on_every_channel() {
    let site = Site::new();
    site.deploy(&[("data-platform", &["slack", "pagerduty", "teams", "sns", "email", "webhook"])], |_| {});
    let lambda = site.lambda();
    let due = minutes_ago(5);
    let answer = lambda.invoke(&caught("orders-1", due, "Errand.Rejected", &cause())).expect("told");
    assert_eq!(answer["told"], 6, "{answer}");
    wait_for("the topic's message", Duration::from_secs(10), || (!notifications(&site).is_empty()).then_some(()));
    for event in
        [status("orders-1", due, "FAILED"), caught("orders-1", due, "Errand.Rejected", &cause()), status("orders-1", due, "FAILED")]
    {
        let again = lambda.invoke(&event).expect("nothing to do");
        assert_eq!(again["told"], 0, "{again}");
    }
    assert_eq!((site.counts([SLACK, PAGERDUTY, TEAMS, EMAIL, WEBHOOK]), notifications(&site).len()), ([1; 5], 1));
    for path in [SLACK, PAGERDUTY, TEAMS, EMAIL, WEBHOOK] {
        let text = &site.received(path)[0].text;
        for part in ["row 2: `12,5` is no number", "orders-1.csv:3:15", "errand start orders --env prod --interval", "executions/details"] {
            assert!(text.contains(part), "{part} in {path}: {text}");
        }
    }
    let trigger = site.received(PAGERDUTY)[0].json();
    assert_eq!((&trigger["routing_key"], &trigger["event_action"]), (&SECRETS[0].into(), &"trigger".into()));
    assert_eq!(notifications(&site)[0]["Subject"], "orders failed in prod: rows were refused");
    site.assert_no_secret(&lambda);
}

#[test]
fn a_webhook_can_check_who_sent_it() {
    let site = Site::new();
    site.deploy(&[("partner", &["webhook"])], |_| {});
    site.lambda().invoke(&caught("orders-1", minutes_ago(5), "Errand.Rejected", &cause())).expect("told");
    let received = &site.received(WEBHOOK)[0];
    let signed = format!("{}.{}", received.headers["x-errand-timestamp"], received.text);
    let mut openssl = Command::new(program::find("openssl"));
    openssl.args(["dgst", "-sha256", "-hmac", SECRETS[1]]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = openssl.spawn().expect("openssl starts");
    child.stdin.take().expect("a pipe").write_all(signed.as_bytes()).expect("openssl reads");
    let output = String::from_utf8(child.wait_with_output().expect("openssl ends").stdout).expect("text");
    let expected = output.trim().rsplit(' ').next().expect("a digest").to_owned();
    assert_eq!(received.headers["x-errand-signature"], format!("v1={expected}"));
    assert_eq!(received.headers["x-errand-delivery"], "run-orders-1.failure");
}

#[test]
fn the_product_owner_reads_no_error() {
    let site = Site::new();
    site.deploy(&[("data-platform", &["slack"]), ("finance", &["email"])], |_| {});
    site.lambda().invoke(&caught("orders-1", minutes_ago(5), "Errand.Rejected", &cause())).expect("told");
    let mail = site.received(EMAIL)[0].text.clone();
    assert!(mail.contains("`orders_by_day` is not updated") && mail.contains("What happens next"), "{mail}");
    for technical in ["row 2", "orders-1.csv", "errand start", "Errand.Rejected"] {
        assert!(!mail.contains(technical), "{technical} in {mail}");
    }
    assert!(site.received(SLACK)[0].text.contains("row 2"));
}

#[test]
fn an_execution_that_no_catch_saw_is_told_by_its_status() {
    let site = Site::new();
    site.deploy(&[("data-platform", &["slack"])], |_| {});
    let lambda = site.lambda();
    for (run_id, word, expected) in [
        ("orders-1", "TIMED_OUT", "it ran out of time"),
        ("orders-2", "ABORTED", "somebody stopped it"),
        ("orders-3", "FAILED", "the execution failed"),
    ] {
        lambda.invoke(&status(run_id, minutes_ago(5), word)).expect("told");
        assert!(site.received(SLACK).last().is_some_and(|it| it.text.contains(expected)), "{expected}: {:?}", site.received(SLACK).last());
    }
    lambda.invoke(&status("orders-4", minutes_ago(5), "SUCCEEDED")).expect("ignored");
    assert_eq!(site.counts([SLACK]), [3]);
}

#[test]
fn two_events_at_the_same_time_tell_it_once() {
    let site = Site::new();
    site.deploy(&[("data-platform", &["slack", "pagerduty"])], |_| {});
    let (one, other) = (site.lambda(), site.lambda());
    let due = minutes_ago(5);
    for number in 0..5 {
        let run_id = format!("orders-{number}");
        let (caught, status) = (caught(&run_id, due, "Errand.Rejected", &cause()), status(&run_id, due, "FAILED"));
        std::thread::scope(|scope| {
            scope.spawn(|| one.invoke(&caught).expect("told"));
            scope.spawn(|| other.invoke(&status).expect("told"));
        });
        assert_eq!(site.counts([SLACK, PAGERDUTY]), [number + 1, number + 1]);
    }
}

#[test]
fn another_interval_is_another_alert_of_the_same_incident() {
    let site = Site::new();
    site.deploy(&[("data-platform", &["slack", "pagerduty"])], |_| {});
    let lambda = site.lambda();
    let (first, second) = (minutes_ago(65), minutes_ago(5));
    site.report("orders-0", minutes_ago(125), "succeeded");
    lambda.invoke(&caught("orders-1", first, "Errand.Rejected", &cause())).expect("told");
    site.report("orders-1", first, "failed");
    lambda.invoke(&caught("orders-2", second, "Errand.Rejected", &cause())).expect("told");
    assert_eq!(site.counts([SLACK, PAGERDUTY]), [2, 2]);
    let texts: Vec<String> = site.received(SLACK).into_iter().map(|it| it.text).collect();
    assert!(texts[0].contains("the first failure that is known") && texts[1].contains("the 2nd failure in a row"), "{texts:?}");
    // The last good run used commit `aaa…`, this one `bbb…`.
    assert!(texts[1].contains(&format!("https://github.com/acme/jobs/compare/{}...{}", "a".repeat(40), "b".repeat(40))), "{texts:?}");
    let keys: Vec<Value> = site.received(PAGERDUTY).iter().map(|it| it.json()["dedup_key"].clone()).collect();
    assert_eq!(keys, ["errand/prod/orders", "errand/prod/orders"]);
}

#[test]
fn a_failure_that_left_no_report_counts_as_one() {
    let site = Site::new();
    site.deploy(&[("data-platform", &["slack"])], |_| {});
    let lambda = site.lambda();
    for (number, expected) in [(1, "the first failure that is known"), (2, "the 2nd failure in a row"), (3, "the 3rd failure in a row")] {
        lambda.invoke(&caught(&format!("orders-{number}"), minutes_ago(5), "Errand.OutOfMemory", "")).expect("told");
        let text = site.received(SLACK).last().map(|it| it.text.clone()).unwrap_or_default();
        assert!(text.contains(expected), "{expected}: {text}");
    }
}

#[test]
fn the_end_of_a_task_is_told_in_words() {
    let site = Site::new();
    site.deploy(&[("data-platform", &["slack"])], |_| {});
    let lambda = site.lambda();
    let task = |rest: &str| format!(r#"{{"TaskArn":"arn:aws:ecs:us-east-1:123456789012:task/errand/0123","Memory":"512",{rest}}}"#);
    for (number, (cause, expected)) in [
        (task(r#""StopCode":"EssentialContainerExited","Containers":[{"ExitCode":137,"Reason":"OutOfMemoryError: Container killed due to memory usage"}]"#), "it ran out of memory"),
        (task(r#""StopCode":"TaskFailedToStart","StoppedReason":"CannotPullContainerError: not found","Containers":[{}]"#), "its image could not be pulled"),
        (task(r#""StopCode":"SpotInterruption","StoppedReason":"Your Spot Task was interrupted.","Containers":[{"ExitCode":143}]"#), "its machine was taken away"),
        ("plain words".to_owned(), "plain words"),
    ]
    .into_iter()
    .enumerate()
    {
        lambda.invoke(&caught(&format!("orders-{number}"), minutes_ago(5), "States.TaskFailed", &cause)).expect("told");
        let text = site.received(SLACK).last().map(|it| it.text.clone()).unwrap_or_default();
        assert!(text.contains(expected) && !text.contains("TaskArn"), "{expected}: {text}");
    }
}

#[test]
fn a_huge_cause_reaches_every_channel() {
    let site = Site::new();
    site.deploy(&[("data-platform", &["slack", "pagerduty", "teams", "sns", "email", "webhook"])], |_| {});
    let lambda = site.lambda();
    let huge = "<&\"\\🦀\n".repeat(4_000);
    let answer = lambda.invoke(&caught("orders-1", minutes_ago(5), "Errand.Permanent", &huge)).expect("told");
    assert_eq!((&answer["told"], site.counts([SLACK])), (&6.into(), [1]), "{answer}");
    assert!(EVERY.iter().flat_map(|path| site.received(path)).all(|received| received.text.len() < 60_000));
}
