//! Windows of one object: whole, of the object that was listed, and resumed where a body was cut.

use std::ops::Range;
use std::time::Duration;

use aws_sdk_s3::operation::get_object::GetObjectOutput;
use bytes::Bytes;
use errand_model::failure::{Failure, FailureKind, chain};

use super::{Bucket, Object};
use crate::aws::failure::{changed, of_request};

/// Longest wait between two requests for the rest of a window.
const LONGEST_BACKOFF: Duration = Duration::from_secs(20);

/// Why a body is not whole.
struct Cut {
    why: String,
    /// What came of it is not to be trusted.
    is_damaged: bool,
}

impl Bucket {
    /// The bytes of an object in `range`, all of them.
    ///
    /// Fails as `Transient` with `source::changed` when the object is another one by now, with `store::cut` when bodies break off again
    /// and again, else with `store::*`.
    pub(crate) async fn get(&self, object: &Object, range: Range<u64>) -> Result<Bytes, Failure> {
        let length = usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(usize::MAX);
        let mut window = Vec::with_capacity(length);
        let patience = &self.shared.patience;
        let mut backoff = patience.backoff;
        let mut attempt = 1;
        while window.len() < length {
            let rest = range.start + window.len() as u64..range.end;
            let Err(cut) = self.get_some(object, rest, &mut window).await? else { break };
            if cut.is_damaged {
                window.clear();
            }
            if attempt >= patience.attempts {
                let message =
                    format!("cannot read `{}`: {attempt} answers in a row broke off, the last one: {}", self.url(&object.key), cut.why);
                return Err(
                    Failure::new(FailureKind::Transient, "store::cut", message).help("see whether the network and the server are well")
                );
            }
            tracing::warn!(object = %self.url(&object.key), attempt, why = %cut.why, "an object is read on after its body broke off");
            tokio::time::sleep(backoff.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
            backoff = (backoff * 2).min(LONGEST_BACKOFF);
            attempt += 1;
        }
        Ok(Bytes::from(window))
    }

    /// One request for what is missing; what comes of it is kept.
    async fn get_some(&self, object: &Object, rest: Range<u64>, window: &mut Vec<u8>) -> Result<Result<(), Cut>, Failure> {
        let url = self.url(&object.key);
        let request = self.client().await?.get_object().bucket(&self.shared.name).key(self.full(&object.key));
        let is_whole = rest == (0..object.bytes);
        // Of a whole object the checksum is known, of a range it is not.
        let range = (!is_whole).then(|| format!("bytes={}-{}", rest.start, rest.end - 1));
        let answer = request.set_if_match(object.etag.clone()).set_range(range).send().await;
        let mut answer = answer.map_err(|error| of_request("read", &url, &error))?;
        check(&answer, object, &rest).map_err(|why| why.unwrap_or_else(|| changed(&url)))?;
        let before = window.len() as u64;
        let expected = rest.end - rest.start;
        loop {
            let cut = match tokio::time::timeout(self.shared.patience.stall, answer.body.next()).await {
                Ok(Some(Ok(bytes))) if window.len() as u64 - before + bytes.len() as u64 > expected => return Err(changed(&url)),
                Ok(Some(Ok(bytes))) => {
                    window.extend_from_slice(&bytes);
                    continue;
                }
                Ok(None) if window.len() as u64 - before == expected => return Ok(Ok(())),
                Ok(None) => Cut { why: "it is shorter than was said".to_owned(), is_damaged: false },
                Ok(Some(Err(error))) => {
                    let why = chain(&error);
                    let is_damaged = why.contains("checksum");
                    Cut { why, is_damaged }
                }
                Err(_) => Cut { why: format!("nothing came for {} s", self.shared.patience.stall.as_secs_f32()), is_damaged: false },
            };
            return Ok(Err(cut));
        }
    }
}

/// Whether an answer is for the object and the range that were asked for; else the failure, none for an object that changed.
fn check(answer: &GetObjectOutput, object: &Object, rest: &Range<u64>) -> Result<(), Option<Failure>> {
    if answer.e_tag().is_some_and(|etag| object.etag.as_deref().is_some_and(|listed| listed != etag)) {
        return Err(None);
    }
    if let Some(range) = answer.content_range() {
        let expected = format!("bytes {}-{}/{}", rest.start, rest.end - 1, object.bytes);
        return if range == expected { Ok(()) } else { Err(None) };
    }
    if *rest == (0..object.bytes) {
        return Ok(());
    }
    let message = format!("the server sends `{}` whole when a part of it is asked for", object.key);
    Err(Some(Failure::new(FailureKind::Permanent, "store::no_ranges", message).help("the server must know the header `Range`")))
}
