//! One session for all questions about cost, so that a step pays for no login of its own. Must not fail or delay a step.

use errand_model::report::UsageReport;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use super::account::Account;
use super::connection::Connection;
use super::history;
use crate::warehouse::Purpose;

/// Asks the records of one account; after a refusal never again.
#[derive(Default)]
pub(super) struct Bookkeeper(Mutex<State>);

#[derive(Default)]
enum State {
    #[default]
    Closed,
    Open(Box<Connection>),
    Refused,
}

impl Bookkeeper {
    /// What the statements with these tags cost, of those that ended within the last `seconds`.
    pub(super) async fn usage(&self, account: &Account, purpose: &Purpose, tags: &[String], seconds: u64) -> Option<UsageReport> {
        let mut state = self.0.lock().await;
        let connection = match std::mem::replace(&mut *state, State::Closed) {
            State::Refused => {
                *state = State::Refused;
                return None;
            }
            State::Open(connection) if !connection.is_old(false) => connection,
            // The tag names the run and its job; the session serves all steps.
            State::Open(_) | State::Closed => {
                let own = Purpose { step: String::new(), attempt: 0, load_id: None, statement_timeout: None, ..purpose.clone() };
                Box::new(Connection::open(account, &own, &CancellationToken::new()).await.ok()?)
            }
        };
        match history::usage(&connection.session, tags, seconds).await {
            Ok(usage) => {
                *state = State::Open(connection);
                usage
            }
            Err(error) => {
                tracing::debug!(error, "cost of statements cannot be read");
                *state = State::Refused;
                None
            }
        }
    }
}
