use proptest::prelude::*;

use super::*;

const MAX: usize = 40;

fn parse(pushes: &[&[u8]], max: usize) -> Vec<String> {
    let mut parser = Parser::new(max);
    let mut out = Vec::new();
    for bytes in pushes {
        parser.push(bytes, &mut |item| out.push(show(item)));
    }
    parser.finish(&mut |item| out.push(show(item)));
    out
}

fn show(item: Item<'_>) -> String {
    match item {
        Item::Event(Event { event, data }) => {
            format!("{}|{}", event.unwrap_or("-"), String::from_utf8_lossy(data).replace('\n', "\\n"))
        }
        Item::Comment => ":".into(),
        Item::Oversize(bytes) => format!("oversize {bytes}"),
        Item::Unfinished => "unfinished".into(),
    }
}

/// Checks the items of `input` whole, byte by byte and split in two everywhere.
fn check(input: &str, expect: &[&str]) {
    let input = input.as_bytes();
    assert_eq!(parse(&[input], MAX), expect, "{input:?}");
    assert_eq!(parse(&input.chunks(1).collect::<Vec<_>>(), MAX), expect, "{input:?} byte by byte");
    for at in 0..input.len() {
        assert_eq!(parse(&[&input[..at], &input[at..]], MAX), expect, "{input:?} split at {at}");
    }
}

#[test]
fn events_end_at_blank_lines_of_any_kind() {
    check("data: a\n\ndata: b\r\n\r\ndata: c\r\rdata: d\n\r\n", &["-|a", "-|b", "-|c", "-|d"]);
    check("event: ping\ndata: {}\n\n", &["ping|{}"]);
    check("event: ping\ndata: {}\n\ndata: x\n\n", &["ping|{}", "-|x"]);
}

#[test]
fn data_lines_are_joined_and_one_space_is_taken_off() {
    check("data: a\ndata:b\ndata:  c\n\n", &["-|a\\nb\\n c"]);
    check("data\n\ndata\ndata\n\ndata:\n\n", &["-|", "-|\\n", "-|"]);
}

#[test]
fn other_fields_and_comments_make_no_event() {
    check(": hi\n:\n\nid: 7\nretry: 10\n\nevent: e\n\ndatax: 1\n\n", &[":", ":"]);
    check("data: a\n: mid\nevent: n\n\n", &[":", "n|a"]);
}

#[test]
fn a_byte_order_mark_is_taken_off_once() {
    check("\u{FEFF}data: a\n\n", &["-|a"]);
    check("\u{FEFF}\n\ndata: a\n\n\u{FEFF}data: b\n\n", &["-|a"]);
    assert_eq!(parse(&[b"\xEF\xBBdata: a\n\ndata: b\n\n"], MAX), ["-|b"]);
}

#[test]
fn the_last_event_may_lack_its_blank_line_but_not_its_line_end() {
    check("data: a\n", &["-|a"]);
    check("data: a\r", &["-|a"]);
    check("data: a", &["unfinished"]);
    check("data: a\ndata: b", &["unfinished"]);
    check("data: a\n: comm", &["-|a"]);
    check("data: a\n\n", &["-|a"]);
    check("event: x\n", &[]);
}

#[test]
fn an_event_beyond_the_limit_is_reported_once_and_passed_over() {
    let long = "x".repeat(MAX);
    check(&format!("data: {long}\ndata: y\n\ndata: z\n\n"), &["oversize 53", "-|z"]);
    check(&format!("data: a\ndata: {}\n\ndata: z\n\n", "x".repeat(34)), &["oversize 47", "-|z"]);
    check(&format!("data: {}\n\n", "x".repeat(34)), &[&format!("-|{}", "x".repeat(34))]);
    check(&format!(":{long}\n\ndata: z\n\n"), &["oversize 41", "-|z"]);
    check(&format!("data: {long}"), &["oversize 46"]);
    check(&format!("\u{FEFF}data: {}\n\n", "x".repeat(34)), &[&format!("-|{}", "x".repeat(34))]);
}

#[test]
fn keep_alive_comments_never_add_up_to_an_oversize_event() {
    check(&": ping\n".repeat(20), &[":"; 20]);
}

