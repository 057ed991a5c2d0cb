//! Disks that are full: a limit on the size of files stands in, which writes meet as they meet the end of a disk.

use e2e::errand::Errand;
use e2e::postgres::Database;
use e2e::s3::Bucket;

use super::Scene;
use super::s3::{connection, with_keys};

const EXPORT: &str = "
  - id: out
    export: { query: \"select i as id, md5(i::text) as text from generate_series(1, 50000) as s(i)\", format: csv, to: { connection: lake, path: t.csv } }
";

fn postgres(database: &Database) -> (String, String) {
    let url = database.url();
    let (user, rest) = url.trim_start_matches("postgres://").split_once(':').expect("a URL has a user");
    let (password, rest) = rest.split_once('@').expect("a URL has a password");
    let (host, port) = rest.split_once('/').expect("a URL has a database").0.split_once(':').expect("a URL has a port");
    let warehouse = format!(
        "      warehouse: {{ postgres: {{ host: {host}, port: {port}, database: {}, user: {user}, password: {{ secret: postgres }} }} }}\n",
        database.name()
    );
    (warehouse, password.to_owned())
}

/// The scratch file of an upload does not fit.
#[test]
fn scratch_space_that_is_full() {
    let (database, bucket) = (Database::create(), Bucket::create());
    let (warehouse, password) = postgres(&database);
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
error jobs/load/job.yaml:8: cannot write the file: File too large (os error 27)  step=out attempt=1 code=output::file
help: check free space and permissions
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
    let (warehouse, password) = postgres(&database);
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
error jobs/load/job.yaml:8: cannot write the file: File too large (os error 27)  step=out attempt=1 code=output::file
help: check free space and permissions
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
14 Errand.Transient warehouse::io
error jobs/load/job.yaml:8: IO Error: Could not write file \"PROJECT/state/warehouse.duckdb\": File too large  step=two attempt=1 code=warehouse::io
help: check free space and permissions beside the database file
");
    assert_eq!(scene.project.value("select n from t"), "42");
}

#[test]
fn no_place_for_scratch_files() {
    let (database, bucket) = (Database::create(), Bucket::create());
    let (warehouse, password) = postgres(&database);
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
