//! `schema_contract`: what becomes of columns that are not expected, and of columns that are missing.

use duckdb::Connection;
use e2e::project::{Project, Run};

/// A table `t` of one day with `id` and `name`; then a file in which one of two rows has an `extra`.
fn second_day(contract: &str, keys: &str) -> (Project, Run) {
    let project = Project::new();
    project.steps(&format!(
        "
  - id: load
    ingest:
      source: {{ files: {{ connection: lake, path: '{{{{ run.date }}}}.csv', format: csv }} }}
      target: {{ table: t }}
      mode: append
      schema_contract: {contract}
      {keys}
"
    ));
    project.write("data/2026-01-05.csv", "id,name\n1,a\n").write("data/2026-01-06.csv", "id,name,extra\n2,b,\n3,c,7\n");
    let _ = project.run("2026-01-05").ok();
    let run = project.run("2026-01-06");
    (project, run)
}

fn columns(project: &Project) -> Vec<String> {
    project.rows(
        "select column_name, data_type from duckdb_columns() where table_name = 't' and column_name not like '\\_errand%' escape '\\'",
    )
}

#[test]
fn types_are_inferred_and_stay_those_of_the_table() {
    let project = Project::new();
    project.steps("\n  - id: load\n    ingest: { source: { files: { connection: lake, path: '*.csv', format: csv } }, target: { table: t }, mode: append }\n");
    project.write("data/a.csv", "n,price,day,code,flag,text\n1,1.50,2026-01-05,007,true,x\n");
    let _ = project.run("2026-01-05").ok();
    let types = columns(&project);
    assert_eq!(types, ["code|VARCHAR", "day|DATE", "flag|BOOLEAN", "n|BIGINT", "price|DECIMAL(38,2)", "text|VARCHAR"], "{types:?}");
    project.write("data/b.csv", "n,price,day,code,flag,text\n2,2.25,2026-01-06,12,false,5\n");
    let _ = project.run("2026-01-06").ok();
    assert_eq!(columns(&project), types);
    assert_eq!(
        project.rows("select n, price, day, code, flag, text from t"),
        ["1|1.50|2026-01-05|007|true|x", "2|2.25|2026-01-06|12|false|5"]
    );
}

#[test]
fn freeze_fails_on_a_new_column() {
    let (project, run) = second_day("freeze", "");
    let run = run.expect_code(13);
    assert!(run.message().contains("`extra`"), "{}", run.message());
    assert_eq!(project.rows("select id, name from t"), ["1|a"]);
}

#[test]
fn evolve_adds_a_new_column_and_says_so() {
    let (project, run) = second_day("evolve", "");
    let run = run.ok();
    assert_eq!(project.rows("select id, name, extra from t"), ["1|a|NULL", "2|b|NULL", "3|c|7"]);
    assert_eq!(columns(&project), ["extra|BIGINT", "id|BIGINT", "name|VARCHAR"]);
    assert!(run.report()["warnings"][0].as_str().is_some_and(|text| text.contains("`extra`")), "{}", run.report()["warnings"]);
}

#[test]
fn discard_value_leaves_a_new_column_out() {
    let (project, run) = second_day("discard_value", "");
    assert_eq!(run.ok().counts("load"), [2, 2, 0, 0]);
    assert_eq!(project.rows("select id, name from t"), ["1|a", "2|b", "3|c"]);
    assert_eq!(columns(&project), ["id|BIGINT", "name|VARCHAR"]);
}

#[test]
fn quarantine_keeps_the_rows_with_a_new_value_apart() {
    let (project, run) = second_day("quarantine", "max_rejected: 1");
    assert_eq!(run.ok().counts("load"), [2, 1, 0, 1]);
    assert_eq!(project.rows("select id, name from t"), ["1|a", "2|b"]);
    assert_eq!(project.rows("select file, row, raw from t__rejected where error like '%`extra`%'"), ["2026-01-06.csv|2|3,c,7"]);
}

#[test]
fn discard_row_counts_the_rows_with_a_new_value_as_refused() {
    let (project, run) = second_day("discard_row", "max_rejected: 1");
    assert_eq!(run.ok().counts("load"), [2, 1, 0, 1]);
    assert_eq!(project.rows("select id, name from t"), ["1|a", "2|b"]);
}

#[test]
fn a_declared_column_that_is_missing_fails_when_it_may_not_be_null() {
    let project = Project::new();
    project.steps(
        "
  - id: load
    ingest:
      source: { files: { connection: lake, path: a.csv, format: csv } }
      target: { table: t }
      columns: [{ name: id, type: integer }, { name: price, type: 'decimal(10,2)', nullable: false }]
",
    );
    project.write("data/a.csv", "id\n1\n");
    let run = project.run("2026-01-05").expect_code(13);
    assert!(run.message().contains("`price`"), "{}", run.message());
    assert!(!project.tables().contains(&"t".to_owned()));
}

#[test]
fn declared_columns_are_renamed_and_typed() {
    let project = Project::new();
    project.steps(
        "
  - id: load
    ingest:
      source: { files: { connection: lake, path: a.csv, format: csv } }
      target: { table: t }
      columns:
        - { name: order_id, from: Order ID, type: text }
        - { name: amount, from: Amount, type: 'decimal(10,2)' }
        - { name: day, from: Day, type: date, format: '%d.%m.%Y' }
",
    );
    project.write("data/a.csv", "Day,Order ID,Amount\n05.01.2026,007,1234567.10\n");
    let _ = project.run("2026-01-05").ok();
    assert_eq!(project.rows("select order_id, amount, day from t"), ["007|1234567.10|2026-01-05"]);
}

#[test]
fn contracts_hold_for_parquet_too() {
    for (contract, code, extra) in [("freeze", 13, false), ("evolve", 0, true), ("discard_value", 0, false)] {
        let project = Project::new();
        let duckdb = Connection::open_in_memory().expect("a database in memory opens");
        for (day, columns) in [("2026-01-05", "1 AS id"), ("2026-01-06", "2 AS id, 'x' AS extra")] {
            let file = project.path(&format!("data/{day}.parquet"));
            duckdb.execute_batch(&format!("COPY (SELECT {columns}) TO '{}'", file.display())).expect("DuckDB writes files");
        }
        project.steps(&format!(
            "
  - id: load
    ingest:
      source: {{ files: {{ connection: lake, path: '{{{{ run.date }}}}.parquet', format: parquet }} }}
      target: {{ table: t }}
      mode: append
      schema_contract: {contract}
"
        ));
        let _ = project.run("2026-01-05").ok();
        let _ = project.run("2026-01-06").expect_code(code);
        assert_eq!(project.value("select count(*) from t"), if code == 0 { "2" } else { "1" }, "{contract}");
        assert_eq!(columns(&project).iter().any(|column| column.starts_with("extra")), extra, "{contract}");
    }
}
