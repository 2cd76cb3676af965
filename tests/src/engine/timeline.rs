//! What the engine appends to the fake GPU's time line, the file that `INFERSCOPE_FAKE_NVML` names.
//!
//! The format and its writer are the fake NVML library's, which reads the file as it grows; here is only what an engine has
//! to say: power and use of its devices, its processes on them, throttling and errors. Times are `CLOCK_MONOTONIC` nanoseconds
//! at which the line is written.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::cost::{Cost, IDLE_MW};
pub use crate::gpu::timeline::monotonic_ns as now_ns;
use crate::gpu::timeline::{self, ENV, Line, Process, Violation};

/// Clock of the multiprocessors, MHz, and the same when it is held down.
const CLOCK_MHZ: u32 = 1_980;
const THROTTLED_CLOCK_MHZ: u32 = 990;

/// `nvmlClocksEventReasonHwThermalSlowdown`.
const HARDWARE_THERMAL_SLOWDOWN: u64 = 0x40;

/// A process's part of one device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// The process.
    pub pid: u32,
    /// Memory that it has, MiB; zero takes it off the device.
    pub memory_mib: u64,
}

/// The time line, open for one device; does nothing where there is none.
#[derive(Debug)]
pub struct Timeline {
    file: Option<timeline::Timeline>,
    device: u32,
}

impl Timeline {
    /// Opens the file that the environment names, if it names one.
    pub fn from_env(device: u32) -> Result<Self> {
        let path = std::env::var_os(ENV).map(PathBuf::from);
        Self::open(path.as_deref(), device)
    }

    fn open(path: Option<&Path>, device: u32) -> Result<Self> {
        let open = |path: &Path| {
            timeline::Timeline::open(path).with_context(|| format!("cannot append to the time line {}", path.display()))
        };
        Ok(Self { file: path.map(open).transpose()?, device })
    }

    /// The device computes a step, or nothing.
    pub fn state(&mut self, at_ns: u64, cost: Option<&Cost>, part: Part) -> Result<()> {
        let (power, util, mem) = match cost {
            Some(cost) => (cost.power_mw, cost.utilization, cost.memory_utilization),
            None => (IDLE_MW, 0, 0),
        };
        let state = self.at(at_ns).power_w(power as f64 / 1000.0).util(util.into()).mem_util(mem.into());
        self.append(&[state, self.process_line(at_ns, cost, part)])
    }

    /// The process's part of the device, where somebody else accounts for the device.
    pub fn process(&mut self, at_ns: u64, cost: Option<&Cost>, part: Part) -> Result<()> {
        let line = self.process_line(at_ns, cost, part);
        self.append(&[line])
    }

    /// The clocks are held down, or not any more.
    pub fn throttle(&mut self, at_ns: u64, on: bool) -> Result<()> {
        let (reasons, clock) = if on { (HARDWARE_THERMAL_SLOWDOWN, THROTTLED_CLOCK_MHZ) } else { (0, CLOCK_MHZ) };
        self.append(&[self.at(at_ns).throttle_reasons(reasons).sm_clock_mhz(clock)])
    }

    /// The clocks were held down for so long.
    pub fn violation(&mut self, at_ns: u64, thermal_ns: u64) -> Result<()> {
        let violation = Violation { thermal_ns, hardware_thermal_ns: thermal_ns, ..Violation::default() };
        self.append(&[self.at(at_ns).violation(violation)])
    }

    /// The driver reports an error of the device.
    pub fn xid(&mut self, at_ns: u64, code: u64) -> Result<()> {
        self.append(&[self.at(at_ns).xid(code)])
    }

    fn process_line(&self, at_ns: u64, cost: Option<&Cost>, part: Part) -> Line {
        let (sm, mem) = cost.map_or((0, 0), |cost| (cost.utilization, cost.memory_utilization));
        self.at(at_ns).process(Process::new(part.pid, part.memory_mib).uses(sm.into(), mem.into()))
    }

    fn at(&self, at_ns: u64) -> Line {
        Line::at(at_ns, self.device)
    }

    fn append(&mut self, lines: &[Line]) -> Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        file.write(lines).context("cannot append to the time line")
    }
}

/// Takes processes that were killed off their devices, and says that the devices are idle: the driver does this when a
/// process is gone that could not say so itself.
pub fn bury(path: &Path, processes: &[(u32, u32)]) -> Result<()> {
    for (device, pid) in processes {
        let gone = Part { pid: *pid, memory_mib: 0 };
        Timeline::open(Some(path), *device)?.state(now_ns(), None, gone)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::gpu::timeline::{Device, Header};

    #[test]
    fn lines_are_whole_and_say_what_the_device_does() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("gpus.jsonl");
        timeline::Timeline::create(&path, &Header::new((0..2).map(Device::h100))).unwrap();
        let mut line = Timeline::open(Some(&path), 1).unwrap();
        let part = Part { pid: 7, memory_mib: 4096 };
        let cost = Cost { power_mw: 345_678, utilization: 87, memory_utilization: 40, ..Cost::default() };
        line.state(100, Some(&cost), part).unwrap();
        line.violation(150, 50).unwrap();
        line.xid(160, 79).unwrap();
        bury(&path, &[(1, 7)]).unwrap();

        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines[0]["devices"].as_array().map(Vec::len), Some(2));
        assert_eq!(lines[1], json!({"t_ns": 100, "device": 1, "power_w": 345.678, "util": 87, "mem_util": 40}));
        let process = json!({"pid": 7, "memory_mib": 4096, "sm": 87, "mem": 40});
        assert_eq!(lines[2], json!({"t_ns": 100, "device": 1, "process": process}));
        assert_eq!((&lines[3]["violation"]["thermal_ns"], &lines[4]["xid"]), (&json!(50), &json!(79)));
        assert_eq!((&lines[5]["power_w"], &lines[6]["process"]["memory_mib"]), (&json!(120.0), &json!(0)));
        assert!(lines[5]["t_ns"].as_u64() > Some(160));
    }

    #[test]
    fn without_a_file_nothing_is_written_and_without_the_named_one_it_is_an_error() {
        Timeline::open(None, 0).unwrap().throttle(1, true).unwrap();
        assert!(Timeline::open(Some(Path::new("/nonexistent/time/line")), 0).is_err());
    }
}
