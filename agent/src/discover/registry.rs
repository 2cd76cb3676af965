//! The files that have probes: their slots, their users, and when they may go.
//!
//! Owns the bookkeeping alone; attaching and detaching are its caller's. A file's probes stay while any process maps
//! it, and for some time after, because programs that load a TLS library come in bursts.

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

use inferscope_common::probe_stats::{FileStats, MAX_FILES};

use super::library::{Evidence, Functions};
use crate::kernel::{FileId, Links, Probe};

/// Device and inode, as the file itself says.
pub type Identity = (u64, u64);

/// How long a file without users keeps its probes. Attaching takes milliseconds, detaching a second.
const LINGER: Duration = Duration::from_secs(60);

/// Users that are remembered of one file. One of them is enough to keep the probes.
const MAX_USERS: usize = 64;

/// Streams without anything recognisable after which functions that were found by their shape are taken to be others.
const MAX_UNRECOGNISED: u64 = 8;

/// A file with probes.
#[derive(Debug)]
pub struct Probed {
    /// Path by which it was found, for messages.
    pub path: String,
    /// Which file it is, for telling whether another name means the same.
    id: FileId,
    /// Whose functions it has.
    pub functions: Vec<Functions>,
    /// The weakest evidence among them.
    pub evidence: Evidence,
    /// Its slot in the kernel's statistics.
    pub slot: u32,
    /// What was to be probed.
    pub probes: Vec<Probe>,
    /// The probes that are attached.
    pub links: Links,
    /// A library of the system's: it keeps its probes, because any short-lived program may map it.
    pub pinned: bool,
    users: HashSet<u32>,
    unused_since: Option<Instant>,
}

/// What is wrong with probes that were set by the shape of the code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refuted {
    /// They returned more than their buffer holds.
    Overruns,
    /// Nothing that they delivered was recognised.
    Unrecognised,
}

/// The table.
pub struct Registry {
    files: HashMap<Identity, Probed>,
    free: Vec<u32>,
}

impl Registry {
    /// An empty one.
    pub fn new() -> Self {
        Self { files: HashMap::new(), free: (0..MAX_FILES).rev().collect() }
    }

    /// The identity under which a file has probes, which is another name's where several overlays show one inode.
    pub fn find(&self, id: &FileId) -> Option<Identity> {
        let own = (id.device, id.inode);
        let is_same = |known: &FileId| known.is_same(id);
        match self.files.get(&own) {
            Some(probed) if is_same(&probed.id) => Some(own),
            _ => self.files.iter().find(|(_, probed)| is_same(&probed.id)).map(|(identity, _)| *identity),
        }
    }

    /// A slot for a new file; `None` if all are taken.
    pub fn reserve(&mut self) -> Option<u32> {
        self.free.pop()
    }

    /// Gives back a slot that was not used.
    pub fn release(&mut self, slot: u32) {
        self.free.push(slot);
    }

    /// Enters a file under its reserved slot.
    #[expect(clippy::too_many_arguments, reason = "each is one member of what is entered")]
    pub fn insert(
        &mut self,
        id: FileId,
        path: String,
        functions: Vec<Functions>,
        evidence: Evidence,
        slot: u32,
        probes: Vec<Probe>,
        links: Links,
        pinned: bool,
    ) -> Identity {
        let (identity, users) = ((id.device, id.inode), HashSet::new());
        let probed = Probed { path, id, functions, evidence, slot, probes, links, pinned, users, unused_since: None };
        self.files.insert(identity, probed);
        identity
    }

    /// A process maps a file.
    pub fn used_by(&mut self, identity: Identity, pid: u32) {
        if let Some(probed) = self.files.get_mut(&identity) {
            if probed.users.len() < MAX_USERS {
                probed.users.insert(pid);
            }
            probed.unused_since = None;
        }
    }

    /// Forgets the users that are gone; gives the files that have had none for long enough. A process that was forked
    /// after the library was mapped is not known as a user, so the caller looks at `/proc` before it believes this.
    pub fn unused(&mut self, now: Instant, exists: impl Fn(u32) -> bool) -> Vec<Identity> {
        let mut unused = Vec::new();
        for (identity, probed) in &mut self.files {
            probed.users.retain(|&pid| exists(pid));
            if probed.pinned || !probed.users.is_empty() {
                continue;
            }
            let since = *probed.unused_since.get_or_insert(now);
            if now.saturating_duration_since(since) >= LINGER {
                unused.push(*identity);
            }
        }
        unused
    }

