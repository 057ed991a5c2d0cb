//! Whole files into a table, as a session that can load them sees it: nothing of them passes through Arrow.
//!
//! Whoever asks knows that the columns' values are in the files as they are to be in the table; the warehouse says whether it reads such
//! files exactly, and loads all rows of all files or fails. Must not know steps, jobs or how files are read.

use async_trait::async_trait;
use errand_model::document::step::Compression;
use errand_model::failure::Failure;
use errand_model::job::TableName;
use errand_model::value::ColumnType;
use tempfile::TempPath;

use super::Extraction;
use crate::store::Store;

/// How text is written. Records end with LF or CRLF, quotes inside of quotes are doubled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextForm {
    /// Between fields.
    pub delimiter: u8,
    /// Around fields; a quote elsewhere than at the start of a field is a character like others.
    pub quote: Option<u8>,
    /// What stands before a quote inside of quotes instead of another quote.
    pub escape: Option<u8>,
    /// Whether each record ends with a delimiter.
    pub trailing_delimiter: bool,
    /// Unquoted fields that stand for NULL.
    pub nulls: Vec<String>,
    /// Whether the first line is no record.
    pub header: bool,
    /// How the files are compressed; never `Auto`.
    pub compression: Compression,
}

/// What files are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileForm {
    /// Delimited text in UTF-8.
    Text(TextForm),
    /// Parquet.
    Parquet,
}

/// One column of a table that files fill.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileColumn {
    /// Its name in the definition.
    pub name: String,
    /// Its type.
    pub kind: ColumnType,
    /// Its name in Parquet files, to the letter.
    pub from: String,
}

/// A file of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupFile {
    /// Its key under [`FileLoads::reach`].
    pub key: String,
    /// Its path as the connection of the files names it; the URL ends with it.
    pub path: String,
    /// Its URL.
    pub url: String,
}

/// Files that are written alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileGroup {
    /// What they are.
    pub form: FileForm,
    /// The columns that they fill: of text one for each field, in the order of the fields. The table's other columns take their defaults.
    pub columns: Vec<FileColumn>,
    /// The columns that take a row's file, by its path, and its number there, from 1; these are in no file.
    pub metadata: Option<[&'static str; 2]>,
    /// The files; none of those that are yet to be made.
    pub files: Vec<GroupFile>,
}

/// A finished file of text, in scratch space.
pub struct TextPart {
    /// Index of its group.
    pub group: usize,
    /// Where it lies.
    pub file: TempPath,
    /// What its name ends in, without the first dot.
    pub extension: &'static str,
    /// Its rows.
    pub rows: u64,
    /// Its size.
    pub bytes: u64,
    /// Digest of its content, hexadecimal.
    pub sha256: String,
}

/// Takes finished files; false when nobody wants more. May block.
pub type PutPart<'a> = &'a mut dyn FnMut(TextPart) -> bool;

/// Makes files of text, in the order of their groups, on a thread that may block.
pub type MakeParts = Box<dyn FnOnce(PutPart<'_>) -> Result<(), Failure> + Send>;

/// Loading whole files, as a session sees it. Failures are those of [`super::Session`].
///
/// Of every load all rows of all files are in the table afterwards, or it failed, and some may be: the caller empties the table.
#[async_trait]
pub trait FileLoads: Send {
    /// The place whose files the warehouse reads where they lie; none when there is no such place.
    async fn reach(&mut self) -> Result<Option<Store>, Failure>;

    /// Why files of this group would not be read as Errand reads them; none when they are.
    fn objection(&self, group: &FileGroup) -> Option<String>;

    /// Loads the files of a group where they lie, says how many rows each has. `warehouse::value` when a file does not fit its columns.
    async fn load(&mut self, table: &TableName, group: &FileGroup) -> Result<Vec<u64>, Failure>;

    /// Brings the parts of groups that have no files yet to a place that the warehouse reads, and loads them; says how many rows they have.
    /// `extraction` as of [`super::Session::append`].
    async fn load_parts(
        &mut self,
        table: &TableName,
        groups: &[FileGroup],
        make: MakeParts,
        extraction: Option<&dyn Extraction>,
    ) -> Result<u64, Failure>;
}
