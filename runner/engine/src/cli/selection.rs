//! Which run is meant: from arguments, settings and a job repository to a request that can be run or planned.
//!
//! Blocking: it may fetch the repository.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use errand_model::failure::{Failure, FailureKind, Place};
use errand_model::interval::Interval;
use errand_model::job::Job;
use errand_model::problem::{Severity, line_and_column};
use errand_model::report::{CheckoutReport, IntervalReport, Outcome, RunReport};
use errand_model::validate;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::Surroundings;
use crate::checkout::{self, Checkout, Credentials, Limits, Location, RemoteUrl, Scheme, Source};
use crate::clock::RunId;
use crate::pulse::Pulse;
use crate::report::store::ReportStore;
use crate::repository::{JobError, Repository, Validation};
use crate::run::{self, Request};
use crate::secret::{Secret, SecretName, Secrets};
use crate::settings::Settings;

/// The zone of jobs without a schedule.
const DEFAULT_ZONE: &str = "UTC";

/// Which job, from where, for what span of time.
#[derive(clap::Args, Clone, Debug)]
pub struct Selection {
    /// Name of the job.
    pub job: String,
    /// Job repository: a directory, or a URL (https, ssh, file).
    #[arg(long, value_name = "DIR|URL", default_value = ".")]
    pub repo: String,
    /// Branch, tag or commit. A directory without it is used as it lies, uncommitted changes included.
    #[arg(long = "ref", value_name = "REF")]
    pub reference: Option<String>,
    /// Environment of `errand.yaml`; its default without it.
    #[arg(long = "env", value_name = "NAME")]
    pub environment: Option<String>,
    /// `2026-11-19`, `2026-11` or `<start>/<end>`. Without it: the last complete one of the schedule, or this moment.
    #[arg(long, value_name = "SPAN")]
    pub interval: Option<String>,
    /// Value of an input of the job; may be repeated.
    #[arg(long = "input", value_name = "NAME=VALUE", value_parser = name_and_value)]
    pub inputs: Vec<(String, String)>,
    /// Only this step and what it needs; may be repeated.
    #[arg(long = "step", value_name = "ID")]
    pub steps: Vec<String>,
    /// Attempt of the whole run, from 1.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub attempt: Option<u32>,
    /// Id of the run; a new one without it.
    #[arg(long, value_name = "ID")]
    pub run_id: Option<String>,
}

