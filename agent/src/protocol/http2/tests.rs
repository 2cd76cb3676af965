use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{testing::Writer, *};
use crate::protocol::head::{RequestHead, ResponseHead};

/// What a parser gave, in a form that outlives the push. Neighbouring pieces of a body are one.
#[derive(Default)]
struct Log {
    lines: Vec<String>,
    /// The piece of a body that is being added to: its stream.
    body: Option<u32>,
}

impl Log {
    fn add(&mut self, event: Event<'_>) {
        if let Event::Data { stream, bytes } = event {
            assert!(!bytes.is_empty());
            let text: String = bytes.iter().copied().map(char::from).collect();
            match self.lines.last_mut().filter(|_| self.body == Some(stream)) {
                Some(last) => *last += &text,
                None => self.lines.push(format!("{stream}: data {text}")),
            }
            self.body = Some(stream);
            return;
        }
        self.body = None;
        self.lines.push(match event {
            Event::Head { stream, head } => format!("{stream}: {}", text_of(&head)),
            Event::Gap { stream, missing } => format!("{stream}: gap {missing}"),
            Event::End { stream } => format!("{stream}: end"),
            Event::Reset { stream, code } => format!("{stream}: reset {code}"),
            Event::GoAway { last } => format!("goaway {last}"),
            Event::Allows { frame } => format!("allows {frame}"),
            Event::Lost { missing } => format!("lost {missing}"),
            Event::Malformed { stream, reason } => format!("{stream}: malformed: {reason}"),
            Event::Skipped(bytes) => format!("skipped {bytes}"),
            Event::Data { .. } => unreachable!(),
        });
    }
}

fn text_of(head: &Head) -> String {
    let mut words = match head {
        Head::Request(RequestHead { method, path, host, .. }) => {
            vec![method.clone(), path.clone(), host.clone().unwrap_or_default()]
        }
        Head::Response(ResponseHead { status, .. }) => vec![status.to_string()],
        Head::Trailers(_) => vec!["trailers".to_owned()],
    };
    let headers = match head {
        Head::Request(head) => &head.headers,
        Head::Response(head) => &head.headers,
        Head::Trailers(headers) => headers,
    };
    words.extend(headers.content_type.clone());
    words.extend(headers.signals.iter().map(|(name, value)| format!("{name}={value}")));
    words.join(" ")
}

fn parse(mut parser: Parser, pushes: &[&[u8]]) -> Vec<String> {
    let mut log = Log::default();
    pushes.iter().for_each(|bytes| parser.push(bytes, &mut |event| log.add(event)));
    parser.close(&mut |event| log.add(event));
    log.lines
}

/// Checks the events of `bytes` whole, byte by byte and split in two everywhere.
fn check(parser: fn() -> Parser, bytes: &[u8], expect: &[&str]) {
    assert_eq!(parse(parser(), &[bytes]), expect);
    assert_eq!(parse(parser(), &bytes.chunks(1).collect::<Vec<_>>()), expect, "byte by byte");
    for at in 0..bytes.len() {
        assert_eq!(parse(parser(), &[&bytes[..at], &bytes[at..]]), expect, "split at {at}");
    }
}

const POST: &str = "POST /v1/chat/completions api.example application/json";
const PATH: &str = "/v1/chat/completions";

#[test]
fn a_request_and_what_comes_with_it() {
    let mut client = Writer::client();
    client.settings(&[(3, 100), (5, 65_536)]).frame(kind::WINDOW_UPDATE, 0, 0, &[0, 1, 0, 0]);
    client.post(1, PATH).data(1, false, b"{}").frame(kind::PING, 0, 0, b"12345678").data(1, true, b"");
    client.frame(kind::SETTINGS, flag::ACK, 0, b"").frame(0xbe, 0xff, 7, b"unknown types are ignored");
    client.frame(kind::RST_STREAM, 0, 1, &8u32.to_be_bytes());
    let expect = ["allows 65536", &format!("1: {POST}"), "1: data {}", "1: end", "1: reset 8"].map(str::to_owned);
    check(Parser::requests, &client.bytes, &expect.each_ref().map(String::as_str));
}

