//! Secrets of AWS Secrets Manager, by a prefix and their name.

use std::time::Duration;

use aws_sdk_secretsmanager::Client;
use errand_model::failure::{Failure, FailureKind};
use tokio::sync::OnceCell;

use super::service::{self, Limits};

/// A step waits for this: a few seconds, a few times.
const LIMITS: Limits = Limits { attempt: Duration::from_secs(5), attempts: 3 };

/// Secrets whose names begin with a prefix.
pub(crate) struct Vault {
    prefix: String,
    client: OnceCell<Client>,
}

impl Vault {
    /// Nothing is asked of the service yet.
    pub(crate) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned(), client: OnceCell::new() }
    }

    /// The name that a secret has there.
    pub(crate) fn full(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// The current value; none when there is no such secret.
    ///
    /// Fails as `Definition` with `secret::unreadable` when it is no text, else with `aws::*`.
    pub(crate) async fn get(&self, name: &str) -> Result<Option<String>, Failure> {
        let full = self.full(name);
        let connect = || async { Ok::<_, Failure>(Client::new(&service::config(None, LIMITS).await?)) };
        let client = self.client.get_or_try_init(connect).await?;
        match client.get_secret_value().secret_id(&full).send().await {
            Ok(answer) => match answer.secret_string() {
                Some(text) => Ok(Some(text.to_owned())),
                None => {
                    let failure = Failure::new(FailureKind::Definition, "secret::unreadable", format!("the secret `{full}` is no text"));
                    Err(failure.help("store it in Secrets Manager as text, not as bytes"))
                }
            },
            Err(error) if service::code(&error) == "ResourceNotFoundException" => Ok(None),
            Err(error) => Err(service::failure("read the secret", &full, "secretsmanager:GetSecretValue", &error)),
        }
    }
}
