//! Files that go into Snowflake whole, in place or as parts of text: what is loaded is what parsing each row loads, or the rows are parsed.
//!
//! Here a stand-in answers, whose stage reads a bucket of the test's own. Under `no-rights/` it may not read; what lies under `changing/` is
//! written anew as soon as it was copied.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use e2e::project::Run;
use e2e::{s3, services};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

use super::site::Site;

const DAY: &str = "2026-01-05";
/// Columns of text, and all that a row says of itself.
const ROWS: &str = "SELECT a, b, _errand_source, _errand_row FROM t ORDER BY _errand_source, _errand_row";
const TEXTS: &str = "columns: [{ name: a, type: text }, { name: b, type: text }]";
/// Quotes, delimiters and line ends in quotes, the empty text and NULL, letters beyond ASCII, spaces that stay.
const CSV: &str = "a,b\r\n1,\"x, \"\"y\"\"\"\n\"two\nlines\",\n\"\", ü \n3\"4,last";

/// A site whose stage reads `staged/` of a bucket: the connection `near` lies below it, `far` does not.
struct Lake<'a> {
    site: &'a Site,
    bucket: s3::Bucket,
}

impl<'a> Lake<'a> {
    fn new(site: &'a Site) -> Self {
        let bucket = s3::Bucket::create();
        site.execute(&format!("CREATE STAGE LAKE_STAGE URL = 's3://{}/staged/'", bucket.name()));
        let place = |prefix: &str| {
            let s3 = json!({ "bucket": bucket.name(), "prefix": prefix, "region": services::s3_region(), "endpoint": bucket.endpoint() });
            json!({ "s3": s3 })
        };
        let file = site.project.path("errand.yaml");
        let project = fs::read_to_string(file).expect("the project file is there");
        let staging = format!("      staging: {}\n      near: {}\n      far: {}", place("staged/"), place("staged/near/"), place("far/"));
        let lines = project.lines().map(|line| if line.starts_with("      staging:") { staging.clone() } else { line.to_owned() });
        let project = lines.collect::<Vec<_>>().join("\n").replace("ERRAND_STAGE", "LAKE_STAGE");
        site.project.write("errand.yaml", project + "\n");
        Self { site, bucket }
    }

    /// The step `load`: files of a connection into `t`.
    fn step(&self, connection: &str, files: &str, keys: &str) -> &Self {
        self.site.project.steps(&format!(
            "
  - id: load
    ingest:
      source: {{ files: {{ connection: {connection}, {files} }} }}
      target: {{ table: t }}
      {keys}
"
        ));
        self
    }

    fn put(&self, key: &str, content: impl AsRef<[u8]>) -> &Self {
        self.bucket.put(key, content);
        self
    }

    fn run(&self) -> Run {
        self.site.project.run(DAY)
    }

    /// What parsing each row loads of the same files, in a table of its own name; a step that allows refused rows is never loaded whole.
    fn parsed(&self, connection: &str, files: &str, keys: &str) -> Vec<String> {
        self.site.execute("DROP TABLE IF EXISTS t");
        self.step(connection, files, &format!("{keys}\n      mode: replace\n      max_rejected: 1"));
        let run = self.run().ok();
        assert_eq!(way(&run), "row by row");
        self.site.rows(ROWS)
    }
}

/// Which way the rows of a run went.
#[track_caller]
fn way(run: &Run) -> &'static str {
    let statements = run.attempt("load")["statements"].as_array().expect("statements").clone();
    let texts: Vec<&str> = statements.iter().filter_map(|statement| statement["text"].as_str()).collect();
    let has = |part: &str| texts.iter().any(|text| text.contains(part));
    match () {
        () if has("append to") => "row by row",
        () if has("as parts of text") => "parts",
        () if has("in place") => "in place",
        () => panic!("no way: {texts:#?}"),
    }
}

fn warnings(run: &Run) -> Vec<String> {
    let warnings = run.step("load")["warnings"].as_array().cloned().unwrap_or_default();
    warnings.iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn files(run: &Run) -> Vec<(String, u64)> {
    let files = run.attempt("load")["files"].as_array().expect("files").clone();
    let told = |file: &Value| (file["path"].as_str().unwrap_or_default().to_owned(), file["rows"]["read"].as_u64().unwrap_or_default());
    files.iter().map(told).collect()
}

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text.as_bytes()).and_then(|()| encoder.finish()).expect("memory takes all")
}

