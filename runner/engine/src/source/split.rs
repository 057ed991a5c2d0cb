//! Finds where records begin and end, nothing else.
//!
//! A splitter looks at a growing buffer and remembers how far it came, so what it finds does not depend on how the input was cut into
//! pieces. It must not know columns, types, files or errors of the engine: the fuzz target includes this file by itself.

use memchr::{memchr, memchr2, memchr3};

/// The bytes with a meaning in delimited text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Marks {
    /// Between fields.
    pub(super) delimiter: u8,
    /// Around fields.
    pub(super) quote: Option<u8>,
    /// Before a quote or itself inside a quoted field; a doubled quote without it.
    pub(super) escape: Option<u8>,
}

/// One record: its bytes without the line end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record {
    /// First byte.
    pub(super) start: u32,
    /// Past the last byte.
    pub(super) end: u32,
    /// Whether a field opens with a quote.
    pub(super) quoted: bool,
}

/// Why there is no next record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Broken {
    /// Where in the buffer.
    pub(super) at: usize,
    /// What is wrong there.
    pub(super) message: String,
}

/// Deepest nesting of JSON values.
pub(super) const DEEPEST: usize = 128;

/// Finds record boundaries in one stream.
#[derive(Debug)]
pub(super) struct Splitter {
    grammar: Grammar,
    /// Where the next record starts.
    start: usize,
    /// Everything before was looked at.
    at: usize,
    /// Blank lines are no records.
    skip_blank: bool,
}

#[derive(Debug)]
enum Grammar {
    Csv { marks: Marks, open: Option<usize>, quoted: bool },
    Lines,
    Array(Array),
}

#[derive(Debug, Default)]
struct Array {
    stack: Vec<u8>,
    string: Option<usize>,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    /// Before the array or the object.
    #[default]
    Before,
    /// Past `[`: an element or `]`.
    First,
    /// Past `,`: an element.
    Element,
    /// Inside an element of the array.
    Inside,
    /// Inside the only object.
    Single,
    /// Past an element: `,` or `]`.
    After,
    /// Past the end: blanks only.
    Done,
}

impl Splitter {
    /// Delimited text: records end with LF, CRLF or CR outside quotes. Blank lines are skipped until [`Self::keep_blank`].
    #[must_use]
    pub(super) fn csv(marks: Marks) -> Self {
        Self::new(Grammar::Csv { marks, open: None, quoted: false })
    }

    /// One record a line, ended by LF; blank lines are skipped.
    #[must_use]
    pub(super) fn lines() -> Self {
        Self::new(Grammar::Lines)
    }

    /// The elements of one JSON array, or one JSON object.
    #[must_use]
    pub(super) fn array() -> Self {
        Self::new(Grammar::Array(Array::default()))
    }

    const fn new(grammar: Grammar) -> Self {
        Self { grammar, start: 0, at: 0, skip_blank: true }
    }

    /// From here on a blank line is a record of one empty field.
    pub(super) fn keep_blank(&mut self) {
        self.skip_blank = false;
    }

    /// Where the next record starts: everything before belongs to records already found.
    #[must_use]
    pub(super) const fn start(&self) -> usize {
        self.start
    }

    /// Where the quote stands that is still open.
    #[must_use]
    pub(super) const fn open_quote(&self) -> Option<usize> {
        match &self.grammar {
            Grammar::Csv { open, .. } => *open,
            Grammar::Lines => None,
            Grammar::Array(array) => array.string,
        }
    }

    /// The buffer lost its first `bytes` bytes, all before [`Self::start`].
    pub(super) fn shift(&mut self, bytes: usize) {
        self.start -= bytes;
        self.at -= bytes;
        match &mut self.grammar {
            Grammar::Csv { open, .. } => *open = open.map(|at| at - bytes),
            Grammar::Lines => {}
            Grammar::Array(array) => array.string = array.string.map(|at| at - bytes),
        }
    }

    /// Looks at what is new in `bytes` and adds the records found there, at most `most` in `records`. `last` says that nothing follows.
    /// Returns whether it stopped because of `most`.
    ///
    /// # Errors
    ///
    /// When the end of a record can no longer be known: a quote still open at the end, JSON without structure.
    pub(super) fn scan(&mut self, bytes: &[u8], last: bool, most: usize, records: &mut Vec<Record>) -> Result<bool, Broken> {
        match self.grammar {
            Grammar::Csv { .. } => self.scan_csv(bytes, last, most, records),
            Grammar::Lines => Ok(self.scan_lines(bytes, last, most, records)),
            Grammar::Array(_) => self.scan_array(bytes, last, most, records),
        }
    }

