//! From bytes of a ring, or of a recording, to [`Record`]s.
//!
//! Owns the reading side of the ABI in `inferscope-common`, and the records that only userspace writes
//! ([`Record::Process`], [`Record::Host`], [`Record::Gpu`]). Checks every length: a recording may be damaged or made by an adversary. Needs no
//! `unsafe`: members are read by position, and the positions are asserted against the ABI in the tests.
//!
//! To add a record: see `inferscope-common`; here it takes a variant, a branch of [`parse`] and a line in the
//! round-trip test.

mod cause;
mod cuda;
mod own;
mod reader;
mod source;

use std::{net::SocketAddr, sync::Arc};

pub use cause::{FileOpen, Listen, Retransmit, SendLimits};
pub use cuda::{CudaAllocFailed, CudaStep};
use inferscope_common::record as abi;
pub use own::{encode_gpu, encode_host, encode_process};
use reader::Reader;
pub use source::Source;
use thiserror::Error;

use crate::{
    gpu::GpuRecord,
    host::{HostRecord, ProcessIdentity},
    time::Mono,
};

/// Direction of bytes, seen from the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Direction {
    /// Into the process.
    Read,
    /// Out of the process.
    Write,
}

impl Direction {
    fn of_abi(value: u8) -> Result<Self, RecordError> {
        match value {
            abi::READ => Ok(Self::Read),
            abi::WRITE => Ok(Self::Write),
            _ => Err(RecordError::BadMember("direction")),
        }
    }
}

/// A kernel object's identity: its address, and what tells it from later users of the same address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectId {
    /// Address.
    pub address: u64,
    /// Inode number of a socket; time of first sight of a TLS stream.
    pub generation: u64,
}

/// What every record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// When.
    pub time: Mono,
    /// Thread group, 0 for nobody's.
    pub tgid: u32,
    /// Thread.
    pub tid: u32,
    /// Start of the thread group's leader, ns since boot; 0 when unknown.
    pub start_ns: u64,
}

/// One record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record<'a> {
    /// Bytes of a stream.
    Data(Origin, Data<'a>),
    /// Addresses of a socket.
    Socket(Origin, Socket),
    /// A socket changed its TCP state.
    SocketState(Origin, SocketState),
    /// A TLS stream uses a socket.
    TlsBind {
        /// Common part.
        origin: Origin,
        /// The TLS stream.
        tls: ObjectId,
        /// The socket.
        socket: ObjectId,
    },
    /// A socket call transferred TLS records.
    TlsRecords(Origin, TlsRecords),
    /// A TLS stream transferred plaintext that is not copied.
    TlsPlain {
        /// Common part.
        origin: Origin,
        /// The TLS stream.
        tls: ObjectId,
        /// Direction.
        direction: Direction,
        /// Where it was read.
        source: Source,
        /// Bytes.
        total: u32,
        /// As in [`Data`].
        overhead: u16,
    },
    /// A TLS record passed whose plaintext nobody reads.
    TlsHeader(Origin, TlsHeader),
    /// The first handshake message of a direction.
    TlsHello(Origin, TlsHello<'a>),
    /// A TLS stream is gone.
    TlsClose {
        /// Common part.
        origin: Origin,
        /// The TLS stream.
        tls: ObjectId,
    },
    /// A process began.
    Fork {
        /// The parent.
        origin: Origin,
        /// Thread group of the child.
        child: u32,
        /// Start of the child.
        child_start_ns: u64,
    },
    /// A process became another program.
    Exec {
        /// The process.
        origin: Origin,
    },
    /// A process ended.
    Exit {
        /// The process.
        origin: Origin,
        /// Wait status as in `wait(2)`.
        status: u32,
    },
    /// The kernel chose a process to be killed for want of memory; its end follows. Any process, traced or not.
    OomVictim {
        /// The process.
        origin: Origin,
    },
    /// A socket sent something again.
    Retransmit(Origin, Retransmit),
    /// What has kept a socket from sending.
    SendLimits(Origin, SendLimits),
    /// A process opened a file that may hold weights.
    FileOpen(Origin, FileOpen<'a>),
    /// A process listens.
    Listen(Origin, Listen),
    /// A process has waited for what it launched on a GPU.
    CudaStep(Origin, CudaStep),
    /// A process did not get memory of a GPU.
    CudaAllocFailed(Origin, CudaAllocFailed),
    /// Who a process is; written by userspace before the process's first record.
    Process(Origin, ProcessIdentity),
    /// What was read of processes and control groups; written by userspace.
    Host(Mono, Box<HostRecord>),
    /// What was read of GPUs; written by userspace.
    Gpu(Mono, Box<GpuRecord>),
}

/// Bytes of a stream. Without any, they passed before `offset` and nobody saw them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Data<'a> {
    /// The stream.
    pub stream: ObjectId,
    /// Position of the first byte in its direction.
    pub offset: u64,
    /// Bytes of the direction left out on purpose so far.
    pub skipped: u64,
    /// Bytes of the whole call.
    pub total: u32,
    /// Turn of the stream.
    pub turn: u32,
    /// Direction.
    pub direction: Direction,
    /// Where it was read.
    pub source: Source,
    /// How much longer the fragment of the TLS record is that carried the bytes, 0 if not known.
    pub overhead: u16,
    /// The bytes.
    pub payload: &'a [u8],
}

/// Addresses of a socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Socket {
    /// The socket.
    pub id: ObjectId,
    /// The process's end.
    pub local: Address,
    /// The other end.
    pub peer: Address,
}

