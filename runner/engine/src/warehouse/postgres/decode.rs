//! Rows from the binary form of `COPY`, as Arrow batches.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanBuilder, Date32Builder, Decimal128Builder, Float64Builder, Int32Builder, Int64Builder, RecordBatch, StringBuilder,
    Time64MicrosecondBuilder, TimestampMicrosecondBuilder,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use errand_model::failure::Failure;
use errand_model::value::ColumnType;

use super::encode::{EPOCH_DAYS, EPOCH_MICROS, HEADER};
use super::error::{internal, value};
use crate::batch::data_type;

/// Rows of one batch, at most.
const BATCH_ROWS: usize = 8192;
/// Bytes of the server's form that fill a batch.
const BATCH_BYTES: usize = 2 << 20;

/// Powers of ten.
const TENS: [i128; 39] = {
    let mut tens = [1; 39];
    let mut at = 1;
    while at < 39 {
        tens[at] = tens[at - 1] * 10;
        at += 1;
    }
    tens
};

/// Takes bytes as they come and gives batches.
pub(super) struct Decoder {
    schema: SchemaRef,
    columns: Vec<Column>,
    /// Bytes of a row whose end has not come yet.
    pending: Vec<u8>,
    /// Bytes of the stream's head that are still to come.
    head: usize,
    is_done: bool,
    rows: usize,
    bytes: usize,
}

struct Column {
    name: String,
    values: Values,
}

enum Values {
    Boolean(BooleanBuilder),
    Int32(Int32Builder),
    Int64(Int64Builder),
    Decimal(Decimal128Builder, u8, u8),
    Double(Float64Builder),
    Text(StringBuilder),
    Date(Date32Builder),
    Time(Time64MicrosecondBuilder),
    Moment(TimestampMicrosecondBuilder),
}

impl Decoder {
    pub(super) fn new(columns: &[(String, ColumnType)]) -> Self {
        let fields: Vec<Field> = columns.iter().map(|(name, kind)| Field::new(name, data_type(*kind), true)).collect();
        Self {
            schema: Arc::new(Schema::new(fields)),
            columns: columns.iter().map(|(name, kind)| Column { name: name.clone(), values: Values::new(*kind) }).collect(),
            pending: Vec::new(),
            head: HEADER.len(),
            is_done: false,
            rows: 0,
            bytes: 0,
        }
    }

    /// Takes bytes of the stream; hands full batches to `put`.
    pub(super) fn push(&mut self, bytes: &[u8], mut put: impl FnMut(RecordBatch) -> Result<(), Failure>) -> Result<(), Failure> {
        let joined;
        let mut rest = if self.pending.is_empty() {
            bytes
        } else {
            self.pending.extend_from_slice(bytes);
            joined = std::mem::take(&mut self.pending);
            &joined
        };
        if self.head > 0 {
            let Some(behind) = rest.get(self.head..) else {
                self.pending = rest.to_vec();
                return Ok(());
            };
            if !rest.starts_with(&HEADER[..11]) {
                return Err(internal("the server did not begin its rows as the protocol says"));
            }
            self.head = 0;
            rest = behind;
        }
        while !self.is_done {
            let Some(size) = self.row(rest)? else {
                self.pending = rest.to_vec();
                break;
            };
            rest = &rest[size..];
            self.bytes += size;
            if self.rows >= BATCH_ROWS || self.bytes >= BATCH_BYTES {
                put(self.batch()?)?;
            }
        }
        Ok(())
    }

    /// Whether the end of the stream has not come.
    pub(super) fn is_cut(&self) -> bool {
        !self.is_done
    }

    /// The last rows, when the stream has ended.
    pub(super) fn finish(&mut self) -> Result<Option<RecordBatch>, Failure> {
        if self.rows == 0 { Ok(None) } else { self.batch().map(Some) }
    }

