//! JSON inside of JSON Lines: the same value on one line, without blanks, its strings and numbers written as all others are.
//!
//! A number that no double holds exactly keeps its text. Must not reorder or drop keys, also those that stand twice.

use serde::de::IgnoredAny;

use super::form;

/// Appends a JSON text; false when it is none.
pub(super) fn embed(out: &mut Vec<u8>, text: &[u8]) -> bool {
    if serde_json::from_slice::<IgnoredAny>(text).is_err() {
        return false;
    }
    let mut rest = text;
    while let Some(&byte) = rest.first() {
        let length = match byte {
            b' ' | b'\t' | b'\r' | b'\n' => 1,
            b'"' => {
                let end = string_end(rest);
                string(out, &rest[1..end]);
                end + 1
            }
            b'-' | b'0'..=b'9' => {
                let end = rest.iter().position(|byte| !matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9'));
                let end = end.unwrap_or(rest.len());
                number(out, &rest[..end]);
                end
            }
            _ => {
                out.push(byte);
                1
            }
        };
        rest = &rest[length.min(rest.len())..];
    }
    true
}

/// Where the closing quote of a valid string stands.
fn string_end(text: &[u8]) -> usize {
    let mut at = 1;
    while at < text.len() && text[at] != b'"' {
        at += if text[at] == b'\\' { 2 } else { 1 };
    }
    at.min(text.len())
}

fn string(out: &mut Vec<u8>, content: &[u8]) {
    if !content.contains(&b'\\') {
        out.push(b'"');
        out.extend_from_slice(content);
        out.push(b'"');
        return;
    }
    let quoted = [b"\"", content, b"\""].concat();
    match serde_json::from_slice::<String>(&quoted) {
        Ok(text) => form::string_json(out, text.as_bytes()),
        // Half of a surrogate pair: valid JSON, but no text.
        Err(_) => out.extend_from_slice(&quoted),
    }
}

fn number(out: &mut Vec<u8>, token: &[u8]) {
    if !token.iter().any(|byte| matches!(byte, b'.' | b'e' | b'E')) {
        return out.extend_from_slice(if token == b"-0" { b"0" } else { token });
    }
    let before = out.len();
    let value = std::str::from_utf8(token).ok().and_then(|token| token.parse::<f64>().ok()).filter(|value| value.is_finite());
    if let Some(value) = value {
        form::double_json(out, value);
        if significant(&out[before..]) == significant(token) {
            return;
        }
        out.truncate(before);
    }
    out.extend_from_slice(token);
}

/// Digits without zeros around them, and the power of ten of the last; the same for texts of one value.
fn significant(token: &[u8]) -> (Vec<u8>, i64) {
    let (mantissa, exponent) = match token.iter().position(|byte| matches!(byte, b'e' | b'E')) {
        Some(at) => {
            (&token[..at], std::str::from_utf8(&token[at + 1..]).ok().and_then(|text| text.parse::<i64>().ok()).unwrap_or(i64::MAX / 2))
        }
        None => (token, 0),
    };
    let after = mantissa.iter().position(|byte| *byte == b'.').map_or(0, |point| mantissa.len() - point - 1);
    let mut digits: Vec<u8> = mantissa.iter().copied().filter(u8::is_ascii_digit).skip_while(|digit| *digit == b'0').collect();
    let all = digits.len();
    while digits.last() == Some(&b'0') {
        digits.pop();
    }
    if digits.is_empty() {
        return (digits, 0);
    }
    let zeros = i64::try_from(all - digits.len()).unwrap_or(i64::MAX / 4);
    let exponent = exponent - i64::try_from(after).unwrap_or(i64::MAX / 4) + zeros;
    (digits, exponent)
}
