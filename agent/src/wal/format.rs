//! The log's format on disk, version 1: bytes in, facts out. Pure.
//!
//! All numbers are little endian. All checksums are CRC-32C (Castagnoli).
//!
//! ```text
//! DIR/lock                     held by flock as long as the log is open
//! DIR/identity                 a note: epoch of the log, its seq is 0
//! DIR/evicted                  a note: the seq up to which items went for want of room
//! DIR/cursors/NAME             a note: the seq up to which destination NAME has everything
//! DIR/segments/{first_seq:020}.seg
//! DIR/quarantine/              what nothing can be made of, or what this key does not open; never deleted
//!
//! note     magic "INFNOTE\n" | version u16 | length u16 = 40 | epoch [16] | seq u64 | CRC of all that u32
//!
//! segment  header | the same header again | frame | frame | ... until the end of the file
//! header   magic "INFWAL\r\n" | version u16 | length u16 = 100 | flags u32 (1: encrypted) | epoch [16] | first seq u64
//!          | salt [32] | key check [16] | created u64 (ns since the Unix epoch) | CRC of all that u32
//! frame    marker u32 | stored length u32 | seq u64 | kind u16 | flags u16 = 0 | CRC of what is stored u32
//!          | CRC of the segment's salt and all that u32 | what is stored
//! stored   plain: the payload
//!          encrypted: AES-256-GCM of (CRC of the payload u32 | payload), the frame's header as associated data, and the tag
//! ```
//!
//! The header is there twice, so that no single damage costs a segment. The frame header's checksum begins with the segment's
//! salt: what a payload holds, or what an old block of the disk held, can never be taken for a frame. Seqs of frames follow
//! each other within a segment. Where the seqs of two segments overlap, the one with the higher first seq holds: the other was
//! given up after a failed write.
//!
//! Magic, version and length stay where they are in every version. To change anything else: a new [`VERSION`], a golden file
//! beside the old one, and a reader for both.

/// The version of the format that this code writes.
pub const VERSION: u16 = 1;

/// Bytes of an epoch.
pub const EPOCH_BYTES: usize = 16;

/// Bytes of a segment's salt.
pub const SALT_BYTES: usize = 32;

/// Bytes that tell whether a key is the segment's.
pub const KEY_CHECK_BYTES: usize = 16;

/// Bytes of one copy of a segment's header.
pub const HEADER_COPY: usize = 100;

/// Bytes before the first frame.
pub const HEADER_BYTES: usize = 2 * HEADER_COPY;

/// Bytes of a frame's header.
pub const FRAME_BYTES: usize = 28;

/// Bytes of a note: identity, cursor, evicted.
pub const NOTE_BYTES: usize = 40;

/// Largest length that a frame may name: nothing larger is ever allocated for one.
pub const MAX_STORED: u32 = 32 << 20;

/// Largest seq that a file's name may claim: 2^62 items are never written, such a name is foreign.
pub const MAX_SEQ: u64 = 1 << 62;

/// Begins a frame.
pub const MARKER: [u8; 4] = [0xf1, b'W', b'a', b'L'];

const SEGMENT_MAGIC: [u8; 8] = *b"INFWAL\r\n";
const NOTE_MAGIC: [u8; 8] = *b"INFNOTE\n";
const ENCRYPTED: u32 = 1;

/// The life of a log: 16 random bytes, drawn when it is made.
pub type Epoch = [u8; EPOCH_BYTES];

/// What an item's payload is. Numbers as `ItemKind` of `ship.proto`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum Kind {
    /// An OTLP `Span`.
    Span = 1,
    /// An OTLP `ScopeMetrics`.
    Metrics = 2,
    /// An OTLP `LogRecord`.
    Log = 3,
    /// A `Ledger` of `ship.proto`.
    Ledger = 4,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 4] = [Self::Span, Self::Metrics, Self::Log, Self::Ledger];

    /// The kind with this number.
    pub fn from_number(number: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u16 == number)
    }

    /// Its name in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Span => "span",
            Self::Metrics => "metrics",
            Self::Log => "log",
            Self::Ledger => "ledger",
        }
    }
}

/// A segment's header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// The log's life.
    pub epoch: Epoch,
    /// The seq of the first frame.
    pub first_seq: u64,
    /// Random bytes, other ones in each segment.
    pub salt: [u8; SALT_BYTES],
    /// What the right key gives with this salt; `None` in a plain segment.
    pub key_check: Option<[u8; KEY_CHECK_BYTES]>,
    /// When it was made, nanoseconds since the Unix epoch by the wall clock.
    pub created_unix_nano: u64,
}

