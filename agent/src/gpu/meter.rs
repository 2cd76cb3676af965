//! The clock around every call of NVML: what each costs, and whether one does not come back.
//!
//! Owns the names of the calls and their counts ([`NvmlCost`]). The driver serialises its callers behind one lock, so the
//! time that we spend in it is time that others wait for: it is measured for every call and published. A call that hangs
//! cannot say so itself; its beginning is written down here, and the watchdog of `thread` reads it.
//!
//! To add a call: a variant of [`Call`] and its line in [`Call::name`].

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use nvml_wrapper::error::NvmlError;

use crate::time::Mono;

/// A call of NVML. Where the wrapper asks the library twice, for a count and for the data, both are one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "named after the functions of nvml.h")]
pub enum Call {
    Init,
    DriverVersion,
    NvmlVersion,
    DeviceCount,
    HandleByIndex,
    Uuid,
    Name,
    PciInfo,
    PowerLimit,
    MigMode,
    MigCount,
    MigHandle,
    FieldValues,
    Utilization,
    Memory,
    Temperature,
    Clock,
    ThrottleReasons,
    Power,
    Energy,
    EccErrors,
    Processes,
    MpsProcesses,
    ProcessUtilization,
    GpmSupport,
    GpmSample,
    GpmMetrics,
    EventTypes,
    EventRegister,
    Index,
}

impl Call {
    /// All of them.
    pub const ALL: [Self; 30] = [
        Self::Init,
        Self::DriverVersion,
        Self::NvmlVersion,
        Self::DeviceCount,
        Self::HandleByIndex,
        Self::Uuid,
        Self::Name,
        Self::PciInfo,
        Self::PowerLimit,
        Self::MigMode,
        Self::MigCount,
        Self::MigHandle,
        Self::FieldValues,
        Self::Utilization,
        Self::Memory,
        Self::Temperature,
        Self::Clock,
        Self::ThrottleReasons,
        Self::Power,
        Self::Energy,
        Self::EccErrors,
        Self::Processes,
        Self::MpsProcesses,
        Self::ProcessUtilization,
        Self::GpmSupport,
        Self::GpmSample,
        Self::GpmMetrics,
        Self::EventTypes,
        Self::EventRegister,
        Self::Index,
    ];

    /// The function's name in `nvml.h`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Init => "nvmlInit_v2",
            Self::DriverVersion => "nvmlSystemGetDriverVersion",
            Self::NvmlVersion => "nvmlSystemGetNVMLVersion",
            Self::DeviceCount => "nvmlDeviceGetCount_v2",
            Self::HandleByIndex => "nvmlDeviceGetHandleByIndex_v2",
            Self::Uuid => "nvmlDeviceGetUUID",
            Self::Name => "nvmlDeviceGetName",
            Self::PciInfo => "nvmlDeviceGetPciInfo_v3",
            Self::PowerLimit => "nvmlDeviceGetEnforcedPowerLimit",
            Self::MigMode => "nvmlDeviceGetMigMode",
            Self::MigCount => "nvmlDeviceGetMaxMigDeviceCount",
            Self::MigHandle => "nvmlDeviceGetMigDeviceHandleByIndex",
            Self::FieldValues => "nvmlDeviceGetFieldValues",
            Self::Utilization => "nvmlDeviceGetUtilizationRates",
            Self::Memory => "nvmlDeviceGetMemoryInfo_v2",
            Self::Temperature => "nvmlDeviceGetTemperature",
            Self::Clock => "nvmlDeviceGetClockInfo",
            Self::ThrottleReasons => "nvmlDeviceGetCurrentClocksThrottleReasons",
            Self::Power => "nvmlDeviceGetPowerUsage",
            Self::Energy => "nvmlDeviceGetTotalEnergyConsumption",
            Self::EccErrors => "nvmlDeviceGetTotalEccErrors",
            Self::Processes => "nvmlDeviceGetComputeRunningProcesses_v3",
            Self::MpsProcesses => "nvmlDeviceGetMPSComputeRunningProcesses_v3",
            Self::ProcessUtilization => "nvmlDeviceGetProcessUtilization",
            Self::GpmSupport => "nvmlGpmQueryDeviceSupport",
            Self::GpmSample => "nvmlGpmSampleGet",
            Self::GpmMetrics => "nvmlGpmMetricsGet",
            Self::EventTypes => "nvmlDeviceGetSupportedEventTypes",
            Self::EventRegister => "nvmlDeviceRegisterEvents",
            Self::Index => "nvmlDeviceGetIndex",
        }
    }
}

/// What the calls of NVML have cost since the sampler began. Waiting for events is not in it: it holds no lock.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NvmlCost {
    /// The calls that were made at least once.
    pub calls: Vec<CallCost>,
}

impl NvmlCost {
    /// Time in all of them.
    pub fn total(&self) -> Duration {
        self.calls.iter().map(|call| call.total).sum()
    }

    /// Adds what another sampler's calls have cost.
    pub fn add(&mut self, other: &Self) {
        for more in &other.calls {
            match self.calls.iter_mut().find(|call| call.name == more.name) {
                Some(CallCost { name: _, count, failed, total, max }) => {
                    *count += more.count;
                    *failed += more.failed;
                    *total += more.total;
                    *max = more.max.max(*max);
                }
                None => self.calls.push(*more),
            }
        }
    }
}

