//! One attempt of one step: the five kinds, and what they share.
//!
//! A step that writes commits its data and its ledger row in one transaction, or nothing.

mod check;
mod command;
mod export;
mod ingest;
mod sql;
mod stage;

use std::sync::Arc;
use std::time::Duration;

use errand_model::failure::{Failure, FailureKind, Place};
use errand_model::job::{Expectation, Step, StepKind, TableName};
use errand_model::report::{CheckReport, FileReport, Rows, StatementReport};
use errand_model::template::Template;
use errand_model::template::scanner::Dialect;
use errand_model::value::Label;
use serde_json::{Map, Value, json};
use tokio_util::sync::CancellationToken;

pub(crate) use check::FAILURES_SCHEMA;
pub(crate) use sql::refuse as refuse_statements;

use crate::clock::Stopwatch;
use crate::progress::StepProgress;
use crate::run::context::{Context, of_connection};
use crate::warehouse::ledger::{self, Done, Load, Writer};
use crate::warehouse::statement::{self, Statement};
use crate::warehouse::{Capabilities, Purpose, Session};

/// Code of a commit of which nobody says whether it took effect.
pub(crate) const COMMIT_UNKNOWN: &str = "step::commit_unknown";

/// How long a run that was cancelled while it committed asks what became of that.
const LAST_QUESTION: Duration = Duration::from_secs(10);

/// What an attempt left behind for the report, also when it failed.
#[derive(Debug, Default)]
pub struct Record {
    /// Row accounting.
    pub rows: Rows,
    /// Statements.
    pub statements: Vec<StatementReport>,
    /// Files.
    pub files: Vec<FileReport>,
    /// Checks.
    pub checks: Vec<CheckReport>,
    /// Warnings.
    pub warnings: Vec<String>,
}

/// What a step did.
#[derive(Debug, Default)]
pub struct Effect {
    /// Bytes read from sources.
    pub bytes_read: u64,
    /// Bytes written to files.
    pub bytes_written: u64,
    /// Values for later steps.
    pub outputs: Map<String, Value>,
    /// Why nothing was written: the ledger knows the load.
    pub already_done: Option<String>,
}

impl Effect {
    /// The effect of a step that moved rows: its counts are its outputs.
    fn of_rows(rows: Rows) -> Self {
        let outputs = json!({ "rows_read": rows.read, "rows_written": rows.written, "rows_rejected": rows.rejected });
        Self { outputs: outputs.as_object().cloned().unwrap_or_default(), ..Self::default() }
    }
}

/// One attempt of one step.
pub struct Attempt {
    /// The run it belongs to.
    pub run: Arc<Context>,
    /// The step.
    pub step: Step,
    /// From 1.
    pub number: u32,
    /// Ends the attempt.
    pub cancelled: CancellationToken,
    /// What a person sees meanwhile.
    pub progress: StepProgress,
    record: Record,
    /// Whether its load is claimed, where a claim is the fence.
    has_claimed: bool,
}

impl Attempt {
    /// An attempt that has not begun.
    #[must_use]
    pub fn new(run: Arc<Context>, step: &Step, number: u32, cancelled: CancellationToken, progress: StepProgress) -> Self {
        Self { run, step: step.clone(), number, cancelled, progress, record: Record::default(), has_claimed: false }
    }

    /// What it left behind.
    #[must_use]
    pub fn into_record(self) -> Record {
        self.record
    }

    fn render(&self, template: &Template) -> Result<String, Failure> {
        template.render(&self.run.values(self.number))
    }

    /// Renders SQL for the warehouse of a session: names and texts as that one reads them.
    fn render_sql(&self, template: &Template, capabilities: &Capabilities) -> Result<String, Failure> {
        template.render(&capabilities.quoting(self.run.values(self.number)))
    }

    fn load(&self, target: &str) -> Load {
        let request = &self.run.request;
        Load {
            job: request.job.name.to_string(),
            step: self.step.id.to_string(),
            interval: request.interval.clone(),
            target: target.to_owned(),
            digest: self.run.digest(self.step.id.as_str()),
            inputs: self.run.inputs_text(),
        }
    }

