//! How a job runs: checkout, plan, steps, warehouse, report; and the command line `errand`.
//!
//! Layers, arrows point down only: `cli` → `run` → `step` → `source`, `warehouse`, `checkout`, `secret`, `report` → `store` → `aws`.

mod aws;
mod batch;
pub mod checkout;
pub mod cli;
pub mod clock;
mod cost;
mod deploy;
pub mod log;
pub mod output;
pub mod progress;
pub mod pulse;
pub mod report;
pub mod repository;
pub mod run;
pub mod secret;
pub mod settings;
pub mod source;
pub mod step;
pub mod store;
mod task;
pub mod warehouse;
