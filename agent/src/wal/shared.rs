//! What the writer, the readers and those who offer have in common.
//!
//! Owns the order in which a destination's progress takes effect: its cursor is durable first, and only then segments go. No lock
//! is held while a file is read, written or removed.

use std::{
    fmt, io,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU8, AtomicU64, Ordering},
    },
};

use tokio::sync::watch;

use super::{
    counts::{Counters, CursorCounts, Health, WalCounts, add},
    files::Files,
    format::{Epoch, Note},
    level::Level,
    queue::Queue,
    seal::MasterKey,
    settings::{FullPolicy, Layout, WalSettings},
    table::{Cursor, Segment, Table},
};

/// Destinations that a log keeps cursors of at most: each pins segments, and each is named in a configuration.
pub(crate) const MAX_CURSORS: usize = 64;

/// What everybody has.
pub(crate) struct Shared {
    pub files: Arc<dyn Files>,
    pub layout: Layout,
    pub settings: WalSettings,
    pub key: Option<MasterKey>,
    pub epoch: Epoch,
    /// Bytes that segments may take: `max_bytes` less what is in quarantine, at most half of it.
    pub budget: u64,
    pub quarantine_bytes: u64,
    pub foreign_items: u64,
    pub queue: Queue,
    pub counters: Counters,
    table: Mutex<Table>,
    durable: watch::Sender<u64>,
    health: watch::Sender<Health>,
    used: AtomicU64,
    level: AtomicU8,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("dir", &self.layout.dir).finish_non_exhaustive()
    }
}

/// Where a log begins.
pub(crate) struct Start {
    pub files: Arc<dyn Files>,
    pub layout: Layout,
    pub settings: WalSettings,
    pub key: Option<MasterKey>,
    pub epoch: Epoch,
    pub table: Table,
    pub quarantine_bytes: u64,
    pub foreign_items: u64,
}

impl Shared {
    pub(crate) fn new(start: Start) -> Self {
        let Start { files, layout, settings, key, epoch, table, quarantine_bytes, foreign_items } = start;
        // What is in quarantine is never removed; a log that it filled alone would take nothing any more.
        let budget = settings.max_bytes - quarantine_bytes.min(settings.max_bytes / 2);
        let shared = Self {
            durable: watch::Sender::new(table.durable),
            health: watch::Sender::new(Health::Fine),
            used: AtomicU64::new(0),
            level: AtomicU8::new(0),
            queue: Queue::default(),
            counters: Counters::default(),
            table: Mutex::new(table),
            files,
            layout,
            settings,
            key,
            epoch,
            budget,
            quarantine_bytes,
            foreign_items,
        };
        shared.measure(&shared.table());
        shared
    }

    // Every change of the table is complete before anything that could panic: a poisoned lock guards good data.
    pub(crate) fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn durable(&self) -> watch::Receiver<u64> {
        self.durable.subscribe()
    }

    pub(crate) fn health(&self) -> &watch::Sender<Health> {
        &self.health
    }

    /// Bytes of all segments.
    pub(crate) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    pub(crate) fn level(&self) -> Level {
        Level::from_number(self.level.load(Ordering::Relaxed))
    }

    /// Takes note of how full the log is.
    fn measure(&self, table: &Table) {
        let used = table.used();
        self.used.store(used, Ordering::Relaxed);
        let before = self.level();
        let level = match self.settings.policy {
            FullPolicy::RefuseNew => before.at(used, self.budget),
            // Where the oldest go, there is always room for a new one.
            FullPolicy::DropOldest => before.at(used, self.budget).min(Level::Sampled),
        };
        if level != before {
            self.level.store(level as u8, Ordering::Relaxed);
            tracing::info!(from = before.as_str(), to = level.as_str(), used, budget = self.budget, "the log's level");
        }
    }

    /// Frames have become durable.
    pub(crate) fn publish(&self, segment: Segment, through: u64) {
        {
            let mut table = self.table();
            table.publish(segment, through);
            self.measure(&table);
        }
        self.durable.send_replace(through);
    }

    /// Lets go what every destination has.
    pub(crate) fn sweep(&self) {
        let mut going = {
            let mut table = self.table();
            let mut going = std::mem::take(&mut table.doomed);
            going.extend(table.passed());
            going
        };
        if going.is_empty() {
            return;
        }
        going.retain(|segment| !self.removed(segment));
        let mut table = self.table();
        table.doomed.extend(going);
        self.measure(&table);
    }

