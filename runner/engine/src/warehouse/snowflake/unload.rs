//! Rows out of queries: as Parquet files under the stage, or, where that cannot be, as the JSON of the protocol.

use std::io::Read;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use bytes::Bytes;
use errand_model::failure::{Failure, FailureKind};
use errand_model::value::ColumnType;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::reader::{ChunkReader, Length};
use snowflake_connector_rs::{ResultCursor, ResultTable};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::run::Runner;
use super::{copy, error, result};
use crate::store::{FileEntry, Store};
use crate::warehouse::{PutRows, TableColumn};

/// Hands over every row of a query.
pub(super) async fn read(runner: &mut Runner, query: &str, put: PutRows, cancelled: &CancellationToken) -> Result<u64, Failure> {
    if !is_ordered(query)
        && runner.account.unloads()
        && let Some((stage, store)) = runner.stage(cancelled).await?
    {
        let columns = runner.describe(query, cancelled).await?;
        if are_distinct(&columns) {
            let path = format!("unload/{}-{:016x}", runner.purpose.run_id, fastrand::u64(..));
            match runner.run(&copy::into_stage(&stage, &path, query, &columns), cancelled).await {
                Ok(_) => return files(&store, &path, columns, put, cancelled).await,
                // A server without this statement, or a stage that takes no files: the query by itself will show whether it is to blame.
                Err(failure) if matches!(failure.kind, FailureKind::Permanent | FailureKind::Definition) => {
                    tracing::warn!(error = %failure, "unload to the stage is refused, rows come as json");
                    runner.account.no_unload();
                }
                Err(failure) => return Err(failure),
            }
        }
    }
    let answer = runner.run(query, cancelled).await?;
    let cursor = answer.cursor.ok_or_else(|| error::lost("the rows of a query are gone", None))?;
    json(runner, cursor, put, cancelled).await
}

/// Files have no order among them.
fn is_ordered(query: &str) -> bool {
    let lower = query.to_lowercase();
    let words: Vec<&str> = lower.split(|c: char| !(c.is_alphanumeric() || c == '_')).filter(|word| !word.is_empty()).collect();
    words.windows(2).any(|pair| pair == ["order", "by"])
}

fn are_distinct(columns: &[TableColumn]) -> bool {
    columns.iter().enumerate().all(|(at, column)| columns[..at].iter().all(|other| other.name != column.name))
}

async fn json(runner: &Runner, mut cursor: ResultCursor, mut put: PutRows, cancelled: &CancellationToken) -> Result<u64, Failure> {
    let schema = result::arrow_schema(cursor.schema());
    let (sender, mut receiver) = mpsc::channel::<ResultTable>(1);
    let taking = tokio::task::spawn_blocking(move || {
        let mut rows = 0;
        while let Some(table) = receiver.blocking_recv() {
            for batch in result::batches(&table, &schema)? {
                rows += batch.num_rows() as u64;
                put(batch)?;
            }
        }
        Ok(rows)
    });
    let mut failed = None;
    loop {
        match runner.chunk(&mut cursor, cancelled).await {
            Ok(Some(table)) => {
                // The taker ended early: its failure is the one to report.
                if sender.send(table).await.is_err() {
                    break;
                }
            }
            Ok(None) => break,
            Err(failure) => {
                failed = Some(failure);
                break;
            }
        }
    }
    drop(sender);
    let taken = taking.await.map_err(|problem| error::internal(&problem.to_string()))?;
    match failed {
        Some(failure) => Err(failure),
        None => taken,
    }
}

async fn files(
    store: &Store,
    path: &str,
    columns: Vec<TableColumn>,
    mut put: PutRows,
    cancelled: &CancellationToken,
) -> Result<u64, Failure> {
    let entries = store.cancelled_by(cancelled.clone()).list(&format!("{path}/**")).await?;
    let keys: Vec<String> = entries.iter().map(|entry| entry.path.clone()).collect();
    let token = cancelled.clone();
    let taking = tokio::task::spawn_blocking(move || {
        let mut rows = 0;
        for entry in entries {
            rows += file(&entry, &columns, &mut put, &token)?;
        }
        Ok(rows)
    });
    let taken = taking.await.map_err(|problem| error::internal(&problem.to_string()))?;
    if let Err(failure) = store.remove(&keys).await {
        tracing::warn!(error = %failure, files = keys.len(), "unloaded files stay, they could not be removed");
    }
    taken
}

fn file(entry: &FileEntry, columns: &[TableColumn], put: &mut PutRows, cancelled: &CancellationToken) -> Result<u64, Failure> {
    let broken = |problem: &dyn std::fmt::Display| error::internal(&format!("unloaded file `{}`: {problem}", entry.path));
    let reader = ParquetRecordBatchReaderBuilder::try_new(Remote(entry.clone()))
        .and_then(|builder| builder.with_batch_size(result::BATCH_ROWS).build())
        .map_err(|problem| broken(&problem))?;
    let schema = schema(columns);
    let mut rows = 0;
    for batch in reader {
        if cancelled.is_cancelled() {
            return Err(error::cancelled());
        }
        let batch = batch.map_err(|problem| broken(&problem))?;
        if batch.num_columns() != columns.len() {
            return Err(broken(&format!("{} columns instead of {}", batch.num_columns(), columns.len())));
        }
        rows += batch.num_rows() as u64;
        put(documented(&batch, &schema).map_err(|problem| broken(&problem))?)?;
    }
    Ok(rows)
}

fn schema(columns: &[TableColumn]) -> SchemaRef {
    let field = |column: &TableColumn| Field::new(&column.name, crate::batch::data_type(column.kind.unwrap_or(ColumnType::Text)), true);
    Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()))
}

/// The columns in the types of the contract; counts of microseconds become moments and times of day.
fn documented(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, arrow::error::ArrowError> {
    let column = |(array, field): (&ArrayRef, &Arc<Field>)| match field.data_type() {
        counted @ (DataType::Timestamp(..) | DataType::Time64(_)) => cast(&cast(array, &DataType::Int64)?, counted),
        other => cast(array, other),
    };
    let arrays: Result<Vec<ArrayRef>, _> = batch.columns().iter().zip(schema.fields()).map(column).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(schema), arrays?, &options)
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
        self.0.open_range(start..self.0.bytes).map_err(|failure| parquet::errors::ParquetError::External(Box::new(failure)))
    }

    fn get_bytes(&self, start: u64, length: usize) -> parquet::errors::Result<Bytes> {
        self.0.read_at(start, length as u64).map_err(|failure| parquet::errors::ParquetError::External(Box::new(failure)))
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Array as _, Decimal128Array, Int64Array};

    use super::*;

    #[test]
    fn an_ordered_query_is_not_unloaded() {
        assert!(is_ordered("select 1 ORDER\n by 1") && !is_ordered("select order_by from t"));
    }

    #[test]
    fn counts_become_moments() {
        let micros = Decimal128Array::from(vec![Some(1_500_000), None]).with_precision_and_scale(38, 0).expect("a decimal");
        let small = Int64Array::from(vec![Some(7), None]);
        let fields = vec![Field::new("a", micros.data_type().clone(), true), Field::new("b", DataType::Int64, true)];
        let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), vec![Arc::new(micros), Arc::new(small)]).expect("a batch");
        let column = |name: &str, kind| TableColumn { name: name.into(), type_name: String::new(), kind: Some(kind) };
        let schema = schema(&[column("a", ColumnType::Timestamptz), column("b", ColumnType::Decimal(10, 2))]);
        let made = documented(&batch, &schema).expect("documented types");
        assert_eq!((made.schema(), made.num_rows()), (schema, 2));
    }
}
