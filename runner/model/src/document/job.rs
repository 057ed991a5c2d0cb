//! `jobs/<name>/job.yaml` as written.

use crate::decode::{Entries, Scalar, Spanned, document, words};
use crate::value::{ByteSize, Label, Name, TimeSpan};

use super::step::StepDocument;

document! {
    /// A job: what to run, when, for whom, and what to do when it fails.
    pub struct JobDocument as "the job" {
        /// Version of this format: 1.
        required version: u32,
        /// Name of the job; equals the name of its folder.
        required name: Name,
        /// What the job is for, in one sentence.
        optional description: String,
        /// The contact that is on call for the job.
        required owner: Label,
        /// The contact that waits for the job's tables and reads the impact of a failure.
        optional product_owner: Label,
        /// Where on-call reads what to do.
        optional runbook: String,
        /// Words to find the job by.
        optional tags: Vec<Spanned<String>>,
        /// When the job runs; without it, the job is started by hand.
        optional schedule: ScheduleDocument,
        /// What becomes of intervals that were missed.
        optional catchup: Catchup,
        /// How many runs at once, and what a start does that finds the limit reached.
        optional concurrency: ConcurrencyDocument,
        /// When the job is late.
        optional sla: SlaDocument,
        /// Longest time for the whole run.
        optional timeout: TimeSpan,
        /// How often and when a failed step is tried again.
        optional retry: RetryDocument,
        /// What one run needs of a machine.
        optional resources: ResourcesDocument,
        /// Typed parameters of a run.
        optional inputs: Entries<InputDocument>,
        /// Constants.
        optional vars: Entries<Scalar>,
        /// Who hears of what; by default the owner hears of failure, late and recovered.
        optional alerts: Vec<AlertDocument>,
        /// The steps, in order.
        required steps: Vec<Spanned<StepDocument>>,
    }
}

document! {
    /// When a job runs.
    pub struct ScheduleDocument as "`schedule`" {
        /// Five fields: minute, hour, day of month, month, day of week.
        required cron: String,
        /// IANA time zone in which the cron expression counts.
        optional timezone: String,
    }
}

words! {
    /// What becomes of missed intervals.
    pub enum Catchup as "a way to catch up" {
        /// They stay missed.
        None = "none",
        /// The last one is run.
        Last = "last",
        /// Each is run, oldest first.
        All = "all",
    }
}

document! {
    /// How many runs at once.
    pub struct ConcurrencyDocument as "`concurrency`" {
        /// Runs of all jobs with the same group count together; by default the job's own name.
        optional group: Name,
        /// Most runs at once; 1 by default.
        optional limit: u32,
        /// What a start does that finds the limit reached; `skip` by default.
        optional on_overlap: OnOverlap,
    }
}

words! {
    /// What a start does that finds the limit of its group reached.
    pub enum OnOverlap as "a way to treat overlap" {
        /// Waits.
        Queue = "queue",
        /// Ends quietly.
        Skip = "skip",
        /// Ends the older run.
        Cancel = "cancel",
    }
}

document! {
    /// When a job is late.
    pub struct SlaDocument as "`sla`" {
        /// It starts within this time of its schedule.
        optional start_within: TimeSpan,
        /// It finishes within this time of its schedule.
        optional finish_within: TimeSpan,
        /// Its last success is never older than this.
        optional max_time_since_success: TimeSpan,
    }
}

document! {
    /// How a failed step is tried again.
    pub struct RetryDocument as "`retry`" {
        /// Attempts in all, the first included; 1 by default.
        optional max_attempts: u32,
        /// How the pause grows; `exponential` by default.
        optional backoff: Backoff,
        /// First pause; `10s` by default.
        optional interval: TimeSpan,
        /// Longest pause; `10m` by default.
        optional max_interval: TimeSpan,
        /// Which failures are tried again; `transient` by default.
        optional on: RetryOn,
    }
}

words! {
    /// How the pause between attempts grows.
    pub enum Backoff as "a backoff" {
        /// The same each time.
        Constant = "constant",
        /// Doubled each time.
        Exponential = "exponential",
    }
}

words! {
    /// Which failures are tried again.
    pub enum RetryOn as "a class of failures" {
        /// Those likely to pass by themselves.
        Transient = "transient",
        /// Every one that a second attempt could change.
        Any = "any",
    }
}

document! {
    /// What one run needs of a machine.
    pub struct ResourcesDocument as "`resources`" {
        /// Virtual CPUs, such as `"0.25"`; 0.25 by default.
        optional cpu: Cpu,
        /// Memory; `512MB` by default.
        optional memory: ByteSize,
        /// Whether cheaper capacity that may be taken away is good enough.
        optional spot: bool,
        /// Which image runs it; `slim` by default.
        optional image: Image,
    }
}

/// Virtual CPUs in thousandths: one of the sizes that a task can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cpu(pub u32);

impl Cpu {
    const SIZES: [(&'static str, u32); 6] = [("0.25", 250), ("0.5", 500), ("1", 1000), ("2", 2000), ("4", 4000), ("8", 8000)];

    fn parse(text: &str) -> Result<Self, String> {
        let size = Self::SIZES.iter().find(|(written, _)| *written == text).map(|(_, size)| Self(*size));
        size.ok_or_else(|| "a CPU size: 0.25, 0.5, 1, 2, 4, 8".to_owned())
    }
}

impl crate::decode::Decode for Cpu {
    fn decode(node: &crate::yaml::Node, cx: &mut crate::decode::Context<'_>) -> Option<Self> {
        crate::decode::parsed(node, cx, Self::parse)
    }
}

impl schemars::JsonSchema for Cpu {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Cpu".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "enum": [0.25, 0.5, 1, 2, 4, 8] })
    }
}

words! {
    /// Which image runs a job.
    pub enum Image as "an image" {
        /// The runner alone.
        Slim = "slim",
        /// The runner with a Python for `command` steps.
        Python = "python",
    }
}

document! {
    /// One typed parameter.
    pub struct InputDocument as "the input" {
        /// What it may hold.
        required r#type: InputType,
        /// What it is for.
        optional description: String,
        /// The values it may have.
        optional r#enum: Vec<Spanned<Scalar>>,
        /// Its value when a run gives none; without it, a run must give one.
        optional default: Scalar,
    }
}

words! {
    /// What an input may hold.
    pub enum InputType as "an input type" {
        /// Text.
        String = "string",
        /// A whole number of 64 bits.
        Integer = "integer",
        /// A number.
        Number = "number",
        /// `true` or `false`.
        Boolean = "boolean",
        /// A date: `2026-11-19`.
        Date = "date",
    }
}

document! {
    /// Who hears of what.
    pub struct AlertDocument as "the alert" {
        /// The events.
        required on: Vec<Spanned<AlertEvent>>,
        /// `owner`, `product_owner` or contacts.
        required to: Vec<Spanned<Label>>,
    }
}

words! {
    /// What people are told of.
    pub enum AlertEvent as "an event" {
        /// A run failed.
        Failure = "failure",
        /// A run is late or never came.
        Late = "late",
        /// A run succeeded with warnings.
        Warning = "warning",
        /// A run succeeded after a failure.
        Recovered = "recovered",
    }
}
