//! Run reports as people read them: the list of runs, one run whole, and the end of a run.
//!
//! Pure: the width and the colour are arguments, and nothing is printed here.

use std::fmt::Write as _;
use std::path::Path;

use errand_model::failure::Failure;
use errand_model::report::{AttemptReport, CheckReport, CheckoutReport, FileReport, Outcome, RunReport, StatementReport, StepReport};

use super::figure::{self, duration, number};
use super::store::Listing;
use super::table::{Cell, Style, Table, Tone};

/// A statement that took this long is worth a line.
const SLOW_MS: u64 = 1_000;

/// Characters of a commit id that are enough to know it by.
const SHORT_COMMIT: usize = 7;

/// Most lines of one list; the report holds the rest.
const MOST: usize = 10;

/// A line per run, newest first. `ROWS` are those that the run itself wrote.
#[must_use]
pub fn runs(listing: &Listing, style: Style) -> String {
    let mut text = String::new();
    if !listing.reports.is_empty() {
        let layouts = [RunsLayout::Whole, RunsLayout::ShortTimes, RunsLayout::ShortFigures, RunsLayout::Bare];
        let tables = layouts.map(|layout| runs_table(&listing.reports, layout)).to_vec();
        text.push_str(&Table::best(tables, style.width).map(|table| table.render(style, 0)).unwrap_or_default());
    }
    for (path, why) in &listing.unreadable {
        let _ = writeln!(text, "{} {}: {why}", style.paint(Tone::Doubtful, "unreadable:"), path.display());
    }
    text
}

/// How much of a run stands in its line, from all to least.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum RunsLayout {
    Whole,
    ShortTimes,
    ShortFigures,
    Bare,
}

fn runs_table(reports: &[RunReport], layout: RunsLayout) -> Table {
    let short = layout >= RunsLayout::ShortTimes;
    let mut titles = vec!["RUN", "JOB", "INTERVAL", "OUTCOME", "STARTED (UTC)", "ROWS", "TIME"];
    if layout >= RunsLayout::Bare {
        titles.pop();
    }
    let row = |report: &RunReport| {
        let interval =
            report.interval.as_ref().map_or_else(|| "-".to_owned(), if short { figure::short_interval } else { figure::interval });
        let started = report.started_at.strftime(if short { "%m-%d %H:%M" } else { "%Y-%m-%d %H:%M:%S" }).to_string();
        let written = report.steps.iter().filter(|step| step.outcome == Outcome::Succeeded).map(|step| step.rows.written).sum();
        let rows = if layout >= RunsLayout::ShortFigures { figure::short_number(written) } else { number(written) };
        let mut cells = vec![
            Cell::text(&report.run_id),
            Cell::text(&report.job),
            Cell::text(interval),
            outcome_cell(report.outcome),
            Cell::text(started),
            Cell::figure(rows),
            Cell::figure(duration(report.duration_ms)),
        ];
        cells.truncate(titles.len());
        cells
    };
    let rows = reports.iter().map(row).collect();
    if short {
        titles[4] = "START (UTC)";
    }
    Table::new(titles, 1, rows)
}

/// One run, whole.
#[must_use]
pub fn show(report: &RunReport, style: Style) -> String {
    let mut text = head(report, style);
    text.push('\n');
    text.push_str(&facts(report, style));
    text.push_str(&steps(report, style));
    if let Some(failure) = &report.failure {
        text.push_str(&failure_block(report, failure, style));
    }
    let parts = [
        ("other failures", other_failures(report)),
        ("earlier attempts", earlier_attempts(report)),
        ("not run", reasons(report)),
        ("warnings", report.warnings.clone()),
        ("failed checks", failed_checks(report)),
        ("files with rejected rows", files_with_rejects(report)),
        ("slow statements", slow_statements(report)),
    ];
    for (title, lines) in parts {
        text.push_str(&section(title, &lines, style));
    }
    text
}

/// The end of a run, as `errand run` prints it.
#[must_use]
pub fn summary(report: &RunReport, kept_in: Option<&Path>, style: Style) -> String {
    let mut text = head(report, style);
    text.push_str(&short_facts(report, style));
    text.push_str(&steps(report, style));
    if let Some(failure) = &report.failure {
        text.push_str(&failure_block(report, failure, style));
    }
    let parts =
        [("other failures", other_failures(report)), ("warnings", report.warnings.clone()), ("failed checks", failed_checks(report))];
    for (title, lines) in parts {
        text.push_str(&section(title, &lines, style));
    }
    if let Some(path) = kept_in {
        let _ = writeln!(text, "\n{} {}", style.paint(Tone::Faint, "report"), path.display());
    }
    text
}

