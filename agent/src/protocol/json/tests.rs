use proptest::prelude::*;
use serde::de::IgnoredAny;
use serde_json::Value;

use super::*;

/// A token and its path, in a form that outlives the push: `/key/0 "text"`.
fn scan(pushes: &[&[u8]], max_text: usize) -> (Vec<String>, Status) {
    let mut scanner = Scanner::new(max_text);
    let mut out = Vec::new();
    let mut sink = |path: &[Step<'_>], token: Token<'_>| out.push(line(path, &show(token)));
    for bytes in pushes {
        scanner.push(bytes, &mut sink);
    }
    scanner.finish(&mut sink);
    (out, scanner.status())
}

fn line(path: &[Step<'_>], token: &str) -> String {
    let mut line = String::new();
    for step in path {
        match step {
            Step::Key(key) => line += &format!("/{key:?}"),
            Step::Index(index) => line += &format!("/{index}"),
        }
    }
    line + " " + token
}

fn show(token: Token<'_>) -> String {
    match token {
        Token::ObjectStart => "{".into(),
        Token::ObjectEnd => "}".into(),
        Token::ArrayStart => "[".into(),
        Token::ArrayEnd => "]".into(),
        Token::Piece(text) => format!("{text:?}+"),
        Token::String { text, truncated } => format!("{text:?}{}", if truncated { ".." } else { "" }),
        Token::Number(number) => number.into(),
        Token::Bool(value) => value.to_string(),
        Token::Null => "null".into(),
    }
}

/// The lines that `value` must give, by way of `serde_json`'s tree.
fn flatten<'v>(value: &'v Value, path: &mut Vec<Step<'v>>, out: &mut Vec<String>) {
    if path.len() > 8 {
        return;
    }
    match value {
        Value::Object(members) => {
            out.push(line(path, "{"));
            for (key, value) in members {
                path.push(Step::Key(key));
                flatten(value, path, out);
                path.pop();
            }
            out.push(line(path, "}"));
        }
        Value::Array(elements) => {
            out.push(line(path, "["));
            for (index, value) in elements.iter().enumerate() {
                path.push(Step::Index(index as u32));
                flatten(value, path, out);
                path.pop();
            }
            out.push(line(path, "]"));
        }
        Value::String(text) => out.push(line(path, &format!("{text:?}"))),
        other => out.push(line(path, &other.to_string())),
    }
}

fn check(input: &str, max_text: usize, expect: &[&str], status: Status) {
    let (got, ended) = scan(&[input.as_bytes()], max_text);
    assert_eq!((got.as_slice(), ended), (expect.map_str().as_slice(), status), "{input}");
    let bytes: Vec<&[u8]> = input.as_bytes().chunks(1).collect();
    assert_eq!(scan(&bytes, max_text), (got, ended), "{input} byte by byte");
}

trait MapStr {
    fn map_str(&self) -> Vec<String>;
}

impl MapStr for &[&str] {
    fn map_str(&self) -> Vec<String> {
        self.iter().map(ToString::to_string).collect()
    }
}

#[test]
fn values_come_with_their_paths() {
    check(
        r#" {"model":"m","n":[1,{"a":-2.5e3},[],true], "o":{}, "z":null} "#,
        64,
        &[
            " {",
            r#"/"model" "m""#,
            r#"/"n" ["#,
            r#"/"n"/0 1"#,
            r#"/"n"/1 {"#,
            r#"/"n"/1/"a" -2.5e3"#,
            r#"/"n"/1 }"#,
            r#"/"n"/2 ["#,
            r#"/"n"/2 ]"#,
            r#"/"n"/3 true"#,
            r#"/"n" ]"#,
            r#"/"o" {"#,
            r#"/"o" }"#,
            r#"/"z" null"#,
            " }",
        ],
        Status::Complete,
    );
}

#[test]
fn strings_are_decoded_and_cut_at_characters() {
    check(r#""\ud83d\ude00\u00e9\n\/""#, 64, &[r#" "😀é\n/""#], Status::Complete);
    check(r#""\ud83d x""#, 64, &[" \"\u{FFFD} x\""], Status::Complete);
    check(r#""\ude00\ud83d\ud83d\ude00\ud83d""#, 64, &[" \"\u{FFFD}\u{FFFD}😀\u{FFFD}\""], Status::Complete);
    check(r#""abé""#, 3, &[r#" "ab".."#], Status::Complete);
    check(r#""abé""#, 4, &[r#" "abé""#], Status::Complete);
    check(r#"["abc",""]"#, 0, &[" [", r#"/0 "".."#, r#"/1 """#, " ]"], Status::Complete);
}

#[test]
fn invalid_utf8_is_replaced_as_std_does_it() {
    let raw = b"a\xF0\x9F\x98(\xE2\x82\xFF\x80\xC3\xA9\xED\xA0\x80";
    let document = [b"\"", raw.as_slice(), b"\""].concat();
    let expect = format!(" {:?}", String::from_utf8_lossy(raw));
    for at in 0..document.len() {
        let (a, b) = document.split_at(at);
        assert_eq!(scan(&[a, b], 100), (vec![expect.clone()], Status::Complete), "split at {at}");
    }
}

#[test]
fn numbers_keep_the_grammar_and_their_cap() {
    check("0", 64, &[" 0"], Status::Complete);
    check("12.5E+7 ", 64, &[" 12.5E+7"], Status::Complete);
    for bad in ["01", "1.", ".5", "-", "1e", "1-2", "+1", "--1"] {
        assert!(matches!(scan(&[bad.as_bytes()], 64), (tokens, Status::Broken(_)) if tokens.is_empty()), "{bad}");
    }
    // No cap on text makes a count unreadable, and no number is unbounded.
    check("12345", 0, &[" 12345"], Status::Complete);
    check(&"9".repeat(64), 0, &[&format!(" {}", "9".repeat(64))], Status::Complete);
    check(&"9".repeat(65), 0, &[], Status::Broken("number too long"));
}

#[test]
fn faults_are_named() {
    check("", 8, &[], Status::Empty);
    check(" \n", 8, &[], Status::Empty);
    check("{", 8, &[" {"], Status::Broken("unfinished document"));
    check("\"a", 8, &[], Status::Broken("unfinished document"));
    check("tru", 8, &[], Status::Broken("unfinished document"));
    check("trux", 8, &[], Status::Broken("expected a value"));
    check("{} x", 8, &[" {", " }"], Status::Broken("trailing data"));
    check("[1,]", 8, &[" [", "/0 1"], Status::Broken("expected a value"));
    check("{,}", 8, &[" {"], Status::Broken("expected a key"));
    check(r#"{"a" 1}"#, 8, &[" {"], Status::Broken("expected a colon"));
    check("[1}", 8, &[" [", "/0 1"], Status::Broken("expected a comma or an end"));
    check(r#""\x""#, 8, &[], Status::Broken("bad escape"));
    check(r#""\u12g4""#, 8, &[], Status::Broken("bad escape"));
}

#[test]
fn depth_is_bounded_and_deep_values_are_passed_over() {
    let nested = |n: usize| "[".repeat(n) + &"]".repeat(n);
    assert_eq!(scan(&[nested(64).as_bytes()], 8).1, Status::Complete);
    assert_eq!(scan(&[nested(65).as_bytes()], 8).1, Status::Broken("nested too deeply"));
    // One array more than a path has steps: the innermost is the last one told of.
    assert_eq!(scan(&[(nested(30)).as_bytes()], 8).0.len(), 2 * (MAX_PATH + 1));
    let above = r#"{"a":"#.repeat(MAX_PATH - 2);
    let deep = format!(r#"{above}{{"g":{{"h":{{"i":["\n",1]}},"h2":7}}}}{}"#, "}".repeat(MAX_PATH - 2));
    let (tokens, status) = scan(&[deep.as_bytes()], 8);
    assert_eq!(status, Status::Complete);
    assert!(tokens.contains(&format!(r#"{}/"g"/"h2" 7"#, r#"/"a""#.repeat(MAX_PATH - 2))), "{tokens:?}");
    assert!(!tokens.iter().any(|line| line.contains("\"i\"")), "{tokens:?}");
}

#[test]
fn long_keys_are_cut() {
    let document = format!(r#"{{"{}":1,"k":2}}"#, "x".repeat(1000));
    let expect = [" {".to_string(), format!("/{:?} 1", "x".repeat(128)), r#"/"k" 2"#.into(), " }".into()];
    assert_eq!(scan(&[document.as_bytes()], 8).0, expect);
}

#[test]
fn key_storage_does_not_grow_with_the_document() {
    let mut scanner = Scanner::new(16);
    for _ in 0..1000 {
        scanner.push(b"[[{\"some key\":[{\"another\":1}]},{\"third\":{}}]", &mut |_, _| {});
        scanner.push(b"]", &mut |_, _| {});
        assert_eq!(scanner.status(), Status::Complete);
        scanner.reset();
    }
    scanner.push(b"[", &mut |_, _| {});
    for _ in 0..10_000 {
        let mut longest = 0;
        scanner.push(b"{\"some key\":{\"another\":1}},", &mut |path, _| longest = longest.max(path.len()));
        assert_eq!(longest, 3);
    }
    assert_eq!(scanner.status(), Status::Open);
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_filter("finite", |n| n.is_finite()).prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(12, 64, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::vec((any::<String>().prop_filter("short", |k| k.len() <= 128), inner), 0..5)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// `text` with some characters written as `\u` escapes.
fn escape_some(text: &str) -> String {
    let mut out = String::new();
    for (at, c) in text.chars().enumerate() {
        if at % 3 == 0 && !c.is_ascii() {
            for unit in c.encode_utf16(&mut [0; 2]) {
                out += &format!("\\u{unit:04X}");
            }
        } else {
            out.push(c);
        }
    }
    out
}

fn pieces<'b>(bytes: &'b [u8], cuts: &[prop::sample::Index]) -> Vec<&'b [u8]> {
    let mut ends: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
    ends.push(bytes.len());
    ends.sort_unstable();
    let mut start = 0;
    ends.into_iter().map(|end| &bytes[std::mem::replace(&mut start, end)..end]).collect()
}

proptest! {
    #[test]
    fn agrees_with_serde_json(value in value(), pretty: bool, escaped: bool, cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6)) {
        let mut text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
        if escaped {
            text = escape_some(&text);
        }
        let mut expect = Vec::new();
        flatten(&value, &mut Vec::new(), &mut expect);
        let (got, status) = scan(&pieces(text.as_bytes(), &cuts), 1 << 20);
        prop_assert_eq!(status, Status::Complete, "{}", text);
        prop_assert_eq!(got, expect);
    }

    #[test]
    fn any_chunking_gives_the_same(value in value(), max in 0usize..40) {
        let text = escape_some(&serde_json::to_string(&value).unwrap());
        let whole = scan(&[text.as_bytes()], max);
        for size in [1, 2, 3, 7] {
            let parts: Vec<&[u8]> = text.as_bytes().chunks(size).collect();
            prop_assert_eq!(&scan(&parts, max), &whole);
        }
        for at in 0..text.len() {
            let (a, b) = text.as_bytes().split_at(at);
            prop_assert_eq!(&scan(&[a, b], max), &whole, "split at {}", at);
        }
    }

    #[test]
    fn noise_neither_panics_nor_depends_on_chunking(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        quoted: bool,
        max in 0usize..300,
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..9),
    ) {
        let bytes = if quoted { [b"[\"", bytes.as_slice(), b"\",1]"].concat() } else { bytes };
        prop_assert_eq!(scan(&pieces(&bytes, &cuts), max), scan(&[&bytes], max));
    }

    #[test]
    fn mutated_documents_are_judged_as_serde_json_does(
        value in value(),
        edits in prop::collection::vec(
            (any::<prop::sample::Index>(), prop::sample::select(b"{}[],:\"\\0123456789+-.eEtrufalsn x\x80\xE2\xFF".to_vec()), 0..3u8),
            1..4,
        ),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let mut bytes = serde_json::to_vec(&value).unwrap();
        for (at, byte, how) in edits {
            let at = at.index(bytes.len().max(1)).min(bytes.len());
            match how {
                0 => bytes.insert(at, byte),
                1 if at < bytes.len() => { bytes.remove(at); }
                _ if at < bytes.len() => bytes[at] = byte,
                _ => {}
            }
        }
        let whole = scan(&[&bytes], 1 << 20);
        prop_assert_eq!(&scan(&pieces(&bytes, &cuts), 1 << 20), &whole);
        // `IgnoredAny` checks the syntax and nothing else, which is what the scanner promises.
        let valid = serde_json::from_slice::<IgnoredAny>(&bytes).is_ok();
        prop_assert_eq!(whole.1 == Status::Complete, valid, "{:?} {}", whole.1, String::from_utf8_lossy(&bytes));
    }
}

/// Every string of a document as it comes out of its pieces, or whole where it has none.
fn pieced(pushes: &[&[u8]], max_text: usize) -> Vec<String> {
    let mut scanner = Scanner::new(max_text).with_pieces();
    let (mut out, mut open) = (Vec::new(), None::<String>);
    let mut sink = |_: &[Step<'_>], token: Token<'_>| match token {
        Token::Piece(text) => open.get_or_insert_default().push_str(text),
        Token::String { text, truncated } => {
            assert_eq!(truncated, open.is_some());
            out.push(open.take().unwrap_or(text.to_owned()));
        }
        _ => {}
    };
    pushes.iter().for_each(|bytes| scanner.push(bytes, &mut sink));
    scanner.finish(&mut sink);
    out
}

#[test]
fn a_long_string_comes_whole_in_pieces() {
    let long = "größe \u{1f680} ".repeat(3_000);
    let document = serde_json::json!({"a": "short", "b": long, "c": [long.replace('g', "\n\""), ""]}).to_string();
    let expect = vec!["short".to_owned(), long.clone(), long.replace('g', "\n\""), String::new()];
    for size in [1, 7, 4096, usize::MAX] {
        let pieces: Vec<&[u8]> = document.as_bytes().chunks(size.min(document.len())).collect();
        for max in [0, 5, 100] {
            assert_eq!(pieced(&pieces, max), expect, "in {size}, cap {max}");
        }
    }
}

#[test]
fn bytes_that_are_no_utf8_are_repaired_in_pieces_too() {
    let document = b"[\"aaaaaaaa\xff\xf0\x9f\x9a\x80\xe2\x82bbbb\\ud83d\\ude80\\ud83d\"]";
    let expect = vec!["aaaaaaaa\u{fffd}\u{1f680}\u{fffd}bbbb\u{1f680}\u{fffd}".to_owned()];
    let bytes: Vec<&[u8]> = document.chunks(1).collect();
    assert_eq!((pieced(&[document], 3), pieced(&bytes, 3)), (expect.clone(), expect));
}

#[test]
fn pieces_are_not_held() {
    let mut scanner = Scanner::new(10).with_pieces();
    let mut longest = 0;
    scanner.push(b"[\"", &mut |_, _| ());
    for _ in 0..100 {
        scanner.push("é".repeat(50_000).as_bytes(), &mut |_, token| {
            if let Token::Piece(text) = token {
                longest = longest.max(text.len());
            }
        });
    }
    assert!(longest <= 3 * 4096, "{longest}");
}
