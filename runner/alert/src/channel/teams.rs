//! Microsoft Teams: an Adaptive Card for the workflow "when a Teams webhook request is received"
//! (<https://learn.microsoft.com/en-us/microsoftteams/platform/webhooks-and-connectors/how-to/add-incoming-webhook>): at most 28 KB.
//!
//! Texts are runs of a `RichTextBlock`, which reads no Markdown: a name such as `orders_by_day` stays as it is.

use async_trait::async_trait;
use serde_json::{Value, json};

use super::{Channel, Trouble, http};
use crate::message::{Fact, Message, Subject};
use crate::secret::Secret;
use crate::text::cut;

/// Most characters of one text; lengths are halved until the card is small enough.
const TEXT: usize = 3_000;
/// Most bytes of a card.
const CARD: usize = 27_000;
/// Most buttons that Teams shows.
const BUTTONS: usize = 6;
/// Longest address of a button, and longest name of anything.
const ADDRESS: usize = 2_000;
const NAME: usize = 60;

pub(super) struct Teams {
    pub(super) http: reqwest::Client,
    pub(super) webhook: Secret,
}

#[async_trait]
impl Channel for Teams {
    async fn send(&self, message: &Message) -> Result<(), Trouble> {
        let url = http::address(self.webhook.expose())?;
        http::send("Microsoft Teams", self.http.post(url).json(&payload(message))).await
    }
}

/// The request's body.
pub(super) fn payload(message: &Message) -> Value {
    let mut most = TEXT;
    loop {
        let body = with_texts_of(message, most);
        if most < 50 || body.to_string().len() <= CARD {
            return body;
        }
        most /= 2;
    }
}

fn with_texts_of(message: &Message, most: usize) -> Value {
    let color = match message.subject {
        Subject::Failure => "Attention",
        Subject::Late | Subject::Warning => "Warning",
        Subject::Recovered => "Good",
    };
    let title =
        json!({ "type": "TextRun", "text": cut(&message.title, most.min(300)), "size": "Large", "weight": "Bolder", "color": color });
    let mut body = vec![block(&[title]), block(&[run(&message.lead, most)])];
    body.extend(message.facts.iter().map(|fact| told(fact, most)));
    body.extend(message.notes.iter().map(|note| block(&[json!({ "type": "TextRun", "text": cut(note, most), "isSubtle": true })])));
    let is_address = |url: &str| url.starts_with("https://") && url.len() <= ADDRESS && url.is_ascii();
    let links = message.links.iter().filter(|link| is_address(&link.url)).take(BUTTONS);
    let actions: Vec<Value> =
        links.map(|link| json!({ "type": "Action.OpenUrl", "title": cut(&link.name, NAME), "url": link.url })).collect();
    let content = json!({
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "msteams": { "width": "Full" },
        "body": body,
        "actions": actions,
    });
    let card = json!({ "contentType": "application/vnd.microsoft.card.adaptive", "contentUrl": null, "content": content });
    json!({ "type": "message", "attachments": [card] })
}

fn told(fact: &Fact, most: usize) -> Value {
    let name = json!({ "type": "TextRun", "text": format!("{}: ", cut(&fact.name, NAME)), "weight": "Bolder" });
    let mut text = run(&fact.text, most);
    if fact.literal {
        text["fontType"] = "Monospace".into();
    }
    block(&[name, text])
}

fn run(text: &str, most: usize) -> Value {
    json!({ "type": "TextRun", "text": cut(text, most) })
}

fn block(inlines: &[Value]) -> Value {
    json!({ "type": "RichTextBlock", "inlines": inlines })
}
