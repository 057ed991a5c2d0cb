//! What the server or the driver says, as a failure of the contract. Nothing outside this module reads an SQLSTATE.

use std::error::Error as _;

use errand_model::failure::{Failure, FailureKind, chain};
use tokio_postgres::Error;
use tokio_postgres::error::{DbError, ErrorPosition};

/// What a failure is told about: the statement as it was sent, and how much of it the author did not write.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sent<'a> {
    /// The statement of the author; empty when its places mean nothing to one.
    pub(super) sql: &'a str,
    /// Characters that were sent before it.
    pub(super) shift: usize,
}

impl<'a> Sent<'a> {
    /// A statement sent as it is.
    pub(super) const fn whole(sql: &'a str) -> Self {
        Self { sql, shift: 0 }
    }

    /// A statement that the driver wrote.
    pub(super) const fn own() -> Self {
        Self { sql: "", shift: 0 }
    }
}

/// The failure of a statement.
pub(super) fn failure(error: &Error, sent: Sent<'_>) -> Failure {
    if let Some(db) = error.as_db_error() {
        return said(db, sent);
    }
    let text = with_causes(error);
    if error.is_closed() || is_broken(error) {
        let message = format!("lost the connection to the server: {text}");
        return Failure::new(FailureKind::Transient, "warehouse::connection_lost", message)
            .help("whether the last statement took effect is not known; errand looks before it repeats anything");
    }
    Failure::new(FailureKind::Internal, "warehouse::internal", format!("the driver failed: {text}"))
}

/// Whether the connection cannot be used any more.
pub(super) fn is_broken(error: &Error) -> bool {
    let is_io = |cause: &(dyn std::error::Error + 'static)| cause.is::<std::io::Error>();
    let fatal = |db: &DbError| matches!(db.severity(), "FATAL" | "PANIC") || kind_of(db.code().code()).1 == "warehouse::connection_lost";
    match error.as_db_error() {
        Some(db) => fatal(db),
        None => error.is_closed() || error.source().is_some_and(is_io) || error.to_string().starts_with("unexpected message"),
    }
}

/// An error with its causes in one line.
pub(super) fn with_causes(error: &dyn std::error::Error) -> String {
    one_line(&chain(error))
}

/// What the server said.
pub(super) fn said(error: &DbError, sent: Sent<'_>) -> Failure {
    let code = error.code().code();
    let said = Said { code, message: error.message(), detail: error.detail().unwrap_or_default(), schema: error.schema() };
    let (kind, word) = kind_in_context(&said);
    let mut message = one_line(error.message());
    if let Some(detail) = error.detail() {
        message = format!("{message}; {}", one_line(detail));
    }
    if let Some(hint) = error.hint() {
        message = format!("{message}; hint: {}", one_line(hint));
    }
    if let Some(context) = error.where_().and_then(|context| context.lines().next()).filter(|context| !context.is_empty()) {
        message = format!("{message} (in {context})");
    }
    message = format!("{message} [{code}]");
    if let Some(ErrorPosition::Original(position)) = error.position()
        && let Some(place) = place(sent, *position as usize)
    {
        message = format!("{message}\n\n{place}");
    }
    let failure = Failure::new(kind, word, message);
    match help(code, word) {
        Some(help) => failure.help(help),
        None => failure,
    }
}

fn one_line(text: &str) -> String {
    text.split('\n').map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ")
}

/// What of an error its kind follows from.
struct Said<'a> {
    code: &'a str,
    message: &'a str,
    detail: &'a str,
    schema: Option<&'a str>,
}

fn kind_in_context(said: &Said<'_>) -> (FailureKind, &'static str) {
    let Said { code, message, .. } = *said;
    // Two sessions that make the same object at once: the slower one meets the catalog's own keys, and finds the object when it asks again.
    if code == "23505" && said.schema == Some("pg_catalog") {
        return (FailureKind::Transient, "warehouse::exists_already");
    }
    let raced = code == "XX000" && message.starts_with("tuple concurrently");
    // Redshift's message is a bare number, its detail the text: https://github.com/aws/aws-sdk-pandas/issues/665
    let is_not_serialisable = [message, said.detail].iter().any(|text| text.contains("Serializable isolation violation"));
    // A table that another transaction made or dropped after this one took its snapshot.
    let is_gone = code == "XX000" && message == "1018";
    if raced || is_not_serialisable || is_gone {
        return (FailureKind::Transient, "warehouse::conflict");
    }
    if code == "57014" && message.contains("timeout") {
        return (FailureKind::Timeout, "warehouse::statement_timeout");
    }
    kind_of(code)
}

