//! From an exchange that is over to a call that is handed out.
//!
//! Owns the attribution: whose call it was, between which addresses, linked with its other end, in which place among others. What
//! stood behind it is joined by `serving`.

use super::{Output, Pipeline, table::Entry};
use crate::{
    call::{
        FinishedCall, Side,
        conversation::Counts,
        exchange::{Ended, Exchange},
        progress::Look,
    },
    serving::FlightKey,
    stream::StreamKey,
};

impl Pipeline {
    pub(super) fn report(
        &mut self,
        key: StreamKey,
        entry: &Entry,
        mut exchange: Exchange,
        ended: Ended,
        out: &mut dyn FnMut(Output),
    ) {
        let Some(side) = entry.connection.side() else { return };
        let mut ids = self.ids(key, exchange.number, exchange.start, side);
        let tuple = self.tuple(key, entry, exchange.stream);
        let other = tuple.map(|tuple| self.links.finish(side, tuple, ids.span)).unwrap_or_default();
        if let Some(parent) = other.parent {
            (ids.trace, ids.parent) = (parent.trace, Some(parent.span));
        }
        self.hops.over(FlightKey { stream: key, number: exchange.number });
        if ended == Ended::Idle {
            self.stats.idle += 1;
        }
        let (number, is_model) = (exchange.number, exchange.session.is_some());
        let look = exchange.look();
        let Some(outcome) = exchange.finish(ended, side, self.options.connection.all_http) else {
            self.stats.unrecognised += u64::from(is_model);
            self.unserve(key, number);
            return;
        };
        let mut timing = outcome.timing;
        timing.start = other.read_at.map_or(timing.start, |read_at| timing.start.min(read_at));
        let addresses = self.tables.addresses(key);
        // The kernel side has looked already, but for TLS streams whose socket came later.
        if addresses.is_some_and(|socket| !self.options.connection.targets.wants_ports(&socket.local, &socket.peer)) {
            self.stats.untargeted_calls += 1;
            self.unserve(key, number);
            return;
        }
        self.stats.calls += 1;
        let hop = self.hop(side, entry.tgid, other.tgid);
        let call = FinishedCall {
            ids,
            side,
            process: self.tables.processes.identity(entry.tgid, entry.start_ns),
            local: addresses.map(|socket| socket.local.clone()),
            peer: addresses.map(|socket| socket.peer.clone()),
            tls: matches!(key, StreamKey::Tls { .. }),
            binding: self.tables.binding(key),
            source: entry.source,
            timing,
            chunk_count: outcome.chunk_count,
            gaps: outcome.gaps,
            streamed: outcome.streamed,
            http: outcome.http,
            facts: outcome.facts,
            inferred: None,
            place: Default::default(),
            hop,
            serving: None,
            tool: None,
            load: None,
            completion: outcome.completion,
            capture: outcome.capture,
            notes: outcome.notes,
        };
        let ended = (side == Side::Server).then_some((FlightKey { stream: key, number }, look));
        self.hand_out(call, ended, other.parent.is_some() || other.read_at.is_some(), out);
    }

    /// Gives a call its place among others and hands it out, when what was observed beside it is known.
    pub(super) fn hand_out(
        &mut self,
        mut call: FinishedCall,
        served: Option<(FlightKey, Look)>,
        other_end: bool,
        out: &mut dyn FnMut(Output),
    ) {
        self.conversations.take(&mut call, other_end, &mut |tool| out(Output::Call(Box::new(tool))));
        self.count_conversations();
        self.serving.finished(served, Box::new(call), &mut |call| out(Output::Call(call)));
    }

    pub(super) fn count_conversations(&mut self) {
        let Counts { turns_evicted, tools, tools_evicted } = self.conversations.counts();
        (self.stats.turns_evicted, self.stats.tools, self.stats.tools_evicted) = (turns_evicted, tools, tools_evicted);
    }
}
