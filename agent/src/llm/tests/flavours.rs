//! What the OpenAI-shaped APIs say, and in how many ways.

use super::*;

#[test]
fn plain_response_gives_everything() {
    let request = json!({
        "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "hi"}], "model": "gpt", "n": 1,
        "max_tokens": 5, "max_completion_tokens": 7, "temperature": 0.5, "top_p": 1, "frequency_penalty": 0.1,
        "presence_penalty": -0.1, "seed": -3, "tools": [{"type": "function", "function": {"name": "f"}}],
    });
    let response = json!({
        "id": "chatcmpl-1", "object": "chat.completion", "model": "gpt-2", "system_fingerprint": "fp", "service_tier": "default",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "hello", "refusal": null}, "finish_reason": "length"}],
        "usage": {"prompt_tokens": 9, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 1},
            "completion_tokens_details": {"reasoning_tokens": 1}},
    });
    let outcome = Exchange {
        request: request.to_string(),
        response: response.to_string(),
        content_type: Some("application/json"),
        ..Exchange::default()
    }
    .run();
    let expect = Facts {
        api: "openai.chat",
        operation: "chat",
        provider: "openai",
        request: RequestFacts {
            model: Some("gpt".into()),
            stream: None,
            max_tokens: Some(7),
            temperature: Some(0.5),
            top_p: Some(1.0),
            frequency_penalty: Some(0.1),
            presence_penalty: Some(-0.1),
            seed: Some(-3),
            choice_count: Some(1),
            message_count: Some(2),
            tool_count: Some(1),
            ..RequestFacts::default()
        },
        response: ResponseFacts {
            model: Some("gpt-2".into()),
            id: Some("chatcmpl-1".into()),
            finish_reasons: vec!["length".into()],
            tool_calls: vec![],
            system_fingerprint: Some("fp".into()),
            service_tier: Some("default".into()),
            ..ResponseFacts::default()
        },
        usage: Usage {
            input: Some(9),
            output: Some(2),
            cache_read: Some(4),
            cache_write: Some(1),
            reasoning: Some(1),
            ..Usage::default()
        },
        history: outcome.facts.history.clone(),
        quality: Quality { length: true, ..Quality::default() },
        ..Facts::default()
    };
    assert_eq!(outcome.facts, expect);
    assert_eq!((outcome.proof, outcome.finished, outcome.is_stream), (Proof::Request, true, false));
    assert_eq!((outcome.events, outcome.malformed), (vec![], None));
}

#[test]
fn completions_stream() {
    let piece = |text: &str| json!({"object": "text_completion", "choices": [{"index": 0, "text": text, "finish_reason": null}]});
    let outcome = Exchange {
        path: "/v1/completions",
        request: json!({"model": "m", "prompt": ["a", "b"], "stream": true}).to_string(),
        response: sse(&[piece(""), piece("x"), piece("y"), with(piece(""), "usage", usage(1, 2))]),
        content: Some(1_000),
        ..Exchange::default()
    }
    .run();
    assert_eq!((outcome.facts.api, outcome.facts.operation), ("openai.completions", "text_completion"));
    assert_eq!(carrying(&outcome), [false, true, true, false]);
    assert_eq!(counted(&outcome), (Some(1), Some(2)));
    assert_eq!(output(&outcome)[0]["parts"], json!([{"type": "text", "content": "xy"}]));
    assert_eq!(input(&outcome)[1]["parts"], json!([{"type": "text", "content": "b"}]));
}

#[test]
fn usage_chunk_with_choices() {
    let outcome = stream(&[delta(json!({"content": "a"})), with(finish("stop"), "usage", usage(3, 4))]);
    assert_eq!((counted(&outcome), carrying(&outcome)), ((Some(3), Some(4)), vec![true, false]));
}

#[test]
fn usage_repeated_keep_last() {
    let last = with(finish("stop"), "usage", Value::Null);
    let outcome = stream(&[
        with(delta(json!({"content": "a"})), "usage", usage(3, 1)),
        with(delta(json!({"content": "b"})), "usage", usage(3, 2)),
        last,
    ]);
    assert_eq!(counted(&outcome), (Some(3), Some(2)));
}

#[test]
fn obfuscation() {
    let outcome = stream(&[with(delta(json!({"content": ""})), "obfuscation", json!("aF3k"))]);
    assert_eq!(carrying(&outcome), [false]);
}

