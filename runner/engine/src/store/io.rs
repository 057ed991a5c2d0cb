//! The threads on which stores work, apart from the caller's: so that readers may block, with a runtime around them or without.

use std::future::Future;
use std::sync::OnceLock;
use std::sync::mpsc::sync_channel;

use errand_model::failure::{Failure, FailureKind};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

/// Threads that speak with servers; work that blocks gets others.
const THREADS: usize = 2;

/// One for the process: connections to servers outlive the runtime of any one run, and a runtime must not end inside of another.
static RUNTIME: OnceLock<Result<Runtime, String>> = OnceLock::new();

/// Where store work runs.
pub(super) fn handle() -> Result<&'static Handle, Failure> {
    let start = || Builder::new_multi_thread().worker_threads(THREADS).thread_name("store").enable_all().build();
    match RUNTIME.get_or_init(|| start().map_err(|error| error.to_string())) {
        Ok(runtime) => Ok(runtime.handle()),
        Err(error) => {
            Err(Failure::new(FailureKind::Transient, "store::no_runtime", format!("cannot start the threads of stores: {error}")))
        }
    }
}

/// Runs work until it ends or is cancelled.
pub(super) async fn run<T: Send + 'static>(
    work: impl Future<Output = Result<T, Failure>> + Send + 'static,
    stop: &CancellationToken,
) -> Result<T, Failure> {
    let task = AbortOnDropHandle::new(handle()?.spawn(work));
    tokio::select! {
        biased;
        () = stop.cancelled() => Err(cancelled()),
        result = task => result.unwrap_or_else(|error| Err(defect(&error.to_string()))),
    }
}

/// Does work until it ends or is cancelled, on the threads of stores already.
pub(super) async fn until<T>(work: impl Future<Output = Result<T, Failure>>, stop: &CancellationToken) -> Result<T, Failure> {
    tokio::select! {
        biased;
        () = stop.cancelled() => Err(cancelled()),
        result = work => result,
    }
}

/// Runs work that blocks its thread.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Failure> + Send + 'static) -> Result<T, Failure> {
    handle()?.spawn_blocking(work).await.unwrap_or_else(|error| Err(defect(&error.to_string())))
}

/// Waits on this thread until the work has ended.
pub(super) fn wait<T: Send + 'static>(work: impl Future<Output = Result<T, Failure>> + Send + 'static) -> Result<T, Failure> {
    let (answer, answered) = sync_channel(1);
    let task = AbortOnDropHandle::new(handle()?.spawn(async move {
        // Nobody waits any more when this fails.
        drop(answer.send(work.await));
    }));
    let result = answered.recv().unwrap_or_else(|_| Err(defect("the work ended without an answer")));
    drop(task);
    result
}

pub(super) fn cancelled() -> Failure {
    Failure::new(FailureKind::Cancelled, "store::cancelled", "reading or writing files was cancelled")
}

pub(super) fn defect(message: &str) -> Failure {
    Failure::new(FailureKind::Internal, "store::panic", format!("work with files ended by a defect: {message}"))
        .help("this is a defect of errand: report it")
}
