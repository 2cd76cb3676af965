//! What the model server answers to one request, and what it counts.
//!
//! One chunk is one canned word; completion tokens are the content chunks of all choices; prompt tokens are the words
//! of the messages. Who knows the request and the pace can tell every number in advance.

use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};

use crate::{client::MODEL, model::NOTE};

/// The model name that gets a 404.
pub const UNKNOWN_MODEL: &str = "no-such-model";

/// The same words as `python/canned.py` has.
const WORDS: [&str; 10] = ["zephyrine", "words", "from", "a", "tin,", "served", "at", "a", "steady", "pace;"];
const TOOL_ARGUMENTS: &str = r#"{"place": "zephyrine bay", "unit": "celsius"}"#;
const TOOL_FRAGMENT: usize = 8;

/// Most choices and chunks that one request can ask for: the server must not be talked out of its memory.
const MAX_CHOICES: u64 = 16;

/// Which endpoint was called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Api {
    /// `/v1/chat/completions`.
    Chat,
    /// `/v1/completions`.
    Completions,
}

/// An error as OpenAI words it.
#[derive(Clone, Debug, PartialEq)]
pub struct Refused {
    /// HTTP status.
    pub status: u16,
    /// The body.
    pub body: Value,
}

impl Refused {
    fn new(status: u16, code: &str, param: &str, message: String) -> Self {
        let error = json!({"message": message, "type": "invalid_request_error", "param": param, "code": code});
        Self { status, body: json!({ "error": error }) }
    }
}

/// What will be answered.
#[derive(Clone, Debug)]
pub struct Plan {
    api: Api,
    id: String,
    /// Whether a stream was asked for.
    pub stream: bool,
    include_usage: bool,
    choices: u64,
    tool: Option<String>,
    pieces: Vec<String>,
    finish: &'static str,
    usage: Value,
}

impl Plan {
    /// Reads a request; `chunks` is the length of an uncut answer.
    pub fn new(api: Api, body: &Value, chunks: u64) -> Result<Self, Refused> {
        let field = if api == Api::Chat { "messages" } else { "prompt" };
        let asked = &body[field];
        if asked.is_null() || asked == &json!([]) || asked == "" {
            let message = format!("Missing required parameter: '{field}'.");
            return Err(Refused::new(400, "missing_required_parameter", field, message));
        }
        if body["model"] == UNKNOWN_MODEL {
            let message = format!("The model '{UNKNOWN_MODEL}' does not exist.");
            return Err(Refused::new(404, "model_not_found", "model", message));
        }
        let limit = body["max_completion_tokens"].as_u64().or(body["max_tokens"].as_u64()).unwrap_or(chunks);
        let choices = body["n"].as_u64().unwrap_or(1).clamp(1, MAX_CHOICES);
        let tool = Self::tool(api, body);
        let (pieces, finish) = match &tool {
            Some(_) => (tool_pieces(), "tool_calls"),
            None => {
                let words = WORDS.iter().cycle().take(chunks.min(limit) as usize);
                (words.map(|word| format!("{word} ")).collect(), if limit < chunks { "length" } else { "stop" })
            }
        };
        let (prompt, completion) = (words_in(asked), pieces.len() as u64 * choices);
        Ok(Self {
            api,
            id: new_id(api),
            stream: body["stream"] == true,
            include_usage: body["stream_options"]["include_usage"] == true,
            choices,
            tool,
            pieces,
            finish,
            usage: json!({
                "prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion,
            }),
        })
    }

    fn tool(api: Api, body: &Value) -> Option<String> {
        let answered = body["messages"].as_array().and_then(|messages| messages.last());
        let wanted = api == Api::Chat
            && body["tool_choice"] != "none"
            && answered.is_none_or(|message| message["role"] != "tool");
        wanted.then(|| body["tools"][0]["function"]["name"].as_str().map(str::to_owned))?
    }

    /// Number of content chunks per choice.
    pub fn n_chunks(&self) -> usize {
        self.pieces.len()
    }

    /// The events before the first token: a role for each choice.
    pub fn opening(&self) -> Vec<String> {
        if self.api != Api::Chat {
            return Vec::new();
        }
        self.each(|_| json!({"delta": {"role": "assistant", "content": ""}, "finish_reason": null}))
    }

    /// The events of content chunk `at`, one for each choice.
    pub fn chunk(&self, at: usize) -> Vec<String> {
        let piece = &self.pieces[at];
        self.each(|index| match (&self.tool, self.api) {
            (_, Api::Completions) => json!({"text": piece, "logprobs": null, "finish_reason": null}),
            (None, Api::Chat) => json!({"delta": {"content": piece}, "finish_reason": null}),
            (Some(name), Api::Chat) => {
                let mut call = json!({"index": 0, "function": {"arguments": piece}});
                if at == 0 {
                    call["id"] = json!(format!("call_{index}"));
                    call["type"] = json!("function");
                    call["function"]["name"] = json!(name);
                }
                json!({"delta": {"tool_calls": [call]}, "finish_reason": null})
            }
        })
    }

    /// The events after the last token: finish reasons, usage where asked for, the end mark.
    pub fn closing(&self) -> Vec<String> {
        let mut events = self.each(|_| match self.api {
            Api::Chat => json!({"delta": {}, "finish_reason": self.finish}),
            Api::Completions => json!({"text": "", "logprobs": null, "finish_reason": self.finish}),
        });
        if self.include_usage {
            events.push(self.event(json!([]), &self.usage));
        }
        events.push("data: [DONE]\n\n".to_owned());
        events
    }

