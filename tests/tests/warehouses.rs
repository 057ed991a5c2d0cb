//! The repository's own example job on every warehouse: nothing but a connection changes, and the answers agree to the cent.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use duckdb::{AccessMode, Config, Connection};
use e2e::errand::Errand;
use e2e::{postgres, program, s3, snowflake};

/// Tables of the benchmark, and the answers to its queries: what is read of each, in an order of its own.
const QUERIES: [&str; 7] = [
    "select count(*), sum(o_totalprice) from orders",
    "select count(*), sum(l_quantity), sum(l_extendedprice), sum(l_discount), sum(l_tax), min(l_shipdate), max(l_receiptdate) from lineitem",
    "select l_returnflag, l_linestatus, sum_qty, sum_base_price, sum_disc_price, sum_charge, avg_price, count_order \
     from q1_pricing_summary order by l_returnflag, l_linestatus",
    "select l_orderkey, revenue, o_orderdate from q3_shipping_priority order by l_orderkey",
    "select n_name, revenue from q5_local_supplier_volume order by n_name",
    "select revenue from q6_revenue_change",
    "select c_name, o_orderkey, o_totalprice, total_quantity from q18_large_orders order by o_orderkey",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package lies in the repository").to_owned()
}

/// The example's job and a hundredth of the benchmark's data, with other connections.
fn example(errand: &Errand, connections: &str, reports: &str) -> PathBuf {
    let place = errand.directory();
    program::stdout_of(Command::new(env!("CARGO_BIN_EXE_tpch")).args(["--scale-factor", "0.01", "--out"]).arg(place.join("data/tpch")));
    let repository = place.join("jobs");
    fs::create_dir_all(repository.join("jobs")).expect("the working directory can be written");
    program::stdout_of(Command::new("cp").arg("-R").arg(root().join("jobs/tpch")).arg(repository.join("jobs/tpch")));
    let project = format!(
        "version: 1\ndefault_environment: local\nenvironments:\n  local:\n    connections:\n{connections}{reports}\
         contacts:\n  data-platform: {{ email: {{ to: [data-platform@example.com] }} }}\n\
         defaults: {{ timeout: 30m, retry: {{ max_attempts: 2 }} }}\n"
    );
    fs::write(repository.join("errand.yaml"), project).expect("the project file can be written");
    repository
}

/// Runs the job twice: the second run finds all loads done.
fn run_twice(errand: &Errand, repository: &Path) {
    let arguments = ["run", "tpch", "--repo", &repository.display().to_string(), "--interval", "2026-01-05"];
    let _ = errand.run(arguments).expect_code(0);
    let again = errand.run(arguments).expect_code(0);
    assert!((again.stdout.clone() + &again.stderr).contains("already done"), "{}", again.stdout);
}

fn local(errand: &Errand) -> (String, String) {
    let place = errand.directory();
    let files = format!(
        "      lake: {{ directory: {{ path: {0}/data }} }}\n      reports: {{ directory: {{ path: {0}/reports }} }}\n",
        place.display()
    );
    (files, "    reports: { connection: reports, path: runs }\n".to_owned())
}

/// Numbers to the cent, texts and dates as they are.
fn to_the_cent(rows: &[String]) -> Vec<String> {
    let cent = |value: &str| match value.parse::<f64>() {
        Ok(number) => format!("{number:.2}"),
        Err(_) => value.to_owned(),
    };
    rows.iter().map(|row| row.split('|').map(cent).collect::<Vec<_>>().join("|")).collect()
}

fn of_duckdb(errand: &Errand) -> Vec<Vec<String>> {
    let config = Config::default().access_mode(AccessMode::ReadOnly).expect("DuckDB can read only");
    let warehouse = Connection::open_with_flags(errand.directory().join("warehouse.duckdb"), config).expect("the warehouse opens");
    let rows = |query: &&str| {
        let mut statement = warehouse.prepare(&format!("select columns(*)::varchar from ({query})")).expect("the query is right");
        let rows = statement.query_map([], |row| {
            let columns = row.as_ref().column_count();
            let values: duckdb::Result<Vec<String>> = (0..columns).map(|column| row.get(column)).collect();
            Ok(values?.join("|"))
        });
        let rows = rows.expect("it runs");
        to_the_cent(&rows.map(|row| row.expect("a row")).collect::<Vec<_>>())
    };
    QUERIES.iter().map(rows).collect()
}