/// The kind and the word of an SQLSTATE.
fn kind_of(code: &str) -> (FailureKind, &'static str) {
    use FailureKind::{Cancelled, Definition, Permanent, Transient};
    match code {
        "42601" => (Definition, "warehouse::syntax"),
        "42P01" | "42703" | "42883" | "42704" | "3F000" | "3D000" | "42P02" => (Permanent, "warehouse::missing_object"),
        "42501" => (Permanent, "warehouse::permission"),
        // Table, schema, column, function, anything else.
        "42P07" | "42P06" | "42701" | "42723" | "42710" => (Permanent, "warehouse::exists_already"),
        "23505" => (Permanent, "warehouse::duplicate_key"),
        "40001" | "40P01" | "55006" => (Transient, "warehouse::conflict"),
        "55P03" => (Transient, "warehouse::lock_timeout"),
        "57014" => (Cancelled, "warehouse::cancelled"),
        "53300" | "57P03" => (Transient, "warehouse::unreachable"),
        "57P01" | "57P02" | "57P04" | "57P05" | "25P03" | "25P04" | "40003" => (Transient, "warehouse::connection_lost"),
        "25006" => (Permanent, "warehouse::read_only"),
        "53100" => (Permanent, "warehouse::disk_full"),
        "53200" => (Permanent, "warehouse::out_of_memory"),
        _ if code.starts_with("08") => (Transient, "warehouse::connection_lost"),
        _ if code.starts_with("23") || code == "40002" => (Permanent, "warehouse::constraint"),
        _ if code.starts_with("28") => (Permanent, "warehouse::authentication"),
        _ if code.starts_with("22") => (Permanent, "warehouse::value"),
        _ => (Permanent, "warehouse::refused"),
    }
}

fn help(code: &str, word: &str) -> Option<&'static str> {
    Some(match (code, word) {
        ("25006", _) => "the server is a standby or read-only: connect to the primary",
        ("25P02", _) => "an earlier statement of the transaction failed; that failure is the one to mend",
        ("53300", _) => "raise `max_connections` of the server, or the limit of the role or database, or run fewer steps at a time",
        ("3D000", _) => "check `database` of the connection: it must be there before the first run",
        ("57P03", _) => "the server is starting or stopping; the next attempt may find it ready",
        ("0A000", _) => "this server has no such feature; it may be older than the one the statement was written for",
        (_, "warehouse::permission") => "grant the right to the user of the connection, or use another user",
        (_, "warehouse::missing_object") => {
            "check the spelling and the schema; a name in double quotes keeps its case, others become lower case"
        }
        ("23505", "warehouse::exists_already") => "another session made the same at the same time; the next attempt finds it",
        (_, "warehouse::conflict") => "another transaction changed the same at the same time; the next attempt may pass",
        (_, "warehouse::lock_timeout") => "another session holds the lock; see `pg_locks` for which, or try again later",
        (_, "warehouse::statement_timeout") => "give the step a longer `timeout`, or make the statement cheaper",
        (_, "warehouse::connection_lost") => "whether the last statement took effect is not known; errand looks before it repeats anything",
        (_, "warehouse::authentication") => "check `user` and the secret that `password` names, and the server's `pg_hba.conf`",
        (_, "warehouse::disk_full") => "free space on the server, or move the table to another tablespace; nothing was written",
        (_, "warehouse::out_of_memory") => "lower `work_mem` on the server, or give it more memory",
        _ => return None,
    })
}

/// `LINE n: <text>` with a caret below, for a position in characters from 1; none when it lies outside the author's text.
fn place(sent: Sent<'_>, position: usize) -> Option<String> {
    if sent.sql.is_empty() {
        return None;
    }
    let mut left = position.checked_sub(sent.shift + 1)?;
    for (number, whole) in sent.sql.split('\n').enumerate() {
        let line = whole.strip_suffix('\r').unwrap_or(whole);
        let length = whole.chars().count();
        if left <= length {
            let head = format!("LINE {}: ", number + 1);
            return Some(format!("{head}{line}\n{}^", " ".repeat(head.len() + left)));
        }
        left -= length + 1;
    }
    None
}

/// The running statement was cancelled by this runner.
pub(super) fn cancelled() -> Failure {
    Failure::new(FailureKind::Cancelled, "warehouse::cancelled", "the running statement was cancelled")
}

/// A value that the warehouse cannot hold.
pub(super) fn value(message: impl Into<String>) -> Failure {
    Failure::new(FailureKind::Permanent, "warehouse::value", message)
}

