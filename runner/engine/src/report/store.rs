//! Where run reports are kept: written whole or not at all, listed newest first.
//!
//! Must not fail a list for one file that cannot be read, and never reads more files than the list asks for.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use errand_model::failure::{Failure, FailureKind};
use errand_model::job::{Connection, Environment, Project};
use errand_model::problem::nearest;
use errand_model::report::RunReport;
use jiff::Timestamp;
use serde::Deserialize;

use crate::clock::RunId;
use crate::secret::Redactor;
use crate::store::{self, FileEntry, Store};

/// The directory beside the file of an embedded warehouse.
const BESIDE_WAREHOUSE: &str = "runs";

/// The connection that a definition means when it names none.
const DEFAULT_WAREHOUSE: &str = "warehouse";

/// A larger file is no report.
const MAX_BYTES: u64 = 64 << 20;

/// Where the reports of one environment are kept: a file `<run id>.json` for each run; later attempts of the same run are
/// `<run id>.<attempt>.json`. Its functions block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportStore(Store);

/// What a list found.
#[derive(Debug, Default)]
pub struct Listing {
    /// Newest first.
    pub reports: Vec<RunReport>,
    /// Files that look like reports and could not be read, with the reason.
    pub unreadable: Vec<(PathBuf, String)>,
    /// Whether there are older reports than those listed.
    pub more: bool,
}

/// One file, not yet read.
struct Entry {
    file: FileEntry,
    stem: String,
    newest: Timestamp,
}

impl ReportStore {
    /// Code of the failure of an environment that keeps no reports.
    pub const NONE: &str = "report::no_store";

    /// The store of an environment: its `reports`, else the directory `runs` beside the file of its embedded warehouse.
    /// `state_dir` is where relative paths of connections start.
    ///
    /// Fails as `Definition` with `run::unknown_environment` or `report::no_store`.
    pub fn of(project: &Project, environment: &str, state_dir: &Path) -> Result<Self, Failure> {
        // Paths are told to people: `.errand/runs`, not `./.errand/runs`.
        let state_dir = state_dir.strip_prefix(".").unwrap_or(state_dir);
        let found = project.environments.get(environment).ok_or_else(|| no_such_environment(project, environment))?;
        let store = match &found.reports {
            Some((connection, path)) => match found.connections.get(connection.as_str()) {
                Some(connection) if !connection.is_warehouse() => Some(Store::open(connection, state_dir)?.under(path)),
                Some(_) | None => None,
            },
            None => warehouse_file(found).map(|file| Store::directory(beside(&state_dir.join(file)))),
        };
        store.map(Self).ok_or_else(|| {
            Failure::new(FailureKind::Definition, Self::NONE, format!("environment `{environment}` has no place for run reports"))
                .help("add `reports: { connection: <one of directory or s3>, path: runs }` to the environment in `errand.yaml`")
        })
    }

    /// The directory or URL that reports lie under, for people.
    #[must_use]
    pub fn place(&self) -> String {
        self.0.url("")
    }

    /// Keeps a report, without secrets. Readers see all of it or nothing, also after a loss of power. Returns its file or URL, for people.
    ///
    /// Fails as `Permanent` with `report::cannot_write`.
    pub fn write(&self, report: &RunReport, redactor: &Redactor) -> Result<PathBuf, Failure> {
        let name = match report.attempt {
            0 | 1 => format!("{}.json", report.run_id),
            attempt => format!("{}.{attempt}.json", report.run_id),
        };
        let url = PathBuf::from(self.0.url(&name));
        let (store, text) = (self.0.clone(), json(report, redactor));
        store::wait(async move { store.put(&name, Bytes::from(text)).await }).map_err(|failure| {
            let message = format!("cannot write the run report `{}`: {failure}", url.display());
            let help = failure.help.unwrap_or_else(|| "check that the place may be written and is not full".to_owned());
            Failure::new(FailureKind::Permanent, "report::cannot_write", message).help(help)
        })?;
        Ok(url)
    }

