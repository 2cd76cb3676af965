//! The gate: which bytes of a stream are worth copying, and where in the stream they are.
//!
//! One [`Flow`] per stream, whatever carries it (a socket or a TLS connection). Two stages keep the cost of
//! uninteresting traffic near zero: here the first bytes of a message decide whether it is HTTP at all, and
//! userspace then decides whether the exchange is a model's. A drop verdict holds for one exchange: the next
//! POST opens the gate again, because one connection carries health checks as well as model calls. What userspace has
//! learnt of a path holds for all of a process's connections ([`dull`]). Of the other methods only a GET is looked at,
//! and only for a path on which a model API speaks over a WebSocket ([`socket`]).

use aya_ebpf::helpers::bpf_probe_read_user_buf;
use inferscope_common::{
    counters::Counter,
    record::READ,
    verdict::{DROP, FOLLOW, KEEP, REJECT},
};

use crate::{count, dull, globals::config, lines, maps::VERDICTS, socket};

/// Nothing recognised yet.
pub const UNKNOWN: u8 = 0;
/// HTTP; copied, userspace has not answered yet.
pub const HTTP: u8 = 1;
/// HTTP; userspace wants this exchange.
pub const FOLLOWED: u8 = 2;
/// HTTP; not this exchange.
pub const DROPPED: u8 = 3;
/// TLS records: the plaintext is captured elsewhere.
pub const TLS: u8 = 4;
/// None of ours, for good.
pub const REJECTED: u8 = 5;
/// HTTP/2; userspace wants all of it. Many exchanges share the stream, and their first bytes look like anything.
pub const KEPT: u8 = 6;
/// Messages one a line ([`lines`]); copied until userspace says that they are none of ours.
pub const LINES: u8 = 7;

/// Turns without a recognisable beginning after which a stream is rejected. A connection joined in the middle of
/// an exchange shows its first recognisable message after at most two turns.
const MAX_MISSES: u8 = 8;

/// Bytes of a direction within which messages one a line begin. A socket that nothing is recognised on is not looked at
/// for them for ever; one that was joined in a line may have a long one to its end.
const LINES_BEGIN: u64 = 256 << 10;

/// One direction of a stream.
#[repr(C)]
pub struct Lane {
    /// Position behind the last byte seen.
    pub offset: u64,
    /// Bytes left out on purpose so far.
    pub skipped: u64,
    /// TCP sequence number at `offset`, if `seq_known`.
    pub seq: u32,
    pub seq_known: u32,
}

/// A stream's position and state.
#[repr(C)]
pub struct Flow {
    pub read: Lane,
    pub write: Lane,
    /// How often the direction changed.
    pub turn: u32,
    /// One of the states above.
    pub state: u8,
    /// 1 + direction of the last message, 0 before the first.
    pub last: u8,
    pub misses: u8,
    /// Whether userspace was told of the stream's addresses.
    pub announced: u8,
}

impl Flow {
    pub const fn new() -> Self {
        const LANE: Lane = Lane { offset: 0, skipped: 0, seq: 0, seq_known: 0 };
        Self { read: LANE, write: LANE, turn: 0, state: UNKNOWN, last: 0, misses: 0, announced: 0 }
    }

    #[inline(always)]
    pub fn lane(&mut self, direction: u8) -> &mut Lane {
        if direction == READ { &mut self.read } else { &mut self.write }
    }

    /// Whether the message that begins at `head` in user memory is to be copied, on a socket that is no TLS stream's.
    /// Changes the state.
    #[inline(always)]
    pub fn admit_socket(&mut self, id: u64, generation: u64, direction: u8, head: u64, len: u64, unix: bool) -> bool {
        if unix && unsafe { config!(lines) } != 0 && self.state == UNKNOWN {
            let is_early = self.lane(direction).offset < LINES_BEGIN;
            if is_early && (lines::is_message(head, len) || direction == READ && lines::are_peers(id)) {
                self.state = LINES;
            }
        }
        self.admit(id, generation, direction, head, len)
    }

    /// Whether the message that begins at `head` in user memory is to be copied. Changes the state. One place for each
    /// look at the message: the verifier follows every way through each of them.
    #[inline(always)]
    pub fn admit(&mut self, id: u64, generation: u64, direction: u8, head: u64, len: u64) -> bool {
        let turned = self.turn_to(direction);
        let looks = match self.state {
            TLS | REJECTED => return false,
            // Not only after a turn: what came in between may have passed unseen (sendfile, splice, io_uring).
            UNKNOWN | DROPPED => true,
            // A client that is faster than the answers: what they were about is over, but what was learnt of the path holds.
            // A new request asks for a new answer, and a piece of an answer may begin like a message that is a line.
            HTTP | FOLLOWED | LINES => turned,
            _ => false,
        };
        if looks {
            self.look(head, len, turned);
        }
        // Where exchanges follow each other an answer may have come for any of them.
        if self.state == HTTP || self.state == LINES || turned && (self.state == FOLLOWED || self.state == KEPT) {
            self.apply_verdict(id, generation);
        }
        self.is_copied()
    }