    /// Ids of the other steps of the job.
    fn other_steps(&self) -> Vec<String> {
        self.run.request.job.steps.iter().filter(|step| step.id != self.step.id).map(|step| step.id.to_string()).collect()
    }

    fn writer(&self) -> Writer {
        let request = &self.run.request;
        Writer {
            run_id: request.run_id.clone(),
            run_attempt: request.attempt,
            attempt: self.number,
            commit: request.checkout.commit.clone(),
            now: request.clock.now().to_string(),
        }
    }

    /// The load of a step that writes a table.
    async fn table_load(&self, connection: &Label, table: &TableName) -> Result<Load, Failure> {
        let warehouse = self.run.warehouse(connection).await?;
        Ok(self.load(&Capabilities::table_key(warehouse.default_schema(), table)))
    }

    fn purpose(&self, load: Option<&Load>) -> Purpose {
        let request = &self.run.request;
        Purpose {
            run_id: request.run_id.clone(),
            job: request.job.name.to_string(),
            step: self.step.id.to_string(),
            attempt: self.number,
            load_id: load.map(Load::id),
            statement_timeout: self.step.timeout,
            cancelled: self.cancelled.clone(),
        }
    }

    async fn session(&self, connection: &Label, load: Option<&Load>) -> Result<Box<dyn Session>, Failure> {
        self.run.warehouse(connection).await?.session(&self.purpose(load)).await.map_err(|failure| of_connection(failure, connection))
    }

    /// Ends a session: after a failure the open transaction is undone; what its statements cost is asked beside the run.
    async fn leave<T>(&mut self, session: &mut dyn Session, result: Result<T, Failure>) -> Result<T, Failure> {
        if result.is_err()
            && let Err(failure) = session.rollback().await
        {
            self.record.warnings.push(format!("the transaction could not be undone at once: {failure}"));
        }
        if let Some(question) = session.usage() {
            self.run.bills.ask(self.step.id.as_str(), self.number, question);
        }
        result
    }

    /// Sends one statement of Errand's own making and records it.
    async fn send(&mut self, session: &mut dyn Session, sql: &str) -> Result<u64, Failure> {
        self.send_at(session, sql, None).await
    }

    /// Makes the schema of a table where it is missing: before the transaction, for of two transactions that make it one fails.
    async fn ensure_schema(&self, session: &mut dyn Session, table: &TableName) -> Result<(), Failure> {
        match &table.schema {
            Some(schema) => ledger::ensure_schema(session, schema).await,
            None => Ok(()),
        }
    }

    /// Makes the schema that rows which break checks are kept in, before the transaction of a step that may keep some.
    async fn ensure_failures_schema(&self, session: &mut dyn Session, checks: &[Expectation]) -> Result<(), Failure> {
        if !checks.iter().any(|check| check.store_failures) {
            return Ok(());
        }
        let table = TableName { schema: Some(check::FAILURES_SCHEMA.to_owned()), name: String::new() };
        self.ensure_schema(session, &table).await
    }

    /// Sends one statement and records it with where it stands; a failure gets the place.
    async fn send_at(&mut self, session: &mut dyn Session, sql: &str, place: Option<Place>) -> Result<u64, Failure> {
        let stopwatch = self.run.request.clock.stopwatch();
        let result = session.execute(sql).await;
        self.record_statement(sql, place.as_ref(), &stopwatch, result.as_ref().ok().copied());
        if let (Some(statement), Some(id)) = (self.record.statements.last_mut(), session.statement_id()) {
            statement.id = id;
        }
        result.map_err(|failure| located(failure, place))
    }

    fn record_statement(&mut self, sql: &str, place: Option<&Place>, stopwatch: &Stopwatch, rows: Option<u64>) {
        let id = format!("{}.{}.{}", self.step.id, self.number, self.record.statements.len() + 1);
        let line = sql.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
        self.record.statements.push(StatementReport {
            id,
            place: place.map(ToString::to_string),
            text: line.chars().take(80).collect(),
            duration_ms: stopwatch.elapsed_ms(),
            rows,
        });
    }

