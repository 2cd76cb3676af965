//! TCP state changes of sockets that userspace knows: how a connection ended, and when to forget it.

use aya_ebpf::{helpers::bpf_ktime_get_ns, macros::btf_tracepoint, programs::BtfTracePointContext};
use inferscope_common::record::{Header, Kind, SocketState};

use crate::{
    emit,
    maps::{SOCKS, VERDICTS},
    sock,
};

/// `TCP_CLOSE` of include/net/tcp_states.h.
const TCP_CLOSE: i32 = 7;

/// `inet_sock_set_state(const struct sock *sk, const int oldstate, const int newstate)`
#[btf_tracepoint(function = "inet_sock_set_state")]
pub fn inet_sock_set_state(ctx: BtfTracePointContext) -> i32 {
    let id: u64 = ctx.arg(0);
    let (old, new): (i32, i32) = (ctx.arg(1), ctx.arg(2));
    let Some(entry) = SOCKS.get_ptr(id) else { return 0 };
    let (generation, announced) = unsafe { ((*entry).generation, (*entry).flow.announced) };
    if announced != 0 {
        emit::event(&SocketState {
            header: Header {
                len: size_of::<SocketState>() as u32,
                kind: Kind::SocketState as u16,
                flags: 0,
                time_ns: unsafe { bpf_ktime_get_ns() },
                tgid: 0,
                tid: 0,
                start_ns: 0,
            },
            id,
            generation,
            old: old as u8,
            new: new as u8,
            pad: 0,
            error: sock::error(id),
        });
    }
    if new == TCP_CLOSE {
        let _ = SOCKS.remove(id);
        let _ = VERDICTS.remove(id);
    }
    0
}
