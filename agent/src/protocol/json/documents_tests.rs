use proptest::prelude::*;

use super::*;

fn parse(form: Form, pushes: &[&[u8]]) -> Vec<String> {
    let mut documents = Documents::new(form, 20);
    let mut out = Vec::new();
    for bytes in pushes {
        documents.push(bytes, &mut |item| show(item, &mut out));
    }
    documents.finish(&mut |item| show(item, &mut out));
    out
}

/// One line for each document: its scalars and how it ended.
fn show(item: Item<'_>, out: &mut Vec<String>) {
    if !out.last().is_some_and(|line| line.ends_with(' ')) {
        out.push(" ".into());
    }
    let Some(line) = out.last_mut() else { return };
    match item {
        Item::Value(_, Token::String { text, .. }) => *line += &format!("{text:?} "),
        Item::Value(_, Token::Number(number)) => *line += &format!("{number} "),
        Item::Value(..) => {}
        Item::End(None) => *line += "end",
        Item::End(Some(reason)) => *line += reason,
        Item::Broken(reason) => *line += &format!("broken: {reason}"),
    }
}

/// Checks the documents of `input` whole, byte by byte and split in two everywhere.
fn check(form: Form, input: &str, expect: &[&str]) {
    let input = input.as_bytes();
    let of =
        |pushes: &[&[u8]]| -> Vec<String> { parse(form, pushes).iter().map(|line| line.trim().to_owned()).collect() };
    assert_eq!(of(&[input]), expect, "{input:?}");
    assert_eq!(of(&input.chunks(1).collect::<Vec<_>>()), expect, "{input:?} byte by byte");
    for at in 0..input.len() {
        assert_eq!(of(&[&input[..at], &input[at..]]), expect, "{input:?} split at {at}");
    }
}

#[test]
fn lines_are_documents() {
    check(Form::Lines, "{\"a\":1}\n{\"a\":2}\r\n\n {\"a\":3}", &["1 end", "2 end", "3 end"]);
    check(Form::Lines, "1\n\"x\"\nnull\n[2,3]\n4", &["1 end", "\"x\" end", "end", "2 3 end", "4 end"]);
    check(Form::Lines, "{\"a\":1}{\"a\":\"}\\n{\"}\n{\n\"a\":\n3}", &["1 end", "\"}\\n{\" end", "3 end"]);
    check(Form::Lines, " \n ", &[]);
}

#[test]
fn a_damaged_line_costs_itself() {
    check(Form::Lines, "{\"a\":1}\n{\"a\" 2}\n{\"a\":3}\n", &["1 end", "expected a colon", "3 end"]);
    check(Form::Lines, "{\"a\":nu\n{\"a\":2}\n", &["expected a value", "2 end"]);
    check(Form::Lines, "<html>\n{\"a\":2}\n", &["expected a value", "2 end"]);
    check(Form::Lines, "{\"a\":1}\n{\"a\":2", &["1 end", "2 unfinished document"]);
}

#[test]
fn elements_are_documents() {
    check(Form::Array, "[{\"a\":1}\n,\r\n{\"a\":[2,3]}]\n", &["1 end", "2 3 end"]);
    check(Form::Array, "[]", &[]);
    check(Form::Array, " [ 1,\"]\" , [2] ] ", &["1 end", "\"]\" end", "2 end"]);
    check(Form::Array, "[{\"a\":1},", &["1 end", "broken: unfinished array"]);
    check(Form::Array, "[{\"a\":1},{\"a\":2", &["1 end", "2 unfinished document"]);
    check(Form::Array, "{\"a\":1}", &["broken: not an array"]);
    check(Form::Array, "[1] x y", &["1 end", "broken: trailing data"]);
    check(Form::Array, "", &[]);
}

#[test]
fn a_damaged_element_costs_itself_where_a_comma_has_a_line_of_its_own() {
    check(Form::Array, "[{\"a\" 1}\n,\r\n{\"a\":2}\n]", &["expected a colon", "2 end"]);
    check(Form::Array, "[{\"a\" 1},{\"a\":2}]", &["expected a colon"]);
}

#[test]
fn a_gap_costs_what_it_tore() {
    for (form, before, after, begun, expect) in [
        (Form::Lines, "{\"a\":1}\n{\"a\"", "2}\n{\"a\":3}\n", true, vec!["1 end", "3 end"]),
        (Form::Lines, "{\"a\":1}\n", "{\"a\":2}\n{\"a\":3}\n", false, vec!["1 end", "3 end"]),
        (Form::Array, "[{\"a\":1}\n,\n{\"a\"", ",\"b\":2}\n,\n{\"a\":3}\n]", true, vec!["1 end", "3 end"]),
        (Form::Array, "", "\n,\n{\"a\":3}]", false, vec!["3 end"]),
    ] {
        let mut documents = Documents::new(form, 20);
        let mut out = Vec::new();
        documents.push(before.as_bytes(), &mut |item| show(item, &mut out));
        assert_eq!(documents.gap(), begun);
        out.retain(|line| line.ends_with("end"));
        documents.push(after.as_bytes(), &mut |item| show(item, &mut out));
        documents.finish(&mut |item| show(item, &mut out));
        assert_eq!(out.iter().map(|line| line.trim()).collect::<Vec<_>>(), expect, "{before:?} gap {after:?}");
    }
}

proptest! {
    #[test]
    fn any_chunking_gives_the_same(
        parts in prop::collection::vec(prop::sample::select(vec!["{\"a\":1}", "\n", ",", "\n,\n", "[", "]", "{", "\"x", "\"", " ", "12", "nul", "\r\n"]), 0..30),
        form in prop::sample::select(vec![Form::Lines, Form::Array]),
        size in 1usize..9,
    ) {
        let text = parts.concat();
        prop_assert_eq!(parse(form, &text.as_bytes().chunks(size).collect::<Vec<_>>()), parse(form, &[text.as_bytes()]));
    }

    #[test]
    fn whole_documents_come_out_whole(values in prop::collection::vec("[a-z]{0,30}", 0..10)) {
        let lines: String = values.iter().map(|value| format!("{{\"k\":{value:?}}}\n")).collect();
        let array = format!("[{}]", lines.trim_end().replace('\n', "\n,\r\n"));
        let n = values.len();
        for (form, text) in [(Form::Lines, &lines), (Form::Array, &array)] {
            let out = parse(form, &[text.as_bytes()]);
            prop_assert_eq!(out.iter().filter(|line| line.ends_with("end")).count(), n);
        }
    }
}
