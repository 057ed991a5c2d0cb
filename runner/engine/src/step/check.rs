//! `check`, and the checks on staged rows: what must hold, how many rows break it, and where they are kept.

use std::time::Duration;

use errand_model::document::step::{CheckSeverity, OnFailure};
use errand_model::failure::{Failure, FailureKind};
use errand_model::job::{CheckStep, Expectation, ExpectationKind, Subject, TableName};
use errand_model::report::CheckReport;
use errand_model::value::ColumnType;
use jiff::tz::TimeZone;

use super::{Attempt, Effect, located, single_query};
use crate::warehouse::publish::counted;
use crate::warehouse::{Session, quote_exact};

/// Where rows that break checks are kept.
pub(crate) const FAILURES_SCHEMA: &str = "_errand_failures";
/// Most rows kept by `store_failures`.
const MAX_STORED: usize = 1000;

pub(super) async fn run(attempt: &mut Attempt, step: &CheckStep) -> Result<Effect, Failure> {
    let mut session = attempt.session(&step.connection, None).await?;
    let result = held(attempt, session.as_mut(), step).await;
    attempt.leave(session.as_mut(), result).await
}

async fn held(attempt: &mut Attempt, session: &mut dyn Session, step: &CheckStep) -> Result<Effect, Failure> {
    let from = match &step.subject {
        Subject::Table(table) => session.capabilities().quote_table(table),
        Subject::Query(query) => {
            let rendered = attempt.render_sql(query, session.capabilities())?;
            format!("({}\n) AS subject", single_query(query, &rendered, session.capabilities().dialect)?.0)
        }
    };
    let outcome = hold(attempt, session, &from, &step.expect, true).await?;
    keep_failures(attempt, session, outcome.stored).await;
    outcome.failure.map_or_else(|| Ok(Effect::default()), Err)
}

/// Checks staged or published rows before the commit. Rows that break a check are kept after the transaction is rolled back; those that
/// break one that only warns are for the caller to keep, after its commit.
pub(super) async fn on_table(
    attempt: &mut Attempt,
    session: &mut dyn Session,
    table: &TableName,
    checks: &[Expectation],
) -> Result<Vec<Stored>, Failure> {
    let from = session.capabilities().quote_table(table);
    let outcome = hold(attempt, session, &from, checks, false).await?;
    match outcome.failure {
        None => Ok(outcome.stored),
        Some(failure) => {
            session.rollback().await?;
            keep_failures(attempt, session, outcome.stored).await;
            Err(failure)
        }
    }
}

/// Rows that broke a check: where they go, their columns, their values.
pub(super) struct Stored {
    table: TableName,
    columns: Vec<String>,
    rows: Vec<Vec<Option<String>>>,
}

#[derive(Default)]
struct Checked {
    failure: Option<Failure>,
    stored: Vec<Stored>,
}

/// Runs every check, so that one report names all that failed. One that cannot run fails the step when all others ran; within a transaction at
/// once, which may answer nothing more after an error.
async fn hold(
    attempt: &mut Attempt,
    session: &mut dyn Session,
    from: &str,
    checks: &[Expectation],
    is_by_itself: bool,
) -> Result<Checked, Failure> {
    let mut out = Checked::default();
    let (mut broken, mut unable) = (Vec::new(), None);
    for check in checks {
        let stopwatch = attempt.run.request.clock.stopwatch();
        let finding = match evaluate(attempt, session, from, check).await {
            Ok(finding) => finding,
            Err(failure) if failure.kind.is_transient() || failure.kind == FailureKind::Cancelled => return Err(failure),
            Err(failure) => {
                let failure = cannot_run(attempt, check, failure);
                if !is_by_itself {
                    return Err(failure);
                }
                unable = unable.or(Some(failure));
                continue;
            }
        };
        attempt.record_statement(&format!("check {}", check.name), None, &stopwatch, finding.failures);
        let passed = finding.message.is_none();
        let mut report = CheckReport {
            name: check.name.clone(),
            passed,
            severity: check.severity.to_string(),
            failures: finding.failures,
            message: finding.message.clone(),
            stored_in: None,
        };
        if let (false, true, Some(query)) = (passed, check.store_failures, &finding.query) {
            let stored = collect(attempt, session, query).await?;
            report.stored_in = Some(stored.table.to_string());
            out.stored.push(stored);
        }
        attempt.record.checks.push(report);
        if let Some(message) = finding.message {
            match check.severity {
                CheckSeverity::Error => broken.push(format!("{}: {message}", check.name)),
                CheckSeverity::Warn => attempt.record.warnings.push(format!("check {}: {message}", check.name)),
            }
        }
    }
    out.failure = unable.or_else(|| failed(attempt, &broken, is_by_itself));
    Ok(out)
}

