//! `errand runs`: the runs of an environment, newest first, and one of them whole.

use std::io::Write;
use std::path::PathBuf;

use errand_model::failure::Failure;

use super::definitions::Definitions;
use super::run::Format;
use super::{Surroundings, print, style};
use crate::report::store::{self, Listing, ReportStore};
use crate::report::text;
use crate::repository::Repository;

/// Lists runs, or shows one.
#[derive(clap::Args, Clone, Debug)]
pub struct RunsArgs {
    /// Directory with `errand.yaml`.
    #[arg(long, value_name = "DIR", default_value = ".", global = true)]
    pub repo: PathBuf,
    /// Environment of `errand.yaml`; its default without it.
    #[arg(long = "env", value_name = "NAME", global = true)]
    pub environment: Option<String>,
    /// How runs are told.
    #[arg(long, value_enum, default_value_t = Format::Text, global = true)]
    pub format: Format,
    /// Only runs of this job.
    #[arg(long, value_name = "NAME")]
    pub job: Option<String>,
    /// Most runs.
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub limit: usize,
    /// One run.
    #[command(subcommand)]
    pub command: Option<RunsCommand>,
}

/// One run.
#[derive(clap::Subcommand, Clone, Debug)]
pub enum RunsCommand {
    /// Show one run whole.
    Show {
        /// Its id, the beginning of it that no other has, or `last`.
        id: String,
    },
}

/// Prints the runs. The exit code.
///
/// # Errors
///
/// The project has errors, or there is no such run.
pub fn run(args: &RunsArgs, surroundings: &Surroundings, out: &mut dyn Write) -> Result<u8, Failure> {
    let store = place(args, surroundings)?;
    let style = style(surroundings.settings.stdout);
    let redactor = surroundings.settings.secrets.redactor();
    let told = match (&args.command, args.format) {
        (Some(RunsCommand::Show { id }), Format::Text) => text::show(&store.find(id)?, style),
        (Some(RunsCommand::Show { id }), Format::Json) => store::json(&store.find(id)?, redactor),
        (None, Format::Text) => {
            let listing = list(args, &store)?;
            if listing.reports.is_empty() && listing.unreadable.is_empty() {
                let of = args.job.as_ref().map(|job| format!(" of `{job}`")).unwrap_or_default();
                surroundings.progress.print(format!("no runs{of} in `{}`\n", store.place()).as_bytes());
            }
            text::runs(&listing, style)
        }
        (None, Format::Json) => {
            let listing = list(args, &store)?;
            for (path, why) in &listing.unreadable {
                tracing::warn!(file = %path.display(), why, "run report cannot be read");
            }
            format!("{:#}\n", serde_json::to_value(&listing.reports).expect("reports are plain data"))
        }
    };
    print(out, &redactor.redact(&told))?;
    Ok(0)
}

fn list(args: &RunsArgs, store: &ReportStore) -> Result<Listing, Failure> {
    store.list(args.limit, |report| args.job.as_ref().is_none_or(|job| report.job == *job))
}

fn place(args: &RunsArgs, surroundings: &Surroundings) -> Result<ReportStore, Failure> {
    let definitions = Definitions::accept(Repository::open(&args.repo)?.project(), surroundings)?;
    let environment = definitions.environment(args.environment.as_ref(), surroundings);
    ReportStore::of(&definitions.project, environment, &args.repo)
}
