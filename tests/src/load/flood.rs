//! As many chunks as the rate says, whatever becomes of those that read along: for finding out where loss begins.

use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;
use openssl::ssl::{SslAcceptor, SslConnector};

use super::{
    order::{Flood, Flooded},
    pair::Pair,
    schedule::Schedule,
};

/// Numbers of calls that one thread may use: threads must not use the same.
const CALLS_PER_THREAD: u64 = 1 << 20;

/// Carries out an order.
pub fn flood(order: &Flood, connector: &SslConnector, acceptor: &SslAcceptor) -> Result<Flooded> {
    let order = Arc::new(*order);
    let pairs = (0..order.threads).map(|_| Pair::new(order.tls, connector, acceptor)).collect::<Result<Vec<_>>>()?;
    let began = Instant::now();
    let threads: Vec<_> = pairs
        .into_iter()
        .enumerate()
        .map(|(at, pair)| {
            let order = Arc::clone(&order);
            thread::spawn(move || one_thread(&order, pair, order.first_call + at as u64 * CALLS_PER_THREAD))
        })
        .collect();
    let mut told = Flooded::default();
    for thread in threads {
        let (chunks, calls) = thread.join().map_err(|_| anyhow::anyhow!("a thread panicked"))??;
        told.chunks += chunks;
        told.calls += calls;
    }
    told.wall_ns = began.elapsed().as_nanos() as u64;
    Ok(told)
}

/// Chunks and calls of one thread.
fn one_thread(order: &Flood, mut pair: Pair, first_call: u64) -> Result<(u64, u64)> {
    let interval_ns = (1_000_000_000 * order.threads).checked_div(order.rate).unwrap_or(0);
    let schedule = Schedule::new(u64::MAX, interval_ns);
    let until = Duration::from_millis(order.duration_ms);
    let began = Instant::now();
    let (mut chunks, mut calls) = (0, 0);
    while began.elapsed() < until {
        pair.call(first_call + calls, &order.shape, || {
            // What is late is sent at once: the rate holds on average, and a thread that was held up catches up.
            let due = schedule.due(chunks).map_or(until, Duration::from_nanos);
            thread::sleep(due.saturating_sub(began.elapsed()));
            chunks += 1;
            true
        })?;
        calls += 1;
    }
    Ok((chunks, calls))
}
