//! Writing: items become frames, frames become durable.
//!
//! Owns seqs, segments being written, and what happens when a write or a sync fails: the segment is never touched again but to cut
//! off what is not durable, and what was in memory goes to a new segment under the same seqs. A file without durable frames is
//! removed first, for the new one has its name. Readers go by the table, which knows durable frames only, and after a restart by
//! the rule that the higher first seq holds; both give the same bytes. Driven from outside, step by step; `writer` is the thread
//! that does so.

use std::{
    any::Any,
    collections::VecDeque,
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use ring::rand::{SecureRandom as _, SystemRandom};

use super::{
    counts::add,
    files::WriteFile,
    format::{FRAME_BYTES, FrameHeader, HEADER_BYTES, SALT_BYTES, SegmentHeader},
    queue::Offered,
    seal::{SEAL_BYTES, SegmentKey},
    shared::Shared,
    table::Segment,
};

/// Why what waits is not durable yet.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CommitError {
    /// The file system refused something.
    #[error("{} {path} failed", what.as_str(), path = path.display())]
    Io {
        what: Call,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// The budget is used up.
    #[error(
        "the disk budget of {budget} bytes is used up by items that destinations have not acknowledged, or by what is in quarantine"
    )]
    Budget { budget: u64 },
    /// No random bytes, or no encryption.
    #[error("the cryptographic library failed")]
    Crypto,
}

impl CommitError {
    fn io(what: Call, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { what, path, source }
    }
}

/// What was asked of the file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    Create,
    Write,
    Sync,
    Remove,
}

impl Call {
    fn as_str(self) -> &'static str {
        match self {
            Self::Create => "creating",
            Self::Write => "writing",
            Self::Sync => "syncing",
            Self::Remove => "removing",
        }
    }
}

/// The segment that is being written.
#[derive(Debug)]
struct Current {
    file: Box<dyn WriteFile>,
    path: PathBuf,
    header: SegmentHeader,
    key: Option<SegmentKey>,
    /// Bytes that are durable.
    durable: u64,
    /// The directory knows of it for good.
    named: bool,
}

/// The writing side of a log.
pub(crate) struct Log {
    shared: Arc<Shared>,
    next_seq: u64,
    /// Have seqs, and are not durable. The first has seq `next_seq - pending.len()`.
    pending: VecDeque<Offered>,
    current: Option<Current>,
    /// A file without durable frames that has the next segment's name.
    in_the_way: Option<PathBuf>,
    /// The identity is not durable yet.
    nameless: bool,
    /// Items at the front of `pending` that have been written before.
    attempted: usize,
    buf: Vec<u8>,
    sealed: Vec<u8>,
    random: SystemRandom,
    _lock: Box<dyn Any + Send + Sync>,
}

impl Log {
    /// Goes on with a log: its next item will have `next_seq`.
    pub(crate) fn new(shared: Arc<Shared>, next_seq: u64, nameless: bool, lock: Box<dyn Any + Send + Sync>) -> Self {
        Self {
            shared,
            next_seq,
            pending: VecDeque::new(),
            current: None,
            in_the_way: None,
            nameless,
            attempted: 0,
            buf: Vec::new(),
            sealed: Vec::new(),
            random: SystemRandom::new(),
            _lock: lock,
        }
    }

    /// Gives items their seqs. They are durable after a [`Log::commit`] that succeeds.
    pub(crate) fn append_batch(&mut self, items: impl IntoIterator<Item = Offered>) {
        let before = self.pending.len();
        self.pending.extend(items);
        self.next_seq += (self.pending.len() - before) as u64;
    }

    /// Makes everything durable that has a seq. After an error some of it may be; the rest is kept for the next attempt.
    pub(crate) fn commit(&mut self) -> Result<(), CommitError> {
        while !self.pending.is_empty() {
            if let Err(error) = self.commit_some() {
                // Before anything was written, the segment is as good as it was.
                if matches!(error, CommitError::Io { .. }) {
                    self.give_up_segment();
                }
                return Err(error);
            }
        }
        Ok(())
    }

    /// The seq of the next item.
    #[cfg(test)]
    pub(crate) fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// What is neither durable nor given up.
    pub(crate) fn pending(&self) -> usize {
        self.pending.len()
    }

    fn first_pending(&self) -> u64 {
        self.next_seq - self.pending.len() as u64
    }

    /// Writes and syncs what fits into one segment.
    fn commit_some(&mut self) -> Result<(), CommitError> {
        self.take_name()?;
        self.clear_the_way()?;
        if self.current.as_ref().is_some_and(|current| current.durable >= self.shared.settings.segment_bytes) {
            self.current = None;
        }
        let mut current = match self.current.take() {
            Some(current) => current,
            None => self.create()?,
        };
        let written = self.write(&mut current);
        // Back in its place, for whoever gives it up.
        let current = self.current.insert(current);
        let (items, bytes) = written?;
        current.named = true;
        current.durable += bytes;
        let segment = Segment { first_seq: current.header.first_seq, bytes: current.durable };
        self.settle(items, segment);
        Ok(())
    }

