//! What would lose, double or change rows without a failure, were it not looked for.

use e2e::project::Project;

const PROJECT: &str = "
version: 1
default_environment: local
environments:
  local:
    connections:
      warehouse: { duckdb: { path: state/warehouse.duckdb } }
      twin: { duckdb: { path: ./elsewhere/../state/warehouse.duckdb } }
      lake: { directory: { path: data } }
      lake2: { directory: { path: data2 } }
contacts:
  team: { email: { to: [me@example.com] } }
";

fn ingest(path: &str, table: &str, keys: &str) -> String {
    format!(
        "
  - id: load
    ingest:
      source: {{ files: {{ connection: lake, path: '{path}', format: csv }} }}
      target: {{ table: {table} }}
      {keys}
"
    )
}

#[test]
fn two_names_for_one_database_file_share_it() {
    let project = Project::new();
    project.write("errand.yaml", PROJECT);
    let step = |id: &str, connection: &str| {
        format!("\n  - id: {id}\n    sql: {{ connection: {connection}, text: 'select 1 as a', materialize: {{ table: {id} }} }}\n")
    };
    project.steps(&[step("t1", "warehouse"), step("t2", "twin"), step("t3", "warehouse")].concat());
    let _ = project.run("2026-01-05").ok();
    assert_eq!(project.rows("select (select a from t1), (select a from t2), (select a from t3)"), ["1|1|1"]);
    assert_eq!(project.value("select count(*) from _errand.ledger"), "3");
}

#[test]
fn a_parquet_file_whose_name_is_a_pattern_is_read_itself() {
    let project = Project::new();
    std::fs::create_dir_all(project.path("data/x/k=9")).expect("a folder");
    let warehouse = duckdb::Connection::open_in_memory().expect("a database");
    for (file, rows, value) in [("a1", 3, 1), ("a[1]", 5, 2)] {
        let path = project.path(&format!("data/x/k=9/{file}.parquet"));
        let sql = format!("copy (select {value} as v, 7 as k from range({rows})) to '{}' (format parquet)", path.display());
        warehouse.execute_batch(&sql).expect("written");
    }
    project.steps("\n  - id: load\n    ingest: { source: { files: { connection: lake, path: 'x/*/*.parquet', format: parquet } }, target: { table: t }, mode: replace }\n");
    let _ = project.run("2026-01-05").ok();
    assert_eq!(
        project.rows("select v, k, count(*), any_value(_errand_source) from t group by v, k"),
        ["1|7|3|x/k=9/a1.parquet", "2|7|5|x/k=9/a[1].parquet"]
    );
}

#[test]
fn a_bad_row_behind_many_that_a_contract_refuses_still_fails_the_step() {
    let project = Project::new();
    project.steps(&ingest("*.csv", "t", "mode: append\n      schema_contract: quarantine\n      columns: [{ name: a, type: bigint }]"));
    let unexpected = "1,x\n".repeat(15_000);
    project.write("data/a.csv", format!("a,b\n{}{unexpected}bad,\n{unexpected}{}", "1,\n".repeat(8192), "1,\n".repeat(50_000)));
    let run = project.run("2026-01-05").fails(13, "ingest::rejected");
    assert!(run.message().contains("`bad`"), "{}", run.message());
    assert_eq!(project.value("select count(*) from duckdb_tables() where table_name = 't'"), "0");
}

#[test]
fn a_transaction_that_statements_leave_open_is_a_failure() {
    let project = Project::new();
    project.steps("\n  - id: s\n    sql: { transaction: false, text: 'create table t (a int); begin; insert into t values (1)' }\n");
    let _ = project.run("2026-01-05").fails(10, "sql::open_transaction");
    assert_eq!(project.value("select count(*) from t"), "0");
    project.steps("\n  - id: s\n    sql: { text: \"create table u (a int); \\u00a0commit; insert into u values (1)\" }\n");
    let _ = project.run("2026-01-05").fails(10, "sql::transaction");
    assert_eq!(project.value("select count(*) from duckdb_tables() where table_name = 'u'"), "0");
}

#[test]
fn a_value_that_the_type_of_the_table_would_round_is_refused() {
    let project = Project::new();
    let load = |kind: &str| ingest("{{ run.date }}.csv", "t", &format!("mode: append\n      columns: [{{ name: a, type: {kind} }}]"));
    project.steps(&load("integer"));
    project.write("data/2026-01-05.csv", "a\n1\n").write("data/2026-01-06.csv", "a\n1.5\n").write("data/2026-01-07.csv", "a\n3\n");
    let _ = project.run("2026-01-05").ok();
    project.steps(&load("double"));
    let run = project.run("2026-01-06").fails(13, "publish::narrowed");
    assert!(run.message().contains("`1.5`"), "{}", run.message());
    let _ = project.run("2026-01-07").ok();
    assert_eq!(project.rows("select a from t"), ["1", "3"]);
}

#[test]
fn columns_called_like_aliases_do_not_confuse_keys() {
    let project = Project::new();
    project.steps("\n  - id: s\n    sql:\n      text: \"select 1 as id, {'id': 99} as s, {'id': 98} as t\"\n      materialize: { table: v, mode: scd2, primary_key: [id] }\n");
    let _ = project.run("2026-01-05").ok();
    let _ = project.run("2026-01-06").ok();
    assert_eq!(project.value("select count(*) from v"), "1");
}

