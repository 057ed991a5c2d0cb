//! `errand run`: checkout, definition, steps, report, and the exit code that tells how it ended.

use std::io::Write;

use errand_model::failure::{Failure, FailureKind};
use errand_model::interval::Interval;
use errand_model::report::RunReport;
use jiff::Timestamp;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::selection::{Outline, Prepared, Refusal, Selection};
use super::{Surroundings, print, style, tell, validate};
use crate::checkout;
use crate::report::store::{self, ReportStore};
use crate::report::text;
use crate::run;
use crate::settings::LogFormat;

/// Runs a job and leaves a report.
#[derive(clap::Args, Clone, Debug)]
pub struct RunArgs {
    /// Which run.
    #[command(flatten)]
    pub selection: Selection,
    /// How the end of the run is told on stdout.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

/// How data is told on stdout.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Text,
    /// For scripts.
    Json,
}

/// Runs the job. The exit code of its end.
///
/// # Errors
///
/// There is no runtime, or stdout or the report cannot be written. Everything else is a report.
pub fn run(args: &RunArgs, surroundings: &Surroundings, out: &mut dyn Write) -> Result<u8, Failure> {
    checkout::prepare()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(FailureKind::Transient, "run::no_runtime", format!("cannot start the runtime: {error}")))?;
    let ended = runtime.block_on(started(args, surroundings));
    // What still runs after a second signal is dropped, which ends the programs of `command` steps; nothing else is waited for.
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    let (report, outline) = ended?;
    finish(args, surroundings, &report, &outline, out)
}

/// Runs until the job ends, or until a second signal.
async fn started(args: &RunArgs, surroundings: &Surroundings) -> Result<(RunReport, Outline), Failure> {
    let cancelled = CancellationToken::new();
    let mut signals = Signals::listen()?;
    let mut outline = Outline::new(&args.selection, surroundings)?;
    let span = tracing::info_span!("run", run_id = outline.run_id, job = args.selection.job);
    let report = {
        let work = to_its_end(&args.selection, surroundings, &mut outline, &cancelled).instrument(span);
        tokio::pin!(work);
        tokio::select! {
            report = &mut work => Some(report),
            () = signals.twice(&cancelled) => None,
        }
    };
    let report = report.unwrap_or_else(|| {
        let failure =
            Failure::new(FailureKind::Cancelled, "run::stopped", "a second signal ended the run at once, its steps were not waited for");
        outline.failed(failure.help("open transactions roll back by themselves; run it again"), surroundings.clock.now())
    });
    Ok((report, outline))
}

async fn to_its_end(selection: &Selection, surroundings: &Surroundings, outline: &mut Outline, cancelled: &CancellationToken) -> RunReport {
    match prepare(selection, surroundings, outline, cancelled).await {
        Ok(Prepared { request, scratch }) => {
            let early = early(&request.interval, surroundings.clock.now());
            let ended = tokio::spawn(run::execute(request).in_current_span()).await;
            drop(scratch);
            let mut report = ended.unwrap_or_else(|error| outline.failed(defect(&error), surroundings.clock.now()));
            report.warnings.splice(0..0, early);
            report
        }
        Err(failure) => outline.failed(failure, surroundings.clock.now()),
    }
}

/// A warning of an interval that has not ended: this run may record it as done.
pub(super) fn early(interval: &Interval, now: Timestamp) -> Option<String> {
    let end = (interval.end > now).then(|| interval.local(interval.end))?;
    tracing::warn!(%end, "the interval has not ended yet, what arrives until then is not loaded by a later run of it");
    Some(format!("the interval ends at {end}: what arrives until then is not loaded by a later run of it"))
}

/// Brings the repository here and reads the job, on a thread that may block. Problems of definitions are told on stderr.
pub(super) async fn prepare(
    selection: &Selection,
    surroundings: &Surroundings,
    outline: &mut Outline,
    cancelled: &CancellationToken,
) -> Result<Prepared, Failure> {
    let (selection, around, cancelled, mut known) = (selection.clone(), surroundings.clone(), cancelled.clone(), outline.clone());
    let work = move || {
        let prepared = known.prepare(&selection, &around, &cancelled);
        (prepared, known)
    };
    let (prepared, known) = tokio::task::spawn_blocking(work).await.map_err(|error| defect(&error))?;
    *outline = known;
    prepared.map_err(|refusal| {
        show_problems(&refusal, surroundings);
        refusal.into_failure()
    })
}

