//! One thing wrong with a definition: what, where, and what to do. Rendering belongs to the command line.

use serde::Serialize;

use crate::yaml::Span;

/// How much a problem matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// The job cannot run.
    Error,
    /// The job runs, but this is likely not what was meant.
    Warning,
}

/// One problem of a definition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Stable word, such as `definition::unknown_key`.
    pub code: &'static str,
    /// How much it matters.
    pub severity: Severity,
    /// Lower case, no full stop.
    pub message: String,
    /// What to do.
    pub help: Option<String>,
    /// File, relative to the repository.
    pub file: String,
    /// Bytes in that file; absent when the file itself is the problem.
    pub span: Option<Span>,
}

impl Problem {
    /// A problem that stops the job.
    #[must_use]
    pub fn error(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, severity: Severity::Error, message: message.into(), help: None, file: String::new(), span: None }
    }

    /// A problem that does not.
    #[must_use]
    pub fn warning(code: &'static str, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(code, message) }
    }

    /// In this file.
    #[must_use]
    pub fn file(mut self, file: &str) -> Self {
        file.clone_into(&mut self.file);
        self
    }

    /// At these bytes of this file.
    #[must_use]
    pub fn at(mut self, file: &str, span: Span) -> Self {
        file.clone_into(&mut self.file);
        self.span = Some(span);
        self
    }

    /// With what to do.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// Line and column, both from 1, columns in characters, of a byte in a text.
#[must_use]
pub fn line_and_column(text: &str, at: usize) -> (usize, usize) {
    let at = (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    let before = &text[..at];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

/// The known word nearest to a misspelt one, if one is near enough to be meant.
#[must_use]
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Everything is near a word of one or two letters.
    let allowed = match word.chars().count() {
        0..=2 => 0,
        length => (length / 3).clamp(1, 3),
    };
    known
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&word.to_lowercase(), &candidate.to_lowercase()), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::{line_and_column, nearest};

    #[test]
    fn the_nearest_word_is_near() {
        assert_eq!(nearest("shedule", ["schedule", "steps"]), Some("schedule"));
        assert_eq!(nearest("nedes", ["needs", "name"]), Some("needs"));
        assert_eq!(nearest("zebra", ["needs", "name"]), None);
        assert_eq!(nearest("c", ["a", "C"]), Some("C"));
    }

    #[test]
    fn columns_count_characters() {
        assert_eq!(line_and_column("a\né: x", 6), (2, 4));
    }
}
