//! One Parquet file after the other for one table, in scratch space.

use std::io::{BufWriter, Write};
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray, Time64MicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use errand_model::failure::{Failure, FailureKind};
use errand_model::value::ColumnType;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use sha2::{Digest, Sha256};
use tempfile::{NamedTempFile, TempPath};

use super::StagedTable;

/// A warehouse loads a file with one thread: files of this size keep many of them busy.
const PART_BYTES: usize = 160 << 20;
/// Rows of a row group.
const GROUP_ROWS: usize = 128 * 1024;
/// A row group ends earlier when its rows are long.
const GROUP_BYTES: usize = 32 << 20;

/// A file that is whole.
pub(super) struct Finished {
    pub(super) table: usize,
    pub(super) file: Scratch,
    pub(super) rows: u64,
    pub(super) bytes: u64,
    pub(super) sha256: String,
}

/// A file that vanishes with its last user.
pub(super) struct Scratch(TempPath);

impl Scratch {
    pub(super) fn path(&self) -> &std::path::Path {
        &self.0
    }
}

/// Writes the rows of one table.
pub(super) struct TableWriter {
    table: usize,
    schema: SchemaRef,
    time_as_text: bool,
    open: Option<Open>,
}

struct Open {
    writer: ArrowWriter<Hashed>,
    path: TempPath,
    rows: u64,
}

impl TableWriter {
    pub(super) fn new(index: usize, table: &StagedTable) -> Result<Self, Failure> {
        let field = |(name, kind): &(String, ColumnType)| Field::new(name, data_type(*kind, table.time_as_text), true);
        let schema = Arc::new(Schema::new(table.columns.iter().map(field).collect::<Vec<_>>()));
        Ok(Self { table: index, schema, time_as_text: table.time_as_text, open: None })
    }

    /// Adds rows; a file that is full is handed over.
    pub(super) fn write(&mut self, rows: &RecordBatch) -> Result<Option<Finished>, Failure> {
        if rows.num_rows() == 0 {
            return Ok(None);
        }
        let columns: Vec<ArrayRef> = rows.columns().iter().map(|column| self.column(column)).collect();
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), columns)
            .map_err(|error| Failure::new(FailureKind::Internal, "warehouse::internal", format!("rows do not fit their table: {error}")))?;
        let mut open = match self.open.take() {
            Some(open) => open,
            None => Open::new(&self.schema).map_err(|error| scratch(&error))?,
        };
        open.writer.write(&batch).map_err(|error| scratch(&error))?;
        open.rows += batch.num_rows() as u64;
        if open.writer.in_progress_size() >= GROUP_BYTES {
            open.writer.flush().map_err(|error| scratch(&error))?;
        }
        if open.writer.bytes_written() + open.writer.in_progress_size() < PART_BYTES {
            self.open = Some(open);
            return Ok(None);
        }
        open.finish(self.table).map(Some)
    }

    pub(super) fn finish(self) -> Result<Option<Finished>, Failure> {
        self.open.map(|open| open.finish(self.table)).transpose()
    }

    fn column(&self, column: &ArrayRef) -> ArrayRef {
        match column.as_any().downcast_ref::<Time64MicrosecondArray>() {
            Some(times) if self.time_as_text => Arc::new(times.iter().map(|time| time.map(time_text)).collect::<StringArray>()),
            _ => Arc::clone(column),
        }
    }
}

impl Open {
    fn new(schema: &SchemaRef) -> Result<Self, std::io::Error> {
        let (file, path) = NamedTempFile::with_prefix("errand-part-")?.into_parts();
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .set_max_row_group_row_count(Some(GROUP_ROWS))
            .set_created_by("errand".to_owned())
            .build();
        let hashed = Hashed { file: BufWriter::with_capacity(1 << 18, file), hash: Sha256::new(), bytes: 0 };
        let writer = ArrowWriter::try_new(hashed, Arc::clone(schema), Some(properties)).map_err(std::io::Error::other)?;
        Ok(Self { writer, path, rows: 0 })
    }

    fn finish(self, table: usize) -> Result<Finished, Failure> {
        let mut hashed = self.writer.into_inner().map_err(|error| scratch(&error))?;
        hashed.flush().map_err(|error| scratch(&error))?;
        let sha256 = hashed.hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Finished { table, file: Scratch(self.path), rows: self.rows, bytes: hashed.bytes, sha256 })
    }
}

/// Hashes what goes to a file.
struct Hashed {
    file: BufWriter<std::fs::File>,
    hash: Sha256,
    bytes: u64,
}

impl Write for Hashed {
    fn write(&mut self, buffer: &[u8]) -> std::io::Result<usize> {
        let written = self.file.write(buffer)?;
        self.hash.update(&buffer[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

fn data_type(kind: ColumnType, time_as_text: bool) -> DataType {
    match kind {
        ColumnType::Boolean => DataType::Boolean,
        ColumnType::Integer => DataType::Int32,
        ColumnType::Bigint => DataType::Int64,
        ColumnType::Decimal(precision, scale) => DataType::Decimal128(precision, scale.cast_signed()),
        ColumnType::Double => DataType::Float64,
        ColumnType::Time if !time_as_text => DataType::Time64(TimeUnit::Microsecond),
        ColumnType::Text | ColumnType::Json | ColumnType::Time => DataType::Utf8,
        ColumnType::Date => DataType::Date32,
        ColumnType::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, None),
        ColumnType::Timestamptz => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
    }
}

/// `hh:mm:ss.ffffff`.
fn time_text(micros: i64) -> String {
    let seconds = micros / 1_000_000;
    format!("{:02}:{:02}:{:02}.{:06}", seconds / 3600, seconds / 60 % 60, seconds % 60, micros % 1_000_000)
}

fn scratch(error: &dyn std::fmt::Display) -> Failure {
    let text = error.to_string();
    let full = text.contains("No space left") || text.contains("os error 28");
    let code = if full { "warehouse::disk_full" } else { "warehouse::internal" };
    let kind = if full { FailureKind::Permanent } else { FailureKind::Internal };
    Failure::new(kind, code, format!("cannot write a part to scratch space: {text}"))
        .help("parts wait in the temporary directory until they are uploaded: it needs some hundred MB; set `TMPDIR` to a larger disk")
}

#[cfg(test)]
mod tests {
    use super::time_text;

    #[test]
    fn times_are_written_with_microseconds() {
        assert_eq!(time_text(0), "00:00:00.000000");
        assert_eq!(time_text(86_399_999_999), "23:59:59.999999");
    }
}
