//! Files of a store become typed Arrow batches and refused records.
//!
//! One thread reads, decompresses, decodes and finds record boundaries; others parse whole records into columns; batches leave in the
//! order of the files. All buffers together stay below a budget, whatever the input. Types are
//! strict: a value is loaded exactly, or its record is refused with its place. Must not know any warehouse; Parquet is read there.

mod column;
mod dialect;
mod field;
mod form;
mod header;
mod infer;
mod input;
mod json;
mod moment;
pub mod parquet;
mod parse;
mod reader;
mod rechunk;
mod reject;
mod resolve;
mod rows;
mod scalar;
mod slab;
mod split;
mod stream;
mod survey;
#[cfg(test)]
pub(crate) mod tests;

use arrow::array::{Int64Array, RecordBatch};
use errand_model::value::ColumnType;
use serde::{Deserialize, Serialize};

pub use reader::Reader;
pub use rechunk::{Chunked, Group, Rechunk, Seen};
pub use resolve::resolve;
pub use rows::Rows;
pub use survey::{Surveyed, survey};

pub use crate::store::FileEntry;

/// The columns that the files of one step become.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resolved {
    /// In the order of the batches.
    pub columns: Vec<ResolvedColumn>,
    /// What wants reading before loading.
    pub warnings: Vec<String>,
    /// Records that types were inferred from; 0 when none were.
    pub sampled: u64,
}

/// One column and how its values are found in the files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvedColumn {
    /// Its name in the target.
    pub name: String,
    /// Its type.
    pub kind: ColumnType,
    /// Whether it may be NULL.
    pub nullable: bool,
    /// Its name in the files: a header cell or a key.
    pub from: String,
    /// How dates and times are written, in the signs of strftime.
    pub format: Option<String>,
    /// Where its type comes from.
    pub origin: Origin,
}

/// Where a column's type comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The definition.
    Declared,
    /// The table that is already there.
    Existing,
    /// The first records.
    Inferred,
    /// The first records, for a column that is not expected and that `schema_contract: evolve` adds.
    Added,
}

/// Rows of one file, in its order.
#[derive(Debug)]
pub struct Batch {
    /// Which of [`Reader::files`].
    pub file: usize,
    /// The resolved columns, in order.
    pub rows: RecordBatch,
    /// The number of each row's record in its file, from 1.
    pub row_numbers: Int64Array,
    /// Records seen: rows and refused ones.
    pub read: u64,
    /// The refused ones, in order.
    pub rejected: Vec<Rejected>,
}

/// One refused record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejected {
    /// Path of its file.
    pub file: String,
    /// Its number in the file, from 1; header and blank lines do not count.
    pub row: u64,
    /// The line of the bad value, from 1; of the record's start when no value is to blame.
    pub line: u64,
    /// Where in that line, in characters from 1; 0 when unknown.
    pub position: u64,
    /// Where the record starts in the decompressed file, decoded to UTF-8 where it is not.
    pub byte_offset: u64,
    /// The column whose value is to blame.
    pub column: Option<String>,
    /// What is wrong, as in: expected decimal(15,2), found `12.3x4`.
    pub error: String,
    /// The record's text; bytes that are no text are written `\xNN`, what is too long is cut with a mark.
    pub raw: String,
    /// The schema contract refuses it for a value in a column that is not expected; nothing is wrong with its other values.
    pub by_contract: bool,
}
