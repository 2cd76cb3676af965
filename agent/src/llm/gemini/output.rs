//! Responses in Gemini's form: one document, or one of the documents of a stream.

use super::usage::GeminiUsage;
use crate::{
    llm::{
        api::Draft,
        arguments::ValueWriter,
        choice::Choice,
        content::{Budget, Clipped},
        openai::error::ErrorReader,
        value,
    },
    protocol::json::{
        Step::{self, Index, Key},
        Token,
    },
};

/// Most candidates of one document that are followed. Gemini gives eight.
const MAX_CANDIDATES: usize = 16;

/// Finish reasons by number, as `enum-encoding=int` gives them. From six on Gemini and Vertex differ: the number stays.
const FINISH_REASONS: [&str; 6] = ["FINISH_REASON_UNSPECIFIED", "STOP", "MAX_TOKENS", "SAFETY", "RECITATION", "OTHER"];

/// Reads response documents.
#[derive(Debug, Default)]
pub(crate) struct OutputReader {
    usage: GeminiUsage,
    candidates: Vec<Candidate>,
    part: Part,
    /// Why the prompt was refused.
    blocked: Option<String>,
    error: ErrorReader,
    /// A copy of the call's budget for this document.
    budget: Option<Budget>,
}

#[derive(Debug, Default)]
struct Candidate {
    position: u32,
    index: Option<u32>,
    choice: Choice,
    n_calls: u32,
}

/// The part at hand of a candidate.
#[derive(Debug, Default)]
struct Part {
    text: Clipped,
    is_thought: bool,
    is_call: bool,
    id: Option<String>,
    name: Option<String>,
    arguments: Clipped,
    writer: ValueWriter,
    /// It holds text, a call, a picture or code.
    carries: bool,
}

impl OutputReader {
    /// Takes one value.
    pub fn value(&mut self, path: &[Step<'_>], token: Token<'_>, draft: &mut Draft) {
        // A stream without events is an array of documents.
        let (above, rest) = match path {
            [Index(_), rest @ ..] => (1, rest),
            path => (0, path),
        };
        let response = &mut draft.response;
        match (rest, token) {
            ([Key("usageMetadata")], Token::ObjectStart) => draft.response_proof = true,
            ([Key("candidates"), Index(position), rest @ ..], _) => {
                self.candidate(*position, (above + 2, path), rest, token, draft);
            }
            ([Key("usageMetadata"), rest @ ..], _) => self.usage.value(rest, token, draft),
            ([Key("responseId")], _) if response.id.is_none() => response.id = value::name(token),
            ([Key("modelVersion")], _) => response.model = value::name(token).or(response.model.take()),
            // The answer of `countTokens`, and no usage.
            ([Key("totalTokens")], _) => response.counted_tokens = value::count(token),
            ([Key("promptFeedback"), Key("blockReason")], _) => {
                draft.response_proof = true;
                self.blocked = value::name(token).or_else(|| number(token));
            }
            ([Key("error"), rest @ ..], _) => self.error.value(rest, token),
            ([], Token::ObjectEnd) if above == 1 => {
                self.end(draft);
            }
            _ => {}
        }
    }

    fn candidate(
        &mut self,
        position: u32,
        (above, path): (usize, &[Step<'_>]),
        rest: &[Step<'_>],
        token: Token<'_>,
        draft: &mut Draft,
    ) {
        let Self { candidates, part, budget, .. } = self;
        let budget = budget.get_or_insert_with(|| draft.choices.budget.clone());
        let at = match candidates.iter().rposition(|candidate| candidate.position == position) {
            Some(at) => at,
            None if candidates.len() >= MAX_CANDIDATES => return,
            None => {
                candidates.push(Candidate { position, ..Candidate::default() });
                candidates.len() - 1
            }
        };
        let Some(candidate) = candidates.get_mut(at) else { return };
        match (rest, token) {
            ([Key("index")], _) => candidate.index = value::index(token),
            ([Key("content"), Key("parts")], Token::ArrayStart) => draft.response_proof = true,
            ([Key("finishReason")], _) => candidate.choice.finish = finish_reason(token),
            ([Key("content"), Key("parts"), Index(_)], Token::ObjectEnd) => {
                std::mem::take(part).end(candidate, budget);
            }
            ([Key("content"), Key("parts"), Index(_), Key("functionCall"), Key("args"), ..], _) => {
                part.writer.push(above + 5, path, token, &mut part.arguments, budget);
            }
            ([Key("content"), Key("parts"), Index(_), rest @ ..], _) => part.value(rest, token, budget),
            _ => {}
        }
    }

    /// Adds the document to the call and says whether it carried content.
    pub fn end(&mut self, draft: &mut Draft) -> bool {
        self.budget = None;
        if let Some(failure) = std::mem::take(&mut self.error).end() {
            draft.failure.get_or_insert(failure);
        }
        if let Some(reason) = self.blocked.take() {
            draft.choices.absorb(0, Choice { finish: Some(reason), ..Choice::default() });
        }
        let mut carries = false;
        for Candidate { position, index, choice, .. } in std::mem::take(&mut self.candidates) {
            carries |= choice.carries;
            draft.choices.absorb(index.unwrap_or(position), choice);
        }
        carries
    }
}

impl Part {
    fn value(&mut self, rest: &[Step<'_>], token: Token<'_>, budget: &mut Budget) {
        match (rest, token) {
            ([Key("text")], _) => {
                self.text.push_token(token, budget);
                self.carries |= self.text.heard.is_any();
            }
            ([Key("thought")], Token::Bool(thought)) => self.is_thought = thought,
            ([Key("functionCall")], Token::ObjectStart) => (self.is_call, self.carries) = (true, true),
            ([Key("functionCall"), Key("id")], _) => self.id = value::name(token),
            ([Key("functionCall"), Key("name")], _) => self.name = value::name(token),
            ([Key("inlineData" | "executableCode" | "codeExecutionResult")], Token::ObjectStart) => self.carries = true,
            _ => {}
        }
    }

    /// Adds the part to its candidate.
    fn end(self, candidate: &mut Candidate, budget: &mut Budget) {
        let Self { text, is_thought, is_call, id, name, arguments, writer: _, carries } = self;
        let choice = &mut candidate.choice;
        choice.carries |= carries;
        let slot = if is_thought { &mut choice.reasoning } else { &mut choice.text };
        slot.append(text);
        if is_call {
            // Calls are not numbered and often have no id: each is one of its own.
            let position = candidate.n_calls;
            candidate.n_calls = position.saturating_add(1);
            if let Some(tool) = choice.tool(Some(position), budget) {
                (tool.id, tool.name, tool.arguments) = (id, name, arguments);
            }
        }
    }
}

fn finish_reason(token: Token<'_>) -> Option<String> {
    let reason = match value::count(token) {
        Some(n) => {
            let known = usize::try_from(n).ok().and_then(|n| FINISH_REASONS.get(n));
            known.map_or_else(|| n.to_string(), |reason| (*reason).to_owned())
        }
        None => value::name(token)?,
    };
    (reason != FINISH_REASONS[0]).then_some(reason)
}

fn number(token: Token<'_>) -> Option<String> {
    value::count(token).map(|n| n.to_string())
}
