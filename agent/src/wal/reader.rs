//! Reading for one destination, and how far it is.
//!
//! Owns that every seq is told once in a row, as an item or in a gap, and that nothing is told before it is durable. A reader
//! holds one segment open and no lock while it reads; it is held up by nobody and holds up nobody.

use std::{io, sync::Arc};

use tokio::sync::watch;

use super::{
    format::{FRAME_BYTES, FrameHeader, Head},
    scan::{Cipher, Frames, Item, Lost, Opened, Step, TRIES, is_bad_disk},
    shared::{MAX_CURSORS, Shared},
    table::{Cursor, Gap, GapReason, Place, Segment, push_gap},
};

/// Longest name of a destination.
const MAX_NAME: usize = 64;

/// Gaps of a run at most: a log with a damaged frame beside every good one must not make runs of any size.
const MAX_GAPS: usize = 1024;

/// Where a destination begins that the log does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// With the oldest item that is there, or that is in quarantine.
    Oldest,
    /// With what comes from now on.
    Now,
}

/// Why there is no reader.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReaderError {
    /// The name cannot be a file's.
    #[error("'{0}' is no name for a destination: 1 to 64 of a-z, 0-9, _ and -")]
    Name(String),
    /// Another reader has it: a destination reads in one place.
    #[error("destination {0} has a reader already")]
    InUse(String),
    /// There are as many cursors as there may be.
    #[error("the log keeps {MAX_CURSORS} destinations already: forget one that is not used any more")]
    TooMany,
}

/// Whether a destination may be called so.
pub(crate) fn is_name(name: &str) -> bool {
    let allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-');
    (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(allowed)
}

/// What follows each other in the log: every seq from `first_seq` to `last_seq` is in it once, as an item or in a gap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// The first seq.
    pub first_seq: u64,
    /// The last seq.
    pub last_seq: u64,
    /// By seq, ascending.
    pub items: Vec<Item>,
    /// By seq, ascending. Two that follow each other differ in their reason.
    pub gaps: Vec<Gap>,
}

/// A segment that is being read.
#[derive(Debug)]
struct Open {
    first_seq: u64,
    frames: Frames,
    /// A frame that was found and not given yet.
    ahead: Option<FrameHeader>,
}

/// Reads for one destination.
#[derive(Debug)]
pub struct Reader {
    shared: Arc<Shared>,
    name: String,
    /// Tells it from a reader of the same name that came after the destination was forgotten.
    owner: u64,
    /// The next seq to give.
    next: u64,
    open: Option<Open>,
    /// The segment that could not be opened, and how often in a row.
    failed: (u64, u32),
}

/// A run in the making.
struct Collected {
    run: Run,
    bytes: usize,
    max_bytes: usize,
    max_items: usize,
}

impl Collected {
    fn next(&self) -> u64 {
        self.run.last_seq + 1
    }

    fn is_full(&self) -> bool {
        self.run.items.len() >= self.max_items || self.run.gaps.len() >= MAX_GAPS
    }

    fn missing(&mut self, gaps: impl IntoIterator<Item = Gap>) {
        for gap in gaps {
            self.run.last_seq = gap.last_seq;
            push_gap(&mut self.run.gaps, gap);
        }
    }
}

