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
}

/// How to reach one warehouse or one place with files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Connection {
    /// An embedded DuckDB file, relative to the repository.
    Duckdb {
        /// The database file.
        path: String,
    },
    /// A directory, relative to the repository.
    Directory {
        /// The directory.
        path: String,
    },
}

impl Connection {
    /// Whether SQL runs there.
    #[must_use]
    pub const fn is_warehouse(&self) -> bool {
        match self {
            Self::Duckdb { .. } => true,
            Self::Directory { .. } => false,
        }
    }

    /// The word of the project file.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Duckdb { .. } => "duckdb",
            Self::Directory { .. } => "directory",
        }
    }
}

/// A person or a team.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contact {
    /// Secret of the Slack webhook.
    pub slack_webhook: Option<Name>,
    /// Secret of the PagerDuty routing key.
    pub pagerduty_routing_key: Option<Name>,
    /// E-mail addresses.
    pub email: Vec<String>,
}
