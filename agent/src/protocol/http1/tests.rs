use proptest::prelude::*;

use super::*;
use crate::protocol::head::{Headers, RequestHead, ResponseHead};

/// What a stream gave, in a form that outlives the push. Neighbouring pieces of a body are one. Checks on the way
/// that events come in an order that makes sense.
#[derive(Default)]
struct Log {
    lines: Vec<String>,
    open: bool,
}

impl Log {
    fn add(&mut self, event: Event<'_>) {
        let (before, after) = match &event {
            Event::Request(_) => (false, true),
            Event::Response(head) => (false, !head.is_interim()),
            Event::Joined => (false, true),
            Event::Body(_) | Event::BodyGap(_) => (true, true),
            Event::End(_) => (true, false),
            Event::Skipped(_) | Event::Tunnel | Event::Http2 | Event::Beyond(_) => (false, false),
            Event::Malformed(_) => (self.open, self.open),
        };
        assert_eq!(std::mem::replace(&mut self.open, after), before, "{event:?} after {:?}", self.lines);
        let line = match event {
            Event::Request(RequestHead { method, path, .. }) => format!("{method} {path}"),
            Event::Response(head) => format!("{}{}", head.status, if head.is_interim() { " interim" } else { "" }),
            Event::Joined => "joined".into(),
            Event::Body(data) => {
                assert!(!data.is_empty());
                let data = String::from_utf8_lossy(data);
                match self.lines.last_mut() {
                    Some(last) if last.starts_with("body ") => {
                        *last += &data;
                        return;
                    }
                    _ => format!("body {data}"),
                }
            }
            Event::BodyGap(bytes) => format!("gap {bytes}"),
            Event::End(end) => format!("{end:?}"),
            Event::Malformed(reason) => format!("malformed: {reason}"),
            Event::Skipped(bytes) => format!("skipped {bytes}"),
            Event::Tunnel => "tunnel".into(),
            Event::Http2 => "http2".into(),
            Event::Beyond(bytes) => match self.lines.last_mut() {
                Some(last) if last.starts_with("beyond ") => {
                    *last += &String::from_utf8_lossy(bytes);
                    return;
                }
                _ => format!("beyond {}", String::from_utf8_lossy(bytes)),
            },
        };
        self.lines.push(line);
    }
}

fn parse(mut parser: Parser, pushes: &[&[u8]]) -> Vec<String> {
    let mut log = Log::default();
    for bytes in pushes {
        parser.push(bytes, &mut |event| log.add(event));
    }
    parser.close(&mut |event| log.add(event));
    assert!(!log.open);
    log.lines
}

#[test]
fn an_event_stream_is_joined_at_an_event() {
    let parse = |pushes: &[&str]| parse(Parser::responses(), &pushes.iter().map(|p| p.as_bytes()).collect::<Vec<_>>());
    let next = "HTTP/1.1 204 No Content\r\n\r\n";
    // What came before is passed over.
    assert_eq!(
        parse(&["\"x\"}\n\n\r\n", "9\r\ndata: {}\n\r\n", "3\r\nabc\r\n0\r\n\r\n", next]),
        ["skipped 8", "joined", "body data: {}\nabc", "Complete", "204", "Complete"]
    );
    // The size in a push of its own.
    assert_eq!(
        parse(&["9\r\n", "data: {}\n", "\r\n", "0\r\n\r\n", next]),
        ["joined", "body data: {}\n", "Complete", "204", "Complete"]
    );
    // Joined inside a chunk: the next one shows the framing, or the last.
    assert_eq!(
        parse(&["data: {}\n", "\r\n9\r\ndata: []\n\r\n", "0\r\n\r\n", next]),
        ["joined", "body data: {}\ndata: []\n", "Complete", "204", "Complete"]
    );
    assert_eq!(parse(&["data: {}\n", "0\r\n\r\n", next]), ["joined", "body data: {}\n", "Complete", "204", "Complete"]);
    assert_eq!(parse(&["data: {}\n", "data: []\n"]), ["joined", "body data: {}\ndata: []\n", "Cut"]);
    // Nothing of it is left, and no model speaks so.
    assert_eq!(parse(&["0\r\n\r\n", next]), ["skipped 5", "204", "Complete"]);
    assert_eq!(parse(&["9\r\n", "abcdefghi\r\n", next]), ["skipped 14", "204", "Complete"]);
    assert_eq!(parse(&["data: hello\n", next]), ["skipped 12", "204", "Complete"]);
}

