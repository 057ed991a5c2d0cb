//! The loaders that are compared: `errand`, the warehouse's own, sling, dlt, ingestr; each as one program.

use std::path::Path;

use crate::data::Format;
use crate::measure::Program;
use crate::mixed::{COLUMNS, yaml};
use crate::postgres::Server;
use crate::{Place, write};

const DUCKDB: &str = include_str!("peer.py");
const DLT: &str = include_str!("dlt_load.py");

/// Who loads. The order is the order of a round.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Loader {
    Errand,
    /// `\copy` of psql, a reader of DuckDB.
    Own,
    Dlt,
    Sling,
    Ingestr,
}

/// Where rows go.
pub(crate) enum Target {
    Postgres(Box<Server>),
    /// A directory for the file.
    DuckDb(std::path::PathBuf),
}

/// One load.
pub(crate) struct Load<'a> {
    pub(crate) place: &'a Place,
    pub(crate) format: Format,
    pub(crate) file: &'a Path,
    /// The same rows as CSV.
    pub(crate) csv: &'a Path,
    pub(crate) target: &'a Target,
}

impl Load<'_> {
    /// The program of a loader; why there is none otherwise.
    pub(crate) fn program(&self, loader: Loader, allowed: u64) -> Result<Program, String> {
        let program = match (loader, self.target) {
            (Loader::Errand, target) => errand(self.place, target, self.format, self.file)?,
            (Loader::Own, Target::Postgres(server)) => self.psql(server),
            (Loader::Own, Target::DuckDb(directory)) => self.duckdb(directory),
            (Loader::Dlt, target) => self.dlt(target),
            (Loader::Sling, Target::Postgres(server)) => self.sling(server)?,
            (Loader::Ingestr, Target::Postgres(server)) => self.ingestr(server)?,
            (Loader::Sling | Loader::Ingestr, Target::DuckDb(_)) => return Err("not measured".to_owned()),
        };
        Ok(program.allowed(allowed))
    }

    /// Reads CSV only: other formats are compared with the CSV of the same rows.
    fn psql(&self, server: &Server) -> Program {
        let columns: Vec<String> = COLUMNS.iter().map(|(name, kind)| format!("{name} {}", postgres_type(kind))).collect();
        let create = format!("CREATE TABLE mixed ({})", columns.join(", "));
        let psql = format!("psql -X -q '{}' -c '{create}' -c", server.url("postgres"));
        match self.format {
            Format::GzipCsv => {
                Program::shell(&format!("gunzip -c '{}' | {psql} '\\copy mixed from pstdin (format csv, header)'", self.file.display()))
            }
            Format::Csv | Format::Jsonl | Format::Parquet => {
                Program::shell(&format!("exec {psql} \"\\\\copy mixed from '{}' (format csv, header)\"", self.csv.display()))
            }
        }
    }

    fn duckdb(&self, directory: &Path) -> Program {
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get).to_string();
        let statement = format!("CREATE TABLE mixed AS SELECT * FROM {}", self.format.scan_of(self.file, &COLUMNS));
        let file = directory.join("warehouse.duckdb");
        Program::python(self.place, DUCKDB, [file.to_string_lossy().as_ref(), threads.as_str(), &statement])
    }

    /// Arrow tables of its fastest readers, Parquet between, ADBC into Postgres.
    fn dlt(&self, target: &Target) -> Program {
        let target = match target {
            Target::Postgres(server) => server.url("postgres"),
            Target::DuckDb(directory) => directory.join("warehouse.duckdb").to_string_lossy().into_owned(),
        };
        let columns: Vec<String> = COLUMNS.iter().map(|(name, kind)| format!("{name}:{kind}")).collect();
        let file = self.file.to_string_lossy();
        let arguments = [file.as_ref(), self.format.word(), &target].into_iter().chain(columns.iter().map(String::as_str));
        Program::python(self.place, DLT, arguments).env("RUNTIME__DLTHUB_TELEMETRY", "false")
    }

    /// Its bulk way, `COPY`. Types are declared for JSON; for CSV it then puts values into wrong columns, so there it infers them.
    fn sling(&self, server: &Server) -> Result<Program, String> {
        let columns: Vec<String> = COLUMNS.iter().map(|(name, kind)| format!("\"{name}\": \"{}\"", sling_type(kind))).collect();
        let columns = format!("{{{}}}", columns.join(", "));
        let declared: &[&str] = match self.format {
            Format::Csv | Format::GzipCsv => &[],
            Format::Jsonl => &["--src-options", "{\"flatten\": true}", "--columns", &columns],
            Format::Parquet => return Err("downloads a DuckDB at its first use".to_owned()),
        };
        let sling =
            self.place.peers.join("lib").join(python_directory(self.place)?).join("site-packages/sling_linux_amd64/bin/sling-linux-amd64");
        let stream = format!("file://{}", self.file.display());
        let words = ["run", "--src-stream", &stream, "--tgt-conn", "BENCH", "--tgt-object", "public.mixed", "--mode", "full-refresh"];
        let words = words.into_iter().chain(["--tgt-options", "{\"use_bulk\": true}"]).chain(declared.iter().copied());
        Ok(Program::new(&sling, words).env("BENCH", &server.url("postgres")).env("SLING_DISABLE_TELEMETRY", "TRUE"))
    }

    /// Types are declared, but not for JSON: there it then loads NULL for every decimal.
    fn ingestr(&self, server: &Server) -> Result<Program, String> {
        let columns: Vec<String> = COLUMNS.iter().map(|(name, kind)| format!("{name}:{}", ingestr_type(kind))).collect();
        let columns = columns.join(",");
        let declared: &[&str] = match self.format {
            Format::GzipCsv => return Err("does not read gzip CSV".to_owned()),
            Format::Jsonl => &[],
            Format::Csv | Format::Parquet => &["--columns", &columns],
        };
        let (source, target) = (format!("{}://{}", self.format.word(), self.file.display()), server.url("postgresql"));
        let words = ["ingest", "--source-uri", &source, "--source-table", "mixed", "--dest-uri", &target, "--dest-table", "public.mixed"];
        let words = words.into_iter().chain(["--loader-file-size", "100000", "--yes", "--progress", "log"]).chain(declared.iter().copied());
        Ok(Program::new(&self.place.peers.join("bin/ingestr"), words).env("INGESTR_DISABLE_TELEMETRY", "true"))
    }
}

