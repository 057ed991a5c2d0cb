//! Types proposed from the first records.

use errand_model::document::step::SchemaContract;
use errand_model::value::ColumnType;

use super::Case;
use crate::source::Origin;

fn inferred(values: &[&str]) -> (String, Vec<String>) {
    let case = Case::csv(format!("v,w\n{}", values.iter().map(|value| format!("{value},\n")).collect::<String>()));
    let resolved = case.resolve().expect("resolved");
    assert_eq!(resolved.columns[0].origin, Origin::Inferred);
    (resolved.columns[0].kind.to_string(), resolved.warnings.into_iter().filter(|warning| warning.contains("`v`")).collect())
}

#[test]
fn the_narrowest_exact_type_is_proposed() {
    let cases: [(&[&str], &str); 20] = [
        (&["true", "False", ""], "boolean"),
        (&["1", "0"], "bigint"),
        (&["-5", "9223372036854775807"], "bigint"),
        (&["1", "9223372036854775808"], "decimal(38,0)"),
        (&["1", "2.50", "-0.125"], "decimal(38,3)"),
        (&["12345678901234567890.123"], "decimal(38,3)"),
        (&["1e5", "2.5"], "double"),
        (&["1e5", "12345678901234567890.123"], "text"),
        (&["true", "1"], "text"),
        (&["2026-01-01", "2026-12-31"], "date"),
        (&["2026-01-01", "2026-12-31T10:00:00"], "timestamp"),
        (&["2026-12-31T10:00:00Z", "2026-12-31T10:00:00+02:00"], "timestamptz"),
        (&["2026-12-31T10:00:00Z", "2026-12-31T10:00:00"], "text"),
        (&["007", "5"], "text"),
        (&["+5"], "text"),
        (&["01/02/2026"], "text"),
        (&["NaN", "1.0"], "text"),
        (&["", ""], "text"),
        (&["123456789012345678901234567890123456789"], "text"),
        (&["12:30"], "text"),
    ];
    for (values, expected) in cases {
        assert_eq!(inferred(values).0, expected, "{values:?}");
    }
}

#[test]
fn text_that_may_surprise_is_warned_of() {
    let warned = |values: &[&str]| inferred(values).1.join("; ");
    assert_eq!(warned(&["007", "5"]), "column `v` becomes `text`: it holds numbers with leading zeros");
    assert!(warned(&["01/02/2026"]).contains("day and month cannot be told apart"));
    assert!(warned(&["2026-12-31T10:00:00Z", "2026-12-31T10:00:00"]).contains("with and without a zone"));
    assert!(warned(&["123456789012345678901234567890123456789"]).contains("more than 38 digits"));
    assert!(warned(&["a", "1"]).is_empty());
}

#[test]
fn headers_without_rows_make_no_columns() {
    let case = Case::csv("id,amount\n").file("b.csv", "id,amount\n\n");
    let resolved = case.resolve().expect("resolved");
    assert_eq!((resolved.columns.len(), resolved.sampled), (0, 0));
    assert_eq!(
        resolved.warnings,
        ["no file has a row to tell the types of its columns, and of headers alone no table is made: declare `columns` to have one"]
    );
    assert_eq!(case.read().expect("read").read, 0);
    let kind = |case: &Case| case.resolve().expect("resolved").columns[0].kind;
    assert_eq!(kind(&Case::csv("id,amount\n").file("b.csv", "id,amount\n1,2\n")), ColumnType::Bigint);
    assert_eq!(kind(&Case::csv("id\n").column("id", "integer")), ColumnType::Integer);
    let mut there = Case::csv("id\n");
    there.existing = Some(vec![("id".to_owned(), ColumnType::Date)]);
    assert_eq!(kind(&there), ColumnType::Date);
    assert_eq!(Case::csv("id,\n").failure(), "a.csv:1:4: column 2 has no name in the header");
    assert_eq!(
        Case::csv("id,\n1,2\n").column("id", "bigint").contract(SchemaContract::Evolve).failure(),
        "a.csv:1:4: a column has no name in the header"
    );
}

