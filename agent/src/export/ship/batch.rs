//! A run of the log as a batch of the protocol.
//!
//! Owns what becomes of an item that is too large for the collector: it goes without its content, and where that is not
//! enough, as a gap.

use bytes::Bytes;
use inferscope_proto::{
    Message as _,
    v1::{Batch, Gap, GapReason, Item, ItemKind},
};

use crate::{
    export::otlp::without_content,
    wal::{self, Kind, Run},
};

/// What surrounds an item's payload in a batch, at most: tags, lengths, its seq, kind and checksum.
pub const FRAMING: usize = 40;

/// What was done to items so that they fit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fitted {
    /// Items that went without content.
    pub stripped: u64,
    /// Items that did not go.
    pub too_large: u64,
}

/// The batch that a run makes, of at most `most` bytes where it has a single item.
pub fn of(run: Run, most: u64) -> (Batch, Fitted) {
    let Run { first_seq, last_seq, items, gaps } = run;
    let most = usize::try_from(most).unwrap_or(usize::MAX).saturating_sub(FRAMING * 2);
    let mut fitted = Fitted::default();
    let mut gaps: Vec<Gap> = gaps.iter().map(gap).collect();
    let mut sent = Vec::with_capacity(items.len());
    for item in items {
        let seq = item.seq;
        match fit(item, most) {
            (Some(item), stripped) => {
                fitted.stripped += u64::from(stripped);
                sent.push(item);
            }
            (None, _) => {
                fitted.too_large += 1;
                gaps.push(Gap { first_seq: seq, last_seq: seq, reason: GapReason::TooLarge.into() });
            }
        }
    }
    gaps.sort_unstable_by_key(|gap| gap.first_seq);
    (Batch { first_seq, last_seq, items: sent, gaps }, fitted)
}

/// Bytes of a batch on the wire.
pub fn size(batch: &Batch) -> u64 {
    batch.encoded_len() as u64
}

/// The item, whether it lost its content, or nothing if it is too large even so.
fn fit(item: wal::Item, most: usize) -> (Option<Item>, bool) {
    let wal::Item { seq, kind, payload, crc32c } = item;
    let item = |payload: Bytes, crc32c| Item { seq, kind: self::kind(kind).into(), payload, crc32c };
    if payload.len() <= most {
        return (Some(item(payload, crc32c)), false);
    }
    let stripped = (kind == Kind::Span).then(|| without_content(&payload)).flatten();
    match stripped.filter(|payload| payload.len() <= most) {
        Some(payload) => {
            let crc32c = crc32c::crc32c(&payload);
            (Some(item(payload, crc32c)), true)
        }
        None => (None, false),
    }
}

fn kind(kind: Kind) -> ItemKind {
    match kind {
        Kind::Span => ItemKind::Span,
        Kind::Metrics => ItemKind::Metrics,
        Kind::Log => ItemKind::Log,
        Kind::Ledger => ItemKind::Ledger,
    }
}

fn gap(gap: &wal::Gap) -> Gap {
    let reason = match gap.reason {
        wal::GapReason::Corrupt => GapReason::Corrupt,
        wal::GapReason::Evicted => GapReason::Evicted,
        wal::GapReason::Acknowledged => GapReason::Acknowledged,
        wal::GapReason::Unreadable => GapReason::Unreadable,
    };
    Gap { first_seq: gap.first_seq, last_seq: gap.last_seq, reason: reason.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        export::{attributes, otlp::encode, span::Value, testing::numbered_span},
        wal::GapReason as Reason,
    };

    fn item(seq: u64, kind: Kind, payload: Bytes) -> wal::Item {
        wal::Item { seq, kind, crc32c: crc32c::crc32c(&payload), payload }
    }

    #[test]
    fn every_seq_is_there_once_as_an_item_or_in_a_gap() {
        let mut span = numbered_span(1);
        span.attributes.push((attributes::CONTENT[0], Value::Str("x".repeat(10_000))));
        let large = Bytes::from(encode(&span).encode_to_vec());
        let small = Bytes::from(encode(&numbered_span(2)).encode_to_vec());
        let run = Run {
            first_seq: 5,
            last_seq: 10,
            items: vec![
                item(5, Kind::Span, small.clone()),
                item(8, Kind::Span, large),
                item(9, Kind::Log, Bytes::from(vec![0; 10_000])),
                item(10, Kind::Ledger, Bytes::new()),
            ],
            gaps: vec![wal::Gap { first_seq: 6, last_seq: 7, reason: Reason::Corrupt }],
        };
        let (batch, fitted) = of(run, 4_096);
        assert_eq!(fitted, Fitted { stripped: 1, too_large: 1 });
        assert_eq!(batch.items.iter().map(|item| item.seq).collect::<Vec<_>>(), [5, 8, 10]);
        assert_eq!(batch.gaps.iter().map(|gap| (gap.first_seq, gap.last_seq)).collect::<Vec<_>>(), [(6, 7), (9, 9)]);
        assert_eq!(batch.items[0].payload, small);
        assert!(batch.items.iter().all(|item| item.crc32c == crc32c::crc32c(&item.payload)));
        assert!(size(&batch) < 4_096);
    }

    #[test]
    fn the_framing_is_the_most_that_surrounds_a_payload() {
        let payload = Bytes::from(vec![7; 3 << 20]);
        let alone = Item { seq: u64::MAX, kind: ItemKind::Ledger.into(), crc32c: u32::MAX, payload };
        let with = Batch { items: vec![alone.clone()], ..Batch::default() }.encoded_len();
        assert!(with - alone.payload.len() <= FRAMING);
    }
}
