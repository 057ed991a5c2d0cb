//! Files into Postgres and DuckDB, beside the warehouse's own loader and others: one table for each target and size.

use std::path::{Path, PathBuf};

use duckdb::{AccessMode, Config, Connection};

use crate::data::Format;
use crate::loader::{Load, Loader, Target};
use crate::measure::{Figures, Meter, median_of};
use crate::postgres::Server;
use crate::table::Table;
use crate::{Place, mixed, progress, remake, said};

const FORMATS: [(Format, &str); 4] =
    [(Format::Csv, "CSV"), (Format::GzipCsv, "gzip CSV"), (Format::Parquet, "Parquet"), (Format::Jsonl, "JSON Lines")];

/// A loader, and how often it runs.
type Sides = &'static [(Loader, usize)];

const POSTGRES: Sides = &[(Loader::Errand, 5), (Loader::Own, 5), (Loader::Dlt, 5), (Loader::Sling, 5), (Loader::Ingestr, 5)];
const POSTGRES_LARGE: Sides = &[(Loader::Errand, 3), (Loader::Own, 3), (Loader::Dlt, 1), (Loader::Sling, 1), (Loader::Ingestr, 1)];
const ALONE_LARGE: Sides = &[(Loader::Errand, 1), (Loader::Own, 1)];
const DUCKDB: Sides = &[(Loader::Errand, 5), (Loader::Own, 5), (Loader::Dlt, 5)];
const DUCKDB_LARGE: Sides = &[(Loader::Errand, 3), (Loader::Own, 3), (Loader::Dlt, 1)];

const SMALL: usize = 200_000;

/// Rows of the large files: 1.06 GB of CSV.
pub(crate) const LARGE: usize = 5_000_000;

/// Seconds for one load, by size.
const ALLOWED: [u64; 2] = [60, 240];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Postgres,
    DuckDb,
}

/// 200,000 rows in each format into Postgres.
pub(crate) fn postgres(place: &Place, meter: &Meter) -> Result<Table, String> {
    let mut table = heading("files into Postgres", "of psql");
    for format in FORMATS {
        Case::new(place, Kind::Postgres, format, SMALL)?.measure(meter, POSTGRES, &mut table)?;
    }
    Ok(table)
}

/// Five million rows into Postgres: everybody from CSV, the other formats without the peers.
pub(crate) fn postgres_large(place: &Place, meter: &Meter) -> Result<Table, String> {
    let mut table = heading("files into Postgres", "of psql");
    for (index, format) in FORMATS.into_iter().enumerate() {
        let sides = if index == 0 { POSTGRES_LARGE } else { ALONE_LARGE };
        Case::new(place, Kind::Postgres, format, LARGE)?.measure(meter, sides, &mut table)?;
    }
    Ok(table)
}

/// 200,000 rows in each format into DuckDB, and five million of CSV.
pub(crate) fn duckdb(place: &Place, meter: &Meter) -> Result<Table, String> {
    let mut table = heading("files into DuckDB", "of DuckDB");
    for format in FORMATS {
        Case::new(place, Kind::DuckDb, format, SMALL)?.measure(meter, DUCKDB, &mut table)?;
    }
    Case::new(place, Kind::DuckDb, FORMATS[0], LARGE)?.measure(meter, DUCKDB_LARGE, &mut table)?;
    Ok(table)
}

fn heading(what: &str, own: &str) -> Table {
    Table::new([what, "wall s", own, "of errand", "CPU s", "of errand", "peak MiB", "runs", "rows"])
}

/// One file and one kind of target.
struct Case<'a> {
    place: &'a Place,
    kind: Kind,
    format: Format,
    name: &'static str,
    rows: usize,
    file: PathBuf,
    csv: PathBuf,
    expected: String,
}

/// How one loader did.
#[derive(Default)]
struct Outcome {
    figures: Vec<Figures>,
    /// Why there are no more figures.
    ended: Option<String>,
    /// What it loaded, where that was not what the file holds.
    wrong: Option<String>,
}

