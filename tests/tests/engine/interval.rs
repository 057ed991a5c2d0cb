//! `--interval`: what is taken, and what is said of it.

use e2e::project::Project;

fn ingest(keys: &str) -> Project {
    let project = Project::new();
    project.job(
        keys,
        "
  - id: load
    ingest:
      source: { files: { connection: lake, path: '*.csv', format: csv } }
      target: { table: t }
      mode: append
      on_empty: ok
",
    );
    project
}

#[test]
fn one_moment_is_no_interval() {
    let project = ingest("schedule: { cron: '0 * * * *', timezone: Europe/Lisbon }");
    let run = project.run("2026-07-01T06:30").fails(10, "run::bad_interval");
    assert_eq!(run.message(), "`2026-07-01T06:30` is one moment and not an interval: write `2026-11-19`, `2026-11` or `<start>/<end>`");
    assert_eq!(run.failure()["help"], "the schedule has `2026-07-01T06:00:00+01:00/2026-07-01T07:00:00+01:00` there");
    let run = project.run("+002026-07-01").fails(10, "run::bad_interval");
    assert!(run.message().contains("is not an interval"), "{}", run.message());
}

#[test]
fn an_interval_that_has_not_ended_is_warned_of() {
    let project = ingest("");
    project.write("data/a.csv", "id,name\n1,a\n");
    let run = project.run("2199-12-31").ok();
    let warning = "the interval ends at 2200-01-01T00:00:00+00:00: what arrives until then is not loaded by a later run of it";
    assert_eq!(run.report()["warnings"], serde_json::json!([warning]));
    assert!(run.everything().contains("the interval has not ended yet"), "{}", run.everything());
    assert_eq!(project.run("2026-01-05").ok().report()["warnings"], serde_json::Value::Null);
}

#[test]
fn headers_without_rows_make_no_table_of_guessed_types() {
    let project = ingest("");
    project.write("data/a.csv", "id,day\n");
    let run = project.run("2026-01-05").ok();
    assert!(run.report()["warnings"][0].as_str().is_some_and(|warning| warning.contains("no table is made")), "{:#}", run.report());
    assert_eq!(project.value("select count(*) from duckdb_tables() where table_name = 't'"), "0");
    project.write("data/b.csv", "id,day\n1,2026-01-05\n");
    let _ = project.run("2026-01-05").ok();
    assert_eq!(project.rows("select typeof(id), typeof(day), id from t"), ["BIGINT|DATE|1"]);
}

#[test]
fn a_date_that_is_not_written_as_declared_is_refused() {
    let project = Project::new();
    project.steps(
        "
  - id: load
    ingest:
      source: { files: { connection: lake, path: '*.csv', format: csv } }
      target: { table: t }
      columns: [{ name: day, type: date, format: '%d/%m/%Y' }]
      max_rejected: 9
",
    );
    project.write("data/a.csv", "day\n31/12/2026\n1/2/2026\n31/12/26\n31/12/126\n 31/12/2026\n31/ 12/2026\n31/12/+2026\n");
    let run = project.run("2026-01-05").ok();
    assert_eq!(run.counts("load"), [7, 2, 0, 5]);
    assert_eq!(project.rows("select day from t"), ["2026-02-01", "2026-12-31"]);
}
