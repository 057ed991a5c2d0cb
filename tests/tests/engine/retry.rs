//! Attempts: what is tried again, how often, and that a retry writes nothing twice. Also a warehouse that is in use.

use std::time::Duration;

use duckdb::Connection;
use e2e::condition::wait_for;
use e2e::project::Project;

const RETRY: &str = "retry: { max_attempts: 10, backoff: constant, interval: 1s }";

fn hold(project: &Project) -> Connection {
    project.write("state/.keep", "");
    Connection::open(project.database()).expect("the database opens")
}

#[test]
fn a_warehouse_in_use_is_tried_again_until_it_is_free() {
    let project = Project::new();
    project.job(RETRY, "\n  - id: build\n    sql: { text: select 1 as n, materialize: { table: t, mode: append } }\n");
    let held = hold(&project);
    let (running, id) = project.spawn(&["--interval", "2026-01-05"]);
    wait_for("the first attempt", Duration::from_secs(20), || running.stderr().contains("tried again").then_some(()));
    drop(held);
    let run = project.ended(running, &id).ok();
    let attempts = run.step("build")["attempts"].as_array().expect("a list");
    assert!(attempts.len() >= 2, "{attempts:#?}");
    assert_eq!(
        (attempts[0]["failure"]["kind"].as_str(), attempts[0]["failure"]["code"].as_str()),
        (Some("transient"), Some("warehouse::locked"))
    );
    assert_eq!(
        attempts.iter().map(|attempt| attempt["number"].as_u64()).collect::<Vec<_>>(),
        (1..).take(attempts.len()).map(Some).collect::<Vec<_>>()
    );
    assert_eq!(run.how("build"), "succeeded");
    assert_eq!(project.rows("from t"), ["1"]);
    assert_eq!(project.value("select attempt from _errand.ledger"), attempts.len().to_string());
}

#[test]
fn without_retry_a_warehouse_in_use_names_the_process_that_uses_it() {
    let project = Project::new();
    project.steps("\n  - id: build\n    sql: { text: select 1 as n, materialize: { table: t } }\n");
    let held = hold(&project);
    let run = project.run("2026-01-05").fails(14, "warehouse::locked");
    assert!(run.message().contains(&std::process::id().to_string()), "{}", run.message());
    assert!(run.failure()["help"].is_string(), "{}", run.failure());
    drop(held);
    let _ = project.run("2026-01-05").ok();
}

#[test]
fn a_second_run_while_the_first_runs_names_it() {
    let project = Project::new();
    project.steps(
        "
  - id: prepare
    sql: { text: create table t (n integer) }
  - id: wait
    command: { run: [/bin/sh, -c, 'touch waiting; until [ -e go ]; do sleep 0.01; done'] }
",
    );
    let (running, id) = project.spawn(&["--interval", "2026-01-05"]);
    wait_for("the first run", Duration::from_secs(20), || project.path("jobs/load/waiting").exists().then_some(()));
    let second = project.run("2026-01-06").fails(14, "warehouse::locked");
    assert!(second.message().contains(&running.id().to_string()), "{}", second.message());
    assert!(second.outcome.stderr.contains("is in use by"), "{}", second.outcome.stderr);
    project.write("jobs/load/go", "");
    let _ = project.ended(running, &id).ok();
}

/// Fails the first time it runs, with the exit code 3.
const ONCE: &str = "command: { run: [/bin/sh, -c, 'if [ -e tried ]; then exit 0; fi; touch tried; exit 3'] }";

#[test]
fn a_failure_that_is_not_transient_is_tried_again_only_when_told_so() {
    let project = Project::new();
    let step = |on: &str| format!("\n  - id: once\n    retry: {{ max_attempts: 2, interval: 1s{on} }}\n    {ONCE}\n");
    project.steps(&step(""));
    let run = project.run("2026-01-05").fails(17, "command::failed");
    assert_eq!(run.step("once")["attempts"].as_array().map(Vec::len), Some(1));
    std::fs::remove_file(project.path("jobs/load/tried")).expect("it ran");
    project.steps(&step(", on: any"));
    let run = project.run("2026-01-05").ok();
    let outcomes: Vec<&str> =
        run.step("once")["attempts"].as_array().expect("a list").iter().filter_map(|attempt| attempt["outcome"].as_str()).collect();
    assert_eq!(outcomes, ["failed", "succeeded"]);
    assert!(run.step("once")["duration_ms"].as_u64().is_some_and(|duration| duration >= 500), "there is a pause: {}", run.step("once"));
}

#[test]
fn attempts_end_at_their_maximum() {
    let project = Project::new();
    project.steps(
        "\n  - id: never\n    retry: { max_attempts: 2, backoff: constant, interval: 1s, on: any }\n    command: { run: [/bin/false] }\n",
    );
    let run = project.run("2026-01-05").fails(17, "command::failed");
    assert_eq!(run.step("never")["attempts"].as_array().map(Vec::len), Some(2));
}

#[test]
fn a_fault_of_the_definition_is_never_tried_again() {
    let project = Project::new();
    project.steps("\n  - id: bad\n    retry: { max_attempts: 3, interval: 1s, on: any }\n    sql: { text: selekt 1 }\n");
    let run = project.run("2026-01-05").fails(10, "warehouse::syntax");
    assert_eq!(run.step("bad")["attempts"].as_array().map(Vec::len), Some(1));
}

#[test]
fn the_number_of_the_attempt_is_known_to_templates() {
    let project = Project::new();
    project.steps(
        "
  - id: second
    retry: { max_attempts: 3, backoff: constant, interval: 1s, on: any }
    sql: { text: \"select if({{ run.attempt }} < 2, error('too early'), {{ run.attempt }}) as n\", materialize: { table: t, mode: append } }
",
    );
    let _ = project.run("2026-01-05").ok();
    assert_eq!(project.rows("from t"), ["2"]);
}
