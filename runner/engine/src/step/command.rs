//! `command`: a program in the checkout, with only the environment that it declares, in a process group of its own.
//!
//! Its output goes to the log line by line, secrets removed. What it does outside is not transactional: it runs in every run.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use errand_model::failure::{Failure, FailureKind};
use errand_model::job::{CommandStep, EnvValue};
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Map, Value};
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tracing::{Instrument, info};

use super::{Attempt, Effect};
use crate::secret::SecretName;

/// Time between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(10);
/// Longest file of outputs.
const MAX_OUTPUT_BYTES: u64 = 64 * 1024;
/// How long output is still read after the program and its group have ended.
const DRAIN: Duration = Duration::from_secs(1);
/// Last lines of output that a failure repeats.
const TAIL_LINES: usize = 5;
/// Longest line that is logged; the rest of it is cut.
const MAX_LINE_BYTES: usize = 8 * 1024;
/// What is read of a line past its longest, so that a secret across the cut is known as one.
const LOOK_AHEAD: usize = 256 * 1024;

pub(super) async fn run(attempt: &mut Attempt, step: &CommandStep) -> Result<Effect, Failure> {
    let scratch = tempfile::tempdir().map_err(|error| failure("cannot make a scratch directory", &error))?;
    let output_file = scratch.path().join("outputs");
    std::fs::write(&output_file, "").map_err(|error| failure("cannot make the file of outputs", &error))?;
    let words = step.run.iter().map(|word| attempt.render(word)).collect::<Result<Vec<String>, Failure>>()?;
    let (program, arguments) = words.split_first().expect("validation leaves at least one word");
    let directory = working_directory(attempt, step)?;
    let mut command = Command::new(resolve(program, &directory));
    command.args(arguments).current_dir(&directory).env_clear();
    command.env("HOME", scratch.path()).env("PATH", &attempt.run.request.search_path);
    command.envs(environment(attempt, step)?).env("ERRAND_OUTPUT", &output_file);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0).kill_on_drop(true);
    let stopwatch = attempt.run.request.clock.stopwatch();
    let child = command.spawn().map_err(|error| cannot_start(&command, program, &directory, &error))?;
    let ended = supervise(attempt, child).await;
    attempt.record_statement(program, None, &stopwatch, None);
    let (status, tail) = ended?;
    if !status.success() {
        let how = status.code().map_or_else(|| status.to_string(), |code| format!("exit code {code}"));
        let last = if tail.is_empty() { String::new() } else { format!("; its last lines: {}", tail.join(" | ")) };
        let failure = Failure::new(FailureKind::Permanent, "command::failed", format!("`{program}` ended with {how}{last}"));
        return Err(failure.help("the whole output is in the log of this run"));
    }
    let outputs = read_outputs(attempt, &output_file, step)?;
    Ok(Effect { outputs, ..Effect::default() })
}

/// `./program` is relative to where the command runs, not to where errand runs.
fn resolve(program: &str, directory: &Path) -> PathBuf {
    if program.contains('/') { directory.join(program) } else { PathBuf::from(program) }
}

fn working_directory(attempt: &Attempt, step: &CommandStep) -> Result<PathBuf, Failure> {
    let request = &attempt.run.request;
    let relative = step.working_dir.clone().unwrap_or_else(|| format!("jobs/{}", request.job.name));
    let directory = request.root.join(&relative);
    if directory.is_dir() {
        return directory.canonicalize().map_err(|error| failure("cannot enter the working directory", &error));
    }
    let message = format!("working directory `{relative}` is not in the repository");
    Err(Failure::new(FailureKind::Definition, "command::no_directory", message))
}

fn environment(attempt: &Attempt, step: &CommandStep) -> Result<Vec<(String, String)>, Failure> {
    let mut variables = Vec::with_capacity(step.env.len());
    for (name, value) in &step.env {
        let value = match value {
            EnvValue::Text(template) => attempt.render(template)?,
            EnvValue::Secret(secret) => attempt.run.request.secrets.resolve(&SecretName::parse(secret.as_str())?)?.expose().to_owned(),
        };
        variables.push((name.clone(), value));
    }
    Ok(variables)
}

/// Follows the program to its end; stops its whole process group when the attempt is cancelled.
async fn supervise(attempt: &Attempt, mut child: Child) -> Result<(std::process::ExitStatus, Vec<String>), Failure> {
    let group = Group(child.id().and_then(|id| Pid::from_raw(id.cast_signed())));
    let stdout = tokio::spawn(follow(child.stdout.take(), "stdout", log_target(attempt)).in_current_span());
    let stderr = tokio::spawn(follow(child.stderr.take(), "stderr", log_target(attempt)).in_current_span());
    let status = tokio::select! {
        status = child.wait() => status.map_err(|error| failure("cannot wait for the program", &error)),
        () = attempt.cancelled.cancelled() => {
            group.stop(&mut child).await;
            Err(Failure::new(FailureKind::Cancelled, "command::cancelled", "the program was stopped"))
        }
    };
    // Children that the program left behind would keep the pipes open, and the run waiting; also those that left the group.
    drop(group);
    let (mut tail, errors) = tokio::join!(drained(stdout), drained(stderr));
    tail.extend(errors);
    let skip = tail.len().saturating_sub(TAIL_LINES);
    Ok((status?, tail.into_iter().skip(skip).collect()))
}

