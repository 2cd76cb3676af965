//! HTTP/1.1 (RFC 9112).

/// How a body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// `Content-Length`.
    Length,
    /// `Transfer-Encoding: chunked`, a chunk for each piece.
    Chunked,
    /// With the connection.
    UntilClose,
}

/// A message in pieces: the head, each piece of the body in its framing, and what ends the framing, which may be empty.
pub fn message(start: &str, fields: &[(&str, &str)], framing: Framing, body: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut head = format!("{start}\r\n");
    for (name, value) in fields {
        head += &format!("{name}: {value}\r\n");
    }
    let (field, end) = match framing {
        Framing::Length => (format!("content-length: {}\r\n", body.iter().map(Vec::len).sum::<usize>()), ""),
        Framing::Chunked => ("transfer-encoding: chunked\r\n".to_owned(), "0\r\n\r\n"),
        Framing::UntilClose => ("connection: close\r\n".to_owned(), ""),
    };
    let mut out = vec![(head + &field + "\r\n").into_bytes()];
    out.extend(body.iter().map(|piece| if framing == Framing::Chunked { chunk(piece) } else { piece.clone() }));
    out.push(end.as_bytes().to_vec());
    out
}

/// One chunk, nothing for an empty piece.
pub fn chunk(piece: &[u8]) -> Vec<u8> {
    if piece.is_empty() {
        return Vec::new();
    }
    [format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat()
}
