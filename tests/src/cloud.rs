//! The local cloud that `tests/services` starts: requests to it, its functions, objects and schedules.
//!
//! Must not know a state machine or a stack: what is deployed there is the tests' own.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;

use flate2::Crc;
use serde_json::{Value, json};

use crate::services;

/// The account that everything there belongs to.
pub const ACCOUNT: &str = "123456789012";
/// Its region.
pub const REGION: &str = "us-east-1";

/// Names of services in signatures and in `X-Amz-Target`.
#[derive(Clone, Copy, Debug)]
pub enum Service {
    /// Containers.
    Ecs,
    /// Logs of containers and functions.
    Logs,
    /// Secrets.
    Secrets,
    /// State machines.
    States,
}

impl Service {
    const fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Ecs => ("ecs", "AmazonEC2ContainerServiceV20141113"),
            Self::Logs => ("logs", "Logs_20140328"),
            Self::Secrets => ("secretsmanager", "secretsmanager"),
            Self::States => ("states", "AWSStepFunctions"),
        }
    }
}

/// What a server answered.
struct Answer {
    status: u16,
    /// In lower case.
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// The local cloud.
#[derive(Clone, Debug)]
pub struct Cloud {
    endpoint: String,
}

impl Cloud {
    /// The one that the environment names.
    ///
    /// # Panics
    /// When it names none.
    #[must_use]
    #[track_caller]
    pub fn here() -> Self {
        Self { endpoint: services::cloud_endpoint() }
    }

    /// Its URL.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Asks for an action of a service whose protocol is JSON.
    ///
    /// # Errors
    /// The service refuses; its answer.
    ///
    /// # Panics
    /// When the answer is not JSON.
    pub fn ask(&self, service: Service, action: &str, body: &Value) -> Result<Value, Value> {
        let (name, target) = service.names();
        let answer = self.send("POST", "/", name, &format!("X-Amz-Target: {target}.{action}\r\n"), body.to_string().as_bytes());
        let value = json_of(&answer);
        if answer.status == 200 { Ok(value) } else { Err(value) }
    }

    /// Calls a function with an event and waits for its answer.
    ///
    /// # Errors
    /// The function failed; what it says.
    ///
    /// # Panics
    /// When there is no such function.
    pub fn invoke(&self, function: &str, event: &Value) -> Result<Value, Value> {
        let path = format!("/2015-03-31/functions/{function}/invocations");
        let answer = self.send("POST", &path, "lambda", "X-Amz-Invocation-Type: RequestResponse\r\n", event.to_string().as_bytes());
        assert!(answer.status == 200, "{function}: {} {}", answer.status, answer.text());
        let failed = answer.head.contains("\r\nx-amz-function-error:");
        if failed { Err(json_of(&answer)) } else { Ok(json_of(&answer)) }
    }

    /// Removes a schedule, as somebody does in the console.
    ///
    /// # Panics
    /// When there is none.
    pub fn remove_schedule(&self, group: &str, name: &str) {
        let answer = self.send("DELETE", &format!("/schedules/{name}?groupName={group}"), "scheduler", "", &[]);
        assert!(answer.status == 200, "schedule {group}/{name}: {} {}", answer.status, answer.text());
    }

    /// Makes a function that writes each event it is called with into a file of `directory`. Its ARN.
    ///
    /// # Panics
    /// When it cannot be made.
    #[must_use]
    pub fn recording_function(&self, name: &str, directory: &Path) -> String {
        let code = format!(
            "import json, uuid\ndef handler(event, context):\n    name = {directory:?} + '/' + str(uuid.uuid4())\n    open(name, 'w').write(json.dumps(event))\n    import os; os.rename(name, name + '.json')\n    return {{}}\n",
            directory = directory.display().to_string()
        );
        let bucket = name;
        self.make_bucket(bucket);
        self.put_object(bucket, "code.zip", &stored_zip("index.py", code.as_bytes(), 0o644));
        let function = json!({
            "FunctionName": name, "Runtime": "python3.11", "Handler": "index.handler", "Timeout": 60,
            "Role": format!("arn:aws:iam::{ACCOUNT}:role/{name}"), "Code": { "S3Bucket": bucket, "S3Key": "code.zip" },
        });
        let answer = self.send("POST", "/2015-03-31/functions", "lambda", "", function.to_string().as_bytes());
        assert!(answer.status < 300, "the function was not made: {}", answer.text());
        format!("arn:aws:lambda:{REGION}:{ACCOUNT}:function:{name}")
    }

