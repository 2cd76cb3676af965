//! Calls that are no chat: embeddings, rerank, moderation, pictures, audio, watsonx's completions.

use super::*;

fn run(path: &str, request: Value, response: Value) -> Outcome {
    let (request, response) = (request.to_string(), response.to_string());
    checked(&Exchange { path, request, response, content: Some(10_000), ..Exchange::default() })
}

/// A form with these fields and a recording.
fn form(fields: &[(&str, &str)]) -> String {
    let field = |(name, value): &(&str, &str)| {
        format!("--XX\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
    };
    let file = "--XX\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\nContent-Type: audio/wav\r\n\r\nRIFF\0\r\n--X\r\n";
    fields.iter().map(field).collect::<String>() + file + "--XX--\r\n"
}

#[test]
fn embeddings_in_every_shape() {
    let vector = json!([0.1, -2e-3]);
    let openai = run(
        "/v1/embeddings",
        json!({"model": "e", "input": ["a", "b"], "dimensions": 2, "encoding_format": "base64"}),
        json!({"object": "list", "data": [{"object": "embedding", "index": 0, "embedding": "AAAA"}], "model": "e-1", "usage": {"prompt_tokens": 3, "total_tokens": 3}}),
    );
    let Facts { api, operation, request, response, .. } = &openai.facts;
    assert_eq!((*api, *operation, request.dimensions), ("embeddings", "embeddings", Some(2)));
    assert_eq!(
        (request.encoding_formats.as_slice(), response.model.as_deref()),
        (&["base64".to_owned()][..], Some("e-1"))
    );
    assert_eq!((counted(&openai), openai.proof, openai.finished), ((Some(3), None), Proof::Request, true));
    assert_eq!(input(&openai)[1]["parts"], json!([{"type": "text", "content": "b"}]));

    let voyage = run(
        "/v1/embeddings",
        json!({"model": "v", "input": "a"}),
        json!({"data": [{"embedding": vector}], "model": "v", "usage": {"total_tokens": 5}}),
    );
    assert_eq!(counted(&voyage), (Some(5), None));
    let cohere = run(
        "/v2/embed",
        json!({"model": "e", "texts": ["a"], "embedding_types": ["float", "int8"], "output_dimension": 4}),
        json!({"id": "x", "embeddings": {"float": [vector]}, "meta": {"billed_units": {"input_tokens": 7}}}),
    );
    assert_eq!(
        (counted(&cohere), cohere.facts.request.dimensions, cohere.facts.request.encoding_formats.len()),
        ((Some(7), None), Some(4), 2)
    );
    let ollama = run(
        "/api/embed",
        json!({"model": "m", "input": ["a"]}),
        json!({"model": "m", "embeddings": [vector], "prompt_eval_count": 9}),
    );
    assert_eq!((counted(&ollama), ollama.finished), ((Some(9), None), true));
    let older = run("/api/embeddings", json!({"model": "m", "prompt": "a"}), json!({"embedding": vector}));
    assert_eq!((older.proof, older.facts.usage), (Proof::Request, Usage::default()));
    let bare = run("/embed", json!({"inputs": ["a"]}), json!([vector]));
    assert_eq!((bare.proof, bare.finished), (Proof::Response, true));
    let gemini = run(
        "/v1beta/models/e:batchEmbedContents",
        json!({"requests": [{"model": "models/e", "content": {"parts": [{"text": "a"}]}, "outputDimensionality": 8}]}),
        json!({"embeddings": [{"values": vector}], "usageMetadata": {"promptTokenCount": 8, "promptTokenDetails": [{"modality": "TEXT", "tokenCount": 8}]}}),
    );
    assert_eq!(
        (counted(&gemini), gemini.facts.request.dimensions, gemini.facts.usage.text.input),
        ((Some(8), None), Some(8), Some(8))
    );
    assert_eq!(run("/v1/embed", json!({"inputs": 3}), json!({"ok": true})).proof, Proof::Refuted);
}

#[test]
fn rerank_and_score() {
    let cohere = run(
        "/v2/rerank",
        json!({"model": "r", "query": "q", "documents": ["a"], "top_n": 1}),
        json!({"id": "x", "results": [{"index": 0, "relevance_score": 0.7}], "meta": {"billed_units": {"search_units": 1}}}),
    );
    assert_eq!(
        (cohere.facts.api, cohere.facts.usage.search_units, cohere.facts.usage.input),
        ("rerank", Some(1), None)
    );
    let voyage = run(
        "/v1/rerank",
        json!({"model": "r", "query": "q", "documents": ["a"]}),
        json!({"data": [{"index": 0, "relevance_score": 0.7}], "usage": {"total_tokens": 17}}),
    );
    assert_eq!((counted(&voyage), voyage.finished), ((Some(17), None), true));
    let score = run(
        "/score",
        json!({"model": "r", "text_1": "a", "text_2": ["b"]}),
        json!({"object": "list", "data": [{"index": 0, "object": "score", "score": 0.5}], "usage": {"prompt_tokens": 4, "total_tokens": 4}}),
    );
    assert_eq!((counted(&score), score.proof), ((Some(4), None), Proof::Request));
    let bare = run("/rerank", json!({"query": "q", "texts": ["a"]}), json!([{"index": 0, "score": 0.5}]));
    assert_eq!(bare.proof, Proof::Response);
    assert_eq!(run("/score", json!({"player": 1}), json!({"data": [{"score": 3}]})).proof, Proof::Refuted, "a game's");
}

#[test]
fn moderation_counts_nothing() {
    let outcome = run(
        "/v1/moderations",
        json!({"model": "omni", "input": "a"}),
        json!({"id": "modr-1", "model": "omni-1", "results": [{"flagged": false, "categories": {}}]}),
    );
    assert_eq!(
        (outcome.facts.api, outcome.facts.operation, outcome.facts.usage),
        ("openai.moderations", "moderation", Usage::default())
    );
    assert_eq!((outcome.facts.response.id.as_deref(), outcome.finished), (Some("modr-1"), true));
    let default = run("/v1/moderations", json!({"input": ["a"]}), json!({"results": [{"flagged": true}]}));
    assert_eq!(default.proof, Proof::Response);
}

#[test]
fn pictures() {
    let counts = json!({"input_tokens": 5, "output_tokens": 100, "total_tokens": 105, "input_tokens_details": {"text_tokens": 2, "image_tokens": 3}});
    let plain = run(
        "/v1/images/generations",
        json!({"model": "gpt-image", "prompt": "a cat", "n": 2}),
        json!({"created": 1, "data": [{"b64_json": "AAAA"}], "usage": counts}),
    );
    assert_eq!(
        (plain.facts.api, plain.facts.operation, counted(&plain)),
        ("openai.images", "image_generation", (Some(5), Some(100)))
    );
    assert_eq!((plain.facts.usage.text.input, plain.facts.usage.image.input), (Some(2), Some(3)));
    assert_eq!(
        (plain.facts.request.output_type, plain.facts.request.choice_count, plain.finished),
        (Some("image"), Some(2), true)
    );

    let piece = |kind: &str| json!({"type": kind, "b64_json": "AAAA", "partial_image_index": 0});
    let events = [piece("image_generation.partial_image"), with(piece("image_generation.completed"), "usage", counts)];
    let request = json!({"model": "gpt-image", "prompt": "a cat", "stream": true}).to_string();
    let streamed =
        checked(&Exchange { path: "/v1/images/generations", request, response: named(&events), ..Exchange::default() });
    assert_eq!(
        (carrying(&streamed), counted(&streamed), streamed.finished),
        (vec![true, true], (Some(5), Some(100)), true)
    );

    let request = form(&[("model", "dall-e-2"), ("prompt", "a cat"), ("n", "3")]);
    let edited = checked(&Exchange {
        path: "/v1/images/edits",
        request,
        response: json!({"data": [{"url": "https://h/a.png"}]}).to_string(),
        ..Exchange::default()
    });
    assert_eq!(
        (edited.facts.request.model.as_deref(), edited.facts.request.choice_count, edited.proof),
        (Some("dall-e-2"), Some(3), Proof::Request)
    );
}

#[test]
fn transcriptions_come_as_forms() {
    let fields = [
        ("model", "whisper"),
        ("response_format", "verbose_json"),
        ("timestamp_granularities[]", "word"),
        ("temperature", "0.5"),
        ("stream", "false"),
    ];
    let exchange = |response: String| Exchange {
        path: "/v1/audio/transcriptions",
        request: form(&fields),
        response,
        content: Some(10_000),
        ..Exchange::default()
    };
    let plain = checked(&exchange(json!({"text": "hello", "usage": {"type": "tokens", "input_tokens": 37, "input_token_details": {"text_tokens": 0, "audio_tokens": 37},
        "output_tokens": 4, "total_tokens": 41}}).to_string()));
    let Facts { api, operation, request, usage, .. } = &plain.facts;
    assert_eq!((*api, *operation, request.model.as_deref()), ("openai.audio", "transcription", Some("whisper")));
    assert_eq!((request.stream, request.temperature, request.output_type), (Some(false), Some(0.5), Some("json")));
    assert_eq!((counted(&plain), usage.audio.input, plain.finished), ((Some(37), Some(4)), Some(37), true));
    assert_eq!(output(&plain)[0]["parts"], json!([{"type": "text", "content": "hello"}]));
    let timed = checked(&exchange(json!({"text": "hello", "usage": {"type": "duration", "seconds": 4}}).to_string()));
    assert_eq!((timed.facts.response.audio_seconds, timed.facts.usage), (Some(4.0), Usage::default()));
    let subtitles = checked(&exchange("1\n00:00:00,000 --> 00:00:01,000\nhello\n".to_owned()));
    assert_eq!((subtitles.malformed, subtitles.finished, subtitles.proof), (None, true, Proof::Request));

    let piece = |text: &str| json!({"type": "transcript.text.delta", "delta": text});
    let done = json!({"type": "transcript.text.done", "text": "hello", "usage": {"type": "tokens", "input_tokens": 37, "output_tokens": 4}});
    let streamed = checked(&exchange(sse(&[piece("hel"), piece("lo"), done])));
    assert_eq!(
        (carrying(&streamed), counted(&streamed), streamed.finished),
        (vec![true, true, false], (Some(37), Some(4)), true)
    );
    assert_eq!(output(&streamed)[0]["parts"], json!([{"type": "text", "content": "hello"}]));
}

#[test]
fn a_recording_is_not_kept() {
    let exchange = Exchange { path: "/v1/audio/transcriptions", content: Some(4_096), ..Exchange::default() };
    let mut session = exchange.open();
    let form = form(&[("model", "whisper")]);
    let (head, tail) = form.split_at(form.find("RIFF").expect("a recording"));
    session.request_body(head.as_bytes());
    let mut most = 0;
    for _ in 0..1_000 {
        session.request_body(&[b'\r'; 16 * 1024]);
        most = most.max(session.held());
    }
    session.request_body(tail.as_bytes());
    session.request_end();
    assert!(most < 4_096 && session.malformed().is_none() && session.proof() == Proof::Request, "{most} bytes held");
}

#[test]
fn speech_is_answered_with_audio() {
    let request = json!({"model": "tts", "input": "hello", "voice": "alloy", "response_format": "mp3"}).to_string();
    let exchange =
        Exchange { path: "/v1/audio/speech", request, content_type: Some("audio/mpeg"), ..Exchange::default() };
    let outcome = checked_bytes(&exchange, &[0xff, 0xf3, 0xc4, b'{', 0, 0x80, b'"', 0xe2]);
    assert_eq!((outcome.facts.operation, outcome.facts.request.output_type), ("speech", Some("speech")));
    assert_eq!(
        (outcome.malformed, outcome.finished, outcome.is_stream, outcome.facts.usage),
        (None, true, false, Usage::default())
    );
    let outcome = checked_bytes(&exchange, b"{\x80\x81 looks like a document and is not");
    assert_eq!(outcome.malformed, None);
    let events = [
        json!({"type": "speech.audio.delta", "audio": "AAAA"}),
        json!({"type": "speech.audio.done", "usage": {"input_tokens": 3, "output_tokens": 40}}),
    ];
    let streamed = checked(&Exchange { content_type: Some("text/event-stream"), response: named(&events), ..exchange });
    assert_eq!((carrying(&streamed), counted(&streamed)), (vec![true, false], (Some(3), Some(40))));
}

#[test]
fn watsonx_completions() {
    let request = json!({"model_id": "granite", "input": "hi", "project_id": "p", "parameters": {"max_new_tokens": 5, "stop_sequences": ["END"]}});
    let result = |text: &str, input: u64, output: u64, reason: &str| {
        json!({"model_id": "granite-1", "results": [{"generated_text": text, "generated_token_count": output,
        "input_token_count": input, "stop_reason": reason}]})
    };
    let plain = run("/ml/v1/text/generation", request.clone(), result("ab", 3, 4, "max_tokens"));
    assert_eq!(
        (plain.facts.api, plain.facts.provider, counted(&plain)),
        ("watsonx.generate", "ibm.watsonx.ai", (Some(3), Some(4)))
    );
    assert_eq!((plain.facts.request.max_tokens, plain.finished), (Some(5), true));
    let events = [result("a", 3, 1, "not_finished"), result("b", 0, 2, "eos_token")];
    let response: String = events.iter().map(|event| format!("id: 1\nevent: message\ndata: {event}\n\n")).collect();
    let streamed = checked(&Exchange {
        path: "/ml/v1/text/generation_stream",
        request: request.to_string(),
        response,
        content: Some(1_000),
        ..Exchange::default()
    });
    assert_eq!(
        (carrying(&streamed), counted(&streamed), streamed.finished),
        (vec![true, true], (Some(3), Some(2)), true)
    );
    let chat = run(
        "/ml/v1/text/chat",
        json!({"model_id": "granite", "messages": []}),
        json!({"choices": [{"index": 0, "message": {"content": "a"}, "finish_reason": "stop"}]}),
    );
    assert_eq!((chat.facts.api, chat.facts.request.model.as_deref()), ("openai.chat", Some("granite")));
}
