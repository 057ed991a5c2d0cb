//! A run as a task of a state machine: heartbeats, claims, secrets, signals, and an answer that arrives once.
//!
//! S3 and Secrets Manager are moto's, which `tests/services start` starts; Step Functions is a scripted server: moto knows no task tokens.
#![allow(clippy::panic, reason = "a helper that cannot do its work fails the test that asked for it")]

mod answer;
mod claim;
mod life;
mod secret;
mod stage;
