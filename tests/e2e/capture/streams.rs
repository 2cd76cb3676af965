//! What a recording holds of some processes: the bytes of each direction of each stream, put together as the pipeline
//! does it.

use std::{collections::BTreeMap, fs::File, io::BufReader, path::Path};

use anyhow::{Context as _, Result, bail};
use inferscope::{
    record::{self, Direction, Record},
    recording::{Frame, Playback},
    stream::Lane,
};

/// One direction of a stream.
#[derive(Clone, Debug, Default)]
pub struct Captured {
    lane: Lane,
    /// Everything since the last gap.
    pub bytes: Vec<u8>,
    /// Bytes that were left out or lost after the first that was captured.
    pub missing: u64,
    /// Bytes that came more than once.
    pub repeated: u64,
}

/// A stream of one process.
#[derive(Clone, Debug, Default)]
pub struct Stream {
    /// `inferscope.capture.source`.
    pub source: &'static str,
    /// It has one direction only: the library has an object for each.
    pub half: bool,
    /// What the process read.
    pub read: Captured,
    /// What it wrote.
    pub written: Captured,
}

/// The streams of processes that `wanted` accepts, in the order of their first bytes.
pub fn of_recording(file: &Path, wanted: impl Fn(u32) -> bool) -> Result<Vec<Stream>> {
    let file = File::open(file).context("there is no recording")?;
    let mut playback = Playback::open(BufReader::new(file))?;
    let mut places = BTreeMap::new();
    let mut streams: Vec<Stream> = Vec::new();
    loop {
        let bytes = match playback.next_frame()? {
            Frame::Record(bytes) => bytes,
            Frame::End => return Ok(streams),
            Frame::Damaged => bail!("the recording is damaged"),
        };
        let Record::Data(origin, data) = record::parse(bytes)? else { continue };
        if !wanted(origin.tgid) {
            continue;
        }
        let key = (origin.tgid, data.source.is_tls(), data.stream);
        let place = *places.entry(key).or_insert_with(|| {
            streams.push(Stream { source: data.source.as_str(), half: data.source.is_half(), ..Stream::default() });
            streams.len() - 1
        });
        let stream = &mut streams[place];
        let captured = if data.direction == Direction::Read { &mut stream.read } else { &mut stream.written };
        captured.take(data.offset, data.skipped, data.payload);
    }
}

impl Captured {
    fn take(&mut self, offset: u64, skipped: u64, payload: &[u8]) {
        let piece = self.lane.accept(offset, skipped, payload);
        if piece.skipped + piece.lost > 0 {
            self.missing += piece.skipped + piece.lost;
            self.bytes.clear();
        }
        self.repeated += piece.repeated;
        self.bytes.extend_from_slice(piece.bytes);
    }
}
