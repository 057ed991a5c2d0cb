//! What the decoder refuses, and streams cut anywhere.

use errand_model::value::ColumnType;

use super::{Decoder, HEADER};

fn stream(cells: &[Option<&[u8]>]) -> Vec<u8> {
    let mut out = HEADER.to_vec();
    out.extend_from_slice(&i16::try_from(cells.len()).expect("few").to_be_bytes());
    for cell in cells {
        let length = cell.map_or(-1, |cell| i32::try_from(cell.len()).expect("short"));
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(cell.unwrap_or_default());
    }
    out.extend_from_slice(b"\xff\xff");
    out
}

fn refusal(kind: ColumnType, cell: &[u8]) -> errand_model::failure::Failure {
    let mut decoder = Decoder::new(&[("c".to_owned(), kind)]);
    decoder.push(&stream(&[Some(cell)]), |_| Ok(())).expect_err("refused")
}

fn numeric(groups: &[u16], weight: i16, sign: u16, scale: u16) -> Vec<u8> {
    let mut out = u16::try_from(groups.len()).expect("few").to_be_bytes().to_vec();
    out.extend_from_slice(&weight.to_be_bytes());
    out.extend_from_slice(&sign.to_be_bytes());
    out.extend_from_slice(&scale.to_be_bytes());
    groups.iter().for_each(|group| out.extend_from_slice(&group.to_be_bytes()));
    out
}

#[test]
fn values_without_a_place_elsewhere_are_refused_by_column() {
    let cases = [
        (ColumnType::Decimal(9, 2), numeric(&[], 0, 0xC000, 0), "NaN"),
        (ColumnType::Date, i32::MAX.to_be_bytes().to_vec(), "infinity"),
        (ColumnType::Timestamptz, i64::MIN.to_be_bytes().to_vec(), "-infinity"),
    ];
    for (kind, cell, what) in cases {
        let failure = refusal(kind, &cell);
        assert_eq!(failure.code, "warehouse::value");
        assert_eq!(failure.message, format!("column `c` holds `{what}`, which has no place outside of this warehouse"));
    }
}

#[test]
fn digits_beyond_the_type_are_never_dropped() {
    assert_eq!(refusal(ColumnType::Decimal(4, 2), &numeric(&[1, 2345], 0, 0, 4)).code, "warehouse::value");
    assert_eq!(refusal(ColumnType::Decimal(3, 2), &numeric(&[12], 0, 0, 0)).code, "warehouse::value");
    assert_eq!(refusal(ColumnType::Decimal(38, 0), &numeric(&[1], 30, 0, 0)).code, "warehouse::value");
}

#[test]
fn a_stream_cut_in_the_middle_is_known_as_such() {
    let whole = stream(&[Some(b"text"), None]);
    let columns = [("a".to_owned(), ColumnType::Text), ("b".to_owned(), ColumnType::Bigint)];
    for cut in 0..whole.len() {
        let mut decoder = Decoder::new(&columns);
        decoder.push(&whole[..cut], |_| Ok(())).expect("so far so good");
        assert!(decoder.is_cut(), "{cut}");
        decoder.push(&whole[cut..], |_| Ok(())).expect("the rest");
        assert!(!decoder.is_cut());
        assert_eq!(decoder.finish().expect("rows").map(|batch| batch.num_rows()), Some(1));
    }
}
