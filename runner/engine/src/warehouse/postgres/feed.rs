//! The blocking side of a load: takes chunks from the source, encodes them, and hands buffers to the session.
//!
//! One `COPY` at a time runs on a session.

use bytes::Bytes;
use errand_model::failure::Failure;
use tokio::sync::mpsc;

use super::encode::{Encoder, HEADER, TRAILER};
use super::error::internal;
use crate::warehouse::queue::Queue;
use crate::warehouse::{AppendTarget, NextChunk};

/// Size of a buffer.
const BUFFER: usize = 256 << 10;
/// Buffers between the two sides.
pub(super) const BUFFERS: usize = 4;
/// Bytes of one statement: what the server refuses in the middle is only heard at its end.
const STATEMENT: usize = 256 << 20;

/// What the session is told to do.
pub(super) enum Event {
    /// Begin a `COPY` into the table with this index.
    Open(usize),
    /// Send these bytes.
    Rows(Bytes),
    /// End it.
    Close,
}

/// Runs until the source ends, fails, or nobody takes its rows any more; the last is no failure of this side.
pub(super) fn run(targets: &[AppendTarget], next: NextChunk, sender: &mpsc::Sender<Event>) -> Result<(), Failure> {
    let mut queue = Queue::new(next);
    let mut encoders: Vec<Encoder<'_>> = targets.iter().map(Encoder::new).collect();
    while let Some(first) = queue.first()? {
        let table = first.table;
        let Some(encoder) = encoders.get_mut(table) else {
            return Err(internal(format!("rows for a table with index {table}, which nobody named")));
        };
        let mut statement = Statement::begin(sender, table);
        let mut next = Some(first.rows);
        while let Some(rows) = next {
            let mut buffer = std::mem::take(&mut statement.buffer);
            let encoded = encoder.encode(&rows, &mut buffer, |buffer| statement.flush(buffer));
            statement.buffer = buffer;
            encoded?;
            if !statement.is_taken {
                return Ok(());
            }
            next = if statement.sent < STATEMENT { queue.more(table)? } else { None };
        }
        if !statement.end() {
            return Ok(());
        }
    }
    Ok(())
}

/// A running `COPY`.
struct Statement<'a> {
    sender: &'a mpsc::Sender<Event>,
    buffer: Vec<u8>,
    sent: usize,
    /// Whether the other side is still there.
    is_taken: bool,
}

impl<'a> Statement<'a> {
    fn begin(sender: &'a mpsc::Sender<Event>, table: usize) -> Self {
        let mut buffer = buffer();
        buffer.extend_from_slice(HEADER);
        Self { sender, buffer, sent: 0, is_taken: sender.blocking_send(Event::Open(table)).is_ok() }
    }

    /// Sends the buffer when it is full; says whether more is wanted.
    fn flush(&mut self, filled: &mut Vec<u8>) -> bool {
        if filled.len() >= BUFFER {
            self.send(std::mem::replace(filled, buffer()));
        }
        self.is_taken
    }

    fn send(&mut self, full: Vec<u8>) {
        self.sent += full.len();
        self.is_taken = self.is_taken && self.sender.blocking_send(Event::Rows(Bytes::from(full))).is_ok();
    }

    fn end(mut self) -> bool {
        let mut last = std::mem::take(&mut self.buffer);
        last.extend_from_slice(TRAILER);
        self.send(last);
        self.is_taken && self.sender.blocking_send(Event::Close).is_ok()
    }
}

/// A buffer with room for the block that fills it.
fn buffer() -> Vec<u8> {
    Vec::with_capacity(BUFFER + BUFFER / 4)
}
