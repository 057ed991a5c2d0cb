//! Opening the database file, which is made when it is not there.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use duckdb::{Config, Connection};
use errand_model::failure::{Failure, FailureKind};

use super::{failure, feed};
use crate::warehouse::Budget;

/// Least memory that DuckDB gets: below it, its own start fails.
const MIN_MEMORY: u64 = 96 << 20;
/// Bytes of a database in which nothing is yet: three headers.
const HEADERS: u64 = 12_288;
/// What stands in the first header, and where.
const MAGIC: (usize, &[u8]) = (8, b"DUCK");

pub(super) fn open(path: &Path, budget: Budget) -> Result<Connection, Failure> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(|error| {
            let message = format!("cannot make directory `{}`: {error}", parent.display());
            Failure::new(FailureKind::Permanent, "warehouse::no_directory", message)
        })?;
    }
    let memory = format!("{}MiB", budget.memory_bytes.max(MIN_MEMORY) >> 20);
    let config = Config::default()
        .enable_autoload_extension(false)
        .and_then(|config| config.with("autoinstall_known_extensions", "false"))
        .and_then(|config| config.max_memory(&memory))
        .map_err(|error| failure(&error))?;
    let connection = Connection::open_with_flags(path, config).map_err(|error| refused(&error.to_string(), path))?;
    feed::register(&connection).map_err(|error| failure(&error))?;
    Ok(connection)
}

fn refused(text: &str, path: &Path) -> Failure {
    if text.contains("Could not set lock") || text.contains("Conflicting lock") {
        let holder =
            text.split("Conflicting lock is held in ").nth(1).and_then(|rest| rest.split(". ").next()).unwrap_or("another process");
        let message = format!("database `{}` is in use by {holder}", path.display());
        let failure = Failure::new(FailureKind::Transient, "warehouse::locked", message);
        return failure.help("one process at a time writes a DuckDB file: wait until the other one ends, or stop it");
    }
    let message = format!("cannot open database `{}`: {}", path.display(), text.lines().next().unwrap_or_default());
    if is_being_made(text, path) {
        let failure = Failure::new(FailureKind::Transient, "warehouse::cannot_open", message);
        return failure.help("another run may be making it; if none is at work, delete it: nothing is in it yet");
    }
    Failure::new(FailureKind::Permanent, "warehouse::cannot_open", message)
        .help("check the path, its permissions, and that it is a DuckDB file")
}

/// Whether a file that is no whole database is one that is being made, or was when whoever made it ended: nothing was ever in it.
fn is_being_made(text: &str, path: &Path) -> bool {
    let Some((head, bytes)) = head(path) else { return false };
    let (at, magic) = MAGIC;
    let is_begun = head.get(at..) == Some(magic);
    let is_blank = head.iter().all(|byte| *byte == 0);
    // It was none when DuckDB looked, and by now it is one.
    if text.contains("not a valid DuckDB database file") && is_begun {
        return true;
    }
    let is_cut = text.contains("not a valid DuckDB database file") || text.contains("Could not read enough bytes");
    let mut log = path.as_os_str().to_owned();
    log.push(".wal");
    is_cut && bytes <= HEADERS && (is_begun || is_blank) && !PathBuf::from(log).exists()
}

/// The first bytes of a file, up to the end of [`MAGIC`], and how many it has in all.
fn head(path: &Path) -> Option<(Vec<u8>, u64)> {
    let file = File::open(path).ok()?;
    let metadata = file.metadata().ok().filter(std::fs::Metadata::is_file)?;
    let mut head = Vec::new();
    file.take((MAGIC.0 + MAGIC.1.len()) as u64).read_to_end(&mut head).ok()?;
    Some((head, metadata.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUDGET: Budget = Budget { memory_bytes: 0 };

    fn fails(content: &[u8]) -> Failure {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("w.duckdb");
        std::fs::write(&path, content).expect("written");
        open(&path, BUDGET).expect_err("no database")
    }

    #[test]
    fn a_database_that_is_not_whole_yet_may_be_there_later() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("w.duckdb");
        let made = open(&path, BUDGET).expect("it is made");
        let headers = std::fs::read(&path).expect("it is there");
        drop(made);
        assert_eq!(headers.len() as u64, HEADERS);
        for content in [&[][..], &[0; 4096], &headers[..4096], &headers[..8192]] {
            let failure = fails(content);
            assert_eq!((failure.kind, failure.code.as_str()), (FailureKind::Transient, "warehouse::cannot_open"), "{failure:?}");
            assert!(failure.help.as_deref().is_some_and(|help| help.contains("delete it")), "{failure:?}");
        }
        let by_now = refused("IO Error: The file exists, but it is not a valid DuckDB database file!", &path);
        assert_eq!(by_now.kind, FailureKind::Transient, "{by_now:?}");
    }

    #[test]
    fn what_is_no_database_never_will_be() {
        for content in [&b"hello"[..], &b"id,name\n1,a\n".repeat(9), &b"this is no database. ".repeat(2000)] {
            let failure = fails(content);
            assert_eq!((failure.kind, failure.code.as_str()), (FailureKind::Permanent, "warehouse::cannot_open"), "{failure:?}");
        }
    }

    #[test]
    fn a_database_whose_log_is_there_is_never_called_empty() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("w.duckdb");
        std::fs::write(&path, [0; 4096]).expect("written");
        std::fs::write(directory.path().join("w.duckdb.wal"), "rows").expect("written");
        assert_eq!(open(&path, BUDGET).expect_err("no database").kind, FailureKind::Permanent);
    }
}
