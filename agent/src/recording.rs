//! Recordings: raw records in a file, and back.
//!
//! Owns the file's layout: a line of JSON ([`Preamble`]) and then records as they came, in the order in which the
//! pipeline saw them. A recording holds everything that was captured, credentials included; it is made with mode
//! 0600 and the command that makes it says so first.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufRead, BufWriter, Read, Write},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use inferscope_common::record::MAX_RECORD;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    call::ids::Epoch,
    record,
    time::{Mono, WallAnchor},
};

/// What a recording begins with, so that it is recognised.
const FORMAT: &str = "inferscope-recording";

/// Layout of the records; moves with `inferscope-common`.
///
/// 2: UNIX sockets, records of what passed unseen, closed sockets with bytes left to read. Nothing of layout 1 changed its
/// meaning.
const VERSION: u32 = 2;

/// The oldest layout that can be read.
const OLDEST: u32 = 1;

/// Longest preamble. A file without a line end must not be read whole.
const MAX_PREAMBLE: u64 = 64 << 10;

/// Longest record: a kernel record or what userspace says of a process.
const MAX_LEN: usize = if MAX_RECORD > 64 << 10 { MAX_RECORD } else { 64 << 10 };

/// What the file says before its records.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Preamble {
    format: String,
    version: u32,
    byte_order: String,
    mono: u64,
    unix_nanos: u64,
    epoch: Epoch,
}

const BYTE_ORDER: &str = if cfg!(target_endian = "little") { "little" } else { "big" };

/// Why a file cannot be replayed.
#[derive(Debug, Error)]
pub enum RecordingError {
    /// It cannot be read or written.
    #[error("recording cannot be read or written")]
    Io(#[from] io::Error),
    /// It does not begin as a recording does.
    #[error("not a recording: it does not begin with a line of {FORMAT}")]
    NotARecording,
    /// It was made by another version.
    #[error("the recording has layout {found}; this version reads {OLDEST} to {VERSION}")]
    Version {
        /// The file's layout.
        found: u32,
    },
    /// It was made on a machine of the other byte order.
    #[error("the recording was made on a {0}-endian machine")]
    ByteOrder(String),
}

/// Writes a recording.
pub struct Recorder {
    out: BufWriter<File>,
}

impl Recorder {
    /// Makes the file, readable by its owner only. Refuses one that exists: it may be somebody's recording.
    pub fn create(path: &Path, anchor: WallAnchor, epoch: Epoch) -> io::Result<Self> {
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        let preamble = Preamble {
            format: FORMAT.into(),
            version: VERSION,
            byte_order: BYTE_ORDER.into(),
            mono: anchor.mono.0,
            unix_nanos: anchor.unix_nanos,
            epoch,
        };
        let mut out = BufWriter::with_capacity(1 << 20, file);
        serde_json::to_writer(&mut out, &preamble)?;
        out.write_all(b"\n")?;
        Ok(Self { out })
    }

    /// Adds a record.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)
    }

