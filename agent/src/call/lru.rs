//! A bounded table that forgets what was not used for longest.

use std::{
    collections::{BTreeMap, HashMap},
    hash::Hash,
};

/// The table.
pub(super) struct Lru<K, V> {
    cap: usize,
    entries: HashMap<K, (u64, V)>,
    /// Keys by the number of their last use.
    uses: BTreeMap<u64, K>,
    next: u64,
    evicted: u64,
}

impl<K: Clone + Eq + Hash, V> Lru<K, V> {
    /// An empty table for at most `cap` entries.
    pub fn new(cap: usize) -> Self {
        Self { cap, entries: HashMap::new(), uses: BTreeMap::new(), next: 0, evicted: 0 }
    }

    /// Entries that were forgotten to make room.
    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    /// The value under `key`, which is used thereby.
    pub fn get(&mut self, key: &K) -> Option<&mut V> {
        let (used, value) = self.entries.get_mut(key)?;
        if let Some(key) = self.uses.remove(used) {
            *used = self.next;
            self.uses.insert(self.next, key);
            self.next += 1;
        }
        Some(value)
    }

    /// Sets a value and gives the one that had to go for it.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        let used = self.next;
        self.next += 1;
        if let Some((before, _)) = self.entries.insert(key.clone(), (used, value)) {
            self.uses.remove(&before);
        }
        self.uses.insert(used, key);
        if self.entries.len() <= self.cap {
            return None;
        }
        self.evicted += 1;
        let (_, oldest) = self.uses.pop_first()?;
        self.entries.remove(&oldest).map(|(_, value)| value)
    }

    /// Takes a value out.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        let (used, value) = self.entries.remove(key)?;
        self.uses.remove(&used);
        Some(value)
    }

    /// All values in no order, each with the number of its last use.
    pub fn values_mut(&mut self) -> impl Iterator<Item = (u64, &mut V)> {
        self.entries.values_mut().map(|(used, value)| (*used, value))
    }

    /// Takes everything out, the longest unused first.
    pub fn drain(&mut self) -> Vec<V> {
        let keys = std::mem::take(&mut self.uses);
        keys.into_values().filter_map(|key| self.entries.remove(&key)).map(|(_, value)| value).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_used_for_longest_goes_first() {
        let mut table = Lru::new(2);
        assert_eq!((table.insert(1, "a"), table.insert(2, "b")), (None, None));
        assert_eq!(table.get(&1), Some(&mut "a"));
        assert_eq!(table.insert(3, "c"), Some("b"));
        assert_eq!(table.get(&2), None);
        assert_eq!(table.evicted(), 1);
        assert_eq!(table.insert(1, "d"), None, "the same key takes no room");
        assert_eq!(table.values_mut().max().map(|(_, value)| *value), Some("d"));
        assert_eq!((table.remove(&3), table.remove(&3)), (Some("c"), None));
        assert_eq!((table.drain(), table.uses.len(), table.entries.len()), (vec!["d"], 0, 0));
    }
}
