//! `errand validate`: every problem of every definition, for people, scripts, GitHub and code scanners.

mod block;
mod machine;

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::PathBuf;

use errand_model::failure::{Failure, FailureKind};
use errand_model::problem::Severity;

use crate::repository::{Repository, Validation};
use crate::settings::Stream;

pub use block::render;

/// Checks all definitions of a job repository and reports every problem at once.
#[derive(clap::Args, Clone, Debug)]
pub struct ValidateArgs {
    /// Directory with `errand.yaml`.
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub repo: PathBuf,
    /// How problems are written.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

/// How problems are written.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For people: the source line with the place marked.
    Text,
    /// One JSON array; see the documentation of the command.
    Json,
    /// Workflow commands of GitHub Actions: annotations on the pull request.
    Github,
    /// SARIF 2.1.0, for code scanners.
    Sarif,
}

/// Checks the repository and writes its problems to `out`. The exit code: 0 without an error, that of `Definition` with one.
///
/// # Errors
///
/// The directory is no job repository, or `out` cannot be written (as `Internal`).
pub fn run(args: &ValidateArgs, stream: Stream, out: &mut dyn Write) -> Result<u8, Failure> {
    let validation = Repository::open(&args.repo)?.validate();
    write(&validation, args.format, stream, out)
        .map_err(|error| Failure::new(FailureKind::Internal, "output::closed", error.to_string()))?;
    Ok(if validation.has_errors() { FailureKind::Definition.exit_code() } else { 0 })
}

fn write(validation: &Validation, format: Format, stream: Stream, out: &mut dyn Write) -> io::Result<()> {
    match format {
        Format::Text => {
            render(validation, stream, out)?;
            writeln!(out, "{}", summary(validation))
        }
        Format::Json => machine::json(validation, out),
        Format::Github => machine::github(validation, out),
        Format::Sarif => machine::sarif(validation, out),
    }
}

/// One line: `3 errors in 2 of 14 jobs`.
fn summary(validation: &Validation) -> String {
    let count = |severity| validation.problems.iter().filter(|problem| problem.severity == severity).count();
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    let jobs = |count: usize| if count == 1 { "1 job".to_owned() } else { format!("{count} jobs") };
    let many = |count: usize, word: &str| if count == 1 { format!("1 {word}") } else { format!("{count} {word}s") };
    let found = match (errors, warnings) {
        (0, 0) => return format!("no problems in {}", jobs(validation.job_count)),
        (0, warnings) => many(warnings, "warning"),
        (errors, 0) => many(errors, "error"),
        (errors, warnings) => format!("{} and {}", many(errors, "error"), many(warnings, "warning")),
    };
    let folder = |file: &str| file.strip_prefix("jobs/").and_then(|rest| rest.split_once('/')).map(|(folder, _)| folder.to_owned());
    let hit: BTreeSet<String> = validation.problems.iter().filter_map(|problem| folder(&problem.file)).collect();
    let elsewhere = if validation.problems.iter().any(|problem| folder(&problem.file).is_none()) { "the project" } else { "" };
    let total = jobs(validation.job_count);
    match (elsewhere, hit.len()) {
        ("", hit) => format!("{found} in {hit} of {total}"),
        (project, 0) => format!("{found} in {project}"),
        (project, hit) => format!("{found} in {project} and {hit} of {total}"),
    }
}

#[cfg(test)]
mod tests;
