//! Definitions as they are written: every field optional, every value with its place. The second stage makes jobs of them.

pub mod connection;
pub mod job;
pub mod project;
pub mod step;
