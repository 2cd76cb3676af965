//! Conversations, retries and tools from the bytes of a client's connection.

use super::{
    tests::{Bench, End},
    *,
};

fn exchange(bench: &mut Bench, client: &mut End, messages: &str, header: &str, answer: &str) {
    let body = format!(r#"{{"model":"m","messages":[{messages}]}}"#);
    let head =
        format!("POST /v1/chat/completions HTTP/1.1\r\nhost: h\r\n{header}content-length: {}\r\n\r\n", body.len());
    bench.data(client, Direction::Write, format!("{head}{body}").as_bytes());
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: ";
    bench.data(client, Direction::Read, format!("{head}{}\r\n\r\n{answer}", answer.len()).as_bytes());
}

#[test]
fn a_tool_s_span_comes_between_the_two_calls_that_it_lies_between() {
    let (mut bench, mut client) = (Bench::new(false), End::socket(0x10, 7));
    let asks = r#"{"object":"chat.completion","choices":[{"index":0,"message":{"tool_calls":[{"id":"c1","function":{"name":"weather","arguments":"{}"}}]},"finish_reason":"tool_calls"}]}"#;
    let says =
        r#"{"object":"chat.completion","choices":[{"index":0,"message":{"content":"22"},"finish_reason":"stop"}]}"#;
    let hi = r#"{"role":"user","content":"hi"}"#;
    let later = format!(
        r#"{hi},{{"role":"assistant","tool_calls":[{{"id":"c1"}}]}},{{"role":"tool","tool_call_id":"c1","content":"22"}}"#
    );
    exchange(&mut bench, &mut client, hi, "", asks);
    exchange(&mut bench, &mut client, &later, "x-stainless-retry-count: 1\r\n", says);
    let [asking, tool, answering] = &bench.calls[..] else { panic!("{:?}", bench.calls) };
    assert_eq!(tool.tool.as_ref().and_then(|run| run.name.as_deref()), Some("weather"));
    assert_eq!((tool.timing.start, tool.timing.end), (asking.timing.end, answering.timing.start));
    assert_eq!((tool.ids.trace, tool.ids.parent), (asking.ids.trace, Some(asking.ids.span)));
    assert_eq!(asking.place.conversation, answering.place.conversation);
    assert_eq!((asking.place.turn, answering.place.turn), (Some(1), Some(2)));
    assert_eq!(answering.place.retry.map(|retry| retry.count), Some(1));
    let stats = bench.pipeline.stats();
    assert_eq!((stats.calls, stats.tools), (2, 1));
}
