//! Listeners: connections in, with who is at their other end.
//!
//! Owns the accepting, the TLS handshake with its deadline, and the bounds on both. What is spoken above is not its business.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use rustls::ServerConfig;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    task::JoinHandle,
    time::{Sleep, sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tonic::transport::server::Connected;

use super::{auth::Peer, fresh::Fresh, tls};

/// Handshakes at one time. One takes a millisecond of a processor: a thousand agents that come back at once take seconds, and
/// those that are in are served meanwhile.
const MAX_HANDSHAKES: usize = 1024;

/// Deadline of a handshake.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// Deadline of the first byte above it: whoever connects wants something.
const FIRST_BYTE: Duration = Duration::from_secs(10);

/// Connections of a listener at one time. Each takes a file, and some tens of KiB.
const MAX_CONNECTIONS: usize = 8192;

/// Connections that are accepted and not yet taken.
const MAX_WAITING: usize = 64;

/// How long to wait when a connection cannot be accepted, for want of file descriptors for example.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// How long a dead peer holds its connection: three probes after this.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// A connection, encrypted or not.
pub struct Connection {
    io: Io,
    peer: Peer,
    /// Runs until the first byte has come.
    deadline: Option<Pin<Box<Sleep>>>,
    /// Given back when the connection ends.
    _place: OwnedSemaphorePermit,
}

enum Io {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Connection {
    fn new(io: Io, peer: Peer, place: OwnedSemaphorePermit) -> Self {
        Self { io, peer, deadline: Some(Box::pin(sleep(FIRST_BYTE))), _place: place }
    }

    /// Who is at the other end.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

/// A listener that hands out connections. Ends when it is dropped.
#[derive(Debug)]
pub struct Listener {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Listener {
    /// Listens on `address`, and the connections that come. `is_forwarded`: something on this host passes on what comes from
    /// elsewhere.
    pub async fn bind(
        address: SocketAddr,
        tls: Option<Fresh<ServerConfig>>,
        is_forwarded: bool,
    ) -> io::Result<(Self, mpsc::Receiver<io::Result<Connection>>)> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let (out, connections) = mpsc::channel(MAX_WAITING);
        let task = tokio::spawn(accept(listener, address.ip().is_loopback() && !is_forwarded, tls, out));
        Ok((Self { address, task }, connections))
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

async fn accept(
    listener: TcpListener,
    is_local: bool,
    tls: Option<Fresh<ServerConfig>>,
    out: mpsc::Sender<io::Result<Connection>>,
) {
    let handshakes = Arc::new(Semaphore::new(MAX_HANDSHAKES));
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        // The semaphores are never closed. Others wait in the kernel's queue.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "a connection cannot be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
            () = out.closed() => return,
        };
        // Small answers go at once; a peer that is gone is noticed.
        let _ = stream.set_nodelay(true);
        let keepalive = rustix::net::sockopt::set_socket_keepalive(&stream, true)
            .and_then(|()| rustix::net::sockopt::set_tcp_keepidle(&stream, KEEPALIVE));
        if let Err(error) = keepalive {
            tracing::debug!(%error, "a connection has no keepalive");
        }
        let Some(tls) = &tls else {
            let peer = Peer { is_local, names: None };
            if out.send(Ok(Connection::new(Io::Plain(stream), peer, place))).await.is_err() {
                return;
            }
            continue;
        };
        let acceptor = TlsAcceptor::from(tls.get());
        let Ok(handshake) = Arc::clone(&handshakes).acquire_owned().await else { return };
        let out = out.clone();
        tokio::spawn(async move {
            let shaken = timeout(HANDSHAKE, acceptor.accept(stream)).await;
            drop(handshake);
            match shaken {
                Ok(Ok(stream)) => {
                    let certificates = stream.get_ref().1.peer_certificates();
                    let names = certificates.and_then(<[_]>::first).map(tls::names);
                    let io = Io::Tls(Box::new(stream));
                    let _ = out.send(Ok(Connection::new(io, Peer { is_local, names }, place))).await;
                }
                Ok(Err(error)) => tracing::info!(%error, "a TLS handshake failed"),
                Err(_) => tracing::info!("a TLS handshake took too long"),
            }
        });
    }
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Self { io, deadline, .. } = self.get_mut();
        let read = match io {
            Io::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Io::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        };
        if read.is_ready() {
            *deadline = None;
        } else if deadline.as_mut().is_some_and(|deadline| deadline.as_mut().poll(context).is_ready()) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        read
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().io {
            Io::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Io::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().io {
            Io::Plain(stream) => Pin::new(stream).poll_flush(context),
            Io::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().io {
            Io::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Io::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
