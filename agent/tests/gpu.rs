//! The GPU sampler against the stand-in for NVML: every trap of the library and every way in which a driver goes away.
//!
//! Each test has a copy of the stand-in with a time line of its own, so they share nothing. What takes time is awaited by
//! the records it causes.

use std::{
    path::PathBuf,
    sync::mpsc::{Receiver, channel},
    time::{Duration, Instant},
};

use inferscope::{
    gpu::{self, DeviceInfo, DeviceProcess, DeviceSample, GpuError, GpuRecord, GpuSampler, NvmlCost, Settings, Which},
    kernel::clock,
    time::Mono,
};
use inferscope_fake_nvml::{
    library,
    timeline::{Device, Header, Kind, Line, Process, Timeline, Violation, monotonic_ns},
};
use tempfile::TempDir;

/// Longest wait for something that must come.
const PATIENCE: Duration = Duration::from_secs(30);

/// A driver of a script.
struct Driver {
    folder: TempDir,
    timeline: Timeline,
    library: PathBuf,
}

impl Driver {
    fn new(header: &Header) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let library = library::copy(folder.path()).unwrap();
        let timeline = Timeline::create(library::beside(&library), header).unwrap();
        Self { folder, timeline, library }
    }

    /// One whose library lacks symbols, as an older one does.
    fn without(header: &Header, symbols: &[&str]) -> Self {
        let whole = Self::new(header);
        let library = library::without_symbols(&whole.library, symbols).unwrap();
        let timeline = Timeline::create(library::beside(&library), header).unwrap();
        Self { timeline, library, ..whole }
    }

    fn say(&mut self, line: Line) {
        self.timeline.write([&line]).unwrap();
    }

    fn settings(&self) -> Settings {
        Settings { library: Some(self.library.clone()), ..Settings::default() }
    }

    fn start(&self) -> Sampler {
        assert!(self.folder.path().exists());
        let (sink, records) = channel();
        let sampler = GpuSampler::start(&self.settings(), move |at, record| drop(sink.send((at, record)))).unwrap();
        Sampler { sampler, records }
    }
}

/// A sampler and what it says.
struct Sampler {
    sampler: GpuSampler,
    records: Receiver<(Mono, GpuRecord)>,
}

impl Sampler {
    /// The next record that is wanted, and what it has of interest.
    fn await_some<T>(&self, what: &str, mut wanted: impl FnMut(Mono, &GpuRecord) -> Option<T>) -> T {
        let end = Instant::now() + PATIENCE;
        let mut seen = Vec::new();
        loop {
            match self.records.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok((at, record)) => match wanted(at, &record) {
                    Some(found) => return found,
                    None => seen.push(record),
                },
                Err(error) => panic!("no {what} ({error}); {:?}", seen.iter().rev().take(20).collect::<Vec<_>>()),
            }
        }
    }

    fn devices(&self) -> Vec<DeviceInfo> {
        self.await_some("devices", |_, record| match record {
            GpuRecord::Devices(devices) => Some(devices.clone()),
            _ => None,
        })
    }

    fn sample(&self, device: u32, mut wanted: impl FnMut(&DeviceSample) -> bool) -> DeviceSample {
        self.await_some("sample", |_, record| match record {
            GpuRecord::Samples(samples) => samples.iter().find(|s| s.device == device && wanted(s)).cloned(),
            _ => None,
        })
    }

    fn processes(&self, device: u32, mut wanted: impl FnMut(&[DeviceProcess]) -> bool) -> Vec<DeviceProcess> {
        self.await_some("processes", |_, record| match record {
            GpuRecord::Processes { device: of, processes } if *of == device && wanted(processes) => {
                Some(processes.clone())
            }
            _ => None,
        })
    }

    fn lost(&self) -> (Option<u32>, String) {
        self.await_some("loss", |_, record| match record {
            GpuRecord::Lost { device, reason } => Some((*device, reason.clone())),
            _ => None,
        })
    }
}

fn count(cost: &NvmlCost, name: &str) -> u64 {
    cost.calls.iter().find(|call| call.name == name).map_or(0, |call| call.count)
}

