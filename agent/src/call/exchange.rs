//! One request and its response, while they happen.
//!
//! Owns the times, chunk gaps and notes of one exchange, and has its bodies decoded. What they mean is the model
//! session's business; when the exchange is over is the connection's.

use super::{
    Capture, Completion, HttpFacts, Note, NoteKind, Side, Timing,
    gaps::GapSketch,
    progress::{Look, Progress},
};
use crate::{
    llm::{Facts, Proof, ResponseEvent, Session, Socket},
    protocol::{
        encoding::{self, Decoder},
        head::Headers,
    },
    time::Mono,
};

/// Notes kept per call; more of the same kind add nothing.
const MAX_NOTES: usize = 16;

/// Which half of an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The request.
    Request,
    /// The response.
    Response,
}

impl Part {
    fn as_str(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Response => "response",
        }
    }
}

/// Who ended a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClosedBy {
    /// This process.
    Local,
    /// The other end.
    Peer,
    /// Not seen.
    Unknown,
}

/// Why an exchange is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The response's framing came to its end.
    Whole,
    /// The connection closed, which is the end of a response that has no other.
    Delimited(ClosedBy),
    /// The connection closed first.
    Closed(ClosedBy),
    /// Missing or damaged bytes destroyed the framing.
    Lost,
    /// Nothing came for too long.
    Idle,
    /// The agent stops.
    Shutdown,
}

/// An exchange under way.
pub struct Exchange {
    /// Counts the connection's exchanges.
    pub number: u64,
    /// The stream of HTTP/2 that it began on; 0 for HTTP/1.1.
    pub stream: u32,
    /// First request byte.
    pub start: Mono,
    /// What HTTP said.
    pub http: HttpFacts,
    /// The model session, if the path is a model's.
    pub session: Option<Box<Session>>,
    /// What is spoken on the WebSocket that it opens, if the path is a model's.
    pub socket: Option<Box<Socket>>,
    untargeted: bool,
    request_end: Option<Mono>,
    response_start: Option<Mono>,
    first_event: Option<Mono>,
    first_chunk: Option<Mono>,
    last_chunk: Option<Mono>,
    end: Mono,
    chunk_count: u64,
    gaps: GapSketch,
    progress: Progress,
    request_bytes: u64,
    capture: Capture,
    notes: Vec<Note>,
    decoders: [Decoder; 2],
    undecoded: [bool; 2],
}

/// What is left of an exchange when it is over.
pub struct Outcome {
    /// Times.
    pub timing: Timing,
    /// What HTTP said.
    pub http: HttpFacts,
    /// The model call's part.
    pub facts: Option<Facts>,
    /// Whether the response was an event stream.
    pub streamed: bool,
    /// Events with content.
    pub chunk_count: u64,
    /// Gaps between them.
    pub gaps: GapSketch,
    /// How it ended, if that was seen.
    pub completion: Option<Completion>,
    /// How much was seen.
    pub capture: Capture,
    /// Span events.
    pub notes: Vec<Note>,
}

impl Exchange {
    /// A new exchange, at its request's head.
    pub fn new(number: u64, start: Mono, http: HttpFacts, session: Option<Session>) -> Self {
        Self {
            number,
            stream: 0,
            start,
            http,
            session: session.map(Box::new),
            socket: None,
            untargeted: false,
            request_end: None,
            response_start: None,
            first_event: None,
            first_chunk: None,
            last_chunk: None,
            end: start,
            chunk_count: 0,
            gaps: GapSketch::default(),
            progress: Progress::default(),
            request_bytes: 0,
            capture: Capture::Complete,
            notes: Vec::new(),
            decoders: Default::default(),
            undecoded: [false; 2],
        }
    }

    /// An exchange that was joined in its response; `at` is when its first byte that was seen came.
    pub fn joined(number: u64, at: Mono, session: Session) -> Self {
        let mut exchange = Self::new(number, at, HttpFacts::default(), Some(session));
        exchange.capture = Capture::PartialStart;
        exchange
    }

