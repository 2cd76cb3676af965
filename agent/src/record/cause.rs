//! Records that may tell why a call was slow: what sockets had to do again, what kept them from sending, which weights were
//! opened, who listens. Owns their members and how they are read; what they mean for a call is for others to find.

use inferscope_common::record as abi;

use super::{ObjectId, RecordError, reader::Reader};

/// A socket sent a segment again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retransmit {
    /// The socket.
    pub socket: ObjectId,
    /// Segments that its connection has sent again so far.
    pub total: Option<u32>,
    /// Times since the last record of the socket, this one included.
    pub since: u32,
    /// TCP state; 0 if it is not known.
    pub state: u8,
}

impl Retransmit {
    pub(super) fn read(r: &mut Reader<'_>) -> Result<Self, RecordError> {
        let socket = r.object()?;
        let (total, since) = (known(r.u32()?), r.u32()?);
        let [state, ..]: [u8; 8] = r.array()?;
        Ok(Self { socket, total, since, state })
    }
}

/// What has kept a socket from sending since its connection began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SendLimits {
    /// The socket.
    pub socket: ObjectId,
    /// Its peer's receive window was full, nanoseconds: the peer does not read.
    pub rwnd_limited_ns: u64,
    /// Its own buffer was too small to keep the path busy, nanoseconds.
    pub sndbuf_limited_ns: u64,
    /// As [`Retransmit::total`].
    pub total_retrans: Option<u32>,
    /// Smoothed round trip time, microseconds.
    pub srtt_us: Option<u32>,
}

impl SendLimits {
    pub(super) fn read(r: &mut Reader<'_>) -> Result<Self, RecordError> {
        let socket = r.object()?;
        let (rwnd_limited_ns, sndbuf_limited_ns) = (r.u64()?, r.u64()?);
        let (total_retrans, srtt_us) = (known(r.u32()?), known(r.u32()?).filter(|&srtt| srtt != 0));
        Ok(Self { socket, rwnd_limited_ns, sndbuf_limited_ns, total_retrans, srtt_us })
    }
}

/// A file was opened whose name is one that weights have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileOpen<'a> {
    /// The path as the process gave it, of a long one the end. Relative to what the process knows.
    pub path: &'a [u8],
    /// Whether that is all of it.
    pub is_whole: bool,
    /// Size in bytes when it was opened.
    pub size: Option<u64>,
    /// Inode number.
    pub inode: Option<u64>,
    /// `O_*` flags of the call.
    pub flags: u32,
    /// The descriptor.
    pub fd: u32,
}

impl<'a> FileOpen<'a> {
    pub(super) fn read(r: &mut Reader<'a>) -> Result<Self, RecordError> {
        let size = Some(r.u64()?).filter(|&size| size != u64::MAX);
        let inode = Some(r.u64()?).filter(|&inode| inode != 0);
        let (flags, fd, path_len) = (r.u32()?, r.u32()?, r.u32()?);
        r.u32()?;
        let path = r.rest();
        if path.len() > abi::MAX_OPEN_PATH || path.len() > path_len as usize {
            return Err(RecordError::BadMember("path"));
        }
        Ok(Self { path, is_whole: path.len() == path_len as usize, size, inode, flags, fd })
    }
}

/// A process began to listen for TCP connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listen {
    /// The port; absent where the kernel chose it afterwards.
    pub port: Option<u16>,
    /// Of IPv6, which as a rule takes IPv4 too.
    pub is_ipv6: bool,
}

impl Listen {
    pub(super) fn read(r: &mut Reader<'_>) -> Result<Self, RecordError> {
        const AF_INET: u16 = 2;
        const AF_INET6: u16 = 10;
        let port = Some(r.u16()?).filter(|&port| port != 0);
        let is_ipv6 = match r.u16()? {
            AF_INET => false,
            AF_INET6 => true,
            _ => return Err(RecordError::BadMember("family")),
        };
        Ok(Self { port, is_ipv6 })
    }
}

/// A counter, unless the kernel side could not read it.
fn known(value: u32) -> Option<u32> {
    (value != abi::UNKNOWN).then_some(value)
}

#[cfg(test)]
pub(super) mod tests {
    use std::mem::offset_of;

    use super::{
        super::{Origin, Record, parse},
        *,
    };
    use crate::time::Mono;

    pub(in super::super) const ORIGIN: Origin = Origin { time: Mono(77), tgid: 5, tid: 6, start_ns: 7 };
    const SOCKET: ObjectId = ObjectId { address: 8, generation: 9 };

