//! What is read of a device, and from where: one table, which the reading, the support table and `doctor` share.
//!
//! Owns the order in which the driver's sources of one number are tried, and the memory of what a device does not have:
//! a source that says "not supported" is not asked again, because each try takes the driver's lock for nothing. A source
//! that merely failed is. Pure; who asks is `nvml`.
//!
//! Field ids are named by the wrapper's constants, never by number: those above 250 changed their meaning with driver
//! 580.82, and the wrapper translates from the older numbering, which its constants have.
//!
//! To add a counter that is one number: a variant, its line in [`Counter::sources`] and [`Counter::name`], and its member
//! in `nvml::fill`.

use std::fmt;

use nvml_wrapper::{error::NvmlError, sys_exports::field_id};

use super::meter::Call;

/// Something that is read of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "what they are is said where `sample` has them")]
pub enum Counter {
    Energy,
    Power,
    PowerViolation,
    ThermalViolation,
    SoftwareThermalViolation,
    HardwareThermalViolation,
    PowerBrakeViolation,
    Utilization,
    Memory,
    Temperature,
    SmClock,
    MemoryClock,
    ThrottleReasons,
    PcieSent,
    PcieReceived,
    NvlinkSent,
    NvlinkReceived,
    EccUncorrected,
    Processes,
    MpsProcesses,
    ProcessUtilization,
    Gpm,
}

/// Where a number comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// A field of `nvmlDeviceGetFieldValues`, by the wrapper's constant.
    Field(u32),
    /// A call of its own.
    Call(Call),
}

impl Counter {
    /// All of them.
    pub const ALL: [Self; 22] = [
        Self::Energy,
        Self::Power,
        Self::PowerViolation,
        Self::ThermalViolation,
        Self::SoftwareThermalViolation,
        Self::HardwareThermalViolation,
        Self::PowerBrakeViolation,
        Self::Utilization,
        Self::Memory,
        Self::Temperature,
        Self::SmClock,
        Self::MemoryClock,
        Self::ThrottleReasons,
        Self::PcieSent,
        Self::PcieReceived,
        Self::NvlinkSent,
        Self::NvlinkReceived,
        Self::EccUncorrected,
        Self::Processes,
        Self::MpsProcesses,
        Self::ProcessUtilization,
        Self::Gpm,
    ];

    /// Read together in one call as often as the schedule allows.
    pub(super) const FAST: [Self; 7] = [
        Self::Energy,
        Self::Power,
        Self::PowerViolation,
        Self::ThermalViolation,
        Self::SoftwareThermalViolation,
        Self::HardwareThermalViolation,
        Self::PowerBrakeViolation,
    ];

