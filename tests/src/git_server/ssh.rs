//! SSH: sshd with a host key of its own, one authorised key, and no command but git's.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::Daemon;
use crate::program;

/// A server of git over SSH, for the bare repositories in one directory, as the user who runs the test.
pub struct SshServer {
    daemon: Daemon,
    directory: TempDir,
    repositories: PathBuf,
    user: String,
}

impl SshServer {
    /// Starts a server.
    ///
    /// # Panics
    /// When a program is missing or the server does not start.
    #[must_use]
    pub fn start(repositories: &Path) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        let place = directory.path();
        for key in ["host", "client", "stranger"] {
            make_key(&place.join(key));
        }
        write_login(place);
        let user = program::stdout_of(program::hermetic("id", place).arg("-un"));
        if user == "root" {
            // Debian's service makes it at its start; sshd as root refuses to run without it.
            fs::create_dir_all("/run/sshd").expect("root can write /run");
        }
        let daemon = Daemon::start(&place.join("sshd.log"), |port| {
            let file = place.join("sshd_config");
            fs::write(&file, configuration(place, port)).expect("the directory can be written");
            let mut command = program::hermetic("sshd", place);
            command.args(["-D", "-e", "-f"]).arg(file);
            command
        });
        Self { daemon, directory, repositories: repositories.to_owned(), user }
    }

    /// The URL of a repository in the served directory.
    #[must_use]
    pub fn url(&self, repository: &str) -> String {
        format!("ssh://{}@localhost:{}{}/{repository}", self.user, self.daemon.port, self.repositories.display())
    }

    /// The private key, without passphrase, that may log in.
    #[must_use]
    pub fn private_key(&self) -> PathBuf {
        self.directory.path().join("client")
    }

    /// A private key that may not.
    #[must_use]
    pub fn strangers_key(&self) -> PathBuf {
        self.directory.path().join("stranger")
    }

    /// The line of a `known_hosts` file that is true of this server.
    #[must_use]
    pub fn known_host(&self) -> String {
        self.known_host_with("host")
    }

    /// The line that names another key for this server: what a client sees when someone stands between.
    #[must_use]
    pub fn false_known_host(&self) -> String {
        self.known_host_with("stranger")
    }

    /// What the server logged.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("sshd.log")).unwrap_or_default()
    }

    fn known_host_with(&self, key: &str) -> String {
        format!("[localhost]:{} {}\n", self.daemon.port, public_key(&self.directory.path().join(key)))
    }
}

fn make_key(file: &Path) {
    let mut keygen = program::hermetic("ssh-keygen", file);
    program::stdout_of(keygen.args(["-q", "-t", "ed25519", "-N", "", "-C", "errand tests", "-f"]).arg(file));
}

/// Type and key, without the comment.
fn public_key(file: &Path) -> String {
    let text = fs::read_to_string(file.with_extension("pub")).expect("ssh-keygen wrote the public key beside the private one");
    text.split(' ').take(2).collect::<Vec<_>>().join(" ")
}

/// The authorised key, and the one command it may run: the shell of git, which serves repositories and nothing else.
fn write_login(place: &Path) {
    let git = program::find("git");
    let path = program::search_path();
    let script = format!(
        "#!/bin/sh\nPATH='{}' HOME='{}' GIT_CONFIG_NOSYSTEM=1\nexport PATH HOME GIT_CONFIG_NOSYSTEM\nexec '{}' shell -c \"$SSH_ORIGINAL_COMMAND\"\n",
        path.to_string_lossy(),
        place.display(),
        git.display()
    );
    let login = place.join("login");
    fs::write(&login, script).expect("the directory can be written");
    fs::set_permissions(&login, fs::Permissions::from_mode(0o755)).expect("the owner can set permissions");
    let key = format!("restrict,command=\"{}\" {}\n", login.display(), public_key(&place.join("client")));
    fs::write(place.join("authorized_keys"), key).expect("the directory can be written");
}

/// `StrictModes no`: the directory above is `/tmp`, which others may write to.
fn configuration(place: &Path, port: u16) -> String {
    let place = place.display();
    format!(
        "Port {port}\nListenAddress 127.0.0.1\nHostKey {place}/host\nAuthorizedKeysFile {place}/authorized_keys\n\
        PidFile none\nStrictModes no\nUsePAM no\nPermitRootLogin prohibit-password\n\
        PasswordAuthentication no\nKbdInteractiveAuthentication no\nPubkeyAuthentication yes\n\
        PrintMotd no\nLogLevel VERBOSE\n"
    )
}