#[test]
fn eight_devices_with_32_processes_are_read_at_most_ten_times_a_second_at_little_cost() {
    let mut driver = Driver::new(&Header::new((0..8).map(Device::h100)));
    let now = monotonic_ns();
    for device in 0..8 {
        let processes = (0..4).map(|n| Process::new(1000 + device * 4 + n, 1024).uses(20, 5)).collect();
        driver.say(Line::at(now, device).power_w(400.0).util(90).processes(processes));
    }
    let sampler = driver.start();
    assert_eq!(sampler.devices().len(), 8);
    let (before, began) = (sampler.sampler.cost(), Instant::now());
    sampler.sampler.set_active(Which::All, true);
    let mut looks = [0; 8];
    let mut lists = [None; 8];
    let mut users = [None; 8];
    // No more of them: on a busy machine calls take long, and then they are made less often.
    sampler.await_some("ten looks at every device, and who is on it", |_, record| {
        match record {
            GpuRecord::Samples(samples) => {
                for sample in samples {
                    looks[sample.device as usize] += usize::from(sample.energy_mj.is_some());
                }
            }
            GpuRecord::Processes { device, processes } => lists[*device as usize] = Some(processes.len()),
            GpuRecord::Utilization { device, processes } => users[*device as usize] = Some(processes.len()),
            _ => {}
        }
        let known = |of: &[Option<usize>]| of.iter().all(Option::is_some);
        (looks.iter().all(|looks| *looks >= 10) && known(&lists) && known(&users)).then_some(())
    });
    let time = began.elapsed();
    assert!(time >= Duration::from_millis(800), "ten looks a second and no more: {time:?}");
    assert_eq!((lists, users), ([Some(4); 8], [Some(4); 8]));
    let after = sampler.sampler.cost();
    let per_second = (after.total() - before.total()).as_secs_f64() / time.as_secs_f64();
    eprintln!("NVML time with 8 devices and 32 processes: {:.3} ms per second, over {time:.1?}", per_second * 1e3);
    for call in &after.calls {
        eprintln!("{:45} {:6} calls, {:>10.1?} in all, {:>9.1?} at most", call.name, call.count, call.total, call.max);
    }
    let looks = looks.iter().sum::<usize>() as u64;
    assert!(count(&after, "nvmlDeviceGetFieldValues") < 2 * looks + 8 * 5, "one call for all fast counters: {after:?}");
}

