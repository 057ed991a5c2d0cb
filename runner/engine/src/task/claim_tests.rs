use std::sync::Arc;

use errand_model::value::Name;

use super::*;
use crate::store::Store;

fn at(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

fn interval() -> Interval {
    Interval { start: at("2026-11-19T06:00:00Z"), end: at("2026-11-20T06:00:00Z"), timezone: "UTC".to_owned() }
}

fn taker(run_id: &str) -> Taker {
    Taker {
        job: "orders".to_owned(),
        interval: interval().report(),
        run_id: run_id.to_owned(),
        execution: String::new(),
        attempt: 1,
        holder: format!("holder-of-{run_id}"),
        commit: Some("a".to_owned()),
        by_hand: false,
        makes_up: false,
        chosen: Vec::new(),
        lease_seconds: 300,
    }
}

const TAKEN: &str = "2026-11-20T06:00:00Z";

fn held(state: State) -> Record {
    Record { state, ..taker("first").record(at(TAKEN)) }
}

fn claims(directory: &tempfile::TempDir, now: &str) -> Claims {
    let store = Store::directory(directory.path());
    Claims {
        leases: Leases(store.clone()),
        reports: ReportStore::under(&store, "runs"),
        clock: Clock::fixed(at(now)),
        look_every: Duration::from_millis(1),
    }
}

/// A run that nobody cancels.
fn never() -> CancellationToken {
    CancellationToken::new()
}

fn group(limit: u32, on_overlap: OnOverlap) -> Concurrency {
    Concurrency { group: Name::parse("nightly").expect("a name"), limit, on_overlap }
}

#[test]
fn a_claim_is_left_to_who_works_or_has_and_taken_from_who_failed_or_vanished() {
    let (soon, late) = (at("2026-11-20T06:05:00Z"), at("2026-11-20T06:05:01Z"));
    let (own, other) = (taker("first"), taker("second"));
    let by_hand = Taker { by_hand: true, ..other.clone() };
    let repair = Taker { commit: Some("b".to_owned()), ..by_hand.clone() };
    let (taken, at_work, done) = ("taken", "at work", "done");
    for (found, taker, reported, now, expected, why) in [
        (held(State::Running), &other, None, soon, at_work, "at work"),
        (held(State::Running), &other, None, late, taken, "not renewed"),
        (held(State::Running), &own, None, soon, taken, "a retry of the same execution"),
        (held(State::Running), &other, Some(Outcome::Failed), soon, taken, "its report says failed"),
        (held(State::Running), &other, Some(Outcome::Cancelled), soon, taken, "its report says cancelled"),
        (held(State::Running), &other, Some(Outcome::Succeeded), late, done, "its report says succeeded"),
        (held(State::Running), &own, Some(Outcome::Succeeded), soon, done, "its own first attempt succeeded, the answer was lost"),
        (held(State::Succeeded), &other, None, late, done, "done"),
        (held(State::Succeeded), &own, None, late, done, "done by itself"),
        (held(State::Succeeded), &by_hand, None, late, done, "done, at the same commit"),
        (held(State::Succeeded), &repair, None, late, taken, "done, by hand at another commit"),
        (held(State::Ended), &other, None, soon, taken, "failed"),
        (held(State::Ended), &own, None, soon, taken, "failed before, tried again"),
    ] {
        let decided = match decide(&found, taker, reported, now) {
            Decision::Take => "taken",
            Decision::AtWork(_) => "at work",
            Decision::Done(_) => "done",
        };
        assert_eq!(decided, expected, "{why}");
    }
}

#[test]
fn a_key_is_of_the_job_the_interval_and_the_inputs() {
    let inputs = |region: &str| BTreeMap::from([("region".to_owned(), Value::from(region))]);
    assert_eq!(key("orders", &interval(), &BTreeMap::new()), "claims/orders/20261119T060000Z-20261120T060000Z");
    let (br, mx) = (key("orders", &interval(), &inputs("br")), key("orders", &interval(), &inputs("mx")));
    assert!(br != mx && br.starts_with("claims/orders/20261119T060000Z-20261120T060000Z-"), "{br} {mx}");
}

#[tokio::test]
async fn of_many_that_claim_one_interval_one_does() {
    let directory = tempfile::tempdir().expect("a directory");
    let shared = Arc::new(claims(&directory, TAKEN));
    let starts = (0..16).map(|number| {
        let shared = Arc::clone(&shared);
        let taker = taker(&format!("run-{number}"));
        tokio::spawn(async move { shared.claim("claims/orders/x", &taker, &never()).await.expect("a store").is_ok() })
    });
    let mut won = 0;
    for start in starts.collect::<Vec<_>>() {
        won += usize::from(start.await.expect("no panic"));
    }
    assert_eq!(won, 1);
}

#[tokio::test]
async fn a_claim_is_free_after_a_failure_and_not_after_a_success() {
    let directory = tempfile::tempdir().expect("a directory");
    let claims = claims(&directory, TAKEN);
    let mut first = claims.claim("claims/a/x", &taker("first"), &never()).await.expect("a store").expect("taken");
    let left = claims.claim("claims/a/x", &taker("second"), &never()).await.expect("a store").expect_err("at work");
    assert_eq!((left.outcome, left.done), ("duplicate", false));
    claims.leases.end(&mut first, State::Ended, None, at(TAKEN)).await.expect("ended");
    let mut second = claims.claim("claims/a/x", &taker("second"), &never()).await.expect("a store").expect("free");
    claims.leases.end(&mut second, State::Succeeded, Some("s3://b/runs/second.json"), at(TAKEN)).await.expect("ended");
    let left = claims.claim("claims/a/x", &taker("third"), &never()).await.expect("a store").expect_err("done");
    assert_eq!((left.done, left.report.as_deref()), (true, Some("s3://b/runs/second.json")));
}

#[tokio::test]
async fn a_run_by_hand_waits_for_the_one_at_work_and_takes_over_what_that_one_did_not_finish() {
    let directory = tempfile::tempdir().expect("a directory");
    let shared = Arc::new(claims(&directory, TAKEN));
    let by_hand = |run_id: &str| Taker { by_hand: true, ..taker(run_id) };
    let waiting = |run_id: &'static str| {
        let shared = Arc::clone(&shared);
        tokio::spawn(async move { shared.claim("claims/a/x", &by_hand(run_id), &never()).await.expect("a store") })
    };
    let mut first = shared.claim("claims/a/x", &taker("first"), &never()).await.expect("a store").expect("taken");
    let cancelled = never();
    cancelled.cancel();
    let failure = shared.claim("claims/a/x", &by_hand("stopped"), &cancelled).await.expect_err("cancelled while it waited");
    assert_eq!((failure.kind, failure.code.as_str()), (FailureKind::Cancelled, "task::waited_for_claim"));

    let second = waiting("second");
    shared.leases.end(&mut first, State::Ended, None, at(TAKEN)).await.expect("ended");
    let mut second = second.await.expect("no panic").expect("what the first did not finish");
    let third = waiting("third");
    shared.leases.end(&mut second, State::Succeeded, Some("s3://b/runs/second.json"), at(TAKEN)).await.expect("ended");
    let left = third.await.expect("no panic").expect_err("done");
    assert_eq!((left.outcome, left.done, left.report.as_deref()), ("duplicate", true, Some("s3://b/runs/second.json")));
}

