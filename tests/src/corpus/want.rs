//! What a recording states of its call, in the terms of a span.
//!
//! The rules are a second writing of what the agent's own parsers do: the recordings say what each provider's numbers
//! are, and the conventions say what they mean (input includes what was cached, output includes reasoning).
//!
//! What the recordings cannot state, and what is made of it:
//! * Finish reasons of OpenAI responses are the response's status. The reason that the status stands for is as right.
//! * The ids in a streamed transcription are its segments'.
//! * Converse states neither id nor model, Cohere no model; neither counts its tool calls.
//! * Rerankings state search units or a total: neither is a number of input or output tokens.
//! * Embeddings of one gateway state zero output tokens. An embedding has no output: absent is as right.
//! * What Anthropic and Cohere report beyond the fields below was not extracted.
//! * A stream's finish reasons are stated once for each event that holds one.

use serde_json::Value;

use super::Message;

/// Names of the usage attributes.
pub mod usage {
    /// Input tokens, cached ones included.
    pub const INPUT: &str = "gen_ai.usage.input_tokens";
    /// Output tokens, reasoning included.
    pub const OUTPUT: &str = "gen_ai.usage.output_tokens";
    /// Input tokens read from a cache.
    pub const CACHE_READ: &str = "gen_ai.usage.cache_read.input_tokens";
    /// Input tokens written to a cache.
    pub const CACHE_WRITE: &str = "gen_ai.usage.cache_write.input_tokens";
    /// Output tokens spent on reasoning.
    pub const REASONING: &str = "gen_ai.usage.reasoning.output_tokens";
}

use usage::{CACHE_READ, CACHE_WRITE, INPUT, OUTPUT, REASONING};

/// Rows that are no call of a model, whatever their bodies look like.
const NEGATIVES: [&str; 2] = ["other", "mgmt"];

/// What the spans of an exchange must say.
#[derive(Clone, Debug, PartialEq)]
pub enum Want {
    /// There must be none.
    NoCall,
    /// A call of which nothing is stated.
    Anything,
    /// One on each side that says this.
    Call(Box<Stated>),
}

/// What is stated of a call. What is `None` is not stated.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stated {
    /// Attributes and their values; one without a value must be absent.
    pub usage: Vec<(&'static str, Option<u64>)>,
    /// Model of the request.
    pub request_model: Option<String>,
    /// Model of the response.
    pub response_model: Option<String>,
    /// Id of the response.
    pub id: Option<String>,
    /// Finish reasons, any of these lists.
    pub finish_reasons: Option<Vec<Vec<String>>>,
    /// How many tools were called.
    pub tool_calls: Option<usize>,
    /// The call failed; `error.type` is one of these.
    pub error: Option<Vec<String>>,
    /// HTTP status.
    pub status: u16,
}

impl Want {
    /// Reads what the recording of a call of `api`, answered by `answer`, expects.
    pub fn of(api: &str, request_model: Option<String>, status: u16, answer: &Message, expected: &Value) -> Self {
        if NEGATIVES.contains(&api) {
            return Self::NoCall;
        }
        let says = ["usage", "response_model", "id", "finish_reasons", "error"];
        if says.iter().all(|name| expected[name].is_null()) {
            return Self::Anything;
        }
        let text = |name: &str| expected[name].as_str().map(str::to_owned);
        let is_stream = ["sse_events", "frames", "documents"].iter().any(|name| !expected[name].is_null());
        let finish_reasons = expected["finish_reasons"].as_array().map(|reasons| {
            let mut reasons: Vec<_> = reasons.iter().filter_map(Value::as_str).map(str::to_owned).collect();
            if is_stream {
                reasons.dedup();
            }
            meanings(api, reasons)
        });
        let counts_tool_calls = finish_reasons.is_some() && !api.starts_with("bedrock.") && !api.starts_with("cohere.");
        let tool_calls = expected["tool_calls"].as_u64().map_or(0, |n| n as usize);
        Self::Call(Box::new(Stated {
            usage: expected["usage"].as_object().map(|_| tokens(api, &expected["usage"])).unwrap_or_default(),
            request_model,
            response_model: text("response_model"),
            id: text("id").filter(|_| !(is_stream && api == "openai.audio")),
            finish_reasons,
            tool_calls: counts_tool_calls.then_some(tool_calls),
            error: (!expected["error"].is_null()).then(|| error_types(status, answer, &expected["error"])),
            status,
        }))
    }
}

