//! Runs that are late or never came, and what closes an alert.

use jiff::{Timestamp, ToSpan};
use serde_json::{Value, json};

use crate::site::{EMAIL, PAGERDUTY, SLACK, Site, arn, caught, cause, minutes_ago, status, tick};

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
    // The incident stays open as long as one alert of the job does, and nobody is told that all is well.
    assert_eq!(site.counts([SLACK, PAGERDUTY, EMAIL]), [3, 2, 3]);
    assert_eq!(titles(&site, SLACK)[2], ":large_green_circle: orders recovered in part in prod");
    assert!(site.received(EMAIL)[2].text.contains("another run of it is still missing"));
    site.report("orders-2b", due + 1.hours(), "already_done");
    for _ in 0..3 {
        lambda.invoke(&tick()).expect("the second is well again");
    }
    assert_eq!(site.counts([SLACK, PAGERDUTY, EMAIL]), [4, 3, 4]);
    assert_eq!(titles(&site, SLACK)[3], ":large_green_circle: orders is well again in prod");
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
fn a_skipped_run_is_neither_told_nor_late_nor_a_recovery() {
    let (site, due) = (Site::new(), minutes_ago(45));
    site.deploy(&[("data-platform", &["slack", "pagerduty"])], |job| {
        job["schedule"] = daily(due);
        job["since"] = (due - 1.hours()).to_string().into();
        job["sla"] = json!({ "start_within_seconds": 60, "finish_within_seconds": 1200 });
        job["alerts"][0]["on"] = json!(["failure", "late", "warning", "recovered"]);
    });
    let lambda = site.lambda();
    site.report("orders-1", due, "skipped");
    for _ in 0..3 {
        lambda.invoke(&tick()).expect("a tick");
    }
    assert_eq!(site.counts([SLACK, PAGERDUTY]), [0, 0]);
    lambda.invoke(&caught("orders-2", due, "Errand.Rejected", &cause())).expect("told");
    site.report("orders-2", due, "failed");
    site.report("orders-3", due, "skipped");
    for _ in 0..3 {
        lambda.invoke(&tick()).expect("a tick");
    }
    assert_eq!((site.counts([SLACK, PAGERDUTY]), site.bucket.keys("state/alerts/open/").len()), ([1, 1], 1));
}

/// The run that ends so has no report of its own: what is there is the claim of the run that works on the interval.
#[test]
fn a_duplicate_is_neither_told_nor_late() {
    let (site, due) = (Site::new(), minutes_ago(45));
    site.deploy(&[("data-platform", &["slack"])], |job| {
        job["schedule"] = daily(due);
        job["since"] = (due - 1.hours()).to_string().into();
    });
    let lambda = site.lambda();
    let time = |moment: Timestamp| moment.strftime("%Y%m%dT%H%M%SZ").to_string();
    site.put(
        &format!("claims/orders/{}-{}", time(due - 24.hours()), time(due)),
        &json!({ "version": 1, "run_id": "orders-1", "taken_at": (due + 1.minutes()).to_string() }),
    );
    let mut ended = status("orders-2", due, "SUCCEEDED");
    ended["detail"]["output"] = json!({ "outcome": "duplicate", "run_id": "orders-2" }).to_string().into();
    assert!(lambda.invoke(&ended).expect("ignored")["ignored"].is_string());
    for _ in 0..3 {
        lambda.invoke(&tick()).expect("a tick");
    }
    assert_eq!(site.counts([SLACK]), [0]);
}

#[test]
fn a_run_that_is_late_is_told_with_where_to_look() {
    let (site, due) = (Site::new(), minutes_ago(45));
    site.deploy(&[("data-platform", &["slack"])], |job| {
        job["schedule"] = daily(due);
        job["since"] = (due - 1.hours()).to_string().into();
        job["sla"] = json!({ "finish_within_seconds": 1200 });
    });
    let time = |moment: Timestamp| moment.strftime("%Y%m%dT%H%M%SZ").to_string();
    site.put(
        &format!("claims/orders/{}-{}", time(due - 24.hours()), time(due)),
        &json!({ "version": 1, "run_id": "orders-1", "execution": arn("orders-1"), "taken_at": (due + 1.minutes()).to_string() }),
    );
    site.lambda().invoke(&tick()).expect("a tick");
    let text = &site.received(SLACK)[0].text;
    assert!(text.contains("it has not finished in time") && text.contains(&format!("executions/details/{}", arn("orders-1"))), "{text}");
}

#[test]
fn an_alert_that_cannot_be_read_silences_no_other() {
    let (site, due) = (Site::new(), minutes_ago(45));
    site.deploy(&[("data-platform", &["slack"])], |job| {
        job["schedule"] = daily(due);
        job["since"] = (due - 1.hours()).to_string().into();
    });
    site.bucket.put("state/alerts/run-broken.json", "{");
    site.bucket.put("state/alerts/open/run-broken", String::new());
    let error = site.lambda().invoke(&tick()).expect_err("it is not passed over in silence");
    assert!(error["errorMessage"].as_str().is_some_and(|text| text.contains("run-broken.json")), "{error}");
    assert_eq!(site.counts([SLACK]), [1]);
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
