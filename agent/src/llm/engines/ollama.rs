//! `ollama.chat` and `ollama.generate`: the native API of Ollama and of who emulates it.
//!
//! Source: Ollama's API document (`docs/api.md`). A request that does not say streams; a stream is one document a line,
//! the last one with `done`. Durations are in nanoseconds, arguments of tool calls are objects. An error in the middle is
//! a line `{"error": "text"}` under status 200.

use super::{ollama_request::Request, single::Single};
use crate::{
    llm::{
        api::{Draft, Failure, Part, WireApi},
        arguments::ValueWriter,
        engines, value,
    },
    protocol::json::{
        Step::{self, Index, Key},
        Token,
    },
};

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `/api/chat`
    Chat,
    /// `/api/generate`
    Generate,
}

/// Reads one call.
#[derive(Debug)]
pub(crate) struct Ollama {
    kind: Kind,
    request: Request,
    /// What the current document showed of an answer.
    seen: Seen,
    answer: Single,
    arguments: ValueWriter,
    /// Some document said that it is the last one.
    done: bool,
    /// That document had no times, which Ollama always gives.
    untimed: bool,
    python: bool,
}

/// Members of one document.
#[derive(Debug, Default)]
struct Seen {
    model: bool,
    body: bool,
    done: Option<bool>,
    timed: bool,
    loads: bool,
    error: bool,
}

impl Ollama {
    /// A call of which nothing has been read.
    pub fn new(kind: Kind) -> Self {
        Self {
            kind,
            request: Request::new(kind),
            seen: Seen::default(),
            answer: Single::default(),
            arguments: ValueWriter::default(),
            done: false,
            untimed: false,
            python: false,
        }
    }

    fn tool_call(&mut self, position: u32, path: &[Step<'_>], token: Token<'_>, draft: &Draft) {
        let Some((tool, budget)) = self.answer.tool(position, draft) else { return };
        match path.get(4..) {
            Some([Key("name")]) => tool.name = value::name(token),
            Some([Key("arguments"), ..]) => self.arguments.push(5, path, token, &mut tool.arguments, budget),
            _ => {}
        }
    }
}

impl WireApi for Ollama {
    fn name(&self) -> &'static str {
        match self.kind {
            Kind::Chat => "ollama.chat",
            Kind::Generate => "ollama.generate",
        }
    }

    fn operation(&self) -> &'static str {
        match self.kind {
            Kind::Chat => "chat",
            Kind::Generate => "text_completion",
        }
    }

    fn default_provider(&self) -> &'static str {
        // SGLang's emulation is a Python program that gives no times. A Python gateway before Ollama passes them on.
        if self.python && self.untimed { engines::SGLANG } else { engines::OLLAMA }
    }

    fn header(&mut self, part: Part, name: &'static str, value: &str, _draft: &mut Draft) {
        self.python |= part == Part::Response && name == "server" && value == "uvicorn";
    }

    fn request_value(&mut self, path: &[Step<'_>], token: Token<'_>, draft: &mut Draft) {
        self.request.value(path, token, draft);
    }

    fn response_value(&mut self, path: &[Step<'_>], token: Token<'_>, draft: &mut Draft) {
        let response = &mut draft.response;
        match (path, token) {
            ([Key("model")], _) => {
                response.model = value::name(token).or(response.model.take());
                self.seen.model = true;
            }
            ([Key("message")], Token::ObjectStart) => self.seen.body = true,
            ([Key("response")], Token::String { .. }) => {
                self.seen.body = true;
                self.answer.text(token, draft);
            }
            ([Key("message"), Key("content")], _) => self.answer.text(token, draft),
            ([Key("thinking")] | [Key("message"), Key("thinking")], _) => self.answer.reasoning(token, draft),
            ([Key("message"), Key("tool_calls"), Index(position), Key("function"), ..], _) => {
                self.tool_call(*position, path, token, draft);
            }
            ([Key("done")], Token::Bool(done)) => self.seen.done = Some(done),
            ([Key("done_reason")], Token::String { text, .. }) => {
                self.seen.loads = matches!(text, "load" | "unload");
                self.answer.finish(token);
            }
            ([Key("prompt_eval_count")], _) => draft.usage.input = value::count(token).or(draft.usage.input),
            ([Key("eval_count")], _) => draft.usage.output = value::count(token).or(draft.usage.output),
            ([Key("error")], Token::String { .. }) => self.seen.error = true,
            ([Key(key)], Token::Number(_)) if key.ends_with("_duration") => {
                self.seen.timed |= *key == "eval_duration";
                draft.timings.named(key, token);
            }
            _ => {}
        }
    }

    fn response_document(&mut self, _streamed: bool, draft: &mut Draft) -> bool {
        let Seen { model, body, done, timed, loads, error } = std::mem::take(&mut self.seen);
        draft.response_proof |= model && body && done.is_some();
        if done == Some(true) {
            self.done = true;
            self.untimed = !timed && !loads;
        }
        if error {
            // Any program may say so: only beside the half of the request that is Ollama's is it a proof.
            draft.failure.get_or_insert(Failure { kind: None, shaped: draft.request_hint });
        }
        self.answer.end(0, draft)
    }

    fn is_finished(&self, _body_ended: bool, _draft: &Draft) -> bool {
        self.done
    }
}