    /// The request of an exchange that was joined has come after all: its end was seen first.
    pub fn learn(&mut self, late: Self) {
        self.http = HttpFacts { status: self.http.status, ..late.http };
        self.untargeted = late.untargeted;
        self.capture = late.capture;
    }

    /// Whether its host is of interest.
    pub fn is_targeted(&self) -> bool {
        !self.untargeted
    }

    /// Nothing is known of its path: `session` finds out by the bodies what it is.
    pub fn join(&mut self, session: Option<Session>) {
        if !self.untargeted {
            self.session = session.map(Box::new);
            self.capture = Capture::PartialStart;
        }
    }

    /// What the head says of a body's encoding. A body that cannot be decoded is not shown to the session.
    pub fn set_encoding(&mut self, at: Mono, part: Part, content_encoding: Option<&str>) {
        match content_encoding.map(Decoder::new) {
            None => {}
            Some(Ok(decoder)) => self.decoders[part as usize] = decoder,
            Some(Err(encoding::Unsupported)) => {
                self.undecoded[part as usize] = true;
                self.note(at, NoteKind::Undecoded { part: part.as_str() });
                if let Some(session) = &mut self.session {
                    gap(session, part);
                }
            }
        }
    }

    /// Gives a body's decoder what `feed` says, and the session what comes out.
    fn decode(&mut self, at: Mono, part: Part, feed: impl FnOnce(&mut Decoder, &mut dyn FnMut(encoding::Event<'_>))) {
        if self.undecoded[part as usize] {
            return;
        }
        let Some(mut session) = self.session.take() else { return };
        let mut decoder = std::mem::take(&mut self.decoders[part as usize]);
        feed(&mut decoder, &mut |event| self.decoded(at, part, event, &mut session));
        self.decoders[part as usize] = decoder;
        self.session = Some(session);
    }

    fn decoded(&mut self, at: Mono, part: Part, event: encoding::Event<'_>, session: &mut Session) {
        use encoding::{Event, reason};
        match (event, part) {
            (Event::Data(bytes), Part::Request) => session.request_body(bytes),
            (Event::Data(bytes), Part::Response) => session.response_body(bytes, &mut |event| self.event(at, event)),
            (Event::Odd(reason), _) => self.malformed(at, part, reason),
            (Event::Stopped(reason), _) => {
                self.malformed(at, part, reason);
                match reason {
                    // As with a body that is not encoded, the session sees where it ends.
                    reason::TRUNCATED => return,
                    reason::GAP => {}
                    reason::BOMB | reason::TOO_LARGE => {
                        self.capture = self.capture.max(Capture::Truncated);
                        self.undecoded[part as usize] = true;
                    }
                    _ => self.undecoded[part as usize] = true,
                }
                gap(session, part);
            }
        }
    }

    /// Bytes of the request's body.
    pub fn request_body(&mut self, at: Mono, bytes: &[u8]) {
        self.end = self.end.max(at);
        self.request_bytes += bytes.len() as u64;
        self.decode(at, Part::Request, |decoder, sink| decoder.push(bytes, sink));
    }

    /// The request is complete, or given up.
    pub fn request_end(&mut self, at: Mono) {
        self.end = self.end.max(at);
        if self.request_end.is_none() {
            self.request_end = Some(at);
            self.decode(at, Part::Request, |decoder, sink| decoder.end(sink));
            if let Some(session) = &mut self.session {
                session.request_end();
            }
        }
    }

    /// The response's head; `started` is when its first byte came. A status of 0 is not known.
    pub fn response_head(&mut self, at: Mono, started: Mono, status: u16, headers: &Headers) {
        self.end = self.end.max(at);
        self.response_start = Some(started);
        self.http.status = (status != 0).then_some(status);
        if let Some(session) = &mut self.session {
            session.response_head(status, headers);
        }
    }

    /// What came behind the response's body.
    pub fn response_trailers(&mut self, headers: &Headers) {
        if let Some(session) = &mut self.session {
            session.response_trailers(headers);
        }
    }

    /// Bytes of the response's body.
    pub fn response_body(&mut self, at: Mono, bytes: &[u8]) {
        self.end = self.end.max(at);
        self.decode(at, Part::Response, |decoder, sink| decoder.push(bytes, sink));
    }

    /// A whole message of the response, where it comes in messages.
    pub fn response_message(&mut self, at: Mono, bytes: &[u8]) {
        self.end = self.end.max(at);
        let Some(mut session) = self.session.take() else { return };
        session.response_body(bytes, &mut |event| self.event(at, event));
        self.session = Some(session);
    }

    fn event(&mut self, at: Mono, event: ResponseEvent) {
        self.first_event.get_or_insert(at);
        if let ResponseEvent::Event { content: true } = event {
            self.first_chunk.get_or_insert(at);
            if let Some(last) = self.last_chunk {
                self.gaps.record(at.since(last));
                self.progress.chunk(last, at);
            }
            self.last_chunk = Some(at);
            self.chunk_count += 1;
        }
    }

    /// Bytes are missing.
    pub fn gap(&mut self, at: Mono, part: Part, bytes: u64) {
        self.capture = self.capture.max(Capture::Gap);
        self.note(at, NoteKind::Gap { part: part.as_str(), bytes });
        self.decode(at, part, |decoder, sink| decoder.gap(sink));
        if let Some(session) = &mut self.session {
            gap(session, part);
        }
    }

    /// Bytes could not be understood.
    pub fn malformed(&mut self, at: Mono, part: Part, reason: &'static str) {
        self.note(at, NoteKind::Malformed { part: part.as_str(), reason });
    }

    fn note(&mut self, at: Mono, kind: NoteKind) {
        if self.notes.len() < MAX_NOTES && self.notes.last().is_none_or(|last| last.kind != kind) {
            self.notes.push(Note { at, kind });
        }
    }

    /// The response's framing came to its end.
    pub fn response_end(&mut self, at: Mono) {
        self.end = self.end.max(at);
    }

    /// Whether anybody asked for it.
    pub fn is_wanted(&self, all_http: bool) -> bool {
        !self.untargeted && (all_http || self.session.is_some() || self.socket.is_some())
    }

    /// Its host is not of interest: it is not reported.
    pub fn set_untargeted(&mut self) {
        self.untargeted = true;
    }

    /// Whether its request is over.
    pub fn is_asked(&self) -> bool {
        self.request_end.is_some()
    }

    /// Whether the answer has said that it is over, whatever its framing says.
    pub fn is_finished(&self) -> bool {
        self.session.as_deref().is_some_and(Session::finished)
    }

    /// Whether its response has begun.
    pub fn is_answered(&self) -> bool {
        self.response_start.is_some()
    }

    /// Last byte so far.
    pub fn last_seen(&self) -> Mono {
        self.end
    }

    /// How far it is; the chunks are those since the last look.
    pub fn look(&mut self) -> Look {
        Look {
            request_end: self.request_end,
            first_chunk: self.first_chunk,
            last_seen: self.end,
            request_bytes: self.request_bytes,
            windows: self.progress.take(),
        }
    }

    /// Closes the books. `None` if this was no call: not a model's path, or nothing in the bodies proved it.
    pub fn finish(mut self, ended: Ended, side: Side, all_http: bool) -> Option<Outcome> {
        if self.untargeted {
            return None;
        }
        let end = self.end;
        if matches!(ended, Ended::Whole | Ended::Delimited(_)) {
            self.decode(end, Part::Response, |decoder, sink| decoder.end(sink));
        }
        let mut session = self.session.take();
        let mut finished = false;
        if let Some(session) = &mut session {
            // What a call that was cut off did say about its request is worth having.
            if self.request_end.is_none() && self.capture != Capture::PartialStart {
                session.request_end();
            }
            // Before the session is told that the body is over: a body that was cut off is not over.
            finished = session.finished();
            session.response_end(&mut |event| self.event(end, event));
            finished |= ended == Ended::Whole && session.finished();
        }
        let session = session.filter(|s| matches!(s.proof(), Proof::Request | Proof::Response));
        if session.is_none() && !all_http {
            return None;
        }
        let mut body = Body { streamed: false, finished, broken: false, empty: false, readable: true };
        let mut facts = None;
        if let Some(session) = session {
            if let Some(reason) = session.request_malformed() {
                self.malformed(end, Part::Request, reason);
            }
            if let Some(reason) = session.response_malformed() {
                self.malformed(end, Part::Response, reason);
                body.broken = true;
            }
            body.streamed = session.is_stream();
            body.empty = !session.is_answered();
            let mut said = session.into_facts();
            if let Some(estimated) = &mut said.estimated
                && self.capture == Capture::Complete
            {
                estimated.from_chunks(&said.usage, said.provider, self.chunk_count);
            }
            facts = Some(said);
        }
        body.readable = !self.undecoded[Part::Response as usize];
        if ended == Ended::Shutdown && !body.finished {
            self.capture = self.capture.max(Capture::Truncated);
        }
        let completion = completion(ended, side, self.http.status, facts.as_ref(), &body, self.capture);
        Some(Outcome {
            timing: Timing {
                start: self.start,
                request_end: self.request_end,
                response_start: self.response_start,
                first_event: self.first_event,
                first_chunk: self.first_chunk,
                last_chunk: self.last_chunk,
                end,
            },
            http: self.http,
            facts,
            streamed: body.streamed,
            chunk_count: self.chunk_count,
            gaps: self.gaps,
            completion,
            capture: self.capture,
            notes: self.notes,
        })
    }
}

/// Tells the session that bytes are missing.
fn gap(session: &mut Session, part: Part) {
    match part {
        Part::Request => session.request_gap(),
        Part::Response => session.response_gap(),
    }
}

/// What the response's body was.
struct Body {
    /// An event stream.
    streamed: bool,
    /// It said itself that it is over.
    finished: bool,
    /// It could not be understood to its end.
    broken: bool,
    /// Nothing of it came.
    empty: bool,
    /// Its bytes could be read, whatever they meant.
    readable: bool,
}

impl Body {
    /// Whether it may be whole where only the end of the connection tells.
    fn is_plausible(&self) -> bool {
        !(self.streamed || self.broken || self.empty)
    }
}

/// How a call ended.
fn completion(
    ended: Ended,
    side: Side,
    status: Option<u16>,
    facts: Option<&Facts>,
    body: &Body,
    capture: Capture,
) -> Option<Completion> {
    if status.is_some_and(|s| s >= 400) || facts.is_some_and(|f| f.error.is_some()) {
        return Some(Completion::Error);
    }
    let closed = |by| match (by, side) {
        (ClosedBy::Local, Side::Client) | (ClosedBy::Peer, Side::Server) => Some(Completion::ClientClosed),
        (ClosedBy::Local, Side::Server) | (ClosedBy::Peer, Side::Client) => Some(Completion::ServerClosed),
        (ClosedBy::Unknown, _) => None,
    };
    let at_limit = facts.is_some_and(|f| f.response.finish_reasons.iter().any(|r| is_length(r)));
    let done = Some(if at_limit { Completion::Length } else { Completion::Done });
    match ended {
        // Clients leave after the sentinel, before the framing's own end: the call is no less done.
        _ if body.finished => done,
        Ended::Whole if !body.streamed || !body.readable => done,
        // What would have said so may be among the bytes that are missing.
        Ended::Whole if capture != Capture::Complete => None,
        // The framing is whole and the model had not finished: the server gave up in an orderly way.
        Ended::Whole => Some(Completion::ServerClosed),
        Ended::Delimited(ClosedBy::Unknown) if body.is_plausible() => done,
        Ended::Delimited(by) if closed(by) == Some(Completion::ServerClosed) && body.is_plausible() => done,
        Ended::Delimited(by) | Ended::Closed(by) => closed(by),
        Ended::Idle => Some(Completion::Idle),
        Ended::Lost | Ended::Shutdown => None,
    }
}

/// Finish reasons that mean "ran into the token limit", as providers spell them.
fn is_length(reason: &str) -> bool {
    matches!(reason, "length" | "max_tokens" | "MAX_TOKENS" | "max_output_tokens" | "limit" | "model_length" | "LENGTH")
}

#[cfg(test)]
#[path = "exchange_tests.rs"]
mod tests;
