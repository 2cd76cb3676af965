//! What the pipeline does with streams that are one direction each: see [`crate::stream::Halves`], which decides.

use inferscope_common::join::Place;

use super::{Output, Pipeline};
use crate::{
    call::{Binding, exchange::ClosedBy},
    protocol::http1::{self, Beginning},
    record::{Data, Direction, ObjectId, Origin},
    stream::{Plain, Route, StreamKey},
    time::Mono,
};

impl Pipeline {
    /// Bytes of a half.
    pub(super) fn on_half(&mut self, origin: &Origin, half: StreamKey, data: &Data<'_>, out: &mut dyn FnMut(Output)) {
        let plain = Plain { tls: half, direction: data.direction, bytes: data.total, overhead: data.overhead };
        // First: it may be the record that tells the socket.
        self.on_plain(origin, &plain, out);
        match self.halves.take(half, origin, data) {
            Route::To(key, turn) => self.deliver(origin, key, &Data { turn, ..*data }, out),
            Route::Held => self.go_on_asking(half, out),
            Route::Alone(key, socket) => self.go_alone(key, socket, out),
        }
        self.count_halves();
    }

    /// Takes note of a half that transferred something. One at the same place, with an earlier key, is over.
    pub(super) fn note_half(&mut self, origin: &Origin, half: StreamKey, out: &mut dyn FnMut(Output)) {
        let (has_room, replaced) = self.halves.note(origin.time, half);
        self.stats.connections_refused += u64::from(!has_room);
        let Some(replaced) = replaced else { return };
        self.binder.forget_stream(replaced);
        match self.halves.connection(replaced) {
            Some(key) => self.close(key, ClosedBy::Unknown, out),
            None => self.halves.remove(replaced),
        }
        self.count_halves();
    }

    /// A half's socket was found.
    pub(super) fn bind_half(&mut self, half: StreamKey, socket: ObjectId, out: &mut dyn FnMut(Output)) {
        let Some(pair) = self.halves.bind(half, socket) else {
            self.go_on_asking(half, out);
            return;
        };
        if !self.tables.is_bound(pair.key) {
            self.bind(pair.key, socket, Binding::Records);
        }
        out(Output::Join { stream: pair.place, with: Some(pair.joined) });
        self.release(pair.key, out);
    }

    /// A half's socket was the wrong one. What was made of it cannot be trusted, so the connection is over, and both halves
    /// are looked at anew.
    pub(super) fn part_half(&mut self, half: StreamKey, out: &mut dyn FnMut(Output)) {
        match self.halves.connection(half) {
            Some(key) => self.close(key, ClosedBy::Unknown, out),
            None => self.halves.remove(half),
        }
        self.count_halves();
    }

    /// No bytes will come on a socket any more.
    pub(super) fn close_halves_on(&mut self, socket: ObjectId, out: &mut dyn FnMut(Output)) {
        for (key, socket) in self.halves.give_up_waiting(socket) {
            self.go_alone(key, socket, out);
        }
    }

    /// A process is over, or another program.
    pub(super) fn close_halves_of(&mut self, tgid: u32, out: &mut dyn FnMut(Output)) {
        for (key, socket) in self.halves.give_up_process(tgid) {
            self.go_alone(key, socket, out);
        }
        self.count_halves();
    }

    /// Gives up what has waited for too long.
    pub(super) fn tick_halves(&mut self, now: Mono, out: &mut dyn FnMut(Output)) {
        let Self { halves, tables, .. } = self;
        for (key, socket) in halves.on_tick(now, |key| tables.connections.contains_key(&key)) {
            self.go_alone(key, socket, out);
        }
        self.count_halves();
    }

    /// Gives out what still waits. For the end.
    pub(super) fn finish_halves(&mut self, out: &mut dyn FnMut(Output)) {
        for (key, socket) in self.halves.finish() {
            self.go_alone(key, socket, out);
        }
        self.count_halves();
    }

    /// A connection is about to be closed. If one direction of it is all that was seen, its calls say so.
    pub(super) fn forget_halves(&mut self, key: StreamKey, out: &mut dyn FnMut(Output)) {
        if let Some(seen) = self.halves.only(key) {
            let other = if seen == Direction::Read { Direction::Write } else { Direction::Read };
            self.with_connection(key, out, |connection, _| connection.unseen(other));
        }
        for half in self.halves.of(key) {
            self.binder.forget_stream(half);
            if let StreamKey::Half { tgid, object, .. } = half {
                out(Output::Join { stream: Place { object: object.address, tgid, pad: 0 }, with: None });
            }
        }
        self.halves.forget(key);
        self.count_halves();
    }

    /// A half that asks need not wait for its answer: it says itself what it is, and the other end of its call may be over
    /// by the time that the answer is here.
    fn go_on_asking(&mut self, half: StreamKey, out: &mut dyn FnMut(Output)) {
        let asks = |bytes: &[u8]| http1::beginning(bytes) == Beginning::Request;
        if let Some((key, socket)) = self.halves.go_alone_if(half, asks) {
            self.go_alone(key, socket, out);
        }
    }

    fn go_alone(&mut self, key: StreamKey, socket: ObjectId, out: &mut dyn FnMut(Output)) {
        self.bind(key, socket, Binding::Records);
        self.release(key, out);
    }

    fn release(&mut self, key: StreamKey, out: &mut dyn FnMut(Output)) {
        for held in self.halves.release(key) {
            self.deliver(&held.origin, key, &held.data(), out);
        }
        self.count_halves();
    }

    fn count_halves(&mut self) {
        self.stats.held = self.halves.held_bytes();
        self.stats.unpaired = self.halves.unpaired_bytes();
        self.stats.halves_unbound = self.halves.unbound();
    }
}