    /// Read now and then.
    pub(super) const SLOW: [Self; 10] = [
        Self::Memory,
        Self::Temperature,
        Self::SmClock,
        Self::MemoryClock,
        Self::ThrottleReasons,
        Self::PcieSent,
        Self::PcieReceived,
        Self::NvlinkSent,
        Self::NvlinkReceived,
        Self::EccUncorrected,
    ];

    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Energy => "energy",
            Self::Power => "power",
            Self::PowerViolation => "time at the power limit",
            Self::ThermalViolation => "time at the thermal limit",
            Self::SoftwareThermalViolation => "time of software thermal slowdown",
            Self::HardwareThermalViolation => "time of hardware thermal slowdown",
            Self::PowerBrakeViolation => "time of power brake",
            Self::Utilization => "utilization",
            Self::Memory => "memory",
            Self::Temperature => "temperature",
            Self::SmClock => "SM clock",
            Self::MemoryClock => "memory clock",
            Self::ThrottleReasons => "throttle reasons",
            Self::PcieSent => "PCIe bytes sent",
            Self::PcieReceived => "PCIe bytes received",
            Self::NvlinkSent => "NVLink bytes sent",
            Self::NvlinkReceived => "NVLink bytes received",
            Self::EccUncorrected => "uncorrected memory errors",
            Self::Processes => "processes",
            Self::MpsProcesses => "processes under MPS",
            Self::ProcessUtilization => "utilization by process",
            Self::Gpm => "GPM metrics",
        }
    }

    /// Where it comes from, the cheapest first. Those with none are no single numbers and have a query of their own.
    pub(super) fn sources(self) -> &'static [Source] {
        use Source::{Call as C, Field as F};
        match self {
            Self::Energy => &[F(field_id::NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION), C(Call::Energy)],
            Self::Power => &[F(field_id::NVML_FI_DEV_POWER_INSTANT), C(Call::Power)],
            Self::PowerViolation => &[F(field_id::NVML_FI_DEV_PERF_POLICY_POWER)],
            Self::ThermalViolation => &[F(field_id::NVML_FI_DEV_PERF_POLICY_THERMAL)],
            Self::SoftwareThermalViolation => &[F(field_id::NVML_FI_DEV_CLOCKS_EVENT_REASON_SW_THERM_SLOWDOWN)],
            Self::HardwareThermalViolation => &[F(field_id::NVML_FI_DEV_CLOCKS_EVENT_REASON_HW_THERM_SLOWDOWN)],
            Self::PowerBrakeViolation => &[F(field_id::NVML_FI_DEV_CLOCKS_EVENT_REASON_HW_POWER_BRAKE_SLOWDOWN)],
            Self::Memory => &[C(Call::Memory)],
            Self::Temperature => &[C(Call::Temperature)],
            Self::SmClock | Self::MemoryClock => &[C(Call::Clock)],
            Self::ThrottleReasons => &[C(Call::ThrottleReasons)],
            Self::PcieSent => &[F(field_id::NVML_FI_DEV_PCIE_COUNT_TX_BYTES)],
            Self::PcieReceived => &[F(field_id::NVML_FI_DEV_PCIE_COUNT_RX_BYTES)],
            Self::NvlinkSent => &[F(field_id::NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_TX)],
            Self::NvlinkReceived => &[F(field_id::NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_RX)],
            Self::EccUncorrected => &[F(field_id::NVML_FI_DEV_ECC_DBE_VOL_TOTAL), C(Call::EccErrors)],
            Self::Utilization | Self::Processes | Self::MpsProcesses | Self::ProcessUtilization | Self::Gpm => &[],
        }
    }
}

/// Why a counter is absent for as long as the driver is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absent {
    /// The device has none.
    NotSupported,
    /// The library has no such function or field: the driver is too old.
    NoFunction,
    /// The driver does not let us.
    Denied,
    /// It could be misread, so that it is not read.
    Ambiguous,
}

impl fmt::Display for Absent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotSupported => "the device does not have it",
            Self::NoFunction => "the driver is too old for it",
            Self::Denied => "the driver refuses it to this user: run as root",
            Self::Ambiguous => "there are several links, and NVML's wrapper can ask only for the first",
        })
    }
}

impl Absent {
    /// Whether an error will be the same the next time, and why.
    pub(super) fn of(error: &NvmlError) -> Option<Self> {
        /// `NVML_ERROR_ARGUMENT_VERSION_MISMATCH` and `NVML_ERROR_DEPRECATED`, which the wrapper has no names for.
        const OTHER_VERSION: std::ops::RangeInclusive<u32> = 25..=26;
        match error {
            NvmlError::NotSupported | NvmlError::VgpuEccNotSupported => Some(Self::NotSupported),
            // A field that the driver does not know is an invalid argument to it.
            NvmlError::FailedToLoadSymbol(_) | NvmlError::FunctionNotFound | NvmlError::InvalidArg => {
                Some(Self::NoFunction)
            }
            NvmlError::UnexpectedVariant(code) if OTHER_VERSION.contains(code) => Some(Self::NoFunction),
            NvmlError::NoPermission => Some(Self::Denied),
            _ => None,
        }
    }
}

