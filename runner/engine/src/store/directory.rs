//! A directory of this machine as a store.

use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use errand_model::failure::{Failure, FailureKind};
use jiff::Timestamp;

use super::FileEntry;
use super::glob::Pattern;

/// Deepest directory under a connection that is looked into.
const DEEPEST: usize = 32;

/// The regular files under `root` that `pattern` names, sorted by path.
pub(super) fn list(root: &Path, pattern: &str) -> Result<Vec<FileEntry>, Failure> {
    let pattern = Pattern::parse(pattern)?;
    let root = root.canonicalize().ok().filter(|root| root.is_dir()).ok_or_else(|| {
        Failure::new(FailureKind::Definition, "source::no_directory", format!("the directory `{}` does not exist", root.display()))
            .help("create it, or correct `path` of the connection in `errand.yaml`")
    })?;
    let mut walk = Walk { root: &root, pattern: Some(&pattern), found: Vec::new() };
    if pattern.is_literal() {
        walk.entry(&pattern.directory(), 0, true)?;
    } else {
        walk.directory(&pattern.directory(), 0)?;
    }
    walk.found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(walk.found)
}

/// The regular file with this very path.
pub(super) fn head(root: &Path, key: &str) -> Result<Option<FileEntry>, Failure> {
    let Ok(root) = root.canonicalize() else { return Ok(None) };
    let mut walk = Walk { root: &root, pattern: None, found: Vec::new() };
    walk.entry(key, 0, true)?;
    Ok(walk.found.pop())
}

/// The content of a file of at most `limit` bytes.
pub(super) fn get_small(path: &Path, limit: u64) -> Result<Option<Bytes>, Failure> {
    let shown = path.display().to_string();
    let mut content = Vec::new();
    match File::open(path).and_then(|file| file.take(limit + 1).read_to_end(&mut content)) {
        Ok(_) if content.len() as u64 > limit => Err(super::too_large(&shown, limit)),
        Ok(_) => Ok(Some(Bytes::from(content))),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(unreadable(&shown, &error)),
    }
}

/// Removes files that are there.
pub(super) fn remove(paths: &[PathBuf]) -> Result<(), Failure> {
    for path in paths {
        match fs::remove_file(path) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(unwritable("remove", path, &error)),
        }
    }
    Ok(())
}

/// Whether a file is still what it was when it was listed.
pub(super) fn check_unchanged(entry: &FileEntry) -> Result<(), Failure> {
    let metadata = fs::metadata(&entry.absolute).map_err(|error| unreadable(&entry.path, &error))?;
    if metadata.len() == entry.bytes && modified(&metadata) == entry.modified {
        return Ok(());
    }
    Err(super::changed(&entry.path))
}

pub(super) fn unreadable(path: &str, error: &std::io::Error) -> Failure {
    Failure::new(FailureKind::Rejected, "source::unreadable", format!("cannot read `{path}`: {error}"))
        .help("check that it is there and readable for the user that runs `errand`")
}

pub(super) fn unwritable(verb: &str, path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(FailureKind::Permanent, "store::file", format!("cannot {verb} `{}`: {error}", path.display()))
        .help(super::write_help(error))
}

fn modified(metadata: &fs::Metadata) -> Option<Timestamp> {
    metadata.modified().ok().and_then(|time| Timestamp::try_from(time).ok())
}

struct Walk<'a> {
    root: &'a Path,
    /// None when only one path is asked for.
    pattern: Option<&'a Pattern>,
    found: Vec<FileEntry>,
}

