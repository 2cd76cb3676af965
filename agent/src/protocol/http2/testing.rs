//! A writer of frames for tests.

use super::{
    PREFACE,
    frame::{flag, kind},
    hpack::testing::{Encoder, Style},
};

/// One direction of a connection, written.
pub(crate) struct Writer {
    pub bytes: Vec<u8>,
    /// Where each frame begins.
    pub frames: Vec<usize>,
    encoder: Encoder,
    /// How fields are written.
    pub style: Style,
}

impl Writer {
    /// The server's direction.
    pub fn server() -> Self {
        let style = Style { index: true, index_name: true, insert: true, never: false, huffman: true };
        Self { bytes: Vec::new(), frames: Vec::new(), encoder: Encoder::new(), style }
    }

    /// The client's direction, with its preface.
    pub fn client() -> Self {
        Self { bytes: PREFACE.to_vec(), ..Self::server() }
    }

    /// Any frame.
    pub fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> &mut Self {
        self.frames.push(self.bytes.len());
        self.bytes.extend(&(payload.len() as u32).to_be_bytes()[1..]);
        self.bytes.extend([kind, flags]);
        self.bytes.extend(stream.to_be_bytes());
        self.bytes.extend(payload);
        self
    }

    /// Settings.
    pub fn settings(&mut self, settings: &[(u16, u32)]) -> &mut Self {
        let bytes = settings.iter().flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat());
        self.frame(kind::SETTINGS, 0, 0, &bytes.collect::<Vec<_>>())
    }

    /// A header block.
    pub fn block(&mut self, fields: &[(&str, &str)]) -> Vec<u8> {
        let mut block = Vec::new();
        for (name, value) in fields {
            self.encoder.field(name, value, self.style, &mut block);
        }
        block
    }

    /// A head in one frame.
    pub fn headers(&mut self, stream: u32, ends: bool, fields: &[(&str, &str)]) -> &mut Self {
        let block = self.block(fields);
        self.frame(kind::HEADERS, flag::END_HEADERS | u8::from(ends), stream, &block)
    }

    /// A POST.
    pub fn post(&mut self, stream: u32, path: &str) -> &mut Self {
        let fields = [
            (":method", "POST"),
            (":scheme", "https"),
            (":authority", "api.example"),
            (":path", path),
            ("authorization", "Bearer canary"),
            ("content-type", "application/json"),
        ];
        self.headers(stream, false, &fields)
    }

    /// The head of an event stream.
    pub fn ok(&mut self, stream: u32) -> &mut Self {
        self.headers(stream, false, &[(":status", "200"), ("content-type", "text/event-stream")])
    }

    /// A piece of a body.
    pub fn data(&mut self, stream: u32, ends: bool, bytes: &[u8]) -> &mut Self {
        self.frame(kind::DATA, u8::from(ends), stream, bytes)
    }
}
