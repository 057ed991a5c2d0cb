//! Files that Errand writes itself are those that DuckDB's `COPY` writes, byte for byte.

use std::fs;
use std::path::Path;

use duckdb::Connection;
use duckdb::arrow::record_batch::RecordBatch;
use errand_engine::output::Writer;
use errand_model::document::step::ExportFormat;
use errand_model::value::ColumnType;

fn open() -> Connection {
    let duckdb = Connection::open_in_memory().expect("a database in memory opens");
    duckdb.execute_batch("SET TimeZone = 'UTC'").or_else(|_| duckdb.execute_batch("SELECT 1")).expect("DuckDB answers");
    duckdb
}

fn columns(duckdb: &Connection, query: &str) -> Vec<(String, ColumnType)> {
    let mut statement = duckdb.prepare(&format!("SELECT column_name, column_type FROM (DESCRIBE {query})")).expect("a query");
    let rows = statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?))).expect("rows");
    rows.map(|row| {
        let (name, kind) = row.expect("a row");
        let kind = match kind.as_str() {
            "VARCHAR" => ColumnType::Text,
            "TIMESTAMP WITH TIME ZONE" => ColumnType::Timestamptz,
            other => ColumnType::parse(&other.to_lowercase()).expect("a type"),
        };
        (name, kind)
    })
    .collect()
}

/// Both files of a query: DuckDB's, and ours.
fn both(duckdb: &Connection, query: &str, format: ExportFormat) -> [String; 2] {
    let root = tempfile::tempdir().expect("a directory");
    let (theirs, ours) = (root.path().join("theirs"), root.path().join("ours"));
    let options = if format == ExportFormat::Csv { "FORMAT csv, HEADER true" } else { "FORMAT json" };
    duckdb.execute_batch(&format!("COPY ({query}) TO '{}' ({options})", theirs.display())).expect("DuckDB writes files");
    let mut writer = Writer::create(&ours, format, &columns(duckdb, query)).expect("made");
    let mut statement = duckdb.prepare(query).expect("a query");
    let batches: Vec<RecordBatch> = statement.query_arrow([]).expect("rows").collect();
    batches.iter().for_each(|batch| writer.write(batch).expect("written"));
    let _ = writer.finish().expect("whole");
    let text = |path: &Path| fs::read_to_string(path).expect("text");
    [text(&theirs), text(&ours)]
}

fn assert_equal(query: &str) {
    let duckdb = open();
    for format in [ExportFormat::Csv, ExportFormat::Jsonl] {
        let [theirs, ours] = both(&duckdb, query, format);
        for (theirs, ours) in theirs.lines().zip(ours.lines()) {
            assert_eq!(ours, theirs, "{format:?}");
        }
        assert_eq!(ours, theirs, "{format:?}");
    }
}

#[test]
fn rows_of_every_type_are_written_as_duckdb_writes_them() {
    assert_equal(
        "SELECT i % 3 = 0 AS b, i AS i, i::BIGINT * 1234567891 AS l, ((i - 500) * 1.37)::DECIMAL(15,2) AS m, (i / 7.0)::DECIMAL(38,10) AS w, \
         i::DECIMAL(9,0) AS z, (i / 7.0)::DOUBLE AS f, CASE WHEN i % 5 = 0 THEN NULL ELSE 'text, ' || i END AS t, DATE '2026-01-05' + i AS d, \
         TIME '00:00:00' + to_microseconds(i * 86399) AS tm, TIMESTAMP '1969-12-31 23:59:00' + to_microseconds(i::BIGINT * 10000003) AS ts, \
         (TIMESTAMP '2026-01-05' + to_microseconds(i::BIGINT * 999))::TIMESTAMPTZ AS tz FROM range(3000) r(n), LATERAL (SELECT n::INTEGER AS i)",
    );
}

