//! Edge files of JSON Lines and JSON.

use errand_model::document::step::SchemaContract;

use super::Case;

#[test]
fn numbers_keep_their_digits_and_nested_values_their_text() {
    let text = "{\"d\": 12345678901234567890.123, \"b\": 9223372036854775807, \"t\": 1.50, \"j\": {\"x\" : [1.0]}, \"f\": true}\r\n\n{\"t\":\"a\\u00e9\\n\",\"j\":\"s\\n\",\"d\":\"1.5\",\"b\":null}\n";
    let case =
        Case::jsonl(text).column("d", "decimal(38,3)").column("b", "bigint").column("t", "text").column("j", "json").column("f", "boolean");
    assert_eq!(case.rows(), ["12345678901234567890.123|9223372036854775807|1.50|{\"x\" : [1.0]}|true", "1.500|∅|aé\n|\"s\\n\"|∅"]);
}

#[test]
fn a_json_value_of_the_wrong_kind_is_refused() {
    let text = "{\"a\":1.0}\n{\"a\":\"x\"}\n{\"a\":true}\n{\"a\":[1]}\n{\"a\":\"\"}\n{\"a\":1e3}\n[1]\n{\"a\":1,\"a\":2}\n{\"a\":1}}\n{\"a\":tru}\n{\"a\":1\n{\"a\":7}\n";
    let case = Case::jsonl(text).column("a", "integer");
    assert_eq!(
        case.errors(),
        [
            "1:6 a: expected integer, found `1.0`",
            "2:7 a: expected integer, found `x`",
            "3:6 a: expected integer, found `true`",
            "4:6 a: expected integer, found `[1]` (an array or object; declare `json`)",
            "5:7 a: expected integer, found an empty field",
            "6:6 a: expected integer, found `1e3`",
            "7:1: invalid JSON: expected a JSON object",
            "8:9: invalid JSON: a key stands twice in the object",
            "9:8: invalid JSON: expected the end of the record after the object",
            "10:6: invalid JSON: expected a JSON value",
            "11:7: invalid JSON: expected `,` or `}`",
        ]
    );
    let outcome = case.read().expect("read");
    assert_eq!((outcome.rows, outcome.numbers, outcome.read), (vec!["7".to_owned()], vec![12], 12));
    let dates = Case::jsonl("{\"a\":20261120}\n{\"a\":\"2026-11-20\"}\n").column("a", "date");
    assert_eq!(dates.errors(), ["1:6 a: expected date, found `20261120` (not a string)"]);
    assert_eq!(
        Case::jsonl("{}\n").required("a", "date").errors(),
        ["1:1 a: expected a value, found NULL in column `a`, which is not nullable"]
    );
}

#[test]
fn a_key_without_a_name_is_refused_at_its_place() {
    assert_eq!(Case::jsonl("{\"a\":1}\n{\"a\":2,\"\":1}\n").failure(), "a.jsonl:2:8: a key has no name");
    assert_eq!(Case::json("[{\"a\": {\"\": 1}},\n {\"\": 2}]").failure(), "a.json:2:3: a key has no name");
    let evolve = Case::jsonl("{\"a\":1,\"\":2}\n").column("a", "integer").contract(SchemaContract::Evolve);
    assert_eq!(evolve.failure(), "a.jsonl:1:8: a key has no name");
    let dropped = Case::jsonl("{\"a\":1,\"\":2}\n").column("a", "integer").contract(SchemaContract::DiscardValue);
    assert_eq!(dropped.rows(), ["1"]);
    assert_eq!(Case::jsonl("{\"a\":{\"\":1}}\n").rows(), ["{\"\":1}"]);
}