#[test]
fn only_what_was_never_seen_is_joined() {
    let known = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".as_slice();
    let lines = parse(Parser::responses(), &[known, b"data: {}\n"]);
    assert_eq!(lines, ["200", "Complete", "malformed: no message start", "skipped 9"]);
    assert_eq!(parse(Parser::requests(), &[b"data: {}\n"]), ["skipped 9"]);
}

#[test]
fn a_joined_body_is_left_when_the_other_direction_goes_on() {
    let mut log = Log::default();
    let mut parser = Parser::responses();
    assert!(!parser.leave_joined());
    parser.push(b"data: {}\n", &mut |event| log.add(event));
    assert!(parser.leave_joined());
    log.open = false;
    parser.push(b"HTTP/1.1 204 No Content\r\n\r\n", &mut |event| log.add(event));
    assert_eq!(log.lines, ["joined", "body data: {}\n", "204", "Complete"]);
}

fn responses(expected: &[&str]) -> Parser {
    let mut parser = Parser::responses();
    for method in expected {
        parser.expect(method);
    }
    parser
}

/// Checks the events of `input` whole, byte by byte and split in two everywhere.
fn check(parser: impl Fn() -> Parser, input: &str, expect: &[&str]) {
    let input = input.as_bytes();
    assert_eq!(parse(parser(), &[input]), expect, "{:?}", String::from_utf8_lossy(input));
    assert_eq!(parse(parser(), &input.chunks(1).collect::<Vec<_>>()), expect, "byte by byte");
    for at in 0..input.len() {
        assert_eq!(parse(parser(), &[&input[..at], &input[at..]]), expect, "split at {at}");
    }
}

fn request_head(input: &str) -> RequestHead {
    let mut found = None;
    Parser::requests().push(input.as_bytes(), &mut |event| {
        if let Event::Request(head) = event {
            found = Some(head);
        }
    });
    found.expect("a request")
}

fn response_head(input: &str) -> ResponseHead {
    let mut found = None;
    Parser::responses().push(input.as_bytes(), &mut |event| {
        if let Event::Response(head) = event {
            found = Some(head);
        }
    });
    found.expect("a response")
}

/// Well-formed streams of the client's direction.
const REQUESTS: &[(&str, &[&str])] = &[
    ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", &["GET /", "Complete"]),
    ("POST /v1/x?key=1 HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello", &["POST /v1/x", "body hello", "Complete"]),
    (
        "POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3;x=\"y\"\r\nabc\r\nA \r\n0123456789\r\n00\r\nT: u\r\nV: w\r\n\r\nGET /b HTTP/1.1\r\n\r\n",
        &["POST /a", "body abc0123456789", "Complete", "GET /b", "Complete"],
    ),
    (
        "\r\n\nPOST /a HTTP/1.1\r\nContent-Length: 1\r\n\r\nxGET /b HTTP/1.1\r\n\r\n\r\nPURGE /c HTTP/1.0\n\n",
        &["POST /a", "body x", "Complete", "GET /b", "Complete", "PURGE /c", "Complete"],
    ),
    ("POST /a HTTP/1.1\r\nContent-Length: 2, 2\r\nContent-Length: 2\r\n\r\nhi", &["POST /a", "body hi", "Complete"]),
    (
        "POST /a HTTP/1.1\r\nContent-Length: 999\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
        &["POST /a", "body x", "Complete"],
    ),
    ("OPTIONS * HTTP/1.1\r\n\r\nCONNECT h:443 HTTP/1.1\r\n\r\n", &["OPTIONS *", "Complete", "CONNECT ", "Complete"]),
];

