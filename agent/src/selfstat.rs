//! The loss ledger: what was captured, what was delivered, and what became of the rest.
//!
//! Owns the counters of the userspace pipeline and the equations that tie them to the kernel's. Every place that
//! leaves something out counts it here, with a reason, and the ledger goes out with the data (invariant 3).
//!
//! To count something new: a field here, a line in [`Ledger::entries`], and, if it is a place where bytes can go,
//! a term in [`Ledger::balance`].

use std::collections::BTreeMap;

use inferscope_common::{
    counters::{COUNT, Counter},
    process_stats::ProcessStats,
};
use serde_json::{Map, Value, json};

use crate::serving::Sums;

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
    /// Bytes that wait until their connection is known; none at the end.
    pub held: u64,
    /// Bytes of streams that are one direction of a connection whose other one was not found.
    pub unpaired: u64,
    /// Streams that are one direction, and whose socket was not found.
    pub halves_unbound: u64,
    /// Bytes of processes that turned out to be no targets.
    pub untargeted: u64,
    /// Calls on ports that turned out to be no targets.
    pub untargeted_calls: u64,
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
    /// Streams that turned up at the address of one whose end was not seen: it was freed unseen, or the kernel's table had
    /// forgotten it and it came back.
    pub ends_missed: u64,
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
    /// Spans of tools that ran between two calls.
    pub tools: u64,
    /// Turns of conversations that were forgotten because their table was full.
    pub turns_evicted: u64,
    /// Calls whose tools' results were not awaited any longer because the table was full.
    pub tools_evicted: u64,
    /// Server's calls that nothing was observed beside, because too many were under way.
    pub calls_unobserved: u64,
    /// Server's calls that were told before their time was observed whole, because too many waited.
    pub calls_hurried: u64,
    /// Opens of files with weights by processes that were not followed, because too many loaded a model.
    pub loads_refused: u64,
    /// Warnings that nobody was given, because there were too many at one time.
    pub notices_dropped: u64,
    /// Calls inferred from ciphertext.
    pub inferred: u64,
    /// Inferred calls held back because plaintext of their process was read.
    pub infer_withheld: u64,
    /// Inferred calls given up because records were missed.
    pub infer_lost: u64,
    /// Inferred requests without an answer.
    pub infer_unanswered: u64,
    /// Records of connections not taken up by inference because the table was full.
    pub infer_refused: u64,
}

/// What the pipeline missed of one process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Missed {
    /// As [`PipelineStats::lost`].
    pub lost: u64,
    /// As [`PipelineStats::unparsed`].
    pub unparsed: u64,
    /// As [`PipelineStats::refused`].
    pub refused: u64,
    /// As [`PipelineStats::malformed`].
    pub malformed: u64,
}

