//! Settings: the only place that reads the environment. Everything else takes values as arguments.
//!
//! Each variable is a documented constant of [`variable`]. Arguments of the command line win over all of them.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::Duration;

use errand_model::failure::{Failure, FailureKind};
use errand_model::order::Trigger;
use jiff::Timestamp;

use crate::secret::{self, Secret, Secrets};

/// Every environment variable that Errand reads.
pub mod variable {
    /// What to log, in the words of `tracing_subscriber::EnvFilter`: `debug`, `warn,errand_engine=debug`.
    pub const LOG: &str = "RUST_LOG";
    /// `text` or `json`: how log lines look. By default JSON in a container, text elsewhere.
    pub const LOG_FORMAT: &str = "ERRAND_LOG_FORMAT";
    /// No colour when set to anything but nothing (<https://no-color.org>).
    pub const NO_COLOR: &str = "NO_COLOR";
    /// Width of the output in characters; that of the terminal without it.
    pub const COLUMNS: &str = "COLUMNS";
    /// Prefix of secrets: `ERRAND_SECRET_SHOP_TOKEN` holds the secret `shop_token`.
    pub const SECRET_PREFIX: &str = crate::secret::ENVIRONMENT_PREFIX;
    /// Where AWS Secrets Manager holds secrets: `errand/prod/` stands before their names. In a task `errand/<environment>/` without it;
    /// elsewhere Secrets Manager is asked only when it is set.
    pub const REMOTE_SECRET_PREFIX: &str = "ERRAND_SECRET_PREFIX";
    /// In a task: name of the job.
    pub const JOB: &str = "ERRAND_JOB";
    /// In a task: URL of the job repository.
    pub const REPOSITORY: &str = "ERRAND_REPOSITORY";
    /// In a task: the commit that is run, in full.
    pub const REF: &str = "ERRAND_REF";
    /// In a task: the span of time that the run is for, `<start>/<end>` or a date; that of the schedule without it.
    pub const INTERVAL: &str = "ERRAND_INTERVAL";
    /// In a task: values of inputs, a JSON object.
    pub const INPUTS: &str = "ERRAND_INPUTS";
    /// In a task: what heartbeats and the result are sent with.
    pub const TASK_TOKEN: &str = "ERRAND_TASK_TOKEN";
    /// In a task: ARN of the execution.
    pub const EXECUTION: &str = "ERRAND_EXECUTION";
    /// In a task: who started it, `schedule`, `catchup`, `manual` or `backfill`.
    pub const TRIGGER: &str = "ERRAND_TRIGGER";
    /// In a task: seconds between two heartbeats, 60 without it. Claims are free to others after five that did not come.
    pub const HEARTBEAT_SECONDS: &str = "ERRAND_HEARTBEAT_SECONDS";
    /// In a task: seconds from SIGTERM to the end, 100 without it: less than the stop timeout of the container.
    pub const STOP_SECONDS: &str = "ERRAND_STOP_SECONDS";
    /// In a task: bucket for the report of a run that fails before its project file says where reports are kept.
    pub const STATE_BUCKET: &str = "ERRAND_STATE_BUCKET";
    /// In a task: what keys in that bucket begin with; reports lie under `runs/` below it.
    pub const STATE_PREFIX: &str = "ERRAND_STATE_PREFIX";
    /// Id of the run; a new one without it. In a task the name of the execution.
    pub const RUN_ID: &str = "ERRAND_RUN_ID";
    /// Environment of `errand.yaml`; its `default_environment` without it.
    pub const ENVIRONMENT: &str = "ERRAND_ENVIRONMENT";
    /// Attempt of the whole run, from 1.
    pub const ATTEMPT: &str = "ERRAND_ATTEMPT";
    /// When the schedule wanted the run to start, RFC 3339.
    pub const SCHEDULED_AT: &str = "ERRAND_SCHEDULED_AT";
    /// File of the ssh hosts that are known; `~/.ssh/known_hosts` without it.
    pub const KNOWN_HOSTS: &str = "ERRAND_KNOWN_HOSTS";
    /// File of certificate authorities (PEM) that are trusted beside those of the system: by git, and for S3 and the other services of AWS.
    pub const CA_FILE: &str = "ERRAND_CA_FILE";
    /// The home directory: `~/.ssh/known_hosts` lies there.
    pub const HOME: &str = "HOME";
    /// Where programs of `command` steps are looked for, and what they get as theirs; the usual directories of the system without it.
    pub const PATH: &str = "PATH";
    /// Set by container managers: Podman, systemd-nspawn, LXC.
    pub const CONTAINER: &str = "container";
    /// Set in every task of ECS.
    pub const ECS_METADATA: &str = "ECS_CONTAINER_METADATA_URI_V4";
}