/// Well-formed streams of the server's direction, with the methods that they answer.
const RESPONSES: &[(&[&str], &str, &[&str])] = &[
    (&[], "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", &["200", "body ok", "Complete"]),
    (&[], "HTTP/1.0 200 OK\r\n\r\nto the end", &["200", "body to the end", "Closed"]),
    (&[], "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nzz", &["200", "body zz", "Closed"]),
    (
        &["HEAD", "GET"],
        "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nHTTP/1.1 204\r\n\r\nHTTP/1.1 304 NM\r\nContent-Length: 7\r\n\r\n",
        &["200", "Complete", "204", "Complete", "304", "Complete"],
    ),
    (
        &["HEAD"],
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n",
        &["100 interim", "103 interim", "200", "Complete"],
    ),
    (
        &["GET"],
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
        &["101", "Complete", "tunnel", "beyond HTTP/1.1 200 OK\r\n\r\n"],
    ),
    (
        &["CONNECT"],
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n\x16\x03\x01",
        &["200", "Complete", "tunnel", "beyond \x16\x03\x01"],
    ),
    (
        &["CONNECT", "GET"],
        "HTTP/1.1 407 No\r\nContent-Length: 1\r\n\r\nxHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\ny",
        &["407", "body x", "Complete", "200", "body y", "Complete"],
    ),
    (
        &[],
        "HTTP/1.1 200 OK\nTransfer-Encoding: Chunked\n\n5\ndata:\n1\n \n0\n\nHTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n",
        &["200", "body data: ", "Complete", "500", "Complete"],
    ),
];

#[test]
fn messages_are_framed_in_any_pieces() {
    for (input, expect) in REQUESTS {
        check(Parser::requests, input, expect);
    }
    for (methods, input, expect) in RESPONSES {
        check(|| responses(methods), input, expect);
    }
}

