//! The wire format of `deployment.json`: what is deployed in one environment, as `errand deploy` wrote it, for alerts and the watchdog.
//!
//! Versioned: readers refuse a higher [`Deployment::VERSION`]; within one version fields and channels are only added. Times are UTC
//! (RFC 3339), durations seconds, sizes bytes. It holds names of secrets and never a value.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::document::job::{AlertEvent, Catchup, Image};
use crate::failure::Failure;
use crate::interval::Schedule;
use crate::job::{Contact, Job, Project, StepKind, WebhookUrl};
use crate::order::{Order, Origin};

/// All that is deployed in one environment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Deployment {
    /// Version of this format, [`Self::VERSION`].
    pub version: u32,
    /// Environment of `errand.yaml`.
    pub environment: String,
    /// URL of the job repository, without credentials.
    pub repository: String,
    /// Full commit id.
    pub commit: String,
    /// When it was written.
    pub deployed_at: Timestamp,
    /// The jobs, by name.
    pub jobs: BTreeMap<String, DeployedJob>,
    /// The contacts, by name.
    pub contacts: BTreeMap<String, DeployedContact>,
}

/// One job, as far as alerts and the watchdog ask.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeployedJob {
    /// What it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The contact on call.
    pub owner: String,
    /// The contact that reads the impact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub product_owner: Option<String>,
    /// Where on-call reads what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runbook: Option<String>,
    /// When it runs; none when it is started by hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<DeployedSchedule>,
    /// Since when the job is deployed with this very schedule. Times before it are nobody's fault.
    pub since: Timestamp,
    /// What becomes of missed intervals.
    pub catchup: Catchup,
    /// What its schedule starts it with; none without a schedule, and in a file that an earlier errand wrote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<Order>,
    /// How many of its runs may be at work at once; none in a file that an earlier errand wrote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<DeployedConcurrency>,
    /// When it is late.
    #[serde(default)]
    pub sla: DeployedSla,
    /// Longest time for the whole run, in seconds.
    pub timeout_seconds: u64,
    /// What one run needs of a machine.
    pub resources: DeployedResources,
    /// Who hears of what; `owner` and `product_owner` are resolved.
    pub alerts: Vec<DeployedAlert>,
    /// What it writes, in the order of its steps.
    pub outputs: Vec<Output>,
}

/// A schedule as written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeployedSchedule {
    /// Five fields.
    pub cron: String,
    /// IANA zone.
    pub timezone: String,
}

/// How many runs at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeployedConcurrency {
    /// Runs with the same group count together.
    pub group: String,
    /// Most runs at once.
    pub limit: u32,
}

/// When a job is late, in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeployedSla {
    /// It starts within this time of its schedule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_within_seconds: Option<u64>,
    /// It finishes within this time of its schedule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finish_within_seconds: Option<u64>,
    /// Its last success is never older than this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_seconds_since_success: Option<u64>,
}

/// What one run needs of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeployedResources {
    /// Thousandths of a virtual CPU.
    pub cpu_millis: u32,
    /// Bytes.
    pub memory_bytes: u64,
    /// Cheaper capacity that may be taken away.
    pub spot: bool,
    /// The image.
    pub image: Image,
}

/// Who hears of what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeployedAlert {
    /// The events.
    pub on: Vec<AlertEvent>,
    /// Names of contacts.
    pub to: Vec<String>,
}

/// Something that a job writes and that people wait for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Output {
    /// A table: `name` or `schema.name`.
    Table {
        /// The connection.
        connection: String,
        /// Its name.
        name: String,
    },
    /// A file.
    File {
        /// The connection.
        connection: String,
        /// Its path as written, templates included.
        path: String,
    },
}

impl Output {
    /// What people call it: the table, or the path.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Table { name, .. } => name,
            Self::File { path, .. } => path,
        }
    }
}

/// A person or a team.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeployedContact {
    /// The channels that reach them.
    pub channels: Vec<DeployedChannel>,
}

/// One channel of a contact. Secrets are named, as in `errand.yaml`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeployedChannel {
    /// A Slack channel.
    Slack {
        /// Secret of the incoming webhook's URL.
        webhook_secret: String,
    },
    /// A PagerDuty service.
    Pagerduty {
        /// Secret of the Events API v2 integration key.
        routing_key_secret: String,
    },
    /// A Microsoft Teams channel.
    Teams {
        /// Secret of the workflow's URL.
        webhook_secret: String,
    },
    /// An SNS topic.
    Sns {
        /// Its ARN.
        topic_arn: String,
    },
    /// E-mail.
    Email {
        /// Addresses.
        to: Vec<String>,
    },
    /// A server that takes signed JSON.
    Webhook {
        /// Where alerts are posted to.
        url: DeployedUrl,
        /// Secret of the key that signs them.
        signing_key_secret: String,
    },
}

/// A URL, or where it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeployedUrl {
    /// The URL itself.
    Plain(String),
    /// The secret that holds it.
    Secret(String),
}

impl Deployment {
    /// The version this code writes.
    pub const VERSION: u32 = 1;

    /// What `errand deploy` writes. A job keeps its `since` from the previous deployment as long as its schedule stays the same.
    ///
    /// # Errors
    ///
    /// As `Definition` with `deploy::size`.
    pub fn of(
        origin: Origin<'_>,
        deployed_at: Timestamp,
        project: &Project,
        jobs: &[Job],
        previous: Option<&Self>,
    ) -> Result<Self, Failure> {
        let jobs = jobs.iter().map(|job| {
            let before = previous.and_then(|deployment| deployment.jobs.get(job.name.as_str()));
            Ok((job.name.as_str().to_owned(), DeployedJob::of(origin, job, before, deployed_at)?))
        });
        Ok(Self {
            version: Self::VERSION,
            environment: origin.environment.to_owned(),
            repository: origin.aws.repository.clone(),
            commit: origin.commit.to_owned(),
            deployed_at,
            jobs: jobs.collect::<Result<_, Failure>>()?,
            contacts: project.contacts.iter().map(|(name, contact)| (name.clone(), DeployedContact::of(contact))).collect(),
        })
    }

