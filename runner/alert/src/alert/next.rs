//! What happens next: by itself, and by people.

use errand_model::document::job::{AlertEvent, Catchup};

use super::Scene;
use crate::catchup::Catching;
use crate::message::Fact;
use crate::record::Record;
use crate::text::listed;
use crate::time;
use crate::watchdog::{Finding, Lateness};

/// Most runs that are named.
const NAMED: usize = 3;

impl Scene<'_> {
    /// For those who wait for the data, when they are told of `event`.
    pub(super) fn next(&self, event: AlertEvent) -> String {
        let mut sentences = Vec::new();
        let owner = &self.job.owner;
        if self.job.listeners(event).contains(&owner.as_str()) {
            sentences.push(format!("{owner} is told at the same time, and on call for it."));
        }
        let catching = self.catching.filter(|_| event == AlertEvent::Late);
        let is_started = catching.is_some_and(|catching| !catching.started.is_empty());
        sentences.extend(catching.and_then(made_up_for));
        if self.history.last_success(self.job_name).is_some() {
            let until = if is_started { "it is done" } else { "it is repaired" };
            sentences.push(format!("Until {until}, readers see the data of the last good run."));
        }
        if let Some(next) = self.job.schedule().and_then(|schedule| schedule.next_after(self.now)) {
            sentences.push(format!("The next run is due at {}.", time::moment(next, &self.timezone())));
        }
        let reader = self.job.product_owner.as_deref();
        if reader.is_some_and(|reader| self.job.listeners(AlertEvent::Recovered).contains(&reader)) {
            sentences.push("A message follows when the data is up to date.".to_owned());
        }
        sentences.join(" ")
    }

    /// Whether a missed interval is run by itself.
    pub(super) fn catchup(&self, finding: &Finding) -> Option<Fact> {
        let nothing = Catching::default();
        let catching = self.catching.unwrap_or(&nothing);
        let text = match self.job.catchup {
            Catchup::None => "missed intervals stay missed unless somebody runs them (`catchup: none`)".to_owned(),
            Catchup::Last => format!("{} (`catchup: last`: of several that were missed only the newest is run)", words(catching)),
            Catchup::All => format!("{} (`catchup: all`)", words(catching)),
        };
        (finding.lateness == Lateness::NotStarted).then(|| Fact::plain("Catching up", text))
    }

    /// Missed intervals that an alert told of, and that no run made up for although it closes.
    pub(super) fn still_missed(&self, closed: &[&Record]) -> Option<Fact> {
        let is_missed = |due: &&jiff::Timestamp| !self.history.of(self.job_name).any(|run| run.is_success() && run.is_for(**due));
        let dues: Vec<jiff::Timestamp> = closed.iter().flat_map(|record| &record.dues).filter(is_missed).copied().collect();
        let text = || format!("due at {}; `errand start` or `errand backfill` runs what is wanted of it", self.moments(&dues));
        (!dues.is_empty()).then(|| Fact::plain("Still missed", text()))
    }
}

/// What this look made of what was missed, for those on call.
fn words(catching: &Catching) -> String {
    let Catching { started, waiting, problem } = catching;
    let named: Vec<String> = started.iter().take(NAMED).map(|run_id| format!("`{run_id}`")).collect();
    let more = started.len() - named.len();
    let begun = match (started.len(), more) {
        (0, _) => None,
        (1, _) => Some(format!("started by itself as run {}", listed(&named))),
        (_, 0) => Some(format!("started by themselves as runs {}", listed(&named))),
        (_, more) => Some(format!("started by themselves as runs {} and {more} more", named.join(", "))),
    };
    let rest = match (problem, *waiting, started.is_empty()) {
        (Some(problem), _, true) => Some(format!("not started: {problem}")),
        (Some(problem), ..) => Some(format!("the others not yet: {problem}")),
        (None, 0, _) => None,
        (None, _, true) => Some("started by itself when its group has room, oldest first".to_owned()),
        (None, ..) => Some("the others follow when their group has room, oldest first".to_owned()),
    };
    let all: Vec<String> = begun.into_iter().chain(rest).collect();
    if all.is_empty() { "nothing is started now".to_owned() } else { all.join("; ") }
}

/// The same in words for those who wait for the data; nothing when nothing is made up for.
fn made_up_for(catching: &Catching) -> Option<String> {
    let sentence = match (catching.started.len(), catching.waiting) {
        (0, 0) => return None,
        (1, 0) => "The missed run has been started by itself.",
        (_, 0) => "The missed runs have been started by themselves.",
        (0, _) if catching.problem.is_some() => return None,
        (_, _) => "The missed runs are started by themselves, one after the other.",
    };
    Some(sentence.to_owned())
}
