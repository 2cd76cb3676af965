//! The connection to a collector, and its repetition.
//!
//! Owns the order of things on a stream: Hello, Welcome, then batches as credit allows and acknowledgements as they come, in one
//! task. An acknowledgement moves the log's cursor, which is made durable every now and then and at the end of each stream. A
//! stream ends by itself after a minute or two, when the collector stalls, and when the exporter stops; whatever ends it, the
//! next begins where the collector says.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use inferscope_proto::v1::{
    Ack, AgentMessage, CollectorMessage, Hello, VERSION, agent_message::Message as ToCollector,
    collector_message::Message as FromCollector,
};
use tokio::{
    sync::{mpsc, watch},
    task::{JoinHandle, block_in_place},
    time::{Instant, sleep_until, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Status, Streaming, metadata::AsciiMetadataValue};

use super::{
    batch,
    connect::{client, endpoint, unavailable},
    session::{Fault, Session},
    settings::{ShipError, ShipSettings},
};
use crate::{
    export::otlp::{Backoff, Verdict, classify, entropy},
    kernel::clock,
    privacy::printable,
    wal::{Gap, GapReason, Reader},
};

/// Batches between the task and the connection. They are counted against the credit, so this bounds nothing else.
const CHANNEL: usize = 4;

/// Most items of a batch, so that one of tiny items does not take long to store.
const MAX_ITEMS: usize = 4096;

/// Longest that a collector can ask us to wait.
const MAX_PAUSE: Duration = Duration::from_secs(300);

/// How long the last note of the cursor may take after the time is over.
const LAST_NOTE: Duration = Duration::from_millis(500);

/// Longest piece of a collector's message that goes to the log.
const MAX_MESSAGE: usize = 200;

/// How the shipping goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShipCounts {
    /// Seqs of the log that the collector has dealt with in this life of the agent: what it stored, and what it was told is lost,
    /// too large or rejected.
    pub shipped: u64,
    /// Items that it will never store, by its own word.
    pub rejected: u64,
    /// Items that were sent without content, because they were too large with it.
    pub stripped: u64,
    /// Items that were too large even so.
    pub too_large: u64,
    /// Items that the log had lost: damaged, unreadable or evicted.
    pub lost: u64,
    /// Items that a collector had acknowledged and knows nothing of any more.
    pub forgotten: u64,
    /// Streams that had a Welcome.
    pub streams: u64,
    /// Attempts and streams that failed.
    pub failures: u64,
    /// Everything up to here is stored.
    pub durable_through: u64,
    /// Whether there is a stream at the moment.
    pub connected: bool,
}

/// A running exporter. Dropping it stops it at once; what is not acknowledged stays in the log.
#[derive(Debug)]
pub struct ShipExporter {
    counts: watch::Receiver<ShipCounts>,
    deadline: watch::Sender<Option<Instant>>,
    task: JoinHandle<()>,
}

impl ShipExporter {
    /// Starts the task on the current runtime, which must have more than one thread: the log is read in it. Does not wait for
    /// a connection: a collector that is away is no error.
    pub fn start(settings: ShipSettings, reader: Reader) -> Result<Self, ShipError> {
        // What cannot work is said at the start: a file that is not there is more often a mistake than on its way.
        endpoint(&settings)?;
        settings.read_token()?;
        let known = ShipCounts { durable_through: reader.acknowledged(), ..ShipCounts::default() };
        let (counts, watched) = watch::channel(known);
        let (deadline, stopping) = watch::channel(None);
        let durable = reader.durable();
        let most = *durable.borrow();
        let client = Client {
            durable,
            most,
            token: None,
            settings: Arc::new(settings),
            reader,
            counts,
            stopping,
            was: Was::Unknown,
        };
        Ok(Self { counts: watched, deadline, task: tokio::spawn(client.run()) })
    }

    /// How it goes.
    pub fn counts(&self) -> ShipCounts {
        *self.counts.borrow()
    }

    /// A view of the counts that outlives the exporter and can be waited on.
    pub fn watch(&self) -> watch::Receiver<ShipCounts> {
        self.counts.clone()
    }

    /// Sends what is in the log, but for no longer than `within`; the rest is sent after the next start.
    pub async fn shutdown(mut self, within: Duration) -> ShipCounts {
        let until = Instant::now() + within;
        self.deadline.send_replace(Some(until));
        // The task ends by itself when all is acknowledged.
        if tokio::time::timeout_at(until, &mut self.task).await.is_err() {
            self.task.abort();
            // A disk that hangs holds the task; it must not hold us.
            let _ = timeout(LAST_NOTE, &mut self.task).await;
        }
        self.counts()
    }
}

