//! Parquet files for warehouses that do not read them in place: typed columns, converted to the types of their targets exactly or refused.
//!
//! The same shape as the text reader: resolve the columns, then batches in the order of the files. A file's own types decide where nothing
//! is declared and no table is there. Must not know any warehouse.

mod convert;
mod input;
mod old;
mod reader;
mod survey;
#[cfg(test)]
mod tests;
mod value;

use arrow::datatypes::{DataType, TimeUnit};
use errand_model::document::step::SchemaContract;
use errand_model::failure::{Failure, FailureKind};
use errand_model::job::Column;
use errand_model::value::ColumnType;

use self::input::Opened;
pub use self::reader::Reader;
pub use self::survey::survey;
use super::{Origin, Resolved, ResolvedColumn};
use crate::store::FileEntry;

/// Most digits that are kept of a decimal.
const MOST_DIGITS: u8 = 38;

/// The columns that `files` become in `table`: the `declared` ones, then those of the files by name, over all files.
///
/// Reads the footers of all files. A column that is neither declared nor in the `existing` table is loaded when there is neither, added
/// under `evolve`, left out under `discard_value`, and a failure under the other contracts: in Parquet it belongs to every row.
///
/// # Errors
///
/// When a file cannot be read, a declared column is in none of them, or a column is not expected.
pub fn resolve(
    files: &[FileEntry],
    declared: &[Column],
    existing: Option<&[(String, ColumnType)]>,
    contract: SchemaContract,
    table: &str,
) -> Result<Resolved, Failure> {
    let found = union(files)?;
    let mut resolved = Resolved::default();
    for column in declared {
        let Some((from, _)) = found.iter().find(|(name, _)| name.eq_ignore_ascii_case(&column.from)) else {
            let first = files.first().map_or("", |file| &file.path);
            let message = format!("column `{}` is not in `{first}`", column.from);
            return Err(Failure::new(FailureKind::Rejected, "ingest::missing_column", message).help("correct `columns`, or the files"));
        };
        resolved.columns.push(ResolvedColumn {
            name: column.name.clone(),
            kind: column.kind,
            nullable: column.nullable,
            from: from.clone(),
            format: column.format.clone(),
            origin: Origin::Declared,
        });
    }
    for (from, kind) in found.iter().filter(|(name, _)| !declared.iter().any(|column| column.from.eq_ignore_ascii_case(name))) {
        let known = existing.and_then(|columns| columns.iter().find(|(known, _)| known.eq_ignore_ascii_case(from)));
        let (name, kind, origin) = match known {
            Some((name, kind)) => (name, *kind, Origin::Existing),
            None if declared.is_empty() && existing.is_none() => (from, *kind, Origin::Inferred),
            None => match contract {
                SchemaContract::Evolve => (from, *kind, Origin::Added),
                SchemaContract::DiscardValue => continue,
                SchemaContract::Freeze | SchemaContract::Quarantine | SchemaContract::DiscardRow => {
                    let message = format!("column `{from}` ({kind}) is not expected in `{table}`");
                    return Err(Failure::new(FailureKind::Rejected, "ingest::unexpected_column", message)
                        .help("declare it in `columns`, or choose `schema_contract: evolve` to load it, `discard_value` to leave it out"));
                }
            },
        };
        resolved.columns.push(ResolvedColumn { name: name.clone(), kind, nullable: true, from: from.clone(), format: None, origin });
    }
    Ok(resolved)
}

/// The columns of all files by name, each with a type that holds its values in all of them.
fn union(files: &[FileEntry]) -> Result<Vec<(String, ColumnType)>, Failure> {
    let mut found: Vec<(String, ColumnType)> = Vec::new();
    for entry in files {
        let opened = Opened::open(entry, &std::sync::Arc::default())?;
        for (index, field) in opened.schema().fields().iter().enumerate() {
            let kind = kind_of(field.data_type(), opened.is_json(index));
            match found.iter_mut().find(|(name, _)| name.eq_ignore_ascii_case(field.name())) {
                Some((_, known)) => *known = common(*known, kind),
                None => found.push((field.name().clone(), kind)),
            }
        }
    }
    Ok(found)
}

/// The type that holds every value of a type of a file.
fn kind_of(data_type: &DataType, is_json: bool) -> ColumnType {
    match data_type {
        DataType::Boolean => ColumnType::Boolean,
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::UInt8 | DataType::UInt16 => ColumnType::Integer,
        DataType::Int64 | DataType::UInt32 => ColumnType::Bigint,
        DataType::UInt64 => ColumnType::Decimal(20, 0),
        DataType::Float16 | DataType::Float32 | DataType::Float64 => ColumnType::Double,
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale)
        | DataType::Decimal256(precision, scale) => {
            let scale = scale.unsigned_abs().min(MOST_DIGITS);
            ColumnType::Decimal((*precision).clamp(scale.max(1), MOST_DIGITS), scale)
        }
        DataType::Date32 | DataType::Date64 => ColumnType::Date,
        DataType::Time32(_) | DataType::Time64(_) => ColumnType::Time,
        DataType::Timestamp(_, None) => ColumnType::Timestamp,
        DataType::Timestamp(TimeUnit::Second | TimeUnit::Millisecond | TimeUnit::Microsecond | TimeUnit::Nanosecond, Some(_)) => {
            ColumnType::Timestamptz
        }
        nested if nested.is_nested() => ColumnType::Json,
        _ if is_json => ColumnType::Json,
        _ => ColumnType::Text,
    }
}

/// The narrowest type that holds the values of both.
fn common(one: ColumnType, other: ColumnType) -> ColumnType {
    use ColumnType::{Bigint, Date, Decimal, Double, Integer, Text, Timestamp, Timestamptz};
    let digits = |kind: ColumnType| match kind {
        Integer => Some((10, 0)),
        Bigint => Some((19, 0)),
        Decimal(precision, scale) => Some((precision, scale)),
        _ => None,
    };
    match (one, other) {
        _ if one == other => one,
        (Integer, Bigint) | (Bigint, Integer) => Bigint,
        (Date, Timestamp) | (Timestamp, Date) => Timestamp,
        (Date | Timestamp, Timestamptz) | (Timestamptz, Date | Timestamp) => Timestamptz,
        (Double, number) | (number, Double) if digits(number).is_some() => Double,
        _ => match (digits(one), digits(other)) {
            (Some((precision, scale)), Some((other_precision, other_scale))) => {
                let (whole, part) = ((precision - scale).max(other_precision - other_scale), scale.max(other_scale));
                Decimal((whole + part).min(MOST_DIGITS), part)
            }
            _ => Text,
        },
    }
}
