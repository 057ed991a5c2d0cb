//! Rows as files in a place that a warehouse reads from: of the right size, under names that load and content decide.
//!
//! A file is made in scratch space, then uploaded unless one with its name is there. Of rows that can be extracted again, a manifest says at
//! the end that all files are there; an attempt that finds it takes them and extracts nothing. Must not know a warehouse: each one loads
//! the files with its own SQL.

mod file;
mod manifest;
mod upload;

use errand_model::failure::{Failure, FailureKind};
use errand_model::value::ColumnType;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

pub(super) use manifest::sweep;
pub(super) use upload::{Finished, Sink};

use super::{Extraction, NextChunk};
use crate::store::Store;
use manifest::Manifest;

/// A table whose rows become Parquet files.
#[derive(Clone, Debug)]
pub(super) struct StagedTable {
    /// Columns in the order of the chunks, by the names that the files give them.
    pub(super) columns: Vec<(String, ColumnType)>,
    /// Whether times of day are written as text, for warehouses that read no Parquet times.
    pub(super) time_as_text: bool,
}

/// One file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Part {
    /// Key in the store: `<load>/<table>/<number>-<start of the digest>.<extension>`.
    #[serde(rename = "file")]
    pub(super) key: String,
    /// Its rows.
    pub(super) rows: u64,
    /// Its size.
    pub(super) bytes: u64,
    /// Digest of its content, hexadecimal.
    pub(super) sha256: String,
}

/// The files of one table, in order. No rows, no files.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Parts(pub(super) Vec<Part>);

impl Parts {
    /// Rows of all files.
    pub(super) fn rows(&self) -> u64 {
        self.0.iter().map(|part| part.rows).sum()
    }
}

/// Where the files of one load go.
pub(super) struct Staging<'a> {
    /// The place that the warehouse reads from.
    pub(super) store: Store,
    /// Directory of the load's files: see [`directory`].
    pub(super) load: String,
    /// What the rows are extracted from, where that can be done again.
    pub(super) extraction: Option<&'a dyn Extraction>,
}

/// Files that are all there.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Staged {
    store: Store,
    load: String,
    /// For each table, in their order.
    pub(super) tables: Vec<Parts>,
    /// Whether a later attempt may take them: a manifest names them.
    is_kept: bool,
}

impl<'a> Staging<'a> {
    pub(super) fn new(store: &Store, load: &str, extraction: Option<&'a dyn Extraction>, cancelled: &CancellationToken) -> Self {
        Self { store: store.cancelled_by(cancelled.clone()), load: load.to_owned(), extraction }
    }

    /// Writes every chunk to Parquet files of its table, unless an earlier attempt left them all.
    ///
    /// # Errors
    ///
    /// What `next` or the store says; `Cancelled` soon after the cancellation.
    pub(super) async fn rows(&self, tables: Vec<StagedTable>, next: NextChunk) -> Result<Staged, Failure> {
        self.files(tables.len(), move |sink| file::write(&tables, next, sink)).await
    }

    /// Stages the files that `make` finishes for so many tables, unless an earlier attempt left them all. `make` runs on a thread that
    /// may block.
    ///
    /// # Errors
    ///
    /// What `make` or the store says; `Cancelled` soon after the cancellation.
    pub(super) async fn files(
        &self,
        tables: usize,
        make: impl FnOnce(&Sink) -> Result<(), Failure> + Send + 'static,
    ) -> Result<Staged, Failure> {
        let Some(extraction) = self.extraction else {
            let tables = upload::all(&self.store, &self.load, tables, make).await?;
            return Ok(self.staged(tables, false));
        };
        let inputs = extraction.inputs();
        if let Some(found) = Manifest::find(&self.store, &self.load, &inputs, tables).await? {
            tracing::info!(load = self.load, rows = found.rows(), "files that an earlier attempt staged are taken");
            return self.take(extraction, found);
        }
        let tables = upload::all(&self.store, &self.load, tables, make).await?;
        let Some(account) = extraction.account() else { return Ok(self.staged(tables, false)) };
        match Manifest::new(inputs, tables, account).commit(&self.store, &self.load).await? {
            (manifest, true) => Ok(self.staged(manifest.tables, true)),
            (others, false) => self.take(extraction, others),
        }
    }

    fn take(&self, extraction: &dyn Extraction, found: Manifest) -> Result<Staged, Failure> {
        extraction.restore(found.account)?;
        Ok(self.staged(found.tables, true))
    }

    fn staged(&self, tables: Vec<Parts>, is_kept: bool) -> Staged {
        Staged { store: self.store.clone(), load: self.load.clone(), tables, is_kept }
    }
}

impl Staged {
    /// Removes files that are loaded and that no later attempt could take: the others stay until their load is committed ([`sweep`]).
    pub(super) async fn loaded(&self) {
        if self.is_kept {
            return;
        }
        let keys: Vec<String> = self.tables.iter().flat_map(|parts| &parts.0).map(|part| part.key.clone()).collect();
        manifest::remove(&self.store, &keys).await;
    }

    /// The failure of loading the files, or, when another runner of the load removed them meanwhile, that. Files that no later attempt could
    /// take are removed, unless they may still be loaded.
    pub(super) async fn failed(&self, failure: Failure) -> Failure {
        if !matches!(failure.kind, FailureKind::Permanent | FailureKind::Definition | FailureKind::Internal) {
            return failure;
        }
        let failure = self.explain(failure).await;
        self.loaded().await;
        failure
    }

    async fn explain(&self, failure: Failure) -> Failure {
        match manifest::are_there(&self.store, &self.load, &self.tables).await {
            Ok(false) => {
                let message = format!("staged files of this load are gone: another runner ended it meanwhile ({failure})");
                Failure::new(FailureKind::Transient, "warehouse::conflict", message).help("the next attempt reads the ledger first")
            }
            // Where the store does not answer either, what came first is told.
            Ok(true) | Err(_) => failure,
        }
    }
}

/// The directory of a load's files; what is no letter, digit, `-` or `_` becomes `_`.
pub(super) fn directory(load: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_') { c } else { '_' };
    load.chars().map(plain).collect()
}

fn defect(message: String) -> Failure {
    Failure::new(FailureKind::Internal, "warehouse::internal", message).help("this is a defect of errand: report it")
}

#[cfg(test)]
mod tests;
