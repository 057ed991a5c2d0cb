//! A strict JSON scanner (RFC 8259) that leaves every value where it stands.
//!
//! Numbers keep their text, nested values their exact bytes. Must not know columns or types.

use std::borrow::Cow;

use super::field::{Cell, CellKind};
use super::split::DEEPEST;

/// Why this is not JSON, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) at: usize,
    pub(super) message: &'static str,
}

const fn fault<T>(at: usize, message: &'static str) -> Result<T, Fault> {
    Err(Fault { at, message })
}

/// Whether `text` is one JSON value.
pub(super) fn is_valid(text: &[u8]) -> bool {
    let mut scanner = Scanner { bytes: text, at: 0, end: text.len() };
    scanner.blanks();
    if scanner.value(0).is_err() {
        return false;
    }
    scanner.blanks();
    scanner.at == text.len()
}

/// Calls `member` for each key (as it stands between its quotes) and value of the object in `bytes[start..end]`.
pub(super) fn object(bytes: &[u8], start: usize, end: usize, mut member: impl FnMut(Cell, Cell) -> Result<(), Fault>) -> Result<(), Fault> {
    let mut scanner = Scanner { bytes, at: start, end };
    scanner.blanks();
    if scanner.peek() != Some(b'{') {
        // What else is there decides between broken JSON and a value that is no object.
        let at = scanner.at;
        scanner.value(0)?;
        return fault(at, "expected a JSON object");
    }
    scanner.at += 1;
    scanner.blanks();
    if scanner.peek() == Some(b'}') {
        scanner.at += 1;
    } else {
        loop {
            scanner.blanks();
            let key = scanner.key()?;
            let value = scanner.value(1)?;
            member(key, value)?;
            scanner.blanks();
            match scanner.next() {
                Some(b',') => {}
                Some(b'}') => break,
                _ => return fault(scanner.at.saturating_sub(1), "expected `,` or `}`"),
            }
        }
    }
    scanner.blanks();
    if scanner.at == end { Ok(()) } else { fault(scanner.at, "expected the end of the record after the object") }
}

struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
    end: usize,
}

impl Scanner<'_> {
    fn peek(&self) -> Option<u8> {
        if self.at < self.end { Some(self.bytes[self.at]) } else { None }
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek();
        self.at += 1;
        byte
    }

    fn blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    /// A key, its colon and the blanks around.
    fn key(&mut self) -> Result<Cell, Fault> {
        if self.peek() != Some(b'"') {
            return fault(self.at, "expected a key in double quotes");
        }
        let key = self.string()?;
        self.blanks();
        if self.peek() != Some(b':') {
            return fault(self.at, "expected `:` after a key");
        }
        self.at += 1;
        self.blanks();
        Ok(key)
    }

    fn value(&mut self, depth: usize) -> Result<Cell, Fault> {
        let start = self.at;
        let kind = match self.peek() {
            Some(b'"') => return self.string(),
            Some(b'-' | b'0'..=b'9') => {
                self.number()?;
                CellKind::Number
            }
            Some(b't') => self.word(b"true", CellKind::Boolean)?,
            Some(b'f') => self.word(b"false", CellKind::Boolean)?,
            Some(b'n') => self.word(b"null", CellKind::Null)?,
            Some(open @ (b'{' | b'[')) => {
                self.nested(open, depth)?;
                CellKind::Nested
            }
            _ => return fault(self.at, "expected a JSON value"),
        };
        Ok(cell(start, self.at, kind))
    }

    fn word(&mut self, word: &[u8], kind: CellKind) -> Result<CellKind, Fault> {
        let end = self.at + word.len();
        if end > self.end || &self.bytes[self.at..end] != word {
            return fault(self.at, "expected a JSON value");
        }
        self.at = end;
        Ok(kind)
    }

    fn number(&mut self) -> Result<(), Fault> {
        let message = "a number is not written as JSON wants it";
        let digits = |scanner: &mut Self| {
            let from = scanner.at;
            while matches!(scanner.peek(), Some(b'0'..=b'9')) {
                scanner.at += 1;
            }
            if scanner.at == from { fault(from, message) } else { Ok(()) }
        };
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else {
            digits(self)?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            digits(self)?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            digits(self)?;
        }
        match self.peek() {
            Some(b'0'..=b'9' | b'.' | b'a'..=b'z' | b'A'..=b'Z' | b'_' | b'+' | b'-') => fault(self.at, message),
            _ => Ok(()),
        }
    }

    /// A string: the cell is what stands between the quotes.
    fn string(&mut self) -> Result<Cell, Fault> {
        let open = self.at;
        self.at += 1;
        let mut kind = CellKind::Text;
        loop {
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => {
                    kind = CellKind::EscapedText;
                    self.escape()?;
                }
                Some(0..=0x1f) => return fault(self.at, "a control character stands unescaped in a string"),
                Some(_) => self.at += 1,
                None => return fault(open, "a string is not closed"),
            }
        }
        self.at += 1;
        Ok(cell(open + 1, self.at - 1, kind))
    }

    fn escape(&mut self) -> Result<(), Fault> {
        let at = self.at;
        self.at += 1;
        match self.next() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Ok(()),
            Some(b'u') => {
                let unit = self.unit(at)?;
                if matches!(unit, 0xdc00..=0xdfff) {
                    return fault(at, "half of a surrogate pair");
                }
                let is_high = matches!(unit, 0xd800..=0xdbff);
                if is_high && (self.next() != Some(b'\\') || self.next() != Some(b'u') || !matches!(self.unit(at)?, 0xdc00..=0xdfff)) {
                    return fault(at, "half of a surrogate pair");
                }
                if unit == 0 {
                    return fault(at, "an escaped NUL character, which no text column holds");
                }
                Ok(())
            }
            _ => fault(at, "an unknown escape in a string"),
        }
    }

    fn unit(&mut self, at: usize) -> Result<u32, Fault> {
        let digits = if self.at + 4 <= self.end { &self.bytes[self.at..self.at + 4] } else { &[] };
        self.at += 4;
        match hex(digits) {
            Some(unit) => Ok(unit),
            None => fault(at, "four hexadecimal digits must follow `\\u`"),
        }
    }

    fn nested(&mut self, open: u8, depth: usize) -> Result<(), Fault> {
        if depth >= DEEPEST {
            return fault(self.at, "nested too deep");
        }
        let close = open + 2;
        self.at += 1;
        self.blanks();
        if self.peek() == Some(close) {
            self.at += 1;
            return Ok(());
        }
        loop {
            self.blanks();
            if open == b'{' {
                self.key()?;
            }
            self.value(depth + 1)?;
            self.blanks();
            match self.next() {
                Some(b',') => {}
                Some(byte) if byte == close => return Ok(()),
                _ => return fault(self.at - 1, if open == b'{' { "expected `,` or `}`" } else { "expected `,` or `]`" }),
            }
        }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "a buffer is far smaller than 4 GiB")]
