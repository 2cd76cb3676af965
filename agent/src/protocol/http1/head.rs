//! From the bytes of a head to what may be known of it, and to how the body is framed.
//!
//! `httparse` knows the grammar; header lines that it cannot read are passed over, as the programs themselves do. Which
//! of the others are let out is `protocol::head`'s business.

use httparse::{EMPTY_HEADER, Error, Header, ParserConfig, Status};

use super::{
    body::{Body, Chunk},
    reason,
};
use crate::protocol::head::{self, Headers, MAX_VALUE, RequestHead, ResponseHead, cut, first, items, lower, text};

/// Most header lines of one head. Browsers behind proxies reach 60.
const MAX_HEADERS: usize = 128;

/// What the response's framing must know of the request's method (RFC 9112 section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    Head,
    Connect,
    Other,
}

/// What follows a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Follows {
    Body(Body),
    /// Another response to the same request.
    Response,
    Tunnel,
}

/// Reads a request's head.
pub(super) fn request(bytes: &[u8]) -> Result<(RequestHead, Follows), &'static str> {
    let mut lines = [EMPTY_HEADER; MAX_HEADERS];
    let mut parsed = httparse::Request::new(&mut lines);
    check(config().parse_request(&mut parsed, bytes), bytes)?;
    let method = cut(parsed.method.unwrap_or_default(), MAX_VALUE);
    let (path, authority) = target(&method, parsed.path.unwrap_or_default());
    let model = head::model(parsed.path.unwrap_or_default());
    let fields = Fields::gather(parsed.headers);
    // RFC 9112 section 6.3: a request with neither header has no body.
    let body = match (fields.transfer, fields.length) {
        (Transfer::Chunked, _) => Body::Chunked(Chunk::START),
        (Transfer::Other, _) => return Err(reason::TRANSFER_ENCODING),
        (Transfer::None, length) => Body::Length(length?.unwrap_or(0)),
    };
    let head = RequestHead {
        method,
        path,
        host: authority.or(fields.host),
        keep_alive: fields.connection.persists(parsed.version),
        expect_continue: fields.expect_continue,
        upgrade: fields.upgrade,
        model,
        headers: fields.headers,
    };
    Ok((head, Follows::Body(body)))
}

/// Reads the head of a response to a request with `method`.
pub(super) fn response(bytes: &[u8], method: Method) -> Result<(ResponseHead, Follows), &'static str> {
    let mut lines = [EMPTY_HEADER; MAX_HEADERS];
    let mut parsed = httparse::Response::new(&mut lines);
    check(config().parse_response(&mut parsed, bytes), bytes)?;
    let fields = Fields::gather(parsed.headers);
    let status = parsed.code.unwrap_or_default();
    let keep_alive = fields.connection.persists(parsed.version);
    let Fields { headers, upgrade, extensions, transfer, length, .. } = fields;
    let head = ResponseHead { status, headers, keep_alive, after_loss: false, upgrade, extensions };
    // The order is that of RFC 9112 section 6.3.
    let follows = match (status, method) {
        (101, _) | (200..300, Method::Connect) => Follows::Tunnel,
        _ if head.is_interim() => Follows::Response,
        (204 | 304, _) | (_, Method::Head) => Follows::Body(Body::Length(0)),
        _ => Follows::Body(match (transfer, length) {
            (Transfer::Chunked, _) => Body::Chunked(Chunk::START),
            (Transfer::Other, _) => Body::UntilClose,
            (Transfer::None, length) => length?.map_or(Body::UntilClose, Body::Length),
        }),
    };
    Ok((head, follows))
}

fn config() -> ParserConfig {
    let mut config = ParserConfig::default();
    config
        .ignore_invalid_headers_in_requests(true)
        .ignore_invalid_headers_in_responses(true)
        .allow_obsolete_multiline_headers_in_responses(true);
    config
}

fn check(parsed: httparse::Result<usize>, bytes: &[u8]) -> Result<(), &'static str> {
    match parsed {
        Ok(Status::Complete(len)) if len == bytes.len() => Ok(()),
        Ok(_) => Err(reason::BAD_HEAD),
        Err(Error::TooManyHeaders) => Err(reason::TOO_MANY_HEADERS),
        Err(Error::Version) => Err(reason::BAD_VERSION),
        Err(_) => Err(reason::BAD_HEAD),
    }
}

