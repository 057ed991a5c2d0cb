//! Compression, threads, memory: what happens to whole files.

use std::io::Write;

use errand_model::document::step::Compression;
use errand_model::failure::FailureKind;
use tokio_util::sync::CancellationToken;

use super::Case;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("compressed");
    encoder.finish().expect("compressed")
}

fn big(rows: usize) -> String {
    let mut text = "id,name\n".to_owned();
    text.extend((0..rows).map(|row| format!("{row},\"some \"\"quoted\"\", text é\n of row {row}\"\n")));
    text
}

#[test]
fn compressed_files_of_several_members_are_read_whole() {
    let members = [gzip(b"a,b\n1,x\n2,"), gzip(b"y\n"), gzip(b"3,z\n")].concat();
    let frames =
        [zstd::encode_all(&b"a,b\n1,x\n2,"[..], 1).expect("compressed"), zstd::encode_all(&b"y\n3,z\n"[..], 1).expect("compressed")]
            .concat();
    for (name, bytes) in [("a.csv.gz", members.clone()), ("a.csv.ZST", frames)] {
        let case = Case::new(errand_model::document::step::Format::Csv).file(name, bytes).column("a", "integer").column("b", "text");
        assert_eq!(case.rows(), ["1|x", "2|y", "3|z"], "{name}");
    }
    let declared = Case::csv(&members).column("a", "integer").column("b", "text");
    assert_eq!(declared.failure(), "a.csv:1: `a.csv` looks like gzip");
    assert_eq!(declared.with(|dialect| dialect.compression = Compression::Gzip).rows().len(), 3);
}

#[test]
fn a_truncated_or_damaged_file_fails_and_says_how_far_it_came() {
    let whole = gzip(big(50_000).as_bytes());
    let mut damaged = whole.clone();
    damaged[whole.len() / 2..][..64].fill(0x55);
    for bytes in [&whole[..whole.len() - 4], &whole[..whole.len() / 2], &damaged[..], &b"not gzip at all"[..], &b""[..]] {
        let case =
            Case::new(errand_model::document::step::Format::Csv).file("a.csv.gz", bytes).column("id", "integer").column("name", "text");
        let failure = case.read().expect_err("damaged");
        assert_eq!((failure.kind, failure.code.as_str()), (FailureKind::Rejected, "source::unreadable"));
        assert!(failure.message.starts_with("cannot read `a.csv.gz` past its first"), "{failure}");
    }
    let frame = zstd::encode_all(big(50_000).as_bytes(), 1).expect("compressed");
    let case = Case::new(errand_model::document::step::Format::Csv)
        .file("a.csv.zst", &frame[..frame.len() / 2])
        .column("id", "integer")
        .column("name", "text");
    assert_eq!(case.read().expect_err("damaged").code, "source::unreadable");
}

#[test]
fn batches_come_in_the_order_of_files_and_records() {
    let case = Case::csv(big(60_000)).file("b.csv", big(3)).file("c.csv", big(60_000)).column("id", "integer").column("name", "text");
    let outcome = case.read().expect("read");
    let expected: Vec<i64> = (1..=60_000).chain(1..=3).chain(1..=60_000).collect();
    assert_eq!(outcome.numbers, expected);
    assert!(outcome.rows[59_999].ends_with("of row 59999") && outcome.read == 120_003);
}

#[test]
fn a_dropped_or_cancelled_reader_ends_its_threads() {
    let case = Case::csv(big(400_000)).column("id", "integer").column("name", "text");
    let resolved = case.resolve().expect("resolved");
    let mut reader = case.reader(&resolved, CancellationToken::new());
    assert!(reader.next().is_some_and(|batch| batch.is_ok()) && reader.bytes_read() > 0 && reader.files().len() == 1);
    drop(reader);
    let cancel = CancellationToken::new();
    let mut reader = case.reader(&resolved, cancel.clone());
    assert!(reader.next().is_some_and(|batch| batch.is_ok()));
    cancel.cancel();
    assert_eq!(reader.next().expect("a last word").expect_err("cancelled").kind, FailureKind::Cancelled);
    assert!(reader.next().is_none());
}

#[test]
fn a_file_that_changed_since_it_was_listed_is_not_trusted() {
    let case = Case::csv("a\n1\n").column("a", "integer");
    let resolved = case.resolve().expect("resolved");
    let entries = case.entries();
    std::fs::write(case.root().join("a.csv"), "a\n1\n2\n").expect("written");
    let plan = crate::source::parse::Plan::new(case.dialect.clone(), resolved, case.contract);
    let mut reader = crate::source::Reader::begin(entries, plan, CancellationToken::new());
    let failure = std::iter::from_fn(|| reader.next()).find_map(Result::err).expect("changed");
    assert_eq!((failure.kind, failure.code.as_str()), (FailureKind::Transient, "source::changed"));
}
