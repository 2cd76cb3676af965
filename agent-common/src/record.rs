//! What the kernel programs write to the two rings.
//!
//! Every record begins with a [`Header`]; `kind` says what follows. Byte order is the machine's: records never
//! leave the host, and the raw files of `inferscope record` name their byte order in the file header.

mod cuda;

pub use cuda::{CudaAllocFailed, CudaStep, NO_GAP};

/// Payload bytes that one [`Data`] record carries at most. A longer read or write becomes several records. 16 KiB
/// is what a TLS record holds, and header and payload together must fit a per-CPU map value, which may not
/// exceed 32 KiB.
pub const MAX_PAYLOAD: usize = 16 * 1024;

/// Kinds of record ([`Header::kind`]).
#[repr(u16)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// [`Data`], on the bulk ring; everything else is on the ring of rare events.
    Data = 1,
    /// [`Socket`]: addresses of a socket, once, before its first data.
    Socket = 2,
    /// [`SocketState`]: a tracked socket changed its TCP state.
    SocketState = 3,
    /// [`TlsBind`]: a TLS stream was seen to use a socket.
    TlsBind = 4,
    /// [`TlsClose`]: a TLS stream's object was freed.
    TlsClose = 5,
    /// [`Fork`]: a process began.
    Fork = 6,
    /// [`Exec`]: a process became another program.
    Exec = 7,
    /// [`Exit`]: a process ended.
    Exit = 8,
    /// [`TlsRecords`]: a socket call transferred TLS records.
    TlsRecords = 9,
    /// [`TlsPlain`]: a TLS stream that is not copied transferred plaintext.
    TlsPlain = 10,
    /// [`UnixSocket`]: what a UNIX socket is connected to, once, before its first data.
    UnixSocket = 16,
    /// [`TlsHeader`]: a TLS record whose plaintext nobody reads has passed.
    TlsHeader = 20,
    /// [`TlsHello`]: the first handshake message of a direction.
    TlsHello = 21,
    /// [`OomVictim`]: the kernel chose a process to be killed for want of memory.
    OomVictim = 22,
    /// [`Retransmit`]: a tracked socket sent bytes again.
    Retransmit = 23,
    /// [`SendLimits`]: how long something kept a tracked socket from sending.
    SendLimits = 24,
    /// [`FileOpen`]: a process opened a file that may hold a model's weights.
    FileOpen = 25,
    /// [`Listen`]: a process waits for connections on a port.
    Listen = 26,
    /// [`CudaStep`]: a process has waited for what it launched on a GPU.
    CudaStep = 27,
    /// [`CudaAllocFailed`]: a process did not get memory of a GPU.
    CudaAllocFailed = 28,
}

/// Data flowed into the process ([`Data::direction`]).
pub const READ: u8 = 0;
/// Data flowed out of the process ([`Data::direction`]).
pub const WRITE: u8 = 1;

/// [`Data::source`]: a socket system call.
pub const SOURCE_SYSCALL: u8 = 0;
/// [`Data::source`]: OpenSSL's `SSL_read` and `SSL_write` families, and what has its shape (LibreSSL).
pub const SOURCE_OPENSSL: u8 = 1;
/// [`Data::source`]: BoringSSL's `SSL_read` and `SSL_write`.
pub const SOURCE_BORINGSSL: u8 = 2;
/// [`Data::source`]: GnuTLS' `gnutls_record_*` functions.
pub const SOURCE_GNUTLS: u8 = 3;
/// [`Data::source`]: Go's `crypto/tls`.
pub const SOURCE_GO: u8 = 4;
/// [`Data::source`]: rustls, at the AEAD functions below it. A stream is then one direction of a connection.
pub const SOURCE_RUSTLS: u8 = 5;

/// [`Data::source`]: a pipe, on which messages pass one a line. Both of its ends have its address.
pub const SOURCE_PIPE: u8 = 6;
/// [`Data::source`]: a socket of the UNIX family on which messages pass one a line.
pub const SOURCE_LINES: u8 = 7;

/// Common beginning of all records.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Header {
    /// Length of the whole record, header included, in bytes.
    pub len: u32,
    /// A [`Kind`].
    pub kind: u16,
    /// Zero; for later use.
    pub flags: u16,
    /// `bpf_ktime_get_ns` (CLOCK_MONOTONIC), taken before the record is reserved.
    pub time_ns: u64,
    /// Thread group that the event belongs to, in the initial pid namespace; 0 where the kernel runs on behalf of
    /// nobody.
    pub tgid: u32,
    /// Thread.
    pub tid: u32,
    /// `task.start_boottime` of the group leader, ns; 0 when the offset is unknown. With `tgid` it names a process.
    pub start_ns: u64,
}

