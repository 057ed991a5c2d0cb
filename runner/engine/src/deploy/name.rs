//! Names of executions that are started by hand: the same for the same work, so that a second start finds the first.

use errand_model::interval::Interval;
use jiff::Timestamp;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// What decides the name: the same values are the same work.
#[derive(Clone, Debug)]
pub(crate) struct Work<'a> {
    pub(crate) job: &'a str,
    pub(crate) environment: &'a str,
    pub(crate) commit: &'a str,
    pub(crate) inputs: &'a BTreeMap<String, Value>,
    pub(crate) interval: &'a Interval,
}

/// `orders-20261119T060000Z-1f2e3d4c`. Starts are numbered behind it: `-1`, `-2` ...; in all at most 80 characters.
pub(crate) fn of(work: &Work<'_>) -> String {
    let Work { job, environment, commit, inputs, interval } = work;
    let text = serde_json::json!([job, environment, commit, inputs, interval.start.to_string(), interval.end.to_string()]).to_string();
    let digest: String = Sha256::digest(text).iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    format!("{job}-{}-{digest}", moment(interval.start))
}

/// A start of the work.
pub(crate) fn numbered(name: &str, start: u32) -> String {
    format!("{name}-{start}")
}

fn moment(moment: Timestamp) -> String {
    moment.strftime("%Y%m%dT%H%M%SZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::RunId;

    #[test]
    fn a_name_is_of_the_work_alone_and_fits() {
        let time = |text: &str| text.parse().expect("a time");
        let interval = Interval { start: time("2026-11-19T06:00:00Z"), end: time("2026-11-20T06:00:00Z"), timezone: "UTC".to_owned() };
        let inputs = BTreeMap::new();
        let longest = "j".repeat(48);
        let work = Work { job: &longest, environment: "prod", commit: "abc", inputs: &inputs, interval: &interval };
        let name = of(&work);
        assert_eq!(name, of(&work.clone()));
        assert!(numbered(&name, 999).len() <= RunId::MAX && RunId::parse(&numbered(&name, 1)).is_ok(), "{name}");
        let region = BTreeMap::from([("region".to_owned(), Value::from("br"))]);
        let later = Interval { end: time("2026-11-21T06:00:00Z"), ..interval.clone() };
        for other in [
            Work { environment: "dev", ..work.clone() },
            Work { commit: "def", ..work.clone() },
            Work { inputs: &region, ..work.clone() },
            Work { interval: &later, ..work.clone() },
        ] {
            assert_ne!(of(&other), name);
        }
    }
}
