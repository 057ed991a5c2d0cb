//! Properties: what is read does not depend on how it came in, and nothing is lost on the way.

use proptest::prelude::*;

use super::Case;
use crate::source::field::{CellKind, cut, unescape};
use crate::source::split::{Marks, Record, Splitter};

/// Fields of one record, or none when text follows a closing quote.
type Fields = Option<Vec<String>>;

/// One byte at a time, by the rules of the documentation and nothing else.
fn naive(text: &[u8], marks: Marks) -> Option<Vec<Fields>> {
    let (mut records, mut fields, mut field) = (Vec::new(), Vec::new(), Vec::new());
    let (mut at, mut fresh, mut bad, mut any) = (0, true, false, false);
    let quote = marks.quote.unwrap_or(0);
    let string = |bytes: &mut Vec<u8>| String::from_utf8_lossy(&std::mem::take(bytes)).into_owned();
    while at < text.len() {
        let byte = text[at];
        if fresh && marks.quote == Some(byte) {
            any = true;
            at += 1;
            loop {
                let byte = *text.get(at)?;
                let next = text.get(at + 1).copied();
                let escapes = marks.escape == Some(byte) && next.is_some_and(|next| next == quote || Some(next) == marks.escape);
                if escapes || marks.escape.is_none() && byte == quote && next == Some(quote) {
                    field.push(next?);
                    at += 2;
                } else if byte == quote {
                    at += 1;
                    break;
                } else {
                    field.push(byte);
                    at += 1;
                }
            }
            fresh = false;
            bad |= text.get(at).is_some_and(|byte| *byte != marks.delimiter && !matches!(byte, b'\n' | b'\r'));
            continue;
        }
        at += 1;
        fresh = byte == marks.delimiter || matches!(byte, b'\n' | b'\r');
        if byte == marks.delimiter {
            fields.push(string(&mut field));
            any = true;
        } else if matches!(byte, b'\n' | b'\r') {
            at += usize::from(byte == b'\r' && text.get(at) == Some(&b'\n'));
            if any {
                fields.push(string(&mut field));
                records.push((!std::mem::take(&mut bad)).then(|| std::mem::take(&mut fields)));
                fields.clear();
            }
            any = false;
        } else {
            field.push(byte);
            any = true;
        }
    }
    if any {
        fields.push(string(&mut field));
        records.push((!bad).then_some(fields));
    }
    Some(records)
}

/// The splitter, fed in pieces, and the cutter.
fn real(text: &[u8], marks: Marks, pieces: &[usize], most: usize) -> Option<Vec<Fields>> {
    let mut splitter = Splitter::csv(marks);
    let mut out = Vec::new();
    let (mut buffer, mut fed, mut piece) = (Vec::new(), 0, 0);
    loop {
        let last = fed == text.len();
        loop {
            let mut records: Vec<Record> = Vec::new();
            let more = splitter.scan(&buffer, last, most, &mut records);
            for record in &records {
                let mut cells = Vec::new();
                let is_cut = cut(&buffer, *record, marks, &mut cells).is_ok();
                let text = |cell: &crate::source::field::Cell| {
                    let content = cell.bytes(&buffer);
                    let content = if cell.kind == CellKind::Escaped { unescape(content, marks) } else { content.into() };
                    String::from_utf8_lossy(&content).into_owned()
                };
                out.push(is_cut.then(|| cells.iter().map(text).collect()));
            }
            if !more.ok()? {
                break;
            }
        }
        if last {
            return Some(out);
        }
        let start = splitter.start();
        buffer.drain(..start);
        splitter.shift(start);
        let size = pieces.get(piece % pieces.len().max(1)).copied().unwrap_or(1).clamp(1, text.len() - fed);
        buffer.extend_from_slice(&text[fed..fed + size]);
        fed += size;
        piece += 1;
    }
}

fn marks() -> impl Strategy<Value = Marks> {
    let escape = prop_oneof![Just(None), Just(Some(b'\\'))];
    (prop_oneof![Just(b','), Just(b'|')], prop_oneof![3 => Just(Some(b'"')), 1 => Just(None)], escape)
        .prop_map(|(delimiter, quote, escape)| Marks { delimiter, quote, escape: escape.filter(|_| quote.is_some()) })
}

