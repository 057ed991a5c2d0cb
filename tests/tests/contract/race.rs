//! Two runners at once: one load is written once, and different ones side by side.

use std::time::Duration;

use e2e::condition::wait_for;
use e2e::project::Run;
use errand_engine::warehouse::ledger::{self, Load, LoadedFile, Writer};
use errand_engine::warehouse::{Fence, Session};
use errand_model::failure::{Failure, FailureKind};
use errand_model::interval::Interval;
use errand_model::report::Rows;

use super::site::{Place, Site, is_failure, run, session, value};

fn load(step: &str) -> Load {
    Load {
        job: "contract".to_owned(),
        step: step.to_owned(),
        interval: Interval::parse("2026-01-05", "UTC").expect("a day"),
        target: "t".to_owned(),
        digest: "it's".to_owned(),
        inputs: "{\"a\":\"\\\\\"}".to_owned(),
    }
}

fn writer(run_id: &str) -> Writer {
    Writer { run_id: run_id.to_owned(), run_attempt: 1, attempt: 1, commit: None, now: "2026-01-05T00:00:00Z".to_owned() }
}

/// One attempt at a load, as steps do it; says whether it wrote. A failed one is undone at once: others may wait for what it holds.
async fn attempt(session: &mut dyn Session, load: &Load, writer: &Writer) -> Result<bool, Failure> {
    let result = try_load(session, load, writer).await;
    if result.is_err() {
        session.rollback().await?;
    }
    result
}

async fn try_load(session: &mut dyn Session, load: &Load, writer: &Writer) -> Result<bool, Failure> {
    if ledger::find(session, load).await?.is_some() {
        return Ok(false);
    }
    if ledger::enter(session, load, writer).await?.is_some() {
        session.rollback().await?;
        return Ok(false);
    }
    ledger::begin(session).await?;
    session.execute(&format!("INSERT INTO t VALUES ('{}')", load.step)).await?;
    if ledger::confirm(session, load, writer).await?.is_some() {
        session.rollback().await?;
        return Ok(false);
    }
    ledger::record(session, load, writer, Rows { read: 1, written: 1, ..Rows::default() }).await?;
    session.execute("COMMIT").await.map_err(ledger::fenced)?;
    Ok(true)
}

async fn set_up(session: &mut dyn Session) {
    ledger::prepare(session).await.expect("Errand's own tables are made");
    ledger::prepare(session).await.expect("they are there");
    run(session, &["CREATE TABLE t (step VARCHAR(20))"]).await;
}

pub(crate) async fn of_two_writers_of_one_load_one_writes(site: &Site) {
    let warehouse = site.open().await;
    let (mut one, mut two) = (session(&*warehouse).await, session(&*warehouse).await);
    set_up(&mut *one).await;
    for round in 0..4 {
        let load = load(&format!("s{round}"));
        let (first, second) = (writer("one"), writer("two"));
        let results = tokio::join!(attempt(&mut *one, &load, &first), attempt(&mut *two, &load, &second));
        let wrote = [&results.0, &results.1].into_iter().filter(|result| matches!(result, Ok(true))).count();
        for result in [&results.0, &results.1] {
            let is_fair = result.is_ok() || matches!(result, Err(failure) if failure.kind == FailureKind::Transient);
            assert!(is_fair, "{result:?}");
        }
        assert!(wrote <= 1, "{results:?}");
        for session in [&mut one, &mut two] {
            session.rollback().await.expect("undone");
        }
        if wrote == 0 {
            assert_eq!(attempt(&mut *one, &load, &writer("three")).await, Ok(true));
        }
        assert_eq!(attempt(&mut *two, &load, &writer("four")).await, Ok(false));
    }
    assert_eq!(value(&mut *one, "SELECT count(*) FROM t").await, "4");
    assert_eq!(value(&mut *one, "SELECT count(DISTINCT step) FROM t").await, "4");
    assert_eq!(value(&mut *one, "SELECT count(*) FROM _errand.ledger").await, "4");
}

