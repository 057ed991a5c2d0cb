//! Waiting: for a condition, with a deadline, never for an amount of time.

use std::time::{Duration, Instant};

/// Asks `probe` until it answers and returns the answer.
///
/// # Panics
/// When `deadline` passes first; the message is `what` was waited for.
pub fn wait_for<T>(what: &str, deadline: Duration, probe: impl FnMut() -> Option<T>) -> T {
    answer_within(deadline, probe).unwrap_or_else(|| panic!("waited {deadline:?} in vain for {what}"))
}

/// Asks `probe` until it answers, and returns the answer, or nothing when `deadline` passes first.
pub fn answer_within<T>(deadline: Duration, mut probe: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + deadline;
    loop {
        let answer = probe();
        if answer.is_some() || Instant::now() >= end {
            return answer;
        }
        pause();
    }
}

#[expect(clippy::disallowed_methods, reason = "the one place that waits, between two looks at a condition")]
fn pause() {
    std::thread::sleep(Duration::from_millis(5));
}
