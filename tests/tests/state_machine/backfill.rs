//! Backfills: many intervals, a few at a time, again without doing anything twice.

use serde_json::{Value, json};

use crate::machine::{Machine, Start};

fn backfill(machine: &Machine, start: &Start, intervals: &[&str]) -> Value {
    let intervals: Vec<Value> =
        intervals.iter().map(|day| json!({ "name": format!("backfill-orders-{day}"), "interval": day, "scheduled_at": "" })).collect();
    json!({ "version": 1, "job": "orders", "environment": "prod", "concurrency": 2, "run": machine.input(start), "intervals": intervals })
}

/// Intervals, those done before, those that failed.
fn counts(summary: &Value) -> [u64; 3] {
    ["intervals", "already_done", "failed"].map(|key| summary[key].as_u64().unwrap_or(u64::MAX))
}

#[test]
fn every_interval_becomes_a_run_and_the_second_time_none_does() {
    let machine = Machine::deploy();
    let input = backfill(&machine, &Start::script("succeed"), &["2026-01-01", "2026-01-02", "2026-01-03"]);
    let first = machine.backfilled(&input);
    assert_eq!((first.status.as_str(), counts(&first.output)), ("SUCCEEDED", [3, 0, 0]), "{first:#?}");
    assert_eq!((&first.output["done"], &first.output["results"][0]["outcome"]), (&json!(true), &json!("succeeded")), "{first:#?}");
    let second = machine.backfilled(&input);
    assert_eq!((second.status.as_str(), counts(&second.output)), ("SUCCEEDED", [3, 3, 0]), "{second:#?}");
    assert!(!second.states.contains(&"Start".to_owned()), "{:?}", second.states);
}

#[test]
fn an_interval_that_its_run_left_undone_is_told_and_runs_again_the_next_time() {
    let machine = Machine::deploy();
    let backfilled = |script: &str| machine.backfilled(&backfill(&machine, &Start::script(script), &["2026-01-01"]));
    for left in ["leave skipped", "leave duplicate"] {
        let ended = backfilled(left);
        assert_eq!((ended.status.as_str(), ended.error.as_str()), ("FAILED", "Errand.BackfillIncomplete"), "{left}: {ended:#?}");
        let summary: Value = serde_json::from_str(&ended.cause).expect("the cause is the summary");
        assert_eq!((counts(&summary), &summary["failed_intervals"]), ([1, 0, 1], &json!(["2026-01-01"])), "{left}");
    }
    let loaded = backfilled("succeed");
    assert_eq!((loaded.status.as_str(), counts(&loaded.output)), ("SUCCEEDED", [1, 0, 0]), "{loaded:#?}");
    assert_eq!(loaded.output["results"][0]["run_id"], "backfill-orders-2026-01-01-3");
    assert_eq!(counts(&backfilled("succeed").output), [1, 1, 0]);
}

#[test]
fn an_interval_that_failed_is_told_and_runs_again_the_next_time() {
    let machine = Machine::deploy();
    let day = ["2026-01-01", "2026-01-02"];
    let first = machine.backfilled(&backfill(&machine, &Start::script("succeed"), &day[..1]));
    assert_eq!(counts(&first.output), [1, 0, 0], "{first:#?}");
    let failing = machine.backfilled(&backfill(&machine, &Start::script("fail Errand.CheckFailed;exit 12"), &day));
    assert_eq!((failing.status.as_str(), failing.error.as_str()), ("FAILED", "Errand.BackfillIncomplete"), "{failing:#?}");
    let summary: Value = serde_json::from_str(&failing.cause).expect("the cause is the summary");
    assert_eq!((counts(&summary), &summary["failed_intervals"]), ([2, 1, 1], &json!(["2026-01-02"])));
    let last = machine.backfilled(&backfill(&machine, &Start::script("succeed"), &day));
    assert_eq!((last.status.as_str(), counts(&last.output)), ("SUCCEEDED", [2, 1, 0]), "{last:#?}");
}
