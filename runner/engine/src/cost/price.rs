//! Public prices of us-east-1 of June 2026 in US dollars, Linux on ARM64. Without taxes and savings plans; of what is free up to an amount, only
//! transitions are counted as free.
//!
//! <https://aws.amazon.com/fargate/pricing/>, <https://aws.amazon.com/vpc/pricing/>, <https://aws.amazon.com/step-functions/pricing/>

/// Where these prices hold.
pub(crate) const REGION: &str = "us-east-1";
/// The month that they are of.
pub(crate) const AS_OF: &str = "2026-06";

/// An hour of a virtual CPU.
pub(crate) const VCPU_HOUR: f64 = 0.032_38;
/// An hour of 1024 MB.
pub(crate) const GB_HOUR: f64 = 0.003_56;
/// What Fargate Spot costs of both. AWS moves it, between 0.3 and 0.5 of them: this is the dear end.
pub(crate) const SPOT_SHARE: f64 = 0.5;
/// An hour of a public IPv4 address, on Spot too.
pub(crate) const ADDRESS_HOUR: f64 = 0.005;

/// One transition of a standard state machine.
pub(crate) const TRANSITION: f64 = 0.000_025;
/// Transitions that are free each month, in an account.
pub(crate) const FREE_TRANSITIONS: f64 = 4_000.0;
/// One call of a function.
pub(crate) const CALL: f64 = 0.000_000_2;
/// A second of a function with 1024 MB, on ARM64.
pub(crate) const FUNCTION_GB_SECOND: f64 = 0.000_013_3;
/// A secret for a month.
pub(crate) const SECRET: f64 = 0.40;
/// An alarm for a month.
pub(crate) const ALARM: f64 = 0.10;
/// A list of a bucket, or a write to it.
pub(crate) const BUCKET_LIST: f64 = 0.000_005;
/// 1024 MB in a bucket for a month.
pub(crate) const BUCKET_GB: f64 = 0.023;

/// An hour of a task.
pub(crate) fn task_hour(vcpu: f64, gb: f64, spot: bool) -> f64 {
    let share = if spot { SPOT_SHARE } else { 1.0 };
    share * (vcpu * VCPU_HOUR + gb * GB_HOUR) + ADDRESS_HOUR
}
