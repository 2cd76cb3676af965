//! What io_uring moves over sockets: bytes that no system call shows.
//!
//! They are not copied. They are counted for the process, so that a server that lives on io_uring is no silence, and a
//! stream that is followed gets a gap of their length at once. The tracepoint costs those who use io_uring, per
//! completion, and nobody else. Receives that deliver more than once per request (multishot) name no request in their
//! completions, and completions that were asked not to be posted are not seen: there the stream's sequence numbers show
//! what passed, as soon as a call or the end of the connection lets them be compared.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use inferscope_common::{
    config::MISSING,
    counters::Counter,
    record::{Data, Kind, READ, WRITE},
};

use crate::{
    account::Account,
    count, emit,
    globals::offset,
    sock,
    task::{Current, is_traced, read_at, start_ns},
    transfer,
};

/// `IORING_OP_*` of include/uapi/linux/io_uring.h.
mod op {
    pub const READV: u8 = 1;
    pub const WRITEV: u8 = 2;
    pub const READ_FIXED: u8 = 4;
    pub const WRITE_FIXED: u8 = 5;
    pub const SENDMSG: u8 = 9;
    pub const RECVMSG: u8 = 10;
    pub const READ: u8 = 22;
    pub const WRITE: u8 = 23;
    pub const SEND: u8 = 26;
    pub const RECV: u8 = 27;
    pub const SEND_ZC: u8 = 47;
    pub const SENDMSG_ZC: u8 = 48;
    pub const RECV_ZC: u8 = 58;
}

/// `io_uring_complete(struct io_ring_ctx *ctx, void *req, ...)`. What follows differs between kernels, so the result is
/// read from the request.
#[btf_tracepoint(function = "io_uring_complete")]
pub fn io_uring_complete(ctx: BtfTracePointContext) -> i32 {
    let request: u64 = ctx.arg(1);
    let Some(opcode) = read_at::<u8>(request, unsafe { offset!(uring_opcode) }) else { return 0 };
    let direction = match opcode {
        op::READV | op::READ_FIXED | op::RECVMSG | op::READ | op::RECV | op::RECV_ZC => READ,
        op::WRITEV | op::WRITE_FIXED | op::SENDMSG | op::WRITE | op::SEND | op::SEND_ZC | op::SENDMSG_ZC => WRITE,
        _ => return 0,
    };
    let _moved = on_moved(request, direction);
    0
}

#[inline(always)]
fn on_moved(request: u64, direction: u8) -> Option<()> {
    let (cqe, res) = unsafe { (offset!(uring_cqe), offset!(uring_cqe_res)) };
    if cqe == MISSING {
        return None;
    }
    let n: i32 = read_at(request + u64::from(cqe), res)?;
    if n <= 0 {
        return None;
    }
    let socket = sock::of_file(read_at(request, unsafe { offset!(uring_file) })?)?;
    // Completions run in any context; the request knows whose it is.
    let owner: u64 = read_at(request, unsafe { offset!(uring_tctx) })?;
    let task: u64 = read_at(owner, unsafe { offset!(uring_task) })?;
    let tgid: u32 = read_at(task, unsafe { offset!(task_tgid) })?;
    if !is_traced(tgid) {
        return None;
    }
    let n = n as u64;
    count::add(Counter::BytesUring, n);
    if let Some(account) = Account::of(tgid) {
        account.on_uring(direction, n);
    }
    let entry = transfer::known(&socket)?;
    let flow = unsafe { &mut (*entry).flow };
    let end = if socket.is_unix { None } else { sock::end_seq(socket.id, direction) };
    flow.turn_to(direction);
    let passed = flow.pass(direction, n, transfer::end_of(end, socket.id, direction));
    if flow.is_copied() && passed > 0 {
        let tid = read_at(task, unsafe { offset!(task_pid) })?;
        let mut header = emit::header::<Data>(Kind::Data, Current { tgid, tid });
        header.start_ns = start_ns(task);
        emit::passed(header, socket.id, unsafe { (*entry).generation }, flow, direction, passed);
    }
    Some(())
}
