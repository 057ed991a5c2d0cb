//! Any server: JSON with a signature, so that the receiver knows who sent it, when, and whether it has seen it before.
//!
//! `x-errand-signature` is `v1=` and the hexadecimal HMAC-SHA256, under the signing key, of `<x-errand-timestamp>.<body>`. A receiver computes
//! it over the bytes it received, compares in constant time, and refuses timestamps that are more than five minutes off.

use std::fmt::Write;

use async_trait::async_trait;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

use super::{Channel, Trouble, http};
use crate::clock;
use crate::message::Message;
use crate::secret::Secret;

/// Version of the body.
const VERSION: u32 = 1;

pub(super) struct Webhook {
    pub(super) http: reqwest::Client,
    pub(super) url: Secret,
    pub(super) key: Secret,
}

#[async_trait]
impl Channel for Webhook {
    async fn send(&self, message: &Message) -> Result<(), Trouble> {
        let url = http::address(self.url.expose())?;
        let (body, timestamp) = (payload(message).to_string(), clock::now().as_second());
        let request = self.http.post(url).header("content-type", "application/json");
        let request = request.header("x-errand-timestamp", timestamp.to_string()).header("x-errand-delivery", delivery(message));
        let request = request.header("x-errand-signature", signature(self.key.expose(), timestamp, &body)?);
        http::send("the webhook", request.body(body)).await
    }
}

/// Names what is told: the same however often it is sent.
pub(super) fn delivery(message: &Message) -> String {
    format!("{}.{}", message.alert, message.subject.as_str())
}

/// `v1=` and 64 hexadecimal digits.
pub(super) fn signature(key: &str, timestamp: i64, body: &str) -> Result<String, Trouble> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).map_err(|_| Trouble::never("the signing key is no key"))?;
    mac.update(format!("{timestamp}.{body}").as_bytes());
    let mut text = "v1=".to_owned();
    for byte in mac.finalize().into_bytes() {
        // Writing into a text cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    Ok(text)
}

/// The request's body.
pub(super) fn payload(message: &Message) -> Value {
    let facts: Vec<Value> = message.facts.iter().map(|fact| json!({ "name": fact.name, "text": fact.text })).collect();
    let links: Vec<Value> = message.links.iter().map(|link| json!({ "name": link.name, "url": link.url })).collect();
    json!({
        "version": VERSION,
        "event": message.subject.as_str(),
        "alert": message.alert,
        "incident": message.incident,
        "environment": message.environment,
        "job": message.job,
        "at": message.at.to_string(),
        "title": message.title,
        "text": message.lead,
        "facts": facts,
        "links": links,
        "notes": message.notes,
    })
}