impl Reader {
    /// A reader for `name`, whose cursor holds if there is one.
    pub(crate) fn new(shared: Arc<Shared>, name: &str, start: Start) -> Result<Self, ReaderError> {
        if !is_name(name) {
            return Err(ReaderError::Name(name.to_owned()));
        }
        let (through, new, owner) = {
            let mut table = shared.table();
            let owner = table.readers + 1;
            let first = match start {
                Start::Oldest => table.beginning() - 1,
                Start::Now => table.durable,
            };
            if !table.cursors.contains_key(name) && table.cursors.len() >= MAX_CURSORS {
                return Err(ReaderError::TooMany);
            }
            let mut new = false;
            let cursor = table.cursors.entry(name.to_owned()).or_insert_with(|| {
                new = true;
                Cursor { through: first, told: first, ..Default::default() }
            });
            if cursor.owner != 0 {
                return Err(ReaderError::InUse(name.to_owned()));
            }
            cursor.owner = owner;
            let through = cursor.through;
            table.readers = owner;
            (through, new, owner)
        };
        // So that it begins there after a restart as well. Without it, it begins with the oldest, which loses nothing.
        if new && let Err(error) = shared.write_note(&shared.layout.cursor(name), through) {
            super::counts::add(&shared.counters.cursor_failures, 1);
            tracing::warn!(%error, name, "where a destination begins cannot be noted");
        }
        Ok(Self { shared, name: name.to_owned(), owner, next: through + 1, open: None, failed: (0, 0) })
    }

    /// The destination.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The seq that [`Reader::next`] goes on with.
    pub fn position(&self) -> u64 {
        self.next
    }

    /// The destination has everything up to here, durably.
    pub fn acknowledged(&self) -> u64 {
        self.shared.table().cursors.get(&self.name).map_or(0, |cursor| cursor.through)
    }

    /// The oldest seq that may be in the log.
    pub fn oldest(&self) -> u64 {
        self.shared.table().oldest()
    }

    /// Everything up to the seq that it holds can be read; changes when there is more.
    pub fn durable(&self) -> watch::Receiver<u64> {
        self.shared.durable()
    }

    /// What comes next, with at most so many items and bytes: each item counts its payload and 28 bytes, or 48 when it is
    /// encrypted, which is more than its frame in a batch takes. An item that is larger alone comes alone. `None` when there is nothing
    /// new that is durable.
    ///
    /// An error is the file system's, and the next call tries the same again; what cannot be read again and again becomes a gap.
    pub fn next(&mut self, max_bytes: usize, max_items: usize) -> io::Result<Option<Run>> {
        let run = Run { first_seq: self.next, last_seq: self.next - 1, items: Vec::new(), gaps: Vec::new() };
        let mut collected = Collected { run, bytes: 0, max_bytes, max_items: max_items.max(1) };
        while !collected.is_full() {
            let place = self.shared.table().place(collected.next());
            let more = match place {
                Place::End => break,
                Place::Missing(end) => {
                    self.open = None;
                    self.missing(&mut collected, end);
                    Ok(true)
                }
                Place::In(segment, end) => self.read(segment, end, &mut collected),
            };
            match more {
                Ok(true) => {}
                Ok(false) => break,
                // What was read before is good; the next call meets the error again.
                Err(_) if collected.next() > collected.run.first_seq => break,
                Err(error) => return Err(error),
            }
        }
        let Collected { run, .. } = collected;
        if run.last_seq < run.first_seq {
            return Ok(None);
        }
        self.next = run.last_seq + 1;
        let (corrupt, unreadable) = {
            let mut table = self.shared.table();
            let counted = table.count(&self.name, &run.gaps);
            table.told(&self.name, run.last_seq);
            counted
        };
        super::counts::add(&self.shared.counters.corrupt_items, corrupt);
        super::counts::add(&self.shared.counters.unreadable_items, unreadable);
        Ok(Some(run))
    }

    /// Everything up to `end` is missing.
    fn missing(&self, collected: &mut Collected, end: u64) {
        if collected.next() <= end {
            let gaps = self.shared.table().explain(&self.name, collected.next(), end);
            collected.missing(gaps);
        }
    }

    /// Reads in a segment, up to `end`; says whether there is room for more.
    fn read(&mut self, segment: Segment, end: u64, collected: &mut Collected) -> io::Result<bool> {
        let mut open = match self.open.take().filter(|open| open.first_seq == segment.first_seq) {
            Some(open) => open,
            None => match self.open(segment)? {
                Some(open) => open,
                None => {
                    self.missing(collected, end);
                    return Ok(true);
                }
            },
        };
        open.frames.extend(segment.bytes);
        let more = self.read_frames(&mut open, end, collected);
        self.open = Some(open);
        more
    }

