//! Rows as Parquet files in a place that a warehouse reads from: files of the right size, under names that their content decides.
//!
//! A file is written to scratch space first, then uploaded unless one with its name is there; the manifest comes last. Memory holds
//! one row group for each table. Must not know a warehouse: each one loads the files with its own SQL.

mod file;

use bytes::Bytes;
use errand_model::failure::{Failure, FailureKind};
use errand_model::value::ColumnType;
use serde::Serialize;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{Chunk, NextChunk};
use crate::store::{Put, Store};
use file::{Finished, TableWriter};

/// A table whose rows are staged.
#[derive(Clone, Debug)]
pub(super) struct StagedTable {
    /// Directory of its files, relative to the store; ends without `/`.
    pub(super) directory: String,
    /// Columns in the order of the chunks, by the names that the files give them.
    pub(super) columns: Vec<(String, ColumnType)>,
    /// Whether times of day are written as text, for warehouses that read no Parquet times.
    pub(super) time_as_text: bool,
}

/// One file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Part {
    /// Key in the store.
    #[serde(rename = "file")]
    pub(super) key: String,
    /// Its rows.
    pub(super) rows: u64,
    /// Its size.
    pub(super) bytes: u64,
    /// Digest of its content, hexadecimal.
    pub(super) sha256: String,
}

/// The files of one table, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Manifest {
    /// Key of the manifest itself.
    #[serde(skip)]
    pub(super) key: String,
    /// The files.
    pub(super) parts: Vec<Part>,
}

impl Manifest {
    /// Rows of all files.
    pub(super) fn rows(&self) -> u64 {
        self.parts.iter().map(|part| part.rows).sum()
    }
}

/// Writes every chunk to files of its table; returns the manifests in the order of the tables. No rows, no files.
///
/// # Errors
///
/// What `next` or the store says; `Cancelled` soon after `cancelled`.
pub(super) async fn stage(
    store: &Store,
    tables: Vec<StagedTable>,
    next: NextChunk,
    cancelled: &CancellationToken,
) -> Result<Vec<Manifest>, Failure> {
    let store = store.cancelled_by(cancelled.clone());
    let mut manifests: Vec<Manifest> =
        tables.iter().map(|table| Manifest { key: format!("{}/manifest.json", table.directory), parts: Vec::new() }).collect();
    let directories: Vec<String> = tables.iter().map(|table| table.directory.clone()).collect();
    let (sender, mut receiver) = mpsc::channel::<Finished>(1);
    let writing = tokio::task::spawn_blocking(move || write(&tables, next, &sender));
    let mut refused = None;
    while let Some(finished) = receiver.recv().await {
        match upload(&store, &directories, &mut manifests, &finished).await {
            Ok(()) => {}
            Err(failure) => {
                refused = Some(failure);
                break;
            }
        }
    }
    drop(receiver);
    let written = writing.await.map_err(|error| failure("warehouse::internal", format!("the writing thread ended: {error}")))?;
    if let Some(failure) = refused {
        return Err(failure);
    }
    written?;
    for manifest in &manifests {
        if !manifest.parts.is_empty() {
            let text = serde_json::to_vec(manifest).map_err(|error| failure("warehouse::internal", format!("manifest: {error}")))?;
            store.put(&manifest.key, Bytes::from(text)).await?;
        }
    }
    Ok(manifests)
}

/// Removes the files of manifests; what cannot be removed is only logged, for it is loaded.
pub(super) async fn remove(store: &Store, manifests: &[Manifest]) {
    let keys: Vec<String> = manifests
        .iter()
        .filter(|manifest| !manifest.parts.is_empty())
        .flat_map(|manifest| manifest.parts.iter().map(|part| part.key.clone()).chain([manifest.key.clone()]))
        .collect();
    if let Err(failure) = store.remove(&keys).await {
        tracing::warn!(error = %failure, files = keys.len(), "staged files stay, they could not be removed");
    }
}

/// A directory name for a table: what is no letter, digit, `-` or `_` becomes `_`, so that two tables may share one only by such a character.
pub(super) fn directory(load: &str, table: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_') { c } else { '_' };
    format!("{load}/{}", table.chars().map(plain).collect::<String>())
}

