//! What a run in a task of a state machine has beside a run by hand: heartbeats while it makes progress, claims on its interval and its
//! group, and an answer that arrives once.
//!
//! Must not know how a job runs, nor print.

pub(crate) mod answer;
pub(crate) mod claim;
pub(crate) mod lease;
pub(crate) mod lifeline;
