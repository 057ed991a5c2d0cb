//! What the server answers to which statement.

/// Answers to statements, tried in the order in which they were written.
///
/// A statement that no rule knows succeeds with one row that says so, as DDL does.
#[derive(Clone, Default)]
pub struct Script {
    pub(super) rules: Vec<Rule>,
    pub(super) login: Option<(String, String)>,
    pub(super) unavailable_logins: u32,
    pub(super) refused_inserts: Vec<(u16, String)>,
}

#[derive(Clone)]
pub(super) struct Rule {
    pub(super) part: String,
    pub(super) reply: Reply,
    pub(super) once: bool,
}

impl Script {
    /// No rules.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Answers so to every statement that contains `part`.
    #[must_use]
    pub fn on(mut self, part: &str, reply: Reply) -> Self {
        self.rules.push(Rule { part: part.to_owned(), reply, once: false });
        self
    }

    /// Answers so to the first statement that contains `part`, then forgets the rule.
    #[must_use]
    pub fn once(mut self, part: &str, reply: Reply) -> Self {
        self.rules.push(Rule { part: part.to_owned(), reply, once: true });
        self
    }

    /// Refuses every login.
    #[must_use]
    pub fn login_fails(mut self, code: &str, message: &str) -> Self {
        self.login = Some((code.to_owned(), message.to_owned()));
        self
    }

    /// Refuses logins as for a user or password that is wrong.
    #[must_use]
    pub fn wrong_user(self) -> Self {
        self.login_fails("390100", "Incorrect username or password was specified.")
    }

    /// Refuses logins as for a user who failed too often.
    #[must_use]
    pub fn locked_user(self) -> Self {
        self.login_fails("390102", "User temporarily locked. Try again later, or contact your local system administrator.")
    }

    /// Refuses logins as for an OAuth token that is over.
    #[must_use]
    pub fn expired_token(self) -> Self {
        self.login_fails("390318", "OAuth access token expired.")
    }

    /// Answers 503 to the first `times` logins.
    #[must_use]
    pub const fn login_unavailable(mut self, times: u32) -> Self {
        self.unavailable_logins = times;
        self
    }
}

impl Script {
    /// The same, with the rules of another script behind its own.
    #[must_use]
    pub fn then(mut self, other: Self) -> Self {
        self.rules.extend(other.rules);
        self
    }

    /// Refuses the first call that tells a pipe of files with this HTTP status; the next one, too, where it is said twice.
    #[must_use]
    pub fn insert_files_fails(mut self, status: u16, message: &str) -> Self {
        self.refused_inserts.push((status, message.to_owned()));
        self
    }
}

/// How a statement ends.
#[derive(Clone)]
pub(super) enum Outcome {
    Rows { columns: Vec<(String, String)>, rows: Vec<Vec<Option<String>>> },
    Error { code: String, state: String, message: String },
    History { columns: Vec<String> },
}

/// The answer to one statement: how it ends, and how the answer travels.
#[derive(Clone)]
pub struct Reply {
    pub(super) outcome: Outcome,
    pub(super) polls: u32,
    pub(super) asynchronous: bool,
    pub(super) chunk_rows: Option<usize>,
    pub(super) chunk_failures: u32,
    pub(super) chunks_stall: bool,
    pub(super) stalls: bool,
    pub(super) loses_answer: bool,
    pub(super) unavailable: u32,
    pub(super) unavailable_after: u32,
    pub(super) unavailable_polls: u32,
    pub(super) leaves: bool,
    pub(super) expired: bool,
    pub(super) expires_at_poll: bool,
}

impl Reply {
    const fn ending(outcome: Outcome) -> Self {
        Self {
            outcome,
            polls: 0,
            asynchronous: false,
            chunk_rows: None,
            chunk_failures: 0,
            chunks_stall: false,
            stalls: false,
            loses_answer: false,
            unavailable: 0,
            unavailable_after: 0,
            unavailable_polls: 0,
            leaves: false,
            expired: false,
            expires_at_poll: false,
        }
    }

    /// Success without data.
    #[must_use]
    pub fn done() -> Self {
        Self::rows(&[("status", "text")], &[&[Some("Statement executed successfully.")]])
    }

    /// Rows; a column is a name and a type of the protocol (`text`, `fixed`, `real`, `boolean`, `date`, `time`, `timestamp_ntz`, `variant`),
    /// with precision and scale behind it where they matter: `fixed(12,2)`.
    #[must_use]
    pub fn rows(columns: &[(&str, &str)], rows: &[&[Option<&str>]]) -> Self {
        let columns = columns.iter().map(|(name, kind)| ((*name).to_owned(), (*kind).to_owned())).collect();
        let rows = rows.iter().map(|row| row.iter().map(|value| value.map(str::to_owned)).collect()).collect();
        Self::ending(Outcome::Rows { columns, rows })
    }

