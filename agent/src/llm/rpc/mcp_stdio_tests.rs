use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn line(message: Value) -> String {
    format!("{message}\n")
}

fn request(id: u64, method: &str) -> String {
    line(json!({"method": method, "params": {"name": "f"}, "jsonrpc": "2.0", "id": id}))
}

/// What was said, in words.
fn heard(speech: &mut Speech, pieces: &[&[u8]]) -> Vec<String> {
    let mut out = Vec::new();
    for piece in pieces {
        speech.push(piece, &mut |said| match said {
            Said::Begin => {}
            Said::Request(id, facts) => {
                out.push(format!("{id} {} {}", facts.method, facts.tool.unwrap_or_default()).trim_end().to_owned());
            }
            Said::Notification(facts) => out.push(facts.method),
            Said::Answer(id, _) => out.push(format!("answer {id}")),
            Said::Stray => out.push("stray".to_owned()),
            Said::Foreign => out.push("foreign".to_owned()),
        });
    }
    out
}

fn check(text: &str, expect: &[&str]) {
    assert_eq!(heard(&mut Speech::default(), &[text.as_bytes()]), expect);
    let bytes: Vec<&[u8]> = text.as_bytes().chunks(1).collect();
    assert_eq!(heard(&mut Speech::default(), &bytes), expect, "byte by byte");
}

#[test]
fn requests_answers_and_notifications_one_a_line() {
    let answer = line(json!({"jsonrpc": "2.0", "id": "a", "result": {}}));
    let initialized = line(json!({"jsonrpc": "2.0", "method": "notifications/initialized"}));
    check(
        &(request(0, "tools/call") + &initialized + &answer + &request(1, "prompts/list")),
        &["0 tools/call f", "notifications/initialized", "answer a", "1 prompts/list"],
    );
}

#[test]
fn stray_output_on_stdout_costs_nothing_else() {
    check(
        &format!("Server is starting\n{{\"level\":\"info\"}}\n{}", request(3, "tools/list")),
        &["stray", "3 tools/list"],
    );
}

#[test]
fn a_batch_is_as_many_messages() {
    let batch = json!([
        {"jsonrpc": "2.0", "id": 1, "method": "tools/list"},
        {"jsonrpc": "2.0", "id": 2, "method": "resources/list"},
        {"jsonrpc": "2.0", "id": 3, "result": {}},
    ]);
    check(&line(batch), &["1 tools/list", "2 resources/list", "answer 3"]);
}

#[test]
fn progress_and_log_messages_are_no_calls() {
    let of = |method: &str| line(json!({"jsonrpc": "2.0", "method": method, "params": {}}));
    check(
        &(of("notifications/progress") + &of("notifications/message") + &of("notifications/cancelled")),
        &["notifications/cancelled"],
    );
}

#[test]
fn a_ping_is_the_protocol_s_where_something_else_was() {
    let ping = request(1, "ping");
    check(&ping, &[]);
    check(&(request(0, "tools/list") + &ping), &["0 tools/list", "1 ping"]);
}

#[test]
fn json_rpc_of_others_is_given_up() {
    let other = line(json!({"jsonrpc": "2.0", "id": 1, "method": "eth_call", "params": []}));
    let mut speech = Speech::default();
    let said = heard(&mut speech, &[other.repeat(MAX_FOREIGN as usize).as_bytes()]);
    assert_eq!(said, ["foreign"], "once");
    assert!(heard(&mut speech, &[request(1, "tools/list").as_bytes()]).is_empty(), "for good");
    assert!(heard(&mut Speech::default(), &[other.repeat(MAX_FOREIGN as usize - 1).as_bytes()]).is_empty());
}

#[test]
fn a_giant_line_is_read_and_an_endless_one_is_given_up() {
    let text = "x".repeat(1 << 20);
    let giant = line(
        json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"arguments": {"t": text}, "name": "f"}}),
    );
    check(&giant, &["1 tools/call f"]);
    let mut speech = Speech::default();
    let pieces = vec![text.as_bytes(); 5];
    assert_eq!(heard(&mut speech, &pieces), ["foreign"]);
}

#[test]
fn what_is_missing_costs_its_line() {
    let mut speech = Speech::default();
    let text = request(1, "tools/list");
    assert!(heard(&mut speech, &[&text.as_bytes()[..20]]).is_empty());
    speech.gap();
    let rest = format!("rest of another\n{}", request(2, "tools/list"));
    assert_eq!(heard(&mut speech, &[rest.as_bytes()]), ["2 tools/list"]);
}

#[test]
fn an_error_names_its_code_and_a_key_in_a_name_is_redacted() {
    let answer = |message: Value| {
        let mut found = None;
        Speech::default().push(line(message).as_bytes(), &mut |said| {
            if let Said::Answer(_, answer) = said {
                found = Some(answer);
            }
        });
        found.unwrap()
    };
    let key = "sk-proj-abcdefghijklmnopqrstuvwxyz0123456789ABCD";
    let asked = RpcFacts { method: "tools/call".into(), tool: Some(key.to_owned()), ..RpcFacts::default() };
    let failed = answer(json!({"jsonrpc": "2.0", "id": 1, "error": {"code": -32602, "message": key}}));
    let facts = failed.facts(asked.clone(), Redactor::shared());
    assert_eq!((facts.operation, facts.error.as_deref()), ("execute_tool", Some("-32602")));
    assert_eq!(facts.rpc.as_ref().unwrap().error_code, Some(-32602));
    assert!(!format!("{facts:?}").contains(key));
    let tool = answer(json!({"jsonrpc": "2.0", "id": 1, "result": {"content": [], "isError": true}}));
    assert_eq!(tool.facts(asked.clone(), Redactor::shared()).error.as_deref(), Some("tool_error"));
    let good = answer(json!({"jsonrpc": "2.0", "id": 1, "result": {"protocolVersion": "2025-06-18"}}));
    let facts = good.facts(RpcFacts { protocol_version: Some("2026-01-01".into()), ..asked }, Redactor::shared());
    assert_eq!((facts.error, facts.rpc.unwrap().protocol_version.as_deref()), (None, Some("2025-06-18")));
}

proptest! {
    #[test]
    fn the_cut_does_not_matter(
        lines in prop::collection::vec(0usize..6, 0..12),
        at in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
    ) {
        let kinds = [
            request(1, "tools/call"),
            line(json!({"jsonrpc": "2.0", "id": 1, "result": {"a": [1, {"id": 5}]}})),
            "stray\n".to_owned(),
            "{\"half\":\n".to_owned(),
            line(json!([{"jsonrpc": "2.0", "id": 2, "method": "tools/list"}, 5, "x"])),
            "\r\n".to_owned(),
        ];
        let text: String = lines.iter().map(|&kind| kinds[kind].as_str()).collect();
        let mut cuts: Vec<usize> = at.iter().map(|at| at.index(text.len() + 1)).collect();
        cuts.extend([0, text.len()]);
        cuts.sort_unstable();
        let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &text.as_bytes()[pair[0]..pair[1]]).collect();
        let whole = heard(&mut Speech::default(), &[text.as_bytes()]);
        prop_assert_eq!(whole, heard(&mut Speech::default(), &pieces));
    }
}