/// One end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// Of TCP.
    Ip(SocketAddr),
    /// Of a UNIX socket.
    Unix {
        /// Address of the kernel's `sock`, 0 if it is not known: what both ends of a connection call this one.
        sock: u64,
        /// What it is bound to: a path, or `@` and an abstract name. Clients have none as a rule.
        name: Option<Arc<str>>,
    },
}

impl Address {
    /// Address and port, of TCP.
    pub fn ip(&self) -> Option<SocketAddr> {
        match *self {
            Self::Ip(address) => Some(address),
            Self::Unix { .. } => None,
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self::Ip(address)
    }
}

/// The TLS records of one socket call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TlsRecords {
    /// The socket.
    pub socket: ObjectId,
    /// Direction.
    pub direction: Direction,
    /// Bytes of the call.
    pub total: u32,
    count: u8,
    lens: [u16; abi::MAX_TLS_RECORDS],
}

impl TlsRecords {
    /// A call that transferred whole records with these fragments.
    #[cfg(test)]
    pub fn of(socket: ObjectId, direction: Direction, fragments: &[u16]) -> Self {
        let mut lens = [0; abi::MAX_TLS_RECORDS];
        lens[..fragments.len()].copy_from_slice(fragments);
        let total = fragments.iter().map(|&len| u32::from(len) + 5).sum();
        Self { socket, direction, total, count: fragments.len() as u8, lens }
    }

    /// Fragment lengths of the records that end in a read, or begin in a write, as far as they are known.
    pub fn fragments(&self) -> &[u16] {
        self.lens.get(..usize::from(self.count)).unwrap_or(&self.lens)
    }
}

/// The header of a TLS record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TlsHeader {
    /// The socket.
    pub socket: ObjectId,
    /// Direction.
    pub direction: Direction,
    /// Plaintext that the process's TLS libraries have transferred so far.
    pub plain: u64,
    /// Content type.
    pub content: u8,
    /// Length of the fragment.
    pub len: u16,
    /// Whether records before this one may have been missed.
    pub after_gap: bool,
}

/// A ClientHello or ServerHello.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TlsHello<'a> {
    /// The socket.
    pub socket: ObjectId,
    /// Direction.
    pub direction: Direction,
    /// The message's beginning.
    pub bytes: &'a [u8],
}

/// A TCP state change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketState {
    /// The socket.
    pub id: ObjectId,
    /// State before.
    pub old: u8,
    /// State after.
    pub new: u8,
    /// It is over, and the process may still read what is left; another record follows when it has.
    pub unread: bool,
    /// `sk_err`.
    pub error: u32,
}

/// Why bytes are no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RecordError {
    /// Fewer bytes than the record says or needs.
    #[error("record is cut off: {have} of {need} bytes")]
    Short {
        /// Bytes needed.
        need: usize,
        /// Bytes there.
        have: usize,
    },
    /// A kind that this version does not know.
    #[error("record has unknown kind {0}")]
    UnknownKind(u16),
    /// A member with a value outside its range.
    #[error("record has a bad {0}")]
    BadMember(&'static str),
}

