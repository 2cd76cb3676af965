//! How long every call takes on a machine, for `cargo xtask gpu-check`.
//!
//! Owns the repetition and the statistics; what is asked, and how, is the sampler's own code. No budget holds here.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use nvml_wrapper::error::NvmlError;

use super::{
    DeviceInfo, DeviceSample, GpuError, NvmlCost, Settings, library,
    meter::{Call, Meter, Watch},
    nvml::{Devices, Lost},
};
use crate::{kernel::clock, time::Mono};

/// Time between two rounds: more than what lies between two samples of GPM.
const ROUND: Duration = Duration::from_millis(150);

/// Most measurements of one call that are kept.
const MAX_SAMPLES: usize = 100_000;

/// What was found.
#[derive(Clone, Debug)]
pub struct Survey {
    /// Version of the driver; absent if it does not say.
    pub driver: Option<String>,
    /// The devices.
    pub devices: Vec<DeviceInfo>,
    /// The calls that were made.
    pub calls: Vec<CallSurvey>,
}

/// A call, made many times on all devices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallSurvey {
    /// Function of `nvml.h`.
    pub name: &'static str,
    /// How often it was made.
    pub count: usize,
    /// Half of them took at most this.
    pub median: Duration,
    /// 99 of 100 took at most this.
    pub p99: Duration,
    /// All of them did.
    pub max: Duration,
    /// What was returned in place of a value, and how often.
    pub errors: BTreeMap<String, usize>,
}

#[derive(Default)]
struct Measurements(Mutex<BTreeMap<Call, Measured>>);

#[derive(Default)]
struct Measured {
    times: Vec<Duration>,
    errors: BTreeMap<String, usize>,
}

impl Watch for Measurements {
    fn begin(&self, _: Mono) {}

    fn end(&self, call: Call, took: Duration, error: Option<&NvmlError>) {
        let mut calls = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Measured { times, errors } = calls.entry(call).or_default();
        if times.len() < MAX_SAMPLES {
            times.push(took);
        }
        if let Some(error) = error {
            *errors.entry(error.to_string()).or_default() += 1;
        }
    }
}

impl Measurements {
    fn calls(&self) -> Vec<CallSurvey> {
        let calls = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        let of = |(call, Measured { mut times, errors }): (Call, Measured)| {
            times.sort_unstable();
            let (median, p99, max) = (quantile(&times, 50), quantile(&times, 99), quantile(&times, 100));
            CallSurvey { name: call.name(), count: times.len(), median, p99, max, errors }
        };
        calls.into_iter().map(of).collect()
    }
}

/// The smallest of sorted times that so many of a hundred do not exceed.
fn quantile(sorted: &[Duration], percent: usize) -> Duration {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or_default()
}

/// Makes every call that the sampler makes, so many times on each device.
pub fn survey(settings: &Settings, rounds: usize) -> Result<Survey, GpuError> {
    let measurements = Arc::new(Measurements::default());
    let meter = Meter::new(clock::now, Arc::clone(&measurements) as _);
    let nvml = library::load(settings, &meter)?;
    let driver = meter.time(Call::DriverVersion, || nvml.sys_driver_version()).0.ok();
    let (mut devices, _) = Devices::open(&nvml, meter.clone()).map_err(GpuError::List)?;
    let infos = devices.infos();
    for _ in 0..rounds {
        // Anew, so that what is not supported is asked each time: its latency is a cost of those who do not remember.
        let (mut fresh, _) = Devices::open(&nvml, meter.clone()).map_err(GpuError::List)?;
        for info in &infos {
            // A device that is lost has its errors among the others.
            let _ = round(&mut fresh, info.device);
            let _ = devices.gpm(info.device, &mut DeviceSample::default());
        }
        thread::sleep(ROUND);
    }
    Ok(Survey { driver, devices: infos, calls: measurements.calls() })
}

fn round(devices: &mut Devices<'_>, device: u32) -> Result<(), Lost> {
    let mut sample = DeviceSample::default();
    devices.fast(device, &mut sample)?;
    devices.slow(device, &mut sample)?;
    devices.utilization(device, &mut sample)?;
    devices.processes(device)?;
    devices.process_utilization(device)?;
    Ok(())
}

/// Reads the cheap counters of all devices so many times a second, whatever it costs: to see what that does to others.
pub fn poll_steadily(settings: &Settings, hz: u32, time: Duration) -> Result<NvmlCost, GpuError> {
    let meter = Meter::new(clock::now, Arc::new(()));
    let nvml = library::load(settings, &meter)?;
    let (mut devices, _) = Devices::open(&nvml, meter.clone()).map_err(GpuError::List)?;
    // What was spent on finding the devices is none of the polling's.
    let polling = Meter::new(clock::now, Arc::new(()));
    devices.measure_with(polling.clone());
    let interval = Duration::from_secs(1) / hz.max(1);
    let began = polling.now();
    for n in 1.. {
        for info in devices.infos() {
            let mut sample = DeviceSample::default();
            let _ = devices.fast(info.device, &mut sample).and_then(|()| devices.utilization(info.device, &mut sample));
        }
        let passed = polling.now().since(began);
        if passed >= time {
            break;
        }
        thread::sleep((interval * n).saturating_sub(passed));
    }
    Ok(polling.cost())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_measured_values() {
        let times: Vec<_> = (1..=50).map(Duration::from_micros).collect();
        assert_eq!(quantile(&times, 50), Duration::from_micros(25));
        assert_eq!(quantile(&times, 99), Duration::from_micros(50));
        assert_eq!(quantile(&times[..1], 50), Duration::from_micros(1));
        assert_eq!(quantile(&[], 99), Duration::ZERO);
    }

    #[test]
    fn errors_are_counted_by_what_they_say() {
        let measurements = Measurements::default();
        measurements.end(Call::Power, Duration::from_micros(2), None);
        measurements.end(Call::Power, Duration::from_micros(4), Some(&NvmlError::NotSupported));
        let [call] = &measurements.calls()[..] else { panic!("one call was made") };
        assert_eq!((call.name, call.count, call.max), ("nvmlDeviceGetPowerUsage", 2, Duration::from_micros(4)));
        assert_eq!(call.errors.values().sum::<usize>(), 1);
    }
}
