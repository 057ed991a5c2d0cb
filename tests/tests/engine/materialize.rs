//! `sql` with `materialize`: every mode, checks before publishing, empty results, duplicate keys.

use e2e::project::Project;

/// A query with three rows a day: 1 stays, 2 changes from day to day, a third is new each day and gone the next.
const DAYS: &str = "select id, name from (values (1, 'a', null), (2, 'b' || {{ run.date }}[10:], null), (5, 'e', date '2026-01-05'), \
                    (6, 'f', date '2026-01-06'), (7, 'g', date '2026-01-07')) as v(id, name, day) where day is null or day = {{ run.date }}";

/// One step that builds the table `t` from [`DAYS`] in this way.
fn days(project: &Project, materialize: &str) {
    project.write("jobs/load/days.sql", DAYS);
    project.steps(&format!("\n  - id: build\n    sql: {{ file: days.sql, materialize: {{ table: t, {materialize} }} }}\n"));
}

fn run_two_days(project: &Project) -> Vec<String> {
    for day in ["2026-01-05", "2026-01-06"] {
        let run = project.run(day).ok();
        assert_eq!(run.counts("build"), [3, 3, 0, 0]);
        let before = project.content();
        assert_eq!(project.run(day).ok().how("build"), "already_done");
        assert_eq!(project.content(), before, "the same interval again writes nothing");
    }
    assert_eq!(project.tables(), ["t"], "no staging table is left");
    project.rows("select id, name from t")
}

#[test]
fn append_adds_rows() {
    let project = Project::new();
    days(&project, "mode: append");
    assert_eq!(run_two_days(&project), ["1|a", "1|a", "2|b5", "2|b6", "5|e", "6|f"]);
}

#[test]
fn replace_leaves_only_the_new_rows() {
    let project = Project::new();
    days(&project, "mode: replace");
    assert_eq!(run_two_days(&project), ["1|a", "2|b6", "6|f"]);
}

#[test]
fn merge_updates_by_key_and_adds_the_rest() {
    let project = Project::new();
    days(&project, "mode: merge, primary_key: [id]");
    assert_eq!(run_two_days(&project), ["1|a", "2|b6", "5|e", "6|f"]);
}

#[test]
fn delete_insert_replaces_rows_with_the_same_key() {
    let project = Project::new();
    days(&project, "mode: delete_insert, primary_key: [id]");
    assert_eq!(run_two_days(&project), ["1|a", "2|b6", "5|e", "6|f"]);
}

#[test]
fn delete_insert_replaces_whole_partitions() {
    let project = Project::new();
    let build = |rows: &str| {
        let query = format!("select * from (values {rows}) as v(day, n)");
        project.steps(&format!(
            "\n  - id: build\n    sql: {{ text: \"{query}\", materialize: {{ table: t, mode: delete_insert, partition: day }} }}\n"
        ));
    };
    build("('mon', 1), ('mon', 1), ('tue', 3)");
    let _ = project.run("2026-01-05").ok();
    build("('tue', 4), ('wed', 5)");
    let _ = project.run("2026-01-06").ok();
    assert_eq!(project.rows("from t"), ["mon|1", "mon|1", "tue|4", "wed|5"], "a partition without new rows stays as it is");
}

#[test]
fn scd2_keeps_every_version_with_its_time() {
    let project = Project::new();
    days(&project, "mode: scd2, primary_key: [id]");
    let _ = run_two_days(&project);
    let _ = project.run("2026-01-07").ok();
    let versions = project.rows("select id, name, _errand_valid_to is null from t");
    assert_eq!(versions, ["1|a|true", "2|b5|false", "2|b6|false", "2|b7|true", "5|e|false", "6|f|false", "7|g|true"]);
    let chained = "select count(*) from t as old, t as new where old.id = new.id and old._errand_valid_to = new._errand_valid_from";
    assert_eq!(project.value(chained), "2", "a version begins when the one before it ends");
}

#[test]
fn a_failing_check_publishes_nothing() {
    let project = Project::new();
    let build = |rows: &str| {
        project.steps(&format!(
            "
  - id: build
    sql:
      text: select * from range({rows})
      materialize: {{ table: t }}
      checks:
        - row_count: {{ min: 3 }}
        - unique: [range]
"
        ));
    };
    build("4");
    let _ = project.run("2026-01-05").ok();
    build("2");
    let run = project.run("2026-01-06").fails(12, "check::failed");
    assert!(run.message().contains("2 rows, at least 3 expected"), "{}", run.message());
    let checks: Vec<(bool, bool)> = run.attempt("build")["checks"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|check| (check["passed"] == true, check["severity"] == "error"))
        .collect();
    assert_eq!(checks, [(false, true), (true, true)], "every check ran");
    assert_eq!(project.value("select count(*) from t"), "4");
    assert_eq!(project.tables(), ["t"]);
    assert_eq!(project.value("select count(*) from _errand.ledger"), "1");
}

