//! The front: the engine's HTTP server, and what it knows of each request.
//!
//! Owns the requests between their heads and their lines in the log. One thread, as the event loop of a Python server:
//! it hands each event to a connection that has room for one, and writes it before it makes the next, so that each token
//! is one write. Sockets and processes are `serve`'s business.

use std::{
    collections::{BTreeSet, HashMap},
    convert::Infallible,
    fs::{File, OpenOptions},
    io::Write as _,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use anyhow::{Context as _, Result};
use http_body_util::{BodyExt as _, Either, Full, Limited};
use hyper::{
    Method, Request as HttpRequest, Response, StatusCode,
    body::{Body, Bytes, Frame, Incoming},
    header::{CONTENT_TYPE, HeaderValue},
};
use serde_json::{Value, json};
use tokio::sync::{Notify, mpsc, oneshot};

use super::{
    answer::{Answer, MAX_OUTPUT, NOTE, Request, error, failed},
    batch::Asked,
    books::{Account, Closed, Left},
    message::{Fault, FromCore, ToCore},
    timeline::now_ns,
    truth::{Finish, Pids, REQUESTS, RequestTruth, line_of},
};

/// Largest request body that is read.
const MAX_BODY: usize = 16 << 20;

/// Requests under way; more are refused.
pub const MAX_IN_FLIGHT: usize = 4_096;

/// What the core can say of one request that the front has not taken yet: its tokens and its end.
const MAX_EVENTS: usize = MAX_OUTPUT as usize + 1;

/// What the core said of one request.
enum Event {
    Token,
    Closed(Closed),
}

/// The body of a stream: events as they are made.
pub struct Events(mpsc::Receiver<Bytes>);

impl Body for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}

/// An answer's body.
pub type AnswerBody = Either<Full<Bytes>, Events>;

/// Where an answer goes. Both ends close when the connection does.
enum Sink {
    Stream(mpsc::Sender<Bytes>),
    Whole(oneshot::Sender<Response<AnswerBody>>),
}

impl Sink {
    /// Returns when the client has gone.
    async fn closed(&mut self) {
        match self {
            Self::Stream(sender) => sender.closed().await,
            Self::Whole(sender) => sender.closed().await,
        }
    }
}

/// The front's state.
pub struct Front {
    /// Who is who.
    pub pids: Pids,
    model: String,
    ignore_disconnect: bool,
    to_core: mpsc::Sender<ToCore>,
    /// Requests that the core has; `None` once it has ended.
    live: Mutex<Option<HashMap<u64, mpsc::Sender<Event>>>>,
    /// Requests that are not answered yet.
    n_open: AtomicUsize,
    /// Requests whose task has not ended.
    n_tasks: AtomicUsize,
    /// Told when the last task ends.
    quiet: Notify,
    stopping: AtomicBool,
    next: AtomicU64,
    started_ns: u64,
    log: Mutex<File>,
}

impl Front {
    /// A front that logs into `dir`.
    pub fn new(
        pids: Pids,
        model: String,
        ignore_disconnect: bool,
        dir: &std::path::Path,
        to_core: mpsc::Sender<ToCore>,
    ) -> Result<Self> {
        let path = dir.join(REQUESTS);
        let log = OpenOptions::new().append(true).create(true).open(&path);
        Ok(Self {
            pids,
            model,
            ignore_disconnect,
            to_core,
            live: Mutex::new(Some(HashMap::new())),
            n_open: AtomicUsize::new(0),
            n_tasks: AtomicUsize::new(0),
            quiet: Notify::new(),
            stopping: AtomicBool::new(false),
            next: AtomicU64::new(1),
            started_ns: now_ns(),
            log: Mutex::new(log.with_context(|| format!("cannot write {}", path.display()))?),
        })
    }

    /// Answers one request.
    pub async fn respond(self: Arc<Self>, request: HttpRequest<Incoming>) -> Result<Response<AnswerBody>, Infallible> {
        let arrival_ns = now_ns();
        let route = (request.method().clone(), request.uri().path().to_owned());
        Ok(match (&route.0, route.1.as_str()) {
            (&Method::POST, "/v1/chat/completions") => self.complete(request, arrival_ns).await,
            (&Method::POST, "/control") => self.control(request).await,
            (&Method::GET, "/v1/models") => {
                let model =
                    json!({"id": self.model, "object": "model", "created": 1_700_000_000, "owned_by": "inferscope"});
                whole(StatusCode::OK, &json!({"object": "list", "data": [model]}))
            }
            (&Method::GET, "/health") => match *self.live() {
                Some(_) => whole(StatusCode::OK, &json!({"status": "ok", "note": NOTE})),
                None => refused(StatusCode::SERVICE_UNAVAILABLE, "the engine core has ended"),
            },
            _ => refused(StatusCode::NOT_FOUND, "no such page"),
        })
    }

