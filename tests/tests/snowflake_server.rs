//! The scripted Snowflake server, asked by the client that the runner uses.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use e2e::snowflake_server::{Reply, Script, SnowflakeServer};
use snowflake_connector_rs::{AuthConfig, Client, ClientConfig, EndpointConfig, Error, ErrorKind, Session, SessionConfig, Statement};

async fn login(server: &SnowflakeServer) -> Result<Session, Error> {
    let session = SessionConfig::new().with_role("R").with_warehouse("W").with_session_parameter("QUERY_TAG", "a tag".into());
    let endpoint = EndpointConfig::custom_base_url(server.url().parse().expect("a URL"));
    Client::new(ClientConfig::new("someone", "account", AuthConfig::password("secret")).with_session(session).with_endpoint(endpoint))?
        .create_session()
        .await
}

async fn session(server: &SnowflakeServer) -> Session {
    login(server).await.expect("the server lets everyone in")
}

async fn values(session: &Session, sql: &str) -> Result<Vec<String>, Error> {
    let table = session.query(sql.to_owned()).await?.collect_table().await?;
    table.dynamic_rows()?.map(|row| Ok(format!("{:?}", row?.values()))).collect()
}

/// Looks again as often as the runtime has nothing else to do.
async fn executed(server: &SnowflakeServer, part: &str) {
    let looking = async {
        while server.executions(part) == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), looking).await.expect("the statement reaches the server");
}

#[tokio::test]
async fn rows_come_back_and_the_request_is_written_down() {
    let server = SnowflakeServer::start(Script::new().on("SELECT", Reply::rows(&[("A", "fixed"), ("B", "text")], &[&[Some("1"), None]])));
    let session = session(&server).await;
    let table = session.query(Statement::new("SELECT ?").bind("x")).await.unwrap().collect_table().await.unwrap();
    assert_eq!(table.row_count(), 1);
    let query = &server.queries()[0];
    assert_eq!((query.sql.as_str(), query.tag.as_str(), query.session), ("SELECT ?", "a tag", 1));
    assert_eq!(query.bindings["1"]["value"], "x");
    let login = &server.logins()[0];
    assert_eq!((login.user.as_str(), login.authenticator.as_str()), ("someone", "PASSWORD"));
    assert!(login.query.contains("roleName=R"), "{}", login.query);
    assert_eq!(server.requests_to("query-request")[0].session, Some(1));
}

#[tokio::test]
async fn an_asynchronous_answer_is_polled_for() {
    let server = SnowflakeServer::start(Script::new().on("SELECT", Reply::numbers(2).asynchronous(1)));
    assert_eq!(values(&session(&server).await, "SELECT").await.unwrap().len(), 2);
    assert_eq!(server.requests_to("/result").len(), 2);
}

#[tokio::test]
async fn chunks_come_with_their_key_after_a_503() {
    let server = SnowflakeServer::start(Script::new().on("SELECT", Reply::numbers(10).chunks_of(4).chunks_unavailable(1)));
    let rows = values(&session(&server).await, "SELECT").await.unwrap();
    assert_eq!((rows.len(), rows[9].as_str()), (10, "[Integer(9)]"));
    assert_eq!(server.requests_to("/chunks/").len(), 4);
}

#[tokio::test]
async fn a_refusal_carries_code_message_and_query_id() {
    let server = SnowflakeServer::start(Script::new().once("SELECT", Reply::error("001003", "42000", "syntax error line 1")));
    let session = session(&server).await;
    let error = values(&session, "SELECT").await.unwrap_err();
    assert_eq!(
        (error.kind(), error.snowflake_code(), error.snowflake_message()),
        (ErrorKind::Server, Some("001003"), Some("syntax error line 1"))
    );
    assert_eq!(error.query_id(), Some(server.queries()[0].id.as_str()));
    values(&session, "SELECT").await.expect("the rule was for one use");
}

#[tokio::test]
async fn a_session_expires_at_submit_and_in_mid_poll() {
    let server = SnowflakeServer::start(
        Script::new().on("SLOW", Reply::numbers(1).session_expires_at_poll()).on("GONE", Reply::done().session_expired()),
    );
    let first = session(&server).await;
    assert!(values(&first, "SLOW").await.unwrap_err().is_session_expired());
    assert!(values(&first, "OTHER").await.unwrap_err().is_session_expired());
    let second = session(&server).await;
    assert!(values(&second, "GONE").await.unwrap_err().is_session_expired());
    assert_eq!(server.statements(), ["SLOW"]);
    let third = session(&server).await;
    server.expire_sessions();
    assert!(values(&third, "OTHER").await.unwrap_err().is_session_expired());
}

