//! Rows as HTTP/2 with prior knowledge (RFC 9113 3.3), over sockets, several at one time on a connection.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use h2::{RecvStream, SendStream, client, server};
use http::{Request, Response};
use inferscope_tests::corpus::{Message, Row};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use super::{Mode, encode::Encoding};
use crate::scenario::SOON;

/// Rows that share a connection.
const PER_CONNECTION: usize = 50;

/// Streams of a connection at one time.
const CONCURRENT: usize = 8;

/// Sends every row over a socket of this process to another one of it, and answers it there.
pub fn replay(rows: &[Row], mode: Mode) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let rows: Arc<[Row]> = rows.into();
    runtime.block_on(async {
        for first in (0..rows.len()).step_by(PER_CONNECTION) {
            let last = rows.len().min(first + PER_CONNECTION);
            let all = connection(Arc::clone(&rows), first..last, mode);
            tokio::time::timeout(SOON, all).await.with_context(|| format!("rows {first} to {last} hang"))??;
        }
        Ok(())
    })
}

/// Both ends of one connection.
async fn connection(rows: Arc<[Row]>, range: std::ops::Range<usize>, mode: Mode) -> Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?;
    let server = tokio::spawn(serve(listener, Arc::clone(&rows), mode));
    let socket = Pieces::new(TcpStream::connect(address).await?, mode.piece)?;
    let (client, connection) = client::handshake(socket).await?;
    let driver = tokio::spawn(connection);
    let mut calls = JoinSet::new();
    for index in range {
        if calls.len() == CONCURRENT {
            calls.join_next().await.context("no call")???;
        }
        calls.spawn(call(client.clone(), Arc::clone(&rows), index, mode));
    }
    while let Some(ended) = calls.join_next().await {
        ended??;
    }
    drop(client);
    driver.await??;
    server.await?
}

async fn call(client: client::SendRequest<Bytes>, rows: Arc<[Row]>, index: usize, mode: Mode) -> Result<()> {
    let row = &rows[index];
    let mut request = Request::builder().method(row.method.as_str());
    request = request.uri(format!("http://{}{}", row.authority(), row.target));
    for (name, value) in headers(&row.request, mode.request) {
        request = request.header(name, value);
    }
    let is_empty = row.request.body.is_empty();
    let (response, stream) = client.ready().await?.send_request(request.body(())?, is_empty)?;
    if !is_empty {
        send(stream, mode.request.pieces(&row.request)?, mode.piece).await?;
    }
    let response = response.await?;
    ensure!(response.status().as_u16() == row.status, "{} instead of {}", response.status(), row.status);
    let body = receive(response.into_body()).await?;
    ensure!(body == mode.response.pieces(&row.response)?.concat(), "another body than was sent arrived");
    Ok(())
}

async fn serve(listener: TcpListener, rows: Arc<[Row]>, mode: Mode) -> Result<()> {
    let socket = Pieces::new(listener.accept().await?.0, mode.piece)?;
    let mut connection = server::handshake(socket).await?;
    let mut answers = JoinSet::new();
    while let Some(accepted) = connection.accept().await {
        let (request, respond) = accepted?;
        answers.spawn(answer(request, respond, Arc::clone(&rows), mode));
    }
    while let Some(ended) = answers.join_next().await {
        ended??;
    }
    Ok(())
}

async fn answer(
    request: Request<RecvStream>,
    mut respond: server::SendResponse<Bytes>,
    rows: Arc<[Row]>,
    mode: Mode,
) -> Result<()> {
    let port = request.uri().port_u16().context("no port")?;
    let index = Row::index_of_port(u64::from(port));
    let row = rows.iter().find(|row| Some(row.index) == index).context("a request of no row")?;
    receive(request.into_body()).await?;
    let mut response = Response::builder().status(row.status);
    for (name, value) in headers(&row.response, mode.response) {
        response = response.header(name, value);
    }
    let is_empty = row.response.body.is_empty();
    let stream = respond.send_response(response.body(())?, is_empty)?;
    if !is_empty {
        send(stream, mode.response.pieces(&row.response)?, mode.piece).await?;
    }
    Ok(())
}

fn headers(message: &Message, encoding: Encoding) -> impl Iterator<Item = (&str, &str)> {
    let encoding = encoding.on(message).token().map(|token| ("content-encoding", token));
    message.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).chain(encoding)
}

/// Sends a body, each piece at most `most` bytes in one DATA frame, as far as the window allows.
async fn send(mut stream: SendStream<Bytes>, pieces: Vec<Vec<u8>>, most: usize) -> Result<()> {
    for piece in pieces {
        let mut piece = Bytes::from(piece);
        while !piece.is_empty() {
            stream.reserve_capacity(piece.len().min(most));
            let allowed = std::future::poll_fn(|cx| stream.poll_capacity(cx)).await.context("the stream is gone")??;
            let now = piece.split_to(allowed.min(most).min(piece.len()));
            stream.send_data(now, false)?;
            // The other streams of the connection come in between.
            tokio::task::yield_now().await;
        }
    }
    Ok(stream.send_data(Bytes::new(), true)?)
}

async fn receive(mut stream: RecvStream) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    while let Some(data) = stream.data().await {
        let data = data?;
        body.extend_from_slice(&data);
        stream.flow_control().release_capacity(data.len())?;
    }
    Ok(body)
}

/// A socket that moves a few bytes at a time.
struct Pieces {
    socket: TcpStream,
    most: usize,
}

impl Pieces {
    fn new(socket: TcpStream, most: usize) -> Result<Self> {
        socket.set_nodelay(true)?;
        Ok(Self { socket, most })
    }
}

impl AsyncRead for Pieces {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut few = buffer.take(self.most);
        let polled = Pin::new(&mut self.socket).poll_read(cx, &mut few);
        let read = few.filled().to_vec();
        if polled.is_ready() {
            buffer.put_slice(&read);
        }
        polled
    }
}

impl AsyncWrite for Pieces {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let most = self.most.min(bytes.len());
        Pin::new(&mut self.socket).poll_write(cx, &bytes[..most])
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
