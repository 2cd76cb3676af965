//! Work that was launched, and the wait for it.
//!
//! Owns when each stream will have done what was launched on it. How long a launch takes is told beforehand, on the same
//! thread: nothing is computed. Streams and events are known by the caller's numbers.

use std::{
    cell::Cell,
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

/// Most streams and events that have something to wait for; beyond, those that are done are forgotten.
const KNOWN: usize = 1 << 12;

thread_local! {
    /// How long this thread's next launch takes.
    static NEXT: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

/// When things are done.
#[derive(Debug, Default)]
pub struct Work {
    streams: BTreeMap<usize, Instant>,
    events: BTreeMap<usize, Instant>,
}

fn put(map: &mut BTreeMap<usize, Instant>, key: usize, done: Instant, now: Instant) {
    if map.len() >= KNOWN {
        map.retain(|_, done| *done > now);
    }
    map.insert(key, done);
}

impl Work {
    /// Puts work behind what a stream has to do.
    fn launch(&mut self, stream: usize, length: Duration, now: Instant) {
        let begin = self.streams.get(&stream).map_or(now, |done| now.max(*done));
        put(&mut self.streams, stream, begin + length, now);
    }

    /// An event is reached when a stream has done what it has to do by now.
    fn record(&mut self, event: usize, stream: usize, now: Instant) {
        let done = self.streams.get(&stream).copied().unwrap_or(now);
        put(&mut self.events, event, done, now);
    }
}

static WORK: Mutex<Option<Work>> = Mutex::new(None);

fn work<T>(what: impl FnOnce(&mut Work) -> T) -> T {
    what(WORK.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_default())
}

/// Says how long this thread's next launch takes.
pub fn next_takes(length: Duration) {
    NEXT.set(length);
}

/// Launches work on a stream, of the length that was told, or none.
pub fn launch(stream: usize) {
    let length = NEXT.take();
    work(|work| work.launch(stream, length, Instant::now()));
}

/// Records an event on a stream.
pub fn record(event: usize, stream: usize) {
    work(|work| work.record(event, stream, Instant::now()));
}

/// What to wait for.
#[derive(Clone, Copy, Debug)]
pub enum Until {
    /// Everything that was launched.
    Device,
    Stream(usize),
    /// An event; nothing if it was not recorded.
    Event(usize),
}

/// Waits, without holding up other threads' launches.
pub fn wait(until: Until) {
    let done = work(|work| match until {
        Until::Device => work.streams.values().max().copied(),
        Until::Stream(stream) => work.streams.get(&stream).copied(),
        Until::Event(event) => work.events.get(&event).copied(),
    });
    if let Some(done) = done {
        thread::sleep(done.saturating_duration_since(Instant::now()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_does_one_thing_after_another() {
        let (now, second) = (Instant::now(), Duration::from_secs(1));
        let mut work = Work::default();
        work.launch(1, second, now);
        work.launch(1, second * 2, now);
        work.launch(2, second, now);
        assert_eq!((work.streams[&1], work.streams[&2]), (now + second * 3, now + second));
        work.launch(2, second, now + second * 5);
        assert_eq!(work.streams[&2], now + second * 6);
    }

    #[test]
    fn an_event_is_of_what_was_launched_before_it() {
        let (now, second) = (Instant::now(), Duration::from_secs(1));
        let mut work = Work::default();
        work.launch(1, second, now);
        work.record(7, 1, now);
        work.launch(1, second, now);
        assert_eq!(work.events[&7], now + second);
    }

    #[test]
    fn what_is_done_is_forgotten() {
        let now = Instant::now();
        let mut work = Work::default();
        work.launch(0, Duration::from_secs(60), now);
        (1..=2 * KNOWN).for_each(|stream| work.launch(stream, Duration::ZERO, now));
        assert!(work.streams.len() <= KNOWN && work.streams.contains_key(&0));
    }
}
