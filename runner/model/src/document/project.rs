//! `errand.yaml` as written: environments with their connections, contacts, defaults.

use crate::decode::{Entries, Spanned, document};
use crate::value::{Label, Name, TimeSpan};

use super::connection::ConnectionDocument;
use super::job::RetryDocument;

document! {
    /// A job repository: where its jobs run and who is behind them.
    pub struct ProjectDocument as "the project" {
        /// Version of this format: 1.
        required version: u32,
        /// The environment of a run that names none.
        required default_environment: Label,
        /// Environments by name: the same connections, elsewhere.
        required environments: Entries<EnvironmentDocument>,
        /// People and their channels, by name.
        optional contacts: Entries<ContactDocument>,
        /// What jobs have that do not say otherwise.
        optional defaults: DefaultsDocument,
    }
}

document! {
    /// One environment.
    pub struct EnvironmentDocument as "the environment" {
        /// How to reach warehouses and files, by name.
        required connections: Entries<ConnectionDocument>,
        /// Where run reports are kept; by default beside the warehouse.
        optional reports: LocationDocument,
    }
}

document! {
    /// A path under a connection.
    pub struct LocationDocument as "the location" {
        /// A connection that holds files.
        required connection: Label,
        /// A path under it.
        optional path: String,
    }
}

document! {
    /// A person or a team, and the channels that reach them.
    pub struct ContactDocument as "the contact" {
        /// A Slack channel.
        optional slack: SlackDocument,
        /// A PagerDuty service.
        optional pagerduty: PagerDutyDocument,
        /// E-mail.
        optional email: EmailDocument,
    }
}

document! {
    /// A Slack channel.
    pub struct SlackDocument as "`slack`" {
        /// Its incoming webhook.
        required webhook: SecretDocument,
    }
}

document! {
    /// A PagerDuty service.
    pub struct PagerDutyDocument as "`pagerduty`" {
        /// Its Events API v2 integration key.
        required routing_key: SecretDocument,
    }
}

document! {
    /// E-mail.
    pub struct EmailDocument as "`email`" {
        /// Addresses.
        required to: Vec<Spanned<String>>,
    }
}

document! {
    /// A secret, by name. Its value never stands in a definition.
    pub struct SecretDocument as "the secret" {
        /// The name under which it is looked up.
        required secret: Name,
    }
}

document! {
    /// What jobs have that do not say otherwise.
    pub struct DefaultsDocument as "`defaults`" {
        /// Longest time for a run.
        optional timeout: TimeSpan,
        /// How failed steps are tried again.
        optional retry: RetryDocument,
    }
}
