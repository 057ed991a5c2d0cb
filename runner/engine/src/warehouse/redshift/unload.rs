//! Rows of a query out of the cluster: unloaded as Parquet, read back file by file.

use std::fs::File;
use std::io::Seek;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use errand_model::failure::{Failure, FailureKind};
use errand_model::value::ColumnType;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde::Deserialize;

use super::{Staging, load, sql};
use crate::batch::data_type;
use crate::store::{FileEntry, Store, failure_of};
use crate::warehouse::postgres::Link;
use crate::warehouse::{PutRows, TableColumn};

/// Bytes of the largest manifest: some million files.
const MANIFEST_BYTES: u64 = 256 << 20;
/// Rows of a batch.
const BATCH_ROWS: usize = 8192;

/// What `UNLOAD` says of its files.
#[derive(Deserialize)]
struct Manifest {
    entries: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    url: String,
}

/// Hands over every row of a query; says how many there were.
pub(super) async fn read(
    link: &mut Link,
    staging: &Staging,
    directory: &str,
    query: &str,
    columns: Vec<TableColumn>,
    put: PutRows,
) -> Result<u64, Failure> {
    let store = staging.store.cancelled_by(link.cancelled().clone());
    let url = store.url(&format!("{directory}/"));
    link.execute(&sql::unload(query, &columns, &url, &staging.iam_role)).await?;
    let unloaded = load::count(link, sql::UNLOADED).await?;
    let key = format!("{directory}/manifest");
    let keys = keys(&store, &key).await?;
    let mut entries = Vec::with_capacity(keys.len());
    for key in &keys {
        entries.push(store.head(key).await?.ok_or_else(|| wrong(&format!("the unloaded file `{}` is not there", store.url(key))))?);
    }
    let taking = tokio::task::spawn_blocking(move || hand_over(&entries, &columns, put));
    let taken = taking.await.map_err(|error| wrong(&format!("the thread that reads unloaded files ended: {error}")))?;
    let all: Vec<String> = keys.into_iter().chain([key]).collect();
    if let Err(failure) = store.remove(&all).await {
        tracing::warn!(error = %failure, files = all.len(), "unloaded files stay, they could not be removed");
    }
    let rows = taken?;
    if rows != unloaded {
        return Err(wrong(&format!("the cluster unloaded {unloaded} rows, and its files hold {rows}")));
    }
    Ok(rows)
}

/// Keys of the files that a manifest names, in its order. A query without rows leaves none.
async fn keys(store: &Store, manifest: &str) -> Result<Vec<String>, Failure> {
    let Some(text) = store.get_small(manifest, MANIFEST_BYTES).await? else { return Ok(Vec::new()) };
    let manifest: Manifest = serde_json::from_slice(&text).map_err(|error| wrong(&format!("the manifest of an unload: {error}")))?;
    let root = store.url("");
    let root = root.trim_end_matches('/');
    let key = |entry: Entry| {
        let key = entry.url.strip_prefix(root).map(|key| key.trim_start_matches('/').to_owned());
        key.ok_or_else(|| wrong(&format!("the unloaded file `{}` lies outside of `{root}`", entry.url)))
    };
    manifest.entries.into_iter().map(key).collect()
}

fn hand_over(entries: &[FileEntry], columns: &[TableColumn], mut put: PutRows) -> Result<u64, Failure> {
    let field = |column: &TableColumn| Field::new(&column.name, data_type(column.kind.unwrap_or(ColumnType::Text)), true);
    let schema = Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()));
    let mut rows = 0;
    for entry in entries {
        let broken = |problem: &dyn std::fmt::Display| wrong(&format!("unloaded file `{}`: {problem}", entry.path));
        let file = local(entry)?;
        let reader = ParquetRecordBatchReaderBuilder::try_new(file)
            .and_then(|builder| builder.with_batch_size(BATCH_ROWS).build())
            .map_err(|problem| broken(&problem))?;
        for batch in reader {
            let batch = documented(&batch.map_err(|problem| broken(&problem))?, &schema).map_err(|problem| broken(&problem))?;
            rows += batch.num_rows() as u64;
            put(batch)?;
        }
    }
    Ok(rows)
}

/// Parquet is read from its end: the file comes to scratch space first.
fn local(entry: &FileEntry) -> Result<File, Failure> {
    let scratch = |error: std::io::Error| {
        let message = format!("cannot bring the unloaded file `{}` here: {error}", entry.path);
        failure_of(&error).unwrap_or_else(|| Failure::new(FailureKind::Transient, "warehouse::scratch", message))
    };
    let mut file = tempfile::tempfile().map_err(scratch)?;
    std::io::copy(&mut entry.open()?, &mut file).map_err(scratch)?;
    file.rewind().map_err(scratch)?;
    Ok(file)
}

/// The columns in the types of the contract.
fn documented(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, arrow::error::ArrowError> {
    let arrays: Result<Vec<ArrayRef>, _> =
        batch.columns().iter().zip(schema.fields()).map(|(array, field)| documented_column(array, field.data_type())).collect();
    RecordBatch::try_new(Arc::clone(schema), arrays?)
}

/// Moments are counts since 1970 in UTC on both sides; casts between named zones would want a database of zones.
fn documented_column(array: &ArrayRef, wanted: &DataType) -> Result<ArrayRef, arrow::error::ArrowError> {
    let (DataType::Timestamp(unit, _), DataType::Timestamp(wanted_unit, _)) = (array.data_type(), wanted) else {
        return cast(array, wanted);
    };
    let plain = cast(&cast(array, &DataType::Int64)?, &DataType::Timestamp(*unit, None))?;
    let scaled = cast(&plain, &DataType::Timestamp(*wanted_unit, None))?;
    cast(&cast(&scaled, &DataType::Int64)?, wanted)
}

fn wrong(message: &str) -> Failure {
    Failure::new(FailureKind::Internal, "warehouse::internal", message)
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int32Array, StringArray, Time64MicrosecondArray, TimestampNanosecondArray};

    use super::*;

    #[test]
    fn unloaded_columns_get_the_types_of_the_contract() {
        let batch = RecordBatch::try_from_iter([
            ("n", Arc::new(Int32Array::from(vec![7])) as ArrayRef),
            ("t", Arc::new(StringArray::from(vec!["23:59:59.999999"]))),
            ("m", Arc::new(TimestampNanosecondArray::from(vec![1_500_000_000]))),
        ])
        .expect("a batch");
        let kinds = [("n", ColumnType::Bigint), ("t", ColumnType::Time), ("m", ColumnType::Timestamptz)];
        let schema = Arc::new(Schema::new(kinds.map(|(name, kind)| Field::new(name, data_type(kind), true)).to_vec()));
        let made = documented(&batch, &schema).expect("cast");
        assert_eq!(made.schema(), schema);
        let times = made.column(1).as_any().downcast_ref::<Time64MicrosecondArray>().expect("times");
        assert_eq!(times.value(0), 86_399_999_999);
    }

    #[tokio::test]
    async fn the_manifest_of_an_unload_gives_keys_in_its_order() {
        let root = tempfile::tempdir().expect("a directory");
        let store = Store::directory(root.path());
        let url = |key: &str| store.url(key);
        let text = serde_json::json!({ "entries": [{ "url": url("u/001.parquet") }, { "url": url("u/000.parquet"), "meta": {} }] });
        store.put("u/manifest", bytes::Bytes::from(text.to_string())).await.expect("written");
        assert_eq!(keys(&store, "u/manifest").await.expect("read"), ["u/001.parquet", "u/000.parquet"]);
        assert!(keys(&store, "nothing/manifest").await.expect("none").is_empty());
    }
}