pub(crate) async fn the_slower_of_two_runners_is_fenced(site: &Site) {
    let warehouse = site.open().await;
    let (mut slow, mut fast) = (session(&*warehouse).await, session(&*warehouse).await);
    set_up(&mut *slow).await;
    let load = load("s");
    let (slow_writer, fast_writer) = (writer("slow"), writer("fast"));
    assert_eq!(ledger::enter(&mut *slow, &load, &slow_writer).await, Ok(None));
    match site.capabilities().fence {
        Fence::PrimaryKey => {
            run(&mut *slow, &["INSERT INTO t VALUES ('s')"]).await;
            assert_eq!(attempt(&mut *fast, &load, &fast_writer).await, Ok(true));
            let rows = Rows { read: 1, written: 1, ..Rows::default() };
            let fenced = match ledger::record(&mut *slow, &load, &slow_writer, rows).await {
                Ok(()) => slow.execute("COMMIT").await.map(|_| ()).map_err(ledger::fenced),
                failed => failed,
            };
            assert_eq!(fenced.expect_err("it is too late").kind, FailureKind::Transient);
        }
        Fence::Lock(_) | Fence::Turn => {
            // The other one waits at the fence, until this one has written.
            let (written, found) = tokio::join!(
                async {
                    run(&mut *slow, &["INSERT INTO t VALUES ('s')"]).await;
                    // Redshift tells only its superusers who waits; the other one finds the load done in either case.
                    if let Place::Postgres(_) = site.place {
                        wait_until_someone_waits_for(site, "advisory").await;
                    }
                    ledger::record(&mut *slow, &load, &slow_writer, Rows::default()).await?;
                    slow.execute("COMMIT").await
                },
                attempt(&mut *fast, &load, &fast_writer)
            );
            written.expect("committed");
            assert_eq!(found, Ok(false));
        }
        Fence::Claim => {
            assert_eq!(attempt(&mut *fast, &load, &fast_writer).await, Ok(true));
            ledger::begin(&mut *slow).await.expect("begun");
            match ledger::confirm(&mut *slow, &load, &slow_writer).await {
                Ok(done) => assert_eq!(done.map(|done| done.run_id).as_deref(), Some("fast")),
                Err(failure) => assert_eq!(failure.kind, FailureKind::Transient, "{failure:?}"),
            }
            slow.rollback().await.expect("undone");
            // Who claims it last may write it, whoever claimed it first.
            let other = self::load("other");
            assert_eq!(ledger::enter(&mut *slow, &other, &slow_writer).await, Ok(None));
            assert_eq!(ledger::enter(&mut *fast, &other, &fast_writer).await, Ok(None));
            ledger::begin(&mut *slow).await.expect("begun");
            is_failure(ledger::confirm(&mut *slow, &other, &slow_writer).await, "ledger::fenced");
        }
    }
    slow.rollback().await.expect("undone");
    assert_eq!(value(&mut *slow, "SELECT count(*) FROM t").await, "1");
    assert_eq!(value(&mut *slow, "SELECT count(*) FROM _errand.ledger").await, "1");
}

