//! The task that fills a queue from the log, and says in the log how far the destination is.
//!
//! Owns the order of three things: spans go from the log into the queue while there is room, the sender settles them in that
//! order, and the cursor follows what is settled. So memory is bounded by the queue whatever is in the log, a receiver may be away
//! for as long as the log has room, and no destination waits for another. Items of other kinds are passed over, and do not hold
//! the cursor back; what the log has lost is counted by its reason.
//!
//! The cursor is made durable every now and then and at the end. What was sent and not noted before a crash is sent again, with the
//! same ids. Who may read what, and when segments go, is the business of `wal`.

use std::{collections::VecDeque, io, sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    task::block_in_place,
    time::{Instant, sleep_until},
};

use super::{
    queue::{Item, Queue},
    settings::Tuning,
};
use crate::wal::{Kind, Reader};

/// Items that are read at a time, at most: a long row of other kinds must not keep the task from noticing that it is to stop.
const MAX_ITEMS: usize = 4096;

/// How far the log has been read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fed {
    /// There may be more.
    Some,
    /// The queue has no room.
    Full,
    /// Everything that is durable is in the queue, or is none of its.
    All,
}

/// Reads the log for one destination.
pub(super) struct Feeder {
    reader: Reader,
    queue: Arc<Queue>,
    durable: watch::Receiver<u64>,
    progress: watch::Receiver<()>,
    stopping: watch::Receiver<Option<Instant>>,
    /// Read, and without room: what is larger than the room that was left.
    ahead: VecDeque<Item>,
    /// The cursor, as it was last made durable, and when that was tried.
    noted: u64,
    tried: Instant,
    note_every: Duration,
    /// Wait before a log that could not be read is read again.
    pause: Duration,
    /// That the log cannot be read has been said.
    unreadable: bool,
    /// That the cursor cannot be written has been said.
    unwritable: bool,
}

impl Feeder {
    /// From `reader` into `queue`, until the exporter is to stop and everything is read, or until nobody sends any more.
    pub(super) fn new(
        reader: Reader,
        queue: Arc<Queue>,
        tuning: &Tuning,
        stopping: watch::Receiver<Option<Instant>>,
    ) -> Self {
        Self {
            durable: reader.durable(),
            progress: queue.progress(),
            noted: reader.acknowledged(),
            reader,
            queue,
            stopping,
            ahead: VecDeque::new(),
            tried: Instant::now(),
            note_every: tuning.note_every,
            pause: tuning.backoff_longest,
            unreadable: false,
            unwritable: false,
        }
    }

    pub(super) async fn run(mut self) {
        let mut not_before = Instant::now();
        loop {
            // Before the look at what they tell of: what changes after it wakes this task again.
            self.durable.borrow_and_update();
            self.progress.borrow_and_update();
            // Nobody being left to ask is as good as being told to stop.
            let stopping = self.stopping.borrow().is_some() || self.stopping.has_changed().is_err();
            if self.queue.has_ended() {
                self.note();
                return;
            }
            let now = Instant::now();
            let fed = if now < not_before { Ok(Fed::Full) } else { block_in_place(|| self.feed()) };
            let fed = fed.unwrap_or_else(|error| {
                if !std::mem::replace(&mut self.unreadable, true) {
                    let destination = self.reader.name();
                    tracing::error!(%error, destination, "the log cannot be read; trying again");
                }
                not_before = now + self.pause;
                Fed::Full
            });
            // What cannot be read now is read after the next start.
            if stopping && (fed == Fed::All || now < not_before) {
                self.queue.close();
            }
            if self.due().is_some_and(|due| due <= now) {
                self.note();
            }
            if fed == Fed::Some {
                // Others may have waited for this thread.
                tokio::task::yield_now().await;
                continue;
            }
            let due = self.due();
            tokio::select! {
                _ = self.progress.changed() => {}
                // The reader keeps the log's end of this: it cannot hang up.
                _ = self.durable.changed(), if fed == Fed::All => {}
                _ = self.stopping.wait_for(Option::is_some), if !stopping => {}
                () = sleep_until(due.unwrap_or(now)), if due.is_some() => {}
                () = sleep_until(not_before), if now < not_before => {}
            }
        }
    }

    /// Reads what there is room for.
    fn feed(&mut self) -> io::Result<Fed> {
        if !self.pour() {
            return Ok(Fed::Full);
        }
        let Some((bytes, spans)) = self.queue.room() else { return Ok(Fed::Full) };
        let Some(run) = self.reader.next(bytes, spans.min(MAX_ITEMS))? else {
            return Ok(Fed::All);
        };
        self.unreadable = false;
        self.queue.lost(&run.gaps);
        let spans = run.items.into_iter().filter(|item| item.kind == Kind::Span);
        self.ahead.extend(spans.map(|item| Item::new(item.payload, item.seq)));
        Ok(if self.pour() { Fed::Some } else { Fed::Full })
    }

    /// Puts what was read into the queue; says whether all of it found room.
    fn pour(&mut self) -> bool {
        while let Some(item) = self.ahead.pop_front() {
            if let Err(item) = self.queue.feed(item) {
                self.ahead.push_front(item);
                return false;
            }
        }
        true
    }

    /// Everything up to here is settled.
    fn settled(&self) -> u64 {
        let next = self.ahead.front().map_or(self.reader.position(), |item| item.seq);
        self.queue.settled_through(next.saturating_sub(1))
    }

    /// When the cursor is to be made durable, if there is anything to note.
    fn due(&self) -> Option<Instant> {
        (self.settled() > self.noted).then(|| self.tried + self.note_every)
    }

    /// Makes the cursor durable, so that what is settled is not sent again and its room is free.
    fn note(&mut self) {
        let through = self.settled();
        if through <= self.noted {
            return;
        }
        self.tried = Instant::now();
        match block_in_place(|| self.reader.advance(through)) {
            Ok(()) => {
                self.noted = through;
                self.unwritable = false;
            }
            Err(error) if !std::mem::replace(&mut self.unwritable, true) => {
                let destination = self.reader.name();
                tracing::error!(%error, destination, "the log's cursor cannot be written; what was taken may be sent again");
            }
            Err(_) => {}
        }
    }
}

#[cfg(test)]
#[path = "feed_tests.rs"]
mod tests;
