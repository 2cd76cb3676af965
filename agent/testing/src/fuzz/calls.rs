//! Targets of whole calls: the wire APIs, the records, and the pipeline over all.

use inferscope::{
    call::ConnectionOptions,
    llm::{self, Estimator, Options, RequestLine, ResponseEvent, Session},
    protocol::head::Headers,
    record::{self, Direction},
};
use inferscope_common::record::MAX_PAYLOAD;

use super::{FREE, choose, same_in_pieces};
use crate::{
    Coding, End, Host, alloc,
    calls::{Call, Transport, bodies},
};

/// Content types that a response may have.
const TYPES: [&str; 6] = [
    "application/json",
    "text/event-stream",
    "application/x-ndjson",
    "application/vnd.amazon.eventstream",
    "application/grpc",
    "text/plain",
];

/// The first byte picks the API by its place in the registry, the second the options and the head of the response, the
/// third how much of the rest is the request's body. Any API of the registry is reached.
pub(super) fn api(input: &[u8]) {
    let (pick, input) = choose(input);
    let (choice, input) = choose(input);
    let (share, input) = choose(input);
    let paths: Vec<String> = llm::paths().collect();
    let path = &paths[usize::from(pick) % paths.len()];
    let (request, response) = input.split_at(input.len() * usize::from(share) / 256);
    let options = Options {
        content: (choice & 1 != 0).then_some(1000),
        estimate: (choice & 2 != 0).then(|| Estimator::by_reference().prepare()),
        low_confidence: Some(-1.0),
        ..Options::default()
    };
    let mut headers = Headers::default();
    headers.take("content-type", TYPES[usize::from(choice >> 2) % TYPES.len()].as_bytes());
    let status = if choice & 0x80 == 0 { 200 } else { 429 };
    let lost = choice & 0x40 != 0;
    // Both bodies are cut alike, so the pieces that are handed in only tell how large they are.
    same_in_pieces(input, 4 * FREE, |pieces, log| {
        let size = pieces.next().map_or(1, <[u8]>::len).max(1);
        let line = RequestLine { method: "POST", path, host: None, headers: None };
        let Some(mut session) = Session::open(&line, &options) else { return };
        request.chunks(size).for_each(|piece| session.request_body(piece));
        session.request_end();
        session.response_head(status, &headers);
        let (before, behind) = response.split_at(if lost { response.len() / 2 } else { 0 });
        let mut take = |event: ResponseEvent| log.note(&event);
        before.chunks(size).for_each(|piece| session.response_body(piece, &mut take));
        if lost {
            session.response_gap();
        }
        behind.chunks(size).for_each(|piece| session.response_body(piece, &mut take));
        session.response_end(&mut take);
        log.note(&(session.proof(), session.finished(), session.malformed(), session.is_stream()));
        log.note(&session.into_facts());
        // What the facts hold is bounded, however it is written down.
        log.events = log.events.min(input.len());
    });
}