impl Walk<'_> {
    /// Looks into a directory, given relative to the root; one that is not there holds no files.
    fn directory(&mut self, path: &str, depth: usize) -> Result<(), Failure> {
        if depth > 0 && self.pattern.is_some_and(Pattern::is_flat) {
            return Ok(());
        }
        let absolute = self.root.join(path);
        if absolute.is_symlink() || !path.is_empty() {
            match self.inside(path, &absolute)? {
                Some(real) if real.is_dir() => {}
                Some(_) | None => return Ok(()),
            }
        }
        if depth > DEEPEST {
            return Err(Failure::new(
                FailureKind::Rejected,
                "source::too_deep",
                format!("`{path}` is more than {DEEPEST} directories deep"),
            )
            .help("a symbolic link may lead in a circle"));
        }
        for entry in fs::read_dir(&absolute).map_err(|error| unreadable(path, &error))? {
            let name = entry.map_err(|error| unreadable(path, &error))?.file_name();
            let Some(name) = name.to_str() else {
                let shown = name.to_string_lossy().into_owned();
                return Err(Failure::new(FailureKind::Rejected, "source::path", format!("the name `{shown}` in `{path}` is not UTF-8"))
                    .help("rename the file"));
            };
            let child = if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") };
            self.entry(&child, depth + 1, false)?;
        }
        Ok(())
    }

    /// Looks at one name; `only` when the pattern is this very path.
    fn entry(&mut self, path: &str, depth: usize, only: bool) -> Result<(), Failure> {
        let absolute = self.root.join(path);
        let Ok(link) = fs::symlink_metadata(&absolute) else { return Ok(()) };
        if link.is_dir() {
            return if only { Ok(()) } else { self.directory(path, depth) };
        }
        let matches = only || self.pattern.is_some_and(|pattern| pattern.is_match(path));
        if !matches && !link.is_symlink() {
            return Ok(());
        }
        let meta = match fs::metadata(&absolute) {
            Ok(meta) if meta.is_dir() && !only => return self.directory(path, depth),
            Ok(meta) if meta.is_file() && matches => meta,
            Ok(_) => return Ok(()),
            Err(error) if matches => return Err(unreadable(path, &error)),
            Err(_) => return Ok(()),
        };
        let Some(real) = self.inside(path, &absolute)? else { return Ok(()) };
        self.found.push(FileEntry::of_file(path.to_owned(), real, meta.len(), modified(&meta)));
        Ok(())
    }

    /// The real path behind a name, which must lie under the root.
    fn inside(&self, path: &str, absolute: &Path) -> Result<Option<PathBuf>, Failure> {
        match absolute.canonicalize() {
            Ok(real) if real.starts_with(self.root) => Ok(Some(real)),
            Ok(real) => Err(Failure::new(
                FailureKind::Rejected,
                "source::outside",
                format!("`{path}` is a symbolic link to `{}`, outside of the connection's directory", real.display()),
            )
            .help("copy the file into the directory, or make a connection for the other one")),
            Err(_) => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::list;

    fn paths(root: &std::path::Path, pattern: &str) -> Vec<String> {
        list(root, pattern).expect("listed").into_iter().map(|entry| entry.path).collect()
    }

    #[test]
    fn patterns_name_regular_files_in_order() {
        let root = tempfile::tempdir().expect("a directory");
        for path in ["b.csv", "a.csv", "a.txt", "2026/11/x.csv", "2026/11/deep/y.csv", "2026/12/z.csv"] {
            fs::create_dir_all(root.path().join(path).parent().expect("a parent")).expect("made");
            fs::write(root.path().join(path), "a\n1\n").expect("written");
        }
        assert_eq!(paths(root.path(), "*.csv"), ["a.csv", "b.csv"]);
        assert_eq!(paths(root.path(), "2026/**/*.csv"), ["2026/11/deep/y.csv", "2026/11/x.csv", "2026/12/z.csv"]);
        assert_eq!(paths(root.path(), "2026/1?/[xz].csv"), ["2026/11/x.csv", "2026/12/z.csv"]);
        assert_eq!(paths(root.path(), "{a,b}.{csv,txt}"), ["a.csv", "a.txt", "b.csv"]);
        assert_eq!(paths(root.path(), "2026/11/x.csv"), ["2026/11/x.csv"]);
        assert!(
            paths(root.path(), "2025/11/x.csv").is_empty()
                && paths(root.path(), "2025/*.csv").is_empty()
                && paths(root.path(), "2026").is_empty()
        );
        let entry = &list(root.path(), "a.csv").expect("listed")[0];
        assert!(entry.bytes == 4 && entry.modified.is_some());
        assert_eq!(entry.digest().expect("read")[..8], *"309b0e45");
    }

    #[test]
    fn nothing_outside_of_the_root_is_read() {
        let root = tempfile::tempdir().expect("a directory");
        let other = tempfile::tempdir().expect("a directory");
        fs::write(other.path().join("secret.csv"), "a\n").expect("written");
        for pattern in ["../x.csv", "a/../../x.csv", "/etc/passwd", "", "a//b", "./a"] {
            assert_eq!(list(root.path(), pattern).expect_err(pattern).code, "source::path");
        }
        assert_eq!(list(&root.path().join("missing"), "*.csv").expect_err("missing").code, "source::no_directory");
        assert!(list(root.path(), "{a").expect_err("a pattern").message.contains("not a pattern"));
        std::os::unix::fs::symlink(other.path().join("secret.csv"), root.path().join("link.csv")).expect("linked");
        assert_eq!(list(root.path(), "*.csv").expect_err("outside").code, "source::outside");
        assert!(list(root.path(), "*.txt").expect("not named").is_empty());
        std::os::unix::fs::symlink(other.path(), root.path().join("folder")).expect("linked");
        assert_eq!(list(root.path(), "folder/secret.csv").expect_err("outside").code, "source::outside");
        assert_eq!(list(root.path(), "**/*.txt").expect_err("outside").code, "source::outside");
    }
}
