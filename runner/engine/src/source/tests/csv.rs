//! Edge files of delimited text: right, or refused with the place.

use errand_model::document::step::{Encoding, SchemaContract};
use errand_model::failure::FailureKind;

use super::Case;

#[test]
fn every_type_is_loaded_exactly() {
    let kinds = ["boolean", "integer", "bigint", "decimal(15,2)", "double", "text", "date", "time", "timestamp", "timestamptz", "json"];
    let header: Vec<String> = (0..kinds.len()).map(|index| format!("c{index}")).collect();
    let values = "T,-7,9223372036854775807,-12.3,1.5e3,007,2026-11-20,23:59:59.000001,2026-11-20T01:02:03.5,2026-11-20 01:00:00+01:00,\"{\"\"a\"\": 1.50}\"";
    let nulls = ",".repeat(kinds.len() - 1);
    let mut case = Case::csv(format!("{}\n{values}\n{nulls}\n", header.join(",")));
    for (name, kind) in header.iter().zip(kinds) {
        case = case.column(name, kind);
    }
    let expected = "true|-7|9223372036854775807|-12.30|1500.0|007|2026-11-20|23:59:59.000001|2026-11-20T01:02:03.500|2026-11-20T00:00:00Z|{\"a\": 1.50}";
    assert_eq!(case.rows(), [expected.to_owned(), ["∅"; 11].join("|")]);
}

#[test]
fn a_bad_value_is_refused_with_its_place() {
    let case = Case::csv("id,amount,at\n1,12.34,2026-01-01\n2,12.3x4,2026-01-02\nx,1,2026-02-30\n4,0.001,2026-01-04\n")
        .column("id", "integer")
        .column("amount", "decimal(15,2)")
        .column("at", "date");
    let outcome = case.read().expect("read");
    assert_eq!(outcome.rows, ["1|12.34|2026-01-01"]);
    assert_eq!((outcome.read, outcome.numbers), (4, vec![1]));
    let first = &outcome.rejected[0];
    assert_eq!((first.file.as_str(), first.row, first.line, first.position, first.byte_offset), ("a.csv", 2, 3, 3, 32));
    assert_eq!((first.column.as_deref(), first.raw.as_str()), (Some("amount"), "2,12.3x4,2026-01-02"));
    assert_eq!(
        case.errors(),
        [
            "3:3 amount: expected decimal(15,2), found `12.3x4`",
            "4:1 id: expected integer, found `x`",
            "5:3 amount: expected decimal(15,2), found `0.001` (more digits after the point than the type holds; nothing is rounded)",
        ]
    );
}

#[test]
fn line_ends_may_be_mixed_and_the_last_one_may_lack() {
    let case = Case::csv("a,b\r\n1,x\n2,y\r3,\"p\r\nq\nr\"\r\n\r\n\n4,z").column("a", "integer").column("b", "text");
    assert_eq!(case.rows(), ["1|x", "2|y", "3|p\r\nq\nr", "4|z"]);
    let bad = Case::csv("a,b\r\n1,\"p\r\nq\"\r\rx,2\r\n\"1\n\",3").column("a", "integer").column("b", "text");
    assert_eq!(bad.errors(), ["5:1 a: expected integer, found `x`", "6:2 a: expected integer, found `1\n`"]);
}

#[test]
fn a_blank_line_is_a_record_of_one_column_and_nothing_among_more() {
    assert_eq!(Case::csv("a\n1\n\n2\n").column("a", "integer").rows(), ["1", "∅", "2"]);
    let case = Case::csv("\n\na,b\n\n1,2\n\n").column("a", "integer").column("b", "integer");
    assert_eq!(case.read().expect("read").numbers, [1]);
    assert_eq!(Case::csv("a,b\n  \n").column("a", "text").column("b", "text").errors(), ["2:3: expected 2 fields, found 1"]);
}

#[test]
fn only_unquoted_fields_stand_for_null() {
    let case = Case::csv("a,b\n,\"\"\n\\N,\"\\N\"\nx,\n").column("a", "text").column("b", "text");
    assert_eq!(case.rows(), ["∅|", "\\N|\\N", "x|∅"]);
    let postgres = case.with(|dialect| dialect.nulls = vec![b"\\N".to_vec()]);
    assert_eq!(postgres.rows(), ["|", "∅|\\N", "x|"]);
    let numbers =
        Case::csv("a\n\"\"\n\\N\nNULL\n0\n").column("a", "integer").with(|dialect| dialect.nulls = vec![b"NULL".to_vec(), b"0".to_vec()]);
    assert_eq!(numbers.errors(), ["2:2 a: expected integer, found an empty field", "3:1 a: expected integer, found `\\N`"]);
    assert_eq!(numbers.read().expect("read").rows, ["∅", "∅"]);
}

#[test]
fn null_is_refused_where_it_may_not_be() {
    let case = Case::csv("a,b\n,1\n2,\n").required("a", "integer").required("b", "text");
    let what = "expected a value, found NULL in column";
    assert_eq!(case.errors(), [format!("2:1 a: {what} `a`, which is not nullable"), format!("3:3 b: {what} `b`, which is not nullable")]);
}

