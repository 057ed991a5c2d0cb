//! A Lambda function, run as Lambda runs it: its binary, and the Runtime API that gives it one event after the other
//! (<https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html>).

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::{Notify, oneshot};

use crate::condition::answer_within;
use crate::receiver::serve;

/// A function that has been started. Killed when dropped.
pub struct Lambda {
    shared: Arc<Shared>,
    child: Child,
    scratch: TempDir,
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<Invocations>,
    arrived: Notify,
}

#[derive(Default)]
struct Invocations {
    count: usize,
    waiting: Vec<(String, u128, String)>,
    /// What a function answered, or the error that it reported.
    done: BTreeMap<String, Result<Value, Value>>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Invocations> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lambda {
    /// Starts a function whose binary lies beside the test that runs, with these variables and no others.
    ///
    /// # Panics
    /// When it is not built; the message names the command that builds it.
    #[must_use]
    pub fn start(program: &str, variables: &[(&str, String)]) -> Self {
        let shared = Arc::new(Shared::default());
        let router = Router::new()
            .route("/2018-06-01/runtime/invocation/next", get(next))
            .route("/2018-06-01/runtime/invocation/{id}/response", post(response))
            .route("/2018-06-01/runtime/invocation/{id}/error", post(error))
            .with_state(Arc::clone(&shared));
        let (port, end, thread) = serve(router);
        let scratch = tempfile::tempdir().expect("a temporary directory can be made");
        let file = |name: &str| File::create(scratch.path().join(name)).expect("the scratch directory can be written");
        let child = Command::new(binary(program))
            .env_clear()
            .env("AWS_LAMBDA_RUNTIME_API", format!("127.0.0.1:{port}"))
            .envs([
                ("AWS_LAMBDA_FUNCTION_NAME", program),
                ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST"),
                ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128"),
            ])
            .envs(variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(file("stdout"))
            .stderr(file("stderr"))
            .spawn()
            .expect("a built function can be started");
        Self { shared, child, scratch, end: Some(end), thread: Some(thread) }
    }

    /// Gives it an event, and says what it answers: a response, or an error. It has half a minute.
    ///
    /// # Panics
    /// When it does not answer in its time.
    pub fn invoke(&self, event: &Value) -> Result<Value, Value> {
        self.invoke_within(event, Duration::from_secs(30))
    }

    /// The same with another time.
    ///
    /// # Panics
    /// When it does not answer in its time.
    pub fn invoke_within(&self, event: &Value, time: Duration) -> Result<Value, Value> {
        let id = self.send(event, time);
        let answer = answer_within(time + Duration::from_secs(10), || self.shared.lock().done.remove(&id));
        answer.unwrap_or_else(|| panic!("no answer to {event} within {time:?}\n{}", self.log()))
    }

    /// Gives it an event without waiting for its answer. Returns the id of the invocation.
    pub fn send(&self, event: &Value, time: Duration) -> String {
        let deadline = now().as_millis() + time.as_millis();
        let mut state = self.shared.lock();
        state.count += 1;
        let id = format!("{}-{}", self.child.id(), state.count);
        state.waiting.push((id.clone(), deadline, event.to_string()));
        drop(state);
        self.shared.arrived.notify_one();
        id
    }

    /// All that it has written.
    ///
    /// # Panics
    /// When its output is gone.
    #[must_use]
    pub fn log(&self) -> String {
        ["stdout", "stderr"].map(|name| fs::read_to_string(self.scratch.path().join(name)).expect("the output is there")).concat()
    }
}

#[expect(clippy::disallowed_methods, reason = "the deadline of an invocation is a time of the clock")]
fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is after 1970")
}

impl Drop for Lambda {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            // A panic in the thread was printed; the test fails for its own reason.
            let _ = thread.join();
        }
    }
}

fn binary(program: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a running program knows where it lies");
    let directory = test.ancestors().skip(1).find(|directory| !directory.ends_with("deps")).expect("a program lies in a directory");
    let binary = directory.join(program);
    assert!(binary.is_file(), "`{}` is not built; run `cargo build --workspace`", binary.display());
    binary
}

/// Waits for an event.
async fn next(State(shared): State<Arc<Shared>>) -> Response {
    loop {
        let arrived = shared.arrived.notified();
        let waiting = {
            let mut state = shared.lock();
            (!state.waiting.is_empty()).then(|| state.waiting.remove(0))
        };
        if let Some((id, deadline, event)) = waiting {
            let headers = [
                ("lambda-runtime-aws-request-id", id),
                ("lambda-runtime-deadline-ms", deadline.to_string()),
                ("lambda-runtime-invoked-function-arn", "arn:aws:lambda:us-east-1:123456789012:function:test".to_owned()),
                ("lambda-runtime-trace-id", "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Sampled=0".to_owned()),
                ("content-type", "application/json".to_owned()),
            ];
            return (headers, event).into_response();
        }
        arrived.await;
    }
}

async fn response(State(shared): State<Arc<Shared>>, Path(id): Path<String>, body: String) -> StatusCode {
    shared.lock().done.insert(id, Ok(json(&body)));
    StatusCode::ACCEPTED
}

async fn error(State(shared): State<Arc<Shared>>, Path(id): Path<String>, body: String) -> StatusCode {
    shared.lock().done.insert(id, Err(json(&body)));
    StatusCode::ACCEPTED
}

fn json(body: &str) -> Value {
    serde_json::from_str(body).unwrap_or_else(|_| Value::from(body))
}
