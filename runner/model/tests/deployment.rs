//! `deployment.json`: what it holds, that it is read as it was written, and what it must never hold.

use std::sync::Arc;

use errand_model::deployment::Deployment;
use errand_model::document::job::AlertEvent;
use errand_model::job::{Aws, Job, Project};
use errand_model::order::{Order, Origin};
use errand_model::validate::{self, FileError, Files};
use jiff::Timestamp;

struct NoFiles;

impl Files for NoFiles {
    fn text(&self, _: &str) -> Result<Arc<str>, FileError> {
        Err(FileError::Missing)
    }

    fn list(&self, _: &str) -> Vec<String> {
        Vec::new()
    }
}

const JOB: &str = "\
version: 1
name: orders
description: Loads orders.
owner: data-platform
product_owner: partner
runbook: https://wiki.example.com/orders
schedule: { cron: \"0 6 * * *\", timezone: Europe/Lisbon }
catchup: last
sla: { start_within: 10m, finish_within: 2h, max_time_since_success: 26h }
resources: { cpu: 0.5, memory: 1GB, spot: true }
alerts:
  - { on: [failure, recovered], to: [owner] }
  - { on: [late, failure], to: [product_owner, operations] }
steps:
  - id: load
    ingest:
      source: { files: { connection: lake, path: \"in/*.csv\", format: csv } }
      target: { connection: warehouse, table: raw.orders }
      mode: append
      on_empty: warn
  - id: by_day
    sql: { text: \"select 1 as a\", materialize: { table: orders_by_day, mode: replace } }
  - id: file
    export: { table: orders_by_day, format: csv, to: { connection: lake, path: \"out/{{ run.date }}.csv\" } }
";

fn at(text: &str) -> Timestamp {
    text.parse().expect("a moment")
}

fn project() -> Project {
    let mut problems = Vec::new();
    let text = include_str!("definitions/project_valid.yaml");
    validate::project(text, "errand.yaml", &mut problems).expect("the project is valid")
}

fn job(text: &str) -> Job {
    let mut problems = Vec::new();
    validate::job("orders", text, &NoFiles, Some(&project()), &mut problems).expect("the job is valid")
}

fn deployed(text: &str, when: &str, previous: Option<&Deployment>) -> Deployment {
    let aws = Aws {
        prefix: "errand-prod".to_owned(),
        repository: "https://git.example.com/acme/jobs.git".to_owned(),
        state_machine: "arn:aws:states:eu-west-1:123456789012:stateMachine:errand-prod-run".to_owned(),
        backfill_state_machine: None,
        scheduler_role: "arn:aws:iam::123456789012:role/errand-prod-scheduler".to_owned(),
        dead_letter_queue: "arn:aws:sqs:eu-west-1:123456789012:errand-prod-schedules".to_owned(),
    };
    let origin = Origin { environment: "prod", aws: &aws, commit: "57f8c1926f575d9d75204db944ca0c4497ba75d2" };
    Deployment::of(origin, at(when), &project(), &[job(text)], previous).expect("its size is offered")
}

#[test]
fn a_deployment_is_read_as_it_was_written() {
    let deployment = deployed(JOB, "2026-11-20T12:00:00Z", None);
    let text = deployment.json();
    assert_eq!(Deployment::parse(text.as_bytes()).expect("a deployment"), deployment);
    insta::assert_snapshot!(text);
}

#[test]
fn a_job_keeps_its_since_until_its_schedule_changes() {
    let first = deployed(JOB, "2026-11-20T12:00:00Z", None);
    let same = deployed(&JOB.replace("10m", "20m"), "2026-11-21T12:00:00Z", Some(&first));
    assert_eq!((same.jobs["orders"].since, same.deployed_at), (at("2026-11-20T12:00:00Z"), at("2026-11-21T12:00:00Z")));
    let other = deployed(&JOB.replace("0 6", "0 7"), "2026-11-22T12:00:00Z", Some(&same));
    assert_eq!(other.jobs["orders"].since, at("2026-11-22T12:00:00Z"));
}

#[test]
fn listeners_are_told_once() {
    let deployment = deployed(JOB, "2026-11-20T12:00:00Z", None);
    let job = &deployment.jobs["orders"];
    assert_eq!(job.listeners(AlertEvent::Failure), ["data-platform", "partner", "operations"]);
    assert_eq!(job.listeners(AlertEvent::Recovered), ["data-platform"]);
    assert!(job.listeners(AlertEvent::Warning).is_empty());
    assert_eq!(job.schedule().expect("a schedule").cron(), "0 6 * * *");
}

#[test]
fn other_files_and_newer_versions_are_refused_with_the_reason() {
    let told = |text: &str| Deployment::parse(text.as_bytes()).expect_err("refused");
    assert_eq!(told("{ \"version\": 2 }"), "deployment of version 2, this errand reads up to 1");
    assert!(told("{ \"version\": 1 }").starts_with("no deployment: missing field `environment`"));
    assert!(told("<html>").starts_with("no deployment: "));
}

#[test]
fn a_file_of_an_earlier_errand_is_read_without_what_was_added_since() {
    let mut value: serde_json::Value = serde_json::from_str(&deployed(JOB, "2026-11-20T12:00:00Z", None).json()).expect("JSON");
    for added in ["order", "concurrency"] {
        value["jobs"]["orders"].as_object_mut().expect("a job").remove(added).expect("it is written");
    }
    let job = &Deployment::parse(value.to_string().as_bytes()).expect("the same version").jobs["orders"];
    assert_eq!((&job.order, &job.concurrency), (&None, &None));
}

#[test]
fn a_missed_interval_is_started_with_what_its_schedule_would_have_sent() {
    let job = deployed(JOB, "2026-11-20T12:00:00Z", None).jobs.remove("orders").expect("the job");
    let order = job.order.expect("a job with a schedule has an order");
    let sent = |order: &Order| serde_json::from_str::<serde_json::Value>(&order.json()).expect("JSON");
    let mut expected = sent(&order);
    expected["scheduled_at"] = "2026-11-20T06:00:00Z".into();
    expected["trigger"] = "catchup".into();
    assert_eq!(sent(&order.missed(at("2026-11-20T06:00:00Z"))), expected);
}

#[test]
fn what_a_later_errand_adds_is_passed_over() {
    let mut value: serde_json::Value = serde_json::from_str(&deployed(JOB, "2026-11-20T12:00:00Z", None).json()).expect("JSON");
    value["more"] = 1.into();
    value["jobs"]["orders"]["more"] = "x".into();
    Deployment::parse(value.to_string().as_bytes()).expect("the same version");
}
