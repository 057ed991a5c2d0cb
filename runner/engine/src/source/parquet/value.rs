//! One value of an array, whatever its type, and how it is written as text and as JSON.

use arrow::array::{Array, AsArray};
use arrow::datatypes::{
    DataType, Date32Type, Date64Type, Decimal32Type, Decimal64Type, Decimal128Type, Decimal256Type, Float16Type, Float32Type, Float64Type,
    Int8Type, Int16Type, Int32Type, Int64Type, Time32MillisecondType, Time32SecondType, Time64MicrosecondType, Time64NanosecondType,
    TimeUnit, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type,
    UInt32Type, UInt64Type,
};
use arrow::util::display::array_value_to_string;

use crate::output::form;

/// A value as its file has it.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value<'a> {
    Null,
    Boolean(bool),
    Integer(i128),
    /// Digits, and how many of them stand after the point.
    Decimal(i128, u8),
    Single(f32),
    Double(f64),
    Text(&'a str),
    Bytes(&'a [u8]),
    /// Days since 1970-01-01.
    Date(i32),
    /// Of a day.
    Nanos(i64),
    /// Since 1970-01-01, and whether it is a moment of UTC.
    Moment(i128, bool),
    /// A list, a record or a map as JSON.
    Nested(String),
    /// What has no type here, as text.
    Other(String),
}

/// The value of a row.
pub(super) fn value(array: &dyn Array, row: usize) -> Value<'_> {
    if array.is_null(row) {
        return Value::Null;
    }
    match array.data_type() {
        DataType::Null => Value::Null,
        DataType::Boolean => Value::Boolean(array.as_boolean().value(row)),
        DataType::Int8 => Value::Integer(array.as_primitive::<Int8Type>().value(row).into()),
        DataType::Int16 => Value::Integer(array.as_primitive::<Int16Type>().value(row).into()),
        DataType::Int32 => Value::Integer(array.as_primitive::<Int32Type>().value(row).into()),
        DataType::Int64 => Value::Integer(array.as_primitive::<Int64Type>().value(row).into()),
        DataType::UInt8 => Value::Integer(array.as_primitive::<UInt8Type>().value(row).into()),
        DataType::UInt16 => Value::Integer(array.as_primitive::<UInt16Type>().value(row).into()),
        DataType::UInt32 => Value::Integer(array.as_primitive::<UInt32Type>().value(row).into()),
        DataType::UInt64 => Value::Integer(array.as_primitive::<UInt64Type>().value(row).into()),
        DataType::Float16 => Value::Single(array.as_primitive::<Float16Type>().value(row).to_f32()),
        DataType::Float32 => Value::Single(array.as_primitive::<Float32Type>().value(row)),
        DataType::Float64 => Value::Double(array.as_primitive::<Float64Type>().value(row)),
        DataType::Decimal32(_, scale) => decimal(array.as_primitive::<Decimal32Type>().value(row).into(), *scale),
        DataType::Decimal64(_, scale) => decimal(array.as_primitive::<Decimal64Type>().value(row).into(), *scale),
        DataType::Decimal128(_, scale) => decimal(array.as_primitive::<Decimal128Type>().value(row), *scale),
        DataType::Decimal256(_, scale) => match array.as_primitive::<Decimal256Type>().value(row).to_i128() {
            Some(value) => decimal(value, *scale),
            None => other(array, row),
        },
        DataType::Utf8 => Value::Text(array.as_string::<i32>().value(row)),
        DataType::LargeUtf8 => Value::Text(array.as_string::<i64>().value(row)),
        DataType::Utf8View => Value::Text(array.as_string_view().value(row)),
        DataType::Binary => Value::Bytes(array.as_binary::<i32>().value(row)),
        DataType::LargeBinary => Value::Bytes(array.as_binary::<i64>().value(row)),
        DataType::BinaryView => Value::Bytes(array.as_binary_view().value(row)),
        DataType::FixedSizeBinary(_) => Value::Bytes(array.as_fixed_size_binary().value(row)),
        DataType::Dictionary(..) => {
            let dictionary = array.as_any_dictionary();
            dictionary.normalized_keys().get(row).map_or(Value::Null, |key| value(dictionary.values().as_ref(), *key))
        }
        data_type if data_type.is_nested() => {
            let mut out = Vec::new();
            json(&mut out, array, row);
            Value::Nested(String::from_utf8_lossy(&out).into_owned())
        }
        _ => moment(array, row),
    }
}

