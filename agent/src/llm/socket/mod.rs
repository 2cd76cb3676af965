//! A WebSocket to a model API: messages in, sessions of single responses out.
//!
//! Owns which paths speak on a socket, and what of a socket's messages belongs to every later response: the session's
//! settings and the conversation so far. All of it is read as if it stood in one request ([`Base`]), from which each
//! response's [`Session`] begins. Leaves to others: frames (`protocol::websocket`), when a response begins and ends and
//! which message is of which (`call::websocket`, by the [`Envelope`]), what a response says (`openai/realtime/`,
//! `openai/responses/`).
//!
//! To add an API: 1. its path's last segment in [`PATHS`] and in `inferscope_common::targets::SOCKET_SEGMENTS`, which
//! the kernel side compares with; 2. its variant of [`Speaks`], and what reads a response, in `Socket::reader`;
//! 3. the types of its events in `envelope.rs`.

pub(crate) mod envelope;

use super::{
    any_api::AnyApi,
    api::{Draft, Part, WireApi},
    openai::{
        realtime::{Realtime, transcript::RealtimeTranscript},
        responses::{Responses, Task},
    },
    registry::{percent_decoded, provider::provider},
    session::{Options, RequestLine, Session, draft, max_text},
    value,
};
use crate::protocol::json::{
    Scanner,
    Step::{self, Index, Key},
    Token,
};
use envelope::{Envelope, EnvelopeReader};

/// What is spoken on a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Speaks {
    /// OpenAI's Realtime API.
    Realtime,
    /// The Responses API in its WebSocket mode: each request is whole.
    Responses,
}

/// Last segments of paths.
const PATHS: &[(&str, Speaks)] = &[("realtime", Speaks::Realtime), ("responses", Speaks::Responses)];

/// Largest request that waits for its response to begin. One of the Realtime API is a few hundred bytes.
const MAX_WAITING: usize = 16 * 1024;

/// A request for a response that has not begun: until then the server may still tell the session's settings, which it
/// applied before.
pub enum Asked {
    /// It is read when the response begins.
    Waiting(Box<Waiting>),
    /// It was read: nothing more is to come for it, or it is too long to wait.
    Read(Box<Session>),
}

/// What the conversation was when it was asked for, and the message that asks.
pub struct Waiting {
    base: Base,
    message: Vec<u8>,
}

/// What later responses rest on.
#[derive(Clone)]
struct Base {
    draft: Draft,
    any: AnyApi,
}

/// Reads one socket. Bounded: what is kept of the conversation has the caps that a request's content has.
pub struct Socket {
    speaks: Speaks,
    provider: Option<&'static str>,
    options: Options,
    envelopes: EnvelopeReader,
    scanner: Scanner,
    base: Base,
    /// Model that writes down what is spoken.
    transcriber: Option<String>,
}

impl Socket {
    /// A socket that `line` opens, if its path is one of a model API; `model` is what its query names.
    pub fn open(line: &RequestLine<'_>, model: Option<&str>, options: &Options) -> Option<Self> {
        let path = line.path.split(['?', '#']).next().unwrap_or_default();
        let last = path.rsplit('/').find(|segment| !segment.is_empty())?;
        let (_, speaks) = PATHS.iter().find(|(segment, _)| *segment == last)?;
        let mut draft = draft(options);
        draft.request.model = model.and_then(|model| value::clean(&percent_decoded(model)));
        Some(Self {
            speaks: *speaks,
            provider: provider(line.host, line.path),
            options: *options,
            envelopes: EnvelopeReader::new(),
            scanner: Scanner::new(max_text(options.content)).with_pieces(),
            base: Base { any: AnyApi::new(Some(line), options, draft.choices.budget.counted), draft },
            transcriber: None,
        })
    }

    /// The call that never came to be, because the server refused to open the socket: an answer over HTTP follows. Nothing
    /// unless the request named a model or went to a known provider: anybody's path may end so.
    pub fn refused(self) -> Option<Session> {
        if self.base.draft.request.model.is_none() && self.provider.is_none() {
            return None;
        }
        let api = self.reader();
        let Base { mut draft, any } = self.base;
        draft.request_proof = true;
        Some(Session::on_handshake(api, draft, any, self.provider, &self.options))
    }

