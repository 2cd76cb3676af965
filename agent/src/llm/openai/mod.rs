//! What OpenAI's chat and completions APIs have in common, with the flavours of those who copied them.
//!
//! A response document is a chunk of a stream or a whole response. Values come in any order (the index after the
//! delta, the object's type after the choices), so a document is collected first and added to the call at its end.

pub(crate) mod audio;
pub(crate) mod chat;
pub(crate) mod completions;
pub(crate) mod embeddings;
pub(crate) mod error;
pub(crate) mod images;
pub(crate) mod moderations;
pub(crate) mod plain;
pub(crate) mod realtime;
pub(crate) mod responses;
pub(crate) mod usage;

use super::{
    api::{Draft, Part},
    choice::Choice,
    content::Budget,
    engines,
    facts::RequestFacts,
    value,
};
use crate::protocol::json::{
    Step::{self, Index, Key},
    Token,
};
use error::ErrorReader;
use usage::UsageReader;

/// Perplexity's last object of a stream: it repeats the whole text.
const REPEAT: &str = "chat.completion.done";

/// Most choices of one document that are followed; the widest API allows 128.
const MAX_PIECES: usize = 128;

/// Room for choices that is kept from one event to the next.
const MAX_KEPT: usize = 8;

/// Whether a member of an event is one that streams repeat in every event.
pub(crate) fn is_settled(key: &str, value: &str) -> bool {
    match key {
        "id" | "created" | "model" | "service_tier" | "system_fingerprint" => true,
        "object" => matches!(value, r#""chat.completion.chunk""# | r#""text_completion""#),
        _ => false,
    }
}

/// Reads the members of a request that every OpenAI-shaped API has.
pub(crate) fn request_parameter(path: &[Step<'_>], token: Token<'_>, draft: &mut Draft) {
    let request = &mut draft.request;
    let key = match path {
        [Key("stop")] | [Key("stop"), Index(_)] => return stop_sequence(token, request),
        [Key("response_format"), rest @ ..] => {
            return request.output_type = output_type(rest, token).or(request.output_type);
        }
        [Key("modalities"), Index(_)] => {
            if matches!(token, Token::String { text: "audio", .. }) {
                request.output_type = Some("speech");
            }
            return;
        }
        [Key(key)] => *key,
        _ => return,
    };
    match key {
        // watsonx has the second.
        "model" | "model_id" => {
            draft.request_hint |= matches!(token, Token::String { .. });
            request.model = value::name(token).or(request.model.take());
        }
        "stream" => request.stream = value::boolean(token).or(request.stream),
        // The newer name comes with reasoning models, where both may be given and it is the one that holds.
        "max_completion_tokens" => request.max_tokens = value::count(token).or(request.max_tokens),
        "max_tokens" => request.max_tokens = request.max_tokens.or(value::count(token)),
        "temperature" => request.temperature = value::float(token).or(request.temperature),
        "top_p" => request.top_p = value::float(token).or(request.top_p),
        "frequency_penalty" => request.frequency_penalty = value::float(token).or(request.frequency_penalty),
        "presence_penalty" => request.presence_penalty = value::float(token).or(request.presence_penalty),
        "seed" | "random_seed" => request.seed = value::integer(token).or(request.seed),
        "n" => request.choice_count = value::count(token).or(request.choice_count),
        "top_k" => request.top_k = value::float(token).or(request.top_k),
        "service_tier" => request.service_tier = value::name(token).or(request.service_tier.take()),
        _ => {}
    }
}

/// Azure names the model that answers in a header. A body that names one has the last word.
pub(crate) fn response_header(part: Part, name: &str, value: &str, draft: &mut Draft) {
    if part == Part::Response && name == "x-ms-served-model" {
        draft.response.model = value::clean(value);
    }
}

/// Most stop sequences that are kept. Four is the most that OpenAI takes; other APIs take many and nobody sends them.
const MAX_STOPS: usize = 16;

/// Keeps a stop sequence: the only one, or one of a list.
pub(crate) fn stop_sequence(token: Token<'_>, request: &mut RequestFacts) {
    if request.stop_sequences.len() < MAX_STOPS {
        // A line end is a usual one.
        request.stop_sequences.extend(value::verbatim(token));
    }
}

/// Reads one value below `response_format`, or what is the same elsewhere.
pub(crate) fn output_type(rest: &[Step<'_>], token: Token<'_>) -> Option<&'static str> {
    let ([] | [Key("type")], Token::String { text, .. }) = (rest, token) else { return None };
    match text {
        "text" => Some("text"),
        "json" | "json_object" | "json_schema" => Some("json"),
        _ => None,
    }
}

/// Counts an array's elements; the count is known only where the array ends.
#[derive(Debug, Default)]
pub(crate) struct Elements(u64);

impl Elements {
    /// Takes a value whose path begins with the array's key. `rest` is the path after it.
    pub fn take(&mut self, rest: &[Step<'_>], token: Token<'_>, total: &mut Option<u64>) {
        match (rest, token) {
            ([], Token::ArrayStart) => self.0 = 0,
            ([], Token::ArrayEnd) => *total = Some(self.0),
            ([Index(i)], _) => self.0 = self.0.max(u64::from(*i) + 1),
            _ => {}
        }
    }
}

/// One choice of the current document.
#[derive(Debug, Default)]
struct Piece {
    position: u32,
    index: Option<u32>,
    finish: Option<String>,
    delta: Option<Choice>,
    message: Option<Choice>,
    /// Which of the two spellings of reasoning came first; some servers send both with the same text.
    reasoning_key: Option<&'static str>,
    /// Legacy completions have the text in the choice itself.
    own: Choice,
}

/// Reads response documents.
#[derive(Debug, Default)]
pub(crate) struct ResponseReader {
    pieces: Vec<Piece>,
    usage: Option<Box<UsageReader>>,
    error: Option<Box<ErrorReader>>,
    /// The document only repeats what was streamed.
    repeats: bool,
    /// A copy of the call's budget for the pieces of this document.
    budget: Option<Budget>,
}

impl ResponseReader {
    /// Takes one value; `proves` says which `object` is this API's.
    pub fn value(&mut self, path: &[Step<'_>], token: Token<'_>, proves: fn(&str) -> bool, draft: &mut Draft) {
        // Most values of a stream, and nothing else looks at them.
        if let [Key("choices"), Index(position), rest @ ..] = path
            && let [Key("delta"), ..] = rest
        {
            return self.choice(*position, rest, token, draft);
        }
        draft.engine = draft.engine.or_else(|| engines::of_member(path, token));
        // A stream's events are full of members that are not there.
        if let (Token::Null, [.., Key(_)]) = (token, path) {
            return;
        }
        draft.timings.openai_value(path, token);
        let response = &mut draft.response;
        let path = match path {
            // Google's copy puts an error into a list.
            [Index(0), rest @ ..] => rest,
            path => path,
        };
        match (path, token) {
            ([Key("object")], Token::String { text, .. }) => {
                draft.response_proof |= proves(text);
                self.repeats = text == REPEAT;
                self.error_root(path, token);
            }
            ([Key("id")], _) if response.id.is_none() => response.id = value::name(token),
            ([Key("model")], _) => value::rename(token, &mut response.model),
            ([Key("system_fingerprint")], _) => {
                value::rename(token, &mut response.system_fingerprint);
            }
            ([Key("service_tier")], _) => value::rename(token, &mut response.service_tier),
            ([Key("usage"), rest @ ..] | [Key("x_groq"), Key("usage"), rest @ ..], _) => self.usage(rest, token),
            // llama.cpp counts here even where no usage was asked for.
            ([Key("timings"), rest @ ..], _) => self.usage.get_or_insert_default().timings(rest, token),
            // Who answered behind OpenRouter.
            ([Key("provider")], _) => {
                response.upstream_provider = value::name(token).or(response.upstream_provider.take());
            }
            ([Key("choices"), Index(_), Key("native_finish_reason")], _) => {
                response.native_finish_reason = value::name(token).or(response.native_finish_reason.take());
            }
            // Moonshot puts it into the last choice.
            ([Key("choices"), Index(_), Key("usage"), rest @ ..], _) => self.usage(rest, token),
            ([Key("error"), rest @ ..] | [Key("choices"), Index(_), Key("error"), rest @ ..], _) => {
                self.error.get_or_insert_default().value(rest, token);
            }
            ([Key("choices"), Index(position), rest @ ..], _) => self.choice(*position, rest, token, draft),
            ([Key(_)], _) => self.error_root(path, token),
            _ => {}
        }
    }

    fn usage(&mut self, rest: &[Step<'_>], token: Token<'_>) {
        self.usage.get_or_insert_default().value(rest, token);
    }

    fn error_root(&mut self, path: &[Step<'_>], token: Token<'_>) {
        if ErrorReader::is_member(path, token) {
            self.error.get_or_insert_default().root(path, token);
        }
    }

    fn choice(&mut self, position: u32, rest: &[Step<'_>], token: Token<'_>, draft: &mut Draft) {
        let budget = self.budget.get_or_insert_with(|| draft.choices.budget.clone());
        let at = match self.pieces.iter().rposition(|piece| piece.position == position) {
            Some(at) => at,
            None if self.pieces.len() >= MAX_PIECES => return draft.choices.leave_out(),
            None => {
                self.pieces.push(Piece { position, ..Piece::default() });
                self.pieces.len() - 1
            }
        };
        let piece = &mut self.pieces[at];
        match (rest, token) {
            ([Key("index")], _) => piece.index = value::index(token),
            ([Key("finish_reason")], _) => piece.finish = value::name(token),
            ([Key("text")], _) => {
                piece.own.say(token, budget);
            }
            // vLLM's token numbers, which may be all there is.
            ([Key("token_ids"), Index(0)], Token::Number(_)) => piece.own.carries = true,
            ([Key(key @ ("delta" | "message")), rest @ ..], _) => {
                let slot = if *key == "delta" { &mut piece.delta } else { &mut piece.message };
                if matches!((rest, token), ([], Token::ObjectStart)) {
                    draft.response_proof = true;
                    slot.get_or_insert_default();
                }
                if let Some(choice) = slot {
                    message(choice, &mut piece.reasoning_key, rest, token, budget);
                }
            }
            _ => {}
        }
    }

    /// Adds the document to the call and says whether it carried content.
    pub fn end(&mut self, streamed: bool, draft: &mut Draft) -> bool {
        let Self { pieces, usage, error, repeats, budget } = self;
        *budget = None;
        let repeats = std::mem::take(repeats);
        if let Some(usage) = usage.take() {
            usage.end(draft);
        }
        if let Some(failure) = error.take().and_then(|error| error.end()) {
            draft.failure.get_or_insert(failure);
        }
        let mut carries = false;
        // Not a new list for every event of a stream.
        for piece in pieces.iter_mut() {
            // Perplexity's chunks hold the message so far beside the delta, its plain responses an empty delta
            // beside the message.
            let (first, other) =
                if streamed { (&mut piece.delta, &mut piece.message) } else { (&mut piece.message, &mut piece.delta) };
            let body = first.as_mut().or(other.as_mut()).unwrap_or(&mut piece.own);
            if repeats {
                *body = Choice::default();
            }
            body.finish = piece.finish.take();
            carries |= body.carries;
            draft.choices.absorb(piece.index.unwrap_or(piece.position), std::mem::take(body));
        }
        pieces.clear();
        if pieces.capacity() > MAX_KEPT {
            *pieces = Vec::new();
        }
        carries
    }
}

/// Reads one value of a message or delta.
fn message(
    choice: &mut Choice,
    reasoning_key: &mut Option<&'static str>,
    rest: &[Step<'_>],
    token: Token<'_>,
    budget: &mut Budget,
) {
    match (rest, token) {
        (
            [Key("content" | "refusal")]
            // Mistral's typed parts.
            | [Key("content"), Index(_), Key("text" | "refusal")]
            | [Key("audio"), Key("transcript")],
            _,
        ) => {
            choice.refused |= rest.last() == Some(&Key("refusal")) && is_text(token);
            choice.say(token, budget);
        }
        ([Key("content"), Index(_), Key("thinking"), Index(_), Key("text")], _) => {
            choice.think(token, budget);
        }
        ([Key(key @ ("reasoning" | "reasoning_content"))], _) if is_text(token) => {
            choice.carries = true;
            let key = if *key == "reasoning" { "reasoning" } else { "reasoning_content" };
            if *reasoning_key.get_or_insert(key) == key {
                choice.reasoning.push_token(token, budget);
            }
        }
        ([Key("audio"), Key("data")], Token::String { text, .. }) => choice.carries |= !text.is_empty(),
        ([Key("tool_calls"), Index(position), rest @ ..], _) => tool_call(choice, Some(*position), rest, token, budget),
        // The single call of old; null where there is none.
        ([Key("function_call"), Key(_)], _) => {
            let path = [Key("function"), rest[1]];
            tool_call(choice, None, &path, token, budget);
        }
        _ => {}
    }
}

/// Whether `token` is text, or a piece of one, and not empty.
fn is_text(token: Token<'_>) -> bool {
    matches!(token, Token::String { text, .. } | Token::Piece(text) if !text.is_empty())
}

fn tool_call(choice: &mut Choice, position: Option<u32>, rest: &[Step<'_>], token: Token<'_>, budget: &mut Budget) {
    choice.carries = true;
    let Some(tool) = choice.tool(position, budget) else { return };
    match rest {
        [Key("index")] => tool.index = value::index(token),
        [Key("id")] => tool.id = value::name(token),
        [Key("function"), Key("name")] => tool.name = value::name(token),
        [Key("function"), Key("arguments")] => tool.arguments.push_token(token, budget),
        _ => {}
    }
}
