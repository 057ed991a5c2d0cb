//! A file on its way into a store: it is there whole, or not at all.

use std::fs::{self, File, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use bytes::Bytes;
use errand_model::failure::{Failure, FailureKind};
use tempfile::NamedTempFile;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::directory::{unreadable, unwritable};
use super::{Existing, Place, Put, Store, io};
use crate::aws::s3::Multipart;

/// Bytes read from a local file at once.
const CHUNK: usize = 1 << 20;

/// A file on its way. Dropped without [`Upload::finish`], it never was.
pub struct Upload {
    messages: Sender<Message>,
    task: JoinHandle<Result<Put, Failure>>,
    cancelled: CancellationToken,
    bytes: u64,
}

enum Message {
    Content(Bytes),
    Finish,
}

impl Upload {
    pub(super) fn begin(store: &Store, key: &str, existing: Existing) -> Result<Self, Failure> {
        let (messages, receiver) = channel(1);
        let cancelled = store.cancelled.clone();
        let task = match &store.place {
            Place::Directory(root) => {
                let path = root.join(key);
                io::handle()?.spawn_blocking(move || to_directory(&path, existing, receiver))
            }
            Place::Bucket(bucket) => {
                let upload = Multipart::new(bucket, key, existing == Existing::Keep);
                io::handle()?.spawn(to_bucket(upload, receiver, cancelled.clone()))
            }
        };
        Ok(Self { messages, task, cancelled, bytes: 0 })
    }

    /// Appends; waits while too much is on its way.
    ///
    /// # Errors
    ///
    /// When the place cannot be written, or on cancellation. The file never was, then.
    pub async fn write(&mut self, content: Bytes) -> Result<(), Failure> {
        let length = content.len() as u64;
        self.send(Message::Content(content)).await?;
        self.bytes += length;
        Ok(())
    }

    /// Bytes written so far.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Waits until the file is there, whole and durable.
    ///
    /// # Errors
    ///
    /// When the place cannot be written, or on cancellation. The file never was, then; unless the connection was lost at the very end, when it
    /// may be there whole.
    pub async fn finish(mut self) -> Result<Put, Failure> {
        self.send(Message::Finish).await?;
        (&mut self.task).await.unwrap_or_else(|error| Err(io::defect(&error.to_string())))
    }

    /// Gives the file up and waits until nothing of it is left.
    pub async fn abort(self) {
        let Self { messages, task, .. } = self;
        drop(messages);
        // Whether it failed or was given up, it is gone.
        drop(task.await);
    }

    async fn send(&mut self, message: Message) -> Result<(), Failure> {
        if !self.cancelled.is_cancelled() && self.messages.send(message).await.is_ok() {
            return Ok(());
        }
        // The writer has ended before it was told to: it says why.
        let (closed, _) = channel(1);
        drop(std::mem::replace(&mut self.messages, closed));
        match (&mut self.task).await {
            Ok(Err(failure)) => Err(failure),
            Ok(Ok(_)) => Err(io::defect("a file ended early")),
            Err(error) => Err(io::defect(&error.to_string())),
        }
    }
}

/// Copies a local file.
pub(super) async fn copy(store: &Store, local: &Path, key: &str, existing: Existing) -> Result<(Put, u64), Failure> {
    let path = local.to_path_buf();
    let mut file = io::blocking(move || File::open(&path).map_err(|error| unreadable(&path.display().to_string(), &error))).await?;
    let mut upload = store.upload(key, existing)?;
    loop {
        let shown = local.display().to_string();
        let read = io::blocking(move || {
            let mut chunk = Vec::with_capacity(CHUNK);
            let read = Read::by_ref(&mut file).take(CHUNK as u64).read_to_end(&mut chunk);
            read.map(|_| (file, Bytes::from(chunk))).map_err(|error| unreadable(&shown, &error))
        });
        match read.await {
            Ok((_, chunk)) if chunk.is_empty() => break,
            Ok((rest, chunk)) => {
                file = rest;
                upload.write(chunk).await?;
            }
            Err(failure) => {
                upload.abort().await;
                return Err(failure);
            }
        }
    }
    let bytes = upload.bytes();
    upload.finish().await.map(|put| (put, bytes))
}

async fn to_bucket(mut upload: Multipart, mut messages: Receiver<Message>, cancelled: CancellationToken) -> Result<Put, Failure> {
    let work = async {
        while let Some(message) = messages.recv().await {
            match message {
                Message::Content(content) => upload.write(&content).await?,
                Message::Finish => return upload.finish().await.map(|created| if created { Put::Created } else { Put::Exists }),
            }
        }
        Err(given_up())
    };
    let result = tokio::select! {
        biased;
        () = cancelled.cancelled() => Err(io::cancelled()),
        result = work => result,
    };
    if result.is_err() {
        upload.abort().await;
    }
    result
}

fn to_directory(path: &Path, existing: Existing, mut messages: Receiver<Message>) -> Result<Put, Failure> {
    let fault = |error: std::io::Error| unwritable("write", path, &error);
    let parent = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(parent).map_err(|error| unwritable("make directory", parent, &error))?;
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    // What others may read is left to the umask, as for any file; scratch files are private otherwise.
    let mut scratch = tempfile::Builder::new()
        .prefix(&format!(".{name}."))
        .suffix(".partial")
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(parent)
        .map_err(fault)?;
    while let Some(message) = messages.blocking_recv() {
        match message {
            Message::Content(content) => scratch.write_all(&content).map_err(fault)?,
            Message::Finish => return publish(scratch, path, parent, existing),
        }
    }
    Err(given_up())
}

/// Durable before it is visible: contents, then name, then directory.
fn publish(scratch: NamedTempFile, path: &Path, parent: &Path, existing: Existing) -> Result<Put, Failure> {
    let fault = |error: std::io::Error| unwritable("write", path, &error);
    scratch.as_file().sync_all().map_err(fault)?;
    let placed = match existing {
        Existing::Replace => scratch.persist(path),
        Existing::Keep => scratch.persist_noclobber(path),
    };
    match placed {
        Ok(_) => {}
        Err(error) if existing == Existing::Keep && error.error.kind() == std::io::ErrorKind::AlreadyExists => return Ok(Put::Exists),
        Err(error) => return Err(unwritable("move a file to", path, &error.error)),
    }
    File::open(parent).and_then(|directory| directory.sync_all()).map_err(|error| unwritable("write", parent, &error))?;
    Ok(Put::Created)
}

fn given_up() -> Failure {
    Failure::new(FailureKind::Cancelled, "store::given_up", "a file was given up before its end")
}