/// A check whose SQL fails is named, with where it stands.
fn cannot_run(attempt: &mut Attempt, check: &Expectation, failure: Failure) -> Failure {
    let failure = located(failure, None);
    attempt.record.checks.push(CheckReport {
        name: check.name.clone(),
        passed: false,
        severity: check.severity.to_string(),
        failures: None,
        message: Some(format!("cannot run: {}", failure.message)),
        stored_in: None,
    });
    let message = format!("check {} cannot run: {}", check.name, failure.message);
    let place = failure.place.clone().unwrap_or_else(|| check.place.clone());
    Failure { message, place: Some(place), ..failure }
}

fn failed(attempt: &Attempt, broken: &[String], is_by_itself: bool) -> Option<Failure> {
    let count = match broken.len() {
        0 => return None,
        1 => "a check does not hold".to_owned(),
        count => format!("{count} checks do not hold"),
    };
    let mut so = Vec::new();
    if attempt.step.on_failure == OnFailure::Fail {
        so.push("steps that need this one did not run");
    }
    if !is_by_itself {
        so.push("nothing that it builds was published");
    }
    let help = [so.join(", and "), "mend the data or the check, then run again".to_owned()];
    let help = help.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(": ");
    let message = format!("{count}: {}", broken.join("; "));
    Some(Failure::new(FailureKind::CheckFailed, "check::failed", message).help(help))
}

/// What a check found: how many rows break it, the query for them, and words when it does not hold.
struct Finding {
    failures: Option<u64>,
    query: Option<String>,
    message: Option<String>,
}

async fn evaluate(attempt: &Attempt, session: &mut dyn Session, from: &str, check: &Expectation) -> Result<Finding, Failure> {
    let capabilities = session.capabilities();
    let quote = |name: &String| capabilities.quote(name);
    let query = match &check.kind {
        ExpectationKind::NotNull(columns) => {
            let null: Vec<String> = columns.iter().map(|column| format!("{} IS NULL", quote(column))).collect();
            format!("SELECT * FROM {from} WHERE {}", null.join(" OR "))
        }
        ExpectationKind::Unique(columns) => {
            let list = capabilities.quote_list(columns.iter().map(String::as_str));
            let present: Vec<String> = columns.iter().map(|column| format!("{} IS NOT NULL", quote(column))).collect();
            format!(
                "SELECT {list}, count(*) AS occurrences FROM {from} WHERE {} GROUP BY {list} HAVING count(*) > 1",
                present.join(" AND ")
            )
        }
        ExpectationKind::AcceptedValues { column, values } => {
            let column = quote(column);
            let list: Vec<String> = values.iter().filter(|value| !value.is_null()).map(|value| capabilities.literal(value)).collect();
            format!("SELECT * FROM {from} WHERE {column} IS NOT NULL AND {column} NOT IN ({})", list.join(", "))
        }
        ExpectationKind::Relationships { column, to, field } => {
            let (column, field) = (quote(column), quote(field));
            format!(
                "SELECT _errand_child.* FROM (SELECT * FROM {from}) AS _errand_child WHERE _errand_child.{column} IS NOT NULL \
                 AND NOT EXISTS (SELECT 1 FROM {} AS _errand_parent WHERE _errand_parent.{field} = _errand_child.{column})",
                capabilities.quote_table(to)
            )
        }
        ExpectationKind::Expression(condition) => {
            format!("SELECT * FROM {from} WHERE NOT coalesce(({}\n), FALSE)", attempt.render_sql(condition, capabilities)?)
        }
        ExpectationKind::Sql(sql) => {
            let rendered = attempt.render_sql(sql, capabilities)?;
            single_query(sql, &rendered, capabilities.dialect)?.0.to_owned()
        }
        ExpectationKind::RowCount { min, max, change } => return row_count(attempt, session, from, check, (*min, *max, *change)).await,
        ExpectationKind::Freshness { column, max_age } => return freshness(attempt, session, from, column, *max_age).await,
    };
    let count = counted(session, &format!("SELECT count(*) FROM ({query}\n) AS failures")).await?;
    let message = if count == 0 { None } else { Some(format!("{}{}", plural(count), example(session, &query).await?)) };
    Ok(Finding { failures: Some(count), query: Some(query), message })
}

