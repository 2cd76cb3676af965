//! Globals of the kernel object that userspace sets before it is loaded.
//!
//! They are read-only afterwards, so the verifier treats them as constants and removes what they switch off.

/// Value of an offset that the running kernel's BTF does not have.
pub const MISSING: u32 = u32::MAX;

/// Name of the [`Config`] global in the object.
pub const CONFIG_GLOBAL: &str = "CONFIG";

/// Name of the [`Offsets`] global in the object.
pub const OFFSETS_GLOBAL: &str = "OFFSETS";

/// What to capture.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// The agent's own thread group, which is never traced; in the initial pid namespace.
    pub self_tgid: u32,
    /// Which thread groups are traced: [`EVERYONE`](crate::targets::EVERYONE) or one of its neighbours.
    pub target_mode: u32,
    /// 1: userspace judges every process that runs another program; 0: its name alone decides.
    pub judged: u32,
    /// `PORT_*` flags of [`targets`](crate::targets) that some port has; 0: ports do not matter.
    pub ports: u32,
    /// 1: an HTTP exchange is captured whatever its method; 0: after a drop verdict only a POST opens the gate again.
    pub all_http: u32,
    /// [`MAX_PAYLOAD`](crate::record::MAX_PAYLOAD)-sized pieces that one read or write is copied in at most.
    pub max_chunks: u32,
    /// 1: the headers of TLS records are told where no probe reads the plaintext.
    pub infer: u32,
    /// 1: messages that pass pipes and UNIX sockets one a line are captured.
    pub lines: u32,
    /// Nanoseconds of the kernel's tick, which TCP measures some times in; 0: not known, and what is measured so is not told.
    pub tick_ns: u32,
}

/// Offsets of kernel structure members, in bytes, computed from the running kernel's BTF. rustc emits no CO-RE
/// relocations, and a baked-in offset reads another member without an error on another kernel.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offsets {
    /// `task_struct.files`
    pub task_files: u32,
    /// `task_struct.group_leader`
    pub task_group_leader: u32,
    /// `task_struct.start_boottime`
    pub task_start_boottime: u32,
    /// `task_struct.self_exec_id`
    pub task_self_exec_id: u32,
    /// `task_struct.pid`
    pub task_pid: u32,
    /// `task_struct.tgid`
    pub task_tgid: u32,
    /// `task_struct.signal`
    pub task_signal: u32,
    /// `task_struct.exit_code`
    pub task_exit_code: u32,
    /// `signal_struct.live`
    pub signal_live: u32,
    /// `signal_struct.group_exit_code`
    pub signal_group_exit_code: u32,
    /// `files_struct.fdt`
    pub files_fdt: u32,
    /// `fdtable.max_fds`
    pub fdtable_max_fds: u32,
    /// `fdtable.fd`
    pub fdtable_fd: u32,
    /// `file.f_inode`
    pub file_inode: u32,
    /// `file.private_data`
    pub file_private_data: u32,
    /// `inode.i_mode`
    pub inode_mode: u32,
    /// `inode.i_ino`
    pub inode_ino: u32,
    /// `socket.sk`
    pub socket_sk: u32,
    /// `sock.sk_protocol`
    pub sk_protocol: u32,
    /// `sock.sk_type`
    pub sk_type: u32,
    /// `sock.sk_socket`
    pub sk_socket: u32,
    /// `sock.sk_shutdown`
    pub sk_shutdown: u32,
    /// `sock.sk_receive_queue`
    pub sk_receive_queue: u32,
    /// `sk_buff_head.qlen`
    pub queue_len: u32,
    /// `sock.sk_err`
    pub sk_err: u32,
    /// `sock_common.skc_family`
    pub skc_family: u32,
    /// `sock_common.skc_state`
    pub skc_state: u32,
    /// `sock_common.skc_daddr`
    pub skc_daddr: u32,
    /// `sock_common.skc_rcv_saddr`
    pub skc_rcv_saddr: u32,
    /// `sock_common.skc_dport`
    pub skc_dport: u32,
    /// `sock_common.skc_num`
    pub skc_num: u32,
    /// `sock_common.skc_v6_daddr`
    pub skc_v6_daddr: u32,
    /// `sock_common.skc_v6_rcv_saddr`
    pub skc_v6_rcv_saddr: u32,
    /// `tcp_sock.write_seq`
    pub tcp_write_seq: u32,
    /// `tcp_sock.copied_seq`
    pub tcp_copied_seq: u32,
    /// `tcp_sock.rcv_nxt`
    pub tcp_rcv_nxt: u32,
    /// `unix_sock.peer`
    pub unix_peer: u32,
    /// `unix_sock.addr`
    pub unix_addr: u32,
    /// `unix_address.len`
    pub unix_address_len: u32,
    /// `unix_address.name`
    pub unix_address_name: u32,
    /// `io_kiocb.file`
    pub uring_file: u32,
    /// `io_kiocb.opcode`
    pub uring_opcode: u32,
    /// `io_kiocb.cqe`
    pub uring_cqe: u32,
    /// `io_cqe.res`
    pub uring_cqe_res: u32,
    /// `io_kiocb.tctx`
    pub uring_tctx: u32,
    /// `io_uring_task.task`
    pub uring_task: u32,
    /// `task_struct.__state`
    pub task_state: u32,
    /// `task_struct.exit_state`
    pub task_exit_state: u32,
    /// `task_struct.se.sum_exec_runtime`
    pub task_cpu: u32,
    /// `task_struct.sched_info.run_delay`
    pub task_run_delay: u32,
    /// `task_struct.maj_flt`
    pub task_major_faults: u32,
    /// `task_struct.ioac.read_bytes`
    pub task_read_bytes: u32,
    /// `signal_struct.maj_flt`: of threads that have ended.
    pub signal_major_faults: u32,
    /// `signal_struct.ioac.read_bytes`: likewise.
    pub signal_read_bytes: u32,
    /// The byte of `tcp_sock.chrono_type`, which holds it in its lower two bits.
    pub tcp_chrono_type: u32,
    /// `tcp_sock.chrono_start`
    pub tcp_chrono_start: u32,
    /// `tcp_sock.chrono_stat`
    pub tcp_chrono_stat: u32,
    /// `tcp_sock.total_retrans`
    pub tcp_total_retrans: u32,
    /// `tcp_sock.srtt_us`
    pub tcp_srtt: u32,
    /// `inode.i_size`
    pub inode_size: u32,
}

/// Number of offsets in [`Offsets`].
pub const OFFSETS_LEN: usize = size_of::<Offsets>() / size_of::<u32>();

const _: () = {
    assert!(size_of::<Config>() == 36);
    assert!(OFFSETS_LEN == 60);
};
