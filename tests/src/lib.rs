//! What black-box tests need: the built `errand` in a clean environment, job repositories with history, and real git servers.
//!
//! Must not link the engine: these tests see of Errand only what a user sees. A missing program fails the test and names the
//! command that installs it; nothing is skipped.
#![allow(clippy::panic, reason = "a harness that cannot do its work fails the test that asked for it")]

pub mod asl;
pub mod aws_server;
pub mod clock;
pub mod cloud;
pub mod condition;
pub mod container;
pub mod errand;
pub mod git_server;
pub mod lambda;
pub mod moto;
pub mod postgres;
pub mod program;
pub mod project;
pub mod proxy;
pub mod receiver;
pub mod repository;
pub mod s3;
pub mod s3_fault;
pub mod services;
pub mod site;
pub mod snowflake;
pub mod snowflake_server;
pub mod tls_front;
