//! The two ends of one call on one host.
//!
//! Owns the rule that makes a server span the child of its client span: both were seen on the same connection at
//! the same time. The order in which the two ends start is not certain (a send's stamp is taken when the system
//! call returns, which can be after the other end has read), so whichever comes second makes the link. For the same
//! reason a server's first read bounds its client's first write: what was read had been written.

use std::{collections::HashMap, net::SocketAddr};

use super::{Side, SpanIds};
use crate::{record::Address, time::Mono};

/// One end of a connection, named the same by both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum End {
    /// Address and port.
    Ip(SocketAddr),
    /// The kernel's `sock` of a UNIX socket.
    Unix(u64),
    /// Either end of a channel that carries messages one way: its address.
    Channel(u64),
}

impl End {
    /// Of an address; nothing for a UNIX socket that is not known.
    pub fn of(address: &Address) -> Option<Self> {
        match *address {
            Address::Ip(address) => Some(Self::Ip(address)),
            Address::Unix { sock, .. } => (sock != 0).then_some(Self::Unix(sock)),
        }
    }
}

/// A connection, or one stream of it, seen the same from both ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tuple {
    /// The end that sends requests.
    pub client: End,
    /// The end that answers.
    pub server: End,
    /// Stream of HTTP/2, or label of a request, which both ends number alike; 0 for HTTP/1.1.
    pub stream: u32,
}

impl Tuple {
    /// From one end's point of view.
    pub fn new(side: Side, local: End, peer: End, stream: u32) -> Self {
        match side {
            Side::Client => Self { client: local, server: peer, stream },
            Side::Server => Self { client: peer, server: local, stream },
        }
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Ends {
    client: Option<ClientEnd>,
    server: Option<ServerEnd>,
}

#[derive(Clone, Copy, Debug)]
struct ClientEnd {
    ids: SpanIds,
    tgid: u32,
    read_at: Option<Mono>,
    server: Option<u32>,
}

#[derive(Clone, Copy, Debug)]
struct ServerEnd {
    span: [u8; 8],
    tgid: u32,
    start: Mono,
    parent: Option<SpanIds>,
    client: Option<u32>,
}

/// What is known of a call from its other end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Other {
    /// For a server's call, the client span that caused it.
    pub parent: Option<SpanIds>,
    /// For a client's call, when the server had its first byte: it was written no later.
    pub read_at: Option<Mono>,
    /// Thread group of the other end.
    pub tgid: Option<u32>,
}

/// Calls under way, by connection. No larger than what the pipeline's connections hold, because every entry belongs to an
/// open exchange of one of them.
#[derive(Debug, Default)]
pub struct Links {
    open: HashMap<Tuple, Ends>,
}

impl Links {
    /// A call starts, with its first byte at `start`.
    pub fn start(&mut self, side: Side, tuple: Tuple, tgid: u32, ids: SpanIds, start: Mono) {
        let ends = self.open.entry(tuple).or_default();
        match side {
            Side::Client => {
                let mut client = ClientEnd { ids, tgid, read_at: None, server: None };
                if let Some(server) = &mut ends.server
                    && server.parent.is_none()
                {
                    (server.parent, server.client) = (Some(ids), Some(tgid));
                    (client.read_at, client.server) = (Some(server.start), Some(server.tgid));
                }
                ends.client = Some(client);
            }
            Side::Server => {
                // A client call that was read already has its server; a later one's start was not seen yet.
                let client = ends.client.as_mut().filter(|client| client.read_at.is_none());
                let parent = client.map(|client| {
                    (client.read_at, client.server) = (Some(start), Some(tgid));
                    (client.ids, client.tgid)
                });
                let (parent, client) = parent.unzip();
                ends.server = Some(ServerEnd { span: ids.span, tgid, start, parent, client });
            }
        }
    }

    /// The call with this span is over. One that a later call has replaced has nothing to say.
    pub fn finish(&mut self, side: Side, tuple: Tuple, span: [u8; 8]) -> Other {
        let Some(ends) = self.open.get_mut(&tuple) else { return Other::default() };
        let other = match side {
            Side::Client => {
                let client = ends.client.take_if(|client| client.ids.span == span);
                let (read_at, tgid) = client.map_or((None, None), |client| (client.read_at, client.server));
                Other { parent: None, read_at, tgid }
            }
            Side::Server => {
                let server = ends.server.take_if(|server| server.span == span);
                let (parent, tgid) = server.map_or((None, None), |server| (server.parent, server.client));
                Other { parent, read_at: None, tgid }
            }
        };
        if ends.client.is_none() && ends.server.is_none() {
            self.open.remove(&tuple);
        }
        other
    }

