//! Content of a call, collected within a bound and written as the conventions' JSON.
//!
//! Owns the budget, the intermediate form of messages, instructions and tools, and the final text, in which redaction
//! comes before any cut. The wire APIs decide which value is which part. With content off nothing here keeps a byte.
//!
//! What a wire API does with it:
//! * messages of the request go to `Draft::input`, instructions that the API takes apart from them (`instructions`,
//!   `system`, `systemInstruction`) to `Draft::instructions`: [`Transcript`];
//! * tools that the request offers go to `Draft::tools`: [`ToolDefinitions`];
//! * arguments that are JSON in the body itself, not in a string, are written back to text by `arguments::ValueWriter`;
//! * what names a user (`user`, `metadata.user_id`, `safety_identifier`) or holds a secret of a tool (`authorization`,
//!   `headers`, `client_secret`) is given to none of them.
//!
//! To add a kind of part: a variant of [`Part`], its form in `render.rs`.

mod render;
mod tools;
mod transcript;

use super::{estimate::Counting, quality::Heard, value};
use crate::{privacy::Redactor, protocol::json::Token};

pub(crate) use render::{render, render_parts, render_recent, render_tools};
pub(crate) use tools::ToolDefinitions;
pub(crate) use transcript::Transcript;

/// What a message or part costs of the budget besides its text, so that a million empty ones are bounded too.
const OVERHEAD: usize = 48;

/// Most tool calls kept of a response, with content or without: two for each choice of the widest API.
const MAX_TOOL_CALLS: u32 = 256;

/// How much more may be kept of one direction of a call.
#[derive(Clone, Debug)]
pub(crate) struct Budget {
    on: bool,
    /// Texts are judged, kept or not.
    watched: bool,
    /// Texts are counted, kept or not.
    pub counted: Option<Counting>,
    left: usize,
    tools: u32,
    /// Something was left out.
    pub cut: bool,
}

impl Budget {
    /// A budget for `cap` bytes, or one that keeps nothing. The margin is what redaction needs to see of a text
    /// that will be cut at the cap.
    pub fn new(cap: Option<usize>) -> Self {
        Self {
            on: cap.is_some(),
            watched: false,
            counted: None,
            left: cap.map_or(0, text_cap),
            tools: MAX_TOOL_CALLS,
            cut: false,
        }
    }

    /// The same budget, for texts that are judged too.
    pub fn watched(mut self) -> Self {
        self.watched = true;
        self
    }

    /// Whether texts are kept or judged.
    pub fn takes(&self) -> bool {
        self.on || self.watched
    }

    /// Whether anything is to be kept.
    pub fn is_on(&self) -> bool {
        self.on
    }

    /// Keeps nothing more: bytes are missing, and what follows would be joined to the wrong text.
    pub fn seal(&mut self) {
        self.cut |= self.on;
        self.on = false;
    }

    /// Takes the place of one tool call; false when there are too many.
    pub fn take_tool(&mut self) -> bool {
        let fits = self.tools > 0;
        self.tools = self.tools.saturating_sub(1);
        fits
    }

    /// Allows as much again as at the beginning, and says how much was taken of that.
    fn renew(&mut self, whole: usize) -> usize {
        whole.saturating_sub(std::mem::replace(&mut self.left, whole))
    }

    /// A short string, which costs what it is long.
    pub fn name(&mut self, token: Token<'_>) -> Option<String> {
        let name = value::name(token).filter(|_| self.on)?;
        let rest = self.left.checked_sub(name.len());
        self.cut |= rest.is_none();
        self.left = rest?;
        Some(name)
    }

    /// Takes the fixed cost of a message or part; false when it no longer fits.
    pub fn charge(&mut self) -> bool {
        let fits = self.on && self.left >= OVERHEAD;
        self.cut |= self.on && !fits;
        self.left = self.left.saturating_sub(OVERHEAD);
        fits
    }
}

/// Longest text that has to be read to keep `cap` bytes of it.
pub(crate) fn text_cap(cap: usize) -> usize {
    cap.saturating_add(Redactor::MARGIN)
}

/// A text that may have been cut.
#[derive(Clone, Debug, Default)]
pub(crate) struct Clipped {
    /// Its beginning, not yet redacted.
    pub text: String,
    /// Whether there was more.
    pub cut: bool,
    /// What is noticed of all of it, kept or not.
    pub heard: Heard,
}

