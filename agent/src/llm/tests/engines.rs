//! What local engines say, in their own APIs and beside OpenAI's.

use super::{
    super::{api::Draft, assemble, registry},
    *,
};
use crate::protocol::json::Scanner;

const OLLAMA_CHAT: &str = "/api/chat";

/// A call of a local engine's API that is not streamed, or streamed as events.
fn plain(path: &'static str, request: Value, response: Value) -> Outcome {
    Exchange {
        path,
        request: request.to_string(),
        response: response.to_string(),
        content: Some(10_000),
        ..Exchange::default()
    }
    .run()
}

/// What a stream of one document a line says.
struct Lines {
    facts: Facts,
    carrying: Vec<bool>,
    proof: (bool, bool),
    finished: bool,
}

/// Reads such a stream, its documents cut apart by the test.
fn lines(path: &str, request: &str, documents: &[Value]) -> Lines {
    let line = RequestLine { method: "POST", path, host: None, headers: None };
    let mut api = registry::find(&line).unwrap().apis.swap_remove(0);
    let mut draft = Draft::new(Some(10_000));
    Scanner::new(10_000).push(request.as_bytes(), &mut |path, token| api.request_value(path, token, &mut draft));
    let mut scanner = Scanner::new(10_000);
    let mut carrying = Vec::new();
    for document in documents {
        scanner.reset();
        scanner.push(document.to_string().as_bytes(), &mut |path, token| api.response_value(path, token, &mut draft));
        carrying.push(api.response_document(true, &mut draft));
    }
    let proof = (draft.request_proof, draft.response_proof);
    let finished = draft.failure.is_none() && api.is_finished(false, &draft);
    let facts = assemble::facts(&*api, draft, api.default_provider(), Some(10_000), Some(200));
    Lines { facts, carrying, proof, finished }
}

/// One line of Ollama's chat stream.
fn said(message: Value, done: bool) -> Value {
    json!({"model": "qwen3:4b", "created_at": "2026-01-01T00:00:00Z", "message": message, "done": done})
}

