//! One session of the protocol: statements with their cancellation, what is known of the transaction, the way back to the pool.

use std::future::Future;
use std::pin::pin;
use std::time::{Duration, Instant};

use errand_model::failure::{Failure, FailureKind};
use futures_util::TryStreamExt;
use tokio_postgres::{CancelToken, Client, Error, SimpleQueryMessage};
use tokio_postgres_rustls::MakeRustlsConnect;
use tokio_util::sync::CancellationToken;

use super::catalog::{self, Described};
use super::connect::{Connected, Dialect};
use super::error::{self, Sent};
use super::statement::{self, Effect};
use crate::warehouse::{Capabilities, Purpose, TableColumn};
use errand_model::job::TableName;

/// Time between two cancel requests for one statement: one that comes between two statements is lost.
const CANCEL_AGAIN: Duration = Duration::from_millis(500);
/// How long a statement may go on after the first of them, before the connection is given up.
const CANCELLATION: Duration = Duration::from_secs(20);
/// Longest time for a cancel request or a `ROLLBACK`.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why a statement failed, and whether the connection goes on.
#[derive(Debug)]
pub(in crate::warehouse) struct Problem {
    /// The failure.
    pub(in crate::warehouse) failure: Failure,
    /// Whether the connection is gone.
    pub(in crate::warehouse) is_broken: bool,
}

impl Problem {
    pub(super) fn of(error: &Error, sent: Sent<'_>) -> Self {
        Self { failure: error::failure(error, sent), is_broken: error::is_broken(error) }
    }
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        Self { failure, is_broken: false }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Transaction {
    None,
    Open,
    /// A statement of it failed: the server refuses all but its end.
    Failed,
}

/// One session.
pub(in crate::warehouse) struct Link {
    client: Option<Connected>,
    cancel: CancelToken,
    tls: MakeRustlsConnect,
    dialect: Dialect,
    schema: String,
    cancelled: CancellationToken,
    statement_timeout: Option<Duration>,
    transaction: Transaction,
    /// Whether a statement was begun and its end not seen: the caller went away in between.
    is_busy: bool,
}

impl Link {
    pub(super) fn new(client: Connected, tls: MakeRustlsConnect, dialect: Dialect, schema: String, purpose: &Purpose) -> Self {
        Self {
            cancel: client.cancel_token(),
            client: Some(client),
            tls,
            dialect,
            schema,
            cancelled: purpose.cancelled.clone(),
            statement_timeout: purpose.statement_timeout,
            transaction: Transaction::None,
            is_busy: false,
        }
    }

    /// Longest time for one statement.
    pub(super) fn statement_timeout(&self) -> Option<Duration> {
        self.statement_timeout
    }

    /// Ends statements of this session.
    pub(in crate::warehouse) fn cancelled(&self) -> &CancellationToken {
        &self.cancelled
    }

    /// Runs statements of the driver itself, outside of any transaction.
    pub(super) async fn run_own(&mut self, sql: &str) -> Result<(), Failure> {
        self.run(false, async |client| client.batch_execute(sql).await.map_err(|error| Problem::of(&error, Sent::own()))).await
    }

    /// Runs one statement; says how many rows it changed or returned.
    pub(in crate::warehouse) async fn execute(&mut self, sql: &str) -> Result<u64, Failure> {
        let effect = statement::effect(sql);
        if statement::is_copy_with_client(sql) {
            let message = "`COPY` from or to the client cannot run in a step: nobody is there to send or take the rows";
            let failure = Failure::new(FailureKind::Permanent, "warehouse::refused", message);
            return Err(failure.help("use a step of kind `ingest` or `export`"));
        }
        if effect == Effect::Commit && self.transaction == Transaction::Failed {
            // The server would answer such a `COMMIT` with success, and undo everything.
            self.rollback().await?;
            let message = "nothing was committed: an earlier statement of the transaction failed, so it was rolled back";
            return Err(Failure::new(FailureKind::Permanent, "warehouse::refused", message));
        }
        let result = self
            .run(effect == Effect::Commit, async |client| count(client, sql).await.map_err(|error| Problem::of(&error, Sent::whole(sql))))
            .await;
        match (&result, effect) {
            (Ok(_), Effect::Begin | Effect::RollbackToSavepoint) => self.transaction = Transaction::Open,
            (Ok(_), Effect::Rollback) | (_, Effect::Commit) => self.transaction = Transaction::None,
            (_, Effect::None | Effect::Begin | Effect::Rollback | Effect::RollbackToSavepoint) => {}
        }
        result
    }