#[test]
fn the_contract_decides_about_unknown_keys() {
    let case =
        |contract| Case::jsonl("{\"a\":1}\n{\"a\":2,\"z\":null}\n{\"z\":{\"q\":1},\"a\":3}\n").column("a", "integer").contract(contract);
    assert_eq!(case(SchemaContract::Freeze).failure(), "a.jsonl:2:8: column `z` is not expected");
    assert_eq!(case(SchemaContract::Evolve).rows(), ["1|∅", "2|∅", "3|{\"q\":1}"]);
    assert_eq!(case(SchemaContract::DiscardValue).rows(), ["1", "2", "3"]);
    assert_eq!(case(SchemaContract::Quarantine).errors(), ["3:2: key `z` is not expected and holds `{\"q\":1}`"]);
    let late = Case::jsonl(format!("{}{{\"b\":1}}\n", "{\"a\":1}\n".repeat(10_000))).contract(SchemaContract::Evolve);
    assert_eq!(
        late.errors(),
        ["10001:2: key `b` is not in the first 10000 records, which the columns were inferred from: declare `columns`"]
    );
}

#[test]
fn one_array_or_one_object_is_read_record_by_record() {
    let text = " [\n {\"a\": 1, \"t\": \"x]}\\\"\"},\n {\"a\": [2]}, 7 ,\n{\"a\":3}\n]\n ";
    let case = Case::json(text).column("a", "integer").column("t", "text");
    assert_eq!(
        case.errors(),
        ["3:8 a: expected integer, found `[2]` (an array or object; declare `json`)", "3:14: invalid JSON: expected a JSON object"]
    );
    let outcome = case.read().expect("read");
    assert_eq!((outcome.rows, outcome.numbers), (vec!["1|x]}\"".to_owned(), "3|∅".to_owned()], vec![1, 4]));
    assert_eq!(outcome.rejected[0].raw, "{\"a\": [2]}");
    assert_eq!(Case::json("{\"a\": 1}").column("a", "integer").rows(), ["1"]);
    for empty in ["[]", "", " [ ] \n"] {
        assert_eq!(Case::json(empty).column("a", "integer").read().expect(empty).read, 0);
    }
}

#[test]
fn an_array_without_structure_is_a_failure_with_its_place() {
    let failure = |text: &str| Case::json(text).column("a", "integer").failure();
    assert_eq!(failure("[{\"a\":1}\n {\"a\":2}]"), "a.json:2:2: expected `,` or `]` after an element of the array");
    assert_eq!(failure("[{\"a\":1},\n{\"a\":2]"), "a.json:2:7: `]` closes nothing that is open");
    assert_eq!(failure("[{\"a\":1},\n{\"a\":2}"), "a.json:2:8: the file ends inside of the JSON array");
    assert_eq!(failure("[{\"a\":\n\"x}]"), "a.json:2:1: a string opens here and is not closed before the end of the file");
    assert_eq!(failure("[{\"a\":1},]"), "a.json:1:10: expected an element of the array");
    assert_eq!(failure("[] x"), "a.json:1:4: expected the end of the file after the JSON value");
    assert_eq!(failure("7"), "a.json:1:1: expected a JSON array of objects, or one object");
    assert_eq!(failure("  "), "a.json:1:3: expected a JSON array, found the end of the file");
    assert!(failure(&format!("[{}", "[".repeat(1_000_000))).contains("nested deeper than 128 levels"));
    let deep = format!("{{\"a\":{}}}\n", "[".repeat(1_000_000));
    assert_eq!(Case::jsonl(deep).column("a", "json").errors()[0], "1:133: invalid JSON: nested too deep");
}

#[test]
fn bytes_that_are_no_text_are_refused() {
    let case = Case::jsonl(b"{\"a\":\"caf\xe9\"}\n{\"a\":\"x\0\"}\n{\"a\":\"\\u0000\"}\n{\"a\":\"\\ud800\"}\n{\"a\":\"ok\"}\n")
        .column("a", "text");
    let errors = case.errors();
    assert!(errors[0].starts_with("1:10: invalid UTF-8 at byte 9 (`\\xe9`)") && errors[1].contains("a NUL byte"), "{errors:?}");
    assert_eq!(errors[2], "3:7: invalid JSON: an escaped NUL character, which no text column holds");
    assert_eq!(errors[3], "4:7: invalid JSON: half of a surrogate pair");
    assert_eq!(case.read().expect("read").rows, ["ok"]);
}
