//! How fast one core reads an OpenAI chat stream: the whole way from records to the call, and its layers alone.
//!
//! Bytes per second are those on the wire, but for codings, where they are those that are decoded. Targets: 500 MB/s of
//! HTTP/1.1 and 300 MB/s of HTTP/2 for the whole way.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use inferscope::{
    llm::{Options, RequestLine, Session},
    protocol::{encoding::Decoder, head::Headers, http1, http2, json::Scanner, sse},
    record::Direction,
};
use inferscope_testing::{
    Coding, End, Host,
    calls::Transport,
    streams::{self, Exchange},
    wire::http1::Framing,
};

/// Words of the answer: some 2.4 MB of events.
const WORDS: usize = 8_000;

/// Bytes of one read, as many as a record holds.
const READ: usize = 16 * 1024;

/// The whole way: records in, a call out.
fn call(exchange: &Exchange) -> u64 {
    let mut host = Host::default();
    let mut end = End::new(0xa, 1);
    host.bytes(&mut end, Direction::Write, &exchange.request);
    host.bytes(&mut end, Direction::Read, &exchange.response);
    let call = host.calls.pop().expect("the call is over");
    call.facts.and_then(|facts| facts.usage.output).expect("the call's usage")
}

fn wholly(criterion: &mut Criterion) {
    let events = streams::chat(WORDS);
    let plain: usize = events.iter().map(Vec::len).sum();
    let mut group = criterion.benchmark_group("pipeline");
    let (http1, http2) = (Transport::Http1(Framing::Chunked), Transport::Http2);
    for (name, transport, coding) in [
        ("http1", http1, Coding::Identity),
        ("http2", http2, Coding::Identity),
        ("http1 gzip", http1, Coding::Gzip),
        ("http1 br", http1, Coding::Br),
        ("http1 zstd", http1, Coding::Zstd),
    ] {
        let exchange = streams::exchange(&events, transport, coding);
        let bytes = if coding == Coding::Identity { exchange.response.len() } else { plain };
        group.throughput(Throughput::Bytes(bytes as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| assert_eq!(call(black_box(&exchange)), WORDS as u64));
        });
    }
}

/// Events of 16 KB, of which nearly all is the answer's text.
fn long_chunks(criterion: &mut Criterion) {
    const CHUNK: usize = 2_700;
    let words = 60 * CHUNK;
    let events = streams::chat_in_chunks(words, CHUNK);
    let exchange = streams::exchange(&events, Transport::Http1(Framing::Chunked), Coding::Identity);
    let mut group = criterion.benchmark_group("pipeline");
    group.throughput(Throughput::Bytes(exchange.response.len() as u64));
    group.bench_function("http1 16 KB events", |bencher| {
        bencher.iter(|| assert_eq!(call(black_box(&exchange)), words as u64));
    });
}

fn layers(criterion: &mut Criterion) {
    let events = streams::chat(WORDS);
    let body = events.concat();
    let mut group = criterion.benchmark_group("layer");
    let wire = streams::exchange(&events, Transport::Http1(Framing::Chunked), Coding::Identity).response;
    group.throughput(Throughput::Bytes(wire.len() as u64));
    group.bench_function("http1", |bencher| {
        bencher.iter(|| {
            let (mut parser, mut bytes) = (http1::Parser::responses(), 0);
            let mut take = |event: http1::Event<'_>| {
                if let http1::Event::Body(body) = event {
                    bytes += body.len()
                }
            };
            black_box(&wire).chunks(READ).for_each(|read| parser.push(read, &mut take));
            assert_eq!(bytes, body.len());
        });
    });
    let wire = streams::exchange(&events, Transport::Http2, Coding::Identity).response;
    group.throughput(Throughput::Bytes(wire.len() as u64));
    group.bench_function("http2", |bencher| {
        bencher.iter(|| {
            let (mut parser, mut total) = (http2::Parser::responses(), 0);
            let mut take = |event: http2::Event<'_>| {
                if let http2::Event::Data { bytes, .. } = event {
                    total += bytes.len()
                }
            };
            black_box(&wire).chunks(READ).for_each(|read| parser.push(read, &mut take));
            assert_eq!(total, body.len());
        });
    });
    group.throughput(Throughput::Bytes(body.len() as u64));
    group.bench_function("sse", |bencher| {
        bencher.iter(|| {
            let (mut parser, mut count) = (sse::Parser::new(1 << 20), 0);
            let mut take = |item: sse::Item<'_>| count += usize::from(matches!(item, sse::Item::Event(_)));
            black_box(&body).chunks(READ).for_each(|read| parser.push(read, &mut take));
            assert_eq!(count, events.len());
        });
    });
    let documents: Vec<&[u8]> = events[..events.len() - 1].iter().map(|event| &event[6..event.len() - 2]).collect();
    group.throughput(Throughput::Bytes(documents.iter().map(|document| document.len() as u64).sum()));
    group.bench_function("json", |bencher| {
        bencher.iter(|| {
            let (mut scanner, mut count) = (Scanner::new(256), 0);
            for document in black_box(&documents) {
                scanner.reset();
                scanner.push(document, &mut |_, _| count += 1);
            }
            black_box(count);
        });
    });
    group.throughput(Throughput::Bytes(body.len() as u64));
    group.bench_function("session", |bencher| {
        let line = RequestLine { method: "POST", path: "/v1/chat/completions", host: None, headers: None };
        let mut headers = Headers::default();
        headers.take("content-type", b"text/event-stream");
        bencher.iter(|| {
            let mut session = Session::open(&line, &Options::default()).expect("a model's path");
            session.response_head(200, &headers);
            black_box(&body).chunks(READ).for_each(|read| session.response_body(read, &mut |_| ()));
            assert!(session.finished());
        });
    });
    for coding in [Coding::Gzip, Coding::Deflate, Coding::Br, Coding::Zstd] {
        let name = coding.name().unwrap_or_default();
        let encoded = coding.encode(&events).concat();
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let (mut decoder, mut bytes) = (Decoder::new(name).expect("a coding"), 0);
                let mut take = |event: inferscope::protocol::encoding::Event<'_>| {
                    if let inferscope::protocol::encoding::Event::Data(data) = event {
                        bytes += data.len();
                    }
                };
                black_box(&encoded).chunks(READ).for_each(|read| decoder.push(read, &mut take));
                assert_eq!(bytes, body.len());
            });
        });
    }
}

criterion_group!(benches, wholly, long_chunks, layers);
criterion_main!(benches);
