//! The headers of TLS records on sockets whose plaintext nobody reads. Only when inference is asked for; without it the
//! verifier removes every way into this file.
//!
//! Programs cut records as they like: five bytes and then the rest, several records in one buffer, the middle of one.
//! So each direction keeps how much of its record is still to come ([`Chain`]), and headers are found where the chain
//! leads. Where bytes passed unseen beyond the end of a record, or what should be a header is none, the chain is lost: it
//! begins anew at a call that begins with a header, and the record that is told next says so. What the records mean is
//! for userspace to find out; it answers with a reject for a connection that it does not want to hear of.

use core::ffi::c_void;

use aya_ebpf::{
    bindings::{BPF_ANY, BPF_NOEXIST},
    helpers::{bpf_loop, bpf_probe_read_user, bpf_probe_read_user_buf},
};
use inferscope_common::{
    counters::Counter,
    record::{AFTER_GAP, Kind, READ, TlsHeader},
    verdict::REJECT,
};

use crate::{
    count,
    emit::{self, Iovec, Source},
    maps::{CHAINS, VERDICTS},
    sock::StreamSock,
    task::Current,
};

/// RFC 8446 5.2: 2^14 and 256 of expansion; 2^14 + 2048 in TLS 1.2.
const MAX_FRAGMENT: u32 = 16_384 + 2_048;

/// Content type `handshake`.
const HANDSHAKE: u32 = 22;

/// Steps of one call's walk: two for each record and one for each segment. A call of a megabyte has 64 records; one
/// that has more steps loses its chain.
const MAX_STEPS: u32 = 1_024;

/// One direction of a connection. The walk over a call's bytes lives here too, and not on the stack: what is in a map
/// is unknown to the verifier whatever was written last, so that it sees one state of the walk and not all of them.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Chain {
    /// Position behind the last byte that was walked over.
    position: u64,
    /// Bytes of a header that is not whole yet, the first one highest.
    header: u64,
    /// How many of them there are.
    have: u32,
    /// Bytes of the current record's fragment that are still to come.
    left: u32,
    /// Its length and content type.
    len: u32,
    content: u32,
    /// 1: where the next header is is not known.
    lost: u32,
    /// 1: a record before the next one that is told was not followed to its end.
    gap: u32,
    /// 1: a header was found, so the next one is not the direction's first.
    begun: u32,
    /// 1: the fragment that begins may be a hello.
    hello: u32,
    /// What is left of the call.
    source: Source,
    remaining: u64,
}

/// Both directions.
#[repr(C)]
pub struct Chains {
    generation: u64,
    /// 1: nothing is told any more.
    quiet: u64,
    read: Chain,
    write: Chain,
}

/// Bytes that passed a socket.
pub struct Passed {
    pub source: Source,
    pub direction: u8,
    pub n: u64,
    /// Of the first of them.
    pub position: u64,
}

/// What a walk takes along.
#[repr(C)]
struct Walk {
    chain: *mut Chain,
    current: Current,
    id: u64,
    generation: u64,
    plain: u64,
    direction: u64,
}

/// Of a connection that was not seen before.
const FRESH: Chain = Chain {
    position: 0,
    header: 0,
    have: 0,
    left: 0,
    len: 0,
    content: 0,
    lost: 1,
    gap: 0,
    begun: 0,
    hello: 0,
    source: Source { segment: 0, segment_left: 0, iovecs: 0, iovecs_left: 0 },
    remaining: 0,
};

/// The same for both directions. A static: on the stack it would take half of it.
static NEW: Chains = Chains { generation: 0, quiet: 0, read: FRESH, write: FRESH };

/// The chains of a socket whose records are to be told; `None` if they are not: a library's call that is `nested`
/// around the socket's shows that the plaintext is read, or userspace does not want them.
#[inline(always)]
pub fn chains_of(socket: &StreamSock, nested: bool) -> Option<*mut Chains> {
    let mut how = u64::from(BPF_NOEXIST);
    if let Some(chains) = CHAINS.get_ptr_mut(socket.id) {
        if unsafe { (*chains).generation } == socket.generation {
            return (!is_quiet(unsafe { &mut *chains }, socket, nested)).then_some(chains);
        }
        how = u64::from(BPF_ANY);
    }
    let _ = CHAINS.insert(socket.id, &NEW, how);
    let chains = CHAINS.get_ptr_mut(socket.id)?;
    unsafe {
        (*chains).generation = socket.generation;
        (*chains).quiet = u64::from(nested);
    }
    (!nested).then_some(chains)
}

#[inline(always)]
fn is_quiet(chains: &mut Chains, socket: &StreamSock, nested: bool) -> bool {
    if chains.quiet != 0 {
        return true;
    }
    if nested {
        chains.quiet = 1;
        return true;
    }
    // The gate asks for verdicts on HTTP only: what is there for a socket that carries TLS is meant for this place.
    let Some(verdict) = VERDICTS.get_ptr(socket.id) else { return false };
    let verdict = unsafe { core::ptr::read(verdict) };
    let _ = VERDICTS.remove(socket.id);
    if verdict.generation == socket.generation && verdict.verdict == REJECT {
        chains.quiet = 1;
    }
    chains.quiet != 0
}

/// Walks over the bytes of a call and tells the records that end in it.
#[inline(always)]
pub fn pass(current: Current, socket: &StreamSock, chains: *mut Chains, passed: &Passed, plain: u64) {
    let chain = unsafe { if passed.direction == READ { &raw mut (*chains).read } else { &raw mut (*chains).write } };
    catch_up(unsafe { &mut *chain }, passed.position);
    unsafe {
        (*chain).source = passed.source;
        (*chain).remaining = passed.n;
    }
    let direction = u64::from(passed.direction);
    let mut walk = Walk { chain, current, id: socket.id, generation: socket.generation, plain, direction };
    // A chain that is lost begins anew where a call begins with a header, and nowhere else.
    unsafe { bpf_loop(MAX_STEPS, step as *mut c_void, (&raw mut walk).cast(), 0) };
    let chain = unsafe { &mut *chain };
    if chain.remaining > 0 && chain.lost == 0 {
        lose(chain);
    }
    chain.position = passed.position + passed.n;
}

