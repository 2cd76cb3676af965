//! Rows as HTTP/1.1, over sockets.

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    thread,
};

use anyhow::{Context as _, Result, anyhow, ensure};
use inferscope_tests::corpus::{Message, Row};

use super::{Mode, encode::Encoding};
use crate::scenario::SOON;

/// Connections at one time.
const LANES: usize = 4;

/// Rows that share a connection.
const PER_CONNECTION: usize = 25;

/// How a response's length is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// `Content-Length`.
    Length,
    /// `Transfer-Encoding: chunked`, a chunk for each flush of the server.
    Chunked,
}

impl Framing {
    /// For names of scenarios.
    pub fn name(self) -> &'static str {
        match self {
            Self::Length => "length",
            Self::Chunked => "chunked",
        }
    }
}

/// The bytes of one exchange.
pub struct Exchange {
    /// What the client sends.
    pub request: Vec<u8>,
    /// What the server answers.
    pub response: Vec<u8>,
}

impl Exchange {
    /// Those of a row.
    pub fn of(row: &Row, framing: Framing, mode: Mode) -> Result<Self> {
        let Row { method, target, request, status, response, .. } = row;
        let first = format!("{method} {target} HTTP/1.1\r\nhost: {}\r\n", row.authority());
        Ok(Self {
            request: message(first, request, Framing::Length, mode.request)?,
            response: message(format!("HTTP/1.1 {status} Replayed\r\n"), response, framing, mode.response)?,
        })
    }
}

fn message(first: String, message: &Message, framing: Framing, encoding: Encoding) -> Result<Vec<u8>> {
    let mut out = first;
    for (name, value) in &message.headers {
        out += &format!("{name}: {value}\r\n");
    }
    if let Some(token) = encoding.on(message).token() {
        out += &format!("content-encoding: {token}\r\n");
    }
    let pieces = encoding.pieces(message)?;
    Ok(match framing {
        Framing::Length => {
            out += &format!("content-length: {}\r\n\r\n", pieces.iter().map(Vec::len).sum::<usize>());
            [out.into_bytes(), pieces.concat()].concat()
        }
        Framing::Chunked => {
            let mut out = (out + "transfer-encoding: chunked\r\n\r\n").into_bytes();
            for piece in pieces.iter().filter(|piece| !piece.is_empty()) {
                out.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
                out.extend_from_slice(piece);
                out.extend_from_slice(b"\r\n");
            }
            out.extend_from_slice(b"0\r\n\r\n");
            out
        }
    })
}

/// Sends every row over a socket of this process to another one of it, and answers it there.
pub fn replay(rows: &[Row], framing: Framing, mode: Mode) -> Result<()> {
    thread::scope(|scope| {
        let lanes: Vec<_> = (0..LANES)
            .map(|lane| {
                let rows: Vec<_> = rows.iter().skip(lane).step_by(LANES).collect();
                scope.spawn(move || {
                    rows.chunks(PER_CONNECTION).try_for_each(|rows| {
                        let exchanges = rows.iter().map(|row| Exchange::of(row, framing, mode));
                        connection(&exchanges.collect::<Result<Vec<_>>>()?, mode.piece)
                    })
                })
            })
            .collect();
        lanes.into_iter().try_for_each(|lane| lane.join().map_err(|_| anyhow!("a lane panicked"))?)
    })
}

/// Both ends of one connection.
fn connection(exchanges: &[Exchange], piece: usize) -> Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let address = listener.local_addr()?;
    thread::scope(|scope| {
        let server = scope.spawn(move || {
            let socket = prepared(listener.accept()?.0)?;
            exchanges.iter().try_for_each(|Exchange { request, response }| {
                receive(&socket, request, piece).context("request")?;
                send(&socket, response, piece)
            })
        });
        let socket = prepared(TcpStream::connect(address)?)?;
        exchanges.iter().try_for_each(|Exchange { request, response }| {
            send(&socket, request, piece)?;
            receive(&socket, response, piece).context("response")
        })?;
        drop(socket);
        server.join().map_err(|_| anyhow!("a server panicked"))?
    })
}

fn prepared(socket: TcpStream) -> Result<TcpStream> {
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(SOON))?;
    Ok(socket)
}

fn send(mut socket: &TcpStream, bytes: &[u8], piece: usize) -> Result<()> {
    Ok(bytes.chunks(piece).try_for_each(|bytes| socket.write_all(bytes))?)
}

fn receive(mut socket: &TcpStream, bytes: &[u8], piece: usize) -> Result<()> {
    let mut buffer = vec![0; piece];
    let mut left = bytes;
    while !left.is_empty() {
        let most = piece.min(left.len());
        let n = socket.read(&mut buffer[..most])?;
        let (now, later) = left.split_at(n);
        ensure!(n > 0 && now == &buffer[..n], "other bytes than were sent arrived");
        left = later;
    }
    Ok(())
}
