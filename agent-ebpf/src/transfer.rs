//! From a call on a socket to its stream: the table of sockets, the gate, and the copy.

use aya_ebpf::{
    bindings::{BPF_ANY, BPF_NOEXIST},
    helpers::{bpf_ktime_get_ns, bpf_probe_read_user},
};
use inferscope_common::{
    counters::Counter,
    record::{Data, Kind, READ, SOURCE_LINES, SOURCE_SYSCALL, WRITE},
};

use crate::{
    account::{self, Account},
    count,
    emit::{self, Job, Source},
    flow::{Flow, LINES, REJECTED, TLS},
    globals::config,
    headers::{self, Passed},
    limits,
    maps::{LOOSE_SOCKS, SOCKS, Sock},
    pipe,
    records::{self, Carry, Interest, Transfer},
    sock::{self, File, Found, StreamSock},
    task::Current,
    tls,
};

/// What a call transferred, and, once that is decided, what is copied of it.
#[repr(C)]
pub struct Call {
    /// Bytes.
    pub n: u64,
    /// `READ` or `WRITE`.
    pub direction: u64,
    /// 1: the call had them in no buffer, and `source` says nothing.
    pub passed: u64,
    /// Where they are; where the first message's are, if there are several.
    pub source: Source,
    /// `struct mmsghdr` array and its length, 0 for a call that knows no messages.
    pub messages: u64,
    pub messages_left: u64,
    /// The stream.
    pub socket: StreamSock,
    /// Position of the first byte in it.
    pub position: u64,
    /// Bytes of the direction left out so far.
    pub skipped: u64,
    /// The stream's turn.
    pub turn: u64,
    /// Where the bytes are said to have been read, `SOURCE_*`.
    pub carrier: u64,
    /// When what keeps the socket from sending is to be looked at, as in [`limits::due`].
    pub limits_due: u64,
}

/// A member of a call, read back from the map: whichever way something was decided, the verifier then sees one and the same
/// state, and walks what follows once.
macro_rules! of {
    ($call:ident.$($member:tt)+) => { unsafe { core::ptr::read_volatile(&raw const (*$call).$($member)+) } };
}

/// Takes a call's bytes into the stream of a socket or pipe, and copies them if they are of interest.
#[inline(always)]
pub fn take(current: Current, file: &File, call: &mut Call) {
    let wanted = match file {
        File::Socket(found) => is_wanted(current, found, call),
        File::Pipe(found) => pipe::is_wanted(current, found, call),
    };
    limits::look(of!(call.socket.id), of!(call.limits_due));
    if wanted {
        copy(current, call);
    }
}

/// Copies a call's bytes.
#[inline(always)]
fn copy(current: Current, call: *const Call) {
    let n = of!(call.n);
    let mut job = Job {
        source: Source {
            segment: of!(call.source.segment),
            segment_left: of!(call.source.segment_left),
            iovecs: of!(call.source.iovecs),
            iovecs_left: of!(call.source.iovecs_left),
        },
        remaining: n,
        position: of!(call.position),
        id: of!(call.socket.id),
        generation: of!(call.socket.generation),
        skipped: of!(call.skipped),
        header: emit::header::<Data>(Kind::Data, current),
        total: n as u32,
        turn: of!(call.turn) as u32,
        direction: of!(call.direction) as u8,
        library: of!(call.carrier) as u8,
        overhead: 0,
        account: None,
    };
    match of!(call.messages) {
        0 => emit::data(&mut job),
        at => emit::messages(&mut job, at, of!(call.messages_left)),
    }
}

/// Moves the stream on, and decides whether the bytes are copied.
#[inline(always)]
fn is_wanted(current: Current, found: &Found, call: &mut Call) -> bool {
    let n = call.n;
    let direction = call.direction as u8 & WRITE;
    let over = !found.is_unix && sock::is_closed(found.id);
    let Some(entry) = entry_of(found, over) else {
        if over {
            count::add(Counter::BytesSkipped, n);
        } else {
            count::add(Counter::SocketTableFull, 1);
            account::untracked(current.tgid, n);
        }
        return false;
    };
    let socket = StreamSock { id: found.id, generation: unsafe { (*entry).generation } };
    call.socket = socket;
    call.limits_due = limits::due(unsafe { &*entry });
    let flow = unsafe { &mut (*entry).flow };
    if flow.last == 0 && !sock::is_wanted_port(socket.id) {
        flow.state = REJECTED;
    }
    let account = Account::of(current.tgid);
    let end_seq = if found.is_unix { None } else { sock::end_seq(socket.id, direction) };
    if call.passed != 0 {
        flow.turn_to(direction);
        let passed = flow.pass(direction, n, end_of(end_seq, socket.id, direction));
        if let Some(account) = account {
            account.on_socket(direction, n, flow.state == TLS);
            if flow.is_copied() {
                account.on_unseen(passed);
            }
        }
        if flow.is_copied() && passed > 0 {
            announce(current, &socket, flow);
            let header = emit::header::<Data>(Kind::Data, current);
            emit::passed(header, socket.id, socket.generation, flow, direction, passed);
        }
        return false;
    }
    let (head, head_len) = head_of(&call.source);
    let head_len = if head_len < n { head_len } else { n };
    let copy = flow.admit_socket(socket.id, socket.generation, direction, head, head_len, found.is_unix);
    if let Some(account) = account {
        account.on_socket(direction, n, flow.state == TLS);
    }
    let before = flow.lane(direction).offset;
    let position = flow.advance(direction, n, end_seq, !found.is_unix && sock::is_closing(socket.id), copy);
    if copy {
        if position > before {
            if let Some(account) = account {
                account.on_unseen(position - before);
            }
        }
        announce(current, &socket, flow);
        call.position = position;
        call.skipped = flow.lane(direction).skipped;
        call.turn = u64::from(flow.turn);
        call.carrier = u64::from(if flow.state == LINES { SOURCE_LINES } else { SOURCE_SYSCALL });
        return true;
    }
    if flow.state == TLS || flow.state == REJECTED {
        call.position = position;
        call.skipped = account.map_or(0, Account::plain);
        encrypted(current, entry, call);
    }
    count::add(Counter::BytesSkipped, n);
    false
}

