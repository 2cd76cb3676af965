//! The conventions' message JSON, cut inside strings so that it stays valid.

use super::{Clipped, Message, Part};
use crate::privacy::Redactor;

/// Writes `messages` as a JSON array of at most `cap` bytes and says whether something had to be left out.
pub(crate) fn render(messages: &[Message], cap: usize, redactor: &Redactor) -> (String, bool) {
    let mut writer = Writer { out: String::from("["), cap, redactor };
    let whole = messages.iter().all(|message| writer.message(message));
    writer.out.push(']');
    (writer.out, !whole)
}

struct Writer<'a> {
    out: String,
    cap: usize,
    redactor: &'a Redactor,
}

/// The part's text, which is where the cut goes.
enum Body {
    /// There is none.
    None,
    /// A JSON string.
    Text(String),
    /// A JSON value, written whole if it fits and else as the beginning of its text.
    Json(String),
}

impl Writer<'_> {
    /// Writes one message, or as much of it as fits; false when something is missing.
    fn message(&mut self, message: &Message) -> bool {
        let Message { role, name, tool_call_id, finish_reason, parts } = message;
        let comma = if self.out.len() > 1 { "," } else { "" };
        let role = role.as_deref().unwrap_or("unknown");
        let head = format!("{comma}{{\"role\":{},\"parts\":[", self.quoted(role));
        let tail = format!("]{}{}}}", self.member("name", name), self.member("finish_reason", finish_reason));
        // One more byte closes the array.
        let Some(limit) = self.cap.checked_sub(tail.len() + 1).filter(|limit| self.out.len() + head.len() <= *limit)
        else {
            return false;
        };
        self.out.push_str(&head);
        let is_tool = matches!(role, "tool" | "function");
        let mut whole = true;
        for (i, part) in parts.iter().enumerate() {
            if !self.part(part, is_tool.then_some(tool_call_id), i > 0, limit) {
                whole = false;
                break;
            }
        }
        self.out.push_str(&tail);
        whole
    }

    /// Writes one part so that the output stays within `limit`. `tool` is set in a tool's message, whose text is
    /// the result of the call with that id.
    fn part(&mut self, part: &Part, tool: Option<&Option<String>>, comma: bool, limit: usize) -> bool {
        let kind = |kind: &str| format!("\"type\":\"{kind}\"");
        let (head, body) = match (part, tool) {
            (Part::Text(text), Some(id)) => {
                let head = format!("{}{},\"response\":", kind("tool_call_response"), self.member("id", id));
                (head, self.text(text))
            }
            (Part::Text(text), None) => (kind("text") + ",\"content\":", self.text(text)),
            (Part::Reasoning(text), _) => (kind("reasoning") + ",\"content\":", self.text(text)),
            (Part::ToolCall { id, name, arguments }, _) => {
                let name = self.quoted(name.as_deref().unwrap_or_default());
                let head = format!("{}{},\"name\":{name},\"arguments\":", kind("tool_call"), self.member("id", id));
                (head, self.json(arguments))
            }
            (Part::ToolResult { id, response }, _) => {
                let head = format!("{}{},\"response\":", kind("tool_call_response"), self.member("id", id));
                (head, self.json(response))
            }
            (Part::Uri { modality, uri }, _) => {
                (format!("{},\"modality\":\"{modality}\",\"uri\":", kind("uri")), self.text(uri))
            }
            (Part::File { modality, id }, _) => {
                let id = self.quoted(id);
                (format!("{},\"modality\":\"{modality}\",\"file_id\":{id}", kind("file")), Body::None)
            }
            (Part::Blob { modality, mime }, _) => {
                let mime = self.member("mime_type", mime);
                (format!("{},\"modality\":\"{modality}\",\"content\":\"\"{mime}", kind("blob")), Body::None)
            }
        };
        let open = if comma { ",{" } else { "{" };
        let fixed = self.out.len() + open.len() + head.len() + "}".len();
        let quotes = if matches!(body, Body::None) { 0 } else { 2 };
        let Some(room) = limit.checked_sub(fixed + quotes) else { return false };
        self.out.push_str(open);
        self.out.push_str(&head);
        let whole = match body {
            Body::None => true,
            Body::Json(json) if json.len() <= room + quotes => {
                self.out.push_str(&json);
                true
            }
            Body::Text(text) | Body::Json(text) => self.string(&text, room),
        };
        self.out.push('}');
        whole
    }

    /// Writes a JSON string of at most `room` bytes between its quotes.
    fn string(&mut self, text: &str, room: usize) -> bool {
        let end = self.out.len() + 1 + room;
        self.out.push('"');
        let mut whole = true;
        for c in text.chars() {
            let before = self.out.len();
            escape(c, &mut self.out);
            if self.out.len() > end {
                self.out.truncate(before);
                whole = false;
                break;
            }
        }
        self.out.push('"');
        whole
    }

    fn text(&self, clipped: &Clipped) -> Body {
        Body::Text(self.redacted(clipped))
    }

    /// Arguments are JSON in a string: unpacked when they are valid, so that a reader need not do it. Keys and
    /// strings are redacted again once unpacked, because an escape may have hidden a credential's shape.
    fn json(&self, clipped: &Clipped) -> Body {
        let text = self.redacted(clipped);
        match serde_json::from_str::<serde_json::Value>(&text) {
            Ok(mut value) if !clipped.cut && (value.is_object() || value.is_array()) => {
                self.redact_value(&mut value);
                Body::Json(value.to_string())
            }
            _ => Body::Text(text),
        }
    }

    // serde_json refuses to nest deeper than 128, which bounds the recursion.
    fn redact_value(&self, value: &mut serde_json::Value) {
        use serde_json::Value;
        match value {
            Value::String(text) => *text = self.redactor.redact(text).into_owned(),
            Value::Array(items) => items.iter_mut().for_each(|item| self.redact_value(item)),
            Value::Object(members) => {
                *members = std::mem::take(members)
                    .into_iter()
                    .map(|(key, mut value)| {
                        self.redact_value(&mut value);
                        (self.redactor.redact(&key).into_owned(), value)
                    })
                    .collect();
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    fn redacted(&self, Clipped { text, cut, heard: _ }: &Clipped) -> String {
        match cut {
            true => self.redactor.redact_cut(text),
            false => self.redactor.redact(text).into_owned(),
        }
    }

    /// A short string with quotes.
    fn quoted(&self, text: &str) -> String {
        let mut out = String::from("\"");
        self.redactor.redact(text).chars().for_each(|c| escape(c, &mut out));
        out.push('"');
        out
    }

    /// `,"key":"value"`, or nothing.
    fn member(&self, key: &str, value: &Option<String>) -> String {
        value.as_ref().map_or_else(String::new, |value| format!(",\"{key}\":{}", self.quoted(value)))
    }
}

fn escape(c: char, out: &mut String) {
    match c {
        '"' => out.push_str("\\\""),
        '\\' => out.push_str("\\\\"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        c if c < ' ' => {
            const HEX: &[u8; 16] = b"0123456789abcdef";
            let code = c as usize;
            out.push_str("\\u00");
            out.push(char::from(HEX[code >> 4]));
            out.push(char::from(HEX[code & 15]));
        }
        c => out.push(c),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn clipped(text: &str) -> Clipped {
        Clipped { text: text.to_owned(), ..Clipped::default() }
    }

    fn sample() -> Vec<Message> {
        let call = Part::ToolCall {
            id: Some("c1".into()),
            name: Some("weather".into()),
            arguments: clipped("{\"at\":\"Bonn\",\"n\":[1]}"),
        };
        let role = |role: &str, parts| Message { role: Some(role.into()), parts, ..Message::default() };
        vec![
            role("user", vec![Part::Text(clipped("a \"b\"\n\u{1} ü"))]),
            Message {
                finish_reason: Some("tool_call".into()),
                ..role("assistant", vec![Part::Reasoning(clipped("hm")), call])
            },
            Message { tool_call_id: Some("c1".into()), ..role("tool", vec![Part::Text(clipped("sunny"))]) },
            role(
                "user",
                vec![
                    Part::Blob { modality: "image", mime: Some("image/png".into()) },
                    Part::Uri { modality: "image", uri: clipped("https://h/x.png") },
                ],
            ),
        ]
    }

    #[test]
    fn messages_have_the_conventions_form() {
        let (text, truncated) = render(&sample(), 10_000, Redactor::shared());
        let expect = json!([
            {"role": "user", "parts": [{"type": "text", "content": "a \"b\"\n\u{1} ü"}]},
            {"role": "assistant", "finish_reason": "tool_call", "parts": [
                {"type": "reasoning", "content": "hm"},
                {"type": "tool_call", "id": "c1", "name": "weather", "arguments": {"at": "Bonn", "n": [1]}}]},
            {"role": "tool", "parts": [{"type": "tool_call_response", "id": "c1", "response": "sunny"}]},
            {"role": "user", "parts": [
                {"type": "blob", "modality": "image", "content": "", "mime_type": "image/png"},
                {"type": "uri", "modality": "image", "uri": "https://h/x.png"}]}
        ]);
        assert_eq!((serde_json::from_str::<Value>(&text).unwrap(), truncated), (expect, false));
    }

    #[test]
    fn a_credential_behind_escapes_inside_arguments_goes() {
        let key = format!("sk-ant-{}", "aB3".repeat(20));
        let hidden = format!("{{\"key\":\"\\u0073{}\"}}", &key[1..]);
        let part = Part::ToolCall { id: None, name: None, arguments: clipped(&hidden) };
        let (text, _) = render(&[Message { parts: vec![part], ..Message::default() }], 10_000, Redactor::shared());
        assert!(text.contains("[REDACTED:anthropic]") && !text.contains(&key[8..]), "{text}");
    }

    proptest! {
        #[test]
        fn any_cap_gives_valid_json_within_it(cap in 2usize..700) {
            let (whole, _) = render(&sample(), 10_000, Redactor::shared());
            let (text, truncated) = render(&sample(), cap, Redactor::shared());
            prop_assert!(serde_json::from_str::<Value>(&text).is_ok(), "{}", text);
            prop_assert!(text.len() <= cap, "{} > {}", text.len(), cap);
            prop_assert_eq!(truncated, text != whole);
        }
    }
}
