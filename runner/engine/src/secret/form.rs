//! The forms in which a value can stand in text: as it is, URL-encoded, base64, JSON-escaped.
//!
//! Knows nothing of where text goes; it only writes patterns.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use percent_encoding::{AsciiSet, CONTROLS, NON_ALPHANUMERIC, utf8_percent_encode};

/// A value of fewer characters is not searched at all.
pub(super) const MIN_CHARACTERS: usize = 4;

/// A value of fewer characters is searched only where it is a word by itself.
pub(super) const MIN_ANYWHERE: usize = 8;

/// Base64 is searched from this length on: the form of a shorter value is so short that it stands in any text.
const MIN_BASE64_CHARACTERS: usize = 4;

/// Lines of a multi-line value are values of their own from this length on.
const MIN_LINE_BYTES: usize = 8;

/// Text to search for, and what beside a hit still belongs to the value.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Form {
    pub(super) text: String,
    /// The character before a hit carries bits of the value (base64 that does not begin at a group).
    pub(super) spills_left: bool,
    /// The character after a hit may carry bits of the value, and padding may follow it (base64).
    pub(super) spills_right: bool,
    /// A hit inside of a longer word is no hit.
    pub(super) is_word: bool,
}

/// Everything but letters, digits and the four marks that no encoder touches (RFC 3986, section 2.3).
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// As `quote` of Python, which leaves `/` alone.
const KEEPS_SLASH: &AsciiSet = &UNRESERVED.remove(b'/');
/// As `encodeURIComponent`.
const COMPONENT: &AsciiSet = &UNRESERVED.remove(b'!').remove(b'*').remove(b'\'').remove(b'(').remove(b')');
/// As `encodeURI`, which keeps what separates the parts of a URL.
const WHOLE_URI: &AsciiSet = &COMPONENT
    .remove(b';')
    .remove(b',')
    .remove(b'/')
    .remove(b'?')
    .remove(b':')
    .remove(b'@')
    .remove(b'&')
    .remove(b'=')
    .remove(b'+')
    .remove(b'$')
    .remove(b'#');
/// As HTML forms.
const HTML_FORM: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'*');
/// The query, path and user sets of the WHATWG URL standard, which URL libraries follow.
const QUERY: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'#').add(b'<').add(b'>');
const SPECIAL_QUERY: &AsciiSet = &QUERY.add(b'\'');
const PATH: &AsciiSet = &QUERY.add(b'?').add(b'^').add(b'`').add(b'{').add(b'}');
const USER: &AsciiSet = &PATH.add(b'/').add(b':').add(b';').add(b'=').add(b'@').add(b'[').add(b'\\').add(b']').add(b'|');

/// Every form of `value`, and of its longer lines when it has several; none of one that is too short to be searched.
pub(super) fn forms(value: &str) -> BTreeSet<Form> {
    let mut forms = BTreeSet::new();
    if value.chars().count() < MIN_CHARACTERS {
        return forms;
    }
    add_forms(value, &mut forms);
    if value.contains(['\n', '\r']) {
        // Key files are logged line by line. Their first and last line say what the file is, and are no secret.
        let lines = value.split(['\n', '\r']).map(str::trim).filter(|line| line.len() >= MIN_LINE_BYTES && !line.starts_with("-----"));
        for line in lines {
            add_forms(line, &mut forms);
        }
        add_forms(&value.replace("\r\n", "\n").replace('\n', "\r\n"), &mut forms);
    }
    forms
}

fn add_forms(value: &str, forms: &mut BTreeSet<Form>) {
    let mut texts = vec![value.to_owned()];
    texts.extend(url_encoded(value));
    texts.extend(escaped(value));
    let is_word = value.chars().count() < MIN_ANYWHERE;
    forms.extend(texts.into_iter().map(|text| Form { text, spills_left: false, spills_right: false, is_word }));
    forms.extend(base64_cores(value));
}

/// Encoders differ in what they leave alone, in the form of a space, and in the case of hexadecimal digits.
fn url_encoded(value: &str) -> Vec<String> {
    let sets = [NON_ALPHANUMERIC, UNRESERVED, KEEPS_SLASH, COMPONENT, WHOLE_URI, HTML_FORM, QUERY, SPECIAL_QUERY, PATH, USER];
    let mut texts: Vec<String> = sets.iter().map(|set| utf8_percent_encode(value, set).to_string()).collect();
    let with_plus: Vec<String> = texts.iter().map(|text| text.replace("%20", "+")).collect();
    texts.extend(with_plus);
    let lower: Vec<String> = texts.iter().map(|text| lower_case_hex(text)).collect();
    texts.extend(lower);
    texts
}

