//! The command line: what each subcommand takes and prints. The only place that prints.
//!
//! A command returns the exit code that its end asks for; `main` alone uses it.

pub mod backfill;
pub mod cost;
mod definitions;
pub mod deploy;
mod follow;
pub mod plan;
pub mod run;
pub mod runs;
pub mod schema;
pub mod selection;
pub mod setup;
mod stack;
pub mod start;
pub mod stop;
pub mod task;
pub mod validate;

use std::io::{self, ErrorKind, Write};

use errand_model::failure::{Failure, FailureKind};

use crate::clock::Clock;
use crate::progress::Progress;
use crate::report::table::Style;
use crate::report::text;
use crate::settings::{LogFormat, Settings, Stream};

/// The table of `errand_model::failure`, told in `--help`.
const EXIT_CODES: &str = "Exit codes: 0 done, 2 usage, 10 definition, 11 checkout, 12 check failed, 13 rows rejected,
14 transient, 15 timeout, 16 cancelled, 17 permanent, 18 a defect in errand.";

/// Runs data jobs: definitions from a git repository, steps against a warehouse, and a report of every run.
#[derive(clap::Parser, Clone, Debug)]
#[command(name = "errand", version, max_term_width = 100, disable_help_subcommand = true, after_help = EXIT_CODES)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(clap::Subcommand, Clone, Debug)]
pub enum Command {
    /// Run a job.
    Run(Box<run::RunArgs>),
    /// Run a job in a task of a state machine; everything comes from the environment.
    Task(task::TaskArgs),
    /// Show what a run would do, without doing it.
    Plan(plan::PlanArgs),
    /// Check every definition of a job repository.
    Validate(validate::ValidateArgs),
    /// List runs, or show one.
    Runs(runs::RunsArgs),
    /// Tell what an environment costs a month, from definitions and run reports.
    Cost(cost::CostArgs),
    /// Bring the schedules of an environment in step with the job repository at a commit.
    Deploy(deploy::DeployArgs),
    /// Start a run of a job in its environment's stack.
    Start(start::StartArgs),
    /// End a run that was started in a stack.
    Stop(stop::StopArgs),
    /// Start runs for all intervals of a span of time.
    Backfill(backfill::BackfillArgs),
    /// Print the JSON Schema of a definition.
    Schema(schema::SchemaArgs),
    /// Make a warehouse ready for jobs.
    Setup(Box<setup::SetupArgs>),
}

/// What a command needs beside its arguments. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// What the environment says.
    pub settings: Settings,
    /// The time.
    pub clock: Clock,
    /// The way to stderr.
    pub progress: Progress,
}

/// Does what the arguments say. The exit code.
#[must_use]
pub fn execute(arguments: &Arguments, surroundings: &Surroundings) -> u8 {
    if let Some(file) = &surroundings.settings.ca_file {
        crate::aws::trust::add(file);
    }
    let stream = surroundings.settings.stdout;
    let mut out = Stdout { closed: false };
    let ended = match &arguments.command {
        Command::Run(args) => run::run(args, surroundings, &mut out),
        Command::Task(args) => task::run(args, surroundings, &mut out),
        Command::Plan(args) => plan::run(args, surroundings, &mut out),
        Command::Validate(args) => validate::run(args, stream, &mut out),
        Command::Runs(args) => runs::run(args, surroundings, &mut out),
        Command::Cost(args) => cost::run(args, surroundings, &mut out),
        Command::Deploy(args) => deploy::run(args, surroundings, &mut out),
        Command::Start(args) => start::run(args, surroundings, &mut out),
        Command::Stop(args) => stop::run(args, surroundings, &mut out),
        Command::Backfill(args) => backfill::run(args, surroundings, &mut out),
        Command::Setup(args) => setup::run(args, surroundings, &mut out),
        Command::Schema(args) => schema::run(args, &mut out).map_err(|error| cannot_print(&error)),
    };
    ended.unwrap_or_else(|failure| {
        tell(&failure, surroundings);
        failure.kind.exit_code()
    })
}

/// Tells of a failure on stderr, as text or as a log line.
pub(crate) fn tell(failure: &Failure, surroundings: &Surroundings) {
    let settings = &surroundings.settings;
    match settings.log_format {
        LogFormat::Text => {
            let told = text::failure(failure, style(settings.stderr));
            surroundings.progress.print(settings.secrets.redactor().redact(&told).as_bytes());
        }
        LogFormat::Json => {
            let help = failure.help.as_deref().unwrap_or_default();
            tracing::error!(kind = failure.kind.error_name(), code = failure.code, error = %failure, help, "errand failed");
        }
    }
}

/// How text on a stream looks.
pub(crate) const fn style(stream: Stream) -> Style {
    Style { width: stream.width, color: stream.color }
}

/// Writes to stdout, or says why that failed.
pub(crate) fn print(out: &mut dyn Write, text: &str) -> Result<(), Failure> {
    out.write_all(text.as_bytes()).map_err(|error| cannot_print(&error))
}

fn cannot_print(error: &io::Error) -> Failure {
    Failure::new(FailureKind::Permanent, "output::cannot_write", format!("cannot write to stdout: {error}"))
}

/// The process's stdout. Once its reader has gone (`errand runs | head`), all further output is dropped: nobody misses it.
struct Stdout {
    closed: bool,
}

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.closed {
            return Ok(bytes.len());
        }
        match io::stdout().lock().write(bytes) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                self.closed = true;
                Ok(bytes.len())
            }
            written => written,
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match io::stdout().lock().flush() {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
            flushed => flushed,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;
    use errand_model::failure::FailureKind;

    use super::{Arguments, EXIT_CODES};

    #[test]
    fn the_arguments_are_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn every_exit_code_is_told() {
        for kind in FailureKind::ALL {
            assert!(EXIT_CODES.contains(&format!("{} ", kind.exit_code())), "{kind}");
        }
    }
}
