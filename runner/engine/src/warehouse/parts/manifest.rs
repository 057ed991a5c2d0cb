//! What an extraction left in the store, written last: from then on a later attempt may take it.

use std::collections::BTreeMap;

use bytes::Bytes;
use errand_model::failure::Failure;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{Parts, defect};
use crate::store::{FileEntry, Put, Store};

/// Of the format. A manifest of another one is passed over.
const VERSION: u32 = 1;
/// Bytes of the largest manifest: it names files and refused rows, both in bounded numbers.
const MOST_BYTES: u64 = 64 << 20;

/// All files of one extraction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Manifest {
    version: u32,
    /// The program: another version may read the same files differently.
    errand: String,
    /// What decided the rows.
    inputs: Value,
    /// For each table, in their order.
    pub(super) tables: Vec<Parts>,
    /// What is known of the rows beside themselves.
    pub(super) account: Value,
}

impl Manifest {
    pub(super) fn new(inputs: Value, tables: Vec<Parts>, account: Value) -> Self {
        Self { version: VERSION, errand: env!("CARGO_PKG_VERSION").to_owned(), inputs, tables, account }
    }

    /// Rows of all tables.
    pub(super) fn rows(&self) -> u64 {
        self.tables.iter().map(Parts::rows).sum()
    }

    /// The manifest of these inputs, if it is there with all its files.
    ///
    /// # Errors
    ///
    /// What the store says.
    pub(super) async fn find(store: &Store, load: &str, inputs: &Value, tables: usize) -> Result<Option<Self>, Failure> {
        let wanted = Self::new(inputs.clone(), Vec::new(), Value::Null);
        let key = wanted.key(load);
        let Some(text) = store.get_small(&key, MOST_BYTES).await? else { return Ok(None) };
        let found = match serde_json::from_slice::<Self>(&text) {
            Ok(found) => found,
            Err(error) => {
                tracing::debug!(key, %error, "manifest cannot be read, the rows are extracted anew");
                return Ok(None);
            }
        };
        let is_wanted = (found.version, &found.errand, &found.inputs) == (wanted.version, &wanted.errand, &wanted.inputs);
        if !is_wanted || found.tables.len() != tables || !are_there(store, load, &found.tables).await? {
            tracing::debug!(key, "manifest does not fit its files, the rows are extracted anew");
            return Ok(None);
        }
        Ok(Some(found))
    }

    /// Writes it, unless another runner was faster with the same inputs: then that one's is returned, and `false`.
    ///
    /// # Errors
    ///
    /// What the store says.
    pub(super) async fn commit(self, store: &Store, load: &str) -> Result<(Self, bool), Failure> {
        let key = self.key(load);
        let text = Bytes::from(serde_json::to_vec(&self).map_err(|error| defect(format!("a manifest cannot be written: {error}")))?);
        if store.put_new(&key, text.clone()).await? == Put::Created {
            return Ok((self, true));
        }
        if let Some(others) = Self::find(store, load, &self.inputs, self.tables.len()).await? {
            return Ok((others, false));
        }
        // The one that is there is of no use to anybody: its files are gone.
        store.put(&key, text).await?;
        Ok((self, true))
    }

    /// Other inputs, another key: a manifest is never overwritten by one that says something else.
    fn key(&self, load: &str) -> String {
        let hash = Sha256::digest(format!("{}\n{}\n{}", self.version, self.errand, self.inputs));
        let start: String = hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        format!("{load}/manifest-{start}.json")
    }
}

/// Whether all files are there with their sizes.
///
/// # Errors
///
/// What the store says.
pub(super) async fn are_there(store: &Store, load: &str, tables: &[Parts]) -> Result<bool, Failure> {
    let there: BTreeMap<String, u64> = all(store, load).await?.into_iter().map(|entry| (entry.path, entry.bytes)).collect();
    Ok(tables.iter().flat_map(|parts| &parts.0).all(|part| there.get(&part.key) == Some(&part.bytes)))
}

/// Removes all that lies there for a load, whichever attempt left it; what cannot be removed is only logged, for it is loaded.
pub(in crate::warehouse) async fn sweep(store: &Store, load: &str) {
    match all(store, load).await {
        Ok(found) => remove(store, &found.into_iter().map(|entry| entry.path).collect::<Vec<_>>()).await,
        Err(failure) => tracing::warn!(error = %failure, load, "staged files stay, they could not be listed"),
    }
}

async fn all(store: &Store, load: &str) -> Result<Vec<FileEntry>, Failure> {
    store.list(&format!("{load}/**")).await
}

/// Removes files; what cannot be removed is only logged.
pub(super) async fn remove(store: &Store, keys: &[String]) {
    if keys.is_empty() {
        return;
    }
    if let Err(failure) = store.remove(keys).await {
        tracing::warn!(error = %failure, files = keys.len(), "staged files stay, they could not be removed");
    }
}
