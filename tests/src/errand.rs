//! The built `errand`, run as a user runs it, in a directory and an environment of its own.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::condition::answer_within;
use crate::program;

/// The `errand` built from this source, found beside the test that runs.
///
/// # Panics
/// When it is not built; the message names the command that builds it.
#[must_use]
pub fn binary() -> PathBuf {
    let test = std::env::current_exe().expect("a running program knows where it lies");
    let directory = test.ancestors().skip(1).find(|directory| !directory.ends_with("deps")).expect("a program lies in a directory");
    let binary = directory.join("errand");
    assert!(binary.is_file(), "`{}` is not built; run `cargo build --workspace`", binary.display());
    binary
}

/// A place to run `errand` in: an empty home and working directory, an environment of `PATH` and `HOME` alone.
pub struct Errand {
    scratch: TempDir,
    variables: Vec<(String, String)>,
    deadline: Duration,
    file_limit: Option<u64>,
}

impl Default for Errand {
    fn default() -> Self {
        Self::new()
    }
}

impl Errand {
    /// A fresh place, with a deadline of a minute for each run.
    ///
    /// # Panics
    /// When the machine has no room for a temporary directory.
    #[must_use]
    pub fn new() -> Self {
        let scratch = tempfile::tempdir().expect("a temporary directory can be made");
        for directory in ["home", "work", "output"] {
            fs::create_dir(scratch.path().join(directory)).expect("a fresh temporary directory can be written");
        }
        Self { scratch, variables: Vec::new(), deadline: Duration::from_secs(60), file_limit: None }
    }

    /// The same, with one more environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.variables.push((name.to_owned(), value.into()));
        self
    }

    /// The same, with another deadline for each run.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// The same, where no file may grow past so many bytes: a write beyond that fails, as on a disk that is full.
    #[must_use]
    pub fn file_limit(mut self, bytes: u64) -> Self {
        self.file_limit = Some(bytes);
        self
    }

    /// The directory that runs start in; vanishes with `self`.
    #[must_use]
    pub fn directory(&self) -> PathBuf {
        self.scratch.path().join("work")
    }

    /// The `HOME` of runs.
    #[must_use]
    pub fn home(&self) -> PathBuf {
        self.scratch.path().join("home")
    }

    /// Runs `errand` with `arguments` to its end.
    ///
    /// # Panics
    /// When it does not end before the deadline.
    pub fn run(&self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Outcome {
        self.spawn(arguments).wait()
    }

    /// Starts `errand` with `arguments`.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn spawn(&self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Running {
        // Files, not pipes: a process that outlives `errand` cannot keep the test waiting, and no thread needs to read.
        let output = tempfile::tempdir_in(self.scratch.path().join("output")).expect("the scratch directory can be written").keep();
        let file = |name: &str| File::create(output.join(name)).expect("the scratch directory can be written");
        let child = self
            .program()
            .args(arguments)
            .env_clear()
            .env("PATH", program::search_path())
            .env("HOME", self.home())
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .current_dir(self.directory())
            .stdin(Stdio::null())
            .stdout(file("stdout"))
            .stderr(file("stderr"))
            .spawn()
            .expect("a built `errand` can be started");
        Running { child, output, deadline: self.deadline }
    }
}

impl Errand {
    /// The binary, by way of a shell where it has a limit: nothing else sets one for a program yet to start.
    fn program(&self) -> Command {
        let Some(bytes) = self.file_limit else { return Command::new(binary()) };
        let mut shell = Command::new("/bin/sh");
        // In blocks of 512 bytes. Without the trap the kernel ends the process instead of refusing the write.
        shell.args(["-c", &format!("trap '' XFSZ; ulimit -f {}; exec \"$0\" \"$@\"", bytes / 512)]).arg(binary());
        shell
    }
}

/// A run of `errand` that has been started. Killed when dropped.
pub struct Running {
    child: Child,
    output: PathBuf,
    deadline: Duration,
}

impl Running {
    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it wrote to standard error so far.
    #[must_use]
    pub fn stderr(&self) -> String {
        read(&self.output, "stderr")
    }

    /// Sends SIGKILL: nothing in the process can answer it.
    pub fn kill(&mut self) {
        // An error means that it has ended already, which `wait` will say.
        let _ = self.child.kill();
    }

    /// Sends SIGTERM: the request to end well.
    pub fn terminate(&self) {
        self.signal("TERM");
    }

    /// Sends the signal of this name, such as `INT`; nothing when it has ended.
    ///
    /// # Panics
    /// When the machine has no shell.
    pub fn signal(&self, name: &str) {
        let script = format!("kill -{name} {} 2>/dev/null", self.child.id());
        let _ = Command::new("/bin/sh").args(["-c", &script]).status().expect("every Unix has /bin/sh");
    }

    /// Whether it has ended.
    ///
    /// # Panics
    /// When the kernel does not know the process.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("a child can be waited for").is_some()
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it does not end before the deadline.
    pub fn wait(mut self) -> Outcome {
        let status = answer_within(self.deadline, || self.child.try_wait().expect("a child can be waited for"));
        let Some(status) = status else {
            panic!("waited {:?} in vain for the end of errand; it said so far:\n{}", self.deadline, self.stderr());
        };
        Outcome { status, stdout: read(&self.output, "stdout"), stderr: self.stderr() }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
        let _ = self.child.wait();
    }
}

/// How a run of `errand` ended and what it said.
pub struct Outcome {
    status: ExitStatus,
    /// Data.
    pub stdout: String,
    /// Talk.
    pub stderr: String,
}

impl Outcome {
    /// The exit code; none when a signal ended it.
    #[must_use]
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// The signal that ended it.
    #[must_use]
    pub fn signal(&self) -> Option<i32> {
        self.status.signal()
    }

    /// The same, when it ended with `code`.
    ///
    /// # Panics
    /// When it ended otherwise; the message holds all it said.
    #[must_use]
    #[track_caller]
    pub fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.code(), Some(code), "{}\n--- stdout\n{}\n--- stderr\n{}", self.status, self.stdout, self.stderr);
        self
    }

    /// Standard output as JSON.
    ///
    /// # Panics
    /// When it is not JSON.
    #[must_use]
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("stdout is not JSON: {error}\n{}\n{}", self.stdout, self.stderr))
    }
}

fn read(directory: &Path, name: &str) -> String {
    let bytes = fs::read(directory.join(name)).expect("the output file was made before the start");
    String::from_utf8_lossy(&bytes).into_owned()
}
