//! A server that takes every request, answers from a script, and writes all of it down: it stands for Slack, PagerDuty, Microsoft Teams, SES,
//! or anybody's webhook.

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::oneshot;

use crate::clock::now;

/// How a request is answered.
#[derive(Clone, Copy, Debug)]
pub enum Answer {
    /// With this status.
    Status(u16),
    /// With this status, and when to come back, in seconds.
    RetryAfter(u16, u32),
    /// Never.
    Hang,
}

/// One request, as it came.
#[derive(Clone, Debug)]
pub struct Received {
    /// The path of its URL.
    pub path: String,
    /// Names, in lower case, and values.
    pub headers: BTreeMap<String, String>,
    /// The body.
    pub text: String,
    /// The status of the answer; 0 when there was none.
    pub status: u16,
    /// When it came.
    pub at: Timestamp,
}

impl Received {
    /// Whether the sender was told that it was taken.
    #[must_use]
    pub const fn is_taken(&self) -> bool {
        self.status >= 200 && self.status < 300
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// When it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("no JSON: {error}: {}", self.text))
    }
}

#[derive(Default)]
struct Shared {
    received: Vec<Received>,
    /// By path, and what the body must hold; the last answer stays.
    script: BTreeMap<(String, String), VecDeque<Answer>>,
}

impl Shared {
    /// The next answer to a request; of two scripts for its path the one that looks at the body.
    fn answer(&mut self, path: &str, text: &str) -> Answer {
        let fits = |(of, part): &(String, String)| of == path && text.contains(part.as_str());
        let script = self.script.iter_mut().rev().find(|(key, _)| fits(key)).map(|(_, answers)| answers);
        let answer = script.and_then(|answers| if answers.len() > 1 { answers.pop_front() } else { answers.front().copied() });
        answer.unwrap_or(Answer::Status(200))
    }
}

/// The server, on a free port of 127.0.0.1, in a thread of its own. Ends when dropped.
pub struct Receiver {
    shared: Arc<Mutex<Shared>>,
    port: u16,
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Default for Receiver {
    fn default() -> Self {
        Self::start()
    }
}

impl Receiver {
    /// Starts it; it answers 200 to everything.
    ///
    /// # Panics
    /// When 127.0.0.1 has no free port.
    #[must_use]
    pub fn start() -> Self {
        let shared = Arc::new(Mutex::new(Shared::default()));
        let router = Router::new().fallback(take).with_state(Arc::clone(&shared));
        let (port, end, thread) = serve(router);
        Self { shared, port, end: Some(end), thread: Some(thread) }
    }

    /// The URL of a path.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// From now on requests to a path are answered so, one after the other; the last answer stays.
    pub fn script(&self, path: &str, answers: &[Answer]) {
        self.script_for(path, "", answers);
    }

    /// The same for requests whose body holds `part`.
    pub fn script_for(&self, path: &str, part: &str, answers: &[Answer]) {
        self.lock().script.insert((path.to_owned(), part.to_owned()), answers.iter().copied().collect());
    }

    /// The requests to a path so far.
    #[must_use]
    pub fn received(&self, path: &str) -> Vec<Received> {
        self.lock().received.iter().filter(|received| received.path == path).cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            // A panic in the thread was printed; the test fails for its own reason.
            let _ = thread.join();
        }
    }
}

async fn take(State(shared): State<Arc<Mutex<Shared>>>, _: Method, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let (path, text) = (uri.path().to_owned(), String::from_utf8_lossy(&body).into_owned());
    let headers = headers.iter().map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned())).collect();
    let answer = {
        let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = shared.answer(&path, &text);
        let status = match answer {
            Answer::Status(code) | Answer::RetryAfter(code, _) => code,
            Answer::Hang => 0,
        };
        shared.received.push(Received { path, headers, text, status, at: now() });
        answer
    };
    let status = |status: u16| StatusCode::from_u16(status).expect("a status of HTTP");
    match answer {
        Answer::Status(code) => (status(code), [("content-type", "application/json")], "{}").into_response(),
        Answer::RetryAfter(code, seconds) => (status(code), [("retry-after", seconds.to_string())], "slow down").into_response(),
        Answer::Hang => std::future::pending().await,
    }
}

/// Serves a router on a free port until the sender is dropped; open connections end with the thread.
pub(crate) fn serve(router: Router) -> (u16, oneshot::Sender<()>, JoinHandle<()>) {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("loopback has a free port");
    let port = listener.local_addr().expect("a bound listener has an address").port();
    listener.set_nonblocking(true).expect("a listener can be made non-blocking");
    let (end, ended) = oneshot::channel();
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime can be made");
        runtime.block_on(async move {
            let listener = tokio::net::TcpListener::from_std(listener).expect("a listener belongs to a runtime");
            let serving = std::future::IntoFuture::into_future(axum::serve(listener, router));
            tokio::select! {
                _ = serving => {}
                _ = ended => {}
            }
        });
    });
    (port, end, thread)
}
