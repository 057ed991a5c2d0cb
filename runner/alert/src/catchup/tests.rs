use std::collections::{BTreeMap, BTreeSet};

use errand_model::deployment::{DeployedConcurrency, DeployedSchedule, Deployment};
use errand_model::document::job::Catchup;
use errand_model::report::Outcome;
use jiff::Timestamp;

use super::{in_turn, missed, room, wanted};
use crate::alert::tests::deployment;
use crate::history::tests::{at, run};
use crate::history::{History, Run};
use crate::watchdog::View;

/// A job that is due at 6 in UTC every day.
fn deployed(catchup: Catchup) -> Deployment {
    let mut deployment = deployment();
    let job = deployment.jobs.get_mut("orders").expect("the job");
    job.schedule = Some(DeployedSchedule { cron: "0 6 * * *".to_owned(), timezone: "UTC".to_owned() });
    job.catchup = catchup;
    deployment
}

fn day(day: u32) -> Timestamp {
    at(&format!("2026-11-{day:02}T06:00:00Z"))
}

fn ran(days: &[(u32, Outcome)]) -> Vec<Run> {
    days.iter().map(|(day, outcome)| run("orders", &format!("r{day}"), &format!("2026-11-{day:02}T06:00:00Z"), *outcome)).collect()
}

/// Days of November whose runs are to be started at a moment.
fn starts(deployment: &Deployment, runs: Vec<Run>, begun: &[u32], failed: &[u32], now: &str) -> Vec<i8> {
    let history = History { seen: None, runs };
    let failed: BTreeSet<(String, Timestamp)> = failed.iter().map(|it| ("orders".to_owned(), day(*it))).collect();
    let view = View { deployment, history: &history, starts: &[], failed: &failed, now: at(now) };
    let job = &deployment.jobs["orders"];
    let begun = begun.iter().map(|it| day(*it)).collect();
    let found = wanted(&view, "orders", job, missed(&view, "orders", job), &begun);
    found.iter().map(|interval| interval.end.to_zoned(jiff::tz::TimeZone::UTC).day()).collect()
}

const NOW: &str = "2026-11-20T06:30:01Z";

#[test]
fn of_missed_intervals_all_are_started_or_the_last_or_none() {
    let runs = || ran(&[(14, Outcome::Succeeded), (15, Outcome::Succeeded), (16, Outcome::Succeeded)]);
    assert_eq!(starts(&deployed(Catchup::All), runs(), &[], &[], NOW), [17, 18, 19, 20]);
    assert_eq!(starts(&deployed(Catchup::Last), runs(), &[], &[], NOW), [20]);
    assert!(starts(&deployed(Catchup::None), runs(), &[], &[], NOW).is_empty());
    // Half an hour after it was due, a run may still come; past `start_within` it may not.
    assert_eq!(starts(&deployed(Catchup::All), runs(), &[], &[], "2026-11-20T06:30:00Z"), [17, 18, 19]);
    let mut soon = deployed(Catchup::All);
    soon.jobs.get_mut("orders").expect("the job").sla.start_within_seconds = Some(60);
    assert_eq!(starts(&soon, runs(), &[], &[], "2026-11-20T06:01:01Z"), [17, 18, 19, 20]);
}

#[test]
fn what_came_failed_was_skipped_or_was_started_before_is_not_missed() {
    let runs = || ran(&[(14, Outcome::Failed), (15, Outcome::Skipped), (16, Outcome::Cancelled), (17, Outcome::AlreadyDone)]);
    assert_eq!(starts(&deployed(Catchup::All), runs(), &[18], &[19], NOW), [20]);
    assert!(starts(&deployed(Catchup::All), runs(), &[18, 19, 20], &[], NOW).is_empty());
}

#[test]
fn the_last_is_not_started_when_a_later_one_came_or_was_started() {
    let last = deployed(Catchup::Last);
    assert!(starts(&last, ran(&[(20, Outcome::Succeeded)]), &[], &[], NOW).is_empty());
    assert!(starts(&last, Vec::new(), &[20], &[], NOW).is_empty());
    assert_eq!(starts(&last, Vec::new(), &[19], &[], NOW), [20]);
}

#[test]
fn nothing_is_started_from_before_the_deployment_or_more_than_a_week_back() {
    let mut all = deployed(Catchup::All);
    assert_eq!(starts(&all, Vec::new(), &[], &[], "2026-11-20T12:00:00Z"), [14, 15, 16, 17, 18, 19, 20]);
    all.jobs.get_mut("orders").expect("the job").since = day(18);
    assert_eq!(starts(&all, Vec::new(), &[], &[], NOW), [19, 20]);
}

#[test]
fn jobs_take_turns_and_each_keeps_its_order() {
    let deployment = deployed(Catchup::All);
    let schedule = deployment.jobs["orders"].schedule().expect("a schedule");
    let intervals: Vec<_> = schedule.intervals(day(10), day(13)).collect();
    let turns = in_turn(BTreeMap::from([("b".to_owned(), intervals[..2].to_vec()), ("a".to_owned(), intervals[1..].to_vec())]));
    let told: Vec<String> =
        turns.iter().map(|(job, interval)| format!("{job}{}", interval.end.to_zoned(jiff::tz::TimeZone::UTC).day())).collect();
    assert_eq!(told, ["b11", "a12", "b12", "a13"]);
}

#[test]
fn room_is_that_of_the_group() {
    let mut deployment = deployed(Catchup::All);
    let job = deployment.jobs.get_mut("orders").expect("the job");
    assert_eq!(room("orders", job), ("orders", 1));
    job.concurrency = Some(DeployedConcurrency { group: "nightly".to_owned(), limit: 3 });
    assert_eq!(room("orders", job), ("nightly", 3));
}
