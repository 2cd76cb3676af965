//! Loading the kernel object and attaching the programs that are attached once.

use std::sync::Arc;

use aya::{
    Btf as AyaBtf, Ebpf, EbpfLoader, VerifierLogLevel,
    programs::{BtfTracePoint, ProgramError, UProbe},
};
use inferscope_common::config::{CONFIG_GLOBAL, Config, OFFSETS_GLOBAL};

use super::{
    accounts::Accounts,
    answers::Answers,
    btf::Btf,
    clock,
    counters::KernelCounters,
    error::{LoadError, VMLINUX_BTF},
    heap,
    multi::Prepared,
    offsets, privilege,
    prober::{Prober, Program},
    programs::{
        OPTIONAL_TRACEPOINTS, PROCESS_TRACEPOINTS, Plain, SOCKET_TRACEPOINTS, TASK_ITERATOR, URING_TRACEPOINT, program,
    },
    rings::Rings,
    settings::Settings,
    targets,
    watcher::Watcher,
};

/// The committed object, or the one that INFERSCOPE_BPF_OBJECT named when the agent was built.
static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("INFERSCOPE_BPF_OBJECT"));

/// Lines of a verifier's log that an error shows: the reason stands at the end.
const VERIFIER_LOG_LINES: usize = 40;

