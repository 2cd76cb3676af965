//! The loss ledger: what was captured, what was delivered, and what became of the rest.
//!
//! Owns the counters of the userspace pipeline and the equations that tie them to the kernel's. Every place that
//! leaves something out counts it here, with a reason, and the ledger goes out with the data (invariant 3).
//!
//! To count something new: a field here, a line in [`Ledger::entries`], and, if it is a place where bytes can go,
//! a term in [`Ledger::balance`].

use inferscope_common::counters::{COUNT, Counter};
use serde_json::{Map, Value, json};

/// Counters of the pipeline. All in bytes unless the name says otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PipelineStats {
    /// Records taken from the rings or from a recording.
    pub records: u64,
    /// Records that could not be read.
    pub records_bad: u64,
    /// Payload bytes of data records.
    pub received: u64,
    /// Bytes given to a connection's parsers.
    pub delivered: u64,
    /// Bytes left out because they had come before.
    pub repeated: u64,
    /// Bytes that were missing where they should have been, and that no verdict left out.
    pub lost: u64,
    /// Bytes that belonged to no message.
    pub unparsed: u64,
    /// Bytes of streams that were not taken up because the table was full.
    pub refused: u64,
    /// Connections not taken up because the table was full.
    pub connections_refused: u64,
    /// Addresses, bindings and process identities not kept because their table was full.
    pub names_refused: u64,
    /// TLS streams whose socket was used inside a TLS call.
    pub bound_nested: u64,
    /// TLS streams whose socket was found by the lengths of records.
    pub bound_by_records: u64,
    /// Bindings by lengths that proved wrong.
    pub bindings_withdrawn: u64,
    /// Messages that could not be understood.
    pub malformed: u64,
    /// Calls reported.
    pub calls: u64,
    /// Exchanges whose path is a model's and whose bodies proved nothing.
    pub unrecognised: u64,
    /// Exchanges given up because too many waited on one connection.
    pub overflowed: u64,
    /// Exchanges given up because nothing came for too long.
    pub idle: u64,
}

/// One reading of the kernel side's counters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelCounts([u64; COUNT as usize]);

impl KernelCounts {
    /// Values in the order of [`Counter`].
    pub fn new(counts: [u64; COUNT as usize]) -> Self {
        Self(counts)
    }

    /// One counter's value.
    pub fn get(&self, counter: Counter) -> u64 {
        self.0.get(counter as usize).copied().unwrap_or(0)
    }
}

/// The ledger at one moment. Balanced only when the rings are empty.
#[derive(Clone, Debug)]
pub struct Ledger {
    /// The kernel side's counters; absent in a replay.
    pub kernel: Option<KernelCounts>,
    /// The pipeline's.
    pub pipeline: PipelineStats,
    /// Finished calls that an output did not take, by output and reason.
    pub undelivered: Vec<(String, u64)>,
}

impl Ledger {
    /// Whether every byte is accounted for: offered = emitted + lost by reason; emitted = received; received =
    /// delivered + repeated + refused.
    pub fn balance(&self) -> Result<(), String> {
        let p = &self.pipeline;
        if p.received != p.delivered + p.repeated + p.refused {
            return Err(format!(
                "received {} != delivered {} + repeated {} + refused {}",
                p.received, p.delivered, p.repeated, p.refused
            ));
        }
        let Some(kernel) = &self.kernel else { return Ok(()) };
        let get = |counter| kernel.get(counter);
        let accounted = get(Counter::BytesEmitted)
            + get(Counter::BytesLostRing)
            + get(Counter::BytesLostScratch)
            + get(Counter::BytesUnreadable)
            + get(Counter::BytesTruncated);
        if get(Counter::BytesOffered) != accounted {
            return Err(format!("offered {} != emitted and lost {accounted}", get(Counter::BytesOffered)));
        }
        if get(Counter::BytesEmitted) != p.received {
            return Err(format!("emitted {} != received {}", get(Counter::BytesEmitted), p.received));
        }
        Ok(())
    }

