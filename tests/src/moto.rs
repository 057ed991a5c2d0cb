//! moto's other services, asked directly: what a test prepares and looks at behind the back of `errand`.

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::Value;

use crate::services;

/// Sends JSON to a service of moto and returns what it answers; `target` is the operation, where the service is asked by one.
///
/// # Panics
/// When moto does not answer, or refuses.
#[must_use]
pub fn ask(service: &str, method: &str, path: &str, target: &str, body: &Value) -> Value {
    let endpoint = services::s3_endpoint();
    let host = endpoint.trim_start_matches("http://").trim_end_matches('/');
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let authorization =
        format!("AWS4-HMAC-SHA256 Credential=testing/20260101/us-east-1/{service}/aws4_request, SignedHeaders=host, Signature=none");
    // Services that are asked by path take plain JSON.
    let (kind, target) = match target {
        "" => ("application/json", String::new()),
        target => ("application/x-amz-json-1.1", format!("X-Amz-Target: {target}\r\n")),
    };
    let request = format!(
        "{method} {path} HTTP/1.0\r\nHost: {host}\r\nAuthorization: {authorization}\r\nContent-Type: {kind}\r\n{target}Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut stream = TcpStream::connect(host).unwrap_or_else(|error| panic!("moto at {host} does not answer: {error}"));
    stream.write_all(request.as_bytes()).expect("moto takes a request");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("moto answers");
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, content) = answer.split_once("\r\n\r\n").expect("an answer has a head");
    assert!(head.lines().next().is_some_and(|line| line.contains(" 200 ")), "{service} {method} {path}: {answer}");
    serde_json::from_str(content).unwrap_or_default()
}
