//! Responses in Converse's form: a whole document, or the payloads of a stream's frames.
//!
//! What a payload is follows from its members. Amazon's models under `/invoke` wrap each in an object that names it.

use crate::{
    llm::{
        api::Draft,
        arguments::ValueWriter,
        choice::Choice,
        content::{Budget, Clipped},
        value,
    },
    protocol::json::{
        Step::{self, Index, Key},
        Token,
    },
};

/// Reads response documents.
#[derive(Debug, Default)]
pub(crate) struct OutputReader {
    document: Document,
    /// Input tokens that neither came from the cache nor went there.
    uncached: Option<u64>,
    /// The entry at hand of the list of cache writes.
    ttl: Option<String>,
    written: Option<u64>,
}

#[derive(Debug, Default)]
struct Document {
    stop: Option<String>,
    /// Place of the block that a payload is about.
    index: Option<u32>,
    tool: Tool,
    choice: Choice,
    /// A copy of the call's budget for this document.
    budget: Option<Budget>,
}

/// The tool call at hand.
#[derive(Debug, Default)]
struct Tool {
    begun: bool,
    id: Option<String>,
    name: Option<String>,
    input: Clipped,
    writer: ValueWriter,
}

impl OutputReader {
    /// Takes one value.
    pub fn value(&mut self, path: &[Step<'_>], token: Token<'_>, draft: &mut Draft) {
        let (above, rest) = match path {
            [
                Key(
                    "messageStart" | "contentBlockStart" | "contentBlockDelta" | "contentBlockStop" | "messageStop"
                    | "metadata",
                ),
                rest @ ..,
            ] => (1, rest),
            path => (0, path),
        };
        let document = &mut self.document;
        match (rest, token) {
            ([Key("stopReason")], _) => {
                draft.response_proof |= matches!(token, Token::String { .. });
                document.stop = value::name(token);
            }
            ([Key("contentBlockIndex")], _) => {
                draft.response_proof = true;
                document.index = value::index(token);
            }
            ([Key("usage"), rest @ ..], _) => self.usage(rest, token, draft),
            ([Key("metrics"), Key(key)], _) => draft.timings.named(key, token),
            ([Key("serviceTier"), Key("type")], _) => draft.response.service_tier = value::name(token),
            // The answer of `count-tokens`, and no usage.
            ([Key("inputTokens")], _) => draft.response.counted_tokens = value::count(token),
            ([Key("output"), Key("message"), Key("content"), Index(at), rest @ ..], _) => {
                let budget = document.budget.get_or_insert_with(|| draft.choices.budget.clone());
                match rest {
                    [Key("toolUse"), Key("input"), ..] => {
                        let Tool { input, writer, .. } = &mut document.tool;
                        writer.push(above + 6, path, token, input, budget);
                    }
                    _ => document.block(Some(*at), rest, token),
                }
            }
            ([Key("start" | "delta"), rest @ ..], _) => {
                document.budget.get_or_insert_with(|| draft.choices.budget.clone());
                document.block(None, rest, token);
            }
            _ => {}
        }
    }

    fn usage(&mut self, rest: &[Step<'_>], token: Token<'_>, draft: &mut Draft) {
        let usage = &mut draft.usage;
        let slot = match (rest, token) {
            ([Key("inputTokens")], _) => &mut self.uncached,
            ([Key("outputTokens")], _) => &mut usage.output,
            ([Key("totalTokens")], _) => &mut usage.total,
            // Each count comes under two names.
            ([Key("cacheReadInputTokens" | "cacheReadInputTokenCount")], _) => &mut usage.cache_read,
            ([Key("cacheWriteInputTokens" | "cacheWriteInputTokenCount")], _) => &mut usage.cache_write,
            ([Key("cacheDetails"), Index(_), Key("ttl")], _) => return self.ttl = value::name(token),
            ([Key("cacheDetails"), Index(_), Key("inputTokens")], _) => return self.written = value::count(token),
            ([Key("cacheDetails"), Index(_)], Token::ObjectEnd) => {
                match self.ttl.take().as_deref() {
                    Some("5m") => usage.cache_write_5m = self.written,
                    Some("1h") => usage.cache_write_1h = self.written,
                    _ => {}
                }
                self.written = None;
                return;
            }
            _ => return,
        };
        *slot = value::count(token).or(*slot);
        let cached = [usage.cache_read, usage.cache_write].into_iter().flatten();
        usage.input = self.uncached.map(|uncached| cached.fold(uncached, u64::saturating_add));
    }

    /// Adds the document to the call and says whether it carried content.
    pub fn end(&mut self, streamed: bool, draft: &mut Draft) -> bool {
        let Document { stop, index, tool, mut choice, budget } = std::mem::take(&mut self.document);
        let mut budget = budget.unwrap_or_else(|| draft.choices.budget.clone());
        if streamed {
            tool.end(index, &mut choice, &mut budget);
        }
        let carries = choice.carries;
        choice.finish = stop;
        if carries || choice.finish.is_some() || !choice.tools.is_empty() {
            draft.choices.absorb(0, choice);
        }
        carries
    }
}

impl Document {
    /// A value of a block or of a piece of one. `at` is its place where the document has a list of them.
    fn block(&mut self, at: Option<u32>, rest: &[Step<'_>], token: Token<'_>) {
        let Self { tool, choice, budget: Some(budget), .. } = self else { return };
        match (rest, token) {
            ([], Token::ObjectEnd) if at.is_some() => {
                choice.carries |= tool.begun;
                std::mem::take(tool).end(at, choice, budget);
            }
            ([Key("text")], _) => choice.say(token, budget),
            (
                [Key("reasoningContent"), Key("text")] | [Key("reasoningContent"), Key("reasoningText"), Key("text")],
                _,
            ) => choice.think(token, budget),
            ([Key("toolUse")], Token::ObjectStart) => tool.begun = true,
            ([Key("toolUse"), Key("toolUseId")], _) => tool.id = value::name(token),
            ([Key("toolUse"), Key("name")], _) => tool.name = value::name(token),
            // A piece of the arguments' text.
            ([Key("toolUse"), Key("input")], Token::String { .. } | Token::Piece(_)) => {
                choice.carries = true;
                tool.input.push_token(token, budget);
            }
            ([Key("image")], Token::ObjectStart) => choice.carries = true,
            _ => {}
        }
    }
}

impl Tool {
    /// Adds the call, or a piece of it, to the others.
    fn end(self, at: Option<u32>, choice: &mut Choice, budget: &mut Budget) {
        let Self { begun, id, name, input, writer: _ } = self;
        if begun && let Some(tool) = choice.tool(at, budget) {
            (tool.index, tool.id, tool.name, tool.arguments) = (at, id, name, input);
        }
    }
}
