//! The offsets that the kernel programs are given, and what is lost without each.

use std::cell::RefCell;

use inferscope_common::config::{MISSING, Offsets};

use super::btf::Btf;

/// Offsets, with the members that this kernel does not have.
#[derive(Debug)]
pub struct Resolved {
    /// What goes into the object.
    pub offsets: Offsets,
    /// `structure.member` of everything that was not found.
    pub missing: Vec<&'static str>,
}

/// Looks every member up.
pub fn resolve(btf: &Btf<'_>) -> Resolved {
    let missing = RefCell::new(Vec::new());
    let or_missing = |name: &'static str, found: Option<u32>| {
        found.unwrap_or_else(|| {
            missing.borrow_mut().push(name);
            MISSING
        })
    };
    let find = |name: &'static str| {
        let found = name.split_once('.').and_then(|(structure, member)| btf.offset_of(structure, member));
        or_missing(name, found)
    };
    // A member of a structure that lies within another.
    let within = |outer: &'static str, inner: &'static str| match find(outer) {
        MISSING => MISSING,
        at => match find(inner) {
            MISSING => MISSING,
            further => at + further,
        },
    };
    let offsets = Offsets {
        task_files: find("task_struct.files"),
        task_group_leader: find("task_struct.group_leader"),
        task_start_boottime: find("task_struct.start_boottime"),
        task_self_exec_id: find("task_struct.self_exec_id"),
        task_pid: find("task_struct.pid"),
        task_tgid: find("task_struct.tgid"),
        task_signal: find("task_struct.signal"),
        task_exit_code: find("task_struct.exit_code"),
        signal_live: find("signal_struct.live"),
        signal_group_exit_code: find("signal_struct.group_exit_code"),
        files_fdt: find("files_struct.fdt"),
        fdtable_max_fds: find("fdtable.max_fds"),
        fdtable_fd: find("fdtable.fd"),
        file_inode: find("file.f_inode"),
        file_private_data: find("file.private_data"),
        inode_mode: find("inode.i_mode"),
        inode_ino: find("inode.i_ino"),
        socket_sk: find("socket.sk"),
        sk_protocol: find("sock.sk_protocol"),
        sk_type: find("sock.sk_type"),
        sk_socket: find("sock.sk_socket"),
        sk_shutdown: find("sock.sk_shutdown"),
        sk_receive_queue: find("sock.sk_receive_queue"),
        queue_len: find("sk_buff_head.qlen"),
        sk_err: find("sock.sk_err"),
        skc_family: find("sock_common.skc_family"),
        skc_state: find("sock_common.skc_state"),
        skc_daddr: find("sock_common.skc_daddr"),
        skc_rcv_saddr: find("sock_common.skc_rcv_saddr"),
        skc_dport: find("sock_common.skc_dport"),
        skc_num: find("sock_common.skc_num"),
        skc_v6_daddr: find("sock_common.skc_v6_daddr"),
        skc_v6_rcv_saddr: find("sock_common.skc_v6_rcv_saddr"),
        tcp_write_seq: find("tcp_sock.write_seq"),
        tcp_copied_seq: find("tcp_sock.copied_seq"),
        tcp_rcv_nxt: find("tcp_sock.rcv_nxt"),
        unix_peer: find("unix_sock.peer"),
        unix_addr: find("unix_sock.addr"),
        unix_address_len: find("unix_address.len"),
        unix_address_name: find("unix_address.name"),
        uring_file: find("io_kiocb.file"),
        uring_opcode: find("io_kiocb.opcode"),
        uring_cqe: find("io_kiocb.cqe"),
        uring_cqe_res: find("io_cqe.res"),
        uring_tctx: find("io_kiocb.tctx"),
        uring_task: find("io_uring_task.task"),
        task_state: find("task_struct.__state"),
        task_exit_state: find("task_struct.exit_state"),
        task_cpu: within("task_struct.se", "sched_entity.sum_exec_runtime"),
        task_run_delay: within("task_struct.sched_info", "sched_info.run_delay"),
        task_major_faults: find("task_struct.maj_flt"),
        task_read_bytes: within("task_struct.ioac", "task_io_accounting.read_bytes"),
        signal_major_faults: find("signal_struct.maj_flt"),
        signal_read_bytes: within("signal_struct.ioac", "task_io_accounting.read_bytes"),
        tcp_chrono_type: or_missing("tcp_sock.chrono_type", btf.byte_of("tcp_sock", "chrono_type")),
        tcp_chrono_start: find("tcp_sock.chrono_start"),
        tcp_chrono_stat: find("tcp_sock.chrono_stat"),
        tcp_total_retrans: find("tcp_sock.total_retrans"),
        tcp_srtt: find("tcp_sock.srtt_us"),
        inode_size: find("inode.i_size"),
    };
    let mut missing = missing.into_inner();
    missing.sort_unstable();
    missing.dedup();
    Resolved { offsets, missing }
}
