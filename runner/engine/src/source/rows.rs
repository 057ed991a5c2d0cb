//! Rows of files, whichever reader their format wants.

use errand_model::document::step::{Format, SchemaContract};
use errand_model::failure::Failure;
use errand_model::job::{Column, Files};
use errand_model::value::ColumnType;
use tokio_util::sync::CancellationToken;

use super::{Batch, Reader, Resolved, parquet};
use crate::store::FileEntry;

/// Rows of files on their way, in the order of the files. Blocks: belongs on a thread of its own.
pub enum Rows {
    /// Of delimited text and JSON.
    Text(Reader),
    /// Of Parquet.
    Parquet(parquet::Reader),
}

impl Rows {
    /// The columns that `files` become in `table`: see [`super::resolve`] and [`parquet::resolve`].
    ///
    /// # Errors
    ///
    /// What the two say.
    pub fn resolve(
        files: &[FileEntry],
        dialect: &Files,
        declared: &[Column],
        existing: Option<&[(String, ColumnType)]>,
        contract: SchemaContract,
        table: &str,
    ) -> Result<Resolved, Failure> {
        match dialect.format {
            Format::Csv | Format::Json | Format::Jsonl => super::resolve(files, dialect, declared, existing, contract),
            Format::Parquet => parquet::resolve(files, declared, existing, contract, table),
        }
    }

    /// Starts to read.
    #[must_use]
    pub fn start(files: Vec<FileEntry>, dialect: &Files, resolved: &Resolved, contract: SchemaContract, cancel: CancellationToken) -> Self {
        match dialect.format {
            Format::Csv | Format::Json | Format::Jsonl => Self::Text(Reader::start(files, dialect, resolved, contract, cancel)),
            Format::Parquet => Self::Parquet(parquet::Reader::start(files, resolved, cancel)),
        }
    }

    /// The files, in the order of their batches.
    #[must_use]
    pub fn files(&self) -> &[FileEntry] {
        match self {
            Self::Text(reader) => reader.files(),
            Self::Parquet(reader) => reader.files(),
        }
    }

    /// Bytes read so far, as they lie there.
    #[must_use]
    pub fn bytes_read(&self) -> u64 {
        match self {
            Self::Text(reader) => reader.bytes_read(),
            Self::Parquet(reader) => reader.bytes_read(),
        }
    }

    /// The next rows; none at the end and after a failure.
    #[expect(clippy::should_implement_trait, reason = "a method that blocks should look like one, not like a cheap iterator")]
    pub fn next(&mut self) -> Option<Result<Batch, Failure>> {
        match self {
            Self::Text(reader) => reader.next(),
            Self::Parquet(reader) => reader.next(),
        }
    }
}
