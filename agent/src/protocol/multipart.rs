//! Forms in several parts (`multipart/form-data`, RFC 7578, in the syntax of RFC 2046 section 5.1): bytes in, fields out.
//!
//! Owns where a part begins and ends, its name and its text up to a cap. Files are passed over, however long they are. The
//! boundary is taken from the body's first line, so that the header which names it need not be known. Leaves to others what
//! a field means.

use memchr::memchr;

/// Longest boundary, RFC 2046 section 5.1.1.
const MAX_BOUNDARY: usize = 70;

/// Most bytes of one part's header lines. Browsers and libraries write fewer than 300.
const MAX_HEAD: usize = 4096;

/// One part of the form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field<'a> {
    /// Text.
    Text {
        /// Name of the field.
        name: &'a str,
        /// The beginning of the value, with what is not UTF-8 replaced.
        text: &'a str,
        /// Whether the value was longer.
        truncated: bool,
    },
    /// A file, which is told of where it begins.
    File {
        /// Name of the field.
        name: &'a str,
    },
}

/// Reads one form.
#[derive(Debug)]
pub struct Parser {
    max_text: usize,
    state: State,
    /// Line end, two hyphens and the boundary.
    delimiter: Vec<u8>,
    /// How much of the delimiter the last bytes are.
    matched: usize,
    /// The first line, or the header lines of a part.
    head: Vec<u8>,
    part: Part,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Before the first line's end.
    First,
    Head,
    Body,
    /// Behind a delimiter: a line end, or two hyphens and nothing more. Holds how many hyphens came.
    Behind(u8),
    Complete,
    Broken(&'static str),
}

#[derive(Debug, Default)]
struct Part {
    name: String,
    is_file: bool,
    value: Vec<u8>,
    truncated: bool,
}

impl Parser {
    /// A parser that hands out at most `max_text` bytes of a value.
    pub fn new(max_text: usize) -> Self {
        Self {
            max_text,
            state: State::First,
            delimiter: Vec::new(),
            matched: 0,
            head: Vec::new(),
            part: Part::default(),
        }
    }

    /// Whether the last delimiter has come.
    pub fn is_complete(&self) -> bool {
        self.state == State::Complete
    }

    /// Why this is no form.
    pub fn malformed(&self) -> Option<&'static str> {
        match self.state {
            State::Broken(reason) => Some(reason),
            _ => None,
        }
    }

