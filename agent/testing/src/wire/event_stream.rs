//! AWS event streams (`application/vnd.amazon.eventstream`), and gRPC's framing, which is simpler still.

use flate2::Crc;

/// A message with these string headers.
pub fn message(headers: &[(&str, &str)], payload: &[u8]) -> Vec<u8> {
    let mut section = Vec::new();
    for (name, value) in headers {
        section.push(name.len() as u8);
        section.extend(name.as_bytes());
        section.push(7);
        section.extend((value.len() as u16).to_be_bytes());
        section.extend(value.as_bytes());
    }
    let total = (16 + section.len() + payload.len()) as u32;
    let mut out = [total.to_be_bytes(), (section.len() as u32).to_be_bytes()].concat();
    out.extend(crc(&out).to_be_bytes());
    out.extend(section);
    out.extend(payload);
    out.extend(crc(&out).to_be_bytes());
    out
}

/// An event as Bedrock sends it.
pub fn event(name: &str, payload: &str) -> Vec<u8> {
    let headers = [(":event-type", name), (":content-type", "application/json"), (":message-type", "event")];
    message(&headers, payload.as_bytes())
}

/// A gRPC message: not compressed, and its length before it.
pub fn grpc(message: &[u8]) -> Vec<u8> {
    [&[0][..], &(message.len() as u32).to_be_bytes(), message].concat()
}

fn crc(bytes: &[u8]) -> u32 {
    let mut crc = Crc::new();
    crc.update(bytes);
    crc.sum()
}
