//! The pipeline's tables, each with its cap.

use std::collections::{HashMap, VecDeque};

use crate::{
    call::{Binding, connection::Connection},
    host::ProcessIdentity,
    record::{Address, ObjectId, Socket, Source},
    stream::StreamKey,
    time::Mono,
};

/// Connections followed at once. The kernel side tracks as many sockets.
const MAX_CONNECTIONS: usize = 65_536;

/// Sockets whose addresses are kept. More than connections: a TLS connection's socket is one too.
const MAX_SOCKETS: usize = 2 * MAX_CONNECTIONS;

/// Processes whose identity is kept.
const MAX_PROCESSES: usize = 65_536;

/// Connections that are over and may still be read.
const MAX_LINGERING: usize = 4096;

/// Processes remembered after their end.
const MAX_ENDED: usize = 1024;

/// A connection and whose it is.
pub struct Entry {
    pub connection: Connection,
    pub tgid: u32,
    pub start_ns: u64,
    pub source: Source,
    /// Turn of the stream's last record.
    pub turn: u32,
}

#[derive(Default)]
pub struct Tables {
    /// Boxed: an entry leaves the table and comes back for every record.
    pub connections: HashMap<StreamKey, Box<Entry>>,
    /// The stream that was last seen at an address: a later one there means that the earlier one's end was missed.
    at_address: HashMap<(u32, u64), StreamKey>,
    sockets: HashMap<ObjectId, Socket>,
    socket_of: HashMap<StreamKey, (ObjectId, Binding)>,
    tls_on: HashMap<ObjectId, StreamKey>,
    /// Connections that are over and may still be read, and since when, oldest first.
    lingering: VecDeque<(Mono, ObjectId)>,
    pub processes: Processes,
}

impl Tables {
    /// The entry of a stream, made by `fresh` if there is none; `None` if the table is full.
    pub fn entry(&mut self, key: StreamKey, fresh: impl FnOnce() -> Entry) -> Option<&mut Entry> {
        if !self.connections.contains_key(&key) {
            if self.connections.len() >= MAX_CONNECTIONS {
                return None;
            }
            self.at_address.insert(address_of(key), key);
        }
        Some(self.connections.entry(key).or_insert_with(|| Box::new(fresh())))
    }

    /// The stream that `key` replaces: one at the same address, of an earlier generation.
    pub fn replaced_by(&self, key: StreamKey) -> Option<StreamKey> {
        self.at_address.get(&address_of(key)).copied().filter(|&known| known != key)
    }

    pub fn take(&mut self, key: StreamKey) -> Option<Box<Entry>> {
        self.connections.remove(&key)
    }

    pub fn put_back(&mut self, key: StreamKey, entry: Box<Entry>) {
        self.connections.insert(key, entry);
    }

    pub fn remove(&mut self, key: StreamKey) {
        self.connections.remove(&key);
        if self.at_address.get(&address_of(key)) == Some(&key) {
            self.at_address.remove(&address_of(key));
        }
        if let Some((socket, _)) = self.socket_of.remove(&key)
            && self.tls_on.get(&socket) == Some(&key)
        {
            self.tls_on.remove(&socket);
        }
        if let Some(socket) = key.socket() {
            self.sockets.remove(&socket);
        }
    }

    pub fn keys(&self) -> Vec<StreamKey> {
        let mut keys: Vec<StreamKey> = self.connections.keys().copied().collect();
        // The same records must give the same calls in the same order.
        keys.sort_unstable();
        keys
    }

    /// Streams with an exchange under way on which nothing came since `since`.
    pub fn idle_since(&self, since: Mono) -> Vec<StreamKey> {
        let idle = |entry: &Entry| entry.connection.is_idle(since);
        let mut keys: Vec<StreamKey> =
            self.connections.iter().filter(|(_, entry)| idle(entry)).map(|(key, _)| *key).collect();
        keys.sort_unstable();
        keys
    }

    /// When the table is nearly full, forgets connections that carry no call and were quiet since `since`: their ends
    /// were missed. One that speaks again is taken up again, without its addresses.
    pub fn make_room(&mut self, since: Mono) {
        if self.connections.len() < MAX_CONNECTIONS / 4 * 3 {
            return;
        }
        let quiet = |entry: &Entry| !entry.connection.is_busy() && entry.connection.last_seen() < since;
        let keys: Vec<StreamKey> =
            self.connections.iter().filter(|(_, entry)| quiet(entry)).map(|(key, _)| *key).collect();
        keys.into_iter().for_each(|key| self.remove(key));
    }

    pub fn tls_streams_of(&self, tgid: u32) -> Vec<StreamKey> {
        let own = |key: &&StreamKey| matches!(key, StreamKey::Tls { tgid: owner, .. } if *owner == tgid);
        let mut keys: Vec<StreamKey> = self.connections.keys().filter(own).copied().collect();
        keys.sort_unstable();
        keys
    }

    /// A UNIX socket's stream belongs to whoever moved bytes on it last.
    pub fn unix_streams_of(&self, tgid: u32) -> Vec<StreamKey> {
        let is_unix = |key: StreamKey| {
            self.addresses(key).is_some_and(|socket| matches!(socket.local, Address::Unix { .. }))
                && key.socket().is_some()
        };
        let own = self.connections.iter().filter(|(key, entry)| entry.tgid == tgid && is_unix(**key));
        let mut keys: Vec<StreamKey> = own.map(|(key, _)| *key).collect();
        keys.sort_unstable();
        keys
    }

