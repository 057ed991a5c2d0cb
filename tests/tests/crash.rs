//! SIGKILL at any moment, then a rerun: the same tables, files and ledger as one clean run.
#![allow(clippy::panic, reason = "a helper that cannot do its work fails the test that asked for it")]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use duckdb::Connection;
use e2e::condition::{answer_within, wait_for};
use e2e::errand::Running;
use e2e::project::{Project, sorted_rows, text_rows};

const DAY: [&str; 2] = ["--interval", "2026-01-05"];

/// Every mode, several formats, statements with and without a table, files out: some tens of thousands of rows in each.
const STEPS: &str = "
  - id: prepare
    sql: { text: 'create table counted (step varchar, n bigint); create schema mart; insert into counted values ({{ run.job }}, 0)' }
  - id: orders
    needs: [prepare]
    ingest:
      source: { files: { connection: lake, path: orders/*.csv, format: csv } }
      target: { table: orders }
      mode: append
      max_rejected: 10
      columns: [{ name: id, type: bigint }, { name: customer, type: integer }, { name: amount, type: 'decimal(12,2)' }, { name: day, type: date }]
      checks: [{ unique: [id] }, { not_null: [customer] }]
  - id: customers
    needs: [prepare]
    ingest:
      source: { files: { connection: lake, path: customers.jsonl, format: jsonl } }
      target: { table: mart.customers }
      mode: merge
      primary_key: [id]
      cursor: { column: version }
  - id: history
    needs: [prepare]
    ingest:
      source: { files: { connection: lake, path: customers.parquet, format: parquet } }
      target: { table: history }
      mode: scd2
      primary_key: [id, version]
  - id: by_customer
    needs: [orders]
    sql:
      text: select customer, count(*) as orders, sum(amount) as amount from orders group by customer
      materialize: { table: mart.by_customer, mode: delete_insert, primary_key: [customer] }
      checks: [{ unique: [customer] }, { row_count: { min: 1, change: 50% } }]
  - id: note
    needs: [orders, customers]
    sql: { text: \"insert into counted select 'orders', count(*) from orders; insert into counted select 'customers', count(*) from mart.customers\" }
  - id: running_sum
    needs: [orders]
    sql:
      text: select id, sum(amount) over (partition by customer order by id) as amount from orders
      materialize: { table: running_sum, mode: append }
  - id: file
    needs: [by_customer]
    export: { query: select * from mart.by_customer order by customer, format: csv, to: { connection: out, path: 'reports/{{ run.date }}.csv' } }
  - id: large_file
    needs: [running_sum]
    export: { query: select * from running_sum order by id, format: jsonl, to: { connection: out, path: running_sum.jsonl } }
  - id: holds
    needs: [note, history]
    check: { table: counted, expect: [{ row_count: { min: 3, max: 3 } }, { unique: [step] }] }
";

/// The input of all runs of one test: written once, read by each.
struct Input(tempfile::TempDir);

impl Input {
    fn write() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        let path = |name: &str| directory.path().join(name).display().to_string();
        fs::create_dir(path("orders")).expect("the directory can be written");
        let duckdb = Connection::open_in_memory().expect("a database in memory opens");
        let order = "range as id, range * 7919 % 500 as customer, cast(range % 10007 as decimal(12,2)) / 4 as amount, date '2026-01-01' + (range % 30)::integer as day";
        for part in 0..4 {
            let file = path(&format!("orders/{part}.csv"));
            let copy = format!("COPY (SELECT {order} FROM range({part} * 15000, ({part} + 1) * 15000)) TO '{file}'");
            duckdb.execute_batch(&copy).expect("DuckDB writes files");
        }
        fs::write(path("orders/bad.csv"), "id,customer,amount,day\n-1,1,1.00,2026-01-01\n-2,x,1.00,2026-01-01\n")
            .expect("the directory can be written");
        let customer = "SELECT range % 8000 AS id, 'customer ' || hash(range) AS name, range AS version FROM range(12000)";
        for (end, options) in [("jsonl", "FORMAT json"), ("parquet", "FORMAT parquet")] {
            duckdb
                .execute_batch(&format!("COPY ({customer}) TO '{}' ({options})", path(&format!("customers.{end}"))))
                .expect("DuckDB writes files");
        }
        Self(directory)
    }

    /// A fresh copy of the repository, with an empty warehouse.
    fn project(&self) -> Project {
        let project = Project::new();
        let lake = self.0.path().display();
        project.write(
            "errand.yaml",
            format!(
                "version: 1\ndefault_environment: local\nenvironments:\n  local:\n    connections:\n      warehouse: {{ duckdb: {{ path: state/warehouse.duckdb }} }}\n      \
                 lake: {{ directory: {{ path: {lake} }} }}\n      out: {{ directory: {{ path: out }} }}\ncontacts:\n  team: {{ email: {{ to: [team@example.com] }} }}\n"
            ),
        );
        project.steps(STEPS);
        project
    }
}

/// Columns whose values differ from run to run.
const OF_THE_RUN: &str = "run_id, attempt, recorded_at, _errand_run_id, _errand_loaded_at, _errand_valid_from, _errand_valid_to";

/// What a run left, without what differs from run to run: each table with its number of rows and a sum of them that knows no order,
/// and each file with its content.
fn fingerprint(project: &Project) -> Vec<String> {
    let warehouse = project.warehouse();
    let tables = text_rows(&warehouse, "SELECT format('\"{}\".\"{}\"', schema_name, table_name) AS t FROM duckdb_tables()");
    let mut lines: Vec<String> = tables.iter().map(|table| table_fingerprint(&warehouse, table)).collect();
    lines.sort();
    for file in files(&project.path("out")) {
        let content = fs::read(&file).expect("a file can be read");
        let sum = content.iter().fold(0_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(*byte)));
        lines.push(format!("{} {} {sum}", file.strip_prefix(project.path("out")).unwrap_or(&file).display(), content.len()));
    }
    lines
}

fn table_fingerprint(warehouse: &Connection, table: &str) -> String {
    let (schema, name) = table.trim_matches('"').split_once("\".\"").expect("the query wrote both");
    let columns = format!("SELECT column_name FROM duckdb_columns() WHERE schema_name = '{schema}' AND table_name = '{name}'");
    let kept: Vec<String> = sorted_rows(warehouse, &columns)
        .iter()
        .filter(|column| !OF_THE_RUN.split(", ").any(|other| other == **column))
        .map(|column| format!("\"{column}\""))
        .collect();
    let rows = format!("SELECT count(*), sum(hash({})) FROM {table}", kept.join(", "));
    format!("{table} {} {}", kept.join(","), text_rows(warehouse, &rows).join(""))
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let entries = entries.map(|entry| entry.expect("a directory can be listed").path());
    let mut files: Vec<PathBuf> = entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect();
    files.sort();
    files
}

/// A run without interruption: what it leaves and how long it takes.
fn clean(input: &Input) -> (Vec<String>, Duration) {
    let project = input.project();
    let start = Instant::now();
    let run = project.run_with(&DAY).ok();
    let duration = start.elapsed();
    assert_eq!(run.report()["outcome"], "succeeded");
    let expected = fingerprint(&project);
    assert_eq!(expected.len(), 12, "{expected:#?}");
    assert_eq!(project.value("select count(*) from _errand.ledger"), "9");
    (expected, duration)
}

/// Starts a run and kills it when `moment` has come; says whether that came before its end.
fn killed(project: &Project, moment: impl FnOnce(&mut Running)) -> bool {
    let (mut running, id) = project.spawn(&DAY);
    moment(&mut running);
    running.kill();
    project.ended(running, &id).outcome.signal() == Some(9)
}

fn after(time: Duration) -> impl FnOnce(&mut Running) {
    // Whether it ended is asked again and again until the time is over.
    move |running| {
        let _ = answer_within(time, || running.has_ended().then_some(()));
    }
}

fn after_lines(line: &str, count: usize) -> impl FnOnce(&mut Running) {
    move |running| {
        let seen = |running: &mut Running| running.stderr().matches(line).count() >= count || running.has_ended();
        wait_for("a line of the log", Duration::from_secs(60), || seen(running).then_some(()));
    }
}

/// Runs to the end what was killed, and compares.
#[track_caller]
fn completes(project: &Project, expected: &[String], moment: &str) {
    let run = project.run_with(&DAY).ok();
    assert_eq!(fingerprint(project), expected, "killed {moment}\n{}", run.outcome.stderr);
    let again = project.run_with(&DAY).ok();
    assert!(
        ["orders", "customers", "history", "running_sum", "large_file", "note"].iter().all(|step| again.how(step) == "already_done"),
        "killed {moment}"
    );
    assert_eq!(fingerprint(project), expected, "killed {moment}, and run once more");
}

#[test]
fn killed_at_any_time_a_rerun_gives_what_a_clean_run_gives() {
    let input = Input::write();
    let (expected, duration) = clean(&input);
    let mut kills = 0;
    for part in 0..20 {
        let project = input.project();
        kills += u32::from(killed(&project, after(duration * part / 20)));
        completes(&project, &expected, &format!("after {part}/20 of {duration:?}"));
    }
    assert!(kills >= 10, "only {kills} runs were killed before their end");
}

#[test]
fn killed_when_a_step_ends_a_rerun_gives_what_a_clean_run_gives() {
    let input = Input::write();
    let (expected, _) = clean(&input);
    let mut kills = 0;
    for count in 1..=9 {
        let project = input.project();
        kills += u32::from(killed(&project, after_lines("step ended", count)));
        completes(&project, &expected, &format!("at the end of step {count}"));
    }
    assert!(kills >= 5, "only {kills} runs were killed before their end");
}

#[test]
fn killed_twice_in_a_row_a_rerun_gives_what_a_clean_run_gives() {
    let input = Input::write();
    let (expected, duration) = clean(&input);
    for part in 1..8 {
        let project = input.project();
        killed(&project, after(duration * part / 8));
        killed(&project, after(duration * (8 - part) / 8));
        completes(&project, &expected, &format!("twice, after {part}/8 and {}/8 of {duration:?}", 8 - part));
    }
}
