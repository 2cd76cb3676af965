//! Alternatives of a response, put together from pieces.
//!
//! A stream gives each choice in many pieces and several choices in turn; a plain response gives each in one.
//! Both end up here: [`Choice`] is a piece or a sum of pieces, [`Choices`] the sums by index.

use super::{
    content::{Budget, Clipped, Message, Part},
    facts::AskedTool,
};
use crate::protocol::json::Token;

/// Most choices kept of one call. The widest API allows 128.
const MAX_CHOICES: usize = 128;

/// One tool call, or a piece of one.
#[derive(Clone, Debug, Default)]
pub(crate) struct ToolCall {
    /// Place in the piece's own list; absent for the old single `function_call`.
    pub position: Option<u32>,
    /// Index that the provider gave, which ties later pieces to the first one.
    pub index: Option<u32>,
    /// Id that the provider gave.
    pub id: Option<String>,
    /// Tool.
    pub name: Option<String>,
    /// Arguments, kept when content is on.
    pub arguments: Clipped,
    /// Order of appearance in the whole response.
    order: u32,
}

/// One choice, or a piece of one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Choice {
    /// Finish reason as the provider spells it.
    pub finish: Option<String>,
    /// Answer, kept when content is on.
    pub text: Clipped,
    /// Reasoning, kept when content is on.
    pub reasoning: Clipped,
    /// It holds a refusal.
    pub refused: bool,
    /// Tool calls.
    pub tools: Vec<ToolCall>,
    /// Whether it holds content, reasoning or a tool call, kept or not.
    pub carries: bool,
    /// Whether tool calls were left out because there were too many.
    pub overflow: bool,
}

impl Choice {
    /// Appends a string value, or a piece of one, to the answer.
    pub fn say(&mut self, token: Token<'_>, budget: &mut Budget) {
        self.text.push_token(token, budget);
        self.carries |= self.text.heard.is_any();
    }

    /// Appends a string value, or a piece of one, to the reasoning.
    pub fn think(&mut self, token: Token<'_>, budget: &mut Budget) {
        self.reasoning.push_token(token, budget);
        self.carries |= self.reasoning.heard.is_any();
    }

    /// The tool call at `position` of this piece; absent beyond the cap.
    pub fn tool(&mut self, position: Option<u32>, budget: &mut Budget) -> Option<&mut ToolCall> {
        if let Some(at) = self.tools.iter().position(|tool| tool.position == position) {
            return self.tools.get_mut(at);
        }
        if !budget.take_tool() {
            self.overflow = true;
            return None;
        }
        self.tools.push(ToolCall { position, ..ToolCall::default() });
        self.tools.last_mut()
    }
}

/// The choices of a response, in the order of their index.
#[derive(Clone, Debug)]
pub(crate) struct Choices {
    /// What may still be kept of the output.
    pub budget: Budget,
    list: Vec<(u32, Choice)>,
    n_tools: u32,
    overflow: bool,
    cut: bool,
}

impl Choices {
    /// None yet.
    pub fn new(cap: Option<usize>) -> Self {
        Self { budget: Budget::new(cap).watched(), list: Vec::new(), n_tools: 0, overflow: false, cut: false }
    }

    /// Adds a piece to the choice at `index`.
    pub fn absorb(&mut self, index: u32, piece: Choice) {
        let Self { budget, list, n_tools, overflow, cut: _ } = self;
        let at = match list.binary_search_by_key(&index, |(index, _)| *index) {
            Ok(at) => at,
            Err(_) if list.len() >= MAX_CHOICES => {
                *overflow = true;
                return;
            }
            Err(at) => {
                budget.charge();
                list.insert(at, (index, Choice::default()));
                at
            }
        };
        let choice = &mut list[at].1;
        let Choice { finish, text, reasoning, refused, tools, carries, overflow: too_many } = piece;
        choice.finish = finish.or(choice.finish.take());
        choice.carries |= carries;
        choice.refused |= refused;
        choice.reasoning.absorb(reasoning, budget);
        choice.text.absorb(text, budget);
        *overflow |= too_many;
        for tool in tools {
            *overflow |= !merge_tool(&mut choice.tools, tool, n_tools, budget);
        }
    }

    /// The text so far of the choice at `index`, as far as it is kept.
    pub fn text(&self, index: u32) -> &str {
        let found = self.list.binary_search_by_key(&index, |(index, _)| *index).ok().and_then(|at| self.list.get(at));
        found.map_or("", |(_, choice)| &choice.text.text)
    }