    async fn control(&self, request: HttpRequest<Incoming>) -> Response<AnswerBody> {
        let body = Limited::new(request.into_body(), MAX_BODY).collect().await;
        let fault = body.ok().and_then(|body| serde_json::from_slice::<Fault>(&body.to_bytes()).ok());
        let Some(fault) = fault else { return refused(StatusCode::BAD_REQUEST, "not a fault") };
        match self.to_core.send(ToCore::Fault(fault)).await {
            Ok(()) => whole(StatusCode::OK, &json!({"status": "sent"})),
            Err(_) => refused(StatusCode::SERVICE_UNAVAILABLE, "the engine core has ended"),
        }
    }

    async fn complete(self: Arc<Self>, request: HttpRequest<Incoming>, arrival_ns: u64) -> Response<AnswerBody> {
        let Ok(body) = Limited::new(request.into_body(), MAX_BODY).collect().await else {
            return refused(StatusCode::BAD_REQUEST, "the body did not come whole");
        };
        let request = match Request::parse(&body.to_bytes()) {
            Ok(request) => request,
            Err(why) => return refused(StatusCode::BAD_REQUEST, &why),
        };
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, events) = mpsc::channel(MAX_EVENTS);
        {
            let mut live = self.live();
            let Some(live) = live.as_mut() else {
                return refused(StatusCode::SERVICE_UNAVAILABLE, "the engine core has ended");
            };
            if live.len() >= MAX_IN_FLIGHT {
                return refused(StatusCode::SERVICE_UNAVAILABLE, "too many requests");
            }
            live.insert(number, sender);
        }
        let in_flight = self.n_open.fetch_add(1, Ordering::Relaxed);
        let Request { prompt, cached, output, stream, .. } = request;
        let id = format!("chatcmpl-{:x}-{:x}-{number:x}", self.pids.front, self.started_ns);
        let answer = Answer { id, model: self.model.clone(), request };
        let (sink, response) = if stream {
            // Room for one: the connection writes it before there is another.
            let (sender, body) = mpsc::channel(1);
            (Sink::Stream(sender), Either::Left(with_type("text/event-stream", Either::Right(Events(body)))))
        } else {
            let (sender, response) = oneshot::channel();
            (Sink::Whole(sender), Either::Right(response))
        };
        self.n_tasks.fetch_add(1, Ordering::Relaxed);
        // If the core has ended, so have the events.
        let _gone = self.to_core.send(ToCore::Submit(Asked { id: number, prompt, cached, output })).await;
        let task =
            Task { front: Arc::clone(&self), number, arrival_ns, in_flight, answer, events, sent: Sent::default() };
        tokio::spawn(task.run(sink));
        match response {
            Either::Left(response) => response,
            Either::Right(response) => response
                .await
                .unwrap_or_else(|_| refused(StatusCode::INTERNAL_SERVER_ERROR, "the engine core has ended")),
        }
    }

    /// Hands on what the core said.
    pub fn on_core(&self, message: FromCore) {
        let mut live = self.live();
        let Some(live) = live.as_mut() else { return };
        // Neither can be full, by the cap, nor closed: the task ends after the request has left the core.
        match message {
            FromCore::Ready { .. } => {}
            FromCore::Tokens(ids) => {
                for id in ids {
                    let _told = live.get(&id).map(|request| request.try_send(Event::Token));
                }
            }
            FromCore::Closed(closed) => {
                let _told = live.remove(&closed.id).map(|request| request.try_send(Event::Closed(closed)));
            }
        }
    }

    /// The engine is about to be stopped.
    pub fn stopping(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// The core has ended: so do the requests that it had. Returns when they have.
    pub async fn core_ended(&self) {
        *self.live() = None;
        let quiet = self.quiet.notified();
        if self.n_tasks.load(Ordering::Relaxed) > 0 {
            quiet.await;
        }
    }

    fn live(&self) -> MutexGuard<'_, Option<HashMap<u64, mpsc::Sender<Event>>>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the client was sent.
#[derive(Default)]
struct Sent {
    /// Tokens that the core has generated, as far as the front knows.
    generated: u32,
    first_write_ns: Option<u64>,
    /// When it was over, and how.
    end: Option<(u64, Finish)>,
    /// Tokens when the client was found gone.
    at_gone: Option<u32>,
}

/// One request's task.
struct Task {
    front: Arc<Front>,
    number: u64,
    arrival_ns: u64,
    in_flight: usize,
    answer: Answer,
    events: mpsc::Receiver<Event>,
    sent: Sent,
}

impl Task {
    async fn run(mut self, sink: Sink) {
        let mut sink = Some(sink);
        let closed = loop {
            let event = match &mut sink {
                None => self.events.recv().await,
                Some(open) => tokio::select! {
                    biased;
                    event = self.events.recv() => event,
                    () = open.closed() => {
                        sink = None;
                        self.gone().await;
                        continue;
                    }
                },
            };
            match event {
                Some(Event::Token) => {
                    self.sent.generated += 1;
                    if let Some(open) = sink.take() {
                        sink = self.token(open).await;
                    }
                }
                Some(Event::Closed(closed)) => break Some(closed),
                None => break None,
            }
        };
        if let Some(open) = sink {
            self.cut(open).await;
        }
        if let Err(error) = self.log(closed.as_ref()) {
            eprintln!("mock-engine: front: {error:#}");
        }
        if self.front.n_tasks.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.front.quiet.notify_waiters();
        }
    }

    /// Sends the token that was generated last. Returns where the next goes, if there is one.
    async fn token(&mut self, sink: Sink) -> Option<Sink> {
        let number = self.sent.generated;
        let last = number == self.answer.request.output;
        let sender = match sink {
            Sink::Whole(sender) if last => {
                let sent = sender.send(whole(StatusCode::OK, &self.answer.whole()));
                self.sent.first_write_ns = Some(now_ns());
                match sent {
                    Ok(()) => self.end(Finish::Length),
                    Err(_) => self.gone().await,
                }
                return None;
            }
            Sink::Whole(_) => return Some(sink),
            Sink::Stream(sender) => sender,
        };
        let mut chunks = Vec::new();
        if number == 1 {
            chunks.push(self.answer.role());
        }
        chunks.push(self.answer.token(number));
        let n_until_token = chunks.len();
        if last {
            chunks.extend(self.answer.closing());
        }
        for (at, chunk) in chunks.into_iter().enumerate() {
            if sender.send(Bytes::from(chunk)).await.is_err() {
                self.gone().await;
                return None;
            }
            if number == 1 && at + 1 == n_until_token {
                self.sent.first_write_ns = Some(now_ns());
            }
        }
        if last {
            self.end(Finish::Length);
            return None;
        }
        Some(Sink::Stream(sender))
    }

    /// The client has gone.
    async fn gone(&mut self) {
        self.sent.at_gone = Some(self.sent.generated);
        self.end(Finish::ClientGone);
        if !self.front.ignore_disconnect {
            // If the core has ended there is nothing to cancel.
            let _ended = self.front.to_core.send(ToCore::Cancel(self.number)).await;
        }
    }

    /// There is no more to come for a client that waits.
    async fn cut(&mut self, sink: Sink) {
        let stopping = self.front.stopping.load(Ordering::Relaxed);
        if let (Sink::Stream(sender), false) = (&sink, stopping) {
            for event in failed() {
                // A client that has gone too does not need to know.
                let _gone = sender.send(Bytes::from(event)).await;
            }
        }
        self.end(if stopping { Finish::Stopped } else { Finish::CoreDied });
    }

    /// For the client it is over.
    fn end(&mut self, finish: Finish) {
        self.sent.end = Some((now_ns(), finish));
        self.front.n_open.fetch_sub(1, Ordering::Relaxed);
    }

    fn log(&self, closed: Option<&Closed>) -> Result<()> {
        let Self { front, number: _, arrival_ns, in_flight, answer, events: _, sent } = self;
        let account = closed.map(|closed| closed.account);
        let Account { admitted_ns, first_token_ns, last_token_ns, .. } = account.unwrap_or_default();
        let (end_ns, finish) = sent.end.unwrap_or((now_ns(), Finish::Stopped));
        let generated = account.map_or(sent.generated, |account| account.tokens);
        let started = admitted_ns.is_some();
        let truth = RequestTruth {
            id: answer.id.clone(),
            stream: answer.request.stream,
            arrival_ns: *arrival_ns,
            admitted_ns,
            first_token_ns,
            first_write_ns: sent.first_write_ns,
            last_token_ns,
            end_ns,
            prompt_tokens: answer.request.prompt,
            cached_tokens: answer.request.cached,
            output_tokens: account.map(|account| account.tokens),
            tokens_after_gone: sent.at_gone.map_or(0, |at_gone| generated - at_gone),
            energy_mj: account.map(|account| account.energy_uj as f64 / 1000.0),
            in_flight: *in_flight,
            devices: if started { distinct(&front.pids.devices) } else { Vec::new() },
            worker_pids: if started { front.pids.workers.clone() } else { Vec::new() },
            finish,
        };
        debug_assert!(closed.is_none_or(|closed| closed.left != Left::Length || generated == answer.request.output));
        let mut log = front.log.lock().unwrap_or_else(PoisonError::into_inner);
        log.write_all(line_of(&truth)?.as_bytes()).context("cannot log a request")
    }
}

fn distinct(devices: &[u32]) -> Vec<u32> {
    devices.iter().copied().collect::<BTreeSet<u32>>().into_iter().collect()
}

fn refused(status: StatusCode, message: &str) -> Response<AnswerBody> {
    let kind = if status.is_client_error() { "BadRequestError" } else { "InternalServerError" };
    whole(status, &json!({"error": error(status.as_u16(), kind, message)}))
}

fn whole(status: StatusCode, body: &Value) -> Response<AnswerBody> {
    let mut response = with_type("application/json", Either::Left(Full::from(body.to_string())));
    *response.status_mut() = status;
    response
}

fn with_type(content_type: &'static str, body: AnswerBody) -> Response<AnswerBody> {
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