/// Tells what of a call's TLS records is of interest. The call's `skipped` is how many bytes its process has in the clear.
#[inline(always)]
fn encrypted(current: Current, entry: *mut Sock, call: &mut Call) {
    let socket = StreamSock { id: of!(call.socket.id), generation: of!(call.socket.generation) };
    let (position, n, direction) = (of!(call.position), of!(call.n), of!(call.direction) as u8 & WRITE);
    let flow = unsafe { &mut (*entry).flow };
    let nested = tls::note_socket(current, direction, &socket);
    if !nested {
        // Those of a library that does not make its socket calls itself.
        let interest = records::interest(current, direction);
        if interest != Interest::Nobodys {
            announce(current, &socket, flow);
            let transfer = Transfer { socket: &socket, source: &call.source, position, n, direction };
            records::note(current, &transfer, unsafe { &mut (*entry).carry }, interest);
        }
    }
    if flow.state == TLS && unsafe { config!(infer) } != 0 {
        if let Some(chains) = headers::chains_of(&socket, nested) {
            announce(current, &socket, flow);
            let passed = Passed { source: call.source, direction, n, position };
            headers::pass(current, &socket, chains, &passed, of!(call.skipped));
        }
    }
}

/// A sequence number without the FIN that was read.
#[inline(always)]
pub fn end_of(end_seq: Option<u32>, id: u64, direction: u8) -> Option<u32> {
    let fin = direction == READ && sock::has_read_fin(id);
    end_seq.map(|end| end.wrapping_sub(u32::from(fin)))
}

/// User address of a call's first bytes, for sniffing; 0 if there are none.
#[inline(always)]
pub fn head_of(source: &Source) -> (u64, u64) {
    if source.segment_left > 0 {
        return (source.segment, source.segment_left);
    }
    // The first segment may be empty.
    match unsafe { bpf_probe_read_user(source.iovecs as *const [[u64; 2]; 2]) } {
        Ok([[_, 0], [base, len]]) if source.iovecs_left > 1 => (base, len),
        Ok([[base, len], _]) => (base, len),
        // A single segment at the end of its page.
        Err(_) => match unsafe { bpf_probe_read_user(source.iovecs as *const [u64; 2]) } {
            Ok([base, len]) => (base, len),
            Err(_) => (0, 0),
        },
    }
}

/// Tells userspace of the socket, once.
#[inline(always)]
fn announce(current: Current, socket: &StreamSock, flow: &mut Flow) {
    if flow.announced == 0 && emit::socket(socket.id, socket.generation, current) {
        flow.announced = 1;
    }
}

/// The socket's entry, new if there is none or if it belongs to an earlier user of the address. None is made for a TCP
/// socket that is over: nothing would take it out.
#[inline(always)]
fn entry_of(found: &Found, over: bool) -> Option<*mut Sock> {
    let known = if found.is_unix || over { LOOSE_SOCKS.get_ptr_mut(found.id) } else { SOCKS.get_ptr_mut(found.id) };
    // Two threads may see a socket first at once: the second must not replace what the first is using.
    let mut how = u64::from(BPF_NOEXIST);
    if let Some(entry) = known {
        if unsafe { (*entry).inode } == found.inode {
            return Some(entry);
        }
        how = u64::from(BPF_ANY);
    }
    if over {
        return None;
    }
    let generation = if found.is_unix { unsafe { bpf_ktime_get_ns() } } else { found.inode };
    let limits_due = if found.is_unix { limits::NEVER } else { 0 };
    let fresh = Sock {
        inode: found.inode,
        generation,
        half: 0,
        limits_due,
        limits_told: 0,
        flow: Flow::new(),
        carry: Carry::new(),
    };
    if found.is_unix {
        let _ = LOOSE_SOCKS.insert(found.id, fresh, how);
        LOOSE_SOCKS.get_ptr_mut(found.id)
    } else {
        let _ = SOCKS.insert(found.id, fresh, how);
        SOCKS.get_ptr_mut(found.id)
    }
}

/// The entry of a socket that is known already.
#[inline(always)]
pub fn known(found: &Found) -> Option<*mut Sock> {
    let entry = if found.is_unix { LOOSE_SOCKS.get_ptr_mut(found.id) } else { SOCKS.get_ptr_mut(found.id) }?;
    if unsafe { (*entry).inode } == found.inode { Some(entry) } else { None }
}