    /// Reads `deployment.json`.
    ///
    /// # Errors
    ///
    /// Says that the file is no deployment, or one of a newer version.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        /// The one field that every version has.
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        match serde_json::from_slice::<Versioned>(text) {
            Ok(Versioned { version }) if version > Self::VERSION => {
                Err(format!("deployment of version {version}, this errand reads up to {}", Self::VERSION))
            }
            Ok(_) => serde_json::from_slice(text).map_err(|error| format!("no deployment: {error}")),
            Err(error) => Err(format!("no deployment: {error}")),
        }
    }

    /// The file's text.
    #[must_use]
    pub fn json(&self) -> String {
        let value = serde_json::to_value(self).expect("a deployment is plain data");
        format!("{value:#}\n")
    }
}

impl DeployedJob {
    fn of(origin: Origin<'_>, job: &Job, before: Option<&Self>, deployed_at: Timestamp) -> Result<Self, Failure> {
        let schedule = job.schedule.as_ref().map(DeployedSchedule::of);
        let order = schedule.is_some().then(|| Order::scheduled(origin, job)).transpose()?;
        let since = before.filter(|before| before.schedule == schedule).map_or(deployed_at, |before| before.since);
        let seconds = |time: Option<Duration>| time.map(|time| time.as_secs());
        Ok(Self {
            description: job.description.clone(),
            owner: job.owner.to_string(),
            product_owner: job.product_owner.as_ref().map(ToString::to_string),
            runbook: job.runbook.clone(),
            schedule,
            since,
            catchup: job.catchup,
            order,
            concurrency: Some(DeployedConcurrency { group: job.concurrency.group.to_string(), limit: job.concurrency.limit }),
            sla: DeployedSla {
                start_within_seconds: seconds(job.sla.start_within),
                finish_within_seconds: seconds(job.sla.finish_within),
                max_seconds_since_success: seconds(job.sla.max_time_since_success),
            },
            timeout_seconds: job.timeout.as_secs(),
            resources: DeployedResources {
                cpu_millis: job.resources.cpu_millis,
                memory_bytes: job.resources.memory_bytes,
                spot: job.resources.spot,
                image: job.resources.image,
            },
            alerts: job
                .alerts
                .iter()
                .map(|alert| DeployedAlert { on: alert.on.clone(), to: alert.to.iter().map(ToString::to_string).collect() })
                .collect(),
            outputs: outputs(job),
        })
    }

    /// The schedule, ready to count with; none too where its text is no schedule to this version.
    #[must_use]
    pub fn schedule(&self) -> Option<Schedule> {
        let DeployedSchedule { cron, timezone } = self.schedule.as_ref()?;
        Schedule::parse(cron, timezone).ok()
    }

    /// Names of the contacts that hear of an event, each once.
    #[must_use]
    pub fn listeners(&self, event: AlertEvent) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for name in self.alerts.iter().filter(|alert| alert.on.contains(&event)).flat_map(|alert| &alert.to) {
            if !names.contains(&name.as_str()) {
                names.push(name);
            }
        }
        names
    }
}

impl DeployedSchedule {
    fn of(schedule: &Schedule) -> Self {
        Self { cron: schedule.cron().to_owned(), timezone: schedule.timezone().to_owned() }
    }
}

/// Tables and files that steps declare; what SQL and programs write by themselves is not known.
fn outputs(job: &Job) -> Vec<Output> {
    let table =
        |connection: &dyn ToString, name: &dyn ToString| Output::Table { connection: connection.to_string(), name: name.to_string() };
    let mut found = Vec::new();
    for step in &job.steps {
        let output = match &step.kind {
            StepKind::Sql(sql) => sql.materialize.as_ref().map(|built| table(&sql.connection, &built.table)),
            StepKind::Ingest(ingest) => Some(table(&ingest.connection, &ingest.table)),
            StepKind::Export(export) => Some(Output::File { connection: export.to.to_string(), path: export.path.source().to_owned() }),
            StepKind::Check(_) | StepKind::Command(_) => None,
        };
        found.extend(output.filter(|output| !found.contains(output)));
    }
    found
}

impl DeployedContact {
    fn of(contact: &Contact) -> Self {
        let Contact { slack_webhook, pagerduty_routing_key, teams_webhook, sns_topic, email, webhook } = contact;
        let mut channels = Vec::new();
        channels.extend(slack_webhook.as_ref().map(|name| DeployedChannel::Slack { webhook_secret: name.to_string() }));
        channels.extend(pagerduty_routing_key.as_ref().map(|name| DeployedChannel::Pagerduty { routing_key_secret: name.to_string() }));
        channels.extend(teams_webhook.as_ref().map(|name| DeployedChannel::Teams { webhook_secret: name.to_string() }));
        channels.extend(sns_topic.as_ref().map(|arn| DeployedChannel::Sns { topic_arn: arn.clone() }));
        channels.extend((!email.is_empty()).then(|| DeployedChannel::Email { to: email.clone() }));
        channels.extend(webhook.as_ref().map(|webhook| DeployedChannel::Webhook {
            url: match &webhook.url {
                WebhookUrl::Plain(url) => DeployedUrl::Plain(url.clone()),
                WebhookUrl::Secret(name) => DeployedUrl::Secret(name.to_string()),
            },
            signing_key_secret: webhook.signing_key.to_string(),
        }));
        Self { channels }
    }
}
