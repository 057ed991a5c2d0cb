//! Runs the steps of a job: those that are ready side by side, each with its attempts, and always ends with a report.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use errand_model::document::job::{Backoff, RetryOn};
use errand_model::document::step::OnFailure;
use errand_model::failure::{Failure, FailureKind};
use errand_model::job::{Retry, Step};
use errand_model::report::{AttemptReport, Outcome, RunReport, StepReport};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, error, info, warn};

use super::context::Context;
use super::graph::{Graph, Progress, selected};
use super::{Request, memory};
use crate::step::{self, Attempt, Effect, Record};

/// Steps that run side by side, at most.
const MAX_PARALLEL: usize = 4;

/// Runs a job. Whatever happens, the answer is a report.
pub async fn execute(request: Request) -> RunReport {
    let context = match Context::new(request) {
        Ok(context) => Arc::new(context),
        Err(refused) => return report(&refused.1, Vec::new(), Some(refused.0)),
    };
    let request = &context.request;
    let chosen = match selected(&request.job, &request.only) {
        Ok(chosen) => chosen,
        Err(failure) => return report(request, Vec::new(), Some(failure)),
    };
    info!(job = %request.job.name, run_id = %request.run_id, interval_start = %request.interval.start, interval_end = %request.interval.end, "run started");
    let deadline = Deadline::start(request);
    let mut graph = Graph::new(&request.job, &chosen);
    let mut reports: BTreeMap<usize, StepReport> = BTreeMap::new();
    for (at, step) in request.job.steps.iter().enumerate().filter(|(_, step)| !chosen.contains(step.id.as_str())) {
        reports.insert(at, unstarted(step, Outcome::Skipped, "not asked for by `--step`"));
    }
    let failure = run_graph(&context, &mut graph, &mut reports, &deadline).await;
    let failure = failure.map(|failure| deadline.explain(failure, request.job.timeout));
    if request.cancelled.is_cancelled() {
        context.bills.drop_all();
    }
    context.bills.settle(&mut reports).await;
    let report = report(request, reports.into_values().collect(), failure);
    info!(outcome = report.outcome.as_str(), duration_ms = report.duration_ms, "run ended");
    report
}

/// Ends the run when its time is over.
struct Deadline {
    passed: CancellationToken,
    timer: tokio::task::JoinHandle<()>,
}

impl Deadline {
    fn start(request: &Request) -> Self {
        let passed = CancellationToken::new();
        // The time counts from the start of the runner: what fetched the repository and waited for others is part of it.
        let passed_already = Duration::try_from(request.clock.now().duration_since(request.started_at)).unwrap_or_default();
        let timeout = request.job.timeout.saturating_sub(passed_already);
        let (cancelled, token) = (request.cancelled.clone(), passed.clone());
        let timer = tokio::spawn(async move {
            tokio::time::sleep(timeout).await;
            token.cancel();
            cancelled.cancel();
        });
        Self { passed, timer }
    }

    /// What was cancelled by the deadline is a timeout of the run.
    fn explain(&self, failure: Failure, timeout: Duration) -> Failure {
        if failure.kind != FailureKind::Cancelled || !self.passed.is_cancelled() {
            return failure;
        }
        timed_out(timeout)
    }
}

/// The failure of a run that passed the timeout of its job.
#[must_use]
pub fn timed_out(timeout: Duration) -> Failure {
    let message = format!("the run passed its timeout of {} s", timeout.as_secs());
    Failure::new(FailureKind::Timeout, "run::timeout", message).help("raise `timeout` of the job, or find the slow step in the report")
}

impl Drop for Deadline {
    fn drop(&mut self) {
        self.timer.abort();
    }
}