impl Drop for ShipExporter {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// How a stream ended.
enum End {
    /// By our own wish: there is another to be opened.
    Recycled,
    /// By our own wish, and all is done.
    Stopped,
    /// It broke, or was never made.
    Lost(Status),
    /// The collector speaks nonsense.
    Fault(Fault),
    /// What is on this host does not allow a connection.
    Local(ShipError),
}

/// What the last attempt showed, so that each change is logged once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Was {
    Unknown,
    Up,
    Away(Code),
    Faulty,
    Local,
}

struct Client {
    settings: Arc<ShipSettings>,
    reader: Reader,
    durable: watch::Receiver<u64>,
    counts: watch::Sender<ShipCounts>,
    /// No collector can have more of this log: what was durable at the start, or was sent since.
    most: u64,
    /// The token that was sent last. It is never logged, whoever echoes it.
    token: Option<String>,
    stopping: watch::Receiver<Option<Instant>>,
    was: Was,
}

/// The two directions of a stream.
struct Stream {
    out: mpsc::Sender<AgentMessage>,
    inbound: Streaming<CollectorMessage>,
}

impl Client {
    async fn run(mut self) {
        let tuning = self.settings.tuning.clone();
        let mut backoff = Backoff::new(tuning.backoff_first, tuning.backoff_longest);
        loop {
            let streams = self.counts.borrow().streams;
            let end = self.stream().await;
            self.note_cursor();
            self.counts.send_modify(|counts| counts.connected = false);
            if self.counts.borrow().streams > streams {
                backoff.reset();
            }
            let wait = match end {
                End::Stopped => return,
                End::Recycled => continue,
                End::Lost(status) => {
                    self.say_lost(&status);
                    match classify(&status) {
                        Verdict::Retry { after } => backoff.next(after, entropy()),
                        Verdict::Pause | Verdict::Shrink | Verdict::Refused => backoff.longest(entropy()),
                    }
                }
                End::Fault(fault) => {
                    let endpoint = &self.settings.endpoint;
                    if self.was != Was::Faulty {
                        tracing::error!(%endpoint, %fault, "the collector breaks the protocol; what it said is not believed");
                    }
                    self.was = Was::Faulty;
                    backoff.longest(entropy())
                }
                End::Local(error) => {
                    if self.was != Was::Local {
                        tracing::error!(
                            error = &error as &dyn std::error::Error,
                            "no connection to the collector can be made"
                        );
                    }
                    self.was = Was::Local;
                    backoff.longest(entropy())
                }
            };
            self.counts.send_modify(|counts| counts.failures += 1);
            if self.is_done() {
                return;
            }
            // Being told to stop is one more reason to try at once, and then never to wait again but for a moment.
            let stopping = self.stopping.borrow().is_some();
            tokio::select! {
                () = tokio::time::sleep(if stopping { tuning.backoff_first.min(wait) } else { wait }) => {}
                _ = self.stopping.wait_for(Option::is_some), if !stopping => {}
            }
        }
    }

    /// Whether the exporter is to stop and the collector has all there is.
    fn is_done(&self) -> bool {
        self.stopping.borrow().is_some() && self.counts.borrow().durable_through >= *self.durable.borrow()
    }

    /// One stream from its connection to its end.
    async fn stream(&mut self) -> End {
        let settings = Arc::clone(&self.settings);
        let opened = timeout(settings.tuning.connect, self.open()).await;
        let (mut stream, mut session) = match opened {
            Ok(Ok(opened)) => opened,
            Ok(Err(end)) => return end,
            Err(_) => return End::Lost(Status::deadline_exceeded("no Welcome within the deadline")),
        };
        if self.was != Was::Up {
            tracing::info!(endpoint = %settings.endpoint, "the collector takes calls");
        }
        self.was = Was::Up;
        self.counts.send_modify(|counts| {
            counts.streams += 1;
            counts.connected = true;
        });
        self.drive(&mut stream, &mut session).await
    }