    fn read_frames(&self, open: &mut Open, end: u64, collected: &mut Collected) -> io::Result<bool> {
        while collected.next() <= end {
            let header = match open.ahead {
                Some(header) => header,
                None => match open.frames.step()? {
                    Step::Frame(header) => header,
                    Step::Cut(_) | Step::End { .. } => {
                        self.missing(collected, end);
                        break;
                    }
                },
            };
            if header.seq < collected.next() {
                open.ahead = None;
                continue;
            }
            open.ahead = Some(header);
            // What is behind the end is in the next segment too, and holds there.
            self.missing(collected, (header.seq - 1).min(end));
            if header.seq > end {
                break;
            }
            let size = header.stored as usize + FRAME_BYTES;
            let too_much = !collected.run.items.is_empty() && collected.bytes + size > collected.max_bytes;
            if too_much || collected.is_full() {
                return Ok(false);
            }
            let item = open.frames.payload(&header)?;
            open.ahead = None;
            match item {
                Ok(item) => {
                    collected.bytes += size;
                    collected.run.last_seq = item.seq;
                    collected.run.items.push(item);
                }
                Err(lost) => {
                    let reason = match lost {
                        Lost::Damaged => GapReason::Corrupt,
                        Lost::Unreadable => GapReason::Unreadable,
                    };
                    collected.missing([Gap { first_seq: header.seq, last_seq: header.seq, reason }]);
                }
            }
        }
        Ok(true)
    }

    /// Opens a segment; `None` when it is not there, or not what it was.
    fn open(&mut self, segment: Segment) -> io::Result<Option<Open>> {
        let path = self.shared.layout.segment(segment.first_seq);
        let opened = match Opened::at(&*self.shared.files, &path) {
            Ok(opened) => opened,
            // It went between the look at the table and now; if it should be there, it is lost.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) if is_bad_disk(&error) => {
                let tries = if self.failed.0 == segment.first_seq { self.failed.1 + 1 } else { 1 };
                self.failed = (segment.first_seq, tries);
                return if tries < TRIES { Err(error) } else { Ok(None) };
            }
            Err(error) => return Err(error),
        };
        let Head::Segment(header) = opened.head else { return Ok(None) };
        if header.epoch != self.shared.epoch || header.first_seq != segment.first_seq {
            return Ok(None);
        }
        let cipher = Cipher::of(&header, self.shared.key.as_ref());
        let frames = Frames::new(opened.file, &header, cipher, segment.bytes);
        Ok(Some(Open { first_seq: segment.first_seq, frames, ahead: None }))
    }

    /// Goes on with `to_seq`, back or ahead: after a reconnect, with what the destination says that it lacks. Seqs that are no
    /// longer there are told as gaps. An error when `to_seq` is none that the log has given or gives next.
    pub fn rewind(&mut self, to_seq: u64) -> io::Result<()> {
        let durable = self.shared.table().durable;
        if !(1..=durable + 1).contains(&to_seq) {
            let what = format!("seq {to_seq} is asked for, and the log has given 1 to {durable}");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        }
        if to_seq < self.next {
            self.open = None;
        }
        self.next = to_seq;
        Ok(())
    }

    /// The destination has everything up to `through`. That is durable when this returns; only then segments go that every
    /// destination has passed. Less than before changes nothing. An error when `through` was never given, when the destination
    /// was forgotten, or from the file system: then nothing went, and the next call may succeed.
    pub fn advance(&mut self, through: u64) -> io::Result<()> {
        self.shared.advance(&self.name, self.owner, through)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut table = self.shared.table();
        if let Some(cursor) = table.cursors.get_mut(&self.name).filter(|cursor| cursor.owner == self.owner) {
            cursor.owner = 0;
        }
    }
}
