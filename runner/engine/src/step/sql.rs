//! `sql`: statements in order, or a table built from one SELECT.

use errand_model::document::step::Mode;
use errand_model::failure::{Failure, FailureKind, Place};
use errand_model::job::{ExpectationKind, Materialize, SqlStep, TableName};
use errand_model::report::Rows;

use super::stage::{self, Stage, staging_table};
use super::{Attempt, Effect, single_query, statements};
use crate::warehouse::ledger::{self, Load};
use crate::warehouse::publish::{Way, count, current};
use crate::warehouse::statement::Statement;
use crate::warehouse::{Capabilities, Session};

pub(super) async fn run(attempt: &mut Attempt, step: &SqlStep) -> Result<Effect, Failure> {
    let load = match &step.materialize {
        Some(materialize) => attempt.table_load(&step.connection, &materialize.table).await?,
        None => attempt.load(""),
    };
    let mut session = attempt.session(&step.connection, Some(&load)).await?;
    let session = session.as_mut();
    let result = match &step.materialize {
        Some(materialize) => {
            let _alone = attempt.run.hold(&step.connection, &materialize.table, &attempt.cancelled).await?;
            let result = build_table(attempt, session, step, materialize, &load).await;
            let result = attempt.leave(session, result).await;
            let result = stage::unless_taken(attempt, session, &load, result).await;
            stage::clear(attempt, session, &materialize.table, &load).await;
            return result;
        }
        None => run_statements(attempt, session, step, &load).await,
    };
    attempt.leave(session, result).await
}

/// Refuses what a step cannot hold in this warehouse, before it runs.
///
/// # Errors
///
/// `Definition`, with the place of the statement.
pub(crate) fn refuse(step: &SqlStep, rendered: &str, capabilities: &Capabilities) -> Result<(), Failure> {
    if !step.transaction || step.materialize.is_some() {
        return Ok(());
    }
    refuse_transaction_control(&statements(&step.sql, rendered, capabilities.dialect), capabilities)
}

async fn run_statements(attempt: &mut Attempt, session: &mut dyn Session, step: &SqlStep, load: &Load) -> Result<Effect, Failure> {
    if let Some(effect) = attempt.already(ledger::find(session, load).await?) {
        return Ok(effect);
    }
    let rendered = attempt.render_sql(&step.sql, session.capabilities())?;
    let statements = statements(&step.sql, &rendered, session.capabilities().dialect);
    let writer = attempt.writer();
    if step.transaction {
        refuse_transaction_control(&statements, session.capabilities())?;
        if let Some(effect) = attempt.already(ledger::enter(session, load, &writer).await?) {
            session.rollback().await?;
            return Ok(effect);
        }
        ledger::begin(session).await?;
    }
    let mut affected = 0;
    for (statement, place) in statements {
        affected += attempt.send_at(session, statement.text, Some(place)).await?;
    }
    session.go_home().await?;
    if !step.transaction {
        session.execute("BEGIN TRANSACTION").await.map_err(left_open)?;
    } else if let Some(effect) = attempt.already(ledger::confirm(session, load, &writer).await?) {
        session.rollback().await?;
        return Ok(effect);
    }
    let rows = Rows { written: affected, read: affected, ..Rows::default() };
    attempt.record.rows = rows;
    ledger::record(session, load, &writer, rows).await?;
    attempt.commit(session, &step.connection, load).await?;
    Ok(Effect::of_rows(rows))
}

fn left_open(failure: Failure) -> Failure {
    if failure.code != "warehouse::in_transaction" {
        return failure;
    }
    let message = "the statements left a transaction open, which was rolled back";
    Failure::new(FailureKind::Definition, "sql::open_transaction", message).help("end it with `COMMIT`")
}