/// Bytes of a stream, followed by [`Data::captured`] bytes of payload. Without payload, and then on the ring of rare
/// events, it says where the direction is by now: bytes before [`Data::offset`] passed without a program seeing them.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Data {
    /// See [`Header`]. `len` = size of this struct + `captured`.
    pub header: Header,
    /// Stream: address of the kernel's `sock` or `pipe_inode_info`, or of the TLS library's connection object.
    pub id: u64,
    /// Tells apart streams that reuse `id`: the socket's inode number, or the time at which the TLS stream, pipe or UNIX
    /// socket was first seen.
    pub generation: u64,
    /// Position of the first payload byte in its direction of the stream, counted from where the kernel program
    /// first saw the stream.
    pub offset: u64,
    /// Bytes of this direction that were left out on purpose so far (verdict), so that userspace can tell these
    /// from losses when it finds a gap.
    pub skipped: u64,
    /// Bytes that the call (one read or write) transferred; this record may be one of several for it.
    pub total: u32,
    /// Payload bytes that follow.
    pub captured: u32,
    /// How often the stream has changed direction. A verdict names the turn that it was made on.
    pub turn: u32,
    /// [`READ`] or [`WRITE`].
    pub direction: u8,
    /// `SOURCE_*`.
    pub source: u8,
    /// How much longer the fragment of the TLS record is that carried these bytes; 0 where the library does not show its
    /// records.
    pub overhead: u16,
}

/// Addresses of a socket.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Socket {
    /// See [`Header`].
    pub header: Header,
    /// Address of the kernel's `sock`.
    pub id: u64,
    /// Inode number of the socket, as in `/proc/PID/fd` (`socket:[N]`).
    pub generation: u64,
    /// Local address; IPv4 in the first four bytes.
    pub local: [u8; 16],
    /// Remote address; IPv4 in the first four bytes.
    pub remote: [u8; 16],
    /// Local port, host order.
    pub local_port: u16,
    /// Remote port, host order.
    pub remote_port: u16,
    /// `AF_INET` (2) or `AF_INET6` (10).
    pub family: u16,
    /// Zero.
    pub pad: u16,
}

/// A tracked socket changed its TCP state. A pipe has two: from `TCP_CLOSE_WAIT` to `TCP_CLOSE` when the process has read
/// its end, because nobody writes any more, and from `TCP_FIN_WAIT1` when a write failed, because nobody reads.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct SocketState {
    /// See [`Header`]; `tgid` and `tid` are 0: state changes of sockets happen in interrupts.
    pub header: Header,
    /// As in [`Socket`].
    pub id: u64,
    /// As in [`Socket`].
    pub generation: u64,
    /// State before, `TCP_*` of include/net/tcp_states.h.
    pub old: u8,
    /// State after.
    pub new: u8,
    /// 1: `new` is `TCP_CLOSE` and bytes are left that the process may still read. A second record of the kind, without
    /// it, follows when they were read; none does when the process closes without reading them.
    pub unread: u16,
    /// `sk_err`: non-zero when the other end reset the connection.
    pub error: u32,
}

/// Bytes of a UNIX socket's name: `sun_path` of `struct sockaddr_un`.
pub const UNIX_NAME: usize = 108;

/// The two ends of a stream socket of the UNIX family.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct UnixSocket {
    /// See [`Header`].
    pub header: Header,
    /// Address of the kernel's `sock`.
    pub id: u64,
    /// As in [`Data`]: the time at which the socket was first seen.
    pub generation: u64,
    /// Address of the other end's `sock`, 0 if it is not known.
    pub peer: u64,
    /// Length of `name` in bytes, 0 if the process's end has none.
    pub name_len: u16,
    /// Length of `peer_name` in bytes, 0 if the other end has none.
    pub peer_name_len: u16,
    /// Zero.
    pub pad: u32,
    /// Name of the process's end: a path, or a zero byte and an abstract name.
    pub name: [u8; UNIX_NAME],
    /// Name of the other end.
    pub peer_name: [u8; UNIX_NAME],
}

/// A TLS stream was seen to use a socket: a socket call of the same direction, on the same thread, inside the
/// library call.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct TlsBind {
    /// See [`Header`].
    pub header: Header,
    /// The TLS library's connection object.
    pub id: u64,
    /// As in [`Data`].
    pub generation: u64,
    /// The socket's [`Socket::id`].
    pub socket_id: u64,
    /// The socket's [`Socket::generation`].
    pub socket_generation: u64,
}

