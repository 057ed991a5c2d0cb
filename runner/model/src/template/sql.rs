//! SQL around the values of a template: what a value looks like as a literal, and where one may stand.

use std::fmt::Write;

use minijinja::value::{Object, ValueKind};
use minijinja::{Error, ErrorKind, Value};

/// Text that stands in SQL as it is: an identifier already quoted, or text pasted with `raw`.
#[derive(Debug)]
pub struct Pasted(pub String);

impl Object for Pasted {
    fn render(self: &std::sync::Arc<Self>, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Writes a value as a SQL literal.
///
/// Text is quoted with quotes doubled, negative numbers stand in parentheses (`-{{ n }}` must not become a comment), a list is
/// a list in parentheses, an empty one `(NULL)`, which no value is in.
///
/// # Errors
///
/// A value that is no literal: undefined, a mapping, a number that is not finite, text with a NUL.
pub fn write_literal(out: &mut dyn Write, value: &Value) -> Result<(), Error> {
    if let Some(pasted) = value.downcast_object_ref::<Pasted>() {
        return Ok(out.write_str(&pasted.0)?);
    }
    match value.kind() {
        ValueKind::None => Ok(out.write_str("NULL")?),
        ValueKind::Bool => Ok(out.write_str(if value.is_true() { "TRUE" } else { "FALSE" })?),
        ValueKind::Number => write_number(out, value),
        ValueKind::String => Ok(out.write_str(&quoted(value.as_str().unwrap_or_default(), '\'')?)?),
        ValueKind::Seq | ValueKind::Iterable => {
            let mut separator = "(";
            for item in value.try_iter()? {
                out.write_str(separator)?;
                write_literal(out, &item)?;
                separator = ", ";
            }
            Ok(out.write_str(if separator == "(" { "(NULL)" } else { ")" })?)
        }
        kind => Err(Error::new(ErrorKind::InvalidOperation, format!("{kind} cannot stand in SQL"))),
    }
}

fn write_number(out: &mut dyn Write, value: &Value) -> Result<(), Error> {
    let text = value.to_string();
    if !text.contains(|c: char| c.is_ascii_digit()) {
        return Err(Error::new(ErrorKind::InvalidOperation, format!("the number {text} cannot stand in SQL")));
    }
    if text.starts_with('-') {
        write!(out, "({text})")?;
    } else {
        out.write_str(&text)?;
    }
    Ok(())
}

/// Text between quotes, with quotes inside it doubled.
///
/// # Errors
///
/// Text with a NUL, at which a C string would end.
pub fn quoted(text: &str, quote: char) -> Result<String, Error> {
    if text.contains('\0') {
        return Err(Error::new(ErrorKind::InvalidOperation, "text with a NUL character cannot stand in SQL"));
    }
    let mut out = String::with_capacity(text.len() + 2);
    out.push(quote);
    for c in text.chars() {
        if c == quote {
            out.push(quote);
        }
        out.push(c);
    }
    out.push(quote);
    Ok(out)
}

/// Where in SQL the text of a template has come to.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Within {
    /// Between tokens or in one.
    #[default]
    Code,
    /// In `'...'`; true when a backslash escapes there (`E'...'`).
    Text(bool),
    /// In `"..."`.
    Identifier,
    /// After `--`.
    LineComment,
    /// Within `/* */`, nested so often.
    BlockComment(usize),
    /// In `$tag$...$tag$`.
    Dollar(String),
}

impl Within {
    /// What a person calls it; nothing for code.
    #[must_use]
    pub const fn describe(&self) -> Option<&'static str> {
        match self {
            Self::Code => None,
            Self::Text(_) => Some("quotes"),
            Self::Identifier => Some("double quotes"),
            Self::LineComment | Self::BlockComment(_) => Some("a comment"),
            Self::Dollar(_) => Some("dollar quotes"),
        }
    }
}

/// Follows the quotes and comments of SQL over the plain parts of a template.
#[derive(Clone, Debug, Default)]
pub struct Scanner {
    /// Where it has come to.
    pub within: Within,
    /// The last character of code, to tell what a value would be glued to.
    pub last: Option<char>,
    /// The character of code before that.
    before_last: Option<char>,
}

