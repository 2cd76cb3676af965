//! The two rings, read as one stream of records in the order of time, and the verdicts that go back.
//!
//! Payload and rare events travel on separate rings so that the one cannot starve the other, and their order
//! matters: an address comes before the data it explains, a close after it. The rule: whenever a payload record
//! is taken, all events written so far are taken too, and those with an earlier or equal stamp go first. An event
//! with a later stamp waits until the bulk ring was found empty after that stamp.

use std::{
    collections::VecDeque,
    io,
    os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd},
    sync::Arc,
    time::Duration,
};

use aya::{
    Ebpf,
    maps::{Array, Map, MapData},
};
use inferscope_common::wake::ANY_RECORD;

use super::{error::LoadError, programs::take_map, ring::Ring};
use crate::{record, time::Mono};

/// Payload records that are handed out before a call of [`Rings::drain`] returns, so that its caller gets to do
/// other work under a flood.
const BATCH: usize = 8192;

/// Pause between drains while many records come: the price is at most this much delay, the gain is that the traced
/// program never pays for a wake-up. The bulk ring holds what the fastest generator writes in ten times as long.
const NAP: Duration = Duration::from_millis(2);

/// The same while few come: getting up for each of them would cost more than reading it.
const DOZE: Duration = Duration::from_millis(10);

/// Payload bytes that end a doze early: a burst is not to fill the ring, nor to be over before it is answered.
const DOZE_UNTIL: u32 = 128 << 10;

/// Records in one drain from which they are many.
const MANY: usize = 64;

/// How long a program may take from its stamp to its place in the ring.
const STAMP_TO_RESERVE_NS: u64 = 1_000_000;

/// Longest sleep when nothing comes: the bound on what a lost wake-up could cost.
const SLEEP: Duration = Duration::from_millis(250);

/// Reads both rings.
pub struct Rings {
    data: Ring<RingMap>,
    events: Ring<RingMap>,
    wake: Array<MapData, u32>,
    paused: Array<MapData, u32>,
    waiting: VecDeque<Vec<u8>>,
    idle_rounds: u32,
    /// Payload records that the last drain took.
    taken: usize,
    /// The last drain ended at a record that is still being written.
    unfinished: bool,
    waker: Waker,
}

/// Interrupts a [`Rings::wait`] from another thread or from a signal handler's thread.
#[derive(Clone)]
pub struct Waker(Arc<OwnedFd>);

impl Waker {
    /// A new one.
    pub fn new() -> io::Result<Self> {
        // SAFETY: eventfd takes no pointers; the result is checked before it is used.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was just made and nobody else has it.
        Ok(Self(Arc::new(unsafe { OwnedFd::from_raw_fd(fd) })))
    }

    /// Makes the current or the next wait return at once.
    pub fn wake(&self) {
        let one = 1u64.to_ne_bytes();
        // SAFETY: the buffer is eight bytes long, which is what an eventfd takes. A full counter already wakes.
        unsafe { libc::write(self.0.as_raw_fd(), one.as_ptr().cast(), one.len()) };
    }

    /// Waits for a wake-up or the time-out.
    pub fn wait(&self, timeout: Duration) {
        self.wait_with(&[], timeout);
    }

    /// The same, or until one of the descriptors is readable. A wake-up ends one wait and no more: one that stayed would make
    /// its waiter spin.
    pub(super) fn wait_with(&self, fds: &[RawFd], timeout: Duration) {
        poll(&[&[self.0.as_raw_fd()], fds].concat(), timeout);
        self.clear();
    }

    fn clear(&self) {
        let mut buffer = [0u8; 8];
        // SAFETY: the buffer is eight bytes long; the descriptor does not block.
        unsafe { libc::read(self.0.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len()) };
    }
}

impl Rings {
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self, LoadError> {
        let data = ring(ebpf, "DATA")?;
        let events = ring(ebpf, "EVENTS")?;
        let wake = take_map(ebpf, "WAKE")?;
        let mut paused: Array<_, u32> = take_map(ebpf, "PAUSED")?;
        // Plaintext without the socket calls around it has no socket, and its bytes are compared with those of sockets.
        paused.set(0, 1, 0).map_err(|error| LoadError::Map("PAUSED", error))?;
        let waker = Waker::new()?;
        let waiting = VecDeque::new();
        Ok(Self { data, events, wake, paused, waiting, idle_rounds: 0, taken: 0, unfinished: false, waker })
    }

    /// A handle that ends waits early.
    pub fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// Waits until there may be something to read. Returns at once after a [`Waker::wake`].
    pub fn wait(&mut self) {
        if self.unfinished {
            // Its bytes count as waiting, so that a sleep would end at once.
            self.waker.wait(NAP);
        } else if self.idle_rounds >= 3 {
            // Say that we sleep, then look once more: a record written between the two has no one else to notice it.
            let _ = self.wake.set(0, ANY_RECORD, 0);
            if !self.data_is_waiting() {
                self.sleep(SLEEP);
            }
        } else if self.taken < MANY {
            let _ = self.wake.set(0, DOZE_UNTIL, 0);
            self.sleep(DOZE);
        } else {
            self.waker.wait(NAP);
        }
    }

    /// Until a program wakes us, or a [`Waker`], or the time is over.
    fn sleep(&self, time: Duration) {
        self.waker.wait_with(&[self.data.as_raw_fd(), self.events.as_raw_fd()], time);
    }

