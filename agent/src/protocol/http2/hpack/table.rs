//! The dynamic table (RFC 7541 section 2.3.2).
//!
//! Owns the positions. They count from the newest entry, so what was inserted while everything was seen is known to
//! stand where it stands, whatever came before: an index behind that is unknown, never wrong. Evicting late is no harm
//! either, because an encoder names only what is still there. So where the true size is not known the largest is taken.

use std::collections::VecDeque;

use super::Name;

/// What an entry takes besides its strings (RFC 7541 section 4.1).
const OVERHEAD: usize = 32;

/// Size before anything else was said (RFC 9113 section 6.5.2).
const DEFAULT_MAX: usize = 4096;

/// Largest table. Browsers and proxies ask for 64 KiB at most; of a larger one the oldest entries are unknown.
pub(super) const MAX_TABLE: usize = 64 * 1024;

/// An entry, as far as it may be kept.
#[derive(Clone)]
pub(super) struct Entry {
    pub name: Name,
    /// Absent if it is unknown, or nobody's business.
    pub value: Option<Box<[u8]>>,
    /// Bytes of the name as it was sent; none if it is unknown.
    pub name_bytes: usize,
    /// Bytes of name and value.
    pub bytes: usize,
}

/// Entries, newest first.
pub(super) struct Table {
    entries: VecDeque<Entry>,
    size: usize,
    max: usize,
}

impl Table {
    /// That of a new connection.
    pub fn new() -> Self {
        Self { entries: VecDeque::new(), size: 0, max: DEFAULT_MAX }
    }

    /// The entry at a position, 0 being the newest.
    pub fn get(&self, position: usize) -> Option<&Entry> {
        self.entries.get(position)
    }

    /// Adds an entry. One that is larger than the table leaves it empty (RFC 7541 section 4.4).
    pub fn insert(&mut self, entry: Entry) {
        let size = entry.bytes.saturating_add(OVERHEAD);
        self.evict(self.max.saturating_sub(size));
        if size <= self.max {
            self.size += size;
            self.entries.push_front(entry);
        }
    }

    /// The encoder has changed the size.
    pub fn resize(&mut self, max: usize) {
        self.max = max.min(MAX_TABLE);
        self.evict(self.max);
    }

    /// Insertions were missed: positions of what is here are unknown, and so is the size.
    pub fn forget(&mut self) {
        *self = Self { max: MAX_TABLE, ..Self::new() };
    }

    fn evict(&mut self, max: usize) {
        while self.size > max
            && let Some(oldest) = self.entries.pop_back()
        {
            self.size = self.size.saturating_sub(oldest.bytes.saturating_add(OVERHEAD));
        }
    }

    /// As RFC 7541 counts it.
    #[cfg(test)]
    pub fn size(&self) -> usize {
        self.size
    }
}
