//! How much memory something takes at most.
//!
//! A program that measures makes [`Counting`] its global allocator. Each thread has its own account, so tests beside each
//! other do not disturb one another. What libzstd takes is not seen: it is C.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

thread_local! {
    static ACCOUNT: Cell<Account> = const { Cell::new(Account { live: 0, peak: 0, total: 0 }) };
}

#[derive(Clone, Copy)]
struct Account {
    /// Bytes taken and not given back. Below zero where another thread has taken them.
    live: isize,
    peak: isize,
    /// Bytes taken.
    total: u64,
}

/// What something took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Most bytes held at a time, beyond what was held before.
    pub peak: usize,
    /// Bytes allocated, given back or not.
    pub total: u64,
}

/// What `act` takes. All zero where [`Counting`] is not the global allocator.
pub fn measure<T>(act: impl FnOnce() -> T) -> (T, Taken) {
    let before = ACCOUNT.get();
    ACCOUNT.set(Account { peak: before.live, ..before });
    let result = act();
    let after = ACCOUNT.get();
    let peak = usize::try_from(after.peak - before.live).unwrap_or(0);
    ACCOUNT.set(Account { peak: before.peak.max(after.peak), ..after });
    (result, Taken { peak, total: after.total - before.total })
}

/// The system's allocator, which keeps [`measure`]'s accounts.
pub struct Counting;

fn count(freed: usize, taken: usize) {
    // The thread may be ending.
    let _ = ACCOUNT.try_with(|account| {
        let Account { live, peak, total } = account.get();
        let live = live - freed as isize + taken as isize;
        account.set(Account { live, peak: peak.max(live), total: total + taken as u64 });
    });
}

#[allow(unsafe_code, reason = "an allocator is an unsafe trait")]
// SAFETY: every call is passed on to the system's allocator as it came; counting neither allocates nor unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(0, layout.size());
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(0, layout.size());
        // SAFETY: as the caller promises.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(layout.size(), size);
        // SAFETY: as the caller promises.
        unsafe { System.realloc(at, layout, size) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(layout.size(), 0);
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(at, layout) }
    }
}
