//! Channels: each turns a message into one request of its service. To add one: a module here, an arm in `open`, `route::word`, and the
//! model's `DeployedChannel`.
//!
//! A channel sends once. Whether and when it is tried again is decided in `send`, by what the channel says of its failure.

mod email;
mod http;
mod pagerduty;
mod slack;
mod sns;
mod teams;
mod webhook;

use std::time::Duration;

use async_trait::async_trait;
use errand_model::deployment::{DeployedChannel, DeployedUrl};

use crate::aws::Clients;
use crate::message::Message;
use crate::secret::Secrets;
use crate::settings::Settings;

pub(crate) use http::client;

/// One way to reach one contact.
#[async_trait]
pub(crate) trait Channel: Send + Sync {
    /// Sends a message, once.
    async fn send(&self, message: &Message) -> Result<(), Trouble>;
}

/// Why a message did not go out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trouble {
    /// What happened, without secrets.
    pub(crate) why: String,
    pub(crate) again: Again,
}

/// Whether it is worth another try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Again {
    /// No: it would be refused again.
    Never,
    /// After a pause.
    Soon,
    /// After the time that the service asks for.
    After(Duration),
}

impl Trouble {
    pub(crate) fn never(why: impl Into<String>) -> Self {
        Self { why: why.into(), again: Again::Never }
    }

    pub(crate) fn soon(why: impl Into<String>) -> Self {
        Self { why: why.into(), again: Again::Soon }
    }
}

/// What channels are made with.
pub(crate) struct Tools {
    pub(crate) settings: Settings,
    pub(crate) clients: Clients,
    pub(crate) http: reqwest::Client,
    pub(crate) secrets: Secrets,
}

/// Opens a channel: finds its secrets.
///
/// Fails naming what is missing.
pub(crate) async fn open(channel: &DeployedChannel, tools: &Tools) -> Result<Box<dyn Channel>, String> {
    let http = tools.http.clone();
    Ok(match channel {
        DeployedChannel::Slack { webhook_secret } => Box::new(slack::Slack { http, webhook: tools.secrets.get(webhook_secret).await? }),
        DeployedChannel::Pagerduty { routing_key_secret } => Box::new(pagerduty::PagerDuty {
            http,
            url: format!("{}/v2/enqueue", tools.settings.pagerduty_url),
            routing_key: tools.secrets.get(routing_key_secret).await?,
        }),
        DeployedChannel::Teams { webhook_secret } => Box::new(teams::Teams { http, webhook: tools.secrets.get(webhook_secret).await? }),
        DeployedChannel::Sns { topic_arn } => Box::new(sns::Sns { client: tools.clients.sns.clone(), topic: topic_arn.clone() }),
        DeployedChannel::Email { to } => {
            let from = tools.settings.email_from.clone();
            let from = from.ok_or_else(|| "no sender of e-mail is set (`ERRAND_EMAIL_FROM`)".to_owned())?;
            Box::new(email::Email { client: tools.clients.ses.clone(), from, to: to.clone() })
        }
        DeployedChannel::Webhook { url, signing_key_secret } => {
            let url = match url {
                DeployedUrl::Plain(url) => crate::secret::Secret::new(url),
                DeployedUrl::Secret(name) => tools.secrets.get(name).await?,
            };
            Box::new(webhook::Webhook { http, url, key: tools.secrets.get(signing_key_secret).await? })
        }
    })
}

#[cfg(test)]
mod tests;
