//! The driver that the calls talk to: the devices of the script, the handles that were given out, and what every call
//! goes through.
//!
//! Owns the one state of the process, in one mutex. A call that the script delays waits without it, unless the script
//! says that the driver hangs; so a slow query of one thread does not hold up another's.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Instant, SystemTime},
};

use nvml_wrapper_sys::bindings::nvmlDevice_t;

use crate::{
    code::{self, Answer, Code},
    device::Device,
    script::{Rule, Script},
    timeline::{self, Clock, Header},
};

/// Most event sets and GPM samples that are open.
pub const HANDLES: usize = 1 << 10;

static DRIVER: Mutex<Option<Driver>> = Mutex::new(None);

/// The driver while the library is initialised.
pub struct Driver {
    /// Calls of `nvmlInit` that were not yet undone.
    users: u32,
    pub header: Header,
    pub script: Script,
    pub devices: Vec<Device>,
    pub sets: BTreeMap<usize, crate::calls::events::Set>,
    pub samples: BTreeMap<usize, Option<crate::calls::gpm::Sample>>,
    next_handle: usize,
    /// Whether a line could not be understood.
    broken: bool,
    /// Wall-clock time less the script's, nanoseconds: the driver's time stamps are Unix time.
    wall: u64,
}

/// A device, or a MIG instance of one, by index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub device: usize,
    pub mig: Option<usize>,
}

/// Handles are small numbers in disguise: this much apart for devices, and one for a device's MIG instances.
const STRIDE: usize = 0x1000;

impl Place {
    pub fn handle(self) -> nvmlDevice_t {
        std::ptr::without_provenance_mut((self.device + 1) * STRIDE + self.mig.map_or(0, |mig| mig + 1))
    }

    fn of(handle: nvmlDevice_t) -> Option<Self> {
        let number = handle.addr();
        Some(Self { device: (number / STRIDE).checked_sub(1)?, mig: (number % STRIDE).checked_sub(1) })
    }
}

/// A call on a device, once the script has let it through.
pub struct At<'a> {
    pub driver: &'a mut Driver,
    pub place: Place,
    /// The time that it answers for.
    pub now: u64,
}

impl At<'_> {
    /// The device, whether or not the handle is of a MIG instance.
    pub fn device(&mut self) -> &mut Device {
        &mut self.driver.devices[self.place.device]
    }

    /// The device, for what MIG instances have not.
    pub fn whole(&mut self) -> Answer<&mut Device> {
        match self.place.mig {
            None => Ok(self.device()),
            Some(_) => Err(code::NOT_SUPPORTED),
        }
    }

    /// The device, for what a device has only while MIG is off.
    pub fn undivided(&mut self) -> Answer<&mut Device> {
        let device = self.whole()?;
        if device.has_mig() { Err(code::NOT_SUPPORTED) } else { Ok(device) }
    }

    /// The MIG instance.
    pub fn mig(&self) -> Option<&timeline::Mig> {
        Some(&self.driver.devices[self.place.device].about.mig[self.place.mig?])
    }

    /// The GPU instance of a handle of a MIG instance.
    pub fn gi(&self) -> Option<u32> {
        self.mig().map(|mig| mig.gi)
    }

    /// How often the driver refreshes, nanoseconds.
    pub fn refresh(&self) -> u64 {
        self.driver.header.refresh_ms.max(1) * 1_000_000
    }
}

impl Driver {
    fn load(path: &Path) -> io::Result<Self> {
        let (script, header) = Script::open(path)?;
        let start = header.start_ns.unwrap_or(0);
        let unix = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_nanos() as u64);
        Ok(Self {
            users: 0,
            devices: header.devices.iter().map(|device| Device::new(device.clone(), start)).collect(),
            sets: BTreeMap::new(),
            samples: BTreeMap::new(),
            next_handle: 1,
            broken: false,
            wall: match script.clock() {
                Clock::Monotonic => unix.saturating_sub(timeline::monotonic_ns()),
                Clock::Manual => 0,
            },
            header,
            script,
        })
    }

    /// Takes in what was appended to the script.
    fn refresh(&mut self) -> Answer<()> {
        if !self.broken
            && let Err(error) = self.take_lines()
        {
            eprintln!("inferscope-fake-nvml: {error}");
            self.broken = true;
        }
        if self.broken { Err(code::UNKNOWN) } else { Ok(()) }
    }

    fn take_lines(&mut self) -> io::Result<()> {
        while let Some((number, line)) = self.script.next()? {
            let at = line.t_ns.ok_or_else(|| self.script.complaint("no t_ns"))?;
            let device = line.device.and_then(|index| self.devices.get_mut(index as usize));
            let device = device.ok_or_else(|| self.script.complaint("no such device"))?;
            device.apply(at, &line, number).map_err(|error| self.script.complaint(error))?;
        }
        Ok(())
    }

    fn place(&self, handle: nvmlDevice_t) -> Answer<Place> {
        let place = Place::of(handle).ok_or(code::INVALID_ARGUMENT)?;
        let device = self.devices.get(place.device).ok_or(code::INVALID_ARGUMENT)?;
        match place.mig {
            Some(mig) if mig >= device.about.mig.len() => Err(code::INVALID_ARGUMENT),
            _ => Ok(place),
        }
    }

    fn fate(&self, call: &str, place: Option<Place>) -> Option<Rule> {
        self.script.fate(call, place.map(|place| place.device as u32), None).cloned()
    }

    /// A time of the script as the driver stamps it: Unix time in microseconds, or the script's with a manual clock.
    pub fn stamp(&self, at: u64) -> u64 {
        at.saturating_add(self.wall) / 1000
    }

    /// The time of the script for a stamp.
    pub fn unstamp(&self, stamp: u64) -> u64 {
        stamp.saturating_mul(1000).saturating_sub(self.wall)
    }

    /// A number for an event set or GPM sample.
    pub fn new_handle(&mut self) -> usize {
        self.next_handle += 1;
        self.next_handle
    }
}

