//! Models that are loaded: from the start of the program to the first token.
//!
//! Owns what was seen of each load and when it is over. A load begins when a process opens files with weights. It is over
//! when the first token of the engine that the process belongs to has been sent; then it is told, once. One that began
//! before anybody serves has the start of the engine's programs as its own start; one that a call waited for begins with the
//! first file and is that call's. Files that are opened while an engine goes on serving are reads like others, and no load.
//!
//! What a process read from storage comes from the counters that the edge takes while it loads ([`Loads::reading`]). Which
//! processes are one engine is `host::group`'s.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::facts::{LoadPhase, ModelLoad};
use crate::{
    call::SpanIds,
    host::{ProcessIdentity, ProcessUsage},
    record::FileOpen,
    time::Mono,
};

/// Processes whose beginning is remembered: those that live at one time. Beyond it later ones have none.
const MAX_SEEN: usize = 8_192;

/// Processes that load at one time. Engines have a worker for each GPU; beyond it later ones are not noted.
const MAX_LOADING: usize = 64;

/// Files whose sizes are added up, and opens that wait for their engine to be known.
const MAX_FILES: usize = 4_096;
const MAX_UNTOLD: usize = 64;

/// Files that are smaller hold no weights, whatever they are called: Python's interpreter opens `.pth` files of its packages
/// whenever it starts.
const LEAST_BYTES: u64 = 256 << 10;

/// How long a load may take: what has served nobody by then does not load a model to serve it.
const LONGEST_NS: u64 = 30 * 60 * 1_000_000_000;

/// How long before its first file a server may have begun to listen and still be starting: some listen while they load.
const STARTING_NS: u64 = 10_000_000_000;

/// How long the span waits for the end of the call that had the first token.
pub(super) const CALL_NS: u64 = 10_000_000_000;

/// How long after its last file or read a process that loads is still looked at often.
const STILL_NS: u64 = 10_000_000_000;

/// Storage that is read at this rate is being loaded from.
const READING_BYTES_PER_SECOND: u64 = 1 << 20;

/// Flags of `open(2)` with which files are made and not read: include/uapi/asm-generic/fcntl.h.
const O_WRONLY: u32 = 0o1;
const O_CREAT: u32 = 0o100;
const O_TRUNC: u32 = 0o1000;

/// A first token.
#[derive(Clone, Copy, Debug)]
struct Served {
    /// When the request had come.
    asked: Mono,
    token: Mono,
    /// The call, once it is over.
    call: Option<SpanIds>,
}

/// What was seen of a process.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    exec: Option<Mono>,
    listening: Option<Mono>,
    /// The first token that it ever sent.
    ever: Option<Mono>,
    /// The first since the oldest load that is not over.
    served: Option<Served>,
}

/// A process that opens files with weights.
#[derive(Clone, Debug)]
struct Load {
    first_open: Mono,
    last_open: Mono,
    path: String,
    files: u64,
    bytes: u64,
    inodes: HashSet<u64>,
    /// Opens that no engine knows of yet.
    untold: Vec<(Mono, String)>,
    /// Counters: the first and the last that were taken, and when it last read.
    read: Option<(u64, Mono, u64)>,
    read_until: Option<Mono>,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Loads {
    seen: HashMap<u32, Seen>,
    loading: BTreeMap<u32, Load>,
    refused: u64,
}

impl Loads {
    /// A process became another program.
    pub fn exec(&mut self, at: Mono, pid: u32) {
        self.loading.remove(&pid);
        if let Some(seen) = self.seen(pid) {
            *seen = Seen { exec: Some(at), ..Seen::default() };
        }
    }

    /// A process began to listen.
    pub fn listened(&mut self, at: Mono, pid: u32) {
        if let Some(seen) = self.seen(pid) {
            seen.listening.get_or_insert(at);
        }
    }

    /// A process ended: it loads no more. True if it did.
    pub fn exited(&mut self, pid: u32) -> bool {
        self.seen.remove(&pid);
        self.loading.remove(&pid).is_some()
    }

