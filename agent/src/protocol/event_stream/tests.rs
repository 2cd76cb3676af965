use proptest::prelude::*;

use super::{
    testing::{encode, encode_raw, string},
    *,
};

const MAX: usize = 200;

fn event(name: &str, payload: &str) -> Vec<u8> {
    let headers = [(":event-type", name), (":content-type", "application/json"), (":message-type", "event")];
    encode(&headers, payload.as_bytes())
}

fn parse(pushes: &[&[u8]]) -> Vec<String> {
    let mut parser = Parser::new(MAX);
    let mut out = Vec::new();
    for bytes in pushes {
        parser.push(bytes, &mut |item| out.push(show(item)));
    }
    parser.finish(&mut |item| out.push(show(item)));
    out
}

fn show(item: Item<'_>) -> String {
    match item {
        Item::Message(Message { kind, name, payload }) => {
            format!("{kind:?} {} {}", name.unwrap_or("-"), String::from_utf8_lossy(payload))
        }
        Item::Oversize(bytes) => format!("oversize {bytes}"),
        Item::Malformed(reason) => reason.into(),
        Item::Unfinished => "unfinished".into(),
    }
}

/// Checks the items of `input` whole, byte by byte and split in two everywhere.
fn check(input: &[u8], expect: &[&str]) {
    assert_eq!(parse(&[input]), expect);
    assert_eq!(parse(&input.chunks(1).collect::<Vec<_>>()), expect, "byte by byte");
    for at in 0..input.len() {
        assert_eq!(parse(&[&input[..at], &input[at..]]), expect, "split at {at}");
    }
}

#[test]
fn messages_follow_each_other() {
    let exception = encode(&[(":message-type", "exception"), (":exception-type", "throttlingException")], b"{}");
    let error = encode(&[(":message-type", "error"), (":error-code", "InternalError")], b"");
    check(
        &[event("messageStart", "{\"p\":1}"), exception, error, encode(&[], b"x")].concat(),
        &["Event messageStart {\"p\":1}", "Exception throttlingException {}", "Exception InternalError ", "Event - x"],
    );
}

/// The sample messages of botocore's tests and of the format's documentation.
#[test]
fn the_formats_own_examples() {
    let empty = b"\x00\x00\x00\x10\x00\x00\x00\x00\x05\xc2\x48\xeb\x7d\x98\xc8\xff";
    check(empty, &["Event - "]);
    let int32 = b"\x00\x00\x00\x2d\x00\x00\x00\x10\x41\xc4\x24\xb8\x0a\x65\x76\x65\x6e\x74\x2d\x74\x79\x70\x65\x04\x00\x00\xa0\x0c{'foo':'bar'}\x36\xf4\x80\xa0";
    check(int32, &["Event - {'foo':'bar'}"]);
}

#[test]
fn headers_of_every_type_are_passed_over() {
    let values: [&[u8]; 10] = [
        &[0],
        &[1],
        &[2, 1],
        &[3, 1, 2],
        &[4, 1, 2, 3, 4],
        &[5, 1, 2, 3, 4, 5, 6, 7, 8],
        &[6, 0, 3, 1, 2, 3],
        &[7, 0, 1, b'x'],
        &[8, 1, 2, 3, 4, 5, 6, 7, 8],
        &[9, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16],
    ];
    let mut section: Vec<u8> = values.iter().flat_map(|value| [&[1, b'n'], *value].concat()).collect();
    section.extend(string(":event-type", "e"));
    check(&encode_raw(&section, b"{}"), &["Event e {}"]);
    for bad in [&[1][..], &[1, b'n'], &[1, b'n', 10], &[1, b'n', 4, 1], &[1, b'n', 7, 0, 9, b'x']] {
        check(&[encode_raw(bad, b"{}"), event("e", "{}")].concat(), &[reason::HEADERS, "Event e {}"]);
    }
}

