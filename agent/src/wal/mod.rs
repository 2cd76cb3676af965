//! The log of what is on its way: what is durable here is delivered, whatever happens to the agent or the receiver.
//!
//! Owns the files between capture and the destinations: items are offered to a bounded queue, one thread makes them durable in
//! groups, and each destination reads them in order and says how far it is. Every seq of a log is told to every destination, as
//! an item or as a gap with a reason. What items mean, and what is left out of them when the disk fills up, is the business of
//! whoever offers them; how they travel is that of `export`.
//!
//! | file | owns |
//! |---|---|
//! | `format` | the files' format, pure |
//! | `seal` | encryption at rest |
//! | `files` | what is asked of the file system |
//! | `recover` | opening a directory, whatever is in it |
//! | `log`, `writer` | seqs, frames, failures; the thread |
//! | `queue` | what waits to be durable, and its bounds |
//! | `table`, `shared` | which segments are there, who may read them, when they go |
//! | `scan`, `reader` | frames of one segment; runs for one destination |
//! | `level`, `counts` | how full it is; the ledger |
//! | `view` | looking into a log from outside |
//!
//! To add a kind of item: a variant of [`Kind`] and of `ItemKind` in `ship.proto`, with the same number. To change the format:
//! see `format`.

mod counts;
mod files;
pub mod format;
mod level;
mod log;
mod queue;
mod reader;
mod recover;
mod report;
mod scan;
mod seal;
mod settings;
mod shared;
mod table;
pub mod view;
mod writer;

use std::{
    io,
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use ring::rand::{SecureRandom as _, SystemRandom};
use tokio::sync::watch;

pub use self::{
    counts::{CursorCounts, Health, Refused, WalCounts},
    format::{Epoch, Kind},
    level::Level,
    queue::WalHandle,
    reader::{Reader, ReaderError, Run, Start},
    report::{Fault, Finding, OpenReport, WalError},
    scan::Item,
    seal::{KeyError, MasterKey},
    settings::{FullPolicy, WalSettings},
    table::{Gap, GapReason},
};
use self::{
    files::{Files, HostFiles},
    log::Log,
    recover::recover,
    settings::Layout,
    shared::Shared,
};

/// How long a log that is dropped without [`Wal::close`] tries to write what waits.
const LAST_TRY: Duration = Duration::from_secs(1);

/// A log that is open, and the thread that writes it.
#[derive(Debug)]
pub struct Wal {
    shared: Arc<Shared>,
    report: OpenReport,
    thread: Mutex<Option<Thread>>,
}

#[derive(Debug)]
struct Thread {
    handle: JoinHandle<()>,
    /// Hangs up when the thread has ended.
    ended: mpsc::Receiver<()>,
}

impl Wal {
    /// Opens the log in `settings.dir`, or makes it. What is in the directory is never a reason to fail: what cannot be used is
    /// put aside and is in [`Wal::report`].
    pub fn open(settings: WalSettings) -> Result<Self, WalError> {
        Self::open_in(Arc::new(HostFiles), settings)
    }

    fn open_in(files: Arc<dyn Files>, settings: WalSettings) -> Result<Self, WalError> {
        let (log, shared, report) = open_log(files, settings)?;
        let (ending, ended) = mpsc::channel();
        let writing = Arc::clone(&shared);
        let run = move || {
            let _ending: mpsc::Sender<()> = ending;
            writer::run(log, writing);
        };
        let handle = std::thread::Builder::new().name("wal".into()).spawn(run).map_err(WalError::Start)?;
        Ok(Self { shared, report, thread: Mutex::new(Some(Thread { handle, ended })) })
    }

    /// What was found when it was opened.
    pub fn report(&self) -> &OpenReport {
        &self.report
    }

    /// The log's life.
    pub fn epoch(&self) -> Epoch {
        self.shared.epoch
    }

    /// What items are offered to.
    pub fn handle(&self) -> WalHandle {
        WalHandle { shared: Arc::clone(&self.shared) }
    }

    /// A reader for the destination `name`: 1 to 64 of `a-z`, `0-9`, `_` and `-`. It goes on where its cursor is; a destination
    /// that the log does not know begins at `start`.
    pub fn reader(&self, name: &str, start: Start) -> Result<Reader, ReaderError> {
        Reader::new(Arc::clone(&self.shared), name, start)
    }

    /// Forgets a destination, so that it holds no segments any more; says whether it was known. Its reader, if it has one, can
    /// acknowledge nothing any more.
    pub fn forget(&self, name: &str) -> io::Result<bool> {
        self.shared.forget(name)
    }

    /// The destinations that the log knows, configured or not.
    pub fn cursors(&self) -> Vec<CursorCounts> {
        self.shared.cursors()
    }

    /// Everything up to the seq that it holds is on stable storage.
    pub fn durable_through(&self) -> watch::Receiver<u64> {
        self.shared.durable()
    }

    /// How much is to be written at the moment.
    pub fn level(&self) -> Level {
        self.shared.level()
    }

    /// Whether what is accepted becomes durable.
    pub fn health(&self) -> watch::Receiver<Health> {
        self.shared.health().subscribe()
    }

    /// The ledger as of now.
    pub fn counts(&self) -> WalCounts {
        self.shared.counts()
    }

    /// Takes no more items and waits, no longer than `within`, until what waits is durable; says whether all of it is. What is
    /// not is given up and counted. A write that the kernel does not return from is left alone: the lock is then held until it does.
    pub fn close(&self, within: Duration) -> bool {
        let deadline = Instant::now() + within;
        self.shared.queue.close(deadline);
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(Thread { handle, ended }) = thread {
            // It never sends: an end, however it comes, hangs up.
            match ended.recv_timeout(within) {
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    let left = self.shared.queue.abandon();
                    counts::add(&self.shared.counters.abandoned_items, left);
                }
                Ok(()) | Err(mpsc::RecvTimeoutError::Disconnected) => {
                    let _ = handle.join();
                }
            }
        }
        self.shared.counts().abandoned_items == 0
    }
}

