//! Strict parsers of booleans, numbers and the reasons why a value is refused.
//!
//! Nothing is trimmed, rounded or guessed: a value is exactly what its text says, or it is refused.

/// Why a value is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// Not written like a value of this type.
    Form,
    /// Nothing, where something is needed.
    Empty,
    /// NULL in a column that may not be NULL.
    Null,
    /// Past the range of the type.
    Range,
    /// More digits before the point than the type holds.
    Precision,
    /// More digits after the point than the type holds.
    Scale,
    /// Finer than microseconds.
    Fraction,
    /// A zone where none may be.
    Zone,
    /// No zone where one is needed.
    NoZone,
    /// A JSON array or object.
    Nested,
    /// A JSON number or boolean where a string is needed.
    NotText,
}

impl Reason {
    /// What stands in brackets after the value.
    pub(super) const fn note(self) -> &'static str {
        match self {
            Self::Form | Self::Empty | Self::Null => "",
            Self::Range => "out of range",
            Self::Precision => "too many digits",
            Self::Scale => "more digits after the point than the type holds; nothing is rounded",
            Self::Fraction => "finer than microseconds; nothing is rounded",
            Self::Zone => "it has a zone; declare `timestamptz`",
            Self::NoZone => "it has no zone; declare `timestamp`, or add `Z` or an offset",
            Self::Nested => "an array or object; declare `json`",
            Self::NotText => "not a string",
        }
    }
}

/// A value or why there is none.
pub(super) type Parsed<T> = Result<T, Reason>;

/// Powers of ten that fit 38 digits.
pub(super) const POWERS: [i128; 39] = {
    let mut powers = [1; 39];
    let mut index = 1;
    while index < 39 {
        powers[index] = powers[index - 1] * 10;
        index += 1;
    }
    powers
};

/// `true`, `false`, `t`, `f`, `1`, `0`, in any case.
pub(super) fn boolean(text: &[u8]) -> Parsed<bool> {
    match text {
        b"1" | b"t" | b"T" => Ok(true),
        b"0" | b"f" | b"F" => Ok(false),
        _ if text.eq_ignore_ascii_case(b"true") => Ok(true),
        _ if text.eq_ignore_ascii_case(b"false") => Ok(false),
        [] => Err(Reason::Empty),
        _ => Err(Reason::Form),
    }
}

const fn sign(text: &[u8]) -> (bool, &[u8]) {
    match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    }
}

/// `[+-]?[0-9]+` within 32 bits.
pub(super) fn integer(text: &[u8]) -> Parsed<i32> {
    i32::try_from(bigint(text)?).map_err(|_| Reason::Range)
}

/// `[+-]?[0-9]+` within 64 bits.
pub(super) fn bigint(text: &[u8]) -> Parsed<i64> {
    let (negative, digits) = sign(text);
    if digits.is_empty() {
        return Err(if text.is_empty() { Reason::Empty } else { Reason::Form });
    }
    if digits.len() > 18 {
        return long_bigint(negative, digits);
    }
    let mut value = 0_i64;
    for byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return Err(Reason::Form);
        }
        value = value.wrapping_mul(10).wrapping_add(i64::from(digit));
    }
    Ok(if negative { -value } else { value })
}

#[cold]
fn long_bigint(negative: bool, digits: &[u8]) -> Parsed<i64> {
    if !digits.iter().all(u8::is_ascii_digit) {
        return Err(Reason::Form);
    }
    let mut value = 0_i64;
    for byte in digits {
        let digit = i64::from(byte - b'0');
        value = value.checked_mul(10).and_then(|value| value.checked_add(if negative { -digit } else { digit })).ok_or(Reason::Range)?;
    }
    Ok(value)
}

