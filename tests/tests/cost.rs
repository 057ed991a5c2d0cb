//! `errand cost` says what an environment costs a month: from definitions, and from the reports of real runs.
#![allow(clippy::panic, reason = "a harness that cannot do its work fails the test that asked for it")]

use std::fs;
use std::path::Path;

use e2e::errand::{Errand, Outcome};
use e2e::s3::Bucket;
use e2e::services;
use serde_json::{Value, json};

/// An hour of the smallest task with its address: 0.25 × 0.03238 + 0.5 × 0.00356 + 0.005 dollars.
const HOUR: f64 = 0.014_875;

/// A job repository with the environments `local` and `staging`, whose reports lie in one folder.
struct Stage {
    errand: Errand,
}

impl Stage {
    fn new() -> Self {
        let directory = json!({ "directory": { "path": "kept" } });
        Self::with(Errand::new(), &directory)
    }

    fn with(errand: Errand, state: &Value) -> Self {
        let environment = |warehouse: &str| {
            json!({
                "connections": { "warehouse": { "duckdb": { "path": warehouse } }, "state": state },
                "reports": { "connection": "state", "path": "runs" },
            })
        };
        let project = json!({
            "version": 1, "default_environment": "local",
            "environments": { "local": environment("state/local.duckdb"), "staging": environment("state/staging.duckdb") },
            "contacts": { "team": { "slack": { "webhook": { "secret": "slack_webhook" } } } },
        });
        let stage = Self { errand: errand.env("ERRAND_LOG_FORMAT", "text").env("COLUMNS", "80") };
        fs::create_dir(stage.errand.directory().join("kept")).expect("the working directory can be written");
        fs::write(stage.errand.directory().join("errand.yaml"), project.to_string()).expect("the working directory can be written");
        stage
    }

    fn job(&self, name: &str, keys: &str) -> &Self {
        let folder = self.errand.directory().join("jobs").join(name);
        let step = "{ id: table, sql: { text: SELECT 1 AS n, materialize: { table: t } } }";
        fs::create_dir_all(&folder).expect("the working directory can be written");
        let text = format!("version: 1\nname: {name}\nowner: team\n{keys}\nsteps: [{step}]\n");
        fs::write(folder.join("job.yaml"), text).expect("the working directory can be written");
        self
    }

    /// Runs a job for a day of November 2026.
    fn run(&self, job: &str, id: &str, day: u32, more: &[&str]) -> &Self {
        let day = format!("2026-11-{day:02}");
        let _ = self.errand.run(["run", job, "--run-id", id, "--interval", &day].iter().chain(more)).expect_code(0);
        self
    }

    /// Gives the report of a run another time.
    fn lasted(&self, id: &str, seconds: u64) {
        let file = self.errand.directory().join(format!("kept/runs/{id}.json"));
        let mut report: Value = serde_json::from_slice(&fs::read(&file).expect("a report")).expect("JSON");
        report["duration_ms"] = json!(seconds * 1000);
        fs::write(file, report.to_string()).expect("the working directory can be written");
    }

    fn cost(&self, arguments: &[&str]) -> Outcome {
        self.errand.run(["cost"].iter().chain(arguments))
    }

    #[track_caller]
    fn json(&self, arguments: &[&str]) -> Value {
        self.cost(&[arguments, &["--format", "json"]].concat()).expect_code(0).json()
    }
}

const DAILY: &str = "schedule: { cron: \"0 6 * * *\", timezone: Europe/Lisbon }";
const HOURLY: &str = "schedule: { cron: \"0 * * * *\" }";
const ELEVEN_A_DAY: &str = "schedule: { cron: \"0 6-16 * * *\" }";

fn job<'a>(cost: &'a Value, name: &str) -> &'a Value {
    cost["jobs"].as_array().into_iter().flatten().find(|job| job["job"] == name).unwrap_or_else(|| panic!("no `{name}` in {cost:#}"))
}

#[track_caller]
fn assert_dollars(found: &Value, expected: f64) {
    let dollars = found.as_f64().expect("a figure");
    assert!((dollars - expected).abs() < 2e-6, "{dollars}, not {expected}");
}

