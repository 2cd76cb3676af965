//! Which files to probe: every file that a process maps executable and that has the functions of a TLS library, or of CUDA's
//! runtime where the step clock is asked for.
//!
//! Owns the thread that watches executable mappings, scans `/proc` once, attaches, and detaches what nobody uses any
//! more. A file is judged by what is in it, never by its name, and opened through the process that maps it, so that
//! containers, deleted and upgraded libraries work. A probe belongs to the inode: later processes are covered without
//! any work. Knows nothing of what the probes deliver, but for whether it looks like what it should be.
//!
//! To add a TLS library: see [`finders`].

mod aws_lc;
mod boringssl;
mod cache;
mod canary;
mod chase;
mod chosen;
mod counts;
mod cudart;
mod detach;
mod finders;
#[cfg(test)]
mod fixture;
mod gnutls;
mod go;
#[cfg(test)]
mod hostile_tests;
mod hunt;
mod image;
mod inspect;
mod library;
mod mapped;
mod openssl;
mod openssl_static;
mod registry;
mod report;
mod searcher;
mod site;
mod unsupported;
mod xref;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Sender, channel},
    },
    thread::JoinHandle,
    time::Duration,
};

use self::searcher::{RESCAN, Searcher};
pub use self::{
    counts::Counts,
    library::{Evidence, Functions},
    report::{FileReport, ProcessReport, Report},
    unsupported::UnsupportedFile,
};
use crate::kernel::{Accounts, LoadError, MappingEvents, Prober, Settings, Waker};

/// How long an answer may take: attaching to a large file comes first.
const ANSWER: Duration = Duration::from_secs(10);

/// The discovery thread. Dropping it stops the thread and, with the thread's [`Prober`], detaches every probe.
pub struct Discovery {
    stop: Arc<AtomicBool>,
    waker: Waker,
    thread: Option<JoinHandle<()>>,
    asker: Asker,
    counts: Arc<Counts>,
}

/// Asks the discovery thread what it knows. May be used from any thread.
#[derive(Clone)]
pub struct Asker {
    questions: Sender<Sender<Report>>,
    waker: Waker,
}

impl Asker {
    /// What is known now; nothing if the thread has ended. Waits until it gets round to answering.
    pub fn report(&self) -> Option<Report> {
        let (answer, answered) = channel();
        self.questions.send(answer).ok()?;
        self.waker.wake();
        answered.recv_timeout(ANSWER).ok()
    }
}

impl Discovery {
    /// Looks at what runs now, attaches, and goes on in a thread. When it returns, everything that was running is
    /// covered.
    pub fn start(
        prober: Prober,
        accounts: Arc<Accounts>,
        settings: &Settings,
        stop: Arc<AtomicBool>,
    ) -> Result<Self, LoadError> {
        let waker = Waker::new()?;
        // Before the scan: what maps a file in between shows up in the stream.
        let mappings = match MappingEvents::open() {
            Ok(mappings) => Some(mappings),
            Err(error) => {
                tracing::warn!(%error, "new mappings cannot be watched; scanning /proc every {RESCAN:?} instead");
                None
            }
        };
        let mut searcher = Searcher::new(prober, accounts, settings, &waker)?;
        let (questions, asked) = channel();
        let counts = searcher.counts();
        searcher.cover(&stop)?;
        let thread = std::thread::Builder::new().name("discover".into()).spawn({
            let (stop, waker) = (Arc::clone(&stop), waker.clone());
            move || searcher.watch(mappings, &asked, &stop, &waker)
        })?;
        let asker = Asker { questions, waker: waker.clone() };
        Ok(Self { stop, waker, thread: Some(thread), asker, counts })
    }

    /// A way to ask what is known.
    pub fn asker(&self) -> Asker {
        self.asker.clone()
    }

    /// Its counters.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }
}

impl Drop for Discovery {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.waker.wake();
        if let Some(thread) = self.thread.take() {
            // It ends by itself; a panic in it has been reported by the panic hook.
            let _ = thread.join();
        }
    }
}
