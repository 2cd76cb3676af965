//! The server: answers each request as its head asks, at the pace that it asks for.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use openssl::ssl::SslAcceptor;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    time::sleep_until,
};

use super::{
    order::Served,
    slices::Slices,
    tls::{self, Socket},
    wire::{Answer, Head},
};

/// Largest request that is taken.
const MAX_REQUEST: usize = 4 << 20;

/// Times to first token that are kept between two reports.
const MAX_LOGGED: usize = 200_000;

/// What the connections tell.
#[derive(Debug, Default)]
pub struct Log {
    slices: Slices,
    ttft_ns: Mutex<VecDeque<(u64, u64)>>,
}

impl Log {
    /// What happened since the last time this was asked.
    pub fn take(&self) -> Served {
        let ttft_ns = std::mem::take(&mut *self.ttft_ns.lock().unwrap_or_else(PoisonError::into_inner));
        Served { ttft_ns: ttft_ns.into(), slices: self.slices.take() }
    }

    /// Keeps the slices going, for ever.
    pub async fn run(&self) {
        self.slices.run().await;
    }

    fn on_first_token(&self, call: u64, after: Duration) {
        let mut log = self.ttft_ns.lock().unwrap_or_else(PoisonError::into_inner);
        if log.len() == MAX_LOGGED {
            log.pop_front();
        }
        log.push_back((call, after.as_nanos() as u64));
    }
}

/// Accepts connections for ever; with `acceptor` inside TLS.
pub async fn accept(listener: TcpListener, acceptor: Option<Arc<SslAcceptor>>, log: Arc<Log>) -> Result<()> {
    loop {
        let (socket, _) = listener.accept().await.context("cannot accept")?;
        // Each chunk must leave at once, or the pace on the wire is the kernel's and not ours.
        socket.set_nodelay(true)?;
        let (acceptor, log) = (acceptor.clone(), Arc::clone(&log));
        tokio::spawn(async move {
            let served = async {
                match acceptor {
                    None => serve(Box::new(socket), &log).await,
                    Some(acceptor) => serve(tls::accept(&acceptor, socket).await?, &log).await,
                }
            };
            if let Err(error) = served.await {
                eprintln!("inferscope-load: server: {error:#}");
            }
        });
    }
}

/// Serves one connection until its client closes it.
async fn serve(mut socket: Box<dyn Socket>, log: &Log) -> Result<()> {
    let mut buffer = vec![0; 64 << 10];
    let mut filled = 0;
    loop {
        let n = socket.read(&mut buffer[filled..]).await?;
        if n == 0 {
            return Ok(());
        }
        let began = Instant::now();
        filled += n;
        let head = loop {
            if let Some(head) = Head::parse(&buffer[..filled]).map_err(anyhow::Error::msg)? {
                break head;
            }
            if filled == buffer.len() {
                bail!("a head of more than {filled} bytes");
            }
            let n = socket.read(&mut buffer[filled..]).await?;
            anyhow::ensure!(n > 0, "the client left in the middle of a head");
            filled += n;
        };
        anyhow::ensure!(head.len <= MAX_REQUEST, "a request of {} bytes", head.len);
        // One request at a time: nothing of the next can have come.
        while filled < head.len {
            let n = socket.read(&mut buffer).await?;
            anyhow::ensure!(n > 0, "the client left in the middle of a request");
            filled += n;
        }
        filled = 0;
        answer(&mut *socket, &head, began, log).await?;
        log.slices.on_call();
    }
}

async fn answer(socket: &mut dyn Socket, head: &Head, began: Instant, log: &Log) -> Result<()> {
    let Head { call, shape, .. } = *head;
    let answer = Answer::new(call, shape);
    let first = began + Duration::from_micros(shape.first_us.into());
    if !shape.stream {
        pause_until(first).await;
        socket.write_all(&answer.piece(0)).await?;
        return Ok(());
    }
    for at in 0..answer.n_pieces() {
        let is_content = (1..=shape.chunks).contains(&at);
        if is_content {
            pause_until(first + Duration::from_micros(shape.interval_us.into()) * (at - 1)).await;
        }
        socket.write_all(&answer.piece(at)).await?;
        if at == 1 {
            log.on_first_token(call, began.elapsed());
        }
        log.slices.on_chunks(u64::from(is_content));
    }
    Ok(())
}

/// Sleeps, unless the time has come already: the runtime's clock would round that up to a millisecond.
async fn pause_until(when: Instant) {
    if when > Instant::now() {
        sleep_until(when.into()).await;
    }
}
