//! The paths and headers of remote procedure calls: MCP and A2A.
//!
//! Owns rows of the registry's table, and what a request is taken for where its path is nobody's. Both protocols may be
//! served at any path: their headers tell, or the paths that everyone uses.

use super::{Apis, Route};
use crate::{
    llm::{
        engines::tgi::Tgi,
        rpc::{a2a::A2a, mcp::Mcp},
    },
    protocol::head::Headers,
};

const MCP: Apis = &[|_| Box::new(Mcp::default())];
const A2A: Apis = &[|_| Box::new(A2a::new(None))];
const EITHER: Apis = &[|_| Box::new(A2a::new(None)), |_| Box::new(Mcp::default())];

pub(crate) const ROUTES: &[Route] = &[
    Route { suffix: &["mcp"], open: MCP },
    // The two paths of the oldest version, as its SDKs set them up.
    Route { suffix: &["sse"], open: MCP },
    Route { suffix: &["messages"], open: MCP },
    Route { suffix: &["a2a"], open: EITHER },
    Route { suffix: &["rpc"], open: EITHER },
    Route { suffix: &["jsonrpc"], open: EITHER },
    Route { suffix: &["message:send"], open: &[|_| Box::new(A2a::new(Some("SendMessage")))] },
    Route { suffix: &["message:stream"], open: &[|_| Box::new(A2a::new(Some("SendStreamingMessage")))] },
];

/// Who serves `/`: agents by default, and TGI.
const ROOT: Apis = &[|_| Box::new(A2a::new(None)), |_| Box::new(Mcp::default()), |_| Box::new(Tgi::new(true))];

/// The APIs that the headers name, whatever the path.
pub(crate) fn named(headers: Option<&Headers>) -> Option<Apis> {
    let headers = headers?;
    ["mcp-method", "mcp-protocol-version"].iter().any(|name| headers.signal_of(name).is_some()).then_some(MCP)
}

/// The APIs that a request to a path without a route may be of. A path that was left out once is left out whatever its
/// later headers say (`is_never_a_model`): a server's requests all have them or none does.
pub(crate) fn elsewhere(is_root: bool, headers: Option<&Headers>) -> Option<Apis> {
    match headers {
        Some(headers) if headers.signal_of("a2a-version").is_some() => Some(A2A),
        // Whatever else is posted to `/` is mostly not plain JSON.
        Some(headers) if is_root => (headers.content_type.as_deref() == Some("application/json")).then_some(ROOT),
        None if is_root => Some(ROOT),
        Some(headers) if headers.accepts_both => Some(MCP),
        _ => None,
    }
}
