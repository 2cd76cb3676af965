//! What a request asks for, and the bytes of its answer. Pure.
//!
//! Every number comes from the request, so that who sends it knows what must be counted: a word of a message is a token
//! of the prompt, `max_tokens` is the answer's length, and the member `mock` says how much of the prompt is cached.
//! Each token is one chunk. The order of chunks is vLLM's: the role with the first token, the end's reason with the
//! last, then the usage where it was asked for.

use serde_json::{Value, json};

/// What the engine says about itself wherever there is room for it.
pub const NOTE: &str = "not a language model: a stand-in for an inference engine that computes nothing";

/// Longest answer, in tokens: what waits for a client that does not read has this bound.
pub const MAX_OUTPUT: u32 = 8_192;

/// Longest prompt, in tokens.
const MAX_PROMPT: u32 = 131_072;

/// Length of an answer that no length was asked for.
const DEFAULT_OUTPUT: u64 = 16;

/// The last event of every stream.
const DONE: &str = "data: [DONE]\n\n";

/// What tokens look like.
const WORDS: [&str; 8] = ["steps ", "of ", "an ", "engine ", "that ", "computes ", "nothing; ", "again "];

/// A request, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Tokens of the prompt.
    pub prompt: u32,
    /// How many of them are cached.
    pub cached: u32,
    /// Tokens of the answer.
    pub output: u32,
    /// Whether to stream.
    pub stream: bool,
    /// Whether a stream ends with the usage.
    pub include_usage: bool,
}

impl Request {
    /// Reads the body of a chat completion.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn parse(body: &[u8]) -> Result<Self, String> {
        let body: Value = serde_json::from_slice(body).map_err(|error| format!("not JSON: {error}"))?;
        let prompt =
            body["messages"].as_array().into_iter().flatten().map(|message| words_in(&message["content"])).sum();
        let output = body["max_completion_tokens"].as_u64().or(body["max_tokens"].as_u64()).unwrap_or(DEFAULT_OUTPUT);
        let prompt = within("words in messages", prompt, MAX_PROMPT)?;
        let output = within("max_tokens", output, MAX_OUTPUT)?;
        let cached = body["mock"]["cached_tokens"].as_u64().unwrap_or(0);
        Ok(Self {
            prompt,
            // The last token is always computed: the first of the answer comes from it.
            cached: u32::try_from(cached).unwrap_or(u32::MAX).min(prompt - 1),
            output,
            stream: body["stream"] == true,
            include_usage: body["stream_options"]["include_usage"] == true,
        })
    }
}

fn within(what: &str, n: u64, most: u32) -> Result<u32, String> {
    let fits = u32::try_from(n).ok().filter(|n| (1..=most).contains(n));
    fits.ok_or_else(|| format!("{what}: {n}, must be 1 to {most}"))
}

fn words_in(content: &Value) -> u64 {
    match content {
        Value::String(text) => text.split_whitespace().count() as u64,
        Value::Array(parts) => parts.iter().map(|part| words_in(&part["text"])).sum(),
        _ => 0,
    }
}

/// The answer to one request.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The response's id.
    pub id: String,
    /// The served model.
    pub model: String,
    /// What was asked.
    pub request: Request,
}

impl Answer {
    /// The chunk before the first token.
    pub fn role(&self) -> String {
        self.chunk(json!([choice(json!({"role": "assistant", "content": ""}), Value::Null)]))
    }

    /// The chunk of a token, numbered from one.
    pub fn token(&self, number: u32) -> String {
        let finish = if number == self.request.output { json!("length") } else { Value::Null };
        self.chunk(json!([choice(json!({"content": word(number)}), finish)]))
    }

    /// The chunks after the last token.
    pub fn closing(&self) -> Vec<String> {
        let mut chunks = Vec::new();
        if self.request.include_usage {
            let mut last = self.object("chat.completion.chunk", json!([]));
            last["usage"] = self.usage();
            chunks.push(event(&last));
        }
        chunks.push(DONE.to_owned());
        chunks
    }