    fn data_is_waiting(&self) -> bool {
        // Taking an item out would consume it; a poll with no time-out looks at the positions.
        poll(&[self.data.as_raw_fd(), self.events.as_raw_fd()], Duration::ZERO)
    }

    /// Hands out records in the order of time until both rings are empty or a batch is full; true in the latter case.
    /// `now` must read the clock of the records.
    pub fn drain(&mut self, now: impl Fn() -> Mono, mut sink: impl FnMut(&[u8])) -> bool {
        let began = now();
        let Self { data, events, waiting, .. } = self;
        let mut taken = 0;
        let mut last = None;
        while let Some(item) = data.next() {
            take_events(events, waiting);
            last = record::time_of(item);
            release(waiting, last, &mut sink);
            sink(item);
            taken += 1;
            if taken == BATCH {
                (self.idle_rounds, self.taken, self.unfinished) = (0, taken, false);
                return true;
            }
        }
        take_events(events, waiting);
        let before = waiting.len();
        // The ring also reads as empty at a record that is reserved and not yet written, by a program that was
        // preempted; a poll tells the two apart. If it is really empty, every payload record stamped before `began` has
        // been handed out, but for those that were stamped and not yet reserved.
        let unfinished = poll(&[data.as_raw_fd()], Duration::ZERO);
        let until = if unfinished { last } else { Some(Mono(began.0.saturating_sub(STAMP_TO_RESERVE_NS))) };
        if until.is_some() {
            release(waiting, until, &mut sink);
        }
        let idle = taken == 0 && before == 0 && waiting.is_empty();
        (self.taken, self.unfinished) = (taken, unfinished);
        self.idle_rounds = if idle { self.idle_rounds.saturating_add(1) } else { 0 };
        false
    }

    /// Hands out the events that are still held back. For the end, when the programs are detached.
    pub fn flush(&mut self, sink: impl FnMut(&[u8])) {
        release(&mut self.waiting, None, sink);
    }

    /// Tells the programs to take up what happens. Until then they do not, although they are attached one after another.
    pub fn resume(&mut self) -> Result<(), LoadError> {
        self.paused.set(0, 0, 0).map_err(|error| LoadError::Map("PAUSED", error))
    }

    /// Tells the programs to take nothing up any more. What runs at this moment still finishes.
    pub fn pause(&mut self) {
        // An array's only slot can always be written.
        let _ = self.paused.set(0, 1, 0);
    }
}

/// Whether one of the descriptors is readable before the time-out.
pub(super) fn poll(fds: &[RawFd], timeout: Duration) -> bool {
    let mut fds: Vec<libc::pollfd> =
        fds.iter().map(|&fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 }).collect();
    // SAFETY: pointer and length describe the vector, which outlives the call.
    let ready = unsafe { libc::poll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, timeout.as_millis() as libc::c_int) };
    ready > 0
}

/// A ring's map, which lives as long as its reader.
struct RingMap(MapData);

impl AsFd for RingMap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.fd().as_fd()
    }
}

fn ring(ebpf: &mut Ebpf, name: &'static str) -> Result<Ring<RingMap>, LoadError> {
    let Some(Map::RingBuf(map)) = ebpf.take_map(name) else { return Err(LoadError::Lacks(name)) };
    let size = map.info().map_err(|error| LoadError::Map(name, error))?.max_entries();
    Ok(Ring::open(RingMap(map), size)?)
}

fn take_events(events: &mut Ring<RingMap>, waiting: &mut VecDeque<Vec<u8>>) {
    while let Some(item) = events.next() {
        // Nearly sorted already: stamps of two processors can swap by microseconds.
        let time = record::time_of(item);
        let at = waiting.iter().rposition(|held| record::time_of(held) <= time).map_or(0, |i| i + 1);
        waiting.insert(at, item.to_vec());
    }
}

/// Hands out the held events with a stamp up to `until`; all of them if there is none.
fn release(waiting: &mut VecDeque<Vec<u8>>, until: Option<Mono>, mut sink: impl FnMut(&[u8])) {
    while let Some(first) = waiting.front() {
        if until.is_some() && record::time_of(first) > until {
            return;
        }
        sink(first);
        waiting.pop_front();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(time: u64) -> Vec<u8> {
        let mut bytes = vec![0; 16];
        bytes[8..].copy_from_slice(&time.to_ne_bytes());
        bytes
    }

    #[test]
    fn events_are_released_up_to_the_stamp_and_in_order() {
        let mut waiting = VecDeque::from([event(1), event(5), event(9)]);
        let mut seen = Vec::new();
        release(&mut waiting, Some(Mono(5)), |e| seen.push(record::time_of(e).unwrap().0));
        assert_eq!((seen, waiting.len()), (vec![1, 5], 1));
        release(&mut waiting, None, |_| ());
        assert!(waiting.is_empty());
    }

    #[test]
    fn a_waker_ends_one_wait_that_may_not_have_begun() {
        let waker = Waker::new().unwrap();
        waker.wake();
        assert!(poll(&[waker.0.as_raw_fd()], Duration::ZERO));
        waker.wait_with(&[], Duration::from_secs(60));
        assert!(!poll(&[waker.0.as_raw_fd()], Duration::ZERO), "the next wait would end at once");
    }
}