#[test]
fn a_message_cut_short_is_told_from_one_that_ends_with_the_connection() {
    let cut = |parser: &dyn Fn() -> Parser, input: &str, whole: &[&str]| {
        for at in 0..input.len() {
            let got = parse(parser(), &[&input.as_bytes()[..at]]);
            let last = got.last().map_or("", String::as_str);
            let fits = match last {
                "" | "Cut" | "Complete" | "tunnel" => true,
                "Closed" => whole.contains(&"Closed"),
                _ => ["skipped", "beyond"].iter().any(|word| last.starts_with(word)) || last.ends_with("interim"),
            };
            assert!(fits, "cut at {at}: {got:?}");
        }
    };
    for (input, expect) in REQUESTS {
        cut(&Parser::requests, input, expect);
    }
    for (methods, input, expect) in RESPONSES {
        cut(&|| responses(methods), input, expect);
    }
    check(Parser::requests, "POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhel", &["POST /", "body hel", "Cut"]);
    check(Parser::responses, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", &["200", "Cut"]);
    check(Parser::requests, "POST / HTTP/1.1\r\nContent-Le", &["skipped 27"]);
    check(Parser::requests, "POS", &["skipped 3"]);
}

#[test]
fn heads_say_what_the_allow_list_lets_out() {
    let head = request_head(
        "POST /v1/chat/completions?api-version=1#x HTTP/1.1\r\nhost: api.example:8443\r\nContent-Type: Application/JSON; charset=utf-8\r\n\
         Content-Length: 10\r\nContent-Encoding: GZip, identity\r\nTraceparent: 00-aa-bb-01\r\nrequest-id: r1\r\nX-Request-Id: r2\r\n\
         X-Stainless-Retry-Count: 2\r\nUser-Agent: agent/1 \r\nExpect: 100-Continue\r\nConnection: keep-alive, Close\r\nUpgrade: WebSocket\r\n\r\n",
    );
    let some = |text: &str| Some(text.to_string());
    assert_eq!(
        head,
        RequestHead {
            method: "POST".into(),
            path: "/v1/chat/completions".into(),
            host: some("api.example:8443"),
            keep_alive: false,
            expect_continue: true,
            upgrade: some("websocket"),
            model: None,
            headers: Headers {
                content_type: some("application/json"),
                content_encoding: some("gzip"),
                content_length: Some(10),
                chunked: false,
                traceparent: some("00-aa-bb-01"),
                request_id: some("r1"),
                retry_count: Some(2),
                user_agent: some("agent/1"),
                accepts_both: false,
                signals: Vec::new(),
            },
        }
    );
    let bare = request_head(
        "GET / HTTP/1.1\r\nContent-Encoding: identity\r\nContent-Type: ;\r\nX-Stainless-Retry-Count: x\r\n\r\n",
    );
    assert_eq!((bare.headers, bare.host, bare.keep_alive), (Headers::default(), None, true));
    let chunked = response_head("HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: gzip, chunked\r\n\r\n");
    assert_eq!((chunked.headers.chunked, chunked.headers.content_length), (true, None));
}

#[test]
fn a_handshake_says_what_was_agreed_on() {
    let asked = request_head(
        "GET /v1/realtime?key=canary&model=m%201 HTTP/1.1\r\nUpgrade: websocket\r\nSec-WebSocket-Protocol: canary\r\n\r\n",
    );
    assert_eq!((asked.model.as_deref(), asked.path.as_str()), (Some("m%201"), "/v1/realtime"));
    assert!(!format!("{asked:?}").contains("canary"));
    let agreed = response_head(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: WebSocket\r\nSec-WebSocket-Extensions: a\r\nsec-websocket-extensions: b; c=1\r\n\r\n",
    );
    assert_eq!((agreed.upgrade.as_deref(), agreed.extensions.as_deref()), (Some("websocket"), Some("a, b; c=1")));
}

#[test]
fn persistence_follows_version_and_connection_header() {
    for (version, connection, keep) in
        [("1.1", "x", true), ("1.0", "x", false), ("1.0", "Keep-Alive", true), ("1.1", "close", false)]
    {
        let text = format!("HTTP/{version} 200 OK\r\nConnection: {connection}\r\n\r\n");
        assert_eq!(response_head(&text).keep_alive, keep, "{text}");
    }
}

#[test]
fn targets_are_reduced_to_path_and_host() {
    for (target, path, host) in [
        ("GET /a/b?k=v", "/a/b", Some("h")),
        ("GET /?u=http://x/y", "/", Some("h")),
        ("GET http://user:pw@other:1/a?k", "/a", Some("other:1")),
        ("GET http://other?k", "/", Some("other")),
        ("CONNECT other:443", "", Some("other:443")),
        ("OPTIONS *", "*", Some("h")),
    ] {
        let head = request_head(&format!("{target} HTTP/1.1\r\nHost: h\r\n\r\n"));
        assert_eq!((head.path.as_str(), head.host.as_deref()), (path, host), "{target}");
    }
    let long = request_head(&format!("GET /{} HTTP/1.1\r\nUser-Agent: {0}\r\n\r\n", "é".repeat(2000)));
    assert!(long.path.len() <= 1024 && long.headers.user_agent.is_some_and(|agent| agent.len() <= 256));
}

#[test]
fn credentials_never_leave_the_head() {
    let lines = [
        "Authorization: Bearer CANARY",
        "Proxy-Authorization: Basic CANARY",
        "Cookie: session=CANARY",
        "Set-Cookie: session=CANARY",
        "x-api-key: CANARY",
        "api-key: CANARY",
        "x-goog-api-key: CANARY",
        "X-Amz-Security-Token: CANARY",
        "Ocp-Apim-Subscription-Key: CANARY",
        "Sec-WebSocket-Protocol: openai-insecure-api-key.CANARY",
        "Referer: https://CANARY@h/",
        "Host: user:CANARY@h",
        "Content-Type: text/plain; key=CANARY",
        "X-Broken : CANARY",
        "CANARY",
    ]
    .join("\r\n");
    let inputs = [
        format!("POST http://u:CANARY@h/x?key=CANARY HTTP/1.1\r\n{lines}\r\nContent-Length: 2\r\n\r\nhi"),
        format!(
            "POST /x?key=CANARY#CANARY HTTP/1.1\r\n{lines}\r\nTransfer-Encoding: chunked\r\n\r\n2;CANARY\r\nhi\r\n0\r\nAuthorization: CANARY\r\n\r\n"
        ),
        format!("CONNECT u:CANARY@h:1 HTTP/1.1\r\n{lines}\r\n\r\n"),
        format!("HTTP/1.1 200 CANARY\r\n{lines}\r\nContent-Length: 2\r\n\r\nhi"),
        format!("HTTP/1.1 101 CANARY\r\n{lines}\r\n\r\n"),
        format!("POST /x HTTP/1.1\r\n{lines}\r\nContent-Length: CANARY\r\n\r\n"),
        format!("POST /x HTTP/1.1\r\n{lines}"),
        format!("POST /x HTTP/9 CANARY\r\n{lines}\r\n\r\n"),
    ];
    for input in &inputs {
        let mut heads = 0;
        for size in [1, 7, input.len()] {
            for mut parser in [Parser::requests(), Parser::responses()] {
                let mut sink = |event: Event<'_>| {
                    heads += usize::from(matches!(event, Event::Request(_) | Event::Response(_)));
                    let told = format!("{event:?}");
                    assert!(!told.contains("CANARY"), "{told}");
                };
                for piece in input.as_bytes().chunks(size) {
                    parser.push(piece, &mut sink);
                }
                parser.gap(1, &mut sink);
                parser.close(&mut sink);
            }
        }
        let broken =
            !input.ends_with("\n\r\n") && !input.ends_with("hi") || input.contains("Length: C") || input.contains("/9");
        assert_eq!(heads, if broken { 0 } else { 3 }, "{input}");
    }
}

