//! Userspace's answer about a stream that the kernel's sniffing let through.

/// Copy the exchange to its end.
pub const FOLLOW: u32 = 1;

/// Stop copying until the next request.
pub const DROP: u32 = 2;

/// Never copy this stream again: it does not speak a protocol that the agent reads.
pub const REJECT: u32 = 3;

/// Copy whatever comes until the stream is rejected: requests are not told apart by their first bytes. What [`FOLLOW`] is
/// to one exchange this is to a connection of HTTP/2.
pub const KEEP: u32 = 4;

/// Value of the `VERDICTS` map; the key is [`Data::id`](crate::record::Data::id).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Generation of the stream that is meant; an answer about an earlier user of the same address is ignored.
    pub generation: u64,
    /// The turn on which the request came. The answer holds for that turn and the next one, the response; if the
    /// stream is already further, it is stale and ignored. Those for the whole stream hold whenever they come.
    pub turn: u32,
    /// [`FOLLOW`], [`DROP`], [`REJECT`] or [`KEEP`].
    pub verdict: u32,
}

const _: () = assert!(size_of::<Verdict>() == 16);
