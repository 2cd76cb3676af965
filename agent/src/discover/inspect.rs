//! Looking into files, on a thread of its own.
//!
//! Opening a file and reading it take as long as its file system likes: a server that does not answer, or a user's own file
//! system that never means to, must not hold up the discovery of all others. So there is a deadline, after which a file is
//! left to the thread that waits for it, and its answer is taken whenever it comes.

use std::{
    fs::File,
    io,
    path::PathBuf,
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel},
    time::Duration,
};

use thiserror::Error;

use super::{finders, library::Library, mapped};
use crate::kernel::{FileId, Mapping};

/// How long a file is waited for. The largest program that was seen takes a tenth of it from a cold disk.
const PATIENCE: Duration = Duration::from_secs(2);

/// Threads that may wait for files at once. While all do, no other file is looked into.
const MAX_SLOW: usize = 4;

/// What to look into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A file that a process maps.
    Mapped(Mapping),
    /// A file by its path in this mount namespace.
    Path(PathBuf),
}

impl Place {
    /// For messages.
    pub fn name(&self) -> String {
        match self {
            Self::Mapped(mapping) => mapping.path.clone(),
            Self::Path(path) => path.display().to_string(),
        }
    }

    fn open(&self) -> io::Result<File> {
        match self {
            Self::Mapped(mapping) => mapped::open(mapping),
            Self::Path(path) => mapped::open_path(path),
        }
    }
}

/// A file that could be looked into.
#[derive(Debug)]
pub struct Inspected {
    /// The file.
    pub file: File,
    /// Which it is.
    pub id: FileId,
    /// The libraries that it has symbols of.
    pub libraries: Vec<Library>,
    /// It has none of TLS, and so much code that one may be in it.
    pub searchable: bool,
}

