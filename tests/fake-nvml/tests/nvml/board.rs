//! Devices and what they measure.

use nvml_wrapper::{
    bitmasks::device::ThrottleReasons,
    enum_wrappers::device::{
        Clock, EccCounter, MemoryError, MemoryLocation, PcieUtilCounter, PerformancePolicy, Sampling, TemperatureSensor,
    },
    enums::device::{DeviceArchitecture, SampleValue},
    error::NvmlError,
};

use super::*;
use inferscope_fake_nvml::timeline::{Process, Violation, monotonic_ns};

#[test]
fn versions_and_devices_are_the_headers() {
    let fake = Fake::new(&Header::new([Device::h100(0), Device::h100(1).gpm(false)]).manual().driver("535.183.01"));
    assert_eq!(fake.nvml.sys_driver_version().unwrap(), "535.183.01");
    assert_eq!(fake.nvml.sys_nvml_version().unwrap(), "13.535.183.01");
    assert_eq!(fake.nvml.sys_cuda_driver_version().unwrap(), 13_000);
    assert_eq!(fake.nvml.device_count().unwrap(), 2);

    let second = fake.nvml.device_by_uuid("GPU-fake-1").unwrap();
    assert_eq!(second.index().unwrap(), 1);
    assert_eq!(second.name().unwrap(), "Fake H100");
    assert_eq!(second.uuid().unwrap(), "GPU-fake-1");
    assert_eq!(second.minor_number().unwrap(), 1);
    assert_eq!(second.architecture().unwrap(), DeviceArchitecture::Ampere);
    assert_eq!(fake.device(0).architecture().unwrap(), DeviceArchitecture::Hopper);
    assert_eq!(fake.nvml.device_by_pci_bus_id("0000:02:00.0").unwrap().index().unwrap(), 1);
    let pci = second.pci_info().unwrap();
    assert_eq!((pci.domain, pci.bus, pci.device, pci.bus_id.as_str()), (0, 2, 0, "00000000:02:00.0"));

    assert!(matches!(fake.nvml.device_by_index(2), Err(NvmlError::InvalidArg)));
    assert!(matches!(fake.nvml.device_by_uuid("GPU-fake-2"), Err(NvmlError::NotFound)));
    assert!(matches!(fake.nvml.device_by_pci_bus_id("0000:03:00.0"), Err(NvmlError::NotFound)));
}

#[test]
fn an_idle_device_is_idle() {
    let fake = Fake::one();
    let device = fake.device(0);
    assert_eq!(device.power_usage().unwrap(), 120_000);
    assert_eq!(device.power_management_limit().unwrap(), 700_000);
    assert_eq!(device.enforced_power_limit().unwrap(), 700_000);
    assert_eq!(device.power_management_limit_constraints().unwrap().max_limit, 700_000);
    assert_eq!(device.utilization_rates().unwrap().gpu, 0);
    assert_eq!(device.memory_info().unwrap().total, 81_559 << 20);
    assert_eq!(device.memory_info().unwrap().used, 0);
    assert_eq!(device.current_throttle_reasons().unwrap(), ThrottleReasons::NONE);
    assert_eq!(device.total_energy_consumption().unwrap(), 0);
}

#[test]
fn state_holds_from_its_time_on_and_keeps_what_a_line_does_not_name() {
    let mut fake = Fake::one();
    fake.write(&[
        Line::at(10, 0).power_w(345.5).util(87).mem_util(40).temperature(65).sm_clock_mhz(1980).mem_clock_mhz(2600),
        Line::at(10, 0).throttle_reasons(4).process(Process::new(7, 4096)),
        Line::at(20, 0).util(50),
        Line::now(9),
    ]);
    assert_eq!(fake.device(0).power_usage().unwrap(), 120_000);
    fake.now(10);
    let device = fake.nvml.device_by_index(0).unwrap();
    assert_eq!(device.power_usage().unwrap(), 345_500);
    let utilization = device.utilization_rates().unwrap();
    assert_eq!((utilization.gpu, utilization.memory), (87, 40));
    assert_eq!(device.temperature(TemperatureSensor::Gpu).unwrap(), 65);
    assert_eq!(device.clock_info(Clock::SM).unwrap(), 1980);
    assert_eq!(device.clock_info(Clock::Memory).unwrap(), 2600);
    assert_eq!(device.current_throttle_reasons().unwrap(), ThrottleReasons::SW_POWER_CAP);
    let memory = device.memory_info().unwrap();
    assert_eq!((memory.used, memory.free), (4096 << 20, (81_559 - 4096) << 20));
    fake.now(20);
    assert_eq!(fake.device(0).utilization_rates().unwrap().gpu, 50);
    assert_eq!(fake.device(0).power_usage().unwrap(), 345_500);
}

#[test]
fn energy_is_the_exact_integral_at_the_last_refresh() {
    let mut fake = Fake::one();
    // 120 W for 150 ms, 345.5 W for 100 ms, 0.001 W from then on.
    fake.write(&[Line::at(150 * MS, 0).power_w(345.5), Line::at(250 * MS, 0).power_w(0.001)]);
    for (now_ms, millijoules) in [
        (0, 0),
        (99, 0),
        (100, 12_000),
        (199, 12_000),
        (200, 12_000 + 6_000 + 17_275),
        (299, 35_275),
        (300, 18_000 + 34_550),
        // One millijoule per second, rounded down.
        (1_200, 52_550),
        (1_300, 52_551),
    ] {
        fake.now(now_ms * MS);
        assert_eq!(fake.device(0).total_energy_consumption().unwrap(), millijoules, "at {now_ms} ms");
    }
}

