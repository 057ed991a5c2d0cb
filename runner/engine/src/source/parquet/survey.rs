//! What Parquet files hold, told by their footers: whether a reader that knows Parquet finds the values that the columns want.

use arrow::datatypes::{DataType, TimeUnit};
use errand_model::document::step::Compression;
use errand_model::failure::Failure;
use errand_model::value::ColumnType;

use super::input::Opened;
use crate::source::{Resolved, ResolvedColumn, Surveyed};
use crate::store::FileEntry;

/// Reads the footers of all files. The text says which column of which file has another type than it is to have.
///
/// # Errors
///
/// When a footer cannot be read.
pub fn survey(files: &[FileEntry], resolved: &Resolved) -> Result<Result<Vec<Surveyed>, String>, Failure> {
    let mut surveyed = Vec::with_capacity(files.len());
    for entry in files {
        let opened = Opened::open(entry, &std::sync::Arc::default())?;
        let mut columns = Vec::with_capacity(resolved.columns.len());
        for (index, column) in resolved.columns.iter().enumerate() {
            let fields = opened.schema().fields();
            let Some(place) = fields.iter().position(|field| field.name().eq_ignore_ascii_case(&column.from)) else { continue };
            if !is_exact(column, &opened, place) {
                let found = fields[place].data_type();
                return Ok(Err(format!("`{}`: column `{}` is {found}, not `{}`", entry.path, column.from, column.kind)));
            }
            columns.push((index, fields[place].name().clone()));
        }
        let rows = opened.metadata.metadata().file_metadata().num_rows();
        surveyed.push(Surveyed { columns, rows: u64::try_from(rows).ok(), is_plain: true, compression: Compression::None });
    }
    Ok(Ok(surveyed))
}

/// Whether every value of a file's column is one of the resolved column, by the type alone.
fn is_exact(column: &ResolvedColumn, opened: &Opened, place: usize) -> bool {
    let found = opened.schema().field(place).data_type();
    if column.format.is_some() || opened.is_old(place) || opened.is_json(place) || opened.is_uuid(place) {
        return false;
    }
    let digits = match found {
        DataType::Int8 | DataType::Int16 | DataType::Int32 => Some((10, 0)),
        DataType::Int64 => Some((19, 0)),
        DataType::Decimal128(precision, scale) => u8::try_from(*scale).ok().map(|scale| (*precision, scale)),
        _ => None,
    };
    match column.kind {
        ColumnType::Boolean => found == &DataType::Boolean,
        ColumnType::Integer => matches!(found, DataType::Int8 | DataType::Int16 | DataType::Int32),
        ColumnType::Bigint => matches!(found, DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64),
        ColumnType::Decimal(precision, scale) => {
            digits.is_some_and(|(found, found_scale)| found_scale <= scale && found - found_scale <= precision - scale)
        }
        ColumnType::Double => found == &DataType::Float64,
        ColumnType::Text => found == &DataType::Utf8View,
        ColumnType::Date => found == &DataType::Date32,
        ColumnType::Timestamp => matches!(found, DataType::Timestamp(TimeUnit::Millisecond | TimeUnit::Microsecond, None)),
        ColumnType::Timestamptz => matches!(found, DataType::Timestamp(TimeUnit::Millisecond | TimeUnit::Microsecond, Some(_))),
        ColumnType::Time => matches!(found, DataType::Time32(TimeUnit::Millisecond) | DataType::Time64(TimeUnit::Microsecond)),
        // What JSON is, each warehouse says for itself.
        ColumnType::Json => false,
    }
}