    fn scan_csv(&mut self, bytes: &[u8], last: bool, most: usize, records: &mut Vec<Record>) -> Result<bool, Broken> {
        let Grammar::Csv { marks, open, quoted } = &mut self.grammar else { return Ok(false) };
        let marks = *marks;
        loop {
            if records.len() >= most {
                return Ok(true);
            }
            let rest = &bytes[self.at..];
            if open.is_some() {
                if !close_quote(bytes, &mut self.at, last, marks, open) {
                    break;
                }
                continue;
            }
            let found = match marks.quote {
                Some(quote) => memchr3(quote, b'\n', b'\r', rest),
                None => memchr2(b'\n', b'\r', rest),
            };
            let Some(found) = found.map(|offset| self.at + offset) else {
                self.at = bytes.len();
                break;
            };
            if Some(bytes[found]) == marks.quote {
                if found == self.start || bytes[found - 1] == marks.delimiter {
                    *open = Some(found);
                    *quoted = true;
                }
                self.at = found + 1;
                continue;
            }
            let mut next = found + 1;
            if bytes[found] == b'\r' {
                if next == bytes.len() && !last {
                    self.at = found;
                    return Ok(false);
                }
                next += usize::from(bytes.get(next) == Some(&b'\n'));
            }
            if found > self.start || !self.skip_blank {
                records.push(record(self.start, found, *quoted));
            }
            *quoted = false;
            self.start = next;
            self.at = next;
        }
        if last {
            if let Some(at) = *open {
                return Err(Broken { at, message: "a quote opens here and is not closed before the end of the file".to_owned() });
            }
            if self.start < bytes.len() {
                records.push(record(self.start, bytes.len(), *quoted));
                *quoted = false;
                self.start = bytes.len();
            }
        }
        Ok(false)
    }

    fn scan_lines(&mut self, bytes: &[u8], last: bool, most: usize, records: &mut Vec<Record>) -> bool {
        loop {
            if records.len() >= most {
                return true;
            }
            let (end, next) = match memchr(b'\n', &bytes[self.at..]) {
                Some(offset) => (self.at + offset, self.at + offset + 1),
                None if last && self.start < bytes.len() => (bytes.len(), bytes.len()),
                None => {
                    self.at = bytes.len();
                    return false;
                }
            };
            if bytes[self.start..end].iter().any(|byte| !is_blank(*byte)) {
                records.push(record(self.start, end, false));
            }
            self.start = next;
            self.at = next;
        }
    }

    fn scan_array(&mut self, bytes: &[u8], last: bool, most: usize, records: &mut Vec<Record>) -> Result<bool, Broken> {
        let Grammar::Array(array) = &mut self.grammar else { return Ok(false) };
        while self.at < bytes.len() {
            if records.len() >= most {
                return Ok(true);
            }
            if array.string.is_some() {
                if !close_string(bytes, &mut self.at, &mut array.string) {
                    break;
                }
                continue;
            }
            let at = self.at;
            let ended = array.step(bytes[at], at, &mut self.start)?;
            match ended {
                Ended::No => self.at = at + 1,
                Ended::Here => {
                    self.at = at + 1;
                    records.push(record(self.start, self.at, false));
                    self.start = self.at;
                }
                Ended::Before => {
                    // The byte belongs to the array: it is looked at again.
                    let end = self.start + bytes[self.start..at].trim_ascii_end().len();
                    records.push(record(self.start, end, false));
                    self.start = at;
                }
            }
            if matches!(array.stage, Stage::Before | Stage::First | Stage::Element | Stage::After | Stage::Done) {
                self.start = self.at;
            }
        }
        match (last && self.at == bytes.len(), array.stage, array.string) {
            (false, ..) | (true, Stage::Done, _) => Ok(false),
            (true, _, Some(at)) => {
                Err(Broken { at, message: "a string opens here and is not closed before the end of the file".to_owned() })
            }
            (true, Stage::Before, None) => {
                Err(Broken { at: bytes.len(), message: "expected a JSON array, found the end of the file".to_owned() })
            }
            (true, ..) => Err(Broken { at: bytes.len(), message: "the file ends inside of the JSON array".to_owned() }),
        }
    }
}