    /// Whether what the stream carries now is copied.
    #[inline(always)]
    pub fn is_copied(&self) -> bool {
        self.state == HTTP || self.state == FOLLOWED || self.state == KEPT || self.state == LINES
    }

    /// Bytes move in this direction; true if the ones before did not.
    #[inline(always)]
    pub fn turn_to(&mut self, direction: u8) -> bool {
        let turned = self.last != direction + 1;
        if turned {
            self.last = direction + 1;
            self.turn = self.turn.wrapping_add(1);
        }
        turned
    }

    /// Takes the beginning of a message for what it is.
    #[inline(always)]
    fn look(&mut self, head: u64, len: u64, turned: bool) {
        let is_open = self.state == UNKNOWN || self.state == DROPPED;
        match sniff(head, len) {
            Sniffed::Post => self.state = on_post(head, len),
            // The end of what is followed, too, where not everything is.
            Sniffed::OtherMethod if is_open || self.state == FOLLOWED && unsafe { config!(all_http) } == 0 => {
                self.state = on_other(head, len);
            }
            _ if !is_open => {}
            // Joined after the request: userspace looks what the answer is. A piece of a later download may begin alike.
            Sniffed::Response | Sniffed::Events | Sniffed::Frame if self.state == UNKNOWN => self.state = HTTP,
            // Also behind a CONNECT, which is HTTP at first; but a piece of a download may begin with the same bytes.
            Sniffed::Tls if self.state == UNKNOWN || turned => self.state = TLS,
            Sniffed::Nothing if self.state == UNKNOWN && turned => {
                self.misses += 1;
                if self.misses >= MAX_MISSES {
                    self.state = REJECTED;
                }
            }
            _ => {}
        }
    }

    #[inline(always)]
    pub fn apply_verdict(&mut self, id: u64, generation: u64) {
        let Some(verdict) = VERDICTS.get_ptr(id) else { return };
        let verdict = unsafe { core::ptr::read(verdict) };
        let _ = VERDICTS.remove(id);
        if verdict.generation != generation {
            return;
        }
        if verdict.verdict == REJECT {
            self.state = REJECTED;
        } else if verdict.verdict == KEEP {
            self.state = KEPT;
        } else if self.turn.wrapping_sub(verdict.turn) <= 1 {
            self.state = match verdict.verdict {
                FOLLOW => FOLLOWED,
                DROP => DROPPED,
                _ => self.state,
            };
        }
    }

    /// Moves a direction on to `end_seq`, by bytes that were in no buffer of a call; gives how many. `n` is what the call
    /// says, which is all there is to go by for a socket without sequence numbers, or at first sight. Where the two
    /// differ the sequence number is right: several requests of io_uring complete at once.
    #[inline(always)]
    pub fn pass(&mut self, direction: u8, n: u64, end_seq: Option<u32>) -> u64 {
        let copied = self.is_copied();
        let lane = self.lane(direction);
        let mut passed = n;
        if let Some(end) = end_seq {
            let step = end.wrapping_sub(lane.seq);
            if lane.seq_known == 0 {
                lane.seq = end;
            } else if step < 1 << 31 {
                passed = u64::from(step);
                lane.seq = end;
            } else {
                passed = 0;
            }
            lane.seq_known = 1;
        }
        lane.offset += passed;
        if copied {
            count::add(Counter::BytesUnseen, passed);
        } else {
            count::add(Counter::BytesSkipped, passed);
            lane.skipped += passed;
        }
        passed
    }

    /// Moves a direction on by `n` bytes that end at TCP sequence number `end_seq`, and gives their position.
    /// Bytes that no program saw show as a step.
    #[inline(always)]
    pub fn advance(&mut self, direction: u8, n: u64, end_seq: Option<u32>, closing: bool, copied: bool) -> u64 {
        let lane = self.lane(direction);
        if let Some(end) = end_seq {
            let unseen = end.wrapping_sub(n as u32).wrapping_sub(lane.seq);
            // Half the number space and beyond is a step back: two threads on one direction. Taken as contiguous.
            // One extra in the read direction of a closing connection is the FIN's own sequence number.
            let is_fin = unseen == 1 && direction == READ && closing;
            if lane.seq_known != 0 && unseen != 0 && unseen < 1 << 31 && !is_fin {
                lane.offset += u64::from(unseen);
                if copied {
                    count::add(Counter::BytesUnseen, u64::from(unseen));
                } else {
                    lane.skipped += u64::from(unseen);
                }
            }
            lane.seq = end;
            lane.seq_known = 1;
        }
        let start = lane.offset;
        lane.offset += n;
        if !copied {
            lane.skipped += n;
        }
        start
    }
}

/// State of a stream on which a POST begins: its path may be known to be no model's.
#[inline(always)]
fn on_post(head: u64, len: u64) -> u8 {
    if unsafe { config!(all_http) } == 0 && dull::is_known(head, len) {
        count::add(Counter::DullPaths, 1);
        return DROPPED;
    }
    HTTP
}

