//! Bytes that may hold credentials, for as long as a parser needs them.
//!
//! Owns the promise that they do not outlive it: they are overwritten when they have been read, when the buffer moves
//! and when it is dropped. What may be kept of them is the parser's business.

/// How much storage is kept for the next use. Heads of API clients are below 2 KiB.
const KEEP: usize = 8 * 1024;

/// The bytes. There is no `Debug`.
#[derive(Default)]
pub(super) struct Wiped {
    /// Initialised over its whole length, so that it can be overwritten without `unsafe`.
    storage: Vec<u8>,
    len: usize,
}

impl Wiped {
    /// The bytes held.
    pub(super) fn bytes(&self) -> &[u8] {
        self.storage.get(..self.len).unwrap_or_default()
    }

    /// Adds bytes.
    pub(super) fn extend(&mut self, bytes: &[u8]) {
        let len = self.len + bytes.len();
        if len > self.storage.len() {
            let mut storage = vec![0; len.next_power_of_two().max(512)];
            storage[..self.len].copy_from_slice(self.bytes());
            wipe(&mut self.storage);
            self.storage = storage;
        }
        self.storage[self.len..len].copy_from_slice(bytes);
        self.len = len;
    }

    /// Overwrites and forgets everything.
    pub(super) fn wipe(&mut self) {
        let held = self.len;
        wipe(&mut self.storage[..held]);
        self.len = 0;
        if self.storage.len() > KEEP {
            self.storage = Vec::new();
        }
    }
}

impl Drop for Wiped {
    fn drop(&mut self) {
        self.wipe();
    }
}

/// Overwrites bytes.
pub(super) fn wipe(bytes: &mut [u8]) {
    bytes.fill(0);
    // Without a reader the stores may be left out.
    std::hint::black_box(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wiped_storage_holds_nothing() {
        let mut held = Wiped::default();
        held.extend(b"authorization: Bearer canary");
        assert_eq!(held.bytes(), b"authorization: Bearer canary");
        held.wipe();
        assert!(held.bytes().is_empty());
        assert!(!held.storage.is_empty() && held.storage.iter().all(|&byte| byte == 0));
        held.extend(&[1; KEEP + 1]);
        held.wipe();
        assert!(held.storage.is_empty());
    }
}
