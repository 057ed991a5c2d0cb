//! Places with files, behind one type: a directory of this machine, or a bucket of S3.
//!
//! Keys are relative to the connection's root, with `/`. What is written is there whole or not at all. Every function may be called with and
//! without a runtime around it: network and disk work runs on threads of its own. Must not know formats, jobs or warehouses.

mod bucket;
mod directory;
mod entry;
mod full;
mod glob;
mod io;
mod read;
pub mod scratch;
mod swap;
mod upload;

use std::future::Future;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use errand_model::failure::{Failure, FailureKind};
use errand_model::job::Connection;
use tokio_util::sync::CancellationToken;

pub use entry::FileEntry;
pub use full::{Full, write_help};
pub use swap::Version;
pub use upload::Upload;

use crate::aws::s3::Bucket;
pub use crate::aws::s3::Patience;

/// Files of one connection, or those under a path of it.
#[derive(Clone, Debug)]
pub struct Store {
    place: Place,
    cancelled: CancellationToken,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Directory(PathBuf),
    Bucket(Bucket),
}

/// What a write that must not replace anything came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// The file is new.
    Created,
    /// There was one already, which stays as it is.
    Exists,
}

/// What happens to a file that is already there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// It is replaced when the new one is whole.
    Replace,
    /// It stays, and the writer is told [`Put::Exists`].
    Keep,
}

impl PartialEq for Store {
    fn eq(&self, other: &Self) -> bool {
        self.place == other.place
    }
}

impl Eq for Store {}

impl Store {
    /// The files of a connection; nothing is asked of a server yet. Relative directories start at `state_dir`.
    ///
    /// # Errors
    ///
    /// `Definition` when the connection holds no files (`store::not_files`), or its endpoint is no URL or one that would send data without
    /// encryption to another machine (`store::endpoint`).
    pub fn open(connection: &Connection, state_dir: &Path) -> Result<Self, Failure> {
        match connection {
            Connection::Directory { path } => Ok(Self::directory(state_dir.join(path))),
            Connection::S3(s3) => Ok(Self { place: Place::Bucket(Bucket::new(s3)?), cancelled: CancellationToken::new() }),
            Connection::Duckdb { .. } | Connection::Postgres(_) | Connection::Redshift(_) | Connection::Snowflake(_) => {
                let message = format!("a connection of `{}` is not a place with files", connection.word());
                Err(Failure::new(FailureKind::Definition, "store::not_files", message).help("name a connection of `directory` or `s3`"))
            }
        }
    }

    /// The files under a directory of this machine.
    #[must_use]
    pub fn directory(root: impl Into<PathBuf>) -> Self {
        Self { place: Place::Directory(root.into()), cancelled: CancellationToken::new() }
    }

    /// The same files; what this store and its entries do ends as `Cancelled` once `cancelled` is.
    #[must_use]
    pub fn cancelled_by(&self, cancelled: CancellationToken) -> Self {
        Self { place: self.place.clone(), cancelled }
    }

    /// The same files, with other limits of time for a server.
    #[must_use]
    pub fn with_patience(&self, patience: Patience) -> Self {
        let place = match &self.place {
            Place::Directory(root) => Place::Directory(root.clone()),
            Place::Bucket(bucket) => Place::Bucket(bucket.with_patience(patience)),
        };
        Self { place, cancelled: self.cancelled.clone() }
    }

    /// The files under a path of this store: keys are relative to it.
    #[must_use]
    pub fn under(&self, path: &str) -> Self {
        let place = match &self.place {
            Place::Directory(root) => Place::Directory(root.join(path)),
            Place::Bucket(bucket) => Place::Bucket(bucket.under(path)),
        };
        Self { place, cancelled: self.cancelled.clone() }
    }

    /// Where a file of this machine lies; none for objects of a bucket.
    #[must_use]
    pub fn local(&self, key: &str) -> Option<PathBuf> {
        match &self.place {
            Place::Directory(root) => Some(root.join(key)),
            Place::Bucket(_) => None,
        }
    }

    /// The file as people and warehouses name it: `s3://bucket/prefix/key`, or its path. With an empty key the root itself.
    #[must_use]
    pub fn url(&self, key: &str) -> String {
        match &self.place {
            Place::Directory(root) if key.is_empty() => root.display().to_string(),
            Place::Directory(root) => root.join(key).display().to_string(),
            Place::Bucket(bucket) => bucket.url(key),
        }
    }

    /// The files that `pattern` names, sorted by path; none when nothing matches.
    ///
    /// A pattern knows `*`, `**`, `?`, `[ab]` and `{a,b}`; a `*` does not cross `/`.
    ///
    /// # Errors
    ///
    /// When the pattern is wrong or leaves the root, or the place cannot be listed.
    pub async fn list(&self, pattern: &str) -> Result<Vec<FileEntry>, Failure> {
        let (pattern, token) = (pattern.to_owned(), self.cancelled.clone());
        match &self.place {
            Place::Directory(root) => {
                let root = root.clone();
                let found = io::blocking(move || directory::list(&root, &pattern)).await?;
                Ok(found.into_iter().map(|entry| entry.cancelled_by(token.clone())).collect())
            }
            Place::Bucket(bucket) => self.run(bucket::list(bucket.clone(), pattern, token)).await,
        }
    }

