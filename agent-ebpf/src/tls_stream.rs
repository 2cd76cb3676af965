//! TLS streams: what every library's calls come down to once object, buffer and length are known.
//!
//! Owns the table of streams and their generations, and the one way from plaintext to the gate and the ring. How the
//! three are read from a call is each library's business ([`crate::tls`]).

use aya_ebpf::{
    bindings::{BPF_ANY, BPF_NOEXIST},
    helpers::bpf_ktime_get_ns,
};
use inferscope_common::{
    counters::Counter,
    join::Place,
    probe_stats::FileStats,
    record::{Data, Kind, TlsBind, TlsClose},
    tls_cookie,
};

use crate::{
    account::{self, Account},
    count,
    emit::{self, Job, Source},
    flow::{Flow, REJECTED, TLS, UNKNOWN},
    maps::{JOINED, LOOSE_SOCKS, SOCKS, TLS_STREAMS},
    records::{self, Told},
    sock,
    task::{self, Current},
};

/// A TLS stream: the library's object in one process.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct TlsKey {
    pub object: u64,
    pub tgid: u32,
    /// See [`task::era`].
    pub era: u32,
}

impl TlsKey {
    /// The stream of an object of the current process.
    #[inline(always)]
    pub fn of(current: Current, object: u64) -> Self {
        Self { object, tgid: current.tgid, era: task::era() }
    }
}

/// State of a TLS stream.
#[repr(C)]
pub struct TlsStream {
    /// When it was first seen, which tells apart streams whose objects reuse the address.
    pub generation: u64,
    /// Socket it was last seen to use, 0 if none.
    pub socket: u64,
    /// How often its process's records were asked for, to find its socket.
    pub asked: u32,
    /// Of its key, for a stream that is one direction ([`Half`]); 0 for others.
    pub salt: u32,
    pub flow: Flow,
}

/// `FileStats::default`, as a constant: nothing is called to make one.
pub const NOTHING: FileStats = FileStats { calls: 0, bytes: 0, overruns: 0, recognised: 0, unrecognised: 0 };

/// Plaintext that one call transferred.
pub struct Plaintext {
    /// The library's connection object.
    pub object: u64,
    /// Where the bytes are in user memory.
    pub buffer: u64,
    /// How many.
    pub n: u64,
    /// Socket that carries the stream as far as this call shows, 0 if it does not.
    pub socket: u64,
    pub socket_generation: u64,
}

/// Takes a call's plaintext into its stream, and copies it if it is of interest. The cookie says what was called.
#[inline(always)]
pub fn transfer(current: Current, call: &Plaintext, cookie: u64) {
    let n = call.n;
    let direction = tls_cookie::direction(cookie);
    let Some(stream) = stream_of(TlsKey::of(current, call.object), 0) else {
        count::add(Counter::TlsTableFull, 1);
        account::untracked(current.tgid, n);
        return;
    };
    let stream = unsafe { &mut *stream };
    if let Some(account) = Account::of(current.tgid) {
        account.on_plain(direction, n);
    }
    if call.socket != 0 && call.socket != stream.socket && !sock::is_wanted_port(call.socket) {
        stream.flow.state = REJECTED;
    }
    let before = stream.flow.state;
    let copy = stream.flow.admit(call.object, stream.generation, direction, call.buffer, n);
    let after = stream.flow.state;
    count_call(cookie, n, before, after);
    let position = stream.flow.advance(direction, n, None, false, copy);
    if !copy {
        count::add(Counter::BytesSkipped, n);
        if stream.socket == 0 && call.socket == 0 {
            let plain = Told { id: call.object, generation: stream.generation, n, direction, overhead: 0 };
            records::tell_plain(current, &plain, tls_cookie::library(cookie));
        }
        return;
    }
    if stream.socket == 0 && call.socket == 0 {
        ask(current, stream);
    }
    if call.socket != 0 && call.socket != stream.socket && bind(current, call, stream) {
        stream.socket = call.socket;
    }
    emit::data(&mut Job {
        source: Source::buffer(call.buffer, n),
        remaining: n,
        position,
        id: call.object,
        generation: stream.generation,
        skipped: stream.flow.lane(direction).skipped,
        header: emit::header::<Data>(Kind::Data, current),
        total: n as u32,
        turn: stream.flow.turn,
        direction,
        library: tls_cookie::library(cookie),
        overhead: 0,
        account: None,
    });
}

/// The object is freed, or will carry nothing more.
#[inline(always)]
pub fn close(current: Current, object: u64) {
    let key = TlsKey::of(current, object);
    let Some(stream) = TLS_STREAMS.get_ptr(key) else { return };
    let generation = unsafe { (*stream).generation };
    emit::event(&TlsClose { header: emit::header::<TlsClose>(Kind::TlsClose, current), id: object, generation });
    let _ = TLS_STREAMS.remove(key);
}

/// A record of a stream that is one direction of a connection.
pub struct Half {
    /// The library's object: the key of the direction.
    pub object: u64,
    /// Where the bytes are in user memory.
    pub buffer: u64,
    /// How many.
    pub n: u64,
    /// Part of the key's nonces, which tells it from others that live at the same address one after the other.
    pub salt: u32,
    /// How much longer the record's fragment is, 0 if not known.
    pub overhead: u16,
    /// False for handshake messages and alerts.
    pub is_data: bool,
}

