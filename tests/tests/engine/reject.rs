//! Rows that cannot be loaded: counted, bounded by `max_rejected`, kept with reason and place.

use duckdb::Connection;
use e2e::project::Project;

const REJECTED: &str = "select file, row, line, byte_offset, \"column\", error, raw from t__rejected";

fn load(format: &str, file: &str, keys: &str) -> String {
    format!(
        "
  - id: load
    ingest:
      source: {{ files: {{ connection: lake, path: {file}, format: {format} }} }}
      target: {{ table: t }}
      mode: append
      columns: [{{ name: id, type: integer }}, {{ name: name, type: text, nullable: false }}]
      {keys}
"
    )
}

#[test]
fn a_bad_value_fails_the_step_with_its_place_and_is_kept() {
    let project = Project::new();
    project.steps(&load("csv", "a.csv", ""));
    project.write("data/a.csv", "id,name\n1,a\n2,\"two\nlines\"\nx,b\n4,\n");
    let run = project.run("2026-01-05").fails(13, "ingest::rejected");
    assert_eq!(run.place(), "a.csv:5:1");
    assert!(run.message().contains("row 3: column `id`") && run.message().contains("`x`"), "{}", run.message());
    assert_eq!(run.counts("load")[3], 2, "{:#}", run.step("load"));
    let rejected = project.rows(REJECTED);
    assert!(rejected[0].starts_with("a.csv|3|5|26|id|") && rejected[0].ends_with("|x,b"), "{rejected:?}");
    assert!(rejected[1].starts_with("a.csv|4|6|30|name|") && rejected[1].ends_with("|4,"), "{rejected:?}");
    assert_eq!(project.tables(), ["t__rejected"], "nothing is published");
    assert_eq!(project.value("select count(*) from _errand.ledger"), "0");

    project.write("data/a.csv", "id,name\n1,a\n");
    let _ = project.run("2026-01-05").ok();
    assert_eq!(project.rows("select id, name from t"), ["1|a"]);
}

#[test]
fn a_failed_load_tried_again_keeps_its_refused_rows_once() {
    let project = Project::new();
    project.steps(&load("csv", "a.csv", ""));
    project.write("data/a.csv", "id,name\nx,a\ny,b\n");
    for _ in 0..2 {
        let _ = project.run("2026-01-05").fails(13, "ingest::rejected");
        assert!(matches!(project.value("select count(*) from t__rejected").as_str(), "1" | "2"));
    }
}

#[test]
fn max_rejected_is_a_count_or_a_share() {
    // Four rows, two of them bad.
    for (limit, code) in [("0", 13), ("1", 13), ("2", 0), ("3", 0), ("49%", 13), ("50%", 0), ("100%", 0)] {
        let project = Project::new();
        project.steps(&load("csv", "a.csv", &format!("max_rejected: {limit}")));
        project.write("data/a.csv", "id,name\n1,a\nx,b\n3,c\ny,d\n");
        let run = project.run("2026-01-05").expect_code(code);
        if code == 0 {
            assert_eq!(run.counts("load"), [4, 2, 0, 2], "{limit}");
            assert_eq!(project.rows("select id, name from t"), ["1|a", "3|c"], "{limit}");
            assert_eq!(project.rows("select row, raw from t__rejected"), ["2|x,b", "4|y,d"], "{limit}");
            assert!(run.report()["warnings"][0].as_str().is_some_and(|text| text.contains("t__rejected")), "{limit}");
            assert_eq!(project.run("2026-01-05").ok().how("load"), "already_done");
            assert_eq!(project.value("select count(*) from t__rejected"), "2", "{limit}");
        } else {
            assert_eq!(project.tables(), ["t__rejected"], "{limit}");
        }
    }
}