/// Reads one record. `bytes` must hold exactly one.
pub fn parse(bytes: &[u8]) -> Result<Record<'_>, RecordError> {
    let mut r = Reader { bytes, at: 0 };
    let len = r.u32()? as usize;
    let kind = r.u16()?;
    let _flags = r.u16()?;
    let origin = Origin { time: Mono(r.u64()?), tgid: r.u32()?, tid: r.u32()?, start_ns: r.u64()? };
    if len != bytes.len() {
        return Err(RecordError::Short { need: len, have: bytes.len() });
    }
    Ok(match kind {
        k if k == abi::Kind::Data as u16 => Record::Data(origin, data(&mut r)?),
        k if k == abi::Kind::Socket as u16 => Record::Socket(origin, socket(&mut r)?),
        k if k == abi::Kind::SocketState as u16 => {
            let id = r.object()?;
            let [old, new] = r.array()?;
            let unread = r.u16()? != 0;
            Record::SocketState(origin, SocketState { id, old, new, unread, error: r.u32()? })
        }
        k if k == abi::Kind::UnixSocket as u16 => Record::Socket(origin, unix_socket(&mut r)?),
        k if k == abi::Kind::TlsBind as u16 => Record::TlsBind { origin, tls: r.object()?, socket: r.object()? },
        k if k == abi::Kind::TlsRecords as u16 => {
            let socket = r.object()?;
            let total = r.u32()?;
            let [direction, count] = r.array()?;
            r.u16()?;
            let mut lens = [0; abi::MAX_TLS_RECORDS];
            for len in &mut lens {
                *len = r.u16()?;
            }
            let direction = Direction::of_abi(direction)?;
            Record::TlsRecords(origin, TlsRecords { socket, direction, total, count, lens })
        }
        k if k == abi::Kind::TlsPlain as u16 => {
            let tls = r.object()?;
            let total = r.u32()?;
            let [direction, source] = r.array()?;
            let (direction, source) = (Direction::of_abi(direction)?, Source::of_abi(source)?);
            Record::TlsPlain { origin, tls, direction, source, total, overhead: r.u16()? }
        }
        k if k == abi::Kind::TlsHeader as u16 => {
            let (socket, plain, len) = (r.object()?, r.u64()?, r.u16()?);
            let [content, direction, flags] = r.array()?;
            let (direction, after_gap) = (Direction::of_abi(direction)?, flags & abi::AFTER_GAP != 0);
            Record::TlsHeader(origin, TlsHeader { socket, direction, plain, content, len, after_gap })
        }
        k if k == abi::Kind::TlsHello as u16 => {
            let socket = r.object()?;
            let [direction, _, _, _, _, _, _, _] = r.array()?;
            Record::TlsHello(origin, TlsHello { socket, direction: Direction::of_abi(direction)?, bytes: r.rest() })
        }
        k if k == abi::Kind::TlsClose as u16 => Record::TlsClose { origin, tls: r.object()? },
        k if k == abi::Kind::Fork as u16 => {
            let child = r.u32()?;
            r.u32()?;
            Record::Fork { origin, child, child_start_ns: r.u64()? }
        }
        k if k == abi::Kind::Exec as u16 => Record::Exec { origin },
        k if k == abi::Kind::Exit as u16 => Record::Exit { origin, status: r.u32()? },
        k if k == abi::Kind::OomVictim as u16 => Record::OomVictim { origin },
        k if k == abi::Kind::Retransmit as u16 => Record::Retransmit(origin, Retransmit::read(&mut r)?),
        k if k == abi::Kind::SendLimits as u16 => Record::SendLimits(origin, SendLimits::read(&mut r)?),
        k if k == abi::Kind::FileOpen as u16 => Record::FileOpen(origin, FileOpen::read(&mut r)?),
        k if k == abi::Kind::Listen as u16 => Record::Listen(origin, Listen::read(&mut r)?),
        k if k == abi::Kind::CudaStep as u16 => Record::CudaStep(origin, CudaStep::read(&mut r)?),
        k if k == abi::Kind::CudaAllocFailed as u16 => Record::CudaAllocFailed(origin, CudaAllocFailed::read(&mut r)?),
        own::PROCESS => Record::Process(origin, own::read(&mut r, "process")?),
        own::HOST => Record::Host(origin.time, own::read(&mut r, "host")?),
        own::GPU => Record::Gpu(origin.time, own::read(&mut r, "gpu")?),
        other => return Err(RecordError::UnknownKind(other)),
    })
}

/// Length that a record at the beginning of `bytes` claims, if there is enough of it to tell.
pub fn claimed_len(bytes: &[u8]) -> Option<usize> {
    bytes.first_chunk().map(|b| u32::from_ne_bytes(*b) as usize)
}

