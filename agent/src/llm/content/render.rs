//! The conventions' JSON, redacted and then cut inside strings so that it stays valid.
//!
//! The schemas are those of `gen_ai.input.messages`, `gen_ai.output.messages`, `gen_ai.system_instructions` and
//! `gen_ai.tool.definitions`, which allow members of one's own: a part that was cut has `"truncated": true`, a blob
//! its `size`.

use super::{Clipped, Message, Part, tools::Definition};
use crate::privacy::{End, Redactor, Stream, escape, is_json};

/// In a part of which something is missing.
const TRUNCATED: &str = ",\"truncated\":true";

/// Bytes that are redacted in one go: of a text that is longer than its room not all has to be.
const BLOCK: usize = 8 << 10;

/// Writes `messages` as a JSON array of at most `cap` bytes and says whether something had to be left out, from the
/// end.
pub(crate) fn render(messages: &[Message], cap: usize, redactor: &Redactor) -> (String, bool) {
    let mut writer = Writer { out: String::from("["), redactor };
    let mut whole = true;
    for message in messages {
        // One more byte closes the array.
        whole = writer.element(cap.saturating_sub(1), |writer, limit| writer.message(message, limit));
        if !whole {
            break;
        }
    }
    writer.out.push(']');
    (writer.out, !whole)
}

/// As [`render`], but what is left out is left out from the beginning, so that the most recent messages stay.
pub(crate) fn render_recent(messages: &[Message], cap: usize, redactor: &Redactor) -> (String, bool) {
    let mut room = cap.saturating_sub("[]".len());
    let (mut texts, mut whole) = (Vec::new(), true);
    for message in messages.iter().rev() {
        let mut writer = Writer { out: String::new(), redactor };
        whole = writer.message(message, room);
        if !writer.out.is_empty() {
            room = room.saturating_sub(writer.out.len() + ",".len());
            texts.push(writer.out);
        }
        if !whole {
            break;
        }
    }
    texts.reverse();
    (format!("[{}]", texts.join(",")), !whole)
}

/// Writes instructions as a JSON array of parts.
pub(crate) fn render_parts(messages: &[Message], cap: usize, redactor: &Redactor) -> (String, bool) {
    let mut writer = Writer { out: String::from("["), redactor };
    let mut whole = true;
    for part in messages.iter().flat_map(|message| &message.parts) {
        whole = writer.element(cap.saturating_sub(1), |writer, limit| writer.part(part, None, limit));
        if !whole {
            break;
        }
    }
    writer.out.push(']');
    (writer.out, !whole)
}

/// Writes tools as a JSON array: type and name of each, description and parameters where they were kept and fit.
pub(crate) fn render_tools(tools: &[Definition], cap: usize, redactor: &Redactor) -> (String, bool) {
    let mut writer = Writer { out: String::from("["), redactor };
    let mut whole = true;
    for tool in tools {
        let fits = writer.element(cap.saturating_sub(1), |writer, limit| writer.tool(tool, limit));
        whole &= fits;
    }
    writer.out.push(']');
    (writer.out, !whole)
}

struct Writer<'a> {
    out: String,
    redactor: &'a Redactor,
}