/// Runners of one interval at two commits have two load ids, and one fence: an append is not done by both.
pub(crate) async fn loads_at_two_commits_keep_each_other_out(site: &Site) {
    let warehouse = site.open().await;
    let (mut one, mut two) = (session(&*warehouse).await, session(&*warehouse).await);
    set_up(&mut *one).await;
    let (old, new) = (load("s"), Load { digest: "of another commit".to_owned(), ..load("s") });
    assert!(old.id() != new.id() && old.fence() == new.fence() && old.fence() != load("other").fence());
    let (a, b) = (writer("one"), writer("two"));
    assert_eq!(ledger::enter(&mut *one, &old, &a).await, Ok(None));
    match site.capabilities().fence {
        // One process has the file, and is one run.
        Fence::PrimaryKey => {}
        Fence::Lock(_) | Fence::Turn => {
            let (written, entered) = tokio::join!(
                async {
                    if let Place::Postgres(_) = site.place {
                        wait_until_someone_waits_for(site, "advisory").await;
                    }
                    ledger::record(&mut *one, &old, &a, Rows::default()).await?;
                    one.execute("COMMIT").await
                },
                async {
                    assert_eq!(ledger::enter(&mut *two, &new, &b).await, Ok(None));
                    ledger::refuse_second_append(&mut *two, &new, &[]).await
                }
            );
            written.expect("committed");
            is_failure(entered, "ledger::second_append");
        }
        Fence::Claim => {
            assert_eq!(ledger::is_taken(&mut *one, &old, &a).await, Ok(false));
            assert_eq!(ledger::enter(&mut *two, &new, &b).await, Ok(None));
            assert_eq!(ledger::is_taken(&mut *one, &old, &a).await, Ok(true));
            ledger::begin(&mut *one).await.expect("begun");
            is_failure(ledger::confirm(&mut *one, &old, &a).await, "ledger::fenced");
        }
    }
    for session in [&mut one, &mut two] {
        session.rollback().await.expect("undone");
    }
}

/// Two loads of one file into one table, of two intervals: neither sees the other before it commits, and one of them keeps it.
pub(crate) async fn a_file_is_appended_by_one_of_two_loads(site: &Site) {
    let warehouse = site.open().await;
    let (mut one, mut two) = (session(&*warehouse).await, session(&*warehouse).await);
    set_up(&mut *one).await;
    let file = LoadedFile { path: "lake:it's.csv".to_owned(), bytes: 3, digest: "d".to_owned(), rows_read: 1 };
    // Where one fence is for all loads, the second is let in after the first.
    let side_by_side = !matches!(site.place, Place::Redshift(_));
    let (first, second) = (load("one"), load("two"));
    let (a, b) = (writer("one"), writer("two"));
    enter_and_insert(&mut *one, &first, &a).await;
    if side_by_side {
        enter_and_insert(&mut *two, &second, &b).await;
    }
    keep(&mut *one, &first, &a, &file).await.expect("it is the first");
    if !side_by_side {
        enter_and_insert(&mut *two, &second, &b).await;
    }
    let failure = keep(&mut *two, &second, &b, &file).await.expect_err("the file is there");
    assert_eq!(failure.kind, FailureKind::Transient, "{failure:?}");
    two.rollback().await.expect("undone");
    enter_and_insert(&mut *two, &second, &b).await;
    is_failure(keep(&mut *two, &second, &b, &file).await, "ledger::fenced");
    two.rollback().await.expect("undone");
    assert_eq!(value(&mut *one, "SELECT count(*) FROM t").await, "1");
    assert_eq!(value(&mut *one, "SELECT count(*) FROM _errand.files").await, "1");
}

async fn enter_and_insert(session: &mut dyn Session, load: &Load, writer: &Writer) {
    assert_eq!(ledger::enter(session, load, writer).await, Ok(None));
    ledger::begin(session).await.expect("begun");
    run(session, &["INSERT INTO t VALUES ('x')"]).await;
}

async fn keep(session: &mut dyn Session, load: &Load, writer: &Writer, file: &LoadedFile) -> Result<(), Failure> {
    // Later than it was claimed: an update that changes nothing is none for the stand-in.
    let writer = Writer { now: format!("2026-01-05T00:01:00Z, {}", writer.run_id), ..writer.clone() };
    ledger::record_files(session, load, &writer, std::slice::from_ref(file)).await?;
    session.execute("COMMIT").await.map(|_| ()).map_err(ledger::fenced)
}