pub(super) fn api_seeds() -> Vec<Vec<u8>> {
    let paths: Vec<String> = llm::paths().collect();
    let mut seeds = Vec::new();
    for body in bodies::all() {
        let Some(pick) = paths.iter().position(|path| body.path.ends_with(path.as_str())) else { continue };
        let kind = TYPES.iter().position(|kind| *kind == body.content_type).unwrap_or(0) as u8;
        let response = body.pieces.concat();
        let share = (body.request.len() * 256).div_ceil(body.request.len() + response.len()).min(255);
        for choice in [kind << 2, kind << 2 | 3] {
            seeds.push([&[pick as u8, choice, share as u8], body.request.as_bytes(), &response].concat());
        }
    }
    // One for each API, so that the fuzzer need not find out how many there are.
    seeds.extend((0..paths.len()).map(|pick| [&[pick as u8, 0, 128], &br#"{"model":"m"}{"id":"a"}"#[..]].concat()));
    seeds
}

/// Bytes of one record; the length that it claims is made right, so that what is behind it is looked at.
pub(super) fn record(input: &[u8]) {
    let _refused = record::parse(input);
    let mut bytes = input.to_vec();
    let len = (bytes.len() as u32).to_ne_bytes();
    if let Some(claimed) = bytes.first_chunk_mut() {
        *claimed = len;
    }
    let (parsed, taken) = alloc::measure(|| record::parse(&bytes).map(|record| format!("{record:?}").len()));
    assert!(taken.peak <= FREE + 64 * bytes.len(), "{} bytes were held for {}", taken.peak, bytes.len());
    assert_eq!(parsed.is_ok(), record::parse(&bytes).is_ok());
    if let (Ok(record), Some(_)) = (record::parse(&bytes), record::time_of(&bytes)) {
        let mut host = Host::default();
        host.take(record);
        host.finish();
        host.stats();
    }
}

/// Sizes of the kernel's records, by kind (`inferscope_common::record`).
const SIZES: [(u16, usize); 13] = [
    (1, 80),
    (2, 88),
    (3, 56),
    (4, 64),
    (5, 48),
    (6, 48),
    (7, 48),
    (8, 40),
    (9, 72),
    (10, 56),
    (16, 280),
    (20, 64),
    (21, 56),
];

pub(super) fn record_seeds() -> Vec<Vec<u8>> {
    let of = |(kind, size): (u16, usize)| {
        let mut bytes = vec![0; size];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes
    };
    SIZES.map(of).to_vec()
}

/// A program for two processes with three connections: each step is a byte that says what happens, a second for how much,
/// and the bytes that are moved.
pub(super) fn pipeline(input: &[u8]) {
    let (choice, mut rest) = choose(input);
    let options = ConnectionOptions {
        session: Options { content: (choice & 1 != 0).then_some(1000), ..Options::default() },
        all_http: choice & 2 != 0,
        ..ConnectionOptions::default()
    };
    let calls = |mut rest: &[u8]| {
        let mut host = Host::new(options.clone());
        let mut ends = [(0xa, 1), (0xb, 2), (0xc, 1)].map(|(address, tgid)| End::new(address, tgid));
        while let Some(([step, size], more)) = rest.split_first_chunk() {
            let end = &mut ends[usize::from(step & 3) % 3];
            let direction = if step & 4 == 0 { Direction::Read } else { Direction::Write };
            rest = more;
            match step >> 3 {
                0..16 => {
                    // Sizes of a byte would never make a record of usual size.
                    let size = (usize::from(*size) << (step >> 5)).min(MAX_PAYLOAD);
                    let (bytes, more) = rest.split_at_checked(size).unwrap_or((rest, &[]));
                    rest = more;
                    host.bytes(end, direction, bytes);
                }
                16..20 => host.lost(end, direction, u32::from(*size)),
                20..24 => {
                    host.close(end, direction == Direction::Write);
                    let turn = u64::from(*size) << 8;
                    *end = End::new(0xa00 + turn + u64::from(step & 3), 1);
                }
                24..26 => host.silence(),
                _ => {
                    let (bytes, more) = rest.split_at_checked(usize::from(*size)).unwrap_or((rest, &[]));
                    rest = more;
                    if let Ok(record) = record::parse(bytes) {
                        host.take(record);
                    }
                }
            }
        }
        host.finish();
        host.stats();
        host.calls.len()
    };
    let (found, taken) = alloc::measure(|| calls(rest));
    assert!(taken.peak <= 8 * FREE + 256 * rest.len(), "{} bytes were held for {}", taken.peak, rest.len());
    rest = &rest[..rest.len() / 2];
    assert!(found <= input.len() && calls(rest) <= input.len());
}

pub(super) fn pipeline_seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for (n, body) in bodies::all().iter().enumerate() {
        let transport = Transport::ALL[n % 4];
        let call = Call::new(body, transport, Coding::ALL[n % 5]);
        let mut seed = vec![(n % 4) as u8];
        for (step, bytes) in [(4, &call.request), (0, &call.response)] {
            for piece in bytes.chunks(200) {
                seed.extend([step, piece.len() as u8]);
                seed.extend(piece);
            }
        }
        // Closed by the other end.
        seed.extend([20 << 3, 1]);
        seeds.push(seed);
    }
    seeds
}