#[test]
fn a_gap_drops_what_it_tore() {
    for (before, after, expect) in [
        ("data: a\nda", "ta: b\n\ndata: c\n\n", vec!["-|c"]),
        ("data: a\n\n", "data: c\n\ndata: d\n\n", vec!["-|d"]),
        // The first line end may be that of the torn line: it does not count as a blank line.
        ("data: a", "\ndata: b\n\ndata: c\n\n", vec!["-|c"]),
        ("data: a\r", "\n\r\ndata: c\n\n", vec!["-|c"]),
    ] {
        let mut parser = Parser::new(MAX);
        let mut out = Vec::new();
        parser.push(before.as_bytes(), &mut |_| {});
        parser.gap();
        parser.push(after.as_bytes(), &mut |item| out.push(show(item)));
        parser.finish(&mut |item| out.push(show(item)));
        assert_eq!(out, expect, "{before:?} gap {after:?}");
    }
}

#[test]
fn an_oversize_event_is_reported_across_a_gap() {
    let mut parser = Parser::new(4);
    let mut out = Vec::new();
    parser.push(b"data: long\n", &mut |item| out.push(show(item)));
    parser.gap();
    parser.push(b"xx\n\n", &mut |item| out.push(show(item)));
    assert_eq!(out, ["oversize 12"]);
}

#[test]
fn an_event_of_one_line_is_not_copied() {
    let input = b"event: e\ndata: {\"a\":1}\n\n";
    let mut parser = Parser::new(MAX);
    parser.push(input, &mut |item| match item {
        Item::Event(event) => assert!(input.as_ptr_range().contains(&event.data.as_ptr())),
        other => panic!("{other:?}"),
    });
    assert_eq!(parser.data.capacity(), 0);
}

fn stream() -> impl Strategy<Value = String> {
    let line = prop_oneof![
        4 => "data:? ?[a-z]{0,30}",
        1 => "event: ?[a-z]{0,9}",
        1 => ":[a-z]{0,50}",
        1 => "(id|retry): [0-9]{0,3}",
        3 => Just(String::new()),
    ];
    let end = prop::sample::select(vec!["\n", "\r\n", "\r"]);
    prop::collection::vec((line, end), 0..20).prop_map(|lines| lines.into_iter().map(|(a, b)| a + b).collect())
}

proptest! {
    #[test]
    fn any_chunking_gives_the_same(text in stream(), cut in any::<prop::sample::Index>(), size in 1usize..9) {
        // Streams also end in the middle of a line.
        let text = &text.as_bytes()[..cut.index(text.len() + 1)];
        let whole = parse(&[text], MAX);
        prop_assert_eq!(&parse(&text.chunks(size).collect::<Vec<_>>(), MAX), &whole);
        for at in 0..text.len() {
            prop_assert_eq!(&parse(&[&text[..at], &text[at..]], MAX), &whole, "split at {}", at);
        }
    }

    #[test]
    fn noise_neither_panics_nor_depends_on_chunking(
        bytes in prop::collection::vec(prop_oneof![any::<u8>(), prop::sample::select(b"data:\n\r event\xEF\xBB\xBF".to_vec())], 0..200),
        size in 1usize..9,
        max in 0usize..60,
    ) {
        prop_assert_eq!(parse(&bytes.chunks(size).collect::<Vec<_>>(), max), parse(&[&bytes], max));
    }

    #[test]
    fn after_a_gap_only_whole_events_come(bytes in stream(), from in any::<prop::sample::Index>(), to in any::<prop::sample::Index>()) {
        let text = format!("{bytes}\n\n");
        let (mut from, mut to) = (from.index(text.len()), to.index(text.len()));
        if from > to {
            std::mem::swap(&mut from, &mut to);
        }
        let whole = parse(&[text.as_bytes()], MAX);
        let mut parser = Parser::new(MAX);
        parser.push(&text.as_bytes()[..from], &mut |_| {});
        parser.gap();
        let mut after = Vec::new();
        parser.push(&text.as_bytes()[to..], &mut |item| after.push(show(item)));
        after.retain(|item| item.contains('|'));
        let events: Vec<String> = whole.into_iter().filter(|item| item.contains('|')).collect();
        prop_assert!(events.ends_with(&after), "{:?} does not end with {:?}", events, after);
    }
}
