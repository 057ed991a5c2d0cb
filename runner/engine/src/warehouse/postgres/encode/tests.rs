//! The encoder against what the format says, read by code of its own.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray,
    Time64MicrosecondArray, TimestampMicrosecondArray,
};
use errand_model::job::TableName;
use errand_model::value::ColumnType;
use proptest::prelude::*;

use super::Encoder;
use super::numeric::Numeric;
use crate::warehouse::AppendTarget;
use crate::warehouse::postgres::decode::Decoder;

fn target(columns: &[(&str, ColumnType)]) -> AppendTarget {
    let columns = columns.iter().map(|(name, kind)| ((*name).to_owned(), *kind)).collect();
    AppendTarget { table: TableName { schema: None, name: "t".to_owned() }, columns }
}

fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true))).expect("a batch")
}

fn encoded(target: &AppendTarget, rows: &RecordBatch) -> Result<Vec<u8>, errand_model::failure::Failure> {
    let mut out = Vec::new();
    Encoder::new(target).encode(rows, &mut out, |_| true).map(|()| out)
}

/// The decimal text of a `numeric` cell, digit by digit.
fn text_of_numeric(cell: &[u8]) -> String {
    let word = |at: usize| i16::from_be_bytes([cell[at], cell[at + 1]]);
    let (count, weight, sign, scale) = (word(0), word(2), word(4), usize::try_from(word(6)).expect("a scale"));
    assert_eq!(cell.len(), 8 + 2 * usize::try_from(count).expect("a count"));
    let group = |at: i16| if (0..count).contains(&at) { word(8 + 2 * usize::try_from(at).expect("an index")) } else { 0 };
    assert!((0..count).all(|at| (0..10_000).contains(&group(at))));
    let whole: String = (0..=weight.max(0)).map(|at| format!("{:04}", if weight < 0 { 0 } else { group(at) })).collect();
    let behind: String = (0..12).map(|at| format!("{:04}", group(weight + 1 + at))).collect();
    assert!(behind[scale..].bytes().all(|digit| digit == b'0'), "digits behind the scale: {behind}");
    let whole = whole.trim_start_matches('0');
    let whole = if whole.is_empty() { "0" } else { whole };
    let minus = if sign == 0x4000 { "-" } else { "" };
    if scale == 0 { format!("{minus}{whole}") } else { format!("{minus}{whole}.{}", &behind[..scale]) }
}

fn text_of_decimal(value: i128, scale: usize) -> String {
    let digits = format!("{:0>width$}", value.unsigned_abs(), width = scale + 1);
    let (whole, behind) = digits.split_at(digits.len() - scale);
    let minus = if value < 0 { "-" } else { "" };
    if scale == 0 { format!("{minus}{whole}") } else { format!("{minus}{whole}.{behind}") }
}

fn check_numeric(value: i128, scale: u8) {
    let numeric = Numeric::new(scale);
    let mut out = [0xaa; 64];
    let size = numeric.write(value, &mut out);
    assert_eq!(size, 12 + 2 * numeric.groups(value), "{value} at {scale}");
    assert_eq!(u32::from_be_bytes(*out.first_chunk().expect("a length")) as usize, size - 4);
    assert_eq!(text_of_numeric(&out[4..size]), text_of_decimal(value, usize::from(scale)), "{value} at {scale}");
}

#[test]
fn numbers_at_every_edge_keep_every_digit() {
    for scale in 0..=38 {
        check_numeric(0, scale);
        for digits in 0..=37 {
            let ten = 10_i128.pow(digits);
            for value in [ten, ten - 1, ten + 1, -ten, ten * 9 + ten / 3] {
                check_numeric(value, scale);
            }
        }
        for value in [10_i128.pow(38) - 1, 1 - 10_i128.pow(38), i128::from(u64::MAX), i128::from(u64::MAX) + 1, i128::from(u64::MAX) - 1] {
            check_numeric(value, scale);
        }
    }
}

proptest! {
    #[test]
    fn numbers_keep_every_digit(value in -(10_i128.pow(38) - 1)..10_i128.pow(38), cut in 0_u32..38, scale in 0_u8..=38) {
        check_numeric(value / 10_i128.pow(cut), scale);
    }

    #[test]
    fn what_is_encoded_is_decoded_to_the_same_rows(
        rows in prop::collection::vec((any::<Option<bool>>(), any::<Option<i32>>(), any::<Option<i64>>(), any::<Option<f64>>(),
            prop::option::of("[^\\x00]{0,20}"), prop::option::of(-(10_i128.pow(20) - 1)..10_i128.pow(20))), 0..600),
        cut in 1_usize..400,
    ) {
        let rows = batch(vec![
            ("a", Arc::new(BooleanArray::from_iter(rows.iter().map(|row| row.0)))),
            ("b", Arc::new(Int32Array::from_iter(rows.iter().map(|row| row.1)))),
            ("c", Arc::new(Int64Array::from_iter(rows.iter().map(|row| row.2)))),
            ("d", Arc::new(Float64Array::from_iter(rows.iter().map(|row| row.3)))),
            ("e", Arc::new(StringArray::from_iter(rows.iter().map(|row| row.4.clone())))),
            ("f", Arc::new(Decimal128Array::from_iter(rows.iter().map(|row| row.5)).with_precision_and_scale(20, 7).expect("a type"))),
            ("g", Arc::new(Date32Array::from_iter(rows.iter().map(|row| row.1.map(|days| days / 1000))))),
            ("h", Arc::new(Time64MicrosecondArray::from_iter(rows.iter().map(|row| row.2.map(|time| time.rem_euclid(86_400_000_000)))))),
            ("i", Arc::new(TimestampMicrosecondArray::from_iter(rows.iter().map(|row| row.2.map(|time| time / 16))))),
            ("j", Arc::new(TimestampMicrosecondArray::from_iter(rows.iter().map(|row| row.2.map(|time| time / 16))).with_timezone("UTC"))),
        ]);
        check_both_ways(&rows, cut);
    }
}

