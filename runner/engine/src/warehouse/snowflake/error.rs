//! What Snowflake's errors mean: a failure, a session that ended, or an outcome that nobody told us.

mod code;

use std::error::Error as _;
use std::time::Duration;

use errand_model::failure::{Failure, FailureKind};
use snowflake_connector_rs::{Error, ErrorKind};

/// Why a statement has no result.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The statement failed; its outcome is known.
    Failed(Failure),
    /// The session is over and did not take the statement.
    Expired,
    /// It never left this machine.
    Unsent(String),
    /// Nobody told what became of it.
    Unknown {
        /// Its id, where the server had given it.
        query_id: Option<String>,
        /// What broke.
        cut: Cut,
        /// What happened, for people.
        why: String,
    },
}

/// How the way to an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// The connection broke; the session may live on.
    Line,
    /// The session ended; the statement runs on, and nothing else of the session is left.
    Session,
    /// The client waited for as long as a statement may take.
    Deadline,
}

/// Who logs in, for messages.
pub(super) struct Who<'a> {
    pub(super) account: &'a str,
    pub(super) user: &'a str,
    /// Host of the server.
    pub(super) endpoint: &'a str,
}

/// Codes of a session that is over: its token not valid (390104), the session gone (390111) or expired (390112), its master token not
/// found (390113), expired (390114) or not valid (390115), the id token expired (390110).
const EXPIRED: [&str; 7] = ["390104", "390110", "390111", "390112", "390113", "390114", "390115"];

/// A session that ended this long after its login ended because of that: a login lasts an hour, and the client cannot renew it.
const LIFE: Duration = Duration::from_secs(55 * 60);

/// Characters of what a server answered.
const LONGEST: usize = 300;

const REACH: &str = "check `account` and `host`, that the name resolves, and that the network lets this machine through";

/// What an error of the client means for the statement `sql`.
pub(super) fn trouble(error: &Error, sql: &str) -> Trouble {
    let query_id = error.query_id().map(str::to_owned);
    let why = sentence(error);
    match error.kind() {
        ErrorKind::SessionExpired => expired(query_id, "the session expired"),
        ErrorKind::Server | ErrorKind::Cancelled => {
            let code = error.snowflake_code().unwrap_or_default();
            if EXPIRED.contains(&code) {
                return expired(query_id, "the session expired");
            }
            Trouble::Failed(failure(code, error.snowflake_message().unwrap_or_default(), query_id.as_deref(), sql))
        }
        ErrorKind::Network => match http_status(&why) {
            Some(401) => expired(query_id, "the session expired"),
            Some(status @ 400..=499) if !matches!(status, 403 | 404 | 408 | 429) => Trouble::Failed(internal(&why)),
            // With an id the statement was taken: what cannot connect is the question after it.
            None if query_id.is_none() && is_connect(error) => Trouble::Unsent(why),
            _ => Trouble::Unknown { query_id, cut: Cut::Line, why },
        },
        // An answer that was cut is an answer that was lost.
        ErrorKind::Timeout => {
            let cut = if why.starts_with("timed out waiting for query response") { Cut::Deadline } else { Cut::Line };
            Trouble::Unknown { query_id, cut, why }
        }
        ErrorKind::Protocol if !why.starts_with("unsupported result format") => Trouble::Unknown { query_id, cut: Cut::Line, why },
        _ => Trouble::Failed(internal(&why)),
    }
}

fn expired(query_id: Option<String>, why: &str) -> Trouble {
    // With an id, the statement was taken before the session ended, and runs on.
    match query_id {
        Some(_) => Trouble::Unknown { query_id, cut: Cut::Session, why: why.to_owned() },
        None => Trouble::Expired,
    }
}

