//! A proxy in front of an S3 server that does what servers and networks do on bad days.
//!
//! One connection carries one request. Nothing is understood but the request line and the end of the heads.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// What happens to a request.
#[derive(Clone, Debug)]
pub enum Fault {
    /// The answer is an error of S3's, and the server never hears of the request.
    Refuse {
        /// Status of the answer.
        status: u16,
        /// S3's word for it.
        code: &'static str,
    },
    /// The body of the answer ends after so many bytes, and with it the connection.
    Cut(usize),
    /// The body of the answer stops after so many bytes; the connection stays.
    Stall(usize),
    /// The server does its work, and the answer is lost.
    Lose,
}

/// The proxy; it ends with the process.
pub struct FaultyS3 {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    upstream: String,
    faults: Mutex<Vec<(String, Fault, usize)>>,
    requests: Mutex<Vec<String>>,
}

impl FaultyS3 {
    /// Starts before a server such as `http://127.0.0.1:5000`.
    #[must_use]
    pub fn before(endpoint: &str) -> Self {
        let upstream = endpoint.trim_start_matches("http://").trim_end_matches('/').to_owned();
        let shared = Arc::new(Shared { upstream, faults: Mutex::default(), requests: Mutex::default() });
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("a bound listener has an address");
        let served = Arc::clone(&shared);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let served = Arc::clone(&served);
                // What breaks here is what the client is tested with.
                thread::spawn(move || serve(client, &served).unwrap_or_default());
            }
        });
        Self { address, shared }
    }

    /// Its URL.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The next `times` requests whose first line holds `part` meet a fault.
    pub fn inject(&self, part: &str, fault: Fault, times: usize) {
        self.shared.faults.lock().unwrap_or_else(PoisonError::into_inner).push((part.to_owned(), fault, times));
    }

    /// No further request meets a fault.
    pub fn forget(&self) {
        self.shared.faults.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// How many requests so far had a first line with `part`.
    #[must_use]
    pub fn requests(&self, part: &str) -> usize {
        self.shared.requests.lock().unwrap_or_else(PoisonError::into_inner).iter().filter(|line| line.contains(part)).count()
    }
}

impl Shared {
    fn fault(&self, line: &str) -> Option<Fault> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).push(line.to_owned());
        let mut faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, fault, left) = faults.iter_mut().find(|(part, _, left)| *left > 0 && line.contains(part))?;
        *left -= 1;
        Some(fault.clone())
    }
}

fn serve(mut client: TcpStream, shared: &Shared) -> std::io::Result<()> {
    let (head, rest) = read_head(&mut client)?;
    let (line, headers) = head.split_once("\r\n").unwrap_or((&head, ""));
    let fault = shared.fault(line);
    if let Some(Fault::Refuse { status, code }) = fault {
        let body = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>Said by the test</Message></Error>");
        let length = body.len();
        // Only redirects to another region say which.
        let region = if status == 301 { "x-amz-bucket-region: eu-west-1\r\n" } else { "" };
        let head =
            format!("HTTP/1.1 {status} Fault\r\nconnection: close\r\ncontent-length: {length}\r\nx-amz-request-id: TEST\r\n{region}\r\n");
        client.write_all((head + &body).as_bytes())?;
        client.shutdown(Shutdown::Write)?;
        return drain(&mut client);
    }
    let mut server = TcpStream::connect(&shared.upstream)?;
    let kept: Vec<&str> = headers.split("\r\n").filter(|header| !header.to_lowercase().starts_with("connection:")).collect();
    write!(server, "{line}\r\nconnection: close\r\n{}", kept.join("\r\n"))?;
    server.write_all(rest.get_ref())?;
    let (mut from_client, mut to_server) = (client.try_clone()?, server.try_clone()?);
    thread::spawn(move || std::io::copy(&mut from_client, &mut to_server).unwrap_or_default());
    let (answer, body) = read_head(&mut server)?;
    // Bodies are asked for before they are sent.
    let (answer, body) = if answer.starts_with("HTTP/1.1 100") {
        client.write_all(answer.as_bytes())?;
        if body.get_ref().is_empty() { read_head(&mut server)? } else { split(body.get_ref()) }
    } else {
        (answer, body)
    };
    if matches!(fault, Some(Fault::Lose)) {
        drain(&mut server)?;
        return client.shutdown(Shutdown::Both);
    }
    client.write_all(answer.as_bytes())?;
    let mut content = body.chain(&mut server);
    match fault {
        Some(Fault::Cut(bytes)) => {
            std::io::copy(&mut Read::by_ref(&mut content).take(bytes as u64), &mut client)?;
        }
        Some(Fault::Stall(bytes)) => {
            std::io::copy(&mut Read::by_ref(&mut content).take(bytes as u64), &mut client)?;
            // Until the client has had enough.
            return drain(&mut client);
        }
        _ => {
            std::io::copy(&mut content, &mut client)?;
        }
    }
    client.shutdown(Shutdown::Both)
}

fn drain(stream: &mut impl Read) -> std::io::Result<()> {
    std::io::copy(stream, &mut std::io::sink()).map(|_| ())
}

/// The head with its blank line, and what came with it.
fn read_head(stream: &mut TcpStream) -> std::io::Result<(String, std::io::Cursor<Vec<u8>>)> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    while !bytes.windows(4).any(|end| end == b"\r\n\r\n") {
        let read = stream.read(&mut chunk)?;
        if read == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        bytes.extend_from_slice(&chunk[..read]);
    }
    Ok(split(&bytes))
}

fn split(bytes: &[u8]) -> (String, std::io::Cursor<Vec<u8>>) {
    let end = bytes.windows(4).position(|end| end == b"\r\n\r\n").map_or(bytes.len(), |at| at + 4);
    (String::from_utf8_lossy(&bytes[..end]).into_owned(), std::io::Cursor::new(bytes[end..].to_vec()))
}
