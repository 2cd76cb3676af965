//! Transcripts of what was spoken to a socket of the Realtime API: `conversation.item.input_audio_transcription.*`.
//!
//! A model of its own writes them, and its tokens or seconds are billed apart from the response's, so each is a call.

use super::{
    api::{Draft, WireApi},
    choice::Choice,
    content::Clipped,
    openai_error::ErrorReader,
    openai_usage::UsageReader,
    realtime, value,
};
use crate::protocol::json::{
    Step::{self, Key},
    Token,
};

/// Reads one transcript.
#[derive(Debug, Default)]
pub(crate) struct RealtimeTranscript {
    kind: Option<String>,
    piece: Clipped,
    /// The whole of it, which repeats the pieces.
    whole: Clipped,
    has_pieces: bool,
    over: bool,
    usage: UsageReader,
    error: ErrorReader,
}

impl WireApi for RealtimeTranscript {
    fn name(&self) -> &'static str {
        realtime::NAME
    }

    fn operation(&self) -> &'static str {
        "transcription"
    }

    fn default_provider(&self) -> &'static str {
        "openai"
    }

    /// What was spoken is no text.
    fn request_value(&mut self, _path: &[Step<'_>], _token: Token<'_>, _draft: &mut Draft) {}

    fn response_value(&mut self, path: &[Step<'_>], token: Token<'_>, draft: &mut Draft) {
        match path {
            [Key("type")] => self.kind = value::name(token),
            [Key("item_id")] => draft.response.id = value::name(token).or(draft.response.id.take()),
            [Key("delta")] => self.piece.push_token(token, &mut draft.choices.budget.clone()),
            [Key("transcript")] => self.whole.push_token(token, &mut draft.choices.budget.clone()),
            [Key("usage"), rest @ ..] => self.usage.value(rest, token),
            [Key("error"), rest @ ..] => self.error.value(rest, token),
            _ => {}
        }
    }

    fn response_document(&mut self, _streamed: bool, draft: &mut Draft) -> bool {
        let kind = self.kind.take().unwrap_or_default();
        draft.response_proof |= kind.starts_with("conversation.item.input_audio_transcription.");
        self.over |= kind.ends_with(".completed") || kind.ends_with(".failed");
        std::mem::take(&mut self.usage).end(draft);
        if let Some(failure) = std::mem::take(&mut self.error).end() {
            draft.failure.get_or_insert(failure);
        }
        let (piece, whole) = (std::mem::take(&mut self.piece), std::mem::take(&mut self.whole));
        let text = if whole.heard.is_any() && !self.has_pieces { whole } else { piece };
        let carries = text.heard.is_any();
        self.has_pieces |= carries;
        if carries {
            draft.choices.absorb(0, Choice { text, carries, ..Choice::default() });
        }
        carries
    }

    fn is_finished(&self, _body_ended: bool, _draft: &Draft) -> bool {
        self.over
    }
}
