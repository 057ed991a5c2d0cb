//! Every way to fail has its exit code, its kind in the report and its text on standard error.

use e2e::errand::Errand;
use e2e::project::Project;

/// A step of one statement.
fn statement(sql: &str) -> String {
    format!("\n  - id: one\n    sql: {{ text: \"{sql}\" }}\n")
}

#[test]
fn success_is_0() {
    let project = Project::new();
    project.steps(&statement("select 1"));
    let run = project.run("2026-01-05").ok();
    assert_eq!((run.report()["outcome"].as_str(), run.report().get("failure")), (Some("succeeded"), None));
}

#[test]
fn usage_is_2() {
    let errand = Errand::new();
    for arguments in [&["run"][..], &["run", "a", "--no-such-flag"], &["no-such-command"]] {
        let outcome = errand.run(arguments).expect_code(2);
        assert!(outcome.stdout.is_empty() && !outcome.stderr.is_empty());
    }
}

#[test]
fn a_wrong_definition_is_10() {
    let project = Project::new();
    project.steps("\n  - id: one\n    sql: { txt: select 1 }\n");
    let run = project.run("2026-01-05").expect_code(10);
    assert!(run.outcome.stderr.contains("jobs/load/job.yaml:8:"), "{}", run.outcome.stderr);
    assert!(!project.database().exists(), "nothing ran");
}

#[test]
fn a_job_that_is_not_there_is_10_and_the_nearest_is_named() {
    let project = Project::new();
    project.steps(&statement("select 1"));
    let errand = Errand::new();
    let repository = project.path("").display().to_string();
    let outcome = errand.run(["run", "laod", "--repo", &repository]).expect_code(10);
    assert!(format!("{}{}", outcome.stdout, outcome.stderr).contains("`load`"), "{}{}", outcome.stdout, outcome.stderr);
}

#[test]
fn an_environment_that_is_not_there_is_10() {
    let project = Project::new();
    project.steps(&statement("select 1"));
    let run = project.run_with(&["--interval", "2026-01-05", "--env", "prod"]).expect_code(10);
    assert!(run.everything().contains("`prod`") && run.everything().contains("local"), "{}", run.everything());
}

#[test]
fn a_repository_that_is_not_there_is_11() {
    let errand = Errand::new();
    let outcome = errand.run(["run", "load", "--repo", "file:///nowhere/jobs.git"]).expect_code(11);
    assert!(format!("{}{}", outcome.stdout, outcome.stderr).contains("/nowhere/jobs.git"), "{}{}", outcome.stdout, outcome.stderr);
}

#[test]
fn kinds_of_failed_steps_have_their_codes() {
    for (code, kind, step) in [
        (12, "check_failed", "check: { query: select 1 as n, expect: [{ expression: n > 1 }] }"),
        (13, "rejected", "ingest: { source: { files: { connection: lake, path: x.csv, format: csv } }, target: { table: t } }"),
        (15, "timeout", "command: { run: [sleep, '1000'] }\n    timeout: 1s"),
        (17, "permanent", "sql: { text: select 1 / nothing }"),
        (17, "permanent", "command: { run: ['false'] }"),
        (10, "definition", "command: { run: [no-such-program] }"),
    ] {
        let project = Project::new();
        project.steps(&format!("\n  - id: one\n    {step}\n"));
        let run = project.run("2026-01-05").expect_code(code);
        assert_eq!(run.failure()["kind"], kind, "{step}");
        assert_eq!((run.how("one"), run.report()["outcome"].as_str()), ("failed", Some("failed")), "{step}");
        let first_words: String = run.message().chars().take(20).collect();
        assert!(run.outcome.stderr.contains(&first_words), "{step}: {}", run.outcome.stderr);
    }
}

#[test]
fn a_report_says_what_ran() {
    let project = Project::within(Errand::new().env("ERRAND_SCHEDULED_AT", "2026-01-06T06:00:00Z"));
    project.steps(&statement("create table t as select {{ run.id }} as id, {{ run.job }} as job, {{ run.scheduled_at }} as at"));
    let run = project.run_with(&["--interval", "2026-01-05", "--attempt", "1", "--format", "json"]).ok();
    let report = run.report();
    assert_eq!(&run.outcome.json(), report, "standard output is the report");
    for (key, value) in
        [("run_id", "run-1"), ("job", "load"), ("environment", "local"), ("scheduled_at", "2026-01-06T06:00:00Z"), ("outcome", "succeeded")]
    {
        assert_eq!(report[key], value, "{key}");
    }
    assert_eq!((report["version"].as_u64(), report["attempt"].as_u64()), (Some(1), Some(1)));
    assert_eq!(report["interval"]["start"], "2026-01-05T00:00:00Z");
    assert!(report["peak_memory_bytes"].as_u64().is_some_and(|bytes| bytes > 1 << 20));
    let statement = &run.attempt("one")["statements"][0];
    assert_eq!((statement["id"].as_str(), statement["place"].as_str()), (Some("one.1.1"), Some("jobs/load/job.yaml:8")), "{statement}");
    assert!(project.value("from t").starts_with("run-1|load|2026-01-06"));
}

#[test]
fn a_warehouse_that_is_no_database_is_17() {
    let project = Project::new();
    project.write("state/warehouse.duckdb", "this is no database, and long enough to be read as one: ".repeat(200));
    project.steps(&statement("select 1"));
    let run = project.run("2026-01-05").fails(17, "warehouse::cannot_open");
    assert!(run.message().contains("warehouse.duckdb"), "{}", run.message());
}
