//! Files of this machine in DuckDB's SQL: Parquet as a table, and the rows of a table as a file.

use std::path::{Path, PathBuf};

use errand_model::document::step::ExportFormat;
use errand_model::value::ColumnType;

use crate::warehouse::{FileWrite, TableColumn, quote_exact, quote_text};

/// Words of types that DuckDB writes to JSON otherwise than they are: numbers inside of `JSON` become doubles, and what is no finite number
/// becomes a word that JSON does not have. Also inside of other types.
const INEXACT_JSON: [&str; 3] = ["JSON", "DOUBLE", "FLOAT"];

/// A table expression over Parquet files.
pub(super) fn scan_parquet(files: &[PathBuf]) -> String {
    // A path is a pattern to DuckDB, and folders called `key=value` would become columns.
    let literally = |c: char| if matches!(c, '[' | '*' | '?') { format!("[{c}]") } else { c.to_string() };
    let literal = |file: &PathBuf| quote_text(&file.to_string_lossy().chars().map(literally).collect::<String>());
    let list = files.iter().map(literal).collect::<Vec<_>>().join(", ");
    format!("read_parquet([{list}], union_by_name = true, filename = true, file_row_number = true, hive_partitioning = false)")
}

/// How the rows of a table become a file.
pub(super) fn write(table: &str, columns: &[TableColumn], path: &Path, format: ExportFormat) -> FileWrite {
    let is_inexact = |column: &TableColumn| INEXACT_JSON.iter().any(|word| column.type_name.contains(word));
    let (query, options) = match format {
        ExportFormat::Jsonl if columns.iter().any(is_inexact) => return FileWrite::Rows(rows(table, columns)),
        ExportFormat::Jsonl => (format!("FROM {table}"), "FORMAT json"),
        ExportFormat::Csv => (as_csv(table, columns), "FORMAT csv, HEADER true"),
        ExportFormat::Parquet => (format!("FROM {table}"), "FORMAT parquet, COMPRESSION zstd"),
    };
    // The file is nobody's target yet, and its lock belongs to it: it is written itself, and not another that takes its name.
    FileWrite::Statement(format!("COPY ({query}) TO {} ({options}, USE_TMP_FILE false)", quote_text(&path.to_string_lossy())))
}

fn is_floating(column: &TableColumn) -> bool {
    matches!(column.type_name.as_str(), "DOUBLE" | "FLOAT")
}

/// Doubles that are no finite numbers are spelled as a `double` of a file is read.
fn as_csv(table: &str, columns: &[TableColumn]) -> String {
    let spelled = |column: &TableColumn| {
        let name = quote_exact(&column.name);
        format!(
            "CASE WHEN isnan({name}) THEN 'NaN' WHEN isinf({name}) THEN CASE WHEN {name} > 0 THEN 'Infinity' ELSE '-Infinity' END \
             ELSE CAST({name} AS VARCHAR) END AS {name}"
        )
    };
    let replaced: Vec<String> = columns.iter().filter(|column| is_floating(column)).map(spelled).collect();
    if replaced.is_empty() { format!("FROM {table}") } else { format!("SELECT * REPLACE ({}) FROM {table}", replaced.join(", ")) }
}

/// The columns in types that Errand has words for: the others as the JSON that DuckDB makes of them.
fn rows(table: &str, columns: &[TableColumn]) -> String {
    let value = |column: &TableColumn| {
        let name = quote_exact(&column.name);
        match column.kind {
            _ if is_floating(column) => format!("CAST({name} AS {}) AS {name}", super::type_name(ColumnType::Double)),
            Some(_) => name,
            None => format!("to_json({name}) AS {name}"),
        }
    };
    format!("SELECT {} FROM {table}", columns.iter().map(value).collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns(types: &[&str]) -> Vec<TableColumn> {
        let column = |(at, word): (usize, &&str)| TableColumn {
            name: format!("c{at}"),
            kind: super::super::column_type(word),
            type_name: (*word).to_owned(),
        };
        types.iter().enumerate().map(column).collect()
    }

    fn is_own(types: &[&str], format: ExportFormat) -> bool {
        matches!(write("t", &columns(types), Path::new("f"), format), FileWrite::Rows(_))
    }

    #[test]
    fn duckdb_writes_what_it_writes_exactly() {
        for exact in ["INTEGER", "DECIMAL(38,10)", "VARCHAR", "HUGEINT", "STRUCT(a INTEGER)", "TIMESTAMP WITH TIME ZONE"] {
            assert!(!is_own(&[exact], ExportFormat::Jsonl), "{exact}");
        }
        for inexact in ["JSON", "DOUBLE", "FLOAT", "DOUBLE[]", "STRUCT(a JSON)"] {
            assert!(is_own(&["INTEGER", inexact], ExportFormat::Jsonl), "{inexact}");
            assert!(!is_own(&[inexact], ExportFormat::Csv) && !is_own(&[inexact], ExportFormat::Parquet), "{inexact}");
        }
    }

    #[test]
    fn rows_come_in_types_that_errand_has_words_for() {
        assert_eq!(
            rows("t", &columns(&["INTEGER", "FLOAT", "DOUBLE[]", "JSON"])),
            "SELECT \"c0\", CAST(\"c1\" AS DOUBLE) AS \"c1\", to_json(\"c2\") AS \"c2\", \"c3\" FROM t"
        );
    }
}
