//! Streams that are one direction of a connection, and which two belong together.
//!
//! A library that is probed below TLS (rustls) shows the key of each direction and nothing that ties the two. What does is
//! the socket, which the [`Binder`](super::Binder) finds for each of them by itself; two directions that are bound to one
//! socket, in one process, are one connection. That is the only rule: nothing is paired because it came at the same time or on
//! the same thread.
//!
//! Until both are known their bytes are held and then given out in the order of time, because an answer without its request
//! would look like a stream that was joined in its middle. Requests need not wait for their answers, but which is which is
//! for the caller to say. What is held is bounded, in bytes and in time. Beyond it a
//! direction whose socket is known goes on alone, and the other joins it later; one whose socket is not known cannot be told
//! from any other of its process, so its bytes are left out and counted.

use std::collections::{BTreeMap, HashMap, VecDeque};

use inferscope_common::join::{Joined, Place};

use super::StreamKey;
use crate::{
    record::{Data, Direction, ObjectId, Origin},
    time::Mono,
};

/// Bytes that are held of one half. Prompts of 128 KB are common; a longer one is bound by its first record nearly always.
const MAX_HELD: usize = 256 << 10;

/// Bytes that are held of all of them.
const MAX_HELD_TOTAL: usize = 16 << 20;

/// A half that is not paired and on which nothing came for this long is given up, ns. A long answer takes as long.
const PATIENCE_NS: u64 = 60_000_000_000;

/// Halves that are known at once: two for each connection that the pipeline follows.
const MAX_HALVES: usize = 131_072;

/// A record of a half, held.
#[derive(Clone, Debug)]
pub struct Held {
    /// Whose it is.
    pub origin: Origin,
    data: Data<'static>,
    payload: Vec<u8>,
}

impl Held {
    /// As it came, with its turn on the connection.
    pub fn data(&self) -> Data<'_> {
        Data { payload: &self.payload, ..self.data }
    }
}

/// What is to be done with a record of a half.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// It belongs to this connection, and has this turn there.
    To(StreamKey, u32),
    /// Nothing now.
    Held,
    /// The half goes on as this connection, alone for now: what was held of it is to be taken with [`Halves::release`].
    Alone(StreamKey, ObjectId),
}

/// Two halves were found to be one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The connection.
    pub key: StreamKey,
    /// The half that the kernel side should gate with the other.
    pub place: Place,
    /// The other.
    pub joined: Joined,
}

#[derive(Debug)]
struct Half {
    seen: Mono,
    socket: Option<ObjectId>,
    /// The connection that it is given out as.
    key: Option<StreamKey>,
    held: VecDeque<Held>,
    held_bytes: usize,
}

/// Two directions, or the one that is known.
#[derive(Debug)]
struct Connection {
    /// Whose gate decides for both on the kernel side.
    gate: StreamKey,
    other: Option<StreamKey>,
    /// The gate's last turn.
    turn: u32,
}

/// The table. Bounded by the constants above.
#[derive(Debug, Default)]
pub struct Halves {
    halves: HashMap<StreamKey, Half>,
    /// The half that was last seen at a place: a later one there has replaced it.
    at_place: HashMap<(u32, u64), StreamKey>,
    connections: HashMap<StreamKey, Connection>,
    /// Bound halves by socket and process, one for each direction.
    on_socket: BTreeMap<(ObjectId, u32), [Option<StreamKey>; 2]>,
    held: usize,
    unpaired: u64,
    unbound: u64,
}

impl Halves {
    /// Bytes that are held.
    pub fn held_bytes(&self) -> u64 {
        self.held as u64
    }

    /// Bytes that were left out because their connection was not found.
    pub fn unpaired_bytes(&self) -> u64 {
        self.unpaired
    }

    /// Halves that were given up without a socket.
    pub fn unbound(&self) -> u64 {
        self.unbound
    }

    /// Whether a half's socket is known.
    pub fn is_bound(&self, half: StreamKey) -> bool {
        self.halves.get(&half).is_some_and(|half| half.socket.is_some())
    }

    /// Takes note of a half, before its plaintext is used for anything; false if the table is full. Gives what it has
    /// replaced: a half of an earlier key at its place.
    pub fn note(&mut self, at: Mono, half: StreamKey) -> (bool, Option<StreamKey>) {
        if let Some(known) = self.halves.get_mut(&half) {
            known.seen = at;
            return (true, None);
        }
        if self.halves.len() >= MAX_HALVES {
            return (false, None);
        }
        let fresh = Half { seen: at, socket: None, key: None, held: VecDeque::new(), held_bytes: 0 };
        self.halves.insert(half, fresh);
        (true, self.at_place.insert(place_of(half), half))
    }