    /// Lets the oldest go until there is room for `need` more bytes; says whether there is.
    pub(crate) fn make_room(&self, need: u64) -> bool {
        let (evicted, through) = {
            let mut table = self.table();
            (table.evict(need, self.budget), table.evicted)
        };
        if !evicted.is_empty() {
            // Only for the reason that is told after a restart: without it, what is missing is told as damaged.
            if let Err(error) = self.write_note(&self.layout.evicted(), through) {
                tracing::warn!(%error, "that the oldest items go cannot be noted");
            }
            let mut stay = Vec::new();
            for (segment, items) in evicted {
                add(&self.counters.evicted_items, items);
                add(&self.counters.evicted_bytes, segment.bytes);
                if !self.removed(&segment) {
                    stay.push(segment);
                }
            }
            let mut table = self.table();
            table.doomed.extend(stay);
            self.measure(&table);
        }
        self.used() + need <= self.budget
    }

    fn removed(&self, segment: &Segment) -> bool {
        match self.files.remove(&self.layout.segment(segment.first_seq)) {
            Ok(()) => true,
            Err(error) if error.kind() == io::ErrorKind::NotFound => true,
            Err(error) => {
                tracing::warn!(%error, segment.first_seq, "a segment that is not needed any more cannot be removed");
                false
            }
        }
    }

    /// Makes a note durable: a copy is written and synced, takes the place of the old one, and the directory is synced.
    pub(crate) fn write_note(&self, path: &Path, seq: u64) -> io::Result<()> {
        write_note(&*self.files, path, Note { epoch: self.epoch, seq })
    }

    /// The destination `name` has everything up to `through`, as its reader says.
    pub(crate) fn advance(&self, name: &str, owner: u64, through: u64) -> io::Result<()> {
        {
            let table = self.table();
            let Some(cursor) = table.cursors.get(name).filter(|cursor| cursor.owner == owner) else {
                return Err(io::Error::new(io::ErrorKind::NotFound, format!("destination {name} was forgotten")));
            };
            if through > table.durable {
                let what = format!("seq {through} is acknowledged, and {} is the last that there is", table.durable);
                return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
            }
            if through <= cursor.through {
                return Ok(());
            }
        }
        self.write_note(&self.layout.cursor(name), through).inspect_err(|_| add(&self.counters.cursor_failures, 1))?;
        if let Some(cursor) = self.table().cursors.get_mut(name) {
            cursor.through = cursor.through.max(through);
        }
        self.sweep();
        Ok(())
    }

    /// Forgets a destination; says whether it was known.
    pub(crate) fn forget(&self, name: &str) -> io::Result<bool> {
        if !self.table().cursors.contains_key(name) {
            return Ok(false);
        }
        match self.files.remove(&self.layout.cursor(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            // A destination that comes back with a crash is forgotten again by whoever reads the configuration.
            Ok(()) | Err(_) => {
                if let Err(error) = self.files.sync_dir(&self.layout.cursors) {
                    tracing::warn!(%error, name, "that a destination is forgotten cannot be made durable");
                }
            }
        }
        self.table().cursors.remove(name);
        self.sweep();
        Ok(true)
    }

    /// The destinations.
    pub(crate) fn cursors(&self) -> Vec<CursorCounts> {
        let table = self.table();
        table.cursors.iter().map(|(name, cursor)| cursor_counts(&table, name, cursor)).collect()
    }

    /// The ledger as of now.
    pub(crate) fn counts(&self) -> WalCounts {
        let queue = self.queue.totals();
        WalCounts {
            accepted_items: queue.accepted_items,
            accepted_bytes: queue.accepted_bytes,
            waiting_items: queue.items as u64,
            waiting_bytes: queue.bytes as u64,
            disk_bytes: self.used(),
            quarantine_bytes: self.quarantine_bytes,
            foreign_items: self.foreign_items,
            cursors: self.cursors(),
            ..self.counters.snapshot()
        }
    }
}

fn cursor_counts(table: &Table, name: &str, cursor: &Cursor) -> CursorCounts {
    let Cursor { through, owner: _, told: _, evicted, corrupt, unreadable } = *cursor;
    let (backlog_items, backlog_bytes) = table.backlog(through);
    CursorCounts { name: name.to_owned(), through, backlog_items, backlog_bytes, evicted, corrupt, unreadable }
}

/// Ends the name of a note that is being written.
pub(crate) const HALF: &str = ".tmp";

/// See [`Shared::write_note`].
pub(crate) fn write_note(files: &dyn Files, path: &Path, note: Note) -> io::Result<()> {
    let mut half = path.as_os_str().to_owned();
    half.push(HALF);
    let half = Path::new(&half);
    let mut file = match files.create(half) {
        // Left over from an attempt that failed.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            files.remove(half)?;
            files.create(half)?
        }
        created => created?,
    };
    file.append(&note.encode())?;
    file.sync()?;
    drop(file);
    files.rename(half, path)?;
    files.sync_dir(path.parent().unwrap_or(Path::new(".")))
}
