//! SNS: a subject of at most 100 printable ASCII characters, and text of at most 256 KB
//! (<https://docs.aws.amazon.com/sns/latest/api/API_Publish.html>).

use async_trait::async_trait;
use aws_sdk_sns::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_sns::types::MessageAttributeValue;

use super::{Channel, Trouble};
use crate::aws::answer;
use crate::message::Message;
use crate::text::{cut, one_line};

/// Most characters of a subject.
const SUBJECT: usize = 100;
/// Most characters of the text: at four bytes each, below the limit.
const TEXT: usize = 60_000;

pub(super) struct Sns {
    pub(super) client: aws_sdk_sns::Client,
    pub(super) topic: String,
}

#[async_trait]
impl Channel for Sns {
    async fn send(&self, message: &Message) -> Result<(), Trouble> {
        let attribute = |value: &str| MessageAttributeValue::builder().data_type("String").string_value(value).build();
        let mut request = self.client.publish().topic_arn(&self.topic).subject(subject(message)).message(cut(&message.text(), TEXT));
        for (name, value) in [("event", message.subject.as_str()), ("job", &message.job), ("environment", &message.environment)] {
            let value = attribute(value).map_err(|error| Trouble::never(format!("no message for SNS: {error}")))?;
            request = request.message_attributes(name, value);
        }
        match request.send().await {
            Ok(_) => Ok(()),
            Err(error) => {
                let why = format!("SNS: {}", answer(&error));
                let is_refused = matches!(&error, SdkError::ServiceError(service) if service.raw().status().as_u16() < 500);
                let is_throttled = matches!(error.code(), Some("Throttled" | "ThrottlingException" | "KMSThrottling"));
                Err(if is_refused && !is_throttled { Trouble::never(why) } else { Trouble::soon(why) })
            }
        }
    }
}

/// ASCII, one line, beginning with a letter or a digit.
pub(super) fn subject(message: &Message) -> String {
    let ascii: String = one_line(&message.title).chars().map(|c| if c.is_ascii() { c } else { '?' }).collect();
    let subject = ascii.trim_start_matches(|c: char| !c.is_ascii_alphanumeric());
    if subject.len() <= SUBJECT { subject.to_owned() } else { format!("{}...", subject[..SUBJECT - 3].trim_end()) }
}
