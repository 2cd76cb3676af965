//! Cuts, gaps, odd framing and odd bytes.

use proptest::prelude::*;

use super::*;

#[test]
fn split_utf8() {
    let documents = [delta(json!({"content": "größe 模型 🚀"})), finish("stop")];
    let exchange = Exchange { response: sse(&documents), content: Some(1_000), ..Exchange::default() };
    let bytewise = exchange.run_in(&[1]);
    assert_eq!(output(&bytewise)[0]["parts"][0]["content"], "größe 模型 🚀");
}

#[test]
fn cut_stream_unknown_not_zero() {
    let response = format!("data: {}\n\ndata: {{\"id\":\"c1\",\"cho", delta(json!({"content": "a"})));
    let outcome = Exchange { response, ..Exchange::default() }.run();
    assert_eq!((outcome.facts.usage, outcome.facts.response.finish_reasons.len()), (Usage::default(), 0));
    assert!(!outcome.finished && outcome.malformed.is_some());
    assert_eq!(outcome.proof, Proof::Request);
}

#[test]
fn usage_at_the_tail_of_a_long_body() {
    let body = json!({"object": "chat.completion", "choices": [{"index": 0, "message": {"content": "x".repeat(4 << 20)}, "finish_reason": "stop"}],
        "usage": usage(1, 2)});
    let outcome = Exchange { response: body.to_string(), ..Exchange::default() }.run_in(&[16 * 1024]);
    assert_eq!((counted(&outcome), outcome.finished), ((Some(1), Some(2)), true));
}

#[test]
fn gap_in_a_stream_costs_one_event() {
    let mut session = Exchange { content: Some(1_000), ..Exchange::default() }.open();
    session.request_body(Exchange::default().request.as_bytes());
    session.request_end();
    session.response_head(200, &typed(Some("text/event-stream")));
    let mut events = Vec::new();
    session.response_body(format!("data: {}\n\ndata: {{\"id", delta(json!({"content": "a"}))).as_bytes(), &mut |e| {
        events.push(e)
    });
    session.response_gap();
    let rest = sse(&[delta(json!({"content": "c"})), with(finish("stop"), "usage", usage(1, 3))]);
    session.response_body(format!("tent\":\"b\"}}}}]}}\n\n{rest}").as_bytes(), &mut |e| events.push(e));
    session.response_end(&mut |e| events.push(e));
    let outcome = outcome(session, events);
    assert_eq!((carrying(&outcome), counted(&outcome)), (vec![true, true, false], (Some(1), Some(3))));
    assert_eq!(output(&outcome)[0]["parts"][0]["content"], "a", "nothing is joined across the gap");
    assert!(outcome.finished && outcome.facts.content.unwrap().truncated);
}

