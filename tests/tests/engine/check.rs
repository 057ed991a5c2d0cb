//! `check`: every kind where it holds and where it does not, severity, kept rows, comparison with earlier intervals.

use e2e::project::{Project, Run};

const TABLES: &str = "
  - id: tables
    sql:
      text: |
        create table parent as select * from (values (1), (2)) as v(id);
        create table good as select * from (values (1, 'a', 1, timestamp '2999-01-01'), (2, 'b', null, null)) as v(id, kind, parent_id, seen);
        create table bad as select * from (values (1, 'a', 1, timestamp '2000-01-01'), (1, 'z', 9, null), (null, 'z', 2, null)) as v(id, kind, parent_id, seen);
";

const EXPECT: &str = "
        - not_null: [id, kind]
        - unique: [id]
        - accepted_values: { column: kind, values: [a, b, null] }
        - relationships: { column: parent_id, to: parent, field: id }
        - row_count: { min: 1, max: 2 }
        - freshness: { column: seen, max_age: 2h }
        - expression: id < 10 -- every id
        - sql: { text: select * from TABLE where id is null }
";

/// A job that makes the tables and expects something of one of them.
fn expect(project: &Project, table: &str, expect: &str) {
    let expect = expect.replace("TABLE", table);
    project.steps(&format!("{TABLES}\n  - id: look\n    check:\n      table: {table}\n      expect:{expect}"));
}

/// For each check of the step `look`: name, whether it passed, how many rows break it.
fn checks(run: &Run) -> Vec<String> {
    let line =
        |check: &serde_json::Value| format!("{} {} {}", check["name"].as_str().unwrap_or_default(), check["passed"], check["failures"]);
    run.attempt("look")["checks"].as_array().expect("a list").iter().map(line).collect()
}

#[test]
fn every_kind_passes_where_it_holds() {
    let project = Project::new();
    expect(&project, "good", EXPECT);
    let checks = checks(&project.run("2026-01-05").ok());
    assert_eq!(checks.len(), 8);
    assert!(checks.iter().all(|check| check.contains(" true ")), "{checks:#?}");
}