const fn cell(start: usize, end: usize, kind: CellKind) -> Cell {
    Cell { start: start as u32, end: end as u32, kind }
}

fn hex(digits: &[u8]) -> Option<u32> {
    if digits.len() != 4 {
        return None;
    }
    digits.iter().try_fold(0, |value, digit| char::from(*digit).to_digit(16).map(|digit| value * 16 + digit))
}

/// A scanned string's content without its escapes.
pub(super) fn unescape(content: &[u8]) -> Cow<'_, [u8]> {
    if !content.contains(&b'\\') {
        return Cow::Borrowed(content);
    }
    let mut out = Vec::with_capacity(content.len());
    let mut at = 0;
    while let Some(byte) = content.get(at) {
        if *byte != b'\\' {
            out.push(*byte);
            at += 1;
            continue;
        }
        at += 2;
        match content.get(at - 1) {
            Some(b'b') => out.push(8),
            Some(b'f') => out.push(12),
            Some(b'n') => out.push(b'\n'),
            Some(b'r') => out.push(b'\r'),
            Some(b't') => out.push(b'\t'),
            Some(b'u') => {
                let unit = |at: usize| content.get(at..at + 4).and_then(hex).unwrap_or_default();
                let mut point = unit(at);
                at += 4;
                if matches!(point, 0xd800..=0xdbff) {
                    point = 0x10000 + ((point - 0xd800) << 10) + (unit(at + 2).wrapping_sub(0xdc00) & 0x3ff);
                    at += 6;
                }
                let mut utf8 = [0; 4];
                out.extend_from_slice(char::from_u32(point).unwrap_or(char::REPLACEMENT_CHARACTER).encode_utf8(&mut utf8).as_bytes());
            }
            Some(other) => out.push(*other),
            None => {}
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::{is_valid, object, unescape};

    #[test]
    fn json_is_taken_strictly() {
        for right in ["1", "-0.5e+3", "\"a\\u00e9\\n\"", "[]", " {\"a\": [1, {\"b\": null}]} ", "true", "\"\\ud83d\\ude00\""] {
            assert!(is_valid(right.as_bytes()), "{right}");
        }
        for wrong in [
            "",
            "01",
            "1.",
            ".5",
            "+1",
            "nul",
            "[1,]",
            "{\"a\":1,}",
            "{a:1}",
            "'a'",
            "\"\n\"",
            "\"\\x\"",
            "\"\\ud83d\"",
            "1 2",
            "[1",
            "NaN",
            "{\"a\" 1}",
            "\"\\u0000\"",
        ] {
            assert!(!is_valid(wrong.as_bytes()), "{wrong}");
        }
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(!is_valid(deep.as_bytes()));
        let fits = format!("{}{}", "[".repeat(100), "]".repeat(100));
        assert!(is_valid(fits.as_bytes()));
    }

    #[test]
    fn strings_lose_their_escapes_as_serde_json_does() {
        for text in [r"plain", r"a\n\t\\\/\u00e9\ud83d\ude00é", r#"\"q\""#, r"\b\f\r"] {
            let expected: String = serde_json::from_str(&format!("\"{text}\"")).expect("valid");
            assert_eq!(unescape(text.as_bytes()), expected.as_bytes());
        }
    }

    #[test]
    fn members_stand_where_they_were_written() {
        let text = br#" {"a": 1.50, "b\n": "x", "c": {"d": [1]} } "#;
        let mut seen = Vec::new();
        object(text, 0, text.len(), |key, value| {
            seen.push(format!("{}={}", String::from_utf8_lossy(key.bytes(text)), String::from_utf8_lossy(value.bytes(text))));
            Ok(())
        })
        .expect("an object");
        assert_eq!(seen, ["a=1.50", "b\\n=x", "c={\"d\": [1]}"]);
        assert_eq!(object(b"[1]", 0, 3, |_, _| Ok(())).expect_err("no object").message, "expected a JSON object");
        assert_eq!(object(b"{\"a\":tru}", 0, 9, |_, _| Ok(())).expect_err("broken").at, 5);
    }
}
