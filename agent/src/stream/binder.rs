//! Which socket a TLS stream uses, where no socket call was seen inside a TLS call.
//!
//! Libraries that encrypt into memory leave the socket to their program: asyncio, uvloop, Node, Bun, rustls. What ties the two
//! together is arithmetic: a record is longer than its plaintext by a constant of the cipher, a write is encrypted before it
//! is sent, a read is received before it is decrypted, and both happen on one thread. Owns the rules that turn such
//! agreement into a binding, and errs on the side of none: an ambiguous record proves nothing, and the last socket of a
//! thread is never taken for want of a better one.
//!
//! | evidence | weight |
//! |---|---|
//! | a record that fits one waiting write, which is the only one that waits | binds |
//! | a record that was received last on the thread, and whose plaintext is read next | binds |
//! | a record that fits the waiting writes of one stream, while others wait too | two of them bind |
//! | a record that fits the waiting writes of several streams | nothing |

use std::collections::{HashMap, VecDeque};

use super::StreamKey;
use crate::{
    record::{Direction, ObjectId},
    time::Mono,
};

/// How much longer a record's fragment is than its plaintext: TLS 1.3 (16 of tag, 1 of content type), TLS 1.2 with AES-GCM
/// (8 of nonce, 16 of tag), TLS 1.2 with ChaCha20 (16 of tag). RFC 8446 5.2, RFC 5288 3, RFC 7905 2.
const OVERHEADS: [u32; 3] = [17, 24, 16];

/// Plaintext of one record at most (RFC 8446 5.1).
const MAX_PLAIN: u32 = 16_384;

/// A write is sent, and a receive is read, within this time if it is to prove anything, ns.
const WINDOW_NS: u64 = 1_000_000_000;

/// A write that was not seen to be sent makes other writes of its length doubtful for this long, ns.
const DOUBT_NS: u64 = 30_000_000_000;

/// A receive is decrypted within this time, ns, if the two are to prove each other right at once.
const AT_ONCE_NS: u64 = 100_000_000;

/// Plaintexts shorter than this prove nothing by themselves: alerts, tickets and empty chunks have such lengths.
const MIN_PLAIN: u32 = 24;

/// Weight at which a stream is bound.
const ENOUGH: u32 = 2;

/// Contradictions after which a binding is withdrawn.
const MAX_CONTRADICTED: u32 = 2;

/// Writes that wait on one thread at most. Beyond it nothing on the thread is believed until they have been forgotten.
const MAX_WAITING: usize = 256;

/// Threads that are remembered; one that was quiet goes first.
const MAX_THREADS: usize = 16_384;

/// Streams with evidence that are remembered. Beyond it evidence must be enough by itself.
const MAX_STREAMS: usize = 65_536;

/// What the evidence amounts to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// The stream uses the socket.
    Bound {
        /// The stream.
        tls: StreamKey,
        /// The socket.
        socket: ObjectId,
    },
    /// The stream was bound by arithmetic, and that was wrong.
    Withdrawn {
        /// The stream.
        tls: StreamKey,
        /// The socket.
        socket: ObjectId,
    },
}

/// Plaintext that a TLS stream transferred in one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plain {
    /// The stream.
    pub tls: StreamKey,
    /// Direction.
    pub direction: Direction,
    /// Bytes.
    pub bytes: u32,
    /// How much longer the record's fragment is, 0 if not known.
    pub overhead: u16,
}

/// A write that was encrypted and not yet seen to be sent.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    at: Mono,
    tls: StreamKey,
    plain: u32,
    overhead: u16,
}

/// Records that were received and not yet read.
#[derive(Debug)]
struct Received {
    at: Mono,
    socket: ObjectId,
    /// Fragment lengths of the records that are whole.
    fragments: VecDeque<u32>,
    /// The stream that is reading them, and how much of the first it has read.
    reader: Option<(StreamKey, u32)>,
}

#[derive(Debug, Default)]
struct Thread {
    seen: Mono,
    waiting: VecDeque<Waiting>,
    /// Writes were left out of `waiting` because there were too many, until this time.
    crowded_until: Mono,
    received: Option<Received>,
    /// When records of the thread were last told.
    told: Mono,
    /// The call that was last taken, because one call can be several records of payload.
    last: Option<(StreamKey, Mono, Direction)>,
}

