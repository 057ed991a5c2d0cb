//! A job that is valid by construction: what `validate` makes of documents, and all that the engine reads.

mod project;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde_json::Value;

use crate::document::job::{AlertEvent, Backoff, Catchup, Image, InputType, OnOverlap, RetryOn};
use crate::document::step::{
    CheckSeverity, Compression, Encoding, ExportFormat, Format, Mode, OnEmpty, OnFailure, SchemaContract, Through,
};
use crate::failure::Place;
use crate::interval::Schedule;
use crate::template::{Expression, Template};
use crate::value::{ColumnType, Label, Limit, Name};

pub use project::{Aws, Connection, Contact, Credential, Environment, Project, Redshift, S3, Server, Snowflake, Tls, Webhook, WebhookUrl};

/// One job.
#[derive(Clone, Debug)]
pub struct Job {
    /// Its name.
    pub name: Name,
    /// What it is for.
    pub description: Option<String>,
    /// The contact on call.
    pub owner: Label,
    /// The contact that reads the impact.
    pub product_owner: Option<Label>,
    /// Where on-call reads what to do.
    pub runbook: Option<String>,
    /// Words to find it by.
    pub tags: Vec<String>,
    /// When it runs.
    pub schedule: Option<Schedule>,
    /// What becomes of missed intervals.
    pub catchup: Catchup,
    /// How many runs at once.
    pub concurrency: Concurrency,
    /// When it is late.
    pub sla: Sla,
    /// Longest time for a run.
    pub timeout: Duration,
    /// What it needs of a machine.
    pub resources: Resources,
    /// Typed parameters.
    pub inputs: Vec<Input>,
    /// Constants.
    pub vars: BTreeMap<String, Value>,
    /// Who hears of what.
    pub alerts: Vec<Alert>,
    /// The steps, each after all that it needs only by `needs`, in the author's order.
    pub steps: Vec<Step>,
}

impl Job {
    /// Names of the inputs whose values are not their defaults.
    #[must_use]
    pub fn chosen(&self, values: &BTreeMap<String, Value>) -> Vec<String> {
        let is_default =
            |name: &str, value: &Value| self.inputs.iter().any(|input| input.name == name && input.default.as_ref() == Some(value));
        values.iter().filter(|(name, value)| !is_default(name, value)).map(|(name, _)| name.clone()).collect()
    }
}

/// How many runs at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Concurrency {
    /// Runs with the same group count together.
    pub group: Name,
    /// Most runs at once.
    pub limit: u32,
    /// What a start does that finds the limit reached.
    pub on_overlap: OnOverlap,
}

/// When a job is late.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sla {
    /// Starts within this time of its schedule.
    pub start_within: Option<Duration>,
    /// Finishes within this time of its schedule.
    pub finish_within: Option<Duration>,
    /// Its last success is never older than this.
    pub max_time_since_success: Option<Duration>,
}

/// What one run needs of a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resources {
    /// Thousandths of a virtual CPU.
    pub cpu_millis: u32,
    /// Bytes.
    pub memory_bytes: u64,
    /// Cheaper capacity that may be taken away.
    pub spot: bool,
    /// The image.
    pub image: Image,
}

/// One typed parameter.
#[derive(Clone, Debug)]
pub struct Input {
    /// Its name.
    pub name: String,
    /// What it may hold.
    pub kind: InputType,
    /// What it is for.
    pub description: Option<String>,
    /// The values it may have; empty for any.
    pub accepted: Vec<Value>,
    /// Its value when a run gives none.
    pub default: Option<Value>,
}

/// Who hears of what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alert {
    /// The events.
    pub on: Vec<AlertEvent>,
    /// Contacts; `owner` and `product_owner` are already resolved.
    pub to: Vec<Label>,
}

/// One step.
#[derive(Clone, Debug)]
pub struct Step {
    /// Its name within the job.
    pub id: Name,
    /// Its name for people.
    pub name: Option<String>,
    /// The steps that must have succeeded.
    pub needs: Vec<Name>,
    /// Skipped when false.
    pub condition: Option<Expression>,
    /// Longest time for one attempt.
    pub timeout: Option<Duration>,
    /// How a failure is tried again.
    pub retry: Retry,
    /// Whether a failure fails the run.
    pub on_failure: OnFailure,
    /// What it does.
    pub kind: StepKind,
    /// SHA-256 (hex) of everything in the definition that decides what it does, SQL files included.
    pub digest: String,
}