    /// Says where a record of a half goes, and keeps it if it has to wait.
    pub fn take(&mut self, half: StreamKey, origin: &Origin, data: &Data<'_>) -> Route {
        let Some(known) = self.halves.get_mut(&half) else {
            self.unpaired += data.payload.len() as u64;
            return Route::Held;
        };
        if let Some(key) = known.key {
            let turn = self.turn(key, half, data.turn);
            return Route::To(key, turn);
        }
        let n = data.payload.len();
        known.held.push_back(Held {
            origin: *origin,
            data: Data { payload: &[], ..*data },
            payload: data.payload.to_vec(),
        });
        known.held_bytes += n;
        self.held += n;
        if known.held_bytes <= MAX_HELD && self.held <= MAX_HELD_TOTAL {
            return Route::Held;
        }
        match known.socket {
            Some(socket) => Route::Alone(self.go_alone(half), socket),
            None => {
                self.drop_held(half);
                Route::Held
            }
        }
    }

    /// A half's socket is known. Gives the connection, if that has made one of two.
    pub fn bind(&mut self, half: StreamKey, socket: ObjectId) -> Option<Pair> {
        let StreamKey::Half { tgid, direction, .. } = half else { return None };
        let known = self.halves.get_mut(&half)?;
        known.socket = Some(socket);
        let slots = self.on_socket.entry((socket, tgid)).or_default();
        let [own, other] = match direction {
            Direction::Read => [0, 1],
            Direction::Write => [1, 0],
        };
        slots[own] = Some(half);
        let other = slots[other]?;
        // The one that was there first saw the connection's first request, so its gate knows most.
        let (gate, joining) = match self.halves.get(&other)?.key {
            Some(_) => (other, half),
            None if half.object().generation < other.object().generation => (half, other),
            None => (other, half),
        };
        let key = connection_of(gate)?;
        let connection = self.connections.entry(key).or_insert(Connection { gate, other: None, turn: 0 });
        connection.other = Some(joining);
        for half in [gate, joining] {
            if let Some(half) = self.halves.get_mut(&half) {
                half.key = Some(key);
            }
        }
        let (own, its) = (joining.object(), gate.object());
        let joined = Joined { generation: own.generation, gate: its.address, gate_generation: its.generation };
        Some(Pair { key, place: Place { object: own.address, tgid, pad: 0 }, joined })
    }

    /// Takes what was held of a connection, in the order of time.
    pub fn release(&mut self, key: StreamKey) -> Vec<Held> {
        let Some(connection) = self.connections.get(&key) else { return Vec::new() };
        let (gate, other) = (connection.gate, connection.other);
        let mut all = Vec::new();
        for half in [Some(gate), other].into_iter().flatten() {
            if let Some(known) = self.halves.get_mut(&half) {
                self.held -= std::mem::take(&mut known.held_bytes);
                all.extend(known.held.drain(..).map(|held| (half, held)));
            }
        }
        all.sort_by_key(|(_, held)| held.origin.time);
        let with_turn = |(half, mut held): (StreamKey, Held)| {
            held.data.turn = self.turn(key, half, held.data.turn);
            held
        };
        all.into_iter().map(with_turn).collect()
    }

    /// A half goes on alone, if its socket is known and something that was held of it is what `may` says.
    pub fn go_alone_if(&mut self, half: StreamKey, may: impl Fn(&[u8]) -> bool) -> Option<(StreamKey, ObjectId)> {
        let known = self.halves.get(&half).filter(|known| known.key.is_none())?;
        let socket = known.socket?;
        known.held.iter().any(|held| may(&held.payload)).then(|| (self.go_alone(half), socket))
    }

    /// Bound halves on a socket that wait for their other direction go on alone. For when nothing more will come.
    pub fn give_up_waiting(&mut self, socket: ObjectId) -> Vec<(StreamKey, ObjectId)> {
        let slots = self.on_socket.range((socket, 0)..=(socket, u32::MAX));
        let halves: Vec<StreamKey> = slots.flat_map(|(_, slots)| slots.iter().flatten().copied()).collect();
        self.alone_of(halves)
    }

    /// The halves of a process that are bound and wait go on alone; those that are not bound are given up.
    pub fn give_up_process(&mut self, tgid: u32) -> Vec<(StreamKey, ObjectId)> {
        let own = |key: &&StreamKey| matches!(key, StreamKey::Half { tgid: owner, .. } if *owner == tgid);
        let halves = self.halves.keys().filter(own).copied().collect();
        self.give_up(halves)
    }

    /// Gives up what has waited for too long; and what belongs to a connection that `exists` no more.
    pub fn on_tick(&mut self, now: Mono, exists: impl Fn(StreamKey) -> bool) -> Vec<(StreamKey, ObjectId)> {
        let since = Mono(now.0.saturating_sub(PATIENCE_NS));
        let mut waited = Vec::new();
        let mut gone = Vec::new();
        for (half, known) in self.halves.iter().filter(|(_, known)| known.seen < since) {
            match known.key {
                Some(key) if !exists(key) => gone.push(key),
                Some(_) => {}
                None => waited.push(*half),
            }
        }
        gone.into_iter().for_each(|key| self.forget(key));
        self.give_up(waited)
    }

