//! One statement from its submission to its outcome, whatever happens on the way.
//!
//! A statement is sent again only when it is known that the server never took it, or when it changes nothing. An outcome that nobody told
//! is looked up in the server's records from a session of its own; until it is known, nothing is repeated.

mod lost;

use std::pin::pin;
use std::time::Duration;

use errand_model::failure::{Failure, FailureKind};
use snowflake_connector_rs::{ErrorKind, QueryOptions, ResultCursor, ResultTable};
use tokio_util::sync::CancellationToken;

use super::account::Account;
use super::connection::{Connection, pause};
use super::error::{self, Cut, Trouble};
use super::history::{self, Entry, Found, State, Wanted};
use super::lock::Holder;
use super::result;
use super::statement::{self, Class, Leaves};
use crate::clock::{Clock, Stopwatch};
use crate::warehouse::Purpose;

/// The server ends a statement at its own limit; the client waits this much longer for the news.
const MARGIN: Duration = Duration::from_secs(20);
/// Without a limit: longer than any statement may run.
const FOREVER: Duration = Duration::from_secs(8 * 24 * 3600);
/// When the records are first asked about a statement that runs on, and how often after that.
const FIRST_LOOK: Duration = Duration::from_secs(15);
const NEXT_LOOK: Duration = Duration::from_secs(30);
/// An answer that did not come this long after the records say that the statement ended is lost.
const GRACE: Duration = Duration::from_secs(10);
/// Time for an abort, and for the statement to end after it.
const ABORT: Duration = Duration::from_secs(8);
const ABORT_PAUSE: Duration = Duration::from_millis(500);

/// What is said of a transaction whose session is gone.
const ENDED: &str = "the session ended inside the transaction";

/// What became of a statement that ended well.
pub(super) struct Answer {
    /// Its result; none where only the records told the outcome.
    pub(super) cursor: Option<ResultCursor>,
    /// Rows by the records, where there is no result.
    pub(super) rows: u64,
    query_id: String,
}

/// The state of one [`Session`](crate::warehouse::Session).
pub(super) struct Runner {
    pub(super) account: std::sync::Arc<Account>,
    pub(super) purpose: Purpose,
    connection: Option<Connection>,
    pub(super) in_transaction: bool,
    /// What statements left in the session, which another session would not have.
    leaves: Leaves,
    /// Id of the last statement that the server answered.
    pub(super) last_id: Option<String>,
    /// Tags of all sessions so far.
    pub(super) tags: Vec<String>,
    statements: u64,
    age: Stopwatch,
}

impl Runner {
    /// A session that is logged in.
    pub(super) async fn open(account: std::sync::Arc<Account>, purpose: &Purpose) -> Result<Self, Failure> {
        let purpose = purpose.clone();
        let age = Clock::system().stopwatch();
        let mut runner = Self {
            account,
            purpose,
            connection: None,
            in_transaction: false,
            leaves: Leaves::Nothing,
            last_id: None,
            tags: Vec::new(),
            statements: 0,
            age,
        };
        let cancelled = runner.purpose.cancelled.clone();
        runner.ready(false, &cancelled).await?;
        Ok(runner)
    }

    /// Seconds since its first login.
    pub(super) fn age_seconds(&self) -> u64 {
        self.age.elapsed().as_secs()
    }

    /// Runs one statement.
    pub(super) async fn run(&mut self, sql: &str, cancelled: &CancellationToken) -> Result<Answer, Failure> {
        let class = statement::classify(sql)?;
        let mut tries = 0;
        loop {
            if cancelled.is_cancelled() {
                return Err(error::cancelled());
            }
            tries += 1;
            self.ready(class == Class::Begin, cancelled).await?;
            if let Some(connection) = &mut self.connection {
                connection.is_tag_kept &= !statement::may_set_tag(sql);
            }
            let outcome = match self.submit(sql, cancelled).await {
                Ok(cursor) => Ok(Some(Answer { query_id: cursor.query_id().to_owned(), cursor: Some(cursor), rows: 0 })),
                Err(trouble) => self.decide(trouble, class, sql, tries, cancelled).await,
            };
            let outcome = match outcome {
                Err(failure) => {
                    let failure = self.blamed(failure).await;
                    return Err(self.of_commit(failure, class));
                }
                Ok(answer) => answer,
            };
            if let Some(answer) = outcome {
                self.leaves = self.leaves.after(sql, &self.account.home());
                match class {
                    Class::Begin => self.in_transaction = true,
                    Class::Commit | Class::Rollback => self.in_transaction = false,
                    Class::Read | Class::Write => {}
                }
                self.answered(&answer.query_id);
                return Ok(answer);
            }
            pause(tries, cancelled).await?;
        }
    }