    /// The whole answer at once.
    pub fn whole(&self) -> Value {
        let text = self.pieces.concat();
        let choice = |index| {
            let mut choice = json!({"index": index, "logprobs": null, "finish_reason": self.finish});
            match (&self.tool, self.api) {
                (_, Api::Completions) => choice["text"] = json!(text),
                (None, Api::Chat) => choice["message"] = json!({"role": "assistant", "content": text}),
                (Some(name), Api::Chat) => {
                    let function = json!({"name": name, "arguments": text});
                    let call = json!({"id": format!("call_{index}"), "type": "function", "function": function});
                    choice["message"] = json!({"role": "assistant", "content": null, "tool_calls": [call]});
                }
            }
            choice
        };
        let kind = if self.api == Api::Chat { "chat.completion" } else { "text_completion" };
        let choices: Vec<_> = (0..self.choices).map(choice).collect();
        self.object(kind, json!(choices), Some(&self.usage))
    }

    fn each(&self, choice: impl Fn(u64) -> Value) -> Vec<String> {
        let event = |index| {
            let mut choice = choice(index);
            choice["index"] = json!(index);
            self.event(json!([choice]), &Value::Null)
        };
        (0..self.choices).map(event).collect()
    }

    fn event(&self, choices: Value, usage: &Value) -> String {
        let kind = if self.api == Api::Chat { "chat.completion.chunk" } else { "text_completion" };
        format!("data: {}\n\n", self.object(kind, choices, self.include_usage.then_some(usage)))
    }

    fn object(&self, kind: &str, choices: Value, usage: Option<&Value>) -> Value {
        let mut object = json!({
            "id": self.id, "object": kind, "created": 1_700_000_000, "model": MODEL, "system_fingerprint": NOTE,
            "choices": choices,
        });
        if let Some(usage) = usage {
            object["usage"] = usage.clone();
        }
        object
    }
}

/// Ids are unique among servers of one machine and requests of one server.
fn new_id(api: Api) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let prefix = if api == Api::Chat { "chatcmpl" } else { "cmpl" };
    let started = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_micros();
    format!("{prefix}-{:x}-{started:x}-{:x}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

fn tool_pieces() -> Vec<String> {
    let fragments = TOOL_ARGUMENTS.as_bytes().chunks(TOOL_FRAGMENT);
    let fragments = fragments.map(|fragment| String::from_utf8_lossy(fragment).into_owned());
    std::iter::once(String::new()).chain(fragments).collect()
}

fn words_in(value: &Value) -> u64 {
    match value {
        Value::String(text) => text.split_whitespace().count() as u64,
        Value::Array(items) => items.iter().map(words_in).sum(),
        Value::Object(_) => words_in(&value["content"]) + words_in(&value["text"]),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(plan: &Plan) -> Vec<Value> {
        let content = (0..plan.n_chunks()).flat_map(|at| plan.chunk(at));
        let all = plan.opening().into_iter().chain(content).chain(plan.closing());
        all.filter_map(|event| serde_json::from_str(event.strip_prefix("data: ")?.trim_end()).ok()).collect()
    }

    #[test]
    fn numbers_follow_from_the_request() {
        let body = json!({"stream": true, "stream_options": {"include_usage": true}, "n": 2, "max_tokens": 3,
            "messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": [
                {"type": "text", "text": "three more words"}, {"type": "image_url"}]}]});
        let plan = Plan::new(Api::Chat, &body, 10).unwrap();
        let events = events(&plan);
        let with_content =
            |event: &&Value| event["choices"][0]["delta"]["content"].as_str().is_some_and(|c| !c.is_empty());
        assert_eq!(events.iter().filter(with_content).count(), 6);
        let usage = &events.last().unwrap()["usage"];
        assert_eq!((usage["prompt_tokens"].as_u64(), usage["completion_tokens"].as_u64()), (Some(5), Some(6)));
        assert_eq!(events[events.len() - 2]["choices"][0]["finish_reason"], "length");
    }

    #[test]
    fn offered_tools_are_called_once_and_their_result_is_answered() {
        let mut body = json!({"messages": [{"role": "user", "content": "weather?"}],
            "tools": [{"type": "function", "function": {"name": "look_up_weather"}}]});
        let plan = Plan::new(Api::Chat, &body, 10).unwrap();
        let call = &plan.whole()["choices"][0]["message"]["tool_calls"][0]["function"];
        assert_eq!(
            (call["name"].as_str(), call["arguments"].as_str()),
            (Some("look_up_weather"), Some(TOOL_ARGUMENTS))
        );
        let streamed: String = events(&plan)
            .iter()
            .filter_map(|event| event["choices"][0]["delta"]["tool_calls"][0]["function"]["arguments"].as_str())
            .collect();
        assert_eq!(streamed, TOOL_ARGUMENTS);
        body["messages"] = json!([{"role": "tool", "content": "rain"}]);
        assert_eq!(Plan::new(Api::Chat, &body, 10).unwrap().whole()["choices"][0]["finish_reason"], "stop");
    }

    #[test]
    fn errors_are_shaped_like_the_real_ones() {
        let missing = Plan::new(Api::Chat, &json!({"model": MODEL}), 10).unwrap_err();
        assert_eq!((missing.status, missing.body["error"]["param"].as_str()), (400, Some("messages")));
        let unknown = json!({"model": UNKNOWN_MODEL, "prompt": "x"});
        let unknown = Plan::new(Api::Completions, &unknown, 10).unwrap_err();
        assert_eq!((unknown.status, unknown.body["error"]["code"].as_str()), (404, Some("model_not_found")));
    }
}
