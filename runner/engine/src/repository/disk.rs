//! Reads files of a repository that is not trusted.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use errand_model::validate::{FileError, Files};
use errand_model::yaml::MAX_BYTES;

/// Longest definition, in bytes.
pub(super) const MAX_DEFINITION: usize = MAX_BYTES;
/// Longest SQL file, in bytes.
const MAX_SQL: usize = 1024 * 1024;
/// Most files that are listed for a suggestion.
const MAX_LISTED: usize = 500;
/// Deepest folder that is listed for a suggestion.
const MAX_DEPTH: usize = 4;

/// Why a file or folder cannot be read.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) message: String,
    pub(super) help: String,
    is_missing: bool,
}

impl Reading {
    fn new(message: String, help: &str) -> Self {
        Self { message, help: help.to_owned(), is_missing: false }
    }

    fn io(path: &str, error: &io::Error) -> Self {
        let is_missing = matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory);
        let message = if is_missing { format!("there is no `{path}`") } else { format!("`{path}` cannot be read: {error}") };
        Self { message, help: "check the path and its permissions".to_owned(), is_missing }
    }
}

/// One name in a folder.
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) is_directory: bool,
    pub(super) is_link: bool,
}

/// What a link gets to hear.
pub(super) fn refused_link(path: &str) -> Reading {
    Reading::new(format!("`{path}` is a symbolic link"), "put the file itself there; links could lead out of the repository")
}

/// The text of a file: no link on the way to it, a regular file, within `limit` bytes, UTF-8 without a byte order mark.
pub(super) fn read(root: &Path, path: &str, limit: usize) -> Result<Arc<str>, Reading> {
    let metadata = follow(root, path)?;
    if !metadata.is_file() {
        return Err(Reading::new(format!("`{path}` is not a file"), "name a regular file"));
    }
    let file = File::open(root.join(path)).map_err(|error| Reading::io(path, &error))?;
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or(limit).min(limit) + 1);
    file.take(limit as u64 + 1).read_to_end(&mut bytes).map_err(|error| Reading::io(path, &error))?;
    if bytes.len() > limit {
        let message = format!("`{path}` is longer than {limit} bytes");
        return Err(Reading::new(message, "definitions and SQL are written by people; keep data elsewhere"));
    }
    if bytes.starts_with(b"\xEF\xBB\xBF") {
        return Err(Reading::new(format!("`{path}` starts with a byte order mark"), "save it as UTF-8 without one"));
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(text.into()),
        Err(error) => {
            let at = error.utf8_error().valid_up_to();
            let line = error.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count() + 1;
            Err(Reading::new(format!("`{path}` is not UTF-8: byte {at}, on line {line}"), "save it as UTF-8"))
        }
    }
}

/// The names in a folder, sorted.
pub(super) fn entries(root: &Path, path: &str) -> Result<Vec<Entry>, Reading> {
    let metadata = follow(root, path)?;
    if !metadata.is_dir() {
        return Err(Reading::new(format!("`{path}` is not a folder"), "job definitions lie in `jobs/<name>/job.yaml`"));
    }
    let mut out = Vec::new();
    for entry in fs::read_dir(root.join(path)).map_err(|error| Reading::io(path, &error))? {
        let entry = entry.map_err(|error| Reading::io(path, &error))?;
        let kind = entry.file_type().map_err(|error| Reading::io(path, &error))?;
        // A name that is not UTF-8 can be named by no definition.
        let Ok(name) = entry.file_name().into_string() else { continue };
        out.push(Entry { name, is_directory: kind.is_dir(), is_link: kind.is_symlink() });
    }
    out.sort_unstable_by(|one, other| one.name.cmp(&other.name));
    Ok(out)
}

/// Walks a path part by part and refuses links.
fn follow(root: &Path, path: &str) -> Result<Metadata, Reading> {
    let mut whole = root.to_path_buf();
    let mut metadata = None;
    for part in path.split('/') {
        if part.is_empty() || part == "." || part == ".." {
            return Err(Reading::new(format!("`{path}` leaves the repository"), "only files of the repository can be used"));
        }
        whole.push(part);
        let found = whole.symlink_metadata().map_err(|error| Reading::io(path, &error))?;
        if found.file_type().is_symlink() {
            return Err(refused_link(path));
        }
        metadata = Some(found);
    }
    metadata.ok_or_else(|| Reading::new("there is no path here".to_owned(), "name a file"))
}

/// The files of a repository as validation asks for them; keeps what it has read.
pub(super) struct Disk<'a> {
    root: &'a Path,
    texts: RefCell<BTreeMap<String, Arc<str>>>,
}

impl<'a> Disk<'a> {
    pub(super) fn new(root: &'a Path) -> Self {
        Self { root, texts: RefCell::default() }
    }

    pub(super) fn into_texts(self) -> BTreeMap<String, Arc<str>> {
        self.texts.into_inner()
    }

    fn collect(&self, folder: &str, depth: usize, out: &mut Vec<String>) {
        for entry in entries(self.root, folder).unwrap_or_default() {
            if out.len() >= MAX_LISTED {
                return;
            }
            let path = format!("{folder}/{}", entry.name);
            if entry.is_directory && depth < MAX_DEPTH {
                self.collect(&path, depth + 1, out);
            } else if !entry.is_directory && !entry.is_link {
                out.push(path);
            }
        }
    }
}

impl Files for Disk<'_> {
    fn text(&self, path: &str) -> Result<Arc<str>, FileError> {
        if let Some(text) = self.texts.borrow().get(path) {
            return Ok(text.clone());
        }
        let text = read(self.root, path, MAX_SQL).map_err(|reading| match reading {
            Reading { is_missing: true, .. } => FileError::Missing,
            Reading { message, help, .. } => FileError::Refused { message, help },
        })?;
        self.texts.borrow_mut().insert(path.to_owned(), text.clone());
        Ok(text)
    }

    fn list(&self, folder: &str) -> Vec<String> {
        let mut out = Vec::new();
        self.collect(folder, 0, &mut out);
        out
    }
}
