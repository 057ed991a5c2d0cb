//! `ingest`: every format in every mode, the file ledger, accounting, metadata columns, empty sources.

use duckdb::Connection;
use e2e::project::{Project, sorted_rows};

/// Name of a format, the end of its files' names, how DuckDB writes it.
type Kind = (&'static str, &'static str, &'static str);

const CSV: [Kind; 3] =
    [("csv", "csv", "FORMAT csv"), ("csv", "csv.gz", "FORMAT csv, COMPRESSION gzip"), ("csv", "csv.zst", "FORMAT csv, COMPRESSION zstd")];
const JSON: [Kind; 4] = [
    ("jsonl", "jsonl", "FORMAT json"),
    ("jsonl", "jsonl.gz", "FORMAT json, COMPRESSION gzip"),
    ("jsonl", "jsonl.zst", "FORMAT json, COMPRESSION zstd"),
    ("json", "json", "FORMAT json, ARRAY true"),
];
const PARQUET: [Kind; 3] = [
    ("parquet", "plain.parquet", "FORMAT parquet, COMPRESSION uncompressed"),
    ("parquet", "zstd.parquet", "FORMAT parquet, COMPRESSION zstd"),
    ("parquet", "gz.parquet", "FORMAT parquet, COMPRESSION gzip"),
];

const MODES: [&str; 5] = ["append", "replace", "merge", "delete_insert", "scd2"];

fn table(end: &str, mode: &str) -> String {
    format!("{}_{mode}", end.replace('.', "_"))
}

/// Writes the rows as a file of each kind.
fn write_each(kinds: &[Kind], project: &Project, rows: &str) {
    let duckdb = Connection::open_in_memory().expect("a database in memory opens");
    for (_, end, options) in kinds {
        let file = project.path(&format!("data/rows.{end}"));
        let copy = format!("COPY (SELECT * FROM (VALUES {rows}) AS v(id, name)) TO '{}' ({options})", file.display());
        duckdb.execute_batch(&copy).expect("DuckDB writes files");
    }
}

/// A step for each kind and mode.
fn every_step(kinds: &[Kind]) -> String {
    let step = |format: &str, end: &str, mode: &str| {
        let name = table(end, mode);
        let key = if mode == "append" || mode == "replace" { "" } else { "\n      primary_key: [id]" };
        format!(
            "
  - id: {name}
    needs: []
    ingest:
      source: {{ files: {{ connection: lake, path: rows.{end}, format: {format} }} }}
      target: {{ table: {name} }}
      mode: {mode}{key}
      columns: [{{ name: id, type: integer }}, {{ name: name, type: text }}]
"
        )
    };
    kinds.iter().flat_map(|(format, end, _)| MODES.iter().map(move |mode| step(format, end, mode))).collect()
}

#[test]
fn csv_loads_in_every_mode_and_once_for_an_interval() {
    load_in_every_mode(&CSV);
}

#[test]
fn json_loads_in_every_mode_and_once_for_an_interval() {
    load_in_every_mode(&JSON);
}

#[test]
fn parquet_loads_in_every_mode_and_once_for_an_interval() {
    load_in_every_mode(&PARQUET);
}

fn load_in_every_mode(kinds: &[Kind]) {
    let project = Project::new();
    project.steps(&every_step(kinds));
    write_each(kinds, &project, "(1, 'a'), (2, 'b')");
    let _ = project.run("2026-01-05").ok();
    write_each(kinds, &project, "(2, 'B'), (3, 'c')");
    let second = project.run("2026-01-06").ok();
    let before = project.content();
    let again = project.run("2026-01-06").ok();
    assert_eq!(project.content(), before, "the same interval again writes nothing, also not to the ledger");
    let warehouse = project.warehouse();
    for (_, end, _) in kinds {
        for mode in MODES {
            let name = table(end, mode);
            let expected = match mode {
                "append" => vec!["1|a", "2|B", "2|b", "3|c"],
                "replace" => vec!["2|B", "3|c"],
                "scd2" => vec!["1|a|false", "2|B|true", "2|b|false", "3|c|true"],
                _ => vec!["1|a", "2|B", "3|c"],
            };
            let valid = if mode == "scd2" { ", _errand_valid_to is null" } else { "" };
            assert_eq!(sorted_rows(&warehouse, &format!("select id, name{valid} from {name}")), expected, "{name}");
            assert_eq!((second.counts(&name), second.how(&name)), ([2, 2, 0, 0], "succeeded"), "{name}");
            assert_eq!((again.counts(&name), again.how(&name)), ([2, 2, 0, 0], "already_done"), "{name}");
            let places = format!(
                "select distinct _errand_source, _errand_row, _errand_loaded_at is null from {name} where _errand_run_id = 'run-2'"
            );
            assert_eq!(sorted_rows(&warehouse, &places), [format!("rows.{end}|1|false"), format!("rows.{end}|2|false")], "{name}");
        }
    }
    assert_eq!(
        project.rows("select table_name from duckdb_tables() where table_name like '%\\_\\_%' escape '\\'"),
        [""; 0],
        "no staging table is left"
    );
}

/// A step that loads the CSV files of `in/` into `t`, with more keys.
fn load(keys: &str) -> String {
    format!(
        "
  - id: load
    ingest:
      source: {{ files: {{ connection: lake, path: in/*.csv, format: csv }} }}
      target: {{ table: t }}
      columns: [{{ name: id, type: integer }}, {{ name: name, type: text }}]
{keys}"
    )
}

/// Lines of [`load`]'s `keys`.
fn keys(keys: &[&str]) -> String {
    keys.iter().map(|key| format!("      {key}\n")).collect()
}

#[test]
fn append_loads_each_file_once_for_good() {
    let project = Project::new();
    project.steps(&load(&keys(&["mode: append"])));
    project.write("data/in/a.csv", "id,name\n1,a\n");
    let _ = project.run("2026-01-05").ok();
    project.write("data/in/b.csv", "id,name\n2,b\n3,c\n");
    let run = project.run("2026-01-06").ok();
    assert_eq!(project.rows("select id, name, _errand_source, _errand_row from t"), ["1|a|in/a.csv|1", "2|b|in/b.csv|1", "3|c|in/b.csv|2"]);
    assert_eq!(run.counts("load"), [2, 2, 0, 0]);
    let mut files: Vec<String> = run.attempt("load")["files"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|file| format!("{} {}", file["path"], file["already_loaded"]))
        .collect();
    files.sort();
    assert_eq!(files, ["\"in/a.csv\" true", "\"in/b.csv\" false"]);
    assert_eq!(project.rows("select path, rows_read, target from _errand.files"), ["lake:in/a.csv|1|main.t", "lake:in/b.csv|2|main.t"]);
}

#[test]
fn append_knows_a_file_by_path_and_content() {
    let project = Project::new();
    project.steps(&load(&keys(&["mode: append", "on_empty: ok"])));
    project.write("data/in/a.csv", "id,name\n1,a\n");
    let _ = project.run("2026-01-05").ok();
    let _ = project.run("2026-01-06").ok();
    assert_eq!(project.rows("select id, name from t"), ["1|a"], "unchanged: not read again");
    project.write("data/in/a.csv", "id,name\n1,z\n");
    let _ = project.run("2026-01-07").ok();
    project.write("data/in/b.csv", "id,name\n1,z\n");
    let _ = project.run("2026-01-08").ok();
    assert_eq!(project.rows("select id, name, _errand_source from t"), ["1|a|in/a.csv", "1|z|in/a.csv", "1|z|in/b.csv"]);
}

#[test]
fn files_that_were_loaded_before_are_told_from_none() {
    let project = Project::new();
    project.steps(&load(&keys(&["mode: append"])));
    let refused = |day: &str, expected: &str| {
        let run = project.run(day).fails(13, "ingest::empty");
        assert_eq!(run.message(), expected);
    };
    refused("2026-01-05", "no file to load matches `in/*.csv`");
    project.write("data/in/a.csv", "id,name\n1,a\n");
    let _ = project.run("2026-01-05").ok();
    refused("2026-01-06", "1 file matches `in/*.csv`, and it was loaded before");
    project.write("data/in/b.csv", "id,name\n2,b\n");
    let _ = project.run("2026-01-06").ok();
    refused("2026-01-07", "2 files match `in/*.csv`, and all were loaded before");
}

#[test]
fn a_second_append_of_an_interval_under_a_changed_definition_is_refused() {
    let project = Project::new();
    project.write("data/in/a.csv", "id,name\n1,a\n");
    project.steps(&load(&keys(&["mode: append"])));
    let _ = project.run("2026-01-05").ok();
    project.write("data/in/a.csv", "id,name\n2,b\n");
    project.steps(&load(&keys(&["mode: append", "max_rejected: 3"])));
    let _ = project.run("2026-01-05").fails(10, "ledger::second_append");
    assert_eq!(project.rows("select id from t"), ["1"]);
}

#[test]
fn no_file_is_a_failure_a_warning_or_nothing_as_the_step_says() {
    for (on_empty, code) in [("fail", 13), ("warn", 0), ("ok", 0)] {
        for mode in ["append", "replace"] {
            let project = Project::new();
            project.steps(&load(&keys(&[&format!("mode: {mode}"), &format!("on_empty: {on_empty}")])));
            let run = project.run("2026-01-05").expect_code(code);
            match on_empty {
                "fail" => assert_eq!(run.failure()["code"], "ingest::empty"),
                "warn" => assert!(run.report()["warnings"][0].as_str().is_some_and(|text| text.contains("in/*.csv")), "{}", run.report()),
                _ => assert_eq!(run.report().get("warnings"), None),
            }
            project.write("data/in/a.csv", "id,name\n1,a\n");
            let _ = project.run("2026-01-05").ok();
            assert_eq!(project.rows("select id from t"), ["1"], "{mode} {on_empty}: a file that comes later is loaded");
        }
    }
}

#[test]
fn no_rows_replace_a_full_table_only_when_that_is_ok() {
    for with_file in [false, true] {
        for (on_empty, code, left) in [("fail", 13, "1"), ("warn", 0, "1"), ("ok", 0, "0")] {
            let project = Project::new();
            project.steps(&load(&keys(&["mode: replace", &format!("on_empty: {on_empty}")])));
            project.write("data/in/a.csv", "id,name\n1,a\n");
            let _ = project.run("2026-01-05").ok();
            if with_file {
                project.write("data/in/a.csv", "id,name\n");
            } else {
                std::fs::remove_file(project.path("data/in/a.csv")).expect("it is there");
            }
            let _ = project.run("2026-01-06").expect_code(code);
            assert_eq!(project.value("select count(*) from t"), left, "{on_empty}, a file without rows: {with_file}");
            assert_eq!(
                project.rows(
                    "select column_name from duckdb_columns() where table_name = 't' and column_name not like '\\_errand%' escape '\\'"
                ),
                ["id", "name"]
            );
        }
    }
}

#[test]
fn merge_takes_the_newest_row_of_each_key_by_the_cursor() {
    let project = Project::new();
    let step = "
  - id: load
    ingest:
      source: { files: { connection: lake, path: in/*.csv, format: csv } }
      target: { table: t }
      mode: merge
      primary_key: [id]
      cursor: { column: at }
      columns: [{ name: id, type: integer }, { name: name, type: text }, { name: at, type: timestamp }]
";
    project.steps(step);
    project.write("data/in/a.csv", "id,name,at\n1,old,2026-01-01 00:00:00\n1,new,2026-01-03 00:00:00\n2,b,2026-01-01 00:00:00\n");
    project.write("data/in/b.csv", "id,name,at\n1,middle,2026-01-02 00:00:00\n2,b,2026-01-01 00:00:00\n3,none,\n");
    let run = project.run("2026-01-05").ok();
    assert_eq!(project.rows("select id, name from t"), ["1|new", "2|b", "3|none"]);
    assert_eq!(run.counts("load"), [6, 3, 3, 0]);

    project.write("data/in/b.csv", "id,name,at\n4,x,2026-01-02 00:00:00\n4,y,2026-01-02 00:00:00\n");
    let run = project.run("2026-01-06").fails(13, "publish::duplicate_key");
    assert!(run.message().contains("(id = 4) 2 times"), "{}", run.message());
    assert_eq!(project.rows("select id, name from t"), ["1|new", "2|b", "3|none"]);
}

#[test]
fn a_key_with_null_is_updated_and_never_doubled() {
    let project = Project::new();
    project.steps(&load(&keys(&["mode: merge", "primary_key: [id]"])));
    for (day, name) in [("2026-01-05", "a"), ("2026-01-06", "b")] {
        project.write("data/in/a.csv", format!("id,name\n,{name}\n1,x\n"));
        let _ = project.run(day).ok();
    }
    assert_eq!(project.rows("select id, name from t"), ["1|x", "NULL|b"]);
}

#[test]
fn metadata_columns_can_be_left_out() {
    let project = Project::new();
    project.steps(&load(&keys(&["metadata: false"])));
    project.write("data/in/a.csv", "id,name\n1,a\n");
    let _ = project.run("2026-01-05").ok();
    assert_eq!(project.rows("select * from t"), ["1|a"]);
    let parquet = Project::new();
    Connection::open_in_memory()
        .expect("a database in memory opens")
        .execute_batch(&format!("COPY (SELECT 1 AS id, 'a' AS name) TO '{}'", parquet.path("data/a.parquet").display()))
        .expect("DuckDB writes files");
    parquet.steps("\n  - id: load\n    ingest: { source: { files: { connection: lake, path: a.parquet, format: parquet } }, target: { table: t }, metadata: false }\n");
    let _ = parquet.run("2026-01-05").ok();
    assert_eq!(parquet.rows("select * from t"), ["1|a"]);
}

#[test]
fn the_report_accounts_for_every_file_and_row() {
    let project = Project::new();
    project.steps(&load(&keys(&["mode: merge", "primary_key: [id]", "max_rejected: 50%"])));
    project.write("data/in/a.csv", "id,name\n1,a\nx,b\n1,a\n");
    project.write("data/in/b.csv", "id,name\n2,c\n");
    let run = project.run("2026-01-05").ok();
    assert_eq!(run.counts("load"), [4, 2, 1, 1]);
    assert_eq!(run.step("load")["bytes_read"], 20 + 12);
    let files = run.attempt("load")["files"].as_array().expect("a list");
    let files: Vec<String> =
        files.iter().map(|file| format!("{} {} {}", file["path"], file["rows"]["read"], file["rows"]["rejected"])).collect();
    assert_eq!(files, ["\"in/a.csv\" 3 1", "\"in/b.csv\" 1 0"]);
    let ledger = "select step, target, rows_read, rows_written, rows_deduplicated, rows_rejected, run_id, attempt from _errand.ledger";
    assert_eq!(project.rows(ledger), ["load|main.t|4|2|1|1|run-1|1"]);
}

#[test]
fn a_failing_check_on_staged_rows_publishes_nothing() {
    let project = Project::new();
    project.steps(&load(&keys(&[
        "mode: append",
        "checks: [{ unique: [id], store_failures: true }, { expression: 'id > 0', severity: warn }]",
    ])));
    project.write("data/in/a.csv", "id,name\n1,a\n-2,b\n");
    let run = project.run("2026-01-05").ok();
    assert!(run.report()["warnings"][0].as_str().is_some_and(|text| text.contains("1 row breaks it")), "{}", run.report()["warnings"]);
    project.write("data/in/b.csv", "id,name\n3,a\n3,b\n");
    let run = project.run("2026-01-06").fails(12, "check::failed");
    assert_eq!(project.rows("select id from t"), ["-2", "1"]);
    assert_eq!(project.value("select count(*) from _errand.files"), "1");
    let stored = run.attempt("load")["checks"][0]["stored_in"].as_str().expect("rows are kept");
    assert_eq!(project.rows(&format!("from {stored}")), ["3|2"]);
    project.write("data/in/b.csv", "id,name\n3,a\n4,b\n");
    let _ = project.run("2026-01-06").ok();
    assert_eq!(project.rows("select id from t"), ["-2", "1", "3", "4"]);
}

#[test]
fn a_pattern_follows_the_interval_and_files_in_folders() {
    let project = Project::new();
    project.write("data/2026-01-05/x/a.csv", "id,name\n1,a\n").write("data/2026-01-06/b.csv", "id,name\n2,b\n");
    project.steps(&load(&keys(&["mode: append"])).replace("in/*.csv", "'{{ run.date }}/**/*.csv'"));
    let _ = project.run("2026-01-05").ok();
    let _ = project.run("2026-01-06").ok();
    assert_eq!(project.rows("select id, _errand_source from t"), ["1|2026-01-05/x/a.csv", "2|2026-01-06/b.csv"]);
}