#[test]
fn a_late_line_counts_from_its_own_time_but_takes_nothing_back() {
    let mut fake = Fake::one();
    fake.now(1000 * MS);
    assert_eq!(fake.device(0).total_energy_consumption().unwrap(), 120_000);
    fake.write(&[Line::at(500 * MS, 0).power_w(220.0)]);
    assert_eq!(fake.device(0).total_energy_consumption().unwrap(), 170_000);
    fake.write(&[Line::at(400 * MS, 0).power_w(0.0)]);
    assert_eq!(fake.device(0).total_energy_consumption().unwrap(), 170_000);
    // 48 J, and 220 W from 500 ms on: 40.8 J of the counter's lead are left at 1 s.
    fake.now(1100 * MS);
    assert_eq!(fake.device(0).total_energy_consumption().unwrap(), 48_000 + 132_000);
}

#[test]
fn energy_counts_from_the_headers_start() {
    let mut header = Header::new([Device::h100(0)]).manual();
    header.start_ns = Some(70 * MS);
    let mut fake = Fake::new(&header);
    fake.now(169 * MS);
    assert_eq!(fake.device(0).total_energy_consumption().unwrap(), 0);
    fake.now(170 * MS);
    assert_eq!(fake.device(0).total_energy_consumption().unwrap(), 12_000);
}

#[test]
fn monotonic_times_are_the_kernels() {
    let start = monotonic_ns() - 10_000 * MS;
    let mut header = Header::new([Device::h100(0)]);
    header.start_ns = Some(start);
    let lines = [Line::at(start, 0).power_w(1000.0), Line::at(start + 1_000_000 * MS, 0).power_w(1.0)];
    let fake = Fake::with(&header, &lines);
    let from = monotonic_ns() - start;
    let energy = fake.device(0).total_energy_consumption().unwrap();
    let to = monotonic_ns() - start;
    // At 1 kW a millijoule is a microsecond.
    assert!((from / 1000 - 100_000..=to / 1000).contains(&energy), "{energy} between {from} and {to}");
    assert_eq!(energy % 100_000, 0);
    assert_eq!(fake.device(0).power_usage().unwrap(), 1_000_000);
}

#[test]
fn violations_and_memory_errors_add_up() {
    let mut fake = Fake::one();
    let violation = Violation { power_ns: 5, thermal_ns: 7, ..Violation::default() };
    fake.write(&[
        Line::at(1, 0).violation(violation).ecc(1),
        Line::at(2, 0).violation(violation).ecc(2),
        Line::at(9, 0).violation(violation),
        Line::now(3),
    ]);
    let device = fake.device(0);
    assert_eq!(device.violation_status(PerformancePolicy::Power).unwrap().violation_time, 10);
    assert_eq!(device.violation_status(PerformancePolicy::Thermal).unwrap().violation_time, 14);
    assert_eq!(device.violation_status(PerformancePolicy::BoardLimit).unwrap().violation_time, 0);
    assert!(device.is_ecc_enabled().unwrap().currently_enabled);
    assert_eq!(device.total_ecc_errors(MemoryError::Uncorrected, EccCounter::Volatile).unwrap(), 3);
    assert_eq!(device.total_ecc_errors(MemoryError::Corrected, EccCounter::Aggregate).unwrap(), 0);
    let counter = |location| device.memory_error_counter(MemoryError::Uncorrected, EccCounter::Volatile, location);
    assert_eq!(counter(MemoryLocation::Device).unwrap(), 3);
    assert!(matches!(counter(MemoryLocation::L2Cache), Err(NvmlError::NotSupported)));
}

#[test]
fn pcie_traffic_is_told_as_a_rate() {
    let mut fake = Fake::one();
    fake.write(&[Line::at(0, 0).pcie_tx_kib_s(2048).pcie_rx_kib_s(10), Line::now(1)]);
    assert_eq!(fake.device(0).pcie_throughput(PcieUtilCounter::Send).unwrap(), 2048);
    assert_eq!(fake.device(0).pcie_throughput(PcieUtilCounter::Receive).unwrap(), 10);
}

#[test]
fn samples_are_one_per_refresh_after_what_was_seen() {
    let mut fake = Fake::one();
    assert!(matches!(fake.device(0).samples(Sampling::Power, None), Err(NvmlError::NotFound)));
    fake.write(&[Line::at(150 * MS, 0).power_w(320.0).util(80).sm_clock_mhz(1980), Line::now(350 * MS)]);
    let samples = |kind, last_seen: Option<u64>| -> Vec<(u64, u32)> {
        let samples = fake.device(0).samples(kind, last_seen).unwrap();
        let value = |value| match value {
            SampleValue::U32(value) => value,
            other => panic!("{other:?}"),
        };
        samples.into_iter().map(|sample| (sample.timestamp, value(sample.value))).collect()
    };
    assert_eq!(samples(Sampling::Power, None), [(100_000, 120_000), (200_000, 220_000), (300_000, 320_000)]);
    assert_eq!(samples(Sampling::Power, Some(200_000)), [(300_000, 320_000)]);
    assert_eq!(samples(Sampling::GpuUtilization, None), [(100_000, 0), (200_000, 40), (300_000, 80)]);
    assert_eq!(samples(Sampling::ProcessorClock, None), [(100_000, 345), (200_000, 1980), (300_000, 1980)]);
    assert!(matches!(fake.device(0).samples(Sampling::Power, 300_000), Err(NvmlError::NotFound)));
    assert!(matches!(fake.device(0).samples(Sampling::EncoderUtilization, None), Err(NvmlError::NotSupported)));
}

#[test]
fn the_driver_forgets_old_samples() {
    let mut fake = Fake::one();
    fake.now(60_000 * MS);
    assert_eq!(fake.device(0).samples(Sampling::Power, None).unwrap().len(), 120);
}
