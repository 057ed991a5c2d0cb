//! What can become of a run, with everything real at once: schedule, state machine, task, image, git server, warehouse, secrets, logs,
//! reports, the alerting function, and those who are told.
//!
//! One process: a stack takes most of a minute to come up, and all stories share it. Each has a job, tables and people of its own.
//! `tests/images && tests/services run cargo test --workspace --test story -- --test-threads 6`.
#![allow(clippy::tests_outside_test_module, reason = "a test binary is tests")]
#![allow(clippy::panic, reason = "a harness that cannot do its work fails the test that asked for it")]

mod alert;
mod execution;
mod outcome;
mod schedule;
mod step;
mod task;

use std::sync::{Arc, Mutex, Weak};

use e2e::site::{Pace, Site};

/// Everything. The first story brings it up, the last one takes it down.
pub(crate) fn site() -> Arc<Site> {
    static SITE: Mutex<Weak<Site>> = Mutex::new(Weak::new());
    let mut known = SITE.lock().expect("the site came up: the first story that failed says why it did not");
    if let Some(site) = known.upgrade() {
        return site;
    }
    let mut site = Site::start(Pace::Short, |due| {
        [schedule::jobs(due), step::jobs(), task::jobs(), execution::jobs(), alert::jobs()].into_iter().flatten().collect()
    });
    site.stack.push_python();
    site.put_file("refunds.csv", REFUNDS);
    let _ = site.deploy();
    schedule::forget_two(&site);
    let site = Arc::new(site);
    *known = Arc::downgrade(&site);
    site
}

/// An input file that a check of every job refuses.
pub(crate) const REFUNDS: &str = "order_id,ordered_on,amount,note\n1,2026-10-01,19.90,a sale\n2,2026-10-01,-19.90,a refund\n";