/// The last lines of a stream, which may still be open in a process that is not ours any more.
async fn drained(mut stream: tokio::task::JoinHandle<Vec<String>>) -> Vec<String> {
    match tokio::time::timeout(DRAIN, &mut stream).await {
        Ok(lines) => lines.unwrap_or_default(),
        Err(_) => {
            stream.abort();
            Vec::new()
        }
    }
}

/// The process group of a program. Nothing of it is left when this is dropped, also when a second signal ends the run at once.
struct Group(Option<Pid>);

impl Group {
    async fn stop(&self, child: &mut Child) {
        self.signal(Signal::TERM);
        if tokio::time::timeout(GRACE, child.wait()).await.is_err() {
            self.signal(Signal::KILL);
        }
    }

    /// A group that is already gone needs no signal.
    fn signal(&self, signal: Signal) {
        if let Some(group) = self.0 {
            let _gone = kill_process_group(group, signal);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

struct LogTarget {
    step: String,
    redactor: crate::secret::Redactor,
}

fn log_target(attempt: &Attempt) -> LogTarget {
    LogTarget { step: attempt.step.id.to_string(), redactor: attempt.run.request.secrets.redactor().clone() }
}

/// Logs a stream line by line and returns its last lines.
async fn follow(stream: Option<impl AsyncRead + Unpin>, name: &'static str, target: LogTarget) -> Vec<String> {
    let Some(stream) = stream else { return Vec::new() };
    let mut reader = BufReader::with_capacity(MAX_LINE_BYTES, stream);
    let mut tail = std::collections::VecDeque::new();
    let mut line = Vec::new();
    while let Ok(chunk) = reader.fill_buf().await {
        let (used, complete) = match chunk.iter().position(|byte| *byte == b'\n') {
            Some(end) => (end + 1, true),
            None => (chunk.len(), chunk.is_empty()),
        };
        let room = (MAX_LINE_BYTES + LOOK_AHEAD).saturating_sub(line.len());
        line.extend_from_slice(&chunk[..used.min(room)]);
        let ended = chunk.is_empty();
        reader.consume(used);
        if complete && !(ended && line.is_empty()) {
            let text = String::from_utf8_lossy(&line);
            let mut text = target.redactor.redact(text.trim_end()).into_owned();
            text.truncate(text.floor_char_boundary(MAX_LINE_BYTES));
            info!(step = %target.step, stream = name, "{text}");
            tail.push_back(text);
            if tail.len() > TAIL_LINES {
                tail.pop_front();
            }
            line.clear();
        }
        if ended {
            break;
        }
    }
    tail.into()
}

fn read_outputs(attempt: &Attempt, file: &Path, step: &CommandStep) -> Result<Map<String, Value>, Failure> {
    let size = std::fs::metadata(file).map_or(0, |metadata| metadata.len());
    if size > MAX_OUTPUT_BYTES {
        let message = format!("the file of outputs is {size} bytes long; at most {MAX_OUTPUT_BYTES} are read");
        return Err(Failure::new(FailureKind::Permanent, "command::outputs", message).help("put large results into a table or a file"));
    }
    let text = std::fs::read_to_string(file).map_err(|error| failure("cannot read the file of outputs", &error))?;
    let mut outputs = Map::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let Some((name, value)) = line.split_once('=') else {
            let message = format!("line {} of the file of outputs is not `name=value`", number + 1);
            return Err(Failure::new(FailureKind::Permanent, "command::outputs", message));
        };
        let value = attempt.run.request.secrets.redactor().redact(value.trim()).into_owned();
        outputs.insert(name.trim().to_owned(), value.into());
    }
    if let Some(missing) = step.outputs.iter().find(|name| !outputs.contains_key(name.as_str())) {
        let failure = Failure::new(FailureKind::Permanent, "command::outputs", format!("the program did not write its output `{missing}`"));
        return Err(failure.help(format!("write a line `{missing}=value` to the file that the variable ERRAND_OUTPUT names")));
    }
    outputs.retain(|name, _| step.outputs.iter().any(|declared| declared.as_str() == name));
    Ok(outputs)
}

fn cannot_start(command: &Command, program: &str, directory: &Path, error: &std::io::Error) -> Failure {
    let message = format!("cannot start `{program}` in `{}`: {error}", directory.display());
    let help = match error.kind() {
        std::io::ErrorKind::NotFound => {
            let path = command.as_std().get_envs().find(|(name, _)| *name == "PATH").and_then(|(_, value)| value);
            let places = path.unwrap_or_default().display();
            format!("it is looked for in {places}, or where a path with `/` leads from the working directory")
        }
        std::io::ErrorKind::PermissionDenied => "make it executable (`git update-index --chmod=+x`)".to_owned(),
        _ => "see the reason above".to_owned(),
    };
    Failure::new(FailureKind::Definition, "command::cannot_start", message).help(help)
}

fn failure(what: &str, error: &std::io::Error) -> Failure {
    Failure::new(FailureKind::Permanent, "command::system", format!("{what}: {error}"))
}
