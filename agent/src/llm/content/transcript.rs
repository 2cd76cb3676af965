//! Messages while they are read, the newest kept where not all fit.

use std::collections::VecDeque;

use super::{Budget, Clipped, Message, Part, text_cap};
use crate::{llm::value, protocol::json::Token};

/// The request's messages, or its instructions.
///
/// Each message may take the whole cap. When the next one begins, the oldest go until the rest fits into the cap, so
/// that no more than twice the cap is ever held.
#[derive(Clone, Debug)]
pub(crate) struct Transcript {
    /// What the current message may still take.
    pub budget: Budget,
    /// What one message, and all but the current one together, may take.
    whole: usize,
    /// The messages, each with what it took of the budget.
    messages: VecDeque<(Message, usize)>,
    /// What all but the current message took.
    taken: usize,
    /// Whether the last message takes parts.
    open: bool,
}

impl Transcript {
    /// An empty one.
    pub fn new(cap: Option<usize>) -> Self {
        Self {
            budget: Budget::new(cap),
            whole: cap.map_or(0, text_cap),
            messages: VecDeque::new(),
            taken: 0,
            open: false,
        }
    }

    /// One that takes parts at once: instructions are no messages.
    pub fn of_parts(cap: Option<usize>) -> Self {
        let mut transcript = Self::new(cap);
        transcript.begin();
        transcript
    }

    /// Begins a message.
    pub fn begin(&mut self) {
        if self.budget.is_on() {
            self.settle();
        }
        self.open = self.budget.charge();
        if self.open {
            self.messages.push_back((Message::default(), 0));
        }
    }

    /// Begins a message whose role the wire leaves out.
    pub fn begin_as(&mut self, role: &str) {
        self.begin();
        if let Some((message, _)) = self.current() {
            message.role = Some(role.to_owned());
        }
    }

    /// Writes down what the current message took and lets the oldest go that do not fit beside the newer ones.
    fn settle(&mut self) {
        let Self { budget, whole, messages, taken, open: _ } = self;
        let cost = budget.renew(*whole);
        if let Some((_, current)) = messages.back_mut() {
            *current = cost;
            *taken = taken.saturating_add(cost);
        }
        while *taken > *whole
            && messages.len() > 1
            && let Some((_, cost)) = messages.pop_front()
        {
            *taken = taken.saturating_sub(cost);
            budget.cut = true;
        }
    }

    /// The message that was begun last, unless it is not kept.
    pub fn current(&mut self) -> Option<(&mut Message, &mut Budget)> {
        if !self.open || !self.budget.is_on() {
            return None;
        }
        Some((&mut self.messages.back_mut()?.0, &mut self.budget))
    }

    /// Adds a part to the current message and gives it back for filling, unless it is not kept.
    pub fn add(&mut self, part: Part) -> Option<(&mut Part, &mut Budget)> {
        if !self.open || !self.budget.charge() {
            return None;
        }
        let parts = &mut self.messages.back_mut()?.0.parts;
        parts.push(part);
        Some((parts.last_mut()?, &mut self.budget))
    }

    /// The part that was added last.
    pub fn last(&mut self) -> Option<(&mut Part, &mut Budget)> {
        let (message, budget) = self.current()?;
        Some((message.parts.last_mut()?, budget))
    }

    /// Adds a string value as a part that `make` wraps.
    pub fn add_text(&mut self, token: Token<'_>, make: fn(Clipped) -> Part) {
        let Token::String { text, truncated } = token else { return };
        if !self.open || !self.budget.charge() {
            return;
        }
        let mut clipped = Clipped::default();
        clipped.push(text, truncated, &mut self.budget);
        if let Some((message, _)) = self.messages.back_mut() {
            message.parts.push(make(clipped));
        }
    }

    /// Adds a string value as a whole message.
    pub fn add_message(&mut self, role: &str, token: Token<'_>) {
        if matches!(token, Token::String { .. }) {
            self.begin_as(role);
            self.add_text(token, Part::Text);
        }
    }

    /// Adds what a media URL stands for: a reference, or data whose bytes are left out.
    pub fn add_media(&mut self, token: Token<'_>, modality: &'static str) {
        let Token::String { text, truncated } = token else { return };
        match text.strip_prefix("data:") {
            Some(data) => {
                let mime = data.find([';', ',']).and_then(|end| value::clean(&data[..end]));
                let bytes = data.split_once(";base64,").filter(|_| !truncated).map(|(_, bytes)| base64_len(bytes));
                self.add_blob(modality, mime);
                self.set_size(bytes);
            }
            None => {
                if let Some((Part::Uri { uri, .. }, budget)) = self.add(Part::Uri { modality, uri: Clipped::default() })
                {
                    uri.push(text, truncated, budget);
                }
            }
        }
    }

