//! Settings: the only place that reads the environment. Region, credentials and endpoints of AWS are found by its SDK.

use tracing_subscriber::EnvFilter;

/// Every environment variable that the Lambda reads.
pub(crate) mod variable {
    /// Environment of `errand.yaml`.
    pub(crate) const ENVIRONMENT: &str = "ERRAND_ENVIRONMENT";
    /// Bucket with run reports, claims, `deployment.json` and alerts.
    pub(crate) const STATE_BUCKET: &str = "ERRAND_STATE_BUCKET";
    /// What their keys begin with; nothing without it.
    pub(crate) const STATE_PREFIX: &str = "ERRAND_STATE_PREFIX";
    /// What names in Secrets Manager begin with; `errand/<environment>/` without it.
    pub(crate) const SECRET_PREFIX: &str = "ERRAND_SECRET_PREFIX";
    /// Sender of e-mail: an identity that SES has verified. Without it, contacts with `email` cannot be told that way.
    pub(crate) const EMAIL_FROM: &str = "ERRAND_EMAIL_FROM";
    /// ARN of the state machine that runs jobs. Without it, missed intervals are not started, whatever `catchup` says.
    pub(crate) const STATE_MACHINE: &str = "ERRAND_STATE_MACHINE";
    /// Log group of the tasks, for links; `/errand/<environment>` without it.
    pub(crate) const LOG_GROUP: &str = "ERRAND_LOG_GROUP";
    /// Where PagerDuty takes events; another one for accounts in its EU region: `https://events.eu.pagerduty.com`.
    pub(crate) const PAGERDUTY_URL: &str = "ERRAND_PAGERDUTY_URL";
    /// Region, set by Lambda; for links.
    pub(crate) const REGION: &str = "AWS_REGION";
    /// Endpoint of AWS that a test sets; a server without a host name for each bucket.
    pub(crate) const ENDPOINT: &str = "AWS_ENDPOINT_URL";
    /// The same, for S3 alone.
    pub(crate) const S3_ENDPOINT: &str = "AWS_ENDPOINT_URL_S3";
    /// What to log, in the words of `tracing_subscriber::EnvFilter`.
    pub(crate) const LOG: &str = "RUST_LOG";
}

/// Where PagerDuty takes events of accounts outside of its EU region.
const PAGERDUTY: &str = "https://events.pagerduty.com";

/// What the environment says.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) bucket: String,
    /// Empty, or ending in `/`.
    pub(crate) prefix: String,
    pub(crate) secret_prefix: String,
    pub(crate) email_from: Option<String>,
    pub(crate) state_machine: Option<String>,
    pub(crate) log_group: String,
    pub(crate) pagerduty_url: String,
    pub(crate) region: String,
    /// Whether buckets are part of the path: servers other than AWS.
    pub(crate) path_style: bool,
    pub(crate) log_filter: String,
}

impl Settings {
    /// Fails naming the variable that is missing.
    pub(crate) fn from_environment() -> Result<Self, String> {
        Self::from(variable_of)
    }

    fn from(read: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        let needed = |name: &str| read(name).ok_or_else(|| format!("the environment variable `{name}` is not set"));
        let environment = needed(variable::ENVIRONMENT)?;
        let prefix = read(variable::STATE_PREFIX).map(|prefix| prefix.trim_matches('/').to_owned()).unwrap_or_default();
        let log_filter = read(variable::LOG).filter(|filter| EnvFilter::try_new(filter).is_ok()).unwrap_or_else(|| "info".to_owned());
        Ok(Self {
            bucket: needed(variable::STATE_BUCKET)?,
            prefix: if prefix.is_empty() { prefix } else { format!("{prefix}/") },
            secret_prefix: read(variable::SECRET_PREFIX).unwrap_or_else(|| format!("errand/{environment}/")),
            email_from: read(variable::EMAIL_FROM),
            state_machine: read(variable::STATE_MACHINE),
            log_group: read(variable::LOG_GROUP).unwrap_or_else(|| format!("/errand/{environment}")),
            pagerduty_url: read(variable::PAGERDUTY_URL).map_or_else(|| PAGERDUTY.to_owned(), |url| url.trim_end_matches('/').to_owned()),
            region: read(variable::REGION).unwrap_or_else(|| "us-east-1".to_owned()),
            path_style: read(variable::ENDPOINT).or_else(|| read(variable::S3_ENDPOINT)).is_some(),
            log_filter,
        })
    }
}

/// A variable that is set to nothing is not set.
#[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
fn variable_of(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::Settings;

    fn settings(pairs: &[(&str, &str)]) -> Result<Settings, String> {
        Settings::from(|name| pairs.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn what_is_left_out_follows_from_the_environment() {
        let settings = settings(&[("ERRAND_ENVIRONMENT", "prod"), ("ERRAND_STATE_BUCKET", "b"), ("RUST_LOG", "=[")]).expect("enough");
        assert_eq!((settings.prefix.as_str(), settings.secret_prefix.as_str()), ("", "errand/prod/"));
        assert_eq!((settings.log_group.as_str(), settings.log_filter.as_str(), settings.path_style), ("/errand/prod", "info", false));
    }

    #[test]
    fn a_missing_variable_is_named() {
        assert_eq!(settings(&[]).expect_err("missing"), "the environment variable `ERRAND_ENVIRONMENT` is not set");
        assert!(settings(&[("ERRAND_ENVIRONMENT", "x")]).expect_err("missing").contains("ERRAND_STATE_BUCKET"));
    }

    #[test]
    fn a_prefix_ends_in_one_slash() {
        let with = |prefix| {
            settings(&[("ERRAND_ENVIRONMENT", "e"), ("ERRAND_STATE_BUCKET", "b"), ("ERRAND_STATE_PREFIX", prefix)]).map(|it| it.prefix)
        };
        assert_eq!(["", "/", "a", "a/b/"].map(with), ["", "", "a/", "a/b/"].map(|it| Ok(it.to_owned())));
    }
}
