//! The input: TPC-H's lineitem in four formats, and what a job needs to find it.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use duckdb::Connection;
use tpchgen::csv::LineItemCsv;
use tpchgen::generators::LineItemGenerator;

use crate::{Place, progress, said};

/// The columns of lineitem, with the types that both sides are told.
pub(crate) const COLUMNS: [(&str, &str); 16] = [
    ("l_orderkey", "bigint"),
    ("l_partkey", "bigint"),
    ("l_suppkey", "bigint"),
    ("l_linenumber", "integer"),
    ("l_quantity", "decimal(15,2)"),
    ("l_extendedprice", "decimal(15,2)"),
    ("l_discount", "decimal(15,2)"),
    ("l_tax", "decimal(15,2)"),
    ("l_returnflag", "text"),
    ("l_linestatus", "text"),
    ("l_shipdate", "date"),
    ("l_commitdate", "date"),
    ("l_receiptdate", "date"),
    ("l_shipinstruct", "text"),
    ("l_shipmode", "text"),
    ("l_comment", "text"),
];

/// Lines of the data set at scale factor 1.
const LINES_AT_1: f64 = 6_000_000.0;

/// How the rows are written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Csv,
    GzipCsv,
    Jsonl,
    Parquet,
}

impl Format {
    /// The word of a job definition.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Csv | Self::GzipCsv => "csv",
            Self::Jsonl => "jsonl",
            Self::Parquet => "parquet",
        }
    }

    pub(crate) fn extension(self) -> &'static str {
        match self {
            Self::GzipCsv => "csv.gz",
            Self::Csv | Self::Jsonl | Self::Parquet => self.word(),
        }
    }

    /// The rows of a file, as DuckDB reads them with columns and dialect told, nothing guessed.
    pub(crate) fn scan(self, file: &Path) -> String {
        self.scan_of(file, &COLUMNS)
    }

    /// The same of a file with other columns.
    pub(crate) fn scan_of(self, file: &Path, columns: &[(&str, &str)]) -> String {
        let file = file.display();
        let columns: Vec<String> =
            columns.iter().map(|(name, kind)| format!("'{name}': '{}'", if *kind == "text" { "varchar" } else { kind })).collect();
        let columns = columns.join(", ");
        match self {
            Self::Csv | Self::GzipCsv => format!(
                "read_csv('{file}', auto_detect = false, header = true, delim = ',', quote = '\"', escape = '\"', columns = {{{columns}}})"
            ),
            Self::Jsonl => format!("read_json('{file}', auto_detect = false, format = 'newline_delimited', columns = {{{columns}}})"),
            Self::Parquet => format!("read_parquet('{file}')"),
        }
    }
}

/// A project whose warehouse lies in `state` and whose files lie in `lake`.
pub(crate) fn project(state: &Path, lake: &Path) -> String {
    format!(
        "version: 1\n\
         default_environment: local\n\
         environments:\n  local:\n    connections:\n      \
         warehouse: {{ duckdb: {{ path: {} }} }}\n      \
         lake: {{ directory: {{ path: {} }} }}\n\
         contacts:\n  team: {{ email: {{ to: [team@example.com] }} }}\n",
        state.join("warehouse.duckdb").display(),
        lake.display()
    )
}

/// The file with this many rows of lineitem, made when it is not there.
pub(crate) fn lineitem(place: &Place, rows: usize, format: Format) -> Result<PathBuf, String> {
    let path = place.data.join(format!("lineitem-{rows}.{}", format.extension()));
    if path.exists() {
        return Ok(path);
    }
    progress(&format!("making {}", path.display()));
    fs::create_dir_all(&place.data).map_err(said(place.data.display()))?;
    let unfinished = place.data.join("unfinished");
    match format {
        Format::Csv => write_csv(&unfinished, rows),
        Format::GzipCsv => write_gzip(&lineitem(place, rows, Format::Csv)?, &unfinished),
        Format::Jsonl => copy(&lineitem(place, rows, Format::Csv)?, &unfinished, "format json"),
        Format::Parquet => copy(&lineitem(place, rows, Format::Csv)?, &unfinished, "format parquet"),
    }?;
    fs::rename(&unfinished, &path).map_err(said(path.display()))?;
    Ok(path)
}

#[expect(clippy::cast_precision_loss, reason = "a number of rows is far smaller than 2^52")]
fn write_csv(path: &Path, rows: usize) -> Result<(), String> {
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path).map_err(said(path.display()))?);
    let scale_factor = rows as f64 / LINES_AT_1 * 1.02;
    let generator = LineItemGenerator::new(scale_factor, 1, 1);
    writeln!(file, "{}", LineItemCsv::header()).map_err(said(path.display()))?;
    let mut written = 0;
    for line in generator.iter().take(rows) {
        writeln!(file, "{}", LineItemCsv::new(line)).map_err(said(path.display()))?;
        written += 1;
    }
    file.flush().map_err(said(path.display()))?;
    if written == rows { Ok(()) } else { Err(format!("scale factor {scale_factor} has {written} lines, not {rows}")) }
}

/// Compresses a file as most senders do.
pub(crate) fn write_gzip(from: &Path, to: &Path) -> Result<(), String> {
    let target = File::create(to).map_err(said(to.display()))?;
    let status = Command::new("gzip").args(["--stdout", "-6"]).arg(from).stdout(target).status().map_err(said("gzip"))?;
    if status.success() { Ok(()) } else { Err(format!("gzip ended with {status}")) }
}

fn copy(from: &Path, to: &Path, options: &str) -> Result<(), String> {
    let connection = Connection::open_in_memory().map_err(said("DuckDB"))?;
    let statement = format!("copy (from {}) to '{}' ({options})", Format::Csv.scan(from), to.display());
    connection.execute_batch(&statement).map_err(said(to.display()))
}