    /// A process opened a file with weights. True if it begins to load.
    pub fn opened(&mut self, at: Mono, pid: u32, open: &FileOpen<'_>) -> bool {
        let is_small = open.size.is_some_and(|size| size < LEAST_BYTES);
        if is_small || open.flags & (O_WRONLY | O_CREAT | O_TRUNC) != 0 {
            return false;
        }
        let path = String::from_utf8_lossy(open.path).into_owned();
        let is_new = !self.loading.contains_key(&pid);
        if is_new && self.loading.len() >= MAX_LOADING {
            self.refused += 1;
            return false;
        }
        let load = self.loading.entry(pid).or_insert_with(|| Load {
            first_open: at,
            last_open: at,
            path: path.clone(),
            files: 0,
            bytes: 0,
            inodes: HashSet::new(),
            untold: Vec::new(),
            read: None,
            read_until: None,
        });
        load.last_open = load.last_open.max(at);
        if load.untold.len() < MAX_UNTOLD {
            load.untold.push((at, path));
        }
        let is_counted = match open.inode {
            Some(inode) => load.inodes.len() < MAX_FILES && load.inodes.insert(inode),
            None => true,
        };
        if is_counted {
            load.files += 1;
            load.bytes = load.bytes.saturating_add(open.size.unwrap_or(0));
        }
        is_new
    }

    /// Opens of processes that load and are not followed.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// Opens of processes that `is_known` knows now.
    pub fn untold(&mut self, is_known: impl Fn(u32) -> bool) -> Vec<(u32, Mono, String)> {
        let mut told = Vec::new();
        for (pid, load) in self.loading.iter_mut().filter(|(pid, _)| is_known(**pid)) {
            told.extend(load.untold.drain(..).map(|(at, path)| (*pid, at, path)));
        }
        told
    }

    /// A process has sent the first token of a call that had come at `asked`; `call` when it is over.
    pub fn served(&mut self, pid: u32, asked: Mono, token: Mono, call: Option<SpanIds>) {
        let oldest = self.loading.values().map(|load| load.first_open).min();
        let Some(seen) = self.seen(pid) else { return };
        seen.ever = Some(seen.ever.map_or(token, |ever| ever.min(token)));
        // Nobody loads: nothing is to be remembered.
        let Some(oldest) = oldest.filter(|oldest| *oldest <= token) else { return };
        match &mut seen.served {
            Some(known) if known.token >= oldest && known.token < token => {}
            Some(known) if known.token == token => known.call = known.call.or(call),
            served => *served = Some(Served { asked, token, call }),
        }
    }

    /// Counters of processes.
    pub fn usage(&mut self, at: Mono, processes: &[ProcessUsage]) {
        for now in processes {
            let Some(load) = self.loading.get_mut(&now.pid) else { continue };
            let Some(bytes) = now.read_bytes else { continue };
            let Some((first, before_at, before)) = load.read else {
                load.read = Some((bytes, at, bytes));
                continue;
            };
            let passed = u128::from(at.0.saturating_sub(before_at.0));
            let read = u128::from(bytes.saturating_sub(before));
            if read * 1_000_000_000 >= passed * u128::from(READING_BYTES_PER_SECOND) && read > 0 {
                load.read_until = Some(at);
            }
            load.read = Some((first, at, bytes));
        }
    }

    /// Processes whose counters are of interest.
    pub fn reading(&self) -> impl Iterator<Item = u32> {
        self.loading.keys().copied()
    }

    /// Whether one of them does something that is to be looked at often.
    pub fn is_reading(&self, now: Mono) -> bool {
        let last = |load: &Load| load.read_until.map_or(load.last_open, |until| until.max(load.last_open));
        self.loading.values().any(|load| now.0.saturating_sub(last(load).0) < STILL_NS)
    }

    /// Loads that are over by `now`. `engine` gives a process's engine by its place and all its processes.
    pub fn finished(
        &mut self,
        now: Mono,
        engine: impl Fn(u32) -> Option<(usize, Vec<u32>)>,
    ) -> Vec<(usize, ModelLoad)> {
        self.loading.retain(|_, load| now.0.saturating_sub(load.first_open.0) < LONGEST_NS);
        let mut by_engine: BTreeMap<usize, (Vec<u32>, Vec<u32>)> = BTreeMap::new();
        for pid in self.loading.keys() {
            if let Some((number, members)) = engine(*pid) {
                by_engine.entry(number).or_insert_with(|| (members, Vec::new())).1.push(*pid);
            }
        }
        let mut found = Vec::new();
        for (number, (members, loaders)) in by_engine {
            let Some((served, is_load)) = self.first_token(&members, &loaders) else { continue };
            if served.call.is_none() && now.0.saturating_sub(served.token.0) < CALL_NS {
                continue;
            }
            let load = self.tell(&members, &loaders, served);
            self.loading.retain(|pid, _| !loaders.contains(pid));
            found.extend(load.filter(|_| is_load).map(|load| (number, load)));
        }
        found
    }

