//! Runs that schedules start: once, twice, at the same moment, or not at all.

use std::time::Duration;

use e2e::site::{Job, Site, daily, seen};
use jiff::{Timestamp, ToSpan};
use serde_json::Value;

use crate::outcome::{assert_loaded, assert_quiet, tick_until};
use crate::site;

pub(crate) fn jobs(due: Timestamp) -> Vec<Job> {
    let rests = "  - id: rests\n    sql: { text: select pg_sleep(2) }\n";
    let line = |name: &str| Job::load(name).then(rests).with(&daily(due)).with("concurrency: { group: line, limit: 1, on_overlap: queue }");
    vec![
        Job::load("by_schedule").with(&daily(due)),
        Job::load("delivered_twice").with(&daily(due + 12.hours())),
        line("first_in_line"),
        line("second_in_line"),
        Job::load("never_came").with(&daily(due)).with("sla: { start_within: 5s }"),
        Job::load("caught_up").with(&daily(due)).with("sla: { start_within: 5s }").with("catchup: last"),
    ]
}

/// Somebody removes two schedules by hand.
pub(crate) fn forget_two(site: &Site) {
    for job in ["never_came", "caught_up"] {
        site.stack.cloud().remove_schedule(site.stack.output("ScheduleGroup"), job);
    }
}

#[test]
fn a_schedule_starts_a_run_that_clones_loads_and_reports() {
    let site = site();
    let ended = site.ended(&site.scheduled("by_schedule"));
    assert_quiet(&site, &ended, "succeeded");
    assert_loaded(&site, "by_schedule");
    let due = site.due().to_string();
    assert_eq!(ended.input["scheduled_at"], due.as_str());
    let report = site.state(&format!("runs/{}.json", ended.id)).expect("a report");
    assert_eq!((&report["scheduled_at"], &report["interval"]["end"]), (&due.as_str().into(), &due.as_str().into()));
    assert_eq!(report["checkout"]["commit"], site.commit());
    assert!(ended.output["report"].as_str().is_some_and(|url| url.ends_with(&format!("/runs/{}.json", ended.id))), "{ended:#?}");
    assert!(site.log(site.stack.output("LogGroup")).contains(&ended.id), "the log of the task reached the log group");
}

#[test]
fn an_event_of_a_schedule_that_comes_twice_is_one_run() {
    let site = site();
    let mut order = site.order("delivered_twice");
    order["scheduled_at"] = (site.due() - 12.hours()).to_string().into();
    (order["interval"], order["trigger"]) = ("".into(), "schedule".into());
    let both = [site.begin(&order), site.begin(&order)].map(|id| site.ended(&id));
    let (done, other) = if both[0].output["outcome"] == "succeeded" { (&both[0], &both[1]) } else { (&both[1], &both[0]) };
    assert_quiet(&site, done, "succeeded");
    assert_quiet(&site, other, "duplicate");
    assert_loaded(&site, "delivered_twice");
}

/// When the first step of a run began, and when its last one ended.
fn span(report: &Value) -> (Timestamp, Timestamp) {
    let moment = |value: &Value| value.as_str().and_then(|text| text.parse::<Timestamp>().ok()).expect("a time");
    let steps = report["steps"].as_array().expect("steps");
    let ends = steps.iter().map(|step| {
        let begun = moment(&step["attempts"][0]["started_at"]);
        (begun, begun + step["duration_ms"].as_i64().unwrap_or(0).milliseconds())
    });
    ends.reduce(|(first, last), (begun, ended)| (first.min(begun), last.max(ended))).expect("a step")
}

#[test]
fn two_schedules_at_once_in_a_group_of_one_run_one_after_the_other() {
    let site = site();
    let both = ["first_in_line", "second_in_line"].map(|job| site.ended(&site.scheduled(job)));
    let mut spans = both.each_ref().map(|ended| span(&site.state(&format!("runs/{}.json", ended.id)).expect("a report")));
    spans.sort();
    assert!(spans[0].1 <= spans[1].0, "{spans:?}");
    for (ended, job) in both.iter().zip(["first_in_line", "second_in_line"]) {
        assert_quiet(&site, ended, "succeeded");
        assert_loaded(&site, job);
    }
}

/// What PagerDuty and the webhook were told to do.
fn actions(told: &[Vec<Value>; 3]) -> [Vec<&str>; 2] {
    [words(&told[1], "event_action"), words(&told[2], "event")]
}

fn words<'m>(messages: &'m [Value], key: &str) -> Vec<&'m str> {
    messages.iter().map(|message| message[key].as_str().unwrap_or_default()).collect()
}

#[test]
fn a_run_that_never_came_is_told_by_the_watchdog_and_its_recovery_resolves_the_incident() {
    let site = site();
    seen("the watchdog to tell", Duration::from_secs(150), || {
        site.told("never_came").iter().all(|messages| !messages.is_empty()).then_some(())
    });
    site.tick();
    let told = site.told("never_came");
    assert_eq!((told[0].len(), actions(&told)), (1, [vec!["trigger"], vec!["late"]]), "{told:#?}");
    let text = told[0][0].to_string();
    assert!(text.contains("never_came is late") && text.contains("it did not start"), "{text}");

    let interval = format!("{}/{}", site.due() - 24.hours(), site.due());
    let started = site.errand(&["start", "never_came", "--interval", &interval]).expect_code(0).stdout;
    let ended = site.ended(started.trim());
    tick_until(&site, "never_came", [2, 2, 2]);
    let told = site.told("never_came");
    assert_eq!((told[0].len(), actions(&told)), (2, [vec!["trigger", "resolve"], vec!["late", "recovered"]]), "{told:#?}");
    assert_eq!((ended.status.as_str(), &ended.output["outcome"]), ("SUCCEEDED", &"succeeded".into()), "{ended:#?}");
    assert_loaded(&site, "never_came");
}

#[test]
fn a_run_that_never_came_is_started_by_the_watchdog_where_its_job_catches_up() {
    let site = site();
    let ended = site.ended(&site.started_by("catchup", "caught_up"));
    assert_eq!((ended.status.as_str(), &ended.output["outcome"]), ("SUCCEEDED", &"succeeded".into()), "{ended:#?}");
    assert_loaded(&site, "caught_up");
    let report = site.state(&format!("runs/{}.json", ended.id)).expect("a report");
    assert_eq!(report["interval"]["end"], site.due().to_string().as_str());
    tick_until(&site, "caught_up", [2, 2, 2]);
    assert_eq!(actions(&site.told("caught_up")), [vec!["trigger", "resolve"], vec!["late", "recovered"]]);
}
