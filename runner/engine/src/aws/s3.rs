//! Objects of one bucket under a prefix.
//!
//! Every request has a time limit, and is tried again a bounded number of times where that is safe.

mod client;
mod multipart;
mod read;
mod swap;
mod write;

use std::sync::Arc;

use aws_sdk_s3::Client;
use aws_sdk_s3::types::Object as Listed;
use errand_model::failure::{Failure, FailureKind};
use errand_model::job::S3;
use jiff::Timestamp;
use tokio::sync::{OnceCell, Semaphore};

pub use client::Patience;
pub(crate) use multipart::Multipart;

use super::failure::{of_request, status};

/// Objects of a bucket whose keys begin with a prefix; cheap to clone.
#[derive(Clone)]
pub(crate) struct Bucket {
    shared: Arc<Shared>,
    /// Empty, or ending in `/`.
    prefix: Arc<str>,
}

struct Shared {
    name: String,
    region: Option<String>,
    endpoint: Option<String>,
    patience: Patience,
    client: OnceCell<Client>,
    /// For parts of objects on their way.
    room: Arc<Semaphore>,
}

impl Shared {
    fn new(name: String, region: Option<String>, endpoint: Option<String>, patience: Patience) -> Arc<Self> {
        let room = Arc::new(Semaphore::new(multipart::PARALLEL_IN_ALL));
        Arc::new(Self { name, region, endpoint, patience, client: OnceCell::new(), room })
    }
}

/// What is known of one object without reading it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Object {
    /// Without the prefix.
    pub(crate) key: String,
    /// Its size.
    pub(crate) bytes: u64,
    /// When it was written.
    pub(crate) modified: Option<Timestamp>,
    /// Names this very content, quotes included.
    pub(crate) etag: Option<String>,
    /// SHA-256 of the content in base64, where S3 was given one for all of it.
    pub(crate) sha256: Option<String>,
}

/// One page of a listing.
pub(crate) struct Page {
    pub(crate) objects: Vec<Object>,
    /// Where the next page begins; none after the last.
    pub(crate) next: Option<String>,
}

impl PartialEq for Bucket {
    fn eq(&self, other: &Self) -> bool {
        let place = |bucket: &Self| (bucket.shared.name.clone(), bucket.shared.region.clone(), bucket.shared.endpoint.clone());
        place(self) == place(other) && self.prefix == other.prefix
    }
}

impl Eq for Bucket {}

impl std::fmt::Debug for Bucket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Bucket").field(&self.url("")).field(&self.shared.endpoint).finish()
    }
}

impl Bucket {
    /// Nothing is asked of a server yet.
    ///
    /// Fails as `Definition` with `store::endpoint`.
    pub(crate) fn new(s3: &S3) -> Result<Self, Failure> {
        if let Some(endpoint) = &s3.endpoint {
            client::check_endpoint(endpoint)?;
        }
        let S3 { bucket, prefix, region, endpoint } = s3.clone();
        let prefix = if prefix.is_empty() || prefix.ends_with('/') { prefix } else { format!("{prefix}/") };
        Ok(Self { shared: Shared::new(bucket, region, endpoint, Patience::default()), prefix: prefix.into() })
    }

    /// The same objects with other limits of time.
    pub(crate) fn with_patience(&self, patience: Patience) -> Self {
        let Shared { name, region, endpoint, .. } = &*self.shared;
        let shared = Shared::new(name.clone(), region.clone(), endpoint.clone(), patience);
        Self { shared, prefix: Arc::clone(&self.prefix) }
    }

    /// Those under a path.
    pub(crate) fn under(&self, path: &str) -> Self {
        let path = path.trim_matches('/');
        let prefix = if path.is_empty() { Arc::clone(&self.prefix) } else { format!("{}{path}/", self.prefix).into() };
        Self { shared: Arc::clone(&self.shared), prefix }
    }

    /// `s3://bucket/prefix/key`.
    pub(crate) fn url(&self, key: &str) -> String {
        format!("s3://{}/{}", self.shared.name, self.full(key))
    }

    /// The key here of an object of the same bucket, as another prefix names it.
    pub(crate) fn key_of(&self, other: &Self, key: &str) -> Option<String> {
        let is_same = (&self.shared.name, &self.shared.endpoint) == (&other.shared.name, &other.shared.endpoint);
        let full = other.full(key);
        full.strip_prefix(&*self.prefix).filter(|key| is_same && !key.is_empty()).map(str::to_owned)
    }

    /// One page of the objects whose keys begin with `prefix`; with `flat` none below the next `/`. At most `most`.
    ///
    /// Fails with `store::*`.
    pub(crate) async fn page(&self, prefix: &str, flat: bool, most: i32, from: Option<String>) -> Result<Page, Failure> {
        let request = self.client().await?.list_objects_v2().bucket(&self.shared.name).prefix(self.full(prefix));
        let request = request.set_delimiter(flat.then(|| "/".to_owned())).max_keys(most).set_continuation_token(from);
        let page = request.send().await.map_err(|error| of_request("list", &self.url(prefix), &error))?;
        let more = page.is_truncated().unwrap_or(false);
        let next = page.next_continuation_token().map(str::to_owned).filter(|_| more);
        if more && next.is_none() {
            let message = format!("cannot list `{}`: a page says that more follow, but not where", self.url(prefix));
            return Err(Failure::new(FailureKind::Permanent, "store::refused", message).help("the server does not speak S3's protocol"));
        }
        Ok(Page { objects: page.contents().iter().filter_map(|listed| self.listed(listed)).collect(), next })
    }

    /// One object, as it is now; none when it is not there.
    ///
    /// Fails with `store::*`.
    pub(crate) async fn head(&self, key: &str) -> Result<Option<Object>, Failure> {
        let request = self.client().await?.head_object().bucket(&self.shared.name).key(self.full(key));
        let request = request.checksum_mode(aws_sdk_s3::types::ChecksumMode::Enabled);
        match request.send().await {
            Ok(head) => Ok(Some(Object {
                key: key.to_owned(),
                bytes: head.content_length().and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or(0),
                modified: head.last_modified().and_then(moment),
                etag: head.e_tag().map(str::to_owned),
                // Of parts, S3 gives a checksum of their checksums, with their count behind a `-`.
                sha256: head.checksum_sha256().filter(|sum| !sum.contains('-')).map(str::to_owned),
            })),
            Err(error) if status(&error) == Some(404) => Ok(None),
            Err(error) => Err(of_request("look at", &self.url(key), &error)),
        }
    }

    async fn client(&self) -> Result<&Client, Failure> {
        let Shared { region, endpoint, patience, .. } = &*self.shared;
        self.shared.client.get_or_try_init(|| client::connect(region.as_deref(), endpoint.as_deref(), patience)).await
    }

    fn full(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    /// What a listing says of an object; none for the marks that consoles set for folders.
    fn listed(&self, listed: &Listed) -> Option<Object> {
        let key = listed.key()?.strip_prefix(&*self.prefix)?;
        let bytes = listed.size().and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or(0);
        if key.is_empty() || key.ends_with('/') && bytes == 0 {
            return None;
        }
        let modified = listed.last_modified().and_then(moment);
        Some(Object { key: key.to_owned(), bytes, modified, etag: listed.e_tag().map(str::to_owned), sha256: None })
    }
}

fn moment(time: &aws_sdk_s3::primitives::DateTime) -> Option<Timestamp> {
    Timestamp::new(time.secs(), i32::try_from(time.subsec_nanos()).ok()?).ok()
}
