//! Trace and span ids.
//!
//! Derived, not drawn: from the recording session's random epoch and from what names the call on this host. So a
//! replay gives the ids that the live trace gave, and a span sent twice is the same span.

use sha2::{Digest as _, Sha256};

use super::{Side, SpanIds};
use crate::{stream::StreamKey, time::Mono};

/// Random bytes that set one run of the agent apart from every other, on this host and elsewhere.
pub type Epoch = [u8; 16];

/// Ids of an exchange.
pub fn derive(epoch: &Epoch, stream: StreamKey, number: u64, start: Mono, side: Side) -> SpanIds {
    let object = stream.object();
    let (kind, tgid) = match stream {
        StreamKey::Socket(_) => (0u32, 0u32),
        StreamKey::Tls { tgid, .. } | StreamKey::Half { tgid, .. } => (1, tgid),
    };
    let mut hash = Sha256::new();
    hash.update(epoch);
    hash.update(kind.to_le_bytes());
    hash.update(tgid.to_le_bytes());
    for part in [object.address, object.generation, number, start.0, side as u64] {
        hash.update(part.to_le_bytes());
    }
    cut(hash)
}

/// Ids of something that happened in a process and is no exchange; within `parent` if there is one.
pub fn within(epoch: &Epoch, pid: u32, start: Mono, parent: Option<SpanIds>) -> SpanIds {
    let mut hash = Sha256::new();
    hash.update(epoch);
    hash.update(b"within");
    hash.update(pid.to_le_bytes());
    hash.update(start.0.to_le_bytes());
    let ids = cut(hash);
    parent.map_or(ids, |parent| SpanIds { trace: parent.trace, span: ids.span, parent: Some(parent.span) })
}

fn cut(hash: Sha256) -> SpanIds {
    let digest: [u8; 32] = hash.finalize().into();
    let (mut trace, mut span) = ([0; 16], [0; 8]);
    trace.copy_from_slice(&digest[..16]);
    span.copy_from_slice(&digest[16..24]);
    SpanIds { trace, span, parent: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::ObjectId;

    #[test]
    fn the_same_call_has_the_same_ids_and_another_has_others() {
        let stream = StreamKey::Socket(ObjectId { address: 1, generation: 2 });
        let ids = |number, side| derive(&[7; 16], stream, number, Mono(5), side);
        assert_eq!(ids(0, Side::Client), ids(0, Side::Client));
        assert_ne!(ids(0, Side::Client), ids(1, Side::Client));
        assert_ne!(ids(0, Side::Client), ids(0, Side::Server));
        assert_ne!(ids(0, Side::Client), derive(&[8; 16], stream, 0, Mono(5), Side::Client));
    }
}