#[test]
fn gap_in_a_document_leaves_the_rest_unknown() {
    let mut session = Exchange::default().open();
    session.request_body(br#"{"model":"m","messages":[{"role":"user""#);
    session.request_gap();
    session.request_body(br#""}],"stream":true}"#);
    session.request_end();
    session.response_head(200, &typed(Some("application/json")));
    session.response_body(br#"{"id":"c1","object":"chat.completion","choices":[{"#, &mut |_| {});
    session.response_gap();
    session.response_body(br#"}],"usage":{"prompt_tokens":1}}"#, &mut |_| {});
    session.response_end(&mut |_| {});
    let outcome = outcome(session, vec![]);
    assert_eq!((outcome.proof, outcome.finished, outcome.malformed), (Proof::Request, false, None));
    assert_eq!((outcome.facts.request.message_count, outcome.facts.request.stream), (None, None));
    assert_eq!((outcome.facts.response.id.as_deref(), outcome.facts.usage), (Some("c1"), Usage::default()));
}

#[test]
fn plain_answer_to_a_stream_request_and_the_other_way_round() {
    let plain = json!({"object": "chat.completion", "choices": [{"index": 0, "message": {"content": "a"}, "finish_reason": "stop"}]});
    let of = |content_type, response: String| Exchange { content_type, response, ..Exchange::default() }.run();
    assert!(!of(Some("application/json"), plain.to_string()).is_stream);
    assert!(!of(Some("text/event-stream"), plain.to_string()).is_stream, "a brace is believed over the head");
    assert!(of(Some("application/json"), sse(&[finish("stop")])).is_stream);
    assert!(of(None, sse(&[finish("stop")])).is_stream);
}

#[test]
fn oversize_event_is_passed_over() {
    let huge = delta(json!({"images": [{"image_url": {"url": "A".repeat(2 << 20)}}]}));
    let outcome = stream(&[huge, with(finish("stop"), "usage", usage(1, 2))]);
    assert_eq!((carrying(&outcome), counted(&outcome)), (vec![false, false], (Some(1), Some(2))));
    assert_eq!(outcome.malformed, Some("an event is larger than is read"));
}

/// Bodies whose every split must give the same.
fn samples() -> Vec<Exchange<'static>> {
    let tool =
        delta(json!({"tool_calls": [{"index": 0, "id": "a", "function": {"name": "f", "arguments": "{\"ü\":1}"}}]}));
    let documents = [
        delta(json!({"role": "assistant", "content": ""})),
        delta(json!({"content": "größe 🚀 \u{2028} \"q\""})),
        tool,
        with(finish("tool_calls"), "usage", usage(3, 4)),
    ];
    let plain = json!({"id": "x", "object": "chat.completion", "model": "m", "choices": [{"index": 0, "message": {"content": "a🚀b",
        "reasoning": "hm"}, "finish_reason": "stop"}], "usage": usage(5, 6)});
    let on = |response: String| Exchange { response, content: Some(300), ..Exchange::default() };
    let stream = ": ping\n\n".to_owned() + &sse(&documents);
    vec![
        on(stream.clone()),
        on(stream.replace('\n', "\r\n")),
        on(plain.to_string()),
        on(format!("\u{feff} \n{plain}")),
        on(stream[..stream.len() / 2].to_owned()),
        on("data: {broken\n\ndata: 1\n\ndata:\n\n".to_owned()),
        on("not a body".to_owned()),
        Exchange { status: 429, ..on(r#"{"error":{"code":"rate_limit","message":"m"}}"#.to_owned()) },
    ]
}

#[test]
fn one_byte_at_a_time_gives_the_same() {
    for (i, sample) in samples().iter().enumerate() {
        assert_eq!(sample.run_in(&[1]), sample.run(), "sample {i}");
    }
}

proptest! {
    #[test]
    fn any_split_gives_the_same(sizes in prop::collection::vec(1usize..60, 1..12), which in 0usize..8) {
        let sample = &samples()[which];
        prop_assert_eq!(sample.run_in(&sizes), sample.run());
    }

    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..300), at in 0usize..400, content in any::<bool>()) {
        let mut exchange = Exchange { content: content.then_some(50), ..Exchange::default() };
        exchange.response = samples()[0].response.clone();
        let mut session = exchange.open();
        session.request_body(&bytes);
        session.request_end();
        session.response_head(200, &typed(None));
        let response = exchange.response.as_bytes();
        let at = at.min(response.len());
        for piece in [&response[..at], &bytes, &response[at..]] {
            session.response_body(piece, &mut |_| {});
        }
        session.response_end(&mut |_| {});
        session.into_facts();
    }
}

/// The path of a Converse call is half of its proof, and its request looks like that of a chat.
#[test]
fn a_call_whose_path_is_not_known_is_told_by_its_answer() {
    let mut session = Session::join_at_head(Some("application/json"), &Options::default()).expect("may be a model's");
    session.request_body(br#"{"messages": [{"role": "user", "content": "hi"}], "model": "m"}"#);
    session.request_end();
    assert_eq!(session.proof(), Proof::Pending);
    session.response_head(200, &typed(Some("application/json")));
    let body = json!({"id": "chatcmpl-1", "object": "chat.completion", "model": "m-1", "choices": [
        {"index": 0, "message": {"role": "assistant", "content": "ho"}, "finish_reason": "stop"}]});
    session.response_body(body.to_string().as_bytes(), &mut |_| {});
    session.response_end(&mut |_| {});
    let outcome = outcome(session, Vec::new());
    assert_eq!((outcome.facts.api, outcome.facts.response.id.as_deref()), ("openai.chat", Some("chatcmpl-1")));
}