    /// The client span that caused a server's call which is under way, as far as it is known by now.
    pub fn parent(&self, tuple: Tuple) -> Option<SpanIds> {
        self.open.get(&tuple)?.server.as_ref()?.parent
    }

    /// Calls that have started and not finished, both ends counted as one.
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(n: u8) -> SpanIds {
        SpanIds { trace: [n; 16], span: [n; 8], parent: None }
    }

    fn tuple() -> Tuple {
        let (client, server) = (End::Ip("127.0.0.1:5".parse().unwrap()), End::Ip("127.0.0.1:80".parse().unwrap()));
        assert_eq!(Tuple::new(Side::Client, client, server, 3), Tuple::new(Side::Server, server, client, 3));
        Tuple::new(Side::Client, client, server, 0)
    }

    #[test]
    fn links_whichever_end_starts_first() {
        let mut links = Links::default();
        links.start(Side::Client, tuple(), 9, ids(1), Mono(10));
        links.start(Side::Server, tuple(), 9, ids(2), Mono(11));
        assert_eq!(links.finish(Side::Server, tuple(), [2; 8]).parent, Some(ids(1)));
        assert_eq!(links.finish(Side::Client, tuple(), [1; 8]).read_at, Some(Mono(11)));

        links.start(Side::Server, tuple(), 9, ids(3), Mono(20));
        links.start(Side::Client, tuple(), 9, ids(4), Mono(21));
        assert_eq!(links.finish(Side::Server, tuple(), [3; 8]).parent, Some(ids(4)));
        assert_eq!(links.finish(Side::Client, tuple(), [4; 8]).read_at, Some(Mono(20)));
        assert!(links.is_empty());
    }

    #[test]
    fn streams_of_one_connection_are_linked_each_by_itself() {
        let mut links = Links::default();
        let on = |stream| Tuple { stream, ..tuple() };
        links.start(Side::Client, on(1), 9, ids(1), Mono(1));
        links.start(Side::Client, on(3), 9, ids(2), Mono(2));
        links.start(Side::Server, on(3), 9, ids(4), Mono(3));
        links.start(Side::Server, on(1), 9, ids(3), Mono(4));
        assert_eq!(links.finish(Side::Server, on(3), [4; 8]).parent, Some(ids(2)));
        assert_eq!(links.finish(Side::Server, on(1), [3; 8]).parent, Some(ids(1)));
    }

    #[test]
    fn a_next_client_call_does_not_take_over_an_older_server_call() {
        let mut links = Links::default();
        links.start(Side::Client, tuple(), 9, ids(1), Mono(1));
        links.start(Side::Server, tuple(), 9, ids(2), Mono(2));
        links.finish(Side::Client, tuple(), [1; 8]);
        links.start(Side::Client, tuple(), 9, ids(3), Mono(3));
        assert_eq!(links.finish(Side::Server, tuple(), [2; 8]).parent, Some(ids(1)));
        assert_eq!(links.finish(Side::Client, tuple(), [3; 8]).read_at, None);
    }

    #[test]
    fn a_server_call_alone_has_no_parent() {
        let mut links = Links::default();
        links.start(Side::Server, tuple(), 9, ids(2), Mono(1));
        assert_eq!(links.finish(Side::Server, tuple(), [2; 8]), Other::default());
    }

    #[test]
    fn one_client_call_is_not_the_parent_of_two_server_calls() {
        let mut links = Links::default();
        links.start(Side::Client, tuple(), 9, ids(1), Mono(1));
        links.start(Side::Server, tuple(), 9, ids(2), Mono(2));
        links.finish(Side::Server, tuple(), [2; 8]);
        // The end of the client's call was lost; the next server call comes before its client's start is seen.
        links.start(Side::Server, tuple(), 9, ids(3), Mono(3));
        links.start(Side::Client, tuple(), 9, ids(4), Mono(4));
        assert_eq!(links.finish(Side::Client, tuple(), [1; 8]), Other::default(), "replaced");
        assert_eq!(links.finish(Side::Server, tuple(), [3; 8]).parent, Some(ids(4)));
    }
}