    fn batch(&mut self) -> Result<RecordBatch, Failure> {
        let arrays: Result<Vec<ArrayRef>, Failure> = self.columns.iter_mut().map(|column| column.values.finish()).collect();
        self.rows = 0;
        self.bytes = 0;
        RecordBatch::try_new(Arc::clone(&self.schema), arrays?).map_err(|error| internal(format!("a batch of rows: {error}")))
    }

    /// Takes one row; says how long it is, or nothing when its end is not there yet.
    fn row(&mut self, bytes: &[u8]) -> Result<Option<usize>, Failure> {
        let Some(count) = bytes.first_chunk::<2>().map(|count| i16::from_be_bytes(*count)) else { return Ok(None) };
        if count == -1 {
            self.is_done = true;
            return Ok(Some(2));
        }
        if usize::try_from(count) != Ok(self.columns.len()) {
            return Err(internal(format!("the server sent {count} columns instead of {}", self.columns.len())));
        }
        let mut end = 2;
        for _ in 0..count {
            let Some(length) = length(&bytes[end..]) else { return Ok(None) };
            end += 4 + length.unwrap_or(0);
            if end > bytes.len() {
                return Ok(None);
            }
        }
        let mut at = 2;
        for column in &mut self.columns {
            let length = length(&bytes[at..]).flatten();
            at += 4;
            let cell = length.map(|length| &bytes[at..at + length]);
            at += length.unwrap_or(0);
            column.values.append(cell).map_err(|why| column.failure(&why))?;
        }
        self.rows += 1;
        Ok(Some(end))
    }
}

/// The length of the next cell, or none for NULL; nothing at all when it is not there yet.
#[expect(clippy::option_option, reason = "not there yet, NULL, and a length are three things")]
fn length(bytes: &[u8]) -> Option<Option<usize>> {
    bytes.first_chunk::<4>().map(|length| usize::try_from(i32::from_be_bytes(*length)).ok())
}

/// Why a cell is no value of its column.
enum Bad {
    Form,
    NotFinite(&'static str),
    Wide,
}

impl Column {
    fn failure(&self, why: &Bad) -> Failure {
        let name = &self.name;
        match why {
            Bad::Form => internal(format!("the server's value in column `{name}` has not the form of its type")),
            Bad::NotFinite(what) => value(format!("column `{name}` holds `{what}`, which has no place outside of this warehouse"))
                .help("leave such values out, or cast the column to text"),
            Bad::Wide => {
                value(format!("column `{name}` holds a number with more digits than its type says")).help("cast it to a wider type")
            }
        }
    }
}

impl Values {
    fn new(kind: ColumnType) -> Self {
        match kind {
            ColumnType::Boolean => Self::Boolean(BooleanBuilder::new()),
            ColumnType::Integer => Self::Int32(Int32Builder::new()),
            ColumnType::Bigint => Self::Int64(Int64Builder::new()),
            ColumnType::Decimal(precision, scale) => {
                let builder = Decimal128Builder::new().with_data_type(DataType::Decimal128(precision, scale.cast_signed()));
                Self::Decimal(builder, precision, scale)
            }
            ColumnType::Double => Self::Double(Float64Builder::new()),
            ColumnType::Text | ColumnType::Json => Self::Text(StringBuilder::new()),
            ColumnType::Date => Self::Date(Date32Builder::new()),
            ColumnType::Time => Self::Time(Time64MicrosecondBuilder::new()),
            ColumnType::Timestamp => Self::Moment(TimestampMicrosecondBuilder::new()),
            ColumnType::Timestamptz => Self::Moment(TimestampMicrosecondBuilder::new().with_timezone("UTC")),
        }
    }

