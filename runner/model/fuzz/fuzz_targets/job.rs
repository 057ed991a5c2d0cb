//! Any text as a definition: no panic, and a job exactly when there is no error. Places lie within their text.
#![no_main]

use std::sync::Arc;

use errand_model::problem::Severity;
use errand_model::validate::{self, FileError, Files};
use libfuzzer_sys::fuzz_target;

struct Nothing;

impl Files for Nothing {
    fn text(&self, _: &str) -> Result<Arc<str>, FileError> {
        Err(FileError::Missing)
    }

    fn list(&self, _: &str) -> Vec<String> {
        Vec::new()
    }
}

fuzz_target!(|text: &str| {
    let mut problems = Vec::new();
    let job = validate::job("orders", text, &Nothing, None, &mut problems);
    assert_eq!(job.is_none(), problems.iter().any(|problem| problem.severity == Severity::Error));
    for span in problems.iter().filter_map(|problem| problem.span.clone()) {
        assert!(text.get(span).is_some());
    }
    problems.clear();
    let project = validate::project(text, "errand.yaml", &mut problems);
    assert_eq!(project.is_none(), problems.iter().any(|problem| problem.severity == Severity::Error));
});
