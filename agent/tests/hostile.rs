//! What an adversary may put on a connection, through the whole pipeline: memory stays within a bound, no time is spent
//! out of proportion, what happened is marked, and the calls of other connections are exact.

use std::time::Instant;

use flate2::{Compress, Compression, FlushCompress};
use inferscope::{
    call::{Capture, Completion, FinishedCall, NoteKind, Side},
    record::Direction,
    selfstat::PipelineStats,
};
use inferscope_testing::{
    Coding, End, Host,
    alloc::{self, Counting},
    calls::{Call, Transport, bodies},
    wire::{
        event_stream,
        http1::{self, Framing},
        http2::{self, kind},
        websocket,
    },
};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const MIB: usize = 1 << 20;

/// How much most attacks send.
const SIZE: usize = 10 * MIB;

/// Most memory that one connection may take beyond what it took before: the larger of one event and the window of one
/// coding (16 MiB for br), and half as much again.
const MAX_PEAK: usize = 24 * MIB;

/// Most memory of an attack that is neither coded nor one large event.
const MAX_PLAIN: usize = 2 * MIB;

/// Bytes allocated for each byte that came, at most, given back or not: what is done for a byte does not grow with what came
/// before it.
const MAX_WORK: u64 = 64;

/// What is allocated whatever came.
const FREE_WORK: u64 = 64 << 20;

/// Calls that are kept to be looked at.
const MAX_KEPT: usize = 64;

/// Bytes that one end writes, so many times.
struct Step {
    by_client: bool,
    bytes: Vec<u8>,
    times: usize,
}

fn client(bytes: impl Into<Vec<u8>>) -> Step {
    Step { by_client: true, bytes: bytes.into(), times: 1 }
}

fn server(bytes: impl Into<Vec<u8>>) -> Step {
    Step { by_client: false, bytes: bytes.into(), times: 1 }
}

impl Step {
    /// So often that an attack's size is reached.
    fn fill(self) -> Step {
        let times = SIZE.div_ceil(self.bytes.len());
        Step { times, ..self }
    }

    fn times(self, times: usize) -> Step {
        Step { times, ..self }
    }
}

