//! Snowpipe: what its history says of files, and the call that tells it of new ones.

use std::collections::BTreeMap;

use async_trait::async_trait;
use errand_model::failure::{Failure, FailureKind};
use errand_model::job::TableName;

use super::account::Account;
use super::error;
use super::history::quote;
use super::result::Raw;
use super::run::Runner;
use super::session::SnowflakeSession;
use crate::warehouse::{Pipe, Piped, Pipes, quote_exact};

mod insert;
mod token;

/// Files that one question to the history names.
const ASKED: usize = 500;
/// The history goes back 14 days; an hour less, so that no clock makes it more.
const HOURS: u32 = 14 * 24 - 1;

#[async_trait]
impl Pipes for SnowflakeSession {
    async fn pipe(&mut self, table: &TableName) -> Result<Pipe, Failure> {
        let (capabilities, account) = (Account::capabilities(), self.runner.account.clone());
        let database = capabilities.quote(&account.database);
        let schema = capabilities.quote(table.schema.as_deref().unwrap_or(&account.schema));
        let name = capabilities.fold(&name(&table.name));
        let missing = || missing(table, &name);
        let sql = format!("SHOW PIPES LIKE {} IN SCHEMA {database}.{schema}", quote(&name));
        let shown = match self.runner.named(&sql, &self.cancelled).await {
            Err(failure) if failure.code == "warehouse::missing_object" => return Err(missing()),
            shown => shown?,
        };
        let row = shown.into_iter().find(|row| text(row, "name") == Some(name.as_str())).ok_or_else(missing)?;
        Ok(Pipe {
            name: table.sibling(name.clone()).to_string(),
            sql_name: format!("{database}.{schema}.{}", quote_exact(&name)),
            table: format!("{database}.{schema}.{}", capabilities.quote(&table.name)),
            is_notified: text(&row, "notification_channel").is_some_and(|channel| !channel.is_empty()),
        })
    }

    async fn tell(&mut self, pipe: &Pipe, files: &[String]) -> Result<(), Failure> {
        let (stage, store) = self.runner.stage(&self.cancelled).await?.ok_or_else(no_stage)?;
        let local = store.local("").and_then(|root| root.canonicalize().ok());
        let root = local.map_or_else(|| store.url(""), |root| root.display().to_string());
        let root = root.trim_end_matches('/');
        let relative = |url: &String| {
            let path = url.strip_prefix(root).and_then(|path| path.strip_prefix('/'));
            path.map(str::to_owned).ok_or_else(|| elsewhere(url, &stage, root))
        };
        let paths = files.iter().map(relative).collect::<Result<Vec<String>, Failure>>()?;
        tokio::select! {
            told = insert::insert(&self.runner.account, pipe, &paths) => told,
            () = self.cancelled.cancelled() => Err(error::cancelled()),
        }
    }

    async fn fates(&mut self, pipe: &Pipe, files: &[String]) -> Result<Vec<Piped>, Failure> {
        let mut fates = vec![Piped::Unknown; files.len()];
        for (files, fates) in files.chunks(ASKED).zip(fates.chunks_mut(ASKED)) {
            let sql = history(&self.runner.account.database, pipe, files);
            for row in self.runner.named(&sql, &self.cancelled).await? {
                let (place, file) = (text(&row, "stage_location").unwrap_or_default(), text(&row, "file_name").unwrap_or_default());
                let at = files.iter().position(|url| is_file(url, place, file));
                let Some(fate) = at.and_then(|at| fates.get_mut(at)) else { continue };
                // A file may fail and be loaded later, never the other way around.
                if !matches!(fate, Piped::Loaded { .. }) {
                    *fate = told(&row);
                }
            }
        }
        Ok(fates)
    }

    async fn check(&mut self, pipe: &Pipe) -> Result<(), Failure> {
        let sql = format!("SELECT SYSTEM$PIPE_STATUS({}) AS STATUS", quote(&pipe.sql_name));
        let rows = self.runner.texts(&sql, 1, &self.cancelled).await?;
        let status = rows.into_iter().flatten().flatten().next().unwrap_or_default();
        halted(pipe, &status).map_or(Ok(()), Err)
    }
}

/// The name of the pipe of a table, before it is folded.
pub(super) fn name(table: &str) -> String {
    format!("{table}_pipe")
}

/// What `SYSTEM$PIPE_STATUS` says when the pipe does not load anything.
fn halted(pipe: &Pipe, status: &str) -> Option<Failure> {
    let status: serde_json::Value = serde_json::from_str(status).ok()?;
    let state = status["executionState"].as_str().filter(|state| !state.eq_ignore_ascii_case("RUNNING"))?;
    let reason = ["error", "fault", "pausedReason"].iter().find_map(|key| status[*key].as_str());
    let reason = reason.map(|reason| format!(": {reason}")).unwrap_or_default();
    let message = format!("pipe `{}` does not load anything, it is `{state}`{reason}", pipe.name);
    let help = if state.eq_ignore_ascii_case("PAUSED") {
        format!("let it run: `ALTER PIPE {} SET PIPE_EXECUTION_PAUSED = FALSE`", pipe.sql_name)
    } else {
        format!("see `SELECT SYSTEM$PIPE_STATUS({})`, mend what it names, and run again", quote(&pipe.sql_name))
    };
    Some(Failure::new(FailureKind::Permanent, "warehouse::refused", message).help(help))
}

