//! The time: the only place that asks the machine for it.

use jiff::Timestamp;

/// The time of the machine.
#[expect(clippy::disallowed_methods, reason = "the one place that tells the time")]
pub(crate) fn now() -> Timestamp {
    Timestamp::now()
}
