//! The server's own records: what became of a statement whose answer was lost, and what statements cost.
//!
//! `INFORMATION_SCHEMA.QUERY_HISTORY_BY_USER` shows every role the statements of its own user, without delay and for seven days; it runs on the
//! warehouse of the session. Its rows are cut at `RESULT_LIMIT` before a `WHERE` sees them, latest end first: hence the bound in time.
//! See <https://docs.snowflake.com/en/sql-reference/functions/query_history>.

use std::collections::BTreeSet;
use std::time::Duration;

use errand_model::failure::Failure;
use snowflake_connector_rs::{QueryOptions, ResultCursor, Session};

use super::statement::skip;
use super::{error, result};
use errand_model::report::UsageReport;

/// The records are small: an answer takes seconds.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Characters of a statement that are compared with the records.
const COMPARED: usize = 2000;

/// What the records show in the place of a secret.
const HIDDEN: &str = "****";

/// The records reach back for seven days; a range that begins before them is an error.
const SEVEN_DAYS: u64 = 7 * 24 * 3600 - 60;

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
    /// The last one of a session that has this text and is none of those that are answered.
    LastOf { tag: &'a str, answered: &'a BTreeSet<String>, sql: &'a str },
}

/// What the records hold.
#[derive(Debug)]
pub(super) enum Found {
    /// The statement.
    Entry(Entry),
    /// Not the statement, but another one of its session that nobody answered: an older one, or it is shown with another text.
    Another,
    /// Nothing.
    Nothing,
}

/// Looks a statement up.
///
/// # Errors
///
/// When the records cannot be read, by this role or at all.
pub(super) async fn find(session: &Session, wanted: Wanted<'_>) -> Result<Found, String> {
    let mut cursor = ask(session, &find_sql(wanted)).await.map_err(|problem| problem.to_string())?;
    let names: Vec<String> = cursor.schema().columns().iter().map(|column| column.name().to_ascii_uppercase()).collect();
    let at = |name: &str| names.iter().position(|known| known == name);
    let (Some(id), Some(status), Some(sent)) = (at("QUERY_ID"), at("EXECUTION_STATUS"), at("QUERY_TEXT")) else {
        return Err("the records have other columns".to_owned());
    };
    let mut rows = Vec::new();
    while let Some(table) = result::next(&mut cursor, result::CHUNK_LIMIT).await.map_err(|problem| problem.to_string())? {
        result::table_texts(&table, usize::MAX, &mut rows).map_err(|problem| problem.to_string())?;
    }
    let text = |row: &[Option<String>], at: Option<usize>| at.and_then(|at| row.get(at)).cloned().flatten().unwrap_or_default();
    rows.retain(|row| match wanted {
        Wanted::Id(wanted) => text(row, Some(id)) == wanted,
        Wanted::LastOf { answered, .. } => !answered.contains(&text(row, Some(id))),
    });
    let is_it = |row: &&Vec<Option<String>>| match wanted {
        Wanted::Id(_) => true,
        Wanted::LastOf { sql, .. } => is_text_of(&text(row, Some(sent)), sql),
    };
    let Some(row) = rows.iter().find(is_it) else {
        return Ok(if rows.is_empty() { Found::Nothing } else { Found::Another });
    };
    Ok(Found::Entry(Entry {
        query_id: text(row, Some(id)),
        status: text(row, Some(status)),
        error_code: text(row, at("ERROR_CODE")),
        error_message: text(row, at("ERROR_MESSAGE")),
        rows: text(row, at("ROWS_PRODUCED")).parse().unwrap_or(0),
    }))
}

/// Whether the records show the statement `sql` so: without the comments before it, cut, and without its secrets.
fn is_text_of(shown: &str, sql: &str) -> bool {
    let plain = |text: &str| {
        let words = skip(text).split_whitespace().collect::<Vec<_>>().join(" ");
        words.trim_end_matches([';', ' ']).to_owned()
    };
    let cut: String = shown.chars().take(COMPARED).collect();
    let head = cut.split(HIDDEN).next().unwrap_or_default();
    let is_whole = head.len() == shown.len() && shown.chars().count() < COMPARED;
    let (sent, head) = (plain(sql), plain(head));
    if is_whole { sent == head } else { sent.starts_with(&head) }
}

/// The result of a statement that another session ran.
///
/// # Errors
///
/// When it is gone, or was never there.
pub(super) async fn result(session: &Session, query_id: &str) -> Result<ResultCursor, snowflake_connector_rs::Error> {
    ask(session, &result_sql(query_id)).await
}

