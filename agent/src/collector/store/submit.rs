//! What is handed to the store, and what comes back.
//!
//! Owns the shapes and what a batch must be before any of it is looked at. Bytes are reference-counted and never copied
//! on their way to the writer.

use std::sync::Arc;

use inferscope_proto::{
    Message as _,
    otlp::{common::any_value::Value as Any, resource::Resource},
    v1,
};
use sha2::{Digest as _, Sha256};
use tokio::sync::oneshot;
use tonic::codegen::Bytes;

use super::error::StoreError;
use crate::export::attributes::HOST_NAME;

/// Bytes of an epoch.
pub type Epoch = [u8; v1::EPOCH_BYTES];

/// What becomes of a submission.
pub type Reply = oneshot::Sender<Result<Committed, StoreError>>;

/// Bytes that an item of a submission takes beside its payload, as a part of the queue's bound.
const ITEM_OVERHEAD: usize = 64;

/// Longest id of an agent, bytes.
pub const MAX_AGENT_ID: usize = 255;

/// Something to store.
#[derive(Debug)]
pub enum Submission {
    /// What an agent ships: stored once by (agent, epoch, seq).
    Batch(Batch),
    /// Spans without seqs: stored once by their ids and the hour of their start, which is the same when they are sent
    /// again.
    Spans(Spans),
    /// An agent was heard of.
    Agent(AgentSeen),
    /// Somebody reads content.
    Audit(Audit),
}

/// A run of an agent's items, as a `Batch` of `ship.proto`.
#[derive(Debug)]
pub struct Batch {
    /// Who ships it: 1 to 255 bytes.
    pub agent_id: Arc<str>,
    /// The life of its log.
    pub epoch: Epoch,
    /// Its first seq, from 1.
    pub first_seq: u64,
    /// Its last seq.
    pub last_seq: u64,
    /// What is there, by seq.
    pub items: Vec<Item>,
    /// What is not, by seq.
    pub gaps: Vec<Gap>,
    /// What the items come from.
    pub source: Arc<Source>,
    /// Told when it is on stable storage, or why it is not.
    pub reply: Reply,
}

/// One item.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// Its seq.
    pub seq: u64,
    /// An `inferscope.v1.ItemKind`, also one that is not known.
    pub kind: i32,
    /// What its kind says, encoded.
    pub payload: Bytes,
    /// CRC-32C of the payload.
    pub crc32c: u32,
}

/// Seqs that nobody will send any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The first of them.
    pub first_seq: u64,
    /// The last.
    pub last_seq: u64,
    /// An `inferscope.v1.GapReason`.
    pub reason: i32,
}

/// Spans without seqs, as they come by OTLP.
#[derive(Debug)]
pub struct Spans {
    /// What they come from.
    pub source: Arc<Source>,
    /// Encoded `opentelemetry.proto.trace.v1.Span` messages.
    pub spans: Vec<Bytes>,
    /// Told when they are on stable storage. A rejected span is named by its place in `spans`, from 0.
    pub reply: Reply,
}

/// An agent was heard of: it opened a stream.
#[derive(Debug)]
pub struct AgentSeen {
    /// Who: 1 to 255 bytes.
    pub agent_id: Arc<str>,
    /// The life of its log.
    pub epoch: Epoch,
    /// Its program's version, empty for not told.
    pub version: String,
    /// Its wall clock, nanoseconds since the Unix epoch; 0 for not told.
    pub time_unix_nano: u64,
    /// Its `CLOCK_BOOTTIME`, nanoseconds; 0 for not told.
    pub boot_time_nano: u64,
    /// The collector's wall clock when it was told, nanoseconds since the Unix epoch.
    pub received_unix_nano: u64,
    /// What its spans come from.
    pub source: Arc<Source>,
    /// Told when it is stored; dropped unread where nobody waits.
    pub reply: Reply,
}

/// Somebody reads content, or does something else that is to be known later.
#[derive(Debug)]
pub struct Audit {
    /// Who: a name, or where the request came from. The first 256 bytes are kept.
    pub who: String,
    /// What is done, likewise.
    pub action: String,
    /// Of which span.
    pub span: Option<([u8; 16], [u8; 8])>,
    /// Told when it is stored: before that, nothing should be shown.
    pub reply: Reply,
}

/// What spans come from.
#[derive(Clone, Debug, PartialEq)]
pub struct Source {
    pub(super) resource: Bytes,
    pub(super) scope: Bytes,
    pub(super) host: Option<String>,
    pub(super) digest: [u8; 32],
}

