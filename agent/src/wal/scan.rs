//! Reading one segment: frame after frame, over what is damaged.
//!
//! Owns how the next frame is found. A frame with a good header and a bad payload is lost alone; behind a bad header the next good
//! one is looked for, whose seq must be one that can stand there. Who may read how far is the caller's business.

use std::{collections::BTreeMap, io, path::Path};

use bytes::Bytes;

use super::{
    files::{Files, ReadFile},
    format::{FRAME_BYTES, FrameHeader, HEADER_BYTES, Head, Kind, MARKER, SegmentHeader, frames_within},
    seal::{MasterKey, SegmentKey},
};

/// Bytes that are read at once.
const CHUNK: usize = 256 << 10;

/// Bytes that are passed over when they cannot be read: a sector of every disk.
const BLOCK: u64 = 4096;

/// One item of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Its seq.
    pub seq: u64,
    /// What its payload is.
    pub kind: Kind,
    /// As it was offered.
    pub payload: Bytes,
    /// CRC-32C of the payload, from before it was written.
    pub crc32c: u32,
}

/// The header of a file, and the file.
pub(crate) struct Opened {
    /// What it is.
    pub head: Head,
    /// Its bytes.
    pub len: u64,
    /// The file.
    pub file: Box<dyn ReadFile>,
}

impl Opened {
    /// Opens a file and looks at its beginning.
    pub(crate) fn at(files: &dyn Files, path: &Path) -> io::Result<Self> {
        let file = files.open(path)?;
        let mut bytes = [0; HEADER_BYTES];
        let n = file.read_at(0, &mut bytes)?;
        let len = file.len()?;
        Ok(Self { head: SegmentHeader::decode(bytes.get(..n).unwrap_or_default()), len, file })
    }
}

/// The key of a segment, as far as it is needed and there.
#[derive(Clone, Debug)]
pub(crate) enum Cipher {
    /// The segment is plain.
    Plain,
    /// It is encrypted, and this opens it.
    Key(SegmentKey),
    /// It is encrypted, and the key is missing or another.
    Locked,
}

impl Cipher {
    /// What opens the segment with this header.
    pub(crate) fn of(header: &SegmentHeader, key: Option<&MasterKey>) -> Self {
        match (header.key_check, key) {
            (None, _) => Self::Plain,
            (Some(check), Some(key)) if key.check(&header.salt) == check => {
                key.segment(&header.salt).map_or(Self::Locked, Self::Key)
            }
            (Some(_), _) => Self::Locked,
        }
    }
}

/// What comes next in a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// A frame, whose payload is asked for by [`Frames::payload`].
    Frame(FrameHeader),
    /// A frame that the file's end cuts off. Nothing follows.
    Cut(FrameHeader),
    /// The end. `rest` bytes before it are none of a frame.
    End {
        /// Bytes.
        rest: u64,
    },
}

/// Why a frame has no item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lost {
    /// It is damaged.
    Damaged,
    /// It is encrypted with another key, or of a kind that this code does not know.
    Unreadable,
}

/// The frames of a segment.
#[derive(Debug)]
pub(crate) struct Frames {
    window: Window,
    seed: u32,
    cipher: Cipher,
    /// Where the next frame should begin.
    at: u64,
    /// The seq of the last frame.
    last: u64,
    /// Where the payload of the last frame begins.
    payload_at: u64,
    /// Behind the last good frame.
    good_end: u64,
}

impl Frames {
    /// The frames of a file in its first `limit` bytes.
    pub(crate) fn new(file: Box<dyn ReadFile>, header: &SegmentHeader, cipher: Cipher, limit: u64) -> Self {
        let at = HEADER_BYTES as u64;
        Self {
            window: Window { file, limit, buf: Vec::new(), start: 0, failed: BTreeMap::new() },
            seed: header.seed(),
            cipher,
            at,
            last: header.first_seq - 1,
            payload_at: at,
            good_end: at,
        }
    }

    /// Lets the first `limit` bytes be read; they only grow.
    pub(crate) fn extend(&mut self, limit: u64) {
        self.window.limit = self.window.limit.max(limit);
    }

    /// The seq of the last frame that [`Frames::step`] gave; the segment's first less one before that.
    pub(crate) fn last(&self) -> u64 {
        self.last
    }

    /// Where the last whole frame ends.
    pub(crate) fn good_end(&self) -> u64 {
        self.good_end
    }

    /// The next frame. Errors are those of the file system; the same place is tried again, and given up as damaged when
    /// it fails again and again.
    pub(crate) fn step(&mut self) -> io::Result<Step> {
        loop {
            let rest = self.window.limit.saturating_sub(self.good_end);
            if self.window.limit < self.at + FRAME_BYTES as u64 {
                return Ok(Step::End { rest });
            }
            let bytes = self.window.bytes(self.at, FRAME_BYTES)?;
            match FrameHeader::decode(bytes, self.seed).filter(|header| self.fits(header, self.at)) {
                Some(header) => return Ok(self.take(header)),
                None => match self.search()? {
                    Some(at) => self.at = at,
                    None => return Ok(Step::End { rest }),
                },
            }
        }
    }

