//! Programs of this machine that tests use: git, openssl, lighttpd, sshd, ssh-keygen.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The program search path of the tests, which is all that is left of their environment in the programs they start.
///
/// Daemons lie in directories that an ordinary user's `PATH` may lack.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the harness decides what of its environment programs see")]
pub fn search_path() -> OsString {
    let mut path = std::env::var_os("PATH").unwrap_or_default();
    path.push(":/usr/local/sbin:/usr/sbin:/sbin");
    path
}

/// Where `program` lies.
///
/// # Panics
/// When it is not installed; the message names the command that installs it.
#[must_use]
pub fn find(program: &str) -> PathBuf {
    std::env::split_paths(&search_path())
        .map(|directory| directory.join(program))
        .find(|candidate| candidate.is_file())
        .unwrap_or_else(|| panic!("`{program}` is not installed; run `make setup`"))
}

/// A command for `program` that sees only `PATH` and `home`, so that no setting of the user or the machine reaches it.
///
/// # Panics
/// When it is not installed.
#[must_use]
pub fn hermetic(program: &str, home: &Path) -> Command {
    let mut command = Command::new(find(program));
    command.env_clear().env("PATH", search_path()).env("HOME", home);
    command.env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_TERMINAL_PROMPT", "0");
    command
}

/// What `command` wrote to its standard output, without the last line end.
///
/// # Panics
/// When it cannot be started or fails; the message holds all it said.
pub fn stdout_of(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} ended with {}\n{stdout}{stderr}", output.status);
    stdout.trim_end().to_owned()
}
