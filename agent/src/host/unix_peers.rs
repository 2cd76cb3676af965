//! Which UNIX sockets are connected to each other.
//!
//! Owns the question to the kernel (sock_diag(7), `NETLINK_SOCK_DIAG` with `UNIX_DIAG_PEER`) and the reading of its
//! answer. `/proc/net/unix` names no peers, and that two sockets have neighbouring inodes proves nothing. Leaves to
//! others whose sockets they are (`sockets`).
//!
//! The kernel answers for the network namespace that the question's socket was made in. For another one a thread goes
//! there, makes the socket, asks and ends. Not seen: sockets of a kernel without `unix_diag`, and of other namespaces
//! without CAP_SYS_ADMIN.

use std::{fs::File, io, os::fd::AsFd, thread, time::Duration};

use rustix::{
    net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with, sockopt},
    thread::{LinkNameSpaceType, move_into_link_name_space},
};

/// Pairs that are read of one namespace. A desktop has some 1,000 sockets, a busy server some 10,000.
const MAX_PAIRS: usize = 65_536;

/// Bytes of one answer: what the kernel fills at most where it is asked for a dump (`netlink_dump`).
const BUFFER: usize = 32 * 1024;

/// How long the kernel may take for one answer. It has it ready.
const PATIENCE: Duration = Duration::from_secs(1);

// linux/netlink.h, linux/sock_diag.h, linux/unix_diag.h, net/tcp_states.h.
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST_DUMP: u16 = 0x301;
const AF_UNIX: u8 = 1;
const ESTABLISHED: u32 = 1 << 1;
const SHOW_PEER: u32 = 1 << 2;
const ATTRIBUTE_PEER: u16 = 2;
const HEADER: usize = 16;
const MESSAGE: usize = 16;

/// Pairs of inodes of connected UNIX sockets in the network namespace of a process, once each in either order. None are
/// told where the kernel does not answer.
pub(super) fn pairs(of: u32, is_own: bool) -> Vec<(u64, u64)> {
    if is_own {
        return ask().unwrap_or_default();
    }
    let there = move || -> io::Result<Vec<(u64, u64)>> {
        let namespace = File::open(format!("/proc/{of}/ns/net"))?;
        // It holds for this thread only, and as long as it lives.
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
        ask()
    };
    let asking = thread::Builder::new().name("unix-peers".to_owned()).spawn(there);
    asking.ok().and_then(|asking| asking.join().ok()).and_then(Result::ok).unwrap_or_default()
}

fn ask() -> io::Result<Vec<(u64, u64)>> {
    let socket =
        socket_with(AddressFamily::NETLINK, SocketType::DGRAM, SocketFlags::CLOEXEC, Some(netlink::SOCK_DIAG))?;
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(PATIENCE))?;
    send(&socket, &question(), SendFlags::empty())?;
    let mut buffer = vec![0; BUFFER];
    let mut pairs = Vec::new();
    loop {
        let (len, _) = recv(&socket, &mut buffer, RecvFlags::empty())?;
        if len == 0 || read(buffer.get(..len).unwrap_or_default(), &mut pairs) || pairs.len() >= MAX_PAIRS {
            pairs.truncate(MAX_PAIRS);
            return Ok(pairs);
        }
    }
}

/// `struct nlmsghdr` and `struct unix_diag_req`.
fn question() -> Vec<u8> {
    let mut question = Vec::with_capacity(40);
    question.extend(40u32.to_ne_bytes());
    question.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    question.extend(NLM_F_REQUEST_DUMP.to_ne_bytes());
    // Sequence number and port, which nobody reads.
    question.extend([0; 8]);
    question.extend([AF_UNIX, 0, 0, 0]);
    question.extend(ESTABLISHED.to_ne_bytes());
    // Inode: all of them.
    question.extend([0; 4]);
    question.extend(SHOW_PEER.to_ne_bytes());
    // Cookie.
    question.extend([0; 8]);
    question
}

