//! A job repository with one job in the working directory of an `errand`, its input files, its warehouse and its run reports.

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};

use duckdb::{AccessMode, Config, Connection};
use serde_json::Value;

use crate::errand::{Errand, Outcome, Running};

const PROJECT: &str = "\
version: 1
default_environment: local
environments:
  local:
    connections:
      warehouse: { duckdb: { path: state/warehouse.duckdb } }
      lake: { directory: { path: data } }
contacts:
  team: { email: { to: [team@example.com] } }
";

/// A job `load` in a repository of its own, with the warehouse `state/warehouse.duckdb` and the files of `data`.
#[derive(Default)]
pub struct Project {
    errand: Errand,
    runs: Cell<u32>,
}

impl Project {
    /// A repository whose job has yet to be written, and an empty environment.
    #[must_use]
    pub fn new() -> Self {
        Self::within(Errand::new())
    }

    /// The same, for an `errand` with an environment of its own.
    ///
    /// Logs are text, so that tests read them as people do.
    #[must_use]
    pub fn within(errand: Errand) -> Self {
        let project = Self { errand: errand.env("ERRAND_LOG_FORMAT", "text"), runs: Cell::new(0) };
        project.write("errand.yaml", PROJECT);
        fs::create_dir(project.path("data")).expect("the working directory can be written");
        project
    }

    /// A path in the repository.
    #[must_use]
    pub fn path(&self, path: &str) -> PathBuf {
        self.errand.directory().join(path)
    }

    /// The database file.
    #[must_use]
    pub fn database(&self) -> PathBuf {
        self.path("state/warehouse.duckdb")
    }

    /// Writes a file of the repository, and the folders above it.
    ///
    /// # Panics
    /// When that cannot be written.
    pub fn write(&self, path: &str, content: impl AsRef<[u8]>) -> &Self {
        let file = self.path(path);
        fs::create_dir_all(file.parent().expect("a file lies in a folder")).expect("the working directory can be written");
        fs::write(file, content).expect("the working directory can be written");
        self
    }

    /// Writes the job: its steps, as YAML.
    pub fn steps(&self, steps: &str) -> &Self {
        self.job("", steps)
    }

    /// Writes the job: keys of its own, as YAML, then its steps.
    pub fn job(&self, keys: &str, steps: &str) -> &Self {
        self.write("jobs/load/job.yaml", format!("version: 1\nname: load\nowner: team\n{keys}\nsteps:\n{steps}"))
    }

    /// Runs the job for a day.
    pub fn run(&self, day: &str) -> Run {
        self.run_with(&["--interval", day])
    }

    /// Runs the job with these arguments.
    pub fn run_with(&self, arguments: &[&str]) -> Run {
        let (running, id) = self.spawn(arguments);
        self.ended(running, &id)
    }

    /// Starts the job with these arguments; says the id of the run.
    pub fn spawn(&self, arguments: &[&str]) -> (Running, String) {
        self.runs.set(self.runs.get() + 1);
        let id = format!("run-{}", self.runs.get());
        let running = self.errand.spawn(["run", "load", "--run-id", &id].iter().chain(arguments));
        (running, id)
    }

    /// Waits for the end of a run.
    #[must_use]
    pub fn ended(&self, running: Running, id: &str) -> Run {
        let outcome = running.wait();
        let report = fs::read(self.path(&format!("state/runs/{id}.json"))).ok();
        let report = report.map(|text| serde_json::from_slice(&text).expect("a report is JSON"));
        Run { outcome, report }
    }

    /// The warehouse, to read in. Close it before the next run: one process at a time opens the file.
    #[must_use]
    #[track_caller]
    pub fn warehouse(&self) -> Connection {
        read_only(&self.database())
    }

    /// The rows of a query, sorted: values as text with `|` between them, `NULL` for none.
    ///
    /// # Panics
    /// When the warehouse refuses it.
    #[must_use]
    #[track_caller]
    pub fn rows(&self, query: &str) -> Vec<String> {
        sorted_rows(&self.warehouse(), query)
    }

    /// The only value of a query, as text.
    ///
    /// # Panics
    /// When it has more or fewer rows.
    #[must_use]
    #[track_caller]
    pub fn value(&self, query: &str) -> String {
        let rows = self.rows(query);
        assert_eq!(rows.len(), 1, "{query}: {rows:?}");
        rows.into_iter().next().unwrap_or_default()
    }

    /// What all tables hold, Errand's own included: name, number of rows, a sum over all values.
    #[must_use]
    pub fn content(&self) -> Vec<String> {
        let warehouse = self.warehouse();
        let tables = text_rows(&warehouse, "SELECT format('\"{}\".\"{}\"', schema_name, table_name) FROM duckdb_tables()");
        let sum = |table: &String| format!("SELECT '{table}', count(*), coalesce(sum(hash(t)), 0) FROM {table} AS t");
        let mut content: Vec<String> = tables.iter().flat_map(|table| text_rows(&warehouse, &sum(table))).collect();
        content.sort();
        content
    }

    /// Names of the tables, Errand's own excluded.
    #[must_use]
    pub fn tables(&self) -> Vec<String> {
        self.rows("SELECT table_name FROM duckdb_tables() WHERE schema_name <> '_errand'")
    }
}

