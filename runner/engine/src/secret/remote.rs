//! Values that AWS Secrets Manager holds, asked for once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use errand_model::failure::{Failure, FailureKind};

use super::{Secret, SecretName};
use crate::aws::secrets::Vault;
use crate::store;

/// Most time for one secret, all attempts together.
const LIMIT: Duration = Duration::from_secs(20);

/// The secrets under one prefix.
pub(super) struct Remote {
    prefix: String,
    vault: Arc<Vault>,
    /// What was asked for: none for a secret that is not there.
    known: Mutex<BTreeMap<SecretName, Option<Secret>>>,
}

impl Remote {
    pub(super) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned(), vault: Arc::new(Vault::new(prefix)), known: Mutex::default() }
    }

    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The name of a secret there.
    pub(super) fn full(&self, name: &SecretName) -> String {
        self.vault.full(name.as_str())
    }

    /// The value; none when there is no such secret. Others that ask meanwhile wait for the one answer.
    pub(super) fn get(&self, name: &SecretName) -> Result<Option<Secret>, Failure> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = known.get(name) {
            return Ok(found.clone());
        }
        let (vault, asked, full) = (Arc::clone(&self.vault), name.to_string(), self.full(name));
        let found = store::wait(async move {
            tokio::time::timeout(LIMIT, vault.get(&asked)).await.unwrap_or_else(|_| {
                let message = format!("AWS Secrets Manager did not tell `{full}` within {} s", LIMIT.as_secs());
                Err(Failure::new(FailureKind::Transient, "secret::unavailable", message).help("see whether the task's network reaches it"))
            })
        })?;
        let found = found.map(|value| Secret::new(&value));
        known.insert(name.clone(), found.clone());
        Ok(found)
    }
}
