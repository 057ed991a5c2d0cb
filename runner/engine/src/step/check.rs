//! `check`, and the checks on staged rows: what must hold, how many rows break it, and where they are kept.

use std::time::Duration;

use errand_model::document::step::CheckSeverity;
use errand_model::failure::{Failure, FailureKind};
use errand_model::job::{CheckStep, Expectation, ExpectationKind, Subject, TableName};
use errand_model::report::CheckReport;

use super::{Attempt, Effect, single_query};
use crate::warehouse::publish::counted;
use crate::warehouse::{Session, literal, quote_identifier, quote_list, quote_table, quote_text};

/// Where rows that break checks are kept.
pub(super) const FAILURES_SCHEMA: &str = "_errand_failures";
/// Most rows kept by `store_failures`.
const MAX_STORED: usize = 1000;

pub(super) async fn run(attempt: &mut Attempt, step: &CheckStep) -> Result<Effect, Failure> {
    let (mut session, _) = attempt.session(&step.connection).await?;
    let from = match &step.subject {
        Subject::Table(table) => quote_table(table),
        Subject::Query(query) => {
            let rendered = attempt.render(query)?;
            format!("({}\n) AS subject", single_query(query, &rendered)?.0)
        }
    };
    let outcome = hold(attempt, session.as_mut(), &from, &step.expect).await?;
    keep_failures(attempt, session.as_mut(), outcome.stored).await?;
    outcome.failure.map_or_else(|| Ok(Effect::default()), Err)
}

/// Checks staged rows inside the open transaction. Rows that break a check are kept after it is rolled back.
pub(super) async fn on_table(
    attempt: &mut Attempt,
    session: &mut dyn Session,
    table: &TableName,
    checks: &[Expectation],
) -> Result<(), Failure> {
    let outcome = hold(attempt, session, &quote_table(table), checks).await?;
    match outcome.failure {
        None => keep_failures(attempt, session, outcome.stored).await,
        Some(failure) => {
            session.rollback().await?;
            keep_failures(attempt, session, outcome.stored).await?;
            Err(failure)
        }
    }
}

/// Rows that broke a check: where they go, their columns, their values.
struct Stored {
    table: TableName,
    columns: Vec<String>,
    rows: Vec<Vec<Option<String>>>,
}

#[derive(Default)]
struct Checked {
    failure: Option<Failure>,
    stored: Vec<Stored>,
}

