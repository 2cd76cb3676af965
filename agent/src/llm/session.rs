//! The interpreter of one call: body bytes in, facts out.
//!
//! Owns which framing a response has, when a call is proven to be a model call and
//! what is put together at the end. The meaning of single values is the [`WireApi`]'s. Keeps one JSON token, one
//! event and the facts, however long the bodies are.

use super::{
    any_api::AnyApi,
    api::{Draft, Failure, Part, WireApi},
    assemble::facts,
    content::text_cap,
    contest::Contest,
    engines,
    estimate::Estimator,
    facts::{Facts, MAX_NAME},
    framing::{
        Framing, Kind, documents::Documents, events::Events, frames::Frames, messages::Messages, request::RequestBody,
        sniff,
    },
    grpc::{self, Responses},
    history::Secret,
    registry::{self, provider::provider},
    timings::Timings,
};
use crate::{
    privacy::Redactor,
    protocol::{head::Headers, json::Form},
};

/// The parts of the request's head that decide which API it is.
#[derive(Clone, Copy, Debug)]
pub struct RequestLine<'a> {
    /// Method.
    pub method: &'a str,
    /// Path without the query.
    pub path: &'a str,
    /// `Host` header or `:authority`.
    pub host: Option<&'a str>,
    /// Other headers that may be known.
    pub headers: Option<&'a Headers>,
}

/// What the operator chose.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Keep content, at most so many bytes of each attribute. Absent: keep none.
    pub content: Option<usize>,
    /// What is redacted in it, and in names.
    pub redactor: &'static Redactor,
    /// What hashes of messages are keyed with.
    pub secret: Secret,
    /// Estimate token counts where none are reported, with the help of this.
    pub estimate: Option<Estimator>,
    /// The process that may run the model: its thread group and start in ns since boot. Absent for a client, whatever models it
    /// names: it calls another.
    pub server: Option<(u32, u64)>,
    /// Mean log-probability of an answer's tokens below which it is marked. Absent: none is.
    pub low_confidence: Option<f64>,
}

/// Whether a candidate turned out to be a model call. No proof, no span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// Not known yet.
    Pending,
    /// The request is one of the API.
    Request,
    /// The response is one of the API.
    Response,
    /// The response is over and nothing spoke for it.
    Refuted,
}

/// Something of a streamed response that has a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseEvent {
    /// An event came.
    Event {
        /// Whether it carries content, reasoning or a tool call.
        content: bool,
    },
    /// The stream's sentinel came.
    Done,
}

/// Reads one call.
pub struct Session {
    api: Box<dyn WireApi>,
    draft: Draft,
    any: AnyApi,
    /// As the host tells; absent where it says nothing.
    provider: Option<&'static str>,
    /// As the response's head tells.
    engine: Option<&'static str>,
    /// As the response's head tells.
    timings: Timings,
    cap: Option<usize>,
    redactor: &'static Redactor,
    request: RequestBody,
    status: Option<u16>,
    declared: Declared,
    response: Response,
    ended: bool,
}

/// How a call over gRPC ended.
const GRPC_STATUS: &str = "grpc-status";

/// Names the compression of gRPC's messages.
const GRPC_ENCODING: &str = "grpc-encoding";

/// What the response's head says of its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Declared {
    Nothing,
    Stream(Kind),
    Other,
}

/// The response's body.
enum Response {
    /// What it is is not known yet; the first bytes, less than the longest field name of an event stream.
    Undecided(Vec<u8>),
    Framed(Box<dyn Framing>),
    /// It is not read.
    Opaque,
}

