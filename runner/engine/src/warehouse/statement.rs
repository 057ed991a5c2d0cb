//! SQL text to single statements, by a tokenizer that knows strings, quoted identifiers, dollar quotes and comments.
//!
//! Must not judge the SQL: what a statement means is the warehouse's business.

use errand_model::template::scanner::{Dialect, Piece, pieces};

/// One statement of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement<'a> {
    /// Its text, without surrounding blanks and comments before it, and without the semicolon.
    pub text: &'a str,
    /// Line of its first character in the text, from 1.
    pub line: usize,
}

/// Splits a text at the semicolons that end statements. Statements without anything but comments are left out.
#[must_use]
pub fn split(sql: &str, dialect: Dialect) -> Vec<Statement<'_>> {
    let (mut statements, mut start) = (Vec::new(), None);
    for (at, piece) in pieces(sql, dialect) {
        match piece {
            Piece::Code(';') => push(&mut statements, sql, start.take(), at),
            Piece::Code(c) if is_blank(c) => {}
            Piece::Comment => {}
            Piece::Code(_) | Piece::Quoted => start = start.or(Some(at)),
        }
    }
    push(&mut statements, sql, start, sql.len());
    statements
}

fn push<'a>(statements: &mut Vec<Statement<'a>>, sql: &'a str, start: Option<usize>, end: usize) {
    if let Some(start) = start {
        let line = sql[..start].bytes().filter(|byte| *byte == b'\n').count() + 1;
        statements.push(Statement { text: sql[start..end].trim_end(), line });
    }
}

/// Blanks, those beyond ASCII too, as warehouses see them, and marks that nobody sees.
fn is_blank(c: char) -> bool {
    c.is_whitespace() || matches!(c, '\u{feff}' | '\u{200b}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use errand_model::template::scanner::Dialect;

    use super::split;

    fn texts(sql: &str) -> Vec<&str> {
        split(sql, Dialect::Standard).into_iter().map(|statement| statement.text).collect()
    }

    #[test]
    fn semicolons_in_strings_comments_and_quotes_do_not_split() {
        assert_eq!(texts("select 'a;b''c;' ; select \"x;\"\"y\";"), ["select 'a;b''c;'", "select \"x;\"\"y\""]);
        assert_eq!(texts("-- a;b\nselect 1; /* x; /* y; */ z; */ select 2"), ["select 1", "select 2"]);
        assert_eq!(texts("select $$a;b$$, $t$ $$;$t$; select a$1; select $1"), ["select $$a;b$$, $t$ $$;$t$", "select a$1", "select $1"]);
        assert_eq!(texts("\u{feff}select 1;\u{a0}commit"), ["select 1", "commit"]);
        assert_eq!(texts(" ;; -- nothing\n /* here */ ;"), [""; 0]);
    }

    #[test]
    fn snowflake_has_its_own_comments_and_escapes() {
        let texts: Vec<&str> = split("select 'it\\'s; x'; // a; b\nselect $$ ; $$ /* /* ; */ ; select 3", Dialect::Snowflake)
            .into_iter()
            .map(|statement| statement.text)
            .collect();
        assert_eq!(texts, ["select 'it\\'s; x'", "select $$ ; $$ /* /* ; */", "select 3"]);
    }

    #[test]
    fn lines_count_from_the_start_of_the_text() {
        let lines: Vec<usize> =
            split("-- head\nselect 1;\n\nselect\n 2", Dialect::Standard).into_iter().map(|statement| statement.line).collect();
        assert_eq!(lines, [2, 4]);
    }

    proptest! {
        #[test]
        fn any_text_splits_without_loss_of_statements(sql in "[a';\"$\\-/*\n ]{0,60}") {
            for statement in split(&sql, Dialect::Standard) {
                prop_assert!(!statement.text.is_empty() && sql.contains(statement.text));
            }
        }
    }
}