#[test]
fn quotes_open_only_at_the_start_of_a_field() {
    let case = Case::csv("a,b\nx\"y\",\"p\"\"q,r\"\n").column("a", "text").column("b", "text");
    assert_eq!(case.rows(), ["x\"y\"|p\"q,r"]);
    let after = Case::csv("a,b\n\"x\"y,1\n\"x\" ,2\nz,3\n").column("a", "text").column("b", "text");
    let what = "text follows a closing quote; quotes inside of a quoted field are doubled or escaped";
    assert_eq!(after.errors(), [format!("2:4: {what}"), format!("3:4: {what}")]);
    let escaped = Case::csv(
        r#"a,b
"x\"y,\\n\t",1
"#,
    )
    .column("a", "text")
    .column("b", "text")
    .with(|dialect| dialect.marks.escape = Some(b'\\'));
    assert_eq!(escaped.rows(), [r#"x"y,\n\t|1"#]);
    let none = Case::csv("a,b\n\"x,1\"\n").column("a", "text").column("b", "text").with(|dialect| dialect.marks.quote = None);
    assert_eq!(none.rows(), ["\"x|1\""]);
}

#[test]
fn the_number_of_fields_must_be_right() {
    let case = Case::csv("a,b\n1\n1,2,3\n1,2\n").column("a", "text").column("b", "text");
    assert_eq!(case.errors(), ["2:2: expected 2 fields, found 1", "3:5: expected 2 fields, found 3"]);
    let tpch = Case::csv("1|x|\n2|y\n3|z|w\n4||\n|v||\n").column("k", "integer").column("n", "text").with(|dialect| {
        dialect.header = false;
        dialect.trailing_delimiter = true;
        dialect.marks.delimiter = b'|';
    });
    let end = "expected a delimiter at the end of the record";
    assert_eq!(tpch.errors(), [format!("2:4: {end}"), format!("3:6: {end}"), "5:4: expected 2 fields, found 3".to_owned()]);
    assert_eq!(tpch.read().expect("read").rows, ["1|x", "4|∅"]);
}

#[test]
fn bytes_that_are_no_text_are_refused() {
    let case = Case::csv(b"a,b\n1,caf\xe9\n2,a\0b\n3,ok\n").column("a", "integer").column("b", "text");
    let help = "if the file is written in another encoding, declare `encoding: latin-1` or `encoding: windows-1252`";
    assert_eq!(
        case.errors(),
        [
            format!("2:6 b: invalid UTF-8 at byte 9 (`\\xe9`); {help}"),
            "3:4 b: a NUL byte stands in the record; no text column holds it".to_owned()
        ]
    );
    let outcome = case.read().expect("read");
    assert_eq!(
        (outcome.rows[0].as_str(), outcome.rejected[0].raw.as_str(), outcome.rejected[1].raw.as_str()),
        ("3|ok", "1,caf\\xe9", "2,a\\x00b")
    );
    let latin = case.with(|dialect| dialect.encoding = Encoding::Latin1);
    assert_eq!(latin.read().expect("read").rows, ["1|café", "3|ok"]);
    let windows = Case::csv(b"a\n\x80\n").column("a", "text").with(|dialect| dialect.encoding = Encoding::Windows1252);
    assert_eq!(windows.rows(), ["€"]);
}

fn utf16(text: &str, mark: bool, big: bool) -> Vec<u8> {
    let units = mark.then_some(0xfeff).into_iter().chain(text.encode_utf16());
    units.flat_map(|unit| if big { unit.to_be_bytes() } else { unit.to_le_bytes() }).collect()
}

#[test]
fn a_byte_order_mark_wins_and_wide_text_is_not_guessed() {
    assert_eq!(Case::csv("\u{feff}a\n1\n").column("a", "integer").rows(), ["1"]);
    assert_eq!(Case::csv("\u{feff}\"a\"\nx\n").column("a", "integer").read().expect("read").rejected[0].byte_offset, 7);
    let text = "a,b\n1,é😀\n";
    for big in [false, true] {
        let marked = Case::csv(utf16(text, true, big)).column("a", "integer").column("b", "text");
        assert_eq!(marked.rows(), ["1|é😀"]);
        let bare = Case::csv(utf16(text, false, big)).column("a", "integer").column("b", "text");
        assert_eq!(bare.failure(), "a.csv:1: `a.csv` looks like UTF-16 without a byte order mark");
        assert_eq!(bare.with(|dialect| dialect.encoding = Encoding::Utf16).rows(), ["1|é😀"]);
    }
    let mut half = utf16("a\nx", true, false);
    half.extend([0x00, 0xd8, b'x', 0]);
    assert!(Case::csv(half).column("a", "text").failure().contains("is not valid UTF-16LE before byte"));
    let mut odd = utf16("a\nx", true, false);
    odd.push(b'\n');
    assert!(Case::csv(odd).column("a", "text").failure().contains("is not valid UTF-16LE"));
    let last = Case::csv("\u{feff}a\n1\n").column("a", "integer").with(|dialect| dialect.encoding = Encoding::Latin1);
    assert_eq!(last.rows(), ["1"]);
}

#[test]
fn headers_are_matched_by_name_in_each_file() {
    let case = Case::csv("a,b\n1,x\n").file("b.csv", "B,A\ny,2\n").column("a", "integer").column("b", "text");
    assert_eq!(case.rows(), ["1|x", "2|y"]);
    let duplicate = Case::csv("id,name,Id\n").column("id", "text");
    assert_eq!(duplicate.failure(), "a.csv:1:9: columns 1 and 3 have the same name `Id`");
    let renamed = Case::csv("Order ID;x\n7;1\n")
        .column("order_id", "integer")
        .contract(SchemaContract::DiscardValue)
        .with(|dialect| dialect.marks.delimiter = b';');
    let mut renamed = renamed;
    renamed.columns[0].from = "order id".to_owned();
    assert_eq!(renamed.rows(), ["7"]);
}

#[test]
fn a_missing_column_is_null_with_a_warning_or_a_failure() {
    let case = Case::csv("a,b\n1,x\n").file("b.csv", "a\n2\n").column("a", "integer").column("b", "text");
    assert_eq!(case.rows(), ["1|x", "2|∅"]);
    assert_eq!(case.resolve().expect("resolved").warnings, ["`b.csv` has no column `b`: its rows get NULL"]);
    let required = Case::csv("a\n1\n").column("a", "integer").required("b", "text");
    assert_eq!(required.failure(), "a.csv:1:1: column `b` is missing and may not be NULL");
}

#[test]
fn the_contract_decides_about_unexpected_columns() {
    let case = |contract| Case::csv("a,b,c\n1,2,\n3,4,x\n").column("a", "integer").column("b", "integer").contract(contract);
    let frozen = case(SchemaContract::Freeze).read().expect_err("frozen");
    assert_eq!((frozen.to_string().as_str(), frozen.kind), ("a.csv:1:5: column `c` is not expected", FailureKind::Rejected));
    assert_eq!(case(SchemaContract::Evolve).rows(), ["1|2|∅", "3|4|x"]);
    assert_eq!(case(SchemaContract::DiscardValue).rows(), ["1|2", "3|4"]);
    for contract in [SchemaContract::Quarantine, SchemaContract::DiscardRow] {
        assert_eq!(case(contract).errors(), ["3:5: column `c` is not expected and holds `x`"]);
        assert_eq!(case(contract).read().expect("read").rows, ["1|2"]);
    }
}

#[test]
fn no_records_are_no_rows() {
    for text in ["", "a,b", "a,b\n", "\u{feff}", "\n\n"] {
        let outcome = Case::csv(text).column("a", "integer").column("b", "text").read().expect(text);
        assert_eq!((outcome.read, outcome.rows.len()), (0, 0), "{text:?}");
    }
    assert_eq!(Case::csv("").read().expect("nothing").read, 0);
    let bare = Case::csv("").with(|dialect| dialect.header = false);
    assert_eq!(bare.failure(), "files without a header need declared columns");
}

#[test]
fn an_unterminated_quote_is_a_failure_with_its_place() {
    let case = Case::csv("a,b\n1,x\n2, \"y\n3,\"z\n4,w\n5,v\n").column("a", "integer").column("b", "text");
    assert_eq!(case.failure(), "a.csv:4:3: a quote opens here and is not closed before the end of the file");
    let mut long = b"a,b\n1,\"x\n".to_vec();
    long.resize(20 << 20, b'y');
    assert_eq!(
        Case::csv(long).column("a", "integer").column("b", "text").failure(),
        "a.csv:2:3: a quote opens here and is not closed within 16 MiB"
    );
    let mut endless = b"a\nx\n".to_vec();
    endless.resize(20 << 20, b'y');
    assert_eq!(Case::csv(endless).column("a", "text").failure(), "a.csv:3:1: a record starts here and does not end within 16 MiB");
}

#[test]
fn a_long_text_is_kept_cut_with_a_mark() {
    let case = Case::csv(format!("a\n{}\n", "é".repeat(9000))).column("a", "integer");
    let rejected = &case.read().expect("read").rejected[0];
    assert!(rejected.raw.len() <= 8192 + 3 && rejected.raw.ends_with('…') && rejected.error.ends_with("é…`"), "{}", rejected.error);
    let just = Case::csv(format!("a\n{}\n", "x".repeat(8192))).column("a", "integer");
    assert!(just.read().expect("read").rejected[0].raw.len() == 8192);
}

#[test]
fn declared_forms_of_dates_are_followed() {
    let mut case = Case::csv("d\n20/11/2026\n2026-11-20\n").column("d", "date");
    case.columns[0].format = Some("%d/%m/%Y".to_owned());
    assert_eq!(case.read().expect("read").rows, ["2026-11-20"]);
    assert_eq!(case.errors(), ["3:1 d: expected date written as `%d/%m/%Y`, found `2026-11-20`"]);
}
