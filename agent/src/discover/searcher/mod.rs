//! The discovery thread's work: judging files, attaching, and taking off what nobody uses or what proved wrong.

mod upkeep;

use std::{
    collections::{HashMap, HashSet},
    os::fd::AsRawFd as _,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, Sender},
    },
    time::{Duration, Instant},
};

use inferscope_common::probe_stats::MAX_FILES;

use super::{
    cache::Cache,
    canary::Canary,
    chosen,
    counts::Counts,
    detach::Detacher,
    finders::{Findings, Refusal},
    hunt::{Hunter, Searched, Wanted},
    inspect::{InspectError, Inspected, Inspector, Place},
    library::{Evidence, Library},
    mapped,
    registry::{Identity, Registry},
    report::Report,
    unsupported::Unsupported,
};
use crate::kernel::{
    Accounts, FileId, Links, LoadError, Mapping, MappingEvent, MappingEvents, Prober, Settings, Waker,
};

/// Files that are remembered as looked at. Beyond it the memory starts over, which costs looking again.
const MAX_SEEN: usize = 65_536;

/// Without the stream of mappings `/proc` is scanned this often instead.
pub(super) const RESCAN: Duration = Duration::from_secs(2);

/// With it, this is only how long a missed wake-up could last.
const WAIT: Duration = Duration::from_secs(5);

/// How often it is looked for probes that nobody uses any more, or that have proved wrong.
const SWEEP: Duration = Duration::from_secs(10);

/// How long what runs at the start may be searched before the capture begins. What takes longer is captured when it is found.
const FIRST_SEARCHES: Duration = Duration::from_secs(2);

/// Where distributions keep libraries. Libraries found here are probed before anybody maps them, so that the
/// first call of a short-lived program is not missed; correctness does not rest on it.
const LIBRARY_FOLDERS: [&str; 6] =
    ["/usr/lib/x86_64-linux-gnu", "/usr/lib64", "/usr/lib", "/lib/x86_64-linux-gnu", "/lib64", "/usr/local/lib"];

/// Owns the prober, and with it every probe: dropped, they are detached.
pub(super) struct Searcher {
    prober: Prober,
    settings: Settings,
    /// Every mapped file that was looked at, with its identity if it has probes.
    seen: HashMap<MappedFile, Option<Identity>>,
    inspector: Inspector,
    registry: Registry,
    detacher: Detacher,
    /// Files whose functions were guessed wrong: not to be tried again. At most as many as were probed.
    refused: HashSet<Identity>,
    accounts: Arc<Accounts>,
    canary: Canary,
    counts: Arc<Counts>,
    /// Files that have TLS functions which cannot be probed, or not with certainty.
    unsupported: Unsupported,
    hunter: Hunter<Sighting>,
    /// A file could not be taken in for searching: it is to be met again.
    rescan: bool,
    /// Files whose probes were set anew: once is enough to find out that it does not help.
    reattached: HashSet<Identity>,
}

/// Device, inode and path, as the mapping says. The path too, because an inode number is used again.
type MappedFile = ((u32, u32), u64, String);

/// Where a file that is searched was met, and which it is.
struct Sighting {
    id: FileId,
    mapping: Mapping,
}

impl Searcher {
    pub(super) fn new(
        prober: Prober,
        accounts: Arc<Accounts>,
        settings: &Settings,
        waker: &Waker,
    ) -> Result<Self, LoadError> {
        Ok(Self {
            hunter: Hunter::start(Cache::open(settings.keeps_findings), waker.clone())?,
            rescan: false,
            prober,
            settings: settings.clone(),
            seen: HashMap::new(),
            inspector: Inspector::new(),
            registry: Registry::new(),
            detacher: Detacher::start()?,
            refused: HashSet::new(),
            accounts,
            canary: Canary::default(),
            counts: Arc::default(),
            unsupported: Unsupported::default(),
            reattached: HashSet::new(),
        })
    }

    /// Its counters, which outlive it.
    pub(super) fn counts(&self) -> Arc<Counts> {
        Arc::clone(&self.counts)
    }

    /// Covers what runs now.
    pub(super) fn cover(&mut self, stop: &AtomicBool) -> Result<(), LoadError> {
        // Processes that run already and are chosen become targets now; later ones do at their exec.
        chosen::list_running(&self.settings.targets, self.prober.targets());
        // Whoever asks for certain pids wants these probed and no others.
        if self.settings.targets.include.pids.is_empty() {
            self.probe_system_libraries(stop);
        }
        self.scan(stop);
        let began = Instant::now();
        while !stop.load(Ordering::Relaxed)
            && let Some(searched) = self.hunter.next(FIRST_SEARCHES.saturating_sub(began.elapsed()))
        {
            self.found(searched);
        }
        self.prober.follow_sockets()
    }

