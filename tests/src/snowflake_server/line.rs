//! Connections that the server can close without an answer.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};

use super::state::Shared;

/// One connection, seen from a handler.
#[derive(Clone, Debug, Default)]
pub(super) struct Line(Arc<AtomicBool>);

impl Line {
    /// Whatever is answered next is not sent; the connection ends instead.
    pub(super) fn cut(&self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

impl Connected<IncomingStream<'_, Lines>> for Line {
    fn connect_info(stream: IncomingStream<'_, Lines>) -> Self {
        stream.remote_addr().clone()
    }
}

/// How long nobody listens once the server has gone away.
const AWAY: Duration = Duration::from_millis(300);

/// Accepts connections that can be cut, and for a while none at all.
pub(super) struct Lines {
    listener: TcpListener,
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl Lines {
    pub(super) fn new(listener: TcpListener, shared: Arc<Shared>) -> Self {
        let address = listener.local_addr().expect("a bound listener has an address");
        Self { listener, address, shared }
    }
}

impl Listener for Lines {
    type Io = Wire;
    type Addr = Line;

    async fn accept(&mut self) -> (Wire, Line) {
        let stream = loop {
            tokio::select! {
                (stream, _) = Listener::accept(&mut self.listener) => break stream,
                () = self.shared.leaves.notified() => {
                    // Its place is taken by a listener elsewhere: whoever connects here meanwhile is refused.
                    self.listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
                    self.shared.left.notify_one();
                    tokio::time::sleep(AWAY).await;
                    self.listener = TcpListener::bind(self.address).await.expect("its own port is still free");
                }
            }
        };
        let line = Line::default();
        (Wire { stream, line: line.clone() }, line)
    }

    fn local_addr(&self) -> io::Result<Line> {
        Ok(Line::default())
    }
}

/// The bytes of one connection.
pub(super) struct Wire {
    stream: TcpStream,
    line: Line,
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.line.0.load(Ordering::SeqCst) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
