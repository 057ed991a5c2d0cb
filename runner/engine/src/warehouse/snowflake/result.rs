//! Results as they come: chunk by chunk, as text, as counts, as Arrow batches.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{
    ArrayRef, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int32Array, Int64Array, RecordBatch, RecordBatchOptions,
    StringArray, Time64MicrosecondArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{Field, Schema, SchemaRef};
use errand_model::failure::{Failure, FailureKind};
use errand_model::value::ColumnType;
use snowflake_connector_rs::error::{PlanBuildResult, RowDecodeResult};
use snowflake_connector_rs::{Error, ErrorKind, FromRow, ResultCursor, ResultTable, RowPlanContext, RowRef};

use super::{error, kind, value};
use crate::batch::data_type;

/// Tries and first time limit for one chunk of a result.
const CHUNK_TRIES: u32 = 3;
pub(super) const CHUNK_LIMIT: Duration = Duration::from_secs(30);
/// Rows of a batch made from a chunk.
pub(super) const BATCH_ROWS: usize = 8192;

/// A row as the server wrote it.
pub(super) struct Raw(pub(super) Vec<Option<String>>);

impl FromRow for Raw {
    type Plan = ();

    fn build_plan(_: RowPlanContext<'_>) -> PlanBuildResult<Self::Plan> {
        Ok(())
    }

    fn from_row_with_plan(row: RowRef<'_>, (): &Self::Plan) -> RowDecodeResult<Self> {
        let mut values = Vec::with_capacity(row.schema().len());
        for index in 0..row.schema().len() {
            values.push(row.cell_at(index)?.raw().map(str::to_owned));
        }
        Ok(Self(values))
    }
}

/// The next chunk of a result. The client waits for ever for the bytes of one: a chunk that does not come within `limit` is asked for
/// again, with twice the limit, and not for ever.
///
/// # Errors
///
/// `Transient` with `warehouse::connection_lost` when it does not come.
pub(super) async fn next(cursor: &mut ResultCursor, limit: Duration) -> Result<Option<ResultTable>, Failure> {
    let mut tries = 0;
    loop {
        let read = tokio::time::timeout(limit * 2_u32.pow(tries), cursor.next_table()).await;
        tries += 1;
        let why = match read {
            Ok(Ok(table)) => return Ok(table),
            Ok(Err(problem)) if matches!(problem.kind(), ErrorKind::Network | ErrorKind::Timeout) => problem.to_string(),
            Ok(Err(problem)) => return Err(error::internal(&problem.to_string())),
            Err(_) => format!("nothing came within {} s", (limit * 2_u32.pow(tries - 1)).as_secs_f32()),
        };
        if tries == CHUNK_TRIES {
            return Err(error::lost(&format!("a part of the result cannot be read: {why}"), Some(cursor.query_id())));
        }
        tracing::debug!(query_id = cursor.query_id(), why, tries, "result chunk is read again");
    }
}

/// The first rows of a small result as text.
///
/// # Errors
///
/// What [`next`] says.
pub(super) async fn texts(mut cursor: ResultCursor, limit: usize) -> Result<Vec<Vec<Option<String>>>, Failure> {
    let mut rows = Vec::new();
    while rows.len() < limit
        && let Some(table) = next(&mut cursor, CHUNK_LIMIT).await?
    {
        table_texts(&table, limit, &mut rows).map_err(|problem| error::internal(&problem.to_string()))?;
    }
    Ok(rows)
}

/// Adds the rows of one chunk as text, up to `limit` in all.
///
/// # Errors
///
/// What the client says.
pub(super) fn table_texts(table: &ResultTable, limit: usize, rows: &mut Vec<Vec<Option<String>>>) -> Result<(), Error> {
    let columns = table.schema().columns();
    for row in table.rows::<Raw>()? {
        if rows.len() == limit {
            break;
        }
        let values = row?.0.into_iter().zip(columns);
        rows.push(values.map(|(raw, column)| raw.map(|raw| value::text(column.ty(), &raw))).collect());
    }
    Ok(())
}

