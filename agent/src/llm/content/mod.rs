//! Messages of a call, collected within a bound and written as the conventions' JSON.
//!
//! Owns the budget, the intermediate form of messages and the final text. The wire APIs decide which value is
//! which part. With content off nothing here keeps a byte.

mod render;

use crate::{
    llm::{quality::Heard, value},
    privacy::Redactor,
    protocol::json::Token,
};

pub(crate) use render::render;

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
    pub counted: bool,
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
            counted: false,
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
        self.heard.counts |= budget.counted;
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
    /// `uri`
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

/// The request's messages while they are read.
#[derive(Clone, Debug)]
pub(crate) struct Transcript {
    /// What may still be kept.
    pub budget: Budget,
    messages: Vec<Message>,
    /// Whether the last message takes parts.
    open: bool,
}

impl Transcript {
    /// An empty one.
    pub fn new(cap: Option<usize>) -> Self {
        Self { budget: Budget::new(cap), messages: Vec::new(), open: false }
    }

    /// Begins a message.
    pub fn begin(&mut self) {
        self.open = self.budget.charge();
        if self.open {
            self.messages.push(Message::default());
        }
    }

    /// Begins a message whose role the wire leaves out.
    pub fn begin_as(&mut self, role: &str) {
        self.begin();
        if let Some((message, _)) = self.current() {
            message.role = Some(role.to_owned());
        }
    }

    /// The message that was begun last, unless it is not kept.
    pub fn current(&mut self) -> Option<(&mut Message, &mut Budget)> {
        if !self.open || !self.budget.on {
            return None;
        }
        Some((self.messages.last_mut()?, &mut self.budget))
    }

    /// Adds a part to the current message and gives it back for filling, unless it is not kept.
    pub fn add(&mut self, part: Part) -> Option<(&mut Part, &mut Budget)> {
        if !self.open || !self.budget.charge() {
            return None;
        }
        let parts = &mut self.messages.last_mut()?.parts;
        parts.push(part);
        Some((parts.last_mut()?, &mut self.budget))
    }

    /// The part that was added last.
    pub fn last(&mut self) -> Option<(&mut Part, &mut Budget)> {
        if !self.open || !self.budget.on {
            return None;
        }
        Some((self.messages.last_mut()?.parts.last_mut()?, &mut self.budget))
    }

    /// Adds a string value as a part that `make` wraps.
    pub fn add_text(&mut self, token: Token<'_>, make: fn(Clipped) -> Part) {
        let Token::String { text, truncated } = token else { return };
        if !self.open || !self.budget.charge() {
            return;
        }
        let mut clipped = Clipped::default();
        clipped.push(text, truncated, &mut self.budget);
        if let Some(message) = self.messages.last_mut() {
            message.parts.push(make(clipped));
        }
    }

    /// Adds a string value as a whole message.
    pub fn add_message(&mut self, role: &str, token: Token<'_>) {
        if !matches!(token, Token::String { .. }) {
            return;
        }
        self.begin_as(role);
        self.add_text(token, Part::Text);
    }

    /// Adds what a media URL stands for: a reference, or data whose bytes are left out.
    pub fn add_media(&mut self, token: Token<'_>, modality: &'static str) {
        let Token::String { text, truncated } = token else { return };
        match text.strip_prefix("data:") {
            Some(data) => {
                let mime = data.find([';', ',']).and_then(|end| value::clean(&data[..end]));
                self.add_blob(modality, mime);
            }
            None => {
                if let Some((Part::Uri { uri, .. }, budget)) = self.add(Part::Uri { modality, uri: Clipped::default() })
                {
                    uri.push(text, truncated, budget);
                }
            }
        }
    }

    /// Adds inline data of which only the kind is kept.
    pub fn add_blob(&mut self, modality: &'static str, mime: Option<String>) {
        if self.add(Part::Blob { modality, mime }).is_some() {
            self.budget.cut = true;
        }
    }

    /// The messages, and whether something was left out.
    pub fn into_messages(self) -> (Vec<Message>, bool) {
        let Self { budget, messages, open: _ } = self;
        (messages, budget.cut)
    }

    /// Bytes of text held, for tests of the bound.
    #[cfg(test)]
    pub fn held(&self) -> usize {
        let texts = self.messages.iter().flat_map(|message| &message.parts).map(|part| match part {
            Part::Text(t) | Part::Reasoning(t) => t.text.capacity(),
            Part::ToolCall { arguments: t, .. } | Part::ToolResult { response: t, .. } | Part::Uri { uri: t, .. } => {
                t.text.capacity()
            }
            Part::File { .. } | Part::Blob { .. } => 0,
        });
        texts.sum::<usize>() + self.messages.capacity() * size_of::<Message>()
    }
}
