use std::collections::BTreeMap;
use std::time::Duration;

use errand_model::deployment::{
    DeployedAlert, DeployedChannel, DeployedContact, DeployedJob, DeployedResources, DeployedSchedule, DeployedSla, Deployment, Output,
};
use errand_model::document::job::{AlertEvent, Catchup, Image};
use errand_model::report::Outcome;

use super::Scene;
use crate::catchup::Catching;
use crate::cause;
use crate::event::{Failed, Input};
use crate::history::History;
use crate::history::tests::{at, run};
use crate::link::Links;
use crate::message::{Message, Subject};
use crate::record::{Record, Said};
use crate::settings::Settings;
use crate::watchdog::{Finding, Lateness};

/// One job, due at 6 in Lisbon every day.
pub(crate) fn deployment() -> Deployment {
    let channel = |name: &str| match name {
        "slack" => DeployedChannel::Slack { webhook_secret: "slack_data".to_owned() },
        "pagerduty" => DeployedChannel::Pagerduty { routing_key_secret: "pager".to_owned() },
        _ => DeployedChannel::Email { to: vec!["finance@example.com".to_owned()] },
    };
    let contact = |names: &[&str]| DeployedContact { channels: names.iter().map(|name| channel(name)).collect() };
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let job = DeployedJob {
        description: None,
        owner: "data-platform".to_owned(),
        product_owner: Some("finance".to_owned()),
        runbook: Some("https://wiki.example.com/orders".to_owned()),
        schedule: Some(DeployedSchedule { cron: "0 6 * * *".to_owned(), timezone: "Europe/Lisbon".to_owned() }),
        since: at("2026-11-01T00:00:00Z"),
        catchup: Catchup::None,
        order: None,
        concurrency: None,
        sla: DeployedSla::default(),
        timeout_seconds: 3_600,
        resources: DeployedResources { cpu_millis: 250, memory_bytes: 512 << 20, spot: false, image: Image::Slim },
        alerts: vec![
            DeployedAlert {
                on: vec![AlertEvent::Failure, AlertEvent::Late, AlertEvent::Recovered],
                to: names(&["data-platform", "finance"]),
            },
            DeployedAlert { on: vec![AlertEvent::Failure], to: names(&["data-platform", "gone"]) },
        ],
        outputs: vec![
            Output::Table { connection: "warehouse".to_owned(), name: "raw.orders".to_owned() },
            Output::Table { connection: "warehouse".to_owned(), name: "orders_by_day".to_owned() },
        ],
    };
    Deployment {
        version: 1,
        environment: "prod".to_owned(),
        repository: "https://github.com/acme/jobs.git".to_owned(),
        commit: "9a3b0c1d2e3f4a5b6c7d8e9f0a1b2c3d4e5f6a7b".to_owned(),
        deployed_at: at("2026-11-01T00:00:00Z"),
        jobs: BTreeMap::from([("orders".to_owned(), job)]),
        contacts: BTreeMap::from([
            ("data-platform".to_owned(), contact(&["slack", "pagerduty"])),
            ("finance".to_owned(), contact(&["email"])),
        ]),
    }
}

fn links() -> Links {
    Links::new(&Settings {
        bucket: "acme-errand".to_owned(),
        prefix: "state/".to_owned(),
        secret_prefix: "errand/prod/".to_owned(),
        email_from: None,
        state_machine: None,
        log_group: "/errand/prod".to_owned(),
        pagerduty_url: "https://events.pagerduty.com".to_owned(),
        region: "eu-west-1".to_owned(),
        path_style: false,
        log_filter: "info".to_owned(),
    })
}

fn history() -> History {
    let mut good = run("orders", "orders-18", "2026-11-18T06:00:00Z", Outcome::Succeeded);
    good.commit = Some("57f8c1926f575d9d75204db944ca0c4497ba75d2".to_owned());
    let runs = vec![good, run("orders", "orders-19", "2026-11-19T06:00:00Z", Outcome::Failed)];
    History { seen: None, runs }
}

