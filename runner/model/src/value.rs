//! The small values of definitions: names, durations, sizes, limits, column types, secrets.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use crate::decode::{Context, Decode, parsed};
use crate::foreign;
use crate::yaml::Node;

/// Gives a text type its decoder and its schema.
macro_rules! text_value {
    ($name:ident, $schema:tt) => {
        impl Decode for $name {
            fn decode(node: &Node, cx: &mut Context<'_>) -> Option<Self> {
                parsed(node, cx, Self::parse)
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        }
    };
}

/// The name of a job, a step, an input, a connection: `[a-z][a-z0-9_]*`, at most 48 characters.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(String);

impl Name {
    /// Longest name, in characters.
    pub const MAX: usize = 48;

    /// Parses a name.
    ///
    /// # Errors
    ///
    /// Says what a name is.
    pub fn parse(text: &str) -> Result<Self, String> {
        let valid = text.starts_with(|c: char| c.is_ascii_lowercase())
            && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
            && text.len() <= Self::MAX;
        if valid {
            Ok(Self(text.to_owned()))
        } else {
            Err(format!("a name: lower-case letters, digits and `_`, starting with a letter, at most {} characters", Self::MAX))
        }
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

text_value!(Name, { "type": "string", "pattern": "^[a-z][a-z0-9_]*$", "maxLength": 48 });

/// The name of a contact or a connection: a name that may also hold `-`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Label(String);

impl Label {
    /// Parses a label.
    ///
    /// # Errors
    ///
    /// Says what a label is.
    pub fn parse(text: &str) -> Result<Self, String> {
        Name::parse(&text.replace('-', "_"))
            .map_err(|_| "a name: lower-case letters, digits, `_` and `-`, starting with a letter".to_owned())?;
        Ok(Self(text.to_owned()))
    }

    /// The label as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

text_value!(Label, { "type": "string", "pattern": "^[a-z][a-z0-9_-]*$", "maxLength": 48 });

/// A span of time: `30s`, `10m`, `2h`, `1d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TimeSpan(pub Duration);

impl TimeSpan {
    /// Parses `<number><unit>`.
    ///
    /// # Errors
    ///
    /// Says what a duration looks like.
    pub fn parse(text: &str) -> Result<Self, String> {
        let expected = || "a duration such as `30s`, `10m`, `2h` or `1d`".to_owned();
        let split = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(expected)?;
        let number: u64 = text[..split].parse().map_err(|_| expected())?;
        let seconds = match &text[split..] {
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            "d" => 86400,
            _ => return Err(expected()),
        };
        number
            .checked_mul(seconds)
            .filter(|total| (1..=366 * 86400).contains(total))
            .map(|total| Self(Duration::from_secs(total)))
            .ok_or_else(expected)
    }
}

text_value!(TimeSpan, { "type": "string", "pattern": "^[0-9]+[smhd]$", "examples": ["30s", "10m", "2h", "1d"] });

/// A number of bytes: `512MB`, `2GB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

impl ByteSize {
    /// Parses `<number><unit>`.
    ///
    /// # Errors
    ///
    /// Says what a size looks like.
    pub fn parse(text: &str) -> Result<Self, String> {
        let expected = || "a size such as `512MB` or `2GB`".to_owned();
        let split = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(expected)?;
        let number: u64 = text[..split].parse().map_err(|_| expected())?;
        let bytes = match &text[split..] {
            "KB" => 1 << 10,
            "MB" => 1 << 20,
            "GB" => 1 << 30,
            _ => return Err(expected()),
        };
        number.checked_mul(bytes).map(Self).ok_or_else(expected)
    }
}

text_value!(ByteSize, { "type": "string", "pattern": "^[0-9]+(KB|MB|GB)$", "examples": ["512MB", "2GB"] });

/// A bound on rows: a count (`100`) or a share (`0.1%`).
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Limit {
    /// This many rows.
    Count(u64),
    /// This share of the rows, from 0 to 1.
    Share(f64),
}

impl Limit {
    /// Parses a count or a percentage.
    ///
    /// # Errors
    ///
    /// Says what a limit looks like.
    pub fn parse(text: &str) -> Result<Self, String> {
        let expected = || "a count such as `100` or a rate such as `0.1%`".to_owned();
        match text.strip_suffix('%') {
            Some(percent) => {
                let percent: f64 = percent.trim().parse().map_err(|_| expected())?;
                if (0.0..=100.0).contains(&percent) { Ok(Self::Share(percent / 100.0)) } else { Err(expected()) }
            }
            None => text.parse().map(Self::Count).map_err(|_| expected()),
        }
    }

    /// Whether `rejected` rows out of `read` are past this bound.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a share of more than 2^53 rows may be off by one row")]
    pub fn is_exceeded(self, rejected: u64, read: u64) -> bool {
        match self {
            Self::Count(most) => rejected > most,
            Self::Share(most) => rejected as f64 > most * read as f64,
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(most) => write!(f, "{most}"),
            Self::Share(most) => write!(f, "{}%", most * 100.0),
        }
    }
}

text_value!(Limit, { "type": ["integer", "string"], "examples": [0, 100, "0.1%"] });

/// A share of something: `20%`, from 0 to 1 inside.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate(pub f64);

impl Rate {
    /// Parses a percentage.
    ///
    /// # Errors
    ///
    /// Says what a rate looks like.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text.strip_suffix('%').and_then(|percent| percent.trim().parse::<f64>().ok()) {
            Some(percent) if percent >= 0.0 && percent.is_finite() => Ok(Self(percent / 100.0)),
            _ => Err("a rate such as `20%`".to_owned()),
        }
    }
}

text_value!(Rate, { "type": "string", "pattern": "^[0-9.]+ ?%$", "examples": ["20%"] });

/// The type of a column, the same words for every warehouse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ColumnType {
    /// `true` or `false`.
    Boolean,
    /// 32 bits, signed.
    Integer,
    /// 64 bits, signed.
    Bigint,
    /// Exact: digits in all, digits after the point.
    Decimal(u8, u8),
    /// 64-bit binary floating point.
    Double,
    /// UTF-8.
    Text,
    /// A calendar date.
    Date,
    /// A time of day, microseconds.
    Time,
    /// A date and a time without a zone, microseconds.
    Timestamp,
    /// A moment, microseconds, stored in UTC.
    Timestamptz,
    /// A JSON document, kept as text where the warehouse has no such type.
    Json,
}

impl ColumnType {
    /// Parses a column type.
    ///
    /// # Errors
    ///
    /// Lists the types, or suggests the one meant.
    pub fn parse(text: &str) -> Result<Self, String> {
        let lower = text.trim().to_ascii_lowercase();
        if let Some(arguments) = lower.strip_prefix("decimal(").and_then(|rest| rest.strip_suffix(')')) {
            let parts: Vec<Option<u8>> = arguments.split(',').map(|part| part.trim().parse().ok()).collect();
            return match parts.as_slice() {
                [Some(precision @ 1..=38), Some(scale)] if scale <= precision => Ok(Self::Decimal(*precision, *scale)),
                _ => {
                    Err("a decimal: `decimal(precision,scale)` with 1 to 38 digits in all and no more than that after the point".to_owned())
                }
            };
        }
        Ok(match lower.as_str() {
            "boolean" => Self::Boolean,
            "integer" => Self::Integer,
            "bigint" => Self::Bigint,
            "double" => Self::Double,
            "text" => Self::Text,
            "date" => Self::Date,
            "time" => Self::Time,
            "timestamp" => Self::Timestamp,
            "timestamptz" => Self::Timestamptz,
            "json" => Self::Json,
            other => {
                return Err(match foreign::column_type(other) {
                    Some(here) => format!("a column type: the word here is `{here}`"),
                    None => "a column type: boolean, integer, bigint, decimal(p,s), double, text, date, time, timestamp, timestamptz, json"
                        .to_owned(),
                });
            }
        })
    }
}

impl fmt::Display for ColumnType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Boolean => f.write_str("boolean"),
            Self::Integer => f.write_str("integer"),
            Self::Bigint => f.write_str("bigint"),
            Self::Decimal(precision, scale) => write!(f, "decimal({precision},{scale})"),
            Self::Double => f.write_str("double"),
            Self::Text => f.write_str("text"),
            Self::Date => f.write_str("date"),
            Self::Time => f.write_str("time"),
            Self::Timestamp => f.write_str("timestamp"),
            Self::Timestamptz => f.write_str("timestamptz"),
            Self::Json => f.write_str("json"),
        }
    }
}

