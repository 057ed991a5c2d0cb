//! Small files that several writers change in turn: each change names the content that it replaces.

use bytes::Bytes;
use errand_model::failure::Failure;
use sha2::{Digest, Sha256};

use super::{Place, Put, Store, directory, glob, io};

/// Larger files are not for this.
const LIMIT: u64 = 1 << 20;

/// Names one content of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version(String);

impl Store {
    /// The content of a small file and its version; none when it is not there.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    pub async fn get_version(&self, key: &str) -> Result<Option<(Bytes, Version)>, Failure> {
        glob::check(key)?;
        match &self.place {
            Place::Directory(root) => {
                let path = root.join(key);
                let found = io::blocking(move || directory::get_small(&path, LIMIT)).await?;
                Ok(found.map(|content| (content.clone(), digest(&content))))
            }
            Place::Bucket(bucket) => {
                let (bucket, key) = (bucket.clone(), key.to_owned());
                let found = self.run(async move { bucket.get_version(&key).await }).await?;
                Ok(found.map(|(content, version)| (content, Version(version))))
            }
        }
    }

    /// Writes a small file in place of the content of this version; without one, as a new file. The new version; none when another writer
    /// was faster.
    ///
    /// In a bucket this is one conditional request. In a directory a file that is replaced is looked at first, and a writer that comes in
    /// between is not seen: directories are for one runner at a time.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub async fn swap(&self, key: &str, content: Bytes, expected: Option<&Version>) -> Result<Option<Version>, Failure> {
        glob::check(key)?;
        match &self.place {
            Place::Directory(_) => {
                let version = digest(&content);
                let Some(expected) = expected else {
                    return Ok((self.put_new(key, content).await? == Put::Created).then_some(version));
                };
                if self.get_version(key).await?.is_none_or(|(_, found)| found != *expected) {
                    return Ok(None);
                }
                self.put(key, content).await?;
                Ok(Some(version))
            }
            Place::Bucket(bucket) => {
                let (bucket, key, expected) = (bucket.clone(), key.to_owned(), expected.cloned());
                let swapped = async move { bucket.swap(&key, content, expected.as_ref().map(|version| version.0.as_str())).await };
                Ok(self.run(swapped).await?.map(Version))
            }
        }
    }
}

fn digest(content: &[u8]) -> Version {
    Version(Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect())
}