    /// A connection is over and may still be read. Gives the one that is to be ended at once to make room, if any.
    pub fn linger(&mut self, since: Mono, socket: ObjectId) -> Option<ObjectId> {
        self.lingering.push_back((since, socket));
        if self.lingering.len() > MAX_LINGERING { self.lingering.pop_front().map(|(_, socket)| socket) } else { None }
    }

    /// Takes out the next connection that has been over since `until` or longer.
    pub fn lingered(&mut self, until: Mono) -> Option<ObjectId> {
        self.lingering.pop_front_if(|(since, _)| *since <= until).map(|(_, socket)| socket)
    }

    /// The socket's own stream and the TLS stream on it.
    pub fn streams_of(&self, socket: ObjectId) -> Vec<StreamKey> {
        let own = StreamKey::Socket(socket);
        let mut keys: Vec<StreamKey> = self.connections.contains_key(&own).then_some(own).into_iter().collect();
        keys.extend(self.tls_on.get(&socket));
        keys
    }

    /// False if the table is full, which takes tens of thousands of lost closes; a call then goes without its
    /// addresses.
    pub fn learn_socket(&mut self, socket: Socket) -> bool {
        let room = self.sockets.len() < MAX_SOCKETS;
        if room {
            self.sockets.insert(socket.id, socket);
        }
        room
    }

    /// False if the table is full.
    pub fn bind(&mut self, tls: StreamKey, socket: ObjectId, binding: Binding) -> bool {
        let room = self.socket_of.len() < MAX_SOCKETS;
        if room {
            // An object that is used for a second connection: the end of the first socket is not its end.
            if let Some((earlier, _)) = self.socket_of.insert(tls, (socket, binding)) {
                self.tls_on.remove(&earlier);
            }
            self.tls_on.insert(socket, tls);
        }
        room
    }

    /// Takes back what [`Self::bind`] did, unless another binding has come since.
    pub fn unbind(&mut self, tls: StreamKey, socket: ObjectId) {
        if self.socket_of.get(&tls) == Some(&(socket, Binding::Records)) {
            self.socket_of.remove(&tls);
            self.tls_on.remove(&socket);
        }
    }

    /// How a TLS stream's socket was found, if it was.
    pub fn binding(&self, tls: StreamKey) -> Option<Binding> {
        self.socket_of.get(&tls).map(|(_, binding)| *binding)
    }

    pub fn is_bound(&self, tls: StreamKey) -> bool {
        self.socket_of.contains_key(&tls)
    }

    /// Whether a TLS stream uses the socket.
    pub fn has_tls_stream(&self, socket: ObjectId) -> bool {
        self.tls_on.contains_key(&socket)
    }

    pub fn forget_socket(&mut self, socket: ObjectId) {
        self.sockets.remove(&socket);
        if let Some(tls) = self.tls_on.remove(&socket) {
            self.socket_of.remove(&tls);
        }
    }

    /// Addresses of a stream's socket, if it is known.
    pub fn addresses(&self, key: StreamKey) -> Option<&Socket> {
        let socket = key.socket().or_else(|| self.socket_of.get(&key).map(|(socket, _)| *socket))?;
        self.sockets.get(&socket)
    }
}

/// Where a stream lives: an address of the kernel's, or one of a process's own.
fn address_of(key: StreamKey) -> (u32, u64) {
    match key {
        StreamKey::Socket(object) => (0, object.address),
        StreamKey::Tls { tgid, object } | StreamKey::Half { tgid, object, .. } => (tgid, object.address),
    }
}

/// Who the processes are.
#[derive(Default)]
pub struct Processes {
    by_tgid: HashMap<u32, ProcessIdentity>,
    /// Those that have ended, oldest first.
    ended: VecDeque<u32>,
}

impl Processes {
    /// False if the table is full; the process's calls then carry what the kernel's records say and no more.
    pub fn learn(&mut self, tgid: u32, identity: ProcessIdentity) -> bool {
        let room = self.by_tgid.len() < MAX_PROCESSES || self.by_tgid.contains_key(&tgid);
        if room {
            self.by_tgid.insert(tgid, identity);
        }
        room
    }

    /// A process has ended. It is remembered for some time, because its sockets close after it.
    pub fn ended(&mut self, tgid: u32) {
        self.ended.push_back(tgid);
        if self.ended.len() > MAX_ENDED
            && let Some(oldest) = self.ended.pop_front()
        {
            // A new process may have its pid by now; it will be read again.
            self.by_tgid.remove(&oldest);
        }
    }

    /// The identity that belongs to this start of the pid, or what the record itself says.
    pub fn identity(&self, tgid: u32, start_ns: u64) -> ProcessIdentity {
        match self.by_tgid.get(&tgid) {
            Some(known) if known.start_boottime_ns == start_ns || start_ns == 0 => known.clone(),
            _ => ProcessIdentity { pid: tgid, start_boottime_ns: start_ns, ..Default::default() },
        }
    }
}
