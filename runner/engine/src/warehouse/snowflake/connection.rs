//! One login: its parameters, its tag, its age.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use errand_model::failure::Failure;
use serde_json::{Value, json};
use snowflake_connector_rs::{Client, ClientConfig, EndpointConfig, Session, SessionConfig};
use tokio_util::sync::CancellationToken;

use super::account::Account;
use super::error::{self, Who};
use crate::clock::{Clock, Stopwatch};
use crate::warehouse::Purpose;

/// A token lives for an hour and the client does not renew it: between statements a session is replaced long before.
const OLD: Duration = Duration::from_secs(40 * 60);
/// A transaction cannot move to another session, so it begins in one that has most of its time left.
const OLD_FOR_TRANSACTION: Duration = Duration::from_secs(10 * 60);
/// Time for one login, the tries of the client's own included.
const LOGIN_TIMEOUT: Duration = Duration::from_secs(60);
const LOGIN_TRIES: u32 = 4;
/// Longest wait for a lock: the server's own default is twelve hours. A transaction that a lost client left open is undone by the server once it
/// keeps another one waiting and has been idle for five minutes: this wait outlives that.
/// <https://docs.snowflake.com/en/sql-reference/transactions#aborting-transactions>
const LOCK_TIMEOUT: Duration = Duration::from_secs(600);

/// A session of the server.
pub(super) struct Connection {
    pub(super) session: Session,
    /// What the server's records say of its statements.
    pub(super) tag: String,
    /// Ids of its statements whose outcome is known, or which were reads and are of no interest any more.
    pub(super) answered: BTreeSet<String>,
    /// Whether all its statements carry the tag: none of them may have set another one.
    pub(super) is_tag_kept: bool,
    age: Stopwatch,
}

impl Connection {
    /// Logs in. A login changes nothing, so what may pass is tried again.
    pub(super) async fn open(account: &Account, purpose: &Purpose, cancelled: &CancellationToken) -> Result<Self, Failure> {
        let tag = tag(purpose, &format!("{:016x}", fastrand::u64(..)));
        let client = client(account, purpose, &tag)?;
        let endpoint = match &account.endpoint {
            EndpointConfig::CustomBaseUrl(url) => url.host_str().unwrap_or_default().to_owned(),
            _ => format!("{}.snowflakecomputing.com", account.account),
        };
        let who = Who { account: &account.account, user: &account.user, endpoint: &endpoint };
        let mut tries = 1;
        loop {
            let age = Clock::system().stopwatch();
            let answer = tokio::select! {
                answer = tokio::time::timeout(LOGIN_TIMEOUT, client.create_session()) => answer,
                () = cancelled.cancelled() => return Err(error::cancelled()),
            };
            let (again, failure) = match answer {
                Ok(Ok(session)) => return Ok(Self { session, tag, answered: BTreeSet::new(), is_tag_kept: true, age }),
                Ok(Err(error)) => error::login_trouble(&error, &who),
                Err(_) => (true, error::unreachable(&format!("no answer to the login at `{endpoint}` in {} s", LOGIN_TIMEOUT.as_secs()))),
            };
            if !again || tries == LOGIN_TRIES {
                return Err(failure);
            }
            tracing::debug!(error = %failure, tries, "login is tried again");
            pause(tries, cancelled).await?;
            tries += 1;
        }
    }

    /// Time since its login began.
    pub(super) fn age(&self) -> Duration {
        self.age.elapsed()
    }

    /// Whether a statement should start in a new session.
    pub(super) fn is_old(&self, begins: bool) -> bool {
        self.age() > if begins { OLD_FOR_TRANSACTION } else { OLD }
    }
}

/// Waits before try `tries + 1`, a little longer each time.
pub(super) async fn pause(tries: u32, cancelled: &CancellationToken) -> Result<(), Failure> {
    let base = 400_u64 << tries.min(5);
    let wait = Duration::from_millis(base / 2 + fastrand::u64(..base / 2));
    tokio::select! {
        () = tokio::time::sleep(wait) => Ok(()),
        () = cancelled.cancelled() => Err(error::cancelled()),
    }
}