/// A defect of this driver or of its caller.
pub(super) fn internal(message: impl Into<String>) -> Failure {
    Failure::new(FailureKind::Internal, "warehouse::internal", message)
}

#[cfg(test)]
mod tests {
    use errand_model::failure::FailureKind;

    use super::{Said, Sent, kind_in_context, kind_of, place};

    #[test]
    fn a_position_counts_characters_and_becomes_line_and_caret() {
        let sql = "SELECT 'ä€',\n  zzz\r\nFROM t";
        let place_at = |position| place(Sent::whole(sql), position);
        assert_eq!(place_at(8).as_deref(), Some("LINE 1: SELECT 'ä€',\n               ^"));
        assert_eq!(place_at(16).as_deref(), Some("LINE 2:   zzz\n          ^"));
        assert_eq!(place_at(21).as_deref(), Some("LINE 3: FROM t\n        ^"));
        assert_eq!(place_at(27).as_deref(), Some("LINE 3: FROM t\n              ^"), "the end of the text");
        assert_eq!(place_at(99), None);
        assert_eq!(place_at(0), None);
    }

    #[test]
    fn what_the_driver_wrote_before_the_statement_does_not_count() {
        let sent = Sent { sql: "SELECT x", shift: 6 };
        assert_eq!(place(sent, 14).as_deref(), Some("LINE 1: SELECT x\n               ^"));
        assert_eq!(place(sent, 3), None);
        assert_eq!(place(Sent::own(), 1), None);
    }

    #[test]
    fn what_a_code_leaves_open_the_text_decides() {
        let kind = |code, message, detail, schema| kind_in_context(&Said { code, message, detail, schema });
        let conflict = (FailureKind::Transient, "warehouse::conflict");
        let violation = "Serializable isolation violation on table - 119371, transactions forming the cycle are: 1745830, 1745762";
        assert_eq!(kind("XX000", "1023", violation, None), conflict, "as Redshift says it");
        assert_eq!(kind("XX000", "1018", "Relation does not exist", None), conflict, "as Redshift says it");
        assert_eq!(kind("XX000", "tuple concurrently updated", "", None), conflict);
        let raced = (FailureKind::Transient, "warehouse::exists_already");
        assert_eq!(kind("23505", "duplicate key", "", Some("pg_catalog")), raced);
        assert_eq!(kind("23505", "duplicate key", "", Some("public")).1, "warehouse::duplicate_key");
        assert_eq!(kind("57014", "canceling statement due to statement timeout", "", None).1, "warehouse::statement_timeout");
        assert_eq!(kind("57014", "canceling statement due to user request", "", None).1, "warehouse::cancelled");
        assert_eq!(kind("XX000", "something else", "", None).1, "warehouse::refused");
    }

    #[test]
    fn sqlstates_have_their_kinds() {
        let cases = [
            ("42601", FailureKind::Definition, "warehouse::syntax"),
            ("42P01", FailureKind::Permanent, "warehouse::missing_object"),
            ("42501", FailureKind::Permanent, "warehouse::permission"),
            ("42P07", FailureKind::Permanent, "warehouse::exists_already"),
            ("42P06", FailureKind::Permanent, "warehouse::exists_already"),
            ("42710", FailureKind::Permanent, "warehouse::exists_already"),
            ("42701", FailureKind::Permanent, "warehouse::exists_already"),
            ("23505", FailureKind::Permanent, "warehouse::duplicate_key"),
            ("23502", FailureKind::Permanent, "warehouse::constraint"),
            ("22003", FailureKind::Permanent, "warehouse::value"),
            ("40001", FailureKind::Transient, "warehouse::conflict"),
            ("40P01", FailureKind::Transient, "warehouse::conflict"),
            ("55P03", FailureKind::Transient, "warehouse::lock_timeout"),
            ("57014", FailureKind::Cancelled, "warehouse::cancelled"),
            ("57P01", FailureKind::Transient, "warehouse::connection_lost"),
            ("08006", FailureKind::Transient, "warehouse::connection_lost"),
            ("53300", FailureKind::Transient, "warehouse::unreachable"),
            ("28P01", FailureKind::Permanent, "warehouse::authentication"),
            ("53100", FailureKind::Permanent, "warehouse::disk_full"),
            ("53200", FailureKind::Permanent, "warehouse::out_of_memory"),
            ("25006", FailureKind::Permanent, "warehouse::read_only"),
            ("25P02", FailureKind::Permanent, "warehouse::refused"),
            ("XX000", FailureKind::Permanent, "warehouse::refused"),
        ];
        for (code, kind, word) in cases {
            assert_eq!(kind_of(code), (kind, word), "{code}");
        }
    }
}