pub(crate) async fn text_is_loaded_in_place(site: &Site) {
    let lake = Lake::new(site);
    lake.put("staged/near/x.csv", CSV).step("near", "path: '*.csv', format: csv", TEXTS);
    let run = lake.run().ok();
    assert_eq!((way(&run), run.counts("load")), ("in place", [4, 4, 0, 0]), "{}", run.everything());
    let rows = ["1|x, \"y\"|x.csv|1", "two\nlines|NULL|x.csv|2", "| ü |x.csv|3", "3\"4|last|x.csv|4"];
    assert_eq!(site.rows(ROWS), rows);
    assert_eq!(site.value("SELECT count(*) FROM t WHERE _errand_run_id = 'run-1' AND _errand_loaded_at > '2026-01-01'"), "4");
    assert_eq!((files(&run), run.step("load")["bytes_read"].as_u64()), (vec![("x.csv".to_owned(), 4)], Some(0)));
    assert_eq!(site.tables(), ["t"], "nothing else is left");
    assert_eq!(lake.parsed("near", "path: '*.csv', format: csv", TEXTS), rows);
}

pub(crate) async fn parquet_is_loaded_in_place(site: &Site) {
    let lake = Lake::new(site);
    let local = site.project.path("local.parquet");
    parquet(
        &local,
        "SELECT 9007199254740993 AS id, 12.30::DECIMAL(12,2) AS amount, 'ü ''q''' AS name, TIMESTAMP '2026-01-05 06:00:00.000001' AS moment, \
         DATE '1999-12-31' AS day, TRUE AS yes, 0.1::DOUBLE AS part UNION ALL SELECT NULL, NULL, '', NULL, NULL, NULL, NULL",
    );
    lake.put("staged/near/deep/x.parquet", fs::read(&local).expect("the file is there"));
    lake.step("near", "path: '**/*.parquet', format: parquet", "");
    let run = lake.run().ok();
    assert_eq!((way(&run), run.counts("load")), ("in place", [2, 2, 0, 0]), "{}", run.everything());
    let query = "SELECT id, amount, name, moment, day, yes, part, _errand_source, _errand_row FROM t ORDER BY _errand_row";
    let rows = site.rows(query);
    assert!(rows[0].starts_with("9007199254740993|12.30|ü 'q'|") && rows[0].contains("06:00:00.000001"), "{rows:?}");
    assert!(rows[0].ends_with("|deep/x.parquet|1") && rows[1].ends_with("|deep/x.parquet|2"), "{rows:?}");
    site.execute("DROP TABLE t");
    lake.step("near", "path: '**/*.parquet', format: parquet", "max_rejected: 1\n      mode: replace");
    let parsed = lake.run().ok();
    assert_eq!((way(&parsed), site.rows(query)), ("row by row", rows));
}

/// Writes the rows of a query of DuckDB.
fn parquet(file: &Path, query: &str) {
    let database = duckdb::Connection::open_in_memory().expect("DuckDB opens");
    database.execute_batch(&format!("COPY ({query}) TO '{}' (FORMAT parquet)", file.display())).expect("the file is written");
}

pub(crate) async fn parquet_of_other_types_is_parsed(site: &Site) {
    let lake = Lake::new(site);
    let local = site.project.path("local.parquet");
    parquet(&local, "SELECT 7::BIGINT AS a, 'x' AS b");
    lake.put("staged/near/x.parquet", fs::read(&local).expect("the file is there"));
    lake.step("near", "path: '*.parquet', format: parquet", TEXTS);
    let run = lake.run().ok();
    assert_eq!((way(&run), site.rows(ROWS)), ("row by row", vec!["7|x|x.parquet|1".to_owned()]));
}