#[derive(Debug, Default)]
struct Candidate {
    socket: ObjectId,
    weight: u32,
    /// Evidence for other sockets.
    others: u32,
}

/// The state. Bounded by the constants above.
#[derive(Debug, Default)]
pub struct Binder {
    threads: HashMap<u32, Thread>,
    candidates: HashMap<StreamKey, Candidate>,
    /// What was bound here, so that it can be withdrawn: by socket, and by direction where a stream is only one.
    bound: HashMap<(ObjectId, Option<Direction>), (StreamKey, u32)>,
}

impl Binder {
    /// A TLS stream without a known socket transferred plaintext in one call that returned at `at`.
    pub fn plain(&mut self, at: Mono, tid: u32, plain: &Plain) -> Option<Finding> {
        self.make_room();
        let &Plain { tls, direction, bytes, overhead } = plain;
        let thread = self.threads.entry(tid).or_default();
        thread.seen = at;
        if thread.last.replace((tls, at, direction)) == Some((tls, at, direction)) {
            return None;
        }
        match direction {
            Direction::Write => {
                thread.forget(at);
                if thread.waiting.len() < MAX_WAITING {
                    thread.waiting.push_back(Waiting { at, tls, plain: bytes, overhead });
                } else {
                    thread.crowded_until = Mono(at.0.saturating_add(DOUBT_NS));
                }
                None
            }
            Direction::Read => {
                let (socket, weight) = thread.read(at, plain)?;
                self.weigh(tls, socket, weight)
            }
        }
    }

    /// The same of a stream whose socket is known, which matters while records of its thread are told: they must not be
    /// taken for another's.
    pub fn plain_of_bound(&mut self, at: Mono, tid: u32, plain: &Plain) -> Option<Finding> {
        let told = self.threads.get(&tid)?.told;
        if at.0.saturating_sub(told.0) > WINDOW_NS { None } else { self.plain(at, tid, plain) }
    }

    /// A socket call transferred records: `fragments` are the lengths of those that end in it, for a read, or begin in it,
    /// `total` the call's bytes.
    pub fn records(
        &mut self,
        at: Mono,
        tid: u32,
        socket: ObjectId,
        direction: Direction,
        fragments: &[u16],
        total: u32,
    ) -> Vec<Finding> {
        self.make_room();
        let thread = self.threads.entry(tid).or_default();
        (thread.seen, thread.told) = (at, at);
        match direction {
            Direction::Read => {
                let fragments = fragments.iter().map(|&fragment| fragment.into()).collect();
                thread.received = Some(Received { at, socket, fragments, reader: None });
                Vec::new()
            }
            Direction::Write => {
                thread.forget(at);
                let proofs: Vec<_> = fragments.iter().filter_map(|&f| thread.sent(at, f.into(), total)).collect();
                proofs.into_iter().filter_map(|(tls, weight)| self.weigh(tls, socket, weight)).collect()
            }
        }
    }

    /// A stream is gone, or was bound by other means.
    pub fn forget_stream(&mut self, tls: StreamKey) {
        self.candidates.remove(&tls);
    }

    /// A socket is gone.
    pub fn forget_socket(&mut self, socket: ObjectId) {
        for direction in [None, Some(Direction::Read), Some(Direction::Write)] {
            self.bound.remove(&(socket, direction));
        }
    }

    fn weigh(&mut self, tls: StreamKey, socket: ObjectId, weight: u32) -> Option<Finding> {
        let place = (socket, tls.half());
        if let Some((owner, contradicted)) = self.bound.get_mut(&place) {
            if *owner == tls {
                *contradicted = 0;
                return None;
            }
            *contradicted += 1;
            if *contradicted < MAX_CONTRADICTED {
                return None;
            }
            let owner = *owner;
            self.bound.remove(&place);
            return Some(Finding::Withdrawn { tls: owner, socket });
        }
        if self.candidates.len() >= MAX_STREAMS {
            self.candidates.clear();
        }
        let candidate = self.candidates.entry(tls).or_default();
        if candidate.weight == 0 {
            candidate.socket = socket;
        }
        if candidate.socket != socket {
            // Two sockets cannot both be right: start over, and ask for more.
            candidate.others += 1;
            candidate.weight = 0;
            return None;
        }
        candidate.weight += weight;
        if candidate.weight < ENOUGH + 2 * candidate.others {
            return None;
        }
        self.candidates.remove(&tls);
        self.bound.insert(place, (tls, 0));
        Some(Finding::Bound { tls, socket })
    }