#[test]
fn every_kind_fails_where_it_does_not_hold_and_all_are_reported() {
    let project = Project::new();
    expect(&project, "bad", EXPECT);
    let run = project.run("2026-01-05").fails(12, "check::failed");
    let found: Vec<String> = checks(&run).iter().map(|check| check.rsplitn(3, ' ').take(2).collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(
        found,
        ["1 false", "1 false", "2 false", "1 false", "null false", "null false", "1 false", "1 false"],
        "{:#?}",
        checks(&run)
    );
    for part in ["8 checks do not hold", "3 rows, at most 2 expected", "first: (1, 2)"] {
        assert!(run.message().contains(part), "{part}: {}", run.message());
    }
    assert!(run.outcome.stderr.contains("not_null"), "{}", run.outcome.stderr);
}

#[test]
fn a_check_of_severity_warn_does_not_fail() {
    let project = Project::new();
    expect(&project, "bad", "\n        - { unique: [id], severity: warn, name: ids are unique }\n");
    let run = project.run("2026-01-05").ok();
    let warnings = run.report()["warnings"].to_string();
    assert!(warnings.contains("ids are unique") && warnings.contains("1 row breaks it"), "{warnings}");
    assert_eq!(checks(&run), ["ids are unique false 1"]);
    assert!(run.outcome.stderr.contains("ids are unique"), "{}", run.outcome.stderr);
}

#[test]
fn rows_that_break_a_check_are_kept_when_told_so() {
    let project = Project::new();
    let both = "\n        - { not_null: [id] }\n        - { accepted_values: { column: kind, values: [a] }, store_failures: true }\n";
    expect(&project, "bad", both);
    for day in ["2026-01-05", "2026-01-06"] {
        let only_check: &[&str] = if day == "2026-01-05" { &[] } else { &["--step", "look"] };
        if !only_check.is_empty() {
            // The tables are there; the check alone runs again.
            project.steps(&format!("\n  - id: look\n    check:\n      table: bad\n      expect:{both}"));
        }
        let run = project.run_with(&[&["--interval", day], only_check].concat()).fails(12, "check::failed");
        let checks = &run.attempt("look")["checks"];
        assert_eq!(checks[0].get("stored_in"), None);
        let table = checks[1]["stored_in"].as_str().expect("a table");
        assert_eq!(project.rows(&format!("select id, kind from {table}")), ["1|z", "NULL|z"], "instead of those of the last time");
    }
}

#[test]
fn a_query_can_be_checked() {
    let project = Project::new();
    project.steps(&format!(
        "{TABLES}
  - id: look
    check:
      query: select kind, count(*) as n from bad group by kind having count(*) > 1
      expect: [{{ row_count: {{ max: 0 }} }}]
"
    ));
    let run = project.run("2026-01-05").fails(12, "check::failed");
    assert!(run.message().contains("1 rows, at most 0 expected"), "{}", run.message());
}

#[test]
fn row_count_change_compares_with_the_last_interval_that_held() {
    let project = Project::new();
    let run = |day: &str, rows: u32| {
        project.steps(&format!(
            "
  - id: build
    sql: {{ text: 'select * from range({rows})', materialize: {{ table: t }} }}
  - id: look
    check: {{ table: t, expect: [{{ row_count: {{ change: 20% }} }}] }}
"
        ));
        project.run(day)
    };
    run("2026-01-05", 100).ok();
    run("2026-01-06", 120).ok();
    let failed = run("2026-01-07", 150).fails(12, "check::failed");
    assert!(failed.message().contains("150 rows after 120 rows last time, a change of 25.0%"), "{}", failed.message());
    run("2026-01-08", 100).ok();
    // An earlier interval, done late, is compared with the one before it.
    run("2026-01-06", 81).ok();
    let failed = run("2026-01-06", 79).fails(12, "check::failed");
    assert!(failed.message().contains("after 100 rows"), "{}", failed.message());
}

#[test]
fn freshness_names_the_newest_value_and_no_value_is_not_fresh() {
    let project = Project::new();
    expect(&project, "bad", "\n        - freshness: { column: seen, max_age: 1d }\n");
    let run = project.run("2026-01-05").fails(12, "check::failed");
    assert!(run.message().contains("newest `seen` is 2000-01-01 00:00:00"), "{}", run.message());
    project.steps(
        "
  - id: look
    check: { query: select * from good where seen is null, expect: [{ freshness: { column: seen, max_age: 1d } }] }
",
    );
    let run = project.run("2026-01-06").fails(12, "check::failed");
    assert!(run.message().contains("no row has a `seen`"), "{}", run.message());
}

#[test]
fn a_check_that_cannot_run_is_a_failure_of_its_own() {
    let project = Project::new();
    for expect in ["not_null: [nothing]", "expression: nothing > 0"] {
        project.steps(&format!("\n  - id: look\n    check: {{ query: select 1 as id, expect: [{{ {expect} }}] }}\n"));
        let run = project.run("2026-01-05").fails(17, "warehouse::binding");
        assert!(run.message().contains("nothing"), "{}", run.message());
    }
}

#[test]
fn a_check_that_cannot_run_is_named_with_its_place_and_the_others_run() {
    let project = Project::new();
    project.steps(
        "
  - id: look
    check:
      query: select 1 as id
      expect:
        - expression: nothing > 0
        - unique: [id]
        - { name: none is one, expression: id <> 1 }
",
    );
    let run = project.run("2026-01-05").fails(17, "warehouse::binding");
    assert_eq!(run.place(), "jobs/load/job.yaml:11:11");
    assert!(run.message().starts_with("check expression(nothing > 0) cannot run: Binder Error: "), "{}", run.message());
    assert!(!run.message().contains('\n'), "{}", run.message());
    assert_eq!(checks(&run), ["expression(nothing > 0) false null", "unique(id) true 0", "none is one false 1"]);
    project.write("jobs/load/none.sql", "select *\nfrom t where nothing");
    project.steps(
        "
  - id: build
    sql: { text: select 1 as id, materialize: { table: t }, checks: [{ sql: { file: none.sql } }] }
",
    );
    let run = project.run("2026-01-05").fails(17, "warehouse::binding");
    assert_eq!(run.place(), "jobs/load/none.sql:1:0");
    assert!(run.message().starts_with("check sql(none.sql) cannot run: "), "{}", run.message());
    assert!(project.tables().is_empty());
}

#[test]
fn a_failed_check_says_what_did_not_run() {
    let project = Project::new();
    let help = |look: &str| {
        project.steps(&format!("\n  - id: look\n{look}\n  - id: other\n    needs: []\n    sql: {{ text: select 1 }}\n"));
        let run = project.run("2026-01-05");
        assert_ne!(run.how("other"), "skipped");
        run.attempt("look")["failure"]["help"].as_str().unwrap_or_default().to_owned()
    };
    let check = "    check: { query: select 1 as id, expect: [{ expression: id > 1 }] }";
    assert_eq!(help(check), "steps that need this one did not run: mend the data or the check, then run again");
    assert_eq!(help(&format!("    on_failure: warn\n{check}")), "mend the data or the check, then run again");
    assert_eq!(
        help("    sql: { text: select 1 as id, materialize: { table: t }, checks: [{ expression: id > 1 }] }"),
        "steps that need this one did not run, and nothing that it builds was published: mend the data or the check, then run again"
    );
}

#[test]
fn checks_run_again_in_every_run() {
    let project = Project::new();
    project.write("data/limit.csv", "n\n1\n");
    project.steps(
        "
  - id: build
    sql: { text: select 5 as n, materialize: { table: t } }
  - id: look
    check: { table: t, expect: [{ expression: n > 0 }] }
",
    );
    let _ = project.run("2026-01-05").ok();
    let again = project.run("2026-01-05").ok();
    assert_eq!((again.how("build"), again.how("look")), ("already_done", "succeeded"));
}
