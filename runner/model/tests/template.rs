//! Templates: what values become, what cannot be said, and that nothing gets around the quoting.

use std::time::Instant;

use errand_model::template::{Expression, IdentifierCase, Syntax, Template, Values};
use proptest::prelude::*;
use serde_json::json;

fn values() -> Values {
    Values::new(json!({
        "run": { "id": "r1", "job": "orders", "date": "2026-07-01", "start": "2026-07-01T00:00:00+01:00", "end": "2026-07-02T00:00:00+01:00",
                 "scheduled_at": null, "attempt": 2, "commit": null },
        "inputs": { "region": "b'r", "full": true, "rate": 0.5, "count": -3, "name": "my \"table\"" },
        "vars": { "limit": 10, "nothing": null },
        "steps": { "load": { "outputs": { "path": "a b", "files": ["x", "y'z"] } } },
    }))
}

fn sql(text: &str) -> Result<String, String> {
    let template = Template::parse(text, Syntax::Sql, "q.sql", (1, 1))
        .map_err(|problems| problems.iter().map(|p| format!("{}: {}", p.code, p.message)).collect::<Vec<_>>().join("; "))?;
    template.render(&values()).map_err(|failure| format!("{failure}"))
}

fn text(source: &str) -> String {
    Template::parse(source, Syntax::Text, "job.yaml", (1, 1)).expect("valid").render(&values()).expect("rendered")
}

#[test]
fn values_in_sql_are_literals() {
    assert_eq!(sql("a = {{ inputs.region }} and b").as_deref(), Ok("a = 'b''r' and b"));
    assert_eq!(sql("x > {{ vars.limit }} or y is {{ vars.nothing }} or {{ inputs.full }}").as_deref(), Ok("x > 10 or y is NULL or TRUE"));
    assert_eq!(sql("1-{{ inputs.count }}").as_deref(), Ok("1-(-3)"));
    assert_eq!(sql("in {{ steps.load.outputs.files }}").as_deref(), Ok("in ('x', 'y''z')"));
    assert_eq!(sql("from {{ inputs.name | ident }}.{{ run.job | ident }}").as_deref(), Ok("from \"my \"\"table\"\"\".\"orders\""));
    assert_eq!(sql("limit {{ 5 + 5 }} -- {% if run.attempt > 1 %}again{% endif %}\n").as_deref(), Ok("limit 10 -- again\n"));
    assert_eq!(sql("{% set d = run.date %}{% for n in [1, 2] %}{{ n }}, {% endfor %}{{ d }}").as_deref(), Ok("1, 2, '2026-07-01'"));
    assert_eq!(sql("t_{{ run.job | raw }}").as_deref(), Ok("t_orders"));
    assert_eq!(sql("{{ run.start | strftime('%Y%m%d') }}").as_deref(), Ok("'20260701'"));
    assert_eq!(sql("select 1 {# {{ anything }} ' #}\n\n").as_deref(), Ok("select 1 \n\n"));
}

#[test]
fn names_and_texts_are_written_as_the_warehouse_reads_them() {
    let render = |values: &Values| {
        let template = Template::parse("{{ run.job | ident }} {{ inputs.name | ident }} {{ 'a\\\\' }}", Syntax::Sql, "q.sql", (1, 1));
        template.expect("valid").render(values).expect("rendered")
    };
    let upper = values().with_identifier_case(IdentifierCase::Upper).with_backslash_escapes(true);
    assert_eq!(render(&values()), "\"orders\" \"my \"\"table\"\"\" 'a\\'");
    assert_eq!(render(&upper), "\"ORDERS\" \"my \"\"table\"\"\" 'a\\\\'");
    assert_eq!(render(&values().with_identifier_case(IdentifierCase::Lower)), render(&values()));
}