    /// Bytes that were chosen for capture and did not arrive, whoever lost them.
    pub fn lost_bytes(&self) -> u64 {
        let Some(kernel) = &self.kernel else { return self.pipeline.lost };
        [Counter::BytesLostRing, Counter::BytesLostScratch, Counter::BytesUnreadable, Counter::BytesTruncated]
            .into_iter()
            .map(|counter| kernel.get(counter))
            .sum()
    }

    /// Name and value of every counter, in a stable order.
    pub fn entries(&self) -> Vec<(String, u64)> {
        let p = &self.pipeline;
        let mut entries: Vec<(String, u64)> = Vec::new();
        if let Some(kernel) = &self.kernel {
            for (name, counter) in KERNEL_NAMES {
                entries.push((format!("kernel.{name}"), kernel.get(counter)));
            }
        }
        for (name, value) in [
            ("records", p.records),
            ("records_bad", p.records_bad),
            ("bytes_received", p.received),
            ("bytes_delivered", p.delivered),
            ("bytes_repeated", p.repeated),
            ("bytes_lost", p.lost),
            ("bytes_unparsed", p.unparsed),
            ("bytes_refused", p.refused),
            ("connections_refused", p.connections_refused),
            ("names_refused", p.names_refused),
            ("bound_nested", p.bound_nested),
            ("bound_by_records", p.bound_by_records),
            ("bindings_withdrawn", p.bindings_withdrawn),
            ("malformed", p.malformed),
            ("calls", p.calls),
            ("unrecognised", p.unrecognised),
            ("overflowed", p.overflowed),
            ("idle", p.idle),
        ] {
            entries.push((format!("pipeline.{name}"), value));
        }
        for (name, value) in &self.undelivered {
            entries.push((format!("output.{name}"), *value));
        }
        entries
    }

    /// One JSON object: every counter, and whether it balances.
    pub fn to_json(&self) -> Value {
        let mut object: Map<String, Value> =
            self.entries().into_iter().map(|(name, value)| (name, json!(value))).collect();
        object.insert("lost_bytes".into(), json!(self.lost_bytes()));
        match self.balance() {
            Ok(()) => object.insert("balanced".into(), json!(true)),
            Err(why) => {
                object.insert("imbalance".into(), json!(why));
                object.insert("balanced".into(), json!(false))
            }
        };
        Value::Object(object)
    }
}

const KERNEL_NAMES: [(&str, Counter); Counter::Count as usize] = [
    ("bytes_offered", Counter::BytesOffered),
    ("bytes_emitted", Counter::BytesEmitted),
    ("bytes_lost_ring", Counter::BytesLostRing),
    ("bytes_lost_scratch", Counter::BytesLostScratch),
    ("bytes_unreadable", Counter::BytesUnreadable),
    ("bytes_truncated", Counter::BytesTruncated),
    ("bytes_skipped", Counter::BytesSkipped),
    ("bytes_unseen", Counter::BytesUnseen),
    ("data_records", Counter::DataRecords),
    ("data_records_lost", Counter::DataRecordsLost),
    ("event_records", Counter::EventRecords),
    ("event_records_lost", Counter::EventRecordsLost),
    ("socket_table_full", Counter::SocketTableFull),
    ("tls_table_full", Counter::TlsTableFull),
    ("tls_call_table_full", Counter::TlsCallTableFull),
    ("tls_return_unmatched", Counter::TlsReturnUnmatched),
    ("peeked", Counter::Peeked),
    ("target_table_full", Counter::TargetTableFull),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_that_is_nowhere_unbalances_the_ledger() {
        let mut pipeline = PipelineStats { received: 10, delivered: 8, repeated: 2, ..Default::default() };
        let ledger =
            |pipeline: &PipelineStats| Ledger { kernel: None, pipeline: pipeline.clone(), undelivered: Vec::new() };
        assert_eq!(ledger(&pipeline).balance(), Ok(()));
        pipeline.received += 1;
        assert!(ledger(&pipeline).balance().is_err());
        assert_eq!(ledger(&pipeline).to_json()["balanced"], false);
    }
}
