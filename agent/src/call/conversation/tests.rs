//! Sequences of whole calls of one or more processes.

use serde_json::{Value, json};

use super::*;
use crate::{
    host::ProcessIdentity,
    llm::{Options, RequestLine, RpcFacts, Session},
    record::Source,
};

const EPOCH: Epoch = [3; 16];
const SECOND: u64 = 1_000_000_000;

/// Makes calls that follow each other, ten seconds apart and two long.
struct Bench {
    conversations: Conversations,
    n: u64,
    tools: Vec<FinishedCall>,
}

/// What a call is apart from its bodies.
struct With {
    pid: u32,
    side: Side,
    completion: Option<Completion>,
    /// The trace that it shares with its other end.
    linked: Option<SpanIds>,
    retry_count: Option<u32>,
    path: &'static str,
    /// When it starts, if not after the call before.
    start: Option<u64>,
}

impl Default for With {
    fn default() -> Self {
        Self {
            pid: 1,
            side: Side::Client,
            completion: Some(Completion::Done),
            linked: None,
            retry_count: None,
            path: "/v1/chat/completions",
            start: None,
        }
    }
}

impl Bench {
    fn new() -> Self {
        Self { conversations: Conversations::new(EPOCH), n: 0, tools: Vec::new() }
    }

    fn call(&mut self, request: &Value, response: &Value) -> FinishedCall {
        self.call_with(request, response, With::default())
    }

    fn call_with(&mut self, request: &Value, response: &Value, with: With) -> FinishedCall {
        let With { pid, side, completion, linked, retry_count, path, start } = with;
        self.n += 1;
        let line = RequestLine { method: "POST", path, host: None, headers: None };
        let mut session = Session::open(&line, &Options { secret: EPOCH, ..Options::default() }).expect("a route");
        session.request_body(request.to_string().as_bytes());
        session.request_end();
        session.response_body(response.to_string().as_bytes(), &mut |_| ());
        session.response_end(&mut |_| ());
        let mut facts = session.into_facts();
        facts.retry_count = retry_count;
        let mut call = blank(pid, side, start.unwrap_or(self.n * 10) * SECOND, self.n as u8);
        (call.completion, call.facts) = (completion, Some(facts));
        if let Some(SpanIds { trace, span, .. }) = linked {
            call.ids.trace = trace;
            call.ids.parent = (side == Side::Server).then_some(span);
        }
        let Self { conversations, tools, .. } = self;
        conversations.take(&mut call, linked.is_some(), &mut |tool| tools.push(tool));
        call
    }
}

fn blank(pid: u32, side: Side, start: u64, n: u8) -> FinishedCall {
    let ids = SpanIds { trace: [n; 16], span: [n; 8], parent: None };
    let process = ProcessIdentity { pid, start_boottime_ns: 5, ..ProcessIdentity::default() };
    let span = FinishedCall::within(ids, side, process, Source::Syscall, Mono(start), Mono(start + 2 * SECOND));
    FinishedCall { completion: Some(Completion::Done), ..span }
}

fn chat(messages: &[Value]) -> Value {
    json!({"model": "m", "messages": messages})
}

fn user(text: &str) -> Value {
    json!({"role": "user", "content": text})
}

fn assistant(text: &str) -> Value {
    json!({"role": "assistant", "content": text})
}

fn answer() -> Value {
    json!({"object": "chat.completion", "choices": [{"index": 0, "message": {"content": "x"}, "finish_reason": "stop"}]})
}

/// An answer that asks for tools, by id and name.
fn asking(tools: &[(&str, &str)]) -> Value {
    let calls: Vec<_> =
        tools.iter().map(|(id, name)| json!({"id": id, "function": {"name": name, "arguments": "{}"}})).collect();
    json!({"object": "chat.completion", "choices": [{"index": 0, "message": {"tool_calls": calls}, "finish_reason": "tool_calls"}]})
}

