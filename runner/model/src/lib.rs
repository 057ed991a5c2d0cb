//! What a job, a step and a run report are: pure data.
//!
//! No input or output, no clock, no environment, no async runtime, no driver: everything comes in as an argument.

pub mod decode;
pub mod deployment;
pub mod document;
pub mod failure;
mod foreign;
pub mod interval;
pub mod job;
pub mod order;
pub mod problem;
pub mod report;
pub mod schema;
pub mod template;
pub mod validate;
pub mod value;
pub mod yaml;
