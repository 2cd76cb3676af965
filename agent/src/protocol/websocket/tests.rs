use std::io::Write as _;

use proptest::prelude::*;

use super::{
    testing::{compress, frame},
    *,
};

fn deflate() -> Extensions {
    Extensions::read("permessage-deflate").unwrap()
}

fn no_takeover() -> Extensions {
    Extensions::read("permessage-deflate; client_no_context_takeover; server_no_context_takeover").unwrap()
}

/// What is said, with the pieces of a message joined.
#[derive(Default)]
struct Said(Vec<String>);

impl Said {
    fn take(&mut self, event: Event<'_>) {
        match (event, self.0.last_mut()) {
            (Event::Data(bytes), Some(last)) if last.starts_with("data ") => {
                *last += &bytes.escape_ascii().to_string();
            }
            (Event::Data(bytes), _) => {
                assert!(!bytes.is_empty());
                self.0.push(format!("data {}", bytes.escape_ascii()));
            }
            (other, _) => self.0.push(format!("{other:?}")),
        }
    }
}

fn parse(mut parser: Parser, pushes: &[&[u8]]) -> Vec<String> {
    let mut said = Said::default();
    for bytes in pushes {
        parser.push(bytes, &mut |event| said.take(event));
    }
    parser.close(&mut |event| said.take(event));
    said.0
}

/// Checks what `input` gives whole, byte by byte and split in two everywhere.
fn check(parser: impl Fn() -> Parser, input: &[u8], expect: &[&str]) {
    assert_eq!(parse(parser(), &[input]), expect);
    assert_eq!(parse(parser(), &input.chunks(1).collect::<Vec<_>>()), expect, "byte by byte");
    for at in 0..input.len() {
        assert_eq!(parse(parser(), &[&input[..at], &input[at..]]), expect, "split at {at}");
    }
}

fn from_server() -> Parser {
    Parser::server(&Extensions::default())
}

fn from_client() -> Parser {
    Parser::client(&Extensions::default())
}