/// How an attack shows.
#[derive(Clone, Copy)]
enum Mark {
    /// With a note on its call that begins so.
    Noted(&'static str),
    /// By how its call ended.
    Ended(Option<Completion>),
    /// In a counter.
    Counted(fn(&PipelineStats) -> u64),
    /// It is legal, if odd, and its call comes whole.
    Whole,
}

/// Puts an attack through a pipeline, another call beside it, and checks what becomes of both.
fn attack(name: &str, steps: &[Step], mark: Mark, max_peak: usize) {
    let bystander = Call::new(&bodies::all()[0], Transport::Http1(Framing::Chunked), Coding::Identity);
    let mut host = Host::default();
    let (mut attacked, mut quiet) = (End::new(0xa, 1), End::new(0xb, 2));
    host.bytes(&mut quiet, Direction::Read, &bystander.request);
    let mut rest = bystander.response.as_slice();
    let pushes: usize = steps.iter().map(|step| step.times).sum();
    let every = (pushes / rest.len()).max(1);
    let began = Instant::now();
    let (_, taken) = alloc::measure(|| {
        let mut pushed = 0;
        for step in steps {
            let direction = if step.by_client { Direction::Write } else { Direction::Read };
            for _ in 0..step.times {
                host.bytes(&mut attacked, direction, &step.bytes);
                pushed += 1;
                drop_all_but(MAX_KEPT, &mut host.calls);
                if pushed % every == 0 && rest.len() > 1 {
                    let (now, later) = rest.split_at(1);
                    host.bytes(&mut quiet, Direction::Write, now);
                    rest = later;
                }
            }
        }
        host.close(&attacked, false);
    });
    let seconds = began.elapsed().as_secs_f64();
    host.bytes(&mut quiet, Direction::Write, rest);
    let sent: usize = steps.iter().map(|step| step.bytes.len() * step.times).sum();
    eprintln!(
        "{name:44} {:8.2} MB sent, peak {:9.3} MB, {:7.2} allocated per byte, {:8.1} MB/s",
        sent as f64 / 1e6,
        taken.peak as f64 / 1e6,
        taken.total as f64 / sent as f64,
        sent as f64 / 1e6 / seconds,
    );
    assert!(taken.peak <= max_peak, "{name}: {} bytes at a time", taken.peak);
    assert!(taken.total <= FREE_WORK + MAX_WORK * sent as u64, "{name}: {} bytes in all", taken.total);
    let (mine, others): (Vec<_>, Vec<_>) = host.calls.iter().partition(|call| call.side == Side::Client);
    exact(name, &others);
    check(name, &mine, host.stats(), mark);
}

/// Drops calls of the attacked connection: what comes out is not the pipeline's any more.
fn drop_all_but(kept: usize, calls: &mut Vec<FinishedCall>) {
    while calls.len() > kept
        && let Some(last) = calls.iter().rposition(|call| call.side == Side::Client)
    {
        calls.swap_remove(last);
    }
}

/// The call of the other connection.
fn exact(name: &str, calls: &[&FinishedCall]) {
    let [call] = calls else { panic!("{name}: {} other calls", calls.len()) };
    assert_eq!((call.completion, call.capture), (Some(Completion::Done), Capture::Complete), "{name}");
    let facts = call.facts.as_ref().expect("a model's call");
    assert_eq!((facts.usage.input, facts.usage.output, call.chunk_count), (Some(5), Some(3), 1), "{name}");
    assert_eq!((&call.notes, facts.response.id.as_deref()), (&Vec::new(), Some("c")), "{name}");
}

fn check(name: &str, calls: &[&FinishedCall], stats: &PipelineStats, mark: Mark) {
    let malformed = |call: &FinishedCall| -> Vec<&'static str> {
        let reason = |kind: &NoteKind| if let NoteKind::Malformed { reason, .. } = kind { Some(*reason) } else { None };
        call.notes.iter().filter_map(|note| reason(&note.kind)).collect()
    };
    match mark {
        Mark::Noted(begin) => {
            let found: Vec<_> = calls.iter().flat_map(|call| malformed(call)).collect();
            assert!(found.iter().any(|reason| reason.starts_with(begin)), "{name}: {found:?}");
        }
        Mark::Ended(completion) => {
            let found: Vec<_> = calls.iter().map(|call| call.completion).collect();
            assert_eq!(found, [completion], "{name}");
        }
        Mark::Counted(counter) => assert!(counter(stats) > 0, "{name}: {stats:?}"),
        Mark::Whole => {
            let found: Vec<_> = calls.iter().map(|call| (call.completion, malformed(call))).collect();
            assert_eq!(found, [(Some(Completion::Done), vec![])], "{name}");
        }
    }
}

const CHAT: &str = "POST /v1/chat/completions HTTP/1.1";
const JSON: (&str, &str) = ("content-type", "application/json");
const EVENTS: (&str, &str) = ("content-type", "text/event-stream");
const ASKED: &str = r#"{"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}]}"#;
const FINISH: &str =
    r#"data: {"object":"chat.completion.chunk","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#;

/// A request that proves a call.
fn asked() -> Step {
    client(http1::message(CHAT, &[JSON], Framing::Length, &[ASKED.into()]).concat())
}

/// The head of a response that ends with the connection.
fn head(fields: &[(&str, &str)]) -> Step {
    server(http1::message("HTTP/1.1 200 OK", fields, Framing::UntilClose, &[]).concat())
}

/// A response that ends with the connection, of parts that come again and again.
fn answer(name: &str, fields: &[(&str, &str)], body: Vec<Step>, mark: Mark, max_peak: usize) {
    let steps: Vec<_> = [asked(), head(fields)].into_iter().chain(body).collect();
    attack(name, &steps, mark, max_peak);
}

/// Deflate data of zeros, a megabyte of them, that can be repeated.
fn deflated_zeros() -> Vec<u8> {
    let mut out = Vec::with_capacity(8192);
    let mut compress = Compress::new(Compression::best(), false);
    compress.compress_vec(&vec![0; MIB], &mut out, FlushCompress::Full).expect("deflate takes anything");
    out
}

/// The header of a gzip member (RFC 1952 section 2.3).
const GZIP: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];

