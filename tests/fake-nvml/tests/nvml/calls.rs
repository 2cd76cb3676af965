//! The fate of calls: errors, latency, loss, absence; and the library's own life.

use std::{
    process::Command,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use nvml_wrapper::error::NvmlError;

use super::*;
use inferscope_fake_nvml::timeline::ENV;

#[test]
fn a_call_returns_what_the_script_says_from_its_time_on() {
    let mut fake = Fake::new(&Header::new([Device::h100(0), Device::h100(1)]).manual());
    fake.write(&[
        Line::call(10, "nvmlDeviceGetPowerUsage").returns(4).device(1),
        Line::call(20, "nvmlDeviceGetPowerUsage").returns(3),
        Line::call(30, "nvmlDeviceGetPowerUsage"),
    ]);
    let mut power = |now| {
        fake.now(now);
        [0, 1].map(|index| fake.device(index).power_usage())
    };
    assert!(matches!(power(9), [Ok(_), Ok(_)]));
    assert!(matches!(power(10), [Ok(_), Err(NvmlError::NoPermission)]));
    assert!(matches!(power(20), [Err(NvmlError::NotSupported), Err(NvmlError::NotSupported)]));
    assert!(matches!(power(30), [Ok(_), Ok(_)]));
    assert!(fake.device(0).utilization_rates().is_ok());
}

#[test]
fn a_device_is_lost_and_comes_back() {
    let mut fake = Fake::new(&Header::new([Device::h100(0), Device::h100(1)]).manual());
    fake.write(&[Line::at(10, 0).lost(true), Line::at(20, 0).lost(false), Line::now(10)]);
    // The handle is from before.
    let Fake { nvml, timeline, .. } = &mut fake;
    let other = nvml.device_by_index(1).unwrap();
    timeline.write(&[Line::now(9)]).unwrap();
    let device = nvml.device_by_index(0).unwrap();
    assert!(device.power_usage().is_ok());
    timeline.write(&[Line::now(10)]).unwrap();
    assert!(matches!(device.power_usage(), Err(NvmlError::GpuLost)));
    assert!(matches!(device.field_values_for(&[]), Err(NvmlError::GpuLost)));
    assert!(matches!(nvml.device_by_index(0), Err(NvmlError::GpuLost)));
    assert_eq!(nvml.device_count().unwrap(), 2);
    assert!(other.power_usage().is_ok());
    timeline.write(&[Line::now(20)]).unwrap();
    assert!(device.power_usage().is_ok());
}

#[test]
fn a_slow_call_takes_its_time_and_holds_up_no_other() {
    let delay = Duration::from_millis(100);
    let mut fake = Fake::one();
    fake.write(&[Line::call(0, "nvmlDeviceGetPowerUsage").delay(delay)]);
    let device = fake.device(0);
    let start = Instant::now();
    let (sender, receiver) = mpsc::channel();
    thread::scope(|scope| {
        let device = &device;
        let slow = sender.clone();
        scope.spawn(move || {
            device.power_usage().unwrap();
            slow.send(("power", start.elapsed())).unwrap();
        });
        device.utilization_rates().unwrap();
        sender.send(("utilization", start.elapsed())).unwrap();
    });
    assert_eq!(receiver.recv().unwrap().0, "utilization");
    let (name, took) = receiver.recv().unwrap();
    assert_eq!(name, "power");
    assert!(took >= delay, "{took:?}");
}

/// One device of which a query of power hangs for longer than any test takes.
fn hanging(line: Line) -> Fake {
    let mut fake = Fake::one();
    fake.write(&[line.delay(Duration::from_secs(600))]);
    fake
}

const ENDS: fn() -> Line = || Line::call(0, "nvmlDeviceGetPowerUsage");

#[test]
fn a_hanging_call_ends_when_the_script_says_so() {
    let mut fake = hanging(ENDS());
    let Fake { nvml, timeline, .. } = &mut fake;
    let device = nvml.device_by_index(0).unwrap();
    thread::scope(|scope| {
        let hanging = scope.spawn(|| device.power_usage());
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(100) {
            device.utilization_rates().unwrap();
        }
        assert!(!hanging.is_finished());
        timeline.write(&[ENDS()]).unwrap();
        assert_eq!(hanging.join().unwrap().unwrap(), 120_000);
    });
}

#[test]
fn a_hanging_driver_answers_nobody() {
    let mut fake = hanging(ENDS().lock());
    let Fake { nvml, timeline, .. } = &mut fake;
    let device = nvml.device_by_index(0).unwrap();
    let (sender, answers) = mpsc::sync_channel(0);
    thread::scope(|scope| {
        let device = &device;
        let hanging = scope.spawn(move || device.power_usage());
        let other = scope.spawn(move || while sender.send(device.utilization_rates()).is_ok() {});
        // It gets answers until the call has begun that hangs.
        while answers.recv_timeout(Duration::from_secs(1)).is_ok() {}
        assert!(!hanging.is_finished());
        timeline.write(&[ENDS()]).unwrap();
        assert_eq!(hanging.join().unwrap().unwrap(), 120_000);
        answers.recv().unwrap().unwrap();
        drop(answers);
        other.join().unwrap();
    });
}

#[test]
fn an_absent_call_is_not_found() {
    let fake = Fake::new(&Header::new([Device::h100(0)]).manual().absent("nvmlDeviceGetUtilizationRates"));
    assert!(fake.device(0).power_usage().is_ok());
    // The wrapper has no name for the result of a call that is there and says that it is not.
    assert!(fake.device(0).utilization_rates().is_err());
}

#[test]
fn a_library_may_lack_symbols() {
    let fake = Fake::one();
    let names = ["nvmlDeviceGetSamples", "nvmlDeviceGetTotalEnergyConsumption"];
    let old = library::without_symbols(&fake.library, &names).unwrap();
    Timeline::create(library::beside(&old), &Header::new([Device::h100(0)]).manual()).unwrap();
    let nvml = load(&old).unwrap();
    let device = nvml.device_by_index(0).unwrap();
    assert!(device.power_usage().is_ok());
    assert!(matches!(device.total_energy_consumption(), Err(NvmlError::FailedToLoadSymbol(_))));
    assert!(fake.device(0).total_energy_consumption().is_ok());
    let unknown = library::without_symbols(&fake.library, &["nvmlDeviceGetSampl"]).unwrap_err();
    assert!(unknown.to_string().contains("has no nvmlDeviceGetSampl"), "{unknown}");
}

#[test]
fn a_script_that_is_not_understood_fails_every_call() {
    let mut fake = Fake::one();
    fake.write(&[Line::at(0, 5).util(1)]);
    assert!(matches!(fake.nvml.device_count(), Err(NvmlError::Unknown)));
    assert!(matches!(fake.nvml.device_count(), Err(NvmlError::Unknown)));
}

#[test]
fn half_a_line_waits_for_its_end() {
    use std::io::Write as _;
    let fake = Fake::one();
    let mut file = std::fs::OpenOptions::new().append(true).open(fake.timeline.path()).unwrap();
    file.write_all(br#"{"t_ns":0,"device":0,"po"#).unwrap();
    assert_eq!(fake.device(0).power_usage().unwrap(), 120_000);
    file.write_all(b"wer_w\":200}\n").unwrap();
    assert_eq!(fake.device(0).power_usage().unwrap(), 200_000);
}

#[test]
fn the_script_is_read_anew_after_a_shutdown() {
    let Fake { nvml, library, _folder, .. } = Fake::one();
    nvml.shutdown().unwrap();
    Timeline::create(library::beside(&library), &Header::new([]).manual()).unwrap();
    assert_eq!(load(&library).unwrap().device_count().unwrap(), 0);
}

#[test]
fn initialisation_may_fail() {
    let header = Header::new([Device::h100(0)]).manual();
    let Fake { nvml, library, mut timeline, _folder } = Fake::new(&header);
    nvml.shutdown().unwrap();
    timeline.write(&[Line::call(0, "nvmlInit_v2").returns(18)]).unwrap();
    assert!(matches!(load(&library), Err(NvmlError::LibRmVersionMismatch)));
}

/// In a process of its own, as a process has one environment.
#[test]
fn the_environment_names_the_script() {
    if std::env::var_os(ENV).is_some() {
        return assert_eq!(load(&library::path().unwrap()).unwrap().device_count().unwrap(), 3);
    }
    assert!(matches!(load(&library::path().unwrap()), Err(NvmlError::DriverNotLoaded)));
    let folder = tempfile::tempdir().unwrap();
    let header = Header::new((0..3).map(Device::h100)).manual();
    let timeline = Timeline::create(folder.path().join("timeline"), &header).unwrap();
    let mut again = Command::new(std::env::current_exe().unwrap());
    again.args(["--exact", "calls::the_environment_names_the_script"]).env(ENV, timeline.path());
    let output = again.output().unwrap();
    assert!(output.status.success() && String::from_utf8_lossy(&output.stdout).contains("1 passed"), "{output:?}");
}

#[test]
fn many_threads_use_it_at_once() {
    let mut fake = Fake::one();
    let Fake { nvml, timeline, .. } = &mut fake;
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let device = nvml.device_by_index(0).unwrap();
                let mut before = 0;
                for _ in 0..500 {
                    let energy = device.total_energy_consumption().unwrap();
                    assert!(energy >= before);
                    before = energy;
                }
            });
        }
        for step in 1..200 {
            let t = step * 10 * MS;
            timeline.write(&[Line::at(t, 0).power_w((step % 7 * 100) as f64), Line::now(t)]).unwrap();
        }
    });
}
