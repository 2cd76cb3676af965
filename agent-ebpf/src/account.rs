//! The account of each process: what it moved against what was captured, and what was lost of it for which reason.
//!
//! The global counters are the ledger, which balances to the byte; these say whose bytes they were. An account that the
//! map could not hold or has evicted is missing there and nowhere else.

use core::ptr::NonNull;

use aya_ebpf::bindings::BPF_NOEXIST;
use inferscope_common::{counters::Counter, process_stats::ProcessStats};

use crate::{
    count::{self, bump},
    maps::PROCESSES,
};

/// A new account. A static: on the stack it would take a quarter of it.
static NEW: ProcessStats = ProcessStats {
    socket: [0; 2],
    tls: [0; 2],
    plain: [0; 2],
    offered: 0,
    emitted: 0,
    lost_ring: 0,
    lost_scratch: 0,
    unreadable: 0,
    truncated: 0,
    unseen: 0,
    untracked: 0,
    events_lost: 0,
    calls_lost: 0,
    uring: [0; 2],
    ended: 0,
};

/// A process's account, new if there is none or if it is an earlier process's.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct Account(NonNull<ProcessStats>);

impl Account {
    #[inline(always)]
    pub fn of(tgid: u32) -> Option<Self> {
        if let Some(stats) = PROCESSES.get_ptr_mut(tgid) {
            if unsafe { (*stats).ended } == 0 {
                return NonNull::new(stats).map(Self);
            }
            let _ = PROCESSES.remove(tgid);
        }
        let _ = PROCESSES.insert(tgid, &NEW, u64::from(BPF_NOEXIST));
        PROCESSES.get_ptr_mut(tgid).and_then(NonNull::new).map(Self)
    }

    /// Bytes on a socket, and whether they are TLS records.
    #[inline(always)]
    pub fn on_socket(self, direction: u8, n: u64, is_tls: bool) {
        let place = usize::from(direction & 1);
        unsafe {
            bump(&raw mut (*self.0.as_ptr()).socket[place], n);
            if is_tls {
                bump(&raw mut (*self.0.as_ptr()).tls[place], n);
            }
        }
    }

    /// Plaintext of a TLS library.
    #[inline(always)]
    pub fn on_plain(self, direction: u8, n: u64) {
        unsafe { bump(&raw mut (*self.0.as_ptr()).plain[usize::from(direction & 1)], n) };
    }

    /// Plaintext so far, both directions.
    #[inline(always)]
    pub fn plain(self) -> u64 {
        let stats = self.0.as_ptr();
        unsafe { (*stats).plain[0] + (*stats).plain[1] }
    }

    /// Whether the reader has nothing of this process yet.
    #[inline(always)]
    pub fn is_unheard(self) -> bool {
        unsafe { (*self.0.as_ptr()).emitted == 0 }
    }

    /// Bytes that were chosen for copying.
    #[inline(always)]
    pub fn on_offer(self, n: u64) {
        unsafe { bump(&raw mut (*self.0.as_ptr()).offered, n) };
    }

    /// What became of bytes that were chosen.
    #[inline(always)]
    pub fn on_outcome(self, what: Outcome, n: u64) {
        let stats = self.0.as_ptr();
        unsafe {
            let slot = match what {
                Outcome::Emitted => &raw mut (*stats).emitted,
                Outcome::LostRing => &raw mut (*stats).lost_ring,
                Outcome::LostScratch => &raw mut (*stats).lost_scratch,
                Outcome::Unreadable => &raw mut (*stats).unreadable,
                Outcome::Truncated => &raw mut (*stats).truncated,
            };
            bump(slot, n);
        }
    }

    /// Bytes of a stream that no table had room for.
    #[inline(always)]
    pub fn on_untracked(self, n: u64) {
        unsafe { bump(&raw mut (*self.0.as_ptr()).untracked, n) };
    }

    /// An event that did not fit its ring.
    #[inline(always)]
    pub fn on_event_lost(self) {
        unsafe { bump(&raw mut (*self.0.as_ptr()).events_lost, 1) };
    }

    /// A TLS call of which too little is known.
    #[inline(always)]
    pub fn on_call_lost(self) {
        unsafe { bump(&raw mut (*self.0.as_ptr()).calls_lost, 1) };
    }

    /// Bytes that io_uring moved over a socket.
    #[inline(always)]
    pub fn on_uring(self, direction: u8, n: u64) {
        unsafe { bump(&raw mut (*self.0.as_ptr()).uring[usize::from(direction & 1)], n) };
    }

    /// Bytes that no program saw.
    #[inline(always)]
    pub fn on_unseen(self, n: u64) {
        unsafe { bump(&raw mut (*self.0.as_ptr()).unseen, n) };
    }
}

/// Counts bytes of a stream that no table had room for, in the ledger and for the process.
#[inline(never)]
pub fn untracked(tgid: u32, n: u64) {
    count::add(Counter::BytesUntracked, n);
    if let Some(account) = Account::of(tgid) {
        account.on_untracked(n);
    }
}

/// The process has ended: a later one with its number has an account of its own.
#[inline(always)]
pub fn close(tgid: u32) {
    if let Some(stats) = PROCESSES.get_ptr_mut(tgid) {
        unsafe { (*stats).ended = 1 };
    }
}

/// What becomes of bytes that are chosen for copying.
#[derive(Clone, Copy)]
pub enum Outcome {
    Emitted,
    LostRing,
    LostScratch,
    Unreadable,
    Truncated,
}