fn client(account: &Account, purpose: &Purpose, tag: &str) -> Result<Client, Failure> {
    let mut session = SessionConfig::new().with_database(&account.database).with_schema(&account.schema);
    if let Some(role) = &account.role {
        session = session.with_role(role);
    }
    if let Some(warehouse) = &account.compute_warehouse {
        session = session.with_warehouse(warehouse);
    }
    session = session.with_session_parameters(parameters(tag, purpose.statement_timeout));
    let config = ClientConfig::new(&account.user, &account.account, account.auth.clone())
        .with_session(session)
        .with_endpoint(account.endpoint.clone());
    Client::new(config).map_err(|error| error::internal(&error.to_string()))
}

/// The parameters of a session, so that no default of an account or a user changes what a job does.
fn parameters(tag: &str, statement_timeout: Option<Duration>) -> HashMap<String, Value> {
    let seconds = |time: Duration| time.as_secs() + u64::from(time.subsec_nanos() > 0);
    let lock = statement_timeout.map_or(LOCK_TIMEOUT, |timeout| timeout.min(LOCK_TIMEOUT));
    let moment = "YYYY-MM-DD HH24:MI:SS.FF6";
    let mut parameters: HashMap<String, Value> = [
        ("TIMEZONE", json!("UTC")),
        ("QUERY_TAG", json!(tag)),
        ("AUTOCOMMIT", json!(true)),
        // A statement whose answer is lost is followed to its end: the server must not end it five minutes after the line broke.
        ("ABORT_DETACHED_QUERY", json!(false)),
        ("CLIENT_SESSION_KEEP_ALIVE", json!(false)),
        ("LOCK_TIMEOUT", json!(seconds(lock).max(1))),
        ("QUOTED_IDENTIFIERS_IGNORE_CASE", json!(false)),
        ("ERROR_ON_NONDETERMINISTIC_MERGE", json!(true)),
        ("TIMESTAMP_TYPE_MAPPING", json!("TIMESTAMP_NTZ")),
        ("DATE_INPUT_FORMAT", json!("AUTO")),
        ("TIME_INPUT_FORMAT", json!("AUTO")),
        ("TIMESTAMP_INPUT_FORMAT", json!("AUTO")),
        ("DATE_OUTPUT_FORMAT", json!("YYYY-MM-DD")),
        ("TIME_OUTPUT_FORMAT", json!("HH24:MI:SS.FF6")),
        ("TIMESTAMP_OUTPUT_FORMAT", json!(moment)),
        ("TIMESTAMP_NTZ_OUTPUT_FORMAT", json!(moment)),
        ("TIMESTAMP_LTZ_OUTPUT_FORMAT", json!(format!("{moment}TZH:TZM"))),
        ("TIMESTAMP_TZ_OUTPUT_FORMAT", json!(format!("{moment}TZH:TZM"))),
        ("BINARY_OUTPUT_FORMAT", json!("HEX")),
        ("JSON_INDENT", json!(0)),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect();
    if let Some(timeout) = statement_timeout {
        parameters.insert("STATEMENT_TIMEOUT_IN_SECONDS".to_owned(), json!(seconds(timeout).max(1)));
    }
    parameters
}

/// The tag of a session's statements: whose they are, and a word that no other session has.
fn tag(purpose: &Purpose, session: &str) -> String {
    json!({ "errand": {
        "run": purpose.run_id, "job": purpose.job, "step": purpose.step, "attempt": purpose.attempt,
        "load": purpose.load_id, "session": session,
    } })
    .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tag_names_the_attempt_and_the_session() {
        let purpose = Purpose {
            run_id: "r1".into(),
            job: "sales".into(),
            step: "load".into(),
            attempt: 2,
            load_id: Some("abc".into()),
            ..Purpose::default()
        };
        insta::assert_snapshot!(
            tag(&purpose, "00ff"),
            @r#"{"errand":{"run":"r1","job":"sales","step":"load","attempt":2,"load":"abc","session":"00ff"}}"#
        );
    }

    #[test]
    fn the_server_ends_statements_after_whole_seconds() {
        let limit = |timeout| parameters("", timeout).remove("STATEMENT_TIMEOUT_IN_SECONDS");
        assert_eq!(limit(Some(Duration::from_millis(1500))), Some(json!(2)));
        assert_eq!(limit(Some(Duration::ZERO)), Some(json!(1)));
        assert_eq!(limit(None), None);
        assert_eq!(parameters("", Some(Duration::from_secs(5))).remove("LOCK_TIMEOUT"), Some(json!(5)));
    }
}
