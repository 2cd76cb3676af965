//! What `doctor` says of the GPUs: what can be read of each, and what not and why.
//!
//! Owns the words. It asks everything that the sampler asks, once, through the same code, and reads the answer from the
//! same table. A driver that hangs costs it a few seconds, not the command.

use std::{fs, io, os::unix::fs::MetadataExt as _, path::Path, sync::mpsc::sync_channel, thread, time::Duration};

use nvml_wrapper::Nvml;

use super::{
    Counter, DeviceInfo, DeviceSample, GpuError, Settings, State, library,
    meter::{Call, Meter},
    nvml::{Devices, Lost},
};
use crate::{diagnosis::Check, kernel::clock};

/// Longest time that the driver gets.
const DEADLINE: Duration = Duration::from_secs(5);

/// More than what lies between two samples of GPM.
const GPM_PAIR: Duration = Duration::from_millis(150);

/// The inode of `/proc/self/ns/pid` in the namespace that the kernel began with (`PROC_PID_INIT_INO`).
const INITIAL_PID_NAMESPACE: u64 = 0xEFFF_FFFC;

/// What everything goes through.
const CONTROL_DEVICE: &str = "/dev/nvidiactl";

/// Name of the checks of devices.
const GPU: &str = "GPU";

/// What works here.
pub fn checks(settings: &Settings) -> Vec<Check> {
    let mut checks = match ask(settings) {
        Ok(checks) => checks,
        // A host without an NVIDIA GPU has nothing more to say.
        Err(Unseen::Error(error @ GpuError::Library { .. })) if !Path::new(CONTROL_DEVICE).exists() => {
            return vec![Check { name: GPU, works: false, detail: format!("none to be seen through NVML: {error}") }];
        }
        Err(unseen) => {
            let detail = match unseen {
                Unseen::Error(error) => format!("none to be seen through NVML: {error}"),
                Unseen::Silent => format!(
                    "NVML does not answer within {} s: the driver hangs; see dmesg for NVRM lines, nvidia-smi will hang too",
                    DEADLINE.as_secs()
                ),
            };
            vec![Check { name: GPU, works: false, detail }]
        }
    };
    checks.push(control_device(fs::File::open(CONTROL_DEVICE).map(drop)));
    checks.push(pid_namespace(fs::metadata("/proc/self/ns/pid").map(|namespace| namespace.ino())));
    checks
}

/// Why nothing is known of the devices.
enum Unseen {
    Error(GpuError),
    Silent,
}

/// Asks on a thread of its own, which is left behind if the driver hangs.
fn ask(settings: &Settings) -> Result<Vec<Check>, Unseen> {
    let settings = settings.clone();
    let (answer, answers) = sync_channel(1);
    let asker = thread::Builder::new().name("gpu".into()).spawn(move || {
        let _ = answer.send(examine(&settings));
    });
    if let Err(error) = asker {
        return Err(Unseen::Error(GpuError::Thread(error)));
    }
    match answers.recv_timeout(DEADLINE) {
        Ok(answer) => answer.map_err(Unseen::Error),
        Err(_) => Err(Unseen::Silent),
    }
}

fn examine(settings: &Settings) -> Result<Vec<Check>, GpuError> {
    let meter = Meter::new(clock::now, std::sync::Arc::new(()));
    let nvml = library::load(settings, &meter)?;
    let mut checks = vec![versions(&nvml, &meter)];
    let (mut devices, mut lost) = Devices::open(&nvml, meter).map_err(GpuError::List)?;
    let infos = devices.infos();
    for info in &infos {
        lost.extend(ask_all(&mut devices, info.device).err());
    }
    thread::sleep(GPM_PAIR);
    for info in &infos {
        let gpm = devices.gpm(info.device, &mut DeviceSample::default());
        if !lost.iter().any(|lost| lost.device == info.device) {
            lost.extend(gpm.err());
        }
    }
    if infos.is_empty() && lost.is_empty() {
        checks.push(Check { name: GPU, works: false, detail: "the driver runs and has no device".into() });
    }
    for info in infos.iter().filter(|info| !lost.iter().any(|lost| lost.device == info.device)) {
        checks.push(device(info, &infos, |counter| devices.state(info.device, counter)));
    }
    checks.extend(lost.into_iter().map(|Lost { device, reason }| Check {
        name: GPU,
        works: false,
        detail: format!("{device}: {reason}; it is looked for every 10 s. See dmesg for its XID; most need a reset"),
    }));
    Ok(checks)
}