pub(crate) async fn files_with_other_headers_and_gzip_are_loaded_in_place(site: &Site) {
    let lake = Lake::new(site);
    lake.put("staged/near/1.csv", "a,b\n1,x\n")
        .put("staged/near/2.csv", "B,A\ny,2\n")
        .put("staged/near/3.csv.gz", gzip("a,b\n3,\"z\"\n"))
        .put("staged/near/4.csv", "a\n")
        .put("staged/near/5.csv", "")
        .put("staged/near/sub/1.csv", "\u{feff}a,b\r\n5,\r\n6,v\r\n");
    lake.step("near", "path: '**/*.csv*', format: csv", TEXTS);
    let run = lake.run().ok();
    assert_eq!((way(&run), run.counts("load")), ("in place", [5, 5, 0, 0]), "{}", run.everything());
    let rows = ["1|x|1.csv|1", "2|y|2.csv|1", "3|z|3.csv.gz|1", "5|NULL|sub/1.csv|1", "6|v|sub/1.csv|2"];
    assert_eq!(site.rows(ROWS), rows);
    let counts: Vec<u64> = files(&run).iter().map(|(_, rows)| *rows).collect();
    assert_eq!(counts, [1, 1, 1, 0, 0, 2]);
    assert_eq!(lake.parsed("near", "path: '**/*.csv*', format: csv", TEXTS), rows);
}

pub(crate) async fn a_bad_number_of_fields_names_file_and_row(site: &Site) {
    let lake = Lake::new(site);
    for connection in ["staged/near", "far"] {
        lake.put(&format!("{connection}/1.csv"), "a,b\n1,x\n").put(&format!("{connection}/2.csv"), "a,b\n2,y\n3,z,\n4,w\n");
    }
    for connection in ["near", "far"] {
        lake.step(connection, "path: '*.csv', format: csv", TEXTS);
        let run = lake.run().fails(13, "ingest::rejected");
        assert_eq!((way(&run), run.place().as_str()), ("row by row", "2.csv:3:5"), "{}", run.everything());
        assert!(run.message().starts_with("row 2: expected 2 fields, found 3"), "{}", run.message());
        assert!(warnings(&run).iter().any(|warning| warning.contains("another way was taken")), "{:?}", warnings(&run));
        assert_eq!(site.rows("SELECT file, \"ROW\", line FROM t__rejected"), ["2.csv|2|3"]);
        site.execute("DROP TABLE t__rejected");
    }
    assert_eq!((site.tables(), site.value("SELECT count(*) FROM _errand.ledger")), (Vec::new(), "0".to_owned()));
}

pub(crate) async fn too_few_fields_and_returns_within_lines_are_parsed(site: &Site) {
    let lake = Lake::new(site);
    lake.step("near", "path: '*.csv', format: csv", TEXTS);
    // A query inside of COPY gives NULL for a field that is not there; CR alone ends a record.
    for (content, code) in [("a,b\n1,x\n2\n", 13), ("a,b\n1,x\r2,y\n", 0), ("a,b\n1,\"x\ry\"\n", 0), ("a,b\r1,x\r2,y\r", 0)] {
        lake.put("staged/near/x.csv", content);
        let run = lake.run().expect_code(code);
        assert_eq!(way(&run), if content.ends_with('\r') { "parts" } else { "row by row" }, "{content:?}: {}", run.everything());
        site.execute("DROP TABLE IF EXISTS t");
        site.execute("DELETE FROM _errand.ledger");
        site.execute("DELETE FROM _errand.files");
    }
}

pub(crate) async fn text_elsewhere_goes_as_parts(site: &Site) {
    let lake = Lake::new(site);
    let latin = "a;b;\r1;\u{e4};\r\r2;\"x;\ny\";\r".chars().map(|c| u8::try_from(c).expect("a letter of Latin-1")).collect::<Vec<u8>>();
    lake.put("far/1.csv.gz", gzip("a;b;\n0;plain;\n")).put("far/2.csv", latin).put("far/3.csv", "b;a;\nz;3;\n");
    let files = "path: '*', format: csv, delimiter: ';', encoding: latin-1, trailing_delimiter: true";
    lake.step("far", files, TEXTS);
    let run = lake.run().ok();
    assert_eq!((way(&run), run.counts("load")), ("parts", [4, 4, 0, 0]), "{}", run.everything());
    let rows = ["0|plain|1.csv.gz|1", "1|ä|2.csv|1", "2|x;\ny|2.csv|2", "3|z|3.csv|1"];
    assert_eq!(site.rows(ROWS), rows);
    assert_eq!(site.value("SELECT count(*) FROM t WHERE _errand_run_id = 'run-1'"), "4");
    assert_eq!(lake.bucket.keys("staged/"), [""; 0], "what was staged is gone");
    assert_eq!(lake.parsed("far", files, TEXTS), rows);
}