fn lock() -> MutexGuard<'static, Option<Driver>> {
    // A panic in one call ends the process, as it must not unwind into C; the lock can't be poisoned.
    DRIVER.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What every call goes through: whether there is such a call, how long it takes and what it returns.
fn admit(call: &str, handle: Option<nvmlDevice_t>) -> Answer<(MutexGuard<'static, Option<Driver>>, Option<Place>)> {
    let mut guard = lock();
    let driver = guard.as_mut().ok_or(code::UNINITIALIZED)?;
    driver.refresh()?;
    if driver.header.absent.iter().any(|absent| absent == call) {
        return Err(code::FUNCTION_NOT_FOUND);
    }
    let place = handle.map(|handle| driver.place(handle)).transpose()?;
    let fate = driver.fate(call, place);
    if let Some(rule) = fate {
        if !rule.delay.is_zero() {
            guard = delayed(guard, call, place, &rule)?;
        }
        if rule.returns != code::SUCCESS {
            return Err(rule.returns);
        }
    }
    let driver = guard.as_ref().ok_or(code::UNINITIALIZED)?;
    if place.is_some_and(|place| driver.devices[place.device].is_lost(driver.script.now())) {
        return Err(code::GPU_IS_LOST);
    }
    Ok((guard, place))
}

/// Takes the time that the script says, or until it says otherwise.
fn delayed(
    mut guard: MutexGuard<'static, Option<Driver>>,
    call: &str,
    place: Option<Place>,
    rule: &Rule,
) -> Answer<MutexGuard<'static, Option<Driver>>> {
    let end = Instant::now() + rule.delay;
    let watch = guard.as_ref().ok_or(code::UNINITIALIZED)?.script.watch();
    loop {
        let driver = guard.as_mut().ok_or(code::UNINITIALIZED)?;
        driver.refresh()?;
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() || driver.fate(call, place).is_none_or(|now| now.number != rule.number) {
            return Ok(guard);
        }
        if rule.lock {
            watch.wait(left);
        } else {
            drop(guard);
            watch.wait(left);
            guard = lock();
        }
    }
}

/// Makes a call that is about no device.
pub fn system<T>(call: &str, answer: impl FnOnce(&mut Driver) -> Answer<T>) -> Answer<T> {
    let (mut guard, _) = admit(call, None)?;
    answer(guard.as_mut().ok_or(code::UNINITIALIZED)?)
}

/// Makes a call on a device.
pub fn device<T>(call: &str, handle: nvmlDevice_t, answer: impl FnOnce(&mut At<'_>) -> Answer<T>) -> Answer<T> {
    let (mut guard, place) = admit(call, Some(handle))?;
    let driver = guard.as_mut().ok_or(code::UNINITIALIZED)?;
    let place = place.ok_or(code::INVALID_ARGUMENT)?;
    let now = driver.script.now();
    answer(&mut At { driver, place, now })
}

/// `nvmlInit`: reads the script for the first user.
pub fn init(call: &str) -> Answer<()> {
    let mut guard = lock();
    if guard.is_none() {
        // A machine without a script is one without a driver.
        let path = path().ok_or(code::DRIVER_NOT_LOADED)?;
        *guard = Some(Driver::load(&path).map_err(|error| {
            eprintln!("inferscope-fake-nvml: {}: {error}", path.display());
            code::UNKNOWN
        })?);
    }
    drop(guard);
    let admitted = admit(call, None).map(|(mut guard, _)| {
        if let Some(driver) = guard.as_mut() {
            driver.users += 1;
        }
    });
    if admitted.is_err() {
        forget_without_users();
    }
    admitted
}

fn forget_without_users() {
    let mut guard = lock();
    if guard.as_ref().is_some_and(|driver| driver.users == 0) {
        *guard = None;
    }
}

/// `nvmlShutdown`.
pub fn shutdown(call: &str) -> Answer<()> {
    system(call, |driver| {
        driver.users = driver.users.saturating_sub(1);
        Ok(())
    })?;
    forget_without_users();
    Ok(())
}

/// The time line: `LIBRARY.jsonl` beside the library if there is one, so that copies of the library in one process have
/// their own, and else what [`timeline::ENV`] names.
fn path() -> Option<PathBuf> {
    beside_library().filter(|path| path.exists()).or_else(|| std::env::var_os(timeline::ENV).map(PathBuf::from))
}

fn beside_library() -> Option<PathBuf> {
    let here = (path as fn() -> Option<PathBuf> as usize) as u64;
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let mapped = maps.lines().find(|line| {
        let range = line.split(' ').next().and_then(|range| range.split_once('-'));
        let number = |text| u64::from_str_radix(text, 16).unwrap_or(0);
        range.is_some_and(|(from, to)| (number(from)..number(to)).contains(&here))
    })?;
    let library = &mapped[mapped.find('/')?..];
    Some(crate::library::beside(Path::new(library)))
}

/// The result of a call.
pub fn result(answer: Answer<()>) -> Code {
    answer.err().unwrap_or(code::SUCCESS)
}
