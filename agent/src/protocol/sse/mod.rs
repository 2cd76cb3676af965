//! Server-sent events: the event stream of the WHATWG HTML standard, section 9.2.6.
//!
//! Owns lines, fields and the blank line that ends an event. Knows nothing of what the data holds, and ignores
//! `id` and `retry`, which steer reconnection. Differs from the standard in three points: the last event of a
//! stream counts without its blank line (see [`Parser::finish`]), data is handed out as bytes without UTF-8
//! repair, since a JSON scanner does its own, and an event has a size limit.
//!
//! To take one more field: recognise it in `Parser::line`, keep its value beside the event's name, count it in
//! `Parser::held`, forget it in `Parser::drop_event` and hand it out in [`Event`].

#[cfg(test)]
mod tests;

use memchr::{memchr, memchr2};

/// How much of a buffer is kept for the next event: a thousand streams must not each hold on to the size of their
/// largest one.
const KEEP: usize = 16 * 1024;

/// What a stream is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item<'a> {
    /// An event with at least one `data` field.
    Event(Event<'a>),
    /// A line that begins with a colon. Servers send them to keep the connection open.
    Comment,
    /// An event, or one of its lines, was larger than the limit and has been passed over: so many bytes of lines.
    Oversize(u64),
    /// The stream ended inside a line.
    Unfinished,
}

/// One event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// The `event` field, unless absent or empty.
    pub event: Option<&'a str>,
    /// The values of the `data` fields, joined by line feeds.
    pub data: &'a [u8],
}

/// Parser of one event stream.
pub struct Parser {
    max_event: usize,
    mode: Mode,
    /// Bytes of a byte order mark seen at the start of the stream; `BOM.len()` when that is settled.
    bom: usize,
    /// The last push ended in a carriage return: a line feed at the start of the next belongs to it.
    after_cr: bool,
    /// Beginning of a line whose end has not come yet.
    line: Vec<u8>,
    name: String,
    data: Vec<u8>,
    has_data: bool,
    /// Bytes of the event's lines so far, for [`Item::Oversize`].
    seen: u64,
    /// Whether what is passed over outgrew the limit and is to be reported.
    oversize: bool,
}

const BOM: &[u8] = b"\xEF\xBB\xBF";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Take,
    /// Passing over lines up to the next blank one.
    Skip,
    /// As `Skip`, but the line at hand lost its beginning: that it looks blank means nothing.
    SkipTorn,
}

impl Parser {
    /// A parser that holds at most `max_event` bytes of an event.
    pub fn new(max_event: usize) -> Self {
        Self {
            max_event,
            mode: Mode::Take,
            bom: 0,
            after_cr: false,
            line: Vec::new(),
            name: String::new(),
            data: Vec::new(),
            has_data: false,
            seen: 0,
            oversize: false,
        }
    }

    /// Takes the next bytes of the stream.
    pub fn push(&mut self, bytes: &[u8], sink: &mut dyn FnMut(Item<'_>)) {
        let mut rest = self.strip_bom(bytes);
        if self.after_cr && !rest.is_empty() {
            self.after_cr = false;
            rest = rest.strip_prefix(b"\n").unwrap_or(rest);
        }
        // Data of the event at hand when it is one line of this push, which most events are: not copied.
        let mut direct: Option<&[u8]> = None;
        while let Some(end) = memchr2(b'\n', b'\r', rest) {
            let (line, line_end) = (&rest[..end], rest[end]);
            rest = &rest[end + 1..];
            if line_end == b'\r' {
                self.after_cr = rest.is_empty();
                rest = rest.strip_prefix(b"\n").unwrap_or(rest);
            }
            if !self.line.is_empty() {
                self.hold(line);
                let held = std::mem::take(&mut self.line);
                match self.line(&held, 0, sink) {
                    Line::Data(value) => self.append(value),
                    Line::Blank => self.dispatch(None, sink),
                    Line::Oversize | Line::Other => {}
                }
                self.line = held;
                recycle(&mut self.line);
                continue;
            }
            match self.line(line, direct.map_or(0, <[u8]>::len), sink) {
                Line::Data(value) if direct.is_none() && !self.has_data => direct = Some(value),
                Line::Data(value) => {
                    direct.take().into_iter().for_each(|first| self.append(first));
                    self.append(value);
                }
                Line::Blank => self.dispatch(direct.take(), sink),
                Line::Oversize => direct = None,
                Line::Other => {}
            }
        }
        direct.into_iter().for_each(|value| self.append(value));
        self.hold(rest);
    }

    /// Bytes are missing here. The event under construction is dropped and everything up to the next blank line
    /// passed over: what comes out after a gap is never a torn event.
    pub fn gap(&mut self) {
        self.drop_event();
        (self.mode, self.bom, self.after_cr) = (Mode::SkipTorn, BOM.len(), false);
        if !self.oversize {
            self.seen = 0;
        }
    }

    /// The stream is over; the parser is ready for another one. The standard discards an event whose blank line is
    /// missing. Servers exist that leave it out after their last event, and clients exist that go by lines: such
    /// an event is handed out when all its lines are whole, and is [`Item::Unfinished`] when the last one is not.
    pub fn finish(&mut self, sink: &mut dyn FnMut(Item<'_>)) {
        if self.mode == Mode::Take && !self.line.is_empty() && !self.line.starts_with(b":") {
            sink(Item::Unfinished);
            self.drop_event();
        }
        self.dispatch(None, sink);
        (self.bom, self.after_cr) = (0, false);
    }

    /// Takes the byte order mark off the start of the stream.
    fn strip_bom<'b>(&mut self, mut bytes: &'b [u8]) -> &'b [u8] {
        while let (Some(expect), Some(byte)) = (BOM.get(self.bom), bytes.first()) {
            if byte == expect {
                self.bom += 1;
                bytes = &bytes[1..];
            } else {
                let text = &BOM[..self.bom];
                self.bom = BOM.len();
                self.hold(text);
            }
        }
        bytes
    }

