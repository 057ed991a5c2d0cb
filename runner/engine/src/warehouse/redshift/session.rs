//! The contract's session: statements as Postgres has them, rows through the staging bucket.

use async_trait::async_trait;
use errand_model::failure::Failure;
use errand_model::job::TableName;

use super::{CAPABILITIES, Staging, load, sql, unload};
use crate::warehouse::postgres::{Link, kind};
use crate::warehouse::{AppendTarget, Capabilities, NextChunk, Purpose, PutRows, Session, TableColumn};

pub(super) struct RedshiftSession {
    link: Link,
    staging: Staging,
    purpose: Purpose,
    /// Results read so far: each has its own directory.
    reads: u32,
}

impl RedshiftSession {
    pub(super) fn new(link: Link, staging: Staging, purpose: Purpose) -> Self {
        Self { link, staging, purpose, reads: 0 }
    }

    /// What the directories of this session's files begin with.
    fn load(&self) -> String {
        let own = || format!("{}-{}-{}", self.purpose.run_id, self.purpose.step, self.purpose.attempt);
        self.purpose.load_id.clone().unwrap_or_else(own)
    }
}

#[async_trait]
impl Session for RedshiftSession {
    fn capabilities(&self) -> &'static Capabilities {
        &CAPABILITIES
    }

    async fn execute(&mut self, sql: &str) -> Result<u64, Failure> {
        self.link.execute(sql).await
    }

    async fn query(&mut self, sql: &str, limit: usize) -> Result<Vec<Vec<Option<String>>>, Failure> {
        self.link.query(sql, limit).await
    }

    /// The driver cannot ask for types that Postgres lacks, `SUPER` above all: an empty table tells them.
    async fn describe(&mut self, query: &str) -> Result<Vec<TableColumn>, Failure> {
        self.link.execute(&sql::drop_describe()).await?;
        self.link.execute_wrapped(&sql::create_describe(query), query, sql::describe_head()).await?;
        let rows = self.link.query(&sql::described(), usize::MAX >> 1).await?;
        self.link.execute(&sql::drop_describe()).await?;
        let column = |row: Vec<Option<String>>| {
            let mut values = row.into_iter();
            let (name, type_name) = (values.next()??, values.next()??);
            Some(TableColumn { name, kind: kind(&type_name), type_name })
        };
        Ok(rows.into_iter().filter_map(column).collect())
    }

    async fn columns(&mut self, table: &TableName) -> Result<Option<Vec<TableColumn>>, Failure> {
        self.link.columns(&CAPABILITIES, table).await
    }

    async fn append(&mut self, targets: Vec<AppendTarget>, next: NextChunk) -> Result<Vec<u64>, Failure> {
        let load = self.load();
        load::append(&mut self.link, &self.staging, &load, targets, next).await
    }

    async fn read(&mut self, query: &str, put: PutRows) -> Result<u64, Failure> {
        let columns = self.describe(query).await?;
        self.reads += 1;
        let directory = format!("unload/{}-{}-{}", self.load(), self.purpose.attempt, self.reads);
        unload::read(&mut self.link, &self.staging, &directory, query, columns, put).await
    }

    async fn rollback(&mut self) -> Result<(), Failure> {
        self.link.rollback().await
    }
}
