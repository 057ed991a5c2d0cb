//! `export`: a query reads, and its file holds what it read.

use std::fs;

use super::site::{Place, Site};

fn step(query: &str, format: &str) -> String {
    format!("\n  - id: out\n    export: {{ query: \"{query}\", format: {format}, to: {{ connection: lake, path: out.{format} }} }}\n")
}

pub(crate) async fn a_query_that_writes_is_not_exported(site: &Site) {
    site.execute("CREATE TABLE t (id INTEGER)");
    site.execute("INSERT INTO t VALUES (1), (2)");
    let mut queries = vec![
        "delete from t where id = 1 returning *",
        "insert into t values (3) returning id",
        "update t set id = 4",
        "/* tidy up */ drop table t",
    ];
    if matches!(site.place, Place::Duckdb | Place::Postgres(_)) {
        queries.push("with gone as (delete from t returning *) select * from gone");
    }
    for query in queries {
        site.project.steps(&step(query, "csv"));
        let run = site.project.run("2026-01-05").fails(10, "export::writes");
        assert!(run.message().contains("an export reads, and"), "{query}: {}", run.message());
        assert!(run.failure()["help"].as_str().is_some_and(|help| help.contains("kind `sql`")), "{query}: {}", run.failure());
        assert_eq!(site.rows("SELECT id FROM t ORDER BY id"), ["1", "2"], "{query}");
        assert!(!site.project.path("data/out.csv").exists(), "{query}");
    }
    site.project.steps(&step("with all_of_it as (select * from t) select id from all_of_it order by id", "csv"));
    let _ = site.project.run("2026-01-05").ok();
    assert_eq!(fs::read_to_string(site.project.path("data/out.csv")).expect("it is there").to_lowercase(), "id\n1\n2\n");
}

/// Digits inside of JSON, and doubles that are no finite numbers, as a source reads them.
pub(crate) async fn numbers_are_exported_as_they_are(site: &Site) {
    let query = "select id, cast('[12345678901234567890.123456789]' as json) as j, cast(d as float8) as d \
                 from (values (1, 'NaN'), (2, 'Infinity'), (3, '-Infinity'), (4, '1.5'), (5, null)) as v(id, d) order by id";
    let json = "[12345678901234567890.123456789]";
    for (format, values, line) in [
        ("csv", ["NaN", "Infinity", "-Infinity", "1.5", ""], "ID,JSON,VALUE"),
        ("jsonl", ["\"NaN\"", "\"Infinity\"", "\"-Infinity\"", "1.5", "null"], "{\"id\":ID,\"j\":JSON,\"d\":VALUE}"),
    ] {
        site.project.steps(&step(query, format));
        assert_eq!(site.project.run("2026-01-05").ok().counts("out"), [5, 5, 0, 0], "{format}");
        let line =
            |(at, value): (usize, &&str)| line.replace("ID", &(at + 1).to_string()).replace("JSON", json).replace("VALUE", value) + "\n";
        let header = if format == "csv" { "id,j,d\n" } else { "" };
        let expected = header.to_owned() + &values.iter().enumerate().map(line).collect::<String>();
        assert_eq!(fs::read_to_string(site.project.path(&format!("data/out.{format}"))).expect("it is there"), expected, "{format}");
    }
}
