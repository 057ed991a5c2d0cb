//! One run of a job: what to run (`plan`), running it (`execute`), and what its steps share (`context`).

pub mod context;
mod execute;
mod graph;
mod memory;
mod plan;
mod usage;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use errand_model::interval::Interval;
use errand_model::job::{Job, Project};
use errand_model::report::CheckoutReport;
use jiff::Timestamp;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

pub use execute::{execute, timed_out};
pub use memory::peak_bytes;
pub use plan::{Plan, PlannedStep, plan};

use crate::clock::Clock;
use crate::progress::Progress;
use crate::pulse::Pulse;
use crate::secret::Secrets;

/// Everything that one run needs, decided before it starts.
pub struct Request {
    /// Root of the checkout.
    pub root: PathBuf,
    /// The project file.
    pub project: Project,
    /// The job.
    pub job: Job,
    /// Name of the environment whose connections are used.
    pub environment: String,
    /// Where the definition came from.
    pub checkout: CheckoutReport,
    /// The span of time that the run is for.
    pub interval: Interval,
    /// When the schedule wanted it to start.
    pub scheduled_at: Option<Timestamp>,
    /// ARN of the execution whose task this is.
    pub execution: Option<String>,
    /// Input values, defaults included.
    pub inputs: BTreeMap<String, Value>,
    /// Only these steps and what they need; all of them when empty.
    pub only: Vec<String>,
    /// Id of the run.
    pub run_id: String,
    /// Attempt of the whole run, from 1.
    pub attempt: u32,
    /// The time.
    pub clock: Clock,
    /// Secrets by name.
    pub secrets: Secrets,
    /// What a person at a terminal sees meanwhile.
    pub progress: Progress,
    /// Signs of life, for who listens.
    pub pulse: Pulse,
    /// Ends the run: statements are cancelled and rolled back, and the report says so.
    pub cancelled: CancellationToken,
    /// Start of the runner.
    pub started_at: Timestamp,
    /// Where relative paths of connections start.
    pub state_dir: PathBuf,
    /// Where programs of `command` steps are looked for.
    pub search_path: OsString,
}