    /// Takes out of a piece that repeats what was streamed what came before. Only for a piece whose tool calls have an
    /// index or an id.
    pub fn take_out_known(&self, index: u32, piece: &mut Choice) {
        let Some((_, known)) = self.list.iter().find(|(at, _)| *at == index) else { return };
        if known.text.heard.is_any() {
            piece.text = Clipped::default();
        }
        if known.reasoning.heard.is_any() {
            piece.reasoning = Clipped::default();
        }
        for tool in &mut piece.tools {
            let same = |other: &&ToolCall| {
                (tool.id.is_some() && other.id == tool.id) || (tool.index.is_some() && other.index == tool.index)
            };
            if known.tools.iter().find(same).is_some_and(|other| other.arguments.heard.is_any()) {
                tool.arguments = Clipped::default();
            }
        }
    }

    /// Whether a choice has a tool call under this index.
    pub fn has_tool(&self, choice: u32, index: Option<u32>) -> bool {
        let of = |(at, known): &(u32, Choice)| *at == choice && known.tools.iter().any(|tool| tool.index == index);
        self.list.iter().any(of)
    }

    /// Finish reasons in the order of the choices.
    pub fn finish_reasons(&self) -> Vec<String> {
        self.list.iter().filter_map(|(_, choice)| choice.finish.clone()).collect()
    }

    /// Names of the tools called, in the order of appearance.
    pub fn tool_names(&self) -> Vec<String> {
        let mut tools: Vec<_> = self.list.iter().flat_map(|(_, choice)| &choice.tools).collect();
        tools.sort_by_key(|tool| tool.order);
        tools.into_iter().filter_map(|tool| tool.name.clone()).collect()
    }

    /// The tool calls in the order of appearance.
    pub fn asked(&self) -> Vec<AskedTool> {
        let mut tools: Vec<_> = self.list.iter().flat_map(|(_, choice)| &choice.tools).collect();
        tools.sort_by_key(|tool| tool.order);
        tools.into_iter().map(|tool| AskedTool { id: tool.id.clone(), name: tool.name.clone() }).collect()
    }

    /// The choices in the order of their index.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Choice> {
        self.list.iter_mut().map(|(_, choice)| choice)
    }

    /// Bytes are missing: what follows would be joined to the wrong text.
    pub fn cut(&mut self) {
        self.budget.seal();
        self.cut = true;
    }

    /// Whether bytes are missing.
    pub fn is_cut(&self) -> bool {
        self.cut
    }

    /// Whether at least `expected` choices began and every one that began has a finish reason.
    pub fn all_finished(&self, expected: u64) -> bool {
        !self.list.is_empty()
            && self.list.len() as u64 >= expected.min(MAX_CHOICES as u64)
            && self.list.iter().all(|(_, choice)| choice.finish.is_some())
    }

    /// Choices are left out because there are too many.
    pub fn leave_out(&mut self) {
        self.overflow = true;
    }

    /// Whether choices or tool calls were left out because there were too many.
    pub fn overflow(&self) -> bool {
        self.overflow
    }

    /// One message a choice, and whether something was left out.
    pub fn into_messages(self) -> (Vec<Message>, bool) {
        let Self { budget, list, .. } = self;
        let messages = list.into_iter().map(|(_, choice)| {
            let Choice { finish, text, reasoning, mut tools, .. } = choice;
            tools.sort_by_key(|tool| tool.order);
            let mut parts = Vec::new();
            if !reasoning.text.is_empty() || reasoning.cut {
                parts.push(Part::Reasoning(reasoning));
            }
            if !text.text.is_empty() || text.cut {
                parts.push(Part::Text(text));
            }
            parts.extend(tools.into_iter().map(|ToolCall { id, name, arguments, .. }| Part::ToolCall {
                id,
                name,
                arguments,
            }));
            let calls = parts.iter().any(|part| matches!(part, Part::ToolCall { .. }));
            Message {
                role: Some("assistant".to_owned()),
                finish_reason: finish.map(|reason| match schema_finish_reason(&reason) {
                    // Some APIs do not tell a call from an answer here.
                    "stop" if calls => "tool_call".to_owned(),
                    reason => reason.to_owned(),
                }),
                parts,
                ..Message::default()
            }
        });
        (messages.collect(), budget.cut)
    }

    /// Bytes of text held, for tests of the bound.
    #[cfg(test)]
    pub fn held(&self) -> usize {
        let of = |choice: &Choice| {
            let tools = choice.tools.iter().map(|tool| tool.arguments.text.capacity() + size_of::<ToolCall>());
            choice.text.text.capacity() + choice.reasoning.text.capacity() + tools.sum::<usize>()
        };
        self.list.iter().map(|(_, choice)| of(choice) + size_of::<Choice>()).sum()
    }
}

