//! From a descriptor to its socket or pipe, and what is read from a socket.
//!
//! The walk task -> files -> fdt -> file -> socket -> sock, or file -> pipe, works for connections that are older than the
//! agent, for descriptors that were duplicated, inherited or received, and needs no state of its own. Every step fails
//! softly.

use core::ffi::c_void;

use aya_ebpf::helpers::{bpf_get_current_task, generated::bpf_probe_read_kernel};
use inferscope_common::{
    config::MISSING,
    record::{READ, UNIX_NAME, UNKNOWN},
    targets::{PORT_EXCLUDED, PORT_WANTED},
};

use crate::{
    globals::{config, offset},
    maps::PORTS,
    task::read_at,
};

const S_IFMT: u16 = 0o170_000;
const S_IFSOCK: u16 = 0o140_000;
const S_IFIFO: u16 = 0o010_000;
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

/// What was found behind a descriptor.
#[derive(Clone, Copy)]
pub enum File {
    Socket(Found),
    Pipe(PipeFile),
}

/// A stream socket.
#[derive(Clone, Copy)]
pub struct Found {
    /// Address of the `sock`.
    pub id: u64,
    /// Inode number, which tells apart sockets that reuse the address.
    pub inode: u64,
    /// Of the UNIX family; TCP otherwise.
    pub is_unix: bool,
}

/// A pipe.
#[derive(Clone, Copy)]
pub struct PipeFile {
    /// Address of the `pipe_inode_info`.
    pub id: u64,
    /// Address of the `inode`: its number is of interest for few.
    pub inode: u64,
}

/// The stream that a socket carries, as records name it.
#[derive(Clone, Copy)]
pub struct StreamSock {
    /// Address of the `sock`.
    pub id: u64,
    /// See [`Sock`](crate::maps::Sock).
    pub generation: u64,
}

/// The stream socket or, if those are of interest, the pipe behind `fd` of the current task.
#[inline(always)]
pub fn or_pipe_of_fd(fd: u64) -> Option<File> {
    let (private, inode, mode) = parts_of(file_of_fd(fd)?)?;
    match mode & S_IFMT {
        S_IFSOCK => of_socket(private, inode).map(File::Socket),
        S_IFIFO if unsafe { config!(lines) } != 0 => Some(File::Pipe(PipeFile { id: private, inode })),
        _ => None,
    }
}

/// The stream socket behind `fd` of the current task, if it is one.
#[inline(always)]
pub fn of_fd(fd: u64) -> Option<Found> {
    of_file(file_of_fd(fd)?)
}

/// The `struct file` behind `fd` of the current task.
#[inline(always)]
fn file_of_fd(fd: u64) -> Option<u64> {
    let task = unsafe { bpf_get_current_task() };
    let files: u64 = read_at(task, unsafe { offset!(task_files) })?;
    let fdt: u64 = read_at(files, unsafe { offset!(files_fdt) })?;
    // The first is half as wide, and padded to the second.
    let (max_fds, table) = both_at(fdt, unsafe { offset!(fdtable_max_fds) }, unsafe { offset!(fdtable_fd) })?;
    if fd >= max_fds & 0xffff_ffff {
        return None;
    }
    read_at(table + fd * 8, 0)
}

/// The stream socket that a `struct file` is, if it is one.
#[inline(always)]
pub fn of_file(file: u64) -> Option<Found> {
    let (private, inode, mode) = parts_of(file)?;
    if mode & S_IFMT != S_IFSOCK {
        return None;
    }
    of_socket(private, inode)
}

/// Private data, inode and mode of a `struct file`.
#[inline(always)]
fn parts_of(file: u64) -> Option<(u64, u64, u16)> {
    let (private, inode) = both_at(file, unsafe { offset!(file_private_data) }, unsafe { offset!(file_inode) })?;
    Some((private, inode, read_at(inode, unsafe { offset!(inode_mode) })?))
}

/// Two words of one structure, by one read where they are neighbours: the walk is what most calls cost. The verifier
/// leaves only the way that this kernel needs.
#[inline(always)]
fn both_at(base: u64, one: u32, other: u32) -> Option<(u64, u64)> {
    if one != MISSING && one.wrapping_add(8) == other {
        return read_at::<[u64; 2]>(base, one).map(|[one, other]| (one, other));
    }
    Some((read_at(base, one)?, read_at(base, other)?))
}

#[inline(always)]
fn of_socket(socket: u64, inode: u64) -> Option<Found> {
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
    if family(id) == AF_UNIX {
        return is_wanted_without_port();
    }
    let local: Option<u16> = read_at(id, unsafe { offset!(skc_num) });
    let remote: Option<u16> = read_at(id, unsafe { offset!(skc_dport) });
    let (Some(local), Some(remote)) = (local, remote) else { return true };
    let flags = flags_of(local) | flags_of(u16::from_be(remote));
    flags & PORT_EXCLUDED == 0 && (used & PORT_WANTED == 0 || flags & PORT_WANTED != 0)
}

/// Whether what has no port is of interest: it is left out where ports are chosen.
#[inline(always)]
pub fn is_wanted_without_port() -> bool {
    unsafe { config!(ports) & PORT_WANTED == 0 }
}

#[inline(always)]
fn flags_of(port: u16) -> u32 {
    PORTS.get_ptr(port).map_or(0, |flags| unsafe { core::ptr::read_volatile(flags) })
}

/// State, `TCP_*` of include/net/tcp_states.h; 0 if it cannot be read.
#[inline(always)]
pub fn state(id: u64) -> u8 {
    read_at(id, unsafe { offset!(skc_state) }).unwrap_or(0)
}

/// Whether a socket of an internet family is TCP's.
#[inline(always)]
pub fn is_tcp(id: u64) -> bool {
    read_at::<u16>(id, unsafe { offset!(sk_protocol) }) == Some(IPPROTO_TCP)
}

/// Local port, host order; 0 if there is none yet.
#[inline(always)]
pub fn local_port(id: u64) -> u16 {
    read_at(id, unsafe { offset!(skc_num) }).unwrap_or(0)
}

/// Segments that a TCP socket has sent again so far, [`UNKNOWN`] if that cannot be read.
#[inline(always)]
pub fn total_retrans(id: u64) -> u32 {
    read_at(id, unsafe { offset!(tcp_total_retrans) }).unwrap_or(UNKNOWN)
}

/// Inode number and size of the file behind `fd` of the current task: 0 and `u64::MAX` where they cannot be read.
#[inline(always)]
pub fn inode_and_size(fd: u64) -> (u64, u64) {
    let inode: u64 = file_of_fd(fd).and_then(|file| read_at(file, unsafe { offset!(file_inode) })).unwrap_or(0);
    let number: u64 = read_at(inode, unsafe { offset!(inode_ino) }).unwrap_or(0);
    (number, read_at(inode, unsafe { offset!(inode_size) }).unwrap_or(u64::MAX))
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