#[test]
fn responses_interim_heads_trailers_and_goaway() {
    let mut server = Writer::server();
    server.settings(&[]).headers(1, false, &[(":status", "100")]).ok(1).data(1, false, b"a").ok(3).data(3, false, b"b");
    server.data(1, false, b"c").headers(1, true, &[("grpc-status", "0"), ("x-key", "canary")]).data(3, true, b"d");
    server.frame(kind::GOAWAY, 0, 0, &[0, 0, 0, 3, 0, 0, 0, 0, b'b', b'y', b'e']);
    server.headers(5, true, &[(":status", "204")]);
    let expect = [
        "allows 16384",
        "1: 100",
        "1: 200 text/event-stream",
        "1: data a",
        "3: 200 text/event-stream",
        "3: data b",
        "1: data c",
        "1: trailers grpc-status=0",
        "1: end",
        "3: data d",
        "3: end",
        "goaway 3",
        "5: 204",
        "5: end",
    ];
    check(Parser::responses, &server.bytes, &expect);
}

#[test]
fn padding_and_priority_are_taken_off() {
    let mut client = Writer::client();
    let block = client.block(&[(":method", "GET"), (":path", "/a?key=canary")]);
    let padded = [&[3][..], &[0x80, 0, 0, 0, 16], &block, b"\0\0\0"].concat();
    client.frame(kind::HEADERS, flag::END_HEADERS | flag::PADDED | flag::PRIORITY, 1, &padded);
    client.frame(kind::DATA, flag::PADDED, 1, b"\x02ab\0\0").frame(kind::DATA, flag::PADDED, 1, b"\x00cd");
    client.frame(kind::DATA, flag::PADDED | flag::END_STREAM, 1, b"\x01\0");
    check(Parser::requests, &client.bytes, &["1: GET /a ", "1: data abcd", "1: end"]);
}

#[test]
fn a_block_in_many_frames_is_one_head() {
    let mut client = Writer::client();
    let block = client.block(&[(":method", "POST"), (":authority", "h"), (":path", "/p"), ("user-agent", "curl")]);
    client.frame(kind::HEADERS, flag::END_STREAM, 1, &block[..3]).frame(kind::CONTINUATION, 0, 1, &block[3..4]);
    client.frame(kind::CONTINUATION, 0, 1, b"").frame(kind::CONTINUATION, flag::END_HEADERS, 1, &block[4..]);
    check(Parser::requests, &client.bytes, &["1: POST /p h", "1: end"]);
}

#[test]
fn a_promised_request_fills_the_table_and_is_not_reported() {
    let mut server = Writer::server();
    let block = server.block(&[(":method", "GET"), (":path", "/style.css"), ("server", "x")]);
    server.frame(kind::PUSH_PROMISE, flag::END_HEADERS, 1, &[&[0, 0, 0, 2], &block[..]].concat());
    server.headers(1, true, &[(":status", "200"), ("server", "x")]);
    check(Parser::responses, &server.bytes, &["1: 200 server=x", "1: end"]);
}

#[test]
fn credentials_are_not_given_out() {
    let mut client = Writer::client();
    client.post(1, "/v1/x?api_key=canary").post(3, "/v1/x?api_key=canary").headers(
        5,
        true,
        &[(":method", "CONNECT"), (":authority", "canary:canary@host"), ("cookie", "canary"), ("x-api-key", "canary")],
    );
    let mut events = String::new();
    Parser::requests().push(&client.bytes, &mut |event| events += &format!("{event:?}"));
    assert!(events.contains("/v1/x") && events.contains("host") && !events.contains("canary"), "{events}");
}

