//! How values are written as text: the forms that DuckDB's `COPY` and casts give, so that an export is the same from every warehouse.
//!
//! Everything appends to a buffer; nothing allocates, but for a number that needs its shortest digits searched.

use std::io::Write as _;

/// Pairs of digits from `00` to `99`.
const PAIRS: [u8; 200] = {
    let mut pairs = [0; 200];
    let mut index = 0;
    while index < 100 {
        pairs[index * 2] = b'0' + (index / 10) as u8;
        pairs[index * 2 + 1] = b'0' + (index % 10) as u8;
        index += 1;
    }
    pairs
};
const SECOND: i64 = 1_000_000;
const DAY: i64 = 86_400 * SECOND;
/// Widest decimal whose zeros at the end are left out in JSON; wider ones keep all digits of their scale.
const SHORT_DECIMAL: u8 = 15;

/// Digits of a number, without a sign.
pub(crate) fn unsigned(out: &mut Vec<u8>, value: u128) {
    let mut buffer = [0_u8; 40];
    let mut at = buffer.len();
    let mut wide = value;
    while wide > u128::from(u64::MAX) {
        let mut low = (wide % 10_000_000_000_000_000_000) as u64;
        wide /= 10_000_000_000_000_000_000;
        for _ in 0..19 {
            at -= 1;
            buffer[at] = b'0' + (low % 10) as u8;
            low /= 10;
        }
    }
    let mut value = wide as u64;
    while value >= 100 {
        let pair = (value % 100) as usize * 2;
        value /= 100;
        at -= 2;
        buffer[at..at + 2].copy_from_slice(&PAIRS[pair..pair + 2]);
    }
    if value >= 10 {
        at -= 2;
        buffer[at..at + 2].copy_from_slice(&PAIRS[value as usize * 2..value as usize * 2 + 2]);
    } else {
        at -= 1;
        buffer[at] = b'0' + value as u8;
    }
    out.extend_from_slice(&buffer[at..]);
}

/// A whole number.
pub(crate) fn integer(out: &mut Vec<u8>, value: i64) {
    if value < 0 {
        out.push(b'-');
    }
    unsigned(out, u128::from(value.unsigned_abs()));
}

/// A number in `width` digits at least.
fn padded(out: &mut Vec<u8>, value: u64, width: usize) {
    let start = out.len();
    unsigned(out, u128::from(value));
    let missing = width.saturating_sub(out.len() - start);
    if missing > 0 {
        out.splice(start..start, std::iter::repeat_n(b'0', missing));
    }
}

fn two(out: &mut Vec<u8>, value: i64) {
    let at = value.clamp(0, 99) as usize * 2;
    out.extend_from_slice(&PAIRS[at..at + 2]);
}

/// All digits of the scale; without the zero before the point where the type has no digit there and `bare` says so.
fn decimal_digits(out: &mut Vec<u8>, value: i128, scale: u8, bare: bool) {
    if value < 0 {
        out.push(b'-');
    }
    let start = out.len();
    unsigned(out, value.unsigned_abs());
    let scale = usize::from(scale);
    if scale == 0 {
        return;
    }
    let wanted = scale + usize::from(!bare);
    let missing = wanted.saturating_sub(out.len() - start);
    out.splice(start..start, std::iter::repeat_n(b'0', missing));
    let point = out.len() - scale;
    out.insert(point, b'.');
}

/// A decimal as text: `-0.05`; `.05` where the type has no digit before the point.
pub(crate) fn decimal(out: &mut Vec<u8>, value: i128, precision: u8, scale: u8) {
    decimal_digits(out, value, scale, precision == scale);
}

/// A decimal as a number of JSON: exact, without zeros at the end when the type is narrow, never with an exponent.
pub(crate) fn decimal_json(out: &mut Vec<u8>, value: i128, precision: u8, scale: u8) {
    decimal_digits(out, value, scale, false);
    if precision > SHORT_DECIMAL {
        return;
    }
    if scale == 0 {
        return out.extend_from_slice(b".0");
    }
    while out.ends_with(b"0") && !out.ends_with(b".0") {
        out.pop();
    }
}

/// Shortest digits of a finite number that is not negative, and the power of ten of the first.
struct Shortest {
    digits: [u8; 20],
    count: usize,
    exponent: i32,
}