    /// One file, as it is now; none when it is not there.
    ///
    /// # Errors
    ///
    /// When the place cannot be asked.
    pub async fn head(&self, key: &str) -> Result<Option<FileEntry>, Failure> {
        glob::check(key)?;
        match &self.place {
            Place::Directory(root) => {
                let (root, key) = (root.clone(), key.to_owned());
                let found = io::blocking(move || directory::head(&root, &key)).await?;
                Ok(found.map(|entry| entry.cancelled_by(self.cancelled.clone())))
            }
            Place::Bucket(bucket) => {
                let (asked, key) = (bucket.clone(), key.to_owned());
                let found = self.run(async move { asked.head(&key).await }).await?;
                Ok(found.map(|object| FileEntry::of_object(bucket, object, self.cancelled.clone())))
            }
        }
    }

    /// The content of a small file; none when it is not there.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or is larger than `limit` (`store::too_large`).
    pub async fn get_small(&self, key: &str, limit: u64) -> Result<Option<Bytes>, Failure> {
        glob::check(key)?;
        match &self.place {
            Place::Directory(root) => {
                let path = root.join(key);
                io::blocking(move || directory::get_small(&path, limit)).await
            }
            Place::Bucket(bucket) => {
                let (bucket, key) = (bucket.clone(), key.to_owned());
                self.run(async move {
                    let Some(object) = bucket.head(&key).await? else { return Ok(None) };
                    if object.bytes > limit {
                        return Err(too_large(&bucket.url(&key), limit));
                    }
                    bucket.get(&object, 0..object.bytes).await.map(Some)
                })
                .await
            }
        }
    }

    /// Writes a small file; one that is there is replaced.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub async fn put(&self, key: &str, content: Bytes) -> Result<(), Failure> {
        self.write(key, content, Existing::Replace).await.map(|_| ())
    }

    /// Writes a small file unless there is one.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub async fn put_new(&self, key: &str, content: Bytes) -> Result<Put, Failure> {
        self.write(key, content, Existing::Keep).await
    }

    /// Copies a file of this machine here; one that is there is replaced. Returns its size.
    ///
    /// # Errors
    ///
    /// When it cannot be read or written. Nothing half-written stays.
    pub async fn put_file(&self, local: &Path, key: &str) -> Result<u64, Failure> {
        upload::copy(self, local, key, Existing::Replace).await.map(|(_, bytes)| bytes)
    }

    /// Copies a file of this machine here unless there is one.
    ///
    /// # Errors
    ///
    /// When it cannot be read or written. Nothing half-written stays.
    pub async fn put_new_file(&self, local: &Path, key: &str) -> Result<Put, Failure> {
        upload::copy(self, local, key, Existing::Keep).await.map(|(put, _)| put)
    }

    /// Begins a file of any length, which is there once [`Upload::finish`] says so.
    ///
    /// # Errors
    ///
    /// When the key is no path inside of the connection.
    pub fn upload(&self, key: &str, existing: Existing) -> Result<Upload, Failure> {
        glob::check(key)?;
        Upload::begin(self, key, existing)
    }

    /// Removes files; those that are not there are passed over.
    ///
    /// # Errors
    ///
    /// When one cannot be removed.
    pub async fn remove(&self, keys: &[String]) -> Result<(), Failure> {
        keys.iter().try_for_each(|key| glob::check(key))?;
        match &self.place {
            Place::Directory(root) => {
                let paths: Vec<PathBuf> = keys.iter().map(|key| root.join(key)).collect();
                io::blocking(move || directory::remove(&paths)).await
            }
            Place::Bucket(bucket) => {
                let (bucket, keys) = (bucket.clone(), keys.to_vec());
                self.run(async move { bucket.remove(&keys).await }).await
            }
        }
    }

    async fn write(&self, key: &str, content: Bytes, existing: Existing) -> Result<Put, Failure> {
        glob::check(key)?;
        match &self.place {
            Place::Directory(_) => {
                let mut upload = Upload::begin(self, key, existing)?;
                upload.write(content).await?;
                upload.finish().await
            }
            Place::Bucket(bucket) => {
                let (bucket, key) = (bucket.clone(), key.to_owned());
                let created = self.run(async move { bucket.put(&key, content, existing == Existing::Keep).await }).await?;
                Ok(if created { Put::Created } else { Put::Exists })
            }
        }
    }

    async fn run<T: Send + 'static>(&self, work: impl Future<Output = Result<T, Failure>> + Send + 'static) -> Result<T, Failure> {
        io::run(work, &self.cancelled).await
    }
}

/// Waits for work of a store on this thread, which need not belong to a runtime.
///
/// # Errors
///
/// What the work says.
pub fn wait<T: Send + 'static>(work: impl Future<Output = Result<T, Failure>> + Send + 'static) -> Result<T, Failure> {
    io::wait(work)
}

/// The failure that an error of [`FileEntry::open`]'s content carries, where a server and not the content is to blame.
#[must_use]
pub fn failure_of(error: &std::io::Error) -> Option<Failure> {
    error.get_ref().and_then(|inner| inner.downcast_ref::<Failure>()).cloned()
}

fn too_large(path: &str, limit: u64) -> Failure {
    Failure::new(FailureKind::Rejected, "store::too_large", format!("`{path}` has more than {limit} bytes"))
}

fn changed(path: &str) -> Failure {
    Failure::new(FailureKind::Transient, "source::changed", format!("`{path}` changed while it was read"))
        .help("write files under another name and rename them when they are whole")
}
