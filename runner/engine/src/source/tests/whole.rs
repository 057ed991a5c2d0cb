//! Text that is loaded whole: what is said of it beforehand, and the parts that it becomes.

use std::fs;

use errand_model::document::step::{Compression, Encoding, Format};
use tokio_util::sync::CancellationToken;

use super::Case;
use crate::source::{Chunked, Rechunk, Surveyed, survey};

/// Parts of all files as one group, and how many records each file has.
fn parts(case: &Case, fields: usize, metadata: bool, part_bytes: u64) -> (Vec<Chunked>, Vec<u64>) {
    let files: Vec<_> = case.entries().into_iter().enumerate().collect();
    let mut counts = vec![0; files.len()];
    let groups = vec![(fields, files)];
    let rechunk = Rechunk::of(case.dialect.clone(), groups, metadata, CancellationToken::new()).with_part_bytes(part_bytes);
    let mut parts = Vec::new();
    let mut put = |part: Chunked| {
        parts.push(part);
        true
    };
    rechunk.run(&mut put, &mut |file, rows, _| counts[file] += rows).expect("cut");
    (parts, counts)
}

/// The rows of parts, read as Errand reads text.
fn reread(case: &Case, parts: &[Chunked], columns: &[&str]) -> Vec<String> {
    let mut again = Case::new(Format::Csv).with(|dialect| {
        dialect.marks = case.dialect.marks;
        dialect.header = false;
    });
    for column in columns {
        again = again.column(column, "text");
    }
    for (number, part) in parts.iter().enumerate() {
        again = again.file(&format!("{number:03}.csv.zst"), fs::read(&part.file).expect("the part is there"));
    }
    again.rows()
}

#[test]
fn parts_hold_the_records_of_their_files() {
    let latin: Vec<u8> = "a;b;\r\"x;\n\u{e4}\";1;\r\r y ;;\r".chars().map(|c| u8::try_from(c).expect("latin")).collect();
    let case = Case::csv(&latin).file("b.csv", "a;b;\r\n\"\";\"q\"\"q\";\r\nlast;9;").with(|dialect| {
        dialect.marks.delimiter = b';';
        dialect.trailing_delimiter = true;
        dialect.encoding = Encoding::Latin1;
    });
    let (parts, counts) = parts(&case, 2, true, 1 << 20);
    assert_eq!((parts.len(), parts[0].rows, counts), (1, 4, vec![2, 2]));
    let rows = reread(&case, &parts, &["a", "b", "source", "row"]);
    assert_eq!(rows, ["x;\nä|1|a.csv|1", " y |∅|a.csv|2", "|q\"q|b.csv|1", "last|9|b.csv|2"]);
    let bare = reread(&case, &super::whole::parts(&case, 2, false, 1 << 20).0, &["a", "b"]);
    assert_eq!(bare, ["x;\nä|1", " y |∅", "|q\"q", "last|9"]);
}

#[test]
fn parts_end_between_records_and_are_the_same_each_time() {
    let text: String = std::iter::once("a,b\n".to_owned()).chain((0..50_000).map(|row| format!("{row},\"{row}\nx\"\n"))).collect();
    let case = Case::csv(text);
    let (first, counts) = parts(&case, 2, true, 100_000);
    let (second, _) = parts(&case, 2, true, 100_000);
    assert!(first.len() > 3, "{}", first.len());
    assert_eq!(counts, [50_000]);
    let digests = |parts: &[Chunked]| parts.iter().map(|part| (part.sha256.clone(), part.rows, part.bytes)).collect::<Vec<_>>();
    assert_eq!(digests(&first), digests(&second));
    let rows = reread(&case, &first, &["a", "b", "source", "row"]);
    assert_eq!((rows.len(), rows[49_999].as_str()), (50_000, "49999|49999\nx|a.csv|50000"));
}

#[test]
fn what_is_no_text_is_not_copied() {
    for text in [&b"a,b\n1,\xff\n"[..], b"a,b\n1,\0\n", b"a,b\n1,\"x\n"] {
        let case = Case::csv(text);
        let groups = vec![(2, case.entries().into_iter().enumerate().collect())];
        let rechunk = Rechunk::of(case.dialect.clone(), groups, true, CancellationToken::new());
        let failure = rechunk.run(&mut |_| true, &mut |_, _, _| {}).expect_err("refused");
        assert_eq!(failure.kind, errand_model::failure::FailureKind::Rejected, "{failure}");
    }
}

fn surveyed(case: &Case) -> Result<Vec<Surveyed>, String> {
    let resolved = case.resolve().expect("columns");
    survey::text(&case.entries(), &case.dialect, &resolved, case.contract).expect("surveyed")
}

#[test]
fn the_first_lines_tell_fields_and_line_ends() {
    let case = |text: &str| Case::csv(text).column("a", "text").column("b", "text");
    let one = |text: &str| surveyed(&case(text)).expect("as it is").remove(0);
    let found = one("B,a\r\n1,2\r\n");
    assert_eq!(found.columns, [(1, "b".to_owned()), (0, "a".to_owned())]);
    assert_eq!((found.rows, found.is_plain, found.compression), (None, true, Compression::None));
    for (text, rows, is_plain) in [
        ("a,b\n", Some(0), true),
        ("", Some(0), true),
        ("\u{feff}a,b\n1,2", None, true),
        ("\na,b\n1,2\n", None, false),
        ("a,b\r1,2\r", None, false),
        ("\"a\",b\n1,2\n", None, true),
    ] {
        assert_eq!((one(text).rows, one(text).is_plain), (rows, is_plain), "{text:?}");
    }
    let wide = Case::csv(b"\xff\xfea\0,\0b\0\n\x001\0,\x002\0\n\0").column("a", "text").column("b", "text");
    assert!(!surveyed(&wide).expect("as it is")[0].is_plain);
}

#[test]
fn values_that_must_be_looked_at_are_named() {
    let typed = Case::csv("a,b\n1,2\n").column("a", "text").column("b", "bigint");
    assert_eq!(surveyed(&typed).expect_err("named"), "column `b` is `bigint`, and each value is looked at");
    let unwanted = Case::csv("a,b\n1,2\n").column("a", "text").contract(errand_model::document::step::SchemaContract::DiscardValue);
    assert_eq!(surveyed(&unwanted).expect_err("named"), "`a.csv`: field 2 is no column");
}
