//! Containers of the images that `tests/images` builds, hardened as a task of ECS is: no root, no capability, nothing writable but one volume.

use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use crate::condition::{answer_within, wait_for};
use crate::services::unique_name;

/// The slim image.
pub const SLIM: &str = "errand:latest";
/// The image with Python and dbt.
pub const PYTHON: &str = "errand-python:latest";
/// A Debian with Python, without Errand.
pub const DEBIAN: &str = "errand-test-base:bookworm";

/// The address of the host in a network of containers, when they share no network with it.
pub struct Network {
    name: String,
}

impl Network {
    /// A network of its own, with Docker's DNS server in it.
    ///
    /// # Panics
    /// When Docker refuses.
    #[must_use]
    pub fn create() -> Self {
        let name = unique_name();
        said(&docker(["network", "create", &name]));
        Self { name }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The address under which containers reach this machine.
    ///
    /// # Panics
    /// When Docker does not say.
    #[must_use]
    pub fn host(&self) -> String {
        said(&docker(["network", "inspect", "--format", "{{(index .IPAM.Config 0).Gateway}}", &self.name]))
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let _ = docker(["network", "rm", &self.name]);
    }
}

/// A container to be.
pub struct Container {
    image: String,
    options: Vec<String>,
}

impl Container {
    /// A container of an image: a read-only root, a scratch volume, no capability, the network of this machine.
    ///
    /// # Panics
    /// When the image is not built; the message names the command that builds it.
    #[must_use]
    pub fn of(image: &str) -> Self {
        assert!(docker(["image", "inspect", image]).status.success(), "the image `{image}` is not built; run `tests/images`");
        let hardened = ["--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--volume", "/scratch"];
        Self { image: image.to_owned(), options: hardened.map(ToOwned::to_owned).to_vec() }.option("--network", "host")
    }

    /// With an option of `docker run`; a later one of the same name wins.
    #[must_use]
    pub fn option(mut self, name: &str, value: &str) -> Self {
        if let Some(at) = self.options.iter().position(|option| option == name).filter(|_| name == "--network") {
            value.clone_into(&mut self.options[at + 1]);
            return self;
        }
        self.options.extend([name.to_owned(), value.to_owned()]);
        self
    }

    /// With an environment variable.
    #[must_use]
    pub fn env(self, name: &str, value: &str) -> Self {
        self.option("--env", &format!("{name}={value}"))
    }

    /// With a file of this machine, read-only.
    #[must_use]
    pub fn file(self, from: &Path, to: &str) -> Self {
        self.option("--volume", &format!("{}:{to}:ro", from.display()))
    }

    /// Starts it.
    ///
    /// # Panics
    /// When Docker refuses.
    #[must_use]
    #[track_caller]
    pub fn start<const N: usize>(self, arguments: [&str; N]) -> Running {
        let mut command = Command::new("docker");
        command.args(["run", "--detach"]).args(&self.options).arg(&self.image).args(arguments);
        Running { id: said(&command.output().expect("docker is installed (`tests/setup test`)")) }
    }

    /// Runs it to its end.
    ///
    /// # Panics
    /// When it does not end within four minutes.
    #[must_use]
    #[track_caller]
    pub fn run<const N: usize>(self, arguments: [&str; N]) -> Ended {
        self.start(arguments).wait()
    }
}

/// A container that was started. Removed, with its volume, when dropped.
pub struct Running {
    id: String,
}

/// How a container ended.
#[derive(Debug)]
pub struct Ended {
    /// Its exit code; 137 after SIGKILL.
    pub code: i32,
    /// Whether the kernel ended it for its memory.
    pub out_of_memory: bool,
    /// Standard output and standard error.
    pub log: String,
}

impl Ended {
    /// The same, when it ended with this code.
    ///
    /// # Panics
    /// When it ended otherwise.
    #[must_use]
    #[track_caller]
    pub fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{}", self.log);
        self
    }
}

impl Running {
    /// Its id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What it wrote so far.
    #[must_use]
    pub fn log(&self) -> String {
        let output = docker(["logs", &self.id]);
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    }

    /// Asks it to end, as a task of ECS is asked: its stop signal, then SIGKILL after so many seconds.
    pub fn stop(&self, seconds: u32) {
        said(&docker(["stop", "--time", &seconds.to_string(), &self.id]));
    }

    /// Ends it with SIGKILL.
    pub fn kill(&self) {
        said(&docker(["kill", &self.id]));
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it does not end within four minutes.
    #[must_use]
    #[track_caller]
    pub fn wait(self) -> Ended {
        let ended = answer_within(Duration::from_secs(230), || {
            let state = said(&docker(["inspect", "--format", "{{.State.Status}} {{.State.ExitCode}} {{.State.OOMKilled}}", &self.id]));
            let mut words = state.split(' ');
            let (status, code, memory) = (words.next()?, words.next()?, words.next()?);
            (status == "exited").then(|| (code.parse().unwrap_or(-1), memory == "true"))
        });
        let Some((code, out_of_memory)) = ended else { panic!("the container does not end; it said:\n{}", self.log()) };
        Ended { code, out_of_memory, log: self.log() }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = docker(["rm", "--force", "--volumes", &self.id]);
    }
}

/// A server in a container that hands every connection on to another address.
///
/// # Panics
/// When it does not start.
#[must_use]
pub fn forwarder(network: &Network, name: &str, port: u16, to: &str) -> Running {
    let (host, target) = to.rsplit_once(':').expect("an address has a port");
    let running = Container::of(DEBIAN)
        .option("--network", network.name())
        .option("--network-alias", name)
        .option("--entrypoint", "/usr/bin/python3")
        .start(["-u", "-c", FORWARD, &port.to_string(), host, target]);
    wait_for("the forwarder to listen", Duration::from_secs(30), || running.log().contains("listening").then_some(()));
    running
}

const FORWARD: &str = r#"
import socket, sys, threading
port, host, target = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
def pump(a, b):
    try:
        while data := a.recv(65536):
            b.sendall(data)
    finally:
        b.close()
server = socket.create_server(("", port))
print("listening")
while True:
    client, _ = server.accept()
    other = socket.create_connection((host, target))
    for pair in ((client, other), (other, client)):
        threading.Thread(target=pump, args=pair, daemon=True).start()
"#;

/// What `docker` does with these words.
///
/// # Panics
/// When it is not installed.
pub fn docker<'a>(words: impl IntoIterator<Item = &'a str>) -> Output {
    Command::new("docker").args(words).output().expect("docker is installed (`tests/setup test`)")
}

#[track_caller]
fn said(output: &Output) -> String {
    assert!(output.status.success(), "docker: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}
