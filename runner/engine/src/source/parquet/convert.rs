//! Columns of a file become columns of the resolved types: every value exactly, or with a reason why not.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int32Array, Int64Array, StringArray, StringBuilder,
    Time64MicrosecondArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Decimal128Type, TimeUnit, TimestampMicrosecondType};
use errand_model::value::ColumnType;
use memchr::memchr;

use super::value::{Value, value};
use crate::source::scalar::{self, POWERS, Parsed, Reason};
use crate::source::{Origin, ResolvedColumn, json, moment, reject};

const DAY: i128 = 86_400_000_000_000;

/// The first bad value of each refused row.
#[derive(Default)]
pub(super) struct Faults {
    /// For each row, whether it is refused.
    pub(super) bad: Vec<bool>,
    /// Row, resolved column and reason; one a row.
    pub(super) list: Vec<(usize, usize, Reason)>,
}

impl Faults {
    pub(super) fn new(rows: usize) -> Self {
        Self { bad: vec![false; rows], list: Vec::new() }
    }

    /// Values that are finer than they could be read.
    pub(super) fn add_finer(&mut self, finer: &BooleanArray, array: &ArrayRef, column: usize) {
        (0..array.len()).filter(|row| finer.value(*row) && array.is_valid(*row)).for_each(|row| self.add(row, column, Reason::Fraction));
    }

    fn add(&mut self, row: usize, column: usize, reason: Reason) {
        if !self.bad[row] {
            self.bad[row] = true;
            self.list.push((row, column, reason));
        }
    }
}

/// One column on its way: where it comes from and goes to.
pub(super) struct Conversion<'a> {
    /// Which resolved column.
    pub(super) index: usize,
    pub(super) column: &'a ResolvedColumn,
    pub(super) array: &'a ArrayRef,
    pub(super) is_uuid: bool,
}

