//! What the parser says.

/// Something that happened in one direction of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A request's head. Its [`Event::End`] follows, with the body in between.
    Request(RequestHead),
    /// A response's head. Its [`Event::End`] follows, unless it is an interim one.
    Response(ResponseHead),
    /// The parser has joined a response in the middle of its body, which is an event stream: an event begins here. Its
    /// [`Event::End`] follows, unless nothing tells where that is.
    Joined,
    /// Bytes of the body, transfer encoding taken off. Never empty.
    Body(&'a [u8]),
    /// So many bytes are missing in the body, whose framing survived. In a body that ends with the connection they
    /// are all taken for content.
    BodyGap(u64),
    /// The message is over.
    End(End),
    /// Bytes could not be understood; one of [`reason`](super::reason).
    Malformed(&'static str),
    /// So many bytes were passed over while looking for a message. Comes once, before the message that was found
    /// or when the connection closes.
    Skipped(u64),
    /// After `101 Switching Protocols` or a successful `CONNECT`: nothing more is HTTP in this direction. The
    /// caller tells the other direction with [`Parser::tunnel`](super::Parser::tunnel).
    Tunnel,
}

/// How a message ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Where its framing says.
    Complete,
    /// With the connection, which is the end that its framing names.
    Closed,
    /// With the connection, before the end that its framing names.
    Cut,
    /// Unknown: missing bytes or malformed framing hide it.
    Lost,
}

/// What is taken out of a request's head.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestHead {
    /// As written.
    pub method: String,
    /// Path without the query, which may carry keys. The path of a full URL in absolute form; `*` for a server-wide
    /// `OPTIONS`; empty for `CONNECT`.
    pub path: String,
    /// `Host`, or the authority that the target itself names, which takes precedence (RFC 9112 section 3.2.2).
    pub host: Option<String>,
    /// Other headers.
    pub headers: Headers,
    /// Whether the connection persists, as far as this message goes (RFC 9112 section 9.3).
    pub keep_alive: bool,
    /// `Expect: 100-continue`.
    pub expect_continue: bool,
    /// `Upgrade`, in lower case.
    pub upgrade: Option<String>,
}

/// What is taken out of a response's head.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResponseHead {
    /// Status code.
    pub status: u16,
    /// Other headers.
    pub headers: Headers,
    /// Whether the connection persists, as far as this message goes.
    pub keep_alive: bool,
    /// Bytes were missing or not understood before this head: responses to earlier requests may have been among
    /// them, so this one answers the latest.
    pub after_loss: bool,
}

impl ResponseHead {
    /// Whether the real response is still to come (1xx). Such a response has neither body nor end. `101` is not
    /// one: it is the last response that the connection carries.
    pub fn is_interim(&self) -> bool {
        (100..200).contains(&self.status) && self.status != 101
    }
}

/// Headers that are let out, the same for both kinds of message. Values are cut at a few hundred bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers {
    /// `Content-Type` in lower case, without parameters.
    pub content_type: Option<String>,
    /// `Content-Encoding` in lower case; absent for `identity`.
    pub content_encoding: Option<String>,
    /// `Content-Length`.
    pub content_length: Option<u64>,
    /// Whether `chunked` is the last transfer encoding.
    pub chunked: bool,
    /// `traceparent`.
    pub traceparent: Option<String>,
    /// `x-request-id` or `request-id`, whichever comes first.
    pub request_id: Option<String>,
    /// `x-stainless-retry-count`.
    pub retry_count: Option<u32>,
    /// `User-Agent`.
    pub user_agent: Option<String>,
}