fn history(database: &str, pipe: &Pipe, files: &[String]) -> String {
    let names = files.iter().map(|url| quote(url.rsplit('/').next().unwrap_or(url))).collect::<Vec<_>>().join(", ");
    format!(
        "SELECT FILE_NAME, STAGE_LOCATION, STATUS, ROW_COUNT, FILE_SIZE, ERROR_COUNT, FIRST_ERROR_MESSAGE, FIRST_ERROR_LINE_NUMBER, \
         FIRST_ERROR_COLUMN_NAME, DATE_PART(EPOCH_SECOND, LAST_LOAD_TIME) AS LOADED_AT \
         FROM TABLE({}.INFORMATION_SCHEMA.COPY_HISTORY(TABLE_NAME => {}, START_TIME => DATEADD(HOUR, -{HOURS}, CURRENT_TIMESTAMP()))) \
         WHERE SPLIT_PART(FILE_NAME, '/', -1) IN ({names}) ORDER BY LAST_LOAD_TIME",
        Account::capabilities().quote(database),
        quote(&pipe.table)
    )
}

/// Whether a row of the history, which names a stage's URL and a path under it, speaks of a file.
///
/// The path is relative to that URL: <https://docs.snowflake.com/en/user-guide/data-load-snowpipe-rest-apis>. One that began again at the bucket would
/// be the name of two files, `p/x.csv` of `s3://b/p/x.csv` and of `s3://b/p/p/x.csv`, and one of them might not be loaded.
fn is_file(url: &str, place: &str, file: &str) -> bool {
    let (place, file) = (place.trim_start_matches("file://").trim_end_matches('/'), file.trim_start_matches('/'));
    if file.is_empty() {
        return false;
    }
    if place.is_empty() {
        // A stage that is not external has no URL.
        return url.strip_suffix(file).is_some_and(|before| before.ends_with('/'));
    }
    // All of the path: another file may have the same name in another directory.
    url.strip_prefix(place).and_then(|rest| rest.strip_prefix('/')) == Some(file)
}

/// What one row of the history says.
fn told(row: &Row) -> Piped {
    let number = |name: &str| text(row, name).and_then(|text| text.parse::<u64>().ok());
    let status = text(row, "status").unwrap_or_default().to_ascii_lowercase();
    match status.as_str() {
        "loaded" => Piped::Loaded {
            rows: number("row_count").unwrap_or(0),
            bytes: number("file_size"),
            at: text(row, "loaded_at").and_then(|text| text.parse().ok()),
        },
        "" | "load in progress" | "load skipped" => Piped::Unknown,
        _ => {
            let said = text(row, "first_error_message").unwrap_or("no reason is given").replace('\n', " ");
            let line = number("first_error_line_number").map(|line| format!("line {line}: ")).unwrap_or_default();
            let column = text(row, "first_error_column_name").map(|column| format!("column {column}: ")).unwrap_or_default();
            let others = match number("error_count") {
                Some(count) if count > 1 => format!(" (the first of {count} errors)"),
                _ => String::new(),
            };
            Piped::Failed(format!("{line}{column}{}{others}", said.trim()))
        }
    }
}

fn missing(table: &TableName, name: &str) -> Failure {
    let message = format!("there is no pipe `{}`, or the role may not see it", table.sibling(name.to_owned()));
    Failure::new(FailureKind::Permanent, "warehouse::missing_object", message)
        .help("`errand setup snowflake` prints the SQL that makes it and grants it; `--apply` runs it")
}

fn no_stage() -> Failure {
    Failure::new(FailureKind::Definition, "warehouse::no_stage", "a pipe loads from an external stage, and the connection names none")
        .help("set `stage` on the connection; `errand setup snowflake` prints the SQL that makes one")
}

fn elsewhere(url: &str, stage: &str, root: &str) -> Failure {
    let message = format!("`{url}` does not lie under `{root}`, the URL of stage `{stage}`, from which the pipe loads");
    Failure::new(FailureKind::Definition, "warehouse::refused", message)
        .help("bring the files under the stage's URL, or write `through: copy`")
}

/// A row by the names of its columns, in lower case.
type Row = BTreeMap<String, Option<String>>;

fn text<'a>(row: &'a Row, name: &str) -> Option<&'a str> {
    row.get(name)?.as_deref()
}

