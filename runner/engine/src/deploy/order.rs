//! The input of an execution: which job, from where, for what, on what machine.

use std::collections::BTreeMap;

use errand_model::document::job::Image;
use errand_model::failure::{Failure, FailureKind};
use errand_model::job::{Aws, Job, Resources};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Version of the format.
const VERSION: u32 = 1;
/// What EventBridge Scheduler puts the time of the schedule in place of.
pub(crate) const SCHEDULED_TIME: &str = "<aws.scheduler.scheduled-time>";
/// Most bytes of inputs: all variables of a container have 8,192 together, and the task token up to 2,048 of them.
const MAX_INPUTS: usize = 2_048;

/// The input of one execution. Every key is always there; texts may be empty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) version: u32,
    pub(crate) job: String,
    pub(crate) environment: String,
    pub(crate) repository: String,
    #[serde(rename = "ref")]
    pub(crate) reference: String,
    pub(crate) scheduled_at: String,
    pub(crate) interval: String,
    /// JSON as text.
    pub(crate) inputs: String,
    pub(crate) trigger: String,
    pub(crate) task_definition: String,
    pub(crate) capacity_provider: String,
    pub(crate) timeout_seconds: u64,
    pub(crate) max_attempts: u32,
}

/// From where jobs come.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Origin<'a> {
    pub(crate) environment: &'a str,
    pub(crate) aws: &'a Aws,
    pub(crate) commit: &'a str,
}

impl Order {
    /// What a schedule starts a job with.
    ///
    /// Fails as `Definition` with `deploy::size`.
    pub(crate) fn scheduled(origin: Origin<'_>, job: &Job) -> Result<Self, Failure> {
        Ok(Self {
            version: VERSION,
            job: job.name.to_string(),
            environment: origin.environment.to_owned(),
            repository: origin.aws.repository.clone(),
            reference: origin.commit.to_owned(),
            scheduled_at: SCHEDULED_TIME.to_owned(),
            interval: String::new(),
            inputs: String::new(),
            trigger: "schedule".to_owned(),
            task_definition: task_definition(&origin.aws.prefix, job)?,
            capacity_provider: if job.resources.spot { "FARGATE_SPOT" } else { "FARGATE" }.to_owned(),
            timeout_seconds: job.timeout.as_secs(),
            max_attempts: attempts(job),
        })
    }

    /// What a person starts a job with.
    ///
    /// Fails as `Definition` with `deploy::size` or `start::inputs_too_long`.
    pub(crate) fn by_hand(origin: Origin<'_>, job: &Job, interval: &str, inputs: &BTreeMap<String, Value>) -> Result<Self, Failure> {
        let inputs = if inputs.is_empty() { String::new() } else { serde_json::to_string(inputs).unwrap_or_default() };
        if inputs.len() > MAX_INPUTS {
            let message = format!("the inputs take {} bytes; a task can be given {MAX_INPUTS}", inputs.len());
            return Err(
                Failure::new(FailureKind::Definition, "start::inputs_too_long", message).help("give the name of a file that holds them")
            );
        }
        let (scheduled_at, trigger) = (String::new(), "manual".to_owned());
        Ok(Self { scheduled_at, interval: interval.to_owned(), inputs, trigger, ..Self::scheduled(origin, job)? })
    }

    /// The JSON that is sent.
    pub(crate) fn json(&self) -> String {
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

/// The family of the task definition of a size: `errand-prod-256-512`, `errand-prod-python-256-512`.
fn task_definition(prefix: &str, job: &Job) -> Result<String, Failure> {
    let Resources { cpu_millis, memory_bytes, image, .. } = &job.resources;
    let (units, wanted) = (cpu_millis * 1024 / 1000, memory_bytes.div_ceil(1 << 20));
    let found = SIZES.iter().find(|(cpu, ..)| *cpu == units);
    let (_, least, most, step) = found.copied().unwrap_or((units, wanted, wanted, 1));
    let is_offered = (least..=most).contains(&wanted) && ((wanted - least) % step == 0 && (units != 256 || wanted != 1_536));
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
