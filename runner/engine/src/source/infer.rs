//! Types proposed from the first records.
//!
//! Nothing is proposed that would change a value: numbers with leading zeros or a plus sign, more than 38 digits, dates whose day and month
//! cannot be told apart, and moments with and without zones in one column stay text. Decimals become `decimal(38,s)` with the most digits
//! after the point that were seen; they become `double` only beside numbers with exponents and only when 15 digits hold them exactly.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use errand_model::failure::{Failure, Place};
use errand_model::value::ColumnType;

use super::dialect::Dialect;
use super::field::{self, Cell, CellKind};
use super::stream::{Run, Stream};
use super::{header, json, moment, scalar};
use crate::store::FileEntry;

/// Most bytes of records that are looked at.
const BYTES: u64 = 4 << 20;
/// Most records that are looked at.
const RECORDS: u64 = 10_000;

/// What the first records hold.
#[derive(Default)]
pub(super) struct Sample {
    /// Names in the order of their first appearance, with what was seen under them.
    pub(super) columns: Vec<(String, Guess)>,
    by_name: HashMap<String, usize>,
    /// Records looked at.
    pub(super) records: u64,
    /// Where the first key without a name stands.
    pub(super) unnamed: Option<Place>,
    bytes: u64,
}

impl Sample {
    /// Looks at the first records of the first files.
    pub(super) fn of(files: &[FileEntry], dialect: &Dialect) -> Result<Self, Failure> {
        let mut sample = Self::default();
        for entry in files {
            if sample.is_full() {
                break;
            }
            if entry.bytes > 0 || !dialect.is_plain(&entry.path) {
                sample.file(entry, dialect)?;
            }
        }
        Ok(sample)
    }

    /// What was seen under a name, in any case.
    pub(super) fn find(&self, name: &str) -> Option<&Guess> {
        self.by_name.get(&name.to_lowercase()).map(|index| &self.columns[*index].1)
    }

    fn is_full(&self) -> bool {
        self.records >= RECORDS || self.bytes >= BYTES
    }

    fn column(&mut self, name: &str) -> usize {
        let next = self.columns.len();
        let index = *self.by_name.entry(name.to_lowercase()).or_insert(next);
        if index == next {
            self.columns.push((name.to_owned(), Guess::default()));
        }
        index
    }

    fn file(&mut self, entry: &FileEntry, dialect: &Dialect) -> Result<(), Failure> {
        let mut stream = Stream::open(entry, dialect, &Arc::new(AtomicU64::new(0)))?;
        let mut fields = Vec::new();
        if dialect.is_csv() {
            let Some(header) = header::read(&mut stream, dialect, &entry.path)? else { return Ok(()) };
            fields = header.names.iter().map(|name| self.column(name)).collect();
            if fields.len() == 1 {
                stream.keep_blank();
            }
        }
        while !self.is_full() {
            let most = usize::try_from(RECORDS - self.records).unwrap_or(usize::MAX).min(1024);
            let Some(run) = stream.next(most, &|_| false)? else { break };
            self.run(&run, &fields, dialect, &entry.path);
        }
        Ok(())
    }

    fn run(&mut self, run: &Run, fields: &[usize], dialect: &Dialect, path: &str) {
        let mut cells = Vec::new();
        for record in &run.records {
            self.records += 1;
            self.bytes += u64::from(record.end - record.start) + 1;
            if dialect.is_csv() {
                cells.clear();
                let cut = field::cut(&run.bytes, *record, dialect.marks, &mut cells);
                if dialect.trailing_delimiter {
                    cells.pop();
                }
                if cut.is_ok() && cells.len() == fields.len() {
                    for (cell, column) in cells.iter().zip(fields) {
                        self.columns[*column].1.field(*cell, &run.bytes, dialect);
                    }
                }
            } else {
                // Of a broken object the members before the break are taken; it is refused when it is loaded.
                let _ = json::object(&run.bytes, record.start as usize, record.end as usize, |key, value| {
                    if key.start == key.end && self.unnamed.is_none() {
                        let mark = run.mark.forward(&run.bytes, key.start as usize - 1);
                        self.unnamed = Some(Place { file: path.to_owned(), line: mark.line, column: mark.column });
                    }
                    if let Ok(name) = std::str::from_utf8(&json::unescape(key.bytes(&run.bytes))) {
                        let column = self.column(name);
                        self.columns[column].1.member(value, &run.bytes);
                    }
                    Ok(())
                });
            }
        }
    }
}

/// What was seen in one column.
#[derive(Clone, Debug, Default)]
pub(super) struct Guess {
    values: u64,
    booleans: u64,
    whole: u64,
    decimals: u64,
    exponents: u64,
    padded: u64,
    long: u64,
    slashed: u64,
    dates: u64,
    timestamps: u64,
    zoned: u64,
    nested: u64,
    /// A whole number that 64 bits do not hold.
    is_wide: bool,
    /// Most digits before the point.
    digits: usize,
    /// Most digits after the point.
    scale: usize,
    /// Most digits of a number without exponent.
    significant: usize,
}

