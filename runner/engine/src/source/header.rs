//! The names of a file's fields, and how its fields become columns.

use std::collections::HashMap;

use errand_model::document::step::SchemaContract;
use errand_model::failure::{Failure, FailureKind, Place};

use super::dialect::Dialect;
use super::field::{self, CellKind};
use super::stream::Stream;
use super::{Resolved, ResolvedColumn};

/// The first record of a delimited file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Header {
    /// Names in order.
    pub(super) names: Vec<String>,
    /// Where each one stands.
    pub(super) places: Vec<Place>,
}

/// How the fields of one file become columns.
#[derive(Clone, Debug, Default)]
pub(super) struct Mapping {
    /// Fields of each record, without the empty one behind a trailing delimiter.
    pub(super) fields: usize,
    /// For each resolved column its field; none when the file lacks it.
    pub(super) columns: Vec<Option<usize>>,
    /// Fields that must be NULL, with their names.
    pub(super) refused: Vec<(usize, String)>,
}

/// Reads the header of a stream that has just been opened; none when the file holds no record at all.
pub(super) fn read(stream: &mut Stream, dialect: &Dialect, path: &str) -> Result<Option<Header>, Failure> {
    let Some(run) = stream.next(1, &|_| false)? else { return Ok(None) };
    let Some(record) = run.records.first().copied() else { return Ok(None) };
    let place = |at: usize| {
        let mark = run.mark.forward(&run.bytes, at);
        Place { file: path.to_owned(), line: mark.line, column: mark.column }
    };
    let failure =
        |at: usize, message: String, help: &str| Failure::new(FailureKind::Rejected, "source::header", message).at(place(at)).help(help);
    let mut cells = Vec::new();
    field::cut(&run.bytes, record, dialect.marks, &mut cells).map_err(|after| {
        failure(after.0, "text follows a closing quote in the header".to_owned(), "double the quotes inside of a quoted name")
    })?;
    if dialect.trailing_delimiter && cells.len() > 1 && cells.last().is_some_and(|cell| cell.start == cell.end) {
        cells.pop();
    }
    let mut header = Header::default();
    for cell in &cells {
        let quote = usize::from(cell.kind != CellKind::Plain);
        let content = match cell.kind {
            CellKind::Escaped => field::unescape(cell.bytes(&run.bytes), dialect.marks),
            _ => cell.bytes(&run.bytes).into(),
        };
        let at = cell.start as usize - quote;
        let name = std::str::from_utf8(&content).ok().filter(|name| !name.contains('\0')).ok_or_else(|| {
            failure(
                at,
                "a name in the header is not valid UTF-8".to_owned(),
                "declare the file's encoding, such as `encoding: latin-1` or `encoding: windows-1252`",
            )
        })?;
        header.names.push(name.to_owned());
        header.places.push(place(at));
    }
    distinct(&header)?;
    Ok(Some(header))
}

fn distinct(header: &Header) -> Result<(), Failure> {
    let mut seen = HashMap::new();
    for (index, name) in header.names.iter().enumerate() {
        if let Some(first) = seen.insert(name.to_lowercase(), index) {
            let message = format!("columns {} and {} have the same name `{name}`", first + 1, index + 1);
            return Err(Failure::new(FailureKind::Rejected, "source::duplicate_column", message)
                .at(header.places[index].clone())
                .help("give every column a name of its own; upper and lower case do not tell names apart"));
        }
    }
    Ok(())
}

impl Header {
    /// Which field has this name, in any case.
    pub(super) fn find(&self, name: &str) -> Option<usize> {
        let lower = name.to_lowercase();
        self.names.iter().position(|other| other == name).or_else(|| self.names.iter().position(|other| other.to_lowercase() == lower))
    }
}

/// The mapping of a file with a header.
///
/// # Errors
///
/// When a column that may not be NULL is missing, or a column is not expected and the contract does not take it.
pub(super) fn map(header: &Header, resolved: &Resolved, contract: SchemaContract, path: &str) -> Result<Mapping, Failure> {
    let columns: Vec<Option<usize>> = resolved.columns.iter().map(|column| header.find(&column.from)).collect();
    for (column, field) in resolved.columns.iter().zip(&columns) {
        if field.is_none() && !column.nullable {
            return Err(missing(column, header, path));
        }
    }
    let mut refused = Vec::new();
    for (index, name) in header.names.iter().enumerate().filter(|(index, _)| !columns.contains(&Some(*index))) {
        match contract {
            SchemaContract::Freeze | SchemaContract::Evolve => return Err(unexpected(name, &header.places[index])),
            SchemaContract::Quarantine | SchemaContract::DiscardRow => refused.push((index, name.clone())),
            SchemaContract::DiscardValue => {}
        }
    }
    Ok(Mapping { fields: header.names.len(), columns, refused })
}

/// The mapping of a file without a header: fields in the order of the columns.
pub(super) fn by_position(resolved: &Resolved) -> Mapping {
    let fields = resolved.columns.len();
    Mapping { fields, columns: (0..fields).map(Some).collect(), refused: Vec::new() }
}

fn missing(column: &ResolvedColumn, header: &Header, path: &str) -> Failure {
    let place = header.places.first().map_or(Place { file: path.to_owned(), line: 1, column: 1 }, Place::clone);
    Failure::new(FailureKind::Rejected, "source::missing_column", format!("column `{}` is missing and may not be NULL", column.from))
        .at(place)
        .help(format!("the file has: {}; add the column, set `from`, or declare `nullable: true`", header.names.join(", ")))
}

/// A column that nobody expects.
pub(super) fn unexpected(name: &str, place: &Place) -> Failure {
    Failure::new(FailureKind::Rejected, "source::unexpected_column", format!("column `{name}` is not expected"))
        .at(place.clone())
        .help("declare it in `columns`, or choose what happens to such columns: `schema_contract: evolve`, `quarantine`, `discard_row` or `discard_value`")
}
