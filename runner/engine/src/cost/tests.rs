//! The formula, against figures worked by hand, and how an estimate reads.

use std::sync::Arc;

use errand_model::validate::{self, FileError, Files};

use super::*;
use crate::report::table::Style;

const NARROW: Style = Style { width: 80, color: false };

const PROJECT: &str = "\
version: 1
default_environment: prod
environments:
  prod:
    connections:
      warehouse: { postgres: { host: db.example.com, database: shop, user: errand, password: { secret: warehouse_password } } }
      state: { s3: { bucket: acme-errand } }
    reports: { connection: state, path: runs }
    aws:
      repository: https://git.example.com/acme/jobs.git
      state_machine: arn:aws:states:eu-west-1:123456789012:stateMachine:errand-prod-run
      scheduler_role: arn:aws:iam::123456789012:role/errand-prod-scheduler
      dead_letter_queue: arn:aws:sqs:eu-west-1:123456789012:errand-prod-schedules
  local:
    connections:
      warehouse: { duckdb: { path: w.duckdb } }
contacts:
  team: { email: { to: [team@example.com] } }
";

struct NoFiles;

impl Files for NoFiles {
    fn text(&self, _: &str) -> Result<Arc<str>, FileError> {
        Err(FileError::Missing)
    }

    fn list(&self, _: &str) -> Vec<String> {
        Vec::new()
    }
}

fn project() -> Project {
    let mut problems = Vec::new();
    validate::project(PROJECT, "errand.yaml", &mut problems).unwrap_or_else(|| panic!("{problems:?}"))
}

fn job(name: &str, keys: &str) -> Job {
    let text = format!("version: 1\nname: {name}\nowner: team\n{keys}\nsteps:\n  - {{ id: a, sql: {{ text: SELECT 1 }} }}\n");
    let mut problems = Vec::new();
    let job = validate::job(name, &text, &NoFiles, Some(&project()), &mut problems);
    job.unwrap_or_else(|| panic!("{problems:?}"))
}

fn now() -> Timestamp {
    "2026-11-21T12:00:00Z".parse().expect("a time")
}

fn sample(job: &str, run: usize, attempt: u32, seconds: f64) -> Sample {
    let run_hours = i64::try_from(run).expect("a few") * 6;
    Sample {
        environment: "prod".to_owned(),
        job: job.to_owned(),
        run_id: format!("{job}-{run}"),
        attempt,
        started_at: now().checked_sub(jiff::SignedDuration::from_hours(run_hours)).expect("a time"),
        duration_ms: (seconds * 1000.0) as u64,
    }
}

fn estimate_in(environment: &str, jobs: &[Job], samples: &[Sample], named: &[&str]) -> Estimate {
    let (project, named): (_, Vec<String>) = (project(), named.iter().map(|name| (*name).to_owned()).collect());
    let facts = Facts { project: &project, environment, jobs, samples, report_bytes: 3 << 20, now: now() };
    Estimate::of(&facts, &named).expect("sizes that Fargate has")
}

/// Of the environment `prod`, all jobs and the stack.
pub(crate) fn estimate(jobs: &[Job], samples: &[Sample]) -> Estimate {
    estimate_in("prod", jobs, samples, &[])
}

fn one(keys: &str, samples: &[Sample]) -> JobCost {
    estimate(&[job("orders", keys)], samples).jobs.remove(0)
}

#[track_caller]
fn assert_close(found: f64, expected: f64) {
    assert!((found - expected).abs() < 1e-9, "{found}, not {expected}");
}

const ELEVEN_A_DAY: &str = "schedule: { cron: \"0 6-16 * * *\" }";

/// The figures of `infra/README.md`: 330 runs × 90 s / 3600 × (0.25 × 0.03238 + 0.5 × 0.00356 + 0.005) = 8.25 h × 0.014875.
#[test]
fn eleven_runs_a_day_of_a_minute_cost_twelve_cents_a_month() {
    let estimate = estimate(&[job("orders", ELEVEN_A_DAY)], &[sample("orders", 1, 1, 60.0)]);
    let cost = &estimate.jobs[0];
    assert_eq!((cost.runs, cost.tasks, cost.billed_seconds, cost.vcpu, cost.gb), (330.0, 330.0, 90.0, 0.25, 0.5));
    assert_close(cost.usd, 8.25 * 0.014_875);
    assert_eq!(format!("{:.2}", cost.usd), "0.12");
    let of = |part: stack::Part| estimate.stack.iter().find(|cost| cost.part == part).map(|cost| (cost.count, cost.usd)).expect("a part");
    // 1,980 transitions are free; the watchdog ticks 8,640 times; the password and the stack's own token are two secrets.
    assert_eq!(of(stack::Part::StateMachine), (1_980, 0.0));
    assert_close(of(stack::Part::Watchdog).1, 8_640.0 * (0.000_000_2 + 0.25 * 0.3 * 0.000_013_3 + 3.0 * 0.000_005));
    assert_eq!((of(stack::Part::Secrets), of(stack::Part::Alarms)), ((2, 0.8), (5, 0.5)));
    assert_eq!(format!("{:.2}", estimate.usd()), "1.56");
    assert_close(estimate.usd_a_day(), estimate.usd() / 30.0);
}