/// `errand run` with one `ingest` step in mode `replace`, in a job repository of its own.
fn errand(place: &Place, target: &Target, format: Format, file: &Path) -> Result<Program, String> {
    let (repository, lake) = (place.scratch.join("repository"), file.parent().unwrap_or(file));
    let warehouse = match target {
        Target::Postgres(server) => server.connection(),
        Target::DuckDb(directory) => format!("{{ duckdb: {{ path: {} }} }}", directory.join("warehouse.duckdb").display()),
    };
    write(&repository.join("errand.yaml"), &project(&warehouse, lake, &place.scratch.join("reports")))?;
    write(&repository.join("jobs/load/job.yaml"), &job(format, file))?;
    let program = Program::errand(place, ["run", "load", "--repo", &repository.to_string_lossy()]);
    Ok(match target {
        Target::Postgres(server) => program.env("ERRAND_SECRET_WAREHOUSE", server.password()),
        Target::DuckDb(_) => program,
    })
}

/// A project with a warehouse, files and reports.
pub(crate) fn project(warehouse: &str, lake: &Path, reports: &Path) -> String {
    format!(
        "version: 1\ndefault_environment: local\nenvironments:\n  local:\n    connections:\n      warehouse: {warehouse}\n      \
         lake: {{ directory: {{ path: {} }} }}\n      reports: {{ directory: {{ path: {} }} }}\n    \
         reports: {{ connection: reports }}\ncontacts:\n  team: {{ email: {{ to: [team@example.com] }} }}\n",
        lake.display(),
        reports.display()
    )
}

/// The job that loads a file of the connection `lake` into the table `mixed`.
pub(crate) fn job(format: Format, file: &Path) -> String {
    format!(
        "version: 1\nname: load\nowner: team\nsteps:\n  - id: mixed\n    ingest:\n      \
         source: {{ files: {{ connection: lake, path: {}, format: {} }} }}\n      \
         target: {{ table: mixed }}\n      mode: replace\n      metadata: false\n      columns:\n{}",
        file.file_name().unwrap_or_default().to_string_lossy(),
        format.word(),
        yaml()
    )
}

fn postgres_type(kind: &str) -> &str {
    if kind == "double" { "double precision" } else { kind }
}

fn sling_type(kind: &str) -> &str {
    match kind {
        "decimal(12,2)" => "decimal",
        "double" => "float",
        "boolean" => "bool",
        _ => kind,
    }
}

fn ingestr_type(kind: &str) -> &str {
    match kind {
        "integer" => "int",
        "timestamp" => "timestamp_ntz",
        _ => kind,
    }
}

/// Such as `python3.11`: the only directory in `lib` of an environment.
fn python_directory(place: &Place) -> Result<std::ffi::OsString, String> {
    let lib = place.peers.join("lib");
    let mut found = std::fs::read_dir(&lib).map_err(crate::said(lib.display()))?;
    let entry = found.next().ok_or_else(|| format!("`{}` is empty", lib.display()))?;
    Ok(entry.map_err(crate::said(lib.display()))?.file_name())
}
