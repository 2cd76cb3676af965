//! Remote procedure calls of agents: MCP over HTTP and over pipes, and A2A, both JSON-RPC.
//!
//! To add a protocol over JSON-RPC: a file that says what its methods are, with `jsonrpc.rs` reading the messages, and its
//! path in `registry/remote.rs`.

pub(crate) mod a2a;
pub(crate) mod jsonrpc;
pub(crate) mod mcp;
pub(crate) mod mcp_stdio;
