//! Targets of what stands around bodies.

use inferscope::protocol::{http1, http2, websocket};

use super::{FREE, Log, choose, same_in_pieces};
use crate::{
    calls::{Call, Transport, bodies},
    wire::{
        self, Coding,
        http1::Framing,
        http2::{END_HEADERS, kind},
    },
};

/// The first byte says which side speaks, and to which methods a server answers.
pub(super) fn http1(input: &[u8]) {
    let (choice, input) = choose(input);
    same_in_pieces(input, FREE, |pieces, log| {
        let mut parser = if choice & 1 == 0 { http1::Parser::requests() } else { http1::Parser::responses() };
        ["HEAD", "CONNECT"].iter().filter(|_| choice & 2 != 0).for_each(|method| parser.expect(method));
        let mut take = |event: http1::Event<'_>| match event {
            http1::Event::Body(bytes) | http1::Event::Beyond(bytes) => log.bytes(bytes),
            // Behind a loss messages are looked for where pushes begin.
            event => {
                log.is_lost |= matches!(
                    event,
                    http1::Event::Malformed(_)
                        | http1::Event::Skipped(_)
                        | http1::Event::Joined
                        | http1::Event::End(http1::End::Lost)
                );
                log.note(&event);
            }
        };
        pieces.for_each(|piece| parser.push(piece, &mut take));
        parser.close(&mut take);
    });
}

fn calls(transport: Transport) -> Vec<Vec<u8>> {
    let call = |body: &bodies::Body| {
        let call = Call::new(body, transport, Coding::Identity);
        [[&[0], &call.request[..]].concat(), [&[1], &call.response[..]].concat()]
    };
    bodies::all().iter().step_by(4).flat_map(call).collect()
}

pub(super) fn http1_seeds() -> Vec<Vec<u8>> {
    let mut seeds: Vec<_> = [Framing::Length, Framing::Chunked, Framing::UntilClose]
        .into_iter()
        .flat_map(|framing| calls(Transport::Http1(framing)))
        .collect();
    seeds.push(b"\x03HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nHTTP/1.1 200 OK\r\n\r\ntunnel".to_vec());
    seeds.push(b"\x01HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n".to_vec());
    seeds.push(
        b"\0GET http://a/b?c HTTP/1.1\nhost: x\nauthorization: Bearer y\n\nPRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
    );
    seeds
}

fn take(event: http2::Event<'_>, log: &mut Log) {
    match event {
        // Streams are interleaved: what is joined must be of one.
        http2::Event::Data { stream, bytes } => {
            log.note(&stream);
            log.bytes(bytes);
        }
        event => {
            log.is_lost |=
                matches!(event, http2::Event::Malformed { .. } | http2::Event::Skipped(_) | http2::Event::Lost { .. });
            log.note(&event);
        }
    }
}

/// The first byte says which side speaks, and whether its beginning was seen. Bodies come in the pieces in which the bytes
/// do, so only what is said of heads is compared.
pub(super) fn http2(input: &[u8]) {
    let (choice, input) = choose(input);
    same_in_pieces(input, FREE, |pieces, log| {
        let mut parser = match choice & 3 {
            0 => http2::Parser::requests(),
            1 => http2::Parser::responses(),
            side => http2::Parser::join(side == 2),
        };
        let mut heads = |event: http2::Event<'_>| match event {
            http2::Event::Data { bytes, .. } => log.events += usize::from(!bytes.is_empty()),
            event => take(event, log),
        };
        pieces.for_each(|piece| parser.push(piece, &mut heads));
        parser.close(&mut heads);
        // One that was joined looks for frames where pushes begin.
        log.is_lost |= choice & 2 != 0;
    });
}

pub(super) fn http2_seeds() -> Vec<Vec<u8>> {
    let mut seeds = calls(Transport::Http2);
    let block = wire::http2::block(&[(":status", "200"), ("content-type", "text/event-stream")]);
    let (first, rest) = block.split_at(9);
    let frame = wire::http2::frame;
    let padded = [&[2], &b"data: a\n\n"[..], &[0, 0]].concat();
    let parts = [
        vec![1],
        frame(kind::SETTINGS, 0, 0, &[0, 5, 0, 0, 0x80, 0]),
        frame(kind::HEADERS, 0, 1, first),
        frame(kind::CONTINUATION, END_HEADERS, 1, rest),
        frame(kind::DATA, 8, 1, &padded),
        frame(3, 0, 1, &8u32.to_be_bytes()),
        frame(7, 0, 0, &[0; 8]),
    ];
    seeds.push(parts.concat());
    seeds
}

