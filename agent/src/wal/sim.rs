//! A file system in memory that forgets what was not synced, for tests.
//!
//! Every call is counted. One of them can be the last before a crash, or can fail. After a crash each write that was not synced
//! is there, is not, or is there in part, whichever the seed says, and so is each name of a directory, in any combination. What a
//! failed sync was to make durable stays visible and is never made durable by a later one, as on Linux. Directories are durable
//! when they are made.

use std::{
    any::Any,
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
};

use rustix::io::Errno;

use super::files::{Entry, Files, ReadFile, WriteFile};

/// What happens at which call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plan {
    Nothing,
    /// This call is done in part or in full, and no other is.
    Crash(u64),
    /// So many calls from this one on fail.
    Fail(u64, u64, Errno),
}

#[derive(Clone, Debug)]
enum Change {
    Write(usize, Vec<u8>),
    Truncate(usize),
}

impl Change {
    fn apply(&self, data: &mut Vec<u8>) {
        match self {
            Self::Write(at, bytes) => {
                data.resize(data.len().max(at + bytes.len()), 0);
                data[*at..at + bytes.len()].copy_from_slice(bytes);
            }
            Self::Truncate(len) => data.resize(*len, 0),
        }
    }
}

#[derive(Clone, Debug, Default)]
struct Node {
    data: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Change>,
}

#[derive(Clone, Debug)]
enum NameOp {
    Put(PathBuf, u64),
    Remove(PathBuf),
    Move(PathBuf, PathBuf, u64),
}

#[derive(Debug)]
struct State {
    nodes: HashMap<u64, Node>,
    next_node: u64,
    dirs: BTreeSet<PathBuf>,
    names: BTreeMap<PathBuf, u64>,
    durable_names: BTreeMap<PathBuf, u64>,
    pending: Vec<(PathBuf, NameOp)>,
    locks: HashSet<PathBuf>,
    random: u64,
    calls: u64,
    plan: Plan,
    crashed: bool,
}

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct SimFs(Arc<Mutex<State>>);

/// How a call goes on.
enum Fate {
    Fine,
    /// It fails, and may have had a part of its effect.
    Fails(io::Error),
}

impl State {
    fn random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }

    /// A number below `n`.
    fn below(&mut self, n: usize) -> usize {
        (self.random() % n.max(1) as u64) as usize
    }

    fn call(&mut self) -> io::Result<Fate> {
        if self.crashed {
            return Err(io::Error::other("the machine is down"));
        }
        self.calls += 1;
        match self.plan {
            Plan::Crash(at) if at == self.calls => {
                self.crashed = true;
                Ok(Fate::Fails(io::Error::other("the machine goes down")))
            }
            Plan::Fail(at, n, kind) if (at..at.saturating_add(n)).contains(&self.calls) => Ok(Fate::Fails(kind.into())),
            Plan::Nothing | Plan::Crash(_) | Plan::Fail(..) => Ok(Fate::Fine),
        }
    }

    /// For calls that change nothing, or fail without an effect.
    fn plain_call(&mut self) -> io::Result<()> {
        match self.call()? {
            Fate::Fine => Ok(()),
            Fate::Fails(error) => Err(error),
        }
    }

    fn node(&mut self, path: &Path) -> io::Result<u64> {
        self.names.get(path).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn sync_node(&mut self, id: u64) -> io::Result<()> {
        let fate = self.call()?;
        let mut pending = self.nodes.get_mut(&id).map(|node| std::mem::take(&mut node.pending)).unwrap_or_default();
        let result = match fate {
            Fate::Fine => Ok(()),
            Fate::Fails(error) => {
                pending.retain(|_| self.random().is_multiple_of(2));
                Err(error)
            }
        };
        if let Some(node) = self.nodes.get_mut(&id) {
            pending.iter().for_each(|change| change.apply(&mut node.durable));
        }
        result
    }

    /// Within a directory a move is one change; between two it is one in each, and a sync of one is none of the other.
    fn moved(&mut self, from: &Path, to: &Path, id: u64) {
        if from.parent() == to.parent() {
            self.named(NameOp::Move(from.to_owned(), to.to_owned(), id));
        } else {
            self.named(NameOp::Put(to.to_owned(), id));
            self.named(NameOp::Remove(from.to_owned()));
        }
    }

    fn named(&mut self, op: NameOp) {
        let (NameOp::Put(path, _) | NameOp::Remove(path) | NameOp::Move(_, path, _)) = &op;
        apply(&mut self.names, &op);
        self.pending.push((path.parent().unwrap().to_owned(), op));
    }
}