#[test]
fn bombs_are_not_inflated() {
    let zeros = vec![vec![0; MIB]; 3];
    let coded = |name| [EVENTS, ("content-encoding", name)];
    let bomb = Mark::Noted("decoded body is out of proportion");
    let gzip = vec![server(GZIP), server(deflated_zeros()).times(10_000)];
    answer("gzip, 10 MB for 10 GB", &coded("gzip"), gzip, bomb, MAX_PEAK);
    let members = Coding::Gzip.encode(&zeros[..1]).concat();
    answer("gzip, 10,000 members of 1 MB", &coded("gzip"), vec![server(members).times(10_000)], bomb, MAX_PEAK);
    let twice = Coding::Gzip.encode(&[[&GZIP[..], &deflated_zeros().repeat(1_000)].concat()]).concat();
    answer("gzip in gzip, 1 GB", &coded("gzip, gzip"), vec![server(twice)], bomb, MAX_PEAK);
    let br = Coding::Br.encode(&zeros);
    let br = vec![server(br[0].clone()), server(br[1].clone()).times(10_000)];
    answer("br, 10 GB", &coded("br"), br, bomb, MAX_PEAK);
    let frame = Coding::Zstd.encode(&zeros[..1]).concat();
    answer("zstd, 10,000 frames of 1 MB", &coded("zstd"), vec![server(frame).times(10_000)], bomb, MAX_PEAK);
    let fields = [JSON, ("content-encoding", "gzip")];
    let mut request = http1::message(CHAT, &fields, Framing::Chunked, &[GZIP.to_vec(), deflated_zeros()]);
    request.pop();
    let again = client(request.pop().expect("a chunk")).times(10_000);
    let response = server(b"HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\n\r\n");
    let steps = [client(request.concat()), again, client("0\r\n\r\n"), response];
    attack("gzip request, 10 GB", &steps, Mark::Counted(|stats| stats.unrecognised), MAX_PEAK);
}

/// A request on stream 1 of HTTP/2.
fn asked_http2() -> Step {
    let fields =
        [(":method", "POST"), (":scheme", "http"), (":authority", "x"), (":path", "/v1/chat/completions"), JSON];
    let request = http2::message(1, &fields, &[ASKED.into()]).concat();
    client([http2::PREFACE, &http2::frame(kind::SETTINGS, 0, 0, &[]), &request].concat())
}

fn answer_http2(name: &str, body: Vec<Step>, mark: Mark) {
    let settings = server(http2::frame(kind::SETTINGS, 0, 0, &[]));
    let steps: Vec<_> = [asked_http2(), settings].into_iter().chain(body).collect();
    attack(name, &steps, mark, MAX_PLAIN);
}

#[test]
fn header_blocks_are_bounded() {
    // One entry of 4,000 bytes, then sixteen thousand references to it in each block: 64 MB of fields for 16 KB.
    let mut entry = vec![0x40];
    for text in ["x-a", &"a".repeat(3_900)] {
        http2::integer(text.len(), 7, &mut entry);
        entry.extend(text.as_bytes());
    }
    let references = [0xbe; 16_000];
    let head = |block: &[u8]| server(http2::frame(kind::HEADERS, http2::END_HEADERS, 1, block));
    let mut block = http2::block(&[(":status", "200")]);
    block.extend(&entry);
    let closed = Mark::Ended(Some(Completion::ServerClosed));
    answer_http2("HPACK, 64 MB of fields in each block", vec![head(&block), head(&references).fill()], closed);
    // Names that nobody has said, table updates, integers without end.
    answer_http2("HPACK, unknown references", vec![head(&[0xff, 0x80, 0x80, 0x80, 0x08]).fill()], closed);
    answer_http2("HPACK, table updates", vec![head(&[0x3f, 0xff, 0xff, 0xff, 0x07].repeat(3_000)).fill()], closed);
    answer_http2("HPACK, an integer without end", vec![head(&[0xff; 16_000]).fill()], closed);
}

#[test]
fn continuations_are_bounded() {
    let begin = server(http2::frame(kind::HEADERS, 0, 1, &http2::block(&[(":status", "200")])));
    let closed = Mark::Ended(Some(Completion::ServerClosed));
    for (name, piece) in [("empty", &b""[..]), ("of one byte", b"\0"), ("of 16 KB", &[0; 16_000])] {
        let more = server(http2::frame(kind::CONTINUATION, 0, 1, piece)).fill();
        let begin = server(begin.bytes.clone());
        answer_http2(&format!("CONTINUATION flood, {name}"), vec![begin, more], closed);
    }
}

