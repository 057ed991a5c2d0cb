//! The server's own records: what became of a statement whose answer was lost, and what statements cost.

use std::collections::BTreeSet;
use std::time::Duration;

use errand_model::failure::Failure;
use snowflake_connector_rs::{QueryOptions, ResultCursor, Session};

use super::{error, result};
use errand_model::report::UsageReport;

/// The records are small: an answer takes seconds.
const TIMEOUT: Duration = Duration::from_secs(30);

/// One statement in the records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) query_id: String,
    status: String,
    error_code: String,
    error_message: String,
    rows: u64,
}

/// How a statement stands.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum State {
    /// It waits or runs.
    Running,
    /// It ended well.
    Done,
    /// It failed, and changed nothing.
    Failed,
}

impl Entry {
    pub(super) fn state(&self) -> State {
        match self.status.to_ascii_uppercase().as_str() {
            "SUCCESS" => State::Done,
            status if status.starts_with("FAIL") || status == "INCIDENT" => State::Failed,
            _ => State::Running,
        }
    }

    /// Rows that the statement made.
    pub(super) fn rows(&self) -> u64 {
        self.rows
    }

    /// The failure that the records tell of.
    pub(super) fn failure(&self, sql: &str) -> Failure {
        error::failure(&self.error_code, &self.error_message, Some(&self.query_id), sql)
    }
}

/// Which statement is looked for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Wanted<'a> {
    /// The one with this id.
    Id(&'a str),
    /// The last one with this tag that is none of these, which are answered.
    LastOf(&'a str, &'a BTreeSet<String>),
}

/// Looks a statement up; `None` when the records do not hold it.
///
/// # Errors
///
/// When the records cannot be read, by this role or at all.
pub(super) async fn find(session: &Session, wanted: Wanted<'_>) -> Result<Option<Entry>, String> {
    let mut cursor = ask(session, &find_sql(wanted)).await.map_err(|problem| problem.to_string())?;
    let names: Vec<String> = cursor.schema().columns().iter().map(|column| column.name().to_ascii_uppercase()).collect();
    let at = |name: &str| names.iter().position(|known| known == name);
    let (Some(id), Some(status)) = (at("QUERY_ID"), at("EXECUTION_STATUS")) else {
        return Err("the records have other columns".to_owned());
    };
    let mut rows = Vec::new();
    while let Some(table) = cursor.next_table().await.map_err(|problem| problem.to_string())? {
        result::table_texts(&table, usize::MAX, &mut rows).map_err(|problem| problem.to_string())?;
    }
    let text = |row: &[Option<String>], at: Option<usize>| at.and_then(|at| row.get(at)).cloned().flatten().unwrap_or_default();
    let is_wanted = |row: &&Vec<Option<String>>| match wanted {
        Wanted::Id(wanted) => text(row, Some(id)) == wanted,
        Wanted::LastOf(_, answered) => !answered.contains(&text(row, Some(id))),
    };
    Ok(rows.iter().find(is_wanted).map(|row| Entry {
        query_id: text(row, Some(id)),
        status: text(row, Some(status)),
        error_code: text(row, at("ERROR_CODE")),
        error_message: text(row, at("ERROR_MESSAGE")),
        rows: text(row, at("ROWS_PRODUCED")).parse().unwrap_or(0),
    }))
}

/// The result of a statement that another session ran.
///
/// # Errors
///
/// When it is gone, or was never there.
pub(super) async fn result(session: &Session, query_id: &str) -> Result<ResultCursor, snowflake_connector_rs::Error> {
    ask(session, &result_sql(query_id)).await
}

/// Ends a statement by its id.
///
/// # Errors
///
/// When the server refuses.
pub(super) async fn cancel(session: &Session, query_id: &str) -> Result<(), snowflake_connector_rs::Error> {
    ask(session, &format!("SELECT SYSTEM$CANCEL_QUERY({})", quote(query_id))).await.map(|_| ())
}

