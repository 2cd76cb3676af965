//! What a request's messages were, as hashes: enough to tell that one call continues or repeats another, and no text.
//!
//! Owns what of a message counts as history and how it is folded. Which earlier call a history belongs to is the
//! business of `call::conversation`. Needs no wire API: the lists of messages are told by their names, which all APIs
//! share.
//!
//! Counted are the role and the values of every message. Left out is what clients change or drop between two requests
//! of the same conversation: cache marks, reasoning, ids and states of items, the type of a part. System prompts are
//! hashed apart (`frame`), because some carry the time. All hashes are keyed with the run's secret, so that nobody can
//! try words on them.
//!
//! To add an API whose list has another name: its key to [`LISTS`]. To leave something else out: its key to
//! [`SKIPPED`].

mod message;
#[cfg(test)]
mod tests;

use std::{
    collections::VecDeque,
    hash::{DefaultHasher, Hasher as _},
};

use crate::protocol::json::{
    Step::{self, Index, Key},
    Token,
};
use message::Message;

/// Keys of a request's list of messages: most APIs, Responses and interactions, Gemini, Cohere v1.
pub(crate) const LISTS: [&str; 4] = ["messages", "input", "contents", "chat_history"];

/// Keys of what stands over all messages.
pub(crate) const SYSTEM: [&str; 5] = ["system", "instructions", "systemInstruction", "system_instruction", "preamble"];

/// Keys below a message that are not history.
const SKIPPED: [&str; 15] = [
    "cache_control",
    "cachePoint",
    "encrypted_content",
    "id",
    "reasoning",
    "reasoningContent",
    "reasoning_content",
    "reasoning_details",
    "signature",
    "status",
    "summary",
    "thinking",
    "thoughtSignature",
    "thought_signature",
    "type",
];

/// Messages, counted from the end, up to which an earlier call may have had the same history. One answer with as many
/// parallel tool calls as any API allows adds twice as many at most, and nobody makes so many.
const MAX_PREFIXES: usize = 128;

/// Results of tools that are kept, counted from the end: those of the last answer stand there.
const MAX_RESULTS: usize = 64;

/// The run's secret, which hashes of content are keyed with.
pub type Secret = [u8; 16];

/// A hash of `bytes` that only this run can make.
pub(crate) fn keyed(secret: &Secret, bytes: &[u8]) -> u64 {
    let mut hash = hasher(secret);
    hash.write(bytes);
    hash.finish()
}

fn hasher(secret: &Secret) -> DefaultHasher {
    let mut hash = DefaultHasher::new();
    hash.write(secret);
    hash
}

/// A request's history.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// Messages in it.
    pub messages: u32,
    /// Hash of the messages up to each of the last ones; the last is that of all. Empty without messages.
    pub prefixes: Vec<u64>,
    /// Hash of the system prompts.
    pub frame: u64,
    /// Hash of everything in the request.
    pub body: u64,
    /// Results of tools among the messages.
    pub results: Vec<ToolResult>,
}

impl History {
    /// Hash of all messages; absent without messages.
    pub fn whole(&self) -> Option<u64> {
        self.prefixes.last().copied()
    }

    /// Hash of the first `messages` messages; absent where it was not kept.
    pub fn prefix(&self, messages: u32) -> Option<u64> {
        let back = usize::try_from(self.messages.checked_sub(messages)?).ok()?;
        self.prefixes.len().checked_sub(back + 1).and_then(|at| self.prefixes.get(at)).copied()
    }
}

/// A tool's result in a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ToolResult {
    /// Number of the message that it stands in, from 1; messages without history count as the next.
    pub message: u32,
    /// Keyed hash of the id of the call that it answers.
    pub id: Option<u64>,
    /// Keyed hash of the tool's name.
    pub name: Option<u64>,
}

/// Reads a request's history while the request is parsed.
#[derive(Clone)]
pub(crate) struct HistoryReader {
    /// Begins every hash.
    seed: DefaultHasher,
    /// The string that is coming in pieces.
    long: Option<DefaultHasher>,
    message: Option<Message>,
    /// Cohere v1 has the last message beside the list, and often before it.
    last: Option<u64>,
    chain: u64,
    messages: u32,
    prefixes: VecDeque<u64>,
    results: VecDeque<ToolResult>,
    frame: DefaultHasher,
    body: DefaultHasher,
}