/// The kernel side, up and running. Dropping its parts detaches and unloads everything.
pub struct Loaded {
    /// The two rings.
    pub rings: Rings,
    /// The way back.
    pub answers: Answers,
    /// Attaches TLS probes.
    pub prober: Prober,
    /// Reads the kernel's counters.
    pub counters: KernelCounters,
    /// Reads what each process moved.
    pub accounts: Arc<Accounts>,
    /// Reads what the threads of processes use.
    pub watcher: Watcher,
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

/// Loads every program and attaches none: capture begins with [`Prober::follow_sockets`].
pub fn load(settings: &Settings) -> Result<Loaded, LoadError> {
    privilege::raise_file_limit();
    heap::return_freed_memory();
    let blob = std::fs::read(VMLINUX_BTF).map_err(LoadError::NoBtf)?;
    let resolved = offsets::resolve(&Btf::parse(&blob)?);
    let mut degraded = Vec::new();
    for member in &resolved.missing {
        let consequence = consequence_of(member).ok_or_else(|| LoadError::NoOffsets((*member).into()))?;
        degraded.push(Degraded { mechanism: format!("kernel structure member {member}"), consequence });
    }
    let tick_ns = clock::tick_ns();
    if tick_ns.is_none() {
        let consequence = "a peer that is slow to read is not seen";
        degraded.push(Degraded { mechanism: "length of the kernel's tick".into(), consequence });
    }
    let config = Plain(Config {
        self_tgid: std::process::id(),
        target_mode: targets::mode(&settings.targets),
        judged: settings.targets.needs_judge().into(),
        ports: targets::port_flags(&settings.targets),
        all_http: settings.all_http.into(),
        // 32 MiB in one call, and all its segments.
        max_chunks: 2048,
        infer: settings.infer.into(),
        lines: settings.lines.into(),
        tick_ns: tick_ns.unwrap_or(0),
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
    if !settings.infer {
        // Never used then, and its memory is taken when it is made.
        loader.map_max_entries("CHAINS", 1);
    }
    if !settings.lines {
        loader.map_max_entries("PIPES", 1);
    }
    if !settings.step_clock {
        for map in ["CUDA_STEPS", "CUDA_CALLS"] {
            loader.map_max_entries(map, 1);
        }
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
    // Before the maps are handed out.
    let prepared = Prepared::new(OBJECT, &ebpf);
    let (multi, optional) = std::thread::scope(|scope| {
        let multi = scope.spawn(|| prepared.and_then(Prepared::load));
        load_tracepoints(&mut ebpf, &aya_btf)?;
        let optional = load_optional(&mut ebpf, &aya_btf, &mut degraded)?;
        let multi = multi.join().unwrap_or_else(|why| std::panic::resume_unwind(why));
        Ok::<_, LoadError>((multi, optional))
    })?;
    let multi = multi.inspect_err(|error| tracing::debug!(%error, "user probes by perf events")).ok();
    if multi.is_none() {
        for name in Program::ALL.map(Program::name) {
            let program: &mut UProbe = program(&mut ebpf, name)?;
            program.load().map_err(|error| refused(name, &error))?;
        }
    }
    let rings = Rings::take(&mut ebpf)?;
    let answers = Answers::take(&mut ebpf)?;
    let counters = KernelCounters::take(&mut ebpf)?;
    let accounts = Arc::new(Accounts::take(&mut ebpf)?);
    let watcher = Watcher::new(&mut ebpf, &aya_btf, &resolved.missing, &mut degraded)?;
    let prober = Prober::new(ebpf, multi, settings, optional)?;
    Ok(Loaded { rings, answers, prober, counters, accounts, watcher, degraded })
}

fn load_tracepoints(ebpf: &mut Ebpf, btf: &AyaBtf) -> Result<(), LoadError> {
    for name in PROCESS_TRACEPOINTS.into_iter().chain(SOCKET_TRACEPOINTS) {
        let program: &mut BtfTracePoint = program(ebpf, name)?;
        program.load(name, btf).map_err(|error| refused(name, &error))?;
    }
    Ok(())
}

/// The programs on tracepoints that a kernel may lack; gives those that it has.
fn load_optional(
    ebpf: &mut Ebpf,
    btf: &AyaBtf,
    degraded: &mut Vec<Degraded>,
) -> Result<Vec<(&'static str, &'static str)>, LoadError> {
    let mut loaded = Vec::new();
    for (name, consequence) in OPTIONAL_TRACEPOINTS {
        match program::<BtfTracePoint>(ebpf, name)?.load(name, btf) {
            Ok(()) => loaded.push((name, consequence)),
            Err(error) => {
                tracing::debug!(name, %error, "not loaded");
                degraded.push(Degraded { mechanism: format!("tracepoint {name}"), consequence });
            }
        }
    }
    Ok(loaded)
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
        "task_struct.self_exec_id" => {
            Some("a TLS stream can be mistaken for one of the program that its process ran before")
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
        "sock.sk_type" => Some("UNIX sockets are not captured"),
        "sock.sk_socket" | "sock.sk_receive_queue" | "sk_buff_head.qlen" => {
            Some("what is read of a connection that is over already is not captured")
        }
        "sock.sk_shutdown" => Some("the end of a UNIX socket is seen late"),
        "tcp_sock.rcv_nxt" => Some("a gap at the end of a stream can be one byte too long"),
        "unix_sock.peer" => Some("the two ends of a UNIX socket are not linked"),
        "unix_sock.addr" | "unix_address.len" | "unix_address.name" => Some("names of UNIX sockets are not seen"),
        "io_kiocb.file" | "io_kiocb.opcode" | "io_kiocb.cqe" | "io_cqe.res" | "io_kiocb.tctx"
        | "io_uring_task.task" => Some(URING_TRACEPOINT.1),
        "task_struct.__state"
        | "task_struct.exit_state"
        | "task_struct.se"
        | "sched_entity.sum_exec_runtime"
        | "task_struct.sched_info"
        | "sched_info.run_delay"
        | "task_struct.maj_flt"
        | "signal_struct.maj_flt" => Some(TASK_ITERATOR.1),
        "task_struct.ioac" | "signal_struct.ioac" | "task_io_accounting.read_bytes" => {
            Some("what processes read from storage is not seen")
        }
        "tcp_sock.chrono_type" | "tcp_sock.chrono_start" | "tcp_sock.chrono_stat" => {
            Some("a peer that is slow to read is not seen")
        }
        "tcp_sock.total_retrans" | "tcp_sock.srtt_us" => Some("how a connection fares is told without its own counts"),
        "inode.i_size" => Some("sizes of weight files are not seen"),
        "tcp_sock.write_seq" | "tcp_sock.copied_seq" => {
            Some("bytes that pass a socket unseen (sendfile, splice, io_uring) do not show as gaps")
        }
        _ => None,
    }
}