/// Takes a record's plaintext into its half stream, and copies it if it is of interest.
#[inline(always)]
pub fn transfer_half(current: Current, half: &Half, cookie: u64) {
    let n = half.n;
    let direction = tls_cookie::direction(cookie);
    if !half.is_data {
        // What came with it may be the first record of a stream that is not known yet.
        records::tell_received(current, direction, true);
        return;
    }
    let key = TlsKey::of(current, half.object);
    let Some(stream) = stream_of(key, half.salt) else {
        count::add(Counter::TlsTableFull, 1);
        account::untracked(current.tgid, n);
        return;
    };
    let stream = unsafe { &mut *stream };
    if let Some(account) = Account::of(current.tgid) {
        account.on_plain(direction, n);
    }
    let mut gate = Gate { flow: &raw mut stream.flow, id: half.object, generation: stream.generation };
    let is_joined = gate.join(key);
    let is_sought = !is_joined && ask(current, stream);
    records::tell_received(current, direction, is_sought);
    let Gate { flow, id: gate_id, generation: gate_generation } = gate;
    let gate = unsafe { &mut *flow };
    let before = gate.state;
    let copy = gate.admit(gate_id, gate_generation, direction, half.buffer, n);
    let (after, turn) = (gate.state, gate.turn);
    count_call(cookie, n, before, after);
    let position = stream.flow.advance(direction, n, None, false, copy);
    if !copy {
        count::add(Counter::BytesSkipped, n);
        let (id, generation, overhead) = (half.object, stream.generation, half.overhead);
        let plain = Told { id, generation, n, direction, overhead };
        records::tell_plain(current, &plain, tls_cookie::library(cookie));
        return;
    }
    emit::data(&mut Job {
        source: Source::buffer(half.buffer, n),
        remaining: n,
        position,
        id: half.object,
        generation: stream.generation,
        skipped: stream.flow.lane(direction).skipped,
        header: emit::header::<Data>(Kind::Data, current),
        total: n as u32,
        turn,
        direction,
        library: tls_cookie::library(cookie),
        overhead: half.overhead,
        account: None,
    });
}

/// The gate that decides for a stream: its own, until it is known whose other direction it is.
struct Gate {
    flow: *mut Flow,
    /// The stream whose gate it is.
    id: u64,
    generation: u64,
}

impl Gate {
    /// Becomes the partner's of the stream at `key`, if it has one. Changed in place: an `Option` of three values leaves them
    /// undefined where it is none, and the verifier does not let undefined registers be saved ("R4 !read_ok").
    #[inline(always)]
    fn join(&mut self, key: TlsKey) -> bool {
        // Userspace knows no eras; the generations tell them apart.
        let place = Place { object: key.object, tgid: key.tgid, pad: 0 };
        let Some(joined) = JOINED.get_ptr(place) else { return false };
        let joined = unsafe { core::ptr::read(joined) };
        let Some(stream) = TLS_STREAMS.get_ptr_mut(TlsKey { object: joined.gate, ..key }) else { return false };
        if joined.generation != self.generation || unsafe { (*stream).generation } != joined.gate_generation {
            return false;
        }
        self.flow = unsafe { &raw mut (*stream).flow };
        self.id = joined.gate;
        self.generation = joined.gate_generation;
        true
    }
}

/// Asks for the records of a stream's process, unless that was in vain often enough; false then.
#[inline(always)]
fn ask(current: Current, stream: &mut TlsStream) -> bool {
    let asks = stream.asked < records::MAX_ASKED;
    if asks {
        stream.asked += 1;
        records::ask(current);
    }
    asks
}

/// Counts a call for its file: whether its stream has just been recognised, or given up.
#[inline(always)]
fn count_call(cookie: u64, n: u64, before: u8, after: u8) {
    let decided = before == UNKNOWN && after != UNKNOWN;
    let refused = after == REJECTED || after == TLS;
    let seen = FileStats {
        calls: 1,
        bytes: n,
        overruns: 0,
        recognised: u64::from(decided && !refused),
        unrecognised: u64::from(decided && refused),
    };
    count::add_to_file(tls_cookie::file(cookie), &seen);
}

#[inline(always)]
fn stream_of(key: TlsKey, salt: u32) -> Option<*mut TlsStream> {
    // GnuTLS lets one thread send while another receives: the second must not replace what the first is using.
    let mut how = u64::from(BPF_NOEXIST);
    if let Some(stream) = TLS_STREAMS.get_ptr_mut(key) {
        if unsafe { (*stream).salt } == salt {
            return Some(stream);
        }
        // Another key lives there now.
        how = u64::from(BPF_ANY);
    }
    let fresh = TlsStream { generation: unsafe { bpf_ktime_get_ns() }, socket: 0, asked: 0, salt, flow: Flow::new() };
    let _ = TLS_STREAMS.insert(key, fresh, how);
    TLS_STREAMS.get_ptr_mut(key)
}

/// Tells userspace which socket a stream uses; false if that did not work and is to be tried again.
#[inline(always)]
fn bind(current: Current, call: &Plaintext, stream: &TlsStream) -> bool {
    if !emit::socket(call.socket, call.socket_generation, current) {
        return false;
    }
    // From now on the socket's state changes are of interest.
    if let Some(entry) = SOCKS.get_ptr_mut(call.socket).or_else(|| LOOSE_SOCKS.get_ptr_mut(call.socket)) {
        unsafe { (*entry).flow.announced = 1 };
    }
    emit::event(&TlsBind {
        header: emit::header::<TlsBind>(Kind::TlsBind, current),
        id: call.object,
        generation: stream.generation,
        socket_id: call.socket,
        socket_generation: call.socket_generation,
    })
}
