//! PagerDuty: Events API v2 (<https://developer.pagerduty.com/docs/send-alert-event>): at most 1,024 characters of summary, 255 of key, 512 KB.
//!
//! All alerts of a job are one incident, under one key: who works on it is not paged again, and the last alert that closes resolves it.

use async_trait::async_trait;
use serde_json::{Map, Value, json};

use super::{Channel, Trouble, http};
use crate::message::{Message, Subject};
use crate::secret::Secret;
use crate::text::cut;

/// Most characters of a summary.
const SUMMARY: usize = 1_024;
/// Most characters of a key.
const KEY: usize = 255;
/// Most characters of a detail.
const DETAIL: usize = 8_000;

pub(super) struct PagerDuty {
    pub(super) http: reqwest::Client,
    pub(super) url: String,
    pub(super) routing_key: Secret,
}

#[async_trait]
impl Channel for PagerDuty {
    async fn send(&self, message: &Message) -> Result<(), Trouble> {
        let mut body = payload(message);
        body["routing_key"] = self.routing_key.expose().into();
        http::send("PagerDuty", self.http.post(&self.url).json(&body)).await
    }
}

/// The request's body, without the routing key.
pub(super) fn payload(message: &Message) -> Value {
    let key = cut(&message.incident, KEY);
    let severity = match message.subject {
        Subject::Recovered => return json!({ "routing_key": "", "event_action": "resolve", "dedup_key": key }),
        Subject::Failure => "critical",
        Subject::Late => "error",
        Subject::Warning => "warning",
    };
    let mut details = Map::new();
    details.insert("What happened".to_owned(), cut(&message.lead, DETAIL).into());
    details.extend(message.facts.iter().map(|fact| (fact.name.clone(), cut(&fact.text, DETAIL).into())));
    if !message.notes.is_empty() {
        details.insert("Notes".to_owned(), cut(&message.notes.join("; "), DETAIL).into());
    }
    let links: Vec<Value> = message.links.iter().map(|link| json!({ "href": link.url, "text": link.name })).collect();
    json!({
        "routing_key": "",
        "event_action": "trigger",
        "dedup_key": key,
        "client": "Errand",
        "links": links,
        "payload": {
            "summary": cut(&message.title, SUMMARY),
            "source": format!("errand/{}", message.environment),
            "severity": severity,
            "timestamp": message.at.to_string(),
            "component": message.job,
            "group": message.environment,
            "class": message.subject.as_str(),
            "custom_details": details,
        },
    })
}
