//! Rows of files into a fresh DuckDB file, beside DuckDB's own readers.

use std::fs;
use std::path::{Path, PathBuf};

use duckdb::{AccessMode, Config, Connection};

use crate::data::{COLUMNS, Format, lineitem, project};
use crate::measure::{Figures, Meter, Program, median_of};
use crate::table::Table;
use crate::{Place, remake, said, write};

const PEER: &str = include_str!("peer.py");

const FORMATS: [(Format, &str, &str); 4] = [
    (Format::Csv, "CSV", "read_csv"),
    (Format::GzipCsv, "gzip CSV", "read_csv"),
    (Format::Jsonl, "JSON Lines", "read_json"),
    (Format::Parquet, "Parquet", "read_parquet"),
];

/// Who loads. The order is the order of a round.
#[derive(Clone, Copy)]
enum Side {
    /// The rows as they are: what DuckDB does.
    Plain,
    /// As users get it: where each row came from, in four more columns.
    Metadata,
    DuckDb,
}

const SIDES: [Side; 3] = [Side::Plain, Side::Metadata, Side::DuckDb];

/// A million rows in each format.
pub(crate) fn formats(place: &Place, meter: &Meter) -> Result<Table, String> {
    let mut table = heading();
    for (format, name, reader) in FORMATS {
        Case::new(place, format, 1)?.measure(meter, 5, name, reader, &mut table)?;
    }
    Ok(table)
}

/// A million rows of CSV, then ten: what grows.
pub(crate) fn growth(place: &Place, meter: &Meter) -> Result<Table, String> {
    let mut table = heading();
    for millions in [1, 10] {
        Case::new(place, Format::Csv, millions)?.measure(meter, 3, "CSV", "read_csv", &mut table)?;
    }
    Ok(table)
}

fn heading() -> Table {
    Table::new(["files into DuckDB", "wall s", "ratio", "CPU s", "ratio", "peak MiB"])
}

/// One file, and where it goes.
struct Case<'a> {
    place: &'a Place,
    format: Format,
    millions: usize,
    file: PathBuf,
    directory: PathBuf,
}

impl<'a> Case<'a> {
    fn new(place: &'a Place, format: Format, millions: usize) -> Result<Self, String> {
        let file = lineitem(place, millions * 1_000_000, format)?;
        let directory = place.scratch.join("load");
        remake(&directory)?;
        let case = Self { place, format, millions, file, directory };
        for side in [Side::Plain, Side::Metadata] {
            write(&case.repository(side).join("errand.yaml"), &project(&case.state(), &place.data))?;
            write(&case.repository(side).join("jobs/load/job.yaml"), &case.job(side))?;
        }
        Ok(case)
    }

    fn measure(&self, meter: &Meter, rounds: usize, name: &str, reader: &str, table: &mut Table) -> Result<(), String> {
        let mut contents = Vec::new();
        let title = format!("{name}, {} M rows, {} MB", self.millions, self.megabytes()?);
        let results = meter.rounds(&title, rounds, SIDES.len(), |meter, side| {
            let side = SIDES[side];
            remake(&self.state())?;
            let figures = meter.run(&self.program(side))?;
            contents.push(self.content()?);
            Ok(figures)
        })?;
        if contents.iter().any(|content| *content != contents[0]) {
            return Err(format!("{title}: the sides loaded different rows: {contents:?}"));
        }
        let medians: Vec<Figures> = results.iter().map(|figures| median_of(figures)).collect();
        let names = ["  errand, metadata: false".to_owned(), "  errand, with metadata".to_owned(), format!("  DuckDB, {reader}")];
        table.row([title]);
        for (name, figures) in names.into_iter().zip(&medians) {
            let peer = &medians[2];
            let (wall, cpu) = (figures.wall / peer.wall, figures.cpu / peer.cpu);
            let seconds = |value: f64| format!("{value:.2}");
            table.row([name, seconds(figures.wall), seconds(wall), seconds(figures.cpu), seconds(cpu), format!("{:.0}", figures.peak)]);
        }
        Ok(())
    }

    fn megabytes(&self) -> Result<u64, String> {
        Ok(fs::metadata(&self.file).map_err(said(self.file.display()))?.len() / 1_000_000)
    }

    fn repository(&self, side: Side) -> PathBuf {
        self.directory.join(match side {
            Side::Plain => "plain",
            Side::Metadata => "metadata",
            Side::DuckDb => "duckdb",
        })
    }

    fn state(&self) -> PathBuf {
        self.directory.join("state")
    }

    fn warehouse(&self) -> PathBuf {
        self.state().join("warehouse.duckdb")
    }

    fn program(&self, side: Side) -> Program {
        let repository = self.repository(side).to_string_lossy().into_owned();
        match side {
            Side::Plain | Side::Metadata => Program::errand(self.place, ["run", "load", "--repo", &repository]),
            Side::DuckDb => {
                let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get).to_string();
                let statement = format!("CREATE TABLE lineitem AS SELECT * FROM {}", self.format.scan(&self.file));
                Program::python(self.place, PEER, [self.warehouse().to_string_lossy().as_ref(), threads.as_str(), &statement])
            }
        }
    }

    fn job(&self, side: Side) -> String {
        let file = self.file.file_name().unwrap_or_default().to_string_lossy();
        let columns: Vec<String> = COLUMNS.iter().map(|(name, kind)| format!("        - {{ name: {name}, type: \"{kind}\" }}")).collect();
        format!(
            "version: 1\nname: load\nowner: team\nsteps:\n  - id: lineitem\n    ingest:\n      \
             source: {{ files: {{ connection: lake, path: {file}, format: {} }} }}\n      \
             target: {{ table: lineitem }}\n      mode: replace\n      metadata: {}\n      columns:\n{}\n",
            self.format.word(),
            matches!(side, Side::Metadata),
            columns.join("\n")
        )
    }

    /// The number of rows and a fingerprint of what they hold, in any order. Everything must stand in the file, nothing in its log.
    fn content(&self) -> Result<(i64, String), String> {
        let (warehouse, log) = (self.warehouse(), self.state().join("warehouse.duckdb.wal"));
        if log.exists() {
            return Err(format!("`{}` is there: the load ended without a checkpoint", log.display()));
        }
        read_content(&warehouse).map_err(said(warehouse.display()))
    }
}

fn read_content(warehouse: &Path) -> duckdb::Result<(i64, String)> {
    let connection = Connection::open_with_flags(warehouse, Config::default().access_mode(AccessMode::ReadOnly)?)?;
    let columns = COLUMNS.map(|(name, _)| name).join(", ");
    let query = format!("select count(*), sum(hash({columns}))::text from lineitem");
    connection.query_row(&query, [], |row| Ok((row.get(0)?, row.get(1)?)))
}
