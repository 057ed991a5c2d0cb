//! The repository's own example job, as `make demo` and its readers run it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use duckdb::{AccessMode, Config, Connection};
use e2e::errand::Errand;
use e2e::program;
use e2e::repository::Repository;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package lies in the repository").to_owned()
}

/// The example job and a hundredth of the benchmark's data, in the working directory of `errand`.
fn example(errand: &Errand) -> Repository {
    let place = errand.directory();
    program::stdout_of(Command::new(env!("CARGO_BIN_EXE_tpch")).args(["--scale-factor", "0.01", "--out"]).arg(place.join("data/tpch")));
    let project = fs::read_to_string(root().join("errand.yaml")).expect("the project file is there");
    let project = project
        .replace("path: .errand/", &format!("path: {}/state/", place.display()))
        .replace("path: data ", &format!("path: {}/data ", place.display()));
    fs::create_dir(place.join("state")).expect("the working directory can be written");
    let repository = Repository::create(place.join("jobs"));
    repository.write("errand.yaml", &project).copy(&root().join("jobs/tpch"), "jobs/tpch").commit("the example");
    repository
}

/// For each table, its number of rows and a sum over all that they hold.
fn content(errand: &Errand, tables: &[&str]) -> Vec<(i64, String)> {
    let config = Config::default().access_mode(AccessMode::ReadOnly).expect("DuckDB can read only");
    let warehouse = Connection::open_with_flags(errand.directory().join("state/warehouse.duckdb"), config).expect("the warehouse opens");
    let read = |table: &&str| {
        let query = format!("select count(*), coalesce(sum(hash(t)), 0)::text from {table} as t");
        warehouse.query_row(&query, [], |row| Ok((row.get(0)?, row.get(1)?))).expect("the table is there")
    };
    tables.iter().map(read).collect()
}

#[test]
fn the_repository_itself_is_a_valid_job_repository() {
    let _ = Errand::new().run(["validate".as_ref(), "--repo".as_ref(), root().as_os_str()]).expect_code(0);
}

#[test]
fn the_example_loads_every_record_once_and_answers_its_queries() {
    let errand = Errand::new();
    let repository = example(&errand);
    let arguments = ["run", "tpch", "--repo", &repository.url(), "--ref", "main", "--interval", "2026-01-05"];
    let _ = errand.run(arguments).expect_code(0);

    let tables = ["region", "nation", "supplier", "customer", "part", "partsupp", "orders", "lineitem"];
    let loaded = content(&errand, &tables);
    for (table, (rows, _)) in tables.iter().zip(&loaded) {
        let file = fs::read_to_string(errand.directory().join(format!("data/tpch/{table}.tbl"))).expect("the tool wrote it");
        assert_eq!(usize::try_from(*rows), Ok(file.lines().count()), "{table}");
    }
    let answers = content(&errand, &["q1_pricing_summary", "q3_shipping_priority", "q5_local_supplier_volume", "q6_revenue_change"]);
    assert_eq!(answers.iter().map(|(rows, _)| *rows).collect::<Vec<_>>(), [4, 10, 5, 1]);
    assert!(errand.directory().join("state/reports/2026-01-05/pricing_summary.csv").is_file());

    let _ = errand.run(arguments).expect_code(0);
    assert_eq!(content(&errand, &tables), loaded, "the same interval again writes nothing");
}

#[test]
fn a_broken_record_is_named_and_nothing_is_published() {
    let errand = Errand::new();
    let repository = example(&errand);
    let run = |interval| errand.run(["run", "tpch", "--repo", &repository.url(), "--ref", "main", "--interval", interval]);
    let _ = run("2026-01-05").expect_code(0);
    let before = content(&errand, &["lineitem", "q1_pricing_summary"]);

    let file = errand.directory().join("data/tpch/lineitem.tbl");
    let sound = fs::read_to_string(&file).expect("the tool wrote it");
    let broken: Vec<String> =
        sound.lines().enumerate().map(|(index, line)| if index == 29_999 { line.replacen('.', ",", 1) } else { line.to_owned() }).collect();
    fs::write(&file, broken.join("\n") + "\n").expect("the file can be written");
    let outcome = run("2026-01-06").expect_code(13);
    let said = outcome.stderr + &outcome.stdout;
    assert!(said.contains("lineitem.tbl:30000") && said.contains("l_extendedprice"), "{said}");
    assert_eq!(content(&errand, &["lineitem", "q1_pricing_summary"]), before, "nothing is published");

    fs::write(&file, sound).expect("the file can be written");
    let _ = run("2026-01-06").expect_code(0);
}
