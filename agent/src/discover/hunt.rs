//! Searching files without symbols, off the way of everything else: a large program takes a second, and a library with
//! symbols that is mapped meanwhile must not wait for it.

use std::{
    fs::File,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, channel, sync_channel},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use super::{
    cache::Cache as Known,
    finders::{self, Findings, NotSearched},
    image::{Cache, Image},
};
use crate::kernel::Waker;

/// Files that wait to be searched. Each is open; what does not fit is met again by the next scan.
const MAX_WAITING: usize = 128;

/// A search that takes longer is worth remembering even if it finds nothing. Most files take a few milliseconds.
const LONG: Duration = Duration::from_millis(50);

/// A file to search, and what its finder wants to know of it afterwards.
pub struct Wanted<K> {
    /// The file.
    pub file: File,
    /// Its name, for messages.
    pub name: String,
    /// The finder's own.
    pub key: K,
}

/// A file that was searched.
pub struct Searched<K> {
    /// The file, as it was given.
    pub wanted: Wanted<K>,
    /// What is in it.
    pub findings: Result<Findings, NotSearched>,
}

/// The thread that searches. Dropping it ends a search that is under way.
pub struct Hunter<K> {
    work: Option<SyncSender<Wanted<K>>>,
    done: Receiver<Searched<K>>,
    pending: usize,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl<K: Send + 'static> Hunter<K> {
    /// Starts it. It wakes `waker` whenever a search is over.
    pub fn start(mut known: Known, waker: Waker) -> std::io::Result<Self> {
        let (work, waiting) = sync_channel::<Wanted<K>>(MAX_WAITING);
        // Not bounded: there is at most one for each that was taken in.
        let (finished, done) = channel();
        let stop = Arc::new(AtomicBool::new(false));
        let thread = std::thread::Builder::new().name("search".into()).spawn({
            let stop = Arc::clone(&stop);
            move || {
                for wanted in waiting {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let began = Instant::now();
                    let findings = search(&wanted.file, &mut known, &stop);
                    tracing::debug!(path = wanted.name, took = ?began.elapsed(), "searched for TLS functions");
                    // Nobody asks any more when the program is about to end.
                    let _ = finished.send(Searched { wanted, findings });
                    waker.wake();
                }
            }
        })?;
        Ok(Self { work: Some(work), done, pending: 0, stop, thread: Some(thread) })
    }

    /// Takes a file in; false if too many wait.
    pub fn search(&mut self, wanted: Wanted<K>) -> bool {
        let taken = match self.work.as_ref().map(|work| work.try_send(wanted)) {
            Some(Ok(())) => true,
            Some(Err(TrySendError::Full(_) | TrySendError::Disconnected(_))) | None => false,
        };
        self.pending += usize::from(taken);
        taken
    }

    /// One that was searched, if there is one within some time. Does not wait for what nobody searches.
    pub fn next(&mut self, within: Duration) -> Option<Searched<K>> {
        if self.pending == 0 {
            return None;
        }
        match self.done.recv_timeout(within) {
            Ok(searched) => {
                self.pending -= 1;
                Some(searched)
            }
            Err(RecvTimeoutError::Timeout) => None,
            // It died; the panic hook has said so.
            Err(RecvTimeoutError::Disconnected) => {
                self.pending = 0;
                None
            }
        }
    }

    /// Whether any file waits or is being searched.
    pub fn is_busy(&self) -> bool {
        self.pending > 0
    }
}

impl<K> Drop for Hunter<K> {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.work = None;
        if let Some(thread) = self.thread.take() {
            // It ends by itself; a panic in it has been reported by the panic hook.
            let _ = thread.join();
        }
    }
}

/// What is known of a file from an earlier search, or what a search finds.
fn search(file: &File, known: &mut Known, stop: &AtomicBool) -> Result<Findings, NotSearched> {
    let cache = Cache::new(file);
    let Some(image) = Image::parse(&cache)? else { return Ok(Findings::default()) };
    if let Some(findings) = known.get(file, &image) {
        return Ok(findings);
    }
    let began = Instant::now();
    let findings = finders::search(file, &image, stop)?;
    if findings != Findings::default() || began.elapsed() >= LONG {
        known.put(file, &image, &findings);
    }
    Ok(findings)
}