/// A failure by itself: `error: place: message`, then what to do.
#[must_use]
pub fn failure(failure: &Failure, style: Style) -> String {
    let mut text = format!("{} {}\n", style.paint(Tone::Bad, "error:"), visible(&failure.to_string()));
    if let Some(help) = &failure.help {
        let _ = writeln!(text, "{} {help}", style.paint(Tone::Faint, "help:"));
    }
    text
}

fn head(report: &RunReport, style: Style) -> String {
    let outcome = style.paint(tone(report.outcome), figure::outcome(report.outcome));
    format!("{} {outcome} in {}\n", style.paint(Tone::Strong, &report.job), duration(report.duration_ms))
}

fn facts(report: &RunReport, style: Style) -> String {
    let mut facts: Vec<(&str, String)> = vec![("run", report.run_id.clone())];
    if report.attempt > 1 {
        facts.push(("attempt", report.attempt.to_string()));
    }
    if let Some(checkout) = &report.checkout {
        let reference = checkout.reference.as_ref().filter(|name| checkout.commit.as_ref() != Some(name)).map(|name| format!(" ({name})"));
        facts.push(("commit", format!("{}{}{}", commit(checkout), reference.unwrap_or_default(), changes(checkout))));
        facts.push(("repository", checkout.repository.clone()));
    }
    facts.push(("environment", report.environment.clone()));
    facts.extend(report.interval.as_ref().map(|interval| ("interval", figure::whole_interval(interval))));
    if !report.inputs.is_empty() {
        facts.push(("inputs", report.inputs.iter().map(|(name, value)| format!("{name}={}", plain(value))).collect::<Vec<_>>().join(" ")));
    }
    facts.extend(report.scheduled_at.map(|at| ("scheduled", format!("{} UTC", figure::time(at)))));
    facts.push(("started", format!("{} UTC", figure::time(report.started_at))));
    facts.push(("finished", format!("{} UTC", figure::time(report.finished_at))));
    facts.push(("memory", format!("{} at its peak", figure::size(report.peak_memory_bytes))));
    facts.push(("errand", report.errand_version.clone()));
    facts.iter().map(|(name, value)| format!("{} {}\n", style.paint(Tone::Faint, &format!("{name:<11}")), visible(value))).collect()
}

/// The same in one line: which run of what.
fn short_facts(report: &RunReport, style: Style) -> String {
    let mut facts = vec![format!("run {}", report.run_id)];
    if report.attempt > 1 {
        facts.push(format!("attempt {}", report.attempt));
    }
    facts.extend(report.interval.as_ref().map(figure::interval).filter(|word| word != "-").map(|word| format!("interval {word}")));
    if let Some(checkout) = report.checkout.as_ref().filter(|checkout| checkout.commit.is_some()) {
        facts.push(format!("commit {}{}", commit(checkout).chars().take(SHORT_COMMIT).collect::<String>(), changes(checkout)));
    }
    style.wrapped(0, &facts.join(", ")).lines().map(|line| format!("{}\n", style.paint(Tone::Faint, line))).collect()
}

/// Only a git repository has changes that no commit holds.
fn commit(checkout: &CheckoutReport) -> &str {
    let none = if checkout.uncommitted_changes { "none known" } else { "none, not a git repository" };
    checkout.commit.as_deref().unwrap_or(none)
}

const fn changes(checkout: &CheckoutReport) -> &'static str {
    if checkout.uncommitted_changes { ", uncommitted changes" } else { "" }
}

/// How much of a step stands in its line, from all to least.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum StepsLayout {
    Whole,
    ShortFigures,
    Bare,
}

fn steps(report: &RunReport, style: Style) -> String {
    if report.steps.is_empty() {
        return String::new();
    }
    let tables =
        [StepsLayout::Whole, StepsLayout::ShortFigures, StepsLayout::Bare].map(|layout| steps_table(&report.steps, layout)).to_vec();
    let table = Table::best(tables, style.width).map(|table| table.render(style, 0)).unwrap_or_default();
    format!("\n{table}")
}

/// A title, whether it is shown, and the cell of a step.
type StepColumn<'a> = (&'static str, bool, Box<dyn Fn(&StepReport) -> Cell + 'a>);