impl Scanner {
    /// Reads on.
    pub fn read(&mut self, text: &str) {
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            let taken = match &mut self.within {
                Within::Code => self.code(rest, c),
                Within::Text(_) if rest.starts_with("''") => 2,
                Within::Text(escapes) => match c {
                    '\\' if *escapes => 1 + rest[1..].chars().next().map_or(0, char::len_utf8),
                    '\'' => self.leave('\''),
                    c => c.len_utf8(),
                },
                Within::Identifier if c == '"' => self.leave('"'),
                Within::LineComment if c == '\n' => self.leave('\n'),
                Within::BlockComment(depth) if rest.starts_with("*/") => {
                    *depth -= 1;
                    if *depth == 0 { 1 + self.leave(' ') } else { 2 }
                }
                Within::BlockComment(depth) if rest.starts_with("/*") => {
                    *depth += 1;
                    2
                }
                Within::Dollar(tag) if rest.starts_with(tag.as_str()) => {
                    let length = tag.len();
                    self.leave('$');
                    length
                }
                Within::Identifier | Within::LineComment | Within::BlockComment(_) | Within::Dollar(_) => c.len_utf8(),
            };
            rest = &rest[taken..];
        }
    }

    fn leave(&mut self, last: char) -> usize {
        self.within = Within::Code;
        self.before_last = self.last.replace(last);
        1
    }

    fn code(&mut self, rest: &str, c: char) -> usize {
        let is_word = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
        let is_prefix = !is_word(self.before_last);
        let before = self.last.replace(c);
        self.before_last = before;
        match c {
            '\'' => self.within = Within::Text(is_prefix && matches!(before, Some('e' | 'E'))),
            '"' => self.within = Within::Identifier,
            '-' if rest.starts_with("--") => self.within = Within::LineComment,
            '/' if rest.starts_with("/*") => {
                self.within = Within::BlockComment(1);
                return 2;
            }
            '$' if !is_word(before) => {
                if let Some(tag) = dollar_tag(rest) {
                    self.within = Within::Dollar(tag.to_owned());
                    return tag.len();
                }
            }
            _ => {}
        }
        c.len_utf8()
    }
}

fn dollar_tag(rest: &str) -> Option<&str> {
    let end = rest[1..].find('$')? + 1;
    let name = &rest[1..end];
    let is_name = !name.starts_with(|c: char| c.is_ascii_digit()) && name.chars().all(|c| c.is_alphanumeric() || c == '_');
    is_name.then(|| &rest[..=end])
}

#[cfg(test)]
mod tests {
    use super::{Scanner, Within, write_literal};
    use minijinja::Value;

    fn literal(value: impl Into<Value>) -> Result<String, String> {
        let mut out = String::new();
        write_literal(&mut out, &value.into()).map(|()| out).map_err(|error| error.to_string())
    }

    #[test]
    fn values_are_literals() {
        assert_eq!(literal("it's").as_deref(), Ok("'it''s'"));
        assert_eq!(literal("').drop table t;--").as_deref(), Ok("''').drop table t;--'"));
        assert_eq!(literal(-5).as_deref(), Ok("(-5)"));
        assert_eq!(literal(1.5).as_deref(), Ok("1.5"));
        assert_eq!(literal(()).as_deref(), Ok("NULL"));
        assert_eq!(literal(true).as_deref(), Ok("TRUE"));
        assert_eq!(literal(vec!["a", "b'"]).as_deref(), Ok("('a', 'b''')"));
        assert_eq!(literal(Vec::<i64>::new()).as_deref(), Ok("(NULL)"));
        assert!(
            literal("a\0b").is_err() && literal(f64::NAN).is_err() && literal(f64::INFINITY).is_err() && literal(Value::UNDEFINED).is_err()
        );
    }

    #[test]
    fn quotes_and_comments_are_followed() {
        let within = |text: &str| {
            let mut scanner = Scanner::default();
            scanner.read(text);
            scanner.within
        };
        assert_eq!(within("a = 'it''s'"), Within::Code);
        assert_eq!(within("a = '"), Within::Text(false));
        assert_eq!(within("a = E'\\'"), Within::Text(true));
        assert_eq!(within("a = E'it''s \\'"), Within::Text(true));
        assert_eq!(within("a like'\\'"), Within::Code);
        assert_eq!(within("\"a"), Within::Identifier);
        assert_eq!(within("-- it's"), Within::LineComment);
        assert_eq!(within("-- it's\n"), Within::Code);
        assert_eq!(within("/* /* */ '"), Within::BlockComment(1));
        assert_eq!(within("/* /* */ ' */ /"), Within::Code);
        assert_eq!(within("$$ ' "), Within::Dollar("$$".to_owned()));
        assert_eq!(within("$a$ ' $$ $a$ $1 a$b$c"), Within::Code);
    }
}
