//! The filters of templates: a small, closed set, each bounded in what it makes.

use jiff::civil;
use jiff::fmt::strtime::BrokenDownTime;
use jiff::{Timestamp, Zoned};
use minijinja::value::ValueKind;
use minijinja::{Environment, Error, ErrorKind, Value, filters, tests};

use super::sql::{IdentifierCase, Pasted, identifier};

/// Longest text that a filter makes, in bytes.
const MAX_BYTES: usize = 256 * 1024;

/// Adds every filter and test that a template may use; the names are in [`super::FILTERS`] and [`super::TESTS`].
pub(super) fn add_all(environment: &mut Environment<'_>, case: IdentifierCase) {
    environment.add_filter("ident", move |value: &Value| ident(value, case));
    environment.add_filter("raw", raw);
    environment.add_filter("strftime", |value: &str, format: &str| strftime(value, format));
    environment.add_filter("join", join);
    environment.add_filter("replace", replace);
    environment.add_filter("lower", filters::lower);
    environment.add_filter("upper", filters::upper);
    environment.add_filter("trim", filters::trim);
    environment.add_filter("default", filters::default);
    environment.add_filter("int", filters::int);
    environment.add_filter("float", filters::float);
    environment.add_filter("length", filters::length);
    environment.add_filter("first", filters::first);
    environment.add_filter("last", filters::last);
    environment.add_test("defined", tests::is_defined);
    environment.add_test("undefined", tests::is_undefined);
    environment.add_test("none", tests::is_none);
}

/// A quoted identifier.
fn ident(value: &Value, case: IdentifierCase) -> Result<Value, Error> {
    match value.as_str() {
        Some("") => Err(invalid("an empty text is no identifier")),
        Some(text) => Ok(Value::from_object(Pasted(identifier(text, case)?))),
        None => Err(invalid(format!("{} is no identifier", value.kind()))),
    }
}

/// Text pasted as it is. Whoever writes `raw` answers for what the value holds.
fn raw(value: &Value) -> Result<Value, Error> {
    match value.kind() {
        ValueKind::String | ValueKind::Number | ValueKind::Bool => Ok(Value::from_object(Pasted(scalar(value)?))),
        kind => Err(invalid(format!("{kind} cannot be pasted"))),
    }
}

/// A date or a time, written with the signs of strftime. A time with an offset keeps its local date.
pub(super) fn strftime(value: &str, format: &str) -> Result<String, Error> {
    let parsed = if let Ok(zoned) = value.parse::<Zoned>() {
        BrokenDownTime::from(&zoned)
    } else if let Some((local, offset)) = with_offset(value) {
        let zone = jiff::tz::TimeZone::fixed(offset);
        match zone.to_zoned(local) {
            Ok(zoned) => BrokenDownTime::from(&zoned),
            Err(error) => return Err(invalid(error.to_string())),
        }
    } else if let Ok(local) = value.parse::<civil::DateTime>() {
        BrokenDownTime::from(local)
    } else if let Ok(date) = value.parse::<civil::Date>() {
        BrokenDownTime::from(date)
    } else {
        return Err(invalid(format!("`{value}` is no date or time")));
    };
    parsed.to_string(format).map_err(|error| invalid(error.to_string()))
}

/// `2026-07-01T00:00:00+01:00` as its local time and offset.
fn with_offset(value: &str) -> Option<(civil::DateTime, jiff::tz::Offset)> {
    let moment: Timestamp = value.parse().ok()?;
    let end = value.rfind(['+', '-', 'Z', 'z'])?;
    let local: civil::DateTime = value[..end].parse().ok()?;
    let seconds = local.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_second() - moment.as_second();
    Some((local, jiff::tz::Offset::from_seconds(i32::try_from(seconds).ok()?).ok()?))
}

fn join(value: &Value, separator: Option<&str>) -> Result<String, Error> {
    let mut out = String::new();
    for (index, item) in value.try_iter()?.enumerate() {
        if index > 0 {
            out.push_str(separator.unwrap_or_default());
        }
        match item.as_str() {
            Some(text) => out.push_str(text),
            None => out.push_str(&scalar(&item)?),
        }
        bounded(out.len())?;
    }
    Ok(out)
}

fn replace(value: &str, from: &str, to: &str) -> Result<String, Error> {
    if from.is_empty() {
        return Err(invalid("`replace` needs a text to look for"));
    }
    bounded(value.len().saturating_add(value.matches(from).count().saturating_mul(to.len())))?;
    Ok(value.replace(from, to))
}

/// A value as plain text.
///
/// # Errors
///
/// Lists, mappings and nothing have no plain text.
pub(super) fn scalar(value: &Value) -> Result<String, Error> {
    if let Some(pasted) = value.downcast_object_ref::<Pasted>() {
        return Ok(pasted.0.clone());
    }
    match value.kind() {
        // minijinja writes them as Python does.
        ValueKind::Bool => Ok(if value.is_true() { "true" } else { "false" }.to_owned()),
        ValueKind::String | ValueKind::Number => Ok(value.to_string()),
        ValueKind::Seq | ValueKind::Iterable => Err(invalid("a list has no plain text; write `| join(\",\")`")),
        kind => Err(invalid(format!("{kind} has no plain text"))),
    }
}

fn bounded(bytes: usize) -> Result<(), Error> {
    if bytes > MAX_BYTES { Err(invalid(format!("the text is longer than {MAX_BYTES} bytes"))) } else { Ok(()) }
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, message.into())
}

#[cfg(test)]
mod tests_of_time {
    use super::strftime;

    #[test]
    fn a_time_keeps_its_local_date() {
        assert_eq!(strftime("2026-07-01T00:30:00+01:00", "%Y%m%d").expect("valid"), "20260701");
        assert_eq!(strftime("2026-07-01T00:30:00-04:30", "%Y-%m-%dT%H:%M:%S%:z").expect("valid"), "2026-07-01T00:30:00-04:30");
        assert_eq!(strftime("2026-07-01T00:30:00Z", "%d/%m/%y").expect("valid"), "01/07/26");
        assert_eq!(strftime("2026-07-01", "%Y/%m").expect("valid"), "2026/07");
        assert!(strftime("yesterday", "%Y").is_err() && strftime("2026-07-01", "%Q").is_err());
    }
}
