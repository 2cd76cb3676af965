//! The front: the engine's HTTP server, between clients and the engine core.
//!
//! Owns who is under way; what becomes of each is its `task`. One thread, as the event loop of a Python server:
//! it hands each event to a connection that has room for one, and writes it before it makes the next, so that each
//! token is one write. Sockets and processes are `serve`'s business.

use std::{
    collections::HashMap,
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
    answer::{Answer, MAX_OUTPUT, NOTE, Request, error},
    batch::Asked,
    message::{Fault, FromCore, ToCore},
    task::{Event, Sink, Task},
    timeline::now_ns,
    truth::{Pids, REQUESTS, RequestTruth, line_of},
};

/// Largest request body that is read.
const MAX_BODY: usize = 16 << 20;

/// Requests under way; more are refused.
pub const MAX_IN_FLIGHT: usize = 4_096;

/// What the core can say of one request that the front has not taken yet: its tokens and its end.
const MAX_EVENTS: usize = MAX_OUTPUT as usize + 1;

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
        let task = Task::new(Arc::clone(&self), number, arrival_ns, in_flight, answer, events);
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

    /// Nobody waits for this request's answer any more.
    pub async fn client_gone(&self, number: u64) {
        if !self.ignore_disconnect {
            // If the core has ended there is nothing to cancel.
            let _ended = self.to_core.send(ToCore::Cancel(number)).await;
        }
    }

    /// For a client it is over.
    pub fn answered(&self) {
        self.n_open.fetch_sub(1, Ordering::Relaxed);
    }

    /// Writes down what became of a request.
    pub fn log(&self, truth: &RequestTruth) -> Result<()> {
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        log.write_all(line_of(truth)?.as_bytes()).context("cannot log a request")
    }

    /// A request's task is at its end.
    pub fn task_ended(&self) {
        if self.n_tasks.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.quiet.notify_waiters();
        }
    }

    /// Whether the engine is about to be stopped.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
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

fn refused(status: StatusCode, message: &str) -> Response<AnswerBody> {
    let kind = if status.is_client_error() { "BadRequestError" } else { "InternalServerError" };
    whole(status, &json!({"error": error(status.as_u16(), kind, message)}))
}

/// A response with its whole body.
pub fn whole(status: StatusCode, body: &Value) -> Response<AnswerBody> {
    let mut response = with_type("application/json", Either::Left(Full::from(body.to_string())));
    *response.status_mut() = status;
    response
}

fn with_type(content_type: &'static str, body: AnswerBody) -> Response<AnswerBody> {
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
