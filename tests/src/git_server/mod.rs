//! Real git servers on loopback, each test with its own: smart HTTP from lighttpd and git-http-backend, SSH from sshd.
//!
//! They run as the user of the test, at a port that was free, and end with the value that holds them.

mod http;
mod ssh;

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

pub use http::HttpServer;
pub use ssh::SshServer;

use crate::condition::wait_for;

/// A server program that listens at a port of 127.0.0.1. Killed when dropped.
struct Daemon {
    child: Child,
    port: u16,
}

impl Daemon {
    /// Starts what `command` returns for a free port, and waits until it listens.
    ///
    /// Between the choice of a port and its use another process may take it: then another port is tried.
    fn start(log: &Path, command: impl Fn(u16) -> Command) -> Self {
        for _ in 0..5 {
            let port = free_port();
            let out = || Stdio::from(fs::OpenOptions::new().create(true).append(true).open(log).expect("the log can be written"));
            let mut command = command(port);
            let child = command.stdin(Stdio::null()).stdout(out()).stderr(out()).spawn().expect("an installed program can be started");
            let mut daemon = Self { child, port };
            if daemon.listens() {
                return daemon;
            }
        }
        panic!("the server does not start:\n{}", fs::read_to_string(log).unwrap_or_default());
    }

    /// Whether it came to listen before it ended.
    fn listens(&mut self) -> bool {
        wait_for("a git server to listen or to end", Duration::from_secs(20), || {
            let ended = self.child.try_wait().expect("a child can be waited for").is_some();
            let listens = TcpStream::connect(("127.0.0.1", self.port)).is_ok();
            (ended || listens).then_some(!ended)
        })
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // An error means that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("loopback has a free port");
    listener.local_addr().expect("a bound listener has an address").port()
}
