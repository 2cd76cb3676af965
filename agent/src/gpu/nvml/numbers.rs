//! Counters that are single numbers, and utilization.
//!
//! Owns the one call that gives many fields, the fall-back to calls of their own, and the members of a sample that the
//! numbers go to.

use nvml_wrapper::{
    Device,
    enum_wrappers::device::{Clock, EccCounter, MemoryError, TemperatureSensor},
    enums::device::SampleValue,
    error::NvmlError,
    structs::device::FieldId,
};

use super::{Devices, Lost, Slot, is_lost};
use crate::gpu::{
    DeviceSample, Violations,
    counters::{Counter, Source},
    meter::Call,
};

/// One number for each counter, where there was one.
type Numbers = [Option<u64>; Counter::ALL.len()];

impl<'n> Devices<'n> {
    /// Energy, power and how long clocks were held down, in one call where the driver has all of it.
    pub(in crate::gpu) fn fast(&mut self, device: u32, into: &mut DeviceSample) -> Result<(), Lost> {
        let numbers = self.numbers(device, &Counter::FAST)?;
        let wide = |counter: Counter| numbers[counter as usize];
        into.energy_mj = wide(Counter::Energy);
        into.power_mw = narrow(wide(Counter::Power));
        into.violations = Violations {
            power_ns: wide(Counter::PowerViolation),
            thermal_ns: wide(Counter::ThermalViolation),
            software_thermal_ns: wide(Counter::SoftwareThermalViolation),
            hardware_thermal_ns: wide(Counter::HardwareThermalViolation),
            power_brake_ns: wide(Counter::PowerBrakeViolation),
        };
        Ok(())
    }

    /// What changes slowly: memory, temperature, clocks, traffic, errors.
    pub(in crate::gpu) fn slow(&mut self, device: u32, into: &mut DeviceSample) -> Result<(), Lost> {
        let numbers = self.numbers(device, &Counter::SLOW)?;
        let wide = |counter: Counter| numbers[counter as usize];
        into.memory_used = wide(Counter::Memory);
        into.temperature = narrow(wide(Counter::Temperature));
        into.sm_clock_mhz = narrow(wide(Counter::SmClock));
        into.memory_clock_mhz = narrow(wide(Counter::MemoryClock));
        into.throttle_reasons = wide(Counter::ThrottleReasons);
        into.pcie_bytes = wide(Counter::PcieSent).zip(wide(Counter::PcieReceived));
        into.nvlink_kib = wide(Counter::NvlinkSent).zip(wide(Counter::NvlinkReceived));
        into.ecc_uncorrected = wide(Counter::EccUncorrected);
        Ok(())
    }

    /// Shares of time. A device that is divided into instances has none.
    pub(in crate::gpu) fn utilization(&mut self, device: u32, into: &mut DeviceSample) -> Result<(), Lost> {
        let rates =
            self.ask(device, Counter::Utilization, Call::Utilization, |slot| slot.handle.utilization_rates())?;
        if let Some(rates) = rates {
            into.utilization = u8::try_from(rates.gpu).ok();
            into.memory_utilization = u8::try_from(rates.memory).ok();
        }
        Ok(())
    }

    fn numbers(&mut self, device: u32, counters: &[Counter]) -> Result<Numbers, Lost> {
        let mut numbers = Numbers::default();
        let Self { meter, slots, .. } = self;
        let Some(Slot { handle, support, .. }) = slots.get_mut(&device) else { return Ok(numbers) };
        let mut took = |support: &mut crate::gpu::counters::Support, counter, answer| match answer {
            Ok(value) => {
                support.worked(counter);
                numbers[counter as usize] = as_u64(value);
                Ok(())
            }
            Err(error) if is_lost(&error) => Err(Lost { device, reason: error.to_string() }),
            Err(error) => {
                support.failed(counter, &error);
                Ok(())
            }
        };
        let (mut asked, mut fields) = (Vec::new(), Vec::new());
        for &counter in counters {
            if let Some(Source::Field(id)) = support.source(counter) {
                asked.push(counter);
                fields.push(FieldId(id));
            }
        }
        if !fields.is_empty() {
            match meter.time(Call::FieldValues, || handle.field_values_for(&fields)).0 {
                // By position: the id in the answer is the driver's, which may differ from the wrapper's.
                Ok(answers) => {
                    for (counter, answer) in asked.into_iter().zip(answers) {
                        took(support, counter, answer.and_then(|sample| sample.value))?;
                    }
                }
                Err(error) if is_lost(&error) => return Err(Lost { device, reason: error.to_string() }),
                Err(error) => asked.into_iter().for_each(|counter| support.failed(counter, &error)),
            }
        }
        for &counter in counters {
            if let Some(Source::Call(call)) = support.source(counter) {
                let answer = meter.time(call, || scalar(handle, counter)).0;
                took(support, counter, answer.map(SampleValue::U64))?;
            }
        }
        Ok(numbers)
    }
}

/// Makes the call that gives a counter by itself.
fn scalar(handle: &Device<'_>, counter: Counter) -> Result<u64, NvmlError> {
    match counter {
        Counter::Energy => handle.total_energy_consumption(),
        Counter::Power => handle.power_usage().map(u64::from),
        Counter::Memory => handle.memory_info().map(|memory| memory.used),
        Counter::Temperature => handle.temperature(TemperatureSensor::Gpu).map(u64::from),
        Counter::SmClock => handle.clock_info(Clock::SM).map(u64::from),
        Counter::MemoryClock => handle.clock_info(Clock::Memory).map(u64::from),
        Counter::ThrottleReasons => handle.current_throttle_reasons().map(|reasons| reasons.bits()),
        Counter::EccUncorrected => handle.total_ecc_errors(MemoryError::Uncorrected, EccCounter::Volatile),
        // No table names a call for the others.
        _ => Err(NvmlError::NotSupported),
    }
}

/// A value of a field as a count; absent if it is none.
pub(super) fn as_u64(value: SampleValue) -> Option<u64> {
    match value {
        SampleValue::U32(value) => Some(value.into()),
        SampleValue::U64(value) => Some(value),
        SampleValue::I64(value) => u64::try_from(value).ok(),
        SampleValue::F64(value) => (value.is_finite() && value >= 0.0).then_some(value as u64),
    }
}

fn narrow(value: Option<u64>) -> Option<u32> {
    value.and_then(|value| u32::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_count_is_absent() {
        assert_eq!(as_u64(SampleValue::I64(-1)), None);
        assert_eq!(as_u64(SampleValue::F64(f64::NAN)), None);
        assert_eq!(as_u64(SampleValue::F64(12.7)), Some(12));
        assert_eq!(narrow(Some(1 << 40)), None);
    }
}
