//! The wire format of a run report: what happened in one run, for people, `errand runs`, alerts and the watchdog.
//!
//! Versioned: readers refuse a higher [`RunReport::VERSION`]; fields are only ever added within one version.
//! Times are UTC (RFC 3339), durations milliseconds, sizes bytes, rows counts. No secret stands in a report.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::failure::Failure;

/// One run, from checkout to the last step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunReport {
    /// Version of this format, [`Self::VERSION`].
    pub version: u32,
    /// Id of the run, sortable by time.
    pub run_id: String,
    /// Name of the job.
    pub job: String,
    /// Environment of `errand.yaml` whose connections were used.
    pub environment: String,
    /// Version of `errand` that ran it.
    pub errand_version: String,
    /// Where the definition came from; absent when checkout failed before it was known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkout: Option<CheckoutReport>,
    /// The span of time the run is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<IntervalReport>,
    /// When the schedule wanted it to start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduled_at: Option<Timestamp>,
    /// ARN of the execution of the state machine whose task it was; absent when it ran by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub execution: Option<String>,
    /// Input values after defaults.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub inputs: BTreeMap<String, serde_json::Value>,
    /// Names of the inputs whose values are not the job's defaults: such a run does other work than its schedule's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub chosen: Vec<String>,
    /// The steps that were asked for; all of them when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub only: Vec<String>,
    /// Attempt of the whole run, from 1.
    pub attempt: u32,
    /// Start of the runner.
    pub started_at: Timestamp,
    /// End of the last step.
    pub finished_at: Timestamp,
    /// Wall time.
    pub duration_ms: u64,
    /// How it ended.
    pub outcome: Outcome,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// What does not fail the run but wants reading.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// Every step of the definition, in its order.
    pub steps: Vec<StepReport>,
    /// Highest resident memory of the runner, as the kernel counts it.
    pub peak_memory_bytes: u64,
}

impl RunReport {
    /// The version this code writes.
    pub const VERSION: u32 = 1;
}

/// The commit that a run used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckoutReport {
    /// URL or directory, without credentials.
    pub repository: String,
    /// Branch, tag or commit as asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// Full commit id; absent for a directory that is no git repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// Whether the directory held changes that no commit holds.
    #[serde(default)]
    pub uncommitted_changes: bool,
}

/// The span of time a run is for: start inclusive, end exclusive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IntervalReport {
    /// Inclusive.
    pub start: Timestamp,
    /// Exclusive.
    pub end: Timestamp,
    /// IANA zone of the schedule, for display.
    pub timezone: String,
}

/// How a run, a step or an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Did its work.
    Succeeded,
    /// The ledger says that an earlier run did this very work; nothing was written.
    AlreadyDone,
    /// Failed, and `on_failure: warn` let the run go on.
    Warned,
    /// Its `if` was false, or a step it needs did not succeed.
    Skipped,
    /// Failed.
    Failed,
    /// Ended by a signal or because the run ended.
    Cancelled,
}

impl Outcome {
    /// The word of the wire format.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::AlreadyDone => "already_done",
            Self::Warned => "warned",
            Self::Skipped => "skipped",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

/// One step with all its attempts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepReport {
    /// Id in the definition.
    pub id: String,
    /// `sql`, `ingest`, `check`, `export` or `command`.
    pub kind: String,
    /// How it ended.
    pub outcome: Outcome,
    /// Why it was skipped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// From the start of the first attempt to the end of the last one.
    pub duration_ms: u64,
    /// What the last attempt moved; for `already_done`, what the ledger recorded.
    #[serde(default)]
    pub rows: Rows,
    /// Bytes read from sources, as they lie there.
    #[serde(default)]
    pub bytes_read: u64,
    /// Bytes written to files.
    #[serde(default)]
    pub bytes_written: u64,
    /// Values for later steps.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub outputs: BTreeMap<String, serde_json::Value>,
    /// Warnings of the last attempt.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// In order.
    pub attempts: Vec<AttemptReport>,
}

/// One attempt of a step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AttemptReport {
    /// From 1.
    pub number: u32,
    /// Start.
    pub started_at: Timestamp,
    /// Wall time.
    pub duration_ms: u64,
    /// How it ended.
    pub outcome: Outcome,
    /// Rows moved by this attempt; of a failed one, how far it came before it was rolled back.
    #[serde(default)]
    pub rows: Rows,
    /// Statements in the order they were sent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub statements: Vec<StatementReport>,
    /// Files read or written.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<FileReport>,
    /// Checks that ran.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<CheckReport>,
    /// What its statements cost, where the warehouse tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<UsageReport>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
}

/// What the warehouse's own records say of statements.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct UsageReport {
    /// Bytes scanned.
    pub bytes_scanned: u64,
    /// Credits: the sum of the two below.
    pub credits: f64,
    /// Credits of cloud services as recorded; what is billed of them may be less.
    #[serde(default)]
    pub credits_cloud_services: f64,
    /// Credits of compute, estimated from the time of execution and the size of the warehouse; idle time is not in them.
    #[serde(default)]
    pub credits_compute: f64,
}

impl std::ops::AddAssign for UsageReport {
    fn add_assign(&mut self, other: Self) {
        self.bytes_scanned += other.bytes_scanned;
        self.credits += other.credits;
        self.credits_cloud_services += other.credits_cloud_services;
        self.credits_compute += other.credits_compute;
    }
}

/// Row accounting. `read = written + deduplicated + rejected`, or the step fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rows {
    /// Records found in the source.
    pub read: u64,
    /// Rows that reached the target.
    pub written: u64,
    /// Rows left out because another row of the same load has their key.
    pub deduplicated: u64,
    /// Rows kept in quarantine or refused.
    pub rejected: u64,
}

/// One statement sent to a warehouse.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatementReport {
    /// The warehouse's id for it, or `<step>.<attempt>.<number>` where it has none.
    pub id: String,
    /// Where it stands, when a file of the repository holds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
    /// Its first line, cut at 80 characters, for recognition.
    pub text: String,
    /// Wall time.
    pub duration_ms: u64,
    /// Rows affected or returned, where the warehouse says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<u64>,
}

/// One file read or written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileReport {
    /// Path under its connection.
    pub path: String,
    /// Bytes as it lies there.
    pub bytes: u64,
    /// What became of its rows.
    pub rows: Rows,
    /// The file ledger knows it: same path, same content; not read again.
    #[serde(default)]
    pub already_loaded: bool,
}

/// One check and what it found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckReport {
    /// Such as `not_null(order_id)`.
    pub name: String,
    /// Whether it held.
    pub passed: bool,
    /// `error` or `warn`.
    pub severity: String,
    /// Rows that break it, where the check counts rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failures: Option<u64>,
    /// What was found, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Table that holds the rows that break it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stored_in: Option<String>,
}