impl Guess {
    fn field(&mut self, cell: Cell, bytes: &[u8], dialect: &Dialect) {
        let text = cell.bytes(bytes);
        if cell.kind == CellKind::Plain && dialect.is_null(text) {
            return;
        }
        self.values += 1;
        if text.eq_ignore_ascii_case(b"true") || text.eq_ignore_ascii_case(b"false") {
            self.booleans += 1;
        } else if !self.number(text) {
            self.moment(text);
        }
    }

    fn member(&mut self, cell: Cell, bytes: &[u8]) {
        let text = cell.bytes(bytes);
        match cell.kind {
            CellKind::Null | CellKind::Missing => return,
            CellKind::Boolean => self.booleans += 1,
            CellKind::Nested => self.nested += 1,
            CellKind::Number => {
                self.number(text);
            }
            CellKind::Plain | CellKind::Quoted | CellKind::Escaped | CellKind::Text | CellKind::EscapedText => self.moment(text),
        }
        self.values += 1;
    }

    /// Takes a number; false when the text is none.
    fn number(&mut self, text: &[u8]) -> bool {
        if text.first() == Some(&b'+') || scalar::double(text).is_err() || !text.last().is_some_and(u8::is_ascii_digit) {
            return false;
        }
        let digits = text.strip_prefix(b"-").unwrap_or(text);
        if digits.iter().any(|byte| matches!(byte, b'e' | b'E')) {
            self.exponents += 1;
            return true;
        }
        let (whole, fraction) = match digits.iter().position(|byte| *byte == b'.') {
            Some(point) => (&digits[..point], digits.len() - point - 1),
            None => (digits, 0),
        };
        if whole.len() > 1 && whole[0] == b'0' || whole.is_empty() {
            self.padded += 1;
        } else if whole.len() + fraction > 38 {
            self.long += 1;
        } else {
            self.digits = self.digits.max(whole.len());
            self.scale = self.scale.max(fraction);
            self.significant = self.significant.max(whole.len() + fraction);
            if fraction > 0 {
                self.decimals += 1;
            } else {
                self.whole += 1;
                self.is_wide |= scalar::bigint(text).is_err();
            }
        }
        true
    }

    fn moment(&mut self, text: &[u8]) {
        if moment::date(text).is_ok() {
            self.dates += 1;
        } else if moment::timestamp(text, false).is_ok() {
            self.timestamps += 1;
        } else if moment::timestamptz(text).is_ok() {
            self.zoned += 1;
        } else if is_slashed(text) {
            self.slashed += 1;
        }
    }

    /// The narrowest type that holds every value seen, and why it is text where that may surprise.
    pub(super) fn verdict(&self) -> (ColumnType, Option<&'static str>) {
        let numbers = self.whole + self.decimals + self.exponents;
        let all = |count: u64| count == self.values;
        if self.values == 0 {
            (ColumnType::Text, Some("holds only NULL in the first records"))
        } else if self.nested > 0 {
            (ColumnType::Json, None)
        } else if all(self.booleans) {
            (ColumnType::Boolean, None)
        } else if all(numbers) {
            self.numeric()
        } else if all(numbers + self.padded + self.long) {
            let why = if self.long > 0 { "holds numbers of more than 38 digits" } else { "holds numbers with leading zeros" };
            (ColumnType::Text, Some(why))
        } else if all(self.dates) {
            (ColumnType::Date, None)
        } else if all(self.dates + self.timestamps) {
            (ColumnType::Timestamp, None)
        } else if all(self.zoned) {
            (ColumnType::Timestamptz, None)
        } else if all(self.dates + self.timestamps + self.zoned) {
            (ColumnType::Text, Some("holds moments with and without a zone"))
        } else if all(self.slashed) {
            (ColumnType::Text, Some("holds dates whose day and month cannot be told apart: declare `type: date` and its `format`"))
        } else {
            (ColumnType::Text, None)
        }
    }

    fn numeric(&self) -> (ColumnType, Option<&'static str>) {
        if self.exponents > 0 {
            return match self.significant {
                0..=15 => (ColumnType::Double, None),
                _ => (ColumnType::Text, Some("holds numbers with exponents beside numbers of more than 15 digits")),
            };
        }
        if self.decimals == 0 && !self.is_wide {
            return (ColumnType::Bigint, None);
        }
        match u8::try_from(self.scale) {
            Ok(scale) if self.digits + self.scale <= 38 => (ColumnType::Decimal(38, scale), None),
            _ => (ColumnType::Text, Some("holds numbers that no decimal of 38 digits holds together")),
        }
    }
}

/// Whether a text looks like `01/02/2026`, `1.2.26` or `01-02-2026`.
fn is_slashed(text: &[u8]) -> bool {
    let parts: Vec<&[u8]> = text.split(|byte| matches!(byte, b'/' | b'.' | b'-')).collect();
    let [first, second, year] = parts.as_slice() else { return false };
    let short = |part: &[u8]| matches!(part.len(), 1..=2) && part.iter().all(u8::is_ascii_digit);
    short(first) && short(second) && matches!(year.len(), 2 | 4) && year.iter().all(u8::is_ascii_digit)
}
