//! The AWS event stream (`application/vnd.amazon.eventstream`): messages with headers and two checksums.
//!
//! Owns where messages begin and end and that they are whole: nothing of a message comes out before its checksum has
//! been seen to be right. Leaves to others what a payload means. Format: "Event stream encoding" of the Amazon
//! Transcribe and Smithy documentation; limits as in botocore's `eventstream.py`.
//!
//! A message is u32 total length, u32 length of the headers, u32 CRC32 of these eight bytes, headers, payload, u32
//! CRC32 of all before, big-endian. After damage or a gap the next message is found by its first checksum.
//!
//! To take one more header: its name and field in `headers.rs`.

mod headers;
pub mod reason;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use flate2::Crc;
use headers::Headers;

/// Largest header section that the format allows.
const MAX_HEADERS: u32 = 128 * 1024;

/// Largest payload that the format allows.
const MAX_PAYLOAD: u32 = 24 * 1024 * 1024;

/// Bytes before the headers.
const PRELUDE: usize = 12;

/// Bytes behind the payload.
const TRAILER: usize = 4;

/// How much of the buffer is kept for the next message: a thousand streams must not each hold on to the size of their
/// largest one.
const KEEP: usize = 16 * 1024;

/// What a stream is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item<'a> {
    /// A whole message.
    Message(Message<'a>),
    /// A message of so many bytes was larger than the limit and has been passed over.
    Oversize(u64),
    /// Bytes could not be understood; one of [`reason`].
    Malformed(&'static str),
    /// The stream ended inside a message.
    Unfinished,
}

/// One message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// What it is.
    pub kind: Kind,
    /// `:event-type`, `:exception-type` or `:error-code`.
    pub name: Option<&'a str>,
    /// The payload.
    pub payload: &'a [u8],
}

/// `:message-type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `event`, or none.
    Event,
    /// `exception`, which the service's model names, or `error`, which it does not.
    Exception,
}

/// Parser of one stream.
pub struct Parser {
    max_message: usize,
    state: State,
    prelude: [u8; PRELUDE],
    /// What has come of a message behind its prelude, if it did not come whole.
    held: Vec<u8>,
}

#[derive(Clone, Copy)]
enum State {
    /// So many bytes of a prelude are there.
    Prelude(usize),
    /// In a message with so many bytes behind the prelude, of which so many are headers.
    Message { body: usize, headers: usize },
    /// Passing over a message with so many bytes to come, of so many.
    Skip { left: usize, total: u64 },
    /// Looking for a prelude behind damage; so many bytes of one may be there.
    Seek(usize),
}

impl Parser {
    /// A parser that holds at most `max_message` bytes of a message.
    pub fn new(max_message: usize) -> Self {
        Self { max_message, state: State::Prelude(0), prelude: [0; PRELUDE], held: Vec::new() }
    }

