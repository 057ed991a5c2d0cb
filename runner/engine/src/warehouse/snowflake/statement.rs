//! What one statement is, as far as sessions must know: whether it may be sent twice, and what it does to the transaction.

use errand_model::failure::{Failure, FailureKind};

/// The sort of a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// Changes nothing: may be sent again.
    Read,
    /// Opens a transaction.
    Begin,
    /// Makes it last.
    Commit,
    /// Undoes it.
    Rollback,
    /// Anything else.
    Write,
}

/// What statements leave in their session, which a session that takes its place would not have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Leaves {
    /// Nothing.
    #[default]
    Nothing,
    /// Another schema than that of the login: whoever makes a schema or a database stands in it.
    Place,
    /// Settings, variables, temporary tables.
    More,
}

impl Leaves {
    /// What is left once `sql` has ended well; `home` is the database and schema of the login, in quotes.
    pub(super) fn after(self, sql: &str, home: &str) -> Self {
        let mut rest = skip(sql);
        match word(&mut rest).as_str() {
            "USE" if self <= Self::Place && word(&mut rest) == "SCHEMA" && skip(rest).trim_end() == home => Self::Nothing,
            "USE" | "SET" | "UNSET" => Self::More,
            "ALTER" if word(&mut rest) == "SESSION" => Self::More,
            "CREATE" => self.max(Self::of_create(rest)),
            _ => self,
        }
    }

    fn of_create(mut rest: &str) -> Self {
        loop {
            match word(&mut rest).as_str() {
                "OR" | "REPLACE" | "LOCAL" | "GLOBAL" | "TRANSIENT" => {}
                "TEMP" | "TEMPORARY" | "VOLATILE" => return Self::More,
                "SCHEMA" | "DATABASE" => return Self::Place,
                _ => return Self::Nothing,
            }
        }
    }
}

/// The class of a statement by its first words.
///
/// # Errors
///
/// `warehouse::refused` for `PUT` and `GET`: the server would say that they succeeded and move nothing.
pub(super) fn classify(sql: &str) -> Result<Class, Failure> {
    let mut rest = skip(sql);
    if rest.starts_with('(') {
        return Ok(Class::Read);
    }
    let first = word(&mut rest);
    Ok(match first.as_str() {
        "SELECT" | "WITH" | "SHOW" | "DESC" | "DESCRIBE" | "EXPLAIN" | "LIST" | "LS" | "VALUES" => Class::Read,
        // `BEGIN` alone opens a transaction; before statements it opens a block of Snowflake's scripting.
        "BEGIN" => match word(&mut rest).as_str() {
            "" if rest.trim_end_matches(';').trim().is_empty() => Class::Begin,
            "TRANSACTION" | "WORK" | "NAME" => Class::Begin,
            _ => Class::Write,
        },
        "START" => Class::Begin,
        "COMMIT" => Class::Commit,
        "ROLLBACK" => Class::Rollback,
        "PUT" | "GET" => {
            let message = format!("`{first}` moves files between a stage and the machine of the client, which errand does not do");
            let failure = Failure::new(FailureKind::Permanent, "warehouse::refused", message);
            return Err(failure.help("use an `ingest` step to load files, and an `export` step to write them"));
        }
        _ => Class::Write,
    })
}

/// Whether a statement may set another query tag, by itself or by what it calls.
pub(super) fn may_set_tag(sql: &str) -> bool {
    let mut rest = skip(sql);
    match word(&mut rest).as_str() {
        "ALTER" => word(&mut rest) == "SESSION",
        "UNSET" | "CALL" | "EXECUTE" | "DECLARE" => true,
        "BEGIN" => classify(sql) == Ok(Class::Write),
        // `WITH name AS PROCEDURE ... CALL name()`.
        "WITH" => rest.to_ascii_uppercase().contains("PROCEDURE"),
        _ => false,
    }
}

/// The text from its first word on.
pub(super) fn skip(mut sql: &str) -> &str {
    loop {
        sql = sql.trim_start();
        if sql.starts_with("--") || sql.starts_with("//") {
            sql = sql.find('\n').map_or("", |end| &sql[end..]);
        } else if let Some(comment) = sql.strip_prefix("/*") {
            sql = comment.find("*/").map_or("", |end| &comment[end + 2..]);
        } else {
            return sql;
        }
    }
}

fn word(sql: &mut &str) -> String {
    let text = skip(sql);
    let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(text.len());
    *sql = &text[end..];
    text[..end].to_ascii_uppercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_changes_nothing_may_be_sent_twice() {
        for (sql, class) in [
            ("select 1", Class::Read),
            ("-- a\n/* b */ // c\n With x as (select 1) select * from x", Class::Read),
            ("(select 1)", Class::Read),
            ("insert into t select 1", Class::Write),
            ("call p()", Class::Write),
            ("copy into t from @s", Class::Write),
            ("begin", Class::Begin),
            ("BEGIN TRANSACTION", Class::Begin),
            ("start transaction", Class::Begin),
            ("begin\n let x := 1; return x; end", Class::Write),
            ("commit", Class::Commit),
            ("rollback;", Class::Rollback),
            ("", Class::Write),
        ] {
            assert_eq!(classify(sql).expect("a class"), class, "{sql}");
        }
    }

    #[test]
    fn what_stays_in_a_session_is_known() {
        let left = |statements: &[&str]| statements.iter().fold(Leaves::Nothing, |left, sql| left.after(sql, "\"D\".\"PUBLIC\""));
        for sql in [
            "use schema other",
            "-- a\nSET x = 1",
            "unset x",
            "alter session set timezone = 'UTC'",
            "create or replace temp table t (a int)",
        ] {
            assert_eq!(left(&[sql, "use schema \"D\".\"PUBLIC\""]), Leaves::More, "{sql}");
        }
        for sql in
            ["select 1", "create table t (a int)", "create or replace transient table t (a int)", "alter table t add column b int", ""]
        {
            assert_eq!(left(&[sql]), Leaves::Nothing, "{sql}");
        }
        assert_eq!(left(&["create schema if not exists x"]), Leaves::Place);
        assert_eq!(left(&["CREATE SCHEMA IF NOT EXISTS \"X\"", "USE SCHEMA \"D\".\"PUBLIC\""]), Leaves::Nothing);
        assert_eq!(left(&["CREATE DATABASE \"X\"", "USE SCHEMA \"PUBLIC\""]), Leaves::More, "the new database has one of that name");
        assert_eq!(left(&["create schema x", "use schema y"]), Leaves::More);
    }

    #[test]
    fn what_may_set_another_tag_is_known() {
        for sql in [
            "alter session set query_tag = 'finance'",
            "-- a\nALTER SESSION UNSET QUERY_TAG",
            "unset x",
            "call p()",
            "execute immediate $$ begin return 1; end $$",
            "begin\n let x := 1; return x; end",
            "declare x int; begin return 1; end",
            "with p as procedure () returns int language sql as $$ begin return 1; end $$ call p()",
        ] {
            assert!(may_set_tag(sql), "{sql}");
        }
        for sql in
            ["begin", "BEGIN TRANSACTION", "alter table t add column a int", "with x as (select 1) select * from x", "use schema s", ""]
        {
            assert!(!may_set_tag(sql), "{sql}");
        }
    }

    #[test]
    fn files_of_the_client_are_refused() {
        for sql in ["put file:///tmp/x @s", " /* x */ GET @s file:///tmp"] {
            let failure = classify(sql).expect_err("refused");
            assert_eq!((failure.code.as_str(), failure.help.is_some()), ("warehouse::refused", true));
        }
    }
}
