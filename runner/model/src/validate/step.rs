//! One step: what all kinds share, `sql`, and `export`.

use std::time::Duration;

use super::ingest::{self, Keys};
use super::job::child;
use super::project::retry_over;
use super::{Capability, Cx, check, command, digest};
use crate::decode::Spanned;
use crate::document::step::{CheckDocument, ExportDocument, MaterializeDocument, Mode, OnFailure, SqlDocument, StepDocument};
use crate::job::{CheckStep, Connection, ExportStep, Materialize, Project, Retry, SqlStep, Step, StepKind, Subject, TableName};
use crate::template::Syntax;
use crate::template::scanner::Dialect;
use crate::value::Name;
use crate::yaml::Node;

/// What a step takes from its job.
pub(super) struct JobContext<'n> {
    pub(super) has_schedule: bool,
    pub(super) timeout: Duration,
    pub(super) retry: Retry,
    pub(super) vars: Option<&'n Node>,
}

pub(super) fn step(
    step: &Spanned<StepDocument>,
    node: Option<&Node>,
    needs: Vec<Name>,
    job: &JobContext<'_>,
    cx: &mut Cx<'_>,
) -> Option<Step> {
    cx.read.clear();
    let condition = step.r#if.as_ref().and_then(|condition| cx.expression(condition));
    let retry = retry_over(&job.retry, step.retry.as_ref(), &cx.file, cx.problems);
    if let Some(timeout) = step.timeout.as_ref().filter(|timeout| timeout.0 > job.timeout) {
        let message = format!("the step may take {}s, the whole run {}s", timeout.0.as_secs(), job.timeout.as_secs());
        cx.warning("definition::timeout", message, "raise the `timeout` of the job, or lower this one", &timeout.span);
    }
    let kind = kind(step, job, cx)?;
    let body = node.and_then(|node| child(node, kind.word()))?;
    Some(Step {
        id: step.id.as_ref()?.value.clone(),
        name: step.name.as_ref().map(|name| name.value.clone()),
        needs,
        condition,
        timeout: step.timeout.as_ref().map(|timeout| timeout.0),
        retry,
        on_failure: step.on_failure.as_ref().map_or(OnFailure::Fail, |on_failure| on_failure.value),
        digest: digest::digest(kind.word(), body, job.vars, &cx.read),
        kind,
    })
}

/// How the SQL of a step is read by the warehouse that it has in each environment.
pub(super) fn dialects(step: &StepDocument, project: Option<&Project>) -> Vec<Dialect> {
    let written = [
        step.sql.as_ref().and_then(|sql| sql.connection.as_ref()),
        step.ingest.as_ref().and_then(|ingest| ingest.target.as_ref()?.connection.as_ref()),
        step.check.as_ref().and_then(|check| check.connection.as_ref()),
        step.export.as_ref().and_then(|export| export.connection.as_ref()),
    ];
    let label = written.into_iter().flatten().next().map_or("warehouse", |label| label.as_str());
    let mut dialects = Vec::new();
    for environment in project.iter().flat_map(|project| project.environments.values()) {
        let dialect = match environment.connections.get(label) {
            Some(Connection::Duckdb { .. } | Connection::Postgres(_)) => Dialect::Standard,
            Some(Connection::Redshift(_)) => Dialect::Redshift,
            Some(Connection::Snowflake(_)) => Dialect::Snowflake,
            Some(Connection::Directory { .. } | Connection::S3(_)) | None => continue,
        };
        if !dialects.contains(&dialect) {
            dialects.push(dialect);
        }
    }
    dialects
}

/// Reads every kind that is written: two of them are one problem, already told, and each may have more.
fn kind(step: &StepDocument, job: &JobContext<'_>, cx: &mut Cx<'_>) -> Option<StepKind> {
    let mut kinds = [
        step.sql.as_ref().and_then(|document| sql(document, cx)).map(StepKind::Sql),
        step.ingest.as_ref().and_then(|document| ingest::ingest(document, job.has_schedule, cx)).map(StepKind::Ingest),
        step.check.as_ref().and_then(|document| expectations(document, cx)).map(StepKind::Check),
        step.export.as_ref().and_then(|document| export(document, cx)).map(StepKind::Export),
        step.command.as_ref().and_then(|document| command::command(document, cx)).map(StepKind::Command),
    ];
    kinds.iter_mut().find_map(Option::take)
}

