//! The bodies of the fuzz targets: bytes in, and nothing may panic, take memory or say things out of proportion, or depend
//! on how the bytes are cut.
//!
//! Owns the list of targets ([`ALL`]) and what each checks. Leaves to others: `agent/fuzz` makes a program of each for
//! libFuzzer, and `agent/tests/fuzz_targets.rs` runs them all with their seeds and with random bytes.
//!
//! Bounds are counted, not timed: a parser may say [`MAX_EVENTS`] things and hold [`MAX_HELD`] bytes for each byte that it
//! is given, beyond what the target allows at once.
//!
//! To add a target: 1. a `run` and `seeds` in a file here; 2. its line in [`ALL`]; 3. a program of three lines in
//! `agent/fuzz/fuzz_targets/` and its `[[bin]]`. An API in the registry needs none: `api` takes them all.

mod bodies;
mod calls;
mod http;

use std::fmt::{Debug, Write as _};

use crate::alloc;

/// One target.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// What it is called.
    pub name: &'static str,
    /// Takes one input.
    pub run: fn(&[u8]),
    /// What the fuzzer begins with.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All of them.
pub const ALL: [Target; 14] = [
    Target { name: "http1", run: http::http1, seeds: http::http1_seeds },
    Target { name: "http2", run: http::http2, seeds: http::http2_seeds },
    Target { name: "hpack", run: http::hpack, seeds: http::hpack_seeds },
    Target { name: "websocket", run: http::websocket, seeds: http::websocket_seeds },
    Target { name: "sse", run: bodies::sse, seeds: bodies::sse_seeds },
    Target { name: "event_stream", run: bodies::event_stream, seeds: bodies::event_stream_seeds },
    Target { name: "json", run: bodies::json, seeds: bodies::json_seeds },
    Target { name: "grpc", run: bodies::grpc, seeds: bodies::grpc_seeds },
    Target { name: "protobuf", run: bodies::protobuf, seeds: bodies::protobuf_seeds },
    Target { name: "multipart", run: bodies::multipart, seeds: bodies::multipart_seeds },
    Target { name: "encoding", run: bodies::encoding, seeds: bodies::encoding_seeds },
    Target { name: "api", run: calls::api, seeds: calls::api_seeds },
    Target { name: "record", run: calls::record, seeds: calls::record_seeds },
    Target { name: "pipeline", run: calls::pipeline, seeds: calls::pipeline_seeds },
];

/// Runs a target.
///
/// # Panics
/// If there is none of this name, or if the input shows a fault.
pub fn run(name: &str, input: &[u8]) {
    let target = ALL.iter().find(|target| target.name == name).expect("the name of a target");
    (target.run)(input);
}

/// What may be said of each byte: a byte can end a value, its object, an event and a message.
const MAX_EVENTS: usize = 8;

/// What is said of no byte at all.
const FREE_EVENTS: usize = 64;

/// Bytes held at a time for each byte that came. Vectors double, and the smallest value has a struct of its own.
const MAX_HELD: usize = 128;

/// Bytes that most parsers may hold whatever came.
const FREE: usize = 1 << 20;

/// What was said, with bytes joined that came in pieces.
#[derive(Debug, Default, PartialEq)]
struct Log {
    text: String,
    bytes: Vec<u8>,
    /// Where something begins is not known from here, so that the cut matters.
    is_lost: bool,
    events: usize,
}

impl Log {
    /// Bytes of whatever is at hand.
    fn bytes(&mut self, bytes: &[u8]) {
        self.events += 1;
        self.bytes.extend_from_slice(bytes);
    }

    /// Anything else.
    fn note(&mut self, what: &dyn Debug) {
        self.events += 1;
        self.flush();
        // A string takes whatever it is given.
        let _written = writeln!(self.text, "{what:?}");
    }

    fn flush(&mut self) {
        if !self.bytes.is_empty() {
            let bytes = std::mem::take(&mut self.bytes);
            let _written = writeln!(self.text, "{:?}", bytes.escape_ascii().to_string());
        }
    }
}

/// Parses the same bytes whole, in single bytes and in pieces whose size they choose themselves: the result must be the
/// same. `parse` gives the pieces to a new parser and ends it. `free` bytes may be held whatever came.
fn same_in_pieces(input: &[u8], free: usize, parse: impl Fn(&mut dyn Iterator<Item = &[u8]>, &mut Log)) {
    let of = |size: usize| {
        let mut log = Log::default();
        let (_, taken) = alloc::measure(|| parse(&mut input.chunks(size.max(1)), &mut log));
        // The log itself is a part of what was taken.
        let bound = free + MAX_HELD * (input.len() + log.text.len());
        assert!(taken.peak <= bound, "{} bytes were held for {}", taken.peak, input.len());
        log.flush();
        log
    };
    let whole = of(input.len());
    assert!(whole.events <= FREE_EVENTS + MAX_EVENTS * input.len(), "{} events of {} bytes", whole.events, input.len());
    for size in [1, 2 + usize::from(input.first().copied().unwrap_or(0)) % 40] {
        let cut = of(size);
        if !(whole.is_lost || cut.is_lost) {
            assert_eq!(whole.text, cut.text, "in pieces of {size}");
        }
    }
}

/// The first byte, for what a target has to choose.
fn choose(input: &[u8]) -> (u8, &[u8]) {
    input.split_first().map_or((0, input), |(first, rest)| (*first, rest))
}