    /// The first token that processes sent after these had begun to load, and whether it was a load.
    fn first_token(&self, members: &[u32], loaders: &[u32]) -> Option<(Served, bool)> {
        let begun = loaders.iter().filter_map(|pid| Some(self.loading.get(pid)?.first_open)).min()?;
        let seen = |pids: &[u32]| -> Vec<Seen> { pids.iter().filter_map(|pid| self.seen.get(pid).copied()).collect() };
        // One that serves by itself: another's token is that of another model.
        let own: Vec<u32> = loaders
            .iter()
            .copied()
            .filter(|pid| self.seen.get(pid).is_some_and(|seen| seen.listening.is_some()))
            .collect();
        let candidates = seen(if own.is_empty() { members } else { &own });
        let tokens = candidates.iter().filter_map(|seen| seen.served).filter(|served| served.token >= begun);
        let served = tokens.min_by_key(|served| served.token)?;
        let is_first = candidates.iter().all(|seen| seen.ever.is_none_or(|ever| ever >= begun));
        Some((served, is_first || served.asked <= begun))
    }

    fn tell(&self, members: &[u32], loaders: &[u32], served: Served) -> Option<ModelLoad> {
        let loads: Vec<(u32, &Load)> = loaders.iter().filter_map(|pid| Some((*pid, self.loading.get(pid)?))).collect();
        let (pid, first) = loads.iter().min_by_key(|(_, load)| load.first_open)?;
        let first_open = first.first_open;
        // Programs that are starting too. One that has listened for long was there before.
        let starting = members.iter().filter_map(|pid| self.seen.get(pid)).filter(|seen| {
            seen.listening.is_none_or(|listening| listening.0.saturating_add(STARTING_NS) > first_open.0)
                && seen.ever.is_none_or(|ever| ever >= first_open)
        });
        let exec = starting.filter_map(|seen| seen.exec).filter(|exec| *exec <= first_open).min();
        let last_open = loads.iter().map(|(_, load)| load.last_open).max()?;
        let read_until = loads.iter().filter_map(|(_, load)| load.read_until).max();
        let read = loads.iter().filter_map(|(_, load)| load.read).map(|(first, _, last)| last.saturating_sub(first));
        let weights_end = last_open.max(read_until.unwrap_or(last_open)).min(served.token);
        let listening = members.iter().filter_map(|pid| self.seen.get(pid)?.listening);
        let ready = listening.filter(|at| *at > weights_end && *at <= served.token).min();
        let asked = served.asked.clamp(ready.unwrap_or(weights_end), served.token);
        let steps = [
            (LoadPhase::StartUp, exec, Some(first_open)),
            (LoadPhase::Weights, Some(first_open), Some(weights_end)),
            (LoadPhase::WarmUp, Some(weights_end), ready),
            (LoadPhase::Idle, Some(ready.unwrap_or(weights_end)), Some(asked)),
            (LoadPhase::FirstToken, Some(asked), Some(served.token)),
        ];
        let phases = steps.into_iter().filter_map(|(phase, from, to)| Some((phase, from?, to?)));
        // The files of tensor-parallel workers are the same ones.
        let most = loads.iter().map(|(_, load)| *load).max_by_key(|load| load.bytes)?;
        Some(ModelLoad {
            process: ProcessIdentity { pid: *pid, ..ProcessIdentity::default() },
            processes: loads.len() as u64,
            path: first.path.clone(),
            begun: first_open,
            files: most.files,
            bytes: most.bytes,
            read_bytes: loads.iter().any(|(_, load)| load.read.is_some()).then(|| read.sum()),
            start: exec.unwrap_or(first_open),
            end: served.token,
            phases: phases.filter(|(_, from, to)| from < to).collect(),
            call: served.call.filter(|_| served.asked <= first_open),
            engine: None,
            model: None,
        })
    }

    /// What is remembered of a process, if there is room.
    fn seen(&mut self, pid: u32) -> Option<&mut Seen> {
        if self.seen.len() >= MAX_SEEN && !self.seen.contains_key(&pid) {
            return None;
        }
        Some(self.seen.entry(pid).or_default())
    }
}

#[cfg(test)]
#[path = "tests/loads.rs"]
mod tests;