fn on_duckdb() -> Vec<Vec<String>> {
    let errand = Errand::new();
    let (files, reports) = local(&errand);
    let path = errand.directory().join("warehouse.duckdb");
    let repository = example(&errand, &format!("      warehouse: {{ duckdb: {{ path: {} }} }}\n{files}", path.display()), &reports);
    run_twice(&errand, &repository);
    of_duckdb(&errand)
}

#[test]
fn the_example_on_postgres_agrees_with_duckdb_to_the_cent() {
    let database = postgres::Database::create();
    let url = database.url();
    let (user, rest) = url.trim_start_matches("postgres://").split_once(':').expect("a URL has a user");
    let (password, rest) = rest.split_once('@').expect("a URL has a password");
    let (address, name) = rest.split_once('/').expect("a URL has a database");
    let (host, port) = address.split_once(':').expect("a URL has a port");
    let errand = Errand::new().env("ERRAND_SECRET_WAREHOUSE_PASSWORD", password);
    let (files, reports) = local(&errand);
    let warehouse = format!(
        "      warehouse: {{ postgres: {{ host: {host}, port: {port}, database: {name}, user: {user}, password: {{ secret: warehouse_password }} }} }}\n"
    );
    let repository = example(&errand, &(warehouse + &files), &reports);
    run_twice(&errand, &repository);
    let answers: Vec<Vec<String>> = QUERIES.iter().map(|query| to_the_cent(&database.rows(query))).collect();
    assert_eq!(answers, on_duckdb());
}

/// Input, staged parts, exports and reports all lie in a bucket.
#[test]
fn the_example_on_snowflake_and_s3_agrees_with_duckdb_to_the_cent() {
    let (database, bucket) = (snowflake::Database::create(), s3::Bucket::create());
    let stage = format!("CREATE STAGE {}.PUBLIC.ERRAND_STAGE URL='s3://{}/stage/'", database.name(), bucket.name());
    database.execute(&[&stage]);
    let settings = database.settings();
    let errand = Errand::new()
        .env("ERRAND_SECRET_WAREHOUSE_PASSWORD", settings.password.clone().expect("the tests log in with a password"))
        .env("AWS_ACCESS_KEY_ID", "testing")
        .env("AWS_SECRET_ACCESS_KEY", "testing");
    let s3 = |prefix: &str| {
        format!("{{ s3: {{ bucket: {}, prefix: {prefix}, region: us-east-1, endpoint: \"{}\" }} }}", bucket.name(), bucket.endpoint())
    };
    let connections = format!(
        "      warehouse: {{ snowflake: {{ account: {}, user: {}, password: {{ secret: warehouse_password }}, database: {}, host: \"{}\", \
         stage: \"@{}.PUBLIC.ERRAND_STAGE\", staging: stage }} }}\n      stage: {}\n      lake: {}\n      reports: {}\n",
        settings.account,
        settings.user,
        settings.database,
        settings.host.as_deref().unwrap_or_default(),
        settings.database,
        s3("stage/"),
        s3("lake/"),
        s3("reports/")
    );
    let repository = example(&errand, &connections, "    reports: { connection: reports, path: runs }\n");
    for file in fs::read_dir(errand.directory().join("data/tpch")).expect("the data are there") {
        let file = file.expect("an entry");
        bucket.put(&format!("lake/tpch/{}", file.file_name().display()), fs::read(file.path()).expect("a file"));
    }
    run_twice(&errand, &repository);
    let answers: Vec<Vec<String>> = QUERIES.iter().map(|query| to_the_cent(&database.rows(query))).collect();
    assert_eq!(answers, on_duckdb());
    assert_eq!(bucket.keys("reports/2026-01-05/"), ["reports/2026-01-05/pricing_summary.csv"]);
    assert_eq!(bucket.keys("reports/runs/").len(), 2, "a report for each run");
    assert_eq!(bucket.keys("stage/"), [""; 0], "what was staged is gone");
    let listed = errand.run(["runs", "--repo", &repository.display().to_string()]).expect_code(0);
    assert!(listed.stdout.contains("tpch") && listed.stdout.contains("succeeded"), "{}", listed.stdout);
}
