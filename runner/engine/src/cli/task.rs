//! `errand task`: a run as a task of a state machine. First a heartbeat, then the claim, the run, its report, and last the result.
//!
//! Arguments are variables of the environment, documented in `settings`. Every end, also of what fails before the job is known, is answered
//! with SendTaskSuccess or SendTaskFailure, and has the exit code of `errand run`.

mod ending;

use std::io::Write;
use std::time::Duration;

use errand_model::failure::{Failure, FailureKind};
use errand_model::job::Concurrency;
use errand_model::order::Trigger;
use errand_model::report::RunReport;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use self::ending::Ending;
use super::run::{Signals, defect, early, left_here, prepare};
use super::selection::{Outline, Prepared, Selection};
use super::{Surroundings, print, style, tell};
use crate::checkout;
use crate::clock::RunId;
use crate::pulse::Pulse;
use crate::report::store::ReportStore;
use crate::report::text;
use crate::run::{self, Request};
use crate::settings::{LogFormat, TaskSettings, variable};
use crate::store::Patience;
use crate::task::answer::{self, Known, Quiet};
use crate::task::claim::{self, Claims};
use crate::task::lease::{Lease, Leases, State, Taker};
use crate::task::lifeline::{Delivery, Held, Lifeline, Lost};

/// Heartbeats that may be missing before others take what a run holds.
const MISSED_HEARTBEATS: u64 = 5;
/// Time that a run has for its end once its timeout has passed; the state machine gives two minutes.
const AFTER_TIMEOUT: Duration = Duration::from_secs(45);
/// Most time for the report.
const KEEP: Duration = Duration::from_secs(60);
/// Most time for giving claims back.
const RELEASE: Duration = Duration::from_secs(20);
/// Longest pause between two looks at a slot that is busy.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Takes no arguments: everything comes from the environment.
#[derive(clap::Args, Clone, Debug)]
pub struct TaskArgs {}

/// How a task ended.
enum Ended {
    /// With a report.
    Report(Box<RunReport>),
    /// Others do or did the work.
    Quiet(Quiet),
}

/// What the end of the process tells.
struct Told {
    ended: Ended,
    /// Where the report lies, where there is one and a place for it.
    kept: Result<Option<String>, Failure>,
}

/// Runs the job that the environment names. The exit code of its end.
///
/// # Errors
///
/// There is no runtime, or the report cannot be written. Everything else is told by the answer and the report.
pub fn run(_: &TaskArgs, surroundings: &Surroundings, out: &mut dyn Write) -> Result<u8, Failure> {
    checkout::prepare()?;
    let surroundings = &with_remote_secrets(surroundings);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(FailureKind::Transient, "run::no_runtime", format!("cannot start the runtime: {error}")))?;
    // Process 1 of a container ignores a signal that it does not listen to: this comes before anything that takes time.
    let mut signals = {
        let _inside = runtime.enter();
        Signals::listen()?
    };
    let lifeline = Lifeline::start(surroundings.settings.task.token.as_ref())?;
    let told = runtime.block_on(to_the_answer(surroundings, &lifeline, &mut signals));
    // Steps that did not end in time are dropped, which ends the programs of `command` steps; nothing else is waited for.
    runtime.shutdown_timeout(Duration::from_secs(1));
    lifeline.end();
    finish(surroundings, told, out)
}

/// In a task, secrets lie in Secrets Manager under the environment's name, unless the variable says where.
fn with_remote_secrets(surroundings: &Surroundings) -> Surroundings {
    let mut surroundings = surroundings.clone();
    let settings = &mut surroundings.settings;
    if let Some(token) = &settings.task.token {
        settings.secrets.redactor().register(token);
    }
    if let (false, Some(environment)) = (settings.secrets.has_remote(), &settings.environment) {
        settings.secrets = settings.secrets.clone().with_remote(&format!("errand/{environment}/"));
    }
    surroundings
}

