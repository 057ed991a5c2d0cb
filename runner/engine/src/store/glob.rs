//! Patterns and keys: which are allowed, and what they name.

use std::path::{Component, Path};

use errand_model::failure::{Failure, FailureKind};
use globset::{GlobBuilder, GlobMatcher};

/// Signs that make a pattern of a path.
const SIGNS: [char; 7] = ['*', '?', '[', ']', '{', '}', '\\'];

/// What a pattern names.
pub(super) struct Pattern {
    text: String,
    matcher: GlobMatcher,
}

impl Pattern {
    /// Fails as `Definition` with `source::path`.
    pub(super) fn parse(text: &str) -> Result<Self, Failure> {
        check(text)?;
        let glob = GlobBuilder::new(text).literal_separator(true).backslash_escape(true).build();
        let glob =
            glob.map_err(|error| definition(format!("`{text}` is not a pattern: {}", error.kind())).help("see `path` in the reference"))?;
        Ok(Self { text: text.to_owned(), matcher: glob.compile_matcher() })
    }

    pub(super) fn is_match(&self, path: &str) -> bool {
        self.matcher.is_match(path)
    }

    /// Whether it is the name of one file.
    pub(super) fn is_literal(&self) -> bool {
        !self.text.contains(SIGNS)
    }

    /// The directories that all it names lie in; the file itself when it is literal.
    pub(super) fn directory(&self) -> String {
        let fixed: Vec<&str> = self.text.split('/').take_while(|part| !part.contains(SIGNS)).collect();
        fixed.join("/")
    }

    /// What all it names begin with.
    pub(super) fn prefix(&self) -> &str {
        &self.text[..self.text.find(SIGNS).unwrap_or(self.text.len())]
    }

    /// Whether all it names lie in one directory, none in those below.
    pub(super) fn is_flat(&self) -> bool {
        let rest = &self.text[self.prefix().len()..];
        !rest.contains('/') && !rest.contains("**")
    }
}

/// Whether a key or a pattern stays inside of its connection.
///
/// Fails as `Definition` with `source::path`.
pub(super) fn check(path: &str) -> Result<(), Failure> {
    if is_inside(path) {
        return Ok(());
    }
    Err(definition(format!("`{path}` is not a path inside of the connection"))
        .help("write it relative to the connection's directory, without `.`, `..` and a leading `/`"))
}

/// Whether a path is relative and plain: no empty part, no `.`, no `..`.
pub(super) fn is_inside(path: &str) -> bool {
    let plain = Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
    plain && !path.split('/').any(|part| part.is_empty() || part == ".") && !path.contains('\0')
}

fn definition(message: String) -> Failure {
    Failure::new(FailureKind::Definition, "source::path", message)
}

#[cfg(test)]
mod tests {
    use super::Pattern;

    fn pattern(text: &str) -> Pattern {
        Pattern::parse(text).expect("a pattern")
    }

    #[test]
    fn what_is_fixed_in_a_pattern_narrows_the_search() {
        for (text, directory, prefix, flat) in [
            ("2026/11/x.csv", "2026/11/x.csv", "2026/11/x.csv", true),
            ("2026/1?/x.csv", "2026", "2026/1", false),
            ("2026/11/or*.csv", "2026/11", "2026/11/or", true),
            ("**/*.csv", "", "", false),
            ("a/**", "a", "a/", false),
            ("{a,b/c}.csv", "", "", false),
            (r"a\*/b", "", "a", false),
        ] {
            let pattern = pattern(text);
            assert_eq!((pattern.directory().as_str(), pattern.prefix(), pattern.is_flat()), (directory, prefix, flat), "{text}");
        }
        assert!(pattern("a/b.csv").is_literal() && !pattern("a/[b].csv").is_literal());
    }

    #[test]
    fn only_plain_relative_paths_are_keys() {
        assert!(["a", "a/b.csv", "a b/ü", "..a"].into_iter().all(super::is_inside));
        assert!(["", "/a", "a//b", "a/", "./a", "a/./b", "a/../b", "..", "a\0b"].into_iter().all(|path| !super::is_inside(path)));
    }
}
