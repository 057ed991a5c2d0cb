//! Values of one column, parsed from cells and kept as Arrow wants them.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, BooleanBufferBuilder, Date32Array, Decimal128Array, Float64Array, Int32Array, Int64Array, NullBufferBuilder,
    StringArray, Time64MicrosecondArray, TimestampMicrosecondArray,
};
use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{Field, Schema};
use arrow::error::ArrowError;
use errand_model::value::ColumnType;

use super::dialect::Dialect;
use super::field::{self, Cell, CellKind};
use super::scalar::{self, Parsed, Reason};
use super::{Origin, Resolved, ResolvedColumn, json, moment};
use crate::batch::data_type;

/// The Arrow schema of resolved columns.
pub(super) fn schema(resolved: &Resolved) -> Schema {
    Schema::new(resolved.columns.iter().map(|column| Field::new(&column.name, data_type(column.kind), column.nullable)).collect::<Vec<_>>())
}

/// Cells of some records: `rows` times `width` of them, record by record.
pub(super) struct Group<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) cells: &'a [Cell],
    pub(super) width: usize,
    pub(super) rows: usize,
    pub(super) dialect: &'a Dialect,
}

impl Group<'_> {
    /// Whether a cell stands for NULL.
    pub(super) fn is_null(&self, cell: Cell) -> bool {
        match cell.kind {
            CellKind::Plain => self.dialect.is_null(cell.bytes(self.bytes)),
            CellKind::Missing | CellKind::Null => true,
            CellKind::Quoted
            | CellKind::Escaped
            | CellKind::Text
            | CellKind::EscapedText
            | CellKind::Number
            | CellKind::Boolean
            | CellKind::Nested => false,
        }
    }

    /// A cell's text with its quoting undone.
    pub(super) fn text(&self, cell: Cell) -> Cow<'_, [u8]> {
        let content = cell.bytes(self.bytes);
        match cell.kind {
            CellKind::Escaped => field::unescape(content, self.dialect.marks),
            CellKind::EscapedText => json::unescape(content),
            _ => Cow::Borrowed(content),
        }
    }
}

/// The first bad value of each refused record of a group.
#[derive(Default)]
pub(super) struct Faults {
    /// For each record of the group, whether it is refused.
    pub(super) bad: Vec<bool>,
    /// In no order; one a record.
    pub(super) list: Vec<Fault>,
}

/// One bad value.
pub(super) struct Fault {
    /// Which record of the group.
    pub(super) row: usize,
    /// Which resolved column.
    pub(super) column: usize,
    /// The value.
    pub(super) cell: Cell,
    /// What is wrong.
    pub(super) reason: Reason,
}

impl Faults {
    /// Forgets everything; the next group has `rows` records.
    pub(super) fn reset(&mut self, rows: usize) {
        self.bad.clear();
        self.bad.resize(rows, false);
        self.list.clear();
    }

    fn add(&mut self, row: usize, column: usize, cell: Cell, reason: Reason) {
        if !self.bad[row] {
            self.bad[row] = true;
            self.list.push(Fault { row, column, cell, reason });
        }
    }
}

enum Values {
    Boolean(BooleanBufferBuilder),
    Int32(Vec<i32>),
    Int64(Vec<i64>),
    Decimal(Vec<i128>),
    Double(Vec<f64>),
    Text { ends: Vec<i32>, data: Vec<u8> },
}

/// The values of one column.
pub(super) struct Builder<'a> {
    index: usize,
    column: &'a ResolvedColumn,
    values: Values,
    nulls: NullBufferBuilder,
}

impl<'a> Builder<'a> {
    /// An empty column with room for `rows`, of which `bytes` of text are guessed.
    pub(super) fn new(index: usize, column: &'a ResolvedColumn, rows: usize, bytes: usize) -> Self {
        let values = match column.kind {
            ColumnType::Boolean => Values::Boolean(BooleanBufferBuilder::new(rows)),
            ColumnType::Integer | ColumnType::Date => Values::Int32(Vec::with_capacity(rows)),
            ColumnType::Bigint | ColumnType::Time | ColumnType::Timestamp | ColumnType::Timestamptz => {
                Values::Int64(Vec::with_capacity(rows))
            }
            ColumnType::Decimal(..) => Values::Decimal(Vec::with_capacity(rows)),
            ColumnType::Double => Values::Double(Vec::with_capacity(rows)),
            ColumnType::Text | ColumnType::Json => {
                let mut ends = Vec::with_capacity(rows + 1);
                ends.push(0);
                Values::Text { ends, data: Vec::with_capacity(bytes) }
            }
        };
        Self { index, column, values, nulls: NullBufferBuilder::new(rows) }
    }