fn result(id: &str) -> Value {
    json!({"role": "tool", "tool_call_id": id, "content": "22"})
}

fn id(call: &FinishedCall) -> &str {
    call.place.conversation.as_deref().expect("a conversation")
}

#[test]
fn a_longer_history_is_the_next_turn() {
    let mut bench = Bench::new();
    let first = bench.call(&chat(&[user("hi")]), &answer());
    let second = bench.call(&chat(&[user("hi"), assistant("x"), user("more")]), &answer());
    let third = bench.call(&chat(&[user("hi"), assistant("x"), user("more"), assistant("x"), user("!")]), &answer());
    assert_eq!((id(&first), id(&second)), (id(&second), id(&third)));
    assert_eq!([&first, &second, &third].map(|call| call.place.turn), [Some(1), Some(2), Some(3)]);
    assert!(id(&first).len() == 32 && !second.place.regeneration && second.place.retry.is_none());
    let other = bench.call(&chat(&[user("ho")]), &answer());
    assert!(id(&other) != id(&first) && other.place.turn == Some(1));
}

#[test]
fn conversations_of_processes_and_of_runs_are_told_apart() {
    let mut bench = Bench::new();
    let request = chat(&[user("hi")]);
    let first = bench.call(&request, &answer());
    let other = bench.call_with(&request, &answer(), With { pid: 2, ..With::default() });
    assert_ne!(id(&first), id(&other));
    let next = bench.call_with(
        &chat(&[user("hi"), assistant("x"), user("more")]),
        &answer(),
        With { pid: 2, ..With::default() },
    );
    assert_eq!(id(&next), id(&other));
    assert_eq!(id(&Bench::new().call(&request, &answer())), id(&first), "a replay gives the same");
}

#[test]
fn a_system_prompt_that_changes_does_not_end_a_conversation_and_tells_two_apart() {
    let mut bench = Bench::new();
    let with =
        |system: &str, messages: &[Value]| chat(&[&[json!({"role": "system", "content": system})], messages].concat());
    let later = [user("hi"), assistant("x"), user("more")];
    let first = bench.call(&with("noon", &[user("hi")]), &answer());
    let second = bench.call(&with("one", &later), &answer());
    assert_eq!((id(&first), second.place.turn), (id(&second), Some(2)));

    let mut bench = Bench::new();
    let a = bench.call(&with("translate", &[user("hi")]), &answer());
    let b = bench.call(&with("classify", &[user("hi")]), &answer());
    assert!(id(&a) != id(&b) && !b.place.regeneration);
    let a2 = bench.call(&with("translate", &later), &answer());
    let b2 = bench.call(&with("classify", &later), &answer());
    assert_eq!((id(&a2), id(&b2)), (id(&a), id(&b)));
}

#[test]
fn the_two_ends_of_a_call_are_in_one_conversation() {
    let mut bench = Bench::new();
    let request = chat(&[user("hi")]);
    let ids = SpanIds { trace: [99; 16], span: [98; 8], parent: None };
    let server =
        bench.call_with(&request, &answer(), With { pid: 2, side: Side::Server, linked: Some(ids), ..With::default() });
    let client = bench.call_with(&request, &answer(), With { linked: Some(ids), ..With::default() });
    assert_eq!(id(&server), id(&client));
    let unrelated = bench.call_with(&request, &answer(), With { pid: 3, ..With::default() });
    assert_ne!(id(&server), id(&unrelated));
}

