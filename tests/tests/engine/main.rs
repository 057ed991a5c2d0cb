//! The engine as a user meets it: one job, its data, the built `errand`; then exit code, report and tables.
#![allow(clippy::panic, reason = "a helper that cannot do its work fails the test that asked for it")]

mod cancel;
mod check;
mod command;
mod contract;
mod export;
mod failure;
mod graph;
mod ingest;
mod interval;
mod materialize;
mod reject;
mod retry;
mod safety;
mod sql;
