//! `through: pipe`, and `errand setup snowflake --apply`, against a server that answers from a script.
#![allow(clippy::panic, reason = "a helper that cannot do its work fails the test that asked for it")]

use std::fs;
use std::process::Command;

use e2e::errand::Errand;
use e2e::program;
use e2e::project::{Project, Run};
use e2e::snowflake_server::{Reply, Script, SnowflakeServer};

const PIPE: [(&str, &str); 3] = [("name", "text"), ("notification_channel", "text"), ("definition", "text")];
const HISTORY: [(&str, &str); 7] = [
    ("FILE_NAME", "text"),
    ("STAGE_LOCATION", "text"),
    ("STATUS", "text"),
    ("ROW_COUNT", "fixed"),
    ("FILE_SIZE", "fixed"),
    ("FIRST_ERROR_MESSAGE", "text"),
    ("FIRST_ERROR_LINE_NUMBER", "fixed"),
];
const STEP: &str = "
  - id: load
    ingest:
      source: { files: { connection: lake, path: 'orders-*.csv', format: csv } }
      target: { table: raw.orders }
      through: pipe
      on_empty: ok
      columns: [{ name: id, type: bigint }]
";

/// The answers of an account with a pipe whose history is `history`, one look after the other; the last is given for ever.
fn account(channel: Option<&str>, history: &[Reply]) -> Script {
    let none = || Reply::rows(&[("X", "text")], &[]);
    let mut script = Script::new()
        .on("FROM _errand.ledger WHERE", none())
        .on("FROM _errand.files WHERE", none())
        .on("information_schema.tables", none())
        .on("FROM _errand.claims WHERE", none())
        .on("UPDATE _errand.claims", Reply::rows(&[("number of rows updated", "fixed")], &[&[Some("1")]]))
        .on("SHOW PIPES", Reply::rows(&PIPE, &[&[Some("ORDERS_PIPE"), channel, Some("copy into ...")]]))
        .on("SYSTEM$PIPE_STATUS", Reply::rows(&[("STATUS", "text")], &[&[Some(r#"{"executionState":"RUNNING"}"#)]]));
    let (last, first) = history.split_last().expect("a history");
    for reply in first {
        script = script.once("COPY_HISTORY", reply.clone());
    }
    script.on("COPY_HISTORY", last.clone())
}

fn nothing() -> Reply {
    Reply::rows(&HISTORY, &[])
}

/// A project with two files of 6 bytes, against the server.
fn project(server: &SnowflakeServer, credential: &str, errand: Errand) -> Project {
    let project = Project::within(errand.env("ERRAND_SECRET_SNOWFLAKE", "a password"));
    project.write("errand.yaml", definition(server, credential));
    project.write("data/orders-1.csv", "id\n1\n2").write("data/orders-2.csv", "id\n3\n4").steps(STEP);
    project
}

fn definition(server: &SnowflakeServer, credential: &str) -> String {
    format!(
        "
version: 1
default_environment: local
environments:
  local:
    connections:
      warehouse:
        snowflake:
          account: acme
          user: errand
          {credential}
          database: d
          stage: \"@d.raw.errand\"
          staging: lake
          host: {}
      lake: {{ directory: {{ path: data }} }}
      out: {{ directory: {{ path: state }} }}
    reports: {{ connection: out, path: runs }}
contacts:
  team: {{ email: {{ to: [team@example.com] }} }}
",
        server.url()
    )
}

const PASSWORD: &str = "password: { secret: snowflake }";

fn loaded(project: &Project, files: &[(&str, &str)]) -> Reply {
    let place = format!("file://{}/", project.path("data").display());
    let rows: Vec<Vec<Option<&str>>> = files
        .iter()
        .map(|(file, rows)| vec![Some(*file), Some(place.as_str()), Some("Loaded"), Some(*rows), Some("6"), None, None])
        .collect();
    let rows: Vec<&[Option<&str>]> = rows.iter().map(Vec::as_slice).collect();
    Reply::rows(&HISTORY, &rows)
}

/// Runs the job against an account whose history names files by a path that only the project knows: made for a first one, then used.
fn run(
    channel: Option<&str>,
    credential: &str,
    errand: Errand,
    history: impl Fn(&Project) -> Vec<Reply>,
    change: impl Fn(Script) -> Script,
) -> (Run, SnowflakeServer, Project) {
    let idle = SnowflakeServer::start(Script::new());
    let project = project(&idle, credential, errand);
    let server = SnowflakeServer::start(change(account(channel, &history(&project))));
    project.write("errand.yaml", definition(&server, credential));
    let run = project.run("2026-01-05");
    (run, server, project)
}

#[test]
fn the_run_waits_until_the_history_confirms_each_file() {
    let history = |project: &Project| vec![nothing(), loaded(project, &[("orders-1.csv", "2")]), loaded(project, &[("orders-2.csv", "3")])];
    let (run, server, _) = run(Some("arn:aws:sqs:queue"), PASSWORD, Errand::new(), history, |script| script);
    let run = run.expect_code(0);
    assert_eq!(run.counts("load"), [5, 5, 0, 0]);
    let files = run.attempt("load")["files"].as_array().cloned().unwrap_or_default();
    assert_eq!(files.len(), 2, "{files:?}");
    assert_eq!((files[0]["rows"]["written"].as_u64(), files[1]["rows"]["written"].as_u64()), (Some(2), Some(3)));
    let statements = server.statements();
    let at = |part: &str| statements.iter().position(|sql| sql.contains(part)).unwrap_or_else(|| panic!("no {part} in {statements:#?}"));
    assert!(at("INSERT INTO _errand.files") < at("INSERT INTO _errand.ledger") && at("INSERT INTO _errand.ledger") < at("COMMIT"));
    assert!(at("COPY_HISTORY") < at("BEGIN") && server.executions("COPY INTO") == 0);
    assert!(statements[at("INSERT INTO _errand.files")].contains("lake:orders-1.csv"));
    assert_eq!(server.requests_to("insertFiles").len(), 0);
}

#[test]
fn a_file_that_failed_is_named_with_its_first_error() {
    let failed = |project: &Project| {
        let place = format!("file://{}/", project.path("data").display());
        let row = [
            Some("orders-2.csv"),
            Some(place.as_str()),
            Some("Load failed"),
            Some("0"),
            Some("6"),
            Some("Numeric value 'x' is not recognized"),
            Some("3"),
        ];
        vec![Reply::rows(&HISTORY, &[&row])]
    };
    let (run, server, _) = run(Some("arn:aws:sqs:queue"), PASSWORD, Errand::new(), failed, |script| script);
    let run = run.fails(13, "ingest::pipe_failed");
    assert!(run.message().contains("`orders-2.csv`: line 3: Numeric value 'x' is not recognized"), "{}", run.message());
    assert_eq!(server.executions("INSERT INTO _errand.ledger"), 0);
}

#[test]
fn files_that_do_not_come_are_named_when_time_is_up() {
    let history = |project: &Project| vec![loaded(project, &[("orders-1.csv", "2")]), nothing()];
    let idle = SnowflakeServer::start(Script::new());
    let project = project(&idle, PASSWORD, Errand::new());
    let server = SnowflakeServer::start(account(Some("arn:aws:sqs:queue"), &history(&project)));
    project.write("errand.yaml", definition(&server, PASSWORD)).steps(&STEP.replace("    ingest:", "    timeout: 12s\n    ingest:"));
    let run = project.run("2026-01-05").fails(15, "ingest::pipe_late");
    assert!(run.message().contains("1 of 2 files") && run.message().contains("`orders-2.csv`"), "{}", run.message());
    assert!(!run.message().contains("orders-1") && run.failure()["help"].as_str().unwrap_or_default().contains("notification_channel"));
}

#[test]
fn a_pipe_that_nobody_tells_is_told_once_what_it_has_not_loaded() {
    let key = key();
    let errand = Errand::new().env("ERRAND_SECRET_KEY", &key);
    let history = |project: &Project| vec![loaded(project, &[("orders-1.csv", "2")]), nothing(), loaded(project, &[("orders-2.csv", "2")])];
    let again = |script: Script| script.insert_files_fails(503, "busy");
    let (run, server, _) = run(None, "private_key: { secret: key }", errand, history, again);
    let run = run.expect_code(0);
    assert_eq!(run.counts("load"), [4, 4, 0, 0]);
    let told = server.requests_to("insertFiles");
    assert_eq!(told.len(), 2, "once more after a 503");
    assert_eq!(told[1].path, "/v1/data/pipes/D.RAW.ORDERS_PIPE/insertFiles");
    assert_eq!(told[1].body, serde_json::json!({ "files": [{ "path": "orders-2.csv" }] }));
    let header = told[1].headers.iter().find(|(name, _)| name == "authorization").map(|(_, value)| value.clone()).unwrap_or_default();
    assert_eq!(header.split('.').count(), 3, "a signed token");
    assert!(!run.everything().contains(header.trim_start_matches("Bearer ")) && !run.everything().contains("PRIVATE KEY"));
}

#[test]
fn without_a_key_a_pipe_cannot_be_told() {
    let (run, server, _) = run(None, PASSWORD, Errand::new(), |_| vec![nothing()], |script| script);
    let run = run.fails(10, "warehouse::authentication");
    assert!(run.message().contains("key pair") && server.requests_to("insertFiles").is_empty(), "{}", run.message());
}

#[test]
fn a_refused_call_is_one_clear_failure() {
    let errand = Errand::new().env("ERRAND_SECRET_KEY", key());
    let refuse = |script: Script| script.insert_files_fails(404, "Specified object does not exist or not authorized.");
    let (run, _, _) = run(None, "private_key: { secret: key }", errand, |_| vec![nothing()], refuse);
    let run = run.fails(17, "warehouse::missing_object");
    assert!(run.message().contains("HTTP 404"), "{}", run.message());
}

#[test]
fn a_missing_pipe_is_made_by_setup() {
    let none = Reply::rows(&PIPE, &[]);
    let first = Script::new().on("SHOW PIPES", none).on("FROM _errand.ledger WHERE", nothing()).on("FROM _errand.files WHERE", nothing());
    let first = first.on("information_schema.tables", nothing()).on("FROM _errand.claims WHERE", nothing());
    let server = SnowflakeServer::start(first);
    let run = project(&server, PASSWORD, Errand::new()).run("2026-01-05").fails(17, "warehouse::missing_object");
    assert!(
        run.message().contains("raw.ORDERS_PIPE") && run.failure()["help"].as_str().unwrap_or_default().contains("errand setup snowflake")
    );
}

#[test]
fn a_paused_pipe_fails_at_once() {
    let server = SnowflakeServer::start(Script::new());
    let project = project(&server, PASSWORD, Errand::new());
    let paused = Reply::rows(&[("STATUS", "text")], &[&[Some(r#"{"executionState":"PAUSED"}"#)]]);
    let rest = Script::new().on("SYSTEM$PIPE_STATUS", paused);
    let script = rest.then(account(Some("queue"), &[nothing()]));
    let server = SnowflakeServer::start(script);
    project.write("errand.yaml", definition(&server, PASSWORD));
    let run = project.run("2026-01-05").fails(17, "warehouse::refused");
    assert!(run.message().contains("`PAUSED`"), "{}", run.message());
}

#[test]
fn a_file_that_changed_after_it_was_loaded_is_not_called_loaded() {
    let other = |project: &Project| {
        let place = format!("file://{}/", project.path("data").display());
        let row = [Some("orders-1.csv"), Some(place.as_str()), Some("Loaded"), Some("2"), Some("99"), None, None];
        vec![Reply::rows(&HISTORY, &[&row])]
    };
    let (run, ..) = run(Some("queue"), PASSWORD, Errand::new(), other, |script| script);
    let run = run.fails(13, "ingest::pipe_changed");
    assert!(run.message().contains("`orders-1.csv`"), "{}", run.message());
}

#[test]
fn setup_prints_the_sql_and_applies_it_statement_by_statement() {
    let server = SnowflakeServer::start(Script::new());
    let project = project(&server, PASSWORD, Errand::new());
    let directory = project.path("").display().to_string();
    let errand = Errand::new().env("ERRAND_SECRET_SNOWFLAKE", "a password").env("ERRAND_LOG_FORMAT", "text");
    let printed = errand.run(["setup", "snowflake", "--repo", &directory]).expect_code(0);
    assert!(
        printed.stdout.contains("CREATE PIPE IF NOT EXISTS \"RAW\".\"ORDERS_PIPE\"") && server.statements().is_empty(),
        "{}",
        printed.stdout
    );
    let applied = errand.run(["setup", "snowflake", "--repo", &directory, "--apply"]).expect_code(0);
    let statements = server.statements();
    assert_eq!(statements[0], "USE ROLE ACCOUNTADMIN");
    for sql in &statements {
        let first = sql.lines().next().unwrap_or_default();
        let part: String = first.chars().take(40).collect();
        assert!(applied.stdout.contains(&part) && printed.stdout.contains(&part), "{first}\n{}", applied.stdout);
    }
    assert!(applied.stdout.contains(&format!("{} statements done", statements.len())), "{}", applied.stdout);
    assert!(!applied.stdout.contains("a password"));
}

#[test]
fn setup_stops_at_the_first_statement_that_is_refused() {
    let refused = Reply::error("003001", "42501", "Insufficient privileges to operate on account 'ACME'");
    let server = SnowflakeServer::start(Script::new().on("CREATE RESOURCE MONITOR", refused));
    let project = project(&server, PASSWORD, Errand::new());
    let directory = project.path("").display().to_string();
    let errand = Errand::new().env("ERRAND_SECRET_SNOWFLAKE", "a password").env("ERRAND_LOG_FORMAT", "text");
    let ended = errand.run(["setup", "snowflake", "--repo", &directory, "--apply"]).expect_code(17);
    assert!(ended.stderr.contains("CREATE RESOURCE MONITOR") && ended.stderr.contains("ACCOUNTADMIN"), "{}", ended.stderr);
    assert_eq!(server.executions("CREATE WAREHOUSE"), 0);
}

#[test]
fn setup_of_another_warehouse_is_refused() {
    let project = Project::new();
    let directory = project.path("").display().to_string();
    fs::create_dir_all(project.path("jobs")).expect("the directory can be made");
    let ended = Errand::new().env("ERRAND_LOG_FORMAT", "text").run(["setup", "snowflake", "--repo", &directory]).expect_code(10);
    assert!(ended.stderr.contains("is `duckdb`, not `snowflake`"), "{}", ended.stderr);
}

/// A new private key.
fn key() -> String {
    program::stdout_of(Command::new(program::find("openssl")).args(["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"]))
}