    /// Handles a whole line, but leaves the event's data to the caller, who holds `direct` bytes of it.
    fn line<'l>(&mut self, line: &'l [u8], direct: usize, sink: &mut dyn FnMut(Item<'_>)) -> Line<'l> {
        if self.mode == Mode::SkipTorn {
            self.mode = Mode::Skip;
            self.seen += line.len() as u64;
            return Line::Other;
        }
        if line.is_empty() {
            return Line::Blank;
        }
        if self.mode == Mode::Take && self.held() + direct + line.len() > self.max_event {
            self.outgrow();
            self.seen += line.len() as u64;
            return Line::Oversize;
        }
        if self.mode == Mode::Take && line[0] == b':' {
            sink(Item::Comment);
            return Line::Other;
        }
        self.seen += line.len() as u64;
        if self.mode != Mode::Take {
            return Line::Other;
        }
        let (field, value) = match memchr(b':', line) {
            Some(colon) => (&line[..colon], &line[colon + 1..]),
            None => (line, &[][..]),
        };
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match field {
            b"data" => Line::Data(value),
            b"event" => {
                self.name.clear();
                self.name.push_str(&String::from_utf8_lossy(value));
                Line::Other
            }
            _ => Line::Other,
        }
    }

    /// A blank line, or the stream's end: the event is whole.
    fn dispatch(&mut self, direct: Option<&[u8]>, sink: &mut dyn FnMut(Item<'_>)) {
        if std::mem::take(&mut self.oversize) {
            // What is still in `line` at the stream's end was never more than torn.
            sink(Item::Oversize(self.seen));
        } else if direct.is_some() || self.has_data {
            let event = Some(self.name.as_str()).filter(|name| !name.is_empty());
            sink(Item::Event(Event { event, data: direct.unwrap_or(&self.data) }));
        }
        (self.mode, self.seen) = (Mode::Take, 0);
        self.drop_event();
    }

    /// Keeps the beginning of a line. Of a line that is passed over it only matters that it is not blank.
    fn hold(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        if self.mode == Mode::Take && self.held() + self.line.len() + bytes.len() > self.max_event {
            self.seen += self.line.len() as u64;
            self.outgrow();
        }
        if self.mode == Mode::Take {
            self.line.extend_from_slice(bytes);
        } else {
            self.seen += bytes.len() as u64;
            self.mode = Mode::SkipTorn;
        }
    }

    /// What is held of the event, the line at hand not counted.
    fn held(&self) -> usize {
        self.name.len() + self.data.len()
    }

    fn append(&mut self, value: &[u8]) {
        if std::mem::replace(&mut self.has_data, true) {
            self.data.push(b'\n');
        }
        self.data.extend_from_slice(value);
    }

    fn outgrow(&mut self) {
        (self.mode, self.oversize) = (Mode::Skip, true);
        self.drop_event();
    }

    fn drop_event(&mut self) {
        self.has_data = false;
        self.name.clear();
        recycle(&mut self.data);
        recycle(&mut self.line);
    }
}

/// What a line turned out to be.
enum Line<'l> {
    Blank,
    Data(&'l [u8]),
    /// It does not fit: the event is passed over from here.
    Oversize,
    /// Nothing that is left to do.
    Other,
}

fn recycle(buffer: &mut Vec<u8>) {
    buffer.clear();
    buffer.shrink_to(KEEP);
}
