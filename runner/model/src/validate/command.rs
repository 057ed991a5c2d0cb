//! `command`.

use super::{Cx, step};
use crate::decode::Spanned;
use crate::document::step::{CommandDocument, EnvValue as EnvDocument};
use crate::job::{CommandStep, EnvValue};
use crate::value::Name;

pub(super) fn command(document: &Spanned<CommandDocument>, cx: &mut Cx<'_>) -> Option<CommandStep> {
    let run = document.run.as_ref().and_then(|run| arguments(run, cx));
    let working_dir = match &document.working_dir {
        Some(path) if path.trim() == "." => Some(String::new()),
        Some(path) => cx.path(path, ""),
        None => None,
    };
    let env = environment(document, cx);
    let outputs = document.outputs.as_ref().map(|outputs| self::outputs(outputs, cx)).unwrap_or_default();
    Some(CommandStep { run: run?, working_dir, env, outputs })
}

fn arguments(run: &Spanned<Vec<Spanned<String>>>, cx: &mut Cx<'_>) -> Option<Vec<crate::template::Template>> {
    match run.first() {
        None if !cx.is_empty(run) => None,
        None => {
            cx.error("definition::empty_value", "there is no program to run", "write `[program, argument, ...]`", &run.span);
            None
        }
        Some(program) if program.trim().is_empty() => {
            cx.error("definition::empty_value", "the program has no name", "write the program to run", &program.span);
            None
        }
        Some(program) if run.len() == 1 && program.trim().contains(' ') && !program.contains("{{") => {
            let parts = program.split_whitespace().collect::<Vec<_>>().join(", ");
            let message = "a program and its arguments stand in one text; no shell will take them apart";
            cx.error("definition::not_a_list", message, format!("write `[{parts}]`"), &program.span);
            None
        }
        Some(_) => run.iter().map(|argument| step::text(argument, cx)).collect::<Vec<_>>().into_iter().collect(),
    }
}

fn environment(document: &CommandDocument, cx: &mut Cx<'_>) -> Vec<(String, EnvValue)> {
    let mut out = Vec::new();
    for (key, value) in document.env.iter().flat_map(|env| &env.0) {
        if key.text.contains('-') {
            let help = format!("write `{}`", key.text.replace('-', "_"));
            cx.error("definition::bad_name", format!("`{}` cannot be a name in an environment", key.text), help, &key.span);
        }
        if key.text.starts_with("ERRAND_") {
            cx.error(
                "definition::reserved_name",
                format!("`{}` is reserved", key.text),
                "names that start with `ERRAND_` are Errand's own",
                &key.span,
            );
        }
        let value = match value {
            EnvDocument::Text(text) => step::text(text, cx).map(EnvValue::Text),
            EnvDocument::Secret(secret) => secret.secret.as_ref().map(|name| EnvValue::Secret(name.value.clone())),
        };
        out.extend(value.map(|value| (key.text.clone(), value)));
    }
    out
}

fn outputs(names: &Spanned<Vec<Spanned<Name>>>, cx: &mut Cx<'_>) -> Vec<Name> {
    let mut out: Vec<Name> = Vec::new();
    for name in &names.value {
        if out.contains(&name.value) {
            cx.error(
                "definition::duplicate_output",
                format!("output `{}` stands here twice", name.value),
                "remove one of them",
                &name.span,
            );
        } else {
            out.push(name.value.clone());
        }
    }
    out
}
