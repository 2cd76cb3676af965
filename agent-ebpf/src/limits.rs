//! What kept a socket from sending: the other end's window, its own buffer.
//!
//! TCP adds it up for every connection (`tcp_chrono_start` and its neighbours of net/ipv4/tcp_output.c), so nothing has to be
//! timed here, and what was missed between two looks is in the next. Looked at with a call on a socket that userspace
//! knows, at most every [`PERIOD_NS`], and with each change of its state; told when something has grown. A call that a full
//! buffer holds back is seen when it returns.

use aya_ebpf::helpers::{bpf_ktime_get_ns, generated::bpf_jiffies64};
use inferscope_common::record::{Kind, SendLimits, UNKNOWN};

use crate::{
    emit,
    globals::{config, offset},
    maps::{SOCKS, Sock},
    sock,
    task::read_at,
};

/// Between two looks at a socket. A twentieth of a second is well below what makes a call slow.
const PERIOD_NS: u64 = 50_000_000;

/// Value of [`Sock::limits_due`] for what is never looked at.
pub const NEVER: u64 = u64::MAX;

/// Values of `enum tcp_chrono`; `tcp_sock.chrono_stat` begins with the first.
const RWND_LIMITED: u32 = 2;
const SNDBUF_LIMITED: u32 = 3;

/// When a socket is due, [`NEVER`] for one that userspace does not know.
#[inline(always)]
pub fn due(entry: &Sock) -> u64 {
    // No branch: the verifier would follow both of its ways through the call's copy.
    entry.limits_due | u64::from(entry.flow.announced).wrapping_sub(1)
}

/// Looks at a socket if it is due by now.
#[inline(always)]
pub fn look(id: u64, due: u64) {
    if due == NEVER {
        return;
    }
    let now = unsafe { bpf_ktime_get_ns() };
    if now < due {
        return;
    }
    let Some(entry) = SOCKS.get_ptr_mut(id) else { return };
    unsafe { (*entry).limits_due = now + PERIOD_NS };
    tell(id, entry);
}

/// Tells of a socket if something has grown.
#[inline(always)]
pub fn tell(id: u64, entry: *mut Sock) {
    let tick_ns = u64::from(unsafe { config!(tick_ns) });
    let (rwnd, sndbuf) = if tick_ns == 0 { (0, 0) } else { ticks(id).unwrap_or((0, 0)) };
    let total_retrans = sock::total_retrans(id);
    // They only grow, so their sum tells whether one of them has.
    let told =
        u64::from(rwnd) + u64::from(sndbuf) + if total_retrans == UNKNOWN { 0 } else { u64::from(total_retrans) };
    if unsafe { (*entry).limits_told } == told {
        return;
    }
    let record = SendLimits {
        header: emit::nobodys::<SendLimits>(Kind::SendLimits),
        id,
        generation: unsafe { (*entry).generation },
        rwnd_limited_ns: u64::from(rwnd) * tick_ns,
        sndbuf_limited_ns: u64::from(sndbuf) * tick_ns,
        total_retrans,
        srtt_us: srtt_us(id),
    };
    if emit::event(&record) {
        unsafe { (*entry).limits_told = told };
    }
}

/// Ticks that the other end's window and the socket's own buffer held back bytes, what is going on now included.
#[inline(always)]
fn ticks(id: u64) -> Option<(u32, u32)> {
    let [_busy, rwnd, sndbuf]: [u32; 3] = read_at(id, unsafe { offset!(tcp_chrono_stat) })?;
    let running = u32::from(read_at::<u8>(id, unsafe { offset!(tcp_chrono_type) })?) & 3;
    let start: u32 = read_at(id, unsafe { offset!(tcp_chrono_start) })?;
    let since = (unsafe { bpf_jiffies64() } as u32).wrapping_sub(start);
    Some(match running {
        RWND_LIMITED => (rwnd.wrapping_add(since), sndbuf),
        SNDBUF_LIMITED => (rwnd, sndbuf.wrapping_add(since)),
        _ => (rwnd, sndbuf),
    })
}

/// Smoothed round trip time, which the kernel keeps in eighths of a microsecond.
#[inline(always)]
fn srtt_us(id: u64) -> u32 {
    read_at::<u32>(id, unsafe { offset!(tcp_srtt) }).map_or(UNKNOWN, |eighths| eighths >> 3)
}