/// TLS records that one socket call carries at most in [`TlsRecords::lens`].
pub const MAX_TLS_RECORDS: usize = 8;

/// A socket call transferred TLS records, outside any TLS call of its thread, while the process had a TLS stream whose
/// socket was not known. What the lengths say about it is for userspace to find out.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct TlsRecords {
    /// See [`Header`].
    pub header: Header,
    /// As in [`Socket`].
    pub id: u64,
    /// As in [`Socket`].
    pub generation: u64,
    /// Bytes that the call transferred.
    pub total: u32,
    /// [`READ`] or [`WRITE`].
    pub direction: u8,
    /// Records that end in the call, for a read, or begin in it, for a write; up to [`MAX_TLS_RECORDS`]. None if the call
    /// begins inside a record of which nothing is known.
    pub count: u8,
    /// Zero.
    pub pad: u16,
    /// Lengths of their fragments as their headers say (RFC 8446 5.1).
    pub lens: [u16; MAX_TLS_RECORDS],
}

/// A TLS stream whose socket is not known transferred plaintext that is not copied. With it the lengths of a thread's
/// records can be told apart from those of streams that nobody is interested in.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct TlsPlain {
    /// See [`Header`].
    pub header: Header,
    /// The TLS library's connection object.
    pub id: u64,
    /// As in [`Data`].
    pub generation: u64,
    /// Bytes.
    pub total: u32,
    /// [`READ`] or [`WRITE`].
    pub direction: u8,
    /// `SOURCE_*`.
    pub source: u8,
    /// As in [`Data`].
    pub overhead: u16,
}

/// [`TlsHeader::flags`]: where the records before this one end is not known.
pub const AFTER_GAP: u8 = 1;

/// A TLS record passed a socket whose plaintext no probe is known to read: the header's type and length, told when the
/// record's last byte has passed. Only with [`Config::infer`](crate::config::Config::infer).
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct TlsHeader {
    /// See [`Header`].
    pub header: Header,
    /// As in [`Socket`].
    pub id: u64,
    /// As in [`Socket`].
    pub generation: u64,
    /// Bytes of plaintext that the process's TLS libraries have transferred so far, both directions: while it grows,
    /// somebody reads the inside of the process's connections.
    pub plain: u64,
    /// Length of the fragment (RFC 8446 5.1).
    pub len: u16,
    /// Content type.
    pub content: u8,
    /// [`READ`] or [`WRITE`].
    pub direction: u8,
    /// [`AFTER_GAP`] or 0.
    pub flags: u8,
    /// Zero.
    pub pad: [u8; 3],
}

/// Bytes of a hello that are copied at most. One with a post-quantum key share has 1,700 to 1,900, and the server's
/// name can stand behind it.
pub const MAX_HELLO: usize = 2_048;

/// The first handshake message of a direction, followed by its beginning: ClientHello or ServerHello, without the
/// record's header, as far as one call transferred it. Goes before the [`TlsHeader`] of its record.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct TlsHello {
    /// See [`Header`]. `len` = size of this struct + what follows, [`MAX_HELLO`] at most.
    pub header: Header,
    /// As in [`Socket`].
    pub id: u64,
    /// As in [`Socket`].
    pub generation: u64,
    /// [`READ`] or [`WRITE`].
    pub direction: u8,
    /// Zero.
    pub pad: [u8; 7],
}

/// A TLS stream's object was freed.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct TlsClose {
    /// See [`Header`].
    pub header: Header,
    /// The TLS library's connection object.
    pub id: u64,
    /// As in [`Data`].
    pub generation: u64,
}

/// A process began. Threads are not reported.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Fork {
    /// See [`Header`]; the parent.
    pub header: Header,
    /// Thread group of the child.
    pub child_tgid: u32,
    /// Zero.
    pub pad: u32,
    /// `start_boottime` of the child.
    pub child_start_ns: u64,
}

/// A process became another program.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Exec {
    /// See [`Header`].
    pub header: Header,
    /// The new `comm`, NUL-padded.
    pub comm: [u8; 16],
}

/// A process ended: its last thread is exiting.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Exit {
    /// See [`Header`].
    pub header: Header,
    /// Wait status as in `wait(2)`: signal in the low seven bits, exit code in bits 8 to 15.
    pub status: u32,
    /// Zero.
    pub pad: u32,
}

