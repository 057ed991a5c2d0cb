//! Problems for machines.

use std::collections::BTreeMap;
use std::io::{self, Write};

use errand_model::problem::{Problem, Severity, line_and_column};
use serde_json::{Value, json};

use crate::repository::Validation;

/// Where a problem is: lines and columns from 1, columns in characters, the end exclusive.
struct Place {
    line: usize,
    column: usize,
    end_line: usize,
    end_column: usize,
}

fn place(problem: &Problem, validation: &Validation) -> Option<Place> {
    let text = validation.texts.get(&problem.file)?;
    let span = problem.span.as_ref()?;
    let (line, column) = line_and_column(text, span.start);
    let (end_line, end_column) = line_and_column(text, span.end);
    Some(Place { line, column, end_line, end_column })
}

/// A JSON array, one object a problem, in the order of files and places. Keys are only ever added:
///
/// `code` (stable word), `severity` (`error`, `warning`), `message`, `help` (text or null), `file` (relative to the repository,
/// or null), `line`, `column`, `end_line`, `end_column` (from 1, columns in characters, the end exclusive; null when the file
/// itself is the problem).
pub(super) fn json(validation: &Validation, out: &mut dyn Write) -> io::Result<()> {
    let problems: Vec<Value> = validation
        .problems
        .iter()
        .map(|problem| {
            let place = place(problem, validation);
            json!({
                "code": problem.code,
                "severity": problem.severity,
                "message": problem.message,
                "help": problem.help,
                "file": (!problem.file.is_empty()).then_some(&problem.file),
                "line": place.as_ref().map(|place| place.line),
                "column": place.as_ref().map(|place| place.column),
                "end_line": place.as_ref().map(|place| place.end_line),
                "end_column": place.as_ref().map(|place| place.end_column),
            })
        })
        .collect();
    writeln!(out, "{:#}", Value::Array(problems))
}

/// Workflow commands, one line a problem.
/// <https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-commands>
pub(super) fn github(validation: &Validation, out: &mut dyn Write) -> io::Result<()> {
    for problem in &validation.problems {
        let word = match problem.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        let mut properties = vec![("title", problem.code.to_owned())];
        if !problem.file.is_empty() {
            properties.push(("file", problem.file.clone()));
        }
        if let Some(place) = place(problem, validation) {
            properties.push(("line", place.line.to_string()));
            properties.push(("endLine", place.end_line.to_string()));
            properties.push(("col", place.column.to_string()));
            // GitHub takes columns only within one line.
            if place.line == place.end_line {
                properties.push(("endColumn", place.end_column.to_string()));
            }
        }
        let properties: Vec<String> = properties.iter().map(|(key, value)| format!("{key}={}", property(value))).collect();
        let message = match &problem.help {
            Some(help) => format!("{}\nhelp: {help}", problem.message),
            None => problem.message.clone(),
        };
        writeln!(out, "::{word} {}::{}", properties.join(","), data(&message))?;
    }
    Ok(())
}

fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

/// One SARIF 2.1.0 log with a rule for each code that occurs.
pub(super) fn sarif(validation: &Validation, out: &mut dyn Write) -> io::Result<()> {
    let codes: BTreeMap<&str, usize> = {
        let distinct: std::collections::BTreeSet<&str> = validation.problems.iter().map(|problem| problem.code).collect();
        distinct.into_iter().enumerate().map(|(index, code)| (code, index)).collect()
    };
    let rules: Vec<Value> = codes.keys().map(|code| json!({ "id": code, "shortDescription": { "text": described(code) } })).collect();
    let results: Vec<Value> = validation.problems.iter().map(|problem| result(problem, validation, &codes)).collect();
    let log = json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": { "name": "errand", "version": env!("CARGO_PKG_VERSION"), "rules": rules } },
            "columnKind": "unicodeCodePoints",
            "originalUriBaseIds": { "REPOSITORY": { "description": { "text": "the job repository" } } },
            "results": results,
        }],
    });
    writeln!(out, "{log:#}")
}

fn result(problem: &Problem, validation: &Validation, codes: &BTreeMap<&str, usize>) -> Value {
    let text = match &problem.help {
        Some(help) => format!("{}; {help}", problem.message),
        None => problem.message.clone(),
    };
    let mut physical = json!({ "artifactLocation": { "uri": uri(&problem.file), "uriBaseId": "REPOSITORY" } });
    if let Some(place) = place(problem, validation) {
        physical["region"] = json!({
            "startLine": place.line, "startColumn": place.column, "endLine": place.end_line, "endColumn": place.end_column,
        });
    }
    json!({
        "ruleId": problem.code,
        "ruleIndex": codes.get(problem.code),
        "level": problem.severity,
        "message": { "text": text },
        "locations": [{ "physicalLocation": physical }],
    })
}

/// `definition::unknown_key` as words.
fn described(code: &str) -> String {
    code.replace("::", ": ").replace('_', " ")
}

/// A path as a relative URI.
fn uri(path: &str) -> String {
    const KEPT: &percent_encoding::AsciiSet =
        &percent_encoding::NON_ALPHANUMERIC.remove(b'/').remove(b'.').remove(b'-').remove(b'_').remove(b'~');
    percent_encoding::utf8_percent_encode(path, KEPT).to_string()
}