#[test]
fn an_empty_result_does_not_close_every_version() {
    let project = Project::new();
    project.steps("\n  - id: s\n    sql:\n      text: \"select 1 as id where {{ run.date }} = '2026-01-05'\"\n      materialize: { table: v, mode: scd2, primary_key: [id] }\n");
    let _ = project.run("2026-01-05").ok();
    let _ = project.run("2026-01-06").fails(12, "sql::empty_replace");
    assert_eq!(project.value("select count(*) from v where _errand_valid_to is null"), "1");
}

#[test]
fn replace_and_append_in_turn_lose_and_double_no_file() {
    let project = Project::new();
    project.write("data/1.csv", "a\n1\n");
    project.steps(&ingest("*.csv", "t", "mode: append"));
    let _ = project.run("2026-01-05").ok();
    std::fs::remove_file(project.path("data/1.csv")).expect("it is there");
    project.write("data/2.csv", "a\n2\n");
    project.steps(&ingest("*.csv", "t", "mode: replace"));
    let _ = project.run("2026-01-06").ok();
    project.write("data/1.csv", "a\n1\n");
    project.steps(&ingest("*.csv", "t", "mode: append"));
    let _ = project.run("2026-01-07").ok();
    assert_eq!(project.rows("select a from t order by a"), ["1", "2"]);
}

#[test]
fn one_table_has_one_name_whatever_its_spelling() {
    let project = Project::new();
    project.write("data/1.csv", "a\n1\n");
    for (table, code) in [("t", 0), ("main.t", 10), ("T", 10)] {
        project.steps(&ingest("*.csv", table, "mode: append\n      on_empty: ok"));
        let _ = project.run("2026-01-05").expect_code(code);
    }
    project.steps(&ingest("*.csv", "main.T", "mode: append\n      on_empty: ok"));
    let _ = project.run("2026-01-06").ok();
    assert_eq!(project.rows("select a from t"), ["1"]);
}

#[test]
fn the_same_path_under_two_connections_is_two_files() {
    let project = Project::new();
    project.write("errand.yaml", PROJECT).write("data/1.csv", "a\n1\n").write("data2/1.csv", "a\n1\n");
    let second = ingest("*.csv", "t", "mode: append").replace("id: load", "id: more").replace("connection: lake,", "connection: lake2,");
    project.steps(&format!("{}{second}", ingest("*.csv", "t", "mode: append")));
    let _ = project.run("2026-01-05").ok();
    assert_eq!(project.value("select count(*) from t"), "2");
}

#[test]
fn refused_rows_of_a_failed_attempt_are_not_kept_twice() {
    let project = Project::new();
    project.steps(&ingest("*.csv", "t", "mode: replace\n      max_rejected: 1\n      columns: [{ name: a, type: bigint }]"));
    project.write("data/1.csv", "a\n1\nx\ny\n");
    let _ = project.run("2026-01-05").fails(13, "ingest::rejected");
    assert_eq!(project.value("select count(*) from t__rejected"), "2");
    project.write("data/1.csv", "a\n1\nx\n2\n");
    let _ = project.run("2026-01-05").ok();
    assert_eq!(project.rows("select \"row\", raw from t__rejected"), ["2|x"]);
}

#[test]
fn files_cannot_bring_the_columns_that_errand_writes() {
    let project = Project::new();
    project.write("data/1.csv", "a,_errand_run_id\n1,old\n");
    project.steps(&ingest("*.csv", "t", "mode: replace"));
    let _ = project.run("2026-01-05").fails(13, "ingest::reserved_column");
}

#[test]
fn an_unknown_key_column_fails_at_once() {
    let project = Project::new();
    project.steps("\n  - id: s\n    sql: { text: 'select 1 as id', materialize: { table: v, mode: delete_insert, partition: day } }\n");
    let _ = project.run("2026-01-05").fails(10, "publish::unknown_column");
}

#[test]
fn nothing_to_infer_columns_from_is_an_empty_source() {
    for (format, content) in [("csv", ""), ("json", "[]"), ("jsonl", "")] {
        let project = Project::new();
        let load = |on_empty: &str| {
            ingest("*.x", "t", &format!("mode: replace\n      on_empty: {on_empty}")).replace("format: csv", &format!("format: {format}"))
        };
        project.write("data/1.x", content);
        project.steps(&load("fail"));
        let _ = project.run("2026-01-05").fails(13, "ingest::empty");
        project.steps(&load("ok"));
        let _ = project.run("2026-01-05").ok();
    }
    let project = Project::new();
    project.write("data/1.x", "{\"a\":\"\\u0000\"}\n");
    project.steps(&ingest("*.x", "t", "mode: replace").replace("format: csv", "format: jsonl"));
    let run = project.run("2026-01-05").fails(13, "ingest::rejected");
    assert!(run.place().starts_with("1.x:1"), "{}", run.place());
}

#[test]
fn a_warehouse_error_with_lines_of_its_own_is_told() {
    let project = Project::new();
    project.steps("\n  - id: s\n    sql: { text: \"select error('x' || chr(10) || 'LINE 1: abc' || chr(10) || '^')\" }\n");
    let run = project.run("2026-01-05");
    assert_eq!(run.report()["failure"]["kind"], "permanent", "{}", run.everything());
}