#[tokio::test]
async fn a_503_at_submit_executes_nothing_and_one_at_poll_leaves_the_query() {
    let script = Script::new().on("A", Reply::done().unavailable(1)).on("B", Reply::done().asynchronous(0).polls_unavailable(1));
    let server = SnowflakeServer::start(script.on("C", Reply::done().unavailable_after_execution(1)));
    let session = session(&server).await;
    assert_eq!(values(&session, "A").await.unwrap_err().kind(), ErrorKind::Network);
    assert_eq!(server.executions("A"), 0);
    values(&session, "A").await.expect("one 503");
    assert_eq!(values(&session, "B").await.unwrap_err().kind(), ErrorKind::Network);
    assert_eq!(values(&session, "C").await.unwrap_err().kind(), ErrorKind::Network);
    assert_eq!(server.statements(), ["A", "B", "C"]);
}

#[tokio::test]
async fn a_lost_answer_leaves_an_executed_statement_that_the_history_and_result_scan_know() {
    let script = Script::new()
        .on("COMMIT", Reply::affected("inserted", 3).loses_answer())
        .on("QUERY_HISTORY", Reply::history(&["QUERY_ID", "EXECUTION_STATUS"]));
    let server = SnowflakeServer::start(script);
    let error = values(&session(&server).await, "COMMIT").await.unwrap_err();
    assert_eq!((error.kind(), error.query_id()), (ErrorKind::Network, None));
    assert_eq!(server.executions("COMMIT"), 1);
    let fresh = session(&server).await;
    let id = server.queries()[0].id.clone();
    let found = values(&fresh, "SELECT * FROM TABLE(QUERY_HISTORY()) WHERE QUERY_TAG = 'a tag'").await.unwrap();
    assert_eq!(found, [format!("[String({id:?}), String(\"SUCCESS\")]")]);
    assert_eq!(values(&fresh, &format!("SELECT * FROM TABLE(RESULT_SCAN('{id}'))")).await.unwrap(), ["[Integer(3)]"]);
}

#[tokio::test]
async fn a_stalled_statement_ends_when_it_is_aborted_and_another_when_released() {
    let server = SnowflakeServer::start(Script::new().on("STALL", Reply::done().stalls()).on("RUN", Reply::done().runs_until_released()));
    let session = session(&server).await;
    let handle = session.query_handle("STALL").unwrap();
    let (canceller, running) = (handle.canceller(), tokio::spawn(handle.execute()));
    executed(&server, "STALL").await;
    canceller.cancel().await.unwrap();
    assert!(running.await.unwrap().unwrap_err().is_cancelled());
    assert_eq!(server.aborted(), [canceller.request_id()]);
    let handle = session.query_handle("RUN").unwrap();
    let running = tokio::spawn(handle.execute());
    executed(&server, "RUN").await;
    server.release();
    tokio::time::timeout(Duration::from_secs(10), running).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn logins_fail_as_scripted() {
    for (script, word) in
        [(Script::new().wrong_user(), "Incorrect"), (Script::new().locked_user(), "locked"), (Script::new().expired_token(), "expired")]
    {
        let server = SnowflakeServer::start(script);
        let error = login(&server).await.unwrap_err();
        assert!(error.kind() == ErrorKind::Auth && error.to_string().contains(word), "{error}");
    }
    let server = SnowflakeServer::start(Script::new().login_unavailable(1));
    assert_eq!(login(&server).await.unwrap_err().kind(), ErrorKind::Network);
    session(&server).await;
}

/// What the server sends back to a submit of the first session.
fn submit(server: &SnowflakeServer, request_id: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", server.port())).expect("the server listens");
    let head = "Host: localhost\r\nAuthorization: Snowflake Token=\"session-1\"\r\nConnection: close\r\nContent-Length: 22";
    let body = r#"{"sqlText":"INSERT 1"}"#;
    write!(stream, "POST /queries/v1/query-request?requestId={request_id} HTTP/1.1\r\n{head}\r\n\r\n{body}").expect("it reads");
    let mut answer = String::new();
    // A connection that is cut gives what came before, which is nothing.
    let _ = stream.read_to_string(&mut answer);
    answer
}

#[tokio::test]
async fn a_request_id_that_comes_again_gets_the_same_answer_and_executes_once() {
    let server = SnowflakeServer::start(Script::new().on("INSERT", Reply::affected("inserted", 1).loses_answer()));
    let _session = session(&server).await;
    assert_eq!(submit(&server, "one"), "");
    let id = server.queries()[0].id.clone();
    assert!(submit(&server, "one").contains(&id));
    assert!(submit(&server, "one").contains(&id));
    assert_eq!(server.executions("INSERT"), 1);
    assert_eq!(submit(&server, "two"), "");
    assert_eq!(server.executions("INSERT"), 2);
}