/// Time stamp of a record, for putting two rings in order without reading more.
pub fn time_of(bytes: &[u8]) -> Option<Mono> {
    bytes.get(8..16)?.first_chunk().map(|b| Mono(u64::from_ne_bytes(*b)))
}

fn data<'a>(r: &mut Reader<'a>) -> Result<Data<'a>, RecordError> {
    let stream = r.object()?;
    let (offset, skipped) = (r.u64()?, r.u64()?);
    let (total, captured, turn) = (r.u32()?, r.u32()? as usize, r.u32()?);
    let [direction, source] = r.array()?;
    let overhead = r.u16()?;
    let direction = Direction::of_abi(direction)?;
    let source = Source::of_abi(source)?;
    let payload = r.rest();
    if payload.len() != captured {
        return Err(RecordError::BadMember("captured"));
    }
    // Positions are added to lengths everywhere; one that is near the end of the number space is no position.
    if offset > u64::MAX / 2 {
        return Err(RecordError::BadMember("offset"));
    }
    Ok(Data { stream, offset, skipped, total, turn, direction, source, overhead, payload })
}

fn socket(r: &mut Reader<'_>) -> Result<Socket, RecordError> {
    const AF_INET: u16 = 2;
    const AF_INET6: u16 = 10;
    let id = r.object()?;
    let (local, remote): ([u8; 16], [u8; 16]) = (r.array()?, r.array()?);
    let (local_port, remote_port, family) = (r.u16()?, r.u16()?, r.u16()?);
    let ip = |bytes: [u8; 16]| match family {
        AF_INET => Ok(std::net::IpAddr::from([bytes[0], bytes[1], bytes[2], bytes[3]])),
        // An IPv4 connection through an IPv6 socket: say it as what it is, so that both ends match.
        AF_INET6 => Ok(std::net::Ipv6Addr::from(bytes).to_canonical()),
        _ => Err(RecordError::BadMember("family")),
    };
    let address = |bytes, port| Ok(Address::Ip((ip(bytes)?, port).into()));
    Ok(Socket { id, local: address(local, local_port)?, peer: address(remote, remote_port)? })
}

fn unix_socket(r: &mut Reader<'_>) -> Result<Socket, RecordError> {
    let id = r.object()?;
    let peer = r.u64()?;
    let (len, peer_len) = (r.u16()?, r.u16()?);
    r.u32()?;
    let (name, peer_name): ([u8; abi::UNIX_NAME], [u8; abi::UNIX_NAME]) = (r.array()?, r.array()?);
    Ok(Socket {
        id,
        local: Address::Unix { sock: id.address, name: unix_name(&name, len)? },
        peer: Address::Unix { sock: peer, name: unix_name(&peer_name, peer_len)? },
    })
}

/// A name as people write it: a path up to its end, or an abstract name with `@` in place of the zero bytes.
fn unix_name(bytes: &[u8; abi::UNIX_NAME], len: u16) -> Result<Option<Arc<str>>, RecordError> {
    let name = bytes.get(..usize::from(len)).ok_or(RecordError::BadMember("name"))?;
    Ok(match name {
        [] => None,
        [0, ..] => Some(String::from_utf8_lossy(name).replace('\0', "@").into()),
        _ => Some(String::from_utf8_lossy(name.split(|&byte| byte == 0).next().unwrap_or_default()).into()),
    })
}

#[cfg(test)]
mod tests {
    use std::mem::offset_of;

    use proptest::prelude::*;

    use super::*;