    /// Takes the next bytes.
    pub fn push(&mut self, mut bytes: &[u8], sink: &mut dyn FnMut(Field<'_>)) {
        while let Some((&byte, tail)) = bytes.split_first() {
            bytes = match self.state {
                State::First => {
                    self.first(byte);
                    tail
                }
                State::Head => {
                    self.head(byte, sink);
                    tail
                }
                State::Body => self.body(bytes, sink),
                State::Behind(hyphens) => {
                    self.state = match (byte, hyphens) {
                        (b'-', 1) => State::Complete,
                        (b'-', 0) => State::Behind(1),
                        (b'\n', 0) => State::Head,
                        (b' ' | b'\t' | b'\r', 0) => State::Behind(0),
                        _ => State::Broken("bad end of a form's delimiter"),
                    };
                    tail
                }
                State::Complete | State::Broken(_) => return,
            };
        }
    }

    /// The body is over.
    pub fn finish(&mut self) {
        if !matches!(self.state, State::Complete | State::Broken(_)) {
            self.state = State::Broken("unfinished form");
        }
    }

    fn first(&mut self, byte: u8) {
        if byte != b'\n' {
            if self.head.len() > MAX_BOUNDARY + "--\r".len() {
                self.state = State::Broken("boundary too long");
            } else {
                self.head.push(byte);
            }
            return;
        }
        let line = self.head.trim_ascii();
        // The delimiter's own line end belongs to it, and before the first there may be one that is empty.
        if line.is_empty() {
            self.head.clear();
        } else if line.starts_with(b"--") {
            self.delimiter = [b"\r\n", line].concat();
            self.head.clear();
            self.state = State::Head;
        } else {
            self.state = State::Broken("a form without a boundary");
        }
    }

    fn head(&mut self, byte: u8, sink: &mut dyn FnMut(Field<'_>)) {
        if self.head.len() >= MAX_HEAD {
            self.state = State::Broken("a part's head is too long");
            return;
        }
        self.head.push(byte);
        let is_over = self.head.ends_with(b"\n\r\n") || self.head.ends_with(b"\n\n");
        if !is_over && self.head != b"\r\n" && self.head != b"\n" {
            return;
        }
        let head = String::from_utf8_lossy(&self.head);
        let (name, is_file) = disposition(&head);
        self.part = Part { name, is_file, ..Part::default() };
        self.head.clear();
        self.state = State::Body;
        if self.part.is_file {
            sink(Field::File { name: &self.part.name });
        }
    }

    /// Takes bytes of a part's value up to the delimiter, and gives back what comes after.
    fn body<'b>(&mut self, bytes: &'b [u8], sink: &mut dyn FnMut(Field<'_>)) -> &'b [u8] {
        let Self { delimiter, matched, part, max_text, .. } = self;
        let mut rest = bytes;
        while let Some((&byte, tail)) = rest.split_first() {
            if *matched == 0 {
                let until = memchr(b'\r', rest).unwrap_or(rest.len());
                let (value, found) = rest.split_at(until);
                part.take(value, *max_text);
                rest = found;
                if !found.is_empty() {
                    *matched = 1;
                    rest = &found[1..];
                }
                continue;
            }
            if delimiter.get(*matched) == Some(&byte) {
                *matched += 1;
                rest = tail;
                if *matched == delimiter.len() {
                    *matched = 0;
                    part.end(sink);
                    self.state = State::Behind(0);
                    return rest;
                }
            } else {
                // No other byte of the delimiter is a carriage return: what matched is value, and this byte may begin anew.
                part.take(delimiter.get(..*matched).unwrap_or_default(), *max_text);
                *matched = 0;
            }
        }
        rest
    }
}

impl Part {
    fn take(&mut self, bytes: &[u8], max: usize) {
        if self.is_file {
            return;
        }
        let fits = bytes.len().min(max.saturating_sub(self.value.len()));
        self.value.extend_from_slice(bytes.get(..fits).unwrap_or_default());
        self.truncated |= fits < bytes.len();
    }

    fn end(&mut self, sink: &mut dyn FnMut(Field<'_>)) {
        let Self { name, is_file, value, truncated } = std::mem::take(self);
        if !is_file {
            let text = String::from_utf8_lossy(&value);
            // The cap may have cut a character.
            let text = if truncated { text.trim_end_matches(char::REPLACEMENT_CHARACTER) } else { &text };
            sink(Field::Text { name: &name, text, truncated });
        }
    }
}

/// The name of a part, and whether it is a file.
fn disposition(head: &str) -> (String, bool) {
    let (mut name, mut is_file) = (String::new(), false);
    for line in head.lines() {
        let Some((key, value)) = line.split_once(':') else { continue };
        if !key.trim().eq_ignore_ascii_case("content-disposition") {
            continue;
        }
        for parameter in value.split(';').skip(1) {
            let Some((key, value)) = parameter.split_once('=') else { continue };
            match key.trim().to_ascii_lowercase().as_str() {
                "name" => name = value.trim().trim_matches('"').to_owned(),
                "filename" | "filename*" => is_file = true,
                _ => {}
            }
        }
    }
    (name, is_file)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FORM: &str = "--XX\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nwhisper-1\r\n--XX\r\n\
        content-disposition: form-data; name=\"file\"; filename=\"a;b.wav\"\r\nContent-Type: audio/wav\r\n\r\n\
        RIFF\r\n--X\r\r\n--XY\r\n--XX \t\r\nContent-Disposition: form-data; name=\"prompt\"\r\n\r\n\r\n--XX\r\n\
        Content-Disposition: form-data; name=\"stop\"\r\n\r\n\r\n-\r\n--XX--\r\nepilogue";

    fn read(bytes: &[u8], size: usize, max_text: usize) -> (Vec<String>, Parser) {
        let mut parser = Parser::new(max_text);
        let mut fields = Vec::new();
        for piece in bytes.chunks(size) {
            parser.push(piece, &mut |field| fields.push(format!("{field:?}")));
        }
        parser.finish();
        (fields, parser)
    }

    fn text(name: &str, text: &str, truncated: bool) -> String {
        format!("{:?}", Field::Text { name, text, truncated })
    }

    #[test]
    fn fields_are_told_and_files_passed_over() {
        for size in [1, 2, 7, usize::MAX] {
            let (fields, parser) = read(FORM.as_bytes(), size, 1_000);
            let file = format!("{:?}", Field::File { name: "file" });
            let expect =
                [text("model", "whisper-1", false), file, text("prompt", "", false), text("stop", "\r\n-", false)];
            assert_eq!(fields, expect, "in pieces of {size}");
            assert!(parser.is_complete() && parser.malformed().is_none());
        }
    }

    #[test]
    fn long_values_are_cut_and_files_are_not_kept() {
        let form = format!("--b\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n{}\r\n--b--", "x".repeat(5_000));
        assert_eq!(read(form.as_bytes(), 512, 9).0, [text("a", "xxxxxxxxx", true)]);
        let mut parser = Parser::new(9);
        parser.push(b"--b\r\nContent-Disposition: form-data; name=\"a\"; filename=\"f\"\r\n\r\n", &mut |_| {});
        (0..1_000).for_each(|_| parser.push(&[b'\r'; 4096], &mut |_| {}));
        assert!(parser.part.value.capacity() + parser.head.capacity() < 8_192);
    }

    #[test]
    fn what_is_no_form_is_said() {
        let of = |bytes: &[u8]| read(bytes, 3, 100).1.malformed();
        assert_eq!(of(b"--b\r\nContent"), Some("unfinished form"));
        assert_eq!(of(b"{\"a\":\n1}"), Some("a form without a boundary"));
        assert_eq!(of(&[b'-'; 200]), Some("boundary too long"));
        assert_eq!(of(&[b"--b\r\n".as_slice(), &[b'x'; 5_000]].concat()), Some("a part's head is too long"));
        assert_eq!(of(b"--b\r\n\r\nv\r\n--bx"), Some("bad end of a form's delimiter"));
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same(bytes in "[-bX\r\n;=\"a-z]{0,200}", size in 1usize..40) {
            let bytes = format!("{}{bytes}", &FORM[..60]);
            let (fields, parser) = read(bytes.as_bytes(), size, 20);
            let (whole, expect) = read(bytes.as_bytes(), usize::MAX, 20);
            prop_assert_eq!((fields, parser.malformed()), (whole, expect.malformed()));
        }
    }
}
