//! Reassembly of one direction of a stream.

/// What a lane makes of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece<'a> {
    /// Bytes that are missing before `bytes` and that the kernel side left out on purpose.
    pub skipped: u64,
    /// Bytes that are missing before `bytes` and that somebody lost.
    pub lost: u64,
    /// Bytes at the beginning of the payload that had been delivered before, and are left out.
    pub repeated: u64,
    /// What is new.
    pub bytes: &'a [u8],
}

/// One direction of a stream: the position up to which it was delivered. State is two integers, whatever the
/// stream's length.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lane {
    /// `None` until the first payload, which sets where the lane begins.
    position: Option<u64>,
    skipped: u64,
}

impl Lane {
    /// Takes the payload at `offset`. `skipped` is the kernel side's running count of bytes left out on purpose.
    pub fn accept<'a>(&mut self, offset: u64, skipped: u64, payload: &'a [u8]) -> Piece<'a> {
        let position = self.position.unwrap_or(offset);
        let missing = offset.saturating_sub(position);
        let skipped_now = skipped.saturating_sub(self.skipped).min(missing);
        let repeated = position.saturating_sub(offset).min(payload.len() as u64);
        let bytes = &payload[repeated as usize..];
        self.position = Some(position.max(offset + payload.len() as u64));
        self.skipped = self.skipped.max(skipped);
        Piece { skipped: skipped_now, lost: missing - skipped_now, repeated, bytes }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn contiguous_bytes_pass_unchanged() {
        let mut lane = Lane::default();
        assert_eq!(lane.accept(0, 0, b"ab"), Piece { skipped: 0, lost: 0, repeated: 0, bytes: b"ab" });
        assert_eq!(lane.accept(2, 0, b"cd"), Piece { skipped: 0, lost: 0, repeated: 0, bytes: b"cd" });
    }

    #[test]
    fn a_gap_is_told_apart_by_who_made_it() {
        let mut lane = Lane::default();
        lane.accept(0, 0, b"");
        assert_eq!(lane.accept(10, 4, b"ab"), Piece { skipped: 4, lost: 6, repeated: 0, bytes: b"ab" });
        assert_eq!(lane.accept(20, 12, b"c"), Piece { skipped: 8, lost: 0, repeated: 0, bytes: b"c" });
    }

    #[test]
    fn a_lane_begins_where_it_is_first_seen() {
        let mut lane = Lane::default();
        assert_eq!(lane.accept(500, 90, b"ab"), Piece { skipped: 0, lost: 0, repeated: 0, bytes: b"ab" });
    }

    #[test]
    fn what_was_delivered_is_not_delivered_again() {
        let mut lane = Lane::default();
        lane.accept(0, 0, b"abcd");
        assert_eq!(lane.accept(2, 0, b"cdef"), Piece { skipped: 0, lost: 0, repeated: 2, bytes: b"ef" });
        assert_eq!(lane.accept(0, 0, b"ab"), Piece { skipped: 0, lost: 0, repeated: 2, bytes: b"" });
    }

    proptest! {
        /// Whatever subset of the pieces arrives, delivered and missing bytes add up to the stream.
        #[test]
        fn delivered_and_missing_add_up(pieces in prop::collection::vec((1usize..50, any::<bool>()), 1..60)) {
            let mut lane = Lane::default();
            lane.accept(0, 0, b"");
            let (mut offset, mut delivered, mut missing) = (0u64, 0u64, 0u64);
            let mut last_kept = 0;
            for (len, kept) in pieces {
                if kept {
                    let payload = vec![0u8; len];
                    let piece = lane.accept(offset, 0, &payload);
                    delivered += piece.bytes.len() as u64;
                    missing += piece.lost;
                    last_kept = offset + len as u64;
                }
                offset += len as u64;
            }
            prop_assert_eq!(delivered + missing, last_kept);
        }
    }
}
