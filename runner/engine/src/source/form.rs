//! Whether a text is written in full as a declared form says.
//!
//! `strptime` is lenient: it passes over blanks, takes a sign before a year and a year of two digits for one of four. What it would
//! take by guess is refused here, before it is asked. Must not know what the parts mean together.

use super::scalar::{Parsed, Reason};

/// The names that `%A`, `%B` take, in any case; none begins another.
const NAMES: [&[u8]; 19] = [
    b"Monday",
    b"Tuesday",
    b"Wednesday",
    b"Thursday",
    b"Friday",
    b"Saturday",
    b"Sunday",
    b"January",
    b"February",
    b"March",
    b"April",
    b"May",
    b"June",
    b"July",
    b"August",
    b"September",
    b"October",
    b"November",
    b"December",
];
/// Signs that begin and end with a digit.
const NUMBERS: &[u8] = b"CDFGHIMNRSTUVWYdefgjklmsuwy";

/// Whether literals stand as they are and numbers in full: years with all their digits and no sign, nothing before a number, and of two
/// numbers side by side each with all its digits. Elsewhere leading zeros may be missing. A second 60 is out of range.
pub(super) fn check(text: &[u8], format: &str) -> Parsed<()> {
    let mut walk = Walk { text };
    walk.form(format.as_bytes(), false, false)?;
    if walk.text.is_empty() { Ok(()) } else { Err(Reason::Form) }
}

/// A sign of strftime, without its `%`.
struct Sign {
    flag: Option<u8>,
    width: usize,
    colons: usize,
    letter: u8,
}

impl Sign {
    /// The sign at the start, and what is behind it.
    fn read(format: &[u8]) -> Option<(Self, &[u8])> {
        let (flag, rest) = match format.split_first()? {
            (flag @ (b'_' | b'-' | b'0' | b'^' | b'#'), rest) => (Some(*flag), rest),
            _ => (None, format),
        };
        let count = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let width = rest[..count].iter().fold(0, |width: usize, digit| width.saturating_mul(10).saturating_add(usize::from(digit - b'0')));
        let rest = &rest[count..];
        let colons = rest.iter().take_while(|byte| **byte == b':').count();
        let (letter, mut rest) = rest[colons..].split_first()?;
        if *letter == b'.' {
            let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
            rest = rest[digits..].strip_prefix(b"f")?;
        }
        Some((Self { flag, width, colons, letter: *letter }, rest))
    }
}

/// Whether a digit stands first in what is written so.
fn begins_with_digit(format: &[u8]) -> bool {
    match format {
        [b'%', rest @ ..] => Sign::read(rest).is_some_and(|(sign, _)| NUMBERS.contains(&sign.letter)),
        [first, ..] => first.is_ascii_digit(),
        [] => false,
    }
}

/// The text that is left.
struct Walk<'t> {
    text: &'t [u8],
}