    /// Files whose probes were set by shape and have proved wrong.
    pub fn refuted(&self, stats: impl Fn(u32) -> FileStats) -> Vec<(Identity, Refuted)> {
        let by_shape = self.files.iter().filter(|(_, probed)| probed.evidence == Evidence::Shape);
        by_shape.filter_map(|(identity, probed)| Some((*identity, refutation(&stats(probed.slot))?))).collect()
    }

    /// Takes a file out. The slot stays reserved: a call under way may still count into it until the probes are
    /// detached and the caller gives it back.
    pub fn remove(&mut self, identity: Identity) -> Option<Probed> {
        self.files.remove(&identity)
    }

    /// Whether a file's probes read TLS.
    pub fn reads_tls(&self, identity: Identity) -> bool {
        self.files.get(&identity).is_some_and(|probed| probed.functions.iter().any(|functions| functions.is_tls()))
    }

    /// Every file, for reports.
    pub fn iter(&self) -> impl Iterator<Item = (&Identity, &Probed)> {
        self.files.iter()
    }
}

impl Drop for Registry {
    /// All at once: one after another they take the kernel a tenth of a second each.
    fn drop(&mut self) {
        let mut all = Links::default();
        self.files.drain().for_each(|(_, probed)| all.append(probed.links));
    }
}

fn refutation(stats: &FileStats) -> Option<Refuted> {
    if stats.overruns > 0 {
        return Some(Refuted::Overruns);
    }
    (stats.recognised == 0 && stats.unrecognised >= MAX_UNRECOGNISED).then_some(Refuted::Unrecognised)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Source;

    fn id() -> FileId {
        FileId::of(&std::fs::File::open(std::env::current_exe().unwrap()).unwrap()).unwrap()
    }

    fn with_one(pinned: bool, evidence: Evidence) -> (Registry, Identity) {
        let mut registry = Registry::new();
        let slot = registry.reserve().unwrap();
        let (functions, links) = (vec![Functions::Tls(Source::OpenSsl)], Links::default());
        let identity = registry.insert(id(), "lib".into(), functions, evidence, slot, vec![], links, pinned);
        (registry, identity)
    }

    #[test]
    fn a_file_is_found_by_what_it_is_and_a_number_used_again_is_another() {
        let (registry, identity) = with_one(false, Evidence::Symbols);
        assert_eq!(registry.find(&id()), Some(identity));
        let other = FileId::of(&tempfile::tempfile().unwrap()).unwrap();
        assert_eq!(registry.find(&other), None);
    }

    #[test]
    fn a_file_goes_some_time_after_its_last_user() {
        let (mut registry, file) = with_one(false, Evidence::Symbols);
        let start = Instant::now();
        registry.used_by(file, 7);
        assert_eq!(registry.unused(start + LINGER * 2, |_| true), []);
        assert_eq!(registry.unused(start, |_| false), [], "the last user has only just gone");
        registry.used_by(file, 8);
        assert_eq!(registry.unused(start + LINGER, |_| true), [], "there is a new one");
        assert_eq!(registry.unused(start + LINGER, |_| false), []);
        assert_eq!(registry.unused(start + LINGER * 2, |_| false), [file]);
    }

    #[test]
    fn a_library_of_the_systems_stays() {
        let (mut registry, _) = with_one(true, Evidence::Symbols);
        let start = Instant::now();
        registry.unused(start, |_| false);
        assert_eq!(registry.unused(start + LINGER * 2, |_| false), []);
    }

    #[test]
    fn only_a_guess_can_be_refuted() {
        let wrong = FileStats { unrecognised: MAX_UNRECOGNISED, ..Default::default() };
        assert_eq!(with_one(false, Evidence::Symbols).0.refuted(|_| wrong), []);
        let (guess, file) = with_one(false, Evidence::Shape);
        assert_eq!(guess.refuted(|_| wrong), [(file, Refuted::Unrecognised)]);
        let right = FileStats { recognised: 1, ..wrong };
        assert_eq!(guess.refuted(|_| right), []);
        let absurd = FileStats { overruns: 1, ..right };
        assert_eq!(guess.refuted(|_| absurd), [(file, Refuted::Overruns)]);
    }

    #[test]
    fn slots_run_out_and_come_back() {
        let mut registry = Registry::new();
        let slots: Vec<u32> = std::iter::from_fn(|| registry.reserve()).collect();
        assert_eq!(slots.len(), MAX_FILES as usize);
        registry.release(5);
        assert_eq!(registry.reserve(), Some(5));
    }
}
