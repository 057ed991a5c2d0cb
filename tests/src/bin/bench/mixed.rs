//! The input of the comparison with other loaders: twelve mixed columns, 212 bytes of CSV a row.

use std::path::{Path, PathBuf};

use duckdb::Connection;

use crate::data::{Format, write_gzip};
use crate::{Place, progress, said};

/// The columns, with the types that every side is told.
pub(crate) const COLUMNS: [(&str, &str); 12] = [
    ("id", "bigint"),
    ("customer_id", "integer"),
    ("amount", "decimal(12,2)"),
    ("ratio", "double"),
    ("is_paid", "boolean"),
    ("shipped_on", "date"),
    ("updated_at", "timestamp"),
    ("status", "text"),
    ("email", "text"),
    ("name", "text"),
    ("note", "text"),
    ("country", "text"),
];

/// Rows that depend on their number alone: quotes, commas, letters beyond ASCII and NULL among them.
const ROWS: &str = "
CREATE MACRO pick(i, k, m) AS (hash(i + k * 1000003) % m)::bigint;
CREATE VIEW mixed AS SELECT i AS id,
  pick(i, 0, 900000)::integer + 1 AS customer_id,
  ((pick(i, 1, 99999999) - 5000000) / 100.0)::decimal(12, 2) AS amount,
  pick(i, 2, 1000003) / 1000003.0::double AS ratio,
  pick(i, 3, 3) = 0 AS is_paid,
  CASE WHEN pick(i, 4, 10) > 0 THEN date '2019-01-01' + pick(i, 5, 2500)::integer END AS shipped_on,
  timestamp '2019-01-01 00:00:00' + to_microseconds(pick(i, 6, 200000000000000)) AS updated_at,
  ['open', 'paid', 'shipped', 'returned', 'cancelled'][pick(i, 7, 5) + 1] AS status,
  'customer' || (pick(i, 0, 900000) + 1) || '@example.com' AS email,
  ['Zoë', 'José', 'Anna', 'Łukasz', 'Li', 'Omar'][pick(i, 8, 6) + 1] || ' '
    || ['Müller', 'O''Brien', 'van der Berg', 'Smith', 'Ng'][pick(i, 9, 5) + 1] AS name,
  CASE WHEN pick(i, 10, 8) > 0 THEN
    ['left at the door, \"as agreed\"', 'call before delivery', 'fragile; keep upright and dry',
     'second attempt after 18:00, ring twice'][pick(i, 11, 4) + 1]
    || ' / ' || md5(i::varchar) || ' / '
    || ['ground floor', 'back entrance, by the garden', 'reception desk'][pick(i, 12, 3) + 1] END AS note,
  ['DE', 'FR', 'PL', 'US', 'JP'][pick(i, 13, 5) + 1] AS country
";

/// The file with this many rows, made when it is not there.
pub(crate) fn file(place: &Place, rows: usize, format: Format) -> Result<PathBuf, String> {
    let path = place.data.join(format!("mixed-{rows}.{}", format.extension()));
    if path.exists() {
        return Ok(path);
    }
    progress(&format!("making {}", path.display()));
    std::fs::create_dir_all(&place.data).map_err(said(place.data.display()))?;
    let unfinished = place.data.join("unfinished");
    match format {
        Format::Csv => copy(rows, &unfinished, "format csv, header"),
        Format::GzipCsv => write_gzip(&file(place, rows, Format::Csv)?, &unfinished),
        Format::Jsonl => copy(rows, &unfinished, "format json"),
        Format::Parquet => copy(rows, &unfinished, "format parquet"),
    }?;
    std::fs::rename(&unfinished, &path).map_err(said(path.display()))?;
    Ok(path)
}

fn copy(rows: usize, to: &Path, options: &str) -> Result<(), String> {
    let connection = Connection::open_in_memory().map_err(said("DuckDB"))?;
    let statement = format!("{ROWS} FROM range({rows}) r(i); COPY (FROM mixed) TO '{}' ({options})", to.display());
    connection.execute_batch(&statement).map_err(said(to.display()))
}

/// What every target must hold: the number of rows and the sum of the decimal column, as `rows|sum`.
pub(crate) fn expected(place: &Place, rows: usize) -> Result<String, String> {
    let csv = file(place, rows, Format::Csv)?;
    let connection = Connection::open_in_memory().map_err(said("DuckDB"))?;
    let query = format!("SELECT count(*) || '|' || sum(amount) FROM {}", Format::Csv.scan_of(&csv, &COLUMNS));
    connection.query_row(&query, [], |row| row.get(0)).map_err(said(csv.display()))
}

/// The columns of an `ingest` step.
pub(crate) fn yaml() -> String {
    let columns: Vec<String> = COLUMNS.iter().map(|(name, kind)| format!("        - {{ name: {name}, type: \"{kind}\" }}\n")).collect();
    columns.concat()
}