/// A runner that is started again for the same run is not the one before it, which may still be there.
pub(crate) async fn attempts_of_one_run_are_two_writers(site: &Site) {
    let warehouse = site.open().await;
    let (mut old, mut new) = (session(&*warehouse).await, session(&*warehouse).await);
    set_up(&mut *old).await;
    let (load, before, after) = (load("s"), writer("run"), Writer { run_attempt: 2, ..writer("run") });
    assert_ne!(before.owner(), after.owner());
    if let Fence::Claim = site.capabilities().fence {
        assert_eq!(ledger::enter(&mut *old, &load, &before).await, Ok(None));
        assert_eq!(ledger::enter(&mut *new, &load, &after).await, Ok(None));
        ledger::begin(&mut *old).await.expect("begun");
        is_failure(ledger::confirm(&mut *old, &load, &before).await, "ledger::fenced");
        old.rollback().await.expect("undone");
        ledger::begin(&mut *new).await.expect("begun");
        assert_eq!(ledger::confirm(&mut *new, &load, &after).await, Ok(None));
        new.rollback().await.expect("undone");
    }
}

/// Postgres: two intervals bring the same keys to one table at the same time, and each key is there once.
pub(crate) async fn keys_of_two_loads_at_once_are_there_once(site: &Site) {
    let Place::Postgres(database) = &site.place else { panic!("only Postgres says who waits") };
    database.execute("CREATE TABLE gate (a INTEGER)");
    for (table, mode) in [("merged", "merge"), ("replaced", "delete_insert"), ("versioned", "scd2")] {
        let job = format!(
            "
  - id: load
    ingest:
      source: {{ files: {{ connection: lake, path: '{{{{ run.date }}}}.csv', format: csv }} }}
      target: {{ table: {table} }}
      mode: {mode}
      primary_key: [id]
      checks: [{{ sql: {{ text: select a from gate }} }}]
"
        );
        site.project.steps(&job).write("data/2026-01-04.csv", "id,name\n0,a\n");
        site.project.write("data/2026-01-05.csv", "id,name\n1,a\n2,b\n").write("data/2026-01-06.csv", "id,name\n1,a\n2,b\n");
        let _ = site.project.run("2026-01-04").ok();
        let gate = Gate::closed(database).await;
        let (first, first_id) = site.project.spawn(&["--interval", "2026-01-05"]);
        wait_until_waiting(site, "relation", 1).await;
        let (second, second_id) = site.project.spawn(&["--interval", "2026-01-06"]);
        wait_until_waiting(site, "relation", 2).await;
        gate.open().await;
        let _ = site.project.ended(first, &first_id).ok();
        let _ = site.project.ended(second, &second_id).ok();
        let valid = if mode == "scd2" { " AND _errand_valid_to IS NULL" } else { "" };
        let rows = site.rows(&format!("SELECT id, name FROM {table} WHERE id > 0{valid} ORDER BY id"));
        assert_eq!(rows, ["1|a", "2|b"], "{mode}");
    }
}

/// Postgres: two intervals find that there is no table, and both make it: the slower one finds it at its next attempt.
pub(crate) async fn two_first_loads_into_one_table_lose_nothing(site: &Site) {
    let Place::Postgres(database) = &site.place else { panic!("only Postgres says who waits") };
    site.project
        .steps(&LOAD_AT_GATE.replace('*', "{{ run.date }}"))
        .write("data/2026-01-05.csv", "id\n1\n")
        .write("data/2026-01-06.csv", "id\n2\n");
    let gate = Gate::closed(database).await;
    let (first, first_id) = site.project.spawn(&["--interval", "2026-01-05"]);
    wait_until_waiting(site, "relation", 1).await;
    let (second, second_id) = site.project.spawn(&["--interval", "2026-01-06"]);
    wait_until_waiting(site, "transactionid", 1).await;
    gate.open().await;
    let _ = site.project.ended(first, &first_id).ok();
    let _ = site.project.ended(second, &second_id).fails(14, "ledger::fenced");
    assert_eq!(site.rows("SELECT id FROM t ORDER BY id"), ["1"]);
    let _ = site.project.run("2026-01-06").ok();
    assert_eq!(site.rows("SELECT id FROM t ORDER BY id"), ["1", "2"]);
}

