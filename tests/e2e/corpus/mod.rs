//! Exchanges with every API, replayed over sockets: each span says what its exchange states.
//!
//! The client and the server are this process. `corpus::` replays the recordings (`cargo xtask test --suite corpus`);
//! without them it says so. `corpus_sample::` replays a few exchanges of our own and is a part of every run. A way of
//! travelling is a [`Way`] and a [`Mode`]: each that is in use is a scenario.
//!
//! All rows travel in pieces of 1,460 bytes and of 16 KiB. A system call for every seven bytes of all of them would take
//! minutes, so smaller pieces are for the shortest rows of each API, streamed and not. Nothing paces the two ends but the
//! agent: before they can fill its ring, it is waited for.

mod encode;
mod http1;
mod http2;
mod recording;

use std::{collections::BTreeMap, time::Duration};

use anyhow::Result;
use encode::Encoding;
use http1::Framing;
use inferscope_tests::{
    agent::Agent,
    call::Call,
    corpus::{self, Row, Tally, own},
};

use crate::{
    expect::is_of,
    scenario::{Need, Scenarios, say},
};

/// How long the agent may be behind after a replay on a slow, busy machine.
const CATCH_UP: Duration = Duration::from_secs(120);

/// How a body is encoded and in what pieces it travels.
#[derive(Clone, Copy, Debug)]
struct Mode {
    /// Encoding of requests.
    request: Encoding,
    /// Encoding of responses.
    response: Encoding,
    /// Most bytes that one system call moves.
    piece: usize,
}

impl Mode {
    fn of(response: Encoding, piece: usize) -> Self {
        Self { request: Encoding::Identity, response, piece }
    }

    fn name(self) -> String {
        let request = self.request.token().map_or(String::new(), |token| format!("request_{token}::"));
        format!("{request}{}::pieces_{}", self.response.name(), self.piece)
    }
}

/// How rows travel.
#[derive(Clone, Copy, Debug)]
enum Way {
    Http1(Framing),
    Http2,
}

impl Way {
    fn name(self) -> String {
        match self {
            Self::Http1(framing) => format!("http1::{}", framing.name()),
            Self::Http2 => "http2".to_owned(),
        }
    }

    fn replay(self, rows: &[Row], mode: Mode) -> Result<()> {
        match self {
            Self::Http1(framing) => http1::replay(rows, framing, mode),
            Self::Http2 => http2::replay(rows, mode),
        }
    }
}

const WAYS: [Way; 3] = [Way::Http1(Framing::Length), Way::Http1(Framing::Chunked), Way::Http2];

/// A segment of Ethernet.
const SEGMENT: usize = 1_460;

/// A TLS record, and what one record of the agent's rings holds.
const FULL: usize = 16 * 1_024;

/// Bytes of the agent's ring that are filled before it is waited for: half of the ring.
const BATCH: usize = 16 << 20;

/// Bytes of a record in the ring beside its payload, with alignment.
const RECORD: usize = 96;

/// Bytes of an exchange's two heads, more or less.
const HEADS: usize = 4 << 10;

/// Longest row that travels in small pieces: a byte at a time it still leaves room in a batch.
const SHORT: usize = 64 << 10;

/// Adds this topic's scenarios.
pub fn add(all: &mut Scenarios) {
    for way in WAYS {
        let name = format!("corpus_sample::{}", way.name());
        all.add(name.clone(), &[], move || over_sockets(&name, way, sample()));
    }
    all.add("corpus_sample::replay", &[], || recording::replay(&own::rows(), Mode::of(Encoding::Identity, FULL)));
    if corpus::missing().is_some() {
        // One line says it for all of them.
        all.add("corpus::all", &[Need::Recordings], || Ok(()));
        return;
    }
    for way in WAYS {
        for (mode, shortest) in modes() {
            let name = format!("corpus::{}::{}", way.name(), mode.name());
            let needs = &[Need::Recordings];
            all.add(name.clone(), needs, move || over_sockets(&name, way, vec![(recorded(shortest)?, mode)]));
        }
    }
    for (piece, shortest) in [(1, Some(3)), (7, None), (SEGMENT, None), (FULL, None)] {
        for encoding in Encoding::ALL {
            let mode = Mode::of(encoding, piece);
            let name = format!("corpus::replay::{}", mode.name());
            all.add(name, &[Need::Recordings], move || recording::replay(&recorded(shortest)?, mode));
        }
    }
}