/// Header blocks on a connection, each as long as its first byte says: it makes no difference in how many frames one comes.
pub(super) fn hpack(input: &[u8]) {
    let heads = |frames: usize| {
        let (mut parser, mut log, mut rest, mut stream) = (http2::Parser::responses(), Log::default(), input, 1);
        while let Some((len, blocks)) = rest.split_first() {
            let (block, after) = blocks.split_at_checked(usize::from(*len)).unwrap_or((blocks, &[]));
            let mut fragments = block.chunks(block.len().div_ceil(frames).max(1)).peekable();
            let mut kind = kind::HEADERS;
            while let Some(fragment) = fragments.next() {
                let flags = if fragments.peek().is_none() { END_HEADERS } else { 0 };
                parser.push(&wire::http2::frame(kind, flags, stream, fragment), &mut |event| take(event, &mut log));
                kind = kind::CONTINUATION;
            }
            (rest, stream) = (after, stream + 2);
        }
        parser.close(&mut |event| take(event, &mut log));
        log.flush();
        log
    };
    let whole = heads(1);
    assert!(whole.events <= 64 + 8 * input.len(), "{} events of {} bytes", whole.events, input.len());
    assert_eq!(whole.text, heads(2 + usize::from(input.first().copied().unwrap_or(0)) % 6).text);
}

pub(super) fn hpack_seeds() -> Vec<Vec<u8>> {
    let block = |bytes: &[u8]| [&[bytes.len() as u8], bytes].concat();
    // RFC 7541 appendix C.6: with Huffman coding and a table that evicts.
    let first = b"\x3f\xe1\x01\x48\x82\x64\x02\x58\x85\xae\xc3\x77\x1a\x4b\x61\x96\xd0\x7a\xbe\x94\x10\x54\xd4\x44\xa8\x20\x05\x95\x04\x0b\x81\x66\xe0\x82\xa6\x2d\x1b\xff";
    let second = b"\x48\x83\x64\x0e\xff\xc1\xc0\xbf";
    let plain = wire::http2::block(&[(":status", "200"), ("x-request-id", "a")]);
    vec![[block(first), block(second)].concat(), block(&plain), block(b"\x88\xbe\x7f\x80\x01")]
}

/// The first byte says which side speaks and what was agreed on.
pub(super) fn websocket(input: &[u8]) {
    const AGREED: [&str; 4] = [
        "",
        "permessage-deflate",
        "permessage-deflate; server_no_context_takeover",
        "permessage-deflate; client_no_context_takeover",
    ];
    let (choice, input) = choose(input);
    same_in_pieces(input, FREE, |pieces, log| {
        let extensions = websocket::Extensions::read(AGREED[usize::from(choice >> 1) % 4]).expect("known extensions");
        let mut parser = if choice & 1 == 0 {
            websocket::Parser::client(&extensions)
        } else {
            websocket::Parser::server(&extensions)
        };
        let mut take = |event: websocket::Event<'_>| match event {
            websocket::Event::Data(bytes) => {
                log.is_lost |= bytes.len() > 64;
                log.bytes(&bytes[..bytes.len().min(64)]);
            }
            event => {
                // A decoder reads ahead: where a bomb is cut depends on the pieces.
                log.is_lost |= event == websocket::Event::End(websocket::End::Damaged(websocket::reason::BOMB));
                log.note(&event);
            }
        };
        pieces.for_each(|piece| {
            parser.push(piece, &mut take);
        });
        parser.close(&mut take);
    });
}

pub(super) fn websocket_seeds() -> Vec<Vec<u8>> {
    let frame = wire::websocket::frame;
    let mask = Some([1, 2, 3, 4]);
    // "Hello" of RFC 7692 section 7.2.3.1.
    let hello = frame(0xc1, None, &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00]);
    vec![
        [vec![0], frame(0x81, mask, b"{\"type\":\"response.create\"}"), frame(0x88, mask, &[3, 0xe8])].concat(),
        [vec![1], frame(0x01, None, b"a"), frame(0x89, None, b""), frame(0x80, None, &[b'b'; 300])].concat(),
        [vec![3], hello.clone(), hello.clone()].concat(),
        [vec![5], hello].concat(),
    ]
}