    /// Whether the ledger knows this load; if so, the step's effect.
    fn already(&mut self, done: Option<Done>) -> Option<Effect> {
        let done = done?;
        self.record.rows = done.rows;
        let reason = format!("run `{}` did this at {}", done.run_id, done.recorded_at);
        Some(Effect { already_done: Some(reason), ..Effect::of_rows(done.rows) })
    }

    /// Commits the open transaction. A fenced commit says so; of one whose answer was lost the outcome is found out.
    async fn commit(&mut self, session: &mut dyn Session, connection: &Label, load: &Load) -> Result<(), Failure> {
        let failure = match self.send(session, "COMMIT").await {
            Err(failure) if failure.code == "warehouse::connection_lost" => failure,
            result => return result.map(|_| ()).map_err(ledger::fenced),
        };
        match self.settle(connection, load).await {
            Ok(Some(done)) if done.run_id == self.run.request.run_id => {
                self.record
                    .warnings
                    .push("the connection was lost while committing; the ledger shows that the commit took effect".to_owned());
                Ok(())
            }
            Ok(Some(_)) => Err(ledger::lost_to_another()),
            Ok(None) => {
                let message = format!("the connection was lost while committing, and the transaction was undone: {failure}");
                Err(Failure::new(FailureKind::Transient, "step::commit_undone", message)
                    .help("nothing was written; the next attempt writes it"))
            }
            Err(unknown) => {
                let message =
                    format!("the connection was lost while committing, and the warehouse does not say what became of it: {unknown}");
                Err(Failure::new(FailureKind::Transient, COMMIT_UNKNOWN, message)
                    .help("the next attempt reads the ledger before it writes anything"))
            }
        }
    }
}

impl Attempt {
    /// Asks what became of a commit. A run that was cancelled asks too, for as long as the machine may still be there.
    async fn settle(&self, connection: &Label, load: &Load) -> Result<Option<Done>, Failure> {
        let (warehouse, purpose) = (self.run.warehouse(connection).await?, self.purpose(Some(load)));
        if !self.cancelled.is_cancelled() {
            return ledger::settle(warehouse.as_ref(), &purpose, load).await;
        }
        let purpose = Purpose { cancelled: CancellationToken::new(), ..purpose };
        let asked = tokio::time::timeout(LAST_QUESTION, ledger::settle(warehouse.as_ref(), &purpose, load)).await;
        asked.unwrap_or_else(|_| {
            let message = format!("no answer within {} s", LAST_QUESTION.as_secs());
            Err(Failure::new(FailureKind::Transient, "warehouse::unreachable", message))
        })
    }
}

/// Runs an attempt of a step.
///
/// # Errors
///
/// The failure of the step; everything it wrote is rolled back.
pub async fn run(attempt: &mut Attempt) -> Result<Effect, Failure> {
    let result = match attempt.step.kind.clone() {
        StepKind::Sql(step) => sql::run(attempt, &step).await,
        StepKind::Ingest(step) => ingest::run(attempt, &step).await,
        StepKind::Check(step) => check::run(attempt, &step).await,
        StepKind::Export(step) => export::run(attempt, &step).await,
        StepKind::Command(step) => command::run(attempt, &step).await,
    };
    result.map_err(|failure| if failure.code.starts_with("warehouse::") { located(failure, None) } else { failure })
}

/// The statements of a rendered template, each with where it stands in the repository.
fn statements<'a>(template: &Template, rendered: &'a str, dialect: Dialect) -> Vec<(Statement<'a>, Place)> {
    let place = |statement: &Statement<'_>| Place {
        file: template.file().to_owned(),
        line: (template.line() + statement.line - 1) as u64,
        column: 0,
    };
    statement::split(rendered, dialect)
        .into_iter()
        .map(|statement| {
            let place = place(&statement);
            (statement, place)
        })
        .collect()
}

