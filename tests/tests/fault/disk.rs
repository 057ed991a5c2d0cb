//! Disks that are full: a limit on the size of files stands in, which writes meet as they meet the end of a disk.

use e2e::errand::Errand;
use e2e::postgres::Database;
use e2e::s3::Bucket;

use super::s3::{connection, with_keys};
use super::{Scene, postgres};

const EXPORT: &str = "
  - id: out
    export: { query: \"select i as id, md5(i::text) as text from generate_series(1, 50000) as s(i)\", format: csv, to: { connection: lake, path: t.csv } }
";

/// The scratch file of an upload does not fit.
#[test]
fn scratch_space_that_is_full() {
    let (database, bucket) = (Database::create(), Bucket::create());
    let (warehouse, password) = postgres::warehouse(&database);
    let connections = warehouse + &connection("lake", bucket.name(), bucket.endpoint());
    let errand = || with_keys().env("ERRAND_SECRET_POSTGRES", &password);
    let small = Scene::new(errand().file_limit(1 << 20), &connections);
    let directory = small.project.path("scratch");
    std::fs::create_dir(&directory).expect("made");
    small.project.steps(EXPORT);
    let run = small.run();
    small.says(
        &run,
        "\
17 Errand.Permanent output::file
error jobs/load/job.yaml:8: cannot write `/tmp/.tmpLOT/t.csv`: File too large (os error 27)  step=out attempt=1 code=output::file
help: a file may not grow so large here: raise the limit of the process (`ulimit -f`), or use a file system that takes larger files; files for a bucket are made in the temporary directory first, and `TMPDIR` names another
",
    );
    assert_eq!(bucket.keys(""), [""; 0], "nothing half written");
    let large = Scene::new(errand(), &connections);
    large.project.steps(EXPORT);
    large.run().ok();
    assert_eq!(String::from_utf8_lossy(&bucket.get("t.csv")).lines().count(), 50_001);
}

/// The file itself does not fit into its directory.
#[test]
fn a_directory_that_is_full() {
    let database = Database::create();
    let (warehouse, password) = postgres::warehouse(&database);
    let connections = warehouse + "      lake: { directory: { path: data } }\n";
    let errand = || Errand::new().env("ERRAND_SECRET_POSTGRES", &password);
    let small = Scene::new(errand().file_limit(1 << 20), &connections);
    small.project.steps(EXPORT);
    let directory = small.project.path("").display().to_string();
    let small = small.hiding(directory.trim_end_matches('/'), "PROJECT");
    let run = small.run();
    small.says(
        &run,
        "\
17 Errand.Permanent output::file
error jobs/load/job.yaml:8: cannot write `PROJECT/data/.t.csv.LOT.partial`: File too large (os error 27)  step=out attempt=1 code=output::file
help: a file may not grow so large here: raise the limit of the process (`ulimit -f`), or use a file system that takes larger files
",
    );
    let left: Vec<_> = std::fs::read_dir(small.project.path("data")).expect("it is there").collect();
    assert!(left.is_empty(), "{left:?}");
}

/// The database file of the embedded warehouse cannot grow; what was there before stays as it was.
#[test]
fn a_database_file_that_cannot_grow() {
    let scene = Scene::new(Errand::new().file_limit(8 << 20), "      warehouse: { duckdb: { path: state/warehouse.duckdb } }\n");
    scene.project.steps("\n  - id: one\n    sql: { text: \"create or replace table t as select 42 as n\" }\n");
    scene.run().ok();
    scene
        .project
        .steps("\n  - id: two\n    sql: { text: \"create or replace table t as select md5(i::text) as n from range(2000000) r(i)\" }\n");
    let directory = scene.project.path("").display().to_string();
    let scene = scene.hiding(directory.trim_end_matches('/'), "PROJECT");
    let run = scene.run();
    scene.says(&run, "\
17 Errand.Permanent warehouse::disk_full
error jobs/load/job.yaml:8: IO Error: Could not write file \"PROJECT/state/warehouse.duckdb\": File too large  step=two attempt=1 code=warehouse::disk_full
help: a file may not grow so large here: raise the limit of the process (`ulimit -f`), or use a file system that takes larger files
");
    assert_eq!(scene.project.value("select n from t"), "42");
}

/// The embedded warehouse writes the file by itself, and says the same of it.
#[test]
fn a_directory_that_is_full_for_the_embedded_warehouse() {
    let connections = "      warehouse: { duckdb: { path: state/warehouse.duckdb } }\n      lake: { directory: { path: data } }\n";
    let scene = Scene::new(Errand::new().file_limit(1 << 20), connections);
    scene.project.steps(&EXPORT.replace("generate_series(1, 50000) as s(i)", "range(50000) as s(i)"));
    let directory = scene.project.path("").display().to_string();
    let scene = scene.hiding(directory.trim_end_matches('/'), "PROJECT");
    let run = scene.run();
    scene.says(&run, "\
17 Errand.Permanent warehouse::disk_full
error jobs/load/job.yaml:8: IO Error: Could not write file \"PROJECT/data/.t.csv.LOT.partial\": File too large  step=out attempt=1 code=warehouse::disk_full
help: a file may not grow so large here: raise the limit of the process (`ulimit -f`), or use a file system that takes larger files
");
    let left: Vec<_> = std::fs::read_dir(scene.project.path("data")).expect("it is there").collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn no_place_for_scratch_files() {
    let (database, bucket) = (Database::create(), Bucket::create());
    let (warehouse, password) = postgres::warehouse(&database);
    let connections = warehouse + &connection("lake", bucket.name(), bucket.endpoint());
    let scene = Scene::new(with_keys().env("ERRAND_SECRET_POSTGRES", &password).env("TMPDIR", "/nowhere"), &connections);
    scene.project.steps(EXPORT);
    let run = scene.run().fails(17, "export::file");
    // The name of a scratch directory is drawn by lot.
    let said = scene.told(&run.outcome.stderr);
    assert!(
        said.starts_with("error cannot make a scratch directory for `t.csv`: No such file or directory (os error 2) at path \"/nowhere/"),
        "{said}"
    );
    assert!(said.ends_with("\nhelp: check free space and permissions\n"), "{said}");
}