    /// The newest reports that are `wanted`, at most `limit`. A directory that is not there holds none.
    ///
    /// Fails as `Permanent` with `report::cannot_read` when the directory cannot be read.
    pub fn list(&self, limit: usize, wanted: impl Fn(&RunReport) -> bool) -> Result<Listing, Failure> {
        let mut listing = Listing::default();
        for entry in self.entries()? {
            match read(&entry.file) {
                Ok(report) if !wanted(&report) => {}
                Ok(_) if listing.reports.len() == limit => {
                    listing.more = true;
                    break;
                }
                Ok(report) => listing.reports.push(report),
                Err(why) => listing.unreadable.push((PathBuf::from(entry.file.url()), why)),
            }
        }
        Ok(listing)
    }

    /// The report of a run by its id, the beginning of it that no other id has, or `last`. Of several attempts, the last.
    ///
    /// Fails as `Definition` with `report::no_such_run` or `report::ambiguous_run`, as `Permanent` with `report::cannot_read`.
    pub fn find(&self, wanted: &str) -> Result<RunReport, Failure> {
        let entries = self.entries()?;
        let exact = entries.iter().find(|entry| entry.stem == wanted && !is_first_of_several(&entries, wanted));
        let entry = match exact {
            Some(entry) => entry,
            None if wanted == "last" => entries.first().ok_or_else(|| self.no_such_run(wanted))?,
            None => self.by_prefix(&entries, wanted)?,
        };
        read(&entry.file).map_err(|why| cannot_read(&entry.file.url(), &why))
    }

    fn by_prefix<'a>(&self, entries: &'a [Entry], wanted: &str) -> Result<&'a Entry, Failure> {
        let mut fitting: Vec<&Entry> = entries.iter().filter(|entry| entry.stem.starts_with(wanted)).collect();
        let of_this_run: Vec<&Entry> = fitting.iter().copied().filter(|entry| run_id(&entry.stem) == wanted).collect();
        if !of_this_run.is_empty() {
            fitting = of_this_run;
        }
        let newest = *fitting.iter().max_by_key(|entry| attempt(&entry.stem)).ok_or_else(|| self.no_such_run(wanted))?;
        match fitting.iter().find(|entry| run_id(&entry.stem) != run_id(&newest.stem)) {
            None => Ok(newest),
            Some(other) => {
                let message =
                    format!("`{wanted}` is the beginning of {} run ids, such as `{}` and `{}`", fitting.len(), newest.stem, other.stem);
                Err(Failure::new(FailureKind::Definition, "report::ambiguous_run", message).help("write more of the id"))
            }
        }
    }

    fn no_such_run(&self, wanted: &str) -> Failure {
        let message = match wanted {
            "last" => format!("there is no run report in `{}`", self.place()),
            _ => format!("no run report `{wanted}` in `{}`", self.place()),
        };
        Failure::new(FailureKind::Definition, "report::no_such_run", message)
            .help("`errand runs` lists those there are; `--env` chooses the environment")
    }

    /// All files that look like reports, newest first; none of them is read.
    fn entries(&self) -> Result<Vec<Entry>, Failure> {
        let store = self.0.clone();
        let files = match store::wait(async move { store.list("*.json").await }) {
            Ok(files) => files,
            Err(failure) if failure.code == "source::no_directory" => return Ok(Vec::new()),
            Err(failure) => return Err(cannot_read(&self.place(), &failure.to_string()).help(failure.help.unwrap_or_default())),
        };
        let mut entries = Vec::new();
        for file in files {
            let stem = file.path.trim_end_matches(".json").to_owned();
            if !stem.is_empty() && !stem.starts_with('.') {
                let newest = RunId::made_at(run_id(&stem)).or(file.modified).unwrap_or(Timestamp::MIN);
                entries.push(Entry { file, stem, newest });
            }
        }
        entries.sort_by(|a, b| (b.newest, run_id(&b.stem), attempt(&b.stem)).cmp(&(a.newest, run_id(&a.stem), attempt(&a.stem))));
        Ok(entries)
    }
}