/// Whether a login may be tried again, and the failure if it may not or has been too often.
pub(super) fn login_trouble(error: &Error, who: &Who<'_>) -> (bool, Failure) {
    let why = sentence(error);
    match error.kind() {
        ErrorKind::Network | ErrorKind::Timeout | ErrorKind::Protocol => {
            // A host of the vendor's domain answers for every name; those of no account with one of these.
            if let Some(status @ (403 | 404)) = http_status(&why) {
                let message = format!("the server at `{}` knows no Snowflake account `{}` (HTTP {status})", who.endpoint, who.account);
                let failure = Failure::new(FailureKind::Permanent, "warehouse::unreachable", message);
                return (false, failure.help("check `account`, which may need its region as in `xy12345.eu-west-1`, and `host`"));
            }
            let message = format!("cannot log in to Snowflake account `{}` at `{}`: {}", who.account, who.endpoint, shortened(&why));
            (true, Failure::new(FailureKind::Transient, "warehouse::unreachable", message).help(REACH))
        }
        ErrorKind::Auth => (false, login(error, who)),
        _ => (false, internal(&why)),
    }
}

/// The login was refused. The server's text names the reason; the secret is not part of it.
fn login(error: &Error, who: &Who<'_>) -> Failure {
    let why = sentence(error);
    if ["private key", "DER", "JWT"].iter().any(|start| why.starts_with(start)) {
        let message = format!("the private key of user `{}` of Snowflake account `{}` cannot be used: {why}", who.user, who.account);
        return Failure::new(FailureKind::Definition, "warehouse::authentication", message).help(code::login_help("private key"));
    }
    let said = flat(error.snowflake_message().unwrap_or(&why));
    let message = format!("Snowflake account `{}` refused the login of user `{}`: {said}", who.account, who.user);
    Failure::new(FailureKind::Permanent, "warehouse::authentication", message).help(code::login_help(&said))
}

/// The failure of a statement that the server refused or gave up.
pub(super) fn failure(code: &str, message: &str, query_id: Option<&str>, sql: &str) -> Failure {
    let (kind, word, help) = code::meaning(code, message);
    let mut text = format!("{} {}", padded(code), flat(message)).trim().to_owned();
    if let Some(id) = query_id {
        text = format!("{text} (query {id})");
    }
    if let Some(place) = place(message).and_then(|(line, column)| marked(sql, line, column)) {
        text += &place;
    }
    let failure = Failure::new(kind, &format!("warehouse::{word}"), text);
    if help.is_empty() { failure } else { failure.help(help) }
}

/// The codes are written with six digits.
fn padded(code: &str) -> String {
    if code.is_empty() { String::new() } else { format!("{code:0>6}:") }
}