impl Shortest {
    fn of(value: impl std::fmt::LowerExp) -> Self {
        let mut text = [0_u8; 40];
        let mut rest = &mut text[..];
        // Shortest digits and exponent of a double need less than 30 bytes.
        let written = write!(rest, "{value:e}").map_or(0, |()| 40 - rest.len());
        let (mut digits, mut count, mut exponent, mut negative, mut behind) = ([0; 20], 0, 0_i32, false, false);
        for byte in &text[..written] {
            match byte {
                b'e' => behind = true,
                b'-' if behind => negative = true,
                b'0'..=b'9' if behind => exponent = exponent * 10 + i32::from(byte - b'0'),
                b'0'..=b'9' if count < digits.len() => {
                    digits[count] = *byte;
                    count += 1;
                }
                _ => {}
            }
        }
        Self { digits, count, exponent: if negative { -exponent } else { exponent } }
    }

    /// Digits with a point and at least one digit on each side of it.
    fn fixed(&self, out: &mut Vec<u8>) {
        let digits = &self.digits[..self.count];
        if self.exponent < 0 {
            out.extend_from_slice(b"0.");
            out.extend(std::iter::repeat_n(b'0', self.exponent.unsigned_abs() as usize - 1));
            out.extend_from_slice(digits);
            return;
        }
        let whole = self.exponent.unsigned_abs() as usize + 1;
        if whole >= self.count {
            out.extend_from_slice(digits);
            out.extend(std::iter::repeat_n(b'0', whole - self.count));
            out.extend_from_slice(b".0");
        } else {
            out.extend_from_slice(&digits[..whole]);
            out.push(b'.');
            out.extend_from_slice(&digits[whole..]);
        }
    }

    fn mantissa(&self, out: &mut Vec<u8>) {
        out.push(self.digits[0]);
        if self.count > 1 {
            out.push(b'.');
            out.extend_from_slice(&self.digits[1..self.count]);
        }
        out.push(b'e');
    }

    /// Fixed up to sixteen digits, then with an exponent of two digits and its sign.
    fn text(&self, out: &mut Vec<u8>) {
        if (-4..16).contains(&self.exponent) {
            return self.fixed(out);
        }
        self.mantissa(out);
        out.push(if self.exponent < 0 { b'-' } else { b'+' });
        padded(out, u64::from(self.exponent.unsigned_abs()), 2);
    }

    fn json(&self, out: &mut Vec<u8>) {
        if (-6..21).contains(&self.exponent) {
            return self.fixed(out);
        }
        self.mantissa(out);
        integer(out, i64::from(self.exponent));
    }
}

/// Numbers of few digits, which most are: whole ones, and those of up to four digits after the point.
fn is_plain(out: &mut Vec<u8>, magnitude: f64) -> bool {
    if !(1e-3..1e11).contains(&magnitude) && magnitude != 0.0 {
        return false;
    }
    let scaled = (magnitude * 1e4).round();
    // The check rounds once, so that these are the only digits up to the fifteenth that mean this number.
    #[expect(clippy::float_cmp, reason = "the very same number is meant")]
    if scaled / 1e4 != magnitude {
        return false;
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "below 1e15 and not negative")]
    let scaled = scaled as u64;
    unsigned(out, u128::from(scaled / 10_000));
    out.push(b'.');
    let start = out.len();
    two(out, (scaled % 10_000 / 100).cast_signed());
    two(out, (scaled % 100).cast_signed());
    while out.len() > start + 1 && out.last() == Some(&b'0') {
        out.pop();
    }
    true
}

/// A double as text: `1.5`, `1e+16`, `-0.0`, `nan`, `inf`.
pub(crate) fn double(out: &mut Vec<u8>, value: f64) {
    if value.is_nan() {
        return out.extend_from_slice(b"nan");
    }
    if value.is_sign_negative() {
        out.push(b'-');
    }
    let magnitude = value.abs();
    if magnitude.is_infinite() {
        out.extend_from_slice(b"inf");
    } else if !is_plain(out, magnitude) {
        Shortest::of(magnitude).text(out);
    }
}

/// A single as text, with the digits that a single needs.
pub(crate) fn single(out: &mut Vec<u8>, value: f32) {
    if !value.is_finite() {
        return double(out, f64::from(value));
    }
    if value.is_sign_negative() {
        out.push(b'-');
    }
    Shortest::of(value.abs()).text(out);
}