    /// A commit that was under way when the run was cancelled is not one that was cancelled: whether it took effect is not known.
    fn of_commit(&mut self, failure: Failure, class: Class) -> Failure {
        if class != Class::Commit || failure.kind != FailureKind::Cancelled {
            return failure;
        }
        self.connection = None;
        self.in_transaction = false;
        error::lost("the run was cancelled while the commit was under way", None)
    }

    /// The next chunk of a result: no wait for one is longer than a statement may take.
    pub(super) async fn chunk(&self, cursor: &mut ResultCursor, cancelled: &CancellationToken) -> Result<Option<ResultTable>, Failure> {
        let limit = self.purpose.statement_timeout.map_or(result::CHUNK_LIMIT, |timeout| timeout.min(result::CHUNK_LIMIT));
        tokio::select! {
            next = result::next(cursor, limit) => next,
            () = cancelled.cancelled() => Err(error::cancelled()),
        }
    }

    /// Undoes the open transaction, even when the run is cancelled.
    pub(super) async fn rollback(&mut self) -> Result<(), Failure> {
        if !self.in_transaction || self.connection.is_none() {
            self.in_transaction = false;
            return Ok(());
        }
        let undone = tokio::time::timeout(MARGIN, self.run("ROLLBACK", &CancellationToken::new())).await;
        self.in_transaction = false;
        match undone {
            Ok(Ok(_)) => Ok(()),
            // A session that is gone takes its transaction with it.
            Ok(Err(failure)) => {
                self.connection = None;
                if failure.code == "warehouse::connection_lost" { Ok(()) } else { Err(failure) }
            }
            Err(_) => {
                self.connection = None;
                Err(error::lost("no answer to the rollback in time", None))
            }
        }
    }

    /// Back to the database and schema of the login, and to its role where the connection names one.
    pub(super) async fn go_home(&mut self, cancelled: &CancellationToken) -> Result<(), Failure> {
        if self.leaves == Leaves::More
            && let Some(role) = &self.account.role
        {
            let back = format!("USE ROLE {}", Account::capabilities().quote(role));
            self.run(&back, cancelled).await?;
        }
        if self.leaves != Leaves::Nothing {
            let back = format!("USE SCHEMA {}", self.account.home());
            self.run(&back, cancelled).await?;
        }
        Ok(())
    }

    /// A lock that was waited for in vain: the help says whose it is, as far as the records tell.
    async fn blamed(&self, failure: Failure) -> Failure {
        let Some(holder) = Holder::of(&failure) else { return failure };
        let asked = async {
            let companion = self.companion(&CancellationToken::new()).await.ok()?;
            history::tag(&companion.session, holder.statement()).await
        };
        let tag = tokio::time::timeout(MARGIN, asked).await.ok().flatten();
        failure.help(holder.help(tag.as_deref()))
    }

    /// A session for questions to the records, apart from the one that works.
    pub(super) async fn companion(&self, cancelled: &CancellationToken) -> Result<Connection, Failure> {
        Connection::open(&self.account, &self.purpose, cancelled).await
    }

    /// Sees to it that there is a session with time left. Inside a transaction there is one already, and one in which statements left
    /// something is not replaced: the author's next statement may mean another table in another session.
    async fn ready(&mut self, begins: bool, cancelled: &CancellationToken) -> Result<(), Failure> {
        if self.in_transaction && self.connection.is_none() {
            // Another session would commit each statement by itself.
            self.in_transaction = false;
            return Err(error::lost(ENDED, None));
        }
        let is_bound = self.leaves != Leaves::Nothing;
        if is_bound && self.connection.is_none() {
            self.leaves = Leaves::Nothing;
            return Err(error::lost("the session ended, and with it what `USE`, `SET` or a temporary table had left in it", None));
        }
        if !self.in_transaction && !is_bound && self.connection.as_ref().is_some_and(|connection| connection.is_old(begins)) {
            tracing::debug!("session is replaced before it expires");
            self.connection = None;
        }
        if self.connection.is_none() {
            let connection = Connection::open(&self.account, &self.purpose, cancelled).await?;
            self.tags.push(connection.tag.clone());
            self.connection = Some(connection);
        }
        Ok(())
    }

