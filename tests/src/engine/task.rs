//! One request between its head and its line in the log.
//!
//! Owns what the client is sent and when, the client that goes away, and the core that does. What the core says comes as
//! [`Event`]s; where the answer goes is a [`Sink`].

use std::{collections::BTreeSet, sync::Arc};

use anyhow::Result;
use hyper::{Response, StatusCode, body::Bytes};
use tokio::sync::{mpsc, oneshot};

use super::{
    answer::{Answer, failed},
    books::{Account, Closed, Left},
    front::{AnswerBody, Front, whole},
    timeline::now_ns,
    truth::{Finish, RequestTruth},
};

/// What the core said of one request.
pub enum Event {
    /// It has one token more.
    Token,
    /// It has left.
    Closed(Closed),
}

/// Where an answer goes. Both ends close when the connection does.
pub enum Sink {
    /// Event by event.
    Stream(mpsc::Sender<Bytes>),
    /// All at once.
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
pub struct Task {
    front: Arc<Front>,
    number: u64,
    arrival_ns: u64,
    in_flight: usize,
    answer: Answer,
    events: mpsc::Receiver<Event>,
    sent: Sent,
}

impl Task {
    /// Of a request that the core was sent.
    pub fn new(
        front: Arc<Front>,
        number: u64,
        arrival_ns: u64,
        in_flight: usize,
        answer: Answer,
        events: mpsc::Receiver<Event>,
    ) -> Self {
        Self { front, number, arrival_ns, in_flight, answer, events, sent: Sent::default() }
    }

    /// Answers, and logs what became of it.
    pub async fn run(mut self, sink: Sink) {
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
        self.front.task_ended();
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
        self.front.client_gone(self.number).await;
    }

    /// There is no more to come for a client that waits.
    async fn cut(&mut self, sink: Sink) {
        let stopping = self.front.is_stopping();
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
        self.front.answered();
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
            steps: account.map(|account| account.steps),
            energy_mj: account.map(|account| account.energy_uj as f64 / 1000.0),
            in_flight: *in_flight,
            devices: if started { distinct(&front.pids.devices) } else { Vec::new() },
            worker_pids: if started { front.pids.workers.clone() } else { Vec::new() },
            finish,
        };
        debug_assert!(closed.is_none_or(|closed| closed.left != Left::Length || generated == answer.request.output));
        front.log(&truth)
    }
}

fn distinct(devices: &[u32]) -> Vec<u32> {
    devices.iter().copied().collect::<BTreeSet<u32>>().into_iter().collect()
}
