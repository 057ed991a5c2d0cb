//! The contract's session over one session of the protocol.

use async_trait::async_trait;
use errand_model::failure::Failure;
use errand_model::job::TableName;

use super::{CAPABILITIES, Link, append, read};
use crate::warehouse::{AppendTarget, Capabilities, NextChunk, PutRows, Session, TableColumn};

pub(super) struct PostgresSession {
    link: Link,
}

impl PostgresSession {
    pub(super) fn new(link: Link) -> Self {
        Self { link }
    }
}

#[async_trait]
impl Session for PostgresSession {
    fn capabilities(&self) -> &'static Capabilities {
        &CAPABILITIES
    }

    async fn execute(&mut self, sql: &str) -> Result<u64, Failure> {
        self.link.execute(sql).await
    }

    async fn query(&mut self, sql: &str, limit: usize) -> Result<Vec<Vec<Option<String>>>, Failure> {
        self.link.query(sql, limit).await
    }

    async fn describe(&mut self, query: &str) -> Result<Vec<TableColumn>, Failure> {
        Ok(self.link.describe(query).await?.into_iter().map(|described| described.column).collect())
    }

    async fn columns(&mut self, table: &TableName) -> Result<Option<Vec<TableColumn>>, Failure> {
        self.link.columns(&CAPABILITIES, table).await
    }

    async fn append(&mut self, targets: Vec<AppendTarget>, next: NextChunk) -> Result<Vec<u64>, Failure> {
        append::append(&mut self.link, targets, next).await
    }

    async fn read(&mut self, query: &str, put: PutRows) -> Result<u64, Failure> {
        read::read(&mut self.link, query, put).await
    }

    async fn rollback(&mut self) -> Result<(), Failure> {
        self.link.rollback().await
    }
}
