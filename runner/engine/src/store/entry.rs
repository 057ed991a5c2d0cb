//! One file of a store, as it was when it was listed.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};

use base64::Engine;
use bytes::Bytes;
use errand_model::failure::{Failure, FailureKind};
use jiff::Timestamp;
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

use super::directory::{self, unreadable};
use super::io;
use super::read::Windows;
use super::{Place, Store};
use crate::aws::s3::{Bucket, Object};

/// One file of a store. Its functions block: they belong on a thread that may.
#[derive(Clone, Debug)]
pub struct FileEntry {
    /// Its path relative to the connection, with `/`.
    pub path: String,
    /// Where it lies on this machine; empty for an object of a bucket. Rather ask [`FileEntry::local`].
    pub absolute: PathBuf,
    /// Its size as it lies there.
    pub bytes: u64,
    /// When it was last changed, where the place says.
    pub modified: Option<Timestamp>,
    object: Option<(Bucket, Option<String>)>,
    cancelled: CancellationToken,
}

impl PartialEq for FileEntry {
    fn eq(&self, other: &Self) -> bool {
        (&self.path, &self.absolute, self.bytes, self.modified, &self.object)
            == (&other.path, &other.absolute, other.bytes, other.modified, &other.object)
    }
}

impl Eq for FileEntry {}

impl FileEntry {
    pub(super) fn of_file(path: String, absolute: PathBuf, bytes: u64, modified: Option<Timestamp>) -> Self {
        Self { path, absolute, bytes, modified, object: None, cancelled: CancellationToken::new() }
    }

    pub(super) fn of_object(bucket: &Bucket, object: Object, cancelled: CancellationToken) -> Self {
        let Object { key, bytes, modified, etag, .. } = object;
        Self { path: key, absolute: PathBuf::new(), bytes, modified, object: Some((bucket.clone(), etag)), cancelled }
    }

    /// The same file; reading it ends as `Cancelled` once `cancelled` is.
    #[must_use]
    pub fn cancelled_by(mut self, cancelled: CancellationToken) -> Self {
        self.cancelled = cancelled;
        self
    }

    /// Where it lies on this machine; none for an object of a bucket.
    #[must_use]
    pub fn local(&self) -> Option<&Path> {
        self.object.is_none().then_some(&*self.absolute)
    }

    /// The file as people and warehouses name it: `s3://bucket/prefix/key`, or its path.
    #[must_use]
    pub fn url(&self) -> String {
        match &self.object {
            Some((bucket, _)) => bucket.url(&self.path),
            None => self.absolute.display().to_string(),
        }
    }

    /// Its key in a store that reaches the same file; none when that one does not.
    #[must_use]
    pub fn key_in(&self, store: &Store) -> Option<String> {
        match (&store.place, &self.object) {
            (Place::Bucket(there), Some((bucket, _))) => there.key_of(bucket, &self.path),
            (Place::Directory(root), None) => {
                let root = root.canonicalize().ok()?;
                self.absolute.strip_prefix(root).ok()?.to_str().map(str::to_owned)
            }
            (Place::Bucket(_), None) | (Place::Directory(_), Some(_)) => None,
        }
    }

    /// What tells this content from that of other times without reading it; empty where the place does not say.
    #[must_use]
    pub fn version(&self) -> String {
        match &self.object {
            Some((_, Some(etag))) => format!("etag {etag}"),
            _ => self.modified.map_or_else(String::new, |modified| format!("modified {modified}")),
        }
    }

    /// Its content, from begin to end. An [`std::io::Error`] of it may carry a failure: see [`super::failure_of`].
    ///
    /// # Errors
    ///
    /// When it cannot be opened.
    pub fn open(&self) -> Result<Box<dyn Read + Send>, Failure> {
        self.open_range(0..self.bytes)
    }