#[test]
fn a_value_that_breaks_an_inferred_type_is_refused_and_says_so() {
    let mut text = "n,m\n".to_owned();
    text.extend((0..200_000).map(|row| format!("{row},1\n")));
    text.push_str("x,1\n");
    let case = Case::csv(text);
    let outcome = case.read().expect("read");
    assert_eq!((outcome.rows.len(), outcome.rejected[0].line, outcome.rejected[0].row), (200_000, 200_002, 200_001));
    assert_eq!(
        outcome.rejected[0].error,
        "expected bigint, found `x`; the type was inferred from the first 10000 records: declare `columns`"
    );
    assert!(outcome.numbers.iter().enumerate().all(|(index, number)| *number == index as i64 + 1));
}

#[test]
fn a_date_among_inferred_timestamps_is_its_midnight() {
    assert_eq!(Case::csv("t,u\n2026-01-01,\n2026-01-01T10:00,\n").rows()[0], "2026-01-01T00:00:00|∅");
    let declared = Case::csv("t\n2026-01-01\n").column("t", "timestamp");
    assert_eq!(declared.errors(), ["2:1 t: expected timestamp, found `2026-01-01`"]);
}

#[test]
fn the_types_of_the_existing_table_win() {
    let mut case = Case::csv("a,b\n1,2\nx,3\n");
    case.existing = Some(vec![("A".to_owned(), ColumnType::Integer), ("b".to_owned(), ColumnType::Text)]);
    let outcome = case.read().expect("read");
    assert_eq!(outcome.rows, ["1|2"]);
    assert_eq!(outcome.rejected[0].error, "expected integer, found `x`; the type is that of the existing table");
    let mut added = Case::csv("a,c,d\n1,2,3\n").column("a", "integer").contract(SchemaContract::Evolve);
    added.existing = Some(vec![("a".to_owned(), ColumnType::Integer), ("c".to_owned(), ColumnType::Double)]);
    let resolved = added.resolve().expect("resolved");
    let kinds: Vec<_> = resolved.columns.iter().map(|column| (column.kind, column.origin)).collect();
    assert_eq!(
        kinds,
        [(ColumnType::Integer, Origin::Declared), (ColumnType::Double, Origin::Existing), (ColumnType::Bigint, Origin::Added)]
    );
    assert_eq!(added.rows(), ["1|2.0|3"]);
}

#[test]
fn the_first_file_names_the_columns() {
    let case = |contract| Case::csv("a,b\n1,x\n").file("b.csv", "b,a,c\ny,2,3\n").contract(contract);
    assert_eq!(case(SchemaContract::Freeze).failure(), "b.csv:1:5: column `c` is not expected");
    assert_eq!(case(SchemaContract::Evolve).rows(), ["1|x|∅", "2|y|3"]);
    assert_eq!(Case::csv("a,,b\n").failure(), "a.csv:1:3: column 2 has no name in the header");
}

#[test]
fn json_members_have_types_already() {
    let text = "{\"i\":1,\"d\":1.5,\"s\":\"1\",\"t\":\"2026-01-01T00:00:00Z\",\"b\":true,\"n\":{\"x\":1},\"m\":1}\n{\"i\":2,\"d\":10,\"m\":\"x\",\"late\":[1]}\n";
    let case = Case::jsonl(text);
    let resolved = case.resolve().expect("resolved");
    let kinds: Vec<String> = resolved.columns.iter().map(|column| format!("{}:{}", column.name, column.kind)).collect();
    assert_eq!(kinds, ["i:bigint", "d:decimal(38,1)", "s:text", "t:timestamptz", "b:boolean", "n:json", "m:text", "late:json"]);
    assert_eq!(case.rows(), ["1|1.5|1|2026-01-01T00:00:00Z|true|{\"x\":1}|1|∅", "2|10.0|∅|∅|∅|∅|x|[1]"]);
}