/// Takes account of bytes that passed between the last call and the one at `position`, unseen.
#[inline(always)]
fn catch_up(chain: &mut Chain, position: u64) {
    let unseen = position.wrapping_sub(chain.position);
    if unseen == 0 || chain.lost != 0 {
        return;
    }
    // Inside a record nothing of interest was missed.
    if unseen < u64::from(chain.left) {
        chain.left -= unseen as u32;
    } else {
        lose(chain);
    }
}

#[inline(always)]
fn lose(chain: &mut Chain) {
    count::add(Counter::HeaderChainsLost, 1);
    chain.lost = 1;
    chain.gap = 1;
    chain.hello = 0;
    chain.left = 0;
    chain.have = 0;
    chain.header = 0;
}

/// One step of the walk: to the next segment, over a part of a header, or over a part of a fragment. Non-zero ends it.
extern "C" fn step(_round: u64, walk: *mut c_void) -> i64 {
    let walk = unsafe { &*walk.cast::<Walk>() };
    let chain = unsafe { &mut *walk.chain };
    if chain.remaining == 0 {
        return 1;
    }
    if chain.source.segment_left == 0 {
        return next_segment(&mut chain.source);
    }
    let mut n = chain.remaining;
    if n > chain.source.segment_left {
        n = chain.source.segment_left;
    }
    if chain.left == 0 {
        return on_header(walk, chain, n);
    }
    if n > u64::from(chain.left) {
        n = u64::from(chain.left);
    }
    if chain.hello != 0 {
        chain.hello = 0;
        emit::hello(walk.current, walk.id, walk.generation, walk.direction as u8, chain.source.segment, n);
    }
    chain.left -= n as u32;
    advance(chain, n);
    if chain.left == 0 {
        tell(walk, chain);
    }
    0
}

#[inline(always)]
fn next_segment(source: &mut Source) -> i64 {
    if source.iovecs_left == 0 {
        return 1;
    }
    let Ok(iovec) = (unsafe { bpf_probe_read_user(source.iovecs as *const Iovec) }) else { return 1 };
    source.iovecs += size_of::<Iovec>() as u64;
    source.iovecs_left -= 1;
    source.segment = iovec.base;
    source.segment_left = iovec.len;
    0
}

#[inline(always)]
fn advance(chain: &mut Chain, n: u64) {
    chain.source.segment += n;
    chain.source.segment_left -= n;
    chain.remaining -= n;
}

/// Takes what is there of a header: all of it, or a byte.
#[inline(always)]
fn on_header(walk: &Walk, chain: &mut Chain, n: u64) -> i64 {
    let at = chain.source.segment as *const u8;
    if chain.have == 0 && n >= 5 {
        let mut bytes = [0u8; 5];
        if unsafe { bpf_probe_read_user_buf(at, &mut bytes) }.is_err() {
            return 1;
        }
        let [content, major, minor, high, low] = bytes;
        let tail = u32::from_be_bytes([major, minor, high, low]);
        chain.header = u64::from(content) << 32 | u64::from(tail);
        chain.have = 5;
        advance(chain, 5);
    } else {
        let Ok(byte) = (unsafe { bpf_probe_read_user(at) }) else { return 1 };
        chain.header = chain.header << 8 | u64::from(byte);
        chain.have += 1;
        advance(chain, 1);
    }
    if chain.have < 5 {
        return 0;
    }
    let header = chain.header;
    chain.have = 0;
    chain.header = 0;
    let (content, len) = ((header >> 32) as u32 & 0xff, header as u32 & 0xffff);
    if !is_header(header, chain.lost != 0) {
        if chain.lost == 0 {
            lose(chain);
        }
        return 1;
    }
    chain.hello = u32::from(chain.begun == 0 && content == HANDSHAKE);
    chain.begun = 1;
    chain.lost = 0;
    chain.left = len;
    chain.len = len;
    chain.content = content;
    if len == 0 {
        tell(walk, chain);
    }
    0
}

/// Whether five bytes can be a header: content type 20 to 23, legacy version 3.0 to 3.4, a length that is allowed (RFC
/// 8446 5.1). Where the chain was lost only the versions that are on the wire today count: of 16 million places in
/// ciphertext one looks like a header then.
#[inline(always)]
fn is_header(header: u64, lost: bool) -> bool {
    let (content, version, len) =
        ((header >> 32) as u32 & 0xff, (header >> 16) as u32 & 0xffff, header as u32 & 0xffff);
    let known = if lost { version == 0x303 || (version == 0x301 && content == HANDSHAKE) } else { version >> 8 == 3 };
    content >= 20 && content <= 23 && known && version & 0xff <= 4 && len <= MAX_FRAGMENT
}

#[inline(always)]
fn tell(walk: &Walk, chain: &mut Chain) {
    let told = emit::event(&TlsHeader {
        header: emit::header::<TlsHeader>(Kind::TlsHeader, walk.current),
        id: walk.id,
        generation: walk.generation,
        plain: walk.plain,
        len: chain.len as u16,
        content: chain.content as u8,
        direction: walk.direction as u8,
        flags: chain.gap as u8 & AFTER_GAP,
        pad: [0; 3],
    });
    // What was not told is a gap in what userspace sees.
    chain.gap = u32::from(!told);
}
