//! The input of an execution: which job, from where, for what, on what machine. `errand deploy` writes it into schedules, `errand start` and
//! `errand backfill` send it, and the watchdog starts missed intervals with it.

pub mod name;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::document::job::Image;
use crate::failure::{Failure, FailureKind};
use crate::job::{Aws, Job, Resources};

/// Version of the format.
const VERSION: u32 = 1;
/// What EventBridge Scheduler puts the time of the schedule in place of.
const SCHEDULED_TIME: &str = "<aws.scheduler.scheduled-time>";
/// Most bytes of inputs: all variables of a container have 8,192 together, and the task token up to 2,048 of them.
const MAX_INPUTS: usize = 2_048;

/// Who starts an execution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trigger {
    /// The schedule of the job.
    Schedule,
    /// The watchdog, for an interval that the schedule did not start.
    Catchup,
    /// A person.
    Manual,
    /// A backfill, which a person started.
    Backfill,
}

impl Trigger {
    /// The trigger of this word. Any other word is of somebody who started an execution by hand.
    #[must_use]
    pub fn of_word(word: &str) -> Self {
        match word {
            "schedule" => Self::Schedule,
            "catchup" => Self::Catchup,
            "backfill" => Self::Backfill,
            _ => Self::Manual,
        }
    }

    /// Whether a person started it, and means it.
    #[must_use]
    pub const fn is_by_hand(self) -> bool {
        match self {
            Self::Manual | Self::Backfill => true,
            Self::Schedule | Self::Catchup => false,
        }
    }
}

/// The input of one execution. Every key is always there; texts may be empty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Version of this format.
    pub version: u32,
    /// Name of the job.
    pub job: String,
    /// Environment of `errand.yaml`.
    pub environment: String,
    /// URL of the job repository.
    pub repository: String,
    /// Full commit id.
    #[serde(rename = "ref")]
    pub reference: String,
    /// When the job was due, in RFC 3339.
    pub scheduled_at: String,
    /// `<start>/<end>`; without it, the interval that ended when the job was due.
    pub interval: String,
    /// JSON as text.
    pub inputs: String,
    /// Who starts it.
    pub trigger: Trigger,
    /// Family of the task definition.
    pub task_definition: String,
    /// `FARGATE` or `FARGATE_SPOT`.
    pub capacity_provider: String,
    /// Longest time for the whole run, in seconds.
    pub timeout_seconds: u64,
    /// Most attempts of the whole run.
    pub max_attempts: u32,
}

/// From where jobs come.
#[derive(Clone, Copy, Debug)]
pub struct Origin<'a> {
    /// Environment of `errand.yaml`.
    pub environment: &'a str,
    /// The stack of the environment.
    pub aws: &'a Aws,
    /// Full commit id.
    pub commit: &'a str,
}

impl Order {
    /// What a schedule starts a job with.
    ///
    /// # Errors
    ///
    /// As `Definition` with `deploy::size`.
    pub fn scheduled(origin: Origin<'_>, job: &Job) -> Result<Self, Failure> {
        Ok(Self {
            version: VERSION,
            job: job.name.to_string(),
            environment: origin.environment.to_owned(),
            repository: origin.aws.repository.clone(),
            reference: origin.commit.to_owned(),
            scheduled_at: SCHEDULED_TIME.to_owned(),
            interval: String::new(),
            inputs: String::new(),
            trigger: Trigger::Schedule,
            task_definition: task_definition(&origin.aws.prefix, job)?,
            capacity_provider: if job.resources.spot { "FARGATE_SPOT" } else { "FARGATE" }.to_owned(),
            timeout_seconds: job.timeout.as_secs(),
            max_attempts: attempts(job),
        })
    }

    /// What a person starts a job with.
    ///
    /// # Errors
    ///
    /// As `Definition` with `deploy::size` or `start::inputs_too_long`.
    pub fn by_hand(origin: Origin<'_>, job: &Job, interval: &str, inputs: &BTreeMap<String, Value>) -> Result<Self, Failure> {
        let inputs = if inputs.is_empty() { String::new() } else { serde_json::to_string(inputs).unwrap_or_default() };
        if inputs.len() > MAX_INPUTS {
            let message = format!("the inputs take {} bytes; a task can be given {MAX_INPUTS}", inputs.len());
            return Err(
                Failure::new(FailureKind::Definition, "start::inputs_too_long", message).help("give the name of a file that holds them")
            );
        }
        let (scheduled_at, trigger) = (String::new(), Trigger::Manual);
        Ok(Self { scheduled_at, interval: interval.to_owned(), inputs, trigger, ..Self::scheduled(origin, job)? })
    }

    /// What the watchdog starts a job with that was due at `due`: what its schedule would have sent then.
    #[must_use]
    pub fn missed(self, due: jiff::Timestamp) -> Self {
        Self { scheduled_at: due.to_string(), trigger: Trigger::Catchup, ..self }
    }

    /// The JSON that is sent.
    #[must_use]
    pub fn json(&self) -> String {
        serde_json::to_string(self).expect("an order is plain data")
    }
}

/// The most attempts of a whole run that a transient failure may take: as many as the most patient of its steps.
fn attempts(job: &Job) -> u32 {
    job.steps.iter().map(|step| step.retry.max_attempts).max().unwrap_or(1)
}

/// Megabytes that Fargate offers with so many CPU units: from, to, step.
const SIZES: [(u32, u64, u64, u64); 6] = [
    (256, 512, 2_048, 512),
    (512, 1_024, 4_096, 1_024),
    (1_024, 2_048, 8_192, 1_024),
    (2_048, 4_096, 16_384, 1_024),
    (4_096, 8_192, 30_720, 1_024),
    (8_192, 16_384, 61_440, 4_096),
];

/// The smallest size that Fargate offers with at least what a job asks for: CPU units and megabytes. None where all are too small.
#[must_use]
pub fn size(resources: &Resources) -> Option<(u32, u64)> {
    let (units, wanted) = (resources.cpu_millis * 1024 / 1000, resources.memory_bytes.div_ceil(1 << 20));
    let fitting = |&(cpu, least, most, step): &(u32, u64, u64, u64)| {
        let megabytes = least + wanted.saturating_sub(least).div_ceil(step) * step;
        // The one gap between two sizes.
        let megabytes = if (cpu, megabytes) == (256, 1_536) { 2_048 } else { megabytes };
        (cpu >= units && megabytes <= most).then_some((cpu, megabytes))
    };
    SIZES.iter().find_map(fitting)
}

/// The family of the task definition of a size: `errand-prod-256-512`, `errand-prod-python-256-512`.
fn task_definition(prefix: &str, job: &Job) -> Result<String, Failure> {
    let Resources { cpu_millis, memory_bytes, image, .. } = &job.resources;
    let (units, wanted) = (cpu_millis * 1024 / 1000, memory_bytes.div_ceil(1 << 20));
    let found = SIZES.iter().find(|(cpu, ..)| *cpu == units);
    let (_, least, most, step) = found.copied().unwrap_or((units, wanted, wanted, 1));
    let is_offered = size(&job.resources) == Some((units, wanted));
    if !is_offered {
        let message = format!("job `{}`: Fargate offers no {wanted} MB with {} CPU", job.name, f64::from(*cpu_millis) / 1000.0);
        let help = format!("with this `cpu`, `memory` is from {least}MB to {most}MB in steps of {step}MB");
        return Err(Failure::new(FailureKind::Definition, "deploy::size", message).help(help));
    }
    let image = match image {
        Image::Slim => "",
        Image::Python => "python-",
    };
    Ok(format!("{prefix}-{image}{units}-{wanted}"))
}
