//! `through: pipe`: a pipe appends files by itself, so nothing may stand between the files and the table.

use super::{Cx, words};
use crate::decode::Spanned;
use crate::document::step::{Format, IngestDocument, Mode, SchemaContract};
use crate::job::Connection;
use crate::value::Limit;
use crate::yaml::Span;

/// Reports the keys that a pipe cannot keep to.
pub(super) fn check(document: &Spanned<IngestDocument>, cx: &mut Cx<'_>) {
    let remove = "remove it, or write `through: copy`";
    let mut conflict = |what: &str, help: &str, span: &Span| {
        cx.error("definition::conflict", format!("with `through: pipe`, {what}"), help, span);
    };
    if let Some(mode) = document.mode.as_ref().filter(|mode| mode.value != Mode::Append) {
        conflict(
            &format!("rows are added as they come; mode `{}` cannot be kept", mode.value),
            "write `mode: append`, or `through: copy`",
            &mode.span,
        );
    }
    let source = document.source.as_ref().and_then(|source| source.files.as_ref());
    if let Some(format) = source.and_then(|files| files.format.as_ref()).filter(|format| format.value == Format::Json) {
        conflict("files are `csv`, `jsonl` or `parquet`", "change `format`, or write `through: copy`", &format.span);
    }
    if let Some(key) = &document.primary_key {
        conflict("rows are not told apart by a `primary_key`", remove, &key.span);
    }
    if let Some(cursor) = &document.cursor {
        conflict("rows are not ordered by a `cursor`", remove, &cursor.span);
    }
    if let Some(checks) = &document.checks {
        let span = checks.span.clone();
        conflict("rows are in the table before `checks` could see them", "write a `check` step after this one, or `through: copy`", &span);
    }
    if let Some(limit) = document.max_rejected.as_ref().filter(|limit| limit.value != Limit::Count(0)) {
        conflict("a file is loaded whole or not at all, so `max_rejected` is 0", remove, &limit.span);
    }
    if let Some(contract) = document.schema_contract.as_ref().filter(|contract| contract.value != SchemaContract::Freeze) {
        conflict("the pipe knows its columns beforehand, so `schema_contract` is `freeze`", remove, &contract.span);
    }
    target(document, cx);
}

/// Some environment must have a pipe: where there is none, rows are loaded as `copy` does.
fn target(document: &Spanned<IngestDocument>, cx: &mut Cx<'_>) {
    let (Some(project), Some(through)) = (cx.project, &document.through) else { return };
    let label = document.target.as_ref().and_then(|target| target.connection.as_ref()).map_or("warehouse", |label| label.as_str());
    let mut kinds: Vec<&str> = Vec::new();
    for environment in project.environments.values() {
        match environment.connections.get(label) {
            Some(Connection::Snowflake(_)) => return,
            Some(other) if !kinds.contains(&other.word()) => kinds.push(other.word()),
            Some(_) | None => {}
        }
    }
    if !kinds.is_empty() {
        let message = format!("only `snowflake` has pipes; connection `{label}` is {}", words(&kinds));
        cx.error("definition::conflict", message, "write `through: copy`, or leave it out", &through.span);
    }
}
