//! A call when it is over: the record that the exporters turn into spans and lines.
//!
//! Owns the boundary between the pure pipeline and the exporters. Nothing here knows of OTLP, JSON or terminals;
//! `export/` knows nothing of records, streams or parsers.

use crate::{
    call::{
        conversation::{Place, ToolRun},
        gaps::GapSketch,
    },
    host::{Hop, ProcessIdentity},
    llm::Facts,
    record::{Address, Source},
    serving::{ModelLoad, ServingFacts},
    time::Mono,
};

/// Trace and span ids of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpanIds {
    /// W3C trace id.
    pub trace: [u8; 16],
    /// W3C span id.
    pub span: [u8; 8],
    /// The span that caused this one: for a server span the client's, when both were seen.
    pub parent: Option<[u8; 8]>,
}

/// Which end of the connection the process was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// The process sent the request.
    Client,
    /// The process answered it.
    Server,
}

/// How a call ended (`inferscope.completion`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Completion {
    /// The response came whole and the model had finished.
    Done,
    /// The response came whole and the model had run into its token limit.
    Length,
    /// The client went away first.
    ClientClosed,
    /// The server went away first.
    ServerClosed,
    /// An HTTP error status, or an error inside the body.
    Error,
    /// Nothing was seen for so long that the call was given up.
    Idle,
}

impl Completion {
    /// The contract's spelling.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Length => "length",
            Self::ClientClosed => "client_closed",
            Self::ServerClosed => "server_closed",
            Self::Error => "error",
            Self::Idle => "idle",
        }
    }
}

/// How much of the call was seen (`inferscope.capture`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Capture {
    /// Every byte.
    Complete,
    /// The agent stopped while the call was running, or a bound cut it short.
    Truncated,
    /// Bytes in the middle are missing.
    Gap,
    /// The agent joined when the call was already under way.
    PartialStart,
}

impl Capture {
    /// The contract's spelling.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Truncated => "truncated",
            Self::Gap => "gap",
            Self::PartialStart => "partial_start",
        }
    }
}

/// How the socket of a TLS stream was found (`inferscope.capture.binding`), surest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Binding {
    /// A socket call of the same direction happened inside a call of the TLS library, or the library's object named it.
    Nested,
    /// The lengths of plaintext and records agree, on one thread and in order.
    Records,
}

impl Binding {
    /// As exported.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Nested => "nested",
            Self::Records => "records",
        }
    }
}

/// The points in time that were seen. All are kernel stamps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// First request byte: written by a client, read by a server.
    pub start: Mono,
    /// Last request byte.
    pub request_end: Option<Mono>,
    /// First response byte.
    pub response_start: Option<Mono>,
    /// First event of a streamed response, whatever it holds.
    pub first_event: Option<Mono>,
    /// First event that carries content, reasoning or a tool call.
    pub first_chunk: Option<Mono>,
    /// Last such event.
    pub last_chunk: Option<Mono>,
    /// Last byte seen.
    pub end: Mono,
}

/// What HTTP itself said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HttpFacts {
    /// Request method.
    pub method: Option<String>,
    /// Request target's path, without the query: queries carry keys.
    pub path: Option<String>,
    /// `Host` header.
    pub host: Option<String>,
    /// Response status.
    pub status: Option<u16>,
}

/// What the sizes and times of TLS records say of a call whose plaintext nobody read. The response's first record is
/// [`Timing::response_start`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InferredFacts {
    /// The name that the client asked for.
    pub server_name: Option<String>,
    /// The response's second piece, if it came like a stream: an estimate of the first token.
    pub first_token: Option<Mono>,
    /// Bytes of the request.
    pub request_bytes: u64,
    /// Bytes of the response.
    pub response_bytes: u64,
    /// Whether the bytes are those of the plaintext; else of the encrypted fragments.
    pub plaintext_sizes: bool,
    /// Records of the response.
    pub records: u64,
    /// Pieces of the response: records that came at one time.
    pub pieces: u64,
    /// Gaps between the pieces behind the first, if it came like a stream.
    pub gaps: GapSketch,
    /// Whether the connection may have carried several calls at the same time.
    pub maybe_several: bool,
}

