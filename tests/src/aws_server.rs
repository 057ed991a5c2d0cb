//! A server that speaks the JSON protocol of Step Functions and ECS from a script: for answers that get lost, refusals, and executions in
//! any state. It knows task tokens: one that was answered is closed. It writes down every call.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::condition::wait_for;

/// What the server does with one call.
#[derive(Clone, Debug)]
pub enum Reply {
    /// It answers.
    Json(Value),
    /// It refuses: status and the word of AWS.
    Error(u16, &'static str),
    /// It does its work, and the answer is lost.
    Lost,
}

/// One call: its operation, such as `SendTaskHeartbeat`, and its body.
#[derive(Clone, Debug)]
pub struct Call {
    /// The operation.
    pub operation: String,
    /// What was sent.
    pub body: Value,
}

/// The server; it ends with the process.
pub struct AwsServer {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    replies: HashMap<String, Vec<Reply>>,
    calls: Vec<Call>,
    closed: Vec<String>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for AwsServer {
    fn default() -> Self {
        Self::start()
    }
}

impl AwsServer {
    /// Starts it on a free port of 127.0.0.1. Without a script it takes every message of a task whose token is open.
    ///
    /// # Panics
    /// When 127.0.0.1 has no free port.
    #[must_use]
    pub fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("loopback has a free port");
        let address = listener.local_addr().expect("a bound listener has an address");
        let shared = Arc::new(Shared::default());
        let served = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&served);
                // A client that goes away in mid-call is no failure.
                thread::spawn(move || drop(serve(stream, &shared)));
            }
        });
        Self { address, shared }
    }

    /// Its URL.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The next calls of an operation get these replies, in turn; then it behaves as without them.
    pub fn next(&self, operation: &str, replies: impl IntoIterator<Item = Reply>) {
        self.shared.state().replies.entry(operation.to_owned()).or_default().extend(replies);
    }

    /// From now on nobody waits for any token.
    pub fn close(&self, token: &str) {
        self.shared.state().closed.push(token.to_owned());
    }

    /// All calls so far.
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        self.shared.state().calls.clone()
    }

    /// The bodies of the calls of an operation so far.
    #[must_use]
    pub fn calls_of(&self, operation: &str) -> Vec<Value> {
        self.calls().into_iter().filter(|call| call.operation == operation).map(|call| call.body).collect()
    }

    /// Waits until an operation was called so often.
    pub fn wait_for(&self, operation: &str, times: usize) {
        let what = format!("{times} calls of {operation}");
        wait_for(&what, Duration::from_secs(30), || (self.calls_of(operation).len() >= times).then_some(()));
    }
}

fn serve(mut stream: TcpStream, shared: &Shared) -> std::io::Result<()> {
    let mut request = Vec::new();
    let mut buffer = [0; 8192];
    let end = loop {
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        request.extend_from_slice(&buffer[..count]);
        if let Some(end) = request.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
    };
    let head = String::from_utf8_lossy(&request[..end]).into_owned();
    let header = |name: &str| {
        head.lines()
            .find_map(|line| line.split_once(':').filter(|(found, _)| found.eq_ignore_ascii_case(name)))
            .map(|(_, value)| value.trim())
    };
    let length: usize = header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    while request.len() < end + length {
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        request.extend_from_slice(&buffer[..count]);
    }
    let operation = header("x-amz-target").and_then(|target| target.rsplit('.').next()).unwrap_or_default().to_owned();
    let body: Value = serde_json::from_slice(&request[end..]).unwrap_or_default();
    match answer(&operation, body, shared) {
        Reply::Json(value) => respond(&mut stream, 200, &value),
        Reply::Error(status, word) => respond(&mut stream, status, &json!({ "__type": word, "message": format!("{word} by the script") })),
        Reply::Lost => stream.shutdown(Shutdown::Both),
    }
}

/// Writes the call down and does its work.
fn answer(operation: &str, body: Value, shared: &Shared) -> Reply {
    let mut state = shared.state();
    let token = body["taskToken"].as_str().unwrap_or_default().to_owned();
    state.calls.push(Call { operation: operation.to_owned(), body });
    let scripted = state.replies.get_mut(operation).filter(|replies| !replies.is_empty()).map(|replies| replies.remove(0));
    let is_end = matches!(operation, "SendTaskSuccess" | "SendTaskFailure");
    match scripted {
        Some(Reply::Error(status, word)) => Reply::Error(status, word),
        Some(Reply::Json(value)) => Reply::Json(value),
        lost => {
            if (is_end || operation == "SendTaskHeartbeat") && state.closed.contains(&token) {
                return Reply::Error(400, "TaskTimedOut");
            }
            if is_end {
                state.closed.push(token);
            }
            lost.unwrap_or_else(|| Reply::Json(json!({})))
        }
    }
}

fn respond(stream: &mut TcpStream, status: u16, value: &Value) -> std::io::Result<()> {
    let body = value.to_string();
    let head = format!(
        "HTTP/1.1 {status} Scripted\r\ncontent-type: application/x-amz-json-1.0\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body.as_bytes())?;
    stream.flush()
}