    /// Adds a string value that is data in base64, of which only the kind and the size are kept.
    pub fn add_data(&mut self, token: Token<'_>, modality: &'static str, mime: Option<String>) {
        let Token::String { text, truncated } = token else { return };
        self.add_blob(modality, mime);
        self.set_size((!truncated).then(|| base64_len(text)));
    }

    /// Adds inline data of which only the kind is kept.
    pub fn add_blob(&mut self, modality: &'static str, mime: Option<String>) {
        if self.add(Part::Blob { modality, mime, size: None }).is_some() {
            self.budget.cut = true;
        }
    }

    /// Says how many bytes the data has that was added last.
    fn set_size(&mut self, bytes: Option<u64>) {
        if let Some((Part::Blob { size, .. }, _)) = self.last() {
            *size = bytes;
        }
    }

    /// The messages, and whether something was left out.
    pub fn into_messages(mut self) -> (Vec<Message>, bool) {
        if self.whole > 0 {
            self.settle();
        }
        (self.messages.into_iter().map(|(message, _)| message).collect(), self.budget.cut)
    }

    /// Bytes held, for tests of the bound.
    #[cfg(test)]
    pub fn held(&self) -> usize {
        let texts = self.messages.iter().flat_map(|(message, _)| &message.parts).map(|part| match part {
            Part::Text(t) | Part::Reasoning(t) => t.text.capacity(),
            Part::ToolCall { arguments: t, .. } | Part::Uri { uri: t, .. } => t.text.capacity(),
            Part::ToolResult { response: t, .. } | Part::ServerToolResponse { response: t, .. } => t.text.capacity(),
            Part::ServerToolCall { arguments: t, .. } => t.text.capacity(),
            Part::File { .. } | Part::Blob { .. } | Part::Generic { .. } => 0,
        });
        texts.sum::<usize>() + self.messages.capacity() * size_of::<(Message, usize)>()
    }
}

/// How many bytes base64 text stands for (RFC 4648 section 4).
fn base64_len(text: &str) -> u64 {
    let digits = text.bytes().filter(|b| !b.is_ascii_whitespace() && *b != b'=').count();
    (digits as u64).saturating_mul(3) / 4
}

#[cfg(test)]
mod tests {
    use super::*;

    fn say(transcript: &mut Transcript, text: &str) {
        transcript.begin();
        transcript.add_text(Token::String { text, truncated: false }, Part::Text);
    }

    fn texts(transcript: Transcript) -> (Vec<String>, bool) {
        let (messages, cut) = transcript.into_messages();
        let text = |message: Message| match message.parts.into_iter().next() {
            Some(Part::Text(clipped)) => clipped.text,
            other => panic!("{other:?}"),
        };
        (messages.into_iter().map(text).collect(), cut)
    }

    #[test]
    fn the_newest_messages_stay() {
        let mut transcript = Transcript::new(Some(1_000));
        (0..100).for_each(|n| say(&mut transcript, &format!("{n:0300}")));
        let (texts, cut) = texts(transcript);
        assert!(cut && (3..=5).contains(&texts.len()), "{}", texts.len());
        assert_eq!(texts.last().map(String::as_str), Some(format!("{:0300}", 99).as_str()));
        assert!(texts.is_sorted(), "in order");
    }

    #[test]
    fn what_fits_stays_whole() {
        let mut transcript = Transcript::new(Some(1_000));
        (0..3).for_each(|n| say(&mut transcript, &format!("{n:0200}")));
        let (texts, cut) = texts(transcript);
        assert_eq!((texts.len(), cut), (3, false));
    }

    #[test]
    fn a_message_larger_than_the_cap_keeps_its_beginning() {
        let mut transcript = Transcript::new(Some(1_000));
        say(&mut transcript, "old");
        say(&mut transcript, &"x".repeat(100_000));
        let (texts, cut) = texts(transcript);
        assert!(cut && texts.len() == 1 && texts[0].len() >= 1_000 && texts[0].len() < 2_000);
    }

    #[test]
    fn many_empty_messages_are_bounded() {
        let mut transcript = Transcript::new(Some(1_000));
        for _ in 0..100_000 {
            transcript.begin();
            transcript.add_blob("image", None);
            assert!(transcript.held() < 20_000, "{} held", transcript.held());
        }
    }

    #[test]
    fn sizes_of_data_are_those_of_the_bytes() {
        for (text, expect) in [("", 0), ("QQ==", 1), ("QUI=", 2), ("QUJD", 3), ("QUJDRA", 4), ("QU\nJD", 3)] {
            assert_eq!(base64_len(&text.replace("\\n", "\n")), expect, "{text}");
        }
    }

    #[test]
    fn nothing_is_kept_with_content_off() {
        let mut transcript = Transcript::of_parts(None);
        say(&mut transcript, "a");
        assert_eq!(transcript.held(), 0);
        assert_eq!(transcript.into_messages().0.len(), 0);
    }
}
