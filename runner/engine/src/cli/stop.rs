//! `errand stop`: ends the execution of a run, and its task.

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use errand_model::failure::{Failure, FailureKind};
use errand_model::job::Aws;

use super::definitions::Definitions;
use super::follow::Follower;
use super::run::Format;
use super::{Surroundings, print, stack};
use crate::aws::step_functions::Executions;
use crate::repository::Repository;

/// Time that a task has for its end: the longest stop timeout of Fargate, and some.
const PATIENCE: Duration = Duration::from_secs(150);
/// Between two looks at the task.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Ends a run.
#[derive(clap::Args, Clone, Debug)]
pub struct StopArgs {
    /// Id of the run, or name of the backfill.
    pub run: String,
    /// Directory with `errand.yaml`.
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub repo: PathBuf,
    /// Environment of `errand.yaml`; its default without it.
    #[arg(long = "env", value_name = "NAME")]
    pub environment: Option<String>,
}

/// Ends the execution, then its task. The exit code.
///
/// # Errors
///
/// There is no such execution, or a service refuses.
pub fn run(args: &StopArgs, surroundings: &Surroundings, out: &mut dyn Write) -> Result<u8, Failure> {
    let definitions = Definitions::accept(Repository::open(&args.repo)?.project(), surroundings)?;
    let aws = stack::of(&definitions.project, definitions.environment(args.environment.as_ref(), surroundings))?;
    stack::runtime()?.block_on(async {
        let executions = Executions::new(aws.region()).await?;
        let follower = Follower::new(surroundings, &executions, aws, Format::Text).await?;
        let machines = [Some(&aws.state_machine), aws.backfill_state_machine.as_ref()];
        for machine in machines.into_iter().flatten() {
            let execution = Aws::execution(machine, &args.run);
            let Some(found) = executions.describe(&execution).await? else { continue };
            if !found.is_running() {
                let task = follower.task_of(&execution).await.ok().flatten().map(|task| format!("; task {task}")).unwrap_or_default();
                print(out, &format!("{} has ended already: {}{task}\n", args.run, found.status.to_lowercase()))?;
                return Ok(0);
            }
            return stop(&follower, &execution, &args.run, out).await;
        }
        let message = format!("`{}` has no execution `{}`", aws.prefix, args.run);
        Err(Failure::new(FailureKind::Definition, "stop::no_execution", message)
            .help("`errand runs` lists runs; `--env` chooses the environment"))
    })
}

async fn stop(follower: &Follower<'_>, execution: &str, run: &str, out: &mut dyn Write) -> Result<u8, Failure> {
    let reason = "stopped with `errand stop`";
    follower.executions.stop(execution, FailureKind::Cancelled.error_name(), reason).await?;
    follower.say(&format!("execution {run} is stopped"));
    // Stopping an execution makes its state machine stop the task, as far as it can: here that is made sure of.
    let tasks = follower.executions.tasks(execution).await?;
    for task in &tasks {
        let is_over = follower.tasks.describe(task).await?.is_none_or(|task| task.status == "STOPPED");
        if !is_over {
            follower.tasks.stop(task, reason).await?;
            ended(follower, task).await?;
        }
    }
    let told = follower.task_of(execution).await?.map(|task| format!("; task {task}")).unwrap_or_default();
    print(out, &format!("{run} is stopped{told}\n"))?;
    Ok(0)
}

/// Waits for the end of a task.
async fn ended(follower: &Follower<'_>, task: &str) -> Result<(), Failure> {
    let looking = async {
        while follower.tasks.describe(task).await?.is_some_and(|task| task.status != "STOPPED") {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(())
    };
    tokio::time::timeout(PATIENCE, looking).await.unwrap_or_else(|_| {
        let message = format!("task `{task}` has not stopped within {} s", PATIENCE.as_secs());
        Err(Failure::new(FailureKind::Transient, "stop::slow", message).help("look at it again; ECS ends it after its stop timeout"))
    })
}
