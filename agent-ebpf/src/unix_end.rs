//! The end of a UNIX socket.
//!
//! No tracepoint tells of it, and a closed descriptor leads nowhere. But when one end closes, the kernel marks the other
//! end, and whoever holds that one finds out by a call that returns nothing or fails. That call speaks for both ends: the
//! mark says how the connection ended, and the pointer to the other `sock` stays until this one goes.
//!
//! What no call tells (both ends closed without another read, or the one that remains is not traced) is ended by the exit
//! of its process, by the next socket at the same address, or by silence, in userspace. The entry here then stays
//! until the table's LRU takes it.

use crate::{
    maps::{LOOSE_SOCKS, VERDICTS},
    sock::{self, Found, Hangup},
    sock_state::{TCP_CLOSE, TCP_CLOSE_WAIT, TCP_ESTABLISHED, TCP_FIN_WAIT1, tell},
    transfer,
};

/// A call on the socket shut it down, read the end, or failed for want of another end.
#[inline(always)]
pub fn notice(found: &Found, shut_down: bool, read_nothing: bool) {
    let Some(entry) = transfer::known(found) else { return };
    let (generation, announced, half) = unsafe { ((*entry).generation, (*entry).flow.announced, (*entry).half) };
    if shut_down {
        // Which half does not matter: who began is what counts.
        if announced != 0 && half == 0 {
            unsafe { (*entry).half = 1 };
            tell(found.id, generation, TCP_ESTABLISHED, TCP_FIN_WAIT1, false);
        }
        return;
    }
    match sock::hangup(found.id) {
        Hangup::None => {}
        Hangup::Half => {
            if announced != 0 && half == 0 && read_nothing {
                unsafe { (*entry).half = 1 };
                tell(found.id, generation, TCP_ESTABLISHED, TCP_CLOSE_WAIT, false);
            }
        }
        Hangup::Whole => {
            // A write that fails comes before what the other end sent last was read.
            if !read_nothing && sock::has_unread(found.id) {
                return;
            }
            over(found.id, generation, announced, TCP_CLOSE_WAIT);
            let peer = sock::unix_peer(found.id);
            if let Some(entry) = LOOSE_SOCKS.get_ptr(peer) {
                let (generation, announced) = unsafe { ((*entry).generation, (*entry).flow.announced) };
                over(peer, generation, announced, TCP_FIN_WAIT1);
            }
        }
    }
}

/// Ends a stream by way of the state that says who closed.
#[inline(always)]
fn over(id: u64, generation: u64, announced: u8, way: u8) {
    if announced != 0 {
        tell(id, generation, TCP_ESTABLISHED, way, false);
        tell(id, generation, way, TCP_CLOSE, false);
    }
    let _ = LOOSE_SOCKS.remove(id);
    let _ = VERDICTS.remove(id);
}
