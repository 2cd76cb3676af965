//! TLS by the system's libssl, on both ends, blocking and not.

use std::{
    net::{TcpListener, TcpStream},
    path::Path,
    pin::Pin,
};

use anyhow::{Context as _, Result};
use openssl::ssl::{
    ConnectConfiguration, Ssl, SslAcceptor, SslConnector, SslFiletype, SslMethod, SslStream as Blocking,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_openssl::SslStream;

use crate::pki::Pki;

/// The name in the certificate.
const NAME: &str = "localhost";

/// A connection, plain or not.
pub trait Socket: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Socket for S {}

/// The server's side, with the certificate of `pki`.
pub fn acceptor(pki: &Pki) -> Result<SslAcceptor> {
    let mut builder = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls())?;
    builder.set_certificate_file(&pki.cert, SslFiletype::PEM)?;
    builder.set_private_key_file(&pki.key, SslFiletype::PEM)?;
    Ok(builder.build())
}

/// The client's side, which trusts the authority in `ca`.
pub fn connector(ca: &Path) -> Result<SslConnector> {
    let mut builder = SslConnector::builder(SslMethod::tls())?;
    builder.set_ca_file(ca).with_context(|| format!("cannot read {}", ca.display()))?;
    Ok(builder.build())
}

/// Shakes hands as the server.
pub async fn accept(acceptor: &SslAcceptor, socket: tokio::net::TcpStream) -> Result<Box<dyn Socket>> {
    let mut stream = SslStream::new(Ssl::new(acceptor.context())?, socket)?;
    Pin::new(&mut stream).accept().await?;
    Ok(Box::new(stream))
}

/// Shakes hands as the client.
pub async fn connect(connector: &SslConnector, socket: tokio::net::TcpStream) -> Result<Box<dyn Socket>> {
    let mut stream = SslStream::new(configuration(connector)?.into_ssl(NAME)?, socket)?;
    Pin::new(&mut stream).connect().await?;
    Ok(Box::new(stream))
}

fn configuration(connector: &SslConnector) -> Result<ConnectConfiguration> {
    Ok(connector.configure()?)
}

/// Two ends of a TCP connection on this machine: the client's, and the server's.
pub fn tcp_pair() -> Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let client = TcpStream::connect(listener.local_addr()?)?;
    let (server, _) = listener.accept()?;
    for end in [&client, &server] {
        end.set_nodelay(true)?;
    }
    Ok((client, server))
}

/// The same inside TLS.
pub fn tls_pair(
    connector: &SslConnector,
    acceptor: &SslAcceptor,
) -> Result<(Blocking<TcpStream>, Blocking<TcpStream>)> {
    let (client, server) = tcp_pair()?;
    let acceptor = acceptor.clone();
    // Both ends wait for each other during the handshake, and only then.
    let server = std::thread::spawn(move || acceptor.accept(server));
    let client = configuration(connector)?.connect(NAME, client)?;
    let server = server.join().map_err(|_| anyhow::anyhow!("the server's handshake panicked"))??;
    Ok((client, server))
}
