//! A file in scratch space on its way into a store: its size and digest are known when it is whole, so that nobody reads it for them.

use std::error::Error;
use std::fs::File;
use std::io::{self, BufWriter, Write};

use errand_model::failure::{Failure, FailureKind, chain};
use sha2::{Digest, Sha256};
use tempfile::{NamedTempFile, TempPath};

use super::Full;

/// Bytes that are gathered before they are written.
const GATHERED: usize = 256 << 10;

/// One file that is being written.
pub struct Scratch {
    file: BufWriter<File>,
    hash: Sha256,
    bytes: u64,
}

impl Scratch {
    /// Makes a file; it vanishes with its path.
    ///
    /// # Errors
    ///
    /// What the operating system says; [`failure`] tells it.
    pub fn create() -> io::Result<(Self, TempPath)> {
        let (file, path) = NamedTempFile::with_prefix("errand-part-")?.into_parts();
        Ok((Self { file: BufWriter::with_capacity(GATHERED, file), hash: Sha256::new(), bytes: 0 }, path))
    }

    /// Its size, and the digest of its content in hexadecimal.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    pub fn finish(mut self) -> io::Result<(u64, String)> {
        self.file.flush()?;
        Ok((self.bytes, self.hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()))
    }
}

impl Write for Scratch {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let written = self.file.write(buffer)?;
        self.hash.update(&buffer[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// A part that cannot be written.
#[must_use]
pub fn failure(error: &(dyn Error + 'static)) -> Failure {
    const NEED: &str =
        "parts wait in the temporary directory until they are uploaded: it needs some hundred MB; set `TMPDIR` to a larger disk";
    let directory = tempfile::env::temp_dir();
    let message = format!("cannot write a part in `{}`: {}", directory.display(), chain(error));
    match Full::of(error) {
        Some(full) => Failure::new(FailureKind::Permanent, "warehouse::disk_full", message).help(format!("{}; {NEED}", full.help())),
        None => Failure::new(FailureKind::Internal, "warehouse::internal", message).help(NEED),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_knows_its_size_and_digest() {
        let (mut scratch, path) = Scratch::create().expect("made");
        scratch.write_all(b"ab").and_then(|()| scratch.write_all(b"c")).expect("written");
        let (bytes, sha256) = scratch.finish().expect("whole");
        assert_eq!((bytes, std::fs::read(&path).expect("read")), (3, b"abc".to_vec()));
        assert_eq!(sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }

    #[test]
    fn a_full_disk_is_told_from_a_defect() {
        let full = failure(&io::Error::from_raw_os_error(28));
        assert_eq!((full.kind, full.code.as_str()), (FailureKind::Permanent, "warehouse::disk_full"));
        assert!(full.help.is_some_and(|help| help.contains("`TMPDIR`")));
        assert_eq!(failure(&io::Error::other("rows do not fit")).kind, FailureKind::Internal);
    }
}