/// Our own rows in each encoding, in small pieces.
fn sample() -> Vec<(Vec<Row>, Mode)> {
    let numbered = |from: usize| {
        let rows = own::rows();
        let n = rows.len();
        rows.into_iter().map(move |row| Row { index: row.index + from * n, ..row }).collect()
    };
    Encoding::ALL.into_iter().enumerate().map(|(at, encoding)| (numbered(at), Mode::of(encoding, 7))).collect()
}

/// The modes in which the recordings travel over sockets, and how many of each API's shortest do where not all do.
fn modes() -> Vec<(Mode, Option<usize>)> {
    let plain = |piece| Mode::of(Encoding::Identity, piece);
    let mut modes = vec![(plain(1), Some(2)), (plain(7), Some(6)), (plain(SEGMENT), None), (plain(FULL), None)];
    for encoding in [Encoding::Gzip, Encoding::Brotli, Encoding::Zstd] {
        modes.push((Mode::of(encoding, 7), Some(3)));
        modes.push((Mode::of(encoding, SEGMENT), None));
        modes.push((Mode { request: encoding, response: encoding, piece: FULL }, Some(12)));
    }
    modes
}

/// The recorded rows, or the `shortest` of them.
fn recorded(shortest: Option<usize>) -> Result<Vec<Row>> {
    let rows = corpus::recorded()?;
    Ok(match shortest {
        Some(n) => shortest_rows(rows, n),
        None => rows,
    })
}

/// The `n` rows of each API that hold the fewest bytes, of those that stream and of those that do not, if they are short.
///
/// Only POSTs: the kernel side tells another method by its first eight bytes, which no client cuts.
fn shortest_rows(mut rows: Vec<Row>, n: usize) -> Vec<Row> {
    rows.retain(|row| row.method == "POST" && length(row) <= SHORT);
    rows.sort_by_key(length);
    let mut taken = BTreeMap::<_, usize>::new();
    rows.retain(|row| {
        let count = taken.entry((row.api.clone(), row.response.is_sse())).or_default();
        *count += 1;
        *count <= n
    });
    rows
}

/// Bytes of an exchange, more or less.
fn length(row: &Row) -> usize {
    row.request.body.len() + row.response.body.len() + HEADS
}

/// Cuts rows into batches: the ring has room for each of them, if the agent has read all that went before.
fn batches(rows: &[Row], piece: usize) -> Vec<&[Row]> {
    let (mut batches, mut from, mut filled) = (Vec::new(), 0, 0);
    for (at, row) in rows.iter().enumerate() {
        // Each byte is written by one end and read by the other.
        let bytes = 2 * (length(row) + RECORD * length(row).div_ceil(piece));
        if filled + bytes > BATCH && at > from {
            batches.push(&rows[from..at]);
            (from, filled) = (at, 0);
        }
        filled += bytes;
    }
    batches.push(&rows[from..]);
    batches
}

/// Replays rows, each part of them in its mode, under one agent, and demands what they state.
fn over_sockets(name: &str, way: Way, parts: Vec<(Vec<Row>, Mode)>) -> Result<()> {
    let agent = Agent::trace(&["--pid", &std::process::id().to_string()])?;
    let free = parts.iter().flat_map(|(rows, _)| rows).map(|row| row.index + 1).max().unwrap_or(0);
    let mut last = Vec::new();
    for (rows, mode) in &parts {
        for batch in batches(rows, mode.piece) {
            way.replay(batch, *mode)?;
            // What the agent reads in order it also reports in order: with this call it has reported all before it.
            last.push(own::chat(free + last.len()));
            let marker = &last[last.len() - 1..];
            http1::replay(marker, Framing::Length, Mode::of(Encoding::Identity, FULL))?;
            let port = |call: &Call| call.number("server.port").and_then(Row::index_of_port);
            agent.wait_for_calls(2, CATCH_UP, |call| is_own(call) && port(call) == Some(marker[0].index))?;
        }
    }
    let rows: Vec<_> = parts.into_iter().flat_map(|(rows, _)| rows).chain(last).collect();
    let calls = agent.stop()?.clean()?.calls()?;
    let calls: Vec<_> = calls.into_iter().filter(is_own).collect();
    let tally = Tally::of(&rows, &calls);
    tally.verdict()?;
    say(&format!("{name}: {} rows\n{tally}", rows.len()));
    Ok(())
}

/// Whether a call is this process's.
fn is_own(call: &Call) -> bool {
    is_of(call, std::process::id())
}