#[test]
fn every_counter_arrives_under_either_numbering_of_fields() {
    for version in ["580.95.05", "570.86.10"] {
        let mut driver = Driver::new(&Header::new([Device::h100(0).nvlinks(1)]).driver(version));
        let violation = Violation {
            power_ns: 1,
            thermal_ns: 2,
            software_thermal_ns: 3,
            hardware_thermal_ns: 4,
            power_brake_ns: 5,
            ..Violation::default()
        };
        let now = monotonic_ns();
        driver.say(
            Line::at(now, 0)
                .power_w(345.5)
                .util(87)
                .mem_util(40)
                .temperature(65)
                .sm_clock_mhz(1980)
                .mem_clock_mhz(2600)
                .throttle_reasons(4)
                .pcie_tx_kib_s(1 << 20)
                .pcie_rx_kib_s(2 << 20)
                .nvlink_tx_kib_s(1 << 20)
                .nvlink_rx_kib_s(2 << 20)
                .violation(violation)
                .ecc(3)
                .processes(vec![Process::new(7, 4096)])
                .gpm(2, 87.0)
                .gpm(3, 41.25)
                .gpm(5, 12.5),
        );
        let sampler = driver.start();
        sampler.sampler.set_active(Which::These(&[0]), true);
        let devices = sampler.devices();
        let [DeviceInfo { device: 0, parent: None, uuid, name, memory_bytes, power_limit_mw, pci, .. }] = &devices[..]
        else {
            panic!("{devices:?}")
        };
        assert_eq!((uuid.as_str(), name.as_str()), ("GPU-fake-0", "Fake H100"));
        assert_eq!((*memory_bytes, *power_limit_mw), (Some(81_559 << 20), Some(700_000)));
        assert_eq!(pci.as_deref(), Some("00000000:01:00.0"));
        let first = sampler.sample(0, |sample| sample.temperature.is_some() && sample.pcie_bytes.is_some());
        assert_eq!((first.power_mw, first.utilization, first.memory_utilization), (Some(345_500), Some(87), Some(40)));
        assert_eq!((first.temperature, first.sm_clock_mhz, first.memory_clock_mhz), (Some(65), Some(1980), Some(2600)));
        assert_eq!(
            (first.throttle_reasons, first.ecc_uncorrected, first.memory_used.is_some()),
            (Some(4), Some(3), true)
        );
        let counters = [
            first.violations.power_ns,
            first.violations.thermal_ns,
            first.violations.software_thermal_ns,
            first.violations.hardware_thermal_ns,
            first.violations.power_brake_ns,
        ];
        assert_eq!(counters, [1, 2, 3, 4, 5].map(Some), "driver {version}");
        let later = sampler.sample(0, |sample| sample.pcie_bytes.is_some_and(|bytes| bytes.0 > 0));
        // Not in the same look: on a busy machine slow counters are read apart.
        sampler.sample(0, |sample| sample.energy_mj > first.energy_mj);
        assert!(later.nvlink_kib.is_some_and(|(sent, received)| received > sent && sent > 0), "{later:?}");
        let gpm = sampler.sample(0, |sample| sample.gpm.is_some()).gpm.unwrap();
        assert_eq!((gpm.sm, gpm.occupancy, gpm.tensor), (Some(8700), Some(4125), Some(1250)));
    }
}

#[test]
fn links_that_cannot_be_summed_are_not_taken_for_the_first() {
    let driver = Driver::new(&Header::new([Device::h100(0).nvlinks(18)]));
    let sampler = driver.start();
    let sample = sampler.sample(0, |sample| sample.temperature.is_some());
    assert_eq!(sample.nvlink_kib, None);
}

#[test]
fn a_driver_that_hangs_is_lost_after_a_second_and_told_anew_when_it_answers() {
    let mut driver = Driver::new(&Header::new([Device::h100(0)]));
    let sampler = driver.start();
    sampler.sample(0, |_| true);
    let hung = monotonic_ns();
    driver.say(Line::call(hung, "*").delay(Duration::from_secs(5)).lock());
    let (device, reason) = sampler.lost();
    let waited = clock::now().since(Mono(hung));
    assert_eq!(device, None);
    assert!(reason.starts_with("the NVIDIA driver has not answered for "), "{reason}");
    assert!(waited >= Duration::from_secs(1) && waited < Duration::from_secs(5), "said while it hangs: {waited:?}");
    driver.say(Line::call(monotonic_ns(), "*"));
    let first = sampler.await_some("record", |_, record| Some(record.clone()));
    assert!(matches!(&first, GpuRecord::Devices(devices) if devices.len() == 1), "devices come first: {first:?}");
    sampler.sample(0, |sample| sample.energy_mj.is_some());
}

#[test]
fn the_handle_waits_for_no_driver_that_hangs() {
    let mut driver = Driver::new(&Header::new([Device::h100(0)]));
    let Sampler { sampler, records } = driver.start();
    driver.say(Line::call(monotonic_ns(), "*").delay(Duration::from_secs(60)).lock());
    while !matches!(records.recv_timeout(PATIENCE).unwrap(), (_, GpuRecord::Lost { .. })) {}
    let began = Instant::now();
    for _ in 0..10_000 {
        sampler.poke();
        sampler.set_active(Which::All, true);
    }
    assert!(!sampler.cost().calls.is_empty());
    drop(sampler);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    driver.say(Line::call(monotonic_ns(), "*"));
    // Its end is that of the sink, and nothing comes before it.
    let rest: Vec<_> = records.iter().collect();
    assert!(rest.is_empty(), "{rest:?}");
}