pub(super) fn defect(error: &tokio::task::JoinError) -> Failure {
    Failure::new(FailureKind::Internal, "internal::panic", format!("a defect in errand ended the run: {error}"))
        .help("please report it with the log of this run; open transactions were rolled back")
}

/// Problems of definitions are told as `errand validate` tells them, on stderr.
pub(super) fn show_problems(refusal: &Refusal, surroundings: &Surroundings) {
    let (Refusal::Invalid(validation), LogFormat::Text) = (refusal, surroundings.settings.log_format) else { return };
    let mut drawn = Vec::new();
    if validate::render(validation, surroundings.settings.stderr, &mut drawn).is_ok() {
        surroundings.progress.print(&drawn);
    }
}

/// Keeps the report, prints it, and says how it ended.
fn finish(args: &RunArgs, surroundings: &Surroundings, report: &RunReport, outline: &Outline, out: &mut dyn Write) -> Result<u8, Failure> {
    let settings = &surroundings.settings;
    let redactor = settings.secrets.redactor();
    let kept = outline.store.as_ref().map(|store| store.write(report, redactor)).transpose();
    let kept = kept.map_err(|unkept| left_here(unkept, report, surroundings));
    let path = kept.as_ref().ok().and_then(Option::as_deref);
    let told = match args.format {
        Format::Text => redactor.redact(&text::summary(report, path, style(settings.stdout))).into_owned(),
        Format::Json => store::json(report, redactor),
    };
    print(out, &told)?;
    // The log tells of steps that failed; what failed before them is told here, unless the summary is seen anyway.
    let is_seen = matches!(args.format, Format::Text) && settings.stdout.terminal;
    if let Some(failure) = report.failure.as_ref().filter(|_| !is_seen && report.steps.iter().all(|step| step.attempts.is_empty())) {
        tell(failure, surroundings);
    }
    match (&report.failure, kept) {
        (Some(failure), Ok(_)) => Ok(failure.kind.exit_code()),
        (Some(failure), Err(unkept)) => {
            tell(&unkept, surroundings);
            Ok(failure.kind.exit_code())
        }
        (None, Err(unkept)) => Err(unkept),
        (None, Ok(_)) => Ok(0),
    }
}

/// A report that its place does not take is left on this machine, and in the log where that is kept: a container's disk is not.
pub(super) fn left_here(unkept: Failure, report: &RunReport, surroundings: &Surroundings) -> Failure {
    let redactor = surroundings.settings.secrets.redactor();
    if surroundings.settings.log_format == LogFormat::Json {
        tracing::error!(report = store::json(report, redactor), "run report cannot be kept, here it is");
    }
    match ReportStore::of_last_resort().write(report, redactor) {
        Ok(path) => {
            let help = unkept.help.as_deref().map(|help| format!("{help}; ")).unwrap_or_default();
            Failure { help: Some(format!("{help}until then the report is in `{}`", path.display())), ..unkept }
        }
        Err(_) => unkept,
    }
}

/// SIGINT and SIGTERM.
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    pub(super) fn listen() -> Result<Self, Failure> {
        let listen = |kind| {
            signal(kind)
                .map_err(|error| Failure::new(FailureKind::Transient, "run::no_signals", format!("cannot listen to signals: {error}")))
        };
        Ok(Self { interrupt: listen(SignalKind::interrupt())?, terminate: listen(SignalKind::terminate())? })
    }

    /// Cancels at the first signal, returns at the second.
    async fn twice(&mut self, cancelled: &CancellationToken) {
        let signal = self.next().await;
        tracing::warn!(signal, "cancelling the run, a second signal ends it at once");
        cancelled.cancel();
        let signal = self.next().await;
        tracing::error!(signal, "ending the run at once");
    }

    pub(super) async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }
}

#[cfg(test)]
mod tests {
    use errand_model::interval::Interval;

    #[test]
    fn an_interval_that_has_not_ended_is_warned_of() {
        let day = Interval::parse("2026-11-21", "Europe/Berlin").expect("a day");
        let at = |text: &str| text.parse().expect("a moment");
        assert_eq!(
            super::early(&day, at("2026-11-21T22:59:59Z")).as_deref(),
            Some("the interval ends at 2026-11-22T00:00:00+01:00: what arrives until then is not loaded by a later run of it")
        );
        assert_eq!(super::early(&day, day.end), None);
        assert_eq!(super::early(&Interval::instant(day.end, "UTC"), day.end), None);
    }
}