#[test]
fn broken_frames_lose_the_connection_until_one_is_found_again() {
    let good = |client: &mut Writer| {
        client.data(1, true, b"{}");
        client.bytes.clone()
    };
    for (kind, flags, stream, payload, reason) in [
        (kind::DATA, 0, 0, &b"x"[..], reason::FRAME),
        (kind::PING, 0, 0, b"short", reason::FRAME),
        (kind::SETTINGS, 0, 0, b"1234567", reason::FRAME),
        (kind::RST_STREAM, 0, 1, b"12345", reason::FRAME),
        (kind::HEADERS, flag::PRIORITY, 1, b"1234", reason::FRAME),
        (kind::DATA, flag::PADDED, 1, b"", reason::FRAME),
    ] {
        let mut client = Writer::client();
        client.frame(kind, flags, stream, payload);
        let bad = std::mem::take(&mut client.bytes);
        let lines = parse(Parser::requests(), &[&bad, &good(&mut client)]);
        let skipped = format!("skipped {}", 9 + payload.len());
        assert_eq!(lines, [&format!("{stream}: malformed: {reason}"), "lost 0", &skipped, "1: data {}", "1: end"]);
    }
    assert_eq!(
        parse(Parser::requests(), &[b"PRI * HTTP/2.0\r\n\r\nXX", &good(&mut Writer::server())]),
        [&format!("0: malformed: {}", reason::PREFACE), "lost 0", "skipped 20", "1: data {}", "1: end"]
    );
}

#[test]
fn a_frame_larger_than_its_receiver_takes_is_no_frame() {
    let mut server = Writer::server();
    server.data(1, false, &[b'x'; 16_385]);
    let mut parser = Parser::responses();
    parser.allow(16_384);
    let lines = parse(parser, &[&server.bytes]);
    assert_eq!(lines, [&format!("1: malformed: {}", reason::FRAME_SIZE), "lost 0", "skipped 16394"]);
    // What is allowed later is taken, and what was not seen to be forbidden too.
    let mut parser = Parser::responses();
    parser.allow(16_384);
    parser.allow(1 << 20);
    assert!(parse(parser, &[&server.bytes])[0].starts_with("1: data x"));
    assert!(parse(Parser::responses(), &[&server.bytes])[0].starts_with("1: data x"));
}

#[test]
fn padding_longer_than_its_frame_is_told_and_costs_one_frame() {
    let mut server = Writer::server();
    server.frame(kind::DATA, flag::PADDED, 1, b"\x09abc").data(1, true, b"d");
    let malformed = format!("1: malformed: {}", reason::PADDING);
    check(Parser::responses, &server.bytes, &[&malformed, "1: data d", "1: end"]);
}

#[test]
fn an_interrupted_block_is_lost_and_so_is_what_it_inserted() {
    let mut client = Writer::client();
    let block = client.block(&[(":method", "POST"), (":path", "/a")]);
    client.frame(kind::HEADERS, 0, 1, &block).data(3, false, b"x").frame(kind::CONTINUATION, flag::END_HEADERS, 1, b"");
    client.post(5, "/a");
    let malformed = format!("1: malformed: {}", reason::INTERRUPTED);
    check(Parser::requests, &client.bytes, &[&malformed, "3: data x", "5: POST  api.example application/json"]);
}

#[test]
fn header_blocks_without_end_are_bounded() {
    // A flood of frames that say nothing, and one of frames that say much (RUSTSEC-2024-0332).
    for piece in [&b""[..], &[0; 16_000]] {
        let mut client = Writer::client();
        client.frame(kind::HEADERS, flag::END_STREAM, 1, b"");
        (0..10_000).for_each(|_| {
            client.frame(kind::CONTINUATION, 0, 1, piece);
        });
        client.frame(kind::CONTINUATION, flag::END_HEADERS, 1, b"").post(3, "/a");
        let mut parser = Parser::requests();
        let (mut lines, mut held) = (Log::default(), 0);
        for bytes in client.bytes.chunks(16_384) {
            parser.push(bytes, &mut |event| lines.add(event));
            held = held.max(parser.held());
        }
        let malformed = format!("1: malformed: {}", reason::BLOCK_SIZE);
        assert_eq!(lines.lines, [malformed, "1: end".into(), "3: POST /a api.example application/json".into()]);
        assert!(held <= 64 * 1024, "{held}");
    }
}

/// A block of 64 KiB that stands for 256 MiB.
#[test]
fn a_compression_bomb_is_not_unpacked() {
    let mut client = Writer::client();
    let mut block = client.block(&[(":method", "POST"), ("user-agent", &"x".repeat(4000))]);
    block.resize(60_000, 0x80 | 62);
    client.frame(kind::HEADERS, flag::END_HEADERS, 1, &block).post(3, PATH);
    let mut parser = Parser::requests();
    parser.allow(1 << 20);
    let mut lines = Log::default();
    parser.push(&client.bytes, &mut |event| lines.add(event));
    let expect = [format!("1: malformed: {}", reason::TOO_MANY_FIELDS), "1: POST  ".into(), format!("3: {POST}")];
    assert_eq!(lines.lines, expect);
}

