//! How the allocator treats memory that was freed.

/// Blocks from this size on are mapped by themselves and go back to the kernel when they are freed.
///
/// Type information, symbol tables and executables take tens of megabytes for a moment each. glibc raises its own limit
/// with the first such block that is freed, keeps all later ones in its heap, and with them 12 MB for good. A limit that
/// was set stays. What is allocated per record or call is far below it.
#[cfg(target_env = "gnu")]
const MAPPED_FROM: libc::c_int = 128 << 10;

/// Keeps what is needed for a moment from staying resident for good.
pub(super) fn return_freed_memory() {
    // SAFETY: takes two numbers and changes nothing but the allocator's limits.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED_FROM)
    };
}

/// Gives back what was freed and lies between what is in use. For after something that took much for a moment, in pieces
/// too small to be mapped by themselves.
pub fn trim_heap() {
    // SAFETY: takes a number and touches only memory that is free.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0)
    };
}

#[cfg(all(test, target_env = "gnu"))]
mod tests {
    use super::*;

    /// Resident memory of this process, in bytes.
    fn resident() -> usize {
        let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
        statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
    }

    #[test]
    fn a_large_block_goes_back_when_it_is_freed_however_often() {
        const BLOCK: usize = 24 << 20;
        return_freed_memory();
        let before = resident();
        // Left to itself, glibc gives back the first and keeps the second.
        for _ in 0..2 {
            let block = std::hint::black_box(vec![1u8; BLOCK]);
            assert!(resident() > before + BLOCK / 2);
            drop(block);
        }
        // Other tests use memory at the same time, but not this much.
        assert!(resident() < before + BLOCK / 2);
    }
}
