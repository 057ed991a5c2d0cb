//! `errand.yaml`.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{path, stray, words};
use crate::decode::{Context, Decode, Entries, Spanned};
use crate::document::job::RetryDocument;
use crate::document::project::{EnvironmentDocument, LocationDocument, ProjectDocument};
use crate::job::{Environment, Project, Retry};
use crate::problem::{Problem, Severity, nearest};
use crate::value::Label;
use crate::yaml::{self, Span};

/// Longest time for a run when neither the job nor the project says.
const TIMEOUT: Duration = Duration::from_secs(3600);
/// Most attempts of a step.
const MAX_ATTEMPTS: u32 = 10;

/// Reads `errand.yaml`. `None` when it has an error.
pub fn project(text: &str, file: &str, problems: &mut Vec<Problem>) -> Option<Project> {
    let before = problems.len();
    let root = match yaml::parse(text, file) {
        Ok(root) => root,
        Err(problem) => {
            problems.push(problem);
            return None;
        }
    };
    stray::check(&root, file, false, problems);
    let document = ProjectDocument::decode(&root, &mut Context::new(file, problems));
    stray::once(problems);
    let document = document?;
    let project = Reader { file, problems }.project(&document);
    if problems[before..].iter().any(|problem| problem.severity == Severity::Error) { None } else { project }
}

/// The kinds of an environment's connections, by name.
pub(super) type Kinds<'d> = BTreeMap<&'d str, &'static str>;

pub(super) struct Reader<'a> {
    file: &'a str,
    problems: &'a mut Vec<Problem>,
}

impl Reader<'_> {
    pub(super) fn error(&mut self, code: &'static str, message: impl Into<String>, help: impl Into<String>, span: &Span) {
        self.problems.push(Problem::error(code, message).at(self.file, span.clone()).help(help));
    }

    fn project(&mut self, document: &ProjectDocument) -> Option<Project> {
        version(document.version.as_ref(), self.file, self.problems);
        let environments = document.environments.as_ref().map(|environments| self.environments(environments));
        let contacts = document.contacts.as_ref().map(|contacts| self.contacts(contacts)).unwrap_or_default();
        let defaults = document.defaults.as_ref();
        let retry = defaults.and_then(|defaults| defaults.retry.as_ref());
        let retry = retry_over(&Retry::default(), retry, self.file, self.problems);
        let timeout = defaults.and_then(|defaults| defaults.timeout.as_ref()).map_or(TIMEOUT, |timeout| timeout.0);
        let (environments, default_environment) = (environments?, document.default_environment.as_ref()?);
        if !environments.contains_key(default_environment.as_str()) {
            let known: Vec<&str> = environments.keys().map(String::as_str).collect();
            let help = match nearest(default_environment.as_str(), known.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("environments are {}", words(&known)),
            };
            self.error(
                "project::unknown_environment",
                format!("there is no environment `{}`", default_environment.value),
                help,
                &default_environment.span,
            );
        }
        Some(Project { default_environment: default_environment.value.clone(), environments, contacts, timeout, retry })
    }

    fn environments(&mut self, documents: &Entries<EnvironmentDocument>) -> BTreeMap<String, Environment> {
        let mut out = BTreeMap::new();
        for (key, document) in &documents.0 {
            self.name(&key.text, &key.span);
            let written = || document.connections.iter().flat_map(|connections| &connections.0);
            let kinds: Kinds<'_> = written().filter_map(|(name, connection)| Some((name.text.as_str(), connection.word()?))).collect();
            let mut connections = BTreeMap::new();
            for (name, connection) in written() {
                self.name(&name.text, &name.span);
                if let Some(connection) = self.connection(connection, &kinds) {
                    connections.insert(name.text.clone(), connection);
                }
            }
            let reports = document.reports.as_ref().and_then(|reports| self.reports(reports, &kinds));
            let aws = document.aws.as_ref().and_then(|aws| self.aws(&key.text, aws, document.reports.as_ref(), &connections));
            out.insert(key.text.clone(), Environment { connections, reports, aws });
        }
        out
    }

    /// Names of environments, connections and contacts are what jobs write as labels.
    pub(super) fn name(&mut self, name: &str, span: &Span) {
        if let Err(expected) = Label::parse(name) {
            self.error("definition::bad_name", format!("`{name}` is not {expected}"), "choose another name", span);
        }
    }

    fn reports(&mut self, document: &Spanned<LocationDocument>, kinds: &Kinds<'_>) -> Option<(Label, String)> {
        let connection = document.connection.as_ref()?;
        self.kind_of(connection, kinds, &["directory", "s3"], "that holds files");
        let written = document.path.as_ref();
        if let Some(path) = written
            && let Err((message, help)) = path::relative(path)
        {
            self.error("definition::bad_path", message, help, &path.span);
        }
        Some((connection.value.clone(), written.map(|path| path.value.clone()).unwrap_or_default()))
    }

    /// Reports a connection that the environment lacks, or that is none of these kinds.
    pub(super) fn kind_of(&mut self, connection: &Spanned<Label>, kinds: &Kinds<'_>, wanted: &[&str], what: &str) {
        let known: Vec<&str> = kinds.iter().filter(|(_, kind)| wanted.contains(kind)).map(|(name, _)| *name).collect();
        if known.contains(&connection.as_str()) {
            return;
        }
        let message = match kinds.get(connection.as_str()) {
            Some(kind) => format!("connection `{}` is a `{kind}`, not one {what}", connection.value),
            None => format!("this environment has no connection `{}` {what}", connection.value),
        };
        let help = match nearest(connection.as_str(), known.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None if known.is_empty() => format!("declare a connection of kind `{}`", wanted.join("` or `")),
            None => format!("those that do: {}", words(&known)),
        };
        self.error("definition::unknown_connection", message, help, &connection.span);
    }
}

