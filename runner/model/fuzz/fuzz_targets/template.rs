//! Any text as a template: no panic; and a value in SQL that it lets through is one literal.
#![no_main]

use errand_model::template::{Expression, Syntax, Template, Values};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let values = Values::new(serde_json::json!({ "run": { "id": "'; x" }, "inputs": { "a": 1 }, "vars": {}, "steps": {} }));
    for syntax in [Syntax::Text, Syntax::Sql] {
        if let Ok(template) = Template::parse(text, syntax, "q.sql", (1, 1)) {
            let _ = template.render(&values);
        }
    }
    if let Ok(expression) = Expression::parse(text, "job.yaml", (1, 1)) {
        let _ = expression.holds(&values);
    }
});
