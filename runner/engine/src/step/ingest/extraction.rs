//! What a later attempt must know of an extraction: the files that it read, and the account of their rows.

use std::sync::{Arc, Mutex, PoisonError};

use errand_model::failure::{Failure, FailureKind};
use serde_json::{Value, json};

use super::reject::Tally;
use crate::progress::StepProgress;
use crate::source::Resolved;
use crate::store::FileEntry;
use crate::warehouse::Extraction;

/// The extraction of files, by their versions.
pub(super) struct FileExtraction {
    inputs: Value,
    files: usize,
    bytes: u64,
    tally: Arc<Mutex<Tally>>,
    progress: StepProgress,
}

impl FileExtraction {
    /// `way` names what makes rows of the files. None when some place does not tell a file's version: it may change unnoticed.
    pub(super) fn new(
        way: &str,
        files: &[FileEntry],
        resolved: &Resolved,
        tally: &Arc<Mutex<Tally>>,
        progress: &StepProgress,
    ) -> Option<Self> {
        let mut sources = Vec::with_capacity(files.len());
        for file in files {
            let version = Some(file.version()).filter(|version| !version.is_empty())?;
            sources.push(json!({ "path": file.url(), "bytes": file.bytes, "version": version }));
        }
        let columns: Vec<String> = resolved.columns.iter().map(|column| format!("{column:?}")).collect();
        let inputs = json!({ "way": way, "sources": sources, "columns": columns });
        let bytes = files.iter().map(|file| file.bytes).sum();
        Some(Self { inputs, files: files.len(), bytes, tally: Arc::clone(tally), progress: progress.clone() })
    }
}

impl Extraction for FileExtraction {
    fn inputs(&self) -> Value {
        self.inputs.clone()
    }

    fn account(&self) -> Option<Value> {
        let tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        // Past the limit the rest of the files was not read.
        if tally.is_past_limit_for_good() {
            return None;
        }
        serde_json::to_value(tally.account()).ok()
    }

    fn restore(&self, account: Value) -> Result<(), Failure> {
        let wrong = |why: &str| Failure::new(FailureKind::Internal, "ingest::account", format!("the account of an extraction: {why}"));
        let account = serde_json::from_value(account).map_err(|error| wrong(&error.to_string()))?;
        let mut tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        tally.restore(account);
        if tally.files().len() != self.files {
            return Err(wrong("it is of other files"));
        }
        self.progress.add_rows(tally.rows().read);
        self.progress.add_bytes(self.bytes);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::reject::{Account, Tally};
    use crate::source::Rejected;
    use errand_model::report::Rows;

    #[test]
    fn an_account_survives_its_manifest() {
        let refused = Rejected {
            file: "a.csv".to_owned(),
            row: 2,
            line: 3,
            position: 4,
            byte_offset: 5,
            column: Some("n".to_owned()),
            error: "expected bigint".to_owned(),
            raw: "x\u{0}ü".to_owned(),
            by_contract: false,
        };
        let rows = Rows { read: 3, written: 2, deduplicated: 0, rejected: 1 };
        let account = Account { by_contract: 0, wrong: Some(refused.clone()), files: vec![rows, Rows::default()], first: vec![refused] };
        let text = serde_json::to_string(&account).expect("text");
        let mut tally = Tally::of(errand_model::value::Limit::Count(1));
        tally.restore(serde_json::from_str(&text).expect("an account"));
        assert_eq!((tally.account(), tally.rows()), (&account, rows));
    }
}
