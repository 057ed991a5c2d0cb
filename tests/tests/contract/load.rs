//! Loads by the built `errand`: every mode, each row once, what is refused, and the ledger beside the data.

use errand_engine::clock::Clock;
use errand_model::value::ColumnType;

use super::site::{Place, Site};

const DAYS: [&str; 2] = ["2026-01-05", "2026-01-06"];

/// An ingest of the day's file, with a check that holds for as long as the table `gate` is empty.
fn ingest(mode: &str, keys: &str) -> String {
    format!(
        "
  - id: load
    ingest:
      source: {{ files: {{ connection: lake, path: '{{{{ run.date }}}}.csv', format: csv }} }}
      target: {{ table: t }}
      mode: {mode}
      columns: [{{ name: id, type: bigint, nullable: true }}, {{ name: name, type: text }}, {{ name: day, type: integer }}]
      {keys}
      checks: [{{ sql: {{ text: 'select a from gate where (select count(*) from t) > 0' }} }}]
"
    )
}

fn set_up(site: &Site, mode: &str, keys: &str) {
    site.project.steps(&ingest(mode, keys));
    site.project.write("data/2026-01-05.csv", "id,name,day\n1,a,5\n2,b,5\n3,c,4\n");
    site.project.write("data/2026-01-06.csv", "id,name,day\n2,B,5\n3,c,4\n4,d,6\n");
    site.execute("CREATE TABLE gate (a INTEGER)");
}

const ROWS: &str = "SELECT id, name, day FROM t ORDER BY id, name, day";
const LEDGER: &str = "SELECT count(*) FROM _errand.ledger";

/// Two days: the second fails first, and leaves everything as it was; then it is loaded; then it is done already.
async fn once_for_each_load(site: &Site, mode: &str, keys: &str, expected: &[&str]) {
    set_up(site, mode, keys);
    let _ = site.project.run(DAYS[0]).ok();
    let before = site.rows(ROWS);
    assert_eq!(before, ["1|a|5", "2|b|5", "3|c|4"]);
    site.execute("INSERT INTO gate VALUES (1)");
    let _ = site.project.run(DAYS[1]).expect_code(12);
    assert_eq!((site.rows(ROWS), site.value(LEDGER)), (before, "1".to_owned()));
    assert_eq!(site.tables(), ["gate", "t"]);
    site.execute("DELETE FROM gate");
    let run = site.project.run(DAYS[1]).ok();
    assert_eq!((run.how("load"), run.counts("load")), ("succeeded", [3, 3, 0, 0]));
    assert_eq!((site.rows(ROWS), site.value(LEDGER)), (expected.iter().map(|&row| row.to_owned()).collect(), "2".to_owned()));
    for day in DAYS {
        let run = site.project.run(day).ok();
        assert_eq!((run.how("load"), run.counts("load")), ("already_done", [3, 3, 0, 0]));
    }
    assert_eq!((site.rows(ROWS), site.value(LEDGER)), (expected.iter().map(|&row| row.to_owned()).collect(), "2".to_owned()));
    assert_eq!(site.tables(), ["gate", "t"], "nothing else is left");
}

pub(crate) async fn append_is_idempotent_for_one_load_id(site: &Site) {
    once_for_each_load(site, "append", "", &["1|a|5", "2|B|5", "2|b|5", "3|c|4", "3|c|4", "4|d|6"]).await;
}

pub(crate) async fn replace_is_idempotent_for_one_load_id(site: &Site) {
    once_for_each_load(site, "replace", "", &["2|B|5", "3|c|4", "4|d|6"]).await;
}

pub(crate) async fn merge_is_idempotent_for_one_load_id(site: &Site) {
    once_for_each_load(site, "merge", "primary_key: [id]", &["1|a|5", "2|B|5", "3|c|4", "4|d|6"]).await;
}

