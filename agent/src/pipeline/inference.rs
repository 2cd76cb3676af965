//! Inferred calls in the pipeline: whose they are, whether they are wanted, and that nothing else tells of them.
//!
//! Owns three rules. Only connections to a model provider or to a chosen host are followed (all with `--all-http`); the
//! kernel side is told to leave the others alone. Nothing is inferred of a connection that a TLS stream is bound to, nor
//! while plaintext of the process is being read: that may be the same call. And an inferred call has no other end: its
//! two ends are not linked.

use inferscope_common::verdict::{REJECT, Verdict};

use super::{Output, Pipeline};
use crate::{
    call::{Capture, FinishedCall, HttpFacts, InferredFacts, Side, Timing, gaps::GapSketch, ids},
    infer::{Found, Inference, Inferred, Parties, Shape},
    llm,
    record::{Direction, ObjectId, Origin, Source, TlsHeader, TlsHello},
    stream::StreamKey,
};

impl Pipeline {
    pub(super) fn on_tls_hello(&mut self, origin: &Origin, hello: &TlsHello<'_>) {
        let Some(inference) = &mut self.inference else { return };
        let room = inference.hello(origin, hello);
        self.stats.infer_refused += u64::from(!room);
    }

    pub(super) fn on_tls_header(&mut self, origin: &Origin, header: &TlsHeader, out: &mut dyn FnMut(Output)) {
        let Some(mut inference) = self.inference.take() else { return };
        let mut found = Vec::new();
        let room = inference.record(origin, header, &mut |one| found.push(one));
        self.stats.infer_refused += u64::from(!room);
        self.inference = Some(inference);
        if room {
            self.judge_connection(header.socket, out);
        }
        self.take_found(found, out);
    }

    /// Plaintext of the process was read.
    pub(super) fn on_plaintext_read(&mut self, origin: &Origin) {
        if let Some(inference) = &mut self.inference {
            inference.plaintext(origin);
        }
    }

    /// A socket turned out to carry a stream whose plaintext is read.
    pub(super) fn stop_inferring(&mut self, socket: ObjectId, out: &mut dyn FnMut(Output)) {
        if let Some(inference) = &mut self.inference
            && inference.knows(socket)
        {
            inference.forget(socket);
            out(leave_alone(socket));
        }
    }

    /// Does something to the inference and takes what comes out.
    pub(super) fn infer(
        &mut self,
        out: &mut dyn FnMut(Output),
        act: impl FnOnce(&mut Inference, &mut dyn FnMut(Found)),
    ) {
        let Some(inference) = &mut self.inference else { return };
        let mut found = Vec::new();
        act(inference, &mut |one| found.push(one));
        self.take_found(found, out);
    }

    /// Decides once, by its name and its addresses, whether a connection is followed.
    fn judge_connection(&mut self, socket: ObjectId, out: &mut dyn FnMut(Output)) {
        let Some(inference) = self.inference.as_mut().filter(|inference| !inference.is_followed(socket)) else {
            return;
        };
        let addresses = self.tables.addresses(StreamKey::Socket(socket));
        if let Some((local, peer)) = addresses.and_then(|ends| Some((ends.local.ip()?, ends.peer.ip()?))) {
            // Without a hello the end with the lower port is the server: the other one was given its port by its kernel.
            let is_client = peer.port() < local.port();
            inference.join(socket, if is_client { Direction::Write } else { Direction::Read });
        }
        let Some(parties) = inference.parties(socket) else { return };
        let targets = &self.options.connection.targets;
        let server = addresses.and_then(|ends| if is_client(parties) { ends.peer.ip() } else { ends.local.ip() });
        let address = server.map(|server| server.ip().to_string());
        let host = parties.server_name.as_deref().or(address.as_deref());
        let is_named = !targets.include.hosts.is_empty() || self.options.connection.all_http;
        let wanted = targets.wants_host(host)
            && addresses.is_none_or(|ends| targets.wants_ports(&ends.local, &ends.peer))
            && (is_named || parties.server_name.as_deref().is_some_and(llm::is_provider));
        if wanted && !self.tables.has_tls_stream(socket) {
            inference.follow(socket);
        } else {
            inference.forget(socket);
            out(leave_alone(socket));
        }
    }

    fn take_found(&mut self, found: Vec<Found>, out: &mut dyn FnMut(Output)) {
        for one in found {
            match one {
                Found::Exchange(inferred) => self.report_inferred(*inferred, out),
                Found::Lost => self.stats.infer_lost += 1,
                Found::Unanswered => self.stats.infer_unanswered += 1,
            }
        }
    }

    fn report_inferred(&mut self, inferred: Inferred, out: &mut dyn FnMut(Output)) {
        let Inferred { socket, number, parties, shape, truncated, plaintext_read } = inferred;
        if plaintext_read || self.tables.has_tls_stream(socket) {
            self.stats.infer_withheld += 1;
            return;
        }
        self.stats.inferred += 1;
        let key = StreamKey::Socket(socket);
        let side = if is_client(&parties) { Side::Client } else { Side::Server };
        let addresses = self.tables.addresses(key);
        let server = addresses.and_then(|ends| if side == Side::Client { ends.peer.ip() } else { ends.local.ip() });
        let host = parties.server_name.as_ref().map(|name| match server {
            Some(server) => format!("{name}:{}", server.port()),
            None => name.clone(),
        });
        out(Output::Call(Box::new(FinishedCall {
            ids: ids::derive(&self.options.epoch, key, number, shape.start, side),
            side,
            process: self.tables.processes.identity(parties.tgid, parties.start_ns),
            local: addresses.map(|ends| ends.local.clone()),
            peer: addresses.map(|ends| ends.peer.clone()),
            tls: true,
            binding: None,
            source: Source::Ciphertext,
            timing: timing(&shape),
            chunk_count: 0,
            gaps: GapSketch::default(),
            streamed: false,
            http: HttpFacts { host, ..HttpFacts::default() },
            facts: None,
            inferred: Some(Box::new(facts(shape, &parties))),
            place: Default::default(),
            hop: None,
            serving: None,
            tool: None,
            load: None,
            completion: None,
            capture: if truncated { Capture::Truncated } else { Capture::Complete },
            notes: Vec::new(),
        })));
    }
}

fn is_client(parties: &Parties) -> bool {
    parties.requests == Some(Direction::Write)
}

fn timing(shape: &Shape) -> Timing {
    Timing {
        start: shape.start,
        request_end: Some(shape.request_end),
        response_start: Some(shape.first_record),
        first_event: None,
        first_chunk: None,
        last_chunk: None,
        end: shape.end,
    }
}

fn facts(shape: Shape, parties: &Parties) -> InferredFacts {
    InferredFacts {
        server_name: parties.server_name.clone(),
        first_token: shape.first_token,
        request_bytes: shape.request_bytes,
        response_bytes: shape.response_bytes,
        plaintext_sizes: shape.plaintext_sizes,
        records: shape.records,
        pieces: shape.pieces,
        gaps: shape.gaps,
        maybe_several: parties.offers_http2,
    }
}

/// The kernel side need not tell of the socket any more.
fn leave_alone(socket: ObjectId) -> Output {
    let verdict = Verdict { generation: socket.generation, turn: 0, verdict: REJECT };
    Output::Answer { address: socket.address, verdict }
}
