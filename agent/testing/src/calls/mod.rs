//! Whole calls as they pass on a connection, with what must come of them.

pub mod bodies;

use std::ops::Range;

use bodies::Body;
use inferscope::call::Completion;

use crate::wire::{
    Coding,
    http1::{self, Framing},
    http2,
};

/// How the two messages of a call are framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// HTTP/1.1, with this framing of the response.
    Http1(Framing),
    /// HTTP/2.
    Http2,
}

impl Transport {
    /// All of them.
    pub const ALL: [Self; 4] =
        [Self::Http1(Framing::Length), Self::Http1(Framing::Chunked), Self::Http1(Framing::UntilClose), Self::Http2];
}

/// A call on a connection of its own.
#[derive(Clone, Debug)]
pub struct Call {
    /// What it is made of.
    pub name: String,
    /// What the client sends.
    pub request: Vec<u8>,
    /// What the server sends.
    pub response: Vec<u8>,
    /// Where the response's head ends.
    pub head: usize,
    /// Where the finish reason may have come.
    pub reason: usize,
    /// Where the model has said that it is done: not before the first byte, certainly with all of them.
    pub finish: Range<usize>,
    /// The response is a stream of events.
    pub streamed: bool,
    /// How it is framed.
    pub transport: Transport,
    /// How the call ends if nothing is cut off.
    pub completion: Completion,
}

impl Call {
    /// Puts bodies into a coding and a framing.
    pub fn new(body: &Body, transport: Transport, coding: Coding) -> Self {
        // The last byte of the piece that ends the answer comes alone, so that it is known where that is.
        let mut pieces = body.pieces.clone();
        let finishing = &mut pieces[body.finishing];
        let last = finishing.pop().into_iter().collect();
        pieces.insert(body.finishing + 1, last);
        let pieces = coding.encode(&pieces);
        let content = ("content-type", body.content_type);
        let encoding = coding.name().map(|name| ("content-encoding", name));
        let request = [body.request.as_bytes().to_vec()];
        let json = ("content-type", "application/json");
        let (request, response) = match transport {
            Transport::Http1(framing) => {
                let fields: Vec<_> = [content].into_iter().chain(encoding).collect();
                let start = format!("HTTP/1.1 {} X", body.status);
                let asks = format!("POST {} HTTP/1.1", body.path);
                let asked = http1::message(&asks, &[("host", "api.example"), json], Framing::Length, &request);
                (asked.concat(), http1::message(&start, &fields, framing, &pieces))
            }
            Transport::Http2 => {
                let status = body.status.to_string();
                let fields: Vec<_> = [(":status", status.as_str()), content].into_iter().chain(encoding).collect();
                let asks = [
                    (":method", "POST"),
                    (":scheme", "http"),
                    (":authority", "api.example"),
                    (":path", body.path),
                    json,
                ];
                let asked = http2::message(1, &asks, &request).concat();
                let settings = http2::frame(http2::kind::SETTINGS, 0, 0, &[]);
                let mut answered = http2::message(1, &fields, &pieces);
                answered[0].splice(0..0, settings.iter().copied());
                ([http2::PREFACE, &settings, &asked].concat(), answered)
            }
        };
        // The head comes before the pieces.
        let before = body.finishing + 2;
        let end = if body.says_so { before + 1 } else { response.len() };
        let at = |piece: usize| response[..piece].iter().map(Vec::len).sum::<usize>();
        Self {
            name: format!("{}, {transport:?}, {coding:?}", body.name),
            head: response[0].len(),
            reason: at(body.reasoned + 1),
            finish: at(before)..at(end),
            streamed: body.content_type != "application/json" || body.name == "gemini array",
            completion: body.completion,
            response: response.concat(),
            request,
            transport,
        }
    }

    /// Two hundred of them: every body in every framing and coding.
    pub fn all() -> Vec<Self> {
        let mut calls = Vec::new();
        for body in bodies::all() {
            for transport in Transport::ALL {
                calls.extend(Coding::ALL.map(|coding| Self::new(&body, transport, coding)));
            }
        }
        calls
    }
}
