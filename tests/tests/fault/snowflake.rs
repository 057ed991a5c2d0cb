//! Snowflake: logins, warehouses, stages, servers that go away.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Command;

use e2e::errand::Errand;
use e2e::program;
use e2e::snowflake_server::{Reply, Script, SnowflakeServer};

use super::{Scene, same};

const PASSWORD: &str = "a long password";

/// One statement that writes.
const STATEMENT: &str = "\n  - id: load\n    sql: { text: \"insert into t select 1\" }\n";

/// A job of one statement, against the server.
pub(super) fn scene(url: &str, credential: &str) -> Scene {
    scene_of(Errand::new().env("ERRAND_SECRET_SNOWFLAKE", PASSWORD), url, credential)
}

fn scene_of(errand: Errand, url: &str, credential: &str) -> Scene {
    let scene = Scene::new(errand, &connection(url, credential)).secret(PASSWORD);
    let port = url.rsplit(':').next().unwrap_or_default().to_owned();
    scene.project.steps(STATEMENT);
    scene.hiding(format!("127.0.0.1:{port}"), "SERVER")
}

pub(super) fn connection(url: &str, credential: &str) -> String {
    format!(
        "      warehouse: {{ snowflake: {{ account: acme, user: loader, {credential}, database: d, role: loaders, compute_warehouse: w, host: \"{url}\" }} }}\n"
    )
}

pub(super) const BY_PASSWORD: &str = "password: { secret: snowflake }";

/// A job that meets an account with this script.
#[track_caller]
fn meets(script: Script, expected: &str) -> SnowflakeServer {
    let server = SnowflakeServer::start(script);
    scene(&server.url(), BY_PASSWORD).fails(expected);
    server
}

/// An account in which nothing is done yet.
pub(super) fn fresh() -> Script {
    Script::new()
        .on("FROM _errand.ledger WHERE", Reply::rows(&[("X", "text")], &[]))
        .on("information_schema.tables", Reply::rows(&[("X", "text")], &[]))
        .on("FROM _errand.claims WHERE", Reply::rows(&[("X", "text")], &[]))
        .on("UPDATE _errand.claims", Reply::affected("updated", 1))
}

/// A fresh account that refuses the statement.
#[track_caller]
fn refuses(code: &str, state: &str, message: &str, expected: &str) {
    let server = meets(Script::new().on("insert into t", Reply::error(code, state, message)).then(fresh()), expected);
    assert_eq!((server.executions("insert into t"), server.executions("COMMIT")), (1, 0), "nothing is repeated, nothing is committed");
}