impl Walk<'_> {
    /// `before`, `behind`: whether digits stand directly around the form.
    fn form(&mut self, mut format: &[u8], mut before: bool, behind: bool) -> Parsed<()> {
        while let Some((byte, rest)) = format.split_first() {
            if *byte != b'%' {
                self.literal(*byte)?;
                (before, format) = (byte.is_ascii_digit(), rest);
                continue;
            }
            let (sign, rest) = Sign::read(rest).ok_or(Reason::Form)?;
            let follows = if rest.is_empty() { behind } else { begins_with_digit(rest) };
            self.sign(&sign, before, follows)?;
            (before, format) = (sign.letter == b'.' || NUMBERS.contains(&sign.letter), rest);
        }
        Ok(())
    }

    fn sign(&mut self, sign: &Sign, before: bool, behind: bool) -> Parsed<()> {
        let joined = before || behind;
        match sign.letter {
            b'Y' | b'G' => self.number(sign, 4, true),
            b'y' | b'g' | b'C' => self.number(sign, 2, true),
            b'd' | b'e' | b'm' | b'H' | b'k' | b'I' | b'l' | b'M' | b'U' | b'V' | b'W' => self.number(sign, 2, joined),
            b'S' => {
                let is_leap = self.text.starts_with(b"60");
                self.number(sign, 2, joined)?;
                if is_leap { Err(Reason::Range) } else { Ok(()) }
            }
            b'j' => self.number(sign, 3, joined),
            b'u' | b'w' => self.number(sign, 1, true),
            b'F' => self.form(b"%Y-%m-%d", before, behind),
            b'D' => self.form(b"%m/%d/%y", before, behind),
            b'T' => self.form(b"%H:%M:%S", before, behind),
            b'R' => self.form(b"%H:%M", before, behind),
            b'f' | b'N' => self.digits(9).map(|_| ()),
            b'.' => match self.text.strip_prefix(b".") {
                Some(rest) => {
                    self.text = rest;
                    self.digits(9).map(|_| ())
                }
                None => Ok(()),
            },
            b's' => {
                self.text = self.text.strip_prefix(b"-").unwrap_or(self.text);
                self.digits(19).map(|_| ())
            }
            b'a' | b'b' | b'h' => self.pass(3),
            b'p' | b'P' => self.pass(2),
            b'A' | b'B' => {
                let is_first = |name: &&[u8]| self.text.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name));
                let length = NAMES.iter().copied().find(is_first).ok_or(Reason::Form)?.len();
                self.pass(length)
            }
            b'n' | b't' => self.pass(self.run(u8::is_ascii_whitespace)),
            b'%' => self.literal(b'%'),
            b'z' => self.offset(sign.colons > 0),
            b'Q' if matches!(self.text.first(), Some(b'+' | b'-')) => self.offset(sign.colons > 0),
            b'Q' => self.pass(self.run(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'+' | b'-' | b'/'))),
            _ => Err(Reason::Form),
        }
    }

    /// A number of so many digits, or of fewer where it need not be full. Blanks stand in for zeros where the sign pads with them.
    fn number(&mut self, sign: &Sign, digits: usize, is_full: bool) -> Parsed<()> {
        let pads_blank = sign.flag == Some(b'_') || sign.flag.is_none() && matches!(sign.letter, b'e' | b'k' | b'l');
        let most = if pads_blank || sign.flag == Some(b'-') { digits } else { digits.max(sign.width) };
        let blanks = if pads_blank { self.run(|byte| *byte == b' ').min(most - 1) } else { 0 };
        self.pass(blanks)?;
        let taken = blanks + self.digits(most - blanks)?;
        if is_full && taken < digits { Err(Reason::Form) } else { Ok(()) }
    }

    /// One digit or more, as far as they go; how many.
    fn digits(&mut self, most: usize) -> Parsed<usize> {
        let count = self.run(u8::is_ascii_digit).min(most);
        self.pass(count)?;
        if count == 0 { Err(Reason::Form) } else { Ok(count) }
    }

    fn offset(&mut self, colons: bool) -> Parsed<()> {
        if !matches!(self.text.first(), Some(b'+' | b'-')) {
            return Err(Reason::Form);
        }
        self.pass(1)?;
        self.pass(self.run(|byte| byte.is_ascii_digit() || colons && *byte == b':'))
    }

    fn literal(&mut self, byte: u8) -> Parsed<()> {
        if self.text.first() == Some(&byte) { self.pass(1) } else { Err(Reason::Form) }
    }

    fn run(&self, belongs: impl Fn(&u8) -> bool) -> usize {
        self.text.iter().take_while(|byte| belongs(byte)).count()
    }

    fn pass(&mut self, count: usize) -> Parsed<()> {
        self.text = self.text.get(count..).ok_or(Reason::Form)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::source::scalar::Reason;

    #[test]
    fn what_would_be_guessed_is_refused() {
        for (wrong, format) in [
            ("31/12/26", "%d/%m/%Y"),
            ("31/12/126", "%d/%m/%Y"),
            (" 31/12/2026", "%d/%m/%Y"),
            ("31/ 12/2026", "%d/%m/%Y"),
            ("31/12/+2026", "%d/%m/%Y"),
            ("31/12/-2026", "%d/%m/%Y"),
            ("31/12/2026 ", "%d/%m/%Y"),
            ("31/12/6", "%d/%m/%y"),
            ("26-01-01", "%F"),
            ("1012026", "%d%m%Y"),
            ("2026101", "%Y%m%d"),
            ("20261 1", "%Y%m%d"),
            ("202611", "%Y%j"),
            ("123", "%H%M"),
            ("101", "%H%-M"),
            ("1  Jan 2026", "%d %b %Y"),
            ("1Jan 2026", "%d %b %Y"),
            ("Jan  1 2026", "%b %d %Y"),
            ("+86400", "%s"),
            (" 86400", "%s"),
            ("12:00 0100", "%H:%M %z"),
        ] {
            assert_eq!(check(wrong.as_bytes(), format), Err(Reason::Form), "{wrong} {format}");
        }
        for format in ["%H:%M:%S", "%T"] {
            assert_eq!(check(b"23:59:60", format), Err(Reason::Range), "{format}");
        }
    }

    #[test]
    fn what_is_written_in_full_passes() {
        for (right, format) in [
            ("31/12/2026", "%d/%m/%Y"),
            ("1/2/2026", "%d/%m/%Y"),
            ("01022026", "%d%m%Y"),
            ("1jan2026", "%d%b%Y"),
            ("Monday 05 JANUARY 2026", "%A %d %B %Y"),
            ("Jan  1 2026", "%b %e %Y"),
            ("Jan 1 2026", "%b %e %Y"),
            (" 1/02/2026", "%_d/%m/%Y"),
            ("001/02/2026", "%3d/%m/%Y"),
            ("2026-W01-1", "%G-W%V-%u"),
            ("60 2026", "%j %Y"),
            ("2026-01-05T01:02:03", "%FT%T"),
            ("2026-01-05 01:02:03.5", "%Y-%m-%d %H:%M:%S%.f"),
            ("2026-01-05 01:02:03", "%Y-%m-%d %H:%M:%S%.f"),
            ("010203123456", "%H%M%S%f"),
            ("1:02 pm", "%I:%M %p"),
            ("10:00+0100", "%H:%M%z"),
            ("10:00 -01:00", "%H:%M %:z"),
            ("10:00 Europe/Lisbon", "%H:%M %Q"),
            ("-86400", "%s"),
            ("100%", "%H0%%"),
            ("2026\u{5e74}1\u{6708}2\u{65e5}", "%Y\u{5e74}%m\u{6708}%d\u{65e5}"),
        ] {
            assert_eq!(check(right.as_bytes(), format), Ok(()), "{right} {format}");
        }
    }
}
