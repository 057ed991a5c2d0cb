//! What Snowflake's errors mean: a failure, a session that ended, or an outcome that nobody told us.

use std::error::Error as _;

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
        /// What happened to the connection.
        why: String,
    },
}

/// Codes of a session that is over: expired, closed, gone, or its token not known any more.
const EXPIRED: [&str; 6] = ["390111", "390112", "390114", "390104", "390110", "390115"];

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
            None if is_connect(error) => Trouble::Unsent(why),
            _ => Trouble::Unknown { query_id, why },
        },
        // An answer that was cut is an answer that was lost.
        ErrorKind::Timeout => Trouble::Unknown { query_id, why },
        ErrorKind::Protocol if !why.starts_with("unsupported result format") => Trouble::Unknown { query_id, why },
        ErrorKind::Auth => Trouble::Failed(login(error)),
        _ => Trouble::Failed(internal(&why)),
    }
}

fn expired(query_id: Option<String>, why: &str) -> Trouble {
    // With an id, the statement was taken before the session ended, and runs on.
    match query_id {
        Some(_) => Trouble::Unknown { query_id, why: why.to_owned() },
        None => Trouble::Expired,
    }
}

/// Whether a login may be tried again, and the failure if it may not or has been too often.
pub(super) fn login_trouble(error: &Error, endpoint: &str) -> (bool, Failure) {
    let why = sentence(error);
    match error.kind() {
        ErrorKind::Network | ErrorKind::Timeout | ErrorKind::Protocol => {
            let status = http_status(&why);
            let unknown_account = matches!(status, Some(403 | 404));
            let kind = if unknown_account { FailureKind::Permanent } else { FailureKind::Transient };
            let failure = Failure::new(kind, "warehouse::unreachable", format!("cannot log in to Snowflake at `{endpoint}`: {why}"));
            let help = if unknown_account {
                "no account answers there: check `account`, which may need its region as in `xy12345.eu-west-1`, and `host`"
            } else {
                "check `account` and `host`, and that this machine may reach them"
            };
            (!unknown_account, failure.help(help))
        }
        ErrorKind::Auth => (false, login(error)),
        _ => (false, internal(&why)),
    }
}

/// The login was refused. The server's text names the reason; the secret is not part of it.
fn login(error: &Error) -> Failure {
    let said = error.snowflake_message().map_or_else(|| sentence(error), str::to_owned);
    let lower = said.to_lowercase();
    let help = match () {
        () if lower.contains("jwt") => {
            "check that the public key is set with `ALTER USER ... SET RSA_PUBLIC_KEY`, and that the clock of this machine is right"
        }
        () if lower.contains("private key") => "check the key and its passphrase: a PKCS#8 file in PEM, encrypted with AES",
        () if lower.contains("expired") => "get a new token, and put it into the secret",
        () if lower.contains("role") => "grant the role to the user, or correct `role`",
        () if lower.contains("network policy") || lower.contains("ip ") => {
            "add the address of this machine to the network policy of the user"
        }
        () if lower.contains("locked") => "wait until the lock ends, or ask an administrator to unlock the user",
        () => "check `user` and the secret of its credential",
    };
    Failure::new(FailureKind::Permanent, "warehouse::authentication", format!("Snowflake refused the login: {}", flat(&said))).help(help)
}