/// How a failure is tried again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retry {
    /// Attempts in all.
    pub max_attempts: u32,
    /// How the pause grows.
    pub backoff: Backoff,
    /// First pause.
    pub interval: Duration,
    /// Longest pause.
    pub max_interval: Duration,
    /// Which failures.
    pub on: RetryOn,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            max_attempts: 1,
            backoff: Backoff::Exponential,
            interval: Duration::from_secs(10),
            max_interval: Duration::from_secs(600),
            on: RetryOn::Transient,
        }
    }
}

/// What a step does.
#[derive(Clone, Debug)]
pub enum StepKind {
    /// Statements, or a table from a SELECT.
    Sql(SqlStep),
    /// Rows from files into a table.
    Ingest(IngestStep),
    /// Expectations.
    Check(CheckStep),
    /// Rows into a file.
    Export(ExportStep),
    /// A program.
    Command(CommandStep),
}

impl StepKind {
    /// The word of the definition.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Sql(_) => "sql",
            Self::Ingest(_) => "ingest",
            Self::Check(_) => "check",
            Self::Export(_) => "export",
            Self::Command(_) => "command",
        }
    }
}

/// A table: `name` or `schema.name`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TableName {
    /// Its schema; the warehouse's default without one.
    pub schema: Option<String>,
    /// Its name.
    pub name: String,
}

impl TableName {
    /// Parses `name` or `schema.name`.
    ///
    /// # Errors
    ///
    /// Says what a table name looks like.
    pub fn parse(text: &str) -> Result<Self, String> {
        let is_word = |part: &str| {
            part.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
                && part.len() <= 63
                && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        };
        let expected = "a table name: `name` or `schema.name`, of letters, digits and `_`";
        let (schema, name) = text.split_once('.').map_or((None, text), |(schema, name)| (Some(schema), name));
        if is_word(name) && schema.is_none_or(is_word) {
            Ok(Self { schema: schema.map(str::to_owned), name: name.to_owned() })
        } else {
            Err(expected.to_owned())
        }
    }