/// Inside the step's transaction a `COMMIT` of the author would publish half of it, and without the ledger row.
/// So would a statement after which the warehouse commits by itself.
fn refuse_transaction_control(statements: &[(Statement<'_>, Place)], capabilities: &Capabilities) -> Result<(), Failure> {
    const WORDS: [&str; 6] = ["BEGIN", "START", "COMMIT", "END", "ROLLBACK", "ABORT"];
    for (statement, place) in statements {
        let word: String = statement.text.chars().take_while(char::is_ascii_alphabetic).collect();
        let upper = word.to_ascii_uppercase();
        let (message, help) = if WORDS.contains(&upper.as_str()) {
            let help = "remove it: all statements of the step commit together; or say `transaction: false` and write them yourself";
            (format!("`{word}` cannot stand in a step that is one transaction"), help.to_owned())
        } else if capabilities.commits.contains(&upper.as_str()) {
            let help = "build tables with `materialize`; or say `transaction: false`, and each statement commits by itself";
            let message =
                format!("`{word}` cannot stand in a step that is one transaction: {} commits what came before it", capabilities.name);
            (message, help.to_owned())
        } else {
            continue;
        };
        return Err(Failure::new(FailureKind::Definition, "sql::transaction", message).at(place.clone()).help(help));
    }
    Ok(())
}

async fn build_table(
    attempt: &mut Attempt,
    session: &mut dyn Session,
    step: &SqlStep,
    materialize: &Materialize,
    load: &Load,
) -> Result<Effect, Failure> {
    if let Some(effect) = attempt.already(ledger::find(session, load).await?) {
        return Ok(effect);
    }
    if materialize.publish.mode == Mode::Append {
        ledger::refuse_second_append(session, load, &attempt.other_steps()).await?;
    }
    let rendered = attempt.render_sql(&step.sql, session.capabilities())?;
    let (query, place) = single_query(&step.sql, &rendered, session.capabilities().dialect)?;
    attempt.ensure_schema(session, &materialize.table).await?;
    attempt.ensure_failures_schema(session, &step.checks).await?;
    let done = stage::begin(attempt, session, load, (&materialize.table, materialize.publish.mode)).await?;
    if let Some(effect) = attempt.already(done) {
        session.rollback().await?;
        return Ok(effect);
    }
    let way = Way::choose(session, &materialize.table, materialize.publish.mode).await?;
    let staging = staging_table(session, &materialize.table, load, &attempt.writer());
    let head = format!("CREATE {} {} AS ", way.kind(session), session.capabilities().quote_table(&staging));
    create_as(attempt, session, &head, &staging, materialize, (query, place)).await?;
    let read = count(session, &staging).await?;
    attempt.record.rows.read = read;
    refuse_empty(session, step, materialize, read).await?;
    let stage = Stage {
        connection: &step.connection,
        load,
        staging,
        way,
        target: &materialize.table,
        publish: &materialize.publish,
        checks: &step.checks,
        metadata: &[],
        files: &[],
        rejects: None,
        is_done: true,
        rejected: 0,
        read,
    };
    stage::publish(attempt, session, &stage).await
}

async fn create_as(
    attempt: &mut Attempt,
    session: &mut dyn Session,
    head: &str,
    staging: &TableName,
    materialize: &Materialize,
    (query, place): (&str, Place),
) -> Result<(), Failure> {
    // The head stands on the query's first line, so that the warehouse counts lines as the file does.
    let sql = format!("{head}{query}");
    let (shift, first_line) = (head.chars().count() as u64, place.line);
    attempt.send_at(session, &sql, Some(place)).await.map(|_| ()).map_err(|mut failure| {
        if let Some(place) = failure.place.as_mut().filter(|place| place.line == first_line && place.column > shift) {
            place.column -= shift;
        }
        failure.message = failure.message.replace(&staging.name, &format!("{} (staged)", materialize.table));
        failure
    })
}

/// An empty result does not replace a full table, unless a check says with `row_count: { min: 0 }` that it may.
async fn refuse_empty(session: &mut dyn Session, step: &SqlStep, materialize: &Materialize, read: u64) -> Result<(), Failure> {
    let may_be_empty = step.checks.iter().any(|check| matches!(check.kind, ExpectationKind::RowCount { min: Some(0), .. }));
    let takes_all = matches!(materialize.publish.mode, Mode::Replace | Mode::Scd2);
    if read > 0 || !takes_all || may_be_empty || session.columns(&materialize.table).await?.is_none() {
        return Ok(());
    }
    let present = current(session, &materialize.table, materialize.publish.mode).await?;
    if present == 0 {
        return Ok(());
    }
    let message = format!("the query returned no rows, and would replace the {present} rows of `{}`", materialize.table);
    let failure = Failure::new(FailureKind::CheckFailed, "sql::empty_replace", message);
    Err(failure.help("if an empty table is right, say so: `checks: [{ row_count: { min: 0 } }]`"))
}
