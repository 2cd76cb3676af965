//! What discovery counts, for the ledger.

use std::sync::atomic::{AtomicU64, Ordering};

/// What discovery counts.
#[derive(Debug, Default)]
pub struct Counts {
    /// Files that got probes.
    pub probed: AtomicU64,
    /// Probes that could not be attached.
    pub probes_failed: AtomicU64,
    /// Files with TLS functions that got none, because too many have some.
    pub refused: AtomicU64,
    /// Files whose TLS functions cannot be probed, each with its reason in `doctor`.
    pub unsupported: AtomicU64,
    /// Files that were not looked into because a user's own program is their file system.
    pub untrusted: AtomicU64,
    /// Times that a file was not looked into in time, because its file system did not answer.
    pub slow: AtomicU64,
    /// Times that a file was not looked into because too many others were waited for.
    pub busy: AtomicU64,
    /// Times that looking into a file failed for no good reason.
    pub died: AtomicU64,
    /// Names of files that turned out to be one that has probes already.
    pub shared: AtomicU64,
    /// Files whose probes were taken off because nobody mapped them any more.
    pub unused: AtomicU64,
    /// Files whose probes were taken off because they were on other functions than was thought.
    pub refuted: AtomicU64,
    /// Times that a process moved TLS bytes and no probe was hit.
    pub silent: AtomicU64,
    /// Files whose probes were set anew because of that.
    pub reattached: AtomicU64,
}

impl Counts {
    /// Name and value of each.
    pub fn entries(&self) -> [(&'static str, u64); 13] {
        [
            ("files_probed", &self.probed),
            ("probes_failed", &self.probes_failed),
            ("files_refused", &self.refused),
            ("files_unsupported", &self.unsupported),
            ("files_untrusted", &self.untrusted),
            ("files_slow", &self.slow),
            ("files_busy", &self.busy),
            ("files_died", &self.died),
            ("names_shared", &self.shared),
            ("files_unused", &self.unused),
            ("files_refuted", &self.refuted),
            ("silent_processes", &self.silent),
            ("files_reattached", &self.reattached),
        ]
        .map(|(name, counter)| (name, counter.load(Ordering::Relaxed)))
    }
}
