//! How reports read, at 80 and at 200 columns.

use std::collections::BTreeMap;

use errand_model::failure::{FailureKind, Place};
use errand_model::report::{CheckoutReport, IntervalReport, Rows};
use serde_json::json;

use super::*;

const NARROW: Style = Style { width: 80, color: false };
const WIDE: Style = Style { width: 200, color: false };

fn at(text: &str) -> jiff::Timestamp {
    text.parse().expect("a time")
}

fn attempt(number: u32, outcome: Outcome) -> AttemptReport {
    AttemptReport {
        number,
        started_at: at("2026-11-20T06:00:03Z"),
        duration_ms: 1_290,
        outcome,
        rows: Rows::default(),
        statements: Vec::new(),
        files: Vec::new(),
        checks: Vec::new(),
        usage: None,
        failure: None,
    }
}

fn step(id: &str, kind: &str, outcome: Outcome, rows: Rows, duration_ms: u64, attempts: Vec<AttemptReport>) -> StepReport {
    StepReport {
        id: id.to_owned(),
        kind: kind.to_owned(),
        outcome,
        reason: None,
        duration_ms,
        rows,
        bytes_read: 0,
        bytes_written: 0,
        outputs: BTreeMap::new(),
        warnings: Vec::new(),
        attempts,
    }
}

/// A run that went well.
pub(crate) fn succeeded() -> RunReport {
    let rows = |read: u64| Rows { read, written: read, deduplicated: 0, rejected: 0 };
    RunReport {
        version: RunReport::VERSION,
        run_id: "01kafx3m9q7r2t5v".to_owned(),
        job: "orders".to_owned(),
        environment: "local".to_owned(),
        errand_version: "0.1.0".to_owned(),
        checkout: Some(CheckoutReport {
            repository: ".".to_owned(),
            reference: None,
            commit: Some("4f2a9c1d0b6e8f7a3c5d2e1f0a9b8c7d6e5f4a3b".to_owned()),
            uncommitted_changes: true,
        }),
        interval: Some(IntervalReport {
            start: at("2026-11-19T06:00:00Z"),
            end: at("2026-11-20T06:00:00Z"),
            timezone: "Europe/Lisbon".to_owned(),
        }),
        scheduled_at: None,
        execution: None,
        inputs: BTreeMap::new(),
        chosen: Vec::new(),
        only: Vec::new(),
        attempt: 1,
        started_at: at("2026-11-20T06:00:03Z"),
        finished_at: at("2026-11-20T06:00:06.2Z"),
        duration_ms: 3_240,
        outcome: Outcome::Succeeded,
        failure: None,
        warnings: Vec::new(),
        steps: vec![
            step("load_orders", "ingest", Outcome::Succeeded, rows(1_500_000), 1_290, vec![attempt(1, Outcome::Succeeded)]),
            step("revenue", "sql", Outcome::AlreadyDone, rows(60_175), 87, vec![attempt(1, Outcome::AlreadyDone)]),
        ],
        peak_memory_bytes: 101_187_584,
    }
}

fn refused() -> Failure {
    Failure::new(
        FailureKind::Rejected,
        "ingest::too_many_rejected",
        "3 of 1,000 rows were rejected and `max_rejected` is 0: `12,5x` in column `amount` is no decimal(15,2)",
    )
    .at(Place { file: "orders/2026-11-19.csv".to_owned(), line: 501, column: 14 })
    .help("correct the file, or raise `max_rejected` of step `load_order_lines_of_partners`")
}

