//! What the engine's processes say to each other: one JSON object a line, over UNIX sockets.
//!
//! The front opens a socket by name, as a server with its engine core in another process does, and the core connects to
//! it; each worker gets one end of a pair as its standard input. A side that finds the other's end closed ends too.

use std::{
    io::{self, BufRead, Write},
    path::PathBuf,
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{batch::Asked, books::Closed, cost::Cost};

/// How an engine is set up, from the front to the core and its workers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Setup {
    /// Where logs and the socket are.
    pub dir: PathBuf,
    /// Worker processes.
    pub workers: usize,
    /// Indices of the devices; worker `n` is on the `n`th, round and round.
    pub devices: Vec<u32>,
    /// What each worker reads before it is ready.
    pub weights: Option<PathBuf>,
    /// A stand-in for libcudart that each worker loads and waits in.
    pub cudart: Option<PathBuf>,
    /// How many times as fast as the model.
    pub rate_scale: f64,
}

/// How one worker is set up.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WorkerSetup {
    /// The engine's setup.
    pub engine: Setup,
    /// Its device.
    pub device: u32,
    /// Whether it is the first on its device: the one that accounts for the device's power.
    pub leads: bool,
}

/// An injected fault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Fault {
    /// Of the first worker.
    Worker(WorkerFault),
    /// Of all devices.
    Gpu(GpuFault),
    /// Of the engine core.
    Core(CoreFault),
}

/// What a worker does between two steps, so that steps wait for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "worker", rename_all = "snake_case")]
pub enum WorkerFault {
    /// Drops a file from the page cache and reads it.
    Read {
        /// The file.
        file: PathBuf,
    },
    /// Takes memory and writes to all of it.
    Allocate {
        /// MiB.
        mib: u64,
    },
    /// Takes memory of its device, by the stand-in for libcudart, and ends if it does not get it.
    GpuAllocate {
        /// MiB.
        mib: u64,
    },
    /// Does nothing.
    Stall {
        /// For so long.
        ms: u64,
    },
}

/// What happens to the devices.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "gpu", rename_all = "snake_case")]
pub enum GpuFault {
    /// The clocks are held down: steps take twice as long.
    Throttle {
        /// For so long.
        ms: u64,
    },
    /// The driver reports an error.
    Xid {
        /// NVIDIA's number of it.
        code: u64,
    },
}

/// What happens to the engine core.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "core", rename_all = "snake_case")]
pub enum CoreFault {
    /// It ends.
    Exit {
        /// With this status.
        code: i32,
    },
    /// It ends by SIGABRT.
    Abort,
}

/// Front to core.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToCore {
    /// A request.
    Submit(Asked),
    /// Nobody wants its answer any more.
    Cancel(u64),
    /// To inject.
    Fault(Fault),
    /// Close the books and end.
    Stop,
}

/// Core to front.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromCore {
    /// All workers have loaded.
    Ready {
        /// Their processes.
        workers: Vec<u32>,
    },
    /// A step gave each of these requests one token.
    Tokens(Vec<u64>),
    /// A request has left, and its account is closed.
    Closed(Closed),
}

/// Core to worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToWorker {
    /// Compute a step. Answered by `Began` and `Ended`.
    Step(Cost),
    /// Nothing follows. Answered by `Began`.
    Idle,
    /// The clocks are held down from now on, or not any more.
    Throttle(bool),
    /// An error of the device.
    Xid(u64),
    /// To inject.
    Fault(WorkerFault),
    /// End.
    Stop,
}

/// Worker to core.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromWorker {
    /// It has loaded.
    Ready,
    /// The step has begun, or the device is idle.
    Began {
        /// When, `CLOCK_MONOTONIC` nanoseconds.
        at_ns: u64,
        /// Energy of the step before on its device, microjoules; zero from a worker that does not lead.
        before_uj: u64,
    },
    /// The step has ended.
    Ended {
        /// When.
        at_ns: u64,
    },
}

/// Writes one message.
pub fn send(to: &mut impl Write, message: &impl Serialize) -> io::Result<()> {
    to.write_all(&line(message)?)
}

/// A message as it is sent.
pub fn line(message: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    Ok(line)
}

/// Reads one message; `None` if the other side has closed.
pub fn receive<T: DeserializeOwned>(from: &mut impl BufRead) -> io::Result<Option<T>> {
    let mut line = String::new();
    match from.read_line(&mut line) {
        Ok(0) => Ok(None),
        // A process that is killed with something unread resets its sockets instead of closing them.
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(None),
        Ok(_) => Ok(Some(serde_json::from_str(&line)?)),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn faults_are_told_apart_by_whom_they_hit() {
        let fault = |value| serde_json::from_value::<Fault>(value).ok();
        assert_eq!(
            fault(json!({"worker": "read", "file": "/w"})),
            Some(Fault::Worker(WorkerFault::Read { file: "/w".into() }))
        );
        assert_eq!(fault(json!({"worker": "stall", "ms": 5})), Some(Fault::Worker(WorkerFault::Stall { ms: 5 })));
        let taken = Fault::Worker(WorkerFault::GpuAllocate { mib: 4 });
        assert_eq!(fault(json!({"worker": "gpu_allocate", "mib": 4})), Some(taken));
        assert_eq!(fault(json!({"gpu": "throttle", "ms": 9})), Some(Fault::Gpu(GpuFault::Throttle { ms: 9 })));
        assert_eq!(fault(json!({"gpu": "xid", "code": 79})), Some(Fault::Gpu(GpuFault::Xid { code: 79 })));
        assert_eq!(fault(json!({"core": "exit", "code": 3})), Some(Fault::Core(CoreFault::Exit { code: 3 })));
        assert_eq!(fault(json!({"core": "abort"})), Some(Fault::Core(CoreFault::Abort)));
        assert_eq!(fault(json!({"worker": "dance"})), None);
    }

    #[test]
    fn what_is_sent_is_received_and_the_end_is_told() {
        let mut pipe = Vec::new();
        let fault = Fault::Worker(WorkerFault::Allocate { mib: 3 });
        let sent = [ToCore::Cancel(7), ToCore::Fault(fault), ToCore::Stop];
        for message in &sent {
            send(&mut pipe, message).unwrap();
        }
        let mut from = pipe.as_slice();
        for message in sent {
            assert_eq!(receive(&mut from).unwrap(), Some(message));
        }
        assert_eq!(receive::<ToCore>(&mut from).unwrap(), None);
        assert!(receive::<ToCore>(&mut b"nonsense\n".as_slice()).is_err());
    }
}