#[test]
fn lines_of_json_are_refused_one_by_one() {
    let project = Project::new();
    project.steps(&load("jsonl", "a.jsonl", "max_rejected: 3"));
    project.write(
        "data/a.jsonl",
        "{\"id\":1,\"name\":\"a\"}\n{\"id\":\"x\",\"name\":\"b\"}\n{\"id\":3,\n{\"id\":4}\n{\"id\":5,\"name\":\"e\"}\n",
    );
    let run = project.run("2026-01-05").ok();
    assert_eq!(run.counts("load"), [5, 2, 0, 3]);
    assert_eq!(project.rows("select id, name, _errand_row from t"), ["1|a|1", "5|e|5"]);
    let rejected = project.rows(REJECTED);
    assert!(rejected[0].starts_with("a.jsonl|2|2|20|id|") && rejected[0].ends_with("{\"id\":\"x\",\"name\":\"b\"}"), "{rejected:?}");
    assert!(rejected[1].starts_with("a.jsonl|3|3|42|"), "{rejected:?}");
    assert!(rejected[2].starts_with("a.jsonl|4|4|51|name|"), "{rejected:?}");
}

#[test]
fn parquet_is_refused_where_a_declared_type_cannot_hold_it() {
    let project = Project::new();
    let file = project.path("data/a.parquet");
    let rows = "(1::bigint, 'a'), (3000000000, 'b'), (3, null)";
    let copy = format!("COPY (SELECT * FROM (VALUES {rows}) AS v(id, name)) TO '{}'", file.display());
    Connection::open_in_memory().expect("a database in memory opens").execute_batch(&copy).expect("DuckDB writes files");
    project.steps(&load("parquet", "a.parquet", "max_rejected: 2"));
    let run = project.run("2026-01-05").ok();
    assert_eq!(run.counts("load"), [3, 1, 0, 2]);
    let rejected = project.rows(REJECTED);
    assert!(rejected[0].starts_with("a.parquet|2|0|0|id|") && rejected[0].contains("3000000000"), "{rejected:?}");
    assert!(rejected[1].starts_with("a.parquet|3|0|0|name|"), "{rejected:?}");

    std::fs::rename(&file, project.path("data/b.parquet")).expect("it is there");
    project.steps(&load("parquet", "b.parquet", ""));
    let run = project.run("2026-01-06").fails(13, "ingest::rejected");
    assert!(run.message().contains("row 2: column `id`"), "{}", run.message());
}

#[test]
fn a_file_that_is_not_what_it_should_be_is_named() {
    let project = Project::new();
    for (format, file, content) in [
        ("parquet", "a.parquet", &b"no parquet at all"[..]),
        ("csv", "a.csv.gz", &b"no gzip at all"[..]),
        ("csv", "a.csv.zst", &b"no zstandard at all"[..]),
        ("csv", "a.csv", &b"id,name\n1,\"never closed\n2,b\n"[..]),
        ("csv", "b.csv", &b"id,name\n1,caf\xe9\n"[..]),
        ("json", "a.json", &b"[{\"id\":1,\"name\":\"a\"}"[..]),
    ] {
        project.write(&format!("data/{file}"), content).steps(&load(format, file, ""));
        let run = project.run("2026-01-05").expect_code(13);
        let said = format!("{} {}", run.place(), run.message());
        assert!(said.contains(file), "{file}: {said}");
        assert!(!project.tables().contains(&"t".to_owned()), "{file}");
    }
}

#[test]
fn a_truncated_gzip_file_is_refused_whole() {
    let project = Project::new();
    let file = project.path("data/a.csv.gz");
    let copy = format!(
        "COPY (SELECT range AS id, 'x' || hash(range) AS name FROM range(20000)) TO '{}' (FORMAT csv, COMPRESSION gzip)",
        file.display()
    );
    Connection::open_in_memory().expect("a database in memory opens").execute_batch(&copy).expect("DuckDB writes files");
    let whole = std::fs::read(&file).expect("it was written");
    project.write("data/a.csv.gz", &whole[..whole.len() / 2]).steps(&load("csv", "a.csv.gz", "max_rejected: 100%"));
    let run = project.run("2026-01-05").expect_code(13);
    assert!(run.message().contains("a.csv.gz") || run.place().contains("a.csv.gz"), "{}", run.message());
    assert!(!project.tables().contains(&"t".to_owned()));
    project.write("data/a.csv.gz", &whole);
    assert_eq!(project.run("2026-01-05").ok().counts("load"), [20000, 20000, 0, 0]);
}