fn moment(array: &dyn Array, row: usize) -> Value<'_> {
    match array.data_type() {
        DataType::Date32 => Value::Date(array.as_primitive::<Date32Type>().value(row)),
        DataType::Date64 => Value::Moment(i128::from(array.as_primitive::<Date64Type>().value(row)) * 1_000_000, false),
        DataType::Time32(TimeUnit::Second) => Value::Nanos(i64::from(array.as_primitive::<Time32SecondType>().value(row)) * 1_000_000_000),
        DataType::Time32(_) => Value::Nanos(i64::from(array.as_primitive::<Time32MillisecondType>().value(row)) * 1_000_000),
        DataType::Time64(TimeUnit::Microsecond) => {
            Value::Nanos(array.as_primitive::<Time64MicrosecondType>().value(row).saturating_mul(1_000))
        }
        DataType::Time64(_) => Value::Nanos(array.as_primitive::<Time64NanosecondType>().value(row)),
        DataType::Timestamp(unit, zone) => {
            let (value, factor) = match unit {
                TimeUnit::Second => (array.as_primitive::<TimestampSecondType>().value(row), 1_000_000_000),
                TimeUnit::Millisecond => (array.as_primitive::<TimestampMillisecondType>().value(row), 1_000_000),
                TimeUnit::Microsecond => (array.as_primitive::<TimestampMicrosecondType>().value(row), 1_000),
                TimeUnit::Nanosecond => (array.as_primitive::<TimestampNanosecondType>().value(row), 1),
            };
            Value::Moment(i128::from(value) * factor, zone.is_some())
        }
        _ => other(array, row),
    }
}

fn decimal<'a>(value: i128, scale: i8) -> Value<'a> {
    match u8::try_from(scale) {
        Ok(scale) => Value::Decimal(value, scale),
        Err(_) => 10_i128
            .checked_pow(u32::from(scale.unsigned_abs()))
            .and_then(|power| value.checked_mul(power))
            .map_or_else(|| Value::Other(format!("{value}e{}", -i16::from(scale))), |value| Value::Decimal(value, 0)),
    }
}

fn other(array: &dyn Array, row: usize) -> Value<'_> {
    Value::Other(array_value_to_string(array, row).unwrap_or_default())
}

