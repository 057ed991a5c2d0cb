//! What is said of a refused record.

use std::fmt::Write as _;

use errand_model::failure::Place;

use super::scalar::Reason;
use super::slab::{Mark, Slab};
use super::{Origin, Rejected, Resolved};

/// Longest text of a record that is kept.
const LONGEST: usize = 8 * 1024;
/// Longest text of a value in a message, in characters.
const SHOWN: usize = 80;
/// Behind a text that was cut.
const CUT: &str = "…";

/// Why one record of a slab is refused.
pub(super) struct Refusal {
    /// Which record of the slab.
    pub(super) record: usize,
    /// The byte to blame; the record's start without one.
    pub(super) at: Option<usize>,
    /// The resolved column to blame.
    pub(super) column: Option<usize>,
    /// What is wrong.
    pub(super) error: String,
    /// Refused by the schema contract.
    pub(super) by_contract: bool,
}

/// The sentence about a bad value.
pub(super) fn complaint(resolved: &Resolved, column: usize, text: &[u8], reason: Reason) -> String {
    let column = &resolved.columns[column];
    let kind = column.kind;
    let mut error = match (reason, &column.format) {
        (Reason::Null, _) => return format!("expected a value, found NULL in column `{}`, which is not nullable", column.name),
        (Reason::Empty, _) => format!("expected {kind}, found an empty field"),
        (_, None) => format!("expected {kind}, found `{}`", shown(text)),
        (_, Some(format)) => format!("expected {kind} written as `{format}`, found `{}`", shown(text)),
    };
    let note = reason.note();
    if !note.is_empty() {
        let _ = write!(error, " ({note})");
    }
    match column.origin {
        Origin::Declared => {}
        Origin::Existing => error.push_str("; the type is that of the existing table"),
        Origin::Inferred | Origin::Added => {
            let _ = write!(error, "; the type was inferred from the first {} records: declare `columns`", resolved.sampled);
        }
    }
    error
}

/// A value as it is shown in a message.
pub(super) fn shown(text: &[u8]) -> String {
    let mut shown: String = visible(text, SHOWN * 4).chars().take(SHOWN).collect();
    if text.len() > shown.len() && !visible(text, SHOWN * 4 + 1).chars().eq(shown.chars()) {
        shown.push_str(CUT);
    }
    shown
}

/// Text with what is no text, and NUL, written `\xNN`; about `limit` bytes of it.
fn visible(text: &[u8], limit: usize) -> String {
    let mut out = String::new();
    for chunk in text[..text.len().min(limit + 4)].utf8_chunks() {
        for character in chunk.valid().chars() {
            if out.len() + character.len_utf8() > limit {
                return out;
            }
            if character == '\0' { out.push_str("\\x00") } else { out.push(character) }
        }
        for byte in chunk.invalid() {
            if out.len() + 4 > limit {
                return out;
            }
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    out
}

/// Refusals of a slab as they are reported, in the order of the records.
pub(super) fn rejected(slab: &Slab, mut refusals: Vec<Refusal>, resolved: &Resolved, path: &str) -> Vec<Rejected> {
    refusals.sort_by_key(|refusal| refusal.record);
    let mut mark = slab.mark;
    let mut out = Vec::with_capacity(refusals.len());
    for refusal in refusals {
        let record = slab.records[refusal.record];
        let (start, end) = (record.start as usize, record.end as usize);
        mark = mark.forward(&slab.bytes, start);
        let place = refusal.at.map_or(mark, |at| mark.forward(&slab.bytes, at.max(start)));
        let text = &slab.bytes[start..end];
        let mut raw = visible(text, LONGEST);
        if raw.len() + 4 >= LONGEST && end - start > LONGEST / 4 && visible(text, LONGEST * 2).len() > raw.len() {
            raw.push_str(CUT);
        }
        out.push(Rejected {
            file: path.to_owned(),
            row: slab.first_row + refusal.record as u64,
            line: place.line,
            position: place.column,
            byte_offset: slab.offset + start as u64,
            column: refusal.column.map(|index| resolved.columns[index].name.clone()),
            error: refusal.error,
            raw,
            by_contract: refusal.by_contract,
        });
    }
    out
}

/// The place of a byte of a slab, for failures.
pub(super) fn place(slab: &Slab, at: usize, path: &str) -> Place {
    let Mark { line, column, .. } = slab.mark.forward(&slab.bytes, at);
    Place { file: path.to_owned(), line, column }
}