    /// What a whole message is, of the client or of the server. The error says why it is none.
    /// Of one that is not `whole` the beginning was kept.
    pub fn envelope(&mut self, is_clients: bool, message: &[u8], whole: bool) -> Result<Envelope, &'static str> {
        self.envelopes.read(if is_clients { Part::Request } else { Part::Response }, message, whole)
    }

    /// Whether an error is the end of the response under way. In the Realtime API it is about one of the client's events.
    pub fn fails_by_error(&self) -> bool {
        self.speaks == Speaks::Responses
    }

    /// Something that the client said is missing. What was kept of the conversation ends here.
    pub fn cut(&mut self) {
        let Base { draft, any } = &mut self.base;
        Realtime::default().request_cut(draft);
        any.lose_messages();
    }

    /// A message that asks for a response.
    pub fn ask(&mut self, message: &[u8]) -> Asked {
        let base = self.base.clone();
        if self.speaks == Speaks::Realtime && message.len() <= MAX_WAITING {
            return Asked::Waiting(Box::new(Waiting { base, message: message.to_vec() }));
        }
        Asked::Read(Box::new(self.read(base, message)))
    }

    /// The response begins, or never will.
    pub fn settle(&mut self, asked: Asked) -> Session {
        match asked {
            Asked::Waiting(waiting) => {
                let Waiting { base, message } = *waiting;
                self.read(base, &message)
            }
            Asked::Read(session) => *session,
        }
    }

    fn read(&mut self, mut base: Base, message: &[u8]) -> Session {
        base.draft.request_proof = true;
        let mut api = self.reader();
        let Self { speaks, options, scanner, .. } = self;
        scan(scanner, message, &mut |path, token| {
            let path = match (path, *speaks) {
                ([Key("response"), path @ ..], Speaks::Realtime) => path,
                // What makes it an event is no part of the request.
                ([Key("type" | "event_id" | "stream_id")], _) | (_, Speaks::Realtime) => return,
                (path, Speaks::Responses) => path,
            };
            base.replace(path, token, options);
            base.take(path, token, api.as_mut());
        });
        self.session(api, base)
    }

    /// A response that nobody asked for.
    pub fn unasked(&self) -> Session {
        self.session(self.reader(), self.base.clone())
    }

    /// A transcript of what was spoken.
    pub fn transcript(&self) -> Session {
        let mut draft = draft(&self.options);
        let Base { draft: base, any: _ } = &self.base;
        // A socket that does nothing else has its model in the query.
        draft.request.model = self.transcriber.as_ref().or(base.request.model.as_ref()).cloned();
        draft.request.conversation_id.clone_from(&base.request.conversation_id);
        let any = AnyApi::new(None, &self.options, draft.choices.budget.counted);
        self.session(Box::<RealtimeTranscript>::default(), Base { draft, any })
    }

    /// The session's settings, which OpenAI's server repeats whole; vLLM's client only names a model. They hold for what
    /// is `asked` for already, too.
    pub fn settings<'a>(&mut self, is_clients: bool, message: &[u8], asked: impl Iterator<Item = &'a mut Asked>) {
        if self.speaks != Speaks::Realtime {
            return;
        }
        let Self { options, scanner, base, transcriber, .. } = self;
        let waiting = asked.filter_map(|asked| match asked {
            Asked::Waiting(waiting) => Some(&mut waiting.base),
            Asked::Read(_) => None,
        });
        for base in waiting.chain([base]) {
            let mut api = Realtime::default();
            scan(scanner, message, &mut |path, token| match path {
                [Key("model")] if is_clients => *transcriber = value::name(token),
                _ if is_clients => {}
                [Key("session"), Key("id")] => base.draft.request.conversation_id = value::name(token),
                // What serves is told; what was asked for stays.
                [Key("session"), Key("model")] => base.draft.response.model = value::name(token),
                [Key("session"), Key("audio"), Key("input"), Key("transcription"), Key("model")]
                | [Key("session"), Key("input_audio_transcription"), Key("model")] => {
                    *transcriber = value::name(token);
                }
                [Key("session"), path @ ..] => {
                    base.replace(path, token, options);
                    base.take(path, token, &mut api);
                }
                _ => {}
            });
        }
    }

    /// The client adds an item to the conversation.
    pub fn item(&mut self, message: &[u8]) {
        if self.speaks != Speaks::Realtime {
            return;
        }
        let Self { scanner, base, .. } = self;
        let mut api = Realtime::default();
        scan(scanner, message, &mut |path, token| {
            if let [Key("item"), rest @ ..] = path {
                base.take(&[ITEM, rest].concat(), token, &mut api);
            }
        });
    }

    /// What was spoken is an item of the conversation, of which the id is all that is known.
    pub fn spoken(&mut self, item: Option<&str>) {
        let Base { draft, any } = &mut self.base;
        draft.request.message_count = Some(draft.request.message_count.unwrap_or(0).saturating_add(1));
        any.request_value(ITEM, Token::String { text: item.unwrap_or_default(), truncated: false });
    }

    /// A message with what was said: the items of a response that is over, or the transcript of what was spoken.
    pub fn said(&mut self, message: &[u8]) {
        if self.speaks != Speaks::Realtime {
            return;
        }
        let Self { scanner, base, .. } = self;
        let mut api = Realtime::default();
        scan(scanner, message, &mut |path, token| match path {
            [Key("response"), Key("output"), rest @ ..] if !rest.is_empty() => {
                base.take(&[&[Key("input")], rest].concat(), token, &mut api);
            }
            [Key("transcript")] => base.take(ITEM, token, &mut api),
            _ => {}
        });
    }

    /// What reads a response.
    fn reader(&self) -> Box<dyn WireApi> {
        match self.speaks {
            Speaks::Realtime => Box::<Realtime>::default(),
            Speaks::Responses => Box::new(Responses::new(Task::Answer)),
        }
    }

    fn session(&self, api: Box<dyn WireApi>, Base { draft, any }: Base) -> Session {
        Session::on_socket(api, draft, any, self.provider, &self.options)
    }
}

