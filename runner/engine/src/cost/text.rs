//! What an environment costs, as people read it: the sum, a line for each job, what is paid beside runs, and what the figures stand on.
//!
//! Pure: the width and the colour are arguments, and nothing is printed here.

use std::fmt::Write as _;

use super::history;
use super::stack::{Part, StackCost};
use super::{DAYS, Estimate, JobCost, price};
use crate::report::figure::{self, number};
use crate::report::table::{Cell, Style, Table, Tone};

/// Most jobs that a note names.
const MOST: usize = 10;

/// All of it.
pub(crate) fn estimate(estimate: &Estimate, style: Style) -> String {
    let mut text = format!(
        "{}: {} US dollars in {DAYS} days, {} a day\n",
        style.paint(Tone::Strong, &estimate.environment),
        usd(estimate.usd()),
        usd(estimate.usd_a_day()),
    );
    if !estimate.jobs.is_empty() {
        let _ = write!(text, "\n{}", jobs(estimate).render(style, 0));
    }
    if !estimate.stack.is_empty() {
        let _ = write!(text, "\n{}", stack(estimate).render(style, 0));
    }
    text.push('\n');
    for note in notes(estimate) {
        text.push_str(&style.wrapped(0, &format!("note: {note}")));
    }
    text
}

fn jobs(estimate: &Estimate) -> Table {
    let titles = vec!["JOB", "RUNS", "TASKS", "REPORTS", "TIME", "VCPU", "GB", "SPOT", "USD"];
    let mut rows: Vec<_> = estimate.jobs.iter().map(job).collect();
    let sum = |of: fn(&JobCost) -> f64| Cell::figure(amount(estimate.jobs.iter().map(of).sum())).tone(Tone::Strong);
    let none = || Cell::text("");
    rows.push(vec![
        Cell::text("all runs").tone(Tone::Strong),
        sum(|job| job.runs),
        sum(|job| job.tasks),
        Cell::figure(number(estimate.jobs.iter().map(|job| job.reports as u64).sum())).tone(Tone::Strong),
        none(),
        none(),
        none(),
        none(),
        Cell::figure(usd(estimate.runs_usd())).tone(Tone::Strong),
    ]);
    Table::new(titles, 0, rows)
}

fn job(job: &JobCost) -> Vec<Cell> {
    vec![
        Cell::text(&job.job),
        Cell::figure(amount(job.runs)),
        Cell::figure(amount(job.tasks)),
        Cell::figure(number(job.reports as u64)),
        Cell::figure(job.median_ms.map_or_else(|| "-".to_owned(), figure::duration)),
        Cell::figure(job.vcpu.to_string()),
        Cell::figure(job.gb.to_string()),
        Cell::text(if job.spot { "yes" } else { "no" }),
        Cell::figure(usd(job.usd)),
    ]
}

fn stack(estimate: &Estimate) -> Table {
    let line = |name: &str, count: String, cost: f64| vec![Cell::text(name), Cell::text(count), Cell::figure(usd(cost))];
    let part = |cost: &StackCost| {
        let (name, count) = part(cost);
        line(name, count, cost.usd)
    };
    let mut rows = vec![line("runs", amount(estimate.jobs.iter().map(|job| job.runs).sum()), estimate.runs_usd())];
    rows.extend(estimate.stack.iter().map(part));
    let strong = |text: String| Cell::text(text).tone(Tone::Strong);
    rows.push(vec![strong("all".to_owned()), strong(String::new()), Cell::figure(usd(estimate.usd())).tone(Tone::Strong)]);
    Table::new(vec!["PAID FOR", "IN 30 DAYS", "USD"], 1, rows)
}

fn part(cost: &StackCost) -> (&'static str, String) {
    let count = cost.count;
    match cost.part {
        Part::StateMachine => ("state machine", format!("{} transitions, {} are free", number(count), amount(price::FREE_TRANSITIONS))),
        Part::Watchdog => ("watchdog", format!("{} calls", number(count))),
        Part::Secrets => ("secrets", number(count)),
        Part::Alarms => ("alarms", number(count)),
        Part::Reports => ("run reports", figure::size(count)),
    }
}

/// What the figures stand on, and what is not in them.
fn notes(estimate: &Estimate) -> Vec<String> {
    let which = |is_wanted: fn(&JobCost) -> bool| {
        let names: Vec<&str> = estimate.jobs.iter().filter(|job| is_wanted(job)).map(|job| job.job.as_str()).collect();
        (!names.is_empty()).then(|| listed(&names))
    };
    let mut notes = Vec::new();
    if let Some(jobs) = which(JobCost::is_assumed) {
        notes.push(format!("no run report in {} days, so tasks of the minute that is billed at least are assumed: {jobs}", history::DAYS));
    }
    if let Some(jobs) = which(|job| !job.scheduled) {
        notes.push(format!("no schedule, so the runs of the last {DAYS} days are counted: {jobs}"));
    }
    if let Some(jobs) = which(|job| !job.offered) {
        notes.push(format!(
            "Fargate does not offer the size in `resources`, so the next larger one is counted; `errand deploy` refuses: {jobs}"
        ));
    }
    if estimate.jobs.iter().any(|job| job.spot) {
        let share = (price::SPOT_SHARE * 100.0).round();
        notes.push(format!("SPOT is counted at {share} % of the price of VCPU and GB; AWS moves it"));
    }
    match &estimate.region {
        None => notes.push(format!(
            "environment `{}` has no stack: this is what one would cost, with the times of the machine that ran the jobs",
            estimate.environment
        )),
        Some(region) if region != price::REGION => notes.push(format!("the stack is in {region}, the prices are of {}", price::REGION)),
        Some(_) => {}
    }
    notes.push(format!(
        "TIME is the median of REPORTS; public prices of {} ({}), ARM64, with a public address for each task; images, logs, traffic and what a \
         warehouse bills are not in it",
        price::REGION,
        price::AS_OF
    ));
    notes
}

fn listed(names: &[&str]) -> String {
    let shown: Vec<&str> = names.iter().copied().take(MOST).collect();
    let more = names.len().saturating_sub(MOST);
    if more == 0 { shown.join(", ") } else { format!("{} and {more} more", shown.join(", ")) }
}

/// `330`, `21.4`, `0.9`: whole numbers, and with one decimal where they are small and not whole.
fn amount(count: f64) -> String {
    let tenths = (count * 10.0).round() as u64;
    if tenths < 1_000 && !tenths.is_multiple_of(10) { format!("{}.{}", tenths / 10, tenths % 10) } else { number(count.round() as u64) }
}

/// `1,234.567`: to a tenth of a cent.
fn usd(dollars: f64) -> String {
    let mills = (dollars * 1_000.0).round() as u64;
    format!("{}.{:03}", number(mills / 1_000), mills % 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_and_dollars_are_short() {
        assert_eq!([0.0, 0.9, 4.285_7, 29.96, 330.0, 43_200.0, 1_234.5].map(amount), ["0", "0.9", "4.3", "30", "330", "43,200", "1,235"]);
        assert_eq!([0.0, 0.000_4, 0.122_7, 1.999_6, 1_234.5].map(usd), ["0.000", "0.000", "0.123", "2.000", "1,234.500"]);
    }
}
