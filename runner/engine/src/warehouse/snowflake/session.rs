//! The contract's session over one [`Runner`].

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use errand_model::failure::Failure;
use errand_model::job::TableName;
use tokio_util::sync::CancellationToken;

use super::account::Account;
use super::run::Runner;
use super::{error, kind, load, result, unload};
use crate::warehouse::{AppendTarget, Capabilities, Extraction, FileLoads, NextChunk, Pipes, PutRows, Session, TableColumn, UsageQuestion};

/// What something cost is not worth a longer wait.
const USAGE_TIMEOUT: Duration = Duration::from_secs(20);

/// One session.
pub(super) struct SnowflakeSession {
    pub(super) runner: Runner,
    pub(super) cancelled: CancellationToken,
}

impl SnowflakeSession {
    pub(super) fn new(runner: Runner) -> Self {
        let cancelled = runner.purpose.cancelled.clone();
        Self { runner, cancelled }
    }
}

#[async_trait]
impl Session for SnowflakeSession {
    fn capabilities(&self) -> &'static Capabilities {
        Account::capabilities()
    }

    async fn execute(&mut self, sql: &str) -> Result<u64, Failure> {
        let answer = self.runner.run(sql, &self.cancelled).await?;
        let Some(mut cursor) = answer.cursor else { return Ok(answer.rows) };
        let mut rows = 0;
        while let Some(table) = self.runner.chunk(&mut cursor, &self.cancelled).await? {
            rows += result::affected(&table).map_err(|problem| error::internal(&problem.to_string()))?;
        }
        Ok(rows)
    }

    async fn query(&mut self, sql: &str, limit: usize) -> Result<Vec<Vec<Option<String>>>, Failure> {
        self.runner.texts(sql, limit, &self.cancelled).await
    }

    async fn describe(&mut self, query: &str) -> Result<Vec<TableColumn>, Failure> {
        self.runner.describe(query, &self.cancelled).await
    }

    async fn columns(&mut self, table: &TableName) -> Result<Option<Vec<TableColumn>>, Failure> {
        let name = Account::capabilities().quote_table(table);
        let rows = match self.runner.texts(&format!("DESC TABLE {name}"), usize::MAX, &self.cancelled).await {
            Ok(rows) => rows,
            Err(failure) if failure.code == "warehouse::missing_object" => return Ok(None),
            Err(failure) => return Err(failure),
        };
        let column = |row: Vec<Option<String>>| {
            let mut values = row.into_iter();
            let name = values.next().flatten().unwrap_or_default();
            let type_name = values.next().flatten().unwrap_or_default();
            TableColumn { name, kind: kind::parse(&type_name), type_name }
        };
        Ok(Some(rows.into_iter().map(column).collect()))
    }

    async fn append(
        &mut self,
        targets: Vec<AppendTarget>,
        next: NextChunk,
        extraction: Option<&dyn Extraction>,
    ) -> Result<Vec<u64>, Failure> {
        load::append(&mut self.runner, &targets, next, extraction, &self.cancelled).await
    }

    async fn sweep(&mut self) {
        load::sweep(&mut self.runner).await;
    }

    async fn read(&mut self, query: &str, put: PutRows) -> Result<u64, Failure> {
        unload::read(&mut self.runner, query, put, &self.cancelled).await
    }

    async fn rollback(&mut self) -> Result<(), Failure> {
        self.runner.rollback().await
    }

    async fn go_home(&mut self) -> Result<(), Failure> {
        self.runner.go_home(&self.cancelled).await
    }

    fn pipes(&mut self) -> Option<&mut dyn Pipes> {
        Some(self)
    }

    fn file_loads(&mut self) -> Option<&mut dyn FileLoads> {
        Some(self)
    }

    fn statement_id(&self) -> Option<String> {
        self.runner.last_id.clone()
    }

    fn usage(&self) -> Option<UsageQuestion> {
        if self.cancelled.is_cancelled() || self.runner.last_id.is_none() {
            return None;
        }
        let (account, tags) = (Arc::clone(&self.runner.account), self.runner.tags.clone());
        let purpose = self.runner.purpose.clone();
        // Clocks may differ a little, and the records are asked a little later.
        let seconds = self.runner.age_seconds() + 600;
        Some(Box::pin(async move {
            let ask = account.bookkeeper.usage(&account, &purpose, &tags, seconds);
            tokio::time::timeout(USAGE_TIMEOUT, ask).await.ok().flatten()
        }))
    }
}

impl Runner {
    /// The first rows of a statement as text.
    pub(super) async fn texts(
        &mut self,
        sql: &str,
        limit: usize,
        cancelled: &CancellationToken,
    ) -> Result<Vec<Vec<Option<String>>>, Failure> {
        let mut rows = Vec::new();
        let Some(mut cursor) = self.run(sql, cancelled).await?.cursor else { return Ok(rows) };
        while rows.len() < limit
            && let Some(table) = self.chunk(&mut cursor, cancelled).await?
        {
            result::table_texts(&table, limit, &mut rows).map_err(|problem| error::internal(&problem.to_string()))?;
        }
        Ok(rows)
    }

    /// The columns of a query; no row is made.
    pub(super) async fn describe(&mut self, query: &str, cancelled: &CancellationToken) -> Result<Vec<TableColumn>, Failure> {
        let answer = self.run(&format!("SELECT * FROM ({query}\n) LIMIT 0"), cancelled).await?;
        let cursor = answer.cursor.ok_or_else(|| error::lost("the description of a query is gone", None))?;
        Ok(cursor.schema().columns().iter().map(kind::column).collect())
    }
}

/// A session for one purpose.
pub(super) async fn open(account: Arc<Account>, purpose: &crate::warehouse::Purpose) -> Result<SnowflakeSession, Failure> {
    Ok(SnowflakeSession::new(Runner::open(account, purpose).await?))
}
