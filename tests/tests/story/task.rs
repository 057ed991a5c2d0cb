//! Runs whose task is in trouble: refused, not started, silent, killed, out of memory, stuck, cut off; and one by hand where all is well.

use std::time::Duration;

use e2e::condition::answer_within;
use e2e::container::docker;
use e2e::proxy::{Direction, Fault, Proxy};
use e2e::site::{DAY, DIVISOR, HALFWAY, Job, Site, seen};
use serde_json::{Value, json};

use crate::outcome::{assert_loaded, assert_nothing_loaded, assert_quiet, assert_told, wait_until_free};
use crate::site;

pub(crate) fn jobs() -> Vec<Job> {
    let rests = |seconds: u64| format!("  - id: rests\n    sql: {{ text: select pg_sleep({seconds}) }}\n");
    vec![
        Job::load("by_hand"),
        Job::load("killed").through("slow"),
        Job::load("starved"),
        Job::load("not_there"),
        Job::load("refused"),
        Job::load("silent"),
        Job::load("stuck").then(&rests(3)),
        Job::load("cut_off").then(&rests(CUT + 4)),
        Job::new("unheard", &rests(100)),
    ]
}

/// Seconds that the way to Step Functions is cut: two minutes, as much shorter as the stack's other times.
const CUT: u64 = 120 / DIVISOR;