/// Columns in which every step would have the same nothing are left out.
fn steps_table(steps: &[StepReport], layout: StepsLayout) -> Table {
    let tried_again = steps.iter().any(|step| step.attempts.len() > 1);
    let deduplicated = steps.iter().any(|step| step.rows.deduplicated > 0);
    let rejected = steps.iter().any(|step| step.rows.rejected > 0);
    let count = |count: u64| match count {
        0 => Cell::figure("-").tone(Tone::Faint),
        _ if layout >= StepsLayout::ShortFigures => Cell::figure(figure::short_number(count)),
        _ => Cell::figure(number(count)),
    };
    let some =
        |step: &StepReport, text: String| if step.attempts.is_empty() { Cell::figure("-").tone(Tone::Faint) } else { Cell::figure(text) };
    let columns: Vec<StepColumn> = vec![
        ("STEP", true, Box::new(|step| Cell::text(&step.id))),
        ("KIND", layout < StepsLayout::Bare, Box::new(|step| Cell::text(&step.kind))),
        ("OUTCOME", true, Box::new(|step| outcome_cell(step.outcome))),
        ("TRIES", tried_again, Box::new(|step| some(step, step.attempts.len().to_string()))),
        ("READ", true, Box::new(move |step| count(step.rows.read))),
        ("WRITTEN", true, Box::new(move |step| count(if is_undone(step.outcome) { 0 } else { step.rows.written }))),
        ("DEDUP", deduplicated, Box::new(move |step| count(step.rows.deduplicated))),
        ("REJECTED", rejected, Box::new(move |step| count(step.rows.rejected))),
        ("TIME", true, Box::new(|step| some(step, duration(step.duration_ms)))),
    ];
    let shown: Vec<_> = columns.into_iter().filter(|(_, shown, _)| *shown).collect();
    let rows = steps.iter().map(|step| shown.iter().map(|(_, _, cell)| cell(step)).collect()).collect();
    Table::new(shown.iter().map(|(title, _, _)| *title).collect(), 0, rows)
}

/// What such a step wrote was rolled back.
const fn is_undone(outcome: Outcome) -> bool {
    matches!(outcome, Outcome::Failed | Outcome::Cancelled | Outcome::Warned)
}

/// Failures beside the one that the run is reported with: of steps that only warn, and of steps that failed later.
fn other_failures(report: &RunReport) -> Vec<String> {
    last_attempts(report)
        .filter_map(|(step, attempt)| Some((step, attempt.failure.as_ref()?)))
        .filter(|(_, failure)| report.failure.as_ref() != Some(failure))
        .map(|(step, failure)| format!("{}: {failure} ({})", step.id, failure.code))
        .collect()
}

fn failure_block(report: &RunReport, failure: &Failure, style: Style) -> String {
    let step = report.steps.iter().find(|step| step.attempts.last().is_some_and(|attempt| attempt.failure.as_ref() == Some(failure)));
    let of = step.map(|step| format!(" in step `{}`", step.id)).unwrap_or_default();
    let title = format!("{}{of}", failure.kind.error_name());
    let mut text = format!("\n{}\n", style.paint(Tone::Bad, &title));
    if let Some(place) = &failure.place {
        let _ = writeln!(text, "  at {place}");
    }
    text.push_str(&style.wrapped(2, &visible(&failure.message)));
    if let Some(help) = &failure.help {
        text.push_str(&style.wrapped(2, &format!("help: {help}")));
    }
    let code = format!("code: {}, exit code {}", failure.code, failure.kind.exit_code());
    let _ = writeln!(text, "  {}", style.paint(Tone::Faint, &code));
    if report.checkout.is_some() {
        let _ = writeln!(text, "  {} {}", style.paint(Tone::Faint, "again:"), rerun(report));
    }
    text
}

/// The command that does this run again where it ran: here, or in a task of its stack.
#[must_use]
pub fn rerun(report: &RunReport) -> String {
    let command = if report.execution.is_some() { "start" } else { "run" };
    let mut words = vec!["errand".to_owned(), command.to_owned(), report.job.clone()];
    let mut option = |name: &str, value: &str| words.extend([name.to_owned(), quoted(value)]);
    if let (Some(checkout), None) = (&report.checkout, &report.execution) {
        if checkout.repository != "." {
            option("--repo", &checkout.repository);
        }
        if checkout.reference.is_some() {
            checkout.commit.iter().for_each(|commit| option("--ref", commit));
        }
    }
    if !report.environment.is_empty() {
        option("--env", &report.environment);
    }
    if let Some(interval) = &report.interval {
        option("--interval", &format!("{}/{}", interval.start, interval.end));
    }
    for step in &report.only {
        option("--step", step);
    }
    for (name, value) in &report.inputs {
        option("--input", &format!("{name}={}", plain(value)));
    }
    words.join(" ")
}

