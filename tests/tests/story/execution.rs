//! Executions that are ended from outside of them.

use std::time::Duration;

use e2e::site::{Job, Site, seen};

use crate::outcome::{assert_nothing_loaded, assert_told_once};
use crate::site;

pub(crate) fn jobs() -> Vec<Job> {
    let sleeps = |name: &str| {
        format!("  - id: sleeps\n    sql: {{ text: 'select pg_sleep(120)::text as nothing', materialize: {{ table: {name}.half }} }}\n")
    };
    vec![Job::new("stopped", &sleeps("stopped")), Job::new("out_of_time", &sleeps("out_of_time"))]
}

fn wait_until_asleep(site: &Site, id: &str, schema: &str) {
    let _ = site.container(id);
    seen("the statement", Duration::from_secs(60), || {
        let asleep =
            format!("SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%{schema}%pg_sleep(120)%' AND pid <> pg_backend_pid()");
        (site.database.value(&asleep) != "0").then_some(())
    });
}

#[test]
fn an_execution_that_a_person_stops_ends_its_task_and_is_told_once() {
    let site = site();
    let started = site.errand(&["start", "stopped"]).expect_code(0).stdout;
    let id = started.trim();
    wait_until_asleep(&site, id, "stopped");
    let stopped = site.errand(&["stop", id]).expect_code(0).stdout;
    assert!(stopped.contains("is stopped") && stopped.contains("stopped ("), "{stopped}");
    let ended = site.ended(id);
    assert_eq!(ended.status, "ABORTED", "{ended:#?}");
    assert_told_once(&site, &ended, &["stopped"]);
    assert_nothing_loaded(&site, "stopped");
}

#[test]
fn an_execution_that_times_out_as_a_whole_ends_its_task_and_is_told_once() {
    let site = site();
    let id = site.begin_limited(&site.order("out_of_time"), 12);
    wait_until_asleep(&site, &id, "out_of_time");
    let ended = site.ended(&id);
    assert_eq!(ended.status, "TIMED_OUT", "{ended:#?}");
    assert_told_once(&site, &ended, &["out_of_time"]);
    assert_nothing_loaded(&site, "out_of_time");
}
