//! Those who are told have a bad day themselves; and what failed works again.

use e2e::receiver::Answer;
use e2e::site::{Job, PAGERDUTY};

use crate::outcome::{assert_loaded, assert_nothing_loaded, assert_quiet, assert_told, tick_until};
use crate::{REFUNDS, site};

pub(crate) fn jobs() -> Vec<Job> {
    let divides = "  - id: divides\n    sql: { text: select 1 / 0 }\n";
    vec![Job::new("bad_day", divides), Job::load("comes_back").from("comes_back.csv")]
}

#[test]
fn a_slack_that_is_busy_is_tried_again_and_a_pagerduty_that_is_down_is_told_when_it_is_back() {
    let site = site();
    site.receiver.script(&site.slack("bad_day"), &[Answer::RetryAfter(429, 1), Answer::Status(500), Answer::Status(200)]);
    site.receiver.script_for(PAGERDUTY, site.routing_key("bad_day"), &[Answer::Status(503)]);
    let ended = site.ran(&site.order("bad_day"));
    assert_eq!(site.told("bad_day").map(|messages| messages.len()), [1, 0, 1]);
    let asked = site.asked("bad_day").map(|requests| requests.len());
    assert!(asked[0] == 3 && asked[1] > 1 && asked[2] == 1, "{asked:?}");
    site.tick();
    assert_eq!(site.told("bad_day").map(|messages| messages.len()), [1, 0, 1]);
    site.receiver.script_for(PAGERDUTY, site.routing_key("bad_day"), &[Answer::Status(202)]);
    tick_until(&site, "bad_day", [1, 1, 1]);
    assert_told(&site, &ended, "Errand.Permanent", &["division by zero"]);
}

#[test]
fn a_job_that_works_again_closes_its_alert_and_resolves_its_incident() {
    let site = site();
    site.put_file("comes_back.csv", REFUNDS);
    assert_told(&site, &site.ran(&site.order("comes_back")), "Errand.CheckFailed", &["expression(amount"]);
    assert_nothing_loaded(&site, "comes_back");
    site.copy_file("orders.csv", "comes_back.csv");
    let ended = site.ran(&site.order("comes_back"));
    tick_until(&site, "comes_back", [2, 2, 2]);
    let [slack, pages, hooks] = site.told("comes_back");
    assert!(slack[1].to_string().contains("comes_back is well again"), "{:#}", slack[1]);
    assert_eq!((&pages[0]["event_action"], &pages[1]["event_action"]), (&"trigger".into(), &"resolve".into()));
    assert_eq!(pages[0]["dedup_key"], pages[1]["dedup_key"]);
    assert_eq!((&hooks[0]["event"], &hooks[1]["event"]), (&"failure".into(), &"recovered".into()));
    assert_eq!((ended.status.as_str(), &ended.output["outcome"]), ("SUCCEEDED", &"succeeded".into()), "{ended:#?}");
    assert_loaded(&site, "comes_back");
    // Who starts it once more finds it done.
    let again = site.ran(&site.order("comes_back"));
    assert_quiet(&site, &again, "duplicate");
}