/// Why a file could not be looked into.
#[derive(Debug, Error)]
pub enum InspectError {
    /// It is gone, or may not be read.
    #[error("not readable")]
    Unreadable(#[source] io::Error),
    /// It is no program.
    #[error("not an ELF file that can be read")]
    Malformed(#[source] object::Error),
    /// Its file system is a user's own program.
    #[error("its file system is a user's own, which need never answer")]
    Untrusted,
    /// Its file system has not answered yet.
    #[error("its file system does not answer")]
    Slow,
    /// Too many others have not been answered yet.
    #[error("too many files wait for their file systems")]
    Busy,
    /// The thread died over it, or there can be none.
    #[error("it cannot be looked into; this is a bug unless the system is out of threads")]
    Died,
}

type Answer = Result<Inspected, InspectError>;
type Inspect = fn(&Place) -> Answer;

/// Looks into files, one at a time.
pub struct Inspector {
    inspect: Inspect,
    patience: Duration,
    worker: Option<Worker>,
    slow: Vec<(Place, Worker)>,
}

impl Inspector {
    /// One that reads files.
    pub fn new() -> Self {
        Self::with(inspect, PATIENCE)
    }

    fn with(inspect: Inspect, patience: Duration) -> Self {
        Self { inspect, patience, worker: None, slow: Vec::new() }
    }

    /// Looks into a file. What is [`InspectError::Slow`] comes out of [`Self::late`] later.
    pub fn look(&mut self, place: Place) -> Answer {
        if self.slow.len() >= MAX_SLOW {
            return Err(InspectError::Busy);
        }
        let worker = match self.worker.take() {
            Some(worker) => worker,
            None => Worker::start(self.inspect).map_err(|_| InspectError::Died)?,
        };
        // If the thread has died, so has its answer.
        let _ = worker.work.send(place.clone());
        match worker.answers.recv_timeout(self.patience) {
            Ok(answer) => {
                self.worker = Some(worker);
                answer
            }
            Err(RecvTimeoutError::Timeout) => {
                self.slow.push((place, worker));
                Err(InspectError::Slow)
            }
            Err(RecvTimeoutError::Disconnected) => Err(InspectError::Died),
        }
    }

    /// Answers about files that were slow.
    pub fn late(&mut self) -> Vec<(Place, Answer)> {
        let mut answers = Vec::new();
        let slow = std::mem::take(&mut self.slow);
        for (place, worker) in slow {
            match worker.answers.try_recv() {
                Ok(answer) => answers.push((place, answer)),
                Err(TryRecvError::Empty) => self.slow.push((place, worker)),
                Err(TryRecvError::Disconnected) => answers.push((place, Err(InspectError::Died))),
            }
        }
        answers
    }
}

/// A thread that looks. It ends when it has nothing to do and its owner is gone; while it waits for a file, the end of the
/// process takes it along.
struct Worker {
    work: Sender<Place>,
    answers: Receiver<Answer>,
}

impl Worker {
    fn start(inspect: Inspect) -> io::Result<Self> {
        // Not bounded: there is never more than one on its way.
        let (work, places) = channel::<Place>();
        let (done, answers) = channel();
        std::thread::Builder::new().name("inspect".into()).spawn(move || {
            for place in places {
                if done.send(inspect(&place)).is_err() {
                    break;
                }
            }
        })?;
        Ok(Self { work, answers })
    }
}

fn inspect(place: &Place) -> Answer {
    // Not even this thread may wait for one: the agent could not end before it answers.
    if let Place::Mapped(mapping) = place
        && mapped::is_on_users_file_system(mapping)
    {
        return Err(InspectError::Untrusted);
    }
    let file = place.open().map_err(InspectError::Unreadable)?;
    let id = FileId::of(&file).map_err(InspectError::Unreadable)?;
    let libraries = finders::libraries(&file).map_err(InspectError::Malformed)?;
    let searchable = !libraries.iter().any(|library| library.functions.is_tls()) && finders::is_worth_searching(&file);
    Ok(Inspected { file, id, libraries, searchable })
}

#[cfg(test)]
mod tests {
    use std::{os::unix::ffi::OsStrExt as _, path::Path, process::Command};

    use super::*;

    const QUICK: Duration = Duration::from_millis(500);

    /// Waits for a line in the pipe that the path names, as for a file system that may answer some day.
    fn wait_for_pipe(place: &Place) -> Answer {
        let Place::Path(path) = place else { return Err(InspectError::Died) };
        if path.as_os_str().as_bytes().ends_with(b"quick") {
            return Err(InspectError::Unreadable(io::ErrorKind::NotFound.into()));
        }
        let _ = std::fs::read(path);
        Err(InspectError::Unreadable(io::ErrorKind::UnexpectedEof.into()))
    }

    fn pipe(folder: &Path, name: &str) -> Place {
        let path = folder.join(name);
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        Place::Path(path)
    }

    #[test]
    fn slow_files_hold_nobody_up_and_are_answered_in_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let mut inspector = Inspector::with(wait_for_pipe, QUICK);
        let quick = || Place::Path(PathBuf::from("quick"));
        let pipes: Vec<Place> = (0..MAX_SLOW).map(|n| pipe(folder.path(), &format!("pipe-{n}"))).collect();
        for place in &pipes {
            assert!(matches!(inspector.look(quick()), Err(InspectError::Unreadable(_))));
            assert!(matches!(inspector.look(place.clone()), Err(InspectError::Slow)));
        }
        assert!(matches!(inspector.look(quick()), Err(InspectError::Busy)));
        assert!(inspector.late().is_empty());
        for place in &pipes {
            let Place::Path(path) = place else { unreachable!() };
            std::fs::write(path, "at last").unwrap();
        }
        let mut late = Vec::new();
        while late.len() < pipes.len() {
            late.extend(inspector.late().into_iter().map(|(place, _)| place));
            std::thread::yield_now();
        }
        assert!(pipes.iter().all(|place| late.contains(place)));
        assert!(matches!(inspector.look(quick()), Err(InspectError::Unreadable(_))));
    }

    #[test]
    fn a_thread_that_dies_over_a_file_is_replaced() {
        fn die(place: &Place) -> Answer {
            match place {
                Place::Path(path) if path.as_os_str() == "bad" => std::panic::resume_unwind(Box::new(())),
                _ => Err(InspectError::Slow),
            }
        }
        let mut inspector = Inspector::with(die, Duration::from_secs(10));
        assert!(matches!(inspector.look(Place::Path("bad".into())), Err(InspectError::Died)));
        assert!(matches!(inspector.look(Place::Path("good".into())), Err(InspectError::Slow)));
    }

    #[test]
    fn a_pipe_in_a_library_folder_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let place = pipe(folder.path(), "libssl.so.3");
        assert!(matches!(inspect(&place), Err(InspectError::Unreadable(_))));
    }
}
