//! The columns of a step: declared, of the existing table, or inferred, against what its files hold.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use errand_model::document::step::{Format, SchemaContract};
use errand_model::failure::{Failure, FailureKind, Place};
use errand_model::job::{Column, Files};
use errand_model::value::ColumnType;

use super::dialect::Dialect;
use super::header::{self, Header};
use super::infer::Sample;
use super::stream::Stream;
use super::{Origin, Resolved, ResolvedColumn};
use crate::store::FileEntry;

/// The columns that `files` become: `declared` ones, else those of the `existing` table, else what the files hold.
///
/// Reads the headers of all files, and their first records where a type must be inferred. Columns that are not expected are added under
/// `evolve`; the other contracts are applied by the reader, but `freeze` fails here already.
///
/// # Errors
///
/// When a header cannot be read or has a name twice, a column is missing that may not be NULL, or a column is not expected under `freeze`.
pub fn resolve(
    files: &[FileEntry],
    dialect: &Files,
    declared: &[Column],
    existing: Option<&[(String, ColumnType)]>,
    contract: SchemaContract,
) -> Result<Resolved, Failure> {
    resolve_in(files, &Dialect::of(dialect), declared, existing, contract)
}

pub(super) fn resolve_in(
    files: &[FileEntry],
    dialect: &Dialect,
    declared: &[Column],
    existing: Option<&[(String, ColumnType)]>,
    contract: SchemaContract,
) -> Result<Resolved, Failure> {
    let resolving = Resolving { files, dialect, existing, contract, known: known(declared, existing) };
    match dialect.format {
        Format::Csv if dialect.header => resolving.headers(),
        Format::Csv => resolving.positions(declared),
        Format::Json | Format::Jsonl => resolving.keys(),
        Format::Parquet => Err(Failure::new(FailureKind::Internal, "source::parquet", "parquet files are read by the warehouse")),
    }
}

/// The columns that are expected before any file is read; none when the files decide.
fn known(declared: &[Column], existing: Option<&[(String, ColumnType)]>) -> Option<Vec<ResolvedColumn>> {
    if !declared.is_empty() {
        let column = |column: &Column| ResolvedColumn {
            name: column.name.clone(),
            kind: column.kind,
            nullable: column.nullable,
            from: column.from.clone(),
            format: column.format.clone(),
            origin: Origin::Declared,
        };
        return Some(declared.iter().map(column).collect());
    }
    existing.map(|columns| columns.iter().map(|(name, kind)| column(name, *kind, Origin::Existing)).collect())
}

fn column(name: &str, kind: ColumnType, origin: Origin) -> ResolvedColumn {
    ResolvedColumn { name: name.to_owned(), kind, nullable: true, from: name.to_owned(), format: None, origin }
}

struct Resolving<'a> {
    files: &'a [FileEntry],
    dialect: &'a Dialect,
    existing: Option<&'a [(String, ColumnType)]>,
    contract: SchemaContract,
    known: Option<Vec<ResolvedColumn>>,
}

