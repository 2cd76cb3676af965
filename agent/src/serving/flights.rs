//! Calls under way, as the engine that serves them sees them.
//!
//! Owns what is known of a call before it is over, by how often the pipeline looks: when it came, whether its prompt is
//! read, in which windows its tokens were made. When a call is over is the pipeline's to say.

use std::collections::BTreeMap;

use super::{
    energy::{PROMPT_WEIGHT, Weights},
    engine::{Engine, Prefill},
};
use crate::{
    call::progress::{Look, window_of},
    stream::StreamKey,
    time::Mono,
};

/// Calls that are followed at once. The pipeline follows as many connections; those beyond get no machinery.
pub const MAX_FLIGHTS: usize = 65_536;

/// Names a call under way: its connection and its number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlightKey {
    /// The connection.
    pub stream: StreamKey,
    /// Counts the connection's exchanges.
    pub number: u64,
}

/// One call.
#[derive(Clone, Debug)]
pub struct Flight {
    /// Serving process.
    pub tgid: u32,
    /// First request byte.
    pub start: Mono,
    /// The engine that serves it, by its place in the table; absent while nobody knows.
    pub engine: Option<usize>,
    /// Whether the engine counts it among those under way.
    pub is_counted: bool,
    /// Other calls of the engine that were under way when it came.
    pub in_flight_at_start: Option<u64>,
    /// Last request byte.
    pub request_end: Option<Mono>,
    /// First token.
    pub first_chunk: Option<Mono>,
    /// Last byte, or until when it has been there.
    pub until: Mono,
    /// Chunks after the first.
    pub chunks: f64,
    /// Tokens of the prompt that were taken for its weight.
    pub prompt: f64,
    /// Last byte either way.
    pub last_seen: Mono,
    /// Since when nothing has come, once that was told.
    pub stuck: Option<Mono>,
    /// The longest time in which nothing came that was told: from and to.
    pub stall: Option<(Mono, Mono)>,
    /// When its client went away, and the chunks that had been sent by then.
    pub gone: Option<(Mono, f64)>,
    /// Its weights.
    pub weights: Weights,
    /// Over: its last byte.
    pub over: Option<Mono>,
    request_bytes: u64,
}

impl Flight {
    /// One that begins.
    pub fn new(tgid: u32, start: Mono) -> Self {
        Self {
            tgid,
            start,
            engine: None,
            is_counted: false,
            in_flight_at_start: None,
            request_end: None,
            first_chunk: None,
            until: start,
            chunks: 0.0,
            prompt: 0.0,
            last_seen: start,
            stuck: None,
            stall: None,
            gone: None,
            weights: Weights::new(window_of(start)),
            over: None,
            request_bytes: 0,
        }
    }

    /// Takes what a look gave; `until` is the time up to which the call is known to have been there.
    pub fn take(&mut self, look: &Look, until: Mono, engine: Option<&mut Engine>) {
        self.request_end = look.request_end;
        self.request_bytes = look.request_bytes;
        self.until = self.until.max(until).max(look.last_seen);
        if look.last_seen > self.last_seen {
            self.move_on(look.last_seen);
            self.last_seen = look.last_seen;
        }
        let chunks: f32 = look.windows.iter().map(|(_, chunks)| chunks).sum();
        self.chunks += f64::from(chunks);
        let Some(engine) = engine else {
            self.first_chunk = look.first_chunk;
            return;
        };
        engine.tokens += f64::from(chunks) * engine.tokens_per_chunk;
        engine.windows.extend(&mut self.weights, self.until);
        if self.first_chunk.is_none()
            && let Some(first) = look.first_chunk
        {
            self.prompt = self.request_bytes as f64 * engine.tokens_per_byte;
            let (asked, weight) = (self.asked(), self.prompt * PROMPT_WEIGHT + 1.0);
            engine.windows.spread(&mut self.weights, asked, first, weight);
        }
        self.first_chunk = look.first_chunk;
        let per_chunk = engine.tokens_per_chunk as f32;
        for &(window, chunks) in &look.windows {
            engine.windows.weigh(&mut self.weights, window, chunks * per_chunk);
        }
    }

    /// Bytes of the request's body.
    pub fn request_bytes(&self) -> u64 {
        self.request_bytes
    }

    /// Something came, or it is over: the time in which nothing did ends.
    pub fn move_on(&mut self, at: Mono) {
        if let Some(since) = self.stuck.take()
            && self.stall.is_none_or(|(from, to)| to.since(from) < at.since(since))
        {
            self.stall = Some((since, at));
        }
    }

    /// The engine counts it from now on.
    pub fn board(&mut self, number: usize, engine: &mut Engine) {
        self.engine = Some(number);
        if !self.is_counted && self.over.is_none() {
            self.is_counted = true;
            engine.in_flight += 1;
        }
    }

    /// The engine counts it no longer.
    pub fn land(&mut self, engine: &mut Engine) {
        if std::mem::take(&mut self.is_counted) {
            engine.in_flight = engine.in_flight.saturating_sub(1);
        }
    }

    /// When the engine had the request.
    pub fn asked(&self) -> Mono {
        self.request_end.unwrap_or(self.start)
    }

    /// What others behind it wait for, while its first token has not come.
    pub fn prefill(&self, per_byte: f64) -> Option<Prefill> {
        let tokens = Some((self.request_bytes as f64 * per_byte) as u64);
        self.first_chunk.is_none().then(|| Prefill {
            start: self.asked(),
            end: self.over.unwrap_or(self.until),
            tokens,
        })
    }
}

/// All of them.
#[derive(Debug, Default)]
pub struct Flights {
    by_key: BTreeMap<FlightKey, Flight>,
}

impl Flights {
    /// Calls that are not over.
    pub fn open(&self) -> Vec<FlightKey> {
        self.by_key.iter().filter(|(_, flight)| flight.over.is_none()).map(|(key, _)| *key).collect()
    }

    /// False if there are too many.
    pub fn insert(&mut self, key: FlightKey, flight: Flight) -> bool {
        let room = self.by_key.len() < MAX_FLIGHTS;
        if room {
            self.by_key.insert(key, flight);
        }
        room
    }

    /// One of them.
    pub fn get(&self, key: FlightKey) -> Option<&Flight> {
        self.by_key.get(&key)
    }

    /// One of them.
    pub fn get_mut(&mut self, key: FlightKey) -> Option<&mut Flight> {
        self.by_key.get_mut(&key)
    }

    /// Takes one out.
    pub fn remove(&mut self, key: FlightKey) -> Option<Flight> {
        self.by_key.remove(&key)
    }

    /// All of an engine's.
    pub fn of(&self, engine: usize) -> impl Iterator<Item = &Flight> {
        self.by_key.values().filter(move |flight| flight.engine == Some(engine))
    }

    /// All.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Flight> {
        self.by_key.values_mut()
    }

    /// All.
    pub fn iter(&self) -> impl Iterator<Item = &Flight> {
        self.by_key.values()
    }

    /// Those on a connection.
    pub fn on_mut(&mut self, stream: StreamKey) -> impl Iterator<Item = &mut Flight> {
        let (first, last) = (FlightKey { stream, number: 0 }, FlightKey { stream, number: u64::MAX });
        self.by_key.range_mut(first..=last).map(|(_, flight)| flight)
    }
}
