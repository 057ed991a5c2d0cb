//! Amazon's services; the only place that uses their SDK.
//!
//! Region, credentials and proxies that the project file does not name are found as every AWS tool finds them: in the `AWS_*` variables, the
//! shared configuration files, and the metadata of the container or machine. The SDK reads these itself, the one exception from the rule that
//! only `settings` reads the environment. Functions here need a runtime that outlives the connections they make.

pub(crate) mod ecs;
mod failure;
pub(crate) mod s3;
pub(crate) mod scheduler;
pub(crate) mod secrets;
mod service;
pub(crate) mod step_functions;
pub(crate) mod trust;