async fn run_graph(
    context: &Arc<Context>,
    graph: &mut Graph<'_>,
    reports: &mut BTreeMap<usize, StepReport>,
    deadline: &Deadline,
) -> Option<Failure> {
    let limit = std::thread::available_parallelism().map_or(2, usize::from).clamp(2, MAX_PARALLEL);
    let mut running: JoinSet<(usize, StepReport)> = JoinSet::new();
    let mut started = BTreeMap::new();
    let mut failure = None;
    loop {
        while running.len() < limit && !context.request.cancelled.is_cancelled() {
            let Some(at) = graph.next_ready() else { break };
            graph.set(at, Progress::Running);
            let context = Arc::clone(context);
            let handle = running.spawn(async move { (at, run_step(&context, at).await) }.in_current_span());
            started.insert(handle.id(), at);
        }
        let Some(joined) = running.join_next().await else { break };
        let (at, report) = joined.unwrap_or_else(|error| {
            let at = started.get(&error.id()).copied().unwrap_or_default();
            (at, panicked(graph.step(at), &error, context.request.clock.now()))
        });
        graph.set(at, if passes(report.outcome) { Progress::Passed } else { Progress::Blocked });
        failure = failure.or_else(|| failure_of(&report));
        reports.insert(at, report);
        while let Some((blocked, blocker)) = graph.next_blocked() {
            graph.set(blocked, Progress::Blocked);
            reports.insert(blocked, unstarted(graph.step(blocked), Outcome::Skipped, &format!("step `{blocker}` did not succeed")));
        }
    }
    for at in graph.waiting() {
        let reason = if deadline.passed.is_cancelled() { "the run passed its timeout" } else { "the run was cancelled" };
        reports.insert(at, unstarted(graph.step(at), Outcome::Cancelled, reason));
        failure = failure.or_else(|| Some(cancelled()));
    }
    failure
}

/// What a step's end makes of the run. One that was cancelled while it waited for its next attempt did not fail by that attempt.
fn failure_of(report: &StepReport) -> Option<Failure> {
    let last = report.attempts.last().and_then(|attempt| attempt.failure.clone());
    match report.outcome {
        Outcome::Succeeded | Outcome::AlreadyDone | Outcome::Warned | Outcome::Skipped => None,
        Outcome::Failed => last,
        Outcome::Cancelled => last.filter(|failure| failure.kind == FailureKind::Cancelled).or_else(|| Some(cancelled())),
    }
}

fn cancelled() -> Failure {
    Failure::new(FailureKind::Cancelled, "run::cancelled", "the run was cancelled before it ended")
}

const fn passes(outcome: Outcome) -> bool {
    match outcome {
        Outcome::Succeeded | Outcome::AlreadyDone | Outcome::Warned | Outcome::Skipped => true,
        Outcome::Failed | Outcome::Cancelled => false,
    }
}

fn unstarted(step: &Step, outcome: Outcome, reason: &str) -> StepReport {
    StepReport {
        id: step.id.to_string(),
        kind: step.kind.word().to_owned(),
        outcome,
        reason: Some(reason.to_owned()),
        duration_ms: 0,
        rows: Default::default(),
        bytes_read: 0,
        bytes_written: 0,
        outputs: BTreeMap::new(),
        warnings: Vec::new(),
        attempts: Vec::new(),
    }
}

/// A panic in a step is a report like any other failure.
fn panicked(step: &Step, error: &tokio::task::JoinError, now: jiff::Timestamp) -> StepReport {
    let failure = Failure::new(FailureKind::Internal, "run::panic", format!("step `{}` ended by a defect in errand: {error}", step.id));
    let failure = failure.help("please report it with the log of this run; the step's transaction was rolled back");
    let attempt = attempt_report(now, 1, 0, Record::default(), Outcome::Failed, Some(failure));
    StepReport { attempts: vec![attempt], reason: None, ..unstarted(step, Outcome::Failed, "") }
}

