//! `errand plan`: what a run would do, in order, with the SQL it would send; nothing is written.

use std::fmt::Write as _;
use std::io::Write;

use errand_model::failure::{Failure, FailureKind};
use errand_model::report::IntervalReport;
use tokio_util::sync::CancellationToken;

use super::run::{Format, show_problems};
use super::selection::{Outline, Selection};
use super::{Surroundings, print, style};
use crate::checkout;
use crate::report::figure;
use crate::report::table::{Cell, Style, Table, Tone};
use crate::run::{self, Plan, PlannedStep};

/// Shows what a run would do.
#[derive(clap::Args, Clone, Debug)]
pub struct PlanArgs {
    /// Which run.
    #[command(flatten)]
    pub selection: Selection,
    /// How the plan is told.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

/// Prints the plan. The exit code.
///
/// # Errors
///
/// What would keep the run from starting.
pub fn run(args: &PlanArgs, surroundings: &Surroundings, out: &mut dyn Write) -> Result<u8, Failure> {
    checkout::prepare()?;
    let mut outline = Outline::new(&args.selection, surroundings)?;
    let prepared = outline.prepare(&args.selection, surroundings, &CancellationToken::new()).map_err(|refusal| {
        show_problems(&refusal, surroundings);
        refusal.into_failure()
    })?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(FailureKind::Transient, "run::no_runtime", format!("cannot start the runtime: {error}")))?;
    let plan = runtime.block_on(run::plan(&prepared.request))?;
    let told = match args.format {
        Format::Text => text(&plan, &prepared.request.interval.report(), style(surroundings.settings.stdout)),
        Format::Json => format!("{:#}\n", serde_json::to_value(&plan).expect("a plan is plain data")),
    };
    print(out, &surroundings.settings.secrets.redactor().redact(&told))?;
    Ok(0)
}

/// The plan for people.
#[must_use]
pub fn text(plan: &Plan, interval: &IntervalReport, style: Style) -> String {
    let job = style.paint(Tone::Strong, &plan.job);
    let mut text = format!("{job} for {}\n", figure::whole_interval(interval));
    for (index, step) in plan.steps.iter().enumerate() {
        text.push_str(&step_text(index + 1, step, style));
    }
    text
}

fn step_text(number: usize, step: &PlannedStep, style: Style) -> String {
    let mut when = if step.needs.is_empty() { String::new() } else { format!(" after {}", step.needs.join(", ")) };
    if let Some(condition) = &step.condition {
        let _ = write!(when, " if {condition}");
    }
    let mut text = format!("\n{number}. {} {}{}\n", style.paint(Tone::Strong, &step.id), step.kind, style.paint(Tone::Faint, &when));
    text.push_str(&style.wrapped(3, &step.summary));
    for note in &step.notes {
        text.push_str(&style.wrapped(3, &format!("note: {note}")));
    }
    if !step.columns.is_empty() {
        let rows =
            step.columns.iter().map(|(name, kind, origin)| vec![Cell::text(name), Cell::text(kind), Cell::text(origin).tone(Tone::Faint)]);
        let _ = write!(text, "\n{}", Table::new(vec!["COLUMN", "TYPE", "FROM"], 0, rows.collect()).render(style, 5));
    }
    for sql in &step.sql {
        text.push('\n');
        // SQL is shown as it would be sent: broken lines would be another text.
        for line in sql.trim_matches('\n').lines() {
            let _ = writeln!(text, "{}", format!("     {}", style.paint(Tone::Faint, line)).trim_end());
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_shows_order_columns_and_sql() {
        let step = |id: &str, kind: &str, summary: &str| PlannedStep {
            id: id.to_owned(),
            kind: kind.to_owned(),
            needs: Vec::new(),
            condition: None,
            summary: summary.to_owned(),
            sql: Vec::new(),
            columns: Vec::new(),
            notes: Vec::new(),
        };
        let (start, end) = ("2026-11-19T06:00:00Z".parse().expect("a time"), "2026-11-20T06:00:00Z".parse().expect("a time"));
        let column = |name: &str, kind: &str, origin: &str| (name.to_owned(), kind.to_owned(), origin.to_owned());
        let load = PlannedStep {
            columns: vec![column("order_id", "bigint", "declared"), column("amount", "decimal(15,2)", "inferred")],
            notes: vec!["3 files, 12,345 bytes".to_owned()],
            ..step("load_orders", "ingest", "append `orders` from lake:orders/2026-11-19/*.csv (csv)")
        };
        let revenue = PlannedStep {
            needs: vec!["load_orders".to_owned()],
            condition: Some("inputs.full".to_owned()),
            sql: vec!["SELECT region,\n       sum(amount)\n\nFROM orders\n".to_owned()],
            ..step("revenue", "sql", "replace `revenue` from jobs/orders/revenue.sql")
        };
        let plan = Plan { job: "orders".to_owned(), interval_start: start, interval_end: end, steps: vec![load, revenue] };
        let interval = IntervalReport { start, end, timezone: "Europe/Lisbon".to_owned() };
        insta::assert_snapshot!(text(&plan, &interval, Style { width: 80, color: false }));
    }
}