/// A field as it is written.
fn written(field: &Option<String>, force: bool) -> String {
    match field {
        None => String::new(),
        Some(text) if force || text.is_empty() || text.contains([',', '"', '\n', '\r']) => format!("\"{}\"", text.replace('"', "\"\"")),
        Some(text) => text.clone(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn splitting_agrees_with_a_naive_reader_however_the_text_is_cut(
        text in "[a\",|\\\\\n\r ]{0,60}", marks in marks(), pieces in prop::collection::vec(1_usize..9, 1..6), most in 1_usize..5,
    ) {
        prop_assert_eq!(real(text.as_bytes(), marks, &pieces, most), naive(text.as_bytes(), marks));
    }

    #[test]
    fn any_bytes_are_split_without_panic(text in prop::collection::vec(any::<u8>(), 0..200), marks in marks(), pieces in prop::collection::vec(1_usize..50, 1..4)) {
        prop_assert_eq!(real(&text, marks, &pieces, 3), real(&text, marks, &[1000], 1000));
    }

    #[test]
    fn an_array_is_split_alike_however_it_is_cut(text in "[\\[\\]{}\",:1a\\\\ \n]{0,40}", size in 1_usize..9) {
        prop_assert_eq!(array(text.as_bytes(), size), array(text.as_bytes(), 1000));
    }

    #[test]
    fn a_valid_array_is_split_into_its_elements(values in prop::collection::vec(json(), 0..6), size in 1_usize..9) {
        let text = serde_json::to_string_pretty(&values).expect("written");
        let found = array(text.as_bytes(), size).expect("valid");
        let found: Vec<serde_json::Value> = found.iter().map(|text| serde_json::from_slice(text).expect("valid")).collect();
        if let [serde_json::Value::Object(_)] = values.as_slice() { /* one object in an array is one record as well */ }
        prop_assert_eq!(found, values);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn a_written_table_is_read_back(
        table in prop::collection::vec(prop::collection::vec(prop::option::of("[a-z0-9é,\"\n\r\\\\|]{0,12}"), 3), 0..40),
        end in prop_oneof![Just("\n"), Just("\r\n"), Just("\r")], force in any::<bool>(),
    ) {
        let mut text = format!("a,b,c{end}");
        for row in &table {
            let fields: Vec<String> = row.iter().map(|field| written(field, force)).collect();
            text.push_str(&fields.join(","));
            text.push_str(end);
        }
        let expected: Vec<String> = table.iter().map(|row| row.iter().map(|field| field.as_deref().unwrap_or("∅")).collect::<Vec<_>>().join("|")).collect();
        prop_assert_eq!(Case::csv(text).column("a", "text").column("b", "text").column("c", "text").rows(), expected);
    }

    #[test]
    fn random_files_are_read_or_fail_but_always_balance(bytes in prop::collection::vec(any::<u8>(), 0..300), kind in 0..3) {
        let case = match kind {
            0 => Case::csv([b"a,b\n", bytes.as_slice()].concat()),
            1 => Case::jsonl(bytes),
            _ => Case::json([b"[", bytes.as_slice()].concat()),
        };
        // `read` asserts that each batch balances.
        let _ = case.column("a", "decimal(10,2)").column("b", "timestamptz").read();
    }

    #[test]
    fn likely_records_balance_and_keep_their_numbers(text in "[1a\",\n\r\\-. ]{0,200}") {
        let outcome = Case::csv(format!("a,b\n{text}")).column("a", "integer").column("b", "decimal(9,1)").read();
        if let Ok(outcome) = outcome {
            let mut numbers: Vec<u64> = outcome.numbers.iter().map(|number| number.cast_unsigned()).chain(outcome.rejected.iter().map(|one| one.row)).collect();
            numbers.sort_unstable();
            prop_assert_eq!(numbers, (1..=outcome.read).collect::<Vec<u64>>());
        }
    }

    #[test]
    fn json_is_valid_here_when_it_is_valid_to_serde(text in "[\\[\\]{}\",:1a.e\\-+tru0 \\\\]{0,12}") {
        let theirs = serde_json::from_str::<serde_json::Value>(&text).is_ok();
        // Numbers past the range of a double are text to us, no error.
        if theirs || !text.contains('e') {
            prop_assert_eq!(crate::source::json::is_valid(text.as_bytes()), theirs);
        }
    }
}

fn json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        "[a\"\\\\{}\\[\\],]{0,6}".prop_map(Into::into)
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
            prop::collection::vec(("[a-c]", inner), 0..4).prop_map(|members| serde_json::Value::Object(members.into_iter().collect())),
        ]
    })
}

fn array(text: &[u8], size: usize) -> Option<Vec<Vec<u8>>> {
    let mut splitter = Splitter::array();
    let mut out = Vec::new();
    let (mut buffer, mut fed) = (Vec::new(), 0);
    loop {
        let last = fed == text.len();
        loop {
            let mut records: Vec<Record> = Vec::new();
            let more = splitter.scan(&buffer, last, 2, &mut records);
            out.extend(records.iter().map(|record| buffer[record.start as usize..record.end as usize].to_vec()));
            if !more.ok()? {
                break;
            }
        }
        if last {
            return Some(out);
        }
        let start = splitter.start();
        buffer.drain(..start);
        splitter.shift(start);
        let size = size.min(text.len() - fed);
        buffer.extend_from_slice(&text[fed..fed + size]);
        fed += size;
    }
}
