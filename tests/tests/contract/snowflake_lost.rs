//! Snowflake: answers that are lost, and records that could be taken for those of another statement.

use e2e::snowflake_server::{Reply, Script};
use errand_model::failure::FailureKind;

use super::site::{is_failure, run};
use super::snowflake_protocol::{begin, count, with_records};

/// The records are asked by the tag of the session: what an author sent under another one is not found there, and was executed.
#[tokio::test]
async fn a_write_is_not_sent_again_where_another_tag_may_hide_it() {
    let script =
        Script::new().once("INSERT", Reply::affected("inserted", 1).loses_answer()).once("SELECT 42", Reply::numbers(1).loses_answer());
    let server = with_records(script);
    let mut session = begin(&server).await;
    run(&mut *session, &["ALTER SESSION SET QUERY_TAG = 'finance'"]).await;
    let failure = is_failure(session.execute("INSERT INTO t SELECT 1").await, "warehouse::connection_lost");
    assert_eq!((failure.kind, server.executions("INSERT")), (FailureKind::Transient, 1));
    let mut session = begin(&server).await;
    run(&mut *session, &["ALTER SESSION SET QUERY_TAG = 'finance'"]).await;
    assert_eq!(count(&mut *session, "SELECT 42").await, Ok(1), "a query may be sent again");
}

/// A read whose answer was lost stays in the records, after it was sent again. A commit that never reached the server is not that read.
#[tokio::test]
async fn a_commit_that_never_arrived_is_no_older_statement() {
    let unreadable = Reply::error("002003", "42S02", "Object does not exist or not authorized.");
    let script = Script::new().once("SELECT 42", Reply::numbers(1).loses_answer()).once("QUERY_HISTORY", unreadable);
    let server = with_records(script.on("COMMIT", Reply::done().unavailable(1)));
    let mut session = begin(&server).await;
    run(&mut *session, &["BEGIN TRANSACTION", "INSERT INTO t SELECT 1"]).await;
    assert_eq!(count(&mut *session, "SELECT 42").await, Ok(1));
    assert_eq!(server.executions("SELECT 42"), 2);
    is_failure(session.execute("COMMIT").await, "warehouse::connection_lost");
    assert_eq!(server.executions("COMMIT"), 0, "whoever sent it asks the ledger");
}

/// The session ended, and the records say that its `BEGIN` went well: in another session each statement would commit by itself.
#[tokio::test]
async fn a_transaction_whose_session_ended_at_its_beginning_begins_again() {
    let server = with_records(Script::new().once("BEGIN", Reply::done().session_expires_at_poll()));
    let mut session = begin(&server).await;
    run(&mut *session, &["BEGIN TRANSACTION", "INSERT INTO t SELECT 1", "COMMIT"]).await;
    let queries = server.queries();
    let of = |part: &str| queries.iter().filter(|query| query.sql.contains(part)).map(|query| query.session).collect::<Vec<_>>();
    let begun = of("BEGIN");
    assert_eq!((begun.len(), of("INSERT"), of("COMMIT")), (2, vec![begun[1]], vec![begun[1]]));
    assert_ne!(begun[0], begun[1]);
}