/// The kernel ran out of memory, or a control group into its limit, and chose a process to be killed. Told of every
/// process, traced or not; its end follows.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct OomVictim {
    /// See [`Header`]; the victim, whoever asked for the memory. Before Linux 6.8 its thread's number stands for `tgid` too,
    /// and `start_ns` is 0.
    pub header: Header,
}

/// Value of a counter that the running kernel's BTF does not have.
pub const UNKNOWN: u32 = u32::MAX;

/// A tracked socket sent a segment again: what it had sent was lost, or its acknowledgement was late. At most one record per
/// socket and 10 ms.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Retransmit {
    /// See [`Header`]; `tgid` and `tid` are 0: timers and interrupts retransmit.
    pub header: Header,
    /// As in [`Socket`].
    pub id: u64,
    /// As in [`Socket`].
    pub generation: u64,
    /// Segments that the connection has sent again so far; [`UNKNOWN`] if that cannot be read.
    pub total: u32,
    /// Times that it sent again since its last record of this kind, this time included.
    pub since: u32,
    /// State of the socket, `TCP_*` of include/net/tcp_states.h; 0 if it cannot be read.
    pub state: u8,
    /// Zero.
    pub pad: [u8; 7],
}

/// What has kept a tracked socket from sending, as the kernel adds it up over the connection's life. Told when it has grown:
/// with a change of state, and with a call on the socket at most every 50 ms.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct SendLimits {
    /// See [`Header`]; `tgid` and `tid` are 0.
    pub header: Header,
    /// As in [`Socket`].
    pub id: u64,
    /// As in [`Socket`].
    pub generation: u64,
    /// How long the other end's receive window held back bytes that were ready, ns, in steps of the kernel's tick: its
    /// process does not read.
    pub rwnd_limited_ns: u64,
    /// How long the socket's own send buffer was too small to keep the connection busy, ns, likewise.
    pub sndbuf_limited_ns: u64,
    /// As [`Retransmit::total`].
    pub total_retrans: u32,
    /// Smoothed round trip time, us; 0 before the first measurement, [`UNKNOWN`] if that cannot be read.
    pub srtt_us: u32,
}

/// Bytes of a path that [`FileOpen`] carries at most. Of a longer one the end is told, because the name is there.
pub const MAX_OPEN_PATH: usize = 256;

/// A process opened a file with a name that weights have, followed by its path as the process gave it.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct FileOpen {
    /// See [`Header`]. `len` = size of this struct + the path, without a NUL and [`MAX_OPEN_PATH`] at most.
    pub header: Header,
    /// Size of the file in bytes when it was opened; `u64::MAX` if that cannot be read.
    pub size: u64,
    /// Inode number, 0 if it cannot be read.
    pub inode: u64,
    /// Flags of the call (`O_*` of the x86-64 ABI).
    pub flags: u32,
    /// The descriptor.
    pub fd: u32,
    /// Length of the whole path; more than what follows if its beginning was left out.
    pub path_len: u32,
    /// Zero.
    pub pad: u32,
}

/// A process began to listen for TCP connections.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Listen {
    /// See [`Header`].
    pub header: Header,
    /// Port, host order; 0 if the kernel is still to choose one.
    pub port: u16,
    /// As in [`Socket`].
    pub family: u16,
    /// Zero.
    pub pad: u32,
}

/// The longest record.
pub const MAX_RECORD: usize = size_of::<Data>() + MAX_PAYLOAD;

const _: () = {
    assert!(size_of::<Header>() == 32);
    assert!(size_of::<Data>() == 80);
    assert!(size_of::<Socket>() == 88);
    assert!(size_of::<SocketState>() == 56);
    assert!(size_of::<UnixSocket>() == 280);
    assert!(size_of::<TlsBind>() == 64);
    assert!(size_of::<TlsClose>() == 48);
    assert!(size_of::<TlsRecords>() == 72);
    assert!(size_of::<TlsPlain>() == 56);
    assert!(size_of::<TlsHeader>() == 64);
    assert!(size_of::<TlsHello>() == 56);
    assert!(size_of::<Fork>() == 48);
    assert!(size_of::<Exec>() == 48);
    assert!(size_of::<Exit>() == 40);
    assert!(size_of::<OomVictim>() == 32);
    assert!(size_of::<Retransmit>() == 64);
    assert!(size_of::<SendLimits>() == 72);
    assert!(size_of::<FileOpen>() == 64);
    assert!(size_of::<Listen>() == 40);
    assert!(align_of::<Data>() == 8);
    assert!(MAX_RECORD <= 32 * 1024);
};