#[test]
fn an_empty_result_replaces_a_full_table_only_when_told_so() {
    let project = Project::new();
    let build = |rows: &str, checks: &str| {
        project.steps(&format!(
            "\n  - id: build\n    sql: {{ text: select * from range({rows}), materialize: {{ table: t }}, checks: [{checks}] }}\n"
        ));
    };
    build("0", "not_null: [range]");
    let _ = project.run("2026-01-04").ok();
    build("4", "not_null: [range]");
    let _ = project.run("2026-01-05").ok();
    build("0", "not_null: [range]");
    let run = project.run("2026-01-06").fails(12, "sql::empty_replace");
    assert!(run.message().contains("the 4 rows of `t`"), "{}", run.message());
    assert_eq!(project.value("select count(*) from t"), "4");
    build("0", "row_count: { min: 0 }");
    let _ = project.run("2026-01-06").ok();
    assert_eq!(project.value("select count(*) from t"), "0");
}

#[test]
fn rows_that_share_a_key_and_differ_are_named() {
    let project = Project::new();
    let build = |rows: &str| {
        let query = format!("select * from (values {rows}) as v(a, b, n)");
        project.steps(&format!(
            "\n  - id: build\n    sql: {{ text: \"{query}\", materialize: {{ table: t, mode: merge, primary_key: [a, b] }} }}\n"
        ));
    };
    build("(1, 'x', 1), (1, 'y', 2), (1, 'x', 3), (2, null, 4), (2, null, 5)");
    let run = project.run("2026-01-05").fails(13, "publish::duplicate_key");
    for part in ["`t`", "(a = 1, b = x) 2 times", "(a = 2, b = NULL) 2 times"] {
        assert!(run.message().contains(part), "{}", run.message());
    }
    assert!(project.tables().is_empty());
    build("(1, 'x', 1), (1, 'x', 1), (2, null, 4)");
    assert_eq!(project.run("2026-01-05").ok().counts("build"), [3, 2, 1, 0], "rows that are equal in all columns count as one");
}

#[test]
fn a_key_with_null_is_a_key() {
    let project = Project::new();
    for (mode, table) in [("merge", "m"), ("delete_insert", "d"), ("scd2", "s")] {
        for (day, name) in [("2026-01-05", "old"), ("2026-01-06", "new")] {
            project.steps(&format!(
                "\n  - id: build\n    sql: {{ text: \"select null::integer as id, '{name}' as name\", materialize: {{ table: {table}, mode: {mode}, primary_key: [id] }} }}\n"
            ));
            let _ = project.run(day).ok();
        }
        let current = if mode == "scd2" { "where _errand_valid_to is null" } else { "" };
        assert_eq!(project.rows(&format!("select id, name from {table} {current}")), ["NULL|new"], "{mode}");
    }
    assert_eq!(project.rows("select name, _errand_valid_to is null from s"), ["new|true", "old|false"]);
}

#[test]
fn a_second_append_of_an_interval_under_a_changed_definition_is_refused() {
    let project = Project::new();
    days(&project, "mode: append");
    let _ = project.run("2026-01-05").ok();
    project.write("jobs/load/days.sql", format!("{DAYS} -- changed"));
    let run = project.run("2026-01-05").fails(10, "ledger::second_append");
    assert!(run.message().contains("run-1") && run.message().contains("`main.t`"), "{}", run.message());
    assert_eq!(project.value("select count(*) from t"), "3");
    let _ = project.run("2026-01-06").ok();
}

#[test]
fn a_second_append_of_an_interval_by_a_step_with_another_id_is_refused() {
    let project = Project::new();
    let steps = |ids: &[&str]| {
        let step = |id: &&str| format!("\n  - id: {id}\n    sql: {{ text: select 1 as a, materialize: {{ table: t, mode: append }} }}\n");
        project.steps(&ids.iter().map(step).collect::<String>());
    };
    steps(&["old", "beside"]);
    let _ = project.run("2026-01-05").ok();
    assert_eq!(project.value("select count(*) from t"), "2", "two steps may append to one table");
    steps(&["new", "beside"]);
    let run = project.run("2026-01-05").fails(10, "ledger::second_append");
    assert!(run.message().contains("run-1") && run.message().contains("as step `old`"), "{}", run.message());
    assert_eq!(project.value("select count(*) from t"), "2");
    let _ = project.run("2026-01-06").ok();
    steps(&["old", "beside"]);
    assert_eq!(project.run("2026-01-05").ok().how("old"), "already_done");
}

#[test]
fn a_table_in_a_schema_and_new_columns_are_made() {
    let project = Project::new();
    for (day, query) in [("2026-01-05", "select 1 as id"), ("2026-01-06", "select 2 as id, 'x' as extra")] {
        project.steps(&format!("\n  - id: build\n    sql: {{ text: \"{query}\", materialize: {{ table: mart.t, mode: append }} }}\n"));
        let _ = project.run(day).ok();
    }
    assert_eq!(project.rows("from mart.t"), ["1|NULL", "2|x"]);
}