async fn upload(store: &Store, directories: &[String], manifests: &mut [Manifest], finished: &Finished) -> Result<(), Failure> {
    let (Some(directory), Some(manifest)) = (directories.get(finished.table), manifests.get_mut(finished.table)) else {
        return Err(failure("warehouse::internal", format!("no table with index {}", finished.table)));
    };
    let hash = finished.sha256.get(..16).unwrap_or(&finished.sha256);
    let key = format!("{directory}/{:05}-{hash}.parquet", manifest.parts.len());
    let put = store.put_new_file(finished.file.path(), &key).await?;
    tracing::debug!(file = %key, rows = finished.rows, bytes = finished.bytes, new = (put == Put::Created), "part staged");
    manifest.parts.push(Part { key, rows: finished.rows, bytes: finished.bytes, sha256: finished.sha256.clone() });
    Ok(())
}

fn write(tables: &[StagedTable], mut next: NextChunk, sender: &mpsc::Sender<Finished>) -> Result<(), Failure> {
    let mut writers = Vec::with_capacity(tables.len());
    for (index, table) in tables.iter().enumerate() {
        writers.push(TableWriter::new(index, table)?);
    }
    while let Some(Chunk { table, rows }) = next()? {
        let Some(writer) = writers.get_mut(table) else {
            return Err(failure("warehouse::internal", format!("rows for a table with index {table}, which nobody named")));
        };
        if let Some(finished) = writer.write(&rows)? {
            // Nobody takes it when an upload failed: that failure is the one to report.
            if sender.blocking_send(finished).is_err() {
                return Ok(());
            }
        }
    }
    for writer in writers {
        if let Some(finished) = writer.finish()?
            && sender.blocking_send(finished).is_err()
        {
            return Ok(());
        }
    }
    Ok(())
}

fn failure(code: &str, message: String) -> Failure {
    Failure::new(FailureKind::Internal, code, message)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Int64Array, RecordBatch, Time64MicrosecondArray};
    use arrow::datatypes::{DataType, Field, Schema, TimeUnit};

    use super::*;

    fn chunks(table: usize) -> NextChunk {
        let fields = vec![Field::new("n", DataType::Int64, true), Field::new("t", DataType::Time64(TimeUnit::Microsecond), true)];
        let schema = Arc::new(Schema::new(fields));
        let mut left = 3;
        Box::new(move || {
            if left == 0 {
                return Ok(None);
            }
            left -= 1;
            let numbers = Arc::new(Int64Array::from(vec![Some(i64::from(left)), None]));
            let times = Arc::new(Time64MicrosecondArray::from(vec![Some(3_723_000_004), None]));
            let rows = RecordBatch::try_new(Arc::clone(&schema), vec![numbers, times]).expect("a batch");
            Ok(Some(Chunk { table, rows }))
        })
    }

    fn table(directory: &str) -> StagedTable {
        let columns = vec![("N".to_owned(), ColumnType::Bigint), ("T".to_owned(), ColumnType::Time)];
        StagedTable { directory: directory.to_owned(), columns, time_as_text: true }
    }

    #[tokio::test]
    async fn names_follow_from_content_and_the_manifest_counts_rows() {
        let root = tempfile::tempdir().expect("a directory");
        let store = Store::directory(root.path());
        let token = CancellationToken::new();
        let tables = vec![table("load/a"), table("load/b")];
        let first = stage(&store, tables.clone(), chunks(0), &token).await.expect("staged");
        let second = stage(&store, tables, chunks(0), &token).await.expect("staged again");
        assert_eq!(first, second);
        assert_eq!((first[0].rows(), first[0].parts.len(), first[1].parts.len()), (6, 1, 0));
        assert!(first[0].parts[0].key.starts_with("load/a/00000-"));
        assert!(root.path().join("load/a/manifest.json").exists() && !root.path().join("load/b").exists());
        remove(&store, &first).await;
        assert!(!root.path().join(&first[0].parts[0].key).exists() && !root.path().join("load/a/manifest.json").exists());
    }

    #[tokio::test]
    async fn a_failure_of_the_source_is_the_failure() {
        let root = tempfile::tempdir().expect("a directory");
        let next: NextChunk = Box::new(|| Err(Failure::new(FailureKind::Rejected, "ingest::bad", "bad file")));
        let result = stage(&Store::directory(root.path()), vec![table("l/t")], next, &CancellationToken::new()).await;
        assert_eq!(result.expect_err("refused").code, "ingest::bad");
    }

    #[test]
    fn directories_are_plain() {
        assert_eq!(directory("abc", "RAW.Ord/ers \u{e9}"), "abc/RAW_Ord_ers__");
    }
}