async fn run_step(context: &Arc<Context>, at: usize) -> StepReport {
    let request = &context.request;
    let step = &request.job.steps[at];
    if let Some(condition) = &step.condition {
        match condition.holds(&context.values(1)) {
            Ok(true) => {}
            Ok(false) => {
                info!(step = %step.id, "step skipped: its condition is false");
                return unstarted(step, Outcome::Skipped, &format!("`if: {}` is false", condition.source()));
            }
            Err(failure) => return failed_before_start(context, step, failure),
        }
    }
    let progress = request.progress.step(step.id.as_str(), step.kind.word());
    let stopwatch = request.clock.stopwatch();
    let mut report = unstarted(step, Outcome::Failed, "");
    report.reason = None;
    for number in 1..=step.retry.max_attempts {
        let (attempt, effect, warnings) = run_attempt(context, step, number, progress.clone()).await;
        let failure = attempt.failure.clone();
        report.rows = attempt.rows;
        report.warnings = warnings;
        report.outcome = attempt.outcome;
        report.attempts.push(attempt);
        if let Some(effect) = effect {
            report.bytes_read = effect.bytes_read;
            report.bytes_written = effect.bytes_written;
            report.reason = effect.already_done;
            context.put_outputs(step.id.as_str(), effect.outputs.clone());
            report.outputs = effect.outputs.into_iter().collect();
            break;
        }
        let Some(failure) = failure else { break };
        let again = number < step.retry.max_attempts && is_tried_again(&step.retry, &failure) && !request.cancelled.is_cancelled();
        if !again {
            error!(step = %step.id, attempt = number, code = %failure.code, help = failure.help.as_deref(), "{failure}");
            break;
        }
        let pause = pause(&step.retry, number);
        warn!(step = %step.id, attempt = number, code = %failure.code, pause_ms = pause.as_millis(), "attempt failed, tried again after a pause: {failure}");
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = request.cancelled.cancelled() => {
                report.outcome = Outcome::Cancelled;
                break;
            }
        }
    }
    if report.outcome == Outcome::Failed && step.on_failure == OnFailure::Warn {
        report.outcome = Outcome::Warned;
    }
    report.duration_ms = stopwatch.elapsed_ms();
    progress.finish(report.outcome);
    let rows_written = if matches!(report.outcome, Outcome::Succeeded | Outcome::AlreadyDone) { report.rows.written } else { 0 };
    info!(step = %step.id, outcome = report.outcome.as_str(), rows_written, duration_ms = report.duration_ms, "step ended");
    report
}

fn failed_before_start(context: &Context, step: &Step, failure: Failure) -> StepReport {
    error!(step = %step.id, code = %failure.code, help = failure.help.as_deref(), "{failure}");
    let attempt = attempt_report(context.request.clock.now(), 1, 0, Record::default(), Outcome::Failed, Some(failure));
    let outcome = if step.on_failure == OnFailure::Warn { Outcome::Warned } else { Outcome::Failed };
    StepReport { attempts: vec![attempt], reason: None, ..unstarted(step, outcome, "") }
}

fn attempt_report(
    started_at: jiff::Timestamp,
    number: u32,
    duration_ms: u64,
    record: Record,
    outcome: Outcome,
    failure: Option<Failure>,
) -> AttemptReport {
    AttemptReport {
        number,
        started_at,
        duration_ms,
        outcome,
        rows: record.rows,
        statements: record.statements,
        files: record.files,
        checks: record.checks,
        usage: None,
        failure,
    }
}

async fn run_attempt(
    context: &Arc<Context>,
    step: &Step,
    number: u32,
    progress: crate::progress::StepProgress,
) -> (AttemptReport, Option<Effect>, Vec<String>) {
    let request = &context.request;
    let (started_at, stopwatch) = (request.clock.now(), request.clock.stopwatch());
    let mut attempt = Attempt::new(Arc::clone(context), step, number, request.cancelled.child_token(), progress);
    let token = attempt.cancelled.clone();
    let result = {
        let what = format!("step `{}`", step.id);
        let work = request.pulse.follow(&what, &token, step::run(&mut attempt));
        tokio::pin!(work);
        match step.timeout {
            None => work.await,
            Some(limit) => tokio::select! {
                result = &mut work => result,
                () = tokio::time::sleep(limit) => {
                    token.cancel();
                    let ended = work.await;
                    // What was committed at the last moment is done; what was cancelled by the run keeps its own reason.
                    ended.map_err(|failure| if request.cancelled.is_cancelled() { failure } else { step_timed_out(step, limit, &failure) })
                }
            },
        }
    };
    let mut record = attempt.into_record();
    let warnings = std::mem::take(&mut record.warnings);
    for warning in &warnings {
        warn!(step = %step.id, "{warning}");
    }
    let duration = stopwatch.elapsed_ms();
    match result {
        Ok(effect) => {
            let outcome = if effect.already_done.is_some() { Outcome::AlreadyDone } else { Outcome::Succeeded };
            (attempt_report(started_at, number, duration, record, outcome, None), Some(effect), warnings)
        }
        Err(failure) => {
            let outcome = if failure.kind == FailureKind::Cancelled { Outcome::Cancelled } else { Outcome::Failed };
            (attempt_report(started_at, number, duration, record, outcome, Some(failure)), None, warnings)
        }
    }
}