    /// Adds the field `from` of every record, NULL without one. A record whose value is bad gets NULL and a fault.
    pub(super) fn append(&mut self, group: &Group<'_>, from: Option<usize>, faults: &mut Faults) {
        let format = self.column.format.as_deref();
        let date_alone = matches!(self.column.origin, Origin::Inferred | Origin::Added);
        let kind = self.column.kind;
        let mut fill = Fill { index: self.index, nullable: self.column.nullable, nulls: &mut self.nulls, group, from, faults };
        match (&mut self.values, kind) {
            (Values::Boolean(out), _) => {
                fill.values(|kind| kind != CellKind::Number, scalar::boolean, |value| out.append(value.unwrap_or_default()));
            }
            (Values::Int32(out), ColumnType::Date) => match format {
                None => fill.words(out, moment::date),
                Some(format) => fill.words(out, |text| moment::date_as(text, format)),
            },
            (Values::Int32(out), _) => fill.numbers(out, scalar::integer),
            (Values::Int64(out), ColumnType::Time) => match format {
                None => fill.words(out, moment::time),
                Some(format) => fill.words(out, |text| moment::time_as(text, format)),
            },
            (Values::Int64(out), ColumnType::Timestamp) => match format {
                None => fill.words(out, |text| moment::timestamp(text, date_alone)),
                Some(format) => fill.words(out, |text| moment::timestamp_as(text, format)),
            },
            (Values::Int64(out), ColumnType::Timestamptz) => match format {
                None => fill.words(out, moment::timestamptz),
                Some(format) => fill.words(out, |text| moment::timestamptz_as(text, format)),
            },
            (Values::Int64(out), _) => fill.numbers(out, scalar::bigint),
            (Values::Decimal(out), ColumnType::Decimal(precision, scale)) => {
                fill.numbers(out, |text| scalar::decimal(text, precision, scale));
            }
            (Values::Decimal(_), _) => {}
            (Values::Double(out), _) => fill.numbers(out, scalar::double),
            (Values::Text { ends, data }, ColumnType::Json) => fill.json(ends, data),
            (Values::Text { ends, data }, _) => fill.text(ends, data),
        }
    }

    /// The column, done.
    pub(super) fn finish(mut self) -> Result<ArrayRef, ArrowError> {
        let nulls = self.nulls.finish();
        Ok(match (self.values, self.column.kind) {
            (Values::Boolean(mut bits), _) => Arc::new(BooleanArray::new(bits.finish(), nulls)),
            (Values::Int32(values), ColumnType::Date) => Arc::new(Date32Array::try_new(values.into(), nulls)?),
            (Values::Int32(values), _) => Arc::new(Int32Array::try_new(values.into(), nulls)?),
            (Values::Int64(values), kind) => int64(values, kind, nulls)?,
            (Values::Decimal(values), ColumnType::Decimal(precision, scale)) => {
                Arc::new(Decimal128Array::try_new(values.into(), nulls)?.with_precision_and_scale(precision, scale.cast_signed())?)
            }
            (Values::Decimal(values), _) => Arc::new(Decimal128Array::try_new(values.into(), nulls)?),
            (Values::Double(values), _) => Arc::new(Float64Array::try_new(values.into(), nulls)?),
            (Values::Text { ends, data }, _) => {
                let ends = OffsetBuffer::new(ScalarBuffer::from(ends));
                Arc::new(StringArray::try_new(ends, Buffer::from_vec(data), nulls)?)
            }
        })
    }
}

fn int64(values: Vec<i64>, kind: ColumnType, nulls: Option<NullBuffer>) -> Result<ArrayRef, ArrowError> {
    Ok(match kind {
        ColumnType::Time => Arc::new(Time64MicrosecondArray::try_new(values.into(), nulls)?),
        ColumnType::Timestamp => Arc::new(TimestampMicrosecondArray::try_new(values.into(), nulls)?),
        ColumnType::Timestamptz => Arc::new(TimestampMicrosecondArray::try_new(values.into(), nulls)?.with_timezone("UTC")),
        _ => Arc::new(Int64Array::try_new(values.into(), nulls)?),
    })
}

/// One column of a group on its way into its values.
struct Fill<'a, 'b> {
    index: usize,
    nullable: bool,
    nulls: &'a mut NullBufferBuilder,
    group: &'a Group<'b>,
    from: Option<usize>,
    faults: &'a mut Faults,
}

impl Fill<'_, '_> {
    fn numbers<T: Default>(&mut self, out: &mut Vec<T>, parse: impl Fn(&[u8]) -> Parsed<T>) {
        self.values(|kind| kind != CellKind::Boolean, parse, |value| out.push(value.unwrap_or_default()));
    }