#[test]
fn extremes_are_written_as_duckdb_writes_them() {
    assert_equal(
        "SELECT 99999999999999999999999999999999999999::DECIMAL(38,0) AS a, -99999999999999999999999999999999999999::DECIMAL(38,0) AS b, \
         DATE '0001-01-01' AS c, DATE '9999-12-31' AS d, TIMESTAMP '0001-01-01' AS e, TIMESTAMP '9999-12-31 23:59:59.999999' AS f, \
         (-9223372036854775808)::BIGINT AS g, 'é😀 \"q\" # '' \\ / \t' AS \"h\"\"x\", '' AS i, NULL::VARCHAR AS j, 'a' || chr(10) || 'b' || chr(13) AS k, \
         chr(1) || chr(31) || chr(127) || chr(8) || chr(12) AS l, 0.05::DECIMAL(2,2) AS m, -0.05::DECIMAL(15,15) AS n, \
         DATE '0001-01-01' - 400 AS o, DATE '12000-01-01' AS p, TIME '23:59:59.999999' AS q",
    );
}

#[test]
fn doubles_are_written_as_duckdb_writes_them() {
    assert_equal(
        "SELECT unnest(['0'::DOUBLE, '-0'::DOUBLE, 0.1, 1e15, 1e16, 1e17, 123456789012345680, 1e20, 1e21, 1e22, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1.5e-5, \
         1e100, 1.7976931348623157e308, 5e-324, 2.2250738585072014e-308, 3.141592653589793, 123456.789, 1234567890123456, 9007199254740993, 100.01, \
         99999999999.9999, 0.30000000000000004]::DOUBLE[]) AS d",
    );
    // Of all sizes: digits and exponents drawn from a fixed sequence.
    assert_equal(
        "SELECT ((hash(i) % 2000001)::BIGINT - 1000000)::DOUBLE * pow(10.0, (hash(i * 31) % 40)::INTEGER - 20) AS d FROM range(20000) r(i)",
    );
}

#[test]
fn json_is_written_as_duckdb_writes_it() {
    assert_equal(
        "SELECT unnest(['{\"a\": 1.50, \"b\":[1, 2 ]}', '\"x\"', 'null', '[1.0e2,1e-7,18446744073709551615,18446744073709551616,-9223372036854775809,1.0]', \
         ' [ ] ', '{ }', '\"\\u00e9\\/ \\u0001 \\ud83d\\ude00\"', '{\"\\u0061 b\": true}', '[10.10, 1e21, 1e20, 0.00001, 0e5, -0, -0.0, 1E400]', '{\"a\":1,\"a\":2}']::JSON[]) AS j",
    );
}

#[test]
fn nothing_is_written_as_duckdb_writes_it() {
    assert_equal("SELECT 1 AS \"a b\", 'x' AS \"#\" WHERE false");
    assert_equal("SELECT NULL::INTEGER AS a UNION ALL SELECT 2");
}

#[test]
fn duckdb_reads_our_parquet_with_its_types() {
    let (duckdb, root) = (open(), tempfile::tempdir().expect("a directory"));
    let query = "SELECT i::INTEGER AS i, (i * 1.1)::DECIMAL(15,2) AS m, i::DECIMAL(38,0) AS w, DATE '2026-01-05' AS d, TIME '01:02:03.5' AS t, \
                 TIMESTAMP '2026-01-05 01:02:03' AS ts, TIMESTAMP '2026-01-05 01:02:03'::TIMESTAMPTZ AS tz, '{\"a\":1}'::JSON AS j, i / 3 AS f, \
                 'x' || i AS s, i % 2 = 0 AS b FROM range(5000) r(i)";
    let path = root.path().join("ours.parquet");
    let mut writer = Writer::create(&path, ExportFormat::Parquet, &columns(&duckdb, query)).expect("made");
    let mut statement = duckdb.prepare(query).expect("a query");
    let batches: Vec<RecordBatch> = statement.query_arrow([]).expect("rows").collect();
    batches.iter().for_each(|batch| writer.write(batch).expect("written"));
    assert_eq!(writer.finish().expect("whole").rows, 5000);
    let ours = format!("SELECT * FROM read_parquet('{}')", path.display());
    assert_eq!(columns(&duckdb, &ours), columns(&duckdb, query));
    let count = |sql: &str| duckdb.query_row(sql, [], |row| row.get::<_, i64>(0)).expect("a count");
    assert_eq!(count(&format!("SELECT count(*) FROM (({query}) EXCEPT ALL ({ours}))")), 0);
}
