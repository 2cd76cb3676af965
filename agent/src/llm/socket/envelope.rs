//! What a message on a WebSocket is to the calls on it, before it is read for what it says.
//!
//! Owns the types of events of OpenAI's Realtime API (platform.openai.com/docs/api-reference/realtime-client-events and
//! -server-events, with the names of its beta), of what vLLM and Mistral made of it for transcripts, and of the Responses
//! API's WebSocket mode, and the members that say whose a message is. They come in any order, so a message is gone through once for them and once more for its content.
//!
//! To add an event: its type to [`of_client`] or [`of_server`].

use crate::{
    llm::{MAX_NAME, api::Part, value},
    protocol::json::{
        Scanner, Status,
        Step::{self, Key},
        Token,
    },
};

/// What a message does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The client asks for a response.
    Ask,
    /// What was spoken is handed over: a response that nobody asks for answers it.
    Committed,
    /// A response begins.
    Begin,
    /// An event of a response under way.
    Piece,
    /// A response is over.
    End,
    /// A piece of the transcript of what was spoken.
    Transcript,
    /// Such a transcript is whole, or failed.
    TranscriptEnd,
    /// Something that the client sent is refused.
    Refusal,
    /// The client ends what it has to say; where the server names its items, [`Role::Committed`] follows.
    Commit,
    /// The session's settings.
    Settings,
    /// An item of the conversation.
    Item,
    /// Nothing that is read.
    Other,
}

/// A message from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// What it does.
    pub role: Role,
    /// The response that it is of.
    pub response: Option<String>,
    /// The item of the conversation that it is of.
    pub item: Option<String>,
    /// The lane that it is on, where several share a socket (Responses API).
    pub lane: Option<String>,
    /// The client's id of its event: of this one, or of the one that is refused.
    pub event: Option<String>,
    /// The response is no part of the conversation.
    pub is_apart: bool,
}

/// Reads envelopes.
pub(crate) struct EnvelopeReader {
    scanner: Scanner,
}

impl EnvelopeReader {
    /// One that has read nothing.
    pub fn new() -> Self {
        Self { scanner: Scanner::new(MAX_NAME) }
    }

    /// Goes through a message, or the beginning of one. The error says why it is none.
    pub fn read(&mut self, part: Part, message: &[u8], whole: bool) -> Result<Envelope, &'static str> {
        let (mut kind, mut refused) = (None, None);
        let mut envelope =
            Envelope { role: Role::Other, response: None, item: None, lane: None, event: None, is_apart: false };
        let mut take = |path: &[Step<'_>], token: Token<'_>| match path {
            [Key("type")] => kind = value::name(token),
            [Key("response_id")] | [Key("response"), Key("id")] => {
                envelope.response = value::name(token).or(envelope.response.take());
            }
            [Key("response"), Key("conversation_id")] => envelope.is_apart = token == Token::Null,
            [Key("item_id")] => envelope.item = value::name(token),
            [Key("stream_id")] => envelope.lane = value::name(token),
            [Key("event_id")] => envelope.event = value::name(token),
            [Key("error"), Key("event_id")] => refused = value::name(token),
            _ => {}
        };
        self.scanner.reset();
        self.scanner.push(message, &mut take);
        if whole {
            self.scanner.finish(&mut take);
        }
        match (self.scanner.status(), kind) {
            (Status::Broken(reason), _) => Err(reason),
            (status, Some(kind)) if status == Status::Complete || !whole => {
                let role = if part == Part::Request { of_client(&kind) } else { of_server(&kind) };
                // A server's events have ids of their own, which nothing refers to.
                let event = if part == Part::Request { envelope.event } else { refused };
                Ok(Envelope { role, event, ..envelope })
            }
            _ => Err(NO_EVENT),
        }
    }
}

/// Why a message is no event.
const NO_EVENT: &str = "a websocket message without a type";

/// What a client's event does.
fn of_client(kind: &str) -> Role {
    match kind {
        "response.create" => Role::Ask,
        "conversation.item.create" => Role::Item,
        "session.update" => Role::Settings,
        "input_audio_buffer.commit" => Role::Commit,
        _ => Role::Other,
    }
}

/// What a server's event does.
fn of_server(kind: &str) -> Role {
    match kind {
        "session.created" | "session.updated" | "transcription_session.created" | "transcription_session.updated" => {
            Role::Settings
        }
        "input_audio_buffer.committed" => Role::Committed,
        // OpenAI's, vLLM's and Mistral's, as of all transcripts below.
        "conversation.item.input_audio_transcription.delta" | "transcription.delta" | "transcription.text.delta" => {
            Role::Transcript
        }
        "conversation.item.input_audio_transcription.completed"
        | "conversation.item.input_audio_transcription.failed"
        | "transcription.done" => Role::TranscriptEnd,
        "response.created" => Role::Begin,
        // The Realtime API has one end, the Responses API one for each way to end.
        "response.done" | "response.completed" | "response.incomplete" | "response.failed" => Role::End,
        "error" => Role::Refusal,
        _ if kind.starts_with("response.") => Role::Piece,
        _ => Role::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(part: Part, message: &str) -> Result<Envelope, &'static str> {
        EnvelopeReader::new().read(part, message.as_bytes(), true)
    }

    #[test]
    fn members_come_in_any_order() {
        let read = |message| read(Part::Response, message).unwrap();
        let first = read(r#"{"type":"response.output_text.delta","response_id":"r1","item_id":"i1","event_id":"e"}"#);
        let last = read(r#"{"event_id":"e","item_id":"i1","response_id":"r1","type":"response.output_text.delta"}"#);
        assert_eq!(
            (first.role, first.response.as_deref(), first.item.as_deref()),
            (Role::Piece, Some("r1"), Some("i1"))
        );
        assert_eq!((first.clone(), first.event), (last, None));
    }

    #[test]
    fn an_error_names_the_event_that_it_refuses() {
        let refusal = read(Part::Response, r#"{"type":"error","event_id":"s","error":{"event_id":"c"}}"#).unwrap();
        assert_eq!((refusal.role, refusal.event.as_deref()), (Role::Refusal, Some("c")));
        let ask = read(Part::Request, r#"{"type":"response.create","event_id":"c"}"#).unwrap();
        assert_eq!((ask.role, ask.event.as_deref()), (Role::Ask, Some("c")));
    }

    #[test]
    fn a_side_cannot_say_what_is_the_others_to_say() {
        assert_eq!(read(Part::Request, r#"{"type":"response.done"}"#).unwrap().role, Role::Other);
        assert_eq!(read(Part::Response, r#"{"type":"response.create"}"#).unwrap().role, Role::Piece);
    }

    #[test]
    fn what_is_no_event_says_why() {
        for message in ["", "{", "[]", "1", "{}", r#"{"type":null}"#, r#"{"type":"error"} x"#] {
            assert!(read(Part::Response, message).is_err(), "{message}");
        }
    }
}
