//! Calls inferred from ciphertext: TLS records' headers in, exchanges out.
//!
//! For programs whose TLS nobody reads (Java, libraries without a known function), and only when it is asked for. Owns
//! what hellos say ([`hello`]), which records are application data ([`handshake`]), what an exchange looks like from
//! outside ([`shape`]) and the table of connections. Knows sizes and times and nothing else: no model, no token, no
//! status. What is given out is marked as inferred by whoever exports it.
//!
//! Leaves to the pipeline: who is wanted, whose socket it is, and the rule that nothing is inferred of a connection
//! whose plaintext somebody read. Plaintext can show up later than the records, so an exchange is held back until it is
//! over.

mod handshake;
mod hello;
mod shape;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

use handshake::Handshake;
pub use shape::Shape;
use shape::Talk;

use crate::{
    record::{Direction, ObjectId, Origin, TlsHeader, TlsHello},
    time::Mono,
};

/// Connections that are followed at once: as many as the kernel side keeps chains of.
const MAX_CONVERSATIONS: usize = 16_384;

/// Processes whose plaintext was read, with the time. Beyond it those that were quiet longest go.
const MAX_READERS: usize = 65_536;

/// How long such a process is kept when there is no more room.
const READER_NS: u64 = 600_000_000_000;

/// A response on which nothing came for so long is over, ns. A keep-alive connection stays open for minutes after it.
const QUIET_NS: u64 = 30_000_000_000;

/// Who speaks on a connection, as far as its hellos and its owner say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parties {
    /// Thread group of the process.
    pub tgid: u32,
    /// Its start.
    pub start_ns: u64,
    /// The direction in which requests go: out of the process if it is the client.
    pub requests: Option<Direction>,
    /// The name that the client asked for.
    pub server_name: Option<String>,
    /// Whether the client offered HTTP/2, so that one connection may carry several calls at once.
    pub offers_http2: bool,
}

/// An exchange that is over.
#[derive(Clone, Debug, PartialEq)]
pub struct Inferred {
    /// The socket.
    pub socket: ObjectId,
    /// Counts the connection's exchanges.
    pub number: u64,
    /// Who.
    pub parties: Parties,
    /// What it looked like.
    pub shape: Shape,
    /// The agent stopped while it was under way.
    pub truncated: bool,
    /// Whether plaintext of the process was read since the exchange before this one.
    pub plaintext_read: bool,
}

/// What comes out.
#[derive(Debug)]
pub enum Found {
    /// An exchange is over.
    Exchange(Box<Inferred>),
    /// One was given up because records were missed in it.
    Lost,
    /// One was given up because no answer was seen.
    Unanswered,
}

#[derive(Debug)]
struct Conversation {
    parties: Parties,
    handshake: Handshake,
    talk: Talk,
    exchanges: u64,
    followed: bool,
    /// The process's plaintext counter when the exchange began at the latest, and now.
    plain_before: u64,
    plain: u64,
    since: Mono,
    last_seen: Mono,
}

/// The table of connections.
#[derive(Debug, Default)]
pub struct Inference {
    conversations: HashMap<ObjectId, Conversation>,
    readers: HashMap<u32, Mono>,
}

impl Inference {
    /// Whether somebody wants to hear of a connection.
    pub fn is_followed(&self, socket: ObjectId) -> bool {
        self.conversations.get(&socket).is_some_and(|conversation| conversation.followed)
    }

    /// Somebody does.
    pub fn follow(&mut self, socket: ObjectId) {
        if let Some(conversation) = self.conversations.get_mut(&socket) {
            conversation.followed = true;
        }
    }

    /// Whether a connection is known.
    pub fn knows(&self, socket: ObjectId) -> bool {
        self.conversations.contains_key(&socket)
    }

    /// Who speaks on a connection.
    pub fn parties(&self, socket: ObjectId) -> Option<&Parties> {
        self.conversations.get(&socket).map(|conversation| &conversation.parties)
    }

    /// Connections that are followed.
    pub fn len(&self) -> usize {
        self.conversations.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.conversations.is_empty()
    }

    /// Takes a hello. False if there is no room for its connection.
    pub fn hello(&mut self, origin: &Origin, message: &TlsHello<'_>) -> bool {
        let Some(conversation) = self.conversation(origin, message.socket, 0) else { return false };
        match hello::parse(message.bytes) {
            Some(hello::Hello::Client(client)) if conversation.parties.requests.is_none() => {
                conversation.parties.requests = Some(message.direction);
                conversation.parties.server_name = client.server_name;
                conversation.parties.offers_http2 = client.offers_http2;
                conversation.handshake.on_client_hello(origin.time);
            }
            Some(hello::Hello::Server(suite)) => conversation.handshake.on_server_hello(origin.time, suite),
            _ => {}
        }
        true
    }

    /// A connection that was joined after its handshake: who is who must be told, sizes are those of the records.
    pub fn join(&mut self, socket: ObjectId, requests: Direction) {
        if let Some(conversation) = self.conversations.get_mut(&socket)
            && conversation.parties.requests.is_none()
        {
            conversation.parties.requests = Some(requests);
            conversation.handshake = Handshake::joined();
        }
    }

