//! The edge that watches what is beside the calls: processes, control groups, GPUs.
//!
//! Owns the thread that reads `/proc` and control groups, the hold on the GPU sampler, and how often either is done: what is
//! wished ([`Wish`]) comes from the pipeline, which has the calls. What is read goes to the capture thread as records, so
//! that a recording has it, through a bounded queue that drops and counts. What it means is `serving`'s.
//!
//! While no process serves calls nothing is read and NVML is not loaded, but for the counters of processes that load a model.
//! Five times a second while calls are under way or a model is loaded, once a second while not; who belongs to whom is looked
//! for when it may have changed, and twice a minute.

use std::{
    collections::BTreeSet,
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use crate::{
    gpu::{self, CallCost, GpuRecord, GpuSampler, NvmlCost, Which},
    host::{HostRecord, Mounts, Snapshot},
    kernel::{Waker, Watcher, clock},
    metrics::machines::NvmlCall,
    record,
    serving::Wish,
};

/// Records that may wait for the capture thread: some seconds of them.
const MAX_WAITING: usize = 256;

/// How often counters are read while calls are under way, and while a server has none.
const ACTIVE: Duration = Duration::from_millis(200);
const QUIET: Duration = Duration::from_secs(1);

/// How long it may take at most until a process that nothing told of is found.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// The least time between two looks at who is there: an engine that starts makes hundreds of processes.
const LOOK_AT_MOST: Duration = Duration::from_millis(200);

/// What is to be observed.
#[derive(Clone, Debug)]
pub struct Settings {
    /// GPUs too, and how; without it none.
    pub gpu: Option<gpu::Settings>,
}

/// Watches until it is dropped.
pub struct Observer {
    wishes: Sender<Wish>,
    records: Receiver<Vec<u8>>,
    lost: Arc<AtomicU64>,
    cost: Arc<Mutex<NvmlCost>>,
}

/// Where records go.
#[derive(Clone)]
struct Outlet {
    records: SyncSender<Vec<u8>>,
    lost: Arc<AtomicU64>,
    waker: Waker,
}

impl Outlet {
    fn send(&self, record: Vec<u8>) {
        match self.records.try_send(record) {
            Ok(()) => self.waker.wake(),
            Err(_) => {
                self.lost.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

impl Observer {
    /// Starts the thread. `waker` makes the capture thread look for records.
    pub fn start(settings: Settings, watcher: Watcher, waker: Waker) -> io::Result<Self> {
        let (wishes, wished) = channel();
        let (sender, records) = sync_channel(MAX_WAITING);
        let lost = Arc::new(AtomicU64::new(0));
        let outlet = Outlet { records: sender, lost: Arc::clone(&lost), waker };
        let host = Host::new(settings, watcher, outlet);
        let cost = Arc::clone(&host.gpus.cost);
        thread::Builder::new().name("host".into()).spawn(move || host.run(&wished))?;
        Ok(Self { wishes, records, lost, cost })
    }

    /// What is to be observed from now on.
    pub fn wish(&self, wish: Wish) {
        // The thread lives as long as this; one that died has said so.
        let _ = self.wishes.send(wish);
    }

    /// The next record, if one is there.
    pub fn record(&self) -> Option<Vec<u8>> {
        self.records.try_recv().ok()
    }

    /// What asking NVML has cost so far.
    pub fn nvml(&self) -> Vec<NvmlCall> {
        let cost = self.cost.lock().unwrap_or_else(PoisonError::into_inner);
        let call = |call: &CallCost| NvmlCall {
            name: call.name.to_string(),
            count: call.count,
            seconds: call.total.as_secs_f64(),
            longest: call.max.as_secs_f64(),
        };
        cost.calls.iter().map(call).collect()
    }

    /// Records that found no room.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

/// The thread's state.
struct Host {
    settings: Settings,
    watcher: Watcher,
    outlet: Outlet,
    wish: Wish,
    gpus: Gpus,
    mounts: Mounts,
    looked: Option<Instant>,
    look_wanted: bool,
    gpu_pids: BTreeSet<u32>,
}

impl Host {
    fn new(settings: Settings, watcher: Watcher, outlet: Outlet) -> Self {
        Self {
            settings,
            watcher,
            outlet,
            wish: Wish::default(),
            gpus: Gpus::default(),
            mounts: Mounts::own(),
            looked: None,
            look_wanted: false,
            gpu_pids: BTreeSet::new(),
        }
    }

    fn run(mut self, wishes: &Receiver<Wish>) {
        let mut next = Instant::now();
        loop {
            let wait = if self.wish.servers.is_empty() && self.wish.processes.is_empty() {
                // Nobody serves, nor is about to: nothing to do until somebody does.
                wishes.recv().map_err(|_| RecvTimeoutError::Disconnected)
            } else {
                wishes.recv_timeout(next.saturating_duration_since(Instant::now()))
            };
            match wait {
                Ok(wish) => {
                    self.take(wish);
                    // A call that has just begun is not to wait a second for the first look beside it.
                    next = next.min(Instant::now() + self.period());
                }
                Err(RecvTimeoutError::Timeout) => {
                    self.read();
                    // No catching up on what was missed: a busy machine is not to be made busier.
                    next = Instant::now() + self.period();
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.look();
        }
    }

    fn period(&self) -> Duration {
        if self.wish.active || self.wish.loading { ACTIVE } else { QUIET }
    }

    fn take(&mut self, wish: Wish) {
        let before = std::mem::replace(&mut self.wish, wish);
        if before.servers.is_empty() && !self.wish.servers.is_empty() {
            self.start_gpus();
        }
        if self.wish.servers.is_empty() && !before.servers.is_empty() {
            self.gpus.stop();
        }
        if before.active != self.wish.active {
            self.gpus.set_active(self.wish.active);
        }
        if before.processes != self.wish.processes {
            let missed = self.watcher.watch(&self.wish.processes);
            if missed > 0 {
                tracing::warn!(missed, "processes of engines are not watched: there are too many");
            }
        }
        if before.servers != self.wish.servers || before.changes != self.wish.changes {
            self.look_wanted = true;
            self.gpus.poke();
        }
        let loads_more = self.wish.loading && before.processes != self.wish.processes;
        if (!before.active && self.wish.active) || loads_more {
            self.read();
        }
    }

    /// Reads counters.
    fn read(&mut self) {
        if self.wish.processes.is_empty() {
            return;
        }
        let processes = self.watcher.read();
        let cgroups = self.wish.cgroups.iter().map(|path| self.mounts.read(path)).collect();
        self.outlet.send(record::encode_host(clock::now(), &HostRecord::Usage { processes, cgroups }));
        self.gpus.account();
    }

    /// Looks for who is around the servers and on the GPUs, if that is due.
    fn look(&mut self) {
        if self.wish.servers.is_empty() {
            return;
        }
        let on_gpus = self.gpus.pids();
        self.look_wanted |= on_gpus != self.gpu_pids;
        let age = self.looked.map(|looked| looked.elapsed());
        let is_due = age.is_none_or(|age| (self.look_wanted && age >= LOOK_AT_MOST) || age >= LOOK_AGAIN);
        if !is_due {
            return;
        }
        (self.looked, self.look_wanted, self.gpu_pids) = (Some(Instant::now()), false, on_gpus);
        let mut seeds: Vec<u32> = self.wish.servers.clone();
        seeds.extend(&self.gpu_pids);
        let (processes, links) = Snapshot::take(&seeds);
        self.outlet.send(record::encode_host(clock::now(), &HostRecord::Processes { processes, links }));
    }

    fn start_gpus(&mut self) {
        let Some(settings) = self.settings.gpu.clone().filter(|_| !self.gpus.is_started()) else { return };
        let (outlet, pids) = (self.outlet.clone(), Arc::clone(&self.gpus.pids));
        let started = GpuSampler::start(&settings, move |at, record| {
            if let GpuRecord::Processes { device, processes } = &record {
                let mut known = pids.lock().unwrap_or_else(PoisonError::into_inner);
                known.retain(|(on, _)| on != device);
                known.extend(processes.iter().map(|process| (*device, process.pid)));
            }
            outlet.send(record::encode_gpu(at, &record));
        });
        match started {
            Ok(sampler) => self.gpus.sampler = Some(sampler),
            // Not the same as an idle GPU, and said as what it is.
            Err(error) => tracing::info!(%error, "GPUs are not observed"),
        }
        self.gpus.tried = true;
    }
}

/// The sampler, while there is a server, and who it found on the devices.
#[derive(Default)]
struct Gpus {
    sampler: Option<GpuSampler>,
    tried: bool,
    cost: Arc<Mutex<NvmlCost>>,
    /// Of samplers that have ended.
    spent: NvmlCost,
    pids: Arc<Mutex<BTreeSet<(u32, u32)>>>,
}

impl Gpus {
    fn is_started(&self) -> bool {
        self.tried
    }

    /// The last server has ended: nobody's GPU is of interest.
    fn stop(&mut self) {
        if let Some(sampler) = self.sampler.take() {
            self.spent.add(&sampler.cost());
        }
        self.tried = false;
        self.pids.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn pids(&self) -> BTreeSet<u32> {
        self.pids.lock().unwrap_or_else(PoisonError::into_inner).iter().map(|(_, pid)| *pid).collect()
    }

    fn set_active(&self, active: bool) {
        if let Some(sampler) = &self.sampler {
            sampler.set_active(Which::All, active);
        }
    }

    /// Notes what NVML has cost by now.
    fn account(&self) {
        if let Some(sampler) = &self.sampler {
            let mut cost = self.spent.clone();
            cost.add(&sampler.cost());
            *self.cost.lock().unwrap_or_else(PoisonError::into_inner) = cost;
        }
    }

    fn poke(&self) {
        if let Some(sampler) = &self.sampler {
            sampler.poke();
        }
    }
}