/// How many rows a chunk says that a statement changed or returned; `None` for a statement that moves no rows.
///
/// Snowflake answers DML with one row of named counts, `COPY` with a row for each file, DDL with one `status`, and a query with its rows.
///
/// # Errors
///
/// What the client says.
pub(super) fn affected(table: &ResultTable) -> Result<u64, Error> {
    let names: Vec<String> = table.schema().columns().iter().map(|column| column.name().to_ascii_lowercase()).collect();
    let counted: Vec<usize> = (0..names.len()).filter(|at| is_count(&names[*at])).collect();
    let is_dml = !names.is_empty() && names.iter().all(|name| name.starts_with("number of "));
    if !is_dml && counted.is_empty() {
        let is_status = names.len() == 1 && names[0] == "status";
        return Ok(if is_status { 0 } else { table.row_count() as u64 });
    }
    let mut sum = 0;
    for row in table.rows::<Raw>()? {
        let row = row?.0;
        sum += counted.iter().filter_map(|at| row.get(*at)?.as_ref()?.parse::<u64>().ok()).sum::<u64>();
    }
    Ok(sum)
}

/// What `COPY` says of one file.
#[derive(Clone, Debug)]
pub(super) struct Loaded {
    pub(super) file: String,
    pub(super) status: String,
    pub(super) rows: u64,
}

/// The files of an answer to `COPY`; none when it only says that there was nothing to do.
///
/// # Errors
///
/// What the client says.
pub(super) fn loaded(table: &ResultTable) -> Result<Vec<Loaded>, Error> {
    let at = |name: &str| table.schema().columns().iter().position(|column| column.name().eq_ignore_ascii_case(name));
    let (Some(file), Some(status), Some(rows)) = (at("file"), at("status"), at("rows_loaded")) else { return Ok(Vec::new()) };
    let mut files = Vec::with_capacity(table.row_count());
    for row in table.rows::<Raw>()? {
        let row = row?.0;
        let text = |at: usize| row.get(at).cloned().flatten().unwrap_or_default();
        files.push(Loaded { file: text(file), status: text(status), rows: text(rows).parse().unwrap_or(0) });
    }
    Ok(files)
}

/// The rows that an answer to an unload counts, file by file or in all; none where it counts none.
///
/// # Errors
///
/// What the client says.
pub(super) fn unloaded(table: &ResultTable) -> Result<Option<u64>, Error> {
    let is_count = |name: &str| name.eq_ignore_ascii_case("row_count") || name.eq_ignore_ascii_case("rows_unloaded");
    let Some(at) = table.schema().columns().iter().position(|column| is_count(column.name())) else { return Ok(None) };
    let mut sum = 0;
    for row in table.rows::<Raw>()? {
        sum += row?.0.get(at).cloned().flatten().and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    }
    Ok(Some(sum))
}

/// Columns that count rows: of `UPDATE` also one that counts rows joined more than once, which were changed all the same.
fn is_count(name: &str) -> bool {
    matches!(name, "number of rows inserted" | "number of rows updated" | "number of rows deleted" | "rows_loaded" | "rows_unloaded")
}

/// The Arrow schema of a result. Types without a word of Errand's come as text.
pub(super) fn arrow_schema(columns: &snowflake_connector_rs::Schema) -> SchemaRef {
    let field = |column: &snowflake_connector_rs::Column| {
        Field::new(column.name(), data_type(kind::of(column.ty()).unwrap_or(ColumnType::Text)), true)
    };
    Arc::new(Schema::new(columns.columns().iter().map(field).collect::<Vec<_>>()))
}

/// The rows of one chunk in batches.
///
/// # Errors
///
/// `warehouse::value` for a value that its column's type does not hold.
pub(super) fn batches(table: &ResultTable, schema: &SchemaRef) -> Result<Vec<RecordBatch>, Failure> {
    let client = |error: Error| error::internal(&error.to_string());
    let mut batches = Vec::new();
    let mut rows = Vec::with_capacity(BATCH_ROWS.min(table.row_count()));
    for row in table.rows::<Raw>().map_err(client)? {
        rows.push(row.map_err(client)?.0);
        if rows.len() == BATCH_ROWS {
            batches.push(batch(table, schema, &rows)?);
            rows.clear();
        }
    }
    if !rows.is_empty() {
        batches.push(batch(table, schema, &rows)?);
    }
    Ok(batches)
}

