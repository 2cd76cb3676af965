//! What the parser says.

use crate::protocol::head::{RequestHead, ResponseHead};

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
    /// The preface of HTTP/2 begins here.
    Http2,
    /// Bytes behind [`Self::Tunnel`] or [`Self::Http2`], as they are; the preface is among them.
    Beyond(&'a [u8]),
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
