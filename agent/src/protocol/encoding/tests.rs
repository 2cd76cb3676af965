//! Bodies are compressed by the tests themselves.

use flate2::{
    Compression,
    write::{DeflateEncoder, GzEncoder, ZlibEncoder},
};
use proptest::prelude::*;
use zstd_safe::{CCtx, CParameter, InBuffer, OutBuffer, zstd_sys::ZSTD_EndDirective as Directive};

use super::*;

/// How the tests compress: the codings, and deflate without its wrapper.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Form {
    Gzip,
    Zlib,
    Raw,
    Br,
    Zstd,
}

const FORMS: [Form; 5] = [Form::Gzip, Form::Zlib, Form::Raw, Form::Br, Form::Zstd];

impl Form {
    fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zlib | Self::Raw => "deflate",
            Self::Br => "br",
            Self::Zstd => "zstd",
        }
    }

    /// Compresses the pieces, each flushed: what comes out after each, and what ends the whole.
    fn flushed(self, pieces: &[&[u8]]) -> Vec<Vec<u8>> {
        let best = Compression::best();
        match self {
            Self::Gzip => written(
                pieces,
                GzEncoder::new(Vec::new(), best),
                |e| std::mem::take(e.get_mut()),
                |e| e.finish().unwrap(),
            ),
            Self::Zlib => written(
                pieces,
                ZlibEncoder::new(Vec::new(), best),
                |e| std::mem::take(e.get_mut()),
                |e| e.finish().unwrap(),
            ),
            Self::Raw => written(
                pieces,
                DeflateEncoder::new(Vec::new(), best),
                |e| std::mem::take(e.get_mut()),
                |e| e.finish().unwrap(),
            ),
            Self::Br => {
                let encoder = brotli::CompressorWriter::new(Vec::new(), 4096, 5, 22);
                written(pieces, encoder, |e| std::mem::take(e.get_mut()), brotli::CompressorWriter::into_inner)
            }
            Self::Zstd => zstd(pieces, 20),
        }
    }

    fn encode(self, plain: &[u8]) -> Vec<u8> {
        self.flushed(&[plain]).concat()
    }
}

fn written<W: std::io::Write>(
    pieces: &[&[u8]],
    mut encoder: W,
    take: impl Fn(&mut W) -> Vec<u8>,
    finish: impl FnOnce(W) -> Vec<u8>,
) -> Vec<Vec<u8>> {
    let mut out: Vec<Vec<u8>> = Vec::new();
    for piece in pieces {
        encoder.write_all(piece).unwrap();
        encoder.flush().unwrap();
        out.push(take(&mut encoder));
    }
    out.push(finish(encoder));
    out
}

/// A frame with a checksum and a window of two to the power of `window_log`.
fn zstd(pieces: &[&[u8]], window_log: u32) -> Vec<Vec<u8>> {
    let mut encoder = CCtx::create();
    encoder.set_parameter(CParameter::WindowLog(window_log)).unwrap();
    encoder.set_parameter(CParameter::ChecksumFlag(true)).unwrap();
    let last = (&b""[..], Directive::ZSTD_e_end);
    let mut out = Vec::new();
    for (piece, directive) in pieces.iter().map(|piece| (*piece, Directive::ZSTD_e_flush)).chain([last]) {
        let mut buffer = vec![0; zstd_safe::compress_bound(piece.len()) + 64];
        let mut target = OutBuffer::around(&mut buffer[..]);
        let left = encoder.compress_stream2(&mut target, &mut InBuffer::around(piece), directive).unwrap();
        assert_eq!(left, 0);
        let len = target.pos();
        buffer.truncate(len);
        out.push(buffer);
    }
    out
}

/// What a decoder says: the data joined, and what else, each with the data before it.
#[derive(Debug, Default, PartialEq)]
struct Said {
    data: Vec<u8>,
    notes: Vec<(usize, Event<'static>)>,
}

impl Said {
    fn take(&mut self, event: Event<'_>) {
        match event {
            Event::Data(bytes) => {
                assert!(!bytes.is_empty());
                self.data.extend_from_slice(bytes);
            }
            Event::Odd(reason) => self.notes.push((self.data.len(), Event::Odd(reason))),
            Event::Stopped(reason) => self.notes.push((self.data.len(), Event::Stopped(reason))),
        }
    }

    fn notes(&self) -> Vec<Event<'static>> {
        self.notes.iter().map(|(_, note)| *note).collect()
    }
}

fn decoder(label: &str) -> Decoder {
    if label.is_empty() { Decoder::default() } else { Decoder::new(label).unwrap() }
}