/// RFC 6455 section 5.7.
#[test]
fn the_rfcs_examples() {
    let hello = ["Begin(Text)", "data Hello", "End(Complete)"];
    check(from_server, b"\x81\x05Hello", &hello);
    check(from_client, b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58", &hello);
    check(from_server, b"\x01\x03Hel\x80\x02lo", &hello);
    check(from_server, b"\x89\x05Hello", &["Ping"]);
    check(from_client, b"\x8a\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58", &["Pong"]);
    for len in [256, 65_536] {
        let mut events = Vec::new();
        let mut parser = from_server();
        let message = frame(0x82, false, &vec![b'x'; len]);
        parser.push(&message, &mut |event| match event {
            Event::Data(bytes) => assert!(std::ptr::eq(bytes.as_ptr_range().end, message.as_ptr_range().end)),
            other => events.push(format!("{other:?}")),
        });
        assert_eq!(events, ["Begin(Binary)", "End(Complete)"], "{len}");
    }
}

/// RFC 7692 section 7.2.3.
#[test]
fn the_rfcs_compressed_examples() {
    let hello = ["Begin(Text)", "data Hello", "End(Complete)"];
    let twice = [&hello[..], &hello].concat();
    let server = || Parser::server(&deflate());
    check(server, b"\xc1\x07\xf2\x48\xcd\xc9\xc9\x07\x00", &hello);
    check(server, b"\x41\x03\xf2\x48\xcd\x80\x04\xc9\xc9\x07\x00", &hello);
    check(server, b"\xc1\x0b\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00", &hello);
    check(server, b"\xc1\x08\xf3\x48\xcd\xc9\xc9\x07\x00\x00\xc1\x07\xf2\x48\xcd\xc9\xc9\x07\x00", &twice);
    check(server, b"\xc1\x0d\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00", &hello);
    check(server, b"\xc1\x07\xf2\x48\xcd\xc9\xc9\x07\x00\xc1\x05\xf2\x00\x11\x00\x00", &twice);
    check(|| Parser::server(&no_takeover()), &b"\xc1\x07\xf2\x48\xcd\xc9\xc9\x07\x00".repeat(2), &twice);
    check(server, b"\x81\x05Hello\xc1\x01\x00", &[&hello[..], &["Begin(Text)", "End(Complete)"]].concat());
}

#[test]
fn control_frames_come_between_fragments() {
    let input = [
        frame(0x01, true, b"a"),
        frame(0x89, true, b"p"),
        frame(0x00, true, b""),
        frame(0x8a, true, b""),
        frame(0x80, true, b"bcdefg"),
        frame(0x88, true, b"\x03\xe8bye"),
        b"anything".to_vec(),
    ];
    let expect = ["Begin(Text)", "data a", "Ping", "Pong", "data bcdefg", "End(Complete)", "Close(Some(1000))"];
    check(from_client, &input.concat(), &expect);
    check(from_server, b"\x88\x00", &["Close(None)"]);
    check(from_server, b"\x88\x01\x03", &["Close(None)"]);
    check(from_server, b"\x01\x01a\x88\x00", &["Begin(Text)", "data a", "End(Cut)", "Close(None)"]);
}

#[test]
fn broken_rules_end_the_parsing() {
    for (input, reason) in [
        (&b"\x83\x01a"[..], reason::OPCODE),
        (b"\x8b\x00", reason::OPCODE),
        (b"\xa1\x01a", reason::RESERVED),
        (b"\xc1\x01a", reason::RESERVED),
        (b"\x81\x81\0\0\0\0a", reason::MASK),
        (b"\x81\x7e\x00\x7d", reason::LENGTH),
        (b"\x81\x7f\0\0\0\0\0\0\xff\xff", reason::LENGTH),
        (b"\x81\x7f\x80\0\0\0\0\0\0\0", reason::LENGTH),
        (b"\x09\x00", reason::CONTROL),
        (b"\x89\x7e\x00\x7e", reason::CONTROL),
        (b"\x80\x01a", reason::FRAGMENT),
    ] {
        check(from_server, &[input, b"\x81\x05Hello"].concat(), &[&format!("Lost({reason:?})")]);
    }
    check(from_client, b"\x81\x01a", &[&format!("Lost({:?})", reason::MASK)]);
    let nested = ["Begin(Text)", "data a", "End(Cut)", &format!("Lost({:?})", reason::FRAGMENT)];
    check(from_server, b"\x01\x01a\x81\x01b", &nested);
    let compressed = Parser::server(&deflate());
    let late = [&b"\x01\x01a\xc0\x01b"[..]];
    assert_eq!(parse(compressed, &late).last().unwrap(), &format!("Lost({:?})", reason::RESERVED));
}

#[test]
fn a_message_may_be_cut_at_every_byte() {
    let input = [frame(0x01, true, b"Hel"), frame(0x80, true, b"lo")].concat();
    for len in 1..input.len() {
        let said = parse(from_client(), &input[..len].chunks(1).collect::<Vec<_>>());
        match len {
            0..6 => assert!(said.is_empty()),
            _ => assert_eq!((said[0].as_str(), said.last().unwrap().as_str()), ("Begin(Text)", "End(Cut)"), "{len}"),
        }
    }
}

/// What comes when bytes `from..to` of `input` are missing.
fn with_gap(mut parser: Parser, input: &[u8], from: usize, to: usize) -> Vec<String> {
    let mut said = Said::default();
    parser.push(&input[..from], &mut |event| said.take(event));
    parser.gap((to - from) as u64, &mut |event| said.take(event));
    parser.push(&input[to..], &mut |event| said.take(event));
    said.0
}

#[test]
fn a_gap_inside_a_payload_keeps_the_framing() {
    let input = [frame(0x81, true, b"abcdefgh"), frame(0x81, true, b"next")].concat();
    let next = ["Begin(Text)", "data next", "End(Complete)"];
    let expect = |middle: &[&'static str]| [&["Begin(Text)"], middle, &["End(Complete)"], &next].concat();
    assert_eq!(with_gap(from_client(), &input, 7, 9), expect(&["data a", "Gap(2)", "data defgh"]));
    assert_eq!(with_gap(from_client(), &input, 6, 14), expect(&["Gap(8)"]));
    assert_eq!(with_gap(from_client(), &input, 7, 7), expect(&["data abcdefgh"]));
    let ping = [frame(0x89, true, b"abcdefgh"), frame(0x81, true, b"next")].concat();
    assert_eq!(with_gap(from_client(), &ping, 8, 12), [&["Ping"][..], &next].concat());
}

#[test]
fn a_gap_across_a_header_loses_the_direction() {
    let input = [frame(0x81, true, b"abcdefgh"), frame(0x81, true, b"next")].concat();
    let lost = format!("Lost({:?})", reason::GAP);
    assert_eq!(with_gap(from_client(), &input, 7, 15), ["Begin(Text)", "data a", "End(Cut)", &lost]);
    for (from, to) in [(0, 1), (3, 4), (0, 14)] {
        assert_eq!(with_gap(from_client(), &input, from, to), [lost.as_str()], "{from}..{to}");
    }
}

#[test]
fn a_gap_in_a_compressed_message_costs_what_refers_to_it() {
    let messages: [&[u8]; 3] = [b"one two three four", b"one two three", b"one two three four"];
    for (extensions, takeover) in [(deflate(), true), (no_takeover(), false)] {
        let parts = compress(&messages, takeover);
        let input: Vec<Vec<u8>> = parts.iter().map(|part| frame(0xc1, false, part)).collect();
        let from = input[0].len() + 4;
        let plain = frame(0x81, false, b"plain");
        let said = with_gap(Parser::server(&extensions), &[input.concat(), plain].concat(), from, from + 2);
        let damaged = format!("End(Damaged({:?}))", reason::CONTEXT);
        let text = |data: &str| vec!["Begin(Text)".to_owned(), format!("data {data}"), "End(Complete)".to_owned()];
        assert_eq!(said[..3], text("one two three four"));
        assert!(said[3] == "Begin(Text)" && said.contains(&"Gap(2)".to_owned()) && said.contains(&damaged));
        let behind = said.iter().position(|line| *line == damaged).unwrap() + 1;
        match takeover {
            true => assert_eq!(said[behind..behind + 2], ["Begin(Text)".to_owned(), damaged]),
            false => assert_eq!(said[behind..behind + 3], text("one two three four")),
        }
        assert_eq!(said[said.len() - 3..], text("plain"), "what is not compressed is read nevertheless");
    }
}

#[test]
fn damaged_data_is_told_at_the_messages_end() {
    let server = || Parser::server(&no_takeover());
    let good = compress(&[b"good"], false).concat();
    let input = [frame(0xc1, false, b"\xff\xff\xff"), frame(0xc1, false, &good)].concat();
    let damaged = format!("End(Damaged({:?}))", reason::CORRUPT);
    check(server, &input, &["Begin(Text)", &damaged, "Begin(Text)", "data good", "End(Complete)"]);
}

#[test]
fn bombs_are_cut_and_small_messages_do_not_add_up_to_one() {
    let blanks = vec![b' '; 1 << 20];
    let bomb = compress(&[&blanks], false).concat();
    let mut parser = Parser::server(&no_takeover());
    let (mut n, mut ends) = (0, Vec::new());
    for _ in 0..64 {
        parser.push(&frame(0xc2, false, &bomb), &mut |event| match event {
            Event::Data(bytes) => n += bytes.len(),
            Event::End(end) => ends.push(end),
            _ => {}
        });
    }
    assert_eq!(ends.last(), Some(&End::Damaged(reason::BOMB)));
    assert!(n <= (1 << 20) + 500 * bomb.len() * 64, "{n} bytes of {}", bomb.len() * 64);
    let mut text = Vec::new();
    (0..50_000).for_each(|n| write!(text, "{{\"delta\":{n}}}").unwrap());
    let usual = frame(0xc1, false, &compress(&[&text], false).concat());
    let mut parser = Parser::server(&no_takeover());
    let mut whole = 0;
    for _ in 0..600 {
        parser.push(&usual, &mut |event| whole += usize::from(event == Event::End(End::Complete)));
    }
    assert_eq!(whole, 600, "the size of a whole connection is not bounded");
}

/// A message: its fragments, whether it is compressed, and whether control frames come between.
fn message() -> impl Strategy<Value = (Vec<Vec<u8>>, bool, bool)> {
    let fragments = prop::collection::vec(prop::collection::vec(prop_oneof![Just(b'a'), any::<u8>()], 0..300), 1..4);
    (fragments, any::<bool>(), any::<bool>())
}

proptest! {
    #[test]
    fn any_chunking_gives_the_messages_that_were_sent(
        messages in prop::collection::vec(message(), 0..6),
        takeover: bool,
        mask: bool,
        size in 1usize..50,
    ) {
        let plain: Vec<Vec<u8>> = messages.iter().map(|(fragments, ..)| fragments.concat()).collect();
        let compressed: Vec<&[u8]> = plain.iter().zip(&messages).filter(|(_, m)| m.1).map(|(plain, _)| &plain[..]).collect();
        let mut compressed = compress(&compressed, takeover).into_iter();
        let (mut wire, mut expect) = (Vec::new(), Vec::new());
        for ((fragments, is_compressed, control), plain) in messages.iter().zip(&plain) {
            let fragments = match is_compressed {
                true => {
                    let bytes = compressed.next().unwrap();
                    let (a, b) = bytes.split_at(bytes.len() / fragments.len());
                    vec![a.to_vec(), b.to_vec()]
                }
                false => fragments.clone(),
            };
            expect.push("Begin(Binary)".to_owned());
            for (i, fragment) in fragments.iter().enumerate() {
                let opcode = if i == 0 { 0x02 | if *is_compressed { 0x40 } else { 0 } } else { 0 };
                let fin = if i + 1 == fragments.len() { 0x80 } else { 0 };
                wire.extend(frame(opcode | fin, mask, fragment));
                if *control && fin == 0 {
                    wire.extend(frame(0x89, mask, b"ping"));
                }
            }
            expect.extend((!plain.is_empty()).then(|| format!("data {}", plain.escape_ascii())));
            expect.push("End(Complete)".to_owned());
        }
        let extensions = if takeover { deflate() } else { no_takeover() };
        let parser = || if mask { Parser::client(&extensions) } else { Parser::server(&extensions) };
        let said = parse(parser(), &wire.chunks(size).collect::<Vec<_>>());
        prop_assert_eq!(&said, &parse(parser(), &[&wire]));
        // The pieces of a message around a ping, as one.
        let mut joined: Vec<String> = Vec::new();
        for line in said.into_iter().filter(|line| line != "Ping") {
            match (line.strip_prefix("data "), joined.last_mut()) {
                (Some(data), Some(last)) if last.starts_with("data ") => *last += data,
                _ => joined.push(line),
            }
        }
        prop_assert_eq!(joined, expect);
    }

    #[test]
    fn noise_neither_panics_nor_depends_on_chunking(
        bytes in prop::collection::vec(prop_oneof![any::<u8>(), prop::sample::select(b"\x81\xc1\x01\x80\x05\x89\x02".to_vec())], 0..200),
        size in 1usize..9,
    ) {
        let parser = || Parser::server(&deflate());
        prop_assert_eq!(parse(parser(), &bytes.chunks(size).collect::<Vec<_>>()), parse(parser(), &[&bytes]));
    }

    #[test]
    fn a_gap_anywhere_never_gives_bytes_that_were_not_sent(from in 0usize..60, len in 0usize..60) {
        let input = [frame(0x01, true, &[b'a'; 20]), frame(0x80, true, &[b'a'; 20]), frame(0x81, true, &[b'a'; 20])].concat();
        let (from, to) = (from.min(input.len()), (from + len).min(input.len()));
        for line in with_gap(from_client(), &input, from, to) {
            let data = line.strip_prefix("data ").unwrap_or_default();
            prop_assert!(data.bytes().all(|byte| byte == b'a'), "{}", data);
        }
    }
}
