//! A real vLLM on the CPU with a model of nonsense, which is installed only where it is asked for: some 6 GB.
//!
//! Owns where it lies and at which version, how it is started, its processes, and what it tells of itself on `/metrics`.
//! `cargo xtask test --suite vllm` installs it; the packages are in `python/requirements-vllm.txt`, the model is made by
//! `python/vllm_model.py`. To take another version: the list (its head says how), [`VERSION`] and [`OWN_VERSION`], and what
//! `e2e/vllm.rs` says of vLLM's sources.

use std::{
    collections::BTreeMap,
    fs,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, TcpStream},
    path::PathBuf,
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;

use crate::{
    place,
    process::{Program, Stream},
};

/// Its version.
pub const VERSION: &str = "0.32.0";

/// The version that it gives itself: the local part makes it the build for the CPU.
pub const OWN_VERSION: &str = "0.32.0+cpu";

/// The list that its environment is made from.
pub const LIST: &str = "requirements-vllm.txt";

/// The name that its model is served by.
pub const MODEL: &str = "tiny";

/// How long it may take to start: 45 s on two cores that have nothing else to do.
const START: Duration = Duration::from_secs(300);

/// How long it may take to answer a question about itself.
const ANSWER: Duration = Duration::from_secs(30);

/// The folder with its environment and its model.
pub fn dir() -> PathBuf {
    place::target().join("vllm")
}

/// The environment.
pub fn venv() -> PathBuf {
    dir().join("venv")
}

/// The environment's interpreter.
pub fn python() -> PathBuf {
    venv().join("bin/python")
}

/// The model.
pub fn model() -> PathBuf {
    dir().join("model")
}

/// The file that is there once the installation is whole, and holds what it was made from.
pub fn stamp() -> PathBuf {
    dir().join("made-from")
}

/// Why it cannot be run, if so.
pub fn missing() -> Option<String> {
    (!stamp().is_file()).then(|| "vLLM is not installed: `cargo xtask test --suite vllm` does that (6 GB)".to_owned())
}

/// A vLLM that serves. One that goes out of scope is killed with all its processes.
#[derive(Debug)]
pub struct Vllm {
    program: Program,
    port: u16,
}

impl Vllm {
    /// Starts one with these options beside its own, and waits until it serves.
    pub fn start(options: &[&str]) -> Result<Self> {
        let port = place::free_port()?;
        let mut command = Command::new(venv().join("bin/vllm"));
        command.arg("serve").arg(model()).args(["--served-model-name", MODEL, "--host", "127.0.0.1"]);
        // Neither compiled nor captured graphs: what they win is lost by far while starting.
        command.args(["--port", &port.to_string(), "--dtype", "float32", "--max-model-len", "2048", "--enforce-eager"]);
        // Its own times in every answer.
        command.arg("--enable-per-request-metrics").args(options);
        // A gigabyte for keys and values; one thread to compute, where the kernel puts it, for on a small machine more would
        // wait for one another; nothing from the network.
        command.envs([
            ("VLLM_CPU_KVCACHE_SPACE", "1"),
            ("VLLM_CPU_OMP_THREADS_BIND", "nobind"),
            ("OMP_NUM_THREADS", "1"),
            ("VLLM_NO_USAGE_STATS", "1"),
            ("HF_HUB_OFFLINE", "1"),
            // Where it is told to trace itself.
            ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "grpc"),
        ]);
        let program = Program::spawn("vllm", &mut command)?;
        program.wait_for_line(Stream::Stderr, "complete start", START, |line| {
            line.contains("Application startup complete")
        })?;
        Ok(Self { program, port })
    }

    /// The process that was started.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// Where it serves.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Ends it as a service manager does, and waits until it has told all that it had to tell.
    pub fn stop(self) -> Result<()> {
        self.program.signal(Signal::TERM)?;
        self.program.wait_exit(START)?;
        Ok(())
    }

    /// Its processes and their command lines or titles, as `ps` shows them.
    pub fn processes(&self) -> Vec<(u32, String)> {
        let title = |pid: u32| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
            let words: Vec<_> = line.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
            Some((pid, words.join(" ").trim_end().to_owned()))
        };
        self.program.tree().into_iter().filter_map(title).collect()
    }

    /// What it counts now.
    pub fn metrics(&self) -> Result<Metrics> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).context("vLLM does not listen")?;
        stream.set_read_timeout(Some(ANSWER))?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        ensure!(text.starts_with("HTTP/1.1 200 "), "/metrics: {}", text.lines().next().unwrap_or_default());
        Ok(Metrics::parse(&text))
    }
}

/// Values of `/metrics`, each the sum over its labels.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metrics(BTreeMap<String, f64>);

impl Metrics {
    /// Lines of Prometheus's text format: a name, labels, a value. Others are none.
    fn parse(text: &str) -> Self {
        let mut values = BTreeMap::new();
        for line in text.lines().filter(|line| line.starts_with("vllm:")) {
            let Some((name, value)) = line.rsplit_once(' ') else { continue };
            let name = name.split('{').next().unwrap_or(name);
            if let Ok(value) = value.parse::<f64>() {
                *values.entry(name.to_owned()).or_default() += value;
            }
        }
        Self(values)
    }

    /// A value, by its name behind `vllm:`.
    pub fn get(&self, name: &str) -> Result<f64> {
        self.0.get(&format!("vllm:{name}")).copied().with_context(|| format!("vLLM tells no {name}"))
    }

    /// How much a value has grown.
    pub fn since(&self, before: &Self, name: &str) -> Result<f64> {
        Ok(self.get(name)? - before.get(name).unwrap_or(0.0))
    }

    /// The mean of what a histogram took in since.
    pub fn mean_since(&self, before: &Self, name: &str) -> Result<f64> {
        let count = self.since(before, &format!("{name}_count"))?;
        ensure!(count > 0.0, "{name} took nothing in");
        Ok(self.since(before, &format!("{name}_sum"))? / count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &str = "HTTP/1.1 200 OK\r\n\r\n# TYPE vllm:request_success counter\n\
        vllm:request_success_total{engine=\"0\",finished_reason=\"stop\",model_name=\"tiny\"} 1.0\n\
        vllm:request_success_total{engine=\"0\",finished_reason=\"length\",model_name=\"a b\"} 2.0\n\
        vllm:ttft_sum{engine=\"0\"} 0.5\nvllm:ttft_count{engine=\"0\"} 1.0\npython_info{major=\"3\"} 1.0\n";

    #[test]
    fn metrics_are_summed_over_labels_and_compared() {
        let before = Metrics::parse(BEFORE);
        let after = Metrics::parse(
            &BEFORE
                .replace("ttft_sum{engine=\"0\"} 0.5", "ttft_sum{engine=\"0\"} 1.5")
                .replace("ttft_count{engine=\"0\"} 1.0", "ttft_count{engine=\"0\"} 3"),
        );
        assert_eq!(before.get("request_success_total").unwrap(), 3.0);
        assert_eq!(after.mean_since(&before, "ttft").unwrap(), 0.5);
        assert!(before.mean_since(&before, "ttft").is_err() && before.get("python_info").is_err());
    }
}
