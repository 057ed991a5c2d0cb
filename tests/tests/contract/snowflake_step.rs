//! Steps against the scripted server of Snowflake: which statements are sent, and in which order.

use e2e::errand::Errand;
use e2e::project::Project;
use e2e::snowflake_server::{Reply, Script, SnowflakeServer};
use serde_json::json;

use super::site::{SECRET, project};

const DAY: &str = "2026-01-05";

/// An account in which nothing is done yet.
fn fresh() -> Script {
    Script::new()
        .on("FROM _errand.ledger WHERE", Reply::rows(&[("X", "text")], &[]))
        .on("information_schema.tables", Reply::rows(&[("X", "text")], &[]))
        .on("UPDATE _errand.claims", Reply::affected("updated", 1))
}

/// A job in an account with this script, whose stage is thought to lie in the directory `staged`.
fn scene(script: Script, steps: &str) -> (SnowflakeServer, Project) {
    let server = SnowflakeServer::start(script);
    let connection = json!({ "snowflake": {
        "account": "acme", "user": "loader", "password": { "secret": "warehouse_password" }, "database": "d", "host": server.url(),
        "stage": "@d.public.s", "staging": "staging",
    } });
    let files = Project::within(Errand::new().env(SECRET, "a long password"));
    files.write("errand.yaml", project(&connection, Some(&json!({ "directory": { "path": "staged" } })))).steps(steps);
    (server, files)
}

fn place(server: &SnowflakeServer, part: &str) -> usize {
    let statements = server.statements();
    statements.iter().position(|sql| sql.contains(part)).unwrap_or_else(|| panic!("`{part}` is not among {statements:#?}"))
}

/// The lock on the claims is that of a whole table: everybody's. It is taken when nothing is left but the ledger.
#[test]
fn a_load_is_claimed_for_good_after_its_statements() {
    let (server, project) = scene(fresh(), "\n  - id: s\n    sql: { text: \"insert into t select 1\" }\n");
    let _ = project.run(DAY).ok();
    let order = ["BEGIN TRANSACTION", "insert into t", "UPDATE _errand.claims", "INSERT INTO _errand.ledger", "COMMIT"];
    let places = order.map(|part| place(&server, part));
    assert!(places.is_sorted(), "{places:?} {:#?}", server.statements());
}

#[test]
fn who_lost_the_load_meanwhile_rolls_its_statements_back() {
    let script = Script::new().on("UPDATE _errand.claims", Reply::affected("updated", 0)).then(fresh());
    let (server, project) = scene(script, "\n  - id: s\n    sql: { text: \"insert into t select 1\" }\n");
    let _ = project.run(DAY).fails(14, "ledger::fenced");
    assert_eq!((server.executions("insert into t"), server.executions("ROLLBACK"), server.executions("COMMIT")), (1, 1, 0));
}

/// Definitions commit what came before them: half of a step would be there, without its ledger row.
#[test]
fn definitions_are_refused_in_a_step_that_is_one_transaction() {
    for sql in [
        "create table u (a int)",
        "Alter table t add b int",
        "drop table u",
        "undrop table u",
        "truncate t",
        "grant select on t to role r",
        "revoke select on t from role r",
        "comment on table t is 'x'",
    ] {
        let steps = |rest: &str| format!("\n  - id: s\n    sql: {{ text: \"insert into t select 1; {sql}\"{rest} }}\n");
        let (server, project) = scene(fresh(), &steps(""));
        let run = project.run(DAY).fails(10, "sql::transaction");
        let word = sql.split(' ').next().unwrap_or_default();
        assert!(
            run.message().contains(&format!("`{word}`")) && run.place().starts_with("jobs/load/job.yaml:"),
            "{} {}",
            run.place(),
            run.message()
        );
        assert_eq!(server.executions("insert into t"), 0, "{sql}");
        let (server, project) = scene(fresh(), &steps(", transaction: false"));
        let _ = project.run(DAY).ok();
        assert_eq!(server.executions(sql), 1);
    }
}

/// Only what the warehouse says of a transaction within a transaction is the author's.
#[test]
fn a_warehouse_that_stops_before_the_ledger_is_written_is_not_blamed_on_the_author() {
    let stopped = Reply::error("000608", "57P03", "Warehouse 'W' is suspended.");
    let script = Script::new().on("BEGIN TRANSACTION", stopped).then(fresh());
    let (_server, project) = scene(script, "\n  - id: s\n    sql: { text: insert into t select 1, transaction: false }\n");
    let _ = project.run(DAY).fails(17, "warehouse::suspended");
}

/// Another runner of the load has a staging table of its own, and may be the one that publishes.
#[test]
fn what_another_runner_staged_is_dropped_by_nobody_who_ends() {
    let other = "t__errand_00000000_ffffff";
    let listed = Reply::rows(&[("TABLE_NAME", "text")], &[&[Some(other)]]);
    // The one that begins sees nothing; the other one comes meanwhile.
    let none = Reply::rows(&[("TABLE_NAME", "text")], &[]);
    let script = Script::new().once("information_schema.tables", none).on("information_schema.tables", listed).then(fresh());
    let build = "sql: { text: select 1 as a, materialize: { table: t } }";
    let (server, project) = scene(script, &format!("\n  - id: s\n    {build}\n"));
    let _ = project.run(DAY);
    let asked: Vec<String> = server.statements().into_iter().filter(|sql| sql.contains("information_schema.tables")).collect();
    let prefix = |sql: &String| sql.rsplit(" = ").next().unwrap_or_default().trim_matches('\'').to_owned();
    assert_eq!(asked.len(), 2, "{asked:?}");
    let (stem, own) = (prefix(&asked[0]), prefix(&asked[1]));
    assert!(own.starts_with(&stem) && own.len() == stem.len() + 7, "{stem} {own}");
}

/// `staging` names another place than the stage: what was unloaded is not there, and an empty file is not written for it.
#[test]
fn rows_that_are_not_where_the_stage_is_thought_to_be_are_missed() {
    let unloaded = Reply::rows(&[("rows_unloaded", "fixed"), ("input_bytes", "fixed")], &[&[Some("3"), Some("9")]]);
    let script = Script::new().on("COPY INTO", unloaded).on("LIMIT 0", Reply::rows(&[("A", "fixed(10,0)")], &[])).then(fresh());
    let steps = "\n  - id: out\n    export: { query: select a from t, format: csv, to: { connection: lake, path: out.csv } }\n";
    let (_server, project) = scene(script, steps);
    project.write("staged/other.txt", "");
    let run = project.run(DAY).fails(10, "warehouse::no_stage");
    assert!(run.message().contains("3 rows") && run.everything().contains("`staging` must be the stage's URL"), "{}", run.everything());
    assert!(!project.path("data/out.csv").exists());
}