    /// Everything is in the file's hands.
    pub fn finish(mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Reads a recording.
#[derive(Debug)]
pub struct Playback<R> {
    source: R,
    buffer: Vec<u8>,
    anchor: WallAnchor,
    epoch: Epoch,
}

/// What [`Playback::next_frame`] gives.
pub enum Frame<'a> {
    /// A record's bytes.
    Record(&'a [u8]),
    /// The file ends here.
    End,
    /// The file ends inside a record, or holds something else from here on.
    Damaged,
}

impl<R: BufRead> Playback<R> {
    /// Reads the preamble.
    pub fn open(mut source: R) -> Result<Self, RecordingError> {
        let mut line = Vec::new();
        source.by_ref().take(MAX_PREAMBLE).read_until(b'\n', &mut line)?;
        let preamble: Preamble = serde_json::from_slice(&line).map_err(|_| RecordingError::NotARecording)?;
        if preamble.format != FORMAT {
            return Err(RecordingError::NotARecording);
        }
        if !(OLDEST..=VERSION).contains(&preamble.version) {
            return Err(RecordingError::Version { found: preamble.version });
        }
        if preamble.byte_order != BYTE_ORDER {
            return Err(RecordingError::ByteOrder(preamble.byte_order));
        }
        let anchor = WallAnchor { mono: Mono(preamble.mono), unix_nanos: preamble.unix_nanos };
        Ok(Self { source, buffer: Vec::new(), anchor, epoch: preamble.epoch })
    }

    /// Ties the records' times to wall time.
    pub fn anchor(&self) -> WallAnchor {
        self.anchor
    }

    /// The epoch of the run that was recorded.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The next record.
    pub fn next_frame(&mut self) -> io::Result<Frame<'_>> {
        self.buffer.resize(4, 0);
        match read_full(&mut self.source, &mut self.buffer)? {
            0 => return Ok(Frame::End),
            4 => {}
            _ => return Ok(Frame::Damaged),
        }
        let len = record::claimed_len(&self.buffer).unwrap_or(0);
        if !(4..=MAX_LEN).contains(&len) {
            return Ok(Frame::Damaged);
        }
        self.buffer.resize(len, 0);
        if read_full(&mut self.source, &mut self.buffer[4..])? != len - 4 {
            return Ok(Frame::Damaged);
        }
        Ok(Frame::Record(&self.buffer))
    }
}

/// Fills the buffer as far as there is something; gives how far.
fn read_full(source: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match source.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn recorded(records: &[&[u8]]) -> Vec<u8> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("calls.rec");
        let anchor = WallAnchor { mono: Mono(1), unix_nanos: 2 };
        let mut recorder = Recorder::create(&path, anchor, [3; 16]).unwrap();
        records.iter().for_each(|record| recorder.write(record).unwrap());
        recorder.finish().unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(Recorder::create(&path, anchor, [3; 16]).is_err(), "an existing file is not overwritten");
        std::fs::read(path).unwrap()
    }

    fn frame(content: &[u8]) -> Vec<u8> {
        let mut frame = (content.len() as u32 + 4).to_ne_bytes().to_vec();
        frame.extend_from_slice(content);
        frame
    }

    #[test]
    fn what_was_recorded_comes_back() {
        let (a, b) = (frame(b"first"), frame(b""));
        let file = recorded(&[&a, &b]);
        let mut playback = Playback::open(&file[..]).unwrap();
        assert_eq!((playback.anchor().unix_nanos, playback.epoch()), (2, [3; 16]));
        assert!(matches!(playback.next_frame().unwrap(), Frame::Record(bytes) if bytes == a));
        assert!(matches!(playback.next_frame().unwrap(), Frame::Record(bytes) if bytes == b));
        assert!(matches!(playback.next_frame().unwrap(), Frame::End));
    }

    #[test]
    fn a_file_cut_anywhere_is_damaged_or_shorter_but_never_a_panic() {
        let a = frame(b"first record");
        let file = recorded(&[&a, &a]);
        for len in 0..file.len() {
            let Ok(mut playback) = Playback::open(&file[..len]) else { continue };
            while let Frame::Record(bytes) = playback.next_frame().unwrap() {
                assert_eq!(bytes, a);
            }
        }
    }

    #[test]
    fn other_files_are_refused_with_the_reason() {
        assert!(matches!(Playback::open(&b"GIF89a"[..]), Err(RecordingError::NotARecording)));
        let other = recorded(&[]);
        let of_version = |version: &str| String::from_utf8(other.clone()).unwrap().replace("\"version\":2", version);
        let newer = of_version("\"version\":9");
        assert!(matches!(Playback::open(newer.as_bytes()), Err(RecordingError::Version { found: 9 })));
        assert!(
            Playback::open(of_version("\"version\":1").as_bytes()).is_ok(),
            "the layout before is a part of this one"
        );
    }
}