/// 330 × 630 s / 3600 × 0.014875.
#[test]
fn eleven_runs_a_day_of_ten_minutes_cost_eighty_six_cents() {
    let cost = one(ELEVEN_A_DAY, &[sample("orders", 1, 1, 600.0)]);
    assert_close(cost.usd, 57.75 * 0.014_875);
    assert_eq!(format!("{:.2}", cost.usd), "0.86");
}

#[test]
fn a_minute_is_billed_at_least_and_assumed_without_a_report() {
    let [fast, edge, unknown] =
        [vec![sample("orders", 1, 1, 2.0)], vec![sample("orders", 1, 1, 30.0)], Vec::new()].map(|samples| one(ELEVEN_A_DAY, &samples));
    assert_eq!([fast.billed_seconds, edge.billed_seconds, unknown.billed_seconds], [60.0; 3]);
    assert_close(unknown.usd, 5.5 * 0.014_875);
    assert_eq!([&fast, &unknown].map(|cost| (cost.reports, cost.median_ms, cost.is_assumed())), [(1, Some(2_000), false), (0, None, true)]);
}

/// Half of the price of processor and memory, and all of that of the address: 0.5 × (0.25 × 0.03238 + 0.5 × 0.00356) + 0.005.
#[test]
fn spot_halves_processor_and_memory_and_not_the_address() {
    let cost = one(&format!("{ELEVEN_A_DAY}\nresources: {{ spot: true }}"), &[sample("orders", 1, 1, 60.0)]);
    assert_close(cost.usd, 8.25 * 0.009_937_5);
}

#[test]
fn a_size_is_the_one_that_fargate_gives() {
    for (resources, vcpu, gb, offered) in [
        ("{}", 0.25, 0.5, true),
        ("{ memory: 100MB }", 0.25, 0.5, false),
        ("{ memory: 600MB }", 0.25, 1.0, false),
        ("{ memory: 1536MB }", 0.25, 2.0, false),
        ("{ memory: 2GB }", 0.25, 2.0, true),
        ("{ memory: 3GB }", 0.5, 3.0, false),
        ("{ cpu: 1, memory: 512MB }", 1.0, 2.0, false),
        ("{ cpu: 4, memory: 30GB }", 4.0, 30.0, true),
        ("{ cpu: 4, memory: 31GB }", 8.0, 32.0, false),
        ("{ cpu: 8, memory: 60GB }", 8.0, 60.0, true),
    ] {
        let cost = one(&format!("resources: {resources}"), &[]);
        assert_eq!((cost.vcpu, cost.gb, cost.offered), (vcpu, gb, offered), "{resources}");
    }
    let (project, jobs) = (project(), [job("huge", "resources: { cpu: 8, memory: 61GB }")]);
    let facts = Facts { project: &project, environment: "prod", jobs: &jobs, samples: &[], report_bytes: 0, now: now() };
    let failure = Estimate::of(&facts, &[]).expect_err("Fargate has no more than 60 GB");
    assert_eq!((failure.kind, failure.code.as_str()), (FailureKind::Definition, "deploy::size"));
}

#[test]
fn each_attempt_of_a_run_is_a_task_also_one_that_left_no_report() {
    // Four runs: one of two attempts, one of three whose second was killed before it could report.
    let samples = [
        sample("orders", 1, 1, 60.0),
        sample("orders", 2, 1, 60.0),
        sample("orders", 2, 2, 60.0),
        sample("orders", 3, 1, 60.0),
        sample("orders", 3, 3, 60.0),
        sample("orders", 4, 1, 60.0),
    ];
    let estimate = estimate(&[job("orders", ELEVEN_A_DAY)], &samples);
    let cost = &estimate.jobs[0];
    assert_eq!((cost.reports, cost.runs, cost.tasks), (6, 330.0, 577.5));
    assert_close(cost.usd, 577.5 * 90.0 / 3600.0 * 0.014_875);
    // 330 × 6 and 247.5 × 5.
    assert_eq!(estimate.stack[0].count, 3_218);
}

