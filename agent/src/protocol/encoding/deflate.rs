//! `deflate`: zlib (RFC 1950), or deflate data without a wrapper (RFC 1951), which some servers send instead.

use flate2::{Decompress, FlushDecompress, Status};

use super::{
    format::{Fault, Format, Step},
    reason,
};

/// Decoder of one body.
pub(super) struct Deflate {
    inflate: Decompress,
    over: bool,
}

impl Deflate {
    /// A decoder for a body that begins with `start`, of which two bytes tell the form.
    pub(super) fn new(start: &[u8]) -> Self {
        Self { inflate: Decompress::new(is_zlib(start)), over: false }
    }
}

impl Format for Deflate {
    fn step(&mut self, input: &[u8], output: &mut [u8]) -> Step {
        if self.over {
            return Step { fault: Some(Fault::Trailing), ..Step::default() };
        }
        let (step, over) = inflate(&mut self.inflate, input, output);
        self.over = over;
        step
    }

    fn is_whole(&self) -> bool {
        self.over
    }
}

/// One step of deflate data, and whether it has ended.
pub(in crate::protocol) fn inflate(inflate: &mut Decompress, input: &[u8], output: &mut [u8]) -> (Step, bool) {
    let before = (inflate.total_in(), inflate.total_out());
    let status = inflate.decompress(input, output, FlushDecompress::None);
    // In the counters, because what came before a fault is told nowhere else.
    let n = |now: u64, before: u64| usize::try_from(now.saturating_sub(before)).unwrap_or_default();
    let fault = status.is_err().then_some(Fault::Broken(reason::CORRUPT));
    let step = Step { consumed: n(inflate.total_in(), before.0), written: n(inflate.total_out(), before.1), fault };
    (step, matches!(status, Ok(Status::StreamEnd)))
}

/// RFC 1950 section 2.2: method 8, a window of at most 32 KiB, and a check on both bytes.
fn is_zlib(start: &[u8]) -> bool {
    match *start {
        [cmf, flg, ..] => cmf & 0x0f == 8 && cmf >> 4 <= 7 && (u16::from(cmf) << 8 | u16::from(flg)) % 31 == 0,
        _ => false,
    }
}
