use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::privacy::canaries::canaries;

fn clipped(text: &str) -> Clipped {
    Clipped { text: text.to_owned(), ..Clipped::default() }
}

fn role(role: &str, parts: Vec<Part>) -> Message {
    Message { role: Some(role.into()), parts, ..Message::default() }
}

fn sample() -> Vec<Message> {
    let call = Part::ToolCall {
        id: Some("c1".into()),
        name: Some("weather".into()),
        arguments: clipped("{\"at\":\"Bonn\",\"n\":[1]}"),
    };
    let search = Part::ServerToolCall {
        id: Some("s1".into()),
        name: Some("web_search".into()),
        arguments: clipped("{\"query\":\"rain\"}"),
    };
    let found = Part::ServerToolResponse { id: Some("s1".into()), kind: "hits".into(), response: clipped("none") };
    vec![
        role("user", vec![Part::Text(clipped("a \"b\"\n\u{1} ü"))]),
        Message {
            finish_reason: Some("tool_call".into()),
            ..role("assistant", vec![Part::Reasoning(clipped("hm")), search, found, call])
        },
        Message { tool_call_id: Some("c1".into()), ..role("tool", vec![Part::Text(clipped("sunny"))]) },
        Message {
            name: Some("ann".into()),
            ..role(
                "user",
                vec![
                    Part::Blob { modality: "image", mime: Some("image/png".into()), size: Some(7) },
                    Part::Blob { modality: "audio", mime: None, size: None },
                    Part::Uri { modality: "image", uri: clipped("https://h/x.png?sig=secret#top") },
                    Part::File { modality: "document", id: "file-1".into() },
                    Part::ToolResult { id: Some("c1".into()), response: clipped("42") },
                    Part::Generic { kind: "odd".into() },
                ],
            )
        },
    ]
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn messages_have_the_conventions_form() {
    let (text, truncated) = render(&sample(), 10_000, Redactor::shared());
    let expect = json!([
        {"role": "user", "parts": [{"type": "text", "content": "a \"b\"\n\u{1} ü"}]},
        {"role": "assistant", "finish_reason": "tool_call", "parts": [
            {"type": "reasoning", "content": "hm"},
            {"type": "server_tool_call", "id": "s1", "name": "web_search",
                "server_tool_call": {"type": "web_search", "arguments": {"query": "rain"}}},
            {"type": "server_tool_call_response", "id": "s1",
                "server_tool_call_response": {"type": "hits", "response": "none"}},
            {"type": "tool_call", "id": "c1", "name": "weather", "arguments": {"at": "Bonn", "n": [1]}}]},
        {"role": "tool", "parts": [{"type": "tool_call_response", "id": "c1", "response": "sunny"}]},
        {"role": "user", "name": "ann", "parts": [
            {"type": "blob", "modality": "image", "content": "", "mime_type": "image/png", "size": 7},
            {"type": "blob", "modality": "audio", "content": ""},
            {"type": "uri", "modality": "image", "uri": "https://h/x.png"},
            {"type": "file", "modality": "document", "file_id": "file-1"},
            {"type": "tool_call_response", "id": "c1", "response": "42"},
            {"type": "odd"}]}
    ]);
    assert_eq!((parsed(&text), truncated), (expect, false));
    assert_eq!(render_recent(&sample(), 10_000, Redactor::shared()), (text, false));
}

#[test]
fn instructions_are_parts() {
    let parts = [role("", vec![Part::Text(clipped("be brief")), Part::Text(clipped("be kind"))])];
    let (text, truncated) = render_parts(&parts, 1_000, Redactor::shared());
    let expect = json!([{"type": "text", "content": "be brief"}, {"type": "text", "content": "be kind"}]);
    assert_eq!((parsed(&text), truncated), (expect, false));
}

fn tools() -> Vec<Definition> {
    let parameters = r#"{"type":"object","properties":{"password":{"type":"string"}},"required":["password"]}"#;
    vec![
        Definition {
            kind: Some("function".into()),
            name: Some("login".into()),
            description: clipped("as ann@example.org"),
            parameters: clipped(parameters),
        },
        Definition { name: Some("logout".into()), ..Definition::default() },
    ]
}

#[test]
fn tools_have_type_and_name_and_what_else_was_kept() {
    let (text, truncated) = render_tools(&tools(), 1_000, Redactor::shared());
    let expect = json!([
        {"type": "function", "name": "login", "description": "as [EMAIL]", "parameters": {"type": "object",
            "properties": {"password": {"type": "string"}}, "required": ["password"]}},
        {"type": "function", "name": "logout"}
    ]);
    assert_eq!((parsed(&text), truncated), (expect, false));
    // Details go before names do.
    let (text, truncated) = render_tools(&tools(), 100, Redactor::shared());
    let expect = json!([{"type": "function", "name": "login", "description": "as [EMAIL]"},
        {"type": "function", "name": "logout"}]);
    assert_eq!((parsed(&text), truncated), (expect, true));
}

#[test]
fn the_most_recent_messages_survive() {
    let messages: Vec<_> = (0..20).map(|n| role("user", vec![Part::Text(clipped(&format!("{n:0100}")))])).collect();
    let (text, truncated) = render_recent(&messages, 560, Redactor::shared());
    let kept = parsed(&text);
    let kept = kept.as_array().unwrap();
    assert!(truncated && text.len() <= 560 && kept.len() == 4, "{text}");
    assert_eq!(kept[3]["parts"][0]["content"], format!("{:0100}", 19));
    // The oldest of them is cut, and says so.
    assert_eq!(kept[0]["parts"][0]["truncated"], true);
    assert_eq!(kept[1]["parts"][0].get("truncated"), None);
}

#[test]
fn a_credential_behind_escapes_inside_arguments_goes() {
    for canary in canaries() {
        let hidden = format!("{{\"key\":\"\\u00{:02x}{}\"}}", canary.text.as_bytes()[0], &canary.text[1..]);
        let nested = json!({"body": hidden}).to_string();
        for arguments in [hidden.replace('\n', "\\n").replace('\r', "\\r"), nested] {
            let part = Part::ToolCall { id: None, name: None, arguments: clipped(&arguments) };
            let (text, _) = render(&[role("assistant", vec![part])], 10_000, Redactor::shared());
            assert_eq!(canary.leak(&text), None, "{text}");
            parsed(&text);
        }
    }
}

#[test]
fn values_of_secret_fields_go() {
    let arguments = r#"{"user":"ann","password":"hunter2","pin":1234,"n":1,"auth":{"clientSecret":"x y","id":7}}"#;
    let part = Part::ToolCall { id: None, name: None, arguments: clipped(arguments) };
    let (text, _) = render(&[role("assistant", vec![part])], 10_000, Redactor::shared());
    let expect = json!({"user": "ann", "password": "[REDACTED:field]", "pin": 1234, "n": 1,
        "auth": {"clientSecret": "[REDACTED:field]", "id": 7}});
    assert_eq!(parsed(&text)[0]["parts"][0]["arguments"], expect);
}

/// Every place that a secret can stand in.
fn with_secret(secret: &str) -> Vec<Message> {
    let arguments = json!({"deep": [{"key": secret}], secret: 1}).to_string();
    let word = || Some(secret.to_owned());
    vec![
        Message { name: word(), ..role("system", vec![Part::Text(clipped(&format!("key {secret}")))]) },
        Message {
            finish_reason: word(),
            ..role(
                "assistant",
                vec![
                    Part::Reasoning(clipped(&format!("it is {secret} then"))),
                    Part::ToolCall { id: word(), name: word(), arguments: clipped(&arguments) },
                    Part::ToolCall { id: None, name: None, arguments: clipped(&format!("not JSON: {secret}")) },
                    Part::ServerToolCall { id: word(), name: word(), arguments: clipped(&arguments) },
                    Part::ServerToolResponse { id: word(), kind: secret.to_owned(), response: clipped(&arguments) },
                ],
            )
        },
        Message { tool_call_id: word(), ..role("tool", vec![Part::Text(clipped(&arguments))]) },
        role(
            secret,
            vec![
                Part::ToolResult { id: word(), response: clipped(secret) },
                Part::Uri { modality: "image", uri: clipped(&format!("https://u:{secret}@h/{secret}?k={secret}")) },
                Part::File { modality: "document", id: secret.to_owned() },
                Part::Blob { modality: "image", mime: word(), size: None },
                Part::Generic { kind: secret.to_owned() },
            ],
        ),
    ]
}

#[test]
fn canaries_go_from_every_position_at_every_cap() {
    for (n, canary) in canaries().into_iter().enumerate() {
        let messages = with_secret(&canary.text);
        let tool = Definition {
            kind: Some(canary.text.clone()),
            name: Some(canary.text.clone()),
            description: clipped(&canary.text),
            parameters: clipped(&json!({"default": canary.text}).to_string()),
        };
        for cap in (2..4_000).step_by(if n == 6 { 1 } else { 211 }) {
            for (text, _) in [
                render(&messages, cap, Redactor::shared()),
                render_recent(&messages, cap, Redactor::shared()),
                render_parts(&messages, cap, Redactor::shared()),
                render_tools(std::slice::from_ref(&tool), cap, Redactor::shared()),
            ] {
                assert!(text.len() <= cap);
                parsed(&text);
                assert_eq!(canary.leak(&text), None, "{} at {cap}: {text}", canary.text);
            }
        }
    }
}

#[test]
fn a_text_cut_inside_a_secret_gives_no_part_of_it() {
    for canary in canaries() {
        let whole = format!("{} {}", "x".repeat(900), canary.text);
        for cut in (901..whole.len()).step_by(1 + canary.text.len() / 40) {
            let text = Clipped { text: whole[..cut].to_owned(), cut: true, ..Clipped::default() };
            let json =
                Clipped { text: format!("{{\"a\":1,\"k\":\"{}", &whole[..cut]), cut: true, ..Clipped::default() };
            let part = Part::ToolCall { id: None, name: None, arguments: json };
            let messages = [role("assistant", vec![Part::Text(text), part])];
            let (out, truncated) = render(&messages, 100_000, Redactor::shared());
            assert!(truncated);
            assert_eq!(canary.leak(&out), None, "{out}");
            assert_eq!(parsed(&out)[0]["parts"][0]["truncated"], true);
        }
    }
}

type Render = fn(&[Message], usize, &Redactor) -> (String, bool);

proptest! {
    #[test]
    fn any_cap_gives_valid_json_within_it(cap in 2usize..1_400) {
        let (whole, _) = render(&sample(), 10_000, Redactor::shared());
        for render in [render as Render, render_recent] {
            let (text, truncated) = render(&sample(), cap, Redactor::shared());
            prop_assert!(serde_json::from_str::<Value>(&text).is_ok(), "{}", text);
            prop_assert!(text.len() <= cap, "{} > {}", text.len(), cap);
            prop_assert_eq!(truncated, text != whole);
        }
    }

    #[test]
    fn any_arguments_give_valid_json(arguments in "[{}\\[\\]\",:\\\\u0-9a-e. \n-]{0,60}", cap in 2usize..200, cut: bool) {
        let part = Part::ToolCall { id: None, name: None, arguments: Clipped { text: arguments, cut, ..Clipped::default() } };
        let (text, _) = render(&[role("assistant", vec![part])], cap, Redactor::shared());
        prop_assert!(serde_json::from_str::<Value>(&text).is_ok(), "{}", text);
        prop_assert!(text.len() <= cap);
    }

    #[test]
    fn json_stays_json_and_clean_json_stays_as_it_is(text in "[a-zA-Z@ é\"\\\\\n]{0,30}", n in any::<i64>()) {
        let document = json!({"k": text, "l": [n, text, {"m": null}]}).to_string();
        let out = Redactor::shared().redact_json(&document, End::Whole);
        prop_assert!(serde_json::from_str::<Value>(&out).is_ok(), "{}", out);
        if Redactor::shared().redact(&text) == text && !text.contains('@') && n.abs() < 1_000_000 {
            prop_assert_eq!(out, document);
        }
    }
}
