//! `inferscope.v1.Ship`: what agents have made durable, stored once.
//!
//! Owns a task for each stream: its Hello, who may open it, batches into the store, and acknowledgements of what the store has
//! committed. What is under way is bounded by the credit that is given, all streams together; a new stream of an agent ends the one
//! before, which is most often a connection that only one of the two knows to be dead.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use inferscope_proto::{
    Message as _,
    v1::{
        Ack, AgentMessage, Batch, CollectorMessage, EPOCH_BYTES, Hello, Rejected, VERSION, Welcome,
        agent_message::Message as FromAgent, collector_message::Message as ToAgent, ship_server::Ship,
    },
};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::spawn_blocking,
    time::{Instant, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::{
    auth::{self, Denied, Peer, Tokens},
    fresh::Fresh,
    intake::{Intake, Refusal},
    store::{self, AgentSeen, Committed, Ingest, Source, StoreError},
};
use crate::kernel::clock;

/// Largest batch that is taken: what gRPC receivers take unless told otherwise.
pub const MAX_BATCH: u64 = 4 << 20;

/// A batch within its message.
pub const MAX_MESSAGE: usize = MAX_BATCH as usize + 64;

/// Credit of all streams together: half of what the store's queue holds, which counts more for an item than its batch does.
const CREDIT: u64 = QUEUE_BYTES as u64 / 2;

/// Credit of one stream at most: some thousand calls, which is more than the store commits at once.
const MOST_CREDIT: u64 = 4 << 20;

/// Credit of one stream at least, however many there are.
const LEAST_CREDIT: u64 = 16 << 10;

/// Streams at one time.
const MAX_STREAMS: usize = 4096;

/// Bytes of submissions that wait for the store.
pub const QUEUE_BYTES: usize = 128 << 20;

/// Largest resource with its scope, encoded: they are kept for each stream and shown with each call.
pub const MAX_SOURCE: usize = 64 << 10;

/// How often a stream's right to be there is looked at again: a token may be withdrawn.
const RECHECK: Duration = Duration::from_secs(30);

/// Between a stream's beginning and its Hello.
const HELLO: Duration = Duration::from_secs(10);

/// How long an agent is asked to stay away when there are too many streams.
const CROWDED: &str = "too many streams; try again later";

/// Said of a store whose queue is full.
const NO_ROOM: &str = "the store has no room at the moment";

/// Answers between a stream's task and its connection.
const CHANNEL: usize = 16;

/// Longest agent id, bytes.
const MAX_AGENT_ID: usize = 255;

/// What the store says of a batch.
type Answer = oneshot::Receiver<Result<Committed, StoreError>>;

/// One agent's life of its log.
type Key = (Arc<str>, [u8; EPOCH_BYTES]);

/// The service.
#[derive(Clone)]
pub struct ShipService {
    shared: Arc<Shared>,
}

struct Shared {
    ingest: Ingest,
    tokens: Arc<Fresh<Tokens>>,
    stopping: watch::Receiver<bool>,
    streams: Mutex<Streams>,
}

#[derive(Default)]
struct Streams {
    /// Each ends when its sender is dropped.
    by_agent: HashMap<Key, (u64, oneshot::Sender<()>)>,
    numbered: u64,
}

impl ShipService {
    /// A service that stores in `ingest` until it is told to stop.
    pub fn new(ingest: Ingest, tokens: Arc<Fresh<Tokens>>, stopping: watch::Receiver<bool>) -> Self {
        Self { shared: Arc::new(Shared { ingest, tokens, stopping, streams: Mutex::default() }) }
    }
}

impl Shared {
    // Every change is complete before anything that could panic: a poisoned lock guards good data.
    fn streams(&self) -> MutexGuard<'_, Streams> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What one stream may have under way, with as many as there are.
    fn window(&self) -> u64 {
        let streams = self.streams().by_agent.len().max(1) as u64;
        (CREDIT / streams).clamp(LEAST_CREDIT, MOST_CREDIT)
    }

    /// Enters a stream, and ends another of the same agent.
    fn enter(self: &Arc<Self>, key: Key) -> Option<(Place, oneshot::Receiver<()>)> {
        let (sender, ended) = oneshot::channel();
        let mut streams = self.streams();
        if streams.by_agent.len() >= MAX_STREAMS && !streams.by_agent.contains_key(&key) {
            return None;
        }
        streams.numbered += 1;
        let number = streams.numbered;
        streams.by_agent.insert(key.clone(), (number, sender));
        Some((Place { shared: Arc::clone(self), key, number }, ended))
    }
}

/// A stream's place among the others, until it is dropped.
struct Place {
    shared: Arc<Shared>,
    key: Key,
    number: u64,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut streams = self.shared.streams();
        // A later stream has taken the place: it is not ours to give up.
        if streams.by_agent.get(&self.key).is_some_and(|(number, _)| *number == self.number) {
            streams.by_agent.remove(&self.key);
        }
    }
}

#[tonic::async_trait]
impl Ship for ShipService {
    type StreamStream = ReceiverStream<Result<CollectorMessage, Status>>;

