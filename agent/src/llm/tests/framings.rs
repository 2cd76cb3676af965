//! Framings other than one document and an event stream.

use proptest::prelude::*;

use super::*;
use crate::{
    llm::{
        api::{Draft, EventName, WireApi},
        framing::{Framing, documents::Documents, frames::Frames},
    },
    protocol::{
        event_stream::testing::encode,
        json::{Form, Step, Token},
    },
};

/// An API that writes down what it is given; a document carries content if it holds a string.
#[derive(Default)]
struct Told {
    lines: Vec<String>,
    line: String,
}

impl WireApi for Told {
    fn name(&self) -> &'static str {
        "told"
    }

    fn operation(&self) -> &'static str {
        "told"
    }

    fn default_provider(&self) -> &'static str {
        "told"
    }

    fn request_value(&mut self, _: &[Step<'_>], _: Token<'_>, _: &mut Draft) {}

    fn response_value(&mut self, path: &[Step<'_>], token: Token<'_>, _: &mut Draft) {
        match (path.last(), token) {
            (Some(Step::Key(key)), Token::String { text, .. }) => self.line += &format!("{key}={text} "),
            (Some(Step::Key(key)), Token::Number(number)) => self.line += &format!("{key}={number} "),
            _ => {}
        }
    }

    fn event_name(&mut self, name: EventName<'_>, _: &mut Draft) {
        self.line += &format!("{name:?} ");
    }

    fn response_document(&mut self, streamed: bool, _: &mut Draft) -> bool {
        let line = std::mem::take(&mut self.line);
        let carries = line.contains("text=");
        self.lines.push(line + if streamed { "event" } else { "document" });
        carries
    }

    fn is_finished(&self, _: bool, _: &Draft) -> bool {
        false
    }
}

/// What a framing made of a body.
#[derive(Debug, PartialEq)]
struct Read {
    documents: Vec<String>,
    /// The events, and after which push each was told.
    events: Vec<(usize, bool)>,
    is_stream: bool,
    malformed: Option<&'static str>,
}

type Make<'m> = &'m dyn Fn() -> Box<dyn Framing>;

fn read(make: Make<'_>, pushes: &[&[u8]]) -> Read {
    let (mut framing, mut api, mut draft, mut events) = (make(), Told::default(), Draft::new(None), Vec::new());
    for (at, bytes) in pushes.iter().enumerate() {
        framing.push(bytes, &mut api, &mut draft, &mut |event| events.push((at, event)));
    }
    framing.end(&mut api, &mut draft, &mut |event| events.push((pushes.len(), event)));
    let events = events.into_iter().map(|(at, event)| (at, event == ResponseEvent::Event { content: true })).collect();
    Read { documents: api.lines, events, is_stream: framing.is_stream(), malformed: framing.malformed() }
}

/// Checks what a body gives in any cut, whenever the events are told then.
fn check(make: Make<'_>, body: &[u8], documents: &[&str], malformed: Option<&'static str>) {
    let timeless = |pushes: &[&[u8]]| {
        let read = read(make, pushes);
        Read { events: read.events.into_iter().map(|(_, content)| (0, content)).collect(), ..read }
    };
    let whole = timeless(&[body]);
    assert_eq!(
        (whole.documents.iter().map(String::as_str).collect::<Vec<_>>(), whole.malformed),
        (documents.to_vec(), malformed)
    );
    assert_eq!(timeless(&body.chunks(1).collect::<Vec<_>>()), whole, "byte by byte");
    for at in 0..body.len() {
        assert_eq!(timeless(&[&body[..at], &body[at..]]), whole, "split at {at}");
    }
}

fn one() -> Box<dyn Framing> {
    Box::new(Documents::one(100))
}

fn lines() -> Box<dyn Framing> {
    Box::new(Documents::stream(Form::Lines, 100))
}

fn array() -> Box<dyn Framing> {
    Box::new(Documents::stream(Form::Array, 100))
}

fn frames() -> Box<dyn Framing> {
    Box::new(Frames::new(100))
}

#[test]
fn every_line_is_an_event_with_the_bytes_that_end_it() {
    let pushes: [&[u8]; 3] = [b"{\"text\":\"a\"}\n{\"te", b"xt\":\"b\"}\n{\"n\":1}", b"\n"];
    let read = read(&lines, &pushes);
    assert_eq!(read.documents, ["text=a event", "text=b event", "n=1 event"]);
    assert_eq!((read.events, read.is_stream), (vec![(0, true), (1, true), (1, false)], true));
    check(&lines, &pushes.concat(), &["text=a event", "text=b event", "n=1 event"], None);
}

#[test]
fn ollama_error_line_200() {
    let body = b"{\"text\":\"a\"}\n{\"error\":\"out of memory\"}\n";
    check(&lines, body, &["text=a event", "error=out of memory event"], None);
}

#[test]
fn a_damaged_line_costs_itself() {
    let body = b"{\"text\":\"a\"}\n{\"text\" \"b\"}\n{\"text\":\"c\"}\n{\"text\":";
    let documents = ["text=a event", "event", "text=c event", "event"];
    check(&lines, body, &documents, Some("expected a colon"));
}

#[test]
fn one_document_is_no_event() {
    let read = read(&one, &[b"{\"text\":\"a\"}\n"]);
    assert_eq!((read.documents, read.events, read.is_stream), (vec!["text=a document".to_owned()], vec![], false));
    check(&one, b"{\"text\":\"a\"} x", &["text=a document"], Some("expected a value"));
    check(&one, b"{\"text\":\n\"a\" \"b\"\n}\n{\"n\":1}", &["text=a document"], Some("expected a comma or an end"));
    check(&one, b"{\"text\":\"a\"", &["text=a document"], Some("unfinished document"));
}

#[test]
fn a_second_document_makes_both_events() {
    let pushes: [&[u8]; 3] = [b"{\"text\":\"a\"}\n", b"{", b"\"n\":1}"];
    let read = read(&one, &pushes);
    assert_eq!(read.documents, ["text=a document", "n=1 event"]);
    assert_eq!((read.events, read.is_stream), (vec![(1, true), (2, false)], true));
    check(&one, &pushes.concat(), &["text=a document", "n=1 event"], None);
}

#[test]
fn array_stream_one_byte_reads() {
    let body = b"[{\"text\":\"a\",\"x\":[1,{\"text\":\"b\"}]}\n,\r\n{\"n\":1}\n]\n";
    check(&array, body, &["text=a text=b event", "n=1 event"], None);
    let pushes: Vec<&[u8]> = body.chunks(1).collect();
    let end = |of: &[u8]| body.windows(of.len()).position(|window| window == of).unwrap() + of.len() - 1;
    assert_eq!(read(&array, &pushes).events, [(end(b"}]}"), true), (end(b"1}"), false)]);
    check(&array, b"[{\"n\":1},", &["n=1 event"], Some("unfinished array"));
    check(&array, b"[]", &[], None);
}

#[test]
fn padding_key() {
    let message = |name, payload: &[u8]| encode(&[(":event-type", name), (":message-type", "event")], payload);
    let inner = "eyJ0ZXh0IjoiYSJ9";
    let body = [
        message("messageStart", b"{\"role\":\"assistant\",\"p\":\"abcdefgh\"}"),
        message("chunk", format!("{{\"bytes\":\"{inner}\",\"p\":\"abcd\"}}").as_bytes()),
        message("metadata", b"{\"n\":1}"),
        encode(&[(":message-type", "exception"), (":exception-type", "throttlingException")], b"{\"message\":\"m\"}"),
    ];
    let documents = [
        "Event(\"messageStart\") role=assistant p=abcdefgh event",
        "Event(\"chunk\") text=a event",
        "Event(\"metadata\") n=1 event",
        "Exception(\"throttlingException\") message=m event",
    ];
    check(&frames, &body.concat(), &documents, None);
    let pushes: Vec<&[u8]> = body.iter().map(Vec::as_slice).collect();
    let read = read(&frames, &pushes);
    assert_eq!((read.events, read.is_stream), (vec![(0, false), (1, true), (2, false), (3, false)], true));
}

#[test]
fn a_chunk_without_its_document_is_told() {
    let chunk = |payload: &[u8]| encode(&[(":event-type", "chunk")], payload);
    let name = "Event(\"chunk\") event";
    check(&frames, &chunk(b"{\"bytes\":\"e!\"}"), &[name], Some("a chunk is not base64"));
    check(&frames, &chunk(b"{\"bytes\":\"eyI=\"}"), &[name], Some("unfinished document"));
    check(&frames, &encode(&[(":event-type", "e")], b"x"), &["Event(\"e\") event"], Some("expected a value"));
}

#[test]
fn crc_error() {
    let good = encode(&[(":event-type", "e")], b"{\"text\":\"a\"}");
    let mut bad = good.clone();
    bad[30] ^= 1;
    let documents = ["Event(\"e\") text=a event"];
    check(&frames, &[bad, good.clone()].concat(), &documents, Some("bad checksum of an event stream message"));
    check(&frames, &[&good[..], &good[..20]].concat(), &documents, Some("the stream ends inside a message"));
}

#[test]
fn an_exception_is_an_error_for_every_api() {
    let content_type = Some("application/vnd.amazon.eventstream");
    let mut session = Exchange::default().open();
    session.request_body(Exchange::default().request.as_bytes());
    session.request_end();
    session.response_head(200, &typed(content_type));
    let message = encode(&[(":message-type", "exception"), (":exception-type", "modelStreamErrorException")], b"{}");
    session.response_body(&message, &mut |_| {});
    session.response_end(&mut |_| {});
    assert!(session.is_stream());
    assert_eq!(session.into_facts().error.as_deref(), Some("modelStreamErrorException"));
}

#[test]
fn a_declared_framing_reaches_the_api() {
    let documents = [delta(json!({"content": "a"})), with(finish("stop"), "usage", usage(3, 4))];
    let lines: String = documents.iter().map(|document| format!("{document}\n")).collect();
    for (content_type, response) in [
        (Some("application/x-ndjson; charset=utf-8"), lines.clone()),
        (Some("application/jsonl"), lines.clone()),
        (Some("application/json"), lines),
        (None, documents.iter().map(ToString::to_string).collect()),
    ] {
        let exchange = Exchange { content_type, response, content: Some(100), ..Exchange::default() };
        let outcome = exchange.run();
        assert_eq!(
            (counted(&outcome), carrying(&outcome)),
            ((Some(3), Some(4)), vec![true, false]),
            "{content_type:?}"
        );
        assert!(outcome.is_stream && outcome.finished && outcome.malformed.is_none());
        assert_eq!(exchange.run_in(&[1]), outcome, "{content_type:?} byte by byte");
    }
}

#[test]
fn a_gap_costs_the_documents_that_it_touches() {
    for (make, before, after, expect) in [
        (
            &lines as Make<'_>,
            "{\"text\":\"a\"}\n{\"n\":1,",
            "\"n\":2}\n{\"n\":3}\n",
            vec!["text=a event", "n=1 event", "n=3 event"],
        ),
        (&lines, "", "\"n\":2}\n{\"n\":3}\n", vec!["n=3 event"]),
        (&one, "{\"text\":\"a\",", "\"n\":2}\n{\"n\":3}\n", vec!["text=a document"]),
        (&one, "", "{\"n\":3}\n", vec![]),
        (&array, "[{\"text\":\"a\"", "\n,\n{\"n\":3}\n]", vec!["text=a event", "n=3 event"]),
    ] {
        let (mut framing, mut api, mut draft) = (make(), Told::default(), Draft::new(None));
        framing.push(before.as_bytes(), &mut api, &mut draft, &mut |_| {});
        framing.gap(&mut api, &mut draft);
        framing.push(after.as_bytes(), &mut api, &mut draft, &mut |_| {});
        framing.end(&mut api, &mut draft, &mut |_| {});
        assert_eq!(api.lines, expect, "{before:?} gap {after:?}");
    }
}

#[test]
fn truncated_at_every_byte() {
    let message = encode(&[(":event-type", "e")], b"{\"text\":\"a\"}").repeat(2);
    let bodies: [(Make<'_>, &[u8]); 3] =
        [(&lines, b"{\"text\":\"a\"}\n{\"n\":1}"), (&array, b"[{\"text\":\"a\"},{\"n\":1}]"), (&frames, &message)];
    for (make, body) in bodies {
        let whole = read(make, &[body]);
        for len in 1..body.len() {
            let cut = read(make, &[&body[..len]]);
            let same = cut.documents.iter().zip(&whole.documents).filter(|(cut, whole)| cut == whole).count();
            assert!(cut.documents.len() - same <= 1 && cut.documents.len() <= whole.documents.len(), "cut at {len}");
            assert!(cut.malformed.is_some() || cut.documents.len() == same, "cut at {len}");
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_are_survived_in_any_cut(
        bytes in prop::collection::vec(prop_oneof![any::<u8>(), prop::sample::select(b"{}[]\":,\n1a".to_vec())], 0..200),
        which in 0usize..4,
        size in 1usize..9,
    ) {
        let makes: [Make<'_>; 4] = [&one, &lines, &array, &frames];
        let of = |pushes: &[&[u8]]| {
            let read = read(makes[which], pushes);
            (read.documents, read.events.len(), read.is_stream, read.malformed)
        };
        prop_assert_eq!(of(&bytes.chunks(size).collect::<Vec<_>>()), of(&[&bytes]));
    }
}

#[test]
fn a_document_that_is_whole_needs_no_end_of_its_body() {
    let finished = |path, text: &str| {
        let mut session = Exchange { path, ..Exchange::default() }.open();
        session.response_head(200, &typed(Some("application/json")));
        session.response_body(text.as_bytes(), &mut |_| {});
        session.finished()
    };
    let array = r#"[{"candidates":[{"content":{"parts":[{"text":"a"}]},"finishReason":"STOP"}]}]"#;
    let document = r#"{"object":"list","data":[{"object":"embedding","index":0,"embedding":[1]}]}"#;
    for (path, text) in [("/v1beta/models/m:streamGenerateContent", array), ("/v1/embeddings", document)] {
        assert!(finished(path, text) && !finished(path, &text[..text.len() - 1]), "{path}");
    }
}

/// Members that every event repeats are read once; a number before them, another in each event, has all of them read.
#[test]
fn what_events_repeat_says_the_same_as_if_it_were_read_each_time() {
    let event = |model: &str, object: &str, fingerprint: &str, rest: &str| {
        format!(r#"{{"id":"c1","object":"{object}","model":"{model}","system_fingerprint":{fingerprint},{rest}}}"#)
    };
    let says = |text: &str| format!(r#""choices":[{{"index":0,"delta":{{"content":"{text}"}},"finish_reason":null}}]"#);
    let (chunk, end) = ("chat.completion.chunk", r#""choices":[{"index":0,"delta":{},"finish_reason":"stop"}]"#);
    let events = [
        event("m-1", chunk, "null", &says("a")),
        event("m-1", chunk, "null", &says("b")),
        event("m-2", chunk, r#""fp_ollama""#, &says("c")),
        event("m-2", chunk, r#""fp_ollama""#, &says("d")),
        event("m-2", chunk, r#""fp_ollama""#, &says("e")),
        event("m-1", "chat.completion.done", "null", &says("abcde")),
        event("m-1", "chat.completion.done", "null", &says("abcde")),
        event("m-2", chunk, "null", &says("f")),
        event("m-2", chunk, "null", r#""choices":[],"error":{"code":"x"}"#),
        event("m-2", chunk, "null", r#""choices":[{{"#),
        event("m-2", chunk, "null", end),
        "{\"id\":\"c1\",\"object\":\"chat.completion.chunk\"}".to_owned(),
    ];
    let of = |events: &[String]| {
        let response = events.iter().map(|event| format!("data: {event}\n\n")).collect();
        Exchange { response, content: Some(1_000), ..Exchange::default() }.run()
    };
    let numbered = |(n, event): (usize, &String)| format!("{{\"n\":{n},{}", &event[1..]);
    for count in 0..=events.len() {
        let read: Vec<String> = events[..count].iter().enumerate().map(numbered).collect();
        assert_eq!(of(&events[..count]), of(&read), "{count} events");
    }
}
