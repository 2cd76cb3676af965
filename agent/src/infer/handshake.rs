//! Which records of a connection are application data.
//!
//! Up to TLS 1.2 the content type says it. In TLS 1.3 everything behind the ServerHello is of the type
//! `application_data`, the rest of the handshake too, and the order decides: what the server sends before the client's
//! Finished is handshake, and that is a record whose length the cipher suite gives (RFC 8446 4.4.4: a header of four bytes
//! and a hash); Java's runtime pads all but application data. A client that shows a certificate sends that first, in the
//! same flight. Tickets, which follow the handshake, are told apart by `shape`.

use super::hello::Suite;
use crate::time::Mono;

/// Content type `application_data`.
const APPLICATION_DATA: u8 = 23;

/// Records that a client may send before its Finished: a certificate of some length, and its proof.
const MAX_BEFORE_FINISHED: u8 = 6;

/// Zeros that Java's runtime puts behind the content of a TLS 1.3 record that is no application data.
const JAVA_PADDING: u16 = 16;

/// An alert's plaintext: a level and a description.
const ALERT: u16 = 2;

/// How records are encrypted, as far as that is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cipher {
    /// Bytes by which a fragment is longer than its plaintext, if that is known.
    pub overhead: Option<u16>,
    /// Fragment length of a client's alert that looks like application data (TLS 1.3).
    pub client_alert: Option<u16>,
    /// The same of a server's.
    pub server_alert: Option<u16>,
    /// Tickets that look like application data may come until this time, if the client's Finished was seen.
    pub tickets_until: Option<Mono>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// No ServerHello yet.
    #[default]
    Hellos,
    /// TLS 1.3: the client's Finished is still to come.
    Encrypted { before: u8 },
    /// Application data.
    Open,
    /// What is application data cannot be told.
    Opaque,
}

/// A connection's handshake.
#[derive(Clone, Copy, Debug, Default)]
pub struct Handshake {
    state: State,
    suite: Option<Suite>,
    client_hello: Option<Mono>,
    server_hello: Option<Mono>,
    finished: Option<Mono>,
    /// What the client puts behind a record's content, as its Finished shows.
    padding: u16,
}

impl Handshake {
    /// Of a connection that was joined later.
    pub fn joined() -> Self {
        Self { state: State::Open, ..Self::default() }
    }

    /// The client's hello passed.
    pub fn on_client_hello(&mut self, at: Mono) {
        self.client_hello = Some(at);
    }

    /// The server's hello passed.
    pub fn on_server_hello(&mut self, at: Mono, suite: Suite) {
        if self.state == State::Hellos {
            self.state = if suite.hash.is_some() { State::Encrypted { before: 0 } } else { State::Open };
            self.suite = Some(suite);
            self.server_hello = Some(at);
        }
    }

    /// Whether a record is application data.
    pub fn is_application(&mut self, at: Mono, from_client: bool, content: u8, len: u16) -> bool {
        if content != APPLICATION_DATA {
            return false;
        }
        match self.state {
            State::Open => return true,
            // Early data, or a ServerHello that was missed: which keys a record has cannot be told.
            State::Hellos => self.state = State::Opaque,
            State::Encrypted { before } if from_client => {
                let suite = self.suite.unwrap_or(Suite { overhead: None, hash: None });
                let finished = suite.hash.zip(suite.overhead).map(|(hash, overhead)| 4 + hash + overhead);
                let padding = finished.and_then(|finished| len.checked_sub(finished));
                if let Some(padding @ (0 | JAVA_PADDING)) = padding {
                    (self.state, self.finished, self.padding) = (State::Open, Some(at), padding);
                } else if before >= MAX_BEFORE_FINISHED {
                    self.state = State::Opaque;
                } else {
                    self.state = State::Encrypted { before: before + 1 };
                }
            }
            State::Encrypted { .. } | State::Opaque => {}
        }
        false
    }

    /// How records are encrypted.
    pub fn cipher(&self) -> Cipher {
        let overhead = self.suite.and_then(|suite| suite.overhead);
        let is_1_3 = self.suite.is_some_and(|suite| suite.hash.is_some());
        let alert = overhead.filter(|_| is_1_3).map(|overhead| overhead + ALERT);
        Cipher {
            overhead,
            client_alert: alert.map(|alert| alert + self.padding),
            server_alert: alert,
            tickets_until: self.tickets_until(),
        }
    }

    /// A server sends its tickets when it has the client's Finished. One trip there and back takes no longer than
    /// the hellos took, in which the server signs; half of that and a millisecond more for what a busy machine adds.
    fn tickets_until(&self) -> Option<Mono> {
        let trip = self.server_hello?.since(self.client_hello?).as_nanos() as u64;
        self.finished.map(|at| Mono(at.0.saturating_add(trip + trip / 2 + 1_000_000)))
    }
}
