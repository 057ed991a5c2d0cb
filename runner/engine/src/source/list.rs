//! Which files a path or a pattern under a directory names.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Component, Path, PathBuf};

use errand_model::failure::{Failure, FailureKind};
use globset::{GlobBuilder, GlobMatcher};
use jiff::Timestamp;
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

/// Deepest directory under a connection that is looked into.
const DEEPEST: usize = 32;

/// One file of a directory connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileEntry {
    /// Its path relative to the connection, with `/`.
    pub path: String,
    /// Where it lies.
    pub absolute: PathBuf,
    /// Its size as it lies there.
    pub bytes: u64,
    /// When it was last changed, where the file system says.
    pub modified: Option<Timestamp>,
}

/// The regular files under `root` that `pattern` names, sorted by path; none when nothing matches.
///
/// A pattern knows `*`, `**`, `?`, `[ab]` and `{a,b}`; a `*` does not cross `/`.
///
/// # Errors
///
/// When `root` is no directory, the pattern is wrong or leaves the root, or a symbolic link does.
pub fn list(root: &Path, pattern: &str) -> Result<Vec<FileEntry>, Failure> {
    check(pattern)?;
    let root = root.canonicalize().ok().filter(|root| root.is_dir()).ok_or_else(|| {
        definition("source::no_directory", format!("the directory `{}` does not exist", root.display()))
            .help("create it, or correct `path` of the connection in `errand.yaml`")
    })?;
    let matcher = matcher(pattern)?;
    let mut walk = Walk { root: &root, matcher: &matcher, found: Vec::new() };
    if pattern.contains(['*', '?', '[', ']', '{', '}', '\\']) {
        let fixed: Vec<&str> = pattern.split('/').take_while(|part| !part.contains(['*', '?', '[', ']', '{', '}', '\\'])).collect();
        walk.directory(&fixed.join("/"), 0)?;
    } else {
        walk.entry(pattern, 0, true)?;
    }
    walk.found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(walk.found)
}

/// SHA-256 of a file's content as it lies there, in hex.
///
/// # Errors
///
/// When it cannot be read, or is cancelled.
pub fn digest(entry: &FileEntry, cancelled: &CancellationToken) -> Result<String, Failure> {
    let unreadable = |error: std::io::Error| unreadable(&entry.path, &error);
    let mut file = File::open(&entry.absolute).map_err(unreadable)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 256 * 1024];
    loop {
        match file.read(&mut buffer).map_err(unreadable)? {
            0 => return Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()),
            read => hash.update(&buffer[..read]),
        }
        if cancelled.is_cancelled() {
            return Err(Failure::new(FailureKind::Cancelled, "source::cancelled", "reading the files was cancelled"));
        }
    }
}

/// Whether a file is still what it was when it was listed.
///
/// # Errors
///
/// `Transient` when its size or time of change differ: what was read of it may be half of the one and half of the other.
pub fn check_unchanged(entry: &FileEntry) -> Result<(), Failure> {
    let metadata = std::fs::metadata(&entry.absolute).map_err(|error| unreadable(&entry.path, &error))?;
    let modified = metadata.modified().ok().and_then(|time| Timestamp::try_from(time).ok());
    if metadata.len() == entry.bytes && modified == entry.modified {
        return Ok(());
    }
    let message = format!("`{}` changed while it was read", entry.path);
    Err(Failure::new(FailureKind::Transient, "source::changed", message)
        .help("write files under another name and rename them when they are whole"))
}

fn definition(code: &str, message: String) -> Failure {
    Failure::new(FailureKind::Definition, code, message)
}

fn unreadable(path: &str, error: &std::io::Error) -> Failure {
    Failure::new(FailureKind::Rejected, "source::unreadable", format!("cannot read `{path}`: {error}"))
        .help("check that it is there and readable for the user that runs `errand`")
}

fn check(pattern: &str) -> Result<(), Failure> {
    let inside = Path::new(pattern).components().all(|part| matches!(part, Component::Normal(_)));
    if inside && !pattern.is_empty() && !pattern.split('/').any(|part| part.is_empty() || part == ".") {
        return Ok(());
    }
    Err(definition("source::path", format!("`{pattern}` is not a path inside of the connection"))
        .help("write it relative to the connection's directory, without `.`, `..` and a leading `/`"))
}

fn matcher(pattern: &str) -> Result<GlobMatcher, Failure> {
    let glob = GlobBuilder::new(pattern).literal_separator(true).backslash_escape(true).build();
    glob.map(|glob| glob.compile_matcher()).map_err(|error| {
        definition("source::path", format!("`{pattern}` is not a pattern: {}", error.kind())).help("see `path` in the reference")
    })
}

struct Walk<'a> {
    root: &'a Path,
    matcher: &'a GlobMatcher,
    found: Vec<FileEntry>,
}

impl Walk<'_> {
    /// Looks into a directory, given relative to the root; one that is not there holds no files.
    fn directory(&mut self, path: &str, depth: usize) -> Result<(), Failure> {
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
        let matches = only || self.matcher.is_match(path);
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
        let modified = meta.modified().ok().and_then(|time| Timestamp::try_from(time).ok());
        self.found.push(FileEntry { path: path.to_owned(), absolute: real, bytes: meta.len(), modified });
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

    use super::{digest, list};

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
        assert_eq!(digest(entry, &tokio_util::sync::CancellationToken::new()).expect("read")[..8], *"309b0e45");
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
