//! Removal of secrets from text, in one pass over it for all secrets and all their forms.
//!
//! Not found: forms that mix in other data, such as hashes, compression, hexadecimal, or base64 broken into lines; and a value that is
//! split over two calls, so callers pass whole lines or whole values.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, PoisonError, RwLock};

use aho_corasick::{AhoCorasick, MatchKind};

use super::Secret;
use super::form::{Form, forms};

/// What stands in text in place of a secret.
pub const PLACEHOLDER: &str = "[secret]";

/// Replaces every form of every registered secret by [`PLACEHOLDER`].
///
/// Shared and thread-safe: clones know what any of them was told, at once. A tracing writer and the report writer hold one each.
///
/// Short values stand in ordinary words by chance: a password `load` would make `[secret]` of a step's name, and hide nothing from
/// whoever counts. So, as others do (Ansible has this very rule; GitLab masks from eight characters on, Airflow from five, Google's
/// action for secrets from four):
///
/// - fewer than four characters: not removed. [`Secrets::resolve`](super::Secrets::resolve) warns of it by name.
/// - four to seven: removed where the value is a word by itself, in every form, and from base64.
/// - eight and more: removed wherever it stands, also inside of a word.
#[derive(Clone, Default)]
pub struct Redactor(Arc<RwLock<Arc<Known>>>);

/// All forms and the automaton that finds them.
#[derive(Default)]
struct Known {
    forms: BTreeSet<Form>,
    search: Option<Search>,
}

struct Search {
    automaton: AhoCorasick,
    /// What a hit takes with it on its left and on its right, and whether it must be a word, by pattern.
    rules: Vec<Rule>,
}

#[derive(Clone, Copy)]
struct Rule {
    spills_left: bool,
    spills_right: bool,
    is_word: bool,
}

impl Redactor {
    /// Makes `secret` known to this redactor and its clones.
    pub fn register(&self, secret: &Secret) {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let mut all = known.forms.clone();
        all.extend(forms(secret.expose()));
        if all.len() > known.forms.len() {
            *known = Arc::new(Known { search: Some(Search::new(&all)), forms: all });
        }
    }

    /// `text` without secrets; borrowed when there was nothing to remove.
    #[must_use]
    pub fn redact<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let spans = self.spans(text.as_bytes());
        if spans.is_empty() {
            return Cow::Borrowed(text);
        }
        let mut clean = String::with_capacity(text.len());
        let mut rest = 0;
        for span in spans {
            clean.push_str(&text[rest..span.start]);
            clean.push_str(PLACEHOLDER);
            rest = span.end;
        }
        clean.push_str(&text[rest..]);
        Cow::Owned(clean)
    }

    /// The same for bytes that are mostly text, such as the lines of a program's output.
    #[must_use]
    pub fn redact_bytes<'a>(&self, bytes: &'a [u8]) -> Cow<'a, [u8]> {
        let spans = self.spans(bytes);
        if spans.is_empty() {
            return Cow::Borrowed(bytes);
        }
        let mut clean = Vec::with_capacity(bytes.len());
        let mut rest = 0;
        for span in spans {
            clean.extend_from_slice(&bytes[rest..span.start]);
            clean.extend_from_slice(PLACEHOLDER.as_bytes());
            rest = span.end;
        }
        clean.extend_from_slice(&bytes[rest..]);
        Cow::Owned(clean)
    }

    /// Removes secrets from every string and key of `value`. The way to clean JSON: in its text, a secret that looks like a number
    /// would take digits out of figures.
    pub fn redact_json(&self, value: &mut serde_json::Value) {
        match value {
            serde_json::Value::Null | serde_json::Value::Bool(_) | serde_json::Value::Number(_) => {}
            serde_json::Value::String(text) => {
                if let Cow::Owned(clean) = self.redact(text) {
                    *text = clean;
                }
            }
            serde_json::Value::Array(items) => items.iter_mut().for_each(|item| self.redact_json(item)),
            serde_json::Value::Object(fields) => {
                let taken = std::mem::take(fields);
                fields.extend(taken.into_iter().map(|(key, mut field)| {
                    self.redact_json(&mut field);
                    (self.redact(&key).into_owned(), field)
                }));
            }
        }
    }

    /// Where secrets stand: in order, apart from each other. Hits that overlap become one span, so that two secrets written into
    /// each other leave no tail.
    fn spans(&self, bytes: &[u8]) -> Vec<Range<usize>> {
        let known = Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner));
        let Some(search) = &known.search else { return Vec::new() };
        let mut hits: Vec<Range<usize>> = search
            .automaton
            .find_overlapping_iter(bytes)
            .map(|hit| (hit.range(), search.rules[hit.pattern().as_usize()]))
            .filter(|(range, rule)| !rule.is_word || is_word(bytes, range))
            .map(|(range, rule)| spilled(bytes, range, rule))
            .collect();
        hits.sort_by_key(|hit| hit.start);
        let mut spans: Vec<Range<usize>> = Vec::new();
        for hit in hits {
            match spans.last_mut() {
                Some(last) if hit.start < last.end => last.end = last.end.max(hit.end),
                Some(_) | None => spans.push(hit),
            }
        }
        spans
    }
}

impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let forms = self.0.read().unwrap_or_else(PoisonError::into_inner).forms.len();
        f.debug_struct("Redactor").field("forms", &forms).finish()
    }
}

impl Search {
    fn new(forms: &BTreeSet<Form>) -> Self {
        let automaton = AhoCorasick::builder()
            .match_kind(MatchKind::Standard)
            .build(forms.iter().map(|form| &form.text))
            .expect("the forms of secrets of at most 64 KiB stay far below the automaton's limit of 2^31 states");
        let rule = |form: &Form| Rule { spills_left: form.spills_left, spills_right: form.spills_right, is_word: form.is_word };
        Self { automaton, rules: forms.iter().map(rule).collect() }
    }
}

/// Whether a hit is no part of a longer word: at each end where it has a letter or digit itself, none goes on. What an escape ends with
/// (`%3A`, `\n`, `\u003d`) is no letter.
fn is_word(bytes: &[u8], hit: &Range<usize>) -> bool {
    let first = |bytes: &[u8]| String::from_utf8_lossy(&bytes[..bytes.len().min(4)]).chars().next();
    let last = |bytes: &[u8]| String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(4)..]).chars().next_back();
    let goes_on = |sign: Option<char>| sign.is_some_and(|sign| sign.is_alphanumeric() || sign == '_');
    let (before, inside, after) = (&bytes[..hit.start], &bytes[hit.clone()], &bytes[hit.end..]);
    let begins_inside = goes_on(first(inside)) && goes_on(last(before)) && !ends_with_escape(before);
    let ends_inside = goes_on(last(inside)) && goes_on(first(after));
    !begins_inside && !ends_inside
}

fn ends_with_escape(before: &[u8]) -> bool {
    let tail = |length: usize| before.len().checked_sub(length).map(|start| &before[start..]);
    let hex = |digits: &[u8]| digits.iter().all(u8::is_ascii_hexdigit);
    tail(2).is_some_and(|tail| tail[0] == b'\\' && b"nrtbf".contains(&tail[1]))
        || tail(3).is_some_and(|tail| tail[0] == b'%' && hex(&tail[1..]))
        || tail(6).is_some_and(|tail| tail.starts_with(b"\\u") && hex(&tail[2..]))
}

