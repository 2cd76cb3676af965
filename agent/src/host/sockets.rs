//! Who listens, and which two processes speak to each other over a socket of this host.
//!
//! Owns the tables of TCP sockets and what follows from which process holds which socket. Leaves UNIX sockets to
//! `unix_peers`, and which processes are asked about to `snapshot`.
//!
//! Seen are connected TCP sockets whose other end is held by another of the processes: over loopback within one network
//! namespace, over other addresses between namespaces too, and connected UNIX sockets, named or not. Not seen are
//! connections that have ended, ends whose addresses are translated in between (a container's published port), UNIX
//! sockets between two namespaces, and sockets beyond the caps below.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    fs::{self, File},
    io::{self, BufRead as _, BufReader, Read as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::unix::fs::MetadataExt as _,
};

use super::{LocalLink, unix_peers};

/// Open files of one process that are looked at: a proxy has one for each connection.
const MAX_FILES: usize = 16_384;

/// Bytes of one table that are read: some 100,000 sockets.
const MAX_TABLE: u64 = 16 << 20;

/// Network namespaces that are looked into.
const MAX_NAMESPACES: usize = 64;

/// Links of one process that are told. Whoever has more is a hub, of which more links tell nothing more.
pub(super) const MAX_LINKS: usize = 64;

/// Processes that may hold one socket: who has inherited it. More than these are no sign of who speaks.
const MAX_HOLDERS: usize = 8;

/// State of a TCP socket in the table (net/tcp_states.h).
const TCP_ESTABLISHED: u8 = 1;
const TCP_LISTEN: u8 = 10;

/// A line of a TCP table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct TcpSocket {
    local: SocketAddr,
    remote: SocketAddr,
    state: u8,
    inode: u64,
}

/// An end of a connection: the namespace if its addresses mean nothing outside of it, and both addresses.
type End = (Option<u64>, SocketAddr, SocketAddr);

/// What the sockets of some processes say.
#[derive(Debug, Default)]
pub(super) struct Sockets {
    /// Ports that a process listens on, in order.
    pub listens: HashMap<u32, Vec<u16>>,
    /// Who speaks to whom, in order.
    pub links: Vec<LocalLink>,
}

/// Reads the sockets of processes. Who cannot be read has none.
pub(super) fn read(pids: &[u32]) -> Sockets {
    let mut holders: HashMap<u64, Vec<u32>> = HashMap::new();
    let mut namespaces: HashMap<u64, u32> = HashMap::new();
    for &pid in pids {
        for inode in held(pid) {
            holders.entry(inode).or_default().push(pid);
        }
        if let Ok(namespace) = fs::metadata(format!("/proc/{pid}/ns/net"))
            && (namespaces.len() < MAX_NAMESPACES || namespaces.contains_key(&namespace.ino()))
        {
            namespaces.entry(namespace.ino()).or_insert(pid);
        }
    }
    let own = fs::metadata("/proc/self/ns/net").map(|namespace| namespace.ino()).ok();
    let mut pairing = Pairing { holders, ..Pairing::default() };
    for (&namespace, &pid) in &namespaces {
        for table in ["tcp", "tcp6"] {
            // A table ends early where the process ends.
            let _ = table_of(pid, table, |socket| pairing.tcp(namespace, socket));
        }
        for (one, other) in unix_peers::pairs(pid, own == Some(namespace)) {
            pairing.pair(one, other);
        }
    }
    pairing.finish()
}

/// Inodes of the sockets that a process holds.
fn held(pid: u32) -> HashSet<u64> {
    let files = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().take(MAX_FILES).flatten();
    files
        .filter_map(|file| {
            let link = fs::read_link(file.path()).ok()?;
            link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
        })
        .collect()
}

fn table_of(pid: u32, table: &str, mut each: impl FnMut(TcpSocket)) -> io::Result<()> {
    let file = File::open(format!("/proc/{pid}/net/{table}"))?.take(MAX_TABLE);
    for line in BufReader::new(file).lines().skip(1) {
        line.map(|line| tcp_socket(&line).into_iter().for_each(&mut each))?;
    }
    Ok(())
}

