//! One event, from its JSON to the answer: decides what to tell, makes sure that it is told once, and fails when nobody could be told.

use std::sync::Arc;
use std::time::Duration;

use errand_model::deployment::{DeployedJob, Deployment};
use errand_model::document::job::AlertEvent;
use errand_model::interval::Interval;
use errand_model::report::IntervalReport;
use jiff::Timestamp;
use lambda_runtime::Context;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::alert::Scene;
use crate::aws::Clients;
use crate::cause::{self, Cause};
use crate::channel::{Tools, client};
use crate::clock;
use crate::event::{self, Event, Failed};
use crate::execution::Executions;
use crate::history::History;
use crate::link::Links;
use crate::message::Subject;
use crate::record::{Lease, Record, Said, Telling};
use crate::secret::Secrets;
use crate::send;
use crate::settings::Settings;
use crate::state::{Found, State};
use crate::time;

/// What is kept of the Lambda's time for writing down what became of it.
const RESERVE: Duration = Duration::from_secs(3);
/// Longest time for the deliveries of one alert.
const TURN: Duration = Duration::from_secs(30);
/// How long after its time an invocation is surely over.
const OVER: Duration = Duration::from_secs(5);
/// Longest time for what is known of past runs.
const PAST: Duration = Duration::from_secs(15);
/// Most open alerts that are read to count failures.
const MOST_OPEN: usize = 50;
/// Most tries to write an alert that others write too.
const RACES: usize = 5;

/// Handles events; lives as long as the process.
pub(crate) struct Handler {
    pub(crate) tools: Arc<Tools>,
    pub(crate) state: State,
    pub(crate) executions: Executions,
    pub(crate) links: Links,
}

/// One invocation.
pub(crate) struct Call {
    /// Its request id.
    pub(crate) owner: String,
    /// When it must have told everybody.
    pub(crate) deadline: Instant,
    /// When it is surely over.
    pub(crate) over_at: Timestamp,
}

impl Call {
    fn of(context: &Context) -> Self {
        let now = clock::now();
        let end = i64::try_from(context.deadline).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok()).unwrap_or(now);
        let left = time::since(now, end);
        Self {
            owner: context.request_id.clone(),
            deadline: Instant::now() + left.saturating_sub(RESERVE.min(left / 2)),
            over_at: time::after(end, OVER),
        }
    }

    /// When the deliveries of one alert must be done.
    fn turn(&self) -> Instant {
        self.deadline.min(Instant::now() + TURN)
    }
}

impl Handler {
    /// Fails when the machine has no source of trust.
    pub(crate) async fn new(settings: Settings) -> Result<Self, String> {
        let clients = Clients::connect(&settings).await;
        let state = State::new(clients.s3.clone(), settings.bucket.clone(), settings.prefix.clone());
        let secrets = Secrets::new(clients.secrets.clone(), settings.secret_prefix.clone());
        let executions = Executions::new(clients.states.clone(), settings.state_machine.clone());
        let links = Links::new(&settings);
        Ok(Self { tools: Arc::new(Tools { settings, clients, http: client()?, secrets }), state, executions, links })
    }

    /// Handles one event. What comes back says what was done.
    ///
    /// Fails when the event is malformed, when the state cannot be read or written, and when nobody at all could be told.
    pub(crate) async fn handle(&self, event: &Value, context: &Context) -> Result<Value, String> {
        let call = Call::of(context);
        let result = match event::read(event) {
            Ok(Event::Failed(failed)) => self.failed(&failed, &call).await,
            Ok(Event::Watchdog) => self.patrol(&call).await,
            Ok(Event::Ignored(why)) => Ok(json!({ "ignored": why })),
            Err(why) => Err(why),
        };
        let result = result.map_err(|why| self.tools.secrets.clean(&why));
        match &result {
            Ok(done) => tracing::info!(%done, "handled"),
            Err(why) => tracing::error!(why, "an alert did not reach anybody, or the event makes no sense"),
        }
        result
    }

