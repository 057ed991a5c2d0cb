//! `errand cost`: what an environment costs a month, from its definitions and run reports. Starts nothing and asks no service but the place
//! of reports.

use std::fmt::Write as _;
use std::io::Write;
use std::path::{Path, PathBuf};

use errand_model::failure::{Failure, FailureKind};
use errand_model::job::{Job, Project};
use errand_model::problem::nearest;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::definitions::Definitions;
use super::run::Format;
use super::{Surroundings, print, style};
use crate::cost::history::{self, Sample};
use crate::cost::{DAYS, Estimate, Facts, price, text};
use crate::report::store::{ReportStore, Survey};
use crate::report::table::{Style, Tone};
use crate::repository::Repository;

/// Tells what an environment costs a month.
#[derive(clap::Args, Clone, Debug)]
pub struct CostArgs {
    /// Only the runs of these jobs; without any, those of all jobs, and what the stack costs beside them.
    #[arg(value_name = "JOB")]
    pub jobs: Vec<String>,
    /// Directory with `errand.yaml`.
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub repo: PathBuf,
    /// Environment of `errand.yaml`; its default without it.
    #[arg(long = "env", value_name = "NAME")]
    pub environment: Option<String>,
    /// How it is told.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

/// Prints the cost. The exit code.
///
/// # Errors
///
/// A definition has errors, there is no such job or environment, Fargate has nothing so large as a job asks for, or the place of reports
/// cannot be read.
pub fn run(args: &CostArgs, surroundings: &Surroundings, out: &mut dyn Write) -> Result<u8, Failure> {
    let definitions = Definitions::accept(Repository::open(&args.repo)?.validate(), surroundings)?;
    let (project, jobs) = (&definitions.project, &definitions.jobs);
    let environment = definitions.environment(args.environment.as_ref(), surroundings);
    check_names(&args.jobs, jobs, &args.repo)?;
    let now = surroundings.clock.now();
    let survey = reports(project, environment, &args.repo, now)?;
    let facts = Facts { project, environment, jobs, samples: &survey.found, report_bytes: survey.bytes, now };
    let estimate = Estimate::of(&facts, &args.jobs)?;
    let style = style(surroundings.settings.stdout);
    let told = match args.format {
        Format::Text => text::estimate(&estimate, style) + &unread(&survey, style),
        Format::Json => {
            for (path, why) in &survey.unreadable {
                tracing::warn!(file = %path.display(), why, "run report cannot be read");
            }
            format!("{:#}\n", machine(&estimate))
        }
    };
    print(out, &surroundings.settings.secrets.redactor().redact(&told))?;
    Ok(0)
}

/// Fails as `Definition` with `repository::no_job`.
fn check_names(named: &[String], jobs: &[Job], repo: &Path) -> Result<(), Failure> {
    let names = || jobs.iter().map(|job| job.name.as_str());
    let Some(unknown) = named.iter().find(|name| !names().any(|job| job == name.as_str())) else { return Ok(()) };
    let help = match nearest(unknown, names()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => "`errand cost` without names tells of all jobs".to_owned(),
    };
    let message = format!("there is no job `{unknown}` in `{}`", repo.display());
    Err(Failure::new(FailureKind::Definition, "repository::no_job", message).help(help))
}

/// What the reports of an environment tell; nothing where it keeps none.
fn reports(project: &Project, environment: &str, repo: &Path, now: Timestamp) -> Result<Survey<Sample>, Failure> {
    match ReportStore::of(project, environment, repo) {
        Ok(store) => store.survey(history::days_before(now, history::DAYS), Sample::of),
        Err(failure) if failure.code == ReportStore::NONE => Ok(Survey { found: Vec::new(), unreadable: Vec::new(), bytes: 0 }),
        Err(failure) => Err(failure),
    }
}

/// Reports that do not count because they cannot be read, as `errand runs` tells of them.
fn unread(survey: &Survey<Sample>, style: Style) -> String {
    let mut text = String::new();
    for (path, why) in &survey.unreadable {
        let _ = writeln!(text, "{} {}: {why}", style.paint(Tone::Doubtful, "unreadable:"), path.display());
    }
    text
}

/// For scripts.
fn machine(estimate: &Estimate) -> Value {
    let mut value = json!({
        "version": 1,
        "environment": estimate.environment,
        "days": DAYS,
        "usd": estimate.usd(),
        "usd_a_day": estimate.usd_a_day(),
        "runs_usd": estimate.runs_usd(),
        "jobs": estimate.jobs,
        "stack": estimate.stack,
        "prices": {
            "region": price::REGION, "as_of": price::AS_OF, "architecture": "ARM64", "vcpu_hour": price::VCPU_HOUR, "gb_hour": price::GB_HOUR,
            "spot_share": price::SPOT_SHARE, "address_hour": price::ADDRESS_HOUR,
        },
    });
    round(&mut value);
    value
}

/// Figures to a millionth: more digits are those of the arithmetic.
fn round(value: &mut Value) {
    match value {
        Value::Number(number) if number.is_f64() => {
            let rounded = number.as_f64().map(|figure| (figure * 1e6).round() / 1e6);
            *value = json!(rounded);
        }
        Value::Array(items) => items.iter_mut().for_each(round),
        Value::Object(fields) => fields.values_mut().for_each(round),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cost::tests::{estimate, several};

    #[test]
    fn scripts_read_all_of_it() {
        let (jobs, samples) = several();
        insta::assert_snapshot!(format!("{:#}", machine(&estimate(&jobs, &samples))));
    }

    #[test]
    fn figures_have_six_decimals_at_most() {
        let mut value = json!({ "usd": 0.122_718_750_000_1, "of": [1, 2.5, "0.1234567", { "deep": 1.0 / 3.0 }] });
        round(&mut value);
        assert_eq!(value, json!({ "usd": 0.122_719, "of": [1, 2.5, "0.1234567", { "deep": 0.333_333 }] }));
    }
}