impl Missed {
    fn bytes(&self) -> u64 {
        self.lost.saturating_add(self.unparsed).saturating_add(self.refused)
    }
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
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    /// The kernel side's counters; absent in a replay.
    pub kernel: Option<KernelCounts>,
    /// The pipeline's.
    pub pipeline: PipelineStats,
    /// Finished calls that an output did not take, by output and reason.
    pub undelivered: Vec<(String, u64)>,
    /// Calls to a provider whose model has no price.
    pub unpriced: u64,
    /// Discovery's counters; none in a replay.
    pub discovery: Vec<(&'static str, u64)>,
    /// What each process moved; none in a replay.
    pub processes: Vec<(u32, ProcessStats)>,
    /// What the pipeline missed of each process.
    pub missed: Vec<(u32, Missed)>,
    /// Energy of each engine's GPUs, by its id.
    pub engines: Vec<(String, Sums)>,
}

/// Processes that the ledger names at most: those that lost most.
const MAX_NAMED: usize = 32;

/// TLS bytes without any plaintext, beyond what handshakes have: what nobody could read.
const UNREAD_FROM: u64 = 16 << 10;

/// TLS bytes of a process that no probe could read; 0 if plaintext came at all, because then the difference is the
/// records' overhead.
pub fn unread_bytes(stats: &ProcessStats) -> u64 {
    let (tls, plain) = (stats.tls[0] + stats.tls[1], stats.plain[0] + stats.plain[1]);
    if plain == 0 && tls >= UNREAD_FROM { tls } else { 0 }
}

/// Bytes that a process moved over its sockets by io_uring.
pub fn uring_bytes(stats: &ProcessStats) -> u64 {
    stats.uring[0] + stats.uring[1]
}

/// Bytes that were chosen for capture and lost, or passed unseen or unread.
fn missed_bytes(stats: &ProcessStats) -> u64 {
    lost_of(stats) + stats.untracked + stats.unseen + uring_bytes(stats) + unread_bytes(stats)
}

/// Bytes of a process that were chosen for capture and that the kernel side lost.
fn lost_of(stats: &ProcessStats) -> u64 {
    stats.lost_ring + stats.lost_scratch + stats.unreadable + stats.truncated
}

impl Ledger {
    /// Whether every byte is accounted for: offered = emitted + lost by reason; emitted = received; received =
    /// delivered + repeated + refused + held + unpaired + untargeted.
    pub fn balance(&self) -> Result<(), String> {
        let p = &self.pipeline;
        if p.received != p.delivered + p.repeated + p.refused + p.held + p.unpaired + p.untargeted {
            return Err(format!(
                "received {} != delivered {} + repeated {} + refused {} + held {} + unpaired {} + untargeted {}",
                p.received, p.delivered, p.repeated, p.refused, p.held, p.unpaired, p.untargeted
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

    /// The bytes of [`lost_bytes`](Self::lost_bytes) by who lost them, and those that the pipeline had no room for.
    pub fn lost_by_reason(&self) -> Vec<(&'static str, u64)> {
        let refused = ("table_full", self.pipeline.refused);
        let Some(kernel) = &self.kernel else { return vec![("missing", self.pipeline.lost), refused] };
        let kernel = [
            ("ring_full", Counter::BytesLostRing),
            ("scratch", Counter::BytesLostScratch),
            ("unreadable", Counter::BytesUnreadable),
            ("too_long", Counter::BytesTruncated),
        ]
        .map(|(reason, counter)| (reason, kernel.get(counter)));
        kernel.into_iter().chain([refused]).collect()
    }

    /// How much was lost, of whatever kind: whether it grows is what it is good for.
    pub fn losses(&self) -> u64 {
        let kernel = |counter| self.kernel.as_ref().map_or(0, |kernel| kernel.get(counter));
        let undelivered: u64 = self.undelivered.iter().map(|(_, n)| n).sum();
        let kernel = [Counter::EventRecordsLost, Counter::BytesUntracked, Counter::TlsTableFull].map(kernel);
        kernel.into_iter().chain([self.lost_bytes(), self.pipeline.refused, undelivered]).sum()
    }

    /// Bytes that the kernel side lost of processes whose accounts it has evicted since.
    fn lost_bytes_of_nobody(&self) -> u64 {
        if self.kernel.is_none() {
            return 0;
        }
        self.lost_bytes().saturating_sub(self.processes.iter().map(|(_, stats)| lost_of(stats)).sum())
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
            ("bytes_held", p.held),
            ("bytes_unpaired", p.unpaired),
            ("bytes_untargeted", p.untargeted),
            ("calls_untargeted", p.untargeted_calls),
            ("connections_refused", p.connections_refused),
            ("names_refused", p.names_refused),
            ("halves_unbound", p.halves_unbound),
            ("bound_nested", p.bound_nested),
            ("bound_by_records", p.bound_by_records),
            ("bindings_withdrawn", p.bindings_withdrawn),
            ("ends_missed", p.ends_missed),
            ("malformed", p.malformed),
            ("calls", p.calls),
            ("unrecognised", p.unrecognised),
            ("overflowed", p.overflowed),
            ("idle", p.idle),
            ("tools", p.tools),
            ("turns_evicted", p.turns_evicted),
            ("tools_evicted", p.tools_evicted),
            ("calls_unobserved", p.calls_unobserved),
            ("calls_hurried", p.calls_hurried),
            ("loads_refused", p.loads_refused),
            ("notices_dropped", p.notices_dropped),
            ("inferred", p.inferred),
            ("infer_withheld", p.infer_withheld),
            ("infer_lost", p.infer_lost),
            ("infer_unanswered", p.infer_unanswered),
            ("infer_refused", p.infer_refused),
        ] {
            entries.push((format!("pipeline.{name}"), value));
        }
        for (name, value) in &self.discovery {
            entries.push((format!("discover.{name}"), *value));
        }
        entries.push(("output.calls_unpriced".into(), self.unpriced));
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
        object.insert("lost_bytes_of_nobody".into(), json!(self.lost_bytes_of_nobody()));
        object.insert("processes".into(), self.processes_to_json());
        if !self.engines.is_empty() {
            object.insert("engines".into(), self.engines.iter().map(|(id, sums)| (id.clone(), energy(sums))).collect());
        }
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

impl Ledger {
    /// The processes that something was missed of, most first, with what and why.
    fn processes_to_json(&self) -> Value {
        let mut all: BTreeMap<u32, (ProcessStats, Missed)> = BTreeMap::new();
        for (pid, stats) in &self.processes {
            all.entry(*pid).or_default().0 = *stats;
        }
        for (pid, missed) in &self.missed {
            all.entry(*pid).or_default().1 = *missed;
        }
        let mut missed: Vec<_> = all
            .into_iter()
            .map(|(pid, (stats, missed))| {
                let bytes = missed_bytes(&stats).saturating_add(missed.bytes());
                (bytes, pid, reasons(&stats, &missed))
            })
            .filter(|(_, _, reasons)| reasons.iter().any(|(_, n)| *n > 0))
            .collect();
        missed.sort_by_key(|(bytes, pid, _)| (std::cmp::Reverse(*bytes), *pid));
        let line = |(_, pid, reasons): &(u64, u32, [(&'static str, u64); REASONS])| {
            let named = reasons.iter().filter(|(_, n)| *n > 0).map(|(name, n)| ((*name).to_owned(), json!(n)));
            let mut object: Map<String, Value> = named.collect();
            object.insert("pid".into(), json!(pid));
            Value::Object(object)
        };
        Value::Array(missed.iter().take(MAX_NAMED).map(line).collect())
    }
}

/// Energy in joules: of the devices, and where it went.
fn energy(sums: &Sums) -> Value {
    let Sums { devices, idle, unattributed, shared, open } = *sums;
    let joules = |millijoules: u64| millijoules as f64 / 1e3;
    json!({
        "device_joules": joules(devices),
        "shared_joules": joules(shared),
        "idle_joules": joules(idle),
        "unattributed_joules": joules(unattributed),
        "open_joules": joules(open),
    })
}

/// Reasons for which something is missing of a process.
const REASONS: usize = 14;

fn reasons(stats: &ProcessStats, missed: &Missed) -> [(&'static str, u64); REASONS] {
    [
        ("lost_ring", stats.lost_ring),
        ("lost_scratch", stats.lost_scratch),
        ("unreadable", stats.unreadable),
        ("truncated", stats.truncated),
        ("unseen", stats.unseen),
        ("io_uring", uring_bytes(stats)),
        ("untracked", stats.untracked),
        ("events_lost", stats.events_lost),
        ("tls_calls_lost", stats.calls_lost),
        ("tls_unread", unread_bytes(stats)),
        ("gaps", missed.lost),
        ("unparsed", missed.unparsed),
        ("refused", missed.refused),
        ("malformed", missed.malformed),
    ]
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
    ("socket_events_lost", Counter::SocketEventsLost),
    ("socket_state_events_lost", Counter::SocketStateEventsLost),
    ("tls_bind_events_lost", Counter::TlsBindEventsLost),
    ("tls_close_events_lost", Counter::TlsCloseEventsLost),
    ("process_events_lost", Counter::ProcessEventsLost),
    ("length_events_lost", Counter::LengthEventsLost),
    ("cause_events_lost", Counter::CauseEventsLost),
    ("cuda_events_lost", Counter::CudaEventsLost),
    ("socket_table_full", Counter::SocketTableFull),
    ("tls_table_full", Counter::TlsTableFull),
    ("tls_call_table_full", Counter::TlsCallTableFull),
    ("tls_return_unmatched", Counter::TlsReturnUnmatched),
    ("tls_count_unreadable", Counter::TlsCountUnreadable),
    ("bytes_untracked", Counter::BytesUntracked),
    ("peeked", Counter::Peeked),
    ("target_table_full", Counter::TargetTableFull),
    ("dull_paths", Counter::DullPaths),
    ("header_chains_lost", Counter::HeaderChainsLost),
    ("bytes_uring", Counter::BytesUring),
    ("aead_foreign", Counter::AeadForeign),
    ("aead_unread", Counter::AeadUnread),
    ("file_opens_skipped", Counter::FileOpensSkipped),
    ("cuda_calls_lost", Counter::CudaCallsLost),
    ("cuda_skipped", Counter::CudaSkipped),
];

#[cfg(test)]
mod tests {
    use inferscope_common::record::Kind;

    use super::*;

    #[test]
    fn processes_are_named_with_what_was_missed_of_them() {
        let processes = vec![
            (1, ProcessStats { offered: 9, emitted: 9, ..Default::default() }),
            (2, ProcessStats { lost_ring: 5, truncated: 2, ..Default::default() }),
            (3, ProcessStats { tls: [20_000, 0], ..Default::default() }),
            (4, ProcessStats { tls: [20_000, 0], plain: [10, 0], ..Default::default() }),
            (5, ProcessStats { tls: [6_000, 0], ..Default::default() }),
            (6, ProcessStats { calls_lost: 1, ..Default::default() }),
            (8, ProcessStats { uring: [1, 2], ..Default::default() }),
        ];
        let missed =
            vec![(2, Missed { unparsed: 3, ..Default::default() }), (7, Missed { lost: 1, ..Default::default() })];
        let ledger = Ledger { processes, missed, ..Default::default() };
        let expected = json!([
            {"pid": 3, "tls_unread": 20_000},
            {"pid": 2, "lost_ring": 5, "truncated": 2, "unparsed": 3},
            {"pid": 8, "io_uring": 3},
            {"pid": 7, "gaps": 1},
            {"pid": 6, "tls_calls_lost": 1},
        ]);
        assert_eq!(ledger.to_json()["processes"], expected);
    }

    #[test]
    fn every_kernel_counter_has_a_name_and_a_lost_event_its_own() {
        let names: std::collections::HashSet<&str> = KERNEL_NAMES.iter().map(|(name, _)| *name).collect();
        let counters: std::collections::HashSet<u32> =
            KERNEL_NAMES.iter().map(|(_, counter)| *counter as u32).collect();
        assert_eq!((names.len(), counters.len()), (COUNT as usize, COUNT as usize));
        assert_eq!(Counter::lost_event(Kind::TlsBind as u16), Counter::TlsBindEventsLost);
        assert_eq!(Counter::lost_event(Kind::Exec as u16), Counter::ProcessEventsLost);
        assert_eq!(Counter::lost_event(Kind::OomVictim as u16), Counter::ProcessEventsLost);
        assert_eq!(Counter::lost_event(Kind::FileOpen as u16), Counter::CauseEventsLost);
        assert_eq!(Counter::lost_event(Kind::CudaAllocFailed as u16), Counter::CudaEventsLost);
    }

    #[test]
    fn losses_of_evicted_accounts_are_not_forgotten() {
        let mut counts = [0; COUNT as usize];
        counts[Counter::BytesLostRing as usize] = 10;
        let processes = vec![(1, ProcessStats { lost_ring: 4, ..Default::default() })];
        let ledger = Ledger { kernel: Some(KernelCounts::new(counts)), processes, ..Default::default() };
        assert_eq!(ledger.to_json()["lost_bytes_of_nobody"], 6);
    }

    #[test]
    fn a_byte_that_is_nowhere_unbalances_the_ledger() {
        let mut pipeline = PipelineStats { received: 10, delivered: 8, repeated: 2, ..Default::default() };
        let ledger = |pipeline: &PipelineStats| Ledger { pipeline: pipeline.clone(), ..Default::default() };
        assert_eq!(ledger(&pipeline).balance(), Ok(()));
        pipeline.received += 1;
        assert!(ledger(&pipeline).balance().is_err());
        assert_eq!(ledger(&pipeline).to_json()["balanced"], false);
    }
}
