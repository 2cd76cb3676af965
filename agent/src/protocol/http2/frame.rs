//! A frame's header, and what may be one (RFC 9113 sections 4.1 and 6).

/// Bytes of a frame's header.
pub(super) const HEADER: usize = 9;

/// Payload that everybody takes (RFC 9113 section 4.2).
pub(super) const DEFAULT_SIZE: u32 = 16_384;

/// Largest payload that a length can say.
pub(super) const LARGEST_SIZE: u32 = (1 << 24) - 1;

/// Largest payload of a frame that is taken for one where nothing said that one begins. Go's servers ask for frames of
/// 1 MiB.
const MAX_SOUGHT: u32 = 1 << 20;

/// Highest stream of such a frame: a client's eight millionth. Text at the place of a stream's number is above it.
const MAX_SOUGHT_STREAM: u32 = (1 << 24) - 1;

/// Types of frames.
pub(super) mod kind {
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const PRIORITY: u8 = 2;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const PUSH_PROMISE: u8 = 5;
    pub const PING: u8 = 6;
    pub const GOAWAY: u8 = 7;
    pub const WINDOW_UPDATE: u8 = 8;
    pub const CONTINUATION: u8 = 9;
    /// RFC 9218 section 7.1.
    pub const PRIORITY_UPDATE: u8 = 0x10;
}

/// Flags. `ACK` is that of `SETTINGS` and `PING`.
pub(super) mod flag {
    pub const END_STREAM: u8 = 0x1;
    pub const ACK: u8 = 0x1;
    pub const END_HEADERS: u8 = 0x4;
    pub const PADDED: u8 = 0x8;
    pub const PRIORITY: u8 = 0x20;
}

/// A frame's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    /// Bytes of the payload.
    pub len: u32,
}

impl Frame {
    /// Reads a header. The reserved bit is ignored.
    pub fn parse(bytes: [u8; HEADER]) -> Self {
        let [a, b, c, kind, flags, s0, s1, s2, s3] = bytes;
        let stream = u32::from_be_bytes([s0 & 0x7f, s1, s2, s3]);
        Self { kind, flags, stream, len: u32::from_be_bytes([0, a, b, c]) }
    }

    /// Whether a flag is set.
    pub fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Bytes at the start of the payload that have to be whole before anything else is looked at. Each setting is such.
    pub fn prefix(&self) -> usize {
        let if_set = |flag, bytes| if self.has(flag) { bytes } else { 0 };
        match self.kind {
            kind::DATA => if_set(flag::PADDED, 1),
            kind::HEADERS => if_set(flag::PADDED, 1) + if_set(flag::PRIORITY, 5),
            kind::PUSH_PROMISE => if_set(flag::PADDED, 1) + 4,
            kind::RST_STREAM => 4,
            kind::GOAWAY => 8,
            kind::SETTINGS if self.len > 0 => 6,
            _ => 0,
        }
    }

    /// Whether a receiver takes it: frames that break these rules end the connection (RFC 9113 section 6).
    pub fn is_legal(&self) -> bool {
        let (on_stream, len) = (self.stream != 0, self.len);
        match self.kind {
            kind::DATA | kind::HEADERS | kind::PUSH_PROMISE => on_stream && len as usize >= self.prefix(),
            kind::CONTINUATION => on_stream,
            kind::PRIORITY => on_stream && len == 5,
            kind::RST_STREAM => on_stream && len == 4,
            kind::SETTINGS => !on_stream && len % 6 == 0 && (len == 0 || !self.has(flag::ACK)),
            kind::PING => !on_stream && len == 8,
            kind::GOAWAY => !on_stream && len >= 8,
            kind::WINDOW_UPDATE => len == 4,
            // Unknown ones are ignored (RFC 9113 section 5.5).
            _ => true,
        }
    }

