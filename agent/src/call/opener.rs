//! How an exchange begins, whatever version of HTTP it is of.
//!
//! Owns what a connection is told once, the numbers of its exchanges, and which requests are wanted.

use std::sync::Arc;

use super::{
    HttpFacts,
    exchange::{Exchange, Part},
};
use crate::{
    llm::{Options, RequestLine, Session, Socket},
    protocol::head::{RequestHead, ResponseHead},
    targets::Targets,
    time::Mono,
};

/// How the `User-Agent` of this agent's own requests begins, whatever its version.
pub(crate) const OWN_AGENT: &str = "inferscope/";

/// What a connection is told once.
#[derive(Clone, Debug, Default)]
pub struct ConnectionOptions {
    /// Passed to every model session.
    pub session: Options,
    /// Follow every HTTP exchange.
    pub all_http: bool,
    /// Which hosts and ports are of interest.
    pub targets: Arc<Targets>,
}

/// Makes the exchanges of one connection.
pub(super) struct Opener {
    pub options: ConnectionOptions,
    began: u64,
}

impl Opener {
    pub fn new(options: ConnectionOptions) -> Self {
        Self { options, began: 0 }
    }

    /// Whether no exchange has begun yet.
    pub fn is_fresh(&self) -> bool {
        self.began == 0
    }

    /// Whether anybody asked for an exchange.
    pub fn wants(&self, exchange: &Exchange) -> bool {
        exchange.is_wanted(self.options.all_http)
    }

    /// An exchange at its request's head, whose first byte came at `start`.
    pub fn open(&mut self, at: Mono, start: Mono, head: RequestHead) -> Exchange {
        let line = RequestLine {
            method: &head.method,
            path: &head.path,
            host: head.host.as_deref(),
            headers: Some(&head.headers),
        };
        let is_targeted = self.options.targets.wants_host(line.host) && !is_own_export(&head);
        let session = if is_targeted { Session::open(&line, &self.options.session) } else { None };
        let opens_socket = is_targeted && head.method == "GET" && head.upgrade.as_deref().is_some_and(is_websocket);
        let socket = opens_socket.then(|| Socket::open(&line, head.model.as_deref(), &self.options.session)).flatten();
        let known = |text: String| (!text.is_empty()).then_some(text);
        let http = HttpFacts { method: known(head.method), path: Some(head.path), host: head.host, status: None };
        let mut exchange = Exchange::new(self.number(), start, http, session);
        exchange.socket = socket.map(Box::new);
        if !is_targeted {
            exchange.set_untargeted();
        }
        exchange.set_encoding(at, Part::Request, head.headers.content_encoding.as_deref());
        exchange
    }

    /// An exchange whose request was not seen, if `session` can tell what it is.
    pub fn join(&mut self, at: Mono, session: Option<Session>) -> Option<Exchange> {
        // Nothing names its host.
        let session = session.filter(|_| self.options.targets.wants_host(None))?;
        Some(Exchange::joined(self.number(), at, session))
    }

    /// The number of the next exchange.
    pub fn number(&mut self) -> u64 {
        let number = self.began;
        self.began += 1;
        number
    }
}

/// Whether a request is one of this agent's exports, which a collector on the same host reads. Reported, where every exchange
/// is, it would be exported in turn, and so on for ever.
fn is_own_export(head: &RequestHead) -> bool {
    head.path.starts_with("/opentelemetry.proto.collector.")
        && head.headers.user_agent.as_deref().is_some_and(|agent| agent.starts_with(OWN_AGENT))
}

/// Whether an `Upgrade` is to a WebSocket (RFC 6455 section 4.1).
pub(super) fn is_websocket(upgrade: &str) -> bool {
    upgrade.split(',').any(|protocol| protocol.trim() == "websocket")
}

/// A response's head has come, its first byte at `started`.
pub(super) fn answer(exchange: &mut Exchange, at: Mono, started: Mono, head: &ResponseHead) {
    exchange.response_head(at, started, head.status, &head.headers);
    exchange.set_encoding(at, Part::Response, head.headers.content_encoding.as_deref());
}