    /// Everything that still waits. For the end.
    pub fn finish(&mut self) -> Vec<(StreamKey, ObjectId)> {
        let waiting = self.halves.iter().filter(|(_, known)| known.key.is_none()).map(|(half, _)| *half).collect();
        self.give_up(waiting)
    }

    /// Whether only one direction of a connection is known, and which.
    pub fn only(&self, key: StreamKey) -> Option<Direction> {
        let connection = self.connections.get(&key).filter(|connection| connection.other.is_none())?;
        match connection.gate {
            StreamKey::Half { direction, .. } => Some(direction),
            _ => None,
        }
    }

    /// The halves that are known of a connection.
    pub fn of(&self, key: StreamKey) -> Vec<StreamKey> {
        let Some(connection) = self.connections.get(&key) else { return Vec::new() };
        [Some(connection.gate), connection.other].into_iter().flatten().collect()
    }

    /// The connection that a half is given out as.
    pub fn connection(&self, half: StreamKey) -> Option<StreamKey> {
        self.halves.get(&half)?.key
    }

    /// A half is gone, or its socket was the wrong one: bytes that it holds are left out.
    pub fn remove(&mut self, half: StreamKey) {
        if self.halves.get(&half).is_some_and(|known| known.socket.is_none()) {
            self.unbound += 1;
        }
        self.drop_held(half);
        let Some(known) = self.halves.remove(&half) else { return };
        if self.at_place.get(&place_of(half)) == Some(&half) {
            self.at_place.remove(&place_of(half));
        }
        let StreamKey::Half { tgid, .. } = half else { return };
        if let Some(socket) = known.socket
            && let Some(slots) = self.on_socket.get_mut(&(socket, tgid))
        {
            for slot in slots.iter_mut().filter(|slot| **slot == Some(half)) {
                *slot = None;
            }
            if slots.iter().all(Option::is_none) {
                self.on_socket.remove(&(socket, tgid));
            }
        }
    }

    /// A connection is over, and both of its halves with it.
    pub fn forget(&mut self, key: StreamKey) {
        let Some(connection) = self.connections.remove(&key) else { return };
        for half in [Some(connection.gate), connection.other].into_iter().flatten() {
            self.remove(half);
        }
    }

    fn give_up(&mut self, mut halves: Vec<StreamKey>) -> Vec<(StreamKey, ObjectId)> {
        // The same records must give the same calls in the same order.
        halves.sort_unstable();
        for half in &halves {
            if !self.is_bound(*half) {
                self.remove(*half);
            }
        }
        self.alone_of(halves)
    }

    fn alone_of(&mut self, halves: Vec<StreamKey>) -> Vec<(StreamKey, ObjectId)> {
        let waiting = |half: StreamKey| {
            let known = self.halves.get(&half).filter(|known| known.key.is_none())?;
            Some((half, known.socket?))
        };
        let waiting: Vec<_> = halves.into_iter().filter_map(waiting).collect();
        waiting.into_iter().map(|(half, socket)| (self.go_alone(half), socket)).collect()
    }

    fn go_alone(&mut self, half: StreamKey) -> StreamKey {
        let key = connection_of(half).unwrap_or(half);
        self.connections.entry(key).or_insert(Connection { gate: half, other: None, turn: 0 });
        if let Some(known) = self.halves.get_mut(&half) {
            known.key = Some(key);
        }
        key
    }

    fn drop_held(&mut self, half: StreamKey) {
        let Some(known) = self.halves.get_mut(&half) else { return };
        known.held.clear();
        let bytes = std::mem::take(&mut known.held_bytes);
        self.held -= bytes;
        self.unpaired += bytes as u64;
    }

    /// A record's turn on its connection. Before the kernel side knows the pair each half counts its own; an answer comes
    /// after the turn of its request in any case.
    fn turn(&mut self, key: StreamKey, half: StreamKey, turn: u32) -> u32 {
        let Some(connection) = self.connections.get_mut(&key) else { return turn };
        if connection.gate == half {
            connection.turn = turn;
            return turn;
        }
        turn.max(connection.turn.saturating_add(1))
    }
}

/// What a connection is called whose gate is this half: the kernel side knows it by the same object.
fn connection_of(half: StreamKey) -> Option<StreamKey> {
    match half {
        StreamKey::Half { tgid, object, .. } => Some(StreamKey::Tls { tgid, object }),
        _ => None,
    }
}

fn place_of(half: StreamKey) -> (u32, u64) {
    let tgid = if let StreamKey::Half { tgid, .. } = half { tgid } else { 0 };
    (tgid, half.object().address)
}

#[cfg(test)]
#[path = "halves_tests.rs"]
mod tests;