/// `[+-]?` and digits with at most one point between, before or behind them, exactly: zeros alone may be past the scale.
pub(super) fn decimal(text: &[u8], precision: u8, scale: u8) -> Parsed<i128> {
    let (negative, digits) = sign(text);
    if digits.len() > 18 {
        return long_decimal(negative, digits, precision, scale);
    }
    let mut value = 0_u64;
    let mut point = None;
    for (index, byte) in digits.iter().enumerate() {
        let digit = byte.wrapping_sub(b'0');
        if digit <= 9 {
            value = value.wrapping_mul(10).wrapping_add(u64::from(digit));
        } else if *byte == b'.' && point.is_none() {
            point = Some(index);
        } else {
            return Err(Reason::Form);
        }
    }
    let fraction = point.map_or(0, |point| digits.len() - point - 1);
    if digits.len() - usize::from(point.is_some()) == 0 {
        return Err(if text.is_empty() { Reason::Empty } else { Reason::Form });
    }
    if fraction > usize::from(scale) {
        return long_decimal(negative, digits, precision, scale);
    }
    let value = i128::from(value).checked_mul(POWERS[usize::from(scale) - fraction]).ok_or(Reason::Precision)?;
    if value >= POWERS[usize::from(precision)] {
        return Err(Reason::Precision);
    }
    Ok(if negative { -value } else { value })
}

#[cold]
fn long_decimal(negative: bool, digits: &[u8], precision: u8, scale: u8) -> Parsed<i128> {
    let point = digits.iter().position(|byte| *byte == b'.');
    let (whole, fraction) = point.map_or((digits, &[][..]), |point| (&digits[..point], &digits[point + 1..]));
    let all_digits = whole.iter().chain(fraction).all(u8::is_ascii_digit);
    if !all_digits || whole.is_empty() && fraction.is_empty() {
        return Err(Reason::Form);
    }
    let scale = usize::from(scale);
    let (kept, past) = fraction.split_at(fraction.len().min(scale));
    if past.iter().any(|byte| *byte != b'0') {
        return Err(Reason::Scale);
    }
    let zeros = whole.iter().take_while(|byte| **byte == b'0').count();
    let whole = &whole[zeros..];
    if whole.len() > usize::from(precision) - scale {
        return Err(Reason::Precision);
    }
    let value = whole.iter().chain(kept).fold(0_i128, |value, byte| value * 10 + i128::from(byte - b'0')) * POWERS[scale - kept.len()];
    Ok(if negative { -value } else { value })
}

/// Decimal digits with an optional point and an optional exponent; `NaN`, `Infinity` and `-Infinity` spelled so.
///
/// Refused: what is too large for 64 bits, and what is not zero but would become zero.
pub(super) fn double(text: &[u8]) -> Parsed<f64> {
    let (negative, digits) = sign(text);
    let mut value = 0_u64;
    let mut point = None;
    for (index, byte) in digits.iter().enumerate() {
        let digit = byte.wrapping_sub(b'0');
        if digit <= 9 {
            value = value.wrapping_mul(10).wrapping_add(u64::from(digit));
        } else if *byte == b'.' && point.is_none() {
            point = Some(index);
        } else {
            return long_double(text, digits);
        }
    }
    let count = digits.len() - usize::from(point.is_some());
    if count == 0 || count > 15 {
        return long_double(text, digits);
    }
    // Both are exact in 53 bits, so one division rounds once, correctly (Clinger 1990).
    #[expect(clippy::cast_precision_loss, reason = "at most 15 digits")]
    let magnitude = value as f64 / TENS[point.map_or(0, |point| digits.len() - point - 1)];
    Ok(if negative { -magnitude } else { magnitude })
}

const TENS: [f64; 16] = [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15];

#[cold]
fn long_double(text: &[u8], digits: &[u8]) -> Parsed<f64> {
    match text {
        b"NaN" => return Ok(f64::NAN),
        b"Infinity" | b"+Infinity" => return Ok(f64::INFINITY),
        b"-Infinity" => return Ok(f64::NEG_INFINITY),
        [] => return Err(Reason::Empty),
        _ => {}
    }
    let (mantissa, exponent) = match digits.iter().position(|byte| matches!(byte, b'e' | b'E')) {
        Some(at) => (&digits[..at], Some(sign(&digits[at + 1..]).1)),
        None => (digits, None),
    };
    let points = mantissa.iter().filter(|byte| **byte == b'.').count();
    let is_number = mantissa.iter().all(|byte| byte.is_ascii_digit() || *byte == b'.')
        && points <= 1
        && mantissa.len() > points
        && exponent.is_none_or(|digits| !digits.is_empty() && digits.iter().all(u8::is_ascii_digit));
    if !is_number {
        return Err(Reason::Form);
    }
    let value: f64 = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).ok_or(Reason::Form)?;
    let vanished = value == 0.0 && mantissa.iter().any(|byte| matches!(byte, b'1'..=b'9'));
    if value.is_infinite() || vanished { Err(Reason::Range) } else { Ok(value) }
}