    fn make_room(&mut self) {
        if self.threads.len() < MAX_THREADS {
            return;
        }
        let newest = self.threads.values().map(|thread| thread.seen).max().unwrap_or_default();
        self.threads.retain(|_, thread| newest.0 - thread.seen.0 < WINDOW_NS);
        if self.threads.len() >= MAX_THREADS {
            self.threads.clear();
        }
    }
}

impl Thread {
    fn forget(&mut self, now: Mono) {
        while self.waiting.front().is_some_and(|write| now.0.saturating_sub(write.at.0) > DOUBT_NS) {
            self.waiting.pop_front();
        }
    }

    /// The stream whose write a sent record holds, and the weight of that.
    fn sent(&mut self, at: Mono, fragment: u32, total: u32) -> Option<(StreamKey, u32)> {
        if at < self.crowded_until {
            return None;
        }
        let fits = |write: &Waiting| holds(fragment, write.plain, write.overhead, total);
        let first = self.waiting.iter().find(|write| fits(write)).copied()?;
        if self.waiting.iter().any(|write| fits(write) && write.tls != first.tls) {
            return None;
        }
        let fresh = |write: &Waiting| at.0.saturating_sub(write.at.0) <= WINDOW_NS;
        let alone = self.waiting.iter().filter(|write| fresh(write)).all(|write| write.tls == first.tls);
        // Sent now, and everything that the stream wrote before it.
        let place = self.waiting.iter().position(|write| write.tls == first.tls && fits(write))?;
        let write = self.waiting.remove(place)?;
        if write.plain < MIN_PLAIN || !fresh(&write) {
            return None;
        }
        Some((write.tls, if alone { ENOUGH } else { 1 }))
    }

    /// The socket whose record a read emptied, and the weight of that.
    fn read(&mut self, at: Mono, plain: &Plain) -> Option<(ObjectId, u32)> {
        let &Plain { tls, bytes, overhead, .. } = plain;
        let received = self.received.as_mut()?;
        if at.0.saturating_sub(received.at.0) > WINDOW_NS {
            self.received = None;
            return None;
        }
        let sum = match received.reader {
            // A call of one that shows its records is a record each.
            Some((reader, _)) if reader == tls && tls.half().is_some() => bytes,
            Some((reader, sum)) if reader == tls => sum.saturating_add(bytes),
            // A second stream reads after one receive: one of the two reads what came earlier.
            Some(_) => {
                self.received = None;
                return None;
            }
            None => bytes,
        };
        received.reader = Some((tls, sum));
        // Tickets and other records without plaintext may come first.
        let place = received.fragments.iter().position(|&f| sum <= MAX_PLAIN && holds(f, sum, overhead, 0))?;
        received.fragments.drain(..=place);
        received.reader = Some((tls, 0));
        let weight = match () {
            () if sum < MIN_PLAIN => return None,
            () if at.0.saturating_sub(received.at.0) <= AT_ONCE_NS => ENOUGH,
            () => 1,
        };
        Some((received.socket, weight))
    }
}

/// Whether a record's fragment can be what `plain` bytes became. A longer plaintext becomes several records: then the
/// first is full, and the call's `total` must agree with all of them.
fn holds(fragment: u32, plain: u32, overhead: u16, total: u32) -> bool {
    if overhead != 0 {
        return fragment == plain + u32::from(overhead);
    }
    OVERHEADS.iter().any(|&overhead| {
        if plain <= MAX_PLAIN {
            return fragment == plain + overhead;
        }
        let records = u64::from(plain.div_ceil(MAX_PLAIN));
        fragment == MAX_PLAIN + overhead && u64::from(total) == u64::from(plain) + records * u64::from(overhead + 5)
    })
}

#[cfg(test)]
#[path = "binder_tests.rs"]
mod tests;