/// The part's text, which is where the cut goes.
enum Body<'t> {
    /// There is none.
    None,
    /// A JSON string.
    Text(&'t Clipped),
    /// A JSON string without the query and fragment of a URI.
    Uri(&'t Clipped),
    /// A JSON value, written whole if it fits and else as the beginning of its text.
    Json(&'t Clipped),
}

impl Writer<'_> {
    /// Writes an element of the array, with the comma before it if it is not the first. `write` says whether it wrote
    /// all of it; it may also write nothing.
    fn element(&mut self, limit: usize, write: impl FnOnce(&mut Self, usize) -> bool) -> bool {
        let start = self.out.len();
        if !self.out.ends_with('[') {
            self.out.push(',');
        }
        let before = self.out.len();
        let whole = write(self, limit);
        if self.out.len() == before {
            self.out.truncate(start);
        }
        whole
    }

    /// Writes one message, or as much of it as fits before the output is `limit` bytes long; false when something is
    /// missing.
    fn message(&mut self, message: &Message, limit: usize) -> bool {
        let Message { role, name, tool_call_id, finish_reason, parts } = message;
        let role = role.as_deref().unwrap_or("unknown");
        let head = format!("{{\"role\":{},\"parts\":[", self.quoted(role));
        // Whoever takes part may be called by an address.
        let name =
            name.as_ref().map_or_else(String::new, |name| format!(",\"name\":{}", quoted(&self.redactor.redact(name))));
        let tail = format!("]{name}{}}}", self.member("finish_reason", finish_reason));
        let Some(limit) = limit.checked_sub(tail.len()).filter(|limit| self.out.len() + head.len() <= *limit) else {
            return false;
        };
        let start = self.out.len();
        self.out.push_str(&head);
        let before = self.out.len();
        let is_tool = matches!(role, "tool" | "function");
        let mut whole = true;
        for part in parts {
            whole &= self.element(limit, |writer, limit| writer.part(part, is_tool.then_some(tool_call_id), limit));
            if !whole {
                break;
            }
        }
        if !whole && self.out.len() == before {
            self.out.truncate(start);
            return false;
        }
        self.out.push_str(&tail);
        whole
    }

    /// Writes one part so that the output stays within `limit`. `tool` is set in a tool's message, whose text is
    /// the result of the call with that id.
    fn part(&mut self, part: &Part, tool: Option<&Option<String>>, limit: usize) -> bool {
        let kind = |kind: &str| format!("{{\"type\":\"{kind}\"");
        let (head, body, close) = match (part, tool) {
            (Part::Text(response), Some(id)) => {
                let head = format!("{}{},\"response\":", kind("tool_call_response"), self.member("id", id));
                (head, Body::Text(response), "")
            }
            (Part::ToolResult { id, response }, _) => {
                let head = format!("{}{},\"response\":", kind("tool_call_response"), self.member("id", id));
                (head, Body::Json(response), "")
            }
            (Part::Text(text), None) => (kind("text") + ",\"content\":", Body::Text(text), ""),
            (Part::Reasoning(text), _) => (kind("reasoning") + ",\"content\":", Body::Text(text), ""),
            (Part::ToolCall { id, name, arguments }, _) => {
                let name = self.quoted(name.as_deref().unwrap_or_default());
                let head = format!("{}{},\"name\":{name},\"arguments\":", kind("tool_call"), self.member("id", id));
                (head, Body::Json(arguments), "")
            }
            (Part::ServerToolCall { id, name, arguments }, _) => {
                let (id, name) = (self.member("id", id), self.quoted(name.as_deref().unwrap_or_default()));
                let call = format!("\"server_tool_call\":{{\"type\":{name},\"arguments\":");
                (format!("{}{id},\"name\":{name},{call}", kind("server_tool_call")), Body::Json(arguments), "}")
            }
            (Part::ServerToolResponse { id, kind: of, response }, _) => {
                let (id, of) = (self.member("id", id), self.quoted(of));
                let result = format!("\"server_tool_call_response\":{{\"type\":{of},\"response\":");
                (format!("{}{id},{result}", kind("server_tool_call_response")), Body::Text(response), "}")
            }
            (Part::Uri { modality, uri }, _) => {
                (format!("{},\"modality\":\"{modality}\",\"uri\":", kind("uri")), Body::Uri(uri), "")
            }
            (Part::File { modality, id }, _) => {
                let id = self.quoted(id);
                (format!("{},\"modality\":\"{modality}\",\"file_id\":{id}", kind("file")), Body::None, "")
            }
            (Part::Blob { modality, mime, size }, _) => {
                let mime = self.member("mime_type", mime);
                let size = size.map_or_else(String::new, |size| format!(",\"size\":{size}"));
                (format!("{},\"modality\":\"{modality}\",\"content\":\"\"{mime}{size}", kind("blob")), Body::None, "")
            }
            (Part::Generic { kind }, _) => (format!("{{\"type\":{}", self.quoted(kind)), Body::None, ""),
        };
        self.object(&head, body, close, limit)
    }

    /// Writes an object that `head` begins, with `body` as its last value.
    fn object(&mut self, head: &str, body: Body<'_>, close: &str, limit: usize) -> bool {
        let start = self.out.len();
        let fixed = start + head.len() + close.len() + "}".len();
        let quotes = if matches!(body, Body::None) { 0 } else { 2 };
        let Some(room) = limit.checked_sub(fixed + quotes) else { return false };
        self.out.push_str(head);
        let whole = match body {
            Body::None => Some(true),
            Body::Text(text) => self.string(text, room),
            Body::Uri(uri) => {
                let end = uri.text.find(['?', '#']);
                let text = uri.text.get(..end.unwrap_or(uri.text.len())).unwrap_or_default();
                self.string(
                    &Clipped { text: text.to_owned(), cut: uri.cut && end.is_none(), ..Clipped::default() },
                    room,
                )
            }
            Body::Json(json) => self.json(json, room, quotes),
        };
        // Not even that something is missing would fit.
        let Some(whole) = whole else {
            self.out.truncate(start);
            return false;
        };
        self.out.push_str(close);
        if !whole {
            self.out.push_str(TRUNCATED);
        }
        self.out.push('}');
        whole
    }

    /// Writes a JSON string of at most `room` bytes between its quotes, with room left to say that it was cut if it
    /// was. Says whether all of it is there; nothing, if it cannot even be said that it is not.
    fn string(&mut self, Clipped { text, cut, .. }: &Clipped, room: usize) -> Option<bool> {
        let short = room.checked_sub(TRUNCATED.len());
        let mut place = Place::begin(&mut self.out, if *cut { short? } else { room }, short);
        let end = if *cut { End::Cut } else { End::Whole };
        // JSON inside a text is redacted as what it is.
        if text.trim_ascii_start().starts_with(['{', '[']) {
            place.push(&self.redactor.redact_json(text, end));
        } else {
            let mut stream = Stream::new(self.redactor);
            let mut rest = text.as_str();
            while !rest.is_empty() && !place.full {
                let (block, tail) = rest.split_at(rest.floor_char_boundary(BLOCK));
                stream.push(block, &mut |piece| place.push(piece));
                rest = tail;
            }
            if !place.full {
                stream.finish(end, &mut |piece| place.push(piece));
            }
        }
        place.finish().map(|all| all && !cut)
    }

    /// Arguments are JSON in a string: unpacked when they are valid, so that a reader need not do it.
    fn json(&mut self, arguments: &Clipped, room: usize, quotes: usize) -> Option<bool> {
        if !arguments.cut {
            let json = self.redactor.redact_json(&arguments.text, End::Whole);
            if json.len() <= room + quotes && is_container(&json) {
                self.out.push_str(&json);
                return Some(true);
            }
        }
        self.string(arguments, room)
    }

    /// Writes one tool, without its details where they do not fit.
    fn tool(&mut self, tool: &Definition, limit: usize) -> bool {
        let Definition { kind, name, description, parameters } = tool;
        let kind = self.quoted(kind.as_deref().unwrap_or("function"));
        let head = format!("{{\"type\":{kind}{}", self.member("name", name));
        if self.out.len() + head.len() + "}".len() > limit {
            return false;
        }
        self.out.push_str(&head);
        let mut whole = true;
        if !description.text.is_empty() || description.cut {
            let start = self.out.len();
            self.out.push_str(",\"description\":");
            let room = limit.checked_sub(self.out.len() + "\"\"}".len());
            match room.and_then(|room| self.string(description, room)) {
                Some(true) => {}
                _ => {
                    self.out.truncate(start);
                    whole = false;
                }
            }
        }
        if !parameters.text.is_empty() || parameters.cut {
            let schema = self.redactor.redact_json(&parameters.text, End::Whole);
            let member = format!(",\"parameters\":{schema}");
            match !parameters.cut && self.out.len() + member.len() < limit && is_json(&schema) {
                true => self.out.push_str(&member),
                false => whole = false,
            }
        }
        self.out.push('}');
        whole
    }

    /// An id, a tool's name or another word with quotes: it loses credentials, its digits are no telephone number.
    fn quoted(&self, text: &str) -> String {
        quoted(&self.redactor.credentials(text))
    }

    /// `,"key":"word"`, or nothing.
    fn member(&self, key: &str, word: &Option<String>) -> String {
        word.as_ref().map_or_else(String::new, |word| format!(",\"{key}\":{}", self.quoted(word)))
    }
}

fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    text.chars().for_each(|c| escape(c, &mut out));
    out.push('"');
    out
}