pub(crate) async fn delete_insert_is_idempotent_for_one_load_id(site: &Site) {
    once_for_each_load(site, "delete_insert", "primary_key: [id]", &["1|a|5", "2|B|5", "3|c|4", "4|d|6"]).await;
}

pub(crate) async fn scd2_is_idempotent_for_one_load_id(site: &Site) {
    once_for_each_load(site, "scd2", "primary_key: [id]", &["1|a|5", "2|B|5", "2|b|5", "3|c|4", "4|d|6"]).await;
    let valid = "SELECT id, name FROM t WHERE _errand_valid_to IS NULL ORDER BY id";
    assert_eq!(site.rows(valid), ["2|B", "3|c", "4|d"]);
    assert_eq!(site.value("SELECT count(*) FROM t WHERE _errand_valid_from < _errand_valid_to"), "2");
}

pub(crate) async fn rows_with_one_key_are_deduplicated_by_the_cursor(site: &Site) {
    set_up(site, "merge", "primary_key: [id]\n      cursor: { column: day }");
    site.project.write("data/2026-01-05.csv", "id,name,day\n1,old,4\n1,new,5\n2,same,5\n2,same,5\n");
    assert_eq!(site.project.run(DAYS[0]).ok().counts("load"), [4, 2, 2, 0]);
    assert_eq!(site.rows(ROWS), ["1|new|5", "2|same|5"]);
    site.project.write("data/2026-01-06.csv", "id,name,day\n1,one,5\n1,other,5\n");
    let run = site.project.run(DAYS[1]).fails(13, "publish::duplicate_key");
    assert!(run.message().contains("id = 1"), "{}", run.message());
    assert_eq!(site.rows(ROWS), ["1|new|5", "2|same|5"]);
}

/// A late load of an earlier day: what the table has is newer, as new, or without a value.
async fn late_load(site: &Site, mode: &str, expected: &[&str]) -> e2e::project::Run {
    set_up(site, mode, "primary_key: [id]\n      cursor: { column: day }");
    site.project.write("data/2026-01-06.csv", "id,name,day\n1,new,20\n2,same,20\n3,none,\n4,new,20\n5,none,\n");
    site.project.write("data/2026-01-05.csv", "id,name,day\n1,old,19\n2,again,20\n3,some,1\n4,none,\n5,still,\n6,added,1\n");
    let _ = site.project.run(DAYS[1]).ok();
    let run = site.project.run(DAYS[0]).ok();
    assert_eq!((run.how("load"), run.counts("load")), ("succeeded", [6, 4, 2, 0]));
    assert_eq!(site.rows(ROWS), expected);
    let again = site.project.run(DAYS[0]).ok();
    assert_eq!((again.how("load"), again.counts("load")), ("already_done", [6, 4, 2, 0]));
    assert_eq!(site.rows(ROWS), expected);
    run
}

pub(crate) async fn merge_leaves_out_rows_that_are_older_by_the_cursor(site: &Site) {
    let expected = ["1|new|20", "2|again|20", "3|some|1", "4|new|20", "5|still|NULL", "6|added|1"];
    let run = late_load(site, "merge", &expected).await;
    assert!(run.step("load")["warnings"].as_array().is_none_or(Vec::is_empty), "{}", run.step("load")["warnings"]);
}

pub(crate) async fn scd2_leaves_out_versions_that_are_older_by_the_cursor(site: &Site) {
    let closed = ["2|again|20", "2|same|20", "3|none|NULL", "3|some|1", "4|new|20", "5|none|NULL", "5|still|NULL", "6|added|1"];
    let run = late_load(site, "scd2", &[&["1|new|20"][..], &closed].concat()).await;
    let valid = "SELECT id, name FROM t WHERE _errand_valid_to IS NULL ORDER BY id";
    assert_eq!(site.rows(valid), ["1|new", "2|again", "3|some", "4|new", "5|still", "6|added"]);
    let warnings = run.step("load")["warnings"].to_string();
    assert!(warnings.contains("2 rows for `t` left out"), "{warnings}");
}

