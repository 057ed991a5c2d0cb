//! Small objects written in one request, and objects removed.

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ChecksumAlgorithm, Delete, ObjectIdentifier};
use bytes::Bytes;
use errand_model::failure::{Failure, FailureKind};

use super::Bucket;
use crate::aws::failure::{of_request, status};

/// Most keys of one request to remove.
const KEYS: usize = 1000;
/// Most attempts while others write the same object.
const CONFLICTS: u32 = 5;
/// Names the write that an object comes from: an answer that was lost and asked for again is told from somebody else's object.
pub(super) const WRITE_ID: &str = "errand-write";

impl Bucket {
    /// Writes an object. With `keep`, one that is there stays, and the answer is false.
    ///
    /// Fails with `store::*`.
    pub(crate) async fn put(&self, key: &str, content: Bytes, keep: bool) -> Result<bool, Failure> {
        let write = format!("{:032x}", fastrand::u128(..));
        let mut conflicts = 0;
        loop {
            let request = self.client().await?.put_object().bucket(&self.shared.name).key(self.full(key));
            let request = request.content_type(content_type(key)).metadata(WRITE_ID, &write).checksum_algorithm(ChecksumAlgorithm::Crc32);
            let request = request.body(ByteStream::from(content.clone())).set_if_none_match(keep.then(|| "*".to_owned()));
            let error = match request.customize().disable_payload_signing().send().await {
                Ok(_) => return Ok(true),
                Err(error) => error,
            };
            match status(&error) {
                Some(412) if keep => return self.is_of(key, &write).await,
                Some(409) if conflicts < CONFLICTS => {
                    conflicts += 1;
                    tokio::time::sleep(self.shared.patience.backoff * conflicts).await;
                }
                _ => return Err(of_request("write", &self.url(key), &error)),
            }
        }
    }

    /// Whether the object that is there comes from this very write.
    pub(super) async fn is_of(&self, key: &str, write: &str) -> Result<bool, Failure> {
        let request = self.client().await?.head_object().bucket(&self.shared.name).key(self.full(key));
        match request.send().await {
            Ok(head) => Ok(head.metadata().and_then(|metadata| metadata.get(WRITE_ID)).is_some_and(|found| found == write)),
            // Removed meanwhile: it was there, and was not this one for long.
            Err(error) if status(&error) == Some(404) => Ok(false),
            Err(error) => Err(of_request("look at", &self.url(key), &error)),
        }
    }

    /// Removes objects; those that are not there are passed over.
    ///
    /// Fails with `store::*` for the first one that cannot be removed.
    pub(crate) async fn remove(&self, keys: &[String]) -> Result<(), Failure> {
        let defect = |error: aws_sdk_s3::error::BuildError| Failure::new(FailureKind::Internal, "store::request", error.to_string());
        for keys in keys.chunks(KEYS) {
            let mut delete = Delete::builder().quiet(true);
            for key in keys {
                delete = delete.objects(ObjectIdentifier::builder().key(self.full(key)).build().map_err(defect)?);
            }
            let request = self.client().await?.delete_objects().bucket(&self.shared.name).delete(delete.build().map_err(defect)?);
            let answer = request.send().await.map_err(|error| of_request("remove", &self.url(&keys[0]), &error))?;
            if let Some(error) = answer.errors().iter().find(|error| error.code() != Some("NoSuchKey")) {
                let key = format!("s3://{}/{}", self.shared.name, error.key().unwrap_or_default());
                let (code, why) = (error.code().unwrap_or_default(), error.message().unwrap_or_default());
                let (kind, name) = match code {
                    "AccessDenied" => (FailureKind::Permanent, "store::permission"),
                    "InternalError" | "SlowDown" => (FailureKind::Transient, "store::unavailable"),
                    _ => (FailureKind::Permanent, "store::refused"),
                };
                return Err(Failure::new(kind, name, format!("cannot remove `{key}`: {why} ({code})"))
                    .help("give the role `s3:DeleteObject` on the objects of the bucket"));
            }
        }
        Ok(())
    }
}

/// What an object is, by the end of its name.
pub(super) fn content_type(key: &str) -> &'static str {
    match key.rsplit_once('.').map_or("", |(_, end)| end).to_ascii_lowercase().as_str() {
        "csv" => "text/csv",
        "json" => "application/json",
        "jsonl" | "ndjson" => "application/x-ndjson",
        "parquet" => "application/vnd.apache.parquet",
        "gz" => "application/gzip",
        "zst" => "application/zstd",
        "txt" => "text/plain",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::content_type;

    #[test]
    fn an_object_says_what_it_is() {
        assert_eq!(
            ["a.csv", "a.csv.zst", "x/a.PARQUET", "a", "a.b/c"].map(content_type),
            ["text/csv", "application/zstd", "application/vnd.apache.parquet", "application/octet-stream", "application/octet-stream"]
        );
    }
}