    /// Encodes, writes and syncs; gives how many items and bytes are durable now.
    fn write(&mut self, current: &mut Current) -> Result<(usize, u64), CommitError> {
        let items = self.encode(current)?;
        let need = self.buf.len() as u64;
        if !self.shared.make_room(need) {
            return Err(CommitError::Budget { budget: self.shared.budget });
        }
        let again = self.attempted.min(items);
        self.attempted = self.attempted.max(items);
        let (Shared { counters, layout, files, .. }, path) = (&*self.shared, &current.path);
        let written = current.file.append(&self.buf).map_err(CommitError::io(Call::Write, path));
        written.inspect_err(|_| add(&counters.write_failures, 1))?;
        let failed = |_: &CommitError| add(&counters.sync_failures, 1);
        current.file.sync().map_err(CommitError::io(Call::Sync, path)).inspect_err(failed)?;
        if !current.named {
            let synced = files.sync_dir(&layout.segments).map_err(CommitError::io(Call::Sync, &layout.segments));
            synced.inspect_err(failed)?;
        }
        add(&counters.rewritten_items, again as u64);
        Ok((items, need))
    }

    /// Encodes what fits into the segment, at least one item.
    fn encode(&mut self, current: &Current) -> Result<usize, CommitError> {
        self.buf.clear();
        if current.durable == 0 {
            self.buf.extend_from_slice(&current.header.encode());
        }
        let (seed, first, limit) = (current.header.seed(), self.first_pending(), self.shared.settings.segment_bytes);
        let mut items = 0;
        for (item, seq) in self.pending.iter().zip(first..) {
            if items > 0 && current.durable + self.buf.len() as u64 >= limit {
                break;
            }
            let added = if current.key.is_some() { SEAL_BYTES } else { 0 };
            let stored = u32::try_from(item.payload.len() + added).map_err(|_| CommitError::Crypto)?;
            let mut header = FrameHeader { stored, seq, kind: item.kind as u16, crc: 0 };
            let stored: &[u8] = match &current.key {
                None => &item.payload,
                Some(key) => {
                    key.seal(&header, &item.payload, &mut self.sealed).ok_or(CommitError::Crypto)?;
                    &self.sealed
                }
            };
            header.crc = crc32c::crc32c(stored);
            self.buf.reserve(FRAME_BYTES + stored.len());
            self.buf.extend_from_slice(&header.encode(seed));
            self.buf.extend_from_slice(stored);
            items += 1;
        }
        Ok(items)
    }

    fn settle(&mut self, items: usize, segment: Segment) {
        let through = self.first_pending() + items as u64 - 1;
        let (mut payloads, mut cost) = (0, 0);
        for item in self.pending.drain(..items.min(self.pending.len())) {
            payloads += item.payload.len();
            cost += self.shared.settings.cost(item.payload.len());
        }
        self.attempted = self.attempted.saturating_sub(items);
        add(&self.shared.counters.durable_items, items as u64);
        add(&self.shared.counters.durable_bytes, payloads as u64);
        self.shared.publish(segment, through);
        self.shared.queue.settle(items, cost);
    }

    /// Makes the segment that begins with the first item that is not durable.
    fn create(&mut self) -> Result<Current, CommitError> {
        let mut salt = [0; SALT_BYTES];
        self.random.fill(&mut salt).map_err(|_| CommitError::Crypto)?;
        let (first_seq, master) = (self.first_pending(), self.shared.key.as_ref());
        let key = match master {
            Some(master) => Some(master.segment(&salt).ok_or(CommitError::Crypto)?),
            None => None,
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let header = SegmentHeader {
            epoch: self.shared.epoch,
            first_seq,
            salt,
            key_check: master.map(|master| master.check(&salt)),
            created_unix_nano: u64::try_from(now.as_nanos()).unwrap_or(u64::MAX),
        };
        if !self.shared.make_room((HEADER_BYTES + FRAME_BYTES) as u64) {
            return Err(CommitError::Budget { budget: self.shared.budget });
        }
        let path = self.shared.layout.segment(first_seq);
        match self.shared.files.create(&path) {
            Ok(file) => Ok(Current { file, path, header, key, durable: 0, named: false }),
            Err(source) => {
                add(&self.shared.counters.write_failures, 1);
                // What has the name holds nothing durable of ours, but it may be somebody's.
                let aside = self.shared.layout.aside(&path, "foreign");
                if source.kind() != io::ErrorKind::AlreadyExists || self.shared.files.rename(&path, &aside).is_err() {
                    self.in_the_way = Some(path.clone());
                }
                Err(CommitError::Io { what: Call::Create, path, source })
            }
        }
    }

    /// The epoch is durable before the first frame that carries it.
    fn take_name(&mut self) -> Result<(), CommitError> {
        if self.nameless {
            let path = self.shared.layout.identity();
            if let Err(source) = self.shared.write_note(&path, 0) {
                add(&self.shared.counters.write_failures, 1);
                return Err(CommitError::Io { what: Call::Write, path, source });
            }
            self.nameless = false;
        }
        Ok(())
    }

    fn clear_the_way(&mut self) -> Result<(), CommitError> {
        let Some(path) = &self.in_the_way else { return Ok(()) };
        match self.shared.files.remove(path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                let path = path.clone();
                add(&self.shared.counters.write_failures, 1);
                Err(CommitError::Io { what: Call::Remove, path, source })
            }
            Ok(()) | Err(_) => {
                self.in_the_way = None;
                Ok(())
            }
        }
    }

    /// After a failure: nothing is written behind it, and nothing of it is synced again.
    fn give_up_segment(&mut self) {
        let Some(Current { mut file, path, durable, .. }) = self.current.take() else { return };
        if durable == 0 {
            drop(file);
            self.in_the_way = Some(path);
            // Tried again before the next attempt.
            let _ = self.clear_the_way();
        } else if let Err(error) = file.truncate(durable) {
            // What is behind is never read: the next segment begins with its seqs.
            tracing::warn!(%error, path = %path.display(), "a segment that failed cannot be cut off");
        }
    }
}