    /// The same schema, another name.
    #[must_use]
    pub fn sibling(&self, name: String) -> Self {
        Self { schema: self.schema.clone(), name }
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.schema {
            Some(schema) => write!(f, "{schema}.{}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

/// `sql`.
#[derive(Clone, Debug)]
pub struct SqlStep {
    /// The warehouse.
    pub connection: Label,
    /// The statements, or the SELECT.
    pub sql: Template,
    /// One transaction around all statements.
    pub transaction: bool,
    /// The table to build.
    pub materialize: Option<Materialize>,
    /// Run on the built rows before they are published.
    pub checks: Vec<Expectation>,
}

/// The table that a SELECT becomes.
#[derive(Clone, Debug)]
pub struct Materialize {
    /// The table.
    pub table: TableName,
    /// How new rows meet the old ones.
    pub publish: Publish,
}

/// How new rows meet those already in the table. Keys are there whenever the mode wants them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish {
    /// The mode.
    pub mode: Mode,
    /// The columns that identify a row.
    pub primary_key: Vec<String>,
    /// The column whose values `delete_insert` replaces whole.
    pub partition: Option<String>,
    /// The column that orders versions of a row.
    pub cursor: Option<String>,
}

/// `ingest`.
#[derive(Clone, Debug)]
pub struct IngestStep {
    /// The files.
    pub files: Files,
    /// The warehouse.
    pub connection: Label,
    /// The table.
    pub table: TableName,
    /// How new rows meet the old ones.
    pub publish: Publish,
    /// How rows reach a warehouse that has pipes; without them they are loaded by `Copy`.
    pub through: Through,
    /// Declared columns.
    pub columns: Vec<Column>,
    /// What happens to columns that are not expected.
    pub schema_contract: SchemaContract,
    /// Most rows that may be refused.
    pub max_rejected: Limit,
    /// What no rows at all means.
    pub on_empty: OnEmpty,
    /// Whether rows carry where they came from.
    pub metadata: bool,
    /// Run on the staged rows before they are published.
    pub checks: Vec<Expectation>,
}

/// Files under a connection, and how to read them.
#[derive(Clone, Debug)]
pub struct Files {
    /// The connection.
    pub connection: Label,
    /// Path or pattern.
    pub path: Template,
    /// What they are.
    pub format: Format,
    /// Between fields.
    pub delimiter: u8,
    /// The first record names the columns.
    pub header: bool,
    /// Around fields.
    pub quote: Option<u8>,
    /// Before a quote inside a quoted field; doubled quotes without it.
    pub escape: Option<u8>,
    /// Each record ends with a delimiter.
    pub trailing_delimiter: bool,
    /// How text is encoded.
    pub encoding: Encoding,
    /// How files are compressed.
    pub compression: Compression,
    /// Unquoted fields that stand for NULL.
    pub null_values: Vec<String>,
}

/// One declared column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name in the target.
    pub name: String,
    /// Its type.
    pub kind: ColumnType,
    /// Whether it may be NULL.
    pub nullable: bool,
    /// Its name in the source.
    pub from: String,
    /// How dates and times are written.
    pub format: Option<String>,
}

/// `check`.
#[derive(Clone, Debug)]
pub struct CheckStep {
    /// The warehouse.
    pub connection: Label,
    /// The rows it looks at.
    pub subject: Subject,
    /// What must hold; at least one.
    pub expect: Vec<Expectation>,
}

/// The rows that a check or an export looks at.
#[derive(Clone, Debug)]
pub enum Subject {
    /// A table.
    Table(TableName),
    /// A SELECT.
    Query(Template),
}

/// One expectation.
#[derive(Clone, Debug)]
pub struct Expectation {
    /// Its name for people: given, or made from what it expects.
    pub name: String,
    /// How much it matters.
    pub severity: CheckSeverity,
    /// Whether rows that break it are kept.
    pub store_failures: bool,
    /// Where it stands: in the definition, or in its own SQL file.
    pub place: Place,
    /// What must hold.
    pub kind: ExpectationKind,
}

/// What must hold.
#[derive(Clone, Debug)]
pub enum ExpectationKind {
    /// These columns hold no NULL.
    NotNull(Vec<String>),
    /// These columns together identify a row.
    Unique(Vec<String>),
    /// A column holds only these values.
    AcceptedValues {
        /// The column.
        column: String,
        /// The values.
        values: Vec<Value>,
    },
    /// Every value stands in another table.
    Relationships {
        /// The column.
        column: String,
        /// The other table.
        to: TableName,
        /// Its column.
        field: String,
    },
    /// How many rows.
    RowCount {
        /// At least.
        min: Option<u64>,
        /// At most.
        max: Option<u64>,
        /// Most change since the last run, from 0.
        change: Option<f64>,
    },
    /// How old the newest row is.
    Freshness {
        /// The column.
        column: String,
        /// Oldest allowed.
        max_age: Duration,
    },
    /// True of every row.
    Expression(Template),
    /// Its rows are the failures.
    Sql(Template),
}

/// `export`.
#[derive(Clone, Debug)]
pub struct ExportStep {
    /// The warehouse.
    pub connection: Label,
    /// The rows.
    pub subject: Subject,
    /// What the file is.
    pub format: ExportFormat,
    /// The connection that holds the file.
    pub to: Label,
    /// Its path under it.
    pub path: Template,
}

/// `command`.
#[derive(Clone, Debug)]
pub struct CommandStep {
    /// The program and its arguments; at least one.
    pub run: Vec<Template>,
    /// Where it runs, relative to the repository; the job's folder without it.
    pub working_dir: Option<String>,
    /// Its environment.
    pub env: Vec<(String, EnvValue)>,
    /// The outputs it must write.
    pub outputs: Vec<Name>,
}

/// A value of a command's environment.
#[derive(Clone, Debug)]
pub enum EnvValue {
    /// Text.
    Text(Template),
    /// A secret, by name.
    Secret(Name),
}
