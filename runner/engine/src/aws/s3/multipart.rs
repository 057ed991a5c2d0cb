//! Objects of any length, written in parts a few at a time.
//!
//! Small ones become one request. Nothing is there before the end, and [`Multipart::abort`] leaves nothing behind.

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ChecksumAlgorithm, ChecksumType, CompletedMultipartUpload, CompletedPart};
use bytes::{Bytes, BytesMut};
use errand_model::failure::{Failure, FailureKind};
use tokio::task::JoinSet;

use super::Bucket;
use super::write::{WRITE_ID, content_type};
use crate::aws::failure::{of_request, status};

/// Up to this size an object is one request.
const SINGLE: usize = 16 << 20;
/// Size of the first parts.
const PART: usize = 8 << 20;
/// After so many parts they double in size: 10 000 are allowed.
const PARTS_OF_A_SIZE: usize = 2000;
/// Parts of one object on their way at once; one more is being filled.
const PARALLEL: usize = 3;
/// Parts of all objects on their way at once: bounds the memory of uploads side by side.
pub(super) const PARALLEL_IN_ALL: usize = 4;
/// Most attempts to complete while others write the same object.
const CONFLICTS: u32 = 5;
/// Longest time for tidying up.
const ABORT: Duration = Duration::from_secs(20);

/// One object on its way.
pub(crate) struct Multipart {
    bucket: Bucket,
    key: String,
    keep: bool,
    write: String,
    buffer: BytesMut,
    /// Once the object is known to be long.
    upload: Option<String>,
    next_part: usize,
    sending: JoinSet<Result<CompletedPart, Failure>>,
    sent: Vec<CompletedPart>,
}

impl Multipart {
    /// Nothing is asked of a server yet. With `keep`, an object that is there stays.
    pub(crate) fn new(bucket: &Bucket, key: &str, keep: bool) -> Self {
        Self {
            bucket: bucket.clone(),
            key: key.to_owned(),
            keep,
            write: format!("{:032x}", fastrand::u128(..)),
            buffer: BytesMut::new(),
            upload: None,
            next_part: 1,
            sending: JoinSet::new(),
            sent: Vec::new(),
        }
    }

    /// Takes the next bytes; waits while too many parts are on their way.
    ///
    /// Fails with `store::*`; nothing but [`Multipart::abort`] may follow.
    pub(crate) async fn write(&mut self, mut content: &[u8]) -> Result<(), Failure> {
        while !content.is_empty() {
            let limit = if self.upload.is_some() { self.part_size() } else { SINGLE };
            if self.buffer.len() >= limit {
                self.begin().await?;
                self.send_full().await?;
                continue;
            }
            let (now, later) = content.split_at(content.len().min(limit - self.buffer.len()));
            self.buffer.extend_from_slice(now);
            content = later;
        }
        Ok(())
    }

    /// Ends the object; false when one was there that stays.
    ///
    /// Fails with `store::*`; nothing but [`Multipart::abort`] may follow.
    pub(crate) async fn finish(&mut self) -> Result<bool, Failure> {
        let Some(upload) = self.upload.clone() else {
            let content = self.buffer.split().freeze();
            return self.bucket.put(&self.key, content, self.keep).await;
        };
        self.send_full().await?;
        if !self.buffer.is_empty() {
            let rest = self.buffer.split().freeze();
            self.send(&upload, rest).await?;
        }
        while let Some(sent) = self.sending.join_next().await {
            self.sent.push(part_of(sent)?);
        }
        self.sent.sort_by_key(CompletedPart::part_number);
        let created = self.complete(&upload).await?;
        if created {
            self.upload = None;
        } else {
            self.abort().await;
        }
        Ok(created)
    }

    /// Removes the parts that were sent. That it cannot is logged, for what led here matters more.
    pub(crate) async fn abort(&mut self) {
        self.sending.shutdown().await;
        let Some(upload) = self.upload.take() else { return };
        let url = self.bucket.url(&self.key);
        let abort = async {
            let request = self.bucket.client().await?.abort_multipart_upload().bucket(&self.bucket.shared.name);
            let answer = request.key(self.bucket.full(&self.key)).upload_id(&upload).send().await;
            match answer {
                Err(error) if status(&error) != Some(404) => Err(of_request("abort writing", &url, &error)),
                _ => Ok(()),
            }
        };
        let result = tokio::time::timeout(ABORT, abort).await;
        let why = match result {
            Ok(Ok(())) => return,
            Ok(Err(failure)) => failure.to_string(),
            Err(_) => "the server did not answer in time".to_owned(),
        };
        tracing::warn!(object = %url, why, "parts of an unfinished object stay in the bucket until a lifecycle rule removes them");
    }

