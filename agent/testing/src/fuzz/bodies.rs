//! Targets of what stands in bodies.

use inferscope::protocol::{
    encoding, event_stream, grpc,
    json::{Documents, Form, Item, Scanner, Status, Step, Token},
    multipart,
    protobuf::{self, Field, Kind},
    sse,
};

use super::{FREE, Log, choose, same_in_pieces};
use crate::{calls::bodies, wire};

/// Events and texts up to this size are taken.
const MAX_EVENT: usize = 256;

/// What a coding may hold: the window of br, and the buffers of two codings.
const WINDOWS: usize = 20 << 20;

pub(super) fn sse(input: &[u8]) {
    same_in_pieces(input, FREE, |pieces, log| {
        let mut parser = sse::Parser::new(MAX_EVENT);
        pieces.for_each(|piece| parser.push(piece, &mut |item| log.note(&item)));
        parser.finish(&mut |item| log.note(&item));
    });
}

pub(super) fn sse_seeds() -> Vec<Vec<u8>> {
    let mut seeds = with_type("text/event-stream");
    seeds.push(b"\xef\xbb\xbf: comment\r\nevent: a\rdata:b\ndata: c\r\n\r\nid: 1\nretry: 2\n\ndata".to_vec());
    seeds
}

pub(super) fn event_stream(input: &[u8]) {
    same_in_pieces(input, FREE, |pieces, log| {
        let mut parser = event_stream::Parser::new(MAX_EVENT);
        pieces.for_each(|piece| parser.push(piece, &mut |item| log.note(&item)));
        parser.finish(&mut |item| log.note(&item));
    });
}

pub(super) fn event_stream_seeds() -> Vec<Vec<u8>> {
    let mut seeds = with_type("application/vnd.amazon.eventstream");
    let error = [(":message-type", "exception"), (":exception-type", "throttlingException")];
    seeds.push(wire::event_stream::message(&error, b"{\"message\":\"slow down\"}"));
    seeds.push([&b"noise"[..], &wire::event_stream::event("chunk", "{}")].concat());
    seeds
}

fn value(log: &mut Log, path: &[Step<'_>], token: Token<'_>) {
    match token {
        Token::Piece(text) => log.bytes(text.as_bytes()),
        token => log.note(&(path, token)),
    }
}

/// The first byte says whether there are several documents, and whether text beyond the cap is told too.
pub(super) fn json(input: &[u8]) {
    let (choice, input) = choose(input);
    same_in_pieces(input, FREE, |pieces, log| {
        let form = match choice & 3 {
            0 | 1 => {
                let mut scanner = Scanner::new(16);
                scanner = if choice & 4 == 0 { scanner } else { scanner.with_pieces() };
                pieces.for_each(|piece| scanner.push(piece, &mut |path, token| value(log, path, token)));
                scanner.finish(&mut |path, token| value(log, path, token));
                assert_ne!(scanner.status(), Status::Open);
                return log.note(&scanner.status());
            }
            2 => Form::Lines,
            _ => Form::Array,
        };
        let mut documents = Documents::new(form, 16);
        documents = if choice & 4 == 0 { documents } else { documents.with_pieces() };
        let mut take = |item: Item<'_>| match item {
            Item::Value(path, token) => value(log, path, token),
            item => log.note(&item),
        };
        pieces.for_each(|piece| documents.push(piece, &mut take));
        documents.finish(&mut take);
    });
}

pub(super) fn json_seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for choice in 0..8 {
        let first = |text: &[u8]| [&[choice][..], text].concat();
        seeds.push(first(
            br#"{"a":["\ud83d\ude80\n",-1.5e3,true,null,{}],"a string longer than the cap":"12345678901234567890"}"#,
        ));
        seeds.push(first(b"[{\"a\":1}\n,\n{\"b\":2}\n]"));
        seeds.push(first(b"{\"a\":1}\n{\"b\":nul}\n{\"c\":3}\n"));
    }
    seeds
}

/// The first byte says which compression the head names.
pub(super) fn grpc(input: &[u8]) {
    let (choice, input) = choose(input);
    let coding = [None, Some("gzip"), Some("deflate"), Some("snappy")][usize::from(choice) % 4];
    same_in_pieces(input, WINDOWS, |pieces, log| {
        let mut parser = grpc::Parser::new(coding);
        let mut take = |event: grpc::Event<'_>| match event {
            grpc::Event::Data(bytes) => {
                log.bytes(&bytes[..bytes.len().min(64)]);
                log.is_lost |= bytes.len() > 64;
            }
            grpc::Event::End { is_whole } => {
                // How much of a message comes out before it is given up is not the same in all pieces.
                log.is_lost |= !is_whole;
                log.note(&is_whole);
            }
        };
        pieces.for_each(|piece| parser.push(piece, &mut take));
        parser.end(&mut take);
        log.note(&parser.malformed());
    });
}

pub(super) fn grpc_seeds() -> Vec<Vec<u8>> {
    let zipped = wire::Coding::Gzip.encode(&[b"\x0a\x05model".to_vec()]).concat();
    let mut compressed = wire::event_stream::grpc(&zipped);
    compressed[0] = 1;
    [wire::event_stream::grpc(b"\x0a\x05model"), compressed]
        .map(|message| [&[1], &message[..], &message].concat())
        .to_vec()
}

