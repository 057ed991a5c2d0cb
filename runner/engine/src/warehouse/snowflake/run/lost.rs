//! A statement whose answer did not come: what became of it, and whether it is sent again.

use std::time::Duration;

use errand_model::failure::{Failure, FailureKind};
use tokio_util::sync::CancellationToken;

use super::{Answer, ENDED, Runner};
use crate::warehouse::snowflake::connection::{Connection, pause};
use crate::warehouse::snowflake::error::{self, Cut, Trouble};
use crate::warehouse::snowflake::history::{self, Entry, Found, State, Wanted};
use crate::warehouse::snowflake::statement::Class;

/// How often one statement is sent at most.
const TRIES: u32 = 4;
/// How long the records may take to show a statement that the server took.
const LOOKS_FOR_ABSENCE: u32 = 4;

impl Runner {
    /// What to do about a statement without a result: `None` sends it again.
    pub(super) async fn decide(
        &mut self,
        trouble: Trouble,
        class: Class,
        sql: &str,
        tries: u32,
        cancelled: &CancellationToken,
    ) -> Result<Option<Answer>, Failure> {
        match trouble {
            Trouble::Failed(failure) => Err(failure),
            Trouble::Expired => {
                let age = self.connection.take().map_or(Duration::ZERO, |connection| connection.age());
                if std::mem::take(&mut self.in_transaction) {
                    return Err(error::ended(age, ENDED, None));
                }
                if tries < TRIES { Ok(None) } else { Err(error::unreachable("every new session ended at once")) }
            }
            Trouble::Unsent(_) if tries < TRIES => Ok(None),
            Trouble::Unsent(why) => {
                self.connection = None;
                Err(if std::mem::take(&mut self.in_transaction) { error::lost(&why, None) } else { error::unreachable(&why) })
            }
            Trouble::Unknown { query_id, cut, why } => {
                tracing::warn!(query_id, why, "outcome of a statement is not known, it is looked up");
                let outcome = self.follow(query_id.as_deref(), sql, cancelled).await?;
                let next = self.conclude(outcome, &Loss { query_id: query_id.clone(), cut, why, class, again: tries < TRIES }, sql);
                if let (Ok(None), Some(id), Some(connection)) = (&next, query_id, &mut self.connection) {
                    // Nobody may take it for a later statement.
                    connection.answered.insert(id);
                }
                next
            }
        }
    }

    fn conclude(&mut self, outcome: Outcome, loss: &Loss, sql: &str) -> Result<Option<Answer>, Failure> {
        let session_is_over = loss.cut == Cut::Session;
        let over = if session_is_over { self.connection.take() } else { None };
        if session_is_over && loss.class == Class::Begin && loss.again {
            // What it began ended with its session, and nothing was in it.
            return Ok(None);
        }
        // A commit or a rollback that was done leaves nothing behind in the session.
        let ends_transaction = matches!(loss.class, Class::Commit | Class::Rollback);
        let transaction_is_gone = session_is_over && (self.in_transaction && !ends_transaction || loss.class == Class::Begin);
        match outcome {
            Outcome::Done(answer) if !transaction_is_gone => Ok(Some(answer)),
            Outcome::Failed(entry) if !transaction_is_gone => {
                self.answered(&entry.query_id);
                Err(entry.failure(sql))
            }
            // One that has an id was taken: records that do not show it are late, or hide it from this role.
            Outcome::Absent if loss.again && loss.query_id.is_none() && !transaction_is_gone => Ok(None),
            Outcome::Absent | Outcome::Unknown
                if loss.again && !transaction_is_gone && loss.class == Class::Read && loss.cut != Cut::Deadline =>
            {
                Ok(None)
            }
            Outcome::Absent | Outcome::Unknown
                if loss.cut == Cut::Deadline && (self.in_transaction || loss.class == Class::Read) && !ends_transaction =>
            {
                let message = format!("{} (query {})", loss.why, loss.query_id.as_deref().unwrap_or("unknown"));
                Err(Failure::new(FailureKind::Timeout, "warehouse::statement_timeout", message)
                    .help("give the step more time with `timeout`, or the work a larger warehouse"))
            }
            _ => {
                // The session outlives a connection: its open transaction holds locks until it is undone there.
                if session_is_over || ends_transaction || !self.in_transaction {
                    self.connection = None;
                    self.in_transaction = false;
                }
                let id = loss.query_id.as_deref();
                Err(match over {
                    Some(over) if transaction_is_gone => error::ended(over.age(), &loss.why, id),
                    Some(_) | None => error::lost(&loss.why, id),
                })
            }
        }
    }

