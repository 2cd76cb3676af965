//! The pipeline's side of the join with engines, GPUs and the host: which calls are under way, how far they are, and what
//! the kernel and the edge tell of the machinery.

use super::{Output, Pipeline, table::Entry};
use crate::{
    call::{FinishedCall, Side, connection::Begun, ids},
    host::Hop,
    metrics::machines::Machines,
    record::{Record, Socket, Source},
    serving::{self, FlightKey, Limited, Sums},
    stream::StreamKey,
    time::Mono,
};

impl Pipeline {
    /// Energy of each engine's GPUs, by its id, and where it went.
    pub fn energy(&self) -> Vec<(String, Sums)> {
        self.serving.energy()
    }

    /// What is known of GPUs and engines now, for the metrics.
    pub fn machines(&mut self, now: Mono) -> Machines {
        self.serving.snapshot(now)
    }

    /// A call begins.
    pub(super) fn serve(&mut self, key: StreamKey, tgid: u32, begun: Begun, out: &mut dyn FnMut(Output)) {
        if !begun.is_model {
            return;
        }
        self.serving.began(FlightKey { stream: key, number: begun.number }, tgid, begun.start);
        self.wish(out);
    }

    /// A call that a process makes while it serves exactly one was made for that one.
    pub(super) fn place_hop(&mut self, stream: StreamKey, entry: &Entry, begun: Begun) {
        if !begun.is_model {
            return;
        }
        let key = FlightKey { stream, number: begun.number };
        match entry.connection.side() {
            Some(Side::Server) => self.hops.serve(entry.tgid, key, begun),
            Some(Side::Client) => {
                let Some((served, Begun { number, stream, start, .. })) = self.hops.only(entry.tgid) else { return };
                let mut parent = self.ids(served.stream, number, start, Side::Server);
                let from =
                    self.tables.connections.get(&served.stream).map(|entry| self.tuple(served.stream, entry, stream));
                if let Some(client) = from.flatten().and_then(|tuple| self.links.parent(tuple)) {
                    parent.trace = client.trace;
                }
                self.hops.nest(key, parent);
            }
            None => {}
        }
    }

    /// What lies between the two ends of a call, where both are servers of this host.
    pub(super) fn hop(&self, side: Side, tgid: u32, other: Option<u32>) -> Option<Hop> {
        let (front, back) = if side == Side::Client { (tgid, other?) } else { (other?, tgid) };
        self.serving.hop(front, back)
    }

    /// What began was no call, or is of no interest.
    pub(super) fn unserve(&mut self, key: StreamKey, number: u64) {
        self.serving.dropped(FlightKey { stream: key, number });
    }

    /// Another program began in a process.
    pub(super) fn program_changed(&mut self, at: Mono, pid: u32, out: &mut dyn FnMut(Output)) {
        self.serving.exec(at, pid);
        self.wish(out);
    }

    /// A process began.
    pub(super) fn machinery_changed(&mut self, pid: u32, out: &mut dyn FnMut(Output)) {
        self.serving.changed(pid);
        self.wish(out);
    }

    /// A process ended, by this wait status.
    pub(super) fn process_ended(&mut self, at: Mono, pid: u32, status: u32, out: &mut dyn FnMut(Output)) {
        self.serving.exited(at, pid, status);
        self.wish(out);
    }

    /// Takes a record that tells of the machinery behind calls.
    pub(super) fn on_machinery(&mut self, record: Record<'_>, out: &mut dyn FnMut(Output)) {
        match record {
            Record::Host(at, record) => {
                self.serving.host(at, &record);
                self.advance(at, out);
            }
            Record::Gpu(at, record) => {
                self.serving.gpu(at, &record);
                self.advance(at, out);
            }
            Record::OomVictim { origin } => self.serving.oom_victim(origin.tgid),
            Record::Retransmit(origin, retransmit) => {
                if let Some(socket) = self.tables.addresses(StreamKey::Socket(retransmit.socket)) {
                    let Socket { local, peer, .. } = socket;
                    self.serving.retransmitted(origin.time, local, peer, retransmit.since.into());
                }
            }
            Record::SendLimits(origin, limits) => {
                if let Some(socket) = self.tables.addresses(StreamKey::Socket(limits.socket)) {
                    let Socket { local, peer, .. } = socket;
                    let since = Limited { peer: limits.rwnd_limited_ns, buffer: limits.sndbuf_limited_ns };
                    self.serving.send_limited(origin.time, local, peer, since);
                }
            }
            Record::FileOpen(origin, open) => {
                self.serving.weights_opened(origin.time, origin.tgid, &open);
                self.wish(out);
            }
            Record::Listen(origin, _) => {
                self.serving.listened(origin.time, origin.tgid);
                self.wish(out);
            }
            Record::CudaStep(origin, step) => self.serving.stepped(&origin, &step),
            Record::CudaAllocFailed(origin, failed) if failed.is_out_of_memory() => {
                self.serving.gpu_memory_refused(&origin, failed.size);
            }
            _ => {}
        }
    }

    /// Looks at the calls under way, and lets those go whose time is observed.
    pub(super) fn advance(&mut self, now: Mono, out: &mut dyn FnMut(Output)) {
        if !self.serving.is_due(now) {
            return self.wish(out);
        }
        for key in self.serving.open() {
            match self.tables.connections.get_mut(&key.stream).and_then(|entry| entry.connection.look(key.number)) {
                Some(look) => self.serving.looked(key, &look, now),
                // Its connection went without a word.
                None => self.serving.dropped(key),
            }
        }
        self.serving.advance(now, &mut |call| out(Output::Call(call)));
        self.tell_loads(out);
        let serving::Counts { unobserved, hurried, loads_refused, notices_dropped } = self.serving.counts();
        (self.stats.calls_unobserved, self.stats.calls_hurried) = (unobserved, hurried);
        (self.stats.loads_refused, self.stats.notices_dropped) = (loads_refused, notices_dropped);
        self.wish(out);
    }

    /// Hands out the models that were loaded, as spans.
    pub(super) fn tell_loads(&mut self, out: &mut dyn FnMut(Output)) {
        for load in self.serving.loaded() {
            let ids = ids::within(&self.options.epoch, load.process.pid, load.begun, load.call);
            let (process, start, end) = (load.process.clone(), load.start, load.end);
            let span = FinishedCall::within(ids, Side::Server, process, Source::Syscall, start, end);
            out(Output::Call(Box::new(FinishedCall { load: Some(Box::new(load)), ..span })));
        }
    }

    fn wish(&mut self, out: &mut dyn FnMut(Output)) {
        if let Some(wish) = self.serving.wish() {
            out(Output::Observe(wish));
        }
        self.serving.notices().into_iter().for_each(|notice| out(Output::Notice(notice)));
    }
}
