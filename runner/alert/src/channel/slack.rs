//! Slack: an incoming webhook and Block Kit (<https://docs.slack.dev/reference/block-kit/blocks>): at most 50 blocks, 3,000 characters in a
//! section, 150 in a header.

use async_trait::async_trait;
use serde_json::{Value, json};

use super::{Channel, Trouble, http};
use crate::message::{Fact, Message, Subject};
use crate::secret::Secret;
use crate::text::cut_by;

/// Most characters of a section, with some room for its marks.
const SECTION: usize = 2_900;
/// Most characters of a header.
const HEADER: usize = 150;
/// Most facts: with header, lead, links and notes, below 50 blocks.
const FACTS: usize = 40;

pub(super) struct Slack {
    pub(super) http: reqwest::Client,
    pub(super) webhook: Secret,
}

#[async_trait]
impl Channel for Slack {
    async fn send(&self, message: &Message) -> Result<(), Trouble> {
        let url = http::address(self.webhook.expose())?;
        http::send("Slack", self.http.post(url).json(&payload(message))).await
    }
}

/// The request's body.
pub(super) fn payload(message: &Message) -> Value {
    let sign = match message.subject {
        Subject::Failure => ":red_circle:",
        Subject::Late => ":large_orange_circle:",
        Subject::Warning => ":large_yellow_circle:",
        Subject::Recovered => ":large_green_circle:",
    };
    let title = format!("{sign} {}", message.title);
    let mut blocks =
        vec![json!({ "type": "header", "text": { "type": "plain_text", "text": cut_by(&title, HEADER, char::len_utf16), "emoji": true } })];
    blocks.push(section(&marked(&message.lead)));
    blocks.extend(message.facts.iter().take(FACTS).map(|fact| section(&told(fact))));
    if !message.links.is_empty() {
        let links: Vec<String> =
            message.links.iter().map(|link| format!("<{}|{}>", escaped(&link.url, SECTION / 6), escaped(&link.name, 50))).collect();
        blocks.push(section(&links.join("  ·  ")));
    }
    if !message.notes.is_empty() {
        let notes = escaped(&message.notes.join("\n"), SECTION);
        blocks.push(json!({ "type": "context", "elements": [{ "type": "mrkdwn", "text": notes }] }));
    }
    json!({ "text": cut_by(&title, 300, width), "blocks": blocks, "unfurl_links": false, "unfurl_media": false })
}

fn section(text: &str) -> Value {
    json!({ "type": "section", "text": { "type": "mrkdwn", "text": text } })
}

fn told(fact: &Fact) -> String {
    let name = escaped(&fact.name, 100);
    if fact.literal {
        // Three backticks would end the block.
        return format!("*{name}*\n```\n{}\n```", escaped(&fact.text.replace("```", "'''"), SECTION - 120));
    }
    format!("*{name}*\n{}", escaped(&fact.text, SECTION - 120))
}

fn marked(text: &str) -> String {
    escaped(text, SECTION)
}

/// The three characters that Slack reads as marks of links (<https://docs.slack.dev/messaging/formatting-message-text>).
fn escaped(text: &str, most: usize) -> String {
    cut_by(text, most, width).replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

const fn width(c: char) -> usize {
    match c {
        '&' => 5,
        '<' | '>' => 4,
        _ => c.len_utf16(),
    }
}
