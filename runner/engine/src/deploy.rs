//! What a job repository at a commit asks of a stack, as data: schedules, and the plan that brings them in step.
//!
//! Pure: asks no service and prints nothing.

pub(crate) mod cron;
pub(crate) mod plan;
