//! The clock of the records, read from userspace.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::time::{Mono, WallAnchor};

/// Now, on the clock that `bpf_ktime_get_ns` reads.
pub fn now() -> Mono {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a timespec that lives through the call. The call cannot fail for this clock.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    Mono(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}

/// Length of the kernel's tick in nanoseconds, `None` if it does not say. The coarse clock advances with it, so that its
/// resolution is `TICK_NSEC` of include/linux/jiffies.h.
pub(super) fn tick_ns() -> Option<u32> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a timespec that lives through the call.
    let failed = unsafe { libc::clock_getres(libc::CLOCK_MONOTONIC_COARSE, &mut time) };
    // From 1 ms (HZ=1000) to 10 ms (HZ=100); what else there is belongs to no tick.
    (failed == 0 && time.tv_sec == 0).then_some(time.tv_nsec as u32).filter(|ns| (500_000..=50_000_000).contains(ns))
}

/// Ties the clock to wall time. Read between two monotonic readings, so that being interrupted shows; the best of
/// a few tries is taken.
pub fn anchor() -> WallAnchor {
    let mut best = (u64::MAX, WallAnchor { mono: now(), unix_nanos: 0 });
    for _ in 0..5 {
        let before = now();
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let width = now().0 - before.0;
        if width < best.0 {
            let mono = Mono(before.0 + width / 2);
            best = (width, WallAnchor { mono, unix_nanos: u64::try_from(wall.as_nanos()).unwrap_or(u64::MAX) });
        }
    }
    best.1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tick_is_one_that_kernels_are_built_with() {
        let tick = tick_ns().unwrap();
        assert!([100, 250, 300, 1000].iter().any(|hz| tick.abs_diff(1_000_000_000 / hz) < 1_000), "{tick}");
    }
}
