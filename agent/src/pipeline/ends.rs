//! How connections end: what a socket's state says of who closed, and what goes with it.
//!
//! Owns the order in which the streams of a socket or a process are closed and forgotten. When a call on one of them is over is
//! the connection's to say.

use super::{Output, Pipeline, tcp};
use crate::{
    call::exchange::ClosedBy,
    record::{ObjectId, SocketState},
    stream::StreamKey,
    time::Mono,
};

impl Pipeline {
    pub(super) fn on_socket_state(&mut self, at: Mono, state: &SocketState, out: &mut dyn FnMut(Output)) {
        self.on_channel_state(state, out);
        let by = match (state.old, state.new) {
            (_, tcp::CLOSE_WAIT) => Some(ClosedBy::Peer),
            (tcp::ESTABLISHED, tcp::FIN_WAIT1) => Some(ClosedBy::Local),
            // Straight from open to closed is a reset, the other end's if it left an error.
            (tcp::ESTABLISHED, tcp::CLOSE) if state.error != 0 => Some(ClosedBy::Peer),
            (tcp::ESTABLISHED, tcp::CLOSE) => Some(ClosedBy::Local),
            _ => None,
        };
        if state.new == tcp::CLOSE && !state.unread {
            self.close_halves_on(state.id, out);
        }
        for key in self.tables.streams_of(state.id) {
            if let (Some(by), Some(entry)) = (by, self.tables.connections.get_mut(&key)) {
                entry.connection.closing(by);
                if by == ClosedBy::Peer {
                    self.serving.client_gone(key, at);
                }
            }
            // Not before: what the other end sent before its FIN may still be unread.
            if state.new == tcp::CLOSE && !state.unread {
                self.close(key, ClosedBy::Unknown, out);
            }
        }
        if state.new == tcp::CLOSE {
            self.infer(out, |inference, found| inference.close(state.id, found));
        }
        if state.new == tcp::CLOSE && state.unread {
            if let Some(oldest) = self.tables.linger(at, state.id) {
                self.end_socket(oldest, out);
            }
        } else if state.new == tcp::CLOSE {
            self.tables.forget_socket(state.id);
            self.binder.forget_socket(state.id);
        }
    }

    /// Ends what is on a socket that is over.
    pub(super) fn end_socket(&mut self, socket: ObjectId, out: &mut dyn FnMut(Output)) {
        self.close_halves_on(socket, out);
        for key in self.tables.streams_of(socket) {
            self.close(key, ClosedBy::Unknown, out);
        }
        self.tables.forget_socket(socket);
        self.binder.forget_socket(socket);
    }

    /// TLS objects live in the process's memory: a new program or the end takes them all.
    pub(super) fn close_tls_of(&mut self, tgid: u32, out: &mut dyn FnMut(Output)) {
        self.close_halves_of(tgid, out);
        for key in self.tables.tls_streams_of(tgid) {
            self.close(key, ClosedBy::Local, out);
        }
    }

    pub(super) fn close(&mut self, key: StreamKey, by: ClosedBy, out: &mut dyn FnMut(Output)) {
        self.forget_halves(key, out);
        self.with_connection(key, out, |connection, steps| connection.close(by, steps));
        self.tables.remove(key);
        self.binder.forget_stream(key);
    }
}
