use std::collections::BTreeSet;
use std::time::Duration;

use errand_model::deployment::{DeployedSchedule, DeployedSla, Deployment};
use errand_model::report::{IntervalReport, Outcome};
use jiff::Timestamp;
use proptest::prelude::{ProptestConfig, prop_assert_eq, proptest};

use super::{Finding, Start, Trace, View, findings};
use crate::alert::tests::deployment;
use crate::history::tests::{at, run};
use crate::history::{History, Run};
use crate::time::after;

/// A deployment whose job has this schedule and these limits.
fn deployed(cron: &str, timezone: &str, sla: DeployedSla) -> Deployment {
    let mut deployment = deployment();
    let job = deployment.jobs.get_mut("orders").expect("the job");
    job.schedule = Some(DeployedSchedule { cron: cron.to_owned(), timezone: timezone.to_owned() });
    job.sla = sla;
    deployment
}

fn sla(start: Option<u64>, finish: Option<u64>, age: Option<u64>) -> DeployedSla {
    DeployedSla { start_within_seconds: start, finish_within_seconds: finish, max_seconds_since_success: age }
}

fn look(deployment: &Deployment, runs: &[Run], starts: &[Start], now: &str) -> Vec<Finding> {
    let history = History { seen: None, runs: runs.to_vec() };
    let failed = BTreeSet::new();
    findings(&View { deployment, history: &history, starts, failed: &failed, now: at(now) })
}

fn told(deployment: &Deployment, runs: &[Run], now: &str) -> Vec<String> {
    look(deployment, runs, &[], now).iter().map(|finding| format!("{:?} {}", finding.lateness, finding.key)).collect()
}

/// A run of a daily job in UTC at 6.
fn daily(day: u32, outcome: Outcome) -> Run {
    run("orders", &format!("r{day}"), &format!("2026-11-{day:02}T06:00:00Z"), outcome)
}

#[test]
fn a_run_that_never_came_is_found_after_the_grace_and_under_the_same_key() {
    let deployment = deployed("0 6 * * *", "UTC", sla(None, None, None));
    let before = [daily(18, Outcome::Succeeded), daily(19, Outcome::Succeeded)];
    assert!(told(&deployment, &before, "2026-11-20T06:30:00Z").is_empty());
    for now in ["2026-11-20T06:30:01Z", "2026-11-20T09:00:00Z", "2026-11-21T05:00:00Z"] {
        assert_eq!(told(&deployment, &before, now), ["NotStarted late-orders-20261120T060000Z"], "{now}");
    }
    let all = [daily(18, Outcome::Succeeded), daily(19, Outcome::Succeeded), daily(20, Outcome::AlreadyDone)];
    assert!(told(&deployment, &all, "2026-11-20T09:00:00Z").is_empty());
}

#[test]
fn a_run_that_failed_came() {
    let deployment = deployed("0 6 * * *", "UTC", sla(None, None, None));
    let runs = [daily(19, Outcome::Succeeded), daily(20, Outcome::Failed)];
    assert!(told(&deployment, &runs, "2026-11-20T09:00:00Z").is_empty());
    // One that left no report, because its image could not be pulled, say.
    let history = History { seen: None, runs: vec![daily(19, Outcome::Succeeded)] };
    let failed = BTreeSet::from([("orders".to_owned(), at("2026-11-20T06:00:00Z"))]);
    let view = View { deployment: &deployment, history: &history, starts: &[], failed: &failed, now: at("2026-11-20T09:00:00Z") };
    assert!(findings(&view).is_empty());
}

#[test]
fn a_run_that_was_skipped_came_and_is_neither_late_nor_a_failure() {
    let deployment = deployed("0 6 * * *", "UTC", sla(Some(600), Some(7_200), None));
    let runs = [daily(19, Outcome::Succeeded), daily(20, Outcome::Skipped)];
    for now in ["2026-11-20T06:10:01Z", "2026-11-20T09:00:00Z"] {
        assert!(look(&deployment, &runs, &[], now).is_empty(), "{now}");
    }
    let late = [daily(19, Outcome::Succeeded), Run { started_at: at("2026-11-20T08:00:00Z"), ..daily(20, Outcome::Skipped) }];
    assert!(look(&deployment, &late, &[], "2026-11-20T09:00:00Z").is_empty());
    // It is no success either: data that is too old is told, and not as a failure.
    let deployment = deployed("0 6 * * *", "UTC", sla(None, None, Some(26 * 3_600)));
    let found = look(&deployment, &runs, &[], "2026-11-20T09:00:00Z");
    assert!(found.len() == 1 && found[0].key == "old-orders-20261119T060320Z" && !found[0].is_failure, "{found:?}");
}

