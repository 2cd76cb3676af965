//! Bodies of calls, cut to what matters: what APIs' documentation says that they send.

use inferscope::call::Completion;

use crate::wire::event_stream;

/// The two bodies of a call, before any coding and framing.
#[derive(Clone, Debug)]
pub struct Body {
    /// The API, and how it answers.
    pub name: &'static str,
    /// Path of the request.
    pub path: &'static str,
    /// Body of the request.
    pub request: &'static str,
    /// Status of the response.
    pub status: u16,
    /// `Content-Type` of the response.
    pub content_type: &'static str,
    /// Body of the response, each piece as it is flushed.
    pub pieces: Vec<Vec<u8>>,
    /// The piece with the finish reason.
    pub reasoned: usize,
    /// The piece whose last byte may be the one with which the model has said that it is done.
    pub finishing: usize,
    /// Nothing behind that byte is needed; else the end of the body is.
    pub says_so: bool,
    /// How the call ends if nothing is cut off.
    pub completion: Completion,
}

const CHAT: &str = r#"{"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}]}"#;
const GEMINI: &str = r#"{"contents":[{"role":"user","parts":[{"text":"hi"}]}]}"#;

/// Ten of them: each way in which a response's body says that it is over, and one that is an error.
pub fn all() -> [Body; 10] {
    let done = Body {
        name: "",
        path: "/v1/chat/completions",
        request: CHAT,
        status: 200,
        content_type: "application/json",
        pieces: Vec::new(),
        reasoned: 0,
        finishing: 0,
        says_so: true,
        completion: Completion::Done,
    };
    [
        Body {
            name: "openai.chat stream",
            content_type: "text/event-stream",
            pieces: events(&[
                r#"data: {"id":"c","object":"chat.completion.chunk","model":"m-1","choices":[{"index":0,"delta":{"content":"a"},"finish_reason":null}]}"#,
                r#"data: {"id":"c","object":"chat.completion.chunk","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#,
                r#"data: {"id":"c","object":"chat.completion.chunk","choices":[],"usage":{"prompt_tokens":5,"completion_tokens":3}}"#,
                "data: [DONE]",
            ]),
            reasoned: 1,
            finishing: 2,
            ..done.clone()
        },
        Body {
            name: "openai.chat document",
            request: r#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#,
            pieces: vec![br#"{"id":"c","object":"chat.completion","model":"m-1","choices":[{"index":0,"message":{"role":"assistant","content":"a"},"finish_reason":"length"}],"usage":{"prompt_tokens":5,"completion_tokens":3}}"#.to_vec()],
            says_so: false,
            completion: Completion::Length,
            ..done.clone()
        },
        Body {
            name: "anthropic stream",
            path: "/v1/messages",
            request: r#"{"model":"m","max_tokens":9,"stream":true,"messages":[{"role":"user","content":"hi"}]}"#,
            content_type: "text/event-stream",
            pieces: events(&[
                "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"a\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"m-1\",\"content\":[],\"usage\":{\"input_tokens\":5,\"output_tokens\":1}}}",
                "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"a\"}}",
                "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":3}}",
                "event: message_stop\ndata: {\"type\":\"message_stop\"}",
            ]),
            reasoned: 2,
            finishing: 3,
            ..done.clone()
        },
        Body {
            name: "openai.responses stream",
            path: "/v1/responses",
            request: r#"{"model":"m","stream":true,"input":"hi"}"#,
            content_type: "text/event-stream",
            pieces: events(&[
                "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"id\":\"r\",\"object\":\"response\",\"model\":\"m-1\",\"status\":\"in_progress\"}}",
                "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"output_index\":0,\"content_index\":0,\"delta\":\"a\"}",
                "event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"id\":\"r\",\"object\":\"response\",\"model\":\"m-1\",\"status\":\"completed\",\"usage\":{\"input_tokens\":5,\"output_tokens\":3}}}",
            ]),
            reasoned: 2,
            finishing: 2,
            ..done.clone()
        },
        Body {
            name: "gemini array",
            path: "/v1beta/models/m:streamGenerateContent",
            request: GEMINI,
            pieces: vec![
                br#"[{"candidates":[{"content":{"parts":[{"text":"a"}],"role":"model"},"index":0}],"modelVersion":"m-1"}"#.to_vec(),
                b"\n,\n{\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"b\"}],\"role\":\"model\"},\"finishReason\":\"STOP\",\"index\":0}],\"usageMetadata\":{\"promptTokenCount\":5,\"candidatesTokenCount\":3,\"totalTokenCount\":8}}".to_vec(),
                b"\n]".to_vec(),
            ],
            reasoned: 1,
            finishing: 1,
            says_so: false,
            ..done.clone()
        },
        Body {
            name: "ollama lines",
            path: "/api/chat",
            request: r#"{"model":"m","messages":[{"role":"user","content":"hi"}],"options":{}}"#,
            content_type: "application/x-ndjson",
            pieces: vec![
                b"{\"model\":\"m\",\"created_at\":\"t\",\"message\":{\"role\":\"assistant\",\"content\":\"a\"},\"done\":false}\n".to_vec(),
                b"{\"model\":\"m\",\"created_at\":\"t\",\"message\":{\"role\":\"assistant\",\"content\":\"\"},\"done\":true,\"done_reason\":\"length\",\"prompt_eval_count\":5,\"eval_count\":3}".to_vec(),
                b"\n".to_vec(),
            ],
            reasoned: 1,
            finishing: 1,
            completion: Completion::Length,
            ..done.clone()
        },
        Body {
            name: "bedrock frames",
            path: "/model/m/converse-stream",
            request: r#"{"messages":[{"role":"user","content":[{"text":"hi"}]}],"inferenceConfig":{"maxTokens":9}}"#,
            content_type: "application/vnd.amazon.eventstream",
            pieces: vec![
                event_stream::event("messageStart", r#"{"role":"assistant"}"#),
                event_stream::event("contentBlockDelta", r#"{"contentBlockIndex":0,"delta":{"text":"a"}}"#),
                event_stream::event("messageStop", r#"{"stopReason":"end_turn"}"#),
                event_stream::event("metadata", r#"{"usage":{"inputTokens":5,"outputTokens":3,"totalTokens":8}}"#),
            ],
            reasoned: 2,
            finishing: 3,
            ..done.clone()
        },
        Body {
            name: "cohere stream",
            path: "/v2/chat",
            request: CHAT,
            content_type: "text/event-stream",
            pieces: events(&[
                "event: message-start\ndata: {\"type\":\"message-start\",\"id\":\"c\",\"delta\":{\"message\":{\"role\":\"assistant\",\"content\":[]}}}",
                "event: content-delta\ndata: {\"type\":\"content-delta\",\"index\":0,\"delta\":{\"message\":{\"content\":{\"text\":\"a\"}}}}",
                "event: message-end\ndata: {\"type\":\"message-end\",\"delta\":{\"finish_reason\":\"MAX_TOKENS\",\"usage\":{\"tokens\":{\"input_tokens\":5,\"output_tokens\":3}}}}",
            ]),
            reasoned: 2,
            finishing: 2,
            completion: Completion::Length,
            ..done.clone()
        },
        Body {
            name: "embeddings",
            path: "/v1/embeddings",
            request: r#"{"model":"m","input":"hi"}"#,
            pieces: vec![br#"{"object":"list","model":"m-1","data":[{"object":"embedding","index":0,"embedding":[0.5,-0.25]}],"usage":{"prompt_tokens":5,"total_tokens":5}}"#.to_vec()],
            says_so: false,
            ..done.clone()
        },
        Body {
            name: "openai.chat error",
            status: 429,
            pieces: vec![br#"{"error":{"message":"slow down","type":"rate_limit_error","code":"rate_limit_exceeded"}}"#.to_vec()],
            says_so: false,
            completion: Completion::Error,
            ..done
        },
    ]
}

fn events(events: &[&str]) -> Vec<Vec<u8>> {
    events.iter().map(|event| format!("{event}\n\n").into_bytes()).collect()
}
