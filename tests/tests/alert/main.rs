//! The alerting Lambda as Lambda runs it: its binary, the Runtime API, S3, Secrets Manager and SNS of moto, and servers that stand for Slack,
//! PagerDuty, Teams, SES and a webhook, with bad days as a script says.
#![allow(clippy::panic, reason = "a helper that cannot do its work fails the test that asked for it")]

mod catchup;
mod failure;
mod site;
mod trouble;
mod watchdog;