    /// Whether a frame with this seq can stand at `at`.
    fn fits(&self, header: &FrameHeader, at: u64) -> bool {
        let skipped = frames_within(at - self.good_end);
        (1..=skipped + 1).contains(&header.seq.wrapping_sub(self.last))
    }

    fn take(&mut self, header: FrameHeader) -> Step {
        self.payload_at = self.at + FRAME_BYTES as u64;
        self.at += header.frame_len();
        self.last = header.seq;
        if self.at > self.window.limit {
            return Step::Cut(header);
        }
        self.good_end = self.at;
        Step::Frame(header)
    }

    /// Where behind `self.at` a frame begins that can stand there.
    fn search(&mut self) -> io::Result<Option<u64>> {
        let mut from = self.at + 1;
        while from + FRAME_BYTES as u64 <= self.window.limit {
            let len = usize::try_from(self.window.limit - from).unwrap_or(CHUNK).min(CHUNK);
            let bytes = self.window.bytes(from, len)?;
            let found = memchr::memmem::find_iter(bytes, &MARKER)
                .filter_map(|offset| Some((offset, FrameHeader::decode(bytes.get(offset..)?, self.seed)?)))
                .find(|(offset, header)| {
                    let skipped = frames_within(from + *offset as u64 - self.good_end);
                    (1..=skipped + 1).contains(&header.seq.wrapping_sub(self.last))
                });
            if let Some((offset, _)) = found {
                return Ok(Some(from + offset as u64));
            }
            // The last bytes may be the beginning of a header.
            from += (len - (FRAME_BYTES - 1)) as u64;
        }
        Ok(None)
    }

    /// The item of the frame that [`Frames::step`] gave last.
    pub(crate) fn payload(&mut self, header: &FrameHeader) -> io::Result<Result<Item, Lost>> {
        let stored = self.window.bytes(self.payload_at, header.stored as usize)?;
        if crc32c::crc32c(stored) != header.crc {
            return Ok(Err(Lost::Damaged));
        }
        let Some(kind) = Kind::from_number(header.kind) else { return Ok(Err(Lost::Unreadable)) };
        let (payload, crc32c) = match &self.cipher {
            Cipher::Plain => (Bytes::copy_from_slice(stored), header.crc),
            Cipher::Locked => return Ok(Err(Lost::Unreadable)),
            Cipher::Key(key) => match key.open(header, stored.to_vec()) {
                Some((payload, crc32c)) => (Bytes::from(payload), crc32c),
                None => return Ok(Err(Lost::Damaged)),
            },
        };
        Ok(Ok(Item { seq: header.seq, kind, payload, crc32c }))
    }
}

/// A part of the file in memory.
#[derive(Debug)]
struct Window {
    file: Box<dyn ReadFile>,
    /// Nothing behind it is looked at.
    limit: u64,
    buf: Vec<u8>,
    /// Where `buf` begins in the file.
    start: u64,
    /// Blocks that could not be read, and how often each was tried: no more than the segment has.
    failed: BTreeMap<u64, u32>,
}

/// Whether the disk cannot give what is asked for (EIO).
pub(crate) fn is_bad_disk(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error())
}

/// How often a block is tried before it is taken for damaged: a transient error is over by then, a bad sector is not.
pub(crate) const TRIES: u32 = 3;

impl Window {
    /// `len` bytes from `at` on, which must be within the limit. What the file lacks of them is zero.
    fn bytes(&mut self, at: u64, len: usize) -> io::Result<&[u8]> {
        let have = self.start..self.start + self.buf.len() as u64;
        if !(have.contains(&at) && at + len as u64 <= have.end) {
            let ahead = usize::try_from(self.limit.saturating_sub(at)).unwrap_or(CHUNK).min(CHUNK);
            self.fill(at, len.max(ahead))?;
        }
        let from = usize::try_from(at - self.start).unwrap_or(usize::MAX);
        self.buf.get(from..from.saturating_add(len)).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    fn fill(&mut self, at: u64, len: usize) -> io::Result<()> {
        self.buf.clear();
        self.buf.resize(len, 0);
        self.start = at;
        let Err(error) = self.file.read_at(at, &mut self.buf) else { return Ok(()) };
        let salvaged = self.fill_by_blocks(at, error);
        if salvaged.is_err() {
            self.buf.clear();
        }
        salvaged
    }

    /// Reads what one bad sector left of a chunk. A block that fails [`TRIES`] times reads as zeros, which are no frame.
    fn fill_by_blocks(&mut self, at: u64, error: io::Error) -> io::Result<()> {
        let mut error = Some(error);
        let end = at + self.buf.len() as u64;
        let mut from = at;
        while from < end {
            let to = ((from / BLOCK + 1) * BLOCK).min(end);
            let (first, last) = ((from - at) as usize, (to - at) as usize);
            let Some(part) = self.buf.get_mut(first..last) else { break };
            if let Err(again) = self.file.read_at(from, part) {
                part.fill(0);
                // Anything else may be over the next time, however often it was not.
                if !is_bad_disk(&again) {
                    return Err(error.take().unwrap_or(again));
                }
                let tries = self.failed.entry(from / BLOCK).or_default();
                *tries += 1;
                if *tries < TRIES {
                    return Err(error.take().unwrap_or(again));
                }
            }
            from = to;
        }
        Ok(())
    }
}