/// The tag of a statement; none when the records do not hold it, or cannot be read.
pub(super) async fn tag(session: &Session, query_id: &str) -> Option<String> {
    let cursor = ask(session, &tag_sql(query_id)).await.ok()?;
    result::texts(cursor, 1).await.ok()?.into_iter().flatten().flatten().next()
}

/// Ends a statement by its id.
///
/// # Errors
///
/// When the server refuses.
pub(super) async fn cancel(session: &Session, query_id: &str) -> Result<(), snowflake_connector_rs::Error> {
    ask(session, &format!("SELECT SYSTEM$CANCEL_QUERY({})", quote(query_id))).await.map(|_| ())
}

/// What the statements with these tags cost, of those that ended within the last `seconds`; none when the records hold none of them.
///
/// Bytes scanned and credits of cloud services are recorded, the latter before Snowflake's daily adjustment. Credits of compute are not: the
/// one view that attributes them to statements, `SNOWFLAKE.ACCOUNT_USAGE.QUERY_ATTRIBUTION_HISTORY`, is hours late, leaves statements of about
/// 100 ms and less out, and needs a database role that jobs seldom have. They are estimated, as `EXECUTION_TIME` at the rate of a
/// first-generation standard warehouse of `WAREHOUSE_SIZE` (1 credit an hour for X-Small, twice that for each next size): too low by its idle time
/// and its first minute, and for other kinds of warehouses, too high where statements shared it.
///
/// # Errors
///
/// When the records cannot be read, by this role or at all.
pub(super) async fn usage(session: &Session, tags: &[String], seconds: u64) -> Result<Option<UsageReport>, String> {
    let cursor = ask(session, &usage_sql(tags, seconds)).await.map_err(|problem| problem.to_string())?;
    let names: Vec<String> = cursor.schema().columns().iter().map(|column| column.name().to_ascii_uppercase()).collect();
    let row = result::texts(cursor, 1).await.map_err(|problem| problem.to_string())?.into_iter().next().unwrap_or_default();
    let number = |name: &str| {
        let at = names.iter().position(|known| known == name)?;
        row.get(at)?.as_deref()?.parse::<f64>().ok()
    };
    let Some(bytes) = number("BYTES_SCANNED") else { return Ok(None) };
    let cloud_services = number("CREDITS_CLOUD_SERVICES").unwrap_or(0.0);
    let compute = number("CREDITS_COMPUTE").unwrap_or(0.0);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count of bytes")]
    Ok(Some(UsageReport {
        bytes_scanned: bytes as u64,
        credits: cloud_services + compute,
        credits_cloud_services: cloud_services,
        credits_compute: compute,
    }))
}

async fn ask(session: &Session, sql: &str) -> Result<ResultCursor, snowflake_connector_rs::Error> {
    session.query_with_options(sql.to_owned(), QueryOptions::new().with_query_response_timeout(TIMEOUT)).await
}

fn find_sql(wanted: Wanted<'_>) -> String {
    let condition = match wanted {
        Wanted::Id(id) => format!("QUERY_ID = {}", quote(id)),
        Wanted::LastOf { tag, .. } => format!("QUERY_TAG = {}", quote(tag)),
    };
    format!(
        "SELECT QUERY_ID, EXECUTION_STATUS, ERROR_CODE, ERROR_MESSAGE, ROWS_PRODUCED, LEFT(QUERY_TEXT, {COMPARED}) AS QUERY_TEXT \
         FROM TABLE(INFORMATION_SCHEMA.QUERY_HISTORY_BY_USER(RESULT_LIMIT => 10000)) WHERE {condition} ORDER BY START_TIME DESC LIMIT 100"
    )
}

fn tag_sql(query_id: &str) -> String {
    format!(
        "SELECT QUERY_TAG FROM TABLE(INFORMATION_SCHEMA.QUERY_HISTORY_BY_USER(RESULT_LIMIT => 10000)) WHERE QUERY_ID = {}",
        quote(query_id)
    )
}

fn result_sql(query_id: &str) -> String {
    format!("SELECT * FROM TABLE(RESULT_SCAN({}))", quote(query_id))
}

/// Sizes as the records write them, each twice as fast as the one before it.
const SIZES: [&str; 10] = ["X-SMALL", "SMALL", "MEDIUM", "LARGE", "X-LARGE", "2X-LARGE", "3X-LARGE", "4X-LARGE", "5X-LARGE", "6X-LARGE"];