fn lower_case_hex(encoded: &str) -> String {
    let mut digits = 0;
    encoded
        .chars()
        .map(|character| {
            if character == '%' {
                digits = 2;
                return character;
            }
            let in_escape = digits > 0;
            digits = i32::max(digits - 1, 0);
            if in_escape { character.to_ascii_lowercase() } else { character }
        })
        .collect()
}

/// In a JSON string, as encoders vary it; in a JSON string that stands in another one; as Rust's `Debug` prints it.
fn escaped(value: &str) -> Vec<String> {
    let json = json_escaped(value);
    let ascii_lower = ascii_only(&json, |unit| format!("\\u{unit:04x}"));
    let ascii_upper = ascii_only(&json, |unit| format!("\\u{unit:04X}"));
    let for_html = |text: &str| {
        text.chars()
            .map(|character| match character {
                '<' | '>' | '&' | '\'' => format!("\\u{:04x}", u32::from(character)),
                other => other.to_string(),
            })
            .collect::<String>()
    };
    let slashes = json.replace('/', "\\/");
    let html = for_html(&json);
    let html_ascii = for_html(&ascii_lower);
    let nested = json_escaped(&json);
    let php = ascii_lower.replace('/', "\\/");
    vec![json, ascii_lower, ascii_upper, slashes, html, html_ascii, nested, php, value.escape_debug().to_string()]
}

fn json_escaped(value: &str) -> String {
    let quoted = serde_json::Value::from(value).to_string();
    quoted[1..quoted.len() - 1].to_owned()
}

fn ascii_only(json: &str, escape: impl Fn(u16) -> String) -> String {
    let mut text = String::with_capacity(json.len());
    for character in json.chars() {
        if character.is_ascii() {
            text.push(character);
        } else {
            text.extend(character.encode_utf16(&mut [0; 2]).iter().map(|unit| escape(*unit)));
        }
    }
    text
}

/// The base64 characters that depend on `value` alone, whatever bytes stand before and after it, at each of the three places in a
/// group of three bytes where it can begin. Both alphabets; padding and the characters at the ends that are shared with other
/// bytes are left to the spill.
fn base64_cores(value: &str) -> Vec<Form> {
    let mut forms = Vec::new();
    for shift in 0..3_usize {
        let mut bytes = vec![0; shift];
        bytes.extend_from_slice(value.as_bytes());
        // `shift` bytes before the value fill this many characters, the last of them only in part.
        let start = (shift * 8).div_ceil(6);
        let end = bytes.len() * 8 / 6;
        if end < start + MIN_BASE64_CHARACTERS || value.len() < MIN_BASE64_CHARACTERS {
            continue;
        }
        for encoded in [STANDARD_NO_PAD.encode(&bytes), URL_SAFE_NO_PAD.encode(&bytes)] {
            forms.push(Form { text: encoded[start..end].to_owned(), spills_left: shift > 0, spills_right: true, is_word: false });
        }
    }
    let in_urls: Vec<Form> = forms
        .iter()
        .filter(|form| form.text.contains(['+', '/']))
        .flat_map(|form| {
            let upper = utf8_percent_encode(&form.text, UNRESERVED).to_string();
            [lower_case_hex(&upper), upper].map(|text| Form { text, ..*form })
        })
        .collect();
    forms.extend(in_urls);
    forms
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_digits_alone_change_case() {
        assert_eq!(lower_case_hex("A%2FB%C3%A9C%"), "A%2fB%c3%a9C%");
    }

    #[test]
    fn a_short_value_is_a_word_or_nothing() {
        assert!(forms("abc").is_empty() && forms("äöü").is_empty());
        assert!(forms("abcdefg").iter().all(|form| form.is_word || form.spills_right));
        assert_eq!(forms("abcd").iter().filter(|form| form.spills_right).count(), 3);
        assert!(forms("abcdefgh").iter().all(|form| !form.is_word));
    }

    #[test]
    fn the_armour_of_a_key_is_no_secret() {
        let forms = forms("-----BEGIN PRIVATE KEY-----\nbm90IGEga2V5IGF0IGFsbA==\n-----END PRIVATE KEY-----");
        assert!(forms.iter().any(|form| form.text == "bm90IGEga2V5IGF0IGFsbA=="));
        assert!(!forms.iter().any(|form| form.text == "-----BEGIN PRIVATE KEY-----"));
    }
}