/// Every list that says what the recorded one says.
fn meanings(api: &str, reasons: Vec<String>) -> Vec<Vec<String>> {
    let others: &[&str] = match (api, reasons.first().map(String::as_str)) {
        ("openai.responses", Some("completed")) => &["stop", "tool_calls", "tool_call"],
        ("openai.responses", Some("incomplete")) => &["length", "max_output_tokens", "content_filter"],
        _ => &[],
    };
    let others = others.iter().map(|other| vec![(*other).to_owned()]);
    [reasons].into_iter().chain(others).collect()
}

/// The usage attributes of an API, from its own numbers.
fn tokens(api: &str, usage: &Value) -> Vec<(&'static str, Option<u64>)> {
    let of = |name: &str| usage[name].as_u64();
    // What is absent adds nothing, and nothing at all stays absent.
    let sum = |names: &[&str]| names.iter().filter_map(|name| of(name)).reduce(|a, b| a + b);
    match api {
        "openai.chat" | "openai.responses" => vec![
            (INPUT, of("input")),
            (OUTPUT, of("output")),
            (CACHE_READ, of("cache_read")),
            (CACHE_WRITE, of("cache_write")),
            (REASONING, of("reasoning")),
        ],
        "anthropic.messages" => vec![
            (INPUT, of("input")),
            (OUTPUT, of("output")),
            (CACHE_READ, of("cache_read")),
            (CACHE_WRITE, of("cache_write")),
        ],
        "bedrock.converse" | "bedrock.converse_stream" => vec![
            (INPUT, sum(&["input", "cache_read", "cache_write"])),
            (OUTPUT, of("output")),
            (CACHE_READ, of("cache_read")),
            (CACHE_WRITE, of("cache_write")),
        ],
        "gemini.generate" => vec![
            (INPUT, sum(&["input", "tool_input"])),
            (OUTPUT, sum(&["candidates", "reasoning"])),
            (CACHE_READ, of("cache_read")),
            (REASONING, of("reasoning")),
        ],
        "cohere.chat" => vec![(INPUT, of("billed_input")), (OUTPUT, of("billed_output"))],
        "ollama.chat" => vec![(INPUT, of("input")), (OUTPUT, of("output"))],
        "cohere.v2.embed" => vec![(INPUT, of("billed_input")), (OUTPUT, None)],
        "openai.audio" => vec![(INPUT, of("input")), (OUTPUT, of("output"))],
        "embeddings" | "bedrock.invoke" => vec![(INPUT, of("input"))],
        _ => Vec::new(),
    }
}