const fn field(number: u32, name: &'static str, repeated: bool, kind: Kind) -> Field {
    Field { number, name, repeated, kind }
}

/// A message with every kind of field.
const FIELDS: &[Field] = &[
    field(1, "text", false, Kind::Text),
    field(2, "texts", true, Kind::Text),
    field(3, "int", false, Kind::Int),
    field(4, "ints", true, Kind::Int),
    field(5, "bool", false, Kind::Bool),
    field(6, "float", false, Kind::Float),
    field(7, "raw", false, Kind::RawText),
    field(8, "there", false, Kind::Presence),
    field(9, "inner", true, Kind::Message(INNER)),
    field(10, "inline", true, Kind::Inline(INNER)),
];

const INNER: &[Field] = &[field(1, "name", false, Kind::Text), field(2, "numbers", true, Kind::Int)];

pub(super) fn protobuf(input: &[u8]) {
    same_in_pieces(input, FREE, |pieces, log| {
        let mut scanner = protobuf::Scanner::new(FIELDS, 16);
        pieces.for_each(|piece| scanner.push(piece, &mut |path, token| value(log, path, token)));
        let is_whole = scanner.finish(&mut |path, token| value(log, path, token));
        log.note(&(is_whole, scanner.malformed()));
    });
}

pub(super) fn protobuf_seeds() -> Vec<Vec<u8>> {
    let fields: [&[u8]; 10] = [
        b"\x0a\x01a",
        b"\x12\x01b",
        b"\x18\x96\x01",
        b"\x22\x02\x01\x02",
        b"\x28\x01",
        b"\x35\0\0\x80\x3f",
        b"\x3a\x05\x01\0\0\0c",
        b"\x42\x03any",
        b"\x4a\x05\x0a\x01d\x10\x05",
        b"\x52\x03\x0a\x01e",
    ];
    vec![fields.concat(), fields.concat().repeat(2), b"\x78\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01".to_vec()]
}

pub(super) fn multipart(input: &[u8]) {
    same_in_pieces(input, FREE, |pieces, log| {
        let mut parser = multipart::Parser::new(16);
        pieces.for_each(|piece| parser.push(piece, &mut |field| log.note(&field)));
        parser.finish();
        log.note(&(parser.is_complete(), parser.malformed()));
    });
}

pub(super) fn multipart_seeds() -> Vec<Vec<u8>> {
    let part = |head: &str, body: &str| format!("--b\r\ncontent-disposition: form-data; {head}\r\n\r\n{body}\r\n");
    let form =
        part("name=\"model\"", "whisper-1") + &part("name=\"file\"; filename=\"a.wav\"", "RIFF--b\r\n-") + "--b--\r\n";
    vec![form.into_bytes()]
}

/// The first byte says what the head names.
pub(super) fn encoding(input: &[u8]) {
    const NAMES: [&str; 7] = ["gzip", "deflate", "br", "zstd", "gzip, br", "gzip, gzip", ""];
    let (choice, input) = choose(input);
    same_in_pieces(input, WINDOWS, |pieces, log| {
        let name = NAMES[usize::from(choice) % NAMES.len()];
        let mut decoder = if name.is_empty() { Ok(encoding::Decoder::default()) } else { encoding::Decoder::new(name) }
            .expect("codings that there are");
        let mut decoded = 0;
        let mut take = |event: encoding::Event<'_>| match event {
            encoding::Event::Data(bytes) => {
                decoded += bytes.len();
                // What a body of some bytes may be decoded to is another matter: see the bound of `encoding` itself.
                log.bytes(&bytes[..bytes.len().min(64)]);
                log.is_lost |= bytes.len() > 64;
            }
            // A decoder reads ahead: where a bomb is cut depends on the pieces.
            event => {
                log.is_lost |= event == encoding::Event::Stopped(encoding::reason::BOMB);
                log.note(&event);
            }
        };
        pieces.for_each(|piece| decoder.push(piece, &mut take));
        decoder.end(&mut take);
        assert!(decoded <= (2 << 20) + 600 * input.len(), "{decoded} bytes out of {}", input.len());
    });
}

pub(super) fn encoding_seeds() -> Vec<Vec<u8>> {
    use wire::Coding::{Br, Deflate, Gzip, Zstd};
    let text = [b"data: a\n\n".to_vec(), b"data: b\n\n".to_vec()];
    let first = |choice: u8, bytes: Vec<Vec<u8>>| [vec![choice], bytes.concat()].concat();
    let mut seeds: Vec<_> =
        [Gzip, Deflate, Br, Zstd].into_iter().zip(0..).map(|(coding, n)| first(n, coding.encode(&text))).collect();
    seeds.push(first(5, Gzip.encode(&[Gzip.encode(&text).concat()])));
    seeds.push(first(0, Gzip.encode(&[vec![0; 5000]])));
    seeds.push(first(6, text.to_vec()));
    seeds
}

/// Bodies of responses that have a content type.
fn with_type(content_type: &str) -> Vec<Vec<u8>> {
    let all = bodies::all().into_iter().filter(|body| body.content_type == content_type);
    all.map(|body| body.pieces.concat()).collect()
}