pub(crate) async fn the_same_rows_come_on_every_way(site: &Site) {
    let lake = Lake::new(site);
    lake.put("staged/near/x.csv", CSV).put("far/x.csv", CSV);
    for metadata in [true, false] {
        let query = if metadata { ROWS } else { "SELECT a, b FROM t ORDER BY a, b" };
        let mut loaded = Vec::new();
        for (connection, more, expected) in [("near", "", "in place"), ("far", "", "parts"), ("near", "max_rejected: 1", "row by row")] {
            site.execute("DROP TABLE IF EXISTS t");
            lake.step(
                connection,
                "path: x.csv, format: csv",
                &format!("{TEXTS}\n      mode: replace\n      metadata: {metadata}\n      {more}"),
            );
            let run = lake.run().ok();
            assert_eq!((way(&run), run.counts("load")), (expected, [4, 4, 0, 0]), "{}", run.everything());
            loaded.push(site.rows(query));
        }
        assert_eq!(loaded[0], loaded[1]);
        assert_eq!(loaded[0], loaded[2]);
    }
}

pub(crate) async fn what_snowflake_reads_otherwise_is_parsed(site: &Site) {
    let lake = Lake::new(site);
    lake.put("staged/near/x.csv", "a,b\n\\N,\"\\N\"\n");
    let cases = [
        ("path: x.csv, format: csv, null_values: ['\\N']", TEXTS),
        ("path: x.csv, format: csv, escape: '\\'", TEXTS),
        ("path: x.csv, format: csv", "columns: [{ name: a, type: text }]\n      schema_contract: discard_value"),
    ];
    for (files, keys) in cases {
        site.execute("DROP TABLE IF EXISTS t");
        lake.step("near", files, &format!("{keys}\n      mode: replace"));
        let run = lake.run().ok();
        assert_eq!((way(&run), warnings(&run).len()), ("row by row", 0), "{}", run.everything());
    }
}

pub(crate) async fn a_file_in_place_is_loaded_once(site: &Site) {
    let lake = Lake::new(site);
    lake.put("staged/near/1.csv", "a,b\n1,x\n").step("near", "path: '*.csv', format: csv", &format!("{TEXTS}\n      on_empty: ok"));
    assert_eq!(way(&lake.run().ok()), "in place");
    assert_eq!(lake.run().ok().how("load"), "already_done");
    lake.put("staged/near/2.csv", "a,b\n2,y\n");
    let next = site.project.run("2026-01-06").ok();
    assert_eq!((way(&next), next.counts("load")), ("in place", [1, 1, 0, 0]));
    assert_eq!(site.rows(ROWS), ["1|x|1.csv|1", "2|y|2.csv|1"]);
    // As long, and other content or the same: nobody knows without having read both.
    lake.put("staged/near/1.csv", "a,b\n9,x\n");
    let run = site.project.run("2026-01-07").fails(13, "ingest::unknown_content");
    assert!(run.message().contains("`1.csv` was loaded before"), "{}", run.message());
    lake.put("staged/near/1.csv", "a,b\n9,longer\n");
    assert_eq!(site.project.run("2026-01-07").ok().counts("load"), [1, 1, 0, 0]);
    assert_eq!(site.value("SELECT count(*) FROM t"), "3");
}

pub(crate) async fn a_file_that_changes_meanwhile_fails_the_step(site: &Site) {
    let lake = Lake::new(site);
    lake.put("staged/near/changing/x.csv", "a,b\n1,x\n").step("near", "path: '**/*.csv', format: csv", TEXTS);
    let run = lake.run().fails(14, "source::changed");
    assert!(run.message().contains("`changing/x.csv` changed"), "{}", run.message());
    assert_eq!((site.tables(), site.value("SELECT count(*) FROM _errand.ledger")), (Vec::new(), "0".to_owned()));
}

pub(crate) async fn without_rights_on_the_files_they_are_carried(site: &Site) {
    let lake = Lake::new(site);
    lake.put("staged/near/no-rights/x.csv", "a,b\n1,x\n").step("near", "path: '**/*.csv', format: csv", TEXTS);
    let run = lake.run().ok();
    assert_eq!((way(&run), run.counts("load")), ("parts", [1, 1, 0, 0]), "{}", run.everything());
    assert!(warnings(&run).iter().any(|warning| warning.contains("AccessDenied")), "{:?}", warnings(&run));
    assert_eq!(site.rows(ROWS), ["1|x|no-rights/x.csv|1"]);
}
