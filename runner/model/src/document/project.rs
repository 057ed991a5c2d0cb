//! `errand.yaml` as written: environments with their connections, contacts, defaults.

use crate::decode::{Context, Decode, Entries, Spanned, document};
use crate::value::{Label, Name, TimeSpan};
use crate::yaml::{Node, NodeKind};

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
        /// Where jobs of this environment run on a schedule; without it they are started by hand.
        optional aws: AwsDocument,
    }
}

document! {
    /// The stack that runs an environment's jobs: what `errand deploy`, `start`, `stop` and `backfill` need of it. Outputs of the stack say it.
    pub struct AwsDocument as "`aws`" {
        /// What the stack is called: its schedule group and task definitions begin with `<name>-<environment>`; `errand` by default.
        optional name: Label,
        /// URL of the job repository, as tasks clone it.
        required repository: String,
        /// ARN of the state machine that runs a job.
        required state_machine: String,
        /// ARN of the state machine that runs a job for many intervals.
        optional backfill_state_machine: String,
        /// ARN of the role with which schedules start executions.
        required scheduler_role: String,
        /// ARN of the SQS queue that gets what a schedule could not start.
        required dead_letter_queue: String,
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
        /// A Microsoft Teams channel.
        optional teams: TeamsDocument,
        /// An SNS topic.
        optional sns: SnsDocument,
        /// E-mail.
        optional email: EmailDocument,
        /// Any server that takes JSON by HTTPS.
        optional webhook: WebhookDocument,
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
    /// A Microsoft Teams channel.
    pub struct TeamsDocument as "`teams`" {
        /// The URL of its workflow "when a Teams webhook request is received".
        required webhook: SecretDocument,
    }
}

document! {
    /// An SNS topic.
    pub struct SnsDocument as "`sns`" {
        /// Its ARN.
        required topic_arn: String,
    }
}

document! {
    /// A server that takes each alert as signed JSON.
    pub struct WebhookDocument as "`webhook`" {
        /// Where alerts are posted to: a URL, or the secret that holds it.
        required url: UrlDocument,
        /// The key of the HMAC-SHA256 signature that each alert carries.
        required signing_key: SecretDocument,
    }
}

/// A URL as text, or the secret that holds it.
#[derive(Clone, Debug)]
pub enum UrlDocument {
    /// The URL.
    Text(Spanned<String>),
    /// The secret.
    Secret(SecretDocument),
}

impl Decode for UrlDocument {
    fn decode(node: &Node, cx: &mut Context<'_>) -> Option<Self> {
        match &node.kind {
            NodeKind::Mapping(_) => SecretDocument::decode(node, cx).map(Self::Secret),
            NodeKind::Null | NodeKind::Bool(_) | NodeKind::Number(_) | NodeKind::Text(_) | NodeKind::Sequence(_) => {
                Spanned::decode(node, cx).map(Self::Text)
            }
        }
    }
}

impl schemars::JsonSchema for UrlDocument {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Url".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let secret = generator.subschema_for::<SecretDocument>();
        schemars::json_schema!({ "anyOf": [{ "type": "string" }, secret] })
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
