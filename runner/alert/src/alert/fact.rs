//! Facts that both what happened and what happened before decide.

use errand_model::report::IntervalReport;
use serde_json::Value;

use super::Scene;
use crate::event::Input;
use crate::link::{comparison, is_commit, short};
use crate::message::Fact;
use crate::text::{ordinal, shell_word};
use crate::time;

/// Most characters of a command's inputs.
const MOST_INPUTS: usize = 600;

impl Scene<'_> {
    /// What changed in the job repository since the last good run.
    pub(super) fn changed(&self, commit: &str) -> Fact {
        let commit = if commit.is_empty() { &self.deployment.commit } else { commit };
        let good = self.history.last_success(self.job_name).and_then(|run| run.commit.as_deref());
        let text = match good {
            None => "no good run of this job is known".to_owned(),
            Some(good) if good == commit => format!("nothing in the job repository: the last good run used commit {} too", short(commit)),
            Some(good) => match comparison(&self.deployment.repository, good, commit) {
                Some(url) => format!("commits {} to {}: {url}", short(good), short(commit)),
                None if is_commit(good) && is_commit(commit) => {
                    format!("commits {0} to {1}: `git log {0}..{1}`", short(good), short(commit))
                }
                None => format!("commit {}", short(commit)),
            },
        };
        Fact::plain("Changed since the last good run", text)
    }

    /// How often it has failed.
    pub(super) fn how_often(&self, run_id: &str) -> Fact {
        let (in_row, all) = self.history.failures(self.job_name, run_id);
        let (in_row, all) = (in_row + self.unreported, all + self.unreported);
        let last = match self.history.last_success(self.job_name) {
            Some(run) => format!("the last success ended at {}", time::moment(run.finished_at, &self.timezone())),
            None => "it has never succeeded, as far as is known".to_owned(),
        };
        let text = match (in_row, all) {
            (0, 0) => format!("the first failure that is known; {last}"),
            (0, all) => format!("the first in a row, {all} failures before are known; {last}"),
            (in_row, _) => format!("the {} failure in a row; {last}", ordinal(in_row + 1)),
        };
        Fact::plain("Failures", text)
    }

    /// The command that runs it again.
    pub(super) fn command(&self, interval: Option<&IntervalReport>, input: &Input) -> Fact {
        let mut words = vec!["errand".to_owned(), "start".to_owned(), self.job_name.to_owned()];
        words.extend(["--env".to_owned(), shell_word(&self.deployment.environment)]);
        if let Some(interval) = interval {
            words.extend(["--interval".to_owned(), time::written(interval)]);
        } else if !input.interval.is_empty() {
            words.extend(["--interval".to_owned(), shell_word(&input.interval)]);
        }
        let inputs = serde_json::from_str::<serde_json::Map<String, Value>>(&input.inputs).unwrap_or_default();
        let inputs: Vec<String> =
            inputs.iter().map(|(name, value)| format!("--input {}", shell_word(&format!("{name}={}", plain(value))))).collect();
        let inputs = inputs.join(" ");
        match inputs.chars().count() {
            0 => {}
            1..=MOST_INPUTS => words.push(inputs),
            _ => words.push("--input ... (see the execution's input)".to_owned()),
        }
        Fact::literal("Run it again", words.join(" "))
    }

    /// When it last succeeded.
    pub(super) fn last_success(&self) -> Fact {
        let text = match self.history.last_success(self.job_name) {
            Some(run) => {
                format!("{}, {} ago", time::moment(run.finished_at, &self.timezone()), time::span(time::since(run.finished_at, self.now)))
            }
            None => "none is known".to_owned(),
        };
        Fact::plain("Last success", text)
    }

    /// How old the data is.
    pub(super) fn age(&self) -> Fact {
        let text = match self
            .history
            .of(self.job_name)
            .filter(|run| run.is_success())
            .max_by_key(|run| run.interval.as_ref().map(|interval| interval.end))
        {
            None => "no good run is known".to_owned(),
            Some(run) => {
                let of = run
                    .interval
                    .as_ref()
                    .filter(|interval| interval.start < interval.end)
                    .map(|interval| format!("of {}, ", time::interval(interval)));
                let age = time::span(time::since(run.finished_at, self.now));
                format!("{}made at {}, {age} ago", of.unwrap_or_default(), time::moment(run.finished_at, &self.timezone()))
            }
        };
        Fact::plain("Newest data", text)
    }
}

/// A value as `--input` takes it.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
