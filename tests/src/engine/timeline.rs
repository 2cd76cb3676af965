//! What the engine appends to the fake GPU's time line, the file that `INFERSCOPE_FAKE_NVML` names.
//!
//! The format is the fake NVML library's, which reads the file as it grows; here is only what an engine has to say:
//! power and use of its devices, its processes on them, throttling and errors. Every append is one write of whole
//! lines, because several processes append. Times are `CLOCK_MONOTONIC` nanoseconds at which the line is written.

use std::{
    fs::{File, OpenOptions},
    io::Write as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};

use super::cost::{Cost, IDLE_MW, LIMIT_MW};

/// Where the path of the time line is.
pub const VARIABLE: &str = "INFERSCOPE_FAKE_NVML";

/// Memory of each device, MiB.
const MEMORY_MIB: u64 = 81_559;

/// Clock of the multiprocessors, MHz, and the same when it is held down.
const CLOCK_MHZ: u32 = 1_980;
const THROTTLED_CLOCK_MHZ: u32 = 990;

/// `nvmlClocksEventReasonHwThermalSlowdown`.
const HARDWARE_THERMAL_SLOWDOWN: u64 = 0x40;

/// `CLOCK_MONOTONIC`, nanoseconds: the clock of the kernel's stamps and of the truth.
pub fn now_ns() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec.cast_unsigned() * 1_000_000_000 + time.tv_nsec.cast_unsigned()
}

/// The first line of a time line that begins now: `n` devices with the power that the engine's model has.
pub fn header(n: usize) -> Value {
    let device = |n| {
        json!({
            "uuid": format!("GPU-fake-{n}"), "name": "Fake H100", "memory_mib": MEMORY_MIB,
            "idle_power_w": watts(IDLE_MW), "power_limit_w": watts(LIMIT_MW), "pci": format!("00000000:{:02X}:00.0", n + 1), "gpm": true,
        })
    };
    let devices: Vec<Value> = (0..n).map(device).collect();
    json!({
        "devices": devices, "driver": "580.95.05", "cuda": 13_000, "refresh_ms": 100, "clock": "monotonic",
        "start_ns": now_ns(),
    })
}

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
    file: Option<File>,
    device: u32,
}

impl Timeline {
    /// Opens the file that the environment names, if it names one.
    pub fn from_env(device: u32) -> Result<Self> {
        let path = std::env::var_os(VARIABLE).map(PathBuf::from);
        Self::open(path.as_deref(), device)
    }

    fn open(path: Option<&Path>, device: u32) -> Result<Self> {
        let open = |path: &Path| {
            let file = OpenOptions::new().append(true).open(path);
            file.with_context(|| format!("cannot append to the time line {}", path.display()))
        };
        Ok(Self { file: path.map(open).transpose()?, device })
    }

    /// The device computes a step, or nothing.
    pub fn state(&mut self, at_ns: u64, cost: Option<&Cost>, part: Part) -> Result<()> {
        let (power, util, mem) = match cost {
            Some(cost) => (cost.power_mw, cost.utilization, cost.memory_utilization),
            None => (IDLE_MW, 0, 0),
        };
        let device = self.device;
        let state = json!({"t_ns": at_ns, "device": device, "power_w": watts(power), "util": util, "mem_util": mem});
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
        let device = self.device;
        self.append(&[json!({"t_ns": at_ns, "device": device, "throttle_reasons": reasons, "sm_clock_mhz": clock})])
    }

    /// The clocks were held down for so long.
    pub fn violation(&mut self, at_ns: u64, thermal_ns: u64) -> Result<()> {
        let device = self.device;
        let violation = json!({"thermal_ns": thermal_ns, "hardware_thermal_ns": thermal_ns});
        self.append(&[json!({"t_ns": at_ns, "device": device, "violation": violation})])
    }

    /// The driver reports an error of the device.
    pub fn xid(&mut self, at_ns: u64, code: u64) -> Result<()> {
        let device = self.device;
        self.append(&[json!({"t_ns": at_ns, "device": device, "xid": code})])
    }

    fn process_line(&self, at_ns: u64, cost: Option<&Cost>, part: Part) -> Value {
        let (sm, mem) = cost.map_or((0, 0), |cost| (cost.utilization, cost.memory_utilization));
        let process = json!({"pid": part.pid, "memory_mib": part.memory_mib, "sm": sm, "mem": mem});
        json!({"t_ns": at_ns, "device": self.device, "process": process})
    }

    fn append(&mut self, lines: &[Value]) -> Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        file.write_all(text.as_bytes()).context("cannot append to the time line")
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

fn watts(milliwatts: u64) -> f64 {
    milliwatts as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_whole_and_say_what_the_device_does() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("gpus.jsonl");
        std::fs::write(&path, format!("{}\n", header(2))).unwrap();
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