fn assert_docker(words: &[&str]) {
    let output = docker(words.iter().copied());
    assert!(output.status.success(), "docker {words:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// The order of a run in a task that differs from those of the stack.
fn order_in(site: &Site, job: &str, change: impl FnOnce(&mut Value)) -> Value {
    let mut order = site.order(job);
    order["task_definition"] = json!(site.stack.define(change));
    order
}

/// A task whose way to Step Functions goes through the proxy.
fn order_through(site: &Site, job: &str, proxy: &Proxy) -> Value {
    order_in(site, job, |task| {
        let variables = task["containerDefinitions"][0]["environment"].as_array_mut().expect("variables");
        variables.push(json!({ "name": "AWS_ENDPOINT_URL_SFN", "value": format!("http://127.0.0.1:{}", proxy.port()) }));
        task["containerDefinitions"][0]["stopTimeout"] = json!(2);
    })
}

fn cloud_address(site: &Site) -> &str {
    site.stack.cloud().endpoint().trim_start_matches("http://")
}

#[test]
fn a_run_by_hand_is_followed_to_its_report_and_is_not_run_again() {
    let site = site();
    let start = ["start", "by_hand", "--interval", DAY];
    let followed = site.errand(&[&start[..], &["--follow", "--format", "json"][..]].concat()).expect_code(0);
    let report = followed.json();
    assert_eq!((&report["job"], &report["outcome"]), (&"by_hand".into(), &"succeeded".into()), "{report:#}");
    let id = report["run_id"].as_str().expect("an id");
    assert_quiet(&site, &site.ended(id), "succeeded");
    assert_loaded(&site, "by_hand");
    let again = site.errand(&start).expect_code(0);
    assert!(again.stderr.contains("nothing was started"), "{}", again.stderr);
}

#[test]
fn a_task_that_is_killed_in_mid_load_is_told_and_the_next_run_leaves_what_one_clean_run_leaves() {
    let site = site();
    site.slow.when(Direction::ToServer, HALFWAY, Fault::Stall);
    let started = site.errand(&["start", "killed", "--interval", DAY]).expect_code(0).stdout;
    let id = started.trim();
    seen("half of the file to be on its way", Duration::from_secs(60), || (site.slow.fired() > 0).then_some(()));
    assert_docker(&["kill", "--signal", "KILL", &site.container(id)]);
    let ended = site.ended(id);
    site.slow.resume();
    assert_told(&site, &ended, "Errand.OutOfMemory", &["137"]);
    assert_nothing_loaded(&site, "killed");

    wait_until_free(&site, "killed");
    let started = site.errand(&["start", "killed", "--interval", DAY]).expect_code(0).stdout;
    assert!(started.trim().ends_with("-2"), "{started}");
    assert_quiet(&site, &site.ended(started.trim()), "succeeded");
    assert_loaded(&site, "killed");
}

#[test]
fn a_task_out_of_memory_is_told_as_such() {
    let site = site();
    let order = order_in(&site, "starved", |task| task["memory"] = json!("8"));
    let ended = site.ran(&order);
    assert_told(&site, &ended, "Errand.OutOfMemory", &["memory"]);
    assert_nothing_loaded(&site, "starved");
}

#[test]
fn an_image_that_cannot_be_pulled_is_tried_three_times_and_told_once() {
    let site = site();
    let order = order_in(&site, "not_there", |task| task["containerDefinitions"][0]["image"] = json!("errand-test-none:latest"));
    let ended = site.ran(&order);
    assert_eq!(ended.tasks().len(), 3, "{:?}", ended.states());
    assert_told(&site, &ended, "Errand.StartFailed", &["image"]);
    assert_nothing_loaded(&site, "not_there");
}

#[test]
fn a_start_that_is_refused_twice_is_a_run_all_the_same_and_nobody_is_told() {
    let site = site();
    let order = order_in(&site, "refused", |task| {
        task["containerDefinitions"][0]["dockerLabels"] = json!({ "errand.test.refuse": "2" });
    });
    let ended = site.ran(&order);
    assert_eq!(ended.tasks().len(), 1, "{:?}", ended.states());
    assert_quiet(&site, &ended, "succeeded");
    assert_loaded(&site, "refused");
    let report = site.state(&format!("runs/{}.json", ended.id)).expect("a report");
    assert_eq!(report["attempt"], 1, "a refused start is no attempt");
}

#[test]
fn a_task_that_ends_without_a_report_is_a_failure_whatever_its_exit_code() {
    let site = site();
    for command in ["--help", "no-such-command"] {
        let order = order_in(&site, "silent", |task| task["containerDefinitions"][0]["command"] = json!([command]));
        assert_told(&site, &site.ran(&order), "Errand.NoReport", &["Errand.NoReport"]);
    }
    assert_nothing_loaded(&site, "silent");
}

#[test]
fn a_task_that_hangs_is_told_and_stopped_and_the_next_run_leaves_what_one_clean_run_leaves() {
    let site = site();
    let id = site.begin(&order_in(&site, "stuck", |task| task["containerDefinitions"][0]["stopTimeout"] = json!(2)));
    let container = site.container(&id);
    let asleep = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'select pg_sleep(3)%'";
    seen("the last step", Duration::from_secs(60), || (site.database.value(asleep) == "1").then_some(()));
    assert_docker(&["kill", "--signal", "STOP", &container]);
    let ended = site.ended(&id);
    assert_told(&site, &ended, "Errand.Hung", &["heartbeat"]);
    wait_until_free(&site, "stuck");
    assert_quiet(&site, &site.ran(&site.order("stuck")), "succeeded");
    assert_loaded(&site, "stuck");
}

#[test]
fn a_run_outlives_two_minutes_without_a_way_to_its_state_machine_and_nobody_is_told() {
    let site = site();
    let proxy = Proxy::start(cloud_address(&site));
    let id = site.begin(&order_through(&site, "cut_off", &proxy));
    let asleep = format!("SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'select pg_sleep({})%'", CUT + 4);
    seen("the last step", Duration::from_secs(60), || (site.database.value(&asleep) == "1").then_some(()));
    let before = proxy.connections();
    proxy.refuse(true);
    proxy.cut();
    let _ = answer_within(Duration::from_secs(CUT), || None::<()>);
    assert!(proxy.connections() > before, "a heartbeat found the way cut");
    proxy.refuse(false);
    assert_quiet(&site, &site.ended(&id), "succeeded");
    assert_loaded(&site, "cut_off");
}

#[test]
fn a_run_that_is_never_heard_again_is_told_as_a_hang_and_its_task_ends() {
    let site = site();
    let proxy = Proxy::start(cloud_address(&site));
    let id = site.begin(&order_through(&site, "unheard", &proxy));
    let asleep = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'select pg_sleep(100)%'";
    seen("the statement", Duration::from_secs(60), || (site.database.value(asleep) == "1").then_some(()));
    proxy.refuse(true);
    proxy.cut();
    assert_told(&site, &site.ended(&id), "Errand.Hung", &["heartbeat"]);
    seen("the statement to be cancelled", Duration::from_secs(30), || (site.database.value(asleep) == "0").then_some(()));
}
