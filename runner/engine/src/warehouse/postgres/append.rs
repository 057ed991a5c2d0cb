//! The session's side of a load: `COPY` in its binary form, fed by a thread that may block.

use std::future::pending;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use errand_model::failure::{Failure, FailureKind};
use futures_util::SinkExt;
use tokio::sync::mpsc;
use tokio_postgres::{Client, CopyInSink, Error};
use tokio_util::sync::CancellationToken;

use super::CAPABILITIES;
use super::error::{self, Sent};
use super::feed::{self, Event};
use super::link::{Link, Problem};
use crate::warehouse::{AppendTarget, NextChunk};

/// Longest time for a source to see that nobody wants its rows any more.
const SOURCE_ENDS: Duration = Duration::from_secs(10);

/// Appends all chunks, those of one table in their order; says how many rows went to each table.
pub(super) async fn append(link: &mut Link, targets: Vec<AppendTarget>, next: NextChunk) -> Result<Vec<u64>, Failure> {
    let statements: Vec<Statements> = targets.iter().map(Statements::of).collect();
    let (sender, events) = mpsc::channel(feed::BUFFERS);
    let feeding = tokio::task::spawn_blocking(move || feed::run(&targets, next, &sender));
    let (cancelled, timeout) = (link.cancelled().clone(), link.statement_timeout());
    let written = link.run(false, async |client| write(client, &statements, events, &cancelled, timeout).await).await;
    let fed = match tokio::time::timeout(SOURCE_ENDS, feeding).await {
        Ok(fed) => fed.map_err(|error| error::internal(format!("the thread that reads rows ended: {error}")))?,
        Err(_) => {
            tracing::warn!("the source of a load still waits for its own input; it is left alone");
            Ok(())
        }
    };
    match (written, fed) {
        // Its own failure is why the source went away.
        (Err(failure), Err(_)) if failure.kind == FailureKind::Cancelled => Err(failure),
        (_, Err(failure)) => Err(failure),
        (written, Ok(())) => written,
    }
}

/// What is sent for one target.
struct Statements {
    /// Parsed and never run: finds the table and its columns, and waits for its lock. The driver loses step with the server when a `COPY`
    /// fails at its very begin, for it has sent two ends of the request by then, and each is answered; so nothing common may fail there.
    check: String,
    copy: String,
}

impl Statements {
    fn of(target: &AppendTarget) -> Self {
        let table = CAPABILITIES.quote_table(&target.table);
        let columns = CAPABILITIES.quote_list(target.columns.iter().map(|(name, _)| name.as_str()));
        let nulls = vec!["NULL"; target.columns.len()].join(", ");
        Self {
            check: format!("INSERT INTO {table} ({columns}) VALUES ({nulls})"),
            copy: format!("COPY {table} ({columns}) FROM STDIN (FORMAT binary)"),
        }
    }
}

async fn write(
    client: &Client,
    statements: &[Statements],
    mut events: mpsc::Receiver<Event>,
    cancelled: &CancellationToken,
    timeout: Option<Duration>,
) -> Result<Vec<u64>, Problem> {
    let mut counts = vec![0; statements.len()];
    while let Some(event) = events.recv().await {
        let Event::Open(table) = event else { return Err(error::internal("rows outside of a statement").into()) };
        let begun = tokio::time::Instant::now();
        let problem = |error: Error| Problem::of(&error, Sent::own());
        client.prepare(&statements[table].check).await.map_err(problem)?;
        let opened = client.copy_in(&statements[table].copy).await;
        let opened = opened.map_err(|error| Problem { is_broken: true, ..problem(error) })?;
        let mut sink: Pin<Box<CopyInSink<Bytes>>> = Box::pin(opened);
        loop {
            let late = async {
                match timeout {
                    Some(timeout) => tokio::time::sleep_until(begun + timeout).await,
                    None => pending().await,
                }
            };
            let event = tokio::select! {
                event = events.recv() => event,
                () = cancelled.cancelled() => return Err(error::cancelled().into()),
                () = late => return Err(slow().into()),
            };
            match event {
                Some(Event::Rows(bytes)) => sink.feed(bytes).await.map_err(problem)?,
                Some(Event::Close) => break,
                Some(Event::Open(_)) | None => return Err(error::internal("the source went away").into()),
            }
        }
        counts[table] += sink.as_mut().finish().await.map_err(problem)?;
    }
    Ok(counts)
}

/// The server looks at its own clock only when rows arrive.
fn slow() -> Failure {
    Failure::new(FailureKind::Timeout, "warehouse::statement_timeout", "loading rows took longer than the step may")
        .help("give the step a longer `timeout`")
}
