//! `errand deploy`: brings the schedules of an environment in step with the job repository at a commit. Prints the plan, then applies it.

use std::fmt::Write as _;
use std::io::Write;

use errand_model::deployment::Deployment;
use errand_model::failure::{Failure, FailureKind};
use errand_model::job::Job;
use errand_model::order::Origin;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::definitions::Definitions;
use super::run::Format;
use super::selection::{Selection, bring};
use super::{Surroundings, print, stack, style};
use crate::aws::scheduler::{Schedule, Schedules};
use crate::checkout;
use crate::deploy::plan::{self, Action, Step};
use crate::report::figure;
use crate::report::store::ReportStore;
use crate::report::table::{Style, Tone};
use crate::repository::Repository;
use crate::store::Store;

/// What is deployed, for alerts and the watchdog.
const DEPLOYMENT: &str = "deployment.json";
/// A larger file is no deployment.
const MAX_BYTES: u64 = 64 << 20;
/// Characters of a commit id that are enough to know it by.
const SHORT_COMMIT: usize = 7;

/// Brings schedules in step with definitions.
#[derive(clap::Args, Clone, Debug)]
pub struct DeployArgs {
    /// Job repository: a directory, or a URL (https, ssh, file).
    #[arg(long, value_name = "DIR|URL", default_value = ".")]
    pub repo: String,
    /// Branch, tag or commit; the commit that a directory stands on without it.
    #[arg(long = "ref", value_name = "REF")]
    pub reference: Option<String>,
    /// Environment of `errand.yaml`; its default without it.
    #[arg(long = "env", value_name = "NAME")]
    pub environment: Option<String>,
    /// Only show what would change.
    #[arg(long)]
    pub plan: bool,
    /// How the plan is told.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

/// Prints the plan and applies it. The exit code.
///
/// # Errors
///
/// A definition has errors or cannot be deployed: then nothing was changed. Or a service refuses: then the same command again goes on.
pub fn run(args: &DeployArgs, surroundings: &Surroundings, out: &mut dyn Write) -> Result<u8, Failure> {
    checkout::prepare()?;
    let selection = selection(args);
    let (checkout, _scratch, state_dir) = bring(&selection, &surroundings.settings, &CancellationToken::new())?;
    let definitions = Definitions::accept(Repository::open(&checkout.root)?.validate(), surroundings)?;
    let (project, jobs) = (&definitions.project, &definitions.jobs);
    let environment = definitions.environment(args.environment.as_ref(), surroundings);
    let aws = stack::of(project, environment)?;
    let origin = Origin { environment, aws, commit: stack::commit(&checkout.report)? };
    let wanted = plan::wanted(origin, jobs)?;
    let state = ReportStore::of(project, environment, &state_dir)?.state().clone();
    let now = surroundings.clock.now();
    stack::runtime()?.block_on(async {
        let schedules = Schedules::new(aws.region(), &aws.prefix).await?;
        let mut steps = plan::plan(&wanted, &schedules.list().await?)?;
        plan::add_notes(&mut steps, jobs, now);
        let deployment = |previous: Option<&Deployment>| Deployment::of(origin, now, project, jobs, previous);
        print(out, &told(args, origin, &steps, jobs, style(surroundings.settings.stdout)))?;
        if args.plan {
            return Ok(0);
        }
        apply(&schedules, &steps, &wanted, surroundings).await?;
        record(&state, deployment).await?;
        Ok(0)
    })
}

fn selection(args: &DeployArgs) -> Selection {
    Selection {
        job: String::new(),
        repo: args.repo.clone(),
        reference: args.reference.clone(),
        environment: args.environment.clone(),
        interval: None,
        inputs: Vec::new(),
        steps: Vec::new(),
        attempt: None,
        run_id: None,
    }
}

/// Adds and changes first, removes last: of a job that was renamed, no run is missed.
async fn apply(schedules: &Schedules, steps: &[Step], wanted: &[Schedule], surroundings: &Surroundings) -> Result<(), Failure> {
    let mut done = 0;
    let last = |step: &&Step| step.action == Action::Remove;
    for step in steps.iter().filter(|step| !last(step)).chain(steps.iter().filter(last)) {
        let new = wanted.iter().find(|schedule| schedule.name == step.job);
        let changed = match (step.action, new) {
            (Action::Add, Some(new)) => schedules.create(new).await,
            (Action::Change, Some(new)) => schedules.update(new).await,
            (Action::Remove, _) => schedules.remove(&step.job).await,
            (Action::Keep, _) | (_, None) => continue,
        };
        changed.map_err(|failure| {
            let own = failure.help.as_deref().map(|help| format!("{help}; ")).unwrap_or_default();
            let help = format!("{own}{} before it are done: run the command again, it goes on", figure::plural(done, "change"));
            failure.help(help)
        })?;
        done += 1;
    }
    surroundings.progress.print(format!("{} applied\n", figure::plural(done, "change")).as_bytes());
    Ok(())
}

/// Writes what is deployed. What is deployed already is left as it is.
async fn record(state: &Store, deployment: impl Fn(Option<&Deployment>) -> Result<Deployment, Failure>) -> Result<(), Failure> {
    let found = state.get_small(DEPLOYMENT, MAX_BYTES).await?;
    let previous = match found.as_deref().map(Deployment::parse).transpose() {
        Ok(previous) => previous,
        Err(why) if why.starts_with("deployment of version") => {
            let failure = Failure::new(FailureKind::Definition, "deploy::newer", format!("`{}`: {why}", state.url(DEPLOYMENT)));
            return Err(failure.help("use an `errand` that is as new as the one that deployed before"));
        }
        Err(why) => {
            tracing::warn!(file = state.url(DEPLOYMENT), why, "what was deployed before cannot be read, it is written anew");
            None
        }
    };
    let new = deployment(previous.as_ref())?;
    let is_same = previous.is_some_and(|previous| Deployment { deployed_at: new.deployed_at, ..previous } == new);
    if is_same {
        return Ok(());
    }
    state.put(DEPLOYMENT, new.json().into()).await.map_err(|failure| Failure {
        message: format!("the schedules are changed, what is deployed cannot be recorded: {}", failure.message),
        help: Some("run the command again: without the record, alerts and the watchdog work from the one before".to_owned()),
        ..failure
    })
}

fn told(args: &DeployArgs, origin: Origin<'_>, steps: &[Step], jobs: &[Job], style: Style) -> String {
    match args.format {
        Format::Text => text(origin, steps, jobs.len(), style),
        Format::Json => {
            let plan = json!({
                "version": 1, "environment": origin.environment, "group": origin.aws.prefix, "repository": origin.aws.repository,
                "commit": origin.commit, "applied": !args.plan, "schedules": steps,
            });
            format!("{plan:#}\n")
        }
    }
}

/// The plan for people: what differs, and how much does not.
fn text(origin: Origin<'_>, steps: &[Step], jobs: usize, style: Style) -> String {
    let count = |action: Action| steps.iter().filter(|step| step.action == action).count();
    let short = |commit: &str| commit.chars().take(SHORT_COMMIT).collect::<String>();
    let mut text = format!(
        "{} at commit {}: {}, {} with a schedule\n",
        style.paint(Tone::Strong, &origin.aws.prefix),
        short(origin.commit),
        figure::plural(jobs, "job"),
        steps.iter().filter(|step| step.action != Action::Remove).count(),
    );
    for step in steps {
        let when = format!("{} {}", step.expression, step.timezone);
        let line = match step.action {
            Action::Add => format!("{} {:<24} {when}", style.paint(Tone::Good, "+"), step.job),
            Action::Remove => format!("{} {:<24} {when}", style.paint(Tone::Bad, "-"), step.job),
            Action::Change if !step.is_commit_only() => format!("{} {}", style.paint(Tone::Doubtful, "~"), step.job),
            Action::Change | Action::Keep => continue,
        };
        let _ = writeln!(text, "{}", line.trim_end());
        for difference in &step.differences {
            let shown = |value: &str| if difference.what == "ref" { short(value) } else { value.to_owned() };
            let _ = writeln!(text, "    {}: {} -> {}", difference.what, shown(&difference.from), shown(&difference.to));
        }
        if let Some(note) = &step.note {
            text.push_str(&style.wrapped(4, &format!("note: {note}")));
        }
    }
    let moved: Vec<&str> = steps.iter().filter(|step| step.is_commit_only()).map(|step| step.job.as_str()).collect();
    if !moved.is_empty() {
        text.push_str(&style.wrapped(0, &format!("~ to commit {} alone: {}", short(origin.commit), moved.join(", "))));
    }
    let _ = writeln!(
        text,
        "{} added, {} changed, {} removed, {} unchanged",
        count(Action::Add),
        count(Action::Change),
        count(Action::Remove),
        count(Action::Keep)
    );
    text
}