#[test]
fn the_same_request_after_a_failure_is_a_retry() {
    let mut bench = Bench::new();
    let request = chat(&[user("hi")]);
    let failing = || With { completion: Some(Completion::Error), ..With::default() };
    let first = bench.call_with(&request, &json!({"error": {"message": "m"}}), failing());
    let second = bench.call_with(&request, &json!({}), With { completion: Some(Completion::Idle), ..With::default() });
    let third = bench.call(&request, &answer());
    assert_eq!(first.place.retry, None);
    let first = Some(first.ids.span);
    assert_eq!(second.place.retry, Some(Retry { count: 1, first }));
    assert_eq!((third.place.retry, third.place.regeneration), (Some(Retry { count: 2, first }), false));
    assert_eq!((second.place.turn, third.place.turn), (Some(1), Some(1)));
    assert_eq!(bench.call(&request, &answer()).place.retry, None, "after an answer it is none");
    let other = chat(&[user("ho")]);
    bench.call_with(&request, &json!({}), failing());
    assert_eq!(bench.call(&other, &answer()).place.retry, None);
}

#[test]
fn a_retry_is_counted_as_the_client_says_when_the_first_try_was_not_seen() {
    let mut bench = Bench::new();
    let call = bench.call_with(&chat(&[user("hi")]), &answer(), With { retry_count: Some(2), ..With::default() });
    assert_eq!(call.place.retry, Some(Retry { count: 2, first: None }));
    let call = bench.call_with(&chat(&[user("ho")]), &answer(), With { retry_count: Some(0), ..With::default() });
    assert_eq!(call.place.retry, None);
}

#[test]
fn embeddings_are_retried_and_are_no_conversation() {
    let mut bench = Bench::new();
    let request = json!({"model": "m", "input": ["a", "b"]});
    let path = "/v1/embeddings";
    let failed = With { path, completion: Some(Completion::ServerClosed), ..With::default() };
    bench.call_with(&request, &json!({}), failed);
    let call = bench.call_with(&request, &json!({"data": [{"embedding": []}]}), With { path, ..With::default() });
    assert_eq!(call.place.retry.map(|retry| retry.count), Some(1));
    assert_eq!((&call.place.conversation, call.place.turn), (&None, None));
}

#[test]
fn the_same_history_after_an_answer_is_a_regeneration() {
    let mut bench = Bench::new();
    let first = bench.call(&chat(&[user("hi")]), &answer());
    let mut hotter = chat(&[user("hi")]);
    hotter["temperature"] = json!(2);
    let again = bench.call(&hotter, &answer());
    assert_eq!((again.place.regeneration, id(&again), again.place.turn), (true, id(&first), Some(1)));
    let parallel = bench.call_with(&hotter, &answer(), With { start: Some(21), ..With::default() });
    assert!(!parallel.place.regeneration, "it began before the other was over");
}

#[test]
fn a_provider_s_own_names_link_calls() {
    let mut bench = Bench::new();
    let path = "/v1/responses";
    let answer = |id: &str| json!({"object": "response", "id": id, "status": "completed", "output": []});
    let with = || With { path, ..With::default() };
    let first = bench.call_with(&json!({"model": "m", "input": "hi"}), &answer("r1"), with());
    let next = json!({"model": "m", "input": "yes", "previous_response_id": "r1"});
    let second = bench.call_with(&next, &answer("r2"), with());
    let third = json!({"model": "m", "input": "yes", "previous_response_id": "r2"});
    let third = bench.call_with(&third, &answer("r3"), with());
    assert_eq!((id(&first), id(&second)), (id(&second), id(&third)));
    assert_eq!((second.place.turn, third.place.turn, third.place.regeneration), (Some(2), Some(3), false));
    let again = bench.call_with(&next, &answer("r4"), with());
    assert_eq!((again.place.turn, again.place.regeneration), (Some(2), true));

    let named = json!({"model": "m", "input": "yes", "conversation": "conv_1"});
    let first = bench.call_with(&named, &answer("r5"), with());
    let second = bench.call_with(&named, &answer("r6"), with());
    assert_eq!((id(&first), id(&second)), ("conv_1", "conv_1"));
    assert_eq!((second.place.turn, second.place.regeneration), (Some(2), false), "the same word is said twice");
}

