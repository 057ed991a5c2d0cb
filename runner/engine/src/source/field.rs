//! Cuts one record of delimited text into fields, and undoes their quoting.
//!
//! Must not know types, files or errors of the engine: the fuzz target includes this file by itself.

use std::borrow::Cow;

use memchr::{memchr, memchr2};

use super::split::{Marks, Record};

/// Where a value stands in the buffer, and how it is written there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cell {
    /// First byte of the content, quotes left out.
    pub(super) start: u32,
    /// Past its last byte.
    pub(super) end: u32,
    /// How it is written.
    pub(super) kind: CellKind,
}

/// How a value is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CellKind {
    /// A field without quotes.
    Plain,
    /// A quoted field whose content stands for itself.
    Quoted,
    /// A quoted field with doubled quotes or escapes.
    Escaped,
    /// No such key in a JSON object.
    Missing,
    /// `null` of JSON.
    Null,
    /// A JSON string that stands for itself; its quotes are around the cell.
    Text,
    /// A JSON string with escapes; its quotes are around the cell.
    EscapedText,
    /// A JSON number.
    Number,
    /// `true` or `false` of JSON.
    Boolean,
    /// A JSON array or object.
    Nested,
}

impl Cell {
    /// No value.
    pub(super) const MISSING: Self = Self { start: 0, end: 0, kind: CellKind::Missing };

    /// The bytes of the content as written.
    #[must_use]
    pub(super) fn bytes(self, buffer: &[u8]) -> &[u8] {
        &buffer[self.start as usize..self.end as usize]
    }
}

/// Why a record cannot be cut into fields: text stands at this byte, after a closing quote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AfterQuote(pub(super) usize);

/// Adds the fields of a record to `cells`. There is always at least one.
///
/// # Errors
///
/// When text follows a closing quote.
pub(super) fn cut(buffer: &[u8], record: Record, marks: Marks, cells: &mut Vec<Cell>) -> Result<(), AfterQuote> {
    if record.quoted { cut_quoted(buffer, record, marks, cells) } else { cut_plain(buffer, record, marks.delimiter, cells) }
}

/// Adds a quote-free record's fields: eight bytes at a time, the delimiters of a word found at once.
fn cut_plain(buffer: &[u8], record: Record, delimiter: u8, cells: &mut Vec<Cell>) -> Result<(), AfterQuote> {
    const LOW: u64 = 0x7f7f_7f7f_7f7f_7f7f;
    let pattern = u64::from_ne_bytes([delimiter; 8]);
    let content = &buffer[record.start as usize..record.end as usize];
    let mut start = record.start;
    let mut base = record.start;
    let (words, rest) = content.as_chunks::<8>();
    for word in words {
        let differs = u64::from_le_bytes(*word) ^ pattern;
        // The high bit of each byte that is zero here, exactly.
        let mut hits = !(((differs & LOW) + LOW) | differs | LOW);
        while hits != 0 {
            let end = base + hits.trailing_zeros() / 8;
            cells.push(Cell { start, end, kind: CellKind::Plain });
            start = end + 1;
            hits &= hits - 1;
        }
        base += 8;
    }
    for byte in rest {
        if *byte == delimiter {
            cells.push(Cell { start, end: base, kind: CellKind::Plain });
            start = base + 1;
        }
        base += 1;
    }
    cells.push(Cell { start, end: record.end, kind: CellKind::Plain });
    Ok(())
}

#[expect(clippy::cast_possible_truncation, reason = "a buffer is far smaller than 4 GiB")]
fn cut_quoted(buffer: &[u8], record: Record, marks: Marks, cells: &mut Vec<Cell>) -> Result<(), AfterQuote> {
    let end = record.end as usize;
    let mut at = record.start as usize;
    loop {
        if at < end && Some(buffer[at]) == marks.quote {
            let (close, kind) = close(buffer, at + 1, end, marks);
            cells.push(Cell { start: at as u32 + 1, end: close as u32, kind });
            at = close + 1;
            if at >= end {
                return Ok(());
            }
            if buffer[at] != marks.delimiter {
                return Err(AfterQuote(at));
            }
        } else {
            let stop = memchr(marks.delimiter, &buffer[at..end]).map_or(end, |offset| at + offset);
            cells.push(Cell { start: at as u32, end: stop as u32, kind: CellKind::Plain });
            at = stop;
            if at == end {
                return Ok(());
            }
        }
        at += 1;
    }
}

/// Where the quoted field that starts at `at` closes. A record of the splitter always has a closing quote.
fn close(buffer: &[u8], mut at: usize, end: usize, marks: Marks) -> (usize, CellKind) {
    let quote = marks.quote.unwrap_or_default();
    let mut kind = CellKind::Quoted;
    loop {
        let rest = &buffer[at..end];
        let found = match marks.escape {
            Some(escape) => memchr2(quote, escape, rest),
            None => memchr(quote, rest),
        };
        let Some(found) = found.map(|offset| at + offset) else { return (end, kind) };
        let next = buffer[..end].get(found + 1).copied();
        let undone = match marks.escape {
            Some(escape) if buffer[found] == escape => {
                if next.is_some_and(|next| next == quote || next == escape) {
                    kind = CellKind::Escaped;
                    at = found + 2;
                } else {
                    at = found + 1;
                }
                continue;
            }
            Some(_) => false,
            None => next == Some(quote),
        };
        if !undone {
            return (found, kind);
        }
        kind = CellKind::Escaped;
        at = found + 2;
    }
}

/// The content of a quoted field.
#[must_use]
pub(super) fn unescape(content: &[u8], marks: Marks) -> Cow<'_, [u8]> {
    let Some(quote) = marks.quote else { return Cow::Borrowed(content) };
    let first = marks.escape.unwrap_or(quote);
    let mut out = Vec::with_capacity(content.len());
    let mut at = 0;
    while let Some(found) = memchr(first, &content[at..]).map(|offset| at + offset) {
        out.extend_from_slice(&content[at..found]);
        match content.get(found + 1) {
            Some(next) if *next == quote || *next == first => {
                out.push(*next);
                at = found + 2;
            }
            Some(_) | None => {
                out.push(first);
                at = found + 1;
            }
        }
    }
    out.extend_from_slice(&content[at..]);
    Cow::Owned(out)
}
