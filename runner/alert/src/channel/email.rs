//! E-mail, by SES: plain text, from the sender that the Lambda's environment names.

use async_trait::async_trait;
use aws_sdk_sesv2::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_sesv2::types::{Body, Content, Destination, EmailContent, Message as Mail};

use super::{Channel, Trouble};
use crate::aws::answer;
use crate::message::Message;
use crate::text::{cut, one_line};

/// Most characters of a subject.
const SUBJECT: usize = 200;
/// Most characters of the text.
const TEXT: usize = 100_000;

pub(super) struct Email {
    pub(super) client: aws_sdk_sesv2::Client,
    pub(super) from: String,
    pub(super) to: Vec<String>,
}

#[async_trait]
impl Channel for Email {
    async fn send(&self, message: &Message) -> Result<(), Trouble> {
        let content = content(message).map_err(|error| Trouble::never(format!("no e-mail: {error}")))?;
        let to = Destination::builder().set_to_addresses(Some(self.to.clone())).build();
        let request = self.client.send_email().from_email_address(&self.from).destination(to).content(content);
        match request.send().await {
            Ok(_) => Ok(()),
            Err(error) => {
                let why = format!("SES: {}", answer(&error));
                let is_refused = matches!(&error, SdkError::ServiceError(service) if service.raw().status().as_u16() < 500);
                let is_throttled = matches!(error.code(), Some("TooManyRequestsException" | "LimitExceededException"));
                Err(if is_refused && !is_throttled { Trouble::never(why) } else { Trouble::soon(why) })
            }
        }
    }
}

fn content(message: &Message) -> Result<EmailContent, aws_sdk_sesv2::error::BuildError> {
    let utf8 = |text: String| Content::builder().charset("UTF-8").data(text).build();
    let body = Body::builder().text(utf8(cut(&message.text(), TEXT))?).build();
    Ok(EmailContent::builder().simple(Mail::builder().subject(utf8(subject(message))?).body(body).build()).build())
}

/// One line: a line end would begin another header.
pub(super) fn subject(message: &Message) -> String {
    cut(&format!("[errand] {}", one_line(&message.title)), SUBJECT)
}