    async fn open(&mut self) -> Result<(Stream, Session), End> {
        let endpoint = endpoint(&self.settings).map_err(End::Local)?;
        let token = self.settings.read_token().map_err(End::Local)?;
        self.token.clone_from(&token);
        let channel = endpoint.connect().await.map_err(|error| End::Lost(unavailable(&error)))?;
        let mut client = client(channel, self.settings.compression);
        let (out, messages) = mpsc::channel(CHANNEL);
        let next_seq = *self.durable.borrow_and_update() + 1;
        let oldest_seq = self.reader.oldest().min(next_seq);
        let hello = self.hello(oldest_seq, next_seq);
        // The channel is new: there is room.
        let _ = out.try_send(AgentMessage { message: Some(ToCollector::Hello(hello)) });
        let mut request = Request::new(ReceiverStream::new(messages));
        if let Some(mut token) = token.and_then(|token| AsciiMetadataValue::try_from(format!("Bearer {token}")).ok()) {
            token.set_sensitive(true);
            request.metadata_mut().insert("authorization", token);
        }
        let mut inbound = client.stream(request).await.map_err(End::Lost)?.into_inner();
        let welcome = match inbound.message().await.map_err(End::Lost)?.and_then(|message| message.message) {
            Some(FromCollector::Welcome(welcome)) => welcome,
            Some(_) => return Err(End::Fault(Fault::OutOfTurn)),
            None => return Err(End::Lost(Status::unavailable("the collector ended the stream before its Welcome"))),
        };
        // A log that was set back to an older copy reaches the numbers of what it had sent before: they are others' names then.
        let session = Session::begin(next_seq.min(self.most + 1), &welcome).map_err(End::Fault)?;
        let through = session.durable_through();
        self.stored(through);
        let next = session.sent_through() + 1;
        block_in_place(|| self.reader.rewind(next))
            .map_err(|error| End::Lost(Status::unavailable(error.to_string())))?;
        Ok((Stream { out, inbound }, session))
    }