/// Where programs are, for who says nothing.
const USUAL_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Left by Docker in every container.
const DOCKER_MARK: &str = "/.dockerenv";

/// Width of output that goes to no terminal: enough for every table, so that nothing is cut.
const PIPE_WIDTH: usize = 160;

/// Width of a terminal that does not tell.
const TERMINAL_WIDTH: usize = 80;

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One object a line, for machines.
    Json,
}

/// Where output goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stream {
    /// A terminal, not a pipe or a file.
    pub terminal: bool,
    /// Whether colour is welcome.
    pub color: bool,
    /// Characters in a line.
    pub width: usize,
}

/// What the environment says.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What to log; the default without it.
    pub log_filter: Option<String>,
    /// How log lines look.
    pub log_format: LogFormat,
    /// Data goes there.
    pub stdout: Stream,
    /// Logs, progress and errors go there.
    pub stderr: Stream,
    /// Id of the run.
    pub run_id: Option<String>,
    /// Environment of `errand.yaml`.
    pub environment: Option<String>,
    /// Attempt of the whole run.
    pub attempt: Option<u32>,
    /// When the schedule wanted the run to start.
    pub scheduled_at: Option<Timestamp>,
    /// Finds secrets; knows the redactor.
    pub secrets: Secrets,
    /// The ssh hosts that are known; absent without a home.
    pub known_hosts: Option<PathBuf>,
    /// Certificate authorities beside those of the system.
    pub ca_file: Option<PathBuf>,
    /// Directories of programs, with `:` between them.
    pub search_path: OsString,
    /// What a state machine tells a task.
    pub task: TaskSettings,
}

/// What a state machine tells a task that it starts. Nothing of it is checked yet: what is wrong is reported as a failure of the run.
#[derive(Clone, Debug)]
pub struct TaskSettings {
    /// Name of the job.
    pub job: Option<String>,
    /// URL of the job repository.
    pub repository: Option<String>,
    /// The commit.
    pub reference: Option<String>,
    /// The span of time.
    pub interval: Option<String>,
    /// Inputs, as JSON.
    pub inputs: Option<String>,
    /// What heartbeats and the result are sent with.
    pub token: Option<Secret>,
    /// ARN of the execution.
    pub execution: Option<String>,
    /// Who started it.
    pub trigger: Option<Trigger>,
    /// Between two heartbeats.
    pub heartbeat: Duration,
    /// From SIGTERM to the end.
    pub stop: Duration,
    /// Bucket and prefix of what is known of runs.
    pub state: Option<(String, String)>,
}

impl TaskSettings {
    fn read(environment: &Environment) -> Result<Self, Failure> {
        let seconds = |name, default| {
            let parse = |text: &str| text.parse().ok().filter(|seconds| (1..=3600).contains(seconds));
            Ok(Duration::from_secs(environment.parsed(name, "a number of seconds from 1 to 3600", parse)?.unwrap_or(default)))
        };
        let state = environment.text(variable::STATE_BUCKET)?;
        let prefix = environment.text(variable::STATE_PREFIX)?.unwrap_or_default();
        Ok(Self {
            job: environment.text(variable::JOB)?,
            repository: environment.text(variable::REPOSITORY)?,
            reference: environment.text(variable::REF)?,
            interval: environment.text(variable::INTERVAL)?,
            inputs: environment.text(variable::INPUTS)?,
            token: environment.text(variable::TASK_TOKEN)?.map(|token| Secret::new(&token)),
            execution: environment.text(variable::EXECUTION)?,
            trigger: environment.text(variable::TRIGGER)?.map(|word| Trigger::of_word(&word)),
            heartbeat: seconds(variable::HEARTBEAT_SECONDS, 60)?,
            stop: seconds(variable::STOP_SECONDS, 100)?,
            state: state.map(|bucket| (bucket, prefix)),
        })
    }
}