/// The report as its file holds it.
#[must_use]
pub fn json(report: &RunReport, redactor: &Redactor) -> String {
    let mut value = serde_json::to_value(report).expect("a report is plain data");
    clean(&mut value, redactor);
    format!("{value:#}\n")
}

/// Fields that hold words of the format, times and ids. A secret such as `2026` or `failed` must not make the report unreadable.
const STRUCTURE: [&str; 17] = [
    "version",
    "run_id",
    "job",
    "environment",
    "errand_version",
    "commit",
    "start",
    "end",
    "timezone",
    "scheduled_at",
    "started_at",
    "finished_at",
    "outcome",
    "id",
    "kind",
    "code",
    "severity",
];

/// Removes secrets from every text that an author, a file or a program may have brought in.
fn clean(value: &mut serde_json::Value, redactor: &Redactor) {
    match value {
        serde_json::Value::Object(fields) => {
            for (key, field) in fields.iter_mut() {
                match key.as_str() {
                    "inputs" | "outputs" => redactor.redact_json(field),
                    key if STRUCTURE.contains(&key) && !field.is_object() => {}
                    _ => clean(field, redactor),
                }
            }
        }
        serde_json::Value::Array(items) => items.iter_mut().for_each(|item| clean(item, redactor)),
        text => redactor.redact_json(text),
    }
}

fn no_such_environment(project: &Project, environment: &str) -> Failure {
    let known: Vec<&str> = project.environments.keys().map(String::as_str).collect();
    let help = match nearest(environment, known.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("`errand.yaml` has {}", known.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")),
    };
    Failure::new(FailureKind::Definition, "run::unknown_environment", format!("no environment `{environment}`")).help(help)
}

/// The connection called `warehouse`, else the first one that is an embedded warehouse.
fn warehouse_file(environment: &Environment) -> Option<&str> {
    let named = environment.connections.get(DEFAULT_WAREHOUSE).into_iter();
    named.chain(environment.connections.values()).find_map(|connection| match connection {
        Connection::Duckdb { path } => Some(path.as_str()),
        Connection::Directory { .. } | Connection::S3(_) | Connection::Postgres(_) | Connection::Redshift(_) | Connection::Snowflake(_) => {
            None
        }
    })
}

fn beside(file: &Path) -> PathBuf {
    file.parent().unwrap_or(Path::new(".")).join(BESIDE_WAREHOUSE)
}

fn read(file: &FileEntry) -> Result<RunReport, String> {
    /// The one field that every version has.
    #[derive(Deserialize)]
    struct Versioned {
        version: u32,
    }
    if file.bytes > MAX_BYTES {
        return Err(format!("larger than {} MB", MAX_BYTES >> 20));
    }
    let content = file.read_at(0, file.bytes).map_err(|failure| failure.to_string())?;
    let text = std::str::from_utf8(&content).map_err(|error| error.to_string())?;
    match serde_json::from_str::<Versioned>(text) {
        Ok(Versioned { version }) if version > RunReport::VERSION => {
            Err(format!("report of version {version}, this errand reads up to {}", RunReport::VERSION))
        }
        Ok(_) => serde_json::from_str(text).map_err(|error| format!("no run report: {error}")),
        Err(error) => Err(format!("no run report: {error}")),
    }
}

fn cannot_read(place: &str, why: &str) -> Failure {
    Failure::new(FailureKind::Permanent, "report::cannot_read", format!("cannot read `{place}`: {why}"))
}

/// An id holds no dot: what follows one is the attempt.
fn run_id(stem: &str) -> &str {
    stem.split('.').next().unwrap_or(stem)
}

fn attempt(stem: &str) -> u32 {
    stem.split_once('.').and_then(|(_, attempt)| attempt.parse().ok()).unwrap_or(1)
}

fn is_first_of_several(entries: &[Entry], stem: &str) -> bool {
    entries.iter().any(|entry| entry.stem != stem && run_id(&entry.stem) == stem)
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
