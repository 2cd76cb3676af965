//! Which processes make up one engine.
//!
//! Owns the groups: who is in one, in which role, on which GPUs, how sure that is and why; and what lies between two
//! servers of one host of which one passes a request on to the other. Pure. How processes are joined is `join`'s.
//!
//! A group is made for every engine that is recognised and for every process that uses a GPU. What was not read (sockets
//! of other users, a control group) makes a group smaller or less certain, never larger.

use std::{collections::HashMap, fmt};

use super::{
    Kind, LocalLink, ProcessInfo, Role, join,
    start::{TICK_NS, same_start},
    tree::Tree,
};

/// A group's name as long as its first process lives: that one's pid and start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId {
    /// Pid of the root member.
    pub pid: u32,
    /// Its start, nanoseconds since boot rounded down to a tick, so that it is the same from `/proc` and from the kernel.
    pub start_boottime_ns: u64,
}

impl fmt::Display for GroupId {
    /// `pid-start`, the start in ticks.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.pid, self.start_boottime_ns / TICK_NS)
    }
}

/// What a group was made by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Evidence {
    /// A command line or title that an engine's processes have.
    CommandLine,
    /// One has started the other, directly or through those that it started.
    ProcessTree,
    /// All are in one control group that is theirs alone.
    ControlGroup,
    /// They speak over a socket of this host.
    LocalSocket,
    /// One uses a GPU.
    Gpu,
}

impl Evidence {
    /// The name in attributes.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CommandLine => "command_line",
            Self::ProcessTree => "process_tree",
            Self::ControlGroup => "control_group",
            Self::LocalSocket => "local_socket",
            Self::Gpu => "gpu",
        }
    }

    /// How much doubt it leaves. The numbers put groups in an order; no measurement is behind them.
    fn doubt(self) -> f64 {
        match self {
            Self::CommandLine => 0.2,
            Self::ProcessTree => 0.3,
            Self::LocalSocket => 0.4,
            Self::ControlGroup | Self::Gpu => 0.7,
        }
    }
}

/// A process of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// As in [`ProcessInfo`].
    pub pid: u32,
    /// As in [`ProcessInfo`].
    pub start_boottime_ns: u64,
    /// What it does; none for a helper.
    pub role: Option<Role>,
    /// The model that its own command line names.
    pub model: Option<String>,
    /// GPUs that it uses.
    pub devices: Vec<u32>,
}

/// The processes of one engine.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// Its name.
    pub id: GroupId,
    /// The engine.
    pub kind: Kind,
    /// Its processes, in the order of their pids.
    pub members: Vec<Member>,
    /// GPUs that they use, in order.
    pub devices: Vec<u32>,
    /// The engine's version, where a file of it says so.
    pub version: Option<String>,
    /// The model, if all command lines that name one name the same.
    pub model: Option<String>,
    /// The name that requests call it by, likewise.
    pub served_name: Option<String>,
    /// From 0 to 1, by what the group was made of.
    pub confidence: f64,
    /// What it was made of, in order.
    pub evidence: Vec<Evidence>,
    /// Servers that are no part of it and speak to it: proxies in front of it. In order.
    pub fronts: Vec<u32>,
}

/// What lies between two servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hop {
    /// Both are one engine: the second serves what the first was asked (Ollama and its runner, a router and its shard).
    Runner,
    /// The first is a server of its own that passes requests on.
    Proxy,
}

impl Hop {
    /// The name in attributes.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Runner => "runner",
            Self::Proxy => "proxy",
        }
    }
}

/// A process that groups were looked for around.
#[derive(Clone, Copy, Debug)]
struct Known {
    start_boottime_ns: u64,
    group: Option<usize>,
    is_server: bool,
}

/// All groups of a host.
#[derive(Clone, Debug, Default)]
pub struct Groups {
    groups: Vec<Group>,
    known: HashMap<u32, Known>,
}

