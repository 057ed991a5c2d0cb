//! Clients of AWS: one configuration, bounded in time, tried again a bounded number of times.

use std::time::Duration;

use aws_config::BehaviorVersion;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use errand_model::failure::chain;

use crate::settings::Settings;

/// What the Lambda talks to.
#[derive(Clone, Debug)]
pub(crate) struct Clients {
    pub(crate) s3: aws_sdk_s3::Client,
    pub(crate) secrets: aws_sdk_secretsmanager::Client,
    pub(crate) sns: aws_sdk_sns::Client,
    pub(crate) ses: aws_sdk_sesv2::Client,
    pub(crate) states: aws_sdk_sfn::Client,
}

impl Clients {
    pub(crate) async fn connect(settings: &Settings) -> Self {
        let shared = aws_config::defaults(BehaviorVersion::v2026_01_12())
            .timeout_config(
                TimeoutConfig::builder()
                    .connect_timeout(Duration::from_secs(3))
                    .read_timeout(Duration::from_secs(8))
                    .operation_timeout(Duration::from_secs(20))
                    .build(),
            )
            .retry_config(RetryConfig::standard().with_max_attempts(4).with_initial_backoff(Duration::from_millis(200)))
            .load()
            .await;
        let s3 = aws_sdk_s3::config::Builder::from(&shared).force_path_style(settings.path_style).build();
        // Whether a message went out twice is decided in one place: `send`.
        let once = RetryConfig::disabled();
        let sns = aws_sdk_sns::config::Builder::from(&shared).retry_config(once.clone()).build();
        let ses = aws_sdk_sesv2::config::Builder::from(&shared).retry_config(once).build();
        Self {
            s3: aws_sdk_s3::Client::from_conf(s3),
            secrets: aws_sdk_secretsmanager::Client::new(&shared),
            sns: aws_sdk_sns::Client::from_conf(sns),
            ses: aws_sdk_sesv2::Client::from_conf(ses),
            states: aws_sdk_sfn::Client::new(&shared),
        }
    }
}

/// What a service answered: its code and its message, else why it did not answer.
pub(crate) fn answer<E>(error: &aws_sdk_s3::error::SdkError<E, aws_sdk_s3::config::http::HttpResponse>) -> String
where
    E: aws_sdk_s3::error::ProvideErrorMetadata + std::error::Error + 'static,
{
    use aws_sdk_s3::error::ProvideErrorMetadata;
    match (error.code(), error.message()) {
        (Some(code), Some(message)) => format!("{} ({code})", message.trim_end_matches('.')),
        (Some(code), None) => code.to_owned(),
        (None, _) => chain(error),
    }
}
