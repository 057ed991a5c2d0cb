//! Snowflake, by the protocol of its own drivers.
//!
//! A [`Session`] of the contract may be several sessions of the server one after the other: each is replaced before it expires, never
//! inside a transaction, and never once a statement has left something in it (`USE`, `SET`, a temporary table): where such a session ends,
//! the next statement fails.
//! Rows go in and out as Parquet files under an external stage; files that it reads as Errand does go in whole.

mod account;
mod bookkeeper;
mod connection;
mod copy;
mod error;
mod files;
mod history;
pub(super) mod kind;
mod load;
mod lock;
mod pipe;
mod result;
mod run;
mod session;
pub(crate) mod setup;
mod statement;
mod unload;
mod value;

use std::sync::Arc;

use async_trait::async_trait;
use errand_model::failure::Failure;

use super::{Capabilities, Purpose, Session, Surroundings, Warehouse};
use account::Account;

/// One account.
pub(super) struct Snowflake {
    account: Arc<Account>,
}

impl Snowflake {
    /// Takes the account's description; the server is asked when a session begins.
    pub(super) async fn open(definition: &errand_model::job::Snowflake, surroundings: Surroundings<'_>) -> Result<Self, Failure> {
        Ok(Self { account: Arc::new(Account::new(definition, surroundings)?) })
    }
}

#[async_trait]
impl Warehouse for Snowflake {
    fn capabilities(&self) -> &'static Capabilities {
        Account::capabilities()
    }

    fn default_schema(&self) -> &str {
        &self.account.schema
    }

    async fn session(&self, purpose: &Purpose) -> Result<Box<dyn Session>, Failure> {
        Ok(Box::new(session::open(Arc::clone(&self.account), purpose).await?))
    }
}