#[test]
fn a_driver_that_hangs_at_the_start_is_waited_for_a_second_alone() {
    let mut driver = Driver::new(&Header::new([Device::h100(0)]));
    driver.say(Line::call(0, "nvmlDeviceGetName").delay(Duration::from_secs(60)));
    let sampler = driver.start();
    assert_eq!(sampler.lost().0, None);
    driver.say(Line::call(monotonic_ns(), "nvmlDeviceGetName"));
    assert_eq!(sampler.devices().len(), 1);
    sampler.sample(0, |sample| sample.energy_mj.is_some());
}

#[test]
fn a_gpu_that_is_lost_comes_back_and_the_others_never_went() {
    let mut driver = Driver::new(&Header::new([Device::h100(0), Device::h100(1)]));
    let sampler = driver.start();
    sampler.sampler.set_active(Which::All, true);
    sampler.sample(1, |_| true);
    driver.say(Line::at(monotonic_ns(), 1).lost(true));
    let (device, reason) = sampler.lost();
    assert_eq!(device, Some(1));
    assert!(reason.contains("fell off the bus") || reason.contains("fallen off the bus"), "{reason}");
    let mut others = 0;
    sampler.await_some("looks at the other", |_, record| {
        if let GpuRecord::Samples(samples) = record {
            assert!(samples.iter().all(|sample| sample.device == 0), "a lost device is no idle one: {samples:?}");
            others += 1;
        }
        (others == 10).then_some(())
    });
    driver.say(Line::at(monotonic_ns(), 1).lost(false));
    assert_eq!(sampler.devices().len(), 2);
    sampler.sample(1, |sample| sample.energy_mj.is_some());
}

#[test]
fn errors_that_the_driver_reports_arrive_with_their_device() {
    let mut driver = Driver::new(&Header::new([Device::h100(0), Device::h100(1)]));
    let sampler = driver.start();
    // The registration is there once the driver was asked for it.
    while count(&sampler.sampler.cost(), "nvmlDeviceRegisterEvents") < 2 {
        sampler.sample(0, |_| true);
    }
    driver.say(Line::at(monotonic_ns(), 1).xid(79));
    let xid = sampler.await_some("XID", |_, record| match record {
        GpuRecord::Xid { device, code } => Some((*device, *code)),
        _ => None,
    });
    assert_eq!(xid, (Some(1), 79));
}

#[test]
fn a_library_that_is_missing_is_an_error_that_says_so() {
    let library = PathBuf::from("/nowhere/libnvidia-ml.so.1");
    let settings = Settings { library: Some(library), ..Settings::default() };
    let Err(error) = GpuSampler::start(&settings, |_, _| ()) else { panic!("there is no such library") };
    assert!(matches!(error, GpuError::Library { .. }), "{error}");
    assert!(error.to_string().starts_with("/nowhere/libnvidia-ml.so.1: "), "{error}");
    let [check] = &gpu::checks(&settings)[..] else { panic!("a host without GPUs has one line") };
    assert!(!check.works && check.detail.contains("/nowhere/libnvidia-ml.so.1"), "{check:?}");
}

#[test]
fn symbols_of_newer_drivers_may_be_missing_and_are_not_asked_for_again() {
    let missing = [
        "nvmlDeviceGetFieldValues",
        "nvmlDeviceGetProcessUtilization",
        "nvmlDeviceGetMPSComputeRunningProcesses_v3",
        "nvmlGpmQueryDeviceSupport",
        "nvmlDeviceGetSupportedEventTypes",
    ];
    let mut driver = Driver::without(&Header::new([Device::h100(0)]), &missing);
    driver.say(Line::at(monotonic_ns(), 0).power_w(200.0).process(Process::new(5, 100)));
    let sampler = driver.start();
    sampler.sampler.set_active(Which::All, true);
    assert_eq!(sampler.processes(0, |_| true), [DeviceProcess { pid: 5, memory: Some(100 << 20) }]);
    for _ in 0..20 {
        let sample = sampler.sample(0, |sample| sample.energy_mj.is_some());
        assert_eq!((sample.power_mw, sample.violations.power_ns, sample.gpm), (Some(200_000), None, None));
    }
    let cost = sampler.sampler.cost();
    // Once for the count of links, once for the fast counters and once for the slow ones.
    assert!(count(&cost, "nvmlDeviceGetFieldValues") <= 3, "{cost:?}");
    for once in &missing[1..] {
        assert!(count(&cost, once) <= 1, "{once}: {cost:?}");
    }
}