/// Where an item of the conversation stands in a request.
const ITEM: &[Step<'static>] = &[Key("input"), Index(0)];

impl Base {
    /// A value, by its path in a request.
    fn take(&mut self, path: &[Step<'_>], token: Token<'_>, api: &mut dyn WireApi) {
        self.any.request_value(path, token);
        api.request_value(path, token, &mut self.draft);
    }

    /// A value that begins what takes the place of what was said before.
    fn replace(&mut self, path: &[Step<'_>], token: Token<'_>, options: &Options) {
        match (path, token) {
            ([Key("instructions")], Token::String { .. }) => self.draft.instructions = draft(options).instructions,
            ([Key("tools")], Token::ArrayStart) => {
                self.draft.tools = draft(options).tools;
                self.any.forget_tools();
            }
            ([Key("input")], Token::ArrayStart) => {
                self.draft.input = draft(options).input;
                self.draft.request.message_count = Some(0);
                self.any.forget_messages(options);
            }
            _ => {}
        }
    }
}

/// Goes through a message.
fn scan(scanner: &mut Scanner, message: &[u8], take: &mut dyn FnMut(&[Step<'_>], Token<'_>)) {
    scanner.reset();
    scanner.push(message, take);
    scanner.finish(take);
}

#[cfg(test)]
mod tests {
    use inferscope_common::targets::SOCKET_SEGMENTS;

    use super::*;

    fn is_opened(path: &str) -> bool {
        let line = RequestLine { method: "GET", path, host: None, headers: None };
        Socket::open(&line, None, &Options::default()).is_some()
    }

    #[test]
    fn paths_are_those_that_the_kernel_side_lets_through() {
        assert_eq!(PATHS.iter().map(|(segment, _)| *segment).collect::<Vec<_>>(), SOCKET_SEGMENTS);
    }

    #[test]
    fn paths_end_in_the_apis_segment() {
        for path in ["/v1/realtime", "/openai/realtime", "/openai/v1/realtime/", "/v1/responses", "/api/v1/realtime"] {
            assert!(is_opened(path), "{path}");
        }
        for path in ["/v1/responses/resp_1", "/realtime/calls", "/v1/realtimes", "/", "/chat", "/socket.io/"] {
            assert!(!is_opened(path), "{path}");
        }
    }
}