    /// The whole answer at once.
    pub fn whole(&self) -> Value {
        let text: String = (1..=self.request.output).map(word).collect();
        let message = json!({"role": "assistant", "content": text});
        let mut whole = self.object(
            "chat.completion",
            json!([{"index": 0, "message": message, "logprobs": null, "finish_reason": "length"}]),
        );
        whole["usage"] = self.usage();
        whole
    }

    fn usage(&self) -> Value {
        let Request { prompt, cached, output, .. } = self.request;
        json!({
            "prompt_tokens": prompt, "completion_tokens": output, "total_tokens": prompt + output,
            "prompt_tokens_details": {"cached_tokens": cached},
        })
    }

    fn chunk(&self, choices: Value) -> String {
        event(&self.object("chat.completion.chunk", choices))
    }

    fn object(&self, kind: &str, choices: Value) -> Value {
        json!({
            "id": self.id, "object": kind, "created": 1_700_000_000, "model": self.model, "system_fingerprint": NOTE,
            "choices": choices,
        })
    }
}

/// How a stream ends that cannot go on: with an error in a chunk, as vLLM's do.
pub fn failed() -> Vec<String> {
    let error = event(&json!({"error": error(500, "InternalServerError", "the engine core has ended")}));
    vec![error, DONE.to_owned()]
}

/// An error in OpenAI's form, without the member `error` around it.
pub fn error(code: u16, kind: &str, message: &str) -> Value {
    json!({"message": message, "type": kind, "param": null, "code": code})
}

fn event(value: &Value) -> String {
    format!("data: {value}\n\n")
}

fn choice(delta: Value, finish: Value) -> Value {
    json!({"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish})
}

fn word(number: u32) -> &'static str {
    WORDS[number as usize % WORDS.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(body: Value) -> Result<Request, String> {
        Request::parse(body.to_string().as_bytes())
    }

    #[test]
    fn numbers_follow_from_the_request() {
        let body = json!({
            "stream": true, "stream_options": {"include_usage": true}, "max_tokens": 3, "mock": {"cached_tokens": 4},
            "messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": [
                {"type": "text", "text": "three more words"}, {"type": "image_url"}]}],
        });
        let request = parse(body).unwrap();
        let expected = Request { prompt: 5, cached: 4, output: 3, stream: true, include_usage: true };
        assert_eq!(request, expected);
        let answer = Answer { id: "chatcmpl-1".to_owned(), model: "m".to_owned(), request };
        let chunks: Vec<String> =
            [answer.role()].into_iter().chain((1..=3).map(|n| answer.token(n))).chain(answer.closing()).collect();
        assert_eq!((chunks.len(), chunks[5].as_str()), (6, "data: [DONE]\n\n"));
        let chunks: Vec<Value> = chunks[..5]
            .iter()
            .map(|chunk| serde_json::from_str(chunk.strip_prefix("data: ").unwrap()).unwrap())
            .collect();
        assert_eq!(chunks[0]["choices"][0]["delta"]["role"], "assistant");
        let finish: Vec<&Value> = chunks[1..4].iter().map(|chunk| &chunk["choices"][0]["finish_reason"]).collect();
        assert_eq!(finish, [&Value::Null, &Value::Null, &json!("length")]);
        let usage = json!({"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8,
            "prompt_tokens_details": {"cached_tokens": 4}});
        assert_eq!((&chunks[4]["usage"], &answer.whole()["usage"]), (&usage, &usage));
    }

    #[test]
    fn the_last_token_of_a_prompt_is_never_cached() {
        let body = json!({"messages": [{"content": "one two"}], "mock": {"cached_tokens": 99}});
        assert_eq!(parse(body).map(|request| (request.prompt, request.cached)), Ok((2, 1)));
    }

    #[test]
    fn what_cannot_be_served_is_refused_with_the_reason() {
        for (body, word) in [
            (json!({"messages": []}), "words"),
            (json!({"messages": [{"content": "x"}], "max_tokens": 0}), "max_tokens"),
            (json!({"messages": [{"content": "x"}], "max_tokens": 1_000_000}), "max_tokens"),
        ] {
            let error = parse(body).unwrap_err();
            assert!(error.contains(word), "{error}");
        }
        assert!(Request::parse(b"{").is_err());
    }
}