/// What the first bytes of a file are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Head {
    /// A segment of this version.
    Segment(SegmentHeader),
    /// A segment of a version that this code does not know.
    Newer(u16),
    /// Too short for a header, as a file is whose making was cut off: it cannot hold a frame.
    Cut,
    /// None of the log's, or damaged beyond knowing.
    Foreign,
}

impl SegmentHeader {
    /// Both copies.
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        let copy = self.encode_copy();
        bytes[..HEADER_COPY].copy_from_slice(&copy);
        bytes[HEADER_COPY..].copy_from_slice(&copy);
        bytes
    }

    fn encode_copy(&self) -> [u8; HEADER_COPY] {
        let Self { epoch, first_seq, salt, key_check, created_unix_nano } = self;
        let mut out = Writer::default();
        out.put(&SEGMENT_MAGIC);
        out.put(&VERSION.to_le_bytes());
        out.put(&(HEADER_COPY as u16).to_le_bytes());
        out.put(&if key_check.is_some() { ENCRYPTED } else { 0 }.to_le_bytes());
        out.put(epoch);
        out.put(&first_seq.to_le_bytes());
        out.put(salt);
        out.put(&key_check.unwrap_or_default());
        out.put(&created_unix_nano.to_le_bytes());
        out.sealed()
    }

    /// What the file is that begins with `bytes`: its first [`HEADER_BYTES`], or all it has.
    pub fn decode(bytes: &[u8]) -> Head {
        let copies = [bytes.get(..HEADER_COPY), bytes.get(HEADER_COPY..HEADER_BYTES)];
        if let Some(header) = copies.into_iter().flatten().find_map(Self::decode_copy) {
            return Head::Segment(header);
        }
        let magic = bytes.get(..8) == Some(&SEGMENT_MAGIC);
        match bytes.get(8..10).map(|version| u16::from_le_bytes([version[0], version[1]])) {
            Some(version) if magic && version > VERSION => Head::Newer(version),
            _ if bytes.len() < HEADER_BYTES => Head::Cut,
            _ => Head::Foreign,
        }
    }

    fn decode_copy(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields::checked(bytes)?;
        let known = fields.take::<8>()? == SEGMENT_MAGIC
            && fields.u16()? == VERSION
            && usize::from(fields.u16()?) == HEADER_COPY;
        let flags = fields.u32()?;
        if !known || flags & !ENCRYPTED != 0 {
            return None;
        }
        let (epoch, first_seq, salt) = (fields.take()?, fields.u64()?, fields.take()?);
        let check = fields.take()?;
        let key_check = (flags & ENCRYPTED != 0).then_some(check);
        let created_unix_nano = fields.u64()?;
        (1..MAX_SEQ).contains(&first_seq).then_some(Self { epoch, first_seq, salt, key_check, created_unix_nano })
    }

    /// What the checksums of this segment's frame headers begin with.
    pub fn seed(&self) -> u32 {
        crc32c::crc32c(&self.salt)
    }
}

/// A frame's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// Bytes that are stored behind the header.
    pub stored: u32,
    /// The item's seq.
    pub seq: u64,
    /// A [`Kind`]'s number; others belong to agents to come.
    pub kind: u16,
    /// CRC of what is stored.
    pub crc: u32,
}

impl FrameHeader {
    /// The header, and the checksum that belongs to a segment with this seed.
    pub fn encode(&self, seed: u32) -> [u8; FRAME_BYTES] {
        let fields = self.fields();
        let mut bytes = [0; FRAME_BYTES];
        bytes[..FRAME_BYTES - 4].copy_from_slice(&fields);
        bytes[FRAME_BYTES - 4..].copy_from_slice(&crc32c::crc32c_append(seed, &fields).to_le_bytes());
        bytes
    }

    /// What an encrypted payload is bound to: where it stands and what it is. The checksum of what is stored is no part of it,
    /// for it is known only when the payload is encrypted.
    pub fn associated(&self) -> [u8; FRAME_BYTES - 4] {
        Self { crc: 0, ..*self }.fields()
    }

    fn fields(&self) -> [u8; FRAME_BYTES - 4] {
        let Self { stored, seq, kind, crc } = self;
        let mut out = Writer::default();
        out.put(&MARKER);
        out.put(&stored.to_le_bytes());
        out.put(&seq.to_le_bytes());
        out.put(&kind.to_le_bytes());
        out.put(&0u16.to_le_bytes());
        out.put(&crc.to_le_bytes());
        out.plain()
    }