    /// Takes the next bytes of the stream.
    pub fn push(&mut self, bytes: &[u8], sink: &mut dyn FnMut(Item<'_>)) {
        let mut rest = bytes;
        while !rest.is_empty() {
            rest = match self.state {
                State::Prelude(have) | State::Seek(have) => self.prelude(have, rest, sink),
                State::Message { body, headers } => self.message(body, headers, rest, sink),
                State::Skip { left, total } => {
                    let n = left.min(rest.len());
                    self.state = State::Skip { left: left - n, total };
                    if n == left {
                        self.state = State::Prelude(0);
                        sink(Item::Oversize(total));
                    }
                    rest.get(n..).unwrap_or_default()
                }
            };
        }
    }

    /// Bytes are missing here: the message that they are in is lost, and where the next one begins is looked for.
    pub fn gap(&mut self) {
        self.held.clear();
        self.held.shrink_to(KEEP);
        self.state = State::Seek(0);
    }

    /// The stream is over.
    pub fn finish(&mut self, sink: &mut dyn FnMut(Item<'_>)) {
        if !matches!(self.state, State::Prelude(0) | State::Seek(_)) {
            sink(Item::Unfinished);
        }
        self.gap();
        self.state = State::Prelude(0);
    }

    /// Takes one byte of a prelude.
    fn prelude<'a>(&mut self, have: usize, rest: &'a [u8], sink: &mut dyn FnMut(Item<'_>)) -> &'a [u8] {
        let Some((&byte, rest)) = rest.split_first() else { return rest };
        let seeking = matches!(self.state, State::Seek(_));
        if have == PRELUDE {
            self.prelude.rotate_left(1);
        }
        let at = have.min(PRELUDE - 1);
        if let Some(slot) = self.prelude.get_mut(at) {
            *slot = byte;
        }
        let have = at + 1;
        let found = if have < PRELUDE { None } else { Some(lengths(&self.prelude)) };
        self.state = match found {
            None | Some(Err(_)) if seeking => State::Seek(have),
            None => State::Prelude(have),
            Some(Ok((body, headers))) if PRELUDE + body <= self.max_message => State::Message { body, headers },
            Some(Ok((body, _))) => State::Skip { left: body, total: (PRELUDE + body) as u64 },
            Some(Err(reason)) => {
                sink(Item::Malformed(reason));
                State::Seek(have)
            }
        };
        rest
    }

    /// Takes bytes of a message, which is not copied if it is whole in `rest`.
    fn message<'a>(&mut self, body: usize, headers: usize, rest: &'a [u8], sink: &mut dyn FnMut(Item<'_>)) -> &'a [u8] {
        let missing = body.saturating_sub(self.held.len());
        let (now, rest) = rest.split_at(missing.min(rest.len()));
        if self.held.is_empty() && now.len() == body {
            sink(read(&self.prelude, now, headers));
        } else {
            self.held.extend_from_slice(now);
            if self.held.len() < body {
                return rest;
            }
            sink(read(&self.prelude, &self.held, headers));
            self.held.clear();
            self.held.shrink_to(KEEP);
        }
        self.state = State::Prelude(0);
        rest
    }
}

/// What a prelude says of the bytes behind it: how many they are, and how many of them are headers.
fn lengths(prelude: &[u8; PRELUDE]) -> Result<(usize, usize), &'static str> {
    let [t0, t1, t2, t3, h0, h1, h2, h3, c0, c1, c2, c3] = *prelude;
    let total = u32::from_be_bytes([t0, t1, t2, t3]);
    let headers = u32::from_be_bytes([h0, h1, h2, h3]);
    let around = (PRELUDE + TRAILER) as u32;
    let payload = total.checked_sub(around).and_then(|rest| rest.checked_sub(headers)).ok_or(reason::LENGTHS)?;
    if headers > MAX_HEADERS || payload > MAX_PAYLOAD {
        return Err(reason::LENGTHS);
    }
    // After the lengths, which are quicker to look at, because every byte behind damage is tried.
    if crc(&[&[t0, t1, t2, t3, h0, h1, h2, h3]]) != u32::from_be_bytes([c0, c1, c2, c3]) {
        return Err(reason::PRELUDE_CHECKSUM);
    }
    Ok((total as usize - PRELUDE, headers as usize))
}

/// Reads a whole message; `body` is what stands behind its prelude.
fn read<'a>(prelude: &[u8; PRELUDE], body: &'a [u8], headers: usize) -> Item<'a> {
    let Some((content, trailer)) = body.split_last_chunk::<TRAILER>() else {
        return Item::Malformed(reason::LENGTHS);
    };
    if crc(&[prelude, content]) != u32::from_be_bytes(*trailer) {
        return Item::Malformed(reason::CHECKSUM);
    }
    let Some((headers, payload)) = content.split_at_checked(headers) else {
        return Item::Malformed(reason::LENGTHS);
    };
    match Headers::read(headers) {
        Some(headers) => Item::Message(headers.message(payload)),
        None => Item::Malformed(reason::HEADERS),
    }
}

fn crc(parts: &[&[u8]]) -> u32 {
    let mut crc = Crc::new();
    parts.iter().for_each(|part| crc.update(part));
    crc.sum()
}
