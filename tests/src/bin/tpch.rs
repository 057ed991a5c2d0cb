//! Writes the TPC-H data set as files: the input of the demo, the tests and the benchmark.
//!
//! Must not hold a table in memory: rows go from the generator to the file one by one.

use std::fmt::Display;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use tpchgen::csv::{CustomerCsv, LineItemCsv, NationCsv, OrderCsv, PartCsv, PartSuppCsv, RegionCsv, SupplierCsv};
use tpchgen::generators::{
    CustomerGenerator, LineItemGenerator, NationGenerator, OrderGenerator, PartGenerator, PartSuppGenerator, RegionGenerator,
    SupplierGenerator,
};

const USAGE: &str = "usage: tpch --scale-factor <number> --out <directory> [--table <name>] [--format tbl|csv]";

const TABLES: [&str; 8] = ["region", "nation", "supplier", "customer", "part", "partsupp", "orders", "lineitem"];

#[expect(clippy::print_stderr, reason = "a tool talks to the person who started it")]
fn main() -> std::process::ExitCode {
    match Arguments::parse(std::env::args().skip(1)).and_then(|arguments| arguments.write()) {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("tpch: {message}\n{USAGE}");
            std::process::ExitCode::from(2)
        }
    }
}

/// How a row is written.
#[derive(Clone, Copy)]
enum Format {
    /// As the benchmark defines: fields end in `|`, no header, no quotes.
    Tbl,
    /// Commas, a header, the comment column in double quotes.
    Csv,
}

/// The command line, checked.
struct Arguments {
    scale_factor: f64,
    out: PathBuf,
    tables: Vec<&'static str>,
    format: Format,
}

impl Arguments {
    fn parse(mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        let (mut scale_factor, mut out, mut tables, mut format) = (None, None, TABLES.to_vec(), Format::Tbl);
        while let Some(flag) = words.next() {
            let value = words.next().ok_or_else(|| format!("`{flag}` without a value"))?;
            match flag.as_str() {
                "--scale-factor" => scale_factor = value.parse().ok().filter(|factor: &f64| factor.is_finite() && *factor > 0.0),
                "--out" => out = Some(PathBuf::from(value)),
                "--table" => tables = vec![known_table(&value)?],
                "--format" => format = known_format(&value)?,
                _ => return Err(format!("unknown argument `{flag}`")),
            }
        }
        Ok(Self {
            scale_factor: scale_factor.ok_or("`--scale-factor` must be a number above 0")?,
            out: out.ok_or("`--out` is missing")?,
            tables,
            format,
        })
    }

    fn write(&self) -> Result<(), String> {
        fs::create_dir_all(&self.out).map_err(|error| format!("cannot create `{}`: {error}", self.out.display()))?;
        for table in &self.tables {
            let extension = match self.format {
                Format::Tbl => "tbl",
                Format::Csv => "csv",
            };
            let path = self.out.join(format!("{table}.{extension}"));
            self.write_table(table, &path).map_err(|error| format!("cannot write `{}`: {error}", path.display()))?;
        }
        Ok(())
    }

    fn write_table(&self, table: &str, path: &Path) -> io::Result<()> {
        macro_rules! rows {
            ($generator:ident, $csv:ident) => {{
                let generator = $generator::new(self.scale_factor, 1, 1);
                match self.format {
                    Format::Tbl => write_lines(path, None, generator.iter()),
                    Format::Csv => write_lines(path, Some($csv::header()), generator.iter().map($csv::new)),
                }
            }};
        }
        match table {
            "region" => rows!(RegionGenerator, RegionCsv),
            "nation" => rows!(NationGenerator, NationCsv),
            "supplier" => rows!(SupplierGenerator, SupplierCsv),
            "customer" => rows!(CustomerGenerator, CustomerCsv),
            "part" => rows!(PartGenerator, PartCsv),
            "partsupp" => rows!(PartSuppGenerator, PartSuppCsv),
            "orders" => rows!(OrderGenerator, OrderCsv),
            _ => rows!(LineItemGenerator, LineItemCsv),
        }
    }
}

fn known_table(name: &str) -> Result<&'static str, String> {
    TABLES.into_iter().find(|table| *table == name).ok_or_else(|| format!("unknown table `{name}`, known are {}", TABLES.join(", ")))
}

fn known_format(name: &str) -> Result<Format, String> {
    match name {
        "tbl" => Ok(Format::Tbl),
        "csv" => Ok(Format::Csv),
        _ => Err(format!("unknown format `{name}`, known are tbl and csv")),
    }
}

fn write_lines(path: &Path, header: Option<&str>, rows: impl Iterator<Item = impl Display>) -> io::Result<()> {
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
    if let Some(header) = header {
        writeln!(file, "{header}")?;
    }
    for row in rows {
        writeln!(file, "{row}")?;
    }
    file.flush()
}
