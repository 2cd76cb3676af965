//! Channels that carry messages one way, and which two of them are a conversation.
//!
//! Owns the table and the pairing. A server that is spoken to over its standard input and output has two channels, each a
//! pipe or a UNIX socket, and nothing in the kernel says that they belong together. Two things do: the processes, one of
//! which writes the one and reads the other, while the other does the reverse; and an answer's id, which a request on the
//! other channel has. What fits two channels alike proves nothing: the answer waits until more is known.

use std::collections::{HashMap, VecDeque};

use crate::{
    call::requests::{Owner, Requests},
    llm::{Answer, Speech},
    record::{ObjectId, Source},
    stream::Lane,
    time::Mono,
};

/// Channels followed at once. Two for each server that runs.
const MAX_CHANNELS: usize = 8192;

/// Answers that wait on a channel until it is known what it answers. It is known when both of its ends were seen.
const MAX_HELD: usize = 16;

/// An end of a channel: the place among its wires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Writer,
    Reader,
}

impl End {
    pub const BOTH: [Self; 2] = [Self::Writer, Self::Reader];

    pub fn other(self) -> Self {
        match self {
            Self::Writer => Self::Reader,
            Self::Reader => Self::Writer,
        }
    }
}

/// What one end of a channel has seen pass.
pub struct Wire {
    pub object: ObjectId,
    pub source: Source,
    /// The last process that moved bytes.
    pub owner: Owner,
    /// It has ended.
    pub gone: bool,
    pub lane: Lane,
    /// Boxed: it leaves the table while it is read.
    pub speech: Option<Box<Speech>>,
    /// When the line at hand began.
    pub line: Mono,
    pub requests: Requests,
    pub turn: u32,
    pub last_seen: Mono,
}

/// An answer that waits.
pub struct Held {
    pub end: End,
    pub id: String,
    pub answer: Answer,
    pub start: Mono,
    pub stop: Mono,
}

/// A channel.
#[derive(Default)]
pub struct Channel {
    wires: [Option<Wire>; 2],
    /// What answers the requests on this one, and the other way round.
    pub partner: Option<u64>,
    held: VecDeque<Held>,
    /// Which end went away first.
    pub left: Option<End>,
}

impl Channel {
    pub fn wire(&self, end: End) -> Option<&Wire> {
        self.wires[end as usize].as_ref()
    }

    pub fn wire_mut(&mut self, end: End) -> Option<&mut Wire> {
        self.wires[end as usize].as_mut()
    }

    pub fn put(&mut self, end: End, wire: Wire) -> &mut Wire {
        self.wires[end as usize].insert(wire)
    }

    pub fn wires(&self) -> impl Iterator<Item = &Wire> {
        self.wires.iter().flatten()
    }

    /// Whether no request waits on it.
    pub fn is_quiet(&self) -> bool {
        self.wires().all(|wire| wire.requests.is_empty())
    }

    /// Whether every process that was seen on it has ended.
    pub fn is_abandoned(&self) -> bool {
        self.wires().all(|wire| wire.gone)
    }

    fn owner(&self, end: End) -> Option<Owner> {
        self.wire(end).map(|wire| wire.owner)
    }
}

/// The table.
#[derive(Default)]
pub struct Channels {
    by_key: HashMap<u64, Channel>,
    /// Those with answers that wait.
    holding: Vec<u64>,
    /// Something was learnt since the answers that wait were looked at.
    learnt: bool,
}

impl Channels {
    /// A channel, new if there is none; nothing if the table is full.
    pub fn entry(&mut self, key: u64) -> Option<&mut Channel> {
        if !self.by_key.contains_key(&key) && self.by_key.len() >= MAX_CHANNELS {
            return None;
        }
        Some(self.by_key.entry(key).or_default())
    }

    pub fn get(&self, key: u64) -> Option<&Channel> {
        self.by_key.get(&key)
    }

    pub fn get_mut(&mut self, key: u64) -> Option<&mut Channel> {
        self.by_key.get_mut(&key)
    }

    pub fn wire(&self, key: u64, end: End) -> Option<&Wire> {
        self.by_key.get(&key)?.wire(end)
    }

    pub fn wire_mut(&mut self, key: u64, end: End) -> Option<&mut Wire> {
        self.by_key.get_mut(&key)?.wire_mut(end)
    }

