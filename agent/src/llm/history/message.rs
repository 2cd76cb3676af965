//! One message of a request's history.

use std::hash::{DefaultHasher, Hasher as _};

use super::{MAX_RESULTS, SKIPPED, ToolResult};
use crate::protocol::json::{
    Step::{self, Key},
    Token,
};

/// Longest role; longer ones are not roles.
const MAX_ROLE: usize = 16;

/// Names of what a message says. Clients write the same text as the content itself and as a part of it.
const TEXT: [&str; 3] = ["content", "text", "message"];

/// What a message is to the history.
pub(super) enum Kind {
    /// Nothing: it holds reasoning only, or no value at all.
    Empty,
    /// A system prompt.
    System(u64),
    /// A turn of the conversation.
    Turn(u64),
}

/// A message while it is read.
#[derive(Clone)]
pub(super) struct Message {
    hash: DefaultHasher,
    any: bool,
    role: String,
    /// Responses: the call that this item makes or answers.
    call_id: Option<u64>,
    /// Responses: this item is a tool's result.
    is_output: bool,
    name: Option<u64>,
    /// Results that have an id or a name of their own.
    results: Vec<ToolResult>,
    /// Gemini: the result that is being read.
    function: Option<ToolResult>,
}

impl Message {
    /// An empty one, whose hash begins with `seed`.
    pub fn new(seed: &DefaultHasher) -> Self {
        Self {
            hash: seed.clone(),
            any: false,
            role: String::new(),
            call_id: None,
            is_output: false,
            name: None,
            results: Vec::new(),
            function: None,
        }
    }

    /// Makes it a user's text.
    pub fn user(&mut self, digest: u64) {
        "user".clone_into(&mut self.role);
        self.add("content", digest);
    }

    /// Takes one value; `rest` is the path from the message.
    pub fn take(&mut self, rest: &[Step<'_>], token: Token<'_>, digest: Option<u64>) {
        self.is_output |= rest.first() == Some(&Key("output"));
        match (rest, token) {
            ([.., Key("functionResponse" | "function_response")], Token::ObjectStart) => {
                self.function = Some(ToolResult::default());
            }
            ([.., Key("functionResponse" | "function_response")], Token::ObjectEnd) => {
                let result = self.function.take();
                result.into_iter().for_each(|result| self.answer(result));
            }
            ([Key("role")], Token::String { text, .. }) => {
                self.role = text.chars().take(MAX_ROLE).flat_map(char::to_lowercase).collect();
                return;
            }
            _ => {}
        }
        if let Some(digest) = digest {
            self.value(rest, digest);
        }
    }

    fn value(&mut self, rest: &[Step<'_>], digest: u64) {
        match (rest, &mut self.function) {
            ([.., Key("functionResponse" | "function_response"), Key("id")], Some(function)) => {
                function.id = Some(digest)
            }
            ([.., Key("functionResponse" | "function_response"), Key("name")], Some(function)) => {
                function.name = Some(digest);
            }
            // A call of Converse has the same name for its id as its result.
            ([.., Key("tool_call_id" | "tool_use_id" | "toolUseId")], _) if !rest.contains(&Key("toolUse")) => {
                self.answer(ToolResult { id: Some(digest), ..ToolResult::default() });
            }
            ([Key("call_id")], _) => self.call_id = Some(digest),
            ([Key("name" | "tool_name")], _) => self.name = Some(digest),
            _ => {}
        }
        let names = || rest.iter().filter_map(|step| if let Key(key) = step { Some(*key) } else { None });
        if let Some(key) = names().next_back()
            && names().all(|key| !SKIPPED.contains(&key))
        {
            self.add(key, digest);
        }
    }

    /// The results of tools in the message.
    pub fn results(&mut self) -> Vec<ToolResult> {
        match (self.role.as_str(), self.is_output, self.call_id) {
            // What the provider's own tools gave stands in the answer itself.
            ("assistant" | "model", ..) => return Vec::new(),
            (_, true, Some(id)) => self.answer(ToolResult { id: Some(id), ..ToolResult::default() }),
            ("tool" | "function", ..) if self.results.is_empty() => {
                self.answer(ToolResult { name: self.name, ..ToolResult::default() });
            }
            _ => {}
        }
        std::mem::take(&mut self.results)
    }

    fn answer(&mut self, result: ToolResult) {
        if self.results.len() < MAX_RESULTS {
            self.results.push(result);
        }
    }

    /// The message is over.
    pub fn end(mut self) -> Kind {
        if !self.any {
            return Kind::Empty;
        }
        // At the end, so that it does not matter where the role stands.
        self.hash.write(self.role.as_bytes());
        let digest = self.hash.finish();
        match self.role.as_str() {
            "system" | "developer" => Kind::System(digest),
            _ => Kind::Turn(digest),
        }
    }

    fn add(&mut self, key: &str, digest: u64) {
        self.any = true;
        let key = if TEXT.contains(&key) { "text" } else { key };
        self.hash.write(key.as_bytes());
        self.hash.write_u64(digest);
    }
}
