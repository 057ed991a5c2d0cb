//! Contacts: people, and the channels that reach them.

use std::collections::BTreeMap;

use super::network;
use super::project::Reader;
use crate::decode::{Entries, Spanned};
use crate::document::project::{ContactDocument, SecretDocument, UrlDocument, WebhookDocument};
use crate::job::{Contact, Webhook, WebhookUrl};
use crate::value::Name;
use crate::yaml::Key;

impl Reader<'_> {
    pub(super) fn contacts(&mut self, documents: &Entries<ContactDocument>) -> BTreeMap<String, Contact> {
        let mut out = BTreeMap::new();
        for (key, document) in &documents.0 {
            self.name(&key.text, &key.span);
            if matches!(key.text.as_str(), "owner" | "product_owner") {
                self.error(
                    "definition::bad_name",
                    format!("`{}` stands for a contact in `alerts`", key.text),
                    "choose another name",
                    &key.span,
                );
            }
            let contact = self.contact(key, document);
            out.insert(key.text.clone(), contact);
        }
        out
    }

    fn contact(&mut self, key: &Key, document: &ContactDocument) -> Contact {
        if is_empty(document) {
            self.error(
                "project::no_channel",
                format!("contact `{}` has no channel", key.text),
                "add `slack`, `pagerduty`, `teams`, `sns`, `email` or `webhook`",
                &key.span,
            );
        }
        let topic = document.sns.as_ref().and_then(|sns| sns.topic_arn.as_ref());
        Contact {
            slack_webhook: document.slack.as_ref().and_then(|slack| secret(slack.webhook.as_ref())),
            pagerduty_routing_key: document.pagerduty.as_ref().and_then(|pager| secret(pager.routing_key.as_ref())),
            teams_webhook: document.teams.as_ref().and_then(|teams| secret(teams.webhook.as_ref())),
            sns_topic: self.checked(topic, network::topic),
            email: self.email(document),
            webhook: document.webhook.as_ref().and_then(|webhook| self.webhook(webhook)),
        }
    }

    fn email(&mut self, document: &ContactDocument) -> Vec<String> {
        let Some(to) = document.email.as_ref().and_then(|email| email.to.as_ref()) else { return Vec::new() };
        if to.is_empty() {
            self.error("definition::empty_value", "there is nobody in this list", "write an address, or remove `email`", &to.span);
        }
        for address in &to.value {
            self.address(address);
        }
        to.iter().map(|address| address.value.clone()).collect()
    }

    fn webhook(&mut self, document: &WebhookDocument) -> Option<Webhook> {
        let url = match &document.url.as_ref()?.value {
            UrlDocument::Text(url) => self.checked(Some(url), network::webhook).map(WebhookUrl::Plain),
            UrlDocument::Secret(name) => name.secret.as_ref().map(|name| WebhookUrl::Secret(name.value.clone())),
        };
        Some(Webhook { url: url?, signing_key: secret(document.signing_key.as_ref())? })
    }

    fn address(&mut self, address: &Spanned<String>) {
        let is_address = address
            .split_once('@')
            .is_some_and(|(user, host)| !user.is_empty() && host.contains('.') && !address.contains(char::is_whitespace));
        if !is_address {
            self.error(
                "definition::bad_value",
                format!("`{}` is not an e-mail address", address.value),
                "write `name@example.com`",
                &address.span,
            );
        }
    }
}

fn is_empty(document: &ContactDocument) -> bool {
    let ContactDocument { slack, pagerduty, teams, sns, email, webhook } = document;
    slack.is_none() && pagerduty.is_none() && teams.is_none() && sns.is_none() && email.is_none() && webhook.is_none()
}

fn secret(document: Option<&Spanned<SecretDocument>>) -> Option<Name> {
    document?.secret.as_ref().map(|name| name.value.clone())
}
