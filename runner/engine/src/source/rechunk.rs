//! Text files cut into parts of the size that warehouses load best: records are found and copied, no field is parsed.
//!
//! What bytes can mend is mended on the way: byte order marks, encodings, line ends, blank lines, headers, delimiters at the end of records.
//! A part is CSV in UTF-8 without a header, compressed with zstd (never with gzip, which costs three times as much). What is no text, or
//! cannot be cut, fails as `Rejected`: whoever parses the records says where.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use errand_model::failure::{Failure, FailureKind};
use errand_model::job::Files;
use memchr::memchr;
use tempfile::TempPath;
use tokio_util::sync::CancellationToken;

use super::dialect::Dialect;
use super::header;
use super::stream::{Run, Stream};
use crate::store::FileEntry;
use crate::store::scratch::{self, Scratch};

/// Bytes of a part before it is compressed: a warehouse loads a file with one thread, and files of this size keep many of them busy.
const PART_BYTES: u64 = 160 << 20;
/// Most records taken at once.
const RECORDS: usize = 8 * 1024;
/// Level of zstd: the higher ones cost more time than the bytes that they save.
const LEVEL: i32 = 1;

/// A finished part, in scratch space.
pub struct Chunked {
    /// Index of its group.
    pub group: usize,
    /// Where it lies; it vanishes with the last user of this path.
    pub file: TempPath,
    /// Its records.
    pub rows: u64,
    /// Its size.
    pub bytes: u64,
    /// Digest of its content, hexadecimal.
    pub sha256: String,
}

/// Text files on their way into parts.
pub struct Rechunk {
    dialect: Dialect,
    /// Files that are written alike, each with its index: a part holds records of one group alone.
    groups: Vec<Vec<(usize, FileEntry)>>,
    /// Fields of each record, by group.
    fields: Vec<usize>,
    /// Whether a record ends with the path of its file and its number there, as two more fields.
    metadata: bool,
    part_bytes: u64,
    cancel: CancellationToken,
}

/// How many fields each record has, and the files, each with its index.
pub type Group = (usize, Vec<(usize, FileEntry)>);

/// What is told of records that were copied: index of the file, records, bytes read from it as it lies there.
pub type Seen<'a> = &'a mut dyn FnMut(usize, u64, u64);

impl Rechunk {
    /// Files that are written alike by group. Nothing is read yet.
    #[must_use]
    pub fn new(dialect: &Files, groups: Vec<Group>, metadata: bool, cancel: CancellationToken) -> Self {
        Self::of(Dialect::of(dialect), groups, metadata, cancel)
    }

    pub(super) fn of(dialect: Dialect, groups: Vec<Group>, metadata: bool, cancel: CancellationToken) -> Self {
        let (fields, groups) = groups.into_iter().unzip();
        Self { dialect, groups, fields, metadata, part_bytes: PART_BYTES, cancel }
    }

    /// The same with smaller parts.
    #[cfg(test)]
    pub(super) fn with_part_bytes(self, part_bytes: u64) -> Self {
        Self { part_bytes, ..self }
    }

    /// Why the path of a file cannot be a field of its records; none when all can.
    #[must_use]
    pub fn objection(dialect: &Files, files: &[FileEntry]) -> Option<String> {
        let is_plain = |path: &str| !path.bytes().any(|byte| byte == dialect.delimiter || byte < b' ');
        let bad = files.iter().find(|file| dialect.quote.is_none() && !is_plain(&file.path))?;
        Some(format!("the path `{}` would need quotes", bad.path))
    }

