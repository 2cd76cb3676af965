//! Processes of a device and what they use.

use libloading::Symbol;
use nvml_wrapper::{enums::device::UsedGpuMemory, error::NvmlError};
use nvml_wrapper_sys::bindings as sys;

use super::*;
use inferscope_fake_nvml::timeline::{Kind, Process};

fn compute(fake: &Fake) -> Vec<(u32, UsedGpuMemory)> {
    let processes = fake.device(0).running_compute_processes().unwrap();
    processes.into_iter().map(|process| (process.pid, process.used_gpu_memory)).collect()
}

fn mib(mib: u64) -> UsedGpuMemory {
    UsedGpuMemory::Used(mib << 20)
}

#[test]
fn processes_come_and_go() {
    let mut fake = Fake::one();
    assert_eq!(compute(&fake), []);
    fake.write(&[
        Line::at(1, 0).processes(vec![Process::new(10, 100), Process::new(11, 200)]),
        Line::at(2, 0).process(Process::new(12, 300)),
        Line::at(3, 0).process(Process::new(11, 0)),
        Line::at(4, 0).process(Process::gone(12)),
        Line::at(5, 0).processes(vec![Process::hidden(13)]),
        Line::now(1),
    ]);
    assert_eq!(compute(&fake), [(10, mib(100)), (11, mib(200))]);
    fake.now(2);
    assert_eq!(compute(&fake), [(10, mib(100)), (11, mib(200)), (12, mib(300))]);
    assert_eq!(fake.device(0).memory_info().unwrap().used, 600 << 20);
    fake.now(3);
    assert_eq!(compute(&fake), [(10, mib(100)), (12, mib(300))]);
    fake.now(4);
    assert_eq!(compute(&fake), [(10, mib(100))]);
    fake.now(5);
    // Of another user's process the driver does not say how much it has.
    assert_eq!(compute(&fake), [(13, UsedGpuMemory::Unavailable)]);
}

#[test]
fn each_kind_has_its_list() {
    let mut fake = Fake::one();
    let all = vec![Process::new(1, 1), Process::new(2, 1).kind(Kind::Graphics), Process::new(3, 1).kind(Kind::Mps)];
    fake.write(&[Line::at(0, 0).processes(all)]);
    let device = fake.device(0);
    assert_eq!(device.running_compute_processes().unwrap()[0].pid, 1);
    assert_eq!(device.running_graphics_processes().unwrap()[0].pid, 2);
    assert_eq!(device.mps_running_compute_processes().unwrap()[0].pid, 3);
    assert_eq!(device.running_compute_processes_count().unwrap(), 1);
}

/// What both versions of a list are.
type List = unsafe extern "C" fn(sys::nvmlDevice_t, *mut u32, *mut sys::nvmlProcessInfo_t) -> sys::nvmlReturn_t;

/// One call of a list with room for so many, as those make it who keep a buffer: its result, the count, and pids.
fn list(fake: &Fake, name: &str, room: u32) -> (u32, u32, Vec<u32>) {
    let device = fake.device(0);
    let empty = sys::nvmlProcessInfo_t { pid: 0, usedGpuMemory: 0, gpuInstanceId: 0, computeInstanceId: 0 };
    let mut infos = vec![empty; room as usize];
    let mut count = room;
    let library = symbols(fake);
    // SAFETY: every list has this type.
    let list: Symbol<'_, List> = unsafe { library.get(name.as_bytes()) }.unwrap();
    // SAFETY: the handle is used no longer than its device.
    let handle = unsafe { device.handle() };
    // SAFETY: the list has the room that `count` says.
    let code = unsafe { list(handle, &raw mut count, infos.as_mut_ptr()) };
    (code, count, infos.iter().map(|info| info.pid).collect())
}

#[test]
fn both_versions_of_each_list_answer() {
    let mut fake = Fake::one();
    let kinds = [(1, Kind::Compute), (2, Kind::Graphics), (3, Kind::Mps)];
    fake.write(&[Line::at(0, 0).processes(kinds.map(|(pid, kind)| Process::new(pid, 1).kind(kind)).to_vec())]);
    for (name, pid) in [("Compute", 1), ("Graphics", 2), ("MPSCompute", 3)] {
        for version in [2, 3] {
            let name = format!("nvmlDeviceGet{name}RunningProcesses_v{version}");
            assert_eq!(list(&fake, &name, 1), (0, 1, vec![pid]), "{name}");
        }
    }
}

#[test]
fn too_small_a_buffer_is_told_how_small() {
    let mut fake = Fake::one();
    fake.write(&[Line::at(0, 0).processes((1..=3).map(|pid| Process::new(pid, 1)).collect())]);
    assert_eq!(
        list(&fake, "nvmlDeviceGetComputeRunningProcesses_v3", 2),
        (sys::nvmlReturn_enum_NVML_ERROR_INSUFFICIENT_SIZE, 3, vec![0, 0])
    );
    assert_eq!(list(&fake, "nvmlDeviceGetComputeRunningProcesses_v3", 4), (0, 3, vec![1, 2, 3, 0]));
}