/// Three calls at once, in both directions, with everything that a connection carries.
fn conversation(is_request: bool) -> Writer {
    let mut writer = if is_request { Writer::client() } else { Writer::server() };
    writer.settings(&[(1, 4096)]).frame(kind::SETTINGS, flag::ACK, 0, b"");
    for (stream, model) in [(1, "one"), (3, "two"), (5, "three")] {
        if is_request {
            writer.post(stream, &format!("/{model}")).data(
                stream,
                false,
                format!("{{\"model\":\"{model}\"").as_bytes(),
            );
        } else {
            let fields = [(":status", "200"), ("content-type", "text/event-stream"), ("server", model)];
            writer.headers(stream, false, &fields).data(stream, false, format!("data: {{{model}").as_bytes());
        }
        writer.frame(kind::WINDOW_UPDATE, 0, 0, &[0, 0, 1, 0]);
    }
    for stream in [3, 1, 5] {
        writer.frame(kind::DATA, flag::PADDED, stream, b"\x03}\n\n\0\0\0").data(stream, true, b"!");
    }
    if is_request {
        writer.post(7, "/one")
    } else {
        writer.headers(7, true, &[(":status", "204"), ("server", "one")])
    };
    writer
}

fn join(is_request: bool) -> Parser {
    Parser::join(is_request)
}

fn whole(is_request: bool) -> Parser {
    if is_request { Parser::requests() } else { Parser::responses() }
}

/// Where frames begin, and the end.
fn borders(writer: &Writer) -> Vec<usize> {
    writer.frames.iter().copied().chain([writer.bytes.len()]).collect()
}

/// The words that a head may have, by stream. What is missing is empty.
fn is_part_of(line: &str, truth: &[String]) -> bool {
    let words = |line: &str| line.split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect::<Vec<_>>();
    let said = words(line);
    if said.len() < 2 || ["gap", "malformed:", "end"].contains(&said[1].as_str()) || !line.contains(": ") {
        return true;
    }
    let of_stream = truth.iter().filter(|truth| words(truth)[0] == said[0]);
    // A status that is not known is 0, and a head of which nothing is known may be anything.
    let is_unknown = |word: &String| word == "0" || word == "trailers" || word == "data";
    let all: Vec<String> = of_stream.flat_map(|line| words(line)).collect();
    match said[1].as_str() {
        "data" => all.concat().contains(&said[2..].concat()),
        _ => said.iter().all(|word| all.contains(word) || is_unknown(word)),
    }
}

#[test]
fn a_connection_is_joined_at_any_frame() {
    for is_request in [true, false] {
        let writer = conversation(is_request);
        let truth = parse(whole(is_request), &[&writer.bytes]);
        let borders = borders(&writer);
        for (n, &at) in borders.iter().enumerate().skip(1).take(borders.len() - 2) {
            // Each frame is a push of its own, or all are one.
            let apart: Vec<&[u8]> = borders[n..].windows(2).map(|pair| &writer.bytes[pair[0]..pair[1]]).collect();
            for pushes in [apart, vec![&writer.bytes[at..]]] {
                let lines = parse(join(is_request), &pushes);
                for line in &lines {
                    assert!(is_part_of(line, &truth), "{line:?} is not in {truth:?}, joined at frame {n}");
                }
                assert!(!lines.iter().any(|line| line.contains("skipped") || line.contains("malformed")), "{lines:?}");
            }
        }
    }
}

#[test]
fn whose_frames_they_are_is_told_by_their_heads_and_events() {
    let (client, server) = (conversation(true), conversation(false));
    let at = |writer: &Writer, n: usize| beginning(&writer.bytes[writer.frames[n]..]);
    for n in 2..client.frames.len() {
        // A body alone does not tell, but the next head does.
        assert_eq!(at(&client, n), Beginning::Requests, "{n}");
    }
    for n in 0..server.frames.len() {
        assert_eq!(at(&server, n), Beginning::Responses, "{n}");
    }
    let mut body = Writer::server();
    body.data(1, false, b"{\"a\":1}");
    assert_eq!(beginning(&body.bytes), Beginning::Frames);
    body.data(1, false, b"data: {\"a\":1}\n\n");
    assert_eq!(beginning(&body.bytes), Beginning::Responses);
    assert_eq!(beginning(b"POST / HTTP/1.1\r\n\r\n"), Beginning::Other);
}