    async fn stream(&self, request: Request<Streaming<AgentMessage>>) -> Result<Response<Self::StreamStream>, Status> {
        let peer = request.extensions().get::<Peer>().cloned().unwrap_or_default();
        let authorization = request.metadata().get("authorization").and_then(|value| value.to_str().ok());
        let authorization = authorization.map(str::to_owned);
        let mut inbound = request.into_inner();
        let first = timeout(HELLO, inbound.message()).await.map_err(|_| Status::deadline_exceeded("no Hello"))??;
        let Some(AgentMessage { message: Some(FromAgent::Hello(hello)) }) = first else {
            return Err(Status::invalid_argument("the first message of a stream is a Hello"));
        };
        let key = check_hello(&hello)?;
        auth::may_ship(&self.shared.tokens.get(), &peer, authorization.as_deref(), Some(&key.0)).map_err(denied)?;
        let Some((place, ended)) = self.shared.enter(key.clone()) else { return Err(Status::unavailable(CROWDED)) };
        self.seen(&key, &hello)?;
        let through = spawn_blocking({
            let (ingest, key) = (self.shared.ingest.clone(), key.clone());
            move || ingest.high_water(&key.0, &key.1)
        })
        .await
        .map_err(|_| Status::internal("the store failed"))?
        .map_err(|error| failed(&error))?;
        // Stored before by an agent of this name and epoch that had more than this one has: one of the two is a copy, or its
        // log was set back. To go on would drop what it captures from now on for a repetition.
        if through >= hello.next_seq.max(1) {
            return Err(Status::failed_precondition(format!(
                "agent {} says that its next seq is {}, but {through} of this epoch is stored: its log is an older copy",
                key.0, hello.next_seq,
            )));
        }
        let window = self.shared.window();
        let (out, answers) = mpsc::channel(CHANNEL);
        let welcome = Welcome {
            version: VERSION,
            durable_through: through,
            credit_bytes: window,
            max_batch_bytes: MAX_BATCH,
            time_unix_nano: clock::anchor().unix_nanos,
        };
        // The channel is new: there is room.
        let _ = out.try_send(Ok(CollectorMessage { message: Some(ToAgent::Welcome(welcome)) }));
        let stream = Stream {
            source: source(&hello),
            agent_id: key.0,
            epoch: key.1,
            intake: Intake::begin(through, window),
            pending: VecDeque::new(),
            out,
            place,
            peer,
            authorization,
        };
        tokio::spawn(stream.run(inbound, ended));
        Ok(Response::new(ReceiverStream::new(answers)))
    }
}

impl ShipService {
    /// Notes that an agent was heard of. That it is stored is not waited for.
    fn seen(&self, key: &Key, hello: &Hello) -> Result<(), Status> {
        let (reply, _unread) = oneshot::channel();
        let seen = AgentSeen {
            agent_id: Arc::clone(&key.0),
            epoch: key.1,
            version: hello.agent_version.clone(),
            time_unix_nano: hello.time_unix_nano,
            boot_time_nano: hello.boot_time_nano,
            received_unix_nano: clock::anchor().unix_nanos,
            source: source(hello),
            reply,
        };
        self.shared.ingest.offer(seen).map_err(|_| Status::unavailable(NO_ROOM))
    }
}

fn check_hello(hello: &Hello) -> Result<Key, Status> {
    if hello.version == 0 {
        return Err(Status::invalid_argument("Hello has no version"));
    }
    if hello.agent_id.is_empty() || hello.agent_id.len() > MAX_AGENT_ID {
        return Err(Status::invalid_argument("an agent id has 1 to 255 bytes"));
    }
    let epoch = <[u8; EPOCH_BYTES]>::try_from(hello.epoch.as_ref())
        .map_err(|_| Status::invalid_argument("an epoch has 16 bytes"))?;
    if hello.resource.len() + hello.scope.len() > MAX_SOURCE {
        return Err(Status::invalid_argument("a resource and its scope have 64 KiB at most"));
    }
    Ok((Arc::from(hello.agent_id.as_str()), epoch))
}

fn source(hello: &Hello) -> Arc<Source> {
    Arc::new(Source::new(hello.resource.clone(), hello.scope.clone()))
}

pub(super) fn denied(denied: Denied) -> Status {
    match denied {
        Denied::Unknown => Status::unauthenticated(denied.to_string()),
        Denied::Role | Denied::Agent => Status::permission_denied(denied.to_string()),
    }
}

/// Why the store has not taken something. What is wrong with its disk is for the collector's own log.
pub(super) fn failed(error: &StoreError) -> Status {
    match error {
        StoreError::Hole { .. } => Status::failed_precondition(error.to_string()),
        StoreError::Malformed { .. } => Status::invalid_argument(error.to_string()),
        StoreError::Disk { .. } | StoreError::Closed => {
            tracing::error!(%error, "the store takes nothing");
            Status::unavailable("the store takes nothing at the moment")
        }
    }
}

/// One stream, after its Welcome.
struct Stream {
    agent_id: Arc<str>,
    epoch: [u8; EPOCH_BYTES],
    source: Arc<Source>,
    intake: Intake,
    /// Batches that the store has not answered for, with their sizes, in the order of their seqs.
    pending: VecDeque<(u64, Answer)>,
    out: mpsc::Sender<Result<CollectorMessage, Status>>,
    place: Place,
    peer: Peer,
    authorization: Option<String>,
}

