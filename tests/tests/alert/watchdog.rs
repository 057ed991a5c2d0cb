//! Runs that are late or never came, and what closes an alert.

use jiff::{Timestamp, ToSpan};
use serde_json::{Value, json};

use crate::site::{EMAIL, PAGERDUTY, SLACK, Site, caught, cause, minutes_ago, tick};

/// A schedule that was due at this time of each day.
fn daily(due: Timestamp) -> Value {
    let time = due.to_zoned(jiff::tz::TimeZone::UTC);
    json!({ "cron": format!("{} {} * * *", time.minute(), time.hour()), "timezone": "UTC" })
}

fn titles(site: &Site, path: &str) -> Vec<String> {
    site.received(path).iter().map(|it| it.json()["text"].as_str().unwrap_or_default().to_owned()).collect()
}

fn actions(site: &Site) -> Vec<String> {
    site.received(PAGERDUTY).iter().map(|it| it.json()["event_action"].as_str().unwrap_or_default().to_owned()).collect()
}

#[test]
fn a_run_that_never_came_is_told_once_and_its_recovery_once() {
    let (site, due) = (Site::new(), minutes_ago(45));
    site.deploy(&[("data-platform", &["slack", "pagerduty"]), ("finance", &["email"])], |job| {
        job["schedule"] = daily(due);
        job["since"] = (due - 1.hours()).to_string().into();
    });
    let lambda = site.lambda();
    for _ in 0..4 {
        lambda.invoke(&tick()).expect("a tick");
    }
    assert_eq!(site.counts([SLACK, PAGERDUTY, EMAIL]), [1, 1, 1]);
    assert_eq!(titles(&site, SLACK), [":large_orange_circle: orders is late in prod: it did not start"]);
    site.report("orders-1", due, "succeeded");
    for _ in 0..4 {
        lambda.invoke(&tick()).expect("a tick");
    }
    assert_eq!(site.counts([SLACK, PAGERDUTY, EMAIL]), [2, 2, 2]);
    assert_eq!(titles(&site, SLACK)[1], ":large_green_circle: orders is well again in prod");
    assert_eq!(actions(&site), ["trigger", "resolve"]);
    assert!(site.received(EMAIL)[1].text.contains("up to date again"));
    assert!(site.bucket.keys("state/alerts/open/").is_empty(), "{:?}", site.bucket.keys("state/alerts/open/"));
    site.assert_no_secret(&lambda);
}

#[test]
fn a_run_that_is_not_yet_late_or_came_is_not_told() {
    let (site, due) = (Site::new(), minutes_ago(20));
    site.deploy(&[("data-platform", &["slack"])], |job| {
        job["schedule"] = daily(due);
        job["since"] = (due - 1.hours()).to_string().into();
    });
    let lambda = site.lambda();
    lambda.invoke(&tick()).expect("a tick");
    site.deploy(&[("data-platform", &["slack"])], |job| {
        job["schedule"] = daily(due);
        job["since"] = (due + 1.minutes()).to_string().into();
        job["sla"] = json!({ "start_within_seconds": 60 });
    });
    lambda.invoke(&tick()).expect("deployed after it was due");
    site.deploy(&[("data-platform", &["slack"])], |job| {
        job["schedule"] = daily(due);
        job["since"] = (due - 1.hours()).to_string().into();
        job["sla"] = json!({ "start_within_seconds": 600, "finish_within_seconds": 7200 });
    });
    let time = |moment: Timestamp| moment.strftime("%Y%m%dT%H%M%SZ").to_string();
    let claim = format!("claims/orders/{}-{}", time(due - 24.hours()), time(due));
    site.put(&claim, &json!({ "version": 1, "taken_at": (due + 1.minutes()).to_string() }));
    lambda.invoke(&tick()).expect("it runs");
    assert_eq!(site.counts([SLACK]), [0]);
}

#[test]
fn runs_that_are_missed_one_after_the_other_are_one_alert() {
    let site = Site::new();
    site.deploy(&[("data-platform", &["slack", "pagerduty"])], |job| {
        job["schedule"] = json!({ "cron": "*/5 * * * *", "timezone": "UTC" });
        job["since"] = minutes_ago(90).to_string().into();
    });
    let lambda = site.lambda();
    for _ in 0..3 {
        lambda.invoke(&tick()).expect("a tick");
    }
    assert_eq!(site.counts([SLACK, PAGERDUTY]), [1, 1]);
    assert!(site.received(SLACK)[0].text.contains("Missed as well"));
}

