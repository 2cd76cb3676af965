//! What an agent knows of one stream: what it may send, and what is stored there.
//!
//! Pure: messages in, decisions out. A collector that says what cannot be is a [`Fault`], which ends the stream and moves
//! nothing.

use inferscope_proto::v1::{Ack, VERSION, Welcome};

/// Smallest batch that a collector may insist on: below, nothing would fit.
const LEAST_BATCH: u64 = 4 << 10;

/// Largest batch that is sent whatever a collector takes: what waits for its acknowledgement is held in memory.
const MOST_BATCH: u64 = 2 << 20;

/// A collector that does not keep to the protocol. Nothing that it said is believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A version that we do not speak.
    #[error("it speaks version {0} of the protocol, and this agent up to {VERSION}")]
    Version(u32),
    /// The first message was no Welcome, or a later one was.
    #[error("a message came out of turn")]
    OutOfTurn,
    /// It has what was never sent.
    #[error("it acknowledges {acked}, but the last that was sent is {sent}")]
    NeverSent {
        /// What it says.
        acked: u64,
        /// What is so.
        sent: u64,
    },
    /// It has less than it had.
    #[error("it had stored up to {before} and now says {acked}")]
    Backwards {
        /// What it said before.
        before: u64,
        /// What it says now.
        acked: u64,
    },
    /// Its batches could not hold an item.
    #[error("it takes batches of {0} bytes at most")]
    NoRoom(u64),
}

/// One stream, after its Welcome.
#[derive(Debug, PartialEq, Eq)]
pub struct Session {
    sent_through: u64,
    durable_through: u64,
    credit: u64,
    max_batch: u64,
}

impl Session {
    /// Begins a stream on whose Hello the collector answered `welcome`. `next_seq` is what Hello said.
    pub fn begin(next_seq: u64, welcome: &Welcome) -> Result<Self, Fault> {
        let Welcome { version, durable_through, credit_bytes, max_batch_bytes, .. } = *welcome;
        if version == 0 || version > VERSION {
            return Err(Fault::Version(version));
        }
        if durable_through >= next_seq {
            return Err(Fault::NeverSent { acked: durable_through, sent: next_seq.saturating_sub(1) });
        }
        if max_batch_bytes < LEAST_BATCH {
            return Err(Fault::NoRoom(max_batch_bytes));
        }
        let max_batch = max_batch_bytes.min(MOST_BATCH);
        Ok(Self { sent_through: durable_through, durable_through, credit: credit_bytes, max_batch })
    }

    /// Bytes that the next batch may have; one that has a single item may have [`most`](Self::most). `None`: wait.
    pub fn room(&self) -> Option<u64> {
        (self.credit > 0).then_some(self.credit.min(self.max_batch))
    }

    /// Bytes that no batch may exceed.
    pub fn most(&self) -> u64 {
        self.max_batch
    }

    /// A batch of so many bytes that ends with `last_seq` is on its way.
    pub fn sent(&mut self, last_seq: u64, bytes: u64) {
        self.sent_through = last_seq;
        self.credit = self.credit.saturating_sub(bytes);
    }

    /// Takes an acknowledgement; says whether more is stored than before.
    pub fn acknowledged(&mut self, ack: &Ack) -> Result<bool, Fault> {
        let Ack { durable_through: acked, credit_bytes, .. } = *ack;
        if acked > self.sent_through {
            return Err(Fault::NeverSent { acked, sent: self.sent_through });
        }
        if acked < self.durable_through {
            return Err(Fault::Backwards { before: self.durable_through, acked });
        }
        if let Some(rejected) = ack.rejected.iter().find(|rejected| rejected.seq > self.sent_through) {
            return Err(Fault::NeverSent { acked: rejected.seq, sent: self.sent_through });
        }
        self.credit = self.credit.saturating_add(credit_bytes);
        Ok(std::mem::replace(&mut self.durable_through, acked) < acked)
    }

    /// Everything up to here is stored.
    pub fn durable_through(&self) -> u64 {
        self.durable_through
    }

    /// Everything up to here was sent.
    pub fn sent_through(&self) -> u64 {
        self.sent_through
    }

    /// Whether something waits for its acknowledgement.
    pub fn is_waiting(&self) -> bool {
        self.sent_through > self.durable_through
    }
}

#[cfg(test)]
mod tests {
    use inferscope_proto::v1::Rejected;

    use super::*;

    fn welcome(durable_through: u64, credit_bytes: u64) -> Welcome {
        Welcome { version: 1, durable_through, credit_bytes, max_batch_bytes: 1 << 20, ..Welcome::default() }
    }

    fn ack(durable_through: u64, credit_bytes: u64) -> Ack {
        Ack { durable_through, credit_bytes, ..Ack::default() }
    }

    #[test]
    fn credit_bounds_what_is_on_its_way() {
        let mut session = Session::begin(10, &welcome(0, 8_000)).unwrap();
        assert_eq!(session.room(), Some(8_000));
        session.sent(3, 6_000);
        assert_eq!(session.room(), Some(2_000));
        // One item that is larger than what is left may go.
        session.sent(4, 5_000);
        assert_eq!((session.room(), session.is_waiting()), (None, true));
        assert_eq!(session.acknowledged(&ack(3, 6_000)), Ok(true));
        assert_eq!(session.acknowledged(&ack(3, 0)), Ok(false));
        assert_eq!((session.room(), session.durable_through(), session.sent_through()), (Some(6_000), 3, 4));
        assert_eq!(session.acknowledged(&ack(4, 0)), Ok(true));
        assert!(!session.is_waiting());
        assert_eq!(Session::begin(10, &welcome(0, u64::MAX)).unwrap().room(), Some(1 << 20));
    }

    #[test]
    fn what_was_never_sent_cannot_be_stored() {
        assert_eq!(Session::begin(10, &welcome(10, 1)), Err(Fault::NeverSent { acked: 10, sent: 9 }));
        assert!(Session::begin(10, &welcome(9, 1)).is_ok());
        let mut session = Session::begin(10, &welcome(2, 1 << 20)).unwrap();
        session.sent(5, 10);
        assert_eq!(session.acknowledged(&ack(6, 0)), Err(Fault::NeverSent { acked: 6, sent: 5 }));
        assert_eq!(session.acknowledged(&ack(1, 0)), Err(Fault::Backwards { before: 2, acked: 1 }));
        let rejected = vec![Rejected { seq: 9, ..Rejected::default() }];
        let ack = Ack { rejected, ..ack(5, 0) };
        assert_eq!(session.acknowledged(&ack), Err(Fault::NeverSent { acked: 9, sent: 5 }));
        assert_eq!(session.durable_through(), 2);
    }

    #[test]
    fn a_collector_that_we_cannot_speak_to_is_a_fault() {
        assert_eq!(Session::begin(1, &Welcome { version: 2, ..welcome(0, 1) }), Err(Fault::Version(2)));
        assert_eq!(Session::begin(1, &Welcome { version: 0, ..welcome(0, 1) }), Err(Fault::Version(0)));
        assert_eq!(Session::begin(1, &Welcome { max_batch_bytes: 9, ..welcome(0, 1) }), Err(Fault::NoRoom(9)));
    }
}