fn plural(rows: u64) -> String {
    if rows == 1 { "1 row breaks it".to_owned() } else { format!("{rows} rows break it") }
}

/// The first row that breaks a check, shortened.
async fn example(session: &mut dyn Session, query: &str) -> Result<String, Failure> {
    let row = session.query(query, 1).await?.into_iter().next().unwrap_or_default();
    let values: Vec<String> =
        row.into_iter().take(6).map(|value| value.unwrap_or_else(|| "NULL".to_owned()).chars().take(24).collect()).collect();
    Ok(if values.is_empty() { String::new() } else { format!(", first: ({})", values.join(", ")) })
}

async fn row_count(
    attempt: &Attempt,
    session: &mut dyn Session,
    from: &str,
    check: &Expectation,
    (min, max, change): (Option<u64>, Option<u64>, Option<f64>),
) -> Result<Finding, Failure> {
    let count = counted(session, &format!("SELECT count(*) FROM {from}")).await?;
    let mut message = match (min, max) {
        (Some(min), _) if count < min => Some(format!("{count} rows, at least {min} expected")),
        (_, Some(max)) if count > max => Some(format!("{count} rows, at most {max} expected")),
        _ => None,
    };
    if let Some(change) = change {
        message = message.or(changed(attempt, session, check, count, change).await?);
        if message.is_none() {
            remember(attempt, session, check, count).await?;
        }
    }
    Ok(Finding { failures: None, query: None, message })
}

/// Compares with the count of the last earlier interval for which this check held.
#[expect(clippy::cast_precision_loss, reason = "a share of a row count needs no 53 bits")]
async fn changed(
    attempt: &Attempt,
    session: &mut dyn Session,
    check: &Expectation,
    count: u64,
    most: f64,
) -> Result<Option<String>, Failure> {
    let capabilities = session.capabilities();
    let text = |text: &str| capabilities.text(text);
    let request = &attempt.run.request;
    let sql = format!(
        "SELECT row_count FROM _errand.checks WHERE job = {} AND step = {} AND name = {} AND interval_start < {} ORDER BY interval_start DESC",
        text(request.job.name.as_str()),
        text(attempt.step.id.as_str()),
        text(&remembered_name(attempt, check)),
        text(&request.interval.start.to_string())
    );
    let Some(before) = session.query(&sql, 1).await?.into_iter().flatten().flatten().next().and_then(|text| text.parse::<u64>().ok())
    else {
        return Ok(None);
    };
    let share = count.abs_diff(before) as f64 / before.max(1) as f64;
    let message =
        format!("{count} rows after {before} rows last time, a change of {:.1}%; at most {:.1}% expected", share * 100.0, most * 100.0);
    Ok((share > most).then_some(message))
}

/// Counts of runs with other inputs say nothing about this one.
fn remembered_name(attempt: &Attempt, check: &Expectation) -> String {
    if attempt.run.request.inputs.is_empty() { check.name.clone() } else { format!("{} {}", check.name, attempt.run.inputs_text()) }
}

