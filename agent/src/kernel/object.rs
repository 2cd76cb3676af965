//! Loading the kernel object and attaching the programs that are attached once.

use aya::{
    Btf as AyaBtf, Ebpf, EbpfError, EbpfLoader, VerifierLogLevel,
    maps::MapError,
    programs::{BtfTracePoint, ProgramError, UProbe},
};
use inferscope_common::config::{CONFIG_GLOBAL, Config, OFFSETS_GLOBAL, Offsets};
use thiserror::Error;

use super::{
    btf::{Btf, BtfError},
    counters::KernelCounters,
    offsets, privilege,
    prober::Prober,
    rings::Rings,
};

/// The committed object, or the one that INFERSCOPE_BPF_OBJECT named when the agent was built.
static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("INFERSCOPE_BPF_OBJECT"));

const VMLINUX_BTF: &str = "/sys/kernel/btf/vmlinux";

/// Lines of a verifier's log that an error shows: the reason stands at the end.
const VERIFIER_LOG_LINES: usize = 40;

/// What to load the programs with.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Trace only these thread groups and their children; empty together with `comms`: every process.
    pub pids: Vec<u32>,
    /// Trace processes with these names (`comm`).
    pub comms: Vec<String>,
    /// Capture every HTTP exchange, not only POSTs.
    pub all_http: bool,
    /// Size of the bulk ring in bytes, a power of two; `None` takes the object's default.
    pub ring_bytes: Option<u32>,
}

impl Settings {
    /// Whether only listed processes are traced.
    pub fn listed_only(&self) -> bool {
        !self.pids.is_empty() || !self.comms.is_empty()
    }
}

/// The kernel side, up and running. Dropping its parts detaches and unloads everything.
pub struct Loaded {
    /// The two rings, and the way back for verdicts.
    pub rings: Rings,
    /// Attaches TLS probes.
    pub prober: Prober,
    /// Reads the kernel's counters.
    pub counters: KernelCounters,
    /// What does not work on this kernel, and what is lost with it.
    pub degraded: Vec<Degraded>,
}

/// A mechanism that is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Degraded {
    /// What did not work.
    pub mechanism: String,
    /// What is lost.
    pub consequence: &'static str,
}

