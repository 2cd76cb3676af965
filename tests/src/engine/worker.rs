//! A worker: has the memory of one device, and really waits as long as each step takes.
//!
//! Owns the device's power. Each change of it goes to the time line and to a meter at the same instant, so that the
//! energy of steps and of idle time add up to the integral that the fake NVML computes. Faults are carried out between
//! two steps, in order with them, and the device is idle meanwhile.

use std::{
    fs::{File, OpenOptions},
    io::{BufReader, Read as _, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use rustix::fs::{Advice, fadvise};

use super::{
    child,
    cost::{Cost, IDLE_MW, Meter},
    cudart::Cudart,
    message::{FromWorker, ToWorker, WorkerFault, WorkerSetup, receive, send},
    timeline::{Part, Timeline, now_ns},
    truth::{DEVICES, DeviceTruth, line_of},
};

/// What weights and keys and values take of a device, MiB: the weights of 8 billion parameters of two bytes, and with
/// the pool nine tenths of the device.
const WEIGHTS_MIB: u64 = 15_317;
const WEIGHTS_AND_POOL_MIB: u64 = 73_403;

/// Bytes that are read at once.
const READ: usize = 1 << 20;
/// Bytes that are allocated at once.
const ALLOCATION: usize = 8 << 20;
/// Memory is written to at this distance: each page becomes real.
const PAGE: usize = 4096;

/// The device as this worker sees it.
struct Device {
    timeline: Timeline,
    part: Part,
    leads: bool,
    meter: Meter,
    since_ns: u64,
    /// Whether a step's power is on.
    busy: bool,
    /// Energy of the step whose power is off again, not told yet.
    owed_uj: u64,
    steps_uj: u64,
    n_steps: u64,
}

impl Device {
    fn new(setup: &WorkerSetup) -> Result<Self> {
        let mut timeline = Timeline::from_env(setup.device)?;
        let part = Part { pid: std::process::id(), memory_mib: WEIGHTS_MIB };
        let now = now_ns();
        if setup.leads {
            timeline.state(now, None, part)?;
            timeline.throttle(now, false)?;
        } else {
            timeline.process(now, None, part)?;
        }
        let meter = Meter::new(now, IDLE_MW);
        let (leads, since_ns) = (setup.leads, now);
        Ok(Self { timeline, part, leads, meter, since_ns, busy: false, owed_uj: 0, steps_uj: 0, n_steps: 0 })
    }

    /// From now on the device computes this, or nothing. Returns when that was.
    fn change(&mut self, cost: Option<&Cost>) -> Result<u64> {
        let now = now_ns();
        if self.leads {
            let before = self.meter.change(now, cost.map_or(IDLE_MW, |cost| cost.power_mw));
            if self.busy {
                self.owed_uj += before;
                self.steps_uj += before;
            }
            self.timeline.state(now, cost, self.part)?;
        } else {
            self.timeline.process(now, cost, self.part)?;
        }
        self.busy = cost.is_some();
        Ok(now)
    }

    fn idle(&mut self) -> Result<u64> {
        if self.busy { self.change(None) } else { Ok(now_ns()) }
    }

    fn began(&mut self, at_ns: u64) -> FromWorker {
        FromWorker::Began { at_ns, before_uj: std::mem::take(&mut self.owed_uj) }
    }

    /// The process leaves the device. Returns the device's account, if it is this worker's.
    fn leave(mut self, device: u32) -> Result<Option<DeviceTruth>> {
        self.part.memory_mib = 0;
        let until_ns = self.change(None)?;
        let total_uj = self.meter.total_uj();
        let Self { leads, since_ns, steps_uj, n_steps, .. } = self;
        let idle_uj = total_uj - steps_uj;
        Ok(leads.then_some(DeviceTruth { device, since_ns, until_ns, total_uj, steps_uj, idle_uj, n_steps }))
    }
}

/// A worker's life. Ends when it is told to or when the core is gone.
pub fn run(setup: &str) -> Result<()> {
    let setup: WorkerSetup = child::begin(setup)?;
    let cudart = setup.engine.cudart.as_deref().map(Cudart::load).transpose()?;
    let mut device = Device::new(&setup)?;
    if let Some(weights) = &setup.engine.weights {
        read(weights)?;
    }
    device.part.memory_mib = WEIGHTS_AND_POOL_MIB;
    device.change(None)?;

    let mut core = child::socket()?;
    let mut orders = BufReader::new(core.try_clone()?);
    send(&mut core, &FromWorker::Ready)?;
    let mut throttled = false;
    // Kept until the end: a fault's memory does not come back.
    let mut taken: Vec<Vec<u8>> = Vec::new();
    while let Some(order) = receive(&mut orders)? {
        match order {
            ToWorker::Step(cost) => step(&mut device, &mut core, cudart.as_ref(), &cost, throttled)?,
            ToWorker::Idle => {
                let at_ns = device.idle()?;
                send(&mut core, &device.began(at_ns))?;
            }
            ToWorker::Throttle(on) => {
                throttled = on;
                if device.leads {
                    device.timeline.throttle(now_ns(), on)?;
                }
            }
            ToWorker::Xid(code) if device.leads => device.timeline.xid(now_ns(), code)?,
            ToWorker::Xid(_) => {}
            ToWorker::Fault(fault) => {
                device.idle()?;
                carry_out(&fault, cudart.as_ref(), &mut taken)?;
            }
            ToWorker::Stop => break,
        }
    }
    match device.leave(setup.device)? {
        Some(truth) => log(&setup.engine.dir.join(DEVICES), &truth),
        None => Ok(()),
    }
}

/// One step: the host's part, and then the part with kernels running.
fn step(
    device: &mut Device,
    core: &mut UnixStream,
    cudart: Option<&Cudart>,
    cost: &Cost,
    throttled: bool,
) -> Result<()> {
    let begin = Instant::now();
    let began_ns = device.change(Some(cost))?;
    device.n_steps += 1;
    send(core, &device.began(began_ns))?;
    let end = begin + Duration::from_nanos(cost.duration_ns);
    match cudart {
        Some(cudart) => {
            sleep_until(end - Duration::from_nanos(cost.busy_ns));
            cudart.step(end.saturating_duration_since(Instant::now()))?;
        }
        None => sleep_until(end),
    }
    let at_ns = now_ns();
    if throttled && device.leads {
        device.timeline.violation(at_ns, at_ns - began_ns)?;
    }
    Ok(send(core, &FromWorker::Ended { at_ns })?)
}

fn sleep_until(end: Instant) {
    thread::sleep(end.saturating_duration_since(Instant::now()));
}

fn carry_out(fault: &WorkerFault, cudart: Option<&Cudart>, taken: &mut Vec<Vec<u8>>) -> Result<()> {
    match fault {
        WorkerFault::Read { file } => {
            drop_cache(file)?;
            read(file)
        }
        WorkerFault::Allocate { mib } => {
            let mut left = usize::try_from(mib << 20)?;
            while left > 0 {
                let mut memory = vec![0; ALLOCATION.min(left)];
                left -= memory.len();
                memory.iter_mut().step_by(PAGE).for_each(|byte| *byte = 1);
                taken.push(memory);
            }
            Ok(())
        }
        WorkerFault::GpuAllocate { mib } => {
            cudart.context("the worker has no stand-in for libcudart")?.allocate(usize::try_from(mib << 20)?)
        }
        WorkerFault::Stall { ms } => {
            thread::sleep(Duration::from_millis(*ms));
            Ok(())
        }
    }
}

/// Takes a file out of the page cache, so that reading it means reading the disk.
fn drop_cache(path: &Path) -> Result<()> {
    let file = open(path)?;
    // Pages that are not on the disk yet would stay.
    file.sync_data().with_context(|| format!("cannot write back {}", path.display()))?;
    fadvise(&file, 0, None, Advice::DontNeed).with_context(|| format!("cannot drop the cache of {}", path.display()))
}

/// Reads a file to its end.
fn read(path: &Path) -> Result<()> {
    let mut file = open(path)?;
    let mut buffer = vec![0; READ];
    while file.read(&mut buffer).with_context(|| format!("cannot read {}", path.display()))? > 0 {}
    Ok(())
}

fn open(path: &Path) -> Result<File> {
    File::open(path).with_context(|| format!("cannot open {}", path.display()))
}

fn log(path: &PathBuf, truth: &DeviceTruth) -> Result<()> {
    let file = OpenOptions::new().append(true).create(true).open(path);
    let mut file = file.with_context(|| format!("cannot write {}", path.display()))?;
    Ok(file.write_all(line_of(truth)?.as_bytes())?)
}