    /// Runs a statement that the driver wrote around one of the author's, `head` characters before it.
    pub(in crate::warehouse) async fn execute_wrapped(&mut self, sql: &str, author: &str, head: usize) -> Result<u64, Failure> {
        let sent = Sent { sql: author, shift: head };
        self.run(false, async |client| count(client, sql).await.map_err(|error| Problem::of(&error, sent))).await
    }

    /// The first rows of a query, as text.
    pub(in crate::warehouse) async fn query(&mut self, sql: &str, limit: usize) -> Result<Vec<Vec<Option<String>>>, Failure> {
        if !statement::is_query(sql) {
            return self
                .run(false, async |client| rows(client, sql, limit).await.map_err(|error| Problem::of(&error, Sent::whole(sql))))
                .await;
        }
        let described = self.describe(sql).await?;
        let list: Vec<String> = described.iter().enumerate().map(|(at, column)| column.as_text(at + 1, self.dialect)).collect();
        let names: Vec<String> = (1..=described.len()).map(|at| format!("c{at}")).collect();
        let head = format!("SELECT {} FROM (", list.join(", "));
        let wrapped = format!("{head}{sql}\n) AS q({}) LIMIT {limit}", names.join(", "));
        let sent = Sent { sql, shift: head.chars().count() };
        self.run(false, async |client| rows(client, &wrapped, limit).await.map_err(|error| Problem::of(&error, sent))).await
    }

    /// The columns of a query, which is parsed but not run.
    pub(in crate::warehouse) async fn describe(&mut self, sql: &str) -> Result<Vec<Described>, Failure> {
        self.run(false, async |client| {
            let prepared = client.prepare(sql).await.map_err(|error| Problem::of(&error, Sent::whole(sql)))?;
            Ok(prepared.columns().iter().map(Described::of).collect())
        })
        .await
    }

    /// The columns of a table.
    pub(in crate::warehouse) async fn columns(
        &mut self,
        capabilities: &Capabilities,
        table: &TableName,
    ) -> Result<Option<Vec<TableColumn>>, Failure> {
        let schema = table.schema.as_deref().map_or_else(|| self.schema.clone(), |schema| capabilities.fold(schema));
        let sql = catalog::columns(&schema, &capabilities.fold(&table.name));
        let found =
            self.run(false, async |client| rows(client, &sql, usize::MAX).await.map_err(|error| Problem::of(&error, Sent::own()))).await?;
        Ok((!found.is_empty()).then(|| found.into_iter().filter_map(catalog::column).collect()))
    }

    /// Undoes the open transaction; a connection on which that does not work is given up, and the server undoes it.
    pub(in crate::warehouse) async fn rollback(&mut self) -> Result<(), Failure> {
        if self.transaction == Transaction::None && !self.is_busy {
            return Ok(());
        }
        self.transaction = Transaction::None;
        let Some(client) = &self.client else { return Ok(()) };
        // A late cancel request may meet the first one.
        for _ in 0..2 {
            if let Ok(Ok(())) = tokio::time::timeout(PATIENCE, client.batch_execute("ROLLBACK")).await {
                self.is_busy = false;
                return Ok(());
            }
        }
        tracing::debug!("the session is given up, its transaction with it");
        self.give_up();
        Ok(())
    }