    /// The header at the beginning of `bytes`; `None` for anything else.
    pub fn decode(bytes: &[u8], seed: u32) -> Option<Self> {
        let (fields, crc) = bytes.get(..FRAME_BYTES)?.split_at(FRAME_BYTES - 4);
        if !fields.starts_with(&MARKER) || crc32c::crc32c_append(seed, fields).to_le_bytes() != crc {
            return None;
        }
        let mut fields = Fields(&fields[4..]);
        let (stored, seq, kind) = (fields.u32()?, fields.u64()?, fields.u16()?);
        let (flags, crc) = (fields.u16()?, fields.u32()?);
        (flags == 0 && stored <= MAX_STORED).then_some(Self { stored, seq, kind, crc })
    }

    /// Bytes of the frame.
    pub fn frame_len(&self) -> u64 {
        FRAME_BYTES as u64 + u64::from(self.stored)
    }
}

/// A seq of an epoch, in a file of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Note {
    /// The log's life.
    pub epoch: Epoch,
    /// Which seq, depends on the file.
    pub seq: u64,
}

/// Why a note says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoteFault {
    /// It is damaged, or none at all.
    Damaged,
    /// It is of a version that this code does not know.
    Newer(u16),
}

impl Note {
    /// The file's bytes.
    pub fn encode(&self) -> [u8; NOTE_BYTES] {
        let Self { epoch, seq } = self;
        let mut out = Writer::default();
        out.put(&NOTE_MAGIC);
        out.put(&VERSION.to_le_bytes());
        out.put(&(NOTE_BYTES as u16).to_le_bytes());
        out.put(epoch);
        out.put(&seq.to_le_bytes());
        out.sealed()
    }

    /// What the file says.
    pub fn decode(bytes: &[u8]) -> Result<Self, NoteFault> {
        Self::decode_exact(bytes).ok_or_else(|| match (bytes.get(..8), bytes.get(8..10)) {
            (Some(magic), Some(&[low, high])) if magic == NOTE_MAGIC && u16::from_le_bytes([low, high]) > VERSION => {
                NoteFault::Newer(u16::from_le_bytes([low, high]))
            }
            _ => NoteFault::Damaged,
        })
    }

    fn decode_exact(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields::checked(bytes.get(..NOTE_BYTES).filter(|all| all.len() == bytes.len())?)?;
        let known = fields.take::<8>()? == NOTE_MAGIC && fields.u16()? == VERSION;
        let length = usize::from(fields.u16()?);
        let note = Self { epoch: fields.take()?, seq: fields.u64()? };
        (known && length == NOTE_BYTES && note.seq < MAX_SEQ).then_some(note)
    }
}

/// The name of the segment that begins with `first_seq`.
pub fn segment_name(first_seq: u64) -> String {
    format!("{first_seq:020}.seg")
}

/// The first seq that a file's name tells; `extension` is what follows it.
pub fn first_seq_of(name: &str, extension: &str) -> Option<u64> {
    let digits = name.strip_suffix(extension)?;
    let all_digits = digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|seq| all_digits && (1..MAX_SEQ).contains(seq))
}

/// How many frames `bytes` can have held at most.
pub fn frames_within(bytes: u64) -> u64 {
    bytes.div_ceil(FRAME_BYTES as u64)
}

/// Puts fields one behind the other.
struct Writer {
    bytes: [u8; HEADER_COPY],
    len: usize,
}

impl Default for Writer {
    fn default() -> Self {
        Self { bytes: [0; HEADER_COPY], len: 0 }
    }
}

impl Writer {
    fn put(&mut self, field: &[u8]) {
        self.bytes[self.len..self.len + field.len()].copy_from_slice(field);
        self.len += field.len();
    }

    /// All fields, which are `N` bytes.
    fn plain<const N: usize>(self) -> [u8; N] {
        debug_assert_eq!(self.len, N);
        std::array::from_fn(|at| self.bytes[at])
    }

    /// All fields and their checksum.
    fn sealed<const N: usize>(mut self) -> [u8; N] {
        let crc = crc32c::crc32c(&self.bytes[..self.len]);
        self.put(&crc.to_le_bytes());
        self.plain()
    }
}

/// Takes fields one after the other.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    /// The fields of something that ends with its checksum, if that is right.
    fn checked(bytes: &'a [u8]) -> Option<Self> {
        let (fields, crc) = bytes.split_at_checked(bytes.len().checked_sub(4)?)?;
        (crc32c::crc32c(fields).to_le_bytes() == crc).then_some(Self(fields))
    }

    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*field)
    }

    fn u16(&mut self) -> Option<u16> {
        self.take().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }
}

#[cfg(test)]
#[path = "format_tests.rs"]
mod tests;