/// What the statements with these tags cost.
///
/// # Errors
///
/// When the records cannot be read.
pub(super) async fn usage(session: &Session, tags: &[String]) -> Result<Option<UsageReport>, snowflake_connector_rs::Error> {
    let cursor = ask(session, &usage_sql(tags)).await?;
    let row = result::texts(cursor, 1).await?.into_iter().next().unwrap_or_default();
    let number = |at: usize| row.get(at).cloned().flatten().and_then(|text| text.parse::<f64>().ok());
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count of bytes")]
    Ok(number(0).map(|bytes| UsageReport { bytes_scanned: bytes as u64, credits: number(1).unwrap_or(0.0) }))
}

async fn ask(session: &Session, sql: &str) -> Result<ResultCursor, snowflake_connector_rs::Error> {
    session.query_with_options(sql.to_owned(), QueryOptions::new().with_query_response_timeout(TIMEOUT)).await
}

fn find_sql(wanted: Wanted<'_>) -> String {
    let condition = match wanted {
        Wanted::Id(id) => format!("QUERY_ID = {}", quote(id)),
        Wanted::LastOf(tag, _) => format!("QUERY_TAG = {}", quote(tag)),
    };
    format!(
        "SELECT QUERY_ID, EXECUTION_STATUS, ERROR_CODE, ERROR_MESSAGE, ROWS_PRODUCED \
         FROM TABLE(INFORMATION_SCHEMA.QUERY_HISTORY_BY_USER(RESULT_LIMIT => 10000)) WHERE {condition} ORDER BY START_TIME DESC LIMIT 100"
    )
}

fn result_sql(query_id: &str) -> String {
    format!("SELECT * FROM TABLE(RESULT_SCAN({}))", quote(query_id))
}

fn usage_sql(tags: &[String]) -> String {
    let list = tags.iter().map(|tag| quote(tag)).collect::<Vec<_>>().join(", ");
    format!(
        "SELECT SUM(BYTES_SCANNED), SUM(CREDITS_USED_CLOUD_SERVICES) \
         FROM TABLE(INFORMATION_SCHEMA.QUERY_HISTORY_BY_USER(RESULT_LIMIT => 10000)) WHERE QUERY_TAG IN ({list})"
    )
}

/// A text literal: a backslash begins an escape in Snowflake's strings.
pub(super) fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_records_are_asked_by_id_or_by_tag() {
        insta::assert_snapshot!(
            [find_sql(Wanted::Id("01b")), find_sql(Wanted::LastOf(r#"{"errand":{"job":"o'b\n"}}"#, &BTreeSet::new())), result_sql("01b"), usage_sql(&["a".into(), "b".into()])]
                .join("\n"),
            @r#"
        SELECT QUERY_ID, EXECUTION_STATUS, ERROR_CODE, ERROR_MESSAGE, ROWS_PRODUCED FROM TABLE(INFORMATION_SCHEMA.QUERY_HISTORY_BY_USER(RESULT_LIMIT => 10000)) WHERE QUERY_ID = '01b' ORDER BY START_TIME DESC LIMIT 100
        SELECT QUERY_ID, EXECUTION_STATUS, ERROR_CODE, ERROR_MESSAGE, ROWS_PRODUCED FROM TABLE(INFORMATION_SCHEMA.QUERY_HISTORY_BY_USER(RESULT_LIMIT => 10000)) WHERE QUERY_TAG = '{"errand":{"job":"o''b\\n"}}' ORDER BY START_TIME DESC LIMIT 100
        SELECT * FROM TABLE(RESULT_SCAN('01b'))
        SELECT SUM(BYTES_SCANNED), SUM(CREDITS_USED_CLOUD_SERVICES) FROM TABLE(INFORMATION_SCHEMA.QUERY_HISTORY_BY_USER(RESULT_LIMIT => 10000)) WHERE QUERY_TAG IN ('a', 'b')
        "#
        );
    }

    #[test]
    fn a_state_that_is_not_known_is_not_terminal() {
        let entry = |status: &str| Entry {
            query_id: String::new(),
            status: status.into(),
            error_code: String::new(),
            error_message: String::new(),
            rows: 0,
        };
        for (status, state) in [
            ("SUCCESS", State::Done),
            ("success", State::Done),
            ("FAILED_WITH_ERROR", State::Failed),
            ("FAIL", State::Failed),
            ("RUNNING", State::Running),
            ("QUEUED", State::Running),
            ("RESUMING_WAREHOUSE", State::Running),
        ] {
            assert_eq!(entry(status).state(), state, "{status}");
        }
    }
}
