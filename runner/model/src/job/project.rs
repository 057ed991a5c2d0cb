//! A project that is valid by construction: environments, connections, contacts, defaults.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::value::{Label, Name};

use super::Retry;

/// A project file: `errand.yaml`.
#[derive(Clone, Debug)]
pub struct Project {
    /// The environment of a run that names none.
    pub default_environment: Label,
    /// Environments by name.
    pub environments: BTreeMap<String, Environment>,
    /// Contacts by name.
    pub contacts: BTreeMap<String, Contact>,
    /// Longest time for a run that says nothing else.
    pub timeout: Duration,
    /// How failed steps are tried again that say nothing else.
    pub retry: Retry,
}

/// One environment.
#[derive(Clone, Debug)]
pub struct Environment {
    /// Connections by name.
    pub connections: BTreeMap<String, Connection>,
    /// Where run reports are kept: connection and path under it.
    pub reports: Option<(Label, String)>,
    /// The stack that runs its jobs.
    pub aws: Option<Aws>,
}

/// The stack that runs the jobs of an environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Aws {
    /// What the names of its schedule group and task definitions begin with: `errand-prod`.
    pub prefix: String,
    /// URL of the job repository, as tasks clone it.
    pub repository: String,
    /// ARN of the state machine that runs a job.
    pub state_machine: String,
    /// ARN of the state machine that runs a job for many intervals.
    pub backfill_state_machine: Option<String>,
    /// ARN of the role with which schedules start executions.
    pub scheduler_role: String,
    /// ARN of the queue that gets what a schedule could not start.
    pub dead_letter_queue: String,
}

impl Aws {
    /// The region of the state machine.
    #[must_use]
    pub fn region(&self) -> &str {
        self.state_machine.split(':').nth(3).unwrap_or_default()
    }

    /// The ARN of an execution of a state machine, by its name.
    #[must_use]
    pub fn execution(state_machine: &str, name: &str) -> String {
        format!("{}:{name}", state_machine.replacen(":stateMachine:", ":execution:", 1))
    }
}

/// How to reach one warehouse or one place with files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Connection {
    /// An embedded DuckDB file, relative to the repository.
    Duckdb {
        /// The database file.
        path: String,
    },
    /// A Postgres database.
    Postgres(Server),
    /// A Redshift database.
    Redshift(Redshift),
    /// A Snowflake account.
    Snowflake(Box<Snowflake>),
    /// A directory, relative to the repository.
    Directory {
        /// The directory.
        path: String,
    },
    /// Objects of an S3 bucket.
    S3(S3),
}

impl Connection {
    /// Whether SQL runs there.
    #[must_use]
    pub const fn is_warehouse(&self) -> bool {
        match self {
            Self::Duckdb { .. } | Self::Postgres(_) | Self::Redshift(_) | Self::Snowflake(_) => true,
            Self::Directory { .. } | Self::S3(_) => false,
        }
    }

    /// The word of the project file.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Duckdb { .. } => "duckdb",
            Self::Postgres(_) => "postgres",
            Self::Redshift(_) => "redshift",
            Self::Snowflake(_) => "snowflake",
            Self::Directory { .. } => "directory",
            Self::S3(_) => "s3",
        }
    }
}

/// A server that speaks Postgres's protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Host name, address, or the directory of a Unix socket.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Database.
    pub database: String,
    /// User.
    pub user: String,
    /// Secret of the password; none where the server asks for none.
    pub password: Option<Name>,
    /// The schema of a table that names none; by default the server's.
    pub schema: Option<String>,
    /// Encryption.
    pub tls: Tls,
    /// A PEM file with roots of trust beside those of the system, relative to the repository.
    pub ca_file: Option<String>,
}

/// Encryption of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tls {
    /// Encrypted, to a server whose certificate is valid for its host.
    Verify,
    /// Not encrypted.
    Disable,
}

/// A Redshift database and how rows reach it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redshift {
    /// The server.
    pub server: Server,
    /// ARN of the role with which the cluster reads and writes the staged objects.
    pub iam_role: String,
    /// The `s3` connection through which rows go in and out.
    pub staging: Label,
}

/// A Snowflake account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snowflake {
    /// Account identifier, as in `xy12345.eu-west-1`.
    pub account: String,
    /// User.
    pub user: String,
    /// How the user proves who it is.
    pub credential: Credential,
    /// Role; by default the user's.
    pub role: Option<String>,
    /// The warehouse that computes; by default the user's.
    pub compute_warehouse: Option<String>,
    /// Database.
    pub database: String,
    /// The schema of a table that names none.
    pub schema: String,
    /// The external stage through which rows go in and out, as in `@ANALYTICS.RAW.ERRAND_STAGE`.
    pub stage: Option<String>,
    /// The connection whose root is the stage's URL; by default the URL is asked for.
    pub staging: Option<Label>,
    /// Host, or URL, of the account where it is not `<account>.snowflakecomputing.com`.
    pub host: Option<String>,
}

/// How a Snowflake user proves who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    /// Secret of a password.
    Password(Name),
    /// Secret of a programmatic access token.
    AccessToken(Name),
    /// Secret of an OAuth access token.
    OauthToken(Name),
    /// Secret of a private key in PEM, and of its passphrase.
    PrivateKey {
        /// The key.
        key: Name,
        /// Its passphrase, where it is encrypted.
        passphrase: Option<Name>,
    },
}

/// Objects of an S3 bucket under a prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct S3 {
    /// Bucket.
    pub bucket: String,
    /// What every key begins with: empty, or ending in `/`.
    pub prefix: String,
    /// Region; by default that of the environment.
    pub region: Option<String>,
    /// URL of another server that speaks S3's protocol.
    pub endpoint: Option<String>,
}

/// A person or a team.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contact {
    /// Secret of the Slack webhook.
    pub slack_webhook: Option<Name>,
    /// Secret of the PagerDuty routing key.
    pub pagerduty_routing_key: Option<Name>,
    /// Secret of the Microsoft Teams workflow's URL.
    pub teams_webhook: Option<Name>,
    /// ARN of the SNS topic.
    pub sns_topic: Option<String>,
    /// E-mail addresses.
    pub email: Vec<String>,
    /// A server that takes signed JSON.
    pub webhook: Option<Webhook>,
}

/// A server that takes each alert as signed JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Webhook {
    /// Where alerts are posted to.
    pub url: WebhookUrl,
    /// Secret of the key that signs them.
    pub signing_key: Name,
}

/// Where alerts are posted to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WebhookUrl {
    /// This URL.
    Plain(String),
    /// The URL that a secret holds.
    Secret(Name),
}
