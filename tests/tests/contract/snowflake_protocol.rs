//! The driver of Snowflake against the scripted server: what accounts do rarely. Nothing is executed twice.

use std::path::Path;
use std::time::{Duration, Instant};

use e2e::snowflake_server::{Reply, Script, SnowflakeServer};
use errand_engine::secret::Secrets;
use errand_engine::warehouse::{self, Budget, Purpose, Session, Surroundings, Warehouse, ledger};
use errand_model::failure::{Failure, FailureKind};
use errand_model::job::{Connection, Credential, Environment, Snowflake};
use errand_model::value::{Label, Name};
use tokio_util::sync::CancellationToken;

use super::site::{ended_within, is_failure, purpose, session};

/// The columns by which the driver knows what became of a statement.
const RECORDS: [&str; 6] = ["QUERY_ID", "EXECUTION_STATUS", "ERROR_CODE", "ERROR_MESSAGE", "ROWS_PRODUCED", "QUERY_TEXT"];

/// A server with this script that also keeps records.
pub(crate) fn with_records(script: Script) -> SnowflakeServer {
    SnowflakeServer::start(script.on("QUERY_HISTORY", Reply::history(&RECORDS)))
}

async fn open(server: &SnowflakeServer) -> Box<dyn Warehouse> {
    open_staged(server, None).await
}

/// An account; its stage, if it has one, is thought to lie in this directory.
pub(crate) async fn open_staged(server: &SnowflakeServer, staged: Option<&Path>) -> Box<dyn Warehouse> {
    let secrets = Secrets::new([("ERRAND_SECRET_PASSWORD".to_owned(), "p@ss/word".to_owned())], "/nowhere".into());
    let connection = Connection::Snowflake(Box::new(Snowflake {
        account: "account".to_owned(),
        user: "someone".to_owned(),
        credential: Credential::Password(Name::parse("password").expect("a name")),
        role: Some("R".to_owned()),
        compute_warehouse: Some("W".to_owned()),
        database: "D".to_owned(),
        schema: "PUBLIC".to_owned(),
        stage: staged.map(|_| "@D.PUBLIC.S".to_owned()),
        staging: staged.map(|_| Label::parse("staging").expect("a label")),
        host: Some(server.url()),
    }));
    let directory = |path: &Path| ("staging".to_owned(), Connection::Directory { path: path.display().to_string() });
    let environment = Environment { connections: staged.map(directory).into_iter().collect(), reports: None, aws: None };
    let surroundings = Surroundings {
        environment: &environment,
        state_dir: "/nowhere".as_ref(),
        repository: "/nowhere".as_ref(),
        secrets: &secrets,
        budget: Budget { memory_bytes: 64 << 20 },
    };
    warehouse::open(&connection, surroundings).await.expect("opened")
}

pub(crate) async fn begin(server: &SnowflakeServer) -> Box<dyn Session> {
    session(&*open(server).await).await
}

pub(crate) async fn count(session: &mut dyn Session, sql: &str) -> Result<usize, Failure> {
    session.query(sql, 1000).await.map(|rows| rows.len())
}

#[tokio::test]
async fn an_asynchronous_answer_is_waited_for() {
    let server = with_records(Script::new().on("SELECT 42", Reply::numbers(3).asynchronous(2)));
    assert_eq!(count(&mut *begin(&server).await, "SELECT 42").await, Ok(3));
    assert_eq!(server.executions("SELECT 42"), 1);
}

