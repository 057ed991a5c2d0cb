//! Runs that are ended: by a timeout of a step or of the run, by SIGINT, by SIGTERM. Nothing half-written stays.

use std::time::Duration;

use e2e::condition::wait_for;
use e2e::project::{Project, Run};

/// A query that would run for years.
const ENDLESS: &str = "select sum(hash(a.range, b.range)) as n from range(10000000) as a, range(10000000) as b";

fn endless(keys: &str) -> String {
    format!(
        "
  - id: first
    sql: {{ text: select 1 as n, materialize: {{ table: first }} }}
  - id: long
    {keys}
    sql: {{ text: 'create table half (n integer); insert into half values (1); create table whole as {ENDLESS}' }}
  - id: after
    sql: {{ text: select 1 as n, materialize: {{ table: after }} }}
"
    )
}

#[track_caller]
fn took(run: &Run, range: std::ops::Range<u64>) {
    let duration = run.step("long")["duration_ms"].as_u64().unwrap_or_default();
    assert!(range.contains(&duration), "took {duration} ms");
}

#[test]
fn a_step_past_its_timeout_is_cancelled_and_rolled_back() {
    let project = Project::new();
    project.steps(&endless("timeout: 1s"));
    let run = project.run("2026-01-05").fails(15, "step::timeout");
    assert_eq!((run.how("first"), run.how("long"), run.how("after")), ("succeeded", "failed", "skipped"));
    assert_eq!(run.failure()["kind"], "timeout");
    took(&run, 1000..2000);
    assert_eq!(project.tables(), ["first"]);
    assert_eq!(project.value("select count(*) from _errand.ledger"), "1");
}

#[test]
fn a_run_past_its_timeout_is_cancelled_and_rolled_back() {
    let project = Project::new();
    project.job("timeout: 2s", &endless("name: long"));
    let run = project.run("2026-01-05").fails(15, "run::timeout");
    assert_eq!((run.how("first"), run.how("long"), run.how("after")), ("succeeded", "cancelled", "skipped"));
    assert_eq!(project.tables(), ["first"]);
    took(&run, 500..3000);
}

fn cancelled_by(signal: &str) {
    let project = Project::new();
    project.steps(&endless("name: long"));
    let (running, id) = project.spawn(&["--interval", "2026-01-05"]);
    wait_for("the first step", Duration::from_secs(20), || running.stderr().contains("step ended").then_some(()));
    running.signal(signal);
    let run = project.ended(running, &id).expect_code(16);
    assert_eq!((run.report()["outcome"].as_str(), run.failure()["kind"].as_str()), (Some("cancelled"), Some("cancelled")));
    assert_eq!((run.how("first"), run.how("long"), run.how("after")), ("succeeded", "cancelled", "skipped"));
    assert_eq!(project.tables(), ["first"]);

    project.steps(&endless("name: long").replace(ENDLESS, "select 1 as n"));
    let run = project.run("2026-01-05").ok();
    assert_eq!((run.how("first"), run.how("long"), run.how("after")), ("already_done", "succeeded", "succeeded"));
}

#[test]
fn sigterm_ends_the_run_well() {
    cancelled_by("TERM");
}

#[test]
fn sigint_ends_the_run_well() {
    cancelled_by("INT");
}

#[test]
fn a_run_that_waits_for_its_next_attempt_is_cancelled_at_once() {
    let project = Project::new();
    project.steps("\n  - id: long\n    retry: { max_attempts: 2, backoff: constant, interval: 1h, max_interval: 1h, on: any }\n    command: { run: ['false'] }\n");
    let (running, id) = project.spawn(&["--interval", "2026-01-05"]);
    wait_for("the first attempt", Duration::from_secs(20), || running.stderr().contains("tried again").then_some(()));
    running.terminate();
    let run = project.ended(running, &id).expect_code(16);
    assert_eq!((run.how("long"), run.report()["outcome"].as_str()), ("cancelled", Some("cancelled")));
    assert_eq!(run.attempt("long")["failure"]["code"], "command::failed", "why it waited");
}

#[test]
fn an_export_that_is_cancelled_leaves_no_file() {
    let project = Project::new();
    project.steps(
        "
  - id: first
    sql: { text: select 1 as n, materialize: { table: first } }
  - id: long
    export: { query: select * from range(1000000000000), format: csv, to: { connection: lake, path: out.csv } }
",
    );
    let (running, id) = project.spawn(&["--interval", "2026-01-05"]);
    let begun = || std::fs::read_dir(project.path("data")).expect("it is there").next().map(|_| ());
    wait_for("the file under way", Duration::from_secs(20), begun);
    running.terminate();
    let _ = project.ended(running, &id).expect_code(16);
    assert!(begun().is_none(), "no file is left, not even a part of one");
}

#[test]
fn an_ingest_past_its_timeout_publishes_nothing() {
    let project = Project::new();
    let rows: String = (0..1_500_000).map(|n| format!("{n},some text that takes room,{n}.25\n")).collect();
    project.write("data/large.csv", format!("id,name,price\n{rows}"));
    project.steps(
        "
  - id: long
    timeout: 1s
    ingest:
      source: { files: { connection: lake, path: '{large,slow}.csv', format: csv } }
      target: { table: t }
      columns: [{ name: id, type: bigint }, { name: name, type: text }, { name: price, type: 'decimal(12,2)' }]
      checks: [{ expression: 'id < 0 or (select count(*) from range(100000000000)) > 0' }]
",
    );
    let run = project.run("2026-01-05").fails(15, "step::timeout");
    took(&run, 1000..2500);
    assert_eq!(project.tables(), [""; 0]);
}