/// Something noteworthy inside a call, exported as a span event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// When it was seen.
    pub at: Mono,
    /// What it is.
    pub kind: NoteKind,
}

/// Kinds of [`Note`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoteKind {
    /// Bytes are missing from the stream.
    Gap {
        /// `request` or `response`.
        part: &'static str,
        /// How many bytes.
        bytes: u64,
    },
    /// Bytes could not be understood.
    Malformed {
        /// `request` or `response`.
        part: &'static str,
        /// Why, from a closed set.
        reason: &'static str,
    },
    /// The body has a content encoding that is not decoded.
    Undecoded {
        /// `request` or `response`.
        part: &'static str,
    },
}

/// A call that is over, or that was given up.
#[derive(Clone, Debug, PartialEq)]
pub struct FinishedCall {
    /// Trace identity.
    pub ids: SpanIds,
    /// The process's end of the connection.
    pub side: Side,
    /// The process, as the kernel saw it.
    pub process: ProcessIdentity,
    /// The process's own address, when the socket is known.
    pub local: Option<Address>,
    /// The other end's address, when the socket is known.
    pub peer: Option<Address>,
    /// Whether the bytes were inside TLS.
    pub tls: bool,
    /// How the socket was found, for a TLS stream whose socket is known.
    pub binding: Option<Binding>,
    /// Where the plaintext was read.
    pub source: Source,
    /// Times.
    pub timing: Timing,
    /// Events that carried content, reasoning or a tool call.
    pub chunk_count: u64,
    /// Gaps between them.
    pub gaps: GapSketch,
    /// Whether the response was an event stream.
    pub streamed: bool,
    /// HTTP's part.
    pub http: HttpFacts,
    /// The model call's part; absent for plain HTTP (`trace --all-http`).
    pub facts: Option<Facts>,
    /// What was inferred of a call that nobody could read; then there are no facts, no status and no completion.
    pub inferred: Option<Box<InferredFacts>>,
    /// Its place among the process's other calls.
    pub place: Place,
    /// What lies between its two ends, where both are servers of this host: its tokens are the first server's.
    pub hop: Option<Hop>,
    /// The machinery behind it, of a server's call; the way to it, of a client's.
    pub serving: Option<Box<ServingFacts>>,
    /// What tool ran, where the span is that of a tool between two calls; then there are no facts and no completion.
    pub tool: Option<Box<ToolRun>>,
    /// What was loaded, where the span is that of a model that was; likewise.
    pub load: Option<Box<ModelLoad>>,
    /// How it ended; absent when that was not seen.
    pub completion: Option<Completion>,
    /// How much of it was seen.
    pub capture: Capture,
    /// Span events, capped by the pipeline.
    pub notes: Vec<Note>,
}

impl FinishedCall {
    /// A span that is no call: something that happened in a process, from `start` to `end`.
    pub fn within(ids: SpanIds, side: Side, process: ProcessIdentity, source: Source, start: Mono, end: Mono) -> Self {
        Self {
            ids,
            side,
            process,
            local: None,
            peer: None,
            tls: false,
            binding: None,
            source,
            timing: Timing {
                start,
                request_end: None,
                response_start: None,
                first_event: None,
                first_chunk: None,
                last_chunk: None,
                end: end.max(start),
            },
            chunk_count: 0,
            gaps: GapSketch::default(),
            streamed: false,
            http: HttpFacts::default(),
            facts: None,
            inferred: None,
            place: Place::default(),
            hop: None,
            serving: None,
            tool: None,
            load: None,
            completion: None,
            capture: Capture::Complete,
            notes: Vec::new(),
        }
    }

    /// Whether it is a span and no call ([`FinishedCall::within`]).
    pub fn is_within(&self) -> bool {
        self.tool.is_some() || self.load.is_some()
    }
}
