//! From a descriptor to its socket, and what is read from a socket.
//!
//! The walk task -> files -> fdt -> file -> socket -> sock works for connections that are older than the agent
//! and needs no state of its own. Every step fails softly.

use aya_ebpf::helpers::bpf_get_current_task;
use inferscope_common::{
    record::READ,
    targets::{PORT_EXCLUDED, PORT_WANTED},
};

use crate::{
    globals::{config, offset},
    maps::PORTS,
    task::read_at,
};

const S_IFMT: u16 = 0o170_000;
const S_IFSOCK: u16 = 0o140_000;
const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;
const IPPROTO_TCP: u16 = 6;
/// `TCP_ESTABLISHED` of include/net/tcp_states.h.
const TCP_ESTABLISHED: u8 = 1;
/// `TCP_CLOSE`.
const TCP_CLOSE: u8 = 7;

/// A TCP socket found behind a descriptor.
#[derive(Clone, Copy)]
pub struct TcpSock {
    /// Address of the `sock`.
    pub id: u64,
    /// Inode number.
    pub generation: u64,
}

/// The TCP socket behind `fd` of the current task, if it is one.
#[inline(always)]
pub fn of_fd(fd: u64) -> Option<TcpSock> {
    let task = unsafe { bpf_get_current_task() };
    let files: u64 = read_at(task, unsafe { offset!(task_files) })?;
    let fdt: u64 = read_at(files, unsafe { offset!(files_fdt) })?;
    let max_fds: u32 = read_at(fdt, unsafe { offset!(fdtable_max_fds) })?;
    if fd >= u64::from(max_fds) {
        return None;
    }
    let table: u64 = read_at(fdt, unsafe { offset!(fdtable_fd) })?;
    let file: u64 = read_at(table + fd * 8, 0)?;
    let inode: u64 = read_at(file, unsafe { offset!(file_inode) })?;
    let mode: u16 = read_at(inode, unsafe { offset!(inode_mode) })?;
    if mode & S_IFMT != S_IFSOCK {
        return None;
    }
    let socket: u64 = read_at(file, unsafe { offset!(file_private_data) })?;
    let id: u64 = read_at(socket, unsafe { offset!(socket_sk) })?;
    let family: u16 = read_at(id, unsafe { offset!(skc_family) })?;
    if family != AF_INET && family != AF_INET6 {
        return None;
    }
    let protocol: u16 = read_at(id, unsafe { offset!(sk_protocol) })?;
    if protocol != IPPROTO_TCP {
        return None;
    }
    let generation: u64 = read_at(inode, unsafe { offset!(inode_ino) })?;
    Some(TcpSock { id, generation })
}

/// Sequence number just behind the bytes that a call in `direction` transferred. Exact while one thread at a time
/// uses the direction.
#[inline(always)]
pub fn end_seq(id: u64, direction: u8) -> Option<u32> {
    if direction == READ {
        read_at(id, unsafe { offset!(tcp_copied_seq) })
    } else {
        read_at(id, unsafe { offset!(tcp_write_seq) })
    }
}

/// Whether the connection is on its way out. A received FIN counts one in the read direction's sequence number.
#[inline(always)]
pub fn is_closing(id: u64) -> bool {
    let state: u8 = match read_at(id, unsafe { offset!(skc_state) }) {
        Some(state) => state,
        None => return false,
    };
    state != TCP_ESTABLISHED
}

/// Whether the connection is over. Data may still be there to be read, after a reset for example.
#[inline(always)]
pub fn is_closed(id: u64) -> bool {
    read_at::<u8>(id, unsafe { offset!(skc_state) }) == Some(TCP_CLOSE)
}

/// Whether the connection's ports, local and remote, are of interest. Without the offsets they are: userspace looks
/// again.
#[inline(always)]
pub fn is_wanted_port(id: u64) -> bool {
    let used = unsafe { config!(ports) };
    if used == 0 {
        return true;
    }
    let local: Option<u16> = read_at(id, unsafe { offset!(skc_num) });
    let remote: Option<u16> = read_at(id, unsafe { offset!(skc_dport) });
    let (Some(local), Some(remote)) = (local, remote) else { return true };
    let flags = flags_of(local) | flags_of(u16::from_be(remote));
    flags & PORT_EXCLUDED == 0 && (used & PORT_WANTED == 0 || flags & PORT_WANTED != 0)
}

#[inline(always)]
fn flags_of(port: u16) -> u32 {
    PORTS.get_ptr(port).map_or(0, |flags| unsafe { core::ptr::read_volatile(flags) })
}

/// `sk_err`.
#[inline(always)]
pub fn error(id: u64) -> u32 {
    read_at(id, unsafe { offset!(sk_err) }).unwrap_or(0)
}

/// Address family.
#[inline(always)]
pub fn family(id: u64) -> u16 {
    read_at(id, unsafe { offset!(skc_family) }).unwrap_or(0)
}

/// Local and remote address and port: IPv4 in the first four bytes, ports in host order.
#[inline(always)]
pub fn addresses(id: u64, family: u16) -> Option<([u8; 16], [u8; 16], u16, u16)> {
    let local_port: u16 = read_at(id, unsafe { offset!(skc_num) })?;
    let remote_port: u16 = read_at(id, unsafe { offset!(skc_dport) })?;
    let (mut local, mut remote) = ([0u8; 16], [0u8; 16]);
    if family == AF_INET {
        let ip: [u8; 4] = read_at(id, unsafe { offset!(skc_rcv_saddr) })?;
        [local[0], local[1], local[2], local[3]] = ip;
        let ip: [u8; 4] = read_at(id, unsafe { offset!(skc_daddr) })?;
        [remote[0], remote[1], remote[2], remote[3]] = ip;
    } else {
        local = read_at(id, unsafe { offset!(skc_v6_rcv_saddr) })?;
        remote = read_at(id, unsafe { offset!(skc_v6_daddr) })?;
    }
    Some((local, remote, local_port, u16::from_be(remote_port)))
}
