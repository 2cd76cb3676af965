//! The threads that ask NVML, and the handle on them.
//!
//! Owns starting and ending. `gpu` polls ([`poll`](super::poll)); `gpu-events` blocks in the wait for events
//! ([`events`](super::events)); `gpu-watch` says when `gpu` hangs in a call, which neither of the two can: a driver that
//! hangs may hold both. All of them are threads of the operating system, because a call may take as long as it likes.
//!
//! Whoever uses the handle never waits for the driver, but for [`GpuSampler::start`], which waits one second at most.

use std::{
    io,
    sync::{
        Arc,
        atomic::AtomicU32,
        mpsc::{Receiver, RecvTimeoutError, SendError, SyncSender, sync_channel},
    },
    thread,
    time::Duration,
};

use super::{
    GpuError, GpuRecord, NvmlCost, Settings, Which,
    controls::Controls,
    meter::Meter,
    outlet::{Outlet, STALL},
    poll,
};
use crate::{kernel::clock, time::Mono};

/// How long the end waits for a thread that may be in the driver.
const END: Duration = Duration::from_millis(200);

/// Time between two looks of the watchdog: a driver that hangs is noticed within [`STALL`] and this.
const WATCH: Duration = Duration::from_millis(500);

/// What the threads share.
pub(super) struct Shared {
    pub(super) settings: Settings,
    pub(super) outlet: Arc<Outlet>,
    pub(super) controls: Controls,
    pub(super) meter: Meter,
    /// Counts how often the devices were looked for, so that events are registered anew.
    pub(super) generation: AtomicU32,
}

impl Shared {
    /// A thread of the sampler.
    pub(super) fn spawn(self: &Arc<Self>, name: &str, run: impl FnOnce(&Arc<Self>) + Send + 'static) -> io::Result<()> {
        let shared = Arc::clone(self);
        // Its end is told by what it drops; a thread in a hanging driver is never waited for.
        thread::Builder::new().name(name.to_owned()).spawn(move || run(&shared)).map(drop)
    }
}

/// Reads the GPUs until it is dropped.
pub struct GpuSampler {
    shared: Arc<Shared>,
    /// Nothing is sent: its other end is dropped with the polling thread.
    ended: Receiver<()>,
}

impl GpuSampler {
    /// Starts reading. Records come from threads of the sampler, in the order of their happening, and `sink` must neither
    /// block nor use the handle. Their time is when the query returned.
    ///
    /// An error says why there is nothing to be read; the caller goes on without. A driver that does not answer within a
    /// second is no error: it is said by a [`GpuRecord::Lost`], and what it has is told when it answers.
    pub fn start(
        settings: &Settings,
        sink: impl Fn(Mono, GpuRecord) + Send + Sync + 'static,
    ) -> Result<Self, GpuError> {
        let outlet = Arc::new(Outlet::new(Box::new(sink)));
        let meter = Meter::new(clock::now, Arc::clone(&outlet) as _);
        let settings = settings.clone();
        let shared =
            Arc::new(Shared { settings, outlet, controls: Controls::default(), meter, generation: AtomicU32::new(0) });
        let (alive, ended) = sync_channel::<()>(0);
        // Without room: an answer that nobody waits for any more is given back.
        let (started, starts) = sync_channel(0);
        // From here on its drop ends what has begun.
        let sampler = Self { shared, ended };
        sampler.shared.spawn("gpu", move |shared| poll_until_end(shared, &started, alive)).map_err(GpuError::Thread)?;
        sampler.shared.spawn("gpu-watch", watch).map_err(GpuError::Thread)?;
        match starts.recv_timeout(STALL) {
            Ok(result) => result?,
            // It is in the driver. The watch will say so.
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                return Err(GpuError::Thread(io::Error::other("the thread ended as it began")));
            }
        }
        Ok(sampler)
    }

    /// Asks for lists of processes: one began, ended or made its first call.
    pub fn poke(&self) {
        self.shared.controls.poke();
    }

    /// Says on which devices calls are active. All of them are not, at first.
    pub fn set_active(&self, which: Which<'_>, active: bool) {
        self.shared.controls.set_active(which, active);
    }

    /// What the calls have cost so far.
    pub fn cost(&self) -> NvmlCost {
        self.shared.meter.cost()
    }
}

impl Drop for GpuSampler {
    /// Ends the threads. One that is in the driver, or waits for events there, ends by itself when it comes back; no record
    /// follows in any case.
    fn drop(&mut self) {
        let Self { shared, ended } = self;
        shared.outlet.close();
        shared.controls.end();
        let _ = ended.recv_timeout(END);
    }
}

fn poll_until_end(shared: &Arc<Shared>, started: &SyncSender<Result<(), GpuError>>, alive: SyncSender<()>) {
    // Moved in, so that it is dropped when this ends, by a panic too.
    let _alive = alive;
    if let Err(error) = poll::run(shared, started)
        && let Err(SendError(Err(error))) = started.send(Err(error))
    {
        shared.outlet.say(clock::now(), GpuRecord::Lost { device: None, reason: error.to_string() });
    }
}

fn watch(shared: &Arc<Shared>) {
    while !shared.controls.wait_for_end(WATCH) {
        shared.outlet.check(clock::now());
    }
}
