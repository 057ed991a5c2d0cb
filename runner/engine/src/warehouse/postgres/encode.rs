//! Rows in the binary form of `COPY`, column by column.
//!
//! The format wants rows one after the other; walking them cell by cell costs a branch on the type for each. Here the sizes of a block
//! of rows are summed up first, then each column writes its cells to their places in one tight loop.

mod numeric;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, StringArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float64Type, Int32Type, Int64Type, Time64MicrosecondType, TimeUnit, TimestampMicrosecondType,
};
use errand_model::failure::Failure;
use errand_model::value::ColumnType;

use super::error::{internal, value};
use crate::warehouse::AppendTarget;
use numeric::Numeric;

/// What a stream of rows begins with: signature, flags, no extension.
pub(super) const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// What it ends with.
pub(super) const TRAILER: &[u8] = b"\xff\xff";

/// Days from 1970 to 2000, where the server counts from.
pub(super) const EPOCH_DAYS: i32 = 10_957;
/// Microseconds from 1970 to 2000.
pub(super) const EPOCH_MICROS: i64 = 946_684_800_000_000;

/// Rows encoded at a time: few enough for the first caches.
const BLOCK: usize = 256;

/// Encodes the rows of one target.
pub(super) struct Encoder<'a> {
    target: &'a AppendTarget,
    /// Rows encoded so far.
    rows: u64,
    /// For each row of the block: first its size, then where its next cell goes.
    places: Vec<usize>,
}

