use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::protocol::json::Scanner;

const SECRET: Secret = [7; 16];

/// The history of a request, read with a cap so small that most texts come in pieces, in pushes of `size` bytes.
fn read_in(request: &Value, size: usize) -> History {
    let mut reader = HistoryReader::new(&SECRET);
    let mut scanner = Scanner::new(12).with_pieces();
    for bytes in request.to_string().as_bytes().chunks(size) {
        scanner.push(bytes, &mut |path, token| reader.take(path, token));
    }
    reader.end()
}

fn read(request: Value) -> History {
    read_in(&request, usize::MAX)
}

/// Whether `later` says everything that `earlier` said, and more.
fn extends(earlier: &Value, later: &Value) -> bool {
    let (earlier, later) = (read(earlier.clone()), read(later.clone()));
    later.messages > earlier.messages && later.prefix(earlier.messages) == earlier.whole()
}

fn user(text: &str) -> Value {
    json!({"role": "user", "content": text})
}

fn assistant(text: &str) -> Value {
    json!({"role": "assistant", "content": text})
}

#[test]
fn a_longer_history_has_the_shorter_one_as_prefix_in_every_api() {
    let chat = |messages: &[Value]| json!({"model": "m", "messages": messages});
    let (first, answer, second) = (user("hello there, you"), assistant("hello"), user("and now?"));
    assert!(extends(&chat(std::slice::from_ref(&first)), &chat(&[first.clone(), answer.clone(), second.clone()])));
    assert!(!extends(
        &chat(std::slice::from_ref(&first)),
        &chat(&[user("another one"), answer.clone(), second.clone()])
    ));
    assert!(
        !extends(&chat(std::slice::from_ref(&first)), &chat(&[assistant("hello there, you"), answer.clone()])),
        "another role"
    );

    let responses = |input: Value| json!({"model": "m", "input": input});
    assert!(extends(&responses(json!("hi there")), &responses(json!([user("hi there"), answer, second]))));

    let gemini = |turns: &[(&str, &str)]| {
        let turns: Vec<_> = turns.iter().map(|(role, text)| json!({"role": role, "parts": [{"text": text}]})).collect();
        json!({"contents": turns})
    };
    assert!(extends(&gemini(&[("user", "hi")]), &gemini(&[("user", "hi"), ("model", "hello"), ("user", "more")])));

    let cohere = |history: Value, message: &str| json!({"message": message, "chat_history": history});
    let said = json!([{"role": "USER", "message": "hi"}, {"role": "CHATBOT", "message": "hello"}]);
    assert!(extends(&cohere(json!([]), "hi"), &cohere(said, "more")));

    let converse = |texts: &[&str]| {
        let turns: Vec<_> = texts.iter().map(|text| json!({"role": "user", "content": [{"text": text}]})).collect();
        json!({"messages": turns})
    };
    assert!(extends(&converse(&["hi"]), &converse(&["hi", "more"])));
}

