//! `export`: every format, whole files only, once for an interval, never outside of the connection.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use duckdb::Connection;
use e2e::condition::wait_for;
use e2e::project::{Project, text_rows};

const TABLE: &str = "
  - id: table
    sql: { text: \"create or replace table t as select * from (values (1, 'a', date '2026-01-05'), (2, 'b, \\\"c\\\"', null)) as v(id, name, day)\" }
";

fn export(subject: &str, format: &str, path: &str) -> String {
    format!("{TABLE}\n  - id: out\n    export: {{ {subject}, format: {format}, to: {{ connection: lake, path: '{path}' }} }}\n")
}

/// Every file below a directory, hidden ones too.
fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).expect("a directory").map(|entry| entry.expect("an entry").path());
    let mut files: Vec<PathBuf> = entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect();
    files.sort();
    files
}

#[test]
fn a_table_becomes_a_file_of_every_format() {
    let project = Project::new();
    let duckdb = Connection::open_in_memory().expect("a database in memory opens");
    for (format, scan) in [("csv", "read_csv"), ("jsonl", "read_json"), ("parquet", "read_parquet")] {
        project.steps(&export("table: t", format, &format!("out/{{{{ run.date }}}}/t.{format}")));
        let run = project.run("2026-01-05").ok();
        let file = project.path(&format!("data/out/2026-01-05/t.{format}"));
        assert_eq!(text_rows(&duckdb, &format!("from {scan}('{}')", file.display())), ["1|a|2026-01-05", "2|b, \"c\"|NULL"], "{format}");
        assert_eq!(run.counts("out"), [2, 2, 0, 0], "{format}");
        assert_eq!(run.step("out")["bytes_written"], fs::metadata(&file).expect("it is there").len(), "{format}");
        assert_eq!(run.step("out")["outputs"]["path"], format!("out/2026-01-05/t.{format}"));
    }
    let csv = fs::read_to_string(project.path("data/out/2026-01-05/t.csv")).expect("text");
    assert_eq!(csv, "id,name,day\n1,a,2026-01-05\n2,\"b, \"\"c\"\"\",\n");
    let jsonl = fs::read_to_string(project.path("data/out/2026-01-05/t.jsonl")).expect("text");
    assert_eq!(jsonl.lines().next(), Some("{\"id\":1,\"name\":\"a\",\"day\":\"2026-01-05\"}"));
}

#[test]
fn a_query_becomes_a_file() {
    let project = Project::new();
    project.steps(&export("query: 'select name from t where id = 1 order by id -- the first'", "csv", "out.csv"));
    let _ = project.run("2026-01-05").ok();
    assert_eq!(fs::read_to_string(project.path("data/out.csv")).expect("text"), "name\na\n");
    project.write("jobs/load/out.sql", "select id\nfrom t\nwhere day is null;\n").steps(&export("file: out.sql", "csv", "out.csv"));
    let _ = project.run("2026-01-05").ok();
    assert_eq!(fs::read_to_string(project.path("data/out.csv")).expect("text"), "id\n2\n", "a changed definition writes again");
}

#[test]
fn the_same_interval_writes_no_second_time_unless_the_file_is_gone() {
    let project = Project::new();
    project.steps(&export("table: t", "csv", "out.csv"));
    let _ = project.run("2026-01-05").ok();
    let file = project.path("data/out.csv");
    let identity = || fs::metadata(&file).map(|metadata| (metadata.ino(), metadata.mtime_nsec())).expect("it is there");
    let (before, content) = (identity(), project.content());
    assert_eq!(project.run("2026-01-05").ok().how("out"), "already_done");
    assert_eq!((identity(), project.content()), (before, content));
    fs::remove_file(&file).expect("it is there");
    assert_eq!(project.run("2026-01-05").ok().how("out"), "succeeded");
    assert!(file.is_file());
    assert_eq!(project.value("select count(*) from _errand.ledger where step = 'out'"), "1");
}

#[test]
fn a_later_step_reads_the_path_also_when_the_file_was_written_before() {
    let project = Project::new();
    let send = "\n  - id: send\n    command: { run: [/bin/sh, -c, 'echo \"$1\" >> sent', send, '{{ steps.out.outputs.path }}'] }\n";
    project.steps(&(export("table: t", "csv", "out/{{ run.date }}.csv") + send));
    let _ = project.run("2026-01-05").ok();
    assert_eq!(project.run("2026-01-05").ok().how("out"), "already_done");
    assert_eq!(fs::read_to_string(project.path("jobs/load/sent")).expect("it ran"), "out/2026-01-05.csv\n".repeat(2));
}

#[test]
fn a_failure_half_way_leaves_no_file_and_the_old_one_as_it_was() {
    let project = Project::new();
    let broken = "query: \"select case when range = 900000 then error('half way') else range end as n from range(1000000)\"";
    project.steps(&export(broken, "csv", "out.csv"));
    let run = project.run("2026-01-05").expect_code(17);
    assert!(run.message().contains("half way"), "{}", run.message());
    assert_eq!(files(&project.path("data")), [""; 0].map(PathBuf::from));

    project.write("data/out.csv", "old");
    let _ = project.run("2026-01-06").expect_code(17);
    assert_eq!(fs::read_to_string(project.path("data/out.csv")).expect("text"), "old");
    assert_eq!(files(&project.path("data")).len(), 1);
}

