//! One tick of the watchdog: closes what has recovered, tries again what could not be told, starts what was missed, tells what is late, tells
//! of warnings.

mod missed;

use std::collections::{BTreeMap, BTreeSet};

use errand_model::deployment::Deployment;
use errand_model::document::job::AlertEvent;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::alert::Scene;
use crate::catchup::Catching;
use crate::clock;
use crate::handler::{Call, Handler, gone};
use crate::history::{History, Run};
use crate::message::Subject;
use crate::record::{Delivery, Lease, Record, Telling};
use crate::recovery::{Closing, closing};
use crate::route::{self, PAGERDUTY};
use crate::state::Found;
use crate::time::since;
use crate::watchdog::{self, Finding, Start, Trace, View};

/// What comes later than this after an alert of the same job is told again.
const SAME_ALERT: std::time::Duration = std::time::Duration::from_secs(20 * 3_600);
/// How long after its end a run's warnings are told.
const FRESH: std::time::Duration = std::time::Duration::from_secs(86_400);
/// Most claims that one tick asks for.
const CLAIMS: usize = 300;

/// One tick, and what is known in it.
struct Tick<'a> {
    handler: &'a Handler,
    call: &'a Call,
    deployment: &'a Deployment,
    history: &'a History,
    now: Timestamp,
    /// What became of missed intervals, by job.
    catching: BTreeMap<String, Catching>,
    told: usize,
    /// What went wrong; the rest is done all the same.
    problems: Vec<String>,
}

impl Handler {
    /// Looks for what should have happened.
    ///
    /// Fails when the state cannot be read, and naming every alert that reached nobody.
    pub(crate) async fn patrol(&self, call: &Call) -> Result<Value, String> {
        let Some(deployment) = self.state.deployment().await? else {
            return Ok(json!({ "told": 0, "why": "nothing is deployed" }));
        };
        let now = clock::now();
        let history = self.state.history(&deployment, now).await?;
        let (mut open, mut problems) = (Vec::new(), Vec::new());
        for key in self.state.open().await? {
            // One alert that cannot be read silences no other.
            self.state.record(&key).await.map_or_else(|problem| problems.push(problem), |found| open.extend(found));
        }
        let (deployment, history, catching) = (&deployment, &history, BTreeMap::new());
        let mut tick = Tick { handler: self, call, deployment, history, now, catching, told: 0, problems };
        let open = tick.close(open).await;
        let open = tick.retry(open).await;
        let failed = failures(&open);
        tick.catch_up(&failed).await;
        let late = tick.late(open, &failed).await;
        let warned = tick.warnings().await;
        tick.problems.extend(late.err().into_iter().chain(warned.err()));
        let started: Vec<&String> = tick.catching.values().flat_map(|catching| &catching.started).collect();
        if tick.problems.is_empty() { Ok(json!({ "told": tick.told, "started": started })) } else { Err(tick.problems.join("; ")) }
    }
}

