//! What the network did to a connection: segments that were sent again, and a peer that did not take what was sent.
//!
//! Owns the courses by connection, the same for both ends, within a bound. Who tells them is the kernel side.

use std::collections::{HashMap, VecDeque};

use super::track::Counter;
use crate::{call::link::End, time::Mono};

/// Connections of which something is known. Most have nothing: only those that lost or waited are here.
const MAX_SOCKETS: usize = 4096;

/// Reports kept of each.
const MAX_REPORTS: usize = 256;

/// One connection.
#[derive(Clone, Debug, Default)]
pub struct SocketCourse {
    retransmits: VecDeque<(Mono, u64)>,
    peer: Counter,
    buffer: Counter,
}

/// How long sending has waited since a connection began. What TCP counts as one of them it does not count as the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limited {
    /// Nanoseconds in which there was something to send, and the peer's window was closed: it does not read.
    pub peer: u64,
    /// Nanoseconds in which all that the buffer holds was sent and not acknowledged, and the program had more: the path
    /// is long, or loses what is sent.
    pub buffer: u64,
}

impl SocketCourse {
    /// Segments that were sent again in a time, either way.
    pub fn retransmits(&self, from: Mono, to: Mono) -> u64 {
        self.retransmits.iter().filter(|(at, _)| (from..=to).contains(at)).map(|(_, count)| count).sum()
    }

    /// How long sending waited within a time.
    pub fn limited(&self, from: Mono, to: Mono) -> Limited {
        Limited { peer: self.peer.within(from, to), buffer: self.buffer.within(from, to) }
    }
}

/// All of them.
#[derive(Debug, Default)]
pub struct Sockets {
    by_ends: HashMap<(End, End), SocketCourse>,
    /// In the order in which they were first heard of.
    order: VecDeque<(End, End)>,
}

/// The same from both ends.
fn key(one: End, other: End) -> (End, End) {
    if one <= other { (one, other) } else { (other, one) }
}

impl Sockets {
    fn course(&mut self, one: End, other: End) -> &mut SocketCourse {
        let key = key(one, other);
        if !self.by_ends.contains_key(&key) {
            if self.order.len() >= MAX_SOCKETS
                && let Some(oldest) = self.order.pop_front()
            {
                self.by_ends.remove(&oldest);
            }
            self.order.push_back(key);
        }
        self.by_ends.entry(key).or_default()
    }

    /// Segments were sent again.
    pub fn retransmitted(&mut self, at: Mono, one: End, other: End, count: u64) {
        let course = self.course(one, other);
        course.retransmits.push_back((at, count));
        if course.retransmits.len() > MAX_REPORTS {
            course.retransmits.pop_front();
        }
    }

    /// Sending has waited for so long since the connection began.
    pub fn limited(&mut self, at: Mono, one: End, other: End, since: Limited) {
        let course = self.course(one, other);
        for (counter, nanos) in [(&mut course.peer, since.peer), (&mut course.buffer, since.buffer)] {
            if counter.last().is_none() && nanos > 0 {
                // It is told when it changes: before, it had been nothing.
                counter.push(Mono(at.0.saturating_sub(nanos)), 0);
            }
            counter.push(at, nanos);
        }
    }

    /// What is known of a connection.
    pub fn get(&self, one: End, other: End) -> Option<&SocketCourse> {
        self.by_ends.get(&key(one, other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(port: u16) -> End {
        End::Ip(([127, 0, 0, 1], port).into())
    }

    #[test]
    fn both_ends_name_one_connection() {
        let mut sockets = Sockets::default();
        sockets.retransmitted(Mono(5), end(80), end(4000), 2);
        sockets.retransmitted(Mono(9), end(4000), end(80), 1);
        sockets.limited(Mono(900), end(80), end(4000), Limited { peer: 300, buffer: 0 });
        let course = sockets.get(end(4000), end(80)).unwrap();
        assert_eq!((course.retransmits(Mono(0), Mono(8)), course.retransmits(Mono(0), Mono(10))), (2, 3));
        let peer = |nanos| Limited { peer: nanos, buffer: 0 };
        assert_eq!((course.limited(Mono(0), Mono(900)), course.limited(Mono(750), Mono(900))), (peer(300), peer(150)));
        assert!(sockets.get(end(81), end(4000)).is_none());
    }

    #[test]
    fn the_oldest_go_first() {
        let mut sockets = Sockets::default();
        for n in 0..=MAX_SOCKETS as u32 {
            sockets.retransmitted(Mono(1), End::Unix(n.into()), end(80), 1);
        }
        assert!(sockets.get(end(80), End::Unix(0)).is_none() && sockets.get(end(80), End::Unix(1)).is_some());
        assert_eq!(sockets.by_ends.len(), MAX_SOCKETS);
    }
}