    /// Rows counted from 0: `count` rows of one column `N`.
    #[must_use]
    pub fn numbers(count: usize) -> Self {
        let rows = (0..count).map(|number| vec![Some(number.to_string())]).collect();
        Self::ending(Outcome::Rows { columns: vec![("N".to_owned(), "fixed".to_owned())], rows })
    }

    /// What DML says: `number of rows inserted`, and so on.
    #[must_use]
    pub fn affected(what: &str, rows: u64) -> Self {
        Self::rows(&[(&format!("number of rows {what}"), "fixed")], &[&[Some(&rows.to_string())]])
    }

    /// A refusal: code, SQL state, message.
    #[must_use]
    pub fn error(code: &str, state: &str, message: &str) -> Self {
        Self::ending(Outcome::Error { code: code.to_owned(), state: state.to_owned(), message: message.to_owned() })
    }

    /// What this server executed: one row for each earlier query whose id or tag occurs in the asking statement.
    ///
    /// Columns by Snowflake's names: `QUERY_ID`, `QUERY_TEXT`, `QUERY_TAG`, `EXECUTION_STATUS`, `ERROR_CODE`, `ERROR_MESSAGE`, `SESSION_ID`,
    /// `ROWS_PRODUCED`, `BYTES_SCANNED`, `CREDITS_USED_CLOUD_SERVICES`, `TOTAL_ELAPSED_TIME`, `START_TIME`; NULL for others.
    #[must_use]
    pub fn history(columns: &[&str]) -> Self {
        Self::ending(Outcome::History { columns: columns.iter().map(|&name| name.to_owned()).collect() })
    }

    /// Answers 333334 first, then 333333 to `polls` polls, then the result.
    #[must_use]
    pub const fn asynchronous(mut self, polls: u32) -> Self {
        self.asynchronous = true;
        self.polls = polls;
        self
    }

    /// Answers 333334, then 333333 to each poll until the server is told to release, or the statement is aborted.
    #[must_use]
    pub const fn runs_until_released(self) -> Self {
        self.asynchronous(u32::MAX)
    }

    /// Gives the rows in gzipped chunks of so many rows, for which the client needs the key header that came with the result.
    #[must_use]
    pub const fn chunks_of(mut self, rows: usize) -> Self {
        self.chunk_rows = Some(rows);
        self
    }

    /// Answers 503 to the first `times` downloads of chunks.
    #[must_use]
    pub const fn chunks_unavailable(mut self, times: u32) -> Self {
        self.chunk_failures = times;
        self
    }

    /// Answers downloads of chunks when the server is told to release, not before.
    #[must_use]
    pub const fn chunks_stall(mut self) -> Self {
        self.chunks_stall = true;
        self
    }

    /// Executes, and answers when the server is told to release or the statement is aborted.
    #[must_use]
    pub const fn stalls(mut self) -> Self {
        self.stalls = true;
        self
    }

    /// Executes, then closes the connection without an answer. The same request id, sent again, gets the answer.
    #[must_use]
    pub const fn loses_answer(mut self) -> Self {
        self.loses_answer = true;
        self
    }

    /// Answers 503 to the first `times` submits, and does not execute.
    #[must_use]
    pub const fn unavailable(mut self, times: u32) -> Self {
        self.unavailable = times;
        self
    }

    /// Executes, and answers 503 to the first `times` submits of the request.
    #[must_use]
    pub const fn unavailable_after_execution(mut self, times: u32) -> Self {
        self.unavailable_after = times;
        self
    }

    /// Answers 503 to the first `times` polls.
    #[must_use]
    pub const fn polls_unavailable(mut self, times: u32) -> Self {
        self.unavailable_polls = times;
        self
    }

    /// Answers 333334; then nobody listens any more, for a moment: whoever polls cannot connect.
    #[must_use]
    pub const fn server_leaves_before_the_poll(mut self) -> Self {
        self.asynchronous = true;
        self.leaves = true;
        self
    }

    /// Does not execute: the session has expired (390112), and stays so.
    #[must_use]
    pub const fn session_expired(mut self) -> Self {
        self.expired = true;
        self
    }

    /// Executes asynchronously; at the first poll the session has expired (390112), and stays so. The statement runs on.
    #[must_use]
    pub const fn session_expires_at_poll(mut self) -> Self {
        self.asynchronous = true;
        self.expires_at_poll = true;
        self
    }
}
