//! What the searcher does beside searching: taking probes off, watching for TLS that passes them by, and telling what it
//! knows.

use std::{
    collections::{HashMap, HashSet},
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    time::Instant,
};

use super::{MAX_SEEN, Searcher, key_of};
use crate::{
    discover::{
        mapped,
        registry::Identity,
        report::{FileReport, ProcessReport, Report},
    },
    kernel::Mapping,
};

impl Searcher {
    /// Takes the probes off files that nobody maps any more, and off those that were guessed wrong.
    pub(super) fn sweep(&mut self, stop: &AtomicBool) {
        self.free_slots();
        let refuted = self.registry.refuted(|slot| self.prober.stats(slot));
        for (identity, why) in refuted {
            self.refused.insert(identity);
            self.counts.refuted.fetch_add(1, Ordering::Relaxed);
            if let Some(path) = self.detach(identity) {
                tracing::warn!(
                    path,
                    ?why,
                    "what looked like TLS functions is something else; this file is not captured"
                );
            }
        }
        let exists = |pid: u32| Path::new("/proc").join(pid.to_string()).exists();
        if self.registry.unused(Instant::now(), exists).is_empty() {
            return;
        }
        // Children that inherited the mapping have never shown up: they do now.
        self.scan(stop);
        for identity in self.registry.unused(Instant::now(), exists) {
            self.counts.unused.fetch_add(1, Ordering::Relaxed);
            if let Some(path) = self.detach(identity) {
                tracing::info!(path, "nobody maps this library any more; its probes are detached");
            }
        }
    }

    /// Looks for processes whose TLS passes the probes by: a mapping that was missed is found, and probes that are never
    /// hit are set anew, once.
    pub(super) fn listen(&mut self) {
        for (pid, bytes) in self.canary.suspects(&self.accounts.all()) {
            self.counts.silent.fetch_add(1, Ordering::Relaxed);
            let Some(process) = mapped::process(pid) else { continue };
            let mappings: Vec<Mapping> = self.distinct(&process);
            mappings.iter().for_each(|mapping| self.consider(mapping));
            let files: Vec<Identity> = mappings.iter().filter_map(|mapping| self.probed_in(mapping)).collect();
            if files.is_empty() {
                tracing::info!(pid, bytes, "TLS passes unread: nothing that the process maps has known TLS functions");
                continue;
            }
            for identity in files {
                if self.reattached.insert(identity)
                    && let Some(path) = self.detach(identity)
                {
                    tracing::warn!(pid, bytes, path, "TLS passes the probes by; they are set anew");
                    self.counts.reattached.fetch_add(1, Ordering::Relaxed);
                }
            }
            mappings.iter().for_each(|mapping| self.consider(mapping));
        }
    }

    /// One mapping of each file that a process maps executable, up to as many as are remembered.
    fn distinct(&self, process: &procfs::process::Process) -> Vec<Mapping> {
        let mut seen = HashSet::new();
        mapped::executable(process).filter(|mapping| seen.insert(key_of(mapping))).take(MAX_SEEN).collect()
    }

    /// The file of a mapping, if its TLS functions have probes.
    fn probed_in(&self, mapping: &Mapping) -> Option<Identity> {
        self.seen.get(&key_of(mapping)).copied().flatten().filter(|identity| self.registry.reads_tls(*identity))
    }

    pub(super) fn report(&self) -> Report {
        let files: Vec<(Identity, FileReport)> = self
            .registry
            .iter()
            .map(|(identity, probed)| {
                let file = FileReport {
                    path: probed.path.clone(),
                    functions: probed.functions.clone(),
                    evidence: probed.evidence,
                    probes: probed.probes.clone(),
                    attached: probed.links.len(),
                    stats: self.prober.stats(probed.slot),
                };
                (*identity, file)
            })
            .collect();
        let accounts: HashMap<u32, _> = self.accounts.all().into_iter().filter(|(_, stats)| stats.ended == 0).collect();
        let mut processes = Vec::new();
        for process in mapped::processes() {
            let pid = process.pid as u32;
            let mapped: HashSet<Identity> =
                mapped::executable(&process).filter_map(|mapping| self.probed_in(&mapping)).collect();
            let used = files.iter().enumerate().filter(|(_, (identity, _))| mapped.contains(identity));
            let used: Vec<usize> = used.map(|(place, _)| place).collect();
            let stats = accounts.get(&pid).copied();
            if self.is_wanted(pid)
                && (stats.is_some() || !used.is_empty() || self.settings.targets.include.pids.contains(&pid))
            {
                let comm = process.stat().ok().map(|stat| stat.comm);
                processes.push(ProcessReport { pid, comm, files: used, stats: stats.unwrap_or_default() });
            }
        }
        let files = files.into_iter().map(|(_, file)| file).collect();
        Report { files, unsupported: self.unsupported.files(), processes }
    }

    fn detach(&mut self, identity: Identity) -> Option<String> {
        let probed = self.registry.remove(identity)?;
        self.seen.retain(|_, known| *known != Some(identity));
        self.detacher.detach(probed.slot, probed.links);
        Some(probed.path)
    }

    pub(super) fn free_slots(&mut self) {
        for slot in self.detacher.finished() {
            self.registry.release(slot);
        }
    }
}
