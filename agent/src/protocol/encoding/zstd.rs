//! `zstd` (RFC 8878): frames one after the other, with windows of at most 8 MiB (RFC 9659).
//!
//! By libzstd, which is C. The decoder in Rust, `ruzstd`, keeps a whole window back until a frame ends, and a flushed
//! event of an event stream would not come out before that. Formats older than 1.0 are left out of the build.

use zstd_safe::{DCtx, DParameter, InBuffer, OutBuffer, is_error_kind, zstd_sys::ZSTD_ErrorCode as Code};

use super::{
    format::{Fault, Format, Step},
    reason,
};

/// Largest window as a power of two: 8 MiB (RFC 9659 section 3).
const WINDOW_LOG: u32 = 23;

/// Size of the header that comes before each block (RFC 8878 section 3.1.1.2).
const BLOCK_HEADER: usize = 3;

/// Decoder of one body.
pub(super) struct Zstd {
    /// Absent when there was no memory for it.
    context: Option<DCtx<'static>>,
    /// How many bytes the library would take at a time.
    hint: usize,
    /// Whether a frame has ended.
    any: bool,
    /// Whether no frame is open.
    whole: bool,
}

impl Zstd {
    pub(super) fn new() -> Self {
        let context = DCtx::try_create()
            .and_then(|mut context| context.set_parameter(DParameter::WindowLogMax(WINDOW_LOG)).ok().map(|_| context));
        Self { context, hint: 0, any: false, whole: false }
    }

    fn fault(&self, code: usize) -> Fault {
        let is = |kind| is_error_kind(code, kind);
        if self.any && is(Code::ZSTD_error_prefix_unknown) {
            Fault::Trailing
        } else if is(Code::ZSTD_error_frameParameter_windowTooLarge) {
            Fault::Broken(reason::WINDOW)
        } else if is(Code::ZSTD_error_checksum_wrong) {
            Fault::Broken(reason::CHECKSUM)
        } else {
            Fault::Broken(reason::CORRUPT)
        }
    }
}

impl Format for Zstd {
    fn step(&mut self, input: &[u8], output: &mut [u8]) -> Step {
        let Some(context) = &mut self.context else {
            return Step { fault: Some(Fault::Broken(reason::MEMORY)), ..Step::default() };
        };
        // One block at a time, because the library forgets what it has decoded in the call in which it finds a fault.
        // The hint counts the next block's header in.
        let size = self.hint.saturating_sub(BLOCK_HEADER).max(1).min(input.len());
        let mut input = InBuffer::around(input.get(..size).unwrap_or_default());
        let mut output = OutBuffer::around(output);
        match context.decompress_stream(&mut output, &mut input) {
            Ok(hint) => {
                (self.hint, self.whole) = (hint, hint == 0);
                self.any |= self.whole;
                Step { consumed: input.pos(), written: output.pos(), fault: None }
            }
            Err(code) => Step { consumed: 0, written: 0, fault: Some(self.fault(code)) },
        }
    }

    fn is_whole(&self) -> bool {
        self.whole
    }
}