/// `sl local remote state tx:rx tr:when retransmits uid timeout inode …`
fn tcp_socket(line: &str) -> Option<TcpSocket> {
    let mut parts = line.split_ascii_whitespace().skip(1);
    let (local, remote) = (address(parts.next()?)?, address(parts.next()?)?);
    let state = u8::from_str_radix(parts.next()?, 16).ok()?;
    let inode = parts.nth(5)?.parse().ok()?;
    Some(TcpSocket { local, remote, state, inode })
}

/// An address is printed as the numbers that its 32-bit words are on this machine. One of version 4 in a socket of
/// version 6 is what its other end says it is.
fn address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let word = |at: usize| Some(u32::from_str_radix(address.get(at..at + 8)?, 16).ok()?.to_ne_bytes());
    let address: IpAddr = match address.len() {
        8 => Ipv4Addr::from(word(0)?).into(),
        32 => {
            let words = [word(0)?, word(8)?, word(16)?, word(24)?];
            Ipv6Addr::from(<[u8; 16]>::try_from(words.concat()).ok()?).to_canonical()
        }
        _ => return None,
    };
    Some(SocketAddr::new(address, u16::from_str_radix(port, 16).ok()?))
}

/// Ends that look for each other.
#[derive(Debug, Default)]
struct Pairing {
    /// Who holds a socket.
    holders: HashMap<u64, Vec<u32>>,
    /// Connections whose other end has not come yet; none where two say to be the same end.
    open: HashMap<End, Option<u64>>,
    listens: HashMap<u32, BTreeSet<u16>>,
    links: BTreeSet<(u32, u32)>,
}

impl Pairing {
    fn tcp(&mut self, namespace: u64, socket: TcpSocket) {
        let TcpSocket { local, remote, state, inode } = socket;
        let Some(holders) = self.holders.get(&inode) else { return };
        match state {
            TCP_LISTEN => {
                for &pid in holders {
                    self.listens.entry(pid).or_default().insert(local.port());
                }
            }
            TCP_ESTABLISHED => {
                let within = local.ip().is_loopback().then_some(namespace);
                // In two namespaces the same private addresses may be in use: which is meant is not told.
                self.open.entry((within, local, remote)).and_modify(|other| *other = None).or_insert(Some(inode));
            }
            _ => {}
        }
    }

    fn pair(&mut self, one: u64, other: u64) {
        let (Some(ones), Some(others)) = (self.holders.get(&one), self.holders.get(&other)) else { return };
        if ones.len() > MAX_HOLDERS || others.len() > MAX_HOLDERS {
            return;
        }
        for (&a, &b) in ones.iter().flat_map(|a| others.iter().map(move |b| (a, b))) {
            if a != b {
                self.links.insert((a.min(b), a.max(b)));
            }
        }
    }

