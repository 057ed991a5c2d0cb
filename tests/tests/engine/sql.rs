//! `sql` without `materialize`: statements, their transaction, the place of an error, values as literals.

use e2e::project::Project;

const ONE_TABLE: &str = "
  - id: make
    sql: { text: create table t (n integer) }
";

#[test]
fn statements_are_one_transaction() {
    let project = Project::new();
    project.steps(&format!(
        "{ONE_TABLE}
  - id: fill
    sql: {{ text: 'insert into t values (1); insert into nowhere values (2)' }}
"
    ));
    let run = project.run("2026-01-05").fails(17, "warehouse::missing_object");
    assert_eq!((run.how("make"), run.how("fill")), ("succeeded", "failed"));
    assert_eq!(project.value("select count(*) from t"), "0");
}

#[test]
fn without_a_transaction_earlier_statements_stay() {
    let project = Project::new();
    project.steps(&format!(
        "{ONE_TABLE}
  - id: fill
    sql: {{ transaction: false, text: 'insert into t values (1); insert into nowhere values (2)' }}
"
    ));
    let _ = project.run("2026-01-05").fails(17, "warehouse::missing_object");
    assert_eq!(project.rows("from t"), ["1"]);
}

/// In the author's database there is no ledger.
#[test]
fn the_ledger_is_where_the_session_began() {
    let project = Project::new();
    let step = |transaction: bool| {
        format!(
            "\n  - id: away\n    sql: {{ transaction: {transaction}, text: \"attach if not exists ':memory:' as other; use other; select 1\" }}\n"
        )
    };
    for transaction in [true, false] {
        project.steps(&step(transaction));
        assert_eq!(project.run("2026-01-05").ok().how("away"), "succeeded");
        assert_eq!(project.run("2026-01-05").ok().how("away"), "already_done");
    }
}

#[test]
fn statements_run_once_for_an_interval() {
    let project = Project::new();
    project.steps(
        "
  - id: fill
    sql: { text: 'create table if not exists t (day date); insert into t values ({{ run.date }})' }
",
    );
    assert_eq!(project.run("2026-01-05").ok().how("fill"), "succeeded");
    let before = project.content();
    let again = project.run("2026-01-05").ok();
    assert_eq!((again.how("fill"), again.report()["outcome"].as_str()), ("already_done", Some("already_done")));
    assert!(again.step("fill")["reason"].as_str().is_some_and(|reason| reason.contains("run-1")), "{}", again.step("fill"));
    assert_eq!(project.content(), before);
    let _ = project.run("2026-01-06").ok();
    assert_eq!(project.rows("from t"), ["2026-01-05", "2026-01-06"]);
}

#[test]
fn an_error_is_named_with_file_line_and_column() {
    let project = Project::new();
    project.write("jobs/load/bad.sql", "-- two statements\nselect 1;\n\nselect\n  zzz\nfrom (select 1 as a)\n");
    project.steps("\n  - id: bad\n    sql: { file: bad.sql }\n");
    let run = project.run("2026-01-05").fails(17, "warehouse::binding");
    assert_eq!(run.place(), "jobs/load/bad.sql:5:3");
    assert!(run.message().contains("zzz"), "{}", run.message());
    assert!(run.outcome.stderr.contains("jobs/load/bad.sql:5:3"), "{}", run.outcome.stderr);
}

#[test]
fn an_error_of_a_built_table_is_named_with_file_line_and_column() {
    let project = Project::new();
    for (sql, place) in [("select zzz\nfrom (select 1 as a)", "1:8"), ("-- the head\n\nselect 1,\n  zzz", "4:3")] {
        project.write("jobs/load/bad.sql", sql);
        project.steps("\n  - id: bad\n    sql: { file: bad.sql, materialize: { table: t } }\n");
        let run = project.run("2026-01-05").fails(17, "warehouse::binding");
        assert_eq!(run.place(), format!("jobs/load/bad.sql:{place}"));
        assert!(project.tables().is_empty());
    }
}

#[test]
fn an_error_of_syntax_is_a_fault_of_the_definition() {
    let project = Project::new();
    project.write("jobs/load/bad.sql", "select 1;\nselekt 2");
    project.steps("\n  - id: bad\n    sql: { file: bad.sql }\n");
    let run = project.run("2026-01-05").fails(10, "warehouse::syntax");
    assert_eq!(run.place(), "jobs/load/bad.sql:2:1");
}

#[test]
fn a_value_is_a_literal_whatever_it_holds() {
    let project = Project::new();
    project.job(
        "inputs: { who: { type: string }, n: { type: integer, default: 3 } }",
        "
  - id: fill
    sql: { text: 'create table t as select {{ inputs.who }} as who, {{ inputs.n }} as n, {{ run.date }} as day' }
",
    );
    let who = "o'Brien'; drop table t; --\\ \"x\" {{ run.id }} $$";
    let _ = project.run_with(&["--interval", "2026-01-05", "--input", &format!("who={who}")]).ok();
    assert_eq!(project.rows("from t"), [format!("{who}|3|2026-01-05")]);
}

#[test]
fn an_identifier_is_quoted_and_text_is_pasted_only_by_name() {
    let project = Project::new();
    project.job(
        "inputs: { column: { type: string }, tail: { type: string, default: '1, 2' } }",
        "
  - id: fill
    sql: { text: 'create table t as select 1 as {{ inputs.column | ident }}, [{{ inputs.tail | raw }}] as list' }
",
    );
    let _ = project.run_with(&["--interval", "2026-01-05", "--input", "column=a \"b\"; drop"]).ok();
    assert_eq!(project.rows("select column_name from duckdb_columns() where table_name = 't'"), ["a \"b\"; drop", "list"]);
    assert_eq!(project.value("select list from t"), "[1, 2]");
}

#[test]
fn semicolons_in_text_and_comments_do_not_end_statements() {
    let project = Project::new();
    project.write(
        "jobs/load/many.sql",
        "create table t (s varchar); -- a; b\ninsert into t values ('x;''y'); /* ; */\ninsert into t values ($$;$$);;\n",
    );
    project.steps("\n  - id: many\n    sql: { file: many.sql }\n");
    let run = project.run("2026-01-05").ok();
    assert_eq!(project.rows("from t"), [";", "x;'y"]);
    let places: Vec<&str> =
        run.attempt("many")["statements"].as_array().expect("a list").iter().filter_map(|one| one["place"].as_str()).collect();
    assert_eq!(places, ["jobs/load/many.sql:1", "jobs/load/many.sql:2", "jobs/load/many.sql:3"]);
}

#[test]
fn counts_of_a_step_are_in_the_report_and_outputs_for_later_steps() {
    let project = Project::new();
    project.steps(
        "
  - id: build
    sql: { text: 'select * from range(7)', materialize: { table: t } }
  - id: note
    if: steps.build.outputs.rows_written > 0
    sql: { text: 'create or replace table n as select {{ steps.build.outputs.rows_written }} as n' }
",
    );
    let run = project.run("2026-01-05").ok();
    assert_eq!((run.counts("build"), run.step("build")["outputs"]["rows_written"].as_u64()), ([7, 7, 0, 0], Some(7)));
    assert_eq!(project.value("from n"), "7");
    assert_eq!(project.run("2026-01-05").ok().how("note"), "already_done", "the counts of work that was done before are known too");
}