pub(super) fn name_and_value(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("expected `name=value`")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// What is known of a run before its job is: enough for a report of whatever goes wrong.
#[derive(Clone, Debug)]
pub struct Outline {
    /// Id of the run.
    pub run_id: String,
    pub(super) attempt: u32,
    pub(super) scheduled_at: Option<Timestamp>,
    pub(super) execution: Option<String>,
    pub(super) started_at: Timestamp,
    pub(super) job: String,
    pub(super) environment: String,
    checkout: Option<CheckoutReport>,
    pub(super) interval: Option<IntervalReport>,
    inputs: BTreeMap<String, serde_json::Value>,
    chosen: Vec<String>,
    /// Where its report goes, once that is known.
    pub store: Option<ReportStore>,
}

/// Why there is nothing to run.
#[derive(Debug)]
pub enum Refusal {
    /// One thing is wrong.
    Failure(Failure),
    /// The definitions are wrong.
    Invalid(Box<Validation>),
}

/// A run that can start.
pub struct Prepared {
    /// What to run.
    pub request: Request,
    /// Holds the checkout of a remote repository; it vanishes with this value.
    pub scratch: Option<tempfile::TempDir>,
}

impl Outline {
    /// What the arguments say, with settings and new values for what they leave out.
    ///
    /// Fails as `Definition` with `run::bad_id`.
    pub fn new(selection: &Selection, surroundings: &Surroundings) -> Result<Self, Failure> {
        let settings = &surroundings.settings;
        let started_at = surroundings.clock.now();
        let run_id = match selection.run_id.as_ref().or(settings.run_id.as_ref()) {
            Some(given) => RunId::parse(given)?,
            None => RunId::new(started_at),
        };
        Ok(Self {
            attempt: selection.attempt.or(settings.attempt).unwrap_or(1),
            scheduled_at: settings.scheduled_at,
            job: selection.job.clone(),
            environment: selection.environment.clone().or_else(|| settings.environment.clone()).unwrap_or_default(),
            ..Self::begin(&run_id, started_at)
        })
    }

    /// A run of which nothing but its id is known.
    pub(super) fn begin(run_id: &RunId, started_at: Timestamp) -> Self {
        Self {
            run_id: run_id.to_string(),
            attempt: 1,
            scheduled_at: None,
            execution: None,
            started_at,
            job: String::new(),
            environment: String::new(),
            checkout: None,
            interval: None,
            inputs: BTreeMap::new(),
            chosen: Vec::new(),
            store: None,
        }
    }

    /// The report of a run that left its work undone, and why.
    pub(super) fn skipped(&self, why: &str, now: Timestamp) -> RunReport {
        let report = self.failed(Failure::new(FailureKind::Cancelled, "run::skipped", why), now);
        RunReport { outcome: Outcome::Skipped, failure: None, warnings: vec![why.to_owned()], ..report }
    }

    /// The report of a run that ended before its first step could, or by a defect.
    #[must_use]
    pub fn failed(&self, failure: Failure, now: Timestamp) -> RunReport {
        let outcome = if failure.kind == FailureKind::Cancelled { Outcome::Cancelled } else { Outcome::Failed };
        RunReport {
            version: RunReport::VERSION,
            run_id: self.run_id.clone(),
            job: self.job.clone(),
            environment: self.environment.clone(),
            errand_version: env!("CARGO_PKG_VERSION").to_owned(),
            checkout: self.checkout.clone(),
            interval: self.interval.clone(),
            scheduled_at: self.scheduled_at,
            execution: self.execution.clone(),
            inputs: self.inputs.clone(),
            chosen: self.chosen.clone(),
            only: Vec::new(),
            attempt: self.attempt,
            started_at: self.started_at,
            finished_at: now,
            duration_ms: u64::try_from(now.duration_since(self.started_at).as_millis()).unwrap_or(0),
            outcome,
            failure: Some(failure),
            warnings: Vec::new(),
            steps: Vec::new(),
            peak_memory_bytes: run::peak_bytes(),
        }
    }

    /// Brings the repository here, reads the job and decides the span of time. What it learns on its way stays in `self`.
    ///
    /// Fails with what stops the run: of kind `Definition`, or of those of [`checkout::fetch`].
    pub fn prepare(
        &mut self,
        selection: &Selection,
        surroundings: &Surroundings,
        cancelled: &CancellationToken,
    ) -> Result<Prepared, Refusal> {
        let (checkout, scratch, state_dir) = bring(selection, &surroundings.settings, cancelled)?;
        self.checkout = Some(checkout.report.clone());
        let (project, job) = match Repository::open(&checkout.root)?.job(&selection.job) {
            Ok((project, job, problems)) => {
                for problem in problems {
                    tracing::warn!(file = problem.file, code = problem.code, "{}", problem.message);
                }
                (project, job)
            }
            Err(JobError::Failure(failure)) => return Err(Refusal::Failure(failure)),
            Err(JobError::Invalid(validation)) => {
                self.store = validation.project.as_ref().and_then(|project| self.place(project, &state_dir).ok());
                return Err(Refusal::Invalid(validation));
            }
        };
        match self.place(&project, &state_dir) {
            Ok(store) => self.store = Some(store),
            Err(failure) if failure.code == ReportStore::NONE => tracing::warn!(help = failure.help, "{}", failure.message),
            Err(failure) => return Err(Refusal::Failure(failure)),
        }
        let interval = interval(selection.interval.as_deref(), &job, self.scheduled_at.unwrap_or(self.started_at))?;
        self.interval = Some(interval.report());
        self.inputs = validate::inputs(&job, &selection.inputs)?;
        self.chosen = job.chosen(&self.inputs);
        let request = Request {
            root: checkout.root,
            project,
            job,
            environment: self.environment.clone(),
            checkout: checkout.report,
            interval,
            scheduled_at: self.scheduled_at,
            execution: self.execution.clone(),
            inputs: self.inputs.clone(),
            only: selection.steps.clone(),
            run_id: self.run_id.clone(),
            attempt: self.attempt,
            clock: surroundings.clock.clone(),
            secrets: surroundings.settings.secrets.clone(),
            progress: surroundings.progress.clone(),
            pulse: Pulse::default(),
            cancelled: cancelled.clone(),
            started_at: self.started_at,
            state_dir,
            search_path: surroundings.settings.search_path.clone(),
        };
        Ok(Prepared { request, scratch })
    }

    /// Where reports go; settles the environment.
    fn place(&mut self, project: &errand_model::job::Project, state_dir: &Path) -> Result<ReportStore, Failure> {
        if self.environment.is_empty() {
            self.environment = project.default_environment.to_string();
        }
        ReportStore::of(project, &self.environment, state_dir)
    }
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

impl Refusal {
    /// The refusal as one failure; of several problems, the first error.
    #[must_use]
    pub fn into_failure(self) -> Failure {
        match self {
            Self::Failure(failure) => failure,
            Self::Invalid(validation) => first_error(&validation),
        }
    }
}

fn first_error(validation: &Validation) -> Failure {
    let errors: Vec<_> = validation.problems.iter().filter(|problem| problem.severity == Severity::Error).collect();
    let Some(first) = errors.first() else {
        return Failure::new(FailureKind::Definition, "definition::invalid", "the definition has errors").help("run `errand validate`");
    };
    let message = match errors.len() {
        1 => first.message.clone(),
        count => format!("{} (the first of {count} errors)", first.message),
    };
    let failure = Failure::new(FailureKind::Definition, first.code, message)
        .help(first.help.clone().unwrap_or_else(|| "run `errand validate`".to_owned()));
    let (line, column) = match (&first.span, validation.texts.get(&first.file)) {
        (Some(span), Some(text)) => line_and_column(text, span.start),
        (None, _) | (_, None) => (1, 0),
    };
    failure.at(Place { file: first.file.clone(), line: line as u64, column: column as u64 })
}

/// The checkout, what keeps it alive, and where relative paths of connections start: in the directory that was named, where it holds a
/// project; for every other repository in the current directory, since a scratch checkout vanishes.
pub(super) fn bring(
    selection: &Selection,
    settings: &Settings,
    cancelled: &CancellationToken,
) -> Result<(Checkout, Option<tempfile::TempDir>, PathBuf), Failure> {
    let source = Source::parse(&selection.repo, selection.reference.as_deref())?;
    let state_dir = match &source.location {
        Location::Directory(directory) if directory.join("errand.yaml").is_file() => directory.clone(),
        Location::Directory(_) | Location::Repository(_) | Location::Remote(_) => PathBuf::from("."),
    };
    let in_place = matches!(source.location, Location::Directory(_)) && source.reference.is_none();
    let scratch = match tempfile::Builder::new().prefix("errand-").tempdir() {
        Ok(scratch) => Some(scratch),
        // A machine without a place for scratch files can still run what is already on its disk.
        Err(_) if in_place => None,
        Err(error) => {
            let message = format!("cannot make a scratch directory: {error}");
            return Err(
                Failure::new(FailureKind::Permanent, "checkout::scratch", message).help("name a directory that may be written in `TMPDIR`")
            );
        }
    };
    let files = scratch.as_ref().map_or_else(|| tempfile::env::temp_dir().join("errand"), |scratch| scratch.path().to_owned());
    let credentials = match &source.location {
        Location::Remote(url) => credentials(settings, url)?,
        Location::Directory(_) | Location::Repository(_) => Credentials::default(),
    };
    let checkout = checkout::fetch(&source, &files, Limits::default(), &credentials, cancelled)?;
    let scratch = scratch.filter(|scratch| checkout.root.starts_with(scratch.path()));
    Ok((checkout, scratch, state_dir))
}

/// The known hosts, and of the secrets `git_token`, `git_username` and `git_ssh_key` those that the address takes, as far as they are set.
fn credentials(settings: &Settings, url: &RemoteUrl) -> Result<Credentials, Failure> {
    let secrets = &settings.secrets;
    let known_hosts = match &settings.known_hosts {
        Some(file) => read_if_there(file)?,
        None => None,
    };
    let (token, ssh_key) = match url.scheme() {
        Scheme::Http | Scheme::Https => (optional(secrets, "git_token")?, None),
        Scheme::Ssh => (None, optional(secrets, "git_ssh_key")?),
    };
    let is_asked = token.is_some() || (ssh_key.is_some() && url.user().is_none());
    let username = if is_asked { optional(secrets, "git_username")? } else { None };
    let username = username.map(|name| name.expose().to_owned());
    Ok(Credentials { token, username, ssh_key, known_hosts, ca_file: settings.ca_file.clone() })
}

fn optional(secrets: &Secrets, name: &str) -> Result<Option<Secret>, Failure> {
    match secrets.resolve(&SecretName::parse(name)?) {
        Ok(secret) => Ok(Some(secret)),
        Err(failure) if failure.code == "secret::missing" => Ok(None),
        Err(failure) => Err(failure),
    }
}

fn read_if_there(file: &Path) -> Result<Option<String>, Failure> {
    match std::fs::read_to_string(file) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => {
            let message = format!("cannot read the known hosts `{}`: {error}", file.display());
            Err(Failure::new(FailureKind::Definition, "checkout::bad_known_hosts", message).help("correct `ERRAND_KNOWN_HOSTS`"))
        }
    }
}

/// The span of time of a run: as given, else the last complete one of the schedule at the time that the run was due, else that moment.
fn interval(given: Option<&str>, job: &Job, now: Timestamp) -> Result<Interval, Failure> {
    let zone = job.schedule.as_ref().map_or(DEFAULT_ZONE, |schedule| schedule.timezone());
    if let Some(text) = given {
        if let Some(scheduled) = scheduled_on(text, job) {
            return Ok(scheduled);
        }
        return Interval::parse(text, zone).map_err(|why| {
            let failure = Failure::new(FailureKind::Definition, "run::bad_interval", why);
            match job.schedule.as_ref().and_then(|schedule| schedule.interval_at(text)) {
                Some(there) => failure.help(format!("the schedule has `{}/{}` there", there.local(there.start), there.local(there.end))),
                None => failure,
            }
        });
    }
    Ok(job.schedule.as_ref().and_then(|schedule| schedule.last_complete(now)).unwrap_or_else(|| Interval::instant(now, zone)))
}

/// `2026-11-19` of a job that runs once a day is the interval that its schedule begins on that day, not the calendar's: both would be
/// loaded side by side.
fn scheduled_on(text: &str, job: &Job) -> Option<Interval> {
    let schedule = job.schedule.as_ref().filter(|_| text.len() == "2026-11-19".len())?;
    let day = Interval::parse(text, schedule.timezone()).ok()?;
    let first = schedule.intervals(day.start, Timestamp::MAX).next()?;
    (first.start < day.end && first.end >= day.end).then_some(first)
}