#[test]
fn what_a_device_does_not_support_is_not_asked_for_again() {
    let mut driver = Driver::new(&Header::new([Device::h100(0).gpm(false), Device::h100(1)]));
    driver.say(Line::call(0, "nvmlDeviceGetUtilizationRates").returns(3).device(0));
    driver.say(Line::call(0, "nvmlDeviceGetFieldValues").returns(3).field(186).device(0));
    let sampler = driver.start();
    sampler.sampler.set_active(Which::All, true);
    for _ in 0..20 {
        let sample = sampler.sample(0, |sample| sample.energy_mj.is_some());
        assert_eq!((sample.utilization, sample.gpm), (None, None));
    }
    let sample = sampler.sample(0, |sample| sample.energy_mj.is_some());
    assert!(sample.power_mw.is_some(), "the older call has it: {sample:?}");
    assert_eq!(sampler.sample(1, |sample| sample.energy_mj.is_some()).utilization, Some(0), "an idle device says so");
    let rates =
        sampler.sampler.cost().calls.iter().find(|c| c.name == "nvmlDeviceGetUtilizationRates").copied().unwrap();
    assert_eq!(rates.failed, 1, "{rates:?}");
}

#[test]
fn a_call_that_fails_is_no_idle_gpu_and_is_tried_again() {
    let mut driver = Driver::new(&Header::new([Device::h100(0)]));
    driver.say(Line::call(0, "nvmlDeviceGetUtilizationRates").returns(999));
    let sampler = driver.start();
    sampler.sampler.set_active(Which::All, true);
    for _ in 0..3 {
        assert_eq!(sampler.sample(0, |sample| sample.energy_mj.is_some()).utilization, None);
    }
    driver.say(Line::call(monotonic_ns(), "nvmlDeviceGetUtilizationRates"));
    assert_eq!(sampler.sample(0, |sample| sample.utilization.is_some()).utilization, Some(0));
}

#[test]
fn a_list_that_grows_while_it_is_read_and_processes_under_mps_are_whole() {
    let mut driver = Driver::new(&Header::new([Device::h100(0)]));
    let late = (100..120).map(|pid| Process::new(pid, 10)).collect();
    driver.say(
        Line::at(monotonic_ns(), 0)
            .processes(vec![Process::new(1, 10), Process::hidden(2), Process::new(3, 30).kind(Kind::Mps)])
            .late_processes(late),
    );
    let sampler = driver.start();
    let processes = sampler.processes(0, |_| true);
    assert_eq!(processes.len(), 23, "{processes:?}");
    assert_eq!(processes[1], DeviceProcess { pid: 2, memory: None });
    assert_eq!(processes[2], DeviceProcess { pid: 3, memory: Some(30 << 20) });
}

#[test]
fn a_poke_brings_lists_and_nobody_is_an_empty_list() {
    let mut driver = Driver::new(&Header::new([Device::h100(0)]));
    let sampler = driver.start();
    assert_eq!(sampler.processes(0, |_| true), []);
    let nobody = sampler.await_some("utilization", |_, record| match record {
        GpuRecord::Utilization { device: 0, processes } => Some(processes.clone()),
        _ => None,
    });
    assert_eq!(nobody, []);
    driver.say(Line::at(monotonic_ns(), 0).process(Process::new(42, 512)));
    let began = Instant::now();
    sampler.sampler.poke();
    assert_eq!(sampler.processes(0, |list| !list.is_empty()), [DeviceProcess { pid: 42, memory: Some(512 << 20) }]);
    assert!(began.elapsed() < Duration::from_secs(8), "not by the next regular list: {:?}", began.elapsed());
}

