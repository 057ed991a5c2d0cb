//! What text files hold, told by their first lines: enough to load them whole without reading their records.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use errand_model::document::step::{Compression, Format, SchemaContract};
use errand_model::failure::Failure;
use errand_model::job::Files;
use errand_model::value::ColumnType;

use super::dialect::Dialect;
use super::header::{self, Mapping};
use super::stream::Stream;
use super::{Resolved, parquet};
use crate::store::FileEntry;

/// One file whose values are those of the resolved columns as they are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Surveyed {
    /// The resolved columns that it has, in the order of its fields, each with its name there.
    pub columns: Vec<(usize, String)>,
    /// Its rows, where it says so itself. A file without any has `Some(0)`.
    pub rows: Option<u64>,
    /// Of text: whether it is UTF-8, and a header is its first line and ends in LF or CRLF. Whether all lines end so is not known.
    pub is_plain: bool,
    /// Of text: how it is compressed.
    pub compression: Compression,
}

/// Looks at the first lines of text, or at the footers of Parquet. The text says why the values of some file are not those of the columns,
/// so that each row must be looked at.
///
/// # Errors
///
/// When a file cannot be read, or its header does not fit.
pub fn survey(
    files: &[FileEntry],
    dialect: &Files,
    resolved: &Resolved,
    contract: SchemaContract,
) -> Result<Result<Vec<Surveyed>, String>, Failure> {
    match dialect.format {
        Format::Parquet => parquet::survey(files, resolved),
        Format::Json | Format::Jsonl => Ok(Err("JSON is read key by key".to_owned())),
        Format::Csv => text(files, &Dialect::of(dialect), resolved, contract),
    }
}

pub(super) fn text(
    files: &[FileEntry],
    dialect: &Dialect,
    resolved: &Resolved,
    contract: SchemaContract,
) -> Result<Result<Vec<Surveyed>, String>, Failure> {
    if let Some(column) = resolved.columns.iter().find(|column| column.kind != ColumnType::Text) {
        return Ok(Err(format!("column `{}` is `{}`, and each value is looked at", column.name, column.kind)));
    }
    let mut surveyed = Vec::with_capacity(files.len());
    for entry in files {
        match file(entry, dialect, resolved, contract)? {
            Ok(file) => surveyed.push(file),
            Err(why) => return Ok(Err(why)),
        }
    }
    Ok(Ok(surveyed))
}

fn file(entry: &FileEntry, dialect: &Dialect, resolved: &Resolved, contract: SchemaContract) -> Result<Result<Surveyed, String>, Failure> {
    let compression = dialect.compression_of(&entry.path);
    let empty = Surveyed { columns: Vec::new(), rows: Some(0), is_plain: true, compression };
    if entry.bytes == 0 && compression == Compression::None {
        return Ok(Ok(empty));
    }
    let mut stream = Stream::open(entry, dialect, &Arc::new(AtomicU64::new(0)))?;
    let mut is_plain = stream.is_utf8();
    let mapping = if dialect.header {
        let Some(header) = header::read(&mut stream, dialect, &entry.path)? else { return Ok(Ok(empty)) };
        is_plain &= stream.is_past_first_line();
        header::map(&header, resolved, contract, &entry.path)?
    } else {
        header::by_position(resolved)
    };
    if mapping.fields == 1 {
        stream.keep_blank();
    }
    let columns = match columns(&mapping, resolved) {
        Ok(columns) => columns,
        Err(why) => return Ok(Err(format!("`{}`: {why}", entry.path))),
    };
    let has_records = stream.next(1, &|_| false)?.is_some();
    Ok(Ok(Surveyed { columns, rows: (!has_records).then_some(0), is_plain, compression }))
}

/// The columns of the fields, if each field is one column.
fn columns(mapping: &Mapping, resolved: &Resolved) -> Result<Vec<(usize, String)>, String> {
    let mut fields = vec![None; mapping.fields];
    for (index, field) in mapping.columns.iter().enumerate() {
        let Some(field) = field else { continue };
        match fields.get_mut(*field) {
            Some(place @ None) => *place = Some(index),
            Some(Some(_)) | None => return Err(format!("field {} is more than one column", field + 1)),
        }
    }
    let named = |(field, index): (usize, Option<usize>)| {
        let index = index.ok_or_else(|| format!("field {} is no column", field + 1))?;
        Ok((index, resolved.columns.get(index).map_or_else(String::new, |column| column.from.clone())))
    };
    fields.into_iter().enumerate().map(named).collect()
}