/// Every place and length of a gap: no head has a wrong value, no byte of a body is under a wrong stream, and what
/// follows is found again.
#[test]
fn a_gap_anywhere_gives_nothing_wrong() {
    for is_request in [true, false] {
        let writer = conversation(is_request);
        let truth = parse(whole(is_request), &[&writer.bytes]);
        let (bytes, borders) = (&writer.bytes, borders(&writer));
        for at in 0..bytes.len() {
            for missing in [1, 2, 5, 9, 13, 30, 80] {
                let Some(rest) = bytes.get(at + missing..) else { continue };
                let mut log = Log::default();
                let mut parser = whole(is_request);
                parser.push(&bytes[..at], &mut |event| log.add(event));
                parser.gap(missing as u64, &mut |event| log.add(event));
                // The next push begins anywhere, those behind it at frames.
                let next = borders.iter().copied().find(|&border| border > at + missing).unwrap_or(bytes.len());
                let first = next - at - missing;
                let mut pushes = vec![&rest[..first]];
                let after: Vec<usize> = borders.iter().copied().filter(|&border| border >= next).collect();
                pushes.extend(after.windows(2).map(|pair| &bytes[pair[0]..pair[1]]));
                pushes.iter().for_each(|bytes| parser.push(bytes, &mut |event| log.add(event)));
                for line in &log.lines {
                    assert!(is_part_of(line, &truth), "{line:?} is not in {truth:?}: {missing} missing at {at}");
                }
                let found = log.lines.last().is_some_and(|line| line.starts_with("7: "));
                assert!(found || next >= borders[borders.len() - 2], "{:?}: {missing} missing at {at}", log.lines);
            }
        }
    }
}

#[test]
fn a_connection_that_is_cut_at_any_byte_gives_what_had_come() {
    for is_request in [true, false] {
        let writer = conversation(is_request);
        let truth = parse(whole(is_request), &[&writer.bytes]);
        for at in 0..writer.bytes.len() {
            let lines = parse(whole(is_request), &[&writer.bytes[..at]]);
            let (last, before) = lines.split_last().map_or(("", &[][..]), |(last, before)| (last, before));
            assert_eq!(before, &truth[..before.len()], "cut at {at}");
            assert!(truth.get(before.len()).is_none_or(|line| line.starts_with(last)), "{last:?}, cut at {at}");
        }
    }
}

#[test]
fn a_gap_inside_a_body_costs_that_body_only() {
    let mut server = Writer::server();
    server.ok(1).data(1, false, b"data: one\n\n").ok(3).data(1, true, b"data: two\n\n");
    let body = server.frames[1] + 9;
    let mut log = Log::default();
    let mut parser = Parser::responses();
    parser.push(&server.bytes[..body + 2], &mut |event| log.add(event));
    parser.gap(9, &mut |event| log.add(event));
    parser.push(&server.bytes[body + 11..], &mut |event| log.add(event));
    let expect = [
        "1: 200 text/event-stream",
        "1: data da",
        "1: gap 9",
        "3: 200 text/event-stream",
        "1: data data: two\n\n",
        "1: end",
    ];
    assert_eq!(log.lines, expect);
}

#[test]
fn a_large_frame_that_was_joined_in_its_middle_is_passed_over() {
    let mut server = Writer::server();
    server.data(1, false, &[b'x'; 40_000]).ok(3);
    // Its header was missed, or it begins the first push.
    for from in [5, 0] {
        let pushes: Vec<&[u8]> =
            [&server.bytes[from..16_384], &server.bytes[16_384..32_768], &server.bytes[32_768..40_009]]
                .into_iter()
                .chain([&server.bytes[40_009..]])
                .collect();
        let lines = parse(Parser::join(false), &pushes);
        assert_eq!(lines, [&format!("skipped {}", 40_009 - from), "3: 200 text/event-stream"]);
    }
    // The next frame in the push in which it ends.
    let lines = parse(Parser::join(false), &[&server.bytes[..16_384], &server.bytes[16_384..]]);
    assert_eq!(lines, ["skipped 40009", "3: 200 text/event-stream"]);
}