#[test]
fn what_clients_change_between_two_requests_is_no_part_of_it() {
    let plain = json!({"messages": [user("hi there")]});
    let part = json!({"type": "text", "text": "hi there", "cache_control": {"type": "ephemeral", "ttl": "1h"}});
    let marked = json!({"messages": [{"role": "user", "content": [part]}]});
    assert_eq!(read(plain.clone()).whole(), read(marked).whole());

    let call = json!({"type": "tool_use", "id": "t1", "name": "f", "input": {"a": 1}});
    let thought = json!({"type": "thinking", "thinking": "hm, let me see", "signature": "abc"});
    let with = |parts: Value| json!({"messages": [user("hi"), {"role": "assistant", "content": parts}]});
    assert_eq!(read(with(json!([thought, call]))).whole(), read(with(json!([call]))).whole());

    let reasoning = json!({"type": "reasoning", "id": "rs_1", "summary": [{"text": "hm"}], "encrypted_content": "x"});
    let items = json!({"input": [user("hi"), reasoning, {"type": "function_call", "call_id": "c", "name": "f"}]});
    let fewer = json!({"input": [user("hi"), {"type": "function_call", "call_id": "c", "name": "f"}]});
    assert_eq!(read(items).whole(), read(fewer).whole());

    let reordered =
        json!({"messages": [serde_json::from_str::<Value>(r#"{"content":"hi there","role":"user"}"#).unwrap()]});
    assert_eq!(read(plain).whole(), read(reordered).whole());
}

#[test]
fn system_prompts_are_hashed_apart() {
    let of = |system: &str| {
        let system = json!({"role": "system", "content": system});
        read(json!({"messages": [system, user("hi")]}))
    };
    let (a, b) = (of("it is noon"), of("it is one o'clock"));
    assert_eq!((a.whole(), a.messages), (b.whole(), 1));
    assert!(a.frame != b.frame && a.body != b.body);
    let beside = |system: &str| read(json!({"system": [{"text": system}], "messages": [user("hi")]}));
    assert_eq!(beside("a").whole(), beside("b").whole());
    assert_ne!(beside("a").frame, beside("b").frame);
}

#[test]
fn the_body_is_everything_in_the_request() {
    let base = json!({"model": "m", "temperature": 1, "messages": [user("hi")]});
    for (key, value) in [("temperature", json!(2)), ("model", json!("n")), ("seed", json!(1)), ("stream", json!(true))]
    {
        let mut other = base.clone();
        other[key] = value;
        let (a, b) = (read(base.clone()), read(other));
        assert!(a.body != b.body && a.whole() == b.whole(), "{key}");
    }
    assert_eq!(read(base.clone()), read(base));
}

#[test]
fn results_of_tools_in_every_api() {
    let check = |request: Value, expect: &[(Option<&str>, Option<&str>)]| {
        let hash = |text: &str| keyed(&SECRET, text.as_bytes());
        let found: Vec<_> = read(request.clone()).results.iter().map(|result| (result.id, result.name)).collect();
        let expect: Vec<_> = expect.iter().map(|(id, name)| (id.map(hash), name.map(hash))).collect();
        assert_eq!(found, expect, "{request}");
    };
    check(json!({"messages": [{"role": "tool", "tool_call_id": "c1", "content": "22"}]}), &[(Some("c1"), None)]);
    let blocks = json!([{"type": "tool_result", "tool_use_id": "a", "content": "1"}, {"type": "tool_result", "tool_use_id": "b"}]);
    check(json!({"messages": [{"role": "user", "content": blocks}]}), &[(Some("a"), None), (Some("b"), None)]);
    check(json!({"input": [{"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"}]}), &[]);
    check(json!({"input": [{"type": "function_call_output", "call_id": "c1", "output": "22"}]}), &[(Some("c1"), None)]);
    let parts = json!([{"functionResponse": {"name": "f", "response": {"id": "no", "name": "no"}}}, {"functionResponse": {"id": "x", "name": "g"}}]);
    check(json!({"contents": [{"role": "user", "parts": parts}]}), &[(None, Some("f")), (Some("x"), Some("g"))]);
    let content =
        json!([{"toolUse": {"toolUseId": "no", "name": "f"}}, {"toolResult": {"toolUseId": "t", "content": []}}]);
    check(json!({"messages": [{"role": "user", "content": content}]}), &[(Some("t"), None)]);
    check(json!({"messages": [{"role": "tool", "tool_name": "f", "content": "22"}]}), &[(None, Some("f"))]);
    check(json!({"messages": [{"role": "tool", "content": "22"}]}), &[(None, None)]);
    check(json!({"tool_results": [{"call": {"name": "f"}, "outputs": []}]}), &[(None, Some("f"))]);
    let own = json!([{"type": "web_search_tool_result", "tool_use_id": "srv_1", "content": []}]);
    check(json!({"messages": [{"role": "assistant", "content": own}]}), &[]);
}

#[test]
fn another_secret_gives_other_hashes() {
    let mut reader = HistoryReader::new(&[8; 16]);
    let request = json!({"system": "s", "messages": [user("hi")]});
    Scanner::new(99).push(request.to_string().as_bytes(), &mut |path, token| reader.take(path, token));
    let (own, other) = (read(request), reader.end());
    assert!(own.whole() != other.whole() && own.frame != other.frame && own.body != other.body);
}

#[test]
fn a_hostile_number_of_messages_and_results_is_bounded() {
    let results: Vec<_> =
        (0..10_000).map(|i| json!({"role": "tool", "tool_call_id": i.to_string(), "content": "x"})).collect();
    let history = read(json!({"messages": results}));
    assert_eq!((history.messages, history.prefixes.len(), history.results.len()), (10_000, MAX_PREFIXES, MAX_RESULTS));
    assert_eq!(history.results.last().map(|result| result.message), Some(10_000));
    assert_eq!(history.prefix(10_000), history.whole());
    assert_eq!((history.prefix(10_000 - MAX_PREFIXES as u32), history.prefix(10_001)), (None, None));
}

proptest! {
    #[test]
    fn any_chunking_gives_the_same(texts in prop::collection::vec("\\PC{0,30}", 0..6), size in 1usize..40) {
        let messages: Vec<_> = texts.iter().map(|text| user(text)).collect();
        let request = json!({"messages": messages, "system": texts});
        prop_assert_eq!(read_in(&request, size), read(request.clone()));
        prop_assert_eq!(read_in(&request, 1), read(request));
    }
}