impl Drop for Wal {
    fn drop(&mut self) {
        self.close(LAST_TRY);
    }
}

/// A log without its thread.
fn open_log(files: Arc<dyn Files>, settings: WalSettings) -> Result<(Log, Arc<Shared>, OpenReport), WalError> {
    let settings = settings.fitted();
    let key = settings.key_file.as_deref().map(MasterKey::read).transpose()?;
    open_with(files, settings, key)
}

fn open_with(
    files: Arc<dyn Files>,
    settings: WalSettings,
    key: Option<MasterKey>,
) -> Result<(Log, Arc<Shared>, OpenReport), WalError> {
    let layout = Layout::of(&settings.dir);
    let draw = || {
        let mut epoch = Epoch::default();
        let random = SystemRandom::new().fill(&mut epoch);
        random.map_err(|_| WalError::Start(io::Error::other("the system gives no random bytes")))?;
        Ok(epoch)
    };
    let recovered = recover(&*files, &layout, key.as_ref(), draw)?;
    let recover::Recovered { epoch, next_seq, nameless, table, report, quarantine_bytes, foreign_items, lock } =
        recovered;
    for finding in &report.findings {
        tracing::warn!("the log has been opened in spite of this: {finding}");
    }
    let start = shared::Start { files, layout, settings, key, epoch, table, quarantine_bytes, foreign_items };
    let shared = Arc::new(Shared::new(start));
    // Segments that went while the cursors were made durable may have come back with a crash.
    shared.sweep();
    Ok((Log::new(Arc::clone(&shared), next_seq, nameless, lock), shared, report))
}

#[cfg(test)]
mod sim;

#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod damage_tests;
#[cfg(test)]
mod model_tests;

#[cfg(test)]
#[path = "wal_tests.rs"]
mod tests;