impl Groups {
    /// Groups the processes. `gpu_pids` are pairs of a process and a device that it uses, both in the numbers of the
    /// initial pid namespace and of [`DeviceInfo`](crate::gpu::DeviceInfo). A pid in a link or on a GPU is that of the
    /// latest process that has it. The order of none of the three matters.
    pub fn build(processes: &[ProcessInfo], links: &[LocalLink], gpu_pids: &[(u32, u32)]) -> Self {
        let tree = Tree::new(processes, gpu_pids);
        let links = join::Links::new(&tree, links);
        let sets = join::join(&tree, &links);
        let mut built = Self::default();
        let mut group_of = vec![None; tree.nodes.len()];
        for set in &sets {
            for &at in set {
                group_of[at] = Some(built.groups.len());
            }
            built.groups.push(describe(&tree, &links, set));
        }
        for (at, node) in tree.nodes.iter().enumerate() {
            let known = Known {
                start_boottime_ns: node.process.start_boottime_ns,
                group: group_of[at],
                is_server: node.listens() || node.is_proxy,
            };
            // In order of starts: the latest of a pid stays.
            built.known.insert(node.process.pid, known);
        }
        built
    }

    /// The groups, in the order of their roots' pids.
    pub fn all(&self) -> &[Group] {
        &self.groups
    }

    /// The group of the process that has this pid now.
    pub fn serving(&self, pid: u32) -> Option<&Group> {
        self.groups.get(self.known.get(&pid)?.group?)
    }

    /// The group of a process, if it still has its pid.
    pub fn serving_process(&self, pid: u32, start_boottime_ns: u64) -> Option<&Group> {
        let known = self.known.get(&pid)?;
        same_start(known.start_boottime_ns, start_boottime_ns).then(|| self.serving(pid)).flatten()
    }

    /// What lies between a server and another one that it has sent a request on to. That it has is the caller's to know:
    /// connections come and go between two looks at the host. None where the first is no server but a client, and
    /// where one of them is not known.
    pub fn hop(&self, front: u32, back: u32) -> Option<Hop> {
        let (a, b) = (self.known.get(&front)?, self.known.get(&back)?);
        let (serves, is_one) = (a.is_server || a.group.is_some(), a.group.is_some() && a.group == b.group);
        match (front == back, is_one) {
            (true, _) => None,
            (false, true) => Some(Hop::Runner),
            (false, false) => (serves && (b.is_server || b.group.is_some())).then_some(Hop::Proxy),
        }
    }
}

/// What is to be said of a set of processes.
fn describe(tree: &Tree<'_>, links: &join::Links, set: &[usize]) -> Group {
    let has = |at: &usize| set.binary_search(at).is_ok();
    let is_top = |at: &usize| !tree.nodes[*at].parent.is_some_and(|parent| has(&parent));
    let age = |at: &usize| (tree.nodes[*at].process.start_boottime_ns / TICK_NS, tree.nodes[*at].process.pid);
    let root = set.iter().copied().filter(is_top).min_by_key(age).unwrap_or_default();
    // The engine's own processes, the oldest first: what the first says holds for the group.
    let mut ages: Vec<usize> = set.to_vec();
    ages.sort_by_key(age);
    let engines = || ages.iter().filter_map(|&at| tree.nodes[at].engine.as_ref());
    let head = tree.nodes[root].engine.as_ref().or_else(|| engines().next());
    let agreed = |of: fn(&super::Engine) -> Option<&String>| {
        let mut named = engines().filter_map(of);
        let first = named.next()?;
        named.all(|other| other == first).then(|| first.clone())
    };
    let mut devices: Vec<u32> = set.iter().flat_map(|&at| &tree.nodes[at].devices).copied().collect();
    devices.sort_unstable();
    devices.dedup();
    let evidence = evidence(tree, links, set);
    let fronts = links.outside(set).filter(|&at| tree.nodes[at].listens() || tree.nodes[at].is_proxy);
    let mut fronts: Vec<u32> = fronts.map(|at| tree.nodes[at].process.pid).collect();
    fronts.sort_unstable();
    fronts.dedup();
    let member = |&at: &usize| {
        let node = &tree.nodes[at];
        Member {
            pid: node.process.pid,
            start_boottime_ns: node.process.start_boottime_ns,
            role: role(tree, links, set, root, at),
            model: node.engine.as_ref().and_then(|engine| engine.model.clone()),
            devices: node.devices.clone(),
        }
    };
    let first = tree.nodes[root].process;
    Group {
        id: GroupId { pid: first.pid, start_boottime_ns: first.start_boottime_ns / TICK_NS * TICK_NS },
        kind: head.map(|engine| engine.kind).unwrap_or_default(),
        members: set.iter().map(member).collect(),
        devices,
        version: engines().find_map(|engine| engine.version.clone()),
        model: agreed(|engine| engine.model.as_ref()),
        served_name: agreed(|engine| engine.served_name.as_ref()),
        confidence: 1.0 - evidence.iter().map(|kind| kind.doubt()).product::<f64>(),
        evidence,
        fronts,
    }
}

