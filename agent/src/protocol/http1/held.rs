//! Bytes of a head that has not come whole, and the search for its end.

use memchr::memchr;

use crate::protocol::wiped::Wiped;

/// The held bytes and how far the search for the head's end has come.
#[derive(Default)]
pub(super) struct Held {
    bytes: Wiped,
    line: Line,
}

/// What the line at hand looks like so far.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Line {
    #[default]
    Empty,
    /// One carriage return.
    Cr,
    Text,
}

impl Line {
    fn extended(self, bytes: &[u8]) -> Self {
        match (self, bytes) {
            (before, []) => before,
            (Self::Empty, [b'\r']) => Self::Cr,
            _ => Self::Text,
        }
    }
}

impl Held {
    /// The held bytes.
    pub(super) fn bytes(&self) -> &[u8] {
        self.bytes.bytes()
    }

    /// Looks for the empty line that ends the head in `bytes`, which follow the held ones; gives the number of
    /// bytes up to and with it. Each byte is looked at once, or a head that trickles in would cost its square.
    pub(super) fn find_end(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut at = 0;
        while let Some(n) = memchr(b'\n', &bytes[at..]) {
            let line = self.line.extended(&bytes[at..at + n]);
            self.line = Line::Empty;
            at += n + 1;
            if line != Line::Text {
                return Some(at);
            }
        }
        self.line = self.line.extended(&bytes[at..]);
        None
    }

    /// Adds bytes that [`Self::find_end`] has seen.
    pub(super) fn extend(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes);
    }

    /// Overwrites and forgets everything.
    pub(super) fn wipe(&mut self) {
        self.bytes.wipe();
        self.line = Line::Empty;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_found_in_any_pieces() {
        for (head, len) in [("a\r\nb\r\n\r\nrest", 8), ("a\n\nrest", 3), ("a\r\n\nrest", 4), ("a\n\r\nrest", 4)] {
            for at in 0..len {
                let mut held = Held::default();
                let (a, b) = head.split_at(at);
                assert_eq!(held.find_end(a.as_bytes()), None);
                held.extend(a.as_bytes());
                assert_eq!(held.find_end(b.as_bytes()), Some(len - at), "{head:?} split at {at}");
            }
        }
        assert_eq!(Held::default().find_end(b"a\r\r\n\rb\r\n"), None);
    }
}