/// State of a stream on which a request begins that is no POST: the path of a GET may be one on which a model API speaks
/// over a WebSocket.
#[inline(always)]
fn on_other(head: u64, len: u64) -> u8 {
    if unsafe { config!(all_http) } != 0 || socket::is_opened(head, len) { HTTP } else { DROPPED }
}

#[derive(PartialEq, Eq)]
enum Sniffed {
    Nothing,
    Post,
    OtherMethod,
    Response,
    /// A piece of a response's body that is an event stream, with or without a chunk's size before it.
    Events,
    /// A frame of HTTP/2: a head, a piece of a body, or a server's first.
    Frame,
    Tls,
}

/// Length of the shortest beginning that is looked at: `GET /`.
const SNIFF_MIN: u64 = 5;

/// Recognises the beginning of a message that comes in pieces.
#[inline(always)]
fn sniff_short(head: u64, len: u64) -> Sniffed {
    let mut b = [0u8; 4];
    let at = head as *const u8;
    // Constant lengths: what the verifier cannot see it does not let through.
    let read = match len {
        4 => unsafe { bpf_probe_read_user_buf(at, &mut b) },
        3 => unsafe { bpf_probe_read_user_buf(at, &mut b[..3]) },
        2 => unsafe { bpf_probe_read_user_buf(at, &mut b[..2]) },
        1 => unsafe { bpf_probe_read_user_buf(at, &mut b[..1]) },
        _ => return Sniffed::Nothing,
    };
    match b {
        _ if read.is_err() => Sniffed::Nothing,
        // Go's server reads one byte ahead of a request. If it may become a POST, let userspace see the rest.
        [b'P', ..] => Sniffed::Post,
        // Node writes a chunk's size, its data and its end from buffers of their own; the digits alone, or with their end.
        [digit, _, b'\r', b'\n'] if digit.is_ascii_hexdigit() => Sniffed::Events,
        [first, second, third, 0]
            if first.is_ascii_hexdigit() && second.is_ascii_hexdigit() && (third == 0 || third.is_ascii_hexdigit()) =>
        {
            Sniffed::Events
        }
        _ => Sniffed::Nothing,
    }
}

/// Recognises the beginning of a message by its first eight bytes.
#[inline(always)]
fn sniff(head: u64, len: u64) -> Sniffed {
    let mut b = [0u8; 8];
    if len < SNIFF_MIN {
        return sniff_short(head, len);
    }
    // A message of five to seven bytes is read whole; what lies behind it stays zero.
    let read = if len >= 8 {
        unsafe { bpf_probe_read_user_buf(head as *const u8, &mut b) }
    } else {
        unsafe { bpf_probe_read_user_buf(head as *const u8, &mut b[..5]) }
    };
    if read.is_err() {
        return Sniffed::Nothing;
    }
    match b {
        [b'P', b'O', b'S', b'T', b' ', ..] => Sniffed::Post,
        // The preface of HTTP/2 is let through as if it were a request: userspace says that the stream is to be kept.
        [b'P', b'R', b'I', b' ', b'*', ..] => Sniffed::Post,
        [b'G', b'E', b'T', b' ', ..]
        | [b'P', b'U', b'T', b' ', ..]
        | [b'H', b'E', b'A', b'D', b' ', ..]
        | [b'P', b'A', b'T', b'C', b'H', b' ', ..]
        | [b'D', b'E', b'L', b'E', b'T', b'E', b' ', ..]
        | [b'O', b'P', b'T', b'I', b'O', b'N', b'S', b' ']
        | [b'C', b'O', b'N', b'N', b'E', b'C', b'T', b' '] => Sniffed::OtherMethod,
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', _] => Sniffed::Response,
        [b'd', b'a', b't', b'a', b':', ..] | [b'e', b'v', b'e', b'n', b't', b':', ..] => Sniffed::Events,
        // A chunk's size in two digits or three, for an event of 16 to 4095 bytes, alone or with the event behind it.
        [digit, _, b'\r', b'\n', first, ..] | [digit, _, _, b'\r', b'\n', first, ..]
            if digit.is_ascii_hexdigit() && matches!(first, b'd' | b'e' | b'i' | b':' | 0) =>
        {
            Sniffed::Events
        }
        // RFC 9113 4.1: the length, the type, its flags and a stream's number, which is below 2^24 on all but the oldest
        // connections. Of settings (6.5) the length is a number of pairs of six bytes.
        [0, high, low, 0, 0 | 1 | 8 | 9, 0, ..] if high | low != 0 => Sniffed::Frame,
        [0, high, low, 1, flags, 0, ..] if high | low != 0 && flags & !0x2d == 0 => Sniffed::Frame,
        [0, 0, len, 4, 0, 0, 0, 0] if len % 6 == 0 => Sniffed::Frame,
        // RFC 8446 5.1: content type 20 to 23, legacy version 3.0 to 3.4.
        [0x14..=0x17, 3, 0..=4, ..] => Sniffed::Tls,
        _ => Sniffed::Nothing,
    }
}