/// A step that was tried again, with a check that did not hold and a slow statement.
fn customers() -> Vec<AttemptReport> {
    let lost = Failure::new(FailureKind::Transient, "warehouse::locked", "the database file is in use by another process");
    let check = |name: &str, passed, failures, message: Option<&str>| CheckReport {
        name: name.to_owned(),
        passed,
        severity: "warn".to_owned(),
        failures,
        message: message.map(str::to_owned),
        stored_in: failures.map(|_| "orders__failures".to_owned()),
    };
    let statement = StatementReport {
        id: "load_customers.2.1".to_owned(),
        place: Some("jobs/orders/customers.sql:3".to_owned()),
        text: "INSERT INTO customers SELECT * FROM staging.customers".to_owned(),
        duration_ms: 184_000,
        rows: Some(12),
    };
    let customers = AttemptReport {
        statements: vec![statement],
        checks: vec![check("not_null(customer_id)", false, Some(12), None), check("row_count(min 1)", true, None, None)],
        ..attempt(2, Outcome::Succeeded)
    };
    vec![AttemptReport { failure: Some(lost), ..attempt(1, Outcome::Failed) }, customers]
}

/// A step that refused rows of one of its files.
fn lines() -> AttemptReport {
    let file = |path: &str, read, rejected| FileReport {
        path: path.to_owned(),
        bytes: 120_000,
        rows: Rows { read, written: read - rejected, deduplicated: 0, rejected },
        already_loaded: false,
    };
    AttemptReport {
        failure: Some(refused()),
        files: vec![file("orders/2026-11-18.csv", 800, 0), file("orders/2026-11-19.csv", 1_000, 3)],
        ..attempt(1, Outcome::Failed)
    }
}

/// A run in which everything that a report can tell has happened.
pub(crate) fn failed() -> RunReport {
    let rows = Rows { read: 1_234_567, written: 1_234_000, deduplicated: 567, rejected: 0 };
    let mut skipped = step("publish", "export", Outcome::Skipped, Rows::default(), 0, Vec::new());
    skipped.reason = Some("step `load_order_lines_of_partners` did not succeed".to_owned());
    RunReport {
        job: "partner_orders_of_the_day".to_owned(),
        environment: "prod".to_owned(),
        checkout: Some(CheckoutReport {
            repository: "https://git.example.com/acme/jobs.git".to_owned(),
            reference: Some("main".to_owned()),
            commit: Some("4f2a9c1d0b6e8f7a3c5d2e1f0a9b8c7d6e5f4a3b".to_owned()),
            uncommitted_changes: false,
        }),
        scheduled_at: Some(at("2026-11-20T06:00:00Z")),
        inputs: BTreeMap::from([("full".to_owned(), json!(true)), ("region".to_owned(), json!("são paulo"))]),
        attempt: 2,
        finished_at: at("2026-11-20T06:03:07Z"),
        duration_ms: 184_000,
        outcome: Outcome::Failed,
        failure: Some(refused()),
        warnings: vec!["load_customers: check `not_null(customer_id)` did not hold for 12 rows".to_owned()],
        steps: vec![
            step("load_customers", "ingest", Outcome::Succeeded, rows, 183_000, customers()),
            step(
                "load_order_lines_of_partners",
                "ingest",
                Outcome::Failed,
                Rows { read: 1_800, rejected: 3, ..Rows::default() },
                87,
                vec![lines()],
            ),
            skipped,
        ],
        ..succeeded()
    }
}

fn listing() -> Listing {
    let cancelled = RunReport {
        run_id: "01kafx3m9q7r2t00".to_owned(),
        job: "stock".to_owned(),
        interval: Some(IntervalReport { start: at("2026-11-19T06:00:00Z"), end: at("2026-11-19T12:00:00Z"), timezone: "UTC".to_owned() }),
        outcome: Outcome::Cancelled,
        duration_ms: 412,
        steps: Vec::new(),
        ..succeeded()
    };
    let steps = succeeded().steps.into_iter().map(|step| StepReport { outcome: Outcome::AlreadyDone, ..step }).collect();
    let already_done =
        RunReport { steps, run_id: "01kafx3m9q7r2t01".to_owned(), outcome: Outcome::AlreadyDone, interval: None, ..succeeded() };
    Listing {
        reports: vec![failed(), succeeded(), already_done, cancelled],
        unreadable: vec![(".errand/runs/x.json".into(), "report of version 2, this errand reads up to 1".to_owned())],
        more: false,
    }
}

