//! The way from the document's root to the current value.
//!
//! Owns the containers that are open. Each depth has a string for its key, so that following a document allocates
//! nothing once these have grown to the longest keys.

use super::Step;

/// Deepest nesting that is followed. The deepest body of any supported API stays below 20; a bound keeps a
/// document of brackets from being a long walk for nothing.
pub(super) const MAX_DEPTH: usize = 64;

/// Longest path that is handed out. The values that the APIs define lie at most seven steps down; below some of them
/// lies the document of a tool call's arguments, which no real tool nests deeper than the rest.
pub(crate) const MAX_PATH: usize = 16;

/// What most paths fit in: a path is handed out with every value, and a short one is quicker to lay out.
const SHORT_PATH: usize = 8;

/// What those of a stream's events fit in.
const SHORTEST_PATH: usize = 4;

/// Stack of open containers.
#[derive(Clone, Debug)]
pub(super) struct Path {
    depth: usize,
    /// Bit `d` says that the container at depth `d` is an array.
    arrays: u64,
    /// The outermost containers; those further in are only counted.
    frames: [Frame; MAX_PATH],
}

/// The current member or element of a container: of an object the key, of an array the index.
#[derive(Clone, Debug, Default)]
struct Frame {
    key: String,
    index: u32,
}

impl Path {
    pub(super) fn new() -> Self {
        Self { depth: 0, arrays: 0, frames: Default::default() }
    }

    /// Back to the root.
    pub(super) fn clear(&mut self) {
        self.depth = 0;
    }

    pub(super) fn depth(&self) -> usize {
        self.depth
    }

    /// Whether the innermost container is an array.
    pub(super) fn in_array(&self) -> bool {
        self.depth > 0 && self.arrays >> (self.depth - 1) & 1 == 1
    }

    /// The steps, unless there are more than are handed out.
    pub(super) fn with_steps(&self, then: impl FnOnce(&[Step<'_>])) {
        let Some(frames) = self.frames.get(..self.depth) else { return };
        if self.depth <= SHORTEST_PATH {
            self.lay_out(frames, &mut [Step::Index(0); SHORTEST_PATH], then);
        } else if self.depth <= SHORT_PATH {
            self.lay_out(frames, &mut [Step::Index(0); SHORT_PATH], then);
        } else {
            self.lay_out(frames, &mut [Step::Index(0); MAX_PATH], then);
        }
    }

    fn lay_out<'a>(&self, frames: &'a [Frame], steps: &mut [Step<'a>], then: impl FnOnce(&[Step<'_>])) {
        let mut arrays = self.arrays;
        for (step, frame) in steps.iter_mut().zip(frames) {
            *step = if arrays & 1 == 1 { Step::Index(frame.index) } else { Step::Key(&frame.key) };
            arrays >>= 1;
        }
        then(steps.get(..frames.len()).unwrap_or_default());
    }

    /// Whether [`Self::with_steps`] does anything.
    pub(super) fn is_told(&self) -> bool {
        self.depth <= MAX_PATH
    }

    /// Goes into a container. The caller keeps to [`MAX_DEPTH`].
    pub(super) fn enter(&mut self, array: bool) {
        let bit = 1 << self.depth;
        self.arrays = if array { self.arrays | bit } else { self.arrays & !bit };
        if let Some(frame) = self.frames.get_mut(self.depth) {
            frame.index = 0;
            frame.key.clear();
        }
        self.depth += 1;
    }

    /// Leaves the innermost container.
    pub(super) fn leave(&mut self) {
        self.depth = self.depth.saturating_sub(1);
    }

    /// On to the next element of the innermost array.
    pub(super) fn next_element(&mut self) {
        if let Some(frame) = self.innermost() {
            frame.index = frame.index.saturating_add(1);
        }
    }

    /// On to the member `key` of the innermost object.
    pub(super) fn set_key(&mut self, key: &str) {
        if let Some(frame) = self.innermost() {
            frame.key.clear();
            frame.key.push_str(key);
        }
    }

    fn innermost(&mut self) -> Option<&mut Frame> {
        self.depth.checked_sub(1).and_then(|at| self.frames.get_mut(at))
    }
}
