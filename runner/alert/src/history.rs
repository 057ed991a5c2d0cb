//! What is known of past runs: a short form of their reports, kept in one file so that no report is read twice.
//!
//! Pure; `state` reads and writes it. It can be made anew from the reports at any time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use errand_model::report::{IntervalReport, Outcome, RunReport};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::time::before;

/// How long runs are kept that nothing else asks for.
const KEPT: Duration = Duration::from_secs(2 * 86_400);
/// Most recent runs of each job that are kept however old they are.
const RECENT: usize = 10;
/// Most warnings of a run that are kept.
const WARNINGS: usize = 5;

/// Runs of one environment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct History {
    /// When the newest report was written that is in here.
    pub(crate) seen: Option<Timestamp>,
    /// By their end, oldest first.
    pub(crate) runs: Vec<Run>,
}

/// One run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Run {
    /// Name of its report.
    pub(crate) file: String,
    pub(crate) run_id: String,
    pub(crate) job: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) interval: Option<IntervalReport>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) scheduled_at: Option<Timestamp>,
    pub(crate) started_at: Timestamp,
    pub(crate) finished_at: Timestamp,
    pub(crate) outcome: Outcome,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) commit: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) warnings: Vec<String>,
    /// Inputs that are not the job's defaults, as JSON; empty for work such as the schedule's.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) chosen: String,
}

impl Run {
    /// The short form of a report; nothing for one of a part of a job, which says nothing of the whole.
    pub(crate) fn of(file: &str, report: RunReport) -> Option<Self> {
        let whole = report.only.is_empty();
        let mut warnings = report.warnings;
        warnings.truncate(WARNINGS);
        let chosen: BTreeMap<_, _> = report.inputs.iter().filter(|(name, _)| report.chosen.contains(name)).collect();
        let chosen = if report.chosen.is_empty() { String::new() } else { serde_json::to_string(&chosen).unwrap_or_default() };
        whole.then(|| Self {
            file: file.to_owned(),
            run_id: report.run_id,
            job: report.job,
            interval: report.interval,
            scheduled_at: report.scheduled_at,
            started_at: report.started_at,
            finished_at: report.finished_at,
            outcome: report.outcome,
            commit: report.checkout.and_then(|checkout| checkout.commit),
            warnings,
            chosen,
        })
    }

    /// Whether the data is there.
    pub(crate) const fn is_success(&self) -> bool {
        match self.outcome {
            Outcome::Succeeded | Outcome::AlreadyDone | Outcome::Warned => true,
            Outcome::Skipped | Outcome::Failed | Outcome::Cancelled => false,
        }
    }

    /// Whether it ended before its work was done.
    pub(crate) const fn is_failure(&self) -> bool {
        match self.outcome {
            Outcome::Failed | Outcome::Cancelled => true,
            Outcome::Succeeded | Outcome::AlreadyDone | Outcome::Warned | Outcome::Skipped => false,
        }
    }

    /// Whether it left the work undone because another run of its group was at work: as its job says, and nobody is told.
    pub(crate) const fn is_skipped(&self) -> bool {
        !self.is_success() && !self.is_failure()
    }

    /// When its job was due for it: the end of its interval.
    pub(crate) fn due(&self) -> Option<Timestamp> {
        match &self.interval {
            Some(interval) => (interval.start < interval.end).then_some(interval.end),
            None => self.scheduled_at,
        }
    }

    /// Whether it does what the schedule wants at this time: its interval ends then, and it has no inputs of its own.
    pub(crate) fn is_for(&self, due: Timestamp) -> bool {
        self.is_usual() && self.due() == Some(due)
    }

    /// Whether it has the inputs of a run by schedule.
    pub(crate) const fn is_usual(&self) -> bool {
        self.chosen.is_empty()
    }

    /// Whether it is for this very interval.
    pub(crate) fn covers(&self, interval: &IntervalReport) -> bool {
        self.interval.as_ref().is_some_and(|own| (own.start, own.end) == (interval.start, interval.end))
    }
}

impl History {
    /// Runs of a job, newest first.
    pub(crate) fn of<'a>(&'a self, job: &'a str) -> impl Iterator<Item = &'a Run> {
        self.runs.iter().rev().filter(move |run| run.job == job)
    }

    /// The last success of a job.
    pub(crate) fn last_success<'a>(&'a self, job: &'a str) -> Option<&'a Run> {
        self.of(job).find(|run| run.is_success())
    }

    /// The last run of a job that was not skipped.
    pub(crate) fn last<'a>(&'a self, job: &'a str) -> Option<&'a Run> {
        self.of(job).find(|run| !run.is_skipped())
    }

