//! TLS streams: what every library's calls come down to once object, buffer and length are known.
//!
//! Owns the table of streams and their generations, and the one way from plaintext to the gate and the ring. How the
//! three are read from a call is each library's business ([`crate::tls`]).

use aya_ebpf::helpers::bpf_ktime_get_ns;
use inferscope_common::{
    counters::Counter,
    probe_stats::FileStats,
    record::{Data, Kind, TlsBind, TlsClose},
    tls_cookie,
};

use crate::{
    account::Account,
    count,
    emit::{self, Job, Source},
    flow::{Flow, REJECTED, TLS, UNKNOWN},
    maps::{SOCKS, TLS_STREAMS},
    records, sock,
    task::Current,
};

/// A TLS stream: the library's object in one process.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct TlsKey {
    pub object: u64,
    pub tgid: u32,
    pub pad: u32,
}

/// State of a TLS stream.
#[repr(C)]
pub struct TlsStream {
    /// When it was first seen, which tells apart streams whose objects reuse the address.
    pub generation: u64,
    /// Socket it was last seen to use, 0 if none.
    pub socket: u64,
    /// How often its process's records were asked for, to find its socket.
    pub asked: u64,
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
    let key = TlsKey { object: call.object, tgid: current.tgid, pad: 0 };
    let Some(stream) = stream_of(key) else {
        count::add(Counter::TlsTableFull, 1);
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
    let position = stream.flow.advance(direction, n, None, false, copy);
    if !copy {
        count::add(Counter::BytesSkipped, n);
        if stream.socket == 0 && call.socket == 0 {
            records::tell_plain(current, call.object, stream.generation, direction, n);
        }
        return;
    }
    if stream.socket == 0 && call.socket == 0 && stream.asked < records::MAX_ASKED {
        stream.asked += 1;
        records::ask(current);
    }
    if call.socket != 0 && call.socket != stream.socket && bind(current, call, stream) {
        stream.socket = call.socket;
    }
    emit::data(&mut Job {
        source: Source { segment: call.buffer, segment_left: n, iovecs: 0, iovecs_left: 0 },
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
        account: None,
    });
}

/// The object is freed, or will carry nothing more.
#[inline(always)]
pub fn close(current: Current, object: u64) {
    let key = TlsKey { object, tgid: current.tgid, pad: 0 };
    let Some(stream) = TLS_STREAMS.get_ptr(key) else { return };
    let generation = unsafe { (*stream).generation };
    emit::event(&TlsClose { header: emit::header::<TlsClose>(Kind::TlsClose, current), id: object, generation });
    let _ = TLS_STREAMS.remove(key);
}

#[inline(always)]
fn stream_of(key: TlsKey) -> Option<*mut TlsStream> {
    if let Some(stream) = TLS_STREAMS.get_ptr_mut(key) {
        return Some(stream);
    }
    let fresh = TlsStream { generation: unsafe { bpf_ktime_get_ns() }, socket: 0, asked: 0, flow: Flow::new() };
    if TLS_STREAMS.insert(key, fresh, 0).is_err() {
        return None;
    }
    TLS_STREAMS.get_ptr_mut(key)
}

/// Tells userspace which socket a stream uses; false if that did not work and is to be tried again.
#[inline(always)]
fn bind(current: Current, call: &Plaintext, stream: &TlsStream) -> bool {
    if !emit::socket(call.socket, call.socket_generation, current) {
        return false;
    }
    // From now on the socket's state changes are of interest.
    if let Some(entry) = SOCKS.get_ptr_mut(call.socket) {
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