impl Settings {
    /// Reads the environment of this process.
    ///
    /// Fails as `Definition` with `settings::bad_value`, which names the variable.
    #[expect(clippy::disallowed_methods, reason = "this is the one place")]
    pub fn read() -> Result<Self, Failure> {
        let terminals = Terminals {
            stdout: std::io::stdout().is_terminal(),
            stderr: std::io::stderr().is_terminal(),
            width: comfy_table::Table::new().width().map(usize::from).filter(|width| *width > 0),
        };
        Self::new(std::env::vars_os(), &terminals, Path::new(DOCKER_MARK).exists())
    }

    fn new(variables: impl IntoIterator<Item = (OsString, OsString)>, terminals: &Terminals, docker: bool) -> Result<Self, Failure> {
        let environment = Environment::collect(variables);
        let no_color = environment.text(variable::NO_COLOR)?.is_some();
        let stream = |terminal: bool, width: usize| Stream { terminal, color: terminal && !no_color, width };
        let columns = environment.text(variable::COLUMNS)?.and_then(|text| text.parse().ok()).filter(|columns| *columns > 0);
        let width = |terminal: bool| {
            columns.or(terminals.width.filter(|_| terminal)).unwrap_or(if terminal { TERMINAL_WIDTH } else { PIPE_WIDTH }).clamp(40, 500)
        };
        let home = environment.path(variable::HOME);
        let secrets = Secrets::new(environment.secrets()?, PathBuf::from(secret::DEFAULT_DIRECTORY));
        let prefix = environment.text(variable::REMOTE_SECRET_PREFIX)?;
        Ok(Self {
            log_filter: environment.text(variable::LOG)?,
            log_format: log_format(&environment, terminals.stderr, docker)?,
            stdout: stream(terminals.stdout, width(terminals.stdout)),
            stderr: stream(terminals.stderr, width(terminals.stderr)),
            run_id: environment.text(variable::RUN_ID)?,
            environment: environment.text(variable::ENVIRONMENT)?,
            attempt: environment
                .parsed(variable::ATTEMPT, "a whole number from 1", |text| text.parse().ok().filter(|attempt| *attempt > 0))?,
            scheduled_at: environment.parsed(variable::SCHEDULED_AT, "a time such as `2026-11-20T06:00:00Z`", |text| text.parse().ok())?,
            secrets: prefix.map_or_else(|| secrets.clone(), |prefix| secrets.clone().with_remote(&prefix)),
            known_hosts: environment.path(variable::KNOWN_HOSTS).or_else(|| home.map(|home| home.join(".ssh/known_hosts"))),
            ca_file: environment.path(variable::CA_FILE),
            search_path: environment.0.get(variable::PATH).cloned().unwrap_or_else(|| USUAL_PATH.into()),
            task: TaskSettings::read(&environment)?,
        })
    }
}

/// What stands at the other end of the streams.
struct Terminals {
    stdout: bool,
    stderr: bool,
    width: Option<usize>,
}

fn log_format(environment: &Environment, terminal: bool, docker: bool) -> Result<LogFormat, Failure> {
    let given = environment.parsed(variable::LOG_FORMAT, "`text` or `json`", |text| match text {
        "text" => Some(LogFormat::Text),
        "json" => Some(LogFormat::Json),
        _ => None,
    })?;
    let in_container = docker || [variable::CONTAINER, variable::ECS_METADATA].iter().any(|name| environment.0.contains_key(*name));
    Ok(given.unwrap_or(if in_container && !terminal { LogFormat::Json } else { LogFormat::Text }))
}

/// The variables, those with an empty value left out: nobody means them.
struct Environment(BTreeMap<String, OsString>);

impl Environment {
    fn collect(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        let named = variables.into_iter().filter_map(|(name, value)| Some((name.into_string().ok()?, value)));
        Self(named.filter(|(name, value)| !value.is_empty() || name.starts_with(variable::SECRET_PREFIX)).collect())
    }

    fn text(&self, name: &str) -> Result<Option<String>, Failure> {
        let Some(value) = self.0.get(name) else { return Ok(None) };
        value
            .to_str()
            .map(|text| Some(text.to_owned()))
            .ok_or_else(|| bad_value(format!("environment variable `{name}` is not UTF-8"), name))
    }

    fn path(&self, name: &str) -> Option<PathBuf> {
        self.0.get(name).map(PathBuf::from)
    }

