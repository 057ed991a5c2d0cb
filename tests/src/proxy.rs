//! A TCP proxy that breaks connections on command, and at the bytes that a test names.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::condition::wait_for;

/// Which way bytes travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the server.
    ToServer,
    /// From the server to the client.
    ToClient,
}

/// What happens to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Both sides are closed, and the bytes at hand are not forwarded.
    Cut,
    /// The bytes at hand reach the server; its answer is dropped and both sides are closed: the outcome is unknown to the client.
    CutAfterAnswer,
    /// Nothing is forwarded until [`Proxy::resume`]; both sides stay open.
    Stall,
    /// All further bytes vanish, in both directions; both sides stay open.
    BlackHole,
}

struct Trigger {
    direction: Direction,
    pattern: Vec<u8>,
    fault: Fault,
}

#[derive(Default)]
struct Plan {
    triggers: Vec<Trigger>,
    links: Vec<Arc<Link>>,
    stalled: bool,
    refuses: bool,
}

#[derive(Default)]
struct Shared {
    plan: Mutex<Plan>,
    resumed: Condvar,
    fired: AtomicUsize,
    accepted: AtomicUsize,
}

impl Shared {
    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One connection: its two sockets, and what became of it.
struct Link {
    client: TcpStream,
    server: TcpStream,
    fate: Mutex<Option<Fault>>,
}

impl Link {
    fn close(&self) {
        for side in [&self.client, &self.server] {
            // An error means that it is closed already.
            let _ = side.shutdown(Shutdown::Both);
        }
    }

    fn fate(&self) -> MutexGuard<'_, Option<Fault>> {
        self.fate.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A proxy on a free port of 127.0.0.1. Its connections end when it is dropped.
pub struct Proxy {
    shared: Arc<Shared>,
    address: SocketAddr,
}

impl Proxy {
    /// Starts one in front of `target`, such as `127.0.0.1:5432`.
    ///
    /// # Panics
    /// When 127.0.0.1 has no free port.
    #[must_use]
    pub fn start(target: &str) -> Self {
        Self::start_at("127.0.0.1", target)
    }

    /// Starts one at another address of this machine: that of a network of containers.
    ///
    /// # Panics
    /// When the address has no free port.
    #[must_use]
    pub fn start_at(address: &str, target: &str) -> Self {
        let listener = TcpListener::bind((address, 0)).expect("the address has a free port");
        let address = listener.local_addr().expect("a bound listener has an address");
        let shared = Arc::new(Shared::default());
        let (accepting, target) = (Arc::clone(&shared), target.to_owned());
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if Arc::strong_count(&accepting) == 1 {
                    return;
                }
                connect(&accepting, client, &target);
            }
        });
        Self { shared, address }
    }

    /// Its port.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.address.port()
    }

    /// When `pattern` next travels in that direction, within one piece of at most 64 KiB as it was sent, this happens to its connection. Once.
    pub fn when(&self, direction: Direction, pattern: impl AsRef<[u8]>, fault: Fault) -> &Self {
        self.shared.plan().triggers.push(Trigger { direction, pattern: pattern.as_ref().to_vec(), fault });
        self
    }

    /// How many patterns were seen.
    #[must_use]
    pub fn fired(&self) -> usize {
        self.shared.fired.load(Ordering::SeqCst)
    }

    /// Waits until a pattern was seen.
    ///
    /// # Panics
    /// When none was within ten seconds.
    pub fn wait_until_fired(&self) {
        wait_for("the bytes that the proxy looks for", Duration::from_secs(10), || (self.fired() > 0).then_some(()));
    }

    /// How many connections it took.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// Closes all connections; new ones work.
    pub fn cut(&self) {
        for link in self.shared.plan().links.drain(..) {
            link.close();
        }
    }

    /// Forwards nothing on any connection until [`Proxy::resume`].
    pub fn stall(&self) {
        self.shared.plan().stalled = true;
    }

    /// Forwards again what waited.
    pub fn resume(&self) {
        self.shared.plan().stalled = false;
        self.shared.resumed.notify_all();
    }

    /// Bytes of the connections so far vanish.
    pub fn black_hole(&self) {
        for link in &self.shared.plan().links {
            *link.fate() = Some(Fault::BlackHole);
        }
    }

    /// Closes new connections at once, as a server that is gone; `false` ends that.
    pub fn refuse(&self, refuses: bool) {
        self.shared.plan().refuses = refuses;
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.resume();
        self.cut();
    }
}

fn connect(shared: &Arc<Shared>, client: TcpStream, target: &str) {
    shared.accepted.fetch_add(1, Ordering::SeqCst);
    if shared.plan().refuses {
        return;
    }
    let Ok(server) = TcpStream::connect(target) else { return };
    let link = Arc::new(Link { client, server, fate: Mutex::new(None) });
    for direction in [Direction::ToServer, Direction::ToClient] {
        let (shared, link) = (Arc::downgrade(shared), Arc::clone(&link));
        std::thread::spawn(move || {
            let (from, to) = match direction {
                Direction::ToServer => (&link.client, &link.server),
                Direction::ToClient => (&link.server, &link.client),
            };
            // An error is the end of the connection, which the other side is told.
            let _ = forward(&shared, &link, direction, from, to);
            link.close();
        });
    }
    shared.plan().links.push(link);
}

fn forward(
    shared: &std::sync::Weak<Shared>,
    link: &Link,
    direction: Direction,
    mut from: &TcpStream,
    mut to: &TcpStream,
) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let length = from.read(&mut buffer)?;
        let Some(shared) = shared.upgrade().filter(|_| length > 0) else {
            return Ok(());
        };
        let bytes = &buffer[..length];
        // The answer to what was let through before the cut.
        if *link.fate() == Some(Fault::CutAfterAnswer) && direction == Direction::ToClient {
            return Ok(());
        }
        match fault_of(&shared, direction, bytes) {
            Some(Fault::Cut) => return Ok(()),
            Some(Fault::Stall) => shared.plan().stalled = true,
            Some(fault) => *link.fate() = Some(fault),
            None => {}
        }
        let mut plan = shared.plan();
        while plan.stalled {
            plan = shared.resumed.wait(plan).unwrap_or_else(PoisonError::into_inner);
        }
        drop(plan);
        if *link.fate() != Some(Fault::BlackHole) {
            to.write_all(bytes)?;
        }
    }
}

/// What is to happen because of these bytes.
fn fault_of(shared: &Shared, direction: Direction, bytes: &[u8]) -> Option<Fault> {
    let mut plan = shared.plan();
    let seen = |trigger: &Trigger| {
        trigger.direction == direction && bytes.windows(trigger.pattern.len().max(1)).any(|window| window == trigger.pattern.as_slice())
    };
    let place = plan.triggers.iter().position(seen)?;
    let trigger = plan.triggers.remove(place);
    shared.fired.fetch_add(1, Ordering::SeqCst);
    Some(trigger.fault)
}
