//! What the clients of all services but S3 have in common: limits of time, and what a refusal means.

use std::time::Duration;

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use errand_model::failure::{Failure, FailureKind, chain};

use super::failure::status;
use super::trust;

/// Longest wait for a connection.
const CONNECT: Duration = Duration::from_secs(5);

/// How long one request may take, and how often the SDK tries it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Longest time of one attempt.
    pub(super) attempt: Duration,
    /// Most attempts; 1 for those who count for themselves.
    pub(super) attempts: u32,
}

/// For calls that people wait for.
pub(super) const PATIENT: Limits = Limits { attempt: Duration::from_secs(20), attempts: 5 };

/// Region and credentials as every AWS tool finds them; `region` wins where it is named.
///
/// Fails as `Definition` with `aws::ca_file`.
pub(super) async fn config(region: Option<&str>, limits: Limits) -> Result<SdkConfig, Failure> {
    let timeouts = TimeoutConfig::builder().connect_timeout(CONNECT).operation_attempt_timeout(limits.attempt).build();
    let retry = if limits.attempts > 1 {
        RetryConfig::standard().with_max_attempts(limits.attempts).with_initial_backoff(Duration::from_millis(500))
    } else {
        RetryConfig::disabled()
    };
    let loader = aws_config::defaults(BehaviorVersion::v2026_01_12()).timeout_config(timeouts).retry_config(retry);
    let loader = match trust::client()? {
        Some(client) => loader.http_client(client),
        None => loader,
    };
    Ok(match region {
        Some(region) => loader.region(Region::new(region.to_owned())).load().await,
        None => loader.load().await,
    })
}

/// The word of AWS for what is wrong; empty where there was no answer.
pub(super) fn code<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> &str {
    error.code().unwrap_or_default()
}

/// Whether the service says to ask more slowly.
pub(super) fn is_throttled<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> bool {
    status(error) == Some(429) || code(error).contains("Throttl") || code(error) == "TooManyRequestsException"
}

/// A request that failed for good. `verb` says what was tried with `thing`, `action` is the permission that it takes.
pub(super) fn failure<E>(verb: &str, thing: &str, action: &str, error: &SdkError<E, HttpResponse>) -> Failure
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    let of = |kind, word: &str, why: String, help: String| Failure::new(kind, word, format!("cannot {verb} `{thing}`: {why}")).help(help);
    let (code, throttled) = (code(error), is_throttled(error));
    let told = error.message().map_or_else(|| chain(error), |message| first_low(message.trim().trim_end_matches('.')));
    let why = if code.is_empty() { told } else { format!("{told} ({code})") };
    match error {
        SdkError::TimeoutError(_) => of(
            FailureKind::Transient,
            "aws::timeout",
            "the service did not answer in time".to_owned(),
            "see whether the network of the task reaches the service, then run again".to_owned(),
        ),
        SdkError::ServiceError(_) | SdkError::ResponseError(_) => match status(error).unwrap_or_default() {
            _ if throttled => of(FailureKind::Transient, "aws::throttled", why, "run again later".to_owned()),
            _ if code.contains("AccessDenied") || code == "UnauthorizedOperation" => {
                of(FailureKind::Permanent, "aws::permission", why, format!("give the role `{action}` on it"))
            }
            _ if code.contains("ExpiredToken") || code.contains("UnrecognizedClient") || code.contains("InvalidSignature") => {
                of(FailureKind::Permanent, "aws::no_credentials", why, "get new credentials, or give the task a role".to_owned())
            }
            500..=599 => of(FailureKind::Transient, "aws::unavailable", why, "run again later".to_owned()),
            _ => of(FailureKind::Permanent, "aws::refused", why, "see what the service says".to_owned()),
        },
        _ => {
            let why = chain(error);
            if why.to_lowercase().contains("credential") {
                let help = "give the task or machine a role, or set `AWS_PROFILE` or `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`";
                return of(FailureKind::Permanent, "aws::no_credentials", why, help.to_owned());
            }
            of(FailureKind::Transient, "aws::unreachable", why, "see whether network, proxy and region are right".to_owned())
        }
    }
}

fn first_low(message: &str) -> String {
    match message.chars().next() {
        Some(first) => first.to_lowercase().chain(message.chars().skip(1)).collect(),
        None => "the service says no more".to_owned(),
    }
}