    /// Remembers a statement whose outcome is known.
    fn answered(&mut self, query_id: &str) {
        if let Some(connection) = &mut self.connection {
            connection.answered.insert(query_id.to_owned());
        }
        self.last_id = Some(query_id.to_owned());
    }

    async fn submit(&mut self, sql: &str, cancelled: &CancellationToken) -> Result<ResultCursor, Trouble> {
        let Some(connection) = &self.connection else { return Err(Trouble::Expired) };
        let deadline = self.purpose.statement_timeout.map_or(FOREVER, |timeout| timeout + MARGIN);
        let options = QueryOptions::new().with_query_response_timeout(deadline).with_query_cancel_request_timeout(ABORT);
        let handle = connection.session.query_handle_with_options(sql.to_owned(), options).map_err(|error| error::trouble(&error, sql))?;
        let request_id = handle.request_id().to_owned();
        let canceller = handle.canceller();
        self.statements += 1;
        tracing::info!(request_id, statement = self.statements, "statement goes to snowflake");
        let stopwatch = Clock::system().stopwatch();
        let mut execution = pin!(handle.execute());
        let answer = tokio::select! {
            answer = &mut execution => answer,
            entry = self.watch(connection, sql) => {
                return Err(Trouble::Unknown { query_id: Some(entry.query_id), cut: Cut::Line, why: "the answer did not come".to_owned() });
            }
            () = cancelled.cancelled() => {
                // An abort that is faster than the statement finds nothing to end: hence the repetition.
                let abort = async {
                    loop {
                        let aborted = canceller.cancel().await;
                        tracing::info!(request_id, accepted = aborted.is_ok(), "statement is cancelled");
                        tokio::time::sleep(ABORT_PAUSE).await;
                    }
                };
                let ended = tokio::time::timeout(ABORT, async { tokio::select! { ended = &mut execution => Some(ended), () = abort => None } });
                match ended.await.ok().flatten() {
                    // What ended well before the abort reached it, a commit above all, is not undone by calling it cancelled.
                    Some(Ok(cursor)) => Ok(cursor),
                    Some(Err(_)) | None => return Err(Trouble::Failed(error::cancelled())),
                }
            }
        };
        match answer {
            Ok(cursor) => {
                tracing::info!(request_id, query_id = cursor.query_id(), ms = stopwatch.elapsed_ms(), "statement is answered");
                Ok(cursor)
            }
            Err(problem) => {
                tracing::info!(request_id, query_id = problem.query_id(), ms = stopwatch.elapsed_ms(), error = %problem, "statement has no result");
                if problem.kind() == ErrorKind::Timeout && stopwatch.elapsed() >= deadline {
                    // Best effort: the server has a limit of its own.
                    let aborted = tokio::time::timeout(ABORT, canceller.cancel()).await;
                    tracing::debug!(request_id, accepted = matches!(aborted, Ok(Ok(_))), "statement past its time is cancelled");
                }
                let trouble = error::trouble(&problem, sql);
                if let (Trouble::Failed(_), Some(id)) = (&trouble, problem.query_id()) {
                    self.answered(id);
                }
                Err(trouble)
            }
        }
    }

    /// Follows a statement that runs on: its id is logged, and its end noticed though no answer comes.
    async fn watch(&self, connection: &Connection, sql: &str) -> Entry {
        tokio::time::sleep(FIRST_LOOK).await;
        // Without the records there is nothing to follow: the deadline of the statement decides.
        let Ok(companion) = self.companion(&CancellationToken::new()).await else { return std::future::pending().await };
        let (mut logged, mut ended) = (false, false);
        loop {
            let wanted = Wanted::LastOf { tag: &connection.tag, answered: &connection.answered, sql };
            match history::find(&companion.session, wanted).await {
                Ok(Found::Entry(entry)) => {
                    if !logged {
                        logged = true;
                        tracing::info!(query_id = entry.query_id, "statement runs on");
                    }
                    if entry.state() != State::Running {
                        if ended {
                            return entry;
                        }
                        ended = true;
                        tokio::time::sleep(GRACE).await;
                        continue;
                    }
                }
                Ok(Found::Another | Found::Nothing) => {}
                Err(problem) => {
                    tracing::debug!(error = %problem, "query history cannot be read");
                    return std::future::pending().await;
                }
            }
            tokio::time::sleep(NEXT_LOOK).await;
        }
    }
}
