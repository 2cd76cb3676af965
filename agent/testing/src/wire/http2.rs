//! HTTP/2 (RFC 9113). Heads are written without compression: literal fields that are not indexed (RFC 7541 section
//! 6.2.2).

/// What a client sends first (RFC 9113 section 3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Types of frame.
pub mod kind {
    /// A piece of a body.
    pub const DATA: u8 = 0;
    /// A head, or its beginning.
    pub const HEADERS: u8 = 1;
    /// Settings of the connection.
    pub const SETTINGS: u8 = 4;
    /// The rest of a head.
    pub const CONTINUATION: u8 = 9;
}

/// `END_STREAM`.
pub const END_STREAM: u8 = 1;
/// `END_HEADERS`.
pub const END_HEADERS: u8 = 4;

/// One frame.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    out.extend([kind, flags]);
    out.extend(stream.to_be_bytes());
    out.extend(payload);
    out
}

/// A header block.
pub fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in fields {
        out.push(0);
        for text in [name, value] {
            integer(text.len(), 7, &mut out);
            out.extend(text.as_bytes());
        }
    }
    out
}

/// An integer with a prefix of so many bits (RFC 7541 section 5.1); the bits before it are zero.
pub fn integer(value: usize, prefix: u32, out: &mut Vec<u8>) {
    let limit = (1 << prefix) - 1;
    if value < limit {
        out.push(value as u8);
        return;
    }
    out.push(limit as u8);
    let mut rest = value - limit;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// A message in pieces: the head, each piece of the body in a frame, and the frame that ends the stream.
pub fn message(stream: u32, fields: &[(&str, &str)], body: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut out = vec![frame(kind::HEADERS, END_HEADERS, stream, &block(fields))];
    let data = |piece: &Vec<u8>| if piece.is_empty() { Vec::new() } else { frame(kind::DATA, 0, stream, piece) };
    out.extend(body.iter().map(data));
    out.push(frame(kind::DATA, END_STREAM, stream, &[]));
    out
}
