//! How processes are joined to engines.
//!
//! Owns the rules, in this order:
//!
//! 1. Everything below a process that is recognised as an engine's belongs to it, up to the next boundary; and so do
//!    two that share a listening port, one of which started the other.
//! 2. Some processes cannot serve by themselves: the parts of an engine whose server is not among them, and those that
//!    use a GPU without an engine's name. For each of them the server is looked for. What speaks to it over a socket and
//!    is neither a server nor on a GPU stands between it and its server.
//! 3. The server is the nearest one in the tree: an ancestor, or the only one below an ancestor. Where several are,
//!    a socket must tell. The ancestor itself belongs to them if it has started nothing else.
//! 4. Where the tree has none, the one server near by that it speaks to over a socket.
//!
//! Never a server: a proxy that is known as one, a server on a GPU of its own, another engine's. So two engines from one
//! shell, or from one script, stay two. Where nothing decides, nothing is joined.
//!
//! Pure. Leaves the tree to `tree`, what is said of a set to `group`. To add a rule: a method of [`Joining`], and the
//! layout that it is for in `group_tests.rs`.

use super::{LocalLink, Role, tree::Tree};

/// Who speaks to whom.
#[derive(Debug)]
pub(super) struct Links {
    of: Vec<Vec<usize>>,
}

impl Links {
    pub(super) fn new(tree: &Tree<'_>, links: &[LocalLink]) -> Self {
        let mut of = vec![Vec::new(); tree.nodes.len()];
        for link in links {
            let ends = (tree.newest.get(&link.one), tree.newest.get(&link.other));
            if let (Some(&one), Some(&other)) = ends
                && one != other
            {
                of[one].push(other);
                of[other].push(one);
            }
        }
        for others in &mut of {
            others.sort_unstable();
            others.dedup();
        }
        Self { of }
    }

    /// Who speaks to a process, in order.
    pub(super) fn of(&self, at: usize) -> &[usize] {
        self.of.get(at).map_or(&[], Vec::as_slice)
    }

    /// Who speaks to one of a set and is not in it.
    pub(super) fn outside<'a>(&'a self, set: &'a [usize]) -> impl Iterator<Item = usize> + 'a {
        set.iter().flat_map(|&at| self.of(at)).copied().filter(|other| set.binary_search(other).is_err())
    }
}

/// The sets of processes that are one engine each, every one sorted, in the order of their first. Sets without an engine
/// and without a GPU are not told.
pub(super) fn join(tree: &Tree<'_>, links: &Links) -> Vec<Vec<usize>> {
    let mut joining = Joining::new(tree, links);
    joining.engines();
    joining.shared_ports();
    let seekers = joining.seekers();
    joining.between(&seekers);
    joining.nearest_servers(&seekers);
    joining.linked_servers(&seekers);
    let mut sets = joining.sets();
    sets.retain(|set| set.iter().any(|&at| tree.nodes[at].engine.is_some() || !tree.nodes[at].devices.is_empty()));
    sets
}

struct Joining<'a> {
    tree: &'a Tree<'a>,
    links: &'a Links,
    /// Disjoint sets: each process's representative, or one that is nearer to it.
    leader: Vec<usize>,
    /// The topmost process of an engine above each, itself included.
    head: Vec<Option<usize>>,
    /// How many processes below each, itself included, may be somebody's server.
    servers: Vec<usize>,
}

impl<'a> Joining<'a> {
    fn new(tree: &'a Tree<'a>, links: &'a Links) -> Self {
        let n = tree.nodes.len();
        let mut head = vec![None; n];
        for &at in &tree.order {
            let node = &tree.nodes[at];
            head[at] = node.parent.and_then(|parent| head[parent]).or(node.engine.is_some().then_some(at));
        }
        let mut joining = Self { tree, links, leader: (0..n).collect(), head, servers: vec![0; n] };
        for &at in tree.order.iter().rev() {
            joining.servers[at] += usize::from(joining.may_serve(at));
            if let Some(parent) = tree.nodes[at].parent {
                joining.servers[parent] += joining.servers[at];
            }
        }
        joining
    }