fn usage_sql(tags: &[String], seconds: u64) -> String {
    let list = tags.iter().map(|tag| quote(tag)).collect::<Vec<_>>().join(", ");
    let rates = SIZES.iter().enumerate().map(|(at, size)| format!("{}, {}", quote(size), 1_u32 << at)).collect::<Vec<_>>().join(", ");
    format!(
        "SELECT SUM(BYTES_SCANNED) AS BYTES_SCANNED, SUM(CREDITS_USED_CLOUD_SERVICES) AS CREDITS_CLOUD_SERVICES, \
         SUM(EXECUTION_TIME * DECODE(UPPER(WAREHOUSE_SIZE), {rates}, 0) / 3600000) AS CREDITS_COMPUTE \
         FROM TABLE(INFORMATION_SCHEMA.QUERY_HISTORY_BY_USER(END_TIME_RANGE_START => DATEADD('second', -{}, CURRENT_TIMESTAMP()), \
         RESULT_LIMIT => 10000)) WHERE QUERY_TAG IN ({list})",
        seconds.min(SEVEN_DAYS)
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
            [find_sql(Wanted::Id("01b")), find_sql(Wanted::LastOf { tag: r#"{"errand":{"job":"o'b\n"}}"#, answered: &BTreeSet::new(), sql: "" }), result_sql("01b"), usage_sql(&["a".into(), "b".into()], 90)]
                .join("\n"),
            @r#"
        SELECT QUERY_ID, EXECUTION_STATUS, ERROR_CODE, ERROR_MESSAGE, ROWS_PRODUCED, LEFT(QUERY_TEXT, 2000) AS QUERY_TEXT FROM TABLE(INFORMATION_SCHEMA.QUERY_HISTORY_BY_USER(RESULT_LIMIT => 10000)) WHERE QUERY_ID = '01b' ORDER BY START_TIME DESC LIMIT 100
        SELECT QUERY_ID, EXECUTION_STATUS, ERROR_CODE, ERROR_MESSAGE, ROWS_PRODUCED, LEFT(QUERY_TEXT, 2000) AS QUERY_TEXT FROM TABLE(INFORMATION_SCHEMA.QUERY_HISTORY_BY_USER(RESULT_LIMIT => 10000)) WHERE QUERY_TAG = '{"errand":{"job":"o''b\\n"}}' ORDER BY START_TIME DESC LIMIT 100
        SELECT * FROM TABLE(RESULT_SCAN('01b'))
        SELECT SUM(BYTES_SCANNED) AS BYTES_SCANNED, SUM(CREDITS_USED_CLOUD_SERVICES) AS CREDITS_CLOUD_SERVICES, SUM(EXECUTION_TIME * DECODE(UPPER(WAREHOUSE_SIZE), 'X-SMALL', 1, 'SMALL', 2, 'MEDIUM', 4, 'LARGE', 8, 'X-LARGE', 16, '2X-LARGE', 32, '3X-LARGE', 64, '4X-LARGE', 128, '5X-LARGE', 256, '6X-LARGE', 512, 0) / 3600000) AS CREDITS_COMPUTE FROM TABLE(INFORMATION_SCHEMA.QUERY_HISTORY_BY_USER(END_TIME_RANGE_START => DATEADD('second', -90, CURRENT_TIMESTAMP()), RESULT_LIMIT => 10000)) WHERE QUERY_TAG IN ('a', 'b')
        "#
        );
    }

    #[test]
    fn a_statement_is_known_by_its_text_as_the_records_show_it() {
        for (shown, sql) in [
            ("COMMIT", "COMMIT"),
            ("insert into t\nselect 1", "-- a note\n/* another */ insert into t\nselect 1;"),
            ("select 1", "select  1 ;"),
            (
                "copy into t from 's3://b' credentials = (aws_secret_key = '****')",
                "copy into t from 's3://b' credentials = (aws_secret_key = 'x') force = true",
            ),
        ] {
            assert!(is_text_of(shown, sql), "{shown} {sql}");
        }
        let long = format!("insert into t select '{}'", "a".repeat(3000));
        assert!(is_text_of(&long[..2000], &long) && is_text_of(&long, &long));
        for (shown, sql) in [("select 1", "COMMIT"), ("insert into t select 1", "insert into t select 12"), ("", "COMMIT"), ("COMMIT", "")]
        {
            assert!(!is_text_of(shown, sql), "{shown} {sql}");
        }
        assert!(!is_text_of(&long[..2000], &long.replace("into t", "into u")));
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