#[test]
fn mig_instances_are_devices_without_utilization() {
    let divided = Device::h100(0).mig(1, 0, 10_240).mig(2, 0, 20_480);
    let mut driver = Driver::new(&Header::new([divided, Device::h100(1)]));
    driver.say(
        Line::at(monotonic_ns(), 0)
            .power_w(300.0)
            .util(80)
            .processes(vec![Process::new(11, 1000).on_mig(1).uses(50, 5), Process::new(12, 2000).on_mig(2)]),
    );
    let sampler = driver.start();
    let devices = sampler.devices();
    let of: Vec<_> = devices.iter().map(|info| (info.device, info.parent, info.memory_bytes)).collect();
    let whole = Some(81_559 << 20);
    assert_eq!(
        of,
        [(0, None, whole), (1, None, whole), (2, Some(0), Some(10_240 << 20)), (3, Some(0), Some(20_480 << 20))]
    );
    assert!(devices[2].uuid.starts_with("MIG-"));
    sampler.sampler.set_active(Which::These(&[3]), true);
    let (mut parents, mut instances) = (0, 0);
    let named = sampler.await_some("the instances' ids, and looks", |_, record| {
        match record {
            GpuRecord::Samples(samples) => {
                for sample in samples.iter().filter(|sample| sample.device != 1) {
                    assert_eq!(sample.utilization, None, "{sample:?}");
                    match sample.device {
                        0 => parents += usize::from(sample.energy_mj.is_some()),
                        _ => {
                            assert_eq!(sample.energy_mj, None, "{sample:?}");
                            instances += usize::from(sample.memory_used.is_some());
                        }
                    }
                }
            }
            GpuRecord::Processes { device, processes } => {
                let expected: &[u32] = match device {
                    2 => &[11],
                    3 => &[12],
                    1 => &[],
                    _ => panic!("the instances of a divided device have its processes: {record:?}"),
                };
                assert_eq!(processes.iter().map(|process| process.pid).collect::<Vec<_>>(), expected);
            }
            GpuRecord::Utilization { device, .. } => assert_eq!(*device, 1, "{record:?}"),
            GpuRecord::Devices(devices) => {
                if let ids @ [Some(_), Some(_)] = [devices[2].instance, devices[3].instance] {
                    return Some(ids);
                }
            }
            _ => {}
        }
        None
    });
    assert_eq!(named, [Some((1, 0)), Some((2, 0))]);
    sampler.sample(0, |sample| {
        parents += usize::from(sample.energy_mj.is_some());
        parents >= 5
    });
    assert!(instances >= 2);
}

#[test]
fn doctor_says_per_device_what_is_read_and_why_not() {
    let mut driver = Driver::new(&Header::new([Device::h100(0), Device::h100(1).gpm(false), Device::h100(2)]));
    driver.say(Line::call(0, "nvmlDeviceGetComputeRunningProcesses_v3").returns(4).device(1));
    driver.say(Line::at(0, 2).lost(true));
    let checks = gpu::checks(&driver.settings());
    let detail = |n: usize| (checks[n].works, checks[n].detail.as_str());
    assert!(checks[0].detail.contains("driver 580.95.05"), "{checks:?}");
    let (works, first) = detail(1);
    assert!(
        works && first.starts_with("0: Fake H100 (GPU-fake-0), no MIG instances; read: energy, power, "),
        "{first}"
    );
    assert!(first.contains("GPM metrics") && first.contains("processes"), "{first}");
    let (works, second) = detail(2);
    assert!(works && second.contains("processes (the driver refuses it to this user: run as root)"), "{second}");
    assert!(second.contains("GPM metrics (the device does not have it)"), "{second}");
    let (works, third) = detail(3);
    assert!(!works && third.starts_with("2: "), "{third}");
    assert!(checks.iter().any(|check| check.name == "GPU access"), "{checks:?}");
    assert!(checks.iter().any(|check| check.name == "GPU processes"), "{checks:?}");
}