async fn to_the_answer(surroundings: &Surroundings, lifeline: &Lifeline, signals: &mut Signals) -> Told {
    let (pulse, held, cancelled) = (Pulse::default(), Held::default(), CancellationToken::new());
    let (sender, lost) = mpsc::channel(4);
    let ending = Ending::new(surroundings.settings.task.stop);
    let mut outline = outline(surroundings);
    let span = tracing::info_span!("run", run_id = outline.run_id, job = outline.job);
    let ended = {
        let task = Task { surroundings, lifeline, pulse: &pulse, held: &held, cancelled: &cancelled, lost: &sender };
        let work = task.work(&mut outline).instrument(span.clone());
        tokio::pin!(work);
        tokio::select! {
            biased;
            ended = &mut work => ended,
            failure = ending.watch(signals, lost, &cancelled) => Err(failure),
        }
    };
    let mut ended = ended.unwrap_or_else(|failure| Ended::Report(Box::new(outline.failed(failure, surroundings.clock.now()))));
    if let Ended::Report(report) = &mut ended {
        ending.explain(report);
    }
    let telling = async {
        let kept = keep(surroundings, &outline, &ended, ending.rest() / 2).await;
        let told = Told { ended, kept };
        release(surroundings, &held, &told, ending.rest() / 2).await;
        answer(surroundings, lifeline, &outline, &told, ending.rest()).await;
        told
    };
    telling.instrument(span).await
}

/// What is known before anything was read.
fn outline(surroundings: &Surroundings) -> Outline {
    let settings = &surroundings.settings;
    let started_at = surroundings.clock.now();
    let run_id = settings.run_id.as_deref().map_or_else(|| RunId::new(started_at), RunId::of_execution);
    let mut outline = Outline::begin(&run_id, started_at);
    outline.attempt = settings.attempt.unwrap_or(1);
    outline.scheduled_at = settings.scheduled_at;
    outline.execution = settings.task.execution.clone();
    outline.job = settings.task.job.clone().unwrap_or_default();
    outline.environment = settings.environment.clone().unwrap_or_default();
    outline.store = settings.task.state.as_ref().and_then(|(bucket, prefix)| ReportStore::in_bucket(bucket, prefix).ok());
    outline
}

/// What the environment asks for, in the words of `errand run`.
fn selection(settings: &TaskSettings, outline: &Outline) -> Result<Selection, Failure> {
    let needed = |value: &Option<String>, name: &str| {
        value.clone().ok_or_else(|| {
            Failure::new(FailureKind::Definition, "task::missing_variable", format!("environment variable `{name}` is not set"))
                .help("`errand task` is started by a state machine, which sets it; by hand, use `errand run`")
        })
    };
    let environment = Some(outline.environment.clone()).filter(|environment| !environment.is_empty());
    Ok(Selection {
        job: needed(&settings.job, variable::JOB)?,
        repo: needed(&settings.repository, variable::REPOSITORY)?,
        reference: Some(needed(&settings.reference, variable::REF)?),
        environment: Some(needed(&environment, variable::ENVIRONMENT)?),
        interval: settings.interval.clone(),
        inputs: inputs(settings.inputs.as_deref().unwrap_or("{}"))?,
        steps: Vec::new(),
        attempt: Some(outline.attempt),
        run_id: Some(outline.run_id.clone()),
    })
}

/// Values of inputs as texts, which is how a command line gives them.
fn inputs(text: &str) -> Result<Vec<(String, String)>, Failure> {
    let wrong = |why: &str| {
        Failure::new(FailureKind::Definition, "task::bad_inputs", format!("environment variable `{}` {why}", variable::INPUTS))
            .help("write a JSON object of texts, numbers and booleans: `{\"region\": \"br\"}`")
    };
    let values: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(text).map_err(|error| wrong(&format!("is no JSON object: {error}")))?;
    let text = |(name, value): (String, serde_json::Value)| match value {
        serde_json::Value::String(text) => Ok((name, text)),
        serde_json::Value::Bool(_) | serde_json::Value::Number(_) => Ok((name, value.to_string())),
        serde_json::Value::Null | serde_json::Value::Array(_) | serde_json::Value::Object(_) => {
            Err(wrong(&format!("gives `{name}` a value that is none")))
        }
    };
    values.into_iter().map(text).collect()
}

/// What the parts of a task share.
struct Task<'a> {
    surroundings: &'a Surroundings,
    lifeline: &'a Lifeline,
    pulse: &'a Pulse,
    held: &'a Held,
    cancelled: &'a CancellationToken,
    lost: &'a mpsc::Sender<Lost>,
}

