//! `openai.chat`: `/chat/completions` of OpenAI and of everyone who copied it.

use super::{Elements, ResponseReader, is_settled, request_parameter, response_header};
use crate::{
    llm::{
        api::{Draft, Part as Half, WireApi},
        content::{Clipped, Part, Transcript},
    },
    protocol::json::{
        Step::{self, Index, Key},
        Token,
    },
};

/// Reads one chat call.
#[derive(Debug, Default)]
pub(crate) struct OpenAiChat {
    /// The path names the model, so the body need not.
    model_in_path: bool,
    has_messages: bool,
    messages: Elements,
    tools: Elements,
    response: ResponseReader,
}

impl OpenAiChat {
    /// A call of which nothing has been read.
    pub fn new(model_in_path: bool) -> Self {
        Self { model_in_path, ..Self::default() }
    }
}

impl WireApi for OpenAiChat {
    fn name(&self) -> &'static str {
        "openai.chat"
    }

    fn operation(&self) -> &'static str {
        "chat"
    }

    fn default_provider(&self) -> &'static str {
        "openai"
    }

    fn header(&mut self, part: Half, name: &'static str, value: &str, draft: &mut Draft) {
        response_header(part, name, value, draft);
    }

    fn request_value(&mut self, path: &[Step<'_>], token: Token<'_>, draft: &mut Draft) {
        match path {
            [Key("messages"), rest @ ..] => {
                self.has_messages |= matches!((rest, token), ([], Token::ArrayStart));
                self.messages.take(rest, token, &mut draft.request.message_count);
                if draft.input.budget.is_on() {
                    input_message(rest, token, &mut draft.input);
                }
            }
            [Key("tools"), rest @ ..] => {
                self.tools.take(rest, token, &mut draft.request.tool_count);
                draft.tools.take(2, path, token);
            }
            _ => request_parameter(path, token, draft),
        }
        // The key alone is a hint; many chat programs of other kinds have a list of messages.
        let has_model = self.model_in_path || draft.request.model.is_some();
        draft.request_hint |= self.has_messages;
        draft.request_proof |= self.has_messages && has_model;
    }

    fn response_value(&mut self, path: &[Step<'_>], token: Token<'_>, draft: &mut Draft) {
        self.response.value(path, token, |object| object.starts_with("chat.completion"), draft);
    }

    fn response_document(&mut self, streamed: bool, draft: &mut Draft) -> bool {
        self.response.end(streamed, draft)
    }

    fn is_settled(&self, key: &str, value: &str) -> bool {
        is_settled(key, value)
    }

    fn is_finished(&self, body_ended: bool, draft: &Draft) -> bool {
        draft.choices.all_finished(draft.request.choice_count.unwrap_or(1)) && (body_ended || draft.usage.is_reported())
    }
}

/// Reads one value of the message list for content.
pub(crate) fn input_message(rest: &[Step<'_>], token: Token<'_>, input: &mut Transcript) {
    match (rest, token) {
        ([Index(_)], Token::ObjectStart) => input.begin(),
        ([Index(_), Key(key)], _) => match *key {
            "role" => {
                if let Some((message, budget)) = input.current() {
                    message.role = budget.name(token);
                }
            }
            "name" => {
                if let Some((message, budget)) = input.current() {
                    message.name = budget.name(token);
                }
            }
            "tool_call_id" => {
                if let Some((message, budget)) = input.current() {
                    message.tool_call_id = budget.name(token);
                }
            }
            "content" | "refusal" => input.add_text(token, Part::Text),
            "reasoning" | "reasoning_content" | "tool_plan" => input.add_text(token, Part::Reasoning),
            _ => {}
        },
        ([Index(_), Key("content"), Index(_), rest @ ..], _) => part(rest, token, input),
        ([Index(_), Key("tool_calls"), Index(_), rest @ ..], _) => tool_call(rest, token, input),
        _ => {}
    }
}

/// Types of content parts whose values [`part`] knows, OpenAI's, Mistral's and vLLM's.
const TYPES: [&str; 11] = [
    "text",
    "refusal",
    "thinking",
    "image_url",
    "video_url",
    "document_url",
    "file_url",
    "file",
    "input_audio",
    "input_text",
    "output_text",
];

/// Reads one value of a typed content part. The part's type follows from the key that holds its value; of one that
/// holds nothing known the type is all that is kept.
fn part(rest: &[Step<'_>], token: Token<'_>, input: &mut Transcript) {
    match (rest, token) {
        ([Key("type")], Token::String { text, .. }) if !TYPES.contains(&text) => {
            if let Some(kind) = input.budget.name(token) {
                input.add(Part::Generic { kind });
            }
        }
        // A list of plain strings.
        ([], Token::String { .. }) | ([Key("text" | "refusal")], _) => input.add_text(token, Part::Text),
        ([Key("thinking"), Index(_), Key("text")], _) => input.add_text(token, Part::Reasoning),
        ([Key("image_url")] | [Key("image_url"), Key("url")], _) => input.add_media(token, "image"),
        ([Key("video_url")] | [Key("video_url"), Key("url")], _) => input.add_media(token, "video"),
        ([Key("document_url")] | [Key("file_url"), Key("url")] | [Key("file"), Key("file_data")], _) => {
            input.add_media(token, "document");
        }
        ([Key("input_audio"), Key("data")], _) => input.add_data(token, "audio", None),
        ([Key("file"), Key("file_id")], _) => {
            if let Some(id) = input.budget.name(token) {
                input.add(Part::File { modality: "document", id });
            }
        }
        _ => {}
    }
}

/// Reads one value of a tool call that an earlier answer made.
fn tool_call(rest: &[Step<'_>], token: Token<'_>, input: &mut Transcript) {
    if let ([], Token::ObjectStart) = (rest, token) {
        input.add(Part::ToolCall { id: None, name: None, arguments: Clipped::default() });
        return;
    }
    let Some((Part::ToolCall { id, name, arguments }, budget)) = input.last() else { return };
    match rest {
        [Key("id")] => *id = budget.name(token),
        [Key("function"), Key("name")] => *name = budget.name(token),
        [Key("function"), Key("arguments")] => arguments.push_token(token, budget),
        _ => {}
    }
}