impl Conversion<'_> {
    /// The column in its resolved type. Rows with bad values get NULL and a fault.
    pub(super) fn convert(&self, faults: &mut Faults) -> ArrayRef {
        let array = self.array;
        if !self.column.nullable && array.logical_null_count() > 0 {
            (0..array.len()).filter(|row| is_null(array, *row)).for_each(|row| faults.add(row, self.index, Reason::Null));
        }
        self.as_it_is(faults).unwrap_or_else(|| self.value_by_value(faults))
    }

    /// Arrays whose type is the wanted one already.
    fn as_it_is(&self, faults: &mut Faults) -> Option<ArrayRef> {
        let array = self.array;
        match (self.column.kind, array.data_type()) {
            (ColumnType::Boolean, DataType::Boolean)
            | (ColumnType::Integer, DataType::Int32)
            | (ColumnType::Bigint, DataType::Int64)
            | (ColumnType::Double, DataType::Float64)
            | (ColumnType::Date, DataType::Date32) => Some(Arc::clone(array)),
            (ColumnType::Timestamp, DataType::Timestamp(TimeUnit::Microsecond, _)) => {
                Some(Arc::new(array.as_primitive::<TimestampMicrosecondType>().clone().with_timezone_opt(None::<&str>)))
            }
            (ColumnType::Timestamptz, DataType::Timestamp(TimeUnit::Microsecond, _)) => {
                Some(Arc::new(array.as_primitive::<TimestampMicrosecondType>().clone().with_timezone("UTC")))
            }
            (ColumnType::Decimal(precision, scale), DataType::Decimal128(found, found_scale))
                if (precision, scale.cast_signed()) == (*found, *found_scale) =>
            {
                let limit = POWERS[usize::from(precision)];
                let values = array.as_primitive::<Decimal128Type>();
                values.values().iter().all(|value| value.unsigned_abs() < limit.unsigned_abs()).then(|| Arc::clone(array))
            }
            (ColumnType::Text, DataType::Utf8View) => {
                let views = array.as_string_view();
                let mut out = StringBuilder::with_capacity(array.len(), views.total_buffer_bytes_used() + array.len() * 4);
                for (row, text) in views.iter().enumerate() {
                    if text.is_some_and(|text| memchr(0, text.as_bytes()).is_some()) {
                        faults.add(row, self.index, Reason::Form);
                        out.append_null();
                    } else {
                        out.append_option(text);
                    }
                }
                Some(Arc::new(out.finish()))
            }
            _ => None,
        }
    }

    fn value_by_value(&self, faults: &mut Faults) -> ArrayRef {
        let format = self.column.format.as_deref();
        match self.column.kind {
            ColumnType::Boolean => Arc::new(self.collect::<_, BooleanArray>(faults, boolean)),
            ColumnType::Integer => Arc::new(self.collect::<_, Int32Array>(faults, |value| match value {
                Value::Text(text) => scalar::integer(text.as_bytes()),
                value => whole(value).and_then(|value| i32::try_from(value).map_err(|_| Reason::Range)),
            })),
            ColumnType::Bigint => Arc::new(self.collect::<_, Int64Array>(faults, |value| match value {
                Value::Text(text) => scalar::bigint(text.as_bytes()),
                value => whole(value).and_then(|value| i64::try_from(value).map_err(|_| Reason::Range)),
            })),
            ColumnType::Decimal(precision, scale) => {
                let values = self.collect::<_, Decimal128Array>(faults, |value| decimal(value, precision, scale));
                match values.with_precision_and_scale(precision, scale.cast_signed()) {
                    Ok(values) => Arc::new(values),
                    // The type was checked when the definition was read.
                    Err(_) => arrow::array::new_null_array(&DataType::Decimal128(precision, scale.cast_signed()), self.array.len()),
                }
            }
            ColumnType::Double => Arc::new(self.collect::<_, Float64Array>(faults, double)),
            ColumnType::Text => Arc::new(self.collect::<_, StringArray>(faults, |value| self.text(value))),
            ColumnType::Json => Arc::new(self.collect::<_, StringArray>(faults, json_text)),
            ColumnType::Date => Arc::new(self.collect::<_, Date32Array>(faults, |value| match (value, format) {
                (Value::Text(text), None) => moment::date(text.as_bytes()),
                (Value::Text(text), Some(format)) => moment::date_as(text.as_bytes(), format),
                (Value::Date(days), _) => Ok(*days),
                (Value::Moment(nanos, _), _) if nanos.rem_euclid(DAY) == 0 => i32::try_from(nanos / DAY).map_err(|_| Reason::Range),
                _ => Err(Reason::Form),
            })),
            ColumnType::Time => Arc::new(self.collect::<_, Time64MicrosecondArray>(faults, |value| match (value, format) {
                (Value::Text(text), None) => moment::time(text.as_bytes()),
                (Value::Text(text), Some(format)) => moment::time_as(text.as_bytes(), format),
                (Value::Nanos(nanos), _) if !(0..DAY).contains(&i128::from(*nanos)) => Err(Reason::Range),
                (Value::Nanos(nanos), _) => {
                    if nanos % 1_000 == 0 {
                        Ok(nanos / 1_000)
                    } else {
                        Err(Reason::Fraction)
                    }
                }
                _ => Err(Reason::Form),
            })),
            ColumnType::Timestamp => Arc::new(self.collect::<_, TimestampMicrosecondArray>(faults, |value| match (value, format) {
                (Value::Text(text), None) => moment::timestamp(text.as_bytes(), false),
                (Value::Text(text), Some(format)) => moment::timestamp_as(text.as_bytes(), format),
                (value, _) => micros(value),
            })),
            ColumnType::Timestamptz => {
                let values = self.collect::<_, TimestampMicrosecondArray>(faults, |value| match (value, format) {
                    (Value::Text(text), None) => moment::timestamptz(text.as_bytes()),
                    (Value::Text(text), Some(format)) => moment::timestamptz_as(text.as_bytes(), format),
                    (value, _) => micros(value),
                });
                Arc::new(values.with_timezone("UTC"))
            }
        }
    }

    /// All values by one function.
    fn collect<T, A: FromIterator<Option<T>>>(&self, faults: &mut Faults, of: impl Fn(&Value<'_>) -> Parsed<T>) -> A {
        let array = self.array.as_ref();
        let rows = (0..array.len()).map(|row| match value(array, row) {
            Value::Null => None,
            value => match of(&value) {
                Ok(value) => Some(value),
                Err(reason) => {
                    faults.add(row, self.index, reason);
                    None
                }
            },
        });
        rows.collect()
    }

    fn text(&self, value: &Value<'_>) -> Parsed<String> {
        let text: Cow<'_, [u8]> = match value {
            Value::Bytes(bytes) if self.is_uuid => return Ok(uuid(bytes)),
            Value::Bytes(bytes) => Cow::Borrowed(*bytes),
            Value::Text(text) => Cow::Borrowed(text.as_bytes()),
            value => Cow::Owned(value.text()),
        };
        if memchr(0, &text).is_some() {
            return Err(Reason::Form);
        }
        String::from_utf8(text.into_owned()).map_err(|_| Reason::Form)
    }
}

fn is_null(array: &ArrayRef, row: usize) -> bool {
    array.data_type() == &DataType::Null || array.is_null(row)
}

fn boolean(value: &Value<'_>) -> Parsed<bool> {
    match value {
        Value::Boolean(value) => Ok(*value),
        Value::Text(text) => scalar::boolean(text.as_bytes()),
        value => match whole(value)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Reason::Range),
        },
    }
}

/// A number without a fraction.
fn whole(value: &Value<'_>) -> Parsed<i128> {
    match value {
        Value::Boolean(value) => Ok(i128::from(*value)),
        Value::Integer(value) => Ok(*value),
        Value::Decimal(value, scale) => {
            let power = POWERS.get(usize::from(*scale)).copied().unwrap_or(i128::MAX);
            if value % power == 0 { Ok(value / power) } else { Err(Reason::Scale) }
        }
        Value::Single(value) => whole(&Value::Double(f64::from(*value))),
        #[expect(clippy::cast_possible_truncation, reason = "it has no fraction and is within the range of a bigint")]
        Value::Double(value) if value.is_finite() && value.fract() == 0.0 => {
            if value.abs() <= 9.3e18 {
                Ok(*value as i128)
            } else {
                Err(Reason::Range)
            }
        }
        Value::Double(value) => Err(if value.is_finite() { Reason::Scale } else { Reason::Form }),
        Value::Nested(_) => Err(Reason::Nested),
        _ => Err(Reason::Form),
    }
}

