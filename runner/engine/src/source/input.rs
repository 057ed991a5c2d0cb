//! One file as a stream of UTF-8: opened, decompressed, decoded.
//!
//! Offsets count bytes of that stream: of the file itself when it is uncompressed UTF-8, its byte order mark included.

use std::io::{self, BufReader, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use encoding_rs::{DecoderResult, UTF_16BE, UTF_16LE, WINDOWS_1252};
use errand_model::document::step::{Compression, Encoding};
use errand_model::failure::{Failure, FailureKind, Place};

use super::dialect::Dialect;
use crate::store::{FileEntry, failure_of};

/// Bytes looked at to recognise an encoding.
const HEAD: usize = 4096;
/// Bytes read from a file at once.
const CHUNK: usize = 256 * 1024;

/// A file as UTF-8.
pub(super) struct Input {
    path: String,
    source: Box<dyn Read + Send>,
    /// Read from the file, as it lies there.
    raw: Arc<AtomicU64>,
    decoder: Decoder,
    /// Bytes that came out of decompression but not of the decoder.
    pending: Vec<u8>,
    pending_from: usize,
    ended: bool,
    /// Bytes that came out of decompression.
    inflated: u64,
    /// Offset of the first byte that is handed out.
    pub(super) origin: u64,
}

enum Decoder {
    None,
    Latin1,
    Other(Box<encoding_rs::Decoder>, &'static str),
}

struct Counted {
    content: Box<dyn Read + Send>,
    counters: [Arc<AtomicU64>; 2],
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.content.read(buffer)?;
        for counter in &self.counters {
            counter.fetch_add(read as u64, Ordering::Relaxed);
        }
        Ok(read)
    }
}

impl Input {
    /// Opens a file and recognises its encoding; `progress` counts the bytes read from it.
    pub(super) fn open(entry: &FileEntry, dialect: &Dialect, progress: &Arc<AtomicU64>) -> Result<Self, Failure> {
        let content = entry.open()?;
        let raw = Arc::new(AtomicU64::new(0));
        let counted = Counted { content, counters: [Arc::clone(progress), Arc::clone(&raw)] };
        let source = decompressed(counted, dialect.compression_of(&entry.path)).map_err(|error| unreadable(&entry.path, &error))?;
        let mut input = Self {
            path: entry.path.clone(),
            source,
            raw,
            decoder: Decoder::None,
            pending: Vec::new(),
            pending_from: 0,
            ended: false,
            inflated: 0,
            origin: 0,
        };
        input.refill(HEAD)?;
        input.recognise(dialect.encoding)?;
        Ok(input)
    }

    /// Whether it lies there as UTF-8, compressed or not. Ask before the first read.
    pub(super) fn is_utf8(&self) -> bool {
        matches!(self.decoder, Decoder::None)
    }

    /// Bytes read from the file so far, as it lies there.
    pub(super) fn raw_bytes(&self) -> u64 {
        self.raw.load(Ordering::Relaxed)
    }

    /// Fills as much of `out` as one read gives, at least one byte; 0 at the end. `out` holds at least 16 bytes.
    pub(super) fn read(&mut self, out: &mut [u8]) -> Result<usize, Failure> {
        if matches!(self.decoder, Decoder::None) && self.pending_from == self.pending.len() {
            let read = self.source.read(out).map_err(|error| self.broken(&error))?;
            self.inflated += read as u64;
            return Ok(read);
        }
        loop {
            if self.pending_from == self.pending.len() && !self.ended {
                self.refill(CHUNK / 4)?;
            }
            let input = &self.pending[self.pending_from..];
            let (read, written, done) = match &mut self.decoder {
                Decoder::None => {
                    let count = input.len().min(out.len());
                    out[..count].copy_from_slice(&input[..count]);
                    (count, count, self.ended)
                }
                Decoder::Latin1 => {
                    let count = input.len().min(out.len() / 2);
                    (count, encoding_rs::mem::convert_latin1_to_utf8(&input[..count], out), self.ended)
                }
                Decoder::Other(decoder, name) => {
                    let (result, read, written) = decoder.decode_to_utf8_without_replacement(input, out, self.ended);
                    if let DecoderResult::Malformed(..) = result {
                        let at = self.inflated - (input.len() - read) as u64;
                        return Err(malformed(&self.path, name, at));
                    }
                    (read, written, self.ended && result == DecoderResult::InputEmpty)
                }
            };
            self.pending_from += read;
            let done = done && self.pending_from == self.pending.len();
            if done {
                // The decoder was told of the end and must not be asked again.
                self.decoder = Decoder::None;
            }
            if written > 0 || done {
                return Ok(written);
            }
        }
    }

    fn refill(&mut self, bytes: usize) -> Result<(), Failure> {
        self.pending.resize(bytes, 0);
        self.pending_from = 0;
        let mut filled = 0;
        while filled < bytes {
            match self.source.read(&mut self.pending[filled..]) {
                Ok(0) => {
                    self.ended = true;
                    break;
                }
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.broken(&error)),
            }
        }
        self.pending.truncate(filled);
        self.inflated += filled as u64;
        Ok(())
    }

    fn recognise(&mut self, declared: Encoding) -> Result<(), Failure> {
        let other = |encoding: &'static encoding_rs::Encoding| {
            Decoder::Other(Box::new(encoding.new_decoder_without_bom_handling()), encoding.name())
        };
        let head = self.pending.as_slice();
        let looks_wide = wide(head);
        let (decoder, mark) = match (head, declared) {
            ([0xef, 0xbb, 0xbf, ..], _) => (Decoder::None, 3),
            ([0xff, 0xfe, ..], _) if declared == Encoding::Utf16 || looks_wide.is_some() => (other(UTF_16LE), 2),
            ([0xfe, 0xff, ..], _) if declared == Encoding::Utf16 || looks_wide.is_some() => (other(UTF_16BE), 2),
            ([0xff, 0xfe, ..], Encoding::Utf8) => (other(UTF_16LE), 2),
            ([0xfe, 0xff, ..], Encoding::Utf8) => (other(UTF_16BE), 2),
            (_, Encoding::Utf16) => (other(if looks_wide == Some(Wide::Big) { UTF_16BE } else { UTF_16LE }), 0),
            _ => {
                if let Some(failure) = mistaken(&self.path, head, looks_wide) {
                    return Err(failure);
                }
                let decoder = match declared {
                    Encoding::Latin1 => Decoder::Latin1,
                    Encoding::Windows1252 => other(WINDOWS_1252),
                    Encoding::Utf8 | Encoding::Utf16 => Decoder::None,
                };
                (decoder, 0)
            }
        };
        self.pending_from = mark;
        self.origin = if matches!(decoder, Decoder::None) { mark as u64 } else { 0 };
        self.decoder = decoder;
        Ok(())
    }

    fn broken(&self, error: &io::Error) -> Failure {
        if let Some(failure) = failure_of(error) {
            return failure;
        }
        let file = &self.path;
        let (read, inflated) = (self.raw_bytes(), self.inflated);
        Failure::new(
            FailureKind::Rejected,
            "source::unreadable",
            format!("cannot read `{file}` past its first {read} bytes ({inflated} bytes of content): {error}"),
        )
        .at(Place { file: file.clone(), line: 1, column: 0 })
        .help("the file is incomplete, damaged, or not compressed as declared: bring it again, or set `compression`")
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Wide {
    Little,
    Big,
}

/// Whether every second byte is NUL, as in Latin text of UTF-16.
fn wide(head: &[u8]) -> Option<Wide> {
    let zeros = |offset: usize| head.iter().skip(offset).step_by(2).filter(|byte| **byte == 0).count();
    let (even, odd, half) = (zeros(0), zeros(1), head.len() / 2);
    match half >= 2 {
        true if odd * 10 >= half * 6 && even * 4 < odd => Some(Wide::Little),
        true if even * 10 >= half * 6 && odd * 4 < even => Some(Wide::Big),
        _ => None,
    }
}

/// Content that is plainly not text of the declared kind.
fn mistaken(path: &str, head: &[u8], looks_wide: Option<Wide>) -> Option<Failure> {
    let (what, help) = match head {
        [0x1f, 0x8b, 8, ..] => ("gzip", "set `compression: gzip`, or name the file `.gz`"),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => ("zstd", "set `compression: zstd`, or name the file `.zst`"),
        _ if looks_wide.is_some() => ("UTF-16 without a byte order mark", "set `encoding: utf-16`"),
        _ => return None,
    };
    let failure = Failure::new(FailureKind::Rejected, "source::encoding", format!("`{path}` looks like {what}"));
    Some(failure.at(Place { file: path.to_owned(), line: 1, column: 0 }).help(help))
}

fn malformed(path: &str, encoding: &str, at: u64) -> Failure {
    Failure::new(FailureKind::Rejected, "source::encoding", format!("`{path}` is not valid {encoding} before byte {at}"))
        .at(Place { file: path.to_owned(), line: 1, column: 0 })
        .help("declare the file's `encoding`, or bring it again")
}

fn unreadable(path: &str, error: &io::Error) -> Failure {
    Failure::new(FailureKind::Rejected, "source::unreadable", format!("cannot open `{path}`: {error}"))
        .at(Place { file: path.to_owned(), line: 1, column: 0 })
        .help("check that the file is there and readable for the user that runs `errand`")
}

fn decompressed(file: Counted, compression: Compression) -> io::Result<Box<dyn Read + Send>> {
    Ok(match compression {
        Compression::Auto | Compression::None => Box::new(file),
        Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(BufReader::with_capacity(CHUNK, file))),
        Compression::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(BufReader::with_capacity(CHUNK, file))?),
    })
}