fn decode(label: &str, pieces: &[&[u8]]) -> Said {
    let (mut decoder, mut said) = (decoder(label), Said::default());
    for piece in pieces {
        decoder.push(piece, &mut |event| said.take(event));
    }
    decoder.end(&mut |event| said.take(event));
    said
}

/// Checks a body whole, byte by byte, and cut in two everywhere.
fn check(label: &str, body: &[u8], data: &[u8], notes: &[Event<'static>]) {
    let whole = decode(label, &[body]);
    assert_eq!((&whole.data[..], &whole.notes()[..]), (data, notes), "{label} {body:x?}");
    assert_eq!(decode(label, &body.chunks(1).collect::<Vec<_>>()), whole, "{label} byte by byte");
    for at in 0..body.len().min(2_000) {
        assert_eq!(decode(label, &[&body[..at], &body[at..]]), whole, "{label} split at {at}");
    }
}

static JSON: &[u8] =
    br#"{"id":"chatcmpl-1","object":"chat.completion","choices":[{"index":0,"message":{"content":"hi"}}]}"#;

/// Text that compresses as bodies of LLM APIs do.
fn text(len: usize) -> Vec<u8> {
    let mut seed = 7u32;
    let mut out = Vec::new();
    while out.len() < len {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        out.extend_from_slice(format!("data: {{\"id\":\"chatcmpl-1\",\"delta\":\"{seed:x}\"}}\n\n").as_bytes());
    }
    out.truncate(len);
    out
}

#[test]
fn each_coding_is_decoded_however_it_comes() {
    for form in FORMS {
        check(form.name(), &form.encode(JSON), JSON, &[]);
        check(form.name(), &form.encode(b""), b"", &[]);
        let long = text(300_000);
        for size in [1, 7, 1_460, 16_384, usize::MAX] {
            let said = decode(form.name(), &form.encode(&long).chunks(size).collect::<Vec<_>>());
            assert!(said.data == long && said.notes.is_empty(), "{form:?} in {size}: {:?}", said.notes);
        }
    }
}

#[test]
fn gzip_sync_flush() {
    let events: [&[u8]; 3] = [b"data: {\"a\":1}\n\n", b"data: {\"a\":2}\n\n", b"data: [DONE]\n\n"];
    for form in FORMS {
        let (mut decoder, mut said) = (decoder(form.name()), Said::default());
        let mut expect = Vec::new();
        for (encoded, event) in form.flushed(&events).iter().zip(events) {
            expect.extend_from_slice(event);
            decoder.push(encoded, &mut |event| said.take(event));
            assert_eq!(said.data, expect, "{form:?}: an event comes out with the bytes that carried it");
        }
        assert!(said.notes.is_empty());
    }
}

#[test]
fn codings_in_a_row() {
    for first in FORMS {
        for last in FORMS {
            let body = last.encode(&first.encode(JSON));
            check(&format!("{}, {}", first.name(), last.name()), &body, JSON, &[]);
        }
    }
    for unknown in ["compress", "gzip, aws-chunked", "gzip, gzip, gzip", "gzip,", ""] {
        assert!(Decoder::new(unknown).is_err(), "{unknown:?}");
    }
    check("x-gzip", &Form::Gzip.encode(JSON), JSON, &[]);
}

#[test]
fn a_wrong_label_is_seen_through() {
    let odd = [Event::Odd(reason::MISLABELLED)];
    for label in ["gzip", "deflate", "br", "zstd"] {
        for plain in [JSON, b"{}", b"[{\"a\":1}]", b"data: {}\n\n", b"event: ping\n\n"] {
            check(label, plain, plain, &odd);
        }
        for form in [Form::Gzip, Form::Zstd] {
            let notes = if form.name() == label { &[][..] } else { &odd };
            check(label, &form.encode(JSON), JSON, notes);
        }
    }
    check("gzip", b"<html>", b"<html>", &odd);
    check("gzip", b"\x1f", b"\x1f", &odd);
    check("gzip, br", JSON, JSON, &[odd[0], odd[0]]);
}

#[test]
fn a_body_without_a_label_is_looked_at() {
    check("", &Form::Zstd.encode(JSON), JSON, &[]);
    check("", &Form::Gzip.encode(JSON), JSON, &[]);
    for plain in [JSON, b"", b"(", b"(\xb5/", b"\x1f\x8b", b"(\xb5x"] {
        check("", plain, plain, &[]);
    }
}

#[test]
fn a_plain_body_is_not_copied() {
    let mut decoder = Decoder::default();
    decoder.push(JSON, &mut |_| {});
    decoder.push(JSON, &mut |event| match event {
        Event::Data(bytes) => assert!(std::ptr::eq(bytes, JSON)),
        other => panic!("{other:?}"),
    });
}

#[test]
fn members_and_frames_follow_each_other() {
    for form in [Form::Gzip, Form::Zstd] {
        let body = [form.encode(b"{\"a\":"), form.encode(b""), form.encode(b"1}")].concat();
        check(form.name(), &body, b"{\"a\":1}", &[]);
    }
}

#[test]
fn bytes_behind_the_end_are_passed_over() {
    for form in FORMS {
        for garbage in [&b"\0\0\0\0\0\0\0\0"[..], b"garbage, longer than any header"] {
            let body = [&form.encode(JSON)[..], garbage].concat();
            check(form.name(), &body, JSON, &[Event::Odd(reason::TRAILING)]);
        }
    }
}

#[test]
fn gzip_headers_may_hold_every_field() {
    let plain = Form::Gzip.encode(JSON);
    let mut head = plain[..10].to_vec();
    head[3] = 0b1_1110;
    for extra in [&b"\0\0"[..], b"\x01\0x", b"\x05\0abcde"] {
        let body = [&head, extra, b"name\0comment\0\x124", &plain[10..]].concat();
        check("gzip", &body, JSON, &[]);
    }
}

#[test]
fn a_wrong_gzip_checksum_is_told_and_the_body_kept() {
    let member = Form::Gzip.encode(JSON);
    for at in [member.len() - 8, member.len() - 1] {
        let mut bad = member.clone();
        bad[at] ^= 1;
        let body = [&bad[..], &Form::Gzip.encode(b" ")].concat();
        check("gzip", &body, &[JSON, b" "].concat(), &[Event::Odd(reason::CHECKSUM)]);
    }
}

#[test]
fn wrong_checksums_of_other_codings_come_behind_the_body() {
    for (form, reason) in [(Form::Zlib, reason::CORRUPT), (Form::Zstd, reason::CHECKSUM)] {
        let mut body = form.encode(JSON);
        *body.last_mut().unwrap() ^= 1;
        check(form.name(), &body, JSON, &[Event::Stopped(reason)]);
    }
}

#[test]
fn truncated_at_every_byte() {
    for form in FORMS {
        let body = form.flushed(&[JSON, JSON, b" "]).concat();
        let whole = [JSON, JSON, b" "].concat();
        for len in 1..body.len() {
            let said = decode(form.name(), &[&body[..len]]);
            assert_eq!(said, decode(form.name(), &body[..len].chunks(1).collect::<Vec<_>>()), "{form:?} cut at {len}");
            // Less than a magic number is not known to be one.
            if len >= 4 {
                assert!(whole.starts_with(&said.data), "{form:?} cut at {len}");
                assert_eq!(said.notes(), [Event::Stopped(reason::TRUNCATED)], "{form:?} cut at {len}");
            }
        }
    }
}

#[test]
fn a_gap_ends_what_is_encoded_and_not_what_is_plain() {
    for form in FORMS {
        let pieces = form.flushed(&[JSON, JSON]);
        let (mut decoder, mut said) = (decoder(form.name()), Said::default());
        decoder.push(&pieces[0], &mut |event| said.take(event));
        decoder.gap(&mut |event| said.take(event));
        decoder.gap(&mut |event| said.take(event));
        decoder.push(&pieces[1], &mut |event| said.take(event));
        decoder.end(&mut |event| said.take(event));
        assert_eq!((&said.data[..], &said.notes()[..]), (JSON, &[Event::Stopped(reason::GAP)][..]), "{form:?}");
    }
    for (label, before) in [("", &b"(\xb5"[..]), ("", b"{"), ("gzip", b"{"), ("br", b"{\"")] {
        let (mut decoder, mut said) = (decoder(label), Said::default());
        decoder.push(before, &mut |event| said.take(event));
        decoder.gap(&mut |event| said.take(event));
        decoder.push(&Form::Zstd.encode(JSON), &mut |event| said.take(event));
        assert_eq!(said.data, [before, &Form::Zstd.encode(JSON)].concat(), "{label} {before:?}");
    }
    let (mut decoder, mut said) = (decoder("gzip"), Said::default());
    decoder.gap(&mut |event| said.take(event));
    decoder.push(JSON, &mut |event| said.take(event));
    assert_eq!((said.data.len(), said.notes()), (0, vec![Event::Stopped(reason::GAP)]));
}

#[test]
fn windows_beyond_the_rfc_are_refused_before_they_are_allocated() {
    let body = |window_log| zstd(&[JSON], window_log).concat();
    check("zstd", &body(23), JSON, &[]);
    check("zstd", &body(24), b"", &[Event::Stopped(reason::WINDOW)]);
    // The large windows of brotli: the first byte asks for one (RFC 7932 section 9.1 calls it reserved).
    check("br", &[0x11, 0x1e, 0, 0, 0, 0], b"", &[Event::Stopped(reason::CORRUPT)]);
}

/// Blanks, which any coding packs a thousandfold and more.
fn blanks(form: Form, len: usize) -> Vec<u8> {
    let blanks = vec![b' '; 1 << 20];
    form.flushed(&vec![&blanks[..]; len >> 20]).concat()
}

#[test]
fn bombs_are_cut() {
    for form in FORMS {
        let bomb = blanks(form, 64 << 20);
        let (mut decoder, mut n, mut said) = (decoder(form.name()), 0u64, Said::default());
        let start = std::time::Instant::now();
        for piece in bomb.chunks(1_000) {
            decoder.push(piece, &mut |event| match event {
                Event::Data(bytes) => n += bytes.len() as u64,
                event => said.take(event),
            });
        }
        eprintln!("{form:?}: {} bytes gave {n} in {:?}", bomb.len(), start.elapsed());
        assert_eq!(said.notes(), [Event::Stopped(reason::BOMB)], "{form:?}");
        assert!(n <= (1 << 20) + 500 * bomb.len() as u64, "{form:?}: {n} of {}", bomb.len());
    }
}

#[test]
fn a_bomb_inside_a_bomb_is_measured_by_what_was_sent() {
    for form in FORMS {
        let bomb = form.encode(&blanks(form, 64 << 20));
        let mut n = 0u64;
        let mut decoder = decoder(&format!("{0}, {0}", form.name()));
        let mut said = Said::default();
        decoder.push(&bomb, &mut |event| match event {
            Event::Data(bytes) => n += bytes.len() as u64,
            event => said.take(event),
        });
        assert_eq!(said.notes(), [Event::Stopped(reason::BOMB)], "{form:?}");
        assert!(n <= (1 << 20) + 500 * bomb.len() as u64, "{form:?}: {n} of {}", bomb.len());
    }
}

#[test]
fn a_body_is_decoded_up_to_a_bound_whatever_its_proportion() {
    for form in [Form::Gzip, Form::Zstd] {
        let piece = form.encode(&text(1 << 20));
        let (mut decoder, mut n, mut said) = (decoder(form.name()), 0u64, Said::default());
        while said.notes.is_empty() {
            decoder.push(&piece, &mut |event| match event {
                Event::Data(bytes) => n += bytes.len() as u64,
                event => said.take(event),
            });
        }
        assert_eq!(said.notes(), [Event::Stopped(reason::TOO_LARGE)], "{form:?}");
        assert!(n <= 256 << 20);
    }
}

fn label() -> impl Strategy<Value = String> {
    let one = prop::sample::select(vec!["gzip", "deflate", "br", "zstd"]);
    prop_oneof![
        Just(String::new()),
        one.clone().prop_map(str::to_owned),
        (one.clone(), one).prop_map(|(a, b)| format!("{a}, {b}")),
    ]
}

fn form() -> impl Strategy<Value = Form> {
    prop::sample::select(FORMS.to_vec())
}

proptest! {
    #[test]
    fn any_chunking_gives_the_same(
        plain in prop::collection::vec(prop_oneof![Just(b' '), any::<u8>()], 0..3_000),
        form in form(),
        size in 1usize..40,
    ) {
        let body = form.encode(&plain);
        let said = decode(form.name(), &body.chunks(size).collect::<Vec<_>>());
        prop_assert_eq!(said, Said { data: plain, notes: vec![] });
    }

    #[test]
    fn damage_gives_the_same_however_it_comes(
        plain in prop::collection::vec(prop_oneof![Just(b' '), any::<u8>()], 0..3_000),
        form in form(),
        at in any::<prop::sample::Index>(),
        with in any::<u8>(),
        size in 1usize..40,
    ) {
        let mut body = form.encode(&plain);
        let at = at.index(body.len());
        body[at] = with;
        let whole = decode(form.name(), &[&body]);
        prop_assert_eq!(decode(form.name(), &body.chunks(size).collect::<Vec<_>>()), whole);
    }

    #[test]
    fn noise_neither_panics_nor_depends_on_chunking(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        start in prop::sample::select(vec![&b""[..], b"\x1f\x8b\x08", b"\x1f\x8b\x08\0\0\0\0\0\0\0", b"(\xb5/\xfd", b"x\x9c", b"\x0b", b"{"]),
        label in label(),
        size in 1usize..9,
    ) {
        let body = [start, &bytes].concat();
        let whole = decode(&label, &[&body]);
        prop_assert_eq!(decode(&label, &body.chunks(size).collect::<Vec<_>>()), whole);
    }
}