    /// Cuts all files and hands the parts over, in order; ends early when `put` says so. Blocks: belongs on a thread of its own.
    ///
    /// # Errors
    ///
    /// `Rejected` when a file is no text or cannot be cut into records, `Cancelled` soon after the cancellation, and what the place of the
    /// files and the scratch space say.
    pub fn run(&self, put: &mut dyn FnMut(Chunked) -> bool, seen: Seen<'_>) -> Result<(), Failure> {
        for (group, files) in self.groups.iter().enumerate() {
            let mut open = None;
            for (index, entry) in files {
                if !self.file(group, (*index, entry), &mut open, put, seen)? {
                    return Ok(());
                }
            }
            if let Some(part) = open.take()
                && !put(Part::finish(part, group)?)
            {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Copies the records of one file; false when nobody wants more.
    fn file(
        &self,
        group: usize,
        (index, entry): (usize, &FileEntry),
        open: &mut Option<Part>,
        put: &mut dyn FnMut(Chunked) -> bool,
        seen: Seen<'_>,
    ) -> Result<bool, Failure> {
        let progress = Arc::new(AtomicU64::new(0));
        let mut stream = Stream::open(entry, &self.dialect, &progress)?;
        if self.dialect.header && header::read(&mut stream, &self.dialect, &entry.path)?.is_none() {
            return Ok(true);
        }
        if self.fields.get(group) == Some(&1) {
            stream.keep_blank();
        }
        let (mut row, mut read) = (0, 0);
        let source = self.source(&entry.path);
        let mut lines = Vec::new();
        while let Some(run) = stream.next(RECORDS, &|_| self.cancel.is_cancelled())? {
            lines.clear();
            let first = row;
            self.copy(&run, entry, &source, &mut row, &mut lines)?;
            let mut part = match open.take() {
                Some(part) => part,
                None => Part::new().map_err(|error| scratch::failure(&error))?,
            };
            part.write(&lines, row - first).map_err(|error| scratch::failure(&error))?;
            let now = progress.load(Ordering::Relaxed);
            seen(index, row - first, now - read);
            read = now;
            if part.raw < self.part_bytes {
                *open = Some(part);
            } else if !put(part.finish(group)?) {
                return Ok(false);
            }
        }
        if self.cancel.is_cancelled() {
            return Err(Failure::new(FailureKind::Cancelled, "source::cancelled", "reading the files was cancelled"));
        }
        Ok(true)
    }

    /// The field that names a file.
    fn source(&self, path: &str) -> Vec<u8> {
        let Some(quote) = self.dialect.marks.quote else { return path.as_bytes().to_vec() };
        let mut field = vec![quote];
        for byte in path.bytes() {
            field.push(byte);
            if byte == quote {
                field.push(byte);
            }
        }
        field.push(quote);
        field
    }

    fn copy(&self, run: &Run, entry: &FileEntry, source: &[u8], row: &mut u64, lines: &mut Vec<u8>) -> Result<(), Failure> {
        let delimiter = self.dialect.marks.delimiter;
        let (first, last) = (run.records.first().map_or(0, |record| record.start), run.records.last().map_or(0, |record| record.end));
        let span = &run.bytes[first as usize..last as usize];
        if memchr(0, span).is_some() || std::str::from_utf8(span).is_err() {
            return Err(rejected(entry, "it holds bytes that are no text"));
        }
        for record in &run.records {
            let mut text = &run.bytes[record.start as usize..record.end as usize];
            if self.dialect.trailing_delimiter {
                text = text.strip_suffix(&[delimiter]).ok_or_else(|| rejected(entry, "a record does not end with a delimiter"))?;
            }
            *row += 1;
            lines.extend_from_slice(text);
            if self.metadata {
                lines.push(delimiter);
                lines.extend_from_slice(source);
                lines.push(delimiter);
                // A `Vec` takes all that is written to it.
                let _ = write!(lines, "{row}");
            }
            lines.push(b'\n');
        }
        Ok(())
    }
}

/// A part that is written.
struct Part {
    writer: zstd::stream::write::Encoder<'static, Scratch>,
    path: TempPath,
    rows: u64,
    raw: u64,
}

impl Part {
    fn new() -> std::io::Result<Self> {
        let (scratch, path) = Scratch::create()?;
        Ok(Self { writer: zstd::stream::write::Encoder::new(scratch, LEVEL)?, path, rows: 0, raw: 0 })
    }

    fn write(&mut self, lines: &[u8], rows: u64) -> std::io::Result<()> {
        self.writer.write_all(lines)?;
        self.raw += lines.len() as u64;
        self.rows += rows;
        Ok(())
    }

    fn finish(self, group: usize) -> Result<Chunked, Failure> {
        let (bytes, sha256) = self.writer.finish().and_then(Scratch::finish).map_err(|error| scratch::failure(&error))?;
        Ok(Chunked { group, file: self.path, rows: self.rows, bytes, sha256 })
    }
}

fn rejected(entry: &FileEntry, why: &str) -> Failure {
    Failure::new(FailureKind::Rejected, "source::not_text", format!("`{}` cannot be copied record by record: {why}", entry.path))
}