fn step_timed_out(step: &Step, limit: Duration, ended: &Failure) -> Failure {
    if ended.code == step::COMMIT_UNKNOWN {
        let message = format!(
            "step `{}` passed its timeout of {} s while it committed, and whether the commit took effect is not known",
            step.id,
            limit.as_secs()
        );
        return Failure::new(FailureKind::Timeout, "step::timeout", message)
            .help("the next attempt reads the ledger before it writes anything");
    }
    let message = format!("step `{}` passed its timeout of {} s and was rolled back", step.id, limit.as_secs());
    Failure::new(FailureKind::Timeout, "step::timeout", message).help("raise `timeout` of the step, or make its work smaller")
}

const fn is_tried_again(retry: &Retry, failure: &Failure) -> bool {
    match retry.on {
        RetryOn::Transient => failure.kind.is_transient(),
        RetryOn::Any => failure.kind.is_retryable(),
    }
}

/// Full jitter over the upper half, so that runs that failed together do not come back together.
fn pause(retry: &Retry, attempt: u32) -> Duration {
    let longest = match retry.backoff {
        Backoff::Constant => retry.interval,
        Backoff::Exponential => retry.interval.saturating_mul(2_u32.saturating_pow(attempt - 1)),
    };
    longest.min(retry.max_interval).mul_f64(0.5 + fastrand::f64() / 2.0)
}

fn report(request: &Request, steps: Vec<StepReport>, failure: Option<Failure>) -> RunReport {
    let finished_at = request.clock.now();
    let outcome = match &failure {
        Some(failure) if failure.kind == FailureKind::Cancelled => Outcome::Cancelled,
        Some(_) => Outcome::Failed,
        None if steps.iter().any(|step| step.outcome == Outcome::Warned) => Outcome::Warned,
        None if !steps.is_empty() && steps.iter().all(|step| matches!(step.outcome, Outcome::AlreadyDone | Outcome::Skipped)) => {
            Outcome::AlreadyDone
        }
        None => Outcome::Succeeded,
    };
    let warned = |step: &StepReport| step.warnings.iter().map(|warning| format!("{}: {warning}", step.id)).collect::<Vec<_>>();
    RunReport {
        version: RunReport::VERSION,
        run_id: request.run_id.clone(),
        job: request.job.name.to_string(),
        environment: request.environment.clone(),
        errand_version: env!("CARGO_PKG_VERSION").to_owned(),
        checkout: Some(request.checkout.clone()),
        interval: Some(request.interval.report()),
        scheduled_at: request.scheduled_at,
        execution: request.execution.clone(),
        inputs: request.inputs.clone(),
        chosen: request.job.chosen(&request.inputs),
        only: request.only.clone(),
        attempt: request.attempt,
        started_at: request.started_at,
        finished_at,
        duration_ms: u64::try_from(finished_at.duration_since(request.started_at).as_millis()).unwrap_or(0),
        outcome,
        failure,
        warnings: steps.iter().flat_map(warned).collect(),
        steps,
        peak_memory_bytes: memory::peak_bytes(),
    }
}

#[cfg(test)]
mod tests {
    use errand_model::document::step::OnFailure;
    use errand_model::failure::FailureKind;
    use errand_model::job::{CommandStep, Retry, Step, StepKind};
    use errand_model::report::Outcome;
    use errand_model::value::Name;
    use tokio::task::JoinSet;

    use super::panicked;

    #[tokio::test]
    async fn a_panic_in_a_step_is_a_report() {
        let kind = StepKind::Command(CommandStep { run: Vec::new(), working_dir: None, env: Vec::new(), outputs: Vec::new() });
        let step = Step {
            id: Name::parse("load").expect("a name"),
            name: None,
            needs: Vec::new(),
            condition: None,
            timeout: None,
            retry: Retry::default(),
            on_failure: OnFailure::Fail,
            kind,
            digest: String::new(),
        };
        let mut running: JoinSet<()> = JoinSet::new();
        running.spawn(async { panic!("index out of bounds") });
        let error = running.join_next().await.expect("a task").expect_err("it panics");
        let report = panicked(&step, &error, jiff::Timestamp::UNIX_EPOCH);
        let failure = report.attempts[0].failure.as_ref().expect("a failure");
        assert_eq!((report.outcome, failure.kind, failure.code.as_str()), (Outcome::Failed, FailureKind::Internal, "run::panic"));
        assert!(failure.message.contains("`load`"), "{failure}");
    }
}