/// Reads one datagram of the answer. Whether it was the last.
fn read(mut datagram: &[u8], pairs: &mut Vec<(u64, u64)>) -> bool {
    while let Some((message, kind, rest)) = message(datagram) {
        match kind {
            NLMSG_DONE | NLMSG_ERROR => return true,
            SOCK_DIAG_BY_FAMILY => pairs.extend(pair(message)),
            _ => {}
        }
        datagram = rest;
    }
    false
}

/// The body and kind of the first message, and what follows it.
fn message(datagram: &[u8]) -> Option<(&[u8], u16, &[u8])> {
    let len = usize::try_from(u32_at(datagram, 0)?).ok()?;
    let kind = u16_at(datagram, 4)?;
    let body = datagram.get(HEADER..len)?;
    Some((body, kind, datagram.get(len.next_multiple_of(4)..).unwrap_or_default()))
}

/// `struct unix_diag_msg` with its attributes: the socket and its peer. A socket that is about to be closed has none.
fn pair(message: &[u8]) -> Option<(u64, u64)> {
    let inode = u32_at(message, 4)?;
    let mut attributes = message.get(MESSAGE..)?;
    loop {
        let (len, kind) = (usize::from(u16_at(attributes, 0)?), u16_at(attributes, 2)?);
        if kind == ATTRIBUTE_PEER {
            let peer = u32_at(attributes.get(..len)?, 4)?;
            return (peer != 0).then_some((inode.min(peer).into(), inode.max(peer).into()));
        }
        attributes = attributes.get(len.max(4).next_multiple_of(4)..)?;
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use std::os::{fd::AsRawFd as _, unix::net::UnixStream};

    use super::*;

    fn inode(stream: &UnixStream) -> u64 {
        let link = std::fs::read_link(format!("/proc/self/fd/{}", stream.as_raw_fd())).unwrap();
        link.to_str().unwrap().trim_matches(|c: char| !c.is_ascii_digit()).parse().unwrap()
    }

    #[test]
    fn the_kernel_says_who_is_connected() {
        let (a, b) = UnixStream::pair().unwrap();
        let expect = (inode(&a).min(inode(&b)), inode(&a).max(inode(&b)));
        let own = pairs(std::process::id(), true);
        if own.is_empty() {
            eprintln!("skipped: this kernel does not answer for UNIX sockets");
            return;
        }
        assert!(own.contains(&expect));
        // A namespace that is entered is the own one here.
        let entered = pairs(std::process::id(), false);
        assert!(entered.is_empty() || entered.contains(&expect));
        assert!(pairs(u32::MAX, false).is_empty());
    }

    #[test]
    fn an_answer_may_be_cut_anywhere() {
        let mut answer = Vec::new();
        let mut body = vec![AF_UNIX, 1, 1, 0];
        body.extend(7u32.to_ne_bytes());
        body.extend([0; 8]);
        // An attribute that is not asked for, with its padding; then the peer.
        body.extend([5, 0, 6, 0, 9, 0, 0, 0]);
        body.extend(8u16.to_ne_bytes());
        body.extend(ATTRIBUTE_PEER.to_ne_bytes());
        body.extend(5u32.to_ne_bytes());
        answer.extend(u32::try_from(HEADER + body.len()).unwrap().to_ne_bytes());
        answer.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
        answer.extend([0; 10]);
        answer.extend(&body);
        let whole = answer.len();
        answer.extend([20, 0, 0, 0, 3, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        for len in 0..=answer.len() {
            let mut pairs = Vec::new();
            let is_last = read(&answer[..len], &mut pairs);
            assert_eq!(
                (is_last, pairs),
                (len == answer.len(), if len >= whole { vec![(5, 7)] } else { vec![] }),
                "{len}"
            );
        }
        // Lengths that lie.
        for wrong in 0..HEADER as u32 + 4 {
            answer[..4].copy_from_slice(&wrong.to_ne_bytes());
            read(&answer, &mut Vec::new());
        }
        answer[..4].copy_from_slice(&u32::MAX.to_ne_bytes());
        assert!(!read(&answer, &mut Vec::new()));
    }
}
