//! The time and the ids made from it: the only place that asks the machine for either.

use std::fmt;
use std::time::{Duration, Instant};

use errand_model::failure::{Failure, FailureKind};
use jiff::Timestamp;
use sha2::{Digest, Sha256};
use uuid::{NoContext, Uuid};

/// Tells the time: that of the machine, or one fixed by a test.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    fixed: Option<Timestamp>,
}

impl Clock {
    /// The machine's time.
    #[must_use]
    pub const fn system() -> Self {
        Self { fixed: None }
    }

    /// Always `moment`.
    #[must_use]
    pub const fn fixed(moment: Timestamp) -> Self {
        Self { fixed: Some(moment) }
    }

    /// The time now.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is the one place")]
    pub fn now(&self) -> Timestamp {
        self.fixed.unwrap_or_else(Timestamp::now)
    }

    /// Starts to measure a duration. Independent of the time of day, which may jump.
    #[must_use]
    pub fn stopwatch(&self) -> Stopwatch {
        Stopwatch(Instant::now())
    }
}

/// Measures a duration.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Time since it was started.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }

    /// The same in whole milliseconds, as reports count.
    #[must_use]
    pub fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// The id of a run: a file name on every system, the same for all attempts of the run.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunId(String);

/// Crockford's base 32: no `i`, `l`, `o`, `u`, and in the order of ASCII, so that text sorts as the numbers do.
const DIGITS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// Digits of a new id: 48 bits of milliseconds since 1970, then 32 random ones.
const LENGTH: usize = 16;

impl RunId {
    /// Longest id that a caller may give: that of an execution in Step Functions.
    pub const MAX: usize = 80;

    /// A new id, the time first, so that ids sort by time.
    #[must_use]
    pub fn new(now: Timestamp) -> Self {
        let seconds = u64::try_from(now.as_second()).unwrap_or(0);
        let nanoseconds = u32::try_from(now.subsec_nanosecond()).unwrap_or(0);
        let (high, low) = Uuid::new_v7(uuid::Timestamp::from_unix(NoContext, seconds, nanoseconds)).as_u64_pair();
        let bits = (u128::from(high >> 16) << 32) | u128::from(low & 0xffff_ffff);
        let digit = |index: usize| DIGITS[usize::try_from((bits >> (5 * (LENGTH - 1 - index))) & 31).unwrap_or(0)];
        Self((0..LENGTH).map(|index| char::from(digit(index))).collect())
    }

    /// An id given by whoever starts the run.
    ///
    /// Fails as `Definition` with `run::bad_id`.
    pub fn parse(text: &str) -> Result<Self, Failure> {
        let starts_well = text.starts_with(|c: char| c.is_ascii_alphanumeric());
        let goes_on_well = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
        if starts_well && goes_on_well && text.len() <= Self::MAX {
            return Ok(Self(text.to_owned()));
        }
        Err(Failure::new(FailureKind::Definition, "run::bad_id", format!("`{}` is no run id", text.escape_default())).help(format!(
            "a run id has letters, digits, `-` and `_`, starts with a letter or digit and has at most {} characters",
            Self::MAX
        )))
    }

    /// The id of the run that an execution of Step Functions is: its name, as it is where that is an id. What else an execution's name may
    /// hold becomes `-`, and a digest at the end keeps such names apart.
    #[must_use]
    pub fn of_execution(name: &str) -> Self {
        if let Ok(id) = Self::parse(name) {
            return id;
        }
        let digest: String = Sha256::digest(name).iter().take(4).map(|byte| format!("{byte:02x}")).collect();
        let plain = name.chars().map(|c| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_') { c } else { '-' });
        let plain: String = plain.skip_while(|c| !c.is_ascii_alphanumeric()).take(Self::MAX - digest.len() - 1).collect();
        Self(if plain.is_empty() { digest } else { format!("{plain}-{digest}") })
    }

    /// When an id of [`RunId::new`] was made; nothing for ids of others.
    #[must_use]
    pub fn made_at(text: &str) -> Option<Timestamp> {
        if text.len() != LENGTH {
            return None;
        }
        let digit = |byte: u8| DIGITS.iter().position(|digit| *digit == byte).and_then(|at| u128::try_from(at).ok());
        let bits = text.bytes().try_fold(0_u128, |bits, byte| Some((bits << 5) | digit(byte)?))?;
        Timestamp::from_millisecond(i64::try_from(bits >> 32).ok()?).ok()
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::{Clock, RunId};

    fn at(text: &str) -> jiff::Timestamp {
        text.parse().expect("a time")
    }

    #[test]
    fn a_fixed_clock_stands_still() {
        let clock = Clock::fixed(at("2026-11-20T06:00:00Z"));
        assert_eq!(clock.now(), clock.clone().now());
    }

    #[test]
    fn new_ids_sort_by_time_and_tell_it() {
        let early = RunId::new(at("2026-11-20T06:00:00.001Z"));
        let late = RunId::new(at("2026-11-20T06:00:00.002Z"));
        assert!(early < late && early.as_str().len() == 16);
        assert_eq!(RunId::made_at(late.as_str()), Some(at("2026-11-20T06:00:00.002Z")));
        assert_ne!(RunId::new(at("2026-11-20T06:00:00Z")), RunId::new(at("2026-11-20T06:00:00Z")));
        assert_eq!(RunId::parse(early.as_str()), Ok(early));
    }

    #[test]
    fn names_of_executions_become_ids_that_stay_apart() {
        let id = |name: &str| RunId::of_execution(name).to_string();
        assert_eq!(id("4b3c2d1e-aaaa-bbbb-cccc-0123456789ab"), "4b3c2d1e-aaaa-bbbb-cccc-0123456789ab");
        assert!(id("orders 2026.11").starts_with("orders-2026-11-"), "{}", id("orders 2026.11"));
        assert_ne!(id("orders.2026"), id("orders=2026"));
        for name in ["", "...", "é", "_x", &"ü.".repeat(40), &"a.".repeat(40), "a/../b"] {
            assert_eq!(RunId::parse(&id(name)).expect(name).as_str(), id(name));
            assert_eq!(id(name), id(name));
        }
    }

    #[test]
    fn given_ids_are_file_names() {
        for right in ["a", "nightly-2026_11", "4b3c2d1e-aaaa-bbbb-cccc-0123456789ab"] {
            assert_eq!(RunId::parse(right).expect("an id").as_str(), right);
            assert_eq!(RunId::made_at(right), None);
        }
        for wrong in ["", "-a", ".a", "a/b", "a.b", "a b", "é", &"a".repeat(81)] {
            assert_eq!(RunId::parse(wrong).expect_err("refused").code, "run::bad_id", "{wrong}");
        }
    }
}