    fn find(&mut self, mut at: usize) -> usize {
        while self.leader[at] != at {
            self.leader[at] = self.leader[self.leader[at]];
            at = self.leader[at];
        }
        at
    }

    fn unite(&mut self, a: usize, b: usize) {
        let (a, b) = (self.find(a), self.find(b));
        self.leader[a.max(b)] = a.min(b);
    }

    /// Unites a process with its ancestors up to one.
    fn unite_up(&mut self, from: usize, to: usize) {
        let tree = self.tree;
        for at in tree.up(from).take_while(|&at| at != to) {
            self.unite(at, to);
        }
    }

    /// Whether a process may be the server of one that it has not started.
    fn may_serve(&self, at: usize) -> bool {
        let node = &self.tree.nodes[at];
        node.listens() && node.devices.is_empty() && self.head[at].is_none() && !node.is_proxy && !node.is_boundary
    }

    fn engines(&mut self) {
        for at in 0..self.leader.len() {
            if let Some(head) = self.head[at] {
                self.unite(at, head);
            }
        }
    }

    /// Servers that share their work hold the same listening socket.
    fn shared_ports(&mut self) {
        for (at, node) in self.tree.nodes.iter().enumerate() {
            let Some(parent) = node.parent else { continue };
            let ports = &self.tree.nodes[parent].process.listens;
            if node.process.listens.iter().any(|port| ports.contains(port)) {
                self.unite(at, parent);
            }
        }
    }

    /// Those that cannot serve by themselves, and have no server in their own engine.
    fn seekers(&self) -> Vec<usize> {
        let mut is_served = vec![false; self.leader.len()];
        for (at, node) in self.tree.nodes.iter().enumerate() {
            let role = node.engine.as_ref().and_then(|engine| engine.role);
            let serves = matches!(role, Some(Role::ApiServer | Role::Router)) || (node.listens() && !self.is_inner(at));
            if let Some(head) = self.head[at].filter(|_| serves) {
                is_served[head] = true;
            }
        }
        let seeks = |&at: &usize| {
            let node = &self.tree.nodes[at];
            match &node.engine {
                Some(_) => self.head[at] == Some(at) && !is_served[at],
                None => self.head[at].is_none() && !node.devices.is_empty(),
            }
        };
        (0..self.leader.len()).filter(seeks).collect()
    }

    fn between(&mut self, seekers: &[usize]) {
        for &seeker in seekers {
            for &other in self.links.of(seeker) {
                let node = &self.tree.nodes[other];
                let is_plain = !node.listens() && node.devices.is_empty() && !node.is_proxy && !node.is_boundary;
                if is_plain && self.head[other].is_none() && self.tree.are_near(seeker, other) {
                    self.unite(seeker, other);
                }
            }
        }
    }

    fn nearest_servers(&mut self, seekers: &[usize]) {
        for &seeker in seekers {
            self.nearest_server(seeker);
        }
    }

    fn nearest_server(&mut self, seeker: usize) {
        let tree = self.tree;
        let role = tree.nodes[seeker].engine.as_ref().map(|engine| engine.role);
        // vLLM without its API (`--headless`) is started by hand, and by nobody whom it serves.
        if role.is_some_and(|role| !role.is_some_and(Role::is_internal)) {
            return;
        }
        let mut from = None;
        for at in tree.up(seeker) {
            let node = &tree.nodes[at];
            // An ancestor on a GPU serves for those that it has started.
            if at != seeker && node.listens() && !node.is_proxy {
                return self.unite_up(seeker, at);
            }
            // One that listens may be its own server, and is at most started by another.
            if role.is_none() && tree.nodes[seeker].listens() {
                continue;
            }
            let servers = |&child: &usize| Some(child) != from && self.servers[child] > 0;
            let branches: Vec<usize> = node.children.iter().copied().filter(servers).collect();
            let found = match branches.as_slice() {
                [] => None,
                &[only] => Some(only),
                several => match self.spoken_to(seeker, at, several) {
                    Some(branch) => Some(branch),
                    None => return,
                },
            };
            if let Some(branch) = found {
                let own = from.unwrap_or(at);
                self.unite_up(seeker, own);
                self.unite_servers(branch, own);
                return self.unite_launcher(at, own);
            }
            from = Some(at);
        }
        // Nobody listens. An engine's inner part is started by what uses the engine, and serves it.
        if role.is_some()
            && let Some(parent) = tree.nodes[seeker].parent
        {
            self.unite(seeker, parent);
        }
    }

