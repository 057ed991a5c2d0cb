//! What is paid beside runs: the state machine, the watchdog, secrets, alarms, reports. Images, logs and traffic follow from no definition and
//! no report; they are not here.

use std::collections::BTreeSet;

use errand_model::job::{Connection, Contact, Credential, EnvValue, Environment, Job, StepKind, WebhookUrl};
use errand_model::value::Name;
use serde::Serialize;

use super::{DAYS, Facts, JobCost, price};

/// Transitions of an execution whose first task does its work.
const TRANSITIONS: f64 = 6.0;
/// Those that each further task adds: it is classified, counted, waited for and run.
const TRANSITIONS_AGAIN: f64 = 5.0;
/// Ticks of the watchdog in a day: one in five minutes.
const TICKS_A_DAY: u32 = 288;
/// Memory of the alerting function in GB, and how long a tick takes.
const FUNCTION_GB: f64 = 0.25;
const TICK_SECONDS: f64 = 0.3;
/// Lists that a tick asks for: reports of two days, and open alerts.
const LISTS: f64 = 3.0;
/// Alarms of `infra/alarms.yaml`.
const ALARMS: u64 = 5;
/// The secret that the stack makes.
const FIRST_SECRET: &str = "git_token";

/// What is paid for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Part {
    /// Transitions of the state machine.
    StateMachine,
    /// Calls of the alerting function by its schedule.
    Watchdog,
    /// Secrets that definitions name, and the stack's own.
    Secrets,
    /// Alarms.
    Alarms,
    /// Bytes of run reports.
    Reports,
}

/// What one part of a stack costs a month.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct StackCost {
    pub(crate) part: Part,
    /// How many of what [`Part`] says.
    pub(crate) count: u64,
    pub(crate) usd: f64,
}

/// All parts of a stack that runs these jobs.
pub(super) fn costs(facts: &Facts<'_>, jobs: &[JobCost]) -> Vec<StackCost> {
    let transitions: f64 = jobs.iter().map(|job| job.runs * TRANSITIONS + (job.tasks - job.runs) * TRANSITIONS_AGAIN).sum();
    let ticks = f64::from(DAYS * TICKS_A_DAY);
    let secrets = facts.project.environments.get(facts.environment).map_or(0, |environment| {
        let contacts = facts.project.contacts.values();
        secrets(environment, contacts, facts.jobs).len()
    });
    let part = |part, count: f64, usd: f64| StackCost { part, count: count.round() as u64, usd };
    let tick = price::CALL + FUNCTION_GB * TICK_SECONDS * price::FUNCTION_GB_SECOND + LISTS * price::BUCKET_LIST;
    vec![
        part(Part::StateMachine, transitions, (transitions - price::FREE_TRANSITIONS).max(0.0) * price::TRANSITION),
        part(Part::Watchdog, ticks, ticks * tick),
        part(Part::Secrets, secrets as f64, secrets as f64 * price::SECRET),
        part(Part::Alarms, ALARMS as f64, ALARMS as f64 * price::ALARM),
        part(Part::Reports, facts.report_bytes as f64, facts.report_bytes as f64 / f64::from(1 << 30) * price::BUCKET_GB),
    ]
}

/// Names of the secrets that an environment needs: those of its connections, of contacts and of jobs, and that of the stack.
fn secrets<'a>(environment: &'a Environment, contacts: impl Iterator<Item = &'a Contact>, jobs: &'a [Job]) -> BTreeSet<&'a str> {
    let of_connections = environment.connections.values().flat_map(of_connection);
    let of_jobs = jobs.iter().flat_map(|job| &job.steps).flat_map(|step| of_step(&step.kind));
    let named = of_connections.chain(contacts.flat_map(of_contact)).chain(of_jobs).map(Name::as_str);
    named.chain([FIRST_SECRET]).collect()
}

fn of_connection(connection: &Connection) -> Vec<&Name> {
    match connection {
        Connection::Duckdb { .. } | Connection::Directory { .. } | Connection::S3(_) => Vec::new(),
        Connection::Postgres(server) => server.password.iter().collect(),
        Connection::Redshift(redshift) => redshift.server.password.iter().collect(),
        Connection::Snowflake(snowflake) => match &snowflake.credential {
            Credential::Password(name) | Credential::AccessToken(name) | Credential::OauthToken(name) => vec![name],
            Credential::PrivateKey { key, passphrase } => [key].into_iter().chain(passphrase).collect(),
        },
    }
}

fn of_contact(contact: &Contact) -> Vec<&Name> {
    let Contact { slack_webhook, pagerduty_routing_key, teams_webhook, sns_topic: _, email: _, webhook } = contact;
    let mut names: Vec<&Name> = [slack_webhook, pagerduty_routing_key, teams_webhook].into_iter().flatten().collect();
    if let Some(webhook) = webhook {
        names.push(&webhook.signing_key);
        match &webhook.url {
            WebhookUrl::Secret(name) => names.push(name),
            WebhookUrl::Plain(_) => {}
        }
    }
    names
}

fn of_step(kind: &StepKind) -> Vec<&Name> {
    match kind {
        StepKind::Command(command) => command.env.iter().filter_map(|(_, value)| of_value(value)).collect(),
        StepKind::Sql(_) | StepKind::Ingest(_) | StepKind::Check(_) | StepKind::Export(_) => Vec::new(),
    }
}

fn of_value(value: &EnvValue) -> Option<&Name> {
    match value {
        EnvValue::Secret(name) => Some(name),
        EnvValue::Text(_) => None,
    }
}
