//! The attributes of calls that are no model's: searches in vector stores, and remote procedure calls of MCP and A2A.
//!
//! Owns which they are and how such spans are named. The names are the conventions' for retrieval and for MCP, which have
//! none for A2A: those follow their general ones for remote procedure calls.

use super::{attributes as names, from_call::Attributes};
use crate::llm::{Facts, RetrievalFacts, RpcFacts};

/// Name of the API whose calls are MCP's.
const MCP: &str = "mcp";

/// Name of a search's span.
pub(super) fn retrieval_name(retrieval: &RetrievalFacts) -> String {
    match &retrieval.data_source {
        Some(source) => format!("retrieval {source}"),
        None => "retrieval".to_owned(),
    }
}

/// Name of a remote procedure call's span. The resource is not part of it: there are too many.
pub(super) fn rpc_name(rpc: &RpcFacts) -> String {
    match rpc.tool.as_ref().or(rpc.prompt.as_ref()) {
        Some(target) => format!("{} {target}", rpc.method),
        None => rpc.method.clone(),
    }
}

pub(super) fn retrieval(out: &mut Attributes, retrieval: &RetrievalFacts) {
    let RetrievalFacts { data_source, operation, top_k, result_count } = retrieval;
    out.text(names::GEN_AI_DATA_SOURCE_ID, data_source.as_deref());
    out.text(names::INFERSCOPE_RETRIEVAL_OPERATION, Some(*operation));
    out.int(names::INFERSCOPE_RETRIEVAL_TOP_K, *top_k);
    out.int(names::INFERSCOPE_RETRIEVAL_RESULT_COUNT, *result_count);
}

/// All attributes of a remote procedure call that come from its messages: it has no model, no provider and no tokens.
pub(super) fn rpc(out: &mut Attributes, facts: &Facts, rpc: &RpcFacts) {
    let RpcFacts {
        method,
        request_id,
        tool,
        prompt,
        resource,
        protocol_version,
        error_code,
        traceparent: _,
        task_state,
    } = rpc;
    let is_mcp = facts.api == MCP;
    // Of MCP only a tool's call is an operation of the conventions.
    out.text(names::GEN_AI_OPERATION_NAME, (!is_mcp || tool.is_some()).then_some(facts.operation));
    let (method_name, version_name) = match is_mcp {
        true => (names::MCP_METHOD_NAME, names::MCP_PROTOCOL_VERSION),
        false => (names::RPC_METHOD, names::INFERSCOPE_A2A_PROTOCOL_VERSION),
    };
    out.text(method_name, Some(method));
    out.text(version_name, protocol_version.as_deref());
    out.text(names::GEN_AI_TOOL_NAME, tool.as_deref());
    out.text(names::GEN_AI_PROMPT_NAME, prompt.as_deref());
    out.text(names::MCP_RESOURCE_URI, resource.as_deref());
    out.text(names::JSONRPC_REQUEST_ID, request_id.as_deref());
    out.text(names::RPC_RESPONSE_STATUS_CODE, error_code.map(|code| code.to_string()).as_deref());
    out.text(names::INFERSCOPE_A2A_TASK_STATE, task_state.as_deref());
    out.text(names::INFERSCOPE_API, Some(facts.api));
}

#[cfg(test)]
mod tests {
    use crate::{
        export::{
            attributes as names,
            span::Span,
            testing::{ANCHOR, chat},
        },
        llm::{Facts, RetrievalFacts, RpcFacts},
    };

    fn span(facts: Facts) -> Span {
        let mut call = chat();
        (call.facts, call.chunk_count) = (Some(facts), 0);
        Span::from_call(&call, ANCHOR)
    }

    fn text(span: &Span, name: &str) -> Option<String> {
        span.get(name).and_then(|value| value.as_str()).map(str::to_owned)
    }

    #[test]
    fn a_tool_s_call_has_no_model_and_no_stream_times() {
        let rpc = RpcFacts {
            method: "tools/call".to_owned(),
            request_id: Some("7".to_owned()),
            tool: Some("search".to_owned()),
            error_code: Some(-32602),
            ..RpcFacts::default()
        };
        let span = span(Facts { api: "mcp", operation: "execute_tool", rpc: Some(rpc), ..Facts::default() });
        assert_eq!(span.name, "tools/call search");
        assert_eq!(text(&span, names::GEN_AI_OPERATION_NAME).as_deref(), Some("execute_tool"));
        assert_eq!(text(&span, names::MCP_METHOD_NAME).as_deref(), Some("tools/call"));
        assert_eq!(text(&span, names::GEN_AI_TOOL_NAME).as_deref(), Some("search"));
        assert_eq!(text(&span, names::JSONRPC_REQUEST_ID).as_deref(), Some("7"));
        assert_eq!(text(&span, names::RPC_RESPONSE_STATUS_CODE).as_deref(), Some("-32602"));
        for absent in [names::GEN_AI_PROVIDER_NAME, names::GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK] {
            assert!(span.get(absent).is_none(), "{absent}");
        }
    }

    #[test]
    fn a_listing_is_no_operation_and_a_resource_no_name() {
        let rpc = RpcFacts {
            method: "resources/read".to_owned(),
            resource: Some("file:///a".to_owned()),
            ..RpcFacts::default()
        };
        let span = span(Facts { api: "mcp", operation: "mcp", rpc: Some(rpc), ..Facts::default() });
        assert_eq!((span.name.as_str(), span.get(names::GEN_AI_OPERATION_NAME)), ("resources/read", None));
        assert_eq!(text(&span, names::MCP_RESOURCE_URI).as_deref(), Some("file:///a"));
    }

    #[test]
    fn an_agent_s_call_has_its_task() {
        let rpc = RpcFacts {
            method: "SendMessage".to_owned(),
            task_state: Some("completed".to_owned()),
            ..RpcFacts::default()
        };
        let span = span(Facts { api: "a2a", operation: "invoke_agent", rpc: Some(rpc), ..Facts::default() });
        assert_eq!(text(&span, names::RPC_METHOD).as_deref(), Some("SendMessage"));
        assert_eq!(text(&span, names::INFERSCOPE_A2A_TASK_STATE).as_deref(), Some("completed"));
        assert_eq!(text(&span, names::MCP_METHOD_NAME), None);
    }

    #[test]
    fn a_search_is_named_by_what_it_searched() {
        let retrieval = RetrievalFacts {
            data_source: Some("docs".to_owned()),
            operation: "query",
            top_k: Some(5),
            result_count: Some(0),
        };
        let facts = Facts {
            api: "retrieval",
            operation: "retrieval",
            provider: "qdrant",
            retrieval: Some(retrieval),
            ..Facts::default()
        };
        let span = span(facts);
        assert_eq!(span.name, "retrieval docs");
        assert_eq!(text(&span, names::GEN_AI_PROVIDER_NAME).as_deref(), Some("qdrant"));
        assert_eq!(text(&span, names::GEN_AI_DATA_SOURCE_ID).as_deref(), Some("docs"));
        let count = span.get(names::INFERSCOPE_RETRIEVAL_RESULT_COUNT);
        assert!(matches!(count, Some(crate::export::span::Value::Int(0))), "nothing found is a count");
    }
}
