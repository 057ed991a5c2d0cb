//! The client of one bucket: where it goes, how long it waits, how often it tries.

use std::time::Duration;

use aws_config::BehaviorVersion;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{ProvideCredentials, Region, StalledStreamProtectionConfig};
use errand_model::failure::{Failure, FailureKind, chain};

use crate::aws::trust;

/// How long a server is waited for, and how often it is asked.
#[derive(Clone, Debug)]
pub struct Patience {
    /// Longest wait for a connection.
    pub connect: Duration,
    /// Longest wait for the first byte of an answer, the sending of a part included.
    pub answer: Duration,
    /// Longest wait for the next bytes of a body.
    pub stall: Duration,
    /// Most attempts of one request, and most requests for one window of an object.
    pub attempts: u32,
    /// First wait between two attempts; each next one is twice as long.
    pub backoff: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            answer: Duration::from_mins(2),
            stall: Duration::from_secs(20),
            attempts: 6,
            backoff: Duration::from_millis(500),
        }
    }
}

/// Region that servers take which have none.
const NO_REGION: &str = "us-east-1";

/// Finds region and credentials, and makes a client; nothing is asked of S3 yet.
pub(super) async fn connect(region: Option<&str>, endpoint: Option<&str>, patience: &Patience) -> Result<Client, Failure> {
    let loader = aws_config::defaults(BehaviorVersion::v2026_01_12())
        .timeout_config(TimeoutConfig::builder().connect_timeout(patience.connect).read_timeout(patience.answer).build())
        .retry_config(RetryConfig::standard().with_max_attempts(patience.attempts).with_initial_backoff(patience.backoff))
        // What is read has a limit of its own, with resumption.
        .stalled_stream_protection(
            StalledStreamProtectionConfig::enabled().upload_enabled(true).download_enabled(false).grace_period(patience.stall).build(),
        );
    let loader = match trust::client()? {
        Some(client) => loader.http_client(client),
        None => loader,
    };
    let loader = match region {
        Some(region) => loader.region(Region::new(region.to_owned())),
        None => loader,
    };
    let shared = loader.load().await;
    let provider = shared.credentials_provider().ok_or_else(|| no_credentials("none are configured"))?;
    provider.provide_credentials().await.map_err(|error| {
        let why = chain(&error);
        // The SDK draws a list of all places where it looked.
        no_credentials(if why.contains("no credentials found") {
            "none in the environment, its files, the container and the machine"
        } else {
            &why
        })
    })?;
    let mut config = aws_sdk_s3::config::Builder::from(&shared);
    if let Some(endpoint) = endpoint {
        // Other servers rarely have a host name for each bucket.
        config = config.endpoint_url(endpoint).force_path_style(true);
    }
    if shared.region().is_none() {
        match endpoint {
            Some(_) => config = config.region(Region::from_static(NO_REGION)),
            None => {
                return Err(Failure::new(FailureKind::Definition, "store::no_region", "no region of AWS is set")
                    .help("set `region` of the connection, or the variable `AWS_REGION`"));
            }
        }
    }
    Ok(Client::from_conf(config.build()))
}

fn no_credentials(why: &str) -> Failure {
    Failure::new(FailureKind::Permanent, "store::no_credentials", format!("no credentials for AWS: {why}"))
        .help("give the task or machine a role, or set `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`, or `AWS_PROFILE`")
}

/// An endpoint is a URL of a host, encrypted unless it is this machine.
pub(super) fn check_endpoint(endpoint: &str) -> Result<(), Failure> {
    let wrong = |message: String, help: &str| Err(Failure::new(FailureKind::Definition, "store::endpoint", message).help(help));
    let (scheme, rest) = endpoint.split_once("://").unwrap_or(("", endpoint));
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = match authority.strip_prefix('[') {
        Some(six) => six.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    if host.is_empty() || authority.contains('@') || !matches!(scheme, "https" | "http") {
        return wrong(format!("`{endpoint}` is no endpoint"), "write it as in `https://s3.example.com`, without user and password");
    }
    let is_local = host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    if scheme == "http" && !is_local {
        return wrong(format!("the endpoint `{endpoint}` is not encrypted"), "use `https`; only this machine may be reached by `http`");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::check_endpoint;

    #[test]
    fn only_this_machine_is_reached_without_encryption() {
        for right in
            ["https://s3.example.com", "https://s3.example.com:9000/x", "http://127.0.0.1:9000", "http://[::1]:1", "http://localhost"]
        {
            check_endpoint(right).expect(right);
        }
        for wrong in
            ["", "s3.example.com", "http://s3.example.com", "http://127.0.0.1.example.com", "ftp://x", "https://", "http://a@localhost"]
        {
            assert_eq!(check_endpoint(wrong).expect_err(wrong).code, "store::endpoint");
        }
    }
}