    /// Values that JSON can only write as strings.
    fn words<T: Default>(&mut self, out: &mut Vec<T>, parse: impl Fn(&[u8]) -> Parsed<T>) {
        self.values(|kind| !matches!(kind, CellKind::Boolean | CellKind::Number), parse, |value| out.push(value.unwrap_or_default()));
    }

    /// Parses each cell of a kind that `takes` knows and hands its value, or none, to `put`.
    #[inline]
    fn values<T>(&mut self, takes: impl Fn(CellKind) -> bool, parse: impl Fn(&[u8]) -> Parsed<T>, mut put: impl FnMut(Option<T>)) {
        let group = self.group;
        let Some(from) = self.from else {
            for _ in 0..group.rows {
                put(None);
            }
            self.nulls.append_n_nulls(group.rows);
            return;
        };
        let cells = group.cells.iter().skip(from).step_by(group.width);
        for (row, cell) in cells.enumerate().take(group.rows) {
            let parsed = match cell.kind {
                CellKind::Plain | CellKind::Quoted | CellKind::Text => parse(cell.bytes(group.bytes)),
                CellKind::Missing | CellKind::Null => Err(Reason::Null),
                CellKind::Nested => Err(Reason::Nested),
                CellKind::Escaped | CellKind::EscapedText => parse(&group.text(*cell)),
                kind @ (CellKind::Number | CellKind::Boolean) => {
                    if takes(kind) {
                        parse(cell.bytes(group.bytes))
                    } else {
                        Err(if kind == CellKind::Number { Reason::NotText } else { Reason::Form })
                    }
                }
            };
            // A text that stands for NULL may be a value as well, such as `0` or `NaN`.
            let is_null = cell.kind == CellKind::Plain && group.dialect.is_null(cell.bytes(group.bytes));
            match parsed {
                Ok(value) if !is_null => {
                    put(Some(value));
                    self.nulls.append_non_null();
                }
                Ok(_) => {
                    put(None);
                    self.null(row, *cell, Reason::Null);
                }
                Err(reason) => {
                    put(None);
                    self.null(row, *cell, if is_null { Reason::Null } else { reason });
                }
            }
        }
    }

    fn null(&mut self, row: usize, cell: Cell, reason: Reason) {
        self.nulls.append_null();
        if reason != Reason::Null || !self.nullable {
            self.faults.add(row, self.index, cell, reason);
        }
    }

    fn text(&mut self, ends: &mut Vec<i32>, data: &mut Vec<u8>) {
        self.strings(ends, data, |group, cell, data| {
            match cell.kind {
                CellKind::Nested => return Err(Reason::Nested),
                CellKind::Escaped | CellKind::EscapedText => data.extend_from_slice(&group.text(cell)),
                _ => data.extend_from_slice(cell.bytes(group.bytes)),
            }
            Ok(())
        });
    }

    fn json(&mut self, ends: &mut Vec<i32>, data: &mut Vec<u8>) {
        self.strings(ends, data, |group, cell, data| {
            match cell.kind {
                // With the quotes around it, the string is its own JSON.
                CellKind::Text | CellKind::EscapedText => data.extend_from_slice(&group.bytes[cell.start as usize - 1..=cell.end as usize]),
                CellKind::Plain | CellKind::Quoted | CellKind::Escaped => {
                    let text = group.text(cell);
                    if !json::is_valid(&text) {
                        return Err(if text.is_empty() { Reason::Empty } else { Reason::Form });
                    }
                    data.extend_from_slice(&text);
                }
                _ => data.extend_from_slice(cell.bytes(group.bytes)),
            }
            Ok(())
        });
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_possible_wrap, reason = "the text of a slab is far smaller than 2 GiB")]
    #[inline]
    fn strings(&mut self, ends: &mut Vec<i32>, data: &mut Vec<u8>, put: impl Fn(&Group<'_>, Cell, &mut Vec<u8>) -> Parsed<()>) {
        let group = self.group;
        let Some(from) = self.from else {
            ends.resize(ends.len() + group.rows, data.len() as i32);
            self.nulls.append_n_nulls(group.rows);
            return;
        };
        let cells = group.cells.iter().skip(from).step_by(group.width);
        for (row, cell) in cells.enumerate().take(group.rows) {
            if group.is_null(*cell) {
                self.null(row, *cell, Reason::Null);
            } else {
                match put(group, *cell, data) {
                    Ok(()) => self.nulls.append_non_null(),
                    Err(reason) => self.null(row, *cell, reason),
                }
            }
            ends.push(data.len() as i32);
        }
    }
}
