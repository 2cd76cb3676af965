//! WebSocket (RFC 6455) with permessage-deflate (RFC 7692), one direction of one connection.
//!
//! Owns frames and what they carry: messages, whose bytes come out unmasked and decompressed in the pieces in which
//! they arrive, and control frames between them. No message is held. Leaves to others: the upgrade, which `http1`
//! sees ([`Extensions`] reads what it agreed on), and what a message means.
//!
//! A parser begins behind the upgrade. A hole inside a payload costs bytes of one message, because the frame's length
//! is known; one that reaches a frame's header, or a header that breaks the rules, ends the parsing: frames have no mark
//! by which the next one could be found.
//!
//! To add an extension: read its parameters in `extensions.rs`, and take its bits and payloads in `parser.rs`.

mod extensions;
mod header;
mod inflater;
mod parser;
pub mod reason;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

pub use extensions::{Extensions, Unsupported};
pub use parser::Parser;

/// What the parser says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A message begins. Its [`Event::End`] follows, with its bytes in between and perhaps control frames.
    Begin(Kind),
    /// Bytes of the message. Never empty.
    Data(&'a [u8]),
    /// So many bytes of the message, as it was sent, are missing here.
    Gap(u64),
    /// The message is over.
    End(End),
    /// A ping.
    Ping,
    /// A pong.
    Pong,
    /// The sender closes, with its status code if it gives one. Nothing follows.
    Close(Option<u16>),
    /// Where frames begin is not known any more, and nothing follows; one of [`reason`].
    Lost(&'static str),
}

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Text in UTF-8, which is not checked.
    Text,
    /// Bytes.
    Binary,
}

/// How a message ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// With its last frame.
    Complete,
    /// With its last frame, but its bytes could not all be decompressed; one of [`reason`].
    Damaged(&'static str),
    /// With the connection, or with the parsing.
    Cut,
}
