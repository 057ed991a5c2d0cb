//! Rows that a warehouse unloaded as Parquet: read by ranges, file by file, in the types of the contract.
//!
//! Must not know a warehouse: what each one writes for a type is told from the file.

use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use bytes::Bytes;
use errand_model::failure::{Failure, FailureKind};
use errand_model::value::ColumnType;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::errors::ParquetError;
use parquet::file::reader::{ChunkReader, Length};
use tokio_util::sync::CancellationToken;

use super::{PutRows, TableColumn, parts};
use crate::batch::data_type;
use crate::store::{FileEntry, Store};

/// Time for the removal of files of an unload that failed.
const PATIENCE: Duration = Duration::from_secs(15);

/// Rows of a batch.
const BATCH_ROWS: usize = 8192;

/// Hands over every row of the files, in their order; says how many there were. Then the files and `others` of the unload are removed, also
/// after a failure; what cannot be removed is only logged.
///
/// # Errors
///
/// What `put` or the store says; `Cancelled` soon after `cancelled`.
pub(super) async fn hand_over(
    store: &Store,
    (entries, others): (Vec<FileEntry>, Vec<String>),
    columns: Vec<TableColumn>,
    mut put: PutRows,
    cancelled: &CancellationToken,
) -> Result<u64, Failure> {
    let keys: Vec<String> = entries.iter().map(|entry| entry.path.clone()).chain(others).collect();
    let token = cancelled.clone();
    let taking = tokio::task::spawn_blocking(move || {
        let schema = schema(&columns);
        let mut rows = 0;
        for entry in entries {
            rows += file(&entry, &schema, &mut put, &token)?;
        }
        Ok(rows)
    });
    let taken = taking.await.map_err(|error| wrong(format!("the thread that reads unloaded files ended: {error}")))?;
    if let Err(failure) = store.remove(&keys).await {
        tracing::warn!(error = %failure, files = keys.len(), "unloaded files stay, they could not be removed");
    }
    taken
}

/// Removes what an unload that failed left in its directory, also after a cancellation: nobody else looks there. What cannot be removed soon is
/// only logged.
pub(super) async fn abandon(store: &Store, directory: &str) {
    if tokio::time::timeout(PATIENCE, parts::sweep(store, directory)).await.is_err() {
        tracing::warn!(directory, "unloaded files may stay, their place does not answer");
    }
}

fn file(entry: &FileEntry, schema: &SchemaRef, put: &mut PutRows, cancelled: &CancellationToken) -> Result<u64, Failure> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(Remote(entry.clone()))
        .and_then(|builder| builder.with_batch_size(BATCH_ROWS).build())
        .map_err(|error| unreadable(entry, error))?;
    let mut rows = 0;
    for batch in reader {
        if cancelled.is_cancelled() {
            return Err(Failure::new(FailureKind::Cancelled, "warehouse::cancelled", "reading the unloaded rows was cancelled"));
        }
        let batch = batch.map_err(|error| unreadable(entry, error.into()))?;
        if batch.num_columns() != schema.fields().len() {
            let message = format!("unloaded file `{}`: {} columns instead of {}", entry.path, batch.num_columns(), schema.fields().len());
            return Err(wrong(message));
        }
        rows += batch.num_rows() as u64;
        put(documented(&batch, schema)?)?;
    }
    Ok(rows)
}

fn schema(columns: &[TableColumn]) -> SchemaRef {
    let field = |column: &TableColumn| Field::new(&column.name, data_type(column.kind.unwrap_or(ColumnType::Text)), true);
    Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()))
}

/// The columns in the types of the contract.
fn documented(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, Failure> {
    let columns = batch.columns().iter().zip(schema.fields());
    let arrays: Result<Vec<ArrayRef>, Failure> =
        columns.map(|(array, field)| column(array, field.data_type()).map_err(|error| unfit(field.name(), &error))).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(schema), arrays?, &options).map_err(|error| wrong(error.to_string()))
}

/// A value that the type does not hold is an error, never a NULL.
fn cast(array: &ArrayRef, wanted: &DataType) -> Result<ArrayRef, ArrowError> {
    cast_with_options(array, wanted, &CastOptions { safe: false, ..CastOptions::default() })
}

fn unfit(column: &str, error: &ArrowError) -> Failure {
    let message = format!("column `{column}` holds a value that its type does not: {error}");
    Failure::new(FailureKind::Permanent, "warehouse::value", message).help("cast the column in the query")
}

