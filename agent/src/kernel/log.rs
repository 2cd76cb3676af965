//! What the kernel programs log, in the agent's own log. Only with the cargo feature `bpf-log`, and only if the object
//! was built with its feature `log`.

use std::{os::fd::AsRawFd as _, time::Duration};

use aya::Ebpf;
use aya_log::EbpfLogger;

use super::rings;

/// Hands lines on to `tracing`.
struct ToTracing;

impl log::Log for ToTracing {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        tracing::info!(target: "inferscope::bpf", "{}", record.args());
    }

    fn flush(&self) {}
}

/// Prints lines from a thread of its own until the process ends.
pub fn start(ebpf: &mut Ebpf) {
    let mut logger = match EbpfLogger::init_with_logger(ebpf, ToTracing) {
        Ok(logger) => logger,
        Err(error) => {
            tracing::warn!(%error, "the kernel object logs nothing; build it with `cargo xtask build-ebpf --log`");
            return;
        }
    };
    let thread = std::thread::Builder::new().name("bpf-log".into()).spawn(move || {
        loop {
            rings::poll(&[logger.as_raw_fd()], Duration::from_secs(60));
            logger.flush();
        }
    });
    if let Err(error) = thread {
        tracing::warn!(%error, "the kernel programs' log is not shown");
    }
}