#[test]
fn the_list_may_grow_between_count_and_data() {
    let mut fake = Fake::one();
    let late = (2..=8).map(|pid| Process::new(pid, 1)).collect();
    fake.write(&[Line::at(0, 0).process(Process::new(1, 1)).late_processes(late)]);
    // More than the five by which the wrapper rounds up.
    assert!(matches!(fake.device(0).running_compute_processes(), Err(NvmlError::InsufficientSize(_))));
    assert_eq!(compute(&fake).len(), 8);
}

#[test]
fn nobody_to_tell_of_is_not_found() {
    let mut fake = Fake::one();
    fake.write(&[Line::at(0, 0).process(Process::new(1, 100)), Line::now(1000 * MS)]);
    assert!(matches!(fake.device(0).process_utilization_stats(None), Err(NvmlError::NotFound)));
}

fn used(fake: &Fake, last_seen: u64) -> Vec<(u32, u64, u32, u32)> {
    let samples = fake.device(0).process_utilization_stats(last_seen).unwrap();
    samples.into_iter().map(|sample| (sample.pid, sample.timestamp, sample.sm_util, sample.mem_util)).collect()
}

#[test]
fn use_is_the_mean_since_what_was_seen() {
    let mut fake = Fake::one();
    fake.write(&[
        Line::at(0, 0).processes(vec![Process::new(1, 100), Process::new(2, 100).uses(10, 5)]),
        Line::at(900 * MS, 0).process(Process::new(1, 100).uses(80, 20)),
        Line::at(950 * MS, 0).process(Process::gone(2)),
        Line::now(1050 * MS),
    ]);
    // All that is kept: a long window that dilutes a short burst.
    assert_eq!(used(&fake, 0), [(1, 1_000_000, 8, 2), (2, 1_000_000, 10, 5)]);
    assert_eq!(used(&fake, 900_000), [(1, 1_000_000, 80, 20), (2, 1_000_000, 5, 3)]);
    assert!(matches!(fake.device(0).process_utilization_stats(1_000_000), Err(NvmlError::NotFound)));
    fake.now(1100 * MS);
    assert_eq!(used(&fake, 1_000_000), [(1, 1_100_000, 80, 20)]);
    fake.write(&[Line::at(1100 * MS, 0).process(Process::new(1, 100)), Line::now(1200 * MS)]);
    assert!(matches!(fake.device(0).process_utilization_stats(1_100_000), Err(NvmlError::NotFound)));
}

#[test]
fn both_raw_calls_about_processes_answer() {
    let mut fake = Fake::one();
    fake.write(&[Line::at(0, 0).process(Process::new(9, 100).uses(40, 30)), Line::now(1000 * MS)]);
    let device = fake.device(0);
    // SAFETY: the handle is used no longer than its device.
    let handle = unsafe { device.handle() };

    let mut details = [sys::nvmlProcessDetail_v1_t {
        pid: 0,
        usedGpuMemory: 0,
        gpuInstanceId: 0,
        computeInstanceId: 0,
        usedGpuCcProtectedMemory: 0,
    }];
    let mut list = sys::nvmlProcessDetailList_t {
        version: size_of::<sys::nvmlProcessDetailList_t>() as u32 | 1 << 24,
        mode: 0,
        numProcArrayEntries: 1,
        procArray: details.as_mut_ptr(),
    };
    // SAFETY: the struct says how much room its list has.
    assert_eq!(unsafe { fake.nvml.lib().nvmlDeviceGetRunningProcessDetailList(handle, &raw mut list) }, 0);
    assert_eq!((list.numProcArrayEntries, details[0].pid, details[0].usedGpuMemory), (1, 9, 100 << 20));

    let mut samples = [sys::nvmlProcessUtilizationInfo_v1_t {
        timeStamp: 0,
        pid: 0,
        smUtil: 0,
        memUtil: 0,
        encUtil: 0,
        decUtil: 0,
        jpgUtil: 0,
        ofaUtil: 0,
    }];
    let mut info = sys::nvmlProcessesUtilizationInfo_t {
        version: size_of::<sys::nvmlProcessesUtilizationInfo_t>() as u32 | 1 << 24,
        processSamplesCount: 1,
        lastSeenTimeStamp: 0,
        procUtilArray: samples.as_mut_ptr(),
    };
    // SAFETY: the struct says how much room its list has.
    assert_eq!(unsafe { fake.nvml.lib().nvmlDeviceGetProcessesUtilizationInfo(handle, &raw mut info) }, 0);
    assert_eq!((info.processSamplesCount, samples[0].pid, samples[0].smUtil, samples[0].memUtil), (1, 9, 40, 30));
}
