//! Rows as lines of CSV and of JSON Lines.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use arrow::array::{
    Array, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray,
    Time64MicrosecondArray, TimestampMicrosecondArray,
};
use errand_model::failure::{Failure, FailureKind};
use errand_model::value::ColumnType;

use super::{embed, form};

/// Bytes that are gathered before they are written.
const GATHERED: usize = 256 * 1024;

/// How a row becomes a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Csv,
    Jsonl,
}

/// Lines on their way into a file.
pub(super) struct Lines {
    file: File,
    path: PathBuf,
    shape: Shape,
    names: Vec<String>,
    /// Before each value of a JSON object: a brace or comma, its key and the colon.
    keys: Vec<Vec<u8>>,
    gathered: Vec<u8>,
    bytes: u64,
}

/// One column of a batch.
enum Values<'a> {
    Boolean(&'a BooleanArray),
    Integer(&'a Int32Array),
    Bigint(&'a Int64Array),
    Decimal(&'a Decimal128Array, u8, u8),
    Double(&'a Float64Array),
    Text(&'a StringArray),
    Json(&'a StringArray),
    Date(&'a Date32Array),
    Time(&'a Time64MicrosecondArray),
    Timestamp(&'a TimestampMicrosecondArray, bool),
}

impl Lines {
    /// Begins a file; one of CSV with its header.
    pub(super) fn begin((file, path): (File, &Path), shape: Shape, columns: &[(String, ColumnType)]) -> Self {
        let key = |(index, (name, _)): (usize, &(String, ColumnType))| {
            let mut key = vec![if index == 0 { b'{' } else { b',' }];
            form::string_json(&mut key, name.as_bytes());
            key.push(b':');
            key
        };
        let names = columns.iter().map(|(name, _)| name.clone()).collect();
        let mut gathered = Vec::with_capacity(GATHERED + GATHERED / 4);
        if shape == Shape::Csv {
            for (index, (name, _)) in columns.iter().enumerate() {
                if index > 0 {
                    gathered.push(b',');
                }
                field(&mut gathered, name.as_bytes());
            }
            gathered.push(b'\n');
        }
        let path = path.to_owned();
        Self { file, path, shape, names, keys: columns.iter().enumerate().map(key).collect(), gathered, bytes: 0 }
    }

    /// Bytes so far.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes + self.gathered.len() as u64
    }

    /// Adds rows whose columns were checked.
    pub(super) fn write(&mut self, batch: &RecordBatch, kinds: &[ColumnType]) -> Result<(), Failure> {
        let columns = batch.columns().iter().zip(kinds).map(|(array, kind)| Values::of(array.as_ref(), *kind));
        let columns = columns.collect::<Option<Vec<Values<'_>>>>().ok_or_else(|| super::misfit("an array is not of its type"))?;
        for row in 0..batch.num_rows() {
            match self.shape {
                Shape::Csv => self.csv(&columns, row),
                Shape::Jsonl => self.jsonl(&columns, row)?,
            }
            if self.gathered.len() >= GATHERED {
                self.flush()?;
            }
        }
        Ok(())
    }

    fn csv(&mut self, columns: &[Values<'_>], row: usize) {
        for (index, column) in columns.iter().enumerate() {
            if index > 0 {
                self.gathered.push(b',');
            }
            if !column.is_null(row) {
                column.csv(&mut self.gathered, row);
            }
        }
        self.gathered.push(b'\n');
    }

    fn jsonl(&mut self, columns: &[Values<'_>], row: usize) -> Result<(), Failure> {
        for ((column, key), name) in columns.iter().zip(&self.keys).zip(&self.names) {
            self.gathered.extend_from_slice(key);
            if column.is_null(row) {
                self.gathered.extend_from_slice(b"null");
            } else if !column.jsonl(&mut self.gathered, row) {
                let message = format!("a value of column `{name}` is not JSON, as its type says");
                return Err(Failure::new(FailureKind::Permanent, "output::json", message).help("select it as text"));
            }
        }
        self.gathered.extend_from_slice(if columns.is_empty() { b"{}\n" } else { b"}\n" });
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Failure> {
        self.file.write_all(&self.gathered).map_err(|error| super::unwritten(&self.path, &error))?;
        self.bytes += self.gathered.len() as u64;
        self.gathered.clear();
        // One long row must not keep its room for good.
        self.gathered.shrink_to(GATHERED * 4);
        Ok(())
    }

    /// Writes what is gathered.
    pub(super) fn finish(&mut self) -> Result<u64, Failure> {
        self.flush()?;
        Ok(self.bytes)
    }
}

impl<'a> Values<'a> {
    fn of(array: &'a dyn Array, kind: ColumnType) -> Option<Self> {
        let any = array.as_any();
        Some(match kind {
            ColumnType::Boolean => Self::Boolean(any.downcast_ref()?),
            ColumnType::Integer => Self::Integer(any.downcast_ref()?),
            ColumnType::Bigint => Self::Bigint(any.downcast_ref()?),
            ColumnType::Decimal(precision, scale) => Self::Decimal(any.downcast_ref()?, precision, scale),
            ColumnType::Double => Self::Double(any.downcast_ref()?),
            ColumnType::Text => Self::Text(any.downcast_ref()?),
            ColumnType::Json => Self::Json(any.downcast_ref()?),
            ColumnType::Date => Self::Date(any.downcast_ref()?),
            ColumnType::Time => Self::Time(any.downcast_ref()?),
            ColumnType::Timestamp => Self::Timestamp(any.downcast_ref()?, false),
            ColumnType::Timestamptz => Self::Timestamp(any.downcast_ref()?, true),
        })
    }

    fn is_null(&self, row: usize) -> bool {
        match self {
            Self::Boolean(array) => array.is_null(row),
            Self::Integer(array) => array.is_null(row),
            Self::Bigint(array) => array.is_null(row),
            Self::Decimal(array, ..) => array.is_null(row),
            Self::Double(array) => array.is_null(row),
            Self::Text(array) | Self::Json(array) => array.is_null(row),
            Self::Date(array) => array.is_null(row),
            Self::Time(array) => array.is_null(row),
            Self::Timestamp(array, _) => array.is_null(row),
        }
    }

    fn csv(&self, out: &mut Vec<u8>, row: usize) {
        match self {
            Self::Text(array) | Self::Json(array) => field(out, array.value(row).as_bytes()),
            Self::Decimal(array, precision, scale) => form::decimal(out, array.value(row), *precision, *scale),
            Self::Double(array) => form::double_csv(out, array.value(row)),
            _ => self.plain(out, row),
        }
    }

    /// False when a value is not the JSON that it should be.
    fn jsonl(&self, out: &mut Vec<u8>, row: usize) -> bool {
        match self {
            Self::Json(array) => return embed::embed(out, array.value(row).as_bytes()),
            Self::Text(array) => form::string_json(out, array.value(row).as_bytes()),
            Self::Decimal(array, precision, scale) => form::decimal_json(out, array.value(row), *precision, *scale),
            Self::Double(array) => form::double_json(out, array.value(row)),
            Self::Boolean(_) | Self::Integer(_) | Self::Bigint(_) => self.plain(out, row),
            Self::Date(_) | Self::Time(_) | Self::Timestamp(..) => {
                out.push(b'"');
                self.plain(out, row);
                out.push(b'"');
            }
        }
        true
    }

    /// What is written the same in both, but for quotes.
    fn plain(&self, out: &mut Vec<u8>, row: usize) {
        match self {
            Self::Boolean(array) => out.extend_from_slice(if array.value(row) { b"true" } else { b"false" }),
            Self::Integer(array) => form::integer(out, i64::from(array.value(row))),
            Self::Bigint(array) => form::integer(out, array.value(row)),
            Self::Date(array) => form::date(out, array.value(row)),
            Self::Time(array) => form::time(out, array.value(row)),
            Self::Timestamp(array, utc) => form::timestamp(out, array.value(row), *utc),
            Self::Decimal(..) | Self::Double(_) | Self::Text(_) | Self::Json(_) => {}
        }
    }
}

/// A field of CSV, quoted where a reader would misread it: nothing is NULL, so that an empty text has quotes.
fn field(out: &mut Vec<u8>, text: &[u8]) {
    if !text.is_empty() && !text.iter().any(|byte| matches!(byte, b',' | b'"' | b'\n' | b'\r' | b'#')) {
        return out.extend_from_slice(text);
    }
    out.push(b'"');
    for part in text.split_inclusive(|byte| *byte == b'"') {
        out.extend_from_slice(part);
        if part.last() == Some(&b'"') {
            out.push(b'"');
        }
    }
    out.push(b'"');
}
