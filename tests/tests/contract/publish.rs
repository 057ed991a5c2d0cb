//! Postgres: what hangs on a table, and what a run that was killed leaves behind.

use super::race::{Gate, LOAD_AT_GATE, wait_until_someone_waits_for};
use super::site::{Place, Site};

pub(crate) async fn replace_keeps_views_and_grants(site: &Site) {
    let Place::Postgres(database) = &site.place else { panic!("for Postgres") };
    let load =
        "ingest: { source: { files: { connection: lake, path: '{{ run.date }}.csv', format: csv } }, target: { table: t }, mode: replace }";
    site.project.steps(&format!("\n  - id: load\n    {load}\n"));
    site.project.write("data/2026-01-05.csv", "id\n1\n").write("data/2026-01-06.csv", "id\n2\n").write("data/2026-01-07.csv", "id\n3\n");
    let _ = site.project.run("2026-01-05").ok();
    let oid = "SELECT 't'::regclass::oid::text";
    let first = database.value(oid);
    let _ = site.project.run("2026-01-06").ok();
    assert_ne!(database.value(oid), first, "a table on which nothing hangs is replaced by another");
    database.execute("CREATE VIEW v AS SELECT id FROM t; GRANT SELECT ON t TO PUBLIC");
    let second = database.value(oid);
    let _ = site.project.run("2026-01-07").ok();
    assert_eq!(database.value(oid), second);
    assert_eq!(database.rows("SELECT id FROM v"), ["3"]);
    assert_eq!(
        database.value("SELECT count(*) FROM information_schema.role_table_grants WHERE table_name = 't' AND grantee = 'PUBLIC'"),
        "1"
    );
    assert_eq!(
        database.value("SELECT relpersistence::text FROM pg_class WHERE oid = 't'::regclass"),
        "p",
        "it survives a crash of the server"
    );
}

pub(crate) async fn a_killed_run_leaves_nothing_behind(site: &Site) {
    let Place::Postgres(database) = &site.place else { panic!("for Postgres") };
    site.project.steps(LOAD_AT_GATE).write("data/a.csv", "id\n1\n2\n");
    let gate = Gate::closed(database).await;
    let (mut running, _) = site.project.spawn(&["--interval", "2026-01-05"]);
    wait_until_someone_waits_for(site, "relation").await;
    running.kill();
    drop(running);
    assert_eq!(site.tables(), ["gate"]);
    gate.open().await;
    let run = site.project.run("2026-01-05").ok();
    assert_eq!((run.how("load"), site.rows("SELECT id FROM t ORDER BY id").len()), ("succeeded", 2));
    assert_eq!(site.tables(), ["gate", "t"]);
}
