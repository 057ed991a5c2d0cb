//! From a byte of a template to the byte of the file that holds it.

use crate::yaml::Span;

/// Where the text of a template stands in its file.
#[derive(Clone, Debug)]
pub struct Origin<'a> {
    /// The file, relative to the repository.
    pub file: &'a str,
    /// The text of the file.
    pub text: &'a str,
    /// (byte of the template, byte of the file), in order: from each pair on, both run side by side.
    pairs: Vec<(usize, usize)>,
    /// Whether a line of the template is a line of the file.
    pub is_line_by_line: bool,
    /// Whole value in the file, when single bytes cannot be told.
    fallback: Span,
}

impl<'a> Origin<'a> {
    /// The template is the file.
    #[must_use]
    pub fn file(file: &'a str, text: &'a str) -> Self {
        Self { file, text, pairs: vec![(0, 0)], is_line_by_line: true, fallback: 0..text.len() }
    }

    /// The template is the value of a YAML scalar: plain, quoted or block. Where the value cannot be followed through its
    /// escapes, every place is that of the whole scalar.
    #[must_use]
    pub fn scalar(file: &'a str, text: &'a str, span: &Span, value: &str) -> Self {
        let raw = &text[span.start.min(text.len())..];
        let found = match raw.as_bytes().first() {
            Some(b'|') => block_pairs(raw, value).map(|pairs| (pairs, true)),
            Some(b'>') => raw.find('\n').and_then(|header| aligned(raw, header + 1, value, '>')).map(|pairs| (pairs, false)),
            Some(b'"') => aligned(raw, 1, value, '"').map(|pairs| (pairs, false)),
            Some(b'\'') => aligned(raw, 1, value, '\'').map(|pairs| (pairs, false)),
            _ => aligned(raw, 0, value, ' ').map(|pairs| (pairs, false)),
        };
        let (pairs, is_line_by_line) = found.unwrap_or_default();
        let pairs = pairs.into_iter().map(|(from, to)| (from, to + span.start)).collect();
        Self { file, text, pairs, is_line_by_line, fallback: span.clone() }
    }

    /// The bytes of the file for bytes of the template.
    #[must_use]
    pub fn span(&self, within: &Span) -> Span {
        let (Some(start), Some(last)) = (self.byte(within.start), self.byte(within.end.saturating_sub(1).max(within.start))) else {
            return self.fallback.clone();
        };
        let end = self.text[last..].chars().next().map_or(last, |c| last + c.len_utf8());
        start..end.max(start)
    }

    /// The byte of the file at which the template starts.
    #[must_use]
    pub fn start(&self) -> usize {
        self.byte(0).unwrap_or(self.fallback.start)
    }

    fn byte(&self, at: usize) -> Option<usize> {
        let index = self.pairs.partition_point(|(from, _)| *from <= at).checked_sub(1)?;
        let (from, to) = self.pairs[index];
        let byte = (to + (at - from)).min(self.text.len());
        (0..=byte).rev().find(|at| self.text.is_char_boundary(*at))
    }
}

/// A literal block: each line of the value is the end of a line of the file.
fn block_pairs(raw: &str, value: &str) -> Option<Vec<(usize, usize)>> {
    let mut to = raw.find('\n')? + 1;
    let mut from = 0;
    let mut pairs = Vec::new();
    for line in value.split_inclusive('\n') {
        let written = raw[to..].split_inclusive('\n').next().unwrap_or("");
        let content = written.trim_end_matches(['\n', '\r']);
        let wanted = line.trim_end_matches('\n');
        if !content.ends_with(wanted) {
            return None;
        }
        pairs.push((from, to + content.len() - wanted.len()));
        from += line.len();
        to += written.len();
    }
    Some(pairs)
}

/// Walks the value and what is written side by side, through folded lines and escapes.
fn aligned(raw: &str, start: usize, value: &str, style: char) -> Option<Vec<(usize, usize)>> {
    let mut to = start;
    if style == '>' {
        to += raw[to..].len() - raw[to..].trim_start_matches([' ', '\n', '\r']).len();
    }
    let mut pairs = vec![(0, to)];
    let mut from = 0;
    while from < value.len() {
        let wanted = value[from..].chars().next()?;
        let Some(found) = raw[to..].chars().next() else {
            return value[from..].trim().is_empty().then_some(pairs);
        };
        let rest = &raw[to..];
        let blank = rest.len() - rest.trim_start().len();
        if matches!(wanted, ' ' | '\n') && rest[..blank].contains('\n') && style != '|' {
            let folded = value[from..].len() - value[from..].trim_start_matches([' ', '\n']).len();
            from += folded;
            to += blank;
            pairs.push((from, to));
        } else if style == '\'' && rest.starts_with("''") {
            (wanted == '\'').then_some(())?;
            from += 1;
            to += 2;
            pairs.push((from, to));
        } else if style == '"' && found == '\\' {
            let escaped = match rest.as_bytes().get(1)? {
                b'x' => 4,
                b'u' => 6,
                b'U' => 10,
                b'\n' | b'\r' => return None,
                _ => 2,
            };
            rest.is_char_boundary(escaped).then_some(())?;
            from += wanted.len_utf8();
            to += escaped;
            pairs.push((from, to));
        } else if wanted == found {
            from += wanted.len_utf8();
            to += found.len_utf8();
        } else {
            return None;
        }
    }
    Some(pairs)
}

#[cfg(test)]
mod tests {
    use super::Origin;
    use crate::yaml::{NodeKind, parse};

    /// What the file holds at the place of `word` within the first value of the definition.
    fn at<'a>(text: &'a str, word: &str) -> &'a str {
        let root = parse(text, "job.yaml").expect("valid");
        let NodeKind::Mapping(entries) = root.kind else { panic!("no mapping") };
        let node = &entries[0].1;
        let NodeKind::Text(value) = &node.kind else { panic!("no text") };
        let start = value.find(word).expect("the word stands in the value");
        &text[Origin::scalar("job.yaml", text, &node.span, value).span(&(start..start + word.len()))]
    }

    #[test]
    fn places_are_exact_in_every_style_of_scalar() {
        assert_eq!(at("a: b {{ run.id }} c\n", "run.id"), "run.id");
        assert_eq!(at("a: é 'x' {{ run.id }}\n", "run.id"), "run.id");
        assert_eq!(at("a: 'it''s {{ run.id }}'\n", "run.id"), "run.id");
        assert_eq!(at("a: \"q \\\" \\u00e9 é {{ run.id }}\"\n", "run.id"), "run.id");
        assert_eq!(at("a: |\n  one\n\n    two {{ run.id }}\n", "run.id"), "run.id");
        assert_eq!(at("a: |2-\n    two {{ run.id }}\n", "run.id"), "run.id");
        assert_eq!(at("a: >\n  one\n  two\n\n  three {{ run.id }}\n", "run.id"), "run.id");
        assert_eq!(at("a: one\n  two {{ run.id }}\n", "run.id"), "run.id");
        assert_eq!(at("a: \"one\n\n  two {{ run.id }}\"\n", "run.id"), "run.id");
        assert_eq!(at("a: |\r\n  one\r\n  {{ run.id }}\r\n", "run.id"), "run.id");
    }

    #[test]
    fn what_cannot_be_followed_is_placed_at_the_whole_scalar() {
        assert_eq!(at("a: \"one \\\n  {{ run.id }}\"\n", "run.id"), "\"one \\\n  {{ run.id }}\"");
    }
}