    fn part_size(&self) -> usize {
        PART << ((self.next_part - 1) / PARTS_OF_A_SIZE)
    }

    /// Tells the server that parts will come, unless that was done.
    async fn begin(&mut self) -> Result<(), Failure> {
        if self.upload.is_some() {
            return Ok(());
        }
        let url = self.bucket.url(&self.key);
        let request = self.bucket.client().await?.create_multipart_upload().bucket(&self.bucket.shared.name);
        let request = request.key(self.bucket.full(&self.key)).content_type(content_type(&self.key)).metadata(WRITE_ID, &self.write);
        let request = request.checksum_algorithm(ChecksumAlgorithm::Crc32).checksum_type(ChecksumType::FullObject);
        let created = request.send().await.map_err(|error| of_request("write", &url, &error))?;
        let Some(upload) = created.upload_id() else {
            let message = format!("cannot write `{url}`: the server gave no id for its parts");
            return Err(Failure::new(FailureKind::Permanent, "store::refused", message).help("the server does not speak S3's protocol"));
        };
        self.upload = Some(upload.to_owned());
        Ok(())
    }

    /// Sends what fills parts.
    async fn send_full(&mut self) -> Result<(), Failure> {
        let Some(upload) = self.upload.clone() else { return Ok(()) };
        while self.buffer.len() >= self.part_size() {
            let size = self.part_size();
            let part = self.buffer.split_to(size).freeze();
            self.send(&upload, part).await?;
        }
        Ok(())
    }

    async fn send(&mut self, upload: &str, content: Bytes) -> Result<(), Failure> {
        while self.sending.len() >= PARALLEL {
            if let Some(sent) = self.sending.join_next().await {
                self.sent.push(part_of(sent)?);
            }
        }
        // The room is never closed; without a place in it a part would still arrive.
        let room = Arc::clone(&self.bucket.shared.room).acquire_owned().await.ok();
        let number = i32::try_from(self.next_part).unwrap_or(i32::MAX);
        self.next_part += 1;
        let part = send_part(self.bucket.clone(), self.key.clone(), upload.to_owned(), number, content);
        self.sending.spawn(async move {
            let sent = part.await;
            drop(room);
            sent
        });
        Ok(())
    }

    async fn complete(&self, upload: &str) -> Result<bool, Failure> {
        let parts = CompletedMultipartUpload::builder().set_parts(Some(self.sent.clone())).build();
        let mut conflicts = 0;
        loop {
            let request = self.bucket.client().await?.complete_multipart_upload().bucket(&self.bucket.shared.name);
            let request = request.key(self.bucket.full(&self.key)).upload_id(upload).multipart_upload(parts.clone());
            let request = request.checksum_type(ChecksumType::FullObject).set_if_none_match(self.keep.then(|| "*".to_owned()));
            let error = match request.send().await {
                Ok(_) => return Ok(true),
                Err(error) => error,
            };
            match status(&error) {
                Some(412) if self.keep => return self.bucket.is_of(&self.key, &self.write).await,
                // The upload is gone: an earlier request may have completed it although its answer was lost.
                Some(404) if self.bucket.is_of(&self.key, &self.write).await? => return Ok(true),
                Some(409) if conflicts < CONFLICTS => {
                    conflicts += 1;
                    tokio::time::sleep(self.bucket.shared.patience.backoff * conflicts).await;
                }
                _ => return Err(of_request("write", &self.bucket.url(&self.key), &error)),
            }
        }
    }
}

async fn send_part(bucket: Bucket, key: String, upload: String, number: i32, content: Bytes) -> Result<CompletedPart, Failure> {
    let request = bucket.client().await?.upload_part().bucket(&bucket.shared.name).key(bucket.full(&key)).upload_id(upload);
    let request = request.part_number(number).checksum_algorithm(ChecksumAlgorithm::Crc32).body(ByteStream::from(content));
    let sent = request.customize().disable_payload_signing().send().await;
    let sent = sent.map_err(|error| of_request("write", &bucket.url(&key), &error))?;
    let part = CompletedPart::builder().part_number(number).set_e_tag(sent.e_tag().map(str::to_owned));
    Ok(part.set_checksum_crc32(sent.checksum_crc32().map(str::to_owned)).build())
}

fn part_of(sent: Result<Result<CompletedPart, Failure>, tokio::task::JoinError>) -> Result<CompletedPart, Failure> {
    sent.unwrap_or_else(|error| Err(Failure::new(FailureKind::Internal, "store::panic", format!("a part was not sent: {error}"))))
}