    /// Runs `work` with the session's client until it ends or the session is cancelled.
    pub(super) async fn run<T>(&mut self, commits: bool, work: impl AsyncFnOnce(&Client) -> Result<T, Problem>) -> Result<T, Failure> {
        if self.cancelled.is_cancelled() {
            return Err(error::cancelled());
        }
        if self.is_busy {
            self.give_up();
        }
        // Said before the first wait: a caller that goes away drops this future, and with it all that would be done below.
        self.is_busy = true;
        let begun = Instant::now();
        let Some(client) = &self.client else { return Err(gone()) };
        let guarded = self.guarded(commits, work(client)).await;
        self.is_busy = false;
        guarded.map_err(|problem| {
            if problem.is_broken {
                self.give_up();
            }
            if self.transaction == Transaction::Open {
                self.transaction = Transaction::Failed;
            }
            self.timed_out(problem.failure, begun.elapsed())
        })
    }

    /// A server that speaks another language than English says of a timeout only that it cancelled the statement.
    fn timed_out(&self, failure: Failure, elapsed: Duration) -> Failure {
        let by_server = failure.code == "warehouse::cancelled" && !self.cancelled.is_cancelled();
        if by_server && self.statement_timeout.is_some_and(|timeout| elapsed >= timeout) {
            return Failure { kind: FailureKind::Timeout, code: "warehouse::statement_timeout".to_owned(), ..failure };
        }
        failure
    }

    async fn guarded<T>(&self, commits: bool, work: impl Future<Output = Result<T, Problem>>) -> Result<T, Problem> {
        let mut work = pin!(work);
        tokio::select! {
            result = &mut work => return result,
            () = self.cancelled.cancelled() => {}
        }
        let asking = async {
            loop {
                self.request_cancel().await;
                tokio::time::sleep(CANCEL_AGAIN).await;
            }
        };
        let ended = tokio::select! {
            ended = tokio::time::timeout(CANCELLATION, &mut work) => ended.ok(),
            () = asking => None,
        };
        match ended {
            // What ended well before the request reached it, a commit above all, is not undone by calling it cancelled.
            Some(Ok(done)) => Ok(done),
            Some(Err(problem)) if commits && problem.is_broken => Err(problem),
            Some(Err(problem)) => Err(Problem { failure: error::cancelled(), ..problem }),
            None => Err(Problem { failure: if commits { gone() } else { error::cancelled() }, is_broken: true }),
        }
    }

    async fn request_cancel(&self) {
        match tokio::time::timeout(PATIENCE, self.cancel.cancel_query(self.tls.clone())).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(error = %error::with_causes(&error), "the server cannot be asked to cancel"),
            Err(_) => tracing::debug!("the server does not take the request to cancel"),
        }
    }

    /// Closes the connection; the server then undoes what was open.
    fn give_up(&mut self) {
        if let Some(client) = self.client.take() {
            drop(Connected::take(client));
        }
        self.is_busy = false;
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        let is_clean = self.transaction == Transaction::None && !self.is_busy && !self.cancelled.is_cancelled();
        if !is_clean || self.dialect == Dialect::Redshift {
            self.give_up();
        }
    }
}

fn gone() -> Failure {
    Failure::new(FailureKind::Transient, "warehouse::connection_lost", "the connection to the server is gone")
        .help("whether the last statement took effect is not known; errand looks before it repeats anything")
}

/// Rows changed or returned. Returned rows are dropped as they come.
async fn count(client: &Client, sql: &str) -> Result<u64, Error> {
    let mut messages = pin!(client.simple_query_raw(sql).await?);
    let mut rows = 0;
    while let Some(message) = messages.try_next().await? {
        if let SimpleQueryMessage::CommandComplete(affected) = message {
            rows += affected;
        }
    }
    Ok(rows)
}

async fn rows(client: &Client, sql: &str, limit: usize) -> Result<Vec<Vec<Option<String>>>, Error> {
    let mut messages = pin!(client.simple_query_raw(sql).await?);
    let mut rows = Vec::new();
    while let Some(message) = messages.try_next().await? {
        if let SimpleQueryMessage::Row(row) = message
            && rows.len() < limit
        {
            let values: Result<Vec<Option<String>>, Error> =
                (0..row.len()).map(|at| row.try_get(at).map(|value| value.map(str::to_owned))).collect();
            rows.push(values?);
        }
    }
    Ok(rows)
}
