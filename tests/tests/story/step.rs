//! Runs that fail where the runner sees it: a check, a statement, a repository, a secret, a time; one that comes through at last; one in Python.

use std::time::Duration;

use e2e::receiver::Answer;
use e2e::site::{ABSENT_SECRET, DAY, Job, seen};

use crate::outcome::{assert_loaded, assert_nothing_loaded, assert_quiet, assert_told};
use crate::site;

/// A program that works only with the Python of the image, and its packages.
const FORECAST: &str =
    "import os, sys, dbt.version\nwith open(os.environ['ERRAND_OUTPUT'], 'a') as out:\n    print('where=' + sys.prefix, file=out)\n";

pub(crate) fn jobs() -> Vec<Job> {
    let broken = "  - id: broken\n    sql: { file: broken.sql, transaction: false }\n";
    let locked = "  - id: locked\n    sql: { connection: locked, text: select 1 }\n";
    let sleeps = "  - id: sleeps\n    sql: { text: select pg_sleep(90) }\n";
    let script = "  - id: forecast\n    command: { run: [python3, forecast.py], outputs: [where] }\n";
    vec![
        Job::load("in_python").then(script).with("resources: { image: python }").file("forecast.py", FORECAST),
        Job::load("check_fails").from("refunds.csv"),
        Job::load("statement_fails")
            .then(broken)
            .file("broken.sql", "-- a comment\nselect 1;\nselect order_id, amuont\nfrom statement_fails.orders;\n"),
        Job::load("repository_refuses"),
        Job::new("secret_missing", locked),
        Job::new("past_its_time", sleeps).with("timeout: 3s"),
        Job::load("comes_through").through("flaky").with("retry: { max_attempts: 2, interval: 1s }"),
    ]
}

#[test]
fn a_job_that_asks_for_python_runs_in_the_image_with_python() {
    let site = site();
    let started = site.errand(&["start", "in_python", "--interval", DAY]).expect_code(0).stdout;
    let ended = site.ended(started.trim());
    assert!(ended.input["task_definition"].as_str().is_some_and(|family| family.contains("-python-")), "{ended:#?}");
    assert_quiet(&site, &ended, "succeeded");
    assert_loaded(&site, "in_python");
    let report = site.state(&format!("runs/{}.json", ended.id)).expect("a report");
    let steps = report["steps"].as_array().expect("steps");
    let step = steps.iter().find(|step| step["id"] == "forecast").expect("the command");
    assert_eq!(step["outputs"]["where"], "/opt/python", "{report:#}");
}

#[test]
fn a_check_that_fails_publishes_nothing_and_is_told() {
    let site = site();
    let ended = site.ran(&site.order("check_fails"));
    assert_told(&site, &ended, "Errand.CheckFailed", &["expression(amount", "Step"]);
    assert_nothing_loaded(&site, "check_fails");
}

#[test]
fn a_statement_that_fails_is_told_with_its_place() {
    let site = site();
    let ended = site.ran(&site.order("statement_fails"));
    assert_told(&site, &ended, "Errand.Permanent", &["amuont", "broken.sql:3"]);
    assert_loaded(&site, "statement_fails");
}

#[test]
fn a_git_server_that_refuses_is_told() {
    let site = site();
    site.receiver.script("/refuses/jobs.git/info/refs", &[Answer::Status(403)]);
    let mut order = site.order("repository_refuses");
    order["repository"] = site.receiver.url("/refuses/jobs.git").into();
    assert_told(&site, &site.ran(&order), "Errand.Checkout", &["/refuses/jobs.git"]);
    assert_nothing_loaded(&site, "repository_refuses");
}

#[test]
fn a_secret_that_is_missing_is_told_by_its_name() {
    let site = site();
    let ended = site.ran(&site.order("secret_missing"));
    assert_told(&site, &ended, "Errand.Definition", &[ABSENT_SECRET]);
}

#[test]
fn a_run_past_the_time_of_its_job_ends_itself_and_is_told() {
    let site = site();
    let ended = site.ran(&site.order("past_its_time"));
    assert_told(&site, &ended, "Errand.Timeout", &["3 s"]);
    let asleep = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'select pg_sleep(90)%'";
    assert_eq!(site.database.value(asleep), "0", "the statement was cancelled");
}

#[test]
fn a_transient_failure_is_tried_again_in_another_task_and_nobody_is_told() {
    let site = site();
    let mut order = site.order("comes_through");
    order["max_attempts"] = 2.into();
    site.flaky.refuse(true);
    let id = site.begin(&order);
    seen("the first attempt to fail", Duration::from_secs(60), || {
        site.history(&id).iter().any(|event| event["stateEnteredEventDetails"]["name"] == "TryAgain").then_some(())
    });
    site.flaky.refuse(false);
    let ended = site.ended(&id);
    assert_eq!(ended.tasks().len(), 2, "{:?}", ended.states());
    assert_quiet(&site, &ended, "succeeded");
    assert_loaded(&site, "comes_through");
    let report = site.state(&format!("runs/{id}.2.json")).expect("a report of the second attempt");
    assert_eq!((&report["attempt"], &report["outcome"]), (&2.into(), &"succeeded".into()));
}