impl Session {
    /// Begins a call, if its path is one of a model API.
    pub fn open(line: &RequestLine<'_>, options: &Options) -> Option<Self> {
        let registry::Candidate { mut apis, model } = registry::find(line)?;
        let mut draft = draft(options);
        draft.request.model = model;
        let mut api = match apis.len() {
            0 => return None,
            1 => apis.swap_remove(0),
            _ => Box::new(Contest::between(apis, &draft)),
        };
        let headers = line.headers.map_or(&[][..], |headers| &headers.signals);
        headers.iter().for_each(|(name, value)| api.header(Part::Request, name, value, &mut draft));
        let provider = provider(line.host, line.path);
        let any = AnyApi::new(Some(line), options, draft.choices.budget.counted);
        let mut session = Self { provider, ..Self::new(api, draft, any, options) };
        if let Some(method) = session.api.grpc() {
            let coding = line.headers.and_then(|headers| headers.signal_of(GRPC_ENCODING));
            session.request = RequestBody::messages(method.request, coding, max_text(options.content));
            session.response = Response::Framed(Box::new(Responses::new(method, None, max_text(options.content))));
        }
        Some(session)
    }

    /// Begins a call whose request was not seen, in the middle of its event stream.
    pub fn join(options: &Options) -> Self {
        let mut session = Self::joined(options);
        session.set_kind(Kind::Events);
        session
    }

    /// Begins a call whose request was not seen, at the head of its response; nothing if this is no answer of a model.
    pub fn join_at_head(content_type: Option<&str>, options: &Options) -> Option<Self> {
        let essence = content_type?.split(';').next().unwrap_or_default().trim();
        let known = essence.eq_ignore_ascii_case("application/json") || Kind::declared(essence).is_some();
        known.then(|| Self::joined(options))
    }

    /// Begins a call on a WebSocket, whose request has been read into `draft` and `any`. Its response's body comes a whole
    /// message at a time.
    pub(super) fn on_socket(
        api: Box<dyn WireApi>,
        draft: Draft,
        any: AnyApi,
        provider: Option<&'static str>,
        options: &Options,
    ) -> Self {
        let response = Response::Framed(Box::new(Messages::new(max_text(options.content))));
        Self { response, ..Self::on_handshake(api, draft, any, provider, options) }
    }

    /// Begins a call that opens a WebSocket, and is answered over HTTP like any other.
    pub(crate) fn on_handshake(
        api: Box<dyn WireApi>,
        draft: Draft,
        any: AnyApi,
        provider: Option<&'static str>,
        options: &Options,
    ) -> Self {
        Self { provider, request: RequestBody::Read, ..Self::new(api, draft, any, options) }
    }

    fn joined(options: &Options) -> Self {
        let draft = draft(options);
        let any = AnyApi::new(None, options, draft.choices.budget.counted);
        Self::new(Box::new(Contest::joined(options.content)), draft, any, options)
    }

    fn new(api: Box<dyn WireApi>, draft: Draft, any: AnyApi, options: &Options) -> Self {
        Self {
            provider: None,
            engine: None,
            timings: Timings::default(),
            api,
            draft,
            any,
            cap: options.content,
            redactor: options.redactor,
            request: RequestBody::new(max_text(options.content)),
            status: None,
            declared: Declared::Nothing,
            response: Response::Undecided(Vec::new()),
            ended: false,
        }
    }

    /// Takes the next bytes of the request's body.
    pub fn request_body(&mut self, bytes: &[u8]) {
        let Self { api, draft, any, request, .. } = self;
        request.push(bytes, &mut |path, token| {
            any.request_value(path, token);
            api.request_value(path, token, draft);
        });
    }

    /// Bytes of the request's body are missing. What follows them is not read: it may belong anywhere.
    pub fn request_gap(&mut self) {
        self.request.gap();
        self.api.request_cut(&mut self.draft);
    }

    /// The request's body is over.
    pub fn request_end(&mut self) {
        let Self { api, draft, any, request, .. } = self;
        request.end(&mut |path, token| {
            any.request_value(path, token);
            api.request_value(path, token, draft);
        });
        any.request_end(request.is_whole());
    }

