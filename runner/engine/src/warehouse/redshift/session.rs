//! How rows come and go: through the staging bucket. Statements are as Postgres has them.

use async_trait::async_trait;
use errand_model::failure::Failure;

use super::{CAPABILITIES, Staging, load, sql, unload};
use crate::warehouse::postgres::{Link, Transport, kind};
use crate::warehouse::{AppendTarget, Capabilities, Extraction, NextChunk, Purpose, PutRows, TableColumn, parts};

pub(super) struct Staged {
    staging: Staging,
    purpose: Purpose,
    /// Results read so far: each has its own directory.
    reads: u32,
}

impl Staged {
    pub(super) fn new(staging: Staging, purpose: Purpose) -> Self {
        Self { staging, purpose, reads: 0 }
    }

    /// What the directories of this session's files begin with.
    fn load(&self) -> String {
        let own = || format!("{}-{}-{}", self.purpose.run_id, self.purpose.step, self.purpose.attempt);
        parts::directory(&self.purpose.load_id.clone().unwrap_or_else(own))
    }
}

#[async_trait]
impl Transport for Staged {
    fn capabilities(&self) -> &'static Capabilities {
        &CAPABILITIES
    }

    /// The driver cannot ask for types that Postgres lacks, `SUPER` above all: an empty table tells them.
    async fn describe(&mut self, link: &mut Link, query: &str) -> Result<Vec<TableColumn>, Failure> {
        link.execute(&sql::drop_describe()).await?;
        link.execute_wrapped(&sql::create_describe(query), query, sql::describe_head()).await?;
        let rows = link.query(&sql::described(), usize::MAX >> 1).await?;
        link.execute(&sql::drop_describe()).await?;
        let column = |row: Vec<Option<String>>| {
            let mut values = row.into_iter();
            let (name, type_name) = (values.next()??, values.next()??);
            Some(TableColumn { name, kind: kind(&type_name), type_name })
        };
        Ok(rows.into_iter().filter_map(column).collect())
    }

    async fn append(
        &mut self,
        link: &mut Link,
        targets: Vec<AppendTarget>,
        next: NextChunk,
        extraction: Option<&dyn Extraction>,
    ) -> Result<Vec<u64>, Failure> {
        load::append(link, &self.staging, &self.load(), targets, next, extraction).await
    }

    async fn read(&mut self, link: &mut Link, query: &str, put: PutRows) -> Result<u64, Failure> {
        let columns = self.describe(link, query).await?;
        self.reads += 1;
        let directory = format!("unload/{}-{}-{}", self.load(), self.purpose.attempt, self.reads);
        unload::read(link, &self.staging, &directory, query, columns, put).await
    }

    async fn sweep(&mut self) {
        if self.purpose.load_id.is_some() {
            parts::sweep(&self.staging.store, &self.load()).await;
        }
    }
}