impl Resolving<'_> {
    fn positions(self, declared: &[Column]) -> Result<Resolved, Failure> {
        if declared.is_empty() {
            return Err(Failure::new(FailureKind::Definition, "source::no_column_names", "files without a header need declared columns")
                .help("declare `columns` in the order of the fields, or set `header: true`"));
        }
        Ok(Resolved { columns: self.known.unwrap_or_default(), ..Resolved::default() })
    }

    fn headers(self) -> Result<Resolved, Failure> {
        let mut headers = Vec::new();
        for entry in self.files.iter().filter(|entry| entry.bytes > 0 || !self.dialect.is_plain(&entry.path)) {
            let mut stream = Stream::open(entry, self.dialect, &Arc::new(AtomicU64::new(0)))?;
            if let Some(header) = header::read(&mut stream, self.dialect, &entry.path)? {
                headers.push((entry.path.as_str(), header));
            }
        }
        let mut columns = match (&self.known, headers.first()) {
            (Some(known), _) => known.clone(),
            (None, Some((_, first))) => named(first)?,
            (None, None) => Vec::new(),
        };
        for (_, header) in &headers {
            for (name, place) in header.names.iter().zip(&header.places) {
                let is_known = columns.iter().any(|column| column.from.to_lowercase() == name.to_lowercase());
                match self.contract {
                    _ if is_known => {}
                    SchemaContract::Freeze => return Err(header::unexpected(name, place)),
                    SchemaContract::Evolve if name.is_empty() => return Err(unnamed("a column has no name in the header", place)),
                    SchemaContract::Evolve => columns.push(self.added(name)),
                    SchemaContract::Quarantine | SchemaContract::DiscardRow | SchemaContract::DiscardValue => {}
                }
            }
        }
        let mut resolved = Resolved { columns, ..Resolved::default() };
        if resolved.columns.iter().any(is_inferred) {
            let sample = Sample::of(self.files, self.dialect)?;
            if self.known.is_none() && sample.records == 0 {
                // A table would keep the types that nothing has told.
                let warning = "no file has a row to tell the types of its columns, and of headers alone no table is made: declare `columns` to have one";
                return Ok(Resolved { warnings: vec![warning.to_owned()], ..Resolved::default() });
            }
            infer(&mut resolved, &sample);
        }
        absent(&mut resolved, &headers, self.contract)?;
        Ok(resolved)
    }

    fn keys(self) -> Result<Resolved, Failure> {
        if self.known.is_some() && self.contract != SchemaContract::Evolve {
            return Ok(Resolved { columns: self.known.unwrap_or_default(), ..Resolved::default() });
        }
        let sample = Sample::of(self.files, self.dialect)?;
        let mut columns = self.known.clone().unwrap_or_default();
        if let Some(place) = sample.unnamed.as_ref().filter(|_| columns.iter().all(|column| !column.from.is_empty())) {
            return Err(unnamed("a key has no name", place));
        }
        for (name, _) in &sample.columns {
            if columns.iter().any(|column| column.from.to_lowercase() == name.to_lowercase()) {
                continue;
            }
            columns.push(if self.known.is_some() { self.added(name) } else { column(name, ColumnType::Text, Origin::Inferred) });
        }
        let mut resolved = Resolved { columns, ..Resolved::default() };
        infer(&mut resolved, &sample);
        Ok(resolved)
    }

    /// A column that is not expected, with the type that the table has for it, if any.
    fn added(&self, name: &str) -> ResolvedColumn {
        let lower = name.to_lowercase();
        match self.existing.and_then(|columns| columns.iter().find(|(other, _)| other.to_lowercase() == lower)) {
            Some((there, kind)) => ResolvedColumn { from: name.to_owned(), ..column(there, *kind, Origin::Existing) },
            None => column(name, ColumnType::Text, Origin::Added),
        }
    }
}

fn is_inferred(column: &ResolvedColumn) -> bool {
    matches!(column.origin, Origin::Inferred | Origin::Added)
}

/// Columns with the names of a header.
fn named(header: &Header) -> Result<Vec<ResolvedColumn>, Failure> {
    if let Some(index) = header.names.iter().position(String::is_empty) {
        return Err(unnamed(&format!("column {} has no name in the header", index + 1), &header.places[index]));
    }
    Ok(header.names.iter().map(|name| column(name, ColumnType::Text, Origin::Inferred)).collect())
}

fn unnamed(message: &str, place: &Place) -> Failure {
    Failure::new(FailureKind::Rejected, "source::header", message).at(place.clone()).help("name it, or declare `columns`")
}

fn infer(resolved: &mut Resolved, sample: &Sample) {
    resolved.sampled = sample.records;
    for column in resolved.columns.iter_mut().filter(|column| is_inferred(column)) {
        let Some(guess) = sample.find(&column.from) else { continue };
        let (kind, why) = guess.verdict();
        column.kind = kind;
        if let Some(why) = why {
            resolved.warnings.push(format!("column `{}` becomes `text`: it {why}", column.name));
        }
    }
}

/// Warns of columns that a file lacks, or fails when they may not be NULL.
fn absent(resolved: &mut Resolved, headers: &[(&str, Header)], contract: SchemaContract) -> Result<(), Failure> {
    for (path, header) in headers {
        let mapping = header::map(header, resolved, contract, path)?;
        for (column, field) in resolved.columns.iter().zip(&mapping.columns) {
            if field.is_none() {
                resolved.warnings.push(format!("`{path}` has no column `{}`: its rows get NULL", column.from));
            }
        }
    }
    Ok(())
}