#[test]
fn who_only_hears_of_late_runs_hears_of_a_failed_one_when_its_time_is_over() {
    let deployment = deployed("0 6 * * *", "UTC", sla(None, Some(7_200), None));
    let runs = [daily(19, Outcome::Succeeded), daily(20, Outcome::Failed)];
    assert!(look(&deployment, &runs, &[], "2026-11-20T08:00:00Z").is_empty());
    let found = look(&deployment, &runs, &[], "2026-11-20T08:00:01Z");
    assert!(found.len() == 1 && found[0].is_failure, "{found:?}");
}

#[test]
fn a_claim_is_a_start() {
    let deployment = deployed("0 6 * * *", "UTC", sla(Some(600), Some(7_200), None));
    let runs = [daily(19, Outcome::Succeeded)];
    let start = |at_: &str| [Start { job: "orders".to_owned(), due: at("2026-11-20T06:00:00Z"), at: at(at_), trace: Trace::default() }];
    let words = |starts: &[Start], now: &str| -> Vec<String> {
        look(&deployment, &runs, starts, now).iter().map(|finding| format!("{:?}", finding.lateness)).collect()
    };
    assert_eq!(words(&[], "2026-11-20T06:10:01Z"), ["NotStarted"]);
    assert!(words(&start("2026-11-20T06:00:30Z"), "2026-11-20T06:10:01Z").is_empty());
    assert_eq!(words(&start("2026-11-20T06:15:00Z"), "2026-11-20T06:20:00Z"), ["StartedLate"]);
    assert_eq!(words(&start("2026-11-20T06:00:30Z"), "2026-11-20T08:00:01Z"), ["NotFinished"]);
    let mut known = start("2026-11-20T06:00:30Z");
    known[0].trace.run_id = "orders-20".to_owned();
    let found = look(&deployment, &runs, &known, "2026-11-20T08:00:01Z");
    assert_eq!(found[0].trace.as_ref().map(|trace| trace.run_id.as_str()), Some("orders-20"));
}

#[test]
fn a_run_that_finished_late_is_found_afterwards() {
    let deployment = deployed("0 6 * * *", "UTC", sla(None, Some(100), None));
    let runs = [daily(20, Outcome::Succeeded)];
    let only_20 = |found: Vec<String>| found.into_iter().filter(|text| text.contains("20261120")).collect::<Vec<_>>();
    assert_eq!(only_20(told(&deployment, &runs, "2026-11-20T07:00:00Z")), ["FinishedLate late-orders-20261120T060000Z"]);
}

#[test]
fn a_last_success_that_is_too_old_is_found_once_for_that_success() {
    let mut deployment = deployed("0 6 * * *", "UTC", sla(None, None, Some(26 * 3_600)));
    deployment.jobs.get_mut("orders").expect("the job").schedule = None;
    let runs = [daily(18, Outcome::Succeeded), daily(19, Outcome::Failed)];
    assert!(told(&deployment, &runs, "2026-11-19T08:00:00Z").is_empty());
    for now in ["2026-11-19T08:30:00Z", "2026-11-25T08:30:00Z"] {
        assert_eq!(told(&deployment, &runs, now), ["TooOld old-orders-20261118T060320Z"]);
    }
    // A job that has never succeeded is as old as its deployment.
    assert!(told(&deployment, &[], "2026-11-02T01:59:59Z").is_empty());
    assert_eq!(told(&deployment, &[], "2026-11-02T03:00:00Z"), ["TooOld old-orders-20261101T000000Z"]);
}

