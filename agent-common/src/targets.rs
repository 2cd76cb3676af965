//! What the maps that narrow the capture hold: flags of a thread group, flags of a port, the hash of a path.

/// [`Config::target_mode`](crate::config::Config::target_mode): every process is traced.
pub const EVERYONE: u32 = 0;
/// Only thread groups of the `TARGETS` map.
pub const LISTED: u32 = 1;
/// All but those that the `TARGETS` map excludes.
pub const NOT_EXCLUDED: u32 = 2;

/// Flag of a thread group: it, or an ancestor, was chosen.
pub const WANTED: u32 = 1;
/// Flag of a thread group: an exclusion names it. Wins over the others.
pub const EXCLUDED: u32 = 2;
/// Flag of a thread group: it runs another program since a moment and userspace has not judged it yet. Traced.
pub const PENDING: u32 = 4;

/// Flag of a port in the `PORTS` map: connections that use it are of interest.
pub const PORT_WANTED: u32 = 1;
/// Flag of a port: connections that use it are not.
pub const PORT_EXCLUDED: u32 = 2;

/// Entries of the `PORTS` map.
pub const MAX_PORTS: u32 = 128;

/// Longest path that is hashed, in bytes. A longer one is never looked up: its beginning may be another's.
pub const MAX_HASHED_PATH: usize = 63;

/// Where a hash begins: FNV-1a, 64 bits.
pub const HASH_BASIS: u64 = 0xcbf2_9ce4_8422_2325;

/// Takes one byte into a hash.
#[inline(always)]
pub const fn hash_byte(hash: u64, byte: u8) -> u64 {
    (hash ^ byte as u64).wrapping_mul(0x0000_0100_0000_01b3)
}

/// Last segments of the paths on which a model API may speak over a WebSocket: a GET for one is looked at, every other is
/// left alone.
pub const SOCKET_SEGMENTS: [&str; 2] = ["realtime", "responses"];

/// Their hashes.
pub const SOCKET_HASHES: [u64; SOCKET_SEGMENTS.len()] = [hash(SOCKET_SEGMENTS[0]), hash(SOCKET_SEGMENTS[1])];

/// Hash of a text.
const fn hash(text: &str) -> u64 {
    let (bytes, mut hash, mut at) = (text.as_bytes(), HASH_BASIS, 0);
    while at < bytes.len() {
        hash = hash_byte(hash, bytes[at]);
        at += 1;
    }
    hash
}

/// A path that can be no model's, as the requests of one thread group name it: key of the `DULL_PATHS` map.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DullPath {
    /// Hash of the path, up to the query.
    pub hash: u64,
    /// The thread group that reads or writes the requests.
    pub tgid: u32,
    /// Zero.
    pub pad: u32,
}

const _: () = assert!(size_of::<DullPath>() == 16);
