//! SQL text to single statements, by a tokenizer that knows strings, quoted identifiers, dollar quotes and comments.
//!
//! Must not judge the SQL: what a statement means is the warehouse's business.

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
pub fn split(sql: &str) -> Vec<Statement<'_>> {
    let bytes = sql.as_bytes();
    let mut statements = Vec::new();
    let (mut at, mut start) = (0, None);
    while at < bytes.len() {
        let token = Token::at(sql, at);
        match token.kind {
            TokenKind::Semicolon => {
                push(&mut statements, sql, start.take(), at);
            }
            TokenKind::Blank | TokenKind::Comment => {}
            TokenKind::Other => start = start.or(Some(at)),
        }
        at = token.end;
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

enum TokenKind {
    Semicolon,
    Blank,
    Comment,
    Other,
}

struct Token {
    kind: TokenKind,
    end: usize,
}

impl Token {
    fn at(sql: &str, at: usize) -> Self {
        let rest = &sql[at..];
        let bytes = rest.as_bytes();
        let (kind, length) = match bytes[0] {
            b';' => (TokenKind::Semicolon, 1),
            b' ' | b'\t' | b'\r' | b'\n' | b'\x0c' => (TokenKind::Blank, 1),
            b'-' if bytes.get(1) == Some(&b'-') => (TokenKind::Comment, rest.find('\n').unwrap_or(rest.len())),
            b'/' if bytes.get(1) == Some(&b'*') => (TokenKind::Comment, block_comment(bytes)),
            b'\'' | b'"' => (TokenKind::Other, quoted(bytes, bytes[0])),
            b'$' => (TokenKind::Other, dollar_quoted(rest)),
            byte if byte.is_ascii_alphanumeric() || byte == b'_' => (TokenKind::Other, word(bytes)),
            _ => other(rest),
        };
        Self { kind, end: at + length }
    }
}

/// Blanks beyond ASCII, as warehouses see them, and marks that nobody sees.
fn other(rest: &str) -> (TokenKind, usize) {
    let c = rest.chars().next().unwrap_or(' ');
    let is_blank = c.is_whitespace() || matches!(c, '\u{feff}' | '\u{200b}');
    (if is_blank { TokenKind::Blank } else { TokenKind::Other }, c.len_utf8())
}

/// A word with every byte that may follow in it, so that the `$` of `a$1` opens no quote.
fn word(bytes: &[u8]) -> usize {
    bytes.iter().position(|byte| !(byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$'))).unwrap_or(bytes.len())
}

fn quoted(bytes: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while let Some(found) = bytes[at..].iter().position(|byte| *byte == quote) {
        at += found + 1;
        if bytes.get(at) != Some(&quote) {
            return at;
        }
        at += 1;
    }
    bytes.len()
}

/// Comments nest, as in the SQL standard.
fn block_comment(bytes: &[u8]) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at + 1 < bytes.len() {
        match &bytes[at..at + 2] {
            b"/*" => (depth, at) = (depth + 1, at + 2),
            b"*/" => {
                (depth, at) = (depth - 1, at + 2);
                if depth == 0 {
                    return at;
                }
            }
            _ => at += 1,
        }
    }
    bytes.len()
}

/// `$$...$$` or `$tag$...$tag$`; a `$` that opens neither is a character like others.
fn dollar_quoted(rest: &str) -> usize {
    let Some(close) = rest[1..].find('$') else { return 1 };
    let tag = &rest[..close + 2];
    let inner = &tag[1..tag.len() - 1];
    if inner.starts_with(|c: char| c.is_ascii_digit()) || !inner.chars().all(|c| c.is_alphanumeric() || c == '_') {
        return 1;
    }
    rest[tag.len()..].find(tag).map_or(rest.len(), |end| tag.len() * 2 + end)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::split;

    fn texts(sql: &str) -> Vec<&str> {
        split(sql).into_iter().map(|statement| statement.text).collect()
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
    fn lines_count_from_the_start_of_the_text() {
        let lines: Vec<usize> = split("-- head\nselect 1;\n\nselect\n 2").into_iter().map(|statement| statement.line).collect();
        assert_eq!(lines, [2, 4]);
    }

    proptest! {
        #[test]
        fn any_text_splits_without_loss_of_statements(sql in "[a';\"$\\-/*\n ]{0,60}") {
            for statement in split(&sql) {
                prop_assert!(!statement.text.is_empty() && sql.contains(statement.text));
            }
        }
    }
}
