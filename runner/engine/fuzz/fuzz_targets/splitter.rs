//! Any bytes are split into the same records however they arrive, and cutting them never panics.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[allow(dead_code)]
#[path = "../../src/source/field.rs"]
mod field;
#[allow(dead_code)]
#[path = "../../src/source/split.rs"]
mod split;

use split::{Marks, Record, Splitter};

fuzz_target!(|input: (u8, u8, &[u8])| {
    let (choice, size, bytes) = input;
    let marks = Marks {
        delimiter: if choice & 1 == 0 { b',' } else { b'|' },
        quote: (choice & 2 == 0).then_some(b'"'),
        escape: (choice & 6 == 4).then_some(b'\\'),
    };
    let make = || match (choice >> 3) % 3 {
        0 => Splitter::csv(marks),
        1 => Splitter::lines(),
        _ => Splitter::array(),
    };
    let whole = records(make(), bytes, bytes.len().max(1), usize::MAX);
    let pieces = records(make(), bytes, usize::from(size % 16) + 1, usize::from(choice % 3) + 1);
    assert_eq!(whole, pieces);
    for record in whole.unwrap_or_default() {
        let mut cells = Vec::new();
        let all = Record { start: 0, end: u32::try_from(record.0.len()).expect("small"), quoted: record.1 };
        if field::cut(&record.0, all, marks, &mut cells).is_ok() {
            assert!(!cells.is_empty());
            for cell in cells {
                let content = field::unescape(cell.bytes(&record.0), marks);
                assert!(content.len() <= record.0.len());
            }
        }
    }
});

/// The records of `bytes` fed `size` at a time, each with whether it holds quoted fields; none when they cannot be told apart.
fn records(mut splitter: Splitter, bytes: &[u8], size: usize, most: usize) -> Option<Vec<(Vec<u8>, bool)>> {
    let (mut buffer, mut fed, mut out) = (Vec::new(), 0, Vec::new());
    loop {
        let last = fed == bytes.len();
        loop {
            let mut found: Vec<Record> = Vec::new();
            let more = splitter.scan(&buffer, last, most, &mut found);
            out.extend(found.iter().map(|record| (buffer[record.start as usize..record.end as usize].to_vec(), record.quoted)));
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
        let end = (fed + size).min(bytes.len());
        buffer.extend_from_slice(&bytes[fed..end]);
        fed = end;
    }
}