impl<'a> Case<'a> {
    fn new(place: &'a Place, kind: Kind, (format, name): (Format, &'static str), rows: usize) -> Result<Self, String> {
        let (file, csv) = (mixed::file(place, rows, format)?, mixed::file(place, rows, Format::Csv)?);
        Ok(Self { place, kind, format, name, rows, file, csv, expected: mixed::expected(place, rows)? })
    }

    fn measure(&self, meter: &Meter, sides: Sides, table: &mut Table) -> Result<(), String> {
        let megabytes = std::fs::metadata(&self.file).map_err(said(self.file.display()))?.len() / 1_000_000;
        let title = format!("{}, {} k rows, {megabytes} MB", self.name, self.rows / 1000);
        let mut outcomes: Vec<Outcome> = sides.iter().map(|_| Outcome::default()).collect();
        let rounds = sides.iter().map(|(_, rounds)| *rounds).max().unwrap_or(0);
        for round in 1..=rounds {
            progress(&format!("{title}: round {round} of {rounds}"));
            for ((loader, rounds), outcome) in sides.iter().zip(&mut outcomes) {
                if round <= *rounds && outcome.ended.is_none() {
                    self.run(meter, *loader, outcome)?;
                }
            }
        }
        self.report(title, sides, &outcomes, table);
        Ok(())
    }

    fn run(&self, meter: &Meter, loader: Loader, outcome: &mut Outcome) -> Result<(), String> {
        let directory = self.place.scratch.join("target");
        remake(&directory)?;
        remake(&self.place.scratch.join("dlt"))?;
        let target = match self.kind {
            Kind::Postgres => Target::Postgres(Box::new(Server::fresh()?)),
            Kind::DuckDb => Target::DuckDb(directory),
        };
        let load = Load { place: self.place, format: self.format, file: &self.file, csv: &self.csv, target: &target };
        let allowed = ALLOWED[usize::from(self.rows > SMALL)];
        match load.program(loader, allowed).and_then(|program| meter.run(&program)) {
            Ok(figures) => {
                progress(&figures.told(name(loader, self.kind)));
                outcome.figures.push(figures);
                let loaded = content(&target, loader).unwrap_or_else(|message| message);
                if loaded != self.expected {
                    progress(&format!("{}: {loaded}, and not {}", name(loader, self.kind), self.expected));
                    outcome.wrong = Some(loaded);
                }
                Ok(())
            }
            Err(message) if matches!(loader, Loader::Errand | Loader::Own) => Err(message),
            Err(message) => {
                progress(&format!("{}: {message}", name(loader, self.kind)));
                outcome.ended = Some(message.lines().next().unwrap_or_default().chars().take(60).collect());
                Ok(())
            }
        }
    }

    fn report(&self, title: String, sides: Sides, outcomes: &[Outcome], table: &mut Table) {
        let median = |loader: Loader| {
            let place = sides.iter().position(|(side, _)| *side == loader)?;
            Some(median_of(&outcomes.get(place)?.figures))
        };
        let (Some(errand), Some(own)) = (median(Loader::Errand), median(Loader::Own)) else { return };
        table.row([title]);
        for ((loader, _), outcome) in sides.iter().zip(outcomes) {
            let name = format!("  {}", name(*loader, self.kind));
            if outcome.figures.is_empty() {
                table.row([name, outcome.ended.clone().unwrap_or_default()]);
                continue;
            }
            let figures = median_of(&outcome.figures);
            let two = |value: f64| format!("{value:.2}");
            let verdict = if outcome.wrong.is_some() { "wrong" } else { "right" };
            let cells = [two(figures.wall), two(figures.wall / own.wall), two(figures.wall / errand.wall)];
            let cells = cells.into_iter().chain([two(figures.cpu), two(figures.cpu / errand.cpu), format!("{:.0}", figures.peak)]);
            let cells = cells.chain([outcome.figures.len().to_string(), verdict.to_owned()]);
            table.row(std::iter::once(name).chain(cells));
        }
    }
}

fn name(loader: Loader, kind: Kind) -> &'static str {
    match (loader, kind) {
        (Loader::Errand, _) => "errand",
        (Loader::Own, Kind::Postgres) => "psql \\copy, CSV",
        (Loader::Own, Kind::DuckDb) => "DuckDB, its own reader",
        (Loader::Dlt, Kind::Postgres) => "dlt, Arrow, ADBC",
        (Loader::Dlt, Kind::DuckDb) => "dlt, Arrow",
        (Loader::Sling, _) => "sling, bulk",
        (Loader::Ingestr, _) => "ingestr",
    }
}

/// Rows and sum of the decimal column, as `rows|sum`.
fn content(target: &Target, loader: Loader) -> Result<String, String> {
    let table = if loader == Loader::Dlt { "bench.mixed" } else { "mixed" };
    match target {
        Target::Postgres(server) => {
            server.value(&format!("SELECT count(*) || '|' || coalesce(sum(amount::numeric)::numeric(38,2)::text, 'NULL') FROM {table}"))
        }
        Target::DuckDb(directory) => duckdb_content(&directory.join("warehouse.duckdb"), table),
    }
}

fn duckdb_content(file: &Path, table: &str) -> Result<String, String> {
    let ask = || {
        let connection = Connection::open_with_flags(file, Config::default().access_mode(AccessMode::ReadOnly)?)?;
        let query = format!("SELECT count(*) || '|' || sum(amount)::decimal(38,2) FROM {table}");
        connection.query_row(&query, [], |row| row.get(0))
    };
    ask().map_err(|error: duckdb::Error| format!("`{}`: {error}", file.display()))
}