#[test]
fn a_path_out_of_the_connection_is_refused() {
    let project = Project::new();
    project.job("inputs: { path: { type: string } }", &export("table: t", "csv", "{{ inputs.path }}"));
    for path in ["../out.csv", "a/../../out.csv", "/tmp/errand-must-not-write.csv", "", "a/", "./out.csv"] {
        let run = project.run_with(&["--interval", "2026-01-05", "--input", &format!("path={path}")]).fails(10, "export::bad_path");
        assert!(run.message().contains(&format!("`{path}`")), "{}", run.message());
    }
    assert_eq!(files(&project.path("data")).len(), 0);
    assert!(!project.path("out.csv").exists() && !Path::new("/tmp/errand-must-not-write.csv").exists());
}

/// A query that takes minutes.
const SLOW: &str = "query: \"select count(*) as n from range(100000000) as a, range(100000) as b where a.range <> b.range\"";

#[test]
fn what_a_killed_run_left_half_written_is_removed_by_the_next() {
    let project = Project::new();
    project.steps(&export(SLOW, "csv", "out.csv"));
    let (mut running, _) = project.spawn(&["--interval", "2026-01-05"]);
    let partial = wait_for("the file that is not whole", Duration::from_secs(60), || files(&project.path("data")).pop());
    running.kill();
    let _ = running.wait();
    assert_eq!(files(&project.path("data")), std::slice::from_ref(&partial), "nobody could remove it");
    let name = partial.file_name().unwrap_or_default().to_string_lossy().into_owned();
    assert!(name.starts_with(".out.csv.") && name.ends_with(".partial"), "{name}");
    project.steps(&export("table: t", "csv", "out.csv"));
    let _ = project.run("2026-01-05").ok();
    assert_eq!(files(&project.path("data")), [project.path("data/out.csv")]);
}

#[test]
fn what_another_runner_still_writes_is_left_alone() {
    let project = Project::new();
    let other = project.path("data/.out.csv.aaaaaa.partial");
    project
        .write("data/.out.csv.aaaaaa.partial", "1")
        .write("data/.out.csv.bbbbbb.partial", "1")
        .write("data/.new.csv.cccccc.partial", "1");
    let held = fs::File::open(&other).expect("it is there");
    held.lock().expect("nobody else holds it");
    project.steps(&export("table: t", "csv", "out.csv"));
    let _ = project.run("2026-01-05").ok();
    let left = ["data/.new.csv.cccccc.partial", "data/.out.csv.aaaaaa.partial", "data/out.csv"];
    assert_eq!(files(&project.path("data")), left.map(|path| project.path(path)), "one is of another file, and one is locked");
    drop(held);
    let _ = project.run("2026-01-06").ok();
    assert_eq!(files(&project.path("data")).len(), 2, "whoever held it is gone");
}

/// Each writes a file of its own: the last one to end names its file, which holds its rows alone. That the paths are one, only the run shows.
#[test]
fn two_exports_to_one_path_at_once_leave_one_of_the_two() {
    let project = Project::new();
    let step = |id: &str| {
        let query = format!("select '{id}' as who, range as n from range(200000) order by n");
        let to = format!("{{ connection: lake, path: '{{{{ inputs.{id} }}}}' }}");
        format!("\n  - id: {id}\n    needs: []\n    export: {{ query: \"{query}\", format: csv, to: {to} }}\n")
    };
    let inputs = ["a", "b", "c"].map(|id| format!("{id}: {{ type: string, default: out.csv }}")).join(", ");
    project.job(&format!("inputs: {{ {inputs} }}"), &["a", "b", "c"].map(step).concat());
    let _ = project.run("2026-01-05").ok();
    assert_eq!(files(&project.path("data")), [project.path("data/out.csv")]);
    let text = fs::read_to_string(project.path("data/out.csv")).expect("text");
    let who = text.lines().nth(1).and_then(|line| line.split(',').next()).unwrap_or_default();
    let whole = (0..200_000).map(|n| format!("{who},{n}\n")).collect::<String>();
    assert!(text.strip_prefix("who,n\n") == Some(whole.as_str()), "rows of more than one, or not all");
}

/// Types that only DuckDB has, beside one that it writes to JSON otherwise than it is.
#[test]
fn json_lines_hold_every_type_and_all_rows_in_order() {
    let project = Project::new();
    let values = "{'a': 1} as s, [date '2026-01-05'] as l, 12345678901234567890123456789::hugeint as h, null::uuid as u, 0.1::float as f";
    let query = format!("select n, n / 4 as q, {values} from range(300000) as r(n) order by n");
    project.steps(&format!(
        "\n  - id: out\n    export: {{ query: \"{query}\", format: jsonl, to: {{ connection: lake, path: out.jsonl }} }}\n"
    ));
    assert_eq!(project.run("2026-01-05").ok().counts("out"), [300_000, 300_000, 0, 0]);
    let text = fs::read_to_string(project.path("data/out.jsonl")).expect("text");
    let rest = "\"s\":{\"a\":1},\"l\":[\"2026-01-05\"],\"h\":12345678901234567890123456789,\"u\":null,\"f\":0.10000000149011612}";
    for (n, line) in text.lines().enumerate() {
        let quarter = ["0", "25", "5", "75"][n % 4];
        assert_eq!(line, format!("{{\"n\":{n},\"q\":{}.{quarter},{rest}", n / 4));
    }
    assert_eq!(text.lines().count(), 300_000);
}

#[test]
fn a_number_that_json_has_not_is_refused_where_it_cannot_be_spelled() {
    let project = Project::new();
    project.steps(&export("query: \"select [1.5, 'nan'::double] as l from t\"", "jsonl", "out.jsonl"));
    let run = project.run("2026-01-05").fails(17, "output::json");
    assert!(run.message().contains("column `l`"), "{}", run.message());
    assert_eq!(files(&project.path("data")).len(), 0);
}
