//! Where run reports are kept: written whole or not at all, listed newest first.
//!
//! Must not fail a list for one file that cannot be read, and never reads more files than the list asks for.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use errand_model::failure::{Failure, FailureKind};
use errand_model::job::{Connection, Environment, Project, S3};
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

/// Reports that a survey reads at a time: most of the time for one is waiting for a bucket.
const READERS: usize = 8;

/// Where the reports of one environment are kept: a file `<run id>.json` for each run; later attempts of the same run are
/// `<run id>.<attempt>.json`. In a bucket a mark `ended/<day>/<name of the report>` lies beside their folder. Its functions block, where they are not `async`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportStore {
    reports: Store,
    state: Store,
}

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

/// What a look at all recent reports found.
#[derive(Debug)]
pub struct Survey<T> {
    /// What was made of each report, in no order.
    pub found: Vec<T>,
    /// Files that look like reports and could not be read, with the reason.
    pub unreadable: Vec<(PathBuf, String)>,
    /// Bytes of all reports, of older ones too.
    pub bytes: u64,
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
                Some(connection) if !connection.is_warehouse() => Some(Self::under(&Store::open(connection, state_dir)?, path)),
                Some(_) | None => None,
            },
            None => warehouse_file(found).map(|file| Self::under(&Store::directory(folder(&state_dir.join(file))), BESIDE_WAREHOUSE)),
        };
        store.ok_or_else(|| {
            Failure::new(FailureKind::Definition, Self::NONE, format!("environment `{environment}` has no place for run reports"))
                .help("add `reports: { connection: <one of directory or s3>, path: runs }` to the environment in `errand.yaml`")
        })
    }

    /// Reports under a path of a store. What else is known of runs lies beside their folder.
    #[must_use]
    pub fn under(store: &Store, path: &str) -> Self {
        let above = path.trim_matches('/').rsplit_once('/').map_or("", |(above, _)| above);
        Self { reports: store.under(path), state: if above.is_empty() { store.clone() } else { store.under(above) } }
    }

    /// Reports under `runs/` of a bucket, for who knows no project file.
    ///
    /// Fails as `Definition` with what the store says.
    pub fn in_bucket(bucket: &str, prefix: &str) -> Result<Self, Failure> {
        let s3 = S3 { bucket: bucket.to_owned(), prefix: prefix.to_owned(), region: None, endpoint: None };
        Ok(Self::under(&Store::open(&Connection::S3(s3), Path::new("."))?, BESIDE_WAREHOUSE))
    }

    /// Where claims and the deployment lie: the folder that the folder of reports is in.
    #[must_use]
    pub fn state(&self) -> &Store {
        &self.state
    }

    /// The report of one attempt of a run, and its file or URL; none when it is not there.
    ///
    /// Fails as `Permanent` with `report::cannot_read`, and with what the store says.
    pub async fn of_run(&self, run_id: &str, attempt: u32) -> Result<Option<(RunReport, String)>, Failure> {
        self.at(&file_name(run_id, attempt)).await
    }

    /// The report that lies at a URL of this store, with that URL; none when it is not there, or lies elsewhere.
    ///
    /// Fails as `Permanent` with `report::cannot_read`, and with what the store says.
    pub async fn at_url(&self, url: &str) -> Result<Option<(RunReport, String)>, Failure> {
        match url.rsplit('/').next().filter(|name| !name.is_empty() && self.reports.url(name) == url) {
            Some(name) => self.at(name).await,
            None => Ok(None),
        }
    }

    async fn at(&self, name: &str) -> Result<Option<(RunReport, String)>, Failure> {
        let url = self.reports.url(name);
        let Some(content) = self.reports.get_small(name, MAX_BYTES).await? else { return Ok(None) };
        let report = parse(&content).map_err(|why| cannot_read(&url, &why))?;
        Ok(Some((report, url)))
    }

    /// The place on this machine for a report that its own place does not take.
    #[must_use]
    pub fn of_last_resort() -> Self {
        Self::under(&Store::directory(tempfile::env::temp_dir()), "errand-reports")
    }

    /// The directory or URL that reports lie under, for people.
    #[must_use]
    pub fn place(&self) -> String {
        self.reports.url("")
    }

    /// Keeps a report, without secrets. Readers see all of it or nothing, also after a loss of power. Returns its file or URL, for people.
    ///
    /// Fails with `report::cannot_write`: as `Transient` where the place may be there again soon, else as `Permanent`.
    pub fn write(&self, report: &RunReport, redactor: &Redactor) -> Result<PathBuf, Failure> {
        let name = file_name(&report.run_id, report.attempt);
        let url = PathBuf::from(self.reports.url(&name));
        let (reports, state, text) = (self.reports.clone(), self.state.clone(), json(report, redactor));
        let mark = format!("ended/{}/{name}", report.finished_at.strftime("%Y-%m-%d"));
        let kept = async move {
            reports.put(&name, Bytes::from(text)).await?;
            match reports.local(&name) {
                Some(_) => Ok(()),
                // A bucket lists by name alone: who looks for new reports every few minutes looks through the marks of a day.
                None => state.put(&mark, Bytes::new()).await,
            }
        };
        store::wait(kept).map_err(|failure| {
            let message = format!("cannot write the run report `{}`: {failure}", url.display());
            let help = failure.help.unwrap_or_else(|| "check that the place may be written and is not full".to_owned());
            let kind = if failure.kind.is_transient() { FailureKind::Transient } else { FailureKind::Permanent };
            Failure::new(kind, "report::cannot_write", message).help(help)
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

    /// What `pick` makes of each report that was made at `since` or later. Older ones are not read.
    ///
    /// Fails as `Permanent` with `report::cannot_read` when the directory cannot be read.
    pub fn survey<T: Send>(&self, since: Timestamp, pick: impl Fn(&RunReport) -> T + Sync) -> Result<Survey<T>, Failure> {
        let entries = self.entries()?;
        let bytes = entries.iter().map(|entry| entry.file.bytes).sum();
        let recent: Vec<&Entry> = entries.iter().filter(|entry| entry.newest >= since).collect();
        let next = AtomicUsize::new(0);
        let work = || {
            std::iter::from_fn(|| recent.get(next.fetch_add(1, Ordering::Relaxed)))
                .map(|entry| read(&entry.file).map(|report| pick(&report)).map_err(|why| (PathBuf::from(entry.file.url()), why)))
                .collect::<Vec<_>>()
        };
        let results: Vec<_> = std::thread::scope(|scope| {
            let readers: Vec<_> = (0..READERS.min(recent.len())).map(|_| scope.spawn(work)).collect();
            readers.into_iter().flat_map(|reader| reader.join().expect("reading does not panic")).collect()
        });
        let mut survey = Survey { found: Vec::new(), unreadable: Vec::new(), bytes };
        for result in results {
            match result {
                Ok(picked) => survey.found.push(picked),
                Err(unreadable) => survey.unreadable.push(unreadable),
            }
        }
        survey.unreadable.sort();
        Ok(survey)
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
        let store = self.reports.clone();
        let files = match store::wait(async move { store.list("*.json").await }) {
            Ok(files) => files,
            Err(failure) if failure.code == "source::no_directory" => return Ok(Vec::new()),
            Err(failure) => return Err(cannot_read(&self.place(), &failure.to_string()).help(failure.help.unwrap_or_default())),
        };
        let mut entries = Vec::new();
        for file in files {
            let stem = file.path.trim_end_matches(".json").to_owned();
            if !stem.is_empty() && !stem.starts_with('.') {
                let newest = newest(&stem, file.modified);
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
const STRUCTURE: [&str; 18] = [
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
    "execution",
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

fn folder(file: &Path) -> &Path {
    file.parent().unwrap_or(Path::new("."))
}

fn file_name(run_id: &str, attempt: u32) -> String {
    match attempt {
        0 | 1 => format!("{run_id}.json"),
        attempt => format!("{run_id}.{attempt}.json"),
    }
}

/// When a run was made, as its id tells; else when its report was written. The name of an execution may look like an id of ours and tell
/// any time: one that no run can have been made at is not believed.
fn newest(stem: &str, modified: Option<Timestamp>) -> Timestamp {
    const YEARS: std::ops::Range<i64> = 2020..2100;
    let made = RunId::made_at(run_id(stem)).filter(|made| YEARS.contains(&(1970 + made.as_second() / 31_556_952)));
    made.or(modified).unwrap_or(Timestamp::MIN)
}

fn read(file: &FileEntry) -> Result<RunReport, String> {
    if file.bytes > MAX_BYTES {
        return Err(format!("larger than {} MB", MAX_BYTES >> 20));
    }
    parse(&file.read_at(0, file.bytes).map_err(|failure| failure.to_string())?)
}

fn parse(content: &[u8]) -> Result<RunReport, String> {
    /// The one field that every version has.
    #[derive(Deserialize)]
    struct Versioned {
        version: u32,
    }
    let text = std::str::from_utf8(content).map_err(|error| error.to_string())?;
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