#[test]
fn jobs_cost_what_schedules_and_reports_say() {
    let stage = Stage::new();
    stage.job("orders", DAILY).job("clicks", HOURLY).job("by_hand", "").job("never", "");
    stage.run("orders", "a", 17, &[]).run("orders", "b", 18, &[]).run("orders", "c", 19, &[]);
    stage.run("by_hand", "d", 17, &[]).run("by_hand", "e", 18, &[]);
    let cost = stage.json(&[]);
    let names: Vec<&str> = cost["jobs"].as_array().into_iter().flatten().filter_map(|job| job["job"].as_str()).collect();
    assert_eq!(names, ["clicks", "orders", "by_hand", "never"], "the dearest comes first");
    let figures = |name: &str| ["runs", "tasks", "reports", "billed_seconds", "vcpu", "gb"].map(|key| job(&cost, name)[key].as_f64());
    let expected = |runs: f64, reports: f64| [runs, runs, reports, 60.0, 0.25, 0.5].map(Some);
    assert_eq!(figures("orders"), expected(30.0, 3.0));
    assert_eq!(figures("clicks"), expected(720.0, 0.0));
    assert_eq!(figures("by_hand"), expected(2.0, 2.0));
    assert_eq!(figures("never"), expected(0.0, 0.0));
    // A run of this machine takes less than the minute that is billed at least; without a report, that minute is what is assumed.
    assert!(job(&cost, "orders")["median_ms"].as_u64().is_some_and(|time| (1..30_000).contains(&time)), "{cost:#}");
    assert!(job(&cost, "clicks")["median_ms"].is_null(), "{cost:#}");
    for (name, runs) in [("orders", 30.0), ("clicks", 720.0), ("by_hand", 2.0), ("never", 0.0)] {
        assert_dollars(&job(&cost, name)["usd"], runs / 60.0 * HOUR);
    }
    assert_dollars(&cost["runs_usd"], 752.0 / 60.0 * HOUR);
    let parts: Vec<&str> = cost["stack"].as_array().into_iter().flatten().filter_map(|part| part["part"].as_str()).collect();
    assert_eq!(parts, ["state_machine", "watchdog", "secrets", "alarms", "reports"]);
    // 752 runs of six transitions, of which 4,000 are free; the webhook and the token of the stack.
    assert_eq!((&cost["stack"][0]["count"], &cost["stack"][2]["count"]), (&json!(4512), &json!(2)));
    let parts: f64 = cost["stack"].as_array().into_iter().flatten().filter_map(|part| part["usd"].as_f64()).sum();
    assert_dollars(&cost["usd"], 752.0 / 60.0 * HOUR + parts);
    assert_dollars(&cost["usd_a_day"], cost["usd"].as_f64().expect("a figure") / 30.0);
}

#[test]
fn the_table_fits_80_columns_and_says_what_it_stands_on() {
    let stage = Stage::new();
    stage.job("orders", DAILY).job("clicks_of_all_partners_by_the_hour", HOURLY).job("sized", "resources: { memory: 600MB, spot: true }");
    stage.run("orders", "a", 17, &[]);
    let told = stage.cost(&[]).expect_code(0).stdout;
    assert!(told.lines().all(|line| line.chars().count() <= 80), "{told}");
    let lines: Vec<Vec<&str>> = told.lines().map(|line| line.split_whitespace().collect()).collect();
    assert!(lines.contains(&vec!["JOB", "RUNS", "TASKS", "REPORTS", "TIME", "VCPU", "GB", "SPOT", "USD"]), "{told}");
    assert!(
        lines.iter().any(|line| line.starts_with(&["orders", "30", "30", "1"]) && line.ends_with(&["0.25", "0.5", "no", "0.007"])),
        "{told}"
    );
    assert!(lines.iter().any(|line| line.starts_with(&["sized", "0", "0", "0"]) && line.ends_with(&["1", "yes", "0.000"])), "{told}");
    let text = told.split_whitespace().collect::<Vec<_>>().join(" ");
    for sentence in [
        "tasks of the minute that is billed at least are assumed: clicks_of_all_partners_by_the_hour",
        "the runs of the last 30 days are counted: sized",
        "`errand deploy` refuses: sized",
        "environment `local` has no stack",
        "us-east-1",
    ] {
        assert!(text.contains(sentence), "no `{sentence}` in\n{told}");
    }
}

/// The figure of `infra/README.md`: eleven runs a day, of ten minutes by their reports, cost 0.86 a month.
#[test]
fn the_median_of_reports_is_what_runs_are_taken_to_last() {
    let stage = Stage::new();
    stage.job("orders", ELEVEN_A_DAY);
    for (id, day, seconds) in [("a", 17, 540), ("b", 18, 600), ("c", 19, 5_000)] {
        stage.run("orders", id, day, &[]).lasted(id, seconds);
    }
    let cost = stage.json(&[]);
    assert_eq!((&job(&cost, "orders")["median_ms"], &job(&cost, "orders")["billed_seconds"]), (&json!(600_000), &json!(630.0)));
    assert_dollars(&job(&cost, "orders")["usd"], 57.75 * HOUR);
    assert!(stage.cost(&[]).expect_code(0).stdout.contains("0.859"));
}

