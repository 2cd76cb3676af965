//! Detaching, off the way of everything else: the kernel takes about a tenth of a second for one probe or many of a
//! program, and as long for each probe where it is older than 6.6.

use std::{
    sync::mpsc::{Receiver, Sender, channel},
    thread::JoinHandle,
};

use crate::kernel::Links;

/// The thread that detaches. Dropping it waits until everything that it was given is detached.
pub struct Detacher {
    work: Option<Sender<(u32, Links)>>,
    done: Receiver<u32>,
    thread: Option<JoinHandle<()>>,
}

impl Detacher {
    /// Starts it.
    pub fn start() -> std::io::Result<Self> {
        // Not bounded: what is sent exists already, and there is at most a file's worth for each slot.
        let (work, waiting) = channel::<(u32, Links)>();
        let (finished, done) = channel();
        let thread = std::thread::Builder::new().name("detach".into()).spawn(move || {
            while let Ok((slot, mut links)) = waiting.recv() {
                // Taking off many takes no longer than taking off one.
                let mut slots = vec![slot];
                for (slot, more) in waiting.try_iter() {
                    slots.push(slot);
                    links.append(more);
                }
                drop(links);
                // Nobody asks any more when the program is about to end.
                slots.into_iter().for_each(|slot| _ = finished.send(slot));
            }
        })?;
        Ok(Self { work: Some(work), done, thread: Some(thread) })
    }

    /// Takes probes to detach; their slot comes back through [`Self::finished`].
    pub fn detach(&self, slot: u32, links: Links) {
        if let Some(work) = &self.work {
            // If the thread died, the links are detached here, as they are dropped.
            let _ = work.send((slot, links));
        }
    }

    /// Slots whose probes are gone.
    pub fn finished(&self) -> impl Iterator<Item = u32> {
        self.done.try_iter()
    }
}

impl Drop for Detacher {
    fn drop(&mut self) {
        self.work = None;
        if let Some(thread) = self.thread.take() {
            // It ends by itself; a panic in it has been reported by the panic hook.
            let _ = thread.join();
        }
    }
}