fn with_scene<T>(history: &History, now: &str, then: impl FnOnce(&Scene<'_>) -> T) -> T {
    let (deployment, links) = (deployment(), links());
    let job = &deployment.jobs["orders"];
    let (deployment, links, now) = (&deployment, &links, at(now));
    then(&Scene { deployment, job_name: "orders", job, history, links, now, unreported: 0, catching: None })
}

/// The failure that snapshots of channels show, too.
pub(crate) fn failed() -> Said {
    let failed = Failed {
        execution: "arn:aws:states:eu-west-1:123456789012:execution:errand-run:orders-20".to_owned(),
        run_id: "orders-20".to_owned(),
        input: Input {
            job: "orders".to_owned(),
            commit: "9a3b0c1d2e3f4a5b6c7d8e9f0a1b2c3d4e5f6a7b".to_owned(),
            inputs: r#"{"region":"br","note":"it's <b>"}"#.to_owned(),
            ..Input::default()
        },
        error: "Errand.Rejected".to_owned(),
        cause: r#"{"version":1,"message":"row 2: column `amount`: expected decimal(12,2), found `12,5`; at most 0 may be refused","place":"orders-1.csv:3:15","help":"nothing was published; the refused rows are in `orders__rejected`","code":"ingest::rejected","step":"load","report":"s3://acme-errand/state/runs/orders-20.json"}"#
            .to_owned(),
        status: None,
    };
    let interval = run("orders", "x", "2026-11-20T06:00:00Z", Outcome::Failed).interval;
    with_scene(&history(), "2026-11-20T06:04:00Z", |scene| {
        let cause = cause::read(&failed.error, &failed.cause, None);
        scene.failed("run-orders-20", &failed, &cause, interval.as_ref())
    })
}

/// The recovery that snapshots of channels show, too.
pub(crate) fn recovered() -> Said {
    let mut history = history();
    let mut again = run("orders", "orders-20b", "2026-11-20T06:00:00Z", Outcome::Succeeded);
    again.finished_at = at("2026-11-20T08:30:00Z");
    history.runs.push(again.clone());
    let mut record = Record::open("run-orders-20", Subject::Failure, "orders", at("2026-11-20T06:04:00Z"), None);
    record.interval.clone_from(&again.interval);
    with_scene(&history, "2026-11-20T08:35:00Z", |scene| scene.recovered("run-orders-20", &[&record], Some(&again), 0))
}

fn finding(lateness: Lateness) -> Finding {
    Finding {
        job: "orders".to_owned(),
        lateness,
        due: Some(at("2026-11-20T06:00:00Z")),
        interval: run("orders", "x", "2026-11-20T06:00:00Z", Outcome::Failed).interval,
        limit: Duration::from_secs(1_800),
        started_at: None,
        trace: None,
        key: "late-orders-20261120T060000Z".to_owned(),
        is_failure: false,
    }
}

fn late(lateness: Lateness) -> Said {
    with_scene(&history(), "2026-11-20T06:31:00Z", |scene| scene.late("late-orders-20261120T060000Z", &finding(lateness), &[]))
}

fn told(message: &Message) -> String {
    format!("{}\n\n{}", message.title, message.text())
}

#[test]
fn on_call_reads_cause_place_change_and_command() {
    insta::assert_snapshot!(told(&failed().on_call));
}

#[test]
fn the_product_owner_reads_what_is_late_and_what_happens_next() {
    let text = told(&failed().impact);
    for technical in ["row 2", "orders-1.csv", "errand start", "Errand.Rejected", "ingest::"] {
        assert!(!text.contains(technical), "{technical}");
    }
    insta::assert_snapshot!(text);
}

#[test]
fn a_run_that_never_came_is_told() {
    insta::assert_snapshot!(told(&late(Lateness::NotStarted).on_call));
    insta::assert_snapshot!("a_run_that_never_came_for_readers", told(&late(Lateness::NotStarted).impact));
}

/// What both audiences read of a missed run, when this became of it.
fn caught_up(catchup: Catchup, catching: &Catching) -> [String; 2] {
    let (mut deployment, links, history) = (deployment(), links(), history());
    deployment.jobs.get_mut("orders").expect("the job").catchup = catchup;
    let (job, now) = (&deployment.jobs["orders"], at("2026-11-20T06:31:00Z"));
    let scene = Scene {
        deployment: &deployment,
        job_name: "orders",
        job,
        history: &history,
        links: &links,
        now,
        unreported: 0,
        catching: Some(catching),
    };
    let said = scene.late("late-orders-20261120T060000Z", &finding(Lateness::NotStarted), &[]);
    let fact = |message: &Message, name: &str| message.facts.iter().find(|fact| fact.name == name).map(|fact| fact.text.clone());
    [(&said.on_call, "Catching up"), (&said.impact, "What happens next")].map(|(message, name)| fact(message, name).unwrap_or_default())
}

#[test]
fn what_becomes_of_a_missed_run_is_told_as_it_is() {
    let started = |count: u32| (1..=count).map(|number| format!("orders-2026111{number}T060000Z-catchup-1f2e3d")).collect::<Vec<_>>();
    let problem = || Some("cannot start `x`: not allowed (AccessDeniedException)".to_owned());
    let told = [
        (Catchup::None, Catching::default()),
        (Catchup::All, Catching { started: started(1), ..Catching::default() }),
        (Catchup::All, Catching { started: started(1), waiting: 2, problem: None }),
        (Catchup::All, Catching { started: started(5), ..Catching::default() }),
        (Catchup::All, Catching { waiting: 3, ..Catching::default() }),
        (Catchup::All, Catching { problem: problem(), ..Catching::default() }),
        (Catchup::All, Catching { started: started(1), waiting: 1, problem: problem() }),
        (Catchup::Last, Catching { started: started(1), ..Catching::default() }),
        (Catchup::Last, Catching::default()),
    ];
    let told = told.map(|(catchup, catching)| caught_up(catchup, &catching).join("\n"));
    insta::assert_snapshot!(told.join("\n---\n"));
}

#[test]
fn only_those_who_are_told_are_said_to_be() {
    let (mut deployment, links, history) = (deployment(), links(), History::default());
    let job = deployment.jobs.get_mut("orders").expect("the job");
    job.alerts = vec![DeployedAlert { on: vec![AlertEvent::Failure], to: vec!["data-platform".to_owned()] }];
    let (job, now) = (&deployment.jobs["orders"], at("2026-11-20T06:31:00Z"));
    let scene =
        Scene { deployment: &deployment, job_name: "orders", job, history: &history, links: &links, now, unreported: 0, catching: None };
    assert!(scene.next(AlertEvent::Failure).starts_with("data-platform is told at the same time"));
    // The owner does not hear of late runs; and no data of a good run is there to be seen.
    assert_eq!(scene.next(AlertEvent::Late), "The next run is due at 2026-11-21 06:00 Europe/Lisbon.");
}

#[test]
fn every_way_to_be_late_has_its_words() {
    let all = [Lateness::StartedLate, Lateness::NotFinished, Lateness::FinishedLate, Lateness::TooOld].map(late);
    let text: Vec<String> = all.iter().map(|said| format!("{}\n{}\n{}", said.on_call.title, said.on_call.lead, said.impact.lead)).collect();
    insta::assert_snapshot!(text.join("\n---\n"));
}

#[test]
fn a_recovery_says_how_long_it_took() {
    insta::assert_snapshot!(told(&recovered().on_call));
    insta::assert_snapshot!("a_recovery_for_readers", told(&recovered().impact));
}

#[test]
fn a_recovery_does_not_claim_more_than_is_so() {
    let again = run("orders", "orders-20b", "2026-11-20T06:00:00Z", Outcome::Succeeded);
    let mut history = history();
    history.runs.push(again.clone());
    let mut late = Record::open("late-orders-x", Subject::Late, "orders", at("2026-11-17T06:31:00Z"), None);
    late.dues = vec![at("2026-11-16T06:00:00Z"), at("2026-11-17T06:00:00Z"), at("2026-11-20T06:00:00Z")];
    let said = with_scene(&history, "2026-11-20T08:35:00Z", |scene| scene.recovered("late-orders-x", &[&late], Some(&again), 2));
    insta::assert_snapshot!(format!("{}\n===\n{}", told(&said.on_call), told(&said.impact)));
}

#[test]
fn failures_without_a_report_count() {
    let (deployment, links, history) = (deployment(), links(), history());
    let (job, now) = (&deployment.jobs["orders"], at("2026-11-20T06:31:00Z"));
    let scene =
        Scene { deployment: &deployment, job_name: "orders", job, history: &history, links: &links, now, unreported: 2, catching: None };
    assert!(scene.how_often("orders-20").text.starts_with("the 4th failure in a row"), "{}", scene.how_often("orders-20").text);
}

#[test]
fn warnings_are_told() {
    let mut warned = run("orders", "orders-20", "2026-11-20T06:00:00Z", Outcome::Warned);
    warned.warnings = vec!["check: `freshness(day)` is 3 days".to_owned()];
    let said = with_scene(&history(), "2026-11-20T06:10:00Z", |scene| scene.warned("warning-orders-20", &warned));
    insta::assert_snapshot!(told(&said.on_call));
    assert_ne!(said.on_call.incident, failed().on_call.incident, "a warning is no part of the job's incident");
}

#[test]
fn alerts_of_a_job_are_one_incident() {
    assert_eq!(failed().on_call.incident, "errand/prod/orders");
    assert_eq!(late(Lateness::NotFinished).on_call.incident, recovered().on_call.incident);
}