    /// Follows mappings and answers questions until it is told to stop.
    pub(super) fn watch(
        mut self,
        mut mappings: Option<MappingEvents>,
        asked: &Receiver<Sender<Report>>,
        stop: &AtomicBool,
        waker: &Waker,
    ) {
        let mut next_sweep = Instant::now() + SWEEP;
        while !stop.load(Ordering::Relaxed) {
            let mut rescan = false;
            match &mut mappings {
                Some(events) => {
                    events.wait(waker, WAIT);
                    events.drain(|event| match event {
                        MappingEvent::Mapped(mapping) => self.consider(&mapping),
                        MappingEvent::Lost(_) => rescan = true,
                    });
                }
                None => {
                    waker.wait(RESCAN);
                    rescan = true;
                }
            }
            while let Some(searched) = self.hunter.next(Duration::ZERO) {
                self.found(searched);
            }
            if rescan || (self.rescan && !self.hunter.is_busy()) {
                self.rescan = false;
                self.scan(stop);
            }
            self.catch_up();
            for answer in asked.try_iter() {
                // Nobody waits any more if it took too long.
                let _ = answer.send(self.report());
            }
            if Instant::now() >= next_sweep {
                next_sweep = Instant::now() + SWEEP;
                self.sweep(stop);
                self.listen();
            }
        }
    }

    fn is_wanted(&self, pid: u32) -> bool {
        chosen::is_wanted(&self.settings.targets, self.prober.targets(), pid)
    }

    fn scan(&mut self, stop: &AtomicBool) {
        for process in mapped::processes() {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            for mapping in mapped::executable(&process) {
                self.consider(&mapping);
            }
        }
    }

