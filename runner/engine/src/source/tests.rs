//! What becomes of files, by example and by property.

mod csv;
mod inference;
mod json;
mod property;
mod stream;
mod whole;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, TimestampMicrosecondArray};
use arrow::datatypes::DataType;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use errand_model::document::step::{Compression, Encoding, Format, SchemaContract};
use errand_model::failure::Failure;
use errand_model::job::Column;
use errand_model::value::ColumnType;
use tokio_util::sync::CancellationToken;

use super::dialect::Dialect;
use super::parse::Plan;
use super::resolve::resolve_in;
use super::split::Marks;
use super::{Reader, Rejected, Resolved};
use crate::store::{self, FileEntry, Store};

/// Files and how they are read.
struct Case {
    root: tempfile::TempDir,
    dialect: Dialect,
    columns: Vec<Column>,
    existing: Option<Vec<(String, ColumnType)>>,
    contract: SchemaContract,
}

/// What came out.
#[derive(Debug, Default, PartialEq, Eq)]
struct Outcome {
    /// Values as text, NULL as `∅`, fields joined with `|`.
    rows: Vec<String>,
    numbers: Vec<i64>,
    rejected: Vec<Rejected>,
    read: u64,
}

impl Case {
    fn new(format: Format) -> Self {
        let dialect = Dialect {
            format,
            marks: Marks { delimiter: b',', quote: Some(b'"'), escape: None },
            header: true,
            trailing_delimiter: false,
            encoding: Encoding::Utf8,
            compression: Compression::Auto,
            nulls: vec![Vec::new()],
        };
        let root = tempfile::tempdir().expect("a directory");
        Self { root, dialect, columns: Vec::new(), existing: None, contract: SchemaContract::Freeze }
    }

    fn csv(text: impl AsRef<[u8]>) -> Self {
        Self::new(Format::Csv).file("a.csv", text)
    }

    fn jsonl(text: impl AsRef<[u8]>) -> Self {
        Self::new(Format::Jsonl).file("a.jsonl", text)
    }

    fn json(text: impl AsRef<[u8]>) -> Self {
        Self::new(Format::Json).file("a.json", text)
    }

    fn file(self, path: &str, bytes: impl AsRef<[u8]>) -> Self {
        fs::write(self.root.path().join(path), bytes).expect("written");
        self
    }

    fn column(mut self, name: &str, kind: &str) -> Self {
        let kind = ColumnType::parse(kind).expect("a type");
        self.columns.push(Column { name: name.to_owned(), kind, nullable: true, from: name.to_owned(), format: None });
        self
    }

    fn required(mut self, name: &str, kind: &str) -> Self {
        self = self.column(name, kind);
        self.columns.last_mut().expect("a column").nullable = false;
        self
    }

    fn contract(mut self, contract: SchemaContract) -> Self {
        self.contract = contract;
        self
    }

    fn with(mut self, change: impl FnOnce(&mut Dialect)) -> Self {
        change(&mut self.dialect);
        self
    }

    fn entries(&self) -> Vec<FileEntry> {
        list(self.root.path())
    }

    fn resolve(&self) -> Result<Resolved, Failure> {
        resolve_in(&self.entries(), &self.dialect, &self.columns, self.existing.as_deref(), self.contract)
    }

    fn reader(&self, resolved: &Resolved, cancel: CancellationToken) -> Reader {
        Reader::begin(self.entries(), Plan::new(self.dialect.clone(), resolved.clone(), self.contract), cancel)
    }

    fn read(&self) -> Result<Outcome, Failure> {
        let resolved = self.resolve()?;
        let mut reader = self.reader(&resolved, CancellationToken::new());
        let mut outcome = Outcome::default();
        while let Some(batch) = reader.next() {
            let batch = batch?;
            assert_eq!(batch.read, batch.rows.num_rows() as u64 + batch.rejected.len() as u64, "read = rows + rejected");
            assert_eq!(batch.rows.num_rows(), batch.row_numbers.len());
            outcome.rows.extend(rows(&batch.rows));
            outcome.numbers.extend(batch.row_numbers.values());
            outcome.rejected.extend(batch.rejected);
            outcome.read += batch.read;
        }
        Ok(outcome)
    }

    fn rows(&self) -> Vec<String> {
        let outcome = self.read().expect("read");
        assert_eq!(outcome.rejected, []);
        outcome.rows
    }

    /// Each refused record as `line:position column: error`.
    fn errors(&self) -> Vec<String> {
        let said = |rejected: &Rejected| {
            let column = rejected.column.as_deref().map(|column| format!(" {column}")).unwrap_or_default();
            format!("{}:{}{column}: {}", rejected.line, rejected.position, rejected.error)
        };
        self.read().expect("read").rejected.iter().map(said).collect()
    }

    /// The failure as `place: message`.
    fn failure(&self) -> String {
        self.read().expect_err("a failure").to_string()
    }

    fn root(&self) -> &Path {
        self.root.path()
    }
}

pub(super) fn rows(batch: &RecordBatch) -> Vec<String> {
    let options = FormatOptions::default().with_null("∅");
    let columns: Vec<ArrayRef> = batch.columns().iter().map(with_offset).collect();
    let columns: Vec<_> = columns.iter().map(|column| ArrayFormatter::try_new(column, &options).expect("shown")).collect();
    (0..batch.num_rows()).map(|row| columns.iter().map(|column| column.value(row).to_string()).collect::<Vec<_>>().join("|")).collect()
}

/// Arrow shows `+00:00` without a database of zones, but not `UTC`.
fn with_offset(column: &ArrayRef) -> ArrayRef {
    match (column.data_type(), column.as_any().downcast_ref::<TimestampMicrosecondArray>()) {
        (DataType::Timestamp(_, Some(zone)), Some(moments)) => {
            assert_eq!(&**zone, "UTC");
            Arc::new(moments.clone().with_timezone("+00:00"))
        }
        _ => Arc::clone(column),
    }
}

/// The files of a directory.
pub(crate) fn list(root: &std::path::Path) -> Vec<FileEntry> {
    let store = Store::directory(root);
    store::wait(async move { store.list("*").await }).expect("listed")
}