fn is_container(text: &str) -> bool {
    text.trim_ascii_start().starts_with(['{', '[']) && is_json(text)
}

/// A JSON string while it is written into a bounded place.
struct Place<'o> {
    out: &'o mut String,
    /// Where it has to end.
    end: usize,
    /// Where it has to end if it is cut, to leave room to say so; absent where there is none.
    short: Option<usize>,
    /// Where it would be cut.
    safe: usize,
    /// Whether something did not fit.
    full: bool,
}

impl<'o> Place<'o> {
    fn begin(out: &'o mut String, room: usize, short: Option<usize>) -> Self {
        out.push('"');
        let start = out.len();
        Self { end: start + room, short: short.map(|short| start + short), safe: start, full: false, out }
    }

    fn push(&mut self, text: &str) {
        for c in text.chars() {
            escape(c, self.out);
            let len = self.out.len();
            if self.short.is_some_and(|short| len <= short) {
                self.safe = len;
            }
            if len > self.end {
                self.full = true;
                return;
            }
        }
    }

    /// Ends the string and says whether all of it is there; nothing, if there is no room to say that it is not.
    fn finish(self) -> Option<bool> {
        let Self { out, end: _, short, safe, full } = self;
        if full {
            out.truncate(short.map(|_| safe)?);
        }
        out.push('"');
        Some(!full)
    }
}

#[cfg(test)]
#[path = "render_tests.rs"]
mod tests;