text_value!(ColumnType, {
    "type": "string",
    "pattern": "^(boolean|integer|bigint|decimal\\([0-9]+, ?[0-9]+\\)|double|text|date|time|timestamp|timestamptz|json)$"
});

/// One character, or none for `""`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OneByte(pub Option<u8>);

impl OneByte {
    /// Parses one ASCII character; `\t` may be written as such.
    ///
    /// # Errors
    ///
    /// Says what is allowed.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text.as_bytes() {
            [] => Ok(Self(None)),
            [byte] if byte.is_ascii() && !matches!(byte, b'\n' | b'\r' | 0) => Ok(Self(Some(*byte))),
            b"\\t" => Ok(Self(Some(b'\t'))),
            _ => Err("one ASCII character".to_owned()),
        }
    }
}

text_value!(OneByte, { "type": "string", "maxLength": 2 });

#[cfg(test)]
mod tests {
    use super::{ColumnType, Limit, Name, TimeSpan};

    #[test]
    fn values_parse_or_say_what_they_want() {
        assert_eq!(TimeSpan::parse("10m").expect("valid").0.as_secs(), 600);
        assert!(
            TimeSpan::parse("10").is_err()
                && TimeSpan::parse("m").is_err()
                && TimeSpan::parse("0s").is_err()
                && TimeSpan::parse("99999999999999999999d").is_err()
        );
        assert_eq!(ColumnType::parse("decimal(15, 2)"), Ok(ColumnType::Decimal(15, 2)));
        assert!(ColumnType::parse("decimal(39,2)").is_err());
        assert!(ColumnType::parse("varchar").expect_err("foreign").contains("`text`"));
        assert_eq!(Limit::parse("0.1%"), Ok(Limit::Share(0.001)));
        assert!(Limit::Share(0.5).is_exceeded(6, 10) && !Limit::Share(0.5).is_exceeded(5, 10));
        assert!(
            Name::parse("a_1").is_ok() && Name::parse("A").is_err() && Name::parse("").is_err() && Name::parse(&"a".repeat(49)).is_err()
        );
    }
}