fn decimal(value: &Value<'_>, precision: u8, scale: u8) -> Parsed<i128> {
    match value {
        Value::Text(text) => scalar::decimal(text.as_bytes(), precision, scale),
        // The shortest digits that mean this very number, as any text of it would have them.
        Value::Single(value) if value.is_finite() => scalar::decimal(value.to_string().as_bytes(), precision, scale),
        Value::Double(value) if value.is_finite() => scalar::decimal(value.to_string().as_bytes(), precision, scale),
        Value::Decimal(value, found) => rescaled(*value, *found, precision, scale),
        value => rescaled(whole(value)?, 0, precision, scale),
    }
}

fn rescaled(value: i128, found: u8, precision: u8, scale: u8) -> Parsed<i128> {
    let value = if found > scale {
        let power = POWERS.get(usize::from(found - scale)).copied().unwrap_or(i128::MAX);
        if value % power != 0 {
            return Err(Reason::Scale);
        }
        value / power
    } else {
        value.checked_mul(POWERS[usize::from(scale - found)]).ok_or(Reason::Precision)?
    };
    if value.unsigned_abs() < POWERS[usize::from(precision)].unsigned_abs() { Ok(value) } else { Err(Reason::Precision) }
}

fn double(value: &Value<'_>) -> Parsed<f64> {
    match value {
        Value::Text(text) => scalar::double(text.as_bytes()),
        Value::Single(value) => Ok(f64::from(*value)),
        Value::Double(value) => Ok(*value),
        Value::Decimal(digits, scale) => {
            let text = value.text();
            let found: f64 = std::str::from_utf8(&text).ok().and_then(|text| text.parse().ok()).ok_or(Reason::Form)?;
            let back = scalar::decimal(found.to_string().as_bytes(), 38, *scale);
            if back == Ok(*digits) { Ok(found) } else { Err(Reason::Precision) }
        }
        value => {
            let whole = whole(value)?;
            #[expect(clippy::cast_precision_loss, reason = "what is lost is looked at")]
            let found = whole as f64;
            #[expect(clippy::cast_possible_truncation, reason = "the very same number is meant")]
            if found as i128 == whole { Ok(found) } else { Err(Reason::Precision) }
        }
    }
}

fn micros(value: &Value<'_>) -> Parsed<i64> {
    let nanos = match value {
        Value::Date(days) => i128::from(*days) * DAY,
        Value::Moment(nanos, _) => *nanos,
        Value::Nested(_) => return Err(Reason::Nested),
        _ => return Err(Reason::Form),
    };
    if nanos % 1_000 != 0 {
        return Err(Reason::Fraction);
    }
    i64::try_from(nanos / 1_000).map_err(|_| Reason::Range)
}

fn json_text(value: &Value<'_>) -> Parsed<String> {
    let text: Cow<'_, [u8]> = match value {
        Value::Text(text) => Cow::Borrowed(text.as_bytes()),
        Value::Bytes(bytes) => Cow::Borrowed(*bytes),
        value => {
            let mut out = Vec::new();
            value.json(&mut out);
            Cow::Owned(out)
        }
    };
    match String::from_utf8(text.into_owned()) {
        Ok(text) if json::is_valid(text.as_bytes()) => Ok(text),
        _ => Err(Reason::Form),
    }
}

/// As `8-4-4-4-12` digits.
fn uuid(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(36);
    for (index, byte) in bytes.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            out.push('-');
        }
        // A `String` takes all that is written to it.
        let _ = write!(out, "{byte:02x}");
    }
    out
}

/// The sentence about a bad value.
pub(super) fn complaint(column: &ResolvedColumn, found: &Value<'_>, reason: Reason) -> String {
    if reason == Reason::Null {
        return format!("expected a value, found NULL in column `{}`, which is not nullable", column.name);
    }
    let text = found.text();
    let mut error = match &column.format {
        None => format!("expected {}, found `{}`", column.kind, reject::shown(&text)),
        Some(format) => format!("expected {} written as `{format}`, found `{}`", column.kind, reject::shown(&text)),
    };
    let is_text = column.kind == ColumnType::Text;
    let note = match reason {
        Reason::Form if is_text && memchr(0, &text).is_some() => "a NUL byte; no text column holds it",
        Reason::Form if is_text => "it is not UTF-8",
        reason => reason.note(),
    };
    if !note.is_empty() {
        let _ = write!(error, " ({note})");
    }
    if column.origin == Origin::Existing {
        error.push_str("; the type is that of the existing table");
    }
    error
}