    fn append(&mut self, cell: Option<&[u8]>) -> Result<(), Bad> {
        let four = |cell: &[u8]| cell.try_into().map(i32::from_be_bytes).map_err(|_| Bad::Form);
        let eight = |cell: &[u8]| cell.try_into().map(i64::from_be_bytes).map_err(|_| Bad::Form);
        match self {
            Self::Boolean(out) => {
                out.append_option(cell.map(|cell| cell.first().copied().map(|byte| byte != 0).ok_or(Bad::Form)).transpose()?);
            }
            Self::Int32(out) => out.append_option(cell.map(four).transpose()?),
            Self::Int64(out) => out.append_option(cell.map(eight).transpose()?),
            Self::Double(out) => out.append_option(cell.map(eight).transpose()?.map(|bits| f64::from_bits(bits.cast_unsigned()))),
            Self::Decimal(out, precision, scale) => out.append_option(cell.map(|cell| numeric(cell, *precision, *scale)).transpose()?),
            Self::Text(out) => out.append_option(cell.map(|cell| std::str::from_utf8(cell).map_err(|_| Bad::Form)).transpose()?),
            Self::Time(out) => out.append_option(cell.map(eight).transpose()?),
            Self::Date(out) => out.append_option(cell.map(|cell| date(four(cell)?)).transpose()?),
            Self::Moment(out) => out.append_option(cell.map(|cell| moment(eight(cell)?)).transpose()?),
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<ArrayRef, Failure> {
        Ok(match self {
            Self::Boolean(out) => Arc::new(out.finish()),
            Self::Int32(out) => Arc::new(out.finish()),
            Self::Int64(out) => Arc::new(out.finish()),
            Self::Decimal(out, ..) => Arc::new(out.finish()),
            Self::Double(out) => Arc::new(out.finish()),
            Self::Text(out) => Arc::new(out.finish()),
            Self::Date(out) => Arc::new(out.finish()),
            Self::Time(out) => Arc::new(out.finish()),
            Self::Moment(out) => Arc::new(out.finish()),
        })
    }
}

fn date(days: i32) -> Result<i32, Bad> {
    match days {
        i32::MAX => Err(Bad::NotFinite("infinity")),
        i32::MIN => Err(Bad::NotFinite("-infinity")),
        days => days.checked_add(EPOCH_DAYS).ok_or(Bad::Wide),
    }
}

fn moment(micros: i64) -> Result<i64, Bad> {
    match micros {
        i64::MAX => Err(Bad::NotFinite("infinity")),
        i64::MIN => Err(Bad::NotFinite("-infinity")),
        micros => micros.checked_add(EPOCH_MICROS).ok_or(Bad::Wide),
    }
}

/// A `numeric` as an integer of units of its scale.
fn numeric(cell: &[u8], precision: u8, scale: u8) -> Result<i128, Bad> {
    let (head, groups) = cell.split_at_checked(8).ok_or(Bad::Form)?;
    let word = |at: usize| u16::from_be_bytes([head[at], head[at + 1]]);
    let (count, weight, sign) = (usize::from(word(0)), word(2).cast_signed(), word(4));
    match sign {
        0 | 0x4000 => {}
        0xC000 => return Err(Bad::NotFinite("NaN")),
        0xD000 => return Err(Bad::NotFinite("Infinity")),
        0xF000 => return Err(Bad::NotFinite("-Infinity")),
        _ => return Err(Bad::Form),
    }
    if groups.len() != 2 * count {
        return Err(Bad::Form);
    }
    let mut sum: i128 = 0;
    // The power of ten of the unit of this group, in units of the scale.
    let mut power = i32::from(weight) * 4 + i32::from(scale);
    for group in groups.chunks_exact(2) {
        let digits = i128::from(u16::from_be_bytes([group[0], group[1]]));
        let part = match usize::try_from(power) {
            _ if digits == 0 => Some(0),
            Ok(power) => TENS.get(power).and_then(|ten| digits.checked_mul(*ten)),
            // A group that reaches beyond the scale, where its digits must be zeros.
            Err(_) => TENS.get(power.unsigned_abs() as usize).filter(|ten| digits % **ten == 0).map(|ten| digits / ten),
        };
        sum = part.and_then(|part| sum.checked_add(part)).ok_or(Bad::Wide)?;
        power -= 4;
    }
    if sum >= TENS.get(usize::from(precision)).copied().unwrap_or(i128::MAX) {
        return Err(Bad::Wide);
    }
    Ok(if sign == 0x4000 { -sum } else { sum })
}

#[cfg(test)]
mod tests;
