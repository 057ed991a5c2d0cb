//! What the server knows: sessions, queries, requests.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};
use tokio::sync::Notify;

use super::script::{Outcome, Reply, Script};
use super::{Login, Query, Request};

/// One session.
pub(super) struct Session {
    pub(super) id: u64,
    pub(super) expired: bool,
    pub(super) closed: bool,
    pub(super) tag: String,
}

/// A query, and how its answer travels from now on.
pub(super) struct Execution {
    pub(super) query: Query,
    pub(super) reply: Reply,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) script: Script,
    pub(super) sessions: BTreeMap<String, Session>,
    pub(super) executions: Vec<Execution>,
    pub(super) requests: Vec<Request>,
    pub(super) logins: Vec<Login>,
    pub(super) aborted: BTreeSet<String>,
    pub(super) released: bool,
}

/// The state, and word of its changes to those who wait.
#[derive(Default)]
pub(super) struct Shared {
    state: Mutex<State>,
    pub(super) changed: Notify,
    /// The server goes away for a while.
    pub(super) leaves: Notify,
    /// It has.
    pub(super) left: Notify,
}

impl Shared {
    pub(super) fn new(script: Script) -> Self {
        Self { state: Mutex::new(State { script, ..State::default() }), ..Self::default() }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the server is released or the request aborted.
    pub(super) async fn released(&self, request_id: &str) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            {
                let state = self.lock();
                if state.released || state.aborted.contains(request_id) {
                    return;
                }
            }
            changed.await;
        }
    }
}

impl State {
    /// The reply of the first rule that knows the statement; a rule for one use is used up.
    pub(super) fn reply_to(&mut self, sql: &str) -> Reply {
        let Some(place) = self.script.rules.iter().position(|rule| sql.contains(&rule.part)) else {
            return self.rescan(sql).unwrap_or_else(Reply::done);
        };
        let rule = &mut self.script.rules[place];
        if rule.reply.unavailable > 0 {
            rule.reply.unavailable -= 1;
            let mut reply = rule.reply.clone();
            reply.unavailable = 1;
            return reply;
        }
        if rule.once { self.script.rules.remove(place).reply } else { rule.reply.clone() }
    }

    /// The result of an earlier query that `RESULT_SCAN` asks for.
    fn rescan(&self, sql: &str) -> Option<Reply> {
        let (_, rest) = sql.split_once("RESULT_SCAN")?;
        let id = rest.split('\'').nth(1)?;
        let Some(place) = self.find(id) else {
            return Some(Reply::error("000709", "02000", &format!("Statement {id} not found")));
        };
        let mut reply = Reply::done();
        reply.outcome = self.executions[place].reply.outcome.clone();
        Some(reply)
    }

    pub(super) fn find(&self, id: &str) -> Option<usize> {
        self.executions.iter().position(|execution| execution.query.id == id)
    }

    pub(super) fn was_aborted(&self, place: usize) -> bool {
        self.aborted.contains(&self.executions[place].query.request_id)
    }

    pub(super) fn is_running(&self, place: usize) -> bool {
        let reply = &self.executions[place].reply;
        !self.released && !self.was_aborted(place) && (reply.stalls || reply.asynchronous && reply.polls > 0)
    }

    /// The word for it in monitoring and in the history.
    pub(super) fn status(&self, place: usize) -> &'static str {
        match &self.executions[place].reply.outcome {
            _ if self.is_running(place) => "RUNNING",
            Outcome::Error { .. } => "FAILED_WITH_ERROR",
            Outcome::Rows { .. } | Outcome::History { .. } if self.was_aborted(place) => "FAILED_WITH_ERROR",
            Outcome::Rows { .. } | Outcome::History { .. } => "SUCCESS",
        }
    }

    /// Code and message of a query that failed.
    pub(super) fn failure(&self, place: usize) -> Option<(String, String, String)> {
        if self.was_aborted(place) {
            return Some(("000604".to_owned(), "57014".to_owned(), "SQL execution canceled".to_owned()));
        }
        match &self.executions[place].reply.outcome {
            Outcome::Error { code, state, message } => Some((code.clone(), state.clone(), message.clone())),
            Outcome::Rows { .. } | Outcome::History { .. } => None,
        }
    }

    /// The rows of the history that a statement asks for.
    pub(super) fn history(&self, columns: &[String], asking: &Query) -> Vec<Vec<Option<String>>> {
        let asks_for = |query: &Query| {
            let tag = query.tag.replace('\'', "''");
            asking.sql.contains(&query.id) || !tag.is_empty() && asking.sql.contains(&tag)
        };
        let places = 0..self.executions.len();
        let found = places.filter(|&place| self.executions[place].query.id != asking.id && asks_for(&self.executions[place].query));
        found.map(|place| columns.iter().map(|column| self.fact(place, column)).collect()).collect()
    }

    fn fact(&self, place: usize, column: &str) -> Option<String> {
        let Execution { query, reply } = &self.executions[place];
        let failure = self.failure(place);
        let rows = match &reply.outcome {
            Outcome::Rows { rows, .. } => rows.len(),
            Outcome::Error { .. } | Outcome::History { .. } => 0,
        };
        match column.to_ascii_uppercase().as_str() {
            "QUERY_ID" => Some(query.id.clone()),
            "QUERY_TEXT" => Some(query.sql.clone()),
            "QUERY_TAG" => Some(query.tag.clone()),
            "EXECUTION_STATUS" => Some(self.status(place).to_owned()),
            "ERROR_CODE" => failure.map(|(code, ..)| code),
            "ERROR_MESSAGE" => failure.map(|(.., message)| message),
            "SESSION_ID" => Some(query.session.to_string()),
            "ROWS_PRODUCED" => Some(rows.to_string()),
            "BYTES_SCANNED" => Some("1048576".to_owned()),
            "CREDITS_USED_CLOUD_SERVICES" => Some("0.000125".to_owned()),
            "TOTAL_ELAPSED_TIME" => Some("250".to_owned()),
            "START_TIME" => Some("1767225600.000000000".to_owned()),
            _ => None,
        }
    }

    /// What `GET /monitoring/queries/<id>` says.
    pub(super) fn monitored(&self, id: &str) -> Value {
        let queries: Vec<Value> = self.find(id).into_iter().map(|place| self.monitored_query(place)).collect();
        json!({ "data": { "queries": queries }, "success": true, "code": null, "message": null })
    }

    fn monitored_query(&self, place: usize) -> Value {
        let query = &self.executions[place].query;
        let (code, message) = self.failure(place).map_or((None, None), |(code, _, message)| (Some(code), Some(message)));
        json!({
            "id": query.id, "status": self.status(place), "state": self.status(place), "sqlText": query.sql,
            "queryTag": query.tag, "sessionId": query.session, "errorCode": code, "errorMessage": message,
        })
    }
}
