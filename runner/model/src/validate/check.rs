//! Expectations: one kind each, with columns that exist and a name of their own.

use super::ingest::{distinct, known_column};
use super::{Cx, step};
use crate::decode::Spanned;
use crate::document::step::{CheckSeverity, ExpectationDocument, RowCountDocument};
use crate::failure::Place;
use crate::job::{Expectation, ExpectationKind};
use crate::problem::line_and_column;
use crate::template::Syntax;

/// Checks a list of expectations. `columns`: the only ones the rows will have.
pub(super) fn list(
    documents: Option<&Spanned<Vec<Spanned<ExpectationDocument>>>>,
    columns: Option<&[&str]>,
    cx: &mut Cx<'_>,
) -> Vec<Expectation> {
    let mut out: Vec<Expectation> = Vec::new();
    for document in documents.iter().flat_map(|documents| &documents.value) {
        let Some(mut expectation) = expectation(document, columns, cx) else { continue };
        if out.iter().any(|other| other.name == expectation.name) {
            if let Some(name) = &document.name {
                cx.error(
                    "definition::duplicate_check",
                    format!("there is already a check `{}`", name.value),
                    "give it another name",
                    &name.span,
                );
            } else {
                let number = (2..).find(|number| out.iter().all(|other| other.name != format!("{} #{number}", expectation.name)));
                expectation.name = format!("{} #{}", expectation.name, number.unwrap_or(2));
            }
        }
        out.push(expectation);
    }
    out
}

fn expectation(document: &Spanned<ExpectationDocument>, columns: Option<&[&str]>, cx: &mut Cx<'_>) -> Option<Expectation> {
    let kind = kind(document, columns, cx)?;
    let has_rows = !matches!(kind, ExpectationKind::RowCount { .. } | ExpectationKind::Freshness { .. });
    if let Some(store) = document.store_failures.as_ref().filter(|store| store.value && !has_rows) {
        cx.error("definition::conflict", "this check finds no rows to keep", "remove `store_failures`", &store.span);
    }
    let place = if let ExpectationKind::Sql(sql) = &kind
        && sql.file() != cx.file
    {
        Place { file: sql.file().to_owned(), line: sql.line() as u64, column: 0 }
    } else {
        let (line, column) = line_and_column(cx.text, document.span.start);
        Place { file: cx.file.clone(), line: line as u64, column: column as u64 }
    };
    Some(Expectation {
        name: document.name.as_ref().map_or_else(|| name(&kind), |name| name.value.clone()),
        severity: document.severity.as_ref().map_or(CheckSeverity::Error, |severity| severity.value),
        store_failures: document.store_failures.as_ref().is_some_and(|store| store.value),
        place,
        kind,
    })
}

fn kind(document: &ExpectationDocument, columns: Option<&[&str]>, cx: &mut Cx<'_>) -> Option<ExpectationKind> {
    if let Some(names) = &document.not_null {
        return self::columns(names, columns, cx).map(ExpectationKind::NotNull);
    }
    if let Some(names) = &document.unique {
        return self::columns(names, columns, cx).map(ExpectationKind::Unique);
    }
    if let Some(accepted) = &document.accepted_values {
        let values = accepted.values.as_ref()?;
        if cx.is_empty(values) {
            cx.error("definition::empty_value", "no value is accepted", "list the values", &values.span);
        }
        let column = column(accepted.column.as_ref()?, columns, cx);
        return Some(ExpectationKind::AcceptedValues { column, values: values.iter().map(|value| value.0.clone()).collect() });
    }
    if let Some(relationships) = &document.relationships {
        let column = column(relationships.column.as_ref()?, columns, cx);
        let to = step::read_table(relationships.to.as_ref()?, cx)?;
        let field = self::column(relationships.field.as_ref()?, None, cx);
        return Some(ExpectationKind::Relationships { column, to, field });
    }
    if let Some(row_count) = &document.row_count {
        return self::row_count(row_count, cx);
    }
    if let Some(freshness) = &document.freshness {
        let column = column(freshness.column.as_ref()?, columns, cx);
        return Some(ExpectationKind::Freshness { column, max_age: freshness.max_age.as_ref()?.0 });
    }
    if let Some(expression) = &document.expression {
        if expression.trim().is_empty() {
            cx.error("definition::empty_value", "there is no condition here", "write one, such as `amount >= 0`", &expression.span);
            return None;
        }
        return cx.template(expression, Syntax::Sql).map(ExpectationKind::Expression);
    }
    let query = document.sql.as_ref()?;
    step::source(query.file.as_ref(), query.text.as_ref(), cx).map(ExpectationKind::Sql)
}

fn column(written: &Spanned<String>, columns: Option<&[&str]>, cx: &mut Cx<'_>) -> String {
    known_column(written, columns, cx);
    written.value.clone()
}

fn columns(names: &Spanned<Vec<Spanned<String>>>, columns: Option<&[&str]>, cx: &mut Cx<'_>) -> Option<Vec<String>> {
    if cx.is_empty(names) {
        cx.error("definition::empty_value", "there is no column here", "name at least one column", &names.span);
        return None;
    }
    distinct(&names.value, cx);
    Some(names.iter().map(|name| column(name, columns, cx)).collect())
}

fn row_count(document: &Spanned<RowCountDocument>, cx: &mut Cx<'_>) -> Option<ExpectationKind> {
    let value = |bound: Option<&Spanned<u64>>| bound.map(|bound| bound.value);
    let (min, max) = (value(document.min.as_ref()), value(document.max.as_ref()));
    let change = document.change.as_ref().map(|change| change.value.0);
    if min.is_none() && max.is_none() && change.is_none() {
        cx.error("definition::empty_value", "`row_count` has no bound", "add `min`, `max` or `change`", &document.span);
        return None;
    }
    if let Some(bound) = document.max.as_ref().filter(|max| min.is_some_and(|min| min > max.value)) {
        cx.error("definition::conflict", "`max` is less than `min`", "no number of rows can hold this", &bound.span);
    }
    Some(ExpectationKind::RowCount { min, max, change })
}

/// What a check is called that has no name.
fn name(kind: &ExpectationKind) -> String {
    match kind {
        ExpectationKind::NotNull(columns) => format!("not_null({})", columns.join(", ")),
        ExpectationKind::Unique(columns) => format!("unique({})", columns.join(", ")),
        ExpectationKind::AcceptedValues { column, .. } => format!("accepted_values({column})"),
        ExpectationKind::Relationships { column, to, field } => format!("relationships({column} to {to}.{field})"),
        ExpectationKind::RowCount { .. } => "row_count".to_owned(),
        ExpectationKind::Freshness { column, .. } => format!("freshness({column})"),
        ExpectationKind::Expression(template) => format!("expression({})", shortened(template.source())),
        ExpectationKind::Sql(template) => match template.file().rsplit('/').next() {
            Some(file) if file != "job.yaml" => format!("sql({file})"),
            _ => "sql".to_owned(),
        },
    }
}

fn shortened(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= 60 { line } else { line.chars().take(57).chain("...".chars()).collect() }
}
