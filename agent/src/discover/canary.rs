//! Processes whose TLS passes the probes by.
//!
//! A probe that is attached and never hit looks like a process that does nothing. What gives it away are the records on
//! the process's sockets, which the kernel side counts whatever the probes see. Pure: accounts in, suspects out.

use std::collections::HashMap;

use inferscope_common::process_stats::ProcessStats;

/// TLS bytes without any plaintext that make a process suspect. A handshake has 2 to 8 KB, and says nothing.
const SUSPECT_BYTES: u64 = 16 << 10;

/// What was last seen of each process. Bounded by the kernel's map of accounts, whose entries it mirrors.
#[derive(Debug, Default)]
pub struct Canary {
    last: HashMap<u32, (u64, u64)>,
}

impl Canary {
    /// Processes that moved TLS bytes since they were last judged and no plaintext, with the bytes. Each is told once
    /// for every [`SUSPECT_BYTES`].
    pub fn suspects(&mut self, accounts: &[(u32, ProcessStats)]) -> Vec<(u32, u64)> {
        let mut suspects = Vec::new();
        let mut next = HashMap::with_capacity(accounts.len());
        for (tgid, stats) in accounts.iter().filter(|(_, stats)| stats.ended == 0) {
            let now = (stats.tls[0] + stats.tls[1], stats.plain[0] + stats.plain[1]);
            let (tls, plain) = self.last.get(tgid).copied().filter(|last| last.0 <= now.0).unwrap_or_default();
            if now.1 != plain {
                next.insert(*tgid, now);
            } else if now.0 - tls >= SUSPECT_BYTES {
                suspects.push((*tgid, now.0 - tls));
                next.insert(*tgid, now);
            } else {
                // Goes on adding up.
                next.insert(*tgid, (tls, plain));
            }
        }
        self.last = next;
        suspects
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stats(tls: u64, plain: u64) -> ProcessStats {
        ProcessStats { tls: [tls, 0], plain: [plain, 0], ..Default::default() }
    }

    #[test]
    fn silence_is_told_once_for_every_so_many_bytes() {
        let mut canary = Canary::default();
        assert_eq!(canary.suspects(&[(7, stats(8_000, 0))]), [], "a handshake");
        assert_eq!(canary.suspects(&[(7, stats(20_000, 0))]), [(7, 20_000)]);
        assert_eq!(canary.suspects(&[(7, stats(21_000, 0))]), []);
        assert_eq!(canary.suspects(&[(7, stats(40_000, 0))]), [(7, 20_000)]);
    }

    #[test]
    fn plaintext_clears_a_process() {
        let mut canary = Canary::default();
        assert_eq!(canary.suspects(&[(7, stats(90_000, 1))]), []);
        assert_eq!(canary.suspects(&[(7, stats(190_000, 1))]), [(7, 100_000)], "it stopped");
    }

    #[test]
    fn a_reused_pid_starts_over_and_the_dead_are_forgotten() {
        let mut canary = Canary::default();
        canary.suspects(&[(7, stats(20_000, 500))]);
        assert_eq!(canary.suspects(&[(7, stats(17_000, 0))]), [(7, 17_000)]);
        canary.suspects(&[(7, ProcessStats { ended: 1, ..stats(90_000, 0) })]);
        assert!(canary.last.is_empty());
    }
}
