//! One file as runs of whole records.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use errand_model::failure::{Failure, FailureKind, Place};

use super::dialect::Dialect;
use super::input::Input;
use super::slab::Mark;
use super::split::{Broken, Record, Splitter};
use crate::store::FileEntry;

/// Bytes of a buffer, unless one record needs more.
pub(super) const BUFFER: usize = 1 << 20;
/// Longest record.
pub(super) const LONGEST: usize = 16 << 20;

/// The records of one file.
pub(super) struct Stream {
    entry: FileEntry,
    input: Input,
    splitter: Splitter,
    buffer: Arc<Vec<u8>>,
    filled: usize,
    /// Where the buffer stands in the stream.
    offset: u64,
    mark: Mark,
    /// Nothing follows what is in the buffer.
    ended: bool,
    /// The buffer holds what the splitter has not seen.
    fresh: bool,
    /// Found behind records that are handed out first.
    failure: Option<Failure>,
    is_utf8: bool,
}

/// Whole records and where they stand.
pub(super) struct Run {
    pub(super) bytes: Arc<Vec<u8>>,
    pub(super) records: Vec<Record>,
    pub(super) offset: u64,
    pub(super) mark: Mark,
}

impl Stream {
    /// Opens a file; `progress` counts the bytes read from it as it lies there.
    pub(super) fn open(entry: &FileEntry, dialect: &Dialect, progress: &Arc<AtomicU64>) -> Result<Self, Failure> {
        let input = Input::open(entry, dialect, progress)?;
        let (offset, is_utf8) = (input.origin, input.is_utf8());
        Ok(Self {
            entry: entry.clone(),
            input,
            splitter: dialect.splitter(),
            buffer: Arc::new(Vec::new()),
            filled: 0,
            offset,
            mark: Mark::START,
            ended: false,
            fresh: false,
            failure: None,
            is_utf8,
        })
    }

    /// Whether the file lies there as UTF-8, compressed or not.
    pub(super) const fn is_utf8(&self) -> bool {
        self.is_utf8
    }

    /// After the first record: whether it was the first line, no more and no less, ended by LF or CRLF.
    pub(super) fn is_past_first_line(&self) -> bool {
        let line = &self.buffer[..self.splitter.start().min(self.filled)];
        let text = line.strip_suffix(b"\n").map(|text| text.strip_suffix(b"\r").unwrap_or(text));
        text.is_some_and(|text| memchr::memchr2(b'\n', b'\r', text).is_none())
    }

    /// From here on a blank line is a record of one empty field.
    pub(super) fn keep_blank(&mut self) {
        self.splitter.keep_blank();
    }

    /// The next records, at most `most`; none at the end. `is_stopped` is asked between reads whether to go on; with `true` it first waits
    /// until no other records are on their way, for a buffer much larger than usual is needed.
    pub(super) fn next(&mut self, most: usize, is_stopped: &dyn Fn(bool) -> bool) -> Result<Option<Run>, Failure> {
        if let Some(failure) = self.failure.take() {
            return Err(failure);
        }
        loop {
            if !self.fresh {
                if self.ended || is_stopped(false) {
                    return Ok(None);
                }
                self.refill(is_stopped)?;
            }
            let mut records = Vec::new();
            let scanned = self.splitter.scan(&self.buffer[..self.filled], self.ended, most, &mut records);
            self.fresh = *scanned.as_ref().unwrap_or(&false);
            let failure = scanned.err().map(|broken| self.broken(&broken));
            if records.is_empty() {
                match failure {
                    Some(failure) => return Err(failure),
                    None => continue,
                }
            }
            self.failure = failure;
            let mark = self.mark;
            self.mark = mark.forward(&self.buffer[..self.filled], self.splitter.start());
            return Ok(Some(Run { bytes: Arc::clone(&self.buffer), records, offset: self.offset, mark }));
        }
    }

    /// Moves the unfinished record to the front of a buffer with room and fills the room.
    fn refill(&mut self, is_stopped: &dyn Fn(bool) -> bool) -> Result<(), Failure> {
        let start = self.splitter.start();
        let tail = self.filled - start;
        if tail >= LONGEST {
            return Err(self.too_long());
        }
        let mark = self.mark.forward(&self.buffer[..self.filled], start);
        // The first read is small: often only the header is wanted.
        let size = if self.buffer.is_empty() {
            BUFFER / 16
        } else if tail * 2 > BUFFER {
            (tail * 2).min(LONGEST + BUFFER / 16)
        } else {
            BUFFER
        };
        if size > BUFFER * 4 && is_stopped(true) {
            return Ok(());
        }
        match Arc::get_mut(&mut self.buffer) {
            Some(buffer) if size <= buffer.len() => buffer.copy_within(start..self.filled, 0),
            _ => {
                let mut buffer = vec![0; size];
                buffer[..tail].copy_from_slice(&self.buffer[start..self.filled]);
                self.buffer = Arc::new(buffer);
            }
        }
        self.mark = Mark { at: 0, ..mark };
        self.splitter.shift(start);
        self.offset += start as u64;
        self.filled = tail;
        let Some(buffer) = Arc::get_mut(&mut self.buffer) else { return Ok(()) };
        while self.filled < buffer.len() && !is_stopped(false) {
            let room = buffer.len() - self.filled;
            if room < 16 {
                break;
            }
            let read = self.input.read(&mut buffer[self.filled..])?;
            self.filled += read;
            if read == 0 {
                self.ended = true;
                break;
            }
        }
        self.fresh = true;
        if self.ended { self.check_size() } else { Ok(()) }
    }

    fn check_size(&self) -> Result<(), Failure> {
        let (read, expected) = (self.input.raw_bytes(), self.entry.bytes);
        if read == expected {
            return Ok(());
        }
        let path = &self.entry.path;
        let message = format!("`{path}` changed while it was read: {expected} bytes before, {read} bytes now");
        Err(Failure::new(FailureKind::Transient, "source::changed", message)
            .help("write files under another name and rename them when they are whole"))
    }

    fn place(&self, at: usize) -> Place {
        let mark = self.mark.forward(&self.buffer[..self.filled], at);
        Place { file: self.entry.path.clone(), line: mark.line, column: mark.column }
    }

    fn broken(&self, broken: &Broken) -> Failure {
        Failure::new(FailureKind::Rejected, "source::broken", broken.message.clone())
            .at(self.place(broken.at))
            .help("nothing after this place can be read; correct the file, or `quote`, `escape` and `format` of the step")
    }

    fn too_long(&self) -> Failure {
        let limit = LONGEST >> 20;
        let (at, what) = match self.splitter.open_quote() {
            Some(at) => (at, "a quote opens here and is not closed"),
            None => (self.splitter.start(), "a record starts here and does not end"),
        };
        Failure::new(FailureKind::Rejected, "source::too_long", format!("{what} within {limit} MiB"))
            .at(self.place(at))
            .help("close the quote, or declare how the file is written: `quote`, `escape`, `format`")
    }
}
