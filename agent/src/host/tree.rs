//! The tree of processes, without the edges that join nothing.
//!
//! Owns who is whose parent, told apart by start times, and which edges make two processes one thing: a parent that is
//! no boundary, in the same control group. Pure. Leaves to `join` what follows from it.

use std::collections::{BTreeMap, HashMap};

use super::{
    Engine, ProcessInfo,
    boundary::{is_boundary, is_proxy},
    cgroup::is_shared,
    start::TICK_NS,
};

/// A process in the tree.
#[derive(Debug)]
pub(super) struct Node<'a> {
    pub process: &'a ProcessInfo,
    pub engine: Option<Engine>,
    /// It joins nothing, and nothing joins it.
    pub is_boundary: bool,
    /// It passes requests on for others.
    pub is_proxy: bool,
    /// Devices that it uses, in order.
    pub devices: Vec<u32>,
    /// The parent that it is joined to.
    pub parent: Option<usize>,
    /// Those that are joined to it, in order.
    pub children: Vec<usize>,
}

impl Node<'_> {
    pub(super) fn listens(&self) -> bool {
        !self.process.listens.is_empty()
    }
}

/// The processes in the order of their pids and starts.
#[derive(Debug)]
pub(super) struct Tree<'a> {
    pub nodes: Vec<Node<'a>>,
    /// Who has a pid now: the latest of those that had it.
    pub newest: HashMap<u32, usize>,
    /// Parents before their children.
    pub order: Vec<usize>,
}

impl<'a> Tree<'a> {
    /// The order of `processes` does not matter. Of two entries with one pid and one start either is taken, the same one
    /// always.
    pub(super) fn new(processes: &'a [ProcessInfo], gpu_pids: &[(u32, u32)]) -> Self {
        let mut sorted: Vec<&ProcessInfo> = processes.iter().collect();
        sorted.sort_by(|a, b| key(a).cmp(&key(b)));
        sorted.dedup_by_key(|process| (process.pid, process.start_boottime_ns / TICK_NS));
        let newest: HashMap<u32, usize> = sorted.iter().enumerate().map(|(at, process)| (process.pid, at)).collect();
        let mut devices: BTreeMap<usize, Vec<u32>> = BTreeMap::new();
        for (pid, device) in gpu_pids {
            if let Some(&at) = newest.get(pid) {
                devices.entry(at).or_default().push(*device);
            }
        }
        let nodes = sorted.iter().enumerate().map(|(at, process)| {
            let engine = Engine::recognise(process);
            let mut devices = devices.remove(&at).unwrap_or_default();
            devices.sort_unstable();
            devices.dedup();
            // Whoever computes is more than what started it, whatever it is called.
            let is_boundary = engine.is_none() && devices.is_empty() && is_boundary(process);
            let is_proxy = engine.is_none() && is_proxy(process);
            Node { process, engine, is_boundary, is_proxy, devices, parent: None, children: Vec::new() }
        });
        let mut tree = Self { nodes: nodes.collect(), newest, order: Vec::new() };
        tree.find_parents();
        tree.cut_cycles();
        tree.find_children();
        tree
    }

    fn find_parents(&mut self) {
        for at in 0..self.nodes.len() {
            let child = &self.nodes[at];
            if child.is_boundary {
                continue;
            }
            let parent = self.holder(child.process.parent, child.process.start_boottime_ns);
            let joins = |&parent: &usize| {
                parent != at
                    && !self.nodes[parent].is_boundary
                    && are_together(child.process, self.nodes[parent].process)
            };
            self.nodes[at].parent = parent.filter(joins);
        }
    }

    /// Who had a pid at a time: the latest that began by then. Two that began within one tick cannot be put in order.
    fn holder(&self, pid: u32, at_ns: u64) -> Option<usize> {
        let newest = *self.newest.get(&pid)?;
        let began = |node: &Node<'_>| at_ns == 0 || node.process.start_boottime_ns / TICK_NS <= at_ns / TICK_NS;
        (0..=newest).rev().take_while(|&at| self.nodes[at].process.pid == pid).find(|&at| began(&self.nodes[at]))
    }

    /// Read at different moments, processes may seem to be their own ancestors.
    fn cut_cycles(&mut self) {
        let mut seen_from = vec![usize::MAX; self.nodes.len()];
        for from in 0..self.nodes.len() {
            let mut at = from;
            while seen_from[at] == usize::MAX {
                seen_from[at] = from;
                let Some(parent) = self.nodes[at].parent else { break };
                if seen_from[parent] == from {
                    self.nodes[at].parent = None;
                    break;
                }
                at = parent;
            }
        }
    }

    fn find_children(&mut self) {
        for at in 0..self.nodes.len() {
            match self.nodes[at].parent {
                Some(parent) => self.nodes[parent].children.push(at),
                None => self.order.push(at),
            }
        }
        let mut next = 0;
        while let Some(&at) = self.order.get(next) {
            let Self { nodes, order, .. } = self;
            order.extend_from_slice(&nodes[at].children);
            next += 1;
        }
    }

    /// A process and its ancestors, as far as they are joined.
    pub(super) fn up(&self, from: usize) -> impl Iterator<Item = usize> + '_ {
        std::iter::successors(Some(from), |&at| self.nodes[at].parent)
    }

    /// The topmost ancestor, which all of a tree have in common.
    fn top(&self, from: usize) -> usize {
        self.up(from).last().unwrap_or(from)
    }

    /// Whether a socket between two processes may join them: they are in a control group that says something, or of
    /// one tree. What is somewhere else has another owner.
    pub(super) fn are_near(&self, a: usize, b: usize) -> bool {
        let (one, other) = (self.nodes[a].process, self.nodes[b].process);
        let is_own = |process: &ProcessInfo| process.cgroup.as_deref().is_some_and(|path| !is_shared(path));
        are_together(one, other) && (self.top(a) == self.top(b) || (is_own(one) && is_own(other)))
    }
}

/// Whether two processes are in one control group, or in parts of one container, pod or unit. What was not read is no
/// contradiction.
pub(super) fn are_together(a: &ProcessInfo, b: &ProcessInfo) -> bool {
    let same = |a: &Option<String>, b: &Option<String>| a.is_some() && a == b;
    a.cgroup.is_none()
        || b.cgroup.is_none()
        || a.cgroup == b.cgroup
        || same(&a.container_id, &b.container_id)
        || same(&a.pod_uid, &b.pod_uid)
        || same(&a.unit, &b.unit)
}

/// All that tells two entries apart.
fn key(process: &ProcessInfo) -> impl Ord + '_ {
    let ProcessInfo {
        pid,
        start_boottime_ns,
        parent,
        uid,
        comm,
        exe,
        cmdline,
        cgroup,
        container_id,
        unit,
        pod_uid,
        listens,
        engine_version,
    } = process;
    (
        (pid, start_boottime_ns, parent, uid, comm, exe, cmdline),
        (cgroup, container_id, unit, pod_uid, listens, engine_version),
    )
}
