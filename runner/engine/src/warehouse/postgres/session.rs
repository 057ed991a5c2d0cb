//! The contract's session over one session of the protocol, for the warehouses that speak it.

use async_trait::async_trait;
use errand_model::failure::Failure;
use errand_model::job::TableName;

use super::{CAPABILITIES, Link, append, read};
use crate::warehouse::{AppendTarget, Capabilities, Extraction, NextChunk, PutRows, Session, TableColumn};

/// What warehouses of this protocol do each in their own way: how rows come and go.
#[async_trait]
pub(in crate::warehouse) trait Transport: Send {
    /// What the warehouse can do.
    fn capabilities(&self) -> &'static Capabilities;

    /// As [`Session::describe`].
    async fn describe(&mut self, link: &mut Link, query: &str) -> Result<Vec<TableColumn>, Failure>;

    /// As [`Session::append`].
    async fn append(
        &mut self,
        link: &mut Link,
        targets: Vec<AppendTarget>,
        next: NextChunk,
        extraction: Option<&dyn Extraction>,
    ) -> Result<Vec<u64>, Failure>;

    /// As [`Session::read`].
    async fn read(&mut self, link: &mut Link, query: &str, put: PutRows) -> Result<u64, Failure>;

    /// As [`Session::sweep`].
    async fn sweep(&mut self) {}
}

/// One session.
pub(in crate::warehouse) struct LinkSession<T> {
    link: Link,
    transport: T,
}

impl<T> LinkSession<T> {
    pub(in crate::warehouse) fn new(link: Link, transport: T) -> Self {
        Self { link, transport }
    }
}

#[async_trait]
impl<T: Transport> Session for LinkSession<T> {
    fn capabilities(&self) -> &'static Capabilities {
        self.transport.capabilities()
    }

    async fn execute(&mut self, sql: &str) -> Result<u64, Failure> {
        self.link.execute(sql).await
    }

    async fn query(&mut self, sql: &str, limit: usize) -> Result<Vec<Vec<Option<String>>>, Failure> {
        self.link.query(sql, limit).await
    }

    async fn describe(&mut self, query: &str) -> Result<Vec<TableColumn>, Failure> {
        self.transport.describe(&mut self.link, query).await
    }

    async fn columns(&mut self, table: &TableName) -> Result<Option<Vec<TableColumn>>, Failure> {
        self.link.columns(self.transport.capabilities(), table).await
    }

    async fn append(
        &mut self,
        targets: Vec<AppendTarget>,
        next: NextChunk,
        extraction: Option<&dyn Extraction>,
    ) -> Result<Vec<u64>, Failure> {
        self.transport.append(&mut self.link, targets, next, extraction).await
    }

    async fn sweep(&mut self) {
        self.transport.sweep().await;
    }

    async fn read(&mut self, query: &str, put: PutRows) -> Result<u64, Failure> {
        self.transport.read(&mut self.link, query, put).await
    }

    async fn rollback(&mut self) -> Result<(), Failure> {
        self.link.rollback().await
    }
}

/// `COPY` over the connection itself.
pub(super) struct Copy;

#[async_trait]
impl Transport for Copy {
    fn capabilities(&self) -> &'static Capabilities {
        &CAPABILITIES
    }

    async fn describe(&mut self, link: &mut Link, query: &str) -> Result<Vec<TableColumn>, Failure> {
        Ok(link.describe(query).await?.into_iter().map(|described| described.column).collect())
    }

    /// Rows wait nowhere on their way: a later attempt extracts them again.
    async fn append(
        &mut self,
        link: &mut Link,
        targets: Vec<AppendTarget>,
        next: NextChunk,
        _: Option<&dyn Extraction>,
    ) -> Result<Vec<u64>, Failure> {
        append::append(link, targets, next).await
    }

    async fn read(&mut self, link: &mut Link, query: &str, put: PutRows) -> Result<u64, Failure> {
        read::read(link, query, put).await
    }
}