/// As Go's server reads.
#[test]
fn a_header_and_its_payload_are_joined_when_they_come_apart() {
    let mut client = Writer::client();
    client.post(1, "/a").data(1, true, b"{\"a\":1}");
    let (head, body) = (client.frames[0], client.frames[1]);
    let bytes = &client.bytes;
    let pushes = [&bytes[head..head + 9], &bytes[head + 9..body], &bytes[body..body + 9], &bytes[body + 9..]];
    let expect = ["1: POST /a api.example application/json", "1: data {\"a\":1}", "1: end"];
    assert_eq!(parse(Parser::join(true), &pushes), expect);
    assert_eq!(parse(Parser::join(true), &[pushes[0], &pushes[1][1..], &bytes[body..]])[1..], expect[1..]);
    assert_eq!(parse(Parser::join(true), &[pushes[0], pushes[2], pushes[3]])[1..], expect[1..]);
    assert_eq!(parse(Parser::join(true), &pushes[..1]), ["skipped 9"]);
}

#[test]
fn a_preface_behind_what_was_skipped_begins_the_requests() {
    let mut client = Writer::client();
    client.settings(&[]).post(1, "/a");
    let lines = parse(Parser::join(true), &[b"GET / HTTP/1.1\r\n\r\n", &client.bytes]);
    assert_eq!(lines, ["skipped 18", "allows 16384", "1: POST /a api.example application/json"]);
}

proptest! {
    /// What holds for every cut of one conversation holds for cuts at random of any bytes behind a preface.
    #[test]
    fn any_bytes_are_bounded_and_cut_as_one_likes(
        frames in prop::collection::vec((0u8..11, any::<u8>(), 0u32..6, prop::collection::vec(any::<u8>(), 0..40)), 0..12),
        cuts in prop::collection::vec(1usize..30, 1..40),
    ) {
        let mut client = Writer::client();
        for (kind, flags, stream, payload) in &frames {
            client.frame(*kind, *flags, *stream, payload);
        }
        let whole = parse(Parser::requests(), &[&client.bytes]);
        // Once frames are not found where they should be, the cuts matter.
        let upto = |lines: &[String]| {
            let at = lines.iter().position(|line| line.starts_with("lost")).unwrap_or(lines.len());
            lines[..at].to_vec()
        };
        let (mut pushes, mut rest) = (Vec::new(), &client.bytes[..]);
        for cut in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (push, next) = rest.split_at(rest.len().min(*cut));
            pushes.push(push);
            rest = next;
        }
        prop_assert_eq!(upto(&parse(Parser::requests(), &pushes)), upto(&whole));
    }

    /// A parser that joins takes any bytes.
    #[test]
    fn any_bytes_can_be_joined(pushes in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..20)) {
        let mut bytes = BTreeMap::<&str, u64>::new();
        for is_request in [true, false] {
            let mut parser = Parser::join(is_request);
            pushes.iter().for_each(|push| parser.push(push, &mut |event| {
                if let Event::Data { bytes: data, .. } = event {
                    *bytes.entry("data").or_default() += data.len() as u64;
                }
            }));
        }
        let offered: usize = pushes.iter().map(Vec::len).sum();
        prop_assert!(bytes.values().sum::<u64>() <= 2 * offered as u64);
    }
}

#[test]
fn a_block_does_not_wait_for_its_padding_in_any_pieces() {
    let mut server = Writer::server();
    let block = server.block(&[(":status", "200")]);
    server.frame(kind::HEADERS, flag::END_HEADERS | flag::PADDED, 1, &[&[9], &block[..], &[0; 9]].concat());
    let cut = &server.bytes[..server.bytes.len() - 1];
    for size in [1, 3, cut.len()] {
        assert_eq!(
            parse(Parser::responses(), &cut.chunks(size).collect::<Vec<_>>()),
            ["1: 200"],
            "in pieces of {size}"
        );
    }
}
