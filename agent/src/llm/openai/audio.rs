//! `openai.audio`: `/audio/transcriptions`, `/audio/translations` and `/audio/speech` of OpenAI, and of Mistral, Groq,
//! Cohere and OpenRouter.
//!
//! Recordings come as forms, of which the recording itself is passed over. Speech is answered with audio, which is not
//! looked into, or with events.

use super::{embeddings::text, plain::PlainReader, request_parameter, response_header};
use crate::{
    llm::{
        api::{Draft, Part as Half, WireApi},
        choice::Choice,
        content::Clipped,
        value,
    },
    protocol::json::{
        Step::{self, Key},
        Token,
    },
};

/// What is done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Task {
    /// Speech is written down.
    #[default]
    Transcription,
    /// The same, in English.
    Translation,
    /// Text is spoken.
    Speech,
}

/// Reads one call.
#[derive(Debug, Default)]
pub(crate) struct Audio {
    task: Task,
    /// What is to be read or spoken was seen.
    has_subject: bool,
    kind: Option<String>,
    text: Clipped,
    has_text: bool,
    has_pieces: bool,
    over: bool,
    plain: PlainReader,
}

impl Audio {
    /// A call of which nothing has been read.
    pub fn new(task: Task) -> Self {
        Self { task, ..Self::default() }
    }
}

impl WireApi for Audio {
    fn name(&self) -> &'static str {
        "openai.audio"
    }

    fn operation(&self) -> &'static str {
        match self.task {
            Task::Transcription => "transcription",
            Task::Translation => "translation",
            Task::Speech => "speech",
        }
    }

    fn default_provider(&self) -> &'static str {
        "openai"
    }

    fn header(&mut self, part: Half, name: &'static str, value: &str, draft: &mut Draft) {
        response_header(part, name, value, draft);
    }

    fn request_value(&mut self, path: &[Step<'_>], token: Token<'_>, draft: &mut Draft) {
        match path {
            [Key("file")] if self.task != Task::Speech => {
                self.has_subject |= matches!(token, Token::ObjectStart | Token::String { .. });
            }
            // Where the recording is, in the spellings of Groq and Mistral, and Azure's name for what to read.
            [Key("url" | "file_url" | "file_id" | "input_audio")] if self.task != Task::Speech => {
                self.has_subject |= matches!(token, Token::ObjectStart | Token::String { .. });
            }
            [Key("input")] if self.task == Task::Speech => {
                self.has_subject |= matches!(token, Token::String { .. });
                text(token, draft);
            }
            [Key("response_format")] => {
                let json = matches!(token, Token::String { text: "json" | "verbose_json" | "diarized_json", .. });
                draft.request.output_type = Some(match self.task {
                    Task::Speech => "speech",
                    _ if json => "json",
                    _ => "text",
                });
            }
            [Key("temperature")] => draft.request.temperature = value::spelt_float(token),
            _ => request_parameter(path, token, draft),
        }
        if self.task == Task::Speech {
            draft.request.output_type = Some("speech");
        }
        draft.request_hint |= self.has_subject;
        draft.request_proof |= self.has_subject && draft.request.model.is_some();
    }

    fn response_value(&mut self, path: &[Step<'_>], token: Token<'_>, draft: &mut Draft) {
        match (path, token) {
            ([Key("type")], _) => self.kind = value::name(token),
            // A whole transcript, or a piece of one.
            ([Key("text" | "delta")], _) => {
                self.text.push_token(token, &mut draft.choices.budget.clone());
                self.has_text |= self.text.heard.is_any();
            }
            ([Key("audio" | "audio_data")], Token::String { text, .. }) => self.has_text |= !text.is_empty(),
            // Events are pieces of one answer, and what has an id is a segment of it.
            ([Key("id")], _) => {}
            _ => self.plain.value(path, token, draft),
        }
    }

    fn response_document(&mut self, streamed: bool, draft: &mut Draft) -> bool {
        self.plain.end(draft);
        let kind = self.kind.take().unwrap_or_default();
        let known = ["transcript.text.", "transcription.", "speech.audio."];
        draft.response_proof |= known.iter().any(|start| kind.starts_with(start));
        let is_done = kind.ends_with(".done");
        self.over |= !streamed || is_done;
        let mut choice = Choice { text: std::mem::take(&mut self.text), ..Choice::default() };
        choice.carries = std::mem::take(&mut self.has_text) && !is_done;
        let carries = choice.carries;
        if carries {
            // A segment repeats the pieces, where there are any.
            if kind.ends_with(".segment") && self.has_pieces {
                choice.text = Clipped::default();
            }
            self.has_pieces |= kind.ends_with(".delta");
            draft.choices.absorb(0, choice);
        }
        carries
    }

    fn takes_other_bodies(&self) -> bool {
        true
    }

    fn is_finished(&self, body_ended: bool, _draft: &Draft) -> bool {
        self.over || body_ended
    }
}
