//! What to say of a failure, of a late run, of warnings and of a recovery: for those on call, and for those who wait for the data.
//!
//! Pure. The second text holds no error, no place and no command: which tables are late, how old the data is, what happens next.

mod fact;
mod next;

use errand_model::deployment::{DeployedJob, Deployment};
use errand_model::document::job::AlertEvent;
use errand_model::report::IntervalReport;
use jiff::Timestamp;

use crate::catchup::Catching;
use crate::cause::Cause;
use crate::event::Failed;
use crate::history::{History, Run};
use crate::link::Links;
use crate::message::{Fact, Link, Message, Subject};
use crate::record::{Record, Said};
use crate::text::{cut, listed, one_line};
use crate::time;
use crate::watchdog::{Finding, Lateness, Trace};

/// What is known around an event.
pub(crate) struct Scene<'a> {
    pub(crate) deployment: &'a Deployment,
    pub(crate) job_name: &'a str,
    pub(crate) job: &'a DeployedJob,
    pub(crate) history: &'a History,
    pub(crate) links: &'a Links,
    pub(crate) now: Timestamp,
    /// Other runs that have failed since the last success and left no report.
    pub(crate) unreported: usize,
    /// What became of the intervals that were missed.
    pub(crate) catching: Option<&'a Catching>,
}

