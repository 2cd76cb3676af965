//! Whether content is kept.

/// What happens to prompts, completions and tool arguments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ContentPolicy {
    /// They are read past and never kept.
    #[default]
    Off,
    /// They are redacted and kept.
    On {
        /// Most bytes that are kept of each direction of a call.
        cap: usize,
    },
}

impl ContentPolicy {
    /// The cap in bytes for each direction, absent when content is off.
    pub fn cap(self) -> Option<usize> {
        match self {
            Self::Off => None,
            Self::On { cap } => Some(cap),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_is_off_unless_asked_for() {
        assert_eq!(ContentPolicy::default().cap(), None);
        assert_eq!(ContentPolicy::On { cap: 7 }.cap(), Some(7));
    }
}