#[test]
fn nobody_is_blamed_for_times_before_the_deployment() {
    let mut deployment = deployed("0 6 * * *", "UTC", sla(None, None, None));
    deployment.jobs.get_mut("orders").expect("the job").since = at("2026-11-20T06:00:00Z");
    assert!(told(&deployment, &[], "2026-11-20T23:00:00Z").is_empty());
    deployment.jobs.get_mut("orders").expect("the job").since = at("2026-11-20T05:59:59Z");
    assert_eq!(told(&deployment, &[], "2026-11-20T23:00:00Z"), ["NotStarted late-orders-20261120T060000Z"]);
}

#[test]
fn clocks_that_change_make_no_run_late_and_hide_none() {
    // Lisbon goes back on 25 October 2026 at 2: 01:30 comes twice, the job once.
    let mut deployment = deployed("30 1 * * *", "Europe/Lisbon", sla(None, None, None));
    deployment.jobs.get_mut("orders").expect("the job").since = at("2026-10-24T12:00:00Z");
    assert_eq!(told(&deployment, &[], "2026-10-25T12:00:00Z"), ["NotStarted late-orders-20261025T003000Z"]);
    // New York goes forward on 8 March 2026: 02:30 does not exist, the job comes at 3.
    let mut deployment = deployed("30 2 * * *", "America/New_York", sla(None, None, None));
    deployment.jobs.get_mut("orders").expect("the job").since = at("2026-03-07T12:00:00Z");
    assert!(told(&deployment, &[], "2026-03-08T07:29:00Z").is_empty());
    assert_eq!(told(&deployment, &[], "2026-03-08T12:00:00Z"), ["NotStarted late-orders-20260308T070000Z"]);
}

#[test]
fn jobs_without_schedule_and_limits_are_never_late() {
    let mut deployment = deployed("0 6 * * *", "UTC", sla(None, None, None));
    deployment.jobs.get_mut("orders").expect("the job").schedule = None;
    assert!(told(&deployment, &[], "2026-12-31T00:00:00Z").is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    /// Runs that start at once and finish in time are never late; one that is left out is found, alone, and under its own key.
    #[test]
    fn exactly_what_is_missing_is_found(
        zone in proptest::sample::select(vec!["UTC", "Europe/Lisbon", "America/New_York", "Australia/Lord_Howe"]),
        cron in proptest::sample::select(vec!["0 6 * * *", "30 1 * * *", "30 2 * * *", "0 * * * *", "*/15 * * * *", "15,45 1,2,3 * * *"]),
        day in 0_i64..365,
        left_out in 0_usize..20,
    ) {
        let mut deployment = deployed(cron, zone, sla(Some(300), Some(600), None));
        let start = after(at("2026-01-01T00:00:00Z"), Duration::from_secs(86_400 * u64::try_from(day).unwrap_or_default()));
        let now = after(start, Duration::from_secs(86_400));
        let job = deployment.jobs.get_mut("orders").expect("the job");
        job.since = start;
        let schedule = job.schedule().expect("a schedule");
        let from = schedule.last_at(start).expect("a tick");
        let all: Vec<_> = schedule.intervals(from, now).filter(|interval| interval.end > start).collect();
        let runs: Vec<Run> = all.iter().enumerate().filter(|(index, _)| *index != left_out).map(|(index, interval)| {
            let (begun, done) = (after(interval.end, Duration::from_secs(30)), after(interval.end, Duration::from_secs(90)));
            let interval = IntervalReport { start: interval.start, end: interval.end, timezone: zone.to_owned() };
            Run { started_at: begun, finished_at: done, interval: Some(interval), ..run("orders", &format!("r{index}"), "2026-01-01T00:00:00Z", Outcome::Succeeded) }
        }).collect();
        let history = History { seen: None, runs };
        let failed = BTreeSet::new();
        let view = View { deployment: &deployment, history: &history, starts: &[], failed: &failed, now };
        let found: Vec<Timestamp> = findings(&view).into_iter().filter_map(|finding| finding.due).collect();
        let missing: Vec<Timestamp> =
            all.get(left_out).map(|interval| interval.end).filter(|due| now > after(*due, Duration::from_secs(300))).into_iter().collect();
        prop_assert_eq!(found, missing);
    }
}
