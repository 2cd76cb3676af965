//! MCP and A2A.

use super::*;

const MCP: &str = "/mcp";

fn call(params: Value) -> Value {
    json!({"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": params})
}

fn rpc(outcome: &Outcome) -> &RpcFacts {
    outcome.facts.rpc.as_ref().expect("a remote procedure call")
}

#[test]
fn mcp_tool_call() {
    let request = call(
        json!({"name": "search", "arguments": {"q": "secret"}, "_meta": {"traceparent": "00-ab-cd-01", "progressToken": 1}}),
    );
    let response =
        json!({"jsonrpc": "2.0", "id": 7, "result": {"content": [{"type": "text", "text": "x"}], "isError": false}});
    let outcome = plain(MCP, request, response);
    assert_eq!((outcome.facts.api, outcome.facts.operation), ("mcp", "execute_tool"));
    let expect = RpcFacts {
        method: "tools/call".into(),
        request_id: Some("7".into()),
        tool: Some("search".into()),
        traceparent: Some("00-ab-cd-01".into()),
        ..RpcFacts::default()
    };
    assert_eq!((rpc(&outcome), outcome.proof, outcome.finished), (&expect, Proof::Request, true));
    assert_eq!(outcome.facts.error, None);
}

#[test]
fn tool_error() {
    let response = json!({"jsonrpc": "2.0", "id": 7, "result": {"content": [], "isError": true}});
    let outcome = plain(MCP, call(json!({"name": "f"})), response);
    assert_eq!((outcome.facts.error.as_deref(), rpc(&outcome).error_code), (Some("tool_error"), None));
    let response = json!({"jsonrpc": "2.0", "id": 7, "error": {"code": -32602, "message": "Unknown tool: sk-abc"}});
    let outcome = plain(MCP, call(json!({"name": "f"})), response);
    assert_eq!((outcome.facts.error.as_deref(), rpc(&outcome).error_code), (Some("-32602"), Some(-32602)));
}

#[test]
fn sse_crlf() {
    let message = |value: Value| format!("event: message\r\ndata: {value}\r\n\r\n");
    let progress = message(json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progress": 1}}));
    let asks = message(json!({"jsonrpc": "2.0", "id": 1, "method": "elicitation/create", "params": {}}));
    let answer = message(json!({"jsonrpc": "2.0", "id": 7, "result": {"isError": true}}));
    let request = call(json!({"name": "f"})).to_string();
    let of =
        |response: String| checked(&Exchange { path: MCP, request: request.clone(), response, ..Exchange::default() });
    let open = of(progress.clone() + &asks);
    assert_eq!((open.finished, open.is_stream, open.facts.error.as_deref()), (false, true, None));
    let whole = of(progress + &asks + &answer);
    assert_eq!((whole.facts.error.as_deref(), carrying(&whole)), (Some("tool_error"), vec![false; 3]));
    assert_eq!((rpc(&whole).method.as_str(), rpc(&whole).tool.as_deref()), ("tools/call", Some("f")));
}

#[test]
fn mcp_initialize_tells_the_version_that_was_agreed() {
    let request = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {"protocolVersion": "2025-11-25", "capabilities": {},
        "clientInfo": {"name": "c", "version": "1"}}});
    let response =
        json!({"jsonrpc": "2.0", "id": 0, "result": {"protocolVersion": "2025-06-18", "serverInfo": {"name": "s"}}});
    let outcome = plain(MCP, request, response);
    assert_eq!(rpc(&outcome).protocol_version.as_deref(), Some("2025-06-18"));
    let other = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {"processId": 1, "rootUri": null}});
    assert_eq!(plain(MCP, other, json!({})).proof, Proof::Refuted, "a language server's");
}

#[test]
fn mcp_prompts_resources_and_notifications() {
    let of = |method: &str, params: Value| {
        let request = json!({"jsonrpc": "2.0", "id": "x", "method": method, "params": params});
        let outcome = plain(MCP, request, json!({"jsonrpc": "2.0", "id": "x", "result": {}}));
        (outcome.facts.operation, outcome.facts.rpc.unwrap())
    };
    let (operation, prompt) = of("prompts/get", json!({"name": "p", "arguments": {}}));
    assert_eq!((operation, prompt.prompt.as_deref(), prompt.tool), ("mcp", Some("p"), None));
    assert_eq!(of("resources/read", json!({"uri": "file:///a"})).1.resource.as_deref(), Some("file:///a"));
    let request = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
    let outcome = Exchange { path: MCP, request: request.to_string(), status: 202, ..Exchange::default() }.run();
    assert_eq!((rpc(&outcome).request_id.as_ref(), outcome.finished), (None, true));
}