impl Scene<'_> {
    /// An execution failed.
    pub(crate) fn failed(&self, key: &str, failed: &Failed, cause: &Cause, interval: Option<&IntervalReport>) -> Said {
        let (job, environment) = (self.job_name, &self.deployment.environment);
        let mut on_call = self.message(Subject::Failure, key, format!("{job} failed in {environment}: {}", cause.headline));
        let step = cause.step.as_ref().map(|step| format!("step `{step}` of ")).unwrap_or_default();
        on_call.lead = format!("{} failed{}.", capital(&format!("{step}job `{job}`")), for_interval(interval));
        let place = cause.place.as_ref().map(|place| format!("{place}: ")).unwrap_or_default();
        on_call.facts = vec![Fact::literal("Cause", format!("{place}{}", cause.message))];
        on_call.facts.extend(cause.help.as_ref().map(|help| Fact::plain("What to do", help)));
        on_call.facts.extend(cause.step.as_ref().map(|step| Fact::plain("Step", step)));
        on_call.facts.extend(interval.map(|interval| Fact::plain("Interval", time::interval(interval))));
        on_call.facts.push(self.changed(&failed.input.commit));
        on_call.facts.push(self.how_often(&failed.run_id));
        on_call.facts.push(self.command(interval, &failed.input));
        let code = cause.code.as_ref().map(|code| format!(" ({code})")).unwrap_or_default();
        let error = if failed.error.is_empty() { failed.status.as_deref().unwrap_or("unknown") } else { &failed.error };
        on_call.facts.push(Fact::plain("Error", format!("{}{code}", cut(&one_line(error), 200))));
        on_call.facts.push(Fact::plain("Run", run_words(&failed.run_id, &failed.input.trigger)));
        on_call.links = self.run_links(failed, cause);
        let mut impact = self.message(Subject::Failure, key, self.impact_title());
        impact.lead = format!("{} {}.", self.outputs_are("not updated"), capital(self.reason_for_readers(cause)));
        impact.facts = self.impact_facts(AlertEvent::Failure);
        Said { on_call, impact }
    }

    /// A run is late, never came, or the last success is too old.
    pub(crate) fn late(&self, key: &str, finding: &Finding, more: &[Timestamp]) -> Said {
        let (job, environment) = (self.job_name, &self.deployment.environment);
        let limit = time::span(finding.limit);
        let due = finding.due.map(|due| time::moment(due, &self.timezone())).unwrap_or_default();
        let (headline, lead) = match finding.lateness {
            Lateness::NotStarted => {
                ("it did not start", format!("Job `{job}` was due at {due} and has not started within {limit}: no run of it is known."))
            }
            Lateness::StartedLate => ("it started late", format!("Job `{job}` was due at {due} and started later than {limit} after it.")),
            Lateness::NotFinished => {
                ("it has not finished in time", format!("Job `{job}` was due at {due} and has not finished within {limit}."))
            }
            Lateness::FinishedLate => {
                ("it finished late", format!("Job `{job}` was due at {due} and finished later than {limit} after it."))
            }
            Lateness::TooOld => ("its last success is too old", format!("Job `{job}` has not succeeded for more than {limit}.")),
        };
        let mut on_call = self.message(Subject::Late, key, format!("{job} is late in {environment}: {headline}"));
        on_call.lead = lead;
        let is_over = matches!(finding.lateness, Lateness::StartedLate | Lateness::FinishedLate);
        on_call.facts.extend(finding.interval.as_ref().map(|interval| Fact::plain("Interval", time::interval(interval))));
        if !more.is_empty() {
            on_call.facts.push(Fact::plain("Missed as well", self.moments(more)));
        }
        on_call.facts.extend(finding.started_at.map(|at| Fact::plain("Started", time::moment(at, &self.timezone()))));
        on_call.facts.push(self.last_success());
        if !is_over {
            let help = match finding.lateness {
                Lateness::NotStarted => {
                    "see whether the schedule is enabled, what its dead-letter queue holds, and whether an execution waits"
                }
                Lateness::NotFinished => "see the execution and the log: it runs still, or ended without a report",
                Lateness::TooOld | Lateness::StartedLate | Lateness::FinishedLate => "see the last runs: `errand runs`",
            };
            on_call.facts.push(Fact::plain("What to do", help));
            on_call.facts.push(self.command(finding.interval.as_ref(), &crate::event::Input::default()));
        }
        on_call.facts.extend(self.catchup(finding));
        on_call.links = finding.trace.iter().flat_map(|trace| self.trace_links(trace)).chain(self.runbook()).collect();
        let mut impact = self.message(Subject::Late, key, self.impact_title());
        if is_over {
            on_call.incident = self.incident_of_its_own(key);
            impact.incident.clone_from(&on_call.incident);
        }
        let state = if is_over { "updated later than agreed" } else { "late" };
        impact.lead = self.outputs_are(state);
        impact.facts = if is_over { vec![self.age()] } else { self.impact_facts(AlertEvent::Late) };
        Said { on_call, impact }
    }

    /// A run succeeded with warnings.
    pub(crate) fn warned(&self, key: &str, run: &Run) -> Said {
        let (job, environment) = (self.job_name, &self.deployment.environment);
        let mut on_call = self.message(Subject::Warning, key, format!("{job} succeeded with warnings in {environment}"));
        on_call.lead = format!("Job `{job}` succeeded{}, with warnings.", for_interval(run.interval.as_ref()));
        let warnings: Vec<String> = run.warnings.iter().map(|warning| cut(&one_line(warning), 400)).collect();
        on_call.facts.push(Fact::literal(
            "Warnings",
            if warnings.is_empty() { "a step failed that may fail".to_owned() } else { warnings.join("\n") },
        ));
        on_call.facts.push(Fact::plain("Run", &run.run_id));
        on_call.links = [self.links.report(None, &run.file), self.links.logs(&run.run_id)].into_iter().chain(self.runbook()).collect();
        let mut impact = self.message(Subject::Warning, key, format!("{job}: data in {environment} may be incomplete"));
        impact.lead = self.outputs_are("updated, with warnings that the team looks at");
        impact.facts = vec![self.age()];
        on_call.incident = self.incident_of_its_own(key);
        impact.incident.clone_from(&on_call.incident);
        Said { on_call, impact }
    }

    /// What was wrong is right again: the alerts that close, the run that closed them, and how many other alerts of the job stay open.
    pub(crate) fn recovered(&self, key: &str, closed: &[&Record], run: Option<&Run>, others: usize) -> Said {
        let (job, environment) = (self.job_name, &self.deployment.environment);
        let how = if others == 0 { "is well again" } else { "recovered in part" };
        let mut on_call = self.message(Subject::Recovered, key, format!("{job} {how} in {environment}"));
        let interval = run.and_then(|run| run.interval.as_ref());
        let open = match others {
            0 => String::new(),
            1 => " Another alert of it is still open.".to_owned(),
            others => format!(" {others} other alerts of it are still open."),
        };
        on_call.lead = format!("Job `{job}` succeeded{}.{open}", for_interval(interval));
        let since = closed.iter().map(|record| record.opened_at).min().unwrap_or(self.now);
        let until = run.map_or(self.now, |run| run.finished_at);
        on_call.facts.push(Fact::plain("It was", closed.iter().map(|record| self.was(record)).collect::<Vec<_>>().join("\n")));
        on_call.facts.push(Fact::plain("It took", time::span(time::since(since, until))));
        on_call.facts.extend(self.still_missed(closed));
        if let Some(run) = run {
            on_call.facts.push(Fact::plain("Run", &run.run_id));
            on_call.links = vec![self.links.report(None, &run.file), self.links.logs(&run.run_id)];
        }
        let (title, state) = match others {
            0 => ("data is up to date again", "up to date again"),
            _ => ("part of the late data is there", "updated in part: another run of it is still missing"),
        };
        let mut impact = self.message(Subject::Recovered, key, format!("{job}: {title} in {environment}"));
        impact.lead = self.outputs_are(state);
        impact.facts = vec![self.age()];
        Said { on_call, impact }
    }

    fn was(&self, record: &Record) -> String {
        let what = match record.subject {
            Subject::Failure => "failed",
            Subject::Late => "late",
            Subject::Warning => "warned",
            Subject::Recovered => "closed",
        };
        let more = if record.dues.len() > 1 { format!(" and {} more", record.dues.len() - 1) } else { String::new() };
        let since = time::moment(record.opened_at, &self.timezone());
        format!("{what}{}{more}, since {since}", for_interval(record.interval.as_ref()))
    }

    fn message(&self, subject: Subject, key: &str, title: String) -> Message {
        let (environment, job) = (self.deployment.environment.clone(), self.job_name.to_owned());
        Message {
            subject,
            alert: key.to_owned(),
            incident: format!("errand/{environment}/{job}"),
            environment,
            job,
            at: self.now,
            title,
            lead: String::new(),
            facts: Vec::new(),
            links: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// What is only told closes nothing and is closed by nothing.
    fn incident_of_its_own(&self, key: &str) -> String {
        format!("errand/{}/{}/{key}", self.deployment.environment, self.job_name)
    }

    fn run_links(&self, failed: &Failed, cause: &Cause) -> Vec<Link> {
        let has_report = cause.report.is_some() || self.history.of(self.job_name).any(|run| run.run_id == failed.run_id);
        let report = has_report.then(|| self.links.report(cause.report.as_deref(), &format!("{}.json", failed.run_id)));
        report.into_iter().chain([self.links.logs(&failed.run_id), self.links.execution(&failed.execution)]).chain(self.runbook()).collect()
    }

    fn trace_links(&self, trace: &Trace) -> Vec<Link> {
        let report = trace.file.as_ref().map(|file| self.links.report(None, file));
        let logs = (!trace.run_id.is_empty()).then(|| self.links.logs(&trace.run_id));
        let execution = trace.execution.as_ref().map(|execution| self.links.execution(execution));
        report.into_iter().chain(logs).chain(execution).collect()
    }

    fn runbook(&self) -> Option<Link> {
        self.job.runbook.as_ref().map(|url| Link::new("Runbook", url))
    }

    fn impact_title(&self) -> String {
        let (job, environment) = (self.job_name, &self.deployment.environment);
        format!("{job}: data is late in {environment}")
    }

    /// Words for people who need not know of exit codes.
    fn reason_for_readers(&self, cause: &Cause) -> &'static str {
        match cause.code.as_deref().unwrap_or_default() {
            code if code.starts_with("check::") => "a check of the new data did not hold, so it was not published",
            code if code.starts_with("ingest::rejected") => "the new data could not be accepted as it was delivered",
            _ => "the run that makes this data failed",
        }
    }

    fn outputs_are(&self, state: &str) -> String {
        let names: Vec<String> = self.job.outputs.iter().take(8).map(|output| format!("`{}`", output.name())).collect();
        match (names.len(), self.job.outputs.len()) {
            (0, _) => format!("What job `{}` makes is {state}.", self.job_name),
            (1, _) => format!("{} is {state}.", names[0]),
            (shown, all) if shown < all => format!("{} and {} more are {state}.", names.join(", "), all - shown),
            _ => format!("{} are {state}.", listed(&names)),
        }
    }

    fn impact_facts(&self, event: AlertEvent) -> Vec<Fact> {
        vec![self.age(), Fact::plain("What happens next", self.next(event))]
    }

    pub(super) fn timezone(&self) -> String {
        self.job.schedule.as_ref().map_or_else(|| "UTC".to_owned(), |schedule| schedule.timezone.clone())
    }

    fn moments(&self, times: &[Timestamp]) -> String {
        let told: Vec<String> = times.iter().take(5).map(|time| time::moment(*time, &self.timezone())).collect();
        let more = times.len() - told.len();
        if more > 0 { format!("{} and {more} more", told.join(", ")) } else { listed(&told) }
    }
}

fn for_interval(interval: Option<&IntervalReport>) -> String {
    interval.map(|interval| format!(" for {}", time::interval(interval))).unwrap_or_default()
}

fn run_words(run_id: &str, trigger: &str) -> String {
    match trigger {
        "manual" => format!("{run_id}, started by hand"),
        "backfill" => format!("{run_id}, of a backfill"),
        "catchup" => format!("{run_id}, started by itself for an interval that was missed; it is not started by itself again"),
        _ => run_id.to_owned(),
    }
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

#[cfg(test)]
pub(crate) mod tests;