fn apply(names: &mut BTreeMap<PathBuf, u64>, op: &NameOp) {
    match op {
        NameOp::Put(path, id) => {
            names.insert(path.clone(), *id);
        }
        NameOp::Remove(path) => {
            names.remove(path);
        }
        NameOp::Move(from, to, id) => {
            names.remove(from);
            names.insert(to.clone(), *id);
        }
    }
}

impl SimFs {
    pub(crate) fn new(seed: u64, plan: Plan) -> Self {
        Self(Arc::new(Mutex::new(State {
            nodes: HashMap::new(),
            next_node: 1,
            dirs: BTreeSet::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            pending: Vec::new(),
            locks: HashSet::new(),
            random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            calls: 0,
            plan,
            crashed: false,
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    pub(crate) fn calls(&self) -> u64 {
        self.state().calls
    }

    /// Another plan from here on, given the calls so far.
    pub(crate) fn set_plan(&self, plan: impl FnOnce(u64) -> Plan) {
        let mut state = self.state();
        state.plan = plan(state.calls);
    }

    pub(crate) fn is_down(&self) -> bool {
        self.state().crashed
    }

    /// What is there when the machine is up again.
    pub(crate) fn restarted(&self) -> Self {
        let mut state = self.state();
        let mut names = state.durable_names.clone();
        for (_, op) in state.pending.clone() {
            if state.below(2) == 0 {
                apply(&mut names, &op);
            }
        }
        let mut nodes = HashMap::new();
        let ids: BTreeSet<u64> = names.values().copied().collect();
        for id in ids {
            let node = state.nodes.get(&id).cloned().unwrap_or_default();
            let mut data = node.durable;
            for change in &node.pending {
                match (state.below(4), change) {
                    (0, _) => {}
                    (1, Change::Write(at, bytes)) => {
                        let part = state.below(bytes.len() + 1);
                        Change::Write(*at, bytes[..part].to_vec()).apply(&mut data);
                    }
                    // Its end reached the disk, and its beginning did not.
                    (2, Change::Write(at, bytes)) => {
                        let lost = state.below(bytes.len() + 1);
                        let zeros = [vec![0; lost], bytes[lost..].to_vec()].concat();
                        Change::Write(*at, zeros).apply(&mut data);
                    }
                    (_, change) => change.apply(&mut data),
                }
            }
            nodes.insert(id, Node { data: data.clone(), durable: data, pending: Vec::new() });
        }
        let new = Self::new(state.random(), Plan::Nothing);
        {
            let mut after = new.state();
            after.dirs = state.dirs.clone();
            after.durable_names = names.clone();
            after.names = names;
            after.nodes = nodes;
            after.next_node = state.next_node;
        }
        new
    }

    /// The bytes of a file.
    pub(crate) fn bytes(&self, path: &Path) -> Option<Vec<u8>> {
        let state = self.state();
        state.names.get(path).and_then(|id| state.nodes.get(id)).map(|node| node.data.clone())
    }

    /// Puts a file there, durably.
    pub(crate) fn put(&self, path: &Path, bytes: &[u8]) {
        let mut state = self.state();
        let id = state.next_node;
        state.next_node += 1;
        state.nodes.insert(id, Node { data: bytes.to_vec(), durable: bytes.to_vec(), pending: Vec::new() });
        state.names.insert(path.to_owned(), id);
        state.durable_names.insert(path.to_owned(), id);
    }

    /// All files.
    pub(crate) fn paths(&self) -> Vec<PathBuf> {
        self.state().names.keys().cloned().collect()
    }
}

impl Files for SimFs {
    fn make_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.plain_call()?;
        state.dirs.insert(dir.to_owned());
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        let mut state = self.state();
        state.plain_call()?;
        let inside = |path: &&PathBuf| path.parent() == Some(dir);
        let entry = |path: &PathBuf, is_file, len| Entry { name: path.file_name().unwrap().to_owned(), is_file, len };
        let dirs = state.dirs.iter().filter(inside).map(|path| entry(path, false, 0));
        let files = state.names.iter().filter(|(path, _)| inside(path));
        Ok(dirs.chain(files.map(|(path, id)| entry(path, true, state.nodes[id].data.len() as u64))).collect())
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn ReadFile>> {
        let mut state = self.state();
        state.plain_call()?;
        let id = state.node(path)?;
        Ok(Box::new(SimFile { fs: self.clone(), id, end: 0 }))
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn WriteFile>> {
        let mut state = self.state();
        let fate = state.call()?;
        if state.names.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let id = state.next_node;
        if matches!(fate, Fate::Fine) || state.below(2) == 0 {
            state.next_node += 1;
            state.nodes.insert(id, Node::default());
            state.named(NameOp::Put(path.to_owned(), id));
        }
        match fate {
            Fate::Fine => Ok(Box::new(SimFile { fs: self.clone(), id, end: 0 })),
            Fate::Fails(error) => Err(error),
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        let fate = state.call()?;
        let id = state.node(from)?;
        match fate {
            Fate::Fine => {
                state.moved(from, to, id);
                Ok(())
            }
            Fate::Fails(error) => {
                // A machine that goes down may have done it.
                if state.crashed && state.below(2) == 0 {
                    state.moved(from, to, id);
                }
                Err(error)
            }
        }
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        let fate = state.call()?;
        state.node(path)?;
        let done = matches!(fate, Fate::Fine) || (state.crashed && state.below(2) == 0);
        if done {
            state.named(NameOp::Remove(path.to_owned()));
        }
        match fate {
            Fate::Fine => Ok(()),
            Fate::Fails(error) => Err(error),
        }
    }

    fn sync_file(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        let id = state.node(path)?;
        state.sync_node(id)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state();
        let fate = state.call()?;
        if let Fate::Fails(error) = fate {
            return Err(error);
        }
        let (synced, rest) = std::mem::take(&mut state.pending).into_iter().partition(|(parent, _)| parent == dir);
        state.pending = rest;
        let synced: Vec<(PathBuf, NameOp)> = synced;
        synced.iter().for_each(|(_, op)| apply(&mut state.durable_names, op));
        Ok(())
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Any + Send + Sync>>> {
        let mut state = self.state();
        state.plain_call()?;
        let free = state.locks.insert(path.to_owned());
        Ok(free.then(|| Box::new(Held(self.clone(), path.to_owned())) as Box<dyn Any + Send + Sync>))
    }
}

struct Held(SimFs, PathBuf);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.state().locks.remove(&self.1);
    }
}

#[derive(Debug)]
struct SimFile {
    fs: SimFs,
    id: u64,
    end: usize,
}

impl ReadFile for SimFile {
    fn len(&self) -> io::Result<u64> {
        let mut state = self.fs.state();
        state.plain_call()?;
        Ok(state.nodes[&self.id].data.len() as u64)
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let mut state = self.fs.state();
        state.plain_call()?;
        let data = state.nodes[&self.id].data.get(offset as usize..).unwrap_or_default();
        let n = data.len().min(buf.len());
        buf[..n].copy_from_slice(&data[..n]);
        Ok(n)
    }
}

impl WriteFile for SimFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.fs.state();
        let (bytes, result) = match state.call()? {
            Fate::Fine => (bytes, Ok(())),
            Fate::Fails(error) => {
                let part = state.below(bytes.len() + 1);
                (&bytes[..part], Err(error))
            }
        };
        let change = Change::Write(self.end, bytes.to_vec());
        let node = state.nodes.get_mut(&self.id).unwrap();
        change.apply(&mut node.data);
        node.pending.push(change);
        if result.is_ok() {
            self.end += bytes.len();
        }
        result
    }

    fn sync(&mut self) -> io::Result<()> {
        self.fs.state().sync_node(self.id)
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        let mut state = self.fs.state();
        state.plain_call()?;
        let change = Change::Truncate(len as usize);
        let node = state.nodes.get_mut(&self.id).unwrap();
        change.apply(&mut node.data);
        node.pending.push(change);
        self.end = len as usize;
        Ok(())
    }
}