#[test]
fn a_tool_runs_from_the_call_that_asked_to_the_request_that_answers() {
    let mut bench = Bench::new();
    let asked = bench.call(&chat(&[user("hi")]), &asking(&[("c1", "f"), ("c2", "g")]));
    let call = json!({"role": "assistant", "tool_calls": [{"id": "c1"}, {"id": "c2"}]});
    let answers = chat(&[user("hi"), call.clone(), result("c2"), result("c1")]);
    let next = bench.call(&answers, &answer());
    let of = |tool: &FinishedCall| {
        let run = tool.tool.as_ref().unwrap();
        (run.name.clone().unwrap(), run.call_id.clone().unwrap())
    };
    let runs: Vec<_> = bench.tools.iter().map(of).collect();
    assert_eq!(runs, [("g".to_owned(), "c2".to_owned()), ("f".to_owned(), "c1".to_owned())]);
    for tool in &bench.tools {
        assert_eq!((tool.timing.start, tool.timing.end), (asked.timing.end, next.timing.start));
        assert_eq!((tool.ids.trace, tool.ids.parent), (asked.ids.trace, Some(asked.ids.span)));
        assert_eq!(tool.place.conversation, asked.place.conversation);
        assert_eq!((tool.completion, tool.facts.is_some()), (None, false));
    }
    assert_ne!(bench.tools[0].ids.span, bench.tools[1].ids.span);
    bench.call(&chat(&[user("hi"), call, result("c2"), result("c1"), assistant("x"), user("more")]), &answer());
    bench.conversations.finish(&mut |tool| bench.tools.push(tool));
    assert_eq!((bench.tools.len(), bench.conversations.counts().tools), (2, 2), "no result counts twice");
}

#[test]
fn results_without_ids_are_matched_by_name_and_then_by_order() {
    let mut bench = Bench::new();
    bench.call(&chat(&[user("hi")]), &asking(&[("c1", "f"), ("c2", "g"), ("c3", "f")]));
    let named = |name: &str| json!({"role": "tool", "tool_name": name, "content": "1"});
    let anyhow = json!({"role": "tool", "content": "1"});
    let call = json!({"role": "assistant", "content": "calling"});
    bench.call(&chat(&[user("hi"), call, named("g"), named("unknown"), anyhow, result("c9")]), &answer());
    let names: Vec<_> = bench.tools.iter().filter_map(|tool| tool.tool.as_ref()?.call_id.clone()).collect();
    assert_eq!(names, ["c2", "c1"]);
}

#[test]
fn the_server_leaves_the_tool_to_the_client_that_was_seen() {
    let later = chat(&[user("hi"), json!({"role": "assistant", "tool_calls": [{"id": "c1"}]}), result("c1")]);
    for linked in [None, Some(SpanIds { trace: [99; 16], span: [98; 8], parent: None })] {
        let mut bench = Bench::new();
        let server = || With { side: Side::Server, linked, ..With::default() };
        bench.call_with(&chat(&[user("hi")]), &asking(&[("c1", "f")]), server());
        bench.call_with(&later, &answer(), server());
        assert_eq!(bench.tools.len(), usize::from(linked.is_none()));
    }
}