impl Runner {
    /// All rows of a small result, by the names of their columns.
    async fn named(&mut self, sql: &str, cancelled: &tokio_util::sync::CancellationToken) -> Result<Vec<Row>, Failure> {
        let mut rows = Vec::new();
        let Some(mut cursor) = self.run(sql, cancelled).await?.cursor else { return Ok(rows) };
        let names: Vec<String> = cursor.schema().columns().iter().map(|column| column.name().to_ascii_lowercase()).collect();
        while let Some(table) = self.chunk(&mut cursor, cancelled).await? {
            for row in table.rows::<Raw>().map_err(|problem| error::internal(&problem.to_string()))? {
                let row = row.map_err(|problem| error::internal(&problem.to_string()))?;
                rows.push(names.iter().cloned().zip(row.0).collect());
            }
        }
        Ok(rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pipe() -> Pipe {
        Pipe {
            name: "raw.ORDERS_PIPE".into(),
            sql_name: r#""D"."RAW"."ORDERS_PIPE""#.into(),
            table: r#""D"."RAW"."ORDERS""#.into(),
            is_notified: true,
        }
    }

    #[test]
    fn a_file_is_known_by_all_of_its_path() {
        for (url, place, file, same) in [
            ("s3://b/p/a/x.csv", "s3://b/p/", "a/x.csv", true),
            ("s3://b/p/a/x.csv", "s3://b/p/a/", "x.csv", true),
            ("s3://b/p/a/x.csv", "s3://b/p", "a/x.csv", true),
            ("s3://b/p/a/x.csv", "s3://b/p/", "x.csv", false),
            ("s3://b/p/x.csv", "s3://b/p/", "x.csv", true),
            ("s3://b/p/a/x.csv", "", "a/x.csv", true),
            ("s3://b/p/a/x.csv", "s3://b/p/", "b/x.csv", false),
            ("s3://b/p/a/xx.csv", "s3://b/p/", "x.csv", false),
            ("s3://b/p/a/x.csv", "s3://c/p/", "a/x.csv", false),
            // As the documents show them, a slash at either side or at both.
            ("s3://mybucket/orders/2026/10/03/o.json.gz", "s3://mybucket/orders/", "2026/10/03/o.json.gz", true),
            ("s3://mybucket/mypath/o.csv.gz", "s3://mybucket/mypath", "/o.csv.gz", true),
            ("s3://mybucket/mypath/o.csv.gz", "s3://mybucket/", "mypath/o.csv.gz", true),
            ("s3://b/p/p/x.csv", "s3://b/p/", "p/x.csv", true),
            ("s3://b/p/x.csv", "s3://b/p/", "p/x.csv", false),
            ("/data/lake/x.csv", "file:///data/", "lake/x.csv", true),
            ("s3://b/p/x.csv", "", "", false),
        ] {
            assert_eq!(is_file(url, place, file), same, "{url} {place} {file}");
        }
    }

    #[test]
    fn the_history_says_rows_or_the_first_error() {
        let row = |pairs: &[(&str, &str)]| -> Row { pairs.iter().map(|(k, v)| ((*k).to_owned(), Some((*v).to_owned()))).collect() };
        assert_eq!(told(&row(&[("status", "Load in progress")])), Piped::Unknown);
        assert_eq!(
            told(&row(&[("status", "Loaded"), ("row_count", "7"), ("file_size", "90"), ("loaded_at", "1767225600")])),
            Piped::Loaded { rows: 7, bytes: Some(90), at: Some(1_767_225_600) }
        );
        let failed =
            [("status", "Load failed"), ("error_count", "3"), ("first_error_message", "not a number"), ("first_error_line_number", "12")];
        assert_eq!(told(&row(&failed)), Piped::Failed("line 12: not a number (the first of 3 errors)".into()));
        assert!(matches!(told(&row(&[("status", "Partially loaded")])), Piped::Failed(_)));
    }

    #[test]
    fn a_pipe_that_stands_still_says_why() {
        assert_eq!(halted(&pipe(), r#"{"executionState":"RUNNING"}"#), None);
        let failure = halted(&pipe(), r#"{"executionState":"STALLED_EXECUTION_ERROR","error":"no rights on the bucket"}"#).expect("halted");
        assert_eq!(
            failure.message,
            "pipe `raw.ORDERS_PIPE` does not load anything, it is `STALLED_EXECUTION_ERROR`: no rights on the bucket"
        );
        assert!(
            halted(&pipe(), r#"{"executionState":"PAUSED"}"#).and_then(|failure| failure.help).unwrap_or_default().contains("ALTER PIPE")
        );
    }

    #[test]
    fn the_history_is_asked_by_name_and_table() {
        insta::assert_snapshot!(history("d", &pipe(), &["s3://b/a/o'x.csv".to_owned(), "s3://b/y.csv".to_owned()]), @r#"SELECT FILE_NAME, STAGE_LOCATION, STATUS, ROW_COUNT, FILE_SIZE, ERROR_COUNT, FIRST_ERROR_MESSAGE, FIRST_ERROR_LINE_NUMBER, FIRST_ERROR_COLUMN_NAME, DATE_PART(EPOCH_SECOND, LAST_LOAD_TIME) AS LOADED_AT FROM TABLE("D".INFORMATION_SCHEMA.COPY_HISTORY(TABLE_NAME => '"D"."RAW"."ORDERS"', START_TIME => DATEADD(HOUR, -335, CURRENT_TIMESTAMP()))) WHERE SPLIT_PART(FILE_NAME, '/', -1) IN ('o''x.csv', 'y.csv') ORDER BY LAST_LOAD_TIME"#);
    }
}
