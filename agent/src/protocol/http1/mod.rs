//! HTTP/1.x, one direction of one connection (RFC 9110 and RFC 9112).
//!
//! Owns where messages begin and end and what of their heads may be known outside. Leaves to others: which
//! response belongs to which request (the caller tells a response parser the methods with [`Parser::expect`]),
//! content encodings, and what a body means.
//!
//! Headers are taken by allow-list. Credentials stand in heads, so nothing else is copied out of one, the bytes
//! of a head are overwritten as soon as it has been read, and [`Parser`] has no `Debug`.
//!
//! A parser may be made in the middle of a connection and survives missing bytes. While it does not know where
//! a message begins it looks for one at the start of each push only: programs write a message's beginning in a
//! call of its own, and the middle of a body must not be taken for one. That is the one place where the cut into
//! pushes matters; from a message's beginning on it does not. One that has seen nothing yet may also join a response in
//! the middle of its body, if that is an event stream ([`Event::Joined`]).
//!
//! To let one more header out: see `protocol::head`. To name one more fault: add a constant to [`reason`].

mod body;
mod event;
mod head;
mod held;
mod parser;
pub mod reason;
mod start;
#[cfg(test)]
mod tests;

pub use event::{End, Event};
pub use parser::Parser;

/// What the first bytes of a stream's direction look like, as far as they go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beginning {
    /// A request, or the preface of HTTP/2.
    Request,
    /// A response.
    Response,
    /// A piece of a response whose body is an event stream.
    Events,
    /// None of these.
    Other,
}

/// Says which kind of message `bytes` begins. A few bytes that could become one are taken for one.
pub fn beginning(bytes: &[u8]) -> Beginning {
    use start::Look;
    let probe = &bytes[..bytes.len().min(start::PROBE)];
    if probe.is_empty() {
        Beginning::Other
    } else if start::response(probe) != Look::Other {
        // `H` alone may also become HEAD; a response is the likelier beginning of a direction joined anywhere.
        Beginning::Response
    } else if start::request(probe) != Look::Other {
        Beginning::Request
    } else if matches!(start::joins(probe), start::Joins::Chunk | start::Joins::Unsure | start::Joins::Event) {
        Beginning::Events
    } else {
        Beginning::Other
    }
}
