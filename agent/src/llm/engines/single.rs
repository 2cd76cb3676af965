//! Responses with one choice, as the engines' own APIs have.
//!
//! Owns the choice of the current document. Values come in any order, so a document is collected first and added to the
//! call at its end.

use crate::{
    llm::{
        api::Draft,
        choice::{Choice, ToolCall},
        content::Budget,
        value,
    },
    protocol::json::Token,
};

/// The choice that one document makes or continues.
#[derive(Debug, Default)]
pub(crate) struct Single {
    choice: Choice,
    /// A copy of the call's budget for the pieces of this document.
    budget: Option<Budget>,
}

impl Single {
    /// A piece of the answer.
    pub fn text(&mut self, token: Token<'_>, draft: &Draft) {
        let budget = self.budget.get_or_insert_with(|| draft.choices.budget.clone());
        self.choice.say(token, budget);
    }

    /// A piece of the reasoning.
    pub fn reasoning(&mut self, token: Token<'_>, draft: &Draft) {
        let budget = self.budget.get_or_insert_with(|| draft.choices.budget.clone());
        self.choice.think(token, budget);
    }

    /// The tool call at `position` of this document and the budget to fill it with; absent beyond the cap.
    pub fn tool(&mut self, position: u32, draft: &Draft) -> Option<(&mut ToolCall, &mut Budget)> {
        self.choice.carries = true;
        let budget = self.budget.get_or_insert_with(|| draft.choices.budget.clone());
        Some((self.choice.tool(Some(position), budget)?, budget))
    }

    /// Whether there is content that is not kept.
    pub fn mark(&mut self, carries: bool) {
        self.choice.carries |= carries;
    }

    /// The document's text turned out to be none.
    pub fn drop_text(&mut self) {
        self.choice = Choice { finish: self.choice.finish.take(), ..Choice::default() };
    }

    /// Why the answer ended.
    pub fn finish(&mut self, token: Token<'_>) {
        self.choice.finish = value::name(token).or(self.choice.finish.take());
    }

    /// The document is over. Adds it to the call's choice at `index` and says whether it carried content.
    pub fn end(&mut self, index: u32, draft: &mut Draft) -> bool {
        let Self { choice, budget: _ } = std::mem::take(self);
        let carries = choice.carries;
        draft.choices.absorb(index, choice);
        carries
    }
}