/// Splits a request target (RFC 9112 section 3.2) into the path and the authority that it names.
fn target(method: &str, target: &str) -> (String, Option<String>) {
    if method == "CONNECT" {
        return (String::new(), head::host(target));
    }
    match target.split_once("://") {
        Some((scheme, rest)) if scheme.bytes().all(|byte| byte.is_ascii_alphanumeric()) => {
            let (authority, after) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
            (if after.starts_with('/') { head::path(after) } else { "/".into() }, head::host(authority))
        }
        _ => (head::path(target), None),
    }
}

/// The headers that matter, as far as they have been gone through.
struct Fields {
    headers: Headers,
    host: Option<String>,
    connection: Connection,
    expect_continue: bool,
    upgrade: Option<String>,
    extensions: Option<String>,
    transfer: Transfer,
    length: Result<Option<u64>, &'static str>,
}

#[derive(Clone, Copy)]
enum Connection {
    Unsaid,
    Close,
    KeepAlive,
}

impl Connection {
    /// RFC 9112 section 9.3. `minor` is the minor version, absent for HTTP/1.1 only in broken heads.
    fn persists(self, minor: Option<u8>) -> bool {
        match self {
            Self::Close => false,
            Self::KeepAlive => true,
            Self::Unsaid => minor == Some(1),
        }
    }
}

/// The last transfer encoding, which is the one that frames.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Transfer {
    None,
    Chunked,
    Other,
}

impl Fields {
    fn gather(lines: &[Header<'_>]) -> Self {
        let mut fields = Self {
            headers: Headers::default(),
            host: None,
            connection: Connection::Unsaid,
            expect_continue: false,
            upgrade: None,
            extensions: None,
            transfer: Transfer::None,
            length: Ok(None),
        };
        for line in lines {
            fields.take(line);
        }
        fields.headers.chunked = fields.transfer == Transfer::Chunked;
        fields.headers.content_length = match fields.transfer {
            Transfer::None => fields.length.unwrap_or(None),
            // The transfer encoding overrides the length (RFC 9112 section 6.3).
            Transfer::Chunked | Transfer::Other => None,
        };
        fields
    }

    /// What frames the message, then the allow-list. Everything else stays in the head's bytes.
    fn take(&mut self, line: &Header<'_>) {
        let is = |name: &str| line.name.eq_ignore_ascii_case(name);
        // By length first: most header lines are none of these.
        match line.name.len() {
            4 if is("host") => first(&mut self.host, head::host(&text(line.value))),
            6 if is("expect") => self.expect_continue |= line.value.eq_ignore_ascii_case(b"100-continue"),
            7 if is("upgrade") => first(&mut self.upgrade, head::value(line.value).map(lower)),
            10 if is("connection") => self.connection(line.value),
            14 if is("content-length") => self.length(line.value),
            17 if is("transfer-encoding") => self.transfer(line.value),
            24 if is("sec-websocket-extensions") => self.extensions(line.value),
            _ => self.headers.take(line.name, line.value),
        }
    }

    fn connection(&mut self, value: &[u8]) {
        for option in items(value) {
            match option {
                _ if option.eq_ignore_ascii_case(b"close") => self.connection = Connection::Close,
                _ if !option.eq_ignore_ascii_case(b"keep-alive") => {}
                // `close` wins over `keep-alive`.
                _ if matches!(self.connection, Connection::Unsaid) => self.connection = Connection::KeepAlive,
                _ => {}
            }
        }
    }

    /// Repeated equal values are one value (RFC 9110 section 8.6); anything else leaves the body without an end.
    fn length(&mut self, value: &[u8]) {
        // Not `items`: an empty value is as wrong as a word.
        for item in value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii) {
            let digits = item.iter().all(u8::is_ascii_digit);
            let number = str::from_utf8(item).ok().filter(|_| digits).and_then(|item| item.parse().ok());
            self.length = match (self.length, number) {
                (Ok(None), Some(number)) => Ok(Some(number)),
                (Ok(Some(before)), Some(number)) if before == number => Ok(Some(number)),
                _ => Err(reason::CONTENT_LENGTH),
            };
        }
    }

    fn extensions(&mut self, value: &[u8]) {
        let list = match self.extensions.take() {
            Some(before) => before + ", " + &text(value),
            None => text(value),
        };
        self.extensions = Some(cut(&list, MAX_VALUE));
    }

    fn transfer(&mut self, value: &[u8]) {
        for item in items(value).filter(|item| !item.eq_ignore_ascii_case(b"identity")) {
            self.transfer = if item.eq_ignore_ascii_case(b"chunked") { Transfer::Chunked } else { Transfer::Other };
        }
    }
}
