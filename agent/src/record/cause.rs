//! Records that may tell why a call was slow: what sockets had to do again, what kept them from sending. Owns their members and how they are read; what they mean for a call is for others to find.

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

/// A counter, unless the kernel side could not read it.
fn known(value: u32) -> Option<u32> {
    (value != abi::UNKNOWN).then_some(value)
}

#[cfg(test)]
mod tests {
    use std::mem::offset_of;

    use super::{
        super::{Origin, Record, parse},
        *,
    };
    use crate::time::Mono;

    const ORIGIN: Origin = Origin { time: Mono(77), tgid: 5, tid: 6, start_ns: 7 };
    const SOCKET: ObjectId = ObjectId { address: 8, generation: 9 };

    /// A record through the ABI's own layout: the header, then each member at its place, then what follows.
    fn record(kind: abi::Kind, size: usize, members: &[(usize, &[u8])], rest: &[u8]) -> Vec<u8> {
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
}