#[tokio::test]
async fn who_lost_its_claim_learns_so_at_its_next_renewal() {
    let directory = tempfile::tempdir().expect("a directory");
    let early = claims(&directory, TAKEN);
    let mut first = early.claim("claims/a/x", &taker("first"), &never()).await.expect("a store").expect("taken");
    let late = claims(&directory, "2026-11-20T07:00:00Z");
    late.claim("claims/a/x", &taker("second"), &never()).await.expect("a store").expect("taken over");
    let lost = early.leases.renew(&mut first, at("2026-11-20T07:00:01Z")).await.expect_err("lost");
    assert_eq!((lost.kind, lost.code.as_str()), (FailureKind::Cancelled, "task::lost_claim"));
    early.leases.end(&mut first, State::Ended, None, at("2026-11-20T07:00:02Z")).await.expect("left to the other");
    assert_eq!(late.leases.find("claims/a/x").await.expect("a store").expect("there").record.run_id, "second");
}

#[tokio::test]
async fn a_renewal_whose_answer_was_lost_is_no_wish_that_the_run_ends() {
    let directory = tempfile::tempdir().expect("a directory");
    let claims = claims(&directory, TAKEN);
    let mut unheard = claims.claim("claims/a/x", &taker("first"), &never()).await.expect("a store").expect("taken");
    let mut arrived = unheard.clone();
    claims.leases.renew(&mut arrived, at("2026-11-20T06:01:00Z")).await.expect("it arrives, and nobody hears of it");
    claims.leases.renew(&mut unheard, at("2026-11-20T06:02:00Z")).await.expect("the claim is its own");
    let found = claims.leases.find("claims/a/x").await.expect("a store").expect("there");
    assert_eq!(found.record.renewed_at, at("2026-11-20T06:02:00Z"));
    // One that another run added its wish to is told.
    claims.leases.ask_to_end("claims/a/x", &found, "second").await.expect("asked");
    let asked = claims.leases.renew(&mut unheard, at("2026-11-20T06:03:00Z")).await.expect_err("asked to end");
    assert_eq!(asked.code, "task::asked_to_end");
}

