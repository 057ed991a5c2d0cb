//! What a statement does to the transaction, read from its first words: the driver does not tell the state of the server's.

/// What a statement does to the open transaction when it succeeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// It opens one.
    Begin,
    /// It ends one and keeps its work.
    Commit,
    /// It ends one and undoes its work.
    Rollback,
    /// It undoes a part, and a failed transaction goes on.
    RollbackToSavepoint,
    /// It leaves it open or closed.
    None,
}

/// The effect of one statement.
pub(super) fn effect(sql: &str) -> Effect {
    let words = first_words(sql);
    let word = |at: usize| words.get(at).map_or("", String::as_str);
    match (word(0), word(1)) {
        ("begin", _) | ("start", "transaction") => Effect::Begin,
        ("commit", "prepared") | ("rollback", "prepared") => Effect::None,
        ("commit" | "end", _) | ("prepare", "transaction") => Effect::Commit,
        ("rollback", "to") => Effect::RollbackToSavepoint,
        ("rollback", "work" | "transaction") if word(2) == "to" => Effect::RollbackToSavepoint,
        ("rollback" | "abort", _) => Effect::Rollback,
        _ => Effect::None,
    }
}

/// Whether a statement is a query that may stand in parentheses after `FROM`.
pub(super) fn is_query(sql: &str) -> bool {
    let start = skip_blank(sql);
    start.starts_with('(') || matches!(first_words(sql).first().map(String::as_str), Some("select" | "with" | "values" | "table"))
}

/// Whether a statement would send rows to the client or take them from it.
pub(super) fn is_copy_with_client(sql: &str) -> bool {
    let words = || sql.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    first_words(sql).first().is_some_and(|word| word == "copy")
        && words().any(|word| word.eq_ignore_ascii_case("stdin") || word.eq_ignore_ascii_case("stdout"))
}

/// The first three words in lower case, without comments.
fn first_words(sql: &str) -> Vec<String> {
    let mut words = Vec::with_capacity(3);
    let mut rest = skip_blank(sql);
    while words.len() < 3 {
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
        if end == 0 {
            break;
        }
        words.push(rest[..end].to_ascii_lowercase());
        rest = skip_blank(&rest[end..]);
    }
    words
}

/// The text behind blanks and comments; comments nest here.
fn skip_blank(sql: &str) -> &str {
    let mut rest = sql.trim_start();
    loop {
        if let Some(comment) = rest.strip_prefix("--") {
            rest = comment.split_once('\n').map_or("", |(_, behind)| behind).trim_start();
        } else if rest.starts_with("/*") {
            rest = behind_comment(rest).trim_start();
        } else {
            return rest;
        }
    }
}

fn behind_comment(text: &str) -> &str {
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(found) = text[at..].find(['/', '*']) {
        at += found;
        if text[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if text[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return &text[at..];
            }
        } else {
            at += 1;
        }
    }
    ""
}

#[cfg(test)]
mod tests {
    use super::{Effect, effect, is_copy_with_client, is_query};

    #[test]
    fn first_words_tell_what_becomes_of_the_transaction() {
        assert_eq!(effect("BEGIN TRANSACTION"), Effect::Begin);
        assert_eq!(effect("start transaction isolation level serializable"), Effect::Begin);
        assert_eq!(effect(" -- done\n/* a /* b */ c */ Commit"), Effect::Commit);
        assert_eq!(effect("end"), Effect::Commit);
        assert_eq!(effect("ROLLBACK"), Effect::Rollback);
        assert_eq!(effect("ROLLBACK WORK TO a"), Effect::RollbackToSavepoint);
        assert_eq!(effect("rollback to savepoint a"), Effect::RollbackToSavepoint);
        assert_eq!(effect("COMMIT PREPARED 'x'"), Effect::None);
        assert_eq!(effect("SELECT 1"), Effect::None);
        assert_eq!(effect("/* open"), Effect::None);
        assert_eq!(effect(""), Effect::None);
    }

    #[test]
    fn queries_are_told_from_other_statements() {
        assert!(is_query("/* x */ (SELECT 1)") && is_query("with a as (select 1) table a") && is_query("VALUES (1)"));
        assert!(
            is_copy_with_client("copy t from\nSTDIN")
                && !is_copy_with_client("COPY t FROM '/tmp/x'")
                && !is_copy_with_client("SELECT stdin")
        );
        assert!(!is_query("SHOW timezone") && !is_query("INSERT INTO t VALUES (1)"));
    }
}