fn section(title: &str, lines: &[String], style: Style) -> String {
    if lines.is_empty() {
        return String::new();
    }
    let mut text = format!("\n{}\n", style.paint(Tone::Strong, title));
    for line in lines.iter().take(MOST) {
        text.push_str(&style.wrapped(2, &visible(line)));
    }
    if lines.len() > MOST {
        let _ = writeln!(text, "  and {} more", number((lines.len() - MOST) as u64));
    }
    text
}

fn last_attempts(report: &RunReport) -> impl Iterator<Item = (&StepReport, &AttemptReport)> {
    report.steps.iter().filter_map(|step| Some((step, step.attempts.last()?)))
}

fn earlier_attempts(report: &RunReport) -> Vec<String> {
    let earlier = |step: &StepReport| {
        let before_last = step.attempts.len().saturating_sub(1);
        let told = |attempt: &AttemptReport| {
            let failure = attempt
                .failure
                .as_ref()
                .map_or_else(|| figure::outcome(attempt.outcome).to_owned(), |failure| format!("{}: {failure}", failure.kind));
            format!("{} attempt {} after {}: {failure}", step.id, attempt.number, duration(attempt.duration_ms))
        };
        step.attempts.iter().take(before_last).map(told).collect::<Vec<_>>()
    };
    report.steps.iter().flat_map(earlier).collect()
}

fn reasons(report: &RunReport) -> Vec<String> {
    report.steps.iter().filter_map(|step| Some(format!("{}: {}", step.id, step.reason.as_ref()?))).collect()
}

fn failed_checks(report: &RunReport) -> Vec<String> {
    let told = |step: &StepReport, check: &CheckReport| {
        let found = match (&check.message, check.failures) {
            (Some(message), _) => format!(": {message}"),
            (None, Some(rows)) => format!(": {} rows", number(rows)),
            (None, None) => String::new(),
        };
        let stored = check.stored_in.as_ref().map(|table| format!(", kept in `{table}`")).unwrap_or_default();
        format!("{} {} ({}){found}{stored}", step.id, check.name, check.severity)
    };
    last_attempts(report)
        .flat_map(|(step, attempt)| attempt.checks.iter().filter(|check| !check.passed).map(move |check| told(step, check)))
        .collect()
}

fn files_with_rejects(report: &RunReport) -> Vec<String> {
    let told = |step: &StepReport, file: &FileReport| {
        format!("{} {}: {} of {} rows rejected", step.id, file.path, number(file.rows.rejected), number(file.rows.read))
    };
    last_attempts(report)
        .flat_map(|(step, attempt)| attempt.files.iter().filter(|file| file.rows.rejected > 0).map(move |file| told(step, file)))
        .collect()
}

fn slow_statements(report: &RunReport) -> Vec<String> {
    let mut slow: Vec<&StatementReport> = report
        .steps
        .iter()
        .flat_map(|step| &step.attempts)
        .flat_map(|attempt| &attempt.statements)
        .filter(|statement| statement.duration_ms >= SLOW_MS)
        .collect();
    slow.sort_by_key(|statement| std::cmp::Reverse(statement.duration_ms));
    let told = |statement: &&StatementReport| {
        let place = statement.place.as_ref().map(|place| format!(" at {place}")).unwrap_or_default();
        format!("{} {}{place}: {}", duration(statement.duration_ms), statement.id, visible(&statement.text))
    };
    slow.iter().take(MOST).map(told).collect()
}

fn outcome_cell(outcome: Outcome) -> Cell {
    Cell::text(figure::outcome(outcome)).tone(tone(outcome))
}

const fn tone(outcome: Outcome) -> Tone {
    match outcome {
        Outcome::Succeeded | Outcome::AlreadyDone => Tone::Good,
        Outcome::Warned | Outcome::Cancelled => Tone::Doubtful,
        Outcome::Skipped => Tone::Faint,
        Outcome::Failed => Tone::Bad,
    }
}

/// Text of others on a terminal: no control characters but line ends.
fn visible(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_control() && c != '\n' { c.escape_default().collect::<Vec<_>>() } else { vec![c] }).collect()
}

fn plain(value: &serde_json::Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// As a shell takes it for one word.
fn quoted(text: &str) -> String {
    let simple = |c: char| c.is_ascii_alphanumeric() || "-_./:=@+,%".contains(c);
    if !text.is_empty() && text.chars().all(simple) { text.to_owned() } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

#[cfg(test)]
#[path = "text_tests.rs"]
pub(crate) mod tests;
