//! What a call takes does not grow with its bodies: an answer of ten times the length takes no more memory at a time.

use inferscope::record::Direction;
use inferscope_testing::{
    Coding, End, Host,
    alloc::{self, Counting},
    calls::{Transport, bodies},
    streams::{self, Exchange},
    wire::http1::{self, Framing},
};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Bytes that may be held more, for tables that are filled while a call is young.
const MARGIN: usize = 16 * 1024;

/// Memory that a call takes at most, until it is over.
fn peak(exchange: &Exchange) -> usize {
    let mut host = Host::default();
    let mut end = End::new(0xa, 1);
    let ((), taken) = alloc::measure(|| {
        host.bytes(&mut end, Direction::Write, &exchange.request);
        host.bytes(&mut end, Direction::Read, &exchange.response);
        host.close(&end, false);
    });
    assert_eq!(host.calls.len(), 1);
    taken.peak
}

fn check(name: &str, of: impl Fn(usize) -> Exchange) {
    // So that what is made once per process is there.
    peak(&of(10));
    let [short, long] = [500, 5_000].map(|size| peak(&of(size)));
    eprintln!("{name:40} {short:8} bytes, ten times as long {long:8}");
    assert!(long <= short + MARGIN, "{name}: {short} bytes, ten times as long {long}");
}

#[test]
fn a_long_stream_takes_what_a_short_one_does() {
    for transport in Transport::ALL {
        for coding in Coding::ALL {
            check(&format!("{transport:?}, {coding:?}"), |words| {
                streams::exchange(&streams::chat(words), transport, coding)
            });
        }
    }
}

#[test]
fn a_large_document_takes_what_a_small_one_does() {
    let exchange = |asked: String, answered: String| {
        let content = [("content-type", "application/json")];
        let asks = "POST /v1/chat/completions HTTP/1.1";
        Exchange {
            request: http1::message(asks, &content, Framing::Length, &[asked.into()]).concat(),
            response: http1::message("HTTP/1.1 200 OK", &content, Framing::Length, &[answered.into()]).concat(),
        }
    };
    let asked = |text: &str| format!(r#"{{"model":"m","messages":[{{"role":"user","content":"{text}"}}]}}"#);
    let answered = |text: &str| {
        let finish = r#""finish_reason":"stop""#;
        format!(r#"{{"object":"chat.completion","choices":[{{"index":0,"message":{{"content":"{text}"}},{finish}}}]}}"#)
    };
    let text = |size: usize| "a word ".repeat(100 * size);
    check("a long question", |size| exchange(asked(&text(size)), answered("a")));
    check("a long answer", |size| exchange(asked("a"), answered(&text(size))));
    let body = bodies::all().into_iter().find(|body| body.name == "embeddings").expect("there is one");
    let vector =
        |size: usize| format!(r#"{{"object":"list","data":[{{"index":0,"embedding":[{}0]}}]}}"#, "0.125,".repeat(size));
    let large = |size| {
        let mut exchange = exchange(body.request.to_owned(), vector(100 * size));
        exchange.request = http1::message(
            "POST /v1/embeddings HTTP/1.1",
            &[("content-type", "application/json")],
            Framing::Length,
            &[body.request.into()],
        )
        .concat();
        exchange
    };
    check("a long vector", large);
}