#[test]
fn crc_error() {
    let good = event("e", "{}");
    for at in 12..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 0x40;
        check(&[bad, good.clone()].concat(), &[reason::CHECKSUM, "Event e {}"]);
    }
    for at in 0..12 {
        let mut bad = good.clone();
        bad[at] ^= 0x40;
        let items = parse(&[&bad, &good]);
        assert!([reason::LENGTHS, reason::PRELUDE_CHECKSUM].contains(&items[0].as_str()), "{items:?}");
        assert_eq!(items[1..], ["Event e {}"], "the next message is found behind damage at {at}");
        assert_eq!(parse(&[bad.clone(), good.clone()].concat().chunks(1).collect::<Vec<_>>()), items);
    }
}

#[test]
fn lying_lengths_are_not_waited_for() {
    let lying = |total: u32, headers: u32| {
        let mut out = [total.to_be_bytes(), headers.to_be_bytes()].concat();
        out.extend(crc(&[&out]).to_be_bytes());
        [out, event("e", "{}")].concat()
    };
    for (total, headers) in [(0, 0), (15, 0), (16, 1), (u32::MAX, 0), (200_000, 131_073), (16 + 25_165_825, 0)] {
        check(&lying(total, headers), &[reason::LENGTHS, "Event e {}"]);
    }
}

#[test]
fn a_message_beyond_the_limit_is_passed_over() {
    let long = "x".repeat(MAX);
    let size = event("e", &long).len();
    check(&[event("e", &long), event("e", "{}")].concat(), &[&format!("oversize {size}"), "Event e {}"]);
    let parser = {
        let mut parser = Parser::new(MAX);
        parser.push(&event("e", &long)[..size - 1], &mut |_| {});
        parser
    };
    assert_eq!(parser.held.capacity(), 0);
}

#[test]
fn truncated_at_every_byte() {
    let message = event("e", "{}");
    for len in 1..message.len() {
        check(&message[..len], &["unfinished"]);
    }
}

#[test]
fn a_gap_costs_the_messages_that_it_touches() {
    let stream = [event("a", "{}"), event("b", "{}"), event("c", "{}")].concat();
    let size = event("a", "{}").len();
    for from in 0..stream.len() {
        for to in [from + 1, from + size] {
            let mut parser = Parser::new(MAX);
            let mut out = Vec::new();
            parser.push(&stream[..from], &mut |item| out.push(show(item)));
            parser.gap();
            parser.push(stream.get(to..).unwrap_or_default(), &mut |item| out.push(show(item)));
            let whole = ["Event a {}", "Event b {}", "Event c {}"];
            let expect = (0..3).filter(|i| (i + 1) * size <= from || i * size >= to).map(|i| whole[i]);
            assert_eq!(out, expect.collect::<Vec<_>>(), "gap {from}..{to}");
        }
    }
}

#[test]
fn a_message_of_one_push_is_not_copied() {
    let input = event("e", "{}");
    let mut parser = Parser::new(MAX);
    parser.push(&input, &mut |item| match item {
        Item::Message(message) => assert!(input.as_ptr_range().contains(&message.payload.as_ptr())),
        other => panic!("{other:?}"),
    });
    assert_eq!(parser.held.capacity(), 0);
}

proptest! {
    #[test]
    fn any_chunking_gives_the_same(
        payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..250), 0..5),
        damage in prop::option::of((any::<prop::sample::Index>(), any::<u8>())),
        size in 1usize..40,
    ) {
        let mut stream: Vec<u8> = payloads.iter().flat_map(|payload| encode(&[(":event-type", "e")], payload)).collect();
        if let Some((at, with)) = damage.filter(|_| !payloads.is_empty()) {
            let at = at.index(stream.len());
            stream[at] = with;
        }
        prop_assert_eq!(parse(&stream.chunks(size).collect::<Vec<_>>()), parse(&[&stream]));
    }

    #[test]
    fn noise_neither_panics_nor_depends_on_chunking(bytes in prop::collection::vec(any::<u8>(), 0..300), size in 1usize..9) {
        prop_assert_eq!(parse(&bytes.chunks(size).collect::<Vec<_>>()), parse(&[&bytes]));
    }
}