#[test]
fn a_wrong_password() {
    let server = meets(Script::new().wrong_user(), "\
17 Errand.Permanent warehouse::authentication
error connection `warehouse`: Snowflake account `acme` refused the login of user `loader`: Incorrect username or password was specified.  step=load attempt=1 code=warehouse::authentication
help: check `user`, `role` and the secret of the credential
");
    assert_eq!(server.requests_to("login-request").len(), 1, "another try could lock the user");
}

#[test]
fn a_user_who_is_locked() {
    meets(Script::new().locked_user(), "\
17 Errand.Permanent warehouse::authentication
error connection `warehouse`: Snowflake account `acme` refused the login of user `loader`: User temporarily locked. Try again later, or contact your local system administrator.  step=load attempt=1 code=warehouse::authentication
help: wait until the lock ends, or ask an administrator to unlock the user
");
}

#[test]
fn a_role_that_the_user_does_not_have() {
    let message = "Role 'LOADERS' specified in the connect string does not exist or not authorized. \
                   Contact your local system administrator, or attempt to login with another role, e.g. PUBLIC.";
    meets(Script::new().login_fails("390189", message), "\
17 Errand.Permanent warehouse::authentication
error connection `warehouse`: Snowflake account `acme` refused the login of user `loader`: Role 'LOADERS' specified in the connect string does not exist or not authorized. Contact your local system administrator, or attempt to login with another role, e.g. PUBLIC.  step=load attempt=1 code=warehouse::authentication
help: grant the role to the user, or correct `role`
");
}

#[test]
fn an_address_that_the_network_policy_keeps_out() {
    let message = "Incoming request with IP/Token 192.0.2.7 is not allowed to access Snowflake. Contact your account administrator.";
    meets(Script::new().login_fails("390422", message), "\
17 Errand.Permanent warehouse::authentication
error connection `warehouse`: Snowflake account `acme` refused the login of user `loader`: Incoming request with IP/Token 192.0.2.7 is not allowed to access Snowflake. Contact your account administrator.  step=load attempt=1 code=warehouse::authentication
help: add the address of this machine to the network policy of the account or the user
");
}

#[test]
fn an_oauth_token_that_expired() {
    let server = SnowflakeServer::start(Script::new().expired_token());
    scene(&server.url(), "oauth_token: { secret: snowflake }").fails("\
17 Errand.Permanent warehouse::authentication
error connection `warehouse`: Snowflake account `acme` refused the login of user `loader`: OAuth access token expired.  step=load attempt=1 code=warehouse::authentication
help: get a new token, and put it into the secret
");
}

#[test]
fn an_oauth_token_that_is_none() {
    let server = SnowflakeServer::start(Script::new().login_fails("390303", "Invalid OAuth access token."));
    scene(&server.url(), "oauth_token: { secret: snowflake }").fails("\
17 Errand.Permanent warehouse::authentication
error connection `warehouse`: Snowflake account `acme` refused the login of user `loader`: Invalid OAuth access token.  step=load attempt=1 code=warehouse::authentication
help: put a token that is valid for this account into the secret
");
}

#[test]
fn an_access_token_that_is_none() {
    let server = SnowflakeServer::start(Script::new().login_fails("394400", "Programmatic access token is invalid."));
    scene(&server.url(), "access_token: { secret: snowflake }").fails("\
17 Errand.Permanent warehouse::authentication
error connection `warehouse`: Snowflake account `acme` refused the login of user `loader`: Programmatic access token is invalid.  step=load attempt=1 code=warehouse::authentication
help: put a token that is valid for this account into the secret
");
}

#[test]
fn a_key_that_the_user_does_not_have() {
    let message = "JWT token is invalid. [0ce9eb56-821d-4ca9-a774-04ae89a0cf5a]";
    let server = SnowflakeServer::start(Script::new().login_fails("390144", message));
    let key = key(&["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"]);
    let middle = key.lines().nth(3).expect("a key has lines").to_owned();
    let scene = scene_of(Errand::new().env("ERRAND_SECRET_SNOWFLAKE", key), &server.url(), "private_key: { secret: snowflake }");
    scene.secret(middle).fails("\
17 Errand.Permanent warehouse::authentication
error connection `warehouse`: Snowflake account `acme` refused the login of user `loader`: JWT token is invalid. [0ce9eb56-821d-4ca9-a774-04ae89a0cf5a]  step=load attempt=1 code=warehouse::authentication
help: check `account` and `user`, that the public key is set with `ALTER USER ... SET RSA_PUBLIC_KEY`, and the clock of this machine
");
}

#[test]
fn a_key_in_another_form() {
    let server = SnowflakeServer::start(Script::new());
    let key = key(&["genrsa", "-traditional", "2048"]);
    let scene = scene_of(Errand::new().env("ERRAND_SECRET_SNOWFLAKE", key), &server.url(), "private_key: { secret: snowflake }");
    scene.fails("\
10 Errand.Definition warehouse::authentication
error connection `warehouse`: the private key in secret `snowflake` is in the PKCS#1 form  step=load attempt=1 code=warehouse::authentication
help: convert it with `openssl pkcs8 -topk8 -nocrypt -in key.pem -out key.p8`
");
    assert!(server.requests().is_empty(), "nobody was asked");
}

#[test]
fn a_key_that_is_cut() {
    let server = SnowflakeServer::start(Script::new());
    let key: String = key(&["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"]).chars().take(900).collect();
    let scene = scene_of(Errand::new().env("ERRAND_SECRET_SNOWFLAKE", key), &server.url(), "private_key: { secret: snowflake }");
    scene.fails("\
10 Errand.Definition warehouse::authentication
error connection `warehouse`: the private key of user `loader` of Snowflake account `acme` cannot be used: private key error: PKCS#8 ASN.1 error: PEM error: PEM error in pre-encapsulation boundary  step=load attempt=1 code=warehouse::authentication
help: check the key and its passphrase: a PKCS#8 file in PEM, encrypted with AES
");
}

#[test]
fn an_account_that_is_none() {
    let url = answers("404 Not Found", "<html><body>Not Found</body></html>");
    scene(&url, BY_PASSWORD).fails("\
17 Errand.Permanent warehouse::unreachable
error connection `warehouse`: the server at `127.0.0.1` knows no Snowflake account `acme` (HTTP 404)  step=load attempt=1 code=warehouse::unreachable
help: check `account`, which may need its region as in `xy12345.eu-west-1`, and `host`
");
}

#[test]
fn a_server_that_is_down_for_maintenance() {
    let server = meets(Script::new().login_unavailable(1000), "\
14 Errand.Transient warehouse::unreachable
error connection `warehouse`: cannot log in to Snowflake account `acme` at `127.0.0.1`: HTTP 503: no server is available to handle this request  step=load attempt=1 code=warehouse::unreachable
help: check `account` and `host`, that the name resolves, and that the network lets this machine through
");
    assert!(server.requests_to("login-request").len() > 1, "it is asked again");
}

#[test]
fn a_server_that_is_not_there() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    drop(listener);
    scene(&url, BY_PASSWORD).fails("\
14 Errand.Transient warehouse::unreachable
error connection `warehouse`: cannot log in to Snowflake account `acme` at `127.0.0.1`: network error: error sending request: WHY  step=load attempt=1 code=warehouse::unreachable
help: check `account` and `host`, that the name resolves, and that the network lets this machine through
");
}

#[test]
fn a_name_that_does_not_resolve() {
    scene("https://acme.invalid", BY_PASSWORD).fails("\
14 Errand.Transient warehouse::unreachable
error connection `warehouse`: cannot log in to Snowflake account `acme` at `acme.invalid`: network error: error sending request: WHY  step=load attempt=1 code=warehouse::unreachable
help: check `account` and `host`, that the name resolves, and that the network lets this machine through
");
}

#[test]
fn no_active_warehouse() {
    let message = "No active warehouse selected in the current session.  Select an active warehouse with the 'use warehouse' command.\n";
    refuses("000606", "57P03", message, "\
17 Errand.Permanent warehouse::suspended
error jobs/load/job.yaml:8: 000606: No active warehouse selected in the current session. Select an active warehouse with the 'use warehouse' command. (query ID)  step=load attempt=1 code=warehouse::suspended
help: name a `warehouse` that the role may use
");
}

#[test]
fn a_warehouse_that_is_suspended() {
    refuses(
        "000608",
        "57P03",
        "Warehouse 'W' is suspended.\nUse 'alter warehouse W resume;' command if you need to use it again.",
        "\
17 Errand.Permanent warehouse::suspended
error jobs/load/job.yaml:8: 000608: Warehouse 'W' is suspended. Use 'alter warehouse W resume;' command if you need to use it again. (query ID)  step=load attempt=1 code=warehouse::suspended
help: let it resume by itself with `ALTER WAREHOUSE ... SET AUTO_RESUME = TRUE`, or name another `warehouse`
",
    );
}

#[test]
fn a_resource_monitor_that_stopped_the_warehouse() {
    let message = "Warehouse 'W' cannot be resumed because resource monitor 'ERRAND_RM' has exceeded its quota.";
    refuses("090073", "22000", message, "\
17 Errand.Permanent warehouse::suspended
error jobs/load/job.yaml:8: 090073: Warehouse 'W' cannot be resumed because resource monitor 'ERRAND_RM' has exceeded its quota. (query ID)  step=load attempt=1 code=warehouse::suspended
help: a resource monitor stopped the warehouse: raise its quota, or name another `warehouse`
");
}

#[test]
fn a_right_that_is_missing() {
    refuses("003001", "42501", "SQL access control error:\nInsufficient privileges to operate on table 'T'", "\
17 Errand.Permanent warehouse::permission
error jobs/load/job.yaml:8: 003001: SQL access control error: Insufficient privileges to operate on table 'T' (query ID)  step=load attempt=1 code=warehouse::permission
help: grant the privilege to the role of the connection, or name another `role`
");
}

#[test]
fn an_error_of_snowflakes_own() {
    refuses(
        "000603",
        "XX000",
        "SQL execution internal error:\nProcessing aborted due to error 300010:2086363262; incident 7770609.",
        "\
14 Errand.Transient warehouse::conflict
error jobs/load/job.yaml:8: 000603: SQL execution internal error: Processing aborted due to error 300010:2086363262; incident 7770609. (query ID)  step=load attempt=1 code=warehouse::conflict
help: Snowflake had an error of its own: try again; if it stays, give the query id to its support
",
    );
}

#[test]
fn a_lock_that_is_held() {
    let message = "Statement '01bb1644-0513-b332-2247-8306a8ddf13b' has locked table 'T' in transaction 1742288905053000000 and this lock has \
                   not yet been released.\nYour statement '01bb1644-0513-b332-2247-830000000000' was aborted because of a lock timeout.";
    let tag = r#"{"errand":{"run":"r0","job":"other","step":"publish","attempt":1}}"#;
    let script = Script::new().on("insert into t", Reply::error("000625", "57014", message));
    let script = script.on("SELECT QUERY_TAG", Reply::rows(&[("QUERY_TAG", "text")], &[&[Some(tag)]])).then(fresh());
    let server = meets(script, "\
14 Errand.Transient warehouse::lock_timeout
error jobs/load/job.yaml:8: 000625: Statement '01bb1644-0513-b332-2247-8306a8ddf13b' has locked table 'T' in transaction 1742288905053000000 and this lock has not yet been released. Your statement '01bb1644-0513-b332-2247-830000000000' was aborted because of a lock timeout. (query ID)  step=load attempt=1 code=warehouse::lock_timeout
help: transaction 1742288905053000000 holds the lock: it is that of run `r0` of job `other`, step `publish`. While it is at work, let the steps run one after the other, or try again. Where it is gone, `SELECT SYSTEM$ABORT_TRANSACTION(1742288905053000000)` ends it; Snowflake does so by itself when it has been idle for five minutes
");
    assert_eq!((server.executions("insert into t"), server.executions("COMMIT")), (1, 0), "nothing is repeated, nothing is committed");
    assert_eq!(server.executions("WHERE QUERY_ID = '01bb1644-0513-b332-2247-8306a8ddf13b'"), 1, "the statement that took the lock");
}

/// A session whose master token is over takes no statement any more: the next one has a session of its own, and the job never knows.
#[test]
fn a_session_that_is_over_is_replaced() {
    let over = "Authentication token has expired.  The user must authenticate again.";
    let script = Script::new().once("FROM _errand.ledger WHERE", Reply::error("390114", "08001", over));
    let server = SnowflakeServer::start(
        script.then(fresh()).on("QUERY_HISTORY", Reply::rows(&[("QUERY_ID", "text"), ("EXECUTION_STATUS", "text")], &[])),
    );
    let scene = scene(&server.url(), BY_PASSWORD);
    scene.run().ok();
    assert_eq!((server.executions("insert into t"), server.executions("COMMIT")), (1, 1));
}

/// A key made by `openssl`.
fn key(arguments: &[&str]) -> String {
    program::stdout_of(Command::new(program::find("openssl")).args(arguments))
}

/// A server that answers every request so; its URL.
fn answers(status: &'static str, body: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("a bound listener has an address"));
    std::thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            // What the client does not hear of is what it is tested with.
            let _ = client.read(&mut [0; 64 * 1024]);
            let _ = write!(client, "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len());
        }
    });
    url
}

const COST: [(&str, &str); 3] = [("BYTES_SCANNED", "fixed"), ("CREDITS_CLOUD_SERVICES", "real"), ("CREDITS_COMPUTE", "real")];
const TWO_STEPS: &str = "
  - id: load
    sql: { text: insert into t select 1 }
  - id: more
    needs: [load]
    sql: { text: insert into u select 1 }
";

/// What its statements cost is in the report of each step; all steps share one session for the question.
#[test]
fn the_cost_of_each_step_is_in_the_report() {
    let cost = Reply::rows(&COST, &[&[Some("1048576"), Some("0.0001"), Some("0.25")]]);
    let server = SnowflakeServer::start(fresh().on("SUM(BYTES_SCANNED)", cost));
    let scene = scene(&server.url(), BY_PASSWORD);
    scene.project.steps(TWO_STEPS);
    let run = scene.run().ok();
    for step in ["load", "more"] {
        let usage = &run.attempt(step)["usage"];
        assert_eq!((usage["bytes_scanned"].as_u64(), usage["credits"].as_f64()), (Some(1 << 20), Some(0.2501)), "{step}: {usage}");
    }
    assert_eq!((server.executions("SUM(BYTES_SCANNED)"), server.logins().len()), (2, 4), "one to begin with, one a step, one to ask");
}

#[test]
fn without_rights_on_the_history_no_step_fails_and_it_is_asked_once() {
    let refused = Reply::error("002003", "02000", "Schema 'D.INFORMATION_SCHEMA' does not exist or not authorized.");
    let server = SnowflakeServer::start(fresh().on("SUM(BYTES_SCANNED)", refused));
    let scene = scene(&server.url(), BY_PASSWORD);
    scene.project.steps(TWO_STEPS);
    let run = scene.run().ok();
    assert_eq!((run.attempt("load").get("usage"), server.executions("SUM(BYTES_SCANNED)")), (None, 1));
    same(&scene.told(&run.outcome.stderr), "");
}

#[test]
fn a_history_that_does_not_answer_holds_no_step_and_the_run_for_seconds_only() {
    let server = SnowflakeServer::start(fresh().on("SUM(BYTES_SCANNED)", Reply::done().stalls()));
    let scene = scene(&server.url(), BY_PASSWORD);
    scene.project.steps(TWO_STEPS);
    let begun = std::time::Instant::now();
    let run = scene.run().ok();
    assert!(begun.elapsed() < std::time::Duration::from_secs(12), "{:?}", begun.elapsed());
    assert!(run.step("load")["duration_ms"].as_u64().is_some_and(|ms| ms < 4000), "{}", run.step("load"));
    assert_eq!(run.attempt("more").get("usage"), None);
}