#[test]
fn streams_without_end_are_bounded() {
    let fields = [(":method", "POST"), (":scheme", "http"), (":path", "/v1/chat/completions"), JSON];
    let open = |stream| http2::frame(kind::HEADERS, http2::END_HEADERS, stream, &http2::block(&fields));
    let opened: Vec<u8> = (1..50_000).flat_map(|n| open(2 * n + 1)).collect();
    let overflow = Mark::Counted(|stats| stats.overflowed);
    attack("50,000 streams opened", &[asked_http2(), client(opened)], overflow, MAX_PLAIN);
    let reset = |stream| [open(stream), http2::frame(3, 0, stream, &8u32.to_be_bytes())].concat();
    let resets: Vec<u8> = (1..50_000).flat_map(|n| reset(2 * n + 1)).collect();
    let closed = Mark::Ended(Some(Completion::ServerClosed));
    attack("50,000 streams opened and reset", &[asked_http2(), client(resets)], closed, MAX_PLAIN);
    let request = asked().bytes;
    attack("100,000 requests without an answer", &[client(request).times(100_000)], overflow, MAX_PLAIN);
}

#[test]
fn lines_without_end_are_bounded() {
    let filler = || server(vec![b'a'; 16_000]).fill();
    let too_large = Mark::Noted("head");
    let begin = || server("HTTP/1.1 200 OK\r\nx-a: ");
    attack("a header line of 10 MB", &[asked(), begin(), filler()], too_large, MAX_PLAIN);
    attack("1,000,000 header lines", &[asked(), begin(), server("a\r\nx: ").fill()], too_large, MAX_PLAIN);
    let lines = client(vec![b'a'; 16_000]).fill();
    let unknown = Mark::Counted(|stats| stats.malformed);
    attack("a request line of 10 MB", &[client("POST /"), lines], unknown, MAX_PLAIN);
    let closed = Mark::Ended(Some(Completion::ServerClosed));
    let interim = server("HTTP/1.1 100 Continue\r\n\r\n").fill();
    attack("interim responses", &[asked(), interim], closed, MAX_PLAIN);
    let chunked = || server("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n");
    let line = Mark::Noted("");
    attack("a chunk's size line of 10 MB", &[asked(), chunked(), server("1;"), filler()], line, MAX_PLAIN);
    attack(
        "a chunk size with zeros before it",
        &[asked(), chunked(), server(vec![b'0'; 16_000]).fill()],
        line,
        MAX_PLAIN,
    );
    attack("trailers of 10 MB", &[asked(), chunked(), server("0\r\n"), filler()], line, MAX_PLAIN);
    let chunk = server("1\r\na\r\n").fill();
    attack("chunks of one byte", &[asked(), chunked(), chunk], closed, MAX_PEAK);
}

