//! What a job repository at a commit asks of a stack, as data: inputs of executions, schedules, and the plan that brings them in step.
//!
//! Pure: asks no service and prints nothing.

pub(crate) mod cron;
pub(crate) mod name;
pub(crate) mod order;
pub(crate) mod plan;
