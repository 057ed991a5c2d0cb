//! What a request's failure means: one code, kind and help for each.

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use errand_model::failure::{Failure, FailureKind, chain};

/// The status of the answer, if there was one.
pub(super) fn status<E>(error: &SdkError<E, HttpResponse>) -> Option<u16> {
    error.raw_response().map(|response| response.status().as_u16())
}

/// A request that failed for good: `verb` says what was tried with `url`.
pub(super) fn of_request<E>(verb: &str, url: &str, error: &SdkError<E, HttpResponse>) -> Failure
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    let why = |what: &str| format!("cannot {verb} `{url}`: {what}");
    match error {
        SdkError::ServiceError(_) | SdkError::ResponseError(_) => of_answer(verb, url, &Answer::of(error)),
        SdkError::TimeoutError(_) => Failure::new(FailureKind::Transient, "store::timeout", why("the server did not answer in time"))
            .help("see whether the server and the network are well, then run again"),
        _ => {
            let text = chain(error);
            if text.to_lowercase().contains("credential") {
                return Failure::new(FailureKind::Permanent, "store::no_credentials", why(&text))
                    .help("see whether the role or the session of this machine is still valid");
            }
            Failure::new(FailureKind::Transient, "store::unreachable", why(&text))
                .help("see whether the network, a proxy and `endpoint` and `region` of the connection are right")
        }
    }
}

/// What a server said.
struct Answer {
    status: u16,
    code: String,
    message: String,
    request: Option<String>,
    region: Option<String>,
}

impl Answer {
    fn of<E>(error: &SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let header = |name: &str| error.raw_response().and_then(|response| response.headers().get(name)).map(str::to_owned);
        let code = error.code().unwrap_or_default().to_owned();
        let message = error
            .message()
            .map(str::to_owned)
            .unwrap_or_else(|| if code.is_empty() && status(error).is_none() { chain(error) } else { String::new() });
        Self {
            status: status(error).unwrap_or_default(),
            code,
            message,
            request: header("x-amz-request-id"),
            region: header("x-amz-bucket-region"),
        }
    }

    /// Lower case at its start and without a full stop, as messages are.
    fn told(&self) -> String {
        let message = self.message.trim().trim_end_matches('.');
        let mut told: String = match message.chars().next() {
            Some(first) => first.to_lowercase().chain(message.chars().skip(1)).collect(),
            None => format!("the server answered {}", self.status),
        };
        let marks: Vec<&str> =
            [self.code.as_str(), self.request.as_deref().unwrap_or_default()].into_iter().filter(|mark| !mark.is_empty()).collect();
        if !marks.is_empty() {
            let request = if self.code.is_empty() { "request " } else { "" };
            told = format!("{told} ({request}{})", marks.join(", request "));
        }
        told
    }
}

fn of_answer(verb: &str, url: &str, answer: &Answer) -> Failure {
    let bucket = url.trim_start_matches("s3://").split('/').next().unwrap_or_default();
    let (kind, code, help) = match (answer.status, answer.code.as_str()) {
        (_, "NoSuchBucket") => {
            (FailureKind::Definition, "store::no_bucket", "correct `bucket` of the connection, or create the bucket".to_owned())
        }
        (_, "InvalidBucketName") => (FailureKind::Definition, "store::no_bucket", "correct `bucket` of the connection".to_owned()),
        (301 | 307, _) | (_, "PermanentRedirect" | "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException") => {
            let help = match &answer.region {
                Some(region) => format!("set `region: {region}` in the connection"),
                None => "set `region` of the connection to the bucket's".to_owned(),
            };
            (FailureKind::Definition, "store::wrong_region", help)
        }
        (_, "ExpiredToken" | "ExpiredTokenException" | "TokenRefreshRequired" | "RequestExpired") => {
            (FailureKind::Permanent, "store::expired_token", "get new credentials: the session they belong to has ended".to_owned())
        }
        (_, "InvalidAccessKeyId" | "SignatureDoesNotMatch" | "InvalidToken" | "InvalidSecurity") | (401, _) => {
            (FailureKind::Permanent, "store::authentication", "correct the access key, its secret and the session token".to_owned())
        }
        (_, "RequestTimeTooSkewed") => (FailureKind::Permanent, "store::clock", "set the clock of this machine".to_owned()),
        (_, "InvalidObjectState") => {
            (FailureKind::Permanent, "store::archived", "restore the object from its archive, then run again".to_owned())
        }
        (_, code) if code.starts_with("KMS.") => (
            FailureKind::Permanent,
            "store::permission",
            "give the role `kms:Decrypt` and `kms:GenerateDataKey` for the bucket's key".to_owned(),
        ),
        (403, _) | (_, "AccessDenied") => (FailureKind::Permanent, "store::permission", permission(verb, bucket)),
        (412, _) => return changed(url),
        (404, _) | (416, _) => {
            return Failure::new(FailureKind::Transient, "source::changed", format!("cannot {verb} `{url}`: {}", answer.told()))
                .help("it was there when it was listed: files are best left in place until they are loaded");
        }
        (429 | 500..=599, _) | (_, "SlowDown" | "RequestTimeout" | "OperationAborted" | "ConditionalRequestConflict") => {
            (FailureKind::Transient, "store::unavailable", "the server was asked several times; run again later".to_owned())
        }
        _ => (FailureKind::Permanent, "store::refused", "see what the server says, and the policy of the bucket".to_owned()),
    };
    Failure::new(kind, code, format!("cannot {verb} `{url}`: {}", answer.told())).help(help)
}

