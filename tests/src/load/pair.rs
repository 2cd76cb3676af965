//! Streams on one connection whose two ends belong to one thread: no switch between threads and no network in between,
//! so that what is added to a write and to a read can be told in nanoseconds.

use std::{
    io::{Read, Write},
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use openssl::ssl::{SslAcceptor, SslConnector};

use super::{
    order::{Lockstep, Stepped},
    tls::{tcp_pair, tls_pair},
    wire::{Answer, Shape, request},
};

/// Something to read from and to write to.
trait End: Read + Write + Send {}
impl<E: Read + Write + Send> End for E {}

/// Both ends of a connection.
pub struct Pair {
    client: Box<dyn End>,
    server: Box<dyn End>,
    buffer: Vec<u8>,
}

/// Time that went into the two halves of a call's content chunks.
#[derive(Clone, Copy, Debug, Default)]
pub struct Spent {
    /// In the server's writes.
    pub write: Duration,
    /// In the client's reads.
    pub read: Duration,
}

impl Pair {
    /// Connects one; with `tls` it shakes hands.
    pub fn new(tls: bool, connector: &SslConnector, acceptor: &SslAcceptor) -> Result<Self> {
        let (client, server): (Box<dyn End>, Box<dyn End>) = if tls {
            let (client, server) = tls_pair(connector, acceptor)?;
            (Box::new(client), Box::new(server))
        } else {
            let (client, server) = tcp_pair()?;
            (Box::new(client), Box::new(server))
        };
        Ok(Self { client, server, buffer: vec![0; 256 << 10] })
    }

    /// One call. `pace` is asked before each content chunk and may wait; false ends the chunks early.
    pub fn call(&mut self, call: u64, shape: &Shape, mut pace: impl FnMut() -> bool) -> Result<Spent> {
        let request = request(call, shape);
        self.client.write_all(&request)?;
        self.server.read_exact(&mut self.buffer[..request.len()])?;
        let answer = Answer::new(call, *shape);
        // Made in advance: what is measured is the moving of bytes.
        let pieces: Vec<Vec<u8>> = (0..answer.n_pieces()).map(|at| answer.piece(at)).collect();
        let mut spent = Spent::default();
        for (at, piece) in pieces.iter().enumerate() {
            let is_content = at > 0 && at < pieces.len() - 1;
            if is_content && !pace() {
                continue;
            }
            let began = Instant::now();
            self.server.write_all(piece)?;
            let written = Instant::now();
            self.client.read_exact(&mut self.buffer[..piece.len()])?;
            let read = Instant::now();
            ensure!(self.buffer[..piece.len()] == piece[..], "other bytes than the answer's came");
            if is_content {
                spent.write += written - began;
                spent.read += read - written;
            }
        }
        Ok(spent)
    }
}

/// Carries out an order.
pub fn step(pair: &mut Pair, order: &Lockstep) -> Result<Stepped> {
    let mut told = Stepped::default();
    for call in order.first_call..order.first_call + order.calls {
        let Spent { write, read } = pair.call(call, &order.shape, || true)?;
        let per_chunk = |time: Duration| time.as_nanos() as f64 / f64::from(order.shape.chunks);
        told.write_ns.push(per_chunk(write));
        told.read_ns.push(per_chunk(read));
    }
    Ok(told)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{load::tls, pki::Pki};

    #[test]
    fn calls_pass_plain_and_inside_tls() {
        let room = tempfile::tempdir().unwrap();
        let pki = Pki::generate(room.path()).unwrap();
        let (connector, acceptor) = (tls::connector(&pki.ca).unwrap(), tls::acceptor(&pki).unwrap());
        let shape = Shape { stream: true, prompt_words: 100, chunks: 5, chunk_words: 9, first_us: 0, interval_us: 0 };
        for tls in [false, true] {
            let mut pair = Pair::new(tls, &connector, &acceptor).unwrap();
            let told = step(&mut pair, &Lockstep { tls, shape, calls: 3, first_call: 1 }).unwrap();
            assert_eq!((told.write_ns.len(), told.read_ns.len()), (3, 3));
            assert!(told.write_ns.iter().chain(&told.read_ns).all(|ns| *ns > 0.0));
        }
    }
}