/// Adds a piece to the tool call that it continues; false when there are too many.
fn merge_tool(tools: &mut Vec<ToolCall>, piece: ToolCall, n_tools: &mut u32, budget: &mut Budget) -> bool {
    let ToolCall { position, index, id, name, arguments, order: _ } = piece;
    let same_index = tools.iter().rposition(|tool| index.is_some() && tool.index == index);
    let same_id = tools.iter().rposition(|tool| id.is_some() && tool.id == id);
    let found = match (same_index, &name) {
        // A new name under a new id is a new call even when the index repeats: Gemini's OpenAI path numbers every
        // call 0. A new id alone is not: some vLLM versions draw one for every piece.
        (Some(at), Some(_)) if id.is_some() && tools[at].id.is_some() && tools[at].id != id => same_id,
        (Some(at), _) => Some(at),
        // Without an index (Mistral, `function_call`), a piece that names nothing new continues the last call.
        (None, None) if index.is_none() => same_id.or(tools.len().checked_sub(1)),
        (None, _) if index.is_none() => same_id,
        (None, _) => None,
    };
    let at = match found {
        Some(at) => at,
        None if !budget.take_tool() => return false,
        None => {
            budget.charge();
            tools.push(ToolCall { position, index, order: *n_tools, ..ToolCall::default() });
            *n_tools += 1;
            tools.len() - 1
        }
    };
    let tool = &mut tools[at];
    tool.id = tool.id.take().or(id);
    tool.name = tool.name.take().or(name);
    tool.arguments.absorb(arguments, budget);
    true
}

/// The conventions' spelling of a finish reason, which the message schema wants; others stay as they are.
pub(super) fn schema_finish_reason(reason: &str) -> &str {
    match reason {
        "stop" | "end_turn" | "stop_sequence" | "COMPLETE" | "STOP" | "eos" | "eos_token" | "word" | "completed" => {
            "stop"
        }
        "length" | "max_tokens" | "MAX_TOKENS" | "max_output_tokens" | "limit" => "length",
        "tool_calls" | "function_call" | "tool_use" | "TOOL_CALL" => "tool_call",
        "content_filter"
        | "SAFETY"
        | "refusal"
        | "guardrail_intervened"
        | "content_filtered"
        | "PROHIBITED_CONTENT"
        | "BLOCKLIST"
        | "SPII"
        | "RECITATION"
        | "MODEL_ARMOR" => "content_filter",
        "failed" | "ERROR" | "error" => "error",
        reason if reason.starts_with("malformed_") => "error",
        reason => reason,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(index: Option<u32>, id: Option<&str>, name: Option<&str>) -> Choice {
        let mut choice = Choice::default();
        let tool = choice.tool(Some(0), &mut Budget::new(None)).unwrap();
        (tool.index, tool.id, tool.name) = (index, id.map(Into::into), name.map(Into::into));
        choice
    }

    fn check(pieces: &[(Option<u32>, Option<&str>, Option<&str>)], expect: &[&str]) {
        let mut choices = Choices::new(None);
        for &(index, id, name) in pieces {
            choices.absorb(0, piece(index, id, name));
        }
        assert_eq!(choices.tool_names(), expect, "{pieces:?}");
    }

    #[test]
    fn tool_calls_are_told_apart() {
        check(&[(Some(0), Some("a"), Some("f")), (Some(0), None, None), (Some(1), Some("b"), Some("g"))], &["f", "g"]);
        check(&[(Some(0), Some("a"), Some("f")), (Some(0), Some("b"), None)], &["f"]);
        check(&[(Some(0), Some("a"), Some("f")), (Some(0), Some("b"), Some("g"))], &["f", "g"]);
        check(&[(Some(0), Some("a"), Some("f")), (Some(0), Some("a"), Some("f"))], &["f"]);
        check(&[(None, Some("a"), Some("f")), (None, Some("b"), Some("f")), (None, None, None)], &["f", "f"]);
        check(&[(None, None, Some("f")), (None, None, None)], &["f"]);
    }

    #[test]
    fn hostile_numbers_of_choices_and_tools_are_bounded() {
        let mut choices = Choices::new(None);
        for i in 0..10_000 {
            choices.absorb(i, piece(Some(i), None, Some("f")));
            choices.absorb(0, piece(Some(i), None, Some("f")));
        }
        assert!(choices.overflow());
        assert_eq!((choices.tool_names().len(), choices.list.len()), (256, MAX_CHOICES));
    }
}
