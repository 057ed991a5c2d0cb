//! Finished files on their way into the store, a few side by side while the next ones are made.

use std::sync::Arc;

use errand_model::failure::Failure;
use tempfile::TempPath;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::{JoinError, JoinSet};
use tracing::Instrument;

use super::{Part, Parts, defect};
use crate::store::{Put, Store};

/// Files on their way at once. How many of their bytes are in memory is the store's concern.
const UPLOADS: usize = 3;
/// Scratch space of finished files, in MiB: who finishes one more waits. One file is admitted even when it needs more.
const SCRATCH: u32 = 512;

/// A file that is whole, in scratch space.
pub(in crate::warehouse) struct Finished {
    /// Index of its table.
    pub(in crate::warehouse) table: usize,
    /// Where it lies; it vanishes with the last user of this path.
    pub(in crate::warehouse) file: TempPath,
    /// What its name ends in, without the first dot.
    pub(in crate::warehouse) extension: &'static str,
    /// Its rows.
    pub(in crate::warehouse) rows: u64,
    /// Its size.
    pub(in crate::warehouse) bytes: u64,
    /// Digest of its content, hexadecimal.
    pub(in crate::warehouse) sha256: String,
}

/// Takes finished files. Its functions block.
pub(in crate::warehouse) struct Sink {
    files: mpsc::UnboundedSender<(Finished, OwnedSemaphorePermit)>,
    room: Arc<Semaphore>,
    runtime: Handle,
}

impl Sink {
    /// Hands a file over, and waits while too many are on their way; files of one table keep their order. False when nobody takes files
    /// any more: whoever does not knows why.
    pub(in crate::warehouse) fn put(&self, finished: Finished) -> bool {
        let size = u32::try_from(finished.bytes >> 20).unwrap_or(SCRATCH).clamp(1, SCRATCH);
        let Ok(room) = self.runtime.block_on(Arc::clone(&self.room).acquire_many_owned(size)) else { return false };
        self.files.send((finished, room)).is_ok()
    }

    /// Whether nobody takes files any more.
    pub(in crate::warehouse) fn is_closed(&self) -> bool {
        self.room.is_closed()
    }
}

/// Uploads what `make` finishes; returns the files of each table in the order in which they were finished.
///
/// # Errors
///
/// What `make` or the store says.
pub(super) async fn all(
    store: &Store,
    load: &str,
    tables: usize,
    make: impl FnOnce(&Sink) -> Result<(), Failure> + Send + 'static,
) -> Result<Vec<Parts>, Failure> {
    let room = Arc::new(Semaphore::new(SCRATCH as usize));
    let (files, receiver) = mpsc::unbounded_channel();
    let sink = Sink { files, room: Arc::clone(&room), runtime: Handle::current() };
    let making = tokio::task::spawn_blocking(move || make(&sink));
    let mut uploads = Uploads { store, load, tables: vec![Vec::new(); tables], running: JoinSet::new() };
    let uploaded = uploads.run(receiver).await;
    // Whoever still makes files learns of a failure here.
    room.close();
    if uploaded.is_err() {
        uploads.running.shutdown().await;
    }
    let made = making.await.map_err(|error| defect(format!("the thread that makes files ended: {error}")))?;
    uploaded?;
    made?;
    uploads.tables.into_iter().map(|parts| parts.into_iter().collect::<Option<Vec<Part>>>().map(Parts).ok_or_else(lost)).collect()
}

fn lost() -> Failure {
    defect("a file was not uploaded, and nobody said why".to_owned())
}

/// Which part of which table.
type Uploaded = Result<(usize, usize, Part), Failure>;

struct Uploads<'a> {
    store: &'a Store,
    load: &'a str,
    /// Those that are still on their way are not there.
    tables: Vec<Vec<Option<Part>>>,
    running: JoinSet<Uploaded>,
}

impl Uploads<'_> {
    async fn run(&mut self, mut files: mpsc::UnboundedReceiver<(Finished, OwnedSemaphorePermit)>) -> Result<(), Failure> {
        let mut are_more = true;
        loop {
            tokio::select! {
                Some(ended) = self.running.join_next() => self.ended(ended)?,
                next = files.recv(), if are_more && self.running.len() < UPLOADS => match next {
                    Some((finished, room)) => self.begin(finished, room)?,
                    None => are_more = false,
                },
                else => return Ok(()),
            }
        }
    }

    /// Names follow from the order in which files are finished, not from that in which they arrive.
    fn begin(&mut self, finished: Finished, room: OwnedSemaphorePermit) -> Result<(), Failure> {
        let Finished { table, file, extension, rows, bytes, sha256 } = finished;
        let parts = self.tables.get_mut(table).ok_or_else(|| defect(format!("no table has the index {table}")))?;
        let at = parts.len();
        parts.push(None);
        let key = format!("{}/{table}/{at:05}-{}.{extension}", self.load, sha256.get(..16).unwrap_or(&sha256));
        let store = self.store.clone();
        let upload = async move {
            let put = store.put_new_file(&file, &key).await?;
            // Its name says what it holds; of what somebody else did to it since, its size tells.
            if put == Put::Exists && store.head(&key).await?.is_none_or(|found| found.bytes != bytes) {
                store.put_file(&file, &key).await?;
            }
            tracing::debug!(file = %key, rows, bytes, new = (put == Put::Created), "part staged");
            // First the space, then the word that there is some.
            drop(file);
            drop(room);
            Ok::<_, Failure>((table, at, Part { key, rows, bytes, sha256 }))
        };
        self.running.spawn(upload.in_current_span());
        Ok(())
    }

    fn ended(&mut self, ended: Result<Uploaded, JoinError>) -> Result<(), Failure> {
        let (table, at, part) = ended.map_err(|error| defect(format!("an upload ended: {error}")))??;
        if let Some(place) = self.tables.get_mut(table).and_then(|parts| parts.get_mut(at)) {
            *place = Some(part);
        }
        Ok(())
    }
}