impl Task<'_> {
    async fn work(&self, outline: &mut Outline) -> Result<Ended, Failure> {
        let settings = &self.surroundings.settings.task;
        self.lifeline.first().await?;
        self.lifeline.beat(settings.heartbeat, self.pulse, self.held, &self.surroundings.clock, self.lost);
        let selection = selection(settings, outline)?;
        let preparing = prepare(&selection, self.surroundings, outline, self.cancelled);
        let prepared = self.pulse.follow("the checkout", self.cancelled, preparing).await?;
        let timeout = prepared.request.job.timeout;
        let limit = self.rest(outline, timeout + AFTER_TIMEOUT);
        let working = self.claimed(outline, prepared);
        tokio::time::timeout(limit, working).await.unwrap_or_else(|_| Err(run::timed_out(timeout)))
    }

    /// What is left of a time that began with the process.
    fn rest(&self, outline: &Outline, of: Duration) -> Duration {
        let passed = self.surroundings.clock.now().duration_since(outline.started_at);
        of.saturating_sub(Duration::try_from(passed).unwrap_or_default())
    }

    async fn claimed(&self, outline: &mut Outline, prepared: Prepared) -> Result<Ended, Failure> {
        let Prepared { mut request, scratch } = prepared;
        if let Some(quiet) = self.claim(outline, &mut request).await? {
            return Ok(Ended::Quiet(quiet));
        }
        let (pulse, cancelled) = (self.pulse.clone(), self.cancelled.clone());
        request.pulse = pulse.clone();
        let early = early(&request.interval, self.surroundings.clock.now());
        let running = async move { pulse.follow("the run", &cancelled, run::execute(request)).await };
        let mut report = tokio::spawn(running.in_current_span()).await.map_err(|error| defect(&error))?;
        drop(scratch);
        report.warnings.splice(0..0, early);
        Ok(Ended::Report(Box::new(report)))
    }

    /// Claims the interval and a slot of the group. An answer when there is nothing to do.
    async fn claim(&self, outline: &mut Outline, request: &mut Request) -> Result<Option<Quiet>, Failure> {
        let settings = &self.surroundings.settings.task;
        let Some(reports) = outline.store.clone() else {
            tracing::warn!("no claims are made: the environment has no place for run reports");
            return Ok(None);
        };
        let patience = Patience { answer: Duration::from_secs(20), attempts: 4, ..Patience::default() };
        let leases = Leases(reports.state().with_patience(patience));
        let job = request.job.name.as_str();
        if settings.interval.is_none() && outline.scheduled_at.is_none() {
            request.interval = claim::pinned(&leases, job, &request.run_id, &request.interval).await?;
            outline.interval = Some(request.interval.report());
        }
        let key = claim::key(job, &request.interval, &request.inputs);
        let taker = Taker {
            job: job.to_owned(),
            interval: request.interval.report(),
            run_id: request.run_id.clone(),
            execution: settings.execution.clone().unwrap_or_default(),
            attempt: request.attempt,
            holder: format!("{:016x}", fastrand::u64(..)),
            commit: request.checkout.commit.clone(),
            chosen: request.job.chosen(&request.inputs),
            by_hand: settings.trigger.is_some_and(Trigger::is_by_hand),
            makes_up: matches!(settings.trigger, Some(Trigger::Catchup | Trigger::Backfill)),
            lease_seconds: settings.heartbeat.as_secs() * MISSED_HEARTBEATS,
        };
        let claims = Claims { leases, reports, clock: self.surroundings.clock.clone(), look_every: LOOK_EVERY.min(settings.heartbeat) };
        let timeout = request.job.timeout;
        let waiting = self.wait_for_turn(&claims, &key, &taker, &request.job.concurrency);
        let waiting = self.pulse.follow("waiting for its turn", self.cancelled, waiting);
        tokio::time::timeout(self.rest(outline, timeout), waiting).await.unwrap_or_else(|_| Err(run::timed_out(timeout)))
    }

    async fn wait_for_turn(&self, claims: &Claims, key: &str, taker: &Taker, concurrency: &Concurrency) -> Result<Option<Quiet>, Failure> {
        match claims.claim(key, taker, self.cancelled).await? {
            Ok(lease) => self.hold(claims, lease).await,
            Err(quiet) => return Ok(Some(quiet)),
        }
        match claims.slot(concurrency, taker, self.cancelled).await? {
            Ok(lease) => self.hold(claims, lease).await,
            Err(quiet) => return Ok(Some(quiet)),
        }
        Ok(None)
    }

    async fn hold(&self, claims: &Claims, lease: Lease) {
        self.held.lock().await.push((claims.leases.clone(), lease));
    }
}