async fn remember(attempt: &Attempt, session: &mut dyn Session, check: &Expectation, count: u64) -> Result<(), Failure> {
    let capabilities = session.capabilities();
    let text = |text: &str| capabilities.text(text);
    let request = &attempt.run.request;
    let (job, step) = (text(request.job.name.as_str()), text(attempt.step.id.as_str()));
    let (name, start) = (text(&remembered_name(attempt, check)), text(&request.interval.start.to_string()));
    let before = format!("DELETE FROM _errand.checks WHERE job = {job} AND step = {step} AND name = {name} AND interval_start = {start}");
    session.execute(&before).await?;
    let now = text(&request.clock.now().to_string());
    session.execute(&format!("INSERT INTO _errand.checks VALUES ({job}, {step}, {name}, {start}, {count}, {now})")).await.map(|_| ())
}

async fn freshness(attempt: &Attempt, session: &mut dyn Session, from: &str, column: &str, max_age: Duration) -> Result<Finding, Failure> {
    let capabilities = session.capabilities();
    // Text in one form everywhere: seconds are what counts here.
    let newest = format!(
        "SELECT CAST(max({}) AS {}) FROM {from}",
        (capabilities.moment_in_utc)(&capabilities.quote(column)),
        (capabilities.type_name)(ColumnType::Text)
    );
    let newest = session.query(&newest, 1).await?.into_iter().flatten().flatten().next();
    let message = match newest {
        None => Some(format!("no row has a `{column}`")),
        Some(newest) => {
            let seconds = newest.get(..19).unwrap_or(&newest);
            let then =
                jiff::civil::DateTime::strptime("%Y-%m-%d %H:%M:%S", seconds).ok().and_then(|then| then.to_zoned(TimeZone::UTC).ok());
            let then = then.ok_or_else(|| {
                let message = format!("the newest `{column}`, `{newest}`, is no moment that errand understands");
                Failure::new(FailureKind::Permanent, "check::freshness", message).help("name a column of type timestamp or date")
            })?;
            let age = attempt.run.request.clock.now().as_second() - then.timestamp().as_second();
            let limit = i64::try_from(max_age.as_secs()).unwrap_or(i64::MAX);
            (age > limit).then(|| format!("newest `{column}` is {newest}, {age} s old; at most {limit} s expected"))
        }
    };
    Ok(Finding { failures: None, query: None, message })
}

async fn collect(attempt: &Attempt, session: &mut dyn Session, query: &str) -> Result<Stored, Failure> {
    let request = &attempt.run.request;
    let name: String = format!("{}__{}__{}", request.job.name, attempt.step.id, attempt.record.checks.len() + 1);
    let columns = session.describe(query).await?.into_iter().map(|column| column.name).collect();
    let rows = session.query(query, MAX_STORED).await?;
    Ok(Stored { table: TableName { schema: Some(FAILURES_SCHEMA.to_owned()), name }, columns, rows })
}

/// Writes rows that broke checks, instead of those of the last time. They help whoever looks for the cause: that they cannot be kept is
/// a warning.
pub(super) async fn keep_failures(attempt: &mut Attempt, session: &mut dyn Session, stored: Vec<Stored>) {
    for failures in stored {
        if let Err(failure) = keep(attempt, session, &failures).await {
            attempt.record.warnings.push(format!("the rows that break a check could not be kept in `{}`: {failure}", failures.table));
        }
    }
}

async fn keep(attempt: &mut Attempt, session: &mut dyn Session, failures: &Stored) -> Result<(), Failure> {
    attempt.ensure_schema(session, &failures.table).await?;
    let capabilities = session.capabilities();
    let text = (capabilities.type_name)(ColumnType::Text);
    let columns: Vec<String> = failures.columns.iter().map(|column| format!("{} {text}", quote_exact(column))).collect();
    let table = capabilities.quote_table(&failures.table);
    attempt.send(session, &format!("DROP TABLE IF EXISTS {table}")).await?;
    attempt.send(session, &format!("CREATE TABLE {table} ({})", columns.join(", "))).await?;
    for rows in failures.rows.chunks(200) {
        let tuple = |row: &Vec<Option<String>>| {
            let values: Vec<String> =
                row.iter().map(|value| value.as_deref().map_or("NULL".to_owned(), |value| capabilities.text(value))).collect();
            format!("({})", values.join(", "))
        };
        let values: Vec<String> = rows.iter().map(tuple).collect();
        attempt.send(session, &format!("INSERT INTO {table} VALUES {}", values.join(", "))).await?;
    }
    Ok(())
}
