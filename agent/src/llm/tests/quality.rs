//! Signs of a bad answer, from the bytes of whole exchanges.

use super::*;

/// A request that offers one tool.
fn offering() -> String {
    json!({"model": "m", "messages": [], "tools": [{"type": "function", "function": {"name": "f", "parameters": {
        "type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}}]})
    .to_string()
}

/// A plain answer.
fn plain(message: Value, finish: &str) -> Value {
    json!({"object": "chat.completion", "choices": [{"index": 0, "message": message, "finish_reason": finish}]})
}

/// The quality of an answer, which must be the same in any cut, with content and without.
fn quality(response: String) -> Quality {
    let mut exchange = Exchange { request: offering(), response, ..Exchange::default() };
    let whole = exchange.run().facts.quality;
    assert_eq!(exchange.run_in(&[1]).facts.quality, whole);
    assert_eq!(exchange.run_in(&[7, 300]).facts.quality, whole);
    exchange.content = Some(100_000);
    assert_eq!(exchange.run().facts.quality, whole, "with content on");
    whole
}

fn called(arguments: &str) -> Value {
    json!({"content": null, "tool_calls": [{"id": "a", "type": "function", "function": {"name": "f", "arguments": arguments}}]})
}

#[test]
fn a_good_answer_has_no_signs() {
    assert_eq!(quality(plain(json!({"content": "fine"}), "stop").to_string()), Quality::default());
    assert_eq!(quality(sse(&[delta(json!({"content": "fine"})), finish("stop")])), Quality::default());
    assert_eq!(quality(plain(called("{\"city\":\"Rome\"}"), "tool_calls").to_string()), Quality::default());
}

#[test]
fn refusals_filters_and_limits() {
    let refused = Quality { refusal: true, ..Quality::default() };
    assert_eq!(quality(plain(json!({"content": null, "refusal": "I cannot"}), "stop").to_string()), refused);
    assert_eq!(
        quality(sse(&[delta(json!({"refusal": "I can"})), delta(json!({"refusal": "not"})), finish("stop")])),
        refused
    );
    assert_eq!(quality(plain(json!({"content": "x", "refusal": null}), "refusal").to_string()), refused);
    let filtered = Quality { content_filter: true, ..Quality::default() };
    assert_eq!(quality(plain(json!({"content": "x"}), "content_filter").to_string()), filtered);
    let error = json!({"error": {"code": "content_filter", "message": "m"}}).to_string();
    let blocked = Exchange { status: 400, response: error, ..Exchange::default() };
    assert_eq!(blocked.run().facts.quality, filtered);
    let cut = Quality { length: true, ..Quality::default() };
    assert_eq!(quality(plain(json!({"content": "x"}), "length").to_string()), cut);
}

#[test]
fn empty_answers_ended_and_say_nothing() {
    let empty = Quality { empty: true, ..Quality::default() };
    assert_eq!(quality(plain(json!({"content": ""}), "stop").to_string()), empty);
    assert_eq!(quality(plain(json!({"content": null, "reasoning": "hm"}), "stop").to_string()), empty, "thought only");
    assert_eq!(quality(sse(&[delta(json!({"role": "assistant", "content": ""})), finish("stop")])), empty);
    assert_eq!(quality(sse(&[delta(json!({"content": ""}))])), Quality::default(), "not over");
    assert_eq!(quality(plain(json!({"audio": {"data": "UklG"}}), "stop").to_string()), Quality::default());
}

#[test]
fn tool_arguments_that_are_no_json_or_not_what_was_declared() {
    let of = |arguments: &str, finish: &str| {
        let quality = quality(plain(called(arguments), finish).to_string());
        (quality.malformed_arguments, quality.mismatched_arguments)
    };
    assert_eq!(of("{\"city\":\"Rome\"", "tool_calls"), (1, 0));
    assert_eq!(of("{\"city\":5}", "tool_calls"), (0, 1));
    assert_eq!(of("[]", "tool_calls"), (0, 1));
    assert_eq!(of("", "tool_calls"), (0, 0), "no arguments at all");
    assert_eq!(of("{\"city\":\"Ro", "length"), (0, 0), "cut by the limit");
    let long = format!("{{\"city\":\"{}\"", "x".repeat(100_000));
    assert_eq!(of(&long, "tool_calls"), (1, 0));
    assert_eq!(of(&(long + "}"), "tool_calls"), (0, 0));
}

#[test]
fn n2_interleaved_arguments_are_told_apart() {
    let piece = |index: u64, tool: Value| {
        chunk(json!([{"index": index, "delta": {"tool_calls": [tool]}, "finish_reason": null}]))
    };
    let begin = |index: u64| {
        piece(index, json!({"index": 0, "id": format!("c{index}"), "function": {"name": "f", "arguments": ""}}))
    };
    let more = |index: u64, text: &str| piece(index, json!({"index": 0, "function": {"arguments": text}}));
    let end = |index: u64| chunk(json!([{"index": index, "delta": {}, "finish_reason": "tool_calls"}]));
    let documents = [
        begin(0),
        begin(1),
        more(0, "{\"ci"),
        more(1, "{\"city\":"),
        more(0, "ty\":\"Rome\"}"),
        more(1, "\"Bonn\"]"),
        end(0),
        end(1),
    ];
    assert_eq!(quality(sse(&documents)), Quality { malformed_arguments: 1, ..Quality::default() });
}

#[test]
fn circles_in_a_stream_and_in_a_plain_answer() {
    let round = Quality { repetition: true, ..Quality::default() };
    let text = "I will try again. ".repeat(40);
    assert_eq!(quality(plain(json!({"content": text}), "stop").to_string()), round);
    let pieces: Vec<Value> = text.split_inclusive(' ').map(|word| delta(json!({"content": word}))).collect();
    assert_eq!(quality(sse(&[pieces, vec![finish("stop")]].concat())), round);
}

#[test]
fn improbable_answers_are_marked_below_the_threshold() {
    let token = |logprob: f64| json!({"token": "x", "logprob": logprob, "top_logprobs": []});
    let with = |logprobs: Value| {
        with(
            delta(json!({"content": "x"})),
            "choices",
            json!([{"index": 0, "delta": {"content": "x"},
        "logprobs": {"content": logprobs}, "finish_reason": null}]),
        )
    };
    let response = sse(&[with(json!([token(-1.0)])), with(json!([token(-4.0), token(-1.0)])), finish("stop")]);
    let expect = Quality { logprob_mean: Some(-2.0), logprob_min: Some(-4.0), ..Quality::default() };
    assert_eq!(quality(response.clone()), expect);
    let marked = |threshold: f64| {
        let line = RequestLine { method: "POST", path: CHAT, host: None, headers: None };
        let options = Options { low_confidence: Some(threshold), ..Options::default() };
        let mut session = Session::open(&line, &options).unwrap();
        session.response_body(response.as_bytes(), &mut |_| ());
        session.response_end(&mut |_| ());
        session.into_facts().quality.low_confidence
    };
    assert!(marked(-1.9) && !marked(-2.1));
}

#[test]
fn a_gap_leaves_unknown_what_cannot_be_judged() {
    let mut session = Exchange { request: offering(), ..Exchange::default() }.open();
    session.response_head(200, &typed(Some("text/event-stream")));
    let tool = json!({"tool_calls": [{"index": 0, "id": "a", "function": {"name": "f", "arguments": "{\"ci"}}]});
    session.response_body(format!("data: {}\n\n", delta(tool)).as_bytes(), &mut |_| ());
    session.response_gap();
    let rest = json!({"tool_calls": [{"index": 0, "function": {"arguments": "\"}"}}]});
    session.response_body(sse(&[delta(rest), finish("tool_calls")]).as_bytes(), &mut |_| ());
    session.response_end(&mut |_| ());
    assert_eq!(session.into_facts().quality, Quality::default());
}

#[test]
fn a_request_that_was_not_read_whole_has_no_history() {
    let exchange = Exchange::default();
    let history = exchange.run().facts.history.expect("read whole");
    assert_eq!((history.messages, exchange.run_in(&[1]).facts.history), (1, Some(history)));
    let mut session = exchange.open();
    session.request_body(&exchange.request.as_bytes()[..20]);
    session.request_gap();
    session.request_end();
    assert_eq!(session.into_facts().history, None);
    let cut = Exchange { request: exchange.request[..40].to_owned(), ..Exchange::default() };
    assert_eq!(cut.run().facts.history, None);
}

/// The quality of a whole exchange of another API, which must be the same in any cut, with content and without.
fn quality_of(path: &str, request: &Value, response: &str) -> Quality {
    let mut exchange =
        Exchange { path, request: request.to_string(), response: response.to_owned(), ..Exchange::default() };
    let whole = exchange.run().facts.quality;
    assert_eq!(exchange.run_in(&[1]).facts.quality, whole);
    exchange.content = Some(100_000);
    assert_eq!(exchange.run_in(&[7, 300]).facts.quality, whole, "with content on");
    whole
}

fn events(documents: &[Value]) -> String {
    documents.iter().map(|document| format!("data: {document}\n\n")).collect()
}

#[test]
fn anthropic_arguments_whole_and_in_pieces() {
    let schema = json!({"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]});
    let request =
        json!({"model": "m", "max_tokens": 9, "messages": [], "tools": [{"name": "f", "input_schema": schema}]});
    let whole = |input: Value| {
        let block = json!({"type": "tool_use", "id": "t", "name": "f", "input": input});
        json!({"type": "message", "role": "assistant", "content": [block], "stop_reason": "tool_use"}).to_string()
    };
    let of = |response: String| {
        let quality = quality_of("/v1/messages", &request, &response);
        (quality.malformed_arguments, quality.mismatched_arguments)
    };
    assert_eq!(of(whole(json!({"city": "x".repeat(1_000)}))), (0, 0));
    assert_eq!(of(whole(json!({"town": "Rome"}))), (0, 1));
    let stream = |pieces: &[&str]| {
        let mut documents = vec![
            json!({"type": "message_start", "message": {"role": "assistant", "type": "message"}}),
            json!({"type": "content_block_start", "index": 0, "content_block": {"type": "tool_use", "id": "t", "name": "f", "input": {}}}),
        ];
        let piece = |text: &&str| json!({"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": text}});
        documents.extend(pieces.iter().map(piece));
        documents.push(json!({"type": "message_delta", "delta": {"stop_reason": "tool_use"}}));
        documents.push(json!({"type": "message_stop"}));
        events(&documents)
    };
    assert_eq!(of(stream(&["", "{\"ci", "ty\":\"Rome\"}"])), (0, 0));
    assert_eq!(of(stream(&["{\"ci", "ty\":\"Rome\""])), (1, 0));
    assert_eq!(of(stream(&["{\"city\":", "5}"])), (0, 1));
    let refused = json!({"type": "message", "role": "assistant", "content": [{"type": "text", "text": "x"}], "stop_reason": "refusal"});
    assert!(quality_of("/v1/messages", &request, &refused.to_string()).refusal);
}

#[test]
fn responses_terminal_event_is_not_judged_twice() {
    let request = json!({"model": "m", "input": "hi"});
    let call = json!({"type": "function_call", "call_id": "c", "name": "f", "arguments": "{\"a\":1}"});
    let documents = [
        json!({"type": "response.output_item.added", "output_index": 0, "item": {"type": "function_call", "call_id": "c", "name": "f", "arguments": ""}}),
        json!({"type": "response.function_call_arguments.delta", "output_index": 0, "delta": "{\"a\""}),
        json!({"type": "response.function_call_arguments.delta", "output_index": 0, "delta": ":1}"}),
        json!({"type": "response.output_item.done", "output_index": 0, "item": call}),
        json!({"type": "response.completed", "response": {"object": "response", "status": "completed", "output": [call]}}),
    ];
    assert_eq!(quality_of("/v1/responses", &request, &events(&documents)), Quality::default());
    let refusal = json!({"type": "message", "content": [{"type": "refusal", "refusal": "I cannot"}]});
    let plain = json!({"object": "response", "status": "completed", "output": [refusal]});
    assert_eq!(
        quality_of("/v1/responses", &request, &plain.to_string()),
        Quality { refusal: true, ..Quality::default() }
    );
}

#[test]
fn gemini_arguments_are_an_object() {
    let declared = json!({"name": "f", "parameters": {"type": "OBJECT", "properties": {"city": {"type": "STRING"}}, "required": ["city"]}});
    let request = json!({"contents": [{"parts": [{"text": "hi"}]}], "tools": [{"functionDeclarations": [declared]}]});
    let of = |args: Value| {
        let part = json!({"functionCall": {"name": "f", "args": args}});
        let response = json!({"candidates": [{"content": {"parts": [part], "role": "model"}, "finishReason": "STOP", "avgLogprobs": -0.5}]});
        quality_of("/v1beta/models/gemini-2:generateContent", &request, &response.to_string())
    };
    let good = Quality { logprob_mean: Some(-0.5), ..Quality::default() };
    assert_eq!(of(json!({"city": "Rome"})), good);
    assert_eq!(of(json!({"city": 5})), Quality { mismatched_arguments: 1, ..good });
}

#[test]
fn tokens_are_estimated_only_where_asked_for_and_not_reported() {
    let words = "one two three four five six seven eight nine ten ".repeat(10);
    let request = json!({"model": "m", "messages": [{"role": "user", "content": words}]}).to_string();
    let of = |response: String, estimate: Option<Estimator>, sizes: &[usize]| {
        let line = RequestLine { method: "POST", path: CHAT, host: None, headers: None };
        let options = Options { estimate, server: Some((7, 8)), ..Options::default() };
        let mut session = Session::open(&line, &options).unwrap();
        pieces(request.as_bytes(), sizes, |piece| session.request_body(piece));
        session.request_end();
        session.response_head(200, &typed(None));
        pieces(response.as_bytes(), sizes, |piece| session.response_body(piece, &mut |_| ()));
        session.response_end(&mut |_| ());
        session.into_facts().estimated
    };
    let silent = plain(json!({"content": words}), "stop").to_string();
    let reference = Some(Estimator::by_reference());
    assert_eq!(of(silent.clone(), None, &[100]), None);
    let estimated = of(silent.clone(), reference, &[usize::MAX]).unwrap();
    // The blank at the end is one too, and a message has three and a half around it.
    let expect = |input, output, method| Estimated { input: Some(input), output: Some(output), method: Some(method) };
    assert_eq!(estimated, expect(104, 101, Method::O200kBase));
    assert_eq!(of(silent.clone(), reference, &[1]), Some(estimated));
    let deltas: Vec<Value> = words.split_inclusive(' ').map(|word| delta(json!({"content": word}))).collect();
    assert_eq!(of(sse(&[deltas, vec![finish("stop")]].concat()), reference, &[7]), Some(estimated));
    let told = with(plain(json!({"content": words}), "stop"), "usage", usage(1, 2)).to_string();
    assert_eq!(of(told, reference, &[100]), Some(Estimated::default()));
    // A model whose tokens are letters, in the process that answers.
    assert_eq!(of(silent, Some(Estimator::new(&Letters)), &[9]), Some(expect(490 + 3, 490, Method::Tokenizer)));
}

/// Knows one process, and that its model's tokens are bytes.
struct Letters;

impl Vocabularies for Letters {
    fn of(&self, tgid: u32, start_ns: u64) -> Option<&'static dyn Vocabulary> {
        ((tgid, start_ns) == (7, 8)).then_some(&Letters)
    }
}

impl Vocabulary for Letters {
    fn count(&self, text: &str) -> Option<u64> {
        Some(text.len() as u64)
    }
}
