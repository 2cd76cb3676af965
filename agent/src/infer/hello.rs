//! What the two hellos of a TLS handshake say in the clear: the server's name, and how records are encrypted.
//!
//! Reads what may be cut off or made up: whatever is not there or does not fit is absent. RFC 8446 4.1, RFC 6066 3,
//! RFC 7301 3.1.

/// Longest name (RFC 1035 2.3.4).
const MAX_NAME: usize = 253;

const CLIENT_HELLO: u8 = 1;
const SERVER_HELLO: u8 = 2;

const SERVER_NAME: u16 = 0;
const ALPN: u16 = 16;
const SUPPORTED_VERSIONS: u16 = 43;

const TLS_1_3: u16 = 0x0304;

/// A hello.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hello {
    /// The client's.
    Client(ClientHello),
    /// The server's.
    Server(Suite),
}

/// What a client says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientHello {
    /// The host that it wants; absent for an address, and meaningless to others with an encrypted hello.
    pub server_name: Option<String>,
    /// Whether it offers HTTP/2.
    pub offers_http2: bool,
}

/// How a connection's records are encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Suite {
    /// Bytes by which a fragment is longer than its plaintext; absent where that is no constant (CBC).
    pub overhead: Option<u16>,
    /// Length of the hash, for TLS 1.3 alone: there the handshake is encrypted too, and its last message is as long as
    /// the hash.
    pub hash: Option<u16>,
}

/// Reads a handshake message; `None` if it is no hello.
pub fn parse(message: &[u8]) -> Option<Hello> {
    let mut r = Reader(message);
    let kind = r.u8()?;
    // Its length, which the fragment may cut, and the legacy version.
    r.take(3 + 2)?;
    r.take(32)?;
    let session = r.u8()?;
    r.take(session.into())?;
    match kind {
        CLIENT_HELLO => {
            let suites = r.u16()?;
            r.take(suites.into())?;
            let methods = r.u8()?;
            r.take(methods.into())?;
            Some(Hello::Client(client(&mut r)))
        }
        SERVER_HELLO => {
            let suite = r.u16()?;
            r.u8()?;
            let mut version = None;
            extensions(&mut r, |kind, body| {
                if kind == SUPPORTED_VERSIONS {
                    version = Reader(body).u16();
                }
            });
            Some(Hello::Server(suite_of(suite, version == Some(TLS_1_3))))
        }
        _ => None,
    }
}

fn client(r: &mut Reader<'_>) -> ClientHello {
    let mut hello = ClientHello::default();
    extensions(r, |kind, body| match kind {
        SERVER_NAME => hello.server_name = host_name(body),
        ALPN => {
            let mut r = Reader(body);
            r.u16();
            while let Some(name) = r.u8().and_then(|len| r.take(len.into())) {
                hello.offers_http2 |= name == b"h2";
            }
        }
        _ => {}
    });
    hello
}

/// The first name of a list, if it is one that a host can have: it ends up in file names, tables and terminals.
fn host_name(body: &[u8]) -> Option<String> {
    let mut r = Reader(body);
    r.u16()?;
    let (kind, len) = (r.u8()?, r.u16()?);
    let name = r.take(len.into())?;
    let fits = |&byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    if kind != 0 || name.is_empty() || name.len() > MAX_NAME || !name.iter().all(fits) {
        return None;
    }
    Some(String::from_utf8_lossy(name).to_ascii_lowercase())
}

/// Hands out the extensions that are there whole.
fn extensions(r: &mut Reader<'_>, mut take: impl FnMut(u16, &[u8])) {
    r.u16();
    while let (Some(kind), Some(len)) = (r.u16(), r.u16()) {
        let Some(body) = r.take(len.into()) else { return };
        take(kind, body);
    }
}

/// RFC 8446 B.4 and 5.2; RFC 5288 3, RFC 6655 3 and RFC 7905 2 for TLS 1.2.
fn suite_of(id: u16, is_1_3: bool) -> Suite {
    // Tag, and in TLS 1.3 the content type behind the plaintext.
    let tag = if matches!(id, 0x1305 | 0xc0a0..=0xc0a3 | 0xc0ae | 0xc0af) { 8 } else { 16 };
    if is_1_3 {
        return Suite { overhead: Some(tag + 1), hash: Some(if id == 0x1302 { 48 } else { 32 }) };
    }
    let overhead = match id {
        // ChaCha20-Poly1305 has no explicit nonce.
        0xcca8..=0xccae => Some(tag),
        // AES-GCM of RSA, DHE and ECDHE; AES-CCM. Eight bytes of explicit nonce.
        0x009c..=0x009f | 0xc02b..=0xc032 | 0xc09c..=0xc0af => Some(tag + 8),
        _ => None,
    };
    Suite { overhead, hash: None }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(n)?;
        self.0 = rest;
        Some(taken)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn u16(&mut self) -> Option<u16> {
        self.take(2).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
    }
}