impl HistoryReader {
    /// A request of which nothing was read.
    pub fn new(secret: &Secret) -> Self {
        let seed = hasher(secret);
        Self {
            long: None,
            message: None,
            last: None,
            chain: seed.finish(),
            messages: 0,
            prefixes: VecDeque::new(),
            results: VecDeque::new(),
            frame: seed.clone(),
            body: seed.clone(),
            seed,
        }
    }

    /// Takes one value of the request.
    pub fn take(&mut self, path: &[Step<'_>], token: Token<'_>) {
        let digest = match token {
            Token::Piece(text) => {
                self.long.get_or_insert_with(|| self.seed.clone()).write(text.as_bytes());
                return;
            }
            Token::String { truncated: true, .. } => self.long.take().map(|hash| hash.finish()),
            Token::String { text: "", .. } | Token::Null => None,
            Token::String { text, .. } | Token::Number(text) => Some(self.digest(text)),
            Token::Bool(value) => Some(u64::from(value)),
            Token::ObjectStart | Token::ObjectEnd | Token::ArrayStart | Token::ArrayEnd => None,
        };
        match path {
            [Key(list), rest @ ..] if LISTS.contains(list) => self.listed(rest, token, digest),
            [Key("message")] => self.last = digest,
            // Cohere v1 sends the tools' results beside the messages too.
            [Key("tool_results"), Index(_), Key("call"), Key("name")] => {
                self.result(ToolResult { name: digest, ..ToolResult::default() });
            }
            _ => {}
        }
        let Some(digest) = digest else { return };
        if matches!(path, [Key(key), ..] if SYSTEM.contains(key)) {
            fold(&mut self.frame, path, digest);
        }
        fold(&mut self.body, path, digest);
    }

    /// The request is over, and was read whole.
    pub fn end(&mut self) -> History {
        if let Some(digest) = self.last.take() {
            let mut message = Message::new(&self.seed);
            message.user(digest);
            self.end_message(message);
        }
        History {
            messages: self.messages,
            prefixes: std::mem::take(&mut self.prefixes).into(),
            frame: self.frame.finish(),
            body: self.body.finish(),
            results: std::mem::take(&mut self.results).into(),
        }
    }

    fn digest(&self, text: &str) -> u64 {
        let mut hash = self.seed.clone();
        hash.write(text.as_bytes());
        hash.finish()
    }

    /// A value of the list of messages; `rest` is the path from there.
    fn listed(&mut self, rest: &[Step<'_>], token: Token<'_>, digest: Option<u64>) {
        match (rest, token) {
            // A single message, or one of several, that is text alone.
            ([] | [Index(_)], Token::String { .. }) => {
                let mut message = Message::new(&self.seed);
                digest.into_iter().for_each(|digest| message.user(digest));
                self.end_message(message);
            }
            ([Index(_)], Token::ObjectStart) => self.message = Some(Message::new(&self.seed)),
            ([Index(_)], Token::ObjectEnd) => {
                if let Some(message) = self.message.take() {
                    self.end_message(message);
                }
            }
            ([Index(_), rest @ ..], _) => {
                if let Some(message) = &mut self.message {
                    message.take(rest, token, digest);
                }
            }
            _ => {}
        }
    }

    fn end_message(&mut self, mut message: Message) {
        message.results().into_iter().for_each(|result| self.result(result));
        match message.end() {
            message::Kind::Empty => {}
            message::Kind::System(digest) => self.frame.write_u64(digest),
            message::Kind::Turn(digest) => {
                let mut hash = self.seed.clone();
                hash.write_u64(self.chain);
                hash.write_u64(digest);
                self.chain = hash.finish();
                self.messages = self.messages.saturating_add(1);
                push(&mut self.prefixes, self.chain, MAX_PREFIXES);
            }
        }
    }

    fn result(&mut self, result: ToolResult) {
        let message = self.messages.saturating_add(1);
        push(&mut self.results, ToolResult { message, ..result }, MAX_RESULTS);
    }
}

/// Adds to a list that keeps the last `max`.
fn push<T>(list: &mut VecDeque<T>, item: T, max: usize) {
    if list.len() == max {
        list.pop_front();
    }
    list.push_back(item);
}

/// Folds a value and the name that it stands under.
fn fold(hash: &mut DefaultHasher, path: &[Step<'_>], digest: u64) {
    if let Some(Key(key)) = path.iter().rev().find(|step| matches!(step, Key(_))) {
        hash.write(key.as_bytes());
    }
    hash.write_u64(digest);
}