    /// Finds out what became of a statement, from a fresh session; waits until it has ended.
    async fn follow(&self, query_id: Option<&str>, sql: &str, cancelled: &CancellationToken) -> Result<Outcome, Failure> {
        let companion = match self.companion(cancelled).await {
            Ok(companion) => companion,
            Err(failure) if failure.kind == FailureKind::Cancelled => return Err(failure),
            Err(_) => return Ok(Outcome::Unknown),
        };
        let (wanted, is_tag_kept) = match (query_id, &self.connection) {
            (Some(id), _) => (Wanted::Id(id), true),
            (None, Some(connection)) => {
                (Wanted::LastOf { tag: &connection.tag, answered: &connection.answered, sql }, connection.is_tag_kept)
            }
            (None, None) => return Ok(Outcome::Unknown),
        };
        let (mut missing, mut looks) = (0, 0);
        loop {
            looks += 1;
            let found = tokio::select! {
                found = history::find(&companion.session, wanted) => found,
                () = cancelled.cancelled() => return Err(error::cancelled()),
            };
            let found = match found {
                Ok(found) => found,
                Err(problem) => {
                    tracing::debug!(error = %problem, "query history cannot be read");
                    return Ok(self.by_result(&companion, query_id).await);
                }
            };
            match found {
                Found::Nothing if missing == LOOKS_FOR_ABSENCE && is_tag_kept => return Ok(Outcome::Absent),
                // It may be there under another tag, or be the one that is there with another text.
                Found::Another | Found::Nothing if missing == LOOKS_FOR_ABSENCE => return Ok(Outcome::Unknown),
                Found::Another | Found::Nothing => missing += 1,
                Found::Entry(entry) => match entry.state() {
                    State::Failed => return Ok(Outcome::Failed(entry)),
                    State::Done => {
                        let cursor = history::result(&companion.session, &entry.query_id).await.ok();
                        return Ok(Outcome::Done(Answer { cursor, rows: entry.rows(), query_id: entry.query_id }));
                    }
                    State::Running => {
                        missing = 0;
                        tracing::info!(query_id = entry.query_id, looks, "statement runs on");
                        if pause(looks, cancelled).await.is_err() {
                            history::cancel(&companion.session, &entry.query_id).await.map_err(|_| error::cancelled())?;
                            return Err(error::cancelled());
                        }
                        continue;
                    }
                },
            }
            pause(looks, cancelled).await?;
        }
    }

    /// Without the records, a result that is there says that its statement ended well.
    async fn by_result(&self, companion: &Connection, query_id: Option<&str>) -> Outcome {
        let Some(query_id) = query_id else { return Outcome::Unknown };
        match history::result(&companion.session, query_id).await {
            Ok(cursor) => Outcome::Done(Answer { cursor: Some(cursor), rows: 0, query_id: query_id.to_owned() }),
            Err(_) => Outcome::Unknown,
        }
    }
}

/// What the records say of a statement.
enum Outcome {
    Done(Answer),
    Failed(Entry),
    /// The server never took it.
    Absent,
    Unknown,
}

/// A statement whose answer was lost.
struct Loss {
    query_id: Option<String>,
    cut: Cut,
    why: String,
    class: Class,
    again: bool,
}