#[test]
fn a_call_of_the_same_tool_in_between_is_its_child() {
    let mut bench = Bench::new();
    let asked = bench.call(&chat(&[user("hi")]), &asking(&[("c1", "mcp__files__read"), ("c2", "read")]));
    let place = |bench: &mut Bench, mut call: FinishedCall, name: &str| {
        bench.conversations.place_tool_call(&mut call, Some(name), None);
        call
    };
    let own = |n: u8| blank(1, Side::Client, 13 * SECOND, n);
    let (first, second) = (place(&mut bench, own(50), "read"), place(&mut bench, own(51), "read"));
    assert_eq!((first.ids.trace, second.ids.trace), (asked.ids.trace, asked.ids.trace));
    assert_ne!(first.ids.parent, second.ids.parent, "two tools, two calls");
    let mut server = blank(7, Side::Server, 13 * SECOND, 52);
    server.ids.parent = Some([50; 8]);
    let server = place(&mut bench, server, "read");
    assert_eq!((server.ids.trace, server.ids.parent), (asked.ids.trace, Some([50; 8])));
    for (call, name) in [
        (own(60), "write"),
        (own(61), "ead"),
        (blank(2, Side::Client, 13 * SECOND, 62), "read"),
        (blank(1, Side::Client, SECOND, 63), "read"),
    ] {
        let ids = call.ids;
        assert_eq!(place(&mut bench, call, name).ids, ids, "{name}");
    }
    bench.conversations.finish(&mut |tool| bench.tools.push(tool));
    let told: Vec<_> = bench.tools.iter().map(|tool| Some(tool.ids.span)).collect();
    assert_eq!(told, [first.ids.parent, second.ids.parent], "a parent is told though no result came");
    assert_eq!(bench.tools[0].timing.end, first.timing.end);
}

#[test]
fn a_trace_context_in_the_message_is_the_parent() {
    let mut bench = Bench::new();
    bench.call(&chat(&[user("hi")]), &asking(&[("c1", "read")]));
    let context = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let mut call = blank(1, Side::Client, 13 * SECOND, 50);
    bench.conversations.place_tool_call(&mut call, Some("read"), Some(context));
    assert_eq!((call.ids.trace[0], call.ids.parent), (0x0a, Some([0xb7, 0xad, 0x6b, 0x71, 0x69, 0x20, 0x33, 0x31])));
    for invalid in [
        "",
        "00-0af7651916cd43dd8448eb211c80319c",
        "00-00000000000000000000000000000000-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
        "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319+-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319é-b7ad6b7169203331-01",
    ] {
        let mut call = blank(1, Side::Client, SECOND, 51);
        let ids = call.ids;
        bench.conversations.place_tool_call(&mut call, None, Some(invalid));
        assert_eq!(call.ids, ids, "{invalid}");
    }
}

#[test]
fn tables_are_bounded_and_say_what_they_forgot() {
    let mut bench = Bench::new();
    let mut call = bench.call(&chat(&[user("hi")]), &asking(&[("c1", "f")]));
    for n in 0..20_000u64 {
        call.ids.span = n.to_le_bytes();
        call.timing.start = Mono(n);
        let facts = call.facts.as_mut().unwrap();
        facts.history.as_mut().unwrap().prefixes = vec![n];
        bench.conversations.take(&mut call, false, &mut |_| ());
    }
    let Counts { turns_evicted, tools, tools_evicted } = bench.conversations.counts();
    assert_eq!((turns_evicted, tools), (20_001 - MAX_TURNS as u64, 0));
    assert!(tools_evicted > 15_000);
}

#[test]
fn a_call_of_mcp_s_is_placed_by_its_facts() {
    let mut bench = Bench::new();
    let asked = bench.call(&chat(&[user("hi")]), &asking(&[("c1", "read")]));
    let rpc = RpcFacts { method: "tools/call".to_owned(), tool: Some("read".to_owned()), ..RpcFacts::default() };
    let mut call = blank(1, Side::Client, 13 * SECOND, 50);
    call.facts = Some(Facts { api: "mcp", operation: "execute_tool", rpc: Some(rpc), ..Facts::default() });
    bench.conversations.take(&mut call, false, &mut |_| ());
    let answers = chat(&[user("hi"), json!({"role": "assistant", "tool_calls": [{"id": "c1"}]}), result("c1")]);
    bench.call(&answers, &answer());
    assert_eq!(call.ids.trace, asked.ids.trace);
    assert_eq!(bench.tools.iter().map(|tool| Some(tool.ids.span)).collect::<Vec<_>>(), [call.ids.parent]);
    assert_eq!(call.place, Place::default());
}