/// Postgres: two intervals find that the table lacks a column, and both add it.
pub(crate) async fn two_loads_that_add_one_column_lose_nothing(site: &Site) {
    let Place::Postgres(database) = &site.place else { panic!("only Postgres says who waits") };
    database.execute("CREATE TABLE t (id BIGINT)");
    site.project
        .steps(&LOAD_AT_GATE.replace('*', "{{ run.date }}").replace("mode: append", "mode: append\n      schema_contract: evolve"))
        .write("data/2026-01-05.csv", "id,name\n1,a\n")
        .write("data/2026-01-06.csv", "id,name\n2,b\n");
    let gate = Gate::closed(database).await;
    let (first, first_id) = site.project.spawn(&["--interval", "2026-01-05"]);
    wait_until_waiting(site, "relation", 1).await;
    let (second, second_id) = site.project.spawn(&["--interval", "2026-01-06"]);
    wait_until_waiting(site, "relation", 2).await;
    gate.open().await;
    let _ = site.project.ended(first, &first_id).ok();
    let _ = site.project.ended(second, &second_id).fails(14, "ledger::fenced");
    let _ = site.project.run("2026-01-06").ok();
    assert_eq!(site.rows("SELECT id, name FROM t ORDER BY id"), ["1|a", "2|b"]);
}

/// Postgres: one interval at two commits of a definition, from two machines that know nothing of each other.
pub(crate) async fn of_two_commits_one_appends_an_interval(site: &Site) {
    let Place::Postgres(database) = &site.place else { panic!("only Postgres says who waits") };
    let build = |id: u32| {
        format!(
            "
  - id: build
    sql:
      text: select {id} as id
      materialize: {{ table: t, mode: append }}
      checks: [{{ sql: {{ text: select a from gate }} }}]
"
        )
    };
    database.execute("CREATE TABLE t (id INTEGER)");
    let gate = Gate::closed(database).await;
    site.project.steps(&build(1));
    let (first, first_id) = site.project.spawn(&["--interval", "2026-01-05"]);
    wait_until_waiting(site, "relation", 1).await;
    site.project.steps(&build(2));
    let (second, second_id) = site.project.spawn(&["--interval", "2026-01-05"]);
    wait_until_waiting(site, "%", 2).await;
    gate.open().await;
    let _ = site.project.ended(first, &first_id).ok();
    let _ = site.project.ended(second, &second_id).fails(10, "ledger::second_append");
    assert_eq!(site.rows("SELECT id FROM t"), ["1"]);
}

/// A load that reads the gate when its rows are published and not yet committed.
pub(crate) const LOAD_AT_GATE: &str = "
  - id: load
    ingest:
      source: { files: { connection: lake, path: '*.csv', format: csv } }
      target: { table: t }
      mode: append
      checks: [{ sql: { text: select a from gate } }]
";

/// The table `gate` of a Postgres database: whoever reads it, in a check of a load above all, waits until it is open.
pub(crate) struct Gate {
    client: tokio_postgres::Client,
}

impl Gate {
    pub(crate) async fn closed(database: &e2e::postgres::Database) -> Self {
        database.execute("CREATE TABLE IF NOT EXISTS gate (a INTEGER)");
        let (client, connection) = tokio_postgres::connect(&database.url(), tokio_postgres::NoTls).await.expect("connected");
        // It ends with the client.
        drop(tokio::spawn(connection));
        client.batch_execute("BEGIN; LOCK TABLE gate IN ACCESS EXCLUSIVE MODE").await.expect("locked");
        Self { client }
    }

    pub(crate) async fn open(self) {
        self.client.batch_execute("COMMIT").await.expect("unlocked");
    }
}

/// Waits until a session of the Postgres database waits for a lock of this kind.
pub(crate) async fn wait_until_someone_waits_for(site: &Site, event: &str) {
    wait_until_waiting(site, event, 1).await;
}

/// Waits until so many sessions of the Postgres database wait for locks of this kind; `%` is any.
async fn wait_until_waiting(site: &Site, event: &str, count: u32) {
    let Place::Postgres(database) = &site.place else { panic!("only Postgres says who waits") };
    let sql = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' AND wait_event LIKE '{event}'"
    );
    while database.value(&sql) != count.to_string() {
        tokio::task::yield_now().await;
    }
}

