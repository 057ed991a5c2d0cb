//! Secrets: webhooks and keys, from Secrets Manager, kept for a few minutes, and removed from every text that leaves.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use aws_sdk_secretsmanager::error::{ProvideErrorMetadata, SdkError};
use errand_model::failure::chain;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

/// How long a value is believed.
const KEPT: Duration = Duration::from_secs(300);
/// What stands where a secret stood.
const PLACEHOLDER: &str = "[secret]";
/// Values shorter than this stand in texts by chance.
const SHORT: usize = 6;

/// A value that must not be seen. It has no `Display`, and `Debug` shows nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(String);

impl Secret {
    pub(crate) fn new(value: &str) -> Self {
        Self(value.to_owned())
    }

    /// The value itself, for the request that needs it.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(PLACEHOLDER)
    }
}

/// Finds secrets by name; knows all that it has found.
#[derive(Debug)]
pub(crate) struct Secrets {
    client: aws_sdk_secretsmanager::Client,
    prefix: String,
    known: Mutex<BTreeMap<String, (Secret, Instant)>>,
}

impl Secrets {
    pub(crate) fn new(client: aws_sdk_secretsmanager::Client, prefix: String) -> Self {
        Self { client, prefix, known: Mutex::default() }
    }

    /// The value of a secret. One line end at its end is not part of it.
    ///
    /// Fails naming the secret, without any value.
    pub(crate) async fn get(&self, name: &str) -> Result<Secret, String> {
        if let Some((secret, at)) = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(name)
            && at.elapsed() < KEPT
        {
            return Ok(secret.clone());
        }
        let id = format!("{}{name}", self.prefix);
        let found = self.client.get_secret_value().secret_id(&id).send().await.map_err(|error| match (&error, error.code()) {
            (SdkError::ServiceError(_), Some("ResourceNotFoundException")) => format!("there is no secret `{id}` in Secrets Manager"),
            (SdkError::ServiceError(_), Some("AccessDeniedException")) => format!("the Lambda may not read the secret `{id}`"),
            (SdkError::ServiceError(_), code) => format!("the secret `{id}` cannot be read: {}", code.unwrap_or("no reason is given")),
            (other, _) => format!("the secret `{id}` cannot be read: {}", chain(other)),
        })?;
        let text = found.secret_string().unwrap_or_default();
        let text = text.strip_suffix('\n').unwrap_or(text);
        let secret = Secret::new(text.strip_suffix('\r').unwrap_or(text));
        if secret.expose().is_empty() {
            return Err(format!("the secret `{id}` holds no text"));
        }
        self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), (secret.clone(), Instant::now()));
        Ok(secret)
    }

    /// A text without the values that are known, as they are and as parts of URLs and of JSON.
    pub(crate) fn clean(&self, text: &str) -> String {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.values().fold(text.to_owned(), |text, (secret, _)| clean(&text, secret.expose()))
    }
}

fn clean(text: &str, value: &str) -> String {
    if value.chars().count() < SHORT {
        return text.to_owned();
    }
    let in_json = serde_json::Value::from(value).to_string();
    let in_url = utf8_percent_encode(value, NON_ALPHANUMERIC).to_string();
    // Of a webhook's URL, its path alone is the secret.
    let path = value.split_once("://").and_then(|(_, rest)| rest.split_once('/')).map(|(_, path)| path).filter(|path| path.len() >= 16);
    let forms = [Some(value), in_json.get(1..in_json.len() - 1), Some(in_url.as_str()), path];
    forms.into_iter().flatten().fold(text.to_owned(), |text, form| text.replace(form, PLACEHOLDER))
}

#[cfg(test)]
mod tests {
    use super::{Secret, clean};

    #[test]
    fn no_form_of_a_value_is_left() {
        let url = "https://hooks.example.com/services/T0/B0/abc\"def";
        for text in [
            url.to_owned(),
            format!("at {url}: no"),
            serde_json::json!({ "url": url }).to_string(),
            "see https%3A%2F%2Fhooks%2Eexample%2Ecom%2Fservices%2FT0%2FB0%2Fabc%22def".to_owned(),
            "POST /services/T0/B0/abc\"def".to_owned(),
        ] {
            let clean = clean(&text, url);
            assert!(!clean.contains("abc") && clean.contains("[secret]"), "{clean}");
        }
        assert_eq!(clean("a b", "b"), "a b");
        assert_eq!(format!("{:?}", Secret::new("hunter2")), "[secret]");
    }
}