#[test]
fn a_failure_closes_when_its_interval_succeeds() {
    let (site, due) = (Site::new(), minutes_ago(65));
    site.deploy(&[("data-platform", &["slack", "pagerduty"]), ("finance", &["email"])], |_| {});
    let lambda = site.lambda();
    lambda.invoke(&caught("orders-1", due, "Errand.Rejected", &cause())).expect("told");
    lambda.invoke(&caught("orders-2", due + 1.hours(), "Errand.Rejected", &cause())).expect("told");
    site.report("orders-1", due, "failed");
    lambda.invoke(&tick()).expect("nothing has changed");
    assert_eq!(site.counts([SLACK, PAGERDUTY, EMAIL]), [2, 2, 2]);
    site.report("orders-1b", due, "succeeded");
    for _ in 0..3 {
        lambda.invoke(&tick()).expect("the first is well again");
    }
    // The incident stays open as long as one alert of the job does.
    assert_eq!(site.counts([SLACK, PAGERDUTY, EMAIL]), [3, 2, 3]);
    site.report("orders-2b", due + 1.hours(), "already_done");
    for _ in 0..3 {
        lambda.invoke(&tick()).expect("the second is well again");
    }
    assert_eq!(site.counts([SLACK, PAGERDUTY, EMAIL]), [4, 3, 4]);
    assert_eq!(actions(&site), ["trigger", "trigger", "resolve"]);
    assert!(site.bucket.keys("state/alerts/open/").is_empty());
}

#[test]
fn a_failed_run_is_late_only_to_those_who_do_not_hear_of_failures() {
    let (site, due) = (Site::new(), minutes_ago(45));
    site.deploy(&[("data-platform", &["slack"]), ("finance", &["email"])], |job| {
        job["schedule"] = json!({ "cron": "0 0 1 1 *", "timezone": "UTC" });
        job["schedule"] = daily(due);
        job["since"] = (due - 1.hours()).to_string().into();
        job["sla"] = json!({ "finish_within_seconds": 1800 });
        job["alerts"] = json!([{ "on": ["failure", "late"], "to": ["data-platform"] }, { "on": ["late"], "to": ["finance"] }]);
    });
    let lambda = site.lambda();
    lambda.invoke(&caught("orders-1", due, "Errand.Rejected", &cause())).expect("told");
    site.report("orders-1", due, "failed");
    for _ in 0..3 {
        lambda.invoke(&tick()).expect("a tick");
    }
    assert_eq!(site.counts([SLACK, EMAIL]), [1, 1]);
}

#[test]
fn a_last_success_that_is_too_old_is_told_once() {
    let site = Site::new();
    site.deploy(&[("data-platform", &["slack", "pagerduty"])], |job| {
        job["since"] = minutes_ago(120).to_string().into();
        job["sla"] = json!({ "max_seconds_since_success": 3600 });
    });
    let lambda = site.lambda();
    for _ in 0..3 {
        lambda.invoke(&tick()).expect("a tick");
    }
    assert_eq!(site.counts([SLACK, PAGERDUTY]), [1, 1]);
    site.report("orders-1", minutes_ago(5), "succeeded");
    lambda.invoke(&tick()).expect("well again");
    assert_eq!((site.counts([SLACK]), actions(&site)), ([2], vec!["trigger".to_owned(), "resolve".to_owned()]));
}

#[test]
fn warnings_are_told_once_to_those_who_listen() {
    let site = Site::new();
    site.deploy(&[("data-platform", &["slack"])], |job| job["alerts"][0]["on"] = json!(["failure", "warning"]));
    site.report("orders-1", minutes_ago(5), "warned");
    site.report("orders-2", minutes_ago(5), "succeeded");
    let lambda = site.lambda();
    for _ in 0..3 {
        lambda.invoke(&tick()).expect("a tick");
    }
    assert_eq!(site.counts([SLACK]), [1]);
    assert!(site.received(SLACK)[0].text.contains("look at this"));
}
