//! `errand start`: starts a run in the stack of an environment, and follows it to its end.

use std::io::Write;

use errand_model::failure::{Failure, FailureKind};
use errand_model::interval::Interval;
use errand_model::job::Aws;
use errand_model::order::name::{self, Work};
use errand_model::order::{Order, Origin};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::follow::Follower;
use super::run::{Format, show_problems};
use super::selection::{Outline, Prepared, Selection, name_and_value};
use super::{Surroundings, print, stack};
use crate::aws::step_functions::{Execution, Executions, Started};
use crate::checkout;
use crate::report::store::ReportStore;

/// Most starts of the same work.
const MOST_STARTS: u32 = 50;

/// Which job of which stack.
#[derive(clap::Args, Clone, Debug)]
pub struct JobArgs {
    /// Name of the job.
    pub job: String,
    /// Job repository: a directory, or a URL (https, ssh, file).
    #[arg(long, value_name = "DIR|URL", default_value = ".")]
    pub repo: String,
    /// Branch, tag or commit; the commit that a directory stands on without it.
    #[arg(long = "ref", value_name = "REF")]
    pub reference: Option<String>,
    /// Environment of `errand.yaml`; its default without it.
    #[arg(long = "env", value_name = "NAME")]
    pub environment: Option<String>,
    /// Value of an input of the job; may be repeated.
    #[arg(long = "input", value_name = "NAME=VALUE", value_parser = name_and_value)]
    pub inputs: Vec<(String, String)>,
    /// Follow it to its end.
    #[arg(long)]
    pub follow: bool,
    /// How it is told on stdout.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

/// Starts a run.
#[derive(clap::Args, Clone, Debug)]
pub struct StartArgs {
    /// Which job.
    #[command(flatten)]
    pub job: JobArgs,
    /// `2026-11-19`, `2026-11` or `<start>/<end>`. Without it: the last complete one of the schedule, or this moment.
    #[arg(long, value_name = "SPAN")]
    pub interval: Option<String>,
}

/// Starts the run. The exit code: 0, or with `--follow` that of the run.
///
/// # Errors
///
/// The job cannot be started, or a service refuses. With `--follow` also the failure of a run that left no report.
pub fn run(args: &StartArgs, surroundings: &Surroundings, out: &mut dyn Write) -> Result<u8, Failure> {
    checkout::prepare()?;
    let prepared = prepare(&args.job, args.interval.as_deref(), surroundings)?;
    let request = &prepared.request;
    let aws = stack::of(&request.project, &request.environment)?;
    let interval = whole_seconds(&request.interval);
    let commit = stack::commit(&request.checkout)?;
    let origin = Origin { environment: &request.environment, aws, commit };
    let order = Order::by_hand(origin, &request.job, &told(&interval), &request.inputs)?;
    let job = request.job.name.as_str();
    let work = Work { job, environment: &request.environment, commit, inputs: &request.inputs, interval: &interval };
    let reports = ReportStore::of(&request.project, &request.environment, &request.state_dir)?;
    stack::runtime()?.block_on(async {
        let executions = Executions::new(aws.region()).await?;
        let (run, found) = start(&executions, aws, &aws.state_machine, &name::of(&work), &order.json()).await?;
        let execution = Aws::execution(&aws.state_machine, &run);
        let follower = Follower::new(surroundings, &executions, aws, args.job.format).await?;
        match found {
            Found::New => follower.say(&format!("started run {run} for {}", told(&interval))),
            Found::Running => follower.say(&format!("run {run} is at work on it already")),
            Found::Done => follower.say(&format!("run {run} did it; nothing was started")),
        }
        if !args.job.follow && found != Found::Done {
            print(out, &started(&run, &execution, args.job.format))?;
            return Ok(0);
        }
        let ended = follower.to_its_end(&execution).await?;
        follower.tell_end(&run, &execution, &ended, &reports, out).await
    })
}

/// Reads the job at the commit, as `errand run` would.
pub(super) fn prepare(args: &JobArgs, interval: Option<&str>, surroundings: &Surroundings) -> Result<Prepared, Failure> {
    let selection = Selection {
        job: args.job.clone(),
        repo: args.repo.clone(),
        reference: args.reference.clone(),
        environment: args.environment.clone(),
        interval: interval.map(str::to_owned),
        inputs: args.inputs.clone(),
        steps: Vec::new(),
        attempt: None,
        run_id: None,
    };
    let mut outline = Outline::new(&selection, surroundings)?;
    outline.prepare(&selection, surroundings, &CancellationToken::new()).map_err(|refusal| {
        show_problems(&refusal, surroundings);
        refusal.into_failure()
    })
}

/// What a start found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Nothing: it is new.
    New,
    /// The same work is being done.
    Running,
    /// The same work was done.
    Done,
}

/// Starts an execution under the first number of a name that no execution has which left the work undone. The name with its number.
///
/// Fails with `aws::*`, and as `Definition` with `start::too_often`.
pub(super) async fn start(
    executions: &Executions,
    aws: &Aws,
    state_machine: &str,
    name: &str,
    input: &str,
) -> Result<(String, Found), Failure> {
    for number in 1..=MOST_STARTS {
        let run = name::numbered(name, number);
        match executions.describe(&Aws::execution(state_machine, &run)).await? {
            Some(found) if found.is_running() => return Ok((run, Found::Running)),
            Some(found) if did(&found) => return Ok((run, Found::Done)),
            Some(_) => continue,
            None => {}
        }
        match executions.start(state_machine, &run, input).await? {
            Started::Runs(_) => return Ok((run, Found::New)),
            // Somebody else started the same since.
            Started::Exists => return Ok((run, Found::Running)),
        }
    }
    let message = format!("`{name}` was started {MOST_STARTS} times in `{}`, and is not done", aws.prefix);
    Err(Failure::new(FailureKind::Definition, "start::too_often", message).help("mend what fails; a new commit starts from the beginning"))
}

/// Whether an execution did its work. One that ended well may have left it to a run that failed later.
fn did(found: &Execution) -> bool {
    let output = found.output.as_deref().and_then(|output| serde_json::from_str::<Value>(output).ok()).unwrap_or_default();
    found.status == "SUCCEEDED" && output["done"] == true
}

/// A job without a schedule runs for the moment of its start: whole seconds are enough to tell one from another.
fn whole_seconds(interval: &Interval) -> Interval {
    let whole = |moment: Timestamp| Timestamp::from_second(moment.as_second()).unwrap_or(moment);
    if interval.is_instant() { Interval::instant(whole(interval.start), &interval.timezone) } else { interval.clone() }
}

/// An interval as a task reads it.
pub(super) fn told(interval: &Interval) -> String {
    format!("{}/{}", interval.start, interval.end)
}

fn started(run: &str, execution: &str, format: Format) -> String {
    match format {
        Format::Text => format!("{run}\n"),
        Format::Json => format!("{:#}\n", json!({ "run_id": run, "execution": execution })),
    }
}