    fn finish(mut self) -> Sockets {
        let open = std::mem::take(&mut self.open);
        for (&(within, local, remote), &inode) in &open {
            let other = open.get(&(within, remote, local)).copied().flatten();
            if let (Some(inode), Some(other)) = (inode, other) {
                self.pair(inode, other);
            }
        }
        let mut count: HashMap<u32, usize> = HashMap::new();
        let mut links = Vec::new();
        for (one, other) in self.links {
            let full = |pid| count.get(&pid).is_some_and(|&n| n >= MAX_LINKS);
            if !full(one) && !full(other) {
                *count.entry(one).or_default() += 1;
                *count.entry(other).or_default() += 1;
                links.push(LocalLink { one, other });
            }
        }
        let listens = self.listens.into_iter().map(|(pid, ports)| (pid, ports.into_iter().collect())).collect();
        Sockets { listens, links }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn lines_of_both_tables() {
        let v4 = "   1: 0100007F:1F90 0100007F:D431 01 00000000:00000000 00:00000000 00000000     0        0 4711 1 0 20 4 30 10 -1";
        let socket = tcp_socket(v4).unwrap();
        assert_eq!(
            (socket.local, socket.remote),
            ("127.0.0.1:8080".parse().unwrap(), "127.0.0.1:54321".parse().unwrap())
        );
        assert_eq!((socket.state, socket.inode), (TCP_ESTABLISHED, 4711));
        // The same connection's other end in a socket of version 6.
        let v6 =
            "   2: 0000000000000000FFFF00000100007F:D431 0000000000000000FFFF00000100007F:1F90 01 0:0 0:0 0 0 0 4712 1";
        let other = tcp_socket(v6).unwrap();
        assert_eq!((other.local, other.remote), (socket.remote, socket.local));
        let listening =
            "   0: 00000000000000000000000001000000:1F90 00000000000000000000000000000000:0000 0A 0:0 0:0 0 0 0 9 1";
        assert_eq!(tcp_socket(listening).unwrap().local, "[::1]:8080".parse().unwrap());
        for wrong in
            ["", "x", "1: 0100007F 0100007F:D431 01 0 0 0 0 0 1", "1: é100007F:1 0100007F:1 01 0 0 0 0 0 1", &v4[..60]]
        {
            assert_eq!(tcp_socket(wrong), None, "{wrong}");
        }
    }

    fn pairing(holders: &[(u64, &[u32])]) -> Pairing {
        let holders = holders.iter().map(|(inode, pids)| (*inode, pids.to_vec())).collect();
        Pairing { holders, ..Pairing::default() }
    }

    fn end(local: &str, remote: &str, inode: u64) -> TcpSocket {
        TcpSocket { local: local.parse().unwrap(), remote: remote.parse().unwrap(), state: TCP_ESTABLISHED, inode }
    }

    fn links(sockets: &Sockets) -> Vec<(u32, u32)> {
        sockets.links.iter().map(|link| (link.one, link.other)).collect()
    }

    #[test]
    fn two_ends_are_one_connection() {
        let mut pairs = pairing(&[(1, &[20]), (2, &[10, 11]), (3, &[30])]);
        pairs.tcp(7, end("127.0.0.1:80", "127.0.0.1:5000", 1));
        pairs.tcp(7, end("127.0.0.1:5000", "127.0.0.1:80", 2));
        pairs.tcp(7, TcpSocket { state: TCP_LISTEN, ..end("0.0.0.0:80", "0.0.0.0:0", 1) });
        // To a program that was not asked about, and of one.
        pairs.tcp(7, end("127.0.0.1:6000", "127.0.0.1:81", 3));
        pairs.tcp(7, end("127.0.0.1:81", "127.0.0.1:6000", 99));
        let sockets = pairs.finish();
        assert_eq!((links(&sockets), &sockets.listens[&20]), (vec![(10, 20), (11, 20)], &vec![80]));
    }

    #[test]
    fn loopback_is_of_one_namespace_and_an_address_that_two_have_of_nobody() {
        let mut pairs = pairing(&[(1, &[10]), (2, &[20])]);
        pairs.tcp(7, end("127.0.0.1:80", "127.0.0.1:5000", 1));
        pairs.tcp(8, end("127.0.0.1:5000", "127.0.0.1:80", 2));
        assert_eq!(links(&pairs.finish()), []);
        let mut pairs = pairing(&[(1, &[10]), (2, &[20])]);
        pairs.tcp(7, end("10.0.0.1:80", "10.0.0.2:5000", 1));
        pairs.tcp(8, end("10.0.0.2:5000", "10.0.0.1:80", 2));
        assert_eq!(links(&pairs.finish()), [(10, 20)]);
        let mut pairs = pairing(&[(1, &[10]), (2, &[20]), (3, &[30])]);
        pairs.tcp(7, end("10.0.0.1:80", "10.0.0.2:5000", 1));
        pairs.tcp(8, end("10.0.0.2:5000", "10.0.0.1:80", 2));
        pairs.tcp(9, end("10.0.0.2:5000", "10.0.0.1:80", 3));
        assert_eq!(links(&pairs.finish()), []);
    }

    #[test]
    fn there_are_never_more_than_the_caps() {
        let many: Vec<(u64, [u32; 1])> = (1..=100).map(|n| (n, [n as u32])).collect();
        let holders: Vec<(u64, &[u32])> = many.iter().map(|(inode, pids)| (*inode, pids.as_slice())).collect();
        let mut pairs = pairing(&holders);
        (2..=100).for_each(|n| pairs.pair(1, n));
        assert_eq!(pairs.finish().links.len(), MAX_LINKS);
        let everybody: Vec<u32> = (1..=9).collect();
        let mut pairs = pairing(&[(1, &everybody), (2, &[10])]);
        pairs.pair(1, 2);
        assert_eq!(links(&pairs.finish()), []);
    }
}
