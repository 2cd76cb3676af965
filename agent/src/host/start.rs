//! Start times of processes, as two sources tell them.
//!
//! The kernel keeps a task's start in nanoseconds since boot (`task.start_boottime`), which is what BPF reports. Field 22
//! of `/proc/PID/stat` is the same number in clock ticks, rounded down (`fs/proc/array.c`: `nsec_to_clock_t`). So two
//! starts are of one process if they are equal in ticks: there is no tolerance to choose. Two processes that had one pid
//! within one tick are not told apart; a pid comes back only when all others have been given out.

/// Length of a tick, nanoseconds: USER_HZ is 100 on every architecture that the agent runs on.
pub const TICK_NS: u64 = 10_000_000;

/// Whether two starts, in nanoseconds since boot, are of one process. Of what is not known (0) nothing is the same.
pub fn same_start(a_ns: u64, b_ns: u64) -> bool {
    a_ns != 0 && b_ns != 0 && a_ns / TICK_NS == b_ns / TICK_NS
}

/// Field 22 of `/proc/PID/stat` in nanoseconds.
pub(super) fn of_ticks(ticks: u64) -> u64 {
    ticks.saturating_mul(TICK_NS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_is_the_same_in_ticks() {
        let kernel = 1_234_567_891_234;
        assert!(same_start(kernel, of_ticks(kernel / TICK_NS)) && same_start(kernel, kernel));
        assert!(!same_start(kernel, kernel + TICK_NS) && !same_start(kernel, of_ticks(kernel / TICK_NS - 1)));
        assert!(!same_start(0, 0) && !same_start(0, kernel));
        assert_eq!(of_ticks(u64::MAX), u64::MAX);
    }

    #[test]
    fn a_tick_is_what_the_kernel_says() {
        assert_eq!(1_000_000_000 / procfs::ticks_per_second(), TICK_NS);
    }
}