    /// Runs that failed since the last success, and all that are known to have failed, but for one. Of several attempts of a run, each with a
    /// report, the last one counts.
    pub(crate) fn failures(&self, job: &str, except: &str) -> (usize, usize) {
        let mut seen = BTreeSet::from([except]);
        let last_attempts: Vec<&Run> = self.of(job).filter(|run| !run.is_skipped() && seen.insert(&run.run_id)).collect();
        let failed = |run: &&&Run| run.is_failure();
        (last_attempts.iter().take_while(failed).count(), last_attempts.iter().filter(failed).count())
    }

    /// Whether a report is in here.
    pub(crate) fn knows(&self, file: &str) -> bool {
        self.runs.iter().any(|run| run.file == file)
    }

    /// Adds runs and lets go of old ones; `reach` is how far back somebody may ask for a run of a job.
    pub(crate) fn add(&mut self, runs: Vec<Run>, reach: impl Fn(&str) -> Duration, now: Timestamp) {
        self.runs.extend(runs);
        self.runs.sort_by(|a, b| (a.finished_at, &a.file).cmp(&(b.finished_at, &b.file)));
        self.runs.dedup_by(|a, b| a.file == b.file);
        let mut counts: BTreeMap<String, (usize, bool)> = BTreeMap::new();
        let mut kept: Vec<Run> = Vec::with_capacity(self.runs.len());
        for run in self.runs.drain(..).rev() {
            let (count, succeeded) = counts.entry(run.job.clone()).or_default();
            let first_success = run.is_success() && !*succeeded;
            let is_recent = *count < RECENT && !run.is_skipped();
            if run.finished_at >= before(now, KEPT + reach(&run.job)) || is_recent || first_success {
                *count += usize::from(!run.is_skipped());
                *succeeded |= run.is_success();
                kept.push(run);
            }
        }
        kept.reverse();
        self.runs = kept;
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::time::Duration;

    use errand_model::report::{IntervalReport, Outcome};
    use jiff::Timestamp;

    use super::{History, Run};

    pub(crate) fn at(text: &str) -> Timestamp {
        text.parse().expect("a moment")
    }

    /// A run of a day's job for the interval that ends when it starts.
    pub(crate) fn run(job: &str, id: &str, due: &str, outcome: Outcome) -> Run {
        let due = at(due);
        let later = |seconds| due.checked_add(Duration::from_secs(seconds)).expect("in range");
        let start = due.checked_sub(Duration::from_secs(86_400)).expect("in range");
        Run {
            file: format!("{id}.json"),
            run_id: id.to_owned(),
            job: job.to_owned(),
            interval: Some(IntervalReport { start, end: due, timezone: "Europe/Lisbon".to_owned() }),
            scheduled_at: Some(due),
            started_at: later(20),
            finished_at: later(200),
            outcome,
            commit: Some(format!("{id:0<40}")),
            warnings: Vec::new(),
            chosen: String::new(),
        }
    }

    #[test]
    fn old_runs_go_but_never_the_last_success() {
        let mut history = History::default();
        let mut runs = vec![run("a", "good", "2026-01-01T06:00:00Z", Outcome::Succeeded)];
        runs.extend((1..=28).map(|day| run("a", &format!("bad{day:02}"), &format!("2026-02-{day:02}T06:00:00Z"), Outcome::Failed)));
        history.add(runs.clone(), |_| Duration::ZERO, at("2026-03-01T00:00:00Z"));
        history.add(runs, |_| Duration::ZERO, at("2026-03-01T00:00:00Z"));
        assert_eq!(history.runs.len(), 11);
        assert_eq!(history.last_success("a").map(|run| run.run_id.as_str()), Some("good"));
        assert_eq!((history.failures("a", "bad28"), history.failures("b", "")), ((9, 9), (0, 0)));
        assert!(history.knows("bad28.json") && !history.knows("bad01.json"));
        history.add(
            vec![run("b", "kept", "2026-02-20T06:00:00Z", Outcome::Skipped)],
            |_| Duration::from_secs(10 * 86_400),
            at("2026-03-01T00:00:00Z"),
        );
        assert!(history.knows("kept.json"));
        history.add(Vec::new(), |_| Duration::ZERO, at("2026-03-01T00:00:00Z"));
        assert!(!history.knows("kept.json"), "a run that was skipped is kept only as long as somebody asks for it");
    }

    #[test]
    fn attempts_are_one_failure_and_skipped_runs_none() {
        let attempt = |id: &str, number: u32, outcome| {
            let file = format!("{id}.{number}.json");
            Run { file, ..run("a", id, "2026-02-01T06:00:00Z", outcome) }
        };
        let runs = vec![
            attempt("one", 1, Outcome::Failed),
            attempt("one", 2, Outcome::Succeeded),
            attempt("two", 1, Outcome::Failed),
            attempt("two", 2, Outcome::Cancelled),
            attempt("three", 1, Outcome::Skipped),
        ];
        let history = History { seen: None, runs };
        assert_eq!((history.failures("a", ""), history.failures("a", "two")), ((1, 1), (0, 0)));
        assert_eq!(history.last("a").map(|run| run.run_id.as_str()), Some("two"));
    }
}
