//! From a descriptor to its socket, and what is read from a socket.
//!
//! The walk task -> files -> fdt -> file -> socket -> sock works for connections that are older than the agent, for
//! descriptors that were duplicated, inherited or received, and needs no state of its own. Every step fails softly.

use core::ffi::c_void;

use aya_ebpf::helpers::{bpf_get_current_task, generated::bpf_probe_read_kernel};
use inferscope_common::{
    config::MISSING,
    record::{READ, UNIX_NAME},
    targets::{PORT_EXCLUDED, PORT_WANTED},
};

use crate::{
    globals::{config, offset},
    maps::PORTS,
    task::read_at,
};

const S_IFMT: u16 = 0o170_000;
const S_IFSOCK: u16 = 0o140_000;
pub const AF_UNIX: u16 = 1;
const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;
const IPPROTO_TCP: u16 = 6;
const SOCK_STREAM: u16 = 1;
/// `RCV_SHUTDOWN` and `SEND_SHUTDOWN` of include/net/sock.h.
const RCV_SHUTDOWN: u8 = 1;
const SHUTDOWN_MASK: u8 = 3;
/// `TCP_ESTABLISHED` of include/net/tcp_states.h.
const TCP_ESTABLISHED: u8 = 1;
/// `TCP_CLOSE`.
const TCP_CLOSE: u8 = 7;

/// A stream socket found behind a descriptor.
#[derive(Clone, Copy)]
pub struct Found {
    /// Address of the `sock`.
    pub id: u64,
    /// Inode number, which tells apart sockets that reuse the address.
    pub inode: u64,
    /// Of the UNIX family; TCP otherwise.
    pub is_unix: bool,
}

/// The stream that a socket carries, as records name it.
#[derive(Clone, Copy)]
pub struct StreamSock {
    /// Address of the `sock`.
    pub id: u64,
    /// See [`Sock`](crate::maps::Sock).
    pub generation: u64,
}

/// The stream socket behind `fd` of the current task, if it is one.
#[inline(always)]
pub fn of_fd(fd: u64) -> Option<Found> {
    let task = unsafe { bpf_get_current_task() };
    let files: u64 = read_at(task, unsafe { offset!(task_files) })?;
    let fdt: u64 = read_at(files, unsafe { offset!(files_fdt) })?;
    let max_fds: u32 = read_at(fdt, unsafe { offset!(fdtable_max_fds) })?;
    if fd >= u64::from(max_fds) {
        return None;
    }
    let table: u64 = read_at(fdt, unsafe { offset!(fdtable_fd) })?;
    of_file(read_at(table + fd * 8, 0)?)
}

/// The stream socket that a `struct file` is, if it is one.
#[inline(always)]
pub fn of_file(file: u64) -> Option<Found> {
    let inode: u64 = read_at(file, unsafe { offset!(file_inode) })?;
    let mode: u16 = read_at(inode, unsafe { offset!(inode_mode) })?;
    if mode & S_IFMT != S_IFSOCK {
        return None;
    }
    let socket: u64 = read_at(file, unsafe { offset!(file_private_data) })?;
    let id: u64 = read_at(socket, unsafe { offset!(socket_sk) })?;
    let is_unix = match family(id) {
        AF_INET | AF_INET6 => {
            let protocol: u16 = read_at(id, unsafe { offset!(sk_protocol) })?;
            if protocol != IPPROTO_TCP {
                return None;
            }
            false
        }
        AF_UNIX => {
            let kind: u16 = read_at(id, unsafe { offset!(sk_type) })?;
            if kind != SOCK_STREAM {
                return None;
            }
            true
        }
        _ => return None,
    };
    Some(Found { id, inode: read_at(inode, unsafe { offset!(inode_ino) })?, is_unix })
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

/// Whether bytes are left in a socket's receive queue that a process can still read.
#[inline(always)]
pub fn has_unread(id: u64) -> bool {
    // A socket that no process has any more has lost this pointer.
    let owner: u64 = read_at(id, unsafe { offset!(sk_socket) }).unwrap_or(0);
    let (queue, len) = unsafe { (offset!(sk_receive_queue), offset!(queue_len)) };
    owner != 0 && queue != MISSING && read_at::<u32>(id + u64::from(queue), len).unwrap_or(0) != 0
}

/// Whether the end of what the other end sends has been read. It counts one in the sequence number.
#[inline(always)]
pub fn has_read_fin(id: u64) -> bool {
    let next: Option<u32> = read_at(id, unsafe { offset!(tcp_rcv_nxt) });
    is_closing(id) && next.is_some() && next == end_seq(id, READ)
}

/// How far a UNIX socket was closed by its other end.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Hangup {
    None,
    /// It sends nothing more.
    Half,
    /// It is gone.
    Whole,
}

/// Reads a UNIX socket's shutdown flags: the other end's close sets both, its `shutdown(SHUT_WR)` one.
#[inline(always)]
pub fn hangup(id: u64) -> Hangup {
    match read_at::<u8>(id, unsafe { offset!(sk_shutdown) }).unwrap_or(0) & SHUTDOWN_MASK {
        SHUTDOWN_MASK => Hangup::Whole,
        RCV_SHUTDOWN => Hangup::Half,
        _ => Hangup::None,
    }
}

/// Address of the `sock` at the other end of a UNIX socket, 0 if there is none. It cannot be another's before this
/// end is gone too: the kernel holds a reference.
#[inline(always)]
pub fn unix_peer(id: u64) -> u64 {
    read_at(id, unsafe { offset!(unix_peer) }).unwrap_or(0)
}

/// Copies the name that a UNIX socket is bound to; gives its length, 0 if it has none.
#[inline(always)]
pub fn unix_name(id: u64, name: *mut u8) -> u16 {
    let Some(address) = read_at::<u64>(id, unsafe { offset!(unix_addr) }) else { return 0 };
    let start = unsafe { offset!(unix_address_name) };
    let Some(len) = read_at::<u32>(address, unsafe { offset!(unix_address_len) }) else { return 0 };
    // The length counts `sun_family`. The mask changes nothing: the verifier does not see that the sum has a bound.
    let len = len.wrapping_sub(2) & 0x7f;
    if start == MISSING || len > UNIX_NAME as u32 {
        return 0;
    }
    let from = (address + u64::from(start) + 2) as *const c_void;
    if unsafe { bpf_probe_read_kernel(name.cast(), len, from) } == 0 { len as u16 } else { 0 }
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
    // It has none: left out where ports are chosen.
    if family(id) == AF_UNIX {
        return used & PORT_WANTED == 0;
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