enum Ended {
    No,
    /// The byte is the last one of the element.
    Here,
    /// The element ended before the byte.
    Before,
}

impl Array {
    fn step(&mut self, byte: u8, at: usize, start: &mut usize) -> Result<Ended, Broken> {
        let broken = |message: &str| Err(Broken { at, message: message.to_owned() });
        if is_blank(byte) {
            return Ok(Ended::No);
        }
        match self.stage {
            Stage::Before => match byte {
                b'[' => self.stage = Stage::First,
                b'{' => {
                    self.stage = Stage::Single;
                    *start = at;
                    self.stack.push(b'}');
                }
                _ => return broken("expected a JSON array of objects, or one object"),
            },
            Stage::First | Stage::Element => match byte {
                b']' if self.stage == Stage::First => self.stage = Stage::Done,
                b',' | b']' | b'}' => return broken("expected an element of the array"),
                _ => {
                    self.stage = Stage::Inside;
                    *start = at;
                    return self.inside(byte, at);
                }
            },
            Stage::Inside | Stage::Single => return self.inside(byte, at),
            Stage::After => match byte {
                b',' => self.stage = Stage::Element,
                b']' => self.stage = Stage::Done,
                _ => return broken("expected `,` or `]` after an element of the array"),
            },
            Stage::Done => return broken("expected the end of the file after the JSON value"),
        }
        Ok(Ended::No)
    }

    fn inside(&mut self, byte: u8, at: usize) -> Result<Ended, Broken> {
        match byte {
            b'"' => self.string = Some(at),
            b'{' | b'[' => {
                if self.stack.len() >= DEEPEST {
                    return Err(Broken { at, message: format!("JSON is nested deeper than {DEEPEST} levels") });
                }
                self.stack.push(byte + 2);
            }
            b',' | b']' if self.stack.is_empty() => {
                self.stage = Stage::After;
                return Ok(Ended::Before);
            }
            b'}' | b']' => {
                if self.stack.pop() != Some(byte) {
                    return Err(Broken { at, message: format!("`{}` closes nothing that is open", char::from(byte)) });
                }
                if self.stack.is_empty() {
                    self.stage = if self.stage == Stage::Single { Stage::Done } else { Stage::After };
                    return Ok(Ended::Here);
                }
            }
            _ => {}
        }
        Ok(Ended::No)
    }
}

const fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

#[expect(clippy::cast_possible_truncation, reason = "a buffer is far smaller than 4 GiB")]
const fn record(start: usize, end: usize, quoted: bool) -> Record {
    Record { start: start as u32, end: end as u32, quoted }
}

/// Moves past what stands inside quotes; false when more input is needed.
fn close_quote(bytes: &[u8], at: &mut usize, last: bool, marks: Marks, open: &mut Option<usize>) -> bool {
    let Some(quote) = marks.quote else { return false };
    let found = match marks.escape {
        Some(escape) => memchr2(quote, escape, &bytes[*at..]),
        None => memchr(quote, &bytes[*at..]),
    };
    let Some(found) = found.map(|offset| *at + offset) else {
        *at = bytes.len();
        return false;
    };
    let is_escape = marks.escape == Some(bytes[found]);
    if found + 1 == bytes.len() && !last && (is_escape || marks.escape.is_none()) {
        *at = found;
        return false;
    }
    if is_escape {
        // What follows an escape never closes the field; only a quote or an escape is changed by it.
        let follows = bytes.get(found + 1).is_some_and(|next| Some(*next) == marks.quote || Some(*next) == marks.escape);
        *at = found + 1 + usize::from(follows);
    } else if marks.escape.is_none() && bytes.get(found + 1) == Some(&quote) {
        *at = found + 2;
    } else {
        *open = None;
        *at = found + 1;
    }
    true
}

/// Moves past what stands inside a JSON string; false when more input is needed.
fn close_string(bytes: &[u8], at: &mut usize, string: &mut Option<usize>) -> bool {
    let from = (*at).max(string.map_or(0, |open| open + 1));
    let Some(found) = bytes.get(from..).and_then(|rest| memchr2(b'"', b'\\', rest)).map(|offset| from + offset) else {
        *at = bytes.len().max(from);
        return false;
    };
    if bytes[found] == b'"' {
        *string = None;
        *at = found + 1;
    } else if found + 1 < bytes.len() {
        *at = found + 2;
    } else {
        *at = found;
        return false;
    }
    true
}