    fn hello(&self, oldest_seq: u64, next_seq: u64) -> Hello {
        let identity = &self.settings.identity;
        let anchor = clock::anchor();
        Hello {
            version: VERSION,
            agent_id: identity.agent_id.clone(),
            epoch: Bytes::copy_from_slice(&self.settings.identity.epoch),
            oldest_seq,
            next_seq,
            resource: identity.resource.clone(),
            scope: identity.scope.clone(),
            time_unix_nano: anchor.unix_nanos,
            boot_time_nano: boot_nanos(),
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }

    /// Batches out and acknowledgements in, until something ends it.
    async fn drive(&mut self, stream: &mut Stream, session: &mut Session) -> End {
        let tuning = self.settings.tuning.clone();
        let recycle = Instant::now() + Backoff::new(tuning.recycle, tuning.recycle).longest(entropy());
        let mut progress = Instant::now();
        let mut noted = Instant::now();
        let mut next: Option<(AgentMessage, u64, u64)> = None;
        let mut not_before = Instant::now();
        // Nothing more is sent: what is under way is waited for.
        let mut ending = false;
        loop {
            let now = Instant::now();
            ending |= now >= recycle;
            if ending && next.is_none() && !session.is_waiting() {
                return End::Recycled;
            }
            if self.stopping.borrow().is_some() && session.durable_through() >= *self.durable.borrow() {
                return End::Stopped;
            }
            let may_send = !ending && next.is_none() && now >= not_before;
            if may_send && let Some(room) = session.room() {
                next = match block_in_place(|| self.next_batch(room, session)) {
                    Ok(next) => next,
                    Err(error) => {
                        tracing::error!(%error, "the log cannot be read; trying again");
                        not_before = now + tuning.backoff_longest;
                        None
                    }
                };
            }
            let is_idle = next.is_none();
            let stalled = if session.is_waiting() { progress + tuning.stall } else { recycle.max(now) + tuning.stall };
            tokio::select! {
                biased;
                message = stream.inbound.message() => match message {
                    Ok(Some(CollectorMessage { message: Some(FromCollector::Ack(ack)) })) => {
                        progress = Instant::now();
                        let moved = match session.acknowledged(&ack) {
                            Ok(moved) => moved,
                            Err(fault) => return End::Fault(fault),
                        };
                        if moved {
                            self.stored(session.durable_through());
                        }
                        self.rejected(&ack);
                        if ack.retry_after_ms > 0 {
                            let pause = Duration::from_millis(ack.retry_after_ms.into()).min(MAX_PAUSE);
                            not_before = Instant::now() + pause;
                        }
                        if moved && noted.elapsed() >= tuning.note {
                            noted = Instant::now();
                            self.note_cursor();
                        }
                    }
                    Ok(Some(CollectorMessage { message: Some(FromCollector::Welcome(_)) })) => {
                        return End::Fault(Fault::OutOfTurn);
                    }
                    // A message of a later version: not for us.
                    Ok(Some(CollectorMessage { message: None })) => {}
                    Ok(None) => return End::Lost(Status::unavailable("the collector ended the stream")),
                    Err(status) => return End::Lost(status),
                },
                permit = stream.out.reserve(), if next.is_some() => {
                    let Ok(permit) = permit else { return End::Lost(Status::unavailable("the stream broke")) };
                    if let Some((message, last_seq, bytes)) = next.take() {
                        if !session.is_waiting() {
                            progress = Instant::now();
                        }
                        session.sent(last_seq, bytes);
                        self.most = self.most.max(last_seq);
                        permit.send(message);
                    }
                }
                changed = self.durable.changed(), if is_idle && !ending => {
                    // The log is closed: nothing new will come, and what is there is sent.
                    if changed.is_err() {
                        tokio::select! {
                            _ = self.stopping.changed() => {}
                            () = tokio::time::sleep(tuning.note) => {}
                        }
                    }
                }
                changed = self.stopping.changed() => {
                    // Nobody is left to ask for anything.
                    if changed.is_err() {
                        return End::Stopped;
                    }
                }
                () = sleep_until(not_before), if is_idle && now < not_before => {}
                () = sleep_until(recycle), if !ending => {}
                () = sleep_until(stalled), if session.is_waiting() => {
                    return End::Lost(Status::deadline_exceeded("nothing was acknowledged for too long"));
                }
            }
        }
    }

    /// The next batch with its last seq and its size, if there is anything to send.
    fn next_batch(&mut self, room: u64, session: &Session) -> std::io::Result<Option<(AgentMessage, u64, u64)>> {
        let bytes = usize::try_from(room).unwrap_or(usize::MAX);
        let Some(run) = self.reader.next(bytes, MAX_ITEMS)? else { return Ok(None) };
        let last_seq = run.last_seq;
        let gone = |forgotten| {
            let of = |gap: &&Gap| (gap.reason == GapReason::Acknowledged) == forgotten;
            run.gaps.iter().filter(of).map(Gap::items).sum::<u64>()
        };
        let (lost, forgotten) = (gone(false), gone(true));
        if forgotten > 0 {
            tracing::warn!(endpoint = %self.settings.endpoint, items = forgotten,
                "the collector no longer has what it had acknowledged, and the log has dropped it since");
        }
        let (batch, fitted) = batch::of(run, session.most());
        self.counts.send_modify(|counts| {
            counts.lost += lost;
            counts.forgotten += forgotten;
            counts.stripped += fitted.stripped;
            counts.too_large += fitted.too_large;
        });
        let size = batch::size(&batch);
        Ok(Some((AgentMessage { message: Some(ToCollector::Batch(batch)) }, last_seq, size)))
    }

    /// The collector has everything up to here.
    fn stored(&self, through: u64) {
        self.counts.send_modify(|counts| {
            counts.shipped += through.saturating_sub(counts.durable_through);
            counts.durable_through = counts.durable_through.max(through);
        });
    }

    fn rejected(&self, ack: &Ack) {
        let Some(first) = ack.rejected.first() else { return };
        self.counts.send_modify(|counts| counts.rejected += ack.rejected.len() as u64);
        let message = self.loggable(&first.message);
        tracing::warn!(endpoint = %self.settings.endpoint, items = ack.rejected.len(), seq = first.seq,
            reason = first.reason, message, "the collector does not store some items");
    }

    /// Makes the cursor durable, so that what is stored is not sent again and its room is free.
    fn note_cursor(&mut self) {
        let through = self.counts.borrow().durable_through;
        if let Err(error) = block_in_place(|| self.reader.advance(through)) {
            tracing::warn!(%error, "the log's cursor cannot be written; what was acknowledged may be sent again");
        }
    }

    /// A collector's message, safe to log: what stands before one has been seen to echo the credentials that it refuses.
    fn loggable(&self, message: &str) -> String {
        let message = match &self.token {
            Some(token) => message.replace(token.as_str(), "[redacted]"),
            None => message.to_owned(),
        };
        printable(&message).chars().take(MAX_MESSAGE).collect()
    }

    fn say_lost(&mut self, status: &Status) {
        let was = Was::Away(status.code());
        if std::mem::replace(&mut self.was, was) == was {
            return;
        }
        let message = self.loggable(status.message());
        let (endpoint, code) = (&self.settings.endpoint, status.code());
        match code {
            Code::Unauthenticated | Code::PermissionDenied => {
                tracing::error!(%endpoint, ?code, message, "the collector does not accept this agent; calls wait in the log");
            }
            _ => tracing::warn!(%endpoint, ?code, message, "the collector is away; calls wait in the log"),
        }
    }
}

/// Nanoseconds since the host was started, time in suspend included.
fn boot_nanos() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    u64::try_from(time.tv_sec).unwrap_or(0).saturating_mul(1_000_000_000).saturating_add(time.tv_nsec as u64)
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
