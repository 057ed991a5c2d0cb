//! What is kept of an alert: one file in S3 for each, so that everybody is told once, also when two events tell of it, when a channel is down,
//! or when the Lambda dies in between.
//!
//! Pure; `state` reads and writes it, always on the condition that nobody else has changed it.

use std::time::Duration;

use errand_model::report::IntervalReport;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::message::{Audience, Message, Subject};
use crate::route::PAGERDUTY;
use crate::time::after;

/// How long a channel that fails is tried again, by each tick of the watchdog.
const PATIENCE: Duration = Duration::from_secs(86_400);

/// One alert.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) version: u32,
    /// Name of the file, and of the alert.
    pub(crate) key: String,
    pub(crate) subject: Subject,
    pub(crate) job: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) run_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) execution: Option<String>,
    /// What is missing until it closes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) interval: Option<IntervalReport>,
    /// Inputs of the run that failed, as far as they are not the job's defaults; none where nobody knows them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) chosen: Option<String>,
    /// Times at which the job was due, for a late one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) dues: Vec<Timestamp>,
    pub(crate) opened_at: Timestamp,
    /// Nothing is left to recover from: it is only told.
    #[serde(default)]
    pub(crate) told_only: bool,
    /// The alert that tells of this as well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) told_by: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) closed_at: Option<Timestamp>,
    /// The run that closed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) closed_by: Option<String>,
    /// Incidents of alerts that are closed, to be resolved when this one closes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) owes: Vec<Delivery>,
    /// Who tells it at the moment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) lease: Option<Lease>,
    /// What is told when it opens, and when it closes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) opening: Option<Telling>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) closing: Option<Telling>,
}

/// An interval of a job that catches up, which nobody need start again: its run was started, or came by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Begun {
    pub(crate) version: u32,
    pub(crate) job: String,
    pub(crate) interval: IntervalReport,
    pub(crate) at: Timestamp,
    /// The run that was started for it; none where one came by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) run_id: Option<String>,
    /// ARN of its execution.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) execution: Option<String>,
}

impl Begun {
    pub(crate) fn new(job: &str, interval: IntervalReport, at: Timestamp) -> Self {
        Self { version: 1, job: job.to_owned(), interval, at, run_id: None, execution: None }
    }
}

/// The right to tell an alert for a while.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Lease {
    /// The invocation.
    pub(crate) owner: String,
    pub(crate) until: Timestamp,
}

/// Both texts, and who was told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Telling {
    pub(crate) said: Said,
    pub(crate) deliveries: Vec<Delivery>,
}

/// The same, said to both audiences.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Said {
    pub(crate) on_call: Message,
    pub(crate) impact: Message,
}

impl Said {
    pub(crate) fn to(&self, audience: Audience) -> &Message {
        match audience {
            Audience::OnCall => &self.on_call,
            Audience::Impact => &self.impact,
        }
    }
}

/// One channel of one contact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Delivery {
    pub(crate) contact: String,
    pub(crate) channel: String,
    pub(crate) audience: Audience,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) done_at: Option<Timestamp>,
    /// How often it was tried, by invocations.
    #[serde(default)]
    pub(crate) tries: u32,
    /// Why it failed the last time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
}

impl Delivery {
    pub(crate) fn new(contact: &str, channel: &str, audience: Audience) -> Self {
        Self { contact: contact.to_owned(), channel: channel.to_owned(), audience, done_at: None, tries: 0, error: None }
    }

    /// The same channel, to be told something else.
    pub(crate) fn again(&self) -> Self {
        Self::new(&self.contact, &self.channel, self.audience)
    }

    /// Whether another one goes to the same channel of the same contact.
    pub(crate) fn is_to(&self, other: &Self) -> bool {
        self.contact == other.contact && self.channel == other.channel
    }
}

impl Record {
    /// An alert that has yet to be told.
    pub(crate) fn open(key: &str, subject: Subject, job: &str, at: Timestamp, opening: Option<Telling>) -> Self {
        Self {
            version: 1,
            key: key.to_owned(),
            subject,
            job: job.to_owned(),
            run_id: None,
            execution: None,
            interval: None,
            chosen: None,
            dues: Vec::new(),
            opened_at: at,
            told_only: false,
            told_by: None,
            closed_at: None,
            closed_by: None,
            owes: Vec::new(),
            lease: None,
            opening,
            closing: None,
        }
    }

    /// Whether something is wrong still, as far as is known.
    pub(crate) const fn is_open(&self) -> bool {
        self.closed_at.is_none() && !self.told_only && self.told_by.is_none()
    }

    /// What has yet to be told: what opens it until it is closed, then what closes it.
    pub(crate) fn current(&mut self) -> Option<&mut Telling> {
        if self.closed_at.is_some() { self.closing.as_mut() } else { self.opening.as_mut() }
    }

    /// Whether somebody has yet to be told, and it is not too late for it.
    pub(crate) fn is_pending(&self, now: Timestamp) -> bool {
        let telling = if self.closed_at.is_some() { &self.closing } else { &self.opening };
        let since = self.closed_at.unwrap_or(self.opened_at);
        let is_undone = telling.as_ref().is_some_and(|telling| telling.deliveries.iter().any(|delivery| delivery.done_at.is_none()));
        is_undone && now < after(since, PATIENCE)
    }

    /// Whether nobody needs to look at it again.
    pub(crate) fn is_settled(&self, now: Timestamp) -> bool {
        !self.is_open() && !self.is_pending(now)
    }

    /// Whether another invocation tells it right now.
    pub(crate) fn is_leased(&self, owner: &str, now: Timestamp) -> bool {
        self.lease.as_ref().is_some_and(|lease| lease.owner != owner && now < lease.until)
    }

    /// Incidents that it has opened, or owes the resolution of.
    pub(crate) fn incidents(&self) -> impl Iterator<Item = Delivery> {
        let own = self.told().into_iter().filter(|told| told.channel == PAGERDUTY && !self.told_only);
        own.chain(&self.owes).map(Delivery::again)
    }

    /// Contacts that were told when it opened.
    pub(crate) fn told(&self) -> Vec<&Delivery> {
        self.opening.iter().flat_map(|telling| &telling.deliveries).filter(|delivery| delivery.done_at.is_some()).collect()
    }
}