/// The one SELECT of a rendered template, without a semicolon.
fn single_query<'a>(template: &Template, rendered: &'a str, dialect: Dialect) -> Result<(&'a str, Place), Failure> {
    match statements(template, rendered, dialect).as_slice() {
        [(statement, place)] => Ok((statement.text, place.clone())),
        [] => Err(Failure::new(FailureKind::Definition, "step::no_query", format!("`{}` holds no statement", template.file()))),
        [_, (_, second), ..] => {
            let failure =
                Failure::new(FailureKind::Definition, "step::many_queries", "one SELECT is expected here, and a second statement follows");
            Err(failure.at(second.clone()).help("put the other statements into a step of their own"))
        }
    }
}

/// Adds the place of the statement; the line within it comes from the warehouse's `LINE n:`.
fn located(failure: Failure, place: Option<Place>) -> Failure {
    if failure.place.is_some() || failure.kind == FailureKind::Cancelled {
        return failure;
    }
    let said = one_line(&failure.message);
    let Some(mut place) = place else { return Failure { message: said, ..failure } };
    let mut lines = failure.message.lines().skip_while(|line| !line.starts_with("LINE "));
    if let (Some(line), caret) = (lines.next(), lines.next()) {
        let (number, text) = line["LINE ".len()..].split_once(": ").unwrap_or(("1", ""));
        place.line = place.line.saturating_add(number.parse::<u64>().unwrap_or(1).saturating_sub(1));
        let shift = line.len() - text.len();
        let caret = caret.and_then(|caret| caret.find('^')).filter(|_| !text.starts_with("..."));
        place.column = caret.and_then(|at| at.checked_sub(shift)).map_or(0, |at| at as u64 + 1);
    }
    Failure { message: said, ..failure }.at(place)
}

/// What a warehouse says, in one line, without the text of the statement that it quotes.
fn one_line(message: &str) -> String {
    let mut said = String::new();
    for line in message.split("\n\nLINE ").next().unwrap_or(message).lines() {
        let line = line.trim().replace('\t', " ");
        if !said.is_empty() && !line.is_empty() {
            said.push_str(if said.ends_with(['.', '!', '?', ':', ';', ',']) { " " } else { "; " });
        }
        said.push_str(&line);
    }
    // DuckDB writes the names of tables before the second colon, or nothing.
    said.replace("bindings: : ", "bindings: ")
}

#[cfg(test)]
mod tests {
    use errand_model::failure::{Failure, FailureKind, Place};

    use super::located;

    #[test]
    fn a_warehouse_error_gets_the_line_and_column_in_the_file() {
        let message =
            "Binder Error: Referenced column \"zzz\" not found in FROM clause!\nCandidate bindings: \"a\"\n\nLINE 2:   zzz\n          ^^^";
        let place = Place { file: "jobs/a/b.sql".to_owned(), line: 10, column: 0 };
        let failure = located(Failure::new(FailureKind::Permanent, "warehouse::binding", message), Some(place));
        assert_eq!(
            failure.to_string(),
            "jobs/a/b.sql:11:3: Binder Error: Referenced column \"zzz\" not found in FROM clause! Candidate bindings: \"a\""
        );
    }

    #[test]
    fn what_a_warehouse_says_in_many_lines_is_one() {
        let told = |message: &str| located(Failure::new(FailureKind::Permanent, "warehouse::binding", message), None).message;
        assert_eq!(
            told(
                "Binder Error: Table \"a\" does not have a column named \"vv\"\n\nCandidate bindings: : \"v\"\n\nLINE 2:  a.vv\n         ^"
            ),
            "Binder Error: Table \"a\" does not have a column named \"vv\"; Candidate bindings: \"v\""
        );
        assert_eq!(
            told(
                "Binder Error: No function matches 'sum(VARCHAR)'.\n\tCandidate functions:\n\tsum(DECIMAL) -> DECIMAL\n\tsum(DOUBLE) -> DOUBLE\n"
            ),
            "Binder Error: No function matches 'sum(VARCHAR)'. Candidate functions: sum(DECIMAL) -> DECIMAL; sum(DOUBLE) -> DOUBLE"
        );
    }
}