/// One line: Snowflake breaks its messages after `SQL compilation error:`.
fn flat(message: &str) -> String {
    message.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Line from 1 and column from 0, as in `error line 3 at position 8`.
fn place(message: &str) -> Option<(usize, usize)> {
    let rest = &message[message.find("error line ")? + "error line ".len()..];
    let (line, rest) = rest.split_once(" at position ")?;
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    Some((line.trim().parse().ok()?, rest[..digits].parse().ok()?))
}

/// The tail that shows the place in the statement.
fn marked(sql: &str, line: usize, column: usize) -> Option<String> {
    let text = sql.lines().nth(line.checked_sub(1)?)?;
    let label = format!("LINE {line}: ");
    let before: String = text.chars().take(column).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
    Some(format!("\n\n{label}{text}\n{}{before}^", " ".repeat(label.len())))
}

/// The statement was ended because the run was.
pub(super) fn cancelled() -> Failure {
    Failure::new(FailureKind::Cancelled, "warehouse::cancelled", "the running statement was cancelled")
}

/// Nobody knows what became of a statement, or its transaction is gone with its session.
pub(super) fn lost(why: &str, query_id: Option<&str>) -> Failure {
    let id = query_id.map(|id| format!(" (query {id})")).unwrap_or_default();
    let message = format!("the connection to Snowflake was lost: {why}{id}");
    Failure::new(FailureKind::Transient, "warehouse::connection_lost", message)
        .help("what was not committed is undone; errand reads its ledger before it repeats anything")
}

/// A session that is over took its open transaction along, `age` after its login. One that lived for as long as a login lasts would end in the
/// same way at the next attempt.
pub(super) fn ended(age: Duration, why: &str, query_id: Option<&str>) -> Failure {
    if age < LIFE {
        return lost(why, query_id);
    }
    let message = format!(
        "the transaction was undone: a login to Snowflake lasts an hour, and its session ended after {} minutes",
        age.as_secs() / 60
    );
    Failure::new(FailureKind::Permanent, "warehouse::session_too_short", message).help(
        "do the work in less time: smaller statements, fewer of them in one step, a larger `compute_warehouse`; or say `transaction: false`, and \
         each statement commits by itself",
    )
}

pub(super) fn unreachable(why: &str) -> Failure {
    Failure::new(FailureKind::Transient, "warehouse::unreachable", format!("Snowflake cannot be reached: {why}")).help(REACH)
}

pub(super) fn internal(why: &str) -> Failure {
    Failure::new(FailureKind::Internal, "warehouse::internal", format!("unexpected answer from Snowflake: {why}"))
}

/// The error and its causes.
fn sentence(error: &Error) -> String {
    let mut text = flat(&error.to_string());
    let mut cause = error.source();
    while let Some(error) = cause {
        // The URL of a request may hold what signs it.
        let part = flat(error.to_string().split(" for url").next().unwrap_or_default());
        if !part.is_empty() && !text.contains(&part) {
            text = format!("{text}: {part}");
        }
        cause = error.source();
    }
    text
}

/// What an error page says first: the rest is markup.
fn shortened(why: &str) -> String {
    if why.chars().count() <= LONGEST { why.to_owned() } else { why.chars().take(LONGEST).chain(['.'; 3]).collect() }
}

fn http_status(text: &str) -> Option<u16> {
    let rest = &text[text.find("HTTP ")? + 5..];
    rest.get(..3)?.parse().ok()
}

fn is_connect(error: &Error) -> bool {
    let mut cause = error.source();
    while let Some(error) = cause {
        if error.downcast_ref::<reqwest::Error>().is_some_and(reqwest::Error::is_connect) {
            return true;
        }
        cause = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_syntax_error_shows_its_place() {
        let sql = "select 1,\n\tfrom x";
        let failure = failure("001003", "SQL compilation error:\nsyntax error line 2 at position 1 unexpected 'from'.", Some("01b-q"), sql);
        assert_eq!((failure.kind, failure.code.as_str()), (FailureKind::Definition, "warehouse::syntax"));
        insta::assert_snapshot!(failure.message, @r"
        001003: SQL compilation error: syntax error line 2 at position 1 unexpected 'from'. (query 01b-q)

        LINE 2: 	from x
                	^
        ");
    }

    #[test]
    fn a_transaction_that_outlives_its_login_is_not_tried_again() {
        let ended = |minutes: u64| ended(Duration::from_secs(60 * minutes), "the session ended inside the transaction", None);
        assert_eq!((ended(54).kind, ended(54).code.as_str()), (FailureKind::Transient, "warehouse::connection_lost"));
        let failure = ended(60);
        assert_eq!((failure.kind, failure.code.as_str()), (FailureKind::Permanent, "warehouse::session_too_short"));
        assert!(failure.message.ends_with("after 60 minutes") && failure.help.is_some_and(|help| help.contains("transaction: false")));
    }

    #[test]
    fn places_and_statuses_are_read() {
        assert_eq!(place("error line 12 at position 0 invalid"), Some((12, 0)));
        assert_eq!(place("no place"), None);
        assert_eq!(marked("one line", 3, 0), None);
        assert_eq!(http_status("HTTP 503: busy"), Some(503));
        assert_eq!(http_status("chunk download failed with HTTP 403: x"), Some(403));
    }
}