#[test]
fn no_expression_gets_around_the_quoting() {
    // Whatever is done to a value before it is written, it is a literal when it is written.
    assert_eq!(sql("{{ \"'; drop table t; --\" }}").as_deref(), Ok("'''; drop table t; --'"));
    assert_eq!(sql("{{ inputs.region ~ \"'\" }}").as_deref(), Ok("'b''r'''"));
    assert_eq!(sql("{{ (inputs.region | raw) ~ \"'\" }}").as_deref(), Ok("'b''r'''"));
    assert_eq!(sql("{{ inputs.region | raw | upper }}").as_deref(), Ok("'B''R'"));
    assert_eq!(sql("{{ [inputs.region | raw] | join(',') }}").as_deref(), Ok("'b''r'"));
    assert_eq!(sql("{{ inputs.region | replace('b', \"''\") }}").as_deref(), Ok("'''''''r'"));
    assert_eq!(sql("{{ inputs.region if true else 1 }}").as_deref(), Ok("'b''r'"));
    assert_eq!(sql("{{ (inputs.region, 1) }}").as_deref(), Ok("('b''r', 1)"));
}

#[test]
fn values_stand_where_their_quoting_holds() {
    for wrong in [
        "'{{ run.id }}'",
        "'a {{ run.id }}",
        "\"{{ run.id }}\"",
        "-- {{ run.id }}\n",
        "/* {{ run.id }} */",
        "$$ {{ run.id }} $$",
        "E{{ run.id }}",
        "e{{- ' x' }}",
        "U&{{ run.id | ident }}",
        "'a'{{ run.id }}",
        "{{ run.id }}'a'",
        "{{ run.id }}{{ run.id }}",
        "{% for n in ['a', 'b'] %}{{ n }}{% endfor %}",
        "{% if run.attempt %}'{% endif %}{{ run.id }}",
        "{% for n in [1] %}'{% endfor %}",
        "'a' {{- run.id }}",
        "{{ run.id -}} 'a'",
        "-- x {%- if true %}\n{%- endif %} {{ run.id }}",
        "{% if true %}{{ run.id }}{% endif %}'a'",
        "E'\\' {{ run.id }} '",
        "'' {{- run.id }}",
    ] {
        let told = sql(wrong).expect_err(wrong);
        assert!(
            told.contains("template::quoted_value") || told.contains("template::glued") || told.contains("template::open_quote"),
            "{wrong}: {told}"
        );
    }
    for right in [
        "'it''s' || {{ run.id }}",
        "\"a\" = {{ run.id }}",
        "-- it's\n{{ run.id }}",
        "E'\\'' || {{ run.id }}",
        "like'\\' || {{ run.id }}",
        "$1 + {{ run.id }}",
        "'{{ run.id | raw }}'",
    ] {
        assert!(sql(right).is_ok(), "{right}: {:?}", sql(right));
    }
}

#[test]
fn what_is_undefined_or_no_literal_fails_with_its_line() {
    assert!(sql("\n\n{{ steps.load.outputs.nope }}").expect_err("undefined").starts_with("q.sql:3: a value is not defined"));
    assert!(sql("{{ steps.gone.outputs.x }}").is_err());
    assert!(sql("{{ inputs.region | int }}").is_err());
    assert!(sql("{{ {'a': 1} }}").expect_err("mapping").contains("cannot stand in SQL"));
    assert!(sql("{{ '' | ident }}").is_err() && sql("{{ 'a\\0b' }}").is_err());
    assert_eq!(sql("{{ steps.load.outputs.nope | default('x') }}").as_deref(), Ok("'x'"));
    let list = Template::parse("{{ [1, 2] }}", Syntax::Text, "job.yaml", (7, 3)).expect("valid").render(&values()).expect_err("a list");
    assert_eq!((list.place.expect("a place").line, list.message.contains("join")), (7, true));
}

#[test]
fn text_is_pasted_and_keeps_its_lines() {
    assert_eq!(text("out/{{ run.date }}/{{ vars.limit }}-{{ inputs.full }}.csv"), "out/2026-07-01/10-true.csv");
    assert_eq!(text("a\n{% if false %}\nb\n{% endif %}\nc\n"), "a\n\nc\n");
    assert_eq!(text("no { braces } here\r\n"), "no { braces } here\r\n");
    assert_eq!(text("{{ run.id }}\r\n"), "r1\r\n");
}

