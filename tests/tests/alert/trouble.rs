//! Channels, secrets and events on bad days.

use std::time::Duration;

use e2e::receiver::Answer;
use serde_json::{Value, json};

use crate::site::{EMAIL, PAGERDUTY, SLACK, Site, TEAMS, caught, cause, minutes_ago, request, status, tick};

fn failure(run_id: &str) -> Value {
    caught(run_id, minutes_ago(5), "Errand.Rejected", &cause())
}

#[test]
fn a_channel_that_is_busy_is_tried_again() {
    let site = Site::new();
    site.deploy(&[("data-platform", &["slack", "pagerduty"])], |_| {});
    site.receiver.script(SLACK, &[Answer::RetryAfter(429, 1), Answer::Status(500), Answer::Status(200)]);
    let answer = site.lambda().invoke(&failure("orders-1")).expect("told");
    assert_eq!((&answer["told"], site.counts([SLACK, PAGERDUTY])), (&2.into(), [3, 1]));
}

#[test]
fn a_channel_that_is_down_silences_no_other_and_is_told_later() {
    let site = Site::new();
    site.deploy(&[("data-platform", &["slack", "pagerduty"])], |_| {});
    site.receiver.script(SLACK, &[Answer::Status(500)]);
    let lambda = site.lambda();
    let answer = lambda.invoke_within(&failure("orders-1"), Duration::from_secs(8)).expect("one is told");
    assert_eq!((&answer["told"], site.counts([PAGERDUTY])), (&1.into(), [1]));
    assert!(answer["failed"][0].as_str().is_some_and(|text| text.starts_with("slack of `data-platform`: Slack answered 500")), "{answer}");
    site.receiver.script(SLACK, &[Answer::Status(200)]);
    let tried = site.counts([SLACK])[0];
    for _ in 0..3 {
        lambda.invoke(&tick()).expect("told");
    }
    assert_eq!(site.counts([SLACK, PAGERDUTY]), [tried + 1, 1]);
    site.assert_no_secret(&lambda);
}

#[test]
fn a_channel_that_hangs_silences_no_other() {
    let site = Site::new();
    site.deploy(&[("data-platform", &["slack", "pagerduty", "teams"])], |_| {});
    site.receiver.script(SLACK, &[Answer::Hang]);
    let lambda = site.lambda();
    let answer = lambda.invoke_within(&failure("orders-1"), Duration::from_secs(7)).expect("two are told");
    assert_eq!((&answer["told"], site.counts([PAGERDUTY, TEAMS])), (&2.into(), [1, 1]), "{answer}");
}

#[test]
fn when_nobody_can_be_told_the_invocation_fails_and_the_next_one_tells() {
    let site = Site::new();
    site.deploy(&[("data-platform", &["slack", "pagerduty"])], |_| {});
    site.receiver.script(SLACK, &[Answer::Status(500)]);
    site.receiver.script(PAGERDUTY, &[Answer::Status(403)]);
    let lambda = site.lambda();
    let error = lambda.invoke_within(&failure("orders-1"), Duration::from_secs(6)).expect_err("nobody was told");
    let text = error["errorMessage"].as_str().unwrap_or_default();
    assert!(
        text.contains("nobody could be told") && text.contains("Slack answered 500") && text.contains("PagerDuty answered 403"),
        "{text}"
    );
    site.receiver.script(SLACK, &[Answer::Status(200)]);
    site.receiver.script(PAGERDUTY, &[Answer::Status(202)]);
    let tried = site.counts([SLACK, PAGERDUTY]);
    // Lambda's own second try, and the event of EventBridge.
    lambda.invoke(&failure("orders-1")).expect("told");
    lambda.invoke(&status("orders-1", minutes_ago(5), "FAILED")).expect("nothing to do");
    assert_eq!(site.counts([SLACK, PAGERDUTY]), tried.map(|count| count + 1));
    site.assert_no_secret(&lambda);
}

#[test]
fn a_missing_secret_is_named_to_the_others() {
    let site = Site::new();
    site.deploy(&[("data-platform", &["slack without secret", "pagerduty"]), ("finance", &["email"])], |_| {});
    let lambda = site.lambda();
    let answer = lambda.invoke(&failure("orders-1")).expect("the others are told");
    assert_eq!((&answer["told"], site.counts([PAGERDUTY, EMAIL])), (&2.into(), [1, 1]));
    let text = &site.received(PAGERDUTY)[0].text;
    assert!(text.contains("slack of `data-platform` could not be told: there is no secret") && text.contains("/nowhere"), "{text}");
    assert!(!site.received(EMAIL)[0].text.contains("no secret"), "a product owner cannot repair it");
}

#[test]
fn a_sender_that_ses_does_not_know_is_told_as_such() {
    let site = Site::new();
    site.deploy(&[("finance", &["email"])], |_| {});
    let sender = format!("errand@{}.example.com", site.bucket.name());
    let lambda = site.lambda_with(&[("ERRAND_EMAIL_FROM", sender.clone())]);
    let error = lambda.invoke(&failure("orders-1")).expect_err("refused");
    assert!(error["errorMessage"].as_str().is_some_and(|text| text.contains("SES: ")), "{error}");
    request("ses", "/v2/email/identities", &[], "application/json", &json!({ "EmailIdentity": sender }).to_string());
    let answer = lambda.invoke(&failure("orders-1")).expect("told");
    assert_eq!(answer["told"], 1, "{answer}");
}

#[test]
fn an_event_that_makes_no_sense_says_why() {
    let site = Site::new();
    site.deploy(&[("data-platform", &["slack"])], |_| {});
    let lambda = site.lambda();
    for (event, expected) in [
        (json!({}), "malformed event: no text `source`"),
        (json!("text"), "malformed event: no text `source`"),
        (json!({ "source": "errand.run", "execution": 1 }), "malformed event: `errand.run`: invalid type"),
        (json!({ "source": "errand.run", "execution": "orders-1" }), "is not the ARN of an execution"),
        (
            json!({ "source": "errand.run", "execution": crate::site::arn("x"), "run_id": "x" }),
            "neither its input nor its cause names a job",
        ),
    ] {
        let error = lambda.invoke(&event).expect_err("refused");
        assert!(error["errorMessage"].as_str().is_some_and(|text| text.contains(expected)), "{expected}: {error}");
    }
    let mut other = failure("orders-1");
    other["input"]["job"] = "unknown".into();
    let error = lambda.invoke(&other).expect_err("nobody knows whom to tell");
    assert!(error["errorMessage"].as_str().is_some_and(|text| text.contains("the deployment has no such job")), "{error}");
    assert_eq!(site.counts([SLACK]), [0]);
}

#[test]
fn before_the_first_deployment_the_watchdog_has_nothing_to_do_and_a_failure_is_an_error() {
    let site = Site::new();
    let lambda = site.lambda();
    assert_eq!(lambda.invoke(&tick()).expect("nothing")["told"], 0);
    let error = lambda.invoke(&failure("orders-1")).expect_err("nobody to tell");
    assert!(error["errorMessage"].as_str().is_some_and(|text| text.contains("deployment.json")), "{error}");
}
