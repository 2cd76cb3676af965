//! `br` (RFC 7932), without the large windows that the RFC does not have.

use brotli_decompressor::{BrotliDecompressStream, BrotliResult, BrotliState, StandardAlloc};

use super::{
    format::{Fault, Format, OUTPUT, Step},
    reason,
};

/// Room below which the output is handed out first. The longest that one byte gives in practice is far below.
const ROOM: usize = OUTPUT / 2;

/// Decoder of one body. Its window grows with what has been decoded.
pub(super) struct Br {
    state: Box<BrotliState<StandardAlloc, StandardAlloc, StandardAlloc>>,
    over: bool,
}

impl Br {
    pub(super) fn new() -> Self {
        let alloc = StandardAlloc::default;
        Self { state: Box::new(BrotliState::new_strict(alloc(), alloc(), alloc())), over: false }
    }
}

impl Format for Br {
    /// Gives the library one byte at a time: it forgets what it has decoded in the call in which it finds a fault, and
    /// what a damaged body gives must not depend on how it comes. That makes 170 MB/s of decoded text out of 830, which
    /// a coding can bear that browsers ask for and clients of LLM APIs hardly do.
    fn step(&mut self, input: &[u8], output: &mut [u8]) -> Step {
        let mut step = Step::default();
        loop {
            let (mut left, mut read) = (usize::from(step.consumed < input.len()), step.consumed);
            let (mut room, mut total) = (output.len() - step.written, 0);
            if self.over {
                step.fault = (left > 0).then_some(Fault::Trailing);
                return step;
            }
            let result = BrotliDecompressStream(
                &mut left,
                &mut read,
                input,
                &mut room,
                &mut step.written,
                output,
                &mut total,
                &mut self.state,
            );
            step.consumed = read;
            match result {
                BrotliResult::ResultSuccess => self.over = true,
                BrotliResult::NeedsMoreInput if read < input.len() && room >= ROOM => {}
                BrotliResult::NeedsMoreInput | BrotliResult::NeedsMoreOutput => return step,
                BrotliResult::ResultFailure => {
                    step.fault = Some(Fault::Broken(reason::CORRUPT));
                    return step;
                }
            }
        }
    }

    fn is_whole(&self) -> bool {
        self.over
    }
}