impl Clipped {
    /// Appends as much of `text` as the budget allows. `truncated` says that `text` itself is only a beginning.
    pub fn push(&mut self, text: &str, truncated: bool, budget: &mut Budget) {
        if let Some(heard) = self.heard_by(budget) {
            heard.string(text, truncated);
        }
        self.keep(text, truncated, budget);
    }

    /// Appends the next document's piece of the same text.
    pub fn absorb(&mut self, piece: Self, budget: &mut Budget) {
        let Self { text, cut, heard } = piece;
        self.heard.absorb(heard);
        self.keep(&text, cut, budget);
    }

    /// Appends a piece of a JSON text that is whole whatever was cut inside its strings.
    pub fn push_json(&mut self, text: &str, cut: bool, budget: &mut Budget) {
        if let Some(heard) = self.heard_by(budget) {
            heard.string(text, false);
        }
        self.keep(text, cut, budget);
    }

    /// What notices the text, if anything does.
    fn heard_by(&mut self, budget: &Budget) -> Option<&mut Heard> {
        self.heard.counts = budget.counted;
        budget.watched.then_some(&mut self.heard)
    }

    fn keep(&mut self, text: &str, truncated: bool, budget: &mut Budget) {
        if !budget.on || self.cut {
            return;
        }
        let room = text.floor_char_boundary(budget.left);
        self.text.push_str(&text[..room]);
        budget.left -= room;
        self.cut = truncated || room < text.len();
        budget.cut |= self.cut;
    }

    /// Appends another text, which its own budget has paid for.
    pub fn append(&mut self, other: Self) {
        let Self { text, cut, heard } = other;
        self.heard.append(heard);
        if !self.cut {
            self.text.push_str(&text);
            self.cut = cut;
        }
    }

    /// Appends a string value, or notices a piece of one.
    pub fn push_token(&mut self, token: Token<'_>, budget: &mut Budget) {
        match token {
            Token::Piece(text) => self.heard_by(budget).into_iter().for_each(|heard| heard.piece(text)),
            Token::String { text, truncated } => self.push(text, truncated, budget),
            _ => {}
        }
    }
}

/// One part of a message.
#[derive(Clone, Debug)]
pub(crate) enum Part {
    /// `text`, which in a tool's message becomes `tool_call_response`
    Text(Clipped),
    /// `reasoning`
    Reasoning(Clipped),
    /// `tool_call`
    ToolCall {
        /// Id that the result refers to.
        id: Option<String>,
        /// Tool.
        name: Option<String>,
        /// Arguments, as the JSON text that the wire carries.
        arguments: Clipped,
    },
    /// `tool_call_response`, where a tool's result is a part of a message and not a message
    ToolResult {
        /// Id of the call that it answers.
        id: Option<String>,
        /// Text, or JSON as text.
        response: Clipped,
    },
    /// `server_tool_call`
    ServerToolCall {
        /// Id that the result refers to.
        id: Option<String>,
        /// Tool.
        name: Option<String>,
        /// Arguments as JSON text.
        arguments: Clipped,
    },
    /// `server_tool_call_response`
    ServerToolResponse {
        /// Id of the call.
        id: Option<String>,
        /// What kind of result it is, as the wire names it.
        kind: String,
        /// Text, or JSON as text.
        response: Clipped,
    },
    /// `uri`, without its query and fragment
    Uri {
        /// image, video, audio or document.
        modality: &'static str,
        /// Where it is.
        uri: Clipped,
    },
    /// `file`
    File {
        /// image, video, audio or document.
        modality: &'static str,
        /// The provider's id for it.
        id: String,
    },
    /// `blob` whose bytes are left out: a picture would use up the cap and tell nobody anything.
    Blob {
        /// image, video, audio or document.
        modality: &'static str,
        /// From a `data:` URI.
        mime: Option<String>,
        /// How many bytes it has, where the wire showed all of it.
        size: Option<u64>,
    },
    /// A part that has no form in the conventions, by its type alone.
    Generic {
        /// As the wire spells it.
        kind: String,
    },
}

/// One message.
#[derive(Clone, Debug, Default)]
pub(crate) struct Message {
    /// As the wire spells it.
    pub role: Option<String>,
    /// Name of the participant.
    pub name: Option<String>,
    /// For a tool's result: the call that it answers.
    pub tool_call_id: Option<String>,
    /// In the conventions' spelling; output only.
    pub finish_reason: Option<String>,
    /// Parts in order.
    pub parts: Vec<Part>,
}
