//! What really happened: the files that an engine writes into its directory, for whoever judges an observer of it.
//!
//! `truth.jsonl` has a line for each request, written by the front when the request has left the engine;
//! `devices.jsonl` a line for each device, written by its worker at the end of an engine that was told to stop;
//! `pids.json` who is who, written when the engine serves. All times are `CLOCK_MONOTONIC` nanoseconds.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// Name of the log of requests.
pub const REQUESTS: &str = "truth.jsonl";
/// Name of the log of devices.
pub const DEVICES: &str = "devices.jsonl";
/// Name of the file with the processes.
pub const PIDS: &str = "pids.json";

/// The engine's processes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pids {
    /// Serves HTTP.
    pub front: u32,
    /// Decides what each step computes.
    pub core: u32,
    /// Compute.
    pub workers: Vec<u32>,
    /// The device of each worker.
    pub devices: Vec<u32>,
    /// The port of the front.
    pub port: u16,
}

impl Pids {
    /// All of them.
    pub fn all(&self) -> Vec<u32> {
        let Self { front, core, workers, devices: _, port: _ } = self;
        [*front, *core].into_iter().chain(workers.iter().copied()).collect()
    }

    /// Workers with their devices: (device, pid).
    pub fn on_devices(&self) -> Vec<(u32, u32)> {
        self.devices.iter().copied().zip(self.workers.iter().copied()).collect()
    }
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finish {
    /// The client was sent every token that it asked for.
    Length,
    /// The client closed before it was sent all.
    ClientGone,
    /// The engine core ended before the request.
    CoreDied,
    /// The engine was told to stop before the request's end.
    Stopped,
}

/// One request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RequestTruth {
    /// The response's id.
    pub id: String,
    /// Whether it was streamed.
    pub stream: bool,
    /// The front had read the request's head.
    pub arrival_ns: u64,
    /// The first step with it began; the difference to the arrival is what it waited. Absent if it had none.
    pub admitted_ns: Option<u64>,
    /// The step ended that gave its first token.
    pub first_token_ns: Option<u64>,
    /// The front handed the first token to the connection.
    pub first_write_ns: Option<u64>,
    /// The step ended that gave its last token.
    pub last_token_ns: Option<u64>,
    /// The front handed the last byte to the connection, or found it closed.
    pub end_ns: u64,
    /// Tokens of the prompt.
    pub prompt_tokens: u32,
    /// How many of them were not computed.
    pub cached_tokens: u32,
    /// Tokens that were generated, whether anybody got them or not. Absent if the engine core died with the number.
    pub output_tokens: Option<u32>,
    /// How many of them were generated after the client was found gone.
    pub tokens_after_gone: u32,
    /// Steps that it was part of. Absent if the engine core died with the number.
    pub steps: Option<u32>,
    /// Its shares of the energy of the steps that it was part of, on all devices, millijoules to the microjoule. A
    /// generated token weighs 1, a computed token of a prompt 0.15. Absent if the engine core died with it.
    pub energy_mj: Option<f64>,
    /// Other requests that were not answered when its body had come.
    pub in_flight: usize,
    /// Devices that computed it.
    pub devices: Vec<u32>,
    /// Processes that computed it.
    pub worker_pids: Vec<u32>,
    /// How it ended.
    pub finish: Finish,
}

impl RequestTruth {
    /// Its energy in whole microjoules, as it was divided.
    pub fn energy_uj(&self) -> Option<u64> {
        self.energy_mj.map(|energy| (energy * 1000.0).round() as u64)
    }
}

/// One device, from the start of its worker to the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceTruth {
    /// Its index.
    pub device: u32,
    /// The worker's first line in the time line.
    pub since_ns: u64,
    /// The worker's last.
    pub until_ns: u64,
    /// Energy between the two, microjoules; the sum of the next two.
    pub total_uj: u64,
    /// While a step was on it: all of it is some request's.
    pub steps_uj: u64,
    /// While none was.
    pub idle_uj: u64,
    /// Steps.
    pub n_steps: u64,
}

/// Everything that an engine wrote down.
#[derive(Clone, Debug, PartialEq)]
pub struct Truth {
    /// The requests, in the order in which they left.
    pub requests: Vec<RequestTruth>,
    /// The devices; some are missing if the engine did not end because it was told to.
    pub devices: Vec<DeviceTruth>,
}

impl Truth {
    /// Reads it from an engine's directory. A last line that is not whole, of a front that was killed, is left out.
    pub fn read(dir: &Path) -> Result<Self> {
        let mut devices: Vec<DeviceTruth> = lines(&dir.join(DEVICES))?;
        devices.sort_by_key(|device| device.device);
        Ok(Self { requests: lines(&dir.join(REQUESTS))?, devices })
    }

    /// The request with this response id.
    pub fn request(&self, id: &str) -> Option<&RequestTruth> {
        self.requests.iter().find(|request| request.id == id)
    }
}

/// A line of a log.
pub fn line_of(truth: &impl Serialize) -> Result<String> {
    Ok(format!("{}\n", serde_json::to_string(truth)?))
}

fn lines<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>> {
    if !path.exists() {
        return Ok(Vec::new());
    }
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    whole.map(|line| serde_json::from_str(line).with_context(|| format!("{}: {line}", path.display()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_but_for_a_line_that_was_cut() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Truth::read(dir.path()).unwrap(), Truth { requests: Vec::new(), devices: Vec::new() });
        let device =
            DeviceTruth { device: 1, since_ns: 5, until_ns: 9, total_uj: 10, steps_uj: 7, idle_uj: 3, n_steps: 2 };
        let line = line_of(&device).unwrap();
        fs::write(dir.path().join(DEVICES), format!("{line}{}", &line[..20])).unwrap();
        assert_eq!(Truth::read(dir.path()).unwrap().devices, [device]);
        fs::write(dir.path().join(REQUESTS), "nonsense\n").unwrap();
        assert!(Truth::read(dir.path()).is_err());
    }

    #[test]
    fn energy_survives_the_log_to_the_microjoule() {
        for energy in [0u64, 1, 999, 123_456_789, 40_000_000_001] {
            let text = serde_json::to_string(&(energy as f64 / 1000.0)).unwrap();
            let read: f64 = serde_json::from_str(&text).unwrap();
            assert_eq!((read * 1000.0).round() as u64, energy);
        }
    }
}