#[tokio::test]
async fn a_group_has_as_many_slots_as_its_limit_and_a_slot_left_behind_is_taken() {
    let directory = tempfile::tempdir().expect("a directory");
    let (claims, never) = (claims(&directory, TAKEN), CancellationToken::new());
    let skip = group(2, OnOverlap::Skip);
    let mut first = claims.slot(&skip, &taker("first"), &never).await.expect("a store").expect("free");
    claims.slot(&skip, &taker("second"), &never).await.expect("a store").expect("free");
    let full = claims.slot(&skip, &taker("third"), &never).await.expect("a store").expect_err("full");
    assert_eq!(full.outcome, "skipped");
    // A later attempt of a run takes its own slot again.
    claims.slot(&skip, &taker("second"), &never).await.expect("a store").expect("its own");
    claims.leases.end(&mut first, State::Ended, None, at(TAKEN)).await.expect("ended");
    claims.slot(&skip, &taker("third"), &never).await.expect("a store").expect("free again");
    let late = self::claims(&directory, "2026-11-20T07:00:00Z");
    late.slot(&skip, &taker("fourth"), &never).await.expect("a store").expect("left behind");
}

#[tokio::test]
async fn one_that_waits_gets_the_slot_of_the_one_that_it_asked_to_end() {
    let directory = tempfile::tempdir().expect("a directory");
    let (shared, never) = (Arc::new(claims(&directory, TAKEN)), CancellationToken::new());
    let cancel = group(1, OnOverlap::Cancel);
    let mut older = shared.slot(&cancel, &taker("older"), &never).await.expect("a store").expect("free");
    let newer = {
        let (shared, cancel, never) = (Arc::clone(&shared), cancel.clone(), never.clone());
        tokio::spawn(async move { shared.slot(&cancel, &taker("newer"), &never).await.map(|slot| slot.is_ok()) })
    };
    let asked = loop {
        match shared.leases.renew(&mut older, at(TAKEN)).await {
            Ok(()) => tokio::time::sleep(Duration::from_millis(1)).await,
            Err(failure) => break failure,
        }
    };
    assert_eq!((asked.kind, asked.code.as_str()), (FailureKind::Cancelled, "task::asked_to_end"));
    shared.leases.end(&mut older, State::Ended, None, at(TAKEN)).await.expect("ended");
    assert_eq!(newer.await.expect("no panic"), Ok(true));
}

#[tokio::test]
async fn one_that_waits_can_be_cancelled() {
    let directory = tempfile::tempdir().expect("a directory");
    let (claims, token) = (claims(&directory, TAKEN), CancellationToken::new());
    let queue = group(1, OnOverlap::Queue);
    claims.slot(&queue, &taker("older"), &token).await.expect("a store").expect("free");
    token.cancel();
    let failure = claims.slot(&queue, &taker("newer"), &token).await.expect_err("cancelled");
    assert_eq!((failure.kind, failure.code.as_str()), (FailureKind::Cancelled, "task::waited_for_group"));
}

#[tokio::test]
async fn only_a_schedules_start_is_skipped_and_none_for_what_makes_up_which_ends_nobody() {
    let directory = tempfile::tempdir().expect("a directory");
    let (claims, token) = (claims(&directory, TAKEN), CancellationToken::new());
    token.cancel();
    let missed = |run_id: &str| Taker { makes_up: true, ..taker(run_id) };
    let waits = async |concurrency: &Concurrency, taker: Taker| {
        claims.slot(concurrency, &taker, &token).await.expect_err("waits until it is cancelled").code == "task::waited_for_group"
    };
    let mut regular = claims.slot(&group(1, OnOverlap::Skip), &taker("regular"), &token).await.expect("a store").expect("free");
    assert!(waits(&group(1, OnOverlap::Skip), Taker { by_hand: true, ..taker("by-hand") }).await);
    assert!(waits(&group(1, OnOverlap::Skip), missed("missed")).await && waits(&group(1, OnOverlap::Cancel), missed("missed")).await);
    claims.leases.renew(&mut regular, at(TAKEN)).await.expect("nobody asked it to end");
    claims.leases.end(&mut regular, State::Succeeded, None, at(TAKEN)).await.expect("ended");
    claims.slot(&group(1, OnOverlap::Skip), &missed("missed"), &token).await.expect("a store").expect("free");
    assert!(waits(&group(1, OnOverlap::Skip), taker("next")).await);
}
