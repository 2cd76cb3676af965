use super::{Pretty, duration, fit, time_of_day};
use crate::{
    call::{Capture, Completion, FinishedCall, Side},
    export::{
        span::Span,
        testing::{ANCHOR, chat},
    },
    llm::Content,
};

fn lines(pretty: Pretty, change: impl FnOnce(&mut FinishedCall)) -> String {
    let mut call = chat();
    call.notes.clear();
    change(&mut call);
    pretty.call(&call, &Span::from_call(&call, ANCHOR))
}

#[test]
fn a_call_is_one_line_under_its_titles() {
    let text = Pretty::default().header() + &lines(Pretty::default(), |_| ());
    let expect = "\
START (UTC)    PROCESS                CALL                             STATUS               TTFT    TPOT CHUNKS     IN    OUT    TIME
22:13:20.123 → python3[4242]          chat gpt-4o                      200 done            250ms  20.0ms      3    120     11   460ms
";
    assert_eq!(text, expect);
}

#[test]
fn what_was_not_seen_is_not_zero() {
    let text = lines(Pretty::default(), |call| {
        call.side = Side::Server;
        call.streamed = false;
        call.http.status = None;
        call.completion = None;
        call.process.comm = None;
        call.facts.as_mut().unwrap().usage = Default::default();
    });
    let cells: Vec<_> = text.split_whitespace().collect();
    assert_eq!(
        cells,
        ["22:13:20.123", "←", "python3.12[4242]", "chat", "gpt-4o", "-", "-", "-", "-", "-", "-", "460ms"]
    );
}

#[test]
fn errors_tools_and_notes_are_below() {
    let mut call = chat();
    call.completion = Some(Completion::ClientClosed);
    call.capture = Capture::Gap;
    call.facts.as_mut().unwrap().response.tool_calls = vec!["search".to_owned(), "a\x1b[2Jb".to_owned()];
    let text = Pretty::default().call(&call, &Span::from_call(&call, ANCHOR));
    let below: Vec<_> = text.lines().skip(1).map(str::trim_start).collect();
    assert_eq!(below, ["error cancelled", r"tools search, a\u{1b}[2Jb", "capture gap", "note gap response 17 bytes"]);
}

#[test]
fn colour_only_when_asked_for() {
    let failed = |call: &mut FinishedCall| call.completion = Some(Completion::ServerClosed);
    assert!(!lines(Pretty::default(), failed).contains('\x1b'));
    let coloured = lines(Pretty { colour: true, content: false }, failed);
    assert!(coloured.starts_with("\x1b[31m") && coloured.lines().all(|line| line.ends_with("\x1b[0m")));
}

#[test]
fn messages_only_with_content_and_never_raw() {
    let with_content = |call: &mut FinishedCall| {
        call.facts.as_mut().unwrap().content = Some(Content {
            input_messages: Some(
                r#"[{"role":"user","parts":[{"type":"text","content":"hi\nthere\u001b]0;x\u0007"}]}]"#.to_owned(),
            ),
            output_messages: Some(
                r#"[{"role":"assistant","parts":[{"type":"tool_call","name":"f"}],"finish_reason":"stop"}]"#.to_owned(),
            ),
            ..Content::default()
        });
    };
    assert_eq!(lines(Pretty::default(), with_content).lines().count(), 1);
    let text = lines(Pretty { colour: false, content: true }, with_content);
    let below: Vec<_> = text.lines().skip(1).map(str::trim_start).collect();
    assert_eq!(
        below,
        ["> user: hi", r"there\u{1b}]0;x\u{7}", r#"< assistant: (tool_call) {"name":"f","type":"tool_call"}"#]
    );
}

#[test]
fn plain_http_shows_its_path() {
    let text = lines(Pretty::default(), |call| call.facts = None);
    assert!(text.contains(" POST /v1/chat/completions "), "{text}");
}

#[test]
fn long_names_are_cut_and_the_pid_stays() {
    let text = lines(Pretty::default(), |call| {
        call.process.comm = Some("c".repeat(40));
        call.facts.as_mut().unwrap().request.model = Some("m".repeat(256));
    });
    assert!(text.contains("ccc…[4242] chat mmm"), "{text}");
    assert_eq!(text.lines().next().unwrap().chars().count(), 133);
}

#[test]
fn durations_times_and_cuts() {
    let cases = [(0.0, "0us"), (0.0005, "500us"), (0.0123, "12.3ms"), (0.25, "250ms"), (1.5, "1.50s"), (250.0, "250s")];
    for (seconds, expect) in cases {
        assert_eq!(duration(seconds), expect);
    }
    assert_eq!(time_of_day(86_399_999_999_999), "23:59:59.999");
    assert_eq!((fit("añb", 3), fit("añbc", 3), fit("abc", 0)), ("añb".into(), "añ…".into(), "".into()));
}