    /// Takes the response's head. A status of 0 is not known.
    pub fn response_head(&mut self, status: u16, headers: &Headers) {
        self.status = (status != 0).then_some(status);
        self.declared = match headers.content_type.as_deref() {
            None => Declared::Nothing,
            Some(value) => Kind::declared(value).map_or(Declared::Other, Declared::Stream),
        };
        self.engine = headers.signal_of("server").and_then(engines::of_server);
        self.timings = Timings::of_headers(&headers.signals);
        // Audio may begin like anything.
        let is_media =
            |kind: &str| ["audio/", "image/", "application/octet-stream"].iter().any(|m| kind.starts_with(m));
        if self.api.takes_other_bodies() && headers.content_type.as_deref().is_some_and(is_media) {
            self.set_kind(Kind::Neither);
        }
        if let Some(method) = self.api.grpc() {
            let coding = headers.signal_of(GRPC_ENCODING);
            self.response = Response::Framed(Box::new(Responses::new(method, coding, max_text(self.cap))));
        }
        self.response_trailers(headers);
    }

    /// Takes what came behind the response's body. A call over gRPC that has failed at once has it in its only head.
    pub fn response_trailers(&mut self, headers: &Headers) {
        let Self { api, draft, .. } = self;
        headers.signals.iter().for_each(|(name, value)| api.header(Part::Response, name, value, draft));
        if api.grpc().is_some()
            && let Some(failed) = headers.signal_of(GRPC_STATUS).and_then(grpc::failed)
        {
            draft.failure.get_or_insert(Failure { kind: Some(failed.to_owned()), shaped: true });
        }
    }

    /// Takes the next bytes of the response's body. The sink hears of a stream's events; a response that is one
    /// document has none.
    pub fn response_body(&mut self, bytes: &[u8], sink: &mut dyn FnMut(ResponseEvent)) {
        if let Response::Undecided(held) = &mut self.response {
            let (kind, rest) = sniff(held, bytes, self.declared.stream(), self.api.streams_array());
            let Some(kind) = kind else { return };
            let held = std::mem::take(held);
            self.set_kind(kind);
            self.feed(&held, sink);
            self.feed(rest, sink);
        } else {
            self.feed(bytes, sink);
        }
    }

    /// Bytes of the response's body are missing. A stream goes on with its next event; a document cannot. Content
    /// stops here, because what follows would be joined to the wrong text.
    pub fn response_gap(&mut self) {
        self.api.response_cut(&mut self.draft);
        if let Response::Undecided(_) = self.response {
            self.set_kind(match self.declared {
                Declared::Stream(kind) => kind,
                _ if self.api.streams_array() => Kind::Array,
                Declared::Nothing if self.draft.request.stream == Some(true) => Kind::Events,
                Declared::Nothing | Declared::Other => Kind::Document,
            });
        }
        if let Response::Framed(framing) = &mut self.response {
            framing.gap(self.api.as_mut(), &mut self.draft);
        }
    }