/// A column with its values at hand.
enum Cells<'a> {
    Boolean(&'a BooleanArray),
    Int32(&'a [i32]),
    Int64(&'a [i64]),
    Double(&'a [f64]),
    Decimal(&'a [i128], Box<Numeric>),
    Date(&'a [i32]),
    Time(&'a [i64]),
    Moment(&'a [i64]),
    Text(&'a StringArray),
    Json(&'a StringArray),
}

struct Column<'a> {
    cells: Cells<'a>,
    nulls: Option<&'a NullBuffer>,
}

impl<'a> Encoder<'a> {
    pub(super) fn new(target: &'a AppendTarget) -> Self {
        Self { target, rows: 0, places: Vec::with_capacity(BLOCK) }
    }

    /// Adds the rows of a batch to `out`, and calls `flush` whenever a block is done, until it says that no more is wanted.
    pub(super) fn encode(
        &mut self,
        rows: &RecordBatch,
        out: &mut Vec<u8>,
        mut flush: impl FnMut(&mut Vec<u8>) -> bool,
    ) -> Result<(), Failure> {
        if rows.num_columns() != self.target.columns.len() {
            let (given, named) = (rows.num_columns(), self.target.columns.len());
            return Err(internal(format!("a chunk for `{}` has {given} columns instead of {named}", self.target.table)));
        }
        let columns: Result<Vec<Column<'_>>, Failure> =
            rows.columns().iter().zip(&self.target.columns).map(|(array, (name, kind))| column(array, name, *kind)).collect();
        let columns = columns?;
        let mut from = 0;
        while from < rows.num_rows() {
            let count = BLOCK.min(rows.num_rows() - from);
            self.refuse_nul(&columns, from, count)?;
            self.block(&columns, from, count, out);
            from += count;
            self.rows += count as u64;
            if !flush(out) {
                break;
            }
        }
        Ok(())
    }

    fn block(&mut self, columns: &[Column<'_>], from: usize, count: usize, out: &mut Vec<u8>) {
        let fixed: usize = columns.iter().map(|column| 4 + column.cells.width()).sum();
        self.places.clear();
        self.places.resize(count, 2 + fixed);
        for column in columns {
            column.measure(from, &mut self.places);
        }
        let begin = out.len();
        let mut end = begin;
        for place in &mut self.places {
            let size = *place;
            *place = end - begin;
            end += size;
        }
        out.resize(end, 0);
        let block = &mut out[begin..];
        #[expect(clippy::cast_possible_truncation, reason = "a table has at most 1,600 columns")]
        let width = (columns.len() as i16).to_be_bytes();
        for place in &mut self.places {
            block[*place..*place + 2].copy_from_slice(&width);
            *place += 2;
        }
        for column in columns {
            column.write(from, &mut self.places, block);
        }
    }

    /// The server's text has no NUL; which row and column hold one is said here, for it would not say.
    fn refuse_nul(&self, columns: &[Column<'_>], from: usize, count: usize) -> Result<(), Failure> {
        for (column, (name, _)) in columns.iter().zip(&self.target.columns) {
            let Cells::Text(array) = &column.cells else { continue };
            let (begin, end) = (array.value_offsets()[from], array.value_offsets()[from + count]);
            if memchr::memchr(0, &array.value_data()[index(begin)..index(end)]).is_none() {
                continue;
            }
            let row = (from..from + count).find(|row| array.is_valid(*row) && array.value(*row).contains('\0'));
            if let Some(row) = row {
                let number = self.rows + (row - from) as u64 + 1;
                let message = format!("column `{name}` of `{}` cannot hold the text of row {number}: it has a NUL byte", self.target.table);
                return Err(value(message).help("the warehouse keeps no NUL bytes in text: remove them from the source"));
            }
        }
        Ok(())
    }
}

fn index(offset: i32) -> usize {
    offset.unsigned_abs() as usize
}

fn column<'a>(array: &'a ArrayRef, name: &str, kind: ColumnType) -> Result<Column<'a>, Failure> {
    let cells = match (kind, array.data_type()) {
        (ColumnType::Boolean, DataType::Boolean) => Cells::Boolean(array.as_boolean()),
        (ColumnType::Integer, DataType::Int32) => Cells::Int32(array.as_primitive::<Int32Type>().values()),
        (ColumnType::Bigint, DataType::Int64) => Cells::Int64(array.as_primitive::<Int64Type>().values()),
        (ColumnType::Double, DataType::Float64) => Cells::Double(array.as_primitive::<Float64Type>().values()),
        (ColumnType::Decimal(..), DataType::Decimal128(_, scale @ 0..=38)) => {
            Cells::Decimal(array.as_primitive::<Decimal128Type>().values(), Box::new(Numeric::new(scale.cast_unsigned())))
        }
        (ColumnType::Date, DataType::Date32) => Cells::Date(array.as_primitive::<Date32Type>().values()),
        (ColumnType::Time, DataType::Time64(TimeUnit::Microsecond)) => Cells::Time(array.as_primitive::<Time64MicrosecondType>().values()),
        (ColumnType::Timestamp | ColumnType::Timestamptz, DataType::Timestamp(TimeUnit::Microsecond, _)) => {
            Cells::Moment(array.as_primitive::<TimestampMicrosecondType>().values())
        }
        (ColumnType::Text, DataType::Utf8) => Cells::Text(array.as_string::<i32>()),
        (ColumnType::Json, DataType::Utf8) => Cells::Json(array.as_string::<i32>()),
        (kind, given) => return Err(internal(format!("column `{name}` is `{kind}`, but its values came as `{given}`"))),
    };
    Ok(Column { cells, nulls: array.nulls().filter(|nulls| nulls.null_count() > 0) })
}

impl Cells<'_> {
    /// Bytes of every cell, or those that a cell of varying size has at least.
    const fn width(&self) -> usize {
        match self {
            Self::Boolean(_) | Self::Json(_) => 1,
            Self::Int32(_) | Self::Date(_) => 4,
            Self::Int64(_) | Self::Double(_) | Self::Time(_) | Self::Moment(_) | Self::Decimal(..) => 8,
            Self::Text(_) => 0,
        }
    }
}

impl Column<'_> {
    /// Adds to the size of each row what its cell has beyond [`Cells::width`]; takes it away for NULL.
    fn measure(&self, from: usize, sizes: &mut [usize]) {
        match &self.cells {
            Cells::Decimal(values, numeric) => {
                for (size, value) in sizes.iter_mut().zip(&values[from..]) {
                    *size += 2 * numeric.groups(*value);
                }
            }
            Cells::Text(array) | Cells::Json(array) => {
                for (size, ends) in sizes.iter_mut().zip(array.value_offsets()[from..].windows(2)) {
                    *size += index(ends[1] - ends[0]);
                }
            }
            Cells::Boolean(_)
            | Cells::Int32(_)
            | Cells::Int64(_)
            | Cells::Double(_)
            | Cells::Date(_)
            | Cells::Time(_)
            | Cells::Moment(_) => {}
        }
        let Some(nulls) = self.nulls else { return };
        for (row, size) in sizes.iter_mut().enumerate() {
            if nulls.is_null(from + row) {
                *size -= self.cells.width() + self.extra(from + row);
            }
        }
    }

    /// What [`Self::measure`] added for a row.
    fn extra(&self, row: usize) -> usize {
        match &self.cells {
            Cells::Decimal(values, numeric) => 2 * numeric.groups(values[row]),
            Cells::Text(array) | Cells::Json(array) => index(array.value_length(row)),
            _ => 0,
        }
    }

    fn write(&self, from: usize, places: &mut [usize], block: &mut [u8]) {
        match &self.cells {
            Cells::Boolean(array) => {
                let bits = array.values();
                self.fixed::<5>(from, places, block, |row| with_length(1, [u8::from(bits.value(row))]));
            }
            Cells::Int32(values) => self.fixed::<8>(from, places, block, |row| with_length(4, values[row].to_be_bytes())),
            Cells::Int64(values) | Cells::Time(values) => {
                self.fixed::<12>(from, places, block, |row| with_length(8, values[row].to_be_bytes()));
            }
            Cells::Double(values) => self.fixed::<12>(from, places, block, |row| with_length(8, values[row].to_be_bytes())),
            // What does not fit stays finite, and out of the range that the server takes: it refuses it by name.
            Cells::Date(values) => self.fixed::<8>(from, places, block, |row| {
                with_length(4, values[row].saturating_sub(EPOCH_DAYS).max(i32::MIN + 1).to_be_bytes())
            }),
            Cells::Moment(values) => self.fixed::<12>(from, places, block, |row| {
                with_length(8, values[row].saturating_sub(EPOCH_MICROS).max(i64::MIN + 1).to_be_bytes())
            }),
            Cells::Decimal(values, numeric) => {
                self.each(from, places, block, |row, cell| numeric.write(values[row], cell));
            }
            Cells::Text(array) => self.text(array, &[], from, places, block),
            // The version of `jsonb`'s form.
            Cells::Json(array) => self.text(array, &[1], from, places, block),
        }
    }

    #[inline]
    fn fixed<const N: usize>(&self, from: usize, places: &mut [usize], block: &mut [u8], cell: impl Fn(usize) -> [u8; N]) {
        self.each(from, places, block, |row, out| {
            out[..N].copy_from_slice(&cell(row));
            N
        });
    }

    #[inline]
    fn text(&self, array: &StringArray, head: &[u8], from: usize, places: &mut [usize], block: &mut [u8]) {
        let (data, ends) = (array.value_data(), array.value_offsets());
        self.each(from, places, block, |row, out| {
            let text = &data[index(ends[row])..index(ends[row + 1])];
            let length = head.len() + text.len();
            #[expect(clippy::cast_possible_truncation, reason = "a text of 32-bit offsets is shorter than 2 GiB")]
            out[..4].copy_from_slice(&(length as u32).to_be_bytes());
            out[4..4 + head.len()].copy_from_slice(head);
            out[4 + head.len()..4 + length].copy_from_slice(text);
            4 + length
        });
    }

    /// Calls `write` for each value with the room from its place on; it says how much it took.
    #[inline]
    fn each(&self, from: usize, places: &mut [usize], block: &mut [u8], mut write: impl FnMut(usize, &mut [u8]) -> usize) {
        match self.nulls {
            None => {
                for (row, place) in places.iter_mut().enumerate() {
                    *place += write(from + row, &mut block[*place..]);
                }
            }
            Some(nulls) => {
                for (row, place) in places.iter_mut().enumerate() {
                    if nulls.is_null(from + row) {
                        block[*place..*place + 4].copy_from_slice(&[0xff; 4]);
                        *place += 4;
                    } else {
                        *place += write(from + row, &mut block[*place..]);
                    }
                }
            }
        }
    }
}

#[inline]
fn with_length<const N: usize, const M: usize>(length: u32, value: [u8; N]) -> [u8; M] {
    let mut cell = [0; M];
    cell[..4].copy_from_slice(&length.to_be_bytes());
    cell[4..].copy_from_slice(&value);
    cell
}

#[cfg(test)]
mod tests;
