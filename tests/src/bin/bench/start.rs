//! From the start of the process to the start of the first step.

use std::fs;
use std::path::Path;

use crate::measure::{Figures, Meter, Program, median, median_of};
use crate::table::Table;
use crate::{Place, said, write};

const ROUNDS: usize = 15;

const JOB: &str = "\
version: 1
name: start
owner: team
steps:
  - id: one
    sql: { text: select 1 }
";

pub(crate) fn measure(place: &Place, meter: &Meter) -> Result<Table, String> {
    let repository = place.scratch.join("start");
    write(&repository.join("errand.yaml"), &project(&repository))?;
    write(&repository.join("jobs/start/job.yaml"), JOB)?;
    let path = repository.to_string_lossy().into_owned();
    let programs = [
        Program::errand(place, ["--version"]),
        Program::errand(place, ["run", "start", "--repo", &path]),
        Program::python(place, "import duckdb", []),
    ];
    // The first run makes the warehouse.
    meter.run(&programs[1])?;
    let reports = repository.join("state/runs");
    let results = meter.rounds("start", ROUNDS, programs.len(), |meter, side| {
        crate::remake(&reports)?;
        let figures = meter.run(&programs[side])?;
        let first_step = if side == 1 { until_first_step(&reports, figures)? } else { f64::NAN };
        Ok((figures, first_step))
    })?;
    let all = |side: usize| median_of(&results[side].iter().map(|(figures, _)| *figures).collect::<Vec<_>>());
    let milliseconds = |seconds: f64| format!("{:.1}", seconds * 1000.0);
    let row = |name: &str, figures: Figures| {
        [name.to_owned(), milliseconds(figures.wall), milliseconds(figures.cpu), format!("{:.0}", figures.peak), String::new()]
    };
    let mut table = Table::new(["start", "wall ms", "CPU ms", "peak MiB", "target"]);
    table.row(row("errand --version", all(0)));
    let first_step = median(results[1].iter().map(|(_, first_step)| *first_step));
    let cells = ["errand run: process start to first step", &milliseconds(first_step), "", "", "< 50 ms"];
    table.row(cells.map(str::to_owned));
    table.row(row("errand run: a job of one SELECT, whole", all(1)));
    table.row(row("python -c 'import duckdb'", all(2)));
    Ok(table)
}

fn project(repository: &Path) -> String {
    crate::data::project(&repository.join("state"), repository)
}

/// Seconds from the start of the process to that of the first attempt, which the only report there names.
fn until_first_step(reports: &Path, figures: Figures) -> Result<f64, String> {
    const DAY: u64 = 24 * 60 * 60 * 1_000_000;
    let mut found = fs::read_dir(reports).map_err(said(reports.display()))?;
    let file = found.next().ok_or("the run left no report")?.map_err(said(reports.display()))?.path();
    let text = fs::read_to_string(&file).map_err(said(file.display()))?;
    let report: serde_json::Value = serde_json::from_str(&text).map_err(said(file.display()))?;
    let at = report["steps"][0]["attempts"][0]["started_at"].as_str().unwrap_or_default();
    let microsecond = time_of_day(at).ok_or_else(|| format!("`{}` says that the first attempt started at `{at}`", file.display()))?;
    let passed = (microsecond + DAY - figures.started_at_us % DAY) % DAY;
    Ok(f64::from(u32::try_from(passed).unwrap_or(u32::MAX)) / 1e6)
}

/// The microsecond of its day of an instant in UTC, such as `2026-01-05T06:00:00.25Z`.
fn time_of_day(instant: &str) -> Option<u64> {
    let time = instant.split_once('T')?.1.strip_suffix('Z')?;
    let (whole, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let mut second = 0;
    for part in whole.split(':') {
        second = second * 60 + part.parse::<u64>().ok()?;
    }
    let fraction: u64 = format!("{fraction:0<6}").get(..6)?.parse().ok()?;
    Some(second * 1_000_000 + fraction)
}
