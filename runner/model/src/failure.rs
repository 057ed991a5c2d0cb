//! How a run can fail: the one table of failure kinds, and the record of one failure.
//!
//! Must not know any transport: Step Functions' names are data here, nothing more.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What sort of failure ended a step or a run. Callers branch on the kind, never on the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// A definition, an input value or an argument is wrong; the same definition will fail again.
    Definition,
    /// The job repository could not be brought here: not found, not authorised, no such ref.
    Checkout,
    /// A check of severity `error` did not hold.
    CheckFailed,
    /// Rows were refused past `max_rejected`, or a file could not be read as declared.
    Rejected,
    /// A condition that is likely to pass: lost connection, lock conflict, throttling.
    Transient,
    /// A step or the run passed its declared time.
    Timeout,
    /// A signal or an operator ended the run.
    Cancelled,
    /// The warehouse or a program refused the work; the same work will fail again.
    Permanent,
    /// A defect in Errand itself.
    Internal,
}

impl FailureKind {
    /// Every kind, in the order of the documentation.
    pub const ALL: [Self; 9] = [
        Self::Definition,
        Self::Checkout,
        Self::CheckFailed,
        Self::Rejected,
        Self::Transient,
        Self::Timeout,
        Self::Cancelled,
        Self::Permanent,
        Self::Internal,
    ];

    /// The exit code of `errand` when a run ends this way. Codes 1 (unexpected), 2 (usage) and those of shells stay free.
    #[must_use]
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Definition => 10,
            Self::Checkout => 11,
            Self::CheckFailed => 12,
            Self::Rejected => 13,
            Self::Transient => 14,
            Self::Timeout => 15,
            Self::Cancelled => 16,
            Self::Permanent => 17,
            Self::Internal => 18,
        }
    }

    /// The error name a state machine sees.
    #[must_use]
    pub const fn error_name(self) -> &'static str {
        match self {
            Self::Definition => "Errand.Definition",
            Self::Checkout => "Errand.Checkout",
            Self::CheckFailed => "Errand.CheckFailed",
            Self::Rejected => "Errand.Rejected",
            Self::Transient => "Errand.Transient",
            Self::Timeout => "Errand.Timeout",
            Self::Cancelled => "Errand.Cancelled",
            Self::Permanent => "Errand.Permanent",
            Self::Internal => "Errand.Internal",
        }
    }

    /// Whether `retry: { on: transient }` tries again.
    #[must_use]
    pub const fn is_transient(self) -> bool {
        matches!(self, Self::Transient)
    }

    /// Whether `retry: { on: any }` tries again: not what was cancelled, and not what a second attempt cannot change.
    #[must_use]
    pub const fn is_retryable(self) -> bool {
        match self {
            Self::Transient | Self::Timeout | Self::Permanent | Self::CheckFailed | Self::Rejected | Self::Internal => true,
            Self::Definition | Self::Checkout | Self::Cancelled => false,
        }
    }
}

impl fmt::Display for FailureKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.error_name().trim_start_matches("Errand."))
    }
}

/// An error with its causes in one text, each said once.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let said = cause.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        next = cause.source();
    }
    text
}

/// Where in a file something is wrong. Lines and columns count from 1, columns in characters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The file, relative to the repository or as the source names it.
    pub file: String,
    /// Line, from 1; 0 when only the file is known.
    pub line: u64,
    /// Column in characters, from 1; 0 when only the line is known.
    pub column: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.line, self.column) {
            (0, _) => f.write_str(&self.file),
            (line, 0) => write!(f, "{}:{line}", self.file),
            (line, column) => write!(f, "{}:{line}:{column}", self.file),
        }
    }
}

/// One failure, whole: what failed, where, why, and what to do next. It is the engine's error type and part of the report.
///
/// `Display` says what happened; causes are already folded into `message` in the form `what: why`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What callers branch on.
    pub kind: FailureKind,
    /// A stable word for this very failure, such as `checkout::no_such_ref`.
    pub code: String,
    /// Lower case, no full stop, values in backticks.
    pub message: String,
    /// Where, when a file is to blame.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
    /// What to do next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
}

impl Failure {
    /// A failure of `kind` with its stable code and its message.
    #[must_use]
    pub fn new(kind: FailureKind, code: &str, message: impl Into<String>) -> Self {
        Self { kind, code: code.to_owned(), message: message.into(), place: None, help: None }
    }

    /// The same, with what to do next.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// The same, with where.
    #[must_use]
    pub fn at(mut self, place: Place) -> Self {
        self.place = Some(place);
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(f, "{place}: ")?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use super::FailureKind;

    #[test]
    fn exit_codes_and_names_are_distinct_and_leave_the_shells_codes_alone() {
        let mut codes: Vec<u8> = FailureKind::ALL.iter().map(|kind| kind.exit_code()).collect();
        assert!(codes.iter().all(|code| (10..64).contains(code)));
        codes.dedup();
        assert_eq!(codes.len(), FailureKind::ALL.len());
        assert!(FailureKind::ALL.iter().all(|kind| kind.error_name() == format!("Errand.{kind}")));
    }

    #[test]
    fn what_is_transient_is_retryable() {
        assert!(FailureKind::ALL.iter().filter(|kind| kind.is_transient()).all(|kind| kind.is_retryable()));
    }
}