    /// Makes a bucket.
    ///
    /// # Panics
    /// When that is refused.
    pub fn make_bucket(&self, bucket: &str) {
        self.object_request("PUT", &format!("/{bucket}"), &[]);
    }

    /// Writes an object.
    ///
    /// # Panics
    /// When that is refused.
    pub fn put_object(&self, bucket: &str, key: &str, content: &[u8]) {
        self.object_request("PUT", &format!("/{bucket}/{key}"), content);
    }

    /// The content of an object; none when there is no such object.
    #[must_use]
    pub fn object(&self, bucket: &str, key: &str) -> Option<Vec<u8>> {
        let answer = self.send("GET", &format!("/{bucket}/{key}"), "s3", "", &[]);
        (answer.status == 200).then_some(answer.body)
    }

    /// The first thousand keys that start with `prefix`, sorted.
    ///
    /// # Panics
    /// When there is no such bucket.
    #[must_use]
    pub fn keys(&self, bucket: &str, prefix: &str) -> Vec<String> {
        let listing = self.object_request("GET", &format!("/{bucket}?list-type=2&prefix={prefix}"), &[]).text();
        listing.split("<Key>").skip(1).filter_map(|rest| rest.split("</Key>").next()).map(str::to_owned).collect()
    }

    fn object_request(&self, method: &str, path: &str, content: &[u8]) -> Answer {
        let answer = self.send(method, path, "s3", "", content);
        assert!(answer.status == 200, "{method} {path}: {} {}", answer.status, answer.text());
        answer
    }

    fn send(&self, method: &str, path: &str, service: &str, headers: &str, body: &[u8]) -> Answer {
        let host = self.endpoint.trim_start_matches("http://").trim_end_matches('/');
        let kind = if service == "s3" { "application/octet-stream" } else { "application/x-amz-json-1.1" };
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{headers}Content-Type: {kind}\r\nContent-Length: {}\r\n\
             Authorization: AWS4-HMAC-SHA256 Credential=testing/20260101/{REGION}/{service}/aws4_request, SignedHeaders=host, Signature=none\r\n\r\n",
            body.len()
        );
        let mut stream = TcpStream::connect(host).unwrap_or_else(|error| panic!("the local cloud at {host} does not answer: {error}"));
        stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body)).expect("the local cloud takes a request");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("the local cloud answers");
        let end = answer.windows(4).position(|window| window == b"\r\n\r\n").expect("an answer has a head") + 4;
        let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("an answer has a status");
        let body = answer.split_off(end);
        Answer { status, body: if head.contains("transfer-encoding: chunked") { unchunked(&body) } else { body }, head }
    }
}

fn json_of(answer: &Answer) -> Value {
    let text = answer.text();
    if text.is_empty() { Value::Null } else { serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}")) }
}

fn unchunked(mut body: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    while let Some(line) = body.windows(2).position(|window| window == b"\r\n") {
        let size = usize::from_str_radix(String::from_utf8_lossy(&body[..line]).trim(), 16).expect("a chunk has a size");
        whole.extend(&body[line + 2..line + 2 + size]);
        body = &body[(line + 4 + size).min(body.len())..];
        if size == 0 {
            break;
        }
    }
    whole
}

/// A zip archive of one file, not compressed.
#[must_use]
pub fn stored_zip(name: &str, content: &[u8], mode: u32) -> Vec<u8> {
    let mut crc = Crc::new();
    crc.update(content);
    let size = u32::try_from(content.len()).expect("the file is small");
    let length = u16::try_from(name.len()).expect("the name is short");
    let mut common = Vec::new();
    common.extend([20, 0, 0, 0, 0, 0, 0, 0, 0x21, 0x28]);
    for number in [crc.sum(), size, size] {
        common.extend(number.to_le_bytes());
    }
    common.extend(length.to_le_bytes());
    common.extend([0, 0]);
    let mut zip = [b"PK\x03\x04".as_slice(), &common, name.as_bytes(), content].concat();
    let directory = zip.len();
    zip.extend([b"PK\x01\x02\x14\x03".as_slice(), &common, &[0; 6]].concat());
    zip.extend(((0o100_000 | mode) << 16).to_le_bytes());
    zip.extend([0; 4]);
    zip.extend(name.as_bytes());
    let end = zip.len();
    zip.extend(b"PK\x05\x06\0\0\0\0\x01\0\x01\0");
    for number in [end - directory, directory] {
        zip.extend(u32::try_from(number).expect("the archive is small").to_le_bytes());
    }
    zip.extend([0, 0]);
    zip
}