    /// A record through the ABI's own layout: the header, then each member at its place, then what follows.
    pub(in super::super) fn record(kind: abi::Kind, size: usize, members: &[(usize, &[u8])], rest: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0u8; size];
        let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
        put(offset_of!(abi::Header, len), &((size + rest.len()) as u32).to_ne_bytes());
        put(offset_of!(abi::Header, kind), &(kind as u16).to_ne_bytes());
        put(offset_of!(abi::Header, time_ns), &ORIGIN.time.0.to_ne_bytes());
        put(offset_of!(abi::Header, tgid), &ORIGIN.tgid.to_ne_bytes());
        put(offset_of!(abi::Header, tid), &ORIGIN.tid.to_ne_bytes());
        put(offset_of!(abi::Header, start_ns), &ORIGIN.start_ns.to_ne_bytes());
        for (at, value) in members {
            put(*at, value);
        }
        bytes.extend_from_slice(rest);
        bytes
    }

    #[test]
    fn a_victim_is_who_the_header_names() {
        let bytes = record(abi::Kind::OomVictim, size_of::<abi::OomVictim>(), &[], b"");
        assert_eq!(parse(&bytes), Ok(Record::OomVictim { origin: ORIGIN }));
    }

    #[test]
    fn retransmits_come_back() {
        let read = |total: u32| {
            let members: [(usize, &[u8]); 5] = [
                (offset_of!(abi::Retransmit, id), &8u64.to_ne_bytes()),
                (offset_of!(abi::Retransmit, generation), &9u64.to_ne_bytes()),
                (offset_of!(abi::Retransmit, total), &total.to_ne_bytes()),
                (offset_of!(abi::Retransmit, since), &3u32.to_ne_bytes()),
                (offset_of!(abi::Retransmit, state), &[1]),
            ];
            record(abi::Kind::Retransmit, size_of::<abi::Retransmit>(), &members, b"")
        };
        let expected = Retransmit { socket: SOCKET, total: Some(12), since: 3, state: 1 };
        assert_eq!(parse(&read(12)), Ok(Record::Retransmit(ORIGIN, expected)));
        let unknown = Retransmit { total: None, ..expected };
        assert_eq!(parse(&read(abi::UNKNOWN)), Ok(Record::Retransmit(ORIGIN, unknown)));
    }

    #[test]
    fn limits_come_back_and_what_was_not_measured_stays_unknown() {
        let read = |retrans: u32, srtt: u32| {
            let members: [(usize, &[u8]); 6] = [
                (offset_of!(abi::SendLimits, id), &8u64.to_ne_bytes()),
                (offset_of!(abi::SendLimits, generation), &9u64.to_ne_bytes()),
                (offset_of!(abi::SendLimits, rwnd_limited_ns), &1_000u64.to_ne_bytes()),
                (offset_of!(abi::SendLimits, sndbuf_limited_ns), &2_000u64.to_ne_bytes()),
                (offset_of!(abi::SendLimits, total_retrans), &retrans.to_ne_bytes()),
                (offset_of!(abi::SendLimits, srtt_us), &srtt.to_ne_bytes()),
            ];
            record(abi::Kind::SendLimits, size_of::<abi::SendLimits>(), &members, b"")
        };
        let expected = SendLimits {
            socket: SOCKET,
            rwnd_limited_ns: 1_000,
            sndbuf_limited_ns: 2_000,
            total_retrans: Some(0),
            srtt_us: Some(40),
        };
        assert_eq!(parse(&read(0, 40)), Ok(Record::SendLimits(ORIGIN, expected)));
        let unknown = SendLimits { total_retrans: None, srtt_us: None, ..expected };
        for srtt in [0, abi::UNKNOWN] {
            assert_eq!(parse(&read(abi::UNKNOWN, srtt)), Ok(Record::SendLimits(ORIGIN, unknown)));
        }
    }

    fn opened(size: u64, inode: u64, path_len: u32, path: &[u8]) -> Vec<u8> {
        let members: [(usize, &[u8]); 5] = [
            (offset_of!(abi::FileOpen, size), &size.to_ne_bytes()),
            (offset_of!(abi::FileOpen, inode), &inode.to_ne_bytes()),
            (offset_of!(abi::FileOpen, flags), &0o2_000_000u32.to_ne_bytes()),
            (offset_of!(abi::FileOpen, fd), &4u32.to_ne_bytes()),
            (offset_of!(abi::FileOpen, path_len), &path_len.to_ne_bytes()),
        ];
        record(abi::Kind::FileOpen, size_of::<abi::FileOpen>(), &members, path)
    }

    #[test]
    fn opens_come_back_with_their_path() {
        let expected =
            FileOpen { path: b"m/a.gguf", is_whole: true, size: Some(99), inode: Some(3), flags: 0o2_000_000, fd: 4 };
        assert_eq!(parse(&opened(99, 3, 8, b"m/a.gguf")), Ok(Record::FileOpen(ORIGIN, expected)));
        let cut = FileOpen { is_whole: false, size: None, inode: None, ..expected };
        assert_eq!(parse(&opened(u64::MAX, 0, 300, b"m/a.gguf")), Ok(Record::FileOpen(ORIGIN, cut)));
    }

    #[test]
    fn a_path_that_is_longer_than_it_says_or_may_be_is_refused() {
        for (len, path) in [(7, vec![b'a'; 8]), (300, vec![b'a'; abi::MAX_OPEN_PATH + 1])] {
            assert_eq!(parse(&opened(1, 1, len, &path)), Err(RecordError::BadMember("path")), "{len}");
        }
    }

    #[test]
    fn listeners_come_back() {
        let read = |port: u16, family: u16| {
            let members: [(usize, &[u8]); 2] = [
                (offset_of!(abi::Listen, port), &port.to_ne_bytes()),
                (offset_of!(abi::Listen, family), &family.to_ne_bytes()),
            ];
            record(abi::Kind::Listen, size_of::<abi::Listen>(), &members, b"")
        };
        let expected = Listen { port: Some(8_000), is_ipv6: false };
        assert_eq!(parse(&read(8_000, 2)), Ok(Record::Listen(ORIGIN, expected)));
        assert_eq!(parse(&read(0, 10)), Ok(Record::Listen(ORIGIN, Listen { port: None, is_ipv6: true })));
        assert_eq!(parse(&read(8_000, 1)), Err(RecordError::BadMember("family")));
    }
}
