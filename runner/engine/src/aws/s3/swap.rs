//! Small objects that several writers change in turn: each change names the content that it replaces.

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::ChecksumAlgorithm;
use bytes::Bytes;
use errand_model::failure::Failure;

use super::Bucket;
use super::write::{WRITE_ID, content_type};
use crate::aws::failure::{of_request, status};

/// Most attempts while others write the same object.
const CONFLICTS: u32 = 5;

impl Bucket {
    /// The content of an object and what names this very content; none when it is not there.
    ///
    /// Fails with `store::*`.
    pub(crate) async fn get_version(&self, key: &str) -> Result<Option<(Bytes, String)>, Failure> {
        let request = self.client().await?.get_object().bucket(&self.shared.name).key(self.full(key));
        let answer = match request.send().await {
            Ok(answer) => answer,
            Err(error)
                if status(&error) == Some(404)
                    && error.as_service_error().is_some_and(aws_sdk_s3::operation::get_object::GetObjectError::is_no_such_key) =>
            {
                return Ok(None);
            }
            Err(error) => return Err(of_request("read", &self.url(key), &error)),
        };
        let version = answer.e_tag().unwrap_or_default().to_owned();
        let body = tokio::time::timeout(self.shared.patience.stall, answer.body.collect()).await;
        let cut = || {
            let message = format!("cannot read `{}`: its body broke off", self.url(key));
            Failure::new(errand_model::failure::FailureKind::Transient, "store::cut", message).help("run again")
        };
        Ok(Some((body.map_err(|_| cut())?.map_err(|_| cut())?.into_bytes(), version)))
    }

    /// Writes an object in place of the content that `expected` names, or as a new one where none is expected. What names the new content;
    /// none when another writer was faster.
    ///
    /// Fails with `store::*`.
    pub(crate) async fn swap(&self, key: &str, content: Bytes, expected: Option<&str>) -> Result<Option<String>, Failure> {
        let write = format!("{:032x}", fastrand::u128(..));
        let mut conflicts = 0;
        loop {
            let request = self.client().await?.put_object().bucket(&self.shared.name).key(self.full(key));
            let request = request.content_type(content_type(key)).metadata(WRITE_ID, &write).checksum_algorithm(ChecksumAlgorithm::Crc32);
            let request = match expected {
                Some(version) => request.if_match(version),
                None => request.if_none_match("*"),
            };
            let request = request.body(ByteStream::from(content.clone()));
            let error = match request.customize().disable_payload_signing().send().await {
                Ok(answer) => return Ok(Some(answer.e_tag().unwrap_or_default().to_owned())),
                Err(error) => error,
            };
            match status(&error) {
                // A repeated request finds what the first one wrote, whose answer was lost.
                Some(412) => return self.written(key, &write).await,
                // With `If-Match`, S3 says so of an object that is gone.
                Some(404) if expected.is_some() => return Ok(None),
                Some(409) if conflicts < CONFLICTS => {
                    conflicts += 1;
                    tokio::time::sleep(self.shared.patience.backoff * conflicts).await;
                }
                _ => return Err(of_request("write", &self.url(key), &error)),
            }
        }
    }

    /// What names the object, if it comes from this very write.
    async fn written(&self, key: &str, write: &str) -> Result<Option<String>, Failure> {
        let request = self.client().await?.head_object().bucket(&self.shared.name).key(self.full(key));
        match request.send().await {
            Ok(head) if head.metadata().and_then(|metadata| metadata.get(WRITE_ID)).is_some_and(|found| found == write) => {
                Ok(Some(head.e_tag().unwrap_or_default().to_owned()))
            }
            Ok(_) => Ok(None),
            Err(error) if status(&error) == Some(404) => Ok(None),
            Err(error) => Err(of_request("look at", &self.url(key), &error)),
        }
    }
}
