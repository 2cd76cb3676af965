//! GPM: metrics of the time between two samples, on Hopper and later.
//!
//! Owns the pair. Streaming mode, which changes the device's state, is left as it is.

use nvml_wrapper::{
    Device, Nvml,
    enums::gpm::GpmMetricId,
    error::NvmlError,
    gpm::{GpmSample, gpm_metrics_get},
};

use super::{Devices, Lost, Slot, is_lost};
use crate::gpu::{
    DeviceSample, Gpm,
    counters::{Absent, Counter},
    meter::{Call, Meter},
};

/// How often GPM may fail at first before it is left alone: guests of a vGPU claim to have it.
const TRIES: u8 = 2;

/// What is asked for, in the order of [`Gpm`]'s members.
const METRICS: [GpmMetricId; 4] =
    [GpmMetricId::SmUtil, GpmMetricId::SmOccupancy, GpmMetricId::AnyTensorUtil, GpmMetricId::DramBwUtil];

/// The last sample of a device.
#[derive(Default)]
pub(super) struct Pair<'n> {
    last: Option<GpmSample<'n>>,
    worked: bool,
    failures: u8,
}

impl<'n> Pair<'n> {
    /// The metrics since the last sample; none if this is the first.
    fn next(&mut self, nvml: &'n Nvml, meter: &Meter, handle: &Device<'n>) -> Result<Option<Gpm>, NvmlError> {
        if !self.worked && self.last.is_none() && !meter.time(Call::GpmSupport, || handle.gpm_support()).0? {
            return Err(NvmlError::NotSupported);
        }
        let sample = meter.time(Call::GpmSample, || handle.gpm_sample()).0?;
        let Some(last) = self.last.take() else {
            self.last = Some(sample);
            return Ok(None);
        };
        let metrics = meter.time(Call::GpmMetrics, || gpm_metrics_get(nvml, &last, &sample, &METRICS)).0;
        self.last = Some(sample);
        let mut values = metrics?.into_iter().map(|metric| metric.ok().and_then(|metric| hundredths(metric.value)));
        let mut next = || values.next().flatten();
        Ok(Some(Gpm { sm: next(), occupancy: next(), tensor: next(), dram: next() }))
    }
}

impl<'n> Devices<'n> {
    /// The metrics since the last time this was asked. The first time there are none; NVML wants more than 100 ms between
    /// two of them.
    pub(in crate::gpu) fn gpm(&mut self, device: u32, into: &mut DeviceSample) -> Result<(), Lost> {
        let Self { nvml, meter, slots, .. } = self;
        let Some(slot) = slots.get_mut(&device).filter(|slot| slot.support.asks(Counter::Gpm)) else { return Ok(()) };
        let Slot { handle, support, gpm, .. } = slot;
        match gpm.next(nvml, meter, handle) {
            Ok(None) => {}
            Ok(metrics) => {
                gpm.worked = true;
                support.worked(Counter::Gpm);
                into.gpm = metrics;
            }
            Err(error) if is_lost(&error) => return Err(Lost { device, reason: error.to_string() }),
            Err(error) => {
                gpm.failures = gpm.failures.saturating_add(1);
                match Absent::of(&error) {
                    // A pair that is too close is an invalid argument: no word on what the device has.
                    _ if gpm.worked || matches!(error, NvmlError::InvalidArg) => support.failing(Counter::Gpm, &error),
                    Some(absent) => support.leave_out(Counter::Gpm, absent),
                    None if gpm.failures >= TRIES => support.leave_out(Counter::Gpm, Absent::NotSupported),
                    None => support.failing(Counter::Gpm, &error),
                }
            }
        }
        Ok(())
    }
}

/// A percentage in hundredths; absent if it is none.
fn hundredths(percent: f64) -> Option<u32> {
    // Metrics of a short time are a little above 100 now and then.
    (0.0..=1000.0).contains(&percent).then(|| (percent * 100.0).round() as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentage_is_rounded_and_what_is_none_is_absent() {
        assert_eq!(hundredths(41.256), Some(4126));
        assert_eq!(hundredths(0.0), Some(0));
        assert_eq!(hundredths(f64::NAN), None);
        assert_eq!(hundredths(-1.0), None);
    }
}