/// Why the kernel side did not come up.
#[derive(Debug, Error)]
pub enum LoadError {
    /// The kernel publishes no type information.
    #[error(
        "cannot read {VMLINUX_BTF}: the kernel must be built with CONFIG_DEBUG_INFO_BTF=y (every current distribution's is)"
    )]
    NoBtf(#[source] std::io::Error),
    /// The type information cannot be read.
    #[error("{VMLINUX_BTF} is not what was expected")]
    BadBtf(#[from] BtfError),
    /// Members without which no socket can be followed are missing.
    #[error("the kernel's type information lacks {0}: sockets cannot be followed on this kernel")]
    NoOffsets(String),
    /// aya did not take the object.
    #[error("the kernel did not accept the programs' maps or type information")]
    Object(#[from] EbpfError),
    /// A program did not load.
    #[error("the kernel refused program {name}: {log}")]
    Program {
        /// Which.
        name: &'static str,
        /// Error and the end of the verifier's log.
        log: String,
    },
    /// A program did not attach.
    #[error("program {0} did not attach")]
    Attach(&'static str, #[source] ProgramError),
    /// The object lacks a program or map: it is from another version.
    #[error("the kernel object has no {0}; it does not belong to this agent")]
    Lacks(&'static str),
    /// A map could not be used.
    #[error("map {0}")]
    Map(&'static str, #[source] MapError),
}

/// `Config` and `Offsets` as aya wants globals: plain old data.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct Plain<T>(pub T);

// SAFETY: the wrapped types are `repr(C)` structs of integers without padding (asserted in inferscope-common).
unsafe impl aya::Pod for Plain<Config> {}
// SAFETY: as above.
unsafe impl aya::Pod for Plain<Offsets> {}
// SAFETY: as above.
unsafe impl aya::Pod for Plain<inferscope_common::verdict::Verdict> {}

/// Loads every program and attaches none: capture begins with [`Prober::follow_sockets`].
pub fn load(settings: &Settings) -> Result<Loaded, LoadError> {
    privilege::raise_file_limit();
    let blob = std::fs::read(VMLINUX_BTF).map_err(LoadError::NoBtf)?;
    let resolved = offsets::resolve(&Btf::parse(&blob)?);
    let mut degraded = Vec::new();
    for member in &resolved.missing {
        let consequence = consequence_of(member).ok_or_else(|| LoadError::NoOffsets((*member).into()))?;
        degraded.push(Degraded { mechanism: format!("kernel structure member {member}"), consequence });
    }
    let config = Plain(Config {
        self_tgid: std::process::id(),
        listed_only: settings.listed_only().into(),
        all_http: settings.all_http.into(),
        // 16 MiB in one call.
        max_chunks: 1024,
    });
    let offsets = Plain(resolved.offsets);
    let aya_btf = AyaBtf::from_sys_fs().map_err(|error| LoadError::Object(error.into()))?;
    let mut loader = EbpfLoader::new();
    loader
        .btf(Some(&aya_btf))
        .verifier_log_level(VerifierLogLevel::DEBUG | VerifierLogLevel::STATS)
        .override_global(CONFIG_GLOBAL, &config, true)
        .override_global(OFFSETS_GLOBAL, &offsets, true);
    if let Some(bytes) = settings.ring_bytes {
        loader.map_max_entries("DATA", bytes);
    }
    let mut ebpf = loader.load(OBJECT)?;

    #[cfg(feature = "bpf-log")]
    super::log::start(&mut ebpf);

    if privilege::return_probes_are_dangerous() {
        degraded.push(Degraded {
            mechanism: "return probes (kernels 6.11 to 6.13 let them kill processes under seccomp)".into(),
            consequence: "nothing inside TLS is captured",
        });
    }
    load_tracepoints(&mut ebpf, &aya_btf)?;
    for name in ["tls_entry", "tls_return", "tls_free"] {
        let program: &mut UProbe = program(&mut ebpf, name)?;
        program.load().map_err(|error| refused(name, &error))?;
    }
    let rings = Rings::take(&mut ebpf)?;
    let counters = KernelCounters::take(&mut ebpf)?;
    let prober = Prober::new(ebpf, settings)?;
    Ok(Loaded { rings, prober, counters, degraded })
}

/// Programs on tracepoints that follow processes.
pub(super) const PROCESS_TRACEPOINTS: [&str; 3] = ["sched_process_fork", "sched_process_exec", "sched_process_exit"];

/// Programs on tracepoints that follow sockets: their ends first, so that none is missed.
pub(super) const SOCKET_TRACEPOINTS: [&str; 2] = ["inet_sock_set_state", "sys_exit"];

fn load_tracepoints(ebpf: &mut Ebpf, btf: &AyaBtf) -> Result<(), LoadError> {
    for name in PROCESS_TRACEPOINTS.into_iter().chain(SOCKET_TRACEPOINTS) {
        let program: &mut BtfTracePoint = program(ebpf, name)?;
        program.load(name, btf).map_err(|error| refused(name, &error))?;
    }
    Ok(())
}

/// A program of the object, by name and type.
pub(super) fn program<'e, P>(ebpf: &'e mut Ebpf, name: &'static str) -> Result<&'e mut P, LoadError>
where
    &'e mut P: TryFrom<&'e mut aya::programs::Program, Error = ProgramError>,
{
    let program = ebpf.program_mut(name).ok_or(LoadError::Lacks(name))?;
    program.try_into().map_err(|_| LoadError::Lacks(name))
}

fn refused(name: &'static str, error: &ProgramError) -> LoadError {
    let text = error.to_string();
    let lines: Vec<&str> = text.lines().collect();
    let tail = lines.len().saturating_sub(VERIFIER_LOG_LINES).max(1);
    let mut log = lines.first().copied().unwrap_or_default().to_owned();
    for line in lines.iter().skip(tail) {
        log.push('\n');
        log.push_str(line);
    }
    LoadError::Program { name, log }
}

/// What is lost without a structure member; `None` if nothing works without it.
fn consequence_of(member: &str) -> Option<&'static str> {
    match member {
        "task_struct.group_leader" | "task_struct.start_boottime" => {
            Some("processes are told apart by pid alone: a reused pid can be mistaken for its predecessor")
        }
        "task_struct.pid" | "task_struct.tgid" => Some("new processes are seen at their exec only"),
        "task_struct.signal" | "signal_struct.live" => Some("the end of a process is not seen"),
        "task_struct.exit_code" | "signal_struct.group_exit_code" => Some("exit codes are not seen"),
        "sock.sk_err" => Some("a reset by the other end looks like a close of our own"),
        "sock_common.skc_state" => Some("a stream's last read can show a gap of one byte"),
        "sock_common.skc_daddr"
        | "sock_common.skc_rcv_saddr"
        | "sock_common.skc_dport"
        | "sock_common.skc_num"
        | "sock_common.skc_v6_daddr"
        | "sock_common.skc_v6_rcv_saddr" => Some("addresses are not seen"),
        "tcp_sock.write_seq" | "tcp_sock.copied_seq" => {
            Some("bytes that pass a socket unseen (sendfile, splice, io_uring) do not show as gaps")
        }
        _ => None,
    }
}
