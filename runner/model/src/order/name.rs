//! Names of executions that no schedule starts: the same for the same work, so that a second start finds the first.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::interval::Interval;

/// What decides the name: the same values are the same work.
#[derive(Clone, Debug)]
pub struct Work<'a> {
    /// Name of the job.
    pub job: &'a str,
    /// Environment of `errand.yaml`.
    pub environment: &'a str,
    /// Full commit id.
    pub commit: &'a str,
    /// Values of inputs.
    pub inputs: &'a BTreeMap<String, Value>,
    /// The span of time.
    pub interval: &'a Interval,
}

/// `orders-20261119T060000Z-1f2e3d4c`. Starts are numbered behind it: `-1`, `-2` ...; in all at most 80 characters.
#[must_use]
pub fn of(work: &Work<'_>) -> String {
    let Work { job, environment, commit, inputs, interval } = work;
    let text = serde_json::json!([job, environment, commit, inputs, interval.start.to_string(), interval.end.to_string()]).to_string();
    format!("{job}-{}-{}", moment(interval.start), digest(&text, 4))
}

/// A start of the work.
#[must_use]
pub fn numbered(name: &str, start: u32) -> String {
    format!("{name}-{start}")
}

/// The one start of an interval that its schedule did not start: `orders-20261119T060000Z-catchup-1f2e3d`, at most 80 characters. It is the
/// same at every commit: an interval whose run failed is not started again because something was deployed since.
#[must_use]
pub fn catchup(job: &str, environment: &str, interval: &Interval) -> String {
    let text = serde_json::json!([job, environment, interval.start.to_string(), interval.end.to_string()]).to_string();
    format!("{job}-{}-catchup-{}", moment(interval.start), digest(&text, 3))
}

fn digest(text: &str, bytes: usize) -> String {
    Sha256::digest(text).iter().take(bytes).map(|byte| format!("{byte:02x}")).collect()
}

fn moment(moment: Timestamp) -> String {
    moment.strftime("%Y%m%dT%H%M%SZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Most characters of the name of an execution.
    const MOST: usize = 80;

    fn interval() -> Interval {
        let time = |text: &str| text.parse().expect("a time");
        Interval { start: time("2026-11-19T06:00:00Z"), end: time("2026-11-20T06:00:00Z"), timezone: "UTC".to_owned() }
    }

    #[test]
    fn a_name_is_of_the_work_alone_and_fits() {
        let (interval, inputs) = (interval(), BTreeMap::new());
        let longest = "j".repeat(48);
        let work = Work { job: &longest, environment: "prod", commit: "abc", inputs: &inputs, interval: &interval };
        let name = of(&work);
        assert_eq!(name, of(&work.clone()));
        assert!(numbered(&name, 999).len() <= MOST, "{name}");
        let region = BTreeMap::from([("region".to_owned(), Value::from("br"))]);
        let later = Interval { end: interval.end + jiff::SignedDuration::from_hours(24), ..interval.clone() };
        for other in [
            Work { environment: "dev", ..work.clone() },
            Work { commit: "def", ..work.clone() },
            Work { inputs: &region, ..work.clone() },
            Work { interval: &later, ..work.clone() },
        ] {
            assert_ne!(of(&other), name);
        }
    }

    #[test]
    fn a_missed_interval_has_one_name_that_fits() {
        let (interval, longest) = (interval(), "j".repeat(48));
        let name = catchup(&longest, "prod", &interval);
        assert!(name.len() == MOST && name.contains("-20261119T060000Z-catchup-"), "{name}");
        assert_eq!(name, catchup(&longest, "prod", &interval));
        let later = Interval { end: interval.end + jiff::SignedDuration::from_hours(24), ..interval.clone() };
        assert!(catchup(&longest, "prod", &later) != name && catchup(&longest, "dev", &interval) != name);
    }
}