#[test]
fn faults_are_named() {
    let requests = |input: &str, expect: &[&str]| {
        assert_eq!(parse(Parser::requests(), &[input.as_bytes()]), expect, "{input:?}");
    };
    for (head, reason) in [
        ("POST / HTTP/1.1\r\nContent-Length: 1, 2", "bad content-length"),
        ("POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2", "bad content-length"),
        ("POST / HTTP/1.1\r\nContent-Length: +1", "bad content-length"),
        ("POST / HTTP/1.1\r\nContent-Length: 18446744073709551616", "bad content-length"),
        ("POST / HTTP/1.1\r\nContent-Length:", "bad content-length"),
        ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked, gzip", "bad transfer-encoding"),
        ("GET / HTTP/3.0", "bad version"),
        ("GET /", "bad head"),
        (&format!("GET / HTTP/1.1{}", "\r\na: b".repeat(129)), "too many headers"),
    ] {
        requests(
            &format!("{head}\r\n\r\nrest"),
            &[&format!("malformed: {reason}"), &format!("skipped {}", head.len() + 8)],
        );
    }
    requests("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nx", &["http2", "beyond PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nx"]);
    requests("GET / HTTP/1.1\r\n\r\n\x16\x03", &["GET /", "Complete", "malformed: no message start", "skipped 2"]);
    let chunked = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (body, reason) in [
        ("x\r\n", "bad chunk size"),
        ("\r\n", "bad chunk size"),
        ("10000000000000000\r\n", "bad chunk size"),
        ("1x\r\n", "bad chunk size"),
        (&format!("1;{}", "x".repeat(5000)), "chunk line too long"),
        (&format!("0\r\na: {}", "x".repeat(20_000)), "trailers too large"),
    ] {
        let got = parse(Parser::requests(), &[chunked.as_bytes(), body.as_bytes()]);
        assert_eq!(got[..3], ["POST /", &format!("malformed: {reason}"), "Lost"], "{body:.20}");
    }
    requests(&format!("{chunked}1\r\nab\r\n"), &["POST /", "body a", "malformed: bad chunk end", "Lost", "skipped 3"]);
}

#[test]
fn a_head_has_a_limit_however_it_comes() {
    let head = |n: usize| format!("GET / HTTP/1.1\r\na: {}\r\n\r\n", "x".repeat(n - 23));
    for size in [1000, 1 << 20] {
        for (n, expect) in [(64 * 1024, "GET /"), (64 * 1024 + 1, "malformed: head too large")] {
            let got = parse(Parser::requests(), &head(n).as_bytes().chunks(size).collect::<Vec<_>>());
            assert_eq!(got[0], expect);
        }
    }
    let endless = vec![b'x'; 1 << 20];
    let got = parse(Parser::requests(), &[b"GET /", &endless, b"GET / HTTP/1.1\r\n\r\n"]);
    assert_eq!(got, ["malformed: head too large", "skipped 1048581", "GET /", "Complete"]);
}