/// Runs every check, so that one report names all that failed.
async fn hold(attempt: &mut Attempt, session: &mut dyn Session, from: &str, checks: &[Expectation]) -> Result<Checked, Failure> {
    let mut out = Checked::default();
    let mut broken = Vec::new();
    for check in checks {
        let stopwatch = attempt.run.request.clock.stopwatch();
        let finding = evaluate(attempt, session, from, check).await?;
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
    if !broken.is_empty() {
        let count = if broken.len() == 1 { "a check does not hold".to_owned() } else { format!("{} checks do not hold", broken.len()) };
        let failure = Failure::new(FailureKind::CheckFailed, "check::failed", format!("{count}: {}", broken.join("; ")));
        out.failure = Some(
            failure
                .help("nothing after this step ran, and nothing that it builds was published: mend the data or the check, then run again"),
        );
    }
    Ok(out)
}

/// What a check found: how many rows break it, the query for them, and words when it does not hold.
struct Finding {
    failures: Option<u64>,
    query: Option<String>,
    message: Option<String>,
}

async fn evaluate(attempt: &Attempt, session: &mut dyn Session, from: &str, check: &Expectation) -> Result<Finding, Failure> {
    let query = match &check.kind {
        ExpectationKind::NotNull(columns) => {
            let null: Vec<String> = columns.iter().map(|column| format!("{} IS NULL", quote_identifier(column))).collect();
            format!("SELECT * FROM {from} WHERE {}", null.join(" OR "))
        }
        ExpectationKind::Unique(columns) => {
            let list = quote_list(columns.iter().map(String::as_str));
            let present: Vec<String> = columns.iter().map(|column| format!("{} IS NOT NULL", quote_identifier(column))).collect();
            format!(
                "SELECT {list}, count(*) AS occurrences FROM {from} WHERE {} GROUP BY {list} HAVING count(*) > 1",
                present.join(" AND ")
            )
        }
        ExpectationKind::AcceptedValues { column, values } => {
            let column = quote_identifier(column);
            let list: Vec<String> = values.iter().filter(|value| !value.is_null()).map(literal).collect();
            format!("SELECT * FROM {from} WHERE {column} IS NOT NULL AND {column} NOT IN ({})", list.join(", "))
        }
        ExpectationKind::Relationships { column, to, field } => {
            let (column, field) = (quote_identifier(column), quote_identifier(field));
            format!(
                "SELECT _errand_child.* FROM (SELECT * FROM {from}) AS _errand_child WHERE _errand_child.{column} IS NOT NULL \
                 AND NOT EXISTS (SELECT 1 FROM {} AS _errand_parent WHERE _errand_parent.{field} = _errand_child.{column})",
                quote_table(to)
            )
        }
        ExpectationKind::Expression(condition) => format!("SELECT * FROM {from} WHERE ({}\n) IS NOT TRUE", attempt.render(condition)?),
        ExpectationKind::Sql(sql) => {
            let rendered = attempt.render(sql)?;
            single_query(sql, &rendered)?.0.to_owned()
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
    let request = &attempt.run.request;
    let sql = format!(
        "SELECT row_count FROM _errand.checks WHERE job = {} AND step = {} AND name = {} AND interval_start < {} ORDER BY interval_start DESC",
        quote_text(request.job.name.as_str()),
        quote_text(attempt.step.id.as_str()),
        quote_text(&remembered_name(attempt, check)),
        quote_text(&request.interval.start.to_string())
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
    let request = &attempt.run.request;
    let sql = format!(
        "INSERT OR REPLACE INTO _errand.checks VALUES ({}, {}, {}, {}, {count}, {})",
        quote_text(request.job.name.as_str()),
        quote_text(attempt.step.id.as_str()),
        quote_text(&remembered_name(attempt, check)),
        quote_text(&request.interval.start.to_string()),
        quote_text(&request.clock.now().to_string())
    );
    session.execute(&sql).await.map(|_| ())
}

async fn freshness(attempt: &Attempt, session: &mut dyn Session, from: &str, column: &str, max_age: Duration) -> Result<Finding, Failure> {
    let now = quote_text(&attempt.run.request.clock.now().strftime("%Y-%m-%d %H:%M:%S").to_string());
    let newest = format!("max(CAST({} AS TIMESTAMP))", quote_identifier(column));
    let sql = format!("SELECT {newest}, date_diff('second', {newest}, CAST({now} AS TIMESTAMP)) FROM {from}");
    let row = session.query(&sql, 1).await?.into_iter().next().unwrap_or_default();
    let message = match row.as_slice() {
        [Some(newest), Some(age)] => {
            let age: i64 = age.parse().unwrap_or(i64::MAX);
            let limit = i64::try_from(max_age.as_secs()).unwrap_or(i64::MAX);
            (age > limit).then(|| format!("newest `{column}` is {newest}, {age} s old; at most {limit} s expected"))
        }
        _ => Some(format!("no row has a `{column}`")),
    };
    Ok(Finding { failures: None, query: None, message })
}

async fn collect(attempt: &Attempt, session: &mut dyn Session, query: &str) -> Result<Stored, Failure> {
    let request = &attempt.run.request;
    let name: String = format!("{}__{}__{}", request.job.name, attempt.step.id, attempt.record.checks.len() + 1);
    let described = session.query(&format!("SELECT column_name FROM (DESCRIBE {query}\n)"), 1000).await?;
    let columns = described.into_iter().flatten().flatten().collect();
    let rows = session.query(query, MAX_STORED).await?;
    Ok(Stored { table: TableName { schema: Some(FAILURES_SCHEMA.to_owned()), name }, columns, rows })
}

/// Writes rows that broke checks, instead of those of the last time.
async fn keep_failures(attempt: &mut Attempt, session: &mut dyn Session, stored: Vec<Stored>) -> Result<(), Failure> {
    for failures in stored {
        attempt.ensure_schema(session, &failures.table).await?;
        let columns: Vec<String> = failures.columns.iter().map(|column| format!("{} VARCHAR", quote_identifier(column))).collect();
        let table = quote_table(&failures.table);
        attempt.send(session, &format!("CREATE OR REPLACE TABLE {table} ({})", columns.join(", "))).await?;
        for rows in failures.rows.chunks(200) {
            let tuple = |row: &Vec<Option<String>>| {
                let values: Vec<String> = row.iter().map(|value| value.as_deref().map_or("NULL".to_owned(), quote_text)).collect();
                format!("({})", values.join(", "))
            };
            let values: Vec<String> = rows.iter().map(tuple).collect();
            attempt.send(session, &format!("INSERT INTO {table} VALUES {}", values.join(", "))).await?;
        }
    }
    Ok(())
}