fn sql(document: &Spanned<SqlDocument>, cx: &mut Cx<'_>) -> Option<SqlStep> {
    let connection = cx.connection(document.connection.as_ref(), &document.span, Capability::Warehouse);
    let materialize = document.materialize.as_ref().map(|materialize| self::materialize(materialize, cx));
    if let (Some(materialize), Some(transaction)) = (&document.materialize, &document.transaction)
        && !transaction.value
    {
        let _ = materialize;
        let help = "remove `transaction`: a table is always published in one";
        cx.error("definition::conflict", "`materialize` cannot go without a transaction", help, &transaction.span);
    }
    if document.materialize.is_none()
        && let Some(checks) = &document.checks
    {
        let help = "add `materialize`, or write a `check` step";
        let span = cx.head(&checks.span);
        cx.error("definition::conflict", "`checks` look at the rows of a `materialize`, and there is none", help, &span);
    }
    let checks = check::list(document.checks.as_ref(), None, cx);
    let sql = source(document.file.as_ref(), document.text.as_ref(), cx);
    let materialize = match materialize {
        Some(found) => Some(found?),
        None => None,
    };
    let transaction = document.transaction.as_ref().is_none_or(|transaction| transaction.value);
    Some(SqlStep { connection: connection?, sql: sql?, transaction, materialize, checks })
}

/// SQL from a file or as it stands.
pub(super) fn source(file: Option<&Spanned<String>>, text: Option<&Spanned<String>>, cx: &mut Cx<'_>) -> Option<crate::template::Template> {
    match (file, text) {
        (Some(file), _) => cx.sql_file(file),
        (None, Some(text)) => cx.sql_text(text),
        (None, None) => None,
    }
}

fn materialize(document: &Spanned<MaterializeDocument>, cx: &mut Cx<'_>) -> Option<Materialize> {
    let table = document.table.as_ref().and_then(|table| self::table(table, cx));
    let keys = Keys {
        mode: document.mode.as_ref(),
        default: Mode::Replace,
        primary_key: document.primary_key.as_ref(),
        partition: document.partition.as_ref(),
        cursor: None,
    };
    let publish = ingest::publish(&keys, &document.span, None, cx);
    Some(Materialize { table: table?, publish: publish? })
}

/// A table that steps may write or read by name.
pub(super) fn table(written: &Spanned<String>, cx: &mut Cx<'_>) -> Option<TableName> {
    let table = cx.parse(written, TableName::parse)?;
    let is_reserved = |name: &str| name.to_lowercase().starts_with("_errand") || name.to_lowercase().ends_with("__rejected");
    if is_reserved(&table.name) || table.schema.as_deref().is_some_and(is_reserved) {
        let help = "names that start with `_errand` or end with `__rejected` are Errand's own";
        cx.error("definition::reserved_name", format!("`{table}` is reserved"), help, &written.span);
        return None;
    }
    Some(table)
}

/// A table that is only read: Errand's own may be read too.
pub(super) fn read_table(written: &Spanned<String>, cx: &mut Cx<'_>) -> Option<TableName> {
    cx.parse(written, TableName::parse)
}

fn expectations(document: &Spanned<CheckDocument>, cx: &mut Cx<'_>) -> Option<CheckStep> {
    let connection = cx.connection(document.connection.as_ref(), &document.span, Capability::Warehouse);
    let subject = match (&document.table, &document.query) {
        (Some(table), _) => read_table(table, cx).map(Subject::Table),
        (None, Some(query)) => cx.sql_text(query).map(Subject::Query),
        (None, None) => None,
    };
    if let Some(expect) = document.expect.as_ref().filter(|expect| cx.is_empty(expect)) {
        cx.error("definition::empty_value", "the check expects nothing", "add an expectation", &expect.span);
    }
    let expect = check::list(document.expect.as_ref(), None, cx);
    Some(CheckStep { connection: connection?, subject: subject?, expect })
}

fn export(document: &Spanned<ExportDocument>, cx: &mut Cx<'_>) -> Option<ExportStep> {
    let connection = cx.connection(document.connection.as_ref(), &document.span, Capability::Warehouse);
    let subject = match (&document.table, &document.query, &document.file) {
        (Some(table), _, _) => read_table(table, cx).map(Subject::Table),
        (None, Some(query), _) => cx.sql_text(query).map(Subject::Query),
        (None, None, Some(file)) => cx.sql_file(file).map(Subject::Query),
        (None, None, None) => None,
    };
    let to = document.to.as_ref()?;
    let target = to.connection.as_ref().and_then(|label| cx.connection(Some(label), &to.span, Capability::Files));
    let path = match &to.path {
        Some(path) if path.contains(['*', '?', '[']) && !path.contains("{{") => {
            cx.error("definition::bad_path", format!("`{}` is a pattern", path.value), "name one file", &path.span);
            None
        }
        Some(path) if path.ends_with('/') => {
            cx.error("definition::bad_path", format!("`{}` is a folder", path.value), "name the file in it", &path.span);
            None
        }
        Some(path) => cx.path_template(path),
        None => {
            let span = cx.head(&to.span);
            cx.error("definition::missing_key", "`to` lacks `path`", "add `path:`", &span);
            None
        }
    };
    let format = document.format.as_ref()?.value;
    Some(ExportStep { connection: connection?, subject: subject?, format, to: target?, path: path? })
}

/// Text that may hold templates, pasted as it is.
pub(super) fn text(written: &Spanned<String>, cx: &mut Cx<'_>) -> Option<crate::template::Template> {
    cx.template(written, Syntax::Text)
}