#[tokio::test]
async fn every_chunk_of_a_result_is_read() {
    let server = with_records(Script::new().on("SELECT 42", Reply::numbers(10).chunks_of(3).chunks_unavailable(1)));
    let mut session = begin(&server).await;
    let rows = session.query("SELECT 42", 1000).await.expect("read");
    let numbers: Vec<String> = rows.into_iter().flatten().flatten().collect();
    assert_eq!(numbers, (0..10).map(|number| number.to_string()).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_chunk_that_does_not_come_can_be_cancelled() {
    let server = with_records(Script::new().on("SELECT 42", Reply::numbers(10).chunks_of(3).chunks_stall()));
    let cancelled = CancellationToken::new();
    let warehouse = open(&server).await;
    let mut session = warehouse.session(&Purpose { cancelled: cancelled.clone(), ..purpose() }).await.expect("a session");
    let begun = Instant::now();
    let (result, ()) = tokio::join!(session.query("SELECT 42", 1000), async {
        while server.requests_to("/chunks/").is_empty() {
            tokio::task::yield_now().await;
        }
        cancelled.cancel();
    });
    is_failure(result, "warehouse::cancelled");
    ended_within(begun, 10);
}

#[tokio::test]
async fn a_chunk_that_does_not_come_is_a_lost_connection() {
    let server = with_records(Script::new().on("SELECT 42", Reply::numbers(10).chunks_of(3).chunks_stall()));
    let warehouse = open(&server).await;
    let purpose = Purpose { statement_timeout: Some(Duration::from_millis(300)), ..purpose() };
    let mut session = warehouse.session(&purpose).await.expect("a session");
    let begun = Instant::now();
    let failure = is_failure(session.query("SELECT 42", 1000).await, "warehouse::connection_lost");
    assert_eq!(failure.kind, FailureKind::Transient);
    assert!(failure.message.contains("nothing came within 1.2 s") && failure.help.is_some(), "{failure:?}");
    ended_within(begun, 10);
    assert_eq!((server.executions("SELECT 42"), server.requests_to("/chunks/").len()), (1, 3));
    let put = Box::new(|_| Ok(()));
    is_failure(session.read("SELECT 42 AS again", put).await, "warehouse::connection_lost");
}

#[tokio::test]
async fn a_session_that_expires_in_mid_poll_loses_no_statement() {
    let server = with_records(Script::new().on("INSERT", Reply::affected("inserted", 3).session_expires_at_poll()));
    let mut session = begin(&server).await;
    assert_eq!(session.execute("INSERT INTO t SELECT 1").await, Ok(3));
    assert_eq!(server.executions("INSERT"), 1);
    assert_eq!(count(&mut *session, "SELECT 1").await, Ok(1));
    assert!(server.logins().len() >= 2, "the next statement has a session of its own");
}

#[tokio::test]
async fn a_session_that_has_expired_is_replaced_between_statements() {
    let server = with_records(Script::new().on("SELECT 42", Reply::numbers(1)));
    let mut session = begin(&server).await;
    server.expire_sessions();
    assert_eq!(count(&mut *session, "SELECT 42").await, Ok(1));
    assert_eq!((server.executions("SELECT 42"), server.logins().len()), (1, 2));
}

#[tokio::test]
async fn a_session_that_expires_inside_a_transaction_ends_it() {
    let server = with_records(Script::new().on("UPDATE", Reply::affected("updated", 1)));
    let mut session = begin(&server).await;
    session.execute("BEGIN TRANSACTION").await.expect("begun");
    session.execute("UPDATE t SET a = 1").await.expect("updated");
    server.expire_sessions();
    let failure = is_failure(session.execute("UPDATE t SET a = 2").await, "warehouse::connection_lost");
    assert_eq!(failure.kind, FailureKind::Transient);
    session.rollback().await.expect("nothing is open");
    assert_eq!(server.executions("UPDATE"), 1, "half of a transaction is not sent to another session");
}

/// What `USE`, `SET` and temporary tables leave is in no other session: the next statement could mean another table there.
#[tokio::test]
async fn a_session_that_is_bound_by_a_statement_is_not_replaced() {
    for bound in ["USE SCHEMA other", "set x = 1", "ALTER SESSION SET TIMEZONE = 'UTC'", "create temp table u (a int)", "CREATE SCHEMA s"] {
        let server = with_records(Script::new().on("INSERT", Reply::affected("inserted", 1)));
        let mut session = begin(&server).await;
        session.execute(bound).await.expect("executed");
        server.expire_sessions();
        let failure = is_failure(session.execute("INSERT INTO t SELECT 1").await, "warehouse::connection_lost");
        assert!(failure.message.contains("`USE`"), "{failure}");
        assert_eq!(server.executions("INSERT"), 0, "{bound}");
    }
    let server = with_records(Script::new().on("INSERT", Reply::affected("inserted", 1)));
    let mut session = begin(&server).await;
    session.execute("CREATE SCHEMA IF NOT EXISTS \"RAW\"").await.expect("executed");
    session.go_home().await.expect("it goes back");
    server.expire_sessions();
    assert_eq!(session.execute("INSERT INTO t SELECT 1").await, Ok(1), "it went back to where it began");
}

/// An author may use another database and another role; Errand's own tables are where the session began.
#[tokio::test]
async fn a_session_goes_back_to_where_it_began() {
    let back = ["USE ROLE \"R\"", "USE SCHEMA \"D\".\"PUBLIC\""];
    for (sql, expected) in [("SELECT 1", &back[2..]), ("create schema s", &back[1..]), ("use database other", &back[..])] {
        let server = with_records(Script::new());
        let mut session = begin(&server).await;
        session.execute(sql).await.expect("executed");
        session.go_home().await.expect("it goes back");
        assert_eq!(server.statements()[1..], *expected, "{sql}");
    }
}

#[tokio::test]
async fn what_another_runner_made_meanwhile_is_asked_for_again_and_what_is_refused_is_not() {
    let missing = || Script::new().on("DESC TABLE", Reply::error("002003", "42S02", "Table 'LEDGER' does not exist or not authorized."));
    let raced = Reply::error("002002", "42710", "SQL compilation error:\nObject 'FILES' already exists.");
    let server = with_records(missing().once("EXISTS _errand.files", raced));
    ledger::prepare(&mut *begin(&server).await).await.expect("it is there now");
    assert_eq!((server.executions("EXISTS _errand.files"), server.executions("EXISTS _errand.ledger")), (2, 1));
    let refused = Reply::error("090064", "22000", "Invalid state.");
    let server = with_records(missing().on("EXISTS _errand.files", refused));
    is_failure(ledger::prepare(&mut *begin(&server).await).await, "warehouse::refused");
    assert_eq!(server.executions("EXISTS _errand.files"), 1);
}

/// The server took the statement and said its id; then nobody answers, so nobody may send it again.
#[tokio::test]
async fn a_statement_that_was_taken_is_not_sent_again_when_the_server_cannot_be_reached() {
    let server = with_records(Script::new().on("INSERT", Reply::affected("inserted", 2).server_leaves_before_the_poll()));
    assert_eq!(begin(&server).await.execute("INSERT INTO t SELECT 1").await, Ok(2), "the records know it");
    assert_eq!(server.executions("INSERT"), 1);
}

/// A commit in a session that ended, which the records do not show yet: another session has nothing to commit.
#[tokio::test]
async fn a_commit_that_the_records_do_not_show_is_not_sent_again() {
    let none = Reply::rows(&RECORDS.map(|name| (name, "text")), &[]);
    let script = Script::new().on("COMMIT", Reply::done().session_expires_at_poll()).on("QUERY_HISTORY", none);
    let server = SnowflakeServer::start(script);
    let mut session = begin(&server).await;
    for sql in ["BEGIN TRANSACTION", "INSERT INTO t SELECT 1"] {
        session.execute(sql).await.unwrap_or_else(|failure| panic!("{sql}: {failure}"));
    }
    is_failure(session.execute("COMMIT").await, "warehouse::connection_lost");
    assert_eq!(server.executions("COMMIT"), 1);
}

/// It may have taken effect: whoever sent it asks the ledger.
#[tokio::test]
async fn a_commit_that_is_cancelled_is_an_outcome_that_is_not_known() {
    let server = with_records(Script::new().on("COMMIT", Reply::done().runs_until_released()));
    let (warehouse, cancelled) = (open(&server).await, CancellationToken::new());
    let mut session = warehouse.session(&Purpose { cancelled: cancelled.clone(), ..purpose() }).await.expect("a session");
    session.execute("BEGIN TRANSACTION").await.expect("begun");
    let (result, ()) = tokio::join!(session.execute("COMMIT"), async {
        while server.executions("COMMIT") == 0 {
            tokio::task::yield_now().await;
        }
        cancelled.cancel();
    });
    assert_eq!(is_failure(result, "warehouse::connection_lost").kind, FailureKind::Transient);
}

#[tokio::test]
async fn a_503_at_submit_is_sent_again_and_executed_once() {
    let server = with_records(Script::new().on("INSERT", Reply::affected("inserted", 2).unavailable(2)));
    assert_eq!(begin(&server).await.execute("INSERT INTO t SELECT 1").await, Ok(2));
    assert_eq!(server.executions("INSERT"), 1);
}

#[tokio::test]
async fn a_503_at_poll_leaves_a_statement_that_is_found_again() {
    let server = with_records(Script::new().on("INSERT", Reply::affected("inserted", 2).asynchronous(0).polls_unavailable(1)));
    assert_eq!(begin(&server).await.execute("INSERT INTO t SELECT 1").await, Ok(2));
    assert_eq!(server.executions("INSERT"), 1);
}

#[tokio::test]
async fn a_statement_that_was_executed_before_the_503_is_not_executed_again() {
    let server = with_records(Script::new().on("INSERT", Reply::affected("inserted", 2).unavailable_after_execution(1)));
    assert_eq!(begin(&server).await.execute("INSERT INTO t SELECT 1").await, Ok(2));
    assert_eq!(server.executions("INSERT"), 1);
}

#[tokio::test]
async fn an_answer_that_is_lost_is_found_in_the_records() {
    let server = with_records(Script::new().on("INSERT", Reply::affected("inserted", 2).loses_answer()));
    assert_eq!(begin(&server).await.execute("INSERT INTO t SELECT 1").await, Ok(2));
    assert_eq!(server.executions("INSERT"), 1);
}

#[tokio::test]
async fn a_failure_whose_answer_is_lost_is_found_in_the_records() {
    let error = Reply::error("002003", "42S02", "Object 'T' does not exist or not authorized.").loses_answer();
    let server = with_records(Script::new().on("INSERT", error));
    let failure = is_failure(begin(&server).await.execute("INSERT INTO t SELECT 1").await, "warehouse::missing_object");
    assert!(failure.message.contains("does not exist"), "{failure}");
    assert_eq!(server.executions("INSERT"), 1);
}

#[tokio::test]
async fn a_commit_whose_answer_is_lost_is_found_out() {
    let server = with_records(Script::new().on("COMMIT", Reply::done().loses_answer()));
    let mut session = begin(&server).await;
    for sql in ["BEGIN TRANSACTION", "INSERT INTO t SELECT 1", "COMMIT"] {
        session.execute(sql).await.unwrap_or_else(|failure| panic!("{sql}: {failure}"));
    }
    assert_eq!((server.executions("COMMIT"), server.executions("INSERT")), (1, 1));
    session.rollback().await.expect("nothing is open");
    assert_eq!(server.executions("ROLLBACK"), 0);
}

#[tokio::test]
async fn without_records_a_lost_commit_is_an_outcome_that_is_not_known() {
    let refused = Reply::error("002003", "42S02", "Object does not exist or not authorized.");
    let server = SnowflakeServer::start(Script::new().on("COMMIT", Reply::done().loses_answer()).on("QUERY_HISTORY", refused));
    let mut session = begin(&server).await;
    for sql in ["BEGIN TRANSACTION", "INSERT INTO t SELECT 1"] {
        session.execute(sql).await.unwrap_or_else(|failure| panic!("{sql}: {failure}"));
    }
    let failure = is_failure(session.execute("COMMIT").await, "warehouse::connection_lost");
    assert!(failure.kind == FailureKind::Transient && failure.help.is_some(), "{failure:?}");
    assert_eq!((server.executions("COMMIT"), server.executions("INSERT")), (1, 1));
}

#[tokio::test]
async fn a_statement_that_nobody_knows_is_not_repeated_when_it_writes() {
    let refused = Reply::error("002003", "42S02", "Object does not exist or not authorized.");
    let script = Script::new().once("INSERT", Reply::affected("inserted", 2).loses_answer()).on("QUERY_HISTORY", refused);
    let server = SnowflakeServer::start(script.once("SELECT 42", Reply::numbers(1).loses_answer()));
    is_failure(begin(&server).await.execute("INSERT INTO t SELECT 1").await, "warehouse::connection_lost");
    assert_eq!(server.executions("INSERT"), 1);
    assert_eq!(count(&mut *begin(&server).await, "SELECT 42").await, Ok(1));
    assert_eq!(server.executions("SELECT 42"), 2, "a query may be sent again");
}

async fn is_cancelled(reply: Reply) {
    let server = with_records(Script::new().on("INSERT", reply));
    let (warehouse, cancelled) = (open(&server).await, CancellationToken::new());
    let mut session = warehouse.session(&Purpose { cancelled: cancelled.clone(), ..purpose() }).await.expect("a session");
    let begun = Instant::now();
    let (result, ()) = tokio::join!(session.execute("INSERT INTO t SELECT 1"), async {
        while server.executions("INSERT") == 0 {
            tokio::task::yield_now().await;
        }
        cancelled.cancel();
    });
    assert_eq!(is_failure(result, "warehouse::cancelled").kind, FailureKind::Cancelled);
    let query = server.queries().into_iter().find(|query| query.sql.contains("INSERT")).expect("it was executed");
    assert_eq!(server.aborted(), [query.request_id]);
    assert_eq!(server.requests_to("abort-request").len(), 1);
    ended_within(begun, 10);
}

#[tokio::test]
async fn cancellation_reaches_a_statement_that_stalls() {
    is_cancelled(Reply::done().stalls()).await;
}

#[tokio::test]
async fn cancellation_reaches_a_statement_that_runs_asynchronously() {
    is_cancelled(Reply::done().runs_until_released()).await;
}

#[tokio::test]
async fn each_statement_has_a_request_id_of_its_own() {
    let server = with_records(Script::new().on("INSERT", Reply::affected("inserted", 1)));
    let mut session = begin(&server).await;
    for _ in 0..3 {
        assert_eq!(session.execute("INSERT INTO t SELECT 1").await, Ok(1));
    }
    let ids: std::collections::BTreeSet<String> = server.queries().into_iter().map(|query| query.request_id).collect();
    assert_eq!((ids.len(), server.executions("INSERT")), (server.queries().len(), 3));
}

#[tokio::test]
async fn each_attempt_has_a_tag_of_its_own_that_names_it() {
    let server = with_records(Script::new());
    let warehouse = open(&server).await;
    for attempt in [1, 1, 2] {
        let purpose = Purpose { attempt, ..purpose() };
        drop(warehouse.session(&purpose).await.expect("a session"));
    }
    let tags: Vec<String> =
        server.logins().iter().map(|login| login.parameters["QUERY_TAG"].as_str().unwrap_or_default().to_owned()).collect();
    assert_eq!(tags.iter().collect::<std::collections::BTreeSet<_>>().len(), 3, "{tags:?}");
    let tag: serde_json::Value = serde_json::from_str(&tags[2]).expect("a tag is JSON");
    let said = &tag["errand"];
    assert_eq!(
        (said["run"].as_str(), said["job"].as_str(), said["step"].as_str(), said["attempt"].as_u64(), said["load"].as_str()),
        (Some("run"), Some("contract"), Some("step"), Some(2), Some("0123456789abcdef"))
    );
    assert_eq!(server.logins()[0].parameters["TIMEZONE"], "UTC");
}

#[tokio::test]
async fn the_time_for_a_statement_is_told_to_the_server() {
    let server = with_records(Script::new());
    let warehouse = open(&server).await;
    let limited = Purpose { statement_timeout: Some(std::time::Duration::from_secs(90)), ..purpose() };
    drop(warehouse.session(&limited).await.expect("a session"));
    assert_eq!(server.logins()[0].parameters["STATEMENT_TIMEOUT_IN_SECONDS"], 90);
}

#[tokio::test]
async fn put_and_get_are_refused_before_they_are_sent() {
    let server = with_records(Script::new());
    let mut session = begin(&server).await;
    for sql in ["PUT file:///etc/passwd @s", "-- a note\n/* and another */ get @s file:///tmp/"] {
        let failure = is_failure(session.execute(sql).await, "warehouse::refused");
        assert!(failure.help.is_some(), "{failure:?}");
    }
    assert!(server.statements().is_empty(), "{:?}", server.statements());
}

#[tokio::test]
async fn a_login_fails_for_the_reason_that_the_server_gives() {
    for script in [Script::new().wrong_user(), Script::new().locked_user(), Script::new().expired_token()] {
        let server = SnowflakeServer::start(script);
        let Err(failure) = open(&server).await.session(&purpose()).await else { panic!("it let someone in") };
        assert!(failure.code == "warehouse::authentication" && failure.help.is_some(), "{failure:?}");
        assert!(!format!("{failure:?}").contains("p@ss"), "{failure:?}");
        assert_eq!(server.requests_to("login-request").len(), 1, "another try could lock the user");
    }
}

#[tokio::test]
async fn a_login_is_tried_again_after_a_503() {
    let server = with_records(Script::new().login_unavailable(2));
    assert_eq!(count(&mut *begin(&server).await, "SELECT 1").await, Ok(1));
}

#[tokio::test]
async fn a_refusal_carries_the_query_id_and_the_line() {
    let message = "SQL compilation error:\nsyntax error line 2 at position 5 unexpected 'x'.";
    let server = with_records(Script::new().on("SELECT 1", Reply::error("001003", "42000", message)));
    let failure = is_failure(begin(&server).await.execute("SELECT 1\nFROM x x x").await, "warehouse::syntax");
    let id = &server.queries()[0].id;
    assert!(failure.message.contains(id.as_str()), "{failure}");
    assert!(failure.message.contains("\n\nLINE 2: FROM x x x\n"), "{failure}");
}