/// Only version 1 exists.
pub(super) fn version(version: Option<&Spanned<u32>>, file: &str, problems: &mut Vec<Problem>) {
    if let Some(version) = version.filter(|version| version.value != 1) {
        let problem = Problem::error("definition::unknown_version", format!("version {} is not known", version.value));
        problems.push(problem.at(file, version.span.clone()).help("write `version: 1`, or use a newer `errand`"));
    }
}

/// The keys that are written, over those of the level above.
pub(super) fn retry_over(above: &Retry, document: Option<&Spanned<RetryDocument>>, file: &str, problems: &mut Vec<Problem>) -> Retry {
    let Some(document) = document else { return above.clone() };
    let mut problem =
        |code, message: String, help: &str, span: &Span| problems.push(Problem::error(code, message).at(file, span.clone()).help(help));
    if let Some(attempts) = document.max_attempts.as_ref().filter(|attempts| !(1..=MAX_ATTEMPTS).contains(&attempts.value)) {
        let message = format!("`max_attempts` is {}; it counts from 1, the first attempt, to {MAX_ATTEMPTS}", attempts.value);
        problem("definition::bad_value", message, "write 1 for no second attempt", &attempts.span);
    }
    let retry = Retry {
        max_attempts: document.max_attempts.as_ref().map_or(above.max_attempts, |attempts| attempts.value),
        backoff: document.backoff.as_ref().map_or(above.backoff, |backoff| backoff.value),
        interval: document.interval.as_ref().map_or(above.interval, |interval| interval.0),
        max_interval: document.max_interval.as_ref().map_or(above.max_interval, |interval| interval.0),
        on: document.on.as_ref().map_or(above.on, |on| on.value),
    };
    if let Some(interval) = document.max_interval.as_ref().or(document.interval.as_ref()).filter(|_| retry.interval > retry.max_interval) {
        let message =
            format!("the first pause, {}s, is longer than the longest, {}s", retry.interval.as_secs(), retry.max_interval.as_secs());
        problem("definition::bad_value", message, "raise `max_interval` or lower `interval`", &interval.span);
    }
    retry
}