fn fits(text: &str, width: usize) -> &str {
    for line in text.lines() {
        assert!(line.chars().count() <= width, "{} characters: {line}", line.chars().count());
    }
    text
}

#[test]
fn the_list_of_runs_fits_80_columns() {
    insta::assert_snapshot!(fits(&runs(&listing(), NARROW), 80));
}

#[test]
fn the_list_of_runs_is_whole_at_200_columns() {
    insta::assert_snapshot!(fits(&runs(&listing(), WIDE), 200));
}

#[test]
fn a_failed_run_fits_80_columns() {
    let text = show(&failed(), NARROW);
    // The command that runs it again stays in one line, to be copied.
    let without_command: String = text.lines().filter(|line| !line.starts_with("  again:")).map(|line| format!("{line}\n")).collect();
    fits(&without_command, 80);
    insta::assert_snapshot!(text);
}

#[test]
fn a_failed_run_at_200_columns() {
    insta::assert_snapshot!(show(&failed(), WIDE));
}

#[test]
fn a_run_that_went_well_is_short() {
    insta::assert_snapshot!(fits(&summary(&succeeded(), Some(Path::new(".errand/runs/01kafx3m9q7r2t5v.json")), NARROW), 80));
}

#[test]
fn the_end_of_a_failed_run() {
    insta::assert_snapshot!(summary(&failed(), None, NARROW));
}

#[test]
fn a_run_of_a_task_is_started_again_as_one() {
    let execution = "arn:aws:states:eu-west-1:123456789012:execution:errand-prod:partner_orders_of_the_day-1".to_owned();
    let again = rerun(&RunReport { execution: Some(execution), ..failed() });
    assert_eq!(
        again,
        "errand start partner_orders_of_the_day --env prod --interval 2026-11-19T06:00:00Z/2026-11-20T06:00:00Z --input full=true --input 'region=são paulo'"
    );
}

#[test]
fn colour_changes_no_text() {
    let colored = summary(&failed(), None, Style { color: true, ..NARROW });
    let mut plain = String::new();
    let mut rest = colored.as_str();
    while let Some(start) = rest.find("\x1b[") {
        plain.push_str(&rest[..start]);
        rest = &rest[start..][rest[start..].find('m').expect("a colour ends with m") + 1..];
    }
    plain.push_str(rest);
    let trimmed = |text: &str| text.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>();
    assert_eq!(trimmed(&plain), trimmed(&summary(&failed(), None, NARROW)));
}

#[test]
fn a_run_without_checkout_steps_or_interval_is_shown() {
    let failure =
        Failure::new(FailureKind::Checkout, "checkout::no_such_ref", "no branch, tag or commit `mian`").help("did you mean `main`?");
    let report =
        RunReport { checkout: None, interval: None, steps: Vec::new(), outcome: Outcome::Failed, failure: Some(failure), ..succeeded() };
    insta::assert_snapshot!(summary(&report, None, NARROW), @r"
    orders failed in 3.2 s
    run 01kafx3m9q7r2t5v

    Errand.Checkout
      no branch, tag or commit `mian`
      help: did you mean `main`?
      code: checkout::no_such_ref, exit code 11
    ");
}

#[test]
fn text_of_others_moves_no_cursor() {
    let report = RunReport { warnings: vec!["\x1b[2Jgone\r\nnext".to_owned()], ..succeeded() };
    assert!(summary(&report, None, NARROW).contains("  \\u{1b}[2Jgone\\r\n  next\n"));
}

#[test]
fn a_repository_without_a_commit_is_one() {
    let told = |uncommitted_changes| {
        let checkout = CheckoutReport { repository: ".".to_owned(), reference: None, commit: None, uncommitted_changes };
        format!("{}{}", commit(&checkout), changes(&checkout))
    };
    assert_eq!([told(true), told(false)], ["none known, uncommitted changes", "none, not a git repository"]);
}

#[test]
fn words_of_a_command_are_quoted_where_a_shell_needs_it() {
    assert_eq!([quoted("a=b"), quoted("it's"), quoted("")], ["a=b", r"'it'\''s'", "''"]);
}