#[test]
fn odd_json_is_bounded() {
    let document = |name: &str, parts: Vec<Step>, mark, max_peak| answer(name, &[JSON], parts, mark, max_peak);
    let open = || {
        server(
            r#"{"object":"chat.completion","choices":[{"index":0,"finish_reason":"stop","message":{"content":"a"}}],"x":"#,
        )
    };
    let close = || server("}");
    let (broken, whole) = (Mark::Noted(""), Mark::Whole);
    document(
        "JSON, 10,000 deep",
        vec![open(), server("[".repeat(10_000)), server("]".repeat(10_000)), close()],
        Mark::Noted("nested too deeply"),
        MAX_PLAIN,
    );
    document("JSON, 10 MB deep", vec![open(), server("[".repeat(16_000)).fill()], broken, MAX_PLAIN);
    document("JSON, objects 10 MB deep", vec![open(), server(r#"{"a":"#.repeat(3_000)).fill()], broken, MAX_PLAIN);
    let keys: String = (0..1_000_000).map(|n| format!("\"k{n}\":{n},")).collect();
    let keys = vec![open(), server("{"), server(keys), server("\"k\":0}"), close()];
    document("JSON, 1,000,000 keys", keys, whole, MAX_PLAIN);
    let text = |text: &[u8]| {
        vec![open(), server("\""), server(text.repeat(16_000 / text.len())).fill(), server("\""), close()]
    };
    document("JSON, a string of 10 MB", text(b"a"), whole, MAX_PLAIN);
    document("JSON, a string of 10 MB of escapes", text(b"\\ud83d\\ude80"), whole, MAX_PLAIN);
    document("JSON, a string of 10 MB that is not UTF-8", text(b"\xff\xc0\xf0\x9f"), whole, MAX_PLAIN);
    document(
        "JSON, a key of 10 MB",
        vec![open(), server("{\""), server(vec![b'a'; 16_000]).fill(), server("\":1}"), close()],
        whole,
        MAX_PLAIN,
    );
    document("JSON, a number of 10 MB", vec![open(), server(vec![b'1'; 16_000]).fill(), close()], broken, MAX_PLAIN);
    document(
        "JSON, 10 MB of blanks",
        vec![open(), server(vec![b' '; 16_000]).fill(), server("1"), close()],
        whole,
        MAX_PLAIN,
    );
    let choice = |n: u32| {
        format!(
            r#"{{"index":{n},"finish_reason":"stop","message":{{"tool_calls":[{{"id":"{n}","function":{{"name":"f","arguments":"{{}}"}}}}]}}}},"#
        )
    };
    let choices: String = (0..100_000).map(|n| choice(n * 40_000)).collect();
    let choices = vec![server(r#"{"object":"chat.completion","choices":["#), server(choices), server("{}]}")];
    document("JSON, 100,000 choices with tool calls", choices, Mark::Noted("more choices"), MAX_PLAIN);
    let message = r#"{"role":"user","content":"a"},"#;
    let request = format!(r#"{{"model":"m","stream":true,"messages":[{}{{}}]}}"#, message.repeat(SIZE / message.len()));
    let request = http1::message(CHAT, &[JSON], Framing::Length, &[request.into_bytes()]).concat();
    let response = server(
        http1::message("HTTP/1.1 200 OK", &[EVENTS], Framing::Length, &[format!("{FINISH}\n\n").into()]).concat(),
    );
    attack("JSON, 350,000 messages", &[client(request), response], whole, MAX_PLAIN);
}

#[test]
fn odd_event_streams_are_bounded() {
    let end = || server(format!("\n\n{FINISH}\n\ndata: [DONE]\n\n"));
    let stream = |name: &str, part: &[u8], mark, max_peak| {
        let part = server(part.repeat((16_000 / part.len()).max(1))).fill();
        answer(name, &[EVENTS], vec![server("data: "), part, end()], mark, max_peak);
    };
    let (large, whole) = (Mark::Noted("an event is larger"), Mark::Whole);
    stream("SSE, a line of 10 MB", b"a", large, MAX_PEAK);
    stream("SSE, 10 MB that is not UTF-8", b"\xff", large, MAX_PEAK);
    stream("SSE, lines of one event", b"\ndata: a", large, MAX_PEAK);
    stream("SSE, comments", b"\n: a", whole, MAX_PEAK);
    stream("SSE, event names", b"\nevent: a", whole, MAX_PEAK);
    stream("SSE, empty events", b"\n\ndata:", whole, MAX_PEAK);
    let delta =
        r#"data: {"choices":[{"index":0,"delta":{"tool_calls":[{"index":INDEX,"function":{"arguments":"{"}}]}}]}"#;
    let deltas: String = (0..50_000).map(|n| delta.replace("INDEX", &n.to_string()) + "\n\n").collect();
    answer("SSE, 50,000 tool calls", &[EVENTS], vec![server(deltas), end()], Mark::Noted("more choices"), MAX_PLAIN);
    let delta = r#"data: {"choices":[{"index":0,"delta":{"content":"a"}}]}"#.to_owned() + "\n\n";
    answer("SSE, a stream of 10 MB", &[EVENTS], vec![server(delta).fill(), end()], whole, MAX_PLAIN);
}

#[test]
fn lengths_that_lie_are_bounded() {
    let closed = Mark::Ended(Some(Completion::ServerClosed));
    let respond = |fields: &str, body: &[u8]| {
        server(
            [format!("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n{fields}\r\n\r\n").as_bytes(), body]
                .concat(),
        )
    };
    for length in ["18446744073709551615", "9223372036854775807", "1000000000000"] {
        let response = respond(&format!("content-length: {length}"), b"data: {}\n\n");
        attack(&format!("Content-Length: {length}"), &[asked(), response], closed, MAX_PLAIN);
    }
    for length in ["18446744073709551616", "-1", "0x10", "5, 6"] {
        let response = respond(&format!("content-length: {length}"), b"data: {}\n\n");
        attack(&format!("Content-Length: {length}"), &[asked(), response], Mark::Noted(""), MAX_PLAIN);
    }
    let short = respond("content-length: 4", &b"data: {}\n\n".repeat(1_000_000));
    attack("Content-Length too short", &[asked(), short], Mark::Counted(|stats| stats.unparsed), MAX_PLAIN);
    for (size, mark) in [
        ("ffffffffffffffff", closed),
        ("1ffffffffffffffff", Mark::Noted("")),
        ("-1", Mark::Noted("")),
        ("2", Mark::Noted("")),
    ] {
        let response = respond("transfer-encoding: chunked", format!("{size}\r\ndata: {{}}\n\n").as_bytes());
        attack(&format!("chunk size {size}"), &[asked(), response], mark, MAX_PLAIN);
    }
    let head =
        || server(http2::frame(kind::HEADERS, http2::END_HEADERS, 1, &http2::block(&[(":status", "200"), EVENTS])));
    let mut frame = http2::frame(kind::DATA, 0, 1, b"data: {}\n\n");
    frame[..3].copy_from_slice(&[0xff; 3]);
    answer_http2(
        "HTTP/2, a frame of 16 MB",
        vec![head(), server(frame), server(vec![b'a'; 16_000]).fill()],
        Mark::Noted(""),
    );
    let padded = http2::frame(kind::DATA, 8, 1, &[255, b'a']);
    answer_http2("HTTP/2, more padding than frame", vec![head(), server(padded)], Mark::Noted(""));
    let frames = [("content-type", "application/vnd.amazon.eventstream")];
    for (name, at, value) in [("total", 0, 0xffff_ffff_u32), ("headers", 4, 0xffff), ("total", 0, 1)] {
        let mut message = event_stream::event("chunk", "{}");
        message[at..at + 4].copy_from_slice(&value.to_be_bytes());
        let body = vec![server(message), server(vec![0; 16_000]).fill()];
        answer(&format!("event stream, {name} length {value}"), &frames, body, Mark::Noted(""), MAX_PLAIN);
    }
    let large = event_stream::message(&[(":event-type", "chunk")], &vec![b'a'; 20 * MIB]);
    answer("event stream, a message of 20 MB", &frames, vec![server(large)], Mark::Noted(""), MAX_PLAIN);
}

#[test]
fn lengths_that_lie_in_grpc_are_bounded() {
    let path = "/inference.GRPCInferenceService/ModelInfer";
    let fields = [(":method", "POST"), (":scheme", "http"), (":path", path), ("content-type", "application/grpc")];
    let mut message = event_stream::grpc(b"\x0a\x01m");
    message[1..5].copy_from_slice(&[0xff; 4]);
    let request = http2::message(1, &fields, &[message, vec![b'a'; 16_000]]).concat();
    let begin = [http2::PREFACE, &http2::frame(kind::SETTINGS, 0, 0, &[]), &request].concat();
    let response = http2::message(1, &[(":status", "200"), ("content-type", "application/grpc")], &[]).concat();
    attack(
        "gRPC, a message of 4 GB",
        &[client(begin), server(response)],
        Mark::Counted(|stats| stats.records),
        MAX_PLAIN,
    );
}

#[test]
fn websockets_are_bounded() {
    let upgrade = "GET /v1/realtime?model=m HTTP/1.1\r\nhost: x\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
                   sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n";
    let agreed = "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
                  sec-websocket-extensions: permessage-deflate\r\n\r\n";
    let mut lying = websocket::frame(0x81, None, &[b'a'; 70_000]);
    lying[2..10].copy_from_slice(&(u64::MAX >> 1).to_be_bytes());
    let mut bomb = deflated_zeros();
    bomb.truncate(bomb.len() - 4);
    let bomb = websocket::frame(0xc1, None, &bomb);
    for (name, frame) in [("a frame of 2^63 bytes", lying), ("deflate, 10 GB", bomb)] {
        let steps = [client(upgrade), server(agreed), server(frame).fill()];
        attack(&format!("WebSocket, {name}"), &steps, Mark::Counted(|stats| stats.records), MAX_PEAK);
    }
}