#[test]
fn a_parser_that_joined_late_finds_the_next_message_at_the_start_of_a_push() {
    let got = parse(
        Parser::requests(),
        &[b"tail of a body", b"P", b"POST /a HTTP/1.1\r\n", b"\r\n", b"GET", b" /b HTTP/1.1\r\n\r\n"],
    );
    assert_eq!(got, ["skipped 15", "POST /a", "Complete", "GET /b", "Complete"]);
    let got = parse(Parser::responses(), &[b"data: x\n\nHTTP/1.1 200", b"HT", b"TP/1.1 204 No\r\n\r\n"]);
    assert_eq!(got, ["skipped 21", "204", "Complete"]);
    // After a fault the rest of its push is passed over, whatever it looks like.
    let got = parse(Parser::requests(), &[b"GET x HTTP/9\r\n\r\nGET / HTTP/1.1\r\n\r\n", b"GET /b HTTP/1.1\r\n\r\n"]);
    assert_eq!(got, ["skipped 34", "GET /b", "Complete"]);
    let got = parse(Parser::requests(), &[b"GET / HTTP/9\r\n\r\nGET / HTTP/1.1\r\n\r\n", b"GET /b HTTP/1.1\r\n\r\n"]);
    assert_eq!(got, ["malformed: bad version", "skipped 34", "GET /b", "Complete"]);
}

#[test]
fn a_gap_is_survived_where_the_framing_is_known() {
    let gap = |before: &str, len: u64, after: &str, expect: &[&str]| {
        let (mut parser, mut log) = (responses(&["GET", "HEAD"]), Log::default());
        parser.push(before.as_bytes(), &mut |event| log.add(event));
        parser.gap(len, &mut |event| log.add(event));
        parser.push(after.as_bytes(), &mut |event| log.add(event));
        parser.close(&mut |event| log.add(event));
        assert_eq!(log.lines, expect, "{before:?} gap {len} {after:?}");
    };
    let next = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n";
    let sized = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\na";
    gap(sized, 2, "d", &["200", "body a", "gap 2", "body d", "Complete"]);
    gap(sized, 3, next, &["200", "body a", "gap 3", "Complete", "200", "Complete"]);
    gap(sized, 4, next, &["200", "body a", "Lost", "200", "Complete"]);
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\na";
    gap(chunked, 2, "d\r\n0\r\n\r\n", &["200", "body a", "gap 2", "body d", "Complete"]);
    gap(chunked, 3, "\r\n0\r\n\r\n", &["200", "body a", "gap 3", "Complete"]);
    gap(chunked, 4, "\n0\r\n\r\n", &["200", "body a", "Lost", "skipped 6"]);
    gap(&format!("{chunked}bcd\r\n"), 1, next, &["200", "body abcd", "Lost", "200", "Complete"]);
    gap("HTTP/1.0 200 OK\r\n\r\na", 9, "b", &["200", "body a", "gap 9", "body b", "Closed"]);
    gap("HTTP/1.1 200", 9, next, &["skipped 12", "200", "Complete"]);
    gap("HTTP/1.1 204 N\r\n\r\n", 9, "x", &["204", "Complete", "skipped 1"]);
    gap(sized, 0, "bcd", &["200", "body abcd", "Complete"]);
}

#[test]
fn a_tunnel_is_told_to_the_other_direction() {
    let (mut parser, mut log) = (Parser::requests(), Log::default());
    parser.push(b"CONNECT h:1 HTTP/1.1\r\n\r\n", &mut |event| log.add(event));
    parser.tunnel(&mut |event| log.add(event));
    parser.push(b"GET / HTTP/1.1\r\n\r\n", &mut |event| log.add(event));
    parser.gap(3, &mut |event| log.add(event));
    parser.close(&mut |event| log.add(event));
    assert_eq!(log.lines, ["CONNECT ", "Complete", "beyond GET / HTTP/1.1\r\n\r\n"]);
    // The parser is good for another connection.
    parser.push(b"GET / HTTP/1.1\r\n\r\n", &mut |event| log.add(event));
    assert_eq!(log.lines[3..], ["GET /", "Complete"]);
}

