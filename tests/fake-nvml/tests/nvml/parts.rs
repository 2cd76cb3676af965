//! Parts of devices: MIG instances, and GPM's metrics of parts of the silicon.

use nvml_wrapper::{enums::gpm::GpmMetricId, error::NvmlError, gpm::gpm_metrics_get};

use super::*;
use inferscope_fake_nvml::timeline::Process;

/// Result, GPU instance and compute instance of a handle, which the wrapper does not ask for.
fn instance(fake: &Fake, device: &nvml_wrapper::Device<'_>) -> (u32, u32, u32) {
    let (mut gi, mut ci) = (u32::MAX, u32::MAX);
    // SAFETY: the handle is used no longer than its device.
    let handle = unsafe { device.handle() };
    // SAFETY: there is a place for the id.
    let first = unsafe { fake.nvml.lib().nvmlDeviceGetGpuInstanceId(handle, &raw mut gi) };
    // SAFETY: there is a place for the id.
    let second = unsafe { fake.nvml.lib().nvmlDeviceGetComputeInstanceId(handle, &raw mut ci) };
    assert_eq!(first, second);
    (first, gi, ci)
}

#[test]
fn mig_instances_are_devices_of_their_own() {
    let header = Header::new([Device::h100(0).mig(1, 0, 10_240).mig(2, 0, 20_480), Device::h100(1)]).manual();
    let processes = vec![Process::new(5, 100).on_mig(1), Process::new(6, 200).on_mig(2)];
    let fake = Fake::with(&header, &[Line::at(0, 0).processes(processes).power_w(300.0)]);
    let parent = fake.device(0);
    assert_eq!(parent.mig_mode().unwrap().current, 1);
    assert_eq!(fake.device(1).mig_mode().unwrap().current, 0);
    assert_eq!(parent.mig_device_count().unwrap(), 7);
    assert!(!parent.mig_is_mig_device_handle().unwrap());

    let first = parent.mig_device_by_index(0).unwrap();
    let second = parent.mig_device_by_index(1).unwrap();
    assert!(matches!(parent.mig_device_by_index(2), Err(NvmlError::NotFound)));
    assert!(matches!(parent.mig_device_by_index(7), Err(NvmlError::InvalidArg)));
    assert!(matches!(fake.device(1).mig_device_by_index(0), Err(NvmlError::NotSupported)));
    assert!(first.mig_is_mig_device_handle().unwrap());
    assert_eq!(first.uuid().unwrap(), "MIG-fake-0-1-0");
    assert_eq!(fake.nvml.device_by_uuid("MIG-fake-0-2-0").unwrap().index().unwrap(), 1);
    assert_eq!(first.name().unwrap(), "Fake H100 MIG 10gb");
    assert_eq!(second.mig_parent_device().unwrap().uuid().unwrap(), "GPU-fake-0");
    assert_eq!(instance(&fake, &second), (0, 2, 0));
    assert_eq!(instance(&fake, &parent).0, nvml_wrapper_sys::bindings::nvmlReturn_enum_NVML_ERROR_NOT_SUPPORTED);

    let memory = second.memory_info().unwrap();
    assert_eq!((memory.total, memory.used), (20_480 << 20, 200 << 20));
    let list = second.running_compute_processes().unwrap();
    assert_eq!((list.len(), list[0].pid, list[0].gpu_instance_id), (1, 6, Some(2)));
    assert_eq!(parent.running_compute_processes().unwrap().len(), 2);

    // What the device's sensors say is not of an instance, and use is not told at all.
    assert_eq!(parent.power_usage().unwrap(), 300_000);
    assert!(matches!(first.power_usage(), Err(NvmlError::NotSupported)));
    assert!(matches!(first.total_energy_consumption(), Err(NvmlError::NotSupported)));
    for device in [&parent, &first] {
        assert!(matches!(device.utilization_rates(), Err(NvmlError::NotSupported)));
        assert!(matches!(device.process_utilization_stats(None), Err(NvmlError::NotSupported)));
    }
}

/// Metrics between 0 and a time, of a device or a MIG instance.
fn metrics(fake: &mut Fake, gi: Option<u32>, to: u64, ids: &[GpmMetricId]) -> Result<Vec<Option<f64>>, NvmlError> {
    fake.now(0);
    let Fake { nvml, timeline, .. } = fake;
    let device = nvml.device_by_index(0)?;
    let sample = || gi.map_or_else(|| device.gpm_sample(), |gi| device.gpm_mig_sample(gi));
    let first = sample()?;
    timeline.write(&[Line::now(to)]).unwrap();
    let second = sample()?;
    let metrics = gpm_metrics_get(nvml, &first, &second, ids)?;
    Ok(metrics.into_iter().map(|metric| metric.ok().map(|metric| metric.value)).collect())
}

#[test]
fn gpm_metrics_are_means_between_two_samples() {
    let mut fake = Fake::one();
    assert!(fake.device(0).gpm_support().unwrap());
    fake.write(&[
        Line::at(50 * MS, 0).util(80).mem_util(40).pcie_tx_kib_s(2048).gpm(3, 62.5),
        Line::at(100 * MS, 0).gpm(2, 12.0),
    ]);
    let ids = [
        GpmMetricId::GraphicsUtil,
        GpmMetricId::SmUtil,
        GpmMetricId::SmOccupancy,
        GpmMetricId::DramBwUtil,
        GpmMetricId::PcieTxPerSec,
        GpmMetricId::AnyTensorUtil,
    ];
    let values = metrics(&mut fake, None, 200 * MS, &ids).unwrap();
    assert_eq!(values, [Some(60.0), Some(6.0), Some(46.875), Some(30.0), Some(1.5), None]);
}

#[test]
fn a_pair_of_gpm_samples_is_100_ms_apart() {
    let mut fake = Fake::one();
    let ids = [GpmMetricId::SmUtil];
    assert!(matches!(metrics(&mut fake, None, 99 * MS, &ids), Err(NvmlError::InvalidArg)));
    assert_eq!(metrics(&mut fake, None, 100 * MS, &ids).unwrap(), [Some(0.0)]);
}

#[test]
fn a_device_without_gpm_says_so() {
    let mut fake = Fake::new(&Header::new([Device::h100(0).gpm(false)]).manual());
    assert!(!fake.device(0).gpm_support().unwrap());
    let ids = [GpmMetricId::SmUtil];
    assert!(matches!(metrics(&mut fake, None, 100 * MS, &ids), Err(NvmlError::NotSupported)));
}

#[test]
fn gpm_of_a_mig_instance_is_of_its_processes() {
    let mut fake = Fake::new(&Header::new([Device::h100(0).mig(1, 0, 10_240).mig(2, 0, 10_240)]).manual());
    let processes = [(5, 1, 40), (6, 1, 20), (7, 2, 90)];
    let processes = processes.map(|(pid, gi, sm)| Process::new(pid, 1).on_mig(gi).uses(sm, 10));
    fake.write(&[Line::at(0, 0).processes(processes.to_vec())]);
    let ids = [GpmMetricId::SmUtil, GpmMetricId::DramBwUtil, GpmMetricId::SmOccupancy];
    assert_eq!(metrics(&mut fake, Some(1), 100 * MS, &ids).unwrap(), [Some(60.0), Some(20.0), None]);
    assert!(matches!(metrics(&mut fake, Some(3), 100 * MS, &ids), Err(NvmlError::InvalidArg)));
}
