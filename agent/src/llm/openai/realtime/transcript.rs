//! Transcripts of what was spoken to a socket: `conversation.item.input_audio_transcription.*` of the Realtime API,
//! `transcription.*` of vLLM and Mistral, whose realtime sockets do nothing else.
//!
//! A model of its own writes them, and its tokens or seconds are billed apart from the response's, so each is a call.

use crate::{
    llm::{
        api::{Draft, WireApi},
        choice::Choice,
        content::Clipped,
        openai::{error::ErrorReader, realtime, usage::UsageReader},
        value,
    },
    protocol::json::{
        Step::{self, Key},
        Token,
    },
};

/// Reads one transcript.
#[derive(Debug, Default)]
pub(crate) struct RealtimeTranscript {
    kind: Option<String>,
    /// A piece, or the whole of it, which repeats the pieces.
    text: Clipped,
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
            [Key("model")] => draft.response.model = value::name(token).or(draft.response.model.take()),
            [Key("delta" | "text" | "transcript")] => {
                self.text.push_token(token, &mut draft.choices.budget.clone());
            }
            [Key("usage"), rest @ ..] => self.usage.value(rest, token),
            [Key("error"), rest @ ..] => self.error.value(rest, token),
            _ => {}
        }
    }

    fn response_document(&mut self, _streamed: bool, draft: &mut Draft) -> bool {
        let kind = self.kind.take().unwrap_or_default();
        draft.response_proof |= ["conversation.item.input_audio_transcription.", "transcription."]
            .iter()
            .any(|start| kind.starts_with(start));
        let is_end = [".completed", ".failed", ".done"].iter().any(|end| kind.ends_with(end));
        self.over |= is_end;
        std::mem::take(&mut self.usage).end(draft);
        if let Some(failure) = std::mem::take(&mut self.error).end() {
            draft.failure.get_or_insert(failure);
        }
        let text = std::mem::take(&mut self.text);
        let carries = text.heard.is_any() && !(is_end && self.has_pieces);
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