#[test]
fn attempts_of_a_run_are_paid_for_one_by_one() {
    let stage = Stage::new();
    stage.job("orders", DAILY);
    stage.run("orders", "a", 17, &[]).run("orders", "a", 17, &["--attempt", "2"]).run("orders", "b", 18, &[]);
    let cost = stage.json(&[]);
    let orders = job(&cost, "orders");
    assert_eq!((&orders["runs"], &orders["tasks"], &orders["reports"]), (&json!(30.0), &json!(45.0), &json!(3)));
    assert_dollars(&orders["usd"], 45.0 / 60.0 * HOUR);
}

#[test]
fn runs_of_another_environment_do_not_count() {
    let stage = Stage::new();
    stage.job("orders", DAILY);
    stage.run("orders", "a", 17, &[]).run("orders", "b", 17, &["--env", "staging"]).run("orders", "c", 18, &["--env", "staging"]);
    let reports = |arguments: &[&str]| job(&stage.json(arguments), "orders")["reports"].clone();
    assert_eq!((reports(&[]), reports(&["--env", "staging"])), (json!(1), json!(2)));
}

#[test]
fn named_jobs_are_told_alone_and_without_the_stack() {
    let stage = Stage::new();
    stage.job("orders", DAILY).job("clicks", HOURLY).job("stock", DAILY);
    let cost = stage.json(&["orders", "stock"]);
    assert_eq!((cost["jobs"].as_array().map(Vec::len), &cost["stack"]), (Some(2), &json!([])));
    assert_eq!(cost["usd"], cost["runs_usd"]);
    let outcome = stage.cost(&["orders", "stok"]).expect_code(10);
    assert!(outcome.stdout.is_empty() && outcome.stderr.contains("there is no job `stok`"), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("did you mean `stock`?"), "{}", outcome.stderr);
}

#[test]
fn definitions_with_errors_are_told_as_other_commands_tell_them() {
    let stage = Stage::new();
    stage.job("orders", DAILY).job("wrong", "schedule: { cron: \"61 * * * *\" }");
    let (cost, plan) = (stage.cost(&[]).expect_code(10), stage.errand.run(["plan", "wrong"]).expect_code(10));
    assert!(cost.stdout.is_empty() && cost.stderr.contains("jobs/wrong/job.yaml"), "{}", cost.stderr);
    assert_eq!(cost.stderr, plan.stderr);
    assert!(stage.cost(&["--env", "stagin"]).expect_code(10).stderr.contains("jobs/wrong/job.yaml"));
    stage.job("wrong", DAILY);
    let outcome = stage.cost(&["--env", "stagin"]).expect_code(10);
    assert!(outcome.stderr.contains("did you mean `staging`?"), "{}", outcome.stderr);
}

#[test]
fn a_report_that_cannot_be_read_is_named_and_the_others_count() {
    let stage = Stage::new();
    stage.job("orders", DAILY);
    stage.run("orders", "a", 17, &[]);
    fs::write(stage.errand.directory().join("kept/runs/broken.json"), "{").expect("the working directory can be written");
    let outcome = stage.cost(&[]).expect_code(0);
    assert!(outcome.stdout.contains("unreadable: ") && outcome.stdout.contains("broken.json"), "{}", outcome.stdout);
    let outcome = stage.cost(&["--format", "json"]).expect_code(0);
    assert_eq!(job(&outcome.json(), "orders")["reports"], 1);
    assert!(outcome.stderr.contains("run report cannot be read"), "{}", outcome.stderr);
}

#[test]
fn reports_in_a_bucket_count() {
    let bucket = Bucket::create();
    let errand = services::s3_credentials().into_iter().fold(Errand::new(), |errand, (name, value)| errand.env(name, value));
    let state = json!({ "s3": { "bucket": bucket.name(), "endpoint": bucket.endpoint(), "region": "us-east-1" } });
    let stage = Stage::with(errand, &state);
    stage.job("orders", DAILY);
    stage.run("orders", "a", 17, &[]).run("orders", "b", 18, &[]);
    let cost = stage.json(&[]);
    assert_eq!(job(&cost, "orders")["reports"], 2);
    let kept: usize = bucket.keys("runs/").iter().map(|key| bucket.get(key).len()).sum();
    assert_eq!(cost["stack"][4]["count"], kept);
}

/// The stack's own figures are in the formula: who adds an alarm pays for it here, too.
#[test]
fn the_alarms_are_those_of_the_stack() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../infra/alarms.yaml");
    let alarms = fs::read_to_string(file).expect("the stack").matches("AWS::CloudWatch::Alarm").count();
    let stage = Stage::new();
    stage.job("orders", DAILY);
    assert_eq!(stage.json(&[])["stack"][3]["count"], alarms);
}