#[cfg(test)]
mod tests {
    use super::{Reason, bigint, boolean, decimal, double, integer};

    #[test]
    fn booleans_have_six_spellings() {
        assert!(boolean(b"TRUE") == Ok(true) && boolean(b"f") == Ok(false) && boolean(b"1") == Ok(true) && boolean(b"False") == Ok(false));
        assert!(boolean(b"yes") == Err(Reason::Form) && boolean(b" true") == Err(Reason::Form) && boolean(b"") == Err(Reason::Empty));
    }

    #[test]
    fn integers_are_digits_within_range() {
        assert!(integer(b"+007") == Ok(7) && integer(b"-2147483648") == Ok(i32::MIN) && integer(b"2147483648") == Err(Reason::Range));
        assert!(bigint(b"9223372036854775807") == Ok(i64::MAX) && bigint(b"-9223372036854775808") == Ok(i64::MIN));
        assert_eq!(bigint(b"9223372036854775808"), Err(Reason::Range));
        assert_eq!(bigint(b"000000000000000000000000000005"), Ok(5));
        for wrong in ["1.0", "1e3", "0x1f", "1_000", " 1", "1 ", "+", "-", "--1", "1,000", "１"] {
            assert_eq!(bigint(wrong.as_bytes()), Err(Reason::Form), "{wrong}");
        }
    }

    #[test]
    fn decimals_are_exact_or_refused() {
        assert_eq!(decimal(b"12.34", 15, 2), Ok(1234));
        assert_eq!(decimal(b"-0.5", 15, 2), Ok(-50));
        assert!(decimal(b".5", 3, 2) == Ok(50) && decimal(b"5.", 3, 2) == Ok(500) && decimal(b"+7", 3, 2) == Ok(700));
        assert_eq!(decimal(b"1.2300", 15, 2), Ok(123));
        assert_eq!(decimal(b"1.234", 15, 2), Err(Reason::Scale));
        assert_eq!(decimal(b"100", 4, 2), Err(Reason::Precision));
        assert_eq!(decimal(b"99.99", 4, 2), Ok(9999));
        assert_eq!(decimal(b"12345678901234567890.123", 38, 3), Ok(12_345_678_901_234_567_890_123));
        assert_eq!(decimal(&[b'9'; 38], 38, 0), Ok(super::POWERS[38 - 1] * 9 + (super::POWERS[37] - 1)));
        assert_eq!(decimal(&[b'9'; 39], 38, 0), Err(Reason::Precision));
        assert_eq!(decimal(b"999999999999999999", 38, 38), Err(Reason::Precision));
        for wrong in ["", ".", "-", "1.2.3", "12.3x4", "1e3", "NaN", " 1", "1,5", "1234567890123456789012.x"] {
            assert!(decimal(wrong.as_bytes(), 15, 2).is_err(), "{wrong}");
        }
    }

    #[test]
    fn doubles_are_the_nearest_to_their_text() {
        for text in [
            "0",
            "-0",
            "1.5",
            "3.14159265358979",
            "123456789012345",
            "0.1",
            "1e5",
            "-2.5E-3",
            "1e22",
            "123456789012345678",
            ".5",
            "5.",
            "1e308",
        ] {
            assert_eq!(double(text.as_bytes()).map(f64::to_bits), Ok(text.parse::<f64>().expect("number").to_bits()), "{text}");
        }
        assert!(double(b"NaN").is_ok_and(f64::is_nan) && double(b"-Infinity") == Ok(f64::NEG_INFINITY));
        assert!(double(b"1e999") == Err(Reason::Range) && double(b"1e-999") == Err(Reason::Range) && double(b"0e-999") == Ok(0.0));
        for wrong in ["nan", "inf", "infinity", "INF", "1e", "e5", ".", "+", "1_0", "0x1p3", " 1", "1f"] {
            assert_eq!(double(wrong.as_bytes()), Err(Reason::Form), "{wrong}");
        }
    }
}
