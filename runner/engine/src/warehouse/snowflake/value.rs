//! Values as the JSON results of Snowflake write them, as text for people and as numbers for Arrow.
//!
//! Dates are days since 1970, times and timestamps seconds since then with a fraction, a zone's offset after a blank.

use jiff::ToSpan as _;
use jiff::civil::{Date, DateTime};
use snowflake_connector_rs::ColumnType as Wire;

/// A value as text: `true`, `1.50`, `2026-11-20`, `2026-11-20 06:00:00.25`; with `+00` for those with a time zone. What is not understood stays.
pub(super) fn text(wire: &Wire, raw: &str) -> String {
    let understood = match wire {
        Wire::Boolean => boolean(raw).map(|value| value.to_string()),
        Wire::Date => days(raw).and_then(date_text),
        Wire::Time { .. } => micros(raw).map(time_text),
        Wire::TimestampNtz { .. } => micros(raw).and_then(moment_text),
        Wire::TimestampLtz { .. } | Wire::TimestampTz { .. } => micros(raw).and_then(moment_text).map(|text| text + "+00"),
        Wire::Variant | Wire::Object | Wire::Array => Some(compact(raw)),
        _ => None,
    };
    understood.unwrap_or_else(|| raw.to_owned())
}

/// `1` and `0`, or words.
pub(super) fn boolean(raw: &str) -> Option<bool> {
    match raw {
        "1" => Some(true),
        "0" => Some(false),
        word if word.eq_ignore_ascii_case("true") => Some(true),
        word if word.eq_ignore_ascii_case("false") => Some(false),
        _ => None,
    }
}

/// Days since 1970, or a date in words.
pub(super) fn days(raw: &str) -> Option<i32> {
    raw.parse().ok().or_else(|| {
        let date: Date = raw.parse().ok()?;
        date.since(epoch_date()).ok().map(|span| span.get_days())
    })
}

/// Microseconds of a time of day or since 1970; finer digits are cut, towards the past.
pub(super) fn micros(raw: &str) -> Option<i64> {
    let number = raw.split(' ').next()?;
    let (sign, number) = number.strip_prefix('-').map_or((1, number), |rest| (-1, rest));
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || fraction.len() > 9 || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let nanos: i128 = format!("{fraction:0<9}").parse().ok()?;
    let total = sign * (whole.parse::<i128>().ok()? * 1_000_000_000 + nanos);
    i64::try_from(total.div_euclid(1000)).ok()
}

/// An unscaled integer of a decimal with `scale` digits after the point.
pub(super) fn decimal(raw: &str, scale: u8) -> Option<i128> {
    let (sign, number) = raw.strip_prefix('-').map_or((1, raw), |rest| (-1, rest));
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let scale = usize::from(scale);
    let (kept, cut) = fraction.split_at_checked(scale).unwrap_or((fraction, ""));
    if cut.bytes().any(|byte| byte != b'0') {
        return None;
    }
    let digits = format!("{whole}{kept:0<scale$}");
    digits.parse::<i128>().ok().map(|value| sign * value)
}

/// A binary floating point number, with Snowflake's words for those that are none.
pub(super) fn double(raw: &str) -> Option<f64> {
    match raw {
        "NaN" | "nan" => Some(f64::NAN),
        "Infinity" | "inf" => Some(f64::INFINITY),
        "-Infinity" | "-inf" => Some(f64::NEG_INFINITY),
        number => number.parse().ok(),
    }
}

/// JSON without the blanks between its parts; numbers and strings stay as they are, digit for digit.
pub(super) fn compact(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    let (mut in_string, mut escaped) = (false, false);
    for c in json.chars() {
        if in_string {
            in_string = escaped || c != '"';
            escaped = !escaped && c == '\\';
            out.push(c);
        } else if !matches!(c, ' ' | '\n' | '\r' | '\t') {
            in_string = c == '"';
            out.push(c);
        }
    }
    out
}

fn epoch_date() -> Date {
    jiff::civil::date(1970, 1, 1)
}

fn date_text(days: i32) -> Option<String> {
    epoch_date().checked_add(days.days()).ok().map(|date| date.to_string())
}

fn time_text(micros: i64) -> String {
    let seconds = micros / 1_000_000;
    format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60) + &fraction(micros)
}

fn moment_text(micros: i64) -> Option<String> {
    let epoch = DateTime::from_parts(epoch_date(), jiff::civil::Time::midnight());
    let moment = epoch.checked_add(micros.div_euclid(1_000_000).seconds()).ok()?;
    Some(moment.strftime("%Y-%m-%d %H:%M:%S").to_string() + &fraction(micros))
}

fn fraction(micros: i64) -> String {
    match micros.rem_euclid(1_000_000) {
        0 => String::new(),
        fraction => format!(".{fraction:06}").trim_end_matches('0').to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_written_out_never_as_numbers() {
        for (micros, expected) in [
            ("0", "1970-01-01 00:00:00"),
            ("1700000000.123456789", "2023-11-14 22:13:20.123456"),
            ("-0.500000000", "1969-12-31 23:59:59.5"),
            ("-62135596800.000", "0001-01-01 00:00:00"),
            ("253402300799.999999", "9999-12-31 23:59:59.999999"),
            ("1700000000.000000000 1500", "2023-11-14 22:13:20"),
        ] {
            assert_eq!(super::micros(micros).and_then(moment_text).as_deref(), Some(expected), "{micros}");
        }
        assert_eq!(days("18262").and_then(date_text).as_deref(), Some("2020-01-01"));
        assert_eq!(days("-719162").and_then(date_text).as_deref(), Some("0001-01-01"));
        assert_eq!(micros("86399.999999999").map(time_text).as_deref(), Some("23:59:59.999999"));
        assert_eq!((micros(""), micros("x"), micros("1.2x")), (None, None, None));
    }

    #[test]
    fn decimals_stay_exact() {
        assert_eq!(decimal("99999999999999999999999999999999999999", 0), Some(99_999_999_999_999_999_999_999_999_999_999_999_999));
        assert_eq!(decimal("-0.01", 2), Some(-1));
        assert_eq!(decimal("5", 3), Some(5000));
        assert_eq!(decimal("1.500", 1), Some(15));
        assert_eq!((decimal("1.55", 1), decimal("x", 0)), (None, None));
    }

    #[test]
    fn json_loses_its_blanks_and_nothing_else() {
        assert_eq!(compact("{\n  \"a b\": [ 1.10, \"x \\\" y\" ]\n}"), r#"{"a b":[1.10,"x \" y"]}"#);
    }
}