    async fn failed(&self, failed: &Failed, call: &Call) -> Result<Value, String> {
        let key = format!("run-{}", failed.run_id.replace(|c: char| !c.is_ascii_alphanumeric() && !"-_.".contains(c), "_"));
        let cause = cause::read(&failed.error, &failed.cause, failed.status.as_deref());
        let deployment = self.state.deployment().await?.ok_or_else(|| {
            format!("execution `{}` failed, and there is no `deployment.json` that says whom to tell; run `errand deploy`", failed.run_id)
        })?;
        if let Some(found) = self.state.record(&key).await? {
            return self.resume(found, &deployment, call).await;
        }
        let name = [failed.input.job.as_str(), cause.job.as_deref().unwrap_or_default()].into_iter().find(|name| !name.is_empty());
        let name = name.ok_or_else(|| format!("execution `{}` failed, and neither its input nor its cause names a job", failed.run_id))?;
        let job = deployment.jobs.get(name).ok_or_else(|| {
            format!("execution `{}` of job `{name}` failed, and the deployment has no such job: nobody can be told", failed.run_id)
        })?;
        let (deliveries, problems) = crate::route::deliveries(&deployment, job, AlertEvent::Failure, &[]);
        problems.iter().for_each(|problem| tracing::error!(job = name, problem, "a contact is missing"));
        if deliveries.is_empty() {
            return match problems.is_empty() {
                true => Ok(json!({ "told": 0, "why": format!("nobody listens to failures of job `{name}`") })),
                false => Err(format!("nobody could be told that job `{name}` failed: {}", problems.join("; "))),
            };
        }
        let now = clock::now();
        let interval = interval(failed, &cause, job);
        let (history, unreported) = self.past(&deployment, name, failed, now).await;
        let (deployment, history, links) = (&deployment, &history, &self.links);
        let scene = Scene { deployment, job_name: name, job, history, links, now, unreported, catching: None };
        let said = scene.failed(&key, failed, &cause, interval.as_ref());
        let mut record = Record::open(&key, Subject::Failure, name, now, Some(Telling { said, deliveries }));
        (record.run_id, record.execution, record.interval) = (Some(failed.run_id.clone()), Some(failed.execution.clone()), interval);
        record.chosen = chosen(failed, history);
        self.open(record, deployment, call).await
    }

    /// How many other runs of a job have failed since its last success without leaving a report, as far as their alerts are open.
    async fn unreported(&self, job: &str, failed: &Failed, history: &History) -> usize {
        let last_success = history.last_success(job).map(|run| run.finished_at);
        let is_one = |record: &Record| {
            let run_id = record.run_id.as_deref().filter(|run_id| *run_id != failed.run_id);
            record.job == job
                && record.subject == Subject::Failure
                && run_id.is_some_and(|run_id| history.of(job).all(|run| run.run_id != run_id))
                && last_success.is_none_or(|success| record.opened_at > success)
        };
        let keys = self.state.open().await.unwrap_or_else(|problem| {
            tracing::warn!(problem, "open alerts cannot be listed: failures without a report are not counted");
            Vec::new()
        });
        let mut count = 0;
        for key in keys.iter().filter(|key| key.starts_with("run-")).take(MOST_OPEN) {
            count += usize::from(self.state.record(key).await.ok().flatten().is_some_and(|found| is_one(&found.value)));
        }
        count
    }

    /// Past runs, and how many failed without a report. They make a text better; without them, or when they are long in coming, there is
    /// still a text.
    async fn past(&self, deployment: &Deployment, job: &str, failed: &Failed, now: Timestamp) -> (History, usize) {
        let reading = async {
            let history = self.state.history(deployment, now).await.unwrap_or_else(|problem| {
                tracing::warn!(problem, "past runs cannot be read");
                History::default()
            });
            let unreported = self.unreported(job, failed, &history).await;
            (history, unreported)
        };
        tokio::time::timeout(PAST, reading).await.unwrap_or_else(|_| {
            tracing::warn!("past runs are long in coming: the alert does without them");
            (History::default(), 0)
        })
    }

    /// Makes an alert and tells it, unless somebody else has made it.
    pub(crate) async fn open(&self, mut record: Record, deployment: &Deployment, call: &Call) -> Result<Value, String> {
        record.lease = Some(Lease { owner: call.owner.clone(), until: call.over_at });
        let key = record.key.clone();
        if let Some(found) = self.state.create(record).await? {
            return self.tell(found, deployment, call).await;
        }
        match self.state.record(&key).await? {
            // The answer to a write that was done may have been lost, and the write tried again.
            Some(found) if found.value.lease.as_ref().is_some_and(|lease| lease.owner == call.owner) => {
                self.tell(found, deployment, call).await
            }
            Some(found) => self.resume(found, deployment, call).await,
            None => Err(format!("alert `{key}` was there and is gone")),
        }
    }

