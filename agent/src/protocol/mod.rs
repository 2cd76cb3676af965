//! Wire protocols: bytes and time in, events out.
//!
//! Owns framing: where a message, a body or an event begins and ends. Knows nothing of models, calls or
//! processes. Every parser here is a push parser with a stated bound on what it keeps, gives the same events
//! however the bytes are cut into pushes, and answers bad bytes with an event, never with an error that stops it
//! (invariant 2).
//!
//! To add a protocol: one file (or folder) with a `push(&mut self, bytes, sink)` that emits borrowed events, a
//! `gap(len)` that says what a hole does to it, and the split-invariance property test that the
//! others have.

pub mod encoding;
pub mod event_stream;
pub mod grpc;
pub mod head;
pub mod http1;
pub mod http2;
pub mod json;
pub mod lines;
pub mod multipart;
pub mod protobuf;
pub mod sse;
pub mod websocket;
mod wiped;
