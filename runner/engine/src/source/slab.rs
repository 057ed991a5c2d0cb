//! Whole records of one file, cut out of its stream, with all that is needed to say where each one stands.

use std::sync::Arc;

use memchr::{memchr_iter, memrchr2};

use super::header::Mapping;
use super::split::Record;

/// A run of records.
pub(super) struct Slab {
    /// Which file.
    pub(super) file: usize,
    /// The buffer that the records stand in; several slabs may share it.
    pub(super) bytes: Arc<Vec<u8>>,
    /// In order; at least one.
    pub(super) records: Vec<Record>,
    /// Number of the first record in the file, from 1.
    pub(super) first_row: u64,
    /// Where the buffer stands in the stream.
    pub(super) offset: u64,
    /// A place before the first record whose line and column are known.
    pub(super) mark: Mark,
    /// How the fields of this file become columns.
    pub(super) mapping: Arc<Mapping>,
}

/// A place in a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    /// Where in the buffer.
    pub(super) at: usize,
    /// Its line, from 1.
    pub(super) line: u64,
    /// Its character in the line, from 1.
    pub(super) column: u64,
}

impl Mark {
    /// The first place of a file.
    pub(super) const START: Self = Self { at: 0, line: 1, column: 1 };

    /// The place `at`, which is not before this one.
    pub(super) fn forward(self, bytes: &[u8], at: usize) -> Self {
        let passed = &bytes[self.at..at];
        let line = self.line + breaks(passed);
        match memrchr2(b'\n', b'\r', passed) {
            Some(last) => Self { at, line, column: 1 + characters(&passed[last + 1..]) },
            None => Self { at, line, column: self.column + characters(passed) },
        }
    }
}

/// Line ends in `bytes`: LF, CRLF and CR, each counted once.
fn breaks(bytes: &[u8]) -> u64 {
    let feeds = memchr_iter(b'\n', bytes).count();
    let returns = memchr_iter(b'\r', bytes).filter(|at| bytes.get(at + 1) != Some(&b'\n')).count();
    (feeds + returns) as u64
}

/// Characters of UTF-8; of other bytes, those that are not continuations.
fn characters(bytes: &[u8]) -> u64 {
    bytes.iter().filter(|byte| (**byte & 0xc0) != 0x80).count() as u64
}
