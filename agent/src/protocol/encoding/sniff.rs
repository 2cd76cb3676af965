//! What a body's first bytes say of its coding.

use super::Coding;

/// Longest beginning that is looked at: the longest pattern below.
pub(super) const LOOKED_AT: usize = 6;

/// How bodies of the formats with a magic number begin. RFC 1952 section 2.3.1 (with the only method there is) and
/// RFC 8878 section 3.1.1. No JSON or event stream begins so, and no deflate data.
const MAGIC: [(&[u8], Coding); 2] = [(b"\x1f\x8b\x08", Coding::Gzip), (b"\x28\xb5\x2f\xfd", Coding::Zstd)];

/// How JSON and event streams begin. The formats without a magic number begin so only by a rare chance, which is
/// rarer than a server's wrong label.
const TEXT: [&[u8]; 8] = [b"{\"", b"{}", b"{\n", b"{\r", b"{ ", b"[{\"", b"data:", b"event:"];

/// What the first bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// Encoded in this way.
    Coded(Coding),
    /// Not encoded.
    Plain,
    /// Too few to tell.
    Unsure,
}

/// Looks at the first bytes of a body with this label.
pub(super) fn look(start: &[u8], label: Option<Coding>) -> Look {
    let text = match label {
        Some(Coding::Deflate | Coding::Br) => &TEXT[..],
        Some(Coding::Gzip | Coding::Zstd) | None => &[],
    };
    if let Some((_, coding)) = MAGIC.iter().find(|(magic, _)| start.starts_with(magic)) {
        return Look::Coded(*coding);
    }
    if text.iter().any(|text| start.starts_with(text)) {
        return Look::Plain;
    }
    let mut patterns = MAGIC.iter().map(|(magic, _)| *magic).chain(text.iter().copied());
    match label {
        _ if patterns.any(|pattern| pattern.starts_with(start)) => Look::Unsure,
        // Which of deflate's two forms it is takes two bytes.
        Some(Coding::Deflate) if start.len() < 2 => Look::Unsure,
        Some(coding @ (Coding::Deflate | Coding::Br)) => Look::Coded(coding),
        Some(Coding::Gzip | Coding::Zstd) | None => Look::Plain,
    }
}