#[test]
fn the_queue_of_methods_is_bounded_and_keeps_the_latest() {
    let mut parser = Parser::responses();
    (0..1000).for_each(|_| parser.expect("HEAD"));
    let stream =
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n".repeat(64) + "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx";
    let got = parse(parser, &[stream.as_bytes()]);
    assert_eq!((got.len(), got[129].as_str()), (131, "body x"));
}

/// A stream of well-formed messages that begins at a message start.
fn requests() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(REQUESTS), 1..5)
        .prop_map(|parts| parts.iter().map(|(input, _)| *input).collect())
}

fn cut_up<'b>(bytes: &'b [u8], cuts: &[prop::sample::Index]) -> Vec<&'b [u8]> {
    let mut ends: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
    ends.push(bytes.len());
    ends.sort_unstable();
    let mut start = 0;
    ends.into_iter().map(|end| &bytes[std::mem::replace(&mut start, end)..end]).collect()
}

proptest! {
    #[test]
    fn any_chunking_gives_the_same(stream in requests(), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12)) {
        let whole = parse(Parser::requests(), &[stream.as_bytes()]);
        prop_assert_eq!(parse(Parser::requests(), &cut_up(stream.as_bytes(), &cuts)), whole);
    }

    #[test]
    fn noise_never_panics_and_every_message_ends(
        pieces in prop::collection::vec(
            prop_oneof![
                prop::collection::vec(any::<u8>(), 0..40),
                prop::sample::select(REQUESTS).prop_map(|(input, _)| input.as_bytes().to_vec()),
                prop::sample::select(RESPONSES).prop_map(|(_, input, _)| input.as_bytes().to_vec()),
                "(GET|POST|HTTP/1.1|\r\n|0|5|Content-Length: 5| |/|chunked|:){0,6}".prop_map(String::into_bytes),
            ],
            0..12,
        ),
        gaps in prop::collection::vec(0u64..20, 12),
        requests: bool,
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
    ) {
        let (mut parser, mut log) = (if requests { Parser::requests() } else { responses(&["GET", "HEAD", "CONNECT"]) }, Log::default());
        for (mut piece, gap) in pieces.into_iter().zip(gaps) {
            for (at, byte) in &flips {
                if !piece.is_empty() {
                    let at = at.index(piece.len());
                    piece[at] = *byte;
                }
            }
            parser.push(&piece, &mut |event| log.add(event));
            parser.gap(gap.saturating_sub(8), &mut |event| log.add(event));
        }
        parser.close(&mut |event| log.add(event));
        prop_assert!(!log.open);
    }

    #[test]
    fn a_body_with_gaps_adds_up_to_its_length(
        parts in prop::collection::vec((any::<bool>(), 1usize..50), 0..20),
        chunked: bool,
    ) {
        let length: usize = parts.iter().map(|part| part.1).sum();
        let mut parser = Parser::requests();
        let (mut sum, mut ends) = (0, Vec::new());
        let mut sink = |event: Event<'_>| match event {
            Event::Body(data) => sum += data.len() as u64,
            Event::BodyGap(bytes) => sum += bytes,
            Event::End(end) => ends.push(end),
            Event::Request(_) => {}
            other => panic!("{other:?}"),
        };
        let framing = if chunked { "Transfer-Encoding: chunked".into() } else { format!("Content-Length: {length}") };
        parser.push(format!("POST / HTTP/1.1\r\n{framing}\r\n\r\n").as_bytes(), &mut sink);
        if chunked && length > 0 {
            parser.push(format!("{length:x}\r\n").as_bytes(), &mut sink);
        }
        for &(missing, bytes) in &parts {
            if missing {
                parser.gap(bytes as u64, &mut sink);
            } else {
                parser.push(&vec![b'x'; bytes], &mut sink);
            }
        }
        if chunked {
            parser.push(if length > 0 { b"\r\n0\r\n\r\n" } else { b"0\r\n\r\n" }, &mut sink);
        }
        // Still in sync.
        parser.push(b"GET / HTTP/1.1\r\n\r\n", &mut sink);
        prop_assert_eq!(sum, length as u64);
        prop_assert_eq!(ends, [End::Complete, End::Complete]);
    }
}