    /// A data record as a kernel program writes it, byte for byte through the ABI's own layout.
    fn data_record(payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0u8; size_of::<abi::Data>()];
        let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
        let len = (size_of::<abi::Data>() + payload.len()) as u32;
        put(offset_of!(abi::Data, header.len), &len.to_ne_bytes());
        put(offset_of!(abi::Data, header.kind), &(abi::Kind::Data as u16).to_ne_bytes());
        put(offset_of!(abi::Data, header.time_ns), &77u64.to_ne_bytes());
        put(offset_of!(abi::Data, header.tgid), &5u32.to_ne_bytes());
        put(offset_of!(abi::Data, header.tid), &6u32.to_ne_bytes());
        put(offset_of!(abi::Data, header.start_ns), &7u64.to_ne_bytes());
        put(offset_of!(abi::Data, id), &8u64.to_ne_bytes());
        put(offset_of!(abi::Data, generation), &9u64.to_ne_bytes());
        put(offset_of!(abi::Data, offset), &10u64.to_ne_bytes());
        put(offset_of!(abi::Data, skipped), &11u64.to_ne_bytes());
        put(offset_of!(abi::Data, total), &12u32.to_ne_bytes());
        put(offset_of!(abi::Data, captured), &(payload.len() as u32).to_ne_bytes());
        put(offset_of!(abi::Data, turn), &13u32.to_ne_bytes());
        put(offset_of!(abi::Data, direction), &[abi::WRITE]);
        put(offset_of!(abi::Data, source), &[abi::SOURCE_OPENSSL]);
        put(offset_of!(abi::Data, overhead), &14u16.to_ne_bytes());
        bytes.extend_from_slice(payload);
        bytes
    }

    #[test]
    fn reads_what_the_abi_lays_out() {
        let bytes = data_record(b"abc");
        let Ok(Record::Data(origin, data)) = parse(&bytes) else { panic!("no data record") };
        assert_eq!(origin, Origin { time: Mono(77), tgid: 5, tid: 6, start_ns: 7 });
        assert_eq!(time_of(&bytes), Some(Mono(77)));
        let expected = Data {
            stream: ObjectId { address: 8, generation: 9 },
            offset: 10,
            skipped: 11,
            total: 12,
            turn: 13,
            direction: Direction::Write,
            source: Source::OpenSsl,
            overhead: 14,
            payload: b"abc",
        };
        assert_eq!(data, expected);
    }

    #[test]
    fn names_of_unix_sockets_are_written_as_people_write_them() {
        let mut bytes = vec![0u8; size_of::<abi::UnixSocket>()];
        let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
        put(offset_of!(abi::UnixSocket, header.len), &(size_of::<abi::UnixSocket>() as u32).to_ne_bytes());
        put(offset_of!(abi::UnixSocket, header.kind), &(abi::Kind::UnixSocket as u16).to_ne_bytes());
        put(offset_of!(abi::UnixSocket, id), &8u64.to_ne_bytes());
        put(offset_of!(abi::UnixSocket, generation), &9u64.to_ne_bytes());
        put(offset_of!(abi::UnixSocket, peer), &10u64.to_ne_bytes());
        put(offset_of!(abi::UnixSocket, name_len), &6u16.to_ne_bytes());
        put(offset_of!(abi::UnixSocket, peer_name_len), &4u16.to_ne_bytes());
        put(offset_of!(abi::UnixSocket, name), b"/a/b\0\0");
        put(offset_of!(abi::UnixSocket, peer_name), b"\0xyz");
        let Ok(Record::Socket(_, socket)) = parse(&bytes) else { panic!("no socket record") };
        let end = |sock, name: &str| Address::Unix { sock, name: Some(name.into()) };
        assert_eq!(socket.id, ObjectId { address: 8, generation: 9 });
        assert_eq!((socket.local, socket.peer), (end(8, "/a/b"), end(10, "@xyz")));
        let at = offset_of!(abi::UnixSocket, name_len);
        bytes[at..at + 2].copy_from_slice(&109u16.to_ne_bytes());
        assert_eq!(parse(&bytes), Err(RecordError::BadMember("name")));
    }

    #[test]
    fn process_records_come_back() {
        let origin = Origin { time: Mono(1), tgid: 2, tid: 3, start_ns: 4 };
        let identity = ProcessIdentity { pid: 2, comm: Some("python3".into()), uid: Some(7), ..Default::default() };
        assert_eq!(parse(&encode_process(&origin, &identity)), Ok(Record::Process(origin, identity)));
    }

    #[test]
    fn a_length_that_lies_is_refused() {
        let mut bytes = data_record(b"abc");
        bytes.pop();
        assert!(matches!(parse(&bytes), Err(RecordError::Short { .. })));
        let mut bytes = data_record(b"abc");
        let at = offset_of!(abi::Data, captured);
        bytes[at..at + 4].copy_from_slice(&900u32.to_ne_bytes());
        assert_eq!(parse(&bytes), Err(RecordError::BadMember("captured")));
    }

    proptest! {
        #[test]
        fn noise_never_panics(mut bytes in prop::collection::vec(any::<u8>(), 0..200), kind in 0u16..32) {
            if bytes.len() >= 6 {
                let len = (bytes.len() as u32).to_ne_bytes();
                bytes[..4].copy_from_slice(&len);
                bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
            }
            let _ = parse(&bytes);
        }
    }
}
