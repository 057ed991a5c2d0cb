//! Servers that misbehave: a listener that answers what a test wants, or nothing.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use errand_engine::checkout::{self, Credentials, Limits, Source};
use errand_engine::secret::Secret;
use errand_model::failure::FailureKind;
use tokio_util::sync::CancellationToken;

use crate::{Jobs, assert_failed, assert_refused};

/// A listener on loopback that gives every connection to `answer`, until the test ends.
fn listen(answer: impl Fn(TcpStream) + Send + Clone + 'static) -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("loopback has a free port");
    let address = listener.local_addr().expect("a bound listener has an address");
    thread::spawn(move || {
        for connection in listener.incoming().map_while(Result::ok) {
            let answer = answer.clone();
            thread::spawn(move || answer(connection));
        }
    });
    address
}

/// Answers each request with `response`, and closes.
fn listen_and_say(response: String) -> SocketAddr {
    listen(move |mut connection| {
        let _ = connection.read(&mut [0; 4096]);
        let _ = connection.write_all(response.as_bytes());
    })
}

fn http(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
}

fn with_token() -> Credentials {
    Credentials { token: Some(Secret::new("token-of-the-test")), ..Credentials::default() }
}

#[test]
fn what_cannot_be_reached_is_transient() {
    let jobs = Jobs::new();
    let closed = TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr()).expect("loopback has a free port");
    for scheme in ["http", "https", "ssh"] {
        let url = format!("{scheme}://127.0.0.1:{}/jobs.git", closed.port());
        assert_failed(jobs.fetch(&url, None, &with_token()), "checkout::network", FailureKind::Transient);
    }
    assert_failed(jobs.fetch("https://no-such-host.invalid/jobs.git", None, &with_token()), "checkout::network", FailureKind::Transient);
    let garbled = listen_and_say("no protocol at all\r\n\r\n".to_owned());
    for scheme in ["http", "https", "ssh"] {
        let url = format!("{scheme}://{garbled}/jobs.git");
        assert_failed(jobs.fetch(&url, None, &with_token()), "checkout::network", FailureKind::Transient);
    }
}

#[test]
fn a_server_that_says_nothing_is_left_in_time() {
    let jobs = Jobs::new();
    let silent = listen(|mut connection| {
        let _ = connection.read_to_end(&mut Vec::new());
    });
    for scheme in ["http", "https", "ssh"] {
        let start = Instant::now();
        let short = Limits { timeout: Duration::from_millis(700), ..Limits::default() };
        let result = jobs.fetch_within(&format!("{scheme}://{silent}/jobs.git"), None, &with_token(), short);
        assert_failed(result, "checkout::timeout", FailureKind::Transient);
        assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    }
}

#[test]
fn a_server_that_never_ends_its_list_is_left_in_time() {
    let jobs = Jobs::new();
    let endless = listen(|mut connection| {
        let _ = connection.read(&mut [0; 4096]);
        let head = "HTTP/1.1 200 OK\r\nContent-Type: application/x-git-upload-pack-advertisement\r\nContent-Length: 999999999\r\n\r\n001e# service=git-upload-pack\n0000";
        let mut sent = connection.write_all(head.as_bytes());
        let mut number = 0_u32;
        while sent.is_ok() {
            number += 1;
            sent = connection.write_all(format!("0048{number:040x} refs/heads/branch-{number:08}\n").as_bytes());
            if number.is_multiple_of(100) {
                thread::park_timeout(Duration::from_millis(50));
            }
        }
    });
    let short = Limits { timeout: Duration::from_secs(1), ..Limits::default() };
    let result = jobs.fetch_within(&format!("http://{endless}/jobs.git"), None, &with_token(), short);
    assert_failed(result, "checkout::timeout", FailureKind::Transient);
}

#[test]
fn cancellation_does_not_wait_for_a_silent_server() {
    let jobs = Jobs::new();
    let cancelled = CancellationToken::new();
    let silent = {
        let cancelled = cancelled.clone();
        listen(move |mut connection| {
            // The client is there and waits: now is the moment.
            cancelled.cancel();
            let _ = connection.read_to_end(&mut Vec::new());
        })
    };
    let source = Source::parse(&format!("https://{silent}/jobs.git"), None).expect("an address");
    let start = Instant::now();
    let failure = checkout::fetch(&source, &jobs.target(), Limits::default(), &with_token(), &cancelled).expect_err("cancelled");
    assert_eq!((failure.code.as_str(), failure.kind), ("checkout::cancelled", FailureKind::Cancelled));
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
}

#[test]
fn answers_that_are_no_repository_are_told_apart() {
    let jobs = Jobs::new();
    let says = |status: &str, headers: &str| format!("http://{}/jobs.git", listen_and_say(http(status, headers, "<html></html>")));
    assert_refused(jobs.fetch(&says("200 OK", "Content-Type: text/html\r\n"), None, &with_token()), "checkout::not_found");
    assert_refused(jobs.fetch(&says("404 Not Found", ""), None, &with_token()), "checkout::not_found");
    assert_refused(jobs.fetch(&says("403 Forbidden", ""), None, &with_token()), "checkout::not_authorised");
    assert_failed(jobs.fetch(&says("503 Service Unavailable", ""), None, &with_token()), "checkout::network", FailureKind::Transient);
    assert_failed(jobs.fetch(&says("429 Too Many Requests", ""), None, &with_token()), "checkout::network", FailureKind::Transient);
    assert_refused(
        jobs.fetch(&says("401 Unauthorized", "WWW-Authenticate: Negotiate\r\n"), None, &with_token()),
        "checkout::not_authorised",
    );
}

#[test]
fn a_redirect_to_another_host_is_refused_and_carries_no_token() {
    let jobs = Jobs::new();
    let (sender, receiver) = std::sync::mpsc::channel();
    let thief = listen(move |mut connection| {
        let mut request = [0; 4096];
        let length = connection.read(&mut request).unwrap_or(0);
        let _ = sender.send(String::from_utf8_lossy(&request[..length]).into_owned());
        let _ = connection.write_all(http("401 Unauthorized", "WWW-Authenticate: Basic realm=\"x\"\r\n", "").as_bytes());
    });
    // The same machine under another name is another host.
    let location = format!("Location: http://localhost:{}/jobs.git/info/refs?service=git-upload-pack\r\n", thief.port());
    let url = format!("http://{}/jobs.git", listen_and_say(http("302 Found", &location, "")));
    assert_refused(jobs.fetch(&url, None, &with_token()), "checkout::redirected");
    assert!(receiver.try_recv().is_err(), "nobody else was asked");
}
