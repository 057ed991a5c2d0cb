//! Job repositories with history: made with the git program, the same commit ids for the same content each time.

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};

use crate::program;

/// A git repository with a work tree, on branch `main`.
pub struct Repository {
    directory: PathBuf,
    commits: Cell<u32>,
}

impl Repository {
    /// An empty repository at `directory`, which is made.
    ///
    /// # Panics
    /// When git fails.
    #[must_use]
    pub fn create(directory: impl Into<PathBuf>) -> Self {
        let directory = directory.into();
        fs::create_dir_all(&directory).expect("a repository lies where tests may write");
        let repository = Self { directory, commits: Cell::new(0) };
        repository.git(["init", "--quiet", "--initial-branch=main"]);
        repository
    }

    /// Its work tree.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.directory
    }

    /// Its `file` URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("file://{}", self.directory.display())
    }

    /// Writes `text` to the file at `path`, and makes the folders above it.
    ///
    /// # Panics
    /// When that cannot be written.
    pub fn write(&self, path: &str, text: &str) -> &Self {
        let file = self.directory.join(path);
        fs::create_dir_all(file.parent().expect("a file lies in a folder")).expect("a work tree can be written");
        fs::write(file, text).expect("a work tree can be written");
        self
    }

    /// Copies the file or folder `from`, with all below it, to `path`.
    ///
    /// # Panics
    /// When that cannot be read or written.
    pub fn copy(&self, from: &Path, path: &str) -> &Self {
        if from.is_file() {
            return self.write(path, &fs::read_to_string(from).expect("a definition is text in UTF-8"));
        }
        for entry in fs::read_dir(from).expect("a folder to copy is there") {
            let name = entry.expect("a folder can be listed").file_name();
            let name = name.to_str().expect("tests use names in UTF-8");
            self.copy(&from.join(name), &format!("{path}/{name}"));
        }
        self
    }

    /// Commits all that differs and returns the id. A fixed author, and dates a minute apart.
    ///
    /// # Panics
    /// When git fails, also when nothing differs.
    pub fn commit(&self, message: &str) -> String {
        self.git(["add", "--all"]);
        self.git(["commit", "--quiet", "--message", message]);
        self.commits.set(self.commits.get() + 1);
        self.git(["rev-parse", "HEAD"])
    }

    /// Copies its history to a bare repository at `directory`, as a server keeps it.
    ///
    /// Any commit may be asked for by its id, as the large hosts allow.
    ///
    /// # Panics
    /// When git fails.
    pub fn publish(&self, directory: &Path) {
        let target = directory.to_str().expect("tests use names in UTF-8");
        self.git(["clone", "--quiet", "--bare", ".", target]);
        self.git(["--git-dir", target, "config", "uploadpack.allowAnySHA1InWant", "true"]);
    }

    /// Runs git in the work tree and returns what it says.
    ///
    /// # Panics
    /// When git fails.
    pub fn git<const N: usize>(&self, arguments: [&str; N]) -> String {
        let date = format!("2026-01-05T06:{:02}:00Z", self.commits.get() % 60);
        let mut git = program::hermetic("git", &self.directory);
        git.current_dir(&self.directory).args(arguments).env("GIT_CONFIG_GLOBAL", "/dev/null");
        for role in ["AUTHOR", "COMMITTER"] {
            git.env(format!("GIT_{role}_NAME"), "A Tester").env(format!("GIT_{role}_EMAIL"), "tester@example.com");
            git.env(format!("GIT_{role}_DATE"), &date);
        }
        program::stdout_of(&mut git)
    }
}
