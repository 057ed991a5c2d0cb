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

/// What becomes of a name that SQL holds without quotes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IdentifierCase {
    /// It is kept, or its case does not matter.
    #[default]
    Keep,
    /// It becomes lower case.
    Lower,
    /// It becomes upper case.
    Upper,
}

/// How a warehouse reads names and texts, where that differs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quoting {
    /// What becomes of names without quotes.
    pub case: IdentifierCase,
    /// Whether a backslash in `'...'` escapes what follows it.
    pub backslash: bool,
}

/// A name in double quotes: one that needs none is folded as it would be without them, any other is kept.
///
/// # Errors
///
/// A name with a NUL.
pub fn identifier(name: &str, case: IdentifierCase) -> Result<String, Error> {
    let is_plain = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '$'));
    match case {
        IdentifierCase::Lower if is_plain => quoted(&name.to_ascii_lowercase(), '"'),
        IdentifierCase::Upper if is_plain => quoted(&name.to_ascii_uppercase(), '"'),
        IdentifierCase::Keep | IdentifierCase::Lower | IdentifierCase::Upper => quoted(name, '"'),
    }
}

/// Writes a value as a SQL literal.
///
/// Text is quoted with quotes doubled, and backslashes too where they escape, negative numbers stand in parentheses (`-{{ n }}` must not become a comment), a list is
/// a list in parentheses, an empty one `(NULL)`, which no value is in.
///
/// # Errors
///
/// A value that is no literal: undefined, a mapping, a number that is not finite, text with a NUL.
pub fn write_literal(out: &mut dyn Write, value: &Value, quoting: Quoting) -> Result<(), Error> {
    if let Some(pasted) = value.downcast_object_ref::<Pasted>() {
        return Ok(out.write_str(&pasted.0)?);
    }
    match value.kind() {
        ValueKind::None => Ok(out.write_str("NULL")?),
        ValueKind::Bool => Ok(out.write_str(if value.is_true() { "TRUE" } else { "FALSE" })?),
        ValueKind::Number => write_number(out, value),
        ValueKind::String => {
            let text = quoted(value.as_str().unwrap_or_default(), '\'')?;
            Ok(out.write_str(&if quoting.backslash { text.replace('\\', "\\\\") } else { text })?)
        }
        ValueKind::Seq | ValueKind::Iterable => {
            let mut separator = "(";
            for item in value.try_iter()? {
                out.write_str(separator)?;
                write_literal(out, &item, quoting)?;
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

#[cfg(test)]
mod tests {
    use super::{IdentifierCase, Quoting, identifier, write_literal};
    use minijinja::Value;

    fn literal(value: impl Into<Value>) -> Result<String, String> {
        let mut out = String::new();
        write_literal(&mut out, &value.into(), Quoting::default()).map(|()| out).map_err(|error| error.to_string())
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
    fn a_backslash_never_eats_the_quote_after_it() {
        let literal = |text: &str| {
            let mut out = String::new();
            write_literal(&mut out, &text.into(), Quoting { backslash: true, ..Quoting::default() }).map(|()| out)
        };
        assert_eq!(literal("a\\' or 1=1 --").expect("a literal"), "'a\\\\'' or 1=1 --'");
        assert_eq!(literal("\\").expect("a literal"), "'\\\\'");
    }

    #[test]
    fn plain_names_are_folded_and_others_kept() {
        let folded = |name: &str, case| identifier(name, case).expect("a name");
        assert_eq!(folded("Orders", IdentifierCase::Keep), "\"Orders\"");
        assert_eq!(folded("Orders_$1", IdentifierCase::Upper), "\"ORDERS_$1\"");
        assert_eq!(folded("Orders", IdentifierCase::Lower), "\"orders\"");
        assert_eq!(folded("my \"Table\"", IdentifierCase::Upper), "\"my \"\"Table\"\"\"");
        assert_eq!(folded("Ação", IdentifierCase::Upper), "\"Ação\"");
        assert_eq!(folded("1a", IdentifierCase::Upper), "\"1a\"");
    }
}