    pub fn remove(&mut self, key: u64) {
        let partner = self.by_key.remove(&key).and_then(|channel| channel.partner);
        if let Some(partner) = partner.and_then(|partner| self.by_key.get_mut(&partner)) {
            partner.partner = None;
        }
        self.holding.retain(|held| *held != key);
    }

    pub fn len(&self) -> usize {
        self.by_key.len()
    }

    /// In an order that is the same for the same records.
    pub fn keys(&self) -> Vec<u64> {
        let mut keys: Vec<u64> = self.by_key.keys().copied().collect();
        keys.sort_unstable();
        keys
    }

    /// When the table is nearly full, forgets channels on which nothing waits and nothing came since `since`: their ends
    /// were missed.
    pub fn make_room(&mut self, since: Mono) {
        if self.by_key.len() < MAX_CHANNELS / 4 * 3 {
            return;
        }
        let quiet = |channel: &Channel| channel.is_quiet() && channel.wires().all(|wire| wire.last_seen < since);
        let keys: Vec<u64> = self.by_key.iter().filter(|(_, channel)| quiet(channel)).map(|(key, _)| *key).collect();
        keys.into_iter().for_each(|key| self.remove(key));
    }

    /// The channel whose requests are answered on this one; looks for it if it is not known. `id` is of an answer that was
    /// seen at `end`.
    pub fn asked_on(&mut self, key: u64, end: End, id: &str) -> Option<u64> {
        let channel = self.by_key.get(&key)?;
        if channel.partner.is_some() {
            return channel.partner;
        }
        let mut best = (0, 0, 0);
        for (&other, candidate) in &self.by_key {
            let fit = fit(channel, candidate, end, id);
            if other != key && fit > 0 {
                best = match fit.cmp(&best.0) {
                    std::cmp::Ordering::Less => best,
                    std::cmp::Ordering::Equal => (fit, best.1 + 1, other),
                    std::cmp::Ordering::Greater => (fit, 1, other),
                };
            }
        }
        let (_, 1, other) = best else { return None };
        self.learnt = true;
        for (one, with) in [(key, other), (other, key)] {
            if let Some(channel) = self.by_key.get_mut(&one) {
                channel.partner = Some(with);
            }
        }
        Some(other)
    }

    /// Keeps an answer until it is known what it answers.
    pub fn hold(&mut self, key: u64, held: Held) {
        let Some(channel) = self.by_key.get_mut(&key) else { return };
        if channel.held.len() >= MAX_HELD {
            channel.held.pop_front();
        }
        channel.held.push_back(held);
        if !self.holding.contains(&key) {
            self.holding.push(key);
        }
    }

    /// A process was seen at an end of a channel for the first time.
    pub fn learn(&mut self) {
        self.learnt = true;
    }

    /// A channel carries nothing of interest: what waits on it is no answer.
    pub fn dismiss(&mut self, key: u64) {
        self.holding.retain(|held| *held != key);
        if let Some(channel) = self.by_key.get_mut(&key) {
            channel.held.clear();
        }
    }

    /// Takes the answers out for which it may be known by now what they answer.
    pub fn release(&mut self) -> Vec<(u64, Held)> {
        let mut out = Vec::new();
        if !std::mem::take(&mut self.learnt) {
            return out;
        }
        for key in std::mem::take(&mut self.holding) {
            let held = self.by_key.get_mut(&key).map(|channel| std::mem::take(&mut channel.held));
            out.extend(held.into_iter().flatten().map(|held| (key, held)));
        }
        out
    }
}

/// How well `asked` fits as the channel that has the request with `id`, of which `answers` brought the answer, seen at
/// `end`; 0 if it does not.
fn fit(answers: &Channel, asked: &Channel, end: End, id: &str) -> u8 {
    // Whoever reads the answer wrote the request, and the other way round.
    let has = asked.wire(end.other()).is_some_and(|wire| wire.requests.has(id));
    if asked.partner.is_some() || !has {
        return 0;
    }
    let object = |channel: &Channel, end| channel.wire(end).map(|wire: &Wire| wire.object);
    let is_same = |end: End| {
        let one = object(answers, end);
        one.is_some() && one == object(asked, end.other())
    };
    // One socket carries both.
    if End::BOTH.into_iter().any(is_same) {
        return 3;
    }
    let is_one_process = |end: End| {
        let owner = answers.owner(end);
        owner.is_some() && owner == asked.owner(end.other())
    };
    End::BOTH.into_iter().map(|end| u8::from(is_one_process(end))).sum()
}
