//! Rows become one local file: CSV, JSON Lines or Parquet, in the very forms that DuckDB's `COPY` writes.
//!
//! So an export is the same file whichever warehouse its rows come from. Two things are other than DuckDB's, so that they are read back as they
//! were: numbers inside of JSON keep all their digits, and doubles that are no finite numbers are `NaN`, `Infinity` and `-Infinity`, in JSON as
//! texts. Memory is bounded; making the file durable, naming and
//! moving it is the caller's work. Must not know any warehouse.

mod embed;
pub(crate) mod form;
mod parquet;
#[cfg(test)]
mod tests;
mod text;

use std::fs::File;
use std::path::Path;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, TimeUnit};
use errand_model::document::step::ExportFormat;
use errand_model::failure::{Failure, FailureKind};
use errand_model::value::ColumnType;

use self::parquet::Groups;
use self::text::{Lines, Shape};
use crate::store::write_help;

/// What a whole file holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Rows.
    pub rows: u64,
    /// Bytes.
    pub bytes: u64,
}

/// One file that is being written. Blocks: belongs on a thread of its own.
pub struct Writer {
    body: Body,
    kinds: Vec<ColumnType>,
    rows: u64,
}

enum Body {
    Lines(Lines),
    Groups(Box<Groups>),
}

impl Writer {
    /// Makes the file, or empties it; `columns` are names and types in the order of the batches.
    ///
    /// # Errors
    ///
    /// When the file cannot be made.
    pub fn create(path: &Path, format: ExportFormat, columns: &[(String, ColumnType)]) -> Result<Self, Failure> {
        let file = File::create(path).map_err(|error| {
            Failure::new(FailureKind::Permanent, "output::file", format!("cannot make `{}`: {error}", path.display()))
                .help(write_help(&error))
        })?;
        let body = match format {
            ExportFormat::Csv => Body::Lines(Lines::begin((file, path), Shape::Csv, columns)),
            ExportFormat::Jsonl => Body::Lines(Lines::begin((file, path), Shape::Jsonl, columns)),
            ExportFormat::Parquet => Body::Groups(Box::new(Groups::begin((file, path), columns)?)),
        };
        Ok(Self { body, kinds: columns.iter().map(|(_, kind)| *kind).collect(), rows: 0 })
    }

    /// Adds rows, in the Arrow types of their column types; names and nullability of the batch do not matter.
    ///
    /// # Errors
    ///
    /// When the columns are not those that were promised, a value of type `json` is not JSON, or the disk is full.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<(), Failure> {
        let found: Vec<&DataType> = batch.columns().iter().map(|column| column.data_type()).collect();
        let is_promised = found.len() == self.kinds.len() && found.iter().zip(&self.kinds).all(|(found, kind)| holds(found, *kind));
        if !is_promised {
            return Err(misfit(&format!("columns of types {found:?} came for {:?}", self.kinds)));
        }
        match &mut self.body {
            Body::Lines(lines) => lines.write(batch, &self.kinds)?,
            Body::Groups(groups) => groups.write(batch)?,
        }
        self.rows += batch.num_rows() as u64;
        Ok(())
    }

    /// Bytes so far; rows that are not compressed yet do not count.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        match &self.body {
            Body::Lines(lines) => lines.bytes(),
            Body::Groups(groups) => groups.bytes(),
        }
    }

    /// Completes the file. It is not synced.
    ///
    /// # Errors
    ///
    /// When the disk is full.
    pub fn finish(self) -> Result<Written, Failure> {
        let bytes = match self.body {
            Body::Lines(mut lines) => lines.finish()?,
            Body::Groups(groups) => groups.finish()?,
        };
        Ok(Written { rows: self.rows, bytes })
    }
}

/// Whether an array of this type is what batches have for a column type.
fn holds(found: &DataType, kind: ColumnType) -> bool {
    match kind {
        ColumnType::Boolean => *found == DataType::Boolean,
        ColumnType::Integer => *found == DataType::Int32,
        ColumnType::Bigint => *found == DataType::Int64,
        ColumnType::Decimal(precision, scale) => *found == DataType::Decimal128(precision, scale.cast_signed()),
        ColumnType::Double => *found == DataType::Float64,
        ColumnType::Text | ColumnType::Json => *found == DataType::Utf8,
        ColumnType::Date => *found == DataType::Date32,
        ColumnType::Time => *found == DataType::Time64(TimeUnit::Microsecond),
        ColumnType::Timestamp => *found == DataType::Timestamp(TimeUnit::Microsecond, None),
        ColumnType::Timestamptz => matches!(found, DataType::Timestamp(TimeUnit::Microsecond, Some(_))),
    }
}

fn misfit(what: &str) -> Failure {
    Failure::new(FailureKind::Internal, "output::columns", format!("a batch does not fit the file: {what}"))
        .help("this is a defect of errand: report it")
}

fn unwritten(path: &Path, error: &(dyn std::error::Error + 'static)) -> Failure {
    Failure::new(FailureKind::Permanent, "output::file", format!("cannot write `{}`: {error}", path.display())).help(write_help(error))
}
