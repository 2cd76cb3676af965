//! Messages for tests.

use super::crc;

/// A message with these string headers.
pub(crate) fn encode(headers: &[(&str, &str)], payload: &[u8]) -> Vec<u8> {
    let section: Vec<u8> = headers.iter().flat_map(|(name, value)| string(name, value)).collect();
    encode_raw(&section, payload)
}

/// A header that is a string.
pub(crate) fn string(name: &str, value: &str) -> Vec<u8> {
    [&[name.len() as u8], name.as_bytes(), &[7], &(value.len() as u16).to_be_bytes(), value.as_bytes()].concat()
}

/// A message with this header section.
pub(crate) fn encode_raw(headers: &[u8], payload: &[u8]) -> Vec<u8> {
    let total = (16 + headers.len() + payload.len()) as u32;
    let mut out = [total.to_be_bytes(), (headers.len() as u32).to_be_bytes()].concat();
    out.extend(crc(&[&out]).to_be_bytes());
    out.extend_from_slice(headers);
    out.extend_from_slice(payload);
    out.extend(crc(&[&out]).to_be_bytes());
    out
}