/// The failure of a statement that the server refused or gave up.
pub(super) fn failure(code: &str, message: &str, query_id: Option<&str>, sql: &str) -> Failure {
    let (kind, word, help) = meaning(code, message);
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

/// Kind, word and help line of a code. Some codes say too little: then the text decides.
fn meaning(code: &str, message: &str) -> (FailureKind, &'static str, &'static str) {
    use FailureKind::{Cancelled, Definition, Permanent, Timeout, Transient};
    let number: u32 = code.parse().unwrap_or(0);
    match number {
        1003 | 1007 | 1008 => (Definition, "syntax", ""),
        904 => (Permanent, "missing_object", "check the name of the column; a name in quotes keeps its case"),
        2003 | 2043 | 2140 | 2141 | 2005 | 2037 => (
            Permanent,
            "missing_object",
            "check the name, and that the role may use its database and schema: Snowflake hides what it may not see",
        ),
        3001 | 3003 | 3007 | 3041 | 3079 | 3540 => (Permanent, "permission", "grant the privilege to the role of the connection"),
        2002 | 2041 => (Permanent, "refused", ""),
        100_072 => (Permanent, "constraint", ""),
        200_001 => (Permanent, "duplicate_key", ""),
        100_090 => (Permanent, "duplicate_key", "more than one row of the source matches one row of the target: make the key unique"),
        100_016 | 100_032..=100_071 | 100_073..=100_089 | 100_096 | 100_097 | 100_132 | 100_183 | 1038 | 2023 | 100_145 | 100_480 => {
            (Permanent, "value", "")
        }
        606..=608 | 611 => (
            Permanent,
            "suspended",
            "name a `warehouse` that the role may use, or let it resume by itself: `ALTER WAREHOUSE ... SET AUTO_RESUME = TRUE`",
        ),
        90_073 | 90_064 => {
            (Permanent, "suspended", "a resource monitor stopped the warehouse: raise its quota, or name another `warehouse`")
        }
        604 | 100_351 => (Cancelled, "cancelled", ""),
        603 | 300_002 | 370_001 => {
            (Transient, "conflict", "Snowflake had an error of its own: try again; if it stays, give the query id to its support")
        }
        630 => (Timeout, "statement_timeout", "give the step more time with `timeout`, or the work a larger warehouse"),
        625 => (Transient, "lock_timeout", "another transaction held the lock: let the steps run one after the other, or try again"),
        1039 | 57_014 | 90_111 => (Transient, "conflict", ""),
        390_100 | 390_101 | 390_102 | 390_103 | 390_144 | 390_186 | 390_189 | 390_195 | 390_201 | 390_303 | 390_318 | 394_300..=394_304 => {
            (Permanent, "authentication", "check `user`, its role and the secret of its credential")
        }
        90_105 => (Permanent, "missing_object", "the session has no database: check `database`, and that the role may use it"),
        261_000 => (Permanent, "refused", ""),
        _ => by_text(message),
    }
}

fn by_text(message: &str) -> (FailureKind, &'static str, &'static str) {
    let lower = message.to_lowercase();
    let has = |part: &str| lower.contains(part);
    match () {
        () if has("deadlock") || has("was aborted because") || has("transaction conflict") => (FailureKind::Transient, "conflict", ""),
        () if has("lock timeout") || has("acquire lock") => (FailureKind::Transient, "lock_timeout", ""),
        () if has("syntax error") => (FailureKind::Definition, "syntax", ""),
        () if has("insufficient privileges") || has("not authorized to") => {
            (FailureKind::Permanent, "permission", "grant the privilege to the role of the connection")
        }
        () if has("does not exist") => (FailureKind::Permanent, "missing_object", ""),
        () if has("non-nullable") || has("not null constraint") => (FailureKind::Permanent, "constraint", ""),
        () if has("duplicate row") || has("duplicate key") => (FailureKind::Permanent, "duplicate_key", ""),
        () if has("is not recognized") || has("out of representable range") || has("is too long") => (FailureKind::Permanent, "value", ""),
        () if has("access denied") || has("accessdenied") || has("failed to access remote file") => {
            (FailureKind::Permanent, "permission", "check the storage integration of the stage and the rights of its role on the bucket")
        }
        () => (FailureKind::Permanent, "refused", ""),
    }
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

pub(super) fn unreachable(why: &str) -> Failure {
    Failure::new(FailureKind::Transient, "warehouse::unreachable", format!("Snowflake cannot be reached: {why}"))
        .help("check `account` and `host`, and that this machine may reach them")
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
    fn codes_become_the_words_of_the_contract() {
        for (code, message, word) in [
            ("002003", "Object 'X' does not exist or not authorized.", "missing_object"),
            ("000904", "error line 1 at position 7 invalid identifier 'Y'", "missing_object"),
            ("003001", "Insufficient privileges to operate on schema", "permission"),
            ("100038", "Numeric value 'a' is not recognized", "value"),
            ("100072", "NULL result in a non-nullable column", "constraint"),
            ("100090", "Duplicate row detected during DML action", "duplicate_key"),
            ("000606", "No active warehouse selected in the current session.", "suspended"),
            ("090073", "Warehouse cannot be resumed because resource monitor exceeded", "suspended"),
            ("000604", "SQL execution canceled", "cancelled"),
            ("000630", "Statement reached its statement or warehouse timeout", "statement_timeout"),
            ("000625", "Statement aborted because the number of waiters or lock timeout", "lock_timeout"),
            ("390144", "JWT token is invalid.", "authentication"),
            ("999999", "Your statement was aborted because of a deadlock", "conflict"),
            ("", "something else", "refused"),
        ] {
            let failure = failure(code, message, None, "select 1");
            assert_eq!(failure.code, format!("warehouse::{word}"), "{code} {message}");
        }
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