#[test]
fn ollama_stream_default_true() {
    let of = |request: Value| lines(OLLAMA_CHAT, &request.to_string(), &[]).facts.request.stream;
    assert_eq!(of(json!({"model": "m", "messages": []})), Some(true));
    assert_eq!(of(json!({"model": "m", "messages": [], "stream": false})), Some(false));
    // A request that was not seen whole may have said so in what is missing.
    assert_eq!(lines(OLLAMA_CHAT, r#"{"model":"m","messages":["#, &[]).facts.request.stream, None);
}

#[test]
fn ollama_chat_stream() {
    let request = json!({"model": "qwen3", "messages": [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "what is it", "images": ["AAAA"]},
        {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f", "arguments": {"k": "v"}}}]},
        {"role": "tool", "tool_name": "f", "content": "42"},
    ], "tools": [{"type": "function"}], "options": {"num_predict": 64, "temperature": 0.2, "top_p": 0.9, "seed": 7}});
    let mut last = said(json!({"role": "assistant", "content": ""}), true);
    for (key, value) in [
        ("done_reason", json!("stop")),
        ("total_duration", json!(5_000_000_000_u64)),
        ("load_duration", json!(1_500_000_000_u64)),
        ("prompt_eval_count", json!(26)),
        ("prompt_eval_duration", json!(250_000_000)),
        ("eval_count", json!(98)),
        ("eval_duration", json!(3_000_000_000_u64)),
    ] {
        last[key] = value;
    }
    let stream = lines(
        OLLAMA_CHAT,
        &request.to_string(),
        &[
            said(json!({"role": "assistant", "content": "", "thinking": "hm"}), false),
            said(json!({"role": "assistant", "content": "it is"}), false),
            said(
                json!({"role": "assistant", "content": "", "tool_calls": [{"function": {"index": 0, "name": "g",
                "arguments": {"city": "Wien", "n": [1, true]}}}]}),
                false,
            ),
            said(json!({"role": "assistant", "content": ""}), false),
            last,
        ],
    );
    assert_eq!((stream.proof, stream.finished), ((true, true), true));
    assert_eq!(stream.carrying, [true, true, true, false, false]);
    let Facts { api, operation, provider, request, response, usage, timings, content, .. } = stream.facts;
    assert_eq!((api, operation, provider), ("ollama.chat", "chat", "ollama"));
    let expect = RequestFacts {
        model: Some("qwen3".into()),
        stream: Some(true),
        max_tokens: Some(64),
        temperature: Some(0.2),
        top_p: Some(0.9),
        seed: Some(7),
        message_count: Some(4),
        tool_count: Some(1),
        ..RequestFacts::default()
    };
    assert_eq!(request, expect);
    assert_eq!((response.model.as_deref(), response.tool_calls), (Some("qwen3:4b"), vec!["g".to_owned()]));
    assert_eq!(response.finish_reasons, ["stop"]);
    assert_eq!(usage, Usage { input: Some(26), output: Some(98), ..Usage::default() });
    let expect =
        Timings { prompt: Some(0.25), generation: Some(3.0), load: Some(1.5), total: Some(5.0), ..Timings::default() };
    assert_eq!(timings, expect);
    let content = content.unwrap();
    let read = |text: Option<String>| serde_json::from_str::<Value>(&text.unwrap()).unwrap();
    assert_eq!(
        read(content.output_messages)[0]["parts"],
        json!([{"type": "reasoning", "content": "hm"}, {"type": "text", "content": "it is"},
            {"type": "tool_call", "name": "g", "arguments": {"city": "Wien", "n": [1, true]}}])
    );
    let input = read(content.input_messages);
    assert_eq!(input[1]["parts"][1], json!({"type": "blob", "modality": "image", "content": ""}));
    assert_eq!(input[2]["parts"][1], json!({"type": "tool_call", "name": "f", "arguments": {"k": "v"}}));
    assert_eq!(input[3]["parts"], json!([{"type": "tool_call_response", "response": "42"}]));
}

#[test]
fn ollama_generate_plain() {
    let outcome = plain(
        "/api/generate",
        json!({"model": "m", "system": "s", "prompt": "why", "stream": false, "options": {"num_predict": -1}}),
        json!({"model": "m", "response": "because", "thinking": "hm", "done": true, "done_reason": "length",
            "context": [1, 2], "total_duration": 1_000_000_000, "eval_count": 3, "eval_duration": 5}),
    );
    assert_eq!((outcome.facts.api, outcome.facts.operation), ("ollama.generate", "text_completion"));
    assert_eq!((outcome.proof, outcome.finished, outcome.is_stream), (Proof::Request, true, false));
    assert_eq!((outcome.facts.request.max_tokens, outcome.facts.request.stream), (None, Some(false)));
    assert_eq!(outcome.facts.usage, Usage { output: Some(3), ..Usage::default() }, "a cached prompt has no count");
    assert_eq!(outcome.facts.response.finish_reasons, ["length"]);
    assert_eq!(
        (input(&outcome)[0]["role"].as_str(), input(&outcome)[1]["role"].as_str()),
        (Some("user"), Some("system"))
    );
    assert_eq!(output(&outcome)[0]["parts"][1]["content"], "because");
}

#[test]
fn ollama_load_is_no_token() {
    let loaded = json!({"model": "m", "created_at": "t", "response": "", "done": true, "done_reason": "load"});
    let stream = lines("/api/generate", r#"{"model":"m","prompt":""}"#, &[loaded]);
    assert_eq!((stream.carrying, stream.proof, stream.finished), (vec![false], (false, true), true));
    assert_eq!((stream.facts.usage, stream.facts.provider), (Usage::default(), "ollama"));
}

#[test]
fn ollama_error_line_200() {
    let request = json!({"model": "m", "messages": []}).to_string();
    let stream = lines(
        OLLAMA_CHAT,
        &request,
        &[
            said(json!({"role": "assistant", "content": "a"}), false),
            json!({"error": "model runner has crashed: key sk-1"}),
        ],
    );
    assert_eq!((stream.facts.error.as_deref(), stream.finished), (Some("_OTHER"), false));
    let refused = |request: Value| Exchange {
        path: OLLAMA_CHAT,
        request: request.to_string(),
        status: 404,
        response: json!({"error": "model 'm' not found"}).to_string(),
        ..Exchange::default()
    };
    let outcome = refused(json!({"model": "m", "messages": []})).run();
    assert_eq!((outcome.proof, outcome.facts.error), (Proof::Response, None), "the status is the better name");
    assert_eq!(refused(json!({"messages": []})).run().proof, Proof::Refuted, "any program may answer that");
}

#[test]
fn ollama_path_is_that_of_many_web_programs() {
    let request = json!({"model": "gpt", "messages": [{"role": "user", "content": "hi"}]});
    let events = "data: {\"type\":\"text-delta\",\"delta\":\"hi\"}\n\ndata: [DONE]\n\n";
    let of = |request: &Value, response: &str| {
        Exchange {
            path: OLLAMA_CHAT,
            request: request.to_string(),
            response: response.to_owned(),
            ..Exchange::default()
        }
        .run()
        .proof
    };
    assert_eq!(of(&request, events), Proof::Refuted);
    assert_eq!(of(&with(request, "keep_alive", json!("5m")), ""), Proof::Request);
}

#[test]
fn sglang_ollama_emulation() {
    let response = json!({"model": "m", "created_at": "t", "message": {"role": "assistant", "content": "a"}, "done": true,
        "done_reason": "stop", "total_duration": 9, "load_duration": null, "prompt_eval_count": 4, "eval_count": 2,
        "eval_duration": null});
    let of = |response: &Value, server: &str| {
        let mut session = Exchange { path: OLLAMA_CHAT, ..Exchange::default() }.open();
        session.request_body(br#"{"model":"m","messages":[],"stream":false}"#);
        session.request_end();
        let mut headers = typed(Some("application/json"));
        headers.take("server", server.as_bytes());
        session.response_head(200, &headers);
        session.response_body(response.to_string().as_bytes(), &mut |_| {});
        session.response_end(&mut |_| {});
        session.into_facts()
    };
    let facts = of(&response, "uvicorn");
    assert_eq!((facts.provider, facts.usage.input, facts.usage.output), ("sglang", Some(4), Some(2)));
    assert_eq!(of(&with(response.clone(), "eval_duration", json!(7)), "uvicorn").provider, "ollama", "a gateway");
    assert_eq!(of(&response, "Ollama").provider, "ollama");
}

/// A chat call at a host that nobody knows.
fn served(response: &[Value], headers: &[(&str, &str)]) -> Facts {
    let mut session = Exchange { host: Some("localhost:8000"), ..Exchange::default() }.open();
    session.request_body(br#"{"model":"m","messages":[],"stream":true}"#);
    session.request_end();
    let mut head = typed(Some("text/event-stream"));
    headers.iter().for_each(|(name, value)| head.take(name, value.as_bytes()));
    session.response_head(200, &head);
    session.response_body(sse(response).as_bytes(), &mut |_| {});
    session.response_end(&mut |_| {});
    session.into_facts()
}

#[test]
fn an_engine_is_known_by_its_marks() {
    let of = |document: Value| served(&[delta(json!({"content": "a"})), document], &[]).provider;
    assert_eq!(of(finish("stop")), "openai");
    assert_eq!(of(with(finish("stop"), "system_fingerprint", json!("fp_ollama"))), "ollama");
    assert_eq!(of(with(finish("stop"), "system_fingerprint", json!("b6123-0ca5b8e1"))), "llama_cpp");
    assert_eq!(of(with(finish("stop"), "system_fingerprint", json!("3.3.4-sha-1a2b3c4"))), "tgi");
    assert_eq!(of(with(finish("stop"), "kv_transfer_params", Value::Null)), "vllm");
    assert_eq!(of(chunk(json!([{"index": 0, "delta": {}, "finish_reason": "stop", "stop_reason": null}]))), "vllm");
    assert_eq!(of(chunk(json!([{"index": 0, "delta": {}, "finish_reason": "stop", "matched_stop": 7}]))), "sglang");
    assert_eq!(served(&[], &[("Server", "llama.cpp")]).provider, "llama_cpp");
    assert_eq!(served(&[], &[("Server", "uvicorn")]).provider, "openai");
    let known = Exchange {
        host: Some("api.groq.com"),
        response: sse(&[with(finish("stop"), "system_fingerprint", json!("fp_ollama"))]),
        ..Exchange::default()
    };
    assert_eq!(known.run().facts.provider, "groq", "a host that is known says more");
}

#[test]
fn vllm_metrics_and_continuous_usage() {
    let facts = served(
        &[
            with(delta(json!({"reasoning": "hm"})), "usage", usage(5, 1)),
            with(delta(json!({"content": "a"})), "usage", usage(5, 2)),
            with(
                with(chunk(json!([])), "usage", usage(5, 3)),
                "metrics",
                json!({"time_to_first_token_ms": 20.5, "queue_time_ms": 1.5, "generation_time_ms": 40, "mean_itl_ms": 10,
                    "tokens_per_second": 99.5}),
            ),
        ],
        &[],
    );
    assert_eq!((facts.provider, facts.usage.output), ("vllm", Some(3)));
    let expect = Timings {
        queue: Some(0.0015),
        first_token: Some(0.0205),
        generation: Some(0.04),
        inter_token: Some(0.01),
        ..Timings::default()
    };
    assert_eq!(facts.timings, expect);
}

#[test]
fn times_in_usage_timings_and_headers() {
    let groq = json!({"queue_time": 0.5, "prompt_tokens": 5, "prompt_time": 0.25, "completion_tokens": 6,
        "completion_time": 0.125, "total_time": 0.375});
    let of = |document: Value| served(&[document], &[("x-queue-time", "3"), ("x-total-time", "9000")]).timings;
    let expect = Timings {
        queue: Some(0.5),
        prompt: Some(0.25),
        generation: Some(0.125),
        total: Some(0.375),
        ..Timings::default()
    };
    assert_eq!(of(with(finish("stop"), "usage", groq.clone())), expect);
    assert_eq!(of(with(finish("stop"), "x_groq", json!({"usage": groq}))), expect);
    let llama =
        json!({"prompt_n": 4, "prompt_ms": 50, "predicted_n": 2, "predicted_ms": 100, "predicted_per_token_ms": 50});
    let expect = Timings {
        queue: Some(0.003),
        prompt: Some(0.05),
        generation: Some(0.1),
        inter_token: Some(0.05),
        total: Some(9.0),
        ..Timings::default()
    };
    assert_eq!(of(with(finish("stop"), "timings", llama)), expect);
}
