//! Bytes of a head that has not come whole.
//!
//! Owns the promise that credentials do not outlive their head: the bytes are overwritten when the head has been
//! read, when the buffer moves and when it is dropped.

use memchr::memchr;

/// How much storage is kept for the next head. Heads of API clients are below 2 KiB.
const KEEP: usize = 8 * 1024;

/// The held bytes and how far the search for the head's end has come.
#[derive(Default)]
pub(super) struct Held {
    /// Initialised over its whole length, so that it can be overwritten without `unsafe`.
    storage: Vec<u8>,
    len: usize,
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
        &self.storage[..self.len]
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
        let len = self.len + bytes.len();
        if len > self.storage.len() {
            let mut storage = vec![0; len.next_power_of_two().max(512)];
            storage[..self.len].copy_from_slice(self.bytes());
            self.storage.fill(0);
            std::hint::black_box(&mut self.storage);
            self.storage = storage;
        }
        self.storage[self.len..len].copy_from_slice(bytes);
        self.len = len;
    }

    /// Overwrites and forgets everything.
    pub(super) fn wipe(&mut self) {
        self.storage[..self.len].fill(0);
        // Without a reader the stores may be left out.
        std::hint::black_box(&mut self.storage);
        (self.len, self.line) = (0, Line::Empty);
        if self.storage.len() > KEEP {
            self.storage = Vec::new();
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.wipe();
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

    #[test]
    fn wiped_storage_holds_nothing() {
        let mut held = Held::default();
        held.extend(b"authorization: Bearer canary");
        held.wipe();
        assert!(held.bytes().is_empty());
        assert!(!held.storage.is_empty() && held.storage.iter().all(|&byte| byte == 0));
        held.extend(&[1; KEEP + 1]);
        held.wipe();
        assert!(held.storage.is_empty());
    }
}
