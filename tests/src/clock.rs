//! The clock, where what is tested depends on it: schedules, leases, the time of a message.

use jiff::Timestamp;

/// What it says.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the one place of the tests that asks what time it is")]
pub fn now() -> Timestamp {
    Timestamp::now()
}
