//! TLS in front of a server that speaks plainly, with a certificate for `localhost` that an authority of its own signed.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use tempfile::TempDir;

use crate::program;

/// How long one side is listened to before the other one gets its turn.
const TURN: Duration = Duration::from_millis(2);

/// The front; it ends with the process.
pub struct TlsFront {
    address: SocketAddr,
    directory: TempDir,
}

impl TlsFront {
    /// Starts before a server such as `http://127.0.0.1:5000`.
    ///
    /// # Panics
    /// When a program is missing, or 127.0.0.1 has no free port.
    #[must_use]
    pub fn before(endpoint: &str) -> Self {
        let upstream = endpoint.trim_start_matches("http://").trim_end_matches('/').to_owned();
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        make_certificates(directory.path());
        let config = Arc::new(config(directory.path()));
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("loopback has a free port");
        let address = listener.local_addr().expect("a bound listener has an address");
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let (config, upstream) = (Arc::clone(&config), upstream.clone());
                // What breaks here breaks the connection, which the client is told.
                thread::spawn(move || serve(client, config, &upstream).unwrap_or_default());
            }
        });
        Self { address, directory }
    }

    /// Its URL.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("https://localhost:{}", self.address.port())
    }

    /// The certificate, in PEM, of the authority that signed the server's.
    #[must_use]
    pub fn authority(&self) -> PathBuf {
        self.directory.path().join("authority.pem")
    }
}

fn config(place: &Path) -> ServerConfig {
    let certificates = CertificateDer::pem_file_iter(place.join("server.pem")).expect("it was just made");
    let certificates = certificates.collect::<Result<Vec<_>, _>>().expect("openssl writes PEM");
    let key = PrivateKeyDer::from_pem_file(place.join("server.key")).expect("openssl writes PEM");
    ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(certificates, key))
        .expect("a key and its certificate")
}

/// Both sides take turns on one thread, for the state of TLS is one.
fn serve(client: TcpStream, config: Arc<ServerConfig>, upstream: &str) -> std::io::Result<()> {
    let mut server = TcpStream::connect(upstream)?;
    let connection = ServerConnection::new(config).map_err(std::io::Error::other)?;
    let mut client = StreamOwned::new(connection, client);
    client.sock.set_read_timeout(Some(TURN))?;
    server.set_read_timeout(Some(TURN))?;
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match turn(client.read(&mut buffer))? {
            Some(0) => return Ok(()),
            Some(read) => server.write_all(&buffer[..read])?,
            None => {}
        }
        match turn(server.read(&mut buffer))? {
            Some(0) => {
                client.conn.send_close_notify();
                return client.flush();
            }
            Some(read) => client.write_all(&buffer[..read])?,
            None => {}
        }
    }
}

/// What was read; none when nothing came in time.
fn turn(read: std::io::Result<usize>) -> std::io::Result<Option<usize>> {
    match read {
        Ok(read) => Ok(Some(read)),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Ok(None),
        Err(error) => Err(error),
    }
}

/// An authority and, signed by it, a certificate for `localhost` and 127.0.0.1, both for two days: `authority.pem`, `server.pem` and
/// `server.key` in a directory.
///
/// # Panics
/// When `openssl` is not installed.
pub fn make_certificates(place: &Path) {
    let settings = "[req]\ndistinguished_name = name\nprompt = no\n[name]\nCN = localhost\n\
        [authority]\nbasicConstraints = critical, CA:TRUE\nkeyUsage = critical, keyCertSign, cRLSign\nsubjectKeyIdentifier = hash\n\
        [server]\nbasicConstraints = CA:FALSE\nsubjectAltName = DNS:localhost, IP:127.0.0.1\nextendedKeyUsage = serverAuth\n";
    fs::write(place.join("openssl.cnf"), settings).expect("the directory can be written");
    let openssl = |arguments: &str| {
        program::stdout_of(program::hermetic("openssl", place).current_dir(place).args(arguments.split_whitespace()));
    };
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -config openssl.cnf";
    openssl(&format!("req -x509 {key} -subj /CN=authority -extensions authority -days 2 -keyout authority.key -out authority.pem"));
    openssl(&format!("req {key} -keyout server.key -out server.csr"));
    openssl(
        "x509 -req -in server.csr -CA authority.pem -CAkey authority.key -set_serial 1 -days 2 \
        -extfile openssl.cnf -extensions server -out server.pem",
    );
}