#[cfg(test)]
pub mod tests {
    use proptest::prelude::*;

    use super::*;

    fn vector(prefix: usize, body: &[u8]) -> Vec<u8> {
        let len = (body.len() as u32).to_be_bytes();
        [&len[4 - prefix..], body].concat()
    }

    fn extension(kind: u16, body: &[u8]) -> Vec<u8> {
        [&kind.to_be_bytes()[..], &vector(2, body)].concat()
    }

    fn message(kind: u8, fixed: &[u8], extensions: &[Vec<u8>]) -> Vec<u8> {
        let body = [&[3, 3][..], &[7; 32], &vector(1, &[9; 32]), fixed, &vector(2, &extensions.concat())].concat();
        [&[kind][..], &vector(3, &body)].concat()
    }

    /// A client's hello with `padding` bytes of key share before the name.
    pub fn client_hello(name: &str, padding: usize, alpn: &[&str]) -> Vec<u8> {
        let name = [&[0][..], &vector(2, name.as_bytes())].concat();
        let alpn: Vec<u8> = alpn.iter().flat_map(|name| vector(1, name.as_bytes())).collect();
        let extensions = [
            extension(51, &vec![5; padding]),
            extension(SERVER_NAME, &vector(2, &name)),
            extension(ALPN, &vector(2, &alpn)),
        ];
        message(CLIENT_HELLO, &[&vector(2, &[0x13, 0x01])[..], &vector(1, &[0])].concat(), &extensions)
    }

    /// A server's hello.
    pub fn server_hello(suite: u16, is_1_3: bool) -> Vec<u8> {
        let versions = if is_1_3 { vec![extension(SUPPORTED_VERSIONS, &TLS_1_3.to_be_bytes())] } else { vec![] };
        message(SERVER_HELLO, &[&suite.to_be_bytes()[..], &[0]].concat(), &versions)
    }

    #[test]
    fn a_name_behind_a_post_quantum_key_share_is_found() {
        let hello = client_hello("API.openai.com", 1_300, &["h2", "http/1.1"]);
        let expected = ClientHello { server_name: Some("api.openai.com".into()), offers_http2: true };
        assert_eq!(parse(&hello), Some(Hello::Client(expected)));
        let cut = &hello[..1_000];
        assert_eq!(parse(cut), Some(Hello::Client(ClientHello::default())), "what is cut off is absent");
    }

    #[test]
    fn names_that_no_host_has_are_absent() {
        for name in ["", "a\u{1b}[31m", "a b", "a/b", &"x".repeat(300)] {
            let Some(Hello::Client(hello)) = parse(&client_hello(name, 0, &[])) else { panic!("no hello") };
            assert_eq!(hello.server_name, None, "{name:?}");
        }
    }

    #[test]
    fn suites_say_what_a_record_adds() {
        for (id, is_1_3, overhead, hash) in [
            (0x1301, true, Some(17), Some(32)),
            (0x1302, true, Some(17), Some(48)),
            (0x1303, true, Some(17), Some(32)),
            (0x1305, true, Some(9), Some(32)),
            (0xc02f, false, Some(24), None),
            (0xcca8, false, Some(16), None),
            (0xc0ac, false, Some(24), None),
            (0xc0ae, false, Some(16), None),
            (0xc013, false, None, None),
        ] {
            let expected = Suite { overhead, hash };
            assert_eq!(parse(&server_hello(id, is_1_3)), Some(Hello::Server(expected)), "{id:04x}");
        }
    }

    proptest! {
        #[test]
        fn noise_and_cuts_never_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..300), at in 0usize..1_600) {
            let _ = parse(&bytes);
            let hello = client_hello("api.openai.com", 1_300, &["h2"]);
            let _ = parse(&hello[..at.min(hello.len())]);
            if let Some(first) = bytes.first_mut() {
                *first = 1 + *first % 2;
            }
            let _ = parse(&bytes);
        }
    }
}
