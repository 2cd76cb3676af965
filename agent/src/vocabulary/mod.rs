//! The vocabularies of the models that run on this host, for who counts tokens.
//!
//! Owns which processes were looked at and the vocabularies that were read, on a thread of its own: nobody who asks waits.
//! Where a process's model lies is [`place`]'s, reading it [`load`]'s. What is counted with them is
//! [`llm`](crate::llm)'s. At most [`MAX_LOADED`] are read, and kept until the agent ends.
//!
//! To find the model of one more engine: the option that names it, to `place::OPTIONS`.

mod load;
mod place;

use std::{
    collections::HashMap,
    io,
    sync::{
        Mutex, MutexGuard, PoisonError,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
};

use self::{load::Loaded, place::FileKey};
use crate::llm::{Vocabularies, Vocabulary};

/// Most vocabularies that are read. One takes some tens of megabytes.
const MAX_LOADED: usize = 4;

/// Processes that are remembered; beyond it the memory starts over.
const MAX_PROCESSES: usize = 4096;

/// Processes that wait to be looked at. Others are asked for again by their next call.
const MAX_WAITING: usize = 64;

/// A process: its thread group and start.
type Process = (u32, u64);

/// Finds and reads vocabularies.
pub struct Served {
    known: Mutex<Known>,
    wanted: SyncSender<Process>,
}

#[derive(Default)]
struct Known {
    /// With nothing for those whose vocabulary is not known, or not yet.
    processes: HashMap<Process, Option<&'static Loaded>>,
    /// With nothing for those that could not be read.
    files: Vec<(FileKey, Option<&'static Loaded>)>,
}

impl Served {
    /// Starts to look whenever it is asked.
    pub fn start() -> io::Result<&'static Self> {
        let (wanted, asked) = sync_channel(MAX_WAITING);
        // Calls hold on to vocabularies for as long as they last, so none is ever given back.
        let served: &'static Self = Box::leak(Box::new(Self { known: Mutex::default(), wanted }));
        std::thread::Builder::new().name("vocabulary".into()).spawn(move || served.look(&asked))?;
        Ok(served)
    }

    fn look(&self, asked: &Receiver<Process>) {
        for process in asked {
            let found = place::tokenizer(process.0).and_then(|(key, file)| {
                let read = self.known().files.iter().find(|(known, _)| *known == key).map(|(_, loaded)| *loaded);
                read.unwrap_or_else(|| self.read(key, &file))
            });
            if let Some(known) = self.known().processes.get_mut(&process) {
                *known = found;
            }
        }
    }

    fn read(&self, key: FileKey, file: &std::fs::File) -> Option<&'static Loaded> {
        if self.known().files.len() >= MAX_LOADED {
            return None;
        }
        let loaded = match Loaded::read(file) {
            Ok(loaded) => {
                tracing::info!(inode = key.inode, "a served model's tokenizer counts its tokens");
                Some(&*Box::leak(Box::new(loaded)))
            }
            Err(error) => {
                tracing::warn!(inode = key.inode, %error, "a served model's tokenizer cannot be read; its tokens are estimated");
                None
            }
        };
        self.known().files.push((key, loaded));
        loaded
    }

    /// What is kept holds no invariant that a panic could break.
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Vocabularies for Served {
    fn of(&self, tgid: u32, start_ns: u64) -> Option<&'static dyn Vocabulary> {
        let process = (tgid, start_ns);
        let mut known = self.known();
        if let Some(found) = known.processes.get(&process) {
            return found.filter(|loaded| loaded.is_in_use()).map(|loaded| loaded as &dyn Vocabulary);
        }
        if self.wanted.try_send(process).is_ok() {
            if known.processes.len() >= MAX_PROCESSES {
                known.processes.clear();
            }
            known.processes.insert(process, None);
        }
        None
    }
}
