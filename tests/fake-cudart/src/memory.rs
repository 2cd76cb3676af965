//! Allocations of device memory, up to a limit.
//!
//! Owns who has which range. There is nothing behind an address: reading or writing one ends the process, as an address of
//! a real device does.

use std::{
    collections::BTreeMap,
    sync::{Mutex, OnceLock, PoisonError},
};

/// Environment variable with the memory that a process may have, in bytes. Without it there is no limit.
pub const LIMIT: &str = "INFERSCOPE_FAKE_CUDA_MEMORY";
/// Where the addresses begin: no address of a process's own.
const BASE: usize = 0x7f00_0000_0000_0000;
/// What addresses are multiples of, as those of the real library are.
const ALIGN: usize = 256;
/// Most allocations at a time; one more fails as if memory were used up.
const ALLOCATIONS: usize = 1 << 16;

/// The allocations, by address.
#[derive(Debug, Default)]
pub struct Memory {
    sizes: BTreeMap<usize, usize>,
    used: usize,
}

impl Memory {
    /// An address for so many bytes, unless there would then be more than the limit.
    pub fn allocate(&mut self, size: usize, limit: usize) -> Option<usize> {
        let used = self.used.checked_add(size).filter(|used| *used <= limit)?;
        if self.sizes.len() >= ALLOCATIONS {
            return None;
        }
        let end = self.sizes.last_key_value().map_or(BASE, |(at, size)| at + size);
        let at = end.checked_next_multiple_of(ALIGN).filter(|at| at.checked_add(size).is_some())?;
        self.sizes.insert(at, size);
        self.used = used;
        Some(at)
    }

    /// Gives an allocation back; whether it was one.
    pub fn free(&mut self, at: usize) -> bool {
        let size = self.sizes.remove(&at);
        self.used -= size.unwrap_or(0);
        size.is_some()
    }
}

static MEMORY: Mutex<Option<Memory>> = Mutex::new(None);

fn memory<T>(what: impl FnOnce(&mut Memory) -> T) -> T {
    what(MEMORY.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_default())
}

/// Allocates, within the limit of the environment.
pub fn allocate(size: usize) -> Option<usize> {
    static BYTES: OnceLock<usize> = OnceLock::new();
    let limit = *BYTES.get_or_init(|| {
        let text = std::env::var(LIMIT);
        text.map_or(usize::MAX, |text| text.parse().unwrap_or_else(|_| panic!("{LIMIT} is not a number: {text}")))
    });
    memory(|memory| memory.allocate(size, limit))
}

/// Frees; whether the address was of an allocation.
pub fn free(at: usize) -> bool {
    memory(|memory| memory.free(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_freed_can_be_had_again() {
        let mut memory = Memory::default();
        let first = memory.allocate(600, 1000).unwrap();
        assert_eq!(memory.allocate(401, 1000), None);
        let second = memory.allocate(400, 1000).unwrap();
        assert!(second >= first + 600 && second % ALIGN == 0);
        assert!(memory.free(first));
        assert!(!memory.free(first));
        assert!(memory.allocate(600, 1000).is_some());
        assert_eq!(memory.allocate(usize::MAX, usize::MAX), None);
    }
}
