//! A server that speaks Snowflake's protocol from a script: for what a real account does rarely and fakesnow never.
//!
//! It executes nothing: a statement is answered by the first rule of the [`Script`] that knows it. It writes down every request.

mod asked;
mod line;
mod protocol;
mod script;
mod state;

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use axum::extract::connect_info::IntoMakeServiceWithConnectInfo;
use serde_json::Value;
use tokio::sync::oneshot;

pub use script::{Reply, Script};

use crate::condition::wait_for;
use line::{Line, Lines};
use state::Shared;

/// One request, as it came.
#[derive(Clone, Debug)]
pub struct Request {
    /// The HTTP method.
    pub method: String,
    /// The path of the URL.
    pub path: String,
    /// The query string of the URL, without its question mark.
    pub query: String,
    /// Names, in lower case, and values.
    pub headers: Vec<(String, String)>,
    /// The body; null when there was none.
    pub body: Value,
    /// The number of the session, from 1, whose token it carried.
    pub session: Option<u64>,
}

/// One login that succeeded.
#[derive(Clone, Debug)]
pub struct Login {
    /// The number of the session, from 1.
    pub session: u64,
    /// The login name.
    pub user: String,
    /// The account.
    pub account: String,
    /// `PASSWORD`, `SNOWFLAKE_JWT`, `OAUTH`.
    pub authenticator: String,
    /// The session parameters; null when there were none.
    pub parameters: Value,
    /// The query string: warehouse, databaseName, schemaName, roleName.
    pub query: String,
}

/// One statement that was executed: once for each request id.
#[derive(Clone, Debug)]
pub struct Query {
    /// The query id.
    pub id: String,
    /// The request id of the client.
    pub request_id: String,
    /// The statement.
    pub sql: String,
    /// The bound parameters; null when there were none.
    pub bindings: Value,
    /// The parameters of the statement; null when there were none.
    pub parameters: Value,
    /// The number of its session.
    pub session: u64,
    /// The query tag of its session at that time.
    pub tag: String,
}

/// The server, on a free port of 127.0.0.1, in a thread of its own. Ends when dropped.
pub struct SnowflakeServer {
    shared: Arc<Shared>,
    port: u16,
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl SnowflakeServer {
    /// Starts it.
    ///
    /// # Panics
    /// When 127.0.0.1 has no free port.
    #[must_use]
    pub fn start(script: Script) -> Self {
        let shared = Arc::new(Shared::new(script));
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("loopback has a free port");
        let port = listener.local_addr().expect("a bound listener has an address").port();
        listener.set_nonblocking(true).expect("a listener can be made non-blocking");
        let (end, ended) = oneshot::channel();
        let router = protocol::router(Arc::clone(&shared)).into_make_service_with_connect_info::<Line>();
        let lines = Arc::clone(&shared);
        let thread = std::thread::spawn(move || serve(listener, lines, router, ended));
        Self { shared, port, end: Some(end), thread: Some(thread) }
    }

    /// The base URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The port.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// All requests so far.
    #[must_use]
    pub fn requests(&self) -> Vec<Request> {
        self.shared.lock().requests.clone()
    }

    /// The requests whose path contains `part`.
    #[must_use]
    pub fn requests_to(&self, part: &str) -> Vec<Request> {
        self.requests().into_iter().filter(|request| request.path.contains(part)).collect()
    }

    /// The logins that succeeded, in order.
    #[must_use]
    pub fn logins(&self) -> Vec<Login> {
        self.shared.lock().logins.clone()
    }

    /// What was executed, in order.
    #[must_use]
    pub fn queries(&self) -> Vec<Query> {
        self.shared.lock().executions.iter().map(|execution| execution.query.clone()).collect()
    }

    /// The text of what was executed, in order.
    #[must_use]
    pub fn statements(&self) -> Vec<String> {
        self.queries().into_iter().map(|query| query.sql).collect()
    }

    /// How many statements that contain `part` were executed.
    #[must_use]
    pub fn executions(&self, part: &str) -> usize {
        self.statements().iter().filter(|sql| sql.contains(part)).count()
    }

    /// The request ids of the statements that were aborted while they ran.
    #[must_use]
    pub fn aborted(&self) -> Vec<String> {
        self.shared.lock().aborted.iter().cloned().collect()
    }

    /// The numbers of the sessions that were closed.
    #[must_use]
    pub fn closed_sessions(&self) -> Vec<u64> {
        self.shared.lock().sessions.values().filter(|session| session.closed).map(|session| session.id).collect()
    }

    /// All sessions so far expire: their next request gets 390112.
    pub fn expire_sessions(&self) {
        for session in self.shared.lock().sessions.values_mut() {
            session.expired = true;
        }
    }

    /// From now on nothing stalls: what waits is answered.
    pub fn release(&self) {
        self.shared.lock().released = true;
        self.shared.changed.notify_waiters();
    }

    /// Waits until a statement that contains `part` was executed.
    ///
    /// # Panics
    /// When none was within ten seconds.
    pub fn wait_for_execution(&self, part: &str) {
        wait_for(&format!("a statement with `{part}`"), Duration::from_secs(10), || (self.executions(part) > 0).then_some(()));
    }
}

impl Drop for SnowflakeServer {
    fn drop(&mut self) {
        self.release();
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            // A panic in the thread was printed; the test fails for its own reason.
            let _ = thread.join();
        }
    }
}

/// Serves until the other end of `ended` is dropped; open connections end with the runtime.
fn serve(
    listener: std::net::TcpListener,
    shared: Arc<Shared>,
    router: IntoMakeServiceWithConnectInfo<axum::Router, Line>,
    ended: oneshot::Receiver<()>,
) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime can be made");
    runtime.block_on(async move {
        let listener = tokio::net::TcpListener::from_std(listener).expect("a listener belongs to a runtime");
        let serving = axum::serve(Lines::new(listener, shared), router).into_future();
        tokio::select! {
            _ = serving => {}
            _ = ended => {}
        }
    });
}
