//! Userspace's finding that two streams are the two directions of one connection.
//!
//! A library that is probed below TLS shows each direction as a stream of its own. What is worth copying is a matter of
//! the connection, so once both are known, one gate decides for both.

/// Key of the `JOINED` map: a TLS stream by its place.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// The library's object.
    pub object: u64,
    /// Thread group.
    pub tgid: u32,
    /// Zero.
    pub pad: u32,
}

/// Value of the `JOINED` map.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Joined {
    /// Generation of the stream that is meant; a later one at the same place has another partner.
    pub generation: u64,
    /// Object of the stream, in the same thread group, whose gate decides.
    pub gate: u64,
    /// Its generation.
    pub gate_generation: u64,
}

const _: () = {
    assert!(size_of::<Place>() == 16);
    assert!(size_of::<Joined>() == 24);
};
