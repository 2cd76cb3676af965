//! `[gpu]`: whether GPUs are read, and how; whether the steps of engines on them are timed.
//!
//! Owns the section's layout; what the settings mean is `gpu`'s business.

use std::path::PathBuf;

use serde::Deserialize;

use crate::gpu::Settings;

/// Most that `active_hz` may be: the driver refreshes its energy counters ten times a second, and others wait for its lock.
const MAX_HZ: u32 = 20;

/// `[gpu]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GpuConfig {
    /// Read the counters of NVIDIA GPUs where there are some.
    pub enabled: bool,
    /// The NVML library, in place of the one that `INFERSCOPE_NVML_LIBRARY` names or of the driver's `libnvidia-ml.so.1`.
    pub nvml_library: Option<PathBuf>,
    /// How often the cheap counters of a GPU are read while calls are active on it, per second.
    pub active_hz: u32,
    /// Probe CUDA's runtime library in the processes that map it, for the times of an engine's steps, and for memory that it
    /// did not get. Costs the engine some microseconds a step; needs no NVML.
    pub step_clock: bool,
}

impl Default for GpuConfig {
    fn default() -> Self {
        let Settings { library, active_hz } = Settings::default();
        Self { enabled: true, nvml_library: library, active_hz, step_clock: false }
    }
}

impl GpuConfig {
    /// The first setting that cannot be: its name and what is wrong with it.
    pub(super) fn check(&self) -> Result<(), (&'static str, &'static str)> {
        let Self { enabled: _, nvml_library, active_hz, step_clock: _ } = self;
        if !(1..=MAX_HZ).contains(active_hz) {
            return Err(("active_hz", "must be between 1 and 20"));
        }
        // A relative one would be looked for wherever the loader likes, by a process that runs as root.
        if nvml_library.as_ref().is_some_and(|library| !library.is_absolute()) {
            return Err(("nvml_library", "must be an absolute path"));
        }
        Ok(())
    }

    /// What the sampler takes; nothing if GPUs are not to be read.
    pub fn settings(&self) -> Option<Settings> {
        let Self { enabled, nvml_library, active_hz, step_clock: _ } = self;
        enabled.then(|| Settings { library: nvml_library.clone(), active_hz: *active_hz })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> GpuConfig {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn rates_and_paths_that_cannot_be_are_refused() {
        for (text, setting) in [
            ("active_hz = 0", "active_hz"),
            ("active_hz = 21", "active_hz"),
            ("nvml_library = \"libnvidia-ml.so.1\"", "nvml_library"),
            ("nvml_library = \"\"", "nvml_library"),
        ] {
            assert_eq!(parse(text).check().unwrap_err().0, setting, "{text}");
        }
        assert_eq!(parse("active_hz = 20").check(), Ok(()));
        assert!(toml::from_str::<GpuConfig>("active_hz = -1").is_err());
    }

    #[test]
    fn the_section_is_what_the_sampler_takes() {
        assert_eq!(GpuConfig::default().settings(), Some(Settings::default()));
        assert_eq!(parse("enabled = false").settings(), None);
        let clock = parse("enabled = false\nstep_clock = true");
        assert!(clock.step_clock && clock.settings().is_none() && !GpuConfig::default().step_clock);
        let settings = parse("nvml_library = \"/opt/fake.so\"\nactive_hz = 5").settings();
        assert_eq!(settings, Some(Settings { library: Some("/opt/fake.so".into()), active_hz: 5 }));
    }
}