#[test]
fn mcp_in_its_headers_when_the_body_is_lost() {
    let mut headers = Headers::default();
    for (name, value) in
        [("MCP-Protocol-Version", "2026-07-28"), ("Mcp-Method", "tools/list"), ("Mcp-Session-Id", "canary")]
    {
        headers.take(name, value.as_bytes());
    }
    let line = RequestLine { method: "POST", path: "/anything", host: None, headers: Some(&headers) };
    let mut session = Session::open(&line, &Options::default()).unwrap();
    session.request_gap();
    session.request_end();
    assert_eq!(session.proof(), Proof::Request);
    let facts = session.into_facts();
    assert!(!format!("{facts:?}").contains("canary"));
    let rpc = facts.rpc.unwrap();
    assert_eq!((rpc.method.as_str(), rpc.protocol_version.as_deref()), ("tools/list", Some("2026-07-28")));
}

#[test]
fn json_rpc_of_others_is_none() {
    for request in [
        json!({"jsonrpc": "2.0", "id": 1, "method": "eth_blockNumber", "params": []}),
        json!({"jsonrpc": "2.0", "id": 1, "method": "textDocument/hover", "params": {}}),
        json!({"id": 1, "method": "tools/call", "params": {}}),
        json!({"jsonrpc": "2.0", "id": 1, "result": {}}),
    ] {
        for path in [MCP, "/rpc", "/"] {
            let outcome = plain(path, request.clone(), json!({"jsonrpc": "2.0", "id": 1, "result": {"content": []}}));
            assert_eq!(outcome.proof, Proof::Refuted, "{path} {request}");
        }
    }
}

#[test]
fn tasks_are_whose_key_they_have() {
    let of = |method: &str, params: Value| {
        let request = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
        plain("/rpc", request, json!({"jsonrpc": "2.0", "id": 1, "result": {}})).facts.api
    };
    assert_eq!(of("tasks/get", json!({"taskId": "t"})), "mcp");
    assert_eq!(of("tasks/get", json!({"id": "t"})), "a2a");
    assert_eq!(of("message/send", json!({"message": {}})), "a2a");
    assert_eq!(of("GetTask", json!({"id": "t"})), "a2a");
}

#[test]
fn a2a_stream_ends_with_the_task() {
    let event = |result: Value| json!({"jsonrpc": "2.0", "id": "r", "result": result});
    let state = |state: &str| json!({"statusUpdate": {"taskId": "t", "status": {"state": state}}});
    let documents = [
        event(json!({"task": {"id": "t", "status": {"state": "TASK_STATE_SUBMITTED"}}})),
        event(state("TASK_STATE_WORKING")),
        event(json!({"artifactUpdate": {"taskId": "t", "artifact": {"artifactId": "a", "parts": [{"text": "hi"}]}}})),
        event(state("TASK_STATE_COMPLETED")),
    ];
    let request =
        json!({"jsonrpc": "2.0", "id": "r", "method": "SendStreamingMessage", "params": {"message": {"parts": []}}});
    let outcome = events("/", request.clone(), &documents, None);
    assert_eq!((outcome.facts.api, outcome.facts.operation), ("a2a", "invoke_agent"));
    assert_eq!(carrying(&outcome), [false, false, true, false]);
    assert_eq!((rpc(&outcome).task_state.as_deref(), outcome.finished), (Some("TASK_STATE_COMPLETED"), true));
    let failed = json!({"jsonrpc": "2.0", "id": "r", "error": {"code": -32001, "message": "Task not found"}});
    assert_eq!(events("/", request, &[failed], None).facts.error.as_deref(), Some("-32001"));
}

#[test]
fn a2a_of_version_0_3() {
    let task = json!({"kind": "task", "id": "t", "contextId": "c", "status": {"state": "completed"}, "artifacts": [{"artifactId": "a",
        "parts": [{"kind": "text", "text": "hi"}]}]});
    let request = json!({"jsonrpc": "2.0", "id": 1, "method": "message/send", "params": {"message": {"role": "user"}}});
    let outcome = plain("/a2a", request, json!({"jsonrpc": "2.0", "id": 1, "result": task}));
    assert_eq!((rpc(&outcome).task_state.as_deref(), outcome.finished), (Some("completed"), true));
}

#[test]
fn a2a_without_an_envelope() {
    let request = json!({"message": {"messageId": "m", "role": "ROLE_USER", "parts": [{"text": "hi"}]}});
    let response = json!({"message": {"messageId": "n", "role": "ROLE_AGENT", "parts": [{"text": "hello"}]}});
    let outcome = plain("/v1/message:send", request.clone(), response);
    assert_eq!((rpc(&outcome).method.as_str(), outcome.finished), ("SendMessage", true));
    let stream = [json!({"statusUpdate": {"status": {"state": "TASK_STATE_WORKING"}}})];
    let outcome = events("/v1/message:stream", request, &stream, None);
    assert_eq!(rpc(&outcome).task_state.as_deref(), Some("TASK_STATE_WORKING"));
    assert_eq!(plain("/message:send", json!({"text": "hi"}), json!({})).proof, Proof::Refuted);
}
