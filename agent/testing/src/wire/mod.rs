//! What programs write: HTTP/1.1, HTTP/2, content codings, AWS event streams, gRPC, Protocol Buffers and WebSocket, in
//! the plainest form.
//!
//! Independent of the agent's own code, so that both cannot be wrong in the same way.

pub mod coding;
pub mod event_stream;
pub mod http1;
pub mod http2;
pub mod protobuf;
pub mod websocket;

pub use coding::Coding;
