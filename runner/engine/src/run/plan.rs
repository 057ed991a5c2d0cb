//! What a run would do, without doing it.

use errand_model::failure::Failure;
use errand_model::job::{ExpectationKind, Files, Step, StepKind, Subject};
use errand_model::template::{Template, Values};
use errand_model::value::Label;
use serde::Serialize;
use serde_json::Map;

use super::graph::{Graph, Progress, selected};
use super::{Request, context};
use crate::report::figure;
use crate::source;
use crate::step;
use crate::store::{self, Store};
use crate::warehouse::{self, Capabilities};

/// The steps of a run in the order in which they can start.
#[derive(Clone, Debug, Serialize)]
pub struct Plan {
    /// Name of the job.
    pub job: String,
    /// Start of the interval, inclusive.
    pub interval_start: jiff::Timestamp,
    /// End of the interval, exclusive.
    pub interval_end: jiff::Timestamp,
    /// The steps.
    pub steps: Vec<PlannedStep>,
}

/// One step of a plan.
#[derive(Clone, Debug, Serialize)]
pub struct PlannedStep {
    /// Its id.
    pub id: String,
    /// Its kind.
    pub kind: String,
    /// What it needs.
    pub needs: Vec<String>,
    /// Its condition, as written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub condition: Option<String>,
    /// One line: what it does to what.
    pub summary: String,
    /// SQL as it would be sent; outputs of steps that have not run stand as their names.
    pub sql: Vec<String>,
    /// Columns of an ingest, declared or inferred: name, type, origin.
    pub columns: Vec<(String, String, String)>,
    /// What wants reading: no files yet, types that were inferred.
    pub notes: Vec<String>,
}

/// Plans a run. Files are listed and sampled; no warehouse is opened and nothing is written.
///
/// # Errors
///
/// `Definition` for an unknown `--step` or a template that does not render.
pub async fn plan(request: &Request) -> Result<Plan, Failure> {
    let chosen = selected(&request.job, &request.only)?;
    let mut steps = Vec::new();
    let mut graph = Graph::new(&request.job, &chosen);
    while let Some(at) = graph.next_ready() {
        graph.set(at, Progress::Passed);
        steps.push(planned(request, graph.step(at))?);
    }
    Ok(Plan { job: request.job.name.to_string(), interval_start: request.interval.start, interval_end: request.interval.end, steps })
}

fn planned(request: &Request, step: &Step) -> Result<PlannedStep, Failure> {
    let values = context::values(request, 1, &Map::new());
    let mut out = PlannedStep {
        id: step.id.to_string(),
        kind: step.kind.word().to_owned(),
        needs: step.needs.iter().map(ToString::to_string).collect(),
        condition: step.condition.as_ref().map(|condition| condition.source().to_owned()),
        summary: String::new(),
        sql: Vec::new(),
        columns: Vec::new(),
        notes: Vec::new(),
    };
    match &step.kind {
        StepKind::Sql(sql) => {
            out.summary = match &sql.materialize {
                Some(materialize) => format!("{} `{}` from {}", materialize.publish.mode, materialize.table, sql.sql.file()),
                None => format!("statements of {}", sql.sql.file()),
            };
            let text = rendered(&sql.sql, &for_sql(request, &sql.connection, &values))?;
            if let Some(capabilities) = capabilities(request, &sql.connection) {
                step::refuse_statements(sql, &text, capabilities)?;
            }
            out.sql.push(text);
        }
        StepKind::Ingest(ingest) => {
            let pattern = rendered(&ingest.files.path, &values)?;
            out.summary =
                format!("{} `{}` from {}:{pattern} ({})", ingest.publish.mode, ingest.table, ingest.files.connection, ingest.files.format);
            plan_files(request, &ingest.files, &pattern, step, &mut out)?;
        }
        StepKind::Check(check) => {
            out.summary = format!("{} on {}", figure::plural(check.expect.len(), "check"), subject(&check.subject));
            for expectation in &check.expect {
                if let ExpectationKind::Sql(sql) | ExpectationKind::Expression(sql) = &expectation.kind {
                    out.sql.push(rendered(sql, &for_sql(request, &check.connection, &values))?);
                }
            }
        }
        StepKind::Export(export) => {
            out.summary = format!("{} to {}:{} ({})", subject(&export.subject), export.to, rendered(&export.path, &values)?, export.format);
            if let Subject::Query(query) = &export.subject {
                out.sql.push(rendered(query, &for_sql(request, &export.connection, &values))?);
            }
        }
        StepKind::Command(command) => {
            let words: Result<Vec<String>, Failure> = command.run.iter().map(|word| rendered(word, &values)).collect();
            out.summary = words?.join(" ");
        }
    }
    Ok(out)
}

/// Values as the warehouse of a connection reads names and texts.
fn for_sql(request: &Request, connection: &Label, values: &Values) -> Values {
    capabilities(request, connection).map_or_else(|| values.clone(), |capabilities| capabilities.quoting(values.clone()))
}

/// What the warehouse of a connection can do, in the environment of the run.
fn capabilities(request: &Request, connection: &Label) -> Option<&'static Capabilities> {
    let environment = request.project.environments.get(&request.environment)?;
    environment.connections.get(connection.as_str()).and_then(warehouse::capabilities)
}

fn plan_files(request: &Request, files: &Files, pattern: &str, step: &Step, out: &mut PlannedStep) -> Result<(), Failure> {
    let StepKind::Ingest(ingest) = &step.kind else { return Ok(()) };
    let environment = request.project.environments.get(&request.environment);
    let Some(connection) = environment.and_then(|environment| environment.connections.get(files.connection.as_str())) else {
        out.notes.push(format!("connection `{}` is not in environment `{}`", files.connection, request.environment));
        return Ok(());
    };
    let found = Store::open(connection, &request.state_dir).and_then(|store| {
        let (store, pattern) = (store.cancelled_by(request.cancelled.clone()), pattern.to_owned());
        store::wait(async move { store.list(&pattern).await })
    });
    let found = match found {
        Ok(found) => found,
        Err(failure) => {
            out.notes.push(failure.to_string());
            return Ok(());
        }
    };
    let bytes: u64 = found.iter().map(|file| file.bytes).sum();
    out.notes.push(format!("{}, {}", figure::plural(found.len(), "file"), figure::size(bytes)));
    if files.format == errand_model::document::step::Format::Parquet || found.is_empty() {
        return Ok(());
    }
    match source::resolve(&found, files, &ingest.columns, None, ingest.schema_contract) {
        Ok(resolved) => {
            out.notes.extend(resolved.warnings);
            out.columns = resolved
                .columns
                .iter()
                .map(|column| (column.name.clone(), column.kind.to_string(), format!("{:?}", column.origin).to_lowercase()))
                .collect();
        }
        Err(failure) => out.notes.push(failure.to_string()),
    }
    Ok(())
}

/// Outputs exist only once their step has run: a template that reads one is shown as it was written.
fn rendered(template: &Template, values: &Values) -> Result<String, Failure> {
    if template.step_outputs().next().is_some() { Ok(template.source().to_owned()) } else { template.render(values) }
}

fn subject(subject: &Subject) -> String {
    match subject {
        Subject::Table(table) => format!("`{table}`"),
        Subject::Query(query) => format!("a query in {}", query.file()),
    }
}
