//! Segments that sockets which userspace knows had to send again.
//!
//! A lossy path retransmits thousands of times a second: a socket tells at most every [`PERIOD_NS`], with how often it was
//! since. Resets need no program of their own: the socket's state goes straight to closed, with `sk_err` set where the other
//! end sent it ([`sock_state`](crate::sock_state)).

use aya_ebpf::{helpers::bpf_ktime_get_ns, macros::btf_tracepoint, programs::BtfTracePointContext};
use inferscope_common::record::{Kind, Retransmit as Record};

use crate::{
    emit,
    maps::{RETRANSMITS, SOCKS},
    sock,
};

/// Between two records of a socket.
const PERIOD_NS: u64 = 10_000_000;

/// What was not told of a socket yet.
#[repr(C)]
pub struct Retransmits {
    /// Which user of the address.
    generation: u64,
    /// When the next record may be written.
    due: u64,
    /// Times since the last one.
    since: u64,
}

/// `tcp_retransmit_skb(const struct sock *sk, const struct sk_buff *skb, ...)`
#[btf_tracepoint(function = "tcp_retransmit_skb")]
pub fn tcp_retransmit_skb(ctx: BtfTracePointContext) -> i32 {
    let id: u64 = ctx.arg(0);
    let Some(entry) = SOCKS.get_ptr(id) else { return 0 };
    let (generation, announced) = unsafe { ((*entry).generation, (*entry).flow.announced) };
    if announced == 0 {
        return 0;
    }
    let known = RETRANSMITS.get_ptr_mut(id).filter(|known| unsafe { (**known).generation } == generation);
    let known = match known {
        Some(known) => known,
        None => {
            // Not to be remembered means not to be told.
            let _ = RETRANSMITS.insert(id, Retransmits { generation, due: 0, since: 0 }, 0);
            let Some(known) = RETRANSMITS.get_ptr_mut(id) else { return 0 };
            known
        }
    };
    let known = unsafe { &mut *known };
    known.since += 1;
    let now = unsafe { bpf_ktime_get_ns() };
    if now < known.due {
        return 0;
    }
    let told = emit::event(&Record {
        header: emit::nobodys::<Record>(Kind::Retransmit),
        id,
        generation,
        total: sock::total_retrans(id),
        since: known.since as u32,
        state: sock::state(id),
        pad: [0; 7],
    });
    if told {
        (known.due, known.since) = (now + PERIOD_NS, 0);
    }
    0
}