fn read_only(file: &Path) -> Connection {
    let config = Config::default().access_mode(AccessMode::ReadOnly).expect("DuckDB can read only");
    Connection::open_with_flags(file, config).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// The rows of a query as text, sorted; see [`Project::rows`].
///
/// # Panics
/// When the query is refused.
#[must_use]
#[track_caller]
pub fn sorted_rows(connection: &Connection, query: &str) -> Vec<String> {
    let mut rows = text_rows(connection, query);
    rows.sort();
    rows
}

/// The rows of a query as text, in the query's order; see [`Project::rows`].
///
/// # Panics
/// When the query is refused.
#[must_use]
#[track_caller]
pub fn text_rows(connection: &Connection, query: &str) -> Vec<String> {
    let text = format!("SELECT CAST(COLUMNS(*) AS VARCHAR) FROM ({query}\n)");
    let mut statement = connection.prepare(&text).unwrap_or_else(|error| panic!("{query}: {error}"));
    let mut rows = statement.query([]).unwrap_or_else(|error| panic!("{query}: {error}"));
    let mut out = Vec::new();
    while let Some(row) = rows.next().unwrap_or_else(|error| panic!("{query}: {error}")) {
        let width = row.as_ref().column_count();
        let value = |column| row.get::<_, Option<String>>(column).expect("a text or NULL").unwrap_or_else(|| "NULL".to_owned());
        out.push((0..width).map(value).collect::<Vec<_>>().join("|"));
    }
    out
}

/// How a run ended.
pub struct Run {
    /// Exit code and what was said.
    pub outcome: Outcome,
    report: Option<Value>,
}

impl Run {
    /// The same, when it ended with `code`.
    ///
    /// # Panics
    /// When it ended otherwise.
    #[must_use]
    #[track_caller]
    pub fn expect_code(self, code: i32) -> Self {
        Self { outcome: self.outcome.expect_code(code), report: self.report }
    }

    /// The same, when it succeeded.
    ///
    /// # Panics
    /// When it did not.
    #[track_caller]
    pub fn ok(self) -> Self {
        self.expect_code(0)
    }

    /// The same, when it failed with the exit code `code` because of `failure`, the stable word of the report.
    ///
    /// # Panics
    /// When it ended otherwise.
    #[track_caller]
    pub fn fails(self, code: i32, failure: &str) -> Self {
        let run = self.expect_code(code);
        assert_eq!(run.failure()["code"], failure, "{:#}", run.failure());
        run
    }

    /// The report.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    #[track_caller]
    pub fn report(&self) -> &Value {
        self.report.as_ref().unwrap_or_else(|| panic!("no report\n{}\n{}", self.outcome.stdout, self.outcome.stderr))
    }

    /// Whether it left a report.
    #[must_use]
    pub const fn has_report(&self) -> bool {
        self.report.is_some()
    }

    /// The failure of the run in the report, with `kind`, `code`, `message`, `place`, `help`.
    #[must_use]
    #[track_caller]
    pub fn failure(&self) -> &Value {
        &self.report()["failure"]
    }

    /// The message of the failure.
    #[must_use]
    #[track_caller]
    pub fn message(&self) -> &str {
        self.failure()["message"].as_str().unwrap_or_default()
    }

    /// `file:line:column` of the failure.
    #[must_use]
    #[track_caller]
    pub fn place(&self) -> String {
        let place = &self.failure()["place"];
        format!("{}:{}:{}", place["file"].as_str().unwrap_or_default(), place["line"], place["column"])
    }

    /// A step of the report.
    ///
    /// # Panics
    /// When there is no such step.
    #[must_use]
    #[track_caller]
    pub fn step(&self, id: &str) -> &Value {
        let steps = self.report()["steps"].as_array().into_iter().flatten();
        steps.into_iter().find(|step| step["id"] == id).unwrap_or_else(|| panic!("no step `{id}` in {:#}", self.report()))
    }

    /// The outcome of a step: `succeeded`, `already_done`, `warned`, `skipped`, `failed`, `cancelled`.
    #[must_use]
    #[track_caller]
    pub fn how(&self, step: &str) -> &str {
        self.step(step)["outcome"].as_str().unwrap_or_default()
    }

    /// Rows of a step: read, written, deduplicated, rejected.
    #[must_use]
    #[track_caller]
    pub fn counts(&self, step: &str) -> [u64; 4] {
        ["read", "written", "deduplicated", "rejected"].map(|word| self.step(step)["rows"][word].as_u64().unwrap_or_default())
    }

    /// The last attempt of a step.
    #[must_use]
    #[track_caller]
    pub fn attempt(&self, step: &str) -> &Value {
        self.step(step)["attempts"].as_array().and_then(|attempts| attempts.last()).unwrap_or(&Value::Null)
    }

    /// All it said and wrote: standard output, standard error, report.
    #[must_use]
    pub fn everything(&self) -> String {
        format!("{}\n{}\n{}", self.outcome.stdout, self.outcome.stderr, self.report.as_ref().map(ToString::to_string).unwrap_or_default())
    }
}