    /// The response's body is over.
    pub fn response_end(&mut self, sink: &mut dyn FnMut(ResponseEvent)) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        match &mut self.response {
            Response::Undecided(held) if held.is_empty() => {}
            Response::Undecided(_) => self.set_kind(Kind::Neither),
            Response::Framed(framing) => framing.end(self.api.as_mut(), &mut self.draft, sink),
            Response::Opaque => {}
        }
        self.api.concluded(&mut self.draft);
    }

    /// Whether anything of the response's body has come.
    pub fn is_answered(&self) -> bool {
        !matches!(&self.response, Response::Undecided(held) if held.is_empty())
    }

    /// Whether the response is a stream of events.
    pub fn is_stream(&self) -> bool {
        match &self.response {
            Response::Undecided(_) => self.declared.stream().is_some(),
            Response::Framed(framing) => framing.is_stream(),
            Response::Opaque => false,
        }
    }

    /// Whether this is a model call.
    pub fn proof(&self) -> Proof {
        let draft = &self.draft;
        // A refused call is one too when its request was lost or showed half of the proof: an error in the API's
        // own form is as good as an answer then.
        let refused = self.status.is_some_and(|status| status >= 400)
            && draft.failure.as_ref().is_some_and(|failure| failure.shaped)
            && (draft.request_hint || !self.request.is_whole());
        match (draft.request_proof, draft.response_proof || refused) {
            (true, _) => Proof::Request,
            (false, true) => Proof::Response,
            (false, false) if self.ended || self.api.is_refuted() => Proof::Refuted,
            (false, false) => Proof::Pending,
        }
    }

    /// Whether the response ended normally: the sentinel came, or every choice has its finish reason and usage or
    /// the end of the body came.
    pub fn finished(&self) -> bool {
        let (sentinel, whole) = match &self.response {
            Response::Framed(framing) => (framing.is_done(), framing.is_whole()),
            Response::Undecided(_) | Response::Opaque => (false, false),
        };
        sentinel || (self.draft.failure.is_none() && self.api.is_finished(self.ended || whole, &self.draft))
    }

    /// Why a body could not be read to its end; the request's reason first.
    pub fn malformed(&self) -> Option<&'static str> {
        self.request_malformed().or_else(|| self.response_malformed())
    }

    /// Why the request's body could not be read to its end.
    pub fn request_malformed(&self) -> Option<&'static str> {
        self.request.malformed()
    }

    /// Why the response's body could not be read to its end, or what of it was passed over.
    pub fn response_malformed(&self) -> Option<&'static str> {
        let body = match &self.response {
            Response::Framed(framing) => framing.malformed(),
            Response::Opaque if self.api.takes_other_bodies() => None,
            Response::Opaque => Some("neither JSON nor an event stream"),
            Response::Undecided(_) => None,
        };
        let overflow = self.draft.choices.overflow().then_some("more choices or tool calls than are kept");
        body.or(overflow)
    }

    /// What the call said about itself.
    pub fn into_facts(mut self) -> Facts {
        // What is left of a document that was cut off.
        self.response_end(&mut |_| {});
        let Self { api, mut draft, any, provider, engine, timings, cap, redactor, status, .. } = self;
        draft.timings = draft.timings.or(timings);
        let provider = provider.or(draft.engine).or(engine).unwrap_or_else(|| api.default_provider());
        facts(api.as_ref(), draft, provider, cap, redactor, status, any.end())
    }

    fn set_kind(&mut self, kind: Kind) {
        let max_text = max_text(self.cap);
        self.response = Response::Framed(match kind {
            Kind::Document => Box::new(Documents::one(max_text)),
            Kind::Lines => Box::new(Documents::stream(Form::Lines, max_text)),
            Kind::Array => Box::new(Documents::stream(Form::Array, max_text)),
            Kind::Events => Box::new(Events::new(max_text)),
            Kind::Frames => Box::new(Frames::new(max_text)),
            Kind::Neither => {
                self.response = Response::Opaque;
                return;
            }
        });
    }

    fn feed(&mut self, bytes: &[u8], sink: &mut dyn FnMut(ResponseEvent)) {
        if let Response::Framed(framing) = &mut self.response {
            framing.push(bytes, self.api.as_mut(), &mut self.draft, sink);
        }
    }

    /// Bytes that grow with the bodies, for tests of the bound.
    #[cfg(test)]
    pub(crate) fn held(&self) -> usize {
        let undecided = if let Response::Undecided(held) = &self.response { held.capacity() } else { 0 };
        let Draft { input, instructions, tools, choices, .. } = &self.draft;
        undecided + input.held() + instructions.held() + tools.held() + choices.held()
    }
}

impl Declared {
    /// The stream that the body is declared to be.
    fn stream(self) -> Option<Kind> {
        match self {
            Self::Stream(kind) => Some(kind),
            Self::Nothing | Self::Other => None,
        }
    }
}

/// A call of which nothing is known.
pub(super) fn draft(options: &Options) -> Draft {
    let mut draft = Draft::new(options.content);
    // Asked for once: the answer may be another a moment later.
    draft.choices.budget.counted = options.estimate.map(|estimator| estimator.counting(options.server));
    if options.redactor.policy().tool_details {
        draft.tools.keep_details(options.content);
    }
    draft
}

/// How much of a string has to be read.
pub(super) fn max_text(content: Option<usize>) -> usize {
    content.map_or(MAX_NAME, text_cap).max(MAX_NAME)
}