fn evidence(tree: &Tree<'_>, links: &join::Links, set: &[usize]) -> Vec<Evidence> {
    let nodes = || set.iter().map(|&at| &tree.nodes[at]);
    let has = |at: usize| set.binary_search(&at).is_ok();
    let group =
        |node: &super::tree::Node<'_>| node.process.cgroup.clone().filter(|path| !super::cgroup::is_shared(path));
    let first = nodes().next().and_then(group);
    let mut parents: Vec<usize> = nodes().filter_map(|node| node.parent).collect();
    parents.sort_unstable();
    let is_tree = parents.iter().any(|&parent| has(parent)) || parents.windows(2).any(|pair| pair[0] == pair[1]);
    let holds = [
        (Evidence::CommandLine, nodes().any(|node| node.engine.is_some())),
        (Evidence::ProcessTree, is_tree),
        (Evidence::ControlGroup, set.len() > 1 && first.is_some() && nodes().all(|node| group(node) == first)),
        (Evidence::LocalSocket, set.iter().any(|&at| links.of(at).iter().any(|&other| has(other)))),
        (Evidence::Gpu, nodes().any(|node| !node.devices.is_empty())),
    ];
    holds.into_iter().filter(|&(_, holds)| holds).map(|(kind, _)| kind).collect()
}

/// What a member does: what its command line says, else what follows from its place.
fn role(tree: &Tree<'_>, links: &join::Links, set: &[usize], root: usize, at: usize) -> Option<Role> {
    let node = &tree.nodes[at];
    let others = || set.iter().filter(|&&other| other != at).map(|&other| &tree.nodes[other]);
    let said = node.engine.as_ref().map(|engine| engine.role);
    let serves =
        |node: &super::tree::Node<'_>| node.engine.as_ref().is_some_and(|engine| engine.role == Some(Role::ApiServer));
    match said {
        // Whoever was told to serve and has started servers leaves it to them.
        Some(Some(Role::ApiServer)) if at == root && others().any(|other| serves(other) && other.parent.is_some()) => {
            Some(Role::Launcher)
        }
        Some(role) => role,
        None if node.listens() => Some(Role::ApiServer),
        None if !node.devices.is_empty() => Some(Role::Worker),
        None if at == root && set.len() > 1 && tree.nodes[at].children.iter().any(|child| set.contains(child)) => {
            Some(Role::Launcher)
        }
        // Between those who serve and those who compute.
        None if links.of(at).iter().any(|other| set.contains(other) && !tree.nodes[*other].devices.is_empty()) => {
            Some(Role::EngineCore)
        }
        None => None,
    }
}

#[cfg(test)]
#[path = "group_tests.rs"]
mod tests;