pub(crate) async fn a_key_that_is_null_is_a_key(site: &Site) {
    for (mode, name) in [("merge", "B"), ("delete_insert", "C")] {
        if mode == "merge" {
            set_up(site, mode, "primary_key: [id]");
        } else {
            site.project.steps(&ingest(mode, "primary_key: [id]"));
        }
        site.project.write("data/2026-01-05.csv", "id,name,day\n,a,5\n2,b,5\n");
        site.project.write("data/2026-01-06.csv", format!("id,name,day\n,{name},5\n"));
        for day in DAYS {
            let _ = site.project.run(day).ok();
        }
        assert_eq!(site.rows("SELECT name FROM t ORDER BY name"), [name, "b"]);
    }
}

/// A table with `id` and `name`; then a file in which one of two rows has an `extra`.
fn second_day(site: &Site, contract: &str, keys: &str) -> e2e::project::Run {
    site.project.steps(&format!(
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
    site.project.write("data/2026-01-05.csv", "id,name\n1,a\n").write("data/2026-01-06.csv", "id,name,extra\n2,b,\n3,c,7\n");
    let _ = site.project.run(DAYS[0]).ok();
    site.project.run(DAYS[1])
}

fn has_extra(site: &Site) -> bool {
    let sql = "SELECT count(*) FROM information_schema.columns WHERE lower(table_name) = 't' AND lower(column_name) = 'extra'";
    site.value(sql) == "1"
}

pub(crate) async fn evolve_adds_a_column(site: &Site) {
    let run = second_day(site, "evolve", "").ok();
    assert_eq!(run.counts("load"), [2, 2, 0, 0]);
    assert_eq!(site.rows("SELECT id, name, extra FROM t ORDER BY id"), ["1|a|NULL", "2|b|NULL", "3|c|7"]);
    assert!(run.report()["warnings"].to_string().contains("`extra`"), "{}", run.report()["warnings"]);
}

pub(crate) async fn freeze_refuses_a_column(site: &Site) {
    let run = second_day(site, "freeze", "").expect_code(13);
    assert!(run.message().contains("`extra`"), "{}", run.message());
    assert_eq!((site.rows("SELECT id, name FROM t"), has_extra(site)), (vec!["1|a".to_owned()], false));
}

pub(crate) async fn quarantine_keeps_rows_apart(site: &Site) {
    assert_eq!(second_day(site, "quarantine", "max_rejected: 1").ok().counts("load"), [2, 1, 0, 1]);
    assert_eq!(site.rows("SELECT id, name FROM t ORDER BY id"), ["1|a", "2|b"]);
    let kept = r#"SELECT "file", "row", "raw" FROM t__rejected"#;
    assert_eq!(site.rows(&names(site, kept)), ["2026-01-06.csv|2|3,c,7"]);
}

pub(crate) async fn discard_row_leaves_rows_out(site: &Site) {
    assert_eq!(second_day(site, "discard_row", "max_rejected: 1").ok().counts("load"), [2, 1, 0, 1]);
    assert_eq!((site.rows("SELECT id, name FROM t ORDER BY id"), has_extra(site)), (vec!["1|a".to_owned(), "2|b".to_owned()], false));
}

pub(crate) async fn discard_value_leaves_a_column_out(site: &Site) {
    assert_eq!(second_day(site, "discard_value", "").ok().counts("load"), [2, 2, 0, 0]);
    assert_eq!((site.rows("SELECT id, name FROM t ORDER BY id").len(), has_extra(site)), (3, false));
}

/// Quoted names as the warehouse keeps what Errand made.
fn names(site: &Site, sql: &str) -> String {
    match site.place {
        Place::Snowflake(_) => sql
            .split('"')
            .enumerate()
            .map(|(at, part)| if at % 2 == 1 { format!("\"{}\"", part.to_uppercase()) } else { part.to_owned() })
            .collect(),
        Place::Duckdb | Place::Postgres(_) | Place::Redshift(_) => sql.to_owned(),
    }
}

pub(crate) async fn refused_rows_are_kept_with_their_place(site: &Site) {
    set_up(site, "append", "max_rejected: 1");
    site.project.write("data/2026-01-05.csv", "id,name,day\n1,a,5\n2,it's a \\ and ü,x\n3,c,4\n");
    let run = site.project.run(DAYS[0]).ok();
    assert_eq!(run.counts("load"), [3, 2, 0, 1]);
    let kept = names(site, r#"SELECT "file", "row", "line", "column", "raw" FROM t__rejected"#);
    assert_eq!(site.rows(&kept), ["2026-01-05.csv|2|3|day|2,it's a \\ and ü,x"]);
    assert_eq!(site.rows(ROWS), ["1|a|5", "3|c|4"]);
    assert_eq!(site.project.run(DAYS[0]).ok().how("load"), "already_done");
    assert_eq!(site.rows(&kept).len(), 1);
}

pub(crate) async fn refused_rows_of_a_failed_load_are_kept(site: &Site) {
    set_up(site, "append", "max_rejected: 1");
    site.project.write("data/2026-01-05.csv", "id,name,day\n1,a,5\nx,it's \\,5\n3,c,y\n");
    let run = site.project.run(DAYS[0]).fails(13, "ingest::rejected");
    assert_eq!(run.place(), "2026-01-05.csv:3:1");
    assert_eq!(site.tables(), ["gate", "t__rejected"]);
    let kept = names(site, r#"SELECT "row", "raw" FROM t__rejected ORDER BY "row""#);
    assert_eq!(site.rows(&kept), ["2|x,it's \\,5", "3|3,c,y"]);
    site.project.write("data/2026-01-05.csv", "id,name,day\n1,a,5\n2,b,5\n3,c,y\n");
    assert_eq!(site.project.run(DAYS[0]).ok().counts("load"), [3, 2, 0, 1]);
    assert_eq!(site.rows(&kept), ["3|3,c,y"], "those of the attempt that failed are gone");
}

pub(crate) async fn a_failing_check_leaves_neither_data_nor_ledger(site: &Site) {
    set_up(site, "append", "");
    site.execute("INSERT INTO gate VALUES (1)");
    let run = site.project.run(DAYS[0]).expect_code(12);
    assert_eq!(run.failure()["kind"], "check_failed");
    assert_eq!(site.value(LEDGER), "0");
    assert_eq!(site.value("SELECT count(*) FROM _errand.files"), "0");
    // The empty table may have been made where definitions belong to no transaction.
    if site.capabilities().transactional_ddl {
        assert_eq!(site.tables(), ["gate"]);
    } else {
        assert_eq!(site.value("SELECT count(*) FROM t"), "0");
    }
}

pub(crate) async fn statements_commit_with_the_ledger_or_not_at_all(site: &Site) {
    site.execute("CREATE TABLE t (a INTEGER)");
    site.execute("CREATE TABLE gate (a INTEGER)");
    let text = "insert into t values (1); insert into t select 2; insert into t select a from nowhere";
    site.project.steps(&format!("\n  - id: s\n    sql: {{ text: '{text}' }}\n"));
    let _ = site.project.run(DAYS[0]).fails(17, "warehouse::missing_object");
    assert_eq!((site.value("SELECT count(*) FROM t"), site.value(LEDGER)), ("0".to_owned(), "0".to_owned()));
    site.project.steps(
        "\n  - id: s\n    sql: { text: \"insert into t values (1);\\ninsert into t select 2; -- ; '\\ninsert into t values (3), (4)\" }\n",
    );
    let run = site.project.run(DAYS[0]).ok();
    assert_eq!((run.how("s"), run.counts("s")[1]), ("succeeded", 4));
    assert_eq!(site.project.run(DAYS[0]).ok().how("s"), "already_done");
    assert_eq!((site.value("SELECT count(*) FROM t"), site.value(LEDGER)), ("4".to_owned(), "1".to_owned()));
}

pub(crate) async fn a_failure_in_sql_names_file_and_line(site: &Site) {
    site.project.write(
        "jobs/load/build.sql",
        "-- the first line\nselect 1 as a;\n\nselect 1 as a\nfrom (select 2 as b) as x\nwhere where b = 2;\n",
    );
    site.project.steps("\n  - id: s\n    sql: { file: build.sql }\n");
    let run = site.project.run(DAYS[0]).fails(10, "warehouse::syntax");
    assert!(run.place().starts_with("jobs/load/build.sql:6:"), "{}: {}", run.place(), run.message());
}

pub(crate) async fn a_table_is_materialized_from_a_select(site: &Site) {
    for (mode, rows) in [("replace", vec!["1|a", "2|b"]), ("append", vec!["1|a", "1|a", "2|b", "2|b"])] {
        let keys = format!("materialize: {{ table: by_{mode}, mode: {mode} }}");
        site.project.steps(&format!("\n  - id: s\n    sql: {{ text: \"select 1 as id, 'a' as name union all select 2, 'b'\", {keys} }}\n"));
        assert_eq!(site.project.run(DAYS[0]).ok().counts("s"), [2, 2, 0, 0]);
        let found = format!("SELECT id, name FROM by_{mode} ORDER BY id");
        assert_eq!(site.rows(&found), ["1|a", "2|b"]);
        assert_eq!(site.project.run(DAYS[0]).ok().how("s"), "already_done");
        assert_eq!(site.project.run(DAYS[1]).ok().how("s"), "succeeded");
        assert_eq!(site.rows(&found), rows);
    }
    assert_eq!(site.tables(), ["by_append", "by_replace"]);
}

pub(crate) async fn rows_are_exported(site: &Site) {
    site.execute("CREATE TABLE t (id INTEGER, name VARCHAR(20))");
    site.execute("INSERT INTO t VALUES (1, 'a'), (2, 'b, \"c\"'), (3, NULL), (4, '')");
    let export = "export: { query: 'select id, name from t order by id', format: csv, to: { connection: lake, path: out.csv } }";
    site.project.steps(&format!("\n  - id: out\n    {export}\n"));
    assert_eq!(site.project.run(DAYS[0]).ok().counts("out"), [4, 4, 0, 0]);
    let written = std::fs::read_to_string(site.project.path("data/out.csv")).expect("it is there");
    assert_eq!(written.to_lowercase(), "id,name\n1,a\n2,\"b, \"\"c\"\"\"\n3,\n4,\"\"\n");
    assert_eq!(site.project.run(DAYS[0]).ok().how("out"), "already_done");
}

/// A moment that is ten hours old is that also where the clock on the wall is fourteen hours ahead.
pub(crate) async fn freshness_compares_instants(site: &Site) {
    let kind = (site.capabilities().type_name)(ColumnType::Timestamptz);
    site.execute(&format!("CREATE TABLE t (seen {kind})"));
    let wall = Clock::system().now() + jiff::SignedDuration::from_hours(14 - 10);
    site.execute(&format!("INSERT INTO t VALUES ('{}+14:00')", wall.strftime("%Y-%m-%d %H:%M:%S")));
    let fresh = |max_age: &str| {
        let expect = format!("[{{ freshness: {{ column: seen, max_age: {max_age} }} }}]");
        site.project.steps(&format!("\n  - id: s\n    check: {{ query: select seen from t, expect: {expect} }}\n"));
        site.project.run(DAYS[0])
    };
    let _ = fresh("12h").ok();
    let _ = fresh("1h").fails(12, "check::failed");
}