/// What `error.type` may be: a word of the provider's, else the HTTP status. Never its message.
fn error_types(status: u16, answer: &Message, error: &Value) -> Vec<String> {
    let is_word = |text: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c));
    let mut types = vec![status.to_string()];
    // `Name:URI` in Amazon's header.
    types.extend(answer.header("x-amzn-errortype").and_then(|name| name.split(':').next()).map(str::to_owned));
    // Some have the words beside an error that is only a text.
    let whole = serde_json::from_slice::<Value>(&answer.body).unwrap_or_default();
    for value in ["code", "type", "status"].into_iter().flat_map(|name| [&error[name], &whole[name]]) {
        let text = value.as_str().map(str::to_owned).or_else(|| value.as_i64().map(|code| code.to_string()));
        // Which says that it is one, not which.
        types.extend(text.filter(|text| !text.is_empty() && is_word(text) && text != "error"));
    }
    types
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn stated(api: &str, expected: Value) -> Stated {
        let Want::Call(stated) = Want::of(api, None, 200, &Message::default(), &expected) else {
            panic!("no call is wanted")
        };
        *stated
    }

    fn usage_of(api: &str, usage: Value) -> Vec<(&'static str, Option<u64>)> {
        stated(api, json!({ "usage": usage })).usage
    }

    #[test]
    fn usage_is_what_the_conventions_mean_by_it() {
        let anthropic = json!({"input_uncached": 3, "input": 10, "output": 5, "cache_read": 7, "cache_write": 0});
        let normal = [(INPUT, Some(10)), (OUTPUT, Some(5)), (CACHE_READ, Some(7)), (CACHE_WRITE, Some(0))];
        assert_eq!(usage_of("anthropic.messages", anthropic), normal);
        let converse = json!({"input": 3, "output": 5, "cache_read": 7, "cache_write": 0, "total": 15});
        assert_eq!(usage_of("bedrock.converse_stream", converse), normal);
        let gemini = json!({"input": 3, "tool_input": 4, "candidates": 5, "reasoning": 6, "total": 18});
        let normal = [(INPUT, Some(7)), (OUTPUT, Some(11)), (CACHE_READ, None), (REASONING, Some(6))];
        assert_eq!(usage_of("gemini.generate", gemini), normal);
        let cohere = json!({"input": 505, "output": 107, "billed_input": 10, "billed_output": 104});
        assert_eq!(usage_of("cohere.chat", cohere), [(INPUT, Some(10)), (OUTPUT, Some(104))]);
    }

    #[test]
    fn what_is_absent_stays_absent() {
        let chat = usage_of("openai.chat", json!({"input": 1}));
        let absent = [(OUTPUT, None), (CACHE_READ, None), (CACHE_WRITE, None), (REASONING, None)];
        assert_eq!((chat[0], &chat[1..]), ((INPUT, Some(1)), &absent[..]));
        assert_eq!(usage_of("gemini.generate", json!({}))[1], (OUTPUT, None));
        assert_eq!(usage_of("rerank", json!({"total": 17})), []);
    }

    #[test]
    fn negatives_and_what_states_nothing_are_told_apart() {
        let want = |api: &str| Want::of(api, None, 200, &Message::default(), &json!({"n_objs": 1}));
        assert_eq!([want("mgmt"), want("other"), want("count_tokens")], [Want::NoCall, Want::NoCall, Want::Anything]);
        // A batch that is polled holds a usage object and is no call all the same.
        let polled = json!({"usage": {"input": 1}});
        assert_eq!(Want::of("mgmt", None, 200, &Message::default(), &polled), Want::NoCall);
    }

    #[test]
    fn finish_reasons_of_a_stream_are_not_repeated_and_a_status_has_other_names() {
        let twice = json!({"finish_reasons": ["stop", "stop"], "sse_events": 3});
        assert_eq!(stated("openai.chat", twice).finish_reasons, Some(vec![vec!["stop".to_owned()]]));
        let choices = json!({"finish_reasons": ["stop", "stop"]});
        assert_eq!(stated("openai.chat", choices).finish_reasons.unwrap()[0].len(), 2);
        let status = stated("openai.responses", json!({"finish_reasons": ["incomplete"]})).finish_reasons.unwrap();
        assert!(status.contains(&vec!["max_output_tokens".to_owned()]) && !status.contains(&vec!["stop".to_owned()]));
    }

    #[test]
    fn an_error_is_named_by_its_words_or_the_status_and_never_by_its_message() {
        let types = |status, answer: &Message, error| error_types(status, answer, &error);
        let plain = Message::default();
        let error = json!({"code": 400, "message": "bad key", "status": "INVALID_ARGUMENT"});
        assert_eq!(types(400, &plain, error), ["400", "400", "INVALID_ARGUMENT"]);
        let name = "UnrecognizedClientException:http://internal/".to_owned();
        let amazon = Message { headers: vec![("x-amzn-errortype".to_owned(), name)], body: Vec::new() };
        assert_eq!(types(403, &amazon, json!("The token")), ["403", "UnrecognizedClientException"]);
        let body = json!({"type": "error", "code": "invalid-argument", "error": "bad key"}).to_string().into_bytes();
        let beside = Message { body, ..plain.clone() };
        assert_eq!(types(400, &beside, json!("bad key")), ["400", "invalid-argument"]);
        assert_eq!(types(500, &plain, json!({"type": "not a word", "code": ""})), ["500"]);
    }

    #[test]
    fn the_id_of_a_segment_is_not_that_of_its_response() {
        let transcription = json!({"id": "seg_0", "sse_events": 2});
        assert_eq!(stated("openai.audio", transcription.clone()).id, None);
        assert_eq!(stated("openai.chat", transcription).id.as_deref(), Some("seg_0"));
    }

    #[test]
    fn tool_calls_are_stated_where_they_were_counted() {
        let done = json!({"finish_reasons": ["end_turn"], "tool_calls": 2});
        assert_eq!(stated("anthropic.messages", done.clone()).tool_calls, Some(2));
        assert_eq!(stated("bedrock.converse", done).tool_calls, None);
        assert_eq!(stated("openai.chat", json!({"finish_reasons": ["stop"]})).tool_calls, Some(0));
        assert_eq!(stated("embeddings", json!({"usage": {}})).tool_calls, None);
    }
}
