//! Calls that were under way when the agent came.

use inferscope_common::verdict::{DROP, FOLLOW};

use super::tests::{Bench, End, request, response};
use crate::{
    call::{Capture, Completion, Side},
    record::Direction,
};

/// What each of [`response`]'s pieces holds, from the head on.
const CONTENT: [u64; 9] = [0, 0, 1, 1, 1, 0, 0, 0, 0];

/// Place of the last piece that proves the API: the usage.
const USAGE: usize = 6;

fn directions(side: Side) -> (Direction, Direction) {
    match side {
        Side::Server => (Direction::Read, Direction::Write),
        Side::Client => (Direction::Write, Direction::Read),
    }
}

/// Pushes what is left of a response, then a whole call.
fn join(side: Side, rest: &[&[u8]]) -> Bench {
    let mut bench = Bench::new(false);
    let mut end = End::socket(0xa, 42);
    let (asks, answers) = directions(side);
    rest.iter().for_each(|piece| bench.data(&mut end, answers, piece));
    bench.data(&mut end, asks, &request());
    response().iter().for_each(|piece| bench.data(&mut end, answers, piece));
    bench.balanced();
    let last = bench.calls.last().expect("the next call");
    assert_eq!((last.side, last.completion, last.capture), (side, Some(Completion::Done), Capture::Complete));
    assert_eq!((last.chunk_count, last.facts.as_ref().unwrap().usage.output), (3, Some(3)));
    bench
}

#[test]
fn a_stream_is_joined_at_any_event() {
    let pieces = response();
    for side in [Side::Server, Side::Client] {
        for at in 1..pieces.len() {
            let rest: Vec<&[u8]> = pieces[at..].iter().map(Vec::as_slice).collect();
            let mut bench = join(side, &rest);
            if at > USAGE {
                assert_eq!(bench.calls.len(), 1, "nothing was left that tells what it is");
                continue;
            }
            assert_eq!(bench.calls.len(), 2, "{:?}", bench.calls);
            let call = bench.calls.remove(0);
            assert_eq!(
                (call.side, call.completion, call.capture),
                (side, Some(Completion::Done), Capture::PartialStart)
            );
            assert_eq!(call.chunk_count, CONTENT[at..].iter().sum::<u64>(), "joined at {at}");
            assert!(call.streamed && call.timing.request_end.is_none() && call.timing.response_start.is_none());
            let facts = call.facts.unwrap();
            assert_eq!((facts.api, facts.usage.input, facts.usage.output), ("openai.chat", Some(5), Some(3)));
            assert_eq!(facts.response.finish_reasons.as_slice(), if at <= 5 { &["stop"][..] } else { &[] });
            assert_eq!((facts.request.model, facts.response.model.as_deref()), (None, Some("m-1")));
            assert!(bench.answers.iter().any(|answer| answer.verdict == FOLLOW));
        }
    }
}

#[test]
fn chunks_whose_sizes_are_written_apart_are_joined() {
    let pieces = response();
    let mut apart: Vec<&[u8]> = Vec::new();
    for piece in &pieces[2..] {
        let end = piece.windows(2).position(|pair| pair == b"\r\n").unwrap();
        apart.extend([&piece[..end], &piece[end..end + 2], &piece[end + 2..]]);
    }
    let mut bench = join(Side::Server, &apart);
    assert_eq!(bench.calls.len(), 2, "{:?}", bench.calls);
    let call = bench.calls.remove(0);
    assert_eq!((call.completion, call.capture, call.chunk_count), (Some(Completion::Done), Capture::PartialStart, 3));
}

#[test]
fn a_stream_that_is_cut_at_any_byte_does_not_harm_the_next_call() {
    let pieces = response();
    let whole: Vec<u8> = pieces.concat();
    for at in pieces[0].len()..whole.len() {
        // The pieces as they are written, the first of them cut.
        let mut rest: Vec<&[u8]> = Vec::new();
        let mut begin = 0;
        for piece in &pieces {
            let end = begin + piece.len();
            if end > at {
                rest.push(&whole[at.max(begin)..end]);
            }
            begin = end;
        }
        let cut_inside = pieces.len() - rest.len();
        let bench = join(Side::Client, &rest);
        assert!(bench.calls.len() <= 2, "{:?}", bench.calls);
        if let [joined, _] = bench.calls.as_slice() {
            assert_eq!(joined.capture, Capture::PartialStart);
            assert!(joined.chunk_count <= CONTENT[cut_inside..].iter().sum(), "cut at {at}: {joined:?}");
        }
    }
}

#[test]
fn a_stream_without_chunks_ends_with_the_next_request() {
    let pieces = response();
    let events: Vec<Vec<u8>> = pieces[2..8]
        .iter()
        .map(|piece| {
            let data = piece.windows(2).position(|pair| pair == b"\r\n").unwrap() + 2;
            piece[data..piece.len() - 2].to_vec()
        })
        .collect();
    let rest: Vec<&[u8]> = events.iter().map(Vec::as_slice).collect();
    let mut bench = join(Side::Server, &rest);
    assert_eq!(bench.calls.len(), 2, "{:?}", bench.calls);
    let call = bench.calls.remove(0);
    assert_eq!((call.completion, call.capture, call.chunk_count), (Some(Completion::Done), Capture::PartialStart, 3));
    // Without the sentinel nothing says that it was over.
    let mut bench = join(Side::Server, &rest[..2]);
    let call = bench.calls.remove(0);
    assert_eq!((call.completion, call.capture, call.chunk_count), (None, Capture::PartialStart, 2));
}

#[test]
fn an_answer_is_joined_at_its_head() {
    let pieces = response();
    let rest: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
    let mut bench = join(Side::Client, &rest);
    assert_eq!(bench.calls.len(), 2, "{:?}", bench.calls);
    let call = bench.calls.remove(0);
    assert_eq!((call.completion, call.capture, call.chunk_count), (Some(Completion::Done), Capture::PartialStart, 3));
    assert_eq!((call.http.status, call.timing.request_end), (Some(200), None));

    let body = r#"{"id":"c1","object":"chat.completion","choices":[{"index":0,"message":{"content":"x"},"finish_reason":"stop"}],
        "usage":{"prompt_tokens":5,"completion_tokens":1}}"#;
    let head = format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", body.len());
    let mut bench = join(Side::Client, &[head.as_bytes(), body.as_bytes()]);
    let call = bench.calls.remove(0);
    assert_eq!((call.completion, call.capture, call.streamed), (Some(Completion::Done), Capture::PartialStart, false));
    assert_eq!(call.facts.unwrap().usage.output, Some(1));
}

#[test]
fn what_is_no_models_is_left_alone() {
    let event = b"19\r\ndata: {\"price\":1,\"x\":2}\n\r\n".as_slice();
    let mut rest = vec![event; 40];
    rest.push(b"0\r\n\r\n");
    let bench = join(Side::Client, &rest);
    assert_eq!(bench.calls.len(), 1, "{:?}", bench.calls);
    assert_eq!(bench.answers[0].verdict, DROP);
    assert_eq!(bench.pipeline.stats().unrecognised, 1);
    let page = b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 3\r\n\r\nabc".as_slice();
    let bench = join(Side::Client, &[page]);
    assert_eq!((bench.calls.len(), bench.answers[0].verdict), (1, DROP));
}
