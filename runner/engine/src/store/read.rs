//! An object read from begin to end on a thread that blocks: window by window, the next one fetched meanwhile.

use std::io::{self, Read};
use std::ops::Range;
use std::sync::mpsc::{Receiver, sync_channel};

use bytes::Bytes;
use errand_model::failure::Failure;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::io as threads;
use crate::aws::s3::{Bucket, Object};

/// The first window: often only the head of a file is wanted.
const FIRST: u64 = 256 << 10;
/// Windows grow to this size; two of them are in memory at most.
const LARGEST: u64 = 8 << 20;

/// The content of one object.
pub(super) struct Windows {
    bucket: Bucket,
    object: Object,
    cancelled: CancellationToken,
    /// What is not asked for yet.
    rest: Range<u64>,
    size: u64,
    current: Bytes,
    coming: Option<Coming>,
}

/// A window on its way.
struct Coming {
    answer: Receiver<Result<Bytes, Failure>>,
    /// Ends it when it is not wanted any more.
    _task: AbortOnDropHandle<()>,
}

impl Windows {
    pub(super) fn new(bucket: Bucket, object: Object, range: Range<u64>, cancelled: CancellationToken) -> Self {
        Self { bucket, object, cancelled, rest: range, size: FIRST, current: Bytes::new(), coming: None }
    }

    fn ask(&mut self) -> Result<(), Failure> {
        if self.coming.is_some() || self.rest.is_empty() {
            return Ok(());
        }
        let window = self.rest.start..self.rest.end.min(self.rest.start + self.size);
        self.rest.start = window.end;
        self.size = (self.size * 4).min(LARGEST);
        let (bucket, object, cancelled) = (self.bucket.clone(), self.object.clone(), self.cancelled.clone());
        let (sender, answer) = sync_channel(1);
        let task = threads::handle()?.spawn(async move {
            let window = threads::until(bucket.get(&object, window), &cancelled).await;
            // Nobody waits any more when this fails.
            drop(sender.send(window));
        });
        self.coming = Some(Coming { answer, _task: AbortOnDropHandle::new(task) });
        Ok(())
    }

    /// Makes the next window the current one.
    fn advance(&mut self) -> Result<(), Failure> {
        // Nothing but the head is fetched ahead of need.
        let is_first = self.size == FIRST;
        self.current = Bytes::new();
        self.ask()?;
        let Some(coming) = self.coming.take() else { return Ok(()) };
        self.current = coming.answer.recv().unwrap_or_else(|_| Err(threads::defect("a window was not read")))?;
        if is_first { Ok(()) } else { self.ask() }
    }
}

impl Read for Windows {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.current.is_empty() {
            self.advance().map_err(io::Error::other)?;
        }
        let count = buffer.len().min(self.current.len());
        buffer[..count].copy_from_slice(&self.current.split_to(count));
        Ok(count)
    }
}
