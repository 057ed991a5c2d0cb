//! Rows into the cluster: staged as Parquet, copied by manifest, counted, inserted.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::DataType;
use bytes::Bytes;
use errand_model::failure::{Failure, FailureKind};

use super::{CAPABILITIES, Staging, sql};
use crate::warehouse::parts::{self, Parts, StagedTable};
use crate::warehouse::postgres::Link;
use crate::warehouse::{AppendTarget, Chunk, Extraction, NextChunk};

/// Appends all chunks; says how many rows went to each table.
pub(super) async fn append(
    link: &mut Link,
    staging: &Staging,
    load: &str,
    targets: Vec<AppendTarget>,
    next: NextChunk,
    extraction: Option<&dyn Extraction>,
) -> Result<Vec<u64>, Failure> {
    let cancelled = link.cancelled().clone();
    let store = staging.store.cancelled_by(cancelled.clone());
    let tables = targets.iter().map(table).collect();
    let place = parts::Staging::new(&staging.store, load, extraction, &cancelled);
    let staged = place.rows(tables, checked(targets.clone(), next)).await?;
    let mut counts = Vec::with_capacity(targets.len());
    for (at, (target, parts)) in targets.iter().zip(&staged.tables).enumerate() {
        if parts.0.is_empty() {
            counts.push(0);
            continue;
        }
        let key = format!("{load}/{at}/redshift.manifest");
        let files: Vec<(String, u64)> = parts.0.iter().map(|part| (store.url(&part.key), part.bytes)).collect();
        store.put(&key, Bytes::from(sql::manifest(&files))).await?;
        counts.push(load_files(link, target, parts, &sql::copy(&store.url(&key), &staging.iam_role)).await?);
        store.remove(&[key]).await?;
    }
    staged.loaded().await;
    Ok(counts)
}

fn table(target: &AppendTarget) -> StagedTable {
    let columns = target.columns.iter().map(|(name, kind)| (CAPABILITIES.fold(name), *kind)).collect();
    StagedTable { columns, time_as_text: true }
}

async fn load_files(link: &mut Link, target: &AppendTarget, parts: &Parts, copy: &str) -> Result<u64, Failure> {
    link.execute(&sql::drop_load()).await?;
    link.execute(&sql::create_load(&target.columns)).await?;
    link.execute(copy).await.map_err(explained)?;
    let copied = count(link, sql::COPIED).await?;
    if copied != parts.rows() {
        let message = format!("`{}`: the staged files hold {} rows, and the cluster copied {copied}", target.table, parts.rows());
        return Err(Failure::new(FailureKind::Permanent, "warehouse::refused", message)
            .help("nothing was published; see `stl_load_commits` on the cluster"));
    }
    let inserted = link.execute(&sql::insert_loaded(target)).await?;
    link.execute(&sql::drop_load()).await?;
    Ok(inserted)
}

pub(super) async fn count(link: &mut Link, sql: &str) -> Result<u64, Failure> {
    let rows = link.query(sql, 1).await?;
    let text = rows.into_iter().flatten().flatten().next().unwrap_or_default();
    text.parse().map_err(|_| Failure::new(FailureKind::Internal, "warehouse::internal", format!("`{sql}` answered `{text}`")))
}

/// What a `COPY` says of a bad file lies in a table of the cluster.
fn explained(failure: Failure) -> Failure {
    if failure.help.is_some() {
        return failure;
    }
    failure.help("see `sys_load_error_detail` on the cluster; the role of `iam_role` must be attached to it and may list and read the staging bucket")
}

/// Refuses text that no column holds, before anything is staged: the cluster would cut it or fail without saying where.
fn checked(targets: Vec<AppendTarget>, mut next: NextChunk) -> NextChunk {
    let mut rows = vec![0_u64; targets.len()];
    Box::new(move || {
        let chunk = next()?;
        if let Some(Chunk { table, rows: batch }) = &chunk
            && let (Some(target), Some(before)) = (targets.get(*table), rows.get_mut(*table))
        {
            refuse_long(target, batch, *before)?;
            *before += batch.num_rows() as u64;
        }
        Ok(chunk)
    })
}

fn refuse_long(target: &AppendTarget, batch: &RecordBatch, before: u64) -> Result<(), Failure> {
    for ((name, _), array) in target.columns.iter().zip(batch.columns()) {
        if array.data_type() != &DataType::Utf8 {
            continue;
        }
        let texts = array.as_string::<i32>();
        let length = |row: usize| texts.value_length(row).unsigned_abs() as usize;
        let Some(row) = (0..texts.len()).find(|row| length(*row) > sql::TEXT_BYTES && texts.is_valid(*row)) else { continue };
        let message = format!(
            "column `{name}` of `{}` cannot hold the text of row {}: it has {} bytes, and the longest may have {}",
            target.table,
            before + row as u64 + 1,
            length(row),
            sql::TEXT_BYTES
        );
        return Err(Failure::new(FailureKind::Permanent, "warehouse::value", message)
            .help("shorten it in the source, or load this table into a warehouse with longer texts"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::StringArray;
    use errand_model::job::TableName;
    use errand_model::value::ColumnType;

    use super::*;

    #[test]
    fn text_that_no_column_holds_is_refused_with_its_row() {
        let target = AppendTarget {
            table: TableName { schema: None, name: "notes".to_owned() },
            columns: vec![("body".to_owned(), ColumnType::Text)],
        };
        let texts = Arc::new(StringArray::from(vec![Some("ä".repeat(32_767)), None, Some("ä".repeat(32_768))]));
        let batch = RecordBatch::try_from_iter_with_nullable([("body", texts as _, true)]).expect("a batch");
        let mut give = vec![batch.clone(), batch.slice(0, 2)];
        let mut next = checked(vec![target], Box::new(move || Ok(give.pop().map(|rows| Chunk { table: 0, rows }))));
        assert!(next().expect("fits").is_some());
        let Err(failure) = next() else { panic!("refused") };
        assert_eq!(failure.code, "warehouse::value");
        assert_eq!(
            failure.message,
            "column `body` of `notes` cannot hold the text of row 5: it has 65536 bytes, and the longest may have 65535"
        );
    }
}