    /// Tells what is left to tell of an alert that is there.
    pub(crate) async fn resume(&self, mut found: Found<Record>, deployment: &Deployment, call: &Call) -> Result<Value, String> {
        let now = clock::now();
        if !found.value.is_pending(now) {
            return Ok(json!({ "told": 0, "why": format!("alert `{}` was told already", found.value.key) }));
        }
        if found.value.is_leased(&call.owner, now) {
            return Ok(json!({ "told": 0, "why": format!("alert `{}` is being told", found.value.key) }));
        }
        found.value.lease = Some(Lease { owner: call.owner.clone(), until: call.over_at });
        if !self.state.replace(&mut found).await? {
            return Ok(json!({ "told": 0, "why": format!("alert `{}` is being told", found.value.key) }));
        }
        self.tell(found, deployment, call).await
    }

    /// Tells, and writes down who was told. The alert is this invocation's.
    pub(crate) async fn tell(&self, mut found: Found<Record>, deployment: &Deployment, call: &Call) -> Result<Value, String> {
        let key = found.value.key.clone();
        let Some(mut telling) = found.value.current().cloned() else { return Ok(json!({ "told": 0 })) };
        send::deliver(&mut telling, deployment, &self.tools, call.turn()).await;
        for _ in 0..RACES {
            found.value.lease = None;
            if let Some(current) = found.value.current() {
                current.deliveries.clone_from(&telling.deliveries);
            }
            if self.state.replace(&mut found).await? {
                break;
            }
            tracing::warn!(alert = key, "somebody else changed the alert while it was told");
            found = self.state.record(&key).await?.ok_or_else(|| format!("alert `{key}` is gone"))?;
        }
        if found.value.is_settled(clock::now()) {
            self.state.settle(&key).await?;
        }
        verdict(&key, &telling)
    }
}

/// What was told; a failure when nobody was, at no time.
fn verdict(key: &str, telling: &Telling) -> Result<Value, String> {
    let told = telling.deliveries.iter().filter(|delivery| delivery.done_at.is_some()).count();
    let failed: Vec<String> = telling
        .deliveries
        .iter()
        .filter(|delivery| delivery.done_at.is_none())
        .map(|delivery| format!("{} of `{}`: {}", delivery.channel, delivery.contact, delivery.error.as_deref().unwrap_or("not tried")))
        .collect();
    if told == 0 && !failed.is_empty() {
        return Err(format!("nobody could be told of alert `{key}`: {}", failed.join("; ")));
    }
    Ok(json!({ "alert": key, "told": told, "failed": failed }))
}

/// The span of time that a failed run was for: from its input, its own words, or its schedule.
fn interval(failed: &Failed, cause: &Cause, job: &DeployedJob) -> Option<IntervalReport> {
    let timezone = job.schedule.as_ref().map_or("UTC", |schedule| schedule.timezone.as_str());
    let texts = [failed.input.interval.as_str(), cause.interval.as_deref().unwrap_or_default()];
    let written = texts.into_iter().filter(|text| !text.is_empty()).find_map(|text| Interval::parse(text, timezone).ok());
    let scheduled = || job.schedule()?.last_complete(failed.input.scheduled_at.parse().ok()?);
    written.or_else(scheduled).map(|interval| interval.report())
}

/// Inputs of a run that failed, as its report says; those of its schedule where it was given none.
fn chosen(failed: &Failed, history: &History) -> Option<String> {
    let reported = history.runs.iter().find(|run| run.run_id == failed.run_id).map(|run| run.chosen.clone());
    reported.or_else(|| ["", "{}"].contains(&failed.input.inputs.trim()).then(String::new))
}

/// What closes an alert of a job that is no more: only incidents are resolved.
pub(crate) fn gone(opening: &Said) -> Said {
    let mut said = opening.clone();
    for message in [&mut said.on_call, &mut said.impact] {
        message.subject = Subject::Recovered;
        message.title = format!("{} is no longer deployed in {}", message.job, message.environment);
        message.lead = format!("Job `{}` is no longer deployed.", message.job);
        message.facts.clear();
        message.links.clear();
    }
    said
}