/// Writes the report: first of all that is told.
async fn keep(surroundings: &Surroundings, outline: &Outline, ended: &Ended, limit: Duration) -> Result<Option<String>, Failure> {
    let report = match ended {
        Ended::Report(report) => (**report).clone(),
        Ended::Quiet(quiet) if quiet.outcome == "skipped" => outline.skipped(&quiet.why, surroundings.clock.now()),
        Ended::Quiet(quiet) => return Ok(quiet.report.clone()),
    };
    let Some(store) = outline.store.clone() else { return Ok(None) };
    let (redactor, written) = (surroundings.settings.secrets.redactor().clone(), report.clone());
    let limit = limit.min(KEEP);
    let writing = tokio::task::spawn_blocking(move || store.write(&written, &redactor));
    let late = || {
        let message = format!("cannot write the run report: it took longer than {} s", limit.as_secs());
        Err(Failure::new(FailureKind::Permanent, "report::cannot_write", message))
    };
    let written = tokio::time::timeout(limit, writing).await;
    let written = written.map_or_else(|_| late(), |joined| joined.unwrap_or_else(|error| Err(defect(&error))));
    match written {
        Ok(url) => Ok(Some(url.to_string_lossy().into_owned())),
        Err(unkept) => {
            let unkept = left_here(unkept, &report, surroundings);
            tracing::error!("{unkept}");
            Err(unkept)
        }
    }
}

/// Gives claims back. What cannot be given back is free when its lease has run out.
async fn release(surroundings: &Surroundings, held: &Held, told: &Told, limit: Duration) {
    let state = match &told.ended {
        Ended::Report(report) => State::of(report.outcome),
        Ended::Quiet(_) => State::Ended,
    };
    let report = told.kept.as_ref().ok().and_then(Option::as_deref);
    let now = surroundings.clock.now();
    let releasing = async {
        for (leases, mut lease) in std::mem::take(&mut *held.lock().await) {
            if let Err(failure) = leases.end(&mut lease, state, report, now).await {
                tracing::warn!(lease = lease.key, why = %failure, "a claim could not be given back");
            }
        }
    };
    if tokio::time::timeout(limit.min(RELEASE), releasing).await.is_err() {
        tracing::warn!("claims could not be given back in time");
    }
}

/// Tells the state machine.
async fn answer(surroundings: &Surroundings, lifeline: &Lifeline, outline: &Outline, told: &Told, limit: Duration) {
    let redactor = surroundings.settings.secrets.redactor();
    let answer = match &told.ended {
        Ended::Report(report) => answer::of_report(report, &told.kept, redactor),
        Ended::Quiet(quiet) => {
            let known = Known { run_id: outline.run_id.clone(), job: outline.job.clone() };
            let duration = surroundings.clock.now().duration_since(outline.started_at);
            let report = told.kept.as_ref().ok().cloned().flatten();
            answer::of_quiet(&known, quiet, report.as_deref(), u64::try_from(duration.as_millis()).unwrap_or(0), redactor)
        }
    };
    match lifeline.answer(answer, limit).await {
        Delivery::Arrived => tracing::info!("result told"),
        Delivery::Unwanted(why) => tracing::warn!(why, "the state machine waits for the result no longer"),
        Delivery::Failed(why) => tracing::error!(why, "the result could not be told to the state machine"),
    }
}

/// Prints the end for people, and says how it ended.
fn finish(surroundings: &Surroundings, told: Told, out: &mut dyn Write) -> Result<u8, Failure> {
    let settings = &surroundings.settings;
    let report = match told.ended {
        Ended::Report(report) => report,
        Ended::Quiet(quiet) => {
            tracing::info!(outcome = quiet.outcome, why = quiet.why, "nothing to do");
            return Ok(0);
        }
    };
    let path = told.kept.as_ref().ok().and_then(Option::as_deref).map(std::path::Path::new);
    if settings.log_format == LogFormat::Text {
        print(out, &settings.secrets.redactor().redact(&text::summary(&report, path, style(settings.stdout))))?;
    }
    match (&report.failure, told.kept) {
        (Some(failure), _) => {
            if report.steps.iter().all(|step| step.attempts.is_empty()) {
                tell(failure, surroundings);
            }
            Ok(failure.kind.exit_code())
        }
        (None, Err(unkept)) => Err(unkept),
        (None, Ok(_)) => Ok(0),
    }
}

#[cfg(test)]
mod tests {
    use super::inputs;

    #[test]
    fn inputs_are_an_object_of_plain_values() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(
            inputs(r#"{"region": "br", "days": 3, "full": true}"#),
            Ok(vec![pair("region", "br"), pair("days", "3"), pair("full", "true")])
        );
        assert_eq!(inputs("{}"), Ok(Vec::new()));
        for wrong in ["", "[]", "region=br", r#"{"region": null}"#, r#"{"region": ["br"]}"#] {
            assert_eq!(inputs(wrong).expect_err(wrong).code, "task::bad_inputs");
        }
    }
}