impl Stream {
    async fn run(mut self, mut inbound: Streaming<AgentMessage>, mut ended: oneshot::Receiver<()>) {
        let out = self.out.clone();
        let end = tokio::select! {
            end = self.serve(&mut inbound) => end,
            // Its sender was dropped: there is another stream.
            _ = &mut ended => Err(Status::aborted("another stream of this agent and epoch was opened")),
            () = out.closed() => return,
        };
        if let Err(status) = end {
            // Nobody is left to be told when this fails.
            let _ = out.send(Err(status)).await;
        }
    }

    async fn serve(&mut self, inbound: &mut Streaming<AgentMessage>) -> Result<(), Status> {
        let mut stopping = self.place.shared.stopping.clone();
        let (mut is_open, mut is_stopping) = (true, false);
        let mut recheck = tokio::time::interval_at(Instant::now() + RECHECK, RECHECK);
        while is_open || !self.pending.is_empty() {
            tokio::select! {
                biased;
                committed = front(&mut self.pending), if !self.pending.is_empty() => self.committed(committed).await?,
                message = inbound.message(), if is_open => match message?.and_then(|message| message.message) {
                    Some(FromAgent::Batch(batch)) => self.batch(batch)?,
                    Some(FromAgent::Hello(_)) => return Err(Status::invalid_argument("Hello comes once")),
                    None => is_open = false,
                },
                _ = recheck.tick() => {
                    let tokens = self.place.shared.tokens.get();
                    auth::may_ship(&tokens, &self.peer, self.authorization.as_deref(), Some(&self.agent_id))
                        .map_err(denied)?;
                }
                // What has come is stored and acknowledged; the agent has the rest.
                () = stopped(&mut stopping), if is_open => (is_open, is_stopping) = (false, true),
            }
        }
        match is_stopping {
            true => Err(Status::unavailable("the collector is ending")),
            false => Ok(()),
        }
    }

    fn batch(&mut self, batch: Batch) -> Result<(), Status> {
        let size = batch.encoded_len() as u64;
        self.intake.accept(&batch, size).map_err(|refusal| match refusal {
            Refusal::Hole { .. } => Status::failed_precondition(refusal.to_string()),
            Refusal::Cover { .. } => Status::invalid_argument(refusal.to_string()),
            Refusal::Credit { .. } => Status::resource_exhausted(refusal.to_string()),
        })?;
        let Batch { first_seq, last_seq, items, gaps } = batch;
        let (reply, committed) = oneshot::channel();
        let items = items.into_iter().map(|item| store::Item {
            seq: item.seq,
            kind: item.kind,
            payload: item.payload,
            crc32c: item.crc32c,
        });
        let gaps = gaps.into_iter().map(|gap| store::Gap {
            first_seq: gap.first_seq,
            last_seq: gap.last_seq,
            reason: gap.reason,
        });
        let batch = store::Batch {
            agent_id: Arc::clone(&self.agent_id),
            epoch: self.epoch,
            first_seq,
            last_seq,
            items: items.collect(),
            gaps: gaps.collect(),
            source: Arc::clone(&self.source),
            reply,
        };
        // Within the credit there is room; if there is none, others have overdrawn theirs by single large items.
        self.place.shared.ingest.offer(batch).map_err(|_| Status::unavailable(NO_ROOM))?;
        self.pending.push_back((size, committed));
        Ok(())
    }

    /// The store has answered for the oldest batch.
    async fn committed(
        &mut self,
        committed: Result<Result<Committed, StoreError>, oneshot::error::RecvError>,
    ) -> Result<(), Status> {
        let size = self.pending.pop_front().map_or(0, |(size, _)| size);
        let committed = committed.map_err(|_| Status::unavailable("the collector is ending"))?;
        let done = match committed {
            Ok(done) => done,
            Err(error) => return Err(failed(&error)),
        };
        let window = self.place.shared.window();
        let ack = Ack {
            durable_through: done.durable_through,
            rejected: done.rejected.iter().map(rejected).collect(),
            credit_bytes: self.intake.stored(size, window),
            retry_after_ms: 0,
        };
        let message = CollectorMessage { message: Some(ToAgent::Ack(ack)) };
        self.out.send(Ok(message)).await.map_err(|_| Status::cancelled("the agent is gone"))
    }
}

fn rejected(item: &store::Rejection) -> Rejected {
    Rejected { seq: item.seq, reason: item.reason.into(), message: item.message.to_owned() }
}

/// Resolves when the collector is to end.
async fn stopped(stopping: &mut watch::Receiver<bool>) {
    // An error is its sender's end, which is the same.
    let _ = stopping.wait_for(|stop| *stop).await;
}

async fn front(
    pending: &mut VecDeque<(u64, Answer)>,
) -> Result<Result<Committed, StoreError>, oneshot::error::RecvError> {
    match pending.front_mut() {
        Some((_, committed)) => committed.await,
        None => std::future::pending().await,
    }
}
