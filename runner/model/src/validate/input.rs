//! Typed inputs: as declared, and as given to a run.

use std::collections::BTreeMap;

use serde_json::{Number, Value};

use super::{Cx, words};
use crate::decode::{Entries, Scalar, Spanned};
use crate::document::job::{InputDocument, InputType};
use crate::failure::{Failure, FailureKind};
use crate::job::{Input, Job};
use crate::problem::nearest;

/// Longest text that an input may hold, in bytes.
const MAX_TEXT: usize = 64 * 1024;

/// The values of a job's inputs: given ones checked and typed, defaults for the others.
///
/// # Errors
///
/// Of kind `Definition`: an unknown input, one given twice, a value of the wrong type or not accepted, a missing one.
pub fn inputs(job: &Job, given: &[(String, String)]) -> Result<BTreeMap<String, Value>, Failure> {
    let mut values = BTreeMap::new();
    for (name, text) in given {
        let input = job.inputs.iter().find(|input| input.name == *name).ok_or_else(|| unknown(job, name))?;
        let value = typed(input.kind, text)
            .map_err(|expected| refused("input::wrong_type", format!("input `{name}` is `{text}`, not {expected}")))?;
        accepted(&input.accepted, &value).map_err(|known| {
            refused("input::not_accepted", format!("input `{name}` is `{text}`, which it does not accept"))
                .help(format!("accepted: {known}"))
        })?;
        if values.insert(name.clone(), value).is_some() {
            return Err(refused("input::given_twice", format!("input `{name}` is given twice")).help("give it once"));
        }
    }
    for input in job.inputs.iter().filter(|input| !values.contains_key(&input.name)).collect::<Vec<_>>() {
        let missing = || {
            refused("input::missing", format!("input `{}` has no value and no default", input.name))
                .help(format!("give it: `--input {}=...`", input.name))
        };
        values.insert(input.name.clone(), input.default.clone().ok_or_else(missing)?);
    }
    Ok(values)
}

fn unknown(job: &Job, name: &str) -> Failure {
    let known: Vec<&str> = job.inputs.iter().map(|input| input.name.as_str()).collect();
    let help = match nearest(name, known.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("its inputs: {}", words(&known)),
    };
    refused("input::unknown", format!("job `{}` has no input `{name}`", job.name)).help(help)
}

fn refused(code: &str, message: String) -> Failure {
    Failure::new(FailureKind::Definition, code, message)
}

fn accepted(values: &[Value], value: &Value) -> Result<(), String> {
    if values.is_empty() || values.contains(value) {
        return Ok(());
    }
    Err(values.iter().map(|value| format!("`{}`", plain(value))).collect::<Vec<_>>().join(", "))
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Reads text from a command line as a value of a type.
fn typed(kind: InputType, text: &str) -> Result<Value, String> {
    let value = match kind {
        InputType::String if text.len() > MAX_TEXT => return Err(format!("a text of at most {MAX_TEXT} bytes")),
        InputType::String => Some(Value::from(text)),
        InputType::Integer => text.parse::<i64>().ok().map(Value::from),
        InputType::Number => number(text),
        InputType::Boolean => text.parse::<bool>().ok().map(Value::from),
        InputType::Date => {
            text.parse::<jiff::civil::Date>().ok().filter(|date| date.to_string() == text).map(|date| date.to_string().into())
        }
    };
    value.ok_or_else(|| expected(kind).to_owned())
}

fn number(text: &str) -> Option<Value> {
    if let Ok(whole) = text.parse::<i64>() {
        return Some(whole.into());
    }
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte));
    is_number.then(|| text.parse::<f64>().ok().and_then(Number::from_f64)).flatten().map(Value::Number)
}

const fn expected(kind: InputType) -> &'static str {
    match kind {
        InputType::String => "text",
        InputType::Integer => "a whole number",
        InputType::Number => "a number",
        InputType::Boolean => "`true` or `false`",
        InputType::Date => "a date such as `2026-11-19`",
    }
}

/// A value of a definition as one of a type: nothing is converted but numbers to numbers.
fn declared(kind: InputType, scalar: &Scalar) -> Option<Value> {
    match (kind, &scalar.0) {
        (InputType::String | InputType::Date | InputType::Number, Value::String(text)) => typed(kind, text).ok(),
        (InputType::Integer, Value::Number(number)) if number.is_i64() => Some(scalar.0.clone()),
        (InputType::Number, Value::Number(_)) | (InputType::Boolean, Value::Bool(_)) => Some(scalar.0.clone()),
        _ => None,
    }
}

/// Checks declared inputs.
pub(super) fn declarations(inputs: Option<&Spanned<Entries<InputDocument>>>, cx: &mut Cx<'_>) -> Vec<Input> {
    let Some(inputs) = inputs else { return Vec::new() };
    let mut out = Vec::new();
    for (key, document) in &inputs.0 {
        name_is_plain(&key.text, &key.span, cx);
        if super::stray::is_secret_name(&key.text) {
            let message = format!("input `{}` would carry a secret; inputs are shown in reports and logs", key.text);
            cx.error(
                "definition::secret_input",
                message,
                "give the secret to the step that needs it: `env: { NAME: { secret: name } }`",
                &key.span,
            );
        }
        let Some(kind) = &document.r#type else { continue };
        let accepted = document.r#enum.as_ref().map(|values| accepted_values(kind.value, values, cx)).unwrap_or_default();
        let default = document.default.as_ref().and_then(|default| default_value(kind.value, default, &accepted, cx));
        let description = document.description.as_ref().map(|text| text.value.clone());
        out.push(Input { name: key.text.clone(), kind: kind.value, description, accepted, default });
    }
    out
}

/// Inputs and vars are read as `inputs.name`: a `-` in a name would be a minus.
pub(super) fn name_is_plain(name: &str, span: &crate::yaml::Span, cx: &mut Cx<'_>) {
    if name.contains('-') {
        cx.error(
            "definition::bad_name",
            format!("`{name}` has a `-`, which a template would read as minus"),
            format!("write `{}`", name.replace('-', "_")),
            span,
        );
    }
}

fn accepted_values(kind: InputType, values: &Spanned<Vec<Spanned<Scalar>>>, cx: &mut Cx<'_>) -> Vec<Value> {
    if cx.is_empty(values) {
        cx.error("definition::empty_value", "`enum` accepts nothing", "list the values, or remove the key", &values.span);
    }
    let mut out = Vec::new();
    for value in &values.value {
        match declared(kind, value) {
            Some(value) if out.contains(&value) => {}
            Some(value) => out.push(value),
            None => wrong_type(kind, value, cx),
        }
    }
    out
}

fn default_value(kind: InputType, default: &Spanned<Scalar>, accepted: &[Value], cx: &mut Cx<'_>) -> Option<Value> {
    let Some(value) = declared(kind, default) else {
        wrong_type(kind, default, cx);
        return None;
    };
    if let Err(known) = self::accepted(accepted, &value) {
        cx.error(
            "definition::bad_default",
            format!("the default `{}` is not in `enum`", plain(&value)),
            format!("accepted: {known}"),
            &default.span,
        );
    }
    Some(value)
}

fn wrong_type(kind: InputType, value: &Spanned<Scalar>, cx: &mut Cx<'_>) {
    let help = if kind == InputType::String { "put it in quotes" } else { "write a value of the declared type, or change the type" };
    cx.error("definition::wrong_type", format!("`{}` is not {}", plain(&value.0), expected(kind)), help, &value.span);
}