impl Source {
    /// Of an encoded `Resource` and an encoded `InstrumentationScope`. A resource that does not decode names no host.
    pub fn new(resource: Bytes, scope: Bytes) -> Self {
        let host = Resource::decode(&resource[..]).ok().and_then(|resource| {
            let host = resource.attributes.into_iter().find(|attribute| attribute.key == HOST_NAME)?;
            match host.value?.value? {
                Any::StringValue(name) if !name.is_empty() => Some(name),
                _ => None,
            }
        });
        let mut digest = Sha256::new();
        digest.update((resource.len() as u64).to_be_bytes());
        digest.update(&resource);
        digest.update(&scope);
        Self { resource, scope, host, digest: digest.finalize().into() }
    }

    /// The host, as the resource names it.
    pub fn host(&self) -> Option<&str> {
        self.host.as_deref()
    }
}

/// What is on stable storage now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Committed {
    /// Everything of the epoch up to here, but for what was rejected; 0 of spans without seqs.
    pub durable_through: u64,
    /// Spans that were stored now.
    pub stored: u64,
    /// What was stored before: items at or below the high-water mark, and spans whose ids are known.
    pub duplicates: u64,
    /// What is not stored, and never will be unchanged.
    pub rejected: Vec<Rejection>,
}

/// An item that is not stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// Its seq, or its place among spans without seqs.
    pub seq: u64,
    /// Why.
    pub reason: v1::RejectReason,
    /// For people.
    pub message: &'static str,
}

impl Submission {
    /// Bytes that it holds, as the queue counts them.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Batch(batch) => {
                let payloads: usize = batch.items.iter().map(|item| item.payload.len() + ITEM_OVERHEAD).sum();
                payloads + (batch.gaps.len() + 1) * ITEM_OVERHEAD
            }
            Self::Spans(spans) => spans.spans.iter().map(|span| span.len() + ITEM_OVERHEAD).sum(),
            Self::Agent(seen) => {
                seen.version.len() + seen.source.resource.len() + seen.source.scope.len() + ITEM_OVERHEAD
            }
            Self::Audit(audit) => audit.who.len() + audit.action.len() + ITEM_OVERHEAD,
        }
    }

    /// Items in it.
    pub(super) fn items(&self) -> usize {
        match self {
            Self::Batch(batch) => batch.items.len(),
            Self::Spans(spans) => spans.spans.len(),
            Self::Agent(_) | Self::Audit(_) => 0,
        }
    }

    /// Tells what became of it. Whoever does not wait any more learns it from the high-water mark.
    pub(super) fn answer(self, result: Result<Committed, StoreError>) {
        let (Self::Batch(Batch { reply, .. })
        | Self::Spans(Spans { reply, .. })
        | Self::Agent(AgentSeen { reply, .. })
        | Self::Audit(Audit { reply, .. })) = self;
        let _ = reply.send(result);
    }
}

impl Batch {
    /// Whether every seq from the first to the last is in it once, in ascending order.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        let Self { agent_id, first_seq, last_seq, items, gaps, .. } = self;
        let wrong = |reason| Err(StoreError::Malformed { reason });
        if agent_id.is_empty() || agent_id.len() > MAX_AGENT_ID {
            return wrong("an agent's id has 1 to 255 bytes");
        }
        if *first_seq == 0 || first_seq > last_seq || i64::try_from(*last_seq).is_err() {
            return wrong("seqs begin at 1 and ascend");
        }
        let (mut items, mut gaps) = (items.iter().peekable(), gaps.iter().peekable());
        let mut next = *first_seq;
        while next <= *last_seq {
            if items.next_if(|item| item.seq == next).is_some() {
                next += 1;
            } else if let Some(gap) = gaps.next_if(|gap| gap.first_seq == next && gap.last_seq >= next) {
                next = match gap.last_seq {
                    last if last <= *last_seq => last + 1,
                    _ => return wrong("a gap ends beyond the last seq"),
                };
            } else {
                return wrong("a seq is neither an item nor in a gap, or not in its place");
            }
        }
        match (items.peek(), gaps.peek()) {
            (None, None) => Ok(()),
            _ => wrong("an item or a gap is beyond the last seq, or there twice"),
        }
    }
}

impl From<Batch> for Submission {
    fn from(batch: Batch) -> Self {
        Self::Batch(batch)
    }
}

impl From<Spans> for Submission {
    fn from(spans: Spans) -> Self {
        Self::Spans(spans)
    }
}

impl From<AgentSeen> for Submission {
    fn from(seen: AgentSeen) -> Self {
        Self::Agent(seen)
    }
}

impl From<Audit> for Submission {
    fn from(audit: Audit) -> Self {
        Self::Audit(audit)
    }
}
