//! Postgres behind a proxy: connections that are lost before, during and after the commit. Rows are never doubled.

use std::time::Instant;

use e2e::proxy::{Direction, Fault, Proxy};
use errand_engine::warehouse::Purpose;
use errand_model::failure::FailureKind;
use tokio_util::sync::CancellationToken;

use super::site::{Site, ended_within, is_failure, purpose, run, session, value};

const JOB: &str = "
  - id: load
    ingest: { source: { files: { connection: lake, path: '*.csv', format: csv } }, target: { table: t }, mode: append }
";
const RETRY: &str = "retry: { max_attempts: 3, backoff: constant, interval: 1s }";

fn site(keys: &str) -> (Site, Proxy) {
    let (site, proxy) = Site::postgres_behind_proxy();
    site.project.job(keys, JOB).write("data/a.csv", "id\n1\n2\n3\n");
    (site, proxy)
}

#[track_caller]
fn loaded_once(site: &Site) {
    assert_eq!(site.rows("SELECT id FROM t ORDER BY id"), ["1", "2", "3"]);
    assert_eq!(site.value("SELECT count(*) FROM _errand.ledger"), "1");
    let tables = site.tables();
    assert_eq!(tables, ["t"], "nothing else is left");
}

/// A run in which the connection is cut at these bytes; says how many attempts it took.
fn attempts_when(pattern: &str, direction: Direction, fault: Fault) -> (Site, Proxy, usize) {
    let (site, proxy) = site(RETRY);
    proxy.when(direction, pattern, fault);
    let run = site.project.run("2026-01-05").ok();
    assert_eq!(proxy.fired(), 1);
    let attempts = run.step("load")["attempts"].as_array().map_or(0, Vec::len);
    loaded_once(&site);
    assert_eq!(site.project.run("2026-01-05").ok().how("load"), "already_done");
    loaded_once(&site);
    (site, proxy, attempts)
}

#[test]
fn lost_while_rows_are_sent() {
    assert_eq!(attempts_when("COPY ", Direction::ToServer, Fault::Cut).2, 2);
}

#[test]
fn lost_before_the_ledger_is_written() {
    assert_eq!(attempts_when("INSERT INTO _errand.ledger", Direction::ToServer, Fault::Cut).2, 2);
}

#[test]
fn lost_after_the_ledger_is_written() {
    assert_eq!(attempts_when("INSERT INTO _errand.ledger", Direction::ToServer, Fault::CutAfterAnswer).2, 2);
}

#[test]
fn lost_before_the_commit_reaches_the_server() {
    assert_eq!(attempts_when("COMMIT", Direction::ToServer, Fault::Cut).2, 2);
}

#[test]
fn lost_after_the_commit_took_effect() {
    let (_, _, attempts) = attempts_when("COMMIT\0", Direction::ToClient, Fault::Cut);
    assert_eq!(attempts, 1, "the ledger shows that it is done");
}

#[test]
fn without_retries_a_lost_commit_is_found_out_too() {
    let (site, proxy) = site("");
    proxy.when(Direction::ToServer, "COMMIT", Fault::CutAfterAnswer);
    let run = site.project.run("2026-01-05").ok();
    assert_eq!((run.how("load"), proxy.fired()), ("succeeded", 1));
    assert!(run.everything().contains("the ledger shows that the commit took effect"), "{}", run.everything());
    loaded_once(&site);
}

#[test]
fn without_retries_a_commit_that_was_undone_fails_and_writes_nothing() {
    let (site, proxy) = site("");
    proxy.when(Direction::ToServer, "COMMIT", Fault::Cut);
    let run = site.project.run("2026-01-05").fails(14, "step::commit_undone");
    assert!(run.failure()["help"].is_string(), "{}", run.failure());
    assert!(site.tables().is_empty());
    assert_eq!(site.project.run("2026-01-05").ok().how("load"), "succeeded");
    loaded_once(&site);
}

#[test]
fn a_server_that_is_gone_is_named() {
    let (site, proxy) = site("");
    proxy.refuse(true);
    let run = site.project.run("2026-01-05").expect_code(14);
    let code = run.failure()["code"].as_str().unwrap_or_default().to_owned();
    assert!(matches!(code.as_str(), "warehouse::unreachable" | "warehouse::connection_lost"), "{}", run.failure());
    assert!(run.failure()["help"].is_string(), "{}", run.failure());
    proxy.refuse(false);
    let _ = site.project.run("2026-01-05").ok();
    loaded_once(&site);
}

#[test]
fn a_connection_that_falls_silent_ends_with_the_step() {
    let (site, proxy) = site("");
    site.project.steps(&JOB.replace("    ingest:", "    timeout: 4s\n    ingest:"));
    proxy.when(Direction::ToServer, "INSERT INTO _errand.ledger", Fault::BlackHole);
    let _ = site.project.run("2026-01-05").expect_code(15);
    assert_eq!(proxy.fired(), 1);
    proxy.cut();
    assert_eq!(site.project.run("2026-01-05").ok().how("load"), "succeeded");
    loaded_once(&site);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_whose_connection_is_lost_says_so_and_the_next_one_works() {
    let (site, proxy) = Site::postgres_behind_proxy();
    let warehouse = site.open().await;
    let mut lost = session(&*warehouse).await;
    run(&mut *lost, &["CREATE TABLE t (a INTEGER)", "BEGIN TRANSACTION", "INSERT INTO t VALUES (1)"]).await;
    proxy.cut();
    let failure = is_failure(lost.execute("INSERT INTO t VALUES (2)").await, "warehouse::connection_lost");
    assert_eq!(failure.kind, FailureKind::Transient);
    lost.rollback().await.expect("the transaction went with the connection");
    drop(lost);
    let mut next = session(&*warehouse).await;
    assert_eq!(value(&mut *next, "SELECT count(*) FROM t").await, "0");
}

/// Neither the statement nor the request to cancel it is answered: the network is gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancellation_that_nobody_hears_ends_all_the_same() {
    let (site, proxy) = Site::postgres_behind_proxy();
    let (warehouse, cancelled) = (site.open().await, CancellationToken::new());
    let mut session = warehouse.session(&Purpose { cancelled: cancelled.clone(), ..purpose() }).await.expect("a session");
    proxy.when(Direction::ToServer, "pg_sleep", Fault::Stall);
    let begun = Instant::now();
    let (result, ()) = tokio::join!(session.execute("SELECT pg_sleep(600)"), async {
        while proxy.fired() == 0 {
            tokio::task::yield_now().await;
        }
        cancelled.cancel();
    });
    is_failure(result, "warehouse::cancelled");
    session.rollback().await.expect("the session is given up");
    ended_within(begun, 40);
}