impl Tick<'_> {
    fn note(&mut self, result: Result<Value, String>) {
        match result {
            Ok(done) => self.told += usize::try_from(done["told"].as_u64().unwrap_or_default()).unwrap_or_default(),
            Err(problem) => self.problems.push(problem),
        }
    }

    /// Whether there is time for one more alert; what is left comes with the next tick.
    fn has_time(&self) -> bool {
        Instant::now() < self.call.deadline
    }

    /// Closes what has recovered, one message for each job; returns the rest.
    async fn close(&mut self, open: Vec<Found<Record>>) -> Vec<Found<Record>> {
        let mut rest = Vec::new();
        let mut closable: BTreeMap<String, Vec<(Found<Record>, Closing<'_>)>> = BTreeMap::new();
        for found in open {
            let record = &found.value;
            let is_free = record.is_open() && !record.is_leased(&self.call.owner, self.now);
            match closing(record, self.deployment, self.history).filter(|_| is_free) {
                Some(closing) => closable.entry(record.job.clone()).or_default().push((found, closing)),
                None => rest.push(found),
            }
        }
        for (job, alerts) in closable {
            let is_other = |found: &Found<Record>| found.value.job == job && found.value.is_open();
            let others = rest.iter().filter(|found| is_other(found)).count();
            let heir = rest.iter_mut().filter(|found| is_other(found)).max_by_key(|found| found.value.opened_at);
            if let Err(problem) = self.close_job(&job, alerts, (heir, others)).await {
                self.problems.push(problem);
            }
        }
        rest
    }

    /// Closes alerts of one job. `heir` is one of so many others that stay open: it owes the incident's resolution from now on.
    async fn close_job(
        &mut self,
        job: &str,
        mut alerts: Vec<(Found<Record>, Closing<'_>)>,
        (heir, others): (Option<&mut Found<Record>>, usize),
    ) -> Result<(), String> {
        alerts.sort_by_key(|(found, _)| found.value.opened_at);
        let incidents: Vec<Delivery> = once(alerts.iter().flat_map(|(found, _)| found.value.incidents()));
        let is_last = heir.is_none();
        if let Some(heir) = heir
            && incidents.iter().any(|incident| !heir.value.incidents().any(|own| own.is_to(incident)))
        {
            heir.value.owes.extend(incidents.iter().cloned());
            self.handler.state.replace(heir).await?;
        }
        let run = alerts.iter().rev().find_map(|(_, closing)| match closing {
            Closing::By(run) => Some(*run),
            Closing::Gone => None,
        });
        let telling = self.closing(job, &alerts, (run, others), if is_last { incidents } else { Vec::new() });
        let (mut last, _) = alerts.pop().ok_or("nothing closes")?;
        // The one that tells it comes last: a crash in between is told with the next tick.
        for (mut found, _) in alerts {
            self.shut(&mut found.value, run);
            if self.handler.state.replace(&mut found).await? {
                self.handler.state.settle(&found.value.key).await?;
            }
        }
        self.shut(&mut last.value, run);
        last.value.closing = telling;
        last.value.lease = Some(Lease { owner: self.call.owner.clone(), until: self.call.over_at });
        if !self.handler.state.replace(&mut last).await? {
            return Ok(());
        }
        if last.value.closing.is_none() {
            return self.handler.state.settle(&last.value.key).await;
        }
        let told = self.handler.tell(last, self.deployment, self.call).await;
        self.note(told);
        Ok(())
    }

    fn shut(&self, record: &mut Record, run: Option<&Run>) {
        record.closed_at = Some(self.now);
        record.closed_by = run.map(|run| run.run_id.clone());
    }

    /// What is told when alerts close: to those who were told of them and listen to recoveries; and incidents are resolved.
    fn closing(
        &self,
        job_name: &str,
        alerts: &[(Found<Record>, Closing<'_>)],
        (run, others): (Option<&Run>, usize),
        incidents: Vec<Delivery>,
    ) -> Option<Telling> {
        let records: Vec<&Record> = alerts.iter().map(|(found, _)| &found.value).collect();
        let last = records.last()?;
        let Some(job) = self.deployment.jobs.get(job_name) else {
            let said = gone(&last.opening.as_ref()?.said);
            return (!incidents.is_empty()).then_some(Telling { said, deliveries: incidents });
        };
        let listeners = job.listeners(AlertEvent::Recovered);
        let told = records.iter().flat_map(|record| record.told()).filter(|told| told.channel != PAGERDUTY);
        let mut deliveries = once(told.filter(|told| listeners.contains(&told.contact.as_str())).map(Delivery::again));
        deliveries.extend(incidents);
        let said = self.scene(job_name)?.recovered(&last.key, &records, run, others);
        (!deliveries.is_empty()).then_some(Telling { said, deliveries })
    }

    /// Tries again what could not be told, and lets go of what nobody needs to look at.
    async fn retry(&mut self, open: Vec<Found<Record>>) -> Vec<Found<Record>> {
        let mut rest = Vec::new();
        for found in open {
            if found.value.is_settled(self.now) {
                let settled = self.handler.state.settle(&found.value.key).await.map(|()| json!({}));
                self.note(settled);
            } else if found.value.is_pending(self.now) && self.has_time() {
                let (key, was_open) = (found.value.key.clone(), found.value.is_open());
                let told = self.handler.resume(found, self.deployment, self.call).await;
                self.note(told);
                if was_open {
                    rest.extend(self.handler.state.record(&key).await.ok().flatten());
                }
            } else {
                rest.push(found);
            }
        }
        rest
    }

    fn scene<'s>(&'s self, job_name: &'s str) -> Option<Scene<'s>> {
        let job = self.deployment.jobs.get(job_name)?;
        let catching = self.catching.get(job_name);
        let (deployment, history, links, now) = (self.deployment, self.history, &self.handler.links, self.now);
        Some(Scene { deployment, job_name, job, history, links, now, unreported: 0, catching })
    }

    /// Tells what is late, each once.
    async fn late(&mut self, mut open: Vec<Found<Record>>, failed: &BTreeSet<(String, Timestamp)>) -> Result<(), String> {
        let (deployment, history, now) = (self.deployment, self.history, self.now);
        let view = |starts| View { deployment, history, starts, failed, now };
        let suspects = self.unknown(watchdog::findings(&view(&[]))).await?;
        if suspects.is_empty() {
            return Ok(());
        }
        let starts = self.starts(&suspects).await?;
        let keys: BTreeSet<&str> = suspects.iter().map(|finding| finding.key.as_str()).collect();
        let found = watchdog::findings(&view(&starts)).into_iter().filter(|finding| keys.contains(finding.key.as_str()));
        let mut groups: BTreeMap<(String, bool, bool, bool), Vec<Finding>> = BTreeMap::new();
        for finding in found {
            let group = (finding.job.clone(), finding.due.is_none(), finding.is_over(), finding.is_failure);
            groups.entry(group).or_default().push(finding);
        }
        for (_, findings) in groups {
            if !self.has_time() {
                break;
            }
            let told = self.late_group(&findings, &mut open).await;
            self.note(told);
        }
        Ok(())
    }

    /// Findings that no alert tells of yet.
    async fn unknown(&self, findings: Vec<Finding>) -> Result<Vec<Finding>, String> {
        let mut known: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let mut unknown = Vec::new();
        for finding in findings {
            // Keys end in a moment; a job's name holds no `-`.
            let start = finding.key.rsplit_once('-').map_or("", |(start, _)| start);
            let start = format!("{start}-");
            if !known.contains_key(&start) {
                let keys = self.handler.state.keys(&start).await?;
                known.insert(start.clone(), keys.into_iter().collect());
            }
            if !known[&start].contains(&finding.key) {
                unknown.push(finding);
            }
        }
        Ok(unknown)
    }

    /// When the runs started that have no report yet.
    async fn starts(&self, findings: &[Finding]) -> Result<Vec<Start>, String> {
        let mut starts = Vec::new();
        for finding in findings.iter().filter(|finding| finding.started_at.is_none()).take(CLAIMS) {
            let (Some(due), Some(interval)) = (finding.due, &finding.interval) else { continue };
            let claim = self.handler.state.claimed(&finding.job, interval.start, interval.end).await?;
            starts.extend(claim.map(|claim| {
                let execution = Some(claim.execution).filter(|execution| !execution.is_empty());
                let trace = Trace { run_id: claim.run_id, execution, file: None };
                Start { job: finding.job.clone(), due, at: claim.taken_at, trace }
            }));
        }
        Ok(starts)
    }

    /// One alert for what is late in the same way, or none where one tells of it already.
    async fn late_group(&self, findings: &[Finding], open: &mut Vec<Found<Record>>) -> Result<Value, String> {
        let Some((first, others)) = findings.split_first() else { return Ok(json!({})) };
        let job = &self.deployment.jobs[&first.job];
        let failures = if first.is_failure { job.listeners(AlertEvent::Failure) } else { Vec::new() };
        let covered: Vec<String> = failures.into_iter().map(str::to_owned).collect();
        let (deliveries, problems) = route::deliveries(self.deployment, job, AlertEvent::Late, &covered);
        problems.iter().for_each(|problem| tracing::error!(job = first.job, problem, "a contact is missing"));
        if deliveries.is_empty() {
            return Ok(json!({}));
        }
        let dues: Vec<Timestamp> = findings.iter().filter_map(|finding| finding.due).collect();
        let is_same = |record: &Record| {
            let is_recent = first.due.is_none() || since(record.opened_at, self.now) < SAME_ALERT;
            record.job == first.job && record.subject == Subject::Late && record.is_open() && is_recent
        };
        if let Some(same) = open.iter_mut().find(|found| is_same(&found.value)).filter(|_| !first.is_over()) {
            same.value.dues.extend(dues);
            // One that is changed at this moment is found again by the next tick.
            if !self.handler.state.replace(same).await? {
                return Ok(json!({}));
            }
            return self.told_by(findings, &same.value.key).await;
        }
        let Some(scene) = self.scene(&first.job) else { return Ok(json!({})) };
        let more: Vec<Timestamp> = others.iter().filter_map(|finding| finding.due).collect();
        let said = scene.late(&first.key, first, &more);
        let mut record = Record::open(&first.key, Subject::Late, &first.job, self.now, Some(Telling { said, deliveries }));
        (record.interval, record.dues, record.told_only) = (first.interval.clone(), dues, first.is_over());
        let told = self.handler.open(record, self.deployment, self.call).await;
        self.told_by(others, &first.key).await?;
        open.extend(self.handler.state.record(&first.key).await?);
        told
    }

    /// Remembers that another alert tells of these.
    async fn told_by(&self, findings: &[Finding], key: &str) -> Result<Value, String> {
        for finding in findings {
            let mut record = Record::open(&finding.key, Subject::Late, &finding.job, self.now, None);
            record.told_by = Some(key.to_owned());
            self.handler.state.create(record).await?;
        }
        Ok(json!({}))
    }

    /// Tells of runs that succeeded with warnings, each once.
    async fn warnings(&mut self) -> Result<(), String> {
        let history = self.history;
        let is_told = |run: &&Run| run.is_success() && !run.warnings.is_empty() && since(run.finished_at, self.now) < FRESH;
        let runs: Vec<&Run> = history.runs.iter().filter(is_told).collect();
        for run in runs {
            let Some(job) = self.deployment.jobs.get(&run.job) else { continue };
            let (deliveries, _) = route::deliveries(self.deployment, job, AlertEvent::Warning, &[]);
            let key = format!("warning-{}", run.run_id);
            if deliveries.is_empty() || !self.has_time() || self.handler.state.record(&key).await?.is_some() {
                continue;
            }
            let Some(scene) = self.scene(&run.job) else { continue };
            let said = scene.warned(&key, run);
            let mut record = Record::open(&key, Subject::Warning, &run.job, self.now, Some(Telling { said, deliveries }));
            (record.run_id, record.interval, record.told_only) = (Some(run.run_id.clone()), run.interval.clone(), true);
            let told = self.handler.open(record, self.deployment, self.call).await;
            self.note(told);
        }
        Ok(())
    }
}

/// Failures that people were told of: job and end of the interval.
fn failures(open: &[Found<Record>]) -> BTreeSet<(String, Timestamp)> {
    let failures = open.iter().map(|found| &found.value).filter(|record| record.subject == Subject::Failure);
    // A run with inputs of its own does not stand for the one that was due.
    let failures = failures.filter(|record| record.chosen.as_deref().unwrap_or_default().is_empty());
    failures.filter_map(|record| Some((record.job.clone(), record.interval.as_ref()?.end))).collect()
}

/// Deliveries to the same channel of the same contact, once.
fn once(deliveries: impl Iterator<Item = Delivery>) -> Vec<Delivery> {
    let mut all: Vec<Delivery> = Vec::new();
    for delivery in deliveries {
        if !all.iter().any(|known| known.is_to(&delivery)) {
            all.push(delivery);
        }
    }
    all
}