#[test]
fn conditions_are_true_or_false() {
    let holds = |text: &str| Expression::parse(text, "job.yaml", (4, 9)).expect("valid").holds(&values());
    assert_eq!(holds("inputs.full and run.attempt == 2"), Ok(true));
    assert_eq!(holds("inputs.count > 0 or run.date in ['2026-07-02']"), Ok(false));
    assert_eq!(holds("steps.load.outputs.nope is defined"), Ok(false));
    let failure = holds("inputs.region").expect_err("text");
    assert_eq!((failure.code.as_str(), failure.place.expect("a place").line), ("template::not_boolean", 4));
    assert!(Expression::parse("inputs.full and", "job.yaml", (1, 1)).is_err() && Expression::parse("", "job.yaml", (1, 1)).is_err());
}

#[test]
fn attacks_end_soon_and_small() {
    let started = Instant::now();
    let doubled = format!("{{% set a = inputs.region %}}{}{{{{ a }}}}", "{% set a = a ~ a %}".repeat(40));
    let doubled_list = format!("{{% set a = [run.id] %}}{}{{{{ a }}}}", "{% set a = [a, a] %}".repeat(40));
    let loops = "{% for a in '0123456789' %}{% for b in '0123456789' %}{% for c in '0123456789' %}{% for d in '0123456789' %}{{ a }} and {% endfor %}{% endfor %}{% endfor %}{% endfor %}".repeat(50);
    let nested = format!("{}x{}", "{% for a in [1, 2] %}".repeat(100), "{% endfor %}".repeat(100));
    for attack in [
        doubled,
        doubled_list,
        loops,
        nested,
        "{{ 'x' * 100000000 }}".to_owned(),
        "{{ ('x' * 100000000) | replace('x', 'yyyyyyyyyyyyyyyyyyyy') }}".to_owned(),
        format!("{{{{ {}1{} }}}}", "(".repeat(5000), ")".repeat(5000)),
        format!("{{{{ a{} }}}}", ".a".repeat(100_000)),
        format!("{{{{ 1{} }}}}", "+1".repeat(100_000)),
        format!("{{% if 1 %}}{}{{% endif %}}", "{% elif 1 %}".repeat(50_000)),
        "{% if 1 %}".repeat(50_000),
        format!("{{{{ {} 1 }}}}", "not ".repeat(100_000)),
        "{% for a in range(1000000000) %}{% endfor %}".to_owned(),
        "{{ [1].__class__ }}{{ run.__init__ }}".to_owned(),
        "{% raw %}".to_owned(),
        "{{".repeat(100_000),
    ] {
        assert!(sql(&attack).is_err(), "{}", &attack[..attack.len().min(80)]);
    }
    assert!(started.elapsed().as_secs() < 20, "{:?}", started.elapsed());
}

proptest! {
    #[test]
    fn any_text_is_read_without_a_panic(text in "\\PC{0,200}") {
        let _ = sql(&text);
    }

    #[test]
    fn any_heap_of_signs_is_read_without_a_panic(parts in proptest::collection::vec(prop_oneof![
        Just("{{"), Just("}}"), Just("{%"), Just("%}"), Just("{#"), Just("#}"), Just("if"), Just("for"), Just("in"), Just("set"), Just("endif"), Just("endfor"),
        Just(" "), Just("\n"), Just("run.id"), Just("inputs.region"), Just("|"), Just("raw"), Just("ident"), Just("'"), Just("\""), Just("--"), Just("é"), Just("("), Just(")"), Just("="), Just("~"), Just("[1]"), Just("-")
    ], 0..40)) {
        let text = parts.concat();
        let _ = sql(&text);
        let _ = Expression::parse(&text, "job.yaml", (1, 1)).map(|expression| expression.holds(&values()));
    }

    #[test]
    fn a_value_is_one_literal_whatever_it_holds(value in any::<String>()) {
        let rendered = Template::parse("select {{ inputs.region }} as x", Syntax::Sql, "q.sql", (1, 1)).expect("valid")
            .render(&Values::new(json!({ "inputs": { "region": value.clone() } })));
        if value.contains('\0') {
            prop_assert!(rendered.is_err());
        } else {
            let rendered = rendered.expect("rendered");
            let literal = rendered.strip_prefix("select '").and_then(|rest| rest.strip_suffix("' as x")).expect("a literal");
            prop_assert_eq!(literal.replace("''", "\u{0}").matches('\'').count(), 0);
            prop_assert_eq!(literal.replace("''", "'"), value);
        }
    }
}