    /// Takes a record's header. False if there is no room for its connection.
    pub fn record(&mut self, origin: &Origin, header: &TlsHeader, out: &mut dyn FnMut(Found)) -> bool {
        let Some(conversation) = self.conversation(origin, header.socket, header.plain) else { return false };
        conversation.last_seen = origin.time;
        conversation.plain = header.plain;
        if header.after_gap && conversation.talk.forget() {
            out(Found::Lost);
        }
        let Some(requests) = conversation.parties.requests else { return true };
        let from_client = header.direction == requests;
        if !conversation.handshake.is_application(origin.time, from_client, header.content, header.len) {
            return true;
        }
        let cipher = conversation.handshake.cipher();
        let mut over = Vec::new();
        let mut take = |shape| over.push(shape);
        if from_client {
            conversation.talk.client(cipher, origin.time, header.len, &mut take);
        } else {
            conversation.talk.server(cipher, origin.time, header.len, &mut take);
        }
        over.into_iter().for_each(|shape| self.give(header.socket, shape, false, out));
        true
    }

    /// Plaintext of a process was read by other means.
    pub fn plaintext(&mut self, origin: &Origin) {
        if self.readers.len() >= MAX_READERS {
            self.readers.retain(|_, seen| origin.time.0.saturating_sub(seen.0) < READER_NS);
        }
        if self.readers.len() < MAX_READERS {
            self.readers.insert(origin.tgid, origin.time);
        }
    }

    /// A process has ended.
    pub fn ended(&mut self, tgid: u32) {
        self.readers.remove(&tgid);
    }

    /// A connection is over.
    pub fn close(&mut self, socket: ObjectId, out: &mut dyn FnMut(Found)) {
        self.end(socket, false, out);
        self.forget(socket);
    }

    /// A connection is none of ours.
    pub fn forget(&mut self, socket: ObjectId) {
        self.conversations.remove(&socket);
    }

    /// Gives out what has been quiet: answered exchanges soon, what waits for an answer after `idle_ns`.
    pub fn tick(&mut self, now: Mono, idle_ns: u64, out: &mut dyn FnMut(Found)) {
        let quiet = |conversation: &Conversation| {
            let limit = if conversation.talk.is_answered() { QUIET_NS } else { idle_ns };
            conversation.talk.is_busy() && now.0.saturating_sub(conversation.last_seen.0) > limit
        };
        for socket in self.sockets(quiet) {
            self.end(socket, false, out);
        }
        if self.conversations.len() >= MAX_CONVERSATIONS / 4 * 3 {
            self.conversations.retain(|_, conversation| {
                conversation.talk.is_busy() || now.0.saturating_sub(conversation.last_seen.0) < QUIET_NS
            });
        }
    }

    /// Gives out what is under way. For the end.
    pub fn finish(&mut self, out: &mut dyn FnMut(Found)) {
        for socket in self.sockets(|conversation| conversation.talk.is_busy()) {
            self.end(socket, true, out);
        }
    }

    fn sockets(&self, wanted: impl Fn(&Conversation) -> bool) -> Vec<ObjectId> {
        let chosen = self.conversations.iter().filter(|(_, conversation)| wanted(conversation));
        let mut sockets: Vec<ObjectId> = chosen.map(|(socket, _)| *socket).collect();
        // The same records must give the same calls in the same order.
        sockets.sort_unstable();
        sockets
    }

    fn conversation(&mut self, origin: &Origin, socket: ObjectId, plain: u64) -> Option<&mut Conversation> {
        if !self.conversations.contains_key(&socket) && self.conversations.len() >= MAX_CONVERSATIONS {
            return None;
        }
        let fresh = || Conversation {
            parties: Parties { tgid: origin.tgid, start_ns: origin.start_ns, ..Parties::default() },
            handshake: Handshake::default(),
            talk: Talk::default(),
            exchanges: 0,
            followed: false,
            plain_before: plain,
            plain,
            since: origin.time,
            last_seen: origin.time,
        };
        Some(self.conversations.entry(socket).or_insert_with(fresh))
    }

    fn end(&mut self, socket: ObjectId, truncated: bool, out: &mut dyn FnMut(Found)) {
        let Some(conversation) = self.conversations.get_mut(&socket) else { return };
        let (mut over, cipher) = (Vec::new(), conversation.handshake.cipher());
        let answered = conversation.talk.end(cipher, &mut |shape| over.push(shape));
        let last = over.len();
        for (n, shape) in over.into_iter().enumerate() {
            self.give(socket, shape, truncated && n + 1 == last, out);
        }
        if !answered {
            out(Found::Unanswered);
        }
    }

    fn give(&mut self, socket: ObjectId, shape: Shape, truncated: bool, out: &mut dyn FnMut(Found)) {
        let Some(conversation) = self.conversations.get_mut(&socket) else { return };
        let seen = self.readers.get(&conversation.parties.tgid).is_some_and(|&seen| seen >= conversation.since);
        let plaintext_read = seen || conversation.plain != conversation.plain_before;
        (conversation.plain_before, conversation.since) = (conversation.plain, shape.end);
        let number = conversation.exchanges;
        conversation.exchanges += 1;
        let parties = conversation.parties.clone();
        out(Found::Exchange(Box::new(Inferred { socket, number, parties, shape, truncated, plaintext_read })));
    }
}