fn check_both_ways(rows: &RecordBatch, cut: usize) {
    let kinds = [
        ("a", ColumnType::Boolean),
        ("b", ColumnType::Integer),
        ("c", ColumnType::Bigint),
        ("d", ColumnType::Double),
        ("e", ColumnType::Text),
        ("f", ColumnType::Decimal(20, 7)),
        ("g", ColumnType::Date),
        ("h", ColumnType::Time),
        ("i", ColumnType::Timestamp),
        ("j", ColumnType::Timestamptz),
    ];
    let target = target(&kinds);
    let mut stream = super::HEADER.to_vec();
    stream.extend(encoded(&target, rows).expect("encoded"));
    stream.extend_from_slice(super::TRAILER);
    let mut decoder = Decoder::new(&target.columns);
    let mut batches = Vec::new();
    for piece in stream.chunks(cut) {
        decoder
            .push(piece, |batch| {
                batches.push(batch);
                Ok(())
            })
            .expect("decoded");
    }
    assert!(!decoder.is_cut());
    batches.extend(decoder.finish().expect("the last rows"));
    let back = arrow::compute::concat_batches(&rows.schema(), &batches).expect("one batch");
    assert_eq!(&back, rows);
}

#[test]
fn a_row_is_its_width_and_its_cells() {
    let target = target(&[("n", ColumnType::Integer), ("j", ColumnType::Json), ("d", ColumnType::Date)]);
    let rows = batch(vec![
        ("n", Arc::new(Int32Array::from(vec![Some(-2), None]))),
        ("j", Arc::new(StringArray::from(vec![None, Some("{}")]))),
        ("d", Arc::new(Date32Array::from(vec![Some(10_957), Some(0)]))),
    ]);
    let mut expected = b"\0\x03\0\0\0\x04\xff\xff\xff\xfe\xff\xff\xff\xff\0\0\0\x04\0\0\0\0".to_vec();
    expected.extend_from_slice(b"\0\x03\xff\xff\xff\xff\0\0\0\x03\x01{}\0\0\0\x04");
    expected.extend_from_slice(&(-10_957_i32).to_be_bytes());
    assert_eq!(encoded(&target, &rows).expect("encoded"), expected);
}

#[test]
fn text_with_a_nul_is_refused_with_its_column_and_row() {
    let target = target(&[("note", ColumnType::Text)]);
    let texts: Vec<String> = (0..700).map(|row| if row == 600 { "a\0b".to_owned() } else { "fine".to_owned() }).collect();
    let failure = encoded(&target, &batch(vec![("note", Arc::new(StringArray::from(texts)))])).expect_err("refused");
    assert_eq!(failure.code, "warehouse::value");
    assert_eq!(failure.message, "column `note` of `t` cannot hold the text of row 601: it has a NUL byte");
}

#[test]
fn values_of_another_type_are_a_defect_and_not_written() {
    let failure = encoded(&target(&[("n", ColumnType::Integer)]), &batch(vec![("n", Arc::new(Int64Array::from(vec![1])))]));
    assert_eq!(failure.expect_err("refused").code, "warehouse::internal");
}

#[test]
fn slices_of_batches_are_encoded_from_their_own_first_row() {
    let kinds = target(&[("s", ColumnType::Text), ("f", ColumnType::Decimal(9, 2))]);
    let texts = StringArray::from(vec![Some("one"), None, Some("three"), Some("four")]);
    let numbers = Decimal128Array::from(vec![Some(1), Some(22_222), None, Some(-4)]).with_precision_and_scale(9, 2).expect("a type");
    let whole = batch(vec![("s", Arc::new(texts)), ("f", Arc::new(numbers))]);
    let mut parts = encoded(&kinds, &whole.slice(0, 2)).expect("encoded");
    parts.extend(encoded(&kinds, &whole.slice(2, 2)).expect("encoded"));
    assert_eq!(parts, encoded(&kinds, &whole).expect("encoded"));
}