/// Asks a device everything, twice: what has a second source shows whether that works.
fn ask_all(devices: &mut Devices<'_>, device: u32) -> Result<(), Lost> {
    let mut sample = DeviceSample::default();
    for _ in 0..2 {
        devices.fast(device, &mut sample)?;
        devices.utilization(device, &mut sample)?;
        devices.slow(device, &mut sample)?;
        devices.processes(device)?;
        devices.process_utilization(device)?;
    }
    devices.gpm(device, &mut sample)
}

fn versions(nvml: &Nvml, meter: &Meter) -> Check {
    let or_unknown = |version: Result<String, _>| version.unwrap_or_else(|error| format!("unknown ({error})"));
    let driver = or_unknown(meter.time(Call::DriverVersion, || nvml.sys_driver_version()).0);
    let library = or_unknown(meter.time(Call::NvmlVersion, || nvml.sys_nvml_version()).0);
    Check { name: "NVML", works: true, detail: format!("version {library}, driver {driver}") }
}

/// What is read of a device, and what not.
fn device<'a>(info: &DeviceInfo, all: &[DeviceInfo], state: impl Fn(Counter) -> Option<&'a State>) -> Check {
    let DeviceInfo { device, parent, uuid, name, .. } = info;
    let instances = all.iter().filter(|other| other.parent == Some(*device)).count();
    let place = match (parent, instances) {
        (Some(parent), _) => format!("MIG instance of {parent}"),
        (None, 0) => "no MIG instances".to_owned(),
        (None, 1) => "1 MIG instance".to_owned(),
        (None, n) => format!("{n} MIG instances"),
    };
    let (mut read, mut not) = (Vec::new(), Vec::new());
    for counter in Counter::ALL {
        match state(counter) {
            Some(State::Works) => read.push(counter.name().to_owned()),
            Some(State::Absent(why)) => not.push(format!("{} ({why})", counter.name())),
            Some(State::Failing(error)) => not.push(format!("{} (now: {error})", counter.name())),
            Some(State::Unknown) | None => {}
        }
    }
    let mut detail = format!("{device}: {name} ({uuid}), {place}; read: {}", read.join(", "));
    if !not.is_empty() {
        detail += "; not read: ";
        detail += &not.join(", ");
    }
    Check { name: GPU, works: !read.is_empty(), detail }
}

fn control_device(opened: io::Result<()>) -> Check {
    let detail = match &opened {
        Ok(()) => format!("{CONTROL_DEVICE} can be opened"),
        Err(error) => format!(
            "{CONTROL_DEVICE} cannot be opened: {error}; run as root, or let the container or the service have the device"
        ),
    };
    Check { name: "GPU access", works: opened.is_ok(), detail }
}

fn pid_namespace(inode: io::Result<u64>) -> Check {
    let (works, detail) = match inode {
        Ok(INITIAL_PID_NAMESPACE) => (true, "the host's, so that NVML's processes are found".to_owned()),
        Ok(_) => (
            false,
            "not the host's: NVML names processes by the host's ids, so calls are joined to GPUs by chance or not at all; \
             run with the host's pids (hostPID: true, docker run --pid=host)"
                .to_owned(),
        ),
        Err(error) => (false, format!("/proc/self/ns/pid cannot be read: {error}; calls may not be joined to GPUs")),
    };
    Check { name: "GPU processes", works, detail }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::Absent;

    #[test]
    fn a_device_says_what_is_read_and_why_the_rest_is_not() {
        let info = DeviceInfo { device: 3, uuid: "GPU-a".into(), name: "H100".into(), ..DeviceInfo::default() };
        let instance = DeviceInfo { device: 4, parent: Some(3), ..DeviceInfo::default() };
        let failing = State::Failing("no data".into());
        let check = device(&info, &[info.clone(), instance], |counter| match counter {
            Counter::Energy => Some(&State::Works),
            Counter::Gpm => Some(&State::Absent(Absent::NotSupported)),
            Counter::Power => Some(&failing),
            _ => None,
        });
        assert_eq!(
            (check.works, check.detail.as_str()),
            (
                true,
                "3: H100 (GPU-a), 1 MIG instance; read: energy; not read: power (now: no data), GPM metrics (the device does \
                 not have it)"
            )
        );
        assert!(!device(&info, &[], |_| None).works, "nothing can be read of it");
    }

    #[test]
    fn a_pid_namespace_that_is_not_the_hosts_degrades_the_join() {
        assert!(pid_namespace(Ok(0xEFFF_FFFC)).works);
        let check = pid_namespace(Ok(0xF000_0001));
        assert!(!check.works && check.detail.contains("hostPID"), "{check:?}");
    }

    #[test]
    fn a_device_node_that_is_not_there_says_what_to_do() {
        let check = control_device(Err(io::ErrorKind::PermissionDenied.into()));
        assert!(!check.works && check.detail.contains("run as root"), "{check:?}");
    }
}
