//! Steps against the scripted server of Snowflake: which statements are sent, and in which order.

use e2e::errand::Errand;
use e2e::project::Project;
use e2e::snowflake_server::{Reply, Script, SnowflakeServer};
use serde_json::json;

use super::site::{SECRET, project};

const DAY: &str = "2026-01-05";

/// An account in which nothing is done yet.
fn fresh() -> Script {
    let none = || Reply::rows(&[("X", "text")], &[]);
    Script::new()
        .on("FROM _errand.ledger WHERE", none())
        .on("information_schema.tables", none())
        .on("FROM _errand.claims WHERE", none())
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

/// In the author's database there is another ledger, or none.
#[test]
fn the_ledger_is_where_the_session_began() {
    for rest in ["", ", transaction: false"] {
        let text = "use database other; insert into t select 1";
        let (server, project) = scene(fresh(), &format!("\n  - id: s\n    sql: {{ text: {text}{rest} }}\n"));
        let _ = project.run(DAY).ok();
        let order = ["use database other", "insert into t", "USE SCHEMA \"D\".\"PUBLIC\"", "INSERT INTO _errand.ledger", "COMMIT"];
        let places = order.map(|part| place(&server, part));
        assert!(places.is_sorted(), "{places:?} {:#?}", server.statements());
    }
}

const BUILD: &str = "\n  - id: s\n    sql: { text: select 1 as a, materialize: { table: t } }\n";

/// Definitions belong to no transaction: two runners may find the target missing, and both make it.
#[test]
fn a_target_that_another_runner_made_meanwhile_fences_this_one() {
    let missing = || Reply::error("002003", "42S02", "Table 'T' does not exist or not authorized.");
    let answered = |reply: Reply| {
        let script = Script::new().once("DESC TABLE \"T\"", missing()).once("DESC TABLE \"T\"", missing());
        scene(script.on("CREATE TABLE \"T\"", reply).then(fresh()), BUILD)
    };
    let (server, project) = answered(Reply::error("002002", "42710", "SQL compilation error:\nObject 'T' already exists."));
    let _ = project.run(DAY).fails(14, "ledger::fenced");
    assert_eq!((server.executions("CREATE TABLE \"T\""), server.executions("COMMIT")), (1, 0));
    let (_server, project) = answered(Reply::error("090064", "22000", "Invalid state."));
    let _ = project.run(DAY).fails(17, "warehouse::refused");
}

#[test]
fn a_column_that_another_runner_added_meanwhile_fences_this_one() {
    let described = |names: &[&str]| {
        let rows: Vec<[Option<&str>; 2]> = names.iter().map(|name| [Some(*name), Some("NUMBER(10,0)")]).collect();
        Reply::rows(&[("name", "text"), ("type", "text")], &rows.iter().map(<[_; 2]>::as_slice).collect::<Vec<_>>())
    };
    let raced = Reply::error("001430", "42601", "SQL compilation error:\ncolumn 'B' already exists");
    let script = Script::new().on("DESC TABLE \"T\"", described(&["A"])).on("DESC TABLE \"T__ERRAND_", described(&["A", "B"]));
    let (server, project) = scene(script.on("ALTER TABLE \"T\" ADD COLUMN", raced).then(fresh()), BUILD);
    let _ = project.run(DAY).fails(14, "ledger::fenced");
    assert_eq!((server.executions("ADD COLUMN \"B\""), server.executions("COMMIT")), (1, 0));
}

/// Whoever takes a load drops what others staged for it: they fail by what they miss first, and that is nobody's fault.
#[test]
fn who_misses_its_staging_table_looks_whether_another_runner_took_the_load() {
    let gone = || Reply::error("002003", "42S02", "Table 'T__ERRAND_1' does not exist or not authorized.");
    let none = || Reply::rows(&[("X", "text")], &[]);
    let done = [("RUN_ID", "text"), ("RECORDED_AT", "text"), ("R", "fixed"), ("W", "fixed"), ("D", "fixed"), ("J", "fixed")];
    let row = [Some("other"), Some("2026-01-05T00:00:00Z"), Some("3"), Some("3"), Some("0"), Some("0")];
    let taken = || Reply::rows(&[("OWNER", "text")], &[&[Some("other.1.1")]]);
    let script = |owner: Reply| Script::new().on("DESC TABLE \"T__ERRAND_", gone()).on("FROM _errand.claims WHERE", owner);

    let (server, project) = scene(script(taken()).then(fresh()), BUILD);
    let _ = project.run(DAY).fails(14, "ledger::fenced");
    assert_eq!(server.executions("COMMIT"), 0);

    let ledger = Script::new().once("FROM _errand.ledger WHERE", none()).on("FROM _errand.ledger WHERE", Reply::rows(&done, &[&row]));
    let (_server, project) = scene(script(taken()).then(ledger).then(fresh()), BUILD);
    let run = project.run(DAY).ok();
    assert_eq!((run.how("s"), run.counts("s")), ("already_done", [3, 3, 0, 0]));

    let (_server, project) = scene(script(none()).then(fresh()), BUILD);
    let _ = project.run(DAY).fails(17, "warehouse::missing_object");
}

/// The claim orders two runners of one interval, whichever commit they have; the one that is let in last looks once more.
#[test]
fn an_interval_that_another_commit_appended_meanwhile_is_not_appended_again() {
    let other = Reply::rows(&[("RUN_ID", "text"), ("STEP", "text")], &[&[Some("other"), Some("s")]]);
    let script = Script::new().once("WHERE job = ", Reply::rows(&[("X", "text")], &[])).on("WHERE job = ", other);
    let steps = BUILD.replace("table: t }", "table: t, mode: append }");
    let (server, project) = scene(script.then(fresh()), &steps);
    let _ = project.run(DAY).fails(10, "ledger::second_append");
    let order = ["INSERT INTO \"T\"", "UPDATE _errand.claims", "ROLLBACK"].map(|part| place(&server, part));
    assert!(order.is_sorted(), "{order:?} {:#?}", server.statements());
    assert_eq!((server.executions("COMMIT"), server.executions("INSERT INTO _errand.ledger")), (0, 0));
}

/// What follows a failed check drops tables, and a definition commits what came before it.
#[test]
fn a_late_check_that_fails_undoes_the_rows_before_anything_else_is_changed() {
    let left = Reply::rows(&[("TABLE_NAME", "text")], &[&[Some("T__ERRAND_00000000_FFFFFF")]]);
    let none = Reply::rows(&[("TABLE_NAME", "text")], &[]);
    let script = Script::new().once("information_schema.tables", none).on("information_schema.tables", left);
    let script = script.on("select a from t", Reply::rows(&[("A", "fixed")], &[&[Some("1")]])).then(fresh());
    let steps = "\n  - id: s\n    sql:\n      text: select 1 as a\n      materialize: { table: t }\n      checks: [{ sql: { text: select a from t } }]\n";
    let (server, project) = scene(script, steps);
    let _ = project.run(DAY).fails(12, "check::failed");
    let order = ["BEGIN TRANSACTION", "INTO \"T\"", "select a from t", "ROLLBACK", "DROP TABLE IF EXISTS"];
    let places = order.map(|part| place(&server, part));
    assert!(places.is_sorted(), "{places:?} {:#?}", server.statements());
    assert_eq!((server.executions("ROLLBACK"), server.executions("COMMIT"), server.executions("INSERT INTO _errand.ledger")), (1, 0, 0));
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
    let (server, project) = scene(script, BUILD);
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