/// A job whose load starts when the file `go` is there.
fn job() -> &'static str {
    "
  - id: wait
    command: { run: [/bin/sh, -c, 'touch \"ready-$0\"; until [ -e go ]; do sleep 0.01; done', '{{ run.id }}'] }
  - id: load
    ingest: { source: { files: { connection: lake, path: '*.csv', format: csv } }, target: { table: t }, mode: append }
"
}

/// What both left: one set of rows, and a third run finds it.
fn loaded_once(site: &Site, runs: &[Run]) {
    assert!(runs.iter().any(|run| run.outcome.code() == Some(0)), "{}", runs[0].everything());
    for run in runs {
        assert!(matches!(run.outcome.code(), Some(0 | 14)), "{}", run.everything());
    }
    let wrote = runs.iter().filter(|run| run.how("load") == "succeeded").count();
    assert_eq!(wrote, 1, "{}\n{}", runs[0].everything(), runs[1].everything());
    let _ = site.project.run("2026-01-05").ok();
    assert_eq!(site.rows("SELECT id FROM t ORDER BY id"), ["1", "2", "3"]);
    assert_eq!(site.value("SELECT count(*) FROM _errand.ledger WHERE step = 'load'"), "1");
}

pub(crate) async fn two_runs_of_one_interval_load_once(site: &Site) {
    site.project.steps(job()).write("data/a.csv", "id\n1\n2\n3\n");
    let started: Vec<_> = (0..2).map(|_| site.project.spawn(&["--interval", "2026-01-05"])).collect();
    let ready = |id: &str| site.project.path(&format!("jobs/load/ready-{id}")).exists();
    let opens_early = matches!(site.place, Place::Duckdb);
    wait_for("both runs", Duration::from_secs(60), || {
        let here = started.iter().filter(|(_, id)| ready(id)).count();
        (here == 2 || opens_early && here == 1).then_some(())
    });
    site.project.write("jobs/load/go", "");
    let runs: Vec<Run> = started.into_iter().map(|(running, id)| site.project.ended(running, &id)).collect();
    loaded_once(site, &runs);
}

/// Postgres: the second run waits at the fence while the first is held up inside its transaction.
pub(crate) async fn a_run_waits_for_the_one_that_holds_the_interval(site: &Site) {
    let Place::Postgres(database) = &site.place else { panic!("only Postgres says who waits") };
    site.project.steps(LOAD_AT_GATE).write("data/a.csv", "id\n1\n2\n3\n");
    let gate = Gate::closed(database).await;
    let (first, first_id) = site.project.spawn(&["--interval", "2026-01-05"]);
    wait_until_someone_waits_for(site, "relation").await;
    let (second, second_id) = site.project.spawn(&["--interval", "2026-01-05"]);
    wait_until_someone_waits_for(site, "advisory").await;
    gate.open().await;
    let runs = [site.project.ended(first, &first_id).ok(), site.project.ended(second, &second_id).ok()];
    assert_eq!((runs[0].how("load"), runs[1].how("load")), ("succeeded", "already_done"));
    loaded_once(site, &runs);
}

pub(crate) async fn steps_run_side_by_side(site: &Site) {
    let step = |number: u32| {
        format!(
            "
  - id: load{number}
    needs: []
    ingest: {{ source: {{ files: {{ connection: lake, path: '*.csv', format: csv }} }}, target: {{ table: t{number} }}, mode: replace }}
  - id: build{number}
    needs: [load{number}]
    sql: {{ text: 'select sum(id) as n from t{number}', materialize: {{ table: s{number} }} }}
"
        )
    };
    site.project.steps(&(1..=4).map(step).collect::<String>()).write("data/a.csv", "id\n1\n2\n3\n");
    let _ = site.project.run("2026-01-05").ok();
    for number in 1..=4 {
        assert_eq!(site.value(&format!("SELECT CAST(n AS INTEGER) AS n FROM s{number}")), "6");
    }
    assert_eq!(site.value("SELECT count(*) FROM _errand.ledger"), "8");
}