/// What is known of a counter of a device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// It was not asked yet.
    #[default]
    Unknown,
    /// The last answer had a value.
    Works,
    /// The last answer was an error that may pass.
    Failing(String),
    /// It is not asked any more.
    Absent(Absent),
}

/// What is known of all counters of one device.
#[derive(Clone, Debug)]
pub(super) struct Support {
    states: [State; Counter::ALL.len()],
    /// Which of the counter's sources is used.
    sources: [u8; Counter::ALL.len()],
}

impl Default for Support {
    fn default() -> Self {
        Self { states: std::array::from_fn(|_| State::Unknown), sources: [0; Counter::ALL.len()] }
    }
}

impl Support {
    /// What is known of a counter.
    pub(super) fn state(&self, counter: Counter) -> &State {
        &self.states[counter as usize]
    }

    /// Whether it makes sense to ask.
    pub(super) fn asks(&self, counter: Counter) -> bool {
        !matches!(self.state(counter), State::Absent(_))
    }

    /// Where to ask for a single number; nowhere if it is absent.
    pub(super) fn source(&self, counter: Counter) -> Option<Source> {
        if !self.asks(counter) {
            return None;
        }
        counter.sources().get(usize::from(self.sources[counter as usize])).copied()
    }

    /// There was a value.
    pub(super) fn worked(&mut self, counter: Counter) {
        self.states[counter as usize] = State::Works;
    }

    /// There was an error, of the source in use. The next one is used from now on if it will stay.
    pub(super) fn failed(&mut self, counter: Counter, error: &NvmlError) {
        let n = counter as usize;
        self.states[n] = match Absent::of(error) {
            None => State::Failing(error.to_string()),
            Some(_) if usize::from(self.sources[n]) + 1 < counter.sources().len() => {
                self.sources[n] += 1;
                State::Unknown
            }
            Some(absent) => State::Absent(absent),
        };
    }

    /// There was an error that may pass.
    pub(super) fn failing(&mut self, counter: Counter, error: &NvmlError) {
        self.states[counter as usize] = State::Failing(error.to_string());
    }

    /// It is not to be asked for.
    pub(super) fn leave_out(&mut self, counter: Counter, why: Absent) {
        self.states[counter as usize] = State::Absent(why);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_index_their_tables() {
        for (n, counter) in Counter::ALL.into_iter().enumerate() {
            assert_eq!(counter as usize, n, "{}", counter.name());
            let single = Counter::FAST.contains(&counter) || Counter::SLOW.contains(&counter);
            assert_eq!(single, !counter.sources().is_empty(), "{}", counter.name());
        }
    }

    #[test]
    fn what_will_not_change_moves_on_to_the_next_source_and_then_ends() {
        let mut support = Support::default();
        assert_eq!(support.source(Counter::Power), Some(Source::Field(186)));
        support.failed(Counter::Power, &NvmlError::InvalidArg);
        assert_eq!(support.source(Counter::Power), Some(Source::Call(Call::Power)));
        support.failed(Counter::Power, &NvmlError::Timeout);
        assert_eq!(support.source(Counter::Power), Some(Source::Call(Call::Power)), "a timeout passes");
        assert_eq!(*support.state(Counter::Power), State::Failing("the provided timeout was reached".into()));
        support.worked(Counter::Power);
        assert_eq!(*support.state(Counter::Power), State::Works);
        support.failed(Counter::Power, &NvmlError::FailedToLoadSymbol("gone".into()));
        assert_eq!((support.source(Counter::Power), support.asks(Counter::Power)), (None, false));
        assert!(support.asks(Counter::Energy), "the others are not touched");
    }

    #[test]
    fn fields_that_changed_their_number_are_named_in_the_wrappers_numbering() {
        // In nvml.h of 580.82 and later they are 269 to 271, which mean power smoothing to the wrapper.
        let ids = [Counter::SoftwareThermalViolation, Counter::HardwareThermalViolation, Counter::PowerBrakeViolation]
            .map(|counter| counter.sources()[0]);
        assert_eq!(ids, [251, 252, 253].map(Source::Field));
    }
}
