//! One Parquet file after the other for one table, in scratch space.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray, Time64MicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use errand_model::failure::Failure;
use errand_model::value::ColumnType;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use tempfile::TempPath;

use super::{Finished, Sink, StagedTable, defect};
use crate::batch;
use crate::store::scratch::{self, Scratch};
use crate::warehouse::{Chunk, NextChunk};

/// A warehouse loads a file with one thread: files of this size keep many of them busy.
const PART_BYTES: usize = 160 << 20;
/// Rows of a row group.
const GROUP_ROWS: usize = 128 * 1024;
/// A row group ends earlier when its rows are long.
const GROUP_BYTES: usize = 32 << 20;

/// Writes every chunk to files of its table.
///
/// # Errors
///
/// What `next` says, or the scratch space.
pub(super) fn write(tables: &[StagedTable], mut next: NextChunk, sink: &Sink) -> Result<(), Failure> {
    let mut writers: Vec<TableWriter> = tables.iter().enumerate().map(|(index, table)| TableWriter::new(index, table)).collect();
    while !sink.is_closed()
        && let Some(Chunk { table, rows }) = next()?
    {
        let writer = writers.get_mut(table).ok_or_else(|| defect(format!("rows for a table with index {table}, which nobody named")))?;
        // Nobody takes it when an upload failed: that failure is the one to report.
        if let Some(finished) = writer.write(&rows)?
            && !sink.put(finished)
        {
            return Ok(());
        }
    }
    for writer in writers {
        if let Some(finished) = writer.finish()?
            && !sink.put(finished)
        {
            return Ok(());
        }
    }
    Ok(())
}

/// Writes the rows of one table.
struct TableWriter {
    table: usize,
    schema: SchemaRef,
    time_as_text: bool,
    open: Option<Open>,
}

struct Open {
    writer: ArrowWriter<Scratch>,
    path: TempPath,
    rows: u64,
}

impl TableWriter {
    fn new(index: usize, table: &StagedTable) -> Self {
        let field = |(name, kind): &(String, ColumnType)| Field::new(name, data_type(*kind, table.time_as_text), true);
        let schema = Arc::new(Schema::new(table.columns.iter().map(field).collect::<Vec<_>>()));
        Self { table: index, schema, time_as_text: table.time_as_text, open: None }
    }

    /// Adds rows; a file that is full is handed over.
    fn write(&mut self, rows: &RecordBatch) -> Result<Option<Finished>, Failure> {
        if rows.num_rows() == 0 {
            return Ok(None);
        }
        let columns: Vec<ArrayRef> = rows.columns().iter().map(|column| self.column(column)).collect();
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), columns)
            .map_err(|error| defect(format!("rows do not fit their table: {error}")))?;
        let mut open = match self.open.take() {
            Some(open) => open,
            None => Open::new(&self.schema).map_err(|error| scratch::failure(&error))?,
        };
        open.writer.write(&batch).map_err(|error| scratch::failure(&error))?;
        open.rows += batch.num_rows() as u64;
        if open.writer.in_progress_size() >= GROUP_BYTES {
            open.writer.flush().map_err(|error| scratch::failure(&error))?;
        }
        if open.writer.bytes_written() + open.writer.in_progress_size() < PART_BYTES {
            self.open = Some(open);
            return Ok(None);
        }
        open.finish(self.table).map(Some)
    }

    fn finish(self) -> Result<Option<Finished>, Failure> {
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
        let (scratch, path) = Scratch::create()?;
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .set_max_row_group_row_count(Some(GROUP_ROWS))
            .set_created_by("errand".to_owned())
            .build();
        let writer = ArrowWriter::try_new(scratch, Arc::clone(schema), Some(properties)).map_err(std::io::Error::other)?;
        Ok(Self { writer, path, rows: 0 })
    }

    fn finish(self, table: usize) -> Result<Finished, Failure> {
        let scratch = self.writer.into_inner().map_err(|error| scratch::failure(&error))?;
        let (bytes, sha256) = scratch.finish().map_err(|error| scratch::failure(&error))?;
        Ok(Finished { table, file: self.path, extension: "parquet", rows: self.rows, bytes, sha256 })
    }
}

fn data_type(kind: ColumnType, time_as_text: bool) -> DataType {
    if kind == ColumnType::Time && time_as_text { DataType::Utf8 } else { batch::data_type(kind) }
}

/// `hh:mm:ss.ffffff`.
fn time_text(micros: i64) -> String {
    let seconds = micros / 1_000_000;
    format!("{:02}:{:02}:{:02}.{:06}", seconds / 3600, seconds / 60 % 60, seconds % 60, micros % 1_000_000)
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