    fn parsed<T>(&self, name: &str, expected: &str, parse: impl Fn(&str) -> Option<T>) -> Result<Option<T>, Failure> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        match parse(&text) {
            Some(value) => Ok(Some(value)),
            None => Err(bad_value(format!("environment variable `{name}` is `{text}`, expected {expected}"), name)),
        }
    }

    fn secrets(&self) -> Result<Vec<(String, String)>, Failure> {
        let is_secret = |name: &&String| name.starts_with(variable::SECRET_PREFIX) && *name != variable::REMOTE_SECRET_PREFIX;
        let names = self.0.keys().filter(is_secret);
        names.map(|name| Ok((name.clone(), self.text(name)?.unwrap_or_default()))).collect()
    }
}

fn bad_value(message: String, name: &str) -> Failure {
    Failure::new(FailureKind::Definition, "settings::bad_value", message).help(format!("correct `{name}`, or unset it"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::SecretName;

    const PIPES: Terminals = Terminals { stdout: false, stderr: false, width: None };
    const TERMINAL: Terminals = Terminals { stdout: true, stderr: true, width: Some(132) };

    fn settings(variables: &[(&str, &str)], terminals: &Terminals, docker: bool) -> Result<Settings, Failure> {
        Settings::new(variables.iter().map(|(name, value)| (OsString::from(name), OsString::from(value))), terminals, docker)
    }

    #[test]
    fn without_variables_everything_has_its_default() {
        let settings = settings(&[], &PIPES, false).expect("valid");
        assert_eq!(settings.log_format, LogFormat::Text);
        assert_eq!(settings.stdout, Stream { terminal: false, color: false, width: PIPE_WIDTH });
        assert_eq!((settings.run_id, settings.attempt, settings.known_hosts), (None, None, None));
        assert_eq!(settings.search_path, USUAL_PATH);
    }

    #[test]
    fn logs_are_json_in_a_container_without_a_terminal_unless_told_otherwise() {
        let format = |variables: &[(&str, &str)], terminals, docker| settings(variables, terminals, docker).expect("valid").log_format;
        assert_eq!(format(&[], &PIPES, true), LogFormat::Json);
        assert_eq!(format(&[("container", "podman")], &PIPES, false), LogFormat::Json);
        assert_eq!(format(&[("ECS_CONTAINER_METADATA_URI_V4", "http://169.254.170.2/v4")], &PIPES, false), LogFormat::Json);
        assert_eq!(format(&[], &TERMINAL, true), LogFormat::Text);
        assert_eq!(format(&[("ERRAND_LOG_FORMAT", "text")], &PIPES, true), LogFormat::Text);
        assert_eq!(format(&[("ERRAND_LOG_FORMAT", "json")], &TERMINAL, false), LogFormat::Json);
    }

    #[test]
    fn width_and_colour_come_from_the_terminal_and_can_be_set() {
        let stdout = |variables: &[(&str, &str)]| settings(variables, &TERMINAL, false).expect("valid").stdout;
        assert_eq!(stdout(&[]), Stream { terminal: true, color: true, width: 132 });
        assert_eq!(stdout(&[("NO_COLOR", "1"), ("COLUMNS", "80")]), Stream { terminal: true, color: false, width: 80 });
        assert!(stdout(&[("NO_COLOR", "")]).color);
    }

    #[test]
    fn a_wrong_value_names_its_variable() {
        for (name, value) in
            [("ERRAND_ATTEMPT", "0"), ("ERRAND_ATTEMPT", "x"), ("ERRAND_SCHEDULED_AT", "today"), ("ERRAND_LOG_FORMAT", "xml")]
        {
            let failure = settings(&[(name, value)], &PIPES, false).expect_err("refused");
            assert_eq!((failure.kind, failure.code.as_str()), (FailureKind::Definition, "settings::bad_value"));
            assert!(failure.message.contains(name) && failure.message.contains(value), "{}", failure.message);
        }
    }

    #[test]
    fn secrets_are_collected_and_nothing_else_is_kept() {
        let variables = [("ERRAND_SECRET_TOKEN", "s3cr3t"), ("HOME", "/home/ada"), ("PATH", "/bin"), ("AWS_PROFILE", "x")];
        let settings = settings(&variables, &PIPES, false).expect("valid");
        let secret = settings.secrets.resolve(&SecretName::parse("token").expect("a name")).expect("set");
        assert_eq!(secret.expose(), "s3cr3t");
        assert_eq!(settings.known_hosts, Some(PathBuf::from("/home/ada/.ssh/known_hosts")));
        assert!(!format!("{settings:?}").contains("s3cr3t"));
    }
}
