//! What local engines say, in their own APIs and beside OpenAI's.

use super::*;

const OLLAMA_CHAT: &str = "/api/chat";

/// A call of Ollama's API, its answer one document a line.
fn lines(path: &'static str, request: &str, documents: &[Value]) -> Outcome {
    checked(&Exchange {
        path,
        request: request.to_owned(),
        content_type: Some("application/x-ndjson"),
        response: documents.iter().map(|document| format!("{document}\n")).collect(),
        content: Some(10_000),
        ..Exchange::default()
    })
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
    ], "tools": [{"type": "function"}], "format": "json",
        "options": {"num_predict": 64, "temperature": 0.2, "top_p": 0.9, "top_k": 40, "seed": 7, "stop": ["###"]}});
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
    assert_eq!((stream.proof, stream.finished, stream.is_stream), (Proof::Request, true, true));
    assert_eq!(carrying(&stream), [true, true, true, false, false]);
    let Facts { api, operation, provider, request, response, usage, timings, content, .. } = stream.facts;
    assert_eq!((api, operation, provider), ("ollama.chat", "chat", "ollama"));
    let expect = RequestFacts {
        model: Some("qwen3".into()),
        stream: Some(true),
        max_tokens: Some(64),
        temperature: Some(0.2),
        top_p: Some(0.9),
        seed: Some(7),
        top_k: Some(40.0),
        stop_sequences: vec!["###".into()],
        output_type: Some("json"),
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
    assert_eq!((carrying(&stream), stream.proof, stream.finished), (vec![false], Proof::Response, true));
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

fn reported(input: u64, output: u64) -> Usage {
    Usage { input: Some(input), output: Some(output), ..Usage::default() }
}

#[test]
fn llamacpp_prompt_progress() {
    let piece = |text: &str, n: u64| {
        json!({"index": 0, "content": text, "tokens": [n], "stop": false, "id_slot": -1, "tokens_predicted": n,
        "tokens_evaluated": 9})
    };
    let progress =
        with(piece("", 0), "prompt_progress", json!({"total": 9, "cache": 2, "processed": 5, "time_ms": 10}));
    let last = json!({"index": 0, "content": "", "tokens": [], "stop": true, "id_slot": 0, "model": "qwen3", "tokens_predicted": 2,
        "tokens_evaluated": 9, "generation_settings": {"seed": 1}, "stop_type": "limit", "tokens_cached": 10, "timings":
        {"cache_n": 2, "prompt_n": 7, "prompt_ms": 70.0, "predicted_n": 2, "predicted_ms": 40.0, "predicted_per_token_ms": 20.0}});
    let request = json!({"prompt": "a", "n_predict": 2, "stream": true, "temperature": 0.5, "seed": 3});
    let outcome = events("/completion", request, &[progress, piece("b", 1), piece("c", 2), last], Some(1_000));
    assert_eq!(carrying(&outcome), [false, true, true, false]);
    let Facts { api, operation, provider, request, response, usage, timings, .. } = &outcome.facts;
    assert_eq!((*api, *operation, *provider), ("llamacpp.completion", "text_completion", "llama_cpp"));
    assert_eq!((request.max_tokens, request.temperature, request.seed), (Some(2), Some(0.5), Some(3)));
    assert_eq!((response.model.as_deref(), &response.finish_reasons[..]), (Some("qwen3"), &["limit".to_owned()][..]));
    assert_eq!(*usage, Usage { cache_read: Some(2), ..reported(9, 2) });
    let expect = Timings { prompt: Some(0.07), generation: Some(0.04), inter_token: Some(0.02), ..Timings::default() };
    assert_eq!(*timings, expect);
    assert_eq!((outcome.proof, outcome.finished), (Proof::Request, true));
    assert_eq!(output(&outcome)[0]["parts"], json!([{"type": "text", "content": "bc"}]));
}

#[test]
fn llamacpp_several_prompts_are_an_array() {
    let result = |index: u32, text: &str| {
        json!({"index": index, "content": text, "stop": true, "id_slot": index, "tokens_predicted": 3,
        "tokens_evaluated": 5, "stopped_eos": true})
    };
    let outcome = plain(
        "/completions",
        json!({"prompt": ["a", "b"], "cache_prompt": true}),
        json!([result(0, "x"), result(1, "y")]),
    );
    assert_eq!(outcome.facts.usage, reported(10, 6));
    assert_eq!(
        (&outcome.facts.response.finish_reasons[..], outcome.finished),
        (&["eos".into(), "eos".into()][..], true)
    );
    assert_eq!(output(&outcome)[1]["parts"][0]["content"], "y");
}

#[test]
fn llamacpp_context_overflow() {
    let error = json!({"error": {"code": 400, "message": "the request exceeds the available context size",
        "type": "exceed_context_size_error", "n_prompt_tokens": 9, "n_ctx": 8}});
    let outcome = Exchange {
        path: "/completion",
        request: json!({"prompt": "a"}).to_string(),
        status: 400,
        response: error.to_string(),
        ..Exchange::default()
    }
    .run();
    assert_eq!(outcome.facts.error.as_deref(), Some("exceed_context_size_error"));
    assert_eq!(outcome.proof, Proof::Response);
}

#[test]
fn completions_of_llamacpp_and_of_openai_share_a_path() {
    let of = |request: Value, response: Value| plain("/completions", request, response).facts.api;
    let openai = json!({"object": "text_completion", "choices": [{"index": 0, "text": "x", "finish_reason": "stop"}]});
    let native = json!({"content": "x", "stop": true, "tokens_predicted": 1, "stop_type": "eos"});
    assert_eq!(of(json!({"model": "m", "prompt": "a"}), openai.clone()), "openai.completions");
    assert_eq!(of(json!({"prompt": "a"}), openai), "openai.completions");
    assert_eq!(of(json!({"prompt": "a"}), native.clone()), "llamacpp.completion");
    assert_eq!(of(json!({"model": "m", "prompt": "a", "n_predict": 1}), native), "llamacpp.completion");
}

#[test]
fn llamacpp_counts_in_a_chat_that_asked_for_no_usage() {
    let timings = json!({"prompt_n": 7, "cache_n": 2, "predicted_n": 3});
    let facts = served(&[delta(json!({"content": "a"})), with(finish("stop"), "timings", timings)], &[]);
    assert_eq!(facts.usage, Usage { cache_read: Some(2), ..reported(9, 3) });
    let facts = served(&[with(finish("stop"), "timings", json!({"prompt_n": 7, "predicted_n": 3}))], &[]);
    assert_eq!(facts.usage, Usage { output: Some(3), ..Usage::default() }, "what was cached is not known");
}

#[test]
fn llamacpp_infill() {
    let response =
        json!({"content": "x", "stop": true, "tokens_predicted": 1, "tokens_evaluated": 4, "stop_type": "eos"});
    let outcome = plain("/infill", json!({"input_prefix": "a", "input_suffix": "b"}), response);
    assert_eq!((outcome.proof, outcome.facts.usage), (Proof::Request, reported(4, 1)));
}

#[test]
fn tgi_one_token_per_event() {
    let token = |text: &str, special: bool| {
        json!({"index": 1, "token": {"id": 7, "text": text, "logprob": -0.5, "special": special},
        "generated_text": null, "details": null})
    };
    let mut last = token("</s>", true);
    last["generated_text"] = json!("a b");
    last["details"] = json!({"finish_reason": "eos_token", "generated_tokens": 3, "input_length": 12, "seed": null});
    let request = json!({"inputs": "q", "parameters": {"max_new_tokens": 20, "temperature": 0.5, "details": true}});
    let outcome = events("/generate_stream", request, &[token("a", false), token(" b", false), last], Some(1_000));
    assert_eq!(carrying(&outcome), [true, true, false]);
    assert_eq!((outcome.facts.api, outcome.facts.provider), ("tgi.generate", "tgi"));
    assert_eq!((outcome.facts.usage, outcome.facts.request.max_tokens), (reported(12, 3), Some(20)));
    assert_eq!((&outcome.facts.response.finish_reasons[..], outcome.finished), (&["eos_token".to_owned()][..], true));
    assert_eq!(output(&outcome)[0]["parts"], json!([{"type": "text", "content": "a b"}]), "nothing is said twice");
}

#[test]
fn tgi_counts_in_the_head() {
    let mut session = Exchange { path: "/generate", ..Exchange::default() }.open();
    session.request_body(br#"{"inputs":"q"}"#);
    session.request_end();
    assert_eq!(session.proof(), Proof::Pending, "other programs have such requests");
    let mut headers = typed(Some("application/json"));
    for (name, value) in
        [("x-prompt-tokens", "12"), ("x-generated-tokens", "5"), ("x-total-time", "250"), ("x-queue-time", "1")]
    {
        headers.take(name, value.as_bytes());
    }
    session.response_head(200, &headers);
    session.response_body(br#"{"generated_text":"a"}"#, &mut |_| {});
    session.response_end(&mut |_| {});
    let outcome = outcome(session, vec![]);
    assert_eq!(
        (outcome.proof, outcome.facts.api, outcome.facts.usage),
        (Proof::Response, "tgi.generate", reported(12, 5))
    );
    assert_eq!((outcome.facts.timings.total, outcome.facts.timings.queue), (Some(0.25), Some(0.001)));
}

#[test]
fn tgi_error_in_a_stream() {
    let request = json!({"inputs": "q", "parameters": {}});
    let error = json!({"error": "Request failed during generation", "error_type": "generation"});
    let outcome = events("/generate_stream", request, &[error], None);
    assert_eq!((outcome.facts.error.as_deref(), outcome.finished), (Some("generation"), false));
}

#[test]
fn sglang_cumulative_text() {
    let event = |text: &str, n: u64, reason: Value| {
        json!({"text": text, "output_ids": [1], "meta_info": {"id": "r1", "finish_reason": reason,
        "prompt_tokens": 6, "completion_tokens": n, "cached_tokens": 4, "e2e_latency": 1.5}})
    };
    let documents = [
        event("gr", 1, Value::Null),
        // Half a character is held back.
        event("gr", 2, Value::Null),
        event("größe", 3, Value::Null),
        event("größe", 3, json!({"type": "length", "length": 3})),
    ];
    let request = json!({"text": "q", "sampling_params": {"max_new_tokens": 3, "temperature": 0}, "stream": true});
    for content in [None, Some(1_000)] {
        let outcome = events("/generate", request.clone(), &documents, content);
        assert_eq!(carrying(&outcome), [true, true, true, false], "tokens come while the text waits");
        assert_eq!((outcome.facts.api, outcome.facts.provider), ("sglang.generate", "sglang"));
        assert_eq!(outcome.facts.usage, Usage { cache_read: Some(4), ..reported(6, 3) });
        assert_eq!((outcome.facts.timings.total, outcome.facts.response.id.as_deref()), (Some(1.5), Some("r1")));
        assert_eq!((&outcome.facts.response.finish_reasons[..], outcome.finished), (&["length".to_owned()][..], true));
        if content.is_some() {
            assert_eq!(output(&outcome)[0]["parts"], json!([{"type": "text", "content": "größe"}]));
        }
    }
    let increments = [event("gr", 1, Value::Null), event("öße", 2, Value::Null), event("ö", 3, Value::Null)];
    let outcome = events("/generate", request, &increments, Some(1_000));
    assert_eq!(output(&outcome)[0]["parts"][0]["content"], "größeö");
    assert!(!outcome.finished);
}

#[test]
fn sglang_several_results_of_a_prompt() {
    let result = |text: &str| {
        json!({"text": text, "meta_info": {"id": "r", "finish_reason": {"type": "stop", "matched": 2},
        "prompt_tokens": 6, "completion_tokens": 2}})
    };
    let request = json!({"input_ids": [1, 2], "sampling_params": {"n": 2}});
    let outcome = plain("/generate", request, json!([result("a"), result("b")]));
    assert_eq!((outcome.facts.usage, outcome.proof), (reported(6, 4), Proof::Request), "one prompt is counted once");
    assert_eq!((output(&outcome)[1]["parts"][0]["content"].as_str(), outcome.finished), (Some("b"), true));
}

#[test]
fn sglang_abort() {
    let aborted = json!({"text": "", "meta_info": {"id": "r", "prompt_tokens": 6, "completion_tokens": 0, "finish_reason":
        {"type": "abort", "message": "too long: sk-x", "status_code": 400, "err_type": "BadRequestError"}}});
    let request = json!({"text": "q", "sampling_params": {}});
    let outcome = events("/generate", request.clone(), &[aborted], None);
    assert_eq!((outcome.facts.error.as_deref(), carrying(&outcome)), (Some("BadRequestError"), vec![false]));
    let refused = events("/generate", request, &[json!({"error": {"message": "m"}})], None);
    assert_eq!(refused.facts.error.as_deref(), Some("_OTHER"));
}

#[test]
fn generate_is_whose_request_it_looks_like() {
    let of = |request: Value| plain("/generate", request, json!({})).facts.api;
    assert_eq!(of(json!({"inputs": "q", "parameters": {"top_p": 1}})), "tgi.generate");
    assert_eq!(of(json!({"sampling_params": {}, "text": "q"})), "sglang.generate");
    assert_eq!(plain("/generate", json!({"text": "q"}), json!({"text": "a"})).proof, Proof::Refuted);
}

#[test]
fn sagemaker_s_path_takes_every_engine_s_request() {
    let of = |request: Value, response: Value| plain("/invocations", request, response).facts.api;
    assert_eq!(of(json!({"model": "m", "messages": []}), json!({})), "openai.chat");
    assert_eq!(of(json!({"prompt": "q"}), json!({})), "openai.completions");
    assert_eq!(of(json!({"inputs": "q", "parameters": {}}), json!([{"generated_text": "a"}])), "tgi.generate");
    let other = plain("/invocations", json!({"inputs": "q", "parameters": {}}), json!([{"label": "x", "score": 1}]));
    assert_eq!(other.proof, Proof::Refuted, "a classifier's answer");
}

#[test]
fn lmstudio_chat_stream() {
    let result = json!({"model_instance_id": "qwen3", "output": [{"type": "message", "content": "hi"}], "response_id": "resp_1",
        "stats": {"input_tokens": 9, "total_output_tokens": 5, "reasoning_output_tokens": 2, "tokens_per_second": 40.5,
            "time_to_first_token_seconds": 0.25, "model_load_time_seconds": 2.5}});
    let documents = [
        json!({"type": "chat.start", "model_instance_id": "qwen3"}),
        json!({"type": "model_load.start", "model_instance_id": "qwen3"}),
        json!({"type": "model_load.end", "model_instance_id": "qwen3", "load_time_seconds": 2.5}),
        json!({"type": "prompt_processing.progress", "progress": 0.5}),
        json!({"type": "reasoning.start"}),
        json!({"type": "reasoning.delta", "content": "hm"}),
        json!({"content": "hi", "type": "message.delta"}),
        json!({"type": "tool_call.start", "tool": "search"}),
        json!({"type": "tool_call.arguments", "tool": "search", "arguments": {"q": "x"}}),
        json!({"type": "tool_call.success", "tool": "search", "output": "[]"}),
        json!({"type": "chat.end", "result": result}),
    ];
    let request = json!({"model": "qwen3", "input": "q", "system_prompt": "s", "stream": true, "max_output_tokens": 9});
    for content in [None, Some(1_000)] {
        let outcome = events("/api/v1/chat", request.clone(), &documents, content);
        assert_eq!(
            carrying(&outcome),
            [false, false, false, false, false, true, true, true, true, false, false],
            "loading and reading are no tokens"
        );
        assert_eq!((outcome.facts.api, outcome.facts.provider, outcome.finished), ("lmstudio.chat", "lm_studio", true));
        assert_eq!(outcome.facts.usage, Usage { reasoning: Some(2), ..reported(9, 5) });
        assert_eq!((outcome.facts.timings.first_token, outcome.facts.timings.load), (Some(0.25), Some(2.5)));
        assert_eq!(outcome.facts.response.tool_calls, ["search"]);
        if content.is_some() {
            assert_eq!(
                output(&outcome)[0]["parts"],
                json!([{"type": "reasoning", "content": "hm"}, {"type": "text", "content": "hi"},
                    {"type": "tool_call", "name": "search", "arguments": {"q": "x"}}])
            );
        }
    }
}

#[test]
fn lmstudio_chat_plain() {
    let response = json!({"model_instance_id": "qwen3", "output": [{"type": "reasoning", "content": "hm"},
        {"type": "tool_call", "tool": "f", "arguments": {}, "output": "x"}, {"type": "message", "content": "hi"}],
        "response_id": "resp_1", "stats": {"input_tokens": 9, "total_output_tokens": 5, "time_to_first_token_seconds": 0.5}});
    let outcome = plain("/api/v1/chat", json!({"model": "m", "input": [{"type": "text", "content": "q"}]}), response);
    assert_eq!((outcome.facts.usage, outcome.proof, outcome.finished), (reported(9, 5), Proof::Response, true));
    assert_eq!(outcome.facts.response.id.as_deref(), Some("resp_1"));
    assert_eq!(outcome.facts.response.tool_calls, ["f"]);
    assert_eq!(output(&outcome)[0]["parts"][1], json!({"type": "text", "content": "hi"}));
    assert_eq!(input(&outcome)[0]["parts"][0]["content"], "q");
}

#[test]
fn lmstudio_v0_is_openai_s_with_stats() {
    let response = json!({"object": "chat.completion", "model": "m", "choices": [{"index": 0, "message": {"content": "a"},
        "finish_reason": "stop"}], "usage": usage(3, 2), "stats": {"tokens_per_second": 9.5, "time_to_first_token": 0.125,
        "generation_time": 0.5}});
    let outcome = plain("/api/v0/chat/completions", json!({"model": "m", "messages": []}), response);
    assert_eq!((outcome.facts.api, outcome.facts.provider), ("openai.chat", "lm_studio"));
    assert_eq!((outcome.facts.timings.first_token, outcome.facts.timings.generation), (Some(0.125), Some(0.5)));
}

#[test]
fn triton_generate_stream() {
    let piece = |text: &str, n: u64| {
        json!({"model_name": "llama", "model_version": "1", "text_output": text, "num_input_tokens": 7,
        "num_output_tokens": n})
    };
    let last = with(piece("", 0), "finish_reason", json!("stop"));
    let request = json!({"text_input": "q", "parameters": {"stream": true, "temperature": 0.5, "max_tokens": 9}});
    let outcome =
        events("/v2/models/llama/versions/1/generate_stream", request, &[piece("a", 2), piece("b", 1), last], Some(99));
    assert_eq!(carrying(&outcome), [true, true, false]);
    let Facts { api, provider, request, response, usage, .. } = &outcome.facts;
    assert_eq!((*api, *provider, request.model.as_deref()), ("triton.infer", "triton", Some("llama")));
    assert_eq!((request.stream, request.max_tokens, response.model.as_deref()), (Some(true), Some(9), Some("llama")));
    assert_eq!((*usage, outcome.proof, outcome.finished), (reported(7, 3), Proof::Request, true));
    assert_eq!(output(&outcome)[0]["parts"][0]["content"], "ab");
}

#[test]
fn triton_error_under_200() {
    let request = json!({"text_input": "q"});
    let documents = [json!({"model_name": "m", "text_output": "a"}), json!({"error": "failed to generate"})];
    let outcome = events("/v2/models/m/generate_stream", request, &documents, None);
    assert_eq!((outcome.facts.error.as_deref(), outcome.finished), (Some("_OTHER"), false));
}

#[test]
fn triton_infer_is_a_language_model_s_by_its_tensors() {
    let path = "/v2/models/ensemble/infer";
    let tensor = |name: &str, data: Value| json!({"name": name, "shape": [1, 1], "datatype": "BYTES", "data": data});
    let outcome = plain(
        path,
        json!({"inputs": [tensor("text_input", json!([["q"]])), tensor("max_tokens", json!([[20]]))]}),
        json!({"model_name": "ensemble", "id": "7", "outputs": [tensor("text_output", json!(["a"])), tensor("num_input_tokens", json!([4]))]}),
    );
    assert_eq!((outcome.proof, outcome.facts.request.max_tokens), (Proof::Request, Some(20)));
    assert_eq!((outcome.facts.usage.input, outcome.facts.response.id.as_deref()), (Some(4), Some("7")));
    assert_eq!(output(&outcome)[0]["parts"][0]["content"], "a");
    assert_eq!(input(&outcome)[0]["parts"][0]["content"], "q");
    let picture = plain(
        path,
        json!({"inputs": [tensor("image", json!([1]))]}),
        json!({"model_name": "resnet", "outputs": [tensor("probs", json!([0.5]))]}),
    );
    assert_eq!(picture.proof, Proof::Refuted);
}

#[test]
fn vllm_generate_takes_and_gives_numbers() {
    let piece = |ids: Value, reason: Value| json!({"request_id": "g-1", "choices": [{"index": 0, "token_ids": ids, "finish_reason": reason}]});
    let documents = [
        piece(json!([5, 6]), Value::Null),
        piece(json!([]), json!("stop")),
        json!({"request_id": "g-1", "choices": [], "usage": usage(3, 2)}),
    ];
    let request = json!({"model": "m", "token_ids": [1, 2, 3], "sampling_params": {"max_tokens": 8}, "stream": true});
    let outcome = events("/inference/v1/generate", request, &documents, None);
    assert_eq!(carrying(&outcome), [true, false, false]);
    assert_eq!((outcome.facts.api, outcome.finished), ("vllm.generate", true));
    assert_eq!(outcome.facts.usage, Usage { total: Some(5), ..reported(3, 2) });
    assert_eq!((outcome.facts.response.id.as_deref(), outcome.facts.request.max_tokens), (Some("g-1"), Some(8)));
}

#[test]
fn tasks_that_generate_nothing() {
    let pooled = json!({"id": "pool-1", "object": "list", "model": "m", "data": [{"index": 0, "object": "pooling", "data": [0.5]}],
        "usage": {"prompt_tokens": 4, "total_tokens": 4}});
    let outcome = plain("/pooling", json!({"model": "m", "input": "q"}), pooled);
    assert_eq!((outcome.facts.operation, outcome.facts.usage.input, outcome.finished), ("pooling", Some(4), true));
    let classes = json!({"id": "classify-1", "data": [{"index": 0, "label": "x", "probs": [0.5], "num_classes": 1}]});
    assert_eq!(plain("/classify", json!({"model": "m", "input": "q"}), classes).proof, Proof::Response);
    let tokens = json!({"count": 2, "max_model_len": 4096, "tokens": [1, 2]});
    let outcome = plain("/tokenize", json!({"model": "m", "prompt": "q"}), tokens);
    assert_eq!((outcome.facts.operation, outcome.facts.usage), ("tokenize", Usage::default()));
    for path in ["/pooling", "/classify", "/tokenize"] {
        assert_eq!(
            plain(path, json!({"model": "m"}), json!({"count": 1, "label": "x"})).proof,
            Proof::Refuted,
            "{path}"
        );
    }
}

#[test]
fn bedrock_times() {
    let converse = plain(
        "/model/amazon.nova-lite-v1%3A0/converse",
        json!({"messages": [{"role": "user", "content": [{"text": "hi"}]}]}),
        json!({"output": {"message": {"role": "assistant", "content": [{"text": "a"}]}}, "stopReason": "end_turn",
            "usage": {"inputTokens": 3, "outputTokens": 1, "totalTokens": 4}, "metrics": {"latencyMs": 250}}),
    );
    assert_eq!((converse.facts.api, converse.facts.timings.total), ("bedrock.converse", Some(0.25)));
    let metrics = json!({"type": "message_stop", "amazon-bedrock-invocationMetrics": {"inputTokenCount": 3, "outputTokenCount": 1,
        "invocationLatency": 500, "firstByteLatency": 125}});
    let invoke = plain(
        "/model/anthropic.claude-3-haiku-20240307-v1%3A0/invoke",
        json!({"anthropic_version": "bedrock-2023-05-31", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}),
        metrics,
    );
    let expect = Timings { total: Some(0.5), first_token: Some(0.125), ..Timings::default() };
    assert_eq!((invoke.facts.api, invoke.facts.timings), ("bedrock.invoke", expect));
}