/// Moments are counts since 1970 in UTC on both sides: casts between named zones would want a database of zones. Where a moment or a time of
/// day is a number in the file, it counts microseconds.
fn column(array: &ArrayRef, wanted: &DataType) -> Result<ArrayRef, ArrowError> {
    match (array.data_type(), wanted) {
        (DataType::Timestamp(unit, _), DataType::Timestamp(wanted_unit, _)) => {
            let plain = cast(&cast(array, &DataType::Int64)?, &DataType::Timestamp(*unit, None))?;
            let scaled = cast(&plain, &DataType::Timestamp(*wanted_unit, None))?;
            cast(&cast(&scaled, &DataType::Int64)?, wanted)
        }
        (number, DataType::Timestamp(..) | DataType::Time64(_)) if number.is_numeric() => cast(&cast(array, &DataType::Int64)?, wanted),
        _ => cast(array, wanted),
    }
}

/// Of a store that fails its own failure, else that the file is none.
fn unreadable(entry: &FileEntry, error: ParquetError) -> Failure {
    match error {
        ParquetError::External(inner) => match inner.downcast::<Failure>() {
            Ok(failure) => *failure,
            Err(other) => wrong(format!("unloaded file `{}`: {other}", entry.path)),
        },
        other => wrong(format!("unloaded file `{}`: {other}", entry.path)),
    }
}

fn wrong(message: String) -> Failure {
    Failure::new(FailureKind::Internal, "warehouse::internal", message)
}

/// A file read by ranges, wherever it lies.
struct Remote(FileEntry);

impl Length for Remote {
    fn len(&self) -> u64 {
        self.0.bytes
    }
}

impl ChunkReader for Remote {
    type T = Box<dyn Read + Send>;

    fn get_read(&self, start: u64) -> parquet::errors::Result<Self::T> {
        self.0.open_range(start..self.0.bytes).map_err(|failure| ParquetError::External(Box::new(failure)))
    }

    fn get_bytes(&self, start: u64, length: usize) -> parquet::errors::Result<Bytes> {
        self.0.read_at(start, length as u64).map_err(|failure| ParquetError::External(Box::new(failure)))
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Array, AsArray, Decimal128Array, Int32Array, Int64Array, StringArray, TimestampNanosecondArray};
    use arrow::datatypes::{Time64MicrosecondType, TimestampMicrosecondType};

    use super::*;

    fn made(columns: Vec<(&str, ArrayRef, ColumnType)>) -> RecordBatch {
        let named = columns.iter().map(|(name, _, kind)| TableColumn { name: (*name).into(), type_name: String::new(), kind: Some(*kind) });
        let schema = schema(&named.collect::<Vec<_>>());
        let batch = RecordBatch::try_from_iter(columns.into_iter().map(|(name, array, _)| (name, array))).expect("a batch");
        let made = documented(&batch, &schema).expect("the types of the contract");
        assert_eq!(made.schema(), schema);
        made
    }

    #[test]
    fn counts_become_moments() {
        let micros = Decimal128Array::from(vec![Some(1_500_000), None]).with_precision_and_scale(38, 0).expect("a decimal");
        let small = Int64Array::from(vec![Some(7), None]);
        let batch = made(vec![
            ("a", Arc::new(micros), ColumnType::Timestamptz),
            ("b", Arc::new(small.clone()), ColumnType::Decimal(10, 2)),
            ("c", Arc::new(small), ColumnType::Time),
        ]);
        assert_eq!(batch.column(0).as_primitive::<TimestampMicrosecondType>().value(0), 1_500_000);
        assert_eq!(batch.column(2).as_primitive::<Time64MicrosecondType>().value(0), 7);
        assert!(batch.column(0).is_null(1) && batch.num_rows() == 2);
    }

    #[test]
    fn a_value_that_does_not_fit_fails_and_is_no_null() {
        let big = Decimal128Array::from(vec![1_i128 << 64]).with_precision_and_scale(38, 0).expect("a decimal");
        let batch = RecordBatch::try_from_iter([("n", Arc::new(big) as ArrayRef)]).expect("a batch");
        let column = TableColumn { name: "n".into(), type_name: String::new(), kind: Some(ColumnType::Bigint) };
        let failure = documented(&batch, &schema(&[column])).expect_err("too large");
        assert_eq!((failure.kind, failure.code.as_str()), (FailureKind::Permanent, "warehouse::value"));
        assert!(failure.message.contains("`n`") && failure.help.is_some(), "{failure:?}");
    }

    #[test]
    fn texts_and_finer_moments_become_what_was_meant() {
        let batch = made(vec![
            ("n", Arc::new(Int32Array::from(vec![7])), ColumnType::Bigint),
            ("t", Arc::new(StringArray::from(vec!["23:59:59.999999"])), ColumnType::Time),
            ("m", Arc::new(TimestampNanosecondArray::from(vec![1_500_000_000])), ColumnType::Timestamptz),
        ]);
        assert_eq!(batch.column(1).as_primitive::<Time64MicrosecondType>().value(0), 86_399_999_999);
        assert_eq!(batch.column(2).as_primitive::<TimestampMicrosecondType>().value(0), 1_500_000);
    }
}