fn batch(table: &ResultTable, schema: &SchemaRef, rows: &[Vec<Option<String>>]) -> Result<RecordBatch, Failure> {
    let columns = table.schema().columns();
    let arrays: Result<Vec<ArrayRef>, Failure> = columns
        .iter()
        .enumerate()
        .map(|(at, column)| {
            let cells = rows.iter().map(|row| row.get(at).and_then(Option::as_deref));
            match kind::of(column.ty()) {
                Some(kind @ (ColumnType::Text | ColumnType::Json)) => {
                    let text = |cell: &str| if kind == ColumnType::Json { value::compact(cell) } else { cell.to_owned() };
                    Ok(Arc::new(cells.map(|cell| cell.map(text)).collect::<StringArray>()) as ArrayRef)
                }
                Some(kind) => array(kind, cells).map_err(|cell| unfit(column.name(), kind, &cell)),
                None => Ok(Arc::new(cells.collect::<StringArray>()) as ArrayRef),
            }
        })
        .collect();
    let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
    RecordBatch::try_new_with_options(Arc::clone(schema), arrays?, &options).map_err(|error| error::internal(&error.to_string()))
}

/// The values of one column, or the first one that is none of its type.
fn array<'a>(kind: ColumnType, cells: impl Iterator<Item = Option<&'a str>>) -> Result<ArrayRef, String> {
    fn parsed<'a, T>(cells: impl Iterator<Item = Option<&'a str>>, parse: impl Fn(&str) -> Option<T>) -> Result<Vec<Option<T>>, String> {
        cells.map(|cell| cell.map(|text| parse(text).ok_or_else(|| text.to_owned())).transpose()).collect()
    }
    Ok(match kind {
        ColumnType::Boolean => Arc::new(BooleanArray::from(parsed(cells, value::boolean)?)),
        ColumnType::Integer => Arc::new(Int32Array::from(parsed(cells, |text| text.parse().ok())?)),
        ColumnType::Bigint => Arc::new(Int64Array::from(parsed(cells, |text| text.parse().ok())?)),
        ColumnType::Decimal(precision, scale) => {
            let values = Decimal128Array::from(parsed(cells, |text| value::decimal(text, scale))?);
            Arc::new(values.with_precision_and_scale(precision, scale.cast_signed()).map_err(|error| error.to_string())?)
        }
        ColumnType::Double => Arc::new(Float64Array::from(parsed(cells, value::double)?)),
        ColumnType::Text | ColumnType::Json => Arc::new(cells.collect::<StringArray>()),
        ColumnType::Date => Arc::new(Date32Array::from(parsed(cells, value::days)?)),
        ColumnType::Time => Arc::new(Time64MicrosecondArray::from(parsed(cells, value::micros)?)),
        ColumnType::Timestamp => Arc::new(TimestampMicrosecondArray::from(parsed(cells, value::micros)?)),
        ColumnType::Timestamptz => Arc::new(TimestampMicrosecondArray::from(parsed(cells, value::micros)?).with_timezone("UTC")),
    })
}

fn unfit(column: &str, kind: ColumnType, cell: &str) -> Failure {
    let message = format!("column `{column}` holds `{cell}`, which is no `{kind}`");
    Failure::new(FailureKind::Permanent, "warehouse::value", message).help("cast the column in the query")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_the_wire_become_arrow() {
        let cells = [Some("1.50"), None, Some("-99999999999999999999999999999999.99")];
        let decimals = array(ColumnType::Decimal(38, 2), cells.into_iter()).expect("decimals");
        assert_eq!(decimals.data_type(), &arrow::datatypes::DataType::Decimal128(38, 2));
        let moments = array(ColumnType::Timestamptz, [Some("1.5 1440"), None].into_iter()).expect("moments");
        assert_eq!(moments.data_type(), &data_type(ColumnType::Timestamptz));
        assert_eq!(array(ColumnType::Integer, [Some("2147483648")].into_iter()).expect_err("too large"), "2147483648");
    }

    #[test]
    fn counts_are_known_by_their_names() {
        assert!(is_count("rows_loaded") && is_count("number of rows deleted"));
        assert!(!is_count("number of multi-joined rows updated") && !is_count("status"));
    }
}