/// What one of them has cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallCost {
    /// Function of `nvml.h`.
    pub name: &'static str,
    /// Calls, failed ones too.
    pub count: u64,
    /// Calls that returned no value, for whatever reason; that nobody uses a GPU is not a failure.
    pub failed: u64,
    /// Time in them.
    pub total: Duration,
    /// Time of the longest.
    pub max: Duration,
}

/// Is told when a call begins and when it ends.
pub(super) trait Watch: Send + Sync {
    /// A call begins.
    fn begin(&self, at: Mono);
    /// It ended, after so long, with this error if it had one.
    fn end(&self, call: Call, took: Duration, error: Option<&NvmlError>);
}

/// Nobody watches.
impl Watch for () {
    fn begin(&self, _: Mono) {}
    fn end(&self, _: Call, _: Duration, _: Option<&NvmlError>) {}
}

/// Measures calls. Shared between the threads that make them.
#[derive(Clone)]
pub(super) struct Meter {
    clock: fn() -> Mono,
    watch: Arc<dyn Watch>,
    counts: Arc<[Count; Call::ALL.len()]>,
}

#[derive(Default)]
struct Count {
    calls: AtomicU64,
    failed: AtomicU64,
    total_ns: AtomicU64,
    max_ns: AtomicU64,
}

impl Meter {
    pub(super) fn new(clock: fn() -> Mono, watch: Arc<dyn Watch>) -> Self {
        Self { clock, watch, counts: Arc::new(std::array::from_fn(|_| Count::default())) }
    }

    /// The same counts for a thread whose calls nobody watches.
    pub(super) fn unwatched(&self) -> Self {
        Self { watch: Arc::new(()), ..self.clone() }
    }

    /// Now, on the clock of the records.
    pub(super) fn now(&self) -> Mono {
        (self.clock)()
    }

    /// Makes a call: what it gave, and how long it took.
    pub(super) fn time<T>(
        &self,
        call: Call,
        make: impl FnOnce() -> Result<T, NvmlError>,
    ) -> (Result<T, NvmlError>, Duration) {
        let began = self.now();
        self.watch.begin(began);
        let result = make();
        let took = self.now().since(began);
        self.watch.end(call, took, result.as_ref().err());
        self.count(call, took, matches!(&result, Err(error) if !matches!(error, NvmlError::NotFound)));
        (result, took)
    }

    fn count(&self, call: Call, took: Duration, failed: bool) {
        let Count { calls, failed: failures, total_ns, max_ns } = &self.counts[call as usize];
        let ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        calls.fetch_add(1, Relaxed);
        failures.fetch_add(u64::from(failed), Relaxed);
        total_ns.fetch_add(ns, Relaxed);
        max_ns.fetch_max(ns, Relaxed);
    }

    /// What was measured so far. Numbers of one call that is being made may be of two moments.
    pub(super) fn cost(&self) -> NvmlCost {
        let calls = Call::ALL.iter().zip(self.counts.iter()).map(|(call, count)| {
            let Count { calls, failed, total_ns, max_ns } = count;
            CallCost {
                name: call.name(),
                count: calls.load(Relaxed),
                failed: failed.load(Relaxed),
                total: Duration::from_nanos(total_ns.load(Relaxed)),
                max: Duration::from_nanos(max_ns.load(Relaxed)),
            }
        });
        NvmlCost { calls: calls.filter(|call| call.count > 0).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_has_its_own_count_and_name() {
        for (n, call) in Call::ALL.into_iter().enumerate() {
            assert_eq!(call as usize, n, "{}", call.name());
        }
        let mut names: Vec<_> = Call::ALL.map(Call::name).into();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Call::ALL.len());
    }

    #[test]
    fn calls_are_counted_by_name_and_nobody_is_no_failure() {
        let meter = Meter::new(crate::kernel::clock::now, Arc::new(()));
        assert_eq!(meter.cost(), NvmlCost::default());
        meter.count(Call::Energy, Duration::from_micros(3), false);
        meter.count(Call::Energy, Duration::from_micros(5), true);
        let (nobody, _) = meter.time(Call::ProcessUtilization, || Err::<(), _>(NvmlError::NotFound));
        assert!(nobody.is_err());
        let cost = meter.cost();
        let [energy, utilization] = cost.calls[..] else { panic!("{cost:?}") };
        assert_eq!((energy.name, energy.count, energy.failed), ("nvmlDeviceGetTotalEnergyConsumption", 2, 1));
        assert_eq!((energy.total, energy.max), (Duration::from_micros(8), Duration::from_micros(5)));
        assert_eq!((utilization.count, utilization.failed), (1, 0));
        assert_eq!(cost.total(), energy.total + utilization.total);
        let mut both = NvmlCost { calls: vec![CallCost { max: Duration::from_secs(1), ..energy }] };
        both.add(&cost);
        let [twice, once] = both.calls[..] else { panic!("{both:?}") };
        assert_eq!((twice.count, twice.failed, twice.total), (4, 2, 2 * energy.total));
        assert_eq!((twice.max, once), (Duration::from_secs(1), utilization));
    }
}
