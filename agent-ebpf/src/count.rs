//! Counting. Atomic although the slots are per processor: a preempted program and the one that preempted it share
//! them, and the ledger must balance to the byte.

use core::intrinsics::{AtomicOrdering, atomic_xadd, atomic_xchg};

use inferscope_common::{counters::Counter, probe_stats::FileStats};

use crate::maps::{COUNTERS, PROBE_STATS};

/// Adds `n` to a counter.
#[inline(always)]
pub fn add(counter: Counter, n: u64) {
    if let Some(slot) = COUNTERS.get_ptr_mut(counter as u32) {
        // The target has no compare-and-swap in Rust's eyes, so `AtomicU64` lacks these methods; the
        // instructions exist.
        unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(slot, n) };
    }
}

/// Adds to what is known of a file's probes. `seen` holds the steps.
#[inline(always)]
pub fn add_to_file(slot: u32, seen: &FileStats) {
    let Some(stats) = PROBE_STATS.get_ptr_mut(slot) else { return };
    unsafe {
        bump(&raw mut (*stats).calls, seen.calls);
        bump(&raw mut (*stats).bytes, seen.bytes);
        bump(&raw mut (*stats).overruns, seen.overruns);
        bump(&raw mut (*stats).recognised, seen.recognised);
        bump(&raw mut (*stats).unrecognised, seen.unrecognised);
    }
}

/// Adds `n` to a slot in a map's value. Without asking whether it is zero: a branch costs the verifier more than the
/// addition costs the processor.
#[inline(always)]
pub unsafe fn bump(slot: *mut u64, n: u64) {
    unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(slot, n) };
}

/// Stores `value` and gives what was there, in one step.
#[inline(always)]
pub unsafe fn swap(slot: *mut u64, value: u64) -> u64 {
    unsafe { atomic_xchg::<u64, { AtomicOrdering::SeqCst }>(slot, value) }
}
