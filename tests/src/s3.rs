//! A bucket for one test, on the S3 server of the tests, which checks no signature; or a folder of a bucket that is there already.

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::{Value, json};

use crate::services;

/// What a signed request has; the server looks for it and does not check it.
const AUTHORIZATION: &str = "AWS4-HMAC-SHA256 Credential=testing/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=none";

/// A folder that no other test has, for what passes through a stage.
pub struct Folder {
    bucket: String,
    prefix: String,
    region: String,
    endpoint: Option<String>,
}

impl Folder {
    /// One in a new bucket on the server of the tests; or, where `ERRAND_TEST_S3_BUCKET` names a bucket, in that one.
    ///
    /// # Panics
    /// When there is neither.
    #[must_use]
    pub fn create() -> Self {
        if let Some(bucket) = services::s3_bucket() {
            return Self::within(bucket);
        }
        let bucket = Bucket::create();
        let (region, endpoint) = (services::s3_region(), Some(bucket.endpoint));
        Self { bucket: bucket.name, prefix: "staged/".to_owned(), region, endpoint }
    }

    /// One in the bucket that an account reaches.
    ///
    /// # Panics
    /// When no variable names it.
    #[must_use]
    pub fn of_account() -> Self {
        Self::within(services::s3_bucket_of_account())
    }

    fn within(bucket: services::Bucket) -> Self {
        let prefix = format!("{}{}/", bucket.prefix, services::unique_name());
        Self { bucket: bucket.name, prefix, region: bucket.region, endpoint: bucket.endpoint }
    }

    /// Its URL, with a `/` at its end.
    #[must_use]
    pub fn url(&self) -> String {
        format!("s3://{}/{}", self.bucket, self.prefix)
    }

    /// A connection of a project file.
    #[must_use]
    pub fn connection(&self) -> Value {
        let mut s3 = json!({ "bucket": self.bucket, "prefix": self.prefix, "region": self.region });
        if let Some(endpoint) = &self.endpoint {
            s3["endpoint"] = json!(endpoint);
        }
        json!({ "s3": s3 })
    }
}

/// A bucket of its own. It and its objects go away with the server.
pub struct Bucket {
    endpoint: String,
    name: String,
}

impl Bucket {
    /// Makes one.
    ///
    /// # Panics
    /// When the server refuses it.
    #[must_use]
    pub fn create() -> Self {
        let bucket = Self { endpoint: services::s3_endpoint(), name: services::unique_name().replace('_', "-") };
        bucket.ask("PUT", "", &[]);
        bucket
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The URL of the server.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Writes an object.
    ///
    /// # Panics
    /// When the server refuses it.
    pub fn put(&self, key: &str, content: impl AsRef<[u8]>) {
        self.ask("PUT", key, content.as_ref());
    }

    /// The content of an object.
    ///
    /// # Panics
    /// When it is not there.
    #[must_use]
    pub fn get(&self, key: &str) -> Vec<u8> {
        self.ask("GET", key, &[])
    }

    /// The first thousand keys that start with `prefix`, sorted.
    ///
    /// # Panics
    /// When the server refuses it.
    #[must_use]
    pub fn keys(&self, prefix: &str) -> Vec<String> {
        let listing = self.ask("GET", &format!("?list-type=2&prefix={prefix}"), &[]);
        let listing = String::from_utf8_lossy(&listing).into_owned();
        listing.split("<Key>").skip(1).filter_map(|rest| rest.split("</Key>").next()).map(str::to_owned).collect()
    }

    fn ask(&self, method: &str, key: &str, content: &[u8]) -> Vec<u8> {
        let host = self.endpoint.trim_start_matches("http://").trim_end_matches('/');
        let mut stream = TcpStream::connect(host).unwrap_or_else(|error| panic!("the S3 server at {host} does not answer: {error}"));
        let head = format!(
            "{method} /{}/{key} HTTP/1.0\r\nHost: {host}\r\nAuthorization: {AUTHORIZATION}\r\nContent-Type: application/octet-stream\r\nContent-Length: {}\r\n\r\n",
            self.name,
            content.len()
        );
        stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(content)).expect("the S3 server takes a request");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("the S3 server answers");
        let end = answer.windows(4).position(|window| window == b"\r\n\r\n").expect("an answer has a head") + 4;
        let status = String::from_utf8_lossy(&answer[..end]).into_owned();
        assert!(status.contains(" 200 "), "{method} {key}: {status}{}", String::from_utf8_lossy(&answer[end..]));
        answer.split_off(end)
    }
}