/// A hit of base64 with the characters at its ends that hold the rest of the value's bits, and the padding.
fn spilled(bytes: &[u8], hit: Range<usize>, rule: Rule) -> Range<usize> {
    let is_base64 = |at: usize| bytes.get(at).is_some_and(|byte| byte.is_ascii_alphanumeric() || b"+/-_".contains(byte));
    let Range { mut start, mut end } = hit;
    if rule.spills_left && start > 0 && is_base64(start - 1) {
        start -= 1;
    }
    if rule.spills_right {
        end += usize::from(is_base64(end));
        for _ in 0..2 {
            end += usize::from(bytes.get(end) == Some(&b'='));
        }
    }
    start..end
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::{STANDARD, URL_SAFE, URL_SAFE_NO_PAD};
    use proptest::prelude::*;

    use super::*;

    fn redactor(values: &[&str]) -> Redactor {
        let redactor = Redactor::default();
        values.iter().for_each(|value| redactor.register(&Secret::new(value)));
        redactor
    }

    #[test]
    fn text_without_a_secret_is_borrowed() {
        assert!(matches!(Redactor::default().redact("nothing here"), Cow::Borrowed(_)));
        assert!(matches!(redactor(&["hunter22"]).redact("nothing here"), Cow::Borrowed(_)));
    }

    #[test]
    fn every_written_form_is_removed() {
        let redactor = redactor(&["p/ss \"wörd\"+1"]);
        for text in [
            "p/ss \"wörd\"+1",
            "p%2Fss%20%22w%C3%B6rd%22%2B1",
            "p%2fss%20%22w%c3%b6rd%22%2b1",
            "p%2Fss+%22w%C3%B6rd%22%2B1",
            "p/ss%20%22w%C3%B6rd%22+1",
            "p/ss%20%22w%C3%B6rd%22%2B1",
            r#"p/ss \"wörd\"+1"#,
            r#"p\/ss \"w\u00f6rd\"+1"#,
            r#"p/ss \"w\u00F6rd\"+1"#,
            r#"p/ss \\\"wörd\\\"+1"#,
        ] {
            assert_eq!(redactor.redact(&format!("a {text} b")), "a [secret] b", "{text}");
        }
    }

    #[test]
    fn basic_authorization_is_removed_whatever_the_user_is_called() {
        let redactor = redactor(&["correct horse battery"]);
        for user in ["", "a", "ab", "abc", "x-access-token"] {
            let header = format!("Authorization: Basic {}, next", STANDARD.encode(format!("{user}:correct horse battery")));
            let clean = redactor.redact(&header).into_owned();
            assert!(clean.ends_with("[secret], next"), "{clean}");
            let left = clean.trim_start_matches("Authorization: Basic ").trim_end_matches("[secret], next");
            assert!(left.len() <= (user.len() + 1) * 8 / 6, "{clean}");
        }
    }

    #[test]
    fn secrets_that_overlap_leave_no_tail() {
        assert_eq!(redactor(&["abcdefgh", "efghijkl", "abcd"]).redact("<abcdefghijkl>"), "<[secret]>");
        assert_eq!(redactor(&["abcdefgh"]).redact("abcdefghabcdefgh"), "[secret][secret]");
    }

    #[test]
    fn a_key_is_removed_line_by_line() {
        let key = "-----BEGIN KEY-----\nAAAAB3NzaC1yc2E\r\nqwertzuiop\nshort\n-----END KEY-----";
        let redactor = redactor(&[key]);
        assert_eq!(redactor.redact(key), "[secret]");
        assert_eq!(redactor.redact("line: AAAAB3NzaC1yc2E"), "line: [secret]");
        assert_eq!(redactor.redact("qwertzuiop and short"), "[secret] and short");
    }

    #[test]
    fn a_short_secret_is_removed_where_it_is_a_word() {
        let redactor = redactor(&["load", "p$3", "a&b!", "çédé"]);
        for (text, clean) in [
            ("postgres://errand:load@127.0.0.1/load", "postgres://errand:[secret]@127.0.0.1/[secret]"),
            ("password=load, PGPASSWORD=\"load\"", "password=[secret], PGPASSWORD=\"[secret]\""),
            ("user%3Aload%40host \\nload \\u003dload", "user%3A[secret]%40host \\n[secret] \\u003d[secret]"),
            ("xa&b!y a%26b%21 a&b!", "xa&b!y [secret] [secret]"),
            ("çédé, çédés", "[secret], çédés"),
            ("step load_orders loads, uploads and reloads", "step load_orders loads, uploads and reloads"),
            ("p$3 stays, it is too short", "p$3 stays, it is too short"),
        ] {
            assert_eq!(redactor.redact(text), clean);
        }
        assert_eq!(redactor.redact(&STANDARD.encode("errand:load")).matches(PLACEHOLDER).count(), 1, "as base64 it is never a word");
    }

    #[test]
    fn json_keeps_its_figures() {
        let mut value = serde_json::json!({"rows": 12345, "text": "pin 1234", "1234": [null, "1234"]});
        redactor(&["1234"]).redact_json(&mut value);
        assert_eq!(value, serde_json::json!({"rows": 12345, "text": "pin [secret]", "[secret]": [null, "[secret]"]}));
    }

    #[test]
    fn bytes_that_are_no_text_pass_through() {
        assert_eq!(redactor(&["hunter22"]).redact_bytes(b"\xff hunter22 \xfe").as_ref(), b"\xff [secret] \xfe");
    }

    proptest! {
        #[test]
        fn no_form_of_a_secret_survives(
            value in "[ -~é€\n]{8,40}",
            before in "[a-z ]{0,12}",
            after in "[a-z ]{0,12}",
        ) {
            // A line end at the end is not part of a secret, and the placeholder itself may stay.
            prop_assume!(!PLACEHOLDER.contains(value.trim()));
            let redactor = redactor(&[&value]);
            let component = utf8_component(&value);
            let forms = [
                value.clone(),
                component.clone(),
                component.replace("%20", "+"),
                unquoted(&serde_json::to_string(&value).expect("text")),
                unquoted(&format!("{value:?}")),
                STANDARD.encode(&value),
                URL_SAFE.encode(&value),
                URL_SAFE_NO_PAD.encode(&value),
            ];
            for form in forms {
                let clean = redactor.redact(&format!("{before}{form}{after}")).into_owned();
                prop_assert!(!clean.contains(&form), "{form:?} in {clean:?}");
                prop_assert!(clean.contains(PLACEHOLDER));
            }
        }

        #[test]
        fn base64_of_a_text_around_a_secret_loses_the_secret(
            value in "[!-~]{4,40}",
            before in "[ -~]{0,7}",
            after in "[ -~]{0,7}",
        ) {
            for encoded in [STANDARD.encode(format!("{before}{value}{after}")), URL_SAFE.encode(format!("{before}{value}{after}"))] {
                let clean = redactor(&[&value]).redact(&encoded).into_owned();
                let left = clean.find(PLACEHOLDER);
                prop_assert!(left.is_some(), "{encoded} stays {clean}");
                // What stays before the placeholder encodes nothing but the text before the secret.
                prop_assert!(left.unwrap_or(usize::MAX) <= before.len() * 8 / 6, "{clean}");
            }
        }

        #[test]
        fn redaction_never_panics_and_is_stable(value in "\\PC{1,12}", text in "\\PC{0,60}") {
            let redactor = redactor(&[&value]);
            let clean = redactor.redact(&text).into_owned();
            prop_assert!(clean.contains(PLACEHOLDER) || clean == text);
        }
    }

    fn unquoted(text: &str) -> String {
        text[1..text.len() - 1].to_owned()
    }

    /// Percent-encoding as RFC 3986 has it, written apart from the code under test.
    fn utf8_component(value: &str) -> String {
        value
            .bytes()
            .map(|byte| match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
                other => format!("%{other:02X}"),
            })
            .collect()
    }
}