    fn probe_system_libraries(&mut self, stop: &AtomicBool) {
        for folder in LIBRARY_FOLDERS {
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                let name = entry.file_name();
                if is_tls_library(&name.to_string_lossy()) && !stop.load(Ordering::Relaxed) {
                    self.probe_system_library(entry.path());
                }
            }
        }
    }

    fn probe_system_library(&mut self, path: PathBuf) {
        let place = Place::Path(path);
        let answer = self.inspector.look(place.clone());
        self.take_answer(&place, answer);
    }

    fn consider(&mut self, mapping: &Mapping) {
        // Anonymous memory has no inode; a file of no process that is traced must not slow its users down.
        if mapping.inode == 0 || !self.is_wanted(mapping.pid) {
            return;
        }
        let known = match self.seen.get(&key_of(mapping)) {
            Some(known) => *known,
            None => {
                let place = Place::Mapped(mapping.clone());
                let answer = self.inspector.look(place.clone());
                self.take_answer(&place, answer)
            }
        };
        if let Some(identity) = known {
            self.registry.used_by(identity, mapping.pid);
        }
    }

    /// Does with a file what was found in it, and remembers what need not be asked again; gives the file's identity if it
    /// has probes now.
    fn take_answer(&mut self, place: &Place, answer: Result<Inspected, InspectError>) -> Option<Identity> {
        let name = place.name();
        let count = |counter: &std::sync::atomic::AtomicU64| counter.fetch_add(1, Ordering::Relaxed);
        let probed = match answer {
            Ok(inspected) => match self.probe(inspected, &name, place) {
                (probed, true) => probed,
                (_, false) => return None,
            },
            Err(error @ InspectError::Unreadable(_)) => {
                // The process may be gone already. If another one maps the file, it must be looked at then.
                tracing::debug!(path = name, error = %Chain(&error), "file not looked into");
                return None;
            }
            Err(error @ InspectError::Busy) => {
                count(&self.counts.busy);
                tracing::debug!(path = name, %error, "file not looked into");
                return None;
            }
            Err(error @ InspectError::Malformed(_)) => {
                tracing::debug!(path = name, error = %Chain(&error), "file not looked into");
                None
            }
            Err(error @ InspectError::Untrusted) => {
                count(&self.counts.untrusted);
                tracing::warn!(path = name, %error, "file not looked into");
                None
            }
            Err(error @ InspectError::Slow) => {
                count(&self.counts.slow);
                tracing::warn!(path = name, %error, "file not looked into yet");
                None
            }
            Err(error @ InspectError::Died) => {
                count(&self.counts.died);
                tracing::error!(path = name, %error, "file not looked into");
                None
            }
        };
        if let Place::Mapped(mapping) = place {
            if self.seen.len() >= MAX_SEEN {
                self.seen.clear();
            }
            self.seen.insert(key_of(mapping), probed);
        }
        probed
    }

    /// Takes the answers about files that were slow.
    fn catch_up(&mut self) {
        for (place, answer) in self.inspector.late() {
            let identity = self.take_answer(&place, answer);
            if let (Some(identity), Place::Mapped(mapping)) = (identity, &place) {
                self.registry.used_by(identity, mapping.pid);
            }
        }
    }

    /// Sets probes in a file, if it has functions to probe; gives its identity if it has probes now, and whether it is
    /// settled what it has: else it must be met again.
    fn probe(&mut self, inspected: Inspected, name: &str, place: &Place) -> (Option<Identity>, bool) {
        let Inspected { file, id, mut libraries, searchable } = inspected;
        libraries.retain(|library| library.functions.is_tls() || self.settings.step_clock);
        if let Some(known) = self.registry.find(&id) {
            if known != (id.device, id.inode) {
                self.counts.shared.fetch_add(1, Ordering::Relaxed);
                tracing::debug!(path = name, "another name of a file that has probes");
            }
            return (Some(known), true);
        }
        if !self.prober.can_probe_tls() || self.refused.contains(&(id.device, id.inode)) {
            return (None, true);
        }
        if libraries.is_empty() {
            let settled = match place {
                Place::Mapped(mapping) if searchable => self.search(file, id, mapping),
                _ => true,
            };
            return (None, settled);
        }
        (self.set(id, &file, name, libraries, matches!(place, Place::Path(_))), true)
    }

    /// Has a file without symbols searched; false if that must wait until it is met again.
    fn search(&mut self, file: std::fs::File, id: FileId, mapping: &Mapping) -> bool {
        let sighting = Sighting { id, mapping: mapping.clone() };
        let taken = self.hunter.search(Wanted { file, name: mapping.path.clone(), key: sighting });
        self.rescan |= !taken;
        taken
    }

    /// Sets probes in a file that was searched.
    fn found(&mut self, searched: Searched<Sighting>) {
        let Searched { wanted: Wanted { file, name, key: Sighting { id, mapping } }, findings } = searched;
        let Findings { libraries, refusals } = match findings {
            Ok(findings) => findings,
            Err(error) => {
                tracing::debug!(path = name, error = %Chain(&error), "not searched for TLS functions");
                return;
            }
        };
        for Refusal { library, what } in &refusals {
            self.refuse(&name, library, what);
        }
        if self.registry.find(&id).is_some() || self.refused.contains(&(id.device, id.inode)) {
            return;
        }
        if let Some(identity) = self.set(id, &file, &name, libraries, false) {
            self.seen.insert(key_of(&mapping), Some(identity));
            self.registry.used_by(identity, mapping.pid);
        }
    }

    /// Says of a file's TLS functions that they are not probed.
    fn refuse(&mut self, name: &str, library: &str, why: &str) {
        tracing::warn!(path = name, library, why, "TLS functions not probed");
        self.counts.unsupported.fetch_add(1, Ordering::Relaxed);
        self.unsupported.add(name, library, why);
    }

    /// Sets the probes of a file's libraries; gives its identity if it has probes now.
    fn set(
        &mut self,
        id: FileId,
        file: &std::fs::File,
        name: &str,
        mut libraries: Vec<Library>,
        pinned: bool,
    ) -> Option<Identity> {
        libraries.retain(|library| match library.refused.clone() {
            Some(why) => {
                self.refuse(name, library.functions.as_str(), &why);
                false
            }
            None => true,
        });
        if libraries.is_empty() {
            return None;
        }
        let began = Instant::now();
        self.free_slots();
        let Some(slot) = self.registry.reserve() else {
            self.counts.refused.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(path = name, "library not probed: {MAX_FILES} files are already");
            return None;
        };
        self.prober.clear_stats(slot);
        libraries.iter_mut().for_each(|library| library.assign(slot));
        libraries.retain(|library| library.places.is_empty() || self.prober.describe(slot, &library.places));
        let (links, wanted) = self.attach(file, name, &libraries);
        let (attached, took) = (links.len(), began.elapsed());
        if libraries.iter().any(|library| library.functions.is_tls()) {
            tracing::info!(path = name, attached, of = wanted, ?took, "TLS library probed");
        } else {
            tracing::info!(path = name, attached, of = wanted, ?took, "CUDA's runtime probed");
        }
        if links.is_empty() {
            self.registry.release(slot);
            return None;
        }
        let by_shape = libraries.iter().any(|library| library.evidence == Evidence::Shape);
        let evidence = if by_shape { Evidence::Shape } else { Evidence::Symbols };
        let functions = libraries.iter().map(|library| library.functions).collect();
        self.counts.probed.fetch_add(1, Ordering::Relaxed);
        let probes = libraries.into_iter().flat_map(|library| library.probes).collect();
        Some(self.registry.insert(id, name.to_owned(), functions, evidence, slot, probes, links, pinned))
    }

    fn attach(&mut self, file: &std::fs::File, name: &str, libraries: &[Library]) -> (Links, usize) {
        // The kernel follows the link to the inode, whatever the path means in this mount namespace.
        let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
        let probes: Vec<_> = libraries.iter().flat_map(|library| library.probes.iter().cloned()).collect();
        let links = self.prober.attach(&path, &probes, |error| {
            self.counts.probes_failed.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(path = name, error = %Chain(error), "probe not attached");
        });
        (links, probes.len())
    }
}

/// What a mapping's file is remembered by.
fn key_of(mapping: &Mapping) -> MappedFile {
    (mapping.device, mapping.inode, mapping.path.clone())
}

/// Whether a file of a library folder may be mapped by the next short-lived program that speaks TLS.
fn is_tls_library(name: &str) -> bool {
    name.starts_with("libssl.so") || name.starts_with("libgnutls.so")
}

/// An error with its sources, on one line.
struct Chain<'a>(&'a dyn std::error::Error);

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut next = self.0.source();
        while let Some(error) = next {
            write!(f, ": {error}")?;
            next = error.source();
        }
        Ok(())
    }
}