fn permission(verb: &str, bucket: &str) -> String {
    let (action, of) = match verb {
        "list" => ("s3:ListBucket", format!("arn:aws:s3:::{bucket}")),
        "write" => ("s3:PutObject` and `s3:AbortMultipartUpload", format!("arn:aws:s3:::{bucket}/*")),
        "remove" => ("s3:DeleteObject", format!("arn:aws:s3:::{bucket}/*")),
        _ => ("s3:GetObject` and `s3:ListBucket", format!("arn:aws:s3:::{bucket}/*")),
    };
    format!("give the role `{action}` on `{of}`, or correct `bucket` and `prefix` of the connection")
}

/// An object that was replaced while it was read.
pub(super) fn changed(path: &str) -> Failure {
    Failure::new(FailureKind::Transient, "source::changed", format!("`{path}` changed while it was read"))
        .help("write files under another name and rename them when they are whole")
}

#[cfg(test)]
mod tests {
    use errand_model::failure::FailureKind;

    use super::{Answer, of_answer};

    fn answer(status: u16, code: &str) -> Answer {
        Answer { status, code: code.to_owned(), message: "Said So.".to_owned(), request: Some("R1".to_owned()), region: None }
    }

    #[test]
    fn each_answer_has_its_code_kind_and_help() {
        for (status, code, expected, kind) in [
            (404, "NoSuchBucket", "store::no_bucket", FailureKind::Definition),
            (403, "AccessDenied", "store::permission", FailureKind::Permanent),
            (403, "", "store::permission", FailureKind::Permanent),
            (400, "ExpiredToken", "store::expired_token", FailureKind::Permanent),
            (403, "InvalidAccessKeyId", "store::authentication", FailureKind::Permanent),
            (403, "SignatureDoesNotMatch", "store::authentication", FailureKind::Permanent),
            (403, "RequestTimeTooSkewed", "store::clock", FailureKind::Permanent),
            (403, "InvalidObjectState", "store::archived", FailureKind::Permanent),
            (301, "PermanentRedirect", "store::wrong_region", FailureKind::Definition),
            (400, "AuthorizationHeaderMalformed", "store::wrong_region", FailureKind::Definition),
            (503, "SlowDown", "store::unavailable", FailureKind::Transient),
            (500, "InternalError", "store::unavailable", FailureKind::Transient),
            (412, "PreconditionFailed", "source::changed", FailureKind::Transient),
            (404, "NoSuchKey", "source::changed", FailureKind::Transient),
            (400, "KMS.DisabledException", "store::permission", FailureKind::Permanent),
            (400, "Odd", "store::refused", FailureKind::Permanent),
        ] {
            let failure = of_answer("read", "s3://lake/x.csv", &answer(status, code));
            assert_eq!((failure.code.as_str(), failure.kind), (expected, kind), "{status} {code}");
            assert!(failure.help.is_some() && failure.message.contains("s3://lake/x.csv"), "{failure}");
        }
    }

    #[test]
    fn the_message_is_the_servers_with_its_code_and_request() {
        let failure = of_answer("list", "s3://lake/in/", &answer(403, "AccessDenied"));
        assert_eq!(failure.message, "cannot list `s3://lake/in/`: said So (AccessDenied, request R1)");
        assert!(failure.help.expect("a help").starts_with("give the role `s3:ListBucket` on `arn:aws:s3:::lake`"));
        let failure = of_answer("list", "s3://lake/", &Answer { region: Some("eu-west-1".to_owned()), ..answer(301, "") });
        assert_eq!(failure.help.as_deref(), Some("set `region: eu-west-1` in the connection"));
    }
}
