//! HTTP/2, one direction of one connection (RFC 9113), with its header compression (RFC 7541).
//!
//! Owns frames, header blocks and what of them may be known outside. Leaves to others: the life of a stream, which has
//! two directions, and what a body means. Frames of a stream's body are given out piece by piece as they come; header
//! blocks are held until they are whole, within a bound, and overwritten when they have been read. [`Parser`] has no
//! `Debug`.
//!
//! A listener negotiates nothing: it follows what the two ends have said. A frame's largest size is what its receiver
//! has announced, from the moment that it was announced; where the announcement was not seen any size will do. The size
//! of the compression's table follows the encoder, which says so in its blocks; what the other end allows only bounds
//! what the encoder may say.
//!
//! A parser may be made in the middle of a connection ([`Parser::join`]) and survives missing bytes. While it does not
//! know where a frame begins it looks for frames at the start of each push only, because programs write frames whole,
//! and believes a header that a second one, or the end of the push, confirms. That is the one place where the cut into
//! pushes matters. What the compression's table held before is unknown then: see [`hpack`] for how far fields can be
//! trusted. Bytes that are missing inside one frame cost that frame only.
//!
//! To let one more header out: see `protocol::head`; what frames a message is in `fields.rs`. To read one more type of
//! frame: its rules in `frame.rs`, its event in `event.rs`, its branch in `parser.rs`. To name one more fault: add a
//! constant to [`reason`].

mod event;
mod fields;
mod frame;
mod hpack;
mod parser;
pub mod reason;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

pub use event::{CANCEL, Event, Head};
pub use parser::Parser;

use frame::{Frame, HEADER, Look, flag, kind};

/// What a client sends first (RFC 9113 section 3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Which direction the first bytes that are seen of a connection are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beginning {
    /// Frames of a client.
    Requests,
    /// Frames of a server.
    Responses,
    /// Frames of one of the two, or what may be one.
    Frames,
    /// The header of a frame, alone: its payload will come by itself.
    Header,
    /// No frames.
    Other,
}

/// Says whether frames stand at the start of `bytes`, and whose. The preface is not looked for.
pub fn beginning(bytes: &[u8]) -> Beginning {
    match frame::look(bytes) {
        Look::Frames => {}
        Look::Alone(_) => return Beginning::Header,
        Look::Perhaps(_) => return Beginning::Frames,
        Look::Nothing => return Beginning::Other,
    }
    let mut rest = bytes;
    while let Some((header, payload)) = rest.split_first_chunk::<HEADER>() {
        let frame = Frame::parse(*header);
        let (payload, next) = payload.split_at_checked(frame.len as usize).unwrap_or((payload, &[]));
        if let Some(is_request) = says(&frame, payload) {
            return if is_request { Beginning::Requests } else { Beginning::Responses };
        }
        rest = next;
    }
    Beginning::Frames
}

/// Whether a frame is a client's, if it tells.
fn says(frame: &Frame, payload: &[u8]) -> Option<bool> {
    match frame.kind {
        kind::HEADERS => {
            let mut fields = fields::Fields::default();
            // What is missing at its end is no matter.
            let _ = hpack::Decoder::new().decode(parser::unpadded(frame, payload)?, &mut |field| fields.take(&field));
            fields.is_request()
        }
        // A client sends its preface first.
        kind::SETTINGS if !frame.has(flag::ACK) => Some(false),
        kind::PUSH_PROMISE => Some(false),
        kind::DATA if is_event(parser::unpadded(frame, payload)?) => Some(false),
        _ => None,
    }
}

/// Whether a body that goes on with `bytes` is an event stream of a model's, and an event begins here.
pub fn is_event(bytes: &[u8]) -> bool {
    let text = bytes.strip_prefix(b"data:").or_else(|| bytes.strip_prefix(b"event:"));
    let Some(text) = text.map(<[u8]>::trim_ascii_start) else { return false };
    bytes.starts_with(b"event:") || matches!(text.first(), Some(b'{' | b'['))
}