    /// Whether it is one that programs send: a legal one of a known type, with the flags of its type, on a stream that
    /// a client has opened.
    fn is_usual(&self) -> bool {
        let flags = match self.kind {
            kind::DATA => flag::END_STREAM | flag::PADDED,
            kind::HEADERS => flag::END_STREAM | flag::END_HEADERS | flag::PADDED | flag::PRIORITY,
            kind::SETTINGS | kind::PING => flag::ACK,
            kind::PUSH_PROMISE => flag::END_HEADERS | flag::PADDED,
            kind::CONTINUATION => flag::END_HEADERS,
            kind::PRIORITY | kind::RST_STREAM | kind::GOAWAY | kind::WINDOW_UPDATE | kind::PRIORITY_UPDATE => 0,
            _ => return false,
        };
        let is_clients = self.stream == 0 || (self.stream % 2 == 1 && self.stream <= MAX_SOUGHT_STREAM);
        self.flags & !flags == 0 && is_clients && self.len <= MAX_SOUGHT && self.is_legal()
    }
}

/// What stands at a place where frames may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// Frames.
    Frames,
    /// The header of a frame that goes on for so many bytes behind what is here: the next header will tell.
    Perhaps(u64),
    /// The header of a frame of so many bytes, and nothing else.
    Alone(u64),
    /// No frame.
    Nothing,
}

/// Looks for frames at the start of `bytes`. One header proves little; a second one behind it, or an end where `bytes`
/// end, does, because programs write frames whole.
pub(super) fn look(bytes: &[u8]) -> Look {
    let (mut rest, mut found) = (bytes, 0);
    loop {
        let Some((header, payload)) = rest.split_first_chunk::<HEADER>() else {
            return if found > 0 { Look::Frames } else { Look::Nothing };
        };
        let frame = Frame::parse(*header);
        if !frame.is_usual() {
            return Look::Nothing;
        }
        found += 1;
        match payload.split_at_checked(frame.len as usize) {
            Some((_, [])) => return Look::Frames,
            Some((_, next)) => rest = next,
            None if found > 1 => return Look::Frames,
            None if payload.is_empty() => return Look::Alone(frame.len.into()),
            None => return Look::Perhaps(u64::from(frame.len) - payload.len() as u64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(len: u32, kind: u8, flags: u8, stream: u32) -> Vec<u8> {
        [&len.to_be_bytes()[1..], &[kind, flags], &stream.to_be_bytes()].concat()
    }

    #[test]
    fn frames_are_found_where_a_second_one_or_the_end_agrees() {
        let data = [header(3, kind::DATA, 0, 1), b"abc".to_vec()].concat();
        let cut = header(100, kind::DATA, 0, 3);
        for (bytes, expect) in [
            (data.clone(), Look::Frames),
            ([data.clone(), data.clone()].concat(), Look::Frames),
            ([&data[..], &cut, b"ab"].concat(), Look::Frames),
            ([&data[..], &cut[..4]].concat(), Look::Frames),
            (cut.clone(), Look::Alone(100)),
            ([&cut[..], b"ab"].concat(), Look::Perhaps(98)),
            ([&data[..], b"data: {\"a\":1}"].concat(), Look::Nothing),
            (cut[..8].to_vec(), Look::Nothing),
            (b"{\"model\":\"m\"}".to_vec(), Look::Nothing),
            (b"GET / HTTP/1.1\r\n".to_vec(), Look::Nothing),
            (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc".to_vec(), Look::Nothing),
            (vec![], Look::Nothing),
        ] {
            assert_eq!(look(&bytes), expect, "{bytes:?}");
        }
    }

    #[test]
    fn what_no_program_sends_is_no_frame() {
        for (frame, what) in [
            (header(0, kind::DATA, 0, 0), "no stream"),
            (header(0, kind::DATA, 0x40, 1), "a flag that there is not"),
            (header(0, kind::HEADERS, 4, 2), "a stream of the server's"),
            (header(0, kind::DATA, 0, 0x2022_7b23), "text for a stream"),
            (header(7, kind::PING, 0, 0), "a wrong length"),
            (header(6, kind::SETTINGS, flag::ACK, 0), "an acknowledgement that says something"),
            (header(0, 0xb, 0, 0), "an unknown type"),
            (header(MAX_SOUGHT + 1, kind::DATA, 0, 1), "too long"),
        ] {
            let payload = vec![0; Frame::parse(*frame.first_chunk().unwrap()).len as usize];
            assert_eq!(look(&[frame, payload].concat()), Look::Nothing, "{what}");
        }
    }
}