    /// The one of several branches below `at` that a seeker, or one that is joined to it, speaks to.
    fn spoken_to(&mut self, seeker: usize, at: usize, branches: &[usize]) -> Option<usize> {
        let leader = self.find(seeker);
        let mut found = None;
        for member in 0..self.leader.len() {
            if self.find(member) != leader {
                continue;
            }
            for &other in self.links.of(member) {
                let branch = self.tree.up(other).find(|&node| self.tree.nodes[node].parent == Some(at));
                let Some(branch) =
                    branch.filter(|branch| branches.binary_search(branch).is_ok() && self.may_serve(other))
                else {
                    continue;
                };
                if found.is_some_and(|found| found != branch) {
                    return None;
                }
                found = Some(branch);
            }
        }
        found
    }

    /// Unites the topmost servers of a branch, and what lies between, with `other`.
    fn unite_servers(&mut self, branch: usize, other: usize) {
        let mut open = vec![branch];
        while let Some(at) = open.pop() {
            if self.may_serve(at) {
                self.unite_up(at, branch);
                self.unite(branch, other);
            } else {
                let tree = self.tree;
                open.extend(tree.nodes[at].children.iter().copied().filter(|&child| self.servers[child] > 0));
            }
        }
    }

    /// Who has started an engine and nothing else belongs to it. Who has started other things too, a script or a test,
    /// does not.
    fn unite_launcher(&mut self, launcher: usize, engine: usize) {
        let tree = self.tree;
        let leader = self.find(engine);
        if tree.nodes[launcher].children.iter().all(|&child| self.find(child) == leader) {
            self.unite(launcher, engine);
        }
    }

    fn linked_servers(&mut self, seekers: &[usize]) {
        for &seeker in seekers {
            let set = self.set_of(seeker);
            if set.iter().any(|&at| self.tree.nodes[at].listens() && !self.is_inner(at)) {
                continue;
            }
            let mut found = Vec::new();
            for at in self.links.outside(&set) {
                let speaks = |&member: &usize| self.links.of(member).contains(&at) && self.tree.are_near(member, at);
                if (self.may_serve(at) || self.serves_engine_of(seeker, at)) && set.iter().any(speaks) {
                    found.push(self.find(at));
                }
            }
            found.sort_unstable();
            found.dedup();
            if let &[only] = found.as_slice() {
                self.unite(seeker, only);
            }
        }
    }

    /// Whether a process listens for its own engine only.
    fn is_inner(&self, at: usize) -> bool {
        let role = self.tree.nodes[at].engine.as_ref().and_then(|engine| engine.role);
        role.is_some_and(|role| role.is_internal() || role == Role::Launcher)
    }

    /// Whether `at` takes requests for the engine that a seeker is a part of.
    fn serves_engine_of(&self, seeker: usize, at: usize) -> bool {
        let engine = |at: usize| self.tree.nodes[at].engine.as_ref();
        match (engine(seeker), engine(at)) {
            (Some(inner), Some(server)) => inner.kind == server.kind && server.role == Some(Role::ApiServer),
            _ => false,
        }
    }

    fn set_of(&mut self, at: usize) -> Vec<usize> {
        let leader = self.find(at);
        (0..self.leader.len()).filter(|&other| self.find(other) == leader).collect()
    }

    fn sets(&mut self) -> Vec<Vec<usize>> {
        let mut sets = vec![Vec::new(); self.leader.len()];
        for at in 0..self.leader.len() {
            let leader = self.find(at);
            sets[leader].push(at);
        }
        sets.retain(|set| !set.is_empty());
        sets
    }
}
