//! `errand backfill`: runs of a job for all intervals of its schedule within a span of time, a few side by side.

use std::io::Write;

use errand_model::failure::{Failure, FailureKind};
use errand_model::interval::Interval;
use errand_model::job::Aws;
use errand_model::order::name::{self, Work};
use errand_model::order::{Order, Origin, Trigger};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::follow::Follower;
use super::run::Format;
use super::start::{Found, JobArgs, prepare, start, told};
use super::{Surroundings, print, stack};
use crate::aws::step_functions::{Execution, Executions};
use crate::checkout;
use crate::report::figure;
use crate::run::Request;

/// Most intervals of one execution: its input and its results stay within 256 KiB, its history within 25,000 events.
const MOST: usize = 600;

/// Starts runs for many intervals.
#[derive(clap::Args, Clone, Debug)]
pub struct BackfillArgs {
    /// Which job.
    #[command(flatten)]
    pub job: JobArgs,
    /// Intervals that begin there or later: a date or a time.
    #[arg(long, value_name = "TIME")]
    pub from: String,
    /// Intervals that end there or earlier: a date or a time.
    #[arg(long, value_name = "TIME")]
    pub to: String,
    /// Most runs at once; never more than `concurrency.limit` of the job.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=40))]
    pub parallel: u32,
}

/// Starts the backfill. The exit code: 0, or with `--follow` how it ended.
///
/// # Errors
///
/// The job cannot be started, or a service refuses. With `--follow` also when not all of its runs succeeded.
pub fn run(args: &BackfillArgs, surroundings: &Surroundings, out: &mut dyn Write) -> Result<u8, Failure> {
    checkout::prepare()?;
    let prepared = prepare(&args.job, None, surroundings)?;
    let request = &prepared.request;
    let aws = stack::of(&request.project, &request.environment)?;
    let Some(machine) = &aws.backfill_state_machine else {
        let message = format!("environment `{}` has no state machine for backfills", request.environment);
        return Err(Failure::new(FailureKind::Definition, "backfill::no_state_machine", message)
            .help("add `backfill_state_machine`, an output of the stack, to `aws` in `errand.yaml`"));
    };
    let intervals = intervals(args, request)?;
    let (name, input) = input(args, request, aws, &intervals)?;
    stack::runtime()?.block_on(async {
        let executions = Executions::new(aws.region()).await?;
        let (run, found) = start(&executions, aws, machine, &name, &input).await?;
        let follower = Follower::new(surroundings, &executions, aws, args.job.format).await?;
        let of = format!("{} of `{}`", figure::plural(intervals.len(), "interval"), request.job.name);
        match found {
            Found::New => {
                let at_once = side_by_side(args, request);
                follower.say(&format!("started backfill {run}: {of}, {at_once} at once"));
                if at_once < args.parallel {
                    follower.say(&format!("more would wait for each other: `concurrency.limit` of `{}` is {at_once}", request.job.name));
                }
            }
            Found::Running => follower.say(&format!("backfill {run} is at work on it already: {of}")),
            Found::Done => follower.say(&format!("backfill {run} did it; nothing was started")),
        }
        let execution = Aws::execution(machine, &run);
        if !args.job.follow {
            let told = match args.job.format {
                Format::Text => format!("{run}\n"),
                Format::Json => format!("{:#}\n", json!({ "run_id": run, "execution": execution, "intervals": intervals.len() })),
            };
            print(out, &told)?;
            return Ok(0);
        }
        finish(&run, &follower.to_its_end(&execution).await?, args.job.format, out)
    })
}

/// The intervals of the schedule, oldest first.
fn intervals(args: &BackfillArgs, request: &Request) -> Result<Vec<Interval>, Failure> {
    let refused = |code: &str, message: String, help: &str| Err(Failure::new(FailureKind::Definition, code, message).help(help));
    let job = &request.job.name;
    let Some(schedule) = &request.job.schedule else {
        return refused(
            "backfill::no_schedule",
            format!("job `{job}` has no schedule that tells its intervals"),
            "start it with `errand start --interval`",
        );
    };
    let span = Interval::parse(&format!("{}/{}", args.from, args.to), schedule.timezone());
    let span = span.map_err(|why| Failure::new(FailureKind::Definition, "run::bad_interval", why))?;
    let intervals: Vec<Interval> = schedule.intervals(span.start, span.end).take(MOST + 1).collect();
    if intervals.is_empty() {
        let message = format!("job `{job}` has no interval from {} to {}", args.from, args.to);
        return refused("backfill::no_interval", message, "an interval begins at one time of the schedule and ends at the next");
    }
    if intervals.len() > MOST {
        let message = format!("from {} to {} are more than {MOST} intervals", args.from, args.to);
        return refused("backfill::too_many", message, "backfill shorter spans of time, one after the other");
    }
    Ok(intervals)
}

/// Name and input of the execution. The same work has the same name.
fn input(args: &BackfillArgs, request: &Request, aws: &Aws, intervals: &[Interval]) -> Result<(String, String), Failure> {
    let (commit, job, environment) = (stack::commit(&request.checkout)?, request.job.name.as_str(), request.environment.as_str());
    let origin = Origin { environment, aws, commit };
    let order = Order { trigger: Trigger::Backfill, ..Order::by_hand(origin, &request.job, "", &request.inputs)? };
    let items: Vec<serde_json::Value> = intervals
        .iter()
        .map(|interval| {
            let name = name::of(&Work { job, environment, commit, inputs: &request.inputs, interval });
            json!({ "name": name, "interval": told(interval), "scheduled_at": interval.end.to_string() })
        })
        .collect();
    let work = json!({ "run": order, "intervals": items }).to_string();
    let digest: String = Sha256::digest(work).iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    let input = json!({ "run": order, "intervals": items, "concurrency": side_by_side(args, request) });
    Ok((format!("{job}-backfill-{digest}"), input.to_string()))
}

/// Runs past the limit of the group would only wait for each other, each in a task that costs, and run out of time.
fn side_by_side(args: &BackfillArgs, request: &Request) -> u32 {
    args.parallel.min(request.job.concurrency.limit)
}

fn finish(run: &str, ended: &Execution, format: Format, out: &mut dyn Write) -> Result<u8, Failure> {
    let said = ended.output.as_deref().or(ended.cause.as_deref()).unwrap_or_default();
    let summary: serde_json::Value = serde_json::from_str(said).unwrap_or_default();
    let told = match format {
        Format::Json => format!("{summary:#}\n"),
        Format::Text => {
            let failed = summary["failed_intervals"].as_array().into_iter().flatten().filter_map(serde_json::Value::as_str);
            let lines: String = failed.map(|interval| format!("failed: {interval}\n")).collect();
            format!(
                "{run}: {} intervals, {} done before, {} failed\n{lines}",
                summary["intervals"], summary["already_done"], summary["failed"]
            )
        }
    };
    print(out, &told)?;
    if ended.status == "SUCCEEDED" {
        return Ok(0);
    }
    let message = format!("backfill `{run}` ended as {}", ended.error.as_deref().unwrap_or(&ended.status));
    Err(Failure::new(FailureKind::Permanent, "backfill::incomplete", message)
        .help("mend what fails, then run the same command again: it runs only what is not done"))
}