/// The word that is read back as a double which is no finite number.
fn beyond(value: f64) -> Option<&'static [u8]> {
    match value {
        value if value.is_finite() => None,
        value if value.is_nan() => Some(b"NaN"),
        value if value > 0.0 => Some(b"Infinity"),
        _ => Some(b"-Infinity"),
    }
}

/// A double as CSV: as text, but for what is no finite number.
pub(crate) fn double_csv(out: &mut Vec<u8>, value: f64) {
    match beyond(value) {
        Some(word) => out.extend_from_slice(word),
        None => double(out, value),
    }
}

/// A double as JSON. What JSON has no number for is a string, which is read back as the same number.
pub(crate) fn double_json(out: &mut Vec<u8>, value: f64) {
    if let Some(word) = beyond(value) {
        out.push(b'"');
        out.extend_from_slice(word);
        return out.push(b'"');
    }
    if value.is_sign_negative() {
        out.push(b'-');
    }
    let magnitude = value.abs();
    if !is_plain(out, magnitude) {
        Shortest::of(magnitude).json(out);
    }
}

/// Year, month and day of days since 1970-01-01 (Howard Hinnant, "chrono-compatible low-level date algorithms").
const fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = era * 400 + year_of_era + if month <= 2 { 1 } else { 0 };
    (year, month, of_year - (153 * shifted + 2) / 5 + 1)
}

fn day(out: &mut Vec<u8>, days: i64) {
    let (year, month, day) = civil(days);
    let shown = if year > 0 { year } else { 1 - year };
    if shown < 10_000 {
        two(out, shown / 100);
        two(out, shown % 100);
    } else {
        integer(out, shown);
    }
    out.push(b'-');
    two(out, month);
    out.push(b'-');
    two(out, day);
    if year <= 0 {
        out.extend_from_slice(b" (BC)");
    }
}

/// Days since 1970-01-01 as `YYYY-MM-DD`.
pub(crate) fn date(out: &mut Vec<u8>, days: i32) {
    match days {
        i32::MAX => out.extend_from_slice(b"infinity"),
        days if days == -i32::MAX => out.extend_from_slice(b"-infinity"),
        days => day(out, i64::from(days)),
    }
}

/// Microseconds of a day as `hh:mm:ss[.ffffff]`, without zeros at the end.
pub(crate) fn time(out: &mut Vec<u8>, micros: i64) {
    let seconds = micros / SECOND;
    two(out, seconds / 3600);
    out.push(b':');
    two(out, seconds / 60 % 60);
    out.push(b':');
    two(out, seconds % 60);
    let fraction = micros % SECOND;
    if fraction != 0 {
        out.push(b'.');
        two(out, fraction / 10_000);
        two(out, fraction / 100 % 100);
        two(out, fraction % 100);
        while out.last() == Some(&b'0') {
            out.pop();
        }
    }
}

/// Microseconds since 1970-01-01 as `YYYY-MM-DD hh:mm:ss[.ffffff]`, with `+00` behind a moment of UTC.
pub(crate) fn timestamp(out: &mut Vec<u8>, micros: i64, utc: bool) {
    match micros {
        i64::MAX => return out.extend_from_slice(b"infinity"),
        micros if micros == -i64::MAX => return out.extend_from_slice(b"-infinity"),
        _ => {}
    }
    day(out, micros.div_euclid(DAY));
    out.push(b' ');
    time(out, micros.rem_euclid(DAY));
    if utc {
        out.extend_from_slice(b"+00");
    }
}

/// Text between quotes, with what JSON wants escaped and nothing else.
pub(crate) fn string_json(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'"');
    let mut rest = text;
    while let Some(at) = rest.iter().position(|byte| *byte < 0x20 || matches!(byte, b'"' | b'\\')) {
        out.extend_from_slice(&rest[..at]);
        escape(out, rest[at]);
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
    out.push(b'"');
}

fn escape(out: &mut Vec<u8>, byte: u8) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let short = match byte {
        b'"' | b'\\' => byte,
        b'\n' => b'n',
        b'\r' => b'r',
        b'\t' => b't',
        0x08 => b'b',
        0x0c => b'f',
        _ => return out.extend_from_slice(&[b'\\', b'u', b'0', b'0', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]),
    };
    out.extend_from_slice(&[b'\\', short]);
}