#[test]
fn role_only_first_chunk() {
    let outcome = stream(&[
        delta(json!({"role": "assistant"})),
        delta(json!({"role": "assistant", "content": "", "tool_calls": null, "function_call": null})),
        delta(json!({"reasoning_content": "hm", "reasoning": "hm"})),
        delta(json!({"content": "a"})),
        delta(json!({"refusal": "no"})),
        delta(json!({"tool_calls": [{"index": 0, "function": {"arguments": ""}}]})),
        finish("stop"),
    ]);
    assert_eq!(carrying(&outcome), [false, false, true, true, true, true, false]);
    assert_eq!(output(&outcome)[0]["parts"][0], json!({"type": "reasoning", "content": "hm"}), "one spelling is taken");
}

#[test]
fn n2_interleaved() {
    let piece = |index: u32, text: &str, reason: Value| {
        chunk(json!([{"delta": {"content": text}, "finish_reason": reason, "index": index}]))
    };
    let documents = [
        piece(1, "b1", Value::Null),
        piece(0, "a1", Value::Null),
        piece(1, "b2", Value::Null),
        piece(0, "a2", json!("length")),
        piece(1, "", json!("stop")),
        with(chunk(json!([])), "usage", usage(1, 8)),
    ];
    let outcome = stream(&documents);
    assert_eq!(outcome.facts.response.finish_reasons, ["length", "stop"]);
    let texts = |at: usize| output(&outcome)[at]["parts"][0]["content"].clone();
    assert_eq!((texts(0), texts(1)), (json!("a1a2"), json!("b1b2")));
    assert_eq!(output(&outcome)[0]["finish_reason"], "length");
}

#[test]
fn error_inside_200() {
    let error = json!({"error": {"message": "key sk-abc is bad", "type": "server_error", "code": null}});
    let outcome = stream(&[delta(json!({"content": "a"})), error.clone()]);
    assert_eq!(outcome.facts.error.as_deref(), Some("server_error"));

    let plain = |body: Value| Exchange { response: body.to_string(), ..Exchange::default() }.run();
    assert_eq!(plain(error).facts.error.as_deref(), Some("server_error"));
    let of = |body: Value| plain(body).facts.error;
    assert_eq!(of(json!({"error": {"code": 400, "type": "too_many", "message": "m"}})).as_deref(), Some("too_many"));
    assert_eq!(of(json!({"error": {"code": 502, "message": "m"}})).as_deref(), Some("502"));
    assert_eq!(of(json!({"error": {"code": "has spaces, so it is a message"}})).as_deref(), Some("_OTHER"));
    assert_eq!(of(json!({"error": "text"})).as_deref(), Some("_OTHER"));
    assert_eq!(of(json!({"code": "invalid_argument", "error": "text"})).as_deref(), Some("invalid_argument"));
    assert_eq!(of(json!({"object": "error", "message": "m", "type": "bad", "code": 3})).as_deref(), Some("bad"));
    assert_eq!(of(json!({"error": null, "object": "chat.completion", "choices": []})), None);
    assert!(!plain(json!({"error": {"code": "x"}})).finished);
}

#[test]
fn groq_tool_use_failed_mid_stream() {
    let error = json!({"error": {"message": "m", "type": "invalid_request_error", "code": "tool_use_failed", "failed_generation": "f"}});
    let outcome = stream(&[delta(json!({"role": "assistant"})), error]);
    assert_eq!(outcome.facts.error.as_deref(), Some("tool_use_failed"));
}

#[test]
fn x_groq_usage() {
    let outcome = stream(&[
        delta(json!({"content": "a"})),
        with(finish("stop"), "x_groq", json!({"id": "r", "usage": usage(5, 6)})),
    ]);
    assert_eq!(counted(&outcome), (Some(5), Some(6)));
}

#[test]
fn perplexity_done_not_appended() {
    let both = |delta: &str, so_far: &str, object: &str, reason: Value| {
        json!({"id": "p", "model": "sonar", "usage": usage(8, 5), "choices": [{"index": 0, "message": {"content": so_far},
            "delta": {"content": delta}, "finish_reason": reason}], "object": object})
    };
    let outcome = stream(&[
        both("1 ", "1 ", "chat.completion.chunk", Value::Null),
        both("2", "1 2", "chat.completion.chunk", Value::Null),
        both("", "1 2", "chat.completion.done", json!("stop")),
    ]);
    assert_eq!(carrying(&outcome), [true, true, false]);
    assert_eq!(output(&outcome)[0]["parts"], json!([{"type": "text", "content": "1 2"}]));
    assert_eq!(outcome.facts.response.finish_reasons, ["stop"]);

    let done = json!({"choices": [{"index": 0, "message": {"content": "a"}, "finish_reason": "stop"}], "object": "chat.completion.done"});
    let outcome = stream(&[delta(json!({"content": "a"})), done]);
    assert_eq!(carrying(&outcome), [true, false]);
    assert_eq!(output(&outcome)[0]["parts"], json!([{"type": "text", "content": "a"}]));
}

