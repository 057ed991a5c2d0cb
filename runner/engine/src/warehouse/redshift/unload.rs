//! Rows of a query out of the cluster: unloaded as Parquet, read back file by file.

use errand_model::failure::{Failure, FailureKind};
use serde::Deserialize;

use super::{Staging, load, sql};
use crate::store::Store;
use crate::warehouse::postgres::Link;
use crate::warehouse::{PutRows, TableColumn, unloaded};

/// Bytes of the largest manifest: some million files.
const MANIFEST_BYTES: u64 = 256 << 20;

/// What `UNLOAD` says of its files.
#[derive(Deserialize)]
struct Manifest {
    entries: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    url: String,
}

/// Hands over every row of a query; says how many there were. Its files are removed, also after a failure.
pub(super) async fn read(
    link: &mut Link,
    staging: &Staging,
    directory: &str,
    query: &str,
    columns: Vec<TableColumn>,
    put: PutRows,
) -> Result<u64, Failure> {
    let rows = unload(link, staging, directory, query, columns, put).await;
    if rows.is_err() {
        unloaded::abandon(&staging.store, directory).await;
    }
    rows
}

async fn unload(
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
    let expected = load::count(link, sql::UNLOADED).await?;
    let key = format!("{directory}/manifest");
    let keys = keys(&store, &key).await?;
    let mut entries = Vec::with_capacity(keys.len());
    for key in &keys {
        entries.push(store.head(key).await?.ok_or_else(|| wrong(&format!("the unloaded file `{}` is not there", store.url(key))))?);
    }
    let rows = unloaded::hand_over(&store, (entries, vec![key]), columns, put, link.cancelled()).await?;
    if rows != expected {
        return Err(wrong(&format!("the cluster unloaded {expected} rows, and its files hold {rows}")));
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

fn wrong(message: &str) -> Failure {
    Failure::new(FailureKind::Internal, "warehouse::internal", message)
}

#[cfg(test)]
mod tests {
    use super::*;

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