#[test]
fn transitions_past_the_free_ones_are_paid_for() {
    let found = estimate(&[job("orders", "schedule: { cron: \"*/15 * * * *\" }")], &[]);
    assert_eq!(found.stack[0].count, 17_280);
    assert_close(found.stack[0].usd, 13_280.0 * 0.000_025);
}

#[test]
fn a_job_without_a_schedule_costs_what_its_runs_of_thirty_days_did() {
    // The run of 31 days ago tells of time, and is no run of this month; that of 33 days ago tells nothing.
    let samples = [(1, 60.0), (2, 60.0), (31 * 4, 120.0), (33 * 4, 9_999.0)].map(|(run, seconds)| sample("orders", run, 1, seconds));
    let cost = one("", &samples);
    assert_eq!((cost.scheduled, cost.runs, cost.reports, cost.median_ms), (false, 2.0, 3, Some(60_000)));
    assert_close(cost.usd, 2.0 * 90.0 / 3600.0 * 0.014_875);
    let never = one("", &[]);
    assert_eq!((never.runs, never.usd, never.is_assumed()), (0.0, 0.0, false));
}

#[test]
fn reports_of_another_environment_do_not_count() {
    let elsewhere = Sample { environment: "local".to_owned(), ..sample("orders", 1, 1, 600.0) };
    assert_eq!(one(ELEVEN_A_DAY, &[elsewhere]).reports, 0);
}

#[test]
fn secrets_of_connections_contacts_and_commands_are_counted_once() {
    let count = |environment: &str, keys: &str, more: &str| {
        let text = format!("version: 1\nname: a\nowner: team\n{keys}\nsteps:\n  - {{ id: a, sql: {{ text: SELECT 1 }} }}\n{more}");
        let mut problems = Vec::new();
        let job = validate::job("a", &text, &NoFiles, Some(&project()), &mut problems).unwrap_or_else(|| panic!("{problems:?}"));
        estimate_in(environment, &[job], &[], &[]).stack[2].count
    };
    assert_eq!((count("local", "", ""), count("prod", "", "")), (1, 2));
    let command =
        "  - { id: b, command: { run: [a], env: { TOKEN: { secret: shop_token }, PASSWORD: { secret: warehouse_password } } } }\n";
    assert_eq!(count("prod", "", command), 3);
}

/// Jobs of every kind, and what reports tell of some of them.
pub(crate) fn several() -> (Vec<Job>, Vec<Sample>) {
    let jobs = vec![
        job(
            "partner_orders_of_the_day",
            "schedule: { cron: \"*/15 * * * *\", timezone: Europe/Lisbon }\nresources: { cpu: 1, memory: 2GB }",
        ),
        job("orders", ELEVEN_A_DAY),
        job("stock", "schedule: { cron: \"0 6 * * MON\" }\nresources: { spot: true, memory: 600MB }"),
        job("history", "resources: { cpu: 4, memory: 30GB }"),
        job("by_hand", ""),
    ];
    let mut samples: Vec<Sample> = (1..=9).map(|run| sample("partner_orders_of_the_day", run, 1, 61.5 + run as f64)).collect();
    samples.push(sample("partner_orders_of_the_day", 9, 2, 4.2));
    samples.extend([sample("orders", 1, 1, 60.0), sample("history", 2, 1, 7_500.0)]);
    (jobs, samples)
}

fn fits(text: &str) -> &str {
    for line in text.lines() {
        assert!(line.chars().count() <= 80, "{} characters: {line}", line.chars().count());
    }
    text
}

#[test]
fn an_environment_fits_80_columns() {
    let (jobs, samples) = several();
    insta::assert_snapshot!(fits(&text::estimate(&estimate(&jobs, &samples), NARROW)));
}

#[test]
fn some_jobs_are_told_without_the_stack() {
    let (jobs, samples) = several();
    insta::assert_snapshot!(fits(&text::estimate(&estimate_in("local", &jobs, &samples, &["stock", "orders"]), NARROW)));
}

#[test]
fn large_figures_still_fit_80_columns() {
    let keys = "schedule: { cron: \"* * * * *\" }\nresources: { cpu: 8, memory: 60GB, spot: true }";
    let jobs = [job("partner_orders_of_the_day_of_all_partners_a", keys)];
    let samples: Vec<Sample> = (1..=120).map(|run| sample("partner_orders_of_the_day_of_all_partners_a", run, 1, 3_000.0)).collect();
    let text = text::estimate(&estimate(&jobs, &samples), NARROW);
    assert!(fits(&text).contains("43,200"), "{text}");
}