impl Value<'_> {
    /// As text: the form that an export has; NULL is `NULL`, bytes that are no text are written `\xNN`.
    pub(super) fn text(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Self::Null => out.extend_from_slice(b"NULL"),
            Self::Boolean(value) => out.extend_from_slice(if *value { b"true" } else { b"false" }),
            Self::Integer(value) => form::decimal(&mut out, *value, 0, 0),
            Self::Decimal(value, scale) => form::decimal(&mut out, *value, 0, *scale),
            Self::Single(value) => form::single(&mut out, *value),
            Self::Double(value) => form::double(&mut out, *value),
            Self::Text(text) => out.extend_from_slice(text.as_bytes()),
            Self::Bytes(bytes) => out.extend_from_slice(bytes),
            Self::Date(days) => form::date(&mut out, *days),
            Self::Nanos(nanos) => {
                form::time(&mut out, nanos / 1_000);
                below_micros(&mut out, i128::from(*nanos), i128::from(nanos / 1_000 % 1_000_000));
            }
            Self::Moment(nanos, utc) => {
                let micros = nanos.div_euclid(1_000);
                form::timestamp(&mut out, i64::try_from(micros).unwrap_or(i64::MAX), false);
                below_micros(&mut out, *nanos, micros.rem_euclid(1_000_000));
                if *utc {
                    out.extend_from_slice(b"+00");
                }
            }
            Self::Nested(text) | Self::Other(text) => out.extend_from_slice(text.as_bytes()),
        }
        out
    }

    /// As JSON: a number, a word, the nested value, or a string.
    pub(super) fn json(&self, out: &mut Vec<u8>) {
        match self {
            Self::Null => out.extend_from_slice(b"null"),
            Self::Boolean(_) | Self::Integer(_) => out.extend_from_slice(&self.text()),
            Self::Decimal(value, scale) => form::decimal(out, *value, 0, *scale),
            // Its own shortest digits, not those of the double next to it.
            Self::Single(value) if value.is_finite() => {
                let digits = self.text();
                match digits.contains(&b'e') {
                    true => form::double_json(out, f64::from(*value)),
                    false => out.extend_from_slice(&digits),
                }
            }
            Self::Single(value) => form::double_json(out, f64::from(*value)),
            Self::Double(value) => form::double_json(out, *value),
            Self::Nested(text) => out.extend_from_slice(text.as_bytes()),
            Self::Text(_) | Self::Bytes(_) | Self::Date(_) | Self::Nanos(_) | Self::Moment(..) | Self::Other(_) => {
                form::string_json(out, String::from_utf8_lossy(&self.text()).as_bytes());
            }
        }
    }
}

/// The digits after the sixth, where there are any.
fn below_micros(out: &mut Vec<u8>, nanos: i128, fraction: i128) {
    let rest = nanos.rem_euclid(1_000);
    if rest == 0 {
        return;
    }
    if fraction == 0 {
        out.push(b'.');
    }
    let at = out.iter().rposition(|byte| *byte == b'.').map_or(0, |point| out.len() - point - 1);
    out.extend(std::iter::repeat_n(b'0', 6_usize.saturating_sub(at)));
    out.extend_from_slice(format!("{rest:03}").trim_end_matches('0').as_bytes());
}

/// Appends a value, and all in it, as JSON.
fn json(out: &mut Vec<u8>, array: &dyn Array, row: usize) {
    if array.is_null(row) {
        return out.extend_from_slice(b"null");
    }
    match array.data_type() {
        DataType::List(_) => items(out, array.as_list::<i32>().value(row).as_ref()),
        DataType::LargeList(_) => items(out, array.as_list::<i64>().value(row).as_ref()),
        DataType::FixedSizeList(..) => items(out, array.as_fixed_size_list().value(row).as_ref()),
        DataType::Struct(fields) => {
            let columns = array.as_struct().columns();
            let members = fields.iter().zip(columns).map(|(field, column)| (field.name().as_bytes().to_vec(), column.as_ref(), row));
            object(out, members);
        }
        DataType::Map(..) => {
            let map = array.as_map();
            let entries = map.value(row);
            let (keys, values) = (entries.column(0), entries.column(1));
            object(out, (0..entries.len()).map(|entry| (value(keys.as_ref(), entry).text(), values.as_ref(), entry)));
        }
        _ => value(array, row).json(out),
    }
}

fn items(out: &mut Vec<u8>, list: &dyn Array) {
    out.push(b'[');
    for item in 0..list.len() {
        if item > 0 {
            out.push(b',');
        }
        json(out, list, item);
    }
    out.push(b']');
}

fn object<'a>(out: &mut Vec<u8>, members: impl Iterator<Item = (Vec<u8>, &'a dyn Array, usize)>) {
    out.push(b'{');
    for (index, (key, array, row)) in members.enumerate() {
        if index > 0 {
            out.push(b',');
        }
        form::string_json(out, String::from_utf8_lossy(&key).as_bytes());
        out.push(b':');
        json(out, array, row);
    }
    out.push(b'}');
}