    /// A part of its content. A range that leaves the file ends with it.
    ///
    /// # Errors
    ///
    /// When it cannot be opened.
    pub fn open_range(&self, range: Range<u64>) -> Result<Box<dyn Read + Send>, Failure> {
        if let Some((bucket, object)) = self.object() {
            let range = range.start.min(self.bytes)..range.end.min(self.bytes);
            return Ok(Box::new(Windows::new(bucket, object, range, self.cancelled.clone())));
        }
        let opened = File::open(&self.absolute).and_then(|mut file| {
            if range.start > 0 {
                file.seek(SeekFrom::Start(range.start))?;
            }
            Ok(file)
        });
        let file = opened.map_err(|error| unreadable(&self.path, &error))?;
        // All of a file: one that has grown is noticed by its length.
        if range == (0..self.bytes) { Ok(Box::new(file)) } else { Ok(Box::new(file.take(range.end.saturating_sub(range.start)))) }
    }

    /// `length` bytes from `offset` on.
    ///
    /// # Errors
    ///
    /// When they cannot be read, all of them; `Transient` when an object has changed.
    pub fn read_at(&self, offset: u64, length: u64) -> Result<Bytes, Failure> {
        let range = offset..offset.saturating_add(length);
        if range.end > self.bytes {
            let message = format!("`{}` has {} bytes, none from {offset} to {}", self.path, self.bytes, range.end);
            return Err(Failure::new(FailureKind::Rejected, "source::unreadable", message).help("the file is damaged: bring it again"));
        }
        if let Some((bucket, object)) = self.object() {
            let cancelled = self.cancelled.clone();
            return io::wait(async move { io::until(bucket.get(&object, range), &cancelled).await });
        }
        let mut content = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
        let mut file = self.open_range(range)?;
        file.read_exact(&mut content).map_err(|error| unreadable(&self.path, &error))?;
        Ok(Bytes::from(content))
    }

    /// SHA-256 of its content as it lies there, in hex; not read where the place knows it.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or is cancelled.
    pub fn digest(&self) -> Result<String, Failure> {
        if let Some((bucket, object)) = self.object() {
            let now = self.now(&bucket)?;
            let known = now.filter(|now| now.etag == object.etag).and_then(|now| now.sha256);
            if let Some(sum) =
                known.and_then(|sum| base64::engine::general_purpose::STANDARD.decode(sum).ok()).filter(|sum| sum.len() == 32)
            {
                return Ok(hex(&sum));
            }
        }
        let mut content = self.open()?;
        let mut hash = Sha256::new();
        let mut buffer = vec![0; 256 * 1024];
        loop {
            match content.read(&mut buffer).map_err(|error| super::failure_of(&error).unwrap_or_else(|| unreadable(&self.path, &error)))? {
                0 => return Ok(hex(&hash.finalize())),
                read => hash.update(&buffer[..read]),
            }
            if self.cancelled.is_cancelled() {
                return Err(io::cancelled());
            }
        }
    }

    /// Whether it is still what it was when it was listed.
    ///
    /// # Errors
    ///
    /// `Transient` when it is not: what was read of it may be half of the one and half of the other.
    pub fn check_unchanged(&self) -> Result<(), Failure> {
        let Some((bucket, object)) = self.object() else { return directory::check_unchanged(self) };
        let now = self.now(&bucket)?;
        let is_same = now.is_some_and(|now| match (&now.etag, &object.etag) {
            (Some(now), Some(then)) => now == then,
            _ => (now.bytes, now.modified) == (object.bytes, object.modified),
        });
        if is_same { Ok(()) } else { Err(super::changed(&self.path)) }
    }

    fn now(&self, bucket: &Bucket) -> Result<Option<Object>, Failure> {
        let (bucket, key, cancelled) = (bucket.clone(), self.path.clone(), self.cancelled.clone());
        io::wait(async move { io::until(bucket.head(&key), &cancelled).await })
    }

    fn object(&self) -> Option<(Bucket, Object)> {
        let (bucket, etag) = self.object.as_ref()?;
        let object = Object { key: self.path.clone(), bytes: self.bytes, modified: self.modified, etag: etag.clone(), sha256: None };
        Some((bucket.clone(), object))
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