#[test]
fn openrouter_comments() {
    let response =
        ": OPENROUTER PROCESSING\n\n: OPENROUTER PROCESSING\n\n".to_owned() + &sse(&[delta(json!({"content": "a"}))]);
    let outcome = Exchange { response, ..Exchange::default() }.run();
    assert_eq!(outcome.events, [ResponseEvent::Event { content: true }, ResponseEvent::Done]);
    assert!(outcome.is_stream && outcome.finished);
}

#[test]
fn azure_empty_model_and_choices() {
    let first =
        json!({"id": "", "object": "", "model": "", "choices": [], "prompt_filter_results": [{"prompt_index": 0}]});
    let outcome = Exchange {
        path: "/openai/deployments/my-gpt/chat/completions",
        host: Some("x.openai.azure.com"),
        request: r#"{"messages":[]}"#.to_owned(),
        response: sse(&[first, delta(json!({"content": "a"})), finish("stop")]),
        ..Exchange::default()
    }
    .run();
    let Facts { request, response, provider, .. } = &outcome.facts;
    assert_eq!((request.model.as_deref(), response.model.as_deref()), (Some("my-gpt"), Some("m-1")));
    assert_eq!((response.id.as_deref(), *provider, outcome.proof), (Some("c1"), "azure.ai.openai", Proof::Request));
    assert_eq!(carrying(&outcome), [false, true, false]);
}

#[test]
fn mistral_content_array() {
    let parts =
        json!([{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, {"type": "text", "text": "hi"}]);
    let outcome = stream(&[delta(json!({"content": parts}))]);
    assert_eq!(carrying(&outcome), [true]);
    let expect = json!([{"type": "reasoning", "content": "hm"}, {"type": "text", "content": "hi"}]);
    assert_eq!(output(&outcome)[0]["parts"], expect);
    let none = stream(&[delta(json!({"content": [{"type": "text", "text": ""}]}))]);
    assert_eq!(carrying(&none), [false]);
}

#[test]
fn mistral_tool_call_without_index() {
    let call = |id: &str, name: &str| json!({"id": id, "function": {"name": name, "arguments": "{\"a\":1}"}});
    let outcome = stream(&[
        delta(json!({"tool_calls": [call("a", "f"), call("b", "g")]})),
        delta(json!({"tool_calls": [call("c", "f")]})),
        finish("tool_calls"),
    ]);
    assert_eq!(outcome.facts.response.tool_calls, ["f", "g", "f"]);
    assert_eq!(output(&outcome)[0]["parts"][2]["arguments"], json!({"a": 1}));
}

#[test]
fn tool_call_pieces_are_joined() {
    let piece = |call: Value| delta(json!({"tool_calls": [call]}));
    let outcome = stream(&[
        piece(json!({"index": 0, "id": "a", "function": {"name": "f", "arguments": ""}})),
        piece(json!({"function": {"arguments": "{\"x\""}, "index": 0})),
        piece(json!({"index": 1, "id": "b", "function": {"name": "g", "arguments": "{}"}})),
        piece(json!({"index": 0, "function": {"arguments": ":2}"}})),
    ]);
    assert_eq!(outcome.facts.response.tool_calls, ["f", "g"]);
    assert_eq!(
        output(&outcome)[0]["parts"][0],
        json!({"type": "tool_call", "id": "a", "name": "f", "arguments": {"x": 2}})
    );
}

#[test]
fn old_function_call() {
    let piece = |call: Value| delta(json!({"content": null, "function_call": call}));
    let outcome = stream(&[
        piece(json!({"name": "f", "arguments": ""})),
        piece(json!({"arguments": "{}"})),
        finish("function_call"),
    ]);
    assert_eq!(
        (outcome.facts.response.tool_calls.clone(), carrying(&outcome)),
        (vec!["f".to_owned()], vec![true, true, false])
    );
}

#[test]
fn cached_alias_not_summed() {
    let usage = json!({"prompt_tokens": 9, "completion_tokens": 1, "prompt_cache_hit_tokens": 4, "prompt_cache_miss_tokens": 5,
        "num_cached_tokens": 4, "prompt_tokens_details": {"cached_tokens": 4}});
    let outcome = stream(&[with(finish("stop"), "usage", usage)]);
    assert_eq!((outcome.facts.usage.cache_read, outcome.facts.usage.cache_write), (Some(4), None));
}
